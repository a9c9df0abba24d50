//! What a file names: how rows become a payload, and a payload a plan.

use core::fmt::Debug;

use std::sync::Arc;

use cvc_format::{DType, Json, Params, Parts};
use thiserror::Error;

use crate::codecs;
use crate::loops::Loops;
use crate::plan::{ChunkShape, DecodePlan, PlanError};
use crate::rows::RowSlice;

/// A way to store rows.
///
/// To add one: a file in `codecs/`, a line in [`CODECS`], a page in `docs/codecs/`, a golden file.
pub trait Codec: Debug + Sync {
    /// The one name of this codec, among the codecs of all layouts. Those of the CVCF layouts begin with `cvcf`.
    fn name(&self) -> &'static str;

    /// Whether native files may name it.
    fn is_native(&self) -> bool {
        !self.name().starts_with("cvcf")
    }

    /// The dtype of the values that come out if nothing else is asked for, given the dtype that went in.
    fn decoded_dtype(&self, input: DType) -> DType;

    /// Whether every value comes back bit for bit, in the dtype that went in, so that there is no loss to measure.
    fn is_lossless(&self) -> bool {
        false
    }

    /// Whether a row is encoded alike whatever rows are encoded with it, into fields alone and without parameters: then a chunk
    /// may be encoded some blocks at a time.
    fn is_by_row(&self, options: &EncodeOptions) -> bool {
        let _ = options;
        false
    }

    /// How to decode a chunk to values of `out`.
    ///
    /// # Errors
    /// The parameters or the parts do not fit the shape, or `out` cannot be had.
    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError>;

    /// Encodes `rows`, of which there is at least one, as one chunk. What `out` held before is replaced; its memory is
    /// used again. `loops` decides nothing but how long it takes.
    ///
    /// # Errors
    /// The codec cannot take such rows.
    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError>;

    /// Encodes `rows` straight to where they belong, if the codec [is by row](Codec::is_by_row): `fields` are the places of the
    /// fields that [`Codec::encode`] makes, and get the same bytes.
    ///
    /// # Errors
    /// As [`Codec::encode`]; what the places hold then is not said.
    ///
    /// # Panics
    /// The fields are others, or not as long.
    fn encode_into(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        fields: &mut [&mut [u8]],
    ) -> Result<(), CodecError> {
        let mut chunk = EncodedChunk::default();
        self.encode(rows, options, loops, &mut chunk)?;
        assert_eq!(chunk.fields.len(), fields.len(), "fields");
        fields.iter_mut().zip(&chunk.fields).for_each(|(place, field)| place.copy_from_slice(&field.bytes));
        Ok(())
    }

    /// Rows to a block of a native chunk unless the caller chooses: see [`EncodeOptions::block_rows`].
    fn default_block_rows(&self, dtype: DType, dim: u32) -> u32;

    /// What a native file says of this codec beside its name, given these options: pairs of key and value.
    fn options(&self, options: &EncodeOptions) -> Vec<(&'static str, Json)> {
        let _ = options;
        Vec::new()
    }
}

/// What a file says of one chunk.
#[derive(Clone, Copy, Debug)]
pub struct StoredChunk<'a> {
    /// The matrix in it.
    pub shape: ChunkShape,
    /// The dtype of the array: what went in.
    pub dtype: DType,
    /// What the codec needs to know beside the bytes.
    pub params: &'a Params,
    /// Where the rows lie; opaque in CVCF files.
    pub parts: &'a Arc<Parts>,
}

/// How to encode. CVCF codecs have no options and ignore them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// Rows to a block: the unit of checksum, and of what is read for one row. At least 1.
    pub block_rows: u32,
    /// Which values of a chunk share their parameters, for codecs that have any.
    pub scope: Scope,
    /// What to do with values that the codec cannot represent.
    pub nonfinite: NonFinite,
}

impl EncodeOptions {
    /// Blocks of so many rows, all else as by default.
    pub fn new(block_rows: u32) -> Self {
        EncodeOptions { block_rows, scope: Scope::default(), nonfinite: NonFinite::default() }
    }
}

/// Which values of a chunk share their parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The values of a row.
    #[default]
    Row,
    /// The values of a dim.
    Dim,
    /// All values.
    Chunk,
}

impl Scope {
    /// The name in files and on the command line: `row`, `dim`, `chunk`.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Row => "row",
            Scope::Dim => "dim",
            Scope::Chunk => "chunk",
        }
    }
}

/// What to do with values that a lossy codec cannot represent: NaN and infinities for `int8`, `int4` and `bit1`, finite values out of range
/// for `fp16` and `bf16`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// Refuse them, naming row and column.
    #[default]
    Refuse,
    /// Take the nearest value that can be had; the measured loss shows it. The page of each codec says which.
    Saturate,
}

/// Every codec. The one list.
pub static CODECS: &[&dyn Codec] = &[
    &codecs::raw::Raw,
    &codecs::fp16::Fp16,
    &codecs::bf16::Bf16,
    &codecs::int8::Int8,
    &codecs::int4::Int4,
    &codecs::bit1::Bit1,
    &codecs::lossless::Lossless,
    &codecs::zstd::Zstd,
    &codecs::gzip::Gzip,
    &codecs::cvcf_fp16::CvcfFp16,
    &codecs::cvcf_int8::CvcfInt8,
    &codecs::cvcf0_int8::Cvcf0Int8,
    &codecs::cvcf_lossless::CvcfLossless,
];

/// The codec of this name.
///
/// # Errors
/// There is none; the message lists those there are.
pub fn find(name: &str) -> Result<&'static dyn Codec, CodecError> {
    CODECS
        .iter()
        .copied()
        .find(|codec| codec.name() == name)
        .ok_or_else(|| CodecError::Unknown { name: name.into() })
}

/// One encoded chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedChunk {
    /// What decoding needs beside the bytes.
    pub params: Params,
    /// Matrices of bytes, one after another.
    pub fields: Vec<EncodedField>,
    /// Streams, after the fields. A CVCF payload without rows is one stream.
    pub lanes: Vec<EncodedLane>,
}

/// The rows of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedField {
    /// Bytes of a row. Codecs of `CVCF` files leave it 0: a payload says nothing of its rows.
    pub width: u32,
    /// All rows, one after another.
    pub bytes: Vec<u8>,
}

/// The streams of one lane, one for each block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedLane {
    /// The streams one after another, without padding.
    pub bytes: Vec<u8>,
    /// Bytes of each.
    pub lens: Vec<u32>,
}

impl Default for EncodedChunk {
    fn default() -> Self {
        EncodedChunk { params: Params::None, fields: Vec::new(), lanes: Vec::new() }
    }
}

impl EncodedChunk {
    /// Forgets everything but its memory, and makes it `fields` fields and `lanes` empty lanes. Fields keep what bytes they
    /// have, for a codec to resize and to write over: making zeros of them first would take half as long as encoding.
    pub fn reset(&mut self, fields: usize, lanes: usize) {
        self.params = Params::None;
        self.fields.resize_with(fields, EncodedField::default);
        self.lanes.resize_with(lanes, EncodedLane::default);
        for field in &mut self.fields {
            field.width = 0;
        }
        for lane in &mut self.lanes {
            lane.bytes.clear();
            lane.lens.clear();
        }
    }

    /// The bytes of all fields and lanes, in order: the payload of a CVCF chunk.
    pub fn payload(&self) -> impl Iterator<Item = &[u8]> {
        let fields = self.fields.iter().map(|field| field.bytes.as_slice());
        fields.chain(self.lanes.iter().map(|lane| lane.bytes.as_slice()))
    }

    /// How many bytes [`EncodedChunk::payload`] are.
    pub fn payload_len(&self) -> u64 {
        self.payload().map(|bytes| bytes.len() as u64).sum()
    }
}

/// Why a codec cannot do what was asked.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum CodecError {
    /// No codec has this name.
    #[error("codec \"{name}\" is unknown to this version of cvc, which has {}", known())]
    Unknown {
        /// The name.
        name: String,
    },
    /// The chunk's parameters are not those of its codec.
    #[error("codec {codec} needs {needs} for each chunk: the file is damaged")]
    Params {
        /// The codec.
        codec: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// The payload or the dtype wanted does not fit.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A value that the codec cannot represent.
    #[error(
        "codec {codec} cannot represent {value} (row {row}, column {column}): clean the vectors, allow it to saturate, or \
         choose a codec that can (raw, lossless)"
    )]
    Value {
        /// The codec.
        codec: &'static str,
        /// Which row, counted from the first that was encoded.
        row: usize,
        /// Which of its values.
        column: usize,
        /// The value.
        value: f64,
    },
    /// A row that the codec cannot take.
    #[error("codec {codec} cannot encode row {row}: {problem}")]
    Row {
        /// The codec.
        codec: &'static str,
        /// Which row, counted from the first that was encoded.
        row: usize,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Rows that the codec cannot take.
    #[error("codec {codec} cannot encode this: {problem}")]
    Input {
        /// The codec.
        codec: &'static str,
        /// What is wrong with the rows, and what to do.
        problem: String,
    },
}

fn known() -> String {
    CODECS.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for codec in CODECS {
            assert_eq!(find(codec.name()).unwrap().name(), codec.name());
            assert_eq!(CODECS.iter().filter(|other| other.name() == codec.name()).count(), 1);
        }
        let error = find("int9").unwrap_err().to_string();
        assert!(error.contains("\"int9\"") && error.contains("cvcf.int8"), "{error}");
    }
}
