//! `.fvecs`, `.bvecs` and `.ivecs`: the files of the nearest-neighbour benchmarks.
//!
//! ```text
//! each row: dim (i32)  dim values (f32, u8 or i32)      all little-endian, no header, no count
//! ```
//!
//! The dimension stands before every row, and nothing but custom keeps it the same. Opening looks at the
//! first row only, for a file may be larger than memory; each row that is read is checked against it.

use std::ops::Range;

use cvc_format::DType;

use super::{InputError, Origin, convert};

/// Bytes of the dimension before a row.
const PREFIX: usize = 4;

/// Dimensions below this are taken for real, larger ones for a file of another kind.
const DIM_END: i32 = 1 << 20;

/// Rows and dimension of a file with these bytes.
pub(super) fn shape(origin: &Origin, bytes: &[u8], dtype: DType) -> Result<(u64, u32), InputError> {
    if bytes.is_empty() {
        let has = "no rows, so that its dimension is unknown".to_owned();
        let accepted = "files with one row or more; give an empty matrix as .npy";
        return Err(InputError::Unsupported { origin: origin.clone(), has, accepted });
    }
    let truncated =
        |expected| InputError::Truncated { origin: origin.clone(), expected, found: bytes.len() as u64 };
    let (prefix, _) = bytes.split_first_chunk().ok_or_else(|| truncated(PREFIX as u64))?;
    let dim = match i32::from_le_bytes(*prefix) {
        dim @ 1..DIM_END => dim.unsigned_abs(),
        dim => {
            let what =
                format!("the first row says that it has {dim} values; from 1 to {} are allowed", DIM_END - 1);
            return Err(InputError::Malformed { origin: origin.clone(), offset: 0, what });
        }
    };
    let row_len = row_len(dim, dtype) as u64;
    let rows = (bytes.len() as u64).div_ceil(row_len);
    if rows * row_len != bytes.len() as u64 {
        return Err(truncated(rows * row_len));
    }
    Ok((rows, dim))
}

/// Copies rows without their dimensions, which are checked on the way.
pub(super) fn rows(
    origin: &Origin,
    bytes: &[u8],
    range: Range<usize>,
    dim: u32,
    dtype: DType,
    to: &mut [u8],
) -> Result<(), InputError> {
    let row_len = row_len(dim, dtype);
    let from = &bytes[range.start * row_len..range.end * row_len];
    let rows = from.chunks_exact(row_len).zip(to.chunks_exact_mut(row_len - PREFIX));
    for (i, (from, to)) in rows.enumerate() {
        let (prefix, values) = from.split_first_chunk().expect("a row begins with its dimension");
        let found = i32::from_le_bytes(*prefix);
        if i64::from(found) != i64::from(dim) {
            let row = range.start + i;
            return Err(InputError::RowDim {
                origin: origin.clone(),
                row: row as u64,
                offset: (row * row_len) as u64,
                found,
                expected: dim,
            });
        }
        if cfg!(target_endian = "big") {
            convert::swap(dtype.size(), values, to);
        } else {
            to.copy_from_slice(values);
        }
    }
    Ok(())
}

/// Bytes of a row with its dimension. `dim` is below [`DIM_END`].
fn row_len(dim: u32, dtype: DType) -> usize {
    PREFIX + dim as usize * dtype.size()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Dir, read_all};
    use super::super::{AlignedBytes, Options};
    use super::*;

    fn fvecs(rows: &[&[f32]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in rows {
            bytes.extend(i32::try_from(row.len()).unwrap().to_le_bytes());
            row.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn fvecs_rows_come_without_their_dimension() {
        let dir = Dir::new();
        let path = dir.file("a.fvecs", &fvecs(&[&[1.0, -2.5], &[f32::INFINITY, 4.0], &[0.0, -0.0]]));
        let matrix = super::super::Matrix::open(&path, &Options::default()).unwrap();
        assert_eq!((matrix.rows(), matrix.dim(), matrix.dtype()), (3, 2, DType::F32));
        assert!(!matrix.scalar());
        let mut scratch = AlignedBytes::new();
        let bytes = matrix.read(1..3, &mut scratch).unwrap();
        assert_eq!(bytemuck::cast_slice::<u8, f32>(bytes), [f32::INFINITY, 4.0, 0.0, -0.0]);
        assert!(matrix.read(3..3, &mut scratch).unwrap().is_empty());
    }

    #[test]
    fn bvecs_hold_bytes_and_ivecs_integers() {
        let dir = Dir::new();
        let path = dir.file("a.bvecs", &[3, 0, 0, 0, 7, 8, 9, 3, 0, 0, 0, 255, 0, 1]);
        assert_eq!(read_all(&path).unwrap(), (2, 3, DType::U8, vec![7, 8, 9, 255, 0, 1]));
        let path = dir.file("a.ivecs", &[1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]);
        assert_eq!(read_all(&path).unwrap(), (1, 1, DType::I32, (-2_i32).to_ne_bytes().to_vec()));
    }

    #[test]
    fn a_bad_row_in_the_middle_is_named_when_it_is_read() {
        let dir = Dir::new();
        let mut bytes = fvecs(&[&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0], &[7.0, 8.0]]);
        bytes[24] = 3;
        let matrix = super::super::Matrix::open(&dir.file("a.fvecs", &bytes), &Options::default()).unwrap();
        let mut scratch = AlignedBytes::new();
        assert_eq!(matrix.read(0..2, &mut scratch).unwrap().len(), 16);
        let error = matrix.read(1..4, &mut scratch).unwrap_err().to_string();
        assert!(error.contains("a.fvecs: row 2, at byte 24, says that it has 3 values"), "{error}");
        assert!(error.contains("the first row has 2"), "{error}");
        assert_eq!(matrix.read(3..4, &mut scratch).unwrap().len(), 8);
    }

    #[test]
    fn a_dimension_out_of_range_is_refused() {
        let dir = Dir::new();
        for dim in [0, -1, DIM_END, i32::MIN, i32::MAX] {
            let error = read_all(&dir.file("a.fvecs", &dim.to_le_bytes())).unwrap_err().to_string();
            assert!(error.contains(&format!("says that it has {dim} values")), "{error}");
        }
    }

    #[test]
    fn an_empty_file_has_no_dimension() {
        let error = read_all(&Dir::new().file("a.fvecs", b"")).unwrap_err().to_string();
        assert!(error.contains("its dimension is unknown"), "{error}");
    }

    #[test]
    fn every_cut_within_a_row_is_found() {
        let dir = Dir::new();
        let bytes = fvecs(&[&[1.0, 2.0], &[3.0, 4.0]]);
        for len in 1..bytes.len() {
            let result = read_all(&dir.file("a.fvecs", &bytes[..len]));
            if len == 12 {
                assert_eq!(result.unwrap().0, 1, "a cut between rows cannot be seen");
                continue;
            }
            assert!(matches!(result, Err(InputError::Truncated { .. })), "{len}: {result:?}");
        }
    }
}
