//! Printing, and what the exit status says.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be printed.
    Error(cvc::Error),
    /// Already printed: the file is damaged.
    Damaged,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Error(error) if error.is_usage() => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl<E: Into<cvc::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Error(error.into())
    }
}

/// A wrong argument.
pub(crate) fn wrong(argument: &'static str, value: impl fmt::Display, problem: impl Into<String>) -> Failure {
    Failure::Error(cvc::Error::Argument { argument, value: value.to_string(), problem: problem.into() })
}

/// A file that cannot be used.
pub(crate) fn io_failed(path: &std::path::Path, action: &'static str, cause: io::Error) -> Failure {
    Failure::Error(cvc::Error::Io { path: path.to_owned(), action, cause })
}

/// Prints lines. A reader that has gone away, as in `cvc info f | head -1`, has seen what it wanted.
pub(crate) fn to_stdout(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints a message.
pub(crate) fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `9.30 MB`: powers of ten, as disks are sold.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.2} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
