//! `int4`: four bits for each value of a centred and rotated row, and a scale for each row.

use cvc_format::DType;

use super::rotated;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::ops::rotated::RotatedCodes;
use crate::plan::DecodePlan;
use crate::rows::RowSlice;

/// Four bits per value, rotated.
#[derive(Clone, Copy, Debug)]
pub struct Int4;

impl Codec for Int4 {
    fn name(&self) -> &'static str {
        "int4"
    }

    fn decoded_dtype(&self, _input: DType) -> DType {
        DType::F32
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        rotated::plan(RotatedCodes::Int4, chunk, out)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        rotated::encode(RotatedCodes::Int4, rows, options, loops, out)
    }

    fn default_block_rows(&self, _dtype: DType, dim: u32) -> u32 {
        rotated::default_block_rows(RotatedCodes::Int4, dim)
    }
}
