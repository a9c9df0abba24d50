//! What is known of the inside of chunks: where their blocks lie, and which of those were found good.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cvc_codec::{BlockRun, Params, Parts, RunBytes, SourceError};
use cvc_cpu::ops::crc32c::append_each;
use cvc_format::native::parse_head;
use cvc_format::{ArrayIndex, ChunkEntry, ChunkId, FileIndex, FormatError, Stored};
use thiserror::Error;

use crate::io::ReadAt;
use crate::raw::RowPlaces;

/// The inside of one chunk.
#[derive(Debug)]
pub(crate) struct Inside {
    /// Where the rows lie. Offsets count from the start of the chunk's bytes.
    pub(crate) parts: Arc<Parts>,
    /// What the codec needs to know beside the bytes.
    pub(crate) params: Params,
    /// One bit for each block. Only ever set after its checksum was seen to be right, and the bytes of a file do not
    /// change while it is open, so two threads that check a block twice do no harm.
    good: Vec<AtomicU64>,
}

impl Inside {
    /// Of a CVCF chunk, whose layout does not know its inside.
    fn opaque(entry: &ChunkEntry, params: &Params) -> Inside {
        let len = u32::try_from(entry.bytes.end - entry.bytes.start).expect("a CVCF payload is below 4 GiB");
        let parts = Arc::new(Parts::opaque(entry.row_count(), len));
        Inside { parts, params: params.clone(), good: Vec::new() }
    }

    /// Compares the blocks of `run` that were not checked before with their checksums. `start` is where the chunk
    /// begins in the file.
    pub(crate) fn check(
        &self,
        run: &BlockRun<'_>,
        bytes: RunBytes<'_>,
        start: u64,
    ) -> Result<(), SourceError> {
        let mut rest = run.blocks.clone();
        while let Some(first) = rest.find(|block| !self.is_good(*block)) {
            // Blocks side by side are hashed at once.
            let end = rest.find(|block| self.is_good(*block)).unwrap_or(run.blocks.end);
            let mut good = first..first;
            let result = check_blocks(run, first..end, bytes, start, |block, result| {
                result?;
                good.end = block + 1;
                Ok(())
            });
            self.note_good(good);
            result?;
        }
        Ok(())
    }

    /// Notes that these blocks are good, with one write for each word of them: others write the same words.
    fn note_good(&self, blocks: Range<u32>) {
        let mut first = blocks.start;
        while first < blocks.end {
            let count = (64 - first % 64).min(blocks.end - first);
            let bits = (u64::MAX >> (64 - count)) << (first % 64);
            self.good[first as usize / 64].fetch_or(bits, Ordering::Relaxed);
            first += count;
        }
    }

    #[inline]
    pub(crate) fn is_good(&self, block: u32) -> bool {
        let (word, bit) = (block as usize / 64, block % 64);
        self.good[word].load(Ordering::Relaxed) >> bit & 1 == 1
    }

    /// Whether all blocks of the run have been checked.
    pub(crate) fn all_good(&self, run: &BlockRun<'_>) -> bool {
        run.blocks.clone().all(|block| self.is_good(block))
    }
}

/// Compares these blocks of `run`, whose bytes these are, with their checksums, and hands over what comes of it, block by
/// block, until that is an error.
pub(crate) fn check_blocks<E>(
    run: &BlockRun<'_>,
    blocks: Range<u32>,
    bytes: RunBytes<'_>,
    start: u64,
    mut found: impl FnMut(u32, Result<(), SourceError>) -> Result<(), E>,
) -> Result<(), E> {
    // A few at a time, whose checksums need no memory of their own.
    let mut crcs = [0; 48];
    for first in blocks.clone().step_by(crcs.len()) {
        let blocks = first..blocks.end.min(first.saturating_add(48));
        let crcs = &mut crcs[..blocks.len()];
        run.parts.checksums(blocks.clone(), bytes_of(run, blocks.clone(), bytes), append_each, crcs);
        for (block, crc) in blocks.zip(crcs) {
            found(block, compare(run, block, *crc, start))?;
        }
    }
    Ok(())
}

/// The bytes of some blocks of a run, whose bytes these are: of each field, then of each lane.
fn bytes_of<'b>(
    run: &BlockRun<'b>,
    blocks: Range<u32>,
    bytes: RunBytes<'b>,
) -> impl Iterator<Item = &'b [u8]> {
    let mut at = 0;
    run.ranges().zip(run.parts.ranges(blocks)).map(move |(of_run, of_blocks)| match bytes {
        RunBytes::Chunk(bytes) => &bytes[index(of_blocks.start)..index(of_blocks.end)],
        RunBytes::Ranges(bytes) => {
            let from = at + index(of_blocks.start - of_run.start);
            at += index(of_run.end - of_run.start);
            &bytes[from..from + index(of_blocks.end - of_blocks.start)]
        }
    })
}

/// Compares the checksum that was found of a block with that in the file.
fn compare(run: &BlockRun<'_>, block: u32, found: u32, start: u64) -> Result<(), SourceError> {
    let expected = run.parts.crcs()[block as usize];
    if expected == found {
        return Ok(());
    }
    let ranges = run.parts.ranges(block..block + 1);
    let ranges = ranges.map(|range| start + range.start..start + range.end).collect();
    Err(SourceError::Block { block, rows: run.parts.rows_of(block..block + 1), ranges, expected, found })
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("the file was opened on this machine")
}

/// The insides of all chunks of a file, each made when it is first asked for.
///
/// Those of native chunks stay in memory once read: some 4 bytes for each block, a thousandth of what was read of it.
pub(crate) struct Insides {
    /// For each array, for each chunk.
    chunks: Vec<Vec<OnceLock<Inside>>>,
    /// For each array, where single rows were found.
    places: Vec<OnceLock<Option<RowPlaces>>>,
}

impl fmt::Debug for Insides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Insides").finish_non_exhaustive()
    }
}

/// Why the inside of a chunk is not known.
#[derive(Clone, Debug, Error)]
pub(crate) enum HeadError {
    /// The source failed.
    #[error(transparent)]
    Source(SourceError),
    /// The head is damaged.
    #[error(transparent)]
    Format(FormatError),
}

impl Insides {
    pub(crate) fn new(index: &FileIndex) -> Insides {
        let chunks = index
            .arrays
            .iter()
            .map(|array| std::iter::repeat_with(OnceLock::new).take(array.chunks.len()).collect());
        let places = index.arrays.iter().map(|_| OnceLock::new());
        Insides { chunks: chunks.collect(), places: places.collect() }
    }

    /// Where single rows of an array were found; `None` if its chunks do not allow to say it shortly.
    pub(crate) fn places(&self, array: usize, index: &ArrayIndex) -> Option<&RowPlaces> {
        self.places[array].get_or_init(|| RowPlaces::of(index)).as_ref()
    }

    /// The inside of a chunk that was loaded before.
    pub(crate) fn get(&self, array: usize, chunk: ChunkId) -> &Inside {
        self.chunks[array][chunk.index()].get().expect("loaded before it is asked for")
    }

    /// The inside of a chunk, if it was loaded before.
    pub(crate) fn known(&self, array: usize, chunk: ChunkId) -> Option<&Inside> {
        self.chunks[array][chunk.index()].get()
    }

    /// Loads those of these chunks of an array that are not known yet, with one call to the source.
    ///
    /// # Errors
    /// The first chunk whose head could not be read or is damaged. Those before it are loaded.
    pub(crate) fn load(
        &self,
        array: usize,
        index: &FileIndex,
        chunks: impl IntoIterator<Item = ChunkId>,
        source: &dyn ReadAt,
    ) -> Result<(), (ChunkId, HeadError)> {
        let entries = &index.arrays[array].chunks;
        let slots = &self.chunks[array];
        let mut wanted: Vec<(ChunkId, u64, usize)> = Vec::new();
        // Rows of one chunk may be wanted one by one, thousands of them.
        let mut seen = BTreeSet::new();
        for id in chunks {
            if slots[id.index()].get().is_some() || !seen.insert(id) {
                continue;
            }
            let entry = &entries[id.index()];
            match &entry.stored {
                Stored::Framed { params, .. } => {
                    slots[id.index()].get_or_init(|| Inside::opaque(entry, params));
                }
                Stored::Blocked(blocked) => {
                    wanted.push((id, entry.bytes.start, blocked.head_len as usize));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        // Heads lie inside the file, so this allocates no more than the file is long.
        let mut bytes = vec![0; wanted.iter().map(|(_, _, len)| len).sum()];
        let mut rest = bytes.as_mut_slice();
        let mut ranges: Vec<(u64, &mut [u8])> = Vec::with_capacity(wanted.len());
        for (_, offset, len) in &wanted {
            let (head, after) = rest.split_at_mut(*len);
            rest = after;
            ranges.push((*offset, head));
        }
        source.read_ranges(&mut ranges).map_err(|error| (wanted[0].0, HeadError::Source(error)))?;
        let mut at = 0;
        for (id, _, len) in wanted {
            let head = parse_head(id, &entries[id.index()], &bytes[at..at + len]);
            at += len;
            let head = head.map_err(|error| (id, HeadError::Format(error)))?;
            let words = head.parts.block_count().div_ceil(64) as usize;
            let good = std::iter::repeat_with(AtomicU64::default).take(words).collect();
            let inside = Inside { parts: Arc::new(head.parts), params: Params::Bytes(head.params), good };
            slots[id.index()].get_or_init(|| inside);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_noted_are_good_and_no_others() {
        for noted in [0..0, 0..1, 5..64, 63..65, 64..128, 1..200, 70..71, 192..200] {
            let good = std::iter::repeat_with(AtomicU64::default).take(4).collect();
            let inside =
                Inside { parts: Arc::new(Parts::packed(200, 1)), params: Params::Bytes(Arc::new([])), good };
            inside.note_good(noted.clone());
            for block in 0..200 {
                assert_eq!(inside.is_good(block), noted.contains(&block), "{noted:?}, block {block}");
            }
        }
    }
}
