//! The CUDA backend: decodes on NVIDIA's cards.
//!
//! Most programs want the `cvc` crate, which chooses a device and opens files. This one is for those who bring their own
//! [`Payloads`](cvc_codec::Payloads), or who want results in device memory.
//!
//! ```no_run
//! use cvc_codec::{Backend, Batch, DType, DeviceMemory, Payloads};
//! use cvc_cuda::CudaBackend;
//!
//! fn decode(batch: &Batch<'_>, payloads: &dyn Payloads) -> Result<(), Box<dyn std::error::Error>> {
//!     let backend = CudaBackend::new(0)?;
//!     let mut rows = backend.allocate(batch.out(), batch.rows() * u64::from(batch.dim()))?;
//!     backend.decode(batch, payloads, &mut rows)?;
//!     // Ready for whoever takes a pointer to device memory.
//!     println!("{:#x} on device {}", rows.device_ptr(), backend.index());
//!     Ok(())
//! }
//! ```
//!
//! Nothing of CUDA is needed to build it: the driver's library is looked for when a program runs, and the kernels are
//! PTX inside the crate (`kernels/*.cu` of the repository are their sources). A run needs a driver of release 525 or newer.
//!
//! # How it works
//!
//! ```text
//! Batch ─▶ units of some megabytes ─▶ every worker, a thread with a stream and two slots, takes units:
//!            read and check the encoded bytes into the pinned memory of a slot; inflate lanes
//!            copy the slot to the device, as one ─▶ one launch for each op in it ─▶ the caller's device memory
//! ```
//!
//! While the copy and the kernels of one slot run, its worker reads into the other; while one worker's copy runs, another's
//! kernels do. A unit holds whatever is small: a thousand single rows are one copy and one launch.
//!
//! - [`CudaBackend`] owns that pipeline. `unit.rs` cuts batches, `stage.rs` lays out a slot; both are safe code.
//! - It searches, too ([`Scan`](cvc_codec::Scan)): `scan.rs` has bounds and the best of them worked out on the card, of rows that it decodes there.
//! - `slot.rs` owns pinned and device memory, `launch.rs` has the one place that launches kernels, `probe.rs` looks for
//!   the driver. `unsafe` occurs in those, in `driver.rs` (memory and copies) and where a caller gives memory
//!   of its own ([`CudaBuffer::from_raw`]).
//!
//! It has been run on a stand-in for the driver (`crates/cvc-cuda-standin`), not measured on hardware.

mod backend;
#[cfg(feature = "_bench")]
#[doc(hidden)]
pub mod bench;
mod buffer;
mod driver;
mod error;
mod kernels;
mod launch;
mod probe;
mod retrace;
mod scan;
mod slot;
mod stage;
mod unit;

pub use backend::CudaBackend;
pub use buffer::CudaBuffer;
pub use error::Unavailable;
pub use probe::{Card, cards, driver_version};
