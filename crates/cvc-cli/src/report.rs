//! Printing, and what the exit status says.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cvc::Error;
use cvc::codec::CodecError;

use crate::remote::{is_url, shown};

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the library says.
    Error(Error),
    /// What the library of stores says.
    Store(cvc_store::Error),
    /// What the library of searches says of queries, of a truth, or of what was asked for.
    Search(cvc_search::Error),
    /// What a place somewhere else says, or what is wrong with its URL.
    #[cfg(feature = "remote")]
    Remote(cvc_remote::RemoteError),
    /// What the library of conversions says.
    Convert(cvc_convert::Error),
    /// What is wrong with a file beside the one that is worked on.
    Elsewhere(PathBuf, Box<Error>),
    /// The caller stopped the work.
    Interrupted,
    /// Already printed: the file is damaged.
    Damaged,
    /// Rows are damaged that the caller wanted; some can be had.
    Lost(Error),
    /// The file to be repaired cannot even be opened.
    NothingToSave(Error),
}

impl Failure {
    /// The message. What is wrong with the bytes of `file`, the one that was being read, is said under its name.
    pub(crate) fn message(&self, file: Option<&Path>) -> String {
        use Error::{Argument, Chunk, Decode, Encode, Format, Head, Io, Newer, Source, Unsupported};
        match (self, file) {
            (Failure::Lost(error), Some(file)) => {
                format!("{}: {error}; or leave damaged rows out with --damaged skip", shown(file))
            }
            (Failure::NothingToSave(error), Some(file)) => {
                format!("{}: {error}; without its index nothing of it can be saved", shown(file))
            }
            // The library knows no options.
            (Failure::Error(Encode { array, error: CodecError::Value { codec, row, column, value } }), _) => {
                format!(
                    "array {array:?}: codec {codec} cannot represent {value} (row {row}, column {column}): clean the \
                 vectors, allow it to be changed with --nonfinite saturate, or choose --codec raw or lossless"
                )
            }
            // In the words of clap, which refuses most wrong values before we see them.
            (Failure::Error(Argument { argument, value, problem }), _) => {
                format!("invalid value '{value}' for '{}': {problem}", option(argument))
            }
            (Failure::Error(Io { path, action, cause }), _) => format!("{}: {action}: {cause}", shown(path)),
            (
                Failure::Error(
                    error @ (Format(_)
                    | Source(_)
                    | Chunk { .. }
                    | Head { .. }
                    | Newer { .. }
                    | Decode { .. }
                    | Unsupported(_)),
                ),
                Some(file),
            ) => format!("{}: {error}", shown(file)),
            (Failure::Error(error) | Failure::Lost(error) | Failure::NothingToSave(error), _) => {
                error.to_string()
            }
            (Failure::Elsewhere(other, error), _) => format!("{}: {error}", shown(other)),
            #[cfg(feature = "remote")]
            (Failure::Remote(error), _) => error.to_string(),
            (Failure::Store(error), _) => error.to_string(),
            (Failure::Search(error), _) => error.to_string(),
            (Failure::Convert(error), _) => error.to_string(),
            (Failure::Interrupted, _) => "interrupted; nothing was written".into(),
            (Failure::Damaged, _) => "the file is damaged".into(),
        }
    }

    /// What a search failed with. What is wrong with the file is said as ever.
    pub(crate) fn of_search(error: cvc_search::Error) -> Failure {
        match error {
            cvc_search::Error::Read(error) => Failure::Error(error),
            error => Failure::Search(error),
        }
    }

    /// What a conversion failed with. What the libraries below say is said as ever.
    pub(crate) fn of_convert(error: cvc_convert::Error) -> Failure {
        match error {
            cvc_convert::Error::Cvc(error) => Failure::Error(error),
            cvc_convert::Error::Store(error) => Failure::Store(error),
            cvc_convert::Error::Stopped => Failure::Interrupted,
            error => Failure::Convert(error),
        }
    }

    /// 2 if the call is wrong, 1 if the work failed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Error(error) if error.is_usage() => ExitCode::from(2),
            Failure::Store(error) if error.is_usage() => ExitCode::from(2),
            #[cfg(feature = "remote")]
            Failure::Remote(error) if error.is_usage() => ExitCode::from(2),
            Failure::Search(error) if error.is_usage() => ExitCode::from(2),
            Failure::Convert(error) if error.is_usage() => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Error(error.into())
    }
}

/// What the caller of the program knows an argument of the library by.
fn option(argument: &str) -> &str {
    match argument {
        "against" => "--against",
        "array" => "--array",
        "block rows" => "--block-rows",
        "by" => "--by",
        "chunk rows" => "--chunk-rows",
        "codec" => "--codec",
        "columns" => "--column",
        "device" => "--device",
        "dims" => "--dims",
        "layout" => "--layout",
        "metadata" => "--meta",
        "metric" => "--metric",
        "nonfinite" => "--nonfinite",
        "queries" => "QUERIES",
        "scope" => "--scope",
        "section" => "--sections",
        "sections from" => "--sections-from",
        "strings" => "--strings",
        "text dtype" => "--text-dtype",
        "vectors" => "--vectors",
        "where" => "--where",
        other => other,
    }
}

/// A wrong argument.
pub(crate) fn wrong(argument: &'static str, value: impl fmt::Display, problem: impl Into<String>) -> Failure {
    Failure::Error(Error::Argument { argument, value: value.to_string(), problem: problem.into() })
}

/// A file that cannot be used.
pub(crate) fn io_failed(path: &Path, action: &'static str, cause: io::Error) -> Failure {
    Failure::Error(Error::Io { path: path.to_owned(), action, cause })
}

/// Refuses an output that no work could be saved under, before there is any work.
pub(crate) fn check_output(output: &Path) -> Result<(), Failure> {
    let refuse = |problem: String| Err(wrong("--output", shown(output), problem));
    if is_url(output) {
        return refuse("this is written to paths only; write it here and copy it there".into());
    }
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    if output.is_dir() {
        return refuse("it is a directory; add a file name".into());
    }
    if output.exists() && !output.is_file() {
        return refuse("it is not a regular file, so it cannot be replaced in one step; name a file".into());
    }
    match parent {
        Some(parent) if !parent.is_dir() => {
            refuse(format!("there is no directory {}; create it first", parent.display()))
        }
        _ => Ok(()),
    }
}

/// Refuses a URL, where no more than a path can be read.
pub(crate) fn check_here(argument: &'static str, input: &Path) -> Result<(), Failure> {
    if is_url(input) {
        let problem = "of what is at a URL only .cvc files are read; copy it here";
        return Err(wrong(argument, shown(input), problem));
    }
    Ok(())
}

/// Refuses an output that would replace what is being read.
pub(crate) fn check_not_input(output: &Path, input: &Path) -> Result<(), Failure> {
    match (output.canonicalize(), input.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => {
            Err(wrong("--output", output.display(), "it is also an input; choose another name"))
        }
        _ => Ok(()),
    }
}

/// Prints lines. A reader that has gone away, as in `cvc info f | head -1`, has seen what it wanted.
pub(crate) fn to_stdout(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(cause) if cause.kind() != ErrorKind::BrokenPipe => {
            Err(io_failed(Path::new("standard output"), "cannot be written", cause))
        }
        _ => Ok(()),
    }
}

/// Prints a message.
pub(crate) fn to_stderr(text: &str) {
    // There is nowhere left to complain.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The ending of a word of which there are `count`.
pub(crate) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
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

/// `2.00 x smaller`, or larger: how `stored` bytes compare with the `whole` they stand for.
pub(crate) fn compared(stored: u64, whole: u64) -> String {
    match (stored, whole) {
        (0, _) | (_, 0) => "no smaller".into(),
        _ if stored <= whole => format!("{:.2} x smaller", whole as f64 / stored as f64),
        _ => format!("{:.2} x larger", stored as f64 / whole as f64),
    }
}

/// How many times smaller `stored` is than `whole`, to four places; `None` where there is nothing to compare.
pub(crate) fn ratio(stored: u64, whole: u64) -> Option<f64> {
    (stored > 0 && whole > 0).then(|| (whole as f64 / stored as f64 * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_compared_in_the_direction_that_reads_well() {
        assert_eq!(compared(50, 100), "2.00 x smaller");
        assert_eq!(compared(100, 50), "2.00 x larger");
        assert_eq!(compared(100, 100), "1.00 x smaller");
        assert_eq!(compared(76, 0), "no smaller");
    }
}
