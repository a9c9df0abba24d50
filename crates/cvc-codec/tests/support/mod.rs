//! Chunks in memory: encoded, stored as the only chunk of a native file or as the payload of a CVCF one, decoded.

use std::sync::Arc;

use cvc_codec::{
    Backend, Batch, BlockRun, ChunkId, ChunkShape, Codec, CodecError, DType, DecodeError, DecodePlan,
    EncodeOptions, EncodedChunk, HostBuffer, Job, Params, Parts, Payloads, ReferenceBackend, RowSlice,
    SourceError, StoredChunk,
};
use cvc_format::native::{ArraySpec, ChunkParts, Contents, LaneBytes, encode_chunk, parse_head};
use cvc_format::{ArrayDType, ChunkEntry, Json, Limits, Loss, Opening, Step, Stored};

/// A chunk as a reader finds it.
pub(crate) struct Chunk {
    pub(crate) shape: ChunkShape,
    pub(crate) dtype: DType,
    pub(crate) params: Params,
    pub(crate) parts: Arc<Parts>,
    /// All of its bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Payloads for Chunk {
    fn read(&self, run: &BlockRun<'_>, into: &mut [u8]) -> Result<(), SourceError> {
        let mut rest = into;
        for range in run.ranges() {
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let (these, after) = rest.split_at_mut(range.len());
            these.copy_from_slice(&self.bytes[range]);
            rest = after;
        }
        assert!(rest.is_empty(), "a backend asks for exactly the bytes of a run");
        Ok(())
    }

    fn borrow(&self, _: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError> {
        Ok(None)
    }
}

/// What a native file is when it holds nothing but this chunk: its bytes, and the entry of the chunk.
pub(crate) fn file(
    dtype: ArrayDType,
    rows: u32,
    inner: Vec<u32>,
    codec: &str,
    block_rows: u32,
    chunk: &EncodedChunk,
) -> (Vec<u8>, ChunkEntry) {
    let params = match &chunk.params {
        Params::Bytes(bytes) => &bytes[..],
        Params::None => &[],
        other => panic!("{other:?} in a native chunk"),
    };
    let fields: Vec<(u32, &[u8])> =
        chunk.fields.iter().map(|field| (field.width, &field.bytes[..])).collect();
    let lanes: Vec<LaneBytes<'_>> =
        chunk.lanes.iter().map(|lane| LaneBytes { bytes: &lane.bytes, lens: &lane.lens }).collect();
    let parts = ChunkParts {
        array: 0,
        rows,
        block_rows,
        params,
        fields: &fields,
        lanes: &lanes,
        loss: Loss::UNKNOWN,
    };
    let mut bytes = Contents::prelude().to_vec();
    let spec = encode_chunk(&parts, &mut bytes).unwrap();
    let array = ArraySpec {
        name: "vectors".into(),
        dtype,
        inner,
        codec: codec.into(),
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
    bytes.extend(contents.suffix().unwrap());

    let mut opening = Opening::new(bytes.len() as u64, Limits::default());
    let mut step = opening.start();
    let index = loop {
        match step {
            Step::Done(index) => break index,
            Step::Read(ranges) => {
                let range = |range: std::ops::Range<u64>| {
                    &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
                };
                let wanted = ranges.into_iter().map(range).collect::<Vec<_>>().concat();
                step = opening.feed(&wanted).unwrap();
            }
        }
    };
    let entry = index.arrays[0].chunks[0].clone();
    let range = usize::try_from(entry.bytes.start).unwrap()..usize::try_from(entry.bytes.end).unwrap();
    (bytes[range].to_vec(), entry)
}

/// The parts and parameters of the only chunk of a native file.
pub(crate) fn inside(bytes: &[u8], entry: &ChunkEntry) -> (Arc<Parts>, Params) {
    let Stored::Blocked(stored) = &entry.stored else { panic!("it is native") };
    let head = parse_head(ChunkId(0), entry, &bytes[..stored.head_len as usize]).unwrap();
    (Arc::new(head.parts), Params::Bytes(head.params))
}

impl Chunk {
    /// The only chunk of a native file.
    pub(crate) fn native(
        codec: &dyn Codec,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        chunk: &EncodedChunk,
    ) -> Chunk {
        let shape = shape_of(rows);
        let dtype = rows.dtype();
        let (bytes, entry) =
            file(dtype.into(), shape.rows, vec![shape.dim], codec.name(), options.block_rows, chunk);
        let (parts, params) = inside(&bytes, &entry);
        Chunk { shape, dtype, params, parts, bytes }
    }

    pub(crate) fn plan(&self, codec: &dyn Codec, out: DType) -> Result<DecodePlan, CodecError> {
        let Chunk { shape, dtype, params, parts, .. } = self;
        codec.plan(&StoredChunk { shape: *shape, dtype: *dtype, params, parts }, out)
    }

    /// Some rows, decoded by the scalar reference into memory that held something else.
    pub(crate) fn decode(
        &self,
        plan: &DecodePlan,
        rows: std::ops::Range<u32>,
    ) -> Result<Aligned, DecodeError> {
        let row_count = u64::from(rows.end - rows.start);
        let job = Job { plan, chunk: ChunkId(0), rows, dst_row: 0 };
        let batch = Batch::new(vec![job], row_count, plan.dim(), plan.out()).unwrap();
        let len = usize::try_from(batch.out_len().unwrap()).unwrap();
        let mut values = Aligned::new(&vec![0x77; len]);
        let mut dst = HostBuffer::from_bytes(plan.out(), values.bytes_mut()).unwrap();
        ReferenceBackend::default().decode(&batch, self, &mut dst)?;
        Ok(values)
    }
}

pub(crate) fn shape_of(rows: RowSlice<'_>) -> ChunkShape {
    ChunkShape { rows: u32::try_from(rows.len()).unwrap(), dim: u32::try_from(rows.dim()).unwrap() }
}

/// Bytes that begin where values of any dtype may.
#[derive(Clone, Debug)]
pub(crate) struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(bytes: &[u8]) -> Aligned {
        let mut aligned = Aligned { words: vec![0; bytes.len().div_ceil(16)], len: bytes.len() };
        aligned.bytes_mut().copy_from_slice(bytes);
        aligned
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }

    pub(crate) fn f32s(&self) -> &[f32] {
        bytemuck::cast_slice(self.bytes())
    }
}
