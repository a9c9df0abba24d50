//! Counts of values in bins of one width.
//!
//! Bins go from the least value to the largest, unless a few values lie so far out that all others would share a bin: then from the
//! 0.1th to the 99.9th percentile, with some room, and what lies outside is counted apart. Percentiles come from [`Spread`], which
//! counts every value of the first pass by its sign, its exponent and the first bits of its fraction.

/// Bins, unless there are fewer whole numbers.
const BINS: u16 = 96;

/// Below this, f64 has every whole number.
const WHOLE: f64 = 9e15;

/// How many times wider than the inner 99.8 % the whole may be.
const OUT: f64 = 20.0;

/// How many values lie in each bin.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// Where the first bin begins.
    pub start: f64,
    /// Where the last bin ends.
    pub end: f64,
    /// Values in each bin: its start included, its end not, but for that of the last.
    pub counts: Vec<u64>,
    /// Values below the first bin.
    pub below: u64,
    /// Values above the last bin.
    pub above: u64,
    /// Whether a bin holds whole numbers only, from its start to below its end.
    pub whole: bool,
}

impl Histogram {
    /// Empty bins for what was spread so; `whole` if all values are whole numbers.
    pub(crate) fn over(spread: &Spread, whole: bool) -> Histogram {
        let (mut start, mut end) = spread.range();
        let mut bins = BINS;
        let whole = whole && start.abs().max(end.abs()) < WHOLE;
        if whole {
            (start, end) = (start.floor(), end.floor() + 1.0);
            let width = ((end - start) / f64::from(BINS)).ceil();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most BINS")]
            let needed = ((end - start) / width).ceil() as u16;
            bins = needed;
            end = start + width * f64::from(bins);
        } else if end - start < (start.abs().max(end.abs()) * 2e-3).max(f64::MIN_POSITIVE) {
            // What differs by less than a thousandth is one bar, or a few, in the middle.
            let room = (start.abs().max(end.abs()) * 1e-2).max(1e-300);
            let middle = start / 2.0 + end / 2.0;
            (start, end) = (middle - room, middle + room);
        }
        let counts = vec![0; usize::from(bins)];
        Histogram { start, end, counts, below: 0, above: 0, whole }
    }

    /// Counts a value, which is finite.
    pub(crate) fn add(&mut self, value: f64) {
        if value < self.start {
            self.below += 1;
        } else if value > self.end || (self.whole && value == self.end) {
            self.above += 1;
        } else {
            let bins = self.counts.len();
            // Halves, so that no difference overflows.
            let part = (value * 0.5 - self.start * 0.5) / (self.end * 0.5 - self.start * 0.5);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the bins"
            )]
            let bin = (part * bins as f64) as usize;
            self.counts[bin.min(bins - 1)] += 1;
        }
    }

    /// Where bin `bin` begins; where the last one ends for the number after the last.
    pub fn edge(&self, bin: usize) -> f64 {
        let part = bin as f64 / self.counts.len() as f64;
        self.start * (1.0 - part) + self.end * part
    }

    /// All values that were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.below + self.above
    }
}

/// How finite values are spread: roughly, in one pass and bounded memory.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    /// By the upper 16 bits of the f64, in ascending order.
    counts: Vec<u64>,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn new() -> Spread {
        Spread { counts: vec![0; 1 << 16], min: f64::INFINITY, max: f64::NEG_INFINITY }
    }

    /// Counts a value, which is finite.
    pub(crate) fn add(&mut self, value: f64) {
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
        self.counts[key(value)] += 1;
    }

    /// Counts what another has counted.
    pub(crate) fn merge(&mut self, other: &Spread) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
    }

    /// From where to where bins should go.
    fn range(&self) -> (f64, f64) {
        if self.min > self.max {
            return (0.0, 1.0);
        }
        let total: u64 = self.counts.iter().sum();
        let (low, high) = (self.percentile(total / 1000), self.percentile(total - 1 - total / 1000));
        let inner = high - low;
        if total < 1000 || inner <= 0.0 || self.max - self.min <= OUT * inner {
            return (self.min, self.max);
        }
        ((low - inner / 2.0).max(self.min), (high + inner / 2.0).min(self.max))
    }

    /// About the value that so many others are below.
    fn percentile(&self, rank: u64) -> f64 {
        let mut before = 0;
        for (key, count) in self.counts.iter().enumerate() {
            before += count;
            if before > rank {
                return value_of(key).clamp(self.min, self.max);
            }
        }
        self.max
    }
}

/// The upper 16 bits of a value, so turned that their order is that of the values.
fn key(value: f64) -> usize {
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    usize::try_from(ordered >> 48).expect("16 bits")
}

/// The value in the middle of those that have this key.
fn value_of(key: usize) -> f64 {
    let ordered = (key as u64) << 48 | 1 << 47;
    f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64], whole: bool) -> Histogram {
        let mut spread = Spread::new();
        values.iter().for_each(|value| spread.add(*value));
        let mut histogram = Histogram::over(&spread, whole);
        values.iter().for_each(|value| histogram.add(*value));
        assert_eq!(histogram.total(), values.len() as u64);
        histogram
    }

    #[test]
    fn keys_are_in_the_order_of_the_values() {
        let values = [f64::MIN, -1e9, -1.5, -1.0, -1e-300, 0.0, 5e-324, 1.0, 1.25, 3e300];
        assert!(values.is_sorted_by_key(|value| key(*value)));
        for value in values {
            let back = value_of(key(value));
            assert!((back - value).abs() <= value.abs() / 16.0 + 1e-300, "{value} {back}");
        }
    }

    #[test]
    fn every_value_is_in_its_bin() {
        let values: Vec<f64> = (0..4800).map(|n| f64::from(n) / 4800.0 - 0.25).collect();
        let histogram = of(&values, false);
        assert_eq!((histogram.start, histogram.counts.len()), (-0.25, 96));
        assert_eq!((histogram.below, histogram.above), (0, 0));
        for bin in 0..96 {
            let (low, high) = (histogram.edge(bin), histogram.edge(bin + 1));
            let inside =
                values.iter().filter(|value| **value >= low && (**value < high || bin == 95)).count();
            assert!(histogram.counts[bin].abs_diff(inside as u64) <= 1, "rounding moves one at most");
        }
    }

    #[test]
    fn whole_numbers_have_bins_of_their_own() {
        let histogram = of(&[3.0, 3.0, 5.0, -1.0], true);
        assert_eq!((histogram.start, histogram.end), (-1.0, 6.0));
        assert_eq!(histogram.counts, [1, 0, 0, 0, 2, 0, 1]);
        // 1,000 numbers in bins of eleven each.
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        let histogram = of(&values, true);
        assert_eq!((histogram.counts.len(), histogram.counts[0], histogram.end), (91, 11, 1001.0));
    }

    #[test]
    fn few_values_far_out_do_not_hide_the_others() {
        let mut values: Vec<f64> = (0..10_000).map(|n| f64::from(n) / 10_000.0).collect();
        values.extend([1e30, -1e30, 1e12]);
        let histogram = of(&values, false);
        assert!(histogram.start > -2.0 && histogram.end < 2.0);
        assert_eq!((histogram.below, histogram.above), (1, 2));
    }

    #[test]
    fn one_value_none_and_the_largest_there_are() {
        assert_eq!(of(&[], false).counts.len(), 96);
        let one = of(&[7.0; 5], false);
        assert_eq!(one.counts.iter().filter(|count| **count > 0).count(), 1);
        assert!(one.start < 7.0 && one.end > 7.0);
        let zeros = of(&[0.0; 3], false);
        assert!(zeros.start < 0.0 && zeros.end > 0.0);
        let wide = of(&[f64::MIN, 0.0, f64::MAX], false);
        assert_eq!((wide.counts[0], wide.counts[95]), (1, 1));
        assert_eq!(of(&[0.0, 5e-324], false).total(), 2);
        assert_eq!(of(&[0.0, 1.8e19], true).total(), 2);
    }
}
