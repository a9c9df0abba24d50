//! What can be wrong with the bytes of a file.

use alloc::string::String;

use thiserror::Error;

use crate::index::ChunkId;
use crate::json::JsonError;

/// The bytes of a file are not what its layout demands, or this version does not know them.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum FormatError {
    /// The file does not begin with `CVCF`.
    #[error(
        "not a cvc file: it must begin with the bytes 43 56 43 46 (\"CVCF\"), this one begins with {found}"
    )]
    NotCvc {
        /// The first bytes, in hexadecimal, or `nothing`.
        found: String,
    },
    /// The native signature, whose layout this version does not read.
    #[error("this is a native cvc file, which this version cannot read: use a newer version of cvc")]
    Native,
    /// A version that no known writer makes.
    #[error(
        "unknown layout version {major}.{minor} at byte 4: this version reads v0, 1.0 and 2.0; use a newer version \
         of cvc if a newer one wrote the file"
    )]
    UnknownVersion {
        /// The u16 at byte 4.
        major: u16,
        /// The u16 at byte 6.
        minor: u16,
    },
    /// Neither byte 8 nor byte 12 begins a header.
    #[error(
        "no header: a JSON object must begin at byte 8 (layout v0) or at byte 12 (v1, v2); the first bytes of the \
         file are damaged"
    )]
    NoHeader,
    /// Two layouts explain the same bytes.
    #[error("ambiguous header: the bytes are a valid v0 file and a valid versioned file at once; refused")]
    Ambiguous,
    /// The file ends before something it announces.
    #[error(
        "the file ends at byte {file_len}, inside {what}, which needs bytes {start}..{end}: it was cut short"
    )]
    Truncated {
        /// What was cut.
        what: String,
        /// First byte of it.
        start: u64,
        /// End (exclusive) that it claims.
        end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// The header is not JSON.
    #[error("the header at byte {offset} is not valid JSON: {error}")]
    Json {
        /// Where the header starts in the file.
        offset: u64,
        /// What is wrong, with its offset from there.
        error: JsonError,
    },
    /// A field of the header is missing or makes no sense.
    #[error("the header's {path} {problem}")]
    Header {
        /// Where in the header: `chunks[3].rows`.
        path: String,
        /// What is wrong with it, as a clause: `is missing`, `is "x", expected a whole number`.
        problem: String,
    },
    /// A frame of the file contradicts the header.
    #[error("{chunk} at byte {offset}: {problem}")]
    Frame {
        /// Which chunk.
        chunk: ChunkId,
        /// Where its frame starts in the file.
        offset: u64,
        /// What is wrong, as a sentence.
        problem: String,
    },
    /// The file asks for more than the caller allows.
    #[error(
        "the file's {what} is {value}, above the limit of {limit}: raise `Limits::{field}` if you trust the file"
    )]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large the file says it is.
        value: u64,
        /// The limit.
        limit: u64,
        /// The field of [`crate::Limits`] to raise.
        field: &'static str,
    },
    /// What was to be written cannot be said in this layout.
    #[error("layout {layout} cannot hold this: {problem}")]
    CannotWrite {
        /// The layout's name.
        layout: &'static str,
        /// What it cannot hold, and what to do.
        problem: String,
    },
}
