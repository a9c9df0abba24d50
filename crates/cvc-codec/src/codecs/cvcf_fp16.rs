//! `cvcf.fp16`: every value as an IEEE binary16.

use cvc_format::{DType, Params};

use crate::codec::{Codec, CodecError, EncodedChunk};
use crate::plan::{ChunkShape, DecodePlan, Load};
use crate::rows::{Element, RowSlice, with_values};

/// Rounds each value once to binary16, to nearest even; magnitudes of 65,520 and more become infinities.
#[derive(Clone, Copy, Debug)]
pub struct CvcfFp16;

impl Codec for CvcfFp16 {
    fn name(&self) -> &'static str {
        "cvcf.fp16"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        // Halves that were packed are halves still.
        if input == DType::F16 { DType::F16 } else { DType::F32 }
    }

    fn plan(
        &self,
        shape: ChunkShape,
        _dtype: DType,
        _params: &Params,
        payload_len: u64,
        out: DType,
    ) -> Result<DecodePlan, CodecError> {
        Ok(DecodePlan::new(shape, Load::WidenF16, out, payload_len)?)
    }

    fn encode(&self, rows: RowSlice<'_>, out: &mut EncodedChunk) -> Result<(), CodecError> {
        out.params = Params::None;
        with_values!(rows, values => store(values, &mut out.payload));
        Ok(())
    }

    fn max_encoded_len(&self, shape: ChunkShape, _dtype: DType) -> u64 {
        shape.values().saturating_mul(2)
    }
}

/// Replaces `payload` by the little-endian halves of `values`.
fn store<T: Element>(values: &[T], payload: &mut Vec<u8>) {
    payload.resize(values.len() * 2, 0);
    for (value, half) in values.iter().zip(payload.as_chunks_mut().0) {
        *half = value.as_f16().to_bits().to_le_bytes();
    }
}
