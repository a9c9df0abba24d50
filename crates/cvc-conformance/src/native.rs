//! Chunks as native files have them, with several fields, lanes and blocks of any size.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use cvc_codec::stream::{Deflater, Packing};
use cvc_format::index::Loss;
use cvc_format::native::{ArraySpec, ChunkParts, Contents, LaneBytes, encode_chunk, parse_head};
use cvc_format::{ChunkId, DType, Json, Limits, Opening, Parts, Step, Stored};

/// The rows of a field or of a lane: bytes of a row, and the rows one after another.
pub type Matrix = (u32, Vec<u8>);

/// The bytes of a chunk with these fields and lanes, the latter packed block by block, and where its rows lie. It goes
/// through a whole file, because that is the only way to a [`Parts`].
///
/// # Panics
/// There are no rows, a row has no bytes, or a matrix does not have as many rows.
pub fn native_chunk(
    rows: u32,
    block_rows: u32,
    fields: &[Matrix],
    lanes: &[Matrix],
    packing: Packing,
) -> (Arc<Parts>, Vec<u8>) {
    thread_local! {
        // The suite makes tens of thousands of chunks.
        static DEFLATER: RefCell<Deflater> = RefCell::default();
    }
    let packed: Vec<(Vec<u8>, Vec<u32>)> = lanes
        .iter()
        .map(|(width, bytes)| {
            let mut streams = Vec::new();
            // A block may have more rows than the chunk.
            let block_len = (*width as usize).saturating_mul(block_rows as usize).min(bytes.len());
            let lens = DEFLATER.with_borrow_mut(|deflater| {
                bytes.chunks(block_len).map(|block| deflater.deflate(packing, block, &mut streams)).collect()
            });
            (streams, lens)
        })
        .collect();
    native_chunk_of(rows, block_rows, fields, &packed)
}

/// The same for lanes that are packed already: the streams one after another, and the bytes of each.
///
/// # Panics
/// As [`native_chunk`], or a lane does not have a stream for each block.
pub fn native_chunk_of(
    rows: u32,
    block_rows: u32,
    fields: &[Matrix],
    lanes: &[(Vec<u8>, Vec<u32>)],
) -> (Arc<Parts>, Vec<u8>) {
    let fields: Vec<(u32, &[u8])> = fields.iter().map(|(width, bytes)| (*width, bytes.as_slice())).collect();
    let lanes: Vec<LaneBytes<'_>> = lanes.iter().map(|(bytes, lens)| LaneBytes { bytes, lens }).collect();
    let chunk = ChunkParts {
        array: 0,
        rows,
        block_rows,
        params: &[],
        fields: &fields,
        lanes: &lanes,
        loss: Loss::NONE,
    };
    let mut file = Contents::prelude().to_vec();
    let spec = encode_chunk(&chunk, &mut file).expect("small enough for its head");
    let array = ArraySpec {
        name: "values".into(),
        dtype: DType::U8.into(),
        inner: Vec::new(),
        codec: "suite".into(),
        codec_options: Json::Object(Vec::new()),
        provenance: None,
    };
    let contents = Contents {
        arrays: &[array],
        rows: &[u64::from(rows)],
        chunks: &[spec],
        sections: &[],
        sections_from_chunks: false,
        metadata: &Json::Object(Vec::new()),
    };
    file.extend(contents.suffix().expect("one small array"));

    let mut opening = Opening::new(file.len() as u64, Limits::default());
    let mut step = opening.start();
    let index = loop {
        match step {
            Step::Read(ranges) => {
                let bytes: Vec<u8> =
                    ranges.into_iter().flat_map(|range| &file[span(range)]).copied().collect();
                step = opening.feed(&bytes).expect("a file just written");
            }
            Step::Done(index) => break index,
        }
    };
    let entry = &index.arrays[0].chunks[0];
    let Stored::Blocked(stored) = &entry.stored else { unreachable!("it is native") };
    let bytes = file[span(entry.bytes.clone())].to_vec();
    let head =
        parse_head(ChunkId(0), entry, &bytes[..stored.head_len as usize]).expect("a head just written");
    (Arc::new(head.parts), bytes)
}

fn span(range: Range<u64>) -> Range<usize> {
    let index = |offset: u64| usize::try_from(offset).expect("in memory");
    index(range.start)..index(range.end)
}
