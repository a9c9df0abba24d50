//! `.cvc` files where they are: behind HTTP, in S3, in Google's and in Azure's stores.
//!
//! [`Remote`] is a source for [`Reader`](cvc::Reader), which asks it for no more than the index, the heads of the chunks and the blocks
//! that the rows wanted lie in, each set of them in one call. [`Upload`] is a sink for [`Writer`](cvc::Writer). Both are blocking; the
//! requests are made on a thread of their own. `docs/remote.md` says how many there are.
//!
//! ```no_run
//! use cvc::{ReadOptions, Reader};
//! use cvc_remote::{Remote, RemoteOptions};
//!
//! let mut options = RemoteOptions::default();
//! options.set("region", "eu-central-1")?;
//! let remote = Remote::open("s3://bucket/vectors.cvc", &options)?;
//! let counters = remote.counters();
//! let reader = Reader::new(Box::new(remote), ReadOptions::default())?;
//! let rows: Vec<f32> = reader.vectors()?.read(&[7, 100_000, 12][..])?;
//! assert_eq!(rows.len(), 3 * 768);
//! assert!(counters.stats().bytes_in < 1 << 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//! rows ─▶ Reader ─▶ ranges ─▶ Plan ─▶ requests, some at a time ─▶ Http (several ranges each), Object (one) ─▶ the same version? ─▶ bytes
//! ```
#![forbid(unsafe_code)]

mod counters;
mod error;
mod http;
pub mod manifest;
mod multipart;
mod options;
mod place;
mod plan;
mod remote;
mod runtime;
mod store;
mod upload;

pub use counters::{Counters, Stats};
pub use error::RemoteError;
pub use options::RemoteOptions;
pub use place::{is_url, shown};
pub use remote::Remote;
pub use upload::Upload;
