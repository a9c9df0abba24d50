//! `narrow`: f32 to binary16 and bfloat16, to nearest, ties to even, NaNs not quieted.
//!
//! ```text
//! for (value, half) in src.zip(dst) { *half = f16_from_f32(value) }      // branches on the exponent
//! ```
//!
//! 1. Portable: every case is computed and one is selected, so that the compiler can vectorise the loop.
//!    A subnormal half is rounded by adding 0.5, whose last place is 2^-24, the unit of those halves.
//! 2. binary16 with AVX2 and AVX-512 uses the processor's conversion (F16C), always to nearest even whatever
//!    the rounding mode is set to. It makes signalling NaNs quiet, so a vector that holds a NaN is left to the
//!    portable loop.
//! 3. binary16 with NEON: FCVTN, mended in the same way. It was run under emulation, for its bits; its speed
//!    has not been measured.
//! 4. bfloat16 is integer arithmetic: AVX2 and AVX-512 compile the portable loop with their instructions
//!    allowed. (The instructions of AVX512_BF16 would flush subnormals.)
//!
//! | level | f16, L2 | memory | streaming | bf16, L2 | memory | streaming |
//! |---|---|---|---|---|---|---|
//! | reference | 7.5 | 7.2 | | 15.4 | 14.2 | |
//! | portable (SSE2) | 7.1 | 6.8 | | 15.5 | 14.2 | |
//! | avx2 | 64.3 | 23.0 | 28.5 | 39.4 | 19.7 | 30.0 |
//! | avx512 | 108.2 | 22.1 | 26.7 | 84.8 | 22.3 | 29.5 |
#![cfg_attr(
    any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")),
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use half::{bf16, f16};

use super::stores::Storing;
use crate::level::Level;

/// Narrows values to binary16.
///
/// # Panics
/// The slices differ in length.
pub fn narrow_f16<'d, S: Storing<'d>>(level: Level, stores: S, src: &[f32], dst: &'d mut [f16]) {
    assert_eq!(src.len(), dst.len());
    let dst: &mut [u16] = bytemuck::cast_slice_mut(dst);
    match level {
        Level::Portable => portable_f16(src, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2 and F16C.
        Level::Avx2(_) => unsafe { x86::avx2_f16(stores, src, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { x86::avx512_f16(stores, src, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        // SAFETY: the token proves NEON.
        Level::Neon(_) => unsafe { neon::neon_f16(src, dst) },
    }
}

/// Narrows values to bfloat16.
///
/// # Panics
/// The slices differ in length.
pub fn narrow_bf16<'d, S: Storing<'d>>(level: Level, stores: S, src: &[f32], dst: &'d mut [bf16]) {
    assert_eq!(src.len(), dst.len());
    let dst: &mut [u16] = bytemuck::cast_slice_mut(dst);
    match level {
        Level::Portable => portable_bf16(src, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { x86::avx2_bf16(stores, src, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { x86::avx512_bf16(stores, src, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Level::Neon(_) => portable_bf16(src, dst),
    }
}

#[inline(always)]
fn portable_f16(src: &[f32], dst: &mut [u16]) {
    for (value, half) in src.iter().zip(dst) {
        *half = f16_bits(*value);
    }
}

#[inline(always)]
fn portable_bf16(src: &[f32], dst: &mut [u16]) {
    for (value, half) in src.iter().zip(dst) {
        *half = bf16_bits(*value);
    }
}

/// `cvc_codec::ops::narrow::f16_from_f32` without branches.
#[inline(always)]
pub(super) fn f16_bits(value: f32) -> u16 {
    const LEAST_NORMAL: u32 = (127 - 14) << 23;
    const OVERFLOW: u32 = 65520f32.to_bits();
    const INFINITY: u32 = f32::INFINITY.to_bits();
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Wrapping: what does not apply is computed as well, and not selected.
    let odd = magnitude >> 13 & 1;
    let normal = magnitude.wrapping_sub((127 - 15) << 23).wrapping_add(0xfff + odd) >> 13;
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let nan = 0x7c00 | (magnitude >> 13 & 0x3ff).max(1);
    let narrowed = if magnitude < LEAST_NORMAL {
        subnormal
    } else if magnitude < OVERFLOW {
        normal
    } else if magnitude <= INFINITY {
        0x7c00
    } else {
        nan
    };
    low_half(bits >> 16 & 0x8000 | narrowed)
}

/// `cvc_codec::ops::narrow::bf16_from_f32` without branches.
#[inline(always)]
pub(super) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let upper = bits >> 16;
    // Wrapping: a NaN of all ones would overflow, and is not selected.
    let rounded = bits.wrapping_add(0x7fff + (upper & 1)) >> 16;
    let nan = if upper & 0x7f == 0 { upper | 1 } else { upper };
    low_half(if value.is_nan() { nan } else { rounded })
}

#[inline(always)]
fn low_half(bits: u32) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the upper half is zero, and a check would stop the vectoriser"
    )]
    let half = bits as u16;
    half
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::super::stores::{Storing, by_lines, head_len};
    use super::super::x86::{load_f32x8, load_f32x16, store_line, store_u16x8, store_u16x16};
    use super::{portable_bf16, portable_f16};

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn avx2_f16<'d, S: Storing<'d>>(stores: S, src: &[f32], dst: &'d mut [u16]) {
        let head_len = head_len(stores, dst);
        let (src_head, src) = src.split_at(head_len);
        let (dst_head, dst) = dst.split_at_mut(head_len);
        portable_f16(src_head, dst_head);
        let (groups, src_tail) = src.as_chunks::<8>();
        let (halves, dst_tail) = dst.as_chunks_mut::<8>();
        for (group, halves) in groups.iter().zip(halves) {
            let values = load_f32x8(group);
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(values, values);
            if _mm256_movemask_ps(nan) == 0 {
                store_u16x8(stores, halves, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values));
            } else {
                portable_f16(group, halves);
            }
        }
        portable_f16(src_tail, dst_tail);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512_f16<'d, S: Storing<'d>>(stores: S, src: &[f32], dst: &'d mut [u16]) {
        let head_len = head_len(stores, dst);
        let (src_head, src) = src.split_at(head_len);
        let (dst_head, dst) = dst.split_at_mut(head_len);
        portable_f16(src_head, dst_head);
        let (groups, src_tail) = src.as_chunks::<16>();
        let (halves, dst_tail) = dst.as_chunks_mut::<16>();
        for (group, halves) in groups.iter().zip(halves) {
            let values = load_f32x16(group);
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values) == 0 {
                store_u16x16(stores, halves, _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values));
            } else {
                portable_f16(group, halves);
            }
        }
        portable_f16(src_tail, dst_tail);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2_bf16<'d, S: Storing<'d>>(stores: S, src: &[f32], dst: &'d mut [u16]) {
        by_lines(
            stores,
            dst,
            |values, dst| portable_bf16(&src[values], dst),
            |values, line| {
                let mut decoded = [0; 32];
                portable_bf16(&src[values], &mut decoded);
                store_line(stores, line, &decoded);
            },
        );
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512_bf16<'d, S: Storing<'d>>(stores: S, src: &[f32], dst: &'d mut [u16]) {
        by_lines(
            stores,
            dst,
            |values, dst| portable_bf16(&src[values], dst),
            |values, line| {
                let mut decoded = [0; 32];
                portable_bf16(&src[values], &mut decoded);
                store_line(stores, line, &decoded);
            },
        );
    }
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon {
    use super::super::arm::{any_nan, load_f32x4, narrow, store_u16x4};
    use super::portable_f16;

    #[target_feature(enable = "neon")]
    pub(super) fn neon_f16(src: &[f32], dst: &mut [u16]) {
        let (groups, src_tail) = src.as_chunks::<4>();
        let (halves, dst_tail) = dst.as_chunks_mut::<4>();
        for (group, halves) in groups.iter().zip(halves) {
            let values = load_f32x4(group);
            if any_nan(values) {
                portable_f16(group, halves);
            } else {
                store_u16x4(halves, narrow(values));
            }
        }
        portable_f16(src_tail, dst_tail);
    }
}

#[cfg(test)]
mod tests {
    use cvc_codec::ops::narrow as reference;

    use super::super::stores::Ordinary;
    use super::*;

    /// Every f32 there is, at every level: `cargo test -p cvc-cpu --release -- --ignored every_f32`.
    #[test]
    #[ignore = "4 billion values: half a minute in a release build"]
    fn every_f32_narrows_as_the_reference() {
        const BLOCK: usize = 1 << 16;
        let mut halves = vec![f16::ZERO; BLOCK];
        let mut brains = vec![bf16::ZERO; BLOCK];
        for upper in 0..=u16::MAX {
            let values: Vec<f32> = (0..=u16::MAX)
                .map(|lower| f32::from_bits(u32::from(upper) << 16 | u32::from(lower)))
                .collect();
            let expected: Vec<(f16, bf16)> = values
                .iter()
                .map(|value| (reference::f16_from_f32(*value), reference::bf16_from_f32(*value)))
                .collect();
            for level in Level::available() {
                narrow_f16(level, Ordinary, &values, &mut halves);
                narrow_bf16(level, Ordinary, &values, &mut brains);
                for (index, (half, brain)) in expected.iter().enumerate() {
                    assert_eq!(halves[index].to_bits(), half.to_bits(), "{level} {upper:04x}{index:04x}");
                    assert_eq!(brains[index].to_bits(), brain.to_bits(), "{level} {upper:04x}{index:04x}");
                }
            }
        }
    }
}
