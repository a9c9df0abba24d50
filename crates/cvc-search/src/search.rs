//! One search, as it is asked for.

use std::fmt;
use std::ops::Range;

use cvc::codec::scan::{Found, Hit, Metric, Queries};
use cvc::{AlignedBytes, AnyBackend, Array, Chosen, CpuBackend, DType, DeviceChoice, RowSlice, Rows};

use crate::error::Error;

/// Bytes of decoded rows that rescoring holds at a time.
const RESCORED_LEN: usize = 16 << 20;

/// Products of a value of a row and one of a query that are made before the caller is asked whether to go on, unless one chunk needs
/// more: seconds on a slow processor.
const ASKED_EVERY: u64 = 1 << 34;

/// Answers that a table may have: 24 GiB of them.
const MOST_ANSWERS: usize = 1 << 31;

/// A search that can be run for any queries.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    array: Array<'a>,
    metric: Metric,
    k: usize,
    rows: Vec<Rows>,
    rescore: Option<(Array<'a>, usize)>,
    backend: Option<&'a AnyBackend>,
    go_on: Option<Asked<'a>>,
}

/// Whether to go on.
#[derive(Clone, Copy)]
struct Asked<'a>(&'a (dyn Fn() -> bool + Sync));

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The metric of the scores.
    pub metric: Metric,
    /// For each query its best rows, the best first: `k` of them, or as many as there are rows with a score.
    pub hits: Vec<Vec<Hit>>,
    /// For each query, how many rows have no score, because they hold NaN.
    pub nan_rows: Vec<u64>,
    /// Pairs of a query and a row that were looked at closely; the others were ruled out by a bound.
    pub scored: u64,
}

/// Answers as a matrix: `k` for each query, whatever was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// Rows for each query.
    pub k: usize,
    /// Numbers of rows, query after query; -1 where there was no other row.
    pub indices: Vec<i64>,
    /// Their scores; NaN where there was no other row, and nowhere else.
    pub scores: Vec<f32>,
}

impl<'a> Search<'a> {
    /// The ten best of all rows of an array, on the processor.
    pub fn new(array: Array<'a>, metric: Metric) -> Self {
        Search { array, metric, k: 10, rows: Vec::new(), rescore: None, backend: None, go_on: None }
    }

    /// So many rows for each query.
    #[must_use]
    pub fn k(self, k: usize) -> Self {
        Search { k, ..self }
    }

    /// Only among these rows: ranges, single rows, or those of sections ([`cvc::Reader::find`]). Their order does not matter. If this is
    /// said more than once, only rows that were meant every time are.
    #[must_use]
    pub fn rows(mut self, rows: impl Into<Rows>) -> Self {
        self.rows.push(rows.into());
        self
    }

    /// In two stages: the best `candidates` rows of this search's array are scored again by `array`, which holds the same vectors in
    /// another codec, and the best of those are the answer. It is approximate: a row that is not among the candidates is not found.
    #[must_use]
    pub fn rescore(self, array: Array<'a>, candidates: usize) -> Self {
        Search { rescore: Some((array, candidates)), ..self }
    }

    /// How many candidates to rescore for `k` rows, for those who do not say: ten for each, and a hundred at least.
    pub fn candidates_for(k: usize) -> usize {
        k.saturating_mul(10).max(100)
    }

    /// Asks from time to time, on the thread that searches, whether to go on. If not, the search fails with [`Error::Stopped`].
    #[must_use]
    pub fn while_true(self, go_on: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Search { go_on: Some(Asked(go_on)), ..self }
    }

    /// On this device.
    #[must_use]
    pub fn on(self, backend: &'a AnyBackend) -> Self {
        Search { backend: Some(backend), ..self }
    }

    /// The best rows for each query: rows of the dim of the array, of any real dtype, or of bytes for a metric of bits.
    ///
    /// # Errors
    /// Queries that make no sense for the metric or the array, rows that do not exist, damage, a device that cannot do it.
    pub fn run(&self, queries: RowSlice<'_>) -> Result<Answer, Error> {
        let queries = Queries::new(self.metric, queries)?;
        let Some((array, candidates)) = &self.rescore else {
            return Ok(self.answer(self.scan(&queries, self.k)?));
        };
        let (of, by) = (self.array.index(), array.index());
        if (self.array.rows(), self.array.dim()) != (array.rows(), array.dim()) {
            return Err(Error::Rescore {
                array: of.name.clone(),
                rows: self.array.rows(),
                dim: self.array.dim(),
                rescore: by.name.clone(),
                rescore_rows: array.rows(),
                rescore_dim: array.dim(),
            });
        }
        let coarse = self.scan(&queries, (*candidates).max(self.k))?;
        let fine = rescored(array, &queries, self.k, coarse)?;
        Ok(self.answer(fine))
    }

    /// As [`Search::run`], on a device of this choice. Automatic choice passes over a device that cannot do it; another one never falls
    /// back. What was chosen comes with the answer.
    ///
    /// # Errors
    /// As [`Search::run`], and if the device cannot be had.
    pub fn run_on(&self, choice: &DeviceChoice, queries: RowSlice<'_>) -> Result<(Answer, Chosen), Error> {
        let run = |backend: &AnyBackend| Search::on(self.clone(), backend).run(queries);
        cvc::choose_for(choice, run, Error::unsupported).map(|(chosen, answer)| (answer, chosen))
    }

    fn scan(&self, queries: &Queries<'_>, k: usize) -> Result<Found, Error> {
        let rows = self.searched()?;
        let Some(Asked(go_on)) = self.go_on else { return self.scan_rows(rows, queries, k) };
        let mut found = Found::new(queries.len(), k);
        for rows in windows(&self.array, &rows, queries.len()) {
            if !go_on() {
                return Err(Error::Stopped);
            }
            found.merge(&self.scan_rows(rows, queries, k)?);
        }
        Ok(found)
    }

    fn scan_rows(&self, rows: Vec<Range<u64>>, queries: &Queries<'_>, k: usize) -> Result<Found, Error> {
        Ok(match self.backend {
            Some(backend) => backend.scan(&self.array, rows, queries, k)?,
            None => self.array.scan(&CpuBackend::new(), rows, queries, k)?,
        })
    }

    /// The array that has the last word on scores: the one that rescores, or the one that is searched.
    pub(crate) fn scored_by(&self) -> &Array<'a> {
        self.rescore.as_ref().map_or(&self.array, |(array, _)| array)
    }

    /// The rows that are searched, in ascending order.
    ///
    /// # Errors
    /// There are no such rows.
    pub fn searched(&self) -> Result<Vec<Range<u64>>, Error> {
        let all = self.array.rows();
        let mut searched = vec![0..all];
        for rows in &self.rows {
            searched = common(&searched, &in_order(rows.resolve(all)?));
        }
        Ok(searched)
    }

    fn answer(&self, found: Found) -> Answer {
        let hits = found.tops.into_iter().map(|top| top.into_hits(self.metric)).collect();
        Answer { metric: self.metric, hits, nan_rows: found.nan_rows, scored: found.scored }
    }
}

impl Answer {
    /// The answers as a matrix of `k` for each query.
    ///
    /// # Errors
    /// They are more than fit in memory.
    pub fn table(&self, k: usize) -> Result<Table, Error> {
        let too_many = || Error::Answers { queries: self.hits.len(), k };
        let len = self.hits.len().checked_mul(k).filter(|len| *len <= MOST_ANSWERS).ok_or_else(too_many)?;
        let (mut indices, mut scores) = (Vec::new(), Vec::new());
        indices.try_reserve_exact(len).map_err(|_| too_many())?;
        scores.try_reserve_exact(len).map_err(|_| too_many())?;
        for hits in &self.hits {
            let end = indices.len() + k;
            // Rows of files are counted in 64 bits, of which no file needs the last.
            indices.extend(hits.iter().take(k).map(|hit| i64::try_from(hit.row).unwrap_or(i64::MAX)));
            scores.extend(hits.iter().take(k).map(|hit| hit.score));
            indices.resize(end, -1);
            scores.resize(end, f32::NAN);
        }
        Ok(Table { k, indices, scores })
    }
}

/// The exact scores of some rows of an array, whatever a search would find: those named for each query, in the same order. Each row is
/// read once.
///
/// # Errors
/// As [`Search::run`].
///
/// # Panics
/// There are not as many lists as queries.
pub fn scores_of(
    array: &Array<'_>,
    metric: Metric,
    queries: RowSlice<'_>,
    rows: &[Vec<u64>],
) -> Result<Vec<Vec<Hit>>, Error> {
    assert_eq!(rows.len(), queries.len(), "a list for each query");
    let queries = Queries::new(metric, queries)?;
    let mut pairs = Vec::new();
    for (query, rows) in rows.iter().enumerate() {
        pairs.extend(rows.iter().enumerate().map(|(place, row)| (*row, (query, place))));
    }
    let empty = Hit { row: 0, score: f32::NAN };
    let mut hits: Vec<Vec<Hit>> = rows.iter().map(|rows| vec![empty; rows.len()]).collect();
    score_pairs(
        array,
        &queries,
        pairs,
        |(query, _)| *query,
        |(query, place), row, score| {
            hits[*query][*place] = Hit { row, score };
        },
    )?;
    Ok(hits)
}

/// The first `dim` values of each row, for queries of an array of which only these are searched ([`Array::prefix`]).
///
/// # Panics
/// The rows have fewer values.
pub fn first_values(rows: RowSlice<'_>, dim: usize) -> AlignedBytes {
    assert!(dim <= rows.dim(), "{dim} values of {}", rows.dim());
    let (from_len, to_len) = (rows.dim() * rows.dtype().size(), dim * rows.dtype().size());
    let mut first = AlignedBytes::new();
    first.resize(rows.len() * to_len);
    if to_len > 0 {
        let pairs = first.bytes_mut().chunks_exact_mut(to_len).zip(rows.bytes().chunks_exact(from_len));
        pairs.for_each(|(to, from)| to.copy_from_slice(&from[..to_len]));
    }
    first
}

/// The candidates with their scores by `array`.
fn rescored(array: &Array<'_>, queries: &Queries<'_>, k: usize, coarse: Found) -> Result<Found, Error> {
    let metric = queries.metric();
    let mut fine = Found { nan_rows: coarse.nan_rows, ..Found::new(queries.len(), k) };
    let mut pairs: Vec<(u64, usize)> = Vec::new();
    for (query, top) in coarse.tops.into_iter().enumerate() {
        pairs.extend(top.into_hits(metric).into_iter().map(|hit| (hit.row, query)));
    }
    score_pairs(
        array,
        queries,
        pairs,
        |query| *query,
        |query, row, score| fine.offer(metric, *query, row, score),
    )?;
    fine.scored += coarse.scored;
    Ok(fine)
}

/// The exact scores of pairs of a row and something that has a query, by ascending rows, each row read once.
fn score_pairs<T: Ord + Sync>(
    array: &Array<'_>,
    queries: &Queries<'_>,
    mut pairs: Vec<(u64, T)>,
    query_of: impl Fn(&T) -> usize + Sync,
    mut scored: impl FnMut(&T, u64, f32),
) -> Result<(), Error> {
    pairs.sort_unstable();
    let dtype = array.dtype()?;
    let dtype = Queries::row_dtype(queries.metric(), dtype)?;
    let dim = array.dim() as usize;
    let row_len = dim * dtype.size();
    let at_a_time = (RESCORED_LEN / row_len.max(1)).max(1);
    let mut rows: Vec<u64> = pairs.iter().map(|(row, _)| *row).collect();
    rows.dedup();
    let mut rest = pairs.as_slice();
    for rows in rows.chunks(at_a_time) {
        let values = read(array, rows, dtype)?;
        let last = rows.last().expect("chunks are not empty");
        let (of_rows, after) = rest.split_at(rest.partition_point(|(row, _)| row <= last));
        rest = after;
        let scores = in_parallel(of_rows, |(row, of)| {
            let at = rows.binary_search(row).expect("a row of these");
            let values = &values.bytes()[at * row_len..(at + 1) * row_len];
            let values =
                RowSlice::from_bytes(dtype, 1, dim, values).expect("one row, aligned as all of them");
            queries.score(query_of(of), values)
        });
        for ((row, of), score) in of_rows.iter().zip(scores) {
            scored(of, *row, score);
        }
    }
    Ok(())
}

/// What `work` makes of each item, in order, on all cores.
#[cfg(feature = "rayon")]
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> f32 + Sync) -> Vec<f32> {
    use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
    items.par_iter().map(&work).collect()
}

/// What `work` makes of each item, in order.
#[cfg(not(feature = "rayon"))]
fn in_parallel<T>(items: &[T], work: impl Fn(&T) -> f32) -> Vec<f32> {
    items.iter().map(work).collect()
}

/// Rows of an array, whatever their dtype.
fn read(array: &Array<'_>, rows: &[u64], dtype: DType) -> Result<AlignedBytes, Error> {
    let mut values = AlignedBytes::new();
    values.resize(array.decoded_len(rows, dtype)?);
    let mut buffer = cvc::HostBuffer::from_bytes(dtype, values.bytes_mut()).map_err(cvc::Error::from)?;
    array.decode(&CpuBackend::new(), rows, dtype, &mut buffer)?;
    Ok(values)
}

/// Ranges sorted, with those made one that touch or overlap.
fn in_order(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// What two lists of ranges have in common, both sorted and without overlaps.
fn common(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut common = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(one), Some(other)) = (a.get(i), b.get(j)) {
        let both = one.start.max(other.start)..one.end.min(other.end);
        if !both.is_empty() {
            common.push(both);
        }
        if one.end <= other.end { i += 1 } else { j += 1 }
    }
    common
}

/// The rows in parts that end where chunks do, each enough work that asking in between costs nothing.
fn windows(array: &Array<'_>, rows: &[Range<u64>], queries: usize) -> Vec<Vec<Range<u64>>> {
    let work_of_row = u64::from(array.dim()).saturating_mul(queries as u64).max(1);
    let mut windows = Vec::new();
    let (mut start, mut work) = (0, 0u64);
    let mut cut = |end: u64| {
        let part = common(rows, std::slice::from_ref(&(start..end)));
        start = end;
        if !part.is_empty() {
            windows.push(part);
        }
    };
    for chunk in &array.index().chunks {
        work = work.saturating_add(work_of_row.saturating_mul(chunk.rows.end - chunk.rows.start));
        if work >= ASKED_EVERY {
            cut(chunk.rows.end);
            work = 0;
        }
    }
    cut(u64::MAX);
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvc::{Layout, Reader, WriteOptions, Writer};

    #[test]
    fn rows_that_were_meant_every_time_are_searched() {
        assert_eq!(in_order(vec![7..9, 0..3, 2..5, 5..6, 4..4]), [0..6, 7..9]);
        assert_eq!(common(&[0..6, 7..9], &[2..3, 5..8]), [2..3, 5..6, 7..8]);
        assert_eq!(common(&[0..6], &[6..9]), []);
    }

    /// 40 rows of one value, their number, in chunks of four.
    fn numbers() -> Reader {
        let values: Vec<f32> = (0..40u8).map(f32::from).collect();
        let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 1, "raw").unwrap();
        let mut writer = Writer::in_memory(options.chunk_rows(4).unwrap()).unwrap();
        writer.write_vectors(RowSlice::new(&values, 1).unwrap()).unwrap();
        Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap()
    }

    fn rows_of(answer: &Answer) -> Vec<u64> {
        answer.hits[0].iter().map(|hit| hit.row).collect()
    }

    #[test]
    fn the_caller_can_stop_a_search_and_asking_changes_nothing() {
        let reader = numbers();
        let query = [17.25];
        let query = RowSlice::new(&query, 1).unwrap();
        let search = Search::new(reader.vectors().unwrap(), Metric::L2).k(3);
        let plain = search.run(query).unwrap();
        assert_eq!(rows_of(&plain), [17, 18, 16]);
        assert_eq!(search.clone().while_true(&|| true).run(query).unwrap().hits, plain.hits);
        let stopped = search.while_true(&|| false).run(query).unwrap_err();
        assert!(matches!(stopped, Error::Stopped) && !stopped.is_usage());
    }

    #[test]
    fn parts_end_where_chunks_do_and_hold_every_row_once() {
        let reader = numbers();
        let array = reader.vectors().unwrap();
        let few = windows(&array, &[1..6, 9..39], usize::try_from(ASKED_EVERY / 8).unwrap());
        assert_eq!(few, [vec![1..6], vec![9..16], vec![16..24], vec![24..32], vec![32..39]]);
        assert_eq!(windows(&array, &[1..6, 9..39], 1), [vec![1..6, 9..39]]);
        assert!(windows(&array, &[], 1).is_empty());
    }

    #[test]
    fn ranges_said_twice_are_cut_by_each_other() {
        let reader = numbers();
        let search =
            Search::new(reader.vectors().unwrap(), Metric::L2).k(3).rows(4..20).rows(vec![18..30, 10..12]);
        assert_eq!(search.searched().unwrap(), [10..12, 18..20]);
        assert_eq!(rows_of(&search.run(RowSlice::new(&[0.0f32], 1).unwrap()).unwrap()), [10, 11, 18]);
        assert!(search.rows(30..41).searched().unwrap_err().is_usage());
    }

    #[test]
    fn a_table_is_padded() {
        let reader = numbers();
        let search = Search::new(reader.vectors().unwrap(), Metric::L2).k(3).rows(4..6);
        let answer = search.run(RowSlice::new(&[0.0f32, 9.0], 1).unwrap()).unwrap();
        let table = answer.table(3).unwrap();
        assert_eq!(table.indices, [4, 5, -1, 5, 4, -1]);
        assert_eq!(table.scores[..2], [4.0, 5.0]);
        assert!(table.scores[2].is_nan() && table.scores[5].is_nan());
        assert!(answer.table(usize::MAX).unwrap_err().is_usage());
        assert!(answer.table(MOST_ANSWERS).unwrap_err().to_string().contains("2 queries"));
    }

    #[test]
    fn rows_can_be_scored_by_name() {
        let reader = numbers();
        let queries = [1.0f32, 5.0];
        let rows = [vec![39, 0, 39], vec![]];
        let hits =
            scores_of(&reader.vectors().unwrap(), Metric::L2, RowSlice::new(&queries, 1).unwrap(), &rows);
        let hit = |row, score| Hit { row, score };
        assert_eq!(hits.unwrap(), [vec![hit(39, 38.0), hit(0, 1.0), hit(39, 38.0)], vec![]]);
    }

    #[test]
    fn the_first_values_of_rows() {
        let values = [1u16, 2, 3, 4, 5, 6];
        let first = first_values(RowSlice::new(&values, 3).unwrap(), 2);
        assert_eq!(first.bytes(), [1u16, 2, 4, 5].map(u16::to_ne_bytes).as_flattened());
        assert!(first_values(RowSlice::new(&values, 3).unwrap(), 0).bytes().is_empty());
    }
}
