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
//! 2. Where each row has parameters, all rows of a run are one call: asking the pipeline for every row cost 12 of the 50 ns
//!    that a row of 384 takes. Where each dim has them, a loop of its own loads them beside the codes: nine bytes in for
//!    four out.
//! 3. Streaming goes line by line through the same loop, which the compiler keeps in registers. Of the parameters of dims it
//!    makes scalar code, 6 GB/s, so those lines are written with intrinsics. They gain less, and nothing where rows are
//!    short: loads of the same parameters again and again seem to wait for stores on their way that end in the same 12 bits.
//! 4. NEON is part of every aarch64 target, so there the portable loops are NEON code already.
//!
//! | level | L2 | memory | streaming | L2, rows of 384, 768 | memory | streaming | L2, dims of rows of 768 | memory | streaming |
//! |---|---|---|---|---|---|---|---|---|---|
//! | portable (SSE2) | 42.5 | 22.4 | | 41.3, 41.5 | 23.9, 24.6 | | 42.6 | 24.9 | |
//! | avx2 | 107.2 | 27.0 | 36.4 | 98.6, 102.2 | 26.9, 26.6 | 33.8, 37.7 | 51.2 | 26.1 | 30.2 |
//! | avx512 | 150.9 | 25.2 | 38.3 | 133.5, 145.3 | 25.6, 25.6 | 35.0, 38.0 | 71.1 | 24.6 | 30.4 |
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::ops::PayloadError;
use cvc_codec::ops::affine_u8::{affine, row_parameter};

use super::stores::Storing;
#[cfg(target_arch = "x86_64")]
use super::stores::by_lines;
#[cfg(target_arch = "x86_64")]
use super::x86::{load_128, load_f32x8, store_f32x8, store_line};
use crate::level::Level;

/// Decodes codes that share a scale and a minimum: all of a chunk, or those of one row.
///
/// # Panics
/// `src` is not one byte for each value of `dst`.
pub fn affine_u8<'d, S: Storing<'d>>(
    level: Level,
    stores: S,
    src: &[u8],
    scale: f32,
    min: f32,
    dst: &'d mut [f32],
) {
    match level {
        Level::Portable => portable(src, scale, min, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { avx2(stores, src, scale, min, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { avx512(stores, src, scale, min, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Level::Neon(_) => portable(src, scale, min, dst),
    }
}

/// Decodes rows that each have a scale and a minimum of their own, four little-endian bytes one after another.
///
/// `src` has rows of `stride` codes, of which the first `dim` are wanted; the first of them is row `first_row` of its chunk.
///
/// # Errors
/// A parameter is not finite; of several the first.
///
/// # Panics
/// The slices are not of as many rows, or rows have no values.
pub fn affine_u8_rows<'d, S: Storing<'d>>(
    level: Level,
    stores: S,
    first_row: u32,
    (src, stride): (&[u8], usize),
    (scales, mins): (&[u8], &[u8]),
    (dst, dim): (&'d mut [f32], usize),
) -> Result<(), PayloadError> {
    let rows = dst.len() / dim;
    assert!(src.len() == rows * stride && scales.len() == rows * 4 && mins.len() == rows * 4);
    let parameters = scales.as_chunks::<4>().0.iter().zip(mins.as_chunks::<4>().0);
    let codes = src.chunks_exact(stride).map(|codes| &codes[..dim]);
    let rows = codes.zip(dst.chunks_exact_mut(dim)).zip(parameters);
    for (row, ((codes, values), (scale, min))) in (first_row..).zip(rows) {
        let min = row_parameter(min, row, "minimum")?;
        let scale = row_parameter(scale, row, "scale")?;
        affine_u8(level, stores, codes, scale, min, values);
    }
    Ok(())
}

/// Decodes the codes of one row, each dim with a scale and a minimum of its own.
///
/// # Panics
/// The slices differ in length.
pub fn affine_u8_dims<'d, S: Storing<'d>>(
    level: Level,
    stores: S,
    src: &[u8],
    scale: &[f32],
    min: &[f32],
    dst: &'d mut [f32],
) {
    match level {
        Level::Portable => portable_dims(src, scale, min, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { avx2_dims(stores, src, scale, min, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { avx512_dims(stores, src, scale, min, dst) },
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
fn avx2<'d, S: Storing<'d>>(stores: S, src: &[u8], scale: f32, min: f32, dst: &'d mut [f32]) {
    by_lines(
        stores,
        dst,
        |values, dst| portable(&src[values], scale, min, dst),
        |values, line| {
            let mut decoded = [0.0; 16];
            portable(&src[values], scale, min, &mut decoded);
            store_line(stores, line, &decoded);
        },
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512<'d, S: Storing<'d>>(stores: S, src: &[u8], scale: f32, min: f32, dst: &'d mut [f32]) {
    by_lines(
        stores,
        dst,
        |values, dst| portable(&src[values], scale, min, dst),
        |values, line| {
            let mut decoded = [0.0; 16];
            portable(&src[values], scale, min, &mut decoded);
            store_line(stores, line, &decoded);
        },
    );
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
fn avx2_dims<'d, S: Storing<'d>>(stores: S, src: &[u8], scale: &[f32], min: &[f32], dst: &'d mut [f32]) {
    by_lines(
        stores,
        dst,
        |dims, dst| portable_dims(&src[dims.clone()], &scale[dims.clone()], &min[dims], dst),
        |dims, line| line_of_dims(stores, &src[dims.clone()], &scale[dims.clone()], &min[dims], line),
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512_dims<'d, S: Storing<'d>>(stores: S, src: &[u8], scale: &[f32], min: &[f32], dst: &'d mut [f32]) {
    by_lines(
        stores,
        dst,
        |dims, dst| portable_dims(&src[dims.clone()], &scale[dims.clone()], &min[dims], dst),
        |dims, line| line_of_dims(stores, &src[dims.clone()], &scale[dims.clone()], &min[dims], line),
    );
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn line_of_dims<'d, S: Storing<'d>>(
    stores: S,
    src: &[u8],
    scale: &[f32],
    min: &[f32],
    line: &'d mut [f32; 16],
) {
    use core::arch::x86_64::*;

    let codes = load_128(src.first_chunk().expect("a line"));
    let codes = [codes, _mm_srli_si128::<8>(codes)];
    let parameters = scale.as_chunks().0.iter().zip(min.as_chunks().0);
    let halves = line.as_chunks_mut().0.iter_mut().zip(codes).zip(parameters);
    for ((values, codes), (scale, min)) in halves {
        let codes = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes));
        let scaled = _mm256_mul_ps(codes, load_f32x8(scale));
        store_f32x8(stores, values, _mm256_add_ps(scaled, load_f32x8(min)));
    }
}
