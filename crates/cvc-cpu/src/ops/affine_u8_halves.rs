//! `affine_u8` and `narrow` in one: codes to binary16 or bfloat16 without f32 in between. On x86 only; elsewhere, and where rows
//! are short or cut, the two ops follow each other through a tile in the L1 cache.
//!
//! ```text
//! for (code, half) in src.iter().zip(dst) { *half = f16_from_f32(affine(*code, scale, min)) }
//! ```
//!
//! 1. Eight values stay in a register from the code to the half. Of 200,000 x 384 values two threads made 12 GB/s of f16 through a
//!    tile, and make 20 to 23 so, 0.90 to 0.96 of the fastest copy of f32, on an AMD EPYC of the Zen 3 class
//!    (`rates_against_copying`, as in [`super`]); one thread 7 to 8, and 10 to 11.
//! 2. Parameters are finite, so no value is a NaN: the instructions of F16C need no mending, and bfloat16 no case of its own.
//! 3. Rows that follow each other are one long row. A vector that holds the end of a row and the beginning of the next gets
//!    the parameters of both, by a mask.
//! 4. AVX-512 uses the same code: one byte in and two out leave it waiting for memory. That was not measured.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use super::stores::Storing;
use crate::level::Level;

/// Which halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// binary16.
    F16,
    /// bfloat16.
    Bf16,
}

/// The scale and the minimum of each value. All of them are finite.
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'p> {
    /// One pair for each row.
    Rows(&'p [(f32, f32)]),
    /// Scales and minima, one of each for each dim.
    Dims(&'p [f32], &'p [f32]),
}

/// Whether [`affine_u8_halves`] can be called for rows of `dim` values.
pub fn is_fused(level: Level, dim: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        level != Level::Portable && dim >= x86::GROUP
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (level, dim);
        false
    }
}

/// Decodes rows of `dim` codes. `dst` are the bits of the halves.
///
/// # Panics
/// [`is_fused`] says no, the slices are not of as many rows, or parameters are missing.
pub fn affine_u8_halves<'d, S: Storing<'d>>(
    level: Level,
    stores: S,
    (src, dim): (&[u8], usize),
    parameters: Parameters<'_>,
    halves: Halves,
    dst: &'d mut [u16],
) {
    assert!(is_fused(level, dim), "asked before");
    assert!(src.len() == dst.len() && dst.len().is_multiple_of(dim));
    match parameters {
        Parameters::Rows(rows) => assert_eq!(rows.len(), dst.len() / dim),
        Parameters::Dims(scale, min) => assert!(scale.len() == dim && min.len() == dim),
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tokens prove AVX2 and F16C.
        Level::Avx2(_) | Level::Avx512(_) => unsafe { x86::all(stores, src, dim, parameters, halves, dst) },
        _ => unreachable!("it is not fused there"),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use cvc_codec::ops::affine_u8::affine;

    use super::super::narrow::{bf16_bits, f16_bits};
    use super::super::stores::{Storing, head_len};
    use super::super::x86::{load_64, load_f32x8, store_u16x16};
    use super::{Halves, Parameters};

    /// Values in a vector.
    pub(super) const GROUP: usize = 8;
    /// Halves in a line.
    const LINE: usize = 32;

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn all<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        dim: usize,
        parameters: Parameters<'_>,
        halves: Halves,
        dst: &'d mut [u16],
    ) {
        let to_f16 = |values| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
        match (parameters, halves) {
            (Parameters::Rows(rows), Halves::F16) => of_rows(stores, src, dim, rows, (f16_bits, to_f16), dst),
            (Parameters::Rows(rows), Halves::Bf16) => {
                of_rows(stores, src, dim, rows, (bf16_bits, |values| to_bf16(values)), dst)
            }
            (Parameters::Dims(scale, min), Halves::F16) => {
                of_dims(stores, src, (scale, min), (f16_bits, to_f16), dst)
            }
            (Parameters::Dims(scale, min), Halves::Bf16) => {
                of_dims(stores, src, (scale, min), (bf16_bits, |values| to_bf16(values)), dst)
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn of_rows<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        dim: usize,
        rows: &[(f32, f32)],
        (narrow_one, narrow): (impl Fn(f32) -> u16, impl Fn(__m256) -> __m128i),
        dst: &'d mut [u16],
    ) {
        let one = |at: usize| {
            let (scale, min) = rows[at / dim];
            narrow_one(affine(src[at], scale, min))
        };
        // The row of the vector at hand, and where it ends.
        let mut row = head_len(stores, dst) / dim;
        let mut end = (row + 1) * dim;
        fill(stores, dst, one, |at| {
            let parameters = rows[row];
            let (mut scale, mut min) = (_mm256_set1_ps(parameters.0), _mm256_set1_ps(parameters.1));
            if at + GROUP >= end {
                if at + GROUP > end {
                    let here = _mm256_set1_epi32(i32::try_from(end - at).expect("less than a vector"));
                    let index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                    let is_here = _mm256_castsi256_ps(_mm256_cmpgt_epi32(here, index));
                    let next = rows[row + 1];
                    scale = _mm256_blendv_ps(_mm256_set1_ps(next.0), scale, is_here);
                    min = _mm256_blendv_ps(_mm256_set1_ps(next.1), min, is_here);
                }
                (row, end) = (row + 1, end + dim);
            }
            narrow(_mm256_add_ps(_mm256_mul_ps(codes(src, at), scale), min))
        });
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn of_dims<'d, S: Storing<'d>>(
        stores: S,
        src: &[u8],
        (scale, min): (&[f32], &[f32]),
        (narrow_one, narrow): (impl Fn(f32) -> u16, impl Fn(__m256) -> __m128i),
        dst: &'d mut [u16],
    ) {
        let dim = scale.len();
        let one = |at: usize| narrow_one(affine(src[at], scale[at % dim], min[at % dim]));
        // A vector may begin at any dim, and go on with those of the next row.
        let around = |parameters: &[f32]| -> Vec<f32> {
            parameters.iter().cycle().take(dim + GROUP).copied().collect()
        };
        let (scale, min) = (around(scale), around(min));
        let mut first = head_len(stores, dst) % dim;
        fill(stores, dst, one, |at| {
            let of = |parameters: &[f32]| load_f32x8(parameters[first..].first_chunk().expect("a vector"));
            let (scale, min) = (of(&scale), of(&min));
            first += GROUP;
            if first >= dim {
                first -= dim;
            }
            narrow(_mm256_add_ps(_mm256_mul_ps(codes(src, at), scale), min))
        });
    }

    /// Fills whole lines by vectors, which `eight` makes one after another, and what is before and behind them one by one.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn fill<'d, S: Storing<'d>>(
        stores: S,
        dst: &'d mut [u16],
        one: impl Fn(usize) -> u16,
        mut eight: impl FnMut(usize) -> __m128i,
    ) {
        let (head, rest) = dst.split_at_mut(head_len(stores, dst));
        let (lines, tail) = rest.as_chunks_mut::<LINE>();
        let behind = head.len() + lines.len() * LINE;
        let mut at = head.len();
        for (index, half) in head.iter_mut().enumerate() {
            *half = one(index);
        }
        for halves in lines.as_flattened_mut().as_chunks_mut().0 {
            // Two together: streaming stores of 16 bytes reached half the rate of those of 32.
            let (low, high) = (eight(at), eight(at + GROUP));
            store_u16x16(stores, halves, _mm256_set_m128i(high, low));
            at += 2 * GROUP;
        }
        for (index, half) in (behind..).zip(tail) {
            *half = one(index);
        }
    }

    /// The eight codes from `at` on, widened.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn codes(src: &[u8], at: usize) -> __m256 {
        let codes = load_64(src[at..].first_chunk().expect("a vector"));
        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes))
    }

    /// Rounded to nearest, ties to even. No value is a NaN.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn to_bf16(values: __m256) -> __m128i {
        let bits = _mm256_castps_si256(values);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd));
        let upper = _mm256_srli_epi32::<16>(rounded);
        _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256::<1>(upper))
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use cvc_codec::ops::affine_u8::affine;
    use cvc_codec::ops::narrow::{bf16_from_f32, f16_from_f32};

    use super::super::stores::{Ordinary, fenced};
    use super::*;

    /// Rows of all lengths from a vector to a few lines, ends of rows at every place of a vector, destinations that begin at every
    /// place of a line, values from subnormal halves to those that overflow.
    #[test]
    fn halves_are_those_of_the_two_ops() {
        const ROWS: usize = 9;
        let levels = Level::available().into_iter().filter(|level| *level != Level::Portable);
        for level in levels {
            for (round, dim) in (8..=75).chain([384]).enumerate() {
                let src: Vec<u8> =
                    (0..ROWS * dim).map(|at| ((at * 37 + at / 7) % 256).try_into().unwrap()).collect();
                let number = |at: usize| ((at * 7919 + round) % 1013) as f32;
                let scale = |at: usize| (1u32 << (at % 25)) as f32 / (1u32 << 22) as f32 * number(at);
                let min = |at: usize| number(at + 1) * if at.is_multiple_of(2) { -0.25 } else { 3e-7 };
                let of_rows: Vec<_> = (0..ROWS).map(|row| (scale(row), min(row))).collect();
                let (scales, mins): (Vec<_>, Vec<_>) = (0..dim).map(|at| (scale(at), min(at))).unzip();
                for parameters in [Parameters::Rows(&of_rows), Parameters::Dims(&scales, &mins)] {
                    let values = (0..src.len()).map(|at| match parameters {
                        Parameters::Rows(rows) => affine(src[at], rows[at / dim].0, rows[at / dim].1),
                        Parameters::Dims(scale, min) => affine(src[at], scale[at % dim], min[at % dim]),
                    });
                    let (f16, bf16): (Vec<u16>, Vec<u16>) = values
                        .map(|value| (f16_from_f32(value).to_bits(), bf16_from_f32(value).to_bits()))
                        .unzip();
                    let mut out = vec![0u16; src.len() + 32];
                    for (halves, expected) in [(Halves::F16, f16), (Halves::Bf16, bf16)] {
                        let start = round % 32;
                        let end = start + src.len();
                        out.fill(1);
                        let dst = &mut out[start..end];
                        affine_u8_halves(level, Ordinary, (&src, dim), parameters, halves, dst);
                        assert_eq!(out[start..end], expected, "{level} {halves:?} rows of {dim}");
                        out.fill(1);
                        let dst = &mut out[start..end];
                        fenced(level, |streaming| {
                            affine_u8_halves(level, streaming, (&src, dim), parameters, halves, dst);
                        });
                        assert_eq!(out[start..end], expected, "{level} {halves:?} rows of {dim}, streamed");
                        let rest = out[..start].iter().chain(&out[end..]);
                        assert!(rest.copied().all(|half| half == 1), "written beside the destination");
                    }
                }
            }
        }
    }
}
