//! Parts of chunks: which rows they touch, and the elements of those.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use cvc::{ReadOptions, Reader, Rows};
use zarrs_chunk_grid::{Indexer, IndexerError};
use zarrs_codec::{
    ArrayBytes, ArrayPartialDecoderTraits, BytesPartialDecoderTraits, CodecError, CodecOptions,
};
use zarrs_data_type::{DataType, FillValue};
use zarrs_storage::StorageError;

use crate::chunk::Chunk;
use crate::codec::{decoded, index, other, values_of};
use crate::shape::FileShape;

/// Reads parts of one chunk. Its index is read once, and blocks that were found good are not compared again.
pub(crate) struct PartialDecoder {
    input: Arc<dyn BytesPartialDecoderTraits>,
    of: FileShape,
    shape: Vec<u64>,
    data_type: DataType,
    fill_value: FillValue,
    /// Once it was opened.
    reader: Mutex<Option<Arc<Reader>>>,
}

impl PartialDecoder {
    pub(crate) fn new(
        input: Arc<dyn BytesPartialDecoderTraits>,
        of: FileShape,
        shape: Vec<u64>,
        data_type: DataType,
        fill_value: FillValue,
    ) -> PartialDecoder {
        PartialDecoder { input, of, shape, data_type, fill_value, reader: Mutex::new(None) }
    }

    /// The chunk, if there is one.
    fn reader(&self, options: &CodecOptions) -> Result<Option<Arc<Reader>>, CodecError> {
        let mut known = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let Some(chunk) = Chunk::open(&self.input, options)? else { return Ok(None) };
            let reader = Reader::new(Box::new(chunk), ReadOptions::default()).map_err(other)?;
            *known = Some(Arc::new(reader));
        }
        Ok(known.clone())
    }
}

impl ArrayPartialDecoderTraits for PartialDecoder {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }

    fn exists(&self) -> Result<bool, StorageError> {
        self.input.exists()
    }

    fn size_held(&self) -> usize {
        self.input.size_held()
    }

    fn partial_decode(
        &self,
        indexer: &dyn Indexer,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'_>, CodecError> {
        if indexer.dimensionality() != self.shape.len() {
            let (found, expected) = (indexer.dimensionality(), self.shape.len());
            return Err(IndexerError::new_incompatible_dimensionality(found, expected).into());
        }
        let runs: Vec<(u64, u64)> = indexer.iter_contiguous_linearised_indices(&self.shape)?.collect();
        let Some(reader) = self.reader(options)? else {
            return Ok(ArrayBytes::new_fill_value(&self.data_type, indexer.len(), &self.fill_value)?);
        };
        let array = values_of(&reader, &self.of)?;
        // Not empty: no axis of a chunk is.
        let dim = self.of.dim();
        let rows = together(
            runs.iter().filter(|run| run.1 > 0).map(|(first, len)| first / dim..(first + len).div_ceil(dim)),
        );
        let values = decoded(array, Rows::from(rows.clone()), self.of.dtype)?;
        if let ([only], [(first, len)]) = (&rows[..], &runs[..])
            && (only.start * dim, (only.end - only.start) * dim) == (*first, *len)
        {
            return Ok(ArrayBytes::new_flen(values));
        }
        // Where the values of each range of rows begin in what was decoded.
        let starts: Vec<u64> = rows
            .iter()
            .scan(0, |start, range| Some(std::mem::replace(start, *start + (range.end - range.start) * dim)))
            .collect();
        let size = self.of.size();
        let mut part = Vec::with_capacity(index(indexer.len() * size));
        for (first, len) in runs.into_iter().filter(|run| run.1 > 0) {
            let range = rows.partition_point(|range| range.start * dim <= first) - 1;
            let start = starts[range] + first - rows[range].start * dim;
            part.extend_from_slice(&values[index(start * size)..index((start + len) * size)]);
        }
        Ok(ArrayBytes::new_flen(part))
    }

    fn supports_partial_decode(&self) -> bool {
        self.input.supports_partial_decode()
    }
}

/// The ranges in order, those that touch made one.
fn together(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = ranges.collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let touches = next.start <= kept.end;
        if touches {
            kept.end = kept.end.max(next.end);
        }
        touches
    });
    ranges
}
