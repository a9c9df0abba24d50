//! What stands between brackets: rows as NumPy picks them, of arrays of files and of stores alike.

use std::cmp::Ordering;

use cvc::DType;
use cvc_store::Selection;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PySlice, PyString};

use crate::errors::of_class;
use crate::memory::Memory;
use crate::numpy::{Numpy, bools, integers};

/// Rows of a key, whatever the array.
pub(crate) enum Key {
    All,
    /// One: the result has no axis of rows.
    One(i64),
    Slice {
        start: Option<i64>,
        stop: Option<i64>,
        step: i64,
    },
    Rows(Vec<i64>),
    /// As `Rows`, where they lie: 64-bit integers in native byte order, aligned.
    Integers(Memory),
    Mask(Vec<bool>),
}

impl Key {
    /// # Errors
    /// It is nothing that picks rows.
    pub(crate) fn of(key: &Bound<'_, PyAny>) -> PyResult<Key> {
        let py = key.py();
        if key.is(py.Ellipsis()) {
            return Ok(Key::All);
        }
        if let Ok(slice) = key.cast::<PySlice>() {
            let (start, stop) = (end(&slice.getattr("start")?)?, end(&slice.getattr("stop")?)?);
            return Ok(Key::Slice { start, stop, step: end(&slice.getattr("step")?)?.unwrap_or(1) });
        }
        if key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyBool>() {
            let out_of_range = |_| of_class(py, "RowError", format!("row {key} is out of range"));
            return key.extract().map(Key::One).map_err(out_of_range);
        }
        if key.is_none() || key.is_instance_of::<PyBool>() || key.is_instance_of::<PyString>() {
            return Err(not_rows(key));
        }
        if let Some((memory, DType::I64)) = Numpy::plain(key)?
            && memory.shape().len() == 1
        {
            return Ok(Key::Integers(memory));
        }
        let numbers = Numpy::asarray(key)?;
        let kind: String = numbers.getattr("dtype")?.getattr("kind")?.extract()?;
        match (kind.as_str(), numbers.getattr("ndim")?.extract::<usize>()?) {
            ("i" | "u", 0) => Ok(Key::One(numbers.extract()?)),
            ("i" | "u", 1) => Ok(Key::Rows(integers(&numbers)?)),
            ("b", 1) => Ok(Key::Mask(bools(&numbers)?)),
            // `[]` is an array of floats.
            (_, 1) if numbers.len()? == 0 => Ok(Key::Rows(Vec::new())),
            _ => Err(not_rows(key)),
        }
    }

    pub(crate) fn selection(&self) -> Selection<'_> {
        match self {
            Key::All => Selection::All,
            Key::One(row) => Selection::Rows(std::slice::from_ref(row)),
            Key::Slice { start, stop, step } => Selection::Slice { start: *start, stop: *stop, step: *step },
            Key::Rows(rows) => Selection::Rows(rows),
            Key::Integers(memory) => Selection::Rows(bytemuck::cast_slice(memory.bytes())),
            Key::Mask(mask) => Selection::Mask(mask),
        }
    }
}

/// A number of a slice. Those beyond all arrays are as good as the last that there is.
fn end(number: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if number.is_none() {
        return Ok(None);
    }
    match number.extract() {
        Ok(number) => Ok(Some(number)),
        Err(_) if number.is_instance_of::<PyInt>() => {
            let below = number.compare(0)? == Ordering::Less;
            Ok(Some(if below { i64::MIN } else { i64::MAX }))
        }
        Err(error) => Err(error),
    }
}

fn not_rows(key: &Bound<'_, PyAny>) -> PyErr {
    let name = key.get_type().name().map_or_else(|_| "object".into(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "rows are chosen by an integer, a slice, a list of integers, a mask or what `where` found, not by {name}"
    ))
}
