//! S4's bodies and sidecars: those it wrote are read, those we write are read again, and damage is found.
#![cfg(feature = "s4")]

use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cvc::codec::SourceError;
use cvc::s4::{
    Body, CheckedPayload, Codec, Dictionary, Error, FrameHeader, Index, IndexError, MAX_FRAME_LEN,
    PayloadError, ReadLimits, ReadOptions, Source, Totals, WriteCodec, WriteOptions, Writer, Written,
    decode_payload, encode_payload, frame_len_for,
};
use cvc::{Json, ReadAt};
use proptest::prelude::*;

// The golden files.

fn golden(file: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../cvc-conformance/data/golden/s4");
    let path = folder.join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(file: &str) -> Json {
    Json::parse(&golden(file), 16).unwrap()
}

fn list<'j>(json: &'j Json, key: &str) -> &'j [Json] {
    json.get(key).and_then(Json::as_array).unwrap_or_else(|| panic!("no list {key}"))
}

fn text<'j>(json: &'j Json, key: &str) -> &'j str {
    json.get(key).and_then(Json::as_str).unwrap_or_else(|| panic!("no text {key}"))
}

fn number(json: &Json, key: &str) -> u64 {
    json.get(key).and_then(Json::as_u64).unwrap_or_else(|| panic!("no number {key}"))
}

fn crc(json: &Json) -> u32 {
    u32::try_from(number(json, "crc32c")).unwrap()
}

fn header(json: &Json, codec: Codec) -> FrameHeader {
    FrameHeader {
        codec,
        decoded_len: number(json, "original_size"),
        payload_len: number(json, "compressed_size"),
        crc32c: crc(json),
    }
}

/// The 9 MiB of `multi9m`, which are not stored.
fn nine_mib() -> Vec<u8> {
    b"0123456789abcdef".repeat(9 << 16)
}

fn everything(body: &Body<'_>) -> Result<Vec<u8>, Error> {
    body.read_range(0..body.decoded_len())
}

fn slice(bytes: &[u8], range: Range<u64>) -> &[u8] {
    &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

fn open(bytes: &[u8]) -> Result<Body<'_>, Error> {
    Body::open(bytes, ReadOptions::default())
}

/// A frame as `docs/S4.md` has it, with whatever it claims.
fn frame(codec: u32, decoded_len: u64, crc32c: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"S4F2".to_vec();
    bytes.extend(codec.to_le_bytes());
    bytes.extend(decoded_len.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(crc32c.to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn padding(len: usize) -> Vec<u8> {
    [b"S4P1", &(len as u64).to_le_bytes()[..], &vec![0; len]].concat()
}

#[test]
fn every_golden_payload_decodes_with_and_without_a_frame() {
    let manifest = manifest("manifest.json");
    let mut out = Vec::new();
    for entry in list(&manifest, "entries") {
        let codec = u32::try_from(number(entry, "codec_id")).unwrap();
        let codec = Codec::from_id(codec).unwrap();
        assert_eq!(codec.name(), text(entry, "codec"));
        let (payload, expected) = (golden(text(entry, "compressed")), golden(text(entry, "payload")));
        let header = header(entry, codec);
        decode_payload(header, &payload, &ReadOptions::default(), &mut out).unwrap();
        assert_eq!(out, expected);
        let framed = frame(codec.id(), header.decoded_len, header.crc32c, &payload);
        let body = open(&framed).unwrap();
        assert_eq!(body.frames()[0].header, Some(header));
        body.read_frame(0, &mut out).unwrap();
        assert_eq!(out, expected);
    }
    assert_eq!(list(&manifest, "entries").len(), 16);
}

#[test]
fn every_golden_body_has_the_frames_and_the_bytes_of_its_manifest() {
    let manifest = manifest("manifest.json");
    let mut out = Vec::new();
    for entry in list(&manifest, "s4f2") {
        let (name, bytes) = (text(entry, "name"), golden(text(entry, "body")));
        let body = open(&bytes).unwrap();
        let expected = if name.starts_with("multi9m") { nine_mib() } else { golden(&format!("{name}.bin")) };
        assert_eq!(everything(&body).unwrap(), expected, "{name}");
        assert!(body.verify().is_empty(), "{name}");
        if entry.get("frames").is_none() {
            // The padded copy.
            let plain = golden("multi9m.s4f2");
            assert_eq!((body.frames(), bytes.len()), (open(&plain).unwrap().frames(), plain.len() + 76));
            continue;
        }
        assert_eq!(body.frames().len(), list(entry, "frames").len(), "{name}");
        for (number, (frame, expected)) in body.frames().iter().zip(list(entry, "frames")).enumerate() {
            assert_eq!(frame.header, Some(header(expected, Codec::CpuZstd)), "{name} {number}");
            body.read_frame(number, &mut out).unwrap();
            assert_eq!(out.len() as u64, frame.decoded.end - frame.decoded.start);
        }
        let metadata = entry.get("metadata").unwrap();
        let figure = |key| text(metadata, key).parse::<u64>().unwrap();
        let totals = Totals {
            decoded_len: figure("s4-original-size"),
            stored_len: figure("s4-compressed-size"),
            crc32c: u32::try_from(figure("s4-crc32c")).unwrap(),
        };
        body.totals().unwrap().check(&totals).unwrap();
    }
    assert_eq!(list(&manifest, "s4f2").len(), 7);
}

#[test]
fn golden_zstd_chunks_of_a_gpu_codec_decode() {
    let manifest = manifest("manifest.json");
    let entry = &list(&manifest, "fcg1")[0];
    let payload = golden(text(entry, "body"));
    let framed = frame(2, number(entry, "original_size"), crc(entry), &payload);
    assert_eq!(everything(&open(&framed).unwrap()).unwrap(), golden("text.bin"));
    assert_eq!(payload.len() as u64, number(entry, "size"));
}

#[test]
fn a_golden_payload_with_a_dictionary_decodes_with_that_dictionary_alone() {
    let manifest = manifest("dict/manifest.json");
    let entry = &list(&manifest, "entries")[0];
    let file = |key| golden(&format!("dict/{}", text(entry, key)));
    let dictionary = file("dictionary");
    let payload = file("compressed");
    let header = header(entry, Codec::CpuZstdDict);
    let body = frame(8, header.decoded_len, header.crc32c, &payload);
    let read = |dictionary: Option<&[u8]>| {
        let dictionary = dictionary.map(|bytes| Dictionary::new(bytes).unwrap());
        everything(&Body::open(&body, ReadOptions { dictionary, ..ReadOptions::default() }).unwrap())
    };
    assert_eq!(u64::from(Dictionary::new(&dictionary).unwrap().id()), number(entry, "dictionary_id"));
    assert_eq!(read(Some(&dictionary)).unwrap(), file("payload"));

    assert!(matches!(read(None), Err(Error::NoDictionary { frame: 0, offset: 0 })));
    let dictionaries = |result| match result {
        Err(Error::Dictionary { frame: 0, offset: 0, wanted, given }) => (wanted, given),
        other => panic!("{other:?}"),
    };
    let mut other = dictionary.clone();
    other[4] ^= 1;
    let wanted = 20_260;
    for (bytes, given) in [(&other[..], wanted ^ 1), (b"content alone", 0)] {
        assert_eq!(dictionaries(read(Some(bytes))), (wanted, given));
    }
    // A frame that says it needs none, and does.
    let plain = frame(1, header.decoded_len, header.crc32c, &payload);
    assert_eq!(dictionaries(everything(&open(&plain).unwrap())), (wanted, 0));
    // The same id and other content: the crc32c or zstd itself notices.
    let mut other = dictionary.clone();
    let last = other.len() - 500;
    other[last..].fill(b'x');
    assert!(read(Some(&other)).is_err());

    assert!(Dictionary::new(b"").is_err());
    assert!(Dictionary::new(&dictionary[..30]).is_err());
}

// Sidecars.

#[test]
fn golden_sidecars_find_the_frames_that_walking_finds() {
    let manifest = manifest("manifest.json");
    let entry = list(&manifest, "s4f2").iter().find(|entry| text(entry, "name") == "multi9m").unwrap();
    let expected = entry.get("index").unwrap();
    let (etag, body_len) = (text(expected, "source_etag"), number(expected, "source_compressed_size"));
    let sidecar = golden("multi9m.s4index");
    let index = Index::parse(&sidecar).unwrap();
    assert_eq!(index.binding(), (Some(body_len), Some(etag)));
    assert_eq!((index.stored_len(), index.encryption()), (number(expected, "total_padded_size"), None));
    let entries: Vec<[u64; 4]> = list(expected, "entries")
        .iter()
        .map(|entry| {
            ["original_offset", "original_size", "compressed_offset", "compressed_size"]
                .map(|key| number(entry, key))
        })
        .collect();
    let len = |range: &Range<u64>| range.end - range.start;
    let found: Vec<[u64; 4]> = index
        .entries()
        .iter()
        .map(|entry| [entry.decoded.start, len(&entry.decoded), entry.stored.start, len(&entry.stored)])
        .collect();
    assert_eq!(found, entries);

    let bytes = golden("multi9m.s4f2");
    let walked = open(&bytes).unwrap();
    let matched = index.matching(body_len, Some(etag)).unwrap();
    let indexed = Body::open_indexed(&bytes, matched, ReadOptions::default()).unwrap();
    assert_eq!(everything(&indexed).unwrap(), nine_mib());
    assert_eq!(indexed.totals().unwrap(), walked.totals().unwrap());
    assert!(indexed.verify().is_empty());

    // What we make of the body is what S4 made of it, bound or not.
    let unbound = golden("multi9m.s4index.unbound");
    assert_eq!(walked.index().to_bytes(), unbound);
    assert_eq!(indexed.index().bind(body_len, Some(etag)).unwrap().to_bytes(), sidecar);
    assert_eq!(index.to_bytes(), sidecar);
    assert_eq!(Index::parse(&unbound).unwrap().to_bytes(), unbound);
}

#[test]
fn a_sidecar_serves_only_the_object_it_describes() {
    let index = Index::parse(&golden("multi9m.s4index")).unwrap();
    let etag = "d41d8cd98f00b204e9800998ecf8427e";
    for given in [None, Some(etag), Some(&*format!("\"{etag}\""))] {
        assert!(index.matching(1020, given).is_ok());
    }
    let mismatch = |result: Result<cvc::s4::Matched<'_>, Error>| match result {
        Err(Error::Mismatch { what, described_by, .. }) => (what, described_by),
        other => panic!("{other:?}"),
    };
    assert_eq!(mismatch(index.matching(1021, Some(etag))), ("body's length", "sidecar"));
    assert_eq!(mismatch(index.matching(1020, Some("another"))), ("object's etag", "sidecar"));
    assert_eq!(mismatch(index.unbound(1021)), ("body's length", "sidecar"));

    // Not bound, or to the length alone.
    let unbound = Index::parse(&golden("multi9m.s4index.unbound")).unwrap();
    assert!(matches!(unbound.matching(1020, None), Err(Error::Unbound)));
    assert!(matches!(unbound.matching(1020, Some(etag)), Err(Error::Unbound)));
    assert!(unbound.unbound(1020).is_ok());
    let by_len = unbound.clone().bind(1020, None).unwrap();
    assert!(by_len.matching(1020, None).is_ok());
    assert!(matches!(by_len.matching(1020, Some(etag)), Err(Error::Unbound)));
    assert!(matches!(unbound.clone().bind(1021, None), Err(Error::Mismatch { .. })));
    assert!(matches!(unbound.bind(1020, Some(&"e".repeat(4097))), Err(Error::Argument { .. })));

    // The source must be the object that was matched.
    let longer = golden("multi9m.padded.s4f2");
    let matched = index.matching(1020, Some(etag)).unwrap();
    let opened = Body::open_indexed(&longer, matched, ReadOptions::default());
    assert!(matches!(opened, Err(Error::Mismatch { what: "body's length", .. })));
}

#[test]
fn a_stale_sidecar_is_noticed_in_the_frames_that_are_read() {
    let bytes = golden("multi9m.s4f2");
    let index = Index::parse(&golden("multi9m.s4index")).unwrap();
    // Another object of the same length: two frames where there were three.
    let other = [frame(0, 408, 0, &[0; 408]), frame(0, 556, 0, &[0; 556])].concat();
    assert_eq!(other.len(), bytes.len());
    let matched = index.unbound(1020).unwrap();
    let body = Body::open_indexed(&other, matched, ReadOptions::default()).unwrap();
    let stale = |result: Result<Vec<u8>, Error>, number: usize, at: u64| {
        let Err(Error::Header { frame, offset, known_from }) = result else { panic!("{result:?}") };
        assert_eq!((frame, offset, known_from), (number, at, "the sidecar"));
    };
    stale(body.read_range(0..1), 0, 0);
    stale(body.read_range(8 << 20..9 << 20), 2, 872);
    stale(body.totals().map(|_| Vec::new()), 0, 0);
    let errors = body.verify();
    assert!(matches!(errors[..], [Error::Header { frame: 0, offset: 0, .. }]), "{errors:?}");
}

/// A sidecar of any version, of frames that are 5 bytes each in 33 bytes of a body, with padding of 2 after each.
fn sidecar(version: u32, entries: u64, extra: &[u8]) -> Vec<u8> {
    let mut bytes = b"S4IX".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend([entries, 5 * entries, 47 * entries].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(extra);
    for entry in 0..entries {
        bytes.extend([5 * entry, 5, 47 * entry, 33].iter().flat_map(|number| number.to_le_bytes()));
    }
    bytes
}

fn binding(len: u64, etag: &[u8]) -> Vec<u8> {
    let etag_len = u32::try_from(etag.len()).unwrap();
    [&len.to_le_bytes(), &etag_len.to_le_bytes()[..], etag].concat()
}

fn encryption(chunk_len: u32, chunks: u32, plaintext_len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(chunk_len.to_le_bytes());
    bytes.extend(chunks.to_le_bytes());
    bytes.extend(7u16.to_le_bytes());
    bytes.extend(b"saltsalt");
    bytes.extend(plaintext_len.to_le_bytes());
    bytes.extend(24u32.to_le_bytes());
    bytes
}

/// The body that `sidecar` describes.
fn padded_body(entries: u8) -> Vec<u8> {
    let bytes = |entry: u8| {
        let data = [b'a' + entry; 5];
        [frame(0, 5, cvc::format::checksum::crc32c(&data), &data), padding(2)].concat()
    };
    (0..entries).flat_map(bytes).collect()
}

#[test]
fn sidecars_of_every_version_are_read() {
    let bytes = padded_body(3);
    let v1 = Index::parse(&sidecar(1, 3, b"")).unwrap();
    assert_eq!(v1.binding(), (None, None));
    assert!(matches!(v1.matching(141, None), Err(Error::Unbound)));
    let v2 = Index::parse(&sidecar(2, 3, &binding(141, b"etag"))).unwrap();
    assert_eq!(v2.binding(), (Some(141), Some("etag")));
    // Version 3 without encryption is version 2 with 30 zeros.
    let v3 = Index::parse(&sidecar(3, 3, &[&binding(141, b"etag")[..], &[0; 30]].concat())).unwrap();
    assert_eq!(v3, v2);
    assert_eq!(v3.to_bytes(), sidecar(2, 3, &binding(141, b"etag")));
    for index in [&v1, &v2, &v3] {
        assert_eq!(open(&bytes).unwrap().frames().len(), 3);
        let matched = index.unbound(141).unwrap();
        let body = Body::open_indexed(&bytes, matched, ReadOptions::default()).unwrap();
        assert_eq!(body.read_range(4..11).unwrap(), b"abbbbbc");
        assert!(body.verify().is_empty());
    }

    // An encrypted body is longer than what the sidecar describes.
    let encrypted = sidecar(3, 3, &[binding(300, b"etag"), encryption(50, 3, 141)].concat());
    let index = Index::parse(&encrypted).unwrap();
    let block = index.encryption().unwrap();
    assert_eq!((block.chunk_len, block.chunks, block.key_id, &block.salt), (50, 3, 7, b"saltsalt"));
    assert_eq!((block.plaintext_len, block.header_len), (141, 24));
    assert_eq!(index.to_bytes(), encrypted);
    assert!(matches!(index.matching(300, Some("etag")), Err(Error::Encrypted { key_id: 7 })));

    // An object of nothing.
    let nothing = Index::parse(&sidecar(2, 0, &binding(0, b""))).unwrap();
    let body =
        Body::open_indexed(&b""[..], nothing.matching(0, None).unwrap(), ReadOptions::default()).unwrap();
    assert_eq!((everything(&body).unwrap(), body.totals().unwrap().crc32c), (vec![], 0));
}

#[test]
fn each_way_to_be_no_sidecar_is_named() {
    let parse = |bytes: &[u8]| Index::parse(bytes).unwrap_err();
    let good = sidecar(2, 2, &binding(94, b"etag"));
    let with = |at: usize, number: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    assert_eq!(parse(b"S4F2"), IndexError::Magic { found: b"S4F2".to_vec() });
    assert_eq!(parse(b"S4"), IndexError::Magic { found: b"S4".to_vec() });
    assert_eq!(parse(b"S4IX"), IndexError::Length { expected: 32, found: 4 });
    assert_eq!(parse(&sidecar(0, 2, b"")), IndexError::Version { version: 0 });
    assert_eq!(parse(&sidecar(4, 2, b"")), IndexError::Version { version: 4 });
    assert_eq!(parse(&with(8, (1 << 24) + 1)), IndexError::Frames { frames: (1 << 24) + 1 });
    assert_eq!(parse(&with(8, u64::MAX)), IndexError::Frames { frames: u64::MAX });
    assert_eq!(parse(&with(8, 1 << 24)), IndexError::Length { expected: 48 + (32 << 24), found: 112 });
    assert_eq!(parse(&good[..40]), IndexError::Length { expected: 44, found: 40 });
    assert_eq!(parse(&good[..45]), IndexError::Length { expected: 48, found: 45 });
    assert_eq!(parse(&good[..111]), IndexError::Length { expected: 112, found: 111 });
    assert_eq!(parse(&[&good[..], b"x"].concat()), IndexError::Length { expected: 112, found: 113 });
    assert_eq!(parse(&sidecar(3, 0, &binding(0, b""))), IndexError::Length { expected: 74, found: 44 });
    let mut etag = good.clone();
    etag[40..44].copy_from_slice(&4097u32.to_le_bytes());
    assert_eq!(parse(&etag), IndexError::EtagLen { len: 4097 });
    assert_eq!(parse(&sidecar(2, 0, &binding(0, b"\xff"))), IndexError::EtagText);
    let entry = |bytes: &[u8]| match parse(bytes) {
        IndexError::Entry { entry: 1, offset: 80, problem } => problem.split_whitespace().next().unwrap(),
        other => panic!("{other:?}"),
    };
    for decoded in [4, 6, u64::MAX] {
        assert_eq!(entry(&with(80, decoded)), "does");
    }
    assert_eq!(entry(&with(88, MAX_FRAME_LEN + 1)), "claims");
    assert_eq!(entry(&with(104, 27)), "is");
    // The one before it ends at 33.
    for stored in [32, 34, 44] {
        assert_eq!(entry(&with(96, stored)), "begins");
    }
    assert_eq!(entry(&with(96, u64::MAX)), "ends");
    let total = |bytes: &[u8]| match parse(bytes) {
        IndexError::Total { offset, says, found, .. } => (offset, says, found),
        other => panic!("{other:?}"),
    };
    assert_eq!(total(&with(16, 11)), (16, 11, 10));
    for len in [79, 81, 91] {
        assert_eq!(total(&with(24, len)), (24, len, 80));
    }
    let encrypted = |block| sidecar(3, 2, &[binding(94, b"etag"), block].concat());
    assert_eq!(total(&encrypted(encryption(50, 2, 95))), (24, 94, 95));
    for block in [encryption(0, 2, 94), encryption(50, 3, 94)] {
        assert!(matches!(parse(&encrypted(block)), IndexError::Encryption { offset: 48, .. }));
    }
}

// What is read, and what is not.

/// Counts what is read from it, and lends nothing.
#[derive(Default)]
struct Counted {
    bytes: Vec<u8>,
    reads: AtomicUsize,
    read_len: AtomicU64,
    fails: bool,
}

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        if self.fails {
            let cause = Arc::new(io::Error::other("unplugged"));
            return Err(SourceError::Read { offset, len: into.len() as u64, cause });
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_len.fetch_add(into.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, into)
    }
}

impl Counted {
    fn take(&self) -> (usize, u64) {
        (self.reads.swap(0, Ordering::Relaxed), self.read_len.swap(0, Ordering::Relaxed))
    }
}

#[test]
fn only_the_frames_touched_are_read() {
    let source = Counted { bytes: golden("multi9m.padded.s4f2"), ..Counted::default() };
    let body = Body::open(&source as &dyn ReadAt, ReadOptions::default()).unwrap();
    assert_eq!(source.take(), (4, 4 * 28));
    assert_eq!(body.read_range(0..0).unwrap(), b"");
    assert_eq!(body.read_range(9 << 20..9 << 20).unwrap(), b"");
    assert_eq!(source.take(), (0, 0));
    let whole = nine_mib();
    for (range, reads) in [
        (5..6, (1, 436)),
        ((4 << 20) - 1..(4 << 20) + 1, (2, 872)),
        (4 << 20..8 << 20, (1, 436)),
        (8 << 20..9 << 20, (1, 148)),
        (0..9 << 20, (3, 1020)),
    ] {
        let expected = slice(&whole, range.clone());
        assert_eq!(body.read_range(range).unwrap(), expected);
        assert_eq!(source.take(), reads);
    }
    for range in [0..(9 << 20) + 1, (9 << 20) + 1..(9 << 20) + 1, Range { start: 2, end: 1 }] {
        assert!(matches!(body.read_range(range), Err(Error::Argument { argument: "range", .. })));
    }
    assert!(matches!(body.read_frame(3, &mut Vec::new()), Err(Error::Argument { argument: "frame", .. })));
    assert_eq!(source.take(), (0, 0));
}

#[test]
fn a_sidecar_saves_the_walk() {
    let source = Counted { bytes: golden("multi9m.s4f2"), ..Counted::default() };
    let index = Index::parse(&golden("multi9m.s4index")).unwrap();
    let matched = index.matching(1020, None).unwrap();
    let body = Body::open_indexed(&source, matched, ReadOptions::default()).unwrap();
    assert_eq!((source.take(), body.frames()[2].codec()), ((0, 0), None));
    assert_eq!(body.read_range(9 * (1 << 20) - 2..9 << 20).unwrap(), b"ef");
    assert_eq!(source.take(), (1, 148));
}

#[test]
fn what_the_source_says_is_passed_on() {
    let fails = Counted { bytes: vec![0; 100], fails: true, ..Counted::default() };
    let result = Body::open(&fails, ReadOptions::default());
    assert!(matches!(result, Err(Error::Source(SourceError::Read { offset: 0, .. }))));
}

// Writing.

fn written(codec: WriteCodec, frame_len: usize, data: &[u8]) -> (Vec<u8>, Written) {
    let mut writer = Writer::new(Vec::new(), WriteOptions { codec, frame_len }).unwrap();
    // In pieces of odd lengths, which must not show.
    for piece in data.chunks(frame_len / 3 * 2 + 1) {
        writer.write(piece).unwrap();
    }
    writer.finish().unwrap()
}

const CODECS: [WriteCodec; 4] = [
    WriteCodec::Passthrough,
    WriteCodec::Zstd { level: 3 },
    WriteCodec::Gzip { level: 6 },
    WriteCodec::Gzip { level: 0 },
];

#[test]
fn what_we_write_is_what_the_format_determines() {
    // Nothing is nothing.
    for codec in CODECS {
        let (body, written) = written(codec, 1 << 20, b"");
        assert_eq!((body, written.totals.crc32c), (golden("empty.s4f2"), 0));
    }
    for name in ["hello", "text", "f32rand", "u32sorted"] {
        let data = golden(&format!("{name}.bin"));
        let theirs = golden(&format!("{name}.s4f2"));
        let theirs = open(&theirs).unwrap();
        let expected = theirs.frames()[0].header.unwrap();
        // Passthrough to the byte, in frames of any length.
        let (body, _) = written(WriteCodec::Passthrough, frame_len_for(data.len() as u64), &data);
        assert_eq!(body, frame(0, data.len() as u64, expected.crc32c, &data), "{name}");
        let (body, _) = written(WriteCodec::Passthrough, 1000, &data);
        let frames = data
            .chunks(1000)
            .flat_map(|data| frame(0, data.len() as u64, cvc::format::checksum::crc32c(data), data));
        assert_eq!(body, frames.collect::<Vec<u8>>(), "{name}");
        // The rest in all but the payload, which is the compressor's.
        let (body, written) = written(WriteCodec::Zstd { level: 3 }, 1 << 20, &data);
        let ours = open(&body).unwrap();
        let header = ours.frames()[0].header.unwrap();
        assert_eq!(FrameHeader { payload_len: expected.payload_len, ..header }, expected);
        assert_eq!(everything(&ours).unwrap(), data);
        let (theirs, ours) = (theirs.totals().unwrap(), written.totals);
        assert_eq!((theirs.decoded_len, theirs.crc32c), (ours.decoded_len, ours.crc32c));
    }
}

#[test]
fn a_long_object_is_cut_where_s4_cuts_it() {
    let data = nine_mib();
    let (body, written) = written(WriteCodec::Zstd { level: 3 }, frame_len_for(data.len() as u64), &data);
    let (ours, theirs) = (open(&body).unwrap(), golden("multi9m.s4f2"));
    let theirs = open(&theirs).unwrap();
    for (ours, theirs) in ours.frames().iter().zip(theirs.frames()) {
        assert_eq!(ours.decoded, theirs.decoded);
        assert_eq!(ours.header.unwrap().crc32c, theirs.header.unwrap().crc32c);
    }
    assert_eq!((ours.frames().len(), everything(&ours).unwrap() == data), (3, true));
    assert_eq!(written.index, ours.index());
    assert_eq!(written.totals, ours.totals().unwrap());
    assert_eq!(
        written.metadata().map(|(key, value)| format!("{key}: {value}")),
        [
            "s4-codec: cpu-zstd".to_owned(),
            "s4-original-size: 9437184".to_owned(),
            format!("s4-compressed-size: {}", body.len()),
            "s4-crc32c: 2190337030".to_owned(),
            "s4-framed: true".to_owned()
        ]
    );
    let lens = [0, 1, 1 << 20, (1 << 20) + 1, 100 << 20, (100 << 20) + 1];
    assert_eq!(lens.map(frame_len_for), [1 << 20, 1 << 20, 1 << 20, 4 << 20, 4 << 20, 16 << 20]);
}

#[test]
fn padding_lies_between_frames() {
    let mut writer =
        Writer::new(Vec::new(), WriteOptions { codec: WriteCodec::Passthrough, frame_len: 4 }).unwrap();
    writer.write(b"abcdefg").unwrap();
    // Ends the frame of `efg`, at 63; there is nothing to do for what is already there.
    writer.pad_to(63).unwrap();
    writer.pad_to(64).unwrap(); // at 75
    writer.pad_to(100).unwrap();
    writer.align_to(100).unwrap();
    writer.write(b"h").unwrap();
    writer.align_to(64).unwrap(); // from 129
    writer.align_to(191).unwrap(); // from 192, with no room for a header before 191 * 2
    writer.write(b"ijkl").unwrap();
    let (bytes, written) = writer.finish().unwrap();
    let body = open(&bytes).unwrap();
    assert_eq!(everything(&body).unwrap(), b"abcdefghijkl");
    let starts: Vec<u64> = body.frames().iter().map(|frame| frame.stored.start).collect();
    assert_eq!(starts, [0, 32, 100, 382]);
    assert!(body.verify().is_empty());
    assert_eq!((&written.index, written.totals), (&body.index(), body.totals().unwrap()));
    assert_eq!(Index::parse(&written.index.to_bytes()).unwrap(), written.index);

    let mut writer = Writer::new(Vec::new(), WriteOptions::default()).unwrap();
    writer.pad_to(20_000).unwrap();
    assert!(matches!(writer.align_to(0), Err(Error::Argument { .. })));
    let (bytes, written) = writer.finish().unwrap();
    assert_eq!(bytes, padding(20_000 - 12));
    assert_eq!((open(&bytes).unwrap().frames().len(), written.totals.stored_len), (0, 20_000));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused = |codec, frame_len| {
        let result = Writer::new(Vec::new(), WriteOptions { codec, frame_len });
        matches!(result, Err(Error::Argument { .. }))
    };
    assert!(refused(WriteCodec::Passthrough, 0));
    assert!(refused(WriteCodec::Passthrough, (256 << 20) + 1));
    assert!(refused(WriteCodec::Zstd { level: 0 }, 1));
    assert!(refused(WriteCodec::Zstd { level: 23 }, 1));
    assert!(refused(WriteCodec::Gzip { level: 10 }, 1));
    for (codec, expected) in CODECS.iter().zip([0, 1, 7, 7]) {
        assert_eq!(codec.codec().id(), expected);
    }
}

/// Takes so many bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_failed_gets_nothing_more() {
    let options = WriteOptions { codec: WriteCodec::Passthrough, frame_len: 4 };
    let mut writer = Writer::new(Full(40), options).unwrap();
    writer.write(b"abcd").unwrap();
    assert!(matches!(writer.write(b"efgh"), Err(Error::Output(_))));
    assert!(matches!(writer.pad_to(1000), Err(Error::Output(_))));
    assert!(matches!(writer.finish(), Err(Error::Output(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_back_whole_and_in_any_range(
        data in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..4000),
        codec in proptest::sample::select(&CODECS[..]),
        frame_len in 1usize..5000,
        ends in (0u64..=4000, 0u64..=4000),
    ) {
        let (bytes, written) = written(codec, frame_len, &data);
        let body = open(&bytes).unwrap();
        prop_assert_eq!(&everything(&body).unwrap(), &data);
        prop_assert!(body.verify().is_empty());
        prop_assert_eq!(body.totals().unwrap(), written.totals);
        prop_assert_eq!(written.totals.crc32c, cvc::format::checksum::crc32c(&data));
        let len = data.len() as u64;
        let (a, b) = (ends.0.min(len), ends.1.min(len));
        let range = a.min(b)..a.max(b);
        let expected = slice(&data, range.clone());
        let index = Index::parse(&written.index.bind(bytes.len() as u64, None).unwrap().to_bytes()).unwrap();
        let matched = index.matching(bytes.len() as u64, None).unwrap();
        let indexed = Body::open_indexed(&bytes, matched, ReadOptions::default()).unwrap();
        prop_assert_eq!(&body.read_range(range.clone()).unwrap(), expected);
        prop_assert_eq!(&indexed.read_range(range).unwrap(), expected);
    }
}

// Errors.

fn payload_error<T: std::fmt::Debug>(result: Result<T, Error>) -> PayloadError {
    match result {
        Err(Error::Payload { frame: 0, offset: 0, error }) => error,
        other => panic!("{other:?}"),
    }
}

/// What reading the one frame of a body says.
fn decoding(codec: u32, decoded_len: u64, crc32c: u32, payload: &[u8]) -> PayloadError {
    let bytes = frame(codec, decoded_len, crc32c, payload);
    let body = open(&bytes).unwrap();
    let mut out = b"something".to_vec();
    let error = payload_error(body.read_frame(0, &mut out));
    assert!(out.is_empty());
    error
}

#[test]
fn each_way_to_be_no_body_is_named() {
    let error = |bytes: &[u8]| open(bytes).unwrap_err();
    let good = frame(0, 3, cvc::format::checksum::crc32c(b"abc"), b"abc");
    let truncated = |bytes: &[u8]| match error(bytes) {
        Error::Truncated { what, start, end, body_len } if body_len == bytes.len() as u64 => {
            (what, start, end)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(truncated(&good[..3]), ("a frame's magic", 0, 4));
    assert_eq!(truncated(&good[..27]), ("a frame's header", 0, 28));
    assert_eq!(truncated(&good[..30]), ("a frame's payload", 0, 31));
    assert_eq!(truncated(&[&good[..], b"S4P"].concat()), ("a frame's magic", 31, 35));
    assert_eq!(truncated(&[&good[..], b"S4P1"].concat()), ("a padding's header", 31, 43));
    assert_eq!(truncated(&[&good[..], &padding(9)[..20]].concat()), ("padding", 31, 52));
    let mut huge = good.clone();
    huge[16..24].fill(0xff);
    assert_eq!(truncated(&huge), ("a frame's payload", 0, u64::MAX));

    assert!(matches!(error(b"abc"), Error::Magic { offset: 0, found: [b'a', b'b', b'c', 0] }));
    assert!(matches!(error(&[&good[..], b"tail"].concat()), Error::Magic { offset: 31, .. }));
    for (bytes, hint) in [
        (&b"raw bytes, as S4 stores passthrough objects"[..], "decode_payload"),
        (b"S4E6, encrypted", "through S4"),
        (&golden("multi9m.s4index"), "Index::parse"),
        (&[&good[..], b"tail"].concat(), "appended"),
    ] {
        let message = error(bytes).to_string();
        assert!(message.contains(hint), "{message}");
    }

    let unknown = frame(9, 3, 0, b"abc");
    let Error::UnknownCodec { frame: 1, offset: 31, id: 9 } = error(&[&good[..], &unknown].concat()) else {
        panic!("not the codec");
    };
    assert!(error(&unknown).to_string().contains("codec 9"));
    assert!(matches!(
        error(&frame(1, MAX_FRAME_LEN + 1, 0, b"")),
        Error::FrameLen { frame: 0, offset: 0, decoded_len } if decoded_len == MAX_FRAME_LEN + 1
    ));
    assert!(open(&frame(1, MAX_FRAME_LEN, 0, b"")).is_ok());
}

#[test]
fn a_codec_that_cannot_be_decoded_spoils_only_its_frame() {
    for (id, reader) in [(3, "nvcomp-gpu"), (6, "nvcomp-gpu"), (4, "no release"), (5, "no release")] {
        let bytes =
            [frame(0, 3, cvc::format::checksum::crc32c(b"abc"), b"abc"), frame(id, 2, 0, b"??")].concat();
        let body = open(&bytes).unwrap();
        assert_eq!(body.read_range(0..3).unwrap(), b"abc");
        let error = body.read_range(2..4).unwrap_err();
        let Error::Unsupported { frame: 1, offset: 31, codec } = error else { panic!("{error}") };
        assert!(error.to_string().contains(reader) && error.to_string().contains(codec.name()), "{error}");
        assert_eq!(body.verify().len(), 1);
    }
}

#[test]
fn each_way_to_be_a_wrong_payload_is_named() {
    let zstd = golden("hello.cpu-zstd.l3");
    let gzip = golden("hello.cpu-gzip.l6");
    let crc = 755_560_695;
    // More than claimed, less than claimed, more than can be.
    assert_eq!(decoding(1, 17_999, crc, &zstd), PayloadError::Long { at: 28, expected: 17_999 });
    assert_eq!(
        decoding(1, 18_001, crc, &zstd),
        PayloadError::Short { at: 28, expected: 18_001, found: 18_000 }
    );
    assert_eq!(decoding(1, 0, crc, &zstd), PayloadError::Long { at: 28, expected: 0 });
    assert_eq!(decoding(1, 1 << 20, crc, &zstd), PayloadError::Claim { claimed: 1 << 20, bound: 128 << 10 });
    assert_eq!(decoding(7, 17_999, crc, &gzip), PayloadError::Long { at: 28, expected: 17_999 });
    assert_eq!(
        decoding(7, 18_001, crc, &gzip),
        PayloadError::Short { at: 28, expected: 18_001, found: 18_000 }
    );
    assert_eq!(decoding(7, 1 << 20, crc, &gzip), PayloadError::Claim { claimed: 1 << 20, bound: 97 * 1032 });
    assert_eq!(decoding(0, 4, crc, b"abc"), PayloadError::Claim { claimed: 4, bound: 3 });
    assert_eq!(decoding(0, 2, crc, b"abc"), PayloadError::Trailing { at: 30, len: 1 });
    // A content size that is not the header's.
    let sized = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 8, 0x43, 0, 0, b'a'];
    assert_eq!(decoding(1, 9, 0, &sized), PayloadError::Says { at: 28, claimed: 9, says: 8 });
    // And one that is, but not the blocks'.
    let short = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 8, 0x3b, 0, 0, b'a'];
    assert_eq!(decoding(1, 8, 0, &short), PayloadError::Claim { claimed: 8, bound: 7 });
    // After the end. S4 reads such gzip without a word; nothing that S4 writes looks so.
    let tail = |payload: &[u8]| [payload, b"tail"].concat();
    assert_eq!(decoding(1, 18_000, crc, &tail(&zstd)), PayloadError::Trailing { at: 28 + 35, len: 4 });
    assert_eq!(decoding(7, 18_000, crc, &tail(&gzip)), PayloadError::Trailing { at: 28 + 97, len: 4 });
    // Another codec's payload, and none.
    assert!(matches!(decoding(1, 18_000, crc, &gzip), PayloadError::Structure { at: 28, .. }));
    assert!(matches!(decoding(1, 0, 0, b""), PayloadError::Structure { at: 28, .. }));
    assert!(matches!(decoding(2, 18_000, crc, &zstd), PayloadError::Structure { at: 28, .. }));
    assert!(matches!(decoding(7, 18_000, crc, &zstd), PayloadError::Codec { at: 28, .. }));
    assert!(matches!(decoding(7, 0, 0, b""), PayloadError::Codec { at: 28, .. }));
    // The decompressor's own checks.
    let mut broken = zstd.clone();
    broken[9] ^= 0xff;
    assert!(matches!(decoding(1, 18_000, crc, &broken), PayloadError::Codec { at: 28, .. }));
    let mut broken = gzip.clone();
    let end = broken.len();
    broken[end - 6] ^= 1;
    assert!(matches!(decoding(7, 18_000, crc, &broken), PayloadError::Codec { at: 28, .. }));
    // Two zstd frames are one stream, to S4 and to us.
    let data = golden("hello.bin").repeat(2);
    let twice = frame(1, 36_000, cvc::format::checksum::crc32c(&data), &zstd.repeat(2));
    assert_eq!(everything(&open(&twice).unwrap()).unwrap(), data);
}

#[test]
fn chunks_of_a_gpu_codec_are_checked_one_by_one() {
    let eights = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 8, 0x43, 0, 0, b'a'];
    let unsized_eights = [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0x43, 0, 0, b'a'];
    let data = [b'a'; 20];
    let payload = |chunks: &[&[u8]]| {
        let mut payload = b"FCG1\x03\0\0\0".to_vec();
        payload.extend(20u64.to_le_bytes());
        payload.extend(8u32.to_le_bytes());
        payload.extend(3u32.to_le_bytes());
        payload.extend(chunks.iter().flat_map(|chunk| u32::try_from(chunk.len()).unwrap().to_le_bytes()));
        payload.extend(chunks.concat());
        payload
    };
    let fours = [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0x23, 0, 0, b'a'];
    let bytes =
        frame(2, 20, cvc::format::checksum::crc32c(&data), &payload(&[&eights, &unsized_eights, &fours]));
    assert_eq!(everything(&open(&bytes).unwrap()).unwrap(), data);
    // 36 bytes of payload before the chunks, 28 of the frame before the payload.
    let wrong = |chunks: [&[u8]; 3]| decoding(2, 20, cvc::format::checksum::crc32c(&data), &payload(&chunks));
    assert_eq!(wrong([&eights, &fours, &unsized_eights]), PayloadError::Claim { claimed: 8, bound: 4 });
    assert_eq!(wrong([&eights, &eights, &eights]), PayloadError::Says { at: 84, claimed: 4, says: 8 });
    assert_eq!(wrong([&eights, &eights, &unsized_eights]), PayloadError::Long { at: 84, expected: 4 });
    assert!(matches!(wrong([&eights, b"", &fours]), PayloadError::Structure { at: 74, .. }));
    let framed = frame(2, 0, 0, b"FCG1\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0");
    assert_eq!(everything(&open(&framed).unwrap()).unwrap(), b"");
}

#[test]
fn a_wrong_checksum_is_named_with_both() {
    let bytes =
        [frame(0, 3, cvc::format::checksum::crc32c(b"abc"), b"abc"), frame(0, 3, 0xdead_beef, b"abc")]
            .concat();
    let body = open(&bytes).unwrap();
    assert_eq!(body.read_range(0..3).unwrap(), b"abc");
    let Err(Error::Checksum { frame: 1, bytes: stored, expected, found }) = body.read_range(3..4) else {
        panic!("not the checksum");
    };
    assert_eq!((stored, expected, found), (31..62, 0xdead_beef, cvc::format::checksum::crc32c(b"abc")));
    let mut out = b"something".to_vec();
    assert!(body.read_frame(1, &mut out).is_err() && out.is_empty());
}

#[test]
fn limits_are_kept_and_named() {
    let bytes = golden("multi9m.s4f2");
    let opened = |limits| Body::open(&bytes, ReadOptions { limits, dictionary: None });
    let index = Index::parse(&golden("multi9m.s4index")).unwrap();
    let matched = index.matching(1020, None).unwrap();
    let two = ReadLimits { frames: 2, ..ReadLimits::default() };
    for result in
        [opened(two), Body::open_indexed(&bytes, matched, ReadOptions { limits: two, dictionary: None })]
    {
        assert!(matches!(result, Err(Error::Limit { field: "frames", value: 3, limit: 2, .. })));
    }
    let body = opened(ReadLimits { frame_decoded_len: (4 << 20) - 1, ..ReadLimits::default() }).unwrap();
    assert_eq!(body.read_range(8 << 20..9 << 20).unwrap().len(), 1 << 20);
    let error = body.read_range(0..1).unwrap_err();
    assert!(matches!(error, Error::Limit { field: "frame_decoded_len", value: 0x40_0000, .. }), "{error}");
    assert!(opened(ReadLimits { frame_decoded_len: 4 << 20, frames: 3 }).unwrap().verify().is_empty());
}

#[test]
fn no_memory_is_taken_for_a_claim() {
    // 256 MiB, the default limit, out of payloads that cannot give it.
    let claimed: u64 = 256 << 20;
    let mut chunks = b"FCG1\x03\0\0\0".to_vec();
    chunks.extend(claimed.to_le_bytes());
    chunks.extend([0, 0, 0, 1, 16, 0, 0, 0].iter());
    for (codec, payload) in [
        (0, &b"abc"[..]),
        (1, &golden("zeros64k.cpu-zstd.l3")),
        (7, &golden("zeros64k.cpu-gzip.l6")),
        (2, &chunks),
    ] {
        let bytes = frame(codec, claimed, 0, payload);
        let body = open(&bytes).unwrap();
        let mut out = Vec::new();
        assert!(body.read_frame(0, &mut out).is_err());
        assert_eq!(out.capacity(), 0, "codec {codec}");
    }
}

#[test]
fn a_payload_decodes_to_memory_of_the_caller() {
    let data = b"to be decoded, to be decoded, to be decoded";
    let mut payload = Vec::new();
    let header = encode_payload(WriteCodec::Zstd { level: 3 }, data, &mut payload).unwrap();
    let options = ReadOptions::default();
    let checked = || CheckedPayload::new(header, &payload, &options).unwrap();
    assert_eq!(checked().decoded_len(), data.len() as u64);
    let mut out = [0; 43];
    checked().decode_into(&mut out).unwrap();
    assert_eq!(&out, data);
    for len in [42, 44] {
        let error = checked().decode_into(&mut vec![0; len]).unwrap_err();
        assert!(matches!(error, Error::Argument { argument: "out", .. }), "{error}");
    }
    let cut = CheckedPayload::new(header, &payload[1..], &options).unwrap_err();
    assert!(matches!(cut, Error::Mismatch { .. }), "{cut}");
    assert_eq!(cvc::s4::crc32c(&data[7..], cvc::s4::crc32c(&data[..7], 0)), header.crc32c);
}

#[test]
fn a_body_can_share_its_source() {
    let body = {
        let bytes: Arc<dyn ReadAt> = Arc::new(golden("text.s4f2"));
        Body::open(bytes, ReadOptions::default()).unwrap()
    };
    assert_eq!(everything(&body).unwrap(), golden("text.bin"));
}

#[test]
fn metadata_of_another_object_is_noticed() {
    let totals = Totals { decoded_len: 1, stored_len: 2, crc32c: 3 };
    totals.check(&totals).unwrap();
    for (other, expected) in [
        (Totals { stored_len: 3, ..totals }, "body's length"),
        (Totals { decoded_len: 2, ..totals }, "decoded length"),
        (Totals { crc32c: 4, ..totals }, "crc32c of the whole"),
    ] {
        let Err(Error::Mismatch { what, described_by: "metadata", .. }) = totals.check(&other) else {
            panic!()
        };
        assert_eq!(what, expected);
    }
    let header = FrameHeader { codec: Codec::Passthrough, decoded_len: 3, payload_len: 4, crc32c: 0 };
    let result = decode_payload(header, b"abc", &ReadOptions::default(), &mut Vec::new());
    assert!(matches!(result, Err(Error::Mismatch { what: "payload's length", .. })));
}

#[test]
fn padding_that_hides_something_is_found_by_verify_alone() {
    let mut bytes = [padding(9000), frame(0, 3, cvc::format::checksum::crc32c(b"abc"), b"abc")].concat();
    bytes[12 + 8999] = 1;
    let body = open(&bytes).unwrap();
    assert_eq!(everything(&body).unwrap(), b"abc");
    assert!(matches!(body.verify()[..], [Error::Padding { offset: 9011 }]));
}

/// A body whose bytes change after it was opened.
struct Changing(std::sync::RwLock<Vec<u8>>);

impl ReadAt for Changing {
    fn len(&self) -> u64 {
        self.0.read().unwrap().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.0.read().unwrap().read_at(offset, into)
    }
}

#[test]
fn a_body_that_changes_is_noticed() {
    let data = frame(0, 3, cvc::format::checksum::crc32c(b"abc"), b"abc");
    let source = Changing(std::sync::RwLock::new(data));
    let body = Body::open(Source::from(&source), ReadOptions::default()).unwrap();
    *source.0.write().unwrap() = frame(0, 3, cvc::format::checksum::crc32c(b"abd"), b"abd");
    let known_from = "the first look at it";
    assert!(
        matches!(everything(&body), Err(Error::Header { frame: 0, known_from: from, .. }) if from == known_from)
    );
    assert!(matches!(body.verify()[..], [Error::Header { .. }]));
    *source.0.write().unwrap() = Vec::new();
    assert!(matches!(everything(&body), Err(Error::Source(SourceError::Shrunk { .. }))));
}

// Damage.

/// Small bodies of every codec, with their dictionary and what they decode to.
fn samples() -> Vec<(&'static str, Vec<u8>, ReadOptions, Vec<u8>)> {
    let data: Vec<u8> = (0..300u32).map(|n| (n * n % 251) as u8 / 8).collect();
    let crc = cvc::format::checksum::crc32c(&data);
    let mut samples = Vec::new();
    for (name, codec) in [
        ("passthrough", WriteCodec::Passthrough),
        ("zstd", WriteCodec::Zstd { level: 3 }),
        ("gzip", WriteCodec::Gzip { level: 6 }),
    ] {
        let mut writer = Writer::new(Vec::new(), WriteOptions { codec, frame_len: 200 }).unwrap();
        writer.write(&data[..200]).unwrap();
        writer.align_to(16).unwrap();
        writer.write(&data[200..]).unwrap();
        writer.pad_to(writer_end(codec)).unwrap();
        samples.push((name, writer.finish().unwrap().0, ReadOptions::default(), data.clone()));
    }
    let chunk = |data: &[u8]| written_payload(data);
    let (a, b) = (chunk(&data[..256]), chunk(&data[256..]));
    let mut chunks = b"FCG1\x03\0\0\0".to_vec();
    chunks.extend(300u64.to_le_bytes());
    chunks.extend(256u32.to_le_bytes());
    chunks.extend(2u32.to_le_bytes());
    for chunk in [&a, &b] {
        chunks.extend(u32::try_from(chunk.len()).unwrap().to_le_bytes());
    }
    chunks.extend([a, b].concat());
    samples.push(("chunks", frame(2, 300, crc, &chunks), ReadOptions::default(), data));
    let hello = golden("hello.s4f2");
    samples.push(("theirs", hello, ReadOptions::default(), golden("hello.bin")));
    let records = golden("dict/records.bin");
    let payload = golden("dict/records.cpu-zstd-dict.l3");
    let dictionary = Some(Dictionary::new(&golden("dict/records.zstd-dict")).unwrap());
    let options = ReadOptions { dictionary, ..ReadOptions::default() };
    let body = frame(8, records.len() as u64, cvc::format::checksum::crc32c(&records), &payload);
    samples.push(("dictionary", body, options, records));
    samples
}

/// Long enough for padding behind every sample.
fn writer_end(codec: WriteCodec) -> u64 {
    if codec == WriteCodec::Passthrough { 420 } else { 450 }
}

/// The zstd frame of some bytes.
fn written_payload(data: &[u8]) -> Vec<u8> {
    written(WriteCodec::Zstd { level: 3 }, 1 << 20, data).0[28..].to_vec()
}

#[test]
fn a_body_cut_at_any_byte_is_refused_or_ends_between_frames() {
    for (name, bytes, options, data) in samples() {
        let whole = Body::open(&bytes, options.clone()).unwrap();
        assert_eq!(everything(&whole).unwrap(), data, "{name}");
        assert!(whole.verify().is_empty(), "{name}");
        let totals = whole.totals().unwrap();
        let mut ends: Vec<u64> = whole.frames().iter().map(|frame| frame.stored.end).collect();
        ends.extend(whole.frames().iter().map(|frame| frame.stored.start));
        for len in 0..bytes.len() {
            match Body::open(&bytes[..len], options.clone()) {
                Ok(body) => {
                    // There is no end mark. Only the sidecar and the metadata know.
                    assert!(ends.contains(&(len as u64)), "{name} cut at {len}");
                    assert_eq!(everything(&body).unwrap(), slice(&data, 0..body.decoded_len()));
                    assert!(body.totals().unwrap().check(&totals).is_err());
                    assert!(whole.index().unbound(len as u64).is_err());
                }
                Err(Error::Truncated { body_len, .. }) => assert_eq!(body_len, len as u64),
                Err(other) => panic!("{name} cut at {len}: {other}"),
            }
        }
    }
}

#[test]
fn any_bit_flipped_is_found_or_changes_no_byte() {
    for (name, bytes, options, data) in samples() {
        let mut unfound = Vec::new();
        let whole = Body::open(&bytes, options.clone()).unwrap();
        let totals = whole.totals().unwrap();
        let payloads: Vec<Range<u64>> =
            whole.frames().iter().map(|frame| frame.stored.start + 28..frame.stored.end).collect();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(body) = Body::open(&flipped, options.clone()) else { continue };
            let errors = body.verify();
            let read = everything(&body);
            if errors.is_empty() {
                assert_eq!(read.unwrap(), data, "{name}, bit {bit}");
                unfound.push(bit as u64 / 8);
            } else if let Ok(read) = read {
                // Padding: its content is not decoded, and its length may swallow the frames after it.
                assert!(matches!(errors[..], [Error::Padding { .. }]), "{name}, bit {bit}: {errors:?}");
                let swallowed = body.totals().unwrap().check(&totals).is_err() && data.starts_with(&read);
                assert!(read == data || swallowed, "{name}, bit {bit}");
            }
        }
        // What is not found are bits that a decompressor passes over, or reads to the same end: a match from another
        // place with the same bytes. Never one of a header of S4's, nor of passthrough.
        for byte in &unfound {
            assert!(
                payloads.iter().any(|range| range.contains(byte)),
                "{name}: byte {byte} is of no payload"
            );
        }
        assert!(name != "passthrough" || unfound.is_empty());
        assert!(unfound.len() < 160, "{name}: {}", unfound.len());
    }
}

#[test]
fn any_bit_of_a_sidecar_flipped_never_gives_a_wrong_byte() {
    let bytes = padded_body(3);
    for sidecar in [
        sidecar(1, 3, b""),
        sidecar(2, 3, &binding(141, b"etag")),
        sidecar(3, 3, &[&binding(141, b"etag")[..], &[0; 30]].concat()),
    ] {
        for bit in 0..sidecar.len() * 8 {
            let mut flipped = sidecar.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(index) = Index::parse(&flipped) else { continue };
            let Ok(matched) = index.unbound(141) else { continue };
            let Ok(body) = Body::open_indexed(&bytes, matched, ReadOptions::default()) else { continue };
            if let Ok(read) = everything(&body) {
                assert_eq!(read, b"aaaaabbbbbccccc", "bit {bit}");
            }
        }
        for len in 0..sidecar.len() {
            assert!(Index::parse(&sidecar[..len]).is_err());
        }
    }
}

// The page.

/// The bytes of a fenced block, whose lines are hexadecimal up to a `#`.
fn hex_block(page: &str, name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let (_, block) = page.split_once(&fence).unwrap_or_else(|| panic!("no block {name}"));
    let (block, _) = block.split_once("```").unwrap();
    let digits: String =
        block.lines().map(|line| line.split('#').next().unwrap()).flat_map(str::split_whitespace).collect();
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn the_bytes_of_the_page_are_a_body_and_its_sidecar() {
    let page = include_str!("../../../docs/S4.md");
    let bytes = hex_block(page, "body");
    let body = open(&bytes).unwrap();
    assert_eq!(everything(&body).unwrap(), b"hello aaaaaaaa");
    assert!(body.verify().is_empty());
    let codecs: Vec<Option<Codec>> = body.frames().iter().map(|frame| frame.codec()).collect();
    assert_eq!(codecs, [Some(Codec::Passthrough), Some(Codec::CpuZstd)]);
    let sidecar = hex_block(page, "sidecar");
    assert_eq!(body.index().bind(bytes.len() as u64, Some("etag")).unwrap().to_bytes(), sidecar);
    // What the page says of each codec is what the code says.
    for codec in Codec::ALL {
        assert!(page.contains(&format!("| {} | `{codec}` |", codec.id())), "{codec}");
    }
}
