//! Kernels and copies alone, timed by the device. For `crates/cvc/examples/bench_card.rs`, behind a feature of its own.

use std::time::Instant;

use cudarc::driver::CudaEvent;
use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUevent_flags;
use cvc_codec::{
    Batch, ChunkId, DType, DecodeError, DecodePlan, DeviceMemory as _, HostBuffer, Job, Payloads,
};

use crate::backend::CudaBackend;
use crate::buffer::CudaBuffer;
use crate::driver::{DeviceMemory, copy_within};
use crate::error::failed;
use crate::slot::Slot;
use crate::stage::{Layout, Scratch, between, room};
use crate::unit::{Run, whole_chunk};

/// What a kernel did.
#[derive(Debug)]
pub struct KernelTimes {
    /// The values that it made, for a comparison with the reference.
    pub values: Vec<u8>,
    /// Seconds of each launch.
    pub seconds: Vec<f64>,
}

/// Decodes chunk 0 of `src`, which is brought to device memory before, `turns` times.
///
/// # Errors
/// The device fails.
///
/// # Panics
/// The plan's payload has lanes or no rows.
pub fn kernel(
    backend: &CudaBackend,
    plan: &DecodePlan,
    src: &dyn Payloads,
    turns: usize,
) -> Result<KernelTimes, DecodeError> {
    let (rows, dim, out) = (plan.shape().rows, plan.dim(), plan.out());
    let job = Job { plan, chunk: ChunkId(0), rows: 0..rows, dst_row: 0 };
    let batch = Batch::new(vec![job], u64::from(rows), dim, out).expect("one job fills it");
    let dst = backend.allocate(out, batch.rows() * u64::from(dim))?;
    let runs: [Run<'_>; 1] = [whole_chunk(plan, ChunkId(0))];
    let mut slot = Slot::new(backend.stream()).map_err(failed)?;
    let left = slot.between(between(&runs)).map_err(failed)?;
    let (host, device) = slot.host(room(&runs)).map_err(failed)?;
    let mut layout = Layout::new(host, device, dst.region(), left);
    layout.run(&runs[0], src, &mut Scratch::default())?;
    let staged = layout.finish();
    let mut times = || -> Result<Vec<f64>, DriverError> {
        let timed = timed(backend)?;
        slot.run(backend.launcher(), &staged)?;
        let mut seconds = Vec::new();
        for _ in 0..turns {
            timed[0].record(backend.stream())?;
            slot.launch_again(backend.launcher(), &staged)?;
            timed[1].record(backend.stream())?;
            seconds.push(f64::from(timed[0].elapsed_ms(&timed[1])?) / 1e3);
        }
        Ok(seconds)
    };
    let seconds = times().map_err(failed)?;
    let values = values(backend, &dst)?;
    Ok(KernelTimes { values, seconds })
}

fn values(backend: &CudaBackend, buffer: &CudaBuffer<'_>) -> Result<Vec<u8>, DecodeError> {
    let dtype = cvc_codec::DeviceBuffer::dtype(buffer);
    let mut words = vec![0u64; usize::try_from(buffer.region().len()).expect("in memory").div_ceil(8)];
    let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)
        [..usize::try_from(buffer.region().len()).expect("above")];
    backend.download(buffer, &mut HostBuffer::from_bytes(dtype, bytes).expect("whole values"))?;
    Ok(bytes.to_vec())
}

fn timed(backend: &CudaBackend) -> Result<[CudaEvent; 2], DriverError> {
    let event = || backend.stream().context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
    Ok([event()?, event()?])
}

/// Seconds of copies of `len` bytes within the device, each of which reads and writes as many.
///
/// # Errors
/// The device fails.
pub fn copies_within(backend: &CudaBackend, len: usize, turns: usize) -> Result<Vec<f64>, DecodeError> {
    let run = || -> Result<Vec<f64>, DriverError> {
        let stream = backend.stream();
        let (from, to) = (DeviceMemory::new(stream, len)?, DeviceMemory::new(stream, len)?);
        let timed = timed(backend)?;
        (0..=turns)
            .map(|_| {
                timed[0].record(stream)?;
                copy_within(stream, &from, &to)?;
                timed[1].record(stream)?;
                Ok(f64::from(timed[0].elapsed_ms(&timed[1])?) / 1e3)
            })
            .skip(1)
            .collect()
    };
    run().map_err(failed)
}

/// Seconds of copies of `len` bytes from pinned memory to the device.
///
/// # Errors
/// The device fails.
pub fn copies_to_device(backend: &CudaBackend, len: usize, turns: usize) -> Result<Vec<f64>, DecodeError> {
    let run = || -> Result<Vec<f64>, DriverError> {
        let stream = backend.stream();
        let mut slot = Slot::new(stream)?;
        let (_, device) = slot.host(len)?;
        (0..=turns)
            .map(|_| {
                slot.wait()?;
                let start = Instant::now();
                slot.send(device.part(0, len as u64))?;
                slot.wait()?;
                Ok(start.elapsed().as_secs_f64())
            })
            .skip(1)
            .collect()
    };
    run().map_err(failed)
}

/// The outputs that f32 values can have.
pub const OUTPUTS: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];
