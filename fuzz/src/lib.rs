//! What each fuzz target asserts of an input, as plain functions.
//!
//! A fuzz target is one line that calls one of these; `crates/cvc/tests/fuzz_corpus.rs` includes this file and
//! calls them with everything in `corpus/` and `regressions/`, on every `cargo xtask test`. So it depends on
//! nothing but what `cvc` has.
//!
//! Each says whether the input was understood. Whatever is wrong with the *program* is a panic.

#[path = "../../crates/cvc/tests/support/reading.rs"]
mod reading;
#[path = "../../crates/cvc/tests/support/seal.rs"]
mod seal;

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cvc::codec::ops::{DictPlanes, dict_planes};
use cvc::codec::{
    Batch, BlockRun, ChunkShape, CodecError, DecodePlan, HostBuffer, Job, Load, Parts, Payloads,
    ReferenceBackend, SourceError, Stream,
};
use cvc::cpu::Level;
use cvc::format::json::Style;
use cvc::format::native::SIGNATURE;
use cvc::format::{ChunkEntry, ChunkId, Stored};
use cvc::input::{Matrix, Options};
use cvc::{
    AlignedBytes, Array, ArrayDType, Backend, Checksums, Condition, CpuBackend, DType, Error, Json, Layout,
    Limits, OnDamage, ReadAt, ReadOptions, Reader,
};

use reading::{Copied, Saved, read_bytes, read_values, salvage_rows};
use seal::{Borders, ENTRY, PRELUDE, TRAILER, put, seal, u16_at, u32_at, u64_at};

/// What became of an input. Both are right; a fuzzer keeps inputs of either kind, because what is refused may be
/// one byte from being understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was understood, and all that was asserted held.
    Keep,
    /// It was refused with an error, as it should be.
    Reject,
}

/// What a target asserts of an input.
pub type Target = fn(&[u8]) -> Verdict;

/// Every target by name: of its `[[bin]]`, its file, and its folder of the corpus.
pub const TARGETS: [(&str, Target); 5] =
    [("json", json), ("open", open), ("native", native), ("payload", payload), ("npy", npy)];

/// Levels of nesting that JSON may have here, as by default.
const DEPTH: usize = 64;

/// What a few kilobytes may cost.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.decoded_bytes = 16 << 20;
    limits
}

/// JSON that parses is written and parsed again to the same value, in every style.
pub fn json(bytes: &[u8]) -> Verdict {
    let value = match Json::parse(bytes, DEPTH) {
        Ok(value) => value,
        Err(error) => {
            assert!(error.offset <= bytes.len() && !error.to_string().is_empty());
            return Verdict::Reject;
        }
    };
    same_after_writing(&value);
    Verdict::Keep
}

fn same_after_writing(value: &Json) {
    for style in [Style::Python, Style::PythonSorted, Style::Compact] {
        let text = value.to_string_styled(style);
        let again =
            Json::parse(text.as_bytes(), DEPTH).unwrap_or_else(|error| panic!("{style:?}: {error}: {text}"));
        assert_eq!(again.to_string_styled(style), text, "{style:?}");
        // NaN equals nothing, itself included.
        assert!(again == *value || has_nan(value), "{style:?}: {value:?} became {again:?}");
        assert!(style != Style::Compact || again.is_strict() == value.is_strict(), "{text}");
    }
}

fn has_nan(value: &Json) -> bool {
    match value {
        Json::Number(number) => number.as_f64().is_nan(),
        Json::Array(items) => items.iter().any(has_nan),
        Json::Object(pairs) => pairs.iter().any(|(_, value)| has_nan(value)),
        Json::Null | Json::Bool(_) | Json::String(_) => false,
    }
}

/// What opens keeps the promises of the index; it can be checked, searched and read to the end, from any source.
///
/// A fuzzer cannot guess checksums, so a file that opens is tried again with the right ones.
pub fn open(bytes: &[u8]) -> Verdict {
    let Some(reader) = opened(bytes) else { return Verdict::Reject };
    let mut mended = bytes.to_vec();
    for frame in reader.index().frames.iter().filter(|frame| frame.crc32.is_some()) {
        let [start, end] =
            [frame.bytes.start, frame.bytes.end].map(|at| usize::try_from(at).expect("in memory"));
        let crc32 = crc_fast::crc32_iso_hdlc(&mended[start..end]);
        mended[start - 4..start].copy_from_slice(&crc32.to_le_bytes());
    }
    if mended != bytes {
        let mended = opened(&mended).expect("only checksums are different");
        let found = mended.verify().unwrap().damage;
        assert!(!found.iter().any(|damage| damage.what.contains("crc32")), "{found:?}");
    }
    Verdict::Keep
}

/// A native file whose checksums are made right first, and with them whatever else a fuzzer could only guess: it is
/// refused, or keeps the promises of [`open`].
pub fn native(bytes: &[u8]) -> Verdict {
    let mended = mend(bytes);
    let Some(reader) = opened(&mended) else { return Verdict::Reject };
    assert_eq!(reader.layout(), Layout::Native);
    // All that the head of a chunk allows to be found has the right checksum.
    let found = reader.verify().unwrap().damage;
    assert!(!found.iter().any(|damage| damage.what.contains("crc32c")), "{found:?}");
    Verdict::Keep
}

/// Reserved bytes of the prelude say what is left as it is. They are zero in a sound file, of which nothing changes.
const LEAVE_AT: usize = 12;
const LEAVE_METADATA: u8 = 1;
const LEAVE_PLACES: u8 = 2;
const LEAVE_HEADS: u8 = 4;

/// Makes what may be a native file one as far as marks, checksums and lengths go.
pub fn mend(bytes: &[u8]) -> Vec<u8> {
    let Some(trailer) = bytes.len().checked_sub(TRAILER).filter(|at| *at >= PRELUDE) else {
        return bytes.to_vec();
    };
    let leave = bytes[LEAVE_AT];
    let mut mended = bytes.to_vec();
    if leave & LEAVE_METADATA == 0 {
        let (before, trailer) = bytes.split_at(trailer);
        let begins = |text: &[u8]| text.starts_with(b"{\"arrays\":");
        let metadata = (PRELUDE..before.len()).rfind(|at| begins(&before[*at..])).unwrap_or(before.len());
        let text = canonical(&before[metadata..]);
        let entries = ((metadata - PRELUDE) / ENTRY).min(u32_at(trailer, 8) as usize);
        let index = metadata - entries * ENTRY;
        mended.truncate(index);
        mended.resize(index.next_multiple_of(64), 0);
        mended.extend(&bytes[index..metadata]);
        mended.extend(&text);
        let at = mended.len();
        mended.extend(trailer);
        put(&mut mended, at + 8, u32::try_from(entries).expect("they fit").to_le_bytes());
        put(&mut mended, at + 16, u32::try_from(text.len()).expect("it fits").to_le_bytes());
    }
    put(&mut mended, 0, b"CVCF");
    put(&mut mended, 4, SIGNATURE);
    mended[LEAVE_AT] = 0;
    if let Some(borders) = Borders::of(&mended) {
        let mut end = PRELUDE;
        for at in (borders.index..borders.metadata).step_by(ENTRY) {
            if leave & LEAVE_PLACES == 0 {
                let last = at + ENTRY == borders.metadata;
                let len = usize::try_from(u64_at(&mended, at + 8)).unwrap_or(usize::MAX);
                let len = len.checked_next_multiple_of(64).filter(|len| !last && *len <= borders.index - end);
                let len = len.unwrap_or(borders.index - end);
                put(&mut mended, at, (end as u64).to_le_bytes());
                put(&mut mended, at + 8, (len as u64).to_le_bytes());
                if leave & LEAVE_HEADS == 0 {
                    let head_len =
                        head_len(&mended[end..], u32_at(&mended, at + 16), u32_at(&mended, at + 20));
                    if let Some(head_len) = head_len.filter(|head_len| *head_len as usize <= len) {
                        put(&mut mended, at + 24, head_len.to_le_bytes());
                    }
                }
                end += len;
            }
        }
    }
    let trailer = mended.len() - TRAILER;
    let len = mended.len() as u64;
    put(&mut mended, trailer, len.to_le_bytes());
    mended.copy_within(8..12, trailer + 24);
    put(&mut mended, trailer + 32, cvc::format::native::END_SIGNATURE);
    seal(&mut mended);
    mended
}

/// The one text of a JSON value, if it is one.
fn canonical(text: &[u8]) -> Vec<u8> {
    match Json::parse(text, DEPTH) {
        Ok(json) if json.is_strict() => json.to_string_styled(Style::Canonical).into_bytes(),
        _ => text.to_vec(),
    }
}

/// The length of the head that this chunk begins with, by its own counts.
fn head_len(chunk: &[u8], rows: u32, block_rows: u32) -> Option<u32> {
    let blocks = u64::from(rows.div_ceil(block_rows.max(1)));
    let (fields, lanes) = (u64::from(u16_at(chunk, 4)), u64::from(u16_at(chunk, 6)));
    let len = 8 + 4 * (fields + (lanes + 1) * blocks) + u64::from(u32_at(chunk, 0));
    u32::try_from(len.next_multiple_of(64)).ok()
}

/// The reader of a file, with which everything was done that can be done; `None` if it cannot be opened.
fn opened(bytes: &[u8]) -> Option<Reader> {
    let open = |source: Box<dyn ReadAt>, checksums| {
        let mut options = ReadOptions::default();
        options.limits = limits();
        options.checksums = checksums;
        Reader::new(source, options)
    };
    let reader = match open(Box::new(bytes.to_vec()), Checksums::FirstTouch) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.is_usage(), "blames the caller: {error}");
            return None;
        }
    };
    let copying = open(Box::new(Copied(bytes.to_vec())), Checksums::FirstTouch).expect("opened before");
    let careless = open(Box::new(bytes.to_vec()), Checksums::Never).expect("opened before");
    index_holds(&reader);
    let sound = reader.verify().unwrap().is_ok();
    for ((array, copied), unchecked) in reader.arrays().zip(copying.arrays()).zip(careless.arrays()) {
        assert_eq!(reader.array(&array.index().name).expect("it is there").index().name, array.index().name);
        reads_whole(array, copied, unchecked, sound);
    }
    if let Ok(rows) = reader.find(&[Condition::new("k", 1u64)]) {
        rows.resolve(rows_of_sections(&reader)).expect("sections lie within the rows");
    }
    same_after_writing(&reader.index().header);
    Some(reader)
}

fn rows_of_sections(reader: &Reader) -> u64 {
    reader.arrays().next().map_or(0, |array| array.rows())
}

/// What `ChunkEntry` and its like promise by existing.
fn index_holds(reader: &Reader) {
    let (index, file_len) = (reader.index(), reader.source().len());
    let mut end = 0;
    for frame in &index.frames {
        assert!(
            end <= frame.bytes.start && frame.bytes.start <= frame.bytes.end && frame.bytes.end <= file_len
        );
        assert_eq!(frame.crc32.is_some(), index.layout.has_checksums());
        end = frame.bytes.end;
    }
    assert!(index.trailing_len <= file_len - end);
    let native = index.layout == Layout::Native;
    assert!(!native || index.frames.is_empty());
    let mut chunks_len = 0;
    for array in &index.arrays {
        let mut next_row = 0;
        assert!(native || array.chunks.len() == index.frames.len());
        for ChunkEntry { rows, bytes, stored, .. } in &array.chunks {
            let within = match stored {
                Stored::Framed { frame, .. } => index.frames[*frame].bytes.clone(),
                Stored::Blocked(blocked) => {
                    assert!(u64::from(blocked.head_len) <= bytes.end - bytes.start && blocked.block_rows > 0);
                    chunks_len += bytes.end - bytes.start;
                    64..file_len - 40
                }
            };
            assert!(within.start <= bytes.start && bytes.start <= bytes.end && bytes.end <= within.end);
            assert!(rows.start == next_row && rows.end >= rows.start && rows.end - rows.start < 1 << 32);
            next_row = rows.end;
        }
        assert!(next_row == array.rows || (array.dim == 0 && array.chunks.is_empty()));
    }
    // No byte belongs to two chunks.
    assert!(chunks_len <= file_len);
    let chunk_sections = reader.chunk_sections();
    for section in reader.sections().iter().chain(&chunk_sections) {
        assert!(section.rows.start <= section.rows.end && section.rows.end <= rows_of_sections(reader));
    }
}

/// An array of a file that `verify` calls sound is read; of another, an error or the same, by every way.
fn reads_whole(array: Array<'_>, copied: Array<'_>, unchecked: Array<'_>, sound: bool) {
    let bytes = match read_bytes(array, .., 0) {
        Ok(bytes) => bytes,
        Err(error) => {
            refusal_is_fair(&error, sound, array.reader().layout());
            return what_is_left_is_saved(array, &error);
        }
    };
    let same = |other: Result<Vec<u8>, Error>, how: &str| {
        let other = other.unwrap_or_else(|error| panic!("{how} fails, and the array was read: {error}"));
        assert!(other == bytes, "{how} differs");
    };
    // Into a buffer that holds something else, from a source that lends nothing.
    same(read_bytes(copied, .., 0xff), "a copying source");
    // Checksums that were right change nothing.
    same(read_bytes(unchecked, .., 0x55), "a read without checksums");
    // In two parts, cut where it hurts.
    let middle = array.rows() / 2 + array.rows() % 2;
    let parts = [read_bytes(array, ..middle, 1), read_bytes(copied, middle.., 2)];
    same(parts.into_iter().collect::<Result<Vec<_>, _>>().map(|parts| parts.concat()), "reading in parts");
    if array.index().dtype != ArrayDType::Utf8 {
        same(read_values(array, &ReferenceBackend::default(), .., 3), "the reference");
        for level in Level::available() {
            same(read_values(copied, &CpuBackend::with_level(level), .., 4), "another level");
        }
        // Rows of no values may be 2^32.
        if bytes.is_empty() {
            return;
        }
    }
    let ranges = array.byte_ranges(.., 0).expect("it was read");
    let file_len = array.reader().source().len();
    assert!(ranges.iter().all(|range| range.start < range.end && range.end <= file_len), "{ranges:?}");
    // Rows as byte strings take more memory than the bytes.
    if bytes.len() < 1 << 16 {
        let rows = reading::read_rows(array, .., 0).expect("it was read");
        for on_damage in [OnDamage::Skip, OnDamage::Fill] {
            if let Some(saved) = salvage_rows(copied, .., on_damage).expect("it was read") {
                assert!(saved.lost.is_empty() && saved.rows == rows, "what is whole is saved as it is");
            }
        }
    }
}

/// What can be saved of an array that cannot be read: rows without those that are lost, or an error.
fn what_is_left_is_saved(array: Array<'_>, error: &Error) {
    if matches!(error, Error::Limit { .. }) || array.rows() > 1 << 16 {
        return;
    }
    for on_damage in [OnDamage::Skip, OnDamage::Fill] {
        match salvage_rows(array, .., on_damage) {
            Ok(Some(Saved { rows, lost })) => {
                let gone: u64 = lost.iter().map(|rows| rows.end - rows.start).sum();
                assert!(gone > 0, "nothing is lost, but {error}");
                let left = array.rows() - if on_damage == OnDamage::Skip { gone } else { 0 };
                // Rows of no values are none here.
                assert!(rows.len() as u64 == left || array.dim() == 0, "{} rows, not {left}", rows.len());
            }
            Ok(None) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn refusal_is_fair(error: &Error, sound: bool, layout: Layout) {
    let unknown = matches!(
        error,
        Error::Limit { .. } | Error::Newer { .. } | Error::Chunk { error: CodecError::Unknown { .. }, .. }
    );
    // A chunk of a CVCF file may hold another dtype than its array; then it matters what is asked for.
    assert!(unknown || layout != Layout::Native || !error.is_usage(), "blames the caller: {error}");
    assert!(unknown || !sound, "verify found nothing, but {error}");
}

/// A payload of `dict_planes` is refused by all, with one message, or decoded by all to the same values, which
/// encode to a payload that gives them again.
pub fn payload(bytes: &[u8]) -> Verdict {
    let Some(count) = bytes.first_chunk().map(|count| u32::from_le_bytes(*count)) else {
        return Verdict::Reject;
    };
    let shape = ChunkShape { rows: count, dim: 1 };
    let Ok(len) = u32::try_from(bytes.len()) else { return Verdict::Reject };
    let parts = Arc::new(Parts::opaque(count, len));
    let planned = DecodePlan::new(shape, Load::DictPlanes, Stream::Stored, DType::F32, &parts);
    let parsed = DictPlanes::parse(bytes, u64::from(count));
    let Ok(plan) = planned else {
        // The plan only asks whether the payload is long enough, and so must `parse`.
        assert!(parsed.is_err());
        return Verdict::Reject;
    };
    let values = usize::try_from(count).expect("at most eight for each byte of the payload");
    let decoded = parsed.and_then(|planes| {
        let mut decoded = vec![0.0; values];
        planes.decode(0, &mut decoded)?;
        Ok(decoded)
    });
    let by_backends = agreed(&plan, bytes, values);
    match (&decoded, &by_backends) {
        (Ok(decoded), Ok(backends)) => assert!(bits(decoded) == bits(backends)),
        (Err(error), Err(message)) => assert!(message.contains(&error.to_string()), "{message}, not {error}"),
        // Where no value is wanted, no backend looks.
        (Err(_), Ok(none)) if none.is_empty() => {}
        _ => panic!("the op gives {decoded:?}, the backends {by_backends:?}"),
    }
    let Ok(decoded) = decoded else { return Verdict::Reject };

    let mut encoded = Vec::new();
    dict_planes::encode(decoded.iter().copied(), &mut encoded);
    assert!(encoded.len() <= bytes.len(), "ours is the shortest there is");
    let mut again = vec![0.0; values];
    let planes = DictPlanes::parse(&encoded, u64::from(count)).expect("we wrote it");
    planes.decode(0, &mut again).expect("we wrote it");
    assert!(bits(&decoded) == bits(&again));
    Verdict::Keep
}

/// What the reference gives; asserts that the processor gives the same with all instructions it has, also of
/// some rows only.
fn agreed(plan: &DecodePlan, payload: &[u8], values: usize) -> Result<Vec<f32>, String> {
    let decode = |decode: &dyn Fn(&Batch<'_>, &mut HostBuffer<'_>) -> Result<(), String>,
                  rows: Range<u32>| {
        let mut out = vec![f32::NAN; rows.len()];
        let count = rows.len() as u64;
        let jobs = vec![Job { plan, chunk: ChunkId(0), rows, dst_row: 0 }];
        let batch = Batch::new(jobs, count, 1, DType::F32).expect("the rows are those of the chunk");
        decode(&batch, &mut HostBuffer::new(&mut out)).map(|()| out)
    };
    let source = OnePayload(payload);
    let reference = ReferenceBackend::default();
    let judge = |batch: &Batch<'_>, out: &mut HostBuffer<'_>| {
        reference.decode(batch, &source, out).map_err(|error| error.to_string())
    };
    let all = plan.shape().rows;
    let judged = decode(&judge, 0..all);
    for level in Level::available() {
        let backend = CpuBackend::with_level(level);
        let candidate = |batch: &Batch<'_>, out: &mut HostBuffer<'_>| {
            backend.decode(batch, &source, out).map_err(|error| error.to_string())
        };
        for rows in [0..all, all / 3..all, 0..all - all / 3] {
            let (ours, theirs) = (decode(&candidate, rows.clone()), decode(&judge, rows));
            assert_eq!(ours.as_deref().map(bits), theirs.as_deref().map(bits), "{level}");
        }
    }
    assert!(judged.as_ref().map_or(true, |judged| judged.len() == values));
    judged
}

struct OnePayload<'a>(&'a [u8]);

impl Payloads for OnePayload<'_> {
    fn read(&self, _run: &BlockRun<'_>, into: &mut [u8]) -> Result<(), SourceError> {
        into.copy_from_slice(self.0);
        Ok(())
    }

    fn borrow(&self, _run: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError> {
        Ok(Some(self.0))
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// An input that opens is read whole and in parts, to the same bytes. Its kind is told by how it begins; what
/// begins like none is tried as each.
pub fn npy(bytes: &[u8]) -> Verdict {
    let kinds: &[&str] = match bytes {
        [0x93, b'N', ..] => &[".npy"],
        [b'P', b'K', ..] => &[".npz"],
        _ => &[".npy", ".npz", ".fvecs", ".bvecs", ".ivecs"],
    };
    let opened = kinds.iter().filter(|kind| {
        let mut file =
            tempfile::Builder::new().suffix(kind).tempfile().expect("there is room for temporary files");
        file.write_all(bytes).expect("there is room for temporary files");
        matrix(file.path(), bytes.len())
    });
    if opened.count() > 0 { Verdict::Keep } else { Verdict::Reject }
}

fn matrix(path: &Path, file_len: usize) -> bool {
    let options = Options { member: None, ..Options::default() };
    let matrix = match Matrix::open(path, &options) {
        Ok(matrix) => matrix,
        Err(error) => {
            let message = error.to_string();
            let name = path.file_name().and_then(|name| name.to_str()).expect("we named it");
            assert!(message.contains(name), "{message} does not name the file");
            return false;
        }
    };
    let row_len = u64::from(matrix.dim()) * matrix.dtype().size() as u64;
    let len = matrix.rows().checked_mul(row_len).expect("the values are in a file");
    // Only an archive unpacks to more than it is; deflate shrinks a thousandfold at best.
    assert!(len <= 1100 * file_len as u64, "{len} bytes of values in a file of {file_len}");

    let mut scratch = AlignedBytes::new();
    let whole = match matrix.read(0..matrix.rows(), &mut scratch) {
        Ok(whole) => whole.to_vec(),
        // A row of another dimension shows only when it is read.
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return true;
        }
    };
    assert_eq!(whole.len() as u64, len);
    let step = (matrix.rows() / 7).max(1);
    let mut parts = Vec::new();
    let mut row = 0;
    while row < matrix.rows() {
        let end = row.saturating_add(step).min(matrix.rows());
        let part = matrix.read(row..end, &mut scratch).expect("the whole was read");
        assert!(part.as_ptr().addr().is_multiple_of(matrix.dtype().size()), "not aligned");
        parts.extend_from_slice(part);
        row = end;
    }
    assert!(parts == whole, "the parts are not the whole");
    let beyond = matrix.read(matrix.rows()..matrix.rows().saturating_add(1), &mut scratch);
    assert!(beyond.is_err() || matrix.rows() == u64::MAX);
    true
}
