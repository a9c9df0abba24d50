//! Every way in which a native file can be wrong, each with its error, which says where and what to do; and every way
//! in which contents cannot be written. Checksums are right wherever they are not what is wrong.

mod common;

use common::{Parts, crc32c, open_within, to_usize};
use cvc_format::json::JsonErrorKind;
use cvc_format::native::{ArraySpec, ChunkParts, ChunkSpec, Contents, LaneBytes, encode_chunk, parse_head};
use cvc_format::{
    ArrayDType, ChunkEntry, ChunkId, DType, FileIndex, FormatError, Json, Limits, Loss, Section, Stored,
};

const METADATA: &str = concat!(
    r#"{"arrays":[{"codec":{"level":3,"name":"raw"},"dtype":"f32","name":"v","provenance":{"model":"m"},"shape":[3,2]},"#,
    r#"{"codec":{"name":"zstd"},"dtype":"utf8","name":"text","shape":[2]},"#,
    r#"{"codec":{"name":"raw"},"dtype":"u8","name":"none","shape":[7,0]}],"#,
    r#""metadata":{"by":"test"},"#,
    r#""sections":[{"metadata":{"a":1},"rows":[0,1]},{"metadata":null,"rows":[1,3]}]}"#
);

/// Chunks of 2 and 1 rows of array 0, with one of both rows of array 1 between them.
fn good() -> Parts {
    let mut file = Contents::prelude().to_vec();
    let chunk = |array, rows, block_rows, width: u32, lens: &[u32], out: &mut Vec<u8>| {
        let field = vec![7; rows as usize * width as usize];
        let lane = vec![8; lens.iter().sum::<u32>() as usize];
        let fields = [(width, field.as_slice())];
        let lanes = [LaneBytes { bytes: &lane, lens }];
        let parts = ChunkParts {
            array,
            rows,
            block_rows,
            params: &[1, 2, 3],
            fields: &fields,
            lanes: if lens.is_empty() { &[] } else { &lanes },
            loss: Loss::NONE,
        };
        encode_chunk(&parts, out).unwrap()
    };
    let chunks = [
        chunk(0, 2, 1, 8, &[], &mut file),
        chunk(1, 2, 1, 4, &[10, 20], &mut file),
        chunk(0, 1, 4, 8, &[], &mut file),
    ];
    let vectors = ArraySpec {
        name: "v".into(),
        dtype: DType::F32.into(),
        inner: vec![2],
        codec: "raw".into(),
        codec_options: json(r#"{"level":3}"#),
        provenance: Some(json(r#"{"model":"m"}"#)),
    };
    let text = ArraySpec {
        name: "text".into(),
        dtype: ArrayDType::Utf8,
        inner: vec![],
        codec: "zstd".into(),
        codec_options: json("{}"),
        provenance: None,
    };
    let none = ArraySpec {
        name: "none".into(),
        dtype: DType::U8.into(),
        inner: vec![0],
        codec: "raw".into(),
        ..text.clone()
    };
    let contents = Contents {
        arrays: &[vectors, text, none],
        rows: &[3, 2, 7],
        chunks: &chunks,
        sections: &[Section::new(0..1, json(r#"{"a":1}"#)), Section::new(1..3, Json::Null)],
        sections_from_chunks: false,
        metadata: &json(r#"{"by":"test"}"#),
    };
    file.extend(contents.suffix().unwrap());
    let parts = Parts::of(&file);
    assert_eq!(str::from_utf8(&parts.metadata), Ok(METADATA));
    assert!(parts.file() == file);
    parts
}

fn metadata_len() -> u32 {
    u32::try_from(METADATA.len()).unwrap()
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), 100).unwrap()
}

fn open(bytes: &[u8]) -> Result<FileIndex, FormatError> {
    open_within(bytes, Limits::default())
}

#[track_caller]
fn rejected(bytes: &[u8]) -> FormatError {
    open(bytes).expect_err("this file should be refused")
}

/// The good file with other bytes somewhere, and the checksum of the trailer that goes with them. The place counts
/// from the start of the trailer.
fn with_trailer(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = good().file();
    let start = file.len() - 40;
    file[start + at..start + at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&file[start..start + 28]);
    file[start + 28..start + 32].copy_from_slice(&crc.to_le_bytes());
    file
}

/// The good file with another text of metadata.
fn with_metadata(text: &str) -> Vec<u8> {
    Parts { metadata: text.into(), ..good() }.file()
}

/// `text` with its only `from` replaced by `to`.
#[track_caller]
fn edited(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` should occur once");
    text.replace(from, to)
}

/// The good file with an entry of the index changed.
fn with_entry(number: usize, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut parts = good();
    parts.index[48 * number + at..48 * number + at + bytes.len()].copy_from_slice(bytes);
    parts.file()
}

fn with_prelude(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = good().file();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&file[..60]);
    file[60..64].copy_from_slice(&crc.to_le_bytes());
    file
}

const AT_FAULT: &str =
    ": its checksum holds, so the program that wrote the file is at fault; write it again with another";

/// That each edit of the metadata gives this path and this problem.
#[track_caller]
fn assert_metadata_errors(edits: &[(&str, &str, &str, &str)]) {
    for (from, to, path, problem) in edits {
        let error = rejected(&with_metadata(&edited(METADATA, from, to)));
        let expected = FormatError::Metadata { path: (*path).into(), problem: (*problem).into() };
        assert_eq!(error, expected, "{from} -> {to}");
        assert_eq!(error.to_string(), format!("the metadata's {path} {problem}{AT_FAULT}"));
    }
}

/// That a region is refused with this problem.
#[track_caller]
fn assert_region(error: FormatError, what: &str, offset: u64, problem: &str) {
    let expected = FormatError::Region { what: what.into(), offset, problem: problem.into() };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), format!("{what} at byte {offset} {problem}{AT_FAULT}"));
}

#[test]
fn the_good_file_opens() {
    let index = open(&good().file()).unwrap();
    let chunks: Vec<Vec<_>> = index
        .arrays
        .iter()
        .map(|array| array.chunks.iter().map(|chunk| (chunk.rows.clone(), chunk.bytes.clone())).collect())
        .collect();
    assert_eq!(chunks, [vec![(0..2, 64..192), (2..3, 384..512)], vec![(0..2, 192..384)], vec![]]);
    let sections: Vec<_> = index.sections.iter().map(|section| section.rows.clone()).collect();
    assert_eq!(sections, [0..1, 1..3]);
}

// The ends of the file.

#[test]
fn rejects_files_shorter_than_their_ends() {
    for len in 8..104 {
        let error = rejected(&good().file()[..len]);
        let what = "the least that a native file has".into();
        assert_eq!(error, FormatError::Truncated { what, start: 0, end: 104, file_len: len as u64 });
    }
}

#[test]
fn rejects_a_damaged_prelude() {
    for at in [8, 10, 12, 59, 60, 63] {
        let mut file = good().file();
        file[at] ^= 0x40;
        let FormatError::Checksum { what, start: 0, end: 60, expected, found } = rejected(&file) else {
            panic!("{at}")
        };
        assert_eq!((what.as_str(), found), ("the prelude", crc32c(&file[..60])));
        assert_eq!(expected.to_le_bytes(), file[60..64]);
    }
}

#[test]
fn rejects_unknown_major_versions_by_number() {
    for (major, minor) in [(0, 0u16), (0, 1), (2, 0), (2, 7), (u16::MAX, 1)] {
        let error = rejected(&with_prelude(8, &[major.to_le_bytes(), minor.to_le_bytes()].concat()));
        assert_eq!(error, FormatError::UnknownNativeVersion { major, minor });
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("unknown native version {major}.{minor} at byte 8")),
            "{message}"
        );
        assert!(message.contains("use a newer version"), "{message}");
    }
    let cvcf = FormatError::UnknownVersion { major: 3, minor: 0 }.to_string();
    assert!(cvcf.contains("v0, 1.0, 2.0 and native 1.x"), "{cvcf}");
}

#[test]
fn any_minor_version_opens() {
    for minor in [1u16, 9, u16::MAX] {
        let mut file = with_prelude(10, &minor.to_le_bytes());
        let start = file.len() - 40;
        let error = rejected(&file);
        assert_region(
            error,
            "the trailer",
            start as u64,
            &format!("says version 1.0, the prelude says 1.{minor}"),
        );
        file[start..].copy_from_slice(&with_trailer(26, &minor.to_le_bytes())[start..]);
        assert!(open(&file).is_ok(), "1.{minor}");
    }
}

#[test]
fn rejects_reserved_bytes_that_are_not_zero() {
    for at in 12..60 {
        let error = rejected(&with_prelude(at, &[1]));
        assert_region(error, "the prelude", 0, "has bytes 12..60 that are not zero");
    }
    for at in [46, 47] {
        let error = rejected(&with_entry(1, at, &[1]));
        assert_region(error, "entry 1 of the index", 560, "has bytes 46..48 that are not zero");
    }
}

#[test]
fn rejects_files_without_the_end_mark() {
    let mut file = good().file();
    for len in [104, 200, file.len() - 1] {
        let error = rejected(&file[..len]);
        assert_eq!(error, FormatError::NoEnd { file_len: len as u64 });
        assert!(error.to_string().starts_with(&format!("the file ends at byte {len} without")), "{error}");
        assert!(error.to_string().contains("get it again"), "{error}");
    }
    file.push(b'\n');
    assert_eq!(rejected(&file), FormatError::NoEnd { file_len: file.len() as u64 });
}

#[test]
fn rejects_a_damaged_trailer() {
    let good = good().file();
    let start = good.len() - 40;
    for at in 0..32 {
        let mut file = good.clone();
        file[start + at] ^= 1;
        let FormatError::Checksum { what, start: from, end, .. } = rejected(&file) else { panic!("{at}") };
        assert_eq!((what.as_str(), to_usize(from), to_usize(end)), ("the trailer", start, start + 28));
    }
}

#[test]
fn rejects_a_length_that_is_not_that_of_the_file() {
    let file_len = good().file().len() as u64;
    for stated in [0, file_len - 64, file_len + 1, u64::MAX] {
        let problem = format!("says that the file has {stated} bytes, it has {file_len}");
        assert_region(
            rejected(&with_trailer(0, &stated.to_le_bytes())),
            "the trailer",
            file_len - 40,
            &problem,
        );
    }
}

#[test]
fn rejects_counts_that_do_not_fit_the_file() {
    let file_len = good().file().len() as u64;
    let max = u32::MAX.to_le_bytes();
    let metadata_len = metadata_len();
    for (at, bytes, chunks, metadata) in [
        (8, max.to_vec(), u32::MAX, metadata_len),
        (16, max.to_vec(), 3, u32::MAX),
        (8, [max, [0; 4], max].concat(), u32::MAX, u32::MAX),
        // One byte into the prelude.
        (16, (metadata_len + 449).to_le_bytes().to_vec(), 3, metadata_len + 449),
    ] {
        let problem = format!(
            "says that {chunks} entries of the index and {metadata} bytes of metadata precede it, which do not fit a \
             file of {file_len} bytes"
        );
        assert_region(rejected(&with_trailer(at, &bytes)), "the trailer", file_len - 40, &problem);
    }
}

#[test]
fn rejects_chunks_that_do_not_end_on_a_boundary() {
    let file_len = good().file().len() as u64;
    let error = rejected(&with_trailer(16, &(metadata_len() + 1).to_le_bytes()));
    let problem = "says that the chunks end at byte 511, expected a multiple of 64";
    assert_region(error, "the trailer", file_len - 40, problem);
}

#[test]
fn rejects_damaged_metadata_and_a_damaged_index_before_reading_them() {
    let good = good().file();
    let metadata_start = good.len() - 40 - METADATA.len();
    for (at, region, range) in [
        (metadata_start, "the metadata", metadata_start..good.len() - 40),
        (good.len() - 41, "the metadata", metadata_start..good.len() - 40),
        (512, "the index", 512..metadata_start),
        (metadata_start - 1, "the index", 512..metadata_start),
    ] {
        let mut file = good.clone();
        file[at] ^= 0x80;
        let error = rejected(&file);
        let FormatError::Checksum { what, start, end, expected, found } = &error else { panic!("{error}") };
        assert_eq!((what.as_str(), to_usize(*start)..to_usize(*end)), (region, range.clone()));
        assert_eq!((*expected, *found), (crc32c(&good[range.clone()]), crc32c(&file[range])));
        let message = format!("{region} (bytes {start}..{end}) is damaged: its checksum is {found:08x}");
        assert!(error.to_string().starts_with(&message), "{error}");
        assert!(error.to_string().ends_with("get the file again from where it came"), "{error}");
    }
}

// Limits.

#[test]
fn rejects_more_than_the_limits_allow() {
    let file = good().file();
    let limits = |set: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        set(&mut limits);
        limits
    };
    let len = METADATA.len() as u64;
    type Set = fn(&mut Limits, u64);
    let set: [(Set, &str, u64, &str); 4] = [
        (|limits, value| limits.chunks = to_usize(value), "chunk count", 3, "chunks"),
        (|limits, value| limits.header_len = value, "metadata length", len, "header_len"),
        (|limits, value| limits.arrays = to_usize(value), "array count", 3, "arrays"),
        (|limits, value| limits.sections = to_usize(value), "section count", 2, "sections"),
    ];
    for (set, what, value, field) in set {
        let tight = limits(&|limits| set(limits, value - 1));
        let error = open_within(&file, tight).unwrap_err();
        assert_eq!(error, FormatError::Limit { what, value, limit: value - 1, field });
        assert!(open_within(&file, limits(&|limits| set(limits, value))).is_ok(), "{field}");
    }
    let error = open_within(&file, limits(&|limits| limits.json_depth = 3)).unwrap_err();
    assert!(error.to_string().contains("at most 3 arrays and objects"), "{error}");
    assert!(open_within(&file, limits(&|limits| limits.json_depth = 4)).is_ok());
}

#[test]
fn escapes_count_towards_the_limit_of_nesting() {
    let deep = |levels: usize| {
        let text = format!("{}NaN{}", "[".repeat(levels), "]".repeat(levels));
        let escaped = format!(r#"{{"$json":"{text}"}}"#);
        edited(METADATA, r#"{"metadata":{"a":1},"#, &format!(r#"{{"metadata":{escaped},"#))
    };
    assert!(open(&with_metadata(&deep(61))).is_ok());
    let error = rejected(&with_metadata(&deep(62)));
    assert!(error.to_string().contains("sections[0].metadata has an escape"), "{error}");
    assert!(error.to_string().contains("at most 61 arrays and objects"), "{error}");
}

// JSON.

#[test]
fn rejects_metadata_that_is_not_json_and_names_the_byte() {
    let error = rejected(&with_metadata(&edited(METADATA, r#""sections":["#, r#""sections":!["#)));
    let FormatError::MetadataJson { offset, error: json } = &error else { panic!("{error}") };
    assert_eq!(*offset, 512 + 3 * 48);
    assert_eq!(json.offset, METADATA.find(r#""sections":["#).unwrap() + 11);
    let FormatError::MetadataJson { error, .. } = rejected(&with_metadata("")) else { panic!("empty") };
    assert_eq!(error.offset, 0);
    let mut parts = good();
    parts.metadata[12] = 0xff;
    let FormatError::MetadataJson { error, .. } = rejected(&parts.file()) else { panic!("not UTF-8") };
    assert_eq!((error.offset, error.kind), (12, JsonErrorKind::InvalidUtf8));
    for text in ["[]", "null", "7"] {
        let error = rejected(&with_metadata(text)).to_string();
        assert!(error.contains("top level is") && error.contains("expected an object"), "{error}");
    }
}

#[test]
fn rejects_json_that_is_not_strict() {
    for value in ["NaN", "Infinity", "-Infinity", r#""\ud800""#, r#"{"\udc00":1}"#] {
        let error = rejected(&with_metadata(&edited(METADATA, r#""test""#, value)));
        assert!(error.to_string().contains("top level has NaN, an infinity or half of a"), "{error}");
    }
    for edit in [r#"{"by":1,"by":2}"#, r#"{"by":[{"a":1,"b":2,"b":2}]}"#] {
        let error = rejected(&with_metadata(&edited(METADATA, r#"{"by":"test"}"#, edit)));
        assert!(error.to_string().contains("has an object with a key that occurs twice"), "{error}");
    }
}

#[test]
fn rejects_metadata_that_is_not_canonical() {
    let at = METADATA.find(r#"{"by":"test"}"#).unwrap();
    for (edit, differs) in [
        (r#"{ "by":"test"}"#, 1),
        (r#"{"by":"\u0074est"}"#, 7),
        (r#"{"by":"te\/st"}"#, 9),
        (r#"{"by":"\u007f"}"#, 7),
        (r#"{"by":"\u001F"}"#, 12),
        (r#"{"by":"\u000a"}"#, 8),
        (r#"{"by":1,"a":1}"#, 2),
        (r#"{"by":{"b":1,"a":1}}"#, 8),
    ] {
        let error = rejected(&with_metadata(&edited(METADATA, r#"{"by":"test"}"#, edit)));
        let expected = format!("top level is not in canonical form from byte {} of", at + differs);
        assert!(error.to_string().contains(&expected), "{edit}: {error}");
    }
    assert!(rejected(&with_metadata(&format!("{METADATA}\n"))).to_string().contains("canonical form"));
}

#[test]
fn rejects_malformed_escapes_wherever_they_stand() {
    for (from, to, path) in [
        (r#""level":3"#, r#""level":{"$json":3}"#, "arrays[0].codec"),
        (r#"{"model":"m"}"#, r#"{"model":{"$json":3}}"#, "arrays[0].provenance"),
        (r#"{"by":"test"}"#, r#"{"by":[{"$json":3}]}"#, "metadata"),
        (r#"{"a":1}"#, r#"{"$json":3}"#, "sections[0].metadata"),
    ] {
        let problem = "has an escape \"$json\" of type number, expected a string";
        assert_metadata_errors(&[(from, to, path, problem)]);
    }
    for place in [r#"{"by":"test"}"#, r#"{"model":"m"}"#] {
        let error = rejected(&with_metadata(&edited(METADATA, place, r#"{"$json":"[]"}"#))).to_string();
        assert!(error.contains("is an escape of type array, expected an object"), "{error}");
    }
    let bad = edited(METADATA, r#"{"a":1}"#, r#"{"$json":"{"}"#);
    assert!(rejected(&with_metadata(&bad)).to_string().contains("that is not valid JSON: byte 1"));
}

// The fields of the metadata.

#[test]
fn rejects_features_of_the_file_by_name() {
    for (list, feature) in [(r#"["rotated"]"#, "rotated"), (r#"["a b","c"]"#, "a b")] {
        // Whatever else is strange about the file.
        let text = edited(METADATA, r#""shape":[3,2]"#, r#""shape":"octagon""#);
        let text = edited(&text, r#","sections":["#, &format!(r#","requires":{list},"sections":["#));
        let error = rejected(&with_metadata(&text));
        assert_eq!(error, FormatError::Requires { what: "the file".into(), feature: feature.into() });
        assert!(error.to_string().contains(&format!("the feature {feature:?}")), "{error}");
        assert!(error.to_string().contains("use a newer version"), "{error}");
    }
    let sections = r#","sections":["#;
    assert_metadata_errors(&[
        (sections, r#","requires":"x","sections":["#, "requires", "is \"x\", expected a list"),
        (
            sections,
            r#","requires":[1],"sections":["#,
            "requires[0]",
            "is 1, expected a string of valid Unicode",
        ),
    ]);
    let empty = edited(METADATA, sections, r#","requires":[],"sections":["#);
    assert!(open(&with_metadata(&empty)).is_ok());
}

#[test]
fn rejects_missing_fields() {
    assert_metadata_errors(&[
        (r#"{"arrays":"#, r#"{"Arrays":"#, "arrays", "is missing"),
        (r#""codec":{"name":"zstd"},"#, "", "arrays[1].codec", "is missing"),
        (r#"{"name":"zstd"}"#, "{}", "arrays[1].codec.name", "is missing"),
        (r#""dtype":"utf8","#, "", "arrays[1].dtype", "is missing"),
        (r#""name":"text","#, "", "arrays[1].name", "is missing"),
        (r#","shape":[2]"#, "", "arrays[1].shape", "is missing"),
        (r#""metadata":null,"#, "", "sections[1].metadata", "is missing"),
        (r#","rows":[0,1]"#, "", "sections[0].rows", "is missing"),
    ]);
}

#[test]
fn rejects_fields_of_the_wrong_type() {
    let whole = |found: &str| format!("is {found}, expected a whole number of 0 or more");
    let text = |found: &str| format!("is {found}, expected a string of valid Unicode");
    assert_metadata_errors(&[
        (
            r#"{"arrays":[{"codec":{"level""#,
            r#"{"arrays":[7,{"codec":{"level""#,
            "arrays[0]",
            "is 7, expected an object",
        ),
        (
            r#""codec":{"name":"zstd"}"#,
            r#""codec":"zstd""#,
            "arrays[1].codec",
            "is \"zstd\", expected an object",
        ),
        (r#""name":"zstd""#, r#""name":0"#, "arrays[1].codec.name", &text("0")),
        (r#""dtype":"utf8""#, r#""dtype":null"#, "arrays[1].dtype", &text("null")),
        (r#""name":"text""#, r#""name":[]"#, "arrays[1].name", &text("of type array")),
        (r#"{"model":"m"}"#, r#""m""#, "arrays[0].provenance", "is \"m\", expected an object"),
        (r#""shape":[2]"#, r#""shape":2"#, "arrays[1].shape", "is 2, expected a list"),
        (
            r#""shape":[2]"#,
            r#""shape":[]"#,
            "arrays[1].shape",
            "is of type array, expected the number of rows at least",
        ),
        (r#""shape":[2]"#, r#""shape":[2.0]"#, "arrays[1].shape[0]", &whole("2.0")),
        (r#""shape":[3,2]"#, r#""shape":[3,-2]"#, "arrays[0].shape[1]", &whole("-2")),
        (r#"{"by":"test"}"#, "[]", "metadata", "is of type array, expected an object"),
        (r#""sections":["#, r#""sections":{},"x":["#, "sections", "is of type object, expected a list"),
        (r#"{"metadata":{"a":1},"rows":[0,1]}"#, "true", "sections[0]", "is true, expected an object"),
        (r#""rows":[0,1]"#, r#""rows":0"#, "sections[0].rows", "is 0, expected a list"),
        (r#""rows":[0,1]"#, r#""rows":["0",1]"#, "sections[0].rows[0]", &whole("\"0\"")),
        (
            r#""rows":[1,3]}]"#,
            r#""rows":[1,3]}],"sections_from_chunks":1"#,
            "sections_from_chunks",
            "is 1, expected true or false",
        ),
    ]);
}

#[test]
fn rejects_names_that_no_file_may_have() {
    let expected = "expected a name of 1 to 255 bytes without control characters";
    let long = "ü".repeat(128);
    for name in ["", r"\n", "\u{7f}", "\u{85}", &long] {
        for (from, path) in [("text", "arrays[1].name"), ("zstd", "arrays[1].codec.name")] {
            let text = edited(METADATA, &format!(r#""name":"{from}""#), &format!(r#""name":"{name}""#));
            let FormatError::Metadata { path: found, problem } = rejected(&with_metadata(&text)) else {
                panic!("{name}")
            };
            assert_eq!(found, path);
            assert!(problem.ends_with(expected), "{problem}");
        }
    }
    let most = format!("{}x", "ü".repeat(127));
    assert!(open(&with_metadata(&METADATA.replace("text", &most))).is_ok());
    let twice = "is \"v\", expected a name that no other array has";
    assert_metadata_errors(&[(r#""name":"text""#, r#""name":"v""#, "arrays[1].name", twice)]);
}

#[test]
fn rejects_shapes_that_no_array_may_have() {
    let too_long = "has rows of more than 2147483647 bytes";
    assert_metadata_errors(&[
        (
            r#""shape":[2]"#,
            r#""shape":[2,1]"#,
            "arrays[1].shape",
            "has 2 lengths, an array of strings has one",
        ),
        (
            r#""shape":[3,2]"#,
            r#""shape":[3,1,1,1,1,1,1,1,2]"#,
            "arrays[0].shape",
            "is of type array, expected at most 8 lengths",
        ),
        (
            r#""shape":[3,2]"#,
            r#""shape":[3,4294967296]"#,
            "arrays[0].shape[1]",
            "is 4294967296, expected a whole number below 2^32",
        ),
        (r#""shape":[3,2]"#, r#""shape":[3,536870912]"#, "arrays[0].shape", too_long),
        (r#""shape":[3,2]"#, r#""shape":[3,65536,65536,65536,65536,65536]"#, "arrays[0].shape", too_long),
        (
            r#""shape":[3,2]"#,
            r#""shape":[281474976710657,2]"#,
            "arrays[0].shape[0]",
            "is 281474976710657, expected at most 281474976710656 rows",
        ),
        (
            r#""shape":[7,0]"#,
            r#""shape":[4294967296,0]"#,
            "arrays[2].shape[0]",
            "is 4294967296, expected at most 4294967295 rows without values",
        ),
    ]);
    for shape in ["[4294967295,0]", "[1,4294967295,4294967295,4294967295,0]"] {
        let text = edited(METADATA, r#""shape":[7,0]"#, &format!(r#""shape":{shape}"#));
        assert!(open(&with_metadata(&text)).is_ok());
    }
    // An unknown dtype has one byte at least.
    let unknown = edited(
        METADATA,
        r#""f32","name":"v","provenance":{"model":"m"},"shape":[3,2]"#,
        r#""f4","name":"v","shape":[3,2147483647]"#,
    );
    assert!(open(&with_metadata(&unknown)).is_ok());
    let error = rejected(&with_metadata(&edited(&unknown, "2147483647", "2147483648")));
    assert!(error.to_string().contains(too_long), "{error}");
}

#[test]
fn rejects_sections_that_overlap_or_lie_outside() {
    let whole = "of the first array";
    assert_metadata_errors(&[
        (
            "[0,1]",
            "[0,4]",
            "sections[0].rows[1]",
            &format!("is 4, expected a row from 0 to 3, the rows {whole}"),
        ),
        (
            "[0,1]",
            "[1,0]",
            "sections[0].rows[1]",
            &format!("is 0, expected a row from 1 to 3, the rows {whole}"),
        ),
        ("[1,3]", "[0,3]", "sections[1].rows[0]", "is 0, expected a row that no section before it has"),
        ("[1,3]", "[1]", "sections[1].rows", "is of type array, expected two row numbers"),
        ("[1,3]", "[1,2,3]", "sections[1].rows", "is of type array, expected two row numbers"),
    ]);
    // Of a file without arrays nothing has rows.
    let none = Parts { chunks: vec![], index: vec![], metadata: vec![] };
    let with = |rows| format!(r#"{{"arrays":[],"sections":[{{"metadata":1,"rows":{rows}}}]}}"#).into_bytes();
    assert!(open(&Parts { metadata: with("[0,0]"), ..none.clone() }.file()).is_ok());
    let error = rejected(&Parts { metadata: with("[0,1]"), ..none }.file());
    assert!(error.to_string().contains("sections[0].rows[1] is 1, expected a row from 0 to 0"), "{error}");
}

// What is tolerated.

#[test]
fn unknown_keys_are_ignored() {
    let text = edited(METADATA, r#"{"arrays":[{"codec""#, r#"{"a":{"$json":3},"arrays":[{"a":1,"codec""#);
    let text = edited(&text, r#","rows":[0,1]"#, r#","q":[],"rows":[0,1]"#);
    let index = open(&with_metadata(&text)).unwrap();
    assert_eq!(index.arrays.len(), 3);
    assert!(index.header.get("a").is_some());
}

#[test]
fn what_one_array_has_of_the_future_leaves_the_others_readable() {
    let text = edited(
        METADATA,
        r#""dtype":"utf8","name":"text","#,
        r#""dtype":"i4","name":"text","requires":["x","y"],"#,
    );
    let text = edited(&text, r#""zstd""#, r#""zstd-9000""#);
    let index = open(&with_metadata(&text)).unwrap();
    let [v, text, _] = index.arrays.as_slice() else { panic!("three arrays") };
    assert_eq!((v.dtype, &*v.codec, v.requires.len()), (DType::F32.into(), "raw", 0));
    assert_eq!((text.dtype, &*text.codec), (ArrayDType::Unknown, "zstd-9000"));
    assert_eq!(text.requires, ["x", "y"]);
    assert_eq!((text.dtype.name(), text.dtype.values()), ("unknown", None));
    assert_eq!(text.chunks.len(), 1);
    // Nobody is called unknown.
    let text = edited(METADATA, r#""dtype":"utf8""#, r#""dtype":"unknown""#);
    assert_eq!(open(&with_metadata(&text)).unwrap().arrays[1].dtype, ArrayDType::Unknown);
}

#[test]
fn options_of_codecs_stand_beside_their_name() {
    let index = open(&good().file()).unwrap();
    assert!(index.arrays[0].codec_options == json(r#"{"level":3}"#));
    assert!(index.arrays[1].codec_options == json("{}"));
    assert!(index.arrays[0].provenance == Some(json(r#"{"model":"m"}"#)));
    assert!(index.arrays[1].provenance.is_none());
}

// The index.

#[test]
fn rejects_wrong_entries_of_the_index() {
    let u64s = |value: u64| value.to_le_bytes().to_vec();
    let u32s = |value: u32| value.to_le_bytes().to_vec();
    for (number, at, bytes, problem) in [
        (0, 0, u64s(0), "has offset 0, what is before it ends at byte 64"),
        (1, 0, u64s(256), "has offset 256, what is before it ends at byte 192"),
        (1, 0, u64s(128), "has offset 128, what is before it ends at byte 192"),
        (2, 0, u64s(u64::MAX), "has offset 18446744073709551615, what is before it ends at byte 384"),
        (0, 8, u64s(0), "has length 0, expected a multiple of 64 above 0"),
        (0, 8, u64s(129), "has length 129, expected a multiple of 64 above 0"),
        (2, 8, u64s(192), "has length 192, there are 128 bytes"),
        (0, 8, u64s(u64::MAX - 63), "has length 18446744073709551552, there are 448 bytes"),
        (0, 16, u32s(0), "has 0 rows in blocks of 1, at least 1 of each is needed"),
        (0, 20, u32s(0), "has 2 rows in blocks of 0, at least 1 of each is needed"),
        (0, 24, u32s(0), "has a head of 0 bytes, expected a multiple of 64 from 20 to 128"),
        (0, 24, u32s(65), "has a head of 65 bytes, expected a multiple of 64 from 20 to 128"),
        (0, 24, u32s(192), "has a head of 192 bytes, expected a multiple of 64 from 20 to 128"),
        (0, 16, u32s(4), "ends at row 4 of array \"v\", which has 3 rows"),
        (2, 16, u32s(2), "ends at row 4 of array \"v\", which has 3 rows"),
        (1, 44, vec![3, 0], "is of array 3, the file has 3 arrays"),
        (1, 44, vec![255, 255], "is of array 65535, the file has 3 arrays"),
        (1, 44, vec![2, 0], "is of array \"none\", whose rows have no values"),
    ] {
        let what = format!("entry {number} of the index");
        assert_region(rejected(&with_entry(number, at, &bytes)), &what, 512 + 48 * number as u64, problem);
    }
    // More blocks than a head can have checksums of.
    let text = METADATA.replace("[3,2]", "[4294967297,2]");
    let mut parts = Parts { metadata: text.into(), ..good() };
    parts.index[16..20].fill(0xff);
    let problem = "has a head of 64 bytes, expected a multiple of 64 from 17179869192 to 128";
    assert_region(rejected(&parts.file()), "entry 0 of the index", 512, problem);
}

#[test]
fn rejects_chunks_that_do_not_fill_the_file() {
    let mut parts = good();
    parts.chunks.extend([0; 64]);
    let problem = "has chunks up to byte 512, expected up to byte 576, where it begins";
    assert_region(rejected(&parts.file()), "the index", 576, problem);
    let mut parts = good();
    parts.index.truncate(96);
    let problem = "has chunks up to byte 384, expected up to byte 512, where it begins";
    assert_region(rejected(&parts.file()), "the index", 512, problem);
}

#[test]
fn rejects_arrays_whose_rows_are_not_in_chunks() {
    for (from, to, problem) in [
        ("[3,2]", "[4,2]", "has chunks with 3 rows of array \"v\", which has 4 rows"),
        (r#""shape":[2]"#, r#""shape":[3]"#, "has chunks with 2 rows of array \"text\", which has 3 rows"),
        ("[7,0]", "[7]", "has chunks with 0 rows of array \"none\", which has 7 rows"),
    ] {
        assert_region(rejected(&with_metadata(&edited(METADATA, from, to))), "the index", 512, problem);
    }
}

/// A claim of rows must be covered by chunks, chunks by bytes, blocks by checksums, and fields by their bytes.
#[test]
fn rejects_2_to_the_40_rows_in_a_file_of_a_kibibyte() {
    let metadata = |rows: u64| {
        let array = format!(r#"{{"codec":{{"name":"raw"}},"dtype":"u8","name":"v","shape":[{rows}]}}"#);
        format!(r#"{{"arrays":[{array}],"metadata":{{"x":"{}"}}}}"#, "y".repeat(600)).into_bytes()
    };
    let mut file = Vec::new();
    let parts = ChunkParts {
        array: 0,
        rows: 1,
        block_rows: u32::MAX,
        params: &[],
        fields: &[(1, &[7])],
        lanes: &[],
        loss: Loss::NONE,
    };
    let spec = encode_chunk(&parts, &mut file).unwrap();
    let mut index = [64u64.to_le_bytes(), spec.len.to_le_bytes()].concat();
    for word in [1, u32::MAX, spec.head_len, spec.head_crc, 0, 0, 0, 0] {
        index.extend(word.to_le_bytes());
    }
    let mut parts = Parts { chunks: file, index, metadata: metadata(1) };
    assert!(open(&parts.file()).is_ok());
    parts.metadata = metadata(1 << 40);
    assert!((900..=1024).contains(&parts.file().len()));
    let error = rejected(&parts.file());
    assert!(error.to_string().contains("1 rows of array \"v\", which has 1099511627776 rows"), "{error}");
    // As many as an entry can say: the index is right, the chunk is not.
    parts.metadata = metadata(u64::from(u32::MAX));
    parts.index[16..20].fill(0xff);
    let index = open(&parts.file()).unwrap();
    let chunk = &index.arrays[0].chunks[0];
    let error = parse_head(ChunkId(0), chunk, &parts.chunks[..64]).unwrap_err();
    let problem = "describes a chunk of 4294967360 bytes, the index has one of 128";
    assert_region(error, "the head of chunk 0", 64, problem);
}

// Heads.

/// Chunk 1 of the array `text` of the good file, and its bytes.
fn chunk_of_text() -> (ChunkEntry, Vec<u8>) {
    let parts = good();
    let index = open(&parts.file()).unwrap();
    let entry = index.arrays[1].chunks[0].clone();
    let bytes = parts.file()[to_usize(entry.bytes.start)..to_usize(entry.bytes.end)].to_vec();
    (entry, bytes)
}

/// The error of the head of that chunk, with other bytes somewhere and the right checksum.
#[track_caller]
fn head_error(at: usize, bytes: &[u8]) -> FormatError {
    let (mut entry, chunk) = chunk_of_text();
    let mut head = chunk[..64].to_vec();
    head[at..at + bytes.len()].copy_from_slice(bytes);
    let Stored::Blocked(stored) = &mut entry.stored else { panic!("a native chunk") };
    stored.head_crc = crc32c(&head);
    parse_head(ChunkId(1), &entry, &head).expect_err("this head should be refused")
}

#[test]
fn the_good_head_is_read() {
    let (entry, bytes) = chunk_of_text();
    let head = parse_head(ChunkId(1), &entry, &bytes[..64]).unwrap();
    assert_eq!((head.parts.rows(), head.parts.block_rows(), head.parts.block_count()), (2, 1, 2));
    assert_eq!((&*head.params, head.parts.crcs().len()), (&[1, 2, 3][..], 2));
    assert_eq!(head.parts.ranges(0..2).collect::<Vec<_>>(), [64..128, 128..192]);
    assert_eq!(head.parts.ranges(0..1).collect::<Vec<_>>(), [64..68, 128..144]);
}

#[test]
fn rejects_a_damaged_head() {
    let (entry, bytes) = chunk_of_text();
    for at in 0..64 {
        let mut head = bytes[..64].to_vec();
        head[at] ^= 2;
        let error = parse_head(ChunkId(1), &entry, &head).unwrap_err();
        let expected = crc32c(&bytes[..64]);
        let what = "the head of chunk 1".into();
        assert_eq!(
            error,
            FormatError::Checksum { what, start: 192, end: 256, expected, found: crc32c(&head) }
        );
    }
}

/// The good head: 3 bytes of parameters, one field of 4 bytes a row, one lane of 10 and 20 bytes, two checksums.
#[test]
fn rejects_heads_that_contradict_themselves_or_the_index() {
    let len = |fields: u32, lanes: u32, params: u32, expected: u64| {
        format!(
            "has 64 bytes, expected {expected} for {fields} fields, {lanes} lanes, 2 blocks and {params} bytes of \
             parameters"
        )
    };
    for (at, bytes, problem) in [
        (4, vec![0, 0, 0, 0], "has neither fields nor lanes".into()),
        (0, vec![0xff; 4], len(1, 1, u32::MAX, 4_294_967_360)),
        (4, vec![0xff; 2], len(65_535, 1, 3, 262_208)),
        (6, vec![0xff; 2], len(1, 65_535, 3, 524_352)),
        (0, vec![37, 0, 0, 0], len(1, 1, 37, 128)),
        (40, vec![1], "has padding that is not zero".into()),
        (63, vec![1], "has padding that is not zero".into()),
        (0, vec![2, 0, 0, 0], "has padding that is not zero".into()),
        (8, vec![0; 4], "has a field of 0 bytes a row, expected 1 to 2147483647".into()),
        (8, vec![0, 0, 0, 0x80], "has a field of 2147483648 bytes a row, expected 1 to 2147483647".into()),
        (12, vec![0; 4], "has a stream of 0 bytes, expected at least 1".into()),
        (16, vec![0; 4], "has a stream of 0 bytes, expected at least 1".into()),
        (8, vec![33, 0, 0, 0], "describes a chunk of 256 bytes, the index has one of 192".into()),
        (16, vec![0xff; 4], "describes a chunk of 4294967488 bytes, the index has one of 192".into()),
    ] {
        assert_region(head_error(at, &bytes), "the head of chunk 1", 192, &problem);
    }
}

#[test]
fn rejects_heads_that_describe_more_than_64_bits_count() {
    // 2^32 - 1 rows of 2^31 - 1 bytes are nearly 2^63, three times.
    let mut head = Vec::new();
    head.extend([0, 0, 0, 0, 3, 0, 0, 0]);
    head.extend([0xff, 0xff, 0xff, 0x7f].repeat(3));
    head.extend([0; 4]);
    head.resize(64, 0);
    let parts = Parts {
        chunks: head.clone(),
        index: {
            let mut index = [64u64.to_le_bytes(), 64u64.to_le_bytes()].concat();
            for word in [u32::MAX, u32::MAX, 64, crc32c(&head), 0, 0, 0, 0] {
                index.extend(word.to_le_bytes());
            }
            index
        },
        metadata: br#"{"arrays":[{"codec":{"name":"raw"},"dtype":"u8","name":"v","shape":[4294967295]}]}"#
            .to_vec(),
    };
    let index = open(&parts.file()).unwrap();
    let error = parse_head(ChunkId(0), &index.arrays[0].chunks[0], &head).unwrap_err();
    assert_region(error, "the head of chunk 0", 64, "describes a chunk of more than 2^64 bytes");
}

// What cannot be written.

fn spec(name: &str) -> ArraySpec {
    ArraySpec {
        name: name.into(),
        dtype: DType::F32.into(),
        inner: vec![2],
        codec: "raw".into(),
        codec_options: json("{}"),
        provenance: None,
    }
}

#[track_caller]
fn assert_cannot<T: std::fmt::Debug>(result: Result<T, FormatError>, problem: &str) {
    let error = result.expect_err("this should not be written");
    let FormatError::CannotWrite { layout: "native", problem: found } = &error else { panic!("{error}") };
    assert!(found.contains(problem), "{error}");
    assert!(error.to_string().starts_with("layout native cannot hold this: "), "{error}");
}

#[test]
fn refuses_arrays_that_no_reader_takes() {
    let most: Vec<ArraySpec> = (0..1024).map(|i| spec(&i.to_string())).collect();
    assert_eq!(Contents::check_arrays(&most), Ok(()));
    let more: Vec<ArraySpec> = (0..1025).map(|i| spec(&i.to_string())).collect();
    assert_cannot(Contents::check_arrays(&more), "1025 arrays; 1024 are possible");
    assert_cannot(Contents::check_arrays(&[spec("a"), spec("b"), spec("a")]), "two arrays named \"a\"");
    let with = |set: &dyn Fn(&mut ArraySpec)| {
        let mut array = spec("a");
        set(&mut array);
        Contents::check_arrays(&[array])
    };
    assert_cannot(with(&|array| array.name = String::new()), "named \"\", expected a name of 1 to 255 bytes");
    assert_cannot(with(&|array| array.name = "x".repeat(256)), "expected a name of 1 to 255 bytes");
    assert_cannot(with(&|array| array.name = "a\tb".into()), "named \"a\\tb\", expected a name");
    assert_cannot(with(&|array| array.dtype = ArrayDType::Unknown), "whose dtype is unknown");
    assert_cannot(with(&|array| array.dtype = ArrayDType::Utf8), "an array of strings has one");
    assert_cannot(with(&|array| array.inner = vec![1; 8]), "of 9 dimensions; 8 are possible");
    assert_cannot(with(&|array| array.inner = vec![1 << 29]), "has rows of more than 2147483647 bytes");
    assert_eq!(with(&|array| array.inner = vec![(1 << 29) - 1]), Ok(()));
    assert_cannot(
        with(&|array| array.codec = "\u{9f}".into()),
        "with the codec \"\\u{9f}\", expected a name",
    );
    assert_cannot(with(&|array| array.codec_options = json("[]")), "options that are not an object");
    assert_cannot(with(&|array| array.codec_options = json(r#"{"name":1}"#)), "with a key \"name\"");
    assert_cannot(with(&|array| array.codec_options = json(r#"{"a":1,"a":2}"#)), "occurs twice");
    assert_cannot(with(&|array| array.codec_options = json(r#"{"\ud800":1}"#)), "no valid Unicode");
    assert_cannot(with(&|array| array.provenance = Some(Json::Null)), "a provenance that is not an object");
}

#[test]
fn refuses_metadata_that_no_reader_takes() {
    let nested =
        |levels: usize, inner: &str| json(&format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels)));
    assert_eq!(Contents::check_metadata(&nested(61, "1")), Ok(()));
    assert_cannot(Contents::check_metadata(&nested(62, "1")), "metadata nested 62 deep; 61 are possible");
    // What is escaped stands in an object of its own.
    assert_eq!(Contents::check_metadata(&nested(60, "NaN")), Ok(()));
    assert_cannot(Contents::check_metadata(&nested(61, "NaN")), "nested 62 deep");
    let mut array = spec("a");
    array.provenance = Some(Json::object([("x", nested(61, "1"))]));
    assert_cannot(Contents::check_arrays(&[array.clone()]), "nested 62 deep");
    array.provenance = None;
    array.codec_options = Json::object([("x", nested(61, "1"))]);
    assert_cannot(Contents::check_arrays(&[array]), "nested 61 deep; 60 are possible");
}

/// Whatever the writer takes, the reader takes: at the very limit of nesting, in every place.
#[test]
fn what_is_nested_as_deep_as_can_be_opens() {
    let nested =
        |levels: usize, inner: &str| json(&format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels)));
    let mut array = spec("a");
    array.provenance = Some(Json::object([("x", nested(60, "1"))]));
    array.codec_options = Json::object([("x", nested(59, "NaN"))]);
    let sections = [Section::new(0..0, nested(60, "NaN")), Section::new(0..0, nested(61, "1"))];
    let user = Json::object([("x", nested(60, "1"))]);
    let contents = Contents {
        arrays: &[array],
        rows: &[0],
        chunks: &[],
        sections: &sections,
        sections_from_chunks: false,
        metadata: &user,
    };
    let mut file = Contents::prelude().to_vec();
    file.extend(contents.suffix().unwrap());
    assert!(open(&file).is_ok());
}

#[test]
fn refuses_contents_that_no_reader_takes() {
    let arrays = [spec("a"), ArraySpec { inner: vec![0], ..spec("b") }];
    let none = json("{}");
    let chunk = |array, rows| ChunkSpec {
        array,
        rows,
        block_rows: 1,
        head_len: 64,
        head_crc: 0,
        len: 128,
        loss: Loss::NONE,
    };
    let chunks = [chunk(0, 2), chunk(0, 3)];
    let base = Contents {
        arrays: &arrays,
        rows: &[5, 9],
        chunks: &chunks,
        sections: &[],
        sections_from_chunks: false,
        metadata: &none,
    };
    assert!(base.suffix().is_ok());
    let cannot = |contents: Contents<'_>, problem: &str| assert_cannot(contents.suffix(), problem);
    cannot(Contents { rows: &[6, 9], ..base.clone() }, "array \"a\" of 6 rows in chunks of 5, expected 6");
    cannot(Contents { chunks: &[chunk(2, 5)], ..base.clone() }, "chunk 0 of array 2, of 2");
    cannot(Contents { chunks: &[chunk(0, 0)], ..base.clone() }, "chunk 0 without rows");
    cannot(
        Contents { chunks: &[chunk(0, 5), chunk(1, 9)], ..base.clone() },
        "array \"b\" of 9 rows in chunks of 9, expected 0",
    );
    cannot(Contents { rows: &[5, 1 << 32], ..base.clone() }, "at most 4294967295 rows without values");
    cannot(Contents { rows: &[(1 << 48) + 1, 9], ..base.clone() }, "at most 281474976710656 rows");
    cannot(Contents { metadata: &Json::Null, ..base.clone() }, "metadata of type null, expected an object");
    let overlapping = [Section::new(0..2, Json::Null), Section::new(1..3, Json::Null)];
    cannot(Contents { sections: &overlapping, ..base.clone() }, "section 1..3: sections must be sorted");
    let outside = [Section::new(4..6, Json::Null)];
    cannot(Contents { sections: &outside, ..base.clone() }, "within the 5 rows of the first array");
    let many = vec![Section::new(0..0, Json::Null); (1 << 20) + 1];
    cannot(Contents { sections: &many, ..base.clone() }, "1048577 sections; 1048576 are possible");
    let long = json(&format!(r#"{{"x":"{}"}}"#, "y".repeat(100_000_000)));
    cannot(Contents { metadata: &long, ..base }, "bytes; 100000000 are possible");
}

#[test]
fn refuses_chunks_that_no_head_describes() {
    let with = |params: &[u8], fields: &[(u32, &[u8])], lanes: &[LaneBytes<'_>]| {
        let parts = ChunkParts { array: 0, rows: 1, block_rows: 1, params, fields, lanes, loss: Loss::NONE };
        encode_chunk(&parts, &mut Vec::new())
    };
    let one: (u32, &[u8]) = (1, &[7]);
    assert!(with(&[], &vec![one; 65_535], &[]).is_ok());
    assert_cannot(with(&[], &vec![one; 65_536], &[]), "65536 fields and 0 lanes; 65535 of each");
    let lane = LaneBytes { bytes: &[7], lens: &[1] };
    assert!(with(&[], &[], &vec![lane; 65_535]).is_ok());
    assert_cannot(with(&[], &[], &vec![lane; 65_536]), "0 fields and 65536 lanes; 65535 of each");
}

#[test]
#[should_panic(expected = "bytes of a field")]
fn a_field_that_is_not_as_long_as_the_rows_is_a_mistake_of_the_caller() {
    let parts = ChunkParts {
        array: 0,
        rows: 3,
        block_rows: 1,
        params: &[],
        fields: &[(4, &[0; 8])],
        lanes: &[],
        loss: Loss::NONE,
    };
    let _ = encode_chunk(&parts, &mut Vec::new());
}

#[test]
#[should_panic(expected = "streams of a lane")]
fn a_lane_without_a_stream_for_each_block_is_a_mistake_of_the_caller() {
    let lane = LaneBytes { bytes: &[1, 2], lens: &[2] };
    let parts = ChunkParts {
        array: 0,
        rows: 3,
        block_rows: 2,
        params: &[],
        fields: &[],
        lanes: &[lane],
        loss: Loss::NONE,
    };
    let _ = encode_chunk(&parts, &mut Vec::new());
}
