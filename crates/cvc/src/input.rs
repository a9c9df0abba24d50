//! Matrices that users have: `.npy`, `.npz`, `.fvecs`, `.bvecs`, `.ivecs`.
//!
//! A [`Matrix`] is opened, asked for its shape, and read by ranges of rows. Inputs are mapped, so that one
//! larger than memory can be packed, and rows that already lie as we want them are borrowed without a copy.
//!
//! ```text
//! file ─▶ Matrix::open ─▶ rows, dim, dtype ─▶ read(rows) ─▶ native bytes in C order
//!   .npz: one member, unpacked into a nameless file        ├ borrowed from the map, or
//!                                                          └ converted into the caller's AlignedBytes
//! ```
//!
//! Everything that a header says is checked against the length of the file when it is opened. Nothing is
//! allocated from a number of a header alone.

mod convert;
mod error;
mod npy;
mod npz;
mod vecs;

use std::ops::Range;
use std::path::{Path, PathBuf};

use cvc_format::DType;

pub use self::error::{InputError, Origin};
pub use crate::aligned::AlignedBytes;
use crate::io::mmap::Map;

/// How to open a [`Matrix`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The array of an `.npz` archive, with or without `.npy`. May be left out if there is only one.
    pub member: Option<String>,
    /// Where the array of an `.npz` archive is unpacked, at its full size. If left out, the system's
    /// directory for temporary files.
    pub temp_dir: Option<PathBuf>,
}

/// Rows of values of one dtype, in a file.
#[derive(Debug)]
pub struct Matrix {
    origin: Origin,
    map: Map,
    /// Where the values begin in the map; they go on to its end.
    start: usize,
    stored: Stored,
    dtype: DType,
    rows: u64,
    dim: u32,
    inner: Vec<u32>,
}

/// How the values lie in the file.
#[derive(Clone, Copy, Debug)]
enum Stored {
    /// Row by row.
    Rows { swapped: bool },
    /// Column by column, "Fortran order".
    Columns { swapped: bool },
    /// Row by row, each after its dimension.
    Prefixed,
}

impl Matrix {
    /// Opens the file, which its extension says how to read.
    ///
    /// The file stays mapped for as long as the matrix lives, and must not change meanwhile: see [`Map`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is of none of the kinds, is damaged, is longer or shorter than its
    /// header says, or holds something else than a matrix of numbers. Each error names the file and what to
    /// do.
    pub fn open(path: &Path, options: &Options) -> Result<Matrix, InputError> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let kind = match extension.as_deref() {
            Some("npy") => Kind::Npy,
            Some("npz") => Kind::Npz,
            Some("fvecs") => Kind::Vecs(DType::F32),
            Some("bvecs") => Kind::Vecs(DType::U8),
            Some("ivecs") => Kind::Vecs(DType::I32),
            _ => return Err(InputError::UnknownKind { path: path.to_owned() }),
        };
        if let (Some(member), Kind::Npy | Kind::Vecs(_)) = (&options.member, kind) {
            return Err(InputError::NotAnArchive { path: path.to_owned(), member: member.clone() });
        }
        match kind {
            Kind::Npy => {
                let (origin, map) = map(path)?;
                let prelude = &map[..map.len().min(npy::PRELUDE_MAX)];
                let header_len = npy::header_len(&origin, prelude)?;
                let Some(header) = map.get(..header_len) else {
                    let (expected, found) = (header_len as u64, map.len() as u64);
                    return Err(InputError::Truncated { origin, expected, found });
                };
                // A copy, so that the text cannot change while it is read.
                let header = header.to_vec();
                let header = npy::parse(&origin, &header)?;
                check_len(&origin, &header, map.len() as u64)?;
                let start = header.len;
                Ok(Matrix::of_npy(origin, map, start, header))
            }
            Kind::Npz => {
                let (origin, header, map) = npz::extract(path, options)?;
                Ok(Matrix::of_npy(origin, map, 0, header))
            }
            Kind::Vecs(dtype) => {
                let (origin, map) = map(path)?;
                let (rows, dim) = vecs::shape(&origin, &map, dtype)?;
                let stored = Stored::Prefixed;
                Ok(Matrix { origin, map, start: 0, stored, dtype, rows, dim, inner: vec![dim] })
            }
        }
    }

    fn of_npy(origin: Origin, map: Map, start: usize, header: npy::Header) -> Matrix {
        let npy::Header { dtype, swapped, by_column, rows, dim, inner, .. } = header;
        let stored = if by_column { Stored::Columns { swapped } } else { Stored::Rows { swapped } };
        Matrix { origin, map, start, stored, dtype, rows, dim, inner }
    }

    /// The file, and the array in it, for messages.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many values a row has: 1 for an array of one dimension, the product of all but the first for one of several.
    pub fn dim(&self) -> u32 {
        self.dim
    }

    /// Whether the array has one dimension only, one value a row.
    pub fn scalar(&self) -> bool {
        self.inner.is_empty()
    }

    /// The shape of a row: all dimensions but the first.
    pub fn inner(&self) -> &[u32] {
        &self.inner
    }

    /// The dtype of the values.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// These rows, one after the other, as values in native byte order, aligned for the dtype.
    ///
    /// They are borrowed from the file where it has them so, and converted into `scratch` otherwise. Ranges
    /// of some megabytes are best: a whole matrix in one call is a whole matrix in memory.
    ///
    /// # Errors
    ///
    /// When there are no such rows, or (`.fvecs` and its kin) a row has another dimension than the first.
    pub fn read<'a>(
        &'a self,
        rows: Range<u64>,
        scratch: &'a mut AlignedBytes,
    ) -> Result<&'a [u8], InputError> {
        if rows.start > rows.end || rows.end > self.rows {
            let (Range { start, end }, origin) = (rows, self.origin.clone());
            return Err(InputError::Rows { origin, start, end, rows: self.rows });
        }
        let size = self.dtype.size();
        let row_len = u64::from(self.dim) * size as u64;
        if rows.is_empty() || row_len == 0 {
            // Of the buffer, because no bytes, too, are aligned for the dtype.
            return Ok(scratch.resize(0));
        }
        // All rows have bytes, and opening made sure that they lie in the map.
        let in_map = |n: u64| usize::try_from(n).expect("rows lie in the map");
        let len = in_map((rows.end - rows.start) * row_len);
        let values = &self.map[self.start..];
        match self.stored {
            Stored::Rows { swapped } => {
                let from = &values[in_map(rows.start * row_len)..][..len];
                if !swapped && from.as_ptr().addr().is_multiple_of(size) {
                    return Ok(from);
                }
                let to = scratch.resize(len);
                if swapped {
                    convert::swap(self.dtype.component_size(), from, to);
                } else {
                    to.copy_from_slice(from);
                }
            }
            Stored::Columns { swapped } => {
                let range = in_map(rows.start)..in_map(rows.end);
                convert::gather(self.dtype, values, in_map(self.rows), range, scratch.resize(len), swapped);
            }
            Stored::Prefixed => {
                let range = in_map(rows.start)..in_map(rows.end);
                vecs::rows(&self.origin, values, range, self.dim, self.dtype, scratch.resize(len))?;
            }
        }
        Ok(scratch.bytes())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Npy,
    Npz,
    Vecs(DType),
}

fn map(path: &Path) -> Result<(Origin, Map), InputError> {
    let origin = Origin { path: path.to_owned(), member: None };
    match Map::open(path) {
        Ok(map) => Ok((origin, map)),
        Err(source) => Err(InputError::Source { origin, source }),
    }
}

/// A `.npy` is as long as its header says, to the byte.
fn check_len(origin: &Origin, header: &npy::Header, found: u64) -> Result<(), InputError> {
    let origin = || origin.clone();
    // `npy::parse` has made sure that this is no overflow.
    let expected = header.len as u64 + header.data_len;
    match found.cmp(&expected) {
        std::cmp::Ordering::Less => Err(InputError::Truncated { origin: origin(), expected, found }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(InputError::Trailing { origin: origin(), expected }),
    }
}

/// Small files for the tests of every kind.
#[cfg(test)]
mod testing {
    use super::*;

    pub(super) struct Dir(tempfile::TempDir);

    impl Dir {
        pub(super) fn new() -> Dir {
            Dir(tempfile::tempdir().unwrap())
        }

        pub(super) fn path(&self) -> &Path {
            self.0.path()
        }

        /// Replaced, not overwritten: an earlier file of the name may still be mapped.
        pub(super) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let (path, new) = (self.path().join(name), self.path().join("new"));
            std::fs::write(&new, bytes).unwrap();
            std::fs::rename(&new, &path).unwrap();
            path
        }
    }

    /// A `.npy` as numpy writes it.
    pub(super) fn npy(version: u8, descr: &str, by_column: bool, shape: &str, data: &[u8]) -> Vec<u8> {
        let order = if by_column { "True" } else { "False" };
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        let prelude_len = if version == 1 { 10 } else { 12 };
        while (prelude_len + text.len() + 1) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        bytes.extend(&u32::try_from(text.len()).unwrap().to_le_bytes()[..prelude_len - 8]);
        bytes.extend(text.bytes());
        bytes.extend(data);
        bytes
    }

    /// Rows, dim, dtype and every byte of a file, read two rows at a time and all at once.
    pub(super) fn read_all(path: &Path) -> Result<(u64, u32, DType, Vec<u8>), InputError> {
        let matrix = Matrix::open(path, &Options::default())?;
        let (mut scratch, mut bytes) = (AlignedBytes::new(), Vec::new());
        // A header may claim any number of rows of no values; nobody reads those one by one.
        for start in (0..matrix.rows().min(1000)).step_by(2) {
            let part = matrix.read(start..matrix.rows().min(start + 2), &mut scratch)?;
            assert!(part.as_ptr().addr().is_multiple_of(matrix.dtype().size()));
            bytes.extend_from_slice(part);
        }
        let whole = matrix.read(0..matrix.rows(), &mut scratch)?;
        assert_eq!(
            whole.len() as u64,
            matrix.rows() * u64::from(matrix.dim()) * matrix.dtype().size() as u64
        );
        assert_eq!(whole[..bytes.len()], bytes);
        Ok((matrix.rows(), matrix.dim(), matrix.dtype(), whole.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Dir, npy, read_all};
    use super::*;

    const DTYPES: [(&str, DType); 14] = [
        ("i1", DType::I8),
        ("i2", DType::I16),
        ("i4", DType::I32),
        ("i8", DType::I64),
        ("u1", DType::U8),
        ("u2", DType::U16),
        ("u4", DType::U32),
        ("u8", DType::U64),
        ("f2", DType::F16),
        ("f4", DType::F32),
        ("f8", DType::F64),
        ("c8", DType::C64),
        ("c16", DType::C128),
        ("b1", DType::Bool),
    ];

    /// The bytes of value (row, column) in native order: all different, also within a value.
    fn value(row: usize, column: usize, size: usize) -> Vec<u8> {
        (0..size).map(|i| u8::try_from((row * 40 + column * 8 + i) % 256).unwrap()).collect()
    }

    #[test]
    fn every_dtype_reads_in_every_byte_order_and_both_orders() {
        let dir = Dir::new();
        let (rows, dim) = (5, 4);
        let native = if cfg!(target_endian = "little") { '<' } else { '>' };
        for (name, dtype) in DTYPES {
            let size = dtype.size();
            let expected: Vec<u8> = (0..rows * dim).flat_map(|i| value(i / dim, i % dim, size)).collect();
            for version in [1, 2, 3] {
                for order in ['<', '>', '=', '|'] {
                    for by_column in [false, true] {
                        let cells = (0..rows * dim)
                            .map(|i| if by_column { (i % rows, i / rows) } else { (i / dim, i % dim) });
                        let mut data = Vec::new();
                        for (row, column) in cells {
                            let mut value = value(row, column, size);
                            if matches!(order, '<' | '>') && order != native {
                                value.chunks_mut(dtype.component_size()).for_each(<[u8]>::reverse);
                            }
                            data.extend(value);
                        }
                        let bytes = npy(version, &format!("{order}{name}"), by_column, "(5, 4)", &data);
                        let read = read_all(&dir.file("a.npy", &bytes)).unwrap();
                        assert_eq!(read, (5, 4, dtype, expected.clone()), "{order}{name} {by_column}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_that_lie_right_are_borrowed_and_others_are_not() {
        let dir = Dir::new();
        let mut scratch = AlignedBytes::new();
        let mut borrowed = |bytes: &[u8]| {
            let matrix = Matrix::open(&dir.file("a.npy", bytes), &Options::default()).unwrap();
            let rows = matrix.read(1..2, &mut scratch).unwrap();
            assert_eq!(rows.len(), 8);
            matrix.map.as_ptr_range().contains(&rows.as_ptr())
        };
        let data: Vec<u8> = (0..16).collect();
        let (native, other) = if cfg!(target_endian = "little") { ("<f4", ">f4") } else { (">f4", "<f4") };
        assert!(borrowed(&npy(1, native, false, "(2, 2)", &data)));
        assert!(!borrowed(&npy(1, other, false, "(2, 2)", &data)));
        assert!(!borrowed(&npy(1, native, true, "(2, 2)", &data)));
        // One space more, and the data begins at byte 129.
        let mut odd = npy(1, native, false, "(2, 2)", &data);
        let at = odd.len() - data.len() - 1;
        odd.insert(at, b' ');
        odd[8] += 1;
        assert!(!borrowed(&odd));
        assert_eq!(read_all(&dir.file("a.npy", &odd)).unwrap().3, data);
    }

    #[test]
    fn an_array_of_one_dimension_has_one_value_a_row() {
        let dir = Dir::new();
        for by_column in [false, true] {
            let path = dir.file("a.NPY", &npy(1, "|i1", by_column, "(3,)", &[1, 2, 3]));
            let matrix = Matrix::open(&path, &Options::default()).unwrap();
            assert!(matrix.scalar());
            assert_eq!((matrix.rows(), matrix.dim()), (3, 1));
            assert_eq!(matrix.read(1..3, &mut AlignedBytes::new()).unwrap(), [2, 3]);
        }
    }

    #[test]
    fn an_array_of_several_dimensions_has_rows_of_a_shape() {
        let dir = Dir::new();
        let bytes: Vec<u8> = (0..24).collect();
        let matrix = |by_column, shape: &str| {
            Matrix::open(&dir.file("a.npy", &npy(1, "|u1", by_column, shape, &bytes)), &Options::default())
        };
        let of = matrix(false, "(2, 3, 4)").unwrap();
        assert_eq!((of.rows(), of.dim(), of.inner(), of.scalar()), (2, 12, &[3, 4][..], false));
        assert_eq!(of.read(1..2, &mut AlignedBytes::new()).unwrap(), &bytes[12..]);
        assert_eq!(matrix(false, "(24, 1)").unwrap().inner(), [1]);
        assert_eq!(matrix(true, "(24, 1, 1)").unwrap().inner(), [1, 1], "it lies the same in both orders");
        for shape in ["(2, 3, 4)", "(1, 6, 4)"] {
            let error = matrix(true, shape).unwrap_err().to_string();
            assert!(
                error.contains("3 dimensions in Fortran order") && error.contains("ascontiguousarray"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_rows_and_no_values_are_fine() {
        let dir = Dir::new();
        for (shape, rows, dim) in [
            ("(0,)", 0, 1),
            ("(0, 0)", 0, 0),
            ("(0, 4294967295)", 0, u32::MAX),
            ("(18446744073709551615, 0)", u64::MAX, 0),
        ] {
            for by_column in [false, true] {
                let path = dir.file("a.npy", &npy(1, "<f8", by_column, shape, &[]));
                assert_eq!(read_all(&path).unwrap(), (rows, dim, DType::F64, vec![]), "{shape}");
            }
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_or_longer_is_an_error() {
        let dir = Dir::new();
        let bytes = npy(1, "<f4", false, "(2, 2)", &[0; 16]);
        for len in 0..bytes.len() {
            match read_all(&dir.file("a.npy", &bytes[..len])).unwrap_err() {
                InputError::Truncated { expected, found, .. } => {
                    assert_eq!(found, len as u64);
                    assert!(expected > found && expected <= bytes.len() as u64);
                }
                other => panic!("{len}: {other}"),
            }
        }
        let mut longer = bytes.clone();
        longer.push(0);
        let error = read_all(&dir.file("a.npy", &longer)).unwrap_err();
        assert!(matches!(error, InputError::Trailing { expected: 144, .. }), "{error}");
    }

    #[test]
    fn any_byte_of_the_header_may_be_anything() {
        let dir = Dir::new();
        let bytes = npy(1, "<f4", true, "(2, 2)", &[0; 16]);
        let header_len = bytes.len() - 16;
        let mut readable = 0;
        for at in 0..header_len {
            // Every bit flipped, and the bytes that mean something here.
            let others = (0..8).map(|bit| bytes[at] ^ 1 << bit).chain(*b"\0\xFF'\"(){}[],:0129TL<>|= \n");
            for other in others.filter(|&other| other != bytes[at]) {
                let mut changed = bytes.clone();
                changed[at] = other;
                match read_all(&dir.file("a.npy", &changed)) {
                    Ok((.., bytes)) => {
                        readable += 1;
                        assert_eq!(bytes, [0; 16]);
                    }
                    Err(error) => assert!(error.to_string().contains("a.npy"), "{error}"),
                }
            }
        }
        assert!(readable > 0, "a space more or less, the other byte order: these still read");
    }

    #[test]
    fn rows_that_are_not_there_are_refused_with_both_numbers() {
        let dir = Dir::new();
        let path = dir.file("a.npy", &npy(1, "|u1", false, "(3, 1)", &[1, 2, 3]));
        let matrix = Matrix::open(&path, &Options::default()).unwrap();
        #[expect(clippy::reversed_empty_ranges, reason = "the case that is tested")]
        for rows in [0..4, 4..4, 2..1, 0..u64::MAX] {
            let error = matrix.read(rows.clone(), &mut AlignedBytes::new()).unwrap_err().to_string();
            assert!(
                error.contains(&format!("rows {}..{} were asked for, and there are 3", rows.start, rows.end)),
                "{error}"
            );
        }
        assert!(matrix.read(3..3, &mut AlignedBytes::new()).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let dir = Dir::new();
        let open = |name: &str, member: Option<&str>| {
            let options = Options { member: member.map(str::to_owned), temp_dir: None };
            Matrix::open(&dir.path().join(name), &options).unwrap_err()
        };
        assert!(open("none.npy", None).to_string().contains("none.npy: cannot be read"));
        assert!(std::error::Error::source(&open("none.npz", None)).is_some());
        assert!(open("a.csv", None).to_string().contains("a.csv: the extension is none of .npy, .npz"));
        assert!(open("no extension", None).to_string().contains(".fvecs"));
        assert!(open("a.fvecs", Some("x")).to_string().contains("a.fvecs: is no .npz archive"));
        dir.file("text.npz", b"not a zip archive at all");
        assert!(open("text.npz", None).to_string().contains("text.npz: is no sound .npz archive"));
    }

    #[test]
    fn a_matrix_may_be_read_by_many_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Matrix>();
    }
}
