//! What can go wrong, by who is at fault.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Each variant is one kind of culprit; the message ends with what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// What the library says of a `.cvc` file, of a matrix, or of an argument.
    #[error(transparent)]
    Cvc(#[from] cvc::Error),
    /// What the library of stores says of a directory of NumPack.
    #[cfg(feature = "numpack")]
    #[error(transparent)]
    Store(#[from] cvc_store::Error),
    /// The operating system refused.
    #[error("{}: {action}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done to it.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The two files do not make a conversion.
    #[error("{}: {problem}", path.display())]
    Kind {
        /// The file whose kind is the problem.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The file is not what its extension says, or is damaged.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A column of the file cannot become an array, or not with what it holds.
    #[error("{}: column {column:?}: {problem}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// In which row, what is wrong, and what to do.
        problem: String,
    },
    /// A cell of a text file cannot be read.
    #[error("{}, line {line}, column {column:?}: {problem}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// The line of the file that the record begins on, counted from 1.
        line: u64,
        /// The column.
        column: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The format of the output cannot hold an array.
    #[error("{}: array {array:?}: {problem}", path.display())]
    Target {
        /// The output.
        path: PathBuf,
        /// The array.
        array: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// The caller stopped the work; nothing was written.
    #[error("stopped; nothing was written")]
    Stopped,
}

impl Error {
    /// Whether another call would have worked, rather than that a file is damaged or the machine failed.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Cvc(error) => error.is_usage(),
            #[cfg(feature = "numpack")]
            Error::Store(error) => error.is_usage(),
            Error::Io { cause, .. } => {
                use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
                matches!(cause.kind(), NotFound | IsADirectory | NotADirectory | InvalidInput)
            }
            Error::Kind { .. } | Error::Target { .. } => true,
            Error::Damaged { .. } | Error::Column { .. } | Error::Cell { .. } | Error::Stopped => false,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl Fn(io::Error) -> Error {
        move |cause| Error::Io { path: path.to_owned(), action, cause }
    }

    pub(crate) fn kind(path: &Path, problem: impl Into<String>) -> Error {
        Error::Kind { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn damaged(path: &Path, problem: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn column(path: &Path, column: &str, problem: impl Into<String>) -> Error {
        Error::Column { path: path.to_owned(), column: column.to_owned(), problem: problem.into() }
    }

    pub(crate) fn target(path: &Path, array: &str, problem: impl Into<String>) -> Error {
        Error::Target { path: path.to_owned(), array: array.to_owned(), problem: problem.into() }
    }

    pub(crate) fn argument(
        argument: &'static str,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Error {
        Error::Cvc(cvc::Error::Argument { argument, value: value.to_string(), problem: problem.into() })
    }

    /// The output cannot be written.
    pub(crate) fn output(cause: io::Error) -> Error {
        Error::Cvc(cvc::Error::Output(cause))
    }
}
