//! `cvcf.int8`: one unsigned byte per value and one affine range per chunk, as `decompressed` 2.x writes it.
//!
//! The range is computed in f32 and stored as the f64 of the same value:
//!
//! ```text
//! min   = f32(smallest value)          max = f32(largest value)
//! scale = f32(f32(max - min) / 255)    1 if max = min
//! code  = u8(rint(f32(f32(f32(x) - min) / scale)))
//! ```

use cvc_format::{AffineParams, DType, Params};

use crate::codec::{Codec, CodecError, EncodedChunk};
use crate::ops::narrow::round_f32;
use crate::plan::{ChunkShape, DecodePlan, Load};
use crate::rows::{Element, Rows, with_values};

/// The 2.x flavour of upstream's int8.
#[derive(Clone, Copy, Debug)]
pub struct CvcfInt8;

impl Codec for CvcfInt8 {
    fn name(&self) -> &'static str {
        "cvcf.int8"
    }

    fn decoded_dtype(&self, _input: DType) -> DType {
        DType::F32
    }

    fn plan(
        &self,
        shape: ChunkShape,
        _dtype: DType,
        params: &Params,
        payload_len: u64,
        out: DType,
    ) -> Result<DecodePlan, CodecError> {
        plan(self.name(), shape, params, payload_len, out)
    }

    fn encode(&self, rows: Rows<'_>, out: &mut EncodedChunk) -> Result<(), CodecError> {
        let range = range(self.name(), rows)?;
        let (min, max) = (round_f32(range.min), round_f32(range.max));
        let scale = if max == min { 1.0 } else { (max - min) / 255.0 };
        let code = |value: f32| code_of(f64::from(((value - min) / scale).round_ties_even()));
        with_values!(rows, values => store(values, &mut out.payload, |value| code(value.as_f32())));
        out.params = Params::Affine(AffineParams { min: f64::from(min), scale: f64::from(scale) });
        Ok(())
    }

    fn max_encoded_len(&self, shape: ChunkShape, _dtype: DType) -> u64 {
        shape.values()
    }
}

/// The plan of both int8 flavours: the header's doubles are rounded to f32, then `affine_u8`.
pub(super) fn plan(
    codec: &'static str,
    shape: ChunkShape,
    params: &Params,
    payload_len: u64,
    out: DType,
) -> Result<DecodePlan, CodecError> {
    let Params::Affine(AffineParams { min, scale }) = *params else {
        return Err(CodecError::Params { codec, needs: "min and scale" });
    };
    let load = Load::AffineU8 { scale: round_f32(scale), min: round_f32(min) };
    Ok(DecodePlan::new(shape, load, out, payload_len)?)
}

/// The smallest and the largest value of a chunk, both NaN if any value is.
pub(super) struct Range {
    pub(super) min: f64,
    pub(super) max: f64,
}

/// The range of `rows`.
pub(super) fn range(codec: &'static str, rows: Rows<'_>) -> Result<Range, CodecError> {
    if rows.bytes().is_empty() {
        let problem = format!(
            "a chunk of {} rows of {} values has no smallest value; pack such arrays as fp16",
            rows.len(),
            rows.dim()
        );
        return Err(CodecError::Input { codec, problem });
    }
    // Integers keep their order in f64; neighbours beyond 2^53 may become equal, as they do upstream.
    Ok(with_values!(rows, values => extremes(values)))
}

fn extremes<T: Element>(values: &[T]) -> Range {
    let mut range = Range { min: f64::INFINITY, max: f64::NEG_INFINITY };
    let mut any_nan = false;
    for value in values {
        let value = value.as_f64();
        any_nan |= value.is_nan();
        // Not f64::min: of two zeros the first one stays, whatever its sign, so the bytes are the same everywhere.
        if value < range.min {
            range.min = value;
        }
        if value > range.max {
            range.max = value;
        }
    }
    if any_nan {
        return Range { min: f64::NAN, max: f64::NAN };
    }
    // A chunk of nothing but infinities of one sign moves only one end.
    if range.min > range.max {
        let only = values[0].as_f64();
        return Range { min: only, max: only };
    }
    range
}

/// Replaces `codes` by what `code` makes of each value.
pub(super) fn store<T: Element>(values: &[T], codes: &mut Vec<u8>, code: impl Fn(T) -> u8) {
    codes.clear();
    codes.extend(values.iter().map(|value| code(*value)));
}

/// The byte that upstream's cast makes of a rounded value: its low byte as a 32-bit integer, and 0 for what
/// none can hold (NaN, infinities). Finite data stay within 0 to 255.
pub(super) fn code_of(rounded: f64) -> u8 {
    if rounded.abs() < 2_147_483_648.0 {
        // In range, so the cast is exact.
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked in the line above")]
        let integer = rounded as i32;
        integer.to_le_bytes()[0]
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_beyond_the_range_are_defined() {
        assert_eq!([0.0, 255.0, 256.0, -1.0].map(code_of), [0, 255, 0, 255]);
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e10].map(code_of), [0; 4]);
    }

    #[test]
    fn the_range_of_infinities_is_themselves() {
        let of = |values: &[f32]| {
            let range = range("", Rows::new(values, 1).unwrap()).unwrap();
            (range.min, range.max)
        };
        assert_eq!(of(&[f32::INFINITY; 3]), (f64::INFINITY, f64::INFINITY));
        assert_eq!(of(&[f32::NEG_INFINITY]), (f64::NEG_INFINITY, f64::NEG_INFINITY));
        assert_eq!(of(&[f32::NEG_INFINITY, 1.0]), (f64::NEG_INFINITY, 1.0));
        assert!(of(&[1.0, f32::NAN]).0.is_nan());
        assert!(of(&[-0.0, 0.0]).0.is_sign_negative() && of(&[0.0, -0.0]).0.is_sign_positive());
    }
}
