//! `rotated`: codes of few bits for the values of a rotated row, a scale for each row, a centre for each dim.

use crate::rotation::Rotation;

/// How many bits a code has, and which integer each stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotatedCodes {
    /// Four bits; value i is in the lower half of byte i / 2 of its row if i is even, else in the upper one.
    Int4,
    /// One bit: value i is bit i % 8, counted from the lowest, of byte i / 8 of its row.
    Bit1,
}

/// What the codes of four bits stand for: the 16 levels with which a normal distribution loses the least (J. Max, "Quantizing for
/// Minimum Distortion", IRE Transactions on Information Theory 6, 1960; S. P. Lloyd, "Least Squares Quantization in PCM", IEEE
/// Transactions on Information Theory 28, 1982), times [`INT4_UNIT`], rounded to integers.
pub const INT4_LEVELS: [i8; 16] = [-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127];

/// One standard deviation in the units of [`INT4_LEVELS`].
pub const INT4_UNIT: f64 = 46.48;

/// What the codes of one bit stand for.
pub const BIT1_LEVELS: [i8; 2] = [-1, 1];

impl RotatedCodes {
    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        match self {
            RotatedCodes::Int4 => 4,
            RotatedCodes::Bit1 => 1,
        }
    }

    /// What each code stands for.
    pub const fn table(self) -> &'static [i8] {
        match self {
            RotatedCodes::Int4 => &INT4_LEVELS,
            RotatedCodes::Bit1 => &BIT1_LEVELS,
        }
    }

    /// Bytes of a row of so many codes. What is left of the last byte is zero when it is written, and not looked at.
    pub const fn row_len(self, dim: u64) -> u64 {
        (dim * self.bits() as u64).div_ceil(8)
    }

    /// The levels of a row of codes.
    ///
    /// # Panics
    /// `src` is shorter than the codes of `levels`.
    #[inline(always)]
    pub fn levels(self, src: &[u8], levels: &mut [i32]) {
        let (per_byte, mask) = (8 / self.bits() as usize, (1 << self.bits()) - 1);
        for (levels, byte) in levels.chunks_mut(per_byte).zip(src.chunks(1)) {
            for (at, level) in (0..).zip(levels) {
                *level = i32::from(self.table()[usize::from(byte[0] >> (at * self.bits()) & mask)]);
            }
        }
    }

    /// The name, as that of the codec.
    pub const fn name(self) -> &'static str {
        match self {
            RotatedCodes::Int4 => "int4",
            RotatedCodes::Bit1 => "bit1",
        }
    }
}

/// Decodes one row, or the first values of it: `f32(f32(t[i] * scale) + centre[i])`, two roundings, never fused, where `t` is what
/// [`Rotation::unrotate_levels`] makes of its levels. `scratch` has room for two rows and is written over.
///
/// # Panics
/// `src` has too few codes, `dst` has more values than a row, or `scratch` is not two rows long.
#[inline(always)]
pub fn rotated(
    codes: RotatedCodes,
    rotation: &Rotation,
    src: &[u8],
    scale: f32,
    centre: &[f32],
    scratch: &mut [i32],
    dst: &mut [f32],
) {
    assert!(src.len() as u64 >= codes.row_len(rotation.dim() as u64), "the codes of a row");
    assert!(dst.len() <= rotation.dim() && centre.len() >= dst.len(), "values of a row");
    let (levels, scratch) = scratch.split_at_mut(rotation.dim());
    codes.levels(src, levels);
    rotation.unrotate_levels(levels, scratch);
    for ((value, t), centre) in dst.iter_mut().zip(levels).zip(centre) {
        // Below 2^24: exact. Rust never contracts the two operations into a fused multiply-add.
        *value = *t as f32 * scale + centre;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_where_the_page_says() {
        let mut levels = [0; 5];
        RotatedCodes::Int4.levels(&[0xf0, 0x87, 0x3a], &mut levels);
        assert_eq!(levels, [-127, 127, -6, 6, 31]);
        let mut levels = [0; 10];
        RotatedCodes::Bit1.levels(&[0b0000_0101, 0b1111_1110], &mut levels);
        assert_eq!(levels, [1, -1, 1, -1, -1, -1, -1, -1, -1, 1]);
    }

    #[test]
    fn levels_are_those_of_lloyd_and_max() {
        // Table I of Max for 16 levels: outputs of a normal distribution of deviation 1.
        let outputs = [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733];
        for (level, output) in INT4_LEVELS[8..].iter().zip(outputs) {
            assert!((f64::from(*level) - output * INT4_UNIT).abs() <= 0.5, "{level}");
        }
        for (level, mirrored) in INT4_LEVELS.iter().zip(INT4_LEVELS.iter().rev()) {
            assert_eq!(*level, -mirrored);
        }
    }
}
