//! Unaligned loads and stores of whole arrays, safe because the array's type has the size of the access.
#![expect(
    unsafe_code,
    reason = "the intrinsics take pointers; each function here states why its own is good"
)]

use core::arch::x86_64::*;

/// Loads 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is good for 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_256(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is good for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Loads 8 values.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_f32x8(values: &[f32; 8]) -> __m256 {
    // SAFETY: the reference is good for 8 f32, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Loads 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_f32x16(values: &[f32; 16]) -> __m512 {
    // SAFETY: the reference is good for 16 f32, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// Stores 8 values.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_f32x8(values: &mut [f32; 8], vector: __m256) {
    // SAFETY: the reference is good for 8 f32, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), vector) }
}

/// Stores 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_f32x16(values: &mut [f32; 16], vector: __m512) {
    // SAFETY: the reference is good for 16 f32, and the store needs no alignment.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), vector) }
}

/// Stores 8 halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_u16x8(halves: &mut [u16; 8], vector: __m128i) {
    // SAFETY: the reference is good for 16 bytes, any bits are u16, and the store needs no alignment.
    unsafe { _mm_storeu_si128(halves.as_mut_ptr().cast(), vector) }
}

/// Stores 16 halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_u16x16(halves: &mut [u16; 16], vector: __m256i) {
    // SAFETY: the reference is good for 32 bytes, any bits are u16, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(halves.as_mut_ptr().cast(), vector) }
}

/// Stores 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_256(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: the reference is good for 32 bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}
