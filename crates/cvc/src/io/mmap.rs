//! A read-only memory map of a whole file.
//!
//! A map lets an input be larger than memory and lets rows be borrowed where they lie. It is also the one
//! thing in this crate that the language cannot check: the bytes belong to a file that somebody else may
//! change. That is why the map has a file of its own, and why it is behind the feature `mmap`, off unless
//! asked for.
#![expect(unsafe_code, reason = "a file cannot be mapped without it; the contract is on `Map`")]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// A whole file, read-only, in the address space of this process.
///
/// # What the caller accepts
///
/// Nobody may shorten or change the file while it is mapped. No operating system can promise that, so this is
/// what happens when somebody does:
///
/// - *Shortened*: reading a page beyond the new end is a fault (`SIGBUS` on Unix, an exception on Windows)
///   that ends the process. A file that is *replaced* by a rename, as
///   [`AtomicFile`](super::atomic_file::AtomicFile) does it, is safe: the map keeps the old file (Windows
///   refuses the rename).
/// - *Changed in place*: the bytes change under a `&[u8]`, which Rust calls undefined behaviour. Code above a
///   map therefore copies headers out before it reads them and checks the copy. Rows are computed on where
///   they lie, but nothing that is read from them decides where to read or write next: the worst is wrong
///   values.
///
/// Where this is too much, read the file into memory, or with positioned reads.
pub struct Map {
    /// `None` for an empty file, which has nothing to map.
    map: Option<Mmap>,
}

impl Map {
    /// Maps the file of this name.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, is not a regular file, or cannot be mapped.
    pub fn open(path: &Path) -> io::Result<Map> {
        // Looked at by name first: opening a pipe waits for somebody to write to it.
        match std::fs::metadata(path)?.is_file() {
            true => Map::of_file(&File::open(path)?),
            false => Err(not_regular()),
        }
    }

    /// Maps an open file, which may then be closed.
    ///
    /// # Errors
    ///
    /// When the file is not a regular file (pipes and devices have no length to map), is larger than the
    /// address space, or the system refuses.
    pub fn of_file(file: &File) -> io::Result<Map> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        if metadata.len() == 0 {
            return Ok(Map { map: None });
        }
        let len = usize::try_from(metadata.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "larger than the address space"))?;
        // SAFETY: the map is read-only and covers `len` bytes that the file had a moment ago. That nobody
        // shortens or changes the file is the contract on `Map`, which the caller took on with the feature
        // `mmap`.
        let map = unsafe { MmapOptions::new().len(len).map(file) }?;
        Ok(Map { map: Some(map) })
    }

    /// Every byte of the file.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

fn not_regular() -> io::Error {
    let what = "not a regular file, so it cannot be mapped; copy it into one";
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_every_byte_and_outlives_the_handle_and_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"0123456789").unwrap();
        let map = Map::open(&path).unwrap();
        assert_eq!(map.bytes(), b"0123456789");
        assert_eq!(&map[3..5], b"34");
        // Replaced by a rename, as a writer of this crate does it: the map keeps what it had.
        #[cfg(unix)]
        {
            std::fs::write(dir.path().join("b"), b"x").unwrap();
            std::fs::rename(dir.path().join("b"), &path).unwrap();
            assert_eq!(map.bytes(), b"0123456789");
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_slice() {
        let map = Map::of_file(&tempfile::tempfile().unwrap()).unwrap();
        assert!(map.is_empty());
    }

    #[test]
    fn what_is_missing_or_not_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Map::open(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Map::open(dir.path()).is_err());
    }
}
