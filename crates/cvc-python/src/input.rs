//! What is to be packed: anything that is an array, a tensor or a list of strings.

use cvc::format::cvcf::VECTORS;
use cvc::{DType, RowSlice, Strings};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySlice, PyString, PyTuple};

use crate::array::{Array, viewable};
use crate::arrow::{ArrowRows, Columns, Imported, Incoming, is_arrow};
use crate::dlpack::{HostTensor, Lines};
use crate::dtype;
use crate::memory::Memory;
use crate::numpy::Numpy;

/// Rows of one array that came from Python.
pub(crate) enum Input<'py> {
    /// An array of NumPy with at least one axis, as it lies in memory.
    Plain { memory: Memory, dtype: DType, inner: Vec<u32>, rows: usize },
    /// Another one, that is looked at through NumPy.
    Values { values: Bound<'py, PyAny>, dtype: DType, inner: Vec<u32>, rows: usize },
    /// A tensor of another library.
    Tensor { tensor: HostTensor, inner: Vec<u32> },
    /// A column of a table of Arrow.
    Arrow(ArrowRows),
    /// Strings.
    Strings(Strings),
}

/// Rows whose memory is held.
pub(crate) enum Held<'i> {
    Plain { bytes: &'i [u8], dtype: DType, rows: usize, dim: usize },
    Values { memory: Memory, dtype: DType, rows: usize, dim: usize },
    Lines { lines: Lines<'i>, dtype: DType, rows: usize, dim: usize },
    Strings { strings: &'i Strings, rows: std::ops::Range<usize> },
}

impl<'py> Input<'py> {
    /// What `object` is: a NumPy array, a tensor (DLPack), whatever `numpy.asarray` takes, a list of strings.
    pub(crate) fn new(object: &Bound<'py, PyAny>) -> PyResult<Input<'py>> {
        let py = object.py();
        if let Some((memory, dtype)) = Numpy::plain(object)?
            && let Some((rows, inner)) = memory.shape().split_first()
        {
            let (rows, inner) = (*rows, inner_shape(inner)?);
            return Ok(Input::Plain { memory, dtype, inner, rows });
        }
        if let Ok(list) = object.cast::<PyList>()
            && list.get_item(0).is_ok_and(|first| first.is_instance_of::<PyString>())
        {
            return Ok(Input::Strings(strings(list)?));
        }
        let numpy = Numpy::get(py)?;
        let is_array = object.is_instance(numpy.ndarray.bind(py))?;
        let values = if is_array {
            object.clone()
        } else if !object.is_instance_of::<Array>() && is_arrow(object)? {
            return Input::arrow(object);
        } else if !object.is_instance_of::<Array>() && object.hasattr("__dlpack__")? {
            return Input::tensor(HostTensor::of(object)?);
        } else {
            Numpy::asarray(object)?
        };
        let kind: String = values.getattr("dtype")?.getattr("kind")?.extract()?;
        if ["U", "O", "T"].contains(&kind.as_str()) {
            let ndim: usize = values.getattr("ndim")?.extract()?;
            if ndim != 1 {
                return Err(PyValueError::new_err("an array of strings has one axis"));
            }
            return Ok(Input::Strings(strings(values.call_method0("tolist")?.cast::<PyList>()?)?));
        }
        let dtype = dtype::of_numpy(&values.getattr("dtype")?)?;
        let shape: Vec<usize> = values.getattr("shape")?.extract()?;
        let Some((rows, inner)) = shape.split_first() else {
            return Err(no_rows());
        };
        let inner = inner_shape(inner)?;
        Ok(Input::Values { values, dtype, inner, rows: *rows })
    }

    /// The stream of a table of Arrow, if `object` is one.
    pub(crate) fn stream(object: &Bound<'py, PyAny>) -> PyResult<Option<Incoming>> {
        if Input::is_table(object)? { Incoming::of(object) } else { Ok(None) }
    }

    /// The columns of a table of Arrow by name; nothing if `object` is no table.
    pub(crate) fn table(object: &Bound<'py, PyAny>) -> PyResult<Option<Vec<(String, Input<'py>)>>> {
        if Input::is_table(object)? {
            crate::arrow::import(object).map(Input::named).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Inputs by the names of the arrays that they become.
    pub(crate) fn named(columns: Columns) -> Vec<(String, Input<'py>)> {
        let named = columns.into_iter();
        named.map(|(name, column)| (name.unwrap_or(VECTORS.into()), column.into())).collect()
    }

    fn is_table(object: &Bound<'py, PyAny>) -> PyResult<bool> {
        let is_array = object.is_instance(Numpy::get(object.py())?.ndarray.bind(object.py()))?;
        Ok(!is_array && !object.is_instance_of::<Array>() && is_arrow(object)?)
    }

    fn arrow(object: &Bound<'py, PyAny>) -> PyResult<Input<'py>> {
        let mut columns = crate::arrow::import(object)?;
        match (columns.len(), columns.pop()) {
            (1, Some((_, column))) => Ok(column.into()),
            (count, _) => Err(PyValueError::new_err(format!(
                "a table of {count} columns stands where one array is needed: give the table itself, or one column"
            ))),
        }
    }

    fn tensor(tensor: HostTensor) -> PyResult<Input<'py>> {
        let Some((_, inner)) = tensor.shape().split_first() else {
            return Err(no_rows());
        };
        let inner = inner_shape(inner)?;
        Ok(Input::Tensor { tensor, inner })
    }

    /// What it is of: values of a dtype and the shape of a row; nothing for strings.
    pub(crate) fn values(&self) -> Option<(DType, &[u32])> {
        match self {
            Input::Plain { dtype, inner, .. } | Input::Values { dtype, inner, .. } => Some((*dtype, inner)),
            Input::Tensor { tensor, inner } => Some((tensor.dtype(), inner)),
            Input::Arrow(rows) => Some((rows.dtype, &rows.inner)),
            Input::Strings(_) => None,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Input::Tensor { tensor, .. } => tensor.shape()[0],
            Input::Arrow(rows) => rows.rows,
            Input::Plain { rows, .. } | Input::Values { rows, .. } => *rows,
            Input::Strings(strings) => strings.len(),
        }
    }

    /// Rows `range`, in native byte order and one after another in memory: where they lie if they do, else copied.
    pub(crate) fn hold(&self, py: Python<'py>, range: std::ops::Range<usize>) -> PyResult<Held<'_>> {
        match self {
            Input::Strings(strings) => Ok(Held::Strings { strings, rows: range }),
            Input::Plain { memory, dtype, inner, .. } => {
                let dim: usize = inner.iter().map(|len| *len as usize).product();
                let row_len = dim * dtype.size();
                let bytes = &memory.bytes()[range.start * row_len..range.end * row_len];
                Ok(Held::Plain { bytes, dtype: *dtype, rows: range.len(), dim })
            }
            Input::Tensor { tensor, inner } => {
                let (rows, dim) = (range.len(), inner.iter().map(|len| *len as usize).product());
                Ok(Held::Lines { lines: tensor.rows(range), dtype: tensor.dtype(), rows, dim })
            }
            Input::Arrow(of) => {
                let (rows, dim) = (range.len(), of.inner.iter().map(|len| *len as usize).product());
                Ok(Held::Lines { lines: of.lines(range), dtype: of.dtype, rows, dim })
            }
            Input::Values { values, dtype, inner, .. } => {
                let rows = range.len();
                let slice = PySlice::new(py, range.start.cast_signed(), range.end.cast_signed(), 1);
                let options = PyDict::new(py);
                options.set_item("requirements", ("C", "A"))?;
                let part = values.get_item(slice)?;
                let native = part.getattr("dtype")?.call_method1("newbyteorder", ("=",))?;
                options.set_item("dtype", native)?;
                let part =
                    Numpy::get(py)?.require.bind(py).call(PyTuple::new(py, [part])?, Some(&options))?;
                let dim = inner.iter().map(|len| *len as usize).product();
                Ok(Held::Values { memory: Memory::of(&viewable(&part, *dtype)?)?, dtype: *dtype, rows, dim })
            }
        }
    }
}

impl From<Imported> for Input<'_> {
    fn from(column: Imported) -> Self {
        match column {
            Imported::Values(rows) => Input::Arrow(rows),
            Imported::Strings(strings) => Input::Strings(strings),
        }
    }
}

impl Held<'_> {
    pub(crate) fn rows(&self) -> Result<cvc::ArrayRows<'_>, cvc::Error> {
        match self {
            Held::Plain { bytes, dtype, rows, dim } => {
                Ok(RowSlice::from_bytes(*dtype, *rows, *dim, bytes)?.into())
            }
            Held::Values { memory, dtype, rows, dim } => {
                Ok(RowSlice::from_bytes(*dtype, *rows, *dim, memory.bytes())?.into())
            }
            Held::Lines { lines, dtype, rows, dim } => {
                Ok(RowSlice::from_bytes(*dtype, *rows, *dim, lines.bytes())?.into())
            }
            Held::Strings { strings, rows } => Ok(cvc::ArrayRows::Strings { strings, rows: rows.clone() }),
        }
    }
}

fn inner_shape(inner: &[usize]) -> PyResult<Vec<u32>> {
    Ok(inner.iter().map(|len| u32::try_from(*len)).collect::<Result<_, _>>()?)
}

fn no_rows() -> PyErr {
    PyValueError::new_err("a single value has no rows: an array with at least one axis is needed")
}

fn strings(list: &Bound<'_, PyList>) -> PyResult<Strings> {
    let mut strings = Strings::default();
    for (row, item) in list.iter().enumerate() {
        let Ok(text) = item.cast::<PyString>() else {
            let name = item.get_type().name()?;
            return Err(PyTypeError::new_err(format!("row {row} is a {name}, not a string")));
        };
        strings.push(&text.to_cow()?);
    }
    Ok(strings)
}
