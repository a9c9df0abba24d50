//! `raw`: the values themselves, little-endian, row after row.

use cvc_format::DType;

use super::blocks;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, StoredChunk};
use crate::loops::Loops;
use crate::ops::copy::copy;
use crate::plan::{DecodePlan, Load, Stream};
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

    fn is_lossless(&self) -> bool {
        true
    }

    fn is_by_row(&self, _options: &EncodeOptions) -> bool {
        true
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        blocks::no_params(self.name(), chunk)?;
        Ok(DecodePlan::new(chunk.shape, Load::Copy(chunk.dtype), Stream::Stored, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        _options: &EncodeOptions,
        _loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        blocks::only_bools(self.name(), rows)?;
        out.reset(1, 0);
        let field = &mut out.fields[0];
        field.width = blocks::width(self.name(), rows, rows.dtype().size())?;
        field.bytes.resize(rows.bytes().len(), 0);
        // Storing and loading are the same exchange of byte orders.
        copy(rows.bytes(), rows.dtype().component_size(), &mut field.bytes);
        Ok(())
    }

    fn encode_into(
        &self,
        rows: RowSlice<'_>,
        _options: &EncodeOptions,
        _loops: &dyn Loops,
        fields: &mut [&mut [u8]],
    ) -> Result<(), CodecError> {
        blocks::only_bools(self.name(), rows)?;
        let [values] = fields else { panic!("one field, not {}", fields.len()) };
        copy(rows.bytes(), rows.dtype().component_size(), values);
        Ok(())
    }

    fn default_block_rows(&self, dtype: DType, dim: u32) -> u32 {
        blocks::fixed_block_rows(u64::from(dim) * dtype.size() as u64)
    }
}
