//! `cvcf0.int8`: one unsigned byte per value and one affine range per chunk, as `decompressed` 0.1.0 writes it.
//!
//! The range is computed and stored in f64, the codes in the arithmetic of the input:
//!
//! ```text
//! min   = f64(smallest value)     max = f64(largest value)
//! scale = (max - min) / 255       1 if max = min
//! code  = u8(rint((x - min) / scale))      f32 for f32 rows, f16 for f16 rows, f64 for everything else
//! ```
//!
//! Decoding rounds `min` and `scale` to f32, so files differ from `cvcf.int8` in their header and, rarely, in a
//! code, but are read the same way.

use cvc_format::{AffineParams, DType, Params};
use half::f16;

use super::cvcf_fp16::f32_of;
use super::cvcf_int8::{code_of, plan, range, store};
use crate::codec::{Codec, CodecError, EncodedChunk};
use crate::ops::narrow::{f16_from_f32, f16_from_f64};
use crate::plan::{ChunkShape, DecodePlan};
use crate::rows::{Rows, Values};

/// The 0.1.0 flavour of upstream's int8.
#[derive(Clone, Copy, Debug)]
pub struct Cvcf0Int8;

impl Codec for Cvcf0Int8 {
    fn name(&self) -> &'static str {
        "cvcf0.int8"
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
        let min = range.min;
        let scale = if range.max == min { 1.0 } else { (range.max - min) / 255.0 };
        let in_f64 = |value: f64| code_of(((value - min) / scale).round_ties_even());
        let (min32, scale32) = (min as f32, scale as f32);
        let in_f32 = |value: f32| code_of(f64::from(((value - min32) / scale32).round_ties_even()));
        // Each step rounded to f16, as NumPy does; computed in f32, which is exact enough for one rounding.
        let (min16, scale16) = (f32_of(f16_from_f64(min)), f32_of(f16_from_f64(scale)));
        let in_f16 = |value: f16| {
            let difference = f32_of(f16_from_f32(f32_of(value) - min16));
            let quotient = f32_of(f16_from_f32(difference / scale16));
            code_of(f64::from(quotient.round_ties_even()))
        };
        let codes = &mut out.payload;
        match rows.values() {
            Values::F32(values) => store(values, codes, in_f32),
            Values::F16(values) => store(values, codes, in_f16),
            // Upstream never saw bfloat16; f32 arithmetic, as its values are f32 values.
            Values::Bf16(values) => store(values, codes, |value| in_f32(value.to_f32())),
            Values::F64(values) => store(values, codes, in_f64),
            Values::I8(values) => store(values, codes, |value| in_f64(f64::from(value))),
            Values::I16(values) => store(values, codes, |value| in_f64(f64::from(value))),
            Values::I32(values) => store(values, codes, |value| in_f64(f64::from(value))),
            Values::I64(values) => store(values, codes, |value| in_f64(value as f64)),
            Values::U8(values) => store(values, codes, |value| in_f64(f64::from(value))),
            Values::U16(values) => store(values, codes, |value| in_f64(f64::from(value))),
            Values::U32(values) => store(values, codes, |value| in_f64(f64::from(value))),
            Values::U64(values) => store(values, codes, |value| in_f64(value as f64)),
        }
        out.params = Params::Affine(AffineParams { min, scale });
        Ok(())
    }

    fn max_encoded_len(&self, shape: ChunkShape, _dtype: DType) -> u64 {
        shape.values()
    }
}
