//! The nearest rows: from queries of Python to arrays of numbers of rows and scores.

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use cvc::{Array, ArrayDType, ArrayRows, DType, DeviceChoice, Reader, RowSlice, Rows};
use cvc_search::recall::{by_rows, truth_of};
use cvc_search::{Answer, Metric, Search, first_values};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::array::{backend, new_array, of};
use crate::errors::{of_class, raised, raised_by_search};
use crate::file::no_such_array;
use crate::fork::at_home;
use crate::input::{Held, Input};
use crate::memory::Memory;
use crate::numpy::{Numpy, integers};

/// What is asked for.
pub(crate) struct Asked<'a> {
    pub(crate) k: usize,
    pub(crate) metric: &'a str,
    /// Rows that all of these mean are searched.
    pub(crate) rows: Vec<Rows>,
    pub(crate) rescore: Option<&'a str>,
    pub(crate) candidates: Option<usize>,
    pub(crate) dims: Option<u32>,
    pub(crate) device: &'a str,
}

/// The nearest rows of an array for some queries: a `cvc.SearchResult`.
pub(crate) fn search<'py>(
    py: Python<'py>,
    reader: &Arc<Reader>,
    position: usize,
    queries: &Bound<'py, PyAny>,
    asked: Asked<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let refuse = |problem: String| of_class(py, "ArgumentError", problem);
    let metric: Metric =
        asked.metric.parse().map_err(|error: cvc_search::UnknownMetric| refuse(error.to_string()))?;
    let array = prefix(py, of(reader, position), asked.dims)?;
    let whole = array.index().dim as usize;
    let input = Input::new(queries)?;
    let Some((_, inner)) = input.values() else {
        return Err(PyTypeError::new_err("queries are numbers, not strings"));
    };
    // A list of numbers is one query, unless rows have one value.
    let alone = inner.is_empty() && !array.index().inner.is_empty();
    let held = input.hold(py, 0..input.rows())?;
    let mut rows = values(&held).map_err(|error| raised(py, error))?;
    if alone {
        rows = RowSlice::from_bytes(rows.dtype(), 1, rows.len(), rows.bytes())
            .map_err(|error| raised(py, error.into()))?;
    }
    let first;
    if asked.dims.is_some() && rows.dim() == whole {
        let (count, dtype, dim) = (rows.len(), rows.dtype(), array.dim() as usize);
        first = first_values(rows, dim);
        rows = RowSlice::from_bytes(dtype, count, dim, first.bytes())
            .map_err(|error| raised(py, error.into()))?;
    }

    let mut search = Search::new(array, metric).k(asked.k);
    for rows in asked.rows {
        search = search.rows(rows);
    }
    match (asked.rescore, asked.candidates) {
        (Some(name), candidates) => {
            let better = reader.array(name).map_err(|error| no_such_array(py, error))?;
            let candidates = candidates.unwrap_or_else(|| Search::candidates_for(asked.k));
            search = search.rescore(prefix(py, better, asked.dims)?, candidates);
        }
        (None, Some(candidates)) => {
            return Err(refuse(format!(
                "candidates = {candidates}: they are of a search that rescores; say by which array"
            )));
        }
        (None, None) => {}
    }
    let (answer, device) = run(py, &search, rows, asked.device)?;
    result(py, &answer, asked.k, alone, &device)
}

/// Runs the search without the interpreter, which is asked for Ctrl-C in between.
fn run(
    py: Python<'_>,
    search: &Search<'_>,
    queries: RowSlice<'_>,
    device: &str,
) -> PyResult<(Answer, String)> {
    let choice = DeviceChoice::from_str(device).map_err(|error| raised(py, error))?;
    let opened = backend(py, device)?;
    let raised_meanwhile: Mutex<Option<PyErr>> = Mutex::new(None);
    let go_on = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => true,
        Err(error) => {
            *raised_meanwhile.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            false
        }
    };
    let search = search.clone().while_true(&go_on);
    let done = py.detach(|| {
        at_home(|| match (&opened, &choice) {
            (Some(backend), _) => {
                search.on(backend).run(queries).map(|answer| (answer, backend.device().kind.to_string()))
            }
            (None, DeviceChoice::Auto) => search
                .run_on(&choice, queries)
                .map(|(answer, chosen)| (answer, chosen.backend.device().kind.to_string())),
            (None, _) => search.run(queries).map(|answer| (answer, "cpu".to_owned())),
        })
    });
    let raised_meanwhile = raised_meanwhile.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.map_err(|error| raised_meanwhile.unwrap_or_else(|| raised_by_search(py, error)))
}

/// The values of each row that are looked at.
fn prefix<'r>(py: Python<'_>, array: Array<'r>, dims: Option<u32>) -> PyResult<Array<'r>> {
    if array.index().dtype == ArrayDType::Utf8 {
        return Err(PyTypeError::new_err(format!(
            "array {:?} holds strings, which no metric is for",
            array.index().name
        )));
    }
    match dims {
        Some(dims) => array.prefix(dims).map_err(|error| raised(py, error)),
        None => Ok(array),
    }
}

fn values<'h>(held: &'h Held<'_>) -> Result<RowSlice<'h>, cvc::Error> {
    match held.rows()? {
        ArrayRows::Values(rows) => Ok(rows),
        ArrayRows::Strings { .. } => unreachable!("strings were refused"),
    }
}

fn result<'py>(
    py: Python<'py>,
    answer: &Answer,
    k: usize,
    alone: bool,
    device: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let table = answer.table(k).map_err(|error| raised_by_search(py, error))?;
    let queries = answer.hits.len() as u64;
    let shape = if alone { vec![k as u64] } else { vec![queries, k as u64] };
    let indices = filled(py, &shape, DType::I64, bytemuck::cast_slice(&table.indices))?;
    let scores = filled(py, &shape, DType::F32, bytemuck::cast_slice(&table.scores))?;
    let more = PyDict::new(py);
    more.set_item("metric", answer.metric.name())?;
    match answer.nan_rows.as_slice() {
        [count] if alone => more.set_item("nan_rows", count)?,
        counts => {
            more.set_item("nan_rows", filled(py, &[queries], DType::U64, bytemuck::cast_slice(counts))?)?;
        }
    }
    more.set_item("scored", answer.scored)?;
    more.set_item("device", device)?;
    py.import("cvc._search")?.getattr("SearchResult")?.call((indices, scores), Some(&more))
}

/// A new array of NumPy with these bytes.
fn filled<'py>(py: Python<'py>, shape: &[u64], dtype: DType, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let values = new_array(py, shape, dtype)?;
    Memory::writable(&values)?.bytes_mut().copy_from_slice(bytes);
    Ok(values)
}

/// The share of the first `k` true rows of each query that are among the first `k` found.
///
/// Both are arrays of numbers of rows, the nearest first, a line for each query; -1 stands where there was no other row. What `search`
/// returned will do. By default `k` is as many as both have. Rows that are equally near are not told apart: the numbers count.
#[pyfunction]
#[pyo3(signature = (found, truth, k=None))]
pub(crate) fn recall(
    py: Python<'_>,
    found: &Bound<'_, PyAny>,
    truth: &Bound<'_, PyAny>,
    k: Option<usize>,
) -> PyResult<f64> {
    let (found, found_width) = lists(py, found, "found")?;
    let (truth, truth_width) = lists(py, truth, "truth")?;
    let refuse = |problem: String| Err(of_class(py, "ArgumentError", problem));
    if found.len() != truth.len() {
        let (found, truth) = (found.len(), truth.len());
        return refuse(format!(
            "found has lists for {found} queries, truth for {truth}: give those of the same queries"
        ));
    }
    let most = found_width.min(truth_width);
    let k = k.unwrap_or(most);
    if k > most {
        let problem = format!("k = {k}: found has {found_width} rows for each query, truth {truth_width}");
        return refuse(problem);
    }
    Ok(by_rows(&found, &truth, k).share().unwrap_or(f64::NAN))
}

/// Lists of numbers of rows, and how long they are at most.
fn lists(py: Python<'_>, object: &Bound<'_, PyAny>, name: &str) -> PyResult<(Vec<Vec<u64>>, usize)> {
    let numbers = match object.getattr("indices") {
        Ok(indices) => indices,
        Err(_) => Numpy::asarray(object)?,
    };
    let kind: String = numbers.getattr("dtype")?.getattr("kind")?.extract()?;
    let shape: Vec<usize> = numbers.getattr("shape")?.extract()?;
    let (queries, width) = match shape.as_slice() {
        [width] => (1, *width),
        [queries, width] => (*queries, *width),
        _ => return Err(PyValueError::new_err(format!("{name} needs a line of row numbers for each query"))),
    };
    if !["i", "u"].contains(&kind.as_str()) && queries * width > 0 {
        return Err(PyTypeError::new_err(format!("{name} needs numbers of rows, which are integers")));
    }
    if queries * width == 0 {
        return Ok((vec![Vec::new(); queries], width));
    }
    let flat = numbers.call_method1("reshape", PyTuple::new(py, [-1])?)?;
    let lists = truth_of(integers(&flat)?, width, u64::MAX);
    Ok((lists.map_err(|error| of_class(py, "ArgumentError", format!("{name}: {error}")))?, width))
}
