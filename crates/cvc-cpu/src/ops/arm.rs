//! Loads and stores of whole arrays, and the two conversions, safe because their types have the right sizes.
//!
//! The conversions are written as instructions: their intrinsics (`vcvt_f32_f16`, `vcvt_f16_f32`) are stable
//! since Rust 1.94, and this workspace supports 1.89.
#![expect(
    unsafe_code,
    reason = "intrinsics that take pointers, and two instructions; each states why it is good"
)]

use core::arch::aarch64::*;
use core::arch::asm;

/// Loads 4 little-endian halves.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_u16x4(bytes: &[u8; 8]) -> uint16x4_t {
    // SAFETY: the reference is good for 8 bytes, and the load needs no alignment.
    let bytes = unsafe { vld1_u8(bytes.as_ptr()) };
    vreinterpret_u16_u8(bytes)
}

/// Loads 4 values.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_f32x4(values: &[f32; 4]) -> float32x4_t {
    // SAFETY: the reference is good for 4 f32.
    unsafe { vld1q_f32(values.as_ptr()) }
}

/// Stores 4 values.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_f32x4(values: &mut [f32; 4], vector: float32x4_t) {
    // SAFETY: the reference is good for 4 f32.
    unsafe { vst1q_f32(values.as_mut_ptr(), vector) }
}

/// Stores 4 halves.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_u16x4(halves: &mut [u16; 4], vector: uint16x4_t) {
    // SAFETY: the reference is good for 4 u16.
    unsafe { vst1_u16(halves.as_mut_ptr(), vector) }
}

/// Widens 4 halves; signalling NaNs come out quiet.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widen(halves: uint16x4_t) -> float32x4_t {
    let widened;
    // SAFETY: FCVTL is part of NEON, reads one register and writes the other, and touches nothing else.
    unsafe {
        asm!("fcvtl {out:v}.4s, {half:v}.4h", out = lateout(vreg) widened, half = in(vreg) halves,
             options(pure, nomem, nostack, preserves_flags));
    }
    widened
}

/// Narrows 4 values to nearest even; signalling NaNs come out quiet.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn narrow(values: float32x4_t) -> uint16x4_t {
    let narrowed;
    // SAFETY: FCVTN is part of NEON, reads one register and writes the other, and touches nothing else.
    unsafe {
        asm!("fcvtn {half:v}.4h, {value:v}.4s", half = lateout(vreg) narrowed, value = in(vreg) values,
             options(pure, nomem, nostack, preserves_flags));
    }
    narrowed
}

/// Whether any of 4 values is a NaN.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn any_nan(values: float32x4_t) -> bool {
    // A NaN is what does not equal itself: all ones where equal, so the least lane is zero if any is a NaN.
    vminvq_u32(vceqq_f32(values, values)) == 0
}
