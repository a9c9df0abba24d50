//! `cvc.open` and the object that it gives.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use cvc::io::FileSource;
use cvc::{Checksums, ReadAt, ReadOptions, Reader};
use cvc_remote::Counters;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyCapsule, PyDict, PyString, PyTuple};

use crate::array::Array;
use crate::arrow::{schema, stream, table};
use crate::errors::{detached, of_class, raised};
use crate::pieces::{Pieces, Span};
use crate::rows::Selection;
use crate::writer::Writer;
use crate::{json, remote, source};

/// The reader of a file, shared with its arrays until the file is closed.
#[derive(Clone)]
pub(crate) struct Handle(Arc<RwLock<Option<Arc<Reader>>>>);

impl Handle {
    fn new(reader: Reader) -> Handle {
        Handle(Arc::new(RwLock::new(Some(Arc::new(reader)))))
    }

    /// # Errors
    /// The file was closed.
    pub(crate) fn reader(&self) -> PyResult<Arc<Reader>> {
        let reader = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        reader.ok_or_else(|| PyValueError::new_err("the file is closed"))
    }
}

/// Opens a `.cvc` file of any layout: a path, a URL, `bytes`, or a binary file object.
///
/// Nothing but the index is read. Of a URL (`https`, `s3`, `gs`, `az`, `file`; any other that fsspec knows) only the bytes are fetched that rows
/// need; `storage_options` says how to reach it: `docs/remote.md` lists what there is. `checksums=False` reads blocks without comparing them with their checksums; `mmap=True`
/// maps a file into memory instead of reading it by position, which is only safe where nobody changes it meanwhile.
#[pyfunction]
#[pyo3(signature = (source, *, storage_options=None, checksums=true, mmap=false, max_bytes=None))]
pub(crate) fn open(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    storage_options: Option<&Bound<'_, PyDict>>,
    checksums: bool,
    mmap: bool,
    max_bytes: Option<u64>,
) -> PyResult<File> {
    let mut options = ReadOptions::default();
    options.checksums = if checksums { Checksums::FirstTouch } else { Checksums::Never };
    if let Some(max_bytes) = max_bytes {
        options.limits.decoded_bytes = max_bytes;
    }
    let Located { name, source: opened, counters } = locate(source, storage_options)?;
    let reader = detached(py, || match opened {
        Source::Path(path) if mmap => {
            let map = cvc::io::mmap::Map::open(&path).map_err(|cause| cvc::Error::Io {
                path: path.clone(),
                action: "cannot be mapped",
                cause,
            })?;
            Reader::new(Box::new(map), options)
        }
        Source::Path(path) => Reader::new(Box::new(FileSource::open(&path)?), options),
        Source::Other(source) => Reader::new(source, options),
    })?;
    Ok(File { handle: Handle::new(reader), name, counters })
}

/// What can be opened.
pub(crate) struct Located {
    /// What to call it.
    name: String,
    pub(crate) source: Source,
    /// What counts its requests, if it is far away.
    counters: Option<Counters>,
}

/// Where the bytes are that `source` stands for. `options` are for URLs.
pub(crate) fn locate(source: &Bound<'_, PyAny>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Located> {
    let py = source.py();
    let text = source.cast::<PyString>().ok().map(|text| text.to_cow()).transpose()?;
    let url = text.filter(|text| text.contains("://"));
    if options.is_some() && url.is_none() {
        return Err(of_class(py, "ArgumentError", "storage_options are for URLs, and this is none".into()));
    }
    if let Some(url) = url.as_deref().filter(|url| cvc_remote::is_url(url)) {
        let (remote, counters) = remote::open(py, url, &remote::options(py, options)?)?;
        let source = Source::Other(Box::new(remote));
        return Ok(Located { name: cvc_remote::shown(url), source, counters: Some(counters) });
    }
    let (name, source) = if let Some(url) = url {
        let file = py.import("cvc._metadata")?.call_method("open_url", (&*url,), options)?;
        (cvc_remote::shown(&url), Source::Other(Box::new(source::FileLike::new(&file)?)))
    } else if source.is_instance_of::<PyBytes>() || source.is_instance_of::<PyByteArray>() {
        let bytes: PyBackedBytes = source.extract()?;
        ("bytes".to_owned(), Source::Other(Box::new(source::Bytes(bytes))))
    } else if let Ok(path) = source.extract::<PathBuf>() {
        (path.display().to_string(), Source::Path(path))
    } else if let Ok(span) = source.cast::<Span>() {
        ("bytes".to_owned(), Source::Other(Box::new(span.get().clone())))
    } else if let Ok(pieces) = source.cast::<Pieces>() {
        ("pieces".to_owned(), Source::Other(Box::new(pieces.get().clone())))
    } else if source.hasattr("seek")? {
        (source.str()?.to_string(), Source::Other(Box::new(source::FileLike::new(source)?)))
    } else {
        let bytes = crate::memory::Memory::of(source)?.bytes().to_vec();
        ("bytes".to_owned(), Source::Other(Box::new(bytes)))
    };
    Ok(Located { name, source, counters: None })
}

pub(crate) enum Source {
    Path(PathBuf),
    Other(Box<dyn ReadAt>),
}

/// An open `.cvc` file: named arrays, and what is known of ranges of their rows.
#[pyclass(frozen, mapping, module = "cvc")]
pub(crate) struct File {
    pub(crate) handle: Handle,
    name: String,
    counters: Option<Counters>,
}

#[pymethods]
impl File {
    /// What was opened: a path, a URL without what may be a secret (its query, names and passwords), or `bytes`.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// `native`, or one of the layouts of `decompressed`: `v0`, `v1`, `v1-mmap`, `v2`.
    #[getter]
    fn layout(&self) -> PyResult<&'static str> {
        Ok(self.handle.reader()?.layout().name())
    }

    /// The arrays by name, in file order.
    #[getter]
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let arrays = PyDict::new(py);
        for (position, name) in self.handle.reader()?.array_names().enumerate() {
            arrays.set_item(name, Array::at(self.handle.clone(), position))?;
        }
        Ok(arrays)
    }

    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<Array> {
        Array::named(py, &self.handle, name)
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.handle.reader()?.array_names().len())
    }

    fn __contains__(&self, name: &str) -> PyResult<bool> {
        Ok(self.handle.reader()?.array_names().any(|other| other == name))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.arrays(py)?.call_method0("__iter__")
    }

    /// The names of the arrays.
    fn keys(&self) -> PyResult<Vec<String>> {
        Ok(self.handle.reader()?.array_names().map(str::to_owned).collect())
    }

    /// The only array, or the one named `vectors`.
    #[getter]
    fn vectors(&self, py: Python<'_>) -> PyResult<Array> {
        Array::vectors(py, &self.handle)
    }

    /// What is known of ranges of rows: `cvc.Section`s of a start, a stop and a dict, in file order. They speak of the first
    /// array and of those with as many rows. What the chunks of a CVCF file say stands here too, where the file has no sections.
    #[getter]
    fn sections<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.handle.reader()?;
        let of_chunks = reader.chunk_sections();
        let sections = if reader.sections().is_empty() { &of_chunks } else { reader.sections() };
        let section = py.import("cvc._metadata")?.getattr("Section")?;
        let sections = sections
            .iter()
            .map(|of| section.call1((of.rows.start, of.rows.end, json::to_python(py, &of.metadata)?)));
        Ok(pyo3::types::PyList::new(py, sections.collect::<PyResult<Vec<_>>>()?)?.into_any())
    }

    /// What the writer said of the whole file.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, &self.handle.reader()?.index().metadata)
    }

    /// The header of a CVCF file, the metadata block of a native one, as it stands in the file.
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, &self.handle.reader()?.index().header)
    }

    /// What each chunk of a CVCF file says: a list as long as the chunks with `None` where one says nothing, or empty.
    #[getter]
    fn chunk_metadata<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let reader = self.handle.reader()?;
        let metadata = reader.index().chunk_metadata.iter();
        metadata
            .map(|metadata| match metadata {
                Some(metadata) => json::to_python(py, metadata),
                None => Ok(py.None().into_bound(py)),
            })
            .collect()
    }

    /// Bytes of the file.
    #[getter]
    fn file_len(&self) -> PyResult<u64> {
        Ok(self.handle.reader()?.source().len())
    }

    /// What tells this file from what it was or may become: layout, length, and a checksum of all that the index says, which has the
    /// checksums of every part of a file that has any. Nothing is read.
    #[getter]
    fn identity(&self) -> PyResult<String> {
        Ok(self.handle.reader()?.identity())
    }

    /// Rows by their ranges, of the arrays of these names; `dtype` is what Arrow gets floats as.
    #[pyo3(signature = (ranges, arrays, dtype=None))]
    fn _part(
        &self,
        py: Python<'_>,
        ranges: Vec<(u64, u64)>,
        arrays: Vec<String>,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Selection> {
        let ranges = ranges.into_iter().map(|(start, stop)| start..stop).collect();
        Selection::of(py, &self.handle, ranges, &arrays, dtype)
    }

    /// The rows of `ranges` in parts of at most `max_len` decoded bytes that end where blocks of these arrays do: of each its ranges, rows, and
    /// bytes decoded and in the file.
    #[expect(clippy::type_complexity, reason = "it becomes tuples")]
    #[pyo3(signature = (ranges, arrays, max_len, dtype=None))]
    fn _divided(
        &self,
        py: Python<'_>,
        ranges: Vec<(u64, u64)>,
        arrays: Vec<String>,
        max_len: u64,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<(Vec<(u64, u64)>, u64, u64, u64)>> {
        let ranges: Vec<_> = ranges.into_iter().map(|(start, stop)| start..stop).collect();
        let rows = Selection::of(py, &self.handle, Vec::new(), &arrays, dtype)?;
        let parts = rows.divided(py, &ranges, max_len)?;
        let parts = parts.into_iter().map(|part| {
            let ranges = part.ranges.into_iter().map(|rows| (rows.start, rows.end)).collect();
            (ranges, part.rows, part.decoded_len, part.stored_len)
        });
        Ok(parts.collect())
    }

    /// What reading has cost so far, of a file at a URL: a dict of `requests`, `bytes_in`, `bytes_out` and `fallbacks` (requests for several
    /// ranges that the server did not take). `None` of any other.
    #[getter]
    fn remote_stats<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.counters.as_ref().map(|counters| remote::stats(py, counters)).transpose()
    }

    /// The rows of all sections whose metadata has these values: an index for arrays, and a way to read them.
    ///
    /// Values are compared as JSON: `1` equals `1.0` and never `True`.
    #[pyo3(name = "where", signature = (conditions=None, /, **more))]
    fn find(
        &self,
        py: Python<'_>,
        conditions: Option<&Bound<'_, PyDict>>,
        more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Selection> {
        Selection::find(py, &self.handle, conditions, more)
    }

    /// The `k` nearest rows of the only array, or of the one named `vectors`: `Array.search`.
    #[pyo3(signature = (queries, k=10, *, metric="cosine", r#where=None, rows=None, rescore=None, candidates=None, dims=None, device="cpu"))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: usize,
        metric: &str,
        r#where: Option<&Bound<'py, PyDict>>,
        rows: Option<&Bound<'py, PyAny>>,
        rescore: Option<&str>,
        candidates: Option<usize>,
        dims: Option<u32>,
        device: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = self.vectors(py)?;
        array.search(py, queries, k, metric, r#where, rows, rescore, candidates, dims, device)
    }

    /// Compares every byte with its checksum. Returns what is damaged: an empty list if nothing is.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.handle.reader()?;
        let report = detached(py, || reader.verify())?;
        let damage = py.import("cvc._metadata")?.getattr("Damage")?;
        let found = report.damage.into_iter().map(|found| {
            let bytes: Vec<(u64, u64)> = found.bytes.iter().map(|bytes| (bytes.start, bytes.end)).collect();
            let rows = (found.rows.start, found.rows.end);
            damage.call1((found.array, found.chunk.0, rows, bytes, found.what))
        });
        Ok(pyo3::types::PyList::new(py, found.collect::<PyResult<Vec<_>>>()?)?.into_any())
    }

    /// Writes this file at `path` in another layout: every row decodes to the same bits.
    #[pyo3(signature = (path, layout="native", *, overwrite=true))]
    fn convert(&self, py: Python<'_>, path: PathBuf, layout: &str, overwrite: bool) -> PyResult<()> {
        let reader = self.handle.reader()?;
        let layout = crate::writer::layout_named(py, layout)?;
        detached(py, || reader.convert(&path, layout, crate::writer::overwriting(overwrite)).map(drop))
    }

    /// Begins a native file at `path` with arrays of this one, copied as they are: pairs of a name here and a name there.
    /// Arrays can be attached to the writer that is returned, and it must be finished.
    fn _copy_arrays(&self, py: Python<'_>, path: PathBuf, arrays: Vec<(String, String)>) -> PyResult<Writer> {
        let reader = self.handle.reader()?;
        let pairs: Vec<(&str, &str)> = arrays.iter().map(|(from, to)| (&**from, &**to)).collect();
        let writer = detached(py, || reader.copy_arrays(&path, &pairs, cvc::Overwrite::Allow))?;
        Ok(Writer::of(writer, path, arrays.into_iter().map(|(_, to)| to).collect()))
    }

    /// Writes what is whole of a damaged native file at `path`. Returns the ranges of rows that are lost, by array.
    #[pyo3(signature = (path, *, overwrite=false))]
    fn repair<'py>(&self, py: Python<'py>, path: PathBuf, overwrite: bool) -> PyResult<Bound<'py, PyDict>> {
        let reader = self.handle.reader()?;
        let report = detached(py, || reader.repair(&path, crate::writer::overwriting(overwrite)))?;
        let lost = PyDict::new(py);
        for of_array in &report.lost {
            let ranges: Vec<(u64, u64)> = of_array.rows.iter().map(|rows| (rows.start, rows.end)).collect();
            lost.set_item(&of_array.array, ranges)?;
        }
        Ok(lost)
    }

    /// Whether the file was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.0.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Lets go of the file. Arrays of it can no longer be read; what was read stays.
    fn close(&self, py: Python<'_>) {
        let reader = self.handle.0.write().unwrap_or_else(PoisonError::into_inner).take();
        // The source may be an object of Python, or a map that takes long to undo.
        py.detach(|| drop(reader));
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    /// Arrow: all arrays with as many rows as the first, as record batches that are decoded chunk by chunk as they are asked for.
    /// `requested_schema` is not heeded,
    /// which the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let reader = self.handle.reader()?;
        stream(py, table(py, &reader, None, None)?, None)
    }

    /// Arrow: the schema of the batches.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let reader = self.handle.reader()?;
        schema(py, &table(py, &reader, None, None)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("cvc._repr")?.call_method1("file_text", (slf,))?.extract()
    }

    fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("cvc._repr")?.call_method1("file_html", (slf,))?.extract()
    }
}

/// `NoSuchArrayError` with the names there are.
pub(crate) fn no_such_array(py: Python<'_>, error: cvc::Error) -> PyErr {
    let cvc::Error::Argument { value, problem, .. } = error else { return raised(py, error) };
    let message = format!("no array {value:?}: {problem}");
    let made =
        py.import("cvc._errors").and_then(|errors| errors.getattr("NoSuchArrayError")?.call1((message,)));
    made.map_or_else(|broken| broken, PyErr::from_value)
}
