//! Tensors that other libraries lend us, and ours that they borrow, by DLPack 1.x: a capsule around a struct of C.
//!
//! NumPy speaks it too, but knows no bfloat16 and no memory of a device; that is what this is for.
#![allow(unsafe_code, reason = "structs of C behind capsules of Python; the proofs are at each use")]

use std::borrow::Cow;
use std::ffi::{CStr, c_void};
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use cvc::{AlignedBytes, DType};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::device::OnDevice;
use crate::errors::of_class;
use crate::memory::Memory;

const OLD: &CStr = c"dltensor";
const USED_OLD: &CStr = c"used_dltensor";
const NEW: &CStr = c"dltensor_versioned";
const USED_NEW: &CStr = c"used_dltensor_versioned";

/// `kDLCPU`.
pub(crate) const CPU: i32 = 1;
/// `kDLCUDA`.
pub(crate) const CUDA: i32 = 2;
/// Memory that the processor can read like its own: the CPU's, and what CUDA or ROCm pinned.
const READABLE: [i32; 3] = [CPU, 3, 11];
/// `DLPACK_FLAG_BITMASK_IS_COPIED`.
const IS_COPIED: u64 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
struct Device {
    kind: i32,
    id: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: Device,
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    /// In values; null for rows that lie one after another.
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
struct Old {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Old)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
struct New {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut New)>,
    flags: u64,
    tensor: Tensor,
}

impl DataType {
    fn of(dtype: DType) -> DataType {
        let code = match dtype {
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => 0,
            DType::U8 | DType::U16 | DType::U32 | DType::U64 => 1,
            DType::Bf16 => 4,
            DType::C64 | DType::C128 => 5,
            DType::Bool => 6,
            _ => 2,
        };
        // No value has more than 16 bytes.
        let bits = u8::try_from(8 * dtype.size()).unwrap_or(0);
        DataType { code, bits, lanes: 1 }
    }

    fn dtype(self) -> Option<DType> {
        let same = |dtype: &DType| {
            let DataType { code, bits, lanes } = DataType::of(*dtype);
            (code, bits, lanes) == (self.code, self.bits, self.lanes)
        };
        DType::ALL.into_iter().find(same)
    }
}

/// A struct that its producer handed over.
///
/// Invariant: it points to one that nobody has deleted, and that only `drop` deletes.
enum Managed {
    Old(NonNull<Old>),
    New(NonNull<New>),
}

impl Managed {
    /// Takes the struct out of its capsule, which then knows that it is empty.
    fn take(capsule: &Bound<'_, PyCapsule>) -> PyResult<Managed> {
        let (managed, used) = if capsule.is_valid_checked(Some(NEW)) {
            (Managed::New(capsule.pointer_checked(Some(NEW))?.cast()), USED_NEW)
        } else if capsule.is_valid_checked(Some(OLD)) {
            (Managed::Old(capsule.pointer_checked(Some(OLD))?.cast()), USED_OLD)
        } else {
            return Err(PyBufferError::new_err(
                "__dlpack__ returned a capsule that holds no tensor, or was used",
            ));
        };
        // SAFETY: it is a capsule, and the name is a constant.
        let renamed = unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), used.as_ptr()) };
        if renamed == 0 {
            return Ok(managed);
        }
        // It is still the capsule's, whose destructor will delete it.
        std::mem::forget(managed);
        Err(PyErr::fetch(capsule.py()))
    }

    fn tensor(&self) -> PyResult<&Tensor> {
        match self {
            // SAFETY: the invariant of this type.
            Managed::Old(managed) => Ok(unsafe { &managed.as_ref().tensor }),
            Managed::New(managed) => {
                // SAFETY: the invariant; the first three fields are the same in every version.
                let major = unsafe { managed.as_ref().major };
                if major > 1 {
                    let problem = format!("the tensor is one of DLPack {major}, and this version knows 1");
                    return Err(PyBufferError::new_err(problem));
                }
                // SAFETY: the invariant, and the version has these fields.
                Ok(unsafe { &managed.as_ref().tensor })
            }
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // Some deleters let go of objects of Python without asking for the interpreter.
        crate::interpreter::with(|| match self {
            Managed::Old(managed) => {
                // SAFETY: the invariant.
                if let Some(deleter) = unsafe { managed.as_ref().deleter } {
                    // SAFETY: the invariant: nobody has called it, and nobody will again.
                    unsafe { deleter(managed.as_ptr()) };
                }
            }
            Managed::New(managed) => {
                // SAFETY: the invariant.
                if let Some(deleter) = unsafe { managed.as_ref().deleter } {
                    // SAFETY: the invariant: nobody has called it, and nobody will again.
                    unsafe { deleter(managed.as_ptr()) };
                }
            }
        });
    }
}

/// A tensor of another library that the processor can read.
///
/// Invariant: at `data`, moved by the strides (in bytes) of any index within `shape`, lies a value of `dtype` as long as
/// `_managed` lives. That is what its producer said.
pub(crate) struct HostTensor {
    _managed: Managed,
    data: *const u8,
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

// SAFETY: the memory is only read, which any thread may do; the deleter runs under the interpreter.
unsafe impl Send for HostTensor {}
// SAFETY: the same.
unsafe impl Sync for HostTensor {}

impl HostTensor {
    /// Borrows the tensor of an object with `__dlpack__`.
    ///
    /// # Errors
    /// It lies on a device, has values that cannot be stored, or its library refuses.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<HostTensor> {
        let py = object.py();
        let (kind, id): (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
        if !READABLE.contains(&kind) {
            return Err(of_class(py, "ArgumentError", on_device(object, kind, id)));
        }
        let options = PyDict::new(py);
        options.set_item("max_version", (1, 1))?;
        let capsule = match object.call_method("__dlpack__", (), Some(&options)) {
            // Libraries of before 2024 do not know the argument.
            Err(error) if error.is_instance_of::<PyTypeError>(py) => object.call_method0("__dlpack__")?,
            capsule => capsule?,
        };
        let capsule = capsule.cast::<PyCapsule>().map_err(|_| {
            PyTypeError::new_err("__dlpack__ must return a capsule, and returned something else")
        })?;
        HostTensor::new(object, Managed::take(capsule)?)
    }

    fn new(object: &Bound<'_, PyAny>, managed: Managed) -> PyResult<HostTensor> {
        let tensor = managed.tensor()?;
        if !READABLE.contains(&tensor.device.kind) {
            let message = on_device(object, tensor.device.kind, tensor.device.id);
            return Err(of_class(object.py(), "ArgumentError", message));
        }
        let DataType { code, bits, lanes } = tensor.dtype;
        let dtype = tensor.dtype.dtype().ok_or_else(|| {
            PyTypeError::new_err(format!(
                "values of {bits} bits of DLPack's type {code} in {lanes} lanes cannot be stored: convert them first"
            ))
        })?;
        let wrong = || PyBufferError::new_err("the tensor has a shape that no tensor can have");
        let ndim = usize::try_from(tensor.ndim).map_err(|_| wrong())?;
        let numbers = |pointer: *const i64| -> Option<&[i64]> {
            match NonNull::new(pointer.cast_mut()) {
                _ if ndim == 0 => Some(&[]),
                None => None,
                // SAFETY: DLPack has one number for each axis at either pointer, for as long as the struct lives.
                Some(pointer) => Some(unsafe { std::slice::from_raw_parts(pointer.as_ptr(), ndim) }),
            }
        };
        let shape = numbers(tensor.shape).ok_or_else(wrong)?;
        let shape: Vec<usize> =
            shape.iter().map(|len| usize::try_from(*len)).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let len = shape.iter().try_fold(dtype.size(), |len, axis| len.checked_mul(*axis));
        let len = len.filter(|len| isize::try_from(*len).is_ok()).ok_or_else(wrong)?;
        let strides = match numbers(tensor.strides) {
            Some(strides) => strides
                .iter()
                .map(|stride| isize::try_from(*stride).ok()?.checked_mul(dtype.size().cast_signed()))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(wrong)?,
            None => compact(&shape, dtype.size()),
        };
        let offset = usize::try_from(tensor.byte_offset).map_err(|_| wrong())?;
        if tensor.data.is_null() && len > 0 {
            return Err(wrong());
        }
        let data = tensor.data.cast::<u8>().cast_const().wrapping_add(offset);
        Ok(HostTensor { data, dtype, shape, strides, _managed: managed })
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of these rows, one after another and aligned: where they lie if they lie so, else a copy.
    ///
    /// # Panics
    /// There are no such rows.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Lines<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.shape[0], "rows {rows:?} of {:?}", self.shape);
        let size = self.dtype.size();
        let row_len: usize = self.shape[1..].iter().product::<usize>() * size;
        let len = row_len * rows.len();
        if len == 0 {
            return Lines::There(&[]);
        }
        let start = self.data.wrapping_offset(self.strides[0] * rows.start.cast_signed());
        let one_after_another = self.strides.iter().zip(compact(&self.shape, size)).zip(&self.shape);
        let one_after_another = one_after_another
            .into_iter()
            // The stride of an axis of one is never used.
            .all(|((stride, compact), len)| *stride == compact || *len == 1);
        if one_after_another && start.addr().is_multiple_of(size) {
            // SAFETY: the invariant of this type: the rows exist and lie one after another from `start` on, and the
            // result borrows `self`.
            return Lines::There(unsafe { std::slice::from_raw_parts(start, len) });
        }
        let mut copy = AlignedBytes::new();
        let into = copy.resize(len).chunks_exact_mut(size);
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        // Counts through all indices, the last axis first.
        let mut index = vec![0; shape.len()];
        let mut at = start;
        for value in into {
            // SAFETY: the invariant of this type: `at` is that of an index within the shape, and so of a value.
            unsafe { ptr::copy_nonoverlapping(at, value.as_mut_ptr(), size) };
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                at = at.wrapping_offset(self.strides[axis]);
                if index[axis] < shape[axis] {
                    break;
                }
                at = at.wrapping_offset(-self.strides[axis] * index[axis].cast_signed());
                index[axis] = 0;
            }
        }
        Lines::Copied(copy)
    }
}

/// Bytes of rows, one after another.
pub(crate) enum Lines<'t> {
    There(&'t [u8]),
    Copied(AlignedBytes),
}

impl Lines<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Lines::There(bytes) => bytes,
            Lines::Copied(bytes) => bytes.bytes(),
        }
    }
}

/// Strides in bytes of rows that lie one after another.
fn compact(shape: &[usize], size: usize) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut stride = size.cast_signed();
    for (axis, len) in shape.iter().enumerate().rev() {
        strides[axis] = stride;
        stride *= len.cast_signed();
    }
    strides
}

fn on_device(object: &Bound<'_, PyAny>, kind: i32, id: i32) -> String {
    let device: Cow<'static, str> = match kind {
        2 => "cuda".into(),
        4 => "opencl".into(),
        7 => "vulkan".into(),
        8 => "metal".into(),
        10 => "rocm".into(),
        13 => "cuda, in managed memory,".into(),
        14 => "oneapi".into(),
        other => format!("a device of DLPack's kind {other}").into(),
    };
    let what = object.get_type().name().map_or_else(|_| "tensor".into(), |name| name.to_string());
    format!(
        "the {what} lies on {device} {id}: rows are packed from memory of the host, so bring it there first \
         (`tensor.cpu()` of torch, `array.get()` of CuPy)"
    )
}

/// Memory that a consumer borrows until it calls the deleter.
pub(crate) enum Lent {
    /// Memory of an object of Python that was made for the consumer.
    Host(Memory),
    Cuda(Arc<OnDevice>),
}

impl Lent {
    fn place(&mut self) -> (*mut c_void, Device) {
        match self {
            Lent::Host(memory) => (memory.bytes_mut().as_mut_ptr().cast(), Device { kind: CPU, id: 0 }),
            Lent::Cuda(memory) => {
                // An address of the device, which nobody here reads.
                let address = usize::try_from(memory.lend()).unwrap_or(0);
                let id = i32::try_from(memory.number()).unwrap_or(0);
                (ptr::without_provenance_mut(address), Device { kind: CUDA, id })
            }
        }
    }

    fn flags(&self) -> u64 {
        match self {
            Lent::Host(_) => IS_COPIED,
            Lent::Cuda(_) => 0,
        }
    }
}

/// What a capsule of ours points to. The struct of C comes first, so that its address is that of the whole.
#[repr(C)]
struct Owned<M> {
    managed: M,
    shape: Box<[i64]>,
    strides: Box<[i64]>,
    lent: Lent,
}

/// A capsule around memory that holds values of this shape, one after another: versioned if the consumer knows such.
pub(crate) fn capsule<'py>(
    py: Python<'py>,
    mut lent: Lent,
    dtype: DType,
    shape: &[u64],
    max_version: Option<(u32, u32)>,
) -> PyResult<Bound<'py, PyAny>> {
    let lens: Vec<usize> = shape.iter().map(|len| usize::try_from(*len)).collect::<Result<_, _>>()?;
    let mut strides: Box<[i64]> = compact(&lens, 1).into_iter().map(|stride| stride as i64).collect();
    let mut shape: Box<[i64]> = shape.iter().map(|len| len.cast_signed()).collect();
    let (data, device) = lent.place();
    let tensor = Tensor {
        data,
        device,
        ndim: i32::try_from(shape.len())?,
        dtype: DataType::of(dtype),
        // The numbers stay where they are when their boxes move.
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    let flags = lent.flags();
    let context = ptr::null_mut();
    if max_version.is_some_and(|(major, _)| major >= 1) {
        let managed = New { major: 1, minor: 0, context, deleter: Some(delete::<New>), flags, tensor };
        wrapped(py, Owned { managed, shape, strides, lent }, NEW, discard::<New>)
    } else {
        let managed = Old { tensor, context, deleter: Some(delete::<Old>) };
        wrapped(py, Owned { managed, shape, strides, lent }, OLD, discard::<Old>)
    }
}

fn wrapped<'py, M>(
    py: Python<'py>,
    owned: Owned<M>,
    name: &'static CStr,
    destructor: ffi::PyCapsule_Destructor,
) -> PyResult<Bound<'py, PyAny>> {
    let owned = Box::into_raw(Box::new(owned));
    // SAFETY: the pointer is not null, and what it points to lives until a deleter is called: by the consumer, who renames
    // the capsule, or by `destructor`, which looks at the name.
    let capsule = unsafe { ffi::PyCapsule_New(owned.cast(), name.as_ptr(), Some(destructor)) };
    if capsule.is_null() {
        // SAFETY: made by `into_raw` above, and no capsule knows it.
        drop(unsafe { Box::from_raw(owned) });
        return Err(PyErr::fetch(py));
    }
    // SAFETY: a new reference, which is ours.
    Ok(unsafe { Bound::from_owned_ptr(py, capsule) })
}

/// The deleter in our structs.
///
/// # Safety
/// `managed` is the first field of an `Owned` that `wrapped` leaked, and this is called once.
unsafe extern "C" fn delete<M>(managed: *mut M) {
    // SAFETY: the caller's promise; `repr(C)` puts the first field at the address of the whole.
    let owned = unsafe { Box::from_raw(managed.cast::<Owned<M>>()) };
    crate::interpreter::with(|| drop(owned));
}

trait Named {
    const NAME: &'static CStr;
}

impl Named for Old {
    const NAME: &'static CStr = OLD;
}

impl Named for New {
    const NAME: &'static CStr = NEW;
}

/// Deletes what nobody took out of a capsule of ours.
///
/// # Safety
/// `capsule` is one that `wrapped` made for `M`, and Python is about to free it.
unsafe extern "C" fn discard<M: Named>(capsule: *mut ffi::PyObject) {
    // SAFETY: it is a capsule.
    if unsafe { ffi::PyCapsule_IsValid(capsule, M::NAME.as_ptr()) } == 0 {
        return;
    }
    // SAFETY: it is a capsule of that name.
    let managed = unsafe { ffi::PyCapsule_GetPointer(capsule, M::NAME.as_ptr()) };
    // SAFETY: nobody renamed it, so nobody took the struct and its deleter.
    unsafe { delete::<M>(managed.cast()) };
}

/// The part of `__dlpack__` that is the same for all: whether a copy that is new anyway will do.
///
/// # Errors
/// The caller wants the memory itself, which is encoded.
pub(crate) fn check_copy(copy: Option<bool>) -> PyResult<()> {
    if copy == Some(false) {
        return Err(PyBufferError::new_err(
            "the array is encoded: it cannot be had without decoding it to new memory",
        ));
    }
    Ok(())
}

/// Refuses what is no stream of CUDA. All others are right: what is lent was waited for before.
pub(crate) fn check_stream(stream: Option<i64>) -> PyResult<()> {
    match stream {
        Some(0) => Err(PyValueError::new_err(
            "stream = 0 is ambiguous and not allowed: use 1 for the legacy default stream, 2 for the default one of a thread",
        )),
        Some(stream) if stream < -1 => Err(PyValueError::new_err(format!("stream = {stream} is no stream"))),
        _ => Ok(()),
    }
}
