//! The body of a CVCF file: frames, put aside until the header in front of them can be written.

use std::io::Write;

use cvc_codec::{Codec, EncodeOptions, EncodedChunk, RowSlice, find};
use cvc_cpu::CpuLoops;
use cvc_format::cvcf::{ArraySpec, ChunkSpec, Contents};
use cvc_format::{DType, Section};

use super::{DEFAULT_CHUNK_LEN, SMALL_BATCH_LEN, WriteOptions, encode_error};
use crate::aligned::AlignedBytes;
use crate::error::Error;
use crate::par;

/// Rows on their way into a CVCF file. Every chunk has rows of every array.
pub(super) struct Body {
    arrays: Vec<ArraySpec>,
    codecs: Vec<&'static dyn Codec>,
    chunk_rows: usize,
    /// Rows that have come in and are not encoded yet, one buffer for each array; never more than one batch.
    pending: Vec<AlignedBytes>,
    pending_rows: usize,
    chunks: Vec<ChunkSpec>,
    /// Rows in `chunks`.
    encoded_rows: u64,
}

impl Body {
    pub(super) fn new(options: &WriteOptions) -> Result<Body, Error> {
        let arrays = options.cvcf_arrays()?;
        Contents::check_arrays(options.layout, &arrays)?;
        for metadata in &options.chunk_metadata {
            Contents::check_metadata(options.layout, metadata)?;
        }
        let row_len: u64 = arrays.iter().map(|array| u64::from(array.dim) * 4).sum();
        let default_rows = (DEFAULT_CHUNK_LEN / row_len.max(1)).max(1);
        let chunk_rows = options.chunk_rows.map_or(default_rows, u64::from);
        let codecs = arrays.iter().map(|array| find(array.codec).map_err(encode_error(&array.name, 0)));
        Ok(Body {
            codecs: codecs.collect::<Result<_, _>>()?,
            chunk_rows: usize::try_from(chunk_rows).unwrap_or(usize::MAX),
            pending: vec![AlignedBytes::new(); arrays.len()],
            pending_rows: 0,
            chunks: Vec::new(),
            encoded_rows: 0,
            arrays,
        })
    }

    pub(super) fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }

    pub(super) fn batch_rows(&self) -> usize {
        let row_lens =
            self.arrays.iter().map(|array| (array.dim as usize).saturating_mul(array.dtype.size()));
        let row_len = row_lens.fold(0, usize::saturating_add);
        let chunk_len = self.chunk_rows.saturating_mul(row_len).max(1);
        self.chunk_rows.saturating_mul(par::workers().max(SMALL_BATCH_LEN / chunk_len))
    }

    pub(super) fn rows(&self) -> u64 {
        self.encoded_rows + self.pending_rows as u64
    }

    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn reserve(&self, options: &WriteOptions, rows: u64) -> Result<(), Error> {
        let chunks = self.rows().saturating_add(rows).div_ceil(self.chunk_rows as u64);
        Ok(Contents::check_chunk_count(options.layout, chunks)?)
    }

    pub(super) fn append(
        &mut self,
        options: &WriteOptions,
        rows: &[RowSlice<'_>],
        sink: &mut dyn Write,
    ) -> Result<(), Error> {
        let count = rows.first().map_or(0, RowSlice::len);
        let mut next = 0;
        while next < count {
            let left = count - next;
            if self.pending_rows == 0 && left >= self.chunk_rows {
                // Whole chunks are encoded from where they lie.
                let take = left.min(self.batch_rows()) / self.chunk_rows * self.chunk_rows;
                let batch: Vec<RowSlice<'_>> =
                    rows.iter().map(|rows| rows.slice(next..next + take)).collect();
                self.encode(options, &batch, sink)?;
                next += take;
            } else {
                let take = left.min(self.batch_rows() - self.pending_rows);
                for (pending, rows) in self.pending.iter_mut().zip(rows) {
                    let bytes = rows.slice(next..next + take).bytes();
                    let filled = pending.bytes().len();
                    pending.resize(filled + bytes.len())[filled..].copy_from_slice(bytes);
                }
                self.pending_rows += take;
                next += take;
                if self.pending_rows == self.batch_rows() {
                    self.flush(options, sink)?;
                }
            }
        }
        Ok(())
    }

    /// Encodes what has come in.
    pub(super) fn flush(&mut self, options: &WriteOptions, sink: &mut dyn Write) -> Result<(), Error> {
        if self.pending_rows == 0 {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let arrays = self.arrays.iter().zip(&pending);
        let batch = arrays.map(|(array, bytes)| {
            RowSlice::from_bytes(array.dtype, self.pending_rows, array.dim as usize, bytes.bytes())
        });
        let batch: Vec<RowSlice<'_>> = batch.collect::<Result<_, _>>()?;
        self.encode(options, &batch, sink)?;
        self.pending = pending;
        for pending in &mut self.pending {
            pending.resize(0);
        }
        self.pending_rows = 0;
        Ok(())
    }

    /// Encodes rows as chunks, the last of which may be short, on all cores, and puts them aside in order.
    fn encode(
        &mut self,
        options: &WriteOptions,
        batch: &[RowSlice<'_>],
        sink: &mut dyn Write,
    ) -> Result<(), Error> {
        let count = batch.first().map_or(0, RowSlice::len);
        let starts: Vec<usize> = (0..count).step_by(self.chunk_rows).collect();
        let first_row = self.encoded_rows;
        let loops = CpuLoops::new();
        let encoded = par::try_map(
            &starts,
            || (),
            |(), start| {
                let rows = *start..count.min(start + self.chunk_rows);
                let arrays = batch.iter().zip(&self.codecs).zip(&self.arrays);
                let parts = arrays.map(|((array_rows, codec), array)| {
                    let mut part = EncodedChunk::default();
                    codec
                        .encode(array_rows.slice(rows.clone()), &EncodeOptions::new(1), &loops, &mut part)
                        .map_err(encode_error(&array.name, first_row + *start as u64))?;
                    Ok(part)
                });
                Ok::<_, Error>((rows.len(), parts.collect::<Result<Vec<EncodedChunk>, Error>>()?))
            },
        )?;
        encoded.iter().try_for_each(|(rows, parts)| self.put(options, *rows, parts, sink))
    }

    /// Puts one encoded chunk aside; it has one part for each array.
    pub(super) fn put(
        &mut self,
        options: &WriteOptions,
        rows: usize,
        parts: &[EncodedChunk],
        sink: &mut dyn Write,
    ) -> Result<(), Error> {
        let Ok(rows) = u32::try_from(rows) else {
            return Err(Error::argument("chunk rows", rows, "a chunk holds fewer than 2^32 rows"));
        };
        let mut crc = crate::checks::crc32();
        parts.iter().flat_map(EncodedChunk::payload).for_each(|bytes| crc.update(bytes));
        let payload_len = parts.iter().map(EncodedChunk::payload_len).sum();
        let crc = u32::try_from(crc.finalize()).expect("a checksum of 32 bits");
        let frame = Contents::frame_header(options.layout, payload_len, crc)?;
        sink.write_all(&frame).map_err(Error::Spool)?;
        for bytes in parts.iter().flat_map(EncodedChunk::payload) {
            sink.write_all(bytes).map_err(Error::Spool)?;
        }
        let parts = parts.iter().map(|part| (part.payload_len(), part.params.clone())).collect();
        self.chunks.push(ChunkSpec { rows, parts, metadata: None });
        self.encoded_rows += u64::from(rows);
        Ok(())
    }

    /// Everything that stands in front of the frames.
    pub(super) fn prefix(
        &mut self,
        options: &mut WriteOptions,
        sections: &[Section],
    ) -> Result<Vec<u8>, Error> {
        let metadata = std::mem::take(&mut options.chunk_metadata);
        if !metadata.is_empty() {
            if metadata.len() != self.chunks.len() {
                let problem =
                    format!("{} chunks were written; one item for each is needed", self.chunks.len());
                return Err(Error::argument("chunk metadata", format!("{} items", metadata.len()), problem));
            }
            for (chunk, metadata) in self.chunks.iter_mut().zip(metadata) {
                chunk.metadata = Some(metadata);
            }
        }
        let contents = Contents {
            layout: options.layout,
            arrays: &self.arrays,
            chunks: &self.chunks,
            sections: if sections.is_empty() { None } else { Some(sections) },
        };
        Ok(contents.prefix()?)
    }

    /// What rows of array `array` look like.
    pub(super) fn array(&self, array: usize) -> (&str, DType, usize) {
        let array = &self.arrays[array];
        (&array.name, array.dtype, array.dim as usize)
    }
}
