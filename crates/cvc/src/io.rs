//! Where bytes come from and where they go. The only place of this crate that touches files.

pub mod atomic_file;
#[cfg(feature = "mmap")]
pub mod mmap;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cvc_codec::SourceError;

use crate::error::Error;

/// Bytes that can be read at any position, from several threads.
///
/// A file, a map, a buffer, an object in a store.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are. Does not change.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The source fails, or ends before `into` is full.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError>;

    /// Fills each slice with the bytes from its offset on. What a reader wants at once comes in one call, so a source
    /// that has to ask over a network can ask for all of it together; by default one after another.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
        ranges.iter_mut().try_for_each(|(offset, into)| self.read_at(*offset, into))
    }

    /// Says that the bytes of `range` will be read soon, so that a source that is slow can begin to fetch them. Nothing may be
    /// done about it, which is the default.
    fn will_need(&self, range: Range<u64>) {
        let _ = range;
    }

    /// How many bytes to ask for in one call at least, where more than that are wanted: of a source that is far away, to which
    /// every call is a journey. Such a source is asked for what a request needs before it is decoded, in calls of about
    /// so many bytes, each of which is held in memory. 0, the default, is for a source that may be asked bit by bit.
    fn ahead_len(&self) -> u64 {
        0
    }

    /// The bytes of `range` without a copy, if they lie in memory. `None` too if the range is not within it.
    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        let _ = range;
        None
    }
}

/// Fills `bytes` with all of `ranges`, one after another, in one call to the source.
pub(crate) fn read_together(
    source: &dyn ReadAt,
    ranges: &[Range<u64>],
    bytes: &mut Vec<u8>,
) -> Result<(), SourceError> {
    let len =
        |range: &Range<u64>| usize::try_from(range.end - range.start).expect("what is read fits in memory");
    bytes.resize(ranges.iter().map(len).sum(), 0);
    let mut rest = bytes.as_mut_slice();
    let mut wanted = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (into, after) = rest.split_at_mut(len(range));
        rest = after;
        wanted.push((range.start, into));
    }
    source.read_ranges(&mut wanted)
}

/// A file read by position, so that any number of threads can share it.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens `path`.
    ///
    /// # Errors
    /// It cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // Looked at by name first: opening a pipe waits for somebody to write to it.
        let regular = std::fs::metadata(path).map_err(Error::io(path, "cannot be opened"))?.is_file();
        let file = if regular { File::open(path) } else { Err(not_regular()) };
        let file = file.map_err(Error::io(path, "cannot be opened"))?;
        let metadata = file.metadata().map_err(Error::io(path, "cannot be looked at"))?;
        if !metadata.is_file() {
            return Err(Error::io(path, "cannot be opened")(not_regular()));
        }
        Ok(FileSource { file, len: metadata.len() })
    }

    #[cfg(unix)]
    fn read_some(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, into, offset)
    }

    #[cfg(windows)]
    fn read_some(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, into, offset)
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let (len, mut done) = (into.len(), 0);
        while done < len {
            match self.read_some(offset + done as u64, &mut into[done..]) {
                Ok(0) => {
                    let file_len =
                        self.file.metadata().map_or(offset + done as u64, |metadata| metadata.len());
                    return Err(SourceError::Shrunk { offset, end: offset + len as u64, file_len });
                }
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(SourceError::Read { offset, len: len as u64, cause: Arc::new(error) });
                }
            }
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn will_need(&self, range: Range<u64>) {
        use rustix::fs::{Advice, fadvise};
        // Of no bytes it would speak of all to the end of the file. A file system that takes no advice says so.
        if let Some(len) = std::num::NonZeroU64::new(range.end.saturating_sub(range.start)) {
            let _ = fadvise(&self.file, range.start, Some(len), Advice::WillNeed);
        }
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file, so it cannot be read by position")
}

/// A whole file in memory.
impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        copy_from(self, offset, into)
    }

    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        slice(self, range)
    }
}

#[cfg(feature = "mmap")]
impl ReadAt for mmap::Map {
    fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        copy_from(self.bytes(), offset, into)
    }

    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        slice(self.bytes(), range)
    }
}

fn slice(bytes: &[u8], range: Range<u64>) -> Option<&[u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

fn copy_from(bytes: &[u8], offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
    let end = offset.saturating_add(into.len() as u64);
    match slice(bytes, offset..end) {
        Some(from) => {
            into.copy_from_slice(from);
            Ok(())
        }
        None => Err(SourceError::Shrunk { offset, end, file_len: bytes.len() as u64 }),
    }
}
