//! Bytes to checked structures, and back, for every layout that begins with `CVCF`.
//!
//! Most programs want the `cvc` crate: it opens files, checks payloads and decodes rows. This crate is
//! for those who bring their own I/O. It never reads, writes, allocates from an unearned number or
//! decodes a value; it says which bytes it needs next and what they mean.
//!
//! ```text
//! file bytes ─▶ Opening (which bytes next?) ─▶ FileIndex ─▶ ArrayIndex ─▶ ChunkEntry
//! ```
//!
//! An [`index::ChunkEntry`] exists only if its bytes lie inside the file, so whoever holds one may read it.
//! The layouts themselves are specified in `docs/FORMAT.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod checksum;
pub mod cvcf;
pub mod dtype;
pub mod error;
mod fields;
pub mod index;
pub mod json;
pub mod limits;
pub mod native;
mod opening;
pub mod parts;

pub use dtype::{ArrayDType, DType};
pub use error::FormatError;
pub use index::{
    AffineParams, ArrayIndex, BlockedChunk, ChunkEntry, ChunkId, FileIndex, Layout, Loss, Params, Section,
    Stored,
};
pub use json::Json;
pub use limits::Limits;
pub use opening::{Opening, Step};
pub use parts::Parts;
