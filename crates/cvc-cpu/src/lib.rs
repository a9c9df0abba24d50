//! The CPU backend: every op in the instructions that this processor has.
//!
//! Most programs want the `cvc` crate, which chooses a device and opens files. This one is for those who
//! bring their own [`Payloads`](cvc_codec::Payloads).
//!
//! ```
//! use cvc_codec::{
//!     Backend, Batch, ChunkId, ChunkShape, DType, DecodePlan, HostBuffer, Job, Load, Payloads, SourceError,
//! };
//! use cvc_cpu::CpuBackend;
//!
//! /// One chunk: the codes 0 to 5.
//! struct InMemory;
//! impl Payloads for InMemory {
//!     fn read(&self, _: ChunkId, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
//!         (offset as u8..).zip(into).for_each(|(code, byte)| *byte = code);
//!         Ok(())
//!     }
//!     fn borrow(&self, _: ChunkId, _: std::ops::Range<u64>) -> Result<Option<&[u8]>, SourceError> {
//!         Ok(None)
//!     }
//! }
//!
//! let load = Load::AffineU8 { scale: 0.5, min: -1.0 };
//! let plan = DecodePlan::new(ChunkShape { rows: 3, dim: 2 }, load, DType::F32, 6)?;
//! let last_two_rows = Job { plan: &plan, chunk: ChunkId(0), rows: 1..3, dst_row: 0 };
//! let batch = Batch::new(vec![last_two_rows], 2, 2, DType::F32)?;
//!
//! let backend = CpuBackend::new();
//! let mut rows = [0f32; 4];
//! backend.decode(&batch, &InMemory, &mut HostBuffer::new(&mut rows))?;
//! assert_eq!(rows, [0.0, 0.5, 1.0, 1.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//!
//! ```text
//! Batch ─▶ runs of rows, each with its own part of the destination ─▶ every core takes runs:
//!            borrow the encoded bytes, or read them into a scratch of this thread
//!            decode them while they are in the cache: ops, at the Level that was detected
//! ```
//!
//! - [`CpuBackend`] owns that pipeline. It is safe code.
//! - [`Level`] says which instructions may be used; holding one of its tokens is the proof.
//! - [`ops`] has one file for each op, named as the reference in [`cvc_codec::ops`] whose bits it gives.
//!   `unsafe` occurs there and nowhere else.
//!
//! # Features
//!
//! - `rayon` (off by default): runs are spread over the threads of the rayon pool. Without it they are
//!   decoded one after another on the caller's thread, with the same code and the same result.

mod backend;
mod level;
pub mod ops;

pub use backend::CpuBackend;
pub use level::Level;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub use level::Neon;
#[cfg(target_arch = "x86_64")]
pub use level::{Avx2, Avx512};
