//! The inside of a chunk: its head, fields and lanes.
//!
//! [`encode_chunk`] and [`parse_head`] agree on where everything lies because both ask [`lay_out`].

use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;

use super::open::{check, region, u16_at, u32_at};
use super::write::cannot;
use super::{ALIGN, ChunkSpec, MAX_ROW_LEN, STREAM_ALIGN};
use crate::checksum::{self, AppendEach, Crc32c, crc32c};
use crate::error::FormatError;
use crate::index::{ChunkEntry, ChunkId, Loss, Stored};
use crate::parts::{Field, Lane, Parts};

/// What the head of a chunk says.
#[derive(Clone, Debug)]
pub struct Head {
    /// Where the rows lie.
    pub parts: Parts,
    /// The parameters of the codec, for it to understand.
    pub params: Arc<[u8]>,
}

/// What a chunk is made of.
#[derive(Clone, Copy, Debug)]
pub struct ChunkParts<'a> {
    /// The array it belongs to.
    pub array: u16,
    /// Rows in the chunk; at least 1.
    pub rows: u32,
    /// Rows in every block but the last; at least 1.
    pub block_rows: u32,
    /// The parameters of the codec.
    pub params: &'a [u8],
    /// Each field: the bytes of a row, and the rows one after another.
    pub fields: &'a [(u32, &'a [u8])],
    /// Each lane.
    pub lanes: &'a [LaneBytes<'a>],
    /// What encoding lost.
    pub loss: Loss,
}

/// One stream for each block, one after another.
#[derive(Clone, Copy, Debug)]
pub struct LaneBytes<'a> {
    /// The streams, without padding.
    pub bytes: &'a [u8],
    /// Bytes of each stream.
    pub lens: &'a [u32],
}

/// Appends the bytes of a chunk to `out`, which must be empty or end on a multiple of [`super::ALIGN`].
///
/// # Errors
/// The chunk is too large for the fields that describe it.
///
/// # Panics
/// Fields or lanes that are not as long as the rows say.
pub fn encode_chunk(chunk: &ChunkParts<'_>, out: &mut Vec<u8>) -> Result<ChunkSpec, FormatError> {
    let start = out.len();
    let widths: Vec<u32> = chunk.fields.iter().map(|(width, _)| *width).collect();
    let shape = ChunkOf {
        array: chunk.array,
        rows: chunk.rows,
        block_rows: chunk.block_rows,
        params: chunk.params,
        widths: &widths,
        lanes: chunk.lanes,
    };
    let mut open = OpenChunk::new(&shape, out, start)?;
    open.put(chunk.rows, chunk.fields.iter().map(|(_, bytes)| *bytes));
    Ok(open.finish(chunk.loss))
}

/// What must be known of a chunk before its rows come: all but the bytes of its fields, and what encoding lost.
#[derive(Clone, Copy, Debug)]
pub struct ChunkOf<'a> {
    /// The array it belongs to.
    pub array: u16,
    /// Rows in the chunk; at least 1.
    pub rows: u32,
    /// Rows in every block but the last; at least 1.
    pub block_rows: u32,
    /// The parameters of the codec.
    pub params: &'a [u8],
    /// Bytes of a row of each field.
    pub widths: &'a [u32],
    /// Each lane.
    pub lanes: &'a [LaneBytes<'a>],
}

/// A chunk in the making. The rows of its fields may come some blocks at a time, which are put in their place and hashed
/// while they are in the cache.
#[derive(Debug)]
pub struct OpenChunk<'o> {
    /// All of the chunk, but for the rows that did not come yet, where anything may stand.
    out: &'o mut [u8],
    array: u16,
    head_len: u32,
    /// Where the checksums of the blocks stand.
    crcs: usize,
    parts: Parts,
    /// Rows that came.
    rows: u32,
    append_each: AppendEach,
}

impl<'o> OpenChunk<'o> {
    /// Begins a chunk at byte `start` of `out`, a multiple of [`super::ALIGN`]. What stands there is written over, and may as well be
    /// what is left of another chunk: making zeros of it first would take time.
    ///
    /// # Errors
    /// The chunk is too large for the fields that describe it.
    ///
    /// # Panics
    /// Lanes that are not as long as the rows say.
    pub fn new(chunk: &ChunkOf<'_>, out: &'o mut Vec<u8>, start: usize) -> Result<Self, FormatError> {
        let ChunkOf { array, rows, block_rows, params, widths, lanes } = *chunk;
        assert!((start as u64).is_multiple_of(ALIGN), "a chunk begins on a multiple of {ALIGN}");
        assert!(rows > 0 && block_rows > 0, "a chunk has rows");
        assert!(!widths.is_empty() || !lanes.is_empty(), "a chunk has fields or lanes");
        assert!(!widths.contains(&0), "a row of a field has bytes");
        let block_count = rows.div_ceil(block_rows);
        for lane in lanes {
            assert_eq!(lane.lens.len(), block_count as usize, "streams of a lane");
            assert!(!lane.lens.contains(&0), "a stream has bytes");
            assert_eq!(
                lane.bytes.len() as u64,
                lane.lens.iter().map(|len| u64::from(*len)).sum(),
                "bytes of a lane"
            );
        }

        if let Some(width) = widths.iter().find(|width| u64::from(**width) > MAX_ROW_LEN) {
            return cannot(format!("a field of {width} bytes a row; {MAX_ROW_LEN} are possible"));
        }
        let (Ok(field_count), Ok(lane_count)) = (u16::try_from(widths.len()), u16::try_from(lanes.len()))
        else {
            let (fields, lanes) = (widths.len(), lanes.len());
            return cannot(format!(
                "a chunk of {fields} fields and {lanes} lanes; 65535 of each are possible"
            ));
        };
        let head_len = head_len(field_count, lane_count, block_count, params.len() as u64);
        let (Ok(params_len), Ok(head_len)) = (u32::try_from(params.len()), u32::try_from(head_len)) else {
            return cannot(format!(
                "a chunk whose head has {head_len} bytes; use fewer rows a chunk or more a block"
            ));
        };
        let lens = lanes.iter().map(|lane| lane.lens.to_vec());
        let placed = lay_out(head_len, rows, widths.iter().copied(), lens).expect("all of it is in memory");

        let mut head = Vec::with_capacity(head_len as usize);
        head.extend(params_len.to_le_bytes());
        head.extend(field_count.to_le_bytes());
        head.extend(lane_count.to_le_bytes());
        for word in widths.iter().chain(lanes.iter().flat_map(|lane| lane.lens)) {
            head.extend(word.to_le_bytes());
        }
        // Room for the checksums, which are known when everything is in its place.
        let crcs = head.len();
        head.resize(crcs + 4 * block_count as usize, 0);
        head.extend(params);
        head.resize(head_len as usize, 0);

        out.resize(start + to_usize(placed.len), 0);
        let out = &mut out[start..];
        out[..head.len()].copy_from_slice(&head);
        for field in &placed.fields {
            let rows_end = field.offset + u64::from(rows) * u64::from(field.width);
            out[to_usize(rows_end)..to_usize(field.end)].fill(0);
        }
        for (lane, placed) in lanes.iter().zip(&placed.lanes) {
            let mut rest = lane.bytes;
            for (len, place) in lane.lens.iter().zip(placed.starts.windows(2)) {
                let (stream, after) = rest.split_at(*len as usize);
                let (place, padding) = out[to_usize(place[0])..to_usize(place[1])].split_at_mut(stream.len());
                place.copy_from_slice(stream);
                padding.fill(0);
                rest = after;
            }
        }
        // The checksums are not known yet, but there are some.
        let unknown = vec![0; block_count as usize];
        let parts = Parts::blocked(rows, block_rows, placed.fields, placed.lanes, unknown);
        Ok(OpenChunk { out, array, head_len, crcs, parts, rows: 0, append_each: checksum::append_each })
    }

    /// Computes the checksums of blocks like this.
    #[must_use]
    pub fn hashed_by(self, append_each: AppendEach) -> Self {
        OpenChunk { append_each, ..self }
    }

    /// Takes the next `rows` rows of every field: whole blocks, or all that are missing.
    ///
    /// # Panics
    /// Other rows than that, or fields that are not as long as the rows say.
    pub fn put<'f>(&mut self, rows: u32, fields: impl ExactSizeIterator<Item = &'f [u8]>) {
        let copied = self.fill(rows, |places| {
            assert_eq!(fields.len(), places.len(), "fields");
            for (bytes, place) in fields.zip(places) {
                assert_eq!(bytes.len(), place.len(), "bytes of a field");
                place.copy_from_slice(bytes);
            }
            Ok::<_, Infallible>(())
        });
        let Ok(()) = copied;
    }

    /// The same rows, which `write` writes to the places of their fields, where anything may stand before.
    ///
    /// # Errors
    /// What `write` returns. The rows are still missing then.
    ///
    /// # Panics
    /// Other rows than may come next.
    pub fn fill<E>(
        &mut self,
        rows: u32,
        write: impl FnOnce(&mut [&mut [u8]]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (first, end) = (self.rows, self.rows.checked_add(rows).expect("no more rows than the chunk has"));
        let all = self.parts.rows();
        assert!(
            end == all || end < all && end.is_multiple_of(self.parts.block_rows()),
            "rows to {end}, of {all}"
        );
        let mut places = Vec::with_capacity(self.parts.fields().len());
        let (mut rest, mut at) = (&mut *self.out, 0);
        for field in self.parts.fields() {
            let place = |row: u32| to_usize(field.offset + u64::from(row) * u64::from(field.width));
            // Fields follow each other.
            let (place, after) = rest[place(first) - at..].split_at_mut(place(end) - place(first));
            at = to_usize(field.offset + u64::from(end) * u64::from(field.width));
            rest = after;
            places.push(place);
        }
        write(&mut places)?;
        let blocks = self.parts.blocks_of(first..end);
        // A few at a time, whose checksums need no memory of their own.
        let mut crcs = [0; 48];
        for first in blocks.clone().step_by(crcs.len()) {
            let blocks = first..blocks.end.min(first.saturating_add(48));
            let crcs = &mut crcs[..blocks.len()];
            let ranges = self.parts.ranges(blocks.clone());
            let bytes = ranges.map(|range| &self.out[to_usize(range.start)..to_usize(range.end)]);
            self.parts.checksums(blocks.clone(), bytes, self.append_each, crcs);
            for (block, crc) in blocks.zip(crcs) {
                let at = self.crcs + 4 * block as usize;
                self.out[at..at + 4].copy_from_slice(&crc.to_le_bytes());
            }
        }
        self.rows = end;
        Ok(())
    }

    /// Where everything lies; checksums are not known.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The chunk. Where rows did not come yet, anything may stand.
    pub fn bytes(&self) -> &[u8] {
        self.out
    }

    /// Ends the chunk, of which this was lost by encoding.
    ///
    /// # Panics
    /// Rows are missing.
    pub fn finish(self, loss: Loss) -> ChunkSpec {
        let OpenChunk { out, array, head_len, parts, .. } = self;
        assert_eq!(self.rows, parts.rows(), "rows that came");
        ChunkSpec {
            array,
            rows: parts.rows(),
            block_rows: parts.block_rows(),
            head_len,
            head_crc: crc32c(&out[..head_len as usize]),
            len: out.len() as u64,
            loss,
        }
    }
}

/// What follows the last row of a field.
const ZEROS: [u8; 64] = [0; 64];
const _: () = assert!(ZEROS.len() as u64 == ALIGN);

/// The head of a chunk that is one field without parameters, whose bytes can then be written from where they lie: the chunk is
/// the head, `bytes`, and so many zeros. The same bytes as [`encode_chunk`] makes.
///
/// # Errors
/// As [`encode_chunk`].
///
/// # Panics
/// As [`encode_chunk`].
pub fn encode_field_head(
    array: u16,
    rows: u32,
    block_rows: u32,
    width: u32,
    bytes: &[u8],
) -> Result<(Vec<u8>, usize, ChunkSpec), FormatError> {
    assert!(rows > 0 && block_rows > 0 && width > 0, "a chunk has rows, and a row has bytes");
    assert_eq!(bytes.len() as u64, u64::from(rows) * u64::from(width), "bytes of a field");
    if u64::from(width) > MAX_ROW_LEN {
        return cannot(format!("a field of {width} bytes a row; {MAX_ROW_LEN} are possible"));
    }
    let block_count = rows.div_ceil(block_rows);
    let Ok(head_len) = u32::try_from(head_len(1, 0, block_count, 0)) else {
        return cannot("a chunk whose head is too large; use fewer rows a chunk or more a block".into());
    };
    let placed = lay_out(head_len, rows, [width].into_iter(), core::iter::empty::<Vec<u32>>())
        .expect("all of it is in memory");
    let padding = to_usize(placed.fields[0].end - placed.fields[0].offset) - bytes.len();
    let mut out = Vec::with_capacity(head_len as usize);
    out.extend(0u32.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out.extend(width.to_le_bytes());
    let block_len = u64::from(block_rows) * u64::from(width);
    for block in bytes.chunks(usize::try_from(block_len).unwrap_or(usize::MAX)) {
        let mut crc = Crc32c::default();
        crc.update(block);
        if block.as_ptr_range().end == bytes.as_ptr_range().end {
            crc.update(&ZEROS[..padding]);
        }
        out.extend(crc.finish().to_le_bytes());
    }
    out.resize(head_len as usize, 0);
    let head_crc = crc32c(&out);
    Ok((
        out,
        padding,
        ChunkSpec { array, rows, block_rows, head_len, head_crc, len: placed.len, loss: Loss::NONE },
    ))
}

/// Reads the head of chunk `id` of an array; `bytes` are the first `head_len` bytes of `entry`.
///
/// # Errors
/// The bytes are damaged, or describe something else than the chunk.
///
/// # Panics
/// `entry` is not of a native file, or these are not `head_len` bytes.
pub fn parse_head(id: ChunkId, entry: &ChunkEntry, bytes: &[u8]) -> Result<Head, FormatError> {
    let Stored::Blocked(stored) = &entry.stored else { panic!("only native chunks have a head") };
    assert_eq!(bytes.len(), stored.head_len as usize, "bytes of a head");
    let what = format!("the head of {id}");
    let wrong = |problem: &str| region(&what, entry.bytes.start, problem);
    check(&what, entry.bytes.start, bytes, stored.head_crc)?;

    let rows = entry.row_count();
    let block_count = stored.block_count(rows);
    let params_len = u32_at(bytes, 0);
    let (field_count, lane_count) = (u16_at(bytes, 4), u16_at(bytes, 6));
    if field_count == 0 && lane_count == 0 {
        return Err(wrong("has neither fields nor lanes"));
    }
    let expected = head_len(field_count, lane_count, block_count, u64::from(params_len));
    if expected != u64::from(stored.head_len) {
        return Err(wrong(&format!(
            "has {} bytes, expected {expected} for {field_count} fields, {lane_count} lanes, {block_count} blocks and \
             {params_len} bytes of parameters",
            stored.head_len
        )));
    }
    // From here on every count is paid for by the bytes of the head.
    let mut rest = &bytes[8..];
    let mut words = |count: usize| -> Vec<u32> {
        let (these, after) = rest.split_at(4 * count);
        rest = after;
        these.chunks_exact(4).map(|word| u32_at(word, 0)).collect()
    };
    let widths = words(usize::from(field_count));
    let lens: Vec<Vec<u32>> = (0..lane_count).map(|_| words(block_count as usize)).collect();
    let crcs = words(block_count as usize);
    let (params, padding) = rest.split_at(params_len as usize);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(wrong("has padding that is not zero"));
    }
    if let Some(width) = widths.iter().find(|width| **width == 0 || u64::from(**width) > MAX_ROW_LEN) {
        return Err(wrong(&format!("has a field of {width} bytes a row, expected 1 to {MAX_ROW_LEN}")));
    }
    if lens.iter().any(|lane| lane.contains(&0)) {
        return Err(wrong("has a stream of 0 bytes, expected at least 1"));
    }
    let len = entry.bytes.end - entry.bytes.start;
    match lay_out(stored.head_len, rows, widths.into_iter(), lens.into_iter()) {
        Some(placed) if placed.len == len => {
            let parts = Parts::blocked(rows, stored.block_rows, placed.fields, placed.lanes, crcs);
            Ok(Head { parts, params: params.into() })
        }
        Some(placed) => {
            Err(wrong(&format!("describes a chunk of {} bytes, the index has one of {len}", placed.len)))
        }
        None => Err(wrong("describes a chunk of more than 2^64 bytes")),
    }
}

/// Bytes of a head, with the zeros that end it. Below 2^51, whatever the counts are.
fn head_len(field_count: u16, lane_count: u16, block_count: u32, params_len: u64) -> u64 {
    let words = u64::from(field_count) + (u64::from(lane_count) + 1) * u64::from(block_count);
    (8 + 4 * words + params_len).next_multiple_of(ALIGN)
}

/// The parts of a chunk, and its length.
struct Placed {
    fields: Vec<Field>,
    lanes: Vec<Lane>,
    len: u64,
}

/// Where the fields and lanes of a chunk lie; `None` if that is beyond what 64 bits count.
fn lay_out(
    head_len: u32,
    rows: u32,
    widths: impl Iterator<Item = u32>,
    lens: impl ExactSizeIterator<Item = Vec<u32>>,
) -> Option<Placed> {
    let mut at = u64::from(head_len);
    let mut fields = Vec::new();
    for width in widths {
        let offset = at;
        at = at.checked_add(u64::from(rows) * u64::from(width))?.checked_next_multiple_of(ALIGN)?;
        fields.push(Field { width, offset, end: at });
    }
    let lane_count = lens.len();
    let mut lanes = Vec::with_capacity(lane_count);
    for (number, lens) in lens.enumerate() {
        let mut starts = Vec::with_capacity(lens.len() + 1);
        starts.push(at);
        for (block, len) in lens.iter().enumerate() {
            let last = number + 1 == lane_count && block + 1 == lens.len();
            let align = if last { ALIGN } else { STREAM_ALIGN };
            at = at.checked_add(u64::from(*len))?.checked_next_multiple_of(align)?;
            starts.push(at);
        }
        lanes.push(Lane { starts, lens });
    }
    Some(Placed { fields, lanes, len: at })
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).expect("bytes in memory are counted by usize")
}
