//! The codecs, one file each. `docs/codecs/` has a page for every one.

pub mod cvcf0_int8;
pub mod cvcf_fp16;
pub mod cvcf_int8;
pub mod cvcf_lossless;
pub mod raw;
