//! Chunks of any shape as rows of a file.

use std::num::NonZeroU64;

use cvc::DType;
use zarrs_codec::CodecError;
use zarrs_data_type::DataType;
use zarrs_plugin::ExtensionName as _;

/// Longer rows are cut at their first axis, so that a block, which holds whole rows, stays small.
const ROW_LEN: u64 = 1 << 20;

/// The format has blocks of whole rows, which packed are at most so long.
const MOST_OF_ROW: u64 = 16 << 20;

/// Axes of a row that a file can have, at most.
const MOST_AXES: usize = 7;

/// A chunk as a file keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileShape {
    pub(crate) dtype: DType,
    pub(crate) rows: u64,
    /// The shape of a row.
    pub(crate) inner: Vec<u32>,
}

impl FileShape {
    /// Axes of one and the first that is longer count rows, and so do those behind it while rows are long. The last axis is never
    /// cut.
    ///
    /// # Errors
    /// Values that a file cannot hold, or rows that are too long.
    pub(crate) fn of(shape: &[NonZeroU64], data_type: &DataType) -> Result<FileShape, CodecError> {
        let dtype = dtype_of(data_type)?;
        let too_large =
            || CodecError::Other(format!("chunks of shape {shape:?} are too large for codec cvc"));
        let product = |axes: &[NonZeroU64]| {
            axes.iter().try_fold(1u64, |product, len| product.checked_mul(len.get())).ok_or_else(too_large)
        };
        let row_len =
            |rest: &[NonZeroU64]| product(rest)?.checked_mul(dtype.size() as u64).ok_or_else(too_large);
        let most = shape.len().saturating_sub(1).max(1).min(shape.len());
        let mut axes = most.min(1);
        while axes < most && (product(&shape[..axes])? == 1 || row_len(&shape[axes..])? > ROW_LEN) {
            axes += 1;
        }
        let (head, rest) = shape.split_at(axes);
        product(head)?.checked_mul(row_len(rest)?).ok_or_else(too_large)?;
        if row_len(rest)? > MOST_OF_ROW {
            return Err(CodecError::Other(format!(
                "chunks of shape {shape:?} have rows of {} bytes, and codec cvc has {MOST_OF_ROW} at most: cut the last axis",
                row_len(rest)?
            )));
        }
        let (kept, joined) =
            rest.split_at(rest.len().min(if rest.len() > MOST_AXES { MOST_AXES - 1 } else { MOST_AXES }));
        let mut inner = kept.iter().map(|len| len.get()).collect::<Vec<u64>>();
        if !joined.is_empty() {
            inner.push(product(joined)?);
        }
        let inner = inner.into_iter().map(|len| u32::try_from(len).map_err(|_| too_large()));
        Ok(FileShape { dtype, rows: product(head)?, inner: inner.collect::<Result<_, _>>()? })
    }

    /// Values of a row.
    pub(crate) fn dim(&self) -> u64 {
        self.inner.iter().map(|len| u64::from(*len)).product()
    }

    /// Bytes of a value.
    pub(crate) fn size(&self) -> u64 {
        self.dtype.size() as u64
    }
}

/// The dtype as which values of this type are kept.
///
/// # Errors
/// There is none.
pub(crate) fn dtype_of(data_type: &DataType) -> Result<DType, CodecError> {
    let name = data_type.name_v3().unwrap_or_default();
    let dtype = match &*name {
        "bool" => DType::Bool,
        "int8" => DType::I8,
        "int16" => DType::I16,
        "int32" => DType::I32,
        "int64" | "numpy.datetime64" | "numpy.timedelta64" => DType::I64,
        "uint8" => DType::U8,
        "uint16" => DType::U16,
        "uint32" => DType::U32,
        "uint64" => DType::U64,
        "float16" => DType::F16,
        "float32" => DType::F32,
        "float64" => DType::F64,
        "complex64" => DType::C64,
        "complex128" => DType::C128,
        _ => return Err(CodecError::UnsupportedDataType(data_type.clone(), crate::codec::NAME.into())),
    };
    Ok(dtype)
}

#[cfg(test)]
mod tests {
    use zarrs::array::data_type::{bfloat16, float32, float64, string};

    use super::*;

    fn of(shape: &[u64], data_type: &DataType) -> Result<FileShape, CodecError> {
        let shape: Vec<NonZeroU64> = shape.iter().map(|len| NonZeroU64::new(*len).unwrap()).collect();
        FileShape::of(&shape, data_type)
    }

    /// The same as those of `python/cvc/zarr.py`, so that either reads what the other wrote.
    #[test]
    fn the_first_axes_count_rows() {
        let shapes: [(&[u64], u64, &[u32]); 8] = [
            (&[], 1, &[]),
            (&[5], 5, &[]),
            (&[1], 1, &[]),
            (&[100, 768], 100, &[768]),
            (&[1, 100, 768], 100, &[768]),
            (&[1, 512, 512], 512, &[512]),
            (&[2, 1024, 1024], 2048, &[1024]),
            (&[3, 2, 2, 2, 2, 2, 2, 2, 2, 2], 3, &[2, 2, 2, 2, 2, 2, 8]),
        ];
        for (shape, rows, inner) in shapes {
            let found = of(shape, &float32()).unwrap();
            assert_eq!((found.rows, &*found.inner), (rows, inner), "{shape:?}");
        }
    }

    #[test]
    fn what_no_file_holds_is_refused() {
        let long = of(&[2, 3 << 20], &float64()).unwrap_err().to_string();
        assert!(long.contains("25165824 bytes") && long.contains("cut the last axis"), "{long}");
        assert!(of(&[u64::MAX, 2], &float32()).unwrap_err().to_string().contains("too large"));
        for data_type in [bfloat16(), string()] {
            let error = of(&[2, 3], &data_type).unwrap_err();
            assert!(
                matches!(error, CodecError::UnsupportedDataType(_, ref name) if name == "cvc"),
                "{error}"
            );
        }
    }
}
