//! Buffers that are used again: slots for stages on their way to the device, and buffers for values on their way back.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use cvc_codec::DecodeError;
use wgpu::{BufferUsages, BufferViewMut, MapMode, SubmissionIndex};

use crate::gpu::{Gpu, Mapping, bug};

/// How many slots a batch uses at most: one is filled, one is copied, one is decoded.
const SLOTS: usize = 3;

/// Bytes of a slot, unless a row needs more or a binding may not be so long.
pub(crate) const SLOT_LEN: u64 = 8 << 20;

/// Bytes of a buffer for values on their way back.
pub(crate) const READBACK_LEN: u64 = 8 << 20;

/// Idle buffers that are kept, of each kind.
const KEPT: usize = 8;

/// Where one stage is put: a buffer that the host writes, and the one that it is copied to, which shaders read.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) upload: wgpu::Buffer,
    pub(crate) encoded: wgpu::Buffer,
    len: u64,
}

impl Slot {
    fn new(gpu: &Gpu, len: u64) -> Slot {
        let upload = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("cvc upload"),
            size: len,
            usage: BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        let encoded = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("cvc encoded"),
            size: len,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Slot { upload, encoded, len }
    }

    /// Its mapped memory.
    pub(crate) fn view(&self) -> Result<BufferViewMut, DecodeError> {
        self.upload.slice(..).get_mapped_range_mut().map_err(bug)
    }
}

/// What is idle.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    /// Mapped.
    slots: Mutex<Vec<Slot>>,
    /// Not mapped, of [`READBACK_LEN`] bytes.
    readbacks: Mutex<Vec<wgpu::Buffer>>,
}

impl Idle {
    pub(crate) fn readback(&self, gpu: &Gpu) -> wgpu::Buffer {
        let idle = self.readbacks.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("cvc readback"),
                size: READBACK_LEN,
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
    }

    pub(crate) fn return_readback(&self, buffer: wgpu::Buffer) {
        keep(&self.readbacks, buffer);
    }

    /// Forgets all of it: what was in use while the device failed is of no use.
    pub(crate) fn clear(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.readbacks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn keep<T>(idle: &Mutex<Vec<T>>, item: T) {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < KEPT {
        idle.push(item);
    }
}

/// The slots of one batch, used in turn.
#[derive(Debug)]
pub(crate) struct Ring<'g> {
    gpu: &'g Gpu,
    idle: &'g Idle,
    /// Oldest first.
    in_flight: VecDeque<(Slot, Mapping)>,
    slot_len: u64,
}

impl<'g> Ring<'g> {
    pub(crate) fn new(gpu: &'g Gpu, idle: &'g Idle, slot_len: u64) -> Self {
        Ring { gpu, idle, in_flight: VecDeque::new(), slot_len }
    }

    /// A mapped slot of at least `len` bytes. Waits for the oldest in flight if there are enough of them.
    pub(crate) fn take(&mut self, len: u64) -> Result<Slot, DecodeError> {
        if self.in_flight.len() == SLOTS {
            self.land()?;
        }
        if len > self.slot_len {
            return Ok(Slot::new(self.gpu, len));
        }
        let idle = self.idle.slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(idle.unwrap_or_else(|| Slot::new(self.gpu, self.slot_len)))
    }

    /// A slot that is in use until `submission` is done.
    pub(crate) fn submitted(&mut self, slot: Slot, submission: SubmissionIndex) {
        let mapping = self.gpu.map(&slot.upload, MapMode::Write, submission);
        self.in_flight.push_back((slot, mapping));
    }

    /// A slot that was taken for nothing.
    pub(crate) fn return_slot(&self, slot: Slot) {
        // One row may have needed far more than all others.
        if slot.len == self.slot_len {
            keep(&self.idle.slots, slot);
        }
    }

    /// Waits for the oldest slot in flight.
    fn land(&mut self) -> Result<(), DecodeError> {
        if let Some((slot, mapping)) = self.in_flight.pop_front() {
            self.gpu.mapped(mapping)?;
            self.return_slot(slot);
        }
        Ok(())
    }

    /// Waits until everything that was submitted is done.
    pub(crate) fn finish(&mut self) -> Result<(), DecodeError> {
        while !self.in_flight.is_empty() {
            self.land()?;
        }
        Ok(())
    }
}
