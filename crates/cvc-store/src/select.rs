//! Which rows: all, a range, a slice as Python has it, numbers that may be negative, a mask.

use std::ops::{Range, RangeFull};

use crate::error::Error;

/// Rows of an array, in the order in which they are wanted.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// Every row.
    All,
    /// Rows `start..end`.
    Range(u64, u64),
    /// A slice as Python has it: negative numbers count from the end, what lies outside is cut off.
    Slice {
        /// The first row; by default the first of all, or the last if the step is negative.
        start: Option<i64>,
        /// Where to stop.
        stop: Option<i64>,
        /// How far from one row to the next; not 0.
        step: i64,
    },
    /// Single rows; negative numbers count from the end. A row may be wanted twice.
    Rows(&'a [i64]),
    /// The rows where the mask is true; it has as many values as there are rows.
    Mask(&'a [bool]),
}

impl From<RangeFull> for Selection<'_> {
    fn from(_: RangeFull) -> Self {
        Selection::All
    }
}

impl From<Range<u64>> for Selection<'_> {
    fn from(range: Range<u64>) -> Self {
        Selection::Range(range.start, range.end)
    }
}

impl<'a> From<&'a [i64]> for Selection<'a> {
    fn from(rows: &'a [i64]) -> Self {
        Selection::Rows(rows)
    }
}

impl<'a, const N: usize> From<&'a [i64; N]> for Selection<'a> {
    fn from(rows: &'a [i64; N]) -> Self {
        Selection::Rows(rows)
    }
}

impl<'a> From<&'a Vec<i64>> for Selection<'a> {
    fn from(rows: &'a Vec<i64>) -> Self {
        Selection::Rows(rows)
    }
}

impl<'a> From<&'a [bool]> for Selection<'a> {
    fn from(mask: &'a [bool]) -> Self {
        Selection::Mask(mask)
    }
}

impl Selection<'_> {
    /// How many rows these are, of an array with `rows`.
    ///
    /// # Errors
    /// A range that ends beyond the array, a step of 0, a mask of another length. Single rows are not looked at.
    pub fn count(&self, rows: u64) -> Result<u64, Error> {
        match self {
            Selection::All => Ok(rows),
            Selection::Range(start, end) if start <= end && *end <= rows => Ok(end - start),
            Selection::Range(start, end) => Err(Error::argument(
                "rows",
                format!("{start}..{end}"),
                format!("the array has rows 0..{rows}"),
            )),
            Selection::Slice { start, stop, step } => Ok(slice(*start, *stop, *step, rows)?.1),
            Selection::Rows(list) => Ok(list.len() as u64),
            Selection::Mask(mask) if mask.len() as u64 == rows => {
                Ok(mask.iter().filter(|wanted| **wanted).count() as u64)
            }
            Selection::Mask(mask) => {
                let problem = format!("the array has {rows} rows; a mask has one value for each");
                Err(Error::argument("mask", format!("{} values", mask.len()), problem))
            }
        }
    }

    /// Calls `each` with every run of rows that follow each other, first and count, of an array with `rows`.
    ///
    /// # Errors
    /// As [`Selection::count`], and single rows that do not exist; none has been handed over then but those before.
    pub fn each(&self, rows: u64, mut each: impl FnMut(u64, u64)) -> Result<(), Error> {
        let count = self.count(rows)?;
        match self {
            Selection::All if rows > 0 => each(0, rows),
            Selection::Range(start, _) if count > 0 => each(*start, count),
            Selection::All | Selection::Range(..) => {}
            Selection::Slice { start, stop, step } => {
                let (first, count) = slice(*start, *stop, *step, rows)?;
                match *step {
                    1 if count > 0 => each(first, count),
                    1 => {}
                    _ => {
                        let mut row = i128::from(first);
                        for _ in 0..count {
                            each(u64::try_from(row).expect("within the array"), 1);
                            row += i128::from(*step);
                        }
                    }
                }
            }
            Selection::Rows(list) => {
                let mut at = 0;
                while at < list.len() {
                    let first = wrapped(list[at], rows)?;
                    let mut len = 1;
                    while let Some(next) = list.get(at + len)
                        && wrapped(*next, rows)? == first + len as u64
                    {
                        len += 1;
                    }
                    each(first, len as u64);
                    at += len;
                }
            }
            Selection::Mask(mask) => {
                let mut at = 0;
                for same in mask.chunk_by(|a, b| a == b) {
                    if same[0] {
                        each(at, same.len() as u64);
                    }
                    at += same.len() as u64;
                }
            }
        }
        Ok(())
    }
}

/// The first row of a slice, and how many rows it has.
fn slice(start: Option<i64>, stop: Option<i64>, step: i64, rows: u64) -> Result<(u64, u64), Error> {
    if step == 0 {
        return Err(Error::argument("step", 0, "it is the way from one row to the next: not 0"));
    }
    let (len, step) = (i128::from(rows), i128::from(step));
    let (least, most) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound = |value: Option<i64>, default: i128| match value {
        None => default,
        Some(value) if value < 0 => (i128::from(value) + len).max(least),
        Some(value) => i128::from(value).min(most),
    };
    let (start, stop) =
        if step > 0 { (bound(start, 0), bound(stop, len)) } else { (bound(start, len - 1), bound(stop, -1)) };
    let count = if step > 0 { (stop - start + step - 1) / step } else { (start - stop - step - 1) / -step };
    let count = u64::try_from(count).unwrap_or(0);
    Ok((u64::try_from(start).unwrap_or(0), count))
}

/// The row of a number that may count from the end.
fn wrapped(row: i64, rows: u64) -> Result<u64, Error> {
    let found = match u64::try_from(row) {
        Ok(row) => Some(row).filter(|row| *row < rows),
        Err(_) => rows.checked_sub(row.unsigned_abs()),
    };
    found.ok_or_else(|| Error::argument("row", row, format!("the array has {rows} rows")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(selection: Selection<'_>, rows: u64) -> Result<Vec<u64>, Error> {
        let mut list = Vec::new();
        selection.each(rows, |start, len| list.extend(start..start + len))?;
        assert_eq!(list.len() as u64, selection.count(rows)?);
        Ok(list)
    }

    #[test]
    fn slices_are_those_of_python() {
        let of = |start, stop, step| rows(Selection::Slice { start, stop, step }, 5).unwrap();
        assert_eq!(of(None, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(of(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(of(Some(-2), None, 1), [3, 4]);
        assert_eq!(of(Some(1), Some(-1), 2), [1, 3]);
        assert_eq!(of(Some(10), Some(-10), -2), [4, 2, 0]);
        assert_eq!(of(Some(3), Some(1), 1), [0u64; 0]);
        assert_eq!(of(Some(1), Some(3), -1), [0u64; 0]);
        assert_eq!(of(Some(i64::MIN), Some(i64::MAX), i64::MAX), [0]);
        assert_eq!(rows(Selection::Slice { start: None, stop: None, step: -1 }, 0).unwrap(), [0u64; 0]);
        assert!(rows(Selection::Slice { start: None, stop: None, step: 0 }, 5).is_err());
    }

    #[test]
    fn single_rows_and_masks() {
        assert_eq!(rows(Selection::Rows(&[-1, 0, 1, 1, -5]), 5).unwrap(), [4, 0, 1, 1, 0]);
        for row in [5, -6, i64::MIN, i64::MAX] {
            assert!(rows(Selection::Rows(&[row]), 5).is_err());
        }
        assert_eq!(rows(Selection::Mask(&[true, false, true, true]), 4).unwrap(), [0, 2, 3]);
        assert!(rows(Selection::Mask(&[true]), 4).is_err());
        assert!(rows(Selection::Range(2, 6), 5).is_err() && rows(Selection::Range(3, 2), 5).is_err());
        assert_eq!(rows(Selection::All, 0).unwrap(), [0u64; 0]);
    }
}
