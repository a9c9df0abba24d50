//! What Arrow's arrays and rows of ours have in common, for whoever reads or writes record batches: types, shapes of rows,
//! bytes of values.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types as of;
use arrow_array::types::ArrowPrimitiveType as _;
use arrow_array::{Array as _, ArrayRef, BooleanArray, PrimitiveArray};
use arrow_buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field};
use cvc::{DType, Json};

const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";
const TENSOR: &str = "arrow.fixed_shape_tensor";

/// What keeps a column from being rows of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The row it is about, if it is about one.
    pub row: Option<u64>,
    /// What is wrong and what to do. It goes on where `row 7 of NAME` ended, or after `NAME: `.
    pub problem: &'static str,
}

impl Unfit {
    /// Rows of different lengths, of which `row` is the first that is unlike those before it.
    pub fn uneven(row: u64) -> Unfit {
        let problem = "is of another length than those before it: rows must be equally long";
        Unfit { row: Some(row), problem }
    }

    fn column(problem: &'static str) -> Unfit {
        Unfit { row: None, problem }
    }
}

/// The same for the native type of each numeric dtype.
macro_rules! numeric {
    ($dtype:expr, $of:ident => $body:expr, else $other:expr) => {
        match $dtype {
            DType::I8 => numeric!(@ of::Int8Type, $of => $body),
            DType::I16 => numeric!(@ of::Int16Type, $of => $body),
            DType::I32 => numeric!(@ of::Int32Type, $of => $body),
            DType::I64 => numeric!(@ of::Int64Type, $of => $body),
            DType::U8 => numeric!(@ of::UInt8Type, $of => $body),
            DType::U16 => numeric!(@ of::UInt16Type, $of => $body),
            DType::U32 => numeric!(@ of::UInt32Type, $of => $body),
            DType::U64 => numeric!(@ of::UInt64Type, $of => $body),
            DType::F16 => numeric!(@ of::Float16Type, $of => $body),
            DType::F32 => numeric!(@ of::Float32Type, $of => $body),
            DType::F64 => numeric!(@ of::Float64Type, $of => $body),
            _ => $other,
        }
    };
    (@ $type:ty, $of:ident => $body:expr) => {{
        type $of = $type;
        $body
    }};
}

/// The type of values of this dtype, if Arrow has one.
pub fn to_arrow(dtype: DType) -> Option<DataType> {
    match dtype {
        DType::Bool => Some(DataType::Boolean),
        _ => numeric!(dtype, Of => Some(Of::DATA_TYPE), else None),
    }
}

/// The dtype of values of this type, if we have one.
pub fn from_arrow(of: &DataType) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| to_arrow(*dtype).as_ref() == Some(of))
}

/// An array without nulls over the bytes of values.
///
/// # Errors
/// Arrow has no such dtype.
pub fn primitives(dtype: DType, bytes: Buffer) -> Result<ArrayRef, ArrowError> {
    if dtype == DType::Bool {
        let values = BooleanBuffer::collect_bool(bytes.len(), |at| bytes[at] != 0);
        return Ok(Arc::new(BooleanArray::new(values, None)));
    }
    let len = bytes.len() / dtype.size();
    numeric!(
        dtype,
        Of => Ok(Arc::new(PrimitiveArray::<Of>::new(ScalarBuffer::new(bytes, 0, len), None))),
        else Err(ArrowError::NotYetImplemented(dtype.to_string()))
    )
}

/// The bytes of values that have no nulls, of a dtype that [`from_arrow`] gave.
pub fn value_bytes(array: &ArrayRef, dtype: DType) -> Buffer {
    if let Some(bools) = array.as_boolean_opt() {
        return bools.values().iter().map(u8::from).collect::<Vec<u8>>().into();
    }
    let (data, size) = (array.to_data(), dtype.size());
    data.buffers()[0].slice_with_length(data.offset() * size, data.len() * size)
}

/// A field with the shape of its rows, where they have several axes.
pub fn with_tensor_shape(field: Field, inner: &[u32]) -> Field {
    if inner.len() < 2 {
        return field;
    }
    let shape = format!("{{\"shape\":{inner:?}}}");
    field.with_metadata([
        (EXTENSION_NAME.to_owned(), TENSOR.to_owned()),
        (EXTENSION_METADATA.to_owned(), shape),
    ])
}

/// The shape in the metadata of `arrow.fixed_shape_tensor`, if the values lie in that order and are as many as in rows of `inner`.
pub fn tensor_shape(field: &Field, inner: &[u32]) -> Option<Vec<u32>> {
    field.metadata().get(EXTENSION_NAME).filter(|name| *name == TENSOR)?;
    let metadata = Json::parse(field.metadata().get(EXTENSION_METADATA)?.as_bytes(), 8).ok()?;
    if metadata.get("permutation").is_some() {
        return None;
    }
    let shape = metadata.get("shape")?.as_array()?;
    let shape: Vec<u32> = shape.iter().map(|len| u32::try_from(len.as_u64()?).ok()).collect::<Option<_>>()?;
    (value_count(&shape)? == value_count(inner)?).then_some(shape)
}

/// Values of a row.
pub fn value_count(shape: &[u32]) -> Option<u64> {
    shape.iter().try_fold(1u64, |product, len| product.checked_mul(u64::from(*len)))
}

/// Whether these are strings, or categories of strings.
pub fn is_strings(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_strings(values),
        _ => false,
    }
}

/// The text of every row, if these are strings.
pub fn each_string(array: &ArrayRef, each: &mut dyn FnMut(Option<&str>)) {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().for_each(each),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().for_each(each),
        DataType::Utf8View => array.as_string_view().iter().for_each(each),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let mut words: Vec<Option<String>> = Vec::new();
            each_string(dictionary.values(), &mut |text| words.push(text.map(str::to_owned)));
            if words.is_empty() {
                (0..array.len()).for_each(|_| each(None));
                return;
            }
            let keys = dictionary.keys();
            for (at, key) in dictionary.normalized_keys().into_iter().enumerate() {
                each(if keys.is_null(at) { None } else { words[key].as_deref() });
            }
        }
        _ => {}
    }
}

/// The shape of a row, and the values of all rows. `row` is the number of the first.
///
/// # Errors
/// Rows are null, have nulls in them, or are of different lengths.
pub fn peel(row: u64, array: ArrayRef) -> Result<(Vec<u32>, ArrayRef), Unfit> {
    let (mut inner, mut array, mut dim) = (Vec::new(), array, 1);
    loop {
        check_nulls(row, dim, &array)?;
        let rows = array.len();
        let (len, values) = match array.data_type() {
            DataType::FixedSizeList(_, len) => {
                let (list, len) = (array.as_fixed_size_list(), usize::try_from(*len).unwrap_or(0));
                (len, list.values().slice(list.value_offset_at(0), rows * len))
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                even(row, dim, list.value_offsets().iter().map(|at| i64::from(*at)), list.values())?
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                even(row, dim, list.value_offsets().iter().copied(), list.values())?
            }
            _ => return Ok((inner, array)),
        };
        let wide = || Unfit::column("its lists are longer than the rows of an array can be");
        inner.push(u32::try_from(len).map_err(|_| wide())?);
        dim = dim.checked_mul(len.max(1)).ok_or_else(wide)?;
        array = values;
    }
}

/// The values of lists that are all equally long, and how long; `dim` lists are a row.
fn even(
    row: u64,
    dim: usize,
    offsets: impl Iterator<Item = i64>,
    values: &ArrayRef,
) -> Result<(usize, ArrayRef), Unfit> {
    let offsets: Result<Vec<usize>, _> = offsets.map(usize::try_from).collect();
    let offsets =
        offsets.map_err(|_| Unfit::column("its lists begin before their values; write it again"))?;
    let lens = || offsets.windows(2).map(|pair| pair[1] - pair[0]);
    let len = lens().next().unwrap_or(0);
    if let Some(other) = lens().position(|other| other != len) {
        return Err(Unfit::uneven(row + (other / dim) as u64));
    }
    let (start, end) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    Ok((len, values.slice(start, end - start)))
}

/// Refuses nulls. `array` has `dim` items for each row, the first of which is `row`.
///
/// # Errors
/// There is one.
pub fn check_nulls(row: u64, dim: usize, array: &ArrayRef) -> Result<(), Unfit> {
    if array.logical_null_count() == 0 {
        return Ok(());
    }
    let nulls = array.logical_nulls();
    let first = nulls.and_then(|nulls| (0..nulls.len()).find(|at| nulls.is_null(*at))).unwrap_or(0);
    let row = Some(row + (first / dim.max(1)) as u64);
    Err(Unfit {
        row,
        problem: if dim == 1 {
            "is null, and arrays have no nulls: fill it or leave it out first"
        } else {
            "has a null in it, and arrays have no nulls: fill it or leave it out first"
        },
    })
}
