//! Rows that were decoded in memory of a card and stay there: `array.read(device="cuda")`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cvc::codec::DecodeError;
use cvc::{AnyBackend, CudaBackend, CudaBuffer, DType, DeviceMemory as _, HostBuffer};
use pyo3::exceptions::{PyAttributeError, PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::array::{new_array, viewable};
use crate::dlpack::{CPU, CUDA, Lent, capsule, check_stream};
use crate::dtype;
use crate::errors::of_class;
use crate::memory::Memory;

/// Memory of a card, and what keeps it.
pub(crate) struct OnDevice {
    buffer: CudaBuffer<'static>,
    backend: Arc<AnyBackend>,
    /// Whether another library knows the address.
    lent: AtomicBool,
}

impl OnDevice {
    fn cuda(&self) -> &CudaBackend {
        match &*self.backend {
            AnyBackend::Cuda(backend) => backend,
            _ => unreachable!("made by `read` on CUDA only"),
        }
    }

    /// The number of the card.
    pub(crate) fn number(&self) -> usize {
        self.cuda().index()
    }

    /// The address, for another library.
    pub(crate) fn lend(&self) -> u64 {
        self.lent.store(true, Ordering::Relaxed);
        self.buffer.device_ptr()
    }
}

impl Drop for OnDevice {
    fn drop(&mut self) {
        if *self.lent.get_mut() {
            // The memory is freed in the order of our stream, and the borrower may have work on another that still reads it.
            self.cuda().wait_for_all();
        }
    }
}

/// Rows in memory of a CUDA device. Everything in it is written: any stream may read it at once.
///
/// `torch.from_dlpack(rows)`, `cupy.from_dlpack(rows)` and `cupy.asarray(rows)` share the memory; `rows.numpy()` brings it to
/// the host.
#[pyclass(frozen, module = "cvc")]
pub(crate) struct DeviceArray {
    memory: Arc<OnDevice>,
    dtype: DType,
    shape: Vec<u64>,
}

impl DeviceArray {
    pub(crate) fn new(
        backend: Arc<AnyBackend>,
        buffer: CudaBuffer<'static>,
        dtype: DType,
        shape: Vec<u64>,
    ) -> DeviceArray {
        let memory = Arc::new(OnDevice { buffer, backend, lent: AtomicBool::new(false) });
        DeviceArray { memory, dtype, shape }
    }
}

#[pymethods]
impl DeviceArray {
    /// Rows, and the shape of a row.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    /// Number of axes.
    #[getter]
    fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// Number of values.
    #[getter]
    fn size(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes of device memory.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.size() * self.dtype.size() as u64
    }

    /// The dtype of NumPy.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        dtype::to_numpy(py, self.dtype)
    }

    /// `cuda:0`, ...
    #[getter]
    fn device(&self) -> String {
        format!("cuda:{}", self.memory.number())
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(usize::try_from(self.shape[0])?)
    }

    /// A copy in memory of the host.
    fn numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let values = new_array(py, &self.shape, self.dtype)?;
        if self.size() == 0 {
            return Ok(values);
        }
        let mut memory = Memory::writable(&viewable(&values, self.dtype)?)?;
        let bytes = memory.bytes_mut();
        let downloaded = py.detach(|| {
            let mut into = HostBuffer::from_bytes(self.dtype, bytes).map_err(|error| error.to_string())?;
            let of = &self.memory;
            of.cuda().download(&of.buffer, &mut into).map_err(|error: DecodeError| error.to_string())
        });
        downloaded.map_err(|problem| of_class(py, "DeviceError", problem))?;
        Ok(values)
    }

    /// NumPy's protocol: a copy in memory of the host.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            let problem = "the array lies on a device: it cannot be had without a copy to the host";
            return Err(PyValueError::new_err(problem));
        }
        let values = self.numpy(py)?;
        match dtype {
            Some(dtype) => values.call_method1("astype", (dtype, "K", "unsafe", true, false)),
            None => Ok(values),
        }
    }

    /// DLPack: the device's kind (2, CUDA) and number.
    fn __dlpack_device__(&self) -> (i32, usize) {
        (CUDA, self.memory.number())
    }

    /// DLPack: shares the memory. Nothing is waited for, on whatever stream: everything is written already.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<i64>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i64)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let number = i64::try_from(self.memory.number())?;
        match dl_device {
            Some((CPU, _)) if copy != Some(false) => {
                let values = self.numpy(py)?;
                let lent = Lent::Host(Memory::writable(&viewable(&values, self.dtype)?)?);
                return capsule(py, lent, self.dtype, &self.shape, max_version);
            }
            Some(device) if device != (CUDA, number) => {
                let problem =
                    format!("the memory is of cuda:{number}, and cannot be shared with device {device:?}");
                return Err(PyBufferError::new_err(problem));
            }
            _ => check_stream(stream)?,
        }
        if copy == Some(true) {
            return Err(PyBufferError::new_err(
                "copies on the device are not made here: read the rows again, or copy what is shared",
            ));
        }
        capsule(py, Lent::Cuda(self.memory.clone()), self.dtype, &self.shape, max_version)
    }

    /// Version 3 of the protocol of Numba and CuPy; not for bfloat16, which it has no name for.
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if self.dtype == DType::Bf16 {
            return Err(PyAttributeError::new_err(
                "__cuda_array_interface__ has no bfloat16: use from_dlpack, or read with dtype=\"float32\"",
            ));
        }
        let interface = PyDict::new(py);
        interface.set_item("shape", self.shape(py)?)?;
        interface.set_item("typestr", self.dtype(py)?.getattr("str")?)?;
        interface.set_item("data", (self.memory.lend(), false))?;
        interface.set_item("strides", py.None())?;
        // Everything is written: there is no stream to wait for.
        interface.set_item("stream", py.None())?;
        interface.set_item("version", 3)?;
        Ok(interface)
    }

    fn __getitem__(&self, _key: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "choose rows when reading, or share the memory: torch.from_dlpack(rows)[...]",
        ))
    }

    fn __repr__(&self) -> String {
        let shape: Vec<String> = self.shape.iter().map(u64::to_string).collect();
        format!(
            "<cvc.DeviceArray: {} {}, {}>",
            shape.join(" x "),
            dtype::numpy_name(self.dtype),
            self.device()
        )
    }
}
