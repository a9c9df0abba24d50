//! Arrow's PyCapsule interface: files, arrays and selections as streams of record batches, as `cvc-arrow` makes them, and tables of
//! other libraries as rows to pack.
#![allow(unsafe_code, reason = "structs of C behind capsules of Python; the proofs are at each use")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow_array::ffi_stream::{ArrayStreamReader, FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow_array::{
    Array as _, ArrayReader as _, ArrayRef, RecordBatch, RecordBatchReader, make_array, new_empty_array,
};
use arrow_buffer::Buffer;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, SchemaRef};
use cvc::{AlignedBytes, DType, Reader, Strings};
use cvc_arrow::values::{Unfit, check_nulls, each_string, from_arrow, peel, tensor_shape, value_bytes};
use cvc_arrow::{Table, windows};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use crate::dlpack::Lines;
use crate::errors::{of_class, raised};
use crate::fork::at_home;
use crate::interpreter;

/// Bytes of decoded values that one batch has at most, if it has more than one row.
const BATCH_LEN: u64 = 64 << 20;

/// Batches that are decoded when they are asked for.
struct Batches {
    /// Until the stream is released.
    table: Option<Table>,
    schema: SchemaRef,
    /// Rows of each batch to come.
    windows: VecDeque<Vec<Range<u64>>>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.windows.pop_front()?;
        let table = self.table.as_ref()?;
        // Whoever asks may hold the interpreter, which a source of bytes written in Python needs on another thread.
        Some(interpreter::without(|| at_home(|| table.read(&rows))))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        let table = self.table.take();
        // The source of bytes may be an object of Python.
        interpreter::with(|| drop(table));
    }
}

impl RecordBatchReader for Batches {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// The arrays at these positions of a file, or all that have as many rows as the first, as columns. `floats` is what floats of at most
/// 32 bits are decoded to, unless it is what the file says.
pub(crate) fn table(
    py: Python<'_>,
    reader: &Arc<Reader>,
    only: Option<&[usize]>,
    floats: Option<DType>,
) -> PyResult<Table> {
    Table::new(reader.clone(), only, floats).map_err(|error| match error {
        cvc_arrow::Error::Cvc(error) => raised(py, error),
        error @ cvc_arrow::Error::NoType { .. } => PyTypeError::new_err(error.to_string()),
        error => of_class(py, "ArgumentError", error.to_string()),
    })
}

/// The capsule of `__arrow_c_stream__`: these rows, or all of them a chunk at a time.
pub(crate) fn stream<'py>(
    py: Python<'py>,
    table: Table,
    ranges: Option<&[Range<u64>]>,
) -> PyResult<Bound<'py, PyCapsule>> {
    let most = BATCH_LEN / table.row_len().max(1);
    let windows = match ranges {
        // Many small ranges make few batches.
        Some(ranges) => windows(ranges, most).into(),
        None => table.chunks().into_iter().flat_map(|rows| windows(&[rows], most)).collect(),
    };
    let batches = Batches { schema: table.schema().clone(), table: Some(table), windows };
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), c"arrow_array_stream")
}

/// The capsule of `__arrow_c_schema__`.
pub(crate) fn schema<'py>(py: Python<'py>, table: &Table) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(&**table.schema())
        .map_err(|error| of_class(py, "InternalError", error.to_string()))?;
    PyCapsule::new_with_value(py, schema, c"arrow_schema")
}

/// Rows of one column that another library lends.
pub(crate) struct ArrowRows {
    pub(crate) dtype: DType,
    pub(crate) inner: Vec<u32>,
    pub(crate) rows: usize,
    /// The bytes of some rows each, one chunk after the other, with the row that each begins at.
    chunks: Vec<(usize, Buffer)>,
}

impl ArrowRows {
    /// The bytes of these rows: where they lie if they lie in one chunk, else a copy.
    pub(crate) fn lines(&self, rows: Range<usize>) -> Lines<'_> {
        let row_len = self.inner.iter().map(|len| *len as usize).product::<usize>() * self.dtype.size();
        let (start, end) = (rows.start * row_len, rows.end * row_len);
        if start == end {
            return Lines::There(&[]);
        }
        let parts = self.chunks.iter().filter_map(|(first, bytes)| {
            let at = first * row_len;
            let within = |to: usize| to.clamp(at, at + bytes.len()) - at;
            let part = &bytes.as_slice()[within(start)..within(end)];
            (!part.is_empty()).then_some(part)
        });
        if let Some(whole) = parts.clone().next()
            && whole.len() == end - start
            && whole.as_ptr().addr().is_multiple_of(self.dtype.size())
        {
            return Lines::There(whole);
        }
        let mut copy = AlignedBytes::new();
        let mut into = copy.resize(end - start);
        for part in parts {
            let (now, later) = into.split_at_mut(part.len());
            now.copy_from_slice(part);
            into = later;
        }
        Lines::Copied(copy)
    }
}

/// A column of another library.
pub(crate) enum Imported {
    Values(ArrowRows),
    Strings(Strings),
}

/// Whether `object` speaks the interface.
pub(crate) fn is_arrow(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.hasattr("__arrow_c_stream__")? || object.hasattr("__arrow_c_array__")?)
}

/// Columns with their names, or the one column of an array, without.
pub(crate) type Columns = Vec<(Option<String>, Imported)>;

/// The whole table of an object, or its one array.
pub(crate) fn import(object: &Bound<'_, PyAny>) -> PyResult<Columns> {
    match Incoming::of(object)? {
        Some(mut stream) => {
            let (field, chunks) = (stream.field(), stream.some(object.py(), u64::MAX)?);
            columns(&field, chunks)
        }
        None => import_array(object),
    }
}

fn import_array(object: &Bound<'_, PyAny>) -> PyResult<Columns> {
    let capsules = object.call_method0("__arrow_c_array__")?;
    let (schema, array) = capsules.cast::<PyTuple>()?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
    let schema = schema.cast::<PyCapsule>()?.pointer_checked(Some(c"arrow_schema"))?;
    let array = array.cast::<PyCapsule>()?.pointer_checked(Some(c"arrow_array"))?;
    // SAFETY: a capsule of that name holds such a struct; it is moved out, which leaves it released behind.
    let schema = unsafe { FFI_ArrowSchema::from_raw(schema.as_ptr().cast()) };
    // SAFETY: the same.
    let array = unsafe { FFI_ArrowArray::from_raw(array.as_ptr().cast()) };
    let fail = |error: ArrowError| PyValueError::new_err(format!("the Arrow array is not one: {error}"));
    let field = Field::try_from(&schema).map_err(fail)?;
    // SAFETY: they came together, so the array is of this type.
    let data = unsafe { from_ffi(array, &schema) }.map_err(fail)?;
    columns(&field, vec![make_array(data)])
}

/// The record batches of an object that streams them.
pub(crate) fn record_batches(object: &Bound<'_, PyAny>) -> PyResult<RecordBatchStreamReader> {
    let capsule = object.call_method0("__arrow_c_stream__")?;
    let capsule = capsule.cast::<PyCapsule>()?;
    let pointer = capsule.pointer_checked(Some(c"arrow_array_stream"))?;
    // SAFETY: a capsule of that name holds such a struct; it is moved out, which leaves it released behind.
    let stream =
        unsafe { RecordBatchStreamReader::from_raw(pointer.as_ptr().cast::<FFI_ArrowArrayStream>()) };
    stream.map_err(|error| failed(object.py(), &error))
}

/// A stream of another library, which may be longer than memory is.
pub(crate) struct Incoming {
    stream: ArrayStreamReader,
    /// Whether something was given out.
    began: bool,
}

impl Incoming {
    /// The stream of an object that has one.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Incoming>> {
        if !object.hasattr("__arrow_c_stream__")? {
            return Ok(None);
        }
        let capsule = object.call_method0("__arrow_c_stream__")?;
        let capsule = capsule.cast::<PyCapsule>()?;
        let pointer = capsule.pointer_checked(Some(c"arrow_array_stream"))?;
        // SAFETY: a capsule of that name holds such a struct; it is moved out, which leaves it released behind.
        let stream = unsafe { ArrayStreamReader::from_raw(pointer.as_ptr().cast::<FFI_ArrowArrayStream>()) };
        let stream = stream.map_err(|error| failed(object.py(), &error))?;
        Ok(Some(Incoming { stream, began: false }))
    }

    fn field(&self) -> FieldRef {
        self.stream.field().clone()
    }

    /// Chunks that have rows, of `least` bytes together if there are so many.
    fn some(&mut self, py: Python<'_>, least: u64) -> PyResult<Vec<ArrayRef>> {
        let stream = &mut self.stream;
        // It may be made of Python, on whatever thread.
        let chunks = py.detach(|| {
            let (mut chunks, mut len) = (Vec::new(), 0u64);
            while len < least
                && let Some(chunk) = stream.next()
            {
                let chunk = chunk?;
                len += chunk.to_data().get_slice_memory_size()? as u64;
                if !chunk.is_empty() {
                    chunks.push(chunk);
                }
            }
            Ok(chunks)
        });
        chunks.map_err(|error: ArrowError| failed(py, &error))
    }

    /// The next rows, enough to keep the cores busy; at least once, if without rows. Nothing at the end.
    pub(crate) fn next(&mut self, py: Python<'_>) -> PyResult<Option<Columns>> {
        let chunks = self.some(py, BATCH_LEN)?;
        if chunks.is_empty() && self.began {
            return Ok(None);
        }
        self.began = true;
        columns(&self.field(), chunks).map(Some)
    }
}

fn failed(py: Python<'_>, error: &ArrowError) -> PyErr {
    of_class(py, "SourceError", format!("the Arrow stream failed: {error}"))
}

fn columns(field: &Field, chunks: Vec<ArrayRef>) -> PyResult<Columns> {
    let DataType::Struct(fields) = field.data_type() else {
        return Ok(vec![(None, column(field, chunks)?)]);
    };
    let mut row = 0;
    for chunk in &chunks {
        check_nulls(row, 1, chunk).map_err(unfit("the table"))?;
        row += chunk.len() as u64;
    }
    let columns = fields.iter().enumerate().map(|(position, field)| {
        let chunks = chunks.iter().map(|chunk| chunk.as_struct().column(position).clone()).collect();
        Ok((Some(field.name().clone()), column(field, chunks)?))
    });
    columns.collect()
}

fn column(field: &Field, mut chunks: Vec<ArrayRef>) -> PyResult<Imported> {
    let name = if field.name().is_empty() { "the array" } else { field.name() };
    if chunks.is_empty() {
        chunks.push(new_empty_array(field.data_type()));
    }
    if matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        let mut strings = Strings::default();
        for chunk in &chunks {
            check_nulls(strings.len() as u64, 1, chunk).map_err(unfit(name))?;
            each_string(chunk, &mut |text| strings.push(text.unwrap_or_default()));
        }
        return Ok(Imported::Strings(strings));
    }
    let mut all: Option<ArrowRows> = None;
    for chunk in chunks {
        let (row, rows) = (all.as_ref().map_or(0, |all| all.rows), chunk.len());
        let (inner, leaf) = peel(row as u64, chunk).map_err(unfit(name))?;
        let of = leaf.data_type();
        let dtype = from_arrow(of).ok_or_else(|| {
            PyTypeError::new_err(format!(
                "{name} is of Arrow's type {of}, which cannot be stored: cast it to numbers, to lists of numbers, or to strings"
            ))
        })?;
        let bytes = value_bytes(&leaf, dtype);
        let all =
            all.get_or_insert_with(|| ArrowRows { dtype, inner: inner.clone(), rows: 0, chunks: Vec::new() });
        if inner != all.inner && rows > 0 {
            // Chunks without rows do not know how long their lists are.
            if all.rows > 0 {
                return Err(unfit(name)(Unfit::uneven(row as u64)));
            }
            all.inner = inner;
        }
        all.chunks.push((row, bytes));
        all.rows += rows;
    }
    let mut all = all.expect("there is a chunk");
    if let Some(shape) = tensor_shape(field, &all.inner) {
        all.inner = shape;
    }
    Ok(Imported::Values(all))
}

/// What is wrong with a column, as an error.
fn unfit(name: &str) -> impl Fn(Unfit) -> PyErr {
    move |Unfit { row, problem }| {
        PyValueError::new_err(match row {
            Some(row) => format!("row {row} of {name} {problem}"),
            None => format!("{name}: {problem}"),
        })
    }
}
