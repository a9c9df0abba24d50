//! Fetching from a source that is far away: what a call will read is known before it is decoded, so it is asked for
//! together rather than run by run, each of which would cost a journey.
//!
//! The bytes wanted are cut into windows. Whoever first wants a byte of one fetches all of it in one call, and others wait for
//! that; a window is let go of when each of its bytes was read once. So memory holds a window or two for each thread, and
//! fetching and decoding overlap where threads are at different windows.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use cvc_codec::SourceError;

use crate::io::{ReadAt, read_together};
use crate::select::merged;

/// A source that asks another, which is far away, for what was said beforehand, window by window.
pub(crate) struct Ahead<'s> {
    source: &'s dyn ReadAt,
    /// Sorted, apart from each other, none empty.
    wanted: Vec<Wanted>,
    windows: Vec<Window>,
}

/// Bytes of the source that lie in one window.
struct Wanted {
    bytes: Range<u64>,
    window: usize,
    /// Where they begin in the window.
    at: usize,
}

/// What is fetched in one call.
struct Window {
    /// Those of [`Ahead::wanted`] that are in it.
    wanted: Range<usize>,
    state: Mutex<State>,
}

enum State {
    Unread,
    Held {
        bytes: Arc<Vec<u8>>,
        /// Bytes of it that nobody has read.
        left: usize,
    },
    /// Kept, so that not every run tries again what was tried as often as the source tries.
    Failed(SourceError),
    LetGo,
}

impl<'s> Ahead<'s> {
    /// Of these ranges, in any order. `None` if the source is near, or nothing is wanted.
    pub(crate) fn new(
        source: &'s dyn ReadAt,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Option<Ahead<'s>> {
        let window_len = source.ahead_len();
        if window_len == 0 {
            return None;
        }
        let ranges = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut windows: Vec<Window> = Vec::new();
        let mut room = 0;
        for range in merged(ranges, 0) {
            let mut start = range.start;
            while start < range.end {
                if room == 0 {
                    room = window_len;
                    let wanted = wanted.len()..wanted.len();
                    windows.push(Window { wanted, state: Mutex::new(State::Unread) });
                }
                let end = range.end.min(start.saturating_add(room));
                let at = usize::try_from(window_len - room).unwrap_or(usize::MAX);
                wanted.push(Wanted { bytes: start..end, window: windows.len() - 1, at });
                room -= end - start;
                start = end;
                if let Some(last) = windows.last_mut() {
                    last.wanted.end = wanted.len();
                }
            }
        }
        (!wanted.is_empty()).then_some(Ahead { source, wanted, windows })
    }

    /// Fills `into` with bytes of one of the ranges wanted, from `offset` on.
    fn fill(&self, of: &Wanted, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let window = &self.windows[of.window];
        let bytes = {
            let mut state = window.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let State::Unread = *state {
                *state = self.fetch(window);
            }
            match &mut *state {
                State::Unread => unreachable!("fetched above"),
                State::Failed(error) => return Err(error.clone()),
                State::LetGo => None,
                State::Held { bytes, left } => {
                    let bytes = bytes.clone();
                    *left = left.saturating_sub(into.len());
                    if *left == 0 {
                        *state = State::LetGo;
                    }
                    Some(bytes)
                }
            }
        };
        match bytes {
            Some(bytes) => {
                let at = of.at + usize::try_from(offset - of.bytes.start).expect("within a window");
                into.copy_from_slice(&bytes[at..at + into.len()]);
                Ok(())
            }
            // Wanted once more, to find out which row of a run is damaged.
            None => self.source.read_at(offset, into),
        }
    }

    fn fetch(&self, window: &Window) -> State {
        let ranges: Vec<Range<u64>> =
            self.wanted[window.wanted.clone()].iter().map(|wanted| wanted.bytes.clone()).collect();
        let mut bytes = Vec::new();
        match read_together(self.source, &ranges, &mut bytes) {
            Ok(()) => State::Held { left: bytes.len(), bytes: Arc::new(bytes) },
            Err(error) => State::Failed(error),
        }
    }
}

impl ReadAt for Ahead<'_> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&self, mut offset: u64, mut into: &mut [u8]) -> Result<(), SourceError> {
        while !into.is_empty() {
            let next = self.wanted.partition_point(|wanted| wanted.bytes.end <= offset);
            let next = self.wanted.get(next);
            // As far as this goes on: within a range, or up to the next.
            let end =
                next.map(|next| if next.bytes.start <= offset { next.bytes.end } else { next.bytes.start });
            let most = end.map_or(u64::MAX, |end| end - offset);
            let len = into.len().min(usize::try_from(most).unwrap_or(usize::MAX));
            let (part, rest) = into.split_at_mut(len);
            match next.filter(|next| next.bytes.start <= offset) {
                Some(of) => self.fill(of, offset, part)?,
                None => self.source.read_at(offset, part)?,
            }
            into = rest;
            offset += len as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 bytes far away, and what was asked for.
    struct Far {
        calls: Mutex<Vec<Vec<Range<u64>>>>,
        fails: bool,
    }

    impl Far {
        fn new(fails: bool) -> Far {
            Far { calls: Mutex::default(), fails }
        }

        fn calls(&self) -> Vec<Vec<Range<u64>>> {
            std::mem::take(&mut self.calls.lock().unwrap())
        }

        fn byte(at: u64) -> u8 {
            u8::try_from(at * 31 % 251).unwrap()
        }
    }

    impl ReadAt for Far {
        fn len(&self) -> u64 {
            1000
        }

        fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
            self.read_ranges(&mut [(offset, into)])
        }

        fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
            let asked = ranges.iter().map(|(offset, into)| *offset..*offset + into.len() as u64).collect();
            self.calls.lock().unwrap().push(asked);
            if self.fails {
                let cause = Arc::new(std::io::Error::other("gone"));
                return Err(SourceError::Read { offset: ranges[0].0, len: 1, cause });
            }
            for (offset, into) in ranges {
                into.iter_mut().zip(*offset..).for_each(|(byte, at)| *byte = Far::byte(at));
            }
            Ok(())
        }

        fn ahead_len(&self) -> u64 {
            100
        }
    }

    fn read(ahead: &Ahead<'_>, range: Range<u64>) {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        ahead.read_at(range.start, &mut bytes).unwrap();
        assert!(bytes.iter().zip(range).all(|(byte, at)| *byte == Far::byte(at)));
    }

    #[test]
    fn a_window_is_fetched_in_one_call_and_let_go_of_when_it_was_read() {
        let far = Far::new(false);
        let ahead = Ahead::new(&far, [500..560, 10..20, 20..30, 600..690, 7..7, 15..18]).unwrap();
        assert!(far.calls().is_empty(), "nothing is fetched before it is wanted");
        read(&ahead, 510..520);
        assert_eq!(far.calls(), [[10..30, 500..560, 600..620]]);
        read(&ahead, 10..30);
        read(&ahead, 500..510);
        read(&ahead, 520..560);
        assert!(far.calls().is_empty());
        // Over the border of two windows, and with it the first has been read.
        read(&ahead, 600..690);
        assert_eq!(far.calls(), [[620..690]]);
        read(&ahead, 12..14);
        assert_eq!(far.calls(), [[12..14]], "read once more, from the source");
        // What nobody spoke of, before, between and after.
        read(&ahead, 0..12);
        read(&ahead, 640..700);
        assert_eq!(far.calls(), [[0..10], [10..12], [640..690], [690..700]]);
    }

    #[test]
    fn what_failed_is_not_tried_again_by_every_run() {
        let far = Far::new(true);
        let ahead = Ahead::new(&far, [0..50]).unwrap();
        for _ in 0..3 {
            assert!(ahead.read_at(5, &mut [0; 10]).is_err());
        }
        assert_eq!(far.calls().len(), 1);
    }

    #[test]
    fn a_near_source_is_asked_directly() {
        assert!(Ahead::new(&vec![0u8; 9], [0..5]).is_none());
        assert!(Ahead::new(&Far::new(false), [3..3]).is_none());
    }
}
