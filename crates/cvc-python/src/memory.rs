//! Memory of Python objects, as slices. The only unsafe code of this crate that has to do with arrays.
#![allow(unsafe_code, reason = "the buffer protocol hands out pointers; the proofs are at each use")]

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Contiguous memory of an object that is kept alive and in place as long as this lives.
///
/// Python cannot promise that no other thread writes there meanwhile; as with every function of NumPy that lets go of
/// the interpreter, that is the caller's part.
pub(crate) struct Memory(PyUntypedBuffer);

impl Memory {
    /// The memory of anything with the buffer protocol, to be read.
    ///
    /// # Errors
    /// The object has no such memory, or it is not contiguous in C order.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Memory> {
        let buffer = PyUntypedBuffer::get(object)?;
        if buffer.is_c_contiguous() {
            Ok(Memory(buffer))
        } else {
            Err(PyBufferError::new_err("the memory is not contiguous in C order"))
        }
    }

    /// The same, to be written.
    ///
    /// # Errors
    /// As [`Memory::of`], and if the memory is read-only.
    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Memory> {
        let memory = Memory::of(object)?;
        if memory.0.readonly() {
            return Err(PyValueError::new_err("the memory is read-only"));
        }
        Ok(memory)
    }

    /// What the values are: the format that the buffer protocol has for it, and how many bytes each has.
    pub(crate) fn format(&self) -> (&[u8], usize) {
        (self.0.format().to_bytes(), self.0.item_size())
    }

    pub(crate) fn shape(&self) -> &[usize] {
        if self.0.dimensions() == 0 { &[] } else { self.0.shape() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the buffer is contiguous, so `len_bytes` bytes lie at `buf_ptr`; its object may neither move nor free
        // them before it is released, which is when `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), self.0.len_bytes()) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.0.len_bytes() == 0 {
            return &mut [];
        }
        // SAFETY: as above; `writable` made sure that they may be written, and `&mut self` that we lend them once.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf_ptr().cast::<u8>(), self.0.len_bytes()) }
    }
}

/// New `bytes` of this length, all of them written by `fill`.
///
/// `PyBytes::new_with` would write zeros first, which for a large payload takes a tenth of the time that decoding does.
pub(crate) fn bytes_of<'py>(
    py: Python<'py>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> PyResult<()>,
) -> PyResult<Bound<'py, PyBytes>> {
    let signed = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: a null pointer asks for memory of this length, whatever it holds.
    let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), signed) };
    // SAFETY: a new reference that is ours, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    if len == 0 {
        fill(&mut [])?;
    } else {
        // SAFETY: it is a `bytes`.
        let pointer = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
        // SAFETY: `len` bytes that Python allocated and, as those of `numpy.empty`, may hold anything; nobody else has the
        // object yet.
        fill(unsafe { std::slice::from_raw_parts_mut(pointer.cast::<u8>(), len) })?;
    }
    Ok(object.cast_into()?)
}
