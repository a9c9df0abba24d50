//! What a lossy codec lost: measured on every chunk that is written, so that a reader can refuse what is too coarse.

use cvc_format::Loss;

use crate::loops::Loops;
use crate::ops::narrow::round_f32;
use crate::rows::{Element, RowSlice, Values, with_values};

/// Sums run in so many lanes, whatever the processor has: lane k takes the values of columns k, k + 4, ...
pub const LANES: usize = 4;

/// Compares rows with what they decode to, in f64, and rounds the results outwards to f32: errors up, the cosine down.
///
/// `docs/NUMERICS.md` has the formulas and the order of every sum, so that one chunk has one loss on every machine. Rows may
/// come in any number of pieces, in their order.
#[derive(Debug)]
pub struct Measure<'l> {
    loops: &'l dyn Loops,
    total: Total,
}

impl core::fmt::Debug for dyn Loops + '_ {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Loops")
    }
}

impl<'l> Measure<'l> {
    /// Nothing was compared yet.
    pub fn new(loops: &'l dyn Loops) -> Measure<'l> {
        Measure { loops, total: Total { max_abs_error: 0.0, squares: 0.0, count: 0, min_cosine: 1.0 } }
    }

    /// Takes the next rows.
    ///
    /// # Panics
    /// `decoded` is not one value for each of `rows`, or those are bools or complex.
    pub fn add(&mut self, rows: RowSlice<'_>, decoded: &[f32]) {
        assert_eq!(rows.len() * rows.dim(), decoded.len(), "values and what they decode to");
        match rows.values() {
            // The dtype that there is most of.
            Values::F32(values) => {
                let loops = self.loops;
                self.total.add(values, decoded, rows.dim(), |rows, decoded| loops.loss(rows, decoded));
            }
            _ => with_values!(rows, values => self.total.add(values, decoded, rows.dim(), lanes_apart)),
        }
    }

    /// What was found.
    pub fn finish(self) -> Loss {
        let Total { max_abs_error, squares, count, min_cosine } = self.total;
        let mse = if count == 0 { 0.0 } else { squares / count as f64 };
        Loss {
            max_abs_error: round_up(max_abs_error),
            mse: round_up(mse),
            min_cosine: round_down(min_cosine),
        }
    }
}

/// What was found in some rows.
#[derive(Debug)]
struct Total {
    max_abs_error: f64,
    /// The sum of squared errors of the finite values, and how many those are.
    squares: f64,
    count: u64,
    min_cosine: f64,
}

/// The sums of one row.
#[derive(Clone, Copy)]
struct Sums {
    max_abs_error: f64,
    squares: f64,
    /// The squared lengths of both rows, and their product.
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Total {
    fn add<T: Element>(
        &mut self,
        values: &[T],
        decoded: &[f32],
        dim: usize,
        lanes: impl Fn([&[[T; LANES]]; 2], [&[[f32; LANES]]; 2]) -> [Lanes; 2],
    ) {
        // Rows of no values lose nothing.
        let dim = dim.max(1);
        for (values, decoded) in values.chunks(2 * dim).zip(decoded.chunks(2 * dim)) {
            // Behind a last row without a neighbour is one of no values, which is not looked at.
            let rows = values.split_at(dim.min(values.len()));
            let decoded = decoded.split_at(dim.min(decoded.len()));
            let (rows, decoded) = ([rows.0, rows.1], [decoded.0, decoded.1]);
            let both = sums(rows, decoded, &lanes);
            for ((row, decoded), sums) in rows.into_iter().zip(decoded).zip(both) {
                if row.len() == dim {
                    self.add_row(row, decoded, sums);
                }
            }
        }
    }

    /// Adds a row of which these are the sums, if it is plain.
    fn add_row<T: Element>(&mut self, row: &[T], decoded: &[f32], mut sums: Sums) {
        let mut count = row.len();
        if !is_plain(&sums) {
            (sums, count) = careful_sums(row, decoded);
        }
        // Not f64::max, which would drop a NaN, though none can be left.
        if sums.max_abs_error > self.max_abs_error {
            self.max_abs_error = sums.max_abs_error;
        }
        self.squares += sums.squares;
        self.count += count as u64;
        let cosine = cosine(&sums);
        if cosine < self.min_cosine {
            self.min_cosine = cosine;
        }
    }
}

/// The sums of two rows all of whose values are finite.
fn sums<T: Element>(
    rows: [&[T]; 2],
    decoded: [&[f32]; 2],
    lanes: impl Fn([&[[T; LANES]]; 2], [&[[f32; LANES]]; 2]) -> [Lanes; 2],
) -> [Sums; 2] {
    let (rows, decodeds) = (rows.map(<[T]>::as_chunks::<LANES>), decoded.map(<[f32]>::as_chunks::<LANES>));
    let mut both = lanes(rows.map(|(steps, _)| steps), decodeds.map(|(steps, _)| steps));
    for (lanes, ((_, row_rest), (_, decoded_rest))) in both.iter_mut().zip(rows.into_iter().zip(decodeds)) {
        // Zeros change no sum.
        let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
        for (lane, (value, decoded)) in row_rest.iter().zip(decoded_rest).enumerate() {
            (x[lane], y[lane]) = (value.as_f64(), f64::from(*decoded));
        }
        lanes.add(x, y, add_product);
    }
    both.map(|lanes| lanes.sums())
}

/// ```text
/// for row in rows {
///     for (x, y) in row { xx += x * x; yy += y * y; xy += x * y; squares += (y - x)^2; max = greater(|y - x|, max) }
/// }
/// ```
///
/// 1. In four lanes, because one sum would wait four cycles for each value, and the compiler may not reorder it.
/// 2. Each step for all lanes, and in a function apart from the one that adds the lanes up (a [`Loops`] is that by nature):
///    otherwise the compiler takes them for twenty numbers of their own and makes no vectors of them.
/// 3. Two rows in turns, since four lanes wait for each other still: every sum takes its next four values when it has the last ones.
/// 4. A product may be added in one step where the processor has that (`add_product` of [`lanes_shown`]).
///
/// With the first two 7.4 GB/s of f32 are measured instead of 4.0, and 13 instead of 3.4 when built for AVX2; with the first
/// alone, 4.4 (`tests/rates.rs`, one core of an AMD EPYC of the Zen 5 class, November 2026). On Zen 3 with AVX2 it is 12.1 with the first two, 11.9
/// with three, 12.9 without the third and 16.7 with all four (a scratch program, rows of 768 in the L2 cache).
#[inline(always)]
pub fn lanes<T: Element>(rows: [&[[T; LANES]]; 2], decoded: [&[[f32; LANES]]; 2]) -> [Lanes; 2] {
    lanes_shown(rows, decoded, add_product, |_| ())
}

/// The sum with a product, in two steps, each of which rounds.
#[inline(always)]
fn add_product(x: f64, y: f64, sum: f64) -> f64 {
    sum + x * y
}

/// [`lanes`], which shows `to` the values that it comes to, as many as a cache line of f32 holds. `add_product` adds the product of
/// two values to a sum, and is asked for products of a `T` and an f32 and of two of either. If `T` is f32, such a product is exact in f64, 48
/// bits of 53, so that one that rounds once gives what one gives that rounds the product first.
#[inline(always)]
pub fn lanes_shown<T: Element>(
    rows: [&[[T; LANES]]; 2],
    decoded: [&[[f32; LANES]]; 2],
    add_product: impl Fn(f64, f64, f64) -> f64 + Copy,
    to: impl Fn(&[[T; LANES]; LINE]),
) -> [Lanes; 2] {
    let mut lanes = [Lanes::default(); 2];
    let add = |lanes: &mut Lanes, x: &[T; LANES], y: &[f32; LANES]| {
        lanes.add(x.map(Element::as_f64), y.map(f64::from), add_product);
    };
    // As long as there are two rows, line by line.
    let count = rows[0].len().min(rows[1].len()).min(decoded[0].len()).min(decoded[1].len()) / LINE;
    let lines = rows.map(|row| &row.as_chunks::<LINE>().0[..count]);
    let decoded_lines = decoded.map(|row| &row.as_chunks::<LINE>().0[..count]);
    for at in 0..count {
        lines.iter().for_each(|lines| to(&lines[at]));
        for step in 0..LINE {
            for row in 0..2 {
                add(&mut lanes[row], &lines[row][at][step], &decoded_lines[row][at][step]);
            }
        }
    }
    // What is left of each.
    for row in 0..2 {
        let (lines, rest) = rows[row][count * LINE..].as_chunks::<LINE>();
        let (decoded_lines, decoded_rest) = decoded[row][count * LINE..].as_chunks::<LINE>();
        for (line, decoded) in lines.iter().zip(decoded_lines) {
            to(line);
            line.iter().zip(decoded).for_each(|(x, y)| add(&mut lanes[row], x, y));
        }
        rest.iter().zip(decoded_rest).for_each(|(x, y)| add(&mut lanes[row], x, y));
    }
    lanes
}

/// Steps of all lanes that a cache line of f32 is.
const LINE: usize = 64 / size_of::<[f32; LANES]>();

/// The same, apart from its caller: point 2 of [`lanes`].
#[inline(never)]
fn lanes_apart<T: Element>(rows: [&[[T; LANES]]; 2], decoded: [&[[f32; LANES]]; 2]) -> [Lanes; 2] {
    lanes(rows, decoded)
}

/// Sums of some values of a row, in lanes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lanes {
    max_abs_error: [f64; LANES],
    squares: [f64; LANES],
    xx: [f64; LANES],
    yy: [f64; LANES],
    xy: [f64; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, x: [f64; LANES], y: [f64; LANES], add_product: impl Fn(f64, f64, f64) -> f64) {
        let error: [f64; LANES] = core::array::from_fn(|lane| y[lane] - x[lane]);
        let products = |sums: &mut [f64; LANES], x: &[f64; LANES], y: &[f64; LANES]| {
            for lane in 0..LANES {
                sums[lane] = add_product(x[lane], y[lane], sums[lane]);
            }
        };
        products(&mut self.xx, &x, &x);
        products(&mut self.yy, &y, &y);
        products(&mut self.xy, &x, &y);
        // Errors have more bits than values, and their squares are rounded.
        for (sum, error) in self.squares.iter_mut().zip(error) {
            *sum += error * error;
        }
        for (most, error) in self.max_abs_error.iter_mut().zip(error) {
            *most = if error.abs() > *most { error.abs() } else { *most };
        }
    }

    fn sums(&self) -> Sums {
        let tree = |s: &[f64; LANES]| (s[0] + s[2]) + (s[1] + s[3]);
        Sums {
            max_abs_error: self
                .max_abs_error
                .iter()
                .fold(0.0, |most, error| if *error > most { *error } else { most }),
            squares: tree(&self.squares),
            xx: tree(&self.xx),
            yy: tree(&self.yy),
            xy: tree(&self.xy),
        }
    }
}

/// Whether the sums are what they seem: no value was NaN or infinite, no square overflowed, and none that matters
/// vanished.
fn is_plain(sums: &Sums) -> bool {
    const TINY: f64 = 1e-250;
    let fits = |square: f64| square == 0.0 || (TINY..f64::INFINITY).contains(&square);
    // A NaN or an infinity makes a square one, too.
    sums.squares < f64::INFINITY && (TINY..f64::INFINITY).contains(&sums.xx) && fits(sums.yy)
}

/// The sums of a row that is not plain, and how many of its values are finite: the others are left out, but for the
/// largest error. To keep squares in range, the lengths are those of the row divided by powers of two, which a cosine
/// does not feel.
#[cold]
fn careful_sums<T: Element>(row: &[T], decoded: &[f32]) -> (Sums, usize) {
    let pairs = || row.iter().map(|x| x.as_f64()).zip(decoded.iter().map(|y| f64::from(*y)));
    let finite = || pairs().filter(|(x, _)| x.is_finite());
    let came_back = |x: f64, y: f64| if x.is_nan() { y.is_nan() } else { x == y };
    let power_below = |most: f64| f64::from_bits(most.to_bits() & f64::INFINITY.to_bits());
    let scale_of = |most: f64| if most.is_normal() { power_below(most) } else { 1.0 };
    let x_scale = scale_of(finite().fold(0.0, |most, (x, _)| x.abs().max(most)));
    let y_scale = scale_of(finite().fold(0.0, |most, (_, y)| y.abs().max(most)));
    let (mut lanes, mut count) = (Lanes::default(), 0);
    for (lane, (x, y)) in (0..LANES).cycle().zip(pairs()) {
        let error = if x.is_finite() && y.is_finite() {
            (y - x).abs()
        } else if came_back(x, y) {
            0.0
        } else {
            f64::INFINITY
        };
        if error > lanes.max_abs_error[lane] {
            lanes.max_abs_error[lane] = error;
        }
        if x.is_finite() {
            count += 1;
            lanes.squares[lane] += error * error;
            let (x, y) = (x / x_scale, if y.is_finite() { y / y_scale } else { 0.0 });
            lanes.xx[lane] += x * x;
            lanes.yy[lane] += y * y;
            lanes.xy[lane] += x * y;
        }
    }
    (lanes.sums(), count)
}

/// The cosine of a row and what it decodes to: 1 if nothing was lost, which two zero rows are an example of; 0 if only
/// one of them is zero.
fn cosine(sums: &Sums) -> f64 {
    if sums.max_abs_error == 0.0 {
        1.0
    } else if sums.xx == 0.0 || sums.yy == 0.0 {
        0.0
    } else {
        (sums.xy / (sums.xx.sqrt() * sums.yy.sqrt())).clamp(-1.0, 1.0)
    }
}

fn round_up(value: f64) -> f32 {
    let nearest = round_f32(value);
    if f64::from(nearest) < value { nearest.next_up() } else { nearest }
}

fn round_down(value: f64) -> f32 {
    let nearest = round_f32(value);
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::loops::Plain;

    fn measure(rows: RowSlice<'_>, decoded: &[f32]) -> Loss {
        let mut measure = Measure::new(&Plain);
        // In two pieces, which makes no difference.
        let (row, value) = (rows.len() / 2, rows.len() / 2 * rows.dim());
        measure.add(rows.slice(0..row), &decoded[..value]);
        measure.add(rows.slice(row..rows.len()), &decoded[value..]);
        measure.finish()
    }

    fn of(rows: &[f32], decoded: &[f32], dim: usize) -> Loss {
        measure(RowSlice::new(rows, dim).unwrap(), decoded)
    }

    #[test]
    fn nothing_lost_is_none() {
        let rows: Vec<f32> = (0..77u8).map(|n| f32::from(n) * 0.37 - 9.0).collect();
        for dim in [1, 7, 11, 77] {
            assert_eq!(of(&rows, &rows, dim), Loss::NONE);
        }
        assert_eq!(of(&[0.0, -0.0], &[-0.0, 0.0], 2), Loss::NONE);
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
        assert_eq!(of(&odd, &odd, 4), Loss::NONE);
        assert_eq!(
            measure(RowSlice::from_bytes(cvc_format::DType::F32, 3, 0, &[]).unwrap(), &[]),
            Loss::NONE
        );
    }

    #[test]
    fn figures_are_those_of_the_formulas_rounded_outwards() {
        let loss = of(&[3.0, 4.0, 1.0, 0.0], &[3.0, 4.5, 1.0, 1.0], 2);
        assert_eq!((loss.max_abs_error, loss.mse), (1.0, 0.3125));
        let cosine = 0.5f64.sqrt();
        assert!(f64::from(loss.min_cosine) < cosine && f64::from(loss.min_cosine.next_up()) > cosine);
        // 0.1 as f64 and as f32 differ by 1.49e-9, and so does the figure, upwards.
        let loss = measure(RowSlice::new(&[0.1f64], 1).unwrap(), &[0.1]);
        let error = f64::from(0.1f32) - 0.1;
        assert!(f64::from(loss.max_abs_error) >= error && f64::from(loss.max_abs_error.next_down()) < error);
        assert_eq!(loss.min_cosine, 1.0);
    }

    #[test]
    fn zero_rows_have_a_cosine() {
        assert_eq!(
            of(&[0.0, 0.0, 1.0, 1.0], &[0.0, 0.0, 1.0, 2.0], 2).min_cosine,
            of(&[1.0, 1.0], &[1.0, 2.0], 2).min_cosine
        );
        assert_eq!(of(&[0.0, 0.0], &[0.0, 1.0], 2).min_cosine, 0.0);
        assert_eq!(of(&[0.0, 1.0], &[0.0, 0.0], 2).min_cosine, 0.0);
        assert_eq!(of(&[1.0, 1.0], &[-2.0, -2.0], 2).min_cosine, -1.0);
    }

    #[test]
    fn a_class_that_is_lost_is_an_infinite_error() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (value, decoded) in [(nan, 0.0), (inf, 9.0), (inf, -inf), (-inf, nan), (nan, inf)] {
            let loss = of(&[1.0, value, 2.0], &[1.5, decoded, 2.0], 3);
            assert_eq!((loss.max_abs_error, loss.mse), (inf, 0.125), "{value} became {decoded}");
            assert!(loss.min_cosine > 0.9 && loss.min_cosine < 1.0);
        }
        for decoded in [nan, inf] {
            let loss = of(&[1.0, 1.0], &[1.0, decoded], 2);
            assert_eq!((loss.max_abs_error, loss.mse), (inf, inf));
            assert!((0.7..0.8).contains(&loss.min_cosine));
        }
    }

    #[test]
    fn squares_beyond_f64_do_no_harm() {
        let loss = |values: &[f64], decoded: &[f32]| measure(RowSlice::new(values, 2).unwrap(), decoded);
        let huge = loss(&[1e300, 1e300], &[65504.0, 65504.0]);
        assert_eq!((huge.max_abs_error, huge.mse), (f32::INFINITY, f32::INFINITY));
        assert!(huge.min_cosine > 0.999_999);
        let tiny = loss(&[1e-300, 0.0], &[0.0, 1e-45]);
        assert!(tiny.max_abs_error > 0.0 && tiny.min_cosine == 0.0);
        assert_eq!(loss(&[1e-300, 0.0], &[0.0, 0.0]).min_cosine, 0.0);
    }

    /// The order of the sums, spelled out.
    #[test]
    fn sums_have_one_order() {
        let x: Vec<f32> = (0..29u16).map(|n| f32::from(n * 37 % 101) * 0.013 - 0.5).collect();
        let y: Vec<f32> = x.iter().map(|value| f16::from_f32(*value).to_f32() * 1.01).collect();
        let mut lanes = [0f64; 4];
        for (column, (x, y)) in x.iter().zip(&y).enumerate() {
            let error = f64::from(*y) - f64::from(*x);
            lanes[column % 4] += error * error;
        }
        let sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
        assert_eq!(of(&x, &y, 29).mse, round_up(sum / 29.0));
    }

    /// Two rows at a time, one without a neighbour, and what is left of lines and lanes.
    #[test]
    fn rows_are_summed_each_by_itself() {
        for dim in [1, 3, 4, 15, 16, 17, 37, 64] {
            for rows in 1..6 {
                let x: Vec<f32> = (0..rows * dim).map(|n| (n * 37 % 101) as f32 * 0.013 - 0.5).collect();
                let y: Vec<f32> = x.iter().map(|value| f16::from_f32(*value).to_f32() * 1.01).collect();
                let mut squares = 0.0;
                for (x, y) in x.chunks(dim).zip(y.chunks(dim)) {
                    let mut lanes = [0f64; 4];
                    for (column, (x, y)) in x.iter().zip(y).enumerate() {
                        let error = f64::from(*y) - f64::from(*x);
                        lanes[column % 4] += error * error;
                    }
                    squares += (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
                }
                let mut measure = Measure::new(&Plain);
                measure.add(RowSlice::new(&x, dim).unwrap(), &y);
                let mse = round_up(squares / (rows * dim) as f64);
                assert_eq!(measure.finish().mse, mse, "{rows} rows of {dim}");
            }
        }
    }
}
