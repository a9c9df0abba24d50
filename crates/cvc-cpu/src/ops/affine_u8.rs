//! `affine_u8`: one byte per value, a scale and a minimum, two roundings.
//!
//! ```text
//! for (code, value) in src.iter().zip(dst) { *value = f32(code) * scale + min }
//! ```
//!
//! 1. AVX2 and AVX-512 compile the same safe loop with their instructions allowed; the compiler vectorises it.
//!    Intrinsics were tried and gained nothing (in one run of a scratch program, L2: 114 GB/s against 115 for
//!    AVX2, 156 against 153 for AVX-512). FMA is among the features of AVX-512, yet Rust never fuses the two
//!    operations by itself; the conformance suite has parameters where one rounding fewer shows.
//! 2. Where each row has parameters, it is called once for each row. Where each dim has them, a loop of its own loads
//!    them beside the codes: nine bytes in for four out.
//! 3. NEON is part of every aarch64 target, so there the portable loops are NEON code already.
//!
//! | level | L2 | memory | L2, rows of 384, 768 | L2, dims of rows of 768 | memory, the same |
//! |---|---|---|---|---|---|
//! | portable (SSE2) | 49.5 | 28.2 | 49.4, 49.9 | 33.8 | 27.6 |
//! | avx2 | 114.1 | 29.0 | 105.0, 111.0 | 55.0 | 26.5 |
//! | avx512 | 154.9 | 28.3 | 141.4, 154.9 | 75.2 | 28.6 |
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::ops::affine_u8::affine;

use crate::level::Level;

/// Decodes codes that share a scale and a minimum: all of a chunk, or those of one row.
///
/// # Panics
/// `src` is not one byte for each value of `dst`.
pub fn affine_u8(level: Level, src: &[u8], scale: f32, min: f32, dst: &mut [f32]) {
    match level {
        Level::Portable => portable(src, scale, min, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { avx2(src, scale, min, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { avx512(src, scale, min, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Level::Neon(_) => portable(src, scale, min, dst),
    }
}

/// Decodes the codes of one row, each dim with a scale and a minimum of its own.
///
/// # Panics
/// The slices differ in length.
pub fn affine_u8_dims(level: Level, src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
    match level {
        Level::Portable => portable_dims(src, scale, min, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { avx2_dims(src, scale, min, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { avx512_dims(src, scale, min, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Level::Neon(_) => portable_dims(src, scale, min, dst),
    }
}

#[inline(always)]
fn portable(src: &[u8], scale: f32, min: f32, dst: &mut [f32]) {
    assert_eq!(src.len(), dst.len());
    for (code, value) in src.iter().zip(dst) {
        *value = affine(*code, scale, min);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(src: &[u8], scale: f32, min: f32, dst: &mut [f32]) {
    portable(src, scale, min, dst);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512(src: &[u8], scale: f32, min: f32, dst: &mut [f32]) {
    portable(src, scale, min, dst);
}

#[inline(always)]
fn portable_dims(src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
    assert!(src.len() == dst.len() && scale.len() == dst.len() && min.len() == dst.len());
    for (((code, value), scale), min) in src.iter().zip(dst).zip(scale).zip(min) {
        *value = affine(*code, *scale, *min);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2_dims(src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
    portable_dims(src, scale, min, dst);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512_dims(src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
    portable_dims(src, scale, min, dst);
}
