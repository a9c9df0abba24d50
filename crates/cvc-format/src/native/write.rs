//! What stands before and after the chunks.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::metadata::{self, LEVELS_AROUND, check_name, check_rows, codec_options_problem, row_dim};
use super::{
    ALIGN, END_SIGNATURE, ENTRY_LEN, MAX_INNER_RANK, PRELUDE_LEN, SIGNATURE, TRAILER_LEN, VERSION, escape,
};
use crate::checksum::crc32c;
use crate::cvcf::MAGIC;
use crate::dtype::ArrayDType;
use crate::error::FormatError;
use crate::index::{BlockedChunk, ChunkEntry, Layout, Loss, Section, Stored};
use crate::json::Json;
use crate::limits::Limits;

/// An array to be written.
#[derive(Clone, Debug)]
pub struct ArraySpec {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub dtype: ArrayDType,
    /// The shape of a row; empty for scalars and strings.
    pub inner: Vec<u32>,
    /// The name of its codec.
    pub codec: String,
    /// What is said of the codec beside its name: an object.
    pub codec_options: Json,
    /// Where the values come from: an object.
    pub provenance: Option<Json>,
}

/// A chunk that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkSpec {
    /// The position of its array.
    pub array: u16,
    /// Rows in it.
    pub rows: u32,
    /// Rows in every block but the last.
    pub block_rows: u32,
    /// Bytes of its head.
    pub head_len: u32,
    /// CRC-32C of its head.
    pub head_crc: u32,
    /// Bytes of the chunk.
    pub len: u64,
    /// What encoding lost.
    pub loss: Loss,
}

impl ChunkSpec {
    /// The entry that a reader would have for this chunk if it were all of a file's bytes and the first of its array.
    pub fn entry(&self, codec: &str) -> ChunkEntry {
        let ChunkSpec { rows, block_rows, head_len, head_crc, len, loss, .. } = *self;
        ChunkEntry {
            rows: 0..u64::from(rows),
            bytes: 0..len,
            codec: codec.into(),
            stored: Stored::Blocked(BlockedChunk { head_len, head_crc, block_rows, loss }),
        }
    }
}

/// All that stands in a file beside its chunks.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// The arrays, in order.
    pub arrays: &'a [ArraySpec],
    /// Rows of each array.
    pub rows: &'a [u64],
    /// The chunks, in file order, the first of them at byte 64.
    pub chunks: &'a [ChunkSpec],
    /// The sections, in row order; of the rows of the first array.
    pub sections: &'a [Section],
    /// Whether the sections are the metadata of the chunks of a CVCF file.
    pub sections_from_chunks: bool,
    /// What the user says of the whole file: an object.
    pub metadata: &'a Json,
}

impl Contents<'_> {
    /// The bytes with which a file begins.
    pub fn prelude() -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&SIGNATURE);
        bytes[8..10].copy_from_slice(&VERSION.0.to_le_bytes());
        bytes[10..12].copy_from_slice(&VERSION.1.to_le_bytes());
        let crc = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether a file can hold arrays like these, before anything is encoded.
    ///
    /// # Errors
    /// What it cannot hold, and what to do.
    pub fn check_arrays(arrays: &[ArraySpec]) -> Result<(), FormatError> {
        let most = Limits::default().arrays;
        if arrays.len() > most {
            return cannot(format!("{} arrays; {most} are possible, so use several files", arrays.len()));
        }
        for (index, array) in arrays.iter().enumerate() {
            let ArraySpec { name, dtype, inner, codec, codec_options, provenance } = array;
            if let Err(expected) = check_name(name) {
                return cannot(format!("an array named {name:?}, expected {expected}"));
            }
            // At most 2^20 comparisons of short strings.
            if arrays[..index].iter().any(|other| other.name == *name) {
                return cannot(format!("two arrays named {name:?}; rename one of them"));
            }
            if *dtype == ArrayDType::Unknown {
                return cannot(format!("array {name:?}, whose dtype is unknown; use a newer version of cvc"));
            }
            if inner.len() > MAX_INNER_RANK {
                let most = 1 + MAX_INNER_RANK;
                let rank = 1 + inner.len();
                return cannot(format!(
                    "array {name:?} of {rank} dimensions; {most} are possible, so reshape it"
                ));
            }
            if let Err(problem) = row_dim(*dtype, inner) {
                return cannot(format!("array {name:?}, whose shape {problem}; reshape it"));
            }
            if let Err(expected) = check_name(codec) {
                return cannot(format!("array {name:?} with the codec {codec:?}, expected {expected}"));
            }
            if let Some(problem) = codec_options_problem(codec_options) {
                return cannot(format!("array {name:?} with codec options {problem}"));
            }
            for (_, value) in codec_options.as_object().unwrap_or_default() {
                check_depth(value, LEVELS_AROUND + 1)?;
            }
            if let Some(provenance) = provenance {
                if provenance.as_object().is_none() {
                    return cannot(format!("array {name:?} with a provenance that is not an object"));
                }
                Contents::check_metadata(provenance)?;
            }
        }
        Ok(())
    }

    /// Whether metadata can stand in a file that every reader opens with its default limits.
    ///
    /// # Errors
    /// It is nested too deeply.
    pub fn check_metadata(metadata: &Json) -> Result<(), FormatError> {
        check_depth(metadata, LEVELS_AROUND)
    }

    /// Index, metadata and trailer: all that follows the last chunk.
    ///
    /// # Errors
    /// More than a reader opens with its default limits, or rows that the chunks do not have.
    ///
    /// # Panics
    /// There are not as many numbers of rows as arrays.
    pub fn suffix(&self) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        let metadata = metadata::text(self);
        // What readers accept by default, which is less than the 32 bits of the length.
        let limit = Limits::default().header_len;
        let Some(metadata_len) = u32::try_from(metadata.len()).ok().filter(|len| u64::from(*len) <= limit)
        else {
            let len = metadata.len();
            return cannot(format!("metadata of {len} bytes; {limit} are possible, so put it into arrays"));
        };
        let chunk_count = u32::try_from(self.chunks.len()).expect("fewer than the limit");
        let index_len = u64::from(chunk_count) * ENTRY_LEN;
        let suffix_len = index_len + u64::from(metadata_len) + TRAILER_LEN;
        let mut out = Vec::with_capacity(usize::try_from(suffix_len).unwrap_or(0));
        let mut offset = PRELUDE_LEN;
        for chunk in self.chunks {
            debug_assert!(chunk.len > 0 && chunk.len.is_multiple_of(ALIGN), "made by encode_chunk");
            out.extend(offset.to_le_bytes());
            out.extend(chunk.len.to_le_bytes());
            for word in [chunk.rows, chunk.block_rows, chunk.head_len, chunk.head_crc] {
                out.extend(word.to_le_bytes());
            }
            for loss in [chunk.loss.max_abs_error, chunk.loss.mse, chunk.loss.min_cosine] {
                // There are many NaNs, and the same contents have the same bytes.
                out.extend(if loss.is_nan() { f32::NAN } else { loss }.to_le_bytes());
            }
            out.extend(chunk.array.to_le_bytes());
            out.extend([0; 2]);
            offset += chunk.len;
        }
        let index_crc = crc32c(&out);
        out.extend(metadata.as_bytes());

        let start = out.len();
        out.extend((offset + suffix_len).to_le_bytes());
        for word in [chunk_count, index_crc, metadata_len, crc32c(metadata.as_bytes())] {
            out.extend(word.to_le_bytes());
        }
        out.extend(VERSION.0.to_le_bytes());
        out.extend(VERSION.1.to_le_bytes());
        let trailer_crc = crc32c(&out[start..]);
        out.extend(trailer_crc.to_le_bytes());
        out.extend(END_SIGNATURE);
        Ok(out)
    }

    /// That a reader will open what is written.
    fn check(&self) -> Result<(), FormatError> {
        assert_eq!(self.arrays.len(), self.rows.len(), "a number of rows for each array");
        Contents::check_arrays(self.arrays)?;
        let limits = Limits::default();
        let count = self.chunks.len();
        if count > limits.chunks {
            return cannot(format!(
                "{count} chunks; {} are possible, so put more rows in a chunk",
                limits.chunks
            ));
        }
        let mut held = alloc::vec![0u64; self.arrays.len()];
        for (number, chunk) in self.chunks.iter().enumerate() {
            let Some(held) = held.get_mut(usize::from(chunk.array)) else {
                return cannot(format!("chunk {number} of array {}, of {}", chunk.array, self.arrays.len()));
            };
            if chunk.rows == 0 || chunk.block_rows == 0 {
                return cannot(format!("chunk {number} without rows; leave it out"));
            }
            // No overflow: fewer than 2^24 chunks of less than 2^32 rows.
            *held += u64::from(chunk.rows);
        }
        for ((array, rows), held) in self.arrays.iter().zip(self.rows).zip(held) {
            let name = &array.name;
            let dim = row_dim(array.dtype, &array.inner).unwrap_or_default();
            if let Err(expected) = check_rows(dim, *rows) {
                return cannot(format!("array {name:?} of {rows} rows, expected {expected}"));
            }
            let expected = if dim == 0 { 0 } else { *rows };
            if held != expected {
                return cannot(format!(
                    "array {name:?} of {rows} rows in chunks of {held}, expected {expected}"
                ));
            }
        }
        self.check_sections()?;
        if self.metadata.as_object().is_none() {
            return cannot(format!("metadata of type {}, expected an object", self.metadata.kind()));
        }
        Contents::check_metadata(self.metadata)
    }

    /// Sections are sorted, do not overlap, and lie within the rows.
    fn check_sections(&self) -> Result<(), FormatError> {
        let (count, most) = (self.sections.len(), Limits::default().sections);
        if count > most {
            return cannot(format!("{count} sections; {most} are possible, so put them into arrays"));
        }
        let (mut previous_end, total) = (0, self.rows.first().copied().unwrap_or(0));
        for Section { rows, metadata } in self.sections {
            if rows.start < previous_end || rows.end < rows.start || rows.end > total {
                return cannot(format!(
                    "section {}..{}: sections must be sorted, must not overlap and end within the {total} rows of the \
                     first array",
                    rows.start, rows.end
                ));
            }
            previous_end = rows.end;
            Contents::check_metadata(metadata)?;
        }
        Ok(())
    }
}

/// That a value can stand inside so many arrays and objects.
fn check_depth(value: &Json, levels_around: usize) -> Result<(), FormatError> {
    let most = Limits::default().json_depth - levels_around;
    // An escape is an object, so a bare NaN on the last level is one level too many.
    let depth = value.depth().max(escape::escape(value).depth());
    if depth <= most {
        return Ok(());
    }
    cannot(format!("metadata nested {depth} deep; {most} are possible, so say it flatter"))
}

pub(super) fn cannot<T>(problem: String) -> Result<T, FormatError> {
    Err(FormatError::CannotWrite { layout: Layout::Native.name(), problem })
}
