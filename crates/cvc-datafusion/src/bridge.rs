//! Batches of `cvc-arrow`, which follows the newest version of Arrow's crates, as batches of the version that DataFusion has.
//!
//! Both versions speak Arrow's C data interface, whose structs are the same whatever the version: buffers are passed on, not copied.
//! When DataFusion has the same version this file goes.
#![allow(
    unsafe_code,
    reason = "structs of C that one version of a crate gives and another takes; the proofs are at each use"
)]

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow_array::Array as _;
use arrow_array::ffi as newer;
use arrow_schema::SchemaRef as NewerSchema;

/// The schema in the other version.
pub(crate) fn schema(of: &NewerSchema) -> Result<SchemaRef, ArrowError> {
    let given = newer::FFI_ArrowSchema::try_from(&**of).map_err(failed)?;
    Ok(Arc::new(Schema::try_from(&taken_schema(given))?))
}

/// The batch in the other version; `schema` is what [`schema`] made of its own.
pub(crate) fn batch(of: &arrow_array::RecordBatch, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = of.columns().iter().map(|column| array(column)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(of.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

fn array(of: &arrow_array::ArrayRef) -> Result<ArrayRef, ArrowError> {
    let (mut array, schema) = newer::to_ffi(&of.to_data()).map_err(failed)?;
    let schema = taken_schema(schema);
    // SAFETY: it is an `ArrowArray` of the C data interface, as both types are, and alive; it is moved out, which leaves it released.
    let array = unsafe { FFI_ArrowArray::from_raw((&raw mut array).cast()) };
    // SAFETY: array and schema were made together of valid data, and nobody else has them.
    let data = unsafe { from_ffi(array, &schema) }?;
    Ok(make_array(data))
}

fn taken_schema(mut schema: newer::FFI_ArrowSchema) -> FFI_ArrowSchema {
    // SAFETY: it is an `ArrowSchema` of the C data interface, as both types are, and alive; it is moved out, which leaves it released.
    unsafe { FFI_ArrowSchema::from_raw((&raw mut schema).cast()) }
}

/// An error of the other version.
pub(crate) fn failed(error: arrow_schema::ArrowError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;
    use arrow::datatypes::{DataType, Float32Type};
    use arrow_array::{FixedSizeListArray, Float32Array, Int64Array, LargeStringArray};
    use arrow_schema::Field;

    use super::*;

    #[test]
    fn every_kind_of_column_passes_with_its_metadata_and_without_a_copy() {
        let values = Float32Array::from_iter_values((0..12u8).map(f32::from));
        let there = values.values().as_ptr();
        let item = Arc::new(Field::new("item", arrow_schema::DataType::Float32, false));
        let vectors = FixedSizeListArray::try_new(item.clone(), 3, Arc::new(values), None).unwrap();
        let list = arrow_schema::DataType::FixedSizeList(item, 3);
        let named = |name: &str, of| Field::new(name, of, false);
        let ours = Arc::new(arrow_schema::Schema::new(vec![
            named("vectors", list).with_metadata([("shape".to_owned(), "[3]".to_owned())]),
            named("id", arrow_schema::DataType::Int64),
            named("title", arrow_schema::DataType::LargeUtf8),
        ]));
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(vectors),
            Arc::new(Int64Array::from_iter_values(0..4)),
            Arc::new(LargeStringArray::from_iter_values(["a", "", "ccc", "d"])),
        ];
        let whole = arrow_array::RecordBatch::try_new(ours.clone(), columns).unwrap();
        let theirs = schema(&ours).unwrap();
        assert_eq!(theirs.field(0).metadata()["shape"], "[3]");
        assert_eq!(theirs.field(2).data_type(), &DataType::LargeUtf8);
        let passed = batch(&whole, theirs.clone()).unwrap();
        assert_eq!(
            passed["vectors"].as_fixed_size_list().values().as_primitive::<Float32Type>().values().as_ptr(),
            there
        );
        let part = batch(&whole.slice(1, 2), theirs).unwrap();
        assert_eq!(part["title"].as_string::<i64>().iter().flatten().collect::<Vec<_>>(), ["", "ccc"]);
        let vectors = part["vectors"].as_fixed_size_list();
        assert_eq!(vectors.value(0).as_primitive::<Float32Type>().values()[..], [3.0, 4.0, 5.0]);
        drop((whole, passed));
        assert_eq!(vectors.value(1).as_primitive::<Float32Type>().values()[..], [6.0, 7.0, 8.0]);
        let none = arrow_array::RecordBatchOptions::new().with_row_count(Some(7));
        let none = arrow_array::RecordBatch::try_new_with_options(
            Arc::new(arrow_schema::Schema::empty()),
            vec![],
            &none,
        );
        assert_eq!(batch(&none.unwrap(), Arc::new(Schema::empty())).unwrap().num_rows(), 7);
    }
}
