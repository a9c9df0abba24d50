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

use super::blocks;
use super::cvcf_int8::{check_values, code_of, plan, range, store, store_f32};
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::ops::narrow::{f16_from_f32, f16_from_f64, round_f32};
use crate::plan::DecodePlan;
use crate::rows::{Element, RowSlice, Values, with_values};

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
        let range = with_values!(rows, values => range(values.iter().map(|value| value.as_f64())));
        let min = range.min;
        let scale = if range.max == min { 1.0 } else { (range.max - min) / 255.0 };
        let codes = &mut out.fields[0].bytes;
        match rows.values() {
            // Upstream never saw bfloat16; its values are f32 values.
            Values::F32(_) | Values::Bf16(_) => {
                with_values!(rows, values => store_f32(values, round_f32(min), round_f32(scale), codes));
            }
            Values::F16(values) => {
                // Each step rounded to f16, as NumPy does; f32 is exact enough that this rounds once.
                let (min, scale) = (f16_from_f64(min).as_f32(), f16_from_f64(scale).as_f32());
                store(values, codes, |value| {
                    let difference = f16_from_f32(value.as_f32() - min).as_f32();
                    let quotient = f16_from_f32(difference / scale).as_f32();
                    code_of(f64::from(quotient.round_ties_even()))
                });
            }
            _ => {
                let code = |value: f64| code_of(((value - min) / scale).round_ties_even());
                with_values!(rows, values => store(values, codes, |value| code(value.as_f64())));
            }
        }
        out.params = Params::Affine(AffineParams { min, scale });
        Ok(())
    }

    fn default_block_rows(&self, _dtype: DType, _dim: u32) -> u32 {
        1
    }
}
