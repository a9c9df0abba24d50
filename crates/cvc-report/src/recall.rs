//! How many of the nearest rows are still found: an exact scan, for some rows as queries.
//!
//! ```text
//! for each window of rows { for each row { for each query { dot product -> cosine and l2 -> ten best } } }
//! ```
//!
//! This is the obvious loop, once over the originals and once over what the file decodes to, in f64, on one core. Its answers
//! are what a faster search must give.

use cvc::{Array, Error};

use crate::rows::{Decoded, Originals, windows};
use crate::{ReportOptions, sample};

/// How many nearest rows are looked for.
pub const NEIGHBOURS: usize = 10;

/// What was found of the nearest rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recall {
    /// Nearest rows looked for: [`NEIGHBOURS`], or all others of an array with fewer rows.
    pub k: usize,
    /// The queries: rows of the array, in ascending order.
    pub queries: Vec<u64>,
    /// By the cosine.
    pub cosine: RecallOf,
    /// By the Euclidean distance.
    pub l2: RecallOf,
}

/// What was found by one metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecallOf {
    /// Queries that have neighbours: one of zeros has none by the cosine, one with a NaN or an infinity none at all, and neither has
    /// one where all other rows are not finite.
    pub queries: u64,
    /// The part of their nearest rows that is found in what the file decodes to; NaN if there are no queries.
    pub mean: f64,
    /// How many queries found 0, 1, ... `k` of them.
    pub by_found: Vec<u64>,
}

/// Searches for the neighbours of some rows of the originals, among the originals and among what the array decodes to. A row is
/// no neighbour of itself. One that is found is right if it is as near, among the originals, as the last of the nearest there: of rows
/// that are equally near, any will do. Rows with a NaN or an infinity are nobody's neighbours.
pub(crate) fn measure(array: Array<'_>, options: &ReportOptions) -> Result<Option<Recall>, Error> {
    let dim = u64::from(array.dim()) * if crate::rows::is_complex(array.dtype()?) { 2 } else { 1 };
    if dim == 0 || array.rows() < 2 || options.sample == 0 {
        return Ok(None);
    }
    let k = usize::try_from(array.rows() - 1).unwrap_or(usize::MAX).min(NEIGHBOURS);
    let (mut decoded, mut originals) = (Decoded::new(array)?, Originals::new(&options.originals, &array)?);
    let row_len = usize::try_from(dim).expect("rows are in memory");

    let numbers = sample::rows(array.rows(), options.sample, options.seed);
    let mut queries = Vec::with_capacity(numbers.len());
    let (mut xs, mut ys) = (Vec::new(), Vec::new());
    for row in &numbers {
        originals.read(*row..row + 1, &mut xs)?;
        queries.push(Query::new(*row, std::mem::take(&mut xs), k));
    }
    for chunk in array.chunks() {
        for window in windows(chunk.rows, dim) {
            decoded.read(window.clone(), &mut ys)?;
            originals.read(window.clone(), &mut xs)?;
            for ((row, x), y) in window.zip(xs.chunks_exact(row_len)).zip(ys.chunks_exact(row_len)) {
                let (xx, yy) = (dot(x, x), dot(y, y));
                for query in queries.iter_mut().filter(|query| query.row != row) {
                    query.look_at(row, (x, xx), (y, yy));
                }
            }
        }
    }
    let of = |by: fn(&Query) -> Option<&Search>| {
        let mut by_found = vec![0; k + 1];
        let searches = queries.iter().filter_map(by).filter(|search| !search.originals.is_empty());
        searches.for_each(|search| by_found[search.found()] += 1);
        let count: u64 = by_found.iter().sum();
        let found: u64 = by_found.iter().enumerate().map(|(found, queries)| found as u64 * queries).sum();
        RecallOf { queries: count, mean: found as f64 / (count * k as u64) as f64, by_found }
    };
    let cosine =
        of(|query| (query.square > 0.0).then_some(&query.cosine).filter(|_| query.square.is_finite()));
    let l2 = of(|query| query.square.is_finite().then_some(&query.l2));
    Ok(Some(Recall { k, queries: numbers, cosine, l2 }))
}

/// A row whose neighbours are looked for.
struct Query {
    row: u64,
    values: Vec<f64>,
    square: f64,
    cosine: Search,
    l2: Search,
}

impl Query {
    fn new(row: u64, values: Vec<f64>, k: usize) -> Query {
        let square = dot(&values, &values);
        Query { row, values, square, cosine: Search::new(k), l2: Search::new(k) }
    }

    /// Takes a row as it was packed and as it decodes, each with its square.
    fn look_at(&mut self, row: u64, (x, xx): (&[f64], f64), (y, yy): (&[f64], f64)) {
        let qq = self.square;
        let (qx, qy) = (dot(&self.values, x), dot(&self.values, y));
        let cosine =
            |product: f64, square: f64| if square == 0.0 { 0.0 } else { product / (qq * square).sqrt() };
        self.cosine.look_at(row, cosine(qx, xx), cosine(qy, yy));
        // The larger, the nearer: the squared distance, but for its sign.
        self.l2.look_at(row, 2.0 * qx - qq - xx, 2.0 * qy - qq - yy);
    }
}

/// The nearest rows so far, on both sides.
struct Search {
    k: usize,
    originals: Vec<Found>,
    decoded: Vec<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    score: f64,
    /// What the row scores among the originals.
    truth: f64,
}

impl Search {
    fn new(k: usize) -> Search {
        Search { k, originals: Vec::with_capacity(k + 1), decoded: Vec::with_capacity(k + 1) }
    }

    /// Rows come in ascending order, so of equal ones the first stays in front.
    fn look_at(&mut self, _row: u64, truth: f64, score: f64) {
        keep(&mut self.originals, Found { score: truth, truth }, self.k);
        keep(&mut self.decoded, Found { score, truth }, self.k);
    }

    /// How many of the rows found are among the nearest.
    fn found(&self) -> usize {
        let Some(last) = self.originals.last() else { return 0 };
        let right = self.decoded.iter().filter(|found| found.truth >= last.score).count();
        // Where fewer than k rows are finite, there is no more to be found.
        right + (self.k - self.originals.len()).min(self.k - right)
    }
}

fn keep(best: &mut Vec<Found>, found: Found, k: usize) {
    if !found.score.is_finite() || (best.len() == k && best[k - 1].score >= found.score) {
        return;
    }
    let at = best.partition_point(|other| other.score >= found.score);
    best.insert(at, found);
    best.truncate(k);
}

/// In eight sums, so that the processor need not wait for one.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_in_order_and_nan_never_wins() {
        let mut best = Vec::new();
        for score in [1.0, f64::NAN, 5.0, 3.0, f64::INFINITY, 3.0, 0.0] {
            keep(&mut best, Found { score, truth: score }, 3);
        }
        assert_eq!(best.iter().map(|found| found.score).collect::<Vec<_>>(), [5.0, 3.0, 3.0]);
    }

    #[test]
    fn a_row_as_near_as_the_last_is_right() {
        let mut search = Search::new(2);
        // Rows 1 and 2 are equally near; the decoded side takes row 2 in the place of row 1.
        search.look_at(0, 9.0, 9.0);
        search.look_at(1, 5.0, 4.0);
        search.look_at(2, 5.0, 5.0);
        assert_eq!(search.found(), 2);
        search.look_at(3, 1.0, 20.0);
        assert_eq!(search.found(), 1);
    }

    #[test]
    fn dot_products_of_any_length() {
        for len in 0..20u8 {
            let x: Vec<f64> = (0..len).map(f64::from).collect();
            let expected: f64 = (0..len).map(|n| f64::from(n) * f64::from(n)).sum();
            assert_eq!(dot(&x, &x), expected);
        }
    }
}
