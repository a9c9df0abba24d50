//! `lut_u8`: one byte per value, looked up in a table of 256.
//!
//! What `affine_u8` becomes when a parameter or a result is not finite: devices disagree about the NaNs that
//! arithmetic creates, and a shader may assume that there are none. A table of bits is the same everywhere.

use std::sync::Arc;

use super::affine_u8::affine;
use crate::plan::{Affine, Load};

/// The NaN that `0 * inf` and `inf - inf` make on x86, where upstream's files were written and checked.
const CREATED_NAN: u32 = 0xffc0_0000;
/// The NaN that a parameter `NaN` in a header stands for.
const PARAMETER_NAN: u32 = 0x7fc0_0000;

/// Decodes codes.
///
/// # Panics
/// `src` is not one byte for each value of `dst`.
pub fn lut_u8(src: &[u8], table: &[f32; 256], dst: &mut [f32]) {
    assert_eq!(src.len(), dst.len());
    for (code, value) in src.iter().zip(dst) {
        *value = table[usize::from(*code)];
    }
}

/// The op that decodes codes with these parameters: `affine_u8` if everything about it is finite.
pub(crate) fn lower_affine(scale: f32, min: f32) -> Load {
    // The results run monotonically from code 0 to code 255, so the last one bounds them all.
    if scale.is_finite() && min.is_finite() && affine(255, scale, min).is_finite() {
        return Load::AffineU8(Affine::Chunk { scale, min });
    }
    let nan = if scale.is_nan() || min.is_nan() { PARAMETER_NAN } else { CREATED_NAN };
    let value = |code: u8| match affine(code, scale, min) {
        value if value.is_nan() => f32::from_bits(nan),
        value => value,
    };
    Load::LutU8(Arc::new(core::array::from_fn(|code| value(u8::try_from(code).expect("an index below 256")))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(scale: f32, min: f32) -> Vec<u32> {
        match lower_affine(scale, min) {
            Load::LutU8(table) => table.iter().map(|value| value.to_bits()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn finite_parameters_stay_arithmetic() {
        assert_eq!(lower_affine(0.5, -1.0), Load::AffineU8(Affine::Chunk { scale: 0.5, min: -1.0 }));
        assert_eq!(lower_affine(0.0, f32::MAX), Load::AffineU8(Affine::Chunk { scale: 0.0, min: f32::MAX }));
    }

    #[test]
    fn nans_have_one_bit_pattern_each() {
        assert!(table(f32::NAN, f32::NAN).iter().all(|bits| *bits == PARAMETER_NAN));
        assert!(table(f32::INFINITY, f32::NEG_INFINITY).iter().all(|bits| *bits == CREATED_NAN));
        let infinite_scale = table(f32::INFINITY, 1.0);
        assert_eq!((infinite_scale[0], infinite_scale[1]), (CREATED_NAN, f32::INFINITY.to_bits()));
    }

    #[test]
    fn overflow_is_infinity_from_the_code_where_it_happens() {
        let bits = table(f32::MAX / 128.0, 0.0);
        assert_eq!(f32::from_bits(bits[127]), f32::MAX / 128.0 * 127.0);
        assert_eq!(f32::from_bits(bits[200]), f32::INFINITY);
    }
}
