//! The arithmetic of encoding `int4` and `bit1`: from rows to codes and scales.
//!
//! For each row x of a chunk, with its centre c, d = m * 2^k values ([`Rotation`]):
//!
//! ```text
//! v = f32(x - c)                                                  f32, as all that follows but where f64 is said
//! e = exponent of the greatest |v|, from -126 to 126
//! y = 2^k * R(v / 2^e)                                            butterflies of neighbours first
//! f = f32(sqrt(f64(yy / d)) / 46.48)                              yy = sum of y * y, f64
//! three times:  l = levels of y for f;  f = f32(yl / ll)          yl = sum of |y * l|, ll = sum of l * l, f64
//! scale = f32(yl / ll * 2^(e - 2k))                               of the last levels: least squares
//! ```
//!
//! The level of a value is the one with its sign (that of zeros is plus) and the magnitude that is nearest to |y| / f: the number of
//! `f32(threshold * f)` that are at most |y|, where a threshold is halfway between two magnitudes. With one bit there is one
//! magnitude, so no f is needed. Dividing by 2^e first keeps squares and butterflies within range, whatever the row.
//!
//! The plain loop would be just that, a row at a time. Eight rows are done at a time instead, the lanes of a vector: then every
//! step of the transform, however short, and the transposition are operations on whole vectors; the compiler makes them of safe
//! code. Sums have four lanes, as those of [`crate::loss`]: lane j takes columns j, j + 4, ..., and they are added as `(l0 + l2) +
//! (l1 + l3)`.

use crate::loops::greater;
use crate::ops::narrow::round_f32;
use crate::ops::rotated::{INT4_LEVELS, INT4_UNIT, RotatedCodes};
use crate::rotation::{Rotation, hadamard};

/// Rows that are encoded at a time.
pub const ROWS: usize = 8;

/// What all rows of a chunk have in common.
#[derive(Clone, Copy, Debug)]
pub struct Quantiser<'a> {
    /// The kind of codes.
    pub codes: RotatedCodes,
    /// The rotation of rows of this length.
    pub rotation: &'a Rotation,
    /// What is taken off every row first: finite, as long as a row.
    pub centre: &'a [f32],
}

/// What is used again from rows to rows.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    before: Vec<[f32; ROWS]>,
    after: Vec<[f32; ROWS]>,
    /// One row, its levels and its codes.
    row: Vec<f32>,
    levels: Vec<f32>,
    codes: Vec<u8>,
}

/// Magnitudes of levels, and the thresholds between them.
const MAGNITUDES: usize = 8;
const THRESHOLDS: usize = MAGNITUDES - 1;

/// Lanes of sums.
const LANES: usize = 4;

/// A number for each of the rows.
type PerRow<T> = [T; ROWS];

/// Encodes one to [`ROWS`] rows of finite values: writes their codes and their scales. Differences from the centre beyond f32 count as
/// the greatest f32; the first row that has one is returned.
///
/// # Panics
/// `rows`, `codes` and `scales` are not of as many rows, or those are none or more than [`ROWS`].
#[inline(always)]
pub fn quantise(
    quantiser: Quantiser<'_>,
    rows: &[f32],
    scratch: &mut Scratch,
    codes: &mut [u8],
    scales: &mut [f32],
) -> Option<usize> {
    let Quantiser { rotation, centre, .. } = quantiser;
    let dim = centre.len();
    assert!(dim == rotation.dim() && rows.len() == scales.len() * dim, "rows and scales");
    assert!((1..=ROWS).contains(&scales.len()) && codes.len().is_multiple_of(scales.len()), "a few rows");

    // Rows that there are not are like the centre.
    let row_of = |row: usize| rows.get(row * dim..(row + 1) * dim).unwrap_or(centre);
    let most = differences(core::array::from_fn(row_of), centre, &mut scratch.before);
    let exponents = most.map(|most| (most.to_bits() >> 23).clamp(1, 253));
    // 2^-e, of which the least is subnormal.
    let factors = exponents.map(|exponent| f32::from_bits((254 - exponent) << 23));
    rotate(rotation, factors, scratch);

    let Scratch { after, row, levels, codes: of_row, .. } = scratch;
    let width = codes.len() / scales.len();
    let block_log = u64::from(rotation.block().trailing_zeros());
    for (at, (scale, codes)) in scales.iter_mut().zip(codes.chunks_exact_mut(width)).enumerate() {
        row.clear();
        row.extend(after.iter().map(|values| values[at]));
        let ratio = match quantiser.codes {
            RotatedCodes::Bit1 => {
                write_bits(row, codes);
                sum(row, |value| f64::from(value.abs())) / f64_of(dim)
            }
            RotatedCodes::Int4 => {
                let (ratio, thresholds) = fit(row, levels);
                of_row.resize(dim, 0);
                write_nibbles(row, &thresholds, of_row, codes);
                ratio
            }
        };
        // 2^(e - 2k), a normal f64.
        let power = f64::from_bits((u64::from(exponents[at]) + 1023 - 127 - 2 * block_log) << 52);
        *scale = round_f32(ratio * power);
    }
    most.iter().take(scales.len()).position(|most| most.is_infinite())
}

/// Replaces `into` by the differences of rows and centre, and gives the greatest magnitude of each row.
#[inline(always)]
fn differences(rows: [&[f32]; ROWS], centre: &[f32], into: &mut Vec<PerRow<f32>>) -> PerRow<f32> {
    let dim = centre.len();
    into.resize(dim, [0.0; ROWS]);
    let rows = rows.map(|row| &row[..dim]);
    let mut most = [0f32; ROWS];
    for (at, (into, centre)) in into.iter_mut().zip(centre).enumerate() {
        for row in 0..ROWS {
            into[row] = rows[row][at] - centre;
        }
        for row in 0..ROWS {
            most[row] = greater(into[row].abs(), most[row]);
        }
    }
    if most.iter().any(|most| most.is_infinite()) {
        for value in into.as_flattened_mut() {
            *value = value.clamp(f32::MIN, f32::MAX);
        }
    }
    most
}

/// [`Rotation::rotate`] without the division, of rows that are multiplied by `factors` first: from `before` to `after`.
#[inline(always)]
fn rotate(rotation: &Rotation, factors: PerRow<f32>, scratch: &mut Scratch) {
    let Scratch { before, after, .. } = scratch;
    after.resize(before.len(), [0.0; ROWS]);
    for (values, sign) in before.iter_mut().zip(rotation.signs(0)) {
        for row in 0..ROWS {
            values[row] *= factors[row] * f32::from(*sign);
        }
    }
    before.chunks_exact_mut(rotation.block()).for_each(hadamard);
    let signs = rotation.signs(1);
    rotation.for_each_move(|from, to| after[to] = before[from].map(|value| value * f32::from(signs[to])));
    after.chunks_exact_mut(rotation.block()).for_each(hadamard);
}

/// The sum of what `of` makes of the values of a row.
#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (fours, rest) = row.as_chunks::<LANES>();
    for four in fours {
        for lane in 0..LANES {
            lanes[lane] += of(four[lane]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += of(*value);
    }
    total(lanes)
}

#[inline(always)]
fn total(lanes: [f64; LANES]) -> f64 {
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// The quotient of the sum of |y * l| and the sum of l * l for the last levels of a row, and the thresholds that gave those.
#[inline(always)]
fn fit(row: &[f32], levels: &mut Vec<f32>) -> (f64, [f32; THRESHOLDS]) {
    levels.resize(row.len(), 0.0);
    let squares = sum(row, |value| f64::from(value) * f64::from(value));
    let mut unit = (squares / f64_of(row.len())).sqrt() / INT4_UNIT;
    let mut thresholds = [0.0; THRESHOLDS];
    for _ in 0..3 {
        thresholds = thresholds_of(unit);
        magnitudes(row, &thresholds, levels);
        let (product, square) = products(row, levels);
        unit = product / square;
    }
    (unit, thresholds)
}

/// The thresholds in units of `unit`, which is rounded.
#[inline(always)]
fn thresholds_of(unit: f64) -> [f32; THRESHOLDS] {
    let unit = if unit == 0.0 { 1.0 } else { round_f32(unit) };
    core::array::from_fn(|at| (magnitude(at) + magnitude(at + 1)) / 2.0 * unit)
}

/// The magnitudes of levels, which ascend.
#[inline(always)]
fn magnitude(at: usize) -> f32 {
    f32::from(INT4_LEVELS[MAGNITUDES + at])
}

/// The magnitude of the level of each value.
#[inline(always)]
fn magnitudes(row: &[f32], thresholds: &[f32; THRESHOLDS], levels: &mut [f32]) {
    for (value, level) in row.iter().zip(levels) {
        let mut sum = magnitude(0);
        for (at, threshold) in thresholds.iter().enumerate() {
            sum += if value.abs() >= *threshold { magnitude(at + 1) - magnitude(at) } else { 0.0 };
        }
        *level = sum;
    }
}

/// The sum of |y * l|, and that of l * l, which is exact in any order.
#[inline(always)]
fn products(row: &[f32], levels: &[f32]) -> (f64, f64) {
    let (mut products, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let (values, values_rest) = row.as_chunks::<LANES>();
    let (levels, levels_rest) = levels.as_chunks::<LANES>();
    let mut add = |values: [f64; LANES], levels: [f64; LANES]| {
        for lane in 0..LANES {
            products[lane] += values[lane].abs() * levels[lane];
        }
        for lane in 0..LANES {
            squares[lane] += levels[lane] * levels[lane];
        }
    };
    for (values, levels) in values.iter().zip(levels) {
        add(values.map(f64::from), levels.map(f64::from));
    }
    // Zeros change no sum.
    let (mut values, mut levels) = ([0.0; LANES], [0.0; LANES]);
    for (lane, (value, level)) in values_rest.iter().zip(levels_rest).enumerate() {
        (values[lane], levels[lane]) = (f64::from(*value), f64::from(*level));
    }
    add(values, levels);
    (total(products), total(squares))
}

/// Writes codes of four bits.
#[inline(always)]
fn write_nibbles(row: &[f32], thresholds: &[f32; THRESHOLDS], of_row: &mut [u8], codes: &mut [u8]) {
    for (value, code) in row.iter().zip(&mut *of_row) {
        let mut above = 0u32;
        for threshold in thresholds {
            above += u32::from(value.abs() >= *threshold);
        }
        *code = if *value >= 0.0 { 8 + above } else { 7 - above }.to_le_bytes()[0];
    }
    let (pairs, rest) = of_row.as_chunks::<2>();
    for ([lower, upper], byte) in pairs.iter().zip(&mut *codes) {
        *byte = lower | upper << 4;
    }
    if let ([last], Some(byte)) = (rest, codes.last_mut()) {
        *byte = *last;
    }
}

/// Writes codes of one bit.
#[inline(always)]
fn write_bits(row: &[f32], codes: &mut [u8]) {
    for (values, byte) in row.chunks(8).zip(codes) {
        let bits = (0..).zip(values).map(|(bit, value)| u8::from(*value >= 0.0) << bit);
        *byte = bits.fold(0, |byte, bit| byte | bit);
    }
}

fn f64_of(count: usize) -> f64 {
    // A row has fewer than 2^31 bytes, so this is exact.
    count as f64
}
