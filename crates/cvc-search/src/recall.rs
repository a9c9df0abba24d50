//! Recall: how many of the rows that are truly the nearest were found.
//!
//! Three things are counted here, and each says which it is:
//!
//! - [`by_rows`] compares numbers of rows: one that was found counts if it is among the `k` true ones. Of rows that are equally near only
//!   those that the truth happens to name count.
//! - [`by_scores`] compares true scores: a row that was found counts if its true score is not worse than the worst of the `k` true rows. Of
//!   rows that are equally near any will do. It is never less than the former, and needs the original rows to tell.
//! - [`ties`] says, where there are no originals, how much the first may be off: how often a true row was missed only because another has
//!   the very same score in the file, and a lower number.

use std::collections::HashSet;

use cvc::RowSlice;
use cvc::codec::scan::{Hit, Metric};
use cvc::{Chosen, DeviceChoice};
use thiserror::Error;

use crate::error::Error;
use crate::search::{Answer, Search, scores_of};

/// How many of the true rows were found, over all queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recall {
    /// Rows that count for each query.
    pub k: usize,
    /// Rows that were to be found: `k` for each query, or as many as the truth names.
    pub wanted: u64,
    /// Those that were found.
    pub found: u64,
    /// Those that were missed by no more than a tie ([`ties`]), where somebody looked.
    pub ties: u64,
}

impl Recall {
    /// The share that was found, from 0 to 1; `None` if there was nothing to be found.
    pub fn share(&self) -> Option<f64> {
        (self.wanted > 0).then(|| self.found as f64 / self.wanted as f64)
    }

    /// The share if ties counted, too.
    pub fn share_with_ties(&self) -> Option<f64> {
        Recall { found: self.found + self.ties, ..*self }.share()
    }
}

/// How many of the first `k` true rows of each query are among the first `k` that were found. Rows that stand in a list twice count once.
///
/// ```
/// use cvc_search::recall::by_rows;
///
/// // The second query found row 9 in the place of row 4.
/// let recall = by_rows(&[vec![7, 1], vec![9, 3]], &[vec![1, 7], vec![3, 4]], 2);
/// assert_eq!((recall.found, recall.wanted, recall.share()), (3, 4, Some(0.75)));
/// ```
///
/// # Panics
/// There are not as many lists of the one as of the other.
pub fn by_rows(found: &[Vec<u64>], truth: &[Vec<u64>], k: usize) -> Recall {
    assert_eq!(found.len(), truth.len(), "a list for each query");
    let mut recall = Recall { k, wanted: 0, found: 0, ties: 0 };
    for (found, truth) in found.iter().zip(truth) {
        let truth: HashSet<u64> = truth.iter().take(k).copied().collect();
        let found: HashSet<u64> = found.iter().take(k).copied().collect();
        recall.wanted += truth.len() as u64;
        recall.found += truth.intersection(&found).count() as u64;
    }
    recall
}

/// How many of the first `k` rows found for each query are as near as the first `k` true rows: no worse than the worst of them. Both
/// lists come with the *true* scores of their rows, by the originals ([`scores_of`]).
///
/// Rows that were found twice count once, and not more count than are wanted. A row whose true score is NaN never counts.
///
/// # Panics
/// There are not as many lists of the one as of the other.
pub fn by_scores(metric: Metric, found: &[Vec<Hit>], truth: &[Vec<Hit>], k: usize) -> Recall {
    assert_eq!(found.len(), truth.len(), "a list for each query");
    let mut recall = Recall { k, wanted: 0, found: 0, ties: 0 };
    for (found, truth) in found.iter().zip(truth) {
        let true_rows: HashSet<u64> = truth.iter().take(k).map(|hit| hit.row).collect();
        let goodness = |hit: &Hit| metric.goodness(hit.score);
        let worst = truth.iter().take(k).map(goodness).fold(f32::INFINITY, f32::min);
        let good = found.iter().take(k).filter(|hit| goodness(hit) >= worst);
        let good: HashSet<u64> = good.map(|hit| hit.row).collect();
        recall.wanted += true_rows.len() as u64;
        recall.found += good.len().min(true_rows.len()) as u64;
    }
    recall
}

/// How many true rows were missed by no more than a tie, over all queries: each has the score, in the file, of the last of the `k` rows
/// that were found, and some row of that score stands in its place. Both lists come with the scores of the rows in the *file*.
///
/// So recall by rows lies between what [`by_rows`] says and that plus these, depending on which of equal rows the truth names.
///
/// # Panics
/// There are not as many lists of the one as of the other.
pub fn ties(found: &[Vec<Hit>], truth: &[Vec<Hit>], k: usize) -> u64 {
    assert_eq!(found.len(), truth.len(), "a list for each query");
    let mut tied = 0;
    for (found, truth) in found.iter().zip(truth) {
        let (found, truth) = (&found[..found.len().min(k)], &truth[..truth.len().min(k)]);
        let Some(last) = found.last() else { continue };
        // How many of the one with this score the other has not.
        let alone = |these: &[Hit], others: &[Hit]| {
            let others: HashSet<u64> = others.iter().map(|hit| hit.row).collect();
            let alone = these.iter().filter(|hit| hit.score == last.score && !others.contains(&hit.row));
            alone.map(|hit| hit.row).collect::<HashSet<u64>>().len() as u64
        };
        tied += alone(truth, found).min(alone(found, truth));
    }
    tied
}

/// The true rows of each query, the nearest first, as they stand in a file of `width` numbers for each query. Lists may be shorter than
/// that: -1 stands where there was no other row.
///
/// # Errors
/// A number is no row of an array of `rows` rows.
pub fn truth_of(
    numbers: impl IntoIterator<Item = i64>,
    width: usize,
    rows: u64,
) -> Result<Vec<Vec<u64>>, TruthError> {
    let mut truth: Vec<Vec<u64>> = Vec::new();
    for (at, number) in numbers.into_iter().enumerate() {
        let (query, place) = (at / width, at % width);
        if place == 0 {
            truth.push(Vec::new());
        }
        match u64::try_from(number) {
            Ok(row) if row < rows => truth[query].push(row),
            Err(_) if number == -1 => {}
            _ => return Err(TruthError::Row { query, place, number, rows }),
        }
    }
    Ok(truth)
}

/// A truth that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TruthError {
    /// A row that there is none of.
    #[error(
        "place {place} of query {query} names row {number}, and the array has rows 0..{rows}: give the truth for these rows, with -1 where a \
         list is shorter"
    )]
    Row {
        /// Which query.
        query: usize,
        /// Where in its list.
        place: usize,
        /// The number.
        number: i64,
        /// Rows of the array.
        rows: u64,
    },
    /// It speaks of other queries.
    #[error(
        "the truth has lists for {truth} queries, and there are {queries} queries: give those that it was made for"
    )]
    Queries {
        /// Lists of the truth.
        truth: usize,
        /// How many queries there are.
        queries: usize,
    },
    /// Its lists are too short.
    #[error(
        "the truth names {width} rows for each query, too few for the first {k}: ask for fewer, or make a longer one"
    )]
    Short {
        /// How long they are.
        width: usize,
        /// How long they ought to be.
        k: usize,
    },
    /// Originals that are not those of the array.
    #[error(
        "the originals are {rows} rows of {dim} values, and the array has {array_rows} rows of {array_dim}: give the rows that it was made of"
    )]
    Originals {
        /// How many there are.
        rows: u64,
        /// Values of each.
        dim: u32,
        /// Rows of the array.
        array_rows: u64,
        /// Values of each.
        array_dim: u32,
    },
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Numbers of rows: [`by_rows`].
    Rows,
    /// True scores: [`by_scores`].
    Scores,
}

impl Counted {
    /// `rows` or `scores`.
    pub const fn name(self) -> &'static str {
        match self {
            Counted::Rows => "rows",
            Counted::Scores => "scores",
        }
    }
}

/// The recall of a search, and the search.
#[derive(Debug)]
#[non_exhaustive]
pub struct Measured {
    /// What was counted.
    pub counted: Counted,
    /// Recall for each length of list that was asked for; with ties, unless scores were counted.
    pub at: Vec<Recall>,
    /// What was found.
    pub answer: Answer,
    /// Where.
    pub chosen: Chosen,
}

/// Gives the true score of a row for a query, which come in this order.
pub type TrueScore<'a> = dyn FnMut(usize, u64) -> Result<f32, Error> + 'a;

/// Runs a search and counts what it found of the truth, for lists of each length of `ks`: by true scores if `true_score` can tell them, else by
/// rows.
///
/// # Errors
/// As [`Search::run_on`], and a truth that does not fit.
pub fn measure(
    search: &Search<'_>,
    choice: &DeviceChoice,
    queries: RowSlice<'_>,
    truth: &[Vec<u64>],
    ks: &[usize],
    true_score: Option<&mut TrueScore<'_>>,
) -> Result<Measured, Error> {
    if truth.len() != queries.len() {
        return Err(TruthError::Queries { truth: truth.len(), queries: queries.len() }.into());
    }
    let most = ks.iter().copied().max().unwrap_or(0);
    let (answer, chosen) = search.clone().k(most).run_on(choice, queries)?;
    let truth: Vec<Vec<u64>> = truth.iter().map(|rows| rows.iter().take(most).copied().collect()).collect();
    let rows_of = |hits: &[Vec<Hit>]| -> Vec<Vec<u64>> {
        hits.iter().map(|hits| hits.iter().map(|hit| hit.row).collect()).collect()
    };
    let (counted, at) = match true_score {
        None => {
            let found = rows_of(&answer.hits);
            let in_file = scores_of(search.scored_by(), answer.metric, queries, &truth)?;
            let at = ks.iter().map(|k| {
                let ties = ties(&answer.hits, &in_file, *k);
                Recall { ties, ..by_rows(&found, &truth, *k) }
            });
            (Counted::Rows, at.collect())
        }
        Some(score) => {
            let mut scored = |rows: &[Vec<u64>]| -> Result<Vec<Vec<Hit>>, Error> {
                let of_query = |(query, rows): (usize, &Vec<u64>)| {
                    rows.iter().map(|row| Ok(Hit { row: *row, score: score(query, *row)? })).collect()
                };
                rows.iter().enumerate().map(of_query).collect()
            };
            let (found, truth) = (scored(&rows_of(&answer.hits))?, scored(&truth)?);
            let at = ks.iter().map(|k| by_scores(answer.metric, &found, &truth, *k));
            (Counted::Scores, at.collect())
        }
    };
    Ok(Measured { counted, at, answer, chosen })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(pairs: &[(u64, f32)]) -> Vec<Hit> {
        pairs.iter().map(|(row, score)| Hit { row: *row, score: *score }).collect()
    }

    fn counts(recall: Recall) -> (u64, u64) {
        (recall.found, recall.wanted)
    }

    #[test]
    fn rows_count_once_and_only_within_the_first_k() {
        let truth = [vec![1, 2, 3, 4]];
        assert_eq!(counts(by_rows(&[vec![2, 1, 9, 3]], &truth, 2)), (2, 2));
        assert_eq!(counts(by_rows(&[vec![9, 8, 1, 2]], &truth, 2)), (0, 2));
        assert_eq!(counts(by_rows(&[vec![1, 1, 1, 1]], &truth, 4)), (1, 4));
        // Found in another order than they are near: it is the set that counts.
        assert_eq!(counts(by_rows(&[vec![4, 3, 2, 1]], &truth, 4)), (4, 4));
        // Lists that end early, of the one or of the other.
        assert_eq!(counts(by_rows(&[vec![1]], &truth, 4)), (1, 4));
        assert_eq!(counts(by_rows(&[vec![9, 1, 2]], &[vec![1]], 3)), (1, 1));
        assert_eq!(by_rows(&[vec![9]], &[vec![]], 3).share(), None);
    }

    #[test]
    fn rows_that_are_as_near_count_by_score() {
        // Rows 3 and 7 are equally far, and the truth names the former.
        let truth = [hits(&[(1, 0.5), (3, 1.0)])];
        let found = [hits(&[(1, 0.5), (7, 1.0)])];
        assert_eq!(counts(by_scores(Metric::L2, &found, &truth, 2)), (2, 2));
        assert_eq!(counts(by_scores(Metric::L2, &[hits(&[(1, 0.5), (7, 1.0001)])], &truth, 2)), (1, 2));
        assert_eq!(counts(by_scores(Metric::L2, &found, &truth, 1)), (1, 1));
        // The largest is best here.
        let truth = [hits(&[(1, 0.9), (3, 0.5)])];
        assert_eq!(counts(by_scores(Metric::Dot, &[hits(&[(8, 0.6), (9, 0.4)])], &truth, 2)), (1, 2));
    }

    #[test]
    fn counting_by_score_is_never_less_and_never_more_than_wanted() {
        // A truth in an order that scores do not bear out: rounded, or of another metric.
        let truth = [hits(&[(1, 1.0), (2, 0.5)])];
        assert_eq!(counts(by_scores(Metric::L2, &[hits(&[(1, 1.0), (2, 0.5)])], &truth, 2)), (2, 2));
        let shorter = [hits(&[(1, 1.0)])];
        assert_eq!(counts(by_scores(Metric::L2, &[hits(&[(1, 1.0), (2, 0.5)])], &shorter, 2)), (1, 1));
        assert_eq!(counts(by_scores(Metric::L2, &[hits(&[(1, 1.0), (1, 1.0)])], &truth, 2)), (1, 2));
        let nothing = [hits(&[(1, f32::NAN)])];
        assert_eq!(counts(by_scores(Metric::L2, &nothing, &truth, 2)), (0, 2));
    }

    #[test]
    fn a_tie_is_a_true_row_that_lost_by_its_number_alone() {
        // Row 9 is missed: row 4 has its score in the file.
        let found = [hits(&[(1, 0.5), (4, 1.0)])];
        assert_eq!(ties(&found, &[hits(&[(1, 0.5), (9, 1.0)])], 2), 1);
        // It was not so near in the file: no tie.
        assert_eq!(ties(&found, &[hits(&[(1, 0.5), (9, 1.5)])], 2), 0);
        // Two are missed, but only one place is held by a row of that score.
        assert_eq!(ties(&[hits(&[(1, 0.5), (4, 1.0)])], &[hits(&[(8, 1.0), (9, 1.0)])], 2), 1);
        assert_eq!(ties(&found, &[hits(&[(1, 0.5), (4, 1.0)])], 2), 0);
        assert_eq!(ties(&[hits(&[])], &[hits(&[(1, 0.5)])], 2), 0);
    }

    #[test]
    fn a_truth_names_rows_that_there_are() {
        assert_eq!(truth_of([3, 0, 1, -1], 2, 4).unwrap(), [vec![3, 0], vec![1]]);
        assert_eq!(truth_of([], 2, 4).unwrap(), Vec::<Vec<u64>>::new());
        let error = truth_of([3, 0, 1, 4], 2, 4).unwrap_err();
        assert_eq!(error, TruthError::Row { query: 1, place: 1, number: 4, rows: 4 });
        assert!(truth_of([-2], 1, 4).unwrap_err().to_string().contains("-1 where a list is shorter"));
    }
}
