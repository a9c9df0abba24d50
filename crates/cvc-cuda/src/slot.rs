//! A slot: pinned memory, device memory of the same size, and the stream on which one is copied to the other.
//!
//! Invariant: while work on the stream uses the pinned memory, `busy` is true and the event comes after that work. Only
//! [`Slot::host`] lends the memory, and it waits for the event first.
#![expect(unsafe_code, reason = "it lends memory that copies are under way to and from")]

use std::sync::Arc;

use cudarc::driver::result::DriverError;
use cudarc::driver::{CudaEvent, CudaStream};

use crate::driver::{DeviceMemory, Pinned, Region, copy_to_device, copy_to_host};
use crate::launch::{Launcher, Told};
use crate::stage::Staged;

/// The least bytes of a slot. Pinning memory costs as much as copying a thousand times as many bytes, so slots are kept.
const LEAST_LEN: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Slot {
    stream: Arc<CudaStream>,
    event: CudaEvent,
    busy: bool,
    memory: Option<(Pinned, DeviceMemory)>,
    /// What only kernels write.
    between: DeviceMemory,
}

impl Slot {
    /// A slot without memory.
    pub(crate) fn new(stream: &Arc<CudaStream>) -> Result<Self, DriverError> {
        let event = stream.context().new_event(None)?;
        let between = DeviceMemory::new(stream, 0)?;
        Ok(Slot { stream: stream.clone(), event, busy: false, memory: None, between })
    }

    /// Waits until nothing uses the slot.
    pub(crate) fn wait(&mut self) -> Result<(), DriverError> {
        if self.busy {
            self.event.synchronize()?;
            self.busy = false;
        }
        Ok(())
    }

    /// Waits until nothing uses the slot, and lends pinned memory of at least `len` bytes, and where it will be on the device.
    pub(crate) fn host(&mut self, len: usize) -> Result<(&mut [u8], Region), DriverError> {
        self.wait()?;
        if self.memory.as_ref().is_none_or(|(pinned, _)| pinned.len() < len) {
            // The old memory goes first: there may not be room for both.
            self.memory = None;
            let len = len.next_power_of_two().max(LEAST_LEN);
            let pinned = Pinned::new(self.stream.context(), len)?;
            self.memory = Some((pinned, DeviceMemory::new(&self.stream, len)?));
        }
        let (pinned, device) = self.memory.as_mut().expect("made above");
        Ok((pinned.bytes_mut(), device.region()))
    }

    /// Device memory of `len` bytes in which kernels leave what others take up, of the same launches.
    pub(crate) fn between(&mut self, len: usize) -> Result<Region, DriverError> {
        self.wait()?;
        if self.between.region().len() < len as u64 {
            // The old memory goes first: there may not be room for both.
            self.between = DeviceMemory::new(&self.stream, 0)?;
            self.between = DeviceMemory::new(&self.stream, len.next_power_of_two())?;
        }
        Ok(self.between.region())
    }

    /// Puts the copy of a slot that was laid out, and the launches that decode it, on the stream.
    pub(crate) fn run(&mut self, launcher: &Launcher, staged: &Staged) -> Result<(), DriverError> {
        let (_, device) = self.memory.as_ref().expect("`host` came before");
        self.send(device.region().part(0, staged.len as u64))?;
        self.launch_again(launcher, staged)
    }

    /// Puts the launches of what was [run](Slot::run) last on the stream.
    pub(crate) fn launch_again(&mut self, launcher: &Launcher, staged: &Staged) -> Result<(), DriverError> {
        self.busy = true;
        // SAFETY: the copy came before, on this stream; the device memory is written only by copies and launches on this stream and
        // freed in its order, and so is what `between` gave. `stage.rs` laid out the slot, and checked what each `aux` points to.
        let launched = unsafe { launcher.launch(&self.stream, &staged.pieces, staged.lists) };
        self.recorded(launched)
    }

    /// Puts what `told` says on the stream: the copy of the slot that it was written to, and the launches.
    pub(crate) fn search(&mut self, launcher: &Launcher, told: &Told) -> Result<(), DriverError> {
        let (_, device) = self.memory.as_ref().expect("`host` came before");
        let device = device.region();
        self.send(device.part(0, told.byte_len() as u64))?;
        self.busy = true;
        // SAFETY: the copy came before, on this stream; the device memory is written only by copies on this stream and freed in
        // its order. What `told` was made with lives until `wait` has returned: `scan.rs` owns it, and waits before it is dropped.
        let launched = unsafe { launcher.search(&self.stream, told, device.start()) };
        self.recorded(launched)
    }

    /// Has the event stand behind what `work` put on the stream, of which a part may be there if it failed. Where it cannot, all
    /// of the stream is waited for: `wait` must not pass at an older place.
    fn recorded(&mut self, work: Result<(), DriverError>) -> Result<(), DriverError> {
        let recorded = self.event.record(&self.stream);
        if recorded.is_err() {
            // If this fails, too, the device is lost and nothing runs any more.
            self.stream.context().record_err(self.stream.synchronize());
            self.busy = false;
        }
        work.and(recorded)
    }

    /// Puts the copy of the pinned memory's first bytes to device memory on the stream.
    pub(crate) fn send(&mut self, to: Region) -> Result<(), DriverError> {
        let (pinned, _) = self.memory.as_mut().expect("`host` came before");
        self.busy = true;
        // SAFETY: the memory is lent only by `host` and freed only by `host` and `drop`, all of which wait, as `busy` is set.
        let sent = unsafe { copy_to_device(&self.stream, pinned, to) };
        self.recorded(sent)
    }

    /// Puts the copy of device memory to the pinned memory on the stream; [`Slot::host`] then has it.
    pub(crate) fn fetch(&mut self, from: Region) -> Result<(), DriverError> {
        let (pinned, _) = self.memory.as_mut().expect("`host` came before");
        self.busy = true;
        // SAFETY: as in `send`.
        let sent = unsafe { copy_to_host(&self.stream, from, pinned) };
        self.recorded(sent)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Pinned memory must not go while it is copied. If waiting fails, the device is lost and nothing is copied any more.
        if self.busy {
            let context = self.stream.context();
            context.record_err(self.stream.synchronize());
        }
    }
}
