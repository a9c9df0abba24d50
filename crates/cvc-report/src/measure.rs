//! Two passes over the rows of an array, and over the same rows of the originals.
//!
//! The first finds counts, extremes and means; the second, knowing these, fills bins and sums squared distances from means.

use cvc::codec::CodecError;
use cvc::{Array, ArrayDType, Error, Reader};

use crate::dims::{self, Dim};
use crate::facts::{self, ArrayReport, Content};
use crate::histogram::{Histogram, Spread};
use crate::loss::{self, ErrorReport};
use crate::rows::{Decoded, Originals, is_complex, windows};
use crate::{ReportOptions, recall, strings, wrong};

/// What was found in an array of values.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValuesReport {
    /// The dtype that they decode to.
    pub decoded_dtype: cvc::DType,
    /// Whether each value was taken as two, its real and its imaginary part. Figures by dimension are then by part.
    pub complex: bool,
    /// What the file decodes to.
    pub decoded: Side,
    /// What was packed, if it was given.
    pub original: Option<Side>,
    /// How both differ.
    pub error: Option<ErrorReport>,
    /// The dimensions whose deviation, decoded, is at most twice the root of the mean square error, as measured or as the file says;
    /// those that are dead left out. What was in them is drowned by what encoding did.
    pub drowned: Vec<usize>,
}

/// Values on one side of encoding.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Side {
    /// Rows.
    pub rows: u64,
    /// Finite values.
    pub finite: u64,
    /// Values that are no number.
    pub nan: u64,
    /// Infinities of either sign.
    pub infinite: u64,
    /// Rows with a NaN or an infinity.
    pub nonfinite_rows: u64,
    /// Rows of nothing but zeros.
    pub zero_rows: u64,
    /// The least finite value; NaN if there is none, as the next three.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, that of a population.
    pub std: f64,
    /// All finite values. Those of both sides have the same bins.
    pub histogram: Histogram,
    /// The least Euclidean norm of a row that is finite; NaN if there is none, as the next two.
    pub min_norm: f64,
    /// The largest.
    pub max_norm: f64,
    /// Their mean.
    pub mean_norm: f64,
    /// The norms of all rows that are finite. Those of both sides have the same bins.
    pub norms: Histogram,
    /// Each dimension; empty if there are no rows, or more dimensions than anybody could look at.
    pub dims: Vec<Dim>,
    /// The dimensions that tell no rows apart: their deviation is at most a millionth of the median one.
    pub dead: Vec<usize>,
}

/// All arrays of a file.
pub(crate) fn arrays(reader: &Reader, options: &ReportOptions) -> Result<Vec<ArrayReport>, Error> {
    let named = options.array.as_deref();
    if let Some(name) = named {
        reader.array(name)?;
    }
    let against = match (options.originals.first(), named) {
        (None, _) => None,
        (Some(_), Some(name)) => Some(name.to_owned()),
        (Some(original), None) => match reader.vectors() {
            Ok(array) => Some(array.index().name.clone()),
            Err(_) => {
                let names: Vec<String> = reader.array_names().map(|name| format!("{name:?}")).collect();
                let problem = format!(
                    "the file has {} arrays and none named \"vectors\"; choose one by name: {}",
                    names.len(),
                    names.join(", ")
                );
                return Err(wrong("against", &original.name, problem));
            }
        },
    };
    let mut reports = Vec::new();
    for array in reader.arrays() {
        let mut report = facts::array(array);
        let originals = against.as_ref() == Some(&report.name);
        if named.is_none_or(|name| name == report.name) {
            match content(array, if originals { Some(options) } else { None }) {
                Ok((content, recall)) => (report.content, report.recall) = (content, recall),
                Err(error) if named.is_none() && !originals && is_unknown(&error) => {
                    report.content = Content::Unreadable(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Whether another version might read the array.
fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Newer { .. } | Error::Chunk { error: CodecError::Unknown { .. }, .. })
}

/// What is in one array, compared with the originals of `against`.
fn content(
    array: Array<'_>,
    against: Option<&ReportOptions>,
) -> Result<(Content, Option<recall::Recall>), Error> {
    if array.index().dtype == ArrayDType::Utf8 {
        if let Some(original) = against.and_then(|options| options.originals.first()) {
            let problem =
                format!("array {:?} holds strings, which are compared with nothing", array.index().name);
            return Err(wrong("against", &original.name, problem));
        }
        return Ok((Content::Strings(strings::measure(array)?), None));
    }
    let values = Content::Values(Box::new(values(array, against)?));
    let recall = match against {
        // Numbers without neighbours to speak of.
        Some(options) if !array.index().inner.is_empty() => recall::measure(array, options)?,
        _ => None,
    };
    Ok((values, recall))
}

fn values(array: Array<'_>, against: Option<&ReportOptions>) -> Result<ValuesReport, Error> {
    let dtype = array.dtype()?;
    let complex = is_complex(dtype);
    let mut decoded_rows = Decoded::new(array)?;
    let mut original_rows = match against {
        Some(options) => Some(Originals::new(&options.originals, &array)?),
        None => None,
    };
    let dim = u64::from(array.dim()) * if complex { 2 } else { 1 };
    // Rows of no values may be said to be any number.
    let rows = if dim == 0 { 0 } else { array.rows() };
    let looked_at = if rows == 0 || dim > dims::MOST { 0 } else { dim };
    let looked_at = usize::try_from(looked_at).expect("at most a million");
    let row_len = usize::try_from(dim).expect("the rows of a window are in memory");

    let mut decoded = First::new(looked_at);
    let mut original = original_rows.as_ref().map(|_| First::new(looked_at));
    let mut errors = original_rows.as_ref().map(|_| loss::Gather::new(looked_at));
    let (mut ys, mut xs) = (Vec::new(), Vec::new());
    let chunks = || array.chunks().filter(|_| rows > 0);
    for chunk in chunks() {
        if let Some(errors) = &mut errors {
            errors.chunk();
        }
        for window in windows(chunk.rows, dim) {
            decoded_rows.read(window.clone(), &mut ys)?;
            ys.chunks_exact(row_len).for_each(|row| decoded.row(row));
            if let (Some(originals), Some(first), Some(errors)) =
                (&mut original_rows, &mut original, &mut errors)
            {
                originals.read(window, &mut xs)?;
                xs.chunks_exact(row_len).for_each(|row| first.row(row));
                xs.chunks_exact(row_len).zip(ys.chunks_exact(row_len)).for_each(|(x, y)| errors.first(x, y));
            }
        }
    }

    let (mut spread, mut norms) = (decoded.spread.clone(), decoded.norms.clone());
    if let Some(first) = &original {
        spread.merge(&first.spread);
        norms.merge(&first.norms);
    }
    // Errors of halves of whole numbers would be none.
    let whole = !dtype.is_float() && !complex;
    let bins = Histogram::over(&spread, whole);
    let norm_bins = Histogram::over(&norms, false);
    let mut decoded = Second::new(decoded, &bins, &norm_bins);
    let mut original = original.map(|first| Second::new(first, &bins, &norm_bins));
    if let Some(errors) = &mut errors {
        errors.turn();
    }
    for chunk in chunks() {
        for window in windows(chunk.rows, dim) {
            decoded_rows.read(window.clone(), &mut ys)?;
            ys.chunks_exact(row_len).for_each(|row| decoded.row(row));
            if let (Some(originals), Some(second), Some(errors)) =
                (&mut original_rows, &mut original, &mut errors)
            {
                originals.read(window, &mut xs)?;
                xs.chunks_exact(row_len).for_each(|row| second.row(row));
                xs.chunks_exact(row_len).zip(ys.chunks_exact(row_len)).for_each(|(x, y)| errors.second(x, y));
            }
        }
    }
    let decoded = decoded.finish();
    let error = errors.map(loss::Gather::finish);
    let mse = match (&error, array.loss()) {
        (Some(error), _) => error.total.mse,
        (None, Some(loss)) => f64::from(loss.mse),
        (None, None) => 0.0,
    };
    let drowned = dims::drowned(&decoded.dims, &decoded.dead, mse.sqrt());
    let original = original.map(Second::finish);
    Ok(ValuesReport { decoded_dtype: dtype, complex, decoded, original, error, drowned })
}

/// The first pass over one side.
struct First {
    rows: u64,
    finite: u64,
    nan: u64,
    infinite: u64,
    nonfinite_rows: u64,
    zero_rows: u64,
    sum: f64,
    spread: Spread,
    norm_sum: f64,
    norms: Spread,
    dims: dims::Gather,
    looked_at: usize,
}

impl First {
    fn new(looked_at: usize) -> First {
        First {
            rows: 0,
            finite: 0,
            nan: 0,
            infinite: 0,
            nonfinite_rows: 0,
            zero_rows: 0,
            sum: 0.0,
            spread: Spread::new(),
            norm_sum: 0.0,
            norms: Spread::new(),
            dims: dims::Gather::new(looked_at),
            looked_at,
        }
    }

    fn row(&mut self, row: &[f64]) {
        self.rows += 1;
        let mut finite = 0;
        let mut zeros = true;
        // A row's sum apart, so that the whole one loses less.
        let mut sum = 0.0;
        for (dim, value) in row.iter().enumerate() {
            zeros &= *value == 0.0;
            if value.is_finite() {
                finite += 1;
                sum += value;
                self.spread.add(*value);
                if dim < self.looked_at {
                    self.dims.first(dim, *value);
                }
            } else if value.is_nan() {
                self.nan += 1;
            } else {
                self.infinite += 1;
            }
        }
        self.finite += finite;
        self.sum += sum;
        self.zero_rows += u64::from(zeros);
        if finite < row.len() as u64 {
            self.nonfinite_rows += 1;
        } else {
            let norm = norm(row);
            if norm.is_finite() {
                self.norm_sum += norm;
                self.norms.add(norm);
            }
        }
    }
}

/// The second pass over one side.
struct Second {
    first: First,
    mean: f64,
    squares: f64,
    histogram: Histogram,
    norms: Histogram,
}

impl Second {
    fn new(mut first: First, bins: &Histogram, norm_bins: &Histogram) -> Second {
        first.dims.turn();
        let mean = first.sum / first.finite as f64;
        Second { first, mean, squares: 0.0, histogram: bins.clone(), norms: norm_bins.clone() }
    }

    fn row(&mut self, row: &[f64]) {
        let mut finite = true;
        let mut squares = 0.0;
        for (dim, value) in row.iter().enumerate() {
            if value.is_finite() {
                self.histogram.add(*value);
                squares += (value - self.mean) * (value - self.mean);
                if dim < self.first.looked_at {
                    self.first.dims.second(dim, *value);
                }
            } else {
                finite = false;
            }
        }
        self.squares += squares;
        if finite {
            let norm = norm(row);
            if norm.is_finite() {
                self.norms.add(norm);
            }
        }
    }

    fn finish(self) -> Side {
        let Second { first, mean, squares, histogram, norms } = self;
        let dims = first.dims.finish();
        let or_nan = |value: f64| if value.is_finite() { value } else { f64::NAN };
        Side {
            rows: first.rows,
            finite: first.finite,
            nan: first.nan,
            infinite: first.infinite,
            nonfinite_rows: first.nonfinite_rows,
            zero_rows: first.zero_rows,
            min: or_nan(first.spread.min),
            max: or_nan(first.spread.max),
            mean,
            std: (squares / first.finite as f64).sqrt(),
            histogram,
            min_norm: or_nan(first.norms.min),
            max_norm: or_nan(first.norms.max),
            mean_norm: first.norm_sum / norms.total() as f64,
            norms,
            dead: dims::dead(&dims),
            dims,
        }
    }
}

/// The Euclidean norm of a row that is finite. Where squares overflow or vanish, that of the row divided by its largest value.
fn norm(row: &[f64]) -> f64 {
    let square: f64 = row.iter().map(|value| value * value).sum();
    if (1e-250..f64::INFINITY).contains(&square) {
        return square.sqrt();
    }
    let most = row.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    if most == 0.0 {
        return 0.0;
    }
    row.iter().map(|value| (value / most) * (value / most)).sum::<f64>().sqrt() * most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_of_the_tiny_the_huge_and_zero() {
        assert_eq!(norm(&[3.0, 4.0]), 5.0);
        assert!((norm(&[3e200, 4e200]) - 5e200).abs() < 1e186);
        assert!((norm(&[3e-200, 4e-200]) - 5e-200).abs() < 1e-214);
        assert_eq!((norm(&[0.0, -0.0]), norm(&[])), (0.0, 0.0));
    }
}
