//! From one layout to another, chunk by chunk, without changing what rows decode to.

use std::path::Path;

use cvc_codec::{ChunkId, EncodedChunk, Params};
use cvc_format::{ArrayDType, DType, Json, Layout, Loss};

use crate::checks::Checksums;
use crate::copy::{self, Copied, copy_rows, stores_alike};
use crate::error::Error;
use crate::io::atomic_file::Overwrite;
use crate::reader::{Array, Reader};
use crate::writer::{ArrayOptions, EncodedParts, WriteOptions, Writer, Written};

/// Where the chunk metadata of a CVCF file with sections goes in the metadata of a native one.
const CHUNK_METADATA: &str = "cvcf.chunk_metadata";

impl Reader {
    /// Writes this file at `path` in `layout`: a CVCF file as a native one, or back where the layout can hold what the file
    /// has. Every row decodes to the same bits as before.
    ///
    /// Chunks stay as they are. Encoded rows are copied where both layouts store them alike; what `decompressed` calls
    /// lossless is decoded and encoded again. What the metadata of chunks said becomes sections, and goes back; beside sections it is
    /// kept in the metadata of the file, under `cvcf.chunk_metadata`, and cannot go back: no writer of CVCF files writes both.
    ///
    /// # Errors
    /// The source fails or is damaged, the layout cannot hold what the file has (the message says what), or the file
    /// cannot be written.
    pub fn convert(
        &self,
        path: impl AsRef<Path>,
        layout: Layout,
        overwrite: Overwrite,
    ) -> Result<Written, Error> {
        if self.options().checksums == Checksums::Never {
            let problem =
                "a new file would have good checksums over damaged rows; open this one with its checksums";
            return Err(Error::argument("checksums", "never", problem));
        }
        match (self.layout(), layout) {
            (Layout::Native, Layout::Native) => {
                Err(Error::argument("layout", layout, "the file is in this layout already"))
            }
            (Layout::Native, _) => self.downgrade(path.as_ref(), layout, overwrite),
            (_, Layout::Native) => self.upgrade(path.as_ref(), overwrite),
            (from, _) => {
                let problem = format!("a file in layout {from} can only become a native one");
                Err(Error::argument("layout", layout, problem))
            }
        }
    }

    fn upgrade(&self, path: &Path, overwrite: Overwrite) -> Result<Written, Error> {
        let index = self.index();
        let of_chunks = index.sections.is_empty() && !index.chunk_metadata.is_empty();
        // Which can be undone where native chunks will be the same, and each has some.
        let one_each = of_chunks
            && index.chunk_metadata.iter().all(Option::is_some)
            && index.arrays[0].dim > 0
            && index.arrays[0].chunks.iter().all(|chunk| !chunk.rows.is_empty());
        let mut metadata = Vec::new();
        if !of_chunks && !index.chunk_metadata.is_empty() {
            let items = index.chunk_metadata.iter().map(|item| item.clone().unwrap_or(Json::Null));
            metadata.push((CHUNK_METADATA, Json::Array(items.collect())));
        }
        let mut options = WriteOptions::new(Layout::Native)
            .overwrite(overwrite)
            .sections_from_chunks(one_each)
            .metadata(Json::object(metadata))?;
        let codecs: Vec<&str> = self.arrays().map(native_codec).collect();
        for (array, codec) in self.arrays().zip(&codecs) {
            let of_values = array.values_dtype()?;
            // Whatever went in, these are the values there are: native codecs that make floats hold nothing else.
            let dtype = match *codec {
                "raw" => of_values,
                "lossless" => DType::F32,
                _ if of_values.is_float() => of_values,
                _ => DType::F32,
            };
            options = options.with_array(
                ArrayOptions::values(&array.index().name, dtype, &array.index().inner, *codec).scope(
                    // What every CVCF file has.
                    cvc_codec::Scope::Chunk,
                ),
            )?;
        }
        let mut writer = Writer::create(path, options)?;
        // A frame holds a chunk of every array.
        for chunk in (0..).map(ChunkId).take(index.frames.len()) {
            for (position, (array, codec)) in self.arrays().zip(&codecs).enumerate() {
                let rows = array.entry(chunk).row_count();
                if rows == 0 {
                    continue;
                }
                let to = copy::codec(array, codec)?;
                let Copied { chunk, block_rows } = if array.dim() == 0 {
                    Copied { chunk: EncodedChunk::default(), block_rows: 1 }
                } else {
                    copy_rows(array, chunk, std::slice::from_ref(&(0..rows)), to)?
                };
                // The values that the chunk was made of are gone, so nobody can say what was lost.
                let loss = if is_lossless(array) { Loss::NONE } else { Loss::UNKNOWN };
                let parts = EncodedParts::Native { array: position, chunk: &chunk, block_rows, loss };
                writer.write_encoded(rows, parts)?;
            }
        }
        let of_chunk = self.chunk_sections();
        for section in if of_chunks { &of_chunk } else { self.sections() } {
            writer.put_section(section.rows.clone(), section.metadata.clone())?;
        }
        writer.finish()
    }

    fn downgrade(&self, path: &Path, layout: Layout, overwrite: Overwrite) -> Result<Written, Error> {
        let index = self.index();
        let cannot = |what: String| Err(Error::argument("layout", layout, format!("it cannot hold {what}")));
        match index.metadata.as_object() {
            Some([]) | None => {}
            Some(_) => return cannot("metadata of the file".into()),
        }
        let arrays: Vec<Array<'_>> = self.arrays().collect();
        let Some(first) = arrays.first() else { return cannot("a file without arrays".into()) };
        let mut options = WriteOptions::new(layout).overwrite(overwrite);
        let mut codecs = Vec::new();
        for array in &arrays {
            let name = &array.index().name;
            if array.index().provenance.is_some() {
                return cannot(format!("the provenance of array {name:?}"));
            }
            let borders = |array: &Array<'_>| array.chunks().map(|chunk| chunk.rows).collect::<Vec<_>>();
            if borders(array) != borders(first) {
                return cannot(format!(
                    "array {name:?}, whose chunks end elsewhere than those of {:?}",
                    first.index().name
                ));
            }
            let stored = cvcf_codec(array, layout)?;
            let dtype = array.values_dtype()?;
            options = options.with_array(ArrayOptions::values(name, dtype, &array.index().inner, stored))?;
            codecs.push(cvc_format::cvcf::codec_of(layout, stored).expect("it was added"));
        }
        // Columnar files have no metadata of chunks, and take sections as they are.
        let of_chunks = index.sections_from_chunks && layout != Layout::V2 && fits_chunks(self, *first);
        if of_chunks {
            options = options
                .chunk_metadata(index.sections.iter().map(|section| section.metadata.clone()).collect());
        }
        let mut writer = Writer::create(path, options)?;
        if first.index().chunks.is_empty() && first.rows() > 0 {
            // Rows of no values, which have no chunks in native files.
            let rows = u32::try_from(first.rows()).expect("checked when the file was opened");
            let parts =
                arrays.iter().zip(&codecs).map(|(array, codec)| copy::encode_nothing(*array, rows, codec));
            writer.write_encoded(rows, EncodedParts::Cvcf(&parts.collect::<Result<Vec<_>, Error>>()?))?;
        }
        for chunk in first.chunks() {
            let rows = first.entry(chunk.id).row_count();
            let parts = arrays.iter().zip(&codecs).map(|(array, codec)| {
                let to = copy::codec(*array, codec)?;
                Ok(copy_rows(*array, chunk.id, std::slice::from_ref(&(0..rows)), to)?.chunk)
            });
            let parts = parts.collect::<Result<Vec<EncodedChunk>, Error>>()?;
            writer.write_encoded(rows, EncodedParts::Cvcf(&parts))?;
        }
        if !of_chunks {
            for section in self.sections() {
                writer.put_section(section.rows.clone(), section.metadata.clone())?;
            }
        }
        writer.finish()
    }
}

/// Whether there is exactly one section for each chunk.
fn fits_chunks(reader: &Reader, array: Array<'_>) -> bool {
    let chunks = array.chunks().map(|chunk| chunk.rows);
    chunks.eq(reader.sections().iter().map(|section| section.rows.clone()))
}

/// The native codec for an array of a CVCF file: one that stores its chunks alike, if they all have one codec.
fn native_codec(array: Array<'_>) -> &'static str {
    let index = array.index();
    let native = ["raw", "fp16", "int8"].into_iter().find(|name| {
        stores_alike(&index.codec, name) && index.chunks.iter().all(|chunk| stores_alike(&chunk.codec, name))
    });
    native.unwrap_or("lossless")
}

/// What a header of `layout` calls the codec that keeps the rows of a native array as they are.
fn cvcf_codec(array: &Array<'_>, layout: Layout) -> Result<&'static str, Error> {
    let index = array.index();
    let name = match &*index.codec {
        "fp16" => "fp16",
        "int8" if has_one_scale(*array)? => "int8",
        "int8" => {
            let problem = format!(
                "array {:?} is int8 with a scale for each row or dim, CVCF files have one for a chunk; pack the vectors again",
                index.name
            );
            return Err(Error::argument("layout", layout, problem));
        }
        "lossless" if index.dtype == ArrayDType::Values(DType::F32) => "lossless",
        "raw" => "none",
        other => {
            let problem = format!(
                "it has nothing for array {:?}, which is {other}; pack the vectors again",
                index.name
            );
            return Err(Error::argument("layout", layout, problem));
        }
    };
    Ok(name)
}

/// Whether the codes of each chunk of a native int8 array share one minimum and one scale.
fn has_one_scale(array: Array<'_>) -> Result<bool, Error> {
    array.load_insides(array.chunks().map(|chunk| chunk.id))?;
    for chunk in array.chunks() {
        let (params, _) = array.stored(chunk.id)?;
        if !matches!(params, Params::Bytes(bytes) if bytes.len() == 8) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether what a CVCF array holds is what went into it.
fn is_lossless(array: Array<'_>) -> bool {
    array.index().chunks.iter().all(|chunk| matches!(&*chunk.codec, "raw" | "cvcf.lossless"))
}
