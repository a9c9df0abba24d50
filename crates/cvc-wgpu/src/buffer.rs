//! Memory of a device as a destination.

use cvc_codec::{DType, DeviceBuffer};

/// Values in memory of a device, one after another, as shaders see them: little-endian.
///
/// Made by [`DeviceMemory::allocate`](cvc_codec::DeviceMemory::allocate) of a [`WgpuBackend`](crate::WgpuBackend), whose
/// device alone can use it.
#[derive(Debug)]
pub struct WgpuBuffer {
    /// Invariant: at least `byte_len` bytes, a multiple of [`QUAD`], for storage and copies both ways.
    buffer: wgpu::Buffer,
    dtype: DType,
    byte_len: u64,
}

/// Bytes that an invocation writes.
pub(crate) const QUAD: u64 = 16;

impl WgpuBuffer {
    pub(crate) const USAGES: wgpu::BufferUsages =
        wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

    pub(crate) fn new(buffer: wgpu::Buffer, dtype: DType, byte_len: u64) -> Self {
        WgpuBuffer { buffer, dtype, byte_len }
    }

    /// The first `values` values of it, as a destination of their own.
    ///
    /// # Panics
    /// It has fewer.
    pub(crate) fn first(&self, values: u64) -> WgpuBuffer {
        let byte_len = values * self.dtype.size() as u64;
        assert!(byte_len <= self.byte_len, "no more than there are");
        WgpuBuffer { buffer: self.buffer.clone(), dtype: self.dtype, byte_len }
    }

    /// The buffer, which can be bound as storage and copied from. Its first [`DeviceBuffer::byte_len`] bytes are the values;
    /// it is a multiple of 16 bytes long.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// The same, to keep.
    pub fn into_buffer(self) -> wgpu::Buffer {
        self.buffer
    }
}

impl DeviceBuffer for WgpuBuffer {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn byte_len(&self) -> u64 {
        self.byte_len
    }
}
