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

use core::ops::Range;

use cvc_codec::ops::PayloadError;
use cvc_codec::ops::affine_u8::{affine, row_parameter};

#[cfg(target_arch = "x86_64")]
use super::stores::Stores;
use super::stores::{Ordinary, Storing};
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
/// `src` has rows of `stride` codes, of which those at `dims` are wanted; the first row is row `first_row` of its chunk.
///
/// # Errors
/// A parameter is not finite; of several the first.
///
/// # Panics
/// The slices are not of as many rows, or no dims are wanted.
pub fn affine_u8_rows<'d, S: Storing<'d>>(
    level: Level,
    stores: S,
    first_row: u32,
    (src, stride): (&[u8], usize),
    dims: Range<usize>,
    (scales, mins): (&[u8], &[u8]),
    dst: &'d mut [f32],
) -> Result<(), PayloadError> {
    let dim = dims.len();
    let rows = dst.len() / dim;
    assert!(src.len() == rows * stride && scales.len() == rows * 4 && mins.len() == rows * 4);
    let parameters = row_parameters(first_row, scales, mins);
    #[cfg(target_arch = "x86_64")]
    if S::STORES == Stores::Streaming && dim == stride && dim >= x86::LINE && level != Level::Portable {
        let parameters = parameters.collect::<Result<Vec<(f32, f32)>, PayloadError>>()?;
        match level {
            // SAFETY: the token proves AVX2.
            Level::Avx2(_) => unsafe { stream_rows(stores, src, &parameters, dim, dst) },
            // SAFETY: the token proves AVX-512 F, BW and VL, and with them AVX2.
            Level::Avx512(_) => unsafe { stream_rows(stores, src, &parameters, dim, dst) },
            Level::Portable => unreachable!("asked above"),
        }
        return Ok(());
    }
    let codes = src.chunks_exact(stride).map(|codes| &codes[dims.clone()]);
    for ((codes, values), parameters) in codes.zip(dst.chunks_exact_mut(dim)).zip(parameters) {
        let (scale, min) = parameters?;
        affine_u8(level, Ordinary, codes, scale, min, values);
    }
    Ok(())
}

/// The scales and the minima of rows, which are stored as four little-endian bytes one after another; the first row is row
/// `first_row` of its chunk. Each is an error if it is not finite.
pub fn row_parameters(
    first_row: u32,
    scales: &[u8],
    mins: &[u8],
) -> impl Iterator<Item = Result<(f32, f32), PayloadError>> {
    let (scales, mins) = (scales.as_chunks::<4>().0, mins.as_chunks::<4>().0);
    (first_row..).zip(scales.iter().zip(mins)).map(|(row, (scale, min))| {
        let min = row_parameter(min, row, "minimum")?;
        Ok((row_parameter(scale, row, "scale")?, min))
    })
}

/// Decodes rows of codes, each dim with a scale and a minimum of its own.
///
/// `src` has rows of `stride` codes, of which those at `dims` are wanted; there are `stride` scales and minima, too.
///
/// # Panics
/// The slices are not of as many rows or dims, or no dims are wanted.
pub fn affine_u8_dims<'d, S: Storing<'d>>(
    level: Level,
    stores: S,
    (src, stride): (&[u8], usize),
    dims: Range<usize>,
    (scale, min): (&[f32], &[f32]),
    dst: &'d mut [f32],
) {
    let dim = dims.len();
    let (scale, min) = (&scale[dims.clone()], &min[dims.clone()]);
    assert_eq!(src.len(), dst.len() / dim * stride);
    #[cfg(target_arch = "x86_64")]
    if S::STORES == Stores::Streaming && dim == stride {
        match level {
            // SAFETY: the token proves AVX2.
            Level::Avx2(_) => return unsafe { stream_dims(stores, src, scale, min, dst) },
            // SAFETY: the token proves AVX-512 F, BW and VL, and with them AVX2.
            Level::Avx512(_) => return unsafe { stream_dims(stores, src, scale, min, dst) },
            Level::Portable => {}
        }
    }
    for (codes, values) in src.chunks_exact(stride).zip(dst.chunks_exact_mut(dim)) {
        let codes = &codes[dims.clone()];
        match level {
            Level::Portable => portable_dims(codes, scale, min, values),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            Level::Avx2(_) => unsafe { avx2_dims(codes, scale, min, values) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
            Level::Avx512(_) => unsafe { avx512_dims(codes, scale, min, values) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(_) => portable_dims(codes, scale, min, values),
        }
    }
}

#[inline(always)]
fn portable(src: &[u8], scale: f32, min: f32, dst: &mut [f32]) {
    assert_eq!(src.len(), dst.len());
    for (code, value) in src.iter().zip(dst) {
        *value = affine(*code, scale, min);
    }
}

#[inline(always)]
fn portable_dims(src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
    assert!(src.len() == dst.len() && scale.len() == dst.len() && min.len() == dst.len());
    for (((code, value), scale), min) in src.iter().zip(dst).zip(scale).zip(min) {
        *value = affine(*code, *scale, *min);
    }
}

#[cfg(target_arch = "x86_64")]
use x86::{avx2, avx2_dims, avx512, avx512_dims, stream_dims, stream_rows};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use cvc_codec::ops::affine_u8::affine;

    use super::super::stores::{Storing, by_lines, head_len};
    use super::super::x86::{load_128, load_f32x8, store_f32x8};
    use super::{portable, portable_dims};

    /// Values in a line.
    pub(super) const LINE: usize = 16;

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<'d, S: Storing<'d>>(stores: S, src: &[u8], scale: f32, min: f32, dst: &'d mut [f32]) {
        by_lines(
            stores,
            dst,
            |values, dst| portable(&src[values], scale, min, dst),
            |values, line| line_of_row(stores, &src[values], scale, min, line),
        );
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        scale: f32,
        min: f32,
        dst: &'d mut [f32],
    ) {
        by_lines(
            stores,
            dst,
            |values, dst| portable(&src[values], scale, min, dst),
            |values, line| line_of_row(stores, &src[values], scale, min, line),
        );
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2_dims(src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
        portable_dims(src, scale, min, dst);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512_dims(src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
        portable_dims(src, scale, min, dst);
    }

    /// Streams whole rows of a line or more, each with its scale and minimum, as if they were one long row; a line that holds
    /// the end of a row and the beginning of the next gets the parameters of both.
    #[target_feature(enable = "avx2")]
    pub(super) fn stream_rows<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        parameters: &[(f32, f32)],
        dim: usize,
        dst: &'d mut [f32],
    ) {
        assert!(dim >= LINE);
        // The row of the line at hand, and where it ends.
        let mut row = head_len(stores, dst) / dim;
        let mut end = (row + 1) * dim;
        by_lines(
            stores,
            dst,
            |values, dst| {
                for (index, value) in values.zip(dst) {
                    let (scale, min) = parameters[index / dim];
                    *value = affine(src[index], scale, min);
                }
            },
            |values, line| {
                let (scale, min) = parameters[row];
                if values.end <= end {
                    line_of_row(stores, &src[values.clone()], scale, min, line);
                } else {
                    let here = end - values.start;
                    let next = parameters[row + 1];
                    line_of_two_rows(stores, &src[values.clone()], (scale, min), here, next, line);
                    (row, end) = (row + 1, end + dim);
                }
                if values.end == end {
                    (row, end) = (row + 1, end + dim);
                }
            },
        );
    }

    /// Streams whole rows, each dim with its scale and minimum, as if they were one long row.
    #[target_feature(enable = "avx2")]
    pub(super) fn stream_dims<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        scale: &[f32],
        min: &[f32],
        dst: &'d mut [f32],
    ) {
        let dim = scale.len();
        // A line may begin at any dim, and go on with those of the next rows.
        let around = |parameters: &[f32]| -> Vec<f32> {
            parameters.iter().cycle().take(dim + LINE).copied().collect()
        };
        let (scale, min) = (around(scale), around(min));
        let mut at = head_len(stores, dst) % dim;
        by_lines(
            stores,
            dst,
            |values, dst| {
                for (index, value) in values.zip(dst) {
                    *value = affine(src[index], scale[index % dim], min[index % dim]);
                }
            },
            |values, line| {
                line_of_dims(stores, &src[values], &scale[at..at + LINE], &min[at..at + LINE], line);
                at += LINE;
                if at >= dim {
                    at %= dim;
                }
            },
        );
    }

    /// A line whose first `here` codes are of one row and the others of the next. All in registers: what is stored for a load
    /// to find would wait there for the streaming stores before it, which halved the rate.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn line_of_two_rows<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        (scale, min): (f32, f32),
        here: usize,
        (next_scale, next_min): (f32, f32),
        line: &'d mut [f32; LINE],
    ) {
        let here = _mm256_set1_epi32(i32::try_from(here).expect("less than a line"));
        let (scale, next_scale) = (_mm256_set1_ps(scale), _mm256_set1_ps(next_scale));
        let (min, next_min) = (_mm256_set1_ps(min), _mm256_set1_ps(next_min));
        let indexes =
            [_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)];
        let halves = line.as_chunks_mut().0.iter_mut().zip(codes(src)).zip(indexes);
        for ((values, codes), index) in halves {
            let is_here = _mm256_castsi256_ps(_mm256_cmpgt_epi32(here, index));
            let scale = _mm256_blendv_ps(next_scale, scale, is_here);
            let min = _mm256_blendv_ps(next_min, min, is_here);
            store_f32x8(stores, values, _mm256_add_ps(_mm256_mul_ps(codes, scale), min));
        }
    }

    /// A line of codes that share a scale and a minimum.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn line_of_row<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        scale: f32,
        min: f32,
        line: &'d mut [f32; LINE],
    ) {
        let (scale, min) = (_mm256_set1_ps(scale), _mm256_set1_ps(min));
        for (values, codes) in line.as_chunks_mut().0.iter_mut().zip(codes(src)) {
            store_f32x8(stores, values, _mm256_add_ps(_mm256_mul_ps(codes, scale), min));
        }
    }

    /// A line of codes that each have a scale and a minimum.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn line_of_dims<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        scale: &[f32],
        min: &[f32],
        line: &'d mut [f32; LINE],
    ) {
        let parameters = scale.as_chunks().0.iter().zip(min.as_chunks().0);
        let halves = line.as_chunks_mut().0.iter_mut().zip(codes(src)).zip(parameters);
        for ((values, codes), (scale, min)) in halves {
            let scaled = _mm256_mul_ps(codes, load_f32x8(scale));
            store_f32x8(stores, values, _mm256_add_ps(scaled, load_f32x8(min)));
        }
    }

    /// The codes of a line, widened.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn codes(src: &[u8]) -> [__m256; 2] {
        let codes = load_128(src.first_chunk().expect("a line"));
        let (low, high) = (_mm256_cvtepu8_epi32(codes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(codes)));
        [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
    }
}
