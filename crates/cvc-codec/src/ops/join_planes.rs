//! `join_planes`: byte p of every value stands in plane p; together they are the values.

/// Where the planes of one row are: `planes[p]` has byte p of each value, little end first.
///
/// Writes value i as the native form of the bytes `planes[0][i], planes[1][i], ...`.
///
/// # Panics
/// A plane is not one byte for each value of `dst`, which has `planes.len()` bytes for each.
pub fn join_planes(planes: &[&[u8]], dst: &mut [u8]) {
    let size = planes.len();
    for (p, plane) in planes.iter().enumerate() {
        assert_eq!(plane.len() * size, dst.len());
        let at = if cfg!(target_endian = "big") { size - 1 - p } else { p };
        for (byte, value) in plane.iter().zip(dst.chunks_exact_mut(size)) {
            value[at] = *byte;
        }
    }
}
