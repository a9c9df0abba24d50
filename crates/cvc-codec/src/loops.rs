//! The loops of encoding: what is done to every value, and so what decides how fast it goes.
//!
//! A codec decides what becomes of rows; it leaves these loops to a [`Loops`], which knows the processor. [`Plain`] is how
//! they are meant: it is the judge of all others, which give the same bits for every input. `cvc-cpu` compiles the very same
//! loops for each level of instructions.

use half::{bf16, f16};

use crate::loss::{self, Lanes};
use crate::ops::narrow::{bf16_from_f32, f16_from_f32};
use crate::quantise::{self, Quantiser};

/// The loops of encoding.
pub trait Loops: Sync {
    /// Rounds each value to binary16, to nearest, ties to even, NaNs not quieted.
    fn narrow_f16(&self, values: &[f32], halves: &mut [f16]);

    /// Rounds each value to bfloat16 in the same way.
    fn narrow_bf16(&self, values: &[f32], halves: &mut [bf16]);

    /// The smallest and the largest value, the first above the second if there is none; `None` if any value is NaN or
    /// infinite. Which zero is found of several is not said.
    fn finite_range(&self, values: &[f32]) -> Option<(f32, f32)>;

    /// The code of each value, which is finite: `(value - min) / divisor`, at most 255, to the nearest integer, ties to even.
    fn codes(&self, values: &[f32], min: f32, divisor: f32, codes: &mut [u8]);

    /// The same where each value has a minimum and a divisor.
    fn codes_of_dims(&self, values: &[f32], mins: &[f32], divisors: &[f32], codes: &mut [u8]);

    /// Adds each value of a row to the sum of its dim.
    fn add_to_sums(&self, row: &[f32], sums: &mut [f64]);

    /// [`quantise::quantise`]: codes and scales of a few rows of `int4` or `bit1`.
    fn quantise(
        &self,
        quantiser: Quantiser<'_>,
        rows: &[f32],
        scratch: &mut quantise::Scratch,
        codes: &mut [u8],
        scales: &mut [f32],
    ) -> Option<usize>;

    /// The sums that tell what encoding lost of two rows of values that became `decoded`. Either may be empty.
    fn loss(&self, values: [&[[f32; loss::LANES]]; 2], decoded: [&[[f32; loss::LANES]]; 2]) -> [Lanes; 2];
}

/// The loops as the compiler makes them for every processor of the target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Loops for Plain {
    fn narrow_f16(&self, values: &[f32], halves: &mut [f16]) {
        for (value, half) in values.iter().zip(halves) {
            *half = f16_from_f32(*value);
        }
    }

    fn narrow_bf16(&self, values: &[f32], halves: &mut [bf16]) {
        for (value, half) in values.iter().zip(halves) {
            *half = bf16_from_f32(*value);
        }
    }

    fn finite_range(&self, values: &[f32]) -> Option<(f32, f32)> {
        finite_range(values)
    }

    fn codes(&self, values: &[f32], min: f32, divisor: f32, out: &mut [u8]) {
        codes(values, min, divisor, out);
    }

    fn codes_of_dims(&self, values: &[f32], mins: &[f32], divisors: &[f32], out: &mut [u8]) {
        codes_of_dims(values, mins, divisors, out);
    }

    fn add_to_sums(&self, row: &[f32], sums: &mut [f64]) {
        add_to_sums(row, sums);
    }

    fn quantise(
        &self,
        quantiser: Quantiser<'_>,
        rows: &[f32],
        scratch: &mut quantise::Scratch,
        codes: &mut [u8],
        scales: &mut [f32],
    ) -> Option<usize> {
        quantise::quantise(quantiser, rows, scratch, codes, scales)
    }

    fn loss(&self, values: [&[[f32; loss::LANES]]; 2], decoded: [&[[f32; loss::LANES]]; 2]) -> [Lanes; 2] {
        loss::lanes(values, decoded)
    }
}

/// [`Loops::finite_range`]:
///
/// ```text
/// for value in values { min = lesser(value, min); max = greater(value, max); finite &= value.is_finite() }
/// ```
///
/// 1. In sixteen ranges that are joined at the end, and without a way out, so that the loop can be vectorised: which of equal
///    values is met first makes no difference but for the sign of zero. The simple loop alone runs at 8.5 GB/s of f32; with this
///    one, encoding as a whole runs at 10 (`tests/rates.rs`, one core of an AMD EPYC of the Zen 5 class, November 2026).
/// 2. Whether all are finite shows in the largest magnitude, as an integer, which is two operations for a vector instead of four: 48 GB/s
///    instead of 27 (a scratch program, AVX2, rows of 768 in the L2 cache, Zen 3).
#[inline(always)]
pub fn finite_range(values: &[f32]) -> Option<(f32, f32)> {
    const LANES: usize = 16;
    const SIGN: u32 = 1 << 31;
    let (mut min, mut max, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0; LANES]);
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut take = |lane: usize, value: f32| {
        min[lane] = lesser(value, min[lane]);
        max[lane] = greater(value, max[lane]);
        most[lane] = most[lane].max(value.to_bits() & !SIGN);
    };
    for values in blocks {
        for (lane, value) in values.iter().enumerate() {
            take(lane, *value);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        take(lane, *value);
    }
    let join = |(low, high), (min, max): (f32, f32)| (lesser(min, low), greater(max, high));
    let range = min.into_iter().zip(max).fold((f32::INFINITY, f32::NEG_INFINITY), join);
    most.into_iter().all(|most| most < f32::INFINITY.to_bits()).then_some(range)
}

/// [`Loops::codes`].
#[inline(always)]
pub fn codes(values: &[f32], min: f32, divisor: f32, codes: &mut [u8]) {
    for (value, code_out) in values.iter().zip(codes) {
        *code_out = code(*value, min, divisor);
    }
}

/// [`Loops::codes_of_dims`].
#[inline(always)]
pub fn codes_of_dims(values: &[f32], mins: &[f32], divisors: &[f32], codes: &mut [u8]) {
    for (((value, code_out), min), divisor) in values.iter().zip(codes).zip(mins).zip(divisors) {
        *code_out = code(*value, *min, *divisor);
    }
}

/// [`Loops::add_to_sums`].
#[inline(always)]
pub fn add_to_sums(row: &[f32], sums: &mut [f64]) {
    for (value, sum) in row.iter().zip(sums) {
        *sum += f64::from(*value);
    }
}

/// The code of a value, which is finite.
///
/// A value is never below `min`, and the quotient is above 255.5 only where the range was clipped.
#[inline(always)]
fn code(value: f32, min: f32, divisor: f32) -> u8 {
    rounded_byte(lesser((value - min) / divisor, 255.0))
}

/// The low byte of the integer nearest to `quotient`, whose magnitude is below 2^22; ties go to the even one.
///
/// Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition itself rounds, and the low byte of the sum is that of
/// the integer. (Rounding by name is a call of the C library on processors from before SSE4.1, which x86-64 allows.)
#[inline(always)]
pub(crate) fn rounded_byte(quotient: f32) -> u8 {
    (quotient + 12_582_912.0).to_bits().to_le_bytes()[0]
}

/// Both are what one instruction does: the second if the first is NaN.
#[inline(always)]
pub(crate) fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
