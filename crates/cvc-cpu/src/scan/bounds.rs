//! How good a row can be at most, given a product that was computed in a hurry.
//!
//! ```text
//! goodness of row x for query q <= a (scale P + shift) + b offset + h spread + t slack + n
//! ```
//!
//! `P` is the product of what the row and the query were made to; `a`, `b`, `h`, `t`, `n` ([`RowTerms`]) depend on the row alone, `scale`,
//! `shift`, `offset`, `spread`, `slack` ([`QueryTerms`]) on the query alone. A row is looked at closely only if this is not below what the worst row
//! kept has. Goodness is here what can be computed from products without the query's own length: `q.x` for dot, `q.x / |x|` for cosine,
//! `2 q.x - |x|^2` for both distances; [`QueryTerms::set_threshold`] brings thresholds to it.
//!
//! # Rows of floats
//!
//! `P` is `q.x` summed in f32 in some order, which is off by at most `(d + 2) u |q| |x|` with `u = 2^-24` (products and sums round, and
//! Cauchy and Schwarz bound the sum of magnitudes); so is `|x|^2`. [`float_error`] is twice as much and some more.
//!
//! # Rows of codes: `x = s c + m`, with codes `c` of a byte
//!
//! The query is rounded to integers: `q = scale Q + r`, and `P = Q.c` is exact. Then
//!
//! ```text
//! q.x = s (scale P + r.c) + m sum(q)
//! r.c = r.(c - 128) + 128 sum(r)      |r.(c - 128)| <= |r| |c - 128|
//! ```
//!
//! so `a = s`, `shift = 128 sum(r)`, `b = m`, `offset = sum(q)`, `h = |s| |c - 128|`, `spread = |r|`. All lengths follow from the sum of the codes and that of
//! their squares, which are integers. Decoding rounds each value twice, by `2^-24` of `|s c| + |m|` each time at most; this, and the rounding of the
//! five terms themselves, is below `2^-19 M |q|` with `M = (|s| (2 * 255 + 128) + |m|) sqrt(d)`.
//!
//! Where many queries are rounded coarsely, what that left of each is rounded once more, `r = scale' Q' + r'`, and rows that were not ruled
//! out are looked at again: with `P' = Q'.c` the first term is `s (scale P + scale' P' + r'.c)`, and `r'` takes the place of `r` in the rest.
//!
//! # Rows of levels: `x = f R^T l + c`, with levels `l = slope u + least`, codes `u` of a few bits, a rotation `R` and a centre `c`
//!
//! The query is rotated, `y = R q`, and rounded as above: `y = scale Q + r`, `P = Q.u`. A rotation keeps products, so
//!
//! ```text
//! q.x = f y.l + q.c       y.l = scale (slope P + least sum(Q)) + r.l      |r.l| <= |r| |l|
//! |x|^2 = |c|^2 + 2 f (R c).l + f^2 |l|^2
//! ```
//!
//! so `a = f`, `scale` and `shift` are as the line says, `b = 1`, `offset = q.c` (of the chunk), `h = |f| |l|`. `(R c).l` is another product, with the rotated
//! centre rounded twice ([`Centre`]). Rotating in f32 is off by less than `20 u` of a length (at most 17 steps, each of which rounds every value once), and
//! all of the arithmetic by less than `2^-17 M |q|` with `M = |f| (255 + 128) sqrt(d) + |c|`.
//!
//! Where numbers are so large or small that f32 would overflow or lose digits, and where a length is the small difference of large numbers, the bound is
//! NaN, which is not below anything.

use std::ops::Range;
use std::sync::Arc;

use cvc_codec::{Metric, Queries, TERMS};

use super::levels::Line;
use super::products::CodeSums;

/// What a row has to do with its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RowTerms {
    /// `a`: by which products are multiplied.
    pub(super) product: f32,
    /// `b`.
    pub(super) offset: f32,
    /// `h`: how much it matters that the query was rounded.
    pub(super) spread: f32,
    /// `t`: what arithmetic rounds.
    pub(super) slack: f32,
    /// `n`.
    pub(super) fixed: f32,
}

/// The terms of the rows of a run: those of an earlier scan, or those that this one computes.
#[derive(Debug)]
pub(super) struct RunTerms {
    /// The rows of the run, counted from the start of its chunk.
    span: Range<u32>,
    known: Option<Arc<[f32]>>,
    /// Term after term, each for all rows of the run, as `known`.
    computed: Vec<f32>,
}

impl RunTerms {
    /// Of the rows `span` of a chunk, in memory that an earlier run had.
    pub(super) fn new(span: Range<u32>, known: Option<Arc<[f32]>>, mut memory: Vec<f32>) -> Self {
        let known = known.filter(|known| known.len() == TERMS * span.len());
        if known.is_none() {
            memory.resize(TERMS * span.len(), f32::NAN);
        }
        RunTerms { span, known, computed: memory }
    }

    /// Whether nobody must compute them.
    pub(super) fn are_known(&self) -> bool {
        self.known.is_some()
    }

    /// Notes the terms of a row of the run.
    pub(super) fn set(&mut self, row: u32, terms: RowTerms) {
        let RowTerms { product, offset, spread, slack, fixed } = terms;
        let (at, rows) = ((row - self.span.start) as usize, self.span.len());
        for (term, value) in [product, offset, spread, slack, fixed].into_iter().enumerate() {
            self.computed[term * rows + at] = value;
        }
    }

    /// Each term of some rows of the run.
    pub(super) fn of_rows(&self, rows: Range<u32>) -> [&[f32]; TERMS] {
        let rows = (rows.start - self.span.start) as usize..(rows.end - self.span.start) as usize;
        let all = self.known.as_deref().unwrap_or(&self.computed);
        core::array::from_fn(|term| &all[term * self.span.len()..][rows.clone()])
    }

    /// Gives back the memory, and in it the terms that were computed, if those of all rows were.
    pub(super) fn into_memory(self) -> Vec<f32> {
        self.computed
    }
}

/// What queries have to do with bounds, one number for each sum of a row, of which there may be more than queries.
#[derive(Clone, Debug)]
pub(super) struct QueryTerms {
    metric: Metric,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) offset: Vec<f32>,
    pub(super) spread: Vec<f32>,
    pub(super) slack: Vec<f32>,
    /// The length of each query.
    lengths: Vec<f64>,
}

/// Lengths beyond which f32 may overflow or lose digits on the way.
const LENGTHS: core::ops::RangeInclusive<f64> = 1e-15..=1e15;

/// How far off products of floats of so many values can be, as a part of the lengths of both.
pub(super) fn float_error(dim: usize) -> f64 {
    (dim as f64 + 16.0) / f64::from(1u32 << 23)
}

/// Beyond which a bound says nothing.
const MOST_ERROR: f64 = 0.1;

impl RowTerms {
    /// Of a row that must be looked at.
    pub(super) const UNKNOWN: RowTerms =
        RowTerms { product: f32::NAN, offset: f32::NAN, spread: f32::NAN, slack: f32::NAN, fixed: f32::NAN };

    /// Of a row of floats whose squares add up to about `squares`; `error` is their [`float_error`].
    pub(super) fn of_floats(metric: Metric, squares: f32, error: f64) -> RowTerms {
        let length = f64::from(squares).sqrt();
        if !LENGTHS.contains(&length) || error > MOST_ERROR {
            return RowTerms::UNKNOWN;
        }
        terms(
            metric,
            Parts {
                product: 1.0,
                offset: 0.0,
                spread: 0.0,
                slack: error * length,
                length,
                inverse: 1.0 / length,
                length_error: error,
            },
        )
    }

    /// Of a row of `dim` codes that decode to `scale * code + min`.
    #[inline]
    pub(super) fn of_codes(metric: Metric, dim: usize, scale: f32, min: f32, sums: CodeSums) -> RowTerms {
        let (d, s, m) = (dim as f64, f64::from(scale), f64::from(min));
        let (sum, squares) = (f64::from(sums.sum), f64::from(sums.squares));
        // Sums of integers below 2^53: exact, and never negative.
        let around = (squares - 256.0 * sum + 16384.0 * d).sqrt();
        let root = d.sqrt();
        // No code is longer than all of them at 255.
        let magnitude = (s.abs() * (2.0 * 255.0 + 128.0) + m.abs()) * root;
        if !LENGTHS.contains(&magnitude) {
            return RowTerms::UNKNOWN;
        }
        let largest = (s.abs() * 255.0 + m.abs()) * root;
        let length = (s * s * squares + 2.0 * s * m * sum + d * m * m).max(0.0).sqrt();
        if metric != Metric::Dot && (length < largest / 1024.0 || length == 0.0) {
            return RowTerms::UNKNOWN;
        }
        let inverse = 1.0 / length;
        // Decoding rounds; and where the three terms cancel, so does f64.
        let length_error = largest * inverse / f64::from(1u32 << 22);
        let slack = magnitude / f64::from(1u32 << 19);
        terms(
            metric,
            Parts { product: s, offset: m, spread: s.abs() * around, slack, length, inverse, length_error },
        )
    }
}

/// The centre of a chunk of rotated rows.
#[derive(Clone, Debug)]
pub(super) struct Centre {
    length: f64,
    /// The steps of its two columns: of what it was rounded to, and of what the rest was.
    scale: [f64; 2],
    /// The sum of each column.
    sum: [f64; 2],
    /// The length of what is left.
    rest_length: f64,
}

impl Centre {
    /// Of a rotated centre; and its two columns, one after the other.
    pub(super) fn new(rotated: &[f32], greatest: i8) -> (Centre, Vec<i8>) {
        let dim = rotated.len();
        let coarse = Rounded::new(rotated.iter().map(|value| f64::from(*value)), dim, greatest);
        let fine = coarse.rest(greatest);
        let length = rotated.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let centre = Centre {
            length,
            scale: [coarse.scale[0], fine.scale[0]],
            sum: [coarse.sum[0], fine.sum[0]],
            rest_length: fine.rest_length[0] + length / f64::from(1u32 << 24),
        };
        (centre, [coarse.columns, fine.columns].concat())
    }
}

impl RowTerms {
    /// Of a row of `dim` levels whose decoded values are `scale * R^T l + c`, given the products of its codes with the columns of
    /// its chunk's centre (0 for dot products, which do not need them).
    pub(super) fn of_levels(
        metric: Metric,
        dim: usize,
        line: Line,
        scale: f64,
        sums: CodeSums,
        centre: &Centre,
        products: [f32; 2],
    ) -> RowTerms {
        let (d, f) = (dim as f64, scale);
        let (sum, squares) = (f64::from(sums.sum), f64::from(sums.squares));
        let Line { slope, least } = line;
        let levels =
            (slope * slope * squares + 2.0 * slope * least * sum + least * least * d).max(0.0).sqrt();
        let magnitude = f.abs() * (255.0 + 128.0) * d.sqrt() + centre.length;
        if !LENGTHS.contains(&magnitude) {
            return RowTerms::UNKNOWN;
        }
        let along: f64 = (0..2)
            .map(|column| {
                centre.scale[column] * (slope * f64::from(products[column]) + least * centre.sum[column])
            })
            .sum();
        let largest = f.abs() * levels + centre.length;
        let square = centre.length * centre.length + 2.0 * f * along + f * f * levels * levels;
        // What the columns left of the centre, and what f32 makes of their products; then what rotating and decoding round.
        let off = centre.rest_length * levels + centre.length * 255.0 * d.sqrt() / f64::from(1u32 << 22);
        let square_error = 2.0 * f.abs() * off + largest * largest / f64::from(1u32 << 18);
        if metric != Metric::Dot && square < 16.0 * square_error {
            return RowTerms::UNKNOWN;
        }
        let (length, length_error) = (square.max(0.0).sqrt(), square_error / square);
        let slack = magnitude / f64::from(1u32 << 17);
        terms(
            metric,
            Parts {
                product: f,
                offset: 1.0,
                spread: f.abs() * levels,
                slack,
                length,
                inverse: 1.0 / length,
                length_error,
            },
        )
    }
}

/// The terms of a row for dot products, and its length.
struct Parts {
    product: f64,
    offset: f64,
    spread: f64,
    slack: f64,
    length: f64,
    /// One over the length.
    inverse: f64,
    /// As a part of the length.
    length_error: f64,
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the slack covers what is rounded")]
fn terms(metric: Metric, parts: Parts) -> RowTerms {
    let Parts { product, offset, spread, slack, length, inverse, length_error } = parts;
    let (by, more, fixed) = match metric {
        Metric::Dot => (1.0, 0.0, 0.0),
        // The product is at most `|q| |x|`, so that is what an error of the length makes of it.
        Metric::Cosine => (inverse, 2.0 * length_error + 1e-6, 0.0),
        _ => {
            let square = length * length;
            (2.0, 0.0, -square + square * (2.0 * length_error + 2e-6))
        }
    };
    RowTerms {
        product: (product * by) as f32,
        offset: (offset * by) as f32,
        spread: (spread * by) as f32,
        slack: (slack * by * 1.001 + more) as f32,
        fixed: fixed as f32,
    }
}

/// Queries that were rounded to integers.
#[derive(Clone, Debug)]
pub(super) struct Rounded {
    /// The integers, query after query.
    pub(super) columns: Vec<i8>,
    /// The step of each query.
    pub(super) scale: Vec<f64>,
    /// What rounding left of each: its length, and its sum.
    pub(super) rest_length: Vec<f64>,
    pub(super) rest_sum: Vec<f64>,
    /// The sum of the integers of each.
    pub(super) sum: Vec<f64>,
    dim: usize,
    /// What rounding left of each value.
    rests: Vec<f64>,
}

impl Rounded {
    /// Vectors of `dim` values, one after another, rounded to integers of at most `greatest`.
    pub(super) fn new(values: impl Iterator<Item = f64>, dim: usize, greatest: i8) -> Self {
        let mut rounded = Rounded {
            columns: Vec::new(),
            scale: Vec::new(),
            rest_length: Vec::new(),
            rest_sum: Vec::new(),
            sum: Vec::new(),
            dim,
            rests: values.collect(),
        };
        for vector in rounded.rests.chunks_exact_mut(dim.max(1)) {
            let largest = vector.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            let scale = largest / f64::from(greatest);
            let (mut squares, mut sum, mut of_integers) = (0.0, 0.0, 0.0);
            rounded.columns.extend(vector.iter_mut().map(|value| {
                let nearest = if scale == 0.0 { 0.0 } else { (*value / scale).round_ties_even() };
                *value -= nearest * scale;
                squares += *value * *value;
                sum += *value;
                #[expect(clippy::cast_possible_truncation, reason = "at most `greatest` in magnitude")]
                let integer = (nearest as i8).clamp(-greatest, greatest);
                of_integers += f64::from(integer);
                integer
            }));
            rounded.scale.push(scale);
            rounded.rest_length.push(squares.sqrt());
            rounded.rest_sum.push(sum);
            rounded.sum.push(of_integers);
        }
        rounded
    }

    /// What rounding left, rounded likewise.
    pub(super) fn rest(&self, greatest: i8) -> Rounded {
        Rounded::new(self.rests.iter().copied(), self.dim, greatest)
    }
}

impl QueryTerms {
    /// For products of floats, `width` sums to a row.
    pub(super) fn of_floats(queries: &Queries<'_>, width: usize) -> Self {
        let mut terms = QueryTerms::empty(queries, width);
        terms.scale[..queries.len()].fill(1.0);
        terms
    }

    /// For products of codes with queries that were rounded so.
    #[expect(clippy::cast_possible_truncation, reason = "the slack covers what is rounded")]
    pub(super) fn of_codes(queries: &Queries<'_>, rounded: &Rounded, width: usize) -> Self {
        let mut terms = QueryTerms::empty(queries, width);
        let dim = queries.dim() as usize;
        for (query, values) in queries.floats().chunks_exact(dim.max(1)).enumerate() {
            terms.scale[query] = rounded.scale[query] as f32;
            terms.shift[query] = (128.0 * rounded.rest_sum[query]) as f32;
            terms.offset[query] = values.iter().map(|value| f64::from(*value)).sum::<f64>() as f32;
            terms.spread[query] = (rounded.rest_length[query] * (1.0 + 1e-6)) as f32;
        }
        terms
    }

    /// For products of levels with queries that were rotated and rounded so. Offsets are those of a chunk: [`QueryTerms::offsets`].
    #[expect(clippy::cast_possible_truncation, reason = "the slack covers what is rounded")]
    pub(super) fn of_levels(queries: &Queries<'_>, rounded: &Rounded, line: Line, width: usize) -> Self {
        let mut terms = QueryTerms::empty(queries, width);
        for query in 0..queries.len() {
            terms.scale[query] = (rounded.scale[query] * line.slope) as f32;
            terms.shift[query] = (rounded.scale[query] * line.least * rounded.sum[query]) as f32;
            terms.spread[query] = (rounded.rest_length[query] * (1.0 + 1e-6)) as f32;
        }
        terms
    }

    /// For both products of levels together, of which these are the terms of the second.
    pub(super) fn and_of_rest(mut self, rest: QueryTerms) -> Self {
        self.shift.iter_mut().zip(&rest.shift).for_each(|(shift, more)| *shift += more);
        QueryTerms { scale: rest.scale, spread: rest.spread, ..self }
    }

    /// The offsets of queries for rows with a centre: their products with it.
    #[expect(clippy::cast_possible_truncation, reason = "the slack covers what is rounded")]
    pub(super) fn offsets(queries: &Queries<'_>, centre: &[f32], width: usize) -> Vec<f32> {
        let product =
            |query: &[f32]| query.iter().zip(centre).map(|(q, c)| f64::from(*q) * f64::from(*c)).sum::<f64>();
        let mut offsets: Vec<f32> =
            queries.floats().chunks_exact(centre.len().max(1)).map(|query| product(query) as f32).collect();
        offsets.resize(width, 0.0);
        offsets
    }

    #[expect(clippy::cast_possible_truncation, reason = "the slack covers what is rounded")]
    fn empty(queries: &Queries<'_>, width: usize) -> Self {
        let dim = queries.dim() as usize;
        let squares = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        let lengths: Vec<f64> =
            queries.floats().chunks_exact(dim.max(1)).map(|values| squares(values).sqrt()).collect();
        let none = || vec![0.0; width];
        let mut slack = none();
        for (slack, length) in slack.iter_mut().zip(&lengths) {
            *slack = (length * 1.001) as f32;
        }
        QueryTerms {
            metric: queries.metric(),
            scale: none(),
            shift: none(),
            offset: none(),
            spread: none(),
            slack,
            lengths,
        }
    }

    /// The bound below which a row is not as good as `goodness` for query `query`.
    #[expect(clippy::cast_possible_truncation, reason = "rounded downwards by more")]
    pub(super) fn threshold(&self, query: usize, goodness: f32) -> f32 {
        let length = self.lengths[query];
        if !LENGTHS.contains(&length) || goodness == f32::NEG_INFINITY {
            return f32::NEG_INFINITY;
        }
        // What is as good as infinite may have a lower number, so it must be looked at.
        if goodness == f32::INFINITY {
            return f32::MAX;
        }
        let score = f64::from(goodness);
        // A score was rounded to f32 by 2^-24 of it; some more for rounding here.
        let ulps = 1e-6;
        let threshold = match self.metric {
            Metric::Dot => score - score.abs() * ulps,
            Metric::Cosine => (score - score.abs() * ulps - 1e-30) * length,
            _ => {
                let distance = if self.metric == Metric::L2 { score * score } else { -score };
                length * length - distance - (length * length + distance) * ulps
            }
        };
        (threshold - threshold.abs() * ulps) as f32
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "codes are made of anything")]
mod tests {
    use cvc_codec::ops::affine_u8::affine;
    use cvc_codec::ops::rotated::{RotatedCodes, rotated as rotated_row};
    use cvc_codec::{Rotation, RowSlice};

    use super::super::candidates::Tile;
    use super::super::levels::{in_places, line, unpack};
    use super::super::products::{CodeColumns, FloatColumns};
    use super::*;
    use crate::level::Level;

    const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2sq];

    const CODES: [RotatedCodes; 2] = [RotatedCodes::Int4, RotatedCodes::Bit1];

    /// Numbers that are the same in every run, about normally distributed.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f32 {
            let uniform = || {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 40) as f32 / (1 << 24) as f32
            };
            std::iter::repeat_with(uniform).take(6).sum::<f32>() - 3.0
        }

        fn vector(&mut self, dim: usize) -> Vec<f32> {
            (0..dim).map(|_| self.next()).collect()
        }
    }

    /// Whether a row is among the candidates, and looked at closer if so, given the threshold that its own exact score sets.
    fn survives(
        level: Level,
        terms: &QueryTerms,
        row: &RowTerms,
        products: &[f32],
        rest: Option<(&QueryTerms, f32)>,
        query: &Queries<'_>,
        values: &[f32],
    ) -> bool {
        let score = query.score(0, RowSlice::new(values, values.len()).unwrap());
        let thresholds = [terms.threshold(0, query.metric().goodness(score))];
        let mut of_row = RunTerms::new(0..1, None, Vec::new());
        of_row.set(0, *row);
        let tile = Tile { terms: of_row.of_rows(0..1), products, queries: terms, offsets: &terms.offset };
        let mut candidates = Vec::new();
        tile.candidates(level, &thresholds, &mut candidates);
        let closer = |(terms, product)| tile.may_do_with_rest((0, 0), terms, product, &thresholds);
        candidates == [(0, 0)] && rest.is_none_or(closer)
    }

    #[test]
    fn no_row_of_floats_is_better_than_its_bound() {
        let mut noise = Noise(1);
        for dim in [1, 3, 100, 768] {
            for metric in METRICS {
                for trial in 0..300 {
                    let query = noise.vector(dim);
                    // Rows near the query, so that everything but the last digits is alike.
                    let near = 10f32.powi(-(trial % 8));
                    let mut row: Vec<f32> = query.iter().map(|value| value + noise.next() * near).collect();
                    if trial % 2 == 0 {
                        // Or at a right angle to it, so that large products cancel.
                        row = noise.vector(dim);
                        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                        let along = dot(&query, &row) / dot(&query, &query);
                        row.iter_mut().zip(&query).for_each(|(x, q)| *x -= along * q);
                    }
                    let queries = Queries::new(metric, RowSlice::new(&query, dim).unwrap()).unwrap();
                    for level in Level::available() {
                        let columns = FloatColumns::new(&query, dim);
                        let (mut product, mut squares) = ([0.0], [0.0]);
                        columns.products(level, &row, &mut product, Some(&mut squares));
                        let terms = QueryTerms::of_floats(&queries, 1);
                        let of_row = RowTerms::of_floats(metric, squares[0], float_error(dim));
                        assert!(
                            survives(level, &terms, &of_row, &product, None, &queries, &row),
                            "{metric}, {dim}, {level}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_row_of_codes_is_better_than_its_bound() {
        let mut noise = Noise(2);
        for dim in [1, 3, 100, 768] {
            for metric in METRICS {
                for trial in 0..300 {
                    let mut query = noise.vector(dim);
                    if trial % 3 == 0 {
                        query[0] *= 1e3;
                    }
                    let queries = Queries::new(metric, RowSlice::new(&query, dim).unwrap()).unwrap();
                    for level in Level::available() {
                        let values = query.iter().map(|value| f64::from(*value));
                        let rounded = Rounded::new(values, dim, CodeColumns::greatest(level, 1));
                        let rest = rounded.rest(CodeColumns::greatest(level, 1));
                        let rests = if trial % 8 < 4 { &rounded.rests } else { &rest.rests };
                        let most = rests.iter().fold(1e-30, |most: f64, rest| most.max(rest.abs()));
                        // Codes that make the most of what rounding lost, or any.
                        let codes: Vec<u8> = query
                            .iter()
                            .zip(rests)
                            .map(|(value, rest)| match trial % 4 {
                                0 => (128.0 + 127.0 * rest / most).round() as u8,
                                1 if *rest > 0.0 => 129,
                                1 => 127,
                                2 => (128.0 + 40.0 * noise.next()) as u8,
                                _ => (128.0 + 40.0 * value) as u8,
                            })
                            .collect();
                        let (scale, min) =
                            (0.01 * noise.next().abs(), if trial % 2 == 0 { -1.28 } else { noise.next() });
                        let row: Vec<f32> = codes.iter().map(|code| affine(*code, scale, min)).collect();
                        let columns = CodeColumns::new(&rounded.columns, dim);
                        let mut padded = codes.clone();
                        padded.resize(columns.stride(), 0);
                        let (mut product, mut sums) = ([0.0], [CodeSums::default()]);
                        columns.products(level, &padded, &mut product, Some(&mut sums));
                        let mut of_rest = [0.0];
                        CodeColumns::new(&rest.columns, dim).products(level, &padded, &mut of_rest, None);
                        let terms = QueryTerms::of_codes(&queries, &rounded, 1);
                        let rest = QueryTerms::of_codes(&queries, &rest, 1);
                        let of_row = RowTerms::of_codes(metric, dim, scale, min, sums[0]);
                        let rest = Some((&rest, of_rest[0]));
                        assert!(
                            survives(level, &terms, &of_row, &product, rest, &queries, &row),
                            "{metric}, {dim}, {level}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_row_of_levels_is_better_than_its_bound() {
        let mut noise = Noise(3);
        for dim in [1, 6, 100, 768] {
            let rotation = Rotation::new(dim);
            for (metric, codes) in METRICS.into_iter().flat_map(|metric| CODES.map(|codes| (metric, codes))) {
                for trial in 0..150 {
                    let query = noise.vector(dim);
                    let queries = Queries::new(metric, RowSlice::new(&query, dim).unwrap()).unwrap();
                    let centre: Vec<f32> = noise.vector(dim).iter().map(|value| value * 0.3).collect();
                    let (mut rotated, mut rotated_centre) = (query.clone(), centre.clone());
                    rotation.rotate(&mut rotated);
                    rotation.rotate(&mut rotated_centre);
                    for level in Level::available() {
                        let greatest = CodeColumns::greatest(level, 1);
                        let values = rotated.iter().map(|value| f64::from(*value));
                        let rounded = Rounded::new(values, dim, greatest);
                        let rest = rounded.rest(greatest);
                        let rests = if trial % 6 < 3 { &rounded.rests } else { &rest.rests };
                        let most = rests.iter().fold(1e-30, |most: f64, rest| most.max(rest.abs()));
                        // Levels that make the most of what rounding lost, or those next to the query, or any.
                        let wanted = |at: usize| match trial % 3 {
                            0 => 127.0 * rests[at] / most,
                            1 => 46.0 * f64::from(rotated[at]),
                            _ => f64::from(rotated[at] * 1e4).sin() * 127.0,
                        };
                        let nearest = |at: usize| {
                            let distance =
                                |code: &usize| (f64::from(codes.table()[*code]) - wanted(at)).abs();
                            let all = 0..codes.table().len();
                            all.min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("there are codes")
                        };
                        let mut packed = vec![0; usize::try_from(codes.row_len(dim as u64)).unwrap()];
                        for at in 0..dim {
                            let bit = at * codes.bits() as usize;
                            packed[bit / 8] |= (nearest(at) << (bit % 8)) as u8;
                        }
                        let scale = 1e-4 * noise.next();
                        let mut row = vec![0.0; dim];
                        rotated_row(
                            codes,
                            &rotation,
                            &packed,
                            scale,
                            &centre,
                            &mut vec![0; 2 * dim],
                            &mut row,
                        );

                        let columns = CodeColumns::new(&in_places(codes, &rounded.columns, dim), dim);
                        let mut bytes = vec![0; columns.stride()];
                        unpack(level, codes, &packed, dim, columns.stride(), &mut bytes);
                        let (mut product, mut sums) = ([0.0], [CodeSums::default()]);
                        columns.products(level, &bytes, &mut product, Some(&mut sums));
                        let (of_chunk, columns) = Centre::new(&rotated_centre, greatest);
                        let mut along = [0.0; 2];
                        let columns = in_places(codes, &columns, dim);
                        CodeColumns::new(&columns, dim).products(level, &bytes, &mut along, None);
                        let mut of_rest = [0.0];
                        let columns = in_places(codes, &rest.columns, dim);
                        CodeColumns::new(&columns, dim).products(level, &bytes, &mut of_rest, None);
                        let mut terms = QueryTerms::of_levels(&queries, &rounded, line(codes), 1);
                        terms.offset = QueryTerms::offsets(&queries, &centre, 1);
                        let rest = QueryTerms::of_levels(&queries, &rest, line(codes), 1);
                        let rest = terms.clone().and_of_rest(rest);
                        let scale = f64::from(scale) * rotation.block() as f64;
                        let of_row =
                            RowTerms::of_levels(metric, dim, line(codes), scale, sums[0], &of_chunk, along);
                        let rest = Some((&rest, of_rest[0]));
                        assert!(
                            survives(level, &terms, &of_row, &product, rest, &queries, &row),
                            "{metric}, {dim}, {level}"
                        );
                    }
                }
            }
        }
    }
}
