//! Rows of a table in parts, such as engines read side by side: of a size, and ending where blocks do.

use std::collections::VecDeque;
use std::ops::Range;

use cvc::format::Stored;
use cvc::{Array, ArrayDType, DType, Reader, Rows};

use crate::table::{Table, of};

/// How often the arrays of a table are asked, one after the other, for an end that they have in common: small blocks whose ends never meet
/// would be looked at one by one.
const STEPS: usize = 64;

/// Rows that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The rows, in file order.
    pub ranges: Vec<Range<u64>>,
    /// How many.
    pub rows: u64,
    /// Bytes of all values, of strings an estimate.
    pub decoded_len: u64,
    /// Bytes in the file: of chunks that are read in part, their share.
    pub stored_len: u64,
}

impl Table {
    /// These rows, in parts of at most `max_len` decoded bytes each: as [`divide`].
    ///
    /// # Errors
    /// There are no such rows.
    pub fn divide(&self, ranges: &[Range<u64>], max_len: u64) -> Result<Vec<Part>, cvc::Error> {
        divided(self.lens(), ranges, self.rows(), max_len)
    }
}

/// These rows of the arrays at some positions in a file, in parts of at most `max_len` decoded bytes each. The arrays have equally many rows,
/// of whatever values; `floats` is what floats of at most 32 bits are decoded to, as for a [`Table`].
///
/// Parts end where chunks do, or blocks where a chunk is larger: no block is read for two of them. Where several arrays have no
/// such end in common, those of the widest array decide, and single blocks of the others are read twice. A part that cannot be
/// divided, as blocks are larger, has more than `max_len`.
///
/// # Errors
/// There are no such rows.
///
/// # Panics
/// There is no array at one of the positions.
pub fn divide(
    reader: &Reader,
    arrays: &[usize],
    floats: Option<DType>,
    ranges: &[Range<u64>],
    max_len: u64,
) -> Result<Vec<Part>, cvc::Error> {
    let arrays = arrays.iter().map(|position| of(reader, *position));
    let lens: Vec<_> = arrays.map(|array| (row_len(&array, floats), array)).collect();
    let rows = lens.iter().map(|(_, array)| array.rows()).min().unwrap_or(0);
    divided(lens.into_iter(), ranges, rows, max_len)
}

/// Bytes that a row takes when it is decoded: of strings, which are not looked at before they are read, an offset and what they take in the
/// file; of values that are not known, none.
pub(crate) fn row_len(array: &Array<'_>, floats: Option<DType>) -> f64 {
    if array.index().dtype == ArrayDType::Utf8 {
        let chunks = array.index().chunks.iter();
        let stored: u64 = chunks.map(|chunk| chunk.bytes.end - chunk.bytes.start).sum();
        return DType::U64.size() as f64 + stored as f64 / array.rows().max(1) as f64;
    }
    let dtype = array.dtype().ok().map(|dtype| decoded(dtype, floats));
    dtype.map_or(0.0, |dtype| f64::from(array.dim()) * dtype.size() as f64)
}

/// What values are decoded to.
pub(crate) fn decoded(dtype: DType, floats: Option<DType>) -> DType {
    match (dtype, floats) {
        (DType::F16 | DType::Bf16 | DType::F32, Some(floats)) => floats,
        // Arrow has no bfloat16; all its values are values of float32.
        (DType::Bf16, None) => DType::F32,
        (dtype, _) => dtype,
    }
}

fn divided<'a>(
    arrays: impl Iterator<Item = (f64, Array<'a>)>,
    ranges: &[Range<u64>],
    rows: u64,
    max_len: u64,
) -> Result<Vec<Part>, cvc::Error> {
    let ranges = Rows::from(ranges.to_vec()).resolve(rows)?;
    let mut ends: Vec<Ends> = arrays.map(|(row_len, array)| Ends::new(row_len, &array)).collect();
    ends.sort_by(|a, b| b.row_len.total_cmp(&a.row_len));
    let row_len: f64 = ends.iter().map(|ends| ends.row_len).sum();
    let most = if row_len > 0.0 { rounded(max_len as f64 / row_len).max(1) } else { u64::MAX };
    let mut left: VecDeque<Range<u64>> = ranges.into_iter().filter(|rows| !rows.is_empty()).collect();
    let mut parts = Vec::new();
    while let Some(first) = left.front() {
        let end = end(first.start, &left, rows, &ends, most);
        let mut part = Vec::new();
        while let Some(rows) = left.pop_front() {
            if rows.start >= end {
                left.push_front(rows);
                break;
            }
            part.push(rows.start..rows.end.min(end));
            if rows.end > end {
                left.push_front(end..rows.end);
            }
        }
        let rows: u64 = part.iter().map(|range| range.end - range.start).sum();
        let stored = ends.iter().flat_map(|ends| part.iter().map(|rows| ends.stored(rows)));
        let stored_len = rounded(stored.sum::<f64>().round());
        let decoded_len = rounded((rows as f64 * row_len).round());
        parts.push(Part { ranges: part, rows, decoded_len, stored_len });
    }
    Ok(parts)
}

/// The row before which a part ends that begins with row `first` of the rows `left`.
fn end(first: u64, left: &VecDeque<Range<u64>>, rows: u64, ends: &[Ends], most: u64) -> u64 {
    let (mut room, mut cut) = (most, None);
    for range in left {
        let len = range.end - range.start;
        if len > room {
            cut = Some(range.start + room);
            break;
        }
        room -= len;
    }
    // Without a cut all of the rest has room.
    let Some(row) = cut else { return rows };
    // Whole chunks; those of the widest array; blocks.
    for of_chunks in [ends.len(), 1, 0] {
        let mut end = row;
        for _ in 0..STEPS {
            let last = ends.iter().enumerate().map(|(number, of)| of.last(end, number < of_chunks)).min();
            let common = last.unwrap_or(end);
            if common == end && end > first {
                return end;
            }
            if common <= first {
                break;
            }
            end = common;
        }
    }
    // More rows than are wanted, as one block has them; or there is no end in common.
    let end = ends.iter().map(|of| of.next(first + 1)).max().unwrap_or(rows);
    if ends.iter().all(|of| of.last(end, false) == end) {
        return end;
    }
    let widest = &ends[0];
    let end = widest.last(row, false);
    if end > first { end } else { widest.next(first + 1) }
}

/// Where the chunks and blocks of an array end.
struct Ends {
    chunks: Vec<Chunk>,
    /// Bytes of a row, decoded.
    row_len: f64,
}

struct Chunk {
    rows: Range<u64>,
    block_rows: u64,
    stored_len: u64,
    /// Bytes of the chunks before it.
    stored_before: u64,
}

impl Ends {
    fn new(row_len: f64, array: &Array<'_>) -> Ends {
        let mut stored_before = 0;
        let chunks = array.index().chunks.iter().map(|chunk| {
            let block_rows = match &chunk.stored {
                Stored::Blocked(blocked) => u64::from(blocked.block_rows),
                // Its checksum is that of all rows.
                Stored::Framed { .. } => chunk.rows.end - chunk.rows.start,
            };
            let stored_len = chunk.bytes.end - chunk.bytes.start;
            stored_before += stored_len;
            let stored_before = stored_before - stored_len;
            Chunk { rows: chunk.rows.clone(), block_rows: block_rows.max(1), stored_len, stored_before }
        });
        Ends { chunks: chunks.filter(|chunk| !chunk.rows.is_empty()).collect(), row_len }
    }

    fn chunk(&self, row: u64) -> Option<&Chunk> {
        let after = self.chunks.partition_point(|chunk| chunk.rows.start <= row);
        self.chunks.get(after.checked_sub(1)?)
    }

    /// The last row, no later than `row`, with which a block begins, or a chunk.
    fn last(&self, row: u64, of_chunk: bool) -> u64 {
        match self.chunk(row) {
            None => row,
            Some(chunk) if row >= chunk.rows.end => chunk.rows.end,
            Some(chunk) if of_chunk => chunk.rows.start,
            Some(chunk) => row - (row - chunk.rows.start) % chunk.block_rows,
        }
    }

    /// The first row, no earlier than `row`, with which a block begins.
    fn next(&self, row: u64) -> u64 {
        let Some(chunk) = self.chunk(row) else { return row };
        let into = (row - chunk.rows.start) % chunk.block_rows;
        let more = if into == 0 { 0 } else { chunk.block_rows - into };
        (row + more).min(chunk.rows.end)
    }

    fn stored(&self, rows: &Range<u64>) -> f64 {
        self.stored_before(rows.end) - self.stored_before(rows.start)
    }

    fn stored_before(&self, row: u64) -> f64 {
        let Some(chunk) = self.chunk(row) else { return 0.0 };
        let share = (row - chunk.rows.start) as f64 / (chunk.rows.end - chunk.rows.start) as f64;
        chunk.stored_before as f64 + chunk.stored_len as f64 * share
    }
}

/// A length or a number of rows, which floats of 64 bits hold.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and none is negative"
)]
fn rounded(value: f64) -> u64 {
    value as u64
}
