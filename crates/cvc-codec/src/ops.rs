//! The scalar reference of every op: the plain loops whose bits every backend must reproduce.
//!
//! These are kernels: they allocate nothing, know nothing of files, and trust the lengths they are given
//! (a slice too short panics). `docs/NUMERICS.md` states the arithmetic of each under its name.

pub mod affine_u8;
pub mod copy;
pub mod dict_planes;
pub mod join_planes;
pub mod lut_u8;
pub mod narrow;
pub mod rotated;
pub mod widen_bf16;
pub mod widen_f16;

pub use dict_planes::{DictPlanes, PayloadError};
