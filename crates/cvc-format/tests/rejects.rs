//! Every way in which a CVCF file can be wrong, each with its error, which says where; and every way in which
//! contents cannot be written. What `docs/FORMAT.md` tolerates is here too.

mod common;

use common::open_within;
use cvc_format::cvcf::{ArraySpec, ChunkSpec, Contents};
use cvc_format::json::JsonErrorKind;
use cvc_format::{
    AffineParams, ArrayDType, ArrayIndex, ChunkEntry, DType, FileIndex, FormatError, Json, Layout, Limits,
    Opening, Params, Section, Stored,
};

fn open(bytes: &[u8]) -> Result<FileIndex, FormatError> {
    open_within(bytes, Limits::default())
}

#[track_caller]
fn opened(bytes: &[u8]) -> FileIndex {
    open(bytes).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn rejected(bytes: &[u8]) -> FormatError {
    open(bytes).expect_err("this file should be refused")
}

/// A v0 file: frames without checksums.
fn v0(header: &str, payloads: &[&[u8]]) -> Vec<u8> {
    let mut file = [b"CVCF", &u32_bytes(header.len())[..], header.as_bytes()].concat();
    for payload in payloads {
        file.extend(u32_bytes(payload.len()));
        file.extend(*payload);
    }
    file
}

/// A versioned file. Nothing in this crate looks at payloads, so any checksum will do.
fn versioned(version: [u16; 2], header: &str, payloads: &[&[u8]]) -> Vec<u8> {
    let version = version.map(u16::to_le_bytes).concat();
    let mut file = [b"CVCF", &version[..], &u32_bytes(header.len()), header.as_bytes()].concat();
    for payload in payloads {
        file.extend(u32_bytes(payload.len()));
        file.extend(0xdead_beefu32.to_le_bytes());
        file.extend(*payload);
    }
    file
}

/// What the header says for the codec of a chunk.
#[track_caller]
fn params_of(chunk: &ChunkEntry) -> &Params {
    match &chunk.stored {
        Stored::Framed { params, .. } => params,
        Stored::Blocked(_) => panic!("a native chunk"),
    }
}

fn u32_bytes(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap().to_le_bytes()
}

/// The header of a good v0 or v1 file of two chunks, with sections.
const SINGLE: &str = r#"{"num_vectors":3,"dimension":2,"compression":"int8","sections":[
{"start_index":0,"end_index":1,"num_vectors":1,"metadata":{"source":"a"}},
{"start_index":1,"end_index":3,"num_vectors":2,"metadata":null}],"chunks":[
{"rows":2,"compression":"int8","min":-1.5,"scale":1.0,"metadata":["x"]},
{"rows":1,"compression":"int8","min":0.0,"scale":NaN}]}"#;
const SINGLE_PAYLOADS: [&[u8]; 2] = [&[1, 2, 3, 4], &[5, 6]];

/// The header of a good v2 file of two chunks and two columns.
const COLUMNAR: &str = r#"{"format_type":"columnar","num_vectors":3,"columns":[
{"name":"vec","dimension":2,"dtype":"float32","compression":"int8"},
{"name":"id","dimension":1,"dtype":"int64","compression":"none"}],"sections":[
{"start_index":1,"end_index":1,"num_vectors":0}],"chunks":[
{"rows":2,"columns":{"vec":{"compression":"int8","min":0,"scale":1e-3,"offset":0,"size":4},
"id":{"compression":"none","offset":4,"size":16}}},
{"rows":1,"columns":{"id":{"compression":"none","offset":2,"size":8},
"vec":{"compression":"int8","min":0,"scale":1,"offset":0,"size":2}}}]}"#;
const COLUMNAR_PAYLOADS: [&[u8]; 2] = [&[7; 20], &[8; 10]];

/// A file of the mapped layout: the header says that frames begin at `stated`, and so they do unless a frame, the
/// header or `last` is in the way.
fn mapped_within(stated: [u64; 2], last: usize) -> Vec<u8> {
    let header = format!(
        r#"{{"num_vectors":3,"dimension":2,"compression":"fp16","mmap_optimized":true,"chunks":[
        {{"rows":2,"file_offset":{}}},{{"rows":1,"file_offset":{}}}]}}"#,
        stated[0], stated[1]
    );
    let mut file = versioned([1, 0], &header, &[]);
    for (offset, payload) in stated.into_iter().zip([&[1u8; 8][..], &[2; 4]]) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(last);
        file.resize(file.len().max(offset), 0);
        file.extend(u32_bytes(payload.len()));
        file.extend([9; 4]);
        file.extend(payload);
    }
    file
}

fn mapped(stated: [u64; 2]) -> Vec<u8> {
    mapped_within(stated, 1_000)
}

/// One good file of each layout.
fn good_files() -> [(Layout, Vec<u8>); 4] {
    [
        (Layout::V0, v0(SINGLE, &SINGLE_PAYLOADS)),
        (Layout::V1, versioned([1, 0], SINGLE, &SINGLE_PAYLOADS)),
        (Layout::V1Mmap, mapped([256, 320])),
        (Layout::V2, versioned([2, 0], COLUMNAR, &COLUMNAR_PAYLOADS)),
    ]
}

/// `text` with its only `from` replaced by `to`.
#[track_caller]
fn edited(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` should occur once");
    text.replace(from, to)
}

/// The error of the good file of `layout` after one edit of its header.
#[track_caller]
fn header_error(layout: Layout, from: &str, to: &str) -> FormatError {
    rejected(&match layout {
        Layout::V0 => v0(&edited(SINGLE, from, to), &SINGLE_PAYLOADS),
        Layout::V1 => versioned([1, 0], &edited(SINGLE, from, to), &SINGLE_PAYLOADS),
        Layout::V2 => versioned([2, 0], &edited(COLUMNAR, from, to), &COLUMNAR_PAYLOADS),
        other => panic!("no header of {other} to edit"),
    })
}

/// That each edit of the header gives this path and this problem.
#[track_caller]
fn assert_header_errors(layout: Layout, edits: &[(&str, &str, &str, &str)]) {
    for (from, to, path, problem) in edits {
        let expected = FormatError::Header { path: (*path).into(), problem: (*problem).into() };
        let found = header_error(layout, from, to);
        assert_eq!(found, expected, "{layout}, {from} -> {to}");
        assert_eq!(found.to_string(), format!("the header's {path} {problem}"));
    }
}

#[test]
fn good_files_open() {
    for (layout, bytes) in good_files() {
        let index = opened(&bytes);
        assert_eq!((index.layout, index.trailing_len), (layout, 0));
        let rows: Vec<_> = index.arrays[0].chunks.iter().map(|chunk| chunk.rows.clone()).collect();
        assert_eq!(rows, [0..2, 2..3], "{layout}");
        for array in &index.arrays {
            assert_eq!(array.rows, 3);
            for (chunk, frame) in array.chunks.iter().zip(&index.frames) {
                assert!(frame.bytes.start <= chunk.bytes.start && chunk.bytes.end <= frame.bytes.end);
                assert!(frame.bytes.end <= bytes.len() as u64);
                assert_eq!(frame.crc32.is_some(), layout.has_checksums());
            }
        }
    }
    let columnar = opened(&good_files()[3].1);
    let id = columnar.array("id").unwrap();
    assert_eq!(
        (id.dtype, &id.inner[..], &*id.codec, id.shape()),
        (DType::I64.into(), &[][..], "raw", vec![3])
    );
    assert_eq!(id.chunks[1].bytes.end - id.chunks[1].bytes.start, 8);
}

// The first bytes.

#[test]
fn rejects_what_does_not_begin_with_the_magic() {
    for (bytes, found) in [
        (&b""[..], "nothing"),
        (b"C", "43"),
        (b"CVC", "43 56 43"),
        (b"CVCf\x08\0\0\0{      }", "43 56 43 66"),
        (b"\x93NUMPY\x01\0v\0{'descr'", "93 4e 55 4d"),
    ] {
        let error = rejected(bytes);
        assert_eq!(error, FormatError::NotCvc { found: found.into() });
        assert!(error.to_string().ends_with(&format!("begins with {found}")), "{error}");
    }
}

#[test]
fn rejects_unknown_versions_by_number() {
    for [major, minor] in [[0, 0], [1, 1], [2, 1], [3, 0], [10, 100], [u16::MAX; 2]] {
        let error = rejected(&versioned([major, minor], SINGLE, &SINGLE_PAYLOADS));
        assert_eq!(error, FormatError::UnknownVersion { major, minor });
        assert!(error.to_string().contains(&format!("{major}.{minor} at byte 4")), "{error}");
    }
}

#[test]
fn rejects_files_without_a_header() {
    for bytes in [
        &b"CVCF\x02\0\0\0[]\0\0\0\0\0\0"[..],
        b"CVCF\x01\0\0\0\x02\0\0\0[]",
        &[b"CVCF", &[0; 60][..]].concat(),
    ] {
        let error = rejected(bytes);
        assert_eq!(error, FormatError::NoHeader);
        assert!(error.to_string().contains("at byte 8 (layout v0) or at byte 12"), "{error}");
    }
}

#[test]
fn rejects_headers_longer_than_the_file_without_reading_them() {
    for (mut bytes, at, end) in [
        (v0(SINGLE, &SINGLE_PAYLOADS), 4, 8 + u64::from(u32::MAX)),
        (versioned([1, 0], SINGLE, &SINGLE_PAYLOADS), 8, 12 + u64::from(u32::MAX)),
        (versioned([2, 0], COLUMNAR, &COLUMNAR_PAYLOADS), 8, 12 + u64::from(u32::MAX)),
    ] {
        bytes[at..at + 4].fill(0xff);
        let file_len = bytes.len() as u64;
        let start = at as u64 + 4;
        assert_eq!(
            rejected(&bytes),
            FormatError::Truncated { what: "the header".into(), start, end, file_len }
        );
        // In a file that is long enough for it, the limit stops it before any of it is asked for.
        let mut opening = Opening::new(u64::MAX, Limits::default());
        bytes.resize(64 + (64 << 10), 0);
        let error = opening.feed(&bytes).unwrap_err();
        let value = u64::from(u32::MAX);
        let limit = 100_000_000;
        assert_eq!(error, FormatError::Limit { what: "header length", value, limit, field: "header_len" });
    }
}

// Which layout it is, where two could be.

#[test]
fn a_versioned_header_whose_length_looks_like_a_brace_is_versioned() {
    // 123 is `{`; 379 has it in its low byte.
    for len in [123, 379] {
        let start = r#"{"chunks":[],"compression":"fp16","dimension":2,"num_vectors":0,"x":""#;
        let header = format!("{start}{}\"}}", "x".repeat(len - start.len() - 2));
        let bytes = versioned([1, 0], &header, &[]);
        assert_eq!(bytes[8], b'{');
        assert_eq!(opened(&bytes).layout, Layout::V1);
    }
}

#[test]
fn a_v0_header_that_looks_like_a_version_is_v0() {
    // Upstream takes 65,537 for version 1.1. And `{"":{` has a brace at byte 12 as well.
    for start in [r#"{"num_vectors": 0"#, r#"{"":{"#, r#"{"":{},"num_vectors": 0"#] {
        let rest = r#", "dimension": 2, "compression": "fp16", "chunks": []}"#;
        let rest = if start.ends_with('{') { format!(r#"}}, "num_vectors": 0{rest}"#) } else { rest.into() };
        for len in [65_536 + 1, 65_536 + 10, 2 * 65_536 + 2] {
            let spaces = " ".repeat(len - start.len() - rest.len());
            let bytes = v0(&format!("{start}{rest}{spaces}"), &[]);
            assert_eq!(opened(&bytes).layout, Layout::V0, "{start} {len}");
        }
    }
}

/// `FormatError::Ambiguous` needs a v0 header whose length, read as a version, is known. Those lengths are 1 and 2,
/// and no JSON that short has the fields of a header, so no file has this error yet. When a version is added whose
/// bytes could be the length of a header, this test is the reminder to make such a file.
#[test]
fn no_known_version_can_be_a_v0_header_too() {
    for version in [[1, 0], [2, 0]] {
        let bytes = versioned(version, SINGLE, &[]);
        let as_v0 = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        assert!(as_v0 <= 2);
        for header in ["{", "{}"] {
            let error = rejected(&v0(header, &[]));
            assert!(matches!(
                error,
                FormatError::Json { .. } | FormatError::Header { .. } | FormatError::Truncated { .. }
            ));
        }
    }
    assert!(FormatError::Ambiguous.to_string().contains("valid v0 file and a valid versioned file"));
}

// Files that end too early, or too late.

#[test]
fn rejects_every_truncation_and_names_the_byte() {
    for (layout, bytes) in good_files() {
        for len in 0..bytes.len() {
            let error = rejected(&bytes[..len]);
            match &error {
                FormatError::NotCvc { .. } => assert!(len < 4, "{layout} {len}: {error}"),
                FormatError::Truncated { start, end, file_len, .. } => {
                    assert_eq!(*file_len, len as u64);
                    assert!(start < end && *end > *file_len, "{layout} {len}: {error}");
                    assert!(error.to_string().contains(&format!("ends at byte {len},")), "{error}");
                }
                other => panic!("{layout} {len}: {other}"),
            }
        }
    }
}

#[test]
fn truncations_name_what_was_cut() {
    let (_, bytes) = &good_files()[1];
    let header_end = 12 + SINGLE.len();
    for (len, what) in [
        (11, "the first bytes"),
        (13, "the header"),
        (header_end - 1, "the header"),
        (header_end, "the frame of chunk 0"),
        (header_end + 7, "the frame of chunk 0"),
        (header_end + 8, "the payload of chunk 0"),
        (header_end + 12, "the frame of chunk 1"),
        (bytes.len() - 1, "the payload of chunk 1"),
    ] {
        let FormatError::Truncated { what: found, .. } = rejected(&bytes[..len]) else { panic!("{len}") };
        assert_eq!(found, what, "{len}");
    }
}

#[test]
fn rejects_payloads_longer_than_the_file() {
    let mut bytes = v0(SINGLE, &SINGLE_PAYLOADS);
    let at = 8 + SINGLE.len();
    bytes[at..at + 4].fill(0xff);
    let start = at as u64 + 4;
    let expected = FormatError::Truncated {
        what: "the payload of chunk 0".into(),
        start,
        end: start + u64::from(u32::MAX),
        file_len: bytes.len() as u64,
    };
    assert_eq!(rejected(&bytes), expected);
}

#[test]
fn trailing_bytes_are_tolerated_and_counted() {
    for (layout, mut bytes) in good_files() {
        bytes.extend([0xee; 5]);
        assert_eq!(opened(&bytes).trailing_len, 5, "{layout}");
    }
}

// JSON.

#[test]
fn rejects_headers_that_are_not_json_and_names_the_byte() {
    for (layout, offset) in [(Layout::V0, 8), (Layout::V1, 12), (Layout::V2, 12)] {
        let FormatError::Json { offset: found, error } =
            header_error(layout, r#","chunks":["#, r#","chunks":!["#)
        else {
            panic!("{layout}");
        };
        assert_eq!(found, offset);
        let source = if layout == Layout::V2 { COLUMNAR } else { SINGLE };
        assert_eq!(error.offset, source.find(r#","chunks":["#).unwrap() + 10);
        let message = FormatError::Json { offset: found, error: error.clone() }.to_string();
        let expected = format!("the header at byte {offset} is not valid JSON: byte {} of the", error.offset);
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn rejects_bytes_in_the_header_that_are_not_utf8() {
    let mut bytes = v0(SINGLE, &SINGLE_PAYLOADS);
    bytes[20] = 0xff;
    let FormatError::Json { offset: 8, error } = rejected(&bytes) else { panic!("not UTF-8") };
    assert_eq!((error.offset, error.kind), (12, JsonErrorKind::InvalidUtf8));
}

#[test]
fn rejects_something_after_the_header() {
    let FormatError::Json { error, .. } = rejected(&v0("{}{}", &[])) else { panic!("two objects") };
    assert_eq!((error.offset, error.kind), (2, JsonErrorKind::TrailingBytes));
}

#[test]
fn rejects_deep_nesting() {
    let header = format!("{}{}", r#"{"a":"#.repeat(100), "1");
    let FormatError::Json { error, .. } = rejected(&v0(&header, &[])) else { panic!("deep") };
    assert_eq!(error.kind, JsonErrorKind::TooDeep { limit: 64 });
    assert_eq!(error.offset, 64 * 5);
}

// The fields of v0 and v1, which share their checks.

#[test]
fn rejects_missing_fields() {
    for layout in [Layout::V0, Layout::V1] {
        assert_header_errors(
            layout,
            &[
                (r#""num_vectors":3"#, r#""x":3"#, "num_vectors", "is missing"),
                (r#""dimension""#, r#""dim""#, "dimension", "is missing"),
                (r#""compression":"int8","sections""#, r#""sections""#, "compression", "is missing"),
                (r#""chunks""#, r#""Chunks""#, "chunks", "is missing"),
                (r#""rows":1,"#, "", "chunks[1].rows", "is missing"),
                (r#""min":-1.5,"#, "", "chunks[0].min", "is missing"),
                (r#","scale":NaN"#, "", "chunks[1].scale", "is missing"),
                (r#""start_index":1,"#, "", "sections[1].start_index", "is missing"),
                (r#""end_index":3,"#, "", "sections[1].end_index", "is missing"),
                (r#""num_vectors":2,"#, "", "sections[1].num_vectors", "is missing"),
            ],
        );
    }
}

#[test]
fn rejects_fields_of_the_wrong_type() {
    let whole = |found: &str| format!("is {found}, expected a whole number of 0 or more");
    assert_header_errors(
        Layout::V1,
        &[
            (r#""num_vectors":3"#, r#""num_vectors":3.0"#, "num_vectors", &whole("3.0")),
            (r#""num_vectors":3"#, r#""num_vectors":"3""#, "num_vectors", &whole("\"3\"")),
            (r#""num_vectors":3"#, r#""num_vectors":true"#, "num_vectors", &whole("true")),
            (r#""num_vectors":3"#, r#""num_vectors":NaN"#, "num_vectors", &whole("NaN")),
            (r#""dimension":2"#, r#""dimension":null"#, "dimension", &whole("null")),
            (r#""dimension":2"#, r#""dimension":[2]"#, "dimension", &whole("of type array")),
            (
                r#""compression":"int8","sections""#,
                r#""compression":8,"sections""#,
                "compression",
                "is 8, expected a string of valid Unicode",
            ),
            (
                r#""compression":"int8","sections""#,
                r#""compression":"\ud800","sections""#,
                "compression",
                r#"is "\ud800", expected a string of valid Unicode"#,
            ),
            (r#""chunks":["#, r#""chunks":3,"x":["#, "chunks", "is 3, expected a list"),
            (r#","sections":["#, r#","sections":null,"x":["#, "sections", "is null, expected a list"),
            (r#"{"rows":2,"#, r#"7,{"rows":2,"#, "chunks[0]", "is 7, expected an object"),
            (r#""rows":2"#, r#""rows":{}"#, "chunks[0].rows", &whole("of type object")),
            (r#""min":-1.5"#, r#""min":null"#, "chunks[0].min", "is null, expected a number"),
            (r#""scale":1.0"#, r#""scale":"1.0""#, "chunks[0].scale", "is \"1.0\", expected a number"),
            (
                r#"{"start_index":0"#,
                r#"[],{"start_index":0"#,
                "sections[0]",
                "is of type array, expected an object",
            ),
            (r#""start_index":1"#, r#""start_index":-1"#, "sections[1].start_index", &whole("-1")),
            (r#""end_index":3"#, r#""end_index":3e0"#, "sections[1].end_index", &whole("3e0")),
            (r#""num_vectors":2"#, r#""num_vectors":false"#, "sections[1].num_vectors", &whole("false")),
        ],
    );
}

#[test]
fn long_values_are_cut_in_messages() {
    let name = "ü".repeat(200);
    let to = format!(r#""compression":"{name}","sections""#);
    let FormatError::Header { problem, .. } =
        header_error(Layout::V0, r#""compression":"int8","sections""#, &to)
    else {
        panic!("an unknown codec")
    };
    assert_eq!(problem, format!("is \"{}..., expected one of fp16, int8 in layout v0", "ü".repeat(59)));
}

#[test]
fn rejects_numbers_out_of_range() {
    let below = |found: &str| format!("is {found}, expected a whole number below 2^32");
    assert_header_errors(
        Layout::V0,
        &[
            (
                r#""num_vectors":3"#,
                r#""num_vectors":18446744073709551616"#,
                "num_vectors",
                "is 18446744073709551616, expected a whole number of 0 or more",
            ),
            (r#""dimension":2"#, r#""dimension":4294967296"#, "dimension", &below("4294967296")),
            (
                r#""dimension":2"#,
                r#""dimension":-2"#,
                "dimension",
                "is -2, expected a whole number of 0 or more",
            ),
            (r#""rows":2"#, r#""rows":4294967296"#, "chunks[0].rows", &below("4294967296")),
        ],
    );
}

#[test]
fn rejects_a_number_of_rows_that_is_not_that_of_the_chunks() {
    assert_header_errors(
        Layout::V1,
        &[
            (r#""num_vectors":3"#, r#""num_vectors":4"#, "num_vectors", "is 4, but its chunks hold 3 rows"),
            (r#""num_vectors":3"#, r#""num_vectors":0"#, "num_vectors", "is 0, but its chunks hold 3 rows"),
            (
                r#""num_vectors":3"#,
                r#""num_vectors":1000000000000000"#,
                "num_vectors",
                "is 1000000000000000, but its chunks hold 3 rows",
            ),
            (
                r#""rows":2"#,
                r#""rows":4294967295"#,
                "num_vectors",
                "is 3, but its chunks hold 4294967296 rows",
            ),
        ],
    );
    // What upstream writes for a negative chunk size.
    let header = r#"{"num_vectors": 5, "dimension": 2, "compression": "fp16", "chunks": []}"#;
    let error = rejected(&v0(header, &[]));
    assert_eq!(error.to_string(), "the header's num_vectors is 5, but its chunks hold 0 rows");
}

#[test]
fn rejects_codecs_the_layout_does_not_have() {
    let whole_file = r#""compression":"int8","sections""#;
    let chunk = r#""rows":1,"compression":"int8""#;
    let v0 = "expected one of fp16, int8 in layout v0";
    let v1 = "expected one of fp16, int8, lossless in layout v1";
    for (layout, stored, expected) in [
        (Layout::V0, "lossless", v0),
        (Layout::V0, "none", v0),
        (Layout::V0, "FP16", v0),
        (Layout::V1, "zstd", v1),
        (Layout::V1, "none", v1),
        (Layout::V1, "cvcf.fp16", v1),
        (Layout::V1, "", v1),
    ] {
        let problem = format!("is \"{stored}\", {expected}");
        let file = format!(r#""compression":"{stored}","sections""#);
        let of_chunk = format!(r#""rows":1,"compression":"{stored}""#);
        assert_header_errors(
            layout,
            &[
                (whole_file, &file, "compression", &problem),
                (chunk, &of_chunk, "chunks[1].compression", &problem),
            ],
        );
    }
}

#[test]
fn rejects_sections_that_overlap_or_lie_outside() {
    let start = "expected a row that no section before it has";
    let end = "expected a row from start_index to num_vectors";
    assert_header_errors(
        Layout::V1,
        &[
            (r#""end_index":1"#, r#""end_index":4"#, "sections[0].end_index", &format!("is 4, {end}")),
            (r#""start_index":0"#, r#""start_index":2"#, "sections[0].end_index", &format!("is 1, {end}")),
            (r#""end_index":3"#, r#""end_index":4"#, "sections[1].end_index", &format!("is 4, {end}")),
            (r#""end_index":3"#, r#""end_index":0"#, "sections[1].end_index", &format!("is 0, {end}")),
            (
                r#""start_index":1"#,
                r#""start_index":0"#,
                "sections[1].start_index",
                &format!("is 0, {start}"),
            ),
            (
                r#""num_vectors":2"#,
                r#""num_vectors":3"#,
                "sections[1].num_vectors",
                "is 3, expected end_index - start_index",
            ),
        ],
    );
}

#[test]
fn rejects_mmap_optimized_that_is_neither_true_nor_false() {
    for value in ["1", "null", "\"true\"", "[]"] {
        let to = format!(r#""mmap_optimized":{value},"dimension""#);
        let FormatError::Header { path, problem } = header_error(Layout::V1, r#""dimension""#, &to) else {
            panic!("{value}")
        };
        assert_eq!(path, "mmap_optimized");
        assert!(problem.ends_with("expected true or false"), "{problem}");
    }
    let not = edited(SINGLE, r#""dimension""#, r#""mmap_optimized":false,"dimension""#);
    assert_eq!(opened(&versioned([1, 0], &not, &SINGLE_PAYLOADS)).layout, Layout::V1);
    // Only v1 has the field; elsewhere it is as unknown as any other.
    let v0_file = edited(SINGLE, r#""dimension""#, r#""mmap_optimized":7,"dimension""#);
    assert_eq!(opened(&v0(&v0_file, &SINGLE_PAYLOADS)).layout, Layout::V0);
}

// The mapped layout.

#[test]
fn rejects_mapped_files_without_offsets() {
    let header = edited(SINGLE, r#""dimension""#, r#""mmap_optimized":true,"dimension""#);
    let error = rejected(&versioned([1, 0], &header, &SINGLE_PAYLOADS));
    assert_eq!(error.to_string(), "the header's chunks[0].file_offset is missing");
    let header = edited(&header, r#""rows":2"#, r#""file_offset":1.5,"rows":2"#);
    let error = rejected(&versioned([1, 0], &header, &SINGLE_PAYLOADS));
    assert_eq!(
        error.to_string(),
        "the header's chunks[0].file_offset is 1.5, expected a whole number of 0 or more"
    );
}

/// What upstream's writer does with many chunks: the header grows over the first frames.
#[test]
fn rejects_mapped_files_whose_header_overwrote_a_frame() {
    let good = mapped([256, 320]);
    let header_end = 12 + u64::from(u32::from_le_bytes(good[8..12].try_into().unwrap()));
    assert!(header_end < 256);
    let bytes = mapped([100, 320]);
    let error = rejected(&bytes);
    let FormatError::Frame { chunk, offset: 100, problem } = &error else { panic!("{error}") };
    assert_eq!(chunk.index(), 0);
    assert!(problem.contains("ends at byte") && problem.contains("decompressed 2.x"), "{problem}");
    assert!(error.to_string().starts_with("chunk 0 at byte 100: "), "{error}");
}

#[test]
fn rejects_mapped_frames_that_overlap_or_lie_outside() {
    // The first payload ends at 272.
    let error = rejected(&mapped([256, 271]));
    assert!(error.to_string().starts_with("chunk 1 at byte 271: "), "{error}");
    assert!(error.to_string().contains("which ends at byte 272"), "{error}");
    assert_eq!(opened(&mapped([256, 272])).frames[1].bytes, 280..284);

    for offset in [500, u64::MAX - 3, u64::MAX] {
        let FormatError::Truncated { what, start, file_len, .. } =
            rejected(&mapped_within([256, offset], 320))
        else {
            panic!("{offset}")
        };
        assert_eq!((what.as_str(), start, file_len), ("the frame of chunk 1", offset, 332));
    }
}

// Columns.

#[test]
fn rejects_missing_fields_of_columnar_headers() {
    assert_header_errors(
        Layout::V2,
        &[
            (r#""format_type":"columnar","#, "", "format_type", "is missing"),
            (r#""num_vectors":3,"#, "", "num_vectors", "is missing"),
            (r#""num_vectors":3,"columns""#, r#""num_vectors":3,"x""#, "columns", "is missing"),
            (r#""name":"id","#, "", "columns[1].name", "is missing"),
            (r#""dimension":1,"#, "", "columns[1].dimension", "is missing"),
            (r#""dtype":"int64","#, "", "columns[1].dtype", "is missing"),
            (
                r#""dtype":"int64","compression":"none""#,
                r#""dtype":"int64""#,
                "columns[1].compression",
                "is missing",
            ),
            (r#"{"rows":1,"columns""#, r#"{"rows":1,"x""#, "chunks[1].columns", "is missing"),
            (
                r#"{"rows":1,"columns":{"id""#,
                r#"{"rows":1,"columns":{"ID""#,
                "chunks[1].columns.id",
                "is missing",
            ),
            (r#""offset":2,"#, "", "chunks[1].columns.id.offset", "is missing"),
            (r#""offset":2,"size":8"#, r#""offset":2"#, "chunks[1].columns.id.size", "is missing"),
            (
                r#""id":{"compression":"none","offset":2"#,
                r#""id":{"offset":2"#,
                "chunks[1].columns.id.compression",
                "is missing",
            ),
            (r#""min":0,"scale":1e-3"#, r#""scale":1e-3"#, "chunks[0].columns.vec.min", "is missing"),
            (r#","scale":1e-3"#, "", "chunks[0].columns.vec.scale", "is missing"),
        ],
    );
}

#[test]
fn rejects_wrong_fields_of_columnar_headers() {
    let dtype = "expected a dtype that columns can have";
    let codecs = "expected one of fp16, int8, none in layout v2";
    assert_header_errors(
        Layout::V2,
        &[
            (r#""columnar""#, r#""rows""#, "format_type", "is \"rows\", expected \"columnar\""),
            (r#""columnar""#, "2", "format_type", "is 2, expected a string of valid Unicode"),
            (r#""num_vectors":3"#, r#""num_vectors":2"#, "num_vectors", "is 2, but its chunks hold 3 rows"),
            (r#"3,"columns":["#, r#"3,"columns":7,"x":["#, "columns", "is 7, expected a list"),
            (r#""name":"vec""#, r#""name":7"#, "columns[0].name", "is 7, expected a string of valid Unicode"),
            (
                r#""name":"vec""#,
                r#""name":"\udfff""#,
                "columns[0].name",
                r#"is "\udfff", expected a string of valid Unicode"#,
            ),
            (
                r#""name":"id""#,
                r#""name":"vec""#,
                "columns[1].name",
                "is \"vec\", expected a name that no other column has",
            ),
            (r#""dimension":1"#, r#""dimension":0"#, "columns[1].dimension", "is 0, expected 1 or more"),
            (
                r#""dimension":1"#,
                r#""dimension":4294967296"#,
                "columns[1].dimension",
                "is 4294967296, expected a whole number below 2^32",
            ),
            (
                r#""dtype":"int64""#,
                r#""dtype":"uint16""#,
                "columns[1].dtype",
                &format!("is \"uint16\", {dtype}"),
            ),
            (r#""dtype":"int64""#, r#""dtype":"i64""#, "columns[1].dtype", &format!("is \"i64\", {dtype}")),
            (
                r#""dtype":"int64""#,
                r#""dtype":64"#,
                "columns[1].dtype",
                "is 64, expected a string of valid Unicode",
            ),
            (
                r#""dtype":"float32","compression":"int8""#,
                r#""dtype":"float32","compression":"lossless""#,
                "columns[0].compression",
                &format!("is \"lossless\", {codecs}"),
            ),
            (
                r#""id":{"compression":"none","offset":2"#,
                r#""id":{"compression":"raw","offset":2"#,
                "chunks[1].columns.id.compression",
                &format!("is \"raw\", {codecs}"),
            ),
            (
                r#"{"rows":1,"columns":{"#,
                r#"{"rows":1,"columns":[],"x":{"#,
                "chunks[1].columns",
                "is of type array, expected an object",
            ),
            (
                r#""vec":{"compression":"int8","min":0,"scale":1,"#,
                r#""vec":3,"x":{"#,
                "chunks[1].columns.vec",
                "is 3, expected an object",
            ),
            (
                r#""offset":2"#,
                r#""offset":-2"#,
                "chunks[1].columns.id.offset",
                "is -2, expected a whole number of 0 or more",
            ),
            (
                r#""offset":2,"size":8"#,
                r#""offset":18446744073709551615,"size":8"#,
                "chunks[1].columns.id.size",
                "is 8, expected a size that a file can have",
            ),
            (
                r#""scale":1e-3"#,
                r#""scale":[]"#,
                "chunks[0].columns.vec.scale",
                "is of type array, expected a number",
            ),
        ],
    );
    let none = r#"{"format_type":"columnar","num_vectors":0,"columns":[],"chunks":[]}"#;
    let error = rejected(&versioned([2, 0], none, &[]));
    assert_eq!(error.to_string(), "the header's columns is of type array, expected at least one column");
}

#[test]
fn rejects_columns_outside_their_payload() {
    let payload_start = (12 + COLUMNAR.len() + 8 + 20 + 8) as u64;
    for (to, range) in [
        (r#""offset":3,"size":8"#, "3..11"),
        (r#""offset":11,"size":0"#, "11..11"),
        (r#""offset":0,"size":18446744073709551615"#, "0..18446744073709551615"),
    ] {
        // Short headers move the payload.
        let moved = to.len() as u64 - r#""offset":2,"size":8"#.len() as u64;
        let error = header_error(Layout::V2, r#""offset":2,"size":8"#, to);
        let FormatError::Frame { chunk, offset, problem } = &error else { panic!("{error}") };
        assert_eq!((chunk.index(), *offset), (1, payload_start + moved));
        assert_eq!(*problem, format!("the header places column \"id\" at {range} of a payload of 10 bytes"));
    }
}

// Limits.

#[test]
fn rejects_more_than_the_limits_allow() {
    let single = v0(SINGLE, &SINGLE_PAYLOADS);
    let columnar = versioned([2, 0], COLUMNAR, &COLUMNAR_PAYLOADS);
    let limits = |set: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        set(&mut limits);
        limits
    };
    let header_len = SINGLE.len() as u64;
    for (bytes, tight, exact, what, value, field) in [
        (
            &single,
            limits(&|limits: &mut Limits| limits.header_len = header_len - 1),
            limits(&|limits: &mut Limits| limits.header_len = header_len),
            "header length",
            header_len,
            "header_len",
        ),
        (
            &single,
            limits(&|limits: &mut Limits| limits.chunks = 1),
            limits(&|limits: &mut Limits| limits.chunks = 2),
            "chunk count",
            2,
            "chunks",
        ),
        (
            &single,
            limits(&|limits: &mut Limits| limits.sections = 1),
            limits(&|limits: &mut Limits| limits.sections = 2),
            "section count",
            2,
            "sections",
        ),
        (
            &columnar,
            limits(&|limits: &mut Limits| limits.arrays = 1),
            limits(&|limits: &mut Limits| limits.arrays = 2),
            "column count",
            2,
            "arrays",
        ),
    ] {
        let error = open_within(bytes, tight).unwrap_err();
        assert_eq!(error, FormatError::Limit { what, value, limit: value - 1, field });
        assert!(error.to_string().contains(&format!("raise `Limits::{field}`")), "{error}");
        assert!(open_within(bytes, exact).is_ok(), "{field}");
    }

    let error = open_within(&columnar, limits(&|limits: &mut Limits| limits.json_depth = 4)).unwrap_err();
    assert!(error.to_string().contains("at most 4 arrays and objects"), "{error}");
    assert!(open_within(&columnar, limits(&|limits: &mut Limits| limits.json_depth = 5)).is_ok());
}

// What is tolerated.

#[test]
fn unknown_keys_are_ignored_and_the_last_of_equal_keys_counts() {
    let header = edited(SINGLE, r#"{"num_vectors":3"#, r#"{"new":[{}],"num_vectors":"x","num_vectors":3"#);
    let header = edited(&header, r#""rows":1"#, r#""rows":-1,"more":null,"rows":1"#);
    assert_eq!(opened(&v0(&header, &SINGLE_PAYLOADS)).arrays[0].rows, 3);
}

#[test]
fn a_chunk_has_the_codec_it_names_or_that_of_the_file() {
    let header = edited(SINGLE, r#""rows":1,"compression":"int8","#, r#""rows":1,"compression":"fp16","#);
    let header = edited(&header, r#""rows":2,"compression":"int8","#, r#""rows":2,"#);
    let index = opened(&versioned([1, 0], &header, &SINGLE_PAYLOADS));
    let [first, second] = index.arrays[0].chunks.as_slice() else { panic!("two chunks") };
    let params = Params::Affine(AffineParams { min: -1.5, scale: 1.0 });
    assert_eq!((&*first.codec, params_of(first)), ("cvcf.int8", &params));
    assert_eq!((&*second.codec, params_of(second)), ("cvcf.fp16", &Params::None));
    assert_eq!(&*index.arrays[0].codec, "cvcf.int8");
}

#[test]
fn parameters_need_not_be_finite() {
    let index = opened(&v0(SINGLE, &SINGLE_PAYLOADS));
    let Params::Affine(params) = params_of(&index.arrays[0].chunks[1]) else { panic!("int8") };
    assert!(params.min == 0.0 && params.scale.is_nan());
    let header = edited(SINGLE, r#""min":-1.5"#, r#""min":-1e999"#);
    let index = opened(&v0(&header, &SINGLE_PAYLOADS));
    let Params::Affine(params) = params_of(&index.arrays[0].chunks[0]) else { panic!("int8") };
    assert_eq!(params.min, f64::NEG_INFINITY);
}

#[test]
fn sections_are_those_of_the_top_level() {
    // The copies in the chunks say something else, and not even a list.
    let header = edited(SINGLE, r#""rows":1"#, r#""sections":"nonsense","rows":1"#);
    let index = opened(&v0(&header, &SINGLE_PAYLOADS));
    let rows: Vec<_> = index.sections.iter().map(|section| section.rows.clone()).collect();
    assert_eq!(rows, [0..1, 1..3]);
    assert!(index.sections[1].metadata == Json::Null);
    // Metadata may be absent, and sections may be empty or leave gaps.
    let index = opened(&versioned([2, 0], COLUMNAR, &COLUMNAR_PAYLOADS));
    assert_eq!(index.sections[0].rows, 1..1);
    assert!(index.sections[0].metadata == Json::Null);
}

#[test]
fn chunk_metadata_is_kept_chunk_by_chunk() {
    let index = opened(&v0(SINGLE, &SINGLE_PAYLOADS));
    assert!(index.chunk_metadata == [Some(Json::from(vec![Json::from("x")])), None]);
    let without = edited(SINGLE, r#","metadata":["x"]"#, "");
    assert!(opened(&v0(&without, &SINGLE_PAYLOADS)).chunk_metadata.is_empty());
}

#[test]
fn files_without_rows_and_rows_without_values_open() {
    for (header, payloads, shape) in [
        (r#"{"num_vectors": 0, "dimension": 2, "compression": "fp16", "chunks": []}"#, &[][..], [0, 2]),
        (
            r#"{"num_vectors": 2, "dimension": 0, "compression": "fp16", "chunks": [{"rows": 2}]}"#,
            &[&b""[..]],
            [2, 0],
        ),
    ] {
        for bytes in [v0(header, payloads), versioned([1, 0], header, payloads)] {
            assert_eq!(opened(&bytes).arrays[0].shape(), shape);
        }
    }
}

#[test]
#[should_panic(expected = "fed after the opening was over")]
fn an_opening_that_failed_is_over() {
    let mut opening = Opening::new(16, Limits::default());
    assert!(opening.feed(&[0; 16]).is_err());
    let _ = opening.feed(&[0; 16]);
}

// What cannot be written.

fn array(name: &str, dtype: DType, dim: u32, codec: &'static str) -> ArraySpec {
    ArraySpec { name: name.into(), dtype, dim, codec }
}

fn chunk(rows: u32, lens: &[u64]) -> ChunkSpec {
    ChunkSpec { rows, parts: lens.iter().map(|len| (*len, Params::None)).collect(), metadata: None }
}

/// Asserts that these contents cannot be written, that the message names the layout, and says this.
#[track_caller]
fn assert_unwritable(contents: &Contents<'_>, problem: &str) {
    let error = contents.prefix().unwrap_err();
    let FormatError::CannotWrite { layout, problem: found } = &error else { panic!("{error}") };
    assert_eq!(*layout, contents.layout.name());
    assert!(found.contains(problem), "{error}");
    assert!(error.to_string().starts_with(&format!("layout {layout} cannot hold this: ")), "{error}");
}

#[test]
fn refuses_arrays_the_layout_cannot_hold() {
    let vectors = array("vectors", DType::F32, 2, "cvcf.fp16");
    let id = array("id", DType::I64, 1, "raw");
    let named = |layout| Contents { layout, arrays: &[], chunks: &[], sections: None };
    for layout in [Layout::V0, Layout::V1] {
        assert_unwritable(&named(layout), "one array, named \"vectors\", not []");
        let two = [vectors.clone(), id.clone()];
        assert_unwritable(
            &Contents { arrays: &two, ..named(layout) },
            "not [vectors, id]; write named arrays",
        );
        let other = [array("embeddings", DType::F32, 2, "cvcf.fp16")];
        assert_unwritable(&Contents { arrays: &other, ..named(layout) }, "not [embeddings]");
    }
    assert_unwritable(&named(Layout::V2), "at least one array");
    for (arrays, problem) in [
        (vec![array("", DType::F32, 2, "cvcf.fp16")], "must not be empty"),
        (vec![array(" \t", DType::F32, 2, "cvcf.fp16")], "must not be empty"),
        (vec![id.clone(), vectors.clone(), id.clone()], "two arrays are named \"id\""),
        (vec![array("a", DType::F32, 0, "cvcf.fp16")], "array \"a\" has rows of 0 values"),
        (vec![array("a", DType::Bf16, 2, "raw")], "array \"a\" has dtype bf16; it can say f32, f16, i32"),
        (vec![array("a", DType::F64, 2, "cvcf.fp16")], "array \"a\" has dtype f64"),
    ] {
        assert_unwritable(&Contents { arrays: &arrays, ..named(Layout::V2) }, problem);
    }
    let arrays = [vectors];
    assert_unwritable(&Contents { arrays: &arrays, ..named(Layout::V1Mmap) }, "only read; write layout v1");
}

#[test]
fn refuses_codecs_the_layout_does_not_have() {
    for (layout, codec, known) in [
        (Layout::V0, "cvcf.int8", "it has fp16, int8"),
        (Layout::V0, "cvcf.lossless", "it has fp16, int8"),
        (Layout::V1, "cvcf0.int8", "it has fp16, int8, lossless"),
        (Layout::V1, "raw", "it has fp16, int8, lossless"),
        (Layout::V2, "cvcf.lossless", "it has fp16, int8, none"),
        (Layout::V2, "fp16", "it has fp16, int8, none"),
    ] {
        let arrays = [array("vectors", DType::F32, 2, codec)];
        let contents = Contents { layout, arrays: &arrays, chunks: &[], sections: None };
        assert_unwritable(&contents, &format!("codec \"{codec}\"; {known}"));
    }
}

#[test]
fn refuses_metadata_and_rows_the_layout_cannot_hold() {
    let arrays = [array("vectors", DType::F32, 2, "cvcf.fp16")];
    let with = ChunkSpec { metadata: Some(Json::Null), ..chunk(1, &[4]) };
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        let chunks = [chunk(1, &[4]), with.clone()];
        let contents = Contents { layout, arrays: &arrays, chunks: &chunks, sections: Some(&[]) };
        assert_unwritable(&contents, "sections and chunk metadata in one file");
    }
    let contents = Contents { layout: Layout::V2, arrays: &arrays, chunks: &[with], sections: None };
    assert_unwritable(&contents, "chunk metadata; use sections");
    let contents = Contents { layout: Layout::V2, arrays: &arrays, chunks: &[], sections: None };
    assert_unwritable(&contents, "an array without rows");
}

#[test]
fn refuses_payloads_of_four_gibibytes() {
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        assert!(Contents::frame_header(layout, u64::from(u32::MAX), 0).is_ok());
        let error = Contents::frame_header(layout, 1 << 32, 0).unwrap_err();
        let FormatError::CannotWrite { layout: name, problem } = &error else { panic!("{error}") };
        assert_eq!(*name, layout.name());
        assert_eq!(
            problem,
            "a chunk of 4294967296 encoded bytes, 4294967295 are possible; use fewer rows a chunk"
        );
    }
}

// There and back.

/// The file of these contents, with payloads of zeros.
fn written(contents: &Contents<'_>) -> Vec<u8> {
    let mut file = contents.prefix().unwrap();
    for chunk in contents.chunks {
        let len = chunk.parts.iter().map(|(len, _)| len).sum();
        file.extend(Contents::frame_header(contents.layout, len, 0x0102_0304).unwrap());
        file.resize(file.len() + usize::try_from(len).unwrap(), 0);
    }
    file
}

/// Asserts that the index of what was written says what was to be written, and that it is written the same again.
#[track_caller]
fn assert_goes_round(contents: &Contents<'_>) {
    let bytes = written(contents);
    let index = opened(&bytes);
    assert_eq!((index.layout, index.trailing_len), (contents.layout, 0));
    assert_eq!(index.arrays.len(), contents.arrays.len());
    for (number, (array, spec)) in index.arrays.iter().zip(contents.arrays).enumerate() {
        assert_eq!((&array.name, array.dim, &*array.codec), (&spec.name, spec.dim, spec.codec));
        if contents.layout == Layout::V2 {
            assert_eq!(array.dtype, ArrayDType::from(spec.dtype));
        }
        let found = array.chunks.iter().map(|chunk| (chunk.row_count(), chunk.bytes.end - chunk.bytes.start));
        let expected = contents.chunks.iter().map(|chunk| (chunk.rows, chunk.parts[number].0));
        assert!(found.eq(expected));
        for (chunk, spec) in array.chunks.iter().zip(contents.chunks) {
            // NaN is not equal to itself, but looks the same.
            assert_eq!(format!("{:?}", params_of(chunk)), format!("{:?}", spec.parts[number].1));
        }
    }
    let crc32 = contents.layout.has_checksums().then_some(0x0102_0304);
    assert!(index.frames.iter().all(|frame| frame.crc32 == crc32));
    let sections = contents.sections.unwrap_or_default();
    assert_eq!(index.sections.len(), sections.len());
    for (found, section) in index.sections.iter().zip(sections) {
        assert!(found.rows == section.rows && found.metadata == section.metadata);
    }

    let chunks: Vec<ChunkSpec> =
        (0..contents.chunks.len()).map(|number| respecified(&index, number)).collect();
    let respec = |array: &ArrayIndex| ArraySpec {
        name: array.name.clone(),
        dtype: array.dtype.values().unwrap(),
        dim: array.dim,
        codec: contents.arrays.iter().find(|spec| spec.name == array.name).unwrap().codec,
    };
    let arrays: Vec<ArraySpec> = index.arrays.iter().map(respec).collect();
    let sections = contents.sections.map(|_| index.sections.as_slice());
    let again = Contents { layout: index.layout, arrays: &arrays, chunks: &chunks, sections };
    assert!(written(&again) == bytes, "written again, the file differs");
}

/// Chunk `number` of an index, to be written again.
fn respecified(index: &FileIndex, number: usize) -> ChunkSpec {
    let part = |array: &ArrayIndex| {
        let chunk = &array.chunks[number];
        (chunk.bytes.end - chunk.bytes.start, params_of(chunk).clone())
    };
    ChunkSpec {
        rows: index.arrays[0].chunks[number].row_count(),
        parts: index.arrays.iter().map(part).collect(),
        metadata: index.chunk_metadata.get(number).cloned().flatten(),
    }
}

fn affine(min: f64, scale: f64) -> Params {
    Params::Affine(AffineParams { min, scale })
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), 64).unwrap()
}

#[test]
fn what_is_written_opens_and_is_written_the_same() {
    let sections = [
        Section::new(0..0, Json::Null),
        Section::new(0..2, json(r#"{"z": 1, "a": [1e-05, true], "\ud800": 18446744073709551616}"#)),
        Section::new(2..2, json("[Infinity]")),
        Section::new(3..5, json("[]")),
    ];
    for (layout, int8) in [(Layout::V0, "cvcf0.int8"), (Layout::V1, "cvcf.int8")] {
        let fp16 = [array("vectors", DType::F32, 3, "cvcf.fp16")];
        let plain = [chunk(2, &[12]), chunk(3, &[18])];
        let base = Contents { layout, arrays: &fp16, chunks: &plain, sections: None };
        assert_goes_round(&base);
        assert_goes_round(&Contents { sections: Some(&sections), ..base.clone() });
        assert_goes_round(&Contents { sections: Some(&[]), ..base.clone() });
        assert_goes_round(&Contents { chunks: &[], ..base.clone() });
        let with_metadata: Vec<ChunkSpec> = plain
            .iter()
            .map(|chunk| ChunkSpec { metadata: Some(json(r#"{"k": "é😀", "k": -0.0}"#)), ..chunk.clone() })
            .collect();
        assert_goes_round(&Contents { chunks: &with_metadata, ..base.clone() });

        let int8 = [array("vectors", DType::F32, 1, int8)];
        let chunks = [(f64::NAN, f64::NAN), (f64::NEG_INFINITY, f64::INFINITY), (-0.0, 1.0), (0.1, 5e-324)]
            .map(|(min, scale)| ChunkSpec { rows: 1, parts: vec![(1, affine(min, scale))], metadata: None });
        assert_goes_round(&Contents { arrays: &int8, chunks: &chunks, ..base });
    }
    let lossless = [array("vectors", DType::F32, 0, "cvcf.lossless")];
    assert_goes_round(&Contents {
        layout: Layout::V1,
        arrays: &lossless,
        chunks: &[chunk(7, &[16])],
        sections: None,
    });

    let columns = [
        array("vec", DType::F16, 4, "cvcf.fp16"),
        array("a \"name\"\n", DType::F32, 2, "cvcf.int8"),
        array("id", DType::I64, 1, "raw"),
        array("x", DType::U8, 5, "raw"),
    ];
    let of_rows = |rows: u32| ChunkSpec {
        rows,
        parts: [(8, Params::None), (2, affine(-1.0, 0.25)), (8, Params::None), (5, Params::None)]
            .map(|(len, params)| (len * u64::from(rows), params))
            .to_vec(),
        metadata: None,
    };
    let base =
        Contents { layout: Layout::V2, arrays: &columns, chunks: &[of_rows(3), of_rows(2)], sections: None };
    assert_goes_round(&base);
    assert_goes_round(&Contents { sections: Some(&sections), ..base });
}

/// Copies of sections in chunks, as upstream lists them: an empty section strictly inside a chunk is there, one at
/// its border is not.
#[test]
fn chunks_list_the_sections_that_touch_them() {
    let sections = [0..0, 0..1, 1..1, 1..3, 3..3, 3..4].map(|rows| Section::new(rows, Json::Null));
    let arrays = [array("vectors", DType::F32, 1, "cvcf.fp16")];
    let chunks = [chunk(2, &[4]), chunk(1, &[2]), chunk(1, &[2])];
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        let contents = Contents { layout, arrays: &arrays, chunks: &chunks, sections: Some(&sections) };
        let index = opened(&written(&contents));
        let listed: Vec<Vec<[u64; 4]>> =
            index.header.get("chunks").and_then(Json::as_array).unwrap().iter().map(parts).collect();
        let expected =
            [vec![[0, 1, 0, 1], [1, 1, 1, 1], [1, 2, 1, 3]], vec![[0, 1, 1, 3]], vec![[0, 1, 3, 4]]];
        assert_eq!(listed, expected, "{layout}");
    }
    // Without sections in reach, v0 and v1 have an empty list and v2 has none.
    for (layout, present) in [(Layout::V0, true), (Layout::V1, true), (Layout::V2, false)] {
        let contents = Contents { layout, arrays: &arrays, chunks: &chunks, sections: Some(&sections[..2]) };
        let index = opened(&written(&contents));
        let last = &index.header.get("chunks").and_then(Json::as_array).unwrap()[2];
        assert_eq!(last.get("sections").is_some(), present, "{layout}");
    }
}

/// Of each section in a chunk: start and end within the chunk, start and end of all of it.
fn parts(chunk: &Json) -> Vec<[u64; 4]> {
    let numbers = |part: &Json| {
        ["start_in_chunk", "end_in_chunk", "section_start", "section_end"]
            .map(|key| part.get(key).and_then(Json::as_u64).unwrap())
    };
    chunk.get("sections").and_then(Json::as_array).unwrap_or_default().iter().map(numbers).collect()
}
