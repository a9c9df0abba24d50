//! What damage may do to a reader, and what it may not.
//!
//! A file that was cut at any byte, or in which any bit was flipped, gives
//!
//! - an error that names what is wrong and where, or
//! - a value: the right one, or in what no checksum covers (all of a v0 file, the headers of v1 and v2) another,
//!
//! and never a panic, and never memory that nobody wrote. A flip in a payload that has a checksum is found by
//! [`Reader::verify`] and by every read of its chunk, and harms no other chunk. (That no allocation grows with
//! a number that the file has not earned is the promise of `allocations.rs`.)

#[path = "support/samples.rs"]
mod samples;

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cvc::{
    Array, Checksums, Condition, DType, Element, Error, Layout, ReadAt, ReadOptions, Reader, RowSlice, Rows,
    VerifyReport, WriteOptions, Writer,
};
use cvc_conformance::golden::Manifest;

use samples::{Copied, ForType, header_end, samples, with_type};

#[test]
fn sound_files_are_read_and_found_sound() {
    for sample in samples() {
        let outcome = everything(&sample.bytes).unwrap();
        assert!(outcome.report.is_ok(), "{}: {:?}", sample.name, outcome.report);
        for (checked, unchecked) in outcome.arrays.iter().zip(&outcome.unchecked) {
            assert_eq!(checked.as_ref().unwrap(), unchecked.as_ref().unwrap(), "{}", sample.name);
        }
        let says_something = sample.name.contains("sections") || sample.name.contains("metadata");
        assert_eq!(
            outcome.found.is_ok(),
            says_something || sample.name.contains("columns"),
            "{}",
            sample.name
        );
    }
}

#[test]
fn a_file_cut_at_any_byte_is_an_error_on_opening() {
    for sample in samples() {
        every_cut_is_refused(sample.name, &sample.bytes);
    }
}

#[test]
fn any_bit_flipped_is_never_a_panic_and_payload_damage_is_always_found() {
    for sample in samples() {
        every_flip_is_survived(sample.name, &sample.bytes);
    }
}

#[test]
fn any_bit_of_upstreams_mapped_file_may_be_flipped() {
    let manifest = Manifest::decompressed("2.1.1");
    let bytes = std::fs::read(manifest.path("mmap_fp16.cvc")).unwrap();
    every_cut_is_refused("mmap_fp16.cvc", &bytes);
    every_flip_is_survived("mmap_fp16.cvc", &bytes);
}

#[test]
fn any_byte_of_a_header_may_be_any_that_means_something_in_json() {
    for sample in samples() {
        for at in 0..header_end(&sample.bytes) {
            for byte in *b"0123456789-+.eE\"\\{}[]:, aNItf\0\xff" {
                let mut damaged = sample.bytes.clone();
                damaged[at] = byte;
                let what = || format!("{}, byte {at} as {:?}", sample.name, char::from(byte));
                outcome_is_fair(&damaged, &what);
            }
        }
    }
}

#[test]
fn bytes_after_the_last_chunk_change_nothing_and_are_reported() {
    for sample in samples() {
        let mut longer = sample.bytes.clone();
        longer.extend([0; 5]);
        let (sound, outcome) = (everything(&sample.bytes).unwrap(), everything(&longer).unwrap());
        assert!(outcome.report.is_ok());
        assert_eq!((sound.report.trailing_len, outcome.report.trailing_len), (0, 5), "{}", sample.name);
        for (sound, outcome) in sound.arrays.iter().zip(&outcome.arrays) {
            assert_eq!(sound.as_ref().unwrap(), outcome.as_ref().unwrap());
        }
    }
}

fn every_cut_is_refused(name: &str, bytes: &[u8]) {
    for len in 0..bytes.len() {
        let what = || format!("{name} cut to {len} of {} bytes", bytes.len());
        if outcome_is_fair(&bytes[..len], &what).is_some() {
            panic!("{}: it opens", what());
        }
    }
}

fn every_flip_is_survived(name: &str, bytes: &[u8]) {
    let sound = Reader::from_bytes(bytes.to_vec()).unwrap();
    let has_checksums = sound.layout().has_checksums();
    let values: Vec<Vec<u8>> = everything(bytes).unwrap().arrays.into_iter().map(Result::unwrap).collect();
    let frames = &sound.index().frames;
    let padding = padding(&sound, header_end(bytes));
    for at in 0..bytes.len() {
        // Nothing reads padding: one bit of each byte will do.
        let bits = if padding.iter().any(|range| range.contains(&at)) { at % 8..at % 8 + 1 } else { 0..8 };
        for bit in bits {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            let what = || format!("{name}, bit {bit} of byte {at} flipped");
            let outcome = outcome_is_fair(&damaged, &what);
            let offset = at as u64;
            if let Some(frame) = frames.iter().position(|frame| frame.bytes.contains(&offset)) {
                let outcome = outcome.unwrap_or_else(|| panic!("{}: it does not open", what()));
                if has_checksums {
                    damage_is_found(&sound, &damaged, &outcome, frame, &values, &what);
                } else {
                    only_one_value_differs(&sound, &outcome, frame, offset, &values[0], &what);
                }
            } else if has_checksums
                && at >= header_end(bytes)
                && !padding.iter().any(|range| range.contains(&at))
            {
                // The length or the checksum in front of a payload.
                let found = outcome.is_none_or(|outcome| !outcome.report.is_ok() && all_fail(&outcome));
                assert!(found, "{}: it goes unnoticed", what());
            }
        }
    }
}

/// The bytes between the header and the first frame, and between frames.
fn padding(sound: &Reader, header_end: usize) -> Vec<Range<usize>> {
    let in_file = |offset: u64| usize::try_from(offset).unwrap();
    let frames = &sound.index().frames;
    let starts = frames.iter().map(|frame| in_file(frame.bytes.start).saturating_sub(8));
    let ends = std::iter::once(header_end).chain(frames.iter().map(|frame| in_file(frame.bytes.end)));
    ends.zip(starts).map(|(end, start)| end..start).collect()
}

/// Does everything with a damaged file: it may fail, but must say so well. `None` if it cannot be opened.
fn outcome_is_fair(bytes: &[u8], what: &dyn Fn() -> String) -> Option<Outcome> {
    let outcome = match catch_unwind(AssertUnwindSafe(|| everything(bytes))) {
        Ok(outcome) => outcome,
        Err(panic) => panic!("{}: panicked: {}", what(), message_of(&*panic)),
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            error_is_helpful(&error, what);
            return None;
        }
    };
    outcome.arrays.iter().chain(&outcome.unchecked).for_each(|result| {
        if let Err(error) = result {
            error_is_helpful(error, what);
        }
    });
    if let Err(error) = &outcome.found {
        // Nothing to look in is the caller's affair.
        assert!(error.is_usage(), "{}: {error}", what());
    }
    for damage in &outcome.report.damage {
        assert!(!damage.what.is_empty() && damage.rows.start <= damage.rows.end, "{}: {damage:?}", what());
    }
    if outcome.report.is_ok() {
        // What verify calls sound can be read.
        for result in &outcome.arrays {
            assert!(result.is_ok(), "{}: verify found nothing, but {}", what(), result.as_ref().unwrap_err());
        }
    }
    Some(outcome)
}

/// An error says what is wrong and where: a byte, a chunk, a field of the header.
fn error_is_helpful(error: &Error, what: &dyn Fn() -> String) {
    let message = error.to_string();
    let says_where = ["byte", "chunk ", "the header's ", "the file's "].iter().any(|at| message.contains(at));
    assert!(says_where && message.len() > 20, "{}: \"{message}\" does not say what is wrong where", what());
    assert!(!error.is_usage(), "{}: \"{message}\" blames the caller", what());
}

fn all_fail(outcome: &Outcome) -> bool {
    outcome.arrays.iter().all(Result::is_err)
}

/// A flip in frame `frame` of a file with checksums.
fn damage_is_found(
    sound: &Reader,
    damaged: &[u8],
    outcome: &Outcome,
    frame: usize,
    values: &[Vec<u8>],
    what: &dyn Fn() -> String,
) {
    let bytes = &sound.index().frames[frame].bytes;
    let arrays = &sound.index().arrays;
    assert_eq!(outcome.report.damage.len(), arrays.len(), "{}: {:?}", what(), outcome.report);
    for (damage, array) in outcome.report.damage.iter().zip(arrays) {
        let found = (&damage.array, damage.chunk.index(), &damage.rows, &damage.bytes);
        assert_eq!(found, (&array.name, frame, &array.chunks[frame].rows, bytes), "{}", what());
    }
    for result in &outcome.arrays {
        let message = result.as_ref().err().unwrap_or_else(|| panic!("{}: it is read", what())).to_string();
        assert!(message.contains(&format!("bytes {}..{} are damaged", bytes.start, bytes.end)), "{message}");
    }
    let reader = Reader::from_bytes(damaged.to_vec()).unwrap();
    for (array, values) in arrays.iter().zip(values) {
        if array.name != arrays[0].name {
            continue;
        }
        let row_len = values.len() / usize::try_from(array.rows).unwrap();
        for (number, chunk) in array.chunks.iter().enumerate().filter(|(number, _)| *number != frame) {
            let rows = chunk.rows.clone();
            let read = reader.array(&array.name).unwrap().read::<f32>(rows.clone());
            let read = read.unwrap_or_else(|error| panic!("{}: chunk {number}: {error}", what()));
            let of = |row: u64| usize::try_from(row).unwrap() * row_len;
            let expected = &values[of(rows.start)..of(rows.end)];
            assert_eq!(bytemuck::cast_slice::<f32, u8>(&read), expected, "{}: chunk {number}", what());
        }
    }
}

/// A flip in frame `frame` of a v0 file, whose codecs give each value bytes of its own.
fn only_one_value_differs(
    sound: &Reader,
    outcome: &Outcome,
    frame: usize,
    at: u64,
    values: &[u8],
    what: &dyn Fn() -> String,
) {
    assert!(outcome.report.is_ok(), "{}: nothing could have told", what());
    let array = &sound.index().arrays[0];
    let chunk = &array.chunks[frame];
    let chunk_values = (chunk.rows.end - chunk.rows.start) * u64::from(array.dim);
    let size = (chunk.bytes.end - chunk.bytes.start) / chunk_values;
    let hit = chunk.rows.start * u64::from(array.dim) + (at - chunk.bytes.start) / size;
    let read = outcome.arrays[0].as_ref().unwrap();
    let differing: Vec<u64> = (0u64..)
        .zip(values.chunks(4).zip(read.chunks(4)))
        .filter_map(|(index, (sound, read))| (sound != read).then_some(index))
        .collect();
    assert_eq!(differing, [hit], "{}", what());
}

/// What a file gave, all of it.
struct Outcome {
    report: VerifyReport,
    /// The values of each array as bytes, or why there are none.
    arrays: Vec<Result<Vec<u8>, Error>>,
    /// The same, read without comparing checksums.
    unchecked: Vec<Result<Vec<u8>, Error>>,
    found: Result<Rows, Error>,
}

/// Opens a file and does with it all that a reader can, several times over where the ways differ: from
/// memory that can be borrowed and from a source that must be copied, with checksums and without.
///
/// Fails only if the file cannot be opened. That nothing comes back that was not written is checked here:
/// what [`Array::read`] puts into zeros, [`Array::read_into`] must put into a buffer of NaNs.
fn everything(bytes: &[u8]) -> Result<Outcome, Error> {
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
        arrays.map(|(from, into)| with_type(from, ReadBoth(from, into))).collect::<Vec<_>>()
    };
    Ok(Outcome {
        report: reader.verify().unwrap(),
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

/// Reads an array into zeros from one reader, into a buffer of NaNs from the other.
struct ReadBoth<'r>(Array<'r>, Array<'r>);

impl ForType for ReadBoth<'_> {
    fn call<T: Element>(self) -> Result<Vec<u8>, Error> {
        let ReadBoth(from, into) = self;
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
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("?")
}

#[test]
fn a_payload_of_no_values_is_looked_at_too() {
    let options = WriteOptions::new(Layout::V1).vectors(DType::F32, 0, "lossless").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write_vectors(RowSlice::from_bytes(DType::F32, 3, 0, &[]).unwrap()).unwrap();
    let mut bytes = writer.finish_bytes().unwrap();
    assert!(Reader::from_bytes(bytes.clone()).unwrap().verify().unwrap().is_ok());

    // A width of 9 bits, under a checksum that fits.
    let payload = bytes.len() - 16;
    bytes[payload + 4] = 9;
    let crc = crc32fast::hash(&bytes[payload..]);
    bytes[payload - 4..payload].copy_from_slice(&crc.to_le_bytes());
    let report = Reader::from_bytes(bytes).unwrap().verify().unwrap();
    assert_eq!(report.damage.len(), 1);
    assert!(report.damage[0].what.contains("codes of 9 bits"), "{}", report.damage[0].what);
}
