//! `rotated`: the levels of a row, rotated back as integers; then a scale and a centre, two roundings.
//!
//! ```text
//! for row in rows { t = unrotate(levels(row)); for i in dims { dst[row][i] = f32(t[i]) * scale[row] + centre[i] } }
//! ```
//!
//! 1. With AVX2, sixteen rows are decoded at a time, one in each lane. Then every step of both transforms is additions of whole
//!    vectors, however short the step, and the transposition between them is nothing but where a vector is loaded from, whatever the dim;
//!    what it costs is transposing bytes on the way in (an eighth of an instruction for each value) and values on the way out. The loop
//!    above, a row at a time, is what is left for less than three rows and for rows too long for the caches.
//! 2. The first transform is in 16 bits, which hold 127 * 256; signs of the second round are applied as it stores.
//! 3. Up to sixteen vectors are in registers at a time, so that a transform of 256 values is two passes over memory, not eight. The same in
//!    safe generic code over arrays, which the compiler did not make vectors of, ran at 0.8 to 1.4 GB/s.
//! 4. Each result is stored by halves of lines, eight rows in turn. Past the caches that came out slower, 2.7 GB/s instead of 4.4, so it has
//!    no streaming form.
//! 5. AVX-512 compiles the same code; with its registers less has to be put aside. It was not measured.
//!
//! | GB/s of f32 | int4, L2: 100 | 300 | 384 | 768 | 1536 | memory: 768 | bit1, L2: 384 | 768 | 1536 |
//! |---|---|---|---|---|---|---|---|---|---|
//! | portable | 0.64 | 0.68 | 0.71 | 0.69 | 0.75 | 0.72 | 0.85 | 0.63 | 0.84 |
//! | avx2 | 5.0 | 6.3 | 6.1 | 5.8 | 6.2 | 4.4 | 4.9 | 4.9 | 8.0 |
//!
//! (`cargo test -p cvc-cpu --release --test rates -- --ignored --nocapture rates_of_rotated`, one core of an AMD EPYC of the Zen 3 class, whose
//! other core was busy, November 2026.)
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use core::ops::Range;

use cvc_codec::Rotation;
use cvc_codec::ops::PayloadError;
use cvc_codec::ops::affine_u8::row_parameter;
use cvc_codec::ops::rotated::{RotatedCodes, rotated as reference};

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

/// Rows that are in the second round at a time, where integers are twice as wide.
const HALF: usize = ROWS / 2;

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
    /// Some values of half of the rows in the second round.
    second: Vec<[i32; HALF]>,
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
pub fn rotated(
    level: Level,
    work: Work<'_>,
    first_row: u32,
    (codes, scales): (&[u8], &[u8]),
    dims: Range<usize>,
    scratch: &mut Scratch,
    dst: &mut [f32],
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
            Level::Portable => one_by_one(tile, scratch, dst),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            Level::Avx2(_) => unsafe { avx2(tile, scratch, dst) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
            Level::Avx512(_) => unsafe { avx512(tile, scratch, dst) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(_) => one_by_one(tile, scratch, dst),
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

#[cfg(target_arch = "x86_64")]
use x86::{avx2, avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use cvc_codec::ops::rotated::{INT4_LEVELS, RotatedCodes};
    use cvc_codec::rotation::MAX_BLOCK;

    use super::super::stores::Ordinary;
    use super::super::x86::{load_128, load_256, load_f32x8, store_256, store_f32x8};
    use super::{GROUP, HALF, ROWS, Scratch, Tile, one_by_one};

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(tile: Tile<'_>, scratch: &mut Scratch, dst: &mut [f32]) {
        run(tile, scratch, dst);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512(tile: Tile<'_>, scratch: &mut Scratch, dst: &mut [f32]) {
        run(tile, scratch, dst);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn run(tile: Tile<'_>, scratch: &mut Scratch, dst: &mut [f32]) {
        if tile.is_small() {
            return one_by_one(tile, scratch, dst);
        }
        at_once(tile, scratch, dst);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn at_once(tile: Tile<'_>, scratch: &mut Scratch, dst: &mut [f32]) {
        let rotation = tile.work.rotation;
        let (block, blocks) = (rotation.block(), rotation.blocks());
        // Whole vectors of codes: `fill` may write so far.
        scratch.first.resize(rotation.dim().next_multiple_of(128), [0; ROWS]);
        let first = &mut scratch.first[..];
        fill(tile, first);
        let signs = rotation.signs(1);
        for (values, signs) in first.chunks_exact_mut(block).zip(signs.chunks_exact(block)) {
            first_round(values, signs);
        }

        scratch.second.resize(GROUP, [0; HALF]);
        let halves = dst.chunks_mut(tile.dim * HALF).zip(tile.scales.chunks(HALF));
        for (half, (dst, scales)) in halves.enumerate() {
            let mut rows: [&mut [f32]; HALF] = Default::default();
            for (row, values) in rows.iter_mut().zip(dst.chunks_exact_mut(tile.dim)) {
                *row = values;
            }
            let rows = &mut rows[..scales.len()];
            for start in (0..tile.dim).step_by(GROUP) {
                let first_block = start / block;
                let second = &mut scratch.second[..((blocks - first_block) * block).min(GROUP)];
                for (of_block, values) in (first_block..).zip(second.chunks_exact_mut(block)) {
                    second_round(&first[of_block..], blocks, half, values);
                }
                let wanted = second.len().min(tile.dim - start);
                emit(tile, start, &second[..wanted], scales, rows);
            }
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
            match tile.work.codes {
                RotatedCodes::Int4 => {
                    let pairs = first[2 * start..].as_chunks_mut::<2>().0;
                    for (bytes, [even, odd]) in columns.into_iter().zip(pairs) {
                        let lower = _mm_shuffle_epi8(table, _mm_and_si128(bytes, low));
                        let upper = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(bytes), low));
                        store(even, _mm256_cvtepi8_epi16(lower));
                        store(odd, _mm256_cvtepi8_epi16(upper));
                    }
                }
                RotatedCodes::Bit1 => {
                    let eights = first[8 * start..].as_chunks_mut::<8>().0;
                    for (bytes, values) in columns.into_iter().zip(eights) {
                        let bytes = _mm256_cvtepu8_epi16(bytes);
                        for (bit, values) in values.iter_mut().enumerate() {
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

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(values: &[i16; ROWS]) -> __m256i {
        load_256(bytemuck::cast_ref(values))
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

    /// Steps of the transform on `R` vectors in registers.
    macro_rules! steps {
        ($v:ident, $radix:expr, $add:ident, $sub:ident) => {
            let mut step = 1;
            while step < $radix {
                for at in 0..$radix {
                    if at & step == 0 {
                        let (a, b) = ($v[at], $v[at + step]);
                        ($v[at], $v[at + step]) = ($add(a, b), $sub(a, b));
                    }
                }
                step *= 2;
            }
        };
    }

    /// The transform of a block of levels, and the signs of the second round.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn first_round(values: &mut [[i16; ROWS]], signs: &[i16]) {
        fn fixed<const N: usize>(values: &mut [[i16; ROWS]]) -> &mut [[i16; ROWS]; N] {
            values.try_into().expect("a block")
        }
        #[inline]
        #[target_feature(enable = "avx2")]
        fn pass<const N: usize, const R: usize, const STEP: usize>(values: &mut [[i16; ROWS]; N]) {
            for base in (0..N).step_by(R * STEP) {
                for at in base..base + STEP {
                    let mut v: [__m256i; R] = core::array::from_fn(|k| load(&values[at + k * STEP]));
                    steps!(v, R, _mm256_add_epi16, _mm256_sub_epi16);
                    for k in 0..R {
                        store(&mut values[at + k * STEP], v[k]);
                    }
                }
            }
        }
        /// The last pass.
        #[inline]
        #[target_feature(enable = "avx2")]
        fn signed<const N: usize, const R: usize, const STEP: usize>(
            values: &mut [[i16; ROWS]; N],
            signs: &[i16],
        ) {
            let signs: &[i16; N] = signs.try_into().expect("a block");
            for at in 0..STEP {
                let mut v: [__m256i; R] = core::array::from_fn(|k| load(&values[at + k * STEP]));
                steps!(v, R, _mm256_add_epi16, _mm256_sub_epi16);
                for k in 0..R {
                    let sign = _mm256_set1_epi16(signs[at + k * STEP]);
                    store(&mut values[at + k * STEP], _mm256_sign_epi16(v[k], sign));
                }
            }
        }
        match values.len() {
            1 => signed::<1, 1, 1>(fixed(values), signs),
            2 => signed::<2, 2, 1>(fixed(values), signs),
            4 => signed::<4, 4, 1>(fixed(values), signs),
            8 => signed::<8, 8, 1>(fixed(values), signs),
            16 => signed::<16, 16, 1>(fixed(values), signs),
            32 => {
                pass::<32, 8, 1>(fixed(values));
                signed::<32, 4, 8>(fixed(values), signs);
            }
            64 => {
                pass::<64, 8, 1>(fixed(values));
                signed::<64, 8, 8>(fixed(values), signs);
            }
            128 => {
                pass::<128, 16, 1>(fixed(values));
                signed::<128, 8, 16>(fixed(values), signs);
            }
            _ => {
                pass::<MAX_BLOCK, 16, 1>(fixed(values));
                signed::<MAX_BLOCK, 16, 16>(fixed(values), signs);
            }
        }
    }

    /// The transform of a block of the second round, of one half of the rows: value i is found at `first[i * stride]`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn second_round(first: &[[i16; ROWS]], stride: usize, half: usize, values: &mut [[i32; HALF]]) {
        fn fixed<const N: usize>(values: &mut [[i32; HALF]]) -> &mut [[i32; HALF]; N] {
            values.try_into().expect("a block")
        }
        /// The first pass.
        #[inline]
        #[target_feature(enable = "avx2")]
        fn widened<const N: usize, const R: usize>(
            first: &[[i16; ROWS]],
            stride: usize,
            half: usize,
            values: &mut [[i32; HALF]; N],
        ) {
            for (base, values) in (0..).step_by(R).zip(values.as_chunks_mut::<R>().0) {
                let mut v: [__m256i; R] = core::array::from_fn(|k| {
                    let of_rows = &first[(base + k) * stride].as_chunks::<HALF>().0[half];
                    _mm256_cvtepi16_epi32(load_128(bytemuck::cast_ref(of_rows)))
                });
                steps!(v, R, _mm256_add_epi32, _mm256_sub_epi32);
                for k in 0..R {
                    store_256(Ordinary, bytemuck::cast_mut(&mut values[k]), v[k]);
                }
            }
        }
        #[inline]
        #[target_feature(enable = "avx2")]
        fn last<const N: usize, const R: usize, const STEP: usize>(values: &mut [[i32; HALF]; N]) {
            for at in 0..STEP {
                let mut v: [__m256i; R] =
                    core::array::from_fn(|k| load_256(bytemuck::cast_ref(&values[at + k * STEP])));
                steps!(v, R, _mm256_add_epi32, _mm256_sub_epi32);
                for k in 0..R {
                    store_256(Ordinary, bytemuck::cast_mut(&mut values[at + k * STEP]), v[k]);
                }
            }
        }
        match values.len() {
            1 => widened::<1, 1>(first, stride, half, fixed(values)),
            2 => widened::<2, 2>(first, stride, half, fixed(values)),
            4 => widened::<4, 4>(first, stride, half, fixed(values)),
            8 => widened::<8, 8>(first, stride, half, fixed(values)),
            16 => widened::<16, 16>(first, stride, half, fixed(values)),
            32 => {
                widened::<32, 8>(first, stride, half, fixed(values));
                last::<32, 4, 8>(fixed(values));
            }
            64 => {
                widened::<64, 8>(first, stride, half, fixed(values));
                last::<64, 8, 8>(fixed(values));
            }
            128 => {
                widened::<128, 16>(first, stride, half, fixed(values));
                last::<128, 8, 16>(fixed(values));
            }
            _ => {
                widened::<MAX_BLOCK, 16>(first, stride, half, fixed(values));
                last::<MAX_BLOCK, 16, 16>(fixed(values));
            }
        }
    }

    /// Writes the values from `start` on to the rows, which begin there and are cut as they are written.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn emit(tile: Tile<'_>, start: usize, second: &[[i32; HALF]], scales: &[f32], rows: &mut [&mut [f32]]) {
        let of_group = start..start + second.len();
        let signs = &tile.work.rotation.signs(0)[of_group.clone()];
        let centre = &tile.work.centre[of_group];
        let (columns, columns_rest) = second.as_chunks::<8>();
        let ((signs, signs_rest), (centre, centre_rest)) = (signs.as_chunks::<8>(), centre.as_chunks::<8>());
        for ((columns, signs), centre) in columns.iter().zip(signs).zip(centre) {
            let signs = _mm256_cvtepi16_epi32(load_128(bytemuck::cast_ref(signs)));
            let centre = load_f32x8(centre);
            for ((row, scale), t) in rows.iter_mut().zip(scales).zip(eight(columns)) {
                let (now, rest) = core::mem::take(row).split_first_chunk_mut().expect("values of a row");
                *row = rest;
                let t = _mm256_cvtepi32_ps(_mm256_sign_epi32(t, signs));
                store_f32x8(Ordinary, now, _mm256_add_ps(_mm256_mul_ps(t, _mm256_set1_ps(*scale)), centre));
            }
        }
        for (at, (row, scale)) in rows.iter_mut().zip(scales).enumerate() {
            let (now, rest) = core::mem::take(row).split_at_mut(columns_rest.len());
            *row = rest;
            for (((value, t), sign), centre) in
                now.iter_mut().zip(columns_rest).zip(signs_rest).zip(centre_rest)
            {
                *value = (t[at] * i32::from(*sign)) as f32 * scale + centre;
            }
        }
    }

    /// The rows of eight columns.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn eight(columns: &[[i32; HALF]; 8]) -> [__m256i; 8] {
        // Columns c and c + 4 side by side, of four rows each.
        let quarter = |column: usize, quarter: usize| {
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
