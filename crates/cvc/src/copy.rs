//! Encoded rows on their way from one file to another, as they are: nothing is lost by encoding twice.

use std::ops::Range;

use cvc_codec::{
    AffineParams, BlockRun, ChunkId, Codec, CodecError, DType, DecodeError, EncodeOptions, EncodedChunk,
    EncodedField, HostBuffer, Params, Payloads, RowSlice, find, strings,
};
use cvc_cpu::{CpuBackend, CpuLoops};
use cvc_format::{ArrayDType, Loss, Stored};

use crate::aligned::AlignedBytes;
use crate::error::Error;
use crate::reader::Array;
use crate::select::Rows;

/// Rows of one chunk, encoded for another file.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) chunk: EncodedChunk,
    pub(crate) block_rows: u32,
}

/// Encodes rows `rows` (ranges within chunk `chunk`, counted from its start) of `array` with the codec `to`, without
/// changing a bit of what they decode to.
///
/// Rows that lie in fields are copied as they are if both codecs store them alike. All others are decoded and encoded
/// again, which is only done with codecs that lose nothing.
pub(crate) fn copy_rows(
    array: Array<'_>,
    chunk: ChunkId,
    rows: &[Range<u32>],
    to: &'static dyn Codec,
) -> Result<Copied, Error> {
    let entry = array.entry(chunk);
    let default_block_rows = |dtype: DType| to.default_block_rows(dtype, array.index().dim);
    let block_rows = match (&entry.stored, array.index().dtype) {
        (Stored::Blocked(blocked), _) => blocked.block_rows,
        (Stored::Framed { .. }, ArrayDType::Values(dtype)) => default_block_rows(dtype),
        (Stored::Framed { .. }, _) => 1,
    };
    let mut copied = Copied { chunk: EncodedChunk::default(), block_rows };
    if array.index().dtype == ArrayDType::Utf8 {
        let first = entry.rows.start;
        let ranges: Vec<Range<u64>> =
            rows.iter().map(|rows| first + u64::from(rows.start)..first + u64::from(rows.end)).collect();
        let texts = array.read_strings(ranges)?;
        // Without rows between them, long strings may meet in a block that was never so large.
        copied.block_rows = strings::fitting_block_rows(&texts, block_rows);
        strings::encode_strings(&texts, to.name(), copied.block_rows, &mut copied.chunk)
            .map_err(|error| Error::Encode { array: array.index().name.clone(), error })?;
        return Ok(copied);
    }
    if stores_alike(&entry.codec, to.name()) {
        copy_fields(array, chunk, rows, to, &mut copied.chunk)?;
        return Ok(copied);
    }
    // What CVCF arrays decode to is f32, of which cvcf.lossless keeps every bit.
    if !to.is_lossless() && to.name() != "cvcf.lossless" {
        // Only CVCF files of other writers have chunks of several codecs.
        let problem = format!(
            "{chunk} is {}, and encoding it with {} would lose something; convert the file to layout native",
            entry.codec,
            to.name()
        );
        return Err(Error::argument("array", &array.index().name, problem));
    }
    let dtype = array.dtype()?;
    let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
    let mut bytes = AlignedBytes::new();
    let ranges: Vec<Range<u64>> = rows
        .iter()
        .map(|rows| entry.rows.start + u64::from(rows.start)..entry.rows.start + u64::from(rows.end))
        .collect();
    let len = array.decoded_len(ranges.clone(), dtype)?;
    let mut buffer = HostBuffer::from_bytes(dtype, bytes.resize(len))?;
    array.decode(&CpuBackend::new(), ranges, dtype, &mut buffer)?;
    let values = RowSlice::from_bytes(dtype, count, array.dim() as usize, bytes.bytes())?;
    to.encode(values, &EncodeOptions::new(block_rows), &CpuLoops::new(), &mut copied.chunk)
        .map_err(|error| Error::Encode { array: array.index().name.clone(), error })?;
    Ok(copied)
}

/// A chunk on its way: its rows, the chunk, its rows to a block, and what encoding lost.
type Put<'p> = dyn FnMut(u32, &EncodedChunk, u32, Loss) -> Result<(), Error> + 'p;

/// Encodes rows of native arrays for an array of `codec`, `dtype` and `dim`, and hands them to `put` chunk by chunk. What is
/// in fields alone and needs the same parameters is put together to chunks of up to `most` rows.
pub(crate) fn copy_in_chunks(
    codec: &str,
    dtype: ArrayDType,
    dim: u32,
    from: &[(Array<'_>, Rows)],
    most: u64,
    put: &mut Put<'_>,
) -> Result<(), Error> {
    let mut pending: Option<(u32, Copied, Loss)> = None;
    for (array, rows) in from {
        let index = array.index();
        if index.dtype != dtype || index.dim != dim || &*index.codec != codec {
            let problem = format!(
                "it has {} {} values as {}; {dim} {dtype} values as {codec} are needed",
                index.dim, index.dtype, index.codec
            );
            return Err(Error::argument("array", &index.name, problem));
        }
        array.check_known()?;
        let to = self::codec(*array, codec)?;
        let pieces = array.split(rows.resolve(index.rows)?);
        for of_chunk in pieces.chunk_by(|a, b| a.0 == b.0) {
            let chunk = of_chunk[0].0;
            let ranges: Vec<Range<u32>> = of_chunk.iter().map(|(_, rows)| rows.clone()).collect();
            let count: u32 = ranges.iter().map(|rows| rows.end - rows.start).sum();
            let copied = copy_rows(*array, chunk, &ranges, to)?;
            let entry = array.entry(chunk);
            let loss = match &entry.stored {
                // What was measured was measured of all rows.
                Stored::Blocked(blocked) if blocked.loss == Loss::NONE || count == entry.row_count() => {
                    blocked.loss
                }
                _ => Loss::UNKNOWN,
            };
            pending = Some(match pending.take() {
                None => (count, copied, loss),
                Some((rows, mut before, of_before))
                    if joins(&before, &copied) && u64::from(rows) + u64::from(count) <= most =>
                {
                    for (field, more) in before.chunk.fields.iter_mut().zip(&copied.chunk.fields) {
                        field.bytes.extend_from_slice(&more.bytes);
                    }
                    (rows + count, before, joined_loss(of_before, rows, loss, count))
                }
                Some((rows, before, loss_before)) => {
                    put(rows, &before.chunk, before.block_rows, loss_before)?;
                    (count, copied, loss)
                }
            });
        }
    }
    match pending {
        Some((rows, last, loss)) if rows > 0 => put(rows, &last.chunk, last.block_rows, loss),
        _ => Ok(()),
    }
}

/// Whether rows of two chunks can be in one.
fn joins(a: &Copied, b: &Copied) -> bool {
    let params = |copied: &Copied| match &copied.chunk.params {
        Params::None => Some(Vec::new()),
        Params::Bytes(bytes) => Some(bytes.to_vec()),
        _ => None,
    };
    let widths = |copied: &Copied| copied.chunk.fields.iter().map(|field| field.width).collect::<Vec<_>>();
    a.chunk.lanes.is_empty()
        && b.chunk.lanes.is_empty()
        && a.block_rows == b.block_rows
        && widths(a) == widths(b)
        && params(a).is_some()
        && params(a) == params(b)
}

/// What encoding lost of two runs of rows together.
fn joined_loss(a: Loss, a_rows: u32, b: Loss, b_rows: u32) -> Loss {
    let (a_rows, b_rows) = (f64::from(a_rows), f64::from(b_rows));
    let mse = (f64::from(a.mse) * a_rows + f64::from(b.mse) * b_rows) / (a_rows + b_rows);
    if mse.is_nan() {
        return Loss::UNKNOWN;
    }
    // Rounded away from "no loss", as ever.
    #[expect(clippy::cast_possible_truncation, reason = "rounded up below where that lost something")]
    let rounded = mse as f32;
    let mse = if f64::from(rounded) < mse { rounded.next_up() } else { rounded };
    Loss {
        max_abs_error: a.max_abs_error.max(b.max_abs_error),
        mse,
        min_cosine: a.min_cosine.min(b.min_cosine),
    }
}

/// Whether two codecs store rows as the same bytes, but for where their parameters are.
pub(crate) fn stores_alike(from: &str, to: &str) -> bool {
    kind(from).is_some_and(|of_from| kind(to) == Some(of_from))
}

/// The name of a native codec with fields, without what CVCF layouts put before it.
fn kind(codec: &str) -> Option<&str> {
    let name = codec.rsplit('.').next().unwrap_or(codec);
    ["raw", "fp16", "bf16", "int8", "int4", "bit1"].contains(&name).then_some(name)
}

fn copy_fields(
    array: Array<'_>,
    chunk: ChunkId,
    rows: &[Range<u32>],
    to: &'static dyn Codec,
    out: &mut EncodedChunk,
) -> Result<(), Error> {
    // The plan has looked at the sizes of everything.
    let plan = array.plan(chunk, array.dtype()?)?;
    let (params, parts) = array.stored(chunk)?;
    let payloads = array.payloads(rows.iter().map(|rows| (chunk, rows.clone())));
    let fail = |error| {
        let error = DecodeError::Source { chunk, error };
        Error::Decode { array: array.index().name.clone(), error }
    };
    out.reset(plan.widths().len(), 0);
    out.fields.iter_mut().for_each(|field| field.bytes.clear());
    out.params = converted(params, to, array)?;
    let mut bytes = Vec::new();
    for rows in rows {
        let blocks = plan.parts().blocks_of(rows.clone());
        let run = BlockRun { chunk, parts: plan.parts(), blocks };
        bytes.resize(run.byte_len(), 0);
        payloads.read(&run, &mut bytes).map_err(fail)?;
        let held = run.rows();
        let mut at = 0;
        for ((field, range), width) in out.fields.iter_mut().zip(run.ranges()).zip(plan.widths()) {
            let EncodedField { width: of_field, bytes: copied } = field;
            *of_field = *width;
            let start = at + (rows.start - held.start) as usize * *width as usize;
            copied.extend_from_slice(&bytes[start..start + rows.len() * *width as usize]);
            at += usize::try_from(range.end - range.start).expect("read into memory");
        }
    }
    debug_assert!(parts.rows() == plan.parts().rows());
    Ok(())
}

/// The parameters of a chunk as the codec `to` has them.
fn converted(params: &Params, to: &'static dyn Codec, array: Array<'_>) -> Result<Params, Error> {
    Ok(match (params, to.is_native(), to.name().ends_with("int8")) {
        // The header's doubles were rounded to f32 before they were ever used.
        (Params::Affine(AffineParams { min, scale }), true, true) => {
            let round = cvc_codec::ops::narrow::round_f32;
            let bytes = [round(*min).to_le_bytes(), round(*scale).to_le_bytes()].concat();
            Params::Bytes(bytes.into())
        }
        (Params::Bytes(bytes), false, true) => {
            let Ok([a, b, c, d, e, f, g, h]) = <[u8; 8]>::try_from(&**bytes) else {
                // `convert` has asked for less than this.
                let error = CodecError::Params { codec: to.name(), needs: "one minimum and one scale" };
                return Err(Error::Encode { array: array.index().name.clone(), error });
            };
            let min = f64::from(f32::from_le_bytes([a, b, c, d]));
            let scale = f64::from(f32::from_le_bytes([e, f, g, h]));
            Params::Affine(AffineParams { min, scale })
        }
        (params @ Params::Bytes(_), true, _) | (params @ Params::Affine(_), false, true) => params.clone(),
        _ => Params::None,
    })
}

/// Rows of no values, encoded with the codec named `to`.
pub(crate) fn encode_nothing(array: Array<'_>, rows: u32, to: &str) -> Result<EncodedChunk, Error> {
    let values = RowSlice::from_bytes(array.values_dtype()?, rows as usize, 0, &[])?;
    let mut encoded = EncodedChunk::default();
    codec(array, to)?
        .encode(values, &EncodeOptions::new(1), &CpuLoops::new(), &mut encoded)
        .map_err(|error| Error::Encode { array: array.index().name.clone(), error })?;
    Ok(encoded)
}

/// The codec of this name, for array `name`.
pub(crate) fn codec(array: Array<'_>, name: &str) -> Result<&'static dyn Codec, Error> {
    find(name).map_err(|error| Error::Encode { array: array.index().name.clone(), error })
}
