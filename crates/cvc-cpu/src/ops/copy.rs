//! `copy`: stored little-endian values become native ones.
//!
//! There is nothing to gain over the reference while it stays in the caches: its loop is `memcpy` (and on big-endian
//! processors an exchange of bytes that the compiler vectorises). Past the caches the bytes are copied line by line.
//!
//! | level | L2 | memory | streaming |
//! |---|---|---|---|
//! | portable (`memcpy`) | 125.5 | 17.1 | |
//! | avx2 | 124.9 | 16.1 | 21.9 |
//! | avx512 | 125.3 | 16.6 | 23.1 |
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::ops;

use super::stores::Storing;
#[cfg(target_arch = "x86_64")]
use super::stores::by_lines;
#[cfg(target_arch = "x86_64")]
use super::x86::store_line;
use crate::level::Level;

/// Copies values of `size` bytes from `src`, little-endian, to `dst`, native.
///
/// # Panics
/// The slices differ in length.
pub fn copy<'d, S: Storing<'d>>(level: Level, stores: S, src: &[u8], size: usize, dst: &'d mut [u8]) {
    assert_eq!(src.len(), dst.len());
    match level {
        Level::Portable => ops::copy::copy(src, size, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2.
        Level::Avx2(_) => unsafe { avx2(stores, src, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
        Level::Avx512(_) => unsafe { avx512(stores, src, dst) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Level::Neon(_) => ops::copy::copy(src, size, dst),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<'d, S: Storing<'d>>(stores: S, src: &[u8], dst: &'d mut [u8]) {
    by_lines(
        stores,
        dst,
        |bytes, dst| dst.copy_from_slice(&src[bytes]),
        |bytes, line| store_line(stores, line, src[bytes].first_chunk::<64>().expect("a line")),
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512<'d, S: Storing<'d>>(stores: S, src: &[u8], dst: &'d mut [u8]) {
    by_lines(
        stores,
        dst,
        |bytes, dst| dst.copy_from_slice(&src[bytes]),
        |bytes, line| store_line(stores, line, src[bytes].first_chunk::<64>().expect("a line")),
    );
}
