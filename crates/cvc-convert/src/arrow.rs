//! Arrow's record batches as rows, and rows as record batches, for files that somebody else reads and writes.
//!
//! ```text
//! array of a .cvc file          Arrow
//! values, one in a row          the primitive
//! rows of d values              FixedSizeList<primitive>[d], List or LargeList if they came as one
//! rows of a x b x ... values    FixedSizeList over all of them, with the metadata of arrow.fixed_shape_tensor
//! strings                       Utf8; LargeUtf8, Utf8View if they came as one
//! labels of sections            Utf8, integers, floats, bools, repeated in every row
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{LargeStringBuilder, StringBuilder, StringViewBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types as of;
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, FixedSizeListArray, LargeListArray, ListArray, PrimitiveArray,
    RecordBatch, RecordBatchReader, new_empty_array,
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use cvc::format::json::Number;
use cvc::{AlignedBytes, DType, Json, Reader, Strings};

use crate::error::Error;
use crate::from_cvc::{Plan, Shape, Windows};
use crate::into_cvc;
use crate::said::{from_pairs, to_pairs};
use crate::table::{Batch, Column, Form, Holds, Input, LabelType, Piece, Said, unique_names};
use crate::{Converted, Options, Progress};
use cvc_arrow::values::{
    Unfit, check_nulls, each_string, from_arrow, is_strings, peel, primitives, tensor_shape, to_arrow,
    value_bytes, value_count, with_tensor_shape,
};

/// Writes a `.cvc` file of record batches, which were read from the file `source` or whatever else messages should say.
///
/// # Errors
/// A batch cannot be had, holds what a `.cvc` file cannot, or as [`convert`](crate::convert).
pub fn pack(
    batches: Box<dyn RecordBatchReader + Send>,
    rows: Option<u64>,
    source: &Path,
    target: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    let schema = batches.schema();
    let mut input = Table::new(source, &schema, batches, rows, options)?;
    into_cvc::write(&mut input, target, options, progress)
}

/// The rows of a `.cvc` file as record batches, whose schema has in its metadata what is said beside them.
pub struct Batches {
    plan: Arc<Plan>,
    schema: SchemaRef,
    windows: Windows,
    converted: Converted,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Batches {
    /// Batches of all columns, or of those that the options name. `target` is what messages call the output.
    ///
    /// # Errors
    /// The options name a column that is not there, or Arrow has no type for an array.
    pub fn new(reader: Arc<Reader>, target: &Path, options: &Options) -> Result<Batches, Error> {
        let plan = Plan::new(reader, options.columns.as_deref(), Shape::Table)?;
        let mut not_kept = plan.not_kept.clone();
        let schema = schema(&plan, target, &mut not_kept)?;
        let arrays = plan.columns.iter().filter(|column| !column.is_label());
        let converted = Converted {
            rows: plan.rows,
            arrays: arrays.map(|column| column.name.clone()).collect(),
            sections: plan.label_sections(),
            file_len: 0,
            not_kept,
        };
        let windows = plan.windows();
        Ok(Batches { plan: Arc::new(plan), schema, windows, converted })
    }

    /// What all batches together hold.
    pub fn converted(&self) -> &Converted {
        &self.converted
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.windows.next()?;
        let batch =
            self.plan.read(rows).and_then(|batch| record_batch(&self.schema, &self.plan.columns, batch));
        Some(batch.map_err(|error| ArrowError::ExternalError(Box::new(error))))
    }
}

impl RecordBatchReader for Batches {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// The columns of a file as a schema. What Arrow holds only in another way is added to `not_kept`.
pub(crate) fn schema(plan: &Plan, target: &Path, not_kept: &mut Vec<String>) -> Result<SchemaRef, Error> {
    let fields = plan.columns.iter().map(|column| field(column, target, not_kept));
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let labels: Vec<&str> =
        plan.columns.iter().filter(|column| column.is_label()).map(|column| column.name.as_str()).collect();
    let pairs = to_pairs(&plan.said, &labels);
    Ok(Arc::new(Schema::new(fields).with_metadata(pairs.into_iter().collect::<HashMap<String, String>>())))
}

fn field(column: &Column, target: &Path, not_kept: &mut Vec<String>) -> Result<Field, Error> {
    let Form { kind, nullable, .. } = &column.form;
    let (name, kind, nullable) = (column.name.as_str(), kind.as_deref(), *nullable);
    let strings = match kind {
        Some("large_utf8") => DataType::LargeUtf8,
        Some("utf8_view") => DataType::Utf8View,
        _ => DataType::Utf8,
    };
    let (dtype, inner) = match &column.holds {
        Holds::Strings | Holds::Label(LabelType::String) => return Ok(Field::new(name, strings, nullable)),
        Holds::Label(LabelType::Values(dtype)) => (*dtype, &[][..]),
        Holds::Values(dtype, inner) => (*dtype, inner.as_slice()),
    };
    let primitive = match to_arrow(dtype) {
        Some(primitive) => primitive,
        None if dtype == DType::Bf16 => {
            not_kept
                .push(format!("dtype bf16 of array {name:?}: Arrow has none; its values are written as f32"));
            DataType::Float32
        }
        None => {
            let problem =
                format!("Arrow has no type for {dtype}; leave it out with columns, or write an .npz");
            return Err(Error::target(target, name, problem));
        }
    };
    if inner.is_empty() {
        return Ok(Field::new(name, primitive, nullable));
    }
    let item = Arc::new(Field::new("element", primitive, nullable));
    Ok(match (kind, inner) {
        (Some("list"), [_]) => Field::new(name, DataType::List(item), nullable),
        (Some("large_list"), [_]) => Field::new(name, DataType::LargeList(item), nullable),
        _ => {
            let dim = i32::try_from(column.dim()).map_err(|_| crate::table::too_large(column))?;
            let field = Field::new(name, DataType::FixedSizeList(item, dim), nullable);
            with_tensor_shape(field, inner)
        }
    })
}

/// A batch of rows as Arrow has it.
pub(crate) fn record_batch(
    schema: &SchemaRef,
    columns: &[Column],
    batch: Batch,
) -> Result<RecordBatch, Error> {
    let rows = batch.rows;
    let arrays = schema.fields().iter().zip(columns).zip(batch.pieces).map(|((field, column), piece)| {
        let fail =
            |error: ArrowError| Error::argument("array", &column.name, format!("Arrow refuses it: {error}"));
        array(field, column, rows, piece).map_err(fail)
    });
    let arrays = arrays.collect::<Result<Vec<_>, Error>>()?;
    let refused =
        |error: ArrowError| Error::argument("columns", "all", format!("Arrow refuses them: {error}"));
    RecordBatch::try_new(schema.clone(), arrays).map_err(refused)
}

fn array(field: &Field, column: &Column, rows: usize, piece: Piece) -> Result<ArrayRef, ArrowError> {
    match (piece, &column.holds) {
        (Piece::Strings(strings), _) => {
            string_array(field.data_type(), strings.iter().map(|text| (1, Some(text))))
        }
        (Piece::Labels(runs), Holds::Label(LabelType::Values(dtype))) => label_array(*dtype, &runs),
        (Piece::Labels(runs), _) => {
            let runs = runs.iter().map(|(count, label)| (*count, label.as_str()));
            string_array(field.data_type(), runs)
        }
        (Piece::Values(bytes), Holds::Values(dtype, _)) => {
            let dim = column.dim();
            let (dtype, bytes) = widened(*dtype, bytes);
            let values = primitives(dtype, Buffer::from(bytes.bytes()))?;
            // Whoever asked for so many rows had room for their ends.
            let dim = usize::try_from(dim).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            match field.data_type() {
                DataType::FixedSizeList(item, len) => {
                    let list =
                        FixedSizeListArray::try_new_with_length(item.clone(), *len, values, None, rows)?;
                    Ok(Arc::new(list))
                }
                DataType::List(item) => {
                    let ends = OffsetBuffer::from_lengths(std::iter::repeat_n(dim, rows));
                    Ok(Arc::new(ListArray::try_new(item.clone(), ends, values, None)?))
                }
                DataType::LargeList(item) => {
                    let ends = OffsetBuffer::from_lengths(std::iter::repeat_n(dim, rows));
                    Ok(Arc::new(LargeListArray::try_new(item.clone(), ends, values, None)?))
                }
                _ => Ok(values),
            }
        }
        _ => Err(ArrowError::InvalidArgumentError("a column of another kind".into())),
    }
}

/// Arrow has no bfloat16; all its values are values of f32.
fn widened(dtype: DType, bytes: AlignedBytes) -> (DType, AlignedBytes) {
    if dtype != DType::Bf16 {
        return (dtype, bytes);
    }
    let mut wide = AlignedBytes::new();
    wide.resize(bytes.bytes().len() * 2);
    for (from, to) in bytes.bytes().chunks_exact(2).zip(wide.bytes_mut().chunks_exact_mut(4)) {
        let bits = u32::from(u16::from_ne_bytes([from[0], from[1]])) << 16;
        to.copy_from_slice(&bits.to_ne_bytes());
    }
    (DType::F32, wide)
}

fn string_array<'a>(
    of: &DataType,
    runs: impl Iterator<Item = (u64, Option<&'a str>)> + Clone,
) -> Result<ArrayRef, ArrowError> {
    // What the builders would panic at.
    let lens =
        runs.clone().map(|(count, text)| count.saturating_mul(text.map_or(0, |text| text.len() as u64)));
    let len = lens.fold(0, u64::saturating_add);
    let longest = runs.clone().filter_map(|(_, text)| text).map(str::len).max().unwrap_or(0);
    let fits = match of {
        DataType::LargeUtf8 => i64::try_from(len).is_ok(),
        DataType::Utf8View => u32::try_from(longest).is_ok(),
        _ => i32::try_from(len).is_ok(),
    };
    if !fits {
        return Err(ArrowError::OffsetOverflowError(usize::try_from(len).unwrap_or(usize::MAX)));
    }
    macro_rules! built {
        ($builder:expr) => {{
            let mut builder = $builder;
            for (count, text) in runs {
                (0..count).for_each(|_| builder.append_option(text));
            }
            Arc::new(builder.finish())
        }};
    }
    Ok(match of {
        DataType::LargeUtf8 => built!(LargeStringBuilder::new()),
        DataType::Utf8View => built!(StringViewBuilder::new()),
        _ => built!(StringBuilder::new()),
    })
}

fn label_array(dtype: DType, runs: &[(u64, Json)]) -> Result<ArrayRef, ArrowError> {
    // Which labels fit which type was looked at when the columns were chosen.
    let misfit = || ArrowError::CastError(format!("a label is no value of {dtype}"));
    let labels = runs.iter().flat_map(|(count, label)| (0..*count).map(move |_| label));
    macro_rules! parsed {
        ($of:ty, $number:ident => $value:expr) => {{
            let values = labels.map(|label| match label {
                Json::Number($number) => $value.map(Some),
                _ => Ok(None),
            });
            let values = values.collect::<Result<Vec<_>, ArrowError>>()?;
            Ok(Arc::new(PrimitiveArray::<$of>::from_iter(values)))
        }};
    }
    macro_rules! integers {
        ($of:ty) => {
            parsed!($of, number => number.text().parse().map_err(|_| misfit()))
        };
    }
    match dtype {
        DType::Bool => Ok(Arc::new(labels.map(Json::as_bool).collect::<BooleanArray>())),
        DType::I8 => integers!(of::Int8Type),
        DType::I16 => integers!(of::Int16Type),
        DType::I32 => integers!(of::Int32Type),
        DType::I64 => integers!(of::Int64Type),
        DType::U8 => integers!(of::UInt8Type),
        DType::U16 => integers!(of::UInt16Type),
        DType::U32 => integers!(of::UInt32Type),
        DType::U64 => integers!(of::UInt64Type),
        DType::F32 => {
            #[expect(clippy::cast_possible_truncation, reason = "labels of this type are values of f32")]
            let narrow = |wide: f64| wide as f32;
            parsed!(of::Float32Type, number => Ok(narrow(number.as_f64())))
        }
        DType::F64 => parsed!(of::Float64Type, number => Ok(number.as_f64())),
        _ => Err(misfit()),
    }
}

/// Record batches as rows.
pub(crate) struct Table {
    path: PathBuf,
    columns: Vec<Column>,
    /// Where each column stands in a batch.
    places: Vec<usize>,
    /// The batch that was looked at to learn how long lists are.
    first: Option<RecordBatch>,
    rest: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
    rows: Option<u64>,
    row: u64,
    said: Said,
}

impl Table {
    pub(crate) fn new(
        path: &Path,
        schema: &Schema,
        batches: impl IntoIterator<Item = Result<RecordBatch, ArrowError>, IntoIter: 'static>,
        rows: Option<u64>,
        options: &Options,
    ) -> Result<Table, Error> {
        let names = unique_names(path, schema.fields().iter().map(|field| field.name().as_str()))?;
        let pairs = schema.metadata().iter().map(|(key, text)| (key.as_str(), text.as_str()));
        let mut pairs: Vec<(&str, &str)> = pairs.collect();
        // The map has no order.
        pairs.sort_unstable();
        let (mut said, labels) = from_pairs(path, pairs.into_iter())?;
        said.sections.clear();
        let labels = chosen_labels(path, &names, options, labels)?;
        let wanted =
            |name: &str| options.columns.as_ref().is_none_or(|only| only.iter().any(|one| one == name));
        if let Some(name) = options.columns.iter().flatten().find(|name| !names.contains(&name.as_str())) {
            let problem = format!("{} has no such column; it has {}", path.display(), names.join(", "));
            return Err(Error::argument("columns", name, problem));
        }
        let mut rest = batches.into_iter();
        let first = loop {
            match rest.next() {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => break Some(batch),
                Some(Err(error)) => return Err(failed(path, &error)),
                None => break None,
            }
        };
        let (mut columns, mut places) = (Vec::new(), Vec::new());
        for (place, field) in schema.fields().iter().enumerate().filter(|(_, field)| wanted(field.name())) {
            let array = match &first {
                Some(batch) => batch.columns().get(place).cloned(),
                None => Some(new_empty_array(field.data_type())),
            };
            let array =
                array.ok_or_else(|| Error::damaged(path, "a batch has fewer columns than the schema"))?;
            let label = labels.iter().any(|label| label == field.name());
            columns.push(column_of(path, field, array, label)?);
            places.push(place);
        }
        Ok(Table { path: path.to_owned(), columns, places, first, rest: Box::new(rest), rows, row: 0, said })
    }
}

/// The columns that become sections: those of the options, or else those that the file says are labels, as far as they are there.
pub(crate) fn chosen_labels(
    path: &Path,
    names: &[&str],
    options: &Options,
    said: Vec<String>,
) -> Result<Vec<String>, Error> {
    if options.sections_from.is_empty() {
        return Ok(said.into_iter().filter(|name| names.contains(&name.as_str())).collect());
    }
    for (at, name) in options.sections_from.iter().enumerate() {
        if options.sections_from[..at].contains(name) {
            return Err(Error::argument("sections from", name, "it is given twice"));
        }
        let taken = options.columns.as_ref().is_none_or(|only| only.contains(name));
        if !names.contains(&name.as_str()) || !taken {
            let problem = format!("{} has no such column; it has {}", path.display(), names.join(", "));
            return Err(Error::argument("sections from", name, problem));
        }
    }
    Ok(options.sections_from.clone())
}

fn failed(path: &Path, error: &ArrowError) -> Error {
    let said = error.to_string();
    // What the crates say of a compression that they were built without.
    if said.contains("Disabled feature") {
        let problem = format!("{said}: known are snappy, zstd, lz4 and gzip; write it with one of these");
        return Error::kind(path, problem);
    }
    Error::damaged(path, format!("cannot be read: {said}; it was cut or changed: write it again"))
}

/// What the array of a field becomes.
fn column_of(path: &Path, field: &FieldRef, array: ArrayRef, label: bool) -> Result<Column, Error> {
    let name = field.name().as_str();
    let kind = match field.data_type() {
        DataType::LargeUtf8 => Some("large_utf8"),
        DataType::Utf8View => Some("utf8_view"),
        DataType::List(_) => Some("list"),
        DataType::LargeList(_) => Some("large_list"),
        _ => None,
    };
    let form = Form { kind: kind.map(str::to_owned), nullable: field.is_nullable(), parts: Vec::new() };
    let column = |holds| Column { name: name.to_owned(), holds, form };
    if is_strings(field.data_type()) {
        return Ok(column(if label { Holds::Label(LabelType::String) } else { Holds::Strings }));
    }
    let unknown = |of: &DataType| {
        let problem = format!(
            "it is of Arrow's type {of}, which a .cvc file has no array for: cast it to numbers, to lists of numbers or to \
             strings, or leave it out with columns"
        );
        Error::column(path, name, problem)
    };
    if label {
        let dtype = from_arrow(field.data_type()).filter(|dtype| *dtype != DType::F16);
        let problem =
            format!("a label is text, a number or a bool, and it is of Arrow's type {}", field.data_type());
        let dtype = dtype.ok_or_else(|| Error::column(path, name, problem))?;
        return Ok(column(Holds::Label(LabelType::Values(dtype))));
    }
    let (mut inner, leaf) = peel(0, array).map_err(unfit(path, name))?;
    let dtype = from_arrow(leaf.data_type()).ok_or_else(|| unknown(leaf.data_type()))?;
    if let Some(shape) = tensor_shape(field, &inner) {
        inner = shape;
    }
    Ok(column(Holds::Values(dtype, inner)))
}

/// What is wrong with a column, as an error of the file that it is in.
fn unfit(path: &Path, name: &str) -> impl Fn(Unfit) -> Error {
    move |Unfit { row, problem }| {
        let row = row.map_or(String::new(), |row| format!("row {row} "));
        Error::column(path, name, format!("{row}{problem}"))
    }
}

/// The labels of a column.
fn labels(path: &Path, name: &str, row: u64, array: &ArrayRef) -> Result<Piece, Error> {
    if is_strings(array.data_type()) {
        let mut runs: Vec<(u64, Option<String>)> = Vec::new();
        each_string(array, &mut |text| match runs.last_mut() {
            Some((count, last)) if last.as_deref() == text => *count += 1,
            _ => runs.push((1, text.map(str::to_owned))),
        });
        let json = |text: Option<String>| text.map_or(Json::Null, |text| Json::from(text.as_str()));
        return Ok(Piece::Labels(runs.into_iter().map(|(count, text)| (count, json(text))).collect()));
    }
    if let Some(bools) = array.as_boolean_opt() {
        return Ok(Piece::of_labels(bools.iter().map(|label| label.map_or(Json::Null, Json::from))));
    }
    let float = |at: usize, value: f64| match value.is_finite() {
        true => Ok(Json::Number(Number::from_f64(value))),
        false => {
            let row = row + at as u64;
            Err(Error::column(
                path,
                name,
                format!("row {row} is {value}, which cannot be a label: clean it first"),
            ))
        }
    };
    macro_rules! of_floats {
        ($of:ty) => {{
            let values = array.as_primitive::<$of>().iter().enumerate();
            let values =
                values.map(|(at, value)| value.map_or(Ok(Json::Null), |value| float(at, f64::from(value))));
            Ok(Piece::of_labels(values.collect::<Result<Vec<_>, Error>>()?.into_iter()))
        }};
    }
    macro_rules! of_integers {
        ($of:ident, $wide:ty, $number:path) => {{
            let values = array.as_primitive::<of::$of>().iter();
            let json = |value| Json::Number($number(<$wide>::from(value)));
            Ok(Piece::of_labels(values.map(|value| value.map_or(Json::Null, json))))
        }};
    }
    match array.data_type() {
        DataType::Float32 => of_floats!(of::Float32Type),
        DataType::Float64 => of_floats!(of::Float64Type),
        DataType::Int8 => of_integers!(Int8Type, i64, Number::from_i64),
        DataType::Int16 => of_integers!(Int16Type, i64, Number::from_i64),
        DataType::Int32 => of_integers!(Int32Type, i64, Number::from_i64),
        DataType::Int64 => of_integers!(Int64Type, i64, Number::from_i64),
        DataType::UInt8 => of_integers!(UInt8Type, u64, Number::from_u64),
        DataType::UInt16 => of_integers!(UInt16Type, u64, Number::from_u64),
        DataType::UInt32 => of_integers!(UInt32Type, u64, Number::from_u64),
        DataType::UInt64 => of_integers!(UInt64Type, u64, Number::from_u64),
        _ => Err(Error::damaged(path, format!("column {name:?} changes its type between batches"))),
    }
}

impl Table {
    fn piece(&self, column: &Column, array: &ArrayRef) -> Result<Piece, Error> {
        let (path, name, row) = (&self.path, column.name.as_str(), self.row);
        match &column.holds {
            Holds::Label(_) => labels(path, name, row, array),
            Holds::Strings => {
                check_nulls(row, 1, array).map_err(unfit(path, name))?;
                let mut strings = Strings::default();
                each_string(array, &mut |text| strings.push(text.unwrap_or_default()));
                Ok(Piece::Strings(strings))
            }
            Holds::Values(dtype, inner) => {
                let (found, leaf) = peel(row, array.clone()).map_err(unfit(path, name))?;
                if value_count(&found) != value_count(inner) {
                    return Err(unfit(path, name)(Unfit::uneven(row)));
                }
                if from_arrow(leaf.data_type()) != Some(*dtype) {
                    return Err(Error::damaged(
                        path,
                        format!("column {name:?} changes its type between batches"),
                    ));
                }
                let mut bytes = AlignedBytes::new();
                let from = value_bytes(&leaf, *dtype);
                bytes.resize(from.len()).copy_from_slice(&from);
                Ok(Piece::Values(bytes))
            }
        }
    }
}

impl Input for Table {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn rows(&self) -> Option<u64> {
        self.rows
    }

    fn said(&self) -> &Said {
        &self.said
    }

    fn next(&mut self) -> Result<Option<Batch>, Error> {
        let batch = match self.first.take() {
            Some(batch) => batch,
            None => loop {
                match self.rest.next() {
                    Some(Ok(batch)) if batch.num_rows() == 0 => {}
                    Some(Ok(batch)) => break batch,
                    Some(Err(error)) => return Err(failed(&self.path, &error)),
                    None => return Ok(None),
                }
            },
        };
        let arrays = self.places.iter().map(|place| batch.columns().get(*place));
        let arrays: Option<Vec<&ArrayRef>> = arrays.collect();
        let arrays =
            arrays.ok_or_else(|| Error::damaged(&self.path, "a batch has fewer columns than the schema"))?;
        let pieces = self.columns.iter().zip(arrays).map(|(column, array)| self.piece(column, array));
        let pieces = pieces.collect::<Result<Vec<_>, Error>>()?;
        self.row += batch.num_rows() as u64;
        Ok(Some(Batch { rows: batch.num_rows(), pieces }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_offsets_of_arrow_are_an_error() {
        let column =
            Column { name: "source".into(), holds: Holds::Label(LabelType::String), form: Form::default() };
        let rows = 1 << 20;
        let labels = Piece::Labels(vec![(rows, Json::from("x".repeat(2200).as_str()))]);
        let field = Field::new("source", DataType::Utf8, false);
        let error = array(&field, &column, 1 << 20, labels).unwrap_err();
        assert!(matches!(error, ArrowError::OffsetOverflowError(len) if len == 2200 << 20), "{error}");
    }
}
