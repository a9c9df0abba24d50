//! `affine_u8`: one byte per value, and a scale and a minimum: one for all, for each row or for each dim.

use super::PayloadError;

/// `f32(f32(code) * scale) + min`: two roundings, never fused.
#[inline]
pub fn affine(code: u8, scale: f32, min: f32) -> f32 {
    // Rust never contracts these two into a fused multiply-add.
    f32::from(code) * scale + min
}

/// Decodes codes.
///
/// # Panics
/// `src` is not one byte for each value of `dst`.
pub fn affine_u8(src: &[u8], scale: f32, min: f32, dst: &mut [f32]) {
    assert_eq!(src.len(), dst.len());
    for (code, value) in src.iter().zip(dst) {
        *value = affine(*code, scale, min);
    }
}

/// Decodes the codes of one row, each dim with a scale and a minimum of its own.
///
/// # Panics
/// The slices differ in length.
pub fn affine_u8_dims(src: &[u8], scale: &[f32], min: &[f32], dst: &mut [f32]) {
    assert!(src.len() == dst.len() && scale.len() == dst.len() && min.len() == dst.len());
    for (((code, value), scale), min) in src.iter().zip(dst).zip(scale).zip(min) {
        *value = affine(*code, *scale, *min);
    }
}

/// The scale or the minimum of a row, as it is stored: four bytes, little-endian.
///
/// # Errors
/// It is not finite, which no writer writes. Devices disagree about the NaNs that would come of it.
///
/// # Panics
/// These are not four bytes.
#[inline]
pub fn row_parameter(bytes: &[u8], row: u32, what: &'static str) -> Result<f32, PayloadError> {
    let value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    if value.is_finite() {
        Ok(value)
    } else {
        Err(PayloadError::Parameter { row, what, value: value.to_string() })
    }
}
