//! `widen_f16`: binary16 to f32, exactly.
//!
//! With integers only: neither the conversion of the processor (F16C quiets signalling NaNs) nor that of the
//! `half` crate keeps the payload of every NaN, and upstream's does.

/// The f32 that the binary16 `half` widens to: every value exactly, NaN payloads in the upper bits, not quieted.
#[inline]
pub fn widen(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10 & 0x1f);
    let fraction = u32::from(half & 0x3ff);
    let magnitude = match exponent {
        // Zero, or fraction * 2^-24: the leading one moves to the implicit place.
        0 if fraction == 0 => 0,
        0 => {
            let shift = fraction.leading_zeros() - 21;
            (127 - 14 - shift) << 23 | (fraction << shift & 0x3ff) << 13
        }
        // Infinity and NaN.
        31 => 0xff << 23 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// Widens little-endian halves.
///
/// # Panics
/// `src` is not two bytes for each value of `dst`.
pub fn widen_f16(src: &[u8], dst: &mut [f32]) {
    assert_eq!(src.len(), dst.len() * 2);
    for (half, value) in src.as_chunks().0.iter().zip(dst) {
        *value = widen(u16::from_le_bytes(*half));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_agrees_with_the_half_crate() {
        for bits in 0..=u16::MAX {
            let theirs = half::f16::from_bits(bits).to_f32();
            if theirs.is_nan() {
                // Sign, exponent and the ten payload bits are kept in place.
                let expected = u32::from(bits & 0x8000) << 16 | 0x7f80_0000 | u32::from(bits & 0x3ff) << 13;
                assert_eq!(widen(bits).to_bits(), expected, "{bits:04x}");
            } else {
                assert_eq!(widen(bits).to_bits(), theirs.to_bits(), "{bits:04x}");
            }
        }
    }
}
