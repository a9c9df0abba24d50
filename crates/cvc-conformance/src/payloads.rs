//! Payloads in memory, with switches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cvc_codec::{BlockRun, ChunkId, Payloads, SourceError};

/// Payloads in memory. They start at odd addresses, so that nothing relies on alignment.
#[derive(Debug, Default)]
pub struct MemoryPayloads {
    /// Each with a byte before it.
    payloads: Vec<Vec<u8>>,
    borrowing: bool,
    failing: Vec<ChunkId>,
    damaged: Vec<(ChunkId, u32)>,
    served: AtomicU64,
}

impl MemoryPayloads {
    /// A source of these payloads, which can be read but not borrowed.
    pub fn new(payloads: &[Vec<u8>]) -> Self {
        let payloads = payloads.iter().map(|payload| [&[0], payload.as_slice()].concat()).collect();
        MemoryPayloads { payloads, ..MemoryPayloads::default() }
    }

    /// Whether [`Payloads::borrow`] gives bytes.
    pub fn borrowing(self, borrowing: bool) -> Self {
        MemoryPayloads { borrowing, ..self }
    }

    /// Fails for these chunks.
    pub fn failing_at(self, chunks: &[ChunkId]) -> Self {
        MemoryPayloads { failing: chunks.to_vec(), ..self }
    }

    /// Says that these blocks do not match their checksums.
    pub fn damaged_at(self, blocks: &[(ChunkId, u32)]) -> Self {
        MemoryPayloads { damaged: blocks.to_vec(), ..self }
    }

    /// How many bytes were read or borrowed so far.
    pub fn served_len(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// All bytes of the chunk of this run.
    fn chunk(&self, run: &BlockRun<'_>) -> Result<&[u8], SourceError> {
        let len = run.byte_len() as u64;
        if self.failing.contains(&run.chunk) {
            let cause = Arc::new(std::io::Error::other("told to fail"));
            let offset = run.ranges().next().map_or(0, |range| range.start);
            return Err(SourceError::Read { offset, len, cause });
        }
        if let Some(block) = run.blocks.clone().find(|block| self.damaged.contains(&(run.chunk, *block))) {
            return Err(SourceError::Block {
                block,
                rows: run.parts.rows_of(block..block + 1),
                ranges: run.parts.ranges(block..block + 1).collect(),
                expected: 0,
                found: 1,
            });
        }
        self.served.fetch_add(len, Ordering::Relaxed);
        Ok(&self.payloads[run.chunk.index()][1..])
    }
}

impl Payloads for MemoryPayloads {
    fn read(&self, run: &BlockRun<'_>, into: &mut [u8]) -> Result<(), SourceError> {
        let chunk = self.chunk(run)?;
        let mut rest = into;
        for range in run.ranges() {
            let bytes = &chunk[index(range)];
            let (into, after) = rest.split_at_mut(bytes.len());
            rest = after;
            into.copy_from_slice(bytes);
        }
        assert!(rest.is_empty(), "room for {} bytes more than the run has", rest.len());
        Ok(())
    }

    fn borrow(&self, run: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError> {
        if !self.borrowing {
            return Ok(None);
        }
        self.chunk(run).map(Some)
    }
}

fn index(range: Range<u64>) -> Range<usize> {
    let index = |offset: u64| usize::try_from(offset).expect("in memory");
    index(range.start)..index(range.end)
}
