//! `cvcf.lossless`: upstream's byte planes, each a dictionary and bit-packed indexes into it.

use cvc_format::DType;

use super::blocks;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::ops::dict_planes;
use crate::plan::{DecodePlan, Load, Stream};
use crate::rows::{Element, RowSlice, with_values};

/// Keeps every bit of f32 values; other dtypes become f32 first.
#[derive(Clone, Copy, Debug)]
pub struct CvcfLossless;

impl Codec for CvcfLossless {
    fn name(&self) -> &'static str {
        "cvcf.lossless"
    }

    fn decoded_dtype(&self, _input: DType) -> DType {
        DType::F32
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        Ok(DecodePlan::new(chunk.shape, Load::DictPlanes, Stream::Stored, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        _options: &EncodeOptions,
        _loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        blocks::only_reals(self.name(), rows)?;
        let values = rows.bytes().len() / rows.dtype().size();
        if u32::try_from(values).is_err() {
            let problem =
                format!("{values} values in one chunk, 4294967295 are possible; use fewer rows a chunk");
            return Err(CodecError::Input { codec: self.name(), problem });
        }
        out.reset(0, 1);
        let payload = &mut out.lanes[0].bytes;
        with_values!(rows, values => {
            dict_planes::encode(values.iter().map(|value| value.as_f32()), payload);
        });
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        out.lanes[0].lens.push(len);
        Ok(())
    }

    fn default_block_rows(&self, _dtype: DType, _dim: u32) -> u32 {
        1
    }
}
