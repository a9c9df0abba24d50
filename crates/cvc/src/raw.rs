//! Rows of codec `raw` where they lie: no plan, no copy, for those who want a few of very many.
//!
//! What [`Array::read`] does for a row (a plan, a job, a call of the backend) costs some hundred nanoseconds. In a file that is in
//! memory, of values that are stored as they are, there is nothing to decode: a row is found by arithmetic. Its block is
//! compared with its checksum when it is first touched, as ever.

use std::ops::Range;

use cvc_codec::{BlockRun, ChunkId, DecodeError, RunBytes};
use cvc_format::{ArrayDType, Layout, Stored};

use crate::checks::Checksums;
use crate::error::Error;
use crate::inside::Inside;
use crate::reader::Array;

/// The rows of an array that can be had as bytes of the file. Made by [`Array::raw_rows`].
#[derive(Debug)]
pub struct RawRows<'r> {
    array: Array<'r>,
    row_len: usize,
    checked: bool,
    /// Rows of every chunk but the last, if all are alike; else of the first.
    chunk_rows: u64,
    /// The chunk that was looked at last.
    last: Option<Current<'r>>,
    /// Chunks that single rows were taken of, by their number; empty where there are too many.
    known: Vec<Option<Current<'r>>>,
}

/// Chunks that are remembered one by one.
const KNOWN_CHUNKS: usize = 1024;

/// A chunk that rows are taken of.
#[derive(Clone, Copy, Debug)]
struct Current<'r> {
    chunk: ChunkId,
    first: u64,
    end: u64,
    inside: &'r Inside,
    /// The logarithm of the rows to a block, if that is a power of two.
    block_shift: Option<u32>,
    block_rows: u32,
    /// The bytes of its rows.
    bytes: &'r [u8],
}

impl<'r> Array<'r> {
    /// Its rows where they lie, if they are stored as they are in this machine's order of bytes and the source lies in memory.
    ///
    /// # Errors
    /// The array is of a kind that this version does not know.
    pub fn raw_rows(&self) -> Result<Option<RawRows<'r>>, Error> {
        self.check_readable()?;
        let index = self.index();
        let plain = self.reader().layout() == Layout::Native && &*index.codec == "raw";
        let (ArrayDType::Values(dtype), true) = (index.dtype, plain && cfg!(target_endian = "little")) else {
            return Ok(None);
        };
        let Some(first) = index.chunks.first() else { return Ok(None) };
        let whole = self.dim() == index.dim;
        if !whole || self.reader().source().borrow(first.bytes.clone()).is_none() {
            return Ok(None);
        }
        let checked = self.reader().options().checksums != Checksums::Never;
        let row_len = index.dim as usize * dtype.size();
        let chunk_rows = first.rows.end;
        Ok(Some(RawRows { array: *self, row_len, checked, chunk_rows, last: None, known: Vec::new() }))
    }
}

impl<'r> RawRows<'r> {
    /// Bytes of a row.
    pub fn row_len(&self) -> usize {
        self.row_len
    }

    /// As many of `rows` as lie in one piece from the first on: one or more, unless there are none.
    ///
    /// # Errors
    /// A row that does not exist, or that is damaged.
    #[inline]
    pub fn piece(&mut self, rows: Range<u64>) -> Result<&'r [u8], Error> {
        if let Some(current) = &self.last
            && current.first <= rows.start
            && rows.start < rows.end
            && rows.start < current.end
            && rows.end <= self.array.index().rows
        {
            return self.piece_of(current, rows);
        }
        self.piece_elsewhere(rows)
    }

    /// Row `row` where it lies; `None` if it has to be looked for with [`RawRows::piece`], which checks it, too. For those who want
    /// one row after another, thousands of them.
    #[inline]
    pub fn row(&mut self, row: u64) -> Option<&'r [u8]> {
        let current = self.known.get(usize::try_from(row / self.chunk_rows).ok()?)?.as_ref()?;
        if row < current.first || row >= current.end {
            return None;
        }
        let within = row - current.first;
        let block = u32::try_from(within >> current.block_shift?).ok()?;
        if self.checked && !current.inside.is_good(block) {
            return None;
        }
        let at = usize::try_from(within).ok()? * self.row_len;
        current.bytes.get(at..at + self.row_len)
    }

    fn piece_elsewhere(&mut self, rows: Range<u64>) -> Result<&'r [u8], Error> {
        let index = self.array.index();
        if rows.start > rows.end || rows.end > index.rows {
            let value = format!("{}..{}", rows.start, rows.end);
            return Err(Error::argument("rows", value, format!("the array has rows 0..{}", index.rows)));
        }
        if rows.is_empty() {
            return Ok(&[]);
        }
        let current = self.find(rows.start)?;
        self.last = Some(current);
        let chunks = index.chunks.len();
        if chunks <= KNOWN_CHUNKS {
            self.known.resize(chunks, None);
            self.known[current.chunk.index()] = Some(current);
        }
        self.piece_of(&current, rows)
    }

    fn find(&self, row: u64) -> Result<Current<'r>, Error> {
        let index = self.array.index();
        let guess = usize::try_from(row / self.chunk_rows).unwrap_or(usize::MAX);
        let chunk = match index.chunks.get(guess) {
            Some(entry) if entry.rows.contains(&row) => chunk_id(guess),
            _ => index.chunk_of(row),
        };
        let entry = &index.chunks[chunk.index()];
        let inside = self.array.loaded_inside(chunk)?;
        let field = match (inside.parts.fields(), &entry.stored) {
            ([field], Stored::Blocked(_)) if field.width as usize == self.row_len => field,
            _ => {
                // Only a file that is damaged with right checksums has others; the plan says so properly.
                self.array.plan(chunk, self.array.dtype()?)?;
                unreachable!("a chunk of raw values is one field of rows")
            }
        };
        let start = entry.bytes.start + field.offset;
        let len = u64::from(inside.parts.rows()) * u64::from(field.width);
        let bytes = self.array.reader().source().borrow(start..start + len).expect("it was in memory before");
        let Range { start: first, end } = entry.rows;
        let block_rows = inside.parts.block_rows();
        let block_shift = block_rows.is_power_of_two().then(|| block_rows.trailing_zeros());
        Ok(Current { chunk, first, end, inside, block_rows, block_shift, bytes })
    }

    #[inline]
    fn piece_of(&self, current: &Current<'r>, rows: Range<u64>) -> Result<&'r [u8], Error> {
        let end = rows.end.min(current.end);
        if self.checked {
            let (first, last) = (rows.start - current.first, end - 1 - current.first);
            let (first, last) = (first / u64::from(current.block_rows), last / u64::from(current.block_rows));
            for block in first..=last {
                let block = u32::try_from(block).expect("a chunk has fewer than 2^32 rows");
                if !current.inside.is_good(block) {
                    self.check(current, block)?;
                }
            }
        }
        let at = |row: u64| usize::try_from(row - current.first).expect("it is in memory") * self.row_len;
        Ok(&current.bytes[at(rows.start)..at(end)])
    }

    #[cold]
    fn check(&self, current: &Current<'r>, block: u32) -> Result<(), Error> {
        let Current { chunk, inside, .. } = *current;
        let (index, source) = (self.array.index(), self.array.reader().source());
        let entry = &index.chunks[chunk.index()];
        let run = BlockRun { chunk, parts: &inside.parts, blocks: block..block + 1 };
        let bytes = source.borrow(entry.bytes.clone()).expect("it was in memory before");
        inside.check(&run, RunBytes::Chunk(bytes), entry.bytes.start).map_err(|error| Error::Decode {
            array: index.name.clone(),
            error: DecodeError::Source { chunk, error },
        })
    }
}

fn chunk_id(position: usize) -> ChunkId {
    ChunkId(u32::try_from(position).expect("a file has fewer than 2^32 chunks"))
}

#[cfg(test)]
mod tests {
    use crate::{DType, Layout, Reader, RowSlice, WriteOptions, Writer};

    #[test]
    fn pieces_are_the_rows_that_reading_gives() {
        let values: Vec<f32> = (0..3000u16).map(f32::from).collect();
        let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 3, "raw").unwrap();
        let mut writer = Writer::in_memory(options.chunk_rows(300).unwrap()).unwrap();
        writer.write_vectors(RowSlice::new(&values, 3).unwrap()).unwrap();
        let mut bytes = writer.finish_bytes().unwrap();
        let reader = Reader::from_bytes(bytes.clone()).unwrap();
        let array = reader.vectors().unwrap();
        let mut raw = array.raw_rows().unwrap().unwrap();
        let (mut row, mut all) = (0, Vec::new());
        while row < 1000 {
            let piece = raw.piece(row..1000).unwrap();
            row += (piece.len() / raw.row_len()) as u64;
            all.extend_from_slice(piece);
        }
        assert_eq!(all, bytemuck::cast_slice::<f32, u8>(&values));
        assert_eq!(raw.piece(999..1000).unwrap(), bytemuck::cast_slice::<f32, u8>(&values[2997..]));
        assert_eq!(raw.row(998).unwrap(), bytemuck::cast_slice::<f32, u8>(&values[2994..2997]));
        assert!(raw.row(1000).is_none());
        assert!(raw.piece(4..4).unwrap().is_empty());
        assert!(raw.piece(999..1001).is_err());

        // The first chunk begins after the prelude, its head has 64 bytes.
        bytes[64 + 64 + 5] ^= 1;
        let reader = Reader::from_bytes(bytes).unwrap();
        let mut raw = reader.vectors().unwrap().raw_rows().unwrap().unwrap();
        assert!(raw.piece(0..1).is_err() && raw.piece(300..301).is_ok());
    }

    #[test]
    fn what_must_be_decoded_cannot_be_had_so() {
        let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 1, "fp16").unwrap();
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write_vectors(RowSlice::new(&[1f32], 1).unwrap()).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        assert!(reader.vectors().unwrap().raw_rows().unwrap().is_none());
    }
}
