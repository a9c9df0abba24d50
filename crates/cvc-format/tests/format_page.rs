//! The dumps of `docs/FORMAT.md`, read out of the page: they open to what their comments say, and writing the same
//! contents gives the same bytes.

mod common;

use std::ops::Range;

use cvc_format::cvcf::{ArraySpec, ChunkSpec, Contents};
use cvc_format::native::{self, ChunkParts, LaneBytes, encode_chunk, parse_head};
use cvc_format::parts::Field;
use cvc_format::{
    AffineParams, ArrayDType, ChunkEntry, ChunkId, DType, FileIndex, Json, Layout, Limits, Loss, Params,
    Stored,
};

/// The bytes of the dump that the page has under the fence "hexdump `name`".
fn dump(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/FORMAT.md");
    let page = std::fs::read_to_string(path).expect("the page is part of the repository");
    let fence = format!("```hexdump {name}\n");
    let (_, after) = page.split_once(&fence).expect("the page has this dump");
    let (lines, _) = after.split_once("```").expect("the fence is closed");
    let mut bytes = Vec::new();
    for line in lines.lines() {
        let (fields, comment) = line.split_once(';').expect("every line says what it is");
        let mut fields = fields.split_whitespace();
        let offset = fields.next().expect("an offset");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "the offset of {line}");
        // `00*48` is 48 bytes of zero.
        let of_line: Vec<u8> = fields
            .flat_map(|field| {
                let (pair, count) = field.split_once('*').unwrap_or((field, "1"));
                let byte = u8::from_str_radix(pair, 16).expect("two hexadecimal digits");
                vec![byte; count.parse().expect("a count")]
            })
            .collect();
        if of_line.len() == 16 {
            let text: String = of_line.iter().map(|byte| char::from(*byte)).collect();
            assert_eq!(comment.strip_prefix(' ').map(str::trim_end), Some(text.trim_end()), "{line}");
        }
        bytes.extend(of_line);
    }
    bytes
}

fn open(bytes: &[u8]) -> FileIndex {
    common::open_within(bytes, Limits::default()).expect("the page shows valid files")
}

/// A reflected CRC of 32 bits, bit by bit.
fn crc(polynomial: u32, bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { polynomial } else { 0 };
        }
    }
    !crc
}

/// CRC-32 (IEEE), of the CVCF layouts.
fn crc32(bytes: &[u8]) -> u32 {
    crc(0xedb8_8320, bytes)
}

/// CRC-32C, of the native layout.
fn crc32c(bytes: &[u8]) -> u32 {
    crc(0x82f6_3b78, bytes)
}

/// The frame of a chunk, and its parameters.
fn framed(chunk: &ChunkEntry) -> (usize, &Params) {
    match &chunk.stored {
        Stored::Framed { frame, params } => (*frame, params),
        Stored::Blocked(_) => panic!("a native chunk"),
    }
}

/// Header, frame header and payload of a file with one array and one chunk.
fn write(layout: Layout, dim: u32, codec: &'static str, chunk: ChunkSpec, payload: &[u8]) -> Vec<u8> {
    let arrays = [ArraySpec { name: "vectors".into(), dtype: DType::F32, dim, codec }];
    let contents = Contents { layout, arrays: &arrays, chunks: &[chunk], sections: None };
    let frame = Contents::frame_header(layout, payload.len() as u64, crc32(payload)).unwrap();
    [contents.prefix().unwrap(), frame, payload.to_vec()].concat()
}

#[test]
fn checksums_are_as_the_page_says() {
    assert_eq!((crc32(b"123456789"), crc32(b"")), (0xcbf4_3926, 0));
    assert_eq!((crc32c(b"123456789"), crc32c(b"")), (0xe306_9283, 0));
}

/// The little-endian number in these bytes.
fn number(bytes: &[u8], range: Range<usize>) -> u64 {
    bytes[range].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn the_native_dump_is_a_file() {
    let bytes = dump("native");
    // The fields, as the page places them.
    assert_eq!((bytes.len(), number(&bytes, 0x18a..0x192)), (434, 434));
    for (at, covered) in [
        (0x3c, 0..0x3c),
        (0x4c, 0x80..0x88),
        (0x50, 0x88..0xc0),
        (0xdc, 0x40..0x80),
        (0x196, 0xc0..0xf0),
        (0x19e, 0xf0..0x18a),
        (0x1a6, 0x18a..0x1a6),
    ] {
        assert_eq!(number(&bytes, at..at + 4), u64::from(crc32c(&bytes[covered])), "the crc at {at:x}");
    }

    let index = open(&bytes);
    assert_eq!((index.layout, index.trailing_len), (Layout::Native, 0));
    assert!(index.frames.is_empty() && index.chunk_metadata.is_empty());
    assert!(index.metadata == Json::object([("by", Json::from("cvc"))]));
    let [section] = index.sections.as_slice() else { panic!("one section") };
    assert_eq!((section.rows.clone(), index.sections_from_chunks), (1..3, false));
    assert!(section.metadata == Json::object([("source", Json::from("a"))]));

    let [array] = index.arrays.as_slice() else { panic!("one array") };
    assert_eq!((array.name.as_str(), array.dtype, &*array.codec), ("v", DType::F16.into(), "raw"));
    assert_eq!((array.shape(), array.stored_len()), (vec![3, 2], 128));
    let [chunk] = array.chunks.as_slice() else { panic!("one chunk") };
    assert_eq!((chunk.rows.clone(), chunk.bytes.clone()), (0..3, 0x40..0xc0));
    let Stored::Blocked(stored) = chunk.stored else { panic!("a native chunk") };
    assert_eq!((stored.head_len, stored.block_rows, stored.loss), (64, 2, Loss::NONE));
    let head = parse_head(ChunkId(0), chunk, &bytes[0x40..0x80]).unwrap();
    assert!(head.params.is_empty() && head.parts.lanes().is_empty());
    assert_eq!(head.parts.fields(), [Field { width: 4, offset: 0x40, end: 0x80 }]);
    let values = &bytes[0x80..0x8c];
    assert_eq!(values, [0x3c00u16, 0xc100, 0x3800, 0, 0x4200, 0x4400].map(u16::to_le_bytes).concat());

    let mut again = native::Contents::prelude().to_vec();
    let parts = ChunkParts {
        array: 0,
        rows: 3,
        block_rows: 2,
        params: &[],
        fields: &[(4, values)],
        lanes: &[],
        loss: Loss::NONE,
    };
    let spec = encode_chunk(&parts, &mut again).unwrap();
    let array = native::ArraySpec {
        name: "v".into(),
        dtype: DType::F16.into(),
        inner: vec![2],
        codec: "raw".into(),
        codec_options: Json::Object(Vec::new()),
        provenance: None,
    };
    let contents = native::Contents {
        arrays: &[array],
        rows: &[3],
        chunks: &[spec],
        sections: &index.sections,
        sections_from_chunks: false,
        metadata: &index.metadata,
    };
    again.extend(contents.suffix().unwrap());
    assert_eq!(again, bytes);
}

#[test]
fn the_dump_of_a_chunk_is_a_chunk() {
    let bytes = dump("chunk");
    let parts = ChunkParts {
        array: 0,
        rows: 3,
        block_rows: 2,
        params: &[0xaa, 0xbb],
        fields: &[(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9])],
        lanes: &[LaneBytes { bytes: b"abcdefghijklmnopqrstuvw", lens: &[5, 18] }],
        loss: Loss::NONE,
    };
    let mut file = native::Contents::prelude().to_vec();
    let spec = encode_chunk(&parts, &mut file).unwrap();
    assert_eq!(file[64..], bytes);
    // What the example of the page says.
    assert_eq!((spec.len, spec.head_len, bytes.len()), (192, 64, 192));
    let block =
        |ranges: [Range<usize>; 2]| u64::from(crc32c(&ranges.map(|range| bytes[range].to_vec()).concat()));
    assert_eq!(number(&bytes, 0x14..0x18), block([64..70, 128..144]));
    assert_eq!(number(&bytes, 0x18..0x1c), block([70..128, 144..192]));

    // In a file of its own, it is read.
    let array = native::ArraySpec {
        name: "x".into(),
        dtype: DType::U8.into(),
        inner: Vec::new(),
        codec: "everything".into(),
        codec_options: Json::Object(Vec::new()),
        provenance: None,
    };
    let contents = native::Contents {
        arrays: &[array],
        rows: &[3],
        chunks: &[spec],
        sections: &[],
        sections_from_chunks: false,
        metadata: &Json::Object(Vec::new()),
    };
    file.extend(contents.suffix().unwrap());
    let head = parse_head(ChunkId(0), &open(&file).arrays[0].chunks[0], &bytes[..64]).unwrap();
    assert_eq!(*head.params, [0xaa, 0xbb]);
    let blocks = [0, 1].map(|block| head.parts.ranges(block..block + 1).collect::<Vec<_>>());
    assert_eq!(blocks, [[64..70, 128..144], [70..128, 144..192]]);
    assert_eq!(head.parts.padding().collect::<Vec<_>>(), [73..128, 133..144, 162..192]);
}

#[test]
fn the_v1_dump_is_a_file() {
    let bytes = dump("v1");
    let index = open(&bytes);
    assert_eq!((index.layout, index.trailing_len), (Layout::V1, 0));
    let frames: Vec<_> = index.frames.iter().map(|frame| (frame.bytes.clone(), frame.crc32)).collect();
    assert_eq!(frames, [(0x8d..0x91, Some(crc32(&bytes[0x8d..])))]);
    assert!(index.sections.is_empty());
    assert!(index.chunk_metadata == [Some(Json::object([("source", Json::from("a"))]))]);

    let [array] = index.arrays.as_slice() else { panic!("one array") };
    assert_eq!(
        (array.name.as_str(), array.dtype, &*array.codec),
        ("vectors", ArrayDType::from(DType::F32), "cvcf.fp16")
    );
    assert_eq!((array.shape(), array.stored_len()), (vec![1, 2], 4));
    let [chunk] = array.chunks.as_slice() else { panic!("one chunk") };
    assert_eq!((chunk.rows.clone(), chunk.bytes.clone()), (0..1, 0x8d..0x91));
    assert_eq!((&*chunk.codec, framed(chunk)), ("cvcf.fp16", (0, &Params::None)));

    let metadata = index.chunk_metadata[0].clone();
    let chunk = ChunkSpec { rows: 1, parts: vec![(4, Params::None)], metadata };
    assert_eq!(write(Layout::V1, 2, "cvcf.fp16", chunk, &[0x00, 0x3c, 0x00, 0xc1]), bytes);
}

#[test]
fn the_v0_dump_is_a_file() {
    let bytes = dump("v0");
    let index = open(&bytes);
    assert_eq!((index.layout, index.trailing_len), (Layout::V0, 0));
    let frames: Vec<_> = index.frames.iter().map(|frame| (frame.bytes.clone(), frame.crc32)).collect();
    assert_eq!(frames, [(0x90..0x91, None)]);
    assert!(index.sections.is_empty() && index.chunk_metadata.is_empty());

    let params = Params::Affine(AffineParams { min: -1.5, scale: 1.0 });
    let [array] = index.arrays.as_slice() else { panic!("one array") };
    assert_eq!(
        (array.name.as_str(), array.dtype, &*array.codec),
        ("vectors", ArrayDType::from(DType::F32), "cvcf0.int8")
    );
    assert_eq!((array.shape(), array.stored_len()), (vec![1, 1], 1));
    let [chunk] = array.chunks.as_slice() else { panic!("one chunk") };
    assert_eq!((chunk.rows.clone(), chunk.bytes.clone(), framed(chunk)), (0..1, 0x90..0x91, (0, &params)));

    let chunk = ChunkSpec { rows: 1, parts: vec![(1, params)], metadata: None };
    assert_eq!(write(Layout::V0, 1, "cvcf0.int8", chunk, &[0]), bytes);
}
