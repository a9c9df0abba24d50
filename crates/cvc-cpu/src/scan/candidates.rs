//! Which rows of a tile are looked at closely: all bounds of a tile compared with what is wanted of each query.
//!
//! ```text
//! for row in rows { for query in queries { if !(bound(row, query) < threshold[query]) { candidates.push((row, query)) } } }
//! ```
//!
//! Nearly all bounds are below. So [`TOGETHER`] of them are computed side by side, of one row and many queries or of many rows and one
//! query, and looked at one by one only if any is not.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use std::ops::Range;

use cvc_codec::TERMS;

use super::bounds::QueryTerms;
use crate::level::Level;

/// Bounds that are computed side by side.
const TOGETHER: usize = 16;

/// Rows and queries of a tile that were multiplied.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// Each term of the rows.
    pub(super) terms: [&'a [f32]; TERMS],
    /// The products of the rows with the queries, row after row.
    pub(super) products: &'a [f32],
    pub(super) queries: &'a QueryTerms,
    /// The offsets of the queries, where they are those of a chunk.
    pub(super) offsets: &'a [f32],
}

impl Tile<'_> {
    /// Whether a row's bound for a query is not below its threshold.
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "what cannot be compared must be looked at")]
    pub(super) fn may_do(&self, row: usize, query: usize, thresholds: &[f32]) -> bool {
        let product = self.products[row * self.offsets.len() + query];
        let (of_row, of_query) =
            (self.terms.map(|term| term[row]), self.of_queries().map(|term| term[query]));
        !(bound::<false>(of_row, of_query, product) < thresholds[query])
    }

    /// The same given the product of the row with what rounding left of the query, and the terms of both together.
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "what cannot be compared must be looked at")]
    pub(super) fn may_do_with_rest(
        &self,
        (row, query): (usize, usize),
        of_rest: &QueryTerms,
        product: f32,
        thresholds: &[f32],
    ) -> bool {
        let coarse = self.queries.scale[query] * self.products[row * self.offsets.len() + query];
        let of_query =
            [1.0, of_rest.shift[query], self.offsets[query], of_rest.spread[query], of_rest.slack[query]];
        let product = of_rest.scale[query] * product + coarse;
        !(bound::<false>(self.terms.map(|term| term[row]), of_query, product) < thresholds[query])
    }

    /// Each term of the queries.
    fn of_queries(&self) -> [&[f32]; TERMS] {
        let QueryTerms { scale, shift, spread, slack, .. } = self.queries;
        [scale, shift, self.offsets, spread, slack]
    }

    /// Fills `candidates` with rows and queries whose bound is not below the threshold, by ascending rows.
    pub(super) fn candidates(&self, level: Level, thresholds: &[f32], candidates: &mut Vec<(usize, usize)>) {
        let (rows, width) = (self.terms[0].len(), self.offsets.len());
        assert!(self.terms.iter().all(|term| term.len() == rows) && self.products.len() == rows * width);
        assert!(self.of_queries().iter().all(|term| term.len() == width) && thresholds.len() == width);
        candidates.clear();
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX2 and FMA.
            Level::Avx2(_) => unsafe { avx2(self, thresholds, candidates) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves AVX-512 F, BW and VL, and FMA.
            Level::Avx512(_) => unsafe { avx512(self, thresholds, candidates) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(_) => collect::<true>(self, thresholds, candidates),
            Level::Portable => collect::<false>(self, thresholds, candidates),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(tile: &Tile<'_>, thresholds: &[f32], candidates: &mut Vec<(usize, usize)>) {
    collect::<true>(tile, thresholds, candidates);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
fn avx512(tile: &Tile<'_>, thresholds: &[f32], candidates: &mut Vec<(usize, usize)>) {
    collect::<true>(tile, thresholds, candidates);
}

#[inline(always)]
fn collect<const FUSED: bool>(tile: &Tile<'_>, thresholds: &[f32], candidates: &mut Vec<(usize, usize)>) {
    let (of_rows, of_queries, width) = (tile.terms, tile.of_queries(), thresholds.len());
    if let [threshold] = thresholds {
        let (of_query, threshold) = (of_queries.map(|term| [term[0]; TOGETHER]), [*threshold; TOGETHER]);
        for start in (0..of_rows[0].len()).step_by(TOGETHER) {
            let rows = start..of_rows[0].len().min(start + TOGETHER);
            let of_group = group(of_rows, &rows).zip(group([tile.products], &rows));
            if !of_group.is_some_and(|(of_rows, [products])| {
                all_below::<FUSED>(of_rows, of_query.each_ref(), products, &threshold)
            }) {
                candidates.extend(rows.filter(|row| tile.may_do(*row, 0, thresholds)).map(|row| (row, 0)));
            }
        }
        return;
    }
    for (row, products) in tile.products.chunks_exact(width).enumerate() {
        let of_row = of_rows.map(|term| [term[row]; TOGETHER]);
        for start in (0..width).step_by(TOGETHER) {
            let queries = start..width.min(start + TOGETHER);
            let of_group = group(of_queries, &queries).zip(group([products, thresholds], &queries));
            if !of_group.is_some_and(|(of_queries, [products, thresholds])| {
                all_below::<FUSED>(of_row.each_ref(), of_queries, products, thresholds)
            }) {
                let may_do = queries.filter(|query| tile.may_do(row, *query, thresholds));
                candidates.extend(may_do.map(|query| (row, query)));
            }
        }
    }
}

/// The same places of some slices, if they are as many as are computed side by side.
#[inline(always)]
fn group<'a, const N: usize>(of: [&'a [f32]; N], places: &Range<usize>) -> Option<[&'a [f32; TOGETHER]; N]> {
    let whole = places.len() == TOGETHER && of.iter().all(|values| values.len() >= places.end);
    whole.then(|| of.map(|values| values[places.clone()].try_into().expect("as many")))
}

/// Whether each bound is below its threshold.
#[inline(always)]
fn all_below<const FUSED: bool>(
    of_rows: [&[f32; TOGETHER]; TERMS],
    of_queries: [&[f32; TOGETHER]; TERMS],
    products: &[f32; TOGETHER],
    thresholds: &[f32; TOGETHER],
) -> bool {
    let mut all = true;
    for at in 0..TOGETHER {
        let bound =
            bound::<FUSED>(of_rows.map(|term| term[at]), of_queries.map(|term| term[at]), products[at]);
        all &= bound < thresholds[at];
    }
    all
}

/// The bound of one row for one query, as [`super::bounds`] has it.
#[inline(always)]
fn bound<const FUSED: bool>(of_row: [f32; TERMS], of_query: [f32; TERMS], product: f32) -> f32 {
    let [by, along, rounded, error, fixed] = of_row;
    let [scale, shift, offset, spread, slack] = of_query;
    let add = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    add(by, add(scale, product, shift), add(along, offset, add(rounded, spread, add(error, slack, fixed))))
}
