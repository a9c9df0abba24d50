//! How the values of each dimension are spread.

use std::ops::Range;

/// Dimensions beyond which they are not looked at one by one.
pub(crate) const MOST: u64 = 1 << 20;

/// Times the median deviation that a dimension must have to be alive.
const ALIVE: f64 = 1e-6;

/// Times the root of the mean square error that the deviation of a dimension must be to stand out of it.
const NOISE: f64 = 2.0;

/// What was found in one dimension, over the rows in which its value is finite.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Dim {
    /// Finite values.
    pub count: u64,
    /// The least of them; NaN if there are none, as the other figures.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, that of a population.
    pub std: f64,
}

/// Gathers [`Dim`]s in two passes.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    dims: Vec<Dim>,
}

impl Gather {
    pub(crate) fn new(dims: usize) -> Gather {
        let none = Dim { count: 0, min: f64::INFINITY, max: f64::NEG_INFINITY, mean: 0.0, std: 0.0 };
        Gather { dims: vec![none; dims] }
    }

    /// Takes a value of the first pass, which is finite.
    pub(crate) fn first(&mut self, dim: usize, value: f64) {
        let dim = &mut self.dims[dim];
        dim.count += 1;
        dim.min = if value < dim.min { value } else { dim.min };
        dim.max = if value > dim.max { value } else { dim.max };
        // A sum, until the pass is over.
        dim.mean += value;
    }

    /// The first pass is over.
    pub(crate) fn turn(&mut self) {
        self.dims.iter_mut().for_each(|dim| dim.mean /= dim.count as f64);
    }

    /// Takes the same value once more.
    pub(crate) fn second(&mut self, dim: usize, value: f64) {
        let dim = &mut self.dims[dim];
        let from_mean = value - dim.mean;
        dim.std += from_mean * from_mean;
    }

    pub(crate) fn finish(mut self) -> Vec<Dim> {
        for dim in &mut self.dims {
            dim.std = (dim.std / dim.count as f64).sqrt();
            if dim.count == 0 {
                *dim = Dim { count: 0, min: f64::NAN, max: f64::NAN, mean: f64::NAN, std: f64::NAN };
            }
        }
        self.dims
    }
}

/// The dimensions that tell rows apart so little that they may as well be absent: their deviation is at most a millionth of the
/// median one. Of one value nothing is known.
pub(crate) fn dead(dims: &[Dim]) -> Vec<usize> {
    let mut deviations: Vec<f64> = dims.iter().map(|dim| dim.std).filter(|std| !std.is_nan()).collect();
    deviations.sort_by(f64::total_cmp);
    let median = deviations.get(deviations.len() / 2).copied().unwrap_or(0.0);
    (0..dims.len()).filter(|dim| dims[*dim].count > 1 && dims[*dim].std <= median * ALIVE).collect()
}

/// The dimensions that are not dead, but tell rows apart no more than errors of this root mean square do.
pub(crate) fn drowned(dims: &[Dim], dead: &[usize], rms: f64) -> Vec<usize> {
    let drowned = (0..dims.len()).filter(|dim| {
        dims[*dim].count > 1 && dims[*dim].std <= rms * NOISE && dead.binary_search(dim).is_err()
    });
    if rms > 0.0 { drowned.collect() } else { Vec::new() }
}

/// `3, 17..20`: numbers in ascending order, those that follow each other as a range with its last, and how many are left out.
pub(crate) fn ranges(numbers: &[usize], most: usize) -> (Vec<Range<usize>>, usize) {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end == *number => last.end += 1,
            _ => ranges.push(*number..number + 1),
        }
    }
    let left_out = ranges.iter().skip(most).map(ExactSizeIterator::len).sum();
    ranges.truncate(most);
    (ranges, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(columns: &[&[f64]]) -> Vec<Dim> {
        let mut gather = Gather::new(columns.len());
        for (dim, column) in columns.iter().enumerate() {
            column.iter().for_each(|value| gather.first(dim, *value));
        }
        gather.turn();
        for (dim, column) in columns.iter().enumerate() {
            column.iter().for_each(|value| gather.second(dim, *value));
        }
        gather.finish()
    }

    #[test]
    fn figures_are_those_of_the_formulas() {
        let dims = gathered(&[&[1.0, 2.0, 6.0], &[], &[-3.0]]);
        assert_eq!((dims[0].count, dims[0].min, dims[0].max, dims[0].mean), (3, 1.0, 6.0, 3.0));
        assert_eq!(dims[0].std, (14.0f64 / 3.0).sqrt());
        assert!(dims[1].count == 0 && dims[1].min.is_nan() && dims[1].std.is_nan());
        assert_eq!((dims[2].mean, dims[2].std), (-3.0, 0.0));
    }

    #[test]
    fn a_dimension_without_spread_is_dead() {
        let dims = gathered(&[&[1.0, 2.0], &[1e-33, 2e-33], &[5.0, 5.0], &[0.0, 9.0]]);
        assert_eq!(dead(&dims), [1, 2]);
        assert_eq!(dead(&gathered(&[&[5.0, 5.0], &[1.0], &[]])), [0]);
        assert_eq!(dead(&[]), []);
    }

    #[test]
    fn a_dimension_with_no_more_spread_than_errors_is_drowned() {
        let dims = gathered(&[&[1.0, 2.0], &[0.001, 0.002], &[5.0, 5.0]]);
        assert_eq!(drowned(&dims, &[2], 0.001), [1]);
        assert_eq!(drowned(&dims, &[2], 0.0001), []);
        assert_eq!(drowned(&dims, &[2], 0.0), []);
    }

    #[test]
    fn neighbours_are_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10], 2), (vec![1..4, 7..8], 2));
        assert_eq!(ranges(&[], 2), (vec![], 0));
    }
}
