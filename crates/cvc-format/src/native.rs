//! The native layout: named arrays, blocks, checksums on everything. `docs/FORMAT.md` is normative.
//!
//! ```text
//! prelude ─ chunk ─ chunk ─ ... ─ index ─ metadata ─ trailer
//!             └ head ─ fields ─ lanes
//! ```
//!
//! A file is written front to back in one pass: [`Contents::prelude`], chunks made by [`encode_chunk`], [`Contents::suffix`].
//! It is opened from its end by [`crate::Opening`]; [`parse_head`] then says where the blocks of a chunk lie.

mod escape;
mod head;
mod metadata;
mod open;
mod write;

pub use head::{
    ChunkOf, ChunkParts, Head, LaneBytes, OpenChunk, encode_chunk, encode_field_head, parse_head,
};
pub use write::{ArraySpec, ChunkSpec, Contents};

pub(crate) use open::{Native, Next};

/// Bytes 4..8 of a native file: not text, and damaged by whatever damages text.
pub const SIGNATURE: [u8; 4] = [0xff, 0x0d, 0x0a, 0x1a];

/// The last eight bytes of a native file: its first eight backwards.
pub const END_SIGNATURE: [u8; 8] = [0x1a, 0x0a, 0x0d, 0xff, b'F', b'C', b'V', b'C'];

/// The version this crate writes; it reads any minor version of this major one.
pub const VERSION: (u16, u16) = (1, 0);

/// Bytes of the prelude.
pub const PRELUDE_LEN: u64 = 64;

/// Bytes of one index entry.
pub const ENTRY_LEN: u64 = 48;

/// Bytes of the trailer.
pub const TRAILER_LEN: u64 = 40;

/// Chunks, heads and fields begin on multiples of this many bytes.
pub const ALIGN: u64 = 64;

/// Streams begin on multiples of this many bytes.
pub const STREAM_ALIGN: u64 = 16;

/// The most bytes that a block with streams may decode to.
pub const MAX_BLOCK_LEN: u64 = 16 << 20;

/// The most bytes of a row.
pub const MAX_ROW_LEN: u64 = (1 << 31) - 1;

/// The most rows of an array.
pub const MAX_ARRAY_ROWS: u64 = 1 << 48;

/// The most lengths that the shape of a row has.
pub const MAX_INNER_RANK: usize = 7;

/// The most bytes of the name of an array or a codec.
pub const MAX_NAME_LEN: usize = 255;

/// What a reader fetches of the end of a file of `file_len` bytes before it knows how long the index is: 64 KiB, or 16 KiB
/// of a file below 1 MiB, whose index is hardly longer, and of which one row may be all that is wanted.
pub const fn tail_len(file_len: u64) -> u64 {
    if file_len < 1 << 20 { 16 << 10 } else { 64 << 10 }
}
