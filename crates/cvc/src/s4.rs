//! Interchange with S4: reads and writes the bodies and sidecars that the `s4-codec` package and its gateway keep
//! in object storage.
//!
//! An S4 *body* is a sequence of frames, each a codec id, two lengths, a checksum and a compressed payload. A
//! *sidecar* beside it lists where each frame is. There are no arrays in it, only bytes: whoever wants rows decodes
//! a body and hands the bytes to the reader of their format. `docs/S4.md` has every field.
//!
//! ```
//! use cvc::s4::{Body, ReadOptions, WriteCodec, WriteOptions, Writer};
//!
//! let mut writer = Writer::new(Vec::new(), WriteOptions { codec: WriteCodec::Gzip { level: 6 }, frame_len: 4096 })?;
//! let data: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
//! writer.write(&data)?;
//! let (bytes, written) = writer.finish()?;
//!
//! // Finds the frames by their headers; decodes the two that hold the range.
//! let body = Body::open(&bytes, ReadOptions::default())?;
//! assert_eq!(body.frames().len(), 10);
//! assert_eq!(body.read_range(4000..8000)?, data[4000..8000]);
//!
//! // The sidecar finds them without a look at the body, once it is known to be the body's own.
//! let sidecar = written.index.bind(bytes.len() as u64, Some("0123abcd"))?.to_bytes();
//! let index = cvc::s4::Index::parse(&sidecar)?;
//! let matched = index.matching(bytes.len() as u64, Some("0123abcd"))?;
//! let body = Body::open_indexed(&bytes, matched, ReadOptions::default())?;
//! assert_eq!(body.read_range(39_000..40_000)?, data[39_000..]);
//! # Ok::<(), cvc::s4::Error>(())
//! ```
//!
//! # What is trusted
//!
//! Nothing. Lengths are checked against the body before anything is read, and what a payload can decode to is
//! bounded from the payload itself before memory is taken for it. A frame's bytes are returned only after their
//! crc32c was found right. A sidecar has no checksum, so what it says of a frame is compared with the frame's own
//! header.

mod body;
mod decode;
mod encode;
mod error;
mod fcg1;
mod index;
mod wire;
mod writer;
mod zstd_frames;

pub use body::{Body, Frame, Source, Totals};
pub use decode::{CheckedPayload, Dictionary, ReadLimits, ReadOptions, decode_payload};
pub use encode::{EncodeDictionary, encode_payload, encode_payload_with};
pub use error::{Error, IndexError, PayloadError};
pub use index::{Encryption, Entry, Index, Matched};
pub use wire::{Codec, FrameHeader, MAX_FRAME_LEN, MAX_FRAMES};
pub use writer::{WriteCodec, WriteOptions, Writer, Written, frame_len_for};

/// The crc32c of `bytes` that follow others, from that of the others: 0 if there are none.
pub fn crc32c(bytes: &[u8], before: u32) -> u32 {
    let of_bytes = cvc_format::checksum::crc32c(bytes);
    if before == 0 { of_bytes } else { crc32c_combine(before, of_bytes, bytes.len()) }
}

/// The crc32c of two pieces one after another, from those of the pieces and the length of the second.
fn crc32c_combine(first: u32, second: u32, second_len: usize) -> u32 {
    let combined = crc_fast::checksum_combine(
        crc_fast::CrcAlgorithm::Crc32Iscsi,
        u64::from(first),
        u64::from(second),
        second_len as u64,
    );
    u32::try_from(combined).expect("a checksum of 32 bits")
}
