//! `widen_bf16`: little-endian bfloat16 to f32, which has the same upper half. Every bit pattern keeps its bits.

/// The f32 of a bfloat16.
#[inline]
pub fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Decodes halves.
///
/// # Panics
/// `src` is not two bytes for each value of `dst`.
pub fn widen_bf16(src: &[u8], dst: &mut [f32]) {
    let (halves, rest) = src.as_chunks();
    assert!(rest.is_empty() && halves.len() == dst.len());
    for (half, value) in halves.iter().zip(dst) {
        *value = widen(u16::from_le_bytes(*half));
    }
}
