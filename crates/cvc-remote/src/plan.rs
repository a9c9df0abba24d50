//! From the ranges that are wanted to the requests that bring them. Arithmetic alone.

use std::ops::Range;

/// What a part of an answer costs beside its bytes: its boundary and its headers. Ranges that are no further apart are one.
pub(crate) const PART_COST: u64 = 256;

/// Ranges in one request. Their list has some 20 bytes for each, and servers take no longer header than 8 KiB; some take no more
/// than 200 ranges.
const PARTS: usize = 100;

/// How ranges may be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether a request may name several.
    pub(crate) several: bool,
    /// Bytes between two ranges that are fetched along, where a request names one.
    pub(crate) gap: u64,
    /// The most bytes of a request.
    pub(crate) piece: u64,
}

/// The requests that bring all that is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What is fetched: sorted, apart from each other.
    pub(crate) spans: Vec<Range<u64>>,
    /// For each request, which of the spans it brings.
    pub(crate) asks: Vec<Range<usize>>,
    /// For each span, which of the ranges wanted have bytes in it, by their places in the list that came in.
    wanted: Vec<Vec<usize>>,
}

impl Plan {
    /// For these ranges, in any order; they may overlap, and be empty.
    pub(crate) fn new(ranges: impl Iterator<Item = Range<u64>> + Clone, rules: Rules) -> Plan {
        let mut wanted: Vec<Range<u64>> = ranges.clone().filter(|range| !range.is_empty()).collect();
        wanted.sort_unstable_by_key(|range| range.start);
        let gap = if rules.several { PART_COST } else { rules.gap };
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in wanted {
            match joined.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(gap) => {
                    last.end = last.end.max(range.end)
                }
                _ => joined.push(range),
            }
        }
        let mut spans = Vec::with_capacity(joined.len());
        for range in joined {
            let mut start = range.start;
            while start < range.end {
                let end = range.end.min(start.saturating_add(rules.piece));
                spans.push(start..end);
                start = end;
            }
        }
        let mut asks: Vec<Range<usize>> = Vec::new();
        let mut len = 0;
        for (at, span) in spans.iter().enumerate() {
            let of_span = span.end - span.start;
            match asks.last_mut() {
                Some(ask) if rules.several && ask.len() < PARTS && len + of_span <= rules.piece => {
                    ask.end = at + 1;
                    len += of_span;
                }
                _ => {
                    asks.push(at..at + 1);
                    len = of_span;
                }
            }
        }
        let mut wanted = vec![Vec::new(); spans.len()];
        for (at, range) in ranges.enumerate() {
            let first = spans.partition_point(|span| span.end <= range.start);
            let of_range = spans[first..].iter().take_while(|span| span.start < range.end);
            // An empty range has no bytes, wherever it is.
            let count = if range.is_empty() { 0 } else { of_range.count() };
            wanted[first..first + count].iter_mut().for_each(|of_span| of_span.push(at));
        }
        Plan { spans, asks, wanted }
    }

    /// Which of the ranges wanted have bytes in a span.
    pub(crate) fn wanted_of(&self, span: usize) -> &[usize] {
        &self.wanted[span]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(wanted: &[Range<u64>], several: bool, gap: u64, piece: u64) -> Plan {
        Plan::new(wanted.iter().cloned(), Rules { several, gap, piece })
    }

    #[test]
    fn near_ranges_are_one_and_long_ones_are_split() {
        let one = plan(&[50..60, 0..10, 15..20, 12..14, 30..30], false, 5, 1000);
        assert_eq!((one.spans, one.asks), (vec![0..20, 50..60], vec![0..1, 1..2]));
        let split = plan(&[0..25, 100..110], false, 0, 10);
        assert_eq!(split.spans, [0..10, 10..20, 20..25, 100..110]);
        assert_eq!(split.asks.len(), 4);
        assert!(plan(&[], true, 0, 10).asks.is_empty());
    }

    #[test]
    fn every_byte_wanted_lies_in_one_of_the_spans_of_its_range() {
        let wanted = [5..21, 24..101, 3..3, 0..25, 100..110, 8..9];
        let split = plan(&wanted, false, 0, 10);
        for (at, range) in wanted.iter().enumerate() {
            let spans = (0..split.spans.len()).filter(|span| split.wanted_of(*span).contains(&at));
            let held: u64 = spans
                .map(|span| {
                    let span = &split.spans[span];
                    span.end.min(range.end).saturating_sub(span.start.max(range.start))
                })
                .sum();
            assert_eq!(held, range.end - range.start, "{range:?}");
        }
    }

    #[test]
    fn a_request_names_several_ranges_as_far_as_servers_and_memory_go() {
        let far: Vec<Range<u64>> = (0..250).map(|at| at * 10_000..at * 10_000 + 10).collect();
        let all = plan(&far, true, 1 << 20, 1 << 20);
        assert_eq!(all.spans, far, "what is fetched is what is wanted, whatever the gap is");
        assert_eq!(all.asks, [0..100, 100..200, 200..250]);
        // By length: no more than a piece together.
        assert_eq!(plan(&far[..5], true, 0, 25).asks, [0..2, 2..4, 4..5]);
        // What costs less to fetch than to leave out.
        assert_eq!(plan(&[0..10, 10 + PART_COST..300], true, 0, 1 << 20).spans, [0..300]);
    }
}
