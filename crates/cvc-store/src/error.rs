//! What can go wrong, by who is at fault.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Each variant is one kind of culprit; the message ends with what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. The last commit is as it was.
    #[error("{}: {action}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done to it.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Another writer has the store.
    #[error(
        "{}: {}; close it there, or open the store for reading", path.display(),
        match pid { Some(pid) => format!("process {pid} has it open for writing"), None => "it is open for writing already".into() }
    )]
    Locked {
        /// The store.
        path: PathBuf,
        /// The process, if it said who it is.
        pid: Option<u32>,
    },
    /// There is no store.
    #[error("{}: {problem}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// Why it is none, and what to do.
        problem: String,
    },
    /// There is one already.
    #[error("{}: there is a store already; open it, or choose another place", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// What is on the disk is not what was written.
    #[error("{} at byte {offset}: {problem}; restore the store from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A newer version made it.
    #[error("{}: it has version {major}.{minor}, this program reads 1.x: use a newer one", path.display())]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// A segment cannot be read.
    #[error("{}: {error}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: Box<cvc::Error>,
    },
    /// Rows cannot be stored, or not be had, as they are asked for.
    #[error("array {array:?}: {error}")]
    Rows {
        /// The array.
        array: String,
        /// Why.
        #[source]
        error: Box<cvc::Error>,
    },
    /// There is no array of that name.
    #[error("there is no array {name:?}; the store has {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    NoArray {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A commit that cannot be read any more, or not yet.
    #[error(
        "commit {commit} cannot be read: those from {oldest} to {newest} can; keep more of them to go back further"
    )]
    NoCommit {
        /// The commit asked for.
        commit: u64,
        /// The first that is kept.
        oldest: u64,
        /// The last.
        newest: u64,
    },
    /// Somebody else made a commit between the beginning of a batch and its end.
    #[error("the batch began after commit {began}, but the store is at commit {now}; begin it again")]
    Conflict {
        /// The commit that the batch saw.
        began: u64,
        /// The last commit.
        now: u64,
    },
    /// The store was opened by a process from which this one was forked.
    #[error(
        "{}: process {opened} opened the store, and this is process {now}, which was forked from it; open it here once it \
         is closed there", path.display()
    )]
    Forked {
        /// The store.
        path: PathBuf,
        /// The process that opened it.
        opened: u32,
        /// The process that this is.
        now: u32,
    },
    /// There are segments of a store, and the journal that names them is gone.
    #[error(
        "{}: the journal is missing (a file journal- and 16 digits), but {found} of a store is there: restore the journal \
         from a copy, or remove what is left to begin anew", path.display()
    )]
    NoJournal {
        /// The directory.
        path: PathBuf,
        /// A file that only a store has.
        found: String,
    },
    /// The store was opened for reading.
    #[error("the store was opened for reading; open it for writing")]
    ReadOnly,
    /// A sync failed earlier, so nobody knows what is on the disk.
    #[error("an earlier sync failed, so what is on the disk is not known; open the store again")]
    Unknown,
    /// The caller asked for something that makes no sense.
    #[error("{argument} = {value}: {problem}")]
    Argument {
        /// Which argument.
        argument: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A directory or a package of another program is not what it should be.
    #[error("{}: {problem}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(crate) fn io(path: PathBuf, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |cause| Error::Io { path, action, cause }
    }

    pub(crate) fn argument(
        argument: &'static str,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Error {
        Error::Argument { argument, value: value.to_string(), problem: problem.into() }
    }

    pub(crate) fn rows(array: &str) -> impl FnOnce(cvc::Error) -> Error {
        move |error| Error::Rows { array: array.to_owned(), error: Box::new(error) }
    }

    /// Whether another call would have worked, rather than a disk or a store that is not as it should be.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Argument { .. }
            | Error::NoArray { .. }
            | Error::NoCommit { .. }
            | Error::NotAStore { .. }
            | Error::Exists { .. }
            | Error::ReadOnly => true,
            Error::Rows { error, .. } => error.is_usage(),
            Error::Io { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
            _ => false,
        }
    }
}
