//! `rotated`: the levels of a row, rotated back as integers; then a scale and a centre, two roundings.
//!
//! ```text
//! for row in rows { t = unrotate(levels(row)); for i in dims { dst[row][i] = f32(t[i]) * scale[row] + centre[i] } }
//! ```
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use core::ops::Range;

use cvc_codec::Rotation;
use cvc_codec::ops::PayloadError;
use cvc_codec::ops::affine_u8::row_parameter;
use cvc_codec::ops::rotated::{RotatedCodes, rotated as reference};
use cvc_codec::rotation::hadamard;

use super::stores::Storing;
use crate::level::Level;

/// What the rows of a chunk have in common.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// The kind of codes.
    pub codes: RotatedCodes,
    /// The rotation of these rows.
    pub rotation: &'a Rotation,
    /// What is added to each dim: finite, none of them -0.0.
    pub centre: &'a [f32],
}

/// Rows that are decoded at a time.
const ROWS: usize = 16;

/// Fewer rows than this are decoded one by one.
const FEW: usize = 3;

/// Values of longer rows would not fit the caches sixteen rows at a time.
const LONG: usize = 1 << 14;

/// Values of the second round at a time; a multiple of every block.
const GROUP: usize = 256;

/// What is used again from rows to rows.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Two rows, for rows that are decoded one by one.
    row: Vec<i32>,
    /// The values of all rows after the first round.
    first: Vec<[i16; ROWS]>,
    /// Some values of all rows in the second round.
    second: Vec<[i32; ROWS]>,
}

impl Scratch {
    /// Gives back what is larger than this many bytes.
    pub fn trim(&mut self, len: usize) {
        if self.row.capacity() * size_of::<i32>() > len {
            self.row = Vec::new();
        }
        if self.first.capacity() * size_of::<[i16; ROWS]>() > len {
            self.first = Vec::new();
        }
    }
}

/// Decodes rows: `src` has their codes and their scales, four little-endian bytes each. The values at `dims` are wanted, which begin
/// with the first; the first row is row `first_row` of its chunk.
///
/// # Errors
/// A scale is not finite; of several the first.
///
/// # Panics
/// The slices are not of as many rows, or no dims are wanted, or not the first.
#[expect(clippy::too_many_arguments, reason = "where from, how, and where to")]
pub fn rotated<'d, S: Storing<'d>>(
    level: Level,
    stores: S,
    work: Work<'_>,
    first_row: u32,
    (codes, scales): (&[u8], &[u8]),
    dims: Range<usize>,
    scratch: &mut Scratch,
    dst: &'d mut [f32],
) -> Result<(), PayloadError> {
    let dim = work.rotation.dim();
    let width = usize::try_from(work.codes.row_len(dim as u64)).expect("of a row in memory");
    assert!(dims.start == 0 && (1..=dim).contains(&dims.end) && work.centre.len() == dim, "values of a row");
    let rows = dst.len() / dims.end;
    assert!(codes.len() == rows * width && scales.len() == rows * 4, "rows");
    let mut row = first_row;
    let parts = codes.chunks(width * ROWS).zip(scales.chunks(4 * ROWS));
    for ((codes, scale_bytes), dst) in parts.zip(dst.chunks_mut(dims.end * ROWS)) {
        let mut scales = [0f32; ROWS];
        let count = scale_bytes.len() / 4;
        for (bytes, scale) in scale_bytes.as_chunks::<4>().0.iter().zip(&mut scales) {
            *scale = row_parameter(bytes, row, "scale")?;
            row += 1;
        }
        let tile = Tile { work, codes, width, scales: &scales[..count], dim: dims.end };
        match level {
            Level::Portable => portable(stores, tile, scratch, dst),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            Level::Avx2(_) => unsafe { avx2(stores, tile, scratch, dst) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
            Level::Avx512(_) => unsafe { avx512(stores, tile, scratch, dst) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(_) => portable(stores, tile, scratch, dst),
        }
    }
    Ok(())
}

/// One to [`ROWS`] rows.
#[derive(Clone, Copy)]
struct Tile<'a> {
    work: Work<'a>,
    codes: &'a [u8],
    /// Bytes of a row of codes.
    width: usize,
    scales: &'a [f32],
    /// Values wanted of every row.
    dim: usize,
}

impl<'a> Tile<'a> {
    /// The codes of a row; if there is no such row, those of the first.
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [u8] {
        self.codes.get(row * self.width..(row + 1) * self.width).unwrap_or(&self.codes[..self.width])
    }

    /// Whether rows are to be decoded one by one.
    fn is_small(&self) -> bool {
        self.scales.len() < FEW || self.work.rotation.dim() > LONG
    }
}

/// One row after another, as the reference does it.
#[inline(always)]
fn one_by_one(tile: Tile<'_>, scratch: &mut Scratch, dst: &mut [f32]) {
    let Work { codes, rotation, centre } = tile.work;
    scratch.row.resize(2 * rotation.dim(), 0);
    for (row, (scale, dst)) in tile.scales.iter().zip(dst.chunks_exact_mut(tile.dim)).enumerate() {
        reference(codes, rotation, tile.row(row), *scale, centre, &mut scratch.row, dst);
    }
}

/// All rows at once, where `fill` makes levels of the codes and `emit` values of integers.
#[inline(always)]
fn at_once<'d>(
    tile: Tile<'_>,
    scratch: &mut Scratch,
    dst: &'d mut [f32],
    fill: impl Fn(Tile<'_>, &mut [[i16; ROWS]]),
    emit: impl Fn(Tile<'_>, usize, &[[i32; ROWS]], &mut [&'d mut [f32]]),
) {
    let rotation = tile.work.rotation;
    let (block, blocks) = (rotation.block(), rotation.blocks());
    // Whole vectors of codes: `fill` may write so far.
    scratch.first.resize(rotation.dim().next_multiple_of(128), [0; ROWS]);
    let first = &mut scratch.first[..];
    fill(tile, first);
    first[..rotation.dim()].chunks_exact_mut(block).for_each(hadamard);

    let mut rows: [&'d mut [f32]; ROWS] = Default::default();
    for (row, values) in rows.iter_mut().zip(dst.chunks_exact_mut(tile.dim)) {
        *row = values;
    }
    scratch.second.resize(GROUP, [0; ROWS]);
    let signs = rotation.signs(1);
    for start in (0..tile.dim).step_by(GROUP) {
        let first_block = start / block;
        let second = &mut scratch.second[..((blocks - first_block) * block).min(GROUP)];
        for (of_block, values) in (first_block..).zip(second.chunks_exact_mut(block)) {
            for (at, values) in values.iter_mut().enumerate() {
                let from = at * blocks + of_block;
                let sign = signs[from];
                for row in 0..ROWS {
                    values[row] = i32::from(first[from][row] * sign);
                }
            }
            hadamard(values);
        }
        let wanted = second.len().min(tile.dim - start);
        emit(tile, start, &second[..wanted], &mut rows[..tile.scales.len()]);
    }
}

#[inline(always)]
fn portable_fill(tile: Tile<'_>, first: &mut [[i16; ROWS]]) {
    let (per_byte, bits) = (8 / tile.work.codes.bits() as usize, tile.work.codes.bits());
    let table = tile.work.codes.table();
    let rows: [&[u8]; ROWS] = core::array::from_fn(|row| tile.row(row));
    for (at, values) in first.chunks_mut(per_byte).take(tile.width).enumerate() {
        let bytes = rows.map(|row| row[at]);
        for (place, values) in (0..).zip(values) {
            for row in 0..ROWS {
                values[row] = i16::from(table[usize::from(bytes[row] >> (place * bits)) & (table.len() - 1)]);
            }
        }
    }
}

/// Writes the values from `start` on to the rows, which begin there and are cut as they are written.
#[inline(always)]
fn portable_emit(tile: Tile<'_>, start: usize, second: &[[i32; ROWS]], rows: &mut [&mut [f32]]) {
    let (signs, centre) = (&tile.work.rotation.signs(0)[start..], &tile.work.centre[start..]);
    for (row, (scale, out)) in tile.scales.iter().zip(rows).enumerate() {
        let (now, rest) = core::mem::take(out).split_at_mut(second.len());
        *out = rest;
        for (((value, t), sign), centre) in now.iter_mut().zip(second).zip(signs).zip(centre) {
            *value = (t[row] * i32::from(*sign)) as f32 * scale + centre;
        }
    }
}

fn portable<'d, S: Storing<'d>>(_: S, tile: Tile<'_>, scratch: &mut Scratch, dst: &'d mut [f32]) {
    if tile.is_small() {
        return one_by_one(tile, scratch, dst);
    }
    at_once(tile, scratch, dst, portable_fill, portable_emit);
}

#[cfg(target_arch = "x86_64")]
use x86::{avx2, avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use cvc_codec::ops::rotated::{INT4_LEVELS, RotatedCodes};

    use super::super::stores::{Ordinary, Stores, Storing};
    use super::super::x86::{load_128, load_f32x8, store_256, store_f32x8};
    use super::{ROWS, Scratch, Tile, at_once, one_by_one, portable_emit};

    /// Values in a line.
    const LINE: usize = 16;

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<'d, S: Storing<'d>>(
        stores: S,
        tile: Tile<'_>,
        scratch: &mut Scratch,
        dst: &'d mut [f32],
    ) {
        run(stores, tile, scratch, dst);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512<'d, S: Storing<'d>>(
        stores: S,
        tile: Tile<'_>,
        scratch: &mut Scratch,
        dst: &'d mut [f32],
    ) {
        run(stores, tile, scratch, dst);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn run<'d, S: Storing<'d>>(stores: S, tile: Tile<'_>, scratch: &mut Scratch, dst: &'d mut [f32]) {
        if tile.is_small() {
            return one_by_one(tile, scratch, dst);
        }
        // Lines are streamed whole, or not at all.
        let whole = tile.dim.is_multiple_of(LINE) && dst.as_ptr().align_offset(4 * LINE) == 0;
        if S::STORES == Stores::Streaming && whole {
            at_once(
                tile,
                scratch,
                dst,
                |tile, first| fill(tile, first),
                |tile, start, second, rows| emit(stores, tile, start, second, rows),
            );
        } else {
            at_once(
                tile,
                scratch,
                dst,
                |tile, first| fill(tile, first),
                |tile, start, second, rows| emit(Ordinary, tile, start, second, rows),
            );
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn fill(tile: Tile<'_>, first: &mut [[i16; ROWS]]) {
        let rows: [&[u8]; ROWS] = core::array::from_fn(|row| tile.row(row));
        let table = load_128(&INT4_LEVELS.map(|level| level.to_le_bytes()[0]));
        let low = _mm_set1_epi8(15);
        for start in (0..tile.width).step_by(16) {
            let columns = transposed(rows.map(|row| sixteen(row, start)));
            for (at, bytes) in (start..).zip(columns) {
                match tile.work.codes {
                    RotatedCodes::Int4 => {
                        let [even, odd] = first[2 * at..].first_chunk_mut().expect("whole vectors");
                        let lower = _mm_shuffle_epi8(table, _mm_and_si128(bytes, low));
                        let upper = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(bytes), low));
                        store(even, _mm256_cvtepi8_epi16(lower));
                        store(odd, _mm256_cvtepi8_epi16(upper));
                    }
                    RotatedCodes::Bit1 => {
                        let bytes = _mm256_cvtepu8_epi16(bytes);
                        for (bit, values) in first[8 * at..].iter_mut().take(8).enumerate() {
                            let is_zero = _mm256_and_si256(bytes, _mm256_set1_epi16(1 << bit));
                            let is_zero = _mm256_cmpeq_epi16(is_zero, _mm256_setzero_si256());
                            store(values, _mm256_or_si256(is_zero, _mm256_set1_epi16(1)));
                        }
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(values: &mut [i16; ROWS], vector: __m256i) {
        store_256(Ordinary, bytemuck::cast_mut(values), vector);
    }

    /// Sixteen bytes from `start` on, zeros where there are none.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sixteen(row: &[u8], start: usize) -> __m128i {
        match row[start..].first_chunk() {
            Some(bytes) => load_128(bytes),
            None => {
                let mut bytes = [0; 16];
                bytes[..row.len() - start].copy_from_slice(&row[start..]);
                load_128(&bytes)
            }
        }
    }

    /// The columns of a matrix of bytes given by its rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transposed(mut v: [__m128i; 16]) -> [__m128i; 16] {
        // Four perfect shuffles of the rows.
        for _ in 0..4 {
            let before = v;
            for at in 0..8 {
                v[2 * at] = _mm_unpacklo_epi8(before[at], before[at + 8]);
                v[2 * at + 1] = _mm_unpackhi_epi8(before[at], before[at + 8]);
            }
        }
        v
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn emit<'d, S: Storing<'d>>(
        stores: S,
        tile: Tile<'_>,
        start: usize,
        second: &[[i32; ROWS]],
        rows: &mut [&'d mut [f32]],
    ) {
        let (eights, rest) = second.as_chunks::<8>();
        let mut at = start;
        for columns in eights {
            let signs = load_128(bytemuck::cast_ref(
                tile.work.rotation.signs(0)[at..].first_chunk::<8>().expect("of a row"),
            ));
            let signs = _mm256_cvtepi16_epi32(signs);
            let centre = load_f32x8(tile.work.centre[at..].first_chunk().expect("of a row"));
            at += 8;
            for (half, (rows, scales)) in rows.chunks_mut(8).zip(tile.scales.chunks(8)).enumerate() {
                let values = eight(columns, half);
                for ((row, scale), t) in rows.iter_mut().zip(scales).zip(values) {
                    let (now, rest) = core::mem::take(row).split_first_chunk_mut().expect("values of a row");
                    *row = rest;
                    let t = _mm256_cvtepi32_ps(_mm256_sign_epi32(t, signs));
                    store_f32x8(stores, now, _mm256_add_ps(_mm256_mul_ps(t, _mm256_set1_ps(*scale)), centre));
                }
            }
        }
        portable_emit(tile, at, rest, rows);
    }

    /// Eight rows of eight columns.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn eight(columns: &[[i32; ROWS]; 8], half: usize) -> [__m256i; 8] {
        // Columns c and c + 4 side by side, of four rows each.
        let quarter = |column: usize, quarter: usize| {
            let quarter = 2 * half + quarter;
            let lower = load_128(bytemuck::cast_ref(&columns[column].as_chunks::<4>().0[quarter]));
            let upper = load_128(bytemuck::cast_ref(&columns[column + 4].as_chunks::<4>().0[quarter]));
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(lower), upper)
        };
        let four = |of: usize| {
            let [a, b, c, d] = [quarter(0, of), quarter(1, of), quarter(2, of), quarter(3, of)];
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        };
        let ([a, b, c, d], [e, f, g, h]) = (four(0), four(1));
        [a, b, c, d, e, f, g, h]
    }
}
