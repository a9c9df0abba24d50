//! What decoding does not bring back, measured against the originals.
//!
//! The figures mean what those of [`cvc::Loss`] mean, which a native file keeps for each chunk, but are not rounded to f32.

use crate::histogram::{Histogram, Spread};

/// What was lost in some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MeasuredLoss {
    /// The largest absolute difference of values that are finite on both sides.
    pub max_abs_error: f64,
    /// The mean of the squared differences of those values.
    pub mse: f64,
    /// The least cosine between a row and what it decodes to; of rows that are finite on both sides.
    pub min_cosine: f64,
    /// Values that are finite on both sides.
    pub compared: u64,
    /// NaN and infinities that did not come back as they were, and finite values that came back as one.
    pub not_back: u64,
}

/// What was lost in all rows, and how errors are spread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ErrorReport {
    /// Of all rows together.
    pub total: MeasuredLoss,
    /// Of each chunk.
    pub chunks: Vec<MeasuredLoss>,
    /// The mean of the cosines; NaN if there are none.
    pub mean_cosine: f64,
    /// Decoded values less original ones.
    pub histogram: Histogram,
    /// The root of the mean square error in each dimension; empty if there are too many.
    pub dims: Vec<f64>,
}

/// Gathers an [`ErrorReport`] in two passes.
pub(crate) struct Gather {
    chunks: Vec<Sums>,
    pub(crate) spread: Spread,
    histogram: Option<Histogram>,
    cosines: (f64, u64),
    dims: Vec<(f64, u64)>,
}

#[derive(Clone, Copy)]
struct Sums {
    max_abs_error: f64,
    squares: f64,
    min_cosine: f64,
    compared: u64,
    not_back: u64,
}

impl Sums {
    const NONE: Sums = Sums { max_abs_error: 0.0, squares: 0.0, min_cosine: 1.0, compared: 0, not_back: 0 };

    fn finish(self) -> MeasuredLoss {
        let Sums { max_abs_error, squares, min_cosine, compared, not_back } = self;
        let mse = if compared == 0 { 0.0 } else { squares / compared as f64 };
        MeasuredLoss { max_abs_error, mse, min_cosine, compared, not_back }
    }
}

impl Gather {
    /// `dims` is 0 where they are not looked at.
    pub(crate) fn new(dims: usize) -> Gather {
        Gather {
            chunks: Vec::new(),
            spread: Spread::new(),
            histogram: None,
            cosines: (0.0, 0),
            dims: vec![(0.0, 0); dims],
        }
    }

    /// The next rows are those of another chunk.
    pub(crate) fn chunk(&mut self) {
        self.chunks.push(Sums::NONE);
    }

    /// Takes a row of the first pass.
    pub(crate) fn first(&mut self, original: &[f64], decoded: &[f64]) {
        let sums = self.chunks.last_mut().expect("rows are of a chunk");
        let (mut xx, mut yy, mut xy, mut finite) = (0.0, 0.0, 0.0, true);
        for (dim, (x, y)) in original.iter().zip(decoded).enumerate() {
            if x.is_finite() && y.is_finite() {
                let error = y - x;
                sums.max_abs_error =
                    if error.abs() > sums.max_abs_error { error.abs() } else { sums.max_abs_error };
                sums.squares += error * error;
                sums.compared += 1;
                if error.is_finite() {
                    self.spread.add(error);
                }
                if let Some((squares, count)) = self.dims.get_mut(dim) {
                    *squares += error * error;
                    *count += 1;
                }
                (xx, yy, xy) = (xx + x * x, yy + y * y, xy + x * y);
            } else {
                finite = false;
                sums.not_back += u64::from(!(x == y || (x.is_nan() && y.is_nan())));
            }
        }
        if finite {
            let cosine = cosine(original, decoded, xx, yy, xy);
            self.cosines = (self.cosines.0 + cosine, self.cosines.1 + 1);
            sums.min_cosine = sums.min_cosine.min(cosine);
        }
    }

    /// The first pass is over.
    pub(crate) fn turn(&mut self) {
        self.histogram = Some(Histogram::over(&self.spread, false));
    }

    /// Takes the same row once more.
    pub(crate) fn second(&mut self, original: &[f64], decoded: &[f64]) {
        let histogram = self.histogram.as_mut().expect("after the turn");
        let errors = original.iter().zip(decoded).filter(|(x, y)| x.is_finite() && y.is_finite());
        errors.map(|(x, y)| y - x).filter(|error| error.is_finite()).for_each(|error| histogram.add(error));
    }

    pub(crate) fn finish(self) -> ErrorReport {
        let mut total = Sums::NONE;
        for chunk in &self.chunks {
            total.max_abs_error = total.max_abs_error.max(chunk.max_abs_error);
            total.squares += chunk.squares;
            total.min_cosine = total.min_cosine.min(chunk.min_cosine);
            total.compared += chunk.compared;
            total.not_back += chunk.not_back;
        }
        ErrorReport {
            total: total.finish(),
            chunks: self.chunks.into_iter().map(Sums::finish).collect(),
            mean_cosine: self.cosines.0 / self.cosines.1 as f64,
            histogram: self.histogram.expect("after the turn"),
            dims: self.dims.iter().map(|(squares, count)| (squares / *count as f64).sqrt()).collect(),
        }
    }
}

/// The cosine of a row and what it decodes to: 1 if they are equal, two zero rows too; 0 if one is zero and the other is not.
fn cosine(x: &[f64], y: &[f64], xx: f64, yy: f64, xy: f64) -> f64 {
    if x == y {
        return 1.0;
    }
    const TINY: f64 = 1e-250;
    let fits = |square: f64| (TINY..f64::INFINITY).contains(&square);
    if fits(xx) && fits(yy) {
        return (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0);
    }
    // Squares that overflow or vanish: the lengths of both are made about 1, which a cosine does not feel.
    let most = |row: &[f64]| row.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let (x_most, y_most) = (most(x), most(y));
    if x_most == 0.0 || y_most == 0.0 {
        return 0.0;
    }
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x / x_most, y / y_most);
        (xx, yy, xy) = (xx + x * x, yy + y * y, xy + x * y);
    }
    (xy / f64::sqrt(xx * yy)).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(&[f64], &[f64])]) -> ErrorReport {
        let mut gather = Gather::new(rows[0].0.len());
        gather.chunk();
        rows.iter().for_each(|(x, y)| gather.first(x, y));
        gather.turn();
        rows.iter().for_each(|(x, y)| gather.second(x, y));
        gather.finish()
    }

    #[test]
    fn figures_are_those_of_the_formulas() {
        let report = of(&[(&[3.0, 4.0], &[3.0, 4.5]), (&[1.0, 0.0], &[1.0, 1.0])]);
        assert_eq!((report.total.max_abs_error, report.total.mse), (1.0, 0.3125));
        assert!((report.total.min_cosine - 0.5f64.sqrt()).abs() < 1e-15);
        let first = (9.0 + 18.0) / (5.0 * (9.0f64 + 20.25).sqrt());
        assert!((report.mean_cosine - (first + 0.5f64.sqrt()) / 2.0).abs() < 1e-15);
        assert_eq!(report.dims, [0.0, (1.25f64 / 2.0).sqrt()]);
        assert_eq!(report.histogram.total(), 4);
    }

    #[test]
    fn what_is_not_finite_came_back_or_did_not() {
        let inf = f64::INFINITY;
        let report = of(&[
            (&[f64::NAN, inf, -inf, 1.0], &[f64::NAN, inf, -inf, 1.5]),
            (&[f64::NAN, inf, -inf, 1.0], &[0.0, -inf, -9.0, inf]),
        ]);
        assert_eq!((report.total.not_back, report.total.compared), (4, 1));
        assert_eq!((report.total.max_abs_error, report.total.min_cosine), (0.5, 1.0));
        assert!(report.mean_cosine.is_nan());
    }

    #[test]
    fn cosines_of_the_tiny_the_huge_and_zero() {
        let cosine = |x: &[f64], y: &[f64]| of(&[(x, y)]).total.min_cosine;
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, -0.0]), 1.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert!((cosine(&[1e-200, 0.0], &[1e-200, 1e-200]) - 0.5f64.sqrt()).abs() < 1e-15);
        assert!((cosine(&[1e200, 0.0], &[1e200, 1e200]) - 0.5f64.sqrt()).abs() < 1e-15);
    }
}
