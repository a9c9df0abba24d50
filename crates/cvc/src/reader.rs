//! Reading: a file's arrays, whole or in part, on any backend.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use cvc_codec::strings::Strings;
use cvc_codec::{
    Backend, Batch, BlockRun, ChunkShape, Codec, CodecError, DecodeError, DecodePlan, DeviceMemory, Element,
    Found, HostBuffer, Inflater, Job, Params, Payloads, PlanError, Queries, RowSlice, RunBytes, Scan,
    ScanBatch, ScanJob, SourceError, StoredChunk, TermsCache, find,
};
use cvc_cpu::CpuBackend;
use cvc_format::checksum::crc32c;
use cvc_format::json::Style;
use cvc_format::{
    ArrayDType, ArrayIndex, BlockedChunk, ChunkEntry, ChunkId, DType, FileIndex, Json, Layout, Limits, Loss,
    Opening, Section, Step, Stored,
};

use crate::ahead::Ahead;
use crate::checks::{self, BadFrame, Checksums, FrameChecks};
use crate::error::Error;
use crate::huge_pages;
use crate::inside::{HeadError, Inside, Insides};
use crate::io::{FileSource, ReadAt, read_together};
use crate::raw::RowPlaces;
use crate::select::{Condition, Rows, matching_rows, merged};

/// Bytes that an open file keeps for each array that is searched, so that later searches are faster: 20 for each row.
const TERMS_LIMIT: usize = 64 << 20;

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
    frames: FrameChecks,
    insides: Insides,
    /// For each array, what searches found out about its rows.
    terms: Vec<TermsCache>,
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
                // The ranges lie inside the source, so this allocates no more than the file is long.
                Step::Read(ranges) => {
                    read_together(&*source, &ranges, &mut bytes)?;
                    step = opening.feed(&bytes)?;
                }
            }
        };
        let frames = FrameChecks::new(options.checksums, index.frames.len());
        let insides = Insides::new(&index);
        let terms = index.arrays.iter().map(|_| TermsCache::new(TERMS_LIMIT)).collect();
        Ok(Reader { source, index, options, frames, insides, terms })
    }

    /// Everything known of the file without touching a payload.
    pub fn index(&self) -> &FileIndex {
        &self.index
    }

    /// How it is read.
    pub(crate) fn options(&self) -> &ReadOptions {
        &self.options
    }

    /// The source the file is read from.
    pub fn source(&self) -> &dyn ReadAt {
        &*self.source
    }

    /// Which layout the file is in.
    pub fn layout(&self) -> Layout {
        self.index.layout
    }

    /// What tells this file from what it was or may become: layout, length, and a checksum of all that the index says. Of a native file
    /// that includes the checksums of the heads of chunks, and through them those of every block, so bytes that are changed by
    /// writing the file anew change it, but for a chance of one in 2^32. Damage does not change it: reading finds that. A layout
    /// without checksums is told by its header and its length alone. Nothing is read.
    pub fn identity(&self) -> String {
        let mut said = self.index.header.to_string_styled(Style::Python).into_bytes();
        let mut number = |value: u64| said.extend(value.to_le_bytes());
        for chunk in self.index.arrays.iter().flat_map(|array| &array.chunks) {
            [chunk.rows.end, chunk.bytes.start, chunk.bytes.end].into_iter().for_each(&mut number);
            if let Stored::Blocked(BlockedChunk { head_len, head_crc, block_rows, .. }) = chunk.stored {
                [head_len, head_crc, block_rows].into_iter().for_each(|value| number(value.into()));
            }
        }
        for frame in &self.index.frames {
            number(frame.bytes.start);
            number(frame.crc32.unwrap_or_default().into());
        }
        format!("{}-{}-{:08x}", self.layout(), self.source.len(), crc32c(&said))
    }

    /// The names of the arrays, in file order.
    pub fn array_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.index.arrays.iter().map(|array| array.name.as_str())
    }

    /// The arrays, in file order.
    pub fn arrays(&self) -> impl ExactSizeIterator<Item = Array<'_>> {
        (0..self.index.arrays.len()).map(|position| self.array_at(position))
    }

    /// The array named `name`.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn array(&self, name: &str) -> Result<Array<'_>, Error> {
        match self.index.arrays.iter().position(|array| array.name == name) {
            Some(position) => Ok(self.array_at(position)),
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
        match self.index.arrays.len() {
            1 => Ok(self.array_at(0)),
            _ => self.array(cvc_format::cvcf::VECTORS),
        }
    }

    fn array_at(&self, position: usize) -> Array<'_> {
        let index = &self.index.arrays[position];
        Array { reader: self, position, index, dim: index.dim }
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
    /// does, in a file that has metadata on its chunks and no sections. They are rows of the first array, and of those with
    /// as many: another array refuses them.
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
        let of_rows = self.index.arrays.first().map_or(0, |array| array.rows);
        Ok(Rows::of_sections(matching_rows(sections, conditions), of_rows))
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
    position: usize,
    index: &'r ArrayIndex,
    /// Values wanted of every row: a prefix, or all.
    dim: u32,
}

impl<'r> Array<'r> {
    /// What the index says of it: name, shape, codec, chunks.
    pub fn index(&self) -> &'r ArrayIndex {
        self.index
    }

    /// The file it belongs to.
    pub fn reader(&self) -> &'r Reader {
        self.reader
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.index.rows
    }

    /// Values that are read of every row: all, unless this is a [prefix](Array::prefix).
    pub fn dim(&self) -> u32 {
        self.dim
    }

    /// The same array, but only the first `dim` values of every row are read. For embeddings whose first dims are a
    /// smaller embedding; it saves decoding and memory, not reading.
    ///
    /// # Errors
    /// Rows have fewer values. Reading fails where the codec cannot tell a prefix, which is so of `cvcf.lossless` alone.
    pub fn prefix(self, dim: u32) -> Result<Array<'r>, Error> {
        if dim > self.index.dim {
            let problem = format!("rows of array {:?} have {} values", self.index.name, self.index.dim);
            return Err(Error::argument("dims", dim, problem));
        }
        Ok(Array { dim, ..self })
    }

    /// The dtype that [`Array::read`] gives unless another is asked for.
    ///
    /// # Errors
    /// The codec or the dtype is unknown to this version, or the array holds strings.
    pub fn dtype(&self) -> Result<DType, Error> {
        let codec =
            self.find_codec(&self.index.codec).map_err(|error| self.chunk_error(ChunkId(0), error))?;
        Ok(codec.decoded_dtype(self.values_dtype()?))
    }

    /// The dtype of the values that went in.
    ///
    /// # Errors
    /// The array holds strings, or is of a kind unknown to this version.
    pub(crate) fn values_dtype(&self) -> Result<DType, Error> {
        self.check_readable()?;
        match self.index.dtype {
            ArrayDType::Values(dtype) => Ok(dtype),
            _ => {
                let problem = "it holds strings; read them with `read_strings`";
                Err(Error::argument("array", &self.index.name, problem))
            }
        }
    }

    /// The codec of this name, if files of this layout may name it.
    fn find_codec(&self, name: &str) -> Result<&'static dyn Codec, CodecError> {
        let codec = find(name)?;
        if self.reader.layout() == Layout::Native && !codec.is_native() {
            return Err(CodecError::Unknown { name: name.into() });
        }
        Ok(codec)
    }

    /// Whether this version has the codec of the array, so that its content can be looked at.
    pub(crate) fn has_known_codec(&self) -> bool {
        self.find_codec(&self.index.codec).is_ok()
    }

    /// Refuses an array that a newer writer made in a way this version does not know.
    pub(crate) fn check_readable(&self) -> Result<(), Error> {
        let unknown = match (self.index.dtype, self.index.requires.as_slice()) {
            (ArrayDType::Unknown, _) => "a dtype".to_owned(),
            (_, []) => return Ok(()),
            (_, requires) => requires.join(", "),
        };
        Err(Error::Newer { array: self.index.name.clone(), unknown })
    }

    /// Refuses an array of which this version does not know the kind or the codec.
    pub(crate) fn check_known(&self) -> Result<(), Error> {
        self.check_readable()?;
        self.find_codec(&self.index.codec).map(drop).map_err(|error| self.chunk_error(ChunkId(0), error))
    }

    /// Refuses a dtype that the values of this array cannot be had in.
    pub(crate) fn check_dtype(&self, out: DType) -> Result<(), Error> {
        check_output(self.dtype()?, out).map_err(|error| self.chunk_error(ChunkId(0), error.into()))
    }

    /// Refuses an array that does not hold strings.
    pub(crate) fn check_strings_dtype(&self) -> Result<(), Error> {
        self.check_readable()?;
        if self.index.dtype == ArrayDType::Utf8 {
            return Ok(());
        }
        let problem = format!("it holds {} values, not strings", self.index.dtype);
        Err(Error::argument("array", &self.index.name, problem))
    }

    /// Compares the blocks of `run`, or the frame they are in, with their checksums, whatever the options say. `source` is that of
    /// the file, or [ahead](Array::ahead) of it. The inside of the chunk has been loaded.
    pub(crate) fn check_run(
        &self,
        run: &BlockRun<'_>,
        source: &dyn ReadAt,
        scratch: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        if let Some(frame) = self.frame(run.chunk) {
            return checks::check(&self.reader.index.frames, &[frame], source).map_err(|bad| bad.error);
        }
        let (inside, entry) = (self.inside(run.chunk), self.entry(run.chunk));
        let start = entry.bytes.start;
        if inside.all_good(run) {
            return Ok(());
        }
        if let Some(bytes) = source.borrow(entry.bytes.clone()) {
            return inside.check(run, RunBytes::Chunk(bytes), start);
        }
        scratch.resize(run.byte_len(), 0);
        read_run(source, run, start, scratch)?;
        inside.check(run, RunBytes::Ranges(scratch), start)
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

    /// What encoding lost, over all chunks, as it was measured when they were written. `None` if there is a chunk of which
    /// nobody knows, as in every CVCF file.
    pub fn loss(&self) -> Option<Loss> {
        if self.reader.layout() != Layout::Native {
            return None;
        }
        let (mut total, mut mse) = (Loss::NONE, 0.0);
        for chunk in &self.index.chunks {
            let Stored::Blocked(BlockedChunk { loss, .. }) = chunk.stored else { return None };
            if loss.max_abs_error.is_nan() || loss.mse.is_nan() || loss.min_cosine.is_nan() {
                return None;
            }
            total.max_abs_error = total.max_abs_error.max(loss.max_abs_error);
            total.min_cosine = total.min_cosine.min(loss.min_cosine);
            mse += f64::from(loss.mse) * (f64::from(chunk.row_count()) / self.index.rows as f64);
        }
        #[expect(clippy::cast_possible_truncation, reason = "the mean of numbers that were rounded to f32")]
        let mse = mse as f32;
        Some(Loss { mse, ..total })
    }

    /// How chunk `chunk` is decoded to values of `out`.
    ///
    /// # Errors
    /// The chunk is damaged, its codec unknown, or `out` cannot be had from it.
    ///
    /// # Panics
    /// There is no such chunk.
    pub fn plan(&self, chunk: ChunkId, out: DType) -> Result<DecodePlan, Error> {
        self.load_insides([chunk])?;
        self.plan_loaded(chunk, out)
    }

    fn plan_loaded(&self, chunk: ChunkId, out: DType) -> Result<DecodePlan, Error> {
        let dtype = self.values_dtype()?;
        let entry = self.entry(chunk);
        let shape = ChunkShape { rows: entry.row_count(), dim: self.index.dim };
        let Inside { parts, params, .. } = self.inside(chunk);
        self.find_codec(&entry.codec)
            .and_then(|codec| codec.plan(&StoredChunk { shape, dtype, params, parts }, out))
            .and_then(|plan| Ok(plan.with_prefix(self.dim)?))
            .map_err(|error| self.chunk_error(chunk, error))
    }

    /// What a codec needs to know of a chunk beside its shape: its parameters, and where its rows lie.
    ///
    /// # Errors
    /// The head of the chunk cannot be read or is damaged.
    ///
    /// # Panics
    /// There is no such chunk.
    pub fn stored(
        &self,
        chunk: ChunkId,
    ) -> Result<(&'r Params, &'r std::sync::Arc<cvc_codec::Parts>), Error> {
        self.load_insides([chunk])?;
        let Inside { parts, params, .. } = self.inside(chunk);
        Ok((params, parts))
    }

    pub(crate) fn load_insides(&self, chunks: impl IntoIterator<Item = ChunkId>) -> Result<(), Error> {
        let Reader { insides, index, source, .. } = self.reader;
        insides
            .load(self.position, index, chunks, &**source)
            .map_err(|(chunk, error)| self.head_error(chunk, error))
    }

    /// The inside of a chunk, loaded if it was not.
    pub(crate) fn loaded_inside(&self, chunk: ChunkId) -> Result<&'r Inside, Error> {
        match self.reader.insides.known(self.position, chunk) {
            Some(inside) => Ok(inside),
            None => {
                self.load_insides([chunk])?;
                Ok(self.inside(chunk))
            }
        }
    }

    pub(crate) fn places(&self) -> Option<&'r RowPlaces> {
        self.reader.insides.places(self.position, self.index)
    }

    pub(crate) fn inside(&self, chunk: ChunkId) -> &'r Inside {
        self.reader.insides.get(self.position, chunk)
    }

    fn head_error(&self, chunk: ChunkId, error: HeadError) -> Error {
        let array = self.index.name.clone();
        match error {
            HeadError::Source(error) => Error::Decode { array, error: DecodeError::Source { chunk, error } },
            HeadError::Format(error) => Error::Head { array, chunk, error },
        }
    }

    /// The chosen rows as values of type `T`, row after row, decoded on the processor.
    ///
    /// # Errors
    /// Rows that do not exist, a dtype that cannot be had, more bytes than the limits allow, damage.
    pub fn read<T: Element>(&self, rows: impl Into<Rows>) -> Result<Vec<T>, Error> {
        let selection = self.select(rows, T::DTYPE)?;
        // Earned: every plan was checked against the length of its payload.
        let mut values = vec![T::zeroed(); self.count_values(selection.row_count, T::DTYPE)?];
        huge_pages::advise(bytemuck::cast_slice_mut(&mut values));
        selection.decode(&CpuBackend::new(), &mut HostBuffer::fresh(&mut values))?;
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

    /// The chosen rows as values of `out`, decoded by `backend` into memory of its device, where they stay.
    ///
    /// # Errors
    /// As [`Array::decode`], and if the device has no room for them.
    pub fn read_on<B: DeviceMemory>(
        &self,
        backend: &B,
        rows: impl Into<Rows>,
        out: DType,
    ) -> Result<B::Buffer<'static>, Error> {
        let selection = self.select(rows, out)?;
        let values = self.count_values(selection.row_count, out)?;
        let mut buffer = backend.allocate(out, values as u64).map_err(|error| self.decode_error(error))?;
        selection.decode(backend, &mut buffer)?;
        Ok(buffer)
    }

    /// The chosen rows as values of `out`, decoded by `backend` in memory of its device and brought to the caller's from
    /// there, so many rows at a time that the device needs little of it.
    ///
    /// # Errors
    /// As [`Array::decode`], and if the device has no room for a part of them.
    pub fn decode_to_host<B: DeviceMemory>(
        &self,
        backend: &B,
        rows: impl Into<Rows>,
        out: DType,
        dst: &mut HostBuffer<'_>,
    ) -> Result<(), Error> {
        self.select(rows, out)?.decode_to_host(backend, dst)
    }

    /// How many bytes the chosen rows are as values of `out`: what to allocate before [`Array::decode`].
    ///
    /// The number is earned: every chunk touched has the bytes that its rows need.
    ///
    /// # Errors
    /// As [`Array::read`], but for damage inside payloads.
    pub fn decoded_len(&self, rows: impl Into<Rows>, out: DType) -> Result<usize, Error> {
        let values = self.count_values(self.select(rows, out)?.row_count, out)?;
        Ok(values * out.size())
    }

    /// The `k` best of the chosen rows for each query, found by `backend` where the encoded bytes are. Rows that were chosen twice
    /// count once, and the order in which they were chosen does not matter.
    ///
    /// Most programs want the crate `cvc-search`, which has searches of two stages and any device.
    ///
    /// # Errors
    /// Rows that do not exist, queries of another dim or for other values, damage, a device that cannot do it.
    pub fn scan<S: Scan>(
        &self,
        backend: &S,
        rows: impl Into<Rows>,
        queries: &Queries<'_>,
        k: usize,
    ) -> Result<Found, Error> {
        let dtype = self.dtype()?;
        let out = Queries::row_dtype(queries.metric(), dtype)
            .map_err(|error| Error::argument("metric", queries.metric(), error.to_string()))?;
        if queries.dim() != self.dim {
            let problem = format!("rows of array {:?} have {} values", self.index.name, self.dim);
            return Err(Error::argument("queries", format!("rows of {} values", queries.dim()), problem));
        }
        let rows = Rows::from(merged(rows.into().resolve(self.index.rows)?, 0));
        let mut found = Found::new(queries.len(), k);
        if self.dim == 0 || queries.is_empty() {
            // Rows of no values have no chunks. They are all alike, so the first are the best.
            let row = RowSlice::from_bytes(out, 1, 0, &[])?;
            let first = rows.resolve(self.index.rows)?.into_iter().flatten().take(k);
            for (row_number, query) in first.flat_map(|row| (0..queries.len()).map(move |query| (row, query)))
            {
                found.offer(queries.metric(), query, row_number, queries.score(query, row));
            }
            return Ok(found);
        }
        let selection = self.select(rows, out)?;
        selection.check(backend)?;
        // Heads and plans of as many chunks as are searched together stay in memory.
        for pieces in selection.pieces.chunks(SCANNED_TOGETHER) {
            let jobs = pieces.iter().map(|piece| {
                let (chunk, plan) = &selection.plans[piece.plan];
                let first_row = self.entry(*chunk).rows.start + u64::from(piece.rows.start);
                ScanJob { plan, chunk: *chunk, rows: piece.rows.clone(), first_row }
            });
            let batch = ScanBatch::new(jobs.collect(), self.dim, out)?;
            let batch = batch.with_terms(&self.reader.terms[self.position]);
            let rows = pieces.iter().map(|piece| (selection.plans[piece.plan].0, piece.rows.clone()));
            let payloads = self.payloads(rows);
            let scanned = backend.scan(&batch, &payloads, queries, k);
            found.merge(&scanned.map_err(|error| self.decode_error(error))?);
        }
        Ok(found)
    }

    /// The ranges of the file's bytes that reading these rows needs: heads and blocks, sorted, those closer than `gap`
    /// bytes made one. What a source far away should fetch.
    ///
    /// # Errors
    /// As [`Array::read`]; heads that are not known yet are read to find the blocks.
    pub fn byte_ranges(&self, rows: impl Into<Rows>, gap: u64) -> Result<Vec<Range<u64>>, Error> {
        self.check_readable()?;
        let pieces = self.split(rows.into().resolve(self.index.rows)?);
        self.load_insides(pieces.iter().map(|(chunk, _)| *chunk))?;
        let mut ranges = Vec::new();
        for (chunk, rows) in pieces {
            let (entry, parts) = (self.entry(chunk), &self.inside(chunk).parts);
            let start = entry.bytes.start;
            match &entry.stored {
                // Its checksum covers all of it.
                Stored::Framed { frame, .. } => ranges.push(self.reader.index.frames[*frame].bytes.clone()),
                Stored::Blocked(blocked) => {
                    ranges.push(start..start + u64::from(blocked.head_len));
                    let blocks = parts.ranges(parts.blocks_of(rows));
                    ranges.extend(blocks.map(|range| start + range.start..start + range.end));
                }
            }
        }
        Ok(merged(ranges, gap))
    }

    /// The chosen rows of an array of strings.
    ///
    /// # Errors
    /// The array holds values, rows that do not exist, damage.
    pub fn read_strings(&self, rows: impl Into<Rows>) -> Result<Strings, Error> {
        self.check_strings_dtype()?;
        self.find_codec(&self.index.codec).map_err(|error| self.chunk_error(ChunkId(0), error))?;
        let ranges = rows.into().resolve(self.index.rows)?;
        let row_count = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.end - range.start));
        // What they take in the file, unpacked: four bytes for each, and the text, which is not known yet.
        self.check_strings_limit(row_count, 0)?;
        let pieces = self.split(ranges);
        self.load_insides(pieces.iter().map(|(chunk, _)| *chunk))?;
        let payloads = self.payloads(pieces.iter().cloned());
        let mut inflater = Inflater::default();
        let mut encoded = Vec::new();
        // Each block is decoded once and only what is wanted of it is kept, so in the order of the file. Blocks are paid
        // for by the head of their chunk; rows are not, until their block is decoded.
        let mut wanted: Vec<((ChunkId, u32), Range<u32>)> = Vec::new();
        for (chunk, rows) in pieces {
            let parts = &self.inside(chunk).parts;
            for block in parts.blocks_of(rows.clone()) {
                let held = parts.rows_of(block..block + 1);
                wanted.push(((chunk, block), rows.start.max(held.start)..rows.end.min(held.end)));
            }
        }
        let in_order = wanted.is_sorted_by_key(|(block, _)| *block);
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        if !in_order {
            order.sort_by_key(|piece| wanted[*piece].0);
        }
        let mut strings = Strings::default();
        // Where those of each piece begin.
        let mut starts = vec![0; wanted.len()];
        for of_block in order.chunk_by(|a, b| wanted[*a].0 == wanted[*b].0) {
            let (chunk, block) = wanted[of_block[0]].0;
            let parts = &self.inside(chunk).parts;
            let run = BlockRun { chunk, parts, blocks: block..block + 1 };
            let decoded = self.decode_strings(&payloads, &run, &mut inflater, &mut encoded);
            let decoded = decoded.map_err(|error| self.decode_error(error))?;
            let first = run.rows().start;
            for piece in of_block {
                starts[*piece] = strings.len();
                let rows = wanted[*piece].1.clone();
                rows.for_each(|row| strings.push(decoded.get((row - first) as usize)));
            }
            self.check_strings_limit(row_count, strings.text().len() as u64)?;
        }
        if in_order {
            return Ok(strings);
        }
        let pieces = wanted.iter().zip(starts);
        let places = pieces.flat_map(|((_, rows), start)| start..start + rows.len());
        Ok(places.map(|at| strings.get(at)).collect())
    }

    fn check_strings_limit(&self, rows: u64, text_len: u64) -> Result<(), Error> {
        let limit = self.reader.options.limits.decoded_bytes;
        let bytes = rows.saturating_mul(4).saturating_add(text_len);
        if bytes > limit { Err(Error::Limit { rows, dim: 1, bytes, limit }) } else { Ok(()) }
    }

    /// Decodes every block of a chunk of strings, one at a time, and keeps none.
    ///
    /// # Errors
    /// As [`Array::read_strings`].
    pub(crate) fn check_strings(&self, chunk: ChunkId) -> Result<(), Error> {
        self.load_insides([chunk])?;
        let parts = &self.inside(chunk).parts;
        let payloads = self.payloads([(chunk, 0..parts.rows())]);
        let (mut inflater, mut encoded) = (Inflater::default(), Vec::new());
        for block in 0..parts.block_count() {
            let run = BlockRun { chunk, parts, blocks: block..block + 1 };
            self.decode_strings(&payloads, &run, &mut inflater, &mut encoded)
                .map_err(|error| self.decode_error(error))?;
        }
        Ok(())
    }

    fn decode_strings(
        &self,
        payloads: &ArrayPayloads<'_>,
        run: &BlockRun<'_>,
        inflater: &mut Inflater,
        encoded: &mut Vec<u8>,
    ) -> Result<Strings, DecodeError> {
        let chunk = run.chunk;
        let damaged = |error| DecodeError::Payload { chunk, error };
        let stream = cvc_codec::strings::stream_of(&self.entry(chunk).codec, run.parts).map_err(damaged)?;
        encoded.resize(run.byte_len(), 0);
        payloads.read(run, encoded).map_err(|error| DecodeError::Source { chunk, error })?;
        let block = run.blocks.start;
        let bytes = &encoded[..run.parts.lanes()[0].lens[block as usize] as usize];
        let mut strings = Strings::default();
        cvc_codec::strings::decode_block(inflater, stream, block, bytes, run.rows().len(), &mut strings)
            .map_err(damaged)?;
        Ok(strings)
    }

    /// Splits ranges of rows at chunk borders: chunks, and rows counted from their start.
    pub(crate) fn split(&self, ranges: Vec<Range<u64>>) -> Vec<(ChunkId, Range<u32>)> {
        let mut pieces = Vec::new();
        // An array of rows without values may have no chunks.
        if self.index.chunks.is_empty() {
            return pieces;
        }
        for range in ranges {
            let mut row = range.start;
            while row < range.end {
                let chunk = self.index.chunk_of(row);
                let entry = self.entry(chunk);
                let end = range.end.min(entry.rows.end);
                let within = |row: u64| {
                    u32::try_from(row - entry.rows.start).expect("a chunk has fewer than 2^32 rows")
                };
                pieces.push((chunk, within(row)..within(end)));
                row = end;
            }
        }
        pieces
    }

    /// Splits the chosen rows at chunk borders and plans every chunk they touch.
    fn select(&self, rows: impl Into<Rows>, out: DType) -> Result<Selection<'r>, Error> {
        let dtype = self.dtype()?;
        let ranges = rows.into().resolve(self.index.rows)?;
        let row_count = ranges.iter().try_fold(0u64, |sum, range| sum.checked_add(range.end - range.start));
        let row_count = row_count.ok_or_else(|| {
            Error::argument("rows", "the ranges given", "they are more than 2^64 rows together")
        })?;
        let split = self.split(ranges);
        self.load_insides(split.iter().map(|(chunk, _)| *chunk))?;
        if split.is_empty() {
            // No chunk will say whether this dtype can be had.
            check_output(dtype, out).map_err(|error| self.chunk_error(ChunkId(0), error.into()))?;
        }
        let mut pieces = Vec::with_capacity(split.len());
        let mut plans: Vec<(ChunkId, DecodePlan)> = Vec::new();
        let mut plan_of: BTreeMap<ChunkId, usize> = BTreeMap::new();
        let mut dst_row = 0;
        for (chunk, rows) in split {
            let plan = match plan_of.entry(chunk) {
                Entry::Occupied(planned) => *planned.get(),
                Entry::Vacant(unplanned) => {
                    plans.push((chunk, self.plan_loaded(chunk, out)?));
                    *unplanned.insert(plans.len() - 1)
                }
            };
            let count = rows.len() as u64;
            pieces.push(Piece { plan, rows, dst_row });
            dst_row += count;
        }
        Ok(Selection { array: *self, plans, pieces, row_count, out })
    }

    pub(crate) fn entry(&self, chunk: ChunkId) -> &'r ChunkEntry {
        &self.index.chunks[chunk.index()]
    }

    fn decode_error(&self, error: DecodeError) -> Error {
        Error::Decode { array: self.index.name.clone(), error }
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
#[derive(Clone)]
struct Piece {
    /// Index into the plans of the selection.
    plan: usize,
    rows: Range<u32>,
    dst_row: u64,
}

/// Pieces of chunks that one call of a backend searches.
const SCANNED_TOGETHER: usize = 1 << 16;

/// Device memory that values on their way to the host take at a time, unless one row is longer.
const WINDOW_LEN: u64 = 128 << 20;

impl Selection<'_> {
    fn decode<B: Backend>(&self, backend: &B, dst: &mut B::Buffer<'_>) -> Result<(), Error> {
        self.check(backend)?;
        // Rows of no values have no chunks, and so no jobs.
        let row_count = if self.pieces.is_empty() { 0 } else { self.row_count };
        self.decode_pieces(backend, self.pieces.iter().cloned(), row_count, dst)
    }

    fn decode_to_host<B: DeviceMemory>(&self, backend: &B, dst: &mut HostBuffer<'_>) -> Result<(), Error> {
        let out = self.out;
        let len = self.array.count_values(self.row_count, out)? * out.size();
        let failed = |error| self.array.decode_error(error);
        DecodeError::check_destination(dst, out, len as u64).map_err(failed)?;
        self.check(backend)?;
        let row_len = self.array.dim as usize * out.size();
        let mut rest = dst.bytes_mut();
        let mut buffer: Option<(u64, B::Buffer<'static>)> = None;
        for (pieces, row_count) in windows(&self.pieces, (WINDOW_LEN / row_len.max(1) as u64).max(1)) {
            let values = row_count * u64::from(self.array.dim);
            if values == 0 {
                continue;
            }
            let mut window = match buffer.take() {
                Some((of_values, window)) if of_values == values => window,
                _ => backend.allocate(out, values).map_err(failed)?,
            };
            self.decode_pieces(backend, pieces, row_count, &mut window)?;
            // It is a part of `dst`, which is in memory.
            let (into, after) = rest.split_at_mut(usize::try_from(row_count).expect("in memory") * row_len);
            rest = after;
            backend.download(&window, &mut HostBuffer::from_bytes(out, into)?).map_err(failed)?;
            buffer = Some((values, window));
        }
        Ok(())
    }

    /// Checks that the backend can run all plans, and the frames of all chunks at once, on all cores, rather than one by one
    /// as the backend comes to them.
    fn check(&self, backend: &impl Backend) -> Result<(), Error> {
        for (_, plan) in &self.plans {
            backend.supports(plan)?;
        }
        self.array.ensure_frames(self.plans.iter().map(|(chunk, _)| *chunk)).map_err(|bad| {
            let chunk = self.plans.iter().find(|(chunk, _)| self.array.frame(*chunk) == Some(bad.frame));
            let chunk = chunk.expect("only frames of planned chunks are checked").0;
            self.array.decode_error(DecodeError::Source { chunk, error: bad.error })
        })
    }

    fn decode_pieces<B: Backend>(
        &self,
        backend: &B,
        pieces: impl IntoIterator<Item = Piece>,
        row_count: u64,
        dst: &mut B::Buffer<'_>,
    ) -> Result<(), Error> {
        let jobs = pieces.into_iter().map(|piece| {
            let (chunk, plan) = &self.plans[piece.plan];
            Job { plan, chunk: *chunk, rows: piece.rows, dst_row: piece.dst_row }
        });
        let batch = Batch::new(jobs.collect(), row_count, self.array.dim, self.out)?;
        let payloads = self.array.payloads(batch.jobs().iter().map(|job| (job.chunk, job.rows.clone())));
        backend.decode(&batch, &payloads, dst).map_err(|error| self.array.decode_error(error))
    }
}

/// The pieces in groups of at most so many rows, each with its rows counted from 0 on, and how many those are. Groups end
/// where pieces do if they can: what can only be had whole is then read once.
fn windows(pieces: &[Piece], most: u64) -> Vec<(Vec<Piece>, u64)> {
    let mut windows: Vec<(Vec<Piece>, u64)> = Vec::new();
    for piece in pieces {
        let mut rows = piece.rows.clone();
        while !rows.is_empty() {
            let len = u32::try_from(most).unwrap_or(u32::MAX).min(rows.end - rows.start);
            let part = Piece { rows: rows.start..rows.start + len, dst_row: 0, ..*piece };
            rows.start += len;
            match windows.last_mut() {
                Some((group, row_count)) if *row_count + u64::from(len) <= most => {
                    group.push(Piece { dst_row: *row_count, ..part });
                    *row_count += u64::from(len);
                }
                _ => windows.push((vec![part], u64::from(len))),
            }
        }
    }
    windows
}

/// Whether values stored as `dtype` can be read as `out`, where there is no chunk to ask.
fn check_output(stored: DType, out: DType) -> Result<(), PlanError> {
    let halves = matches!(stored, DType::F32 | DType::F16 | DType::Bf16)
        && matches!(out, DType::F32 | DType::F16 | DType::Bf16);
    if stored == out || halves { Ok(()) } else { Err(PlanError::Output { stored, out }) }
}

impl<'r> Array<'r> {
    /// How many values of `out` these many rows are, if their bytes are within the limit of the reader.
    fn count_values(&self, rows: u64, out: DType) -> Result<usize, Error> {
        let (dim, limit) = (self.dim, self.reader.options.limits.decoded_bytes);
        let values = rows.checked_mul(u64::from(dim));
        let bytes = values.and_then(|values| values.checked_mul(out.size() as u64));
        match (values.map(usize::try_from), bytes) {
            (Some(Ok(values)), Some(bytes)) if bytes <= limit && isize::try_from(bytes).is_ok() => Ok(values),
            _ => Err(Error::Limit { rows, dim, bytes: bytes.unwrap_or(u64::MAX), limit }),
        }
    }

    /// How many values of `out` these rows are, if their bytes are within the limit of the reader.
    pub(crate) fn value_count(&self, ranges: &[Range<u64>], out: DType) -> Result<usize, Error> {
        let rows = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.end - range.start));
        self.count_values(rows, out)
    }

    /// Its encoded bytes, checked as they are read: above all those of these rows of chunks, whose insides have been loaded.
    pub(crate) fn payloads(
        &self,
        rows: impl IntoIterator<Item = (ChunkId, Range<u32>)>,
    ) -> ArrayPayloads<'r> {
        ArrayPayloads { array: *self, ahead: self.ahead(rows) }
    }

    /// The source, asked ahead for the blocks of these rows of chunks, whose insides have been loaded; `None` if that is of no use.
    pub(crate) fn ahead(&self, rows: impl IntoIterator<Item = (ChunkId, Range<u32>)>) -> Option<Ahead<'r>> {
        let blocks = rows.into_iter().flat_map(|(chunk, rows)| {
            let (start, parts) = (self.entry(chunk).bytes.start, &self.inside(chunk).parts);
            parts.ranges(parts.blocks_of(rows)).map(move |range| start + range.start..start + range.end)
        });
        Ahead::new(&*self.reader.source, blocks)
    }

    /// Compares the frames of these chunks with their checksums, if they have any that were not looked at.
    fn ensure_frames(&self, chunks: impl Iterator<Item = ChunkId>) -> Result<(), BadFrame> {
        let Reader { frames, index, source, .. } = self.reader;
        frames.ensure(&index.frames, chunks.filter_map(|chunk| self.frame(chunk)), &**source)
    }

    /// The frame that carries a chunk, in CVCF files.
    fn frame(&self, chunk: ChunkId) -> Option<usize> {
        match self.entry(chunk).stored {
            Stored::Framed { frame, .. } => Some(frame),
            Stored::Blocked(_) => None,
        }
    }
}

/// The payloads of one array, checked on first touch. The insides of the chunks have been loaded.
pub(crate) struct ArrayPayloads<'r> {
    array: Array<'r>,
    /// What is asked instead of the source, if that is far away.
    ahead: Option<Ahead<'r>>,
}

impl ArrayPayloads<'_> {
    fn source(&self) -> &dyn ReadAt {
        match &self.ahead {
            Some(ahead) => ahead,
            None => &*self.array.reader.source,
        }
    }

    /// What must be checked of a run of native blocks before or after its bytes are at hand, if anything must.
    fn unchecked(&self, run: &BlockRun<'_>) -> Result<Option<&Inside>, SourceError> {
        if self.array.frame(run.chunk).is_some() {
            self.array.ensure_frames(std::iter::once(run.chunk)).map_err(|bad| bad.error)?;
            return Ok(None);
        }
        let inside = self.array.inside(run.chunk);
        let never = self.array.reader.options.checksums == Checksums::Never;
        Ok(if never || inside.all_good(run) { None } else { Some(inside) })
    }
}

/// Fills `into` with the bytes of a run, of a chunk that begins at byte `start` of the source.
fn read_run(source: &dyn ReadAt, run: &BlockRun<'_>, start: u64, into: &mut [u8]) -> Result<(), SourceError> {
    let ranges = run.ranges();
    if ranges.clone().count() == 1 {
        for range in ranges {
            source.read_at(start + range.start, into)?;
        }
    } else {
        let mut rest = &mut *into;
        let mut wanted = Vec::new();
        for range in ranges {
            let len = usize::try_from(range.end - range.start).expect("the file was opened on this machine");
            let (part, after) = rest.split_at_mut(len);
            rest = after;
            wanted.push((start + range.start, part));
        }
        source.read_ranges(&mut wanted)?;
    }
    Ok(())
}

impl Payloads for ArrayPayloads<'_> {
    fn read(&self, run: &BlockRun<'_>, into: &mut [u8]) -> Result<(), SourceError> {
        let unchecked = self.unchecked(run)?;
        let start = self.array.entry(run.chunk).bytes.start;
        read_run(self.source(), run, start, into)?;
        unchecked.map_or(Ok(()), |inside| inside.check(run, RunBytes::Ranges(into), start))
    }

    fn will_read(&self, run: &BlockRun<'_>) {
        let start = self.array.entry(run.chunk).bytes.start;
        for range in run.ranges() {
            self.array.reader.source.will_need(start + range.start..start + range.end);
        }
    }

    fn borrow(&self, run: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError> {
        let unchecked = self.unchecked(run)?;
        let entry = self.array.entry(run.chunk);
        let Some(bytes) = self.array.reader.source.borrow(entry.bytes.clone()) else { return Ok(None) };
        if let Some(inside) = unchecked {
            inside.check(run, RunBytes::Chunk(bytes), entry.bytes.start)?;
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_where_pieces_do_if_they_can() {
        let of = |pieces: &[(usize, Range<u32>)], most| {
            let pieces: Vec<Piece> = pieces
                .iter()
                .map(|(plan, rows)| Piece { plan: *plan, rows: rows.clone(), dst_row: 99 })
                .collect();
            let windows = windows(&pieces, most).into_iter();
            let rows = |piece: Piece| (piece.plan, piece.rows, piece.dst_row);
            windows
                .map(|(pieces, row_count)| (pieces.into_iter().map(rows).collect::<Vec<_>>(), row_count))
                .collect::<Vec<_>>()
        };
        let together = vec![(0, 2..5, 0), (1, 0..4, 3)];
        assert_eq!(
            of(&[(0, 2..5), (1, 0..4), (2, 6..6), (2, 0..9)], 9),
            [(together, 7), (vec![(2, 0..9, 0)], 9)]
        );
        let cut = [(vec![(3, 1..5, 0)], 4), (vec![(3, 5..8, 0)], 3), (vec![(3, 0..2, 0), (3, 0..1, 2)], 3)];
        assert_eq!(of(&[(3, 1..8), (3, 0..2), (3, 0..1)], 4), cut);
        assert!(of(&[], 1).is_empty());
    }
}
