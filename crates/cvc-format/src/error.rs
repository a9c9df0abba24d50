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
    /// A version that no known writer makes.
    #[error(
        "unknown layout version {major}.{minor} at byte 4: this version reads v0, 1.0, 2.0 and native 1.x; use a \
         newer version of cvc if a newer one wrote the file"
    )]
    UnknownVersion {
        /// The u16 at byte 4.
        major: u16,
        /// The u16 at byte 6.
        minor: u16,
    },
    /// A native file of a major version that is not out yet.
    #[error(
        "unknown native version {major}.{minor} at byte 8: this version reads native 1.x; use a newer version of cvc"
    )]
    UnknownNativeVersion {
        /// The u16 at byte 8.
        major: u16,
        /// The u16 at byte 10.
        minor: u16,
    },
    /// A native file does not end as native files do.
    #[error(
        "the file ends at byte {file_len} without the end mark of a native file, 1a 0a 0d ff 46 43 56 43: it was cut \
         short, or something was put behind it; get it again from where it came"
    )]
    NoEnd {
        /// Length of the file.
        file_len: u64,
    },
    /// Bytes of a native file are not those that were written.
    #[error(
        "{what} (bytes {start}..{end}) is damaged: its checksum is {found:08x}, the file says {expected:08x}; get the \
         file again from where it came"
    )]
    Checksum {
        /// Which region: `the index`, `the head of chunk 3`.
        what: String,
        /// First byte of it.
        start: u64,
        /// Its end (exclusive).
        end: u64,
        /// The checksum that the file has for it.
        expected: u32,
        /// The checksum of the bytes that are there.
        found: u32,
    },
    /// Bytes of a native file are as they were written, but contradict each other or the specification.
    #[error(
        "{what} at byte {offset} {problem}: its checksum holds, so the program that wrote the file is at fault; \
         write it again with another"
    )]
    Region {
        /// Which region: `the trailer`, `entry 3 of the index`, `the head of chunk 3`.
        what: String,
        /// Where it starts in the file.
        offset: u64,
        /// What is wrong with it, as a clause: `has 0 rows, at least 1 is needed`.
        problem: String,
    },
    /// The metadata of a native file is not JSON.
    #[error(
        "the metadata at byte {offset} is not valid JSON: {error}; its checksum holds, so the program that wrote the \
         file is at fault; write it again with another"
    )]
    MetadataJson {
        /// Where the metadata starts in the file.
        offset: u64,
        /// What is wrong, with its offset from there.
        error: JsonError,
    },
    /// A field of the metadata of a native file is missing or makes no sense.
    #[error(
        "the metadata's {path} {problem}: its checksum holds, so the program that wrote the file is at fault; write \
         it again with another"
    )]
    Metadata {
        /// Where in the metadata: `arrays[3].shape[0]`.
        path: String,
        /// What is wrong with it, as a clause: `is missing`, `is "x", expected a whole number`.
        problem: String,
    },
    /// Something of a native file can only be understood with a feature that this version does not have.
    #[error(
        "{what} needs the feature {feature:?}, which this version does not have: use a newer version of cvc"
    )]
    Requires {
        /// What needs it: `the file`, `array "ids"`.
        what: String,
        /// The name of the feature.
        feature: String,
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
