//! `lossless`: byte planes of floats, of which those that can be packed are.
//!
//! Byte p of all values of a row is its plane p. Signs and exponents of embeddings repeat, the lower bits of their
//! fractions are noise; so the planes that pack well become zstd frames, one for each block, and the others stand
//! together in one field, where a row is found without unpacking anything.

use std::sync::Arc;

use cvc_format::{DType, Params};

use super::blocks;
use crate::codec::{Codec, CodecError, EncodeOptions, EncodedChunk, EncodedLane, StoredChunk};
use crate::loops::Loops;
use crate::plan::{DecodePlan, Load, Stream};
use crate::rows::RowSlice;
use crate::stream::{Deflater, Packing};

/// Keeps every bit of floats.
#[derive(Clone, Copy, Debug)]
pub struct Lossless;

/// So many rows of a chunk decide which of its planes are packed.
const SAMPLE_ROWS: usize = 64;

impl Codec for Lossless {
    fn name(&self) -> &'static str {
        "lossless"
    }

    fn decoded_dtype(&self, input: DType) -> DType {
        input
    }

    fn is_lossless(&self) -> bool {
        true
    }

    fn plan(&self, chunk: &StoredChunk<'_>, out: DType) -> Result<DecodePlan, CodecError> {
        blocks::stored_floats(self.name(), chunk)?;
        let dtype = chunk.dtype;
        let coded = match *blocks::params(self.name(), chunk)? {
            [coded] if u64::from(coded) >> dtype.size() == 0 => coded,
            _ => {
                return Err(CodecError::Params {
                    codec: self.name(),
                    needs: "one byte that says which planes are packed",
                });
            }
        };
        let stream = if coded == 0 { Stream::Stored } else { Stream::Zstd };
        Ok(DecodePlan::new(chunk.shape, Load::JoinPlanes { dtype, coded }, stream, out, chunk.parts)?)
    }

    fn encode(
        &self,
        rows: RowSlice<'_>,
        options: &EncodeOptions,
        _loops: &dyn Loops,
        out: &mut EncodedChunk,
    ) -> Result<(), CodecError> {
        blocks::only_floats(self.name(), rows)?;
        blocks::width(self.name(), rows, rows.dtype().size())?;
        let block_rows = blocks::stream_rows(self.name(), rows, options.block_rows)?;
        match rows.dtype().size() {
            2 => encode::<2>(rows, block_rows, out),
            4 => encode::<4>(rows, block_rows, out),
            _ => encode::<8>(rows, block_rows, out),
        }
        Ok(())
    }

    fn default_block_rows(&self, dtype: DType, dim: u32) -> u32 {
        blocks::stream_block_rows(u64::from(dim) * dtype.size() as u64)
    }
}

fn encode<const SIZE: usize>(rows: RowSlice<'_>, block_rows: usize, out: &mut EncodedChunk) {
    let dim = rows.dim();
    let values = rows.bytes().as_chunks::<SIZE>().0;
    let (mut deflater, mut scratch) = (Deflater::default(), Vec::new());
    let sample = &values[..rows.len().min(SAMPLE_ROWS) * dim];
    let coded: [bool; SIZE] = core::array::from_fn(|plane| pays(sample, plane, &mut deflater, &mut scratch));
    let lanes = coded.iter().filter(|coded| **coded).count();
    out.reset(usize::from(lanes < SIZE), lanes);
    let mask = coded.iter().rev().fold(0u8, |mask, coded| mask << 1 | u8::from(*coded));
    out.params = Params::Bytes(Arc::new([mask]));

    let stored: Vec<usize> = (0..SIZE).filter(|plane| !coded[*plane]).collect();
    if let [field] = out.fields.as_mut_slice() {
        let width = dim * stored.len();
        field.width = u32::try_from(width).expect("the codec has checked it");
        field.bytes.resize(width * rows.len(), 0);
        // Neither loop runs if rows have no values.
        let out_rows = field.bytes.chunks_exact_mut(width.max(1));
        for (row, out) in values.chunks_exact(dim.max(1)).zip(out_rows) {
            for (plane, out) in stored.iter().zip(out.chunks_exact_mut(dim)) {
                take_plane(row, *plane, out);
            }
        }
    }
    let packed = (0..SIZE).filter(|plane| coded[*plane]);
    for (plane, EncodedLane { bytes, lens }) in packed.zip(&mut out.lanes) {
        for block in values.chunks(block_rows * dim) {
            scratch.resize(block.len(), 0);
            take_plane(block, plane, &mut scratch);
            lens.push(deflater.deflate(Packing::ZstdLiterals, &scratch, bytes));
        }
    }
}

/// Whether packing this plane of the sample saves at least an eighth of it.
fn pays<const SIZE: usize>(
    sample: &[[u8; SIZE]],
    plane: usize,
    deflater: &mut Deflater,
    scratch: &mut Vec<u8>,
) -> bool {
    let mut frame = Vec::new();
    scratch.resize(sample.len(), 0);
    take_plane(sample, plane, scratch);
    // Where rows are long, the sample may be longer than a block can be.
    let frame_len: u64 = scratch
        .chunks(1 << 20)
        .map(|part| u64::from(deflater.deflate(Packing::ZstdLiterals, part, &mut frame)))
        .sum();
    frame_len * 8 <= sample.len() as u64 * 7 && !sample.is_empty()
}

/// Byte `plane` of each value, from the least significant on.
fn take_plane<const SIZE: usize>(values: &[[u8; SIZE]], plane: usize, out: &mut [u8]) {
    let at = if cfg!(target_endian = "big") { SIZE - 1 - plane } else { plane };
    for (value, byte) in values.iter().zip(out) {
        *byte = value[at];
    }
}
