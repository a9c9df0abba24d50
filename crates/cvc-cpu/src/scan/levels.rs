//! From the codes of rotated rows to bytes that can be multiplied: level plus 128 for codes of four bits, the bit itself for codes of one.
//!
//! ```text
//! for i in 0..dim { out[place(i)] = u8(level(code(row, i)) + 128) }          four bits
//! for i in 0..dim { out[place(i)] = bit(row, i) }                            one bit
//! ```
//!
//! Products do not depend on the order of values, as long as it is the same for both, so bytes stand in the order in which they are
//! made with the fewest instructions ([`place`]): the first codes of [`BLOCK`] packed bytes, then the second ones, and so on. What is
//! multiplied with them is put into that order once for a search.
//!
//! A row of bytes is longer than its values, and what is beyond them is 0, so that it adds nothing to any product.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::ops::rotated::{INT4_LEVELS, RotatedCodes};

use crate::fetch::fetch;
use crate::level::Level;

/// How a level follows from the byte that stands for it: `slope * byte + least`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) slope: f64,
    pub(super) least: f64,
}

/// The line of a kind of codes.
pub(super) fn line(codes: RotatedCodes) -> Line {
    match codes {
        RotatedCodes::Int4 => Line { slope: 1.0, least: -128.0 },
        RotatedCodes::Bit1 => Line { slope: 2.0, least: -1.0 },
    }
}

/// Packed bytes that are taken apart together.
const BLOCK: usize = 32;

/// Values of a block.
fn values_of_block(codes: RotatedCodes) -> usize {
    BLOCK * (8 / codes.bits() as usize)
}

/// Where the byte of value `i` of a row of `dim` stands.
fn place(codes: RotatedCodes, dim: usize, i: usize) -> usize {
    let of_block = values_of_block(codes);
    // What does not fill a block keeps its order.
    if i >= dim / of_block * of_block {
        return i;
    }
    let (start, within, per_byte) = (i / of_block * of_block, i % of_block, of_block / BLOCK);
    start + within % per_byte * BLOCK + within / per_byte
}

/// Columns of `dim` integers each, in the order in which bytes stand.
pub(super) fn in_places(codes: RotatedCodes, columns: &[i8], dim: usize) -> Vec<i8> {
    let mut placed = vec![0; columns.len()];
    for (placed, column) in placed.chunks_exact_mut(dim.max(1)).zip(columns.chunks_exact(dim.max(1))) {
        for (i, value) in column.iter().enumerate() {
            placed[place(codes, dim, i)] = *value;
        }
    }
    placed
}

/// The bytes that stand for the levels of codes of four bits.
const INT4_BYTES: [u8; 16] = {
    let mut bytes = [0; 16];
    let mut code = 0;
    while code < 16 {
        bytes[code] = INT4_LEVELS[code].cast_unsigned() ^ 128;
        code += 1;
    }
    bytes
};

/// Fills rows of `stride` bytes with what stands for the levels of rows of codes, `dim` values each.
///
/// # Panics
/// The slices are not of as many rows, or a row of bytes is too short.
pub(super) fn unpack(
    level: Level,
    codes: RotatedCodes,
    src: &[u8],
    dim: usize,
    stride: usize,
    out: &mut [u8],
) {
    let width = usize::try_from(codes.row_len(dim as u64)).expect("of a row in memory");
    assert!(dim <= stride && src.len() / width * stride == out.len(), "rows");
    let (of_block, ahead) = (values_of_block(codes), src.len());
    for (src, out) in src.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
        // Rows of the next tile come from memory while those of this one are multiplied, which takes nothing from it.
        fetch(src, ahead);
        let (blocks, rest) = src.split_at(dim / of_block * BLOCK);
        let (blocks, _) = blocks.as_chunks::<BLOCK>();
        let (of_blocks, of_rest) = out.split_at_mut(blocks.len() * of_block);
        match (codes, level) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Int4, Level::Avx2(_)) => unsafe { x86::nibbles(blocks, of_blocks) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Int4, Level::Avx512(_)) => unsafe { x86::nibbles(blocks, of_blocks) },
            (RotatedCodes::Int4, _) => nibbles(blocks, of_blocks),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Bit1, Level::Avx2(_)) => unsafe { x86::bits(blocks, of_blocks) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Bit1, Level::Avx512(_)) => unsafe { x86::bits(blocks, of_blocks) },
            (RotatedCodes::Bit1, _) => bits(blocks, of_blocks),
        }
        if !of_rest.is_empty() {
            let (values, padding) = of_rest.split_at_mut(dim - (stride - of_rest.len()));
            in_order(codes, rest, values);
            padding.fill(0);
        }
    }
}

/// What does not fill a block.
fn in_order(codes: RotatedCodes, src: &[u8], out: &mut [u8]) {
    match codes {
        RotatedCodes::Int4 => {
            for (byte, out) in src.iter().zip(out.chunks_mut(2)) {
                let both = [byte & 15, byte >> 4];
                out.iter_mut().zip(both).for_each(|(out, code)| *out = INT4_BYTES[usize::from(code)]);
            }
        }
        RotatedCodes::Bit1 => {
            for (byte, out) in src.iter().zip(out.chunks_mut(8)) {
                out.iter_mut().enumerate().for_each(|(bit, out)| *out = byte >> bit & 1);
            }
        }
    }
}

fn nibbles(blocks: &[[u8; BLOCK]], out: &mut [u8]) {
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<{ 2 * BLOCK }>().0) {
        for (at, byte) in block.iter().enumerate() {
            out[at] = INT4_BYTES[usize::from(byte & 15)];
            out[BLOCK + at] = INT4_BYTES[usize::from(byte >> 4)];
        }
    }
}

fn bits(blocks: &[[u8; BLOCK]], out: &mut [u8]) {
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<{ 8 * BLOCK }>().0) {
        for (bit, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            for (out, byte) in out.iter_mut().zip(block) {
                *out = byte >> bit & 1;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::{BLOCK, INT4_BYTES};
    use crate::ops::x86::{load_128, load_256};

    /// Halves of bytes look themselves up.
    #[target_feature(enable = "avx2")]
    pub(super) fn nibbles(blocks: &[[u8; BLOCK]], out: &mut [u8]) {
        let table = _mm256_broadcastsi128_si256(load_128(&INT4_BYTES));
        let low_halves = _mm256_set1_epi8(0x0f);
        for (block, out) in blocks.iter().zip(out.as_chunks_mut::<{ 2 * BLOCK }>().0) {
            let bytes = load_256(block);
            let low = _mm256_and_si256(bytes, low_halves);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_halves);
            let both = [_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high)];
            *out = bytemuck::cast(both);
        }
    }

    /// One bit of each byte after another.
    #[target_feature(enable = "avx2")]
    pub(super) fn bits(blocks: &[[u8; BLOCK]], out: &mut [u8]) {
        let one = _mm256_set1_epi8(1);
        for (block, out) in blocks.iter().zip(out.as_chunks_mut::<{ 8 * BLOCK }>().0) {
            let mut bytes = load_256(block);
            for out in out.as_chunks_mut::<BLOCK>().0 {
                *out = bytemuck::cast(_mm256_and_si256(bytes, one));
                // Bits of the neighbour come in from above, and never get down to where they would be kept.
                bytes = _mm256_srli_epi16::<1>(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_the_levels_of_the_codes() {
        for level in Level::available() {
            for codes in [RotatedCodes::Int4, RotatedCodes::Bit1] {
                for dim in [1usize, 2, 7, 31, 32, 33, 64, 100, 256, 301, 768] {
                    let width = usize::try_from(codes.row_len(dim as u64)).unwrap();
                    let src: Vec<u8> = (0..3 * width).map(|at| (at * 167 + 13).to_le_bytes()[0]).collect();
                    let stride = dim.next_multiple_of(32);
                    let mut out = vec![0xaa; 3 * stride];
                    unpack(level, codes, &src, dim, stride, &mut out);
                    let line = line(codes);
                    for (src, out) in src.chunks(width).zip(out.chunks(stride)) {
                        let mut levels = vec![0; dim];
                        codes.levels(src, &mut levels);
                        for (at, level) in levels.into_iter().enumerate() {
                            let byte = out[place(codes, dim, at)];
                            assert_eq!(f64::from(level), line.slope * f64::from(byte) + line.least);
                        }
                        assert!(out[dim..].iter().all(|byte| *byte == 0), "{level}, {dim}");
                    }
                }
            }
        }
    }
}
