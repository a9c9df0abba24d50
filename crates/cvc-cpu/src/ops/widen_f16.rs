//! `widen_f16`: binary16 to f32, exactly, NaN payloads kept.
//!
//! ```text
//! for (half, value) in src.zip(dst) { *value = widen(half) }      // widen branches on the exponent
//! ```
//!
//! 1. Portable: all three cases of the exponent are computed and one is selected, so that the compiler can
//!    vectorise the loop.
//! 2. AVX2 and AVX-512 use the processor's conversion (F16C). It makes signalling NaNs quiet, so 32 values at
//!    a time are checked for NaNs of any kind and, where there is one, left to the reference. One compare
//!    checks two vectors: it asks for lanes where either operand is a NaN.
//! 3. Why 32 and not one vector? A branch per 8 values held AVX2 to 68 GB/s in L2, per 16 values to 111, per
//!    32 values to 143; without any check it was 131 (a scratch program, the same machine and method as in
//!    [`super`]). So the check is free.
//! 4. NEON converts with FCVTL and mends in the same way, 8 values at a time. It was run under emulation, for
//!    its bits; its speed has not been measured.
//! 5. What is left after the last whole group goes to the portable loop.
//!
//! | level | L2 | memory | streaming |
//! |---|---|---|---|
//! | reference | 4.9 | 4.7 | |
//! | portable (SSE2) | 11.6 | 11.1 | |
//! | avx2 | 132.9 | 24.1 | 33.4 |
//! | avx512 | 125.5 | 23.3 | 33.7 |
//! | (copying f32) | 125.3 | 17.1 | 23.1 |
#![cfg_attr(
    any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")),
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use super::stores::Storing;
use crate::level::Level;

/// Widens little-endian halves.
///
/// # Panics
/// `src` is not two bytes for each value of `dst`.
pub fn widen_f16<'d, S: Storing<'d>>(level: Level, stores: S, src: &[u8], dst: &'d mut [f32]) {
    assert_eq!(src.len(), dst.len() * 2);
    match level {
        Level::Portable => portable(src, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2 and F16C.
        Level::Avx2(_) => unsafe { x86::avx2(stores, src, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { x86::avx512(stores, src, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        // SAFETY: the token proves NEON.
        Level::Neon(_) => unsafe { neon::neon(src, dst) },
    }
}

fn portable(src: &[u8], dst: &mut [f32]) {
    for (half, value) in src.as_chunks().0.iter().zip(dst) {
        *value = widen(u16::from_le_bytes(*half));
    }
}

/// `cvc_codec::ops::widen_f16::widen` without branches.
#[inline(always)]
fn widen(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    // Exponent and fraction where f32 has them; the exponent is still biased by 15.
    let magnitude = u32::from(half & 0x7fff) << 13;
    let normal = magnitude + ((127 - 15) << 23);
    let not_finite = magnitude | 0xff << 23;
    // 2^-14 + fraction * 2^-24, less 2^-14: both exact, and neither operand is a subnormal f32.
    let least_normal = f32::from_bits((127 - 14) << 23);
    let subnormal = f32::from_bits(magnitude + ((127 - 14) << 23)) - least_normal;
    let widened = if magnitude < 1 << 23 {
        subnormal.to_bits()
    } else if magnitude < 31 << 23 {
        normal
    } else {
        not_finite
    };
    f32::from_bits(sign | widened)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use cvc_codec::ops::widen_f16::widen_f16 as reference;

    use super::super::stores::{Storing, head_len};
    use super::super::x86::{load_128, load_256, store_f32x8, store_f32x16};
    use super::portable;

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn avx2<'d, S: Storing<'d>>(stores: S, src: &[u8], dst: &'d mut [f32]) {
        let head_len = head_len(stores, dst);
        let (src_head, src) = src.split_at(2 * head_len);
        let (dst_head, dst) = dst.split_at_mut(head_len);
        portable(src_head, dst_head);
        let (groups, src_tail) = src.as_chunks::<64>();
        let (values, dst_tail) = dst.as_chunks_mut::<32>();
        for (group, values) in groups.iter().zip(values) {
            let (halves, _) = group.as_chunks::<16>();
            let a = _mm256_cvtph_ps(load_128(&halves[0]));
            let b = _mm256_cvtph_ps(load_128(&halves[1]));
            let c = _mm256_cvtph_ps(load_128(&halves[2]));
            let d = _mm256_cvtph_ps(load_128(&halves[3]));
            let nan = _mm256_or_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, b), _mm256_cmp_ps::<_CMP_UNORD_Q>(c, d));
            if _mm256_movemask_ps(nan) == 0 {
                for (values, vector) in values.as_chunks_mut().0.iter_mut().zip([a, b, c, d]) {
                    store_f32x8(stores, values, vector);
                }
            } else {
                reference(group, values);
            }
        }
        portable(src_tail, dst_tail);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512<'d, S: Storing<'d>>(stores: S, src: &[u8], dst: &'d mut [f32]) {
        let head_len = head_len(stores, dst);
        let (src_head, src) = src.split_at(2 * head_len);
        let (dst_head, dst) = dst.split_at_mut(head_len);
        portable(src_head, dst_head);
        let (groups, src_tail) = src.as_chunks::<64>();
        let (values, dst_tail) = dst.as_chunks_mut::<32>();
        for (group, values) in groups.iter().zip(values) {
            let (halves, _) = group.as_chunks::<32>();
            let a = _mm512_cvtph_ps(load_256(&halves[0]));
            let b = _mm512_cvtph_ps(load_256(&halves[1]));
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b) == 0 {
                for (values, vector) in values.as_chunks_mut().0.iter_mut().zip([a, b]) {
                    store_f32x16(stores, values, vector);
                }
            } else {
                reference(group, values);
            }
        }
        portable(src_tail, dst_tail);
    }
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon {
    use cvc_codec::ops::widen_f16::widen_f16 as reference;

    use super::super::arm::{any_nan, load_u16x4, store_f32x4, widen};
    use super::portable;

    #[target_feature(enable = "neon")]
    pub(super) fn neon(src: &[u8], dst: &mut [f32]) {
        let (groups, src_tail) = src.as_chunks::<16>();
        let (values, dst_tail) = dst.as_chunks_mut::<8>();
        for (group, values) in groups.iter().zip(values) {
            let (halves, _) = group.as_chunks::<8>();
            let a = widen(load_u16x4(&halves[0]));
            let b = widen(load_u16x4(&halves[1]));
            if any_nan(a) || any_nan(b) {
                reference(group, values);
            } else {
                let (values, _) = values.as_chunks_mut::<4>();
                store_f32x4(&mut values[0], a);
                store_f32x4(&mut values[1], b);
            }
        }
        portable(src_tail, dst_tail);
    }
}
