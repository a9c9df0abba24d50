//! Which rows: what stands between the brackets of `array[...]`, and what `file.where(...)` found.

use std::ops::Range;

use cvc::{DType, Rows};
use cvc_arrow::{Part, Table};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use crate::arrow::{schema, stream, table};
use crate::dtype;
use crate::errors::{detached, raised, raised_by_store};
use crate::file::{Handle, no_such_array};
use crate::key::Key;

/// Rows of a key, for an array of a known number of rows.
pub(crate) enum Picked {
    /// One: the result has no axis of rows.
    One(u64),
    /// Any number, in the order wanted.
    Many(Rows),
}

/// The rows that `key` picks of `rows` rows, as NumPy would.
pub(crate) fn pick(key: &Bound<'_, PyAny>, rows: u64) -> PyResult<Picked> {
    if let Ok(selection) = key.cast::<Selection>() {
        return Ok(Picked::Many(selection.get().rows.clone()));
    }
    let py = key.py();
    let key = Key::of(key)?;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let each = key.selection().each(rows, |first, len| ranges.push(first..first + len));
    each.map_err(|error| raised_by_store(py, error))?;
    match (key, ranges.first()) {
        (Key::One(_), Some(row)) => Ok(Picked::One(row.start)),
        _ => Ok(Picked::Many(Rows::from(ranges))),
    }
}

/// The rows that a caller of a method wants of `rows` rows: all, unless there is a key.
pub(crate) fn wanted(key: Option<&Bound<'_, PyAny>>, rows: u64) -> PyResult<Rows> {
    Ok(match key.map(|key| pick(key, rows)).transpose()? {
        None => Rows::ALL,
        Some(Picked::Many(rows)) => rows,
        Some(Picked::One(row)) => Rows::from(row..row + 1),
    })
}

/// Rows of the sections that meet some conditions: `file.where(source="arxiv")`. An index of arrays, and a way to read
/// them: `selection["vectors"]`.
#[pyclass(frozen, module = "cvc")]
pub(crate) struct Selection {
    pub(crate) handle: Handle,
    pub(crate) rows: Rows,
    /// The same, resolved.
    pub(crate) ranges: Vec<Range<u64>>,
    /// What Arrow gets of them, unless it is all arrays with as many rows as the first.
    columns: Option<Vec<usize>>,
    /// What Arrow gets floats as, unless it is what the file says.
    dtype: Option<DType>,
}

impl Selection {
    /// The rows of all sections of the file that meet the conditions of `conditions` and `more`.
    pub(crate) fn find(
        py: Python<'_>,
        handle: &Handle,
        conditions: Option<&Bound<'_, PyDict>>,
        more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Selection> {
        let reader = handle.reader()?;
        let mut wanted = Vec::new();
        for (key, value) in conditions.into_iter().chain(more).flat_map(|conditions| conditions.iter()) {
            wanted.push(cvc::Condition::new(key.extract::<String>()?, crate::json::from_python(&value)?));
        }
        let rows = reader.find(&wanted).map_err(|error| raised(py, error))?;
        let of_rows = reader.arrays().next().map_or(0, |array| array.rows());
        let ranges = rows.resolve(of_rows).map_err(|error| raised(py, error))?;
        Ok(Selection { handle: handle.clone(), rows, ranges, columns: None, dtype: None })
    }

    /// Rows by number, and the arrays that Arrow gets.
    pub(crate) fn of(
        py: Python<'_>,
        handle: &Handle,
        ranges: Vec<Range<u64>>,
        arrays: &[String],
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Selection> {
        let reader = handle.reader()?;
        let rows = Rows::from(ranges);
        let mut columns = Vec::new();
        let mut resolved = Vec::new();
        for name in arrays {
            let array = reader.array(name).map_err(|error| no_such_array(py, error))?;
            resolved = rows.resolve(array.rows()).map_err(|error| raised(py, error))?;
            columns.extend(reader.array_names().position(|other| other == name));
        }
        let dtype = dtype.map(dtype::parse).transpose()?;
        Ok(Selection { handle: handle.clone(), rows, ranges: resolved, columns: Some(columns), dtype })
    }

    /// Rows of `ranges`, whatever rows these are, in parts that end where blocks of the arrays do.
    pub(crate) fn divided(&self, py: Python<'_>, ranges: &[Range<u64>], max_len: u64) -> PyResult<Vec<Part>> {
        let reader = self.handle.reader()?;
        let arrays = self.columns.as_deref().unwrap_or_default();
        detached(py, || cvc_arrow::divide(&reader, arrays, self.dtype, ranges, max_len))
    }

    /// What Arrow gets rows of.
    pub(crate) fn table(&self, py: Python<'_>) -> PyResult<Table> {
        table(py, &self.handle.reader()?, self.columns.as_deref(), self.dtype)
    }
}

#[pymethods]
impl Selection {
    /// The rows, as ranges in file order.
    #[getter]
    fn ranges(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let range = py.get_type::<pyo3::types::PyRange>();
        self.ranges.iter().map(|rows| Ok(range.call1((rows.start, rows.end))?.unbind())).collect()
    }

    fn __len__(&self) -> usize {
        self.ranges.iter().map(|rows| usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX)).sum()
    }

    /// These rows of the array of that name.
    fn __getitem__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let array = crate::array::Array::named(py, &slf.get().handle, name)?;
        Bound::new(py, array)?.as_any().get_item(slf)
    }

    /// These rows of the array `vectors`, or of the only one; options as those of `Array.read`.
    #[pyo3(signature = (array=None, **options))]
    fn read<'py>(
        slf: &Bound<'py, Self>,
        array: Option<&str>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let array = match array {
            Some(name) => crate::array::Array::named(py, &slf.get().handle, name)?,
            None => crate::array::Array::vectors(py, &slf.get().handle)?,
        };
        Bound::new(py, array)?.as_any().call_method("read", PyTuple::new(py, [slf])?, options)
    }

    /// The `k` nearest of these rows, of the array `vectors`, of the only one, or of `array`: `Array.search`.
    #[pyo3(signature = (queries, k=10, *, array=None, metric="cosine", rescore=None, candidates=None, dims=None, device="cpu"))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn search<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: usize,
        array: Option<&str>,
        metric: &str,
        rescore: Option<&str>,
        candidates: Option<usize>,
        dims: Option<u32>,
        device: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = match array {
            Some(name) => crate::array::Array::named(py, &slf.get().handle, name)?,
            None => crate::array::Array::vectors(py, &slf.get().handle)?,
        };
        array.search(py, queries, k, metric, None, Some(slf.as_any()), rescore, candidates, dims, device)
    }

    /// Arrow: these rows of all arrays that have as many as the first, as record batches that are decoded as they are asked for.
    /// `requested_schema` is not heeded,
    /// which the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        stream(py, self.table(py)?, Some(&self.ranges))
    }

    /// Arrow: the schema of the batches.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema(py, &self.table(py)?)
    }

    fn __repr__(&self) -> String {
        let sections = if self.ranges.len() == 1 { "range" } else { "ranges" };
        format!("<cvc.Selection: {} rows in {} {sections}>", self.__len__(), self.ranges.len())
    }
}
