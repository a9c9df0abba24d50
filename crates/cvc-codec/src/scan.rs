//! Searching encoded rows: what a device must offer to find the best rows of a chunk without decoding it into memory.
//!
//! # What exact means
//!
//! The score of a row is a number that [`Metric::score`] defines: f64 arithmetic in a fixed order on the decoded values, rounded once
//! to f32 at the end (`docs/NUMERICS.md`). The best rows are those with the best scores, and of equal scores those with the lower
//! number. So a search has one right answer, whatever the device, the instructions or the number of threads.
//!
//! A device may look at codes, round queries to integers and sum in any order, as long as it can prove how far off that is: such a
//! *filter* decides which rows are looked at closely, and never what their scores are.

use core::fmt;
use core::ops::Range;
use core::str::FromStr;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use cvc_format::{ChunkId, DType};
use thiserror::Error;

use crate::backend::{Backend, DecodeError, Payloads};
use crate::job::BatchError;
use crate::plan::DecodePlan;
use crate::rows::{Element, RowSlice, Values, with_values};
use crate::terms::TermsCache;

/// How near a row is to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// The cosine of the angle between them, 0 if either is zero. The largest is best.
    Cosine,
    /// The sum of products. The largest is best.
    Dot,
    /// The Euclidean distance. The smallest is best, here and below.
    L2,
    /// The square of the Euclidean distance.
    L2sq,
    /// The divergence of Kullback and Leibler of the row from the query, `sum(q ln(q / x))`, in nats: infinite where the query has
    /// something and the row has nothing. Neither is normalised; both are non-negative.
    Kl,
    /// The divergence of Jensen and Shannon, `(Kl(q, m) + Kl(x, m)) / 2` with `m = (q + x) / 2`, in nats; not its root.
    Js,
    /// How many bits differ, of rows of bytes or bools.
    Hamming,
    /// One minus the number of bits that both have over the number that either has, of rows of bytes or bools; 0 if neither has any.
    Jaccard,
}

/// Partial sums of an exact score: value `i` of a row goes to sum `i % LANES`, and the sums are added in order.
const LANES: usize = 8;

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 8] = [
        Metric::Cosine,
        Metric::Dot,
        Metric::L2,
        Metric::L2sq,
        Metric::Kl,
        Metric::Js,
        Metric::Hamming,
        Metric::Jaccard,
    ];

    /// The name on the command line and in Python: `cosine`, `dot`, `l2`, `l2sq`, `kl`, `js`, `hamming`, `jaccard`.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::L2 => "l2",
            Metric::L2sq => "l2sq",
            Metric::Kl => "kl",
            Metric::Js => "js",
            Metric::Hamming => "hamming",
            Metric::Jaccard => "jaccard",
        }
    }

    /// Whether the largest score is the best one.
    pub const fn is_similarity(self) -> bool {
        matches!(self, Metric::Cosine | Metric::Dot)
    }

    /// Whether it counts bits, of rows of bytes or bools.
    pub const fn is_of_bits(self) -> bool {
        matches!(self, Metric::Hamming | Metric::Jaccard)
    }

    /// Whether it follows from a dot product and the lengths of both vectors, which is what filters compute.
    pub const fn is_of_products(self) -> bool {
        matches!(self, Metric::Cosine | Metric::Dot | Metric::L2 | Metric::L2sq)
    }

    /// The score as something of which the largest is best.
    #[inline]
    pub fn goodness(self, score: f32) -> f32 {
        if self.is_similarity() { score } else { -score }
    }

    /// The score of a row of values, whose metric is not [of bits](Metric::is_of_bits). NaN if the row holds one, or a negative value
    /// where there must be none.
    ///
    /// Every product of two f32 is exact in f64; what is rounded is the sums, eight of them side by side.
    ///
    /// # Panics
    /// The two are not of one length, or the metric is of bits.
    #[inline(always)]
    pub fn score<T: Element>(self, query: &[f32], row: &[T]) -> f32 {
        self.score_of(query, square(query), row)
    }

    /// The same, given the sum of the squares of the query.
    #[inline(always)]
    fn score_of<T: Element>(self, query: &[f32], of_query: f64, row: &[T]) -> f32 {
        assert_eq!(query.len(), row.len(), "as many values");
        let score = match self {
            Metric::Dot => sum(query, row, |q, x| q * x),
            Metric::L2sq => sum(query, row, |q, x| (q - x) * (q - x)),
            Metric::L2 => sum(query, row, |q, x| (q - x) * (q - x)).sqrt(),
            Metric::Cosine => {
                let [dot, of_row] = sums(query, row, |q, x| [q * x, x * x]);
                if of_query == 0.0 || of_row == 0.0 { 0.0 } else { dot / (of_query.sqrt() * of_row.sqrt()) }
            }
            Metric::Kl => sum(query, row, |q, x| if x < 0.0 { f64::NAN } else { divergence(q, x) }),
            Metric::Js => sum(query, row, |q, x| {
                let mean = (q + x) / 2.0;
                if x < 0.0 { f64::NAN } else { (divergence(q, mean) + divergence(x, mean)) / 2.0 }
            }),
            Metric::Hamming | Metric::Jaccard => panic!("a metric of bits"),
        };
        rounded(score)
    }

    /// The score of a row of bits, eight to a byte, whose metric is [of bits](Metric::is_of_bits).
    ///
    /// # Panics
    /// The two are not of one length, or the metric is not of bits.
    pub fn score_of_bits(self, query: &[u8], row: &[u8]) -> f32 {
        assert_eq!(query.len(), row.len(), "as many bytes");
        let count = |bits: fn(u64, u64) -> u64| -> u64 {
            let (words, last) = query.as_chunks::<8>();
            let (of_row, last_of_row) = row.as_chunks::<8>();
            let words = words.iter().zip(of_row);
            let words = words
                .map(|(q, x)| u64::from(bits(u64::from_le_bytes(*q), u64::from_le_bytes(*x)).count_ones()));
            let last = last.iter().zip(last_of_row);
            let last = last.map(|(q, x)| u64::from(bits(u64::from(*q), u64::from(*x)).count_ones()));
            words.sum::<u64>() + last.sum::<u64>()
        };
        let score = match self {
            Metric::Hamming => count(|q, x| q ^ x) as f64,
            Metric::Jaccard => match count(|q, x| q | x) {
                0 => 0.0,
                either => 1.0 - count(|q, x| q & x) as f64 / either as f64,
            },
            _ => panic!("a metric of values"),
        };
        rounded(score)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a score is rounded once to f32")]
fn rounded(score: f64) -> f32 {
    score as f32
}

/// `p ln(p / q)`, and nothing where `p` is 0.
fn divergence(p: f64, q: f64) -> f64 {
    // Not the system's logarithm, which is another one on another system.
    if p == 0.0 { 0.0 } else { p * libm::log(p / q) }
}

/// The sum of `term` over pairs of values, in the order of [`LANES`].
#[inline(always)]
fn sum<T: Element>(query: &[f32], row: &[T], term: impl Fn(f64, f64) -> f64) -> f64 {
    let [sum] = sums(query, row, |q, x| [term(q, x)]);
    sum
}

/// Some such sums of the same pairs.
#[inline(always)]
fn sums<T: Element, const N: usize>(
    query: &[f32],
    row: &[T],
    terms: impl Fn(f64, f64) -> [f64; N],
) -> [f64; N] {
    let mut lanes = [[0.0; LANES]; N];
    let mut add = |lane: usize, q: f32, x: T| {
        for (lanes, term) in lanes.iter_mut().zip(terms(f64::from(q), x.as_f64())) {
            lanes[lane] += term;
        }
    };
    let (blocks, rest) = query.as_chunks::<LANES>();
    let (of_row, rest_of_row) = row.as_chunks::<LANES>();
    for (query, row) in blocks.iter().zip(of_row) {
        for lane in 0..LANES {
            add(lane, query[lane], row[lane]);
        }
    }
    for (lane, (q, x)) in rest.iter().zip(rest_of_row).enumerate() {
        add(lane, *q, *x);
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// The sum of the squares of a query, in the same order.
fn square(query: &[f32]) -> f64 {
    sum(query, query, |q, _| q * q)
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A metric of which there is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("metric {0:?} is unknown: there are cosine, dot, l2, l2sq, kl, js, hamming and jaccard")]
pub struct UnknownMetric(pub String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let found = Metric::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| UnknownMetric(name.into()))
    }
}

/// Queries that make sense for their metric: all finite, non-negative where they must be, all of one length.
#[derive(Clone, Debug)]
pub struct Queries<'a> {
    metric: Metric,
    dim: u32,
    count: usize,
    values: QueryValues<'a>,
    /// The sum of the squares of each query of floats.
    squares: Vec<f64>,
}

#[derive(Clone, Debug)]
enum QueryValues<'a> {
    Floats(Cow<'a, [f32]>),
    Bits(Cow<'a, [u8]>),
}

impl<'a> Queries<'a> {
    /// Rows of queries of any real dtype; of bytes or bools if the metric is [of bits](Metric::is_of_bits).
    ///
    /// # Errors
    /// A value is NaN, infinite, or negative where it must not be, or the dtype is not what the metric needs.
    pub fn new(metric: Metric, rows: RowSlice<'a>) -> Result<Self, QueryError> {
        let (count, dim) = (rows.len(), u32::try_from(rows.dim()).map_err(|_| QueryError::Dim)?);
        let dtype = rows.dtype();
        let values = if metric.is_of_bits() {
            if !matches!(dtype, DType::U8 | DType::Bool) {
                return Err(QueryError::Dtype { metric, dtype });
            }
            QueryValues::Bits(Cow::Borrowed(rows.bytes()))
        } else if rows.is_real() {
            QueryValues::Floats(match rows.values() {
                Values::F32(values) => Cow::Borrowed(values),
                _ => Cow::Owned(
                    with_values!(rows, values => values.iter().map(|value| value.as_f32()).collect()),
                ),
            })
        } else {
            return Err(QueryError::Dtype { metric, dtype });
        };
        let mut squares = Vec::new();
        if let QueryValues::Floats(values) = &values {
            let negative = matches!(metric, Metric::Kl | Metric::Js);
            let bad = |value: &f32| !value.is_finite() || negative && *value < 0.0;
            if let Some(at) = values.iter().position(bad) {
                let (query, column) = (at / dim as usize, at % dim as usize);
                return Err(QueryError::Value { metric, query, column, value: values[at] });
            }
            // Queries of no values have none to sum.
            squares = match dim {
                0 => vec![0.0; count],
                _ => values.chunks_exact(dim as usize).map(square).collect(),
            };
        }
        Ok(Queries { metric, dim, count, values, squares })
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Values to a query; bytes, if the metric is of bits.
    pub fn dim(&self) -> u32 {
        self.dim
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All values, query after query.
    ///
    /// # Panics
    /// The metric is of bits.
    pub fn floats(&self) -> &[f32] {
        match &self.values {
            QueryValues::Floats(values) => values,
            QueryValues::Bits(_) => panic!("queries of bits"),
        }
    }

    /// The score of a decoded row for query `query`.
    ///
    /// # Panics
    /// There is no such query, or the row is not of its length and kind.
    #[inline(always)]
    pub fn score(&self, query: usize, row: RowSlice<'_>) -> f32 {
        let dim = self.dim as usize;
        let at = query * dim..(query + 1) * dim;
        match &self.values {
            QueryValues::Bits(bits) => self.metric.score_of_bits(&bits[at], row.bytes()),
            QueryValues::Floats(values) => {
                let of_query = self.squares[query];
                with_values!(row, row => self.metric.score_of(&values[at], of_query, row))
            }
        }
    }

    /// The dtype that rows of an array should be decoded to for these queries, given the one that they have if nothing is asked for.
    ///
    /// # Errors
    /// The metric is not for such values.
    pub fn row_dtype(metric: Metric, decoded: DType) -> Result<DType, QueryError> {
        match decoded {
            DType::U8 | DType::Bool if metric.is_of_bits() => Ok(decoded),
            DType::F16 | DType::Bf16 if !metric.is_of_bits() => Ok(DType::F32),
            DType::Bool | DType::C64 | DType::C128 => Err(QueryError::Dtype { metric, dtype: decoded }),
            _ if metric.is_of_bits() => Err(QueryError::Dtype { metric, dtype: decoded }),
            other => Ok(other),
        }
    }
}

/// Queries that make no sense.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum QueryError {
    /// Values that the metric is not for.
    #[error("{metric} is not for {dtype} values: {}", needs(*.metric))]
    Dtype {
        /// The metric.
        metric: Metric,
        /// The dtype of the queries or of the rows.
        dtype: DType,
    },
    /// A value that no query may have.
    #[error(
        "query {query} has {value} in column {column}, for which {metric} has no score: clean the queries"
    )]
    Value {
        /// The metric.
        metric: Metric,
        /// Which query.
        query: usize,
        /// Which of its values.
        column: usize,
        /// The value.
        value: f32,
    },
    /// More values than a row can have.
    #[error("the queries have more values than a row can have")]
    Dim,
}

fn needs(metric: Metric) -> &'static str {
    if metric.is_of_bits() {
        "it counts bits of u8 or bool values; for others there are cosine, dot and l2"
    } else {
        "it needs real numbers; for bits there are hamming and jaccard"
    }
}

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its number in the array.
    pub row: u64,
    /// Its score.
    pub score: f32,
}

/// The best rows for one query so far.
#[derive(Clone, Debug)]
pub struct TopK {
    k: usize,
    worst_first: BinaryHeap<Kept>,
}

/// A row that is kept. The greatest is the worst.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Not NaN.
    goodness: f32,
    row: u64,
}

impl TopK {
    /// None yet, of `k`.
    pub fn new(k: usize) -> Self {
        TopK { k, worst_first: BinaryHeap::new() }
    }

    /// Keeps a row if it is among the `k` best. One whose score is NaN never is.
    #[inline]
    pub fn offer(&mut self, row: u64, goodness: f32) {
        if goodness.is_nan() || self.k == 0 {
            return;
        }
        let offered = Kept { goodness, row };
        if self.worst_first.len() < self.k {
            self.worst_first.push(offered);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && offered < *worst
        {
            *worst = offered;
        }
    }

    /// The goodness below which no row will be kept: that of the worst kept, once there are `k`.
    #[inline]
    pub fn threshold(&self) -> f32 {
        match self.worst_first.peek() {
            Some(worst) if self.worst_first.len() == self.k => worst.goodness,
            None if self.k == 0 => f32::INFINITY,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Offers all rows of another.
    pub fn merge(&mut self, other: &TopK) {
        for kept in &other.worst_first {
            self.offer(kept.row, kept.goodness);
        }
    }

    /// The rows, the best first.
    pub fn into_hits(self, metric: Metric) -> Vec<Hit> {
        let hits = self.worst_first.into_sorted_vec().into_iter();
        // What turns scores to goodness turns it back.
        hits.map(|kept| Hit { row: kept.row, score: metric.goodness(kept.goodness) + 0.0 }).collect()
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        // Neither is NaN. Both zeros are one score.
        let by_score = other.goodness.partial_cmp(&self.goodness).unwrap_or(Ordering::Equal);
        by_score.then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Kept {}

/// Some consecutive rows of one chunk that are to be searched.
#[derive(Clone, Debug)]
pub struct ScanJob<'p> {
    /// How to decode the chunk.
    pub plan: &'p DecodePlan,
    /// Which chunk.
    pub chunk: ChunkId,
    /// The rows, counted from the start of the chunk.
    pub rows: Range<u32>,
    /// The number in the array of the first of them.
    pub first_row: u64,
}

/// Rows to be searched, all of the dim and the dtype that their queries need. Any row once, in ascending order.
#[derive(Clone, Debug)]
pub struct ScanBatch<'p> {
    jobs: Vec<ScanJob<'p>>,
    dim: u32,
    dtype: DType,
    terms: Option<&'p TermsCache>,
}

impl<'p> ScanBatch<'p> {
    /// Checks jobs against each other and against queries of `dim` values, for which rows are decoded to `dtype`.
    ///
    /// # Errors
    /// A job's rows are not in its chunk, are not behind those of the job before, or its plan makes something else.
    pub fn new(jobs: Vec<ScanJob<'p>>, dim: u32, dtype: DType) -> Result<Self, BatchError> {
        let mut next_row = 0;
        for job in &jobs {
            let (chunk, shape) = (job.chunk, job.plan.shape());
            if job.rows.start > job.rows.end || job.rows.end > shape.rows {
                return Err(BatchError::RowsOutside {
                    chunk,
                    rows: job.rows.clone(),
                    chunk_rows: shape.rows,
                });
            }
            if job.plan.dim() != dim || job.plan.out() != dtype {
                return Err(BatchError::Mixed { chunk, dim: job.plan.dim(), out: job.plan.out() });
            }
            if job.first_row < next_row {
                return Err(BatchError::Disorder { chunk, row: job.first_row });
            }
            next_row = job.first_row.saturating_add(job.rows.len() as u64);
        }
        Ok(ScanBatch { jobs, dim, dtype, terms: None })
    }

    /// With what earlier scans of the same array found out about its rows, and where this one may leave more of it.
    #[must_use]
    pub fn with_terms(self, terms: &'p TermsCache) -> Self {
        ScanBatch { terms: Some(terms), ..self }
    }

    /// What is known of the rows, and where to leave more.
    pub fn terms(&self) -> Option<&'p TermsCache> {
        self.terms
    }

    /// The jobs, by ascending rows.
    pub fn jobs(&self) -> &[ScanJob<'p>] {
        &self.jobs
    }

    /// Values of a row.
    pub fn dim(&self) -> u32 {
        self.dim
    }

    /// The dtype that rows are decoded to.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// What a scan found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best rows for each query.
    pub tops: Vec<TopK>,
    /// For each query, how many rows have no score, because they hold NaN.
    pub nan_rows: Vec<u64>,
    /// Pairs of a query and a row whose exact score was computed: the others were ruled out by a bound.
    pub scored: u64,
}

impl Found {
    /// Nothing yet, for so many queries.
    pub fn new(queries: usize, k: usize) -> Self {
        Found { tops: vec![TopK::new(k); queries], nan_rows: vec![0; queries], scored: 0 }
    }

    /// The exact score of `row` for query `query`.
    #[inline]
    pub fn offer(&mut self, metric: Metric, query: usize, row: u64, score: f32) {
        self.scored += 1;
        if score.is_nan() {
            self.nan_rows[query] += 1;
        } else {
            self.tops[query].offer(row, metric.goodness(score));
        }
    }

    /// Adds what was found among other rows.
    pub fn merge(&mut self, other: &Found) {
        for (top, other) in self.tops.iter_mut().zip(&other.tops) {
            top.merge(other);
        }
        for (count, other) in self.nan_rows.iter_mut().zip(&other.nan_rows) {
            *count += other;
        }
        self.scored += other.scored;
    }
}

/// A backend that finds the best rows where the encoded bytes are.
pub trait Scan: Backend {
    /// The `k` best rows of the batch for each query. The result does not depend on who computes it, but for [`Found::scored`].
    ///
    /// # Errors
    /// The source fails, a payload is damaged, or the device fails; of several failures that of the lowest row.
    ///
    /// # Panics
    /// The queries are not of the batch's dim.
    fn scan(
        &self,
        batch: &ScanBatch<'_>,
        src: &dyn Payloads,
        queries: &Queries<'_>,
        k: usize,
    ) -> Result<Found, DecodeError>;
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "scores are rounded")]
mod tests {
    use super::*;

    fn score(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
        metric.score(query, row)
    }

    #[test]
    fn scores_are_what_they_are_called() {
        let (q, x) = ([3.0, 4.0, 0.0], [0.0, 4.0, 3.0]);
        assert_eq!(score(Metric::Dot, &q, &x), 16.0);
        assert_eq!(score(Metric::Cosine, &q, &x), 0.64);
        assert_eq!(score(Metric::L2sq, &q, &x), 18.0);
        assert_eq!(score(Metric::L2, &q, &x), 18f32.sqrt());
        assert_eq!(
            score(Metric::Kl, &[0.5, 0.5], &[0.25, 0.75]),
            (0.5 * (2f64.ln() + (2.0 / 3.0f64).ln())) as f32
        );
        assert_eq!(score(Metric::Kl, &[0.5, 0.5], &[1.0, 0.0]), f32::INFINITY);
        assert_eq!(score(Metric::Js, &[1.0, 0.0], &[0.0, 1.0]), 2f32.ln());
        assert_eq!(Metric::Hamming.score_of_bits(&[0b1010; 9], &[0b0110; 9]), 18.0);
        assert_eq!(Metric::Jaccard.score_of_bits(&[0b1010], &[0b0110]), (2.0 / 3.0) as f32);
    }

    #[test]
    fn what_has_no_direction_has_cosine_zero() {
        assert_eq!(score(Metric::Cosine, &[0.0, 0.0], &[1.0, 2.0]), 0.0);
        assert_eq!(score(Metric::Cosine, &[1.0, 0.0], &[0.0, -0.0]), 0.0);
        assert_eq!(Metric::Jaccard.score_of_bits(&[0], &[0]), 0.0);
        assert_eq!(score(Metric::Js, &[0.0], &[0.0]), 0.0);
    }

    #[test]
    fn rows_without_a_score_have_none() {
        for metric in Metric::ALL.into_iter().filter(|metric| !metric.is_of_bits()) {
            assert!(score(metric, &[1.0, 1.0], &[f32::NAN, 0.0]).is_nan(), "{metric}");
        }
        assert!(score(Metric::Kl, &[1.0], &[-1.0]).is_nan());
        assert!(score(Metric::Js, &[1.0], &[-1.0]).is_nan());
    }

    #[test]
    fn the_best_are_kept_and_of_equals_the_lower_row() {
        let mut top = TopK::new(3);
        assert_eq!(top.threshold(), f32::NEG_INFINITY);
        for (row, goodness) in [(9, 1.0), (4, 2.0), (7, 1.0), (1, f32::NAN), (8, 2.0), (2, 1.0), (3, 0.5)] {
            top.offer(row, goodness);
        }
        assert_eq!(top.threshold(), 1.0);
        let hits = top.into_hits(Metric::L2);
        assert_eq!(
            hits.iter().map(|hit| (hit.row, hit.score)).collect::<Vec<_>>(),
            [(4, -2.0), (8, -2.0), (2, -1.0)]
        );
        assert!(TopK::new(0).into_hits(Metric::Dot).is_empty());
    }

    #[test]
    fn queries_are_refused_with_their_place() {
        let values = [0.0, 1.0, f32::NAN, 2.0];
        let error = Queries::new(Metric::Dot, RowSlice::new(&values, 2).unwrap()).unwrap_err();
        assert!(matches!(error, QueryError::Value { query: 1, column: 0, .. }), "{error}");
        let values = [0.0, -1.0];
        let rows = RowSlice::new(&values, 2).unwrap();
        assert!(Queries::new(Metric::Dot, rows).is_ok());
        assert!(matches!(Queries::new(Metric::Kl, rows).unwrap_err(), QueryError::Value { column: 1, .. }));
        assert!(matches!(Queries::new(Metric::Hamming, rows).unwrap_err(), QueryError::Dtype { .. }));
    }

    #[test]
    fn names_are_read_back() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
        }
        assert!("L2".parse::<Metric>().unwrap_err().to_string().contains("l2sq"));
    }
}
