//! Small files of every layout and codec, and one way to do everything with a file that a reader can.
//!
//! Shared by the tests of damaged files; a folder, so that cargo does not take it for a test of its own.

use std::fmt::Write as _;

use cvc::codec::SourceError;
use cvc::{
    Array, Checksums, Condition, DType, Element, Error, Json, Layout, ReadAt, ReadOptions, Reader, RowSlice,
    Rows, VerifyReport, WriteOptions, Writer,
};

/// A sound file.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// What a file gave, all of it.
pub(crate) struct Outcome {
    pub(crate) report: VerifyReport,
    /// The values of each array as bytes, or why there are none.
    pub(crate) arrays: Vec<Result<Vec<u8>, Error>>,
    /// The same, read without comparing checksums.
    pub(crate) unchecked: Vec<Result<Vec<u8>, Error>>,
    pub(crate) found: Result<Rows, Error>,
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

/// Opens a file and does with it all that a reader can, several times over where the ways differ: from
/// memory that can be borrowed and from a source that must be copied, with checksums and without.
///
/// Fails only if the file cannot be opened. That nothing comes back that was not written is checked here:
/// what [`Array::read`] puts into zeros, [`Array::read_into`] must put into a buffer of NaNs.
pub(crate) fn everything(bytes: &[u8]) -> Result<Outcome, Error> {
    let open = |checksums, borrowing: bool| {
        let mut options = ReadOptions::default();
        options.checksums = checksums;
        let source: Box<dyn ReadAt> =
            if borrowing { Box::new(bytes.to_vec()) } else { Box::new(Copied(bytes.to_vec())) };
        Reader::new(source, options)
    };
    let reader = open(Checksums::FirstTouch, true)?;
    let copying = open(Checksums::FirstTouch, false)?;
    let careless = open(Checksums::Never, false)?;
    look_at(&reader);
    let read = |from: &Reader, into: &Reader| {
        let names: Vec<&str> = from.array_names().collect();
        let arrays = names.iter().map(|name| (from.array(name).unwrap(), into.array(name).unwrap()));
        arrays.map(|(from, into)| read_both(from, into)).collect::<Vec<_>>()
    };
    Ok(Outcome {
        report: reader.verify(),
        arrays: read(&reader, &copying),
        unchecked: read(&careless, &careless),
        found: reader.find(&[Condition::new("k", 1u64)]),
    })
}

/// All that can be said of a file without reading a payload, and whether it is what the types promise.
fn look_at(reader: &Reader) {
    let (index, len) = (reader.index(), reader.source().len());
    assert!(index.trailing_len <= len);
    for array in &index.arrays {
        assert!(array.stored_len() <= len && array.shape()[0] == array.rows);
        let mut next_row = 0;
        for (number, chunk) in array.chunks.iter().enumerate() {
            let frame = &index.frames[chunk.frame];
            assert!(frame.bytes.start <= chunk.bytes.start && chunk.bytes.end <= frame.bytes.end);
            assert!(chunk.bytes.start <= chunk.bytes.end && frame.bytes.end <= len);
            assert_eq!((chunk.rows.start, chunk.frame), (next_row, number));
            next_row = chunk.rows.end;
        }
        assert_eq!(next_row, array.rows);
    }
    let sections = reader.chunk_sections();
    for section in reader.sections().iter().chain(&sections) {
        assert!(section.rows.start <= section.rows.end && section.rows.end <= index.arrays[0].rows);
    }
    assert!(!index.header.to_string_styled(cvc::format::json::Style::Compact).is_empty());
}

fn read_both(from: Array<'_>, into: Array<'_>) -> Result<Vec<u8>, Error> {
    fn both<T: Element>(from: Array<'_>, into: Array<'_>) -> Result<Vec<u8>, Error> {
        let values = from.read::<T>(..)?;
        let expected: &[u8] = bytemuck::cast_slice(&values);
        let mut given = vec![T::zeroed(); values.len()];
        let poison: &mut [u8] = bytemuck::cast_slice_mut(&mut given);
        // A NaN in every float, and no zero in any dtype: a value left alone differs from one left at zero.
        poison.fill(0xff);
        into.read_into(.., &mut given)?;
        let given: &[u8] = bytemuck::cast_slice(&given);
        assert!(given == expected, "what is read depends on the source, or on what the buffer held");
        Ok(expected.to_vec())
    }
    match from.dtype()? {
        DType::F32 => both::<f32>(from, into),
        DType::F16 => both::<half::f16>(from, into),
        DType::I64 => both::<i64>(from, into),
        DType::I32 => both::<i32>(from, into),
        DType::I8 => both::<i8>(from, into),
        DType::U8 => both::<u8>(from, into),
        other => panic!("no CVCF file holds {other}"),
    }
}

/// A file in memory that lends nothing, as a file on a disk does.
struct Copied(Vec<u8>);

impl ReadAt for Copied {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        ReadAt::read_at(&self.0, offset, into)
    }
}
