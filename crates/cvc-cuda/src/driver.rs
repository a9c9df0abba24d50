//! Memory of the device, pinned memory of the host, and copies between them: what owns each, and what may touch it when.
//!
//! cudarc's own types for these tie every use to events, or copy whole slices, or pin memory that is slow to read. Here
//! there are two owners and three copies; what orders them is a stream, and [`crate::slot::Slot`] on top.
#![expect(unsafe_code, reason = "it owns memory that the driver gives, and copies it")]

use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaStream};

/// Consecutive bytes of device memory that work on streams of this crate may touch.
///
/// Invariant: [`Region::new`] was promised that, for as long as the buffer or slot is borrowed that the region is of; which
/// is until the streams that were given its address have done their work ([`crate::backend`] waits before it returns).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    start: u64,
    len: u64,
}

impl Region {
    /// # Safety
    /// The invariant of the type.
    pub(crate) unsafe fn new(start: u64, len: u64) -> Self {
        Region { start, len }
    }

    pub(crate) fn start(self) -> u64 {
        self.start
    }

    pub(crate) fn len(self) -> u64 {
        self.len
    }

    /// Whether these bytes are all in it.
    pub(crate) fn holds(self, start: u64, len: u64) -> bool {
        start >= self.start && start - self.start <= self.len && len <= self.len - (start - self.start)
    }

    /// The `len` bytes from `offset` on.
    pub(crate) fn part(self, offset: u64, len: u64) -> Region {
        assert!(offset <= self.len && len <= self.len - offset, "a part outside its region");
        Region { start: self.start + offset, len }
    }
}

/// Device memory, allocated and freed in the order of a stream.
///
/// Invariant: `address` is `len` bytes of memory of the stream's device, allocated by it and freed only in `drop`; nothing if
/// `len` is 0.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    stream: Arc<CudaStream>,
    address: u64,
    len: usize,
}

impl DeviceMemory {
    /// Memory that holds anything, for work on `stream`, or on others that wait for it.
    pub(crate) fn new(stream: &Arc<CudaStream>, len: usize) -> Result<Self, DriverError> {
        let context = stream.context();
        context.bind_to_thread()?;
        let address = if len == 0 {
            0
        } else if context.has_async_alloc() {
            // SAFETY: the stream lives as long as the `Arc`; what is in the memory is not read before it is written.
            unsafe { result::malloc_async(stream.cu_stream(), len) }?
        } else {
            // SAFETY: what is in the memory is not read before it is written.
            unsafe { result::malloc_sync(len) }?
        };
        Ok(DeviceMemory { stream: stream.clone(), address, len })
    }

    pub(crate) fn region(&self) -> Region {
        // SAFETY: the invariant of this type; whoever has a `DeviceMemory` waits before it is dropped.
        unsafe { Region::new(self.address, self.len as u64) }
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        let context = self.stream.context();
        // What fails here is reported by the next call that can fail.
        context.record_err(context.bind_to_thread());
        context.record_err(if context.has_async_alloc() {
            // SAFETY: allocated by `new` on this stream, and freed only here.
            unsafe { result::free_async(self.address, self.stream.cu_stream()) }
        } else {
            // SAFETY: allocated by `new`, and freed only here.
            unsafe { result::free_sync(self.address) }
        });
    }
}

/// Memory of the host that the device copies from and to by itself. Cached, not write-combined: checksums read it.
///
/// Invariant: `bytes` is `len` bytes that the driver allocated, all of them written, freed only in `drop`.
#[derive(Debug)]
pub(crate) struct Pinned {
    context: Arc<CudaContext>,
    bytes: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its memory like a box; the driver may free it on any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Memory of zeros.
    pub(crate) fn new(context: &Arc<CudaContext>, len: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: flags 0 are cached memory; it is written before it is read, below.
        let pointer = unsafe { result::malloc_host(len, 0) }?;
        let bytes = NonNull::new(pointer.cast::<u8>()).expect("the driver gave memory");
        // SAFETY: `len` bytes that nobody else has.
        unsafe { bytes.write_bytes(0, len) };
        Ok(Pinned { context: context.clone(), bytes, len })
    }

    /// All of it. No copy from or to it may be under way: [`crate::slot::Slot`] sees to that.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the invariant of the type; `&mut self` and the caller's promise make it ours alone.
        unsafe { core::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.len) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: allocated by `new`, and freed only here. Nothing copies any more: the owner has waited.
        self.context.record_err(unsafe { result::free_host(self.bytes.as_ptr().cast()) });
    }
}

/// Puts zeros into device memory, on the stream.
pub(crate) fn clear(stream: &CudaStream, memory: &DeviceMemory) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: the invariant of the type.
    unsafe { result::memset_d8_async(memory.address, 0, memory.len, stream.cu_stream()) }
}

/// Puts a copy of one to the other, which is as long, on the stream.
#[cfg(feature = "_bench")]
pub(crate) fn copy_within(
    stream: &CudaStream,
    from: &DeviceMemory,
    to: &DeviceMemory,
) -> Result<(), DriverError> {
    assert_eq!(from.len, to.len);
    stream.context().bind_to_thread()?;
    // SAFETY: the invariant of the type, of both.
    unsafe { result::memcpy_dtod_async(to.address, from.address, to.len, stream.cu_stream()) }
}

/// Puts a copy of the first bytes of `from` to all of `to` on the stream.
///
/// # Safety
/// `from` is neither written nor freed until the copy is done.
pub(crate) unsafe fn copy_to_device(
    stream: &CudaStream,
    from: &Pinned,
    to: Region,
) -> Result<(), DriverError> {
    let len = usize::try_from(to.len).expect("no more than is pinned");
    assert!(len <= from.len);
    stream.context().bind_to_thread()?;
    // SAFETY: `len` bytes of `from`, by the invariant of the type and the assertion above.
    let bytes = unsafe { core::slice::from_raw_parts(from.bytes.as_ptr(), len) };
    // SAFETY: the caller's promise, and the invariant of `Region`.
    unsafe { result::memcpy_htod_async(to.start, bytes, stream.cu_stream()) }
}

/// Puts a copy of all of `from` to the start of `to` on the stream.
///
/// # Safety
/// `to` is neither read nor written nor freed until the copy is done.
pub(crate) unsafe fn copy_to_host(
    stream: &CudaStream,
    from: Region,
    to: &mut Pinned,
) -> Result<(), DriverError> {
    let len = usize::try_from(from.len).expect("no more than is pinned");
    assert!(len <= to.len);
    stream.context().bind_to_thread()?;
    // SAFETY: `len` bytes of `to`, by the invariant of the type and the assertion above.
    let bytes = unsafe { core::slice::from_raw_parts_mut(to.bytes.as_ptr(), len) };
    // SAFETY: the caller's promise, and the invariant of `Region`.
    unsafe { result::memcpy_dtoh_async(bytes, from.start, stream.cu_stream()) }
}
