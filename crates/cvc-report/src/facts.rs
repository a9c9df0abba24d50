//! What the index of a file says, without a look at the rows.

use std::ops::Range;

use cvc::format::{BlockedChunk, Stored};
use cvc::{Array, ArrayDType, Coverage, Json, Layout, Loss, Reader};

use crate::measure::ValuesReport;
use crate::recall::Recall;
use crate::strings::StringsReport;

/// What is known of a file as a whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileFacts {
    /// Which layout it is in.
    pub layout: Layout,
    /// Its length in bytes.
    pub len: u64,
    /// What its checksums are over.
    pub coverage: Coverage,
    /// Regions that have a checksum of their own and hold rows: blocks, or chunks.
    pub checked: u64,
    /// Bytes after the last chunk.
    pub trailing_len: u64,
    /// What the writer said of it: an object.
    pub metadata: Json,
}

/// One array.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ArrayReport {
    /// Its name.
    pub name: String,
    /// What was packed.
    pub dtype: ArrayDType,
    /// Its rows.
    pub rows: u64,
    /// Values in a row.
    pub dim: u32,
    /// Its shape, as NumPy has it.
    pub shape: Vec<u64>,
    /// Its codec.
    pub codec: String,
    /// What the file says of the codec: an object.
    pub params: Json,
    /// Where the values come from, if the file says so.
    pub provenance: Option<Json>,
    /// The chunks, in row order.
    pub chunks: Vec<ChunkReport>,
    /// Rows in a block; `None` where there are no blocks.
    pub block_rows: Option<u32>,
    /// Bytes that it takes in the file.
    pub stored_len: u64,
    /// Bytes of its values, decoded; `None` for strings and what this version does not know.
    pub decoded_len: Option<u64>,
    /// What encoding lost, as the file says; `None` if it does not.
    pub stored_loss: Option<Loss>,
    /// What is in it.
    pub content: Content,
    /// How many of the nearest rows are still found, where there are originals to compare with.
    pub recall: Option<Recall>,
}

impl ArrayReport {
    /// Bytes that a value takes in the file, with everything that belongs to it: parameters, checksums, padding.
    pub fn bytes_per_value(&self) -> Option<f64> {
        let values = self.rows.saturating_mul(u64::from(self.dim));
        (values > 0 && self.decoded_len.is_some()).then(|| self.stored_len as f64 / values as f64)
    }

    /// How many times smaller it is than its values.
    pub fn ratio(&self) -> Option<f64> {
        let decoded_len = self.decoded_len.filter(|len| *len > 0)?;
        (self.stored_len > 0).then(|| decoded_len as f64 / self.stored_len as f64)
    }
}

/// One chunk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChunkReport {
    /// Its rows.
    pub rows: Range<u64>,
    /// Bytes that it takes in the file.
    pub stored_len: u64,
    /// Its codec.
    pub codec: String,
    /// What encoding lost, as the file says; `None` if it does not.
    pub stored_loss: Option<Loss>,
}

/// What is in an array.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Content {
    /// Values.
    Values(Box<ValuesReport>),
    /// Strings.
    Strings(StringsReport),
    /// It was not asked for.
    NotAsked,
    /// It cannot be read, and why.
    Unreadable(String),
}

pub(crate) fn file(reader: &Reader) -> FileFacts {
    let index = reader.index();
    let (coverage, checked) = match reader.layout() {
        Layout::Native => (Coverage::Blocks, blocks(reader)),
        layout if layout.has_checksums() => (Coverage::Chunks, index.frames.len() as u64),
        _ => (Coverage::None, 0),
    };
    FileFacts {
        layout: reader.layout(),
        len: reader.source().len(),
        coverage,
        checked,
        trailing_len: index.trailing_len,
        metadata: index.metadata.clone(),
    }
}

fn blocks(reader: &Reader) -> u64 {
    let chunks = reader.index().arrays.iter().flat_map(|array| &array.chunks);
    let blocks = chunks.map(|chunk| match chunk.stored {
        Stored::Blocked(blocked) => u64::from(blocked.block_count(chunk.row_count())),
        Stored::Framed { .. } => 1,
    });
    blocks.sum()
}

/// Everything but what is in it.
pub(crate) fn array(array: Array<'_>) -> ArrayReport {
    let index = array.index();
    let chunks = index.chunks.iter().map(|chunk| ChunkReport {
        rows: chunk.rows.clone(),
        stored_len: chunk.bytes.end - chunk.bytes.start,
        codec: chunk.codec.to_string(),
        stored_loss: match chunk.stored {
            Stored::Blocked(BlockedChunk { loss, .. }) => {
                let Loss { max_abs_error, mse, min_cosine } = loss;
                let known = !(max_abs_error.is_nan() || mse.is_nan() || min_cosine.is_nan());
                known.then_some(loss)
            }
            Stored::Framed { .. } => None,
        },
    });
    let params = match index.codec_options.as_object() {
        Some([_, ..]) => index.codec_options.clone(),
        // CVCF files do not say so, but have no other.
        _ if index.codec.starts_with("cvcf") && index.codec.ends_with("int8") => {
            Json::object([("scope", Json::from("chunk"))])
        }
        _ => Json::Object(Vec::new()),
    };
    let decoded_len = array
        .dtype()
        .ok()
        .map(|dtype| index.rows.saturating_mul(u64::from(index.dim)).saturating_mul(dtype.size() as u64));
    ArrayReport {
        name: index.name.clone(),
        dtype: index.dtype,
        rows: index.rows,
        dim: index.dim,
        shape: index.shape(),
        codec: index.codec.to_string(),
        params,
        provenance: index.provenance.clone(),
        chunks: chunks.collect(),
        block_rows: index.chunks.first().and_then(|chunk| match chunk.stored {
            Stored::Blocked(blocked) => Some(blocked.block_rows),
            Stored::Framed { .. } => None,
        }),
        stored_len: index.stored_len(),
        decoded_len,
        stored_loss: array.loss(),
        content: Content::NotAsked,
        recall: None,
    }
}
