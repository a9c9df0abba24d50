//! Reading: a file's arrays, whole or in part, on any backend.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use cvc_codec::{
    Backend, Batch, ChunkShape, Codec, CodecError, DecodeError, DecodePlan, Element, HostBuffer, Job,
    Payloads, SourceError, find,
};
use cvc_cpu::CpuBackend;
use cvc_format::cvcf::{Opening, Step};
use cvc_format::{ArrayIndex, ChunkEntry, ChunkId, DType, FileIndex, Json, Layout, Limits, Section};

use crate::checks::{BadFrame, Checksums, FrameChecks};
use crate::error::Error;
use crate::huge_pages;
use crate::io::{FileSource, ReadAt};
use crate::select::{Condition, Rows, matching_rows};

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// What to spend on a file at most.
    pub limits: Limits,
    /// Whether payloads are compared with their checksums.
    pub checksums: Checksums,
}

/// An open file. Cheap to share: every method takes `&self`, from any thread.
pub struct Reader {
    source: Box<dyn ReadAt>,
    index: FileIndex,
    options: ReadOptions,
    checks: FrameChecks,
}

impl Reader {
    /// Opens the file at `path` and reads it by position.
    ///
    /// # Errors
    /// It cannot be opened, or is not a file this version reads.
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, Error> {
        Reader::new(Box::new(FileSource::open(path.as_ref())?), ReadOptions::default())
    }

    /// Opens the file at `path` through a memory map.
    ///
    /// # Errors
    /// As [`Reader::open`].
    #[cfg(feature = "mmap")]
    pub fn open_mapped(path: impl AsRef<Path>) -> Result<Reader, Error> {
        let path = path.as_ref();
        let map = crate::io::mmap::Map::open(path).map_err(Error::io(path, "cannot be mapped"))?;
        Reader::new(Box::new(map), ReadOptions::default())
    }

    /// Opens a whole file in memory.
    ///
    /// # Errors
    /// It is not a file this version reads.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Reader, Error> {
        Reader::new(Box::new(bytes), ReadOptions::default())
    }

    /// Opens any source of bytes, with options.
    ///
    /// # Errors
    /// The source fails, or is not a file this version reads.
    pub fn new(source: Box<dyn ReadAt>, options: ReadOptions) -> Result<Reader, Error> {
        let mut opening = Opening::new(source.len(), options.limits);
        let mut step = opening.start();
        let mut bytes = Vec::new();
        let index = loop {
            match step {
                Step::Done(index) => break index,
                // The range lies inside the source, so this allocates no more than the file is long.
                Step::Read(range) => {
                    bytes.resize(
                        usize::try_from(range.end - range.start).expect("a header fits in memory"),
                        0,
                    );
                    source.read_at(range.start, &mut bytes)?;
                    step = opening.feed(&bytes)?;
                }
            }
        };
        let checks = FrameChecks::new(options.checksums, index.frames.len());
        Ok(Reader { source, index, options, checks })
    }

    /// Everything known of the file without touching a payload.
    pub fn index(&self) -> &FileIndex {
        &self.index
    }

    /// The source the file is read from.
    pub fn source(&self) -> &dyn ReadAt {
        &*self.source
    }

    /// Which layout the file is in.
    pub fn layout(&self) -> Layout {
        self.index.layout
    }

    /// The names of the arrays, in file order.
    pub fn array_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.index.arrays.iter().map(|array| array.name.as_str())
    }

    /// The arrays, in file order.
    pub fn arrays(&self) -> impl ExactSizeIterator<Item = Array<'_>> {
        self.index.arrays.iter().map(|index| Array { reader: self, index })
    }

    /// The array named `name`.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn array(&self, name: &str) -> Result<Array<'_>, Error> {
        match self.index.array(name) {
            Some(index) => Ok(Array { reader: self, index }),
            None => {
                let names: Vec<String> = self.array_names().map(|name| format!("{name:?}")).collect();
                Err(Error::argument("array", name, format!("the file has {}", names.join(", "))))
            }
        }
    }

    /// The only array of the file, or the one named `vectors`.
    ///
    /// # Errors
    /// There are several, and none has that name.
    pub fn vectors(&self) -> Result<Array<'_>, Error> {
        match self.index.arrays.as_slice() {
            [index] => Ok(Array { reader: self, index }),
            _ => self.array(cvc_format::cvcf::VECTORS),
        }
    }

    /// The sections, in file order.
    pub fn sections(&self) -> &[Section] {
        &self.index.sections
    }

    /// The metadata of chunks as sections, one for each chunk that has any, in file order.
    pub fn chunk_sections(&self) -> Vec<Section> {
        // Only layouts with one array have chunk metadata.
        let Some(array) = self.index.arrays.first() else { return Vec::new() };
        let chunks = array.chunks.iter().zip(&self.index.chunk_metadata);
        chunks
            .filter_map(|(chunk, metadata)| Some(Section::new(chunk.rows.clone(), metadata.clone()?)))
            .collect()
    }

    /// The rows of every section that meets all of `conditions`, in file order; of every chunk whose metadata
    /// does, in a file that has metadata on its chunks and no sections.
    ///
    /// # Errors
    /// The file has neither.
    pub fn find(&self, conditions: &[Condition]) -> Result<Rows, Error> {
        let chunk_sections;
        let sections = if !self.sections().is_empty() {
            self.sections()
        } else {
            chunk_sections = self.chunk_sections();
            &chunk_sections
        };
        if sections.is_empty() {
            let keys: Vec<&str> = conditions.iter().map(|condition| condition.key.as_str()).collect();
            let problem = "the file has no sections and no chunk metadata to look in; choose rows by number";
            return Err(Error::argument("where", keys.join(", "), problem));
        }
        Ok(Rows::from(matching_rows(sections, conditions)))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("index", &self.index)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// One array of an open file.
#[derive(Clone, Copy, Debug)]
pub struct Array<'r> {
    reader: &'r Reader,
    index: &'r ArrayIndex,
}

impl<'r> Array<'r> {
    /// What the index says of it: name, shape, codec, chunks.
    pub fn index(&self) -> &'r ArrayIndex {
        self.index
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.index.rows
    }

    /// Values per row.
    pub fn dim(&self) -> u32 {
        self.index.dim
    }

    /// The dtype that [`Array::read`] gives unless another is asked for.
    ///
    /// # Errors
    /// The codec is unknown to this version.
    pub fn dtype(&self) -> Result<DType, Error> {
        let codec = find(&self.index.codec).map_err(|error| self.chunk_error(ChunkId(0), error))?;
        Ok(codec.decoded_dtype(self.index.dtype))
    }

    /// The chunks in row order, to be read one by one with [`Array::read`] of their rows.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'r>> + use<'r> {
        let metadata = &self.reader.index.chunk_metadata;
        (0..).map(ChunkId).zip(&self.index.chunks).map(|(id, entry)| Chunk {
            id,
            rows: entry.rows.clone(),
            metadata: metadata.get(id.index()).and_then(Option::as_ref),
        })
    }

    /// How chunk `chunk` is decoded to values of `out`.
    ///
    /// # Errors
    /// The chunk is damaged, its codec unknown, or `out` cannot be had from it.
    ///
    /// # Panics
    /// There is no such chunk.
    pub fn plan(&self, chunk: ChunkId, out: DType) -> Result<DecodePlan, Error> {
        let entry = self.entry(chunk);
        let shape = ChunkShape { rows: entry.row_count(), dim: self.index.dim };
        let payload_len = entry.bytes.end - entry.bytes.start;
        let codec: Result<&dyn Codec, CodecError> = find(&entry.codec);
        codec
            .and_then(|codec| codec.plan(shape, self.index.dtype, &entry.params, payload_len, out))
            .map_err(|error| self.chunk_error(chunk, error))
    }

    /// The chosen rows as values of type `T`, row after row, decoded on the processor.
    ///
    /// # Errors
    /// Rows that do not exist, a dtype that cannot be had, more bytes than the limits allow, damage.
    pub fn read<T: Element>(&self, rows: impl Into<Rows>) -> Result<Vec<T>, Error> {
        let selection = self.select(rows, T::DTYPE)?;
        // Earned: every plan was checked against the length of its payload.
        let mut values = vec![T::zeroed(); selection.value_count(self.reader.options.limits.decoded_bytes)?];
        huge_pages::advise(bytemuck::cast_slice_mut(&mut values));
        selection.decode(&CpuBackend::new(), &mut HostBuffer::new(&mut values))?;
        Ok(values)
    }

    /// As [`Array::read`], into the caller's memory.
    ///
    /// # Errors
    /// As [`Array::read`], and if `values` is not exactly as long as the rows need.
    pub fn read_into<T: Element>(&self, rows: impl Into<Rows>, values: &mut [T]) -> Result<(), Error> {
        self.decode(&CpuBackend::new(), rows, T::DTYPE, &mut HostBuffer::new(values))
    }

    /// The chosen rows as values of `out`, decoded by `backend` into a buffer of its own kind.
    ///
    /// # Errors
    /// As [`Array::read_into`], and if the backend cannot run what the chunks need.
    pub fn decode<B: Backend>(
        &self,
        backend: &B,
        rows: impl Into<Rows>,
        out: DType,
        dst: &mut B::Buffer<'_>,
    ) -> Result<(), Error> {
        self.select(rows, out)?.decode(backend, dst)
    }

    /// How many bytes the chosen rows are as values of `out`: what to allocate before [`Array::decode`].
    ///
    /// The number is earned: every chunk touched has the bytes that its rows need.
    ///
    /// # Errors
    /// As [`Array::read`], but for damage inside payloads.
    pub fn decoded_len(&self, rows: impl Into<Rows>, out: DType) -> Result<usize, Error> {
        let values = self.select(rows, out)?.value_count(self.reader.options.limits.decoded_bytes)?;
        Ok(values * out.size())
    }

    /// Splits the chosen rows at chunk borders and plans every chunk they touch.
    fn select(&self, rows: impl Into<Rows>, out: DType) -> Result<Selection<'r>, Error> {
        let ranges = rows.into().resolve(self.index.rows)?;
        let mut pieces = Vec::new();
        let mut plans: Vec<(ChunkId, DecodePlan)> = Vec::new();
        let mut plan_of: BTreeMap<ChunkId, usize> = BTreeMap::new();
        let mut row_count = 0u64;
        for range in ranges {
            let mut row = range.start;
            while row < range.end {
                let chunk = self.index.chunk_of(row);
                let entry = self.entry(chunk);
                let end = range.end.min(entry.rows.end);
                let within = |row: u64| {
                    u32::try_from(row - entry.rows.start).expect("a chunk has fewer than 2^32 rows")
                };
                let plan = match plan_of.entry(chunk) {
                    Entry::Occupied(planned) => *planned.get(),
                    Entry::Vacant(unplanned) => {
                        plans.push((chunk, self.plan(chunk, out)?));
                        *unplanned.insert(plans.len() - 1)
                    }
                };
                pieces.push(Piece { plan, rows: within(row)..within(end), dst_row: row_count });
                row_count = row_count.checked_add(end - row).ok_or_else(|| {
                    Error::argument("rows", "the ranges given", "they are more than 2^64 rows together")
                })?;
                row = end;
            }
        }
        Ok(Selection { array: *self, plans, pieces, row_count, out })
    }

    fn entry(&self, chunk: ChunkId) -> &'r ChunkEntry {
        &self.index.chunks[chunk.index()]
    }

    fn chunk_error(&self, chunk: ChunkId, error: CodecError) -> Error {
        // An array without chunks still names a codec.
        let offset = self.index.chunks.get(chunk.index()).map_or(0, |entry| entry.bytes.start);
        Error::Chunk { array: self.index.name.clone(), chunk, offset, error }
    }
}

/// One chunk of an array.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Chunk<'r> {
    /// Its position.
    pub id: ChunkId,
    /// Its rows, counted from the start of the array.
    pub rows: Range<u64>,
    /// Its metadata, if it has any.
    pub metadata: Option<&'r Json>,
}

/// Rows that exist, with a plan for every chunk they are in.
struct Selection<'r> {
    array: Array<'r>,
    plans: Vec<(ChunkId, DecodePlan)>,
    pieces: Vec<Piece>,
    row_count: u64,
    out: DType,
}

/// Consecutive rows of one chunk.
struct Piece {
    /// Index into the plans of the selection.
    plan: usize,
    rows: Range<u32>,
    dst_row: u64,
}

impl Selection<'_> {
    /// How many values the rows have, if their bytes are within `limit`.
    fn value_count(&self, limit: u64) -> Result<usize, Error> {
        let (rows, dim) = (self.row_count, self.array.index.dim);
        let values = rows.checked_mul(u64::from(dim));
        let bytes = values.and_then(|values| values.checked_mul(self.out.size() as u64));
        match (values.map(usize::try_from), bytes) {
            (Some(Ok(values)), Some(bytes)) if bytes <= limit && isize::try_from(bytes).is_ok() => Ok(values),
            _ => Err(Error::Limit { rows, dim, bytes: bytes.unwrap_or(u64::MAX), limit }),
        }
    }

    fn decode<B: Backend>(&self, backend: &B, dst: &mut B::Buffer<'_>) -> Result<(), Error> {
        for (_, plan) in &self.plans {
            backend.supports(plan)?;
        }
        let jobs = self.pieces.iter().map(|piece| {
            let (chunk, plan) = &self.plans[piece.plan];
            Job { plan, chunk: *chunk, rows: piece.rows.clone(), dst_row: piece.dst_row }
        });
        let batch = Batch::new(jobs.collect(), self.row_count, self.array.index.dim, self.out)?;
        let payloads = ArrayPayloads { array: self.array };
        // All frames at once, on all cores, rather than one by one as the backend comes to them.
        let array = || self.array.index.name.clone();
        payloads.ensure_checked(self.plans.iter().map(|(chunk, _)| *chunk)).map_err(|bad| {
            let chunk = self.plans.iter().find(|(chunk, _)| self.array.entry(*chunk).frame == bad.frame);
            let chunk = chunk.expect("only frames of planned chunks are checked").0;
            Error::Decode { array: array(), error: DecodeError::Source { chunk, error: bad.error } }
        })?;
        backend.decode(&batch, &payloads, dst).map_err(|error| Error::Decode { array: array(), error })
    }
}

/// The payloads of one array, checked on first touch.
struct ArrayPayloads<'r> {
    array: Array<'r>,
}

impl ArrayPayloads<'_> {
    fn ensure_checked(&self, chunks: impl Iterator<Item = ChunkId>) -> Result<(), BadFrame> {
        let Reader { checks, index, source, .. } = self.array.reader;
        checks.ensure(&index.frames, chunks.map(|chunk| self.array.entry(chunk).frame), &**source)
    }

    /// The bytes of the file that are `range` of a chunk's payload.
    fn locate(&self, chunk: ChunkId, range: Range<u64>) -> Range<u64> {
        let start = self.array.entry(chunk).bytes.start;
        start + range.start..start + range.end
    }
}

impl Payloads for ArrayPayloads<'_> {
    fn read(&self, chunk: ChunkId, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.ensure_checked(std::iter::once(chunk)).map_err(|bad| bad.error)?;
        let bytes = self.locate(chunk, offset..offset + into.len() as u64);
        self.array.reader.source.read_at(bytes.start, into)
    }

    fn borrow(&self, chunk: ChunkId, range: Range<u64>) -> Result<Option<&[u8]>, SourceError> {
        self.ensure_checked(std::iter::once(chunk)).map_err(|bad| bad.error)?;
        Ok(self.array.reader.source.borrow(self.locate(chunk, range)))
    }
}
