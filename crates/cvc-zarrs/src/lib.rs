//! The codec `cvc` of Zarr v3 for the crate [`zarrs`](https://docs.rs/zarrs): each chunk of an array is a native `.cvc` file, of which
//! only the blocks wanted are read and decoded, and every byte is under a checksum.
//!
//! A program that has this crate linked reads such arrays: zarrs finds the codec by its name. To write them:
//!
//! ```
//! use std::sync::Arc;
//!
//! use cvc_zarrs::CvcCodec;
//! use zarrs::array::{ArrayBuilder, ArraySubset, data_type};
//! use zarrs::storage::store::MemoryStore;
//!
//! let store = Arc::new(MemoryStore::new());
//! let codec = Arc::new(CvcCodec::new().codec("int8")?);
//! let array = ArrayBuilder::new(vec![1000, 64], vec![500, 64], data_type::float32(), 0.0f32)
//!     .array_to_bytes_codec(codec)
//!     .build(store, "/vectors")?;
//! array.store_metadata()?;
//! let values: Vec<f32> = (0..64_000u16).map(|n| f32::from(n % 997) / 997.0).collect();
//! array.store_array_subset(&array.subset_all(), &values)?;
//!
//! // Of the two chunks only the blocks of these rows.
//! let rows: Vec<f32> = array.retrieve_array_subset(&ArraySubset::new_with_ranges(&[498..502, 0..64]))?;
//! assert!((rows[0] - values[498 * 64]).abs() < 0.5 / 255.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Compressors behind it only cost time, and partial reads: what is in a chunk is compressed already. Within shards a reader fetches
//! only the blocks it needs, too. What a chunk is and which options there are is said in `docs/zarr.md`; chunks are those that the
//! Python package writes, and it reads these.
//!
//! ```text
//!  ArrayBytes ─▶ rows x the rest (shape) ─▶ cvc::Writer ─▶ a chunk
//!  a chunk ─▶ Chunk: a cvc::ReadAt of ranges ─▶ cvc::Reader ─▶ rows that are touched ─▶ the elements wanted
//! ```
#![deny(unsafe_code)]

mod chunk;
mod codec;
mod partial;
mod shape;

pub use codec::CvcCodec;
