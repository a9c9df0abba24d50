//! `copy`: stored little-endian values become native ones.

/// Copies values of `size` bytes from `src`, little-endian, to `dst`, native.
///
/// # Panics
/// The slices differ in length.
pub fn copy(src: &[u8], size: usize, dst: &mut [u8]) {
    dst.copy_from_slice(src);
    if cfg!(target_endian = "big") && size > 1 {
        for value in dst.chunks_exact_mut(size) {
            value.reverse();
        }
    }
}
