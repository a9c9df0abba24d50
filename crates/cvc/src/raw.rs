//! Rows of codec `raw` where they lie: no plan, no copy, for those who want a few of very many.
//!
//! What [`Array::read`] does for a row (a plan, a job, a call of the backend) costs some hundred nanoseconds. In a file that is in
//! memory, of values that are stored as they are, there is nothing to decode: a row is found by arithmetic. Its block is
//! compared with its checksum when it is first touched, as ever.

use std::cell::Cell;
use std::ops::Range;

use cvc_codec::{BlockRun, ChunkId, DecodeError, RunBytes};
use cvc_format::{ArrayDType, Layout, Stored};

use crate::checks::Checksums;
use crate::error::Error;
use crate::reader::Array;

/// The rows of an array that can be had as bytes of the file. Made by [`Array::raw_rows`].
#[derive(Debug)]
pub struct RawRows<'r> {
    array: Array<'r>,
    row_len: usize,
    checked: bool,
    /// The chunk that was looked at last.
    last: Cell<usize>,
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
        Ok(Some(RawRows { array: *self, row_len, checked, last: Cell::new(0) }))
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
    pub fn piece(&self, rows: Range<u64>) -> Result<&'r [u8], Error> {
        let index = self.array.index();
        if rows.start > rows.end || rows.end > index.rows {
            let value = format!("{}..{}", rows.start, rows.end);
            return Err(Error::argument("rows", value, format!("the array has rows 0..{}", index.rows)));
        }
        if rows.is_empty() {
            return Ok(&[]);
        }
        let mut position = self.last.get();
        if !index.chunks[position].rows.contains(&rows.start) {
            position = index.chunk_of(rows.start).index();
            self.array.load_insides([chunk_id(position)])?;
            self.last.set(position);
        } else if position == 0 {
            // It may be the first look at all.
            self.array.load_insides([ChunkId(0)])?;
        }
        let (chunk, entry) = (chunk_id(position), &index.chunks[position]);
        let inside = self.array.inside(chunk);
        let parts = &inside.parts;
        let within =
            |row: u64| u32::try_from(row - entry.rows.start).expect("a chunk has fewer than 2^32 rows");
        let (start, end) = (within(rows.start), within(rows.end.min(entry.rows.end)));
        let ([field], Stored::Blocked(_)) = (parts.fields(), &entry.stored) else {
            // Only a file that is damaged with right checksums has others; the plan says so properly.
            self.array.plan(chunk, self.array.dtype()?)?;
            unreachable!("a chunk of raw values has one field")
        };
        if field.width as usize != self.row_len {
            self.array.plan(chunk, self.array.dtype()?)?;
            unreachable!("a row of raw values has the bytes of its values")
        }
        let source = self.array.reader().source();
        if self.checked {
            let run = BlockRun { chunk, parts, blocks: parts.blocks_of(start..end) };
            if !inside.all_good(&run) {
                let bytes = source.borrow(entry.bytes.clone()).expect("it was in memory before");
                inside.check(&run, RunBytes::Chunk(bytes), entry.bytes.start).map_err(|error| {
                    Error::Decode { array: index.name.clone(), error: DecodeError::Source { chunk, error } }
                })?;
            }
        }
        let at = |row: u32| entry.bytes.start + field.offset + u64::from(row) * u64::from(field.width);
        Ok(source.borrow(at(start)..at(end)).expect("it was in memory before"))
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
        let raw = array.raw_rows().unwrap().unwrap();
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
        let raw = reader.vectors().unwrap().raw_rows().unwrap().unwrap();
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
