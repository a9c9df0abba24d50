//! Rows of codec `raw` where they lie: no plan, no copy, for those who want a few of very many.
//!
//! What [`Array::read`] does for a row (a plan, a job, a call of the backend) costs some hundred nanoseconds. In a file that is in
//! memory, of values that are stored as they are, there is nothing to decode: a row is found by arithmetic. Its block is
//! compared with its checksum when it is first touched, as ever.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cvc_codec::{BlockRun, ChunkId, DecodeError, RunBytes};
use cvc_format::{ArrayDType, ArrayIndex, Layout, Stored};

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
    /// The whole file, and where rows of it were found.
    file: &'r [u8],
    places: Option<&'r RowPlaces>,
    /// The chunk that was looked at last.
    last: Option<Current<'r>>,
}

/// Where single rows were found, kept with the file: for those who come again for others near them, a bit and a sum.
///
/// It has a few bytes for each chunk and a bit for each block, side by side: they stay in the cache that is nearest, whatever
/// rows go through it.
#[derive(Debug)]
pub(crate) struct RowPlaces {
    rows: u64,
    row_len: usize,
    /// Logarithms of the rows to a chunk, and to a block.
    chunk_shift: u32,
    block_shift: u32,
    /// For each chunk, where row 0 of the array would begin in the file if all rows before the chunk lay directly before it.
    starts: Vec<AtomicUsize>,
    /// One bit for each block of the array. Only set when the start of its chunk is there and its rows were found good, or
    /// need not be.
    found: Vec<AtomicU64>,
    /// How many of these bits are not set.
    left: AtomicU64,
}

impl RowPlaces {
    /// Nothing is found yet. Of an array whose chunks, and blocks, have the same power of two of rows.
    pub(crate) fn of(index: &ArrayIndex) -> Option<RowPlaces> {
        let ArrayDType::Values(dtype) = index.dtype else { return None };
        let first = index.chunks.first()?;
        let Stored::Blocked(of_first) = &first.stored else { return None };
        let (chunk_rows, block_rows) = (first.row_count(), of_first.block_rows);
        // A single chunk may have any number of rows: none begins behind it.
        let one = index.chunks.len() == 1;
        let chunk_rows = if one { chunk_rows.checked_next_power_of_two()? } else { chunk_rows };
        let alike = (0..).zip(&index.chunks).all(|(number, chunk)| {
            matches!(&chunk.stored, Stored::Blocked(of) if of.block_rows == block_rows)
                && chunk.rows.start == number * u64::from(chunk_rows)
        });
        if !alike || !chunk_rows.is_power_of_two() || !block_rows.is_power_of_two() || block_rows > chunk_rows
        {
            return None;
        }
        let blocks = index.rows.div_ceil(u64::from(block_rows));
        let words = usize::try_from(blocks.div_ceil(64)).ok()?;
        Some(RowPlaces {
            rows: index.rows,
            row_len: index.dim as usize * dtype.size(),
            chunk_shift: chunk_rows.trailing_zeros(),
            block_shift: block_rows.trailing_zeros(),
            starts: std::iter::repeat_with(AtomicUsize::default).take(index.chunks.len()).collect(),
            found: std::iter::repeat_with(AtomicU64::default).take(words).collect(),
            left: AtomicU64::new(blocks),
        })
    }

    /// Fills `places` with where these rows begin in the file, if rows of all their blocks were found before; says whether they
    /// were.
    fn fill(&self, rows: &[u64], places: &mut [usize]) -> bool {
        let found = |row: &u64| {
            let block = *row >> self.block_shift;
            let word = self.found.get(index(block / 64));
            word.is_some_and(|word| word.load(Ordering::Acquire) >> (block % 64) & 1 == 1)
        };
        if self.left.load(Ordering::Acquire) > 0 && !rows.iter().all(found) {
            return false;
        }
        let mut exist = true;
        for (row, place) in rows.iter().zip(places) {
            exist &= *row < self.rows;
            let start = self.starts.get(index(*row >> self.chunk_shift));
            let start = start.map_or(0, |start| start.load(Ordering::Relaxed));
            *place = start.wrapping_add(index(*row).wrapping_mul(self.row_len));
        }
        exist
    }

    /// Notes that row `row` was found to begin at `place`.
    fn note(&self, row: u64, place: usize) {
        let block = row >> self.block_shift;
        let (bit, start) = (1 << (block % 64), place.wrapping_sub(index(row).wrapping_mul(self.row_len)));
        self.starts[index(row >> self.chunk_shift)].store(start, Ordering::Relaxed);
        if self.found[index(block / 64)].fetch_or(bit, Ordering::Release) & bit == 0 {
            self.left.fetch_sub(1, Ordering::Release);
        }
    }
}

/// A number of rows, or what is counted for them, as an index. One that is too large becomes the largest, which is no index.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Rows that are looked for before any is copied. To look for one touches nothing that is far away, to copy one waits for memory:
/// the less there is to do between two copies, the more of them wait at the same time.
const TOGETHER: usize = 64;

/// Copies rows of `row_len` bytes from these places in `file` to `out`, one after another.
fn copy_places(file: &[u8], places: &[usize], row_len: usize, out: &mut [u8]) {
    fn sized<const N: usize>(file: &[u8], places: &[usize], out: &mut [u8]) {
        for (place, into) in places.iter().zip(out.as_chunks_mut::<N>().0) {
            into.copy_from_slice(&file[*place..][..N]);
        }
    }
    // A copy whose length the compiler knows is a few instructions, any other is a call.
    macro_rules! by_len {
        ($($len:literal)*) => {
            match row_len {
                $($len => sized::<$len>(file, places, out),)*
                _ => places.iter().zip(out.chunks_exact_mut(row_len)).for_each(|(place, into)| {
                    into.copy_from_slice(&file[*place..][..row_len]);
                }),
            }
        };
    }
    by_len!(1 2 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60 64 80 96 128)
}

/// A chunk that rows are taken of.
#[derive(Clone, Copy, Debug)]
struct Current<'r> {
    chunk: ChunkId,
    first: u64,
    end: u64,
    inside: &'r Inside,
    block_rows: u32,
    /// The bytes of its rows.
    bytes: &'r [u8],
    /// Where they begin in the file.
    start: usize,
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
        let source = self.reader().source();
        let Some(file) = source.borrow(0..source.len()).filter(|_| self.dim() == index.dim) else {
            return Ok(None);
        };
        Ok(Some(RawRows {
            array: *self,
            row_len: index.dim as usize * dtype.size(),
            checked: self.reader().options().checksums != Checksums::Never,
            chunk_rows: first.rows.end,
            file,
            places: self.places(),
            last: None,
        }))
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

    /// Copies single rows to `out`, one after another.
    ///
    /// # Errors
    /// As [`RawRows::piece`]; what is in `out` then means nothing.
    ///
    /// # Panics
    /// `out` has not the bytes of so many rows.
    pub fn copy_rows(&mut self, rows: &[u64], out: &mut [u8]) -> Result<(), Error> {
        assert_eq!(Some(out.len()), rows.len().checked_mul(self.row_len), "one place for each row");
        let mut places = [0; TOGETHER];
        for (rows, out) in rows.chunks(TOGETHER).zip(out.chunks_mut((TOGETHER * self.row_len).max(1))) {
            let places = &mut places[..rows.len()];
            if self.places.is_some_and(|known| known.fill(rows, places)) {
                copy_places(self.file, places, self.row_len, out);
                continue;
            }
            for (row, into) in rows.iter().zip(out.chunks_exact_mut(self.row_len)) {
                into.copy_from_slice(self.find_row(*row)?);
            }
        }
        Ok(())
    }

    /// A row that may have to be checked.
    fn find_row(&mut self, row: u64) -> Result<&'r [u8], Error> {
        let bytes = self.piece(row..row.saturating_add(1))?;
        if let (Some(places), Some(current)) = (self.places, &self.last) {
            places.note(row, current.start + index(row - current.first) * self.row_len);
        }
        Ok(bytes)
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
        Ok(Current { chunk, first, end, inside, block_rows, bytes, start: crate::raw::index(start) })
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
        assert!(raw.piece(4..4).unwrap().is_empty());
        assert!(raw.piece(999..1001).is_err());

        // The first chunk begins after the prelude, its head has 64 bytes.
        bytes[64 + 64 + 5] ^= 1;
        let reader = Reader::from_bytes(bytes).unwrap();
        let mut raw = reader.vectors().unwrap().raw_rows().unwrap().unwrap();
        assert!(raw.piece(0..1).is_err() && raw.piece(300..301).is_ok());
    }

    #[test]
    fn single_rows_are_those_of_the_array() {
        // Lengths of rows that are known when this is compiled, and others; chunks with a power of two of rows, and others.
        for (dim, rows, chunk_rows) in
            [(3, 1000, 256), (10, 5000, 1024), (33, 700, 128), (3, 1000, 300), (7, 90, 4096)]
        {
            let values: Vec<f32> = (0..dim * rows).map(|value| value as f32).collect();
            let options = WriteOptions::new(Layout::Native)
                .vectors(DType::F32, u32::try_from(dim).unwrap(), "raw")
                .unwrap();
            let mut writer = Writer::in_memory(options.chunk_rows(chunk_rows).unwrap()).unwrap();
            writer.write_vectors(RowSlice::new(&values, dim).unwrap()).unwrap();
            let mut bytes = writer.finish_bytes().unwrap();
            let reader = Reader::from_bytes(bytes.clone()).unwrap();
            let array = reader.vectors().unwrap();
            let wanted: Vec<u64> = (0..300).map(|n| n * 7919 % rows as u64).collect();
            let expected: Vec<f32> = wanted
                .iter()
                .flat_map(|row| {
                    (0..dim).map(move |value| (usize::try_from(*row).unwrap() * dim + value) as f32)
                })
                .collect();
            let mut out = vec![0f32; wanted.len() * dim];
            // First every row is looked for, then some are known, then all.
            for wanted_before in [&wanted[..40], &wanted[..], &(0..rows as u64).collect::<Vec<_>>()] {
                let mut raw = array.raw_rows().unwrap().unwrap();
                let mut before = vec![0f32; wanted_before.len() * dim];
                raw.copy_rows(wanted_before, bytemuck::cast_slice_mut(&mut before)).unwrap();
                raw.copy_rows(&wanted, bytemuck::cast_slice_mut(&mut out)).unwrap();
                assert_eq!(out, expected);
                for missing in [rows as u64, u64::MAX] {
                    let mut row = vec![0; 4 * dim];
                    assert!(raw.copy_rows(&[missing], &mut row).is_err(), "{missing}");
                }
            }
            // A damaged row is an error whenever it is wanted, and the others are there.
            let at = bytes.windows(8).position(|eight| eight == bytemuck::bytes_of(&[1f32, 2f32])).unwrap();
            bytes[at] ^= 1;
            let reader = Reader::from_bytes(bytes).unwrap();
            let mut raw = reader.vectors().unwrap().raw_rows().unwrap().unwrap();
            let mut row = vec![0f32; dim];
            for _ in 0..2 {
                assert!(raw.copy_rows(&[0], bytemuck::cast_slice_mut(&mut row)).is_err());
                raw.copy_rows(&[rows as u64 - 1], bytemuck::cast_slice_mut(&mut row)).unwrap_or_else(
                    |error| {
                        assert_eq!(
                            (dim, error.to_string().contains("block 0")),
                            (7, true),
                            "they share a block"
                        );
                    },
                );
            }
        }
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
