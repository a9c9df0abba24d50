//! What each fuzz target asserts of an input, as plain functions.
//!
//! A fuzz target is one line that calls one of these; `crates/cvc/tests/fuzz_corpus.rs` includes this file and
//! calls them with everything in `corpus/` and `regressions/`, on every `cargo xtask test`. So it depends on
//! nothing but what `cvc` has.
//!
//! Each says whether the input was understood. Whatever is wrong with the *program* is a panic.

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use cvc::codec::ops::{DictPlanes, dict_planes};
use cvc::codec::{
    Batch, ChunkShape, DecodePlan, HostBuffer, Job, Load, Payloads, ReferenceBackend, SourceError,
};
use cvc::cpu::Level;
use cvc::format::json::Style;
use cvc::format::{ChunkEntry, ChunkId};
use cvc::input::{Matrix, Options};
use cvc::{
    AlignedBytes, Array, Backend, Checksums, Condition, CpuBackend, DType, Element, Error, Json, Limits,
    ReadAt, ReadOptions, Reader,
};

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
pub const TARGETS: [(&str, Target); 4] = [("json", json), ("open", open), ("payload", payload), ("npy", npy)];

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
        let crc32 = crc32fast::hash(&mended[start..end]);
        mended[start - 4..start].copy_from_slice(&crc32.to_le_bytes());
    }
    if mended != bytes {
        let mended = opened(&mended).expect("only checksums are different");
        let found = mended.verify().unwrap().damage;
        assert!(!found.iter().any(|damage| damage.what.contains("crc32")), "{found:?}");
    }
    Verdict::Keep
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
    for name in reader.array_names() {
        let [array, copied, unchecked] = [&reader, &copying, &careless]
            .map(|reader| reader.array(name).expect("the name is from the index"));
        match array.dtype().expect("the layout knows its codecs") {
            DType::F32 => reads_whole::<f32>(array, copied, unchecked, sound),
            DType::F16 => reads_whole::<half::f16>(array, copied, unchecked, sound),
            DType::I64 => reads_whole::<i64>(array, copied, unchecked, sound),
            DType::I32 => reads_whole::<i32>(array, copied, unchecked, sound),
            DType::I8 => reads_whole::<i8>(array, copied, unchecked, sound),
            DType::U8 => reads_whole::<u8>(array, copied, unchecked, sound),
            other => panic!("no CVCF file holds {other}"),
        }
    }
    if let Ok(rows) = reader.find(&[Condition::new("k", 1u64)]) {
        rows.resolve(reader.index().arrays[0].rows).expect("sections lie within the rows");
    }
    same_after_writing(&reader.index().header);
    Some(reader)
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
    for array in &index.arrays {
        let mut next_row = 0;
        assert_eq!(array.chunks.len(), index.frames.len());
        for ChunkEntry { rows, bytes, frame, .. } in &array.chunks {
            let frame = &index.frames[*frame].bytes;
            assert!(frame.start <= bytes.start && bytes.start <= bytes.end && bytes.end <= frame.end);
            assert!(rows.start == next_row && rows.end >= rows.start && rows.end - rows.start < 1 << 32);
            next_row = rows.end;
        }
        assert_eq!(next_row, array.rows);
    }
    let chunk_sections = reader.chunk_sections();
    for section in reader.sections().iter().chain(&chunk_sections) {
        assert!(section.rows.start <= section.rows.end && section.rows.end <= index.arrays[0].rows);
    }
}

/// An array of a file that `verify` calls sound is read; of another, an error or the same, by every way.
fn reads_whole<T: Element>(array: Array<'_>, copied: Array<'_>, unchecked: Array<'_>, sound: bool) {
    let values = match array.read::<T>(..) {
        Ok(values) => values,
        Err(error) => return refusal_is_fair(&error, sound),
    };
    let bytes: &[u8] = bytemuck::cast_slice(&values);
    let same =
        |other: &[T], how: &str| assert!(bytemuck::cast_slice::<T, u8>(other) == bytes, "{how} differs");

    // Into a buffer that holds something else, from a source that lends nothing.
    let mut given = values.clone();
    bytemuck::cast_slice_mut::<T, u8>(&mut given).iter_mut().for_each(|byte| *byte = !*byte);
    copied.read_into(.., &mut given).expect("it was read from memory");
    same(&given, "a copying source");
    // Checksums that were right change nothing.
    same(&unchecked.read::<T>(..).expect("it was read with checksums"), "a read without checksums");
    // In two parts, cut where it hurts.
    let middle = array.rows() / 2 + array.rows() % 2;
    let mut parts = array.read::<T>(..middle).expect("the whole was read");
    parts.extend(array.read::<T>(middle..).expect("the whole was read"));
    same(&parts, "reading in parts");
}

fn refusal_is_fair(error: &Error, sound: bool) {
    assert!(!sound || matches!(error, Error::Limit { .. }), "verify found nothing, but {error}");
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

/// A payload of `dict_planes` is refused by all, with one message, or decoded by all to the same values, which
/// encode to a payload that gives them again.
pub fn payload(bytes: &[u8]) -> Verdict {
    let Some(count) = bytes.first_chunk().map(|count| u32::from_le_bytes(*count)) else {
        return Verdict::Reject;
    };
    let shape = ChunkShape { rows: count, dim: 1 };
    let planned = DecodePlan::new(shape, Load::DictPlanes, DType::F32, bytes.len() as u64);
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
    fn read(&self, _chunk: ChunkId, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let offset = usize::try_from(offset).expect("within the payload");
        into.copy_from_slice(&self.0[offset..offset + into.len()]);
        Ok(())
    }

    fn borrow(&self, _chunk: ChunkId, range: Range<u64>) -> Result<Option<&[u8]>, SourceError> {
        let at = |offset: u64| usize::try_from(offset).expect("within the payload");
        Ok(Some(&self.0[at(range.start)..at(range.end)]))
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
