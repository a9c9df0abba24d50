//! Files for other programs to read.

pub mod npy;
