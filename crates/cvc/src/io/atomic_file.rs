//! A file that appears under its name whole, or not at all.
//!
//! Bytes go to a temporary sibling; [`AtomicFile::commit`] syncs it, renames it onto the final name and syncs
//! the directory. So the name never shows a half-written file, a reader that holds the old file mapped is not
//! cut short under its feet, and after a successful commit the file is there even if the power goes.
//!
//! ```text
//! create ─▶ .name.a1b2c3.tmp ─▶ write, seek ─▶ commit: flush, fsync, rename, fsync of the directory
//!                   └──────────── dropped ─▶ removed; the final name is as it was
//! ```

use std::error::Error;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Large enough that a write is worth its system call, small enough to stay in the cache.
const BUFFER_LEN: usize = 1 << 20;

/// As many symbolic links in a row as Linux follows.
const LINKS_MAX: usize = 40;

/// Names longer than this are left out of the temporary name, which must stay below 255 bytes.
const NAME_LEN_MAX: usize = 200;

/// What happens to a file that already has the final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced, in one step, by the commit.
    Allow,
    /// It is an error, and stays: at [`AtomicFile::create`], and at [`AtomicFile::commit`] if it came up
    /// meanwhile.
    Refuse,
}

/// A new file in the making, buffered, that takes its final name by [`commit`](AtomicFile::commit).
///
/// Dropped without a commit it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
    overwrite: Overwrite,
    /// Open since the beginning, so that the last sync cannot fail for want of permission after the rename.
    #[cfg(unix)]
    directory: File,
}

impl AtomicFile {
    /// Begins a file that will be named `path`; nothing of that name is touched before the commit.
    ///
    /// If `path` is a symbolic link, the link stays and what it points to is replaced. The file gets the
    /// permissions that any new file gets.
    ///
    /// # Errors
    ///
    /// When `path` is a directory or a device, exists although `overwrite` refuses that, or its directory is
    /// missing or may not be written. Each error names the path.
    pub fn create(path: &Path, overwrite: Overwrite) -> io::Result<AtomicFile> {
        match fs::metadata(path) {
            Ok(metadata) => check_replaceable(path, &metadata, overwrite)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(at(path, "check the path and its permissions, for it cannot be looked up", e));
            }
        }
        let target = follow_links(path)?;
        let name = match target.file_name() {
            Some(name) if !ends_in_separator(&target) => name,
            _ => {
                return Err(refused(
                    path,
                    io::ErrorKind::InvalidInput,
                    "does not name a file; add a file name",
                ));
            }
        };
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };

        #[cfg(unix)]
        let directory = File::open(parent).map_err(|e| {
            at(path, "its directory cannot be opened; create it, make it readable, or choose another", e)
        })?;

        let mut prefix = std::ffi::OsString::from(".");
        if name.len() <= NAME_LEN_MAX {
            prefix.push(name);
            prefix.push(".");
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        // What `File::create` asks for; the umask applies to it. The default, 0600, is for secrets.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(parent).map_err(|e| {
            at(path, "check that its directory is writable, for no file can be made in it", e)
        })?;

        Ok(AtomicFile {
            file: BufWriter::with_capacity(BUFFER_LEN, file),
            overwrite,
            #[cfg(unix)]
            directory,
            target,
        })
    }

    /// Gives the file its final name, once every byte of it is on the disk.
    ///
    /// # Errors
    ///
    /// When a byte cannot be written or synced, or the name cannot be taken: then the temporary is gone and
    /// the final name is as it was. Only when the directory cannot be synced is the file in place all the
    /// same, and may be lost if the power goes; the message says so.
    pub fn commit(self) -> io::Result<()> {
        let AtomicFile { file, target, overwrite, .. } = self;
        let failed = |e| {
            at(
                &target,
                "nothing was changed, for it cannot be written; free some space or choose another place",
                e,
            )
        };
        let temporary = file.into_inner().map_err(|e| failed(e.into_error()))?;
        temporary.as_file().sync_all().map_err(failed)?;

        let renamed = match overwrite {
            Overwrite::Allow => temporary.persist(&target),
            Overwrite::Refuse => temporary.persist_noclobber(&target),
        };
        // Dropping the `PersistError` removes the temporary.
        renamed.map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => {
                at(&target, "came up while it was being written; it was left alone", e.error)
            }
            _ => at(&target, "nothing was changed, for the finished file cannot take this name", e.error),
        })?;

        #[cfg(unix)]
        sync_directory(&self.directory).map_err(|e| {
            at(
                &target,
                "is complete, but its directory cannot be synced; it may be lost if the power goes",
                e,
            )
        })?;
        Ok(())
    }
}

impl AtomicFile {
    /// The directory the file will be in, links followed.
    pub(crate) fn parent(&self) -> &Path {
        match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Appends the rest of `from`, by the system's own way of copying where it has one: through the buffer it would
    /// go in pieces of 8 KiB.
    ///
    /// # Errors
    /// Either file fails.
    pub fn append(&mut self, from: &mut File) -> io::Result<u64> {
        self.file.flush()?;
        io::copy(from, self.file.get_mut().as_file_mut())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Seeking writes the buffer out first, so that header fields can be filled in at the end.
impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }
}

/// Reads back what was written, at the one position that writing shares.
impl Read for AtomicFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.flush()?;
        self.file.get_mut().read(into)
    }
}

fn check_replaceable(path: &Path, metadata: &Metadata, overwrite: Overwrite) -> io::Result<()> {
    if metadata.is_dir() {
        let what = "is a directory; add a file name";
        return Err(refused(path, io::ErrorKind::IsADirectory, what));
    }
    if !metadata.is_file() {
        let what = "is not a regular file, so it cannot be replaced in one step; name a file";
        return Err(refused(path, io::ErrorKind::InvalidInput, what));
    }
    match overwrite {
        Overwrite::Allow => Ok(()),
        Overwrite::Refuse => {
            let what = "exists; remove it, choose another name, or allow overwriting";
            Err(refused(path, io::ErrorKind::AlreadyExists, what))
        }
    }
}

/// The name at the end of a chain of symbolic links, whether or not there is a file of that name.
///
/// `fs::canonicalize` would do for files that exist; a link may point to one that is still to be written.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let to = fs::read_link(&path).map_err(|e| at(&path, "is a link that cannot be read", e))?;
                // A relative link starts from the directory the link is in.
                path = path.parent().unwrap_or(Path::new("")).join(to);
            }
            _ => return Ok(path),
        }
    }
    Err(refused(&path, io::ErrorKind::InvalidInput, "is a chain of links without an end; remove the link"))
}

/// `out/` asks for a directory, whatever `Path::file_name` makes of it.
fn ends_in_separator(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|&b| std::path::is_separator(char::from(b)))
}

#[cfg(unix)]
fn sync_directory(directory: &File) -> io::Result<()> {
    match directory.sync_all() {
        // Some network file systems cannot sync a directory, and have nothing to sync.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// An I/O error that says which path, and keeps the cause and its kind.
#[derive(Debug)]
struct PathError {
    path: PathBuf,
    what: &'static str,
    source: Option<io::Error>,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for PathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn Error + 'static))
    }
}

fn at(path: &Path, what: &'static str, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), PathError { path: path.to_owned(), what, source: Some(source) })
}

fn refused(path: &Path, kind: io::ErrorKind, what: &'static str) -> io::Error {
    io::Error::new(kind, PathError { path: path.to_owned(), what, source: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_commit_replaces_the_whole_file_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.cvc");
        fs::write(&path, b"the old content, which is longer").unwrap();
        let mut file = AtomicFile::create(&path, Overwrite::Allow).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"the old content, which is longer", "not before the commit");
        assert_eq!(names(dir.path()).len(), 2);
        assert!(names(dir.path())[0].starts_with(".out.cvc.") && names(dir.path())[0].ends_with(".tmp"));
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["out.cvc"]);
    }

    #[test]
    fn a_failing_writer_leaves_the_old_content() {
        fn pack(path: &Path) -> io::Result<()> {
            let mut file = AtomicFile::create(path, Overwrite::Allow)?;
            file.write_all(&vec![7; 3 << 20])?;
            Err(io::Error::other("the input ended early"))
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.cvc");
        fs::write(&path, b"old").unwrap();
        assert!(pack(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["out.cvc"]);
    }

    #[test]
    fn a_drop_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = AtomicFile::create(&dir.path().join("out.cvc"), Overwrite::Refuse).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn what_was_written_can_be_read_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.cvc");
        let mut file = AtomicFile::create(&path, Overwrite::Allow).unwrap();
        file.write_all(b"????payload").unwrap();
        file.seek(SeekFrom::Start(4)).unwrap();
        let mut payload = String::new();
        file.read_to_string(&mut payload).unwrap();
        assert_eq!(payload, "payload");
        file.write_all(b"!").unwrap();
        assert_eq!(file.stream_position().unwrap(), 12);
        file.rewind().unwrap();
        file.write_all(b"head").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"headpayload!");
    }

    #[test]
    fn refuse_keeps_a_file_that_was_there_and_one_that_comes_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.cvc");
        let mut file = AtomicFile::create(&path, Overwrite::Refuse).unwrap();
        file.write_all(b"mine").unwrap();
        fs::write(&path, b"theirs").unwrap();
        let error = file.commit().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("out.cvc"), "{error}");
        let error = AtomicFile::create(&path, Overwrite::Refuse).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(dir.path()), ["out.cvc"]);
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none").join("out.cvc");
        let error = AtomicFile::create(&path, Overwrite::Allow).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.source().is_some());
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join(".."), dir.path().join("new/"), PathBuf::new()] {
            assert!(AtomicFile::create(&path, Overwrite::Allow).is_err(), "{path:?}");
        }
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_long_name_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(250));
        AtomicFile::create(&path, Overwrite::Allow).unwrap().commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{PermissionsExt, symlink};

        use super::*;

        #[test]
        fn a_device_is_refused() {
            let error = AtomicFile::create(Path::new("/dev/null"), Overwrite::Allow).unwrap_err();
            assert!(error.to_string().starts_with("/dev/null: is not a regular file"), "{error}");
        }

        #[test]
        fn the_mode_is_that_of_any_new_file() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out.cvc");
            AtomicFile::create(&path, Overwrite::Allow).unwrap().commit().unwrap();
            fs::write(dir.path().join("plain"), b"").unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(&path), mode(&dir.path().join("plain")));
        }

        #[test]
        fn a_link_stays_and_its_target_is_replaced() {
            let dir = tempfile::tempdir().unwrap();
            let (links, files) = (dir.path().join("links"), dir.path().join("files"));
            fs::create_dir(&links).unwrap();
            fs::create_dir(&files).unwrap();
            fs::write(files.join("old"), b"old").unwrap();
            symlink("../files/old", links.join("a")).unwrap();
            symlink("a", links.join("b")).unwrap();
            symlink("../files/none yet", links.join("dangling")).unwrap();
            symlink("loop", links.join("loop")).unwrap();

            for (link, target) in [("b", "old"), ("dangling", "none yet")] {
                let mut file = AtomicFile::create(&links.join(link), Overwrite::Allow).unwrap();
                file.write_all(b"new").unwrap();
                file.commit().unwrap();
                assert!(fs::symlink_metadata(links.join(link)).unwrap().is_symlink());
                assert_eq!(fs::read(files.join(target)).unwrap(), b"new");
            }
            assert!(AtomicFile::create(&links.join("loop"), Overwrite::Allow).is_err());
            assert_eq!(names(&links), ["a", "b", "dangling", "loop"]);
            assert_eq!(names(&files), ["none yet", "old"]);
        }
    }
}
