//! `affine_u8`: one byte per value, one scale and one minimum.

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
