//! A compressed vector container: packs embeddings into a compact `.cvc` file, keeps what is known of them beside
//! them, and gives back exactly the rows asked for.
//!
//! This is the crate to depend on. [`mod@format`], [`codec`] and [`cpu`] are the crates behind it, for those who bring
//! their own I/O, write a codec or a backend.
//!
//! ```
//! use cvc::{Condition, DType, Json, Layout, Reader, RowSlice, WriteOptions, Writer};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("vectors.cvc");
//! // 1,000 rows of 64 values, the first 400 from one source.
//! let values: Vec<f32> = (0..64_000u16).map(|n| f32::from(n % 997) / 997.0 - 0.5).collect();
//! let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 64, "int8")?;
//! let mut writer = Writer::create(&path, options)?;
//! writer.write_vectors(RowSlice::new(&values, 64)?)?;
//! writer.add_section(0..400, Json::object([("source", Json::from("wiki"))]))?;
//! writer.finish()?;
//!
//! let reader = Reader::open(&path)?;
//! let vectors = reader.vectors()?;
//! let some: Vec<f32> = vectors.read(10..20)?;
//! let wiki: Vec<f32> = vectors.read(reader.find(&[Condition::new("source", "wiki")])?)?;
//! assert_eq!((some.len(), wiki.len()), (640, 25_600));
//! assert!((some[0] - values[640]).abs() <= 0.5 / 255.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//!  .npy, rows ─▶ Writer ─▶ chunks, encoded on all cores ─▶ temporary sibling ─▶ sync, rename ─▶ file.cvc
//!  file.cvc ─▶ Reader ─▶ Array ─▶ rows, sections ─▶ plan for each chunk ─▶ Backend ─▶ your buffer
//!      └ FileSource, Map, Vec<u8>, or any ReadAt            └ checked before it is decoded
//! ```
//!
//! # Features
//!
//! All are off by default; each adds something and changes nothing that was there.
//!
//! - `rayon`: checks, decodes and encodes on all cores.
//! - `mmap`: [`Reader::open_mapped`]. A file can change or shrink under a map: read what `io::mmap` says.
//! - `input`: opens `.npy`, `.npz`, `.fvecs`, `.bvecs` and `.ivecs` matrices for packing (with `mmap`).
//! - `cuda`: decodes on NVIDIA's cards, to memory of the device or of the host. Nothing of CUDA is needed to build it.
//! - `wgpu`: decodes on any GPU that Vulkan, Metal or DX12 reaches, to memory of the device or of the host.
//! - `s4`: reads and writes the bodies and sidecars that S4 keeps in object storage.
#![deny(unsafe_code)]

mod ahead;
pub mod aligned;
pub mod backends;
pub mod checks;
mod convert;
mod copy;
mod edit;
pub mod error;
pub mod huge_pages;
#[cfg(feature = "input")]
pub mod input;
mod inside;
pub mod io;
pub mod output;
mod par;
pub mod raw;
pub mod reader;
pub mod repair;
#[cfg(feature = "s4")]
pub mod s4;
pub mod salvage;
pub mod select;
pub mod verify;
pub mod writer;

pub use cvc_codec as codec;
pub use cvc_cpu as cpu;
#[cfg(feature = "cuda")]
pub use cvc_cuda as cuda;
pub use cvc_format as format;
#[cfg(feature = "wgpu")]
pub use cvc_wgpu as wgpu;

pub use cvc_codec::strings::Strings;
pub use cvc_codec::{
    Backend, DeviceInfo, DeviceKind, DeviceMemory, Element, HostBuffer, NonFinite, RowSlice, Scope,
};
pub use cvc_cpu::CpuBackend;
#[cfg(feature = "cuda")]
pub use cvc_cuda::{CudaBackend, CudaBuffer};
pub use cvc_format::{ArrayDType, DType, Json, Layout, Limits, Loss, Section};
#[cfg(feature = "wgpu")]
pub use cvc_wgpu::{WgpuBackend, WgpuBuffer};

pub use aligned::AlignedBytes;
pub use backends::{AnyBackend, Chosen, DeviceChoice, DeviceReport, choose, choose_for, devices};
pub use checks::Checksums;
pub use error::Error;
pub use io::ReadAt;
pub use io::atomic_file::Overwrite;
pub use raw::RawRows;
pub use reader::{Array, Chunk, ReadOptions, Reader};
pub use repair::{Lost, RepairReport};
pub use salvage::{OnDamage, Salvaged};
pub use select::{Condition, Rows};
pub use verify::{Coverage, Damage, VerifyReport};
pub use writer::{ArrayOptions, ArrayRows, WriteOptions, Writer, Written};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
