//! From the first and last bytes to a checked index, without reading anything itself.
//!
//! [`Opening`] asks for ranges of bytes, several at once where their places are known: the first bytes and the tail,
//! which is where native files have their index; then what is missing. Nothing is asked for that does not lie inside
//! the file, and nothing is allocated for a number before bytes of the file have paid for it.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::cvcf;
use crate::error::FormatError;
use crate::index::FileIndex;
use crate::limits::Limits;
use crate::native::{self, Native};

/// What [`Opening`] wants next.
#[derive(Debug)]
pub enum Step {
    /// These bytes of the file, all of them; hand them, one range after another, to [`Opening::feed`]. The ranges lie
    /// inside the file and do not depend on each other, so they can be fetched at once.
    Read(Vec<Range<u64>>),
    /// Nothing: this is the index.
    Done(FileIndex),
}

/// A file being opened: ask [`Opening::start`], then feed what each [`Step::Read`] names until it is done.
#[derive(Debug)]
pub struct Opening {
    file_len: u64,
    limits: Limits,
    /// How many bytes the last step named.
    wanted: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Cvcf(cvcf::Walk),
    Native(Native),
    Finished,
}

impl Opening {
    /// A file of this length, to be opened within these limits.
    pub fn new(file_len: u64, limits: Limits) -> Self {
        let mut opening = Opening { file_len, limits, wanted: 0, state: State::Start };
        opening.wanted = len(&opening.first());
        opening
    }

    /// The first thing to do.
    pub fn start(&self) -> Step {
        Step::Read(self.first())
    }

    fn first(&self) -> Vec<Range<u64>> {
        let front = 0..self.file_len.min(native::PRELUDE_LEN);
        let tail = self.file_len.saturating_sub(native::tail_len(self.file_len));
        if tail <= front.end { vec![0..self.file_len] } else { vec![front, tail..self.file_len] }
    }

    /// Takes the bytes that the last step named, one range after another.
    ///
    /// # Errors
    /// The bytes are not those of a file this version reads. The opening cannot go on after an error.
    ///
    /// # Panics
    /// The opening is over, or these are not as many bytes as the last step named.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Step, FormatError> {
        let state = core::mem::replace(&mut self.state, State::Finished);
        assert!(!matches!(state, State::Finished), "fed after the opening was over");
        assert_eq!(bytes.len() as u64, self.wanted, "bytes that the last step named");
        let step = match state {
            State::Start => self.begin(bytes)?,
            State::Cvcf(walk) => self.walk(walk, bytes)?,
            State::Native(native) => Step::Done(native.feed(bytes)?),
            State::Finished => unreachable!("checked above"),
        };
        if let Step::Read(ranges) = &step {
            self.wanted = len(ranges);
        }
        Ok(step)
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<Step, FormatError> {
        let front_len = usize::try_from(self.file_len.min(native::PRELUDE_LEN)).expect("at most 64");
        let front = &bytes[..front_len];
        if front.get(4..8) != Some(&native::SIGNATURE) || !front.starts_with(&cvcf::MAGIC) {
            let (walk, first) = cvcf::Walk::new(self.file_len, self.limits, &front[..front.len().min(16)])?;
            self.state = State::Cvcf(walk);
            return Ok(Step::Read(vec![first]));
        }
        // The only range, if the file is hardly longer than a tail.
        let tail = if bytes.len() as u64 == self.file_len { bytes } else { &bytes[front_len..] };
        let tail_start = self.file_len - tail.len() as u64;
        match Native::begin(self.file_len, self.limits, front, tail_start, tail)? {
            native::Next::Read(native, range) => {
                self.state = State::Native(native);
                Ok(Step::Read(vec![range]))
            }
            native::Next::Done(index) => Ok(Step::Done(index)),
        }
    }

    fn walk(&mut self, mut walk: cvcf::Walk, bytes: &[u8]) -> Result<Step, FormatError> {
        match walk.feed(bytes)? {
            cvcf::Next::Read(range) => {
                self.state = State::Cvcf(walk);
                Ok(Step::Read(vec![range]))
            }
            cvcf::Next::Done(index) => Ok(Step::Done(index)),
        }
    }
}

fn len(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}
