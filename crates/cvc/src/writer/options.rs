//! What to write.

use cvc_codec::{EncodeOptions, NonFinite, Scope, find};
use cvc_format::cvcf::{VECTORS, codec_of, stored_names};
use cvc_format::{ArrayDType, DType, Json, Layout, cvcf, native};

use crate::error::Error;
use crate::io::atomic_file::Overwrite;
use crate::reader::Array;

/// What to write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    pub(super) layout: Layout,
    pub(super) arrays: Vec<ArrayOptions>,
    pub(super) chunk_rows: Option<u32>,
    pub(super) chunk_metadata: Vec<Json>,
    pub(super) metadata: Json,
    pub(super) sections_from_chunks: bool,
    pub(super) overwrite: Overwrite,
}

impl WriteOptions {
    /// A file in `layout`, without arrays yet.
    pub fn new(layout: Layout) -> Self {
        WriteOptions {
            layout,
            arrays: Vec::new(),
            chunk_rows: None,
            chunk_metadata: Vec::new(),
            metadata: Json::Object(Vec::new()),
            sections_from_chunks: false,
            overwrite: Overwrite::Allow,
        }
    }

    /// Adds the array `vectors`: rows of `dim` values.
    ///
    /// # Errors
    /// As [`WriteOptions::with_array`].
    pub fn vectors(self, dtype: DType, dim: u32, codec: &str) -> Result<Self, Error> {
        self.array(VECTORS, dtype, dim, codec)
    }

    /// Adds an array of rows of `dim` values.
    ///
    /// # Errors
    /// As [`WriteOptions::with_array`].
    pub fn array(self, name: &str, dtype: DType, dim: u32, codec: &str) -> Result<Self, Error> {
        self.with_array(ArrayOptions::values(name, dtype, &[dim], codec))
    }

    /// Adds an array.
    ///
    /// # Errors
    /// The layout has no such codec, or cannot hold such an array.
    pub fn with_array(mut self, mut array: ArrayOptions) -> Result<Self, Error> {
        let known: Vec<&str> = if self.layout == Layout::Native {
            let native = cvc_codec::CODECS.iter().filter(|codec| codec.is_native()).map(|codec| codec.name());
            native
                .filter(|name| array.dtype != ArrayDType::Utf8 || ["raw", "zstd", "gzip"].contains(name))
                .collect()
        } else {
            stored_names(self.layout).collect()
        };
        if !known.contains(&array.codec.as_str()) {
            let held = if array.dtype == ArrayDType::Utf8 { " for strings" } else { "" };
            let problem = format!("layout {} has the codecs {}{held}", self.layout, known.join(", "));
            return Err(Error::argument("codec", &array.codec, problem));
        }
        if let Some(codec) = codec_of(self.layout, &array.codec) {
            array.codec = codec.into();
        }
        if array.block_rows == Some(0) {
            return Err(Error::argument("block rows", 0, "a block holds at least 1 row"));
        }
        self.arrays.push(array);
        Ok(self)
    }

    /// Puts this many rows in every chunk but the last. By default as many as decode to 16 MiB (in native files the
    /// largest power of two that does).
    ///
    /// # Errors
    /// `rows` is 0.
    pub fn chunk_rows(mut self, rows: u32) -> Result<Self, Error> {
        if rows == 0 {
            return Err(Error::argument("chunk rows", rows, "a chunk holds at least 1 row"));
        }
        self.chunk_rows = Some(rows);
        Ok(self)
    }

    /// Metadata for the chunks of a CVCF file: one value for each, in order.
    #[must_use]
    pub fn chunk_metadata(mut self, metadata: Vec<Json>) -> Self {
        self.chunk_metadata = metadata;
        self
    }

    /// Metadata for the whole file, an object. Only native files have a place for it.
    ///
    /// # Errors
    /// It is not an object, or the layout has no place for it.
    pub fn metadata(mut self, metadata: Json) -> Result<Self, Error> {
        match metadata.as_object() {
            Some([]) => {}
            Some(_) if self.layout == Layout::Native => {}
            Some(_) => {
                let problem =
                    format!("layout {} has no place for metadata of the file; use sections", self.layout);
                return Err(Error::argument("metadata", "an object", problem));
            }
            None => return Err(Error::argument("metadata", "a value", "an object is needed")),
        }
        self.metadata = metadata;
        Ok(self)
    }

    /// Says that the sections were the metadata of chunks in a CVCF file, so that they can go back.
    pub(crate) fn sections_from_chunks(mut self, yes: bool) -> Self {
        self.sections_from_chunks = yes;
        self
    }

    /// Whether a file of that name may be replaced; by default it may.
    #[must_use]
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// The arrays as a CVCF header has them.
    pub(super) fn cvcf_arrays(&self) -> Result<Vec<cvcf::ArraySpec>, Error> {
        let specs = self.arrays.iter().map(|array| {
            let cannot = |what: &str| {
                let problem = format!("layout {} holds no {what}; write layout native", self.layout);
                Err(Error::argument("array", &array.name, problem))
            };
            let ArrayDType::Values(dtype) = array.dtype else { return cannot("strings") };
            let dim = match *array.inner.as_slice() {
                [] => 1,
                [dim] => dim,
                _ => return cannot("rows that are not a list of values"),
            };
            Ok(cvcf::ArraySpec {
                name: array.name.clone(),
                dtype,
                dim,
                codec: find(&array.codec)
                    .map_err(|error| Error::Encode { array: array.name.clone(), error })?
                    .name(),
            })
        });
        specs.collect()
    }
}

/// An array to be written.
#[derive(Clone, Debug)]
pub struct ArrayOptions {
    pub(super) name: String,
    pub(super) dtype: ArrayDType,
    pub(super) inner: Vec<u32>,
    pub(super) codec: String,
    pub(super) block_rows: Option<u32>,
    pub(super) scope: Scope,
    pub(super) nonfinite: NonFinite,
    pub(super) provenance: Option<Json>,
    /// What another file said of the codec, to be said again.
    codec_options: Option<Json>,
}

impl ArrayOptions {
    /// Rows of values; `inner` is the shape of a row: `[dim]` for a matrix, `[]` for a list of scalars. `codec` is one of
    /// the names of the layout: `raw`, `fp16`, `int8`, `int4`, ... in native files, `fp16`, `int8`, `lossless`, `none` in CVCF.
    pub fn values(name: impl Into<String>, dtype: DType, inner: &[u32], codec: impl Into<String>) -> Self {
        ArrayOptions {
            name: name.into(),
            dtype: dtype.into(),
            inner: inner.to_vec(),
            codec: codec.into(),
            block_rows: None,
            scope: Scope::default(),
            nonfinite: NonFinite::default(),
            provenance: None,
            codec_options: None,
        }
    }

    /// An array like one of a native file.
    pub(crate) fn like(array: Array<'_>) -> Self {
        let index = array.index();
        ArrayOptions {
            name: index.name.clone(),
            dtype: index.dtype,
            inner: index.inner.clone(),
            codec: index.codec.to_string(),
            provenance: index.provenance.clone(),
            codec_options: Some(index.codec_options.clone()),
            ..ArrayOptions::strings("", "")
        }
    }

    /// The same array by another name.
    pub(crate) fn named(self, name: &str) -> Self {
        ArrayOptions { name: name.into(), ..self }
    }

    /// Strings, one a row; the codec is `raw`, `zstd` or `gzip`.
    pub fn strings(name: impl Into<String>, codec: impl Into<String>) -> Self {
        ArrayOptions { dtype: ArrayDType::Utf8, ..ArrayOptions::values(name, DType::U8, &[], codec) }
    }

    /// Puts this many rows in a block; by default what the page of the codec says. Only native files have blocks.
    #[must_use]
    pub fn block_rows(self, rows: u32) -> Self {
        ArrayOptions { block_rows: Some(rows), ..self }
    }

    /// Which values share their parameters; by default those of a row.
    #[must_use]
    pub fn scope(self, scope: Scope) -> Self {
        ArrayOptions { scope, ..self }
    }

    /// What to do with values that the codec cannot represent; by default they are refused.
    #[must_use]
    pub fn nonfinite(self, nonfinite: NonFinite) -> Self {
        ArrayOptions { nonfinite, ..self }
    }

    /// Adds options of the codec as another file said them, to be said again; for rows that are copied as they are.
    #[must_use]
    pub fn codec_options(self, options: Json) -> Self {
        ArrayOptions { codec_options: Some(options), ..self }
    }

    /// Says where the values come from: an object. The keys `model`, `revision`, `normalized`, `prefix` and `dimension` are
    /// reserved for what they say.
    #[must_use]
    pub fn provenance(self, provenance: Json) -> Self {
        ArrayOptions { provenance: Some(provenance), ..self }
    }

    /// Values of a row.
    pub(super) fn dim(&self) -> u32 {
        self.inner.iter().fold(1u32, |product, len| product.saturating_mul(*len))
    }

    /// Bytes of a row as it comes in; 0 for strings.
    pub(super) fn row_len(&self) -> usize {
        let size = self.dtype.values().map_or(0, DType::size);
        (self.dim() as usize).saturating_mul(size)
    }

    /// The options for the codec.
    pub(super) fn encode_options(&self) -> Result<EncodeOptions, Error> {
        let codec = find(&self.codec).map_err(|error| Error::Encode { array: self.name.clone(), error })?;
        let default = self.dtype.values().map_or(1, |dtype| codec.default_block_rows(dtype, self.dim()));
        let mut options = EncodeOptions::new(self.block_rows.unwrap_or(default));
        options.scope = self.scope;
        options.nonfinite = self.nonfinite;
        Ok(options)
    }

    /// The array as a native file has it.
    pub(super) fn native(&self) -> Result<native::ArraySpec, Error> {
        let codec = find(&self.codec).map_err(|error| Error::Encode { array: self.name.clone(), error })?;
        let said = match &self.codec_options {
            Some(options) => options.clone(),
            None => Json::object(codec.options(&self.encode_options()?)),
        };
        Ok(native::ArraySpec {
            name: self.name.clone(),
            dtype: self.dtype,
            inner: self.inner.clone(),
            codec: self.codec.clone(),
            codec_options: said,
            provenance: self.provenance.clone(),
        })
    }
}
