//! Reading arrays of any dtype, as bytes.
//!
//! Shared by the tests of damaged files and by fuzzing.

#![allow(dead_code, reason = "not everyone who includes this needs all of it")]

use std::ops::Range;

use cvc::codec::SourceError;
use cvc::{
    AlignedBytes, Array, ArrayDType, Backend, CpuBackend, DType, Element, Error, HostBuffer, OnDamage,
    ReadAt, Rows, Strings,
};

/// Rows as bytes: values in native order, or the text of a string.
pub(crate) type ByteRows = Vec<Vec<u8>>;

/// What could be saved of some rows.
pub(crate) struct Saved {
    pub(crate) rows: ByteRows,
    pub(crate) lost: Vec<Range<u64>>,
}

/// The chosen rows of an array, whatever it holds, read into memory that was full of `before`.
pub(crate) fn read_rows(array: Array<'_>, rows: impl Into<Rows>, before: u8) -> Result<ByteRows, Error> {
    if array.index().dtype == ArrayDType::Utf8 {
        return Ok(of_strings(&array.read_strings(rows)?));
    }
    let bytes = read_values(array, &CpuBackend::new(), rows, before)?;
    Ok(of_bytes(&bytes, array.dim() as usize * array.dtype()?.size()))
}

/// The same as one piece: values one after another, or each string after its length.
pub(crate) fn read_bytes(array: Array<'_>, rows: impl Into<Rows>, before: u8) -> Result<Vec<u8>, Error> {
    if array.index().dtype != ArrayDType::Utf8 {
        return read_values(array, &CpuBackend::new(), rows, before);
    }
    let strings = array.read_strings(rows)?;
    let bytes =
        |text: &str| (text.len() as u64).to_le_bytes().into_iter().chain(text.bytes()).collect::<Vec<u8>>();
    Ok(strings.iter().flat_map(bytes).collect())
}

/// The chosen rows of an array of values, decoded by `backend`.
pub(crate) fn read_values<B>(
    array: Array<'_>,
    backend: &B,
    rows: impl Into<Rows>,
    before: u8,
) -> Result<Vec<u8>, Error>
where
    B: for<'a> Backend<Buffer<'a> = HostBuffer<'a>>,
{
    let (rows, dtype) = (rows.into(), array.dtype()?);
    let mut buffer = AlignedBytes::new();
    let bytes = buffer.resize(array.decoded_len(rows.clone(), dtype)?);
    bytes.fill(before);
    let mut values = HostBuffer::from_bytes(dtype, bytes).expect("aligned for every dtype");
    array.decode(backend, rows, dtype, &mut values)?;
    Ok(bytes.to_vec())
}

/// What can be saved of the chosen rows; `None` for dtypes that no Rust type stands for.
pub(crate) fn salvage_rows(
    array: Array<'_>,
    rows: impl Into<Rows>,
    on_damage: OnDamage,
) -> Result<Option<Saved>, Error> {
    fn of<T: Element>(array: Array<'_>, rows: Rows, on_damage: OnDamage) -> Result<Option<Saved>, Error> {
        let salvaged = array.salvage::<T>(rows, on_damage)?;
        let row_len = array.dim() as usize * size_of::<T>();
        Ok(Some(Saved {
            rows: of_bytes(bytemuck::cast_slice(&salvaged.values), row_len),
            lost: salvaged.lost,
        }))
    }
    let rows = rows.into();
    if array.index().dtype == ArrayDType::Utf8 {
        let salvaged = array.salvage_strings(rows, on_damage)?;
        return Ok(Some(Saved { rows: of_strings(&salvaged.values), lost: salvaged.lost }));
    }
    match array.dtype()? {
        DType::I8 => of::<i8>(array, rows, on_damage),
        DType::I16 => of::<i16>(array, rows, on_damage),
        DType::I32 => of::<i32>(array, rows, on_damage),
        DType::I64 => of::<i64>(array, rows, on_damage),
        DType::U8 => of::<u8>(array, rows, on_damage),
        DType::U16 => of::<u16>(array, rows, on_damage),
        DType::U32 => of::<u32>(array, rows, on_damage),
        DType::U64 => of::<u64>(array, rows, on_damage),
        DType::F16 => of::<half::f16>(array, rows, on_damage),
        DType::Bf16 => of::<half::bf16>(array, rows, on_damage),
        DType::F32 => of::<f32>(array, rows, on_damage),
        DType::F64 => of::<f64>(array, rows, on_damage),
        _ => Ok(None),
    }
}

fn of_strings(strings: &Strings) -> ByteRows {
    strings.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn of_bytes(bytes: &[u8], row_len: usize) -> ByteRows {
    // Rows of no values are none here.
    bytes.chunks_exact(row_len.max(1)).map(<[u8]>::to_vec).collect()
}

/// A file in memory that lends nothing, as a file on a disk does.
pub(crate) struct Copied(pub(crate) Vec<u8>);

impl ReadAt for Copied {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        ReadAt::read_at(&self.0, offset, into)
    }
}
