//! What a repair saves of a damaged file: every row whose bytes are whole, bit for bit and beside the rows it belongs to,
//! with all that was said of it.

#[path = "support/native_samples.rs"]
mod native_samples;
#[path = "support/reading.rs"]
mod reading;

use std::ops::Range;

use cvc::format::json::Style;
use cvc::format::{ChunkId, Stored};
use cvc::{
    Array, ArrayOptions, ArrayRows, Condition, DType, Json, Layout, Lost, Overwrite, ReadOptions, Reader,
    RepairReport, RowSlice, Strings, WriteOptions, Writer,
};
use proptest::prelude::*;

use native_samples::native_samples;
use reading::{ByteRows, Copied, read_rows};

/// Rows of the columns, in six chunks of them.
const ROWS: usize = 100;
const CHUNK_ROWS: u32 = 17;

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), 64).unwrap()
}

/// Vectors, ids, labels, and an array with fewer rows; blocks of each end elsewhere.
fn table() -> Vec<u8> {
    let vectors: Vec<f32> =
        (0..ROWS * 6).map(|at| f32::from(u16::try_from(at * 611 % 997).unwrap()) * 0.37).collect();
    let ids: Vec<i64> = (0..ROWS).map(|row| i64::try_from(row).unwrap() << 33).collect();
    let labels: Strings = (0..ROWS).map(|row| format!("label {row}")).collect();
    let of = |name, dtype, inner: &[u32], codec| ArrayOptions::values(name, dtype, inner, codec);
    let options = WriteOptions::new(Layout::Native)
        .chunk_rows(CHUNK_ROWS)
        .and_then(|options| options.metadata(json("{\"made\":\"by hand\",\"odd\":NaN}")))
        .and_then(|options| {
            options.with_array(
                of("vectors", DType::F32, &[2, 3], "int8")
                    .block_rows(4)
                    .provenance(json("{\"model\":\"m\"}")),
            )
        })
        .and_then(|options| options.with_array(of("ids", DType::I64, &[], "raw").block_rows(5)))
        .and_then(|options| options.with_array(ArrayOptions::strings("labels", "zstd").block_rows(3)))
        .unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let rows: [ArrayRows<'_>; 3] = [
        RowSlice::new(&vectors, 6).unwrap().into(),
        RowSlice::new(&ids, 1).unwrap().into(),
        (&labels).into(),
    ];
    writer.write(&rows).unwrap();
    for (number, rows) in [0..10, 10..11, 30..60, 61..64, 99..100].into_iter().enumerate() {
        writer.add_section(rows, Json::object([("number", Json::from(number as u64))])).unwrap();
    }
    writer
        .attach(
            of("centroids", DType::F32, &[5], "lossless").block_rows(2),
            RowSlice::new(&vectors[..100], 5).unwrap(),
        )
        .unwrap();
    writer.finish_bytes().unwrap()
}

/// A place to damage.
#[derive(Clone, Copy, Debug)]
enum Place {
    Head,
    Block(u32),
}

/// The bytes of a place, and the rows that are lost with them.
fn bytes_and_rows(array: Array<'_>, chunk: ChunkId, place: Place) -> (Vec<Range<u64>>, Range<u64>) {
    let entry = &array.index().chunks[chunk.index()];
    let Stored::Blocked(blocked) = entry.stored else { panic!("not of a native file") };
    match place {
        Place::Head => {
            (vec![entry.bytes.start..entry.bytes.start + u64::from(blocked.head_len)], entry.rows.clone())
        }
        Place::Block(block) => {
            let (_, parts) = array.stored(chunk).unwrap();
            let bytes = parts.ranges(block..block + 1);
            let rows = parts.rows_of(block..block + 1);
            let bytes =
                bytes.map(|range| entry.bytes.start + range.start..entry.bytes.start + range.end).collect();
            (bytes, entry.rows.start + u64::from(rows.start)..entry.rows.start + u64::from(rows.end))
        }
    }
}

/// Repairs a file that lends nothing.
fn repair(bytes: Vec<u8>) -> (RepairReport, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    let reader = Reader::new(Box::new(Copied(bytes)), ReadOptions::default()).unwrap();
    let report = reader.repair(&path, Overwrite::Refuse).unwrap();
    let repaired = std::fs::read(&path).unwrap();
    assert_eq!(report.written.file_len, repaired.len() as u64);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    (report, repaired)
}

/// The numbers in these lists of ranges, each once, as ranges that neither touch nor overlap.
fn union(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut rows: Vec<u64> = ranges.into_iter().flatten().collect();
    rows.sort_unstable();
    rows.dedup();
    rows.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1).collect()
}

/// The rows of a list that are not in `lost`.
fn without(rows: &ByteRows, lost: &[Range<u64>]) -> ByteRows {
    let kept = (0u64..).zip(rows).filter(|(row, _)| !lost.iter().any(|lost| lost.contains(row)));
    kept.map(|(_, bytes)| bytes.clone()).collect()
}

/// Sections as they should be when rows `lost` are gone: those that have rows left.
fn sections_without(reader: &Reader, lost: &[Range<u64>]) -> Vec<(Range<u64>, String)> {
    let is_kept = |row: &u64| !lost.iter().any(|lost| lost.contains(row));
    let moved = |row: u64| (0..row).filter(is_kept).count() as u64;
    let sections = reader.sections().iter().map(|section| {
        let text = section.metadata.to_string_styled(Style::Canonical);
        (moved(section.rows.start)..moved(section.rows.end), text, section.rows.is_empty())
    });
    sections
        .filter(|(rows, _, was_empty)| *was_empty || !rows.is_empty())
        .map(|(rows, text, _)| (rows, text))
        .collect()
}

fn sections(reader: &Reader) -> Vec<(Range<u64>, String)> {
    let text = |json: &Json| json.to_string_styled(Style::Canonical);
    reader.sections().iter().map(|section| (section.rows.clone(), text(&section.metadata))).collect()
}

/// Damages the places, repairs the file, and looks at everything.
fn check(bytes: &[u8], places: &[(usize, ChunkId, Place)], flips: &[usize]) {
    let sound = Reader::from_bytes(bytes.to_vec()).unwrap();
    let arrays: Vec<Array<'_>> = sound.arrays().collect();
    let mut damaged = bytes.to_vec();
    let mut lost: Vec<Vec<Range<u64>>> = vec![Vec::new(); arrays.len()];
    for ((array, chunk, place), flip) in places.iter().zip(flips.iter().cycle()) {
        let (ranges, rows) = bytes_and_rows(arrays[*array], *chunk, *place);
        let all: Vec<u64> = ranges.into_iter().flatten().collect();
        // Another bit of a byte that was hit already would undo nothing, but the same one would.
        damaged[usize::try_from(all[flip % all.len()]).unwrap()] |= 0x80;
        damaged[usize::try_from(all[(flip + 1) % all.len()]).unwrap()] = 0x5a;
        lost[*array].push(rows);
    }
    // A byte may have been what it was made: then nothing is lost there, and checksums say so.
    let report = Reader::from_bytes(damaged.clone()).unwrap().verify().unwrap();
    for (array, lost) in arrays.iter().zip(&mut lost) {
        let found = report.damage.iter().filter(|damage| damage.array == array.index().name);
        let found = union(found.map(|damage| damage.rows.clone()));
        assert!(found.iter().cloned().flatten().all(|row| lost.iter().any(|lost| lost.contains(&row))));
        *lost = found;
    }
    let (report, repaired) = repair(damaged);
    let reader = Reader::from_bytes(repaired).unwrap();
    assert!(reader.verify().unwrap().is_ok());

    let of_first = |array: &Array<'_>| array.rows() == arrays[0].rows();
    let pairs = || arrays.iter().zip(&lost);
    let dropped = union(pairs().filter(|(array, _)| of_first(array)).flat_map(|(_, lost)| lost.clone()));
    let expected = pairs().filter(|(_, lost)| !lost.is_empty());
    let found: Vec<(&str, &[Range<u64>])> =
        report.lost.iter().map(|Lost { array, rows, .. }| (array.as_str(), rows.as_slice())).collect();
    let expected: Vec<(&str, &[Range<u64>])> =
        expected.map(|(array, lost)| (array.index().name.as_str(), lost.as_slice())).collect();
    assert_eq!((found, &report.dropped), (expected, &dropped));

    assert_eq!(reader.array_names().collect::<Vec<_>>(), sound.array_names().collect::<Vec<_>>());
    for ((array, from), lost) in reader.arrays().zip(&arrays).zip(&lost) {
        let gone = if of_first(from) { &dropped } else { lost };
        assert!(read_rows(array, .., 1).unwrap() == without(&read_rows(*from, .., 2).unwrap(), gone));
        assert_eq!((array.index().dtype, &array.index().inner), (from.index().dtype, &from.index().inner));
        said_is_kept(array, *from);
    }
    assert_eq!(sections(&reader), sections_without(&sound, &dropped));
    let text = |reader: &Reader| reader.index().metadata.to_string_styled(Style::Canonical);
    assert_eq!(text(&reader), text(&sound));
}

/// What the index says of an array beside its rows. The loss of a chunk of which rows are gone is unknown.
fn said_is_kept(array: Array<'_>, from: Array<'_>) {
    let text = |json: &Json| json.to_string_styled(Style::Canonical);
    let (index, of_from) = (array.index(), from.index());
    assert_eq!((&index.codec, text(&index.codec_options)), (&of_from.codec, text(&of_from.codec_options)));
    assert_eq!(index.provenance.as_ref().map(text), of_from.provenance.as_ref().map(text));
    for chunk in &index.chunks {
        let Stored::Blocked(blocked) = chunk.stored else { panic!("not of a native file") };
        let known = of_from.chunks.iter().any(|chunk| {
            matches!(&chunk.stored, Stored::Blocked(other) if other.block_rows == blocked.block_rows && (other.loss == blocked.loss || blocked.loss.mse.is_nan()))
        });
        assert!(known, "{blocked:?}");
    }
}

/// Every head and every block of a file.
fn places(bytes: &[u8]) -> Vec<(usize, ChunkId, Place)> {
    let reader = Reader::from_bytes(bytes.to_vec()).unwrap();
    let mut places = Vec::new();
    for (number, array) in reader.arrays().enumerate() {
        for chunk in array.chunks() {
            places.push((number, chunk.id, Place::Head));
            let blocks = array.stored(chunk.id).unwrap().1.block_count();
            places.extend((0..blocks).map(|block| (number, chunk.id, Place::Block(block))));
        }
    }
    places
}

#[test]
fn each_block_and_each_head_costs_its_rows_and_no_others() {
    let bytes = table();
    for place in places(&bytes) {
        check(&bytes, &[place], &[7]);
    }
    for sample in native_samples() {
        for place in places(&sample.bytes) {
            check(&sample.bytes, &[place], &[3]);
        }
    }
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_is_damaged_the_rest_is_saved(
        chosen in proptest::collection::vec((any::<prop::sample::Index>(), any::<u16>()), 1..40),
    ) {
        let bytes = table();
        let all = places(&bytes);
        let places: Vec<_> = chosen.iter().map(|(index, _)| all[index.index(all.len())]).collect();
        let flips: Vec<usize> = chosen.iter().map(|(_, flip)| usize::from(*flip)).collect();
        check(&bytes, &places, &flips);
    }
}

#[test]
fn a_file_of_which_everything_is_lost_becomes_one_without_rows() {
    let bytes = table();
    let all: Vec<_> =
        places(&bytes).into_iter().filter(|(_, _, place)| matches!(place, Place::Head)).collect();
    check(&bytes, &all, &[1]);
}

#[test]
fn a_sound_file_is_repaired_to_the_same() {
    for sample in native_samples() {
        let (report, repaired) = repair(sample.bytes.clone());
        assert!(report.lost.is_empty() && report.dropped.is_empty(), "{}", sample.name);
        check(&sample.bytes, &[], &[0]);
        // Chunks go array by array, which is another order only where arrays have several in turn.
        let sound = Reader::from_bytes(sample.bytes.clone()).unwrap();
        let starts =
            sound.arrays().flat_map(|array| array.index().chunks.iter().map(|chunk| chunk.bytes.start));
        if starts.is_sorted() {
            assert!(repaired == sample.bytes, "{}", sample.name);
        }
        assert_eq!(repaired.len(), sample.bytes.len(), "{}", sample.name);
        assert!(repair(repaired.clone()).1 == repaired, "{}", sample.name);
    }
}

/// A file of a layout with checksums of chunks: ten rows in chunks of three.
fn cvcf(layout: Layout, codec: &str, sections: bool) -> Vec<u8> {
    let values: Vec<f32> = (0u8..20).map(|at| f32::from(at) * 0.75 - 4.0).collect();
    let ids: Vec<i64> = (0..10).collect();
    let rows = [RowSlice::new(&values, 2).unwrap(), RowSlice::new(&ids, 1).unwrap()];
    let options = WriteOptions::new(layout).chunk_rows(3).unwrap().vectors(DType::F32, 2, codec).unwrap();
    let (options, rows) = match layout {
        Layout::V2 => (options.array("ids", DType::I64, 1, "none").unwrap(), &rows[..]),
        _ => (options, &rows[..1]),
    };
    let options = match (layout, sections) {
        (Layout::V1, false) => options.chunk_metadata((0u64..4).map(Json::from).collect()),
        _ => options,
    };
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(rows).unwrap();
    if sections {
        for (rows, text) in [(0..2, "{\"k\":1}"), (2..7, "{\"k\":2}"), (7..9, "{\"k\":1}")] {
            writer.add_section(rows, json(text)).unwrap();
        }
    }
    writer.finish_bytes().unwrap()
}

#[test]
fn a_damaged_chunk_of_a_cvcf_file_is_left_out() {
    for (layout, codec) in [
        (Layout::V1, "fp16"),
        (Layout::V1, "int8"),
        (Layout::V1, "lossless"),
        (Layout::V2, "fp16"),
        (Layout::V2, "int8"),
        (Layout::V2, "none"),
    ] {
        for sections in [false, true] {
            let bytes = cvcf(layout, codec, sections);
            let sound = Reader::from_bytes(bytes.clone()).unwrap();
            for (number, frame) in sound.index().frames.iter().enumerate() {
                let context = format!("{layout} {codec} chunk {number}");
                let mut damaged = bytes.clone();
                damaged[usize::try_from(frame.bytes.start + 1).unwrap()] ^= 4;
                let (report, repaired) = repair(damaged);
                let gone = [sound.index().arrays[0].chunks[number].rows.clone()];
                assert_eq!(report.dropped, gone, "{context}");
                // A frame has rows of every array.
                assert!(
                    report.lost.len() == sound.arrays().len()
                        && report.lost.iter().all(|lost| lost.rows == gone)
                );
                let reader = Reader::from_bytes(repaired).unwrap();
                assert!(reader.verify().unwrap().is_ok() && reader.layout() == layout);
                for (array, from) in reader.arrays().zip(sound.arrays()) {
                    assert_eq!(
                        read_rows(array, .., 1).unwrap(),
                        without(&read_rows(from, .., 2).unwrap(), &gone),
                        "{context}"
                    );
                }
                assert_eq!(self::sections(&reader), sections_without(&sound, &gone), "{context}");
                let left = |of: &Reader| {
                    of.index().chunk_metadata.iter().flatten().filter_map(Json::as_u64).collect::<Vec<_>>()
                };
                let expected: Vec<u64> =
                    left(&sound).into_iter().filter(|chunk| *chunk != number as u64).collect();
                assert_eq!(left(&reader), expected, "{context}");
                if sections {
                    reader.find(&[Condition::new("k", 1u64)]).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_sound_cvcf_file_is_repaired_to_the_same_bytes() {
    for (layout, codec) in [
        (Layout::V0, "fp16"),
        (Layout::V0, "int8"),
        (Layout::V1, "fp16"),
        (Layout::V1, "int8"),
        (Layout::V1, "lossless"),
        (Layout::V2, "fp16"),
        (Layout::V2, "int8"),
        (Layout::V2, "none"),
    ] {
        for sections in [false, true] {
            let bytes = cvcf(layout, codec, sections);
            let (report, repaired) = repair(bytes.clone());
            assert!(report.lost.is_empty() && report.dropped.is_empty());
            assert!(repaired == bytes, "{layout} {codec}");
        }
    }
    let manifest = cvc_conformance::golden::Manifest::decompressed("2.1.1");
    let mapped = std::fs::read(manifest.path("mmap_fp16.cvc")).unwrap();
    let (report, repaired) = repair(mapped.clone());
    assert!(report.dropped.is_empty());
    let (reader, sound) = (Reader::from_bytes(repaired).unwrap(), Reader::from_bytes(mapped).unwrap());
    assert_eq!(reader.layout(), Layout::V1);
    assert_eq!(
        read_rows(reader.vectors().unwrap(), .., 1).unwrap(),
        read_rows(sound.vectors().unwrap(), .., 2).unwrap()
    );
}

#[test]
fn a_chunk_that_would_have_to_be_encoded_again_with_a_loss_is_refused() {
    // One chunk is lossless in a file of halves, which nobody writes and everybody reads.
    let original = cvcf(Layout::V1, "lossless", true);
    let halves = cvcf(Layout::V1, "fp16", true);
    let header_end = |bytes: &[u8]| 12 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let header = String::from_utf8(original[12..header_end(&original)].to_vec()).unwrap();
    let name = "\"compression\":\"lossless\"";
    assert_eq!(header.matches(name).count(), 5, "four chunks and the file");
    let header = header.replacen(name, "\"compression\":\"fp16\"", 1);
    let header = header.replace("],\"compression\":\"lossless\"", "],\"compression\":\"fp16\"");
    let frame = |bytes: &[u8], chunk: usize| {
        let frame = Reader::from_bytes(bytes.to_vec()).unwrap().index().frames[chunk].clone();
        bytes[usize::try_from(frame.bytes.start).unwrap() - 8..usize::try_from(frame.bytes.end).unwrap()]
            .to_vec()
    };
    let mut bytes = original[..8].to_vec();
    bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(frame(&halves, 0));
    (1..4).for_each(|chunk| bytes.extend(frame(&original, chunk)));
    let reader = Reader::from_bytes(bytes).unwrap();
    assert!(reader.verify().unwrap().is_ok());
    let directory = tempfile::tempdir().unwrap();
    let error = reader.repair(directory.path().join("x.cvc"), Overwrite::Refuse).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("chunk 1 is cvcf.lossless") && message.contains("layout native"), "{message}");
    // As a native file nothing is lost.
    let path = directory.path().join("n.cvc");
    reader.convert(&path, Layout::Native, Overwrite::Refuse).unwrap();
    let native = Reader::open(&path).unwrap();
    assert_eq!(
        read_rows(native.vectors().unwrap(), .., 1).unwrap(),
        read_rows(reader.vectors().unwrap(), .., 2).unwrap()
    );
}

#[test]
fn golden_files_are_repaired_to_the_same_bytes() {
    for version in cvc_conformance::golden::DECOMPRESSED {
        let manifest = cvc_conformance::golden::Manifest::decompressed(version);
        for entry in
            manifest.entries.iter().filter(|entry| entry.pack_error.is_none() && !entry.file.contains("mmap"))
        {
            let bytes = std::fs::read(manifest.path(&entry.file)).unwrap();
            assert!(repair(bytes.clone()).1 == bytes, "{version} {}", entry.file);
        }
    }
}

/// Two arrays of ten rows in blocks of two, the second of no values; a byte of block 2 of the first is wrong.
fn damaged_pair() -> Vec<u8> {
    let values: Vec<f32> = (0u8..30).map(|n| f32::from(n).sqrt()).collect();
    let options = WriteOptions::new(Layout::Native)
        .with_array(ArrayOptions::values("v", DType::F32, &[3], "int8").block_rows(2))
        .and_then(|options| options.with_array(ArrayOptions::values("z", DType::F32, &[0], "raw")))
        .unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let empty = RowSlice::from_bytes(DType::F32, 10, 0, &[]).unwrap();
    writer.write(&[RowSlice::new(&values, 3).unwrap(), empty]).unwrap();
    let mut bytes = writer.finish_bytes().unwrap();
    let entry = Reader::from_bytes(bytes.clone()).unwrap().index().arrays[0].chunks[0].clone();
    let Stored::Blocked(blocked) = entry.stored else { panic!("native") };
    bytes[usize::try_from(entry.bytes.start).unwrap() + blocked.head_len as usize + 2 * 2 * 3] ^= 1;
    bytes
}

#[test]
fn without_checksums_nothing_damaged_is_copied_either() {
    let mut options = ReadOptions::default();
    options.checksums = cvc::Checksums::Never;
    let reader = Reader::new(Box::new(damaged_pair()), options).unwrap();
    assert_eq!(reader.array("v").unwrap().lost_rows(&[0..10]).unwrap(), [4..6]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repaired.cvc");
    let report = reader.repair(&path, Overwrite::Refuse).unwrap();
    assert_eq!((report.dropped, report.written.rows), (vec![4..6], 8));
    let repaired = Reader::open(&path).unwrap();
    assert_eq!(repaired.array("z").unwrap().index().shape(), [8, 0]);
    let Stored::Blocked(blocked) = repaired.index().arrays[0].chunks[0].stored else { panic!("native") };
    assert!(blocked.loss.mse.is_nan(), "it was measured of rows that are gone, too");
}

#[test]
fn what_is_lost_is_asked_of_rows_that_exist_and_of_the_right_dtype() {
    let reader = Reader::from_bytes(damaged_pair()).unwrap();
    let array = reader.array("v").unwrap();
    assert!(array.lost_rows(&[3..11]).unwrap_err().is_usage());
    for on_damage in [cvc::OnDamage::Skip, cvc::OnDamage::Fill] {
        assert!(array.salvage::<i64>(4..6, on_damage).unwrap_err().is_usage());
        assert!(array.salvage_strings(4..6, on_damage).unwrap_err().is_usage());
    }
    let filled = array.salvage::<f32>(5..7, cvc::OnDamage::Fill).unwrap();
    assert!(filled.values[..3].iter().all(|value| value.is_nan()) && !filled.values[3].is_nan());
    assert_eq!(filled.lost, [5..6]);
}
