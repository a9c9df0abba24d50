//! `int8`: one unsigned byte per value, and an affine range for each row, each dim or the whole chunk.
//!
//! For the values of each scope, as f32:
//!
//! ```text
//! min   = smallest value                  max = largest value
//! scale = least f32 >= (max - min) / 255, so that code 255 reaches max; 0 if max = min
//! code  = rint(f32(f32(x - min) / scale)), at most 255
//! ```

use std::sync::Arc;

use cvc_format::{DType, Json, Params};

use super::blocks;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, NonFinite, Scope, StoredChunk};
use crate::loops::{Loops, greater, lesser};
use crate::ops::affine_u8::affine;
use crate::ops::narrow::round_f32;
use crate::plan::{Affine, DecodePlan, Load, PlanError, Stream};
use crate::rows::{Element, RowSlice, Values, with_values};

/// A byte per value, affine.
#[derive(Clone, Copy, Debug)]
pub struct Int8;

impl Codec for Int8 {
    fn name(&self) -> &'static str {
        "int8"
    }

    fn decoded_dtype(&self, _input: DType) -> DType {
        DType::F32
    }

    fn is_by_row(&self, options: &EncodeOptions) -> bool {
        options.scope == Scope::Row
    }

    /// The scope follows from the parts: rows have fields of their own for their parameters, dims and the chunk have
    /// them in the head.
    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        blocks::stored_floats(self.name(), chunk)?;
        let damaged = |needs| CodecError::Params { codec: self.name(), needs };
        let params = blocks::params(self.name(), chunk)?.as_chunks::<4>();
        let params: Vec<f32> = match params {
            (params, []) => params.iter().map(|param| f32::from_le_bytes(*param)).collect(),
            _ => return Err(damaged("parameters of four bytes each")),
        };
        let dim = chunk.shape.dim as usize;
        let affine = match (chunk.parts.fields().len(), params.as_slice()) {
            (3, []) => Affine::Row,
            // Of one dim, too. A file made from one of another layout may have anything here.
            (1, [min, scale]) => Affine::Chunk { scale: *scale, min: *min },
            (1, params) if params.len() == 2 * dim => {
                if !params.iter().all(|param| param.is_finite()) {
                    return Err(damaged("finite minima and scales"));
                }
                let (min, scale) = params.split_at(dim);
                Affine::Dim { scale: scale.into(), min: min.into() }
            }
            (1 | 3, _) => return Err(damaged("min and scale for each row, each dim or all of it")),
            _ => return Err(PlanError::Parts { shape: chunk.shape, load: "affine_u8" }.into()),
        };
        Ok(DecodePlan::new(chunk.shape, Load::AffineU8(affine), Stream::Stored, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        blocks::only_floats(self.name(), rows)?;
        let width = blocks::width(self.name(), rows, 1)?;
        out.reset(if options.scope == Scope::Row { 3 } else { 1 }, 0);
        for (field, width) in out.fields.iter_mut().zip([width, 4, 4]) {
            field.width = width;
            field.bytes.resize(width as usize * rows.len(), 0);
        }
        let encoder = Encoder { rows, options, loops };
        match options.scope {
            Scope::Row => {
                let [codes, mins, scales] = out.fields.as_mut_slice() else {
                    unreachable!("three were made")
                };
                encoder.encode_rows(&mut codes.bytes, &mut mins.bytes, &mut scales.bytes)
            }
            Scope::Dim => encoder.encode_dims(out),
            Scope::Chunk => encoder.encode_chunk(out),
        }
    }

    fn encode_into(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        loops: &dyn Loops,
        fields: &mut [&mut [u8]],
    ) -> Result<(), CodecError> {
        assert_eq!(options.scope, Scope::Row, "what is by row");
        blocks::only_floats(self.name(), rows)?;
        let [codes, mins, scales] = fields else { panic!("three fields, not {}", fields.len()) };
        Encoder { rows, options, loops }.encode_rows(codes, mins, scales)
    }

    fn default_block_rows(&self, _dtype: DType, dim: u32) -> u32 {
        blocks::fixed_block_rows(u64::from(dim))
    }

    fn options(&self, options: &EncodeOptions) -> Vec<(&'static str, Json)> {
        vec![("scope", Json::String(options.scope.name().into()))]
    }
}

/// The smallest and the largest finite value of a scope; the first above the second if there is none.
#[derive(Clone, Copy)]
struct Range {
    min: f32,
    max: f32,
}

/// How the values of a scope become codes.
#[derive(Clone, Copy)]
struct Scale {
    min: f32,
    /// The step; 0 if all values are equal.
    scale: f32,
    /// The step, or anything else by which 0 is divided to give 0.
    divisor: f32,
    /// What infinities count as.
    range: Range,
}

impl Range {
    const NONE: Range = Range { min: f32::INFINITY, max: f32::NEG_INFINITY };

    fn or(self, other: Range) -> Range {
        Range { min: lesser(other.min, self.min), max: greater(other.max, self.max) }
    }

    /// The parameters of a scope with this range; `None` if it is wider than codes can span, unless it `may_clip`.
    fn scale(self, may_clip: bool) -> Option<Scale> {
        let range = if self.min > self.max { Range { min: 0.0, max: 0.0 } } else { self };
        // Both zeros decode to the positive one.
        let min = range.min + 0.0;
        let width = f64::from(range.max) - f64::from(range.min);
        if width > f64::from(f32::MAX) && !may_clip {
            return None;
        }
        let step = width.min(f64::from(f32::MAX)) / 255.0;
        let nearest = round_f32(step);
        let mut scale = if f64::from(nearest) < step { nearest.next_up() } else { nearest };
        // At the far end of f32, code 255 may overflow. A step or two, each an ulp, is enough.
        while !affine(255, scale, min).is_finite() {
            scale = scale.next_down();
        }
        let divisor = if scale == 0.0 { 1.0 } else { scale };
        Some(Scale { min, scale, divisor, range })
    }
}

impl Scale {
    /// What counts as a value that is not finite.
    fn mend(&self, value: f32) -> f32 {
        if value.is_finite() {
            value
        } else if value.is_nan() {
            0.0
        } else if value > 0.0 {
            self.range.max
        } else {
            self.range.min
        }
    }
}

/// Rows of floats that are being encoded.
struct Encoder<'a> {
    rows: RowSlice<'a>,
    options: &'a EncodeOptions,
    loops: &'a dyn Loops,
}

impl Encoder<'_> {
    /// One pass over each row for its range and one for its codes, while it is in the cache.
    fn encode_rows(
        &self,
        mut codes: &mut [u8],
        mins: &mut [u8],
        scales: &mut [u8],
    ) -> Result<(), CodecError> {
        let (rows, dim) = (self.rows.len(), self.rows.dim());
        let lens = [codes.len(), mins.len(), scales.len()];
        assert_eq!(lens, [rows * dim, rows * 4, rows * 4], "bytes of {rows} rows of {dim}");
        let params = mins.as_chunks_mut().0.iter_mut().zip(scales.as_chunks_mut().0);
        let mut params = params.enumerate();
        let mut mended = Vec::new();
        self.for_each_row(|row, values| {
            let (finite, range) = self.range(row, values)?;
            let scale = self.scale(range, Some(row), format_args!("it"))?;
            let (_, (min, step)) = params.next().expect("as many as rows");
            *min = scale.min.to_le_bytes();
            *step = scale.scale.to_le_bytes();
            let (out, rest) = core::mem::take(&mut codes).split_at_mut(dim);
            codes = rest;
            if finite {
                self.loops.codes(values, scale.min, scale.divisor, out);
            } else {
                mended.clear();
                mended.extend(values.iter().map(|value| scale.mend(*value)));
                self.loops.codes(&mended, scale.min, scale.divisor, out);
            }
            Ok(())
        })
    }

    fn encode_chunk(&self, out: &mut EncodedChunk) -> Result<(), CodecError> {
        let (mut range, mut all_finite) = (Range::NONE, true);
        self.for_each_row(|row, values| {
            let (finite, of_row) = self.range(row, values)?;
            all_finite &= finite;
            range = range.or(of_row);
            Ok(())
        })?;
        let scale = self.scale(range, None, format_args!("the chunk"))?;
        let mut params = [0; 8];
        params[..4].copy_from_slice(&scale.min.to_le_bytes());
        params[4..].copy_from_slice(&scale.scale.to_le_bytes());
        out.params = Params::Bytes(Arc::new(params));
        let mut codes = out.fields[0].bytes.as_mut_slice();
        let mut mended = Vec::new();
        self.for_each_row(|_, values| {
            let (out, rest) = core::mem::take(&mut codes).split_at_mut(values.len());
            codes = rest;
            if all_finite {
                self.loops.codes(values, scale.min, scale.divisor, out);
            } else {
                mended.clear();
                mended.extend(values.iter().map(|value| scale.mend(*value)));
                self.loops.codes(&mended, scale.min, scale.divisor, out);
            }
            Ok(())
        })
    }

    fn encode_dims(&self, out: &mut EncodedChunk) -> Result<(), CodecError> {
        let dim = self.rows.dim();
        let (mut min, mut max) = (vec![f32::INFINITY; dim], vec![f32::NEG_INFINITY; dim]);
        let mut all_finite = true;
        self.for_each_row(|row, values| {
            let (finite, _) = self.range(row, values)?;
            all_finite &= finite;
            for ((value, min), max) in values.iter().zip(&mut min).zip(&mut max) {
                // What counts as 0 or is not counted, if it is allowed at all.
                let value = if finite || value.is_finite() {
                    *value
                } else if value.is_nan() {
                    0.0
                } else {
                    continue;
                };
                *min = lesser(value, *min);
                *max = greater(value, *max);
            }
            Ok(())
        })?;
        let ranges = min.into_iter().zip(max).enumerate();
        let scales: Result<Vec<Scale>, CodecError> = ranges
            .map(|(column, (min, max))| self.scale(Range { min, max }, None, format_args!("dim {column}")))
            .collect();
        let scales = scales?;
        let mins = scales.iter().flat_map(|scale| scale.min.to_le_bytes());
        let steps = scales.iter().flat_map(|scale| scale.scale.to_le_bytes());
        out.params = Params::Bytes(mins.chain(steps).collect());
        // Two slices of floats can be loaded as vectors, one of structures cannot.
        let min: Vec<f32> = scales.iter().map(|scale| scale.min).collect();
        let divisor: Vec<f32> = scales.iter().map(|scale| scale.divisor).collect();
        let mut codes = out.fields[0].bytes.as_mut_slice();
        let mut mended = Vec::new();
        self.for_each_row(|_, values| {
            let (out, rest) = core::mem::take(&mut codes).split_at_mut(dim);
            codes = rest;
            let values = if all_finite {
                values
            } else {
                mended.clear();
                mended.extend(values.iter().zip(&scales).map(|(value, scale)| scale.mend(*value)));
                &mended
            };
            self.loops.codes_of_dims(values, &min, &divisor, out);
            Ok(())
        })
    }

    /// Hands each row to `work` as f32 values.
    fn for_each_row(
        &self,
        mut work: impl FnMut(usize, &[f32]) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let dim = self.rows.dim();
        let mut rounded = Vec::new();
        for row in 0..self.rows.len() {
            let at = row * dim..(row + 1) * dim;
            let values = match self.rows.values() {
                Values::F32(values) => &values[at],
                _ => {
                    rounded.clear();
                    with_values!(self.rows, values => rounded.extend(values[at].iter().map(|value| value.as_f32())));
                    &rounded
                }
            };
            work(row, values)?;
        }
        Ok(())
    }

    /// Whether all values of a row are finite, and the range of those that are, NaN counting as 0, if that was asked for.
    fn range(&self, row: usize, values: &[f32]) -> Result<(bool, Range), CodecError> {
        if let Some((min, max)) = self.loops.finite_range(values) {
            return Ok((true, Range { min, max }));
        }
        if self.options.nonfinite == NonFinite::Refuse {
            let column = values.iter().position(|value| !value.is_finite()).expect("one is not");
            let at = row * self.rows.dim() + column;
            let value = with_values!(self.rows, values => values[at].as_f64());
            return Err(CodecError::Value { codec: Int8.name(), row, column, value });
        }
        let counted = values.iter().filter(|value| !value.is_infinite());
        let counted = counted.map(|value| if value.is_nan() { 0.0 } else { *value });
        Ok((false, counted.fold(Range::NONE, |range, value| range.or(Range { min: value, max: value }))))
    }

    /// The parameters of a scope.
    fn scale(
        &self,
        range: Range,
        row: Option<usize>,
        scope: core::fmt::Arguments<'_>,
    ) -> Result<Scale, CodecError> {
        range.scale(self.options.nonfinite == NonFinite::Saturate).ok_or_else(|| {
            let Range { min, max } = range;
            let problem = format!(
                "{scope} runs from {min:e} to {max:e}, wider than f32 reaches: clean the vectors, allow it to saturate, \
                 or choose a codec that can (raw, lossless)"
            );
            let codec = Int8.name();
            match row {
                Some(row) => CodecError::Row { codec, row, problem },
                None => CodecError::Input { codec, problem },
            }
        })
    }
}
