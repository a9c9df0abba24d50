//! A borrowed matrix of rows: what a codec encodes.

use cvc_format::DType;
use half::{bf16, f16};
use thiserror::Error;

use crate::ops::narrow::{bf16_from_f32, bf16_from_f64, f16_from_f32, f16_from_f64, round_f32};
use crate::ops::{widen_bf16, widen_f16};

/// A Rust type that is the native form of a [`DType`], and how its values become floats. Sealed.
pub trait Element: sealed::Sealed + bytemuck::Pod + Send + Sync {
    /// The dtype this type is.
    const DTYPE: DType;

    /// The value rounded once to f32, to nearest even; exact where it can be, NaN payloads of halves kept.
    fn as_f32(self) -> f32;

    /// The value as f64: exact, but for 64-bit integers beyond 2^53, which are rounded to nearest even.
    fn as_f64(self) -> f64;

    /// The value rounded once to binary16, to nearest even.
    fn as_f16(self) -> f16 {
        // Integers that do not fit f64 are far beyond the largest half, so nothing is rounded twice.
        f16_from_f64(self.as_f64())
    }

    /// The value, which is a float, rounded once to bfloat16, to nearest even.
    fn as_bf16(self) -> bf16 {
        bf16_from_f32(self.as_f32())
    }
}

/// A [`HostBuffer`](crate::HostBuffer) trusts what an element says of itself.
mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($rust:ident = $dtype:ident),* $(,)?) => {
        $(impl sealed::Sealed for $rust {})*

        /// The values of [`RowSlice`], by dtype.
        #[derive(Clone, Copy, Debug)]
        #[non_exhaustive]
        pub enum Values<'a> {
            $(
                #[doc = concat!("Values of type `", stringify!($rust), "`.")]
                $dtype(&'a [$rust]),
            )*
        }

        impl<'a> RowSlice<'a> {
            /// The values in row order, as a slice of their own type.
            ///
            /// # Panics
            /// They are bools or complex, which have none ([`RowSlice::is_real`]).
            pub fn values(&self) -> Values<'a> {
                match self.dtype {
                    $(DType::$dtype => Values::$dtype(cast(self.bytes)),)*
                    other => unreachable!("{other} values have no type of their own"),
                }
            }
        }

        fn alignment(dtype: DType) -> usize {
            match dtype {
                $(DType::$dtype => align_of::<$rust>(),)*
                // What the numbers need that a value consists of.
                _ => dtype.component_size(),
            }
        }
    };
}

elements! {
    i8 = I8, i16 = I16, i32 = I32, i64 = I64,
    u8 = U8, u16 = U16, u32 = U32, u64 = U64,
    f16 = F16, bf16 = Bf16, f32 = F32, f64 = F64,
}

/// Runs the same generic code on the values of some rows, whatever their type: `with_values!(rows, values => f(values))`.
macro_rules! with_values {
    ($rows:expr, $values:ident => $body:expr) => {
        match $rows.values() {
            $crate::rows::Values::I8($values) => $body,
            $crate::rows::Values::I16($values) => $body,
            $crate::rows::Values::I32($values) => $body,
            $crate::rows::Values::I64($values) => $body,
            $crate::rows::Values::U8($values) => $body,
            $crate::rows::Values::U16($values) => $body,
            $crate::rows::Values::U32($values) => $body,
            $crate::rows::Values::U64($values) => $body,
            $crate::rows::Values::F16($values) => $body,
            $crate::rows::Values::Bf16($values) => $body,
            $crate::rows::Values::F32($values) => $body,
            $crate::rows::Values::F64($values) => $body,
        }
    };
}
pub(crate) use with_values;

macro_rules! integers {
    ($($rust:ident = $dtype:ident),*) => {
        $(impl Element for $rust {
            const DTYPE: DType = DType::$dtype;

            fn as_f32(self) -> f32 {
                self as f32
            }

            fn as_f64(self) -> f64 {
                self as f64
            }
        })*
    };
}

integers!(i8 = I8, i16 = I16, i32 = I32, i64 = I64, u8 = U8, u16 = U16, u32 = U32, u64 = U64);

impl Element for f16 {
    const DTYPE: DType = DType::F16;

    fn as_f32(self) -> f32 {
        widen_f16::widen(self.to_bits())
    }

    fn as_f64(self) -> f64 {
        f64::from(self.as_f32())
    }

    fn as_f16(self) -> f16 {
        self
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;

    fn as_f32(self) -> f32 {
        // `half`'s own conversion quiets NaNs.
        widen_bf16::widen(self.to_bits())
    }

    fn as_f64(self) -> f64 {
        f64::from(self.as_f32())
    }

    fn as_f16(self) -> f16 {
        f16_from_f32(self.as_f32())
    }

    fn as_bf16(self) -> bf16 {
        self
    }
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    fn as_f32(self) -> f32 {
        self
    }

    fn as_f64(self) -> f64 {
        f64::from(self)
    }

    fn as_f16(self) -> f16 {
        f16_from_f32(self)
    }
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;

    fn as_f32(self) -> f32 {
        round_f32(self)
    }

    fn as_f64(self) -> f64 {
        self
    }

    fn as_bf16(self) -> bf16 {
        bf16_from_f64(self)
    }
}

/// `rows` rows of `dim` values of one dtype: native byte order, row after row, no gaps.
#[derive(Clone, Copy, Debug)]
pub struct RowSlice<'a> {
    dtype: DType,
    rows: usize,
    dim: usize,
    /// Invariant: `rows * dim * dtype.size()` bytes, aligned for the dtype.
    bytes: &'a [u8],
}

impl<'a> RowSlice<'a> {
    /// Rows of `dim` values each over a slice of them.
    ///
    /// # Errors
    /// The slice is not a whole number of rows. With `dim` 0 the number of rows cannot be told: use
    /// [`RowSlice::from_bytes`].
    pub fn new<T: Element>(values: &'a [T], dim: usize) -> Result<Self, RowsError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(RowsError::Shape { values: values.len(), dim });
        }
        Ok(RowSlice { dtype: T::DTYPE, rows: values.len() / dim, dim, bytes: bytemuck::cast_slice(values) })
    }

    /// `rows` rows of `dim` values over their bytes in native order.
    ///
    /// # Errors
    /// The bytes are not exactly that many, or not aligned for the dtype.
    pub fn from_bytes(dtype: DType, rows: usize, dim: usize, bytes: &'a [u8]) -> Result<Self, RowsError> {
        let align = alignment(dtype);
        let expected = rows.checked_mul(dim).and_then(|values| values.checked_mul(dtype.size()));
        if expected != Some(bytes.len()) {
            return Err(RowsError::Length { rows, dim, dtype, bytes: bytes.len() });
        }
        if !bytes.is_empty() && !(bytes.as_ptr() as usize).is_multiple_of(align) {
            return Err(RowsError::Alignment { dtype, align });
        }
        Ok(RowSlice { dtype, rows, dim, bytes })
    }

    /// The dtype of the values.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Values per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The bytes of all values, in native order.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the values are real numbers: neither complex nor bools, of which most codecs can make nothing.
    pub fn is_real(&self) -> bool {
        !matches!(self.dtype, DType::C64 | DType::C128 | DType::Bool)
    }

    /// Rows `range` of these.
    ///
    /// # Panics
    /// The range is not within `0..len()`.
    pub fn slice(&self, range: core::ops::Range<usize>) -> RowSlice<'a> {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let row_len = self.dim * self.dtype.size();
        RowSlice {
            rows: range.len(),
            bytes: &self.bytes[range.start * row_len..range.end * row_len],
            ..*self
        }
    }
}

/// The native values of an aligned slice of bytes; an empty slice has no alignment to speak of.
fn cast<T: Element>(bytes: &[u8]) -> &[T] {
    if bytes.is_empty() { &[] } else { bytemuck::cast_slice(bytes) }
}

/// A slice that is not the matrix it was said to be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowsError {
    /// Not a whole number of rows.
    #[error("{values} values are not a whole number of rows of {dim} values")]
    Shape {
        /// Values given.
        values: usize,
        /// Values per row.
        dim: usize,
    },
    /// The number of bytes is not what the shape needs.
    #[error("{rows} rows of {dim} {dtype} values are not {bytes} bytes")]
    Length {
        /// Rows said.
        rows: usize,
        /// Values per row said.
        dim: usize,
        /// Their dtype.
        dtype: DType,
        /// Bytes given.
        bytes: usize,
    },
    /// The bytes cannot be seen as values of this type.
    #[error(
        "bytes of {dtype} values must start at a multiple of {align}: copy them to an aligned buffer first"
    )]
    Alignment {
        /// The dtype.
        dtype: DType,
        /// What its values need.
        align: usize,
    },
}
