//! The ops, one file each, named as their references in [`cvc_codec::ops`].
//!
//! Each file opens with the loop it replaces and numbers its departures from it. The figures there are
//! gigabytes of f32 per second (read or written, whichever side has f32), best of seven, on one thread of
//! an AMD EPYC (Zen 5 class, AVX-512), 2 cores, November 2026, measured with
//! `cargo test -p cvc-cpu --release --test rates -- --ignored --nocapture rates_of_every_op`:
//! *L2* is 65,536 values over and over, *memory* is 25 million values (100 MB of f32) into pages that were
//! touched before, and *streaming* is the same past the caches ([`stores`]).
//!
//! What memory allows is what a copy of the same f32 reaches. With all cores, and with one, output of the whole pipeline
//! into 200,000 x 384 values that were touched before, as a multiple of the faster of `memcpy` and the streaming `copy` with
//! as many threads (it was the latter; `memcpy` reached 0.69 to 0.75 of it and 0.83 to 0.89); medians of 20 rounds in
//! which all took turns, the least and the most of three runs, on a machine that others used as well (the same command with `--features rayon` and
//! `rates_against_copying`):
//!
//! | op | 2 threads, ordinary | streaming | 1 thread, ordinary | streaming |
//! |---|---|---|---|---|
//! | copy | 0.71-0.82 | 0.92-0.93 | 0.79-0.86 | 0.93-1.04 |
//! | widen_f16 | 0.84-0.93 | 1.16-1.30 | 0.98-1.01 | 1.19-1.35 |
//! | widen_bf16 | 0.87-0.93 | 1.15-1.31 | 0.90-0.94 | 1.19-1.36 |
//! | affine_u8 chunk | 1.02-1.04 | 1.29-1.44 | 0.99-1.20 | 1.34-1.51 |
//! | affine_u8 row | 1.03-1.07 | 1.28-1.44 | 1.06-1.09 | 1.28-1.49 |
//! | affine_u8 dim | 1.04-1.06 | 1.25-1.41 | 1.00-1.05 | 0.92-1.08 |
//! | affine_u8 to f16 | 0.82-0.90 | 0.95-1.05 | 0.69-0.72 | 0.76-0.85 |
//! | join_planes | 0.52-0.56 | 0.65-0.67 | 0.36-0.42 | 0.40-0.45 |
//!
//! # Where `unsafe` is, and why it is sound
//!
//! 1. A dispatcher calls the code of a level. Sound, because it holds the level's token.
//! 2. The wrappers of loads, stores and single instructions in `x86` and `arm`. Sound, because they take
//!    references to arrays of just the size that the instruction touches.
//!
//! The loops in between are safe code.
#![cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "only x86 has streaming stores here")
)]

pub mod affine_u8;
pub mod affine_u8_halves;
pub mod copy;
pub mod crc32c;
pub mod dict_planes;
pub mod join_planes;
pub mod lut_u8;
pub mod narrow;
pub mod rotated;
pub mod stores;
pub mod widen_bf16;
pub mod widen_f16;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod arm;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;
