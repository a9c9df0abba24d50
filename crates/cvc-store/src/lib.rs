//! A directory of named arrays that can be changed in place: append, replace, delete, compact, look back. A change is a
//! *commit*, which is there whole or not at all, whatever happens to the process or the machine.
//!
//! Use [`cvc`] for files that are written once; use this where rows change.
//!
//! ```
//! use cvc::{DType, RowSlice};
//! use cvc_store::{ArraySpec, Store};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("vectors.store");
//! let store = Store::create(&path)?;
//! let values: Vec<f32> = (0..4000u16).map(f32::from).collect();
//! store.save("vectors", &ArraySpec::values(DType::F32, &[4], "raw"), RowSlice::new(&values, 4)?)?;
//! store.append("vectors", RowSlice::new(&[1.0f32; 8], 4)?)?;
//! store.replace("vectors", &[0, -1], RowSlice::new(&[9.0f32; 8], 4)?)?;
//!
//! // A snapshot stays as it is.
//! let before = store.snapshot();
//! store.delete_rows("vectors", 10..20)?;
//! assert_eq!(before.array("vectors")?.shape(), [1002, 4]);
//! assert_eq!(store.array("vectors")?.shape(), [992, 4]);
//! assert_eq!(store.array("vectors")?.read::<f32>(&[0, -2])?, [9., 9., 9., 9., 1., 1., 1., 1.]);
//!
//! // Several changes, one commit.
//! let mut batch = store.batch()?;
//! batch.clone_array("vectors", "copy")?;
//! batch.delete("vectors")?;
//! batch.commit()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//!  changes ─▶ Editor ─▶ [Change] ─▶ record ─▶ one write to the journal ─▶ State, changed in place
//!                └ many rows ─▶ segment, a .cvc file ┘        └ sync, if it is Synced
//!  State ─▶ Snapshot ─▶ StoredArray ─▶ rows ─▶ runs of positions ─▶ segment, or the journal ─▶ your buffer
//! ```
//!
//! `docs/STORE.md` says what every byte of a store means, and what is left of it after a crash.
//!
//! # Features
//!
//! - `mmap` (on): reads segments through memory maps, which never change under a reader: a segment has its name only once it is whole, and
//!   is only ever removed.
//! - `rayon`: checks, decodes and encodes on all cores.
#![deny(unsafe_code)]

mod batch;
mod bits;
mod change;
mod compact;
mod edit;
pub mod error;
mod ids;
mod journal;
mod kept;
pub mod layer;
mod names;
mod numpack;
mod pack;
mod read;
mod runs;
mod segment;
mod select;
mod snapshot;
mod spec;
mod state;
mod store;
mod verify;
mod view;
mod wire;
mod writer;

pub use batch::Batch;
pub use compact::CompactReport;
pub use edit::RowSink;
pub use error::Error;
pub use pack::{PackageInfo, PackedArray, package_info};
pub use select::Selection;
pub use snapshot::{Snapshot, StoredArray};
pub use spec::ArraySpec;
pub use store::{Store, StoreOptions};
pub use verify::{StoreDamage, StoreReport};
pub use view::WritableView;
pub use writer::Durability;
