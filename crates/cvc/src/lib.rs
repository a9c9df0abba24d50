//! (docs follow)
#![deny(unsafe_code)]

pub mod aligned;
pub mod backends;
pub mod checks;
pub mod error;
#[cfg(feature = "input")]
pub mod input;
pub mod io;
pub mod output;
mod par;
pub mod reader;
pub mod select;
pub mod verify;
pub mod writer;

pub use cvc_codec as codec;
pub use cvc_cpu as cpu;
pub use cvc_format as format;

pub use cvc_codec::{Backend, DeviceInfo, DeviceKind, Element, HostBuffer, Rows as RowSlice};
pub use cvc_cpu::CpuBackend;
pub use cvc_format::{DType, Json, Layout, Limits, Section};

pub use aligned::AlignedBytes;
pub use backends::{AnyBackend, Chosen, DeviceChoice, DeviceReport, choose, devices};
pub use checks::Checksums;
pub use error::Error;
pub use io::ReadAt;
pub use io::atomic_file::Overwrite;
pub use reader::{Array, ReadOptions, Reader};
pub use select::{Condition, Rows};
pub use verify::{Coverage, Damage, VerifyReport};
pub use writer::{WriteOptions, Writer, Written};
