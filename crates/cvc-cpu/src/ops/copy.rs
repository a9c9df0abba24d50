//! `copy`: stored little-endian values become native ones.
//!
//! There is nothing to gain over the reference: its loop is `memcpy` already (and on big-endian processors
//! an exchange of bytes that the compiler vectorises).

use cvc_codec::ops;

/// Copies values of `size` bytes from `src`, little-endian, to `dst`, native.
///
/// # Panics
/// The slices differ in length.
pub fn copy(src: &[u8], size: usize, dst: &mut [u8]) {
    ops::copy::copy(src, size, dst);
}
