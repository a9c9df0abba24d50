//! From values as a file has them to rows in C order and native byte order.
//!
//! Each conversion is written once, over values of `N` bytes that are only moved and reversed, never looked
//! at.

use std::ops::Range;

use cvc_format::DType;

/// A value of `N` bytes, and what is done to it on the way.
type Mend<const N: usize> = fn([u8; N]) -> [u8; N];

/// Copies numbers whose bytes are in the other order.
pub(super) fn swap(size: usize, from: &[u8], to: &mut [u8]) {
    fn run<const N: usize>(from: &[u8], to: &mut [u8]) {
        for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from.as_chunks().0) {
            *to = reversed::<N>(*from);
        }
    }
    match size {
        2 => run::<2>(from, to),
        4 => run::<4>(from, to),
        8 => run::<8>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the rows of `range` out of a matrix that is stored column by column.
///
/// The easy version is
///
/// ```text
/// for r in range { for c in 0..dim { to[r - range.start][c] = from[c][r] } }
/// ```
///
/// and takes a cache line, often a page, of `from` for every value. So:
///
/// 1. columns are taken as many at a time as fill a cache line of `to`, so that each line is written once;
/// 2. within these, rows are taken in tiles of [`TILE_ROWS`], so that both the lines read and the lines
///    written of a tile stay in the first-level cache, and each column is read from front to back.
pub(super) fn gather(
    dtype: DType,
    from: &[u8],
    rows: usize,
    range: Range<usize>,
    to: &mut [u8],
    swapped: bool,
) {
    fn run<const N: usize>(from: &[u8], rows: usize, range: Range<usize>, to: &mut [u8], mend: Mend<N>) {
        const LINE: usize = 64;
        let count = range.len();
        if count == 0 {
            return;
        }
        let columns: Vec<&[[u8; N]]> =
            from.as_chunks().0.chunks_exact(rows).map(|column| &column[range.clone()]).collect();
        let dim = columns.len();
        let to = to.as_chunks_mut().0;
        for first_column in (0..dim).step_by(LINE / N) {
            let columns = &columns[first_column..dim.min(first_column + LINE / N)];
            for first_row in (0..count).step_by(TILE_ROWS) {
                let tile = first_row..count.min(first_row + TILE_ROWS);
                for (c, column) in columns.iter().enumerate() {
                    let targets = to[first_row * dim + first_column + c..].iter_mut().step_by(dim);
                    for (value, target) in column[tile.clone()].iter().zip(targets) {
                        *target = mend(*value);
                    }
                }
            }
        }
    }
    let complex = dtype.component_size() != dtype.size();
    match (dtype.size(), swapped) {
        (1, _) => run::<1>(from, rows, range, to, same),
        (2, false) => run::<2>(from, rows, range, to, same),
        (2, true) => run::<2>(from, rows, range, to, reversed),
        (4, false) => run::<4>(from, rows, range, to, same),
        (4, true) => run::<4>(from, rows, range, to, reversed),
        (8, false) => run::<8>(from, rows, range, to, same),
        (8, true) if complex => run::<8>(from, rows, range, to, both_reversed),
        (8, true) => run::<8>(from, rows, range, to, reversed),
        (16, false) => run::<16>(from, rows, range, to, same),
        (16, true) => run::<16>(from, rows, range, to, both_reversed),
        _ => unreachable!("a dtype has 1, 2, 4, 8 or 16 bytes"),
    }
}

/// Rows in a tile of [`gather`]: a line of four-byte values.
const TILE_ROWS: usize = 16;

fn same<const N: usize>(value: [u8; N]) -> [u8; N] {
    value
}

fn reversed<const N: usize>(mut value: [u8; N]) -> [u8; N] {
    value.reverse();
    value
}

/// Each half of a complex number.
fn both_reversed<const N: usize>(mut value: [u8; N]) -> [u8; N] {
    let (real, imaginary) = value.split_at_mut(N / 2);
    real.reverse();
    imaginary.reverse();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gather_gives_what_the_easy_version_gives() {
        for dtype in [DType::U8, DType::F16, DType::F32, DType::F64, DType::C64, DType::C128] {
            let size = dtype.size();
            for (rows, dim) in [(1, 1), (2, 3), (16, 16), (17, 65), (33, 7), (100, 130), (5, 0)] {
                let from: Vec<u8> =
                    (0..rows * dim * size).map(|i: usize| (i * 31 % 251).to_le_bytes()[0]).collect();
                for range in [0..rows, 0..0, rows..rows, rows / 3..rows - rows / 4] {
                    for swapped in [false, true] {
                        let mut expected = Vec::new();
                        for r in range.clone() {
                            for c in 0..dim {
                                let mut value = from[(c * rows + r) * size..][..size].to_vec();
                                if swapped {
                                    value.chunks_mut(dtype.component_size()).for_each(<[u8]>::reverse);
                                }
                                expected.extend(value);
                            }
                        }
                        let mut to = vec![0xEE; expected.len()];
                        gather(dtype, &from, rows, range.clone(), &mut to, swapped);
                        assert_eq!(to, expected, "{dtype}, {rows} x {dim}, rows {range:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_swap_reverses_each_value() {
        let from: Vec<u8> = (0..16).collect();
        let mut to = [0; 16];
        swap(1, &from, &mut to);
        assert_eq!(to[..], from);
        swap(2, &from, &mut to);
        assert_eq!(to[..4], [1, 0, 3, 2]);
        swap(4, &from, &mut to);
        assert_eq!(to[..8], [3, 2, 1, 0, 7, 6, 5, 4]);
        swap(8, &from, &mut to);
        assert_eq!(to[8..], [15, 14, 13, 12, 11, 10, 9, 8]);
    }
}
