//! What can be wrong with an S4 body or its sidecar, by who is at fault.

use std::io;
use std::ops::Range;

use cvc_codec::SourceError;
use thiserror::Error;

use super::wire::Codec;

/// Each variant is one kind of culprit; offsets count from the first byte of the body.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What was written could not be given away.
    #[error("the body could not be written: {0}; start it again")]
    Output(#[source] io::Error),
    /// A codec failed to compress.
    #[error("frame {frame} could not be compressed: {cause}")]
    Encode {
        /// Which frame.
        frame: usize,
        /// What the codec said.
        #[source]
        cause: io::Error,
    },
    /// The body ends inside something.
    #[error(
        "the body ends at byte {body_len}, inside {what}, which needs bytes {start}..{end}: it was cut short"
    )]
    Truncated {
        /// What was cut.
        what: &'static str,
        /// First byte of it.
        start: u64,
        /// End (exclusive) that it claims.
        end: u64,
        /// Length of the body.
        body_len: u64,
    },
    /// Neither a frame nor padding begins where one must.
    #[error("no frame begins at byte {offset}: expected \"S4F2\" or \"S4P1\", found \"{}\"; {}", found.escape_ascii(), magic_hint(*offset, found))]
    Magic {
        /// Where.
        offset: u64,
        /// What is there.
        found: [u8; 4],
    },
    /// A codec that no S4 known to this version has.
    #[error(
        "frame {frame} at byte {offset} has the unknown codec {id}: this version knows 0 to 8, as S4 1.5 does; use a \
         newer version of cvc, or fetch the object through the S4 that wrote it"
    )]
    UnknownCodec {
        /// Which frame.
        frame: usize,
        /// Where it begins.
        offset: u64,
        /// The id.
        id: u32,
    },
    /// A codec that is known, but cannot be decoded here.
    #[error("frame {frame} at byte {offset} has the codec {} ({codec}), which is not decoded here: {}", codec.id(), reader_of(*codec))]
    Unsupported {
        /// Which frame.
        frame: usize,
        /// Where it begins.
        offset: u64,
        /// The codec.
        codec: Codec,
    },
    /// A frame needs a dictionary and none was given.
    #[error(
        "frame {frame} at byte {offset} needs the zstd dictionary that the object's metadata names in `s4-dict-id`: \
         give it as `ReadOptions::dictionary`"
    )]
    NoDictionary {
        /// Which frame.
        frame: usize,
        /// Where it begins.
        offset: u64,
    },
    /// A frame needs another dictionary.
    #[error(
        "frame {frame} at byte {offset} was made with zstd dictionary {wanted}, and the one given is {given} (0 is \
         none): give the one that the object's metadata names in `s4-dict-id`"
    )]
    Dictionary {
        /// Which frame.
        frame: usize,
        /// Where it begins.
        offset: u64,
        /// The id in the payload.
        wanted: u32,
        /// The id of the dictionary given; 0 if it has none, or the codec uses none.
        given: u32,
    },
    /// A frame claims more than S4 itself would decode.
    #[error(
        "frame {frame} at byte {offset} claims to decode to {decoded_len} bytes, above the 5 GiB that S4 allows: its \
         header is damaged"
    )]
    FrameLen {
        /// Which frame.
        frame: usize,
        /// Where it begins.
        offset: u64,
        /// What it claims.
        decoded_len: u64,
    },
    /// A payload is not what its codec and its header demand.
    #[error("frame {frame} at byte {offset}: {error}; restore the object from a copy")]
    Payload {
        /// Which frame.
        frame: usize,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        #[source]
        error: PayloadError,
    },
    /// The decoded bytes are not those that were encoded.
    #[error(
        "frame {frame} (bytes {}..{}) is damaged: its decoded bytes have crc32c {found:08x}, its header says \
         {expected:08x}; restore the object from a copy", bytes.start, bytes.end
    )]
    Checksum {
        /// Which frame.
        frame: usize,
        /// Its bytes in the body.
        bytes: Range<u64>,
        /// What its header says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Padding holds something. Only [`verify`](super::Body::verify) looks.
    #[error("the padding at byte {offset} is not zero: the byte was damaged, or hides something")]
    Padding {
        /// The first such byte.
        offset: u64,
    },
    /// More than the caller allows.
    #[error(
        "{what} is {value}, above the limit of {limit}: raise `ReadLimits::{field}` if you trust the object"
    )]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        value: u64,
        /// The limit.
        limit: u64,
        /// The field of [`ReadLimits`](super::ReadLimits) to raise.
        field: &'static str,
    },
    /// The machine has no such memory.
    #[error("{bytes} bytes of memory cannot be had: read a shorter range")]
    Memory {
        /// How many were needed.
        bytes: u64,
    },
    /// A sidecar makes no sense.
    #[error("the sidecar is no S4 index: {0}; read the body without it, and write it anew")]
    Index(#[from] IndexError),
    /// A sidecar does not say which object it describes.
    #[error(
        "the sidecar is not bound to an object, so it may describe an older one: read the body without it, or accept \
         it with `Index::unbound`"
    )]
    Unbound,
    /// A sidecar describes an encrypted object.
    #[error("the object is encrypted (S4E6, key {key_id}): fetch it through S4, which has the key")]
    Encrypted {
        /// The key's number.
        key_id: u16,
    },
    /// The object is not the one that a sidecar or its metadata describes.
    #[error(
        "the {what} is {found}, but the {described_by} says {expected}: they describe different objects, or one is damaged"
    )]
    Mismatch {
        /// What was compared.
        what: &'static str,
        /// Where the other value comes from.
        described_by: &'static str,
        /// The value there.
        expected: String,
        /// The object's.
        found: String,
    },
    /// A frame is not what was known of it when the body was opened.
    #[error(
        "frame {frame} at byte {offset} does not begin with the header that {known_from} promised: the sidecar is \
         stale or the body has changed; open the body without the sidecar"
    )]
    Header {
        /// Which frame.
        frame: usize,
        /// Where it begins.
        offset: u64,
        /// `the sidecar` or `the first look at it`.
        known_from: &'static str,
    },
    /// The caller asked for something that makes no sense.
    #[error("{argument} = {value}: {problem}")]
    Argument {
        /// Which argument.
        argument: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
}

/// Why a payload cannot be what its frame says. Offsets count from the first byte of the body.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// The header claims more than a payload of this kind and length can hold.
    #[error("its header claims {claimed} decoded bytes, but the payload can give {bound} at most")]
    Claim {
        /// What the header says.
        claimed: u64,
        /// What the payload can give.
        bound: u64,
    },
    /// Two places give the decoded length, and differ.
    #[error("its header claims {claimed} decoded bytes, but the payload, at byte {at}, says {says}")]
    Says {
        /// Where the other number is.
        at: u64,
        /// What the header says.
        claimed: u64,
        /// What the payload says.
        says: u64,
    },
    /// The payload decoded to less.
    #[error("the stream at byte {at} decodes to {found} bytes, not to {expected}")]
    Short {
        /// Where the stream begins.
        at: u64,
        /// What it should give.
        expected: u64,
        /// What it gives.
        found: u64,
    },
    /// The payload decodes to more; it was stopped.
    #[error("the stream at byte {at} decodes to more than the expected {expected} bytes")]
    Long {
        /// Where the stream begins.
        at: u64,
        /// What it should give.
        expected: u64,
    },
    /// The payload goes on after its end.
    #[error("{len} bytes follow the end of its stream at byte {at}")]
    Trailing {
        /// Where they begin.
        at: u64,
        /// How many they are.
        len: u64,
    },
    /// The payload breaks the rules of its container.
    #[error("at byte {at}, {problem}")]
    Structure {
        /// Where.
        at: u64,
        /// Which rule, as a clause.
        problem: &'static str,
    },
    /// The decompressor refused.
    #[error("the stream at byte {at} cannot be decompressed ({problem})")]
    Codec {
        /// Where the stream begins.
        at: u64,
        /// What the decompressor said.
        problem: String,
    },
}

/// Why bytes are no sidecar.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    /// It does not begin with `S4IX`.
    #[error("it must begin with \"S4IX\", and begins with \"{}\"", found.escape_ascii())]
    Magic {
        /// The first bytes, four at most.
        found: Vec<u8>,
    },
    /// A version that no known writer makes.
    #[error("its version at byte 4 is {version}, and this version of cvc reads 1 to 3")]
    Version {
        /// The number.
        version: u32,
    },
    /// It is shorter or longer than it says.
    #[error("it must have {expected} bytes, and has {found}")]
    Length {
        /// What its header asks for.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// More frames than S4 itself would read.
    #[error("it claims {frames} frames at byte 8, and S4 allows 2^24")]
    Frames {
        /// What it claims.
        frames: u64,
    },
    /// The etag is longer than S4 allows.
    #[error("its etag claims {len} bytes at byte 40, and S4 allows 4,096")]
    EtagLen {
        /// What it claims.
        len: u32,
    },
    /// The etag is no text.
    #[error("its etag at byte 44 is not UTF-8")]
    EtagText,
    /// An entry is impossible.
    #[error("entry {entry} at byte {offset} {problem}")]
    Entry {
        /// Which.
        entry: usize,
        /// Where it begins in the sidecar.
        offset: u64,
        /// What is wrong, as a clause.
        problem: &'static str,
    },
    /// A total of the header is not that of the entries.
    #[error("its {what} at byte {offset} is {says}, and its entries make it {found}")]
    Total {
        /// Which total.
        what: &'static str,
        /// Where it is in the sidecar.
        offset: u64,
        /// What the header says.
        says: u64,
        /// What the entries say; for the length of the body, the least it can be.
        found: u64,
    },
    /// The encryption block is impossible.
    #[error("its encryption block at byte {offset} {problem}")]
    Encryption {
        /// Where it begins in the sidecar.
        offset: u64,
        /// What is wrong, as a clause.
        problem: &'static str,
    },
}

/// What the caller can do about bytes that begin no frame.
fn magic_hint(offset: u64, found: &[u8; 4]) -> &'static str {
    match found {
        b"S4E1" | b"S4E2" | b"S4E3" | b"S4E4" | b"S4E5" | b"S4E6" => {
            "the object is encrypted: fetch it through S4, which has the key"
        }
        b"S4IX" => "this is a sidecar: read it with `Index::parse`",
        _ if offset == 0 => {
            "an object without `s4-framed` in its metadata has no frames: decode it with `decode_payload`"
        }
        _ => "the bytes before it are damaged, or something was appended",
    }
}

/// What decodes a codec that this crate does not.
fn reader_of(codec: Codec) -> &'static str {
    match codec {
        Codec::NvcompGans | Codec::DietgpuAns => {
            "no release of S4 writes it, so the header is likely damaged"
        }
        _ => "fetch the object through an S4 built with `nvcomp-gpu`, on a machine with an NVIDIA GPU",
    }
}
