//! `cvc.convert`: files that are read here, and tables that pyarrow reads or writes, as streams of Arrow.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use cvc::{DType, Reader};
use cvc_convert::arrow::{Batches, pack};
use cvc_convert::{Converted, Error, Options};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::arrow::record_batches;
use crate::errors::{of_class, raised, raised_by_store};
use crate::fork::at_home;
use crate::interpreter;
use crate::json;
use crate::writer::overwriting;

/// What `cvc.convert` is told, from the dict that it makes.
fn options(given: &Bound<'_, PyDict>) -> PyResult<Options> {
    fn of<'py, T: FromPyObjectOwned<'py>>(given: &Bound<'py, PyDict>, key: &str) -> PyResult<Option<T>> {
        match given.get_item(key)? {
            Some(value) if !value.is_none() => value.extract().map(Some).map_err(Into::into),
            _ => Ok(None),
        }
    }
    let py = given.py();
    let dtype: Option<String> = of(given, "text_dtype")?;
    let known = |name: String| {
        DType::from_name(&name).ok_or_else(|| {
            let problem = format!("text_dtype = {name}: use float32, float64, float16, int32 and the like");
            of_class(py, "ArgumentError", problem)
        })
    };
    let text_dtype = dtype.map(known).transpose()?;
    let metadata = given.get_item("metadata")?.filter(|metadata| !metadata.is_none());
    let metadata = metadata.as_ref().map(json::from_python).transpose()?;
    let pairs = metadata.as_ref().and_then(cvc::Json::as_object).unwrap_or_default();
    Ok(Options {
        codecs: of(given, "codecs")?.unwrap_or_default(),
        sections_from: of(given, "sections_from")?.unwrap_or_default(),
        columns: of(given, "columns")?,
        vectors: of(given, "vectors")?,
        text_dtype,
        strings: of(given, "strings")?.unwrap_or_default(),
        chunk_rows: of(given, "chunk_rows")?,
        metadata: pairs
            .iter()
            .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.clone())))
            .collect(),
        overwrite: overwriting(of(given, "overwrite")?.unwrap_or(true)),
        ..Options::default()
    })
}

/// The exception for what a conversion says.
fn raised_by_conversion(py: Python<'_>, error: Error) -> PyErr {
    let class = match error {
        Error::Cvc(error) => return raised(py, error),
        Error::Store(error) => return raised_by_store(py, error),
        Error::Io { path, action, cause } => return raised(py, cvc::Error::Io { path, action, cause }),
        Error::Kind { .. } | Error::Target { .. } => "ArgumentError",
        _ => "FormatError",
    };
    of_class(py, class, error.to_string())
}

/// Does the work without the interpreter, but for `progress`, which may be called from it.
fn worked(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&mut cvc_convert::Progress<'_>) -> Result<Converted, Error> + Send,
) -> PyResult<Converted> {
    // What Python said: of `progress`, or of Ctrl-C.
    let said = Mutex::new(None);
    let done = py.detach(|| {
        at_home(|| {
            work(&mut |done, all| {
                let told = Python::attach(|py| {
                    py.check_signals()?;
                    match &progress {
                        // Where nobody knows how many there will be, all is what there was.
                        Some(progress) => progress.call1(py, (done, all.unwrap_or(done))).map(drop),
                        None => Ok(()),
                    }
                });
                told.map_err(|error| {
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    Error::Stopped
                })
            })
        })
    });
    let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.map_err(|error| said.unwrap_or_else(|| raised_by_conversion(py, error)))
}

type Done = (u64, Vec<String>, usize, Vec<String>);

fn done(converted: Converted) -> Done {
    let Converted { rows, arrays, sections, not_kept, .. } = converted;
    (rows, arrays, sections, not_kept)
}

/// Converts between a `.cvc` file and one that is read and written here.
#[pyfunction]
#[pyo3(signature = (source, target, given, progress=None))]
pub(crate) fn convert_file(
    py: Python<'_>,
    source: PathBuf,
    target: PathBuf,
    given: &Bound<'_, PyDict>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Done> {
    let options = options(given)?;
    worked(py, progress, |tell| cvc_convert::convert(&source, &target, &options, tell)).map(done)
}

/// Packs the batches of an object that streams them. `source` is what they were read from, and `rows` how many there are.
#[pyfunction]
#[pyo3(signature = (stream, rows, source, target, given, progress=None))]
pub(crate) fn convert_stream(
    py: Python<'_>,
    stream: &Bound<'_, PyAny>,
    rows: Option<u64>,
    source: PathBuf,
    target: PathBuf,
    given: &Bound<'_, PyDict>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Done> {
    let options = options(given)?;
    let batches = record_batches(stream)?;
    worked(py, progress, |tell| pack(Box::new(batches), rows, &source, &target, &options, tell)).map(done)
}

/// The rows of a file as a table, to be written by somebody else.
#[pyclass(frozen, module = "cvc")]
pub(crate) struct Table {
    batches: Mutex<Option<Batches>>,
    converted: Converted,
}

#[pymethods]
impl Table {
    #[new]
    fn new(py: Python<'_>, source: PathBuf, target: PathBuf, given: &Bound<'_, PyDict>) -> PyResult<Table> {
        let options = options(given)?;
        let open = || {
            let reader = Arc::new(Reader::open(source)?);
            Batches::new(reader, &target, &options)
        };
        let batches = py.detach(|| at_home(open)).map_err(|error| raised_by_conversion(py, error))?;
        let converted = batches.converted().clone();
        Ok(Table { batches: Mutex::new(Some(batches)), converted })
    }

    /// Rows, arrays, sections, and what is not kept.
    #[getter]
    fn converted(&self) -> Done {
        done(self.converted.clone())
    }

    /// The rows, once.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // It is a wish, and whoever has it converts what comes.
        let _ = requested_schema;
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner).take();
        let batches =
            batches.ok_or_else(|| of_class(py, "ArgumentError", "the rows were taken already".to_owned()))?;
        PyCapsule::new_with_value(
            py,
            FFI_ArrowArrayStream::new(Box::new(Here(batches))),
            c"arrow_array_stream",
        )
    }
}

/// Batches that are decoded without the interpreter, which whoever asks may hold.
struct Here(Batches);

impl Iterator for Here {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        interpreter::without(|| at_home(|| self.0.next()))
    }
}

impl RecordBatchReader for Here {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
}
