//! The two whole files of `docs/FORMAT.md`, read out of the page: they open to what their comments say, and
//! writing the same contents gives the same bytes.

use cvc_format::cvcf::{ArraySpec, ChunkSpec, Contents, Opening, Step};
use cvc_format::{AffineParams, DType, FileIndex, Json, Layout, Limits, Params};

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
        let of_line: Vec<u8> =
            fields.map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")).collect();
        if of_line.len() == 16 {
            let text: String = of_line.iter().map(|byte| char::from(*byte)).collect();
            assert_eq!(comment.strip_prefix(' ').map(str::trim_end), Some(text.trim_end()), "{line}");
        }
        bytes.extend(of_line);
    }
    bytes
}

fn open(bytes: &[u8]) -> FileIndex {
    let mut opening = Opening::new(bytes.len() as u64, Limits::default());
    let mut step = opening.start();
    loop {
        match step {
            Step::Done(index) => return index,
            Step::Read(range) => {
                let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                step = opening.feed(&bytes[range]).expect("the page shows valid files");
            }
        }
    }
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}

/// Header, frame header and payload of a file with one array and one chunk.
fn write(layout: Layout, dim: u32, codec: &'static str, chunk: ChunkSpec, payload: &[u8]) -> Vec<u8> {
    let arrays = [ArraySpec { name: "vectors".into(), dtype: DType::F32, dim, codec }];
    let contents = Contents { layout, arrays: &arrays, chunks: &[chunk], sections: None };
    let frame = Contents::frame_header(layout, payload.len() as u64, crc32(payload)).unwrap();
    [contents.prefix().unwrap(), frame, payload.to_vec()].concat()
}

#[test]
fn checksums_are_crc32_as_the_page_says() {
    assert_eq!((crc32(b"123456789"), crc32(b"")), (0xcbf4_3926, 0));
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
    assert_eq!((array.name.as_str(), array.dtype, &*array.codec), ("vectors", DType::F32, "cvcf.fp16"));
    assert_eq!((array.shape(), array.stored_len()), (vec![1, 2], 4));
    let [chunk] = array.chunks.as_slice() else { panic!("one chunk") };
    assert_eq!((chunk.rows.clone(), chunk.bytes.clone(), chunk.frame), (0..1, 0x8d..0x91, 0));
    assert_eq!((&*chunk.codec, chunk.params), ("cvcf.fp16", Params::None));

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
    assert_eq!((array.name.as_str(), array.dtype, &*array.codec), ("vectors", DType::F32, "cvcf0.int8"));
    assert_eq!((array.shape(), array.stored_len()), (vec![1, 1], 1));
    let [chunk] = array.chunks.as_slice() else { panic!("one chunk") };
    assert_eq!((chunk.rows.clone(), chunk.bytes.clone(), chunk.params), (0..1, 0x90..0x91, params));

    let chunk = ChunkSpec { rows: 1, parts: vec![(1, params)], metadata: None };
    assert_eq!(write(Layout::V0, 1, "cvcf0.int8", chunk, &[0]), bytes);
}
