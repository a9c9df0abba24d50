//! A stand-in for NVIDIA's driver library, so that the CUDA backend can be tested where there is no card. Unpublished.
//!
//! It is built as a shared library that has the calls the backend makes. Loaded in place of `libcuda`, it runs the very PTX
//! that ships in `cvc-cuda`, with an interpreter, against memory of its own.
//!
//! # What it proves, and what not
//!
//! | proved | not proved |
//! |---|---|
//! | the arithmetic of the committed PTX, bit for bit | what a driver's compiler makes of it |
//! | that every access is inside an allocation and aligned | speed, coalescing, occupancy |
//! | arguments, launch geometry, loading and unloading | the memory model of a real card |
//! | the order of work on streams and events | what NVIDIA's driver does otherwise |
//! | that all threads of a block come to its barriers, and most that are missing | every order in which threads of a block can run |
//!
//! - `memory.rs`: allocations that know their ends and when they may be used.
//! - `ptx.rs`: reads modules; refuses what it does not know, and floats that a compiler may contract.
//! - `machine.rs`: runs kernels.
//! - `driver.rs`: streams whose work waits until somebody waits for it, which is where mistakes of order show.
//! - `exports.rs`: the calls.
//!
//! The variable `CVC_STANDIN` says what it pretends to be: `version=11040` (an old driver), `ptx=78` (takes no newer PTX),
//! `init=100` (what `cuInit` answers: no device; 34 is the library of stubs), `devices=2`, `mib=64`; `early` (kernels run
//! as soon as they can, and not as late as they may); and mutants: `wrong_stream`, `no_waits`, `no_event_sync`, `fault_at=N`.
//!
//! A program that was not told about it is shown it by its name, in a folder of `LD_LIBRARY_PATH`: see
//! [`Standin::folder`].

mod driver;
#[cfg(unix)]
mod exports;
#[cfg(unix)]
mod handle;
mod machine;
mod memory;
mod ptx;

#[cfg(unix)]
pub use handle::{Counts, Standin};
