//! Codecs, the plans they lower to, the interface of a backend, and the scalar reference of every step.
//!
//! Most programs want the `cvc` crate. This one is for writers of backends and codecs.
//!
//! ```text
//! ChunkEntry ─▶ Codec::plan ─▶ DecodePlan ─┐
//!                                          ├─▶ Batch ─▶ Backend::decode ─▶ the caller's buffer
//! rows wanted ─────────────────▶ Job ──────┘
//! ```
//!
//! - A **codec** ([`Codec`]) is what a file names. It turns rows into a payload, and a payload into a plan.
//! - An **op** ([`ops`]) is one step that any backend can run; [`Load`] lists them. Each has a scalar
//!   reference here whose bits are the truth for every backend; `docs/NUMERICS.md` states the arithmetic.
//! - A **backend** ([`Backend`]) runs plans on a device. It pulls encoded bytes from [`Payloads`] and never
//!   sees a file offset.
//!
//! The arithmetic trusts its sizes, because the types prove them: a [`DecodePlan`] exists only if its
//! parameters make sense for its payload, a [`Batch`] only if its jobs tile the destination.
#![forbid(unsafe_code)]

pub mod backend;
pub mod codec;
pub mod codecs;
pub mod filter;
pub mod first_error;
pub mod job;
pub mod loops;
pub mod loss;
pub mod ops;
pub mod plan;
pub mod quantise;
pub mod reference;
pub mod rotation;
pub mod rows;
pub mod scan;
pub mod sources;
pub mod stream;
pub mod strings;
mod terms;

pub use backend::{
    Backend, BlockRun, DecodeError, DeviceBuffer, DeviceInfo, DeviceKind, DeviceMemory, HostBuffer, Payloads,
    SourceError, Unsupported,
};
pub use codec::{
    CODECS, Codec, CodecError, EncodeOptions, EncodedChunk, EncodedField, EncodedLane, NonFinite, Scope,
    StoredChunk, find,
};
pub use cvc_format::{AffineParams, ChunkId, DType, Params, Parts, checksum};
pub use first_error::FirstError;
pub use job::{Batch, BatchError, Job};
pub use loops::{Loops, Plain};
pub use plan::{Affine, ChunkShape, DecodePlan, Load, PlanError, Stream};
pub use reference::ReferenceBackend;
pub use rotation::Rotation;
pub use rows::{Element, RowSlice, RowsError, Values};
pub use scan::{Found, Hit, Metric, Queries, QueryError, Scan, ScanBatch, ScanJob, TopK};
pub use sources::{RunBytes, Sources};
pub use stream::{Deflater, Inflater, Packing};
pub use strings::Strings;
pub use terms::{TERMS, TermsCache, TermsKey};
