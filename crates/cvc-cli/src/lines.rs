//! Text files as rows: each line is a string.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use cvc::Strings;
use cvc::format::native::MAX_BLOCK_LEN;
use cvc::input::{InputError, Origin};

use crate::report::{Failure, io_failed};

/// What some editors put in front of a text. It is no part of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file, in order. They end with a line feed, with or without a carriage return before it.
pub(crate) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    /// The line at hand, without its end.
    line: Vec<u8>,
    /// Where it begins.
    start: u64,
    /// Where the next one begins.
    next: u64,
}

impl Lines {
    /// Opens a file and counts its lines, each of which is looked at.
    pub(crate) fn open(path: &Path) -> Result<(Lines, u64), Failure> {
        let file = File::open(path).map_err(|cause| io_failed(path, "cannot be read", cause))?;
        let file = BufReader::with_capacity(1 << 20, file);
        let mut lines = Lines { path: path.to_owned(), file, line: Vec::new(), start: 0, next: 0 };
        let mut count = 0;
        while lines.advance()? {
            lines.text()?;
            count += 1;
        }
        lines.file.rewind().map_err(|cause| io_failed(path, "cannot be read twice", cause))?;
        (lines.start, lines.next) = (0, 0);
        Ok((lines, count))
    }

    /// Replaces what is in `into` by the next `count` lines.
    pub(crate) fn read(&mut self, count: usize, into: &mut Strings) -> Result<(), Failure> {
        into.clear();
        for _ in 0..count {
            if !self.advance()? {
                return Err(self.wrong(self.next, "it ends here, and had more lines when it was opened"));
            }
            into.push(self.text()?);
        }
        Ok(())
    }

    /// Reads the next line, if there is one.
    fn advance(&mut self) -> Result<bool, Failure> {
        self.line.clear();
        // No line that could be stored is longer, so this bounds the memory.
        let read = self.file.by_ref().take(MAX_BLOCK_LEN).read_until(b'\n', &mut self.line);
        let read = read.map_err(|cause| io_failed(&self.path, "cannot be read", cause))? as u64;
        self.start = self.next;
        self.next += read;
        if read == MAX_BLOCK_LEN {
            let problem = "the line that begins here is longer than 16 MiB, the most of a string";
            return Err(self.wrong(self.start, problem));
        }
        if self.line.ends_with(b"\n") {
            self.line.pop();
            if self.line.ends_with(b"\r") {
                self.line.pop();
            }
        }
        Ok(read > 0)
    }

    /// The line at hand.
    fn text(&self) -> Result<&str, Failure> {
        let mark =
            if self.start == 0 && self.line.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        std::str::from_utf8(&self.line[mark..]).map_err(|error| {
            self.wrong(self.start + (mark + error.valid_up_to()) as u64, "the text is not UTF-8")
        })
    }

    /// What is wrong at this place of the file.
    fn wrong(&self, offset: u64, what: &str) -> Failure {
        let origin = Origin { path: self.path.clone(), member: None };
        Failure::from(InputError::Malformed { origin, offset, what: what.to_owned() })
    }
}

/// Whether a file is taken for lines of text.
pub(crate) fn is_text(path: &Path) -> bool {
    has_extension(path, "txt")
}

/// Whether the name of a file ends so, in letters of either case.
pub(crate) fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}
