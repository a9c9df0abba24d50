//! Where the rows of an array lie: runs of positions, each with a place.
//!
//! One ordered map answers everything: a big save is one run, a small append one more, a replaced row a run of one
//! between two others. Runs never overlap. What folds them together is compaction.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cvc::{Reader, Strings};

use crate::bits::Bits;
use crate::segment::Segment;

/// What holds rows.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file of its own.
    Segment(Arc<Segment>),
    /// Values in the journal: little-endian, row after row.
    Values(Bytes),
    /// Strings in the journal.
    Strings(Arc<Strings>),
    /// A small native file in the journal.
    File(Arc<Reader>),
}

impl Source {
    /// Whether both are the same piece of memory or file.
    pub(crate) fn is(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Segment(a), Source::Segment(b)) => Arc::ptr_eq(a, b) || a.number == b.number,
            (Source::Values(a), Source::Values(b)) => a.as_ptr() == b.as_ptr() && a.len() == b.len(),
            (Source::Strings(a), Source::Strings(b)) => Arc::ptr_eq(a, b),
            (Source::File(a), Source::File(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Consecutive positions whose rows follow each other in one source.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// How many positions.
    pub(crate) len: u64,
    pub(crate) source: Source,
    /// The row of the first position.
    pub(crate) row: u64,
    /// Positions, dead ones, that have no row in the source.
    pub(crate) holes: Option<Arc<Bits>>,
}

impl Run {
    /// The row of `position`, in a run that begins at `start`. Of a hole, that of the next position that is none.
    pub(crate) fn row_of(&self, start: u64, position: u64) -> u64 {
        let holes = self.holes.as_ref().map_or(0, |holes| holes.rank(position) - holes.rank(start));
        self.row + (position - start) - holes
    }

    /// The run without its first positions, in a run that begins at `start`.
    fn from(&self, start: u64, position: u64) -> Run {
        Run {
            len: self.len - (position - start),
            source: self.source.clone(),
            row: self.row_of(start, position),
            holes: self.holes.clone(),
        }
    }
}

/// Runs by their first position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(BTreeMap<u64, Run>);

impl Runs {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Run)> {
        self.0.iter().map(|(start, run)| (*start, run))
    }

    /// The run that holds `position`.
    pub(crate) fn of(&self, position: u64) -> Option<(u64, &Run)> {
        let (start, run) = self.0.range(..=position).next_back()?;
        (position < start + run.len).then_some((*start, run))
    }

    /// Puts a run where it belongs; what lay there before is gone.
    pub(crate) fn insert(&mut self, start: u64, run: Run) {
        if run.len == 0 {
            return;
        }
        self.carve(start..start + run.len);
        self.0.insert(start, run);
    }

    /// Forgets the run that begins at `start`.
    pub(crate) fn remove(&mut self, start: u64) {
        self.0.remove(&start);
    }

    /// Removes whatever lies at these positions.
    fn carve(&mut self, range: Range<u64>) {
        if let Some((start, run)) = self.0.range_mut(..range.start).next_back() {
            let (start, end) = (*start, *start + run.len);
            if end > range.start {
                let rest = (end > range.end).then(|| run.from(start, range.end));
                run.len = range.start - start;
                if let Some(rest) = rest {
                    self.0.insert(range.end, rest);
                    return;
                }
            }
        }
        while let Some((start, run)) = self.0.range(range.clone()).next() {
            let start = *start;
            let rest = (start + run.len > range.end).then(|| run.from(start, range.end));
            self.0.remove(&start);
            if let Some(rest) = rest {
                self.0.insert(range.end, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_agree_with_a_plain_list() {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut runs, mut list) = (Runs::default(), vec![None; 200]);
        for number in 0..500u64 {
            let (start, len) = (next(180), 1 + next(20));
            let source = Source::Values(Bytes::copy_from_slice(&number.to_le_bytes()));
            runs.insert(start, Run { len, source, row: number, holes: None });
            for position in start..start + len {
                list[usize::try_from(position).unwrap()] = Some((number, number + position - start));
            }
            for (position, expected) in (0..).zip(&list) {
                let found = runs.of(position).map(|(start, run)| {
                    let Source::Values(bytes) = &run.source else { unreachable!() };
                    (u64::from_le_bytes(bytes[..].try_into().unwrap()), run.row_of(start, position))
                });
                assert_eq!(found, *expected);
            }
            let mut end = 0;
            for (start, run) in runs.iter() {
                assert!(start >= end && run.len > 0);
                end = start + run.len;
            }
        }
    }
}
