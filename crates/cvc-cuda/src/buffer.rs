//! Where decoded values go: device memory that is ours, or the caller's.
#![expect(unsafe_code, reason = "a caller may give device memory by its address")]

use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use cvc_codec::{DType, DeviceBuffer};

use crate::backend::CudaBackend;
use crate::driver::{DeviceMemory, Region};

/// Values in the memory of a CUDA device.
///
/// Once [`decode`](cvc_codec::Backend::decode) has returned, everything in it is written and any stream may read it.
#[derive(Debug)]
pub struct CudaBuffer<'a> {
    dtype: DType,
    /// Invariant: memory of the device of `stream`, aligned for the dtype, a whole number of values; `owned` if it is ours.
    region: Region,
    stream: Arc<CudaStream>,
    #[expect(dead_code, reason = "frees the memory when it goes")]
    owned: Option<DeviceMemory>,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a> CudaBuffer<'a> {
    /// A buffer over device memory of the caller's: of another library's array, say.
    ///
    /// # Safety
    /// For all of `'a`, `device_ptr` is `byte_len` bytes of memory of the backend's device, in its primary context, that nothing
    /// else reads or writes while this buffer is used. Work that uses it and was given to a stream before has finished, or was
    /// given to the [stream](CudaBackend::stream_ptr) of the backend.
    ///
    /// # Panics
    /// It is not a whole number of values, or not aligned for them.
    pub unsafe fn from_raw(backend: &CudaBackend, dtype: DType, device_ptr: u64, byte_len: u64) -> Self {
        let size = dtype.size() as u64;
        assert!(byte_len.is_multiple_of(size), "{byte_len} bytes are not a whole number of {dtype} values");
        assert!(device_ptr.is_multiple_of(size), "{device_ptr:#x} is not aligned for {dtype}");
        // SAFETY: the caller's promise.
        let region = unsafe { Region::new(device_ptr, byte_len) };
        CudaBuffer { dtype, region, stream: backend.stream().clone(), owned: None, borrowed: PhantomData }
    }

    pub(crate) fn of(dtype: DType, memory: DeviceMemory, stream: &Arc<CudaStream>) -> CudaBuffer<'static> {
        let region = memory.region();
        CudaBuffer { dtype, region, stream: stream.clone(), owned: Some(memory), borrowed: PhantomData }
    }

    /// The address of the first value, for other libraries; 0 if there are no values. The memory goes with the buffer.
    pub fn device_ptr(&self) -> u64 {
        self.region.start()
    }

    /// How many values there are.
    pub fn values(&self) -> u64 {
        self.region.len() / self.dtype.size() as u64
    }

    /// The driver's handle of the stream that the memory was allocated on, and will be freed on.
    pub fn stream_ptr(&self) -> *mut core::ffi::c_void {
        self.stream.cu_stream().cast()
    }

    pub(crate) fn region(&self) -> Region {
        self.region
    }

    /// The first `values` values of it, as a destination of their own.
    ///
    /// # Panics
    /// It has fewer.
    pub(crate) fn first(&mut self, values: u64) -> CudaBuffer<'_> {
        let region = self.region.part(0, values * self.dtype.size() as u64);
        let (dtype, stream) = (self.dtype, self.stream.clone());
        CudaBuffer { dtype, region, stream, owned: None, borrowed: PhantomData }
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

impl DeviceBuffer for CudaBuffer<'_> {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn byte_len(&self) -> u64 {
        self.region.len()
    }
}
