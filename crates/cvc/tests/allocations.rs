//! No allocation grows with a number that the file has not earned.
//!
//! A header can say anything: 10^15 rows, a chunk of 4 GiB, a list of a million chunks. What a reader allocates
//! to open such a file, check it and read all of it stays within a multiple of the file's *length*. So does what it
//! allocates to open a native file, to plan how its rows are read, and to check it, but for one block of 16 MiB that is
//! being unpacked; only rows that a caller asks for cost what they decode to, and `Limits::decoded_bytes` holds for them.
//! The files here have the right checksums: whoever lies can compute those, too. Each is refused in words that say
//! where, or read; none is a panic.
//!
//! The allocator of this test program counts, so it has few tests, and they take turns.
#![expect(unsafe_code, reason = "an allocator cannot be written without it; it only counts and passes on")]

#[path = "support/native_samples.rs"]
mod native_samples;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/samples.rs"]
mod samples;
#[path = "support/seal.rs"]
mod seal;

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cvc::codec::{CodecError, Deflater, Packing, SourceError};
use cvc::{
    Array, ArrayOptions, DType, Element, Error, Layout, OnDamage, ReadAt, ReadOptions, Reader, RowSlice,
    Rows, WriteOptions, Writer,
};

use native_samples::native_samples;
use reading::{Copied, read_rows};
use samples::{ForType, header_end, samples, versioned, with_type};
use seal::{Borders, by_hand, chunk_by_hand, one_array, put, seal};

/// Bytes of memory for each byte of a file, at most: the most crowded JSON costs about sixty while its list is
/// growing, decoded values cost eight, and the file itself lies in memory, once.
const BYTES_PER_BYTE: usize = 64;
/// The same for native files, whose users' metadata is kept as it stands and as it was said: 72 where it is most crowded.
const BYTES_PER_NATIVE_BYTE: usize = 80;
/// And this much whatever the file.
const BASE: usize = 1 << 20;
/// And where streams are unpacked, what one block may hold, twice: what is unpacked, and what becomes of it.
const UNPACKED: usize = 2 * (16 << 20);

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, which notes how much is allocated and how much was at most.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn note(allocated: usize, freed: usize) {
    let before = LIVE.fetch_add(allocated, Ordering::Relaxed);
    PEAK.fetch_max(before + allocated, Ordering::Relaxed);
    LIVE.fetch_sub(freed, Ordering::Relaxed);
}

// SAFETY: every method passes its arguments on to `System`, which keeps the contract, and returns what it
// returns. `note` touches two atomics; it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: MemoryLayout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: MemoryLayout) {
        note(0, layout.size());
        // SAFETY: `at` came from a method of this allocator, so from `System`, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: MemoryLayout, new_len: usize) -> *mut u8 {
        // Both exist while one is copied to the other.
        note(new_len, layout.size());
        // SAFETY: `at` came from `System` with this layout; the caller answers for `new_len`.
        unsafe { System.realloc(at, layout, new_len) }
    }
}

/// Held by each test from its first line on: what another allocates meanwhile would be counted, too.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` gives, and the most it had allocated at any time beyond what was allocated before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

/// Opens a file, checks it and reads all of it; asserts that this costs no more than the file has earned.
///
/// Gives back why it cannot be opened or read, if it cannot.
fn earned(name: &str, bytes: &[u8]) -> Option<Error> {
    let mut failure = None;
    for borrowing in [true, false] {
        let (result, peak) = measured(|| {
            let source: Box<dyn ReadAt> =
                if borrowing { Box::new(bytes.to_vec()) } else { Box::new(Copied(bytes.to_vec())) };
            read_all(source)
        });
        let native = bytes.get(4..8) == Some(&cvc::format::native::SIGNATURE);
        let each = if native { BYTES_PER_NATIVE_BYTE } else { BYTES_PER_BYTE };
        let allowed = each * bytes.len() + BASE;
        assert!(peak <= allowed, "{name}: {peak} bytes for a file of {}; {allowed} are earned", bytes.len());
        failure = result.err();
    }
    failure
}

fn read_all(source: Box<dyn ReadAt>) -> Result<(), Error> {
    struct Read<'r>(Array<'r>);

    impl ForType for Read<'_> {
        fn call<T: Element>(self) -> Result<Vec<u8>, Error> {
            self.0.read::<T>(..).map(|_| Vec::new())
        }
    }

    let reader = Reader::new(source, ReadOptions::default())?;
    let report = reader.verify().unwrap();
    if reader.layout() == Layout::Native {
        for array in reader.arrays() {
            let read = read_rows(array, .., 0).map(drop);
            // What a newer version made may be sound, though nobody here can read it.
            let unknown = matches!(
                &read,
                Err(Error::Newer { .. } | Error::Chunk { error: CodecError::Unknown { .. }, .. })
            );
            assert!(
                read.is_ok() || unknown || !report.is_ok(),
                "verify found nothing, but {}",
                read.unwrap_err()
            );
            read?;
        }
        return Ok(());
    }
    let mut arrays = reader.array_names().map(|name| reader.array(name).unwrap());
    arrays.try_for_each(|array| with_type(array, Read(array)).map(drop))
}

#[test]
fn the_allocator_counts() {
    let _turn = turn();
    let (kept, peak) = measured(|| {
        let mut bytes = vec![0u8; 3 << 20];
        bytes.resize(4 << 20, 1);
        drop(bytes);
        vec![1u8; 1 << 20]
    });
    assert!(kept.len() == 1 << 20 && peak >= 4 << 20, "{peak}");
}

#[test]
fn a_damaged_file_allocates_no_more_than_it_has_earned() {
    let _turn = turn();
    for sample in samples() {
        for at in 0..sample.bytes.len() {
            earned(sample.name, &sample.bytes[..at]);
            let digits = if at < header_end(&sample.bytes) { "0123456789eE" } else { "" };
            let flipped = (0..8).map(|bit| sample.bytes[at] ^ 1 << bit);
            for byte in flipped.chain(digits.bytes()) {
                let mut damaged = sample.bytes.clone();
                damaged[at] = byte;
                earned(sample.name, &damaged);
            }
        }
    }
}

/// A v1 header with one list of chunks.
fn v1(num_vectors: u64, dim: u64, codec: &str, chunks: &str) -> Vec<u8> {
    let header = format!(
        "{{\"chunks\":[{chunks}],\"compression\":\"{codec}\",\"dimension\":{dim},\"num_vectors\":{num_vectors}}}"
    );
    versioned(1, &header)
}

/// Appends a frame: a payload with the right checksum, but a length that may be wrong.
fn frame(file: &mut Vec<u8>, len: u32, payload: &[u8]) {
    file.extend(len.to_le_bytes());
    file.extend(crc_fast::crc32_iso_hdlc(payload).to_le_bytes());
    file.extend(payload);
}

/// Asserts that the file cannot be read, for a reason that has this in it.
fn refused(name: &str, bytes: &[u8], reason: &str) {
    let error = earned(name, bytes).unwrap_or_else(|| panic!("{name}: it is read"));
    assert!(error.to_string().contains(reason), "{name}: {error}");
}

#[test]
fn more_rows_than_the_chunks_hold_are_refused() {
    let _turn = turn();
    refused("10^15 rows, no chunk", &v1(1_000_000_000_000_000, 4, "fp16", ""), "its chunks hold 0 rows");
    let mut file = v1(1 << 40, 4, "fp16", "{\"rows\":1}");
    frame(&mut file, 8, &[0; 8]);
    file.resize(1024, 0);
    refused("2^40 rows in a KiB", &file, "num_vectors is 1099511627776, but its chunks hold 1 rows");
    // A sum that would wrap, were it 32 or 64 bits short.
    refused(
        "2^64 - 1 rows",
        &v1(u64::MAX, 4, "fp16", "{\"rows\":4294967295}"),
        "its chunks hold 4294967295 rows",
    );
    refused("beyond u64", &v1(0, 4, "fp16", "{\"rows\":18446744073709551616}"), "chunks[0].rows");
}

#[test]
fn shapes_beyond_the_payload_are_refused() {
    let _turn = turn();
    let rows = u64::from(u32::MAX);
    for (codec, dim) in [("fp16", 1), ("fp16", 1 << 31), ("fp16", rows), ("lossless", 1), ("lossless", rows)]
    {
        let mut file = v1(rows, dim, codec, &format!("{{\"rows\":{rows}}}"));
        frame(&mut file, 24, &[0; 24]);
        refused(&format!("{rows} rows of {dim}, {codec}"), &file, "the payload has 24 bytes, but");
    }
    let mut file = v1(rows, 1, "int8", &format!("{{\"min\":0.0,\"rows\":{rows},\"scale\":1e999}}"));
    frame(&mut file, 0, &[]);
    refused("int8", &file, "the payload has 0 bytes, but 4294967295 rows of 1 values need 4294967295");
    refused("dimension 2^32", &v1(0, 1 << 32, "fp16", ""), "dimension is 4294967296");

    // Columns over one payload, each of which claims what is not there.
    let column = |offset: u64, size: u64| {
        let header = format!(
            "{{\"chunks\":[{{\"columns\":{{\"a\":{{\"compression\":\"none\",\"offset\":{offset},\"size\":{size}}}}},\
             \"rows\":4294967295}}],\"columns\":[{{\"compression\":\"none\",\"dimension\":4294967295,\
             \"dtype\":\"int64\",\"name\":\"a\"}}],\"format_type\":\"columnar\",\"num_vectors\":4294967295}}"
        );
        let mut file = versioned(2, &header);
        frame(&mut file, 16, &[0; 16]);
        file
    };
    refused("a column with 2^32 rows", &column(0, 16), "the payload has 16 bytes, but");
    refused(
        "a column beyond the payload",
        &column(0, 1 << 60),
        "places column \"a\" at 0..1152921504606846976",
    );
    refused("a column beyond 2^64", &column(u64::MAX, 1), "chunks[0].columns.a.size");
    // 2^32 - 1 squared times 8 bytes is beyond u64, and equal to this size modulo 2^64.
    let wrapped = (rows * rows).wrapping_mul(8);
    refused("a size that wraps", &column(0, wrapped), "places column \"a\"");
}

#[test]
fn lengths_beyond_the_file_are_refused() {
    let _turn = turn();
    let mut file = b"CVCF\x01\0\0\0\xff\xff\xff\xff{}".to_vec();
    refused("a header of 2^32 - 1 bytes", &file, "inside the header, which needs bytes 12..4294967307");
    file = b"CVCF\xff\xff\xff\xff{\"a\":1}".to_vec();
    refused("a v0 header of 2^32 - 1 bytes", &file, "inside the header, which needs bytes 8..4294967303");

    let mut file = v1(1, 4, "fp16", "{\"rows\":1}");
    frame(&mut file, u32::MAX, &[0; 8]);
    refused("a payload of 2^32 - 1 bytes", &file, "inside the payload of chunk 0");

    let chunk = "{\"file_offset\":18446744073709551615,\"rows\":1}";
    let file = String::from_utf8(v1(1, 4, "fp16", chunk)[12..].to_vec()).unwrap();
    let file = versioned(1, &file.replace("\"num", "\"mmap_optimized\":true,\"num"));
    refused("a frame at 2^64 - 1", &file, "inside the frame of chunk 0");
}

#[test]
fn a_lossless_payload_is_measured_before_it_is_believed() {
    let _turn = turn();
    let payload = |values: u32, bits: u8, entries: u16| {
        let mut payload = values.to_le_bytes().to_vec();
        payload.extend([bits; 4]);
        for _ in 0..4 {
            payload.extend(entries.to_le_bytes());
            payload.extend([0; 9]);
        }
        payload
    };
    for (values, bits, entries, reason) in [
        (u32::MAX, 8, 1, "it says it holds 4294967295 values, the chunk has 8"),
        (8, 255, 1, "codes of 255 bits"),
        (8, 8, u16::MAX, "a dictionary of 65535 entries"),
        (8, 8, 256, "a dictionary at byte 10 needs 256 bytes"),
        (8, 8, 1, "the codes of a plane at byte"),
    ] {
        let mut file = v1(8, 1, "lossless", "{\"rows\":8}");
        let payload = payload(values, bits, entries);
        let payload = if bits == 8 && entries == 1 { &payload[..24] } else { &payload[..] };
        frame(&mut file, u32::try_from(payload.len()).unwrap(), payload);
        refused(&format!("{values} values of {bits} bits, {entries} entries"), &file, reason);
    }
}

#[test]
fn crowded_headers_cost_a_multiple_of_their_length() {
    let _turn = turn();
    // As few bytes for each thing as JSON allows, and one thing more than a list that doubled has room for:
    // memory for each byte is at its highest.
    let many = |item: &str| vec![item; (1 << 18) + 1].join(",");
    refused(
        "a list of a million chunks",
        &v1((1 << 20) + 4, 4, "fp16", &vec![many("{\"rows\":1}"); 4].join(",")),
        "chunk 0",
    );
    refused("chunks that are not", &v1(0, 4, "fp16", &many("0")), "chunks[0]");
    let with = |key: &str, text: &str| {
        let header = format!(
            "{{\"{key}\":{text},\"chunks\":[],\"compression\":\"fp16\",\"dimension\":0,\"num_vectors\":0}}"
        );
        versioned(1, &header)
    };
    for item in ["0", "\"\"", "[]", "{}", "[0]", "{\"\":0}", "1e9", "\"\\ud800\""] {
        let file = with("extra", &format!("[{}]", many(item)));
        assert!(earned(item, &file).is_none(), "unknown keys are ignored");
    }
    assert!(earned("keys", &with("extra", &format!("{{{}}}", many("\"\":0")))).is_none());
    let section = "{\"start_index\":0,\"end_index\":0,\"num_vectors\":0}";
    assert!(earned("sections", &with("sections", &format!("[{}]", many(section)))).is_none());
    assert!(earned("a long number", &with("extra", &"9".repeat(1 << 20))).is_none());
    refused(
        "a long number of rows",
        &v1(0, 4, "fp16", &format!("{{\"rows\":{}}}", "9".repeat(1 << 20))),
        "rows",
    );
    refused("a long name", &with(&"x".repeat(1 << 20), "\"\\"), "not valid JSON");
    refused("deep lists", &with("extra", &"[".repeat(1 << 20)), "at most 64 arrays and objects");
    refused("deep objects", &with("extra", &"{\"\":".repeat(1 << 18)), "at most 64 arrays and objects");
}

#[test]
fn chunks_of_no_values_cost_nothing_however_many_rows_they_claim() {
    let _turn = turn();
    let rows = u64::from(u32::MAX);
    let chunks = 1 << 16;
    let list = vec!["{\"rows\":4294967295}"; chunks].join(",");
    let mut file = v1(rows * chunks as u64, 0, "fp16", &list);
    for _ in 0..chunks {
        frame(&mut file, 0, &[]);
    }
    assert!(earned("2^48 rows of nothing", &file).is_none(), "they are legal, and there is nothing to read");
    let reader = Reader::from_bytes(file).unwrap();
    let array = reader.vectors().unwrap();
    assert_eq!((array.rows(), array.dim()), (rows * chunks as u64, 0));
    let (values, peak) = measured(|| array.read::<f32>(rows - 1..rows + 1).unwrap());
    assert!(values.is_empty() && peak < BASE, "{peak}");
}

#[test]
fn the_callers_limit_holds_before_anything_is_allocated() {
    let _turn = turn();
    let bytes = &samples()[0].bytes;
    let mut options = ReadOptions::default();
    options.limits.decoded_bytes = 59;
    let reader = Reader::new(Box::new(bytes.clone()), options).unwrap();
    let array = reader.vectors().unwrap();
    assert_eq!(array.read::<f32>(0..4).unwrap().len(), 12);
    // A caller may ask for rows again and again; every time counts.
    let many: Vec<_> = (0..1000).map(|_| 0..5).collect();
    for rows in [cvc::Rows::ALL, vec![0..4, 0..1].into(), many.into()] {
        let (error, peak) = measured(|| array.read::<f32>(rows).unwrap_err());
        assert!(matches!(error, Error::Limit { limit: 59, .. }) && error.is_usage(), "{error}");
        assert!(peak < BASE, "{peak}");
    }
}

/// An array of 5 rows of 2 `f32` values, `raw`, in blocks of 2 rows.
fn raw() -> Vec<u8> {
    let values: Vec<u8> = (0..10u16).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let chunk = chunk_by_hand(&[], &[(8, values)], &[], 3);
    by_hand(&[(5, 2, 0, chunk)], &one_array("raw", "f32", "5,2"))
}

/// An array of 5 rows of 2 `i16` values with streams, in blocks of 2 rows.
fn streams(codec: &str, streams: [Vec<u8>; 3]) -> Vec<u8> {
    let chunk = chunk_by_hand(&[], &[], &[streams.into()], 3);
    by_hand(&[(5, 2, 0, chunk)], &one_array(codec, "i16", "5,2"))
}

fn packed(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    Deflater::default().deflate(packing, bytes, &mut stream);
    stream
}

/// The first chunk of a file made by hand begins here.
const CHUNK: usize = 64;

#[test]
fn files_put_together_by_hand_are_read() {
    let _turn = turn();
    assert!(earned("raw", &raw()).is_none());
    for packing in [Packing::Zstd, Packing::Gzip] {
        let blocks = [packed(packing, &[1; 8]), packed(packing, &[2; 8]), packed(packing, &[3; 4])];
        let codec = if packing == Packing::Zstd { "zstd" } else { "gzip" };
        assert!(earned(codec, &streams(codec, blocks)).is_none());
    }
    let again = |mut bytes: Vec<u8>| {
        let before = bytes.clone();
        seal(&mut bytes);
        bytes == before
    };
    for sample in native_samples() {
        assert!(again(sample.bytes.clone()), "{}: to seal a sound file changes nothing", sample.name);
        assert!(earned(&sample.name, &sample.bytes).is_none(), "{}", sample.name);
    }
}

#[test]
fn a_native_file_that_is_cut_or_damaged_allocates_no_more_than_it_has_earned() {
    let _turn = turn();
    for sample in native_samples() {
        for at in 0..sample.bytes.len() {
            // Every bit is the business of `corruption.rs`.
            let mut damaged = sample.bytes.clone();
            damaged[at] ^= 0x81;
            earned(&sample.name, &damaged).unwrap_or_else(|| panic!("{}: byte {at}", sample.name));
            if at % 7 == 0 {
                earned(&sample.name, &sample.bytes[..at]).unwrap();
            }
        }
    }
}

/// Whatever a byte is, if the checksums agree with it: an error or values, and no more memory than is earned.
#[test]
fn any_byte_of_a_sealed_native_file_may_be_any_extreme() {
    let _turn = turn();
    for sample in native_samples() {
        let values_differ = |bytes: &[u8], at: usize| {
            let regions = seal::regions(bytes);
            matches!(regions[at], seal::Region::Block(..))
        };
        for at in 0..sample.bytes.len() {
            for byte in [0x00, 0x01, 0x7f, 0x80, 0xff, sample.bytes[at].wrapping_add(1)] {
                let mut lying = sample.bytes.clone();
                lying[at] = byte;
                seal(&mut lying);
                if lying == sample.bytes {
                    continue;
                }
                if let Some(error) = earned(&sample.name, &lying) {
                    assert!(!error.is_usage(), "{}, byte {at}: {error}", sample.name);
                }
                if values_differ(&sample.bytes, at) {
                    assert!(Reader::from_bytes(lying).is_ok(), "{}, byte {at}: it opens", sample.name);
                }
            }
        }
    }
}

/// A sound file in which bytes at `at` are others.
fn lying(mut bytes: Vec<u8>, at: usize, new: impl AsRef<[u8]>) -> Vec<u8> {
    put(&mut bytes, at, new);
    seal(&mut bytes);
    bytes
}

#[test]
fn heads_that_lie_are_refused() {
    let _turn = turn();
    let head = |at: usize, word: u32| lying(raw(), CHUNK + at, word.to_le_bytes());
    refused("1 byte of parameters", &head(0, 1), "codec raw needs no parameters");
    for params_len in [41, 4096, u32::MAX] {
        refused("parameters", &head(0, params_len), "the head of chunk 0 at byte 64 has 64 bytes, expected");
    }
    refused("no fields", &head(4, 0), "has neither fields nor lanes");
    // The checksum of block 0 becomes a width.
    let two_fields = head(4, 2);
    let reason = earned("2 fields", &two_fields).unwrap().to_string();
    assert!(reason.contains("the head of chunk 0 at byte 64"), "{reason}");
    refused("65535 fields", &head(4, 0xffff), "has 64 bytes, expected");
    refused("65535 lanes", &head(4, 0xffff_0001), "has 64 bytes, expected");
    refused("65535 of both", &head(4, u32::MAX), "has 64 bytes, expected");
    refused("a lane more", &head(4, 0x0001_0001), "the head of chunk 0");
    for (width, reason) in [
        (0, "has a field of 0 bytes a row, expected 1 to 2147483647"),
        (7, "do not lie in the fields and streams that copy needs"),
        (13, "describes a chunk of 192 bytes, the index has one of 128"),
        (i32::MAX.cast_unsigned(), "describes a chunk of 10737418304 bytes"),
        (1 << 31, "has a field of 2147483648 bytes a row"),
        (u32::MAX, "has a field of 4294967295 bytes a row"),
    ] {
        refused(&format!("a field {width} wide"), &head(8, width), reason);
    }
    refused("padding", &lying(raw(), CHUNK + 63, [1]), "has padding that is not zero");

    // Frames of 24 and 20 bytes.
    let frame = |len: u8| {
        zstd_frame(0xe0, &u64::from(len).to_le_bytes(), &[(u32::from(len) << 3, &vec![1; len.into()])])
    };
    let zstd = streams("zstd", [frame(8), frame(8), frame(4)]);
    let len = |len: u32| lying(zstd.clone(), CHUNK + 8, len.to_le_bytes());
    refused("a stream of nothing", &len(0), "has a stream of 0 bytes, expected at least 1");
    refused("a long stream", &len(1 << 20), "describes a chunk of");
    refused("the longest stream", &len(u32::MAX), "describes a chunk of 42949674");
    refused("a stream with its padding", &len(32), "has 8 bytes after its zstd frame");
    refused("a stream cut short", &len(23), "the stream of block 0 is a damaged zstd frame");
}

#[test]
fn entries_of_the_index_that_lie_are_refused() {
    let _turn = turn();
    let file = raw();
    let index = Borders::of(&file).unwrap().index;
    let entry = |at: usize, new: &[u8]| lying(file.clone(), index + at, new);
    let of_entry = |name: &str, bytes: &[u8], reason: &str| {
        refused(name, bytes, &format!("entry 0 of the index at byte {index} {reason}"));
    };
    for offset in [0, 63, 65, 128, 1 << 40, u64::MAX] {
        let what = format!("has offset {offset}, what is before it ends at byte 64");
        of_entry("offset", &entry(0, &offset.to_le_bytes()), &what);
    }
    for len in [0u64, 1, 65, u64::MAX] {
        of_entry(
            "len",
            &entry(8, &len.to_le_bytes()),
            &format!("has length {len}, expected a multiple of 64"),
        );
    }
    for len in [192u64, 1 << 40, 1 << 63, u64::MAX - 63] {
        of_entry("len", &entry(8, &len.to_le_bytes()), &format!("has length {len}, there are 128 bytes"));
    }
    refused("a gap", &entry(8, &64u64.to_le_bytes()), "the index at byte 192 has chunks up to byte 128");
    of_entry("rows", &entry(16, &0u32.to_le_bytes()), "has 0 rows in blocks of 2, at least 1 of each");
    of_entry("block rows", &entry(20, &0u32.to_le_bytes()), "has 5 rows in blocks of 0, at least 1 of each");
    of_entry("a row more", &entry(16, &6u32.to_le_bytes()), "ends at row 6 of array \"v\", which has 5 rows");
    refused(
        "a row less",
        &entry(16, &4u32.to_le_bytes()),
        "has chunks with 4 rows of array \"v\", which has 5",
    );
    of_entry("2^32 - 1 rows", &entry(16, &u32::MAX.to_le_bytes()), "has a head of 64 bytes, expected");
    let both = [[0xff; 4], [0xff; 4]].concat();
    of_entry("2^32 - 1 rows in a block", &entry(16, &both), "ends at row 4294967295 of array \"v\"");
    // As few blocks as fit the head, but not those that it has.
    for block_rows in [1, 3, 5, u32::MAX] {
        let error = earned("block rows", &entry(20, &block_rows.to_le_bytes()));
        // Where the words of the head can be read in two ways, the blocks are others, and not those of the checksums;
        // sealed, they are a file like any other.
        if let Some(error) = error {
            assert!(error.to_string().contains("the head of chunk 0"), "{error}");
        }
    }
    for head_len in [0, 1, 65, 192, 1 << 20, u32::MAX] {
        of_entry("head", &entry(24, &head_len.to_le_bytes()), &format!("has a head of {head_len} bytes"));
    }
    refused(
        "a longer head",
        &entry(24, &128u32.to_le_bytes()),
        "the head of chunk 0 at byte 64 has 128 bytes",
    );
    of_entry("array", &entry(44, &[1, 0]), "is of array 1, the file has 1 arrays");
    of_entry("array", &entry(44, &[255, 255]), "is of array 65535, the file has 1 arrays");
    of_entry("reserved", &entry(46, &[1]), "has bytes 46..48 that are not zero");
    of_entry("reserved", &entry(47, &[128]), "has bytes 46..48 that are not zero");
    // Loss is there to be shown, whatever it is.
    assert!(earned("loss", &entry(32, &[0xff; 12])).is_none());
}

#[test]
fn trailers_and_preludes_that_lie_are_refused() {
    let _turn = turn();
    let file = raw();
    let (len, at) = (file.len() as u64, file.len() - 40);
    let trailer = |offset: usize, new: &[u8]| lying(file.clone(), at + offset, new);
    for stated in [0, len - 1, len + 1, u64::MAX] {
        let what = format!("the trailer at byte {at} says that the file has {stated} bytes, it has {len}");
        refused("length", &trailer(0, &stated.to_le_bytes()), &what);
    }
    for count in [1 << 20, u32::MAX] {
        refused("chunks", &trailer(8, &count.to_le_bytes()), "which do not fit a file of");
    }
    refused(
        "no chunks",
        &trailer(8, &0u32.to_le_bytes()),
        "says that the chunks end at byte 240, expected a multiple",
    );
    for metadata_len in [1 << 20, u32::MAX] {
        refused("metadata", &trailer(16, &metadata_len.to_le_bytes()), "which do not fit a file of");
    }
    refused("no metadata", &trailer(16, &0u32.to_le_bytes()), "expected a multiple of 64");
    for version in [[2, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]] {
        refused("version", &trailer(24, &version), "the prelude says 1.0");
        let both = lying(trailer(24, &version), 8, version);
        match version {
            [1, ..] => assert!(earned("a newer minor version", &both).is_none()),
            [major, ..] => {
                refused("both versions", &both, &format!("unknown native version {major}.0 at byte 8"))
            }
        }
    }
    refused("the end mark", &trailer(39, b"D"), "without the end mark of a native file");
    refused(
        "reserved",
        &lying(file.clone(), 12, [1]),
        "the prelude at byte 0 has bytes 12..60 that are not zero",
    );
    refused("reserved", &lying(file, 59, [1]), "the prelude at byte 0 has bytes 12..60 that are not zero");
    // The least that a file can have, and a little less.
    let least = by_hand(&[], "{\"arrays\":[]}");
    assert_eq!((least.len(), earned("the least", &least).is_none()), (117, true));
    refused("no metadata at all", &by_hand(&[], ""), "the metadata at byte 64 is not valid JSON");
}

#[test]
fn metadata_that_lies_is_refused() {
    let _turn = turn();
    let values = || vec![(5, 2, 0, chunk_by_hand(&[], &[(8, vec![0; 40])], &[], 3))];
    let array = |codec: &str, dtype: &str, shape: &str| by_hand(&values(), &one_array(codec, dtype, shape));
    for (shape, reason) in [
        ("", "arrays[0].shape is of type array, expected the number of rows at least"),
        ("4,2", "ends at row 5 of array \"v\", which has 4 rows"),
        ("6,2", "has chunks with 5 rows of array \"v\", which has 6 rows"),
        ("1099511627776,2", "has chunks with 5 rows of array \"v\", which has 1099511627776 rows"),
        ("281474976710657,2", "arrays[0].shape[0] is 281474976710657, expected at most 281474976710656 rows"),
        ("18446744073709551615,2", "arrays[0].shape[0]"),
        ("18446744073709551616,2", "arrays[0].shape[0]"),
        ("-5,2", "arrays[0].shape[0]"),
        ("5.0,2", "arrays[0].shape[0]"),
        ("5,3", "do not lie in the fields and streams that copy needs"),
        ("5,0", "is of array \"v\", whose rows have no values"),
        ("5,4294967296", "arrays[0].shape[1]"),
        ("5,4294967295", "arrays[0].shape has rows of more than 2147483647 bytes"),
        ("5,65536,65536,65536,65536", "arrays[0].shape has rows of more than 2147483647 bytes"),
        ("5,1,1,1,1,1,1,1,2", "arrays[0].shape is of type array, expected at most 8 lengths"),
    ] {
        refused(shape, &array("raw", "f32", shape), reason);
    }
    assert!(earned("eight lengths", &array("raw", "f32", "5,1,1,1,1,1,1,2")).is_none());
    for (dtype, reason) in [
        ("f64", "do not lie in the fields and streams that copy needs"),
        ("c128", "do not lie in the fields"),
        ("utf8", "arrays[0].shape has 2 lengths, an array of strings has one"),
    ] {
        refused(dtype, &array("raw", dtype, "5,2"), reason);
    }
    refused("strings", &array("raw", "utf8", "5"), "1 fields and 0 lanes, one lane is needed");
    for codec in ["fp16", "bf16", "zstd", "gzip"] {
        refused(codec, &array(codec, "f32", "5,2"), "do not lie in the fields and streams that");
    }
    refused("int8", &array("int8", "f32", "5,2"), "codec int8 needs min and scale for each row");
    for codec in ["int4", "bit1"] {
        refused(
            codec,
            &array(codec, "f32", "5,2"),
            &format!("codec {codec} needs a centre of four bytes a dim"),
        );
    }
    refused(
        "lossless",
        &array("lossless", "f32", "5,2"),
        "codec lossless needs one byte that says which planes",
    );
    refused("integers", &array("fp16", "i32", "5,2"), "codec fp16 needs values of a floating point dtype");
    // What is not known makes an array unreadable, and no more.
    for (codec, dtype, reason) in [
        ("int9", "f32", "codec \"int9\" is unknown to this version of cvc"),
        ("cvcf.fp16", "f32", "codec \"cvcf.fp16\" is unknown to this version of cvc"),
        ("raw", "f33", "array \"v\" needs a dtype, which this version of cvc does not know"),
        ("raw", "unknown", "array \"v\" needs a dtype, which this version of cvc does not know"),
    ] {
        let bytes = array(codec, dtype, "5,2");
        let reader = Reader::from_bytes(bytes).unwrap();
        let error = read_rows(reader.arrays().next().unwrap(), .., 0).unwrap_err();
        assert!(error.to_string().contains(reason), "{codec}: {error}");
    }

    let object = |text: &str| by_hand(&values(), text);
    let v = "{\"codec\":{\"name\":\"raw\"},\"dtype\":\"f32\",\"name\":\"v\",\"shape\":[5,2]}";
    let with = |more: &str| object(&format!("{{\"arrays\":[{v}]{more}}}"));
    for (text, reason) in [
        ("", "is not valid JSON"),
        ("{}", "the metadata's arrays is missing"),
        ("[]", "expected an object"),
        ("null", "expected an object"),
        ("{\"arrays\":{}}", "the metadata's arrays"),
        ("{\"arrays\":[0]}", "the metadata's arrays[0]"),
        ("{\"arrays\":[{}]}", "the metadata's arrays[0].name is missing"),
        ("{\"arrays\":[]}", "is of array 0, the file has 0 arrays"),
        ("{\"arrays\":[],\"arrays\":[]}", "a key that occurs twice"),
        ("{\"arrays\": []}", "is not in canonical form from byte 10"),
        ("{\"arrays\":[NaN]}", "has NaN, an infinity or half of a surrogate pair"),
        ("{\"arrays\":[\"\\ud800\"]}", "has NaN, an infinity or half of a surrogate pair"),
        ("{\"arrays\":[]}\n", "is not in canonical form"),
        ("\u{feff}{\"arrays\":[]}", "is not valid JSON"),
        ("{\"arrays\":[],\"requires\":[\"time travel\"]}", "the file needs the feature \"time travel\""),
        ("{\"arrays\":[],\"requires\":0}", "the metadata's requires"),
        ("{\"arrays\":[],\"sections_from_chunks\":1}", "the metadata's sections_from_chunks"),
        ("{\"arrays\":[],\"metadata\":[]}", "the metadata's metadata"),
        ("{\"arrays\":[],\"metadata\":{\"$json\":\"1\"}}", "is an escape of type number, expected an object"),
        ("{\"arrays\":[],\"metadata\":{\"$json\":1}}", "has an escape \"$json\" of type number"),
    ] {
        refused(text, &object(text), reason);
    }
    let named =
        |name: &str| object(&format!("{{\"arrays\":[{}]}}", v.replace("\"v\"", &format!("\"{name}\""))));
    for name in [String::new(), "\u{7f}".into(), "x".repeat(256)] {
        refused("a name", &named(&name), "expected a name of 1 to 255 bytes without control characters");
    }
    refused(
        "two names",
        &object(&format!("{{\"arrays\":[{v},{v}]}}")),
        "arrays[1].name is \"v\", expected a name that no",
    );
    for (rows, reason) in [
        ("[1,6]", "the metadata's sections[0].rows[1] is 6, expected a row from 1 to 5"),
        ("[2,1]", "the metadata's sections[0].rows[1] is 1, expected a row from 2 to 5"),
        ("[0]", "the metadata's sections[0].rows"),
        ("[0,1,2]", "the metadata's sections[0].rows"),
        ("[0,18446744073709551616]", "the metadata's sections[0].rows[1]"),
    ] {
        refused(rows, &with(&format!(",\"sections\":[{{\"metadata\":0,\"rows\":{rows}}}]")), reason);
    }
    let two = ",\"sections\":[{\"metadata\":0,\"rows\":[0,3]},{\"metadata\":0,\"rows\":[2,4]}]";
    refused(
        "sections that overlap",
        &with(two),
        "the metadata's sections[1].rows[0] is 2, expected a row that no section",
    );
}

#[test]
fn metadata_nested_too_deeply_is_refused_and_an_escape_hides_no_depth() {
    let _turn = turn();
    let metadata = |value: &str| by_hand(&[], &format!("{{\"arrays\":[],\"metadata\":{{\"a\":{value}}}}}"));
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(earned("62 deep", &metadata(&nested(62))).is_none());
    for depth in [63, 64, 1000, 1 << 18] {
        refused("deep", &metadata(&nested(depth)), "at most 64 arrays and objects");
        refused("and unfinished", &metadata(&"[".repeat(depth)), "at most 64 arrays and objects");
        let escaped = format!("{{\"$json\":\"{}\"}}", nested(depth));
        refused("escaped", &metadata(&escaped), "at most 62 arrays and objects");
    }
    let objects = "{\"\":".repeat(1 << 16);
    refused("objects", &metadata(&objects), "at most 64 arrays and objects");
}

/// As few bytes for each thing as JSON allows, and one thing more than a list that doubled has room for.
#[test]
fn crowded_metadata_costs_a_multiple_of_its_length() {
    let _turn = turn();
    let many = |item: &str| vec![item; (1 << 16) + 1].join(",");
    for item in ["0", "\"\"", "[]", "{}", "[0]", "{\"\":0}", "1e9", "{\"$json\":\"NaN\"}"] {
        for (place, text) in [
            ("an unknown key", format!("{{\"arrays\":[],\"x\":[{}]}}", many(item))),
            ("metadata", format!("{{\"arrays\":[],\"metadata\":{{\"x\":[{}]}}}}", many(item))),
        ] {
            let error = earned(&format!("{item} in {place}"), &by_hand(&[], &text));
            assert!(error.is_none(), "{item} in {place}: {}", error.unwrap());
        }
    }
    let keys: Vec<String> = (0..1 << 16).map(|key| format!("\"{key:05x}\":0")).collect();
    let text = format!("{{\"arrays\":[],\"metadata\":{{{}}}}}", keys.join(","));
    assert!(earned("keys", &by_hand(&[], &text)).is_none());
    let digits = "9".repeat(1 << 20);
    assert!(
        earned("a long number", &by_hand(&[], &format!("{{\"arrays\":[],\"metadata\":{{\"x\":{digits}}}}}")))
            .is_none()
    );
    let sections = many("{\"metadata\":0,\"rows\":[0,0]}");
    assert!(
        earned("sections", &by_hand(&[], &format!("{{\"arrays\":[],\"sections\":[{sections}]}}"))).is_none()
    );
    let arrays: Vec<String> = (0..1024)
        .map(|name| {
            format!(
                "{{\"codec\":{{\"name\":\"raw\"}},\"dtype\":\"u8\",\"name\":\"{name:04}\",\"shape\":[0]}}"
            )
        })
        .collect();
    assert!(earned("arrays", &by_hand(&[], &format!("{{\"arrays\":[{}]}}", arrays.join(",")))).is_none());
    let too_many = format!("{{\"arrays\":[{}]}}", many("0"));
    refused("arrays", &by_hand(&[], &too_many), "the file's array count is 65537, above the limit of 1024");
}

#[test]
fn parameters_of_rotated_rows_that_are_not_finite_are_refused() {
    let _turn = turn();
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    for codec in ["int4", "bit1"] {
        let file = |params: &[u8], fields: &[(u32, Vec<u8>)]| {
            by_hand(&[(5, 2, 0, chunk_by_hand(params, fields, &[], 3))], &one_array(codec, "f32", "5,2"))
        };
        let codes = || (1, vec![0; 5]);
        let centre = floats(&[1.0, -2.0]);
        let scales = |scales: &[f32]| (4, floats(scales));
        assert!(earned("rows", &file(&centre, &[codes(), scales(&[1.0; 5])])).is_none());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let lies = file(&centre, &[codes(), scales(&[1.0, 1.0, 1.0, bad, 1.0])]);
            refused("a scale", &lies, "chunk 0: the payload is damaged: the scale of row 3 is");
            // Rows before it are what they are.
            assert!(Reader::from_bytes(lies).unwrap().vectors().unwrap().read::<f32>(0..3).is_ok());
            let lies = file(&floats(&[1.0, bad]), &[codes(), scales(&[1.0; 5])]);
            refused("a centre", &lies, "needs a finite centre");
        }
        for params in [1, 4, 7, 9, 12, 24] {
            let lies = file(&vec![0; params], &[codes(), scales(&[1.0; 5])]);
            refused("parameters", &lies, "needs a centre of four bytes a dim");
        }
        refused("no scales", &file(&centre, &[codes()]), "streams that rotated needs");
        refused(
            "wide codes",
            &file(&centre, &[(2, vec![0; 10]), scales(&[1.0; 5])]),
            "streams that rotated needs",
        );
        let lies = file(&centre, &[codes(), scales(&[1.0; 5]), scales(&[1.0; 5])]);
        refused("three fields", &lies, "streams that rotated needs");
    }
}

#[test]
fn parameters_of_int8_that_are_not_finite_are_refused_or_give_the_values_that_they_say() {
    let _turn = turn();
    let codes = || (2, vec![1u8; 10]);
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let file = |params: &[u8], fields: &[(u32, Vec<u8>)]| {
        by_hand(&[(5, 2, 0, chunk_by_hand(params, fields, &[], 3))], &one_array("int8", "f32", "5,2"))
    };
    let rows = |min: &[f32; 5], scale: &[f32; 5]| file(&[], &[codes(), (4, floats(min)), (4, floats(scale))]);
    assert!(earned("rows", &rows(&[0.0; 5], &[1.0; 5])).is_none());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bad = [0.0, 0.0, 0.0, bad, 0.0];
        let lies = rows(&bad, &[1.0; 5]);
        refused("a minimum", &lies, "chunk 0: the payload is damaged: the minimum of row 3 is");
        refused("a scale", &rows(&[0.0; 5], &bad), "chunk 0: the payload is damaged: the scale of row 3 is");
        // Rows before it are what they are.
        let reader = Reader::from_bytes(lies).unwrap();
        assert_eq!(reader.vectors().unwrap().read::<f32>(0..3).unwrap(), [1.0; 6]);
        refused(
            "dims",
            &file(&floats(&[0.0, bad[3], 1.0, 1.0]), &[codes()]),
            "needs finite minima and scales",
        );
        // For a whole chunk it is a table like any other.
        assert!(earned("a chunk", &file(&floats(&[bad[3], 1.0]), &[codes()])).is_none());
    }
    for params in [1, 4, 7, 9, 12, 24] {
        refused("parameters", &file(&vec![0; params], &[codes()]), "codec int8 needs");
    }
    refused(
        "parameters of rows",
        &file(&[0; 8], &[codes(), (4, vec![0; 20]), (4, vec![0; 20])]),
        "codec int8 needs",
    );
    let narrow = file(&[], &[codes(), (4, vec![0; 20]), (2, vec![0; 10])]);
    refused("a narrow scale", &narrow, "do not lie in the fields and streams that affine_u8 needs");
    refused("two fields", &file(&[], &[codes(), (4, vec![0; 20])]), "affine_u8 needs");

    let lossless = |mask: &[u8], fields: &[(u32, Vec<u8>)]| {
        by_hand(&[(5, 2, 0, chunk_by_hand(mask, fields, &[], 3))], &one_array("lossless", "f32", "5,2"))
    };
    assert!(earned("no planes", &lossless(&[0], &[(8, vec![1; 40])])).is_none());
    for mask in [&[][..], &[16], &[255], &[0, 0]] {
        refused("planes", &lossless(mask, &[(8, vec![1; 40])]), "one byte that says which planes are packed");
    }
    refused("a plane that is not there", &lossless(&[8], &[(8, vec![1; 40])]), "join_planes needs");
}

/// A frame of RFC 8878 by hand: its descriptor, what follows that, and blocks without the bit that says which is the
/// last.
fn zstd_frame(descriptor: u8, header: &[u8], blocks: &[(u32, &[u8])]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor];
    frame.extend(header);
    for (number, (block, content)) in blocks.iter().enumerate() {
        let last = u32::from(number + 1 == blocks.len());
        frame.extend(&(block | last).to_le_bytes()[..3]);
        frame.extend(*content);
    }
    frame
}

#[test]
fn streams_that_lie_are_refused() {
    let _turn = turn();
    let stored = |len: u32| len << 3;
    let repeated = |len: u32| len << 3 | 2;
    let good = || zstd_frame(0x20, &[8], &[(stored(8), &[7; 8])]);
    let zstd =
        |first: Vec<u8>| streams("zstd", [first, good(), zstd_frame(0x20, &[4], &[(stored(4), &[7; 4])])]);
    assert!(earned("a frame by hand", &zstd(good())).is_none());
    assert!(earned("a frame by hand", &zstd(zstd_frame(0x20, &[8], &[(repeated(8), &[7])]))).is_none());
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &good()].concat();
    for (name, stream, reason) in [
        ("another magic", vec![0; 17], "the stream of block 0 is not a zstd frame"),
        ("one byte", vec![0x28], "is not a zstd frame"),
        ("only a magic", good()[..4].to_vec(), "ends within the header of its zstd frame"),
        (
            "no content size",
            zstd_frame(0, &[0x50], &[(stored(8), &[7; 8])]),
            "does not state its content size",
        ),
        ("a reserved bit", zstd_frame(0x28, &[8], &[(stored(8), &[7; 8])]), "with its reserved bit set"),
        ("a dictionary", zstd_frame(0x21, &[9, 8], &[(stored(8), &[7; 8])]), "needs the zstd dictionary 9"),
        ("a wide window", zstd_frame(0x80, &[0xff, 8, 0, 0, 0], &[(stored(8), &[7; 8])]), "with a window of"),
        ("2^64 - 1 bytes", zstd_frame(0xe0, &[0xff; 8], &[(stored(8), &[7; 8])]), "the stream of block 0"),
        (
            "fewer bytes",
            zstd_frame(0x20, &[7], &[(stored(7), &[7; 7])]),
            "decodes to 7 bytes, its rows need 8",
        ),
        (
            "more bytes",
            zstd_frame(0x20, &[9], &[(stored(9), &[7; 9])]),
            "decodes to 9 bytes, its rows need 8",
        ),
        ("a size too small", zstd_frame(0x20, &[8], &[(stored(9), &[7; 9])]), "the stream of block 0"),
        ("a size too large", zstd_frame(0x20, &[8], &[(stored(7), &[7; 7])]), "the stream of block 0"),
        ("a bomb", zstd_frame(0x20, &[8], &[(repeated(128 << 10), &[7][..]); 8]), "the stream of block 0"),
        ("a reserved block", zstd_frame(0x20, &[8], &[(8 << 3 | 6, &[7; 8])]), "is a damaged zstd frame"),
        ("a frame cut short", good()[..12].to_vec(), "is a damaged zstd frame"),
        ("a byte more", [good(), vec![0]].concat(), "has 1 bytes after its zstd frame"),
        ("two frames", [good(), good()].concat(), "has 17 bytes after its zstd frame"),
        ("a skippable frame", skippable, "is not a zstd frame"),
        (
            "a checksum that is wrong",
            zstd_frame(0x24, &[8], &[(stored(8), &[7; 12])]),
            "is a damaged zstd frame",
        ),
    ] {
        let bytes = zstd(stream);
        refused(name, &bytes, reason);
        // Other blocks are as good as ever.
        let reader = Reader::from_bytes(bytes).unwrap();
        assert_eq!(reader.vectors().unwrap().read::<i16>(2..5).unwrap(), [0x707; 6], "{name}");
    }

    let gzip = |first: Vec<u8>| {
        streams("gzip", [first, packed(Packing::Gzip, &[7; 8]), packed(Packing::Gzip, &[7; 4])])
    };
    let good = packed(Packing::Gzip, &[7; 8]);
    let with = |at: usize, byte: u8| {
        let mut stream = good.clone();
        let at = if at < 128 { at } else { stream.len() - (256 - at) };
        stream[at] = byte;
        stream
    };
    let flagged = |flag: u8, field: &[u8]| [&with(3, flag)[..10], field, &good[10..]].concat();
    assert!(earned("a member with a name", &gzip(flagged(8, b"a\0"))).is_none());
    let damaged = "the stream of block 0";
    for (name, stream, reason) in [
        ("another magic", with(0, 0), "is not a gzip member"),
        ("another method", with(2, 7), "is not a gzip member"),
        ("one byte", vec![0x1f], "is not a gzip member"),
        ("reserved flags", with(3, 0x20), "with reserved flags"),
        (
            "an extra field beyond the end",
            flagged(4, &[255, 255]),
            "ends within the header of its gzip member",
        ),
        ("a name without an end", with(3, 8)[..10].to_vec(), "ends within the header of its gzip member"),
        ("a header checksum", flagged(2, &[0, 0]), "does not match the checksum of its gzip header"),
        ("a header and no more", good[..10].to_vec(), "ends within its gzip member"),
        (
            "another checksum",
            with(256 - 8, good[good.len() - 8] ^ 1),
            "does not match the checksum and the length",
        ),
        ("another length", with(256 - 4, 9), "does not match the checksum and the length"),
        ("fewer bytes", packed(Packing::Gzip, &[7; 7]), "decodes to 7 bytes, its rows need 8"),
        ("more bytes", packed(Packing::Gzip, &[7; 9]), damaged),
        ("a bomb", packed(Packing::Gzip, &vec![0; 16 << 20]), "does not end after 8 bytes"),
        ("a byte more", [&good[..], &[0]].concat(), damaged),
        ("two members", [&good[..], &good].concat(), damaged),
        ("a member cut short", good[..good.len() - 9].to_vec(), damaged),
    ] {
        let bytes = gzip(stream);
        refused(name, &bytes, reason);
        let reader = Reader::from_bytes(bytes).unwrap();
        assert_eq!(reader.vectors().unwrap().read::<i16>(2..5).unwrap(), [0x707; 6], "{name}");
    }
}

#[test]
fn strings_that_lie_are_refused() {
    let _turn = turn();
    let block = |ends: &[u32], text: &[u8]| {
        let ends = ends.iter().flat_map(|end| end.to_le_bytes());
        ends.chain(text.iter().copied()).collect::<Vec<u8>>()
    };
    let file = |codec: &str, first: Vec<u8>, second: Vec<u8>| {
        let chunk = chunk_by_hand(&[], &[], &[vec![first, second]], 2);
        by_hand(&[(3, 2, 0, chunk)], &one_array(codec, "utf8", "3"))
    };
    let second = || block(&[2], b"ok");
    for (name, first, reason) in [
        (
            "ends that decrease",
            block(&[3, 2], b"abc"),
            "has string 1 end at byte 2 of 3, which is no place for it",
        ),
        ("an end beyond the text", block(&[1, 4], b"abc"), "has string 1 end at byte 4 of 3"),
        ("the last end there is", block(&[1, u32::MAX], b"abc"), "has string 1 end at byte 4294967295 of 3"),
        ("half a character", block(&[1, 2], "ä".as_bytes()), "has string 0 end at byte 1 of 2"),
        ("no UTF-8", block(&[1, 3], b"a\xffb"), "holds strings that are not UTF-8"),
        ("half of a pair", block(&[1, 4], b"a\xed\xa0\x80"), "holds strings that are not UTF-8"),
        ("text that is nobody's", block(&[1, 2], b"abc"), "has 1 bytes after its last string"),
        ("no room for the ends", vec![0; 7], "decodes to 7 bytes, too few for the ends of 2 strings"),
    ] {
        for (codec, packing) in [("raw", Packing::Stored), ("zstd", Packing::Zstd), ("gzip", Packing::Gzip)] {
            let bytes = file(codec, packed(packing, &first), packed(packing, &second()));
            refused(name, &bytes, reason);
            let reader = Reader::from_bytes(bytes).unwrap();
            assert_eq!(reader.vectors().unwrap().read_strings(2..3).unwrap().get(0), "ok", "{name}");
        }
    }
    // What the stream says of its own length is believed within bounds only.
    let long = |len: u32| zstd_frame(0xa0, &len.to_le_bytes(), &[(0, &[])]);
    refused("2^32 - 1 bytes", &file("zstd", long(u32::MAX), second()), "with a window of 4294967295 bytes");
    refused("8 MiB of nothing", &file("zstd", long(8 << 20), second()), "which is too many");
    let mut gzip = packed(Packing::Gzip, &block(&[1, 2], b"ab"));
    let end = gzip.len() - 4;
    put(&mut gzip, end, [0xff; 4]);
    refused(
        "2^32 - 1 bytes",
        &file("gzip", gzip, packed(Packing::Gzip, &second())),
        "is said to decode to 4294967295",
    );
    let codec = file("int8", second(), second());
    refused("no codec for strings", &codec, "codec int8 does not store strings");
    let field = chunk_by_hand(&[], &[(4, vec![0; 12])], &[vec![second(), second()]], 2);
    let with_field = by_hand(&[(3, 2, 0, field)], &one_array("raw", "utf8", "3"));
    refused("a field", &with_field, "1 fields and 1 lanes, one lane is needed");
    // So many rows of strings are in one block as nobody could pay for.
    let chunk = chunk_by_hand(&[], &[], &[vec![packed(Packing::Zstd, &[0; 4096])]], 1);
    let crowd = by_hand(&[(u32::MAX, u32::MAX, 0, chunk)], &one_array("zstd", "utf8", "4294967295"));
    refused("2^32 - 1 strings", &crowd, "decodes to 4096 bytes, too few for the ends of 4294967295 strings");
}

#[test]
fn a_kibibyte_that_claims_2_to_the_40_rows_is_refused_with_almost_nothing_allocated() {
    let _turn = turn();
    /// A few copies of the file: in the opening, and what a message about it says.
    const ALMOST_NOTHING: usize = 16 << 10;
    let rows = u32::MAX;
    let fill = |mut metadata: String, chunks: &[(u32, u32, u16, Vec<u8>)]| {
        // A thousand bytes of what the user says.
        let len = by_hand(chunks, &metadata).len();
        metadata.pop();
        let metadata = format!("{metadata},\"metadata\":{{\"x\":\"{}\"}}}}", "x".repeat(1024 - len - 20));
        let bytes = by_hand(chunks, &metadata);
        assert_eq!(bytes.len(), 1024);
        bytes
    };
    // No chunk holds them.
    let none = fill(one_array("raw", "f32", "1099511627776,2"), &[]);
    // One chunk holds one of them.
    let one = chunk_by_hand(&[], &[(8, vec![0; 8])], &[], 1);
    let one = fill(one_array("raw", "f32", "1099511627776,2"), &[(1, 1, 0, one)]);
    for (name, bytes) in [("no chunk", none), ("one row", one)] {
        let (error, peak) =
            measured(|| Reader::new(Box::new(Copied(bytes.clone())), ReadOptions::default()).unwrap_err());
        assert!(
            error.to_string().contains("of array \"v\", which has 1099511627776 rows"),
            "{name}: {error}"
        );
        assert!(peak < ALMOST_NOTHING, "{name}: {peak} bytes");
    }
    // As many as an entry can claim, in one block, which costs nothing in a head: only the field says how many there are.
    let claims = |codec: &str, dtype: &str, chunk: Vec<u8>| {
        let metadata = one_array(codec, dtype, if dtype == "utf8" { "4294967295" } else { "4294967295,2" });
        fill(metadata, &[(rows, rows, 0, chunk)])
    };
    let field = |width: u32| chunk_by_hand(&[], &[(width, vec![0; 8])], &[], 1);
    let stream = |packing| chunk_by_hand(&[], &[], &[vec![packed(packing, &[0; 64])]], 1);
    let int8 = || chunk_by_hand(&[], &[(2, vec![0; 8]), (4, vec![0; 8]), (4, vec![0; 8])], &[], 1);
    for (name, bytes, reason) in [
        (
            "raw",
            claims("raw", "f32", field(8)),
            "describes a chunk of 34359738432 bytes, the index has one of 128",
        ),
        ("int8", claims("int8", "f32", int8()), "describes a chunk of"),
        (
            "zstd",
            claims("zstd", "f32", stream(Packing::Zstd)),
            "is said to decode to 34359738360 bytes from a stream",
        ),
        (
            "gzip",
            claims("gzip", "f32", stream(Packing::Gzip)),
            "is said to decode to 34359738360 bytes from a stream",
        ),
        (
            "strings",
            claims("zstd", "utf8", stream(Packing::Zstd)),
            "too few for the ends of 4294967295 strings",
        ),
    ] {
        let read =
            || read_rows(Reader::from_bytes(bytes.clone()).unwrap().vectors().unwrap(), .., 0).unwrap_err();
        // Once before, so that what a thread or an unpacker keeps for ever is there.
        read();
        let (error, peak) = measured(read);
        assert!(error.to_string().contains(reason), "{name}: {error}");
        assert!(peak < 2 * ALMOST_NOTHING, "{name}: {peak} bytes");
        refused(name, &bytes, reason);
    }
}

/// One array of `i64` values or of strings, one chunk of many blocks, each of which unpacks to `len` zeros.
fn bomb(codec: &str, dtype: &str, blocks: usize, len: usize) -> Vec<u8> {
    let packing = if codec == "zstd" { Packing::Zstd } else { Packing::Gzip };
    let stream = packed(packing, &vec![0; len]);
    let block_rows = u32::try_from(len / if dtype == "utf8" { 4 } else { 8 }).unwrap();
    let rows = block_rows * u32::try_from(blocks).unwrap();
    let chunk = chunk_by_hand(&[], &[], &[vec![stream; blocks]], blocks);
    by_hand(&[(rows, block_rows, 0, chunk)], &one_array(codec, dtype, &rows.to_string()))
}

#[test]
fn what_unpacks_to_much_more_than_it_is_costs_a_block_unless_all_of_it_is_wanted() {
    let _turn = turn();
    for (codec, dtype) in [("zstd", "i64"), ("gzip", "i64"), ("zstd", "utf8"), ("gzip", "utf8")] {
        let len = 16 << 20;
        let bytes = bomb(codec, dtype, 8, len);
        let (reader, opened) = measured(|| Reader::from_bytes(bytes.clone()).unwrap());
        assert!(opened <= BYTES_PER_NATIVE_BYTE * bytes.len() + BASE, "{codec} {dtype}: {opened}");
        let array = reader.vectors().unwrap();
        let (_, planned) = measured(|| {
            array.byte_ranges(.., 0).unwrap();
            if dtype != "utf8" {
                array.decoded_len(.., DType::I64).unwrap();
            }
        });
        assert!(planned <= BASE, "{codec} {dtype}: {planned}");
        let (report, verified) = measured(|| reader.verify().unwrap());
        assert!(report.is_ok(), "{report:?}");
        // Strings have an end each, of eight bytes in memory and four in the file, and are there twice.
        let unpacked = if dtype == "utf8" { 4 * UNPACKED } else { UNPACKED };
        assert!(verified <= unpacked + BASE, "{codec} {dtype}: {verified} bytes to verify {}", bytes.len());

        // All of it is what the caller allows, and no more is allocated first.
        let mut options = ReadOptions::default();
        options.limits.decoded_bytes = 64 << 20;
        let reader = Reader::new(Box::new(bytes), options).unwrap();
        let (error, peak) = measured(|| read_rows(reader.vectors().unwrap(), .., 0).unwrap_err());
        assert!(matches!(error, Error::Limit { .. }) && error.is_usage(), "{codec} {dtype}: {error}");
        let allowed = if dtype == "utf8" { 6 * (64 << 20) } else { BASE };
        assert!(peak <= allowed, "{codec} {dtype}: {peak} bytes");
    }
}

/// Many rows of one chunk, wanted one by one, need its head once.
#[test]
fn rows_wanted_one_by_one_cost_no_more_than_wanted_together() {
    let _turn = turn();
    let rows = 40_000u32;
    let values: Vec<f32> = (0..2 * rows).map(|value| value as f32).collect();
    let array = ArrayOptions::values("v", DType::F32, &[2], "raw").block_rows(1);
    let mut writer = Writer::in_memory(WriteOptions::new(Layout::Native).with_array(array).unwrap()).unwrap();
    writer.write_vectors(RowSlice::new(&values, 2).unwrap()).unwrap();
    let bytes = writer.finish_bytes().unwrap();
    let wanted: Vec<u64> = (0..2000u64).map(|row| row * 19 % 40_000).collect();
    let reader = Reader::new(Box::new(Copied(bytes.clone())), ReadOptions::default()).unwrap();
    let (read, peak) = measured(|| reader.vectors().unwrap().read::<f32>(wanted.as_slice()).unwrap());
    assert_eq!(read[2 * 7], values[2 * 7 * 19]);
    assert!(
        peak < 4 * bytes.len() + BASE,
        "{peak} bytes for {} rows of a file of {}",
        wanted.len(),
        bytes.len()
    );
}

/// Rows that are claimed and cannot be found are not paid for by anything, so they cannot be filled.
#[test]
fn rows_of_a_chunk_whose_head_is_damaged_are_not_filled_beyond_what_its_bytes_could_hold() {
    let _turn = turn();
    let chunk = chunk_by_hand(&[], &[(8, vec![0; 8])], &[], 1);
    for (dtype, shape) in [("f32", "4294967295,2"), ("utf8", "4294967295")] {
        let mut bytes = by_hand(&[(u32::MAX, u32::MAX, 0, chunk.clone())], &one_array("raw", dtype, shape));
        bytes[CHUNK + 63] ^= 1;
        let reader = Reader::from_bytes(bytes).unwrap();
        let array = reader.vectors().unwrap();
        let salvage = |on_damage| match dtype {
            "utf8" => array.salvage_strings(.., on_damage).map(|saved| saved.lost),
            _ => array.salvage::<f32>(.., on_damage).map(|saved| saved.lost),
        };
        assert_eq!(salvage(OnDamage::Skip).unwrap(), [0..u64::from(u32::MAX)]);
        let (filled, peak) = measured(|| salvage(OnDamage::Fill));
        assert!(filled.is_err(), "{dtype}: 2^32 rows are filled");
        assert!(peak < BASE, "{dtype}: {peak} bytes");
    }
}

/// Counts what is asked of a file in memory that lends nothing.
struct Counted {
    bytes: Vec<u8>,
    asked: Arc<Mutex<Vec<Vec<Range<u64>>>>>,
}

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        ReadAt::len(&self.bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.read_ranges(&mut [(offset, into)])
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
        let asked = ranges.iter().map(|(offset, into)| *offset..*offset + into.len() as u64);
        self.asked.lock().unwrap().push(asked.collect());
        ranges.iter_mut().try_for_each(|(offset, into)| ReadAt::read_at(&self.bytes, *offset, into))
    }
}

#[test]
fn a_file_of_ten_thousand_chunks_opens_with_two_reads_and_a_row_costs_its_head_and_its_block() {
    let _turn = turn();
    let rows = 10_000u32 * 6;
    let values: Vec<f32> = (0..rows * 4).map(|value| value as f32).collect();
    for (codec, ranges_of_a_block) in [("raw", 1), ("int8", 3), ("zstd", 1)] {
        let array = ArrayOptions::values("vectors", DType::F32, &[4], codec).block_rows(2);
        let options = WriteOptions::new(Layout::Native).chunk_rows(6).unwrap().with_array(array).unwrap();
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write_vectors(RowSlice::new(&values, 4).unwrap()).unwrap();
        let bytes = writer.finish_bytes().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let take = || std::mem::take(&mut *asked.lock().unwrap());
        let len_of = |asked: &[Vec<Range<u64>>]| {
            asked.iter().flatten().map(|range| range.end - range.start).sum::<u64>()
        };

        let (source, len) = (Counted { bytes: bytes.clone(), asked: asked.clone() }, bytes.len());
        let (reader, peak) = measured(|| Reader::new(Box::new(source), ReadOptions::default()).unwrap());
        assert!(peak <= 4 * len, "{codec}: {peak} bytes for a file of {len}");
        let opening = take();
        assert_eq!(reader.index().arrays[0].chunks.len(), 10_000);
        assert!(opening.len() <= 2, "{codec}: {opening:?}");
        // Prelude, index, metadata and trailer, and of the chunks no more than the first guess at the tail.
        assert!(len_of(&opening) <= 64 + 48 * 10_000 + (64 << 10), "{codec}: {opening:?}");

        let array = reader.vectors().unwrap();
        let row = 30_003;
        let read: Vec<f32> = array.read(row..row + 1).unwrap();
        assert!((read[0] - values[4 * 30_003]).abs() < 1.0, "{codec}: {read:?}");
        let asked_for_row = take();
        let ranges: Vec<Range<u64>> = asked_for_row.iter().flatten().cloned().collect();
        assert_eq!(asked_for_row.len(), 2, "{codec}: head, then block: {asked_for_row:?}");
        assert_eq!(ranges.len(), 1 + ranges_of_a_block, "{codec}: {ranges:?}");
        let regions = seal::Borders::of(&bytes).unwrap();
        let entry = regions.entries(&bytes).nth(5000).unwrap().unwrap();
        let blocks = entry.blocks(&bytes[entry.chunk.clone()]).unwrap();
        let start = entry.chunk.start as u64;
        let expected =
            blocks.covered[1].iter().map(|range| start + range.start as u64..start + range.end as u64);
        let head = start..start + entry.head_len as u64;
        assert_eq!(ranges, std::iter::once(head).chain(expected).collect::<Vec<_>>(), "{codec}");

        // The head is known now.
        let _: Vec<f32> = array.read(row + 1..row + 2).unwrap();
        assert_eq!(take().len(), 1, "{codec}");
    }
}

#[test]
fn the_callers_limit_holds_for_strings_too() {
    let _turn = turn();
    let strings: cvc::Strings = ["abc"; 100].into_iter().collect();
    let array = ArrayOptions::strings("v", "raw").block_rows(10);
    let mut writer = Writer::in_memory(WriteOptions::new(Layout::Native).with_array(array).unwrap()).unwrap();
    writer.write(&[&strings]).unwrap();
    let bytes = writer.finish_bytes().unwrap();
    let mut options = ReadOptions::default();
    options.limits.decoded_bytes = 70;
    let reader = Reader::new(Box::new(bytes), options).unwrap();
    let array = reader.vectors().unwrap();
    assert_eq!(array.read_strings(5..15).unwrap().len(), 10);
    let many: Vec<_> = (0..1000).map(|_| 0..5).collect();
    for rows in [Rows::ALL, many.into()] {
        let error = array.read_strings(rows).unwrap_err();
        assert!(matches!(error, Error::Limit { limit: 70, .. }) && error.is_usage(), "{error}");
    }
}
