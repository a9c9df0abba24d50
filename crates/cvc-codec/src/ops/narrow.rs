//! `narrow`: to binary16 and bfloat16, to nearest, ties to even.
//!
//! NaNs keep their sign and the upper bits of their payload and are never quieted; where those bits are all
//! zero the lowest is set, so that a NaN stays one. That is what NumPy does and what upstream's files show.

use half::{bf16, f16};

/// Rounds a magnitude to `16 - ..` bits: drops `drop` bits of `bits`, to nearest, ties to even.
#[inline]
fn round_shift(bits: u64, drop: u32) -> u64 {
    let half = 1 << (drop - 1);
    let odd = bits >> drop & 1;
    (bits + (half - 1) + odd) >> drop
}

/// `value` rounded once to binary16; magnitudes of 65,520 and more become infinity.
///
/// ```text
/// f16_from_parts(negative, magnitude, 23, 127)
/// ```
///
/// but without branches, each case worked out and then one chosen, so that loops over it can be vectorised: encoding to
/// fp16 went from 2.6 to 6.3 GB/s of f32 (`tests/rates.rs`, one core of an AMD EPYC of the Zen 5 class, November 2026).
/// Subnormal halves are multiples of 2^-24, which is the distance of f32 numbers from 0.5 on: the addition rounds.
#[inline]
pub fn f16_from_f32(value: f32) -> f16 {
    /// The f32 bits of 2^-14, the least normal half; of 65,520; and how far exponents are apart.
    const NORMAL: u32 = 0x3880_0000;
    const OVERFLOW: u32 = 0x477f_f000;
    const REBIAS: u32 = (127 - 15) << 23;
    let sign = value.to_bits() >> 16 & 0x8000;
    let magnitude = value.to_bits() & 0x7fff_ffff;
    // Rounding up may carry into the exponent, which is right. Wraps where another case is chosen.
    let normal = magnitude.wrapping_sub(REBIAS).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let payload = magnitude >> 13 & 0x3ff;
    let nan = 0x7c00 | if payload == 0 { 1 } else { payload };
    let mut half = if magnitude < NORMAL { subnormal } else { normal };
    half = if magnitude >= OVERFLOW { 0x7c00 } else { half };
    half = if magnitude > f32::INFINITY.to_bits() { nan } else { half };
    #[expect(clippy::cast_possible_truncation, reason = "each case has at most fifteen bits")]
    let bits = (sign | half) as u16;
    f16::from_bits(bits)
}

/// `value` rounded once to binary16, not by way of f32 (which could round twice).
#[inline]
pub fn f16_from_f64(value: f64) -> f16 {
    let bits = value.to_bits();
    f16_from_parts(bits >> 63 != 0, bits & 0x7fff_ffff_ffff_ffff, 52, 1023)
}

/// Binary16 from sign and magnitude of a wider IEEE format with `width` fraction bits and this exponent bias.
#[inline]
fn f16_from_parts(negative: bool, magnitude: u64, width: u32, bias: u64) -> f16 {
    let sign = u16::from(negative) << 15;
    let infinity = (2 * bias + 1) << width;
    let exponent = magnitude >> width;
    let narrowed = if magnitude > infinity {
        // NaN: the upper ten payload bits, at least one of them set.
        0x7c00 | ((magnitude >> (width - 10)) & 0x3ff).max(1)
    } else if exponent >= bias + 16 {
        0x7c00
    } else if exponent >= bias - 14 {
        // Normal. Rounding up may carry into the exponent, up to infinity, which is right.
        round_shift(magnitude - ((bias - 15) << width), width - 10)
    } else if exponent >= bias - 25 {
        // Subnormal: count the value in units of 2^-24.
        let fraction = magnitude & ((1 << width) - 1) | 1 << width;
        let drop = u32::try_from(bias + u64::from(width) - 24 - exponent).expect("at most 53");
        round_shift(fraction, drop)
    } else {
        // Less than half of the least subnormal.
        0
    };
    f16::from_bits(sign | u16::try_from(narrowed).expect("fits after rounding"))
}

/// `value` rounded once to bfloat16.
#[inline]
pub fn bf16_from_f32(value: f32) -> bf16 {
    let bits = value.to_bits();
    let upper = if value.is_nan() {
        let upper = bits >> 16;
        if upper & 0x7f == 0 { upper | 1 } else { upper }
    } else {
        (bits + 0x7fff + (bits >> 16 & 1)) >> 16
    };
    bf16::from_bits(u16::try_from(upper).expect("16 bits"))
}

/// `value` rounded once to bfloat16, not by way of the nearest f32 (which could round twice).
#[inline]
pub fn bf16_from_f64(value: f64) -> bf16 {
    if value.is_nan() {
        // The upper seven payload bits, at least one of them set; the processor's conversion would quiet it.
        let [low, high] = [(value.to_bits() >> 45 & 0x7f).max(1), value.to_bits() >> 63 << 15];
        return bf16::from_bits(u16::try_from(high | 0x7f80 | low).expect("16 bits"));
    }
    // By way of an f32 that is rounded to odd: cut off, and its last bit set if anything was lost. It then lies on the same
    // side of every midpoint of two bfloat16 numbers as `value`.
    let nearest = round_f32(value);
    let odd = if f64::from(nearest) == value {
        nearest
    } else {
        let beyond = f64::from(nearest).abs() > value.abs();
        f32::from_bits((nearest.to_bits() - u32::from(beyond)) | 1)
    };
    bf16_from_f32(odd)
}

/// `value` rounded once to f32, as the processor's conversion does.
#[inline]
pub fn round_f32(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
    let rounded = value as f32;
    rounded
}

/// Narrows values to binary16.
///
/// # Panics
/// The slices differ in length.
pub fn narrow_f16(src: &[f32], dst: &mut [f16]) {
    assert_eq!(src.len(), dst.len());
    for (value, narrowed) in src.iter().zip(dst) {
        *narrowed = f16_from_f32(*value);
    }
}

/// Narrows values to bfloat16.
///
/// # Panics
/// The slices differ in length.
pub fn narrow_bf16(src: &[f32], dst: &mut [bf16]) {
    assert_eq!(src.len(), dst.len());
    for (value, narrowed) in src.iter().zip(dst) {
        *narrowed = bf16_from_f32(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::widen_f16::widen;
    use super::*;

    /// The obvious version: the nearest of all halves, by exact comparison in f64, ties to the even one.
    fn nearest_f16(value: f64) -> u16 {
        let magnitude = value.abs();
        // Halves of growing magnitude; 0x7c00 stands for 65,536, where the next half would be.
        let of = |bits: u16| if bits == 0x7c00 { 65536.0 } else { f64::from(widen(bits)) };
        let above = (0..=0x7c00u16).collect::<Vec<_>>().partition_point(|bits| of(*bits) < magnitude);
        let above = u16::try_from(above).unwrap().min(0x7c00);
        let below = above.saturating_sub(1);
        let (up, down) = (of(above) - magnitude, magnitude - of(below));
        let bits =
            if magnitude == of(above) || up < down || (up == down && above % 2 == 0) { above } else { below };
        bits | u16::from(value.is_sign_negative()) << 15
    }

    #[test]
    fn every_half_and_every_midpoint_rounds_to_nearest_even() {
        for bits in 0..0x7c00u16 {
            let low = f64::from(widen(bits));
            let high = if bits == 0x7bff { 65536.0 } else { f64::from(widen(bits + 1)) };
            let middle = (low + high) / 2.0;
            for value in [low, middle, middle.next_down(), middle.next_up(), -middle, -low] {
                assert_eq!(f16_from_f64(value).to_bits(), nearest_f16(value), "{value:e}");
            }
            // Every midpoint of two halves is an f32, and so are its neighbours.
            let middle = round_f32(middle);
            for value in [middle, middle.next_down(), middle.next_up()] {
                assert_eq!(f16_from_f32(value).to_bits(), nearest_f16(f64::from(value)), "{value:e}");
            }
        }
    }

    #[test]
    fn both_ways_to_binary16_agree() {
        let agree = |bits: u32| {
            let value = f32::from_bits(bits);
            let simple = f16_from_parts(bits >> 31 != 0, u64::from(bits & 0x7fff_ffff), 23, 127);
            assert_eq!(f16_from_f32(value).to_bits(), simple.to_bits(), "{bits:08x}");
            if !value.is_nan() {
                assert_eq!(f16_from_f64(f64::from(value)).to_bits(), simple.to_bits(), "{bits:08x}");
            }
        };
        // Every sign, exponent and upper fraction, with the lower ones that rounding tells apart; then any bits.
        for upper in 0..=u32::from(u16::MAX) {
            for lower in [0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0xffff] {
                agree(upper << 16 | lower);
            }
        }
        let mut bits = 0u32;
        for _ in 0..1_000_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            agree(bits);
        }
    }

    #[test]
    fn nans_keep_sign_and_payload() {
        for (bits, expected) in
            [(0x7f80_0001u32, 0x7c01), (0x7fa0_0000, 0x7d00), (0x7fc0_0001, 0x7e00), (0xffc0_0000, 0xfe00)]
        {
            assert_eq!(f16_from_f32(f32::from_bits(bits)).to_bits(), expected, "{bits:08x}");
        }
        for (bits, expected) in [(0x7f80_0001u32, 0x7f81), (0x7fa0_0000, 0x7fa0), (0xffc0_1234, 0xffc0)] {
            assert_eq!(bf16_from_f32(f32::from_bits(bits)).to_bits(), expected, "{bits:08x}");
        }
        assert_eq!(f16_from_f64(f64::from_bits(0x7ff0_0000_0000_0001)).to_bits(), 0x7c01);
    }

    #[test]
    fn infinities_and_overflow() {
        assert_eq!(f16_from_f32(65519.996).to_bits(), 0x7bff);
        assert_eq!(f16_from_f32(65520.0).to_bits(), 0x7c00);
        assert_eq!(f16_from_f32(f32::NEG_INFINITY).to_bits(), 0xfc00);
        assert_eq!(f16_from_f64(1e300).to_bits(), 0x7c00);
        assert_eq!(f16_from_f64(-1e-300).to_bits(), 0x8000);
        assert_eq!(bf16_from_f32(f32::MAX).to_bits(), 0x7f80);
        assert_eq!(bf16_from_f32(f32::INFINITY).to_bits(), 0x7f80);
    }

    #[test]
    fn every_bf16_midpoint_rounds_to_nearest_even_from_f64() {
        for bits in 0..0x7f80u16 {
            let value = |bits: u16| match bits {
                0x7f80 => 2f64.powi(128),
                _ => f64::from(f32::from_bits(u32::from(bits) << 16)),
            };
            let (low, high) = (value(bits), value(bits + 1));
            let middle = (low + high) / 2.0;
            let even = bits + bits % 2;
            for (value, expected) in
                [(low, bits), (middle.next_down(), bits), (middle, even), (middle.next_up(), bits + 1)]
            {
                assert_eq!(bf16_from_f64(value).to_bits(), expected, "{value:e}");
                assert_eq!(bf16_from_f64(-value).to_bits(), expected | 0x8000, "-{value:e}");
            }
        }
        for (bits, expected) in [
            (0x7ff0_0000_0000_0001u64, 0x7f81),
            (0x7ff4_0000_0000_0000, 0x7fa0),
            (0xfff8_0000_0000_1234, 0xffc0),
            (0x7ff0_0000_0000_0000, 0x7f80),
        ] {
            assert_eq!(bf16_from_f64(f64::from_bits(bits)).to_bits(), expected, "{bits:016x}");
        }
        assert_eq!(bf16_from_f64(1e300).to_bits(), 0x7f80);
        assert_eq!(bf16_from_f64(-1e-300).to_bits(), 0x8000);
    }

    #[test]
    fn bf16_agrees_with_the_half_crate() {
        let mut bits = 0u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            if !value.is_nan() {
                assert_eq!(bf16_from_f32(value), bf16::from_f32(value), "{bits:08x}");
            }
        }
    }
}
