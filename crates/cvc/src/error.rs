//! What can go wrong, by who is at fault.

use std::io;
use std::path::PathBuf;

use cvc_codec::{BatchError, CodecError, DecodeError, PlanError, RowsError, SourceError, Unsupported};
use cvc_format::{ChunkId, FormatError};
use thiserror::Error;

#[cfg(feature = "input")]
use crate::input::InputError;

/// Each variant is one kind of culprit; the message ends with what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
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
    /// A file could not be written; the message names it. Nothing of its final name was touched.
    #[error("{0}")]
    Output(#[source] io::Error),
    /// Encoded chunks could not be put aside. Nothing of the final name was touched.
    #[error("the temporary file for encoded chunks, in the directory of the output, failed: {0}")]
    Spool(#[source] io::Error),
    /// Bytes could not be read, or are not those that were written.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The file is not what its layout demands, or a layout cannot hold what was to be written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// One chunk is wrong, or uses a codec unknown to this version.
    #[error("array {array:?}, {chunk} at byte {offset}: {error}")]
    Chunk {
        /// Its array.
        array: String,
        /// Which one.
        chunk: ChunkId,
        /// Where its payload begins in the file.
        offset: u64,
        /// What is wrong.
        #[source]
        error: CodecError,
    },
    /// The head of a native chunk is damaged, so none of its rows can be found.
    #[error("array {array:?}, {chunk}: {error}")]
    Head {
        /// Its array.
        array: String,
        /// Which one.
        chunk: ChunkId,
        /// What is wrong.
        #[source]
        error: FormatError,
    },
    /// A newer version made this array in a way that this one does not know; other arrays of the file can be read.
    #[error("array {array:?} needs {unknown}, which this version of cvc does not know: use a newer one")]
    Newer {
        /// The array.
        array: String,
        /// What it needs.
        unknown: String,
    },
    /// Decoding failed.
    #[error("array {array:?}, {error}")]
    Decode {
        /// Which array.
        array: String,
        /// Why, and in which chunk.
        #[source]
        error: DecodeError,
    },
    /// Rows cannot be encoded.
    #[error("array {array:?}: {error}")]
    Encode {
        /// Which array.
        array: String,
        /// Why.
        #[source]
        error: CodecError,
    },
    /// What was encoded does not decode. Nothing was written under the final name.
    #[error(
        "array {array:?}: a chunk could not be read back after encoding ({problem}): this is a bug of cvc, please report it"
    )]
    Unreadable {
        /// Which array.
        array: String,
        /// What went wrong.
        problem: String,
    },
    /// More memory than the caller allows.
    #[error(
        "{rows} rows of {dim} values need {bytes} bytes, above the limit of {limit}: read fewer rows at a time, or raise `Limits::decoded_bytes`"
    )]
    Limit {
        /// Rows asked for.
        rows: u64,
        /// Values per row.
        dim: u32,
        /// Bytes they decode to.
        bytes: u64,
        /// What the caller allows.
        limit: u64,
    },
    /// The caller asked for something that makes no sense.
    #[error("{argument} = {value}: {problem}")]
    Argument {
        /// Which argument.
        argument: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The device that was asked for cannot be had.
    #[error("device {device} is not available: {reason}")]
    Device {
        /// What was asked for.
        device: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The device cannot run what the file needs.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// An input file cannot be read.
    #[cfg(feature = "input")]
    #[error(transparent)]
    Input(#[from] InputError),
}

impl Error {
    /// Whether another call would have worked: an argument that makes no sense, a path that leads nowhere, an input
    /// of the wrong kind; rather than a file that is damaged, a device or the machine.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Argument { .. } | Error::Device { .. } | Error::Limit { .. } | Error::Encode { .. } => {
                true
            }
            // A dtype or a prefix that the values cannot be had in; a buffer that is not the size of the rows.
            Error::Chunk {
                error: CodecError::Plan(PlanError::Output { .. } | PlanError::Prefix { .. }),
                ..
            }
            | Error::Decode { error: DecodeError::Buffer { .. }, .. } => true,
            Error::Format(error) => matches!(error, FormatError::CannotWrite { .. }),
            Error::Io { cause, .. } | Error::Output(cause) => leads_nowhere(cause),
            #[cfg(feature = "input")]
            Error::Input(error) => match error {
                InputError::Source { source, .. } => leads_nowhere(source),
                InputError::UnknownKind { .. }
                | InputError::NotAnArchive { .. }
                | InputError::NoSuchMember { .. }
                | InputError::ChooseMember { .. }
                | InputError::Unsupported { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// What the device cannot do, if that is what is wrong: another one may.
    pub fn unsupported(&self) -> Option<&Unsupported> {
        match self {
            Error::Unsupported(what) | Error::Decode { error: DecodeError::Unsupported(what), .. } => {
                Some(what)
            }
            _ => None,
        }
    }

    pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |cause| Error::Io { path: path.to_owned(), action, cause }
    }

    pub(crate) fn argument(
        argument: &'static str,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Error {
        Error::Argument { argument, value: value.to_string(), problem: problem.into() }
    }
}

/// Whether the system refused because of the path that was given.
fn leads_nowhere(cause: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
    matches!(cause.kind(), NotFound | IsADirectory | NotADirectory | InvalidInput)
}

impl From<RowsError> for Error {
    fn from(error: RowsError) -> Self {
        Error::argument("rows", "the slice given", error.to_string())
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        Error::argument("rows", "the rows wanted", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_nowhere_is_a_wrong_call_and_a_full_disk_is_not() {
        let of = |kind: io::ErrorKind| Error::Output(io::Error::from(kind)).is_usage();
        assert!(of(io::ErrorKind::NotFound) && of(io::ErrorKind::IsADirectory));
        assert!(!of(io::ErrorKind::StorageFull) && !of(io::ErrorKind::PermissionDenied));
    }
}
