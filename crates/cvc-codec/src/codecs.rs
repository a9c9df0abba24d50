//! The codecs, one file each. `docs/codecs/` has a page for every one.

pub mod bf16;
pub mod bit1;
pub mod cvcf0_int8;
pub mod cvcf_fp16;
pub mod cvcf_int8;
pub mod cvcf_lossless;
pub mod fp16;
pub mod gzip;
pub mod int4;
pub mod int8;
pub mod lossless;
pub mod raw;
pub mod zstd;

mod blocks;
mod halves;
mod rotated;

pub(crate) use blocks::stream_block_rows;
