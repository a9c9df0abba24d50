//! What queries are made to, so that rows of each kind can be multiplied with them.

use std::sync::OnceLock;

use cvc_codec::ops::rotated::RotatedCodes;
use cvc_codec::{ChunkId, Queries, Rotation};

use super::bounds::{Centre, QueryTerms, Rounded};
use super::candidates::Tile;
use super::levels;
use super::products::{CodeColumns, FloatColumns};
use crate::level::Level;

/// What queries are made to, for each kind of rows: when the first rows of the kind are met.
pub(super) struct Filters<'q> {
    pub(super) level: Level,
    queries: &'q Queries<'q>,
    floats: OnceLock<(FloatColumns, QueryTerms)>,
    /// For rows of codes of a byte.
    codes: OnceLock<CodeFilter>,
    /// For rows of levels, of four bits and of one.
    int4: OnceLock<CodeFilter>,
    bit1: OnceLock<CodeFilter>,
}

/// What queries for rows of codes are made to.
pub(super) struct CodeFilter {
    pub(super) columns: CodeColumns,
    pub(super) terms: QueryTerms,
    closer: Option<Closer>,
}

/// What rounding left of queries, rounded likewise: where it is coarse, most of the rows that it does not rule out are ruled out by this.
struct Closer {
    /// Each query by itself.
    columns: Vec<CodeColumns>,
    terms: QueryTerms,
}

impl CodeFilter {
    /// For queries of `dim` values each, given what is multiplied with codes. The queries' terms follow from how those were rounded, and how
    /// what was left was.
    fn new(
        level: Level,
        values: impl ExactSizeIterator<Item = f64>,
        dim: usize,
        terms: impl Fn(&Rounded, Option<&Rounded>, usize) -> QueryTerms,
        in_places: impl Fn(&[i8]) -> Vec<i8>,
    ) -> Self {
        let greatest = CodeColumns::greatest(level, values.len() / dim);
        let rounded = Rounded::new(values, dim, greatest);
        let columns = CodeColumns::new(&in_places(&rounded.columns), dim);
        let of_one = CodeColumns::greatest(level, 1);
        let closer = (greatest < of_one).then(|| {
            let rest = rounded.rest(of_one);
            let of_rests =
                rest.columns.chunks_exact(dim).map(|column| CodeColumns::new(&in_places(column), dim));
            Closer { columns: of_rests.collect(), terms: terms(&rounded, Some(&rest), columns.width()) }
        });
        CodeFilter { terms: terms(&rounded, None, columns.width()), columns, closer }
    }

    /// Whether a row with these codes may still do for a query if looked at closer.
    pub(super) fn may_do(
        &self,
        level: Level,
        codes: &[u8],
        tile: &Tile<'_>,
        (row, query): (usize, usize),
        thresholds: &[f32],
    ) -> bool {
        let Some(closer) = &self.closer else { return true };
        let stride = self.columns.stride();
        let mut product = [0.0];
        closer.columns[query].products(level, &codes[row * stride..][..stride], &mut product, None);
        tile.may_do_with_rest((row, query), &closer.terms, product[0], thresholds)
    }
}

impl<'q> Filters<'q> {
    pub(super) fn new(level: Level, queries: &'q Queries<'q>) -> Self {
        let (floats, codes, int4, bit1) = Default::default();
        Filters { level, queries, floats, codes, int4, bit1 }
    }

    pub(super) fn floats(&self) -> &(FloatColumns, QueryTerms) {
        self.floats.get_or_init(|| {
            let columns = FloatColumns::new(self.queries.floats(), self.queries.dim() as usize);
            let terms = QueryTerms::of_floats(self.queries, columns.width());
            (columns, terms)
        })
    }

    pub(super) fn codes(&self) -> &CodeFilter {
        self.codes.get_or_init(|| {
            let values = self.queries.floats().iter().map(|value| f64::from(*value));
            let terms = |rounded: &Rounded, rest: Option<&Rounded>, width| {
                QueryTerms::of_codes(self.queries, rest.unwrap_or(rounded), width)
            };
            CodeFilter::new(self.level, values, self.queries.dim() as usize, terms, <[i8]>::to_vec)
        })
    }

    pub(super) fn levels(&self, codes: RotatedCodes, rotation: &Rotation) -> &CodeFilter {
        let filter = match codes {
            RotatedCodes::Int4 => &self.int4,
            RotatedCodes::Bit1 => &self.bit1,
        };
        filter.get_or_init(|| {
            let dim = self.queries.dim() as usize;
            let mut rotated = self.queries.floats().to_vec();
            rotated.chunks_exact_mut(dim).for_each(|query| rotation.rotate(query));
            let values = rotated.iter().map(|value| f64::from(*value));
            let of_levels = |rounded: &Rounded, width| {
                QueryTerms::of_levels(self.queries, rounded, levels::line(codes), width)
            };
            let terms = |rounded: &Rounded, rest: Option<&Rounded>, width| match rest {
                Some(rest) => of_levels(rounded, width).and_of_rest(of_levels(rest, width)),
                None => of_levels(rounded, width),
            };
            CodeFilter::new(self.level, values, dim, terms, |columns| levels::in_places(codes, columns, dim))
        })
    }
}

/// What is known of a chunk of rotated rows.
pub(super) struct OfChunk {
    pub(super) chunk: ChunkId,
    /// The products of queries with its centre.
    pub(super) offsets: Vec<f32>,
    /// What is needed where the lengths of its rows are not known.
    centre: Option<(Centre, CodeColumns)>,
}

impl OfChunk {
    pub(super) fn new(queries: &Queries<'_>, chunk: ChunkId, centre: &[f32], width: usize) -> Self {
        OfChunk { chunk, offsets: QueryTerms::offsets(queries, centre, width), centre: None }
    }

    /// Its centre, to be multiplied with codes.
    pub(super) fn centre(
        &mut self,
        level: Level,
        codes: RotatedCodes,
        rotation: &Rotation,
        centre: &[f32],
    ) -> &(Centre, CodeColumns) {
        self.centre.get_or_insert_with(|| {
            let mut rotated = centre.to_vec();
            rotation.rotate(&mut rotated);
            let (centre, columns) = Centre::new(&rotated, CodeColumns::greatest(level, 1));
            let columns = levels::in_places(codes, &columns, rotated.len());
            (centre, CodeColumns::new(&columns, rotated.len()))
        })
    }
}
