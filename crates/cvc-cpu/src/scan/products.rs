//! Products of rows with queries: the loops in which a search spends its time.
//!
//! ```text
//! for row in rows { for column in columns { sums[row][column] = sum(row[i] * column[i]) } }
//! ```
//!
//! A *column* is what a query, or anything else that rows are multiplied with, was made to. There are two forms of the loop:
//!
//! 1. Few columns (a single query): the values of a row and of each column are multiplied side by side, in as many sums as hide the
//!    latency of adding. A row comes from memory once, which is what such a search waits for.
//! 2. Many columns: [`PANEL`] columns at a time lie interleaved in a *panel*, so that a value of a row meets all of them in one vector,
//!    and a few rows take turns with the panel in registers. Nothing is added across a vector. Without an instruction that adds products
//!    of bytes in 32 bits, two pairs of products are added in 16 first, which takes three multiplications instead of four and leaves
//!    columns one bit less ([`CodeColumns::greatest`]).
//!
//! What rows are multiplied with themselves for, their lengths, is left out where those are known ([`cvc_codec::TermsCache`]).
//!
//! The order of sums differs between forms and levels: what is computed here only decides which rows are looked at closely.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use std::ops::Range;

use crate::level::Level;

/// Columns of a panel.
pub(super) const PANEL: usize = 16;

/// What is multiplied of a panel that has no more columns than these: half a panel, one vector.
const HALF_PANEL: usize = PANEL / 2;

/// The most columns that are multiplied side by side with a row.
const FEW: usize = 4;

/// Values of a row that a panel is multiplied with before the next rows come: 16 KiB of a panel of floats, half of an L1 cache. By
/// arithmetic; other depths were not measured.
const DEPTH: usize = 256;

/// Rows that share a panel in registers.
const TOGETHER: usize = 4;

/// Rows of bytes that do: sixteen registers hold no more of what is needed besides.
#[cfg(target_arch = "x86_64")]
const CODES_TOGETHER: usize = 3;

/// Columns of floats.
#[derive(Clone, Debug)]
pub(super) struct FloatColumns {
    dim: usize,
    count: usize,
    /// Column after column, if they are few.
    flat: Vec<f32>,
    /// Panel after panel, value after value of a panel's columns, if they are many. What there is beyond the last column is 0.
    panels: Vec<[f32; PANEL]>,
}

impl FloatColumns {
    /// Columns of `dim` values each, one after another.
    pub(super) fn new(columns: &[f32], dim: usize) -> Self {
        let count = columns.len().checked_div(dim).unwrap_or(0);
        if count <= FEW {
            return FloatColumns { dim, count, flat: columns.to_vec(), panels: Vec::new() };
        }
        let mut panels = vec![[0.0; PANEL]; count.div_ceil(PANEL) * dim];
        for (column, values) in columns.chunks_exact(dim).enumerate() {
            let panel = &mut panels[column / PANEL * dim..][..dim];
            for (of_panel, value) in panel.iter_mut().zip(values) {
                of_panel[column % PANEL] = *value;
            }
        }
        FloatColumns { dim, count, flat: Vec::new(), panels }
    }

    /// Sums of a row.
    pub(super) fn width(&self) -> usize {
        width(self.count)
    }

    /// Whether all of them are multiplied with a row before the next row comes.
    pub(super) fn are_few(&self) -> bool {
        self.count <= FEW
    }

    /// Fills `sums` with the products of rows, [`FloatColumns::width`] for each, and `squares`, if wanted, with the sum of the squares
    /// of each row.
    pub(super) fn products(&self, level: Level, rows: &[f32], sums: &mut [f32], squares: Option<&mut [f32]>) {
        self.check(rows.len(), sums, squares.as_deref());
        match level {
            Level::Portable => float_products::<false>(self, rows, sums, squares),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2, FMA and F16C.
            Level::Avx2(_) => unsafe { x86::float_products_avx2(self, rows, sums, squares) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX-512 F, BW and VL, and what they include.
            Level::Avx512(_) => unsafe { x86::float_products_avx512(self, rows, sums, squares) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(_) => float_products::<true>(self, rows, sums, squares),
        }
    }
}

impl FloatColumns {
    /// [`FloatColumns::products`] of rows of little-endian halves as they are, if there are few columns and instructions for it.
    /// False if nothing was done.
    pub(super) fn products_of_halves(
        &self,
        level: Level,
        rows: &[[u8; 2]],
        sums: &mut [f32],
        squares: Option<&mut [f32]>,
    ) -> bool {
        self.check(rows.len(), sums, squares.as_deref());
        match level {
            _ if self.count > FEW => false,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) | Level::Avx512(_) => {
                // SAFETY: both tokens prove AVX2, FMA and F16C.
                unsafe { x86::few_halves(self, rows, sums, squares) };
                true
            }
            _ => false,
        }
    }

    fn check(&self, values: usize, sums: &[f32], squares: Option<&[f32]>) {
        let rows = sums.len() / self.width();
        assert!(sums.len() == rows * self.width() && values == rows * self.dim, "of as many rows");
        assert!(squares.is_none_or(|squares| squares.len() == rows), "of as many rows");
    }
}

/// Sums of a row with so many columns.
fn width(columns: usize) -> usize {
    if columns <= FEW { columns } else { columns.next_multiple_of(PANEL) }
}

/// `a * b + c`, in one step where the processor has one.
#[inline(always)]
fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn float_products<const FUSED: bool>(
    columns: &FloatColumns,
    rows: &[f32],
    sums: &mut [f32],
    squares: Option<&mut [f32]>,
) {
    let dim = columns.dim;
    let flat = |column: usize| &columns.flat[column * dim..(column + 1) * dim];
    match columns.count {
        1 => few::<1, 32, FUSED>([flat(0)], rows, sums, squares),
        2 => few::<2, 16, FUSED>([flat(0), flat(1)], rows, sums, squares),
        3 => few::<3, 16, FUSED>([flat(0), flat(1), flat(2)], rows, sums, squares),
        FEW => few::<FEW, 16, FUSED>([flat(0), flat(1), flat(2), flat(3)], rows, sums, squares),
        _ => {
            for (row, square) in rows.chunks_exact(dim).zip(squares.into_iter().flatten()) {
                (_, *square) = side_by_side::<0, 32, FUSED, true>([], row);
            }
            float_panels::<FUSED>(columns, rows, sums);
        }
    }
}

#[inline(always)]
fn few<const C: usize, const LANES: usize, const FUSED: bool>(
    columns: [&[f32]; C],
    rows: &[f32],
    sums: &mut [f32],
    squares: Option<&mut [f32]>,
) {
    let rows = rows.chunks_exact(columns[0].len()).zip(sums.as_chunks_mut::<C>().0);
    match squares {
        Some(squares) => {
            for ((row, sums), square) in rows.zip(squares) {
                (*sums, *square) = side_by_side::<C, LANES, FUSED, true>(columns, row);
            }
        }
        None => rows.for_each(|(row, sums)| {
            (*sums, _) = side_by_side::<C, LANES, FUSED, false>(columns, row);
        }),
    }
}

/// The products of one row with a few columns and, if `SQUARES`, with itself: what comes from memory is loaded once.
#[inline(always)]
fn side_by_side<const C: usize, const LANES: usize, const FUSED: bool, const SQUARES: bool>(
    columns: [&[f32]; C],
    row: &[f32],
) -> ([f32; C], f32) {
    let (mut lanes, mut squares) = ([[0.0; LANES]; C], [0.0; LANES]);
    let (blocks, rest) = row.as_chunks::<LANES>();
    let of_columns = columns.map(|column| column.as_chunks::<LANES>());
    for of_column in &of_columns {
        assert!(of_column.0.len() == blocks.len() && of_column.1.len() == rest.len());
    }
    for (at, block) in blocks.iter().enumerate() {
        for lane in 0..LANES * usize::from(SQUARES) {
            squares[lane] = fused::<FUSED>(block[lane], block[lane], squares[lane]);
        }
        for (lanes, of_column) in lanes.iter_mut().zip(&of_columns) {
            let column = &of_column.0[at];
            for lane in 0..LANES {
                lanes[lane] = fused::<FUSED>(block[lane], column[lane], lanes[lane]);
            }
        }
    }
    let mut sums = [0.0; C];
    for ((sum, lanes), of_column) in sums.iter_mut().zip(&lanes).zip(&of_columns) {
        let last = rest.iter().zip(of_column.1).fold(0.0, |sum, (x, q)| fused::<FUSED>(*x, *q, sum));
        *sum = across::<LANES>(lanes) + last;
    }
    (sums, across::<LANES>(&squares) + rest.iter().fold(0.0, |sum, x| fused::<FUSED>(*x, *x, sum)))
}

/// The sum of some lanes, halves on halves.
#[inline(always)]
fn across<const LANES: usize>(lanes: &[f32; LANES]) -> f32 {
    let (mut lanes, mut count) = (*lanes, LANES);
    while count > 1 {
        count /= 2;
        for lane in 0..count {
            lanes[lane] += lanes[lane + count];
        }
    }
    lanes[0]
}

#[inline(always)]
fn float_panels<const FUSED: bool>(columns: &FloatColumns, rows: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    let mut start = 0;
    while start < columns.dim {
        let depth = start..(start + DEPTH).min(columns.dim);
        start = depth.end;
        for (panel, of_panel) in columns.panels.chunks_exact(columns.dim).enumerate() {
            let (of_panel, at) = (&of_panel[depth.clone()], panel * PANEL);
            match columns.count - at {
                ..=HALF_PANEL => {
                    rows_with_panel::<HALF_PANEL, FUSED>(columns, rows, &depth, of_panel, at, sums);
                }
                _ => rows_with_panel::<PANEL, FUSED>(columns, rows, &depth, of_panel, at, sums),
            }
        }
    }
}

/// Adds the products of some values of all rows with one panel, or with the first half of it, whose sums begin at `at` in those of a row.
#[inline(always)]
fn rows_with_panel<const WIDTH: usize, const FUSED: bool>(
    columns: &FloatColumns,
    rows: &[f32],
    depth: &Range<usize>,
    panel: &[[f32; PANEL]],
    at: usize,
    sums: &mut [f32],
) {
    let mut rows = rows.chunks_exact(columns.dim).map(|row| &row[depth.clone()]);
    let mut sums = sums.chunks_exact_mut(columns.width()).map(|sums| {
        let sums: &mut [f32; WIDTH] = (&mut sums[at..at + WIDTH]).try_into().expect("of a panel");
        sums
    });
    while let Some(taken) = take::<TOGETHER, _>(&mut rows) {
        match taken {
            Taken::All(rows) => {
                let sums = core::array::from_fn(|_| sums.next().expect("as many as rows"));
                float_panel::<TOGETHER, WIDTH, FUSED>(rows, panel, sums);
            }
            Taken::Some(some, count) => {
                for row in &some[..count] {
                    let sums = sums.next().expect("as many as rows");
                    float_panel::<1, WIDTH, FUSED>([*row], panel, [sums]);
                }
                break;
            }
        }
    }
}

/// Some rows that were taken from an iterator.
enum Taken<T, const N: usize> {
    /// As many as were wanted.
    All([T; N]),
    /// The last ones: so many.
    Some([T; N], usize),
}

#[inline(always)]
fn take<const N: usize, T: Copy>(items: &mut impl Iterator<Item = T>) -> Option<Taken<T, N>> {
    let mut taken = [items.next()?; N];
    for (count, slot) in taken.iter_mut().enumerate().skip(1) {
        match items.next() {
            Some(item) => *slot = item,
            None => return Some(Taken::Some(taken, count)),
        }
    }
    Some(Taken::All(taken))
}

/// Adds the products of a few rows with the first columns of one panel.
#[inline(always)]
fn float_panel<const R: usize, const WIDTH: usize, const FUSED: bool>(
    rows: [&[f32]; R],
    panel: &[[f32; PANEL]],
    sums: [&mut [f32; WIDTH]; R],
) {
    for row in rows {
        assert_eq!(row.len(), panel.len());
    }
    let mut lanes = [[0.0f32; WIDTH]; R];
    for (at, columns) in panel.iter().enumerate() {
        for (lanes, row) in lanes.iter_mut().zip(rows) {
            let value = row[at];
            for (lane, column) in lanes.iter_mut().zip(columns) {
                *lane = fused::<FUSED>(value, *column, *lane);
            }
        }
    }
    for (sums, lanes) in sums.into_iter().zip(lanes) {
        for (sum, lane) in sums.iter_mut().zip(lanes) {
            *sum += lane;
        }
    }
}

/// Columns of small integers, to be multiplied with rows of bytes.
#[derive(Clone, Debug)]
pub(super) struct CodeColumns {
    /// Bytes of a row: a multiple of [`CodeColumns::ALIGN`].
    stride: usize,
    count: usize,
    /// Column after column, if they are few.
    flat: Vec<i8>,
    /// Panel after panel, four values after four of a panel's columns, if they are many.
    panels: Vec<[[i8; 4]; PANEL]>,
}

/// What is known of the bytes of a row whatever the query: their sum, and that of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CodeSums {
    pub(super) sum: u32,
    pub(super) squares: u32,
}

impl CodeColumns {
    /// Rows of bytes are a multiple of this long.
    pub(super) const ALIGN: usize = 32;

    /// The longest rows whose sums cannot overflow.
    pub(super) const MAX_DIM: usize = 1 << 16;

    /// The greatest magnitude of an integer of one of `count` columns, with the instructions of a level. Where only AVX2 is there, products
    /// are added in 16 bits, two of them (2 * 255 * 64 fits) or, of many columns, four (4 * 255 * 32 does).
    pub(super) fn greatest(level: Level, count: usize) -> i8 {
        let of_pairs = if count <= FEW { 63 } else { 31 };
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) if !token.has_vnni() => of_pairs,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(token) if !token.has_vnni() => of_pairs,
            _ => 127,
        }
    }

    /// Columns of `dim` integers each, one after another, none of them beyond [`CodeColumns::greatest`].
    pub(super) fn new(columns: &[i8], dim: usize) -> Self {
        assert!(dim <= Self::MAX_DIM);
        let count = columns.len().checked_div(dim).unwrap_or(0);
        let stride = dim.next_multiple_of(Self::ALIGN);
        if count <= FEW {
            let mut flat = vec![0; count * stride];
            for (padded, column) in flat.chunks_exact_mut(stride.max(1)).zip(columns.chunks_exact(dim.max(1)))
            {
                padded[..dim].copy_from_slice(column);
            }
            return CodeColumns { stride, count, flat, panels: Vec::new() };
        }
        let mut panels = vec![[[0; 4]; PANEL]; count.div_ceil(PANEL) * stride / 4];
        for (column, values) in columns.chunks_exact(dim).enumerate() {
            let panel = &mut panels[column / PANEL * stride / 4..][..stride / 4];
            for (at, value) in values.iter().enumerate() {
                panel[at / 4][column % PANEL][at % 4] = *value;
            }
        }
        CodeColumns { stride, count, flat: Vec::new(), panels }
    }

    /// Bytes of a row.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Sums of a row.
    pub(super) fn width(&self) -> usize {
        width(self.count)
    }

    /// Fills `sums` with the products of rows, [`CodeColumns::width`] for each, and `of_rows`, if wanted, with what is known of each
    /// row alone.
    pub(super) fn products(
        &self,
        level: Level,
        rows: &[u8],
        sums: &mut [f32],
        of_rows: Option<&mut [CodeSums]>,
    ) {
        let count = sums.len() / self.width();
        assert!(sums.len() == count * self.width() && rows.len() == count * self.stride, "of as many rows");
        assert!(of_rows.as_ref().is_none_or(|of_rows| of_rows.len() == count), "of as many rows");
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token says that it has AVX-VNNI, and proves AVX2.
            Level::Avx2(token) if token.has_vnni() => unsafe {
                x86::code_products_avx_vnni(self, rows, sums, of_rows)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            Level::Avx2(_) => unsafe { x86::code_products_avx2(self, rows, sums, of_rows) },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(token) if token.has_vnni() => {
                // SAFETY: the token says that it has VNNI, and proves AVX-512 F, BW and VL.
                unsafe { x86::code_products_vnni(self, rows, sums, of_rows) }
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2.
            Level::Avx512(_) => unsafe { x86::code_products_avx2(self, rows, sums, of_rows) },
            _ => code_products(self, rows, sums, of_rows),
        }
    }
}

fn code_products(columns: &CodeColumns, rows: &[u8], sums: &mut [f32], of_rows: Option<&mut [CodeSums]>) {
    let (stride, width) = (columns.stride, columns.width());
    for (row, of_row) in rows.chunks_exact(stride).zip(of_rows.into_iter().flatten()) {
        of_row.sum = row.iter().map(|code| u32::from(*code)).sum();
        of_row.squares = row.iter().map(|code| u32::from(*code) * u32::from(*code)).sum();
    }
    for (row, sums) in rows.chunks_exact(stride).zip(sums.chunks_exact_mut(width)) {
        if columns.count <= FEW {
            for (column, sum) in columns.flat.chunks_exact(stride).zip(sums) {
                let products =
                    row.iter().zip(column).map(|(code, value)| i32::from(*code) * i32::from(*value));
                *sum = products.sum::<i32>() as f32;
            }
        } else {
            for (panel, sums) in columns.panels.chunks_exact(stride / 4).zip(sums.chunks_exact_mut(PANEL)) {
                let mut lanes = [0i32; PANEL];
                for (codes, columns) in row.as_chunks::<4>().0.iter().zip(panel) {
                    for (lane, column) in lanes.iter_mut().zip(columns) {
                        for (code, value) in codes.iter().zip(column) {
                            *lane += i32::from(*code) * i32::from(*value);
                        }
                    }
                }
                for (sum, lane) in sums.iter_mut().zip(lanes) {
                    *sum = lane as f32;
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::{
        CODES_TOGETHER, CodeColumns, CodeSums, FEW, FloatColumns, HALF_PANEL, PANEL, Taken, float_panels,
        take,
    };
    use half::f16;

    use crate::ops::x86::{load_128, load_256, load_f32x8};

    /// The loop over a row and a few columns, and what rows of it with columns make, for values that eight of which are loaded so.
    macro_rules! float_few {
        ($name:ident, $value:ty, $load:expr, $widen:expr) => {
            /// Rows with few columns.
            #[target_feature(enable = "avx2,fma,f16c")]
            pub(super) fn $name(
                columns: &FloatColumns,
                rows: &[$value],
                sums: &mut [f32],
                squares: Option<&mut [f32]>,
            ) {
                /// The products of one row with a few columns and, if `SQUARES`, with itself, in as many vectors of sums as hide the
                /// latency of adding.
                ///
                /// The plain loop over arrays of lanes does the same, but was compiled to loads of single values and spilled its sums (seen
                /// in its machine code; the two were not measured side by side).
                #[inline]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn side_by_side<const C: usize, const SUMS: usize, const SQUARES: bool>(
                    columns: [&[f32]; C],
                    row: &[$value],
                ) -> ([f32; C], f32) {
                    let zero = _mm256_setzero_ps();
                    let (mut lanes, mut squares) = ([[zero; SUMS]; C], [zero; SUMS]);
                    let (blocks, rest) = row.as_chunks::<8>();
                    let of_columns = columns.map(|column| column.as_chunks::<8>());
                    for of_column in &of_columns {
                        assert!(of_column.0.len() == blocks.len() && of_column.1.len() == rest.len());
                    }
                    let mut add = |at: usize, sum: usize| {
                        let values = $load(&blocks[at]);
                        if SQUARES {
                            squares[sum] = _mm256_fmadd_ps(values, values, squares[sum]);
                        }
                        for (lanes, of_column) in lanes.iter_mut().zip(&of_columns) {
                            lanes[sum] = _mm256_fmadd_ps(values, load_f32x8(&of_column.0[at]), lanes[sum]);
                        }
                    };
                    let whole = blocks.len() / SUMS * SUMS;
                    for at in (0..whole).step_by(SUMS) {
                        for sum in 0..SUMS {
                            add(at + sum, sum);
                        }
                    }
                    // Which sum must be known when it is compiled, or all of them live on the stack.
                    for at in whole..blocks.len() {
                        add(at, 0);
                    }
                    let mut sums = [0.0; C];
                    for ((sum, lanes), of_column) in sums.iter_mut().zip(lanes).zip(&of_columns) {
                        let last = rest.iter().zip(of_column.1);
                        let last = last.fold(0.0, |sum: f32, (x, q)| f32::mul_add($widen(x), *q, sum));
                        *sum = across_floats(lanes) + last;
                    }
                    let last = rest.iter().map($widen).fold(0.0, |sum: f32, x| x.mul_add(x, sum));
                    (sums, across_floats(squares) + last)
                }

                #[inline]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn few<const C: usize, const SUMS: usize>(
                    columns: &FloatColumns,
                    rows: &[$value],
                    sums: &mut [f32],
                    squares: Option<&mut [f32]>,
                ) {
                    let dim = columns.dim;
                    let flat = core::array::from_fn(|column| &columns.flat[column * dim..(column + 1) * dim]);
                    let rows = rows.chunks_exact(dim).zip(sums.as_chunks_mut::<C>().0);
                    match squares {
                        Some(squares) => {
                            for ((row, sums), square) in rows.zip(squares) {
                                (*sums, *square) = side_by_side::<C, SUMS, true>(flat, row);
                            }
                        }
                        None => {
                            for (row, sums) in rows {
                                (*sums, _) = side_by_side::<C, SUMS, false>(flat, row);
                            }
                        }
                    }
                }

                match columns.count {
                    1 => few::<1, 4>(columns, rows, sums, squares),
                    2 => few::<2, 4>(columns, rows, sums, squares),
                    3 => few::<3, 2>(columns, rows, sums, squares),
                    FEW => few::<FEW, 2>(columns, rows, sums, squares),
                    _ => {
                        let rows = rows.chunks_exact(columns.dim);
                        for (row, square) in rows.zip(squares.into_iter().flatten()) {
                            (_, *square) = side_by_side::<0, 4, true>([], row);
                        }
                    }
                }
            }
        };
    }

    float_few!(few_floats, f32, load_f32x8, |value: &f32| *value);
    // Whether a NaN is quieted makes no difference here.
    float_few!(few_halves, [u8; 2], load_halves, |value: &[u8; 2]| f16::from_le_bytes(*value).to_f32());

    /// Loads 8 halves, widened.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn load_halves(halves: &[[u8; 2]; 8]) -> __m256 {
        _mm256_cvtph_ps(load_128(bytemuck::cast_ref(halves)))
    }

    /// The sum of some vectors of sums.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn across_floats<const SUMS: usize>(sums: [__m256; SUMS]) -> f32 {
        let mut all = sums[0];
        for sum in &sums[1..] {
            all = _mm256_add_ps(all, *sum);
        }
        let halves = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
        let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
        _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn float_products_avx2(
        columns: &FloatColumns,
        rows: &[f32],
        sums: &mut [f32],
        squares: Option<&mut [f32]>,
    ) {
        few_floats(columns, rows, sums, squares);
        if columns.count > FEW {
            float_panels::<true>(columns, rows, sums);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma,f16c")]
    pub(super) fn float_products_avx512(
        columns: &FloatColumns,
        rows: &[f32],
        sums: &mut [f32],
        squares: Option<&mut [f32]>,
    ) {
        few_floats(columns, rows, sums, squares);
        if columns.count > FEW {
            float_panels::<true>(columns, rows, sums);
        }
    }

    /// Adds the products of 32 bytes and 32 integers to eight sums, four neighbours to each, as `add` below does. Pairs are added in 16
    /// bits, which [`CodeColumns::greatest`] leaves room for, then in 32.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_avx2(sums: __m256i, codes: __m256i, values: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(codes, values);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    /// The same twice: four products are added in 16 bits, which saves one of four multiplications.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_both_avx2(sums: __m256i, codes: [__m256i; 2], values: [__m256i; 2]) -> __m256i {
        let first = _mm256_maddubs_epi16(codes[0], values[0]);
        let pairs = _mm256_add_epi16(first, _mm256_maddubs_epi16(codes[1], values[1]));
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    /// One instruction for all of it.
    #[inline]
    #[target_feature(enable = "avxvnni,avx2")]
    fn add_avx_vnni(sums: __m256i, codes: __m256i, values: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(sums, codes, values)
    }

    #[inline]
    #[target_feature(enable = "avxvnni,avx2")]
    fn add_both_avx_vnni(sums: __m256i, codes: [__m256i; 2], values: [__m256i; 2]) -> __m256i {
        add_avx_vnni(add_avx_vnni(sums, codes[0], values[0]), codes[1], values[1])
    }

    /// The same, as processors with AVX-512 have it.
    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vl,avx2")]
    fn add_vnni(sums: __m256i, codes: __m256i, values: __m256i) -> __m256i {
        _mm256_dpbusd_epi32(sums, codes, values)
    }

    #[inline]
    #[target_feature(enable = "avx512vnni,avx512vl,avx2")]
    fn add_both_vnni(sums: __m256i, codes: [__m256i; 2], values: [__m256i; 2]) -> __m256i {
        add_vnni(add_vnni(sums, codes[0], values[0]), codes[1], values[1])
    }

    /// What is known of a row alone, so far: bytes are added eight at a time to 64 bits, squares in pairs to 32.
    struct RowLanes {
        sum: __m256i,
        squares: __m256i,
    }

    impl RowLanes {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn new() -> Self {
            RowLanes { sum: _mm256_setzero_si256(), squares: _mm256_setzero_si256() }
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn add(&mut self, codes: __m256i) {
            let zero = _mm256_setzero_si256();
            self.sum = _mm256_add_epi64(self.sum, _mm256_sad_epu8(codes, zero));
            let (low, high) = (_mm256_unpacklo_epi8(codes, zero), _mm256_unpackhi_epi8(codes, zero));
            let squares = _mm256_add_epi32(_mm256_madd_epi16(low, low), _mm256_madd_epi16(high, high));
            self.squares = _mm256_add_epi32(self.squares, squares);
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn sums(self) -> CodeSums {
            // The sum of a row fits 32 bits, so the upper halves are 0.
            CodeSums { sum: across(self.sum).cast_unsigned(), squares: across(self.squares).cast_unsigned() }
        }
    }

    /// The sum of eight integers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn across(sums: __m256i) -> i32 {
        let halves = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
        let one = _mm_add_epi32(pairs, _mm_shuffle_epi32::<0b00_00_00_01>(pairs));
        _mm_cvtsi128_si32(one)
    }

    /// The loops over rows and columns, around one way to multiply.
    macro_rules! code_products {
        ($name:ident, $features:literal, $add:ident, $add_both:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(
                columns: &CodeColumns,
                rows: &[u8],
                sums: &mut [f32],
                of_rows: Option<&mut [CodeSums]>,
            ) {
                /// The products of one row with a few columns, two sums for each, and, if `ALONE`, what is known of the row alone.
                #[inline]
                #[target_feature(enable = $features)]
                fn side_by_side<const C: usize, const ALONE: bool>(
                    columns: [&[i8]; C],
                    row: &[u8],
                ) -> ([f32; C], CodeSums) {
                    let mut of_row = RowLanes::new();
                    let mut lanes = [[_mm256_setzero_si256(); 2]; C];
                    let (blocks, last) = row.as_chunks::<32>();
                    debug_assert!(last.is_empty());
                    let of_columns =
                        columns.map(|column| bytemuck::cast_slice::<i8, u8>(column).as_chunks::<32>().0);
                    for column in of_columns {
                        assert_eq!(column.len(), blocks.len());
                    }
                    // Which of the two sums must be known when it is compiled, or both live on the stack.
                    let mut add = |at: usize, sum: usize| {
                        let codes = load_256(&blocks[at]);
                        if ALONE {
                            of_row.add(codes);
                        }
                        for (lanes, column) in lanes.iter_mut().zip(of_columns) {
                            lanes[sum] = $add(lanes[sum], codes, load_256(&column[at]));
                        }
                    };
                    for at in (0..blocks.len() / 2 * 2).step_by(2) {
                        add(at, 0);
                        add(at + 1, 1);
                    }
                    if blocks.len() % 2 == 1 {
                        add(blocks.len() - 1, 0);
                    }
                    let mut sums = [0.0; C];
                    for (sum, [even, odd]) in sums.iter_mut().zip(lanes) {
                        *sum = across(_mm256_add_epi32(even, odd)) as f32;
                    }
                    (sums, of_row.sums())
                }

                /// The products of a few rows with one panel, or with the first half of it.
                #[inline]
                #[target_feature(enable = $features)]
                fn with_panel<const R: usize, const HALVES: usize>(
                    rows: [&[[u8; 4]]; R],
                    panel: &[[[i8; 4]; PANEL]],
                    sums: [&mut [f32]; R],
                ) {
                    for row in rows {
                        assert_eq!(row.len(), panel.len());
                    }
                    let mut lanes = [[_mm256_setzero_si256(); HALVES]; R];
                    // A row is a multiple of 32 long, so none is left.
                    for (at, columns) in panel.as_chunks::<2>().0.iter().enumerate() {
                        let columns: &[[[u8; 32]; 2]; 2] = bytemuck::cast_ref(columns);
                        let mut halves = [[_mm256_setzero_si256(); 2]; HALVES];
                        for (half, values) in halves.iter_mut().enumerate() {
                            *values = [load_256(&columns[0][half]), load_256(&columns[1][half])];
                        }
                        for (lanes, row) in lanes.iter_mut().zip(rows) {
                            let codes = _mm256_set1_epi32(i32::from_le_bytes(row[2 * at]));
                            let next = _mm256_set1_epi32(i32::from_le_bytes(row[2 * at + 1]));
                            for (lanes, values) in lanes.iter_mut().zip(halves) {
                                *lanes = $add_both(*lanes, [codes, next], values);
                            }
                        }
                    }
                    for (sums, lanes) in sums.into_iter().zip(lanes) {
                        sums[8 * HALVES..].fill(0.0);
                        for (sums, lanes) in sums.as_chunks_mut::<8>().0.iter_mut().zip(lanes) {
                            *sums = bytemuck::cast(_mm256_cvtepi32_ps(lanes));
                        }
                    }
                }

                /// The products of all rows with one panel, or with the first half of it, whose sums begin at `at` in those of a row.
                #[inline]
                #[target_feature(enable = $features)]
                fn rows_with_panel<const HALVES: usize>(
                    columns: &CodeColumns,
                    rows: &[u8],
                    panel: &[[[i8; 4]; PANEL]],
                    at: usize,
                    sums: &mut [f32],
                ) {
                    let mut rows = rows.chunks_exact(columns.stride).map(|row| row.as_chunks::<4>().0);
                    let sums = sums.chunks_exact_mut(columns.width());
                    let mut sums = sums.map(|sums| &mut sums[at..at + PANEL]);
                    while let Some(taken) = take::<CODES_TOGETHER, _>(&mut rows) {
                        match taken {
                            Taken::All(rows) => {
                                let sums = core::array::from_fn(|_| sums.next().expect("as many as rows"));
                                with_panel::<CODES_TOGETHER, HALVES>(rows, panel, sums);
                            }
                            Taken::Some(some, count) => {
                                for row in &some[..count] {
                                    let sums = sums.next().expect("as many as rows");
                                    with_panel::<1, HALVES>([*row], panel, [sums]);
                                }
                                break;
                            }
                        }
                    }
                }

                #[inline]
                #[target_feature(enable = $features)]
                fn few<const C: usize>(
                    columns: &CodeColumns,
                    rows: &[u8],
                    sums: &mut [f32],
                    of_rows: Option<&mut [CodeSums]>,
                ) {
                    let flat = core::array::from_fn(|column| {
                        &columns.flat[column * columns.stride..(column + 1) * columns.stride]
                    });
                    let rows = rows.chunks_exact(columns.stride).zip(sums.as_chunks_mut::<C>().0);
                    match of_rows {
                        Some(of_rows) => {
                            for ((row, sums), of_row) in rows.zip(of_rows) {
                                (*sums, *of_row) = side_by_side::<C, true>(flat, row);
                            }
                        }
                        None => {
                            for (row, sums) in rows {
                                (*sums, _) = side_by_side::<C, false>(flat, row);
                            }
                        }
                    }
                }

                match columns.count {
                    1 => return few::<1>(columns, rows, sums, of_rows),
                    2 => return few::<2>(columns, rows, sums, of_rows),
                    3 => return few::<3>(columns, rows, sums, of_rows),
                    FEW => return few::<FEW>(columns, rows, sums, of_rows),
                    _ => {}
                }
                let stride = columns.stride;
                for (row, of_row) in rows.chunks_exact(stride).zip(of_rows.into_iter().flatten()) {
                    (_, *of_row) = side_by_side::<0, true>([], row);
                }
                for (panel, of_panel) in columns.panels.chunks_exact(stride / 4).enumerate() {
                    let at = panel * PANEL;
                    match columns.count - at {
                        ..=HALF_PANEL => rows_with_panel::<1>(columns, rows, of_panel, at, sums),
                        _ => rows_with_panel::<2>(columns, rows, of_panel, at, sums),
                    }
                }
            }
        };
    }

    code_products!(code_products_avx2, "avx2", add_avx2, add_both_avx2);
    code_products!(code_products_avx_vnni, "avx2,avxvnni", add_avx_vnni, add_both_avx_vnni);
    code_products!(code_products_vnni, "avx512f,avx512bw,avx512vl,avx512vnni,avx2", add_vnni, add_both_vnni);
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "codes are made of anything")]
mod tests {
    use super::*;

    /// Numbers without an order that anybody could see.
    fn noise(len: usize, seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        core::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        })
        .take(len)
    }

    #[test]
    fn products_of_codes_are_exact_at_every_level() {
        for level in Level::available() {
            for (dim, count, rows) in
                [(1usize, 1, 1), (31, 2, 3), (32, 3, 5), (100, 4, 9), (768, 5, 7), (65, 16, 4), (96, 37, 6)]
            {
                let stride = dim.next_multiple_of(CodeColumns::ALIGN);
                let greatest = i64::from(CodeColumns::greatest(level, count));
                let extreme = |n: u64| match n % 5 {
                    0 => greatest,
                    1 => -greatest,
                    _ => n as i64 % (2 * greatest + 1) - greatest,
                };
                let columns: Vec<i8> = noise(dim * count, 1).map(|n| extreme(n) as i8).collect();
                let codes: Vec<u8> =
                    noise(stride * rows, 2).map(|n| if n % 3 == 0 { 255 } else { n as u8 }).collect();
                let made = CodeColumns::new(&columns, dim);
                let mut sums = vec![f32::NAN; rows * made.width()];
                let mut of_rows = vec![CodeSums::default(); rows];
                made.products(level, &codes, &mut sums, Some(&mut of_rows));
                for (row, found) in codes.chunks_exact(stride).zip(of_rows) {
                    let sum = row.iter().map(|code| u32::from(*code)).sum();
                    let squares = row.iter().map(|code| u32::from(*code).pow(2)).sum();
                    assert_eq!(found, CodeSums { sum, squares }, "{level}, {dim}");
                }
                for (row, sums) in codes.chunks_exact(stride).zip(sums.chunks_exact(made.width())) {
                    for (column, sum) in columns.chunks_exact(dim).zip(sums) {
                        let expected: i32 =
                            row.iter().zip(column).map(|(c, v)| i32::from(*c) * i32::from(*v)).sum();
                        assert_eq!(*sum, expected as f32, "{level}, {dim} x {count}");
                    }
                }
            }
            // The most that sums must hold.
            let (dim, codes) = (CodeColumns::MAX_DIM, vec![255; CodeColumns::MAX_DIM]);
            for count in [1, FEW + 1] {
                let greatest = CodeColumns::greatest(level, count);
                let made = CodeColumns::new(&vec![-greatest; dim * count], dim);
                let (mut sums, mut of_rows) = (vec![0.0; made.width()], [CodeSums::default()]);
                made.products(level, &codes, &mut sums, Some(&mut of_rows));
                assert_eq!(sums[0], (-255 * i64::from(greatest) * dim as i64) as f32);
                assert_eq!(of_rows[0], CodeSums { sum: 255 << 16, squares: (255 * 255) << 16 });
            }
        }
    }

    #[test]
    fn products_of_floats_are_within_their_bound_at_every_level() {
        for level in Level::available() {
            for (dim, count, rows) in
                [(1, 1, 1), (33, 2, 3), (100, 3, 5), (384, 4, 9), (768, 5, 7), (300, 33, 10)]
            {
                let float = |n: u64| n as f32 / (1u64 << 31) as f32 - 0.5;
                let columns: Vec<f32> = noise(dim * count, 3).map(float).collect();
                let values: Vec<f32> = noise(dim * rows, 4).map(float).collect();
                let made = FloatColumns::new(&columns, dim);
                let mut sums = vec![f32::NAN; rows * made.width()];
                let mut of_rows = vec![f32::NAN; rows];
                made.products(level, &values, &mut sums, Some(&mut of_rows));
                let length =
                    |values: &[f32]| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                for ((row, sums), square) in
                    values.chunks_exact(dim).zip(sums.chunks_exact(made.width())).zip(of_rows)
                {
                    let bound = (dim as f64 + 16.0) / f64::from(1u32 << 24);
                    assert!((f64::from(square) - length(row).powi(2)).abs() <= bound * length(row).powi(2));
                    for (column, sum) in columns.chunks_exact(dim).zip(sums) {
                        let exact: f64 =
                            row.iter().zip(column).map(|(x, q)| f64::from(*x) * f64::from(*q)).sum();
                        let most = bound * length(row) * length(column);
                        assert!((f64::from(*sum) - exact).abs() <= most, "{level}, {dim} x {count}");
                    }
                }
            }
        }
    }
}
