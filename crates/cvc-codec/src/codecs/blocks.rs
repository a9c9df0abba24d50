//! What codecs have in common, above all those of native files.

use cvc_format::native::{MAX_BLOCK_LEN, MAX_ROW_LEN};
use cvc_format::{DType, Params};

use crate::codec::{CodecError, StoredChunk};
use crate::ops::copy::copy;
use crate::rows::RowSlice;

/// A block of a codec whose rows have a fixed width has at least so many encoded bytes by default: a checksum of four bytes
/// is then one part in a thousand, and a row is still had for one page or two.
const FIXED_LEN: u64 = 4 << 10;

/// A block of streams has at least so many decoded bytes by default. In smaller ones, the headers and tables of the frames
/// begin to count.
const STREAM_LEN: u64 = 16 << 10;

/// Rows to a block by default, if a row has `row_len` encoded bytes.
pub(super) fn fixed_block_rows(row_len: u64) -> u32 {
    rows_to_fill(FIXED_LEN, row_len)
}

/// Rows to a block by default, if its rows are packed together and a row has `row_len` decoded bytes.
pub(crate) fn stream_block_rows(row_len: u64) -> u32 {
    rows_to_fill(STREAM_LEN, row_len)
}

/// The least power of two of rows that are at least `len` bytes together; 1 if a row has no bytes.
fn rows_to_fill(len: u64, row_len: u64) -> u32 {
    let rows = if row_len == 0 { 1 } else { len.div_ceil(row_len).next_power_of_two() };
    u32::try_from(rows).expect("a few thousand")
}

/// The parameters of a native chunk.
pub(super) fn params<'a>(codec: &'static str, chunk: &StoredChunk<'a>) -> Result<&'a [u8], CodecError> {
    match chunk.params {
        Params::None => Ok(&[]),
        Params::Bytes(bytes) => Ok(bytes),
        _ => Err(CodecError::Params { codec, needs: "parameters of its own" }),
    }
}

/// Refuses parameters.
pub(super) fn no_params(codec: &'static str, chunk: &StoredChunk<'_>) -> Result<(), CodecError> {
    if params(codec, chunk)?.is_empty() {
        Ok(())
    } else {
        Err(CodecError::Params { codec, needs: "no parameters" })
    }
}

/// Refuses a stored array of anything but floats.
pub(super) fn stored_floats(codec: &'static str, chunk: &StoredChunk<'_>) -> Result<(), CodecError> {
    if chunk.dtype.is_float() {
        return Ok(());
    }
    Err(CodecError::Params { codec, needs: "values of a floating point dtype" })
}

/// Refuses to encode anything but floats.
pub(super) fn only_floats(codec: &'static str, rows: RowSlice<'_>) -> Result<(), CodecError> {
    if rows.dtype().is_float() {
        return Ok(());
    }
    let problem =
        format!("it is for f16, bf16, f32 and f64, these are {} values: use raw or zstd", rows.dtype());
    Err(CodecError::Input { codec, problem })
}

/// Refuses to encode bools and complex numbers, which are no CVCF values.
pub(super) fn only_reals(codec: &'static str, rows: RowSlice<'_>) -> Result<(), CodecError> {
    if rows.is_real() {
        return Ok(());
    }
    let problem = format!("these are {} values: use raw, or zstd in a native file", rows.dtype());
    Err(CodecError::Input { codec, problem })
}

/// Refuses to encode bytes of bools that are neither 0 nor 1.
pub(super) fn only_bools(codec: &'static str, rows: RowSlice<'_>) -> Result<(), CodecError> {
    if rows.dtype() != DType::Bool {
        return Ok(());
    }
    match rows.bytes().iter().position(|byte| *byte > 1) {
        None => Ok(()),
        Some(at) => {
            let (row, column, byte) = (at / rows.dim(), at % rows.dim(), rows.bytes()[at]);
            let problem = format!("a bool is 0 or 1, that of column {column} is {byte}: store it as u8");
            Err(CodecError::Row { codec, row, problem })
        }
    }
}

/// Bytes of a row with so many bytes for each value.
pub(super) fn width(codec: &'static str, rows: RowSlice<'_>, size: usize) -> Result<u32, CodecError> {
    let width = rows.dim() as u128 * size as u128;
    match u32::try_from(width) {
        Ok(width) if u64::from(width) <= MAX_ROW_LEN => Ok(width),
        _ => {
            let problem =
                format!("a row takes {width} bytes, at most {MAX_ROW_LEN} are possible: cut the rows");
            Err(CodecError::Input { codec, problem })
        }
    }
}

/// Rows to a block, if blocks become streams: at least 1, at most all there are.
pub(super) fn stream_rows(
    codec: &'static str,
    rows: RowSlice<'_>,
    block_rows: u32,
) -> Result<usize, CodecError> {
    let block_rows = (block_rows as usize).min(rows.len()).max(1);
    let row_len = rows.dim() * rows.dtype().size();
    let block_len = block_rows as u128 * row_len as u128;
    if block_len <= u128::from(MAX_BLOCK_LEN) {
        return Ok(block_rows);
    }
    let most = usize::try_from(MAX_BLOCK_LEN).unwrap_or(usize::MAX) / row_len;
    let advice = match most {
        0 => "use a codec without streams (raw, fp16, int8)".to_owned(),
        most => format!("use at most {most} rows to a block"),
    };
    let problem = format!(
        "a block of {block_rows} rows decodes to {block_len} bytes, at most {MAX_BLOCK_LEN} are possible: {advice}"
    );
    Err(CodecError::Input { codec, problem })
}

/// The little-endian bytes of native values: the same bytes, or those put in `scratch`.
pub(super) fn little_endian<'a>(dtype: DType, bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if cfg!(target_endian = "little") {
        return bytes;
    }
    scratch.resize(bytes.len(), 0);
    // Storing and loading are the same exchange of byte orders.
    copy(bytes, dtype.component_size(), scratch);
    scratch
}
