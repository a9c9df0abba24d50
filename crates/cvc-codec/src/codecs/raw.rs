//! `raw`: the values themselves, little-endian, row after row.

use cvc_format::{DType, Params};

use crate::codec::{Codec, CodecError, EncodedChunk};
use crate::ops::copy::copy;
use crate::plan::{ChunkShape, DecodePlan, Load};
use crate::rows::RowSlice;

/// Stores any dtype as it is.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Codec for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        input
    }

    fn plan(
        &self,
        shape: ChunkShape,
        dtype: DType,
        _params: &Params,
        payload_len: u64,
        out: DType,
    ) -> Result<DecodePlan, CodecError> {
        Ok(DecodePlan::new(shape, Load::Copy(dtype), out, payload_len)?)
    }

    fn encode(&self, rows: RowSlice<'_>, out: &mut EncodedChunk) -> Result<(), CodecError> {
        out.params = Params::None;
        out.payload.resize(rows.bytes().len(), 0);
        // Storing and loading are the same exchange of byte orders.
        copy(rows.bytes(), rows.dtype().size(), &mut out.payload);
        Ok(())
    }

    fn max_encoded_len(&self, shape: ChunkShape, dtype: DType) -> u64 {
        shape.values().saturating_mul(dtype.size() as u64)
    }
}
