//! What a backend must do for one chunk, with every parameter checked.

use core::fmt;
use std::sync::Arc;

use cvc_format::DType;
use thiserror::Error;

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

/// The op that turns encoded bytes into values. Each is one file in [`crate::ops`], one in every backend.
///
/// Deliberately exhaustive: a new op must break the build of every backend until it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// The values as they are, little-endian, of this dtype.
    Copy(DType),
    /// Little-endian binary16 widened to f32, exactly; NaN payloads kept, never quieted.
    WidenF16,
    /// `f32(f32(code) * scale) + min` for one u8 code per value, two roundings.
    ///
    /// Both parameters, and every result, are finite: [`DecodePlan`] lowers anything else to [`Load::LutU8`].
    AffineU8 {
        /// The step from one code to the next.
        scale: f32,
        /// The value of code 0.
        min: f32,
    },
    /// `table[code]` for one u8 code per value.
    LutU8(Arc<[f32; 256]>),
    /// Four byte planes of f32 values, each a dictionary and bit-packed indexes into it.
    DictPlanes,
}

impl Load {
    /// The name of the op, as its files are called.
    pub fn name(&self) -> &'static str {
        match self {
            Load::Copy(_) => "copy",
            Load::WidenF16 => "widen_f16",
            Load::AffineU8 { .. } => "affine_u8",
            Load::LutU8(_) => "lut_u8",
            Load::DictPlanes => "dict_planes",
        }
    }

    /// The dtype of the values it makes.
    pub fn dtype(&self) -> DType {
        match self {
            Load::Copy(dtype) => *dtype,
            Load::WidenF16 | Load::AffineU8 { .. } | Load::LutU8(_) | Load::DictPlanes => DType::F32,
        }
    }

    /// Encoded bytes per value, if every value has the same number; `None` means that rows can only be
    /// found by reading the whole payload.
    pub fn encoded_size(&self) -> Option<usize> {
        match self {
            Load::Copy(dtype) => Some(dtype.size()),
            Load::WidenF16 => Some(2),
            Load::AffineU8 { .. } | Load::LutU8(_) => Some(1),
            Load::DictPlanes => None,
        }
    }
}

/// How to decode one chunk: load values from the payload, then narrow them if another dtype is wanted.
///
/// One exists only if the payload has exactly the bytes that the load needs for the shape (for
/// [`Load::DictPlanes`], whose length is in the payload: at least its fixed part), and if the output dtype
/// can be had.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodePlan {
    shape: ChunkShape,
    load: Load,
    out: DType,
    payload_len: u64,
}

impl DecodePlan {
    /// A plan for a chunk of `shape` whose payload has `payload_len` bytes, making values of dtype `out`.
    ///
    /// Equivalent loads are made one: a half read as f32 is [`Load::WidenF16`], a half kept is a copy.
    ///
    /// # Errors
    /// The payload has the wrong length for the shape, or `out` cannot be made from what the payload holds.
    pub fn new(shape: ChunkShape, load: Load, out: DType, payload_len: u64) -> Result<Self, PlanError> {
        let load = match (load, out) {
            (Load::WidenF16, DType::F16) => Load::Copy(DType::F16),
            (Load::Copy(DType::F16), DType::F32 | DType::Bf16) => Load::WidenF16,
            (Load::AffineU8 { scale, min }, _) => crate::ops::lut_u8::lower_affine(scale, min),
            (load, _) => load,
        };
        let narrows = load.dtype() == DType::F32 && matches!(out, DType::F16 | DType::Bf16);
        if load.dtype() != out && !narrows {
            return Err(PlanError::Output { stored: load.dtype(), out });
        }
        let expected = match load.encoded_size() {
            Some(size) => {
                let size = u64::try_from(size).expect("at most 8");
                // Below 2^64 * 8; compare in u128 rather than trust a product.
                let expected = u128::from(shape.values()) * u128::from(size);
                if expected != u128::from(payload_len) { Some(expected) } else { None }
            }
            None => {
                // At least one bit of code in each of four planes: what is decoded is at most eight times the payload.
                let least =
                    u128::from(crate::ops::dict_planes::MIN_LEN) + 4 * u128::from(shape.values()).div_ceil(8);
                if u128::from(payload_len) < least { Some(least) } else { None }
            }
        };
        match expected {
            Some(expected) => {
                Err(PlanError::PayloadLength { shape, load: load.name(), payload_len, expected })
            }
            None => Ok(DecodePlan { shape, load, out, payload_len }),
        }
    }

    /// The matrix the chunk decodes to.
    pub fn shape(&self) -> ChunkShape {
        self.shape
    }

    /// The op that loads values.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// The dtype of the output.
    pub fn out(&self) -> DType {
        self.out
    }

    /// Bytes of the payload.
    pub fn payload_len(&self) -> u64 {
        self.payload_len
    }

    /// Whether loaded f32 values are narrowed to f16 or bf16 on their way out.
    pub fn narrows(&self) -> bool {
        self.load.dtype() != self.out
    }
}

impl fmt::Display for DecodePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        _ => "",
    }
}
