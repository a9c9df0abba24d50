//! `join_planes`: byte p of every value stands in plane p; together they are the values.
//!
//! ```text
//! for (p, plane) in planes { for (byte, value) in plane.zip(dst) { value[p] = *byte } }
//! ```
//!
//! 1. Portable: planes are joined in pairs, pairs to fours, and those to eights. The compiler vectorises a loop that
//!    joins two things, and in 256 values at a time both stay in the L1 cache. Loops that join all planes at once it
//!    vectorises badly: they made 7.9 GB/s of four planes and 6.1 of eight.
//! 2. AVX2 does the same in registers, 32 values at a time: each round of unpacking joins two vectors, and the halves of
//!    the vectors, which unpacking keeps apart, are put in order when they are stored. (The compiler does
//!    just that with the loop for pairs, but not for one line at a time: streaming it made 7 GB/s.)
//! 3. AVX-512 runs the code of AVX2. With vectors of 64 bytes, put in order before they were unpacked, L2 was 123, 123
//!    and 113, memory the same: not worth as much code again.
//! 4. NEON is part of every aarch64 target, so there the portable loops are NEON code already.
//! 5. What is left after the last whole vector goes to the portable loops.
//!
//! | planes | level | L2 | memory | streaming |
//! |---|---|---|---|---|
//! | 2, 4, 8 | reference | 4.6, 4.6, 4.5 | 4.6, 4.4, 3.0 | |
//! | 2, 4, 8 | portable (SSE2) | 50.0, 24.0, 15.4 | 17.6, 17.8, 14.1 | |
//! | 2, 4, 8 | avx2 | 99.0, 97.9, 87.6 | 18.5, 18.3, 16.9 | 26.5, 26.5, 25.1 |
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::ops;

use super::stores::Storing;
use crate::level::Level;

/// Joins planes: `planes[p]` has byte p of each value, little end first.
///
/// Writes value i as the native form of the bytes `planes[0][i], planes[1][i], ...`.
///
/// # Panics
/// A plane is not one byte for each value of `dst`, which has `planes.len()` bytes for each.
pub fn join_planes<'d, S: Storing<'d>>(level: Level, stores: S, planes: &[&[u8]], dst: &'d mut [u8]) {
    for plane in planes {
        assert_eq!(plane.len() * planes.len(), dst.len());
    }
    match level {
        Level::Portable => portable(planes, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { x86::avx2(stores, planes, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and AVX2, which they include.
        Level::Avx512(_) => unsafe { x86::avx2(stores, planes, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Level::Neon(_) => portable(planes, dst),
    }
}

fn portable(planes: &[&[u8]], dst: &mut [u8]) {
    match *planes {
        [a, b] => join_2([a, b], dst.as_chunks_mut().0),
        [a, b, c, d] => join_4([a, b, c, d], dst.as_chunks_mut().0),
        [a, b, c, d, e, f, g, h] => join_8([a, b, c, d, e, f, g, h], dst.as_chunks_mut().0),
        // There are no such floats.
        _ => ops::join_planes::join_planes(planes, dst),
    }
}

/// Values that are joined at a time: with twice their pairs and fours, 4 KiB.
const TILE: usize = 256;

#[inline(always)]
fn join_2([a, b]: [&[u8]; 2], dst: &mut [[u8; 2]]) {
    for (value, (a, b)) in dst.iter_mut().zip(a.iter().zip(b)) {
        *value = u16::from_le_bytes([*a, *b]).to_ne_bytes();
    }
}

#[inline(always)]
fn join_4(planes: [&[u8]; 4], dst: &mut [[u8; 4]]) {
    let (mut low, mut high) = ([[0; 2]; TILE], [[0; 2]; TILE]);
    for (tile, values) in dst.chunks_mut(TILE).enumerate() {
        let [a, b, c, d] = planes.map(|plane| &plane[tile * TILE..][..values.len()]);
        let (low, high) = (&mut low[..values.len()], &mut high[..values.len()]);
        join_2([a, b], low);
        join_2([c, d], high);
        for (value, (low, high)) in values.iter_mut().zip(low.iter().zip(high)) {
            let (low, high) = (u16::from_ne_bytes(*low), u16::from_ne_bytes(*high));
            *value = (u32::from(low) | u32::from(high) << 16).to_ne_bytes();
        }
    }
}

#[inline(always)]
fn join_8(planes: [&[u8]; 8], dst: &mut [[u8; 8]]) {
    let (mut low, mut high) = ([[0; 4]; TILE], [[0; 4]; TILE]);
    for (tile, values) in dst.chunks_mut(TILE).enumerate() {
        let [a, b, c, d, e, f, g, h] = planes.map(|plane| &plane[tile * TILE..][..values.len()]);
        let (low, high) = (&mut low[..values.len()], &mut high[..values.len()]);
        join_4([a, b, c, d], low);
        join_4([e, f, g, h], high);
        for (value, (low, high)) in values.iter_mut().zip(low.iter().zip(high)) {
            let (low, high) = (u32::from_ne_bytes(*low), u32::from_ne_bytes(*high));
            *value = (u64::from(low) | u64::from(high) << 32).to_ne_bytes();
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::super::stores::{Storing, head_len};
    use super::super::x86::{load_256, store_256};
    use super::{join_2, join_4, join_8, portable};

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<'d, S: Storing<'d>>(stores: S, planes: &[&[u8]], dst: &'d mut [u8]) {
        match *planes {
            [a, b] => twos(stores, [a, b], dst.as_chunks_mut().0),
            [a, b, c, d] => fours(stores, [a, b, c, d], dst.as_chunks_mut().0),
            [a, b, c, d, e, f, g, h] => {
                eights(stores, [a, b, c, d, e, f, g, h], dst.as_chunks_mut().0);
            }
            _ => portable(planes, dst),
        }
    }

    #[target_feature(enable = "avx2")]
    fn twos<'d, S: Storing<'d>>(stores: S, planes: [&[u8]; 2], dst: &'d mut [[u8; 2]]) {
        let (dst_head, dst) = dst.split_at_mut(head_len(stores, dst));
        join_2(planes.map(|plane| &plane[..dst_head.len()]), dst_head);
        let ([a, b], tails) = cut(planes.map(|plane| &plane[dst_head.len()..]));
        let (groups, dst_tail) = dst.as_chunks_mut::<32>();
        for (values, (a, b)) in groups.iter_mut().zip(a.iter().zip(b)) {
            let (a, b) = (load_256(a), load_256(b));
            let vectors = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
            store_in_order(stores, &vectors, values.as_flattened_mut());
        }
        join_2(tails, dst_tail);
    }

    #[target_feature(enable = "avx2")]
    fn fours<'d, S: Storing<'d>>(stores: S, planes: [&[u8]; 4], dst: &'d mut [[u8; 4]]) {
        let (dst_head, dst) = dst.split_at_mut(head_len(stores, dst));
        join_4(planes.map(|plane| &plane[..dst_head.len()]), dst_head);
        let ([a, b, c, d], tails) = cut(planes.map(|plane| &plane[dst_head.len()..]));
        let (groups, dst_tail) = dst.as_chunks_mut::<32>();
        for (values, (((a, b), c), d)) in groups.iter_mut().zip(a.iter().zip(b).zip(c).zip(d)) {
            store_in_order(stores, &join_vectors([a, b, c, d]), values.as_flattened_mut());
        }
        join_4(tails, dst_tail);
    }

    #[target_feature(enable = "avx2")]
    fn eights<'d, S: Storing<'d>>(stores: S, planes: [&[u8]; 8], dst: &'d mut [[u8; 8]]) {
        let (dst_head, dst) = dst.split_at_mut(head_len(stores, dst));
        join_8(planes.map(|plane| &plane[..dst_head.len()]), dst_head);
        let planes = planes.map(|plane| &plane[dst_head.len()..]);
        let ([a, b, c, d, e, f, g, h], tails) = cut(planes);
        let (groups, dst_tail) = dst.as_chunks_mut::<32>();
        let low = a.iter().zip(b).zip(c).zip(d);
        let high = e.iter().zip(f).zip(g).zip(h);
        for (values, ((((a, b), c), d), (((e, f), g), h))) in groups.iter_mut().zip(low.zip(high)) {
            let low = join_vectors([a, b, c, d]);
            let high = join_vectors([e, f, g, h]);
            let vectors = [
                _mm256_unpacklo_epi32(low[0], high[0]),
                _mm256_unpackhi_epi32(low[0], high[0]),
                _mm256_unpacklo_epi32(low[1], high[1]),
                _mm256_unpackhi_epi32(low[1], high[1]),
                _mm256_unpacklo_epi32(low[2], high[2]),
                _mm256_unpackhi_epi32(low[2], high[2]),
                _mm256_unpacklo_epi32(low[3], high[3]),
                _mm256_unpackhi_epi32(low[3], high[3]),
            ];
            store_in_order(stores, &vectors, values.as_flattened_mut());
        }
        join_8(tails, dst_tail);
    }

    /// Each plane in whole vectors, and what is left of it.
    #[inline]
    fn cut<const PLANES: usize>(planes: [&[u8]; PLANES]) -> ([&[[u8; 32]]; PLANES], [&[u8]; PLANES]) {
        (planes.map(|plane| plane.as_chunks().0), planes.map(|plane| plane.as_chunks::<32>().1))
    }

    /// 32 values of four bytes: values 0 to 15 in the lower halves of four vectors, 16 to 31 in the upper ones.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn join_vectors([a, b, c, d]: [&[u8; 32]; 4]) -> [__m256i; 4] {
        let (a, b, c, d) = (load_256(a), load_256(b), load_256(c), load_256(d));
        let (ab_low, ab_high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
        [
            _mm256_unpacklo_epi16(ab_low, cd_low),
            _mm256_unpackhi_epi16(ab_low, cd_low),
            _mm256_unpacklo_epi16(ab_high, cd_high),
            _mm256_unpackhi_epi16(ab_high, cd_high),
        ]
    }

    /// Stores the lower halves of all vectors, then the upper ones. There is an even number of vectors.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn store_in_order<'d, S: Storing<'d>>(stores: S, vectors: &[__m256i], bytes: &'d mut [u8]) {
        let (bytes, _) = bytes.as_chunks_mut::<32>();
        let (lower, upper) = bytes.split_at_mut(vectors.len() / 2);
        for (([a, b], lower), upper) in vectors.as_chunks().0.iter().zip(lower).zip(upper) {
            store_256(stores, lower, _mm256_permute2x128_si256::<0x20>(*a, *b));
            store_256(stores, upper, _mm256_permute2x128_si256::<0x31>(*a, *b));
        }
    }
}
