//! What a file holds, once its bytes have been checked: the one structure that every layout parses to.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::dtype::ArrayDType;
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
    /// Our own: named arrays, blocks, checksums on everything.
    Native,
}

impl Layout {
    /// The name users see: `v0`, `v1`, `v1-mmap`, `v2`, `native`.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::V0 => "v0",
            Layout::V1 => "v1",
            Layout::V1Mmap => "v1-mmap",
            Layout::V2 => "v2",
            Layout::Native => "native",
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
    /// Whether the sections are the metadata of the chunks of a CVCF file, from which this file was made. Only native
    /// files can say so.
    pub sections_from_chunks: bool,
    /// The metadata of each chunk, where the file has any: as long as the chunks, or empty.
    pub chunk_metadata: Vec<Option<Json>>,
    /// What the user said of the whole file: an object. CVCF files have no place for it.
    pub metadata: Json,
    /// The framed regions that carry the payloads of CVCF files, in file order. Their checksums are the file's
    /// checksums. Native files have none: there every block has its own.
    pub frames: Vec<Frame>,
    /// The header as it stands in the file, for tools that show or rewrite it: of a native file its metadata block.
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

/// One named array: `rows` rows of `dim` values, or of one string.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ArrayIndex {
    /// The name; `vectors` where the layout has none.
    pub name: String,
    /// What was packed, as far as the file says: `f32` values unless a CVCF file has columns that say otherwise.
    pub dtype: ArrayDType,
    /// Rows in all chunks together.
    pub rows: u64,
    /// Values per row: the product of `inner`.
    pub dim: u32,
    /// The shape of a row: `[dim]` for a matrix, empty for a list of scalars or strings.
    pub inner: Vec<u32>,
    /// The codec named for the whole array.
    pub codec: Arc<str>,
    /// What the file says of the codec beside its name: an object. Decoding does not need it.
    pub codec_options: Json,
    /// Where the values come from (model, revision, normalisation, ...), if the file says so: an object.
    pub provenance: Option<Json>,
    /// Features without which the array cannot be read, none of which this version has; native files only.
    pub requires: Vec<String>,
    /// The chunks in row order; together they hold rows `0..rows`, each once. Native arrays of no values have none.
    pub chunks: Vec<ChunkEntry>,
}

impl ArrayIndex {
    /// The shape as NumPy would give it: `(rows,)` for scalars and strings, `(rows, dim)` for a matrix.
    pub fn shape(&self) -> Vec<u64> {
        core::iter::once(self.rows).chain(self.inner.iter().map(|len| u64::from(*len))).collect()
    }

    /// Bytes that all chunks take in the file.
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
/// The parsers of this crate make these; one exists only if `bytes` lies inside the file (of a CVCF file: inside its
/// frame), and `rows` follows the chunk before it without a gap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChunkEntry {
    /// The rows it holds, counted from the start of the array.
    pub rows: Range<u64>,
    /// Its bytes, as a range of the file: the payload of a CVCF chunk, all of a native one.
    pub bytes: Range<u64>,
    /// The codec of this chunk. Readers honour it, as the format's own documentation says they should.
    pub codec: Arc<str>,
    /// How it is checked and what is known of its inside.
    pub stored: Stored,
}

impl ChunkEntry {
    /// Rows in this chunk. A chunk has fewer than 2^32.
    pub fn row_count(&self) -> u32 {
        u32::try_from(self.rows.end - self.rows.start).expect("checked when the index was parsed")
    }
}

/// What a layout says of a chunk beside its place.
#[derive(Clone, Debug)]
pub enum Stored {
    /// CVCF: the payload lies in a frame, whose checksum covers all of it.
    Framed {
        /// The frame that carries these bytes, as an index into [`FileIndex::frames`].
        frame: usize,
        /// What the codec needs to know beside the payload.
        params: Params,
    },
    /// Native: the chunk begins with a head, which says where its blocks lie and has their checksums.
    Blocked(BlockedChunk),
}

/// What the index of a native file says of a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockedChunk {
    /// Bytes of the head, with which the chunk begins.
    pub head_len: u32,
    /// CRC-32C of the head.
    pub head_crc: u32,
    /// Rows in every block but the last.
    pub block_rows: u32,
    /// What encoding lost.
    pub loss: Loss,
}

impl BlockedChunk {
    /// How many blocks `rows` rows are.
    pub fn block_count(&self, rows: u32) -> u32 {
        rows.div_ceil(self.block_rows)
    }
}

/// What encoding a chunk lost, as measured when it was written; rounded outwards to f32.
///
/// All three are NaN where nobody measured, as in a file made from another without the original values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// The largest absolute difference; infinite if a NaN or an infinity did not come back.
    pub max_abs_error: f32,
    /// The mean of the squared differences.
    pub mse: f32,
    /// The least cosine between a row and what it decodes to; 1 if both are zero.
    pub min_cosine: f32,
}

impl Loss {
    /// Every bit came back.
    pub const NONE: Loss = Loss { max_abs_error: 0.0, mse: 0.0, min_cosine: 1.0 };
    /// Nobody measured.
    pub const UNKNOWN: Loss = Loss { max_abs_error: f32::NAN, mse: f32::NAN, min_cosine: f32::NAN };
}

/// Parameters of a codec that stand beside the payload.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Params {
    /// The codec has none.
    None,
    /// One affine range for the whole chunk, from the header of a CVCF file.
    Affine(AffineParams),
    /// The parameters in the head of a native chunk, little-endian.
    Bytes(Arc<[u8]>),
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
