//! The few calls of NumPy that are made from here.

use cvc::DType;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::memory::Memory;

/// Functions of NumPy, looked up once.
pub(crate) struct Numpy {
    pub(crate) ndarray: Py<PyAny>,
    pub(crate) dtype: Py<PyAny>,
    pub(crate) asarray: Py<PyAny>,
    pub(crate) empty: Py<PyAny>,
    pub(crate) require: Py<PyAny>,
    /// Those that stand for ours.
    pub(crate) dtypes: PyOnceLock<Vec<(DType, Py<PyAny>)>>,
}

impl Numpy {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&Numpy> {
        static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();
        NUMPY.get_or_try_init(py, || {
            let numpy = py.import("numpy")?;
            let item = |name| numpy.getattr(name).map(Bound::unbind);
            Ok(Numpy {
                ndarray: item("ndarray")?,
                dtype: item("dtype")?,
                asarray: item("asarray")?,
                empty: item("empty")?,
                require: item("require")?,
                dtypes: PyOnceLock::new(),
            })
        })
    }

    pub(crate) fn asarray<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        Numpy::get(py)?.asarray.bind(py).call1((object,))
    }

    /// An array of objects with these items.
    pub(crate) fn objects<'py>(py: Python<'py>, items: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let options = PyDict::new(py);
        options.set_item("dtype", "O")?;
        Numpy::get(py)?.asarray.bind(py).call((items,), Some(&options))
    }
}

impl Numpy {
    /// The memory of an array of NumPy, and of no class that is made of it, whose values lie one after another in native byte order, and
    /// the dtype of them. Much cheaper than asking the array; `None` for all else.
    pub(crate) fn plain(object: &Bound<'_, PyAny>) -> PyResult<Option<(Memory, DType)>> {
        if !object.get_type().is(&Numpy::get(object.py())?.ndarray) {
            return Ok(None);
        }
        // Not all dtypes can be had so, and not all memory.
        let Ok(memory) = Memory::of(object) else { return Ok(None) };
        let dtype = crate::dtype::of_format(memory.format());
        let dtype = dtype.filter(|of| memory.bytes().as_ptr().addr().is_multiple_of(of.component_size()));
        Ok(dtype.map(|dtype| (memory, dtype)))
    }
}

/// The integers of an array with one axis, whatever their size.
pub(crate) fn integers(array: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
    let py = array.py();
    let dtype = array.getattr("dtype")?;
    if dtype.getattr("kind")?.extract::<&str>()? == "u" && dtype.getattr("itemsize")?.extract::<usize>()? == 8
    {
        // Some have no place among signed ones; Python's own say so.
        return array.call_method0("tolist")?.extract();
    }
    let options = PyDict::new(py);
    options.set_item("dtype", "int64")?;
    options.set_item("requirements", ("C", "A"))?;
    let array = Numpy::get(py)?.require.bind(py).call((array,), Some(&options))?;
    Ok(bytemuck::pod_collect_to_vec(Memory::of(&array)?.bytes()))
}

/// An array of bools as bytes.
pub(crate) fn bools(array: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
    let options = PyDict::new(array.py());
    options.set_item("requirements", ("C", "A"))?;
    let array = Numpy::get(array.py())?.require.bind(array.py()).call((array,), Some(&options))?;
    Ok(Memory::of(&array)?.bytes().iter().map(|byte| *byte != 0).collect())
}
