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

use super::blocks;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::{Loops, rounded_byte};
use crate::ops::narrow::round_f32;
use crate::plan::{Affine, DecodePlan, Load, Stream};
use crate::rows::{Element, RowSlice, with_values};

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

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        plan(self.name(), chunk, out)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        _options: &EncodeOptions,
        _loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        blocks::only_reals(self.name(), rows)?;
        check_values(self.name(), rows)?;
        out.reset(1, 0);
        // Of the values as f32, because those are what is encoded: a 64-bit integer that is rounded to f64 and then to
        // f32 may end up above itself rounded once, and its code would wrap.
        let range = with_values!(rows, values => range(values.iter().map(|value| f64::from(value.as_f32()))));
        let (min, max) = (round_f32(range.min), round_f32(range.max));
        let scale = if max == min { 1.0 } else { (max - min) / 255.0 };
        with_values!(rows, values => store_f32(values, min, scale, &mut out.fields[0].bytes));
        out.params = Params::Affine(AffineParams { min: f64::from(min), scale: f64::from(scale) });
        Ok(())
    }

    fn default_block_rows(&self, _dtype: DType, _dim: u32) -> u32 {
        1
    }
}

/// The plan of both int8 flavours: the header's doubles are rounded to f32, then `affine_u8`.
pub(super) fn plan(
    codec: &'static str,
    chunk: &StoredChunk<'_>,
    out: DType,
) -> Result<DecodePlan, CodecError> {
    let Params::Affine(AffineParams { min, scale }) = *chunk.params else {
        return Err(CodecError::Params { codec, needs: "min and scale" });
    };
    let load = Load::AffineU8(Affine::Chunk { scale: round_f32(scale), min: round_f32(min) });
    Ok(DecodePlan::new(chunk.shape, load, Stream::Stored, out, chunk.parts)?)
}

/// The smallest and the largest value of a chunk, both NaN if any value is.
pub(super) struct Range {
    pub(super) min: f64,
    pub(super) max: f64,
}

/// Refuses rows without any value, which have no range.
pub(super) fn check_values(codec: &'static str, rows: RowSlice<'_>) -> Result<(), CodecError> {
    if !rows.bytes().is_empty() {
        return Ok(());
    }
    let problem = format!(
        "a chunk of {} rows of {} values has no smallest value; pack such arrays as fp16",
        rows.len(),
        rows.dim()
    );
    Err(CodecError::Input { codec, problem })
}

/// The smallest and largest of some values, of which there is at least one.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Range {
    let mut range = Range { min: f64::INFINITY, max: f64::NEG_INFINITY };
    let mut any_nan = false;
    for value in values {
        any_nan |= value.is_nan();
        // Not f64::min: of two zeros the first one stays, whatever its sign, so the bytes are the same everywhere.
        if value < range.min {
            range.min = value;
        }
        if value > range.max {
            range.max = value;
        }
    }
    if any_nan { Range { min: f64::NAN, max: f64::NAN } } else { range }
}

/// Replaces `codes` by the code of each value, in f32 arithmetic.
///
/// ```text
/// for value in values { codes.push(code_of(rint((value - min) / scale))) }
/// ```
///
/// 1. Rounding is a call of the C library on processors from before SSE4.1, which x86-64 allows: see [`rounded_byte`].
/// 2. Values are taken a block at a time; a block with any other quotient, NaN included, is done by the simple loop.
///
/// With both, encoding as a whole runs at 5.4 GB/s of f32, the search for the range included; the simple loop alone, without
/// that search, at 1.8 (`tests/rates.rs`, one core of an AMD EPYC of the Zen 5 class, November 2026).
pub(super) fn store_f32<T: Element>(values: &[T], min: f32, scale: f32, codes: &mut Vec<u8>) {
    const SMALL: f32 = 4_194_304.0;
    codes.resize(values.len(), 0);
    for (values, codes) in values.chunks(1024).zip(codes.chunks_mut(1024)) {
        let mut all_small = true;
        for (value, code) in values.iter().zip(codes.iter_mut()) {
            let quotient = (value.as_f32() - min) / scale;
            all_small &= quotient.abs() < SMALL;
            *code = rounded_byte(quotient);
        }
        if !all_small {
            for (value, code) in values.iter().zip(codes) {
                *code = code_of(f64::from(((value.as_f32() - min) / scale).round_ties_even()));
            }
        }
    }
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
    use crate::loops::Plain;

    #[test]
    fn codes_beyond_the_range_are_defined() {
        assert_eq!([0.0, 255.0, 256.0, -1.0].map(code_of), [0, 255, 0, 255]);
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e10].map(code_of), [0; 4]);
    }

    #[test]
    fn integers_beyond_f64_do_not_wrap() {
        let step = 1i64 << 39;
        let first = (1i64 << 62) + step + (1 << 38) - 1;
        let values: Vec<i64> = std::iter::once(first).chain((2..=5).map(|n| (1 << 62) + n * step)).collect();
        let mut chunk = EncodedChunk::default();
        CvcfInt8
            .encode(RowSlice::new(&values, 1).unwrap(), &EncodeOptions::new(1), &Plain, &mut chunk)
            .unwrap();
        assert_eq!((chunk.fields[0].bytes[0], chunk.fields[0].bytes[4]), (0, 255));
    }

    #[test]
    fn the_fast_codes_are_those_of_the_simple_loop() {
        let mut bits = 1u32;
        let mut random = || {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bits
        };
        // Blocks of nothing but codes and their ties, and blocks with all that floats can be.
        for wild in [false, true] {
            let values: Vec<f32> = (0..5000)
                .map(|_| if wild { f32::from_bits(random()) } else { (random() % 1021) as f32 * 0.25 - 0.5 })
                .collect();
            for (min, scale) in [(0.0f32, 1.0f32), (-0.5, 0.5), (0.25, 1e-40), (-3.0, f32::INFINITY)] {
                let mut codes = Vec::new();
                store_f32(&values, min, scale, &mut codes);
                let simple = |value: &f32| code_of(f64::from(((value - min) / scale).round_ties_even()));
                assert_eq!(codes, values.iter().map(simple).collect::<Vec<u8>>(), "{min} {scale}");
            }
        }
    }

    #[test]
    fn the_range_of_infinities_is_themselves() {
        let of = |values: &[f32]| {
            let range = range(values.iter().map(|value| f64::from(*value)));
            (range.min, range.max)
        };
        assert_eq!(of(&[f32::INFINITY; 3]), (f64::INFINITY, f64::INFINITY));
        assert_eq!(of(&[f32::NEG_INFINITY]), (f64::NEG_INFINITY, f64::NEG_INFINITY));
        assert_eq!(of(&[f32::NEG_INFINITY, 1.0]), (f64::NEG_INFINITY, 1.0));
        assert!(of(&[1.0, f32::NAN]).0.is_nan());
        assert!(of(&[-0.0, 0.0]).0.is_sign_negative() && of(&[0.0, -0.0]).0.is_sign_positive());
        // Wherever the zeros lie, and whatever else there is.
        let mut many = vec![1.0f32; 100];
        (many[37], many[70]) = (-0.0, 0.0);
        assert!(of(&many).0.is_sign_negative());
        assert_eq!((of(&many[38..]).0.to_bits(), of(&many).1), (0, 1.0));
    }
}
