//! The body of a native file: chunks in the order in which they fill, each written once and never touched again.
//!
//! How rows are split over calls, and how many threads there are, makes no difference to the bytes: a full chunk goes
//! out when its last row has come in; of two that end with the same row, that of the first array goes first. The chunks
//! that are not full follow, in the order of the arrays.

use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cvc_codec::strings::{self, Strings};
use cvc_codec::{
    Backend, Batch, BlockRun, ChunkId, ChunkShape, Codec, CodecError, DType, DecodePlan, EncodeOptions,
    EncodedChunk, HostBuffer, Job, Params, Payloads, RowSlice, SourceError, StoredChunk, find, loss,
};
use cvc_cpu::ops::crc32c::append_each;
use cvc_cpu::{CpuBackend, CpuLoops};
use cvc_format::native::{
    ALIGN, ArraySpec, ChunkOf, ChunkSpec, Contents, LaneBytes, OpenChunk, PRELUDE_LEN, encode_field_head,
};
use cvc_format::{ArrayDType, FormatError, Limits, Loss, Section};

use super::{ArrayOptions, ArrayRows, DEFAULT_CHUNK_LEN, SMALL_BATCH_LEN, WriteOptions, encode_error};
use crate::aligned::AlignedBytes;
use crate::error::Error;
use crate::par::{self, Next};

/// Strings to a chunk unless another number is asked for, and bytes of text with which a chunk is full before that.
const DEFAULT_STRINGS: usize = 1 << 16;
const DEFAULT_TEXT: usize = 16 << 20;

/// Bytes of values that are worth handing to another thread.
const GROUP_LEN: usize = 1 << 20;

/// What follows the last row of a chunk.
const ZEROS: [u8; 64] = [0; 64];
const _: () = assert!(ZEROS.len() as u64 == ALIGN);

/// Rows on their way into a native file.
pub(super) struct Body {
    columns: Vec<Column>,
    /// Rows that have come in, of every column.
    rows: u64,
    /// Whole arrays that go behind the columns: their chunks, encoded.
    attached: Vec<Attached>,
    out: Out,
    spare: Spare,
}

/// The file as far as it is there.
#[derive(Default)]
struct Out {
    began: bool,
    /// What was written.
    chunks: Vec<ChunkSpec>,
    /// What comes next, some chunks at a time: encoded, and written while others are.
    ready: VecDeque<Vec<Encoded>>,
}

/// An array of which every call brings as many rows as of the others.
struct Column {
    options: ArrayOptions,
    how: How,
    chunk_rows: usize,
    /// Bytes of text that fill a chunk of strings, however few rows they are, unless the caller chose the rows.
    chunk_text: Option<usize>,
    /// Rows that are not encoded yet; always less than a chunk.
    pending: Pending,
    /// Rows that came in encoded.
    encoded_rows: u64,
}

/// How the rows of an array are encoded.
#[derive(Clone, Copy)]
enum How {
    Values(&'static dyn Codec, EncodeOptions),
    Strings { codec: &'static str, block_rows: Option<u32> },
}

enum Pending {
    Values { bytes: AlignedBytes, rows: usize },
    Strings(Strings),
}

struct Attached {
    options: ArrayOptions,
    rows: u64,
    chunks: Vec<Encoded>,
}

/// A chunk as it will stand in the file.
struct Encoded {
    bytes: Vec<u8>,
    spec: ChunkSpec,
}

/// A chunk to be encoded.
struct Work<'a> {
    /// The row of the array with which it ends.
    end_row: u64,
    column: usize,
    rows: ArrayRows<'a>,
}

impl Body {
    pub(super) fn new(options: &WriteOptions) -> Result<Body, Error> {
        let specs = options.arrays.iter().map(ArrayOptions::native).collect::<Result<Vec<_>, _>>()?;
        Contents::check_arrays(&specs)?;
        Contents::check_metadata(&options.metadata)?;
        if !options.chunk_metadata.is_empty() {
            let problem = "native files have none; say it in sections";
            return Err(Error::argument("chunk metadata", options.chunk_metadata.len(), problem));
        }
        let columns = options.arrays.iter().map(|array| Column::new(array, options.chunk_rows));
        Ok(Body {
            columns: columns.collect::<Result<_, _>>()?,
            rows: 0,
            attached: Vec::new(),
            out: Out::default(),
            spare: Spare::default(),
        })
    }

    /// Rows in every chunk but the last, of the array whose chunks have the fewest.
    pub(super) fn chunk_rows(&self) -> usize {
        self.columns.iter().map(|column| column.chunk_rows).min().unwrap_or(1)
    }

    pub(super) fn batch_rows(&self) -> usize {
        let row_len =
            self.columns.iter().map(|column| column.options.row_len()).fold(0, usize::saturating_add);
        let chunk_len = self.chunk_rows().saturating_mul(row_len).max(1);
        self.chunk_rows().saturating_mul(par::workers().max(SMALL_BATCH_LEN / chunk_len))
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows + self.columns.first().map_or(0, |column| column.encoded_rows)
    }

    pub(super) fn chunk_count(&self) -> usize {
        self.out.chunks.len()
    }

    pub(super) fn reserve(&self, rows: u64) -> Result<(), Error> {
        let rows = self.rows.saturating_add(rows);
        let columns = self.columns.iter().filter(|column| !column.has_no_bytes());
        let chunks = columns.map(|column| rows.div_ceil(column.chunk_rows as u64));
        let (chunks, most) = (chunks.fold(0, u64::saturating_add), Limits::default().chunks as u64);
        if chunks <= most {
            return Ok(());
        }
        let problem =
            format!("{chunks} chunks would be needed, {most} are possible; put more rows in a chunk");
        Err(Error::argument("chunk rows", self.chunk_rows(), problem))
    }

    /// Encodes and writes the chunks that these rows fill, and keeps the rest of them. Some of the chunks are written by the next
    /// call, while that one's are encoded.
    pub(super) fn append(&mut self, rows: &[ArrayRows<'_>], sink: &mut dyn Write) -> Result<(), Error> {
        let done = self.append_as_they_lie(rows, false, sink)?;
        self.append_encoded(&after(rows, done), sink)
    }

    /// As [`Body::append`], of rows after which none will come.
    pub(super) fn append_last(&mut self, rows: &[ArrayRows<'_>], sink: &mut dyn Write) -> Result<(), Error> {
        let done = self.append_as_they_lie(rows, true, sink)?;
        self.append_encoded(&after(rows, done), sink)
    }

    /// Writes whole chunks of the only array from where the rows lie, if they are stored as they are: there is nothing to
    /// encode, and each copy of a large array costs as much as writing it. Returns how many rows were written; `last` says
    /// that a chunk may be shorter than others at the end.
    fn append_as_they_lie(
        &mut self,
        rows: &[ArrayRows<'_>],
        last: bool,
        sink: &mut dyn Write,
    ) -> Result<usize, Error> {
        let ([column], [ArrayRows::Values(values)]) = (self.columns.as_slice(), rows) else { return Ok(0) };
        let How::Values(codec, options) = column.how else { return Ok(0) };
        let plain = codec.name() == "raw" && cfg!(target_endian = "little") && values.dtype() != DType::Bool;
        if !plain || column.has_no_bytes() || !column.pending.is_empty() {
            return Ok(0);
        }
        let chunk_rows = column.chunk_rows;
        let mut chunks = Vec::new();
        let mut done = 0;
        while values.len() - done >= if last { 1 } else { chunk_rows } {
            let end = values.len().min(done + chunk_rows);
            chunks.push(values.slice(done..end));
            done = end;
        }
        let width = u32::try_from(column.options.row_len()).unwrap_or(u32::MAX);
        let head = |chunk: &RowSlice<'_>| -> Result<_, Error> {
            let Ok(rows) = u32::try_from(chunk.len()) else {
                return Err(Error::argument("chunk rows", chunk.len(), "a chunk holds fewer than 2^32 rows"));
            };
            Ok(encode_field_head(0, rows, options.block_rows, width, chunk.bytes())?)
        };
        if chunks.is_empty() {
            return Ok(0);
        }
        self.put(Vec::new(), sink)?;
        let out = &mut self.out;
        // The checksums of the next chunks are made while one is written.
        par::in_order(&chunks, head, |heads| {
            for chunk in &chunks {
                let Next::Result(made) = heads.next(par::workers(), true) else {
                    unreachable!("there is one for each chunk, and it is waited for")
                };
                let (head, padding, spec) = made?;
                let mut parts = [&head[..], chunk.bytes(), &ZEROS[..padding]].into_iter();
                parts.try_for_each(|bytes| sink.write_all(bytes)).map_err(Error::Output)?;
                out.chunks.push(spec);
            }
            Ok::<(), Error>(())
        })?;
        self.rows += done as u64;
        Ok(done)
    }

    fn append_encoded(&mut self, rows: &[ArrayRows<'_>], sink: &mut dyn Write) -> Result<(), Error> {
        let count = rows.first().map_or(0, ArrayRows::len);
        // First what completes the chunk that is pending, then whole chunks from where they lie, then the rest.
        let mut began = Vec::with_capacity(self.columns.len());
        for (column, rows) in self.columns.iter_mut().zip(rows) {
            let full = if column.pending.is_empty() { Some(0) } else { column.until_full(rows, 0, true) };
            let take = full.unwrap_or(count);
            column.pending.extend(&rows.slice(0..take));
            began.push((take, full.is_some() && !column.pending.is_empty()));
        }
        let mut work = Vec::new();
        let mut rests = Vec::with_capacity(self.columns.len());
        for (position, ((column, rows), begun)) in self.columns.iter().zip(rows).zip(&began).enumerate() {
            let (mut at, pending_is_full) = *begun;
            if column.has_no_bytes() {
                // Rows of no values have no chunks.
                rests.push(count..count);
                continue;
            }
            if pending_is_full {
                let rows = column.pending.rows(&column.options)?;
                work.push(Work { end_row: self.rows + at as u64, column: position, rows });
            }
            while let Some(take) = column.until_full(rows, at, false) {
                let rows = rows.slice(at..at + take);
                at += take;
                work.push(Work { end_row: self.rows + at as u64, column: position, rows });
            }
            rests.push(at..count);
        }
        work.sort_by_key(|work| (work.end_row, work.column));
        self.out.encode_and_put(&self.columns, &work, &self.spare, sink)?;
        self.rows += count as u64;
        for (((column, rows), rest), (_, pending_is_full)) in
            self.columns.iter_mut().zip(rows).zip(rests).zip(began)
        {
            if pending_is_full || column.has_no_bytes() {
                column.pending.clear();
            }
            column.pending.extend(&rows.slice(rest));
        }
        Ok(())
    }

    /// Adds a whole array beside the columns, with a number of rows of its own.
    pub(super) fn attach(
        &mut self,
        options: ArrayOptions,
        chunk_rows: Option<u32>,
        rows: &ArrayRows<'_>,
    ) -> Result<(), Error> {
        let specs =
            self.options().chain([&options]).map(ArrayOptions::native).collect::<Result<Vec<_>, _>>()?;
        Contents::check_arrays(&specs)?;
        check_rows(&options, rows)?;
        let position = specs.len() - 1;
        let column = Column::new(&options, chunk_rows)?;
        let mut chunks = Vec::new();
        if !column.has_no_bytes() {
            let count = rows.len();
            let mut work = Vec::new();
            let mut start = 0;
            while start < count {
                let end = column.until_full(rows, start, false).map_or(count, |take| start + take);
                work.push(Work { end_row: end as u64, column: 0, rows: rows.slice(start..end) });
                start = end;
            }
            chunks = encode_all(std::slice::from_ref(&column), work, &self.spare)?;
            for chunk in &mut chunks {
                chunk.spec.array = array_number(position);
            }
        }
        self.attached.push(Attached { options, rows: rows.len() as u64, chunks });
        Ok(())
    }

    /// Writes one chunk of column `position`, encoded already. Rows of a file come in this way or the other, never both.
    pub(super) fn put_encoded(
        &mut self,
        position: usize,
        rows: u32,
        chunk: &EncodedChunk,
        block_rows: u32,
        loss: Loss,
        sink: &mut dyn Write,
    ) -> Result<(), Error> {
        let column = &mut self.columns[position];
        assert!(column.pending.is_empty(), "rows are pending");
        column.encoded_rows += u64::from(rows);
        if rows == 0 || column.has_no_bytes() {
            return Ok(());
        }
        let encoded = assemble(position, rows, block_rows, chunk, loss, &self.spare)?;
        self.put(vec![encoded], sink)
    }

    /// Writes what is ready, and then these chunks.
    fn put(&mut self, encoded: Vec<Encoded>, sink: &mut dyn Write) -> Result<(), Error> {
        self.out.ready.push_back(encoded);
        self.out.put_all(&self.spare, sink)
    }

    /// Encodes what is left and writes everything that follows the chunks. Returns the length of the file.
    pub(super) fn finish(
        &mut self,
        options: &WriteOptions,
        sections: &[Section],
        sink: &mut dyn Write,
    ) -> Result<u64, Error> {
        let mut work = Vec::new();
        for (position, column) in self.columns.iter().enumerate() {
            if !column.pending.is_empty() {
                let rows = column.pending.rows(&column.options)?;
                work.push(Work { end_row: self.rows, column: position, rows });
            }
        }
        let encoded = encode_all(&self.columns, work, &self.spare)?;
        self.put(encoded, sink)?;
        let mut rows: Vec<u64> = self.columns.iter().map(|column| self.rows + column.encoded_rows).collect();
        for attached in std::mem::take(&mut self.attached) {
            self.put(attached.chunks, sink)?;
            rows.push(attached.rows);
            self.columns.push(Column::new(&attached.options, None)?);
        }
        let specs: Vec<ArraySpec> = self.options().map(ArrayOptions::native).collect::<Result<_, _>>()?;
        let contents = Contents {
            arrays: &specs,
            rows: &rows,
            chunks: &self.out.chunks,
            sections,
            sections_from_chunks: options.sections_from_chunks,
            metadata: &options.metadata,
        };
        let suffix = contents.suffix()?;
        sink.write_all(&suffix).map_err(Error::Output)?;
        let chunks: u64 = self.out.chunks.iter().map(|chunk| chunk.len).sum();
        Ok(PRELUDE_LEN + chunks + suffix.len() as u64)
    }

    /// The arrays, in file order.
    fn options(&self) -> impl Iterator<Item = &ArrayOptions> {
        let attached = self.attached.iter().map(|attached| &attached.options);
        self.columns.iter().map(|column| &column.options).chain(attached)
    }

    pub(super) fn check_rows(&self, rows: &[ArrayRows<'_>]) -> Result<(), Error> {
        self.columns.iter().zip(rows).try_for_each(|(column, rows)| check_rows(&column.options, rows))
    }
}

impl Out {
    /// Encodes chunks on all cores, and writes those that are ready at the same time. There are never more than two for each
    /// core that are ready or being encoded, or as many groups of small ones.
    ///
    /// Of several failures, of encoding or of writing, the first in the order of the file is reported; what stands before it
    /// in the file is written, and nothing after it.
    fn encode_and_put(
        &mut self,
        columns: &[Column],
        work: &[Work<'_>],
        spare: &Spare,
        sink: &mut dyn Write,
    ) -> Result<(), Error> {
        let groups = groups(work);
        let most = 2 * par::workers();
        let encode = |group: &&[Work<'_>]| {
            let mut lent = spare.lend();
            let encode = |work: &Work<'_>| encode_one(&columns[work.column], work, &mut lent.scratch, spare);
            group.iter().map(encode).collect::<Result<Vec<Encoded>, Error>>()
        };
        par::in_order(&groups, encode, |encoded| {
            loop {
                match encoded.next(most.saturating_sub(self.ready.len()), self.ready.is_empty()) {
                    Next::Result(Ok(chunks)) => self.ready.push_back(chunks),
                    Next::Result(Err(error)) => return self.put_all(spare, sink).and(Err(error)),
                    Next::Later => self.put_next(spare, sink)?,
                    Next::Done => return Ok(()),
                }
            }
        })
    }

    /// Writes all that is ready.
    fn put_all(&mut self, spare: &Spare, sink: &mut dyn Write) -> Result<(), Error> {
        while !self.ready.is_empty() {
            self.put_next(spare, sink)?;
        }
        Ok(())
    }

    /// Writes the first that is ready, after the prelude if nothing was written before.
    fn put_next(&mut self, spare: &Spare, sink: &mut dyn Write) -> Result<(), Error> {
        if !self.began {
            sink.write_all(&Contents::prelude()).map_err(Error::Output)?;
            self.began = true;
        }
        for chunk in self.ready.pop_front().unwrap_or_default() {
            sink.write_all(&chunk.bytes).map_err(Error::Output)?;
            self.chunks.push(chunk.spec);
            spare.give_back(chunk.bytes);
        }
        Ok(())
    }
}

/// The rows after the first `done` of each array.
fn after<'a>(rows: &[ArrayRows<'a>], done: usize) -> Vec<ArrayRows<'a>> {
    rows.iter().map(|rows| rows.slice(done..rows.len())).collect()
}

/// Chunks that follow each other, together where they are so small that handing over each by itself would be felt.
fn groups<'w, 'a>(work: &'w [Work<'a>]) -> Vec<&'w [Work<'a>]> {
    let mut groups = Vec::new();
    let mut rest = work;
    while !rest.is_empty() {
        let mut len = 0;
        let full = rest.iter().position(|work| {
            len += match &work.rows {
                ArrayRows::Values(values) => values.bytes().len(),
                ArrayRows::Strings { strings, rows } => rows.clone().map(|row| strings.get(row).len()).sum(),
            };
            len >= GROUP_LEN
        });
        let (group, after) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
        groups.push(group);
        rest = after;
    }
    groups
}

/// Refuses rows that are not those of the array.
fn check_rows(options: &ArrayOptions, rows: &ArrayRows<'_>) -> Result<(), Error> {
    let fits = match rows {
        ArrayRows::Values(rows) => {
            options.dtype == ArrayDType::Values(rows.dtype()) && rows.dim() == options.dim() as usize
        }
        ArrayRows::Strings { .. } => options.dtype == ArrayDType::Utf8,
    };
    if fits {
        return Ok(());
    }
    let held = match options.dtype {
        ArrayDType::Utf8 => "strings".to_owned(),
        dtype => format!("rows of {} {dtype} values", options.dim()),
    };
    Err(Error::argument("rows", rows.describe(), format!("array \"{}\" has {held}", options.name)))
}

impl Column {
    fn new(options: &ArrayOptions, chunk_rows: Option<u32>) -> Result<Column, Error> {
        let codec = find(&options.codec).map_err(encode_error(&options.name, 0))?;
        let row_len = options.row_len() as u64;
        let (how, pending, default_rows) = match options.dtype {
            ArrayDType::Utf8 => (
                How::Strings { codec: codec.name(), block_rows: options.block_rows },
                Pending::Strings(Strings::default()),
                DEFAULT_STRINGS as u64,
            ),
            _ => {
                let encode = options.encode_options()?;
                // The largest power of two within the default, and never less than a block.
                let rows = (DEFAULT_CHUNK_LEN / row_len.max(1)).max(1);
                let rows = (1u64 << rows.ilog2()).clamp(1, 1 << 31).max(u64::from(encode.block_rows));
                (How::Values(codec, encode), Pending::Values { bytes: AlignedBytes::new(), rows: 0 }, rows)
            }
        };
        let chunk_text = (options.dtype == ArrayDType::Utf8 && chunk_rows.is_none()).then_some(DEFAULT_TEXT);
        let chunk_rows = chunk_rows.map_or(default_rows, u64::from);
        let chunk_rows = usize::try_from(chunk_rows).unwrap_or(usize::MAX);
        Ok(Column { options: options.clone(), how, chunk_rows, chunk_text, pending, encoded_rows: 0 })
    }
}

impl Column {
    /// How many of `rows`, from row `from` on, fill a chunk, together with those that are pending if they are to be in it;
    /// `None` if there are not so many. It depends on the rows alone, not on how they are split over calls.
    fn until_full(&self, rows: &ArrayRows<'_>, from: usize, with_pending: bool) -> Option<usize> {
        let pending = if with_pending { self.pending.len() } else { 0 };
        let (missing, left) = (self.chunk_rows - pending, rows.len() - from);
        if let (Some(most), ArrayRows::Strings { strings, rows }) = (self.chunk_text, rows) {
            let mut text = if with_pending { self.pending.text_len() } else { 0 };
            for row in 0..missing.min(left) {
                text += strings.get(rows.start + from + row).len();
                if text >= most {
                    return Some(row + 1);
                }
            }
        }
        (left >= missing).then_some(missing)
    }

    /// Whether rows have no values, and so no chunks.
    fn has_no_bytes(&self) -> bool {
        self.options.dtype != ArrayDType::Utf8 && self.options.row_len() == 0
    }
}

impl Pending {
    fn len(&self) -> usize {
        match self {
            Pending::Values { rows, .. } => *rows,
            Pending::Strings(strings) => strings.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn text_len(&self) -> usize {
        match self {
            Pending::Values { .. } => 0,
            Pending::Strings(strings) => strings.text().len(),
        }
    }

    fn clear(&mut self) {
        match self {
            Pending::Values { bytes, rows } => {
                bytes.resize(0);
                *rows = 0;
            }
            Pending::Strings(strings) => strings.clear(),
        }
    }

    fn extend(&mut self, more: &ArrayRows<'_>) {
        match (self, more) {
            (Pending::Values { bytes, rows }, ArrayRows::Values(more)) => {
                let filled = bytes.bytes().len();
                bytes.resize(filled + more.bytes().len())[filled..].copy_from_slice(more.bytes());
                *rows += more.len();
            }
            (Pending::Strings(strings), ArrayRows::Strings { strings: more, rows }) => {
                rows.clone().for_each(|row| strings.push(more.get(row)));
            }
            _ => unreachable!("checked when the rows came in"),
        }
    }

    fn rows(&self, options: &ArrayOptions) -> Result<ArrayRows<'_>, Error> {
        Ok(match (self, options.dtype) {
            (Pending::Values { bytes, rows }, ArrayDType::Values(dtype)) => {
                ArrayRows::Values(RowSlice::from_bytes(dtype, *rows, options.dim() as usize, bytes.bytes())?)
            }
            (Pending::Strings(strings), _) => ArrayRows::from(strings),
            _ => unreachable!("made for each other"),
        })
    }
}

/// Encodes chunks on all cores, in the order in which they belong in the file.
fn encode_all(columns: &[Column], mut work: Vec<Work<'_>>, spare: &Spare) -> Result<Vec<Encoded>, Error> {
    work.sort_by_key(|work| (work.end_row, work.column));
    par::try_map(
        &work,
        || spare.lend(),
        |lent, work| encode_one(&columns[work.column], work, &mut lent.scratch, spare),
    )
}

/// Memory that was used for chunks and will be again. Fresh memory is slow: writing a page of it for the first time takes
/// longer than encoding a page of fp16.
#[derive(Default)]
struct Spare {
    scratches: Mutex<Vec<Scratch>>,
    bytes: Mutex<Vec<Vec<u8>>>,
}

/// What a thread needs to encode a chunk.
#[derive(Default)]
struct Scratch {
    chunk: EncodedChunk,
    decoded: Vec<f32>,
}

/// A scratch that goes back when it is dropped.
struct Lent<'a> {
    scratch: Scratch,
    spare: &'a Spare,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        lock(&self.spare.scratches).push(std::mem::take(&mut self.scratch));
    }
}

impl Spare {
    fn lend(&self) -> Lent<'_> {
        Lent { scratch: lock(&self.scratches).pop().unwrap_or_default(), spare: self }
    }

    /// A buffer that may hold what is left of another chunk.
    fn buffer(&self) -> Vec<u8> {
        lock(&self.bytes).pop().unwrap_or_default()
    }

    fn give_back(&self, bytes: Vec<u8>) {
        lock(&self.bytes).push(bytes);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is only memory.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn encode_one(
    column: &Column,
    work: &Work<'_>,
    scratch: &mut Scratch,
    spare: &Spare,
) -> Result<Encoded, Error> {
    let name = &column.options.name;
    let first_row = work.end_row - work.rows.len() as u64;
    let Ok(rows) = u32::try_from(work.rows.len()) else {
        return Err(Error::argument("chunk rows", work.rows.len(), "a chunk holds fewer than 2^32 rows"));
    };
    match (&work.rows, column.how) {
        (ArrayRows::Values(values), How::Values(codec, options)) => {
            let chunk = Values { codec, options, values: *values, rows, position: work.column };
            chunk.encode(scratch, spare).map_err(|failure| match failure {
                Failure::Codec { row, error } => encode_error(name, first_row + u64::from(row))(error),
                Failure::Format(error) => error.into(),
                Failure::Unreadable(problem) => Error::Unreadable { array: name.clone(), problem },
            })
        }
        (ArrayRows::Strings { strings, rows: range }, How::Strings { codec, block_rows }) => {
            let of_chunk;
            let strings = if range.len() == strings.len() {
                *strings
            } else {
                of_chunk = range.clone().map(|row| strings.get(row)).collect();
                &of_chunk
            };
            let block_rows = block_rows.unwrap_or_else(|| strings::default_block_rows(strings));
            strings::encode_strings(strings, codec, block_rows, &mut scratch.chunk)
                .map_err(encode_error(name, first_row))?;
            assemble(work.column, rows, block_rows, &scratch.chunk, Loss::NONE, spare)
        }
        _ => unreachable!("checked when the rows came in"),
    }
}

fn array_number(position: usize) -> u16 {
    u16::try_from(position).expect("a file has at most 65,535 arrays")
}

/// A chunk of values that is to be encoded.
struct Values<'a> {
    codec: &'static dyn Codec,
    options: EncodeOptions,
    values: RowSlice<'a>,
    /// How many.
    rows: u32,
    /// Of the array.
    position: usize,
}

/// Why a chunk of values cannot be encoded.
enum Failure {
    /// Some of the values, counted from this row.
    Codec { row: u32, error: CodecError },
    /// It would be too large.
    Format(FormatError),
    /// It cannot be read back: a bug of this library, which must not become a file.
    Unreadable(String),
}

impl Values<'_> {
    /// Encodes the values and measures what that loses, from the very bytes that will stand in the file: if the codec allows it,
    /// some blocks at a time, which stay in the cache while they are encoded, put in their place, hashed and compared.
    fn encode(&self, scratch: &mut Scratch, spare: &Spare) -> Result<Encoded, Failure> {
        let Scratch { chunk, decoded } = scratch;
        let Values { codec, options, rows, position, .. } = *self;
        let loops = CpuLoops::new();
        let run_rows = self.run_rows();
        let step = if codec.is_by_row(&options) { run_rows } else { rows };
        let mut run = 0..step.min(rows);
        let of_codec = |row| move |error| Failure::Codec { row, error };
        codec.encode(self.slice(&run), &options, &loops, chunk).map_err(of_codec(run.start))?;
        let mut bytes = spare.buffer();
        let mut open =
            open_chunk(position, rows, options.block_rows, chunk, &mut bytes).map_err(Failure::Format)?;
        let mut lossy = match codec.is_lossless() {
            true => None,
            false => Some((self.plan(&open, chunk)?, loss::Measure::new(&loops))),
        };
        open.put(run.end - run.start, chunk.fields.iter().map(|field| field.bytes.as_slice()));
        loop {
            if let Some((plan, measure)) = &mut lossy {
                for start in run.clone().step_by(run_rows as usize) {
                    let rows = start..start.saturating_add(run_rows).min(run.end);
                    decode(plan, rows.clone(), open.bytes(), decoded)?;
                    measure.add(self.slice(&rows), decoded);
                }
            }
            if run.end == rows {
                break;
            }
            run = run.end..run.end.saturating_add(step).min(rows);
            // By row, since otherwise the first run is all there is.
            open.fill(run.end - run.start, |fields| {
                codec.encode_into(self.slice(&run), &options, &loops, fields)
            })
            .map_err(of_codec(run.start))?;
        }
        let spec = open.finish(lossy.map_or(Loss::NONE, |(_, measure)| measure.finish()));
        Ok(Encoded { bytes, spec })
    }

    fn slice(&self, rows: &Range<u32>) -> RowSlice<'_> {
        self.values.slice(rows.start as usize..rows.end as usize)
    }

    /// How many rows are in the cache at a time: whole blocks.
    fn run_rows(&self) -> u32 {
        let row_len = (self.values.dim() * size_of::<f32>()).max(1);
        let blocks = CpuLoops::RUN_LEN / row_len / self.options.block_rows as usize;
        u32::try_from(blocks)
            .expect("no more than the run has bytes")
            .max(1)
            .saturating_mul(self.options.block_rows)
    }

    /// How a reader would decode the chunk.
    fn plan(&self, open: &OpenChunk<'_>, chunk: &EncodedChunk) -> Result<DecodePlan, Failure> {
        let dim = u32::try_from(self.values.dim()).expect("checked when the array was described");
        let params = Params::Bytes(params(chunk).into());
        let parts = Arc::new(open.parts().clone());
        let shape = ChunkShape { rows: self.rows, dim };
        let stored = StoredChunk { shape, dtype: self.values.dtype(), params: &params, parts: &parts };
        Ok(self.codec.plan(&stored, DType::F32)?)
    }
}

fn params(chunk: &EncodedChunk) -> &[u8] {
    match &chunk.params {
        Params::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// Begins the bytes of a chunk, in memory that may hold what is left of another one. The rows of its fields are missing.
fn open_chunk<'o>(
    position: usize,
    rows: u32,
    block_rows: u32,
    chunk: &EncodedChunk,
    bytes: &'o mut Vec<u8>,
) -> Result<OpenChunk<'o>, FormatError> {
    let widths: Vec<u32> = chunk.fields.iter().map(|field| field.width).collect();
    let lanes: Vec<LaneBytes<'_>> =
        chunk.lanes.iter().map(|lane| LaneBytes { bytes: &lane.bytes, lens: &lane.lens }).collect();
    let array = array_number(position);
    let chunk = ChunkOf { array, rows, block_rows, params: params(chunk), widths: &widths, lanes: &lanes };
    Ok(OpenChunk::new(&chunk, bytes, 0)?.hashed_by(append_each))
}

/// The bytes of a chunk that is encoded as a whole.
fn assemble(
    position: usize,
    rows: u32,
    block_rows: u32,
    chunk: &EncodedChunk,
    loss: Loss,
    spare: &Spare,
) -> Result<Encoded, Error> {
    let mut bytes = spare.buffer();
    let mut open = open_chunk(position, rows, block_rows, chunk, &mut bytes)?;
    open.put(rows, chunk.fields.iter().map(|field| field.bytes.as_slice()));
    let spec = open.finish(loss);
    Ok(Encoded { bytes, spec })
}

/// Decodes some rows of a chunk, as a reader would.
fn decode(plan: &DecodePlan, rows: Range<u32>, bytes: &[u8], decoded: &mut Vec<f32>) -> Result<(), Failure> {
    let (count, dim) = ((rows.end - rows.start), plan.shape().dim);
    decoded.resize(count as usize * dim as usize, 0.0);
    let job = Job { plan, chunk: ChunkId(0), rows, dst_row: 0 };
    let batch = Batch::new(vec![job], u64::from(count), dim, DType::F32)?;
    CpuBackend::new().decode(&batch, &InMemory(bytes), &mut HostBuffer::new(decoded))?;
    Ok(())
}

/// A chunk that was encoded a moment ago; its checksums need no look.
struct InMemory<'a>(&'a [u8]);

impl Payloads for InMemory<'_> {
    fn read(&self, run: &BlockRun<'_>, into: &mut [u8]) -> Result<(), SourceError> {
        let index = |offset: u64| usize::try_from(offset).expect("in memory");
        let mut rest = into;
        for range in run.ranges() {
            let Range { start, end } = range;
            let (part, after) = rest.split_at_mut(index(end - start));
            rest = after;
            part.copy_from_slice(&self.0[index(start)..index(end)]);
        }
        Ok(())
    }

    fn borrow(&self, _run: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError> {
        Ok(Some(self.0))
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Unreadable(error.to_string())
    }
}
