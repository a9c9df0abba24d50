//! `fp16`: every value as an IEEE binary16.

use cvc_format::DType;
use half::f16;

use super::blocks;
use super::halves::{self, Half};
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::plan::{DecodePlan, Load, Stream};
use crate::rows::{Element, RowSlice};

/// Rounds each float once to binary16, to nearest even.
#[derive(Clone, Copy, Debug)]
pub struct Fp16;

impl Codec for Fp16 {
    fn name(&self) -> &'static str {
        "fp16"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        // Halves that were packed are halves still.
        if input == DType::F16 { DType::F16 } else { DType::F32 }
    }

    fn is_by_row(&self, _options: &EncodeOptions) -> bool {
        true
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        blocks::no_params(self.name(), chunk)?;
        blocks::stored_floats(self.name(), chunk)?;
        Ok(DecodePlan::new(chunk.shape, Load::WidenF16, Stream::Stored, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        halves::encode::<f16>(self.name(), rows, options, loops, out)
    }

    fn encode_into(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        fields: &mut [&mut [u8]],
    ) -> Result<(), CodecError> {
        blocks::only_floats(self.name(), rows)?;
        let [halves] = fields else { panic!("one field, not {}", fields.len()) };
        halves::encode_into::<f16>(self.name(), rows, options, loops, halves)
    }

    fn default_block_rows(&self, _dtype: DType, dim: u32) -> u32 {
        blocks::fixed_block_rows(u64::from(dim) * 2)
    }
}

impl Half for f16 {
    const INFINITY: u16 = 0x7c00;

    fn of<T: Element>(value: T) -> f16 {
        value.as_f16()
    }

    fn narrow(loops: &dyn Loops, values: &[f32], halves: &mut [f16]) {
        loops.narrow_f16(values, halves);
    }

    fn bits(self) -> u16 {
        self.to_bits()
    }
}
