//! The CPU backend: every op in the instructions that this processor has.
//!
//! Most programs want the `cvc` crate, which chooses a device and opens files. This one is for those who
//! bring their own [`Payloads`](cvc_codec::Payloads).
//!
//! ```
//! use std::sync::Arc;
//!
//! use cvc_codec::{
//!     Affine, Backend, Batch, BlockRun, ChunkId, ChunkShape, DType, DecodePlan, HostBuffer, Job, Load, Parts,
//!     Payloads, SourceError, Stream,
//! };
//! use cvc_cpu::CpuBackend;
//!
//! /// One chunk: the codes 0 to 5.
//! struct InMemory;
//! impl Payloads for InMemory {
//!     fn read(&self, _: &BlockRun<'_>, _: &mut [u8]) -> Result<(), SourceError> {
//!         unreachable!("all of it can be borrowed")
//!     }
//!     fn borrow(&self, _: &BlockRun<'_>) -> Result<Option<&[u8]>, SourceError> {
//!         Ok(Some(&[0, 1, 2, 3, 4, 5]))
//!     }
//! }
//!
//! let load = Load::AffineU8(Affine::Chunk { scale: 0.5, min: -1.0 });
//! let parts = Arc::new(Parts::packed(3, 2));
//! let plan = DecodePlan::new(ChunkShape { rows: 3, dim: 2 }, load, Stream::Stored, DType::F32, &parts)?;
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
//! Batch ─▶ runs of blocks, each with its own parts of the destination ─▶ every core takes runs:
//!            borrow the encoded bytes, or read them into a scratch of this thread
//!            inflate the lanes of the run into another
//!            decode the rows wanted while they are in the cache: ops, at the Level that was detected
//! ```
//!
//! - [`CpuBackend`] owns that pipeline. It is safe code.
//! - [`Level`] says which instructions may be used; holding one of its tokens is the proof.
//! - [`ops`] has one file for each op, named as the reference in [`cvc_codec::ops`] whose bits it gives.
//! - [`CpuLoops`] are the loops of encoding, at a level.
//!
//! # Features
//!
//! - `rayon` (off by default): runs are spread over the threads of the rayon pool. Without it they are
//!   decoded one after another on the caller's thread, with the same code and the same result.

mod backend;
mod fetch;
mod level;
mod loops;
pub mod ops;
mod scan;

pub use backend::CpuBackend;
pub use level::Level;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub use level::Neon;
#[cfg(target_arch = "x86_64")]
pub use level::{Avx2, Avx512};
pub use loops::CpuLoops;
pub use ops::stores::Stores;
