//! No allocation grows with a number that the file has not earned.
//!
//! A header can say anything: 10^15 rows, a chunk of 4 GiB, a list of a million chunks. What a reader allocates
//! to open such a file, check it and read all of it stays within a multiple of the file's *length*. The
//! allocator of this test program counts, so it has few tests, and they take turns.
#![expect(unsafe_code, reason = "an allocator cannot be written without it; it only counts and passes on")]

#[path = "support/samples.rs"]
mod samples;

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cvc::{Array, Element, Error, ReadAt, ReadOptions, Reader};

use samples::{Copied, ForType, header_end, samples, versioned, with_type};

/// Bytes of memory for each byte of a file, at most: the most crowded JSON costs about sixty while its list is
/// growing, decoded values cost eight, and the file itself lies in memory, once.
const BYTES_PER_BYTE: usize = 64;
/// And this much whatever the file.
const BASE: usize = 1 << 20;

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
        let allowed = BYTES_PER_BYTE * bytes.len() + BASE;
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
    reader.verify().unwrap();
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
    file.extend(crc32fast::hash(payload).to_le_bytes());
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
