//! The few calls of NumPy that are made from here.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// Functions of NumPy, looked up once.
pub(crate) struct Numpy {
    pub(crate) ndarray: Py<PyAny>,
    pub(crate) dtype: Py<PyAny>,
    pub(crate) asarray: Py<PyAny>,
    pub(crate) empty: Py<PyAny>,
    pub(crate) flatnonzero: Py<PyAny>,
    pub(crate) require: Py<PyAny>,
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
                flatnonzero: item("flatnonzero")?,
                require: item("require")?,
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
