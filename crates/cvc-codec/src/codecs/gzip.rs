//! `gzip`: the values as they are, each block packed as one gzip member.

use cvc_format::DType;

use super::{blocks, zstd};
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::plan::{DecodePlan, Load, Stream};
use crate::rows::RowSlice;
use crate::stream::Packing;

/// Packs any dtype with gzip.
#[derive(Clone, Copy, Debug)]
pub struct Gzip;

impl Codec for Gzip {
    fn name(&self) -> &'static str {
        "gzip"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        input
    }

    fn is_lossless(&self) -> bool {
        true
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        blocks::no_params(self.name(), chunk)?;
        Ok(DecodePlan::new(chunk.shape, Load::Copy(chunk.dtype), Stream::Gzip, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        _loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        zstd::encode(self.name(), Packing::Gzip, rows, options, out)
    }

    fn default_block_rows(&self, dtype: DType, dim: u32) -> u32 {
        blocks::stream_block_rows(u64::from(dim) * dtype.size() as u64)
    }
}
