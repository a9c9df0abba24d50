//! What the suite decodes: every way to store rows, and random rows stored in each.

use std::sync::Arc;

use cvc_codec::ops::dict_planes;
use cvc_codec::ops::rotated::RotatedCodes;
use cvc_codec::stream::Packing;
use cvc_codec::{Affine, ChunkShape, DType, DecodePlan, Load, Parts, Stream};

use crate::native::{Matrix, native_chunk};

/// A chunk: how to decode it, and its bytes.
pub(crate) type Chunk = (DecodePlan, Vec<u8>);

/// A way to store rows, whatever their shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Copy(DType),
    /// Values of this dtype in streams.
    Packed(DType, Packing),
    WidenF16,
    WidenBf16,
    AffineChunk,
    AffineDim,
    AffineRow,
    LutU8,
    Rotated(RotatedCodes),
    JoinPlanes {
        dtype: DType,
        coded: u8,
        packing: Packing,
    },
    DictPlanes,
}

impl Kind {
    /// The name of the op, as [`Load::name`] gives it.
    pub(crate) fn op(self) -> &'static str {
        match self {
            Kind::Copy(_) | Kind::Packed(..) => "copy",
            Kind::WidenF16 => "widen_f16",
            Kind::WidenBf16 => "widen_bf16",
            Kind::AffineChunk | Kind::AffineDim | Kind::AffineRow => "affine_u8",
            Kind::LutU8 => "lut_u8",
            Kind::Rotated(_) => "rotated",
            Kind::JoinPlanes { .. } => "join_planes",
            Kind::DictPlanes => "dict_planes",
        }
    }

    /// Whether it needs more than one plain payload: only native chunks have that, and they are never without values.
    pub(crate) fn is_native(self) -> bool {
        matches!(self, Kind::AffineRow | Kind::Rotated(_) | Kind::Packed(..) | Kind::JoinPlanes { .. })
    }
}

/// Every kind, with every dtype it can be read as.
pub(crate) fn kinds() -> Vec<(Kind, DType)> {
    let planes = |dtype, coded, packing| Kind::JoinPlanes { dtype, coded, packing };
    let of_f32 = [
        Kind::Copy(DType::F32),
        Kind::WidenF16,
        Kind::WidenBf16,
        Kind::AffineChunk,
        Kind::AffineDim,
        Kind::AffineRow,
        Kind::LutU8,
        Kind::Rotated(RotatedCodes::Int4),
        Kind::Rotated(RotatedCodes::Bit1),
        planes(DType::F32, 0b1000, Packing::ZstdLiterals),
        Kind::DictPlanes,
    ];
    let narrowed = [DType::F32, DType::F16, DType::Bf16];
    let mut kinds: Vec<(Kind, DType)> =
        of_f32.into_iter().flat_map(|kind| narrowed.map(|out| (kind, out))).collect();
    kinds.extend([DType::U8, DType::F16, DType::I64, DType::C128].map(|dtype| (Kind::Copy(dtype), dtype)));
    kinds.extend([
        (planes(DType::F64, 0b1100_0000, Packing::Gzip), DType::F64),
        (planes(DType::F16, 0b10, Packing::Zstd), DType::F16),
        (planes(DType::Bf16, 0b11, Packing::Gzip), DType::Bf16),
        (Kind::Packed(DType::F32, Packing::Zstd), DType::F32),
        (Kind::Packed(DType::F32, Packing::Gzip), DType::F16),
        (Kind::Packed(DType::I16, Packing::Zstd), DType::I16),
    ]);
    kinds
}

/// Encoded rows that can be put into a chunk in several ways.
pub(crate) struct Content {
    pub(crate) shape: ChunkShape,
    pub(crate) load: Load,
    pub(crate) fields: Vec<Matrix>,
    pub(crate) lanes: Vec<Matrix>,
    pub(crate) packing: Packing,
}

impl Content {
    /// One field.
    pub(crate) fn field(shape: ChunkShape, load: Load, bytes: Vec<u8>) -> Content {
        let width = load.source_widths(shape.dim).map_or(0, |widths| u32::try_from(widths[0]).unwrap());
        let (lanes, packing) = (Vec::new(), Packing::Stored);
        Content { shape, load, fields: vec![(width, bytes)], lanes, packing }
    }

    /// Rows with a minimum and a scale for each of them.
    pub(crate) fn row_affine(shape: ChunkShape, codes: Vec<u8>, params: &[(f32, f32)]) -> Content {
        let bytes =
            |param: fn(&(f32, f32)) -> f32| params.iter().flat_map(|p| param(p).to_le_bytes()).collect();
        let (scales, mins) = (bytes(|(scale, _)| *scale), bytes(|(_, min)| *min));
        let content = Content::field(shape, Load::AffineU8(Affine::Row), codes);
        Content { fields: [content.fields, vec![(4, mins), (4, scales)]].concat(), ..content }
    }

    /// Rows of codes that are rotated, with a scale for each of them.
    pub(crate) fn rotated(codes: RotatedCodes, centre: &[f32], bytes: Vec<u8>, scales: &[f32]) -> Content {
        let dim = u32::try_from(centre.len()).expect("a short row");
        let shape = ChunkShape { rows: u32::try_from(scales.len()).expect("few rows"), dim };
        let content = Content::field(shape, Load::rotated(codes, centre.into()), bytes);
        let scales = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        Content { fields: [content.fields, vec![(4, scales)]].concat(), ..content }
    }

    /// The planes of little-endian values of `dtype`, those of `coded` as lanes.
    pub(crate) fn planes(
        shape: ChunkShape,
        dtype: DType,
        coded: u8,
        packing: Packing,
        values: &[u8],
    ) -> Content {
        let size = dtype.size();
        let is_coded = |plane: &usize| coded >> plane & 1 == 1;
        let plane_of = |row: &[u8], plane: usize| row.iter().skip(plane).step_by(size).copied().collect();
        let rows = || values.chunks(shape.dim as usize * size);
        let lanes: Vec<Matrix> =
            (0..size).filter(is_coded).map(|plane| (shape.dim, plane_of(values, plane))).collect();
        let stored: Vec<usize> = (0..size).filter(|plane| !is_coded(plane)).collect();
        let field = rows().flat_map(|row| stored.iter().flat_map(move |p| -> Vec<u8> { plane_of(row, *p) }));
        let fields = match u32::try_from(stored.len()).unwrap() {
            0 => Vec::new(),
            stored => vec![(stored * shape.dim, field.collect())],
        };
        Content { shape, load: Load::JoinPlanes { dtype, coded }, fields, lanes, packing }
    }

    /// A CVCF payload, which has one field and no blocks.
    pub(crate) fn framed(&self, out: DType) -> Chunk {
        let [(_, payload)] = self.fields.as_slice() else { panic!("more than one payload") };
        (plan(self.shape.rows, self.shape.dim, self.load.clone(), out, payload), payload.clone())
    }

    /// A native chunk, which has values, in blocks of so many rows.
    pub(crate) fn blocked(&self, block_rows: u32, out: DType) -> Chunk {
        let (parts, bytes) =
            native_chunk(self.shape.rows, block_rows, &self.fields, &self.lanes, self.packing);
        let stream = if self.lanes.is_empty() { Stream::Stored } else { self.packing.stream() };
        let plan = DecodePlan::new(self.shape, self.load.clone(), stream, out, &parts);
        (plan.expect("a plan that makes sense"), bytes)
    }
}

/// The plan of a CVCF chunk with this payload.
pub(crate) fn plan(rows: u32, dim: u32, load: Load, out: DType, payload: &[u8]) -> DecodePlan {
    let parts = Arc::new(Parts::opaque(rows, u32::try_from(payload.len()).expect("a small payload")));
    let plan = DecodePlan::new(ChunkShape { rows, dim }, load, Stream::Stored, out, &parts);
    plan.expect("a plan that makes sense")
}

/// The `dict_planes` payload of these values.
pub(crate) fn dictionaries(values: &[f32]) -> Vec<u8> {
    let mut payload = Vec::new();
    dict_planes::encode(values.iter().copied(), &mut payload);
    payload
}

/// Numbers that are the same in every run: xorshift, by Marsaglia.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn new() -> Self {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).expect("32 bits")
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.u32().to_le_bytes()[3]
    }

    /// A number below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.u32() % end
    }

    /// A byte below `end`, which is 1 to 256.
    pub(crate) fn byte_below(&mut self, end: u32) -> u8 {
        u8::try_from(self.below(end)).expect("below 256")
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.u8()).collect()
    }

    /// Puts items into any order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let end = u32::try_from(index + 1).expect("a short list");
            items.swap(index, self.below(end) as usize);
        }
    }

    /// Nearly normally distributed: the sum of twelve uniform numbers.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.u32() >> 8) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }

    /// A number, or once in a while any bits.
    fn value(&mut self) -> f32 {
        let any = self.u32();
        if any & 0xff == 0 { f32::from_bits(any.rotate_left(13)) } else { self.normal() }
    }

    /// Little-endian values: floats are numbers as they occur, and a few of any bits; all else is any bits.
    fn values(&mut self, dtype: DType, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count * dtype.size());
        match dtype {
            DType::F32 => (0..count).for_each(|_| bytes.extend(self.value().to_le_bytes())),
            DType::F64 => {
                (0..count).for_each(|_| bytes.extend((f64::from(self.value()) / 3.0).to_le_bytes()))
            }
            DType::F16 => {
                (0..count).for_each(|_| bytes.extend(half::f16::from_f32(self.value()).to_le_bytes()))
            }
            DType::Bf16 => {
                (0..count).for_each(|_| bytes.extend(half::bf16::from_f32(self.value()).to_le_bytes()))
            }
            _ => bytes = self.bytes(count * dtype.size()),
        }
        if matches!(dtype, DType::F16 | DType::Bf16) {
            for half in bytes.chunks_exact_mut(2) {
                let any = self.u32().to_le_bytes();
                if any[3] == 0 {
                    half.copy_from_slice(&any[..2]);
                }
            }
        }
        bytes
    }

    /// Random rows, stored like this.
    pub(crate) fn content(&mut self, rows: u32, dim: u32, kind: Kind) -> Content {
        let shape = ChunkShape { rows, dim };
        let count = rows as usize * dim as usize;
        match kind {
            Kind::Copy(dtype) => Content::field(shape, Load::Copy(dtype), self.values(dtype, count)),
            Kind::Packed(dtype, packing) => {
                let content = Content::field(shape, Load::Copy(dtype), self.values(dtype, count));
                Content { lanes: content.fields, fields: Vec::new(), packing, ..content }
            }
            Kind::WidenF16 => Content::field(shape, Load::WidenF16, self.values(DType::F16, count)),
            Kind::WidenBf16 => Content::field(shape, Load::WidenBf16, self.values(DType::Bf16, count)),
            Kind::AffineChunk => {
                let affine = Affine::Chunk { scale: 0.013_671_9, min: -1.734_2 };
                Content::field(shape, Load::AffineU8(affine), self.bytes(count))
            }
            Kind::AffineDim => {
                let mut params = || (0..dim).map(|_| self.normal()).collect();
                let affine = Affine::Dim { scale: params(), min: params() };
                Content::field(shape, Load::AffineU8(affine), self.bytes(count))
            }
            Kind::AffineRow => {
                let params: Vec<(f32, f32)> = (0..rows).map(|_| (self.normal(), self.normal())).collect();
                Content::row_affine(shape, self.bytes(count), &params)
            }
            Kind::LutU8 => {
                let table: [f32; 256] = core::array::from_fn(|code| (code as f32).sqrt() - 8.0);
                Content::field(shape, Load::LutU8(Arc::new(table)), self.bytes(count))
            }
            Kind::Rotated(codes) => {
                let centre: Vec<f32> = (0..dim).map(|_| self.normal()).collect();
                let scales: Vec<f32> = (0..rows).map(|_| self.normal() * 1e-3).collect();
                let width = usize::try_from(codes.row_len(u64::from(dim))).expect("a short row");
                Content::rotated(codes, &centre, self.bytes(rows as usize * width), &scales)
            }
            Kind::JoinPlanes { dtype, coded, packing } => {
                Content::planes(shape, dtype, coded, packing, &self.values(dtype, count))
            }
            Kind::DictPlanes => {
                let payload = dictionaries(&(0..count).map(|_| self.value()).collect::<Vec<_>>());
                Content::field(shape, Load::DictPlanes, payload)
            }
        }
    }

    /// A chunk of random rows, stored like this: framed or in blocks of some size, where both can be. What cannot be
    /// without rows has one at least.
    pub(crate) fn chunk(&mut self, rows: u32, dim: u32, kind: Kind, out: DType) -> Chunk {
        let rows = if kind.is_native() { rows.max(1) } else { rows };
        let content = self.content(rows, dim, kind);
        let can_be_native = rows > 0 && dim > 0 && kind != Kind::DictPlanes;
        if kind.is_native() || can_be_native && self.below(2) == 1 {
            // A hundred streams are enough.
            let sizes = [1, 2, 3, 5, 8, 64, rows, rows + 3].map(|block_rows| block_rows.max(rows / 100));
            let block_rows = sizes[self.below(8) as usize];
            return content.blocked(block_rows, out);
        }
        content.framed(out)
    }
}
