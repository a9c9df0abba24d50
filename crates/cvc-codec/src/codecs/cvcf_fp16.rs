//! `cvcf.fp16`: every value as an IEEE binary16.

use cvc_format::DType;
use half::f16;

use super::{blocks, halves};
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::plan::{DecodePlan, Load, Stream};
use crate::rows::RowSlice;

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

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        Ok(DecodePlan::new(chunk.shape, Load::WidenF16, Stream::Stored, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        _options: &EncodeOptions,
        loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        blocks::only_reals(self.name(), rows)?;
        out.reset(1, 0);
        halves::narrow::<f16>(rows, loops, &mut out.fields[0].bytes, |_, _| Ok(()))
    }

    fn default_block_rows(&self, _dtype: DType, _dim: u32) -> u32 {
        1
    }
}
