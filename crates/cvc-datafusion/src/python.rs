//! The Python package: `cvc_datafusion.Table`, which `SessionContext.register_table` of DataFusion's package takes.
#![allow(unsafe_code, reason = "a struct behind a capsule of Python; the proof is at its use")]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cvc::{Condition, DType, Json};
use cvc_remote::is_url;
use datafusion_ffi::proto::logical_extension_codec::FFI_LogicalExtensionCodec;
use datafusion_ffi::table_provider::FFI_TableProvider;
use datafusion_session::TableProvider;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyCapsule, PyDict, PyList};
use tokio::runtime::Runtime;

use crate::error::Error;
use crate::table::{CvcTable, Options};

const CODEC: &str = "__datafusion_logical_extension_codec__";

/// Files as a table: `context.register_table("embeddings", cvc_datafusion.Table(files))`.
///
/// `files` is a path or a URL, or several in the order of their rows; a name that ends in `.json` is a manifest of `cvc.write_manifest`.
/// `arrays` names the columns, by default all arrays with as many rows as the first. `filter` takes the rows of sections whose metadata has
/// these values. `dtype` is `float16` or `float32`, for floats of at most 32 bits. `max_bytes` is what is decoded together.
/// `storage_options` says how URLs are reached, as for `cvc.open`.
#[pyclass(frozen, module = "cvc_datafusion")]
struct Table {
    inner: Arc<CvcTable>,
}

#[pymethods]
impl Table {
    #[new]
    #[pyo3(signature = (files, arrays=None, filter=None, max_bytes=128 << 20, *, dtype=None, storage_options=None))]
    fn new(
        py: Python<'_>,
        files: &Bound<'_, PyAny>,
        arrays: Option<&Bound<'_, PyAny>>,
        filter: Option<&Bound<'_, PyDict>>,
        max_bytes: u64,
        dtype: Option<&str>,
        storage_options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Table> {
        let floats = match dtype {
            None => None,
            Some("float16") => Some(DType::F16),
            Some("float32") => Some(DType::F32),
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "dtype = {other:?}: float16 or float32 is needed"
                )));
            }
        };
        let arrays = match arrays {
            None => None,
            Some(one) if one.extract::<String>().is_ok() => Some(vec![one.extract()?]),
            Some(several) => Some(several.try_iter()?.map(|name| name?.extract()).collect::<PyResult<_>>()?),
        };
        let mut options = Options { arrays, floats, max_len: max_bytes.max(1), ..Options::default() };
        for (key, value) in filter.into_iter().flatten() {
            options.conditions.push(Condition::new(key.extract::<String>()?, json(&value)?));
        }
        for (key, value) in storage_options.into_iter().flatten() {
            // `True` is no value that stores know.
            let value = match value.cast::<PyBool>() {
                Ok(truth) => truth.is_true().to_string(),
                Err(_) => value.str()?.to_string(),
            };
            let set = options.remote.set(&key.extract::<String>()?, &value);
            set.map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        let files = match place(files) {
            Ok(one) => vec![one],
            Err(_) => files.try_iter()?.map(|file| place(&file?)).collect::<PyResult<_>>()?,
        };
        let inner = py.detach(|| CvcTable::open(&files, &options)).map_err(raised)?;
        Ok(Table { inner: Arc::new(inner) })
    }

    /// What DataFusion asks for the table, by its own interface in C.
    fn __datafusion_table_provider__<'py>(
        &self,
        py: Python<'py>,
        session: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let codec = match session.getattr_opt(CODEC)? {
            Some(codec) => codec.call0()?,
            None => session.clone(),
        };
        let codec = codec.cast::<PyCapsule>().map_err(|_| {
            PyTypeError::new_err(
                "a session of DataFusion is needed, of the version that this package was built for",
            )
        })?;
        let codec = codec
            .pointer_checked(Some(c"datafusion_logical_extension_codec"))?
            .cast::<FFI_LogicalExtensionCodec>();
        // SAFETY: a capsule of that name holds such a struct, and is alive while it is borrowed here.
        let codec = unsafe { codec.as_ref() }.clone();
        let provider: Arc<dyn TableProvider> = self.inner.clone();
        // Its threads are those of this library: whoever polls a stream does so from a runtime of another one.
        let runtime = Some(runtime()?.handle().clone());
        let provider = FFI_TableProvider::new_with_ffi_codec(provider, false, runtime, codec);
        PyCapsule::new_with_value(py, provider, c"datafusion_table_provider")
    }

    fn __repr__(&self) -> String {
        let schema = self.inner.schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| &**field.name()).collect();
        format!("<cvc_datafusion.Table: {}>", columns.join(", "))
    }
}

/// A path, made absolute, or a URL.
fn place(file: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = file.extract::<String>()
        && is_url(&text)
    {
        return Ok(text);
    }
    let path: PathBuf = file.extract()?;
    let text = path.into_os_string().into_string();
    text.map_err(|path| PyValueError::new_err(format!("{} is not UTF-8", path.display())))
}

/// A value of metadata.
fn json(value: &Bound<'_, PyAny>) -> PyResult<Json> {
    let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
    Json::parse(text.as_bytes(), 64).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn raised(error: Error) -> PyErr {
    let message = error.to_string();
    match &error {
        Error::File { cause, .. } if matches!(**cause, cvc::Error::Io { .. }) => PyOSError::new_err(message),
        Error::Remote(error) if !error.is_usage() => PyOSError::new_err(message),
        _ => PyValueError::new_err(message),
    }
}

fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Runtime::new().map_err(|error| error.to_string()));
    runtime.as_ref().map_err(|error| PyRuntimeError::new_err(format!("no threads can be started: {error}")))
}

#[pymodule(gil_used = false)]
fn cvc_datafusion(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("__all__", PyList::new(module.py(), ["Table", "__version__"])?)?;
    module.add_class::<Table>()
}
