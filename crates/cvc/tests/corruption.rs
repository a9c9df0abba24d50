//! What damage may do to a reader, and what it may not.
//!
//! A native file that was cut at any byte does not open. One in which any bit was flipped, padding included, does not
//! open either, and the error names the region; or the bit lies in a chunk, and then [`Reader::verify`] and every read
//! of its block find it, say where it is, and all other rows can still be read, and saved.
//!
//! A CVCF file that was cut at any byte, or in which any bit was flipped, gives
//!
//! - an error that names what is wrong and where, or
//! - a value: the right one, or in what no checksum covers (all of a v0 file, the headers of v1 and v2) another,
//!
//! and never a panic, and never memory that nobody wrote. A flip in a payload that has a checksum is found by
//! [`Reader::verify`] and by every read of its chunk, and harms no other chunk. (That no allocation grows with
//! a number that the file has not earned is the promise of `allocations.rs`.)

#[path = "support/native_samples.rs"]
mod native_samples;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/samples.rs"]
mod samples;
#[path = "support/seal.rs"]
mod seal;

use std::any::Any;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use cvc::format::Stored;
use cvc::io::FileSource;
use cvc::{
    Array, Checksums, Condition, Coverage, DType, Element, Error, Layout, OnDamage, ReadAt, ReadOptions,
    Reader, RowSlice, Rows, VerifyReport, WriteOptions, Writer,
};
use cvc_conformance::golden::Manifest;

use native_samples::{NativeSample, native_samples};
use reading::{ByteRows, Copied, Saved, read_rows, salvage_rows};
use samples::{ForType, header_end, samples, with_type};
use seal::{Borders, Region, regions};

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
    let says_where = ["byte", "chunk ", "the header's ", "the file's ", "the metadata's "]
        .iter()
        .any(|at| message.contains(at));
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
        let found = (&damage.array, damage.chunk.index(), &damage.rows, damage.bytes.as_slice());
        let expected = (&array.name, frame, &array.chunks[frame].rows, std::slice::from_ref(bytes));
        assert_eq!(found, expected, "{}", what());
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
            let Stored::Framed { frame: position, .. } = chunk.stored else { panic!("not of a CVCF file") };
            let frame = &index.frames[position];
            assert!(frame.bytes.start <= chunk.bytes.start && chunk.bytes.end <= frame.bytes.end);
            assert!(chunk.bytes.start <= chunk.bytes.end && frame.bytes.end <= len);
            assert_eq!((chunk.rows.start, position), (next_row, number));
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
    let crc = crc_fast::crc32_iso_hdlc(&bytes[payload..]);
    bytes[payload - 4..payload].copy_from_slice(&crc.to_le_bytes());
    let report = Reader::from_bytes(bytes).unwrap().verify().unwrap();
    assert_eq!(report.damage.len(), 1);
    assert!(report.damage[0].what.contains("codes of 9 bits"), "{}", report.damage[0].what);
}

/// A sound native file, and what is known of it without the help of what is tested.
struct Sound {
    name: String,
    bytes: Vec<u8>,
    /// What each byte belongs to.
    regions: Vec<Region>,
    entries: Vec<seal::Entry>,
    /// The first row of the chunk of each entry, in its array.
    first_rows: Vec<u64>,
    arrays: Vec<SoundArray>,
}

struct SoundArray {
    name: String,
    rows: ByteRows,
    /// What [`OnDamage::Fill`] puts where a row is lost.
    filler: u8,
}

impl Sound {
    fn new(sample: NativeSample) -> Sound {
        let NativeSample { name, bytes } = sample;
        let reader = Reader::from_bytes(bytes.clone()).unwrap();
        let report = reader.verify().unwrap();
        assert!(
            report.is_ok() && report.coverage == Coverage::Blocks && report.trailing_len == 0,
            "{report:?}"
        );
        let arrays = reader.arrays().map(|array| SoundArray {
            name: array.index().name.clone(),
            rows: read_rows(array, .., 0).unwrap(),
            filler: if array.dtype().is_ok_and(DType::is_float) { 0xff } else { 0 },
        });
        let arrays: Vec<SoundArray> = arrays.collect();
        let borders = Borders::of(&bytes).unwrap();
        let entries: Vec<seal::Entry> = borders.entries(&bytes).map(Option::unwrap).collect();
        let mut next_rows = vec![0; arrays.len()];
        let first_rows = entries.iter().map(|entry| {
            let first = next_rows[entry.array];
            next_rows[entry.array] += u64::from(entry.rows);
            first
        });
        let first_rows = first_rows.collect();
        Sound { name: name.into_owned(), regions: regions(&bytes), entries, first_rows, arrays, bytes }
    }

    /// What is lost if something in this region is damaged: the array, which of its chunks, the rows, and the words in
    /// which a read complains. `None` for regions without which the file does not open.
    fn lost(&self, region: Region) -> Option<Lost> {
        let (number, rows_in_chunk, complaint) = match region {
            Region::Head(number) => {
                (number, 0..u64::from(self.entries[number].rows), "is damaged: its checksum is".to_owned())
            }
            Region::Block(number, block) => {
                let rows = self.entries[number].rows_of(block);
                (
                    number,
                    rows.clone(),
                    format!("block {block} (rows {}..{} of the chunk", rows.start, rows.end),
                )
            }
            _ => return None,
        };
        let array = self.entries[number].array;
        let chunk = self.entries[..number].iter().filter(|entry| entry.array == array).count();
        let first = self.first_rows[number];
        Some(Lost { array, chunk, rows: first + rows_in_chunk.start..first + rows_in_chunk.end, complaint })
    }
}

struct Lost {
    array: usize,
    chunk: usize,
    rows: Range<u64>,
    complaint: String,
}

fn sound_samples() -> Vec<Sound> {
    native_samples().into_iter().map(Sound::new).collect()
}

/// Does `work` for every sample, on all cores, and counts what it counts.
fn for_each_sound(work: impl Fn(&Sound, &mut Totals) + Sync) -> Totals {
    let samples = sound_samples();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut totals = Totals::default();
        while let Some(sound) = samples.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(sound, &mut totals);
            totals.files += 1;
        }
        totals
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().fold(Totals::default(), |mut sum, worker| {
            let totals = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sum.files += totals.files;
            sum.tried += totals.tried;
            sum.undetected.extend(totals.undetected);
            sum
        })
    })
}

#[derive(Default)]
struct Totals {
    files: usize,
    tried: usize,
    /// What went wrong with what was tried.
    undetected: Vec<String>,
}

impl Totals {
    /// Counts one thing that was tried; a panic is the worst that can come of it.
    fn note(&mut self, what: impl Fn() -> String, outcome: impl FnOnce() -> Result<(), String>) {
        self.tried += 1;
        let outcome = catch_unwind(AssertUnwindSafe(outcome));
        let outcome = outcome.unwrap_or_else(|panic| Err(format!("panicked: {}", message_of(&*panic))));
        if let Err(problem) = outcome {
            self.undetected.push(format!("{}: {problem}", what()));
        }
    }

    #[expect(clippy::print_stdout, reason = "the count is part of the promise; shown with --nocapture")]
    fn none_undetected(&self, things: &str) {
        let Totals { files, tried, undetected } = self;
        println!("{tried} {things} in {files} native files, {} undetected", undetected.len());
        let first = &undetected[..undetected.len().min(10)];
        assert!(undetected.is_empty(), "{} of {tried} {things} undetected: {first:#?}", undetected.len());
    }
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

type Opened = Result<Box<dyn ReadAt>, Error>;

/// A file on a disk that is damaged again and again.
struct OnDisk(tempfile::NamedTempFile);

impl OnDisk {
    fn new(bytes: &[u8]) -> OnDisk {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        OnDisk(file)
    }

    fn put(&mut self, at: usize, byte: u8) {
        self.0.seek(SeekFrom::Start(at as u64)).unwrap();
        self.0.write_all(&[byte]).unwrap();
    }

    /// The ways to read it, by name.
    fn sources(&self) -> Vec<(&'static str, Opened)> {
        let path = self.0.path();
        vec![
            ("by position", FileSource::open(path).map(|source| Box::new(source) as Box<dyn ReadAt>)),
            #[cfg(feature = "mmap")]
            ("mapped", {
                let map = cvc::io::mmap::Map::open(path);
                let cannot = |cause| Error::Io { path: path.to_owned(), action: "cannot be mapped", cause };
                map.map(|map| Box::new(map) as Box<dyn ReadAt>).map_err(cannot)
            }),
        ]
    }
}

#[test]
fn a_native_file_cut_at_any_byte_does_not_open() {
    let totals = for_each_sound(|sound, totals| {
        let disk = OnDisk::new(&sound.bytes);
        for len in (0..sound.bytes.len()).rev() {
            disk.0.as_file().set_len(len as u64).unwrap();
            totals.note(
                || format!("{} cut to {len} of {} bytes", sound.name, sound.bytes.len()),
                || {
                    let cut = &sound.bytes[..len];
                    let memory: [Box<dyn ReadAt>; 2] =
                        [Box::new(cut.to_vec()), Box::new(Copied(cut.to_vec()))];
                    let memory = memory.into_iter().map(|source| ("memory", Ok(source)));
                    for (way, source) in memory.chain(disk.sources()) {
                        let opened = source.and_then(|source| Reader::new(source, ReadOptions::default()));
                        let Err(error) = opened else { return Err(format!("{way}: it opens")) };
                        let message = error.to_string();
                        let says_where = message.contains("byte") || message.contains("this one begins with");
                        ensure(says_where && !error.is_usage(), || format!("{way}: {message}"))?;
                    }
                    Ok(())
                },
            );
        }
    });
    totals.none_undetected("truncations");
}

#[test]
fn every_flipped_bit_of_a_native_file_is_found_in_its_region_and_harms_no_other_row() {
    let totals = for_each_sound(|sound, totals| {
        let mut disk = OnDisk::new(&sound.bytes);
        let mut damaged = sound.bytes.clone();
        for at in 0..damaged.len() {
            for bit in 0..8 {
                damaged[at] ^= 1 << bit;
                totals.note(
                    || format!("{}, bit {bit} of byte {at} ({:?})", sound.name, sound.regions[at]),
                    || {
                        flip_is_found(sound, Box::new(damaged.clone()), at, true)?;
                        flip_is_found(sound, Box::new(Copied(damaged.clone())), at, bit == 0)?;
                        // Files and maps differ from these in nothing but where bytes come from: one bit of each byte.
                        if bit == at % 8 {
                            disk.put(at, damaged[at]);
                            for (way, source) in disk.sources() {
                                let found = flip_is_found(sound, source.unwrap(), at, false);
                                found.map_err(|problem| format!("{way}: {problem}"))?;
                            }
                        }
                        Ok(())
                    },
                );
                damaged[at] ^= 1 << bit;
            }
            disk.put(at, damaged[at]);
        }
    });
    totals.none_undetected("flipped bits");
}

/// A flip at byte `at` is found where it is; `all_ways` also of saving what is left.
fn flip_is_found(sound: &Sound, source: Box<dyn ReadAt>, at: usize, all_ways: bool) -> Result<(), String> {
    let region = sound.regions[at];
    let reader = match (Reader::new(source, ReadOptions::default()), sound.lost(region)) {
        (Err(error), None) => {
            let message = error.to_string();
            return ensure(names(&message, region) && !error.is_usage(), || message);
        }
        (Ok(_), None) => return Err("it opens".into()),
        (Err(error), Some(_)) => return Err(format!("it does not open: {error}")),
        (Ok(reader), Some(_)) => reader,
    };
    let lost = sound.lost(region).expect("in a chunk");

    let report = reader.verify().map_err(|error| format!("verify fails: {error}"))?;
    let [damage] = report.damage.as_slice() else {
        return Err(format!("verify finds {:?}", report.damage));
    };
    let found = (damage.array.as_str(), damage.chunk.index(), &damage.rows);
    ensure(found == (&sound.arrays[lost.array].name, lost.chunk, &lost.rows), || format!("{damage:?}"))?;
    ensure(damage.bytes.iter().any(|range| range.contains(&(at as u64))), || format!("{damage:?}"))?;
    ensure(damage.what.contains(&lost.complaint), || damage.what.clone())?;

    for (position, (array, sound_array)) in reader.arrays().zip(&sound.arrays).enumerate() {
        let rows = &sound_array.rows;
        if position != lost.array {
            let read = read_rows(array, .., 0xff).map_err(|error| format!("another array: {error}"))?;
            ensure(read == *rows, || format!("array {:?} has other values", sound_array.name))?;
            continue;
        }
        let complains = |rows: Range<u64>| match read_rows(array, rows.clone(), 0) {
            Ok(_) => Err(format!("rows {rows:?} are read")),
            Err(error) => {
                let message = error.to_string();
                let says = message.contains(&lost.complaint)
                    && message.contains(&format!("chunk {}", lost.chunk))
                    && message.contains(&format!("{:?}", sound_array.name));
                ensure(says && !error.is_usage(), || message)
            }
        };
        let all = 0..rows.len() as u64;
        complains(all.clone())?;
        // Sound rows, backwards so that the damaged block lies between them; not found to be good by having been read.
        let outside = [lost.rows.end..all.end, 0..lost.rows.start];
        let read =
            read_rows(array, outside.to_vec(), 0xff).map_err(|error| format!("sound rows: {error}"))?;
        let of = |range: &Range<u64>| &rows[to_usize(range.start)..to_usize(range.end)];
        ensure(read == outside.iter().flat_map(of).cloned().collect::<ByteRows>(), || {
            "sound rows have other values".into()
        })?;
        complains(lost.rows.start..lost.rows.start + 1)?;
        complains(lost.rows.end - 1..lost.rows.end)?;
        complains(all)?;
        if all_ways {
            what_is_left_is_saved(array, sound_array, &lost.rows)?;
        }
    }
    Ok(())
}

fn what_is_left_is_saved(array: Array<'_>, sound: &SoundArray, lost: &Range<u64>) -> Result<(), String> {
    let failed = |error: Error| format!("salvage fails: {error}");
    let is_lost = |row: usize| lost.contains(&(row as u64));
    let rows = sound.rows.iter().cloned().enumerate();
    if let Some(Saved { rows: left, lost: gone }) = salvage_rows(array, .., OnDamage::Skip).map_err(failed)? {
        let expected: ByteRows = rows.clone().filter(|(row, _)| !is_lost(*row)).map(|(_, row)| row).collect();
        ensure(left == expected && gone == [lost.clone()], || format!("skipping loses {gone:?}"))?;
    }
    if let Some(Saved { rows: left, lost: gone }) = salvage_rows(array, .., OnDamage::Fill).map_err(failed)? {
        let utf8 = array.index().dtype == cvc::ArrayDType::Utf8;
        let filled = |row: Vec<u8>| vec![sound.filler; if utf8 { 0 } else { row.len() }];
        let expected: ByteRows = rows.map(|(at, row)| if is_lost(at) { filled(row) } else { row }).collect();
        ensure(left == expected && gone == [lost.clone()], || format!("filling loses {gone:?}"))?;
    }
    let sound_rows = vec![lost.end..array.rows(), 0..lost.start];
    if let Some(Saved { rows: left, lost: gone }) =
        salvage_rows(array, sound_rows, OnDamage::Skip).map_err(failed)?
    {
        let expected = sound.rows.len() - to_usize(lost.end - lost.start);
        ensure(gone.is_empty() && left.len() == expected, || format!("of sound rows {gone:?} are lost"))?;
    }
    Ok(())
}

/// Whether a message names a region without which nothing opens.
fn names(message: &str, region: Region) -> bool {
    let names: &[&str] = match region {
        Region::Prelude => &[
            "the prelude (bytes 0..60) is damaged",
            // The first eight bytes say what kind of file it is.
            "not a cvc file: it must begin with the bytes",
            "the first bytes of the file are damaged",
        ],
        Region::Index => &["the index (bytes "],
        Region::Metadata => &["the metadata (bytes "],
        Region::Trailer => &["the trailer (bytes ", "without the end mark of a native file"],
        Region::Head(_) | Region::Block(..) => &[],
    };
    names.iter().any(|name| message.contains(name))
}

fn to_usize(row: u64) -> usize {
    usize::try_from(row).unwrap()
}

#[test]
fn what_is_put_behind_a_native_file_is_refused() {
    let totals = for_each_sound(|sound, totals| {
        for more in [&[0u8][..], &[0; 64], &sound.bytes[..64], &sound.bytes[sound.bytes.len() - 40..]] {
            totals.note(
                || format!("{} and {} bytes more", sound.name, more.len()),
                || {
                    let error = Reader::from_bytes([&sound.bytes, more].concat()).map(drop);
                    let message =
                        error.err().map_or_else(|| "it opens".to_owned(), |error| error.to_string());
                    ensure(message.contains("end mark") || message.contains("says that the file has"), || {
                        message
                    })
                },
            );
        }
    });
    totals.none_undetected("longer files");
}

/// Sectors that were never written, or were written twice, or elsewhere.
#[test]
fn bytes_from_a_wrong_place_are_found() {
    let totals = for_each_sound(|sound, totals| {
        let len = sound.bytes.len();
        for (start, end) in (0..len).step_by(16).flat_map(|at| [(at, at + 16), (at, at + 64)]) {
            let range = start..end.min(len);
            for from in (0..len - range.len()).step_by(16).map(Some).chain([None]) {
                let mut damaged = sound.bytes.clone();
                match from {
                    Some(from) => damaged.copy_within(from..from + range.len(), start),
                    None => damaged[range.clone()].fill(0),
                }
                let Some(first) = damaged.iter().zip(&sound.bytes).position(|(now, then)| now != then) else {
                    continue;
                };
                totals.note(
                    || format!("{}, bytes {range:?} from {from:?}", sound.name),
                    || {
                        let Ok(reader) = Reader::from_bytes(damaged) else { return Ok(()) };
                        let damage = reader.verify().unwrap().damage;
                        let mut found = damage.iter().flat_map(|damage| &damage.bytes);
                        let found = found.any(|range| range.contains(&(first as u64)));
                        ensure(found, || format!("{damage:?}"))
                    },
                );
            }
        }
    });
    totals.none_undetected("bytes from elsewhere");
}

#[test]
fn a_native_file_cut_after_it_was_opened_is_an_error_that_says_so() {
    for sound in sound_samples().iter().filter(|sound| !sound.entries.is_empty()) {
        let disk = OnDisk::new(&sound.bytes);
        let reader = Reader::open(disk.0.path()).unwrap();
        disk.0.as_file().set_len(sound.bytes.len() as u64 / 3).unwrap();
        let what = || sound.name.clone();
        let failures: Vec<Error> =
            reader.arrays().filter_map(|array| read_rows(array, .., 0).err()).collect();
        assert!(!failures.is_empty(), "{}: it is read", what());
        for error in failures {
            error_is_helpful(&error, &what);
            assert!(error.to_string().contains("it was cut after it was opened"), "{}: {error}", what());
        }
        match reader.verify() {
            Ok(report) => assert!(!report.is_ok(), "{}: {report:?}", what()),
            Err(error) => error_is_helpful(&error, &what),
        }
    }
}
