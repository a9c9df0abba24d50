//! `zstd`: the values as they are, each block packed as one plain zstd frame.

use cvc_format::DType;

use super::blocks;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::plan::{DecodePlan, Load, Stream};
use crate::rows::RowSlice;
use crate::stream::{Deflater, Packing};

/// Packs any dtype with zstd.
#[derive(Clone, Copy, Debug)]
pub struct Zstd;

impl Codec for Zstd {
    fn name(&self) -> &'static str {
        "zstd"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        input
    }

    fn is_lossless(&self) -> bool {
        true
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        blocks::no_params(self.name(), chunk)?;
        Ok(DecodePlan::new(chunk.shape, Load::Copy(chunk.dtype), Stream::Zstd, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        _loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        encode(self.name(), Packing::Zstd, rows, options, out)
    }

    fn default_block_rows(&self, dtype: DType, dim: u32) -> u32 {
        blocks::stream_block_rows(u64::from(dim) * dtype.size() as u64)
    }
}

/// Encodes rows as one lane of the little-endian bytes of each block.
pub(super) fn encode(
    codec: &'static str,
    packing: Packing,
    rows: RowSlice<'_>,
    options: &EncodeOptions,
    out: &mut EncodedChunk,
) -> Result<(), CodecError> {
    blocks::only_bools(codec, rows)?;
    let block_rows = blocks::stream_rows(codec, rows, options.block_rows)?;
    out.reset(0, 1);
    let lane = &mut out.lanes[0];
    let (mut deflater, mut scratch) = (Deflater::default(), Vec::new());
    for start in (0..rows.len()).step_by(block_rows) {
        let block = rows.slice(start..rows.len().min(start + block_rows));
        let bytes = blocks::little_endian(rows.dtype(), block.bytes(), &mut scratch);
        lane.lens.push(deflater.deflate(packing, bytes, &mut lane.bytes));
    }
    Ok(())
}
