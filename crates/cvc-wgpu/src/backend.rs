//! The pipeline: from a batch to values in memory of the device.
//!
//! ```text
//! for stage in stages(batch) { read and inflate on the host; copy to the device; one dispatch }
//! ```
//!
//! 1. [`stages`](crate::stages) says what one dispatch decodes.
//! 2. While the device works on a stage the host prepares the next, on all cores, in another [slot](crate::ring). Bytes are read with
//!    [`Payloads::read`] into memory of ours and copied to mapped memory from there: wgpu does not let anybody read mapped
//!    memory, and a file that is mapped must not be touched by the driver.
//! 3. Only the host can inflate streams and find its way in a payload of `dict_planes`. It writes inflated bytes and cut-out codes
//!    to the slot; the shader does the rest.
//! 4. Of several failures the one of the lowest destination row is reported: what fails on the host, or was found damaged by a
//!    shader, is done again by the reference, in the order of the destination.
//! 5. `decode` returns when every slot can be mapped again, which proves that the device has done its work and is still there.

use std::num::NonZero;

use cvc_codec::{
    Backend, Batch, DType, DecodeError, DecodePlan, DeviceBuffer, DeviceInfo, DeviceKind, DeviceMemory,
    HostBuffer, Load, Payloads, Stream, Unsupported,
};
use wgpu::{BufferUsages, Limits, MapMode};

use crate::adapter::{Adapter, OpenError, check_limits, name_of};
use crate::buffer::{QUAD, WgpuBuffer};
use crate::gpu::{Gpu, Mapping, bug, failed};
use crate::host::{Host, first_error};
use crate::ops;
use crate::pipelines::{Form, Pipelines, Shader};
use crate::ring::{Idle, READBACK_LEN, Ring, SLOT_LEN};
use crate::shaders::{self, frame};
use crate::stages::{self, HEADER_LEN, Room, Stage};

/// Bytes that a stage makes at most, unless a row is longer.
const OUT_LEN: u64 = 32 << 20;

/// Bytes that are bound at most, whatever the device allows: offsets in a slot have 32 bits, also in bits of codes.
const BINDING_LEN: u64 = 256 << 20;

/// Decodes on a GPU, into its memory.
#[derive(Debug)]
pub struct WgpuBackend {
    pub(crate) gpu: Gpu,
    info: DeviceInfo,
    pub(crate) limits: Limits,
    pub(crate) pipelines: Pipelines,
    pub(crate) idle: Idle,
}

impl WgpuBackend {
    /// A backend with a device of its own.
    ///
    /// # Errors
    /// The adapter lacks something that is needed, or its driver gives no device.
    pub fn open(adapter: &Adapter) -> Result<Self, OpenError> {
        adapter.check()?;
        let (device, queue) = adapter.request()?;
        Ok(WgpuBackend::new(Gpu::owned(device, queue)))
    }

    /// A backend on a device that the caller has, where its buffers can be bound. The handlers of the device stay the
    /// caller's; what goes wrong in calls made here is returned and does not reach them.
    ///
    /// # Errors
    /// The device was made with limits that are too low.
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self, OpenError> {
        check_limits(&device.adapter_info(), &device.limits())?;
        Ok(WgpuBackend::new(Gpu::borrowed(device, queue)))
    }

    fn new(gpu: Gpu) -> Self {
        let info = DeviceInfo::new(DeviceKind::Wgpu, name_of(&gpu.device.adapter_info()));
        let limits = gpu.device.limits();
        WgpuBackend { gpu, info, limits, pipelines: Pipelines::default(), idle: Idle::default() }
    }

    /// The device that decodes.
    pub fn wgpu_device(&self) -> &wgpu::Device {
        &self.gpu.device
    }

    /// The queue that work is submitted to.
    pub fn wgpu_queue(&self) -> &wgpu::Queue {
        &self.gpu.queue
    }

    /// The most bytes that can be bound.
    pub(crate) fn binding_len(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size).min(BINDING_LEN)
    }

    /// The most bytes that one dispatch can make. Some drivers have no limit but that of the type.
    fn dispatch_len(&self) -> u64 {
        let workgroups = u64::from(self.limits.max_compute_workgroups_per_dimension).saturating_pow(2);
        workgroups.saturating_mul(frame::WORKGROUP as u64 * QUAD)
    }

    /// What the beginning of a binding must be a multiple of.
    fn alignment(&self) -> u64 {
        u64::from(self.limits.min_storage_buffer_offset_alignment).max(QUAD)
    }

    /// The most bytes of the destination that a stage can have: a binding begins before them and ends after them.
    fn most_out_len(&self) -> u64 {
        self.binding_len().min(self.dispatch_len()).saturating_sub(self.alignment() + QUAD)
    }

    fn room(&self) -> Room {
        Room { slot_len: SLOT_LEN.min(self.binding_len()), out_len: OUT_LEN.min(self.most_out_len()) }
    }

    /// Does `work` on the device. After a failure nothing that was in use is used again.
    pub(crate) fn on_device<T>(
        &self,
        work: impl FnOnce() -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let result = self.gpu.scoped(work);
        if matches!(result, Err(DecodeError::Device { .. })) {
            self.pipelines.clear();
            self.idle.clear();
        }
        result
    }
}

impl Backend for WgpuBackend {
    type Buffer<'a> = WgpuBuffer;

    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        let (fixed, row) = ops::need(plan);
        let encoded = HEADER_LEN + fixed + row;
        let decoded = u64::from(plan.dim()) * plan.out().size() as u64;
        let problem = |what: &str, len: u64, most: u64| {
            let reason = format!("{what} has {len} bytes, and the device binds at most {most}");
            Err(Unsupported::new(DeviceKind::Wgpu, plan.load().name(), reason))
        };
        if encoded > self.binding_len() {
            return problem("a row with its parameters", encoded, self.binding_len());
        }
        if decoded > self.most_out_len() {
            return problem("a decoded row", decoded, self.most_out_len());
        }
        Ok(())
    }

    fn explain(&self, plan: &DecodePlan) -> String {
        let on_host = match (plan.load(), plan.stream()) {
            (Load::DictPlanes, _) => "take the payload apart on the host, ".to_owned(),
            (_, Stream::Stored) => String::new(),
            (_, stream) => format!("{} on the host, ", stream.name()),
        };
        let narrow = if plan.narrows() { format!(", narrow to {}", plan.out()) } else { String::new() };
        format!("{on_host}{}{narrow} on {}", plan.load().name(), self.info.name)
    }

    fn decode(&self, batch: &Batch<'_>, src: &dyn Payloads, dst: &mut WgpuBuffer) -> Result<(), DecodeError> {
        DecodeError::check_buffer(batch, dst)?;
        for job in batch.jobs() {
            self.supports(job.plan)?;
        }
        let room = self.room();
        let stages = stages::cut(batch, room);
        if stages.is_empty() {
            return Ok(());
        }
        self.on_device(|| {
            let mut run = Run {
                backend: self,
                src,
                dst,
                ring: Ring::new(&self.gpu, &self.idle, room.slot_len),
                damage: None,
                turned: None,
                host: Host::default(),
            };
            let outcome = stages.iter().try_for_each(|stage| run.stage(stage));
            // Whatever the outcome, nothing is left in flight.
            run.ring.finish()?;
            let damaged = match &run.damage {
                Some(damage) => damage.was_found(self)?,
                None => false,
            };
            if damaged {
                let pieces = stages.iter().flat_map(|stage| &stage.pieces);
                let unfound = || failed("a shader found a damaged payload where there is none; use the cpu");
                return Err(first_error(pieces, src).unwrap_or_else(unfound));
            }
            outcome
        })
    }
}

impl DeviceMemory for WgpuBackend {
    fn allocate(&self, dtype: DType, values: u64) -> Result<WgpuBuffer, DecodeError> {
        let byte_len = values.saturating_mul(dtype.size() as u64);
        let size = byte_len.max(1).checked_next_multiple_of(QUAD).unwrap_or(u64::MAX);
        if size > self.limits.max_buffer_size {
            return Err(failed(format!(
                "a buffer of {byte_len} bytes is above its limit of {}: read fewer rows at a time, or use the cpu",
                self.limits.max_buffer_size
            )));
        }
        self.on_device(|| {
            let buffer = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("cvc decoded"),
                size,
                usage: WgpuBuffer::USAGES,
                mapped_at_creation: false,
            });
            Ok(WgpuBuffer::new(buffer, dtype, byte_len))
        })
    }

    fn download(&self, from: &WgpuBuffer, into: &mut HostBuffer<'_>) -> Result<(), DecodeError> {
        DecodeError::check_destination(into, from.dtype(), from.byte_len())?;
        self.on_device(|| {
            // One part is on its way while the one before it is copied out.
            let mut on_its_way: Option<(wgpu::Buffer, Mapping, &mut [u8])> = None;
            let part_len = usize::try_from(READBACK_LEN).expect("megabytes");
            for (offset, part) in (0..).step_by(part_len).zip(into.bytes_mut().chunks_mut(part_len)) {
                let buffer = self.idle.readback(&self.gpu);
                let mapping = self.copy_back(from.buffer(), offset, &buffer, part.len() as u64);
                if let Some(part) = on_its_way.replace((buffer, mapping, part)) {
                    self.copy_out(part)?;
                }
            }
            on_its_way.map_or(Ok(()), |part| self.copy_out(part))
        })?;
        from_little_endian(into.bytes_mut(), from.dtype());
        Ok(())
    }

    fn upload(&self, from: &[u8], into: &mut WgpuBuffer) -> Result<(), DecodeError> {
        DecodeError::check_destination(into, into.dtype(), from.len() as u64)?;
        self.on_device(|| {
            let part_len = usize::try_from(SLOT_LEN).expect("megabytes");
            for (offset, part) in (0..).step_by(part_len).zip(from.chunks(part_len)) {
                // Copies are of whole words; the buffer is longer than its values.
                let mut part = part.to_vec();
                from_little_endian(&mut part, into.dtype());
                part.resize(part.len().next_multiple_of(4), 0);
                self.gpu.queue.write_buffer(into.buffer(), offset, &part);
                self.gpu.wait(self.gpu.queue.submit([]))?;
            }
            Ok(())
        })
    }
}

impl WgpuBackend {
    /// Copies bytes to a buffer and asks for it to be mapped.
    fn copy_back(&self, from: &wgpu::Buffer, offset: u64, into: &wgpu::Buffer, len: u64) -> Mapping {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(from, offset, into, 0, len.next_multiple_of(4));
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.gpu.map(into, MapMode::Read, submission)
    }

    /// Waits for such a buffer and takes its bytes.
    pub(crate) fn copy_out(
        &self,
        (buffer, mapping, part): (wgpu::Buffer, Mapping, &mut [u8]),
    ) -> Result<(), DecodeError> {
        self.gpu.mapped(mapping)?;
        part.copy_from_slice(&buffer.slice(..).get_mapped_range().map_err(bug)?[..part.len()]);
        buffer.unmap();
        self.idle.return_readback(buffer);
        Ok(())
    }
}

/// The work on one batch.
struct Run<'r> {
    backend: &'r WgpuBackend,
    src: &'r dyn Payloads,
    dst: &'r WgpuBuffer,
    ring: Ring<'r>,
    damage: Option<Damage>,
    /// Integers of rotated rows after each round, and bytes of each.
    turned: Option<(u64, [wgpu::Buffer; 2])>,
    host: Host,
}

impl Run<'_> {
    /// Prepares a stage and submits it.
    fn stage(&mut self, stage: &Stage<'_>) -> Result<(), DecodeError> {
        let place = stage.place(self.backend.alignment());
        let slot = self.ring.take(stage.len)?;
        let packed = slot.view().and_then(|view| self.host.pack(stage, &place, view, self.src));
        let used = match packed {
            Ok(used) => used,
            Err(error) => {
                // Still mapped.
                self.ring.return_slot(slot);
                let lowest = match error {
                    DecodeError::Device { .. } => None,
                    _ => first_error(&stage.pieces, self.src),
                };
                return Err(lowest.unwrap_or(error));
            }
        };
        slot.upload.unmap();

        let gpu = &self.backend.gpu;
        let shader = ops::shader(stage.pieces[0].plan.load());
        let pipeline = self.backend.pipelines.get(&gpu.device, shader, stage.form);
        if matches!(stage.pieces[0].plan.load(), Load::DictPlanes) {
            self.damage.get_or_insert_with(|| Damage::new(&gpu.device));
        }
        let is_rotated = matches!(stage.pieces[0].plan.load(), Load::Rotated { .. });
        if is_rotated && self.turned.as_ref().is_none_or(|(len, _)| *len < stage.len) {
            // As long as what is read for any stage but that of one long row, see `ops::need`.
            let len = stage.len.max(self.backend.room().slot_len).next_multiple_of(4);
            self.turned = Some((len, [(); 2].map(|()| turned_buffer(&gpu.device, len))));
        }
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&slot.upload, 0, &slot.encoded, 0, used);
        if let (true, Some((len, turned))) = (is_rotated, &self.turned) {
            let most = self.backend.limits.max_compute_workgroups_per_dimension;
            for (round, before, after) in [(0, &turned[1], &turned[0]), (1, &turned[0], &turned[1])] {
                let shader = &shaders::UNROTATE;
                let form =
                    Form { op: shader.name, unit_bits: 32, narrow_to: 0, planes: 0, round: Some(round) };
                let pipeline = self.backend.pipelines.get(&gpu.device, shader, form);
                let of_name = |name: &str| match name {
                    "encoded" => (&slot.encoded, 0, used),
                    "before" => (before, 0, *len),
                    "after" => (after, 0, *len),
                    other => unreachable!("no shader binds {other}"),
                };
                let bind_group = bind(&gpu.device, shader, &pipeline, of_name);
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&pipeline);
                pass.set_bind_group(0, &bind_group, &[]);
                // They take turns until all is done.
                let groups =
                    u32::try_from((stage.len / (4 * u64::from(ops::TURN))).max(1)).unwrap_or(u32::MAX);
                pass.dispatch_workgroups(groups.min(most), 1, 1);
            }
        }
        let of_name = |name: &str| match name {
            "encoded" => (&slot.encoded, 0, used),
            "decoded" => (self.dst.buffer(), place.offset, place.len),
            "damaged" => {
                let damage = self.damage.as_ref().expect("made for the only op that binds it");
                (&damage.flag, 0, Damage::LEN)
            }
            "turned" => {
                let (len, turned) = self.turned.as_ref().expect("made for the only op that binds it");
                (&turned[1], 0, *len)
            }
            other => unreachable!("no shader binds {other}"),
        };
        let bind_group = bind(&gpu.device, shader, &pipeline, of_name);
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            let (x, y) = place
                .workgroups(shader.workgroup[0], self.backend.limits.max_compute_workgroups_per_dimension);
            pass.dispatch_workgroups(x, y, 1);
        }
        let submission = gpu.queue.submit([encoder.finish()]);
        self.ring.submitted(slot, submission);
        Ok(())
    }
}

/// Binds what `of_name` says to each binding of a shader: a buffer, an offset and a length.
fn bind<'b>(
    device: &wgpu::Device,
    shader: &Shader,
    pipeline: &wgpu::ComputePipeline,
    of_name: impl Fn(&str) -> (&'b wgpu::Buffer, u64, u64),
) -> wgpu::BindGroup {
    let entries: Vec<_> = shader
        .bindings
        .iter()
        .map(|binding| {
            let (buffer, offset, len) = of_name(binding.name);
            let resource = wgpu::BufferBinding { buffer, offset, size: NonZero::new(len) };
            wgpu::BindGroupEntry {
                binding: binding.number,
                resource: wgpu::BindingResource::Buffer(resource),
            }
        })
        .collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(shader.name),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    })
}

/// A buffer of integers that stays on the device.
fn turned_buffer(device: &wgpu::Device, len: u64) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("cvc turned"),
        size: len.next_multiple_of(4),
        usage: BufferUsages::STORAGE,
        mapped_at_creation: false,
    })
}

/// Where shaders say that a payload is damaged.
struct Damage {
    flag: wgpu::Buffer,
}

impl Damage {
    const LEN: u64 = 4;

    /// Not damaged: buffers begin as zeros.
    fn new(device: &wgpu::Device) -> Damage {
        let flag = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("cvc damaged"),
            size: Damage::LEN,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Damage { flag }
    }

    fn was_found(&self, backend: &WgpuBackend) -> Result<bool, DecodeError> {
        let buffer = backend.idle.readback(&backend.gpu);
        let mapping = backend.copy_back(&self.flag, 0, &buffer, Damage::LEN);
        let mut flag = [0; 4];
        backend.copy_out((buffer, mapping, &mut flag))?;
        Ok(flag != [0; 4])
    }
}

/// What a device holds is little-endian; so is what a host that is not must give and take.
pub(crate) fn from_little_endian(bytes: &mut [u8], dtype: DType) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(dtype.component_size()).for_each(<[u8]>::reverse);
    }
}
