//! The Python package: `cvc_datafusion.Table`, which `SessionContext.register_table` of DataFusion's package takes.
#![allow(unsafe_code, reason = "a struct behind a capsule of Python; the proof is at its use")]

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cvc::codec::SourceError;
use cvc::{Condition, DType, Json};
use cvc_remote::RemoteError;
use cvc_remote::manifest::ManifestError;
use datafusion_ffi::proto::logical_extension_codec::FFI_LogicalExtensionCodec;
use datafusion_ffi::table_provider::FFI_TableProvider;
use datafusion_session::TableProvider;
use pyo3::exceptions::{PyImportError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyCapsule, PyDict, PyList, PyString};
use tokio::runtime::Runtime;

use crate::error::Error;
use crate::table::{CvcTable, Options};

const CODEC: &str = "__datafusion_logical_extension_codec__";

/// Files as a table: `context.register_table("embeddings", cvc_datafusion.Table(files))`.
///
/// `files` is a path or a URL, or several in the order of their rows; a name that ends in `.json` is a manifest of `cvc.write_manifest`.
/// `arrays` names the columns, by default all arrays of the first file with as many rows as its first. `filter` takes the rows of sections
/// whose metadata has these values. `dtype` is `float16` or `float32`, for floats of at most 32 bits. `max_bytes` is how many decoded bytes
/// each partition of a query reads at a time. `storage_options` says how URLs are reached, as for `cvc.open`.
#[pyclass(frozen, module = "cvc_datafusion")]
struct Table {
    inner: Arc<CvcTable>,
}

#[pymethods]
impl Table {
    #[new]
    #[pyo3(signature = (files, arrays=None, filter=None, max_bytes=16 << 20, *, dtype=None, storage_options=None))]
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
        let mut options = Options { arrays, floats, max_len: max_bytes, ..Options::default() };
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
        let is_one = files.is_instance_of::<PyString>() || files.hasattr("__fspath__")?;
        let files = match is_one {
            true => vec![place(files)?],
            false => {
                let several = files.try_iter().map_err(|_| {
                    PyTypeError::new_err(format!(
                        "files is {files}: a path, a URL, or several of them are needed"
                    ))
                })?;
                several.map(|file| place(&file?)).collect::<PyResult<_>>()?
            }
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
        check_version(py)?;
        let codec = match session.getattr_opt(CODEC)? {
            Some(codec) => codec.call0()?,
            None => session.clone(),
        };
        let codec = codec
            .cast::<PyCapsule>()
            .map_err(|_| PyTypeError::new_err("a session of DataFusion is needed"))?;
        let codec = codec
            .pointer_checked(Some(c"datafusion_logical_extension_codec"))?
            .cast::<FFI_LogicalExtensionCodec>();
        // SAFETY: a capsule of that name, made by DataFusion's package of the version that was just compared, holds such a struct; it is
        // alive while it is borrowed here.
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

/// Refuses DataFusion's package of another version: the structs that are passed are those of one.
fn check_version(py: Python<'_>) -> PyResult<()> {
    let found: String = py.import("datafusion")?.getattr("__version__")?.extract()?;
    let major = found.split('.').next().and_then(|major| major.parse::<u64>().ok());
    let ours = datafusion_ffi::version();
    if major != Some(ours) {
        let problem = format!(
            "datafusion {found} is installed, and this package is for {ours}: install one for the other"
        );
        return Err(PyImportError::new_err(problem));
    }
    Ok(())
}

/// A path, made absolute, or a URL.
fn place(file: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = file.cast::<PyString>()
        && let Ok(url) = text.to_str()
        && url.contains("://")
    {
        return Ok(url.to_owned());
    }
    let path = std::path::absolute(file.extract::<PathBuf>()?)?;
    let text = path.into_os_string().into_string();
    text.map_err(|path| PyValueError::new_err(format!("{} is not UTF-8", path.display())))
}

/// A value of metadata.
fn json(value: &Bound<'_, PyAny>) -> PyResult<Json> {
    let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
    Json::parse(text.as_bytes(), 64).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn raised(error: Error) -> PyErr {
    let message = match &error {
        // As it is called here.
        Error::Option { option: "max_len", problem } => format!("max_bytes: {problem}"),
        _ => error.to_string(),
    };
    match kind(&error) {
        // Python has a class for each of some kinds.
        Some(kind) => io::Error::new(kind, message).into(),
        None => PyValueError::new_err(message),
    }
}

/// What the system, or whatever is between it and the file, refused; nothing if it is the caller or the file that is wrong.
fn kind(error: &Error) -> Option<io::ErrorKind> {
    let of_source =
        |error: &SourceError| matches!(error, SourceError::Read { .. }).then_some(io::ErrorKind::Other);
    let of_remote = |error: &RemoteError| match io::Error::from(error.clone()).kind() {
        io::ErrorKind::InvalidInput => None,
        kind => Some(kind),
    };
    let of_file = |error: &cvc::Error| match error {
        cvc::Error::Io { cause, .. } => Some(cause.kind()),
        cvc::Error::Source(error) => of_source(error),
        _ => None,
    };
    match error {
        Error::Local(cause) | Error::File { cause, .. } => of_file(cause),
        Error::Remote(error) | Error::Manifest(ManifestError::Remote(error)) => of_remote(error),
        Error::Manifest(ManifestError::Local(error)) => of_file(error),
        Error::Manifest(ManifestError::Source(error)) => of_source(error),
        _ => None,
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
