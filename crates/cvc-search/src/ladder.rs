//! The ladder: which codec is the cheapest that still finds what is near, measured on a sample of the rows that are to be packed.
//!
//! ```text
//! sample ─┬─ held out: queries ─────────────────────────┐
//!         └─ the others ─┬─ raw, in memory ─▶ true rows ─┼─▶ recall@10 by distance, for each codec
//!                        └─ int8, fp16, ..., in memory ──┘
//! ```
//!
//! What is measured is the sample: among more rows the nearest lie closer together, and recall is somewhat less.

use cvc::codec::find;
use cvc::codec::scan::{Metric, Queries};
use cvc::format::cvcf::VECTORS;
use cvc::{AlignedBytes, ArrayOptions, Layout, NonFinite, Reader, RowSlice, WriteOptions, Writer};

use crate::error::Error;
use crate::recall::{Recall, by_scores};
use crate::search::{Search, scores_of};

/// Codecs from coarse to exact. Those that this version does not have are left out of [`rungs`].
const RUNGS: [&str; 5] = ["int4", "int8", "fp16", "lossless", "raw"];

/// Rows of a sample.
pub const SAMPLE_ROWS: usize = 20_000;

/// Rows of a sample that are held out as queries, at most.
pub const HELD_OUT: usize = 200;

/// Rows that recall is measured for.
pub const K: usize = 10;

/// The codecs that are tried, from coarse to exact.
pub fn rungs() -> impl Iterator<Item = &'static str> {
    RUNGS.into_iter().filter(|name| find(name).is_ok())
}

/// What was measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ladder {
    /// The least recall that will do.
    pub target: f64,
    /// What near means.
    pub metric: Metric,
    /// Rows that were searched.
    pub rows: usize,
    /// Queries that they were searched for.
    pub queries: usize,
    /// Each codec, from coarse to exact.
    pub rungs: Vec<Rung>,
    /// Which of them is the cheapest that reaches the target; none if all that do refuse the rows.
    pub chosen: Option<usize>,
}

/// One codec.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rung {
    /// Its name.
    pub codec: &'static str,
    /// What it did, or why it cannot hold these rows.
    pub measured: Result<Rate, String>,
}

/// What a codec does to the sample.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rate {
    /// Bytes for each value, parameters and checksums included.
    pub bytes_per_value: f64,
    /// Recall, counted by distance in the original rows.
    pub recall: Recall,
}

/// The rows of a sample of at most `most` of `rows` rows, in ascending order: spread evenly, one drawn from each stretch. The same numbers
/// give the same sample.
pub fn sample(rows: u64, most: usize) -> Vec<u64> {
    let count = rows.min(most as u64);
    let start = |stretch: u64| {
        let start = u128::from(stretch) * u128::from(rows) / u128::from(count);
        u64::try_from(start).expect("no more than the rows")
    };
    // A stretch has at least one row. What is drawn need not be secret, only unlike any pattern of the rows.
    (0..count)
        .map(|stretch| start(stretch) + mixed(stretch) % (start(stretch + 1) - start(stretch)))
        .collect()
}

/// The finaliser of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// Measures each codec on a sample of rows. Without queries some of the rows are held out for that.
///
/// # Errors
/// Rows or queries that the metric is not for, or too few of them.
pub fn measure(
    sample: RowSlice<'_>,
    queries: Option<RowSlice<'_>>,
    metric: Metric,
    target: f64,
    nonfinite: NonFinite,
) -> Result<Ladder, Error> {
    // Whether any row can be a query.
    Queries::new(metric, sample.slice(0..0))?;
    let (held_out, others) = match queries {
        Some(_) => (Vec::new(), (0..sample.len()).collect()),
        None => held_out(sample, metric),
    };
    let (searched, held_out) = (gathered(sample, &others), gathered(sample, &held_out));
    let of = |bytes: &'_ AlignedBytes| {
        let row_len = (sample.dim() * sample.dtype().size()).max(1);
        bytes.bytes().len() / row_len
    };
    let rows = RowSlice::from_bytes(sample.dtype(), of(&searched), sample.dim(), searched.bytes())
        .map_err(cvc::Error::from)?;
    let queries = match queries {
        Some(queries) => queries,
        None => RowSlice::from_bytes(sample.dtype(), of(&held_out), sample.dim(), held_out.bytes())
            .map_err(cvc::Error::from)?,
    };
    if rows.len() <= K || queries.is_empty() {
        return Err(Error::Sample { rows: rows.len(), queries: queries.len() });
    }

    let original = packed(rows, "raw", nonfinite)?;
    let originals = original.vectors()?;
    let truth = Search::new(originals, metric).k(K).run(queries)?.hits;
    let mut measured = Vec::new();
    for codec in rungs() {
        let rate = rate(rows, queries, metric, codec, nonfinite).and_then(|(stored_len, found)| {
            let found = scores_of(&originals, metric, queries, &found)?;
            let bytes_per_value = stored_len as f64 / (rows.len() * rows.dim()) as f64;
            Ok(Rate { bytes_per_value, recall: by_scores(metric, &found, &truth, K) })
        });
        let rate = match rate {
            Ok(rate) => Ok(rate),
            // Values that it cannot represent, or that the metric is not for once they were decoded.
            Err(error) if error.is_usage() => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        measured.push(Rung { codec, measured: rate });
    }
    let reached = measured.iter().enumerate().filter_map(|(at, rung)| {
        let rate = rung.measured.as_ref().ok()?;
        (rate.recall.share()? >= target).then_some((at, rate.bytes_per_value))
    });
    // Of equals the coarser, which comes first.
    let chosen = reached.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at);
    Ok(Ladder { target, metric, rows: rows.len(), queries: queries.len(), rungs: measured, chosen })
}

/// A file in memory.
fn packed(rows: RowSlice<'_>, codec: &str, nonfinite: NonFinite) -> Result<Reader, Error> {
    let dim = u32::try_from(rows.dim()).map_err(|_| cvc::codec::scan::QueryError::Dim)?;
    let array = ArrayOptions::values(VECTORS, rows.dtype(), &[dim], codec).nonfinite(nonfinite);
    let mut writer = Writer::in_memory(WriteOptions::new(Layout::Native).with_array(array)?)?;
    writer.write_vectors(rows)?;
    Ok(Reader::from_bytes(writer.finish_bytes()?)?)
}

/// The bytes that the rows take by this codec, and what is found of them.
fn rate(
    rows: RowSlice<'_>,
    queries: RowSlice<'_>,
    metric: Metric,
    codec: &str,
    nonfinite: NonFinite,
) -> Result<(u64, Vec<Vec<u64>>), Error> {
    let reader = packed(rows, codec, nonfinite)?;
    let array = reader.vectors()?;
    let answer = Search::new(array, metric).k(K).run(queries)?;
    let found = answer.hits.iter().map(|hits| hits.iter().map(|hit| hit.row).collect());
    Ok((array.index().stored_len(), found.collect()))
}

/// Rows of a sample that can be queries, spread evenly, and the others.
fn held_out(sample: RowSlice<'_>, metric: Metric) -> (Vec<usize>, Vec<usize>) {
    let wanted = HELD_OUT.min(sample.len() / 10);
    let step = sample.len() / wanted.max(1);
    let can_be_query = |row: usize| Queries::new(metric, sample.slice(row..row + 1)).is_ok();
    (0..sample.len()).partition(|row| row % step == step / 2 && row / step < wanted && can_be_query(*row))
}

/// Some of the rows, one after another.
fn gathered(rows: RowSlice<'_>, which: &[usize]) -> AlignedBytes {
    let row_len = rows.dim() * rows.dtype().size();
    let mut gathered = AlignedBytes::new();
    let bytes = gathered.resize(which.len() * row_len);
    if row_len > 0 {
        for (to, row) in bytes.chunks_exact_mut(row_len).zip(which) {
            to.copy_from_slice(&rows.bytes()[row * row_len..][..row_len]);
        }
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 600 rows of 16 values around 30 centres, so that neighbours are near.
    fn values() -> Vec<f32> {
        let value = |row: u64, dim: u64, range: u64| (mixed(row * 16 + dim) % range) as f32 / range as f32;
        (0..600u64)
            .flat_map(|row| {
                (0..16).map(move |dim| value(row % 30, dim, 1000) + value(row + 9000, dim, 1 << 20) / 10.0)
            })
            .collect()
    }

    fn measured(target: f64) -> Ladder {
        let values = values();
        let rows = RowSlice::new(&values, 16).unwrap();
        measure(rows, None, Metric::Cosine, target, NonFinite::Refuse).unwrap()
    }

    fn share(rung: &Rung) -> f64 {
        rung.measured.as_ref().unwrap().recall.share().unwrap()
    }

    #[test]
    fn samples_are_spread_and_the_same_again() {
        assert_eq!(sample(5, 10), [0, 1, 2, 3, 4]);
        assert!(sample(0, 10).is_empty());
        let rows = sample(1 << 40, 1000);
        assert!(rows.is_sorted_by(|a, b| a < b));
        for (stretch, row) in (0..).zip(&rows) {
            assert_eq!(row / ((1 << 40) / 1000 + 1), stretch, "one of each stretch, to a row");
        }
        assert_eq!(rows, sample(1 << 40, 1000));
    }

    #[test]
    fn every_codec_there_is_is_measured_and_the_cheapest_that_does_is_chosen() {
        let ladder = measured(0.9);
        assert_eq!((ladder.rows, ladder.queries), (540, 60));
        let names: Vec<&str> = ladder.rungs.iter().map(|rung| rung.codec).collect();
        assert_eq!(names, rungs().collect::<Vec<_>>());
        assert!(names.ends_with(&["int8", "fp16", "lossless", "raw"]));
        let chosen = ladder.rungs[ladder.chosen.unwrap()].measured.as_ref().unwrap().bytes_per_value;
        for rung in &ladder.rungs {
            let cheaper = rung.measured.as_ref().unwrap().bytes_per_value < chosen;
            assert!(!cheaper || share(rung) < 0.9, "{rung:?}");
        }
        let raw = ladder.rungs.last().unwrap();
        assert!(raw.measured.as_ref().unwrap().bytes_per_value >= 4.0 && share(raw) == 1.0);
    }

    #[test]
    fn all_of_it_is_only_had_from_what_finds_all() {
        let ladder = measured(1.0);
        assert_eq!(share(&ladder.rungs[ladder.chosen.unwrap()]), 1.0);
        assert!(ladder.rungs.iter().filter(|rung| share(rung) == 1.0).count() >= 2, "lossless and raw");
    }

    #[test]
    fn a_codec_that_cannot_hold_the_rows_says_why() {
        let mut values = values();
        values[40] = f32::INFINITY;
        let rows = RowSlice::new(&values, 16).unwrap();
        let ladder = measure(rows, None, Metric::L2, 0.9, NonFinite::Refuse).unwrap();
        let int8 = ladder.rungs.iter().find(|rung| rung.codec == "int8").unwrap();
        assert!(int8.measured.as_ref().unwrap_err().contains("inf"), "{int8:?}");
        let chosen = ladder.rungs[ladder.chosen.unwrap()].codec;
        assert!(["fp16", "lossless"].contains(&chosen), "{chosen}");
    }

    #[test]
    fn queries_of_the_caller_are_taken_as_they_are() {
        let values = values();
        let rows = RowSlice::new(&values, 16).unwrap();
        let ladder = measure(rows, Some(rows.slice(3..8)), Metric::Cosine, 0.9, NonFinite::Refuse).unwrap();
        assert_eq!((ladder.rows, ladder.queries), (600, 5));
        let error = measure(rows.slice(0..9), None, Metric::Cosine, 0.9, NonFinite::Refuse).unwrap_err();
        assert!(matches!(error, Error::Sample { .. }) && error.is_usage(), "{error}");
        for queries in [Some(rows), None] {
            let wrong = measure(rows, queries, Metric::Hamming, 0.9, NonFinite::Refuse).unwrap_err();
            assert!(wrong.is_usage() && matches!(wrong, Error::Query(_)), "{wrong}");
        }
    }
}
