//! The header of a `.npy` file, as `numpy.save` writes it.
//!
//! Byte for byte, so that a file of ours and one of numpy's compare equal. Only what we write is here:
//! version 1.0, C order, little-endian. The data follows the header as it is.

use std::fmt::Write;

use cvc_format::DType;

/// The data begins on a multiple of this, so that a mapped file can be used as it lies.
const ALIGN: usize = 64;

/// `numpy.save` leaves room for the first number of the shape to grow to this many digits, so that rows can
/// be appended without moving the data.
const GROWTH_DIGITS: usize = 21;

/// The `.npy` header for values of `dtype`, in C order and little-endian, in an array of this shape.
///
/// numpy has no bfloat16: `ml_dtypes` saves it as `<V2`, raw values of two bytes, and so do we. Read it back
/// with `numpy.load(path).view(ml_dtypes.bfloat16)`.
///
/// # Panics
///
/// When `shape` has so many numbers that the header does not fit version 1.0 (65,535 bytes); numpy's arrays
/// end at 64.
pub fn npy_header(dtype: DType, shape: &[u64]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': (", descr(dtype));
    for (i, n) in shape.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(text, "{comma}{n}").expect("a string takes everything");
    }
    text.push_str(if shape.len() == 1 { ",), }" } else { "), }" });
    if let Some(first) = shape.first() {
        let digits = first.to_string().len();
        text.extend(std::iter::repeat_n(' ', GROWTH_DIGITS - digits));
    }

    const PRELUDE_LEN: usize = 10;
    // With its newline, and as numpy does it: text that happens to fit gets a whole line of spaces more.
    let unpadded = PRELUDE_LEN + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', ALIGN - unpadded % ALIGN));
    text.push('\n');

    let text_len = u16::try_from(text.len()).expect("a shape that fits a version 1.0 header");
    let mut header = Vec::with_capacity(PRELUDE_LEN + text.len());
    header.extend_from_slice(b"\x93NUMPY\x01\x00");
    header.extend_from_slice(&text_len.to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header
}

/// numpy's name of a dtype: byte order, kind, bytes per value. A test spells out every one.
fn descr(dtype: DType) -> String {
    let order = if dtype.size() == 1 { '|' } else { '<' };
    let kind = match dtype {
        DType::Bf16 => 'V',
        DType::Bool => 'b',
        DType::C64 | DType::C128 => 'c',
        dtype if dtype.is_float() => 'f',
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => 'u',
        _ => 'i',
    };
    format!("{order}{kind}{}", dtype.size())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What numpy 2.4.6 (with ml_dtypes 0.6.0) wrote: the text up to its padding, and the length of the whole
    /// header.
    const SAVED_BY_NUMPY: [(DType, &[u64], &str, usize); 15] = [
        (DType::F32, &[12000, 384], "{'descr': '<f4', 'fortran_order': False, 'shape': (12000, 384), }", 128),
        (DType::F64, &[3], "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", 128),
        (DType::F16, &[0, 0], "{'descr': '<f2', 'fortran_order': False, 'shape': (0, 0), }", 128),
        (DType::I64, &[], "{'descr': '<i8', 'fortran_order': False, 'shape': (), }", 128),
        (DType::I8, &[5], "{'descr': '|i1', 'fortran_order': False, 'shape': (5,), }", 128),
        (DType::U8, &[5, 2], "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 2), }", 128),
        (DType::Bf16, &[7, 3], "{'descr': '<V2', 'fortran_order': False, 'shape': (7, 3), }", 128),
        (DType::U16, &[1, 2, 3], "{'descr': '<u2', 'fortran_order': False, 'shape': (1, 2, 3), }", 128),
        (
            DType::I32,
            &[123456789012, 0],
            "{'descr': '<i4', 'fortran_order': False, 'shape': (123456789012, 0), }",
            128,
        ),
        (DType::Bool, &[5], "{'descr': '|b1', 'fortran_order': False, 'shape': (5,), }", 128),
        (DType::C64, &[2, 3], "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 3), }", 128),
        (DType::C128, &[4], "{'descr': '<c16', 'fortran_order': False, 'shape': (4,), }", 128),
        (DType::I16, &[2, 2], "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 2), }", 128),
        (DType::U32, &[2, 2], "{'descr': '<u4', 'fortran_order': False, 'shape': (2, 2), }", 128),
        (
            DType::U64,
            &[u64::MAX, 4294967295],
            "{'descr': '<u8', 'fortran_order': False, 'shape': (18446744073709551615, 4294967295), }",
            128,
        ),
    ];

    #[test]
    fn headers_are_the_bytes_that_numpy_saves() {
        for (dtype, shape, text, len) in SAVED_BY_NUMPY {
            let header = npy_header(dtype, shape);
            assert_eq!(header.len(), len, "{text}");
            let text_len = u8::try_from(len - 10).unwrap();
            assert_eq!(header[..10], [0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0, text_len, 0], "{text}");
            let padding = " ".repeat(len - 10 - text.len() - 1);
            assert_eq!(std::str::from_utf8(&header[10..]).unwrap(), format!("{text}{padding}\n"));
        }
    }

    #[test]
    fn text_that_fits_a_line_gets_a_whole_line_of_padding_as_numpy_has_it() {
        let header = npy_header(DType::U64, &[1; 36]);
        assert_eq!(header.len(), 256);
        assert_eq!(header[..10], *b"\x93NUMPY\x01\x00\xf6\x00");
        assert_eq!(header.iter().rev().skip(1).take_while(|&&b| b == b' ').count(), 84);
    }

    #[test]
    fn every_dtype_is_spelled_out() {
        for dtype in DType::ALL {
            assert!(SAVED_BY_NUMPY.iter().any(|case| case.0 == dtype), "{dtype}");
        }
    }
}
