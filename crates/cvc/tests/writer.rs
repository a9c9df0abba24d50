//! What a writer promises: a whole file under its name or nothing, bytes that follow from its arguments alone,
//! and an error that names the argument for every call that makes no sense. And what a reader does when the
//! source under it fails.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cvc::codec::{DecodeError, SourceError};
use cvc::{
    Checksums, DType, Error, Json, Layout, Overwrite, ReadAt, ReadOptions, Reader, RowSlice, WriteOptions,
    Writer,
};

const VALUES: [f32; 10] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];

/// A layout whose header comes first, and the one that is written front to back.
const WRITTEN: [Layout; 2] = [Layout::V1, Layout::Native];

/// Five rows of two values, in chunks of two rows.
fn options(layout: Layout, codec: &str) -> WriteOptions {
    WriteOptions::new(layout).vectors(DType::F32, 2, codec).unwrap().chunk_rows(2).unwrap()
}

fn rows() -> RowSlice<'static> {
    RowSlice::new(&VALUES, 2).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Asserts that the caller is blamed, and that the message has all of this in it.
#[track_caller]
fn usage<T>(result: Result<T, Error>, parts: &[&str]) {
    let Err(error) = result else { panic!("it was accepted; expected an error about {parts:?}") };
    let message = error.to_string();
    assert!(error.is_usage(), "not blamed on the caller: {message}");
    for part in parts {
        assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_the_old_file_and_nothing_else() {
    for layout in WRITTEN {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cvc");
        fs::write(&path, b"the old file").unwrap();
        let mut writer = Writer::create(&path, options(layout, "fp16")).unwrap();
        writer.write_vectors(rows()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"the old file", "untouched before the end");
        drop(writer);
        assert_eq!(fs::read(&path).unwrap(), b"the old file");
        assert_eq!(names(directory.path()), ["x.cvc"]);

        // Where there was none, there is none.
        drop(Writer::create(directory.path().join("y.cvc"), options(layout, "fp16")).unwrap());
        assert_eq!(names(directory.path()), ["x.cvc"]);
    }
}

#[test]
fn a_file_that_cannot_be_finished_leaves_the_old_one() {
    for layout in WRITTEN {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cvc");
        fs::write(&path, b"the old file").unwrap();
        let mut writer = Writer::create(&path, options(layout, "fp16")).unwrap();
        writer.write_vectors(rows()).unwrap();
        writer.add_section(3..6, Json::Null).unwrap();
        usage(writer.finish(), &["section = 3..6", "5 rows were written"]);
        assert_eq!(fs::read(&path).unwrap(), b"the old file");
        assert_eq!(names(directory.path()), ["x.cvc"]);
    }
}

#[test]
fn a_finished_file_replaces_the_old_one_and_is_as_said() {
    for layout in WRITTEN {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cvc");
        fs::write(&path, vec![7; 10_000]).unwrap();
        let mut writer = Writer::create(&path, options(layout, "fp16")).unwrap();
        writer.write_vectors(rows()).unwrap();
        let written = writer.finish().unwrap();
        assert_eq!((written.rows, written.chunks), (5, 3));
        assert_eq!(fs::metadata(&path).unwrap().len(), written.file_len);
        assert_eq!(Reader::open(&path).unwrap().vectors().unwrap().read::<f32>(..).unwrap(), VALUES);
        assert_eq!(names(directory.path()), ["x.cvc"]);
    }
}

#[test]
fn an_existing_file_is_kept_when_that_was_asked_for() {
    for layout in WRITTEN {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cvc");
        let refusing = || options(layout, "fp16").overwrite(Overwrite::Refuse);
        let mut early = Writer::create(&path, refusing()).unwrap();
        early.write_vectors(rows()).unwrap();
        fs::write(&path, b"theirs").unwrap();
        // At the beginning, and where it came up while another was being written.
        for error in [Writer::create(&path, refusing()).err().unwrap(), early.finish().unwrap_err()] {
            assert!(matches!(&error, Error::Output(cause) if cause.kind() == io::ErrorKind::AlreadyExists));
            assert!(error.to_string().contains("x.cvc"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(directory.path()), ["x.cvc"]);
    }
}

#[test]
fn a_missing_directory_is_named() {
    for layout in WRITTEN {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none").join("x.cvc");
        usage(
            Writer::create(&path, options(layout, "fp16")),
            &[path.to_str().unwrap(), "its directory cannot be opened; create it"],
        );
        usage(Reader::open(&path), &[path.to_str().unwrap()]);
    }
}

#[test]
fn sections_that_cannot_be_are_refused() {
    for layout in WRITTEN {
        let mut writer = Writer::in_memory(options(layout, "fp16")).unwrap();
        writer.write_vectors(rows()).unwrap();
        usage(writer.add_section(2..2, Json::Null), &["section = 2..2", "at least one row"]);
        #[expect(clippy::reversed_empty_ranges, reason = "a caller may pass one")]
        let backwards = 3..1;
        usage(writer.add_section(backwards, Json::Null), &["section = 3..1", "at least one row"]);
        writer.add_section(1..3, Json::Null).unwrap();
        for clash in [0..2, 1..2, 1..3, 2..3, 2..5, 0..5] {
            let named = format!("section = {}..{}", clash.start, clash.end);
            usage(writer.add_section(clash, Json::Null), &[&named, "shares rows with section 1..3"]);
        }
        // Neighbours are fine, and those that were refused are forgotten.
        writer.add_section(0..1, Json::Null).unwrap();
        writer.add_section(3..5, Json::Null).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        let ranges: Vec<_> = reader.sections().iter().map(|section| section.rows.clone()).collect();
        assert_eq!(ranges, [0..1, 1..3, 3..5]);
    }
}

#[test]
fn rows_unlike_the_arrays_are_refused_and_forgotten() {
    let mut writer = Writer::in_memory(options(Layout::V1, "fp16")).unwrap();
    writer.write_vectors(rows().slice(0..3)).unwrap();
    let wide = RowSlice::new(&[1.0f32; 6], 3).unwrap();
    usage(writer.write_vectors(wide), &["rows = rows of 3 f32 values", "rows of 2 f32 values"]);
    let double = RowSlice::new(&[1.0f64; 4], 2).unwrap();
    usage(writer.write_vectors(double), &["rows = rows of 2 f64 values", "rows of 2 f32 values"]);
    usage(writer.write::<RowSlice<'_>>(&[]), &["rows = 0 arrays", "the file has 1 arrays"]);
    usage(writer.write(&[rows(), rows()]), &["rows = 2 arrays", "the file has 1 arrays"]);
    writer.write_vectors(rows().slice(3..5)).unwrap();
    let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    assert_eq!(reader.vectors().unwrap().read::<f32>(..).unwrap(), VALUES);

    let options = WriteOptions::new(Layout::V2)
        .array("a", DType::F32, 2, "none")
        .and_then(|options| options.array("b", DType::F32, 2, "none"))
        .unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let uneven = writer.write(&[rows(), rows().slice(0..4)]);
    usage(uneven, &["rows = 4 rows for array \"b\"", "array \"a\" got 5"]);

    for (len, dim) in [(10, 3), (10, 0)] {
        let error = RowSlice::new(&VALUES[..len], dim).unwrap_err();
        usage(
            Err::<(), Error>(error.into()),
            &["rows", &format!("{len} values"), &format!("rows of {dim} values")],
        );
    }
}

#[test]
fn unknown_codecs_are_refused_with_the_known_ones() {
    let codec = |layout, name| WriteOptions::new(layout).vectors(DType::F32, 2, name);
    usage(codec(Layout::V0, "lossless"), &["codec = lossless", "fp16, int8"]);
    usage(codec(Layout::V1, "zstd"), &["codec = zstd", "fp16, int8, lossless"]);
    usage(codec(Layout::V2, "lossless"), &["codec = lossless", "fp16, int8, none"]);
    // The names are those of the layout, not those of the code.
    usage(codec(Layout::V1, "cvcf.fp16"), &["codec = cvcf.fp16"]);
}

#[test]
fn arrays_that_a_layout_cannot_hold_are_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let create = |options: WriteOptions| {
        let result = Writer::create(directory.path().join("x.cvc"), options.clone()).map(drop);
        assert_eq!(names(directory.path()), [""; 0]);
        assert_eq!(Writer::in_memory(options).is_err(), result.is_err());
        result
    };
    let array =
        |layout, name: &str, dtype, dim| WriteOptions::new(layout).array(name, dtype, dim, "fp16").unwrap();
    usage(create(WriteOptions::new(Layout::V0)), &["layout v0", "one array"]);
    usage(
        create(array(Layout::V1, "text", DType::F32, 2)),
        &["layout v1", "\"vectors\", not [text]", "layout v2"],
    );
    let two = array(Layout::V1, "vectors", DType::F32, 2).array("b", DType::F32, 2, "fp16").unwrap();
    usage(create(two), &["not [vectors, b]"]);
    usage(create(WriteOptions::new(Layout::V2)), &["layout v2", "at least one array"]);
    let twice = array(Layout::V2, "a", DType::F32, 2).array("a", DType::F32, 3, "none").unwrap();
    usage(create(twice), &["two arrays are named \"a\""]);
    usage(create(array(Layout::V2, " ", DType::F32, 2)), &["must not be empty"]);
    usage(create(array(Layout::V2, "a", DType::F32, 0)), &["array \"a\" has rows of 0 values"]);
    usage(create(array(Layout::V2, "a", DType::F64, 2)), &["array \"a\" has dtype f64", "f32, f16, i32"]);
    usage(create(array(Layout::V1Mmap, "vectors", DType::F32, 2)), &["layout v1-mmap", "only read"]);
}

#[test]
fn a_columnar_file_without_rows_is_refused() {
    let options = WriteOptions::new(Layout::V2).array("a", DType::F32, 2, "none").unwrap();
    usage(Writer::in_memory(options).unwrap().finish_bytes(), &["layout v2", "without rows"]);
}

#[test]
fn chunk_metadata_must_fit_the_chunks() {
    let finish = |layout, metadata: Vec<Json>, section: bool| {
        let mut writer = Writer::in_memory(options(layout, "fp16").chunk_metadata(metadata)).unwrap();
        writer.write_vectors(rows()).unwrap();
        if section {
            writer.add_section(0..1, Json::Null).unwrap();
        }
        writer.finish_bytes()
    };
    for count in [1, 2, 4] {
        let named = format!("chunk metadata = {count} items");
        usage(finish(Layout::V1, vec![Json::Null; count], false), &[&named, "3 chunks were written"]);
    }
    usage(
        finish(Layout::V1, vec![Json::Null; 3], true),
        &["layout v1", "sections and chunk metadata in one file"],
    );
    usage(finish(Layout::V2, vec![Json::Null; 3], false), &["layout v2", "chunk metadata; use sections"]);
    let reader = Reader::from_bytes(finish(Layout::V1, vec![Json::from(7); 3], false).unwrap()).unwrap();
    let ranges: Vec<_> = reader.chunk_sections().iter().map(|section| section.rows.clone()).collect();
    assert_eq!(ranges, [0..2, 2..4, 4..5]);
}

#[test]
fn chunks_have_as_many_rows_as_asked_for() {
    let zero = WriteOptions::new(Layout::V1).chunk_rows(0);
    usage(zero, &["chunk rows = 0", "at least 1 row"]);
    for (chunk_rows, expected) in
        [(1, &[1, 1, 1, 1, 1][..]), (2, &[2, 2, 1]), (4, &[4, 1]), (5, &[5]), (u32::MAX, &[5])]
    {
        for layout in [Layout::V0, Layout::V1, Layout::V2] {
            let options = options(layout, "int8").chunk_rows(chunk_rows).unwrap();
            let mut writer = Writer::in_memory(options).unwrap();
            assert_eq!(writer.chunk_rows(), chunk_rows as usize);
            writer.write_vectors(rows()).unwrap();
            let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
            let chunks = &reader.vectors().unwrap().index().chunks;
            assert_eq!(chunks.iter().map(cvc::format::ChunkEntry::row_count).collect::<Vec<_>>(), expected);
        }
    }
    // Unless asked for, as many as are 16 MiB of f32.
    let options = WriteOptions::new(Layout::V1).vectors(DType::F16, 1024, "fp16").unwrap();
    assert_eq!(Writer::in_memory(options).unwrap().chunk_rows(), 4096);
}

#[test]
fn arrays_without_rows_or_values_go_round() {
    for (layout, codec) in
        [(Layout::V0, "fp16"), (Layout::V0, "int8"), (Layout::V1, "int8"), (Layout::V1, "lossless")]
    {
        let bytes = Writer::in_memory(options(layout, codec)).unwrap().finish_bytes().unwrap();
        let reader = Reader::from_bytes(bytes).unwrap();
        let array = reader.vectors().unwrap();
        assert_eq!((array.rows(), array.dim(), array.index().chunks.len()), (0, 2, 0));
        assert_eq!(array.read::<f32>(..).unwrap(), [0.0; 0]);
        assert!(reader.verify().unwrap().is_ok());
    }
    let flat = RowSlice::from_bytes(DType::F32, 3, 0, &[]).unwrap();
    let flat_options = |layout, codec: &str| WriteOptions::new(layout).vectors(DType::F32, 0, codec).unwrap();
    for (layout, codec) in [(Layout::V0, "fp16"), (Layout::V1, "fp16"), (Layout::V1, "lossless")] {
        let mut writer = Writer::in_memory(flat_options(layout, codec).chunk_rows(2).unwrap()).unwrap();
        writer.write_vectors(flat).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        let array = reader.vectors().unwrap();
        assert_eq!((array.rows(), array.dim(), array.index().chunks.len()), (3, 0, 2));
        assert_eq!(array.read::<f32>(1..3).unwrap(), [0.0; 0]);
        assert!(reader.verify().unwrap().is_ok());
    }
    // A range needs a smallest value.
    for layout in [Layout::V0, Layout::V1] {
        let mut writer = Writer::in_memory(flat_options(layout, "int8")).unwrap();
        writer.write_vectors(flat).unwrap();
        usage(writer.finish_bytes(), &["array \"vectors\"", "int8", "3 rows of 0 values", "fp16"]);
    }
}

#[test]
fn after_a_failed_write_there_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    for (chunk_rows, calls) in [(1, 1), (3, 1), (2, 5)] {
        let options = WriteOptions::new(Layout::V1).vectors(DType::F32, 0, "int8").unwrap();
        let mut writer = Writer::create(&path, options.chunk_rows(chunk_rows).unwrap()).unwrap();
        let flat = RowSlice::from_bytes(DType::F32, 3, 0, &[]).unwrap();
        let mut failures = 0;
        for _ in 0..calls {
            failures += usize::from(writer.write_vectors(flat).is_err());
        }
        assert!(failures > 0, "chunks of {chunk_rows}");
        // Rows that came in are missing: a caller who goes on must not get a file that looks whole.
        usage(writer.finish(), &["rows", "an earlier write failed"]);
        assert_eq!(names(directory.path()), [""; 0]);
    }
}

/// A file in memory that fails, or ends, at byte `good`, once it was opened.
struct Failing {
    bytes: Vec<u8>,
    good: Arc<AtomicU64>,
    shrinks: bool,
}

impl ReadAt for Failing {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let (end, good) = (offset + into.len() as u64, self.good.load(Ordering::Relaxed));
        if end <= good {
            return ReadAt::read_at(&self.bytes, offset, into);
        }
        // A source may have written some of it before it failed.
        into.fill(0x55);
        Err(match self.shrinks {
            true => SourceError::Shrunk { offset, end, file_len: good },
            false => {
                let cause = Arc::new(io::Error::other("the cable was pulled"));
                SourceError::Read { offset, len: into.len() as u64, cause }
            }
        })
    }
}

fn source_error(error: &Error) -> Option<&SourceError> {
    match error {
        Error::Source(error) | Error::Decode { error: DecodeError::Source { error, .. }, .. } => Some(error),
        _ => None,
    }
}

#[test]
fn a_source_that_fails_or_ends_while_it_is_read_is_an_error_and_never_wrong_values() {
    let kinds = [
        (Layout::V0, "fp16"),
        (Layout::V0, "int8"),
        (Layout::V1, "int8"),
        (Layout::V1, "lossless"),
        (Layout::Native, "raw"),
        (Layout::Native, "int8"),
        (Layout::Native, "lossless"),
        (Layout::Native, "zstd"),
    ];
    for (layout, codec) in kinds {
        let mut writer = Writer::in_memory(options(layout, codec)).unwrap();
        writer.write_vectors(rows()).unwrap();
        let bytes = writer.finish_bytes().unwrap();
        let sound = Reader::from_bytes(bytes.clone()).unwrap();
        let expected: Vec<f32> = sound.vectors().unwrap().read(..).unwrap();
        let needed = sound.vectors().unwrap().byte_ranges(.., 0).unwrap().last().unwrap().end;
        for (checksums, shrinks) in [
            (Checksums::FirstTouch, false),
            (Checksums::FirstTouch, true),
            (Checksums::Never, false),
            (Checksums::Never, true),
        ] {
            let good = Arc::new(AtomicU64::new(0));
            let open = |at: u64| {
                good.store(at, Ordering::Relaxed);
                let source = Failing { bytes: bytes.clone(), good: good.clone(), shrinks };
                let mut options = ReadOptions::default();
                options.checksums = checksums;
                Reader::new(Box::new(source), options)
            };
            for at in 0..=bytes.len() as u64 {
                // While it is opened.
                if let Err(error) = open(at) {
                    assert!(source_error(&error).is_some(), "{error}");
                }
                // After that.
                let reader = open(bytes.len() as u64).unwrap();
                good.store(at, Ordering::Relaxed);
                let array = reader.vectors().unwrap();
                match array.read::<f32>(..) {
                    Ok(values) => {
                        assert!(at >= needed && values == expected, "{layout} {codec} to byte {at}")
                    }
                    Err(error) => {
                        assert!(at < needed, "{layout} {codec} to byte {at}: {error}");
                        let source = source_error(&error).unwrap_or_else(|| panic!("{error}"));
                        assert_eq!(matches!(source, SourceError::Shrunk { .. }), shrinks, "{error}");
                        assert!(error.to_string().contains("byte"), "{error}");
                    }
                }
                // A source that recovers is asked again: no failure is remembered.
                good.store(u64::MAX, Ordering::Relaxed);
                assert_eq!(array.read::<f32>(..).unwrap(), expected);
            }
        }
    }
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    for layout in [Layout::V0, Layout::V1, Layout::Native] {
        let mut writer = Writer::create(&path, options(layout, "fp16")).unwrap();
        writer.write_vectors(rows()).unwrap();
        writer.finish().unwrap();
        let reader = Reader::open(&path).unwrap();
        let array = reader.vectors().unwrap();
        // Within the last payload; of a native file the index and the metadata are gone, too.
        let left = array.index().chunks.last().unwrap().bytes.end - 1;
        File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
        let error = array.read::<f32>(..).unwrap_err();
        assert!(matches!(source_error(&error), Some(SourceError::Shrunk { .. })), "{error}");
        assert!(error.to_string().contains(&format!("the file ended at byte {left}")), "{error}");
        // What is still there is still right.
        assert_eq!(array.read::<f32>(0..4).unwrap(), VALUES[..8]);
        if layout != Layout::V0 {
            assert_eq!(reader.verify().unwrap().damage.len(), 1);
        }
    }
}

#[test]
fn a_payload_changed_after_the_file_was_opened_is_found_on_first_touch() {
    for layout in WRITTEN {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cvc");
        let mut writer = Writer::create(&path, options(layout, "fp16")).unwrap();
        writer.write_vectors(rows()).unwrap();
        writer.finish().unwrap();
        let reader = Reader::open(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let last_chunk = reader.vectors().unwrap().index().chunks.last().unwrap();
        bytes[usize::try_from(last_chunk.bytes.end - 1).unwrap()] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = reader.vectors().unwrap().read::<f32>(4..5).unwrap_err();
        let found = source_error(&error);
        assert!(matches!(found, Some(SourceError::Checksum { .. } | SourceError::Block { .. })), "{error}");
    }
}

#[test]
fn the_file_of_another_writer_is_left_alone_by_the_temporary_ones() {
    for layout in WRITTEN {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let mut writer = Writer::create(directory.path().join(name), options(layout, "fp16")).unwrap();
            writer.write_vectors(rows()).unwrap();
            writer
        };
        // Two writers of one name: the last to finish wins, whole.
        let (first, second, other) = (write("x.cvc"), write("x.cvc"), write("y.cvc"));
        first.finish().unwrap();
        second.finish().unwrap();
        drop(other);
        assert_eq!(names(directory.path()), ["x.cvc"]);
        let reader = Reader::open(directory.path().join("x.cvc")).unwrap();
        assert!(reader.verify().unwrap().is_ok());
    }
}

#[test]
fn what_no_reader_would_open_is_refused_while_it_is_written() {
    let deep = |depth: usize| {
        Json::parse(format!("{}1{}", "[".repeat(depth), "]".repeat(depth)).as_bytes(), 99).unwrap()
    };
    let mut writer = Writer::in_memory(options(Layout::V1, "fp16")).unwrap();
    usage(writer.add_section(0..1, deep(60)), &["nested 60 deep", "59"]);
    writer.add_section(0..1, deep(59)).unwrap();
    writer.write_vectors(rows()).unwrap();
    Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();

    let metadata = vec![deep(60), deep(1), deep(1)];
    usage(Writer::in_memory(options(Layout::V1, "fp16").chunk_metadata(metadata)), &["nested 60 deep"]);

    // Twelve megabytes, repeated in each of ten chunks.
    let long = Json::from("x".repeat(12_000_000));
    let by_row = options(Layout::V1, "fp16").chunk_rows(1).unwrap();
    let mut writer = Writer::in_memory(by_row.clone()).unwrap();
    writer.write_vectors(rows()).unwrap();
    writer.write_vectors(rows()).unwrap();
    writer.add_section(0..10, long).unwrap();
    usage(writer.finish_bytes(), &["a header of 132", "100000000"]);

    let writer = Writer::in_memory(by_row).unwrap();
    usage(writer.reserve(1 << 40), &["1099511627776 chunks"]);
    writer.reserve(1000).unwrap();
}

#[test]
fn after_a_failed_write_no_more_rows_are_taken() {
    let options =
        WriteOptions::new(Layout::V1).vectors(DType::F32, 0, "int8").unwrap().chunk_rows(1).unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let rows = RowSlice::from_bytes(DType::F32, 1 << 23, 0, &[]).unwrap();
    usage(writer.write_vectors(rows), &["chunks"]);
    let rows = RowSlice::from_bytes(DType::F32, 1 << 21, 0, &[]).unwrap();
    let refused = |error: Error| error.to_string().contains("no smallest value");
    let mut failed = false;
    for _ in 0..3 {
        match writer.write_vectors(rows) {
            Err(error) if failed => assert!(error.to_string().contains("an earlier write failed"), "{error}"),
            Err(error) => failed = refused(error),
            Ok(()) => assert!(!failed),
        }
    }
    assert!(writer.finish_bytes().is_err());
}
