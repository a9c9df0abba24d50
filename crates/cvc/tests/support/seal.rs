//! Native files taken apart and sealed again by hand, as `docs/FORMAT.md` says and not with the code under test.
//!
//! Shared by the tests of damaged files and by fuzzing. None of it panics, whatever the bytes are, unless it says so.

#![allow(dead_code, reason = "not everyone who includes this needs all of it")]

use std::ops::Range;

use cvc::format::checksum::{Crc32c, crc32c};

/// Bytes of the prelude, of an entry of the index, of the trailer.
pub(crate) const PRELUDE: usize = 64;
pub(crate) const ENTRY: usize = 48;
pub(crate) const TRAILER: usize = 40;

/// Where the regions behind the chunks begin: B, M and T of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Borders {
    pub(crate) index: usize,
    pub(crate) metadata: usize,
    pub(crate) trailer: usize,
}

/// An entry of the index whose chunk lies in the file and begins with its head.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the entry itself stands.
    pub(crate) at: usize,
    pub(crate) chunk: Range<usize>,
    pub(crate) head_len: usize,
    pub(crate) rows: u32,
    pub(crate) block_rows: u32,
    pub(crate) array: usize,
}

/// What the checksum of each block covers, in a chunk whose head agrees with its length.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    /// Where the checksums stand, counted from the start of the chunk.
    pub(crate) crcs: usize,
    /// For each block, ranges that count from the start of the chunk.
    pub(crate) covered: Vec<Vec<Range<usize>>>,
}

/// What a byte of a sound file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    Prelude,
    /// The head of a chunk, by the number of its entry.
    Head(usize),
    /// A block of a chunk.
    Block(usize, usize),
    Index,
    Metadata,
    Trailer,
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u16::from_le_bytes(*word))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}

/// Overwrites bytes from `at` on.
///
/// # Panics
/// There are none.
pub(crate) fn put(bytes: &mut [u8], at: usize, new: impl AsRef<[u8]>) {
    let new = new.as_ref();
    bytes[at..at + new.len()].copy_from_slice(new);
}

impl Borders {
    /// Where the trailer says that they are; `None` if that cannot be.
    pub(crate) fn of(bytes: &[u8]) -> Option<Borders> {
        let trailer = bytes.len().checked_sub(TRAILER)?;
        let metadata = trailer.checked_sub(usize::try_from(u32_at(bytes, trailer + 16)).ok()?)?;
        let entries = usize::try_from(u32_at(bytes, trailer + 8)).ok()?;
        let index = metadata.checked_sub(entries.checked_mul(ENTRY)?)?;
        (index >= PRELUDE).then_some(Borders { index, metadata, trailer })
    }

    /// The entries of the index, those that make sense.
    pub(crate) fn entries(self, bytes: &[u8]) -> impl Iterator<Item = Option<Entry>> + '_ {
        (self.index..self.metadata).step_by(ENTRY).map(move |at| self.entry(bytes, at))
    }

    fn entry(self, bytes: &[u8], at: usize) -> Option<Entry> {
        let start = usize::try_from(u64_at(bytes, at)).ok()?;
        let end = start.checked_add(usize::try_from(u64_at(bytes, at + 8)).ok()?)?;
        let head_len = usize::try_from(u32_at(bytes, at + 24)).ok()?;
        (start >= PRELUDE && end <= self.index && head_len <= end - start).then(|| Entry {
            at,
            chunk: start..end,
            head_len,
            rows: u32_at(bytes, at + 16),
            block_rows: u32_at(bytes, at + 20),
            array: usize::from(u16_at(bytes, at + 44)),
        })
    }
}

impl Entry {
    /// The blocks of the chunk, which must be that of this entry; `None` if its head contradicts the entry.
    pub(crate) fn blocks(&self, chunk: &[u8]) -> Option<Blocks> {
        let block_count = u64::from(self.rows) + u64::from(self.block_rows.checked_sub(1)?);
        let block_count = usize::try_from(block_count / u64::from(self.block_rows)).ok()?;
        let params_len = usize::try_from(u32_at(chunk, 0)).ok()?;
        let (fields, lanes) = (usize::from(u16_at(chunk, 4)), usize::from(u16_at(chunk, 6)));
        let streams = lanes.checked_mul(block_count)?;
        let widths = 8;
        let lens = widths + 4 * fields;
        let crcs = streams.checked_mul(4)?.checked_add(lens)?;
        let params = block_count.checked_mul(4)?.checked_add(crcs)?;
        let head_len = params.checked_add(params_len)?.checked_next_multiple_of(64)?;
        if head_len != self.head_len || self.rows == 0 || fields + lanes == 0 {
            return None;
        }
        let word = |at: usize| usize::try_from(u32_at(chunk, at)).ok();
        let rows = usize::try_from(self.rows).ok()?;
        let block_rows = usize::try_from(self.block_rows).ok()?;
        // First the places of everything: only then is it known that the bytes pay for what is counted.
        let mut at = head_len;
        let mut field_starts = Vec::new();
        for field in 0..fields {
            let width = word(widths + 4 * field)?;
            field_starts.push((at, width));
            at = rows.checked_mul(width)?.checked_add(at)?.checked_next_multiple_of(64)?;
        }
        let fields_end = at;
        let mut stream_starts = vec![at];
        for stream in 0..streams {
            let align = if stream + 1 == streams { 64 } else { 16 };
            at = word(lens + 4 * stream)?.checked_add(at)?.checked_next_multiple_of(align)?;
            stream_starts.push(at);
        }
        if at != chunk.len() || field_starts.iter().any(|(_, width)| *width == 0) {
            return None;
        }
        let covered = (0..block_count).map(|block| {
            let last = block + 1 == block_count;
            let of_fields = field_starts.iter().enumerate().map(|(number, (start, width))| {
                let end = field_starts.get(number + 1).map_or(fields_end, |(next, _)| *next);
                let at = |block: usize| start + block * block_rows * width;
                at(block)..if last { end } else { at(block + 1) }
            });
            let of_lanes = (0..lanes).map(|lane| {
                let stream = lane * block_count + block;
                stream_starts[stream]..stream_starts[stream + 1]
            });
            of_fields.chain(of_lanes).collect()
        });
        Some(Blocks { crcs, covered: covered.collect() })
    }

    /// The rows of a block, counted from the start of the chunk.
    pub(crate) fn rows_of(&self, block: usize) -> Range<u64> {
        let at = |block: usize| (block as u64 * u64::from(self.block_rows)).min(u64::from(self.rows));
        at(block)..at(block + 1)
    }
}

/// The region of every byte of a sound file.
///
/// # Panics
/// The file is not sound: a byte belongs to no region, or to two.
pub(crate) fn regions(bytes: &[u8]) -> Vec<Region> {
    let borders = Borders::of(bytes).expect("the trailer fits the file");
    let mut regions = vec![None; bytes.len()];
    let mut is = |range: Range<usize>, region: Region| {
        for place in &mut regions[range] {
            assert!(place.replace(region).is_none(), "{region:?} is something else already");
        }
    };
    is(0..PRELUDE, Region::Prelude);
    for (number, entry) in borders.entries(bytes).enumerate() {
        let entry = entry.expect("it makes sense");
        let start = entry.chunk.start;
        is(start..start + entry.head_len, Region::Head(number));
        let blocks = entry.blocks(&bytes[entry.chunk.clone()]).expect("the head agrees with the index");
        for (block, ranges) in blocks.covered.iter().enumerate() {
            for range in ranges {
                is(start + range.start..start + range.end, Region::Block(number, block));
            }
        }
    }
    is(borders.index..borders.metadata, Region::Index);
    is(borders.metadata..borders.trailer, Region::Metadata);
    is(borders.trailer..bytes.len(), Region::Trailer);
    regions.into_iter().map(|region| region.expect("every byte belongs somewhere")).collect()
}

/// Makes every checksum right that can be found, so that only what the bytes say is wrong, and nothing is damaged.
pub(crate) fn seal(bytes: &mut [u8]) {
    if bytes.len() < PRELUDE + TRAILER {
        return;
    }
    let crc = crc32c(&bytes[..60]);
    put(bytes, 60, crc.to_le_bytes());
    let trailer = bytes.len() - TRAILER;
    if let Some(borders) = Borders::of(bytes) {
        let entries: Vec<Entry> = borders.entries(bytes).flatten().collect();
        for entry in entries {
            seal_chunk(&mut bytes[entry.chunk.clone()], &entry);
            let head = &bytes[entry.chunk.start..entry.chunk.start + entry.head_len];
            let crc = crc32c(head);
            put(bytes, entry.at + 28, crc.to_le_bytes());
        }
        let crc = crc32c(&bytes[borders.index..borders.metadata]);
        put(bytes, trailer + 12, crc.to_le_bytes());
        let crc = crc32c(&bytes[borders.metadata..borders.trailer]);
        put(bytes, trailer + 20, crc.to_le_bytes());
    }
    let crc = crc32c(&bytes[trailer..trailer + 28]);
    put(bytes, trailer + 28, crc.to_le_bytes());
}

fn seal_chunk(chunk: &mut [u8], entry: &Entry) {
    let Some(blocks) = entry.blocks(chunk) else { return };
    for (block, ranges) in blocks.covered.iter().enumerate() {
        let mut crc = Crc32c::default();
        ranges.iter().for_each(|range| crc.update(&chunk[range.clone()]));
        put(chunk, blocks.crcs + 4 * block, crc.finish().to_le_bytes());
    }
}

/// A native file put together by hand: these chunks, each with its number of rows, rows to a block, and array; and
/// this text as metadata. Sealed.
///
/// # Panics
/// A chunk is longer than 4 GiB.
pub(crate) fn by_hand(chunks: &[(u32, u32, u16, Vec<u8>)], metadata: &str) -> Vec<u8> {
    let mut bytes = b"CVCF\xff\x0d\x0a\x1a\x01\0\0\0".to_vec();
    bytes.resize(PRELUDE, 0);
    let mut index = Vec::new();
    for (rows, block_rows, array, chunk) in chunks {
        index.extend((bytes.len() as u64).to_le_bytes());
        index.extend((chunk.len() as u64).to_le_bytes());
        // The head as its counts say, which a test may spoil again.
        let (fields, lanes) = (usize::from(u16_at(chunk, 4)), usize::from(u16_at(chunk, 6)));
        let blocks = rows.div_ceil((*block_rows).max(1)) as usize;
        let head_len = 8 + 4 * (fields + (lanes + 1) * blocks) + u32_at(chunk, 0) as usize;
        let head_len = u32::try_from(head_len.next_multiple_of(64)).unwrap();
        for word in [*rows, *block_rows, head_len, 0, 0, 0, 1.0f32.to_bits()] {
            index.extend(word.to_le_bytes());
        }
        index.extend(u32::from(*array).to_le_bytes());
        bytes.extend(chunk);
    }
    bytes.extend(index);
    bytes.extend(metadata.bytes());
    let len = bytes.len() + TRAILER;
    bytes.extend((len as u64).to_le_bytes());
    for word in [chunks.len(), 0, metadata.len(), 0, 1, 0] {
        bytes.extend(u32::try_from(word).unwrap().to_le_bytes());
    }
    bytes.extend(b"\x1a\x0a\x0d\xffFCVC");
    seal(&mut bytes);
    bytes
}

/// A chunk put together by hand: parameters; the bytes of a row of each field, and its rows; for each lane its streams.
///
/// # Panics
/// There is more than a head can say.
pub(crate) fn chunk_by_hand(
    params: &[u8],
    fields: &[(u32, Vec<u8>)],
    lanes: &[Vec<Vec<u8>>],
    blocks: usize,
) -> Vec<u8> {
    let mut chunk = u32::try_from(params.len()).unwrap().to_le_bytes().to_vec();
    chunk.extend(u16::try_from(fields.len()).unwrap().to_le_bytes());
    chunk.extend(u16::try_from(lanes.len()).unwrap().to_le_bytes());
    fields.iter().for_each(|(width, _)| chunk.extend(width.to_le_bytes()));
    for stream in lanes.iter().flatten() {
        chunk.extend(u32::try_from(stream.len()).unwrap().to_le_bytes());
    }
    chunk.resize(chunk.len() + 4 * blocks, 0);
    chunk.extend(params);
    pad(&mut chunk, 64);
    for (_, rows) in fields {
        chunk.extend(rows);
        pad(&mut chunk, 64);
    }
    for stream in lanes.iter().flatten() {
        chunk.extend(stream);
        pad(&mut chunk, 16);
    }
    pad(&mut chunk, 64);
    chunk
}

fn pad(bytes: &mut Vec<u8>, align: usize) {
    bytes.resize(bytes.len().next_multiple_of(align), 0);
}

/// Metadata of one array and nothing else.
pub(crate) fn one_array(codec: &str, dtype: &str, shape: &str) -> String {
    format!(
        "{{\"arrays\":[{{\"codec\":{{\"name\":\"{codec}\"}},\"dtype\":\"{dtype}\",\"name\":\"v\",\"shape\":[{shape}]}}]}}"
    )
}
