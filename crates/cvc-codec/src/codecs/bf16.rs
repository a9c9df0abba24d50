//! `bf16`: every value as a bfloat16, the upper half of an f32.

use cvc_format::DType;
use half::bf16;

use super::blocks;
use super::halves::{self, Half};
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::plan::{DecodePlan, Load, Stream};
use crate::rows::{Element, RowSlice};

/// Rounds each float once to bfloat16, to nearest even.
#[derive(Clone, Copy, Debug)]
pub struct Bf16;

impl Codec for Bf16 {
    fn name(&self) -> &'static str {
        "bf16"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        // What was packed as bfloat16 is bfloat16 still.
        if input == DType::Bf16 { DType::Bf16 } else { DType::F32 }
    }

    fn is_by_row(&self, _options: &EncodeOptions) -> bool {
        true
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        blocks::no_params(self.name(), chunk)?;
        blocks::stored_floats(self.name(), chunk)?;
        Ok(DecodePlan::new(chunk.shape, Load::WidenBf16, Stream::Stored, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        halves::encode::<bf16>(self.name(), rows, options, loops, out)
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
        halves::encode_into::<bf16>(self.name(), rows, options, loops, halves)
    }

    fn default_block_rows(&self, _dtype: DType, dim: u32) -> u32 {
        blocks::fixed_block_rows(u64::from(dim) * 2)
    }
}

impl Half for bf16 {
    const INFINITY: u16 = 0x7f80;

    fn of<T: Element>(value: T) -> bf16 {
        value.as_bf16()
    }

    fn narrow(loops: &dyn Loops, values: &[f32], halves: &mut [bf16]) {
        loops.narrow_bf16(values, halves);
    }

    fn bits(self) -> u16 {
        self.to_bits()
    }
}
