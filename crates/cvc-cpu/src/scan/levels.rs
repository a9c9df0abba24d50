//! From the codes of rotated rows to bytes that can be multiplied: level plus 128 for codes of four bits, the bit itself for codes of one.
//!
//! ```text
//! for i in 0..dim { out[i] = u8(level(code(row, i)) + 128) }          four bits
//! for i in 0..dim { out[i] = bit(row, i) }                            one bit
//! ```
//!
//! A row of bytes is longer than its values, and what is beyond them is 0, so that it adds nothing to any product.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::ops::rotated::{INT4_LEVELS, RotatedCodes};

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
    for (src, out) in src.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
        match (codes, level) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Int4, Level::Avx2(_)) => unsafe { x86::nibbles(src, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Int4, Level::Avx512(_)) => unsafe { x86::nibbles(src, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Bit1, Level::Avx2(_)) => unsafe { x86::bits(src, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            (RotatedCodes::Bit1, Level::Avx512(_)) => unsafe { x86::bits(src, out) },
            (RotatedCodes::Int4, _) => nibbles(src, out),
            (RotatedCodes::Bit1, _) => bits(src, out),
        }
        out[dim..].fill(0);
    }
}

fn nibbles(src: &[u8], out: &mut [u8]) {
    for (byte, out) in src.iter().zip(out.chunks_mut(2)) {
        out[0] = INT4_BYTES[usize::from(byte & 15)];
        if let Some(odd) = out.get_mut(1) {
            *odd = INT4_BYTES[usize::from(byte >> 4)];
        }
    }
}

fn bits(src: &[u8], out: &mut [u8]) {
    for (byte, out) in src.iter().zip(out.chunks_mut(8)) {
        for (bit, out) in out.iter_mut().enumerate() {
            *out = byte >> bit & 1;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::INT4_BYTES;
    use crate::ops::x86::{load_128, load_256};

    /// Sixteen bytes at a time: each is spread over two, whose lower halves look themselves up.
    #[target_feature(enable = "avx2")]
    pub(super) fn nibbles(src: &[u8], out: &mut [u8]) {
        let table = _mm256_broadcastsi128_si256(load_128(&INT4_BYTES));
        let low_halves = _mm256_set1_epi16(0x0f0f);
        let (blocks, rest) = src.as_chunks::<16>();
        // A row of bytes is a multiple of 32 long, so that there is room for the last block.
        let (of_blocks, of_rest) = out.split_at_mut(blocks.len() * 32);
        for (block, out) in blocks.iter().zip(of_blocks.as_chunks_mut::<32>().0) {
            let bytes = _mm256_cvtepu8_epi16(load_128(block));
            let halves = _mm256_and_si256(_mm256_or_si256(bytes, _mm256_slli_epi16::<4>(bytes)), low_halves);
            *out = bytemuck::cast(_mm256_shuffle_epi8(table, halves));
        }
        super::nibbles(rest, of_rest);
    }

    /// Four bytes at a time: each is spread over eight, of which each keeps its own bit.
    #[target_feature(enable = "avx2")]
    pub(super) fn bits(src: &[u8], out: &mut [u8]) {
        const SPREAD: [[u8; 8]; 4] = [[0; 8], [1; 8], [2; 8], [3; 8]];
        const OWN: [[u8; 8]; 4] = [[1, 2, 4, 8, 16, 32, 64, 128]; 4];
        let (spread, own) = (load_256(bytemuck::cast_ref(&SPREAD)), load_256(bytemuck::cast_ref(&OWN)));
        let one = _mm256_set1_epi8(1);
        let (blocks, rest) = src.as_chunks::<4>();
        let (of_blocks, of_rest) = out.split_at_mut(blocks.len() * 32);
        for (block, out) in blocks.iter().zip(of_blocks.as_chunks_mut::<32>().0) {
            let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(*block)), spread);
            *out = bytemuck::cast(_mm256_min_epu8(_mm256_and_si256(bytes, own), one));
        }
        super::bits(rest, of_rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_the_levels_of_the_codes() {
        for level in Level::available() {
            for codes in [RotatedCodes::Int4, RotatedCodes::Bit1] {
                for dim in [1usize, 2, 7, 31, 32, 33, 100, 256, 301] {
                    let width = usize::try_from(codes.row_len(dim as u64)).unwrap();
                    let src: Vec<u8> = (0..3 * width).map(|at| (at * 167 + 13).to_le_bytes()[0]).collect();
                    let stride = dim.next_multiple_of(32);
                    let mut out = vec![0xaa; 3 * stride];
                    unpack(level, codes, &src, dim, stride, &mut out);
                    let line = line(codes);
                    for (src, out) in src.chunks(width).zip(out.chunks(stride)) {
                        let mut levels = vec![0; dim];
                        codes.levels(src, &mut levels);
                        for (level, byte) in levels.into_iter().zip(out) {
                            assert_eq!(f64::from(level), line.slope * f64::from(*byte) + line.least);
                        }
                        assert!(out[dim..].iter().all(|byte| *byte == 0), "{level}, {dim}");
                    }
                }
            }
        }
    }
}
