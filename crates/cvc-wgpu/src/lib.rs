//! The backend for any GPU that Vulkan, Metal or DX12 reaches: decodes with compute shaders, into memory of the device.
//!
//! Most programs want the `cvc` crate (feature `wgpu`), which chooses a device and opens files. This one is for those who
//! bring their own [`Payloads`](cvc_codec::Payloads), or whose own `wgpu` device the decoded rows shall be on.
//!
//! ```
//! use cvc_codec::{Backend, DType, DeviceMemory, HostBuffer};
//! use cvc_wgpu::{WgpuBackend, adapters};
//!
//! // Where there is no adapter, the error says what is missing.
//! let Ok(adapters) = adapters() else { return Ok(()) };
//! let backend = WgpuBackend::open(&adapters[0])?;
//! println!("decoding on {}", backend.device().name);
//!
//! // Six values on the device, there and back. `Backend::decode` fills such a buffer with rows.
//! let mut buffer = backend.allocate(DType::U8, 6)?;
//! backend.upload(&[0, 1, 2, 3, 4, 5], &mut buffer)?;
//! let mut values = [0u8; 6];
//! backend.download(&buffer, &mut HostBuffer::new(&mut values))?;
//! assert_eq!(values, [0, 1, 2, 3, 4, 5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//!
//! ```text
//! Batch ─▶ stages: consecutive rows of the destination, as many as fit a slot
//!            host: read blocks, inflate lanes, write what the op reads to the slot's mapped buffer
//!            device: copy it to the slot's other buffer, one dispatch, into the part of the destination that is the stage's
//! slots form a ring: the host fills the next one while the device works on those before it
//! ```
//!
//! - It searches, too ([`Scan`](cvc_codec::Scan)): bounds of rows and the best of them are worked out on the device, exact scores on the host.
//! - [`WgpuBackend`] owns that pipeline. [`WgpuBackend::from_device`] makes one of a device that the caller has.
//! - [`WgpuBuffer`] is where rows go. Its `wgpu::Buffer` can be bound to the caller's own shaders.
//! - `shaders` has a file for each op, named as the reference in [`cvc_codec::ops`] whose bits it gives.
//!   `cargo xtask shaders` makes them from the folder of that name in the repository.
//!
//! # Features
//!
//! - `rayon` (off by default): the host's part is done by the threads of the rayon pool, with the same result.
#![forbid(unsafe_code)]

mod adapter;
mod backend;
mod buffer;
mod gpu;
mod host;
mod ops;
mod pipelines;
mod ring;
mod scan;
mod shaders;
mod stages;

pub use adapter::{Adapter, NoAdapter, OpenError, adapters, may_have_gpu};
pub use backend::WgpuBackend;
pub use buffer::WgpuBuffer;
pub use wgpu;
