//! From the tail of a file to its index.
//!
//! What is checked, in this order, each before anything is allocated or multiplied for what comes after it: the
//! prelude; the trailer, and whether its counts fit the file; the limits; the metadata; the index, entry by entry.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use super::metadata::Metadata;
use super::{ALIGN, END_SIGNATURE, ENTRY_LEN, PRELUDE_LEN, TRAILER_LEN, VERSION};
use crate::checksum::crc32c;
use crate::error::FormatError;
use crate::index::{ArrayIndex, BlockedChunk, ChunkEntry, FileIndex, Layout, Loss, Stored};
use crate::limits::Limits;

/// A native file being opened: its tail is known, but its index begins before that.
#[derive(Debug)]
pub(crate) struct Native {
    limits: Limits,
    trailer: Trailer,
    /// What was read of index and metadata, from `tail_start` on.
    tail: Vec<u8>,
    tail_start: u64,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// These bytes, which end where the tail begins.
    Read(Native, Range<u64>),
    Done(FileIndex),
}

/// A trailer whose counts fit the file.
#[derive(Clone, Copy, Debug)]
struct Trailer {
    /// Where the index begins, and the chunks end.
    index_start: u64,
    index_crc: u32,
    metadata_start: u64,
    metadata_crc: u32,
}

impl Native {
    /// Begins with the first bytes (64, or all there are) and the tail, the last bytes from `tail_start` on.
    pub(crate) fn begin(
        file_len: u64,
        limits: Limits,
        front: &[u8],
        tail_start: u64,
        tail: &[u8],
    ) -> Result<Next, FormatError> {
        let needed = PRELUDE_LEN + TRAILER_LEN;
        if file_len < needed {
            let what = "the least that a native file has".into();
            return Err(FormatError::Truncated { what, start: 0, end: needed, file_len });
        }
        let version = prelude(front)?;
        // The tail is the whole file, or longer than a trailer.
        let (tail, trailer) = tail.split_at(tail.len() - to_usize(TRAILER_LEN));
        let trailer = Trailer::parse(trailer, version, file_len, &limits)?;
        if trailer.index_start < tail_start {
            let wanted = trailer.index_start..tail_start;
            return Ok(Next::Read(Native { limits, trailer, tail: tail.to_vec(), tail_start }, wanted));
        }
        let region = &tail[to_usize(trailer.index_start - tail_start)..];
        trailer.index(region, &limits).map(Next::Done)
    }

    /// Takes the bytes that were asked for.
    pub(crate) fn feed(self, bytes: &[u8]) -> Result<FileIndex, FormatError> {
        assert_eq!(
            bytes.len() as u64,
            self.tail_start - self.trailer.index_start,
            "bytes that were asked for"
        );
        // One piece, although the index may end anywhere in the two.
        self.trailer.index(&[bytes, &self.tail].concat(), &self.limits)
    }
}

impl Trailer {
    /// What index and metadata say, which are `region`.
    fn index(&self, region: &[u8], limits: &Limits) -> Result<FileIndex, FormatError> {
        let Trailer { index_start, index_crc, metadata_start, metadata_crc } = *self;
        let (index, metadata) = region.split_at(to_usize(metadata_start - index_start));
        check("the metadata", metadata_start, metadata, metadata_crc)?;
        let metadata = Metadata::parse(metadata, metadata_start, limits)?;
        check("the index", index_start, index, index_crc)?;
        let mut arrays = metadata.arrays;
        entries(index, index_start, &mut arrays)?;
        Ok(FileIndex {
            layout: Layout::Native,
            arrays,
            sections: metadata.sections,
            sections_from_chunks: metadata.sections_from_chunks,
            chunk_metadata: Vec::new(),
            metadata: metadata.user,
            frames: Vec::new(),
            header: metadata.json,
            trailing_len: 0,
        })
    }
}

/// The version that the first 64 bytes of a file say, of which eight were recognised.
fn prelude(bytes: &[u8]) -> Result<(u16, u16), FormatError> {
    let (checked, crc) = bytes.split_at(60);
    check("the prelude", 0, checked, u32_at(crc, 0))?;
    let version = (u16_at(bytes, 8), u16_at(bytes, 10));
    if version.0 != VERSION.0 {
        return Err(FormatError::UnknownNativeVersion { major: version.0, minor: version.1 });
    }
    if checked[12..].iter().any(|byte| *byte != 0) {
        return Err(region("the prelude", 0, "has bytes 12..60 that are not zero"));
    }
    Ok(version)
}

impl Trailer {
    fn parse(
        bytes: &[u8],
        version: (u16, u16),
        file_len: u64,
        limits: &Limits,
    ) -> Result<Trailer, FormatError> {
        let start = file_len - TRAILER_LEN;
        let wrong = |problem: &str| region("the trailer", start, problem);
        if bytes[32..] != END_SIGNATURE {
            return Err(FormatError::NoEnd { file_len });
        }
        check("the trailer", start, &bytes[..28], u32_at(bytes, 28))?;
        let (major, minor) = (u16_at(bytes, 24), u16_at(bytes, 26));
        if (major, minor) != version {
            return Err(wrong(&format!(
                "says version {major}.{minor}, the prelude says {}.{}",
                version.0, version.1
            )));
        }
        let stated_len = u64_at(bytes, 0);
        if stated_len != file_len {
            return Err(wrong(&format!("says that the file has {stated_len} bytes, it has {file_len}")));
        }
        let chunk_count = u32_at(bytes, 8);
        let metadata_len = u64::from(u32_at(bytes, 16));
        // No overflow: the index has less than 2^38 bytes.
        let index_len = u64::from(chunk_count) * ENTRY_LEN;
        let index_start = start.checked_sub(index_len + metadata_len).filter(|start| *start >= PRELUDE_LEN);
        let Some(index_start) = index_start else {
            return Err(wrong(&format!(
                "says that {chunk_count} entries of the index and {metadata_len} bytes of metadata precede it, which \
                 do not fit a file of {file_len} bytes"
            )));
        };
        if !index_start.is_multiple_of(ALIGN) {
            return Err(wrong(&format!(
                "says that the chunks end at byte {index_start}, expected a multiple of {ALIGN}"
            )));
        }
        let over = |what, value, limit, field| Err(FormatError::Limit { what, value, limit, field });
        let most_chunks = limits.chunks as u64;
        if u64::from(chunk_count) > most_chunks {
            return over("chunk count", u64::from(chunk_count), most_chunks, "chunks");
        }
        if metadata_len > limits.header_len {
            return over("metadata length", metadata_len, limits.header_len, "header_len");
        }
        Ok(Trailer {
            index_start,
            index_crc: u32_at(bytes, 12),
            metadata_start: index_start + index_len,
            metadata_crc: u32_at(bytes, 20),
        })
    }
}

/// Gives each array its chunks. The entries must tile the bytes between the prelude and the index.
fn entries(index: &[u8], index_start: u64, arrays: &mut [ArrayIndex]) -> Result<(), FormatError> {
    let mut end = PRELUDE_LEN;
    for (number, (bytes, at)) in
        index.chunks_exact(to_usize(ENTRY_LEN)).zip((index_start..).step_by(to_usize(ENTRY_LEN))).enumerate()
    {
        let wrong = |problem: String| region(&format!("entry {number} of the index"), at, &problem);
        let (offset, len) = (u64_at(bytes, 0), u64_at(bytes, 8));
        let (rows, block_rows, head_len) = (u32_at(bytes, 16), u32_at(bytes, 20), u32_at(bytes, 24));
        if u16_at(bytes, 46) != 0 {
            return Err(wrong("has bytes 46..48 that are not zero".into()));
        }
        let position = u16_at(bytes, 44);
        let count = arrays.len();
        let Some(array) = arrays.get_mut(usize::from(position)) else {
            return Err(wrong(format!("is of array {position}, the file has {count} arrays")));
        };
        if offset != end {
            return Err(wrong(format!("has offset {offset}, what is before it ends at byte {end}")));
        }
        if len == 0 || !len.is_multiple_of(ALIGN) {
            return Err(wrong(format!("has length {len}, expected a multiple of {ALIGN} above 0")));
        }
        end = match offset.checked_add(len) {
            Some(end) if end <= index_start => end,
            _ => {
                return Err(wrong(format!("has length {len}, there are {} bytes", index_start - offset)));
            }
        };
        if rows == 0 || block_rows == 0 {
            return Err(wrong(format!(
                "has {rows} rows in blocks of {block_rows}, at least 1 of each is needed"
            )));
        }
        if array.dim == 0 {
            return Err(wrong(format!("is of array {:?}, whose rows have no values", array.name)));
        }
        // Blocks are paid for by the head, so a count of blocks may be relied on from here on.
        let least = 12 + 4 * u64::from(rows.div_ceil(block_rows));
        if u64::from(head_len) < least
            || !u64::from(head_len).is_multiple_of(ALIGN)
            || u64::from(head_len) > len
        {
            return Err(wrong(format!(
                "has a head of {head_len} bytes, expected a multiple of {ALIGN} from {least} to {len}"
            )));
        }
        // No overflow: both are far below 2^63.
        let first = array.chunks.last().map_or(0, |chunk: &ChunkEntry| chunk.rows.end);
        let last = first + u64::from(rows);
        if last > array.rows {
            return Err(wrong(format!(
                "ends at row {last} of array {:?}, which has {} rows",
                array.name, array.rows
            )));
        }
        let float = |at| f32::from_bits(u32_at(bytes, at));
        array.chunks.push(ChunkEntry {
            rows: first..last,
            bytes: offset..end,
            codec: array.codec.clone(),
            stored: Stored::Blocked(BlockedChunk {
                head_len,
                head_crc: u32_at(bytes, 28),
                block_rows,
                loss: Loss { max_abs_error: float(32), mse: float(36), min_cosine: float(40) },
            }),
        });
    }
    if end != index_start {
        return Err(region(
            "the index",
            index_start,
            &format!("has chunks up to byte {end}, expected up to byte {index_start}, where it begins"),
        ));
    }
    for array in arrays.iter() {
        let held = array.chunks.last().map_or(0, |chunk| chunk.rows.end);
        if held != array.rows && array.dim != 0 {
            return Err(region(
                "the index",
                index_start,
                &format!(
                    "has chunks with {held} rows of array {:?}, which has {} rows",
                    array.name, array.rows
                ),
            ));
        }
    }
    Ok(())
}

/// That these bytes, which begin at `start`, are those of which the file has a checksum.
pub(super) fn check(what: &str, start: u64, bytes: &[u8], expected: u32) -> Result<(), FormatError> {
    let found = crc32c(bytes);
    if found == expected {
        return Ok(());
    }
    let end = start + bytes.len() as u64;
    Err(FormatError::Checksum { what: what.to_string(), start, end, expected, found })
}

pub(super) fn region(what: &str, offset: u64, problem: &str) -> FormatError {
    FormatError::Region { what: what.to_string(), offset, problem: problem.to_string() }
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).expect("bytes in memory are counted by usize")
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
