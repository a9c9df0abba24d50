//! The ops, one file each, named as their references in [`cvc_codec::ops`].
//!
//! Each file opens with the loop it replaces and numbers its departures from it. The figures there are
//! gigabytes of f32 per second (read or written, whichever side has f32), best of seven, on one thread of
//! an AMD EPYC (Zen 5 class, AVX-512), 2 cores, November 2026, measured with
//! `cargo test -p cvc-cpu --release --test rates -- --ignored --nocapture`:
//! *L2* is 65,536 values over and over, *memory* is 25 million values (100 MB of f32) into pages that were
//! touched before.
//!
//! # Where `unsafe` is, and why it is sound
//!
//! 1. A dispatcher calls the code of a level. Sound, because it holds the level's token.
//! 2. The wrappers of loads, stores and single instructions in `x86` and `arm`. Sound, because they take
//!    references to arrays of just the size that the instruction touches.
//!
//! The loops in between are safe code.

pub mod affine_u8;
pub mod copy;
pub mod dict_planes;
pub mod join_planes;
pub mod lut_u8;
pub mod narrow;
pub mod widen_bf16;
pub mod widen_f16;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;
