//! Metadata, by way of Python's own `json`: what goes in and what comes out is what `json.dumps` and `json.loads`
//! say, for NaN, large integers and tuples too.

use cvc::Json;
use cvc::format::json::Style;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// Arrays and objects inside each other; files are opened with as many.
const DEPTH: usize = 64;

/// The value that `object` is in JSON. Scalars of NumPy are taken for the numbers that they are.
pub(crate) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Json> {
    let py = object.py();
    let options = PyDict::new(py);
    options.set_item("default", py.import("cvc._metadata")?.getattr("plain")?)?;
    let text = py.import("json")?.call_method("dumps", (object,), Some(&options))?;
    let text = text.extract::<String>()?;
    Json::parse(text.as_bytes(), DEPTH)
        .map_err(|error| PyValueError::new_err(format!("metadata cannot be stored: {error}")))
}

/// The object of Python that a value is.
pub(crate) fn to_python<'py>(py: Python<'py>, json: &Json) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = LOADS.get_or_try_init(py, || py.import("json")?.getattr("loads").map(Bound::unbind))?;
    loads.bind(py).call1((json.to_string_styled(Style::Python),))
}
