//! Which rows: what stands between the brackets of `array[...]`, and what `file.where(...)` found.

use std::ops::Range;

use cvc::Rows;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyCapsule, PyDict, PyInt, PySlice, PyTuple};

use crate::arrow::Stream;
use crate::errors::{of_class, raised};
use crate::file::Handle;
use crate::numpy::{Numpy, integers};

/// Rows of a key, for an array of a known number of rows.
pub(crate) enum Picked {
    /// One: the result has no axis of rows.
    One(u64),
    /// Any number, in the order wanted.
    Many(Rows),
}

/// The rows that `key` picks of `rows` rows, as NumPy would.
pub(crate) fn pick(key: &Bound<'_, PyAny>, rows: u64) -> PyResult<Picked> {
    let py = key.py();
    if let Ok(slice) = key.cast::<PySlice>() {
        return slice_rows(slice, rows).map(Picked::Many);
    }
    if key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyBool>() {
        // An integer of any size is an index, if not one of these rows.
        return match key.extract::<i64>() {
            Ok(index) => row(py, index, rows).map(Picked::One),
            Err(_) => Err(out_of_range(py, &key.str()?.to_string(), rows)),
        };
    }
    if let Ok(selection) = key.cast::<Selection>() {
        return Ok(Picked::Many(selection.get().rows.clone()));
    }
    if key.is(py.Ellipsis()) {
        return Ok(Picked::Many(Rows::ALL));
    }
    if key.is_none() || key.is_instance_of::<PyBool>() || key.is_instance_of::<pyo3::types::PyString>() {
        return Err(not_rows(key));
    }
    let numbers = Numpy::asarray(key)?;
    let dtype = numbers.getattr("dtype")?;
    let kind: String = dtype.getattr("kind")?.extract()?;
    let ndim: usize = numbers.getattr("ndim")?.extract()?;
    let size: usize = numbers.getattr("size")?.extract()?;
    let numbers = match kind.as_str() {
        "b" if ndim == 1 => {
            if size as u64 != rows {
                let problem = format!("a mask of {size} rows was given for an array of {rows}");
                return Err(of_class(py, "RowError", problem));
            }
            Numpy::get(py)?.flatnonzero.bind(py).call1((numbers,))?
        }
        "i" | "u" if ndim <= 1 => numbers,
        // `[]` is an array of floats.
        _ if size == 0 && ndim == 1 => return Ok(Picked::Many(Rows::from(Vec::new()))),
        _ => return Err(not_rows(key)),
    };
    if ndim == 0 {
        return row(py, numbers.extract()?, rows).map(Picked::One);
    }
    let picked: Vec<u64> =
        integers(&numbers)?.into_iter().map(|index| row(py, index, rows)).collect::<PyResult<_>>()?;
    Ok(Picked::Many(Rows::from(picked.as_slice())))
}

fn slice_rows(slice: &Bound<'_, PySlice>, rows: u64) -> PyResult<Rows> {
    let len = isize::try_from(rows)?;
    let indices = slice.indices(len)?;
    let (start, step, count) = (indices.start, indices.step, indices.slicelength);
    if step == 1 {
        let start = start.cast_unsigned() as u64;
        return Ok(Rows::from(start..start + count as u64));
    }
    let picked: Vec<u64> =
        (0..count.cast_signed()).map(|index| (start + index * step).cast_unsigned() as u64).collect();
    Ok(Rows::from(picked.as_slice()))
}

/// A row by its number, counted from the end if it is negative.
fn row(py: Python<'_>, index: i64, rows: u64) -> PyResult<u64> {
    let counted = if index < 0 { rows.checked_add_signed(index) } else { Some(index.cast_unsigned()) };
    counted.filter(|row| *row < rows).ok_or_else(|| out_of_range(py, &index.to_string(), rows))
}

fn out_of_range(py: Python<'_>, index: &str, rows: u64) -> PyErr {
    of_class(py, "RowError", format!("row {index} is out of range: the array has {rows} rows"))
}

fn not_rows(key: &Bound<'_, PyAny>) -> PyErr {
    let name = key.get_type().name().map_or_else(|_| "object".into(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "rows are chosen by an integer, a slice, a list of integers, a mask or what `where` found, not by {name}"
    ))
}

/// Rows of the sections that meet some conditions: `file.where(source="arxiv")`. An index of arrays, and a way to read
/// them: `selection["vectors"]`.
#[pyclass(frozen, module = "cvc")]
pub(crate) struct Selection {
    pub(crate) handle: Handle,
    pub(crate) rows: Rows,
    /// The same, resolved.
    pub(crate) ranges: Vec<Range<u64>>,
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
        Ok(Selection { handle: handle.clone(), rows, ranges })
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
        let reader = self.handle.reader()?;
        Stream { reader: &reader, only: None, ranges: Some(&self.ranges) }.capsule(py)
    }

    /// Arrow: the schema of the batches.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let reader = self.handle.reader()?;
        Stream { reader: &reader, only: None, ranges: Some(&self.ranges) }.schema(py)
    }

    fn __repr__(&self) -> String {
        let sections = if self.ranges.len() == 1 { "range" } else { "ranges" };
        format!("<cvc.Selection: {} rows in {} {sections}>", self.__len__(), self.ranges.len())
    }
}
