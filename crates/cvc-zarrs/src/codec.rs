//! The codec: its metadata, and whole chunks.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use cvc::{
    AlignedBytes, Array, ArrayOptions, CpuBackend, DType, HostBuffer, Layout, NonFinite, Reader, RowSlice,
    Rows, Scope, WriteOptions, Writer,
};
use serde::{Deserialize, Serialize};
use zarrs_codec::{
    ArrayBytes, ArrayBytesRaw, ArrayCodecTraits, ArrayPartialDecoderTraits, ArrayToBytesCodecTraits,
    BytesPartialDecoderTraits, BytesRepresentation, Codec, CodecError, CodecMetadataOptions, CodecOptions,
    CodecPluginV3, CodecTraits, CodecTraitsV3, PartialDecoderCapability, PartialEncoderCapability,
    RecommendedConcurrency,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_metadata::v3::MetadataV3;
use zarrs_metadata::{Configuration, ConfigurationSerialize};
use zarrs_plugin::{PluginCreateError, ZarrVersion};

use crate::partial::PartialDecoder;
use crate::shape::{FileShape, dtype_of};

/// The name of the codec in metadata.
pub(crate) const NAME: &str = "cvc";

/// The name of the array in each chunk's file.
const VALUES: &str = "values";

/// Codecs that are for floats, and those that are for all values.
const OF_FLOATS: [&str; 6] = ["lossless", "fp16", "bf16", "int8", "int4", "bit1"];
const OF_ALL: [&str; 3] = ["raw", "zstd", "gzip"];

/// Keeps each chunk as a native file of rows.
///
/// What is not said is left to the writer: every bit is kept, by `lossless` for floats and `zstd` for all else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CvcCodec {
    options: Options,
}

/// The configuration, as it is in metadata. Decoding needs none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    codec: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_rows: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_rows: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonfinite: Option<String>,
}

impl ConfigurationSerialize for Options {}

zarrs_plugin::impl_extension_aliases!(CvcCodec, v3: "cvc");

inventory::submit! {
    CodecPluginV3::new::<CvcCodec>()
}

impl CodecTraitsV3 for CvcCodec {
    fn create(metadata: &MetadataV3) -> Result<Codec, PluginCreateError> {
        let options: Options = metadata.to_typed_configuration()?;
        Ok(Codec::ArrayToBytes(Arc::new(CvcCodec::checked(options)?)))
    }
}

impl CvcCodec {
    /// A codec that keeps every bit.
    pub fn new() -> Self {
        CvcCodec::default()
    }

    /// How values are kept: `lossless`, `raw`, `zstd` and `gzip` keep every bit; `fp16`, `bf16`, `int8`, `int4` and `bit1` are for
    /// floats and lose some.
    ///
    /// # Errors
    /// There is no such codec.
    pub fn codec(mut self, codec: &str) -> Result<Self, PluginCreateError> {
        self.options.codec = Some(codec.to_owned());
        CvcCodec::checked(self.options)
    }

    /// Rows that have a checksum together and are the least that is read. By default what the page of the codec says.
    ///
    /// # Errors
    /// `rows` is 0.
    pub fn block_rows(mut self, rows: u32) -> Result<Self, PluginCreateError> {
        self.options.block_rows = Some(rows);
        CvcCodec::checked(self.options)
    }

    /// Rows that are encoded together. By default as many as decode to 16 MiB.
    ///
    /// # Errors
    /// `rows` is 0.
    pub fn chunk_rows(mut self, rows: u32) -> Result<Self, PluginCreateError> {
        self.options.chunk_rows = Some(rows);
        CvcCodec::checked(self.options)
    }

    /// What shares a scale in `int8`: `row` (the default), `dim` or `chunk`.
    ///
    /// # Errors
    /// It is another word.
    pub fn scope(mut self, scope: &str) -> Result<Self, PluginCreateError> {
        self.options.scope = Some(scope.to_owned());
        CvcCodec::checked(self.options)
    }

    /// What becomes of values that the codec cannot hold: `refuse` (the default) or `saturate`.
    ///
    /// # Errors
    /// It is another word.
    pub fn nonfinite(mut self, nonfinite: &str) -> Result<Self, PluginCreateError> {
        self.options.nonfinite = Some(nonfinite.to_owned());
        CvcCodec::checked(self.options)
    }

    fn checked(options: Options) -> Result<CvcCodec, PluginCreateError> {
        let wrong = |what: &str, found: &dyn std::fmt::Debug, needed: String| {
            PluginCreateError::Other(format!("{what} of codec {NAME} is {found:?}: {needed}"))
        };
        let word = |what: &str, found: &Option<String>, known: &[&str]| match found {
            Some(word) if !known.contains(&word.as_str()) => {
                Err(wrong(what, word, format!("one of {} is needed", known.join(", "))))
            }
            _ => Ok(()),
        };
        word("codec", &options.codec, &[&OF_FLOATS[..], &OF_ALL].concat())?;
        word("scope", &options.scope, &["row", "dim", "chunk"])?;
        word("nonfinite", &options.nonfinite, &["refuse", "saturate"])?;
        for (what, rows) in [("block_rows", options.block_rows), ("chunk_rows", options.chunk_rows)] {
            if rows == Some(0) {
                return Err(wrong(what, &0, "a number of rows, 1 or more, is needed".into()));
            }
        }
        Ok(CvcCodec { options })
    }

    /// The shape of the file of a chunk, if it can be one and the codec is for its values.
    fn file_shape(&self, shape: &[NonZeroU64], data_type: &DataType) -> Result<FileShape, CodecError> {
        let of_floats = self.options.codec.as_deref().filter(|codec| OF_FLOATS.contains(codec));
        if let Some(codec) = of_floats
            && !dtype_of(data_type)?.is_float()
        {
            return Err(CodecError::Other(format!(
                "codec {codec:?} is for floats, not for {data_type}: leave it out, or use one of {}",
                OF_ALL.join(", ")
            )));
        }
        FileShape::of(shape, data_type)
    }

    fn writing(&self, shape: &FileShape) -> Result<WriteOptions, cvc::Error> {
        let options = &self.options;
        let default = if shape.dtype.is_float() { "lossless" } else { "zstd" };
        let codec = options.codec.as_deref().unwrap_or(default);
        let mut array = ArrayOptions::values(VALUES, shape.dtype, &shape.inner, codec);
        if let Some(rows) = options.block_rows {
            array = array.block_rows(rows);
        }
        array = array.scope(match options.scope.as_deref() {
            Some("dim") => Scope::Dim,
            Some("chunk") => Scope::Chunk,
            _ => Scope::Row,
        });
        array = array.nonfinite(match options.nonfinite.as_deref() {
            Some("saturate") => NonFinite::Saturate,
            _ => NonFinite::Refuse,
        });
        let writing = WriteOptions::new(Layout::Native).with_array(array)?;
        match options.chunk_rows {
            Some(rows) => writing.chunk_rows(rows),
            None => Ok(writing),
        }
    }
}

impl CodecTraits for CvcCodec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(&self, _: ZarrVersion, _: &CodecMetadataOptions) -> Option<Configuration> {
        Some(self.options.clone().into())
    }

    fn partial_decoder_capability(&self) -> PartialDecoderCapability {
        PartialDecoderCapability { partial_read: true, partial_decode: true }
    }

    fn partial_encoder_capability(&self) -> PartialEncoderCapability {
        PartialEncoderCapability { partial_encode: false }
    }
}

impl ArrayCodecTraits for CvcCodec {
    fn recommended_concurrency(
        &self,
        _: &[NonZeroU64],
        _: &DataType,
    ) -> Result<RecommendedConcurrency, CodecError> {
        // Zarrs has chunks side by side; within one there is no need for more.
        Ok(RecommendedConcurrency::new_maximum(1))
    }

    fn partial_decode_granularity(&self, shape: &[NonZeroU64]) -> Vec<NonZeroU64> {
        // A row, of which blocks have some; how many depends on what is encoded.
        let mut granularity = shape.to_vec();
        if let Some(first) = granularity.first_mut() {
            *first = NonZeroU64::MIN;
        }
        granularity
    }
}

impl ArrayToBytesCodecTraits for CvcCodec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToBytesCodecTraits> {
        self
    }

    fn encoded_representation(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _: &FillValue,
    ) -> Result<BytesRepresentation, CodecError> {
        self.file_shape(shape, data_type)?;
        Ok(BytesRepresentation::UnboundedSize)
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _: &FillValue,
        _: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let of = self.file_shape(shape, data_type)?;
        bytes.validate(of.rows * of.dim(), data_type)?;
        let bytes = bytes.into_fixed()?;
        let mut aligned = AlignedBytes::new();
        let bytes = if bytes.as_ptr().addr().is_multiple_of(of.dtype.size().min(8)) {
            &bytes
        } else {
            let into = aligned.resize(bytes.len());
            into.copy_from_slice(&bytes);
            aligned.bytes()
        };
        let (rows, dim) = (index(of.rows), index(of.dim()));
        let write = || {
            let mut writer = Writer::in_memory(self.writing(&of)?)?;
            writer.write_last(&[RowSlice::from_bytes(of.dtype, rows, dim, bytes)?])?;
            writer.finish_bytes()
        };
        Ok(Cow::Owned(write().map_err(other)?))
    }

    fn decode<'a>(
        &self,
        bytes: ArrayBytesRaw<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        _: &FillValue,
        _: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        let reader = Reader::from_bytes(bytes.into_owned()).map_err(other)?;
        let shape = FileShape::of(shape, data_type)?;
        let values = decoded(values_of(&reader, &shape)?, Rows::from(..), shape.dtype)?;
        Ok(ArrayBytes::new_flen(values))
    }

    fn partial_decoder(
        self: Arc<Self>,
        input_handle: Arc<dyn BytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        _: &CodecOptions,
    ) -> Result<Arc<dyn ArrayPartialDecoderTraits>, CodecError> {
        let of = FileShape::of(shape, data_type)?;
        let shape = shape.iter().map(|len| len.get()).collect();
        Ok(Arc::new(PartialDecoder::new(input_handle, of, shape, data_type.clone(), fill_value.clone())))
    }
}

/// The values of a chunk's file, if they are those of such a chunk. How its shape was made rows is the writer's choice.
pub(crate) fn values_of<'r>(reader: &'r Reader, shape: &FileShape) -> Result<Array<'r>, CodecError> {
    let array = reader
        .array(VALUES)
        .map_err(|error| CodecError::Other(format!("the chunk is no chunk of Zarr: {error}")))?;
    let index = array.index();
    if index.dtype != shape.dtype.into() || index.rows != shape.rows || u64::from(index.dim) != shape.dim() {
        return Err(CodecError::Other(format!(
            "the chunk holds {} rows of {} {} values, and {} of {} {} were expected",
            index.rows,
            index.dim,
            index.dtype,
            shape.rows,
            shape.dim(),
            shape.dtype
        )));
    }
    Ok(array)
}

/// Rows as bytes of values in native order.
pub(crate) fn decoded(array: Array<'_>, rows: Rows, dtype: DType) -> Result<Vec<u8>, CodecError> {
    // Earned: the file has the bytes that so many rows need, before any memory is asked for.
    let mut values = vec![0; array.decoded_len(rows.clone(), dtype).map_err(other)?];
    if values.as_ptr().addr().is_multiple_of(dtype.size().min(8)) {
        let mut buffer = HostBuffer::from_bytes(dtype, &mut values).map_err(|error| other(error.into()))?;
        array.decode(&CpuBackend::new(), rows, dtype, &mut buffer).map_err(other)?;
    } else {
        let mut aligned = AlignedBytes::new();
        let into = aligned.resize(values.len());
        let mut buffer = HostBuffer::from_bytes(dtype, into).map_err(|error| other(error.into()))?;
        array.decode(&CpuBackend::new(), rows, dtype, &mut buffer).map_err(other)?;
        values.copy_from_slice(aligned.bytes());
    }
    Ok(values)
}

/// An error of `cvc` as one of zarrs, which has no place for its parts.
pub(crate) fn other(error: cvc::Error) -> CodecError {
    CodecError::Other(error.to_string())
}

/// A number of rows or values that are in memory.
pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number).expect("it is in memory")
}
