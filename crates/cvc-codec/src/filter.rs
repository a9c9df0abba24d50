//! Searching on a device that filters: what it computes, and what the host makes of it.
//!
//! ```text
//! for stage in rows { decode it there; for query { the device keeps the rows whose bounds are best; the host scores those } }
//! ```
//!
//! A device cannot give exact scores: they are sums of f64 in a fixed order. But with products in f32 it can say how good a row is at
//! *most*, and it can do that for every row without a value leaving it. So it is a filter. What comes back of a stage is, for each query, a few rows
//! with the best bounds, and the bound of what was thrown away; then the values of those few rows, which the host gives exact scores.
//! If what was thrown away may be as good as the worst row that is kept, the host asks for the bounds of all rows of the stage, four bytes each,
//! and looks at every row that may do. Decoded values have the reference's bits on every device, so the result is that of the reference, bit for bit.
//!
//! # What a device computes
//!
//! For a row `x` of a stage and a query `q`, in f32, in any order, fused or not, subnormals flushed or not:
//!
//! ```text
//! P = q.x        s = x.x        bound = A P + slack(q) B + C
//! ```
//!
//! | rule | A | B | C |
//! |---|---|---|---|
//! | [`Rule::Cosine`] | 1 / root(s) | 1 | 0 |
//! | [`Rule::Dot`] | 1 | root(s) | 0 |
//! | [`Rule::Distance`] | 2 | root(s) | -[`keep`](Filter::keep) s |
//!
//! Roots and quotients may be off by 8 units in the last place. From the bound comes a *key*, an integer that is larger for larger bounds
//! ([`key`]). It is [`UNKNOWN`] if a value of the row has a magnitude of [`LARGEST`] or more or is no number, which integers must find out,
//! or if `s` is not in [`SQUARES`]; else it is [`DROPPED`] if it is below the key that the host gave for the query.
//!
//! # Why it holds
//!
//! Products and sums of `d` values are off by `(d + 2) u |q| |x|` with `u = 2^-24`. A device that flushes loses `2^-126` with each product and each
//! sum, and as neither length is below `1e-15` that is below `d u |q| |x|`. The error that is allowed for is `(2 d + 32) u` and what roots, quotients and the bound's own sums
//! round, and the slack of a cosine is three times as much, as its length is off, too.

use core::ops::Range;

use cvc_format::DType;

use crate::backend::DecodeError;
use crate::job::{Batch, Job};
use crate::rows::RowSlice;
use crate::scan::{Found, Metric, Queries, ScanBatch};

/// The key of a row that must be looked at.
pub const UNKNOWN: u32 = u32::MAX;

/// The key of a row that must not.
pub const DROPPED: u32 = 0;

/// A magnitude from which on products may overflow.
pub const LARGEST: f32 = 1e15;

/// What the squares of a row add up to if its bound means anything.
pub const SQUARES: core::ops::RangeInclusive<f32> = 1e-30..=1e30;

/// Lengths of queries with which f32 neither overflows nor loses digits.
const LENGTHS: core::ops::RangeInclusive<f64> = 1e-15..=1e15;

/// Beyond which a bound says nothing.
const MOST_ERROR: f64 = 0.1;

/// Rows of a stage at most: a column of bounds is then 256 KiB.
const MOST_ROWS: u64 = 1 << 16;

/// Bytes of rows that are brought back and scored together, unless one row is longer.
const SCORED_LEN: usize = 4 << 20;

/// How a bound follows from a product and the squares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Of the cosine.
    Cosine = 0,
    /// Of the dot product.
    Dot = 1,
    /// Of the Euclidean distance and its square.
    Distance = 2,
}

/// How far off a bound can be, as a part of both lengths.
fn error(dim: u32) -> f64 {
    (f64::from(dim) + 16.0) / f64::from(1u32 << 23) + 4e-6
}

/// The key of a bound: larger for larger ones. What is no number is [`UNKNOWN`].
pub fn key(bound: f32) -> u32 {
    let bits = bound.to_bits();
    match bits >> 31 {
        _ if bound.is_nan() => UNKNOWN,
        1 => !bits,
        _ => bits | 1 << 31,
    }
}

/// Why rows and queries are searched on the host even if a device decodes, or `None` if the device filters them.
pub fn why_not(metric: Metric, dim: u32, dtype: DType) -> Option<String> {
    if !metric.is_of_products() {
        return Some(format!("{metric} does not follow from products"));
    }
    if dtype != DType::F32 {
        return Some(format!("{dtype} values are not those of f32"));
    }
    (error(dim) > MOST_ERROR).then(|| format!("sums of {dim} products are too far off"))
}

/// Queries as a device that filters needs them.
#[derive(Clone, Debug)]
pub struct Filter<'q> {
    queries: &'q Queries<'q>,
    lengths: Vec<f64>,
    error: f64,
}

impl<'q> Filter<'q> {
    /// A filter for rows that are decoded to `dtype`.
    ///
    /// # Errors
    /// [`why_not`].
    pub fn new(queries: &'q Queries<'q>, dtype: DType) -> Result<Self, String> {
        let (metric, dim) = (queries.metric(), queries.dim());
        if let Some(reason) = why_not(metric, dim, dtype) {
            return Err(reason);
        }
        if dim == 0 || queries.is_empty() {
            return Err("there is nothing to multiply".into());
        }
        let length =
            |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let lengths = queries.floats().chunks_exact(dim as usize).map(length).collect();
        Ok(Filter { queries, lengths, error: error(dim) })
    }

    /// The rule of the metric.
    pub fn rule(&self) -> Rule {
        match self.queries.metric() {
            Metric::Cosine => Rule::Cosine,
            Metric::Dot => Rule::Dot,
            _ => Rule::Distance,
        }
    }

    /// By what the squares of a row are multiplied before they are taken from a bound: a little less than 1.
    #[expect(clippy::cast_possible_truncation, reason = "rounded downwards by more")]
    pub fn keep(&self) -> f32 {
        (1.0 - 2.0 * self.error) as f32
    }

    /// What a query adds to its bounds.
    #[expect(clippy::cast_possible_truncation, reason = "rounded upwards by more")]
    pub fn slack(&self, query: usize) -> f32 {
        let times = match self.rule() {
            Rule::Cosine => 3.0,
            Rule::Dot => 1.0,
            Rule::Distance => 2.0,
        };
        if self.is_known(query) { (times * self.error * self.lengths[query] * 1.001) as f32 } else { 0.0 }
    }

    /// The values of a query that the device multiplies; `None` stands for zeros, where they would overflow or vanish.
    pub fn values(&self, query: usize) -> Option<&[f32]> {
        let dim = self.queries.dim() as usize;
        self.is_known(query).then(|| &self.queries.floats()[query * dim..(query + 1) * dim])
    }

    fn is_known(&self, query: usize) -> bool {
        LENGTHS.contains(&self.lengths[query])
    }

    /// The key below which a row is not as good as `goodness` for query `query`.
    pub fn threshold(&self, query: usize, goodness: f32) -> u32 {
        if !self.is_known(query) || goodness == f32::NEG_INFINITY {
            return DROPPED + 1;
        }
        if !goodness.is_finite() {
            // Nothing that is known is infinitely good.
            return UNKNOWN;
        }
        let (score, length) = (f64::from(goodness), self.lengths[query]);
        // A score was rounded to f32 by 2^-24 of it; some more for rounding here.
        let ulps = 1e-6;
        let threshold = match self.queries.metric() {
            Metric::Dot => score - score.abs() * ulps,
            Metric::Cosine => (score - score.abs() * ulps - 1e-30) * length,
            metric => {
                let distance = if metric == Metric::L2 { score * score } else { -score };
                length * length - distance - (length * length + distance) * ulps
            }
        };
        // Both zeros are one bound, of which the smaller key counts; and what a device flushes is no more than this.
        let threshold = threshold - threshold.abs() * ulps - 1e-35;
        #[expect(clippy::cast_possible_truncation, reason = "rounded downwards by more")]
        let threshold = threshold.max(f64::from(f32::MIN)).min(f64::from(f32::MAX)) as f32;
        key(threshold).max(DROPPED + 1)
    }
}

/// Bytes that a device has for each of the things that a stage needs.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Decoded rows; there are two such memories.
    pub decoded_len: u64,
    /// Keys, one for each row and query.
    pub keys_len: u64,
    /// The best rows.
    pub best_len: u64,
    /// Queries, with two numbers for each.
    pub queries_len: u64,
}

/// What is searched at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Rows of a stage, at most.
    pub rows: u32,
    /// Queries that are asked together, at most.
    pub queries: usize,
    /// Rows that the device keeps for a query of a stage, at most.
    pub kept: u32,
}

impl Room {
    /// As much as fits; at least one row, one query and one row kept, whose room the caller has made sure of.
    pub fn new(filter: &Filter<'_>, k: usize, most: Most) -> Room {
        let dim = u64::from(filter.queries.dim());
        let rows = (most.decoded_len / (4 * dim)).min(most.keys_len / 4).clamp(1, MOST_ROWS);
        let k = k as u64;
        // Some more than are wanted: bounds are not in the order of scores.
        let kept = (k + (k / 4).max(16)).min(rows).min(most.best_len / 8 - 1).max(1);
        let queries = (most.keys_len / (4 * rows))
            .min(most.best_len / (4 * Room::record_words(kept)))
            .min(most.queries_len / (4 * (dim + 2)))
            .clamp(1, filter.queries.len() as u64);
        let small = |count: u64| u32::try_from(count).expect("at most 65,536");
        Room {
            rows: small(rows),
            queries: usize::try_from(queries).expect("no more than there are"),
            kept: small(kept),
        }
    }

    /// Words that come back for a query: how many rows were not dropped; the largest key of those that were thrown away all the same, or [`DROPPED`];
    /// then pairs of a row and its key, as many as were kept, in any order.
    pub const fn record_words(kept: u64) -> u64 {
        2 + 2 * kept
    }
}

/// What a device that filters can do. Stages have turns, 0 and 1, each with a memory for rows.
pub trait FilterDevice {
    /// Decodes rows, at most [`Room::rows`], to the memory of `turn`.
    ///
    /// # Errors
    /// The source fails, a payload is damaged, the device fails; of several failures that of the lowest row.
    fn decode(&mut self, turn: usize, batch: &Batch<'_>) -> Result<(), DecodeError>;

    /// Asks for the best of the first `rows` rows there for some queries, whose keys must not be below `thresholds`. It need not wait for
    /// the answer.
    ///
    /// # Errors
    /// The device fails.
    fn ask(
        &mut self,
        turn: usize,
        rows: u32,
        queries: Range<usize>,
        thresholds: &[u32],
    ) -> Result<(), DecodeError>;

    /// The answer to what was asked last: a record for each query ([`Room::record_words`]).
    ///
    /// # Errors
    /// The device fails.
    fn best(&mut self) -> Result<Vec<u32>, DecodeError>;

    /// All keys of the stage that was asked for last, for the query that was number `query` there.
    ///
    /// # Errors
    /// The device fails.
    fn keys(&mut self, query: usize) -> Result<Vec<u32>, DecodeError>;

    /// The values of some rows in the memory of `turn`, in ascending order, one after another.
    ///
    /// # Errors
    /// The device fails.
    fn values(&mut self, turn: usize, rows: &[u32], into: &mut [f32]) -> Result<(), DecodeError>;
}

/// Searches with a device that filters.
///
/// While the device works on the bounds of a stage, the host prepares the next one.
///
/// # Errors
/// As [`Scan::scan`](crate::Scan::scan).
pub fn scan<D: FilterDevice>(
    filter: &Filter<'_>,
    room: Room,
    batch: &ScanBatch<'_>,
    k: usize,
    device: &mut D,
) -> Result<Found, DecodeError> {
    let mut search = Search { filter, room, found: Found::new(filter.queries.len(), k), device };
    let mut asked: Option<Asked> = None;
    for (number, (jobs, stage)) in stages(batch, room.rows).into_iter().enumerate() {
        let turn = number % 2;
        let rows = u64::from(stage.rows);
        let decoded =
            Batch::new(jobs, rows, batch.dim(), batch.dtype()).expect("jobs of a batch, one after another");
        search.device.decode(turn, &decoded)?;
        if let Some(asked) = asked.take() {
            search.take(&asked)?;
        }
        let stage = std::rc::Rc::new(stage);
        for start in (0..filter.queries.len()).step_by(room.queries) {
            if let Some(asked) = asked.take() {
                search.take(&asked)?;
            }
            let queries = start..filter.queries.len().min(start + room.queries);
            let thresholds: Vec<u32> = queries.clone().map(|query| search.threshold(query)).collect();
            search.device.ask(turn, stage.rows, queries.clone(), &thresholds)?;
            asked = Some(Asked { turn, queries, stage: stage.clone() });
        }
    }
    if let Some(asked) = asked {
        search.take(&asked)?;
    }
    Ok(search.found)
}

/// Rows that are searched together.
#[derive(Debug)]
struct Stage {
    rows: u32,
    /// Of each job, the rows before it in the stage, and its first row in the array.
    starts: Vec<(u32, u64)>,
}

impl Stage {
    /// The number in the array of a row of the stage.
    fn row(&self, row: u32) -> u64 {
        let after = self.starts.partition_point(|(start, _)| *start <= row);
        let (start, first_row) = self.starts[after - 1];
        first_row + u64::from(row - start)
    }
}

/// Cuts a batch, between rows.
fn stages<'p>(batch: &ScanBatch<'p>, most_rows: u32) -> Vec<(Vec<Job<'p>>, Stage)> {
    let mut stages: Vec<(Vec<Job<'p>>, Stage)> = Vec::new();
    for job in batch.jobs() {
        let mut rows = job.rows.clone();
        while !rows.is_empty() {
            if stages.last().is_none_or(|(_, stage)| stage.rows == most_rows) {
                stages.push((Vec::new(), Stage { rows: 0, starts: Vec::new() }));
            }
            let (jobs, stage) = stages.last_mut().expect("pushed if there was none");
            let count = (most_rows - stage.rows).min(rows.end - rows.start);
            let first_row = job.first_row + u64::from(rows.start - job.rows.start);
            stage.starts.push((stage.rows, first_row));
            jobs.push(Job {
                plan: job.plan,
                chunk: job.chunk,
                rows: rows.start..rows.start + count,
                dst_row: stage.rows.into(),
            });
            stage.rows += count;
            rows.start += count;
        }
    }
    stages
}

/// What was asked and not answered yet.
struct Asked {
    turn: usize,
    queries: Range<usize>,
    stage: std::rc::Rc<Stage>,
}

/// A row of a stage that may do for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    row: u32,
    query: usize,
    key: u32,
}

struct Search<'s, D> {
    filter: &'s Filter<'s>,
    room: Room,
    found: Found,
    device: &'s mut D,
}

impl<D: FilterDevice> Search<'_, D> {
    fn threshold(&self, query: usize) -> u32 {
        self.filter.threshold(query, self.found.tops[query].threshold())
    }

    /// Takes an answer.
    fn take(&mut self, asked: &Asked) -> Result<(), DecodeError> {
        let best = self.device.best()?;
        let record_words = usize::try_from(Room::record_words(self.room.kept.into())).expect("of some rows");
        let records = || asked.queries.clone().zip(best.chunks_exact(record_words));
        let most = self.room.kept;
        let kept = |record: &[u32]| -> Vec<(u32, u32)> {
            let count = record[0].min(most) as usize;
            record[2..].chunks_exact(2).take(count).map(|pair| (pair[0], pair[1])).collect()
        };
        let mut candidates = Vec::new();
        for (query, record) in records() {
            candidates.extend(kept(record).into_iter().map(|(row, key)| Candidate { row, query, key }));
        }
        self.score(asked, candidates)?;
        for (number, (query, record)) in records().enumerate() {
            let thrown_away = record[1];
            if thrown_away == DROPPED || thrown_away < self.threshold(query) {
                continue;
            }
            let mut seen: Vec<u32> = kept(record).into_iter().map(|(row, _)| row).collect();
            seen.sort_unstable();
            let keys = self.device.keys(number)?;
            let others = (0..).zip(keys).filter(|(row, _)| seen.binary_search(row).is_err());
            self.score(asked, others.map(|(row, key)| Candidate { row, query, key }).collect())?;
        }
        Ok(())
    }

    /// Gives exact scores to those that may still do.
    fn score(&mut self, asked: &Asked, mut candidates: Vec<Candidate>) -> Result<(), DecodeError> {
        let queries = self.filter.queries;
        let dim = queries.dim() as usize;
        candidates.sort_unstable();
        let mut rest = candidates.as_slice();
        let mut values: Vec<f32> = Vec::new();
        while !rest.is_empty() {
            // Thresholds have risen since.
            let may_do =
                |candidate: &&Candidate| candidate.key >= self.threshold(candidate.query).max(DROPPED + 1);
            let most = (SCORED_LEN / (4 * dim)).max(1);
            let mut rows: Vec<u32> = Vec::new();
            let taken = rest.iter().take_while(|candidate| {
                if rows.last() != Some(&candidate.row) && may_do(candidate) {
                    if rows.len() == most {
                        return false;
                    }
                    rows.push(candidate.row);
                }
                true
            });
            let (here, after) = rest.split_at(taken.count());
            rest = after;
            if rows.is_empty() {
                continue;
            }
            values.resize(rows.len() * dim, 0.0);
            self.device.values(asked.turn, &rows, &mut values)?;
            let mut at = 0;
            for candidate in here {
                while rows.get(at).is_some_and(|row| *row < candidate.row) {
                    at += 1;
                }
                // A row that nothing else wanted may have been left out.
                if rows.get(at) != Some(&candidate.row)
                    || candidate.key < self.threshold(candidate.query).max(DROPPED + 1)
                {
                    continue;
                }
                let values = RowSlice::new(&values[at * dim..(at + 1) * dim], dim).expect("one row");
                let score = queries.score(candidate.query, values);
                let row = asked.stage.row(candidate.row);
                self.found.offer(queries.metric(), candidate.query, row, score);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "rows are made of anything")]
mod tests {
    use std::sync::Arc;

    use cvc_format::{ChunkId, Parts};

    use super::*;
    use crate::backend::{Backend, BlockRun, HostBuffer, Payloads, SourceError};
    use crate::plan::{ChunkShape, DecodePlan, Load, Stream};
    use crate::reference::ReferenceBackend;
    use crate::scan::{Hit, Scan, ScanJob};

    /// What a device may do with f32, and what it keeps.
    #[derive(Clone, Copy, Debug)]
    struct Arithmetic {
        flushes: bool,
        fuses: bool,
        /// Sums side by side.
        lanes: usize,
        /// Units in the last place that roots and quotients are off by.
        ulps: i32,
    }

    impl Arithmetic {
        fn flushed(self, value: f32) -> f32 {
            if self.flushes && value.is_subnormal() { 0.0 } else { value }
        }

        fn product(self, a: &[f32], b: &[f32]) -> f32 {
            let mut sums = vec![0.0f32; self.lanes];
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                let (a, b) = (self.flushed(*a), self.flushed(*b));
                let sum = &mut sums[i % self.lanes];
                *sum = self.flushed(match self.fuses {
                    true => a.mul_add(b, *sum),
                    false => self.flushed(a * b) + *sum,
                });
            }
            sums.into_iter().fold(0.0, |sum, more| self.flushed(sum + more))
        }

        fn off(self, value: f32) -> f32 {
            f32::from_bits((value.to_bits() as i32 + self.ulps) as u32)
        }

        fn key(self, filter: &Filter<'_>, query: usize, row: &[f32]) -> u32 {
            let s = self.product(row, row);
            let bits = |value: f32| value.to_bits() & 0x7fff_ffff;
            if row.iter().any(|value| bits(*value) >= bits(LARGEST)) || !SQUARES.contains(&s) {
                return UNKNOWN;
            }
            let zeros = vec![0.0; row.len()];
            let p = self.product(filter.values(query).unwrap_or(&zeros), row);
            let slack = filter.slack(query);
            key(match filter.rule() {
                Rule::Cosine => self.off(1.0 / s.sqrt()) * p + slack,
                Rule::Dot => p + slack * self.off(s.sqrt()),
                Rule::Distance => 2.0 * p + slack * self.off(s.sqrt()) - filter.keep() * s,
            })
        }
    }

    /// A device on paper.
    struct Paper<'a> {
        filter: &'a Filter<'a>,
        room: Room,
        src: &'a Rows,
        arithmetic: Arithmetic,
        decoded: [Vec<f32>; 2],
        keys: Vec<Vec<u32>>,
        asked_for_keys: usize,
    }

    impl FilterDevice for Paper<'_> {
        fn decode(&mut self, turn: usize, batch: &Batch<'_>) -> Result<(), DecodeError> {
            assert!(batch.rows() <= u64::from(self.room.rows));
            self.decoded[turn] = vec![0.0; batch.rows() as usize * batch.dim() as usize];
            ReferenceBackend::default().decode(batch, self.src, &mut HostBuffer::new(&mut self.decoded[turn]))
        }

        fn ask(
            &mut self,
            turn: usize,
            rows: u32,
            queries: Range<usize>,
            thresholds: &[u32],
        ) -> Result<(), DecodeError> {
            assert!(queries.len() <= self.room.queries && thresholds.len() == queries.len());
            let dim = self.filter.queries.dim() as usize;
            let keys = |(query, threshold): (usize, &u32)| {
                let rows = self.decoded[turn].chunks_exact(dim).take(rows as usize);
                let keys = rows.map(|row| self.arithmetic.key(self.filter, query, row));
                keys.map(|key| if key < *threshold { DROPPED } else { key }).collect()
            };
            self.keys = queries.zip(thresholds).map(keys).collect();
            Ok(())
        }

        fn best(&mut self) -> Result<Vec<u32>, DecodeError> {
            let mut best = Vec::new();
            for keys in &self.keys {
                let mut pairs: Vec<(u32, u32)> =
                    (0..).zip(keys.iter().copied()).filter(|(_, key)| *key != DROPPED).collect();
                let count = pairs.len() as u32;
                pairs.sort_by_key(|(_, key)| core::cmp::Reverse(*key));
                let kept = self.room.kept as usize;
                best.extend([count, pairs.get(kept).map_or(DROPPED, |(_, key)| *key)]);
                pairs.resize(kept, (u32::MAX, 77));
                best.extend(pairs.into_iter().flat_map(|(row, key)| [row, key]));
            }
            Ok(best)
        }

        fn keys(&mut self, query: usize) -> Result<Vec<u32>, DecodeError> {
            self.asked_for_keys += 1;
            Ok(self.keys[query].clone())
        }

        fn values(&mut self, turn: usize, rows: &[u32], into: &mut [f32]) -> Result<(), DecodeError> {
            let dim = self.filter.queries.dim() as usize;
            assert!(rows.is_sorted_by(|row, next| row < next));
            for (row, into) in rows.iter().zip(into.chunks_exact_mut(dim)) {
                into.copy_from_slice(&self.decoded[turn][*row as usize * dim..][..dim]);
            }
            Ok(())
        }
    }

    /// Rows of floats as they are, which are all chunks there are.
    struct Rows(Vec<f32>);

    impl Payloads for Rows {
        fn borrow(&self, _: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError> {
            Ok(None)
        }

        fn read(&self, run: &BlockRun<'_>, into: &mut [u8]) -> Result<(), SourceError> {
            let bytes: Vec<u8> = self.0.iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut at = 0;
            for range in run.ranges() {
                let range = range.start as usize..range.end as usize;
                into[at..at + range.len()].copy_from_slice(&bytes[range.clone()]);
                at += range.len();
            }
            Ok(())
        }
    }

    /// Numbers that are the same in every run, about normally distributed.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f32 {
            let uniform = || {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 40) as f32 / (1 << 24) as f32
            };
            std::iter::repeat_with(uniform).take(6).sum::<f32>() - 3.0
        }

        fn vector(&mut self, dim: usize) -> Vec<f32> {
            (0..dim).map(|_| self.next()).collect()
        }
    }

    const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2sq];

    const ALL_KINDS: [Arithmetic; 4] = [
        Arithmetic { flushes: false, fuses: false, lanes: 1, ulps: 0 },
        Arithmetic { flushes: true, fuses: false, lanes: 1, ulps: 8 },
        Arithmetic { flushes: true, fuses: true, lanes: 4, ulps: -8 },
        Arithmetic { flushes: false, fuses: true, lanes: 32, ulps: 3 },
    ];

    #[test]
    fn no_row_is_better_than_its_bound() {
        let mut noise = Noise(1);
        let mut known = 0;
        for dim in [1, 3, 100, 768] {
            for (metric, trial) in
                METRICS.into_iter().flat_map(|metric| (0..400).map(move |trial| (metric, trial)))
            {
                let mut query = noise.vector(dim);
                // Rows near the query, so that everything but the last digits is alike.
                let near = 10f32.powi(-(trial % 8));
                let mut row: Vec<f32> = query.iter().map(|value| value + noise.next() * near).collect();
                if trial % 3 == 0 {
                    // Or at a right angle to it, so that large products cancel.
                    row = noise.vector(dim);
                    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                    let along = dot(&query, &row) / dot(&query, &query);
                    row.iter_mut().zip(&query).for_each(|(x, q)| *x -= along * q);
                }
                // At the ends of what f32 can multiply, where products are subnormal, and beyond.
                let scales = [1.0, 1e-15, 1e14, 3e-16, 1e-7, 1e25, 1e-40];
                let (by, query_by) = (scales[trial as usize % 7], scales[trial as usize / 7 % 7]);
                row.iter_mut().for_each(|value| *value *= by);
                query.iter_mut().for_each(|value| *value *= query_by);
                let queries = Queries::new(metric, RowSlice::new(&query, dim).unwrap()).unwrap();
                let filter = Filter::new(&queries, DType::F32).unwrap();
                let score = queries.score(0, RowSlice::new(&row, dim).unwrap());
                let threshold = filter.threshold(0, metric.goodness(score));
                for arithmetic in ALL_KINDS {
                    let key = arithmetic.key(&filter, 0, &row);
                    known += usize::from(key != UNKNOWN && threshold > 1);
                    assert!(
                        key >= threshold,
                        "{metric}, {dim}, {trial}, {arithmetic:?}: {key:#x} < {threshold:#x}"
                    );
                }
            }
        }
        assert!(known > 8000, "{known} bounds that mean anything");
    }

    #[test]
    fn keys_are_in_the_order_of_bounds() {
        let bounds =
            [f32::NEG_INFINITY, f32::MIN, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, f32::MAX, f32::INFINITY];
        assert!(bounds.is_sorted_by(|a, b| key(*a) < key(*b)));
        assert!(key(f32::MIN) > DROPPED + 1 && key(f32::INFINITY) < UNKNOWN);
        assert_eq!((key(f32::NAN), key(-f32::NAN)), (UNKNOWN, UNKNOWN));
    }

    /// The hits of the reference and those of a device on paper, and how often that was asked for all keys.
    fn compared(rows: Vec<f32>, dim: u32, queries: &[f32], k: usize, room: Room, metric: Metric) -> usize {
        let count = rows.len() as u32 / dim;
        let parts = Arc::new(Parts::packed(count, 4 * dim));
        let load = Load::Copy(DType::F32);
        let plan = DecodePlan::new(ChunkShape { rows: count, dim }, load, Stream::Stored, DType::F32, &parts)
            .unwrap();
        let src = Rows(rows);
        // The first rows are left out, and so are some in the middle.
        let job = |rows: Range<u32>| ScanJob {
            plan: &plan,
            chunk: ChunkId(0),
            first_row: 1000 + u64::from(rows.start),
            rows,
        };
        let batch =
            ScanBatch::new(vec![job(2..count / 2), job(count / 2 + 3..count)], dim, DType::F32).unwrap();
        let queries = Queries::new(metric, RowSlice::new(queries, dim as usize).unwrap()).unwrap();
        let filter = Filter::new(&queries, DType::F32).unwrap();
        let expected = ReferenceBackend::default().scan(&batch, &src, &queries, k).unwrap();
        let mut device = Paper {
            filter: &filter,
            room,
            src: &src,
            arithmetic: ALL_KINDS[2],
            decoded: Default::default(),
            keys: Vec::new(),
            asked_for_keys: 0,
        };
        let found = scan(&filter, room, &batch, k, &mut device).unwrap();
        assert_eq!(found.nan_rows, expected.nan_rows);
        let hits = |found: Found| -> Vec<Vec<Hit>> {
            found.tops.into_iter().map(|top| top.into_hits(metric)).collect()
        };
        assert!(found.scored <= expected.scored, "no row is scored twice");
        assert_eq!(hits(found), hits(expected));
        device.asked_for_keys
    }

    #[test]
    fn what_is_thrown_away_is_missed_by_nobody() {
        let mut noise = Noise(5);
        let (dim, count) = (12, 211);
        let queries = noise.vector(5 * dim);
        let mut asked_for_keys = [0; 3];
        for metric in METRICS {
            for (rows, kept, at_a_time) in [(7, 2, 2), (50, 10, 5), (300, 8, 1), (300, 300, 3)] {
                let room = Room { rows, queries: at_a_time, kept };
                let mut values = noise.vector(count * dim);
                asked_for_keys[0] += compared(values.clone(), dim as u32, &queries, 5, room, metric);
                // All alike.
                let alike: Vec<f32> = values[..dim].iter().copied().cycle().take(count * dim).collect();
                asked_for_keys[1] += compared(alike, dim as u32, &queries, 5, room, metric);
                // Rows that have no bound.
                for row in values.chunks_exact_mut(dim).step_by(3) {
                    row[4] = f32::NAN;
                }
                for row in values.chunks_exact_mut(dim).skip(1).step_by(5) {
                    row[1] = f32::NEG_INFINITY;
                }
                asked_for_keys[2] += compared(values.clone(), dim as u32, &queries, 5, room, metric);
                compared(values, dim as u32, &queries, 0, room, metric);
            }
        }
        assert!(asked_for_keys.iter().all(|times| *times > 0), "{asked_for_keys:?}");
    }

    #[test]
    fn rooms_are_within_what_there_is() {
        let values = vec![1.0; 40 * 100];
        let queries = Queries::new(Metric::Dot, RowSlice::new(&values, 100).unwrap()).unwrap();
        let filter = Filter::new(&queries, DType::F32).unwrap();
        let most = Most { decoded_len: 400 * 50, keys_len: 1 << 20, best_len: 1 << 20, queries_len: 1 << 20 };
        assert_eq!(Room::new(&filter, 10, most), Room { rows: 50, queries: 40, kept: 26 });
        assert_eq!(Room::new(&filter, 1000, most), Room { rows: 50, queries: 40, kept: 50 });
        assert_eq!(Room::new(&filter, 10, Most { keys_len: 50 * 4 * 7, ..most }).queries, 7);
        assert_eq!(Room::new(&filter, 10, Most { queries_len: 408 * 3, ..most }).queries, 3);
        let tight = Room::new(&filter, 10, Most { best_len: 8 * 6, ..most });
        assert_eq!(tight, Room { rows: 50, queries: 1, kept: 5 });
        let one = Most { decoded_len: 1, keys_len: 4, best_len: 16, queries_len: 4 };
        assert_eq!(Room::new(&filter, 10, one), Room { rows: 1, queries: 1, kept: 1 });
    }

    #[test]
    fn what_is_not_filtered_says_why() {
        let why = |metric, dim, dtype| why_not(metric, dim, dtype).unwrap_or_default();
        assert_eq!(why(Metric::Dot, 768, DType::F32), "");
        assert!(why(Metric::Js, 768, DType::F32).contains("js does not follow"));
        assert!(why(Metric::L2, 768, DType::F64).contains("f64 values"));
        assert!(why(Metric::L2, 1 << 20, DType::F32).contains("too far off"));
    }
}
