//! A directory of the file system.

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cvc::ReadAt;

use super::{Layer, LayerFile, LockError};
use crate::names::LOCK;

/// The real thing.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    boot: u64,
}

impl Disk {
    /// The directory of this name, which must be there.
    ///
    /// # Errors
    /// It is not there, or not a directory.
    pub fn open(directory: &Path) -> io::Result<Disk> {
        if !fs::metadata(directory)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"));
        }
        Ok(Disk { directory: directory.to_owned(), boot: boot() })
    }

    /// Makes the directory if there is none, so that it is there even if the power goes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(directory: &Path) -> io::Result<Disk> {
        match fs::create_dir(directory) {
            Ok(()) => {
                let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
                sync_directory(parent.unwrap_or(Path::new(".")))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Disk::open(directory)
    }
}

impl Layer for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not text is not one of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LayerFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(DiskFile(options.open(self.path(name))?)))
    }

    fn create_new(&self, name: &str) -> io::Result<Box<dyn LayerFile>> {
        let mut options = OpenOptions::new();
        Ok(Box::new(DiskFile(options.read(true).write(true).create_new(true).open(self.path(name))?)))
    }

    fn open(&self, name: &str, writable: bool) -> io::Result<Box<dyn LayerFile>> {
        Ok(Box::new(DiskFile(OpenOptions::new().read(true).write(writable).open(self.path(name))?)))
    }

    fn segment(&self, name: &str) -> io::Result<Box<dyn ReadAt>> {
        let path = self.path(name);
        #[cfg(feature = "mmap")]
        return Ok(Box::new(cvc::io::mmap::Map::open(&path)?));
        #[cfg(not(feature = "mmap"))]
        match cvc::io::FileSource::open(&path) {
            Ok(source) => Ok(Box::new(source)),
            Err(cvc::Error::Io { cause, .. }) => Err(cause),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_directory(&self.directory)
    }

    fn lock(&self) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(self.path(LOCK)).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {
                let text = format!("{}\n", std::process::id());
                // It is for messages only.
                let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
                Ok(Box::new(Lock { file, process: std::process::id() }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read =
                    file.seek(SeekFrom::Start(0)).and_then(|_| file.take(32).read_to_string(&mut text));
                Err(LockError::Held(read.ok().and_then(|_| text.trim().parse().ok())))
            }
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }

    fn boot(&self) -> u64 {
        self.boot
    }

    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u64 {
        // Each state has keys of its own, seeded by the system.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(self.now());
        hasher.finish() | 1
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.directory.clone() } else { self.directory.join(name) }
    }
}

/// Linux says which start of the machine this is.
fn boot() -> u64 {
    match fs::read("/proc/sys/kernel/random/boot_id") {
        Ok(id) if !id.is_empty() => {
            let (low, high) = id.split_at(id.len() / 2);
            let crc = |bytes: &[u8]| u64::from(crate::wire::crc32c(&[bytes]));
            (crc(low) << 32 | crc(high)) | 1
        }
        _ => 0,
    }
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot sync a directory, and have nothing to sync.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// The lock, which processes that are forked from this one share.
struct Lock {
    file: File,
    process: u32,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would leave it to them. They must not give it up for us.
        if self.process == std::process::id() {
            let _ = self.file.unlock();
        }
    }
}

struct DiskFile(File);

impl LayerFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match read_some(&self.0, offset + done as u64, &mut into[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn expect(&self, len: u64) {
        use rustix::fs::{FallocateFlags, fallocate};
        // Where it cannot be done, or there is no room, writing says so.
        let _ = fallocate(&self.0, FallocateFlags::KEEP_SIZE, 0, len);
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(unix)]
fn read_some(file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, offset)
}

#[cfg(windows)]
fn read_some(file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, into, offset)
}
