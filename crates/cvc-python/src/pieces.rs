//! Bytes of files that somebody else fetches: parts of larger `bytes`, and pieces that come one after another.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cvc::ReadAt;
use cvc::codec::SourceError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::memory::Memory;

/// Bytes `start` to `stop` of an object `bytes`, which nobody can change, as a file of their own. Nothing is copied.
#[pyclass(frozen, module = "cvc")]
#[derive(Clone)]
pub(crate) struct Span {
    bytes: Arc<PyBackedBytes>,
    range: Range<usize>,
}

#[pymethods]
impl Span {
    #[new]
    fn new(bytes: PyBackedBytes, start: usize, stop: usize) -> PyResult<Span> {
        if start > stop || stop > bytes[..].len() {
            let problem = format!("there are no bytes {start}..{stop} among {}", bytes[..].len());
            return Err(PyValueError::new_err(problem));
        }
        Ok(Span { bytes: Arc::new(bytes), range: start..stop })
    }

    fn __len__(&self) -> usize {
        self.range.len()
    }
}

impl ReadAt for Span {
    fn len(&self) -> u64 {
        self.range.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let end = offset.saturating_add(into.len() as u64);
        let bytes = self.borrow(offset..end);
        let bytes = bytes.ok_or_else(|| SourceError::Shrunk { offset, end, file_len: ReadAt::len(self) })?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        let whole = &self.bytes[self.range.clone()];
        whole.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }
}

/// A file of which only pieces are at hand. What is read of it and is not there is noted, so that whoever has it fetched
/// can put it here and read again.
///
/// Code that waits for a network in an event loop cannot be asked for bytes in the middle of a read. So the read fails, and all that it
/// wanted at once is asked for by its caller; what it learned up to there is kept by the reader.
#[pyclass(frozen, module = "cvc")]
#[derive(Clone)]
pub(crate) struct Pieces {
    len: u64,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// By the offset of their first byte. Two of them may have bytes in common.
    pieces: BTreeMap<u64, Box<[u8]>>,
    missing: Vec<Range<u64>>,
}

#[pymethods]
impl Pieces {
    #[new]
    fn new(len: u64) -> Pieces {
        Pieces { len, known: Arc::default() }
    }

    /// Adds the bytes from `offset` on.
    fn put(&self, offset: u64, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
        let memory = Memory::of(bytes)?;
        let bytes = memory.bytes();
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            let problem = format!("{} bytes from {offset} on are beyond {}", bytes.len(), self.len);
            return Err(PyValueError::new_err(problem));
        }
        let mut known = self.known();
        // Of two that begin alike the longer one says more.
        if known.pieces.get(&offset).is_none_or(|piece| piece.len() < bytes.len()) {
            known.pieces.insert(offset, bytes.into());
        }
        Ok(())
    }

    /// The ranges that were wanted and not there, since this was last asked: pairs of a start and a stop.
    fn missing(&self) -> Vec<(u64, u64)> {
        let missing = std::mem::take(&mut self.known().missing);
        missing.into_iter().map(|range| (range.start, range.end)).collect()
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }
}

impl Pieces {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Fills `into` with the bytes from `offset` on; false if they are not all here.
    fn fill(&self, mut offset: u64, mut into: &mut [u8]) -> bool {
        while !into.is_empty() {
            // The last that begins there or before may be a short one within a longer one, so those before it are looked at, too.
            let before = self.pieces.range(..=offset).rev();
            let piece = before.map(|(start, piece)| (offset - start, piece));
            let mut rest = piece.filter_map(|(skip, piece)| piece.get(usize::try_from(skip).ok()?..));
            let Some(piece) = rest.find(|rest| !rest.is_empty()) else { return false };
            let count = piece.len().min(into.len());
            into[..count].copy_from_slice(&piece[..count]);
            into = &mut into[count..];
            offset += count as u64;
        }
        true
    }
}

impl ReadAt for Pieces {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.read_ranges(&mut [(offset, into)])
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
        let mut known = self.known();
        let mut failed = None;
        for (offset, into) in ranges {
            if !known.fill(*offset, into) {
                let (offset, len) = (*offset, into.len() as u64);
                known.missing.push(offset..offset + len);
                let cause = || io::Error::new(io::ErrorKind::NotFound, "these bytes were not fetched");
                failed.get_or_insert_with(|| SourceError::Read { offset, len, cause: Arc::new(cause()) });
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(of: &[(u64, &[u8])]) -> Pieces {
        let pieces = Pieces::new(100);
        pieces.known().pieces = of.iter().map(|(offset, bytes)| (*offset, Box::from(*bytes))).collect();
        pieces
    }

    #[test]
    fn what_lies_in_several_pieces_is_read_as_one() {
        let pieces = pieces(&[(0, b"abcdefgh"), (2, b"cd"), (8, b"ij"), (20, b"u")]);
        let mut into = [0; 7];
        pieces.read_at(3, &mut into).unwrap();
        assert_eq!(&into, b"defghij");
        assert!(pieces.missing().is_empty());
    }

    #[test]
    fn all_that_is_missing_of_one_read_is_noted_once() {
        let pieces = pieces(&[(0, b"abc"), (20, b"u")]);
        let (mut first, mut second, mut third) = ([0; 2], [0; 4], [0; 2]);
        let wanted = &mut [(0, &mut first[..]), (1, &mut second[..]), (20, &mut third[..])];
        assert!(pieces.read_ranges(wanted).is_err());
        assert_eq!(pieces.missing(), [(1, 5), (20, 22)]);
        assert!(pieces.missing().is_empty());
    }
}
