//! One suite for every backend, and the golden files. Unpublished: it is for the tests of this workspace.
//!
//! A backend's whole test file is one line for each of its forms:
//!
//! ```
//! # use cvc_codec::ReferenceBackend;
//! # use cvc_conformance::Host;
//! cvc_conformance::conformance!(Some(Host(ReferenceBackend::default())));
//! ```
//!
//! - [`suite`] has the cases, each a promise that every backend keeps, compared bit for bit with
//!   [`cvc_codec::ReferenceBackend`]; [`conformance!`] makes a `#[test]` of each.
//! - [`scan`] has those of backends that search; [`scan_conformance!`] makes tests of them.
//! - [`subject`] is what a backend's test must provide: [`Subject`], ready for backends that write to the
//!   caller's memory ([`Host`]) and for those that write to memory of a device ([`Device`]).
//! - [`payloads`] is a source in memory that can be told to refuse borrowing or to fail; [`native`] makes chunks with
//!   fields, lanes and blocks for it.
//! - [`require`] makes an absent device a failure where it should be there.
//! - [`golden`] reads the manifests and arrays of `data/golden`; [`npy`] the arrays themselves.
#![forbid(unsafe_code)]

mod chunks;
pub mod golden;
pub mod native;
pub mod npy;
pub mod payloads;
pub mod require;
pub mod scan;
pub mod subject;
pub mod suite;

pub use native::native_chunk;
pub use payloads::MemoryPayloads;
pub use subject::{Destination, Device, Host, Subject};
