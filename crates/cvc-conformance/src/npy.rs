//! Enough of NumPy's `.npy` to read the golden arrays.

use std::path::Path;

use cvc_codec::DType;

/// An array: values in C order and native byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Npy {
    /// The dtype of the values.
    pub dtype: DType,
    /// Their shape; empty for a single value.
    pub shape: Vec<usize>,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

impl Npy {
    /// The array in the file at `path`.
    ///
    /// # Panics
    /// It cannot be read or is not an array of numbers, with the reason.
    pub fn read(path: &Path) -> Npy {
        let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Npy::parse(&file).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
    }

    /// The array in these bytes of a file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(file: &[u8]) -> Result<Npy, String> {
        let (header, data) = split(file).ok_or("not an .npy file, or cut short")?;
        let header = core::str::from_utf8(header).map_err(|error| format!("the header: {error}"))?;
        let field = |key: &str| {
            let value = header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
            value.ok_or_else(|| format!("the header has no {key}: {header}"))
        };
        let descr = field("descr")?.split('\'').nth(1).unwrap_or_default();
        let fortran = field("fortran_order")?.starts_with("True");
        let shape = field("shape")?.trim_start_matches('(').split(')').next().unwrap_or_default();
        let shape = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
        let shape: Vec<usize> =
            shape.map(str::parse).collect::<Result<_, _>>().map_err(|error| format!("the shape: {error}"))?;

        let (order, kind) = descr.split_at_checked(1).ok_or("an empty descr")?;
        let dtype = match kind {
            "i1" => DType::I8,
            "i2" => DType::I16,
            "i4" => DType::I32,
            "i8" => DType::I64,
            "u1" => DType::U8,
            "u2" => DType::U16,
            "u4" => DType::U32,
            "u8" => DType::U64,
            "f2" => DType::F16,
            "f4" => DType::F32,
            "f8" => DType::F64,
            _ => return Err(format!("values of {descr} are not numbers that this reader knows")),
        };
        let count = shape.iter().product::<usize>();
        if data.len() != count * dtype.size() {
            return Err(format!("{} bytes are not {count} values of {descr}", data.len()));
        }
        let mut bytes = if fortran { c_order(data, &shape, dtype.size()) } else { data.to_vec() };
        let foreign = if cfg!(target_endian = "little") { ">" } else { "<" };
        if order == foreign {
            bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
        }
        Ok(Npy { dtype, shape, bytes })
    }
}

/// The header and the data of an `.npy` file.
fn split(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = file.strip_prefix(b"\x93NUMPY")?;
    let ([major, _minor], rest) = rest.split_first_chunk::<2>()?;
    let (len, rest) = match major {
        1 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        _ => {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            (usize::try_from(u32::from_le_bytes(*len)).ok()?, rest)
        }
    };
    rest.split_at_checked(len)
}

/// The values of an array whose first index moves fastest, ordered so that its last one does.
fn c_order(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(data.len());
    for position in 0..data.len() / size {
        // `position` in C order: peel indexes off the end, and find the place in the other order.
        let mut rest = position;
        let mut place = 0;
        for (axis, extent) in shape.iter().enumerate().rev() {
            place += rest % extent * shape[..axis].iter().product::<usize>();
            rest /= extent;
        }
        bytes.extend(&data[place * size..(place + 1) * size]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &len, header.as_bytes(), data].concat()
    }

    #[test]
    fn byte_orders_become_native() {
        let read = |descr: &str, data: &[u8]| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}");
            Npy::parse(&file(&header, data)).unwrap()
        };
        let native: Vec<u8> = [1i32, -2].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let little: Vec<u8> = [1i32, -2].iter().flat_map(|value| value.to_le_bytes()).collect();
        let big: Vec<u8> = [1i32, -2].iter().flat_map(|value| value.to_be_bytes()).collect();
        assert_eq!(read("<i4", &little), Npy { dtype: DType::I32, shape: vec![2], bytes: native.clone() });
        assert_eq!(read(">i4", &big).bytes, native);
        assert_eq!(read("|u1", &[1, 2]).bytes, [1, 2]);
    }

    #[test]
    fn fortran_order_becomes_c_order() {
        // [[0, 1, 2], [3, 4, 5]], stored by columns.
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }";
        assert_eq!(Npy::parse(&file(header, &[0, 3, 1, 4, 2, 5])).unwrap().bytes, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn rejects_what_it_cannot_read() {
        let header = "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }";
        assert!(Npy::parse(&file(header, &[0; 8])).unwrap_err().contains("<c8"));
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        assert!(Npy::parse(&file(header, &[0; 7])).unwrap_err().contains("7 bytes"));
        assert!(Npy::parse(b"\x93NUMPY\x01").is_err());
    }
}
