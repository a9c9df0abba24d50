//! The header of a `.npy` file: versions 1.0, 2.0 and 3.0.
//!
//! ```text
//! 93 'NUMPY'  major minor  text length (u16, from 2.0 on u32)  text, padded, ended by a newline  data
//! text: {'descr': '<f4', 'fortran_order': False, 'shape': (12000, 384), }
//! ```
//!
//! The text is a Python literal, which in general nests without end. We read exactly the dictionary above,
//! without recursion, because what does not look like it is not a matrix of numbers. (The crate `npyz` 0.9
//! reads any literal, and takes longer than anybody waits for a text of twenty opening brackets: its grammar
//! is exponential in depth.)

use cvc_format::DType;

use super::{InputError, Origin};

const MAGIC: &[u8] = b"\x93NUMPY";

/// The most bytes before the text: magic, version, a length of four bytes.
pub(super) const PRELUDE_MAX: usize = 12;

/// Ordinary text has a hundred bytes. From version 2.0 on it could claim 4 GiB.
const TEXT_LEN_MAX: usize = 1 << 20;

/// Text of fewer bytes cannot be the dictionary; so a header is never shorter than `PRELUDE_MAX`.
const TEXT_LEN_MIN: usize = 2;

const ACCEPTED_DTYPES: &str = "f2, f4, f8, i1 to i8, u1 to u8, c8, c16 and b1 in either byte order; convert it first, as by array.astype('float32')";
const ACCEPTED_SHAPES: &str =
    "1 to 32 dimensions, below 2^32 values a row; reshape it first, as by array.reshape(len(array), -1)";
const ACCEPTED_ORDERS: &str =
    "Fortran order of one or two dimensions; save it in C order, as by numpy.ascontiguousarray(array)";
/// Dimensions of an array. NumPy itself has no more than 64.
const DIMENSIONS_MAX: usize = 32;
const ACCEPTED_VERSIONS: &str = "versions 1.0, 2.0 and 3.0; write it again with numpy.save";

/// What a header says, checked: the data is `data_len` bytes long and starts at byte `len`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) data_len: u64,
    pub(super) dtype: DType,
    /// Whether the bytes of a value are in the other order than this machine's.
    pub(super) swapped: bool,
    /// Whether the first column comes first, not the first row.
    pub(super) by_column: bool,
    pub(super) rows: u64,
    /// Values of a row.
    pub(super) dim: u32,
    /// The shape of a row; of a list of single values none.
    pub(super) inner: Vec<u32>,
}

/// The length of the header that begins with these bytes, the first [`PRELUDE_MAX`] of a file or all of a
/// shorter one.
pub(super) fn header_len(origin: &Origin, start: &[u8]) -> Result<usize, InputError> {
    let magic_len = MAGIC.len().min(start.len());
    if start[..magic_len] != MAGIC[..magic_len] {
        return Err(malformed(
            origin,
            0,
            "a .npy file begins with the bytes 93 'NUMPY', and this one does not",
        ));
    }
    let truncated = || InputError::Truncated {
        origin: origin.clone(),
        expected: (PRELUDE_MAX + TEXT_LEN_MIN) as u64,
        found: start.len() as u64,
    };
    let version = start.get(6..8).ok_or_else(truncated)?;
    let (prelude_len, text_len) = match version {
        [1, 0] => {
            let len: [u8; 2] = start.get(8..10).and_then(|b| b.try_into().ok()).ok_or_else(truncated)?;
            (10, usize::from(u16::from_le_bytes(len)))
        }
        [2 | 3, 0] => {
            let len: [u8; 4] = start.get(8..12).and_then(|b| b.try_into().ok()).ok_or_else(truncated)?;
            (12, usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX))
        }
        [major, minor] => {
            let has = format!("a .npy file of version {major}.{minor}");
            return Err(unsupported(origin, has, ACCEPTED_VERSIONS));
        }
        _ => return Err(truncated()),
    };
    if !(TEXT_LEN_MIN..=TEXT_LEN_MAX).contains(&text_len) {
        let what = format!(
            "the header's text claims {text_len} bytes; from {TEXT_LEN_MIN} to {TEXT_LEN_MAX} are allowed"
        );
        return Err(malformed(origin, 8, what));
    }
    Ok(prelude_len + text_len)
}

/// Reads a whole header, of exactly the bytes that [`header_len`] told.
pub(super) fn parse(origin: &Origin, header: &[u8]) -> Result<Header, InputError> {
    let prelude_len = if header.get(6) == Some(&1) { 10 } else { 12 };
    let mut text = Text { origin, bytes: header, at: prelude_len };

    let (mut descr, mut by_column, mut shape) = (None, None, None);
    text.expect(b'{', "the dictionary")?;
    loop {
        if text.eat(b'}') {
            break;
        }
        let start = text.at;
        let key = text.string("a key")?;
        text.expect(b':', "the value of a key")?;
        let known = match key {
            b"descr" => descr.replace(text.descr()?).is_none(),
            b"fortran_order" => by_column.replace(text.boolean()?).is_none(),
            b"shape" => shape.replace(text.shape()?).is_none(),
            _ => false,
        };
        if !known {
            return Err(malformed(origin, start, format!("the key {} is unknown or doubled", shown(key))));
        }
        if !text.eat(b',') {
            text.expect(b'}', "the end of the dictionary")?;
            break;
        }
    }
    text.skip_space();
    if text.at < header.len() {
        return Err(malformed(origin, text.at, "something follows the header's dictionary"));
    }

    let missing = |key| malformed(origin, prelude_len, format!("the header has no key '{key}'"));
    let (dtype, swapped) = descr.ok_or_else(|| missing("descr"))?;
    let by_column = by_column.ok_or_else(|| missing("fortran_order"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;

    let data_len =
        shape.rows.checked_mul(u64::from(shape.dim)).and_then(|n| n.checked_mul(dtype.size() as u64));
    let data_len =
        data_len.filter(|len| len.checked_add(header.len() as u64).is_some()).ok_or_else(|| {
            let what =
                format!("{} rows of {} values are more bytes than any file has", shape.rows, shape.dim);
            malformed(origin, prelude_len, what)
        })?;
    // One row or one column lies the same in both orders.
    let by_column = by_column && shape.dim > 1 && (shape.rows > 1 || shape.inner.len() > 1);
    if by_column && shape.inner.len() > 1 {
        let has = format!("an array of {} dimensions in Fortran order", shape.inner.len() + 1);
        return Err(unsupported(origin, has, ACCEPTED_ORDERS));
    }
    Ok(Header {
        len: header.len(),
        data_len,
        dtype,
        swapped: swapped && dtype.component_size() > 1,
        by_column,
        rows: shape.rows,
        dim: shape.dim,
        inner: shape.inner,
    })
}

struct Shape {
    rows: u64,
    dim: u32,
    inner: Vec<u32>,
}

/// The header's text, read from left to right.
struct Text<'a> {
    origin: &'a Origin,
    /// The whole header, so that positions are offsets in the file.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    fn skip_space(&mut self) {
        self.at += self.count(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// How many bytes from here on are of this kind.
    fn count(&self, of: impl Fn(u8) -> bool) -> usize {
        self.bytes[self.at..].iter().take_while(|&&b| of(b)).count()
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, before: &str) -> Result<(), InputError> {
        if self.eat(byte) {
            return Ok(());
        }
        let what = format!("expected '{}' for {before} in the header", char::from(byte));
        Err(malformed(self.origin, self.at, what))
    }

    /// What stands between two quotes. Escapes are left as they are: no name that we know has one.
    fn string(&mut self, what: &str) -> Result<&'a [u8], InputError> {
        let start = self.at;
        if let Some(quote @ (b'\'' | b'"')) = self.peek() {
            self.at += 1;
            let inner = &self.bytes[self.at..][..self.count(|b| b != quote)];
            self.at += inner.len();
            if self.eat(quote) {
                return Ok(inner);
            }
        }
        Err(malformed(self.origin, start, format!("expected {what} between quotes in the header")))
    }

    fn boolean(&mut self) -> Result<bool, InputError> {
        self.skip_space();
        let start = self.at;
        self.at += self.count(|b| b.is_ascii_alphanumeric() || b == b'_');
        match &self.bytes[start..self.at] {
            b"True" => Ok(true),
            b"False" => Ok(false),
            _ => Err(malformed(self.origin, start, "'fortran_order' is neither True nor False")),
        }
    }

    /// The dtype, and whether its bytes are in the other order than this machine's.
    fn descr(&mut self) -> Result<(DType, bool), InputError> {
        if let Some(b'[' | b'(' | b'{') = self.peek() {
            let has = "values of several fields (a structured dtype)".to_owned();
            return Err(unsupported(self.origin, has, ACCEPTED_DTYPES));
        }
        let name = self.string("a dtype")?;
        let dtype = match name.get(1..).unwrap_or_default() {
            b"i1" => DType::I8,
            b"i2" => DType::I16,
            b"i4" => DType::I32,
            b"i8" => DType::I64,
            b"u1" => DType::U8,
            b"u2" => DType::U16,
            b"u4" => DType::U32,
            b"u8" => DType::U64,
            b"f2" => DType::F16,
            b"f4" => DType::F32,
            b"f8" => DType::F64,
            b"c8" => DType::C64,
            b"c16" => DType::C128,
            b"b1" => DType::Bool,
            other => return Err(unsupported(self.origin, describe(name, other), ACCEPTED_DTYPES)),
        };
        match name.first() {
            Some(b'<') => Ok((dtype, cfg!(target_endian = "big"))),
            Some(b'>') => Ok((dtype, cfg!(target_endian = "little"))),
            // numpy takes both for the order of the machine that reads.
            Some(b'|' | b'=') => Ok((dtype, false)),
            _ => Err(unsupported(self.origin, describe(name, b""), ACCEPTED_DTYPES)),
        }
    }

    fn shape(&mut self) -> Result<Shape, InputError> {
        self.expect(b'(', "the shape")?;
        let start = self.at - 1;
        let (mut all, mut count, mut ends_in_comma) = (Vec::new(), 0_usize, false);
        while !self.eat(b')') {
            if count > 0 && !ends_in_comma {
                return Err(malformed(self.origin, self.at, "expected ',' or ')' in the shape"));
            }
            let n = self.number()?;
            if count < DIMENSIONS_MAX {
                all.push(n);
            }
            count += 1;
            ends_in_comma = self.eat(b',');
        }

        let has = |what: &str| format!("{what} of shape {}", shown(&self.bytes[start..self.at]));
        if count == 1 && !ends_in_comma {
            let what = "a shape of one number ends with a comma, as in (5,)";
            return Err(malformed(self.origin, start, what));
        }
        let Some((&rows, inner)) = all.split_first() else {
            return Err(unsupported(self.origin, "a single value".to_owned(), ACCEPTED_SHAPES));
        };
        if count > DIMENSIONS_MAX {
            let what = has(&format!("an array of {count} dimensions"));
            return Err(unsupported(self.origin, what, ACCEPTED_SHAPES));
        }
        let inner = inner.iter().map(|len| u32::try_from(*len).ok()).collect::<Option<Vec<u32>>>();
        let dim = |inner: &Vec<u32>| inner.iter().try_fold(1u32, |dim, len| dim.checked_mul(*len));
        let shape = inner.and_then(|inner| Some(Shape { rows, dim: dim(&inner)?, inner }));
        shape.ok_or_else(|| unsupported(self.origin, has("an array"), ACCEPTED_SHAPES))
    }

    fn number(&mut self) -> Result<u64, InputError> {
        self.skip_space();
        let start = self.at;
        self.at += self.count(|b| b.is_ascii_digit());
        let digits = &self.bytes[start..self.at];
        // Python 2 wrote 5L for a long number.
        if self.bytes.get(self.at) == Some(&b'L') {
            self.at += 1;
        }
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| malformed(self.origin, start, "expected a whole number below 2^64 in the shape"))
    }
}

/// A dtype that we do not take, in the words of its users.
fn describe(name: &[u8], after_order: &[u8]) -> String {
    let kind = match (after_order.first(), after_order) {
        (Some(b'c'), _) => " (extended precision)",
        (Some(b'O'), _) => " (Python objects)",
        (Some(b'S' | b'U' | b'a'), _) => " (strings)",
        (Some(b'M' | b'm'), _) => " (times)",
        (_, b"V2") => " (raw pairs of bytes, as bfloat16 is saved: view it as ml_dtypes.bfloat16 first)",
        (Some(b'V'), _) => " (raw bytes)",
        (Some(b'f'), _) => " (extended precision)",
        _ => "",
    };
    format!("values of dtype {}{kind}", shown(name))
}

/// Bytes of the input in a message: escaped, and not too many.
fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let cut = &bytes[..bytes.len().min(SHOWN)];
    format!("'{}{}'", cut.escape_ascii(), if cut.len() < bytes.len() { "..." } else { "" })
}

fn malformed(origin: &Origin, offset: usize, what: impl Into<String>) -> InputError {
    InputError::Malformed { origin: origin.clone(), offset: offset as u64, what: what.into() }
}

fn unsupported(origin: &Origin, has: String, accepted: &'static str) -> InputError {
    InputError::Unsupported { origin: origin.clone(), has, accepted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { path: "a.npy".into(), member: None }
    }

    fn header(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes()),
            _ => bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes()),
        }
        bytes.extend(text.bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header, InputError> {
        let len = header_len(&origin(), &bytes[..bytes.len().min(PRELUDE_MAX)])?;
        parse(&origin(), bytes.get(..len).unwrap_or(bytes))
    }

    fn message(text: &str) -> String {
        let error = read(&header(1, text)).unwrap_err().to_string();
        assert!(error.starts_with("a.npy: "), "{error}");
        error
    }

    #[test]
    fn reads_what_numpy_writes_and_what_python_allows() {
        let expected = Header {
            len: 0,
            data_len: 24,
            dtype: DType::F32,
            swapped: cfg!(target_endian = "big"),
            by_column: false,
            rows: 2,
            dim: 3,
            inner: vec![3],
        };
        for text in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }           \n",
            "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}",
            "{\"descr\":\"<f4\",\"fortran_order\":False,\"shape\":(2,3,)}\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }\n",
            " {\t'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2 , 3 ) , } \r\n",
        ] {
            for version in [1, 2, 3] {
                let bytes = header(version, text);
                let len = bytes.len();
                assert_eq!(read(&bytes).unwrap(), Header { len, ..expected.clone() }, "{text}");
            }
        }
    }

    #[test]
    fn one_row_or_one_column_is_in_both_orders() {
        for (shape, by_column) in
            [("(5,)", false), ("(5, 1)", false), ("(1, 5)", false), ("(0, 5)", false), ("(2, 5)", true)]
        {
            let text = format!("{{'descr': '<f4', 'fortran_order': True, 'shape': {shape}, }}");
            assert_eq!(read(&header(1, &text)).unwrap().by_column, by_column, "{shape}");
        }
    }

    #[test]
    fn a_dtype_that_is_no_number_is_named_with_what_is_accepted() {
        for (descr, words) in [
            ("'<c32'", "'<c32' (extended precision)"),
            ("'|O'", "'|O' (Python objects)"),
            ("'<U7'", "'<U7' (strings)"),
            ("'|S7'", "'|S7' (strings)"),
            ("'<M8[ns]'", "'<M8[ns]' (times)"),
            ("'<V2'", "bfloat16"),
            ("'|V9'", "'|V9' (raw bytes)"),
            ("'<f16'", "'<f16' (extended precision)"),
            ("'f4'", "'f4'"),
            ("'<i3'", "'<i3'"),
            ("''", "''"),
            ("[('a', '<f4'), ('b', '<f4')]", "a structured dtype"),
        ] {
            let error = message(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2, 3), }}"));
            assert!(error.contains(words) && error.contains("accepted: f2, f4, f8"), "{error}");
        }
    }

    #[test]
    fn a_shape_that_is_no_matrix_is_named_with_what_is_accepted() {
        for (shape, words) in [
            ("()", "a single value"),
            ("(1, 4294967296)", "of shape '(1, 4294967296)'"),
            ("(1, 65536, 65536)", "of shape '(1, 65536, 65536)'"),
            (&format!("({})", "1, ".repeat(33)), "an array of 33 dimensions"),
        ] {
            let error = message(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
            assert!(error.contains(words) && error.contains("accepted: 1 to 32 dimensions"), "{error}");
        }
    }

    #[test]
    fn what_is_not_the_dictionary_is_malformed() {
        for (text, words) in [
            ("\n\n", "expected '{'"),
            ("['descr']", "at byte 10: expected '{'"),
            ("{'descr': '<f4', 'fortran_order': False, }", "no key 'shape'"),
            ("{'descr': '<f4', 'shape': (2, 3), }", "no key 'fortran_order'"),
            ("{'fortran_order': False, 'shape': (2, 3), }", "no key 'descr'"),
            ("{'descr': '<f4', 'descr': '<f4', }", "the key 'descr' is unknown or doubled"),
            ("{'other': '<f4', }", "the key 'other'"),
            ("{'descr': '<f4' 'shape': (2, 3), }", "expected '}'"),
            ("{'descr': '<f4, }", "expected a dtype between quotes"),
            ("{'descr': 4, }", "expected a dtype between quotes"),
            ("{'fortran_order': 1, }", "neither True nor False"),
            ("{'fortran_order': Falsey, }", "neither True nor False"),
            ("{'shape': 5, }", "expected '('"),
            ("{'shape': (5), }", "ends with a comma"),
            ("{'shape': (,), }", "expected a whole number"),
            ("{'shape': (5 6), }", "expected ',' or ')'"),
            ("{'shape': (-1, 2), }", "expected a whole number"),
            ("{'shape': (18446744073709551616, 2), }", "expected a whole number below 2^64"),
            ("{'shape': (2, 3", "expected ',' or ')'"),
            ("{'shape': (2, 3,", "expected a whole number"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } x", "something follows"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 2), }",
                "more bytes than any file",
            ),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693951, 1), }",
                "more bytes than any file",
            ),
        ] {
            let error = message(text);
            assert!(error.contains(words) && error.ends_with("write the file again"), "{text}: {error}");
        }
    }

    #[test]
    fn a_header_that_claims_gigabytes_or_nothing_is_refused() {
        for len in [0_u32, 1, (1 << 20) + 1, u32::MAX] {
            let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
            bytes.extend(len.to_le_bytes());
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(&format!("claims {len} bytes")), "{error}");
        }
    }

    #[test]
    fn nesting_costs_nothing() {
        for open in ["(", "[", "{", "{'descr':", "{'shape':(", "'"] {
            assert!(read(&header(2, &open.repeat(100_000))).is_err(), "{open}");
        }
    }

    #[test]
    fn other_versions_and_other_files_are_told_apart() {
        assert!(read(&header(4, "{}")).unwrap_err().to_string().contains("version 4.0"));
        let mut bytes = header(1, "{}");
        bytes[7] = 1;
        assert!(read(&bytes).unwrap_err().to_string().contains("version 1.1"));
        assert!(read(b"PK\x03\x04").unwrap_err().to_string().contains("begins with the bytes 93 'NUMPY'"));
        assert!(matches!(read(b"\x93NUM").unwrap_err(), InputError::Truncated { found: 4, .. }));
        assert!(matches!(read(b"").unwrap_err(), InputError::Truncated { found: 0, .. }));
    }
}
