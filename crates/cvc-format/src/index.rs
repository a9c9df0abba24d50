//! What a file holds, once its bytes have been checked: the one structure that every layout parses to.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::dtype::DType;
use crate::json::Json;

/// Which of the layouts a file is in. See `docs/FORMAT.md` for the bytes and who writes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// What `decompressed` 0.1.0 writes: no version, no checksums.
    V0,
    /// What `decompressed` 2.x writes: a crc32 for each chunk.
    V1,
    /// `V1` with every chunk frame on a 4,096-byte boundary. Read only.
    V1Mmap,
    /// What `decompressed` 2.x writes for named columns.
    V2,
}

impl Layout {
    /// The name users see: `v0`, `v1`, `v1-mmap`, `v2`.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::V0 => "v0",
            Layout::V1 => "v1",
            Layout::V1Mmap => "v1-mmap",
            Layout::V2 => "v2",
        }
    }

    /// Whether payloads carry a checksum, so that damage to them is found.
    pub const fn has_checksums(self) -> bool {
        !matches!(self, Layout::V0)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The position of a chunk within its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub u32);

impl ChunkId {
    /// The position as an index into a list of chunks.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk {}", self.0)
    }
}

/// Everything that is known of a file without touching a payload.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileIndex {
    /// Which layout the file is in.
    pub layout: Layout,
    /// The arrays, in file order; CVCF files without columns have one, named `vectors`.
    pub arrays: Vec<ArrayIndex>,
    /// Ranges of rows with metadata, in file order.
    pub sections: Vec<Section>,
    /// The metadata of each chunk, where the file has any: as long as the chunks, or empty.
    pub chunk_metadata: Vec<Option<Json>>,
    /// The framed regions that carry the payloads, in file order. Their checksums are the file's checksums.
    pub frames: Vec<Frame>,
    /// The header as it stands in the file, for tools that show or rewrite it.
    pub header: Json,
    /// Bytes after the last frame, which upstream's readers ignore. 0 in a file that is as it was written.
    pub trailing_len: u64,
}

impl FileIndex {
    /// The array of this name.
    pub fn array(&self, name: &str) -> Option<&ArrayIndex> {
        self.arrays.iter().find(|array| array.name == name)
    }
}

/// One framed region of a file: the unit of checksum in the CVCF layouts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// The payload bytes, as a range of the file; always inside it.
    pub bytes: Range<u64>,
    /// CRC-32 (IEEE) of those bytes; `None` in layout v0, which has no checksums.
    pub crc32: Option<u32>,
}

/// One named matrix: `rows` rows of `dim` values.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ArrayIndex {
    /// The name; `vectors` where the layout has none.
    pub name: String,
    /// The dtype of the values that were packed, as far as the file says: `f32` unless columns say otherwise.
    pub dtype: DType,
    /// Rows in all chunks together.
    pub rows: u64,
    /// Values per row.
    pub dim: u32,
    /// Whether this is a list of scalars (a one-dimensional column) rather than a matrix with one column.
    pub scalar: bool,
    /// The codec named for the whole array.
    pub codec: Arc<str>,
    /// The chunks in row order; together they hold rows `0..rows`, each once.
    pub chunks: Vec<ChunkEntry>,
}

impl ArrayIndex {
    /// The shape as NumPy would give it: `(rows,)` for scalars, else `(rows, dim)`.
    pub fn shape(&self) -> Vec<u64> {
        if self.scalar { alloc::vec![self.rows] } else { alloc::vec![self.rows, u64::from(self.dim)] }
    }

    /// Encoded bytes of all chunks.
    pub fn stored_len(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes.end - chunk.bytes.start).sum()
    }

    /// The chunk that holds `row`, which must be below `rows`.
    pub fn chunk_of(&self, row: u64) -> ChunkId {
        debug_assert!(row < self.rows);
        let index = self.chunks.partition_point(|chunk| chunk.rows.end <= row);
        ChunkId(u32::try_from(index).expect("a file has fewer than 2^32 chunks"))
    }
}

/// One chunk of one array.
///
/// The parsers of this crate make these; one exists only if `bytes` lies inside frame `frame`, which lies
/// inside the file, and `rows` follows the chunk before it without a gap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChunkEntry {
    /// The rows it holds, counted from the start of the array.
    pub rows: Range<u64>,
    /// Its encoded bytes, as a range of the file.
    pub bytes: Range<u64>,
    /// The frame that carries these bytes, as an index into [`FileIndex::frames`].
    pub frame: usize,
    /// The codec of this chunk. Readers honour it, as the format's own documentation says they should.
    pub codec: Arc<str>,
    /// What the codec needs to know beside the payload.
    pub params: Params,
}

impl ChunkEntry {
    /// Rows in this chunk. A chunk has fewer than 2^32.
    pub fn row_count(&self) -> u32 {
        u32::try_from(self.rows.end - self.rows.start).expect("checked when the index was parsed")
    }
}

/// Parameters of a codec that stand beside the payload.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Params {
    /// The codec has none.
    None,
    /// One affine range for the whole chunk.
    Affine(AffineParams),
}

/// `value = code * scale + min`, as the header's doubles say it. They may be NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineParams {
    /// The value of code 0.
    pub min: f64,
    /// The step from one code to the next.
    pub scale: f64,
}

/// A range of rows with metadata.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Section {
    /// The rows, counted from the start of the array; may be empty.
    pub rows: Range<u64>,
    /// What was said of them: any JSON value.
    pub metadata: Json,
}

impl Section {
    /// `metadata`, said of `rows`.
    pub fn new(rows: Range<u64>, metadata: Json) -> Self {
        Section { rows, metadata }
    }
}
