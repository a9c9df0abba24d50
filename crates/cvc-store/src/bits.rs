//! Which of a range of positions, and how many before one: answered in a few nanoseconds.
//!
//! Roaring bitmaps are what tombstones are kept and written as; but to count the rows before each of ten thousand positions
//! they look at a list of containers ten thousand times. This is one bit for each position and one number for every 512,
//! made from a bitmap when it is first needed. Where a range is so long and the set so simple that the bits would be larger by
//! far than what they are made of, it is a list of runs.

use std::ops::Range;

use roaring::RoaringTreemap;

const WORDS: usize = 8;
const SPAN: u64 = 512;

/// A set of positions within a range.
#[derive(Debug)]
pub(crate) enum Bits {
    Words(Words),
    Spans(Spans),
}

/// What the bits may take however few runs of positions there are.
const WORDS_LEN: u64 = 4 << 20;

impl Bits {
    /// The positions of `range` that are in `set`, or those that are not. It takes memory in proportion to what was written down of
    /// them: a range may be long because somebody says so.
    pub(crate) fn new(range: Range<u64>, set: &RoaringTreemap, wanted: bool) -> Bits {
        let len = (range.end - range.start) / 8;
        if len > WORDS_LEN {
            let spans = Spans::new(&range, set, wanted);
            if len > spans.len() {
                return Bits::Spans(spans);
            }
        }
        Bits::Words(Words::new(range, set, wanted))
    }

    /// How many are set.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Bits::Words(words) => words.count(),
            Bits::Spans(spans) => spans.count(),
        }
    }

    /// How many are set before `position`, which may lie outside.
    pub(crate) fn rank(&self, position: u64) -> u64 {
        match self {
            Bits::Words(words) => words.rank(position),
            Bits::Spans(spans) => spans.rank(position),
        }
    }

    /// The position of the one that has `index` before it.
    pub(crate) fn select(&self, index: u64) -> Option<u64> {
        match self {
            Bits::Words(words) => words.select(index),
            Bits::Spans(spans) => spans.select(index),
        }
    }

    /// Where the run of set positions that begins with the set one `position` ends, at most at `most`.
    pub(crate) fn run_end(&self, position: u64, most: u64) -> u64 {
        match self {
            Bits::Words(words) => words.run_end(position, most),
            Bits::Spans(spans) => spans.run_end(position, most),
        }
    }
}

/// The ranges of consecutive numbers of a set.
pub(crate) fn ranges_of(set: &RoaringTreemap) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (high, bitmap) in set.bitmaps() {
        let high = u64::from(high) << 32;
        let mut iter = bitmap.iter();
        while let Some(range) = iter.next_range() {
            let (start, end) = (high | u64::from(*range.start()), (high | u64::from(*range.end())) + 1);
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
    }
    ranges
}

/// Runs of positions, where there are few of them in a long range.
#[derive(Debug)]
pub(crate) struct Spans {
    /// How many are set before each run, and the run.
    runs: Vec<(u64, Range<u64>)>,
}

impl Spans {
    fn new(range: &Range<u64>, set: &RoaringTreemap, wanted: bool) -> Spans {
        let mut spans = Spans { runs: Vec::new() };
        let mut at = range.start;
        for run in ranges_of(set) {
            let run = run.start.clamp(at, range.end)..run.end.clamp(at, range.end);
            spans.push(if wanted { run.clone() } else { at..run.start });
            at = run.end;
        }
        if !wanted {
            spans.push(at..range.end);
        }
        spans
    }

    fn push(&mut self, run: Range<u64>) {
        if !run.is_empty() {
            self.runs.push((self.count(), run));
        }
    }

    /// Bytes.
    fn len(&self) -> u64 {
        size_of_val(self.runs.as_slice()) as u64
    }

    fn count(&self) -> u64 {
        self.runs.last().map_or(0, |(before, run)| before + (run.end - run.start))
    }

    fn rank(&self, position: u64) -> u64 {
        let after = self.runs.partition_point(|(_, run)| run.start < position);
        after.checked_sub(1).map_or(0, |at| {
            let (before, run) = &self.runs[at];
            before + (position.min(run.end) - run.start)
        })
    }

    fn select(&self, index: u64) -> Option<u64> {
        if index >= self.count() {
            return None;
        }
        let (before, run) = &self.runs[self.runs.partition_point(|(before, _)| *before <= index) - 1];
        Some(run.start + (index - before))
    }

    fn run_end(&self, position: u64, most: u64) -> u64 {
        let at = self.runs.partition_point(|(_, run)| run.start <= position) - 1;
        self.runs[at].1.end.min(most)
    }
}

/// One bit for each position.
#[derive(Debug)]
pub(crate) struct Words {
    range: Range<u64>,
    words: Vec<u64>,
    /// How many are set before each span of 512, and at the end all.
    before: Vec<u64>,
}

impl Words {
    /// The positions of `range` that are in `set`, or those that are not.
    fn new(range: Range<u64>, set: &RoaringTreemap, wanted: bool) -> Words {
        let spans =
            usize::try_from((range.end - range.start).div_ceil(SPAN)).expect("rows that are in memory");
        let mut words = vec![if wanted { 0 } else { u64::MAX }; spans * WORDS];
        for position in set.iter().skip_while(|position| *position < range.start) {
            if position >= range.end {
                break;
            }
            let (word, bit) = place(position - range.start);
            words[word] ^= 1 << bit;
        }
        if !wanted {
            // Nothing is set behind the end.
            for beyond in range.end - range.start..spans as u64 * SPAN {
                let (word, bit) = place(beyond);
                words[word] &= !(1 << bit);
            }
        }
        let mut before = Vec::with_capacity(spans + 1);
        let mut count = 0;
        for span in words.chunks(WORDS) {
            before.push(count);
            count += span.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        }
        before.push(count);
        Words { range, words, before }
    }

    /// How many are set.
    fn count(&self) -> u64 {
        *self.before.last().expect("there is always one")
    }

    /// How many are set before `position`, which may lie outside.
    fn rank(&self, position: u64) -> u64 {
        let at = position.clamp(self.range.start, self.range.end) - self.range.start;
        let span = usize::try_from(at / SPAN).expect("in memory");
        if span + 1 == self.before.len() {
            return self.count();
        }
        let (word, bit) = place(at);
        let full: u64 = self.words[span * WORDS..word].iter().map(|word| u64::from(word.count_ones())).sum();
        self.before[span] + full + u64::from((self.words[word] & ((1u64 << bit) - 1)).count_ones())
    }

    /// The position of the one that has `index` before it.
    fn select(&self, index: u64) -> Option<u64> {
        if index >= self.count() {
            return None;
        }
        let span = self.before.partition_point(|before| *before <= index) - 1;
        let mut left = index - self.before[span];
        for (number, word) in self.words[span * WORDS..(span + 1) * WORDS].iter().enumerate() {
            let count = u64::from(word.count_ones());
            if left < count {
                let mut word = *word;
                for _ in 0..left {
                    word &= word - 1;
                }
                let at = (span * WORDS + number) as u64 * 64 + u64::from(word.trailing_zeros());
                return Some(self.range.start + at);
            }
            left -= count;
        }
        unreachable!("the span has more than are left")
    }

    /// Where the run of set positions that begins with the set one `position` ends, at most at `most`.
    fn run_end(&self, position: u64, most: u64) -> u64 {
        let end = most.min(self.range.end);
        let mut at = position - self.range.start;
        let stop = end - self.range.start;
        while at < stop {
            let (word, bit) = place(at);
            let clear = (!self.words[word] >> bit).trailing_zeros().min(64 - bit);
            at += u64::from(clear);
            if clear < 64 - bit {
                break;
            }
        }
        self.range.start + at.min(stop)
    }
}

fn place(at: u64) -> (usize, u32) {
    (usize::try_from(at / 64).expect("in memory"), (at % 64) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_finding_agree_with_a_plain_list() {
        for (start, len, step) in
            [(0u64, 0u64, 1u64), (5, 1, 1), (7, 3000, 3), (1000, 1024, 700), (3, 513, 2)]
        {
            let set: RoaringTreemap = (start..start + len).filter(|position| position % step == 0).collect();
            for wanted in [true, false] {
                let list: Vec<u64> =
                    (start..start + len).filter(|position| set.contains(*position) == wanted).collect();
                let range = start..start + len;
                let words = Bits::Words(Words::new(range.clone(), &set, wanted));
                let spans = Bits::Spans(Spans::new(&range, &set, wanted));
                for bits in [words, spans] {
                    assert_eq!(bits.count(), list.len() as u64);
                    for position in start.saturating_sub(1)..=start + len + 1 {
                        let before = list.iter().filter(|other| **other < position).count() as u64;
                        assert_eq!(bits.rank(position), before);
                    }
                    for (index, position) in list.iter().enumerate() {
                        assert_eq!(bits.select(index as u64), Some(*position));
                        let end = (*position..).find(|end| !list.contains(end)).unwrap();
                        assert_eq!(bits.run_end(*position, u64::MAX), end);
                        assert_eq!(bits.run_end(*position, position + 1), position + 1);
                    }
                    assert_eq!(bits.select(list.len() as u64), None);
                }
            }
        }
    }

    #[test]
    fn a_long_range_takes_no_more_memory_than_there_are_runs() {
        let set: RoaringTreemap = [3, 4, 1 << 40].into_iter().collect();
        let bits = Bits::new(0..1 << 47, &set, false);
        assert_eq!((bits.count(), bits.rank(5), bits.rank(1 << 41)), ((1 << 47) - 3, 3, (1 << 41) - 3));
        assert_eq!((bits.select(3), bits.run_end(5, u64::MAX)), (Some(5), 1 << 40));
    }

    #[test]
    fn ranges_go_on_over_the_borders_of_a_bitmap() {
        let mut set = RoaringTreemap::new();
        set.insert_range(65_530..70_000);
        set.insert_range((1 << 32) - 2..(1 << 32) + 2);
        set.insert(5);
        assert_eq!(ranges_of(&set), [5..6, 65_530..70_000, (1 << 32) - 2..(1 << 32) + 2]);
    }
}
