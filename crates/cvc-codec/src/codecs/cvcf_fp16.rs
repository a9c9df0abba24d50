//! `cvcf.fp16`: every value as an IEEE binary16.

use cvc_format::{DType, Params};
use half::{bf16, f16};

use crate::codec::{Codec, CodecError, EncodedChunk};
use crate::ops::narrow::{f16_from_f32, f16_from_f64};
use crate::ops::widen_f16::widen;
use crate::plan::{ChunkShape, DecodePlan, Load};
use crate::rows::{Rows, Values};

/// Rounds each value once to binary16, to nearest even; magnitudes of 65,520 and more become infinities.
#[derive(Clone, Copy, Debug)]
pub struct CvcfFp16;

impl Codec for CvcfFp16 {
    fn name(&self) -> &'static str {
        "cvcf.fp16"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        // Halves that were packed are halves still.
        if input == DType::F16 { DType::F16 } else { DType::F32 }
    }

    fn plan(
        &self,
        shape: ChunkShape,
        _dtype: DType,
        _params: &Params,
        payload_len: u64,
        out: DType,
    ) -> Result<DecodePlan, CodecError> {
        Ok(DecodePlan::new(shape, Load::WidenF16, out, payload_len)?)
    }

    fn encode(&self, rows: Rows<'_>, out: &mut EncodedChunk) -> Result<(), CodecError> {
        out.params = Params::None;
        let payload = &mut out.payload;
        match rows.values() {
            Values::F16(values) => store(values, payload, |value| value),
            Values::F32(values) => store(values, payload, f16_from_f32),
            Values::F64(values) => store(values, payload, f16_from_f64),
            // A shift, so that NaN payloads stay; `half` quiets.
            Values::Bf16(values) => store(values, payload, |value: bf16| {
                f16_from_f32(f32::from_bits(u32::from(value.to_bits()) << 16))
            }),
            // Integers: exact in f64 up to 2^53, and beyond 65,520 the result is an infinity anyway.
            Values::I8(values) => store(values, payload, |value| f16_from_f64(f64::from(value))),
            Values::I16(values) => store(values, payload, |value| f16_from_f64(f64::from(value))),
            Values::I32(values) => store(values, payload, |value| f16_from_f64(f64::from(value))),
            Values::I64(values) => store(values, payload, |value| f16_from_f64(value as f64)),
            Values::U8(values) => store(values, payload, |value| f16_from_f64(f64::from(value))),
            Values::U16(values) => store(values, payload, |value| f16_from_f64(f64::from(value))),
            Values::U32(values) => store(values, payload, |value| f16_from_f64(f64::from(value))),
            Values::U64(values) => store(values, payload, |value| f16_from_f64(value as f64)),
        }
        Ok(())
    }

    fn max_encoded_len(&self, shape: ChunkShape, _dtype: DType) -> u64 {
        shape.values().saturating_mul(2)
    }
}

/// Replaces `payload` by the little-endian halves that `narrow` makes of `values`.
fn store<T: Copy>(values: &[T], payload: &mut Vec<u8>, narrow: impl Fn(T) -> f16) {
    payload.resize(values.len() * 2, 0);
    for (value, half) in values.iter().zip(payload.as_chunks_mut().0) {
        *half = narrow(*value).to_bits().to_le_bytes();
    }
}

/// The f32 of a half, for the codecs that compute with halves.
pub(super) fn f32_of(half: f16) -> f32 {
    widen(half.to_bits())
}
