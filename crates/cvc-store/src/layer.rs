//! The files of a store, through one small trait: what ships and what crash tests put in its place.

pub mod disk;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::PathBuf;

use cvc::ReadAt;

/// One directory. Names are those of `docs/STORE.md`, never what a user wrote.
///
/// What returns without an error has happened for every process of the machine; it survives a loss of power only once
/// [`LayerFile::sync`] (of bytes) or [`Layer::sync_names`] (of names) has returned.
pub trait Layer: Send + Sync + fmt::Debug {
    /// The names of all files.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file, empty also if there was one of that name.
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&self, name: &str) -> io::Result<Box<dyn LayerFile>>;

    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// There is one of that name ([`io::ErrorKind::AlreadyExists`]), or it cannot be made.
    fn create_new(&self, name: &str) -> io::Result<Box<dyn LayerFile>>;

    /// Opens a file for reading, and for writing if `writable`.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&self, name: &str, writable: bool) -> io::Result<Box<dyn LayerFile>>;

    /// A file that does not change any more, to be read as often as needed, also after it was removed.
    ///
    /// # Errors
    /// It cannot be opened.
    fn segment(&self, name: &str) -> io::Result<Box<dyn ReadAt>>;

    /// Gives a file another name, in one step; a file of that name is replaced.
    ///
    /// # Errors
    /// It cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open keeps it.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until the names of all files are as they are now even if the power goes.
    ///
    /// # Errors
    /// The system does not say so.
    fn sync_names(&self) -> io::Result<()>;

    /// Takes the one lock of the writer, until what is returned is dropped.
    ///
    /// # Errors
    /// Somebody has it, or it cannot be had.
    fn lock(&self) -> Result<Box<dyn Any + Send + Sync>, LockError>;

    /// A number that changes when the machine starts anew, or 0 where there is none.
    fn boot(&self) -> u64;

    /// Microseconds since 1970.
    fn now(&self) -> u64;

    /// A number that nobody else has had.
    fn random(&self) -> u64;

    /// What to call a file in messages; the directory if the name is empty.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file.
pub trait LayerFile: Send + Sync {
    /// How many bytes it has.
    ///
    /// # Errors
    /// The system does not say.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has none.
    ///
    /// # Errors
    /// As [`LayerFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `into` with bytes from `offset` on, and says how many there were.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` from `offset` on. The file grows if need be.
    ///
    /// # Errors
    /// Some may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Says that the file will have some `len` bytes, so that room can be found for them together. Only advice.
    fn expect(&self, _len: u64) {}

    /// Waits until all that was written is there even if the power goes.
    ///
    /// # Errors
    /// Then nobody knows what is there.
    fn sync(&self) -> io::Result<()>;
}

/// Why the lock was not had.
#[derive(Debug)]
pub enum LockError {
    /// A writer has it; the text of the lock file may say which process.
    Held(Option<u32>),
    /// The system failed.
    Io(io::Error),
}
