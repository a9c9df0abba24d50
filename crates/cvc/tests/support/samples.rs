//! Small files of every CVCF layout and codec, and what the tests of damaged files need to read them.
//!
//! Shared by the tests of damaged files; a folder, so that cargo does not take it for a test of its own.

use std::fmt::Write as _;

use cvc::{Array, DType, Element, Error, Json, Layout, Reader, RowSlice, WriteOptions, Writer};

/// A sound file.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// A file for every layout with every codec it has; sections, chunk metadata, nothing at all, are in turn.
pub(crate) fn samples() -> Vec<Sample> {
    let values: Vec<f32> = (0u8..15).map(|index| f32::from(index) * 0.75 - 5.0).collect();
    let one = |layout, codec: &str, extra: Extra| {
        let options = WriteOptions::new(layout).vectors(DType::F32, 3, codec).unwrap();
        let options = options.chunk_rows(2).unwrap();
        let options = match extra {
            Extra::ChunkMetadata => options.chunk_metadata(vec![json("{\"k\": 1}"), Json::Null, json("[1]")]),
            _ => options,
        };
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write_vectors(RowSlice::new(&values, 3).unwrap()).unwrap();
        if matches!(extra, Extra::Sections) {
            writer.add_section(0..3, json("{\"k\": 1, \"s\": \"\\ud800\"}")).unwrap();
            writer.add_section(4..5, json("{\"k\": 1.0}")).unwrap();
        }
        writer.finish_bytes().unwrap()
    };
    let sample = |name, bytes| Sample { name, bytes };
    vec![
        sample("v0 fp16 with sections", one(Layout::V0, "fp16", Extra::Sections)),
        sample("v0 int8 with chunk metadata", one(Layout::V0, "int8", Extra::ChunkMetadata)),
        sample("v1 fp16 with chunk metadata", one(Layout::V1, "fp16", Extra::ChunkMetadata)),
        sample("v1 int8 with sections", one(Layout::V1, "int8", Extra::Sections)),
        sample("v1 lossless", one(Layout::V1, "lossless", Extra::None)),
        sample("v1 mmap", mapped(&one(Layout::V1, "fp16", Extra::None))),
        sample("v2 with columns", columns()),
        sample("v0 without rows", empty(Layout::V0, "int8", 7, 0)),
        sample("v1 with rows of no values", empty(Layout::V1, "fp16", 0, 3)),
    ]
}

#[derive(Clone, Copy)]
enum Extra {
    None,
    Sections,
    ChunkMetadata,
}

/// Four columns of several dtypes and all codecs, in two chunks.
fn columns() -> Vec<u8> {
    let options = WriteOptions::new(Layout::V2).chunk_rows(2).unwrap();
    let options = options
        .array("a", DType::F32, 2, "fp16")
        .and_then(|options| options.array("b", DType::F32, 1, "int8"))
        .and_then(|options| options.array("id", DType::I64, 1, "none"))
        .and_then(|options| options.array("tag", DType::U8, 2, "none"))
        .unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let rows = [
        RowSlice::new(&[1.0f32, -2.0, 0.5, 3.0, 8.0, -0.0], 2).unwrap(),
        RowSlice::new(&[0.25f32, 100.0, -7.0], 1).unwrap(),
        RowSlice::new(&[i64::MIN, -1, 1 << 40], 1).unwrap(),
        RowSlice::new(&[1u8, 2, 3, 4, 255, 0], 2).unwrap(),
    ];
    writer.write(&rows).unwrap();
    writer.add_section(1..2, json("{\"k\": 1}")).unwrap();
    writer.finish_bytes().unwrap()
}

fn empty(layout: Layout, codec: &str, dim: usize, rows: usize) -> Vec<u8> {
    let dim_of_file = u32::try_from(dim).unwrap();
    let options = WriteOptions::new(layout).vectors(DType::F32, dim_of_file, codec).unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write_vectors(RowSlice::from_bytes(DType::F32, rows, dim, &[]).unwrap()).unwrap();
    writer.finish_bytes().unwrap()
}

/// A v1 file with its frames moved apart, as the mapped layout has them. Upstream puts frames on multiples
/// of 4,096 bytes, which would make this mostly zeros; readers go by the offsets.
fn mapped(v1: &[u8]) -> Vec<u8> {
    const STEP: usize = 64;
    let reader = Reader::from_bytes(v1.to_vec()).unwrap();
    let index = reader.index();
    let first = 512;
    let (mut chunks, mut frames) = (String::new(), Vec::new());
    for (frame, chunk) in index.frames.iter().zip(&index.arrays[0].chunks) {
        let start = usize::try_from(frame.bytes.start).unwrap() - 8;
        frames.resize(frames.len().next_multiple_of(STEP), 0);
        let comma = if chunks.is_empty() { "" } else { "," };
        let (offset, rows) = (first + frames.len(), chunk.row_count());
        write!(chunks, "{comma}{{\"file_offset\":{offset},\"rows\":{rows}}}").unwrap();
        frames.extend(&v1[start..usize::try_from(frame.bytes.end).unwrap()]);
    }
    let header = format!(
        "{{\"chunks\":[{chunks}],\"compression\":\"fp16\",\"dimension\":3,\"mmap_optimized\":true,\
         \"num_vectors\":5}}"
    );
    let mut bytes = versioned(1, &header);
    assert!(bytes.len() <= first);
    bytes.resize(first, 0);
    bytes.extend(frames);
    bytes
}

/// Magic, version `major`.0, length and text of a header.
pub(crate) fn versioned(major: u8, header: &str) -> Vec<u8> {
    let mut bytes = b"CVCF".to_vec();
    bytes.extend([major, 0, 0, 0]);
    bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.bytes());
    bytes
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), 64).unwrap()
}

/// Where the header of a sound file ends.
pub(crate) fn header_end(bytes: &[u8]) -> usize {
    let at = if bytes[8] == b'{' { 4 } else { 8 };
    at + 4 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// What is done with the values of an array once their type is known.
pub(crate) trait ForType {
    fn call<T: Element>(self) -> Result<Vec<u8>, Error>;
}

/// Does `what` with the type of the values that `array` gives.
pub(crate) fn with_type(array: Array<'_>, what: impl ForType) -> Result<Vec<u8>, Error> {
    match array.dtype()? {
        DType::F32 => what.call::<f32>(),
        DType::F16 => what.call::<half::f16>(),
        DType::I64 => what.call::<i64>(),
        DType::I32 => what.call::<i32>(),
        DType::I8 => what.call::<i8>(),
        DType::U8 => what.call::<u8>(),
        other => panic!("no CVCF file holds {other}"),
    }
}
