//! What a file names: how rows become a payload, and a payload a plan.

use core::fmt::Debug;

use cvc_format::{DType, Params};
use thiserror::Error;

use crate::codecs;
use crate::plan::{ChunkShape, DecodePlan, PlanError};
use crate::rows::RowSlice;

/// A way to store rows.
///
/// To add one: a file in `codecs/`, a line in [`CODECS`], a page in `docs/codecs/`, a golden file.
pub trait Codec: Debug + Sync {
    /// The one name of this codec, among the codecs of all layouts.
    fn name(&self) -> &'static str;

    /// The dtype of the values that come out if nothing else is asked for, given the dtype that went in.
    fn decoded_dtype(&self, input: DType) -> DType;

    /// How to decode a chunk of `shape` whose payload has `payload_len` bytes.
    ///
    /// `dtype` is the array's (what went in), `out` what the caller wants.
    ///
    /// # Errors
    /// The parameters or the length do not fit the shape, or `out` cannot be had.
    fn plan(
        &self,
        shape: ChunkShape,
        dtype: DType,
        params: &Params,
        payload_len: u64,
        out: DType,
    ) -> Result<DecodePlan, CodecError>;

    /// Encodes `rows` as one chunk. What `out` held before is replaced; its memory is used again.
    ///
    /// # Errors
    /// The codec cannot take such rows.
    fn encode(&self, rows: RowSlice<'_>, out: &mut EncodedChunk) -> Result<(), CodecError>;

    /// No chunk of this shape and dtype encodes to more bytes.
    fn max_encoded_len(&self, shape: ChunkShape, dtype: DType) -> u64;
}

/// Every codec. The one list.
pub static CODECS: &[&dyn Codec] = &[
    &codecs::raw::Raw,
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
    /// The encoded values.
    pub payload: Vec<u8>,
    /// What decoding needs beside them.
    pub params: Params,
}

impl Default for EncodedChunk {
    fn default() -> Self {
        EncodedChunk { payload: Vec::new(), params: Params::None }
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
