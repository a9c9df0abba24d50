//! What a device must offer to decode chunks, and where it gets their bytes.
//!
//! # Where trust begins
//!
//! A backend checks three things: that it [`supports`](Backend::supports) the plans, that the buffer is the
//! one the batch was made for, and whatever its device reports. Everything else was proved by the types it
//! is handed: sizes, ranges and parameters are right, and [`Payloads`] gives bytes that were checked against
//! the file's checksums (where the layout has any). Payload *content* is not trusted: an op whose payload has
//! an inner structure ([`Load::DictPlanes`](crate::Load::DictPlanes)) validates it and reports
//! [`DecodeError::Payload`].

use core::fmt;
use core::ops::Range;
use std::error::Error as StdError;
use std::sync::Arc;

use cvc_format::{ChunkId, DType, Parts};
use thiserror::Error;

use crate::job::Batch;
use crate::ops::PayloadError;
use crate::plan::DecodePlan;
use crate::rows::{Element, RowSlice, RowsError};

/// Decodes chunks on one device.
pub trait Backend: Send + Sync {
    /// Where results go: device memory, or the caller's own slice.
    type Buffer<'a>: DeviceBuffer;

    /// The device, for people.
    fn device(&self) -> &DeviceInfo;

    /// Whether this backend can run `plan`.
    ///
    /// # Errors
    /// Why not, and what to do instead.
    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported>;

    /// The steps of `plan`, which is supported, and where each of them runs, for people.
    fn explain(&self, plan: &DecodePlan) -> String {
        format!("{plan} on {}", self.device().name)
    }

    /// Runs every job of `batch` into `dst`. When this returns `Ok`, every value of `dst` has been written and
    /// may be used; after an error its content is unspecified (but was written by somebody).
    ///
    /// # Errors
    /// A plan is unsupported, `dst` is not the batch's destination, the source fails, a payload is damaged, or
    /// the device fails. Where a chunk is to blame, the error names it.
    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: &mut Self::Buffer<'_>,
    ) -> Result<(), DecodeError>;
}

/// A backend whose buffers are memory of its device, and how values get there and back.
pub trait DeviceMemory: Backend {
    /// Room for `values` values of `dtype`, which hold anything.
    ///
    /// # Errors
    /// The device has no such room.
    fn allocate(&self, dtype: DType, values: u64) -> Result<Self::Buffer<'static>, DecodeError>;

    /// Fills `into` with all values of `from`.
    ///
    /// # Errors
    /// The two are not of one dtype and size, or the device fails.
    fn download(&self, from: &Self::Buffer<'_>, into: &mut HostBuffer<'_>) -> Result<(), DecodeError>;

    /// Fills `into` with all of `from`, the bytes of values in native order.
    ///
    /// # Errors
    /// The two are not of one size, or the device fails.
    fn upload(&self, from: &[u8], into: &mut Self::Buffer<'_>) -> Result<(), DecodeError>;
}

/// Consecutive blocks of one chunk: what a backend pulls at a time.
#[derive(Clone, Debug)]
pub struct BlockRun<'p> {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Where its blocks lie.
    pub parts: &'p Parts,
    /// Which of them; at least one.
    pub blocks: Range<u32>,
}

impl<'p> BlockRun<'p> {
    /// The bytes of the run, as ranges of the chunk: one for each field, then one for each lane.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + Clone + 'p {
        self.parts.ranges(self.blocks.clone())
    }

    /// How many bytes they are together.
    pub fn byte_len(&self) -> usize {
        usize::try_from(self.parts.len_of(self.blocks.clone())).expect("the file was opened on this machine")
    }

    /// The rows of the run, counted from the start of the chunk.
    pub fn rows(&self) -> Range<u32> {
        self.parts.rows_of(self.blocks.clone())
    }
}

/// Where encoded bytes come from. A backend pulls what it needs, when it needs it, from several threads.
pub trait Payloads: Sync {
    /// Fills `into` with the ranges of the run, one after another, checked against their checksums.
    ///
    /// # Errors
    /// The source failed or the bytes are damaged.
    fn read(&self, run: &BlockRun<'_>, into: &mut [u8]) -> Result<(), SourceError>;

    /// Says that the run will be read soon, so that a source that is slow can begin to fetch it. Nothing may be done about it, which
    /// is the default.
    fn will_read(&self, run: &BlockRun<'_>) {
        let _ = run;
    }

    /// All bytes of the chunk without a copy, where they already lie in memory; those of the run are checked.
    ///
    /// Do not copy from here to a device if the memory may be a map: a page fault in a driver stalls it.
    ///
    /// # Errors
    /// The bytes are damaged.
    fn borrow(&self, run: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError>;
}

/// A place for decoded rows.
pub trait DeviceBuffer {
    /// The dtype of its values.
    fn dtype(&self) -> DType;
    /// Its size in bytes.
    fn byte_len(&self) -> u64;
}

/// A device that a backend runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Which kind of backend.
    pub kind: DeviceKind,
    /// What people call the device, with the level of its instruction set where that matters.
    pub name: String,
}

impl DeviceInfo {
    /// A device of this kind and name.
    pub fn new(kind: DeviceKind, name: impl Into<String>) -> Self {
        DeviceInfo { kind, name: name.into() }
    }
}

/// The kinds of backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// NVIDIA's driver.
    Cuda,
    /// Any GPU that Vulkan, Metal or DX12 reaches.
    Wgpu,
}

impl DeviceKind {
    /// The name on the command line: `cpu`, `cuda`, `wgpu`.
    pub const fn name(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Wgpu => "wgpu",
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The caller's own memory as a destination: a slice of native values.
#[derive(Debug)]
pub struct HostBuffer<'a> {
    dtype: DType,
    /// Invariant: aligned for `dtype`, a whole number of values.
    bytes: &'a mut [u8],
    resident: bool,
}

impl<'a> HostBuffer<'a> {
    /// A buffer over these values, whose dtype is the type's.
    pub fn new<T: Element>(values: &'a mut [T]) -> Self {
        HostBuffer { dtype: T::DTYPE, bytes: bytemuck::cast_slice_mut(values), resident: true }
    }

    /// The same over values that were allocated a moment ago and never written, as `vec![0.0; n]` gives them. The result
    /// is the same; a backend may write such memory in another way, as its pages are yet to be had from the system.
    pub fn fresh<T: Element>(values: &'a mut [T]) -> Self {
        HostBuffer { resident: false, ..HostBuffer::new(values) }
    }

    /// A buffer over bytes that are to hold values of `dtype`.
    ///
    /// # Errors
    /// They are not aligned for the dtype, or not a whole number of values.
    pub fn from_bytes(dtype: DType, bytes: &'a mut [u8]) -> Result<Self, RowsError> {
        // The same conditions as for rows of one value each.
        RowSlice::from_bytes(dtype, bytes.len() / dtype.size(), 1, bytes)?;
        Ok(HostBuffer { dtype, bytes, resident: true })
    }

    /// The same buffer, over memory that was allocated a moment ago and never written, as [`HostBuffer::fresh`] makes one.
    #[must_use]
    pub fn never_written(self) -> Self {
        HostBuffer { resident: false, ..self }
    }

    /// Whether its pages are in memory, as far as is known: all but [fresh](HostBuffer::fresh) buffers.
    pub fn is_resident(&self) -> bool {
        self.resident
    }

    /// The bytes of all values, in native order, aligned for the dtype.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl DeviceBuffer for HostBuffer<'_> {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn byte_len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Why bytes could not be had from a source.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source itself failed.
    #[error("reading {len} bytes at byte {offset} failed: {cause}")]
    Read {
        /// Where in the file.
        offset: u64,
        /// How many bytes were wanted.
        len: u64,
        /// What the source said.
        cause: Arc<dyn StdError + Send + Sync>,
    },
    /// The file is shorter than it was when it was opened.
    #[error(
        "the file ended at byte {file_len} while bytes {offset}..{end} were read: it was cut after it was opened"
    )]
    Shrunk {
        /// Where the read began.
        offset: u64,
        /// Where it should have ended.
        end: u64,
        /// Where the file ends now.
        file_len: u64,
    },
    /// The bytes are not those that were written.
    #[error(
        "bytes {start}..{end} are damaged: their crc32 is {found:08x}, the file says {expected:08x}; restore the file \
         from a copy"
    )]
    Checksum {
        /// First byte of the damaged region.
        start: u64,
        /// End (exclusive) of the damaged region.
        end: u64,
        /// What the file says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// The bytes of a native block are not those that were written.
    #[error(
        "block {block} (rows {}..{} of the chunk, bytes {}) is damaged: its crc32c is {found:08x}, the file says \
         {expected:08x}; restore the file from a copy, or `cvc repair` saves the other rows",
        rows.start, rows.end, list(ranges)
    )]
    Block {
        /// Which block of the chunk.
        block: u32,
        /// The rows in it, counted from the start of the chunk.
        rows: Range<u32>,
        /// Its bytes, as ranges of the file.
        ranges: Vec<Range<u64>>,
        /// What the file says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
}

fn list(ranges: &[Range<u64>]) -> String {
    let ranges: Vec<String> = ranges.iter().map(|range| format!("{}..{}", range.start, range.end)).collect();
    ranges.join(" and ")
}

/// Why a batch could not be decoded.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes of a chunk could not be had.
    #[error("{chunk}: {error}")]
    Source {
        /// Which chunk.
        chunk: ChunkId,
        /// Why.
        #[source]
        error: SourceError,
    },
    /// The bytes of a chunk make no sense.
    #[error("{chunk}: {error}")]
    Payload {
        /// Which chunk.
        chunk: ChunkId,
        /// What is wrong inside.
        #[source]
        error: PayloadError,
    },
    /// This device cannot run a plan.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The buffer is not the destination of the batch.
    #[error(
        "the destination holds {bytes} bytes of {dtype}, but the rows need {expected_bytes} bytes of {expected_dtype}"
    )]
    Buffer {
        /// Bytes it has.
        bytes: u64,
        /// Dtype it has.
        dtype: DType,
        /// Bytes it needs.
        expected_bytes: u64,
        /// Dtype it needs.
        expected_dtype: DType,
    },
    /// The device failed.
    #[error("{device} failed: {problem}")]
    Device {
        /// Which device.
        device: DeviceKind,
        /// What it said, and what to do.
        problem: String,
    },
}

impl DecodeError {
    /// Checks that `dst` is the destination `batch` was made for, as every backend must first.
    ///
    /// # Errors
    /// [`DecodeError::Buffer`] with both sizes.
    pub fn check_buffer(batch: &Batch<'_>, dst: &impl DeviceBuffer) -> Result<(), DecodeError> {
        DecodeError::check_destination(dst, batch.out(), batch.out_len().unwrap_or(u64::MAX))
    }

    /// Checks that `dst` holds exactly so many bytes of values of this dtype.
    ///
    /// # Errors
    /// [`DecodeError::Buffer`] with both sizes.
    pub fn check_destination(
        dst: &impl DeviceBuffer,
        expected_dtype: DType,
        expected_bytes: u64,
    ) -> Result<(), DecodeError> {
        let (bytes, dtype) = (dst.byte_len(), dst.dtype());
        if bytes == expected_bytes && dtype == expected_dtype {
            return Ok(());
        }
        Err(DecodeError::Buffer { bytes, dtype, expected_bytes, expected_dtype })
    }
}

/// A plan that a backend cannot run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{device} cannot run {step}: {reason}; choose another device")]
#[non_exhaustive]
pub struct Unsupported {
    /// Which backend.
    pub device: DeviceKind,
    /// Which step of the plan.
    pub step: String,
    /// Why not.
    pub reason: String,
}

impl Unsupported {
    /// `device` cannot run `step`, for this reason.
    pub fn new(device: DeviceKind, step: impl Into<String>, reason: impl Into<String>) -> Self {
        Unsupported { device, step: step.into(), reason: reason.into() }
    }
}
