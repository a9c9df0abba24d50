//! What `fp16` and `bf16` share: rounding to sixteen bits, and what is done with values beyond them.

use super::blocks;
use crate::codec::{CodecError, EncodeOptions, EncodedChunk, NonFinite};
use crate::rows::{Element, RowSlice, with_values};

/// A float of sixteen bits, the uppermost of which is the sign.
pub(super) trait Half {
    /// The bits of positive infinity. Those of the largest number are one less.
    const INFINITY: u16;

    /// The bits of the value, which is a float, rounded once.
    fn of<T: Element>(value: T) -> u16;
}

/// Encodes rows of floats as one field of halves.
pub(super) fn encode<H: Half>(
    codec: &'static str,
    rows: RowSlice<'_>,
    options: &EncodeOptions,
    out: &mut EncodedChunk,
) -> Result<(), CodecError> {
    blocks::only_floats(codec, rows)?;
    out.reset(1, 0);
    let field = &mut out.fields[0];
    field.width = blocks::width(codec, rows, 2)?;
    let overflow = with_values!(rows, values => store::<H, _>(values, options.nonfinite, &mut field.bytes));
    match overflow {
        None => Ok(()),
        Some((at, value)) => {
            Err(CodecError::Value { codec, row: at / rows.dim(), column: at % rows.dim(), value })
        }
    }
}

/// Replaces `bytes` by the little-endian halves of `values`, or finds the first that is finite and whose half is not.
fn store<H: Half, T: Element>(
    values: &[T],
    nonfinite: NonFinite,
    bytes: &mut Vec<u8>,
) -> Option<(usize, f64)> {
    bytes.resize(values.len() * 2, 0);
    // The loop that nearly always is all there is has no way out, so that it can be vectorised.
    for (block, (values, halves)) in
        values.chunks(1024).zip(bytes.as_chunks_mut().0.chunks_mut(1024)).enumerate()
    {
        let mut infinite = false;
        for (value, half) in values.iter().zip(halves.iter_mut()) {
            let bits = H::of(*value);
            infinite |= bits & 0x7fff == H::INFINITY;
            *half = bits.to_le_bytes();
        }
        if infinite {
            for (at, (value, half)) in values.iter().zip(halves).enumerate() {
                let bits = u16::from_le_bytes(*half);
                let value = value.as_f64();
                if bits & 0x7fff == H::INFINITY && value.is_finite() {
                    match nonfinite {
                        NonFinite::Refuse => return Some((block * 1024 + at, value)),
                        NonFinite::Saturate => *half = (bits - 1).to_le_bytes(),
                    }
                }
            }
        }
    }
    None
}
