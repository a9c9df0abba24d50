//! The obvious backend: one thread, one chunk at a time, the scalar ops. The judge of all others.

use cvc_format::DType;

use crate::backend::{Backend, DecodeError, DeviceInfo, DeviceKind, HostBuffer, Payloads, Unsupported};
use crate::job::{Batch, Job};
use crate::ops::{self, DictPlanes};
use crate::plan::{DecodePlan, Load};

/// Decodes with the scalar reference of every op.
#[derive(Clone, Debug)]
pub struct ReferenceBackend {
    device: DeviceInfo,
}

impl Default for ReferenceBackend {
    fn default() -> Self {
        ReferenceBackend { device: DeviceInfo::new(DeviceKind::Cpu, "scalar reference") }
    }
}

impl Backend for ReferenceBackend {
    type Buffer<'a> = HostBuffer<'a>;

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn supports(&self, _plan: &DecodePlan) -> Result<(), Unsupported> {
        Ok(())
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: &mut HostBuffer<'_>,
    ) -> Result<(), DecodeError> {
        DecodeError::check_buffer(batch, dst)?;
        let row_len = (batch.dim() as usize).saturating_mul(batch.out().size());
        let mut rest = dst.bytes_mut();
        for job in batch.jobs() {
            let (out, after) = rest.split_at_mut(job.rows.len() * row_len);
            rest = after;
            if !out.is_empty() {
                decode_job(job, src, out)?;
            }
        }
        Ok(())
    }
}

/// Decodes one job into `out`, which has exactly its bytes.
fn decode_job(job: &Job<'_>, src: &dyn Payloads, out: &mut [u8]) -> Result<(), DecodeError> {
    let dim = u64::from(job.plan.shape().dim);
    let first = u64::from(job.rows.start) * dim;
    let (offset, len) = match job.plan.load().encoded_size() {
        Some(size) => (first * size as u64, job.rows.len() as u64 * dim * size as u64),
        None => (0, job.plan.payload_len()),
    };
    // In memory at once: this is the judge, not the racer.
    let mut encoded = vec![0; usize::try_from(len).expect("the file was opened on this machine")];
    src.read(job.chunk, offset, &mut encoded)
        .map_err(|error| DecodeError::Source { chunk: job.chunk, error })?;

    let value_count = out.len() / job.plan.out().size();
    let mut wide = vec![0.0; if job.plan.narrows() { value_count } else { 0 }];
    let values: &mut [f32] = match (job.plan.load(), job.plan.narrows()) {
        (Load::Copy(dtype), false) => {
            ops::copy::copy(&encoded, dtype.size(), out);
            return Ok(());
        }
        (_, true) => &mut wide,
        (_, false) => bytemuck::cast_slice_mut(out),
    };
    match job.plan.load() {
        Load::Copy(dtype) => ops::copy::copy(&encoded, dtype.size(), bytemuck::cast_slice_mut(values)),
        Load::WidenF16 => ops::widen_f16::widen_f16(&encoded, values),
        Load::AffineU8 { scale, min } => ops::affine_u8::affine_u8(&encoded, *scale, *min, values),
        Load::LutU8(table) => ops::lut_u8::lut_u8(&encoded, table, values),
        Load::DictPlanes => DictPlanes::parse(&encoded, job.plan.shape().values())
            .and_then(|planes| planes.decode(first, values))
            .map_err(|error| DecodeError::Payload { chunk: job.chunk, error })?,
    }
    match job.plan.out() {
        DType::F16 if job.plan.narrows() => ops::narrow::narrow_f16(&wide, bytemuck::cast_slice_mut(out)),
        DType::Bf16 if job.plan.narrows() => ops::narrow::narrow_bf16(&wide, bytemuck::cast_slice_mut(out)),
        _ => {}
    }
    Ok(())
}
