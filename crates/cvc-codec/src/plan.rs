//! What a backend must do for one chunk, with every parameter checked.

use core::fmt;
use std::sync::Arc;

use cvc_format::native::MAX_BLOCK_LEN;
use cvc_format::{DType, Parts};
use thiserror::Error;

use crate::ops::rotated::RotatedCodes;
use crate::rotation::Rotation;

/// The matrix that one chunk decodes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkShape {
    /// Rows in the chunk.
    pub rows: u32,
    /// Values per row.
    pub dim: u32,
}

impl ChunkShape {
    /// Values in the chunk; never overflows.
    pub fn values(self) -> u64 {
        u64::from(self.rows) * u64::from(self.dim)
    }
}

/// How the streams of a chunk are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Not at all.
    Stored,
    /// One frame of RFC 8878 for each block, which states its content size.
    Zstd,
    /// One member of RFC 1952 for each block.
    Gzip,
}

impl Stream {
    /// The name of the step, for people.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stored => "stored",
            Stream::Zstd => "inflate zstd",
            Stream::Gzip => "inflate gzip",
        }
    }
}

/// The op that turns encoded bytes into values. Each is one file in [`crate::ops`], one in every backend.
///
/// An op reads *sources*: matrices of bytes with as many rows as are decoded, the fields of the chunk first, then its
/// inflated lanes.
///
/// Deliberately exhaustive: a new op must break the build of every backend until it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// The values as they are, little-endian, of this dtype.
    Copy(DType),
    /// Little-endian binary16 widened to f32, exactly; NaN payloads kept, never quieted.
    WidenF16,
    /// Little-endian bfloat16 widened to f32, exactly; NaN payloads kept, never quieted.
    WidenBf16,
    /// `f32(f32(code) * scale) + min` for one u8 code per value, two roundings.
    AffineU8(Affine),
    /// `table[code]` for one u8 code per value.
    LutU8(Arc<[f32; 256]>),
    /// `f32(f32(t) * scale) + centre`, two roundings, where `t` are the levels of a row, rotated back: integers. The second source has
    /// the scale of each row, a little-endian f32. A backend refuses rows for which it is not finite
    /// ([`PayloadError::Parameter`](crate::ops::PayloadError::Parameter)). [`Load::rotated`] makes one.
    Rotated {
        /// The codes of the first source, and the integers they stand for.
        codes: RotatedCodes,
        /// The rotation of rows of this length.
        rotation: Arc<Rotation>,
        /// What is added to each dim: finite. [`DecodePlan`] makes -0.0 of it 0.0, so that the sign of a zero product makes no
        /// difference.
        centre: Arc<[f32]>,
    },
    /// Byte planes of values of this dtype: bit p of `coded` says that plane p is a lane, which are the sources after the
    /// first; the other planes stand in the first source one after another, low to high, if there are any.
    JoinPlanes {
        /// The dtype: a real floating point one.
        dtype: DType,
        /// Which planes are lanes.
        coded: u8,
    },
    /// Four byte planes of f32 values, each a dictionary and bit-packed indexes into it, in one opaque payload.
    DictPlanes,
}

/// Which values of a chunk share a scale and a minimum. All of them are finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Affine {
    /// All values do; and every result is finite: [`DecodePlan`] lowers anything else to [`Load::LutU8`].
    Chunk {
        /// The step from one code to the next.
        scale: f32,
        /// The value of code 0.
        min: f32,
    },
    /// The values of a dim do.
    Dim {
        /// The step from one code to the next, for each dim.
        scale: Arc<[f32]>,
        /// The value of code 0, for each dim.
        min: Arc<[f32]>,
    },
    /// The values of a row do: the second source has the minimum of each row, the third its scale, as little-endian f32.
    /// A backend refuses rows for which one of them is not finite
    /// ([`PayloadError::Parameter`](crate::ops::PayloadError::Parameter)).
    Row,
}

impl Load {
    /// [`Load::Rotated`] of rows as long as `centre`.
    pub fn rotated(codes: RotatedCodes, centre: Arc<[f32]>) -> Load {
        Load::Rotated { codes, rotation: Arc::new(Rotation::new(centre.len())), centre }
    }

    /// The name of the op, as its files are called.
    pub fn name(&self) -> &'static str {
        match self {
            Load::Copy(_) => "copy",
            Load::WidenF16 => "widen_f16",
            Load::WidenBf16 => "widen_bf16",
            Load::AffineU8(_) => "affine_u8",
            Load::LutU8(_) => "lut_u8",
            Load::Rotated { .. } => "rotated",
            Load::JoinPlanes { .. } => "join_planes",
            Load::DictPlanes => "dict_planes",
        }
    }

    /// The dtype of the values it makes.
    pub fn dtype(&self) -> DType {
        match self {
            Load::Copy(dtype) | Load::JoinPlanes { dtype, .. } => *dtype,
            Load::WidenF16
            | Load::WidenBf16
            | Load::AffineU8(_)
            | Load::LutU8(_)
            | Load::Rotated { .. }
            | Load::DictPlanes => DType::F32,
        }
    }

    /// Bytes of a row of `dim` values in each source; `None` for [`Load::DictPlanes`], whose source has no rows.
    pub fn source_widths(&self, dim: u32) -> Option<Vec<u64>> {
        let dim = u64::from(dim);
        Some(match self {
            Load::Copy(dtype) => vec![dim * dtype.size() as u64],
            Load::WidenF16 | Load::WidenBf16 => vec![dim * 2],
            Load::AffineU8(Affine::Chunk { .. } | Affine::Dim { .. }) | Load::LutU8(_) => vec![dim],
            Load::AffineU8(Affine::Row) => vec![dim, 4, 4],
            Load::Rotated { codes, .. } => vec![codes.row_len(dim), 4],
            Load::JoinPlanes { dtype, coded } => {
                let coded = u64::from(coded.count_ones());
                let stored = dtype.size() as u64 - coded;
                let stored = (stored > 0).then_some(dim * stored);
                stored.into_iter().chain((0..coded).map(|_| dim)).collect()
            }
            Load::DictPlanes => return None,
        })
    }
}

/// How to decode one chunk: inflate its streams if it has any, load values, narrow them if another dtype is wanted.
///
/// One exists only if the parts of the chunk are the sources that the load needs for the shape (for
/// [`Load::DictPlanes`], whose length is in the payload: at least its fixed part), and if the output dtype
/// can be had.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodePlan {
    shape: ChunkShape,
    load: Load,
    stream: Stream,
    out: DType,
    /// Values wanted of every row, from the first on.
    prefix: u32,
    parts: Arc<Parts>,
    /// Bytes of a row in each source; empty for an opaque payload.
    widths: Vec<u32>,
}

impl DecodePlan {
    /// A plan for a chunk of `shape` that lies in `parts`, whose lanes are packed as `stream`, making values of dtype `out`.
    ///
    /// Equivalent loads are made one: a half read as f32 is [`Load::WidenF16`], a half kept is a copy.
    ///
    /// # Errors
    /// The parts are not what the load needs for the shape, `out` cannot be made from what they hold, or a centre is not one finite
    /// number for each dim.
    pub fn new(
        shape: ChunkShape,
        load: Load,
        stream: Stream,
        out: DType,
        parts: &Arc<Parts>,
    ) -> Result<Self, PlanError> {
        let load = match (load, out) {
            (Load::WidenF16, DType::F16) => Load::Copy(DType::F16),
            (Load::WidenBf16, DType::Bf16) => Load::Copy(DType::Bf16),
            (Load::Copy(DType::F16), DType::F32 | DType::Bf16) => Load::WidenF16,
            (Load::Copy(DType::Bf16), DType::F32 | DType::F16) => Load::WidenBf16,
            (Load::AffineU8(Affine::Chunk { scale, min }), _) => crate::ops::lut_u8::lower_affine(scale, min),
            (Load::Rotated { codes, rotation, centre }, _) => {
                if centre.len() != shape.dim as usize
                    || rotation.dim() != centre.len()
                    || !centre.iter().all(|value| value.is_finite())
                {
                    return Err(PlanError::Centre { dim: shape.dim, len: centre.len() });
                }
                let is_negative_zero = |value: &f32| value.to_bits() == (-0f32).to_bits();
                let centre = if centre.iter().any(is_negative_zero) {
                    centre.iter().map(|value| value + 0.0).collect()
                } else {
                    centre
                };
                Load::Rotated { codes, rotation, centre }
            }
            (load, _) => load,
        };
        let narrows = load.dtype() == DType::F32 && matches!(out, DType::F16 | DType::Bf16);
        if load.dtype() != out && !narrows {
            return Err(PlanError::Output { stored: load.dtype(), out });
        }
        let (parts, widths) = match load.source_widths(shape.dim) {
            Some(widths) => check_sources(shape, &load, stream, &widths, parts)?,
            None => (check_opaque(shape, &load, parts)?, Vec::new()),
        };
        Ok(DecodePlan { shape, load, stream, out, prefix: shape.dim, parts, widths })
    }

    /// The same, but only the first `dim` values of every row are wanted.
    ///
    /// # Errors
    /// Rows have fewer values, or the load has no rows ([`Load::DictPlanes`]).
    pub fn with_prefix(mut self, dim: u32) -> Result<Self, PlanError> {
        if dim > self.shape.dim || (dim != self.shape.dim && matches!(self.load, Load::DictPlanes)) {
            return Err(PlanError::Prefix { dim, shape: self.shape, load: self.load.name() });
        }
        self.prefix = dim;
        Ok(self)
    }

    /// The matrix that is stored.
    pub fn shape(&self) -> ChunkShape {
        self.shape
    }

    /// The op that loads values.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// How the lanes are packed. [`Stream::Stored`] where there are none.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// The dtype of the output.
    pub fn out(&self) -> DType {
        self.out
    }

    /// Values of every row of the output: the first so many of those stored.
    pub fn dim(&self) -> u32 {
        self.prefix
    }

    /// Where the rows lie in the chunk.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Bytes of a row in each source, the fields first, then the inflated lanes; empty for [`Load::DictPlanes`].
    pub fn widths(&self) -> &[u32] {
        &self.widths
    }

    /// Whether the rows are decoded like one long row: all of their values are wanted, those of every source lie side by
    /// side, and no row or dim has parameters of its own.
    pub fn rows_are_alike(&self) -> bool {
        let alike = match &self.load {
            Load::Copy(_) | Load::WidenF16 | Load::WidenBf16 | Load::LutU8(_) | Load::DictPlanes => true,
            Load::AffineU8(Affine::Chunk { .. }) => true,
            Load::AffineU8(Affine::Dim { .. } | Affine::Row) | Load::Rotated { .. } => false,
            // Several stored planes take turns in their source, row by row.
            Load::JoinPlanes { dtype, coded } => dtype.size() <= 1 + coded.count_ones() as usize,
        };
        alike && self.prefix == self.shape.dim
    }

    /// Whether loaded f32 values are narrowed to f16 or bf16 on their way out.
    pub fn narrows(&self) -> bool {
        self.load.dtype() != self.out
    }
}

/// Compares the parts of a chunk with the sources that a load needs, and gives both as a plan keeps them.
fn check_sources(
    shape: ChunkShape,
    load: &Load,
    stream: Stream,
    widths: &[u64],
    parts: &Arc<Parts>,
) -> Result<(Arc<Parts>, Vec<u32>), PlanError> {
    // A CVCF payload is one plain matrix, but its layout does not say so.
    if stream == Stream::Stored
        && let [width] = *widths
        && let Some(payload_len) = parts.opaque_len()
    {
        // Below 2^64 * 8; compare in u128 rather than trust a product.
        let expected = u128::from(shape.rows) * u128::from(width);
        if expected != u128::from(payload_len) {
            return Err(PlanError::PayloadLength { shape, load: load.name(), payload_len, expected });
        }
        // No rows may be any number of bytes wide.
        let width = u32::try_from(width).unwrap_or(0);
        return Ok((Arc::new(Parts::packed(shape.rows, width)), vec![width]));
    }
    let damaged = || PlanError::Parts { shape, load: load.name() };
    let lanes = match (stream, load) {
        (_, Load::JoinPlanes { coded, .. }) => coded.count_ones() as usize,
        (Stream::Stored, _) => 0,
        _ => widths.len(),
    };
    let fields = parts.fields().len();
    if parts.rows() != shape.rows || parts.lanes().len() != lanes || widths.len() != fields + lanes {
        return Err(damaged());
    }
    for (field, width) in parts.fields().iter().zip(widths) {
        if u64::from(field.width) != *width {
            return Err(damaged());
        }
    }
    let block_len = |rows: u32, width: u64| u128::from(rows) * u128::from(width);
    if let Some(lane) = parts.lanes().first() {
        // The first block is the longest, and all of its sources are in memory together.
        let first = parts.rows_of(0..1.min(parts.block_count()));
        let decoded: u128 = widths.iter().map(|width| block_len(first.end, *width)).sum();
        if decoded > u128::from(MAX_BLOCK_LEN) {
            return Err(PlanError::Expansion { block: 0, len: lane.lens[0], decoded });
        }
    }
    for (lane, width) in parts.lanes().iter().zip(&widths[fields..]) {
        for (block, len) in (0..).zip(&lane.lens) {
            let rows = parts.rows_of(block..block + 1);
            let decoded = block_len(rows.end - rows.start, *width);
            // More than any compressor makes of so few bytes.
            if decoded > u128::from(*len) * MAX_EXPANSION {
                return Err(PlanError::Expansion { block, len: *len, decoded });
            }
        }
    }
    let widths: Option<Vec<u32>> = widths.iter().map(|width| u32::try_from(*width).ok()).collect();
    Ok((parts.clone(), widths.ok_or_else(damaged)?))
}

/// What zstd makes of 128 KiB of equal bytes is four bytes long, and gzip packs at most 1,032 to one.
pub(crate) const MAX_EXPANSION: u128 = 1 << 15;

fn check_opaque(shape: ChunkShape, load: &Load, parts: &Arc<Parts>) -> Result<Arc<Parts>, PlanError> {
    let Some(payload_len) = parts.opaque_len() else {
        return Err(PlanError::Parts { shape, load: load.name() });
    };
    // At least one bit of code in each of four planes: what is decoded is at most eight times the payload.
    let least = u128::from(crate::ops::dict_planes::MIN_LEN) + 4 * u128::from(shape.values()).div_ceil(8);
    if u128::from(payload_len) < least {
        return Err(PlanError::PayloadLength { shape, load: load.name(), payload_len, expected: least });
    }
    Ok(parts.clone())
}

impl fmt::Display for DecodePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stream != Stream::Stored {
            write!(f, "{}, ", self.stream.name())?;
        }
        write!(f, "{}", self.load.name())?;
        if self.narrows() {
            write!(f, ", narrow to {}", self.out)?;
        }
        Ok(())
    }
}

/// A chunk that cannot be decoded as its entry says.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The payload is not as long as its shape needs.
    #[error(
        "the payload has {payload_len} bytes, but {} rows of {} values need {expected} ({load}): the file is damaged",
        shape.rows, shape.dim
    )]
    PayloadLength {
        /// The matrix said to be in it.
        shape: ChunkShape,
        /// The op.
        load: &'static str,
        /// Bytes there are.
        payload_len: u64,
        /// Bytes there should be (at least, for ops whose length varies).
        expected: u128,
    },
    /// The parts of the chunk are not those of its codec.
    #[error(
        "{} rows of {} values do not lie in the fields and streams that {load} needs: the file is damaged",
        shape.rows, shape.dim
    )]
    Parts {
        /// The matrix said to be in it.
        shape: ChunkShape,
        /// The op.
        load: &'static str,
    },
    /// The centre of a chunk is not one finite number for each dim.
    #[error(
        "{len} numbers, or some that are not finite, are no centre of rows of {dim} values: the file is damaged"
    )]
    Centre {
        /// Values of a row.
        dim: u32,
        /// Numbers in the centre.
        len: usize,
    },
    /// A stream that cannot hold what it is said to hold.
    #[error(
        "block {block} is said to decode to {decoded} bytes from a stream of {len}: the file is damaged (a block has at \
         most 16 MiB, and no stream expands more than 32,768 times)"
    )]
    Expansion {
        /// Which block.
        block: u32,
        /// Bytes of its stream.
        len: u32,
        /// Bytes it should decode to.
        decoded: u128,
    },
    /// More values of a row are wanted than there are, or fewer where only all can be had.
    #[error("the first {dim} values of rows of {} cannot be had from {load}: ask for all of them", shape.dim)]
    Prefix {
        /// Values wanted.
        dim: u32,
        /// The matrix in the chunk.
        shape: ChunkShape,
        /// The op.
        load: &'static str,
    },
    /// The caller asked for a dtype that cannot be had.
    #[error("stored {stored} values cannot be read as {out}: ask for {stored}{}", alternatives(*.stored))]
    Output {
        /// What the payload holds.
        stored: DType,
        /// What was asked for.
        out: DType,
    },
}

fn alternatives(stored: DType) -> &'static str {
    match stored {
        DType::F32 => ", f16 or bf16",
        DType::F16 => ", f32 or bf16",
        DType::Bf16 => ", f32 or f16",
        _ => "",
    }
}
