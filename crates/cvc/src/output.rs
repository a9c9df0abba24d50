//! Files for other programs to read.

pub mod npy;
#[cfg(feature = "input")]
pub mod npz;
