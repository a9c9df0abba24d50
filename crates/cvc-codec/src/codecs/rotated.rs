//! What `int4` and `bit1` share: a centre for each dim, a rotation, codes of few bits, and a scale for each row.
//!
//! [`crate::quantise`] has the arithmetic of a row; here are the centre, and what is done with rows that are not finite.

use std::sync::Arc;

use cvc_format::{DType, Params};

use super::blocks;
use crate::codec::{CodecError, EncodeOptions, EncodedChunk, NonFinite, StoredChunk};
use crate::loops::{Loops, greater, lesser};
use crate::ops::narrow::round_f32;
use crate::ops::rotated::{RotatedCodes, rotated};
use crate::plan::{DecodePlan, Load, PlanError, Stream};
use crate::quantise::{Quantiser, ROWS, Scratch};
use crate::rotation::Rotation;
use crate::rows::{Element, RowSlice, Values, with_values};

/// The plan of a chunk.
pub(super) fn plan(
    codes: RotatedCodes,
    chunk: &StoredChunk<'_>,
    out: DType,
) -> Result<DecodePlan, CodecError> {
    let codec = codes.name();
    blocks::stored_floats(codec, chunk)?;
    let damaged = |needs| CodecError::Params { codec, needs };
    let (centre, rest) = blocks::params(codec, chunk)?.as_chunks::<4>();
    if !rest.is_empty() || centre.len() != chunk.shape.dim as usize {
        return Err(damaged("a centre of four bytes a dim"));
    }
    let centre: Arc<[f32]> = centre.iter().map(|value| f32::from_le_bytes(*value)).collect();
    if !centre.iter().all(|value| value.is_finite()) {
        return Err(damaged("a finite centre"));
    }
    if chunk.parts.fields().len() != 2 {
        return Err(PlanError::Parts { shape: chunk.shape, load: "rotated" }.into());
    }
    let load = Load::rotated(codes, centre);
    Ok(DecodePlan::new(chunk.shape, load, Stream::Stored, out, chunk.parts)?)
}

/// Rows to a block unless the caller chooses.
pub(super) fn default_block_rows(codes: RotatedCodes, dim: u32) -> u32 {
    blocks::fixed_block_rows(codes.row_len(u64::from(dim)))
}

/// Encodes rows of floats: a centre as parameters, a field of codes and a field of scales.
pub(super) fn encode(
    codes: RotatedCodes,
    rows: RowSlice<'_>,
    options: &EncodeOptions,
    loops: &dyn Loops,
    out: &mut EncodedChunk,
) -> Result<(), CodecError> {
    blocks::only_floats(codes.name(), rows)?;
    // What rows decode to has to be possible, too.
    blocks::width(codes.name(), rows, 4)?;
    let rotation = Rotation::new(rows.dim());
    let mut encoder = Encoder { codes, rows, options, loops, mending: None };
    let centre = encoder.centre()?;
    out.reset(2, 0);
    out.params = Params::Bytes(centre.iter().flat_map(|value| value.to_le_bytes()).collect());
    encoder.encode(&rotation, &centre, out)
}

/// Rows of floats that are being encoded.
struct Encoder<'a> {
    codes: RotatedCodes,
    rows: RowSlice<'a>,
    options: &'a EncodeOptions,
    loops: &'a dyn Loops,
    /// The least and the greatest finite value of each dim, if any value is not finite.
    mending: Option<Vec<(f32, f32)>>,
}

impl Encoder<'_> {
    /// The mean of each dim. If a value is not finite, it is refused, or `mending` is set.
    fn centre(&mut self) -> Result<Vec<f32>, CodecError> {
        let sums = self.sums();
        // Sums of f32 cannot overflow f64, so what is not finite was not finite before.
        let sums = if sums.iter().all(|sum| sum.is_finite()) {
            sums
        } else {
            self.mending = Some(self.ranges()?);
            self.sums()
        };
        let rows = self.rows.len() as f64;
        Ok(sums.iter().map(|sum| round_f32(sum / rows) + 0.0).collect())
    }

    /// The sum of each dim, in the order of the rows.
    fn sums(&self) -> Vec<f64> {
        let dim = self.rows.dim();
        let mut sums = vec![0.0; dim];
        self.for_each_group(|_, values| {
            for row in values.chunks_exact(dim) {
                self.loops.add_to_sums(row, &mut sums);
            }
            Ok(())
        })
        .expect("nothing that fails");
        sums
    }

    /// What infinities count as in each dim, unless they and NaN are refused. NaN counts as 0, and that as a value.
    #[cold]
    fn ranges(&self) -> Result<Vec<(f32, f32)>, CodecError> {
        let dim = self.rows.dim();
        let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); dim];
        self.for_each_group(|first_row, values| {
            for (row, values) in (first_row..).zip(values.chunks_exact(dim)) {
                for (column, (value, range)) in values.iter().zip(&mut ranges).enumerate() {
                    if !value.is_finite() && self.options.nonfinite == NonFinite::Refuse {
                        let value = with_values!(self.rows, values => values[row * dim + column].as_f64());
                        return Err(CodecError::Value { codec: self.codes.name(), row, column, value });
                    }
                    if !value.is_infinite() {
                        let value = if value.is_nan() { 0.0 } else { *value };
                        *range = (lesser(value, range.0), greater(value, range.1));
                    }
                }
            }
            Ok(())
        })?;
        let or_zero = |(min, max)| if min > max { (0.0, 0.0) } else { (min, max) };
        Ok(ranges.into_iter().map(or_zero).collect())
    }

    fn encode(&self, rotation: &Rotation, centre: &[f32], out: &mut EncodedChunk) -> Result<(), CodecError> {
        let [codes, scales] = out.fields.as_mut_slice() else { unreachable!("two were made") };
        let width = self.codes.row_len(self.rows.dim() as u64);
        codes.width = u32::try_from(width).expect("fewer bytes than the f32 values of a row");
        scales.width = 4;
        let width = codes.width as usize;
        codes.bytes.resize(width * self.rows.len(), 0);
        scales.bytes.resize(4 * self.rows.len(), 0);

        let quantiser = Quantiser { codes: self.codes, rotation, centre };
        let far = centre.iter().fold(0f32, |most, value| greater(value.abs(), most));
        let mut scratch = Scratch::default();
        self.for_each_group(|first_row, values| {
            let count = values.len() / self.rows.dim();
            let codes = &mut codes.bytes[first_row * width..(first_row + count) * width];
            let mut of_group = [0f32; ROWS];
            let of_group = &mut of_group[..count];
            let clipped = self.loops.quantise(quantiser, values, &mut scratch, codes, of_group);
            if let Some(row) = clipped.filter(|_| self.options.nonfinite == NonFinite::Refuse) {
                return Err(self.too_wide(first_row + row));
            }
            for (row, scale) in of_group.iter_mut().enumerate() {
                if *scale * GREATEST + far >= f32::MAX / 4.0 {
                    let codes = &codes[row * width..(row + 1) * width];
                    self.keep_finite(first_row + row, quantiser, codes, scale)?;
                }
            }
            let bytes = scales.bytes[4 * first_row..].as_chunks_mut::<4>().0;
            for (bytes, scale) in bytes.iter_mut().zip(of_group) {
                *bytes = scale.to_le_bytes();
            }
            Ok(())
        })
    }

    /// Refuses a row that decodes to an infinity, or takes a scale with which it does not.
    #[cold]
    fn keep_finite(
        &self,
        row: usize,
        quantiser: Quantiser<'_>,
        codes: &[u8],
        scale: &mut f32,
    ) -> Result<(), CodecError> {
        let Quantiser { rotation, centre, .. } = quantiser;
        let (mut scratch, mut values) = (vec![0; 2 * centre.len()], vec![0.0; centre.len()]);
        loop {
            rotated(self.codes, rotation, codes, *scale, centre, &mut scratch, &mut values);
            if values.iter().all(|value| value.is_finite()) {
                return Ok(());
            }
            if self.options.nonfinite == NonFinite::Refuse {
                return Err(self.too_wide(row));
            }
            // With a scale of 0 the row is the centre, which is finite.
            *scale /= 2.0;
        }
    }

    fn too_wide(&self, row: usize) -> CodecError {
        let problem = "it is so far from the mean of its chunk that it decodes to infinities: clean the vectors, allow it to \
                       saturate, or choose a codec that can (raw, lossless)";
        CodecError::Row { codec: self.codes.name(), row, problem: problem.into() }
    }

    /// Hands a few rows after another to `work`, as f32 values that are finite if `mending` is set or no value is not.
    fn for_each_group(
        &self,
        mut work: impl FnMut(usize, &[f32]) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let dim = self.rows.dim();
        let mut changed = Vec::new();
        for first_row in (0..self.rows.len()).step_by(ROWS) {
            let at = first_row * dim..(first_row + ROWS).min(self.rows.len()) * dim;
            let values = match (self.rows.values(), &self.mending) {
                (Values::F32(values), None) => &values[at],
                (_, mending) => {
                    changed.clear();
                    with_values!(self.rows, values => changed.extend(values[at].iter().map(|value| value.as_f32())));
                    if let Some(ranges) = mending {
                        let ranges = ranges.iter().cycle();
                        changed
                            .iter_mut()
                            .zip(ranges)
                            .for_each(|(value, range)| *value = mend(*value, *range));
                    }
                    &changed
                }
            };
            work(first_row, values)?;
        }
        Ok(())
    }
}

/// The greatest magnitude that levels can have when they are no longer rotated: 127 * 2^16.
const GREATEST: f32 = 8_323_072.0;

/// What counts as a value of a dim with this range.
fn mend(value: f32, (min, max): (f32, f32)) -> f32 {
    if value.is_finite() {
        value
    } else if value.is_nan() {
        0.0
    } else if value > 0.0 {
        max
    } else {
        min
    }
}
