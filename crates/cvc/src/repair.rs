//! A new file with the rows that are whole.

use std::ops::Range;
use std::path::Path;

use cvc_codec::{ChunkId, EncodedChunk};
use cvc_format::{Layout, Loss, Stored};

use crate::copy::{self, copy_rows};
use crate::error::Error;
use crate::io::atomic_file::Overwrite;
use crate::reader::{Array, Reader};
use crate::salvage::{union, without};
use crate::writer::{ArrayOptions, EncodedParts, WriteOptions, Writer, Written};

/// What a repair saved and what it could not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairReport {
    /// The new file.
    pub written: Written,
    /// The rows that are lost, array by array, by their numbers in the damaged file. Where arrays have as many rows as
    /// the first, a row that is lost in one of them is left out of all of them.
    pub lost: Vec<Lost>,
    /// The rows that were left out, by their numbers in the damaged file: of the first array and those with as many
    /// rows.
    pub dropped: Vec<Range<u64>>,
}

/// Damaged rows of one array.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The array.
    pub array: String,
    /// Its rows.
    pub rows: Vec<Range<u64>>,
}

impl Reader {
    /// Writes a file at `path` with all rows whose bytes are whole, in the layout of this one (v1-mmap becomes v1).
    ///
    /// Encoded rows are copied as they are, or decoded and encoded again by a codec that loses nothing. Sections keep
    /// the rows they have left; those that have none are gone.
    ///
    /// # Errors
    /// The source fails, an array is of a kind this version does not know, or the file cannot be written.
    pub fn repair(&self, path: impl AsRef<Path>, overwrite: Overwrite) -> Result<RepairReport, Error> {
        let arrays: Vec<Array<'_>> = self.arrays().collect();
        let mut lost = Vec::new();
        let mut dropped = Vec::new();
        let rows = arrays.first().map_or(0, Array::rows);
        for array in &arrays {
            array.check_known()?;
            let of_array = array.lost_rows(&[0..array.rows()])?;
            if array.rows() == rows {
                dropped.extend(of_array.clone());
            }
            if !of_array.is_empty() {
                lost.push(Lost { array: array.index().name.clone(), rows: of_array });
            }
        }
        let dropped = union(dropped);
        let written = match self.layout() {
            Layout::Native => self.repair_native(path.as_ref(), overwrite, &arrays, rows, &dropped, &lost)?,
            layout => self.repair_cvcf(path.as_ref(), overwrite, layout, &arrays, &dropped)?,
        };
        Ok(RepairReport { written, lost, dropped })
    }

    fn repair_native(
        &self,
        path: &Path,
        overwrite: Overwrite,
        arrays: &[Array<'_>],
        rows: u64,
        dropped: &[Range<u64>],
        lost: &[Lost],
    ) -> Result<Written, Error> {
        let mut options = WriteOptions::new(Layout::Native)
            .overwrite(overwrite)
            .sections_from_chunks(self.index().sections_from_chunks)
            .metadata(self.index().metadata.clone())?;
        for array in arrays {
            options = options.with_array(ArrayOptions::like(*array))?;
        }
        let mut writer = Writer::create(path, options)?;
        for (position, array) in arrays.iter().enumerate() {
            let own = lost.iter().find(|lost| lost.array == array.index().name);
            let own = own.map_or(&[][..], |lost| &lost.rows);
            copy_array(&mut writer, position, *array, if array.rows() == rows { dropped } else { own })?;
        }
        self.sections_left(dropped, |rows, metadata| writer.put_section(rows, metadata))?;
        writer.finish()
    }

    fn repair_cvcf(
        &self,
        path: &Path,
        overwrite: Overwrite,
        layout: Layout,
        arrays: &[Array<'_>],
        dropped: &[Range<u64>],
    ) -> Result<Written, Error> {
        let layout = if layout == Layout::V1Mmap { Layout::V1 } else { layout };
        let chunk_count = arrays.first().map_or(0, |array| array.index().chunks.len());
        // A chunk is whole or lost.
        let whole = |chunk: &ChunkId| {
            let rows = &arrays[0].entry(*chunk).rows;
            rows.is_empty() || !within(rows, dropped).is_empty()
        };
        let chunks: Vec<ChunkId> = (0..chunk_count)
            .map(|chunk| ChunkId(u32::try_from(chunk).expect("fewer than 2^32")))
            .filter(whole)
            .collect();
        let metadata = &self.index().chunk_metadata;
        let metadata = if metadata.is_empty() {
            Vec::new()
        } else {
            chunks
                .iter()
                .map(|chunk| metadata[chunk.index()].clone().unwrap_or(cvc_format::Json::Null))
                .collect()
        };
        let mut options = WriteOptions::new(layout).overwrite(overwrite).chunk_metadata(metadata);
        for array in arrays {
            let index = array.index();
            // The name that the header has for it.
            let codec = cvc_format::cvcf::stored_name(layout, &index.codec).unwrap_or(&index.codec);
            let dtype = array.values_dtype()?;
            options = options.with_array(ArrayOptions::values(&index.name, dtype, &index.inner, codec))?;
        }
        let mut writer = Writer::create(path, options)?;
        for chunk in chunks {
            let rows = arrays[0].entry(chunk).row_count();
            let parts = arrays.iter().map(|array| {
                let to = copy::codec(*array, &array.index().codec)?;
                Ok(copy_rows(*array, chunk, std::slice::from_ref(&(0..rows)), to)?.chunk)
            });
            let parts = parts.collect::<Result<Vec<EncodedChunk>, Error>>()?;
            writer.write_encoded(rows, EncodedParts::Cvcf(&parts))?;
        }
        self.sections_left(dropped, |rows, metadata| writer.put_section(rows, metadata))?;
        writer.finish()
    }

    /// The sections, by the numbers that their rows have once `dropped` are gone.
    fn sections_left(
        &self,
        dropped: &[Range<u64>],
        mut put: impl FnMut(Range<u64>, cvc_format::Json) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let moved = |row: u64| {
            let before: u64 = dropped
                .iter()
                .take_while(|dropped| dropped.start < row)
                .map(|dropped| dropped.end.min(row) - dropped.start)
                .sum();
            row - before
        };
        for section in self.sections() {
            let rows = moved(section.rows.start)..moved(section.rows.end);
            if !rows.is_empty() || section.rows.is_empty() {
                put(rows, section.metadata.clone())?;
            }
        }
        Ok(())
    }
}

/// Puts all rows of a native array but those `dropped` into the array `position` of another file, encoded as they are.
pub(crate) fn copy_array(
    writer: &mut Writer,
    position: usize,
    array: Array<'_>,
    dropped: &[Range<u64>],
) -> Result<(), Error> {
    let to = copy::codec(array, &array.index().codec)?;
    for chunk in array.chunks() {
        let Stored::Blocked(blocked) = array.entry(chunk.id).stored else { unreachable!("native") };
        let kept = within(&chunk.rows, dropped);
        let count = kept.iter().map(|rows| rows.end - rows.start).sum();
        if count > 0 {
            let copied = copy_rows(array, chunk.id, &kept, to)?;
            // What was measured was measured of all rows.
            let whole = count == array.entry(chunk.id).row_count();
            let loss = if whole || blocked.loss == Loss::NONE { blocked.loss } else { Loss::UNKNOWN };
            let (chunk, block_rows) = (&copied.chunk, copied.block_rows);
            writer.write_encoded(count, EncodedParts::Native { array: position, chunk, block_rows, loss })?;
        }
    }
    if array.index().chunks.is_empty() {
        // Rows of no values: there is nothing to copy but their number.
        let gone: u64 = dropped.iter().map(|rows| rows.end - rows.start).sum();
        let count = u32::try_from(array.rows() - gone).expect("checked when the file was opened");
        let (chunk, loss) = (&EncodedChunk::default(), Loss::NONE);
        writer.write_encoded(count, EncodedParts::Native { array: position, chunk, block_rows: 1, loss })?;
    }
    Ok(())
}

/// The rows of a chunk that are not in `dropped`, counted from its start.
fn within(chunk: &Range<u64>, dropped: &[Range<u64>]) -> Vec<Range<u32>> {
    without(std::slice::from_ref(chunk), dropped).iter().map(|rows| local(rows, chunk.start)).collect()
}

fn local(rows: &Range<u64>, start: u64) -> Range<u32> {
    let within = |row: u64| u32::try_from(row - start).expect("a chunk has fewer than 2^32 rows");
    within(rows.start)..within(rows.end)
}
