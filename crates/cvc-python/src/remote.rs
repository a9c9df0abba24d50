//! Files that are named by URLs which `cvc-remote` knows. Those that only fsspec knows are file objects: `source.rs`.

use cvc_remote::{Counters, Remote, RemoteError, RemoteOptions, Upload};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use crate::errors::{of_class, raised};
use crate::fork::at_home;

/// What stands in `storage_options`: names, and values as text.
pub(crate) fn options(py: Python<'_>, given: Option<&Bound<'_, PyDict>>) -> PyResult<RemoteOptions> {
    let mut options = RemoteOptions::default();
    for (key, value) in given.into_iter().flatten() {
        // `True` is no value that stores know.
        let text = match value.cast::<PyBool>() {
            Ok(truth) => truth.is_true().to_string(),
            Err(_) => value.str()?.to_string(),
        };
        options.set(&key.extract::<String>()?, &text).map_err(|error| raised_by_remote(py, &error))?;
    }
    Ok(options)
}

/// Opens the file at a URL, and gives what counts its requests.
pub(crate) fn open(py: Python<'_>, url: &str, options: &RemoteOptions) -> PyResult<(Remote, Counters)> {
    let opened = py.detach(|| at_home(|| Remote::open(url, options)));
    opened
        .map(|remote| {
            let counters = remote.counters();
            (remote, counters)
        })
        .map_err(|error| raised_by_remote(py, &error))
}

/// Begins a file at a URL.
pub(crate) fn create(py: Python<'_>, url: &str, options: &RemoteOptions) -> PyResult<Upload> {
    py.detach(|| Upload::create(url, options)).map_err(|error| raised_by_remote(py, &error))
}

/// A URL without what may be a secret: its query, its fragment, names and passwords. A path stays as it is.
#[pyfunction]
pub(crate) fn shown(text: &str) -> String {
    cvc_remote::shown(text)
}

/// What was counted, for Python.
pub(crate) fn stats<'py>(py: Python<'py>, counters: &Counters) -> PyResult<Bound<'py, PyDict>> {
    let stats = counters.stats();
    let dict = PyDict::new(py);
    for (key, count) in [
        ("requests", stats.requests),
        ("bytes_in", stats.bytes_in),
        ("bytes_out", stats.bytes_out),
        ("fallbacks", stats.fallbacks),
    ] {
        dict.set_item(key, count)?;
    }
    Ok(dict)
}

/// The exception for what a place somewhere else says.
pub(crate) fn raised_by_remote(py: Python<'_>, error: &RemoteError) -> PyErr {
    let message = error.to_string();
    match error {
        RemoteError::Local(error) => match &**error {
            cvc::Error::Io { path, action, cause } => {
                let cause = std::io::Error::new(cause.kind(), cause.to_string());
                raised(py, cvc::Error::Io { path: path.clone(), action, cause })
            }
            _ => of_class(py, "SystemFailure", message),
        },
        RemoteError::Missing { url, .. } => of_system(py, "NotFound", message, url),
        RemoteError::Refused { url, .. } => of_system(py, "PermissionDenied", message, url),
        error if error.is_usage() => of_class(py, "ArgumentError", message),
        _ => of_class(py, "SourceError", message),
    }
}

fn of_system(py: Python<'_>, kind: &str, message: String, url: &str) -> PyErr {
    let made = py
        .import("cvc._errors")
        .and_then(|errors| errors.call_method1("of_system", (kind, None::<i32>, message, url)));
    made.map_or_else(|error| error, PyErr::from_value)
}
