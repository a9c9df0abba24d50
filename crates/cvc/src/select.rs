//! Which rows: ranges given by number, or found by metadata.

use std::ops::{Range, RangeFrom, RangeFull, RangeTo};

use cvc_format::{Json, Section};

use crate::error::Error;

/// Rows of an array, in the order in which they are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    All,
    From(u64),
    Ranges(Vec<Range<u64>>),
    /// Of sections, which speak of arrays with so many rows.
    Sections {
        ranges: Vec<Range<u64>>,
        of_rows: u64,
    },
}

impl Rows {
    /// Rows of sections, of a file whose first array has `of_rows` rows.
    pub(crate) fn of_sections(ranges: Vec<Range<u64>>, of_rows: u64) -> Rows {
        Rows(Kind::Sections { ranges, of_rows })
    }

    /// Every row.
    pub const ALL: Rows = Rows(Kind::All);

    /// The ranges, in the order wanted, within an array of `rows` rows.
    ///
    /// # Errors
    /// A range is backwards or goes beyond the array, or the rows are of sections that speak of other arrays.
    pub fn resolve(&self, rows: u64) -> Result<Vec<Range<u64>>, Error> {
        let ranges = match &self.0 {
            Kind::All => vec![0..rows],
            Kind::From(start) => vec![*start..rows],
            Kind::Ranges(ranges) => ranges.clone(),
            Kind::Sections { ranges, of_rows } if *of_rows == rows => ranges.clone(),
            Kind::Sections { of_rows, .. } => {
                let problem = format!(
                    "sections speak of the first array, which has {of_rows} rows; this one has {rows}: choose its rows by \
                     number"
                );
                return Err(Error::argument("rows", "those of sections", problem));
            }
        };
        match ranges.iter().find(|range| range.start > range.end || range.end > rows) {
            None => Ok(ranges),
            Some(range) => {
                let value = format!("{}..{}", range.start, range.end);
                Err(Error::argument("rows", value, format!("the array has rows 0..{rows}")))
            }
        }
    }
}

impl From<RangeFull> for Rows {
    fn from(_: RangeFull) -> Self {
        Rows::ALL
    }
}

impl From<Range<u64>> for Rows {
    fn from(range: Range<u64>) -> Self {
        Rows(Kind::Ranges(vec![range]))
    }
}

impl From<RangeTo<u64>> for Rows {
    fn from(range: RangeTo<u64>) -> Self {
        Rows::from(0..range.end)
    }
}

impl From<RangeFrom<u64>> for Rows {
    fn from(range: RangeFrom<u64>) -> Self {
        Rows(Kind::From(range.start))
    }
}

/// One range after another, in this order; a row may be wanted twice.
impl From<Vec<Range<u64>>> for Rows {
    fn from(ranges: Vec<Range<u64>>) -> Self {
        Rows(Kind::Ranges(ranges))
    }
}

/// Single rows by number, in this order; a row may be wanted twice. Neighbours are read together.
impl From<&[u64]> for Rows {
    fn from(rows: &[u64]) -> Self {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for row in rows {
            // Of row 2^64 - 1 the range is empty and ends beyond any array, so it is refused like any other.
            let end = row.saturating_add(1);
            match ranges.last_mut() {
                Some(last) if last.end == *row => last.end = end,
                _ => ranges.push(*row..end),
            }
        }
        Rows::from(ranges)
    }
}

/// A condition on metadata: the value of a key.
///
/// Values are compared as JSON: `1` equals `1.0` and never `true`. A missing key never matches.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The key, at the top level of the metadata.
    pub key: String,
    /// What its value must equal.
    pub value: Json,
}

impl Condition {
    /// `key` must equal `value`.
    pub fn new(key: impl Into<String>, value: impl Into<Json>) -> Self {
        Condition { key: key.into(), value: value.into() }
    }

    /// Whether this metadata meets the condition.
    pub fn matches(&self, metadata: &Json) -> bool {
        metadata.get(&self.key).is_some_and(|value| *value == self.value)
    }
}

/// The rows of every section that meets all of `conditions`, in file order. Neighbours are not merged.
pub fn matching_rows(sections: &[Section], conditions: &[Condition]) -> Vec<Range<u64>> {
    let matches =
        |section: &&Section| conditions.iter().all(|condition| condition.matches(&section.metadata));
    sections.iter().filter(matches).map(|section| section.rows.clone()).collect()
}

/// Sorted ranges, of rows or of bytes, with those made one that overlap or have at most `gap` between them.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_array_are_named() {
        assert_eq!(Rows::from(..).resolve(5).unwrap(), [0..5]);
        assert_eq!(Rows::from(3..).resolve(5).unwrap(), [3..5]);
        assert_eq!(Rows::from(..0).resolve(5).unwrap(), [0..0]);
        assert_eq!(Rows::from(vec![4..5, 0..1]).resolve(5).unwrap(), [4..5, 0..1]);
        #[expect(clippy::reversed_empty_ranges, reason = "a caller may pass one")]
        for rows in [Rows::from(0..6), Rows::from(6..), Rows::from(3..2)] {
            let error = rows.resolve(5).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("0..5"), "{error}");
        }
    }

    #[test]
    fn single_rows_keep_their_order_and_neighbours_are_joined() {
        let ranges = |rows: &[u64]| Rows::from(rows).resolve(10);
        assert_eq!(ranges(&[5, 6, 7, 2, 2, 3]).unwrap(), [5..8, 2..3, 2..4]);
        assert_eq!(ranges(&[]).unwrap(), []);
        assert!(ranges(&[10]).is_err() && ranges(&[u64::MAX]).is_err());
        assert!(ranges(&[9, u64::MAX, u64::MAX]).is_err());
    }

    #[test]
    fn all_conditions_must_hold_and_every_match_counts() {
        let section = |rows, text: &str| Section::new(rows, Json::parse(text.as_bytes(), 9).unwrap());
        let sections = [
            section(0..2, r#"{"source": "a", "year": 1}"#),
            section(2..4, r#"{"source": "a", "year": true}"#),
            section(4..4, r#"{"source": "a", "year": 1.0}"#),
            section(4..9, r#""source""#),
            section(9..10, r#"{"source": "b", "year": 1}"#),
        ];
        let rows = |conditions: &[(&str, Json)]| {
            let conditions: Vec<_> = conditions.iter().map(|(k, v)| Condition::new(*k, v.clone())).collect();
            matching_rows(&sections, &conditions)
        };
        assert_eq!(rows(&[("source", "a".into()), ("year", 1u64.into())]), [0..2, 4..4]);
        assert_eq!(rows(&[("year", true.into())]), [2..4]);
        assert_eq!(rows(&[("year", Json::Null)]), []);
        assert_eq!(rows(&[]).len(), 5);
    }
}
