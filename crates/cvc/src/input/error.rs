//! What can go wrong with an input, by who is to blame.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where an array comes from: a file, or a member of an archive. Shown as `a.npy` or `b.npz[member]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The name of the array in an `.npz` archive.
    pub member: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.member {
            // A name from an archive may hold anything, control characters too.
            Some(member) => write!(f, "[{}]", member.escape_debug()),
            None => Ok(()),
        }
    }
}

/// Why a matrix could not be opened or read. Each message names the file and ends with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The system failed to give us the file.
    #[error("{origin}: cannot be read: {source}; check that it is a file, and that you may read it")]
    Source {
        /// Which file.
        origin: Origin,
        /// What the system said.
        source: io::Error,
    },
    /// The system failed to take what is unpacked from an archive.
    #[error("{origin}: cannot be unpacked into {}: {source}; free space there or choose another", place(dir))]
    Temporary {
        /// Which array.
        origin: Origin,
        /// The directory, `None` for the system's own for temporary files.
        dir: Option<PathBuf>,
        /// What the system said.
        source: io::Error,
    },
    /// The name does not say what the file holds.
    #[error(
        "{}: the extension is none of .npy, .npz, .fvecs, .bvecs, .ivecs; convert or rename it",
        path.display()
    )]
    UnknownKind {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// A member was asked for, but only an archive has members.
    #[error(
        "{}: is no .npz archive, so it has no array {member:?}; leave the name of the array out",
        path.display()
    )]
    NotAnArchive {
        /// The file, as it was named.
        path: PathBuf,
        /// The member that was asked for.
        member: String,
    },
    /// The archive has no array of this name.
    #[error("{}: has no array {member:?}; choose one of {}", path.display(), Names(names))]
    NoSuchMember {
        /// The archive.
        path: PathBuf,
        /// The member that was asked for.
        member: String,
        /// Those that there are.
        names: Vec<String>,
    },
    /// The archive has several arrays, or none, and none was asked for.
    #[error("{}: has {} arrays; choose one of {}", path.display(), names.len(), Names(names))]
    ChooseMember {
        /// The archive.
        path: PathBuf,
        /// Those that there are.
        names: Vec<String>,
    },
    /// The archive itself is damaged.
    #[error("{origin}: is no sound .npz archive: {source}; write it again")]
    Archive {
        /// The archive, and the member if one was being read.
        origin: Origin,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Bytes are wrong.
    #[error("{origin}: wrong at byte {offset}: {what}; write the file again")]
    Malformed {
        /// Which array.
        origin: Origin,
        /// Where in the file (in the member, for an archive).
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The file ends too early.
    #[error(
        "{origin}: ends after {found} bytes and needs {expected}: it was cut short; copy or write it again"
    )]
    Truncated {
        /// Which array.
        origin: Origin,
        /// The bytes that are needed, as far as is known.
        expected: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// The file goes on after its end.
    #[error(
        "{origin}: ends at byte {expected} by its header, yet goes on; write it again without what follows"
    )]
    Trailing {
        /// Which array.
        origin: Origin,
        /// The length by the header.
        expected: u64,
    },
    /// The file is sound, but holds what cannot be taken as a matrix.
    #[error("{origin}: holds {has}; accepted: {accepted}")]
    Unsupported {
        /// Which array.
        origin: Origin,
        /// What it holds.
        has: String,
        /// What would be accepted, and how to get there.
        accepted: &'static str,
    },
    /// A row of an `.fvecs`, `.bvecs` or `.ivecs` file has another length than the first.
    #[error(
        "{origin}: row {row}, at byte {offset}, says that it has {found} values, and the first row has \
         {expected}; all rows must have as many: write the file again"
    )]
    RowDim {
        /// Which file.
        origin: Origin,
        /// The row, counted from 0.
        row: u64,
        /// Where it starts.
        offset: u64,
        /// The dimension it states.
        found: i32,
        /// The dimension of the first row.
        expected: u32,
    },
    /// The caller asked for rows that are not there.
    #[error(
        "{origin}: rows {start}..{end} were asked for, and there are {rows}; ask for rows within 0..{rows}"
    )]
    Rows {
        /// Which array.
        origin: Origin,
        /// First row asked for.
        start: u64,
        /// End (exclusive) of what was asked for.
        end: u64,
        /// The rows there are.
        rows: u64,
    },
}

fn place(dir: &Option<PathBuf>) -> String {
    match dir {
        Some(dir) => dir.display().to_string(),
        None => "the system's directory for temporary files".to_owned(),
    }
}

/// A list for a message: an archive may have a thousand members, and any characters in their names.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        if self.0.is_empty() {
            return f.write_str("none: write it again with numpy.savez");
        }
        for (i, name) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{name:?}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}
