//! Writing: rows come in, a whole file comes out under its name, or nothing does.
//!
//! In the CVCF layouts the header stands first and holds facts about every chunk, so encoded chunks are put
//! aside in a temporary sibling until all are known; then the header and they are written to the file that
//! takes the final name. Memory holds at most one chunk of rows for each worker, and their encoded bytes.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use cvc_codec::{Codec, CodecError, EncodedChunk, RowSlice, find};
use cvc_format::cvcf::{ArraySpec, ChunkSpec, Contents, VECTORS, codec_of, stored_names};
use cvc_format::{DType, Json, Layout, Section};

use crate::aligned::AlignedBytes;
use crate::error::Error;
use crate::io::atomic_file::{AtomicFile, Overwrite};
use crate::par;

/// Bytes of decoded f32 that a chunk holds unless another number of rows is asked for.
const DEFAULT_CHUNK_LEN: u64 = 16 << 20;

/// Bytes of rows that are worth spreading over cores, where chunks are smaller.
const SMALL_BATCH_LEN: usize = 4 << 20;

/// What to write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    layout: Layout,
    arrays: Vec<ArraySpec>,
    chunk_rows: Option<u32>,
    chunk_metadata: Vec<Json>,
    overwrite: Overwrite,
}

impl WriteOptions {
    /// A file in `layout`, without arrays yet.
    pub fn new(layout: Layout) -> Self {
        WriteOptions {
            layout,
            arrays: Vec::new(),
            chunk_rows: None,
            chunk_metadata: Vec::new(),
            overwrite: Overwrite::Allow,
        }
    }

    /// Adds the array `vectors`: rows of `dim` values.
    ///
    /// # Errors
    /// As [`WriteOptions::array`].
    pub fn vectors(self, dtype: DType, dim: u32, codec: &str) -> Result<Self, Error> {
        self.array(VECTORS, dtype, dim, codec)
    }

    /// Adds an array. `codec` is one of the names of the layout (`fp16`, `int8`, `lossless`, `none`).
    ///
    /// # Errors
    /// The layout has no such codec.
    pub fn array(mut self, name: &str, dtype: DType, dim: u32, codec: &str) -> Result<Self, Error> {
        let Some(codec) = codec_of(self.layout, codec) else {
            let known: Vec<&str> = stored_names(self.layout).collect();
            let problem = format!("layout {} has the codecs {}", self.layout, known.join(", "));
            return Err(Error::argument("codec", codec, problem));
        };
        self.arrays.push(ArraySpec { name: name.into(), dtype, dim, codec });
        Ok(self)
    }

    /// Puts this many rows in every chunk but the last. By default as many as decode to 16 MiB.
    ///
    /// # Errors
    /// `rows` is 0.
    pub fn chunk_rows(mut self, rows: u32) -> Result<Self, Error> {
        if rows == 0 {
            return Err(Error::argument("chunk rows", rows, "a chunk holds at least 1 row"));
        }
        self.chunk_rows = Some(rows);
        Ok(self)
    }

    /// Metadata for the chunks: one value for each, in order.
    #[must_use]
    pub fn chunk_metadata(mut self, metadata: Vec<Json>) -> Self {
        self.chunk_metadata = metadata;
        self
    }

    /// Whether a file of that name may be replaced; by default it may.
    #[must_use]
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }
}

/// A file being written: to a path ([`Writer::create`]) or to memory ([`Writer::in_memory`]).
///
/// Nothing of the final name is touched before [`Writer::finish`]; dropped, a writer leaves nothing behind.
pub struct Writer<T = ToFile> {
    options: WriteOptions,
    codecs: Vec<&'static dyn Codec>,
    chunk_rows: usize,
    target: T,
    /// Rows that have come in and are not encoded yet, one buffer for each array; never more than one batch.
    pending: Vec<AlignedBytes>,
    pending_rows: usize,
    chunks: Vec<ChunkSpec>,
    /// Rows in `chunks`.
    encoded_rows: u64,
    sections: Vec<Section>,
    /// Whether rows that came in were lost.
    failed: bool,
}

/// Where a [`Writer`] puts a file under a path.
pub struct ToFile {
    file: AtomicFile,
    /// Payload frames in file order, to be copied behind the header.
    spool: BufWriter<File>,
}

/// Where a [`Writer`] puts a file in memory.
pub struct ToMemory {
    spool: Vec<u8>,
}

/// Somewhere to put frames aside.
trait Spool {
    fn spool(&mut self) -> &mut dyn Write;
}

impl Spool for ToFile {
    fn spool(&mut self) -> &mut dyn Write {
        &mut self.spool
    }
}

impl Spool for ToMemory {
    fn spool(&mut self) -> &mut dyn Write {
        &mut self.spool
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Writer { options, chunks, pending_rows, .. } = self;
        f.debug_struct("Writer")
            .field("options", options)
            .field("chunks", &chunks.len())
            .field("pending_rows", pending_rows)
            .finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Rows in each array.
    pub rows: u64,
    /// Chunks.
    pub chunks: usize,
    /// Bytes of the file.
    pub file_len: u64,
}

impl Writer {
    /// Begins a file that will be named `path`.
    ///
    /// # Errors
    /// The layout cannot hold such arrays, or the directory cannot be written.
    pub fn create(path: impl AsRef<Path>, options: WriteOptions) -> Result<Writer, Error> {
        Contents::check_arrays(options.layout, &options.arrays)?;
        let file = AtomicFile::create(path.as_ref(), options.overwrite).map_err(Error::Output)?;
        let spool = tempfile::tempfile_in(file.parent()).map_err(Error::Spool)?;
        Writer::new(options, ToFile { file, spool: BufWriter::with_capacity(1 << 20, spool) })
    }

    /// Writes the header and the chunks, syncs them and gives the file its name.
    ///
    /// # Errors
    /// Sections or chunk metadata that do not fit the rows, or a disk that is full. The final name is untouched.
    pub fn finish(mut self) -> Result<Written, Error> {
        let prefix = self.prefix()?;
        let written = self.written();
        let ToFile { mut file, mut spool } = self.target;
        // Seeking writes the buffer out first.
        let spooled = spool.stream_position().and_then(|len| spool.seek(SeekFrom::Start(0)).map(|_| len));
        let file_len = prefix.len() as u64 + spooled.map_err(Error::Spool)?;
        let copied = file.write_all(&prefix).and_then(|()| file.append(spool.get_mut()));
        copied.and_then(|_| file.commit()).map_err(Error::Output)?;
        Ok(Written { file_len, ..written })
    }
}

impl Writer<ToMemory> {
    /// Begins a file in memory.
    ///
    /// # Errors
    /// The layout cannot hold such arrays.
    pub fn in_memory(options: WriteOptions) -> Result<Self, Error> {
        Contents::check_arrays(options.layout, &options.arrays)?;
        Writer::new(options, ToMemory { spool: Vec::new() })
    }

    /// The whole file.
    ///
    /// # Errors
    /// Sections or chunk metadata that do not fit the rows.
    pub fn finish_bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = self.prefix()?;
        bytes.append(&mut self.target.spool);
        Ok(bytes)
    }
}

#[expect(private_bounds, reason = "there are two targets, and nobody else can make one")]
impl<T: Spool> Writer<T> {
    fn new(options: WriteOptions, target: T) -> Result<Self, Error> {
        for metadata in &options.chunk_metadata {
            Contents::check_metadata(options.layout, metadata)?;
        }
        let row_len: u64 = options.arrays.iter().map(|array| u64::from(array.dim) * 4).sum();
        let default_rows = (DEFAULT_CHUNK_LEN / row_len.max(1)).max(1);
        let chunk_rows = options.chunk_rows.map_or(default_rows, u64::from);
        let codecs = options.arrays.iter().map(|array| find(array.codec).map_err(encode_error(&array.name)));
        Ok(Writer {
            codecs: codecs.collect::<Result<_, _>>()?,
            chunk_rows: usize::try_from(chunk_rows).unwrap_or(usize::MAX),
            target,
            pending: vec![AlignedBytes::new(); options.arrays.len()],
            pending_rows: 0,
            chunks: Vec::new(),
            encoded_rows: 0,
            sections: Vec::new(),
            failed: false,
            options,
        })
    }

    /// Says that `rows` more rows will come, so that a file that could not hold them is refused before any work.
    ///
    /// # Errors
    /// They would make more chunks than a header can list.
    pub fn reserve(&self, rows: u64) -> Result<(), Error> {
        let chunks = self.rows().saturating_add(rows).div_ceil(self.chunk_rows as u64);
        Ok(Contents::check_chunk_count(self.options.layout, chunks)?)
    }

    /// Rows in every chunk but the last.
    pub fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }

    /// How many rows to hand over at a time so that every core has a chunk to encode, or many if chunks are small.
    pub fn batch_rows(&self) -> usize {
        let row_lens =
            self.options.arrays.iter().map(|array| (array.dim as usize).saturating_mul(array.dtype.size()));
        let row_len = row_lens.fold(0, usize::saturating_add);
        let chunk_len = self.chunk_rows.saturating_mul(row_len).max(1);
        self.chunk_rows.saturating_mul(par::workers().max(SMALL_BATCH_LEN / chunk_len))
    }

    /// How many rows have come in so far.
    pub fn rows(&self) -> u64 {
        self.encoded_rows + self.pending_rows as u64
    }

    /// Appends rows: one item for each array, in the order of the options, all with as many rows.
    ///
    /// How rows are split over calls makes no difference to the file.
    ///
    /// # Errors
    /// Rows unlike the arrays, which are as if they had never been given; rows that the codec cannot take, or a
    /// disk that is full, after which the file can no longer be finished.
    pub fn write(&mut self, rows: &[RowSlice<'_>]) -> Result<(), Error> {
        if self.failed {
            return Err(self.rows_lost());
        }
        self.check_rows(rows)?;
        self.reserve(rows.first().map_or(0, RowSlice::len) as u64)?;
        let appended = self.append(rows);
        self.failed |= appended.is_err();
        appended
    }

    fn append(&mut self, rows: &[RowSlice<'_>]) -> Result<(), Error> {
        let count = rows.first().map_or(0, RowSlice::len);
        let mut next = 0;
        while next < count {
            let left = count - next;
            if self.pending_rows == 0 && left >= self.chunk_rows {
                // Whole chunks are encoded from where they lie.
                let take = left.min(self.batch_rows()) / self.chunk_rows * self.chunk_rows;
                let batch: Vec<RowSlice<'_>> =
                    rows.iter().map(|rows| rows.slice(next..next + take)).collect();
                self.encode(&batch)?;
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
                    self.encode_pending()?;
                }
            }
        }
        Ok(())
    }

    /// Appends rows of the file's only array.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_vectors(&mut self, rows: RowSlice<'_>) -> Result<(), Error> {
        self.write(&[rows])
    }

    /// Says something of rows `rows`, which may come later.
    ///
    /// # Errors
    /// The section is empty, shares rows with another, or its metadata is nested too deeply for a header.
    pub fn add_section(&mut self, rows: Range<u64>, metadata: Json) -> Result<(), Error> {
        let named = format!("{}..{}", rows.start, rows.end);
        if rows.start >= rows.end {
            return Err(Error::argument("section", named, "a section has at least one row"));
        }
        Contents::check_metadata(self.options.layout, &metadata)?;
        let at = self.sections.partition_point(|section| section.rows.start < rows.start);
        let clash = |other: &Section| other.rows.start < rows.end && rows.start < other.rows.end;
        let neighbours = &self.sections[at.saturating_sub(1)..self.sections.len().min(at + 1)];
        if let Some(other) = neighbours.iter().find(|other| clash(other)) {
            let problem = format!("it shares rows with section {}..{}", other.rows.start, other.rows.end);
            return Err(Error::argument("section", named, problem));
        }
        self.sections.insert(at, Section::new(rows, metadata));
        Ok(())
    }

    /// Encodes what is left and makes everything that stands in front of the frames.
    fn prefix(&mut self) -> Result<Vec<u8>, Error> {
        if self.failed {
            return Err(self.rows_lost());
        }
        self.encode_pending()?;
        let rows = self.encoded_rows;
        if let Some(section) = self.sections.last().filter(|section| section.rows.end > rows) {
            let named = format!("{}..{}", section.rows.start, section.rows.end);
            return Err(Error::argument("section", named, format!("{rows} rows were written")));
        }
        let metadata = std::mem::take(&mut self.options.chunk_metadata);
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
            layout: self.options.layout,
            arrays: &self.options.arrays,
            chunks: &self.chunks,
            sections: if self.sections.is_empty() { None } else { Some(&self.sections) },
        };
        Ok(contents.prefix()?)
    }

    fn written(&self) -> Written {
        Written { rows: self.encoded_rows, chunks: self.chunks.len(), file_len: 0 }
    }

    fn rows_lost(&self) -> Error {
        Error::argument(
            "rows",
            self.rows(),
            "an earlier write failed, so rows are missing; begin the file again",
        )
    }

    fn check_rows(&self, rows: &[RowSlice<'_>]) -> Result<(), Error> {
        let arrays = &self.options.arrays;
        if rows.len() != arrays.len() {
            let problem = format!("the file has {} arrays; rows for each of them are needed", arrays.len());
            return Err(Error::argument("rows", format!("{} arrays", rows.len()), problem));
        }
        for (rows_of, array) in rows.iter().zip(arrays) {
            if rows_of.dim() != array.dim as usize || rows_of.dtype() != array.dtype {
                let value = format!("rows of {} {} values", rows_of.dim(), rows_of.dtype());
                let problem =
                    format!("array \"{}\" has rows of {} {} values", array.name, array.dim, array.dtype);
                return Err(Error::argument("rows", value, problem));
            }
            if rows_of.len() != rows[0].len() {
                let value = format!("{} rows for array \"{}\"", rows_of.len(), array.name);
                let problem = format!("array \"{}\" got {}", arrays[0].name, rows[0].len());
                return Err(Error::argument("rows", value, problem));
            }
        }
        Ok(())
    }

    fn encode_pending(&mut self) -> Result<(), Error> {
        if self.pending_rows == 0 {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let arrays = self.options.arrays.iter().zip(&pending);
        let batch = arrays.map(|(array, bytes)| {
            RowSlice::from_bytes(array.dtype, self.pending_rows, array.dim as usize, bytes.bytes())
        });
        let batch: Vec<RowSlice<'_>> = batch.collect::<Result<_, _>>()?;
        self.encode(&batch)?;
        self.pending = pending;
        for pending in &mut self.pending {
            pending.resize(0);
        }
        self.pending_rows = 0;
        Ok(())
    }

    /// Encodes rows as chunks, the last of which may be short, on all cores, and spools them in order.
    fn encode(&mut self, batch: &[RowSlice<'_>]) -> Result<(), Error> {
        let count = batch.first().map_or(0, RowSlice::len);
        let starts: Vec<usize> = (0..count).step_by(self.chunk_rows).collect();
        let encoded = par::try_map(
            &starts,
            || (),
            |(), start| {
                let rows = *start..count.min(start + self.chunk_rows);
                let arrays = batch.iter().zip(&self.codecs).zip(&self.options.arrays);
                let parts = arrays.map(|((array_rows, codec), array)| {
                    let mut part = EncodedChunk::default();
                    codec
                        .encode(array_rows.slice(rows.clone()), &mut part)
                        .map_err(encode_error(&array.name))?;
                    Ok(part)
                });
                let parts = parts.collect::<Result<Vec<EncodedChunk>, Error>>()?;
                let mut crc = crc32fast::Hasher::new();
                parts.iter().for_each(|part| crc.update(&part.payload));
                Ok::<_, Error>((rows.len(), parts, crc.finalize()))
            },
        )?;
        for (rows, parts, crc32) in encoded {
            let payload_len = parts.iter().map(|part| part.payload.len() as u64).sum();
            let frame = Contents::frame_header(self.options.layout, payload_len, crc32)?;
            self.target.spool().write_all(&frame).map_err(Error::Spool)?;
            for part in &parts {
                self.target.spool().write_all(&part.payload).map_err(Error::Spool)?;
            }
            let Ok(rows) = u32::try_from(rows) else {
                return Err(Error::argument("chunk rows", rows, "a chunk holds fewer than 2^32 rows"));
            };
            let parts = parts.iter().map(|part| (part.payload.len() as u64, part.params)).collect();
            self.chunks.push(ChunkSpec { rows, parts, metadata: None });
            self.encoded_rows += u64::from(rows);
        }
        Ok(())
    }
}

fn encode_error(array: &str) -> impl FnOnce(CodecError) -> Error {
    move |error| Error::Encode { array: array.to_owned(), error }
}
