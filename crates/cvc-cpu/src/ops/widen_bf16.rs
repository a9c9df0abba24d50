//! `widen_bf16`: bfloat16 to f32, exactly, NaN payloads kept.
//!
//! ```text
//! for (half, value) in src.zip(dst) { *value = f32::from_bits(half << 16) }
//! ```
//!
//! 1. AVX2 and AVX-512 compile the same safe loop with their instructions allowed; the compiler vectorises it.
//! 2. NEON is part of every aarch64 target, so there the portable loop is NEON code already.
//!
//! | level | L2 | memory | streaming |
//! |---|---|---|---|
//! | portable (SSE2) | 64.0 | 22.8 | |
//! | avx2 | 130.4 | 24.3 | 32.4 |
//! | avx512 | 127.2 | 23.6 | 32.8 |
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::ops::widen_bf16::widen;

use super::stores::Storing;
#[cfg(target_arch = "x86_64")]
use super::stores::by_lines;
#[cfg(target_arch = "x86_64")]
use super::x86::store_line;
use crate::level::Level;

/// Widens little-endian halves.
///
/// # Panics
/// `src` is not two bytes for each value of `dst`.
pub fn widen_bf16<'d, S: Storing<'d>>(level: Level, stores: S, src: &[u8], dst: &'d mut [f32]) {
    assert_eq!(src.len(), dst.len() * 2);
    match level {
        Level::Portable => portable(src, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { avx2(stores, src, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { avx512(stores, src, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Level::Neon(_) => portable(src, dst),
    }
}

#[inline(always)]
fn portable(src: &[u8], dst: &mut [f32]) {
    for (half, value) in src.as_chunks().0.iter().zip(dst) {
        *value = widen(u16::from_le_bytes(*half));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<'d, S: Storing<'d>>(stores: S, src: &[u8], dst: &'d mut [f32]) {
    by_lines(
        stores,
        dst,
        |values, dst| portable(&src[2 * values.start..2 * values.end], dst),
        |values, line| {
            let mut decoded = [0.0; 16];
            portable(&src[2 * values.start..2 * values.end], &mut decoded);
            store_line(stores, line, &decoded);
        },
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512<'d, S: Storing<'d>>(stores: S, src: &[u8], dst: &'d mut [f32]) {
    by_lines(
        stores,
        dst,
        |values, dst| portable(&src[2 * values.start..2 * values.end], dst),
        |values, line| {
            let mut decoded = [0.0; 16];
            portable(&src[2 * values.start..2 * values.end], &mut decoded);
            store_line(stores, line, &decoded);
        },
    );
}
