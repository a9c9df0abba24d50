//! How long the strings of an array are.

use cvc::{Array, Error};

/// Strings that are read at a time.
const WINDOW: u64 = 1 << 14;

/// What was found in an array of strings.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StringsReport {
    /// How many there are.
    pub count: u64,
    /// Strings of no characters.
    pub empty: u64,
    /// Bytes of all of them, in UTF-8.
    pub total_len: u64,
    /// Bytes of the shortest.
    pub min_len: u64,
    /// Bytes of the longest.
    pub max_len: u64,
    /// By length in bytes: 0, 1, 2..4, 4..8, 8..16, and so on to the longest.
    pub counts: Vec<u64>,
}

/// Looks at every string.
pub(crate) fn measure(array: Array<'_>) -> Result<StringsReport, Error> {
    let mut report = StringsReport::default();
    for chunk in array.chunks() {
        for window in crate::rows::windows(chunk.rows, (1 << 20) / WINDOW) {
            for string in array.read_strings(window)?.iter() {
                report.add(string.len() as u64);
            }
        }
    }
    Ok(report)
}

impl StringsReport {
    fn add(&mut self, len: u64) {
        self.min_len = if self.count == 0 { len } else { self.min_len.min(len) };
        self.max_len = self.max_len.max(len);
        self.count += 1;
        self.empty += u64::from(len == 0);
        self.total_len += len;
        // The number of bits that the length has.
        let bin = (u64::BITS - len.leading_zeros()) as usize;
        if self.counts.len() <= bin {
            self.counts.resize(bin + 1, 0);
        }
        self.counts[bin] += 1;
    }
}

/// The lengths of a bin: the first, and the first of the next.
pub(crate) fn bin(number: usize) -> (u64, u64) {
    let power =
        |exponent: usize| 1u64.checked_shl(u32::try_from(exponent).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
    if number == 0 { (0, 1) } else { (power(number - 1), power(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fall_into_powers_of_two() {
        let mut report = StringsReport::default();
        [0, 1, 2, 3, 4, 7, 8, 0].into_iter().for_each(|len| report.add(len));
        assert_eq!(report.counts, [2, 1, 2, 2, 1]);
        assert_eq!((report.min_len, report.max_len, report.total_len, report.empty), (0, 8, 25, 2));
        assert_eq!([bin(0), bin(1), bin(2), bin(3)], [(0, 1), (1, 2), (2, 4), (4, 8)]);
        assert_eq!(bin(64), (1 << 63, u64::MAX));
    }
}
