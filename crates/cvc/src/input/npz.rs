//! `.npz`: a zip archive with one `.npy` for each array.
//!
//! A member may be deflated, and a stored one lies where it happens to lie. Both are unpacked, once, into a
//! file without a name, which is mapped like any other input and vanishes with the map. Archives are where a
//! small file can become an endless one: what is unpacked is what the array's header needs, not a byte more.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::npy::{self, Header};
use super::{InputError, Options, Origin};
use crate::io::mmap::Map;

const COPY_LEN: usize = 1 << 18;

const ACCEPTED: &str =
    "members stored or deflated, without a password; write it again with numpy.savez_compressed";

/// One array of an archive. The map holds its data alone, without the header.
pub(super) fn extract(path: &Path, options: &Options) -> Result<(Origin, Header, Map), InputError> {
    let mut origin = Origin { path: path.to_owned(), member: None };
    // Looked at by name first: opening a pipe waits for somebody to write to it.
    let file = match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(std::io::Error::from(std::io::ErrorKind::InvalidInput)),
        _ => File::open(path),
    };
    let file = file.map_err(|source| InputError::Source { origin: origin.clone(), source })?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| zip_error(&origin, e))?;
    let (index, name) = choose(path, options, &archive)?;
    origin.member = Some(name);

    let mut member = archive.by_index(index).map_err(|e| zip_error(&origin, e))?;
    let declared_len = member.size();

    let mut header = Vec::new();
    take(&origin, &mut member, npy::PRELUDE_MAX, &mut header)?;
    let header_len = npy::header_len(&origin, &header)?;
    take(&origin, &mut member, header_len.saturating_sub(header.len()), &mut header)?;
    if header.len() < header_len {
        let (expected, found) = (header_len as u64, header.len() as u64);
        return Err(InputError::Truncated { origin, expected, found });
    }
    let header = npy::parse(&origin, &header)?;

    // What the archive declares is only its word, but if it contradicts the header nothing need be unpacked.
    super::check_len(&origin, &header, declared_len)?;
    let unpacked = unpack(&origin, &header, &mut member, options)?;
    let map = Map::of_file(&unpacked).map_err(|source| temporary(&origin, options, source))?;
    Ok((origin, header, map))
}

/// The array that was asked for, or the only one: its place in the archive and its name, without `.npy`.
fn choose(
    path: &Path,
    options: &Options,
    archive: &ZipArchive<BufReader<File>>,
) -> Result<(usize, String), InputError> {
    if archive.has_duplicate_names() {
        let source = io::Error::new(io::ErrorKind::InvalidData, "two members have the same name");
        return Err(InputError::Archive { origin: Origin { path: path.to_owned(), member: None }, source });
    }
    let arrays = archive.file_names_raw().enumerate().filter_map(|(index, name)| {
        Some((index, String::from_utf8_lossy(name.strip_suffix(b".npy")?).into_owned()))
    });
    let mut arrays: Vec<(usize, String)> = arrays.collect();
    let found = match &options.member {
        Some(wanted) => arrays
            .iter()
            .position(|(_, name)| name == wanted)
            // numpy.load takes the name of the member, too.
            .or_else(|| arrays.iter().position(|(_, name)| wanted.strip_suffix(".npy") == Some(name))),
        None => (arrays.len() == 1).then_some(0),
    };
    if let Some(found) = found {
        return Ok(arrays.swap_remove(found));
    }
    let path = path.to_owned();
    let names = arrays.into_iter().map(|(_, name)| name).collect();
    Err(match options.member.clone() {
        Some(member) => InputError::NoSuchMember { path, member, names },
        None => InputError::ChooseMember { path, names },
    })
}

/// Reads `len` bytes more, or all there are.
fn take(origin: &Origin, member: &mut impl Read, len: usize, into: &mut Vec<u8>) -> Result<(), InputError> {
    member.take(len as u64).read_to_end(into).map_err(|e| read_error(origin, e))?;
    Ok(())
}

/// Copies exactly the data into a file without a name, and makes sure that the member ends there.
fn unpack(
    origin: &Origin,
    header: &Header,
    member: &mut impl Read,
    options: &Options,
) -> Result<File, InputError> {
    let no_room = |source| temporary(origin, options, source);
    let mut unpacked = match &options.temp_dir {
        Some(dir) => tempfile::tempfile_in(dir),
        None => tempfile::tempfile(),
    }
    .map_err(no_room)?;

    let mut buffer = vec![0; COPY_LEN];
    let mut left = header.data_len;
    loop {
        // Past the data one byte is asked for: there must be none, and at the end the archive's CRC is
        // checked.
        let ask = usize::try_from(left).unwrap_or(COPY_LEN).clamp(1, COPY_LEN);
        let count = match member.read(&mut buffer[..ask]) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(read_error(origin, e)),
        };
        let end = header.len as u64 + header.data_len;
        match (count, left) {
            (0, 0) => return Ok(unpacked),
            (0, _) => {
                return Err(InputError::Truncated {
                    origin: origin.clone(),
                    expected: end,
                    found: end - left,
                });
            }
            (_, 0) => return Err(InputError::Trailing { origin: origin.clone(), expected: end }),
            _ => {}
        }
        unpacked.write_all(&buffer[..count]).map_err(no_room)?;
        left -= count as u64;
    }
}

fn temporary(origin: &Origin, options: &Options, source: io::Error) -> InputError {
    InputError::Temporary { origin: origin.clone(), dir: options.temp_dir.clone(), source }
}

/// Blames the archive for what a decoder says, the system for anything else.
fn read_error(origin: &Origin, source: io::Error) -> InputError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let origin = origin.clone();
    match source.kind() {
        InvalidData | InvalidInput | UnexpectedEof => InputError::Archive { origin, source },
        _ => InputError::Source { origin, source },
    }
}

fn zip_error(origin: &Origin, error: ZipError) -> InputError {
    match error {
        ZipError::Io(source) => read_error(origin, source),
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            InputError::Unsupported {
                origin: origin.clone(),
                has: format!("a member with: {error}"),
                accepted: ACCEPTED,
            }
        }
        other => InputError::Archive { origin: origin.clone(), source: other.into() },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use cvc_format::DType;
    use zip::CompressionMethod;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::super::testing::{Dir, npy, read_all};
    use super::super::{AlignedBytes, Matrix};
    use super::*;

    fn npz(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    const METHODS: [CompressionMethod; 2] = [CompressionMethod::Stored, CompressionMethod::Deflated];

    #[test]
    fn the_only_array_is_found_stored_and_deflated() {
        let dir = Dir::new();
        let array = npy(1, "<u2", false, "(2, 3)", &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
        for method in METHODS {
            let path = dir.file("a.npz", &npz(&[("read me.txt", b"hello"), ("arr_0.npy", &array)], method));
            let (rows, dim, dtype, bytes) = read_all(&path).unwrap();
            assert_eq!((rows, dim, dtype), (2, 3, DType::U16));
            assert_eq!(bytes, [1_u16, 2, 3, 4, 5, 6].map(u16::to_ne_bytes).as_flattened());
        }
    }

    #[test]
    fn of_two_arrays_one_must_be_named() {
        let dir = Dir::new();
        let (a, b) = (npy(1, "|u1", false, "(2,)", &[1, 2]), npy(1, "|u1", true, "(2, 2)", &[1, 2, 3, 4]));
        for method in METHODS {
            let path = dir.file("a.npz", &npz(&[("a.npy", &a), ("b\n.npy", &b)], method));
            let error = read_all(&path).unwrap_err().to_string();
            assert!(error.ends_with(r#"a.npz: has 2 arrays; choose one of "a", "b\n""#), "{error}");

            let named =
                |member: &str| Matrix::open(&path, &Options { member: Some(member.into()), temp_dir: None });
            let error = named("c").unwrap_err().to_string();
            assert!(error.ends_with(r#"has no array "c"; choose one of "a", "b\n""#), "{error}");
            for member in ["a", "a.npy"] {
                let matrix = named(member).unwrap();
                assert!(matrix.scalar());
                assert!(matrix.origin().to_string().ends_with("a.npz[a]"));
                assert_eq!(matrix.read(0..2, &mut AlignedBytes::new()).unwrap(), [1, 2]);
            }
            assert_eq!(named("b\n").unwrap().read(0..2, &mut AlignedBytes::new()).unwrap(), [1, 3, 2, 4]);
        }
        let error =
            read_all(&dir.file("none.npz", &npz(&[("a.txt", b"")], METHODS[0]))).unwrap_err().to_string();
        assert!(error.contains("has 0 arrays; choose one of none: write it again"), "{error}");
    }

    #[test]
    fn an_empty_array_needs_no_bytes() {
        let dir = Dir::new();
        let path = dir.file("a.npz", &npz(&[("a.npy", &npy(2, "<f4", false, "(0, 7)", &[]))], METHODS[1]));
        assert_eq!(read_all(&path).unwrap(), (0, 7, DType::F32, vec![]));
    }

    #[test]
    fn a_member_of_another_length_than_its_header_says_is_refused() {
        let dir = Dir::new();
        for method in METHODS {
            for (len, truncated) in [(7, true), (0, true), (9, false), (1 << 20, false)] {
                let array = npy(1, "<f4", false, "(2, 1)", &vec![0; len]);
                let error = read_all(&dir.file("a.npz", &npz(&[("a.npy", &array)], method))).unwrap_err();
                match error {
                    InputError::Truncated { expected, found, .. } => {
                        assert!(truncated);
                        assert_eq!(
                            (expected, found),
                            (array.len() as u64 + 8 - len as u64, array.len() as u64)
                        );
                    }
                    InputError::Trailing { expected, .. } => {
                        assert!(!truncated);
                        assert_eq!(expected, array.len() as u64 + 8 - len as u64);
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }

    #[test]
    fn an_endless_stream_is_stopped_at_the_end_of_the_data() {
        let origin = Origin { path: "a.npz".into(), member: Some("a".into()) };
        for (shape, data_len) in [("(0,)", 0), ("(3,)", 12), ("(100000,)", 400_000)] {
            let header = npy::parse(&origin, &npy(1, "<f4", false, shape, &[])).unwrap();
            assert_eq!(header.data_len, data_len);
            let error = unpack(&origin, &header, &mut io::repeat(0), &Options::default()).unwrap_err();
            assert!(
                matches!(error, InputError::Trailing { expected, .. } if expected == 128 + data_len),
                "{error}"
            );
        }
    }

    /// The lengths that the archive declares are made to agree with the header; only the stream goes on.
    #[test]
    fn an_archive_that_lies_about_a_length_is_refused() {
        let dir = Dir::new();
        let array = npy(1, "<f4", false, "(2, 1)", &vec![0; 4 << 20]);
        let mut bytes = npz(&[("a.npy", &array)], CompressionMethod::Deflated);
        assert!(bytes.len() < 1 << 20);
        let found = u32::try_from(array.len()).unwrap().to_le_bytes();
        let declared = u32::try_from(array.len() - (4 << 20) + 8).unwrap().to_le_bytes();
        let places: Vec<_> = (0..bytes.len() - 4).filter(|&at| bytes[at..at + 4] == found).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + 4].copy_from_slice(&declared);
        }
        let error = read_all(&dir.file("a.npz", &bytes)).unwrap_err();
        assert!(matches!(error, InputError::Trailing { .. } | InputError::Archive { .. }), "{error}");
    }

    #[test]
    fn an_archive_cut_at_any_byte_is_an_error() {
        let dir = Dir::new();
        let array = npy(1, "|u1", false, "(2, 3)", &[1, 2, 3, 4, 5, 6]);
        for method in METHODS {
            let bytes = npz(&[("a.npy", &array)], method);
            for len in 0..bytes.len() {
                assert!(read_all(&dir.file("a.npz", &bytes[..len])).is_err(), "{len}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found_or_changes_nothing() {
        let dir = Dir::new();
        let array = npy(1, "|u1", false, "(2, 3)", &[1, 2, 3, 4, 5, 6]);
        for method in METHODS {
            let bytes = npz(&[("a.npy", &array)], method);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(read) = read_all(&dir.file("a.npz", &flipped)) {
                    assert_eq!(read, (2, 3, DType::U8, vec![1, 2, 3, 4, 5, 6]), "{bit}");
                }
            }
        }
    }

    #[test]
    fn a_directory_that_cannot_take_the_array_is_named() {
        let dir = Dir::new();
        let path = dir.file("a.npz", &npz(&[("a.npy", &npy(1, "|u1", false, "(1,)", &[1]))], METHODS[0]));
        let options = Options { temp_dir: Some(dir.path().join("none")), member: None };
        let error = Matrix::open(&path, &options).unwrap_err().to_string();
        assert!(error.contains("a.npz[a]: cannot be unpacked into") && error.contains("none: "), "{error}");
    }
}
