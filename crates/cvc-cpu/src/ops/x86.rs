//! Loads and stores of whole arrays, safe because the array's type has the size of the access.
//!
//! Those that may stream check the alignment themselves. They take the array for as long as the [`Storing`] that
//! streams promises a fence within, so nobody can look at it before.
#![expect(
    unsafe_code,
    reason = "the intrinsics take pointers; each function here states why its own is good"
)]

use core::arch::asm;
use core::arch::x86_64::*;

use bytemuck::Pod;

use super::stores::{Storing, stream_to};

/// Waits until what this thread has streamed is in memory.
pub(super) fn fence() {
    // SAFETY: SFENCE is part of every x86-64 and only orders stores.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) }
}

/// Loads 8 bytes, the others are zero.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_64(bytes: &[u8; 8]) -> __m128i {
    // SAFETY: the reference is good for 8 bytes, and the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

/// Loads 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is good for 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_256(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is good for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Loads 8 values.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_f32x8(values: &[f32; 8]) -> __m256 {
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
pub(super) fn store_f32x8<'d, S: Storing<'d>>(stores: S, values: &'d mut [f32; 8], vector: __m256) {
    let pointer = values.as_mut_ptr();
    if stream_to(stores, pointer) && pointer.cast::<__m256>().is_aligned() {
        // SAFETY: the reference is good for 8 f32 until the fence and aligned for the vector.
        unsafe { _mm256_stream_ps(pointer, vector) }
    } else {
        // SAFETY: the reference is good for 8 f32, and the store needs no alignment.
        unsafe { _mm256_storeu_ps(pointer, vector) }
    }
}

/// Stores 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_f32x16<'d, S: Storing<'d>>(stores: S, values: &'d mut [f32; 16], vector: __m512) {
    let pointer = values.as_mut_ptr();
    if stream_to(stores, pointer) && pointer.cast::<__m512>().is_aligned() {
        // SAFETY: the reference is good for 16 f32 until the fence and aligned for the vector.
        unsafe { _mm512_stream_ps(pointer, vector) }
    } else {
        // SAFETY: the reference is good for 16 f32, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(pointer, vector) }
    }
}

/// Stores 8 halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_u16x8<'d, S: Storing<'d>>(stores: S, halves: &'d mut [u16; 8], vector: __m128i) {
    let pointer = halves.as_mut_ptr().cast::<__m128i>();
    if stream_to(stores, pointer) && pointer.is_aligned() {
        // SAFETY: the reference is good for 16 bytes until the fence and aligned for the vector, and any bits are u16.
        unsafe { _mm_stream_si128(pointer, vector) }
    } else {
        // SAFETY: the reference is good for 16 bytes, any bits are u16, and the store needs no alignment.
        unsafe { _mm_storeu_si128(pointer, vector) }
    }
}

/// Stores 16 halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_u16x16<'d, S: Storing<'d>>(stores: S, halves: &'d mut [u16; 16], vector: __m256i) {
    store_256(stores, bytemuck::cast_mut(halves), vector);
}

/// Stores 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_256<'d, S: Storing<'d>>(stores: S, bytes: &'d mut [u8; 32], vector: __m256i) {
    let pointer = bytes.as_mut_ptr().cast::<__m256i>();
    if stream_to(stores, pointer) && pointer.is_aligned() {
        // SAFETY: the reference is good for 32 bytes until the fence and aligned for the vector.
        unsafe { _mm256_stream_si256(pointer, vector) }
    } else {
        // SAFETY: the reference is good for 32 bytes, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(pointer, vector) }
    }
}

/// Stores a line. Where the compiler has `values` in registers it takes them from there.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_line<'d, S: Storing<'d>, T: Pod, const N: usize>(
    stores: S,
    line: &'d mut [T; N],
    values: &[T; N],
) {
    let (lines, _) = bytemuck::cast_slice_mut::<T, u8>(line).as_chunks_mut();
    let (values, _) = bytemuck::cast_slice::<T, u8>(values).as_chunks();
    for (line, values) in lines.iter_mut().zip(values) {
        store_256(stores, line, load_256(values));
    }
}
