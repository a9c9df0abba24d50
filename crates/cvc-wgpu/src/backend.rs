//! The pipeline: from a batch to values in memory of the device.
//!
//! ```text
//! for stage in stages(batch) { read and inflate on the host; copy to the device; one dispatch }
//! ```
//!
//! 1. [`stages`](crate::stages) says what one dispatch decodes.
//! 2. While the device works on a stage the host prepares the next, in another [slot](crate::ring). Bytes are read with
//!    [`Payloads::read`] into memory of ours and copied to mapped memory from there: wgpu does not let anybody read mapped
//!    memory, and a file that is mapped must not be touched by the driver.
//! 3. Only the host can inflate streams and find its way in a payload of `dict_planes`. It writes inflated bytes and cut-out codes
//!    to the slot; the shader does the rest.
//! 4. Of several failures the one of the lowest destination row is reported: what fails on the host, or was found damaged by a
//!    shader, is done again by the reference, in the order of the destination.
//! 5. `decode` returns when every slot can be mapped again, which proves that the device has done its work and is still there.

use std::num::NonZero;

use cvc_codec::ops::DictPlanes;
use cvc_codec::{
    Backend, Batch, BlockRun, DType, DecodeError, DecodePlan, DeviceBuffer, DeviceInfo, DeviceKind,
    DeviceMemory, HostBuffer, Inflater, Job, Load, Payloads, ReferenceBackend, RunBytes, Sources, Stream,
    Unsupported,
};
use wgpu::{BufferUsages, Limits, MapMode};

use crate::adapter::{Adapter, OpenError, check_limits, name_of};
use crate::buffer::{QUAD, WgpuBuffer};
use crate::gpu::{Gpu, Mapping, bug, failed};
use crate::ops::{self, Packer};
use crate::pipelines::Pipelines;
use crate::ring::{Idle, READBACK_LEN, Ring, SLOT_LEN};
use crate::shaders::frame;
use crate::stages::{self, HEADER_LEN, Piece, Room, Stage};

/// Bytes that a stage makes at most, unless a row is longer.
const OUT_LEN: u64 = 32 << 20;

/// Bytes of blocks that are read together, unless one block is longer.
const RUN_LEN: u64 = 1 << 20;

/// Bytes that are bound at most, whatever the device allows: offsets in a slot have 32 bits, also in bits of codes.
const BINDING_LEN: u64 = 256 << 20;

/// Decodes on a GPU, into its memory.
#[derive(Debug)]
pub struct WgpuBackend {
    gpu: Gpu,
    info: DeviceInfo,
    limits: Limits,
    pipelines: Pipelines,
    idle: Idle,
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
    fn binding_len(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size).min(BINDING_LEN)
    }

    /// The most bytes that one dispatch can make.
    fn dispatch_len(&self) -> u64 {
        u64::from(self.limits.max_compute_workgroups_per_dimension).pow(2) * frame::WORKGROUP as u64 * QUAD
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
    fn on_device<T>(&self, work: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
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
                scratch: Scratch::default(),
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
    fn copy_out(
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
    scratch: Scratch,
}

impl Run<'_> {
    /// Prepares a stage and submits it.
    fn stage(&mut self, stage: &Stage<'_>) -> Result<(), DecodeError> {
        let slot = self.ring.take(stage.len)?;
        let packed = slot.view().and_then(|view| self.pack(stage, view));
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
        let place = self.place(stage);
        if matches!(stage.pieces[0].plan.load(), Load::DictPlanes) {
            self.damage.get_or_insert_with(|| Damage::new(&gpu.device));
        }
        let entries: Vec<_> = shader
            .bindings
            .iter()
            .map(|binding| {
                let (buffer, offset, len) = match binding.name {
                    "encoded" => (&slot.encoded, 0, used),
                    "decoded" => (self.dst.buffer(), place.offset, place.len),
                    "damaged" => {
                        let damage = self.damage.as_ref().expect("made for the only op that binds it");
                        (&damage.flag, 0, Damage::LEN)
                    }
                    other => unreachable!("no shader binds {other}"),
                };
                let resource = wgpu::BufferBinding { buffer, offset, size: NonZero::new(len) };
                wgpu::BindGroupEntry {
                    binding: binding.number,
                    resource: wgpu::BindingResource::Buffer(resource),
                }
            })
            .collect();
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&slot.upload, 0, &slot.encoded, 0, used);
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

    /// Where a stage goes.
    fn place(&self, stage: &Stage<'_>) -> Place {
        let plan = stage.pieces[0].plan;
        let row_len = u64::from(plan.dim()) * plan.out().size() as u64;
        let bytes = stage.dst_row * row_len..(stage.dst_row + stage.rows) * row_len;
        let offset = bytes.start - bytes.start % self.backend.alignment();
        let first_quad = bytes.start / QUAD * QUAD;
        let end = bytes.end.next_multiple_of(QUAD);
        Place {
            offset,
            len: end - offset,
            first_quad: word((first_quad - offset) / QUAD),
            quads: word((end - first_quad) / QUAD),
            skipped: word((bytes.start - first_quad) / ops::unit_len(plan)),
            units: word((bytes.end - bytes.start) / ops::unit_len(plan)),
            row_units: word(row_len / ops::unit_len(plan)),
        }
    }

    /// Reads what the pieces of a stage need and puts it into the mapped memory of a slot; says how much of that is used.
    fn pack(&mut self, stage: &Stage<'_>, view: wgpu::BufferViewMut) -> Result<u64, DecodeError> {
        let place = self.place(stage);
        let mut packer = Packer::new(view, stage.pieces.len());
        let mut order: Vec<(usize, u32)> = Vec::with_capacity(stage.pieces.len());
        let mut units_before = 0;
        for (index, piece) in stage.pieces.iter().enumerate() {
            order.push((index, units_before));
            units_before += place.row_units * (piece.rows.end - piece.rows.start);
        }
        // As they lie in the file. A chunk that has two plans is read for each of them.
        let by_place = |(index, _): &(usize, u32)| {
            let piece = &stage.pieces[*index];
            (piece.chunk, std::ptr::from_ref(piece.plan), piece.rows.start)
        };
        order.sort_unstable_by_key(by_place);
        let mut rest = order.as_slice();
        while let Some((first, _)) = rest.first() {
            let first = &stage.pieces[*first];
            let whole = matches!(first.plan.load(), Load::DictPlanes);
            let parts = first.plan.parts();
            let mut blocks = if whole { 0..1 } else { parts.blocks_of(first.rows.clone()) };
            // Those in blocks that overlap or are side by side, as long as they are not too many.
            let joins = |(next, _): &&(usize, u32)| {
                let next = &stage.pieces[*next];
                if next.chunk != first.chunk || !std::ptr::eq(next.plan, first.plan) {
                    return false;
                }
                if whole {
                    return true;
                }
                let of_next = parts.blocks_of(next.rows.clone());
                let end = blocks.end.max(of_next.end);
                let joins = of_next.start < blocks.end
                    || of_next.start == blocks.end && parts.len_of(blocks.start..end) <= RUN_LEN;
                if joins {
                    blocks.end = end;
                }
                joins
            };
            let count = 1 + rest[1..].iter().take_while(joins).count();
            let (together, after) = rest.split_at(count);
            rest = after;
            let run = BlockRun { chunk: first.chunk, parts, blocks };
            self.scratch.read(self.src, &run)?;
            self.scratch.put(&mut packer, &run, stage, together)?;
        }
        let mut header = [0; frame::HEADER_WORDS];
        header[frame::ZERO] = 0;
        header[frame::FIRST_QUAD] = place.first_quad;
        header[frame::QUADS] = place.quads;
        header[frame::SKIPPED] = place.skipped;
        header[frame::UNITS] = place.units;
        header[frame::ROW_UNITS] = place.row_units;
        header[frame::PIECES] = word(stage.pieces.len() as u64);
        header[frame::PIECE_LIST] = word(frame::HEADER_WORDS as u64);
        Ok(packer.finish(header))
    }
}

/// Where a stage goes in the destination, in the words of the frame.
struct Place {
    /// Where the binding begins, and how long it is.
    offset: u64,
    len: u64,
    first_quad: u32,
    quads: u32,
    skipped: u32,
    units: u32,
    row_units: u32,
}

impl Place {
    /// A grid of workgroups that has an invocation for every quad.
    fn workgroups(&self, invocations: u32, most: u32) -> (u32, u32) {
        let groups = self.quads.div_ceil(invocations);
        let x = groups.min(most);
        (x, groups.div_ceil(x))
    }
}

/// A count of what is in one binding.
fn word(count: u64) -> u32 {
    u32::try_from(count).expect("a binding is at most 256 MiB")
}

/// What the host keeps from run to run.
#[derive(Default)]
struct Scratch {
    encoded: Vec<u8>,
    len: usize,
    inflated: Vec<u8>,
    inflater: Inflater,
}

impl Scratch {
    fn read(&mut self, src: &dyn Payloads, run: &BlockRun<'_>) -> Result<(), DecodeError> {
        self.len = run.byte_len();
        if self.encoded.len() < self.len {
            self.encoded.resize(self.len, 0);
        }
        let read = src.read(run, &mut self.encoded[..self.len]);
        read.map_err(|error| DecodeError::Source { chunk: run.chunk, error })
    }

    /// Puts pieces of the run that was read.
    fn put(
        &mut self,
        packer: &mut Packer,
        run: &BlockRun<'_>,
        stage: &Stage<'_>,
        pieces: &[(usize, u32)],
    ) -> Result<(), DecodeError> {
        let blame = |error| DecodeError::Payload { chunk: run.chunk, error };
        let plan = stage.pieces[pieces[0].0].plan;
        let encoded = &self.encoded[..self.len];
        if matches!(plan.load(), Load::DictPlanes) {
            let planes = DictPlanes::parse(encoded, plan.shape().values()).map_err(blame)?;
            for (index, units_before) in pieces {
                packer.dict_piece(*index, *units_before, &stage.pieces[*index], &planes);
            }
            return Ok(());
        }
        let bytes = RunBytes::Ranges(encoded);
        let sources =
            Sources::new(plan, run, bytes, &mut self.inflater, &mut self.inflated).map_err(blame)?;
        for (index, units_before) in pieces {
            packer.piece(*index, *units_before, &stage.pieces[*index], &sources).map_err(blame)?;
        }
        Ok(())
    }
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

/// The failure of the lowest destination row among pieces in that order, found by the reference.
fn first_error<'s, 'p: 's>(
    pieces: impl IntoIterator<Item = &'s Piece<'p>>,
    src: &dyn Payloads,
) -> Option<DecodeError> {
    /// Bytes that are decoded at a time. Payloads without rows are taken apart anew each time.
    const LEN: u64 = 1 << 20;
    const WHOLE_LEN: u64 = 64 << 20;
    let judge = ReferenceBackend::default();
    let mut memory: Vec<u128> = Vec::new();
    for Piece { chunk, plan, rows } in pieces {
        let row_len = u64::from(plan.dim()) * plan.out().size() as u64;
        let most = if matches!(plan.load(), Load::DictPlanes) { WHOLE_LEN } else { LEN };
        let step = u32::try_from((most / row_len).max(1)).unwrap_or(u32::MAX);
        let mut start = rows.start;
        while start < rows.end {
            let part = start..rows.end.min(start.saturating_add(step));
            start = part.end;
            let count = u64::from(part.end - part.start);
            // A few megabytes, or one row, which a binding can hold.
            let len = usize::try_from(count * row_len).expect("in memory");
            memory.resize(len.div_ceil(size_of::<u128>()), 0);
            let job = Job { plan, chunk: *chunk, rows: part, dst_row: 0 };
            let batch = Batch::new(vec![job], count, plan.dim(), plan.out()).expect("rows of a batch");
            let bytes = &mut bytemuck::cast_slice_mut(&mut memory)[..len];
            let mut dst = HostBuffer::from_bytes(plan.out(), bytes).expect("aligned for anything");
            if let Err(error) = judge.decode(&batch, src, &mut dst) {
                return Some(error);
            }
        }
    }
    None
}

/// What a device holds is little-endian; so is what a host that is not must give and take.
fn from_little_endian(bytes: &mut [u8], dtype: DType) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(dtype.component_size()).for_each(<[u8]>::reverse);
    }
}
