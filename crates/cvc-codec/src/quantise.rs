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

    let values = &scratch.after[..];
    let dim = f64_of(dim);
    let (products, squares, thresholds) = match quantiser.codes {
        RotatedCodes::Bit1 => (sums(values, |a| f64::from(a.abs())), [dim; ROWS], [[0.0; ROWS]; THRESHOLDS]),
        RotatedCodes::Int4 => {
            let squares = sums(values, |value| f64::from(value) * f64::from(value));
            let start =
                squares.map(|square| if square > 0.0 { (square / dim).sqrt() / INT4_UNIT } else { 1.0 });
            let mut thresholds = thresholds_of(start);
            let mut fitted = fit(values, &thresholds);
            for _ in 0..2 {
                thresholds = thresholds_of(core::array::from_fn(|row| match fitted.0[row] {
                    0.0 => 1.0,
                    product => product / fitted.1[row],
                }));
                fitted = fit(values, &thresholds);
            }
            (fitted.0, fitted.1, thresholds)
        }
    };
    let block_log = u64::from(rotation.block().trailing_zeros());
    for (row, scale) in scales.iter_mut().enumerate() {
        // 2^(e - 2k), a normal f64.
        let power = f64::from_bits((u64::from(exponents[row]) + 1023 - 127 - 2 * block_log) << 52);
        *scale = round_f32(products[row] / squares[row] * power);
    }
    let width = codes.len() / scales.len();
    match quantiser.codes {
        RotatedCodes::Int4 => write_nibbles(values, &thresholds, codes, width),
        RotatedCodes::Bit1 => write_bits(values, codes, width),
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
    let Scratch { before, after } = scratch;
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

/// The sums of what `of` makes of the values of each row.
#[inline(always)]
fn sums(values: &[PerRow<f32>], of: impl Fn(f32) -> f64) -> PerRow<f64> {
    let mut lanes = [[0.0; ROWS]; LANES];
    let (fours, rest) = values.as_chunks::<LANES>();
    let mut add = |lane: usize, values: &PerRow<f32>| {
        for row in 0..ROWS {
            lanes[lane][row] += of(values[row]);
        }
    };
    for four in fours {
        for (lane, values) in four.iter().enumerate() {
            add(lane, values);
        }
    }
    for (lane, values) in rest.iter().enumerate() {
        add(lane, values);
    }
    total(&lanes)
}

#[inline(always)]
fn total(lanes: &[PerRow<f64>; LANES]) -> PerRow<f64> {
    core::array::from_fn(|row| (lanes[0][row] + lanes[2][row]) + (lanes[1][row] + lanes[3][row]))
}

/// The thresholds in units of f, which is rounded.
#[inline(always)]
fn thresholds_of(units: PerRow<f64>) -> [PerRow<f32>; THRESHOLDS] {
    let units = units.map(round_f32);
    core::array::from_fn(|at| {
        let (lower, upper) = (INT4_LEVELS[MAGNITUDES + at], INT4_LEVELS[MAGNITUDES + at + 1]);
        let threshold = (f32::from(lower) + f32::from(upper)) / 2.0;
        units.map(|unit| threshold * unit)
    })
}

/// For each row the sum of |y * l| and the sum of l * l, which is exact in any order.
#[inline(always)]
fn fit(values: &[PerRow<f32>], thresholds: &[PerRow<f32>; THRESHOLDS]) -> (PerRow<f64>, PerRow<f64>) {
    let (mut products, mut squares) = ([[0.0; ROWS]; LANES], [0f64; ROWS]);
    let mut add = |lane: usize, values: &PerRow<f32>| {
        let magnitudes = values.map(f32::abs);
        let mut levels = [f32::from(INT4_LEVELS[MAGNITUDES]); ROWS];
        for (at, thresholds) in thresholds.iter().enumerate() {
            let (lower, upper) = (INT4_LEVELS[MAGNITUDES + at], INT4_LEVELS[MAGNITUDES + at + 1]);
            let step = f32::from(upper) - f32::from(lower);
            for row in 0..ROWS {
                levels[row] += if magnitudes[row] >= thresholds[row] { step } else { 0.0 };
            }
        }
        for row in 0..ROWS {
            products[lane][row] += f64::from(magnitudes[row]) * f64::from(levels[row]);
            squares[row] += f64::from(levels[row] * levels[row]);
        }
    };
    let (fours, rest) = values.as_chunks::<LANES>();
    for four in fours {
        for (lane, values) in four.iter().enumerate() {
            add(lane, values);
        }
    }
    for (lane, values) in rest.iter().enumerate() {
        add(lane, values);
    }
    (total(&products), squares)
}

/// Writes codes of four bits, rows of `width` bytes.
#[inline(always)]
fn write_nibbles(
    values: &[PerRow<f32>],
    thresholds: &[PerRow<f32>; THRESHOLDS],
    codes: &mut [u8],
    width: usize,
) {
    let nibbles = |values: &PerRow<f32>| {
        let mut above = [0u32; ROWS];
        for thresholds in thresholds {
            for row in 0..ROWS {
                above[row] += u32::from(values[row].abs() >= thresholds[row]);
            }
        }
        let code = |row: usize| if values[row] >= 0.0 { 8 + above[row] } else { 7 - above[row] };
        core::array::from_fn::<u32, ROWS, _>(code)
    };
    for (at, pair) in values.chunks(2).enumerate() {
        let mut bytes = nibbles(&pair[0]);
        if let Some(upper) = pair.get(1) {
            let upper = nibbles(upper);
            for row in 0..ROWS {
                bytes[row] |= upper[row] << 4;
            }
        }
        for (row, byte) in codes.chunks_exact_mut(width).zip(bytes) {
            row[at] = byte.to_le_bytes()[0];
        }
    }
}

/// Writes codes of one bit, rows of `width` bytes.
#[inline(always)]
fn write_bits(values: &[PerRow<f32>], codes: &mut [u8], width: usize) {
    for (at, eight) in values.chunks(8).enumerate() {
        let mut bytes = [0u32; ROWS];
        for (bit, values) in eight.iter().enumerate() {
            for row in 0..ROWS {
                bytes[row] |= u32::from(values[row] >= 0.0) << bit;
            }
        }
        for (row, byte) in codes.chunks_exact_mut(width).zip(bytes) {
            row[at] = byte.to_le_bytes()[0];
        }
    }
}

fn f64_of(count: usize) -> f64 {
    // A row has fewer than 2^31 bytes, so this is exact.
    count as f64
}
