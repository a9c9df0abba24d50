//! `cvcf.lossless`: upstream's byte planes, each a dictionary and bit-packed indexes into it.

use cvc_format::{DType, Params};

use crate::codec::{Codec, CodecError, EncodedChunk};
use crate::ops::dict_planes;
use crate::plan::{ChunkShape, DecodePlan, Load};
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

    fn plan(
        &self,
        shape: ChunkShape,
        _dtype: DType,
        _params: &Params,
        payload_len: u64,
        out: DType,
    ) -> Result<DecodePlan, CodecError> {
        Ok(DecodePlan::new(shape, Load::DictPlanes, out, payload_len)?)
    }

    fn encode(&self, rows: RowSlice<'_>, out: &mut EncodedChunk) -> Result<(), CodecError> {
        let values = rows.bytes().len() / rows.dtype().size();
        if u32::try_from(values).is_err() {
            let problem =
                format!("{values} values in one chunk, 4294967295 are possible; use fewer rows a chunk");
            return Err(CodecError::Input { codec: self.name(), problem });
        }
        out.params = Params::None;
        out.payload.clear();
        with_values!(rows, values => {
            dict_planes::encode(values.iter().map(|value| value.as_f32()), &mut out.payload);
        });
        Ok(())
    }

    fn max_encoded_len(&self, shape: ChunkShape, _dtype: DType) -> u64 {
        // Four full dictionaries and eight bits for each byte.
        shape.values().saturating_mul(4).saturating_add(dict_planes::MIN_LEN + 4 * 256)
    }
}
