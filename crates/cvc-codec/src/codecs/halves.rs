//! What `fp16` and `bf16` share: rounding to sixteen bits, and what is done with values beyond them.

use core::ops::Range;

use bytemuck::Pod;

use super::blocks;
use crate::codec::{CodecError, EncodeOptions, EncodedChunk, NonFinite};
use crate::loops::Loops;
use crate::rows::{Element, RowSlice, Values, with_values};

/// A float of sixteen bits, the uppermost of which is the sign.
pub(super) trait Half: Pod {
    /// The bits of positive infinity. Those of the largest number are one less.
    const INFINITY: u16;

    /// The value, which is a number, rounded once.
    fn of<T: Element>(value: T) -> Self;

    /// Many values rounded.
    fn narrow(loops: &dyn Loops, values: &[f32], halves: &mut [Self]);

    fn bits(self) -> u16;
}

/// Values that are rounded at a time; they stay in the L1 cache.
const BLOCK: usize = 1024;

/// Encodes rows of floats as one field of halves.
pub(super) fn encode<H: Half>(
    codec: &'static str,
    rows: RowSlice<'_>,
    options: &EncodeOptions,
    loops: &dyn Loops,
    out: &mut EncodedChunk,
) -> Result<(), CodecError> {
    blocks::only_floats(codec, rows)?;
    out.reset(1, 0);
    let field = &mut out.fields[0];
    field.width = blocks::width(codec, rows, 2)?;
    field.bytes.resize(rows.len() * rows.dim() * 2, 0);
    encode_into::<H>(codec, rows, options, loops, &mut field.bytes)
}

/// The same into memory of just the size, of rows that were found to be floats.
pub(super) fn encode_into<H: Half>(
    codec: &'static str,
    rows: RowSlice<'_>,
    options: &EncodeOptions,
    loops: &dyn Loops,
    bytes: &mut [u8],
) -> Result<(), CodecError> {
    narrow_into::<H>(rows, loops, bytes, |at, bytes| {
        // The loop that nearly always is all there is has no way out, so that it can be vectorised.
        let halves = || bytes.as_chunks().0.iter().map(|half| u16::from_le_bytes(*half));
        if !halves().fold(false, |any, bits| any | (bits & 0x7fff == H::INFINITY)) {
            return Ok(());
        }
        mend::<H>(codec, rows, at, options.nonfinite, bytes)
    })
}

/// Replaces `bytes` by the little-endian halves of the values of `rows`, each block of which `check` sees, with the number of
/// its first value.
pub(super) fn narrow<H: Half>(
    rows: RowSlice<'_>,
    loops: &dyn Loops,
    bytes: &mut Vec<u8>,
    check: impl FnMut(usize, &mut [u8]) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    bytes.resize(rows.len() * rows.dim() * 2, 0);
    narrow_into::<H>(rows, loops, bytes, check)
}

/// The same into memory of just the size.
fn narrow_into<H: Half>(
    rows: RowSlice<'_>,
    loops: &dyn Loops,
    bytes: &mut [u8],
    mut check: impl FnMut(usize, &mut [u8]) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    assert_eq!(bytes.len(), rows.len() * rows.dim() * 2, "two bytes for each value");
    let mut scratch = [H::zeroed(); BLOCK];
    for (at, bytes) in (0..).step_by(BLOCK).zip(bytes.chunks_mut(BLOCK * 2)) {
        let values = at..at + bytes.len() / 2;
        match bytemuck::try_cast_slice_mut(bytes) {
            // Nearly always, and then it is an eighth faster.
            Ok(halves) if cfg!(target_endian = "little") => narrow_some::<H>(rows, values, loops, halves),
            _ => {
                let halves = &mut scratch[..values.len()];
                narrow_some(rows, values, loops, halves);
                for (half, bytes) in halves.iter().zip(bytes.as_chunks_mut().0) {
                    *bytes = half.bits().to_le_bytes();
                }
            }
        }
        check(at, bytes)?;
    }
    Ok(())
}

/// Rounds some of the values of `rows`, counted through all of them.
fn narrow_some<H: Half>(rows: RowSlice<'_>, at: Range<usize>, loops: &dyn Loops, halves: &mut [H]) {
    if let Values::F32(values) = rows.values() {
        return H::narrow(loops, &values[at], halves);
    }
    with_values!(rows, values => {
        for (value, half) in values[at].iter().zip(halves) {
            *half = H::of(*value);
        }
    });
}

/// Does what is wanted of values that are finite and whose halves are not. The first of `bytes` is value `at`.
#[cold]
fn mend<H: Half>(
    codec: &'static str,
    rows: RowSlice<'_>,
    at: usize,
    nonfinite: NonFinite,
    bytes: &mut [u8],
) -> Result<(), CodecError> {
    with_values!(rows, values => {
        for ((at, value), half) in (at..).zip(&values[at..]).zip(bytes.as_chunks_mut().0) {
            let (bits, value) = (u16::from_le_bytes(*half), value.as_f64());
            if bits & 0x7fff == H::INFINITY && value.is_finite() {
                match nonfinite {
                    NonFinite::Refuse => {
                        let (row, column) = (at / rows.dim(), at % rows.dim());
                        return Err(CodecError::Value { codec, row, column, value });
                    }
                    NonFinite::Saturate => *half = (bits - 1).to_le_bytes(),
                }
            }
        }
    });
    Ok(())
}
