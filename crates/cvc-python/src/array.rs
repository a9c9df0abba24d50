//! One array of an open file, and how rows of it become arrays of Python.

use std::ops::Range;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use cvc::{AnyBackend, ArrayDType, DType, DeviceChoice, HostBuffer, OnDamage, Reader, Rows};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyTuple};

use crate::arrow::{schema, stream, table};
use crate::device::DeviceArray;
use crate::errors::{detached, is_of_class, of_class, raised};
use crate::file::{Handle, no_such_array};
use crate::memory::Memory;
use crate::numpy::Numpy;
use crate::rows::{Picked, Selection, pick, wanted};
use crate::search::{Asked, search};
use crate::{dlpack, dtype, json};
use cvc_arrow::windows;

/// Bytes that are decoded before Python is asked whether somebody pressed Ctrl-C, and told how far it is.
const WINDOW_LEN: u64 = 256 << 20;

/// An array of an open file. Nothing is read before rows are asked for: `array[10:20]`, `array[[3, 1, 7]]`,
/// `numpy.asarray(array)`, `array.read(...)`.
#[pyclass(frozen, sequence, module = "cvc")]
pub(crate) struct Array {
    handle: Handle,
    position: usize,
}

impl Array {
    pub(crate) fn at(handle: Handle, position: usize) -> Array {
        Array { handle, position }
    }

    pub(crate) fn named(py: Python<'_>, handle: &Handle, name: &str) -> PyResult<Array> {
        let reader = handle.reader()?;
        match reader.array_names().position(|other| other == name) {
            Some(position) => Ok(Array::at(handle.clone(), position)),
            None => Err(reader.array(name).map_or_else(|error| no_such_array(py, error), |_| unreachable!())),
        }
    }

    pub(crate) fn vectors(py: Python<'_>, handle: &Handle) -> PyResult<Array> {
        let reader = handle.reader()?;
        let name = reader.vectors().map_err(|error| no_such_array(py, error))?.index().name.clone();
        Array::named(py, handle, &name)
    }

    /// Does something with the array of the reader.
    fn with<T>(&self, f: impl FnOnce(cvc::Array<'_>) -> T) -> PyResult<T> {
        let reader = self.handle.reader()?;
        Ok(f(of(&reader, self.position)))
    }

    /// The rows that `key` picks, as `read` gives them but for a single row, which has no axis of rows.
    fn get<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.handle.reader()?;
        let array = of(&reader, self.position);
        let rows = array.rows();
        let Ok(keys) = key.cast::<PyTuple>() else {
            return self.picked(py, &reader, pick(key, rows)?, None);
        };
        // `array[rows, dims]`: the first values of rows are read as such, all else is for NumPy.
        let mut keys = keys.iter();
        let Some(first) = keys.next() else { return self.picked(py, &reader, Picked::Many(Rows::ALL), None) };
        let rest: Vec<Bound<'py, PyAny>> = keys.collect();
        if first.is(py.Ellipsis()) && !rest.is_empty() {
            // Which axes what follows is of, NumPy knows.
            return self.picked(py, &reader, Picked::Many(Rows::ALL), None)?.get_item(key);
        }
        let picked = pick(&first, rows)?;
        if array.index().inner.len() == 1
            && let [dims] = rest.as_slice()
            && let Some(prefix) = prefix(dims, array.dim())
        {
            return self.picked(py, &reader, picked, Some(prefix));
        }
        let lone = matches!(picked, Picked::One(_));
        let values = self.picked(py, &reader, picked, None)?;
        let mut key = rest;
        if !lone {
            key.insert(0, pyo3::types::PySlice::full(py).into_any());
        }
        values.get_item(PyTuple::new(py, key)?)
    }

    fn picked<'py>(
        &self,
        py: Python<'py>,
        reader: &Arc<Reader>,
        picked: Picked,
        prefix: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match picked {
            Picked::Many(rows) => {
                read(py, reader, self.position, &Wanted { rows, prefix, ..Wanted::default() })
            }
            Picked::One(row) => {
                let wanted = Wanted { rows: Rows::from(row..row + 1), prefix, ..Wanted::default() };
                read(py, reader, self.position, &wanted)?.get_item(0)
            }
        }
    }
}

/// Array `position` of a file.
pub(crate) fn of(reader: &Reader, position: usize) -> cvc::Array<'_> {
    reader.arrays().nth(position).expect("a position among the arrays")
}

/// How many of the first values of each row `dims` asks for, if it is `:n` and nothing else.
fn prefix(dims: &Bound<'_, PyAny>, dim: u32) -> Option<u32> {
    let slice = dims.cast::<pyo3::types::PySlice>().ok()?;
    let indices = slice.indices(isize::try_from(dim).ok()?).ok()?;
    let all_from_start = indices.start == 0 && indices.step == 1 && indices.slicelength > 0;
    if all_from_start { u32::try_from(indices.slicelength).ok() } else { None }
}

/// What to read.
pub(crate) struct Wanted<'a, 'py> {
    pub(crate) rows: Rows,
    pub(crate) prefix: Option<u32>,
    pub(crate) dtype: Option<DType>,
    pub(crate) out: Option<&'a Bound<'py, PyAny>>,
    pub(crate) backend: Option<&'a AnyBackend>,
    /// Called with the rows that are done and all rows.
    pub(crate) progress: Option<&'a Bound<'py, PyAny>>,
}

impl Default for Wanted<'_, '_> {
    fn default() -> Self {
        Wanted { rows: Rows::ALL, prefix: None, dtype: None, out: None, backend: None, progress: None }
    }
}

/// Rows of an array as a NumPy array: of values, or of objects if they are strings.
pub(crate) fn read<'py>(
    py: Python<'py>,
    reader: &Arc<Reader>,
    position: usize,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut array = of(reader, position);
    if array.index().dtype == ArrayDType::Utf8 {
        return read_strings(py, reader, position, wanted);
    }
    let fail = |error| raised(py, error);
    if let Some(prefix) = wanted.prefix {
        array = array.prefix(prefix).map_err(fail)?;
    }
    if let Some(out) = wanted.out
        && !out.is_instance(Numpy::get(py)?.ndarray.bind(py))?
    {
        return Err(PyTypeError::new_err("out must be a numpy.ndarray"));
    }
    let out_dtype = match (wanted.dtype, wanted.out) {
        (Some(dtype), _) => dtype,
        (None, Some(out)) => dtype::of_numpy(&out.getattr("dtype")?)?,
        (None, None) => array.dtype().map_err(fail)?,
    };
    let ranges = wanted.rows.resolve(array.rows()).map_err(fail)?;
    let row_count = count(&ranges);
    // Earned: the file has the bytes that so many rows need, before any memory is asked for.
    let rows = wanted.rows.clone();
    let len = detached(py, || array.decoded_len(rows, out_dtype))? as u64;
    let mut shape: Vec<u64> = array.index().inner.iter().map(|len| u64::from(*len)).collect();
    if let (Some(prefix), Some(last)) = (wanted.prefix, shape.last_mut()) {
        *last = u64::from(prefix);
    }
    shape.insert(0, row_count);
    let values = match wanted.out {
        Some(out) => {
            check_out(out, out_dtype, &shape)?;
            out.clone()
        }
        None => new_array(py, &shape, out_dtype)?,
    };
    if len == 0 {
        if let Some(progress) = wanted.progress {
            progress.call1((row_count, row_count))?;
        }
        return Ok(values);
    }
    let mut memory = Memory::writable(&viewable(&values, out_dtype)?)?;
    let window_rows = (WINDOW_LEN / (len / row_count).max(1)).max(1);
    let mut bytes = memory.bytes_mut();
    let (row_len, mut done) = (usize::try_from(len / row_count)?, 0);
    for window in windows(&ranges, window_rows) {
        let rows = count(&window);
        let (part, rest) = bytes.split_at_mut(row_len * usize::try_from(rows)?);
        bytes = rest;
        let (fresh, backend) = (wanted.out.is_none(), wanted.backend);
        detached(py, || {
            let mut part = HostBuffer::from_bytes(out_dtype, part)?;
            if fresh {
                part = part.never_written();
            }
            match backend {
                Some(backend) => backend.read_into(&array, window, out_dtype, &mut part),
                None => array.decode(&cvc::CpuBackend::new(), window, out_dtype, &mut part),
            }
        })?;
        done += rows;
        if row_count > window_rows {
            py.check_signals()?;
        }
        if let Some(progress) = wanted.progress {
            progress.call1((done, row_count))?;
        }
    }
    Ok(values)
}

fn read_strings<'py>(
    py: Python<'py>,
    reader: &Arc<Reader>,
    position: usize,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if wanted.dtype.is_some() || wanted.out.is_some() || wanted.prefix.is_some() {
        return Err(PyTypeError::new_err(
            "the array holds strings: they have no dtype, and need memory of their own",
        ));
    }
    let array = of(reader, position);
    let rows = wanted.rows.clone();
    let strings = detached(py, || array.read_strings(rows))?;
    if let Some(progress) = wanted.progress {
        progress.call1((strings.len(), strings.len()))?;
    }
    Numpy::objects(py, PyList::new(py, strings.iter())?.into_any())
}

/// Refuses a destination that is not an array of exactly these values.
pub(crate) fn check_out(out: &Bound<'_, PyAny>, of: DType, shape: &[u64]) -> PyResult<()> {
    let given: Vec<u64> = out.getattr("shape")?.extract()?;
    let given_dtype = out.getattr("dtype")?;
    let native: bool = given_dtype.getattr("isnative")?.extract()?;
    if given != shape || dtype::of_numpy(&given_dtype)? != of || !native {
        let problem = format!(
            "out has shape {given:?} and dtype {given_dtype}; shape {shape:?} and dtype {} are needed",
            dtype::numpy_name(of)
        );
        return Err(PyValueError::new_err(problem));
    }
    Ok(())
}

/// The same memory, as an array whose dtype the buffer protocol can describe.
pub(crate) fn viewable<'py>(values: &Bound<'py, PyAny>, of: DType) -> PyResult<Bound<'py, PyAny>> {
    if of == DType::Bf16 { values.call_method1("view", ("uint16",)) } else { Ok(values.clone()) }
}

pub(crate) fn count(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// The backend of this name, opened once: a card takes its time to open.
pub(crate) fn backend(py: Python<'_>, name: &str) -> PyResult<Option<Arc<AnyBackend>>> {
    static OPEN: Mutex<Vec<(String, Arc<AnyBackend>)>> = Mutex::new(Vec::new());
    if name == "cpu" || name == "auto" {
        // To memory of the host the processor is the shortest way: a card would send decoded rows over the bus.
        return Ok(None);
    }
    let chosen = detached(py, || {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, backend)) = open.iter().find(|(known, _)| known == name) {
            return Ok(backend.clone());
        }
        let chosen = cvc::choose(&DeviceChoice::from_str(name)?)?;
        let backend = Arc::new(chosen.backend);
        open.push((name.to_owned(), backend.clone()));
        Ok(backend)
    })?;
    Ok(Some(chosen))
}

/// What is known of every device, in the order of automatic choice: a list of dicts.
#[pyfunction]
pub(crate) fn devices<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
    let reports = py.detach(cvc::devices);
    let reports = reports.into_iter().map(|report| {
        let dict = PyDict::new(py);
        dict.set_item("backend", report.kind.name())?;
        dict.set_item("number", report.number)?;
        dict.set_item("name", report.name)?;
        dict.set_item("available", report.available)?;
        dict.set_item("automatic", report.automatic)?;
        dict.set_item("reason", report.reason)?;
        Ok(dict)
    });
    PyList::new(py, reports.collect::<PyResult<Vec<_>>>()?)
}

#[pymethods]
impl Array {
    /// The name in the file.
    #[getter]
    fn name(&self) -> PyResult<String> {
        self.with(|array| array.index().name.clone())
    }

    /// Rows, and the shape of a row.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.with(|array| array.index().shape())?)
    }

    /// Number of axes.
    #[getter]
    fn ndim(&self) -> PyResult<usize> {
        self.with(|array| array.index().shape().len())
    }

    /// Number of values.
    #[getter]
    fn size(&self) -> PyResult<u64> {
        self.with(|array| array.index().shape().iter().product())
    }

    /// The dtype that reading gives unless another is asked for: that of NumPy, `object` for strings.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let of = self.with(|array| match array.index().dtype {
            ArrayDType::Utf8 => Ok(None),
            _ => array.dtype().map(Some),
        })?;
        match of.map_err(|error| raised(py, error))? {
            Some(of) => dtype::to_numpy(py, of),
            None => Numpy::get(py)?.dtype.bind(py).call1(("O",)),
        }
    }

    /// The name of the dtype that went in: `float32`, ..., or `str`.
    #[getter]
    fn stored_dtype(&self) -> PyResult<&'static str> {
        self.with(|array| match array.index().dtype {
            ArrayDType::Values(of) => dtype::numpy_name(of),
            ArrayDType::Utf8 => "str",
            ArrayDType::Unknown => "unknown",
        })
    }

    /// What the file calls the codec.
    #[getter]
    fn codec(&self) -> PyResult<String> {
        self.with(|array| array.index().codec.to_string())
    }

    /// What the file says of the codec beside its name.
    #[getter]
    fn codec_options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, &self.with(|array| array.index().codec_options.clone())?)
    }

    /// Where the values come from, if the file says so.
    #[getter]
    fn provenance<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let provenance = self.with(|array| array.index().provenance.clone())?;
        provenance.map(|provenance| json::to_python(py, &provenance)).transpose()
    }

    /// Bytes of all values, decoded.
    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<u64> {
        let len =
            self.with(|array| Ok(array.rows() * u64::from(array.dim()) * array.dtype()?.size() as u64))?;
        len.map_err(|error| raised(py, error))
    }

    /// Bytes that the chunks of the array take in the file.
    #[getter]
    fn stored_len(&self) -> PyResult<u64> {
        self.with(|array| array.index().stored_len())
    }

    /// What encoding lost, measured when it was written: `max_abs_error`, `mse`, `min_cosine`; `None` where nobody knows.
    #[getter]
    fn loss<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(loss) = self.with(|array| array.loss())? else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("max_abs_error", loss.max_abs_error)?;
        dict.set_item("mse", loss.mse)?;
        dict.set_item("min_cosine", loss.min_cosine)?;
        Ok(Some(dict))
    }

    /// The ranges of rows that were encoded together, in order.
    #[getter]
    fn chunks<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let range = py.get_type::<pyo3::types::PyRange>();
        let chunks = self.with(|array| array.chunks().map(|chunk| chunk.rows.clone()).collect::<Vec<_>>())?;
        chunks.into_iter().map(|rows| range.call1((rows.start, rows.end))).collect()
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(usize::try_from(self.with(|array| array.rows())?)?)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py, key)
    }

    /// The rows, a chunk at a time.
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("cvc._metadata")?.call_method1("iterate", (slf,))
    }

    /// Rows as a NumPy array; of strings, as an array of objects.
    ///
    /// `rows` is all that stands in brackets; `dims` reads only the first values of each row; `dtype` asks for another float
    /// dtype (`float16`, `bfloat16`, `float32`); `out` is filled instead of new memory. `backend` chooses what decodes:
    /// `cpu`, `cuda`, `wgpu`, or one of several like `wgpu:1`. `device` chooses where the rows stay: with `cuda` or `cuda:1` they
    /// come as a `cvc.DeviceArray`, which torch, CuPy and others share. Damaged rows are an error, unless `on_damage` is `skip` (they are
    /// left out) or `fill` (they are NaN, 0 or empty). `progress` is called with the rows done and the rows wanted.
    #[pyo3(signature = (rows=None, *, dims=None, dtype=None, out=None, backend="auto", device=None, on_damage="raise", progress=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn read<'py>(
        &self,
        py: Python<'py>,
        rows: Option<&Bound<'py, PyAny>>,
        dims: Option<u32>,
        dtype: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
        backend: &str,
        device: Option<&Bound<'py, PyAny>>,
        on_damage: &str,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.handle.reader()?;
        let rows = wanted(rows, of(&reader, self.position).rows())?;
        let dtype = dtype.map(dtype::parse).transpose()?;
        let opened = self::backend(py, backend)?;
        let device = match device {
            None => None,
            Some(device) => on_card(py, &device.str()?.to_cow()?)?,
        };
        let refuse = |problem: String| Err(of_class(py, "ArgumentError", problem));
        if device.is_some() && (out.is_some() || on_damage == "fill") {
            return refuse("out and on_damage=\"fill\" are for memory of the host: leave out device".into());
        }
        if device.is_some() && backend != "auto" {
            return refuse(format!(
                "backend = {backend:?}: rows that stay on a device are decoded there; leave it out"
            ));
        }
        let tell = |rows: u64| progress.map_or(Ok(()), |progress| progress.call1((rows, rows)).map(drop));
        let rows = match on_damage {
            "raise" => rows,
            "skip" => detached(py, || of(&reader, self.position).whole_rows(rows))?,
            "fill" => {
                if dims.is_some() || out.is_some() || opened.is_some() {
                    return refuse(
                        "on_damage=\"fill\" reads whole rows into new memory on the processor: leave out dims, out and backend"
                            .into(),
                    );
                }
                let values = self.filled(py, &reader, rows, dtype)?;
                tell(values.len()? as u64)?;
                return Ok(values);
            }
            other => return refuse(format!("on_damage = {other:?}: one of raise, skip, fill is needed")),
        };
        if let Some(card) = device {
            let count =
                count(&rows.resolve(of(&reader, self.position).rows()).map_err(|error| raised(py, error))?);
            let values = self.read_on(py, &reader, card, rows, dims, dtype)?;
            tell(count)?;
            return Ok(values);
        }
        let wanted = Wanted { rows, prefix: dims, dtype, out, backend: opened.as_deref(), progress };
        read(py, &reader, self.position, &wanted)
    }

    /// The `k` nearest rows for each query, exactly: a `cvc.SearchResult` of indices and scores.
    ///
    /// `queries` is an array of a row for each query, or one query. `metric` is `cosine`, `dot`, `l2`, `l2sq`, `kl`, `js`, `hamming` or
    /// `jaccard`. `where` (a dict of metadata) and `rows` (all that stands in brackets) narrow the search. `rescore` names a better array of the
    /// same file, which scores the best `candidates` again. `dims` looks at the first values of each row only. `device` is `cpu`, `auto` or one that
    /// `cvc.devices()` lists.
    #[pyo3(signature = (queries, k=10, *, metric="cosine", r#where=None, rows=None, rescore=None, candidates=None, dims=None, device="cpu"))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    pub(crate) fn search<'py>(
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
        let reader = self.handle.reader()?;
        let mut narrowed = Vec::new();
        if let Some(conditions) = r#where {
            narrowed.push(Selection::find(py, &self.handle, Some(conditions), None)?.rows);
        }
        if rows.is_some() {
            narrowed.push(wanted(rows, of(&reader, self.position).rows())?);
        }
        let asked = Asked { k, metric, rows: narrowed, rescore, candidates, dims, device };
        search(py, &reader, self.position, queries, asked)
    }

    /// Those of `rows` whose bytes are damaged, as ranges. Every block of them is read.
    #[pyo3(signature = (rows=None))]
    fn damaged_rows(&self, py: Python<'_>, rows: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(u64, u64)>> {
        let reader = self.handle.reader()?;
        let array = of(&reader, self.position);
        let rows = wanted(rows, array.rows())?;
        let lost = detached(py, || array.lost_rows(&rows.resolve(array.rows())?))?;
        Ok(lost.into_iter().map(|rows| (rows.start, rows.end)).collect())
    }

    /// The ranges of the file's bytes that reading `rows` needs, heads of chunks and blocks, as pairs of a start and a stop; those with
    /// less than `gap` bytes between them made one. Heads that were not read yet are read to know.
    #[pyo3(signature = (rows=None, *, gap=0))]
    fn byte_ranges(
        &self,
        py: Python<'_>,
        rows: Option<&Bound<'_, PyAny>>,
        gap: u64,
    ) -> PyResult<Vec<(u64, u64)>> {
        let reader = self.handle.reader()?;
        let array = of(&reader, self.position);
        let rows = wanted(rows, array.rows())?;
        let ranges = detached(py, || array.byte_ranges(rows, gap))?;
        Ok(ranges.into_iter().map(|range| (range.start, range.end)).collect())
    }

    /// NumPy's protocol: `numpy.asarray(array)` reads all rows. There is nothing to share, so `copy=False` is refused.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            return Err(PyValueError::new_err(
                "the array is encoded: it cannot be had without decoding it to new memory",
            ));
        }
        let reader = self.handle.reader()?;
        // What cannot be decoded to is for NumPy to convert to.
        let wanted = dtype.and_then(|wanted| dtype::parse(wanted).ok());
        let (stored, decoded) = self.with(|array| (array.index().dtype, array.dtype()))?;
        let direct = wanted.filter(|wanted| {
            stored != ArrayDType::Utf8 && decoded.is_ok() && wanted.is_float() && *wanted != DType::F64
        });
        let values = match read(py, &reader, self.position, &Wanted { dtype: direct, ..Wanted::default() }) {
            Err(error) if direct.is_some() && is_of_class(py, &error, "ArgumentError") => {
                read(py, &reader, self.position, &Wanted::default())?
            }
            values => values?,
        };
        match dtype {
            Some(dtype) => values.call_method1("astype", (dtype, "K", "unsafe", true, false)),
            None => Ok(values),
        }
    }

    /// DLPack: memory of the host.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (dlpack::CPU, 0)
    }

    /// DLPack: reads all rows. `dl_device=(2, N)` (CUDA) decodes them on that card.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        dlpack::check_copy(copy)?;
        let reader = self.handle.reader()?;
        match dl_device {
            None | Some((dlpack::CPU, _)) => {}
            Some((dlpack::CUDA, number)) => {
                let card = backend(py, &format!("cuda:{number}"))?.expect("no other device is called so");
                let rows = self.read_on(py, &reader, card, Rows::ALL, None, None)?;
                let options = PyDict::new(py);
                options.set_item("stream", stream)?;
                options.set_item("max_version", max_version)?;
                return rows.call_method("__dlpack__", (), Some(&options));
            }
            Some(device) => {
                let problem =
                    format!("rows can be had on the host (1) and on CUDA (2), not on device {device:?}");
                return Err(PyBufferError::new_err(problem));
            }
        }
        if stream.is_some() {
            return Err(PyValueError::new_err("memory of the host has no streams: leave out stream"));
        }
        let (stored, of) = self.with(|array| (array.index().dtype, array.dtype()))?;
        if stored == ArrayDType::Utf8 {
            return Err(PyBufferError::new_err("the array holds strings, which DLPack has no type for"));
        }
        let of = of.map_err(|error| raised(py, error))?;
        let values = read(py, &reader, self.position, &Wanted::default())?;
        let shape: Vec<u64> = values.getattr("shape")?.extract()?;
        let lent = dlpack::Lent::Host(Memory::writable(&viewable(&values, of)?)?);
        dlpack::capsule(py, lent, of, &shape, max_version)
    }

    /// Arrow: one column of record batches, decoded chunk by chunk as they are asked for. `requested_schema` is not heeded,
    /// which the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let reader = self.handle.reader()?;
        stream(py, table(py, &reader, Some(&[self.position]), None)?, None)
    }

    /// Arrow: the schema of the batches.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let reader = self.handle.reader()?;
        schema(py, &table(py, &reader, Some(&[self.position]), None)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("cvc._repr")?.call_method1("array_text", (slf,))?.extract()
    }

    fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("cvc._repr")?.call_method1("array_html", (slf,))?.extract()
    }
}

/// The card that `device` stands for; none for memory of the host.
fn on_card(py: Python<'_>, device: &str) -> PyResult<Option<Arc<AnyBackend>>> {
    let problem = match device.split(':').next() {
        Some("cpu") => return Ok(None),
        Some("cuda") => return backend(py, device),
        Some("wgpu") => {
            "memory of wgpu cannot be shared with Python: backend=\"wgpu\" decodes there and brings the rows to the host"
        }
        _ => "one of cpu, cuda, cuda:N is needed",
    };
    let problem = problem.to_owned();
    Err(raised(py, cvc::Error::Argument { argument: "device", value: format!("{device:?}"), problem }))
}

impl Array {
    /// The rows in memory of a card.
    fn read_on<'py>(
        &self,
        py: Python<'py>,
        reader: &Reader,
        card: Arc<AnyBackend>,
        rows: Rows,
        prefix: Option<u32>,
        dtype: Option<DType>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let AnyBackend::Cuda(cuda) = &*card else { unreachable!("`on_card` takes no other") };
        let fail = |error| raised(py, error);
        let mut array = of(reader, self.position);
        if array.index().dtype == ArrayDType::Utf8 {
            return Err(PyTypeError::new_err("the array holds strings, which devices have no use for"));
        }
        if let Some(prefix) = prefix {
            array = array.prefix(prefix).map_err(fail)?;
        }
        let out = dtype.map_or_else(|| array.dtype().map_err(fail), Ok)?;
        let mut shape = array.index().shape();
        shape[0] = count(&rows.resolve(array.rows()).map_err(fail)?);
        if let (Some(prefix), Some(last)) = (prefix, shape.last_mut()) {
            *last = u64::from(prefix);
        }
        let buffer = detached(py, || array.read_on(&**cuda, rows, out))?;
        Ok(Bound::new(py, DeviceArray::new(card, buffer, out, shape))?.into_any())
    }

    /// The rows, with those filled that are damaged.
    fn filled<'py>(
        &self,
        py: Python<'py>,
        reader: &Reader,
        rows: Rows,
        dtype: Option<DType>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = of(reader, self.position);
        if array.index().dtype == ArrayDType::Utf8 {
            let salvaged = detached(py, || array.salvage_strings(rows, OnDamage::Fill))?;
            return Numpy::objects(py, PyList::new(py, salvaged.values.iter())?.into_any());
        }
        let fail = |error| raised(py, error);
        let out = dtype.map_or_else(|| array.dtype().map_err(fail), Ok)?;
        let mut shape = array.index().shape();
        shape[0] = count(&rows.resolve(array.rows()).map_err(fail)?);
        let values = new_array(py, &shape, out)?;
        let mut memory = Memory::writable(&viewable(&values, out)?)?;
        let bytes = memory.bytes_mut();
        detached(py, || array.salvage_into(rows, &mut HostBuffer::from_bytes(out, bytes)?))?;
        Ok(values)
    }
}

/// An array of NumPy whose values are yet to be written.
pub(crate) fn new_array<'py>(py: Python<'py>, shape: &[u64], of: DType) -> PyResult<Bound<'py, PyAny>> {
    Numpy::get(py)?.empty.bind(py).call1((PyTuple::new(py, shape)?, dtype::to_numpy(py, of)?))
}
