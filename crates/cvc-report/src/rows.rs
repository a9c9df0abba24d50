//! Rows as f64, a window at a time: those of an array as they decode, and those that were packed.

use std::ops::Range;

use cvc::codec::Values;
use cvc::{AlignedBytes, Array, CpuBackend, DType, Error, HostBuffer, RowSlice};

use crate::{Original, wrong};

/// Values in a window, unless one row has more.
const WINDOW: u64 = 1 << 20;

/// Whether values have two parts. They are looked at as twice as many real numbers.
pub(crate) fn is_complex(dtype: DType) -> bool {
    matches!(dtype, DType::C64 | DType::C128)
}

/// The windows of a range of rows, of `dim` numbers each, in order.
pub(crate) fn windows(rows: Range<u64>, dim: u64) -> impl Iterator<Item = Range<u64>> {
    let step = (WINDOW / dim.max(1)).max(1);
    let mut start = rows.start;
    std::iter::from_fn(move || {
        let window = start..rows.end.min(start.saturating_add(step));
        start = window.end;
        (!window.is_empty()).then_some(window)
    })
}

/// Reads rows of an array.
pub(crate) struct Decoded<'r> {
    array: Array<'r>,
    dtype: DType,
    scratch: AlignedBytes,
}

impl<'r> Decoded<'r> {
    pub(crate) fn new(array: Array<'r>) -> Result<Self, Error> {
        Ok(Decoded { array, dtype: array.dtype()?, scratch: AlignedBytes::new() })
    }

    /// Replaces what is in `into` by these rows.
    pub(crate) fn read(&mut self, rows: Range<u64>, into: &mut Vec<f64>) -> Result<(), Error> {
        // Before anything is allocated: the chunks must have the bytes that the rows need.
        let bytes = self.scratch.resize(self.array.decoded_len(rows.clone(), self.dtype)?);
        let mut buffer = HostBuffer::from_bytes(self.dtype, bytes)?;
        self.array.decode(&CpuBackend::new(), rows, self.dtype, &mut buffer)?;
        widen(self.dtype, self.scratch.bytes(), into)
    }
}

/// Reads rows of the originals, which have been compared with the array.
pub(crate) struct Originals<'o> {
    parts: &'o [Original],
    scratch: AlignedBytes,
    part: Vec<f64>,
}

impl<'o> Originals<'o> {
    /// Checks that they have the shape of the array.
    pub(crate) fn new(parts: &'o [Original], array: &Array<'_>) -> Result<Self, Error> {
        let index = array.index();
        let complex = is_complex(array.dtype()?);
        let mut rows = 0u64;
        for Original { name, matrix } in parts {
            if matrix.dim() != index.dim {
                let problem = format!(
                    "its rows have {} values, those of array {:?} have {}; give what was packed",
                    matrix.dim(),
                    index.name,
                    index.dim
                );
                return Err(wrong("against", name, problem));
            }
            if is_complex(matrix.dtype()) != complex {
                let problem = format!(
                    "it holds {}, array {:?} holds {}; give what was packed",
                    matrix.dtype(),
                    index.name,
                    index.dtype
                );
                return Err(wrong("against", name, problem));
            }
            rows = rows.saturating_add(matrix.rows());
        }
        if rows != index.rows {
            let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
            let problem = format!(
                "{rows} rows together, array {:?} has {}; give all that was packed, in its order",
                index.name, index.rows
            );
            return Err(wrong("against", names.join(","), problem));
        }
        Ok(Originals { parts, scratch: AlignedBytes::new(), part: Vec::new() })
    }

    /// Replaces what is in `into` by these rows.
    pub(crate) fn read(&mut self, rows: Range<u64>, into: &mut Vec<f64>) -> Result<(), Error> {
        into.clear();
        let mut start = 0;
        for Original { matrix, .. } in self.parts {
            let end = start + matrix.rows();
            let wanted = rows.start.max(start)..rows.end.min(end);
            if wanted.start < wanted.end {
                let bytes = matrix.read(wanted.start - start..wanted.end - start, &mut self.scratch)?;
                widen(matrix.dtype(), bytes, &mut self.part)?;
                into.extend_from_slice(&self.part);
            }
            start = end;
        }
        Ok(())
    }
}

/// Replaces what is in `into` by these values, each as f64: exact, but for integers beyond 2^53.
fn widen(dtype: DType, bytes: &[u8], into: &mut Vec<f64>) -> Result<(), Error> {
    let plain = match dtype {
        DType::Bool => DType::U8,
        DType::C64 => DType::F32,
        DType::C128 => DType::F64,
        dtype => dtype,
    };
    into.clear();
    let rows = RowSlice::from_bytes(plain, bytes.len() / plain.size(), 1, bytes)?;
    macro_rules! each {
        ($($kind:ident)*) => {
            match rows.values() {
                $(Values::$kind(values) => into.extend(values.iter().map(|value| cvc::Element::as_f64(*value))),)*
                _ => {
                    let problem = format!("values of {dtype} cannot be measured by this version");
                    return Err(wrong("array", dtype, problem));
                }
            }
        };
    }
    each!(I8 I16 I32 I64 U8 U16 U32 U64 F16 Bf16 F32 F64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_rows_once_and_in_order() {
        let of = |rows, dim| windows(rows, dim).collect::<Vec<_>>();
        assert_eq!(of(3..10, WINDOW / 3), [3..6, 6..9, 9..10]);
        assert_eq!(of(0..2, WINDOW * 5), [0..1, 1..2]);
        assert_eq!(of(4..4, 7), []);
    }

    #[test]
    fn complex_and_bool_values_are_plain_numbers() {
        let mut values = Vec::new();
        widen(DType::Bool, &[0, 1, 1], &mut values).unwrap();
        assert_eq!(values, [0.0, 1.0, 1.0]);
        let mut scratch = AlignedBytes::new();
        scratch.resize(8).copy_from_slice(&[1.5f32.to_ne_bytes(), (-2.0f32).to_ne_bytes()].concat());
        widen(DType::C64, scratch.bytes(), &mut values).unwrap();
        assert_eq!(values, [1.5, -2.0]);
    }
}
