//! Which rows the caller wants.

use std::fs;
use std::ops::Range;
use std::path::Path;

use cvc::input::{Matrix, Options};
use cvc::{AlignedBytes, Array, Condition, DType, Reader, Rows};

use crate::args::{KeyValue, RowRange, UnpackArgs};
use crate::lines::has_extension;
use crate::report::{Failure, check_here, io_failed, wrong};

/// Row numbers of a matrix that are read at a time.
const BATCH: usize = 1 << 16;

/// The rows asked for, as ranges in the order in which they are wanted.
pub(crate) fn chosen(
    args: &UnpackArgs,
    reader: &Reader,
    array: &Array<'_>,
) -> Result<Vec<Range<u64>>, Failure> {
    let rows = array.rows();
    if let Some(path) = &args.rows_from {
        let numbers =
            if has_extension(path, "npy") { from_matrix(path, rows)? } else { from_lines(path, rows)? };
        return Ok(Rows::from(numbers.as_slice()).resolve(rows)?);
    }
    let within = match args.rows {
        None => 0..rows,
        Some(range) => within(range, rows)?,
    };
    if args.conditions.is_empty() {
        return Ok(vec![within]);
    }
    let matching = matching(&args.conditions, reader)?.resolve(rows)?;
    let chosen = common(&matching, &[within]);
    match args.rows {
        Some(range) if chosen.is_empty() => Err(wrong(
            "--rows",
            range,
            format!("no section with {} has a row of it", asked(&args.conditions)),
        )),
        _ => Ok(chosen),
    }
}

/// A range of an array of `rows` rows.
pub(crate) fn within(range: RowRange, rows: u64) -> Result<Range<u64>, Failure> {
    let within = range.start..range.end.unwrap_or(rows);
    if within.start > within.end || within.end > rows {
        return Err(wrong("--rows", range, format!("the array has rows 0..{rows}")));
    }
    Ok(within)
}

/// The rows of sections that meet all conditions; one does.
pub(crate) fn matching(conditions: &[KeyValue], reader: &Reader) -> Result<Rows, Failure> {
    let of_library: Vec<Condition> = conditions.iter().map(Condition::from).collect();
    let matching = reader.find(&of_library)?;
    let of_first = reader.arrays().next().map_or(0, |array| array.rows());
    if matching.resolve(of_first)?.is_empty() {
        let problem = "no section matches; `cvc info` lists the metadata there is";
        return Err(wrong("--where", asked(conditions), problem));
    }
    Ok(matching)
}

fn asked(conditions: &[KeyValue]) -> String {
    conditions.iter().map(KeyValue::to_string).collect::<Vec<_>>().join(" --where ")
}

/// What ranges, in any order, have in common with others that are sorted and do not overlap: in the order of the former.
pub(crate) fn common(ranges: &[Range<u64>], with: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut common = Vec::new();
    for range in ranges {
        let first = with.partition_point(|other| other.end <= range.start);
        for other in with[first..].iter().take_while(|other| other.start < range.end) {
            common.push(range.start.max(other.start)..range.end.min(other.end));
        }
    }
    common
}

/// `0..3, 7..8 and 12 more (--json lists all)`: a list that stays short.
pub(crate) fn list(ranges: &[Range<u64>]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> =
        ranges.iter().take(SHOWN).map(|range| format!("{}..{}", range.start, range.end)).collect();
    let mut text = shown.join(", ");
    if ranges.len() > SHOWN {
        text += &format!(" and {} more (--json lists all)", ranges.len() - SHOWN);
    }
    text
}

/// Rows in all of these ranges together.
pub(crate) fn count(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().fold(0, |sum, range| sum.saturating_add(range.end - range.start))
}

fn from_lines(path: &Path, rows: u64) -> Result<Vec<u64>, Failure> {
    let text = fs::read_to_string(path).map_err(|cause| io_failed(path, "cannot be read as text", cause))?;
    let mut numbers = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let refuse =
            |problem: String| Err(wrong("--rows-from", path.display(), format!("line {at}: {problem}")));
        match line.parse::<u64>() {
            Ok(row) if row < rows => numbers.push(row),
            Ok(row) => return refuse(format!("there is no row {row}, the array has rows 0..{rows}")),
            Err(_) => return refuse(format!("{line:?} is no row number; write one number on each line")),
        }
    }
    Ok(numbers)
}

fn from_matrix(path: &Path, rows: u64) -> Result<Vec<u64>, Failure> {
    check_here("--rows-from", path)?;
    let matrix = Matrix::open(path, &Options::default())?;
    let refuse = |problem: String| Err(wrong("--rows-from", path.display(), problem));
    if matrix.dtype().is_float() || matrix.dim() != 1 {
        let (dim, dtype) = (matrix.dim(), matrix.dtype());
        return refuse(format!("it holds rows of {dim} {dtype}; a list of integers is needed"));
    }
    let (mut numbers, mut scratch) = (Vec::new(), AlignedBytes::new());
    for start in (0..matrix.rows()).step_by(BATCH) {
        let bytes = matrix.read(start..matrix.rows().min(start + BATCH as u64), &mut scratch)?;
        for (at, value) in (start..).zip(bytes.chunks_exact(matrix.dtype().size())) {
            match number(matrix.dtype(), value) {
                Some(row) if row < rows => numbers.push(row),
                Some(row) => {
                    return refuse(format!("item {at}: there is no row {row}, the array has rows 0..{rows}"));
                }
                None => return refuse(format!("item {at} is negative; a row number is needed")),
            }
        }
    }
    Ok(numbers)
}

/// A whole number in native byte order; `None` if it is negative.
pub(crate) fn number(dtype: DType, bytes: &[u8]) -> Option<u64> {
    let mut wide = [0; 8];
    if cfg!(target_endian = "little") {
        wide[..bytes.len()].copy_from_slice(bytes);
    } else {
        wide[8 - bytes.len()..].copy_from_slice(bytes);
    }
    let value = u64::from_ne_bytes(wide);
    let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    (!signed || value >> (bytes.len() * 8 - 1) == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_by_others_and_keep_their_order() {
        assert_eq!(common(&[8..12, 0..4, 3..5], &[1..2, 3..9]), [8..9, 1..2, 3..4, 3..5]);
        assert_eq!(common(&[0..4], &[]), []);
    }

    #[test]
    fn numbers_of_every_width_are_read_and_negative_ones_are_not() {
        assert_eq!(number(DType::I8, &(-1i8).to_ne_bytes()), None);
        assert_eq!(number(DType::U8, &[255]), Some(255));
        assert_eq!(number(DType::I32, &7i32.to_ne_bytes()), Some(7));
        assert_eq!(number(DType::I64, &i64::MIN.to_ne_bytes()), None);
        assert_eq!(number(DType::U64, &u64::MAX.to_ne_bytes()), Some(u64::MAX));
    }
}
