//! How much of a file is read for what is asked: of a native file its end, the heads of the chunks wanted, once, and the
//! blocks that hold the rows wanted, each once a call; of a CVCF file the bytes wanted, and where the layout has checksums
//! the chunk they lie in, once.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use cvc::codec::SourceError;
use cvc::{
    Array, ArrayOptions, ArrayRows, Checksums, DType, Layout, ReadAt, ReadOptions, Reader, RowSlice, Scope,
    Strings, WriteOptions, Writer,
};

/// What was read: for each call to the source, the ranges it asked for.
type Calls = Vec<Vec<Range<u64>>>;

/// A file in memory that lends nothing and notes what is read.
struct Noting {
    bytes: Vec<u8>,
    calls: Arc<Mutex<Calls>>,
}

impl Noting {
    fn note(&self, ranges: &[(u64, &mut [u8])]) {
        let ranges = ranges.iter().map(|(offset, into)| *offset..*offset + into.len() as u64);
        self.calls.lock().unwrap().push(ranges.collect());
    }
}

impl ReadAt for Noting {
    fn len(&self) -> u64 {
        self.bytes.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.read_ranges(&mut [(offset, into)])
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
        self.note(ranges);
        ranges.iter_mut().try_for_each(|(offset, into)| self.bytes.read_at(*offset, into))
    }
}

/// Opens `bytes`; the function that comes with it says what has been read since it was last asked.
fn open_noting(bytes: Vec<u8>, checksums: Checksums) -> (Reader, impl Fn() -> Calls) {
    let calls = Arc::new(Mutex::new(Calls::new()));
    let mut options = ReadOptions::default();
    options.checksums = checksums;
    let source = Noting { bytes, calls: calls.clone() };
    let reader = Reader::new(Box::new(source), options).unwrap();
    (reader, move || std::mem::take(&mut *calls.lock().unwrap()))
}

/// The same, but only the bytes read are counted, and not those that opening took.
fn open(bytes: Vec<u8>, checksums: Checksums) -> (Reader, impl Fn() -> u64) {
    let (reader, since) = open_noting(bytes, checksums);
    since();
    (reader, move || since().concat().iter().map(|range| range.end - range.start).sum())
}

/// Two chunks of 100 rows: 8 halves and one whole number a row.
fn columns() -> Vec<u8> {
    let values = vec![0.5f32; 1600];
    let ids: Vec<i64> = (0..200).collect();
    let options = WriteOptions::new(Layout::V2).chunk_rows(100).unwrap();
    let options = options.array("text", DType::F32, 8, "fp16").unwrap();
    let options = options.array("ids", DType::I64, 1, "none").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&[RowSlice::new(&values, 8).unwrap(), RowSlice::new(&ids, 1).unwrap()]).unwrap();
    writer.finish_bytes().unwrap()
}

#[test]
fn without_checksums_a_column_costs_its_own_bytes_and_a_row_its_own() {
    let (reader, since) = open(columns(), Checksums::Never);
    let ids: Vec<i64> = reader.array("ids").unwrap().read(..).unwrap();
    assert_eq!((ids.len(), since()), (200, 200 * 8));
    let _: Vec<f32> = reader.array("text").unwrap().read(99..101).unwrap();
    assert_eq!(since(), 2 * 16);
}

#[test]
fn with_checksums_each_chunk_touched_is_read_once_more_and_only_once() {
    let (reader, since) = open(columns(), Checksums::FirstTouch);
    let frame = 100 * (16 + 8);
    let ids = reader.array("ids").unwrap();
    let _: Vec<i64> = ids.read(5..6).unwrap();
    assert_eq!(since(), frame + 8);
    let _: Vec<i64> = ids.read(6..7).unwrap();
    assert_eq!(since(), 8);
    // The other column of the same chunk is under the same checksum; the second chunk is not.
    let _: Vec<f32> = reader.array("text").unwrap().read(99..101).unwrap();
    assert_eq!(since(), frame + 2 * 16);
}

/// Rows of native files here, in five chunks.
const ROWS: usize = 20_000;
const DIM: usize = 96;

/// How a native file may keep them.
const KINDS: [(&str, Scope); 11] = [
    ("raw", Scope::Row),
    ("fp16", Scope::Row),
    ("bf16", Scope::Row),
    ("int8", Scope::Row),
    ("int8", Scope::Dim),
    ("int8", Scope::Chunk),
    ("int4", Scope::Row),
    ("bit1", Scope::Row),
    ("lossless", Scope::Row),
    ("zstd", Scope::Row),
    ("gzip", Scope::Row),
];

/// A native file with the array `vectors`, kept like this, and strings beside it.
fn native(codec: &str, scope: Scope) -> Vec<u8> {
    let values: Vec<f32> =
        (0..ROWS * DIM).map(|at| f32::from(u16::try_from(at * 37 % 4093).unwrap())).collect();
    let titles: Strings = (0..ROWS).map(|row| format!("title {row}")).collect();
    let options = WriteOptions::new(Layout::Native).chunk_rows(4096).unwrap();
    let array =
        ArrayOptions::values("vectors", DType::F32, &[u32::try_from(DIM).unwrap()], codec).scope(scope);
    let options =
        options.with_array(array).unwrap().with_array(ArrayOptions::strings("titles", "zstd")).unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&[ArrayRows::from(RowSlice::new(&values, DIM).unwrap()), (&titles).into()]).unwrap();
    writer.finish_bytes().unwrap()
}

/// Rows in no order, some of them more than once.
fn some_rows(count: u64) -> Vec<u64> {
    (0..count).map(|at| at * at * 7919 % ROWS as u64).collect()
}

/// The heads of the chunks that hold these rows, and their blocks, each once: computed from the index and the heads.
fn heads_and_blocks(array: Array<'_>, rows: &[u64]) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let (mut heads, mut blocks) = (Vec::new(), Vec::new());
    for chunk in array.chunks().filter(|chunk| rows.iter().any(|row| chunk.rows.contains(row))) {
        let (_, parts) = array.stored(chunk.id).unwrap();
        let start = array.index().chunks[chunk.id.index()].bytes.start;
        let first = parts.fields().first().map(|field| field.offset);
        heads.push(start..start + first.unwrap_or_else(|| parts.lanes()[0].starts[0]));
        for block in 0..parts.block_count() {
            let held = parts.rows_of(block..block + 1);
            let held = chunk.rows.start + u64::from(held.start)..chunk.rows.start + u64::from(held.end);
            if rows.iter().any(|row| held.contains(row)) {
                blocks.extend(
                    parts.ranges(block..block + 1).map(|range| start + range.start..start + range.end),
                );
            }
        }
    }
    (heads, blocks)
}

/// Sorted, with neighbours made one. None of them may share a byte with another.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end > range.start => panic!("bytes {}..{} twice", range.start, last.end),
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[test]
fn rows_of_a_native_file_cost_their_blocks_and_the_heads_of_their_chunks_and_no_other_byte() {
    for (codec, scope) in KINDS {
        let bytes = native(codec, scope);
        let known = Reader::from_bytes(bytes.clone()).unwrap();
        for (rows, checksums) in [
            (some_rows(1000), Checksums::FirstTouch),
            (some_rows(20), Checksums::FirstTouch),
            (some_rows(20), Checksums::Never),
        ] {
            let (reader, since) = open_noting(bytes.clone(), checksums);
            since();
            for name in ["vectors", "titles"] {
                let (array, known) = (reader.array(name).unwrap(), known.array(name).unwrap());
                let read = || match name {
                    "vectors" => drop(array.read::<f32>(&rows[..]).unwrap()),
                    _ => drop(array.read_strings(&rows[..]).unwrap()),
                };
                read();
                let (heads, blocks) = heads_and_blocks(known, &rows);
                // Each byte of them once, which `joined` looks at; so less than the 1.1 times that are allowed.
                let all = joined([heads, blocks.clone()].concat());
                assert_eq!(joined(since().concat()), all, "{codec} {scope:?} {name}");
                assert_eq!(known.byte_ranges(&rows[..], 0).unwrap(), all, "{codec} {scope:?} {name}");
                // Heads are known by now.
                read();
                assert_eq!(joined(since().concat()), joined(blocks), "{codec} {scope:?} {name}");
            }
        }
    }
}

#[test]
fn a_whole_native_array_costs_its_bytes_once() {
    for (codec, scope) in KINDS {
        let (reader, since) = open_noting(native(codec, scope), Checksums::FirstTouch);
        since();
        let array = reader.vectors().unwrap();
        array.read::<f32>(..).unwrap();
        let chunks = || array.index().chunks.iter().map(|chunk| chunk.bytes.clone()).collect();
        assert_eq!(joined(since().concat()), joined(chunks()), "{codec}");
        assert_eq!(array.byte_ranges(.., 0).unwrap(), joined(chunks()));
        // A prefix of the dims saves decoding and not reading.
        let (reader, since) = open_noting(native(codec, scope), Checksums::FirstTouch);
        since();
        reader.vectors().unwrap().prefix(3).unwrap().read::<f32>(..).unwrap();
        assert_eq!(joined(since().concat()), joined(chunks()), "{codec}");
    }
}

#[test]
fn a_native_file_is_opened_by_one_read_or_two_and_all_heads_come_by_one_more() {
    let bytes = native("int8", Scope::Row);
    let len = bytes.len() as u64;
    let (reader, since) = open_noting(bytes, Checksums::FirstTouch);
    assert_eq!(since(), [[0..64, len - (64 << 10)..len]]);
    let array = reader.vectors().unwrap();
    array.byte_ranges(&some_rows(100)[..], 0).unwrap();
    let heads = since();
    assert!(heads.len() == 1 && heads[0].len() == 5, "{heads:?}");
    array.read::<f32>(..).unwrap();
    let opened = heads.concat();
    assert!(
        since()
            .concat()
            .iter()
            .all(|range| opened.iter().all(|head| head.end <= range.start || range.end <= head.start))
    );

    // 2,000 chunks have 96,000 bytes in the index: a second read brings what the first did not.
    let options =
        WriteOptions::new(Layout::Native).chunk_rows(1).unwrap().vectors(DType::F32, 1, "raw").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let values: Vec<f32> = (0u16..2000).map(f32::from).collect();
    writer.write_vectors(RowSlice::new(&values, 1).unwrap()).unwrap();
    let bytes = writer.finish_bytes().unwrap();
    let len = bytes.len() as u64;
    let (reader, since) = open_noting(bytes, Checksums::FirstTouch);
    let index = 64 + reader.vectors().unwrap().index().stored_len();
    assert_eq!(since(), [vec![0..64, len - (16 << 10)..len], vec![index..len - (16 << 10)]]);
    let (reader, since) = open_noting(
        Writer::in_memory(WriteOptions::new(Layout::Native)).unwrap().finish_bytes().unwrap(),
        Checksums::FirstTouch,
    );
    assert_eq!((since().concat(), reader.arrays().len()), (vec![0..117], 0));
}

#[test]
fn ranges_with_small_gaps_are_made_one_if_that_is_asked_for() {
    let reader = Reader::from_bytes(native("fp16", Scope::Row)).unwrap();
    let array = reader.vectors().unwrap();
    let rows = some_rows(30);
    let exact = array.byte_ranges(&rows[..], 0).unwrap();
    let gaps = |ranges: &[Range<u64>]| ranges.windows(2).map(|pair| pair[1].start - pair[0].end).min();
    for gap in [1, 5000, 20_000, 100_000] {
        let merged = array.byte_ranges(&rows[..], gap).unwrap();
        assert!(gaps(&merged).is_none_or(|least| least > gap), "{merged:?}");
        let covered =
            |range: &Range<u64>| merged.iter().any(|one| one.start <= range.start && range.end <= one.end);
        assert!(exact.iter().all(covered));
        assert_eq!(merged.first().unwrap().start, exact.first().unwrap().start);
        assert_eq!(merged.last().unwrap().end, exact.last().unwrap().end);
    }
    assert_eq!(array.byte_ranges(&rows[..], u64::MAX).unwrap().len(), 1);
    assert!(array.byte_ranges(0..0, 9).unwrap().is_empty());
}

#[test]
fn of_a_cvcf_file_the_frames_are_what_rows_need() {
    let (reader, since) = open_noting(columns(), Checksums::FirstTouch);
    since();
    let ids = reader.array("ids").unwrap();
    let frame = |number: usize| reader.index().frames[number].bytes.clone();
    assert_eq!(ids.byte_ranges(5..6, 0).unwrap(), [frame(0)]);
    assert_eq!(ids.byte_ranges(&[150, 5, 199][..], 0).unwrap(), [frame(0), frame(1)]);
    assert!(since().is_empty(), "nothing is read to know that");
}
