//! `bit1`: one bit for each value of a centred and rotated row, and a scale for each row.

use cvc_format::DType;

use super::rotated;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::ops::rotated::RotatedCodes;
use crate::plan::DecodePlan;
use crate::rows::RowSlice;

/// One bit per value, rotated.
#[derive(Clone, Copy, Debug)]
pub struct Bit1;

impl Codec for Bit1 {
    fn name(&self) -> &'static str {
        "bit1"
    }

    fn decoded_dtype(&self, _input: DType) -> DType {
        DType::F32
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        rotated::plan(RotatedCodes::Bit1, chunk, out)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        rotated::encode(RotatedCodes::Bit1, rows, options, loops, out)
    }

    fn default_block_rows(&self, _dtype: DType, dim: u32) -> u32 {
        rotated::default_block_rows(RotatedCodes::Bit1, dim)
    }
}
