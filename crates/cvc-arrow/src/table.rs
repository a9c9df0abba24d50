//! Arrays of a file as columns, and their rows as record batches.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::LargeStringBuilder;
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::MutableBuffer;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use cvc::{Array, ArrayDType, CpuBackend, DType, HostBuffer, Reader};

use crate::divide::{decoded, row_len};
use crate::values::{primitives, to_arrow, with_tensor_shape};

/// Why arrays are no table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the file says of an array is not understood.
    #[error(transparent)]
    Cvc(#[from] cvc::Error),
    /// Arrow has no such values.
    #[error("array {array:?} is of {dtype}, which Arrow has no type for")]
    NoType {
        /// The name of the array.
        array: String,
        /// Of its values.
        dtype: DType,
    },
    /// A row has more values than a list of Arrow can have.
    #[error("array {array:?} has {dim} values in a row, and a list of Arrow at most {}", i32::MAX)]
    TooWide {
        /// The name of the array.
        array: String,
        /// Values in a row.
        dim: u32,
    },
    /// A table has rows by its columns.
    #[error("no arrays: rows are those of an array")]
    NoArrays,
    /// Columns of a table are equally long.
    #[error("arrays of different lengths are no table ({lengths} rows): take them one by one")]
    Lengths {
        /// Their names, each with its rows.
        lengths: String,
    },
}

/// Some arrays of a file that have equally many rows.
#[derive(Clone)]
pub struct Table {
    reader: Arc<Reader>,
    columns: Vec<Column>,
    schema: SchemaRef,
    rows: u64,
}

/// An array of the file.
#[derive(Clone)]
struct Column {
    position: usize,
    field: FieldRef,
    /// What it is decoded to; nothing for strings.
    dtype: Option<DType>,
    is_scalar: bool,
    /// Bytes of a row.
    row_len: f64,
}

impl Column {
    fn new(array: &Array<'_>, position: usize, floats: Option<DType>) -> Result<Column, Error> {
        let index = array.index();
        let (name, row_len) = (index.name.as_str(), row_len(array, floats));
        if index.dtype == ArrayDType::Utf8 {
            let field = Arc::new(Field::new(name, DataType::LargeUtf8, false));
            return Ok(Column { position, field, dtype: None, is_scalar: true, row_len });
        }
        let dtype = decoded(array.dtype()?, floats);
        let primitive = to_arrow(dtype).ok_or_else(|| Error::NoType { array: name.to_owned(), dtype })?;
        let (dim, is_scalar) = (array.dim(), index.inner.is_empty());
        let of = if is_scalar {
            primitive
        } else {
            let len = i32::try_from(dim).map_err(|_| Error::TooWide { array: name.to_owned(), dim })?;
            DataType::FixedSizeList(Arc::new(Field::new("item", primitive, false)), len)
        };
        let field = Arc::new(with_tensor_shape(Field::new(name, of, false), &index.inner));
        Ok(Column { position, field, dtype: Some(dtype), is_scalar, row_len })
    }

    fn read(&self, reader: &Reader, rows: &[Range<u64>]) -> Result<ArrayRef, ArrowError> {
        let fail = |error: cvc::Error| ArrowError::ExternalError(Box::new(error));
        let array = of(reader, self.position);
        let Some(dtype) = self.dtype else {
            let strings = array.read_strings(rows.to_vec()).map_err(fail)?;
            let mut builder = LargeStringBuilder::with_capacity(strings.len(), strings.text().len());
            strings.iter().for_each(|text| builder.append_value(text));
            return Ok(Arc::new(builder.finish()));
        };
        // Earned: the file has the bytes that so many rows need, before any memory is asked for.
        let len = array.decoded_len(rows.to_vec(), dtype).map_err(fail)?;
        let mut memory = MutableBuffer::from_len_zeroed(len);
        if len > 0 {
            let out = HostBuffer::from_bytes(dtype, memory.as_slice_mut());
            let mut out = out.map_err(|error| fail(error.into()))?.never_written();
            array.decode(&CpuBackend::new(), rows.to_vec(), dtype, &mut out).map_err(fail)?;
        }
        let values = primitives(dtype, memory.into())?;
        if self.is_scalar {
            return Ok(values);
        }
        let DataType::FixedSizeList(item, dim) = self.field.data_type() else { return Ok(values) };
        let list =
            FixedSizeListArray::try_new_with_length(item.clone(), *dim, values, None, row_count(rows)?)?;
        Ok(Arc::new(list))
    }
}

impl Table {
    /// The arrays at these positions in the file, in this order, or all that have as many rows as the first. `floats` is what
    /// floats of at most 32 bits are decoded to; left out, what the file says, but bfloat16 to f32, as Arrow has none.
    ///
    /// # Errors
    /// There is no array, they have different numbers of rows, or one has values that Arrow, or this version, has no type for.
    ///
    /// # Panics
    /// There is no array at one of the positions.
    pub fn new(reader: Arc<Reader>, arrays: Option<&[usize]>, floats: Option<DType>) -> Result<Table, Error> {
        let positions = match arrays {
            Some(positions) => positions.to_vec(),
            None => alike(&reader),
        };
        let mut columns = Vec::with_capacity(positions.len());
        let rows = positions.first().map(|position| of(&reader, *position).rows()).ok_or(Error::NoArrays)?;
        for position in &positions {
            columns.push(Column::new(&of(&reader, *position), *position, floats)?);
        }
        if positions.iter().any(|position| of(&reader, *position).rows() != rows) {
            let lengths = positions.iter().map(|position| of(&reader, *position));
            let lengths: Vec<String> =
                lengths.map(|array| format!("{} {}", array.index().name, array.rows())).collect();
            return Err(Error::Lengths { lengths: lengths.join(", ") });
        }
        let schema = schema(&columns);
        Ok(Table { reader, columns, schema, rows })
    }

    /// The columns at these positions in the table, in this order.
    ///
    /// # Panics
    /// There is no column at one of the positions.
    pub fn project(&self, columns: &[usize]) -> Table {
        let columns: Vec<Column> = columns.iter().map(|column| self.columns[*column].clone()).collect();
        let schema = schema(&columns);
        Table { reader: self.reader.clone(), columns, schema, rows: self.rows }
    }

    /// That of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows of all columns.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The file.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Bytes that a row takes in a batch, of strings an estimate.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and is not negative"
    )]
    pub fn row_len(&self) -> u64 {
        self.columns.iter().map(|column| column.row_len).sum::<f64>().ceil() as u64
    }

    /// The chunks of the first column, as ranges of rows.
    pub fn chunks(&self) -> Vec<Range<u64>> {
        self.columns.first().map_or(Vec::new(), |column| {
            let array = of(&self.reader, column.position);
            array.chunks().map(|chunk| chunk.rows.clone()).collect()
        })
    }

    /// These rows of every column, decoded by the processor.
    ///
    /// # Errors
    /// There are no such rows, or the file is damaged or cannot be read: an `ExternalError` of [`cvc::Error`].
    pub fn read(&self, rows: &[Range<u64>]) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter().map(|column| column.read(&self.reader, rows));
        let columns = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(row_count(rows)?));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }

    /// Each array, with the bytes of a row.
    pub(crate) fn lens(&self) -> impl Iterator<Item = (f64, Array<'_>)> {
        self.columns.iter().map(|column| (column.row_len, of(&self.reader, column.position)))
    }
}

/// The ranges, cut into lists of at most `most` rows each, none of them empty.
pub fn windows(ranges: &[Range<u64>], most: u64) -> Vec<Vec<Range<u64>>> {
    let most = most.max(1);
    let mut windows: Vec<Vec<Range<u64>>> = Vec::new();
    let mut room = 0;
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            if room == 0 {
                windows.push(Vec::new());
                room = most;
            }
            let end = range.end.min(start.saturating_add(room));
            room -= end - start;
            windows.last_mut().expect("there is one").push(start..end);
            start = end;
        }
    }
    windows
}

/// Positions of the arrays that have as many rows as the first.
fn alike(reader: &Reader) -> Vec<usize> {
    let rows = reader.arrays().next().map_or(0, |array| array.rows());
    let alike = reader.arrays().enumerate().filter(|(_, array)| array.rows() == rows);
    alike.map(|(position, _)| position).collect()
}

pub(crate) fn of(reader: &Reader, position: usize) -> Array<'_> {
    reader.arrays().nth(position).expect("a position among the arrays")
}

fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>()))
}

fn row_count(rows: &[Range<u64>]) -> Result<usize, ArrowError> {
    let count: u64 = rows.iter().map(|range| range.end - range.start).sum();
    usize::try_from(count).map_err(|error| ArrowError::ExternalError(Box::new(error)))
}
