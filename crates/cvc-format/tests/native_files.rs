//! What is written in the native layout opens to the same, and every byte of it is checked.

mod common;

use std::ops::Range;

use common::{crc32c, open_counted, open_within, to_usize};
use cvc_format::native::{
    ArraySpec, ChunkOf, ChunkParts, ChunkSpec, Contents, Head, LaneBytes, OpenChunk, encode_chunk, parse_head,
};
use cvc_format::{
    ArrayDType, ChunkId, DType, FileIndex, FormatError, Json, Layout, Limits, Loss, Section, Stored, native,
};

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), 64).unwrap()
}

fn none() -> Json {
    Json::Object(Vec::new())
}

fn array(name: &str, dtype: impl Into<ArrayDType>, inner: &[u32]) -> ArraySpec {
    ArraySpec {
        name: name.into(),
        dtype: dtype.into(),
        inner: inner.to_vec(),
        codec: "raw".into(),
        codec_options: none(),
        provenance: None,
    }
}

/// A chunk with bytes of its own.
#[derive(Clone)]
struct Chunk {
    array: u16,
    rows: u32,
    block_rows: u32,
    params: Vec<u8>,
    fields: Vec<(u32, Vec<u8>)>,
    lanes: Vec<(Vec<u8>, Vec<u32>)>,
    loss: Loss,
}

impl Chunk {
    /// Fields of these widths and lanes of streams of these lengths, filled with bytes that are all different from
    /// what stands beside them.
    fn filled(array: u16, rows: u32, block_rows: u32, widths: &[u32], lanes: &[&[u32]]) -> Chunk {
        let mut next = 0u8;
        let mut bytes = |len: u32| -> Vec<u8> {
            (0..len)
                .map(|_| {
                    next = next.wrapping_mul(5).wrapping_add(3) | 1;
                    next
                })
                .collect()
        };
        Chunk {
            array,
            rows,
            block_rows,
            params: Vec::new(),
            fields: widths.iter().map(|width| (*width, bytes(rows * width))).collect(),
            lanes: lanes.iter().map(|lens| (bytes(lens.iter().sum()), lens.to_vec())).collect(),
            loss: Loss::NONE,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<ChunkSpec, FormatError> {
        let fields: Vec<_> = self.fields.iter().map(|(width, bytes)| (*width, bytes.as_slice())).collect();
        let lanes: Vec<_> = self.lanes.iter().map(|(bytes, lens)| LaneBytes { bytes, lens }).collect();
        let Chunk { array, rows, block_rows, params, loss, .. } = self;
        let parts = ChunkParts {
            array: *array,
            rows: *rows,
            block_rows: *block_rows,
            params,
            fields: &fields,
            lanes: &lanes,
            loss: *loss,
        };
        encode_chunk(&parts, out)
    }
}

/// A whole file to be written.
struct File {
    arrays: Vec<ArraySpec>,
    rows: Vec<u64>,
    chunks: Vec<Chunk>,
    sections: Vec<Section>,
    sections_from_chunks: bool,
    metadata: Json,
}

impl File {
    fn of(arrays: Vec<ArraySpec>, rows: &[u64], chunks: Vec<Chunk>) -> File {
        let rows = rows.to_vec();
        File { arrays, rows, chunks, sections: Vec::new(), sections_from_chunks: false, metadata: none() }
    }

    fn write(&self) -> Vec<u8> {
        let mut file = Contents::prelude().to_vec();
        let chunks: Vec<ChunkSpec> =
            self.chunks.iter().map(|chunk| chunk.encode(&mut file).unwrap()).collect();
        let contents = Contents {
            arrays: &self.arrays,
            rows: &self.rows,
            chunks: &chunks,
            sections: &self.sections,
            sections_from_chunks: self.sections_from_chunks,
            metadata: &self.metadata,
        };
        file.extend(contents.suffix().unwrap());
        file
    }
}

/// However many blocks come at a time, and whatever the memory held before.
#[test]
fn a_chunk_that_comes_in_pieces_is_the_same() {
    let lanes: &[&[u32]] = &[&[5, 9, 1, 17], &[8, 2, 3, 4]];
    for (widths, lanes) in [(&[3, 1, 16][..], &[][..]), (&[7], lanes), (&[], lanes)] {
        let mut chunk = Chunk::filled(3, 37, 10, widths, lanes);
        chunk.params = vec![1, 2, 3];
        let mut expected = vec![9; 64];
        let spec = chunk.encode(&mut expected).unwrap();
        let lanes: Vec<_> = chunk.lanes.iter().map(|(bytes, lens)| LaneBytes { bytes, lens }).collect();
        let params = &chunk.params;
        let of = ChunkOf { array: 3, rows: 37, block_rows: 10, params, widths, lanes: &lanes };
        for left in [0, 64, 100, expected.len(), 2 * expected.len()] {
            for step in [10, 20, 30, 40] {
                let mut out = vec![9; 64];
                out.resize(64 + left, 0xee);
                let mut open = OpenChunk::new(&of, &mut out, 64).unwrap();
                for start in (0..37).step_by(step as usize) {
                    let end = 37.min(start + step);
                    let rows =
                        |width: u32| to_usize(u64::from(start * width))..to_usize(u64::from(end * width));
                    open.put(end - start, chunk.fields.iter().map(|(width, bytes)| &bytes[rows(*width)]));
                }
                assert_eq!(open.bytes(), &expected[64..]);
                assert_eq!(open.finish(chunk.loss), spec);
                assert_eq!(out, expected, "pieces of {step}, {left} bytes before");
            }
        }
    }
}

#[test]
#[should_panic(expected = "rows that came")]
fn a_chunk_without_its_last_rows_is_none() {
    let of = ChunkOf { array: 0, rows: 3, block_rows: 2, params: &[], widths: &[1], lanes: &[] };
    let mut out = Vec::new();
    let mut open = OpenChunk::new(&of, &mut out, 0).unwrap();
    open.put(2, [&[1u8, 2][..]].into_iter());
    open.finish(Loss::NONE);
}

#[test]
#[should_panic(expected = "rows to 1, of 3")]
fn a_part_of_a_block_is_refused() {
    let of = ChunkOf { array: 0, rows: 3, block_rows: 2, params: &[], widths: &[1], lanes: &[] };
    let mut out = Vec::new();
    OpenChunk::new(&of, &mut out, 0).unwrap().put(1, [&[1u8][..]].into_iter());
}

fn bytes_of(file: &[u8], range: Range<u64>) -> &[u8] {
    &file[to_usize(range.start)..to_usize(range.end)]
}

/// Opens everything there is to open and checks every checksum.
fn verify(file: &[u8]) -> Result<(FileIndex, Vec<Vec<Head>>), FormatError> {
    let index = open_within(file, Limits::default())?;
    let mut heads = Vec::new();
    for array in &index.arrays {
        let mut of_array = Vec::new();
        for (number, chunk) in (0..).zip(&array.chunks) {
            let Stored::Blocked(stored) = &chunk.stored else { panic!("a native chunk") };
            let bytes = bytes_of(file, chunk.bytes.clone());
            let head = parse_head(ChunkId(number), chunk, &bytes[..stored.head_len as usize])?;
            for block in 0..head.parts.block_count() {
                let covered: Vec<u8> = head
                    .parts
                    .ranges(block..block + 1)
                    .flat_map(|range| bytes_of(bytes, range))
                    .copied()
                    .collect();
                let (expected, found) = (head.parts.crcs()[block as usize], crc32c(&covered));
                if expected != found {
                    let what = format!("block {block} of chunk {number}");
                    return Err(FormatError::Checksum { what, start: 0, end: 0, expected, found });
                }
            }
            for range in head.parts.padding() {
                assert!(bytes_of(bytes, range).iter().all(|byte| *byte == 0), "padding is zero");
            }
            of_array.push(head);
        }
        heads.push(of_array);
    }
    Ok((index, heads))
}

/// Asserts that what was written is what is read, and that writing what was read gives the same bytes.
#[track_caller]
fn assert_goes_round(file: &File) {
    let bytes = file.write();
    let (index, heads) = verify(&bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((index.layout, index.trailing_len, index.frames.len()), (Layout::Native, 0, 0));
    assert_eq!(index.arrays.len(), file.arrays.len());
    for (number, (array, spec)) in index.arrays.iter().zip(&file.arrays).enumerate() {
        assert_eq!((&array.name, array.dtype, &array.inner), (&spec.name, spec.dtype, &spec.inner));
        assert_eq!((array.rows, &*array.codec, array.requires.len()), (file.rows[number], &*spec.codec, 0));
        assert_eq!(array.dim, spec.inner.iter().product::<u32>());
        // NaN is not equal to itself, but looks the same.
        assert_eq!(format!("{:?}", array.codec_options), format!("{:?}", spec.codec_options));
        assert_eq!(format!("{:?}", array.provenance), format!("{:?}", spec.provenance));
        let written: Vec<&Chunk> =
            file.chunks.iter().filter(|chunk| usize::from(chunk.array) == number).collect();
        assert_eq!(array.chunks.len(), written.len());
        for ((entry, head), chunk) in array.chunks.iter().zip(&heads[number]).zip(written) {
            let stored_bytes = bytes_of(&bytes, entry.bytes.clone());
            assert_eq!((entry.row_count(), &*head.params), (chunk.rows, chunk.params.as_slice()));
            let Stored::Blocked(stored) = &entry.stored else { panic!("a native chunk") };
            assert_eq!(format!("{:?}", stored.loss), format!("{:?}", chunk.loss));
            assert_eq!((head.parts.rows(), head.parts.block_rows()), (chunk.rows, chunk.block_rows));
            assert_eq!(head.parts.block_count(), stored.block_count(chunk.rows));
            assert_eq!(head.parts.fields().len(), chunk.fields.len());
            for (field, (width, written)) in head.parts.fields().iter().zip(&chunk.fields) {
                assert_eq!((field.width, field.offset % 64, field.end % 64), (*width, 0, 0));
                let end = field.offset + written.len() as u64;
                assert!(bytes_of(stored_bytes, field.offset..end) == written.as_slice());
            }
            assert_eq!(head.parts.lanes().len(), chunk.lanes.len());
            for (lane, (written, lens)) in head.parts.lanes().iter().zip(&chunk.lanes) {
                assert_eq!(&lane.lens, lens);
                let mut streams: Vec<u8> = Vec::new();
                for (start, len) in lane.starts.iter().zip(lens) {
                    assert_eq!(start % 16, 0);
                    streams.extend(bytes_of(stored_bytes, *start..start + u64::from(*len)));
                }
                assert!(streams == *written);
            }
        }
    }
    assert_eq!(index.sections.len(), file.sections.len());
    for (found, section) in index.sections.iter().zip(&file.sections) {
        assert_eq!(found.rows, section.rows);
        assert_eq!(format!("{:?}", found.metadata), format!("{:?}", section.metadata));
    }
    assert_eq!(index.sections_from_chunks, file.sections_from_chunks);
    assert_eq!(format!("{:?}", index.metadata), format!("{:?}", file.metadata));

    let again = File {
        arrays: index
            .arrays
            .iter()
            .map(|array| ArraySpec {
                name: array.name.clone(),
                dtype: array.dtype,
                inner: array.inner.clone(),
                codec: array.codec.to_string(),
                codec_options: array.codec_options.clone(),
                provenance: array.provenance.clone(),
            })
            .collect(),
        rows: index.arrays.iter().map(|array| array.rows).collect(),
        chunks: file.chunks.clone(),
        sections: index.sections,
        sections_from_chunks: index.sections_from_chunks,
        metadata: index.metadata,
    };
    assert!(again.write() == bytes, "written again, the file differs");
}

/// Numbers and bytes that no version may ever change.
#[test]
fn permanent_constants() {
    assert_eq!(native::SIGNATURE, [0xff, 0x0d, 0x0a, 0x1a]);
    assert_eq!(native::END_SIGNATURE, [0x1a, 0x0a, 0x0d, 0xff, 0x46, 0x43, 0x56, 0x43]);
    assert_eq!(cvc_format::cvcf::MAGIC, [0x43, 0x56, 0x43, 0x46]);
    assert_eq!(native::VERSION, (1, 0));
    assert_eq!((native::PRELUDE_LEN, native::ENTRY_LEN, native::TRAILER_LEN), (64, 48, 40));
    assert_eq!((native::ALIGN, native::STREAM_ALIGN), (64, 16));
    assert_eq!((native::MAX_BLOCK_LEN, native::MAX_ROW_LEN), (16_777_216, 2_147_483_647));
    assert_eq!(native::MAX_ARRAY_ROWS, 281_474_976_710_656);
    assert_eq!((native::MAX_INNER_RANK, native::MAX_NAME_LEN), (7, 255));
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(cvc_format::checksum::crc32c(b"123456789"), 0xe306_9283);
    let mut prelude = [0; 64];
    prelude[..16].copy_from_slice(b"CVCF\xff\x0d\x0a\x1a\x01\0\0\0\0\0\0\0");
    prelude[60..].copy_from_slice(&[0x20, 0x8c, 0xaf, 0xe1]);
    assert_eq!(Contents::prelude(), prelude);
    let names: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
    assert_eq!(names.join(" "), "i8 i16 i32 i64 u8 u16 u32 u64 f16 bf16 f32 f64 c64 c128 bool");
    assert_eq!(ArrayDType::Utf8.name(), "utf8");
}

#[test]
fn a_file_of_nothing_is_all_ends() {
    let file = File::of(Vec::new(), &[], Vec::new());
    assert_goes_round(&file);
    let bytes = file.write();
    assert_eq!(bytes.len(), 64 + br#"{"arrays":[]}"#.len() + 40);
    assert_eq!(&bytes[64..77], br#"{"arrays":[]}"#);
}

#[test]
fn odd_shapes_go_round() {
    // Rank 0 and strings.
    let scalars = vec![array("id", DType::I64, &[]), array("text", ArrayDType::Utf8, &[])];
    let chunks = vec![
        Chunk::filled(0, 3, 2, &[8], &[]),
        Chunk::filled(1, 2, 1, &[4], &[&[7, 33]]),
        Chunk::filled(0, 1, 5, &[8], &[]),
        Chunk::filled(1, 2, 2, &[], &[&[16]]),
    ];
    assert_goes_round(&File::of(scalars, &[4, 4], chunks));
    // Rank 3 inside, and seven.
    let deep = vec![array("cube", DType::F16, &[2, 3, 4]), array("seven", DType::U8, &[1, 2, 1, 1, 1, 3, 1])];
    let chunks = vec![Chunk::filled(0, 7, 3, &[48], &[]), Chunk::filled(1, 1, u32::MAX, &[6], &[])];
    assert_goes_round(&File::of(deep, &[7, 1], chunks));
    // No rows, or no values.
    let empty = vec![
        array("a", DType::F32, &[3]),
        array("b", DType::F32, &[0]),
        array("c", DType::C128, &[u32::MAX, 0, u32::MAX, u32::MAX]),
        array("d", ArrayDType::Utf8, &[]),
    ];
    assert_goes_round(&File::of(empty, &[0, u64::from(u32::MAX), 5, 0], Vec::new()));
}

#[test]
fn chunks_of_any_make_go_round() {
    let one = || vec![array("x", DType::F32, &[5])];
    for rows in [1u32, 2, 3, 16, 63, 64, 65] {
        for block_rows in [1, 2, 7, 64, 1000] {
            let blocks = rows.div_ceil(block_rows);
            for (widths, lanes) in
                [(&[1][..], 0), (&[64], 0), (&[20, 4, 4], 0), (&[], 1), (&[3], 2), (&[], 3)]
            {
                let lens: Vec<Vec<u32>> = (0..lanes)
                    .map(|lane| (0..blocks).map(|block| 1 + (block * 7 + lane * 15) % 48).collect())
                    .collect();
                let lens: Vec<&[u32]> = lens.iter().map(Vec::as_slice).collect();
                let mut chunk = Chunk::filled(0, rows, block_rows, widths, &lens);
                chunk.params = vec![0xab; (rows as usize * 3) % 70];
                assert_goes_round(&File::of(one(), &[u64::from(rows)], vec![chunk]));
            }
        }
    }
}

#[test]
fn what_is_said_of_a_file_goes_round() {
    let mut first = array("vec \"tors\"\u{200b}é", DType::F32, &[2]);
    first.codec = "a codec of the future".into();
    first.codec_options = json(r#"{"$json":[NaN],"level":3,"scope":{"\ud800":1}}"#);
    first.provenance = Some(json(r#"{"model":"m","normalised":true,"note":"\u0007\u007f\u202e","x":1e-5}"#));
    let mut second = array("b", DType::Bool, &[]);
    second.provenance = Some(none());
    second.codec_options = json(r#"{"$json":"NaN"}"#);
    let mut chunk = Chunk::filled(0, 6, 4, &[8], &[]);
    chunk.loss = Loss { max_abs_error: f32::INFINITY, mse: -0.0, min_cosine: 0.5 };
    let mut file = File::of(vec![first, second], &[6, 0], vec![chunk.clone()]);
    file.sections = vec![
        Section::new(0..0, Json::Null),
        Section::new(0..2, json(r#"{"a":[1e-05,true,1e999],"b":18446744073709551616}"#)),
        Section::new(2..2, json("[Infinity,-0,1.50]")),
        Section::new(3..6, json(r#"{"$json":{"$json":"x"}}"#)),
        Section::new(6..6, json(r#"{"k":1,"k":NaN}"#)),
    ];
    file.metadata = json(r#"{"k":"\udfff","z":{}}"#);
    assert_goes_round(&file);
    file.sections_from_chunks = true;
    file.metadata = json(r#"{"$json":1}"#);
    chunk.loss = Loss::UNKNOWN;
    file.chunks = vec![chunk];
    assert_goes_round(&file);
}

/// The keys of the user's objects are sorted, which changes no value.
#[test]
fn metadata_is_canonical() {
    let mut file = File::of(vec![array("a", DType::U8, &[])], &[0], Vec::new());
    file.metadata = json(" {\"b\": [1, 2.50], \"a\": \"\\u00e9\\/\\u007f\\u001F\"} ");
    let bytes = file.write();
    let text = r#"{"arrays":[{"codec":{"name":"raw"},"dtype":"u8","name":"a","shape":[0]}],"metadata":"#;
    let user = "{\"a\":\"é/\u{7f}\\u001f\",\"b\":[1,2.50]}}";
    assert_eq!(str::from_utf8(&bytes[64..bytes.len() - 40]), Ok(format!("{text}{user}").as_str()));
    let index = open_within(&bytes, Limits::default()).unwrap();
    assert!(index.metadata == file.metadata);
    assert_eq!(index.header.as_object().unwrap().len(), 2);
}

/// NaNs have many patterns, of which a file has one.
#[test]
fn losses_that_nobody_measured_have_one_pattern() {
    let file = |loss: f32| {
        let mut chunk = Chunk::filled(0, 1, 1, &[1], &[]);
        chunk.loss = Loss { max_abs_error: loss, mse: loss, min_cosine: loss };
        File::of(vec![array("a", DType::U8, &[])], &[1], vec![chunk]).write()
    };
    assert_eq!(file(f32::NAN), file(-f32::NAN));
    assert_eq!(file(f32::NAN), file(f32::from_bits(0x7f80_0001)));
    let bytes = file(f32::NAN);
    assert_eq!(&bytes[64 + 128 + 32..][..12], [0, 0, 0xc0, 0x7f].repeat(3));
}

/// A file in which there is some of everything, and as little as possible of each.
fn small() -> File {
    let mut arrays = vec![
        array("v", DType::F16, &[3]),
        array("text", ArrayDType::Utf8, &[]),
        array("none", DType::F32, &[0]),
    ];
    arrays[0].provenance = Some(json(r#"{"model":"m"}"#));
    let mut with_params = Chunk::filled(0, 3, 2, &[6, 1], &[]);
    with_params.params = vec![9; 5];
    let chunks = vec![
        with_params,
        Chunk::filled(1, 3, 1, &[], &[&[5, 16, 17], &[1, 2, 3]]),
        Chunk::filled(0, 2, 2, &[6], &[&[20]]),
        Chunk::filled(1, 2, 8, &[4], &[]),
    ];
    let mut file = File::of(arrays, &[5, 5, 2], chunks);
    file.sections = vec![Section::new(1..4, json(r#"{"source":"a"}"#))];
    file.metadata = json(r#"{"by":"test"}"#);
    file
}

/// Regions of a file with a checksum, or with the one value that they may have. Together they are the whole file.
#[test]
fn every_byte_is_in_exactly_one_checked_region() {
    let bytes = small().write();
    let (index, heads) = verify(&bytes).unwrap();
    let parts = common::Parts::of(&bytes);
    let file_len = bytes.len() as u64;
    let index_start = 64 + parts.chunks.len() as u64;
    let metadata_start = index_start + parts.index.len() as u64;
    let trailer = file_len - 40;
    let mut regions = vec![
        0..64,
        index_start..metadata_start,
        metadata_start..trailer,
        // The checksum and what it covers; then the mark, of which there is one.
        trailer..trailer + 32,
        trailer + 32..file_len,
    ];
    for (array, heads) in index.arrays.iter().zip(&heads) {
        for (chunk, head) in array.chunks.iter().zip(heads) {
            let Stored::Blocked(stored) = &chunk.stored else { panic!("a native chunk") };
            regions.push(chunk.bytes.start..chunk.bytes.start + u64::from(stored.head_len));
            for block in 0..head.parts.block_count() {
                let ranges = head.parts.ranges(block..block + 1);
                regions.extend(
                    ranges.map(|range| chunk.bytes.start + range.start..chunk.bytes.start + range.end),
                );
            }
        }
    }
    regions.sort_by_key(|region| region.start);
    let mut end = 0;
    for region in regions {
        assert_eq!(region.start, end, "no hole and no overlap");
        assert!(region.end > region.start);
        end = region.end;
    }
    assert_eq!(end, file_len);
}

#[test]
fn every_flipped_bit_is_found() {
    let file = small();
    assert_goes_round(&file);
    let bytes = file.write();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let Err(error) = verify(&damaged) else { panic!("bit {bit} of byte {at} is not checked") };
            assert!(!error.to_string().is_empty());
            if (8..bytes.len() - 8).contains(&at) {
                assert!(matches!(error, FormatError::Checksum { .. }), "bit {bit} of byte {at}: {error}");
            }
        }
    }
}

#[test]
fn every_truncation_is_found() {
    let bytes = small().write();
    for len in 0..bytes.len() {
        let error = open_within(&bytes[..len], Limits::default()).expect_err("cut short");
        match error {
            FormatError::NotCvc { .. } => assert!(len < 4),
            FormatError::Truncated { file_len, .. } => {
                assert!(len < 104);
                assert_eq!(file_len, len as u64);
            }
            FormatError::NoEnd { file_len } => assert_eq!(file_len, len as u64),
            other => panic!("{len}: {other}"),
        }
    }
}

#[test]
fn trailing_bytes_and_missing_middles_are_found() {
    let bytes = small().write();
    for tail in [&b"\0"[..], b"\x1a\x0a\x0d\xffFCV", &bytes] {
        assert!(open_within(&[&bytes, tail].concat(), Limits::default()).is_err());
    }
    for cut in [64..128, 64..65, 100..200] {
        let mut cut_file = bytes.clone();
        cut_file.drain(cut);
        let error = open_within(&cut_file, Limits::default()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("says that the file has {} bytes", bytes.len())),
            "{error}"
        );
    }
}

#[test]
fn opening_takes_at_most_two_steps() {
    for (count, steps) in [(0, 1), (1, 1), (300, 1), (340, 2), (1_400, 2), (10_000, 2)] {
        let chunks = vec![Chunk::filled(0, 1, 1, &[4], &[]); count];
        let bytes = File::of(vec![array("a", DType::F32, &[])], &[count as u64], chunks).write();
        let (index, taken) = open_counted(&bytes, Limits::default());
        assert_eq!((index.unwrap().arrays[0].chunks.len(), taken), (count, steps), "{count} chunks");
    }
    // Metadata that is longer than a tail.
    let mut file = small();
    for len in [10_000, 16_000, 16_384, 17_000, 200_000] {
        file.metadata = Json::object([("x", Json::from("y".repeat(len)))]);
        let (index, taken) = open_counted(&file.write(), Limits::default());
        assert!(index.unwrap().metadata == file.metadata);
        assert_eq!(taken, if len < 16_000 { 1 } else { 2 }, "{len} bytes of metadata");
    }
}

/// The tail meets each border of the file in turn.
#[test]
fn files_as_long_as_a_tail_open() {
    let mut file = small();
    file.metadata = Json::object([("x", Json::from(""))]);
    let least = file.write().len();
    let tail = to_usize(native::tail_len(0));
    for len in (tail - 50..tail + 200).step_by(1) {
        file.metadata = Json::object([("x", Json::from("y".repeat(len - least)))]);
        let bytes = file.write();
        assert_eq!(bytes.len(), len);
        let (index, taken) = open_counted(&bytes, Limits::default());
        assert!(index.unwrap().metadata == file.metadata);
        assert!((1..=2).contains(&taken));
    }
}

#[test]
fn padding_is_what_no_part_holds() {
    let bytes = small().write();
    let (index, heads) = verify(&bytes).unwrap();
    let ranges =
        |array: usize, chunk: usize| -> Vec<Range<u64>> { heads[array][chunk].parts.padding().collect() };
    // Two fields of 18 and 3 bytes after a head of 64.
    assert_eq!(ranges(0, 0), [82..128, 131..192]);
    // Streams of 5, 16, 17 and 1, 2, 3 bytes.
    assert_eq!(ranges(1, 0), [69..80, 113..128, 129..144, 146..160, 163..192]);
    assert_eq!(ranges(0, 1), [76..128, 148..192]);
    for (array, heads) in index.arrays.iter().zip(&heads) {
        for (chunk, head) in array.chunks.iter().zip(heads) {
            let held: u64 = head
                .parts
                .fields()
                .iter()
                .map(|field| u64::from(field.width) * u64::from(head.parts.rows()))
                .chain(head.parts.lanes().iter().flat_map(|lane| lane.lens.iter().map(|len| u64::from(*len))))
                .sum();
            let padding: u64 = head.parts.padding().map(|range| range.end - range.start).sum();
            let Stored::Blocked(stored) = &chunk.stored else { panic!("a native chunk") };
            assert_eq!(u64::from(stored.head_len) + held + padding, chunk.bytes.end - chunk.bytes.start);
        }
    }
}

/// Chunks can be encoded apart and put behind each other: nothing in one says where it stands.
#[test]
fn chunks_are_the_same_anywhere() {
    let chunk = &small().chunks[1];
    let (mut alone, mut behind) = (Vec::new(), vec![7; 640]);
    let spec = chunk.encode(&mut alone).unwrap();
    assert_eq!(chunk.encode(&mut behind), Ok(spec.clone()));
    assert!(behind[640..] == alone);
    assert_eq!((spec.len, spec.len % 64), (alone.len() as u64, 0));
    assert_eq!(spec.head_crc, crc32c(&alone[..spec.head_len as usize]));
}
