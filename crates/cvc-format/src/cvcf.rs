//! The layouts of the Python package `decompressed`: v0, v1.0, v1.0 with `mmap_optimized`, v2.0 columnar.
//!
//! All four are a magic, a JSON header and frames of payload bytes; see `docs/FORMAT.md`, which is normative.
//! [`crate::Opening`] reads any of them, [`Contents`] writes v0, v1.0 and v2.0 byte for byte as upstream does.

mod header;
mod open;
mod write;

use crate::index::Layout;

pub(crate) use open::{Next, Walk};
pub use write::{ArraySpec, ChunkSpec, Contents};

/// The first four bytes of every file.
pub const MAGIC: [u8; 4] = *b"CVCF";

/// The name that the single array of v0 and v1 goes by.
pub const VECTORS: &str = "vectors";

/// Where the JSON header begins.
const fn header_offset(layout: Layout) -> u64 {
    if matches!(layout, Layout::V0) { 8 } else { 12 }
}

/// Bytes in front of each payload: its length, and its crc32 where the layout has checksums.
const fn frame_header_len(layout: Layout) -> u64 {
    if layout.has_checksums() { 8 } else { 4 }
}

/// The codecs a layout knows: what the header calls them, and their one name.
const fn codecs(layout: Layout) -> &'static [(&'static str, &'static str)] {
    match layout {
        Layout::V0 => &[("fp16", "cvcf.fp16"), ("int8", "cvcf0.int8")],
        Layout::V1 | Layout::V1Mmap => {
            &[("fp16", "cvcf.fp16"), ("int8", "cvcf.int8"), ("lossless", "cvcf.lossless")]
        }
        Layout::V2 => &[("fp16", "cvcf.fp16"), ("int8", "cvcf.int8"), ("none", "raw")],
        // It calls every codec by its one name.
        Layout::Native => &[],
    }
}

/// The one name of the codec that a header of this layout calls `name`.
///
/// Users say these short names too, so this maps `--codec int8` to the flavour of the layout.
pub fn codec_of(layout: Layout, name: &str) -> Option<&'static str> {
    codecs(layout).iter().find(|(stored, _)| *stored == name).map(|(_, codec)| *codec)
}

/// What a header of this layout calls the codec `codec`.
pub fn stored_name(layout: Layout, codec: &str) -> Option<&'static str> {
    codecs(layout).iter().find(|(_, name)| *name == codec).map(|(stored, _)| *stored)
}

/// The names of the codecs a header of this layout can name, for messages.
pub fn stored_names(layout: Layout) -> impl Iterator<Item = &'static str> {
    codecs(layout).iter().map(|(stored, _)| *stored)
}

/// What a columnar header calls the dtypes it can name.
const DTYPES: [(&str, crate::DType); 6] = [
    ("float32", crate::DType::F32),
    ("float16", crate::DType::F16),
    ("int32", crate::DType::I32),
    ("int64", crate::DType::I64),
    ("int8", crate::DType::I8),
    ("uint8", crate::DType::U8),
];
