//! Payloads in memory, with switches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cvc_codec::{ChunkId, Payloads, SourceError};

/// Payloads in memory. They start at odd addresses, so that nothing relies on alignment.
#[derive(Debug, Default)]
pub struct MemoryPayloads {
    /// Each with a byte before it.
    payloads: Vec<Vec<u8>>,
    borrowing: bool,
    failing: Vec<ChunkId>,
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

    /// How many bytes were read or borrowed so far.
    pub fn served_len(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn bytes(&self, chunk: ChunkId, range: Range<u64>) -> Result<&[u8], SourceError> {
        let len = range.end - range.start;
        if self.failing.contains(&chunk) {
            let cause = Arc::new(std::io::Error::other("told to fail"));
            return Err(SourceError::Read { offset: range.start, len, cause });
        }
        self.served.fetch_add(len, Ordering::Relaxed);
        let index = |offset: u64| usize::try_from(offset).expect("in memory");
        let payload = &self.payloads[chunk.index()][1..];
        Ok(&payload[index(range.start)..index(range.end)])
    }
}

impl Payloads for MemoryPayloads {
    fn read(&self, chunk: ChunkId, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        into.copy_from_slice(self.bytes(chunk, offset..offset + into.len() as u64)?);
        Ok(())
    }

    fn borrow(&self, chunk: ChunkId, range: Range<u64>) -> Result<Option<&[u8]>, SourceError> {
        if !self.borrowing {
            return Ok(None);
        }
        self.bytes(chunk, range).map(Some)
    }
}
