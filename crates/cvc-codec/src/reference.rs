//! The obvious backend: one thread, one chunk at a time, the scalar ops. The judge of all others.

use cvc_format::DType;

use crate::backend::{
    Backend, BlockRun, DecodeError, DeviceInfo, DeviceKind, HostBuffer, Payloads, Unsupported,
};
use crate::job::{Batch, Job};
use crate::ops::{self, DictPlanes, PayloadError};
use crate::plan::{Affine, DecodePlan, Load};
use crate::rows::RowSlice;
use crate::scan::{Found, Queries, Scan, ScanBatch};
use crate::sources::{RunBytes, Sources};
use crate::stream::Inflater;

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
        let mut inflater = Inflater::default();
        let mut rest = dst.bytes_mut();
        for job in batch.jobs() {
            let (out, after) = rest.split_at_mut(job.rows.len() * row_len);
            rest = after;
            if !out.is_empty() {
                decode_job(job, src, &mut inflater, out)?;
            }
        }
        Ok(())
    }
}

impl Scan for ReferenceBackend {
    fn scan(
        &self,
        batch: &ScanBatch<'_>,
        src: &dyn Payloads,
        queries: &Queries<'_>,
        k: usize,
    ) -> Result<Found, DecodeError> {
        let (dim, dtype) = (batch.dim() as usize, batch.dtype());
        assert_eq!(batch.dim(), queries.dim(), "queries of the batch's dim");
        let mut found = Found::new(queries.len(), k);
        let mut inflater = Inflater::default();
        for job in batch.jobs() {
            let rows = job.rows.len();
            let len = rows * dim * dtype.size();
            // Words, for the alignment of any dtype.
            let mut words = vec![0u64; len.div_ceil(8)];
            let out = &mut bytemuck::cast_slice_mut(&mut words)[..len];
            if !out.is_empty() {
                let job = Job { plan: job.plan, chunk: job.chunk, rows: job.rows.clone(), dst_row: 0 };
                decode_job(&job, src, &mut inflater, out)?;
            }
            for row in 0..rows {
                let values = &out[row * dim * dtype.size()..(row + 1) * dim * dtype.size()];
                let values = RowSlice::from_bytes(dtype, 1, dim, values).expect("one row of the batch");
                for query in 0..queries.len() {
                    let score = queries.score(query, values);
                    found.offer(queries.metric(), query, job.first_row + row as u64, score);
                }
            }
        }
        Ok(found)
    }
}

/// Decodes one job into `out`, which has exactly its bytes.
fn decode_job(
    job: &Job<'_>,
    src: &dyn Payloads,
    inflater: &mut Inflater,
    out: &mut [u8],
) -> Result<(), DecodeError> {
    let (plan, chunk) = (job.plan, job.chunk);
    if matches!(plan.load(), Load::DictPlanes) {
        let encoded = read(&BlockRun { chunk, parts: plan.parts(), blocks: 0..1 }, src)?;
        let first = u64::from(job.rows.start) * u64::from(plan.shape().dim);
        return narrowed(plan, out, |values| {
            DictPlanes::parse(&encoded, plan.shape().values())
                .and_then(|planes| planes.decode(first, bytemuck::cast_slice_mut(values)))
        })
        .map_err(|error| DecodeError::Payload { chunk, error });
    }
    let row_len = plan.dim() as usize * plan.out().size();
    // One block, one row at a time: this is the judge, not the racer.
    for block in plan.parts().blocks_of(job.rows.clone()) {
        let run = BlockRun { chunk, parts: plan.parts(), blocks: block..block + 1 };
        let encoded = read(&run, src)?;
        let blame = |error| DecodeError::Payload { chunk, error };
        let mut scratch = Vec::new();
        let bytes = RunBytes::Ranges(&encoded);
        let sources = Sources::new(plan, &run, bytes, inflater, &mut scratch).map_err(blame)?;
        for row in sources.rows.start.max(job.rows.start)..sources.rows.end.min(job.rows.end) {
            let at = (row - job.rows.start) as usize * row_len;
            let out = &mut out[at..at + row_len];
            narrowed(plan, out, |values| load_row(plan, &sources, row, values)).map_err(blame)?;
        }
    }
    Ok(())
}

fn read(run: &BlockRun<'_>, src: &dyn Payloads) -> Result<Vec<u8>, DecodeError> {
    let mut encoded = vec![0; run.byte_len()];
    src.read(run, &mut encoded).map_err(|error| DecodeError::Source { chunk: run.chunk, error })?;
    Ok(encoded)
}

/// Loads the values of one row into `values`, as many as it holds.
fn load_row(
    plan: &DecodePlan,
    sources: &Sources<'_>,
    row: u32,
    values: &mut [u8],
) -> Result<(), PayloadError> {
    let dim = plan.dim() as usize;
    let source = |source: usize| sources.rows_of(source, row..row + 1);
    match plan.load() {
        Load::Copy(dtype) => ops::copy::copy(&source(0)[..values.len()], dtype.component_size(), values),
        Load::WidenF16 => ops::widen_f16::widen_f16(&source(0)[..dim * 2], bytemuck::cast_slice_mut(values)),
        Load::WidenBf16 => {
            ops::widen_bf16::widen_bf16(&source(0)[..dim * 2], bytemuck::cast_slice_mut(values))
        }
        Load::AffineU8(Affine::Chunk { scale, min }) => {
            ops::affine_u8::affine_u8(&source(0)[..dim], *scale, *min, bytemuck::cast_slice_mut(values));
        }
        Load::AffineU8(Affine::Dim { scale, min }) => {
            let values = bytemuck::cast_slice_mut(values);
            ops::affine_u8::affine_u8_dims(&source(0)[..dim], &scale[..dim], &min[..dim], values);
        }
        Load::AffineU8(Affine::Row) => {
            let min = ops::affine_u8::row_parameter(source(1), row, "minimum")?;
            let scale = ops::affine_u8::row_parameter(source(2), row, "scale")?;
            ops::affine_u8::affine_u8(&source(0)[..dim], scale, min, bytemuck::cast_slice_mut(values));
        }
        Load::LutU8(table) => ops::lut_u8::lut_u8(&source(0)[..dim], table, bytemuck::cast_slice_mut(values)),
        Load::Rotated { codes, rotation, centre } => {
            let scale = ops::affine_u8::row_parameter(source(1), row, "scale")?;
            let mut scratch = vec![0; 2 * rotation.dim()];
            let values = bytemuck::cast_slice_mut(values);
            ops::rotated::rotated(*codes, rotation, source(0), scale, centre, &mut scratch, values);
        }
        Load::JoinPlanes { dtype, coded } => {
            let width = plan.shape().dim as usize;
            let first_lane = plan.parts().fields().len();
            let (mut lanes, mut stored) = (first_lane.., 0..);
            let planes: Vec<&[u8]> = (0..dtype.size())
                .map(|plane| {
                    let plane_bytes = if coded >> plane & 1 == 1 {
                        source(lanes.next().expect("without end"))
                    } else {
                        &source(0)[stored.next().expect("without end") * width..]
                    };
                    &plane_bytes[..dim]
                })
                .collect();
            ops::join_planes::join_planes(&planes, values);
        }
        Load::DictPlanes => unreachable!("it has no rows"),
    }
    Ok(())
}

/// Has `load` fill `out`, or a wide copy of it that is then narrowed.
fn narrowed(
    plan: &DecodePlan,
    out: &mut [u8],
    load: impl FnOnce(&mut [u8]) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    if !plan.narrows() {
        return load(out);
    }
    let mut wide = vec![0f32; out.len() / plan.out().size()];
    load(bytemuck::cast_slice_mut(&mut wide))?;
    match plan.out() {
        DType::F16 => ops::narrow::narrow_f16(&wide, bytemuck::cast_slice_mut(out)),
        DType::Bf16 => ops::narrow::narrow_bf16(&wide, bytemuck::cast_slice_mut(out)),
        other => unreachable!("nothing is narrowed to {other}"),
    }
    Ok(())
}
