//! Writing: rows come in, a whole file comes out under its name, or nothing does.
//!
//! A native file is written front to back: chunks as they fill, then the index. In the CVCF layouts the header stands
//! first and holds facts about every chunk, so encoded chunks are put aside in a temporary sibling until all are
//! known; then the header and they are written to the file that takes the final name. Memory holds at most one chunk
//! of rows for each worker and array, and their encoded bytes.

mod cvcf;
mod native;
mod options;

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use cvc_codec::strings::Strings;
use cvc_codec::{CodecError, EncodedChunk, RowSlice};
use cvc_format::cvcf::Contents;
use cvc_format::{Json, Layout, Loss, Section};

use crate::copy;
use crate::error::Error;
use crate::io::atomic_file::AtomicFile;
use crate::reader::Array;
use crate::select::Rows;

pub use options::{ArrayOptions, WriteOptions};

/// Bytes of decoded values that a chunk holds unless another number of rows is asked for.
const DEFAULT_CHUNK_LEN: u64 = 16 << 20;

/// Bytes of rows that are worth spreading over cores, where chunks are smaller.
const SMALL_BATCH_LEN: usize = 4 << 20;

/// Rows of one array.
#[derive(Clone, Debug)]
pub enum ArrayRows<'a> {
    /// Rows of values.
    Values(RowSlice<'a>),
    /// Some of these strings.
    Strings {
        /// The strings.
        strings: &'a Strings,
        /// Which of them.
        rows: Range<usize>,
    },
}

impl<'a> From<RowSlice<'a>> for ArrayRows<'a> {
    fn from(rows: RowSlice<'a>) -> Self {
        ArrayRows::Values(rows)
    }
}

impl<'a> From<&'a Strings> for ArrayRows<'a> {
    fn from(strings: &'a Strings) -> Self {
        ArrayRows::Strings { strings, rows: 0..strings.len() }
    }
}

impl<'a> ArrayRows<'a> {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            ArrayRows::Values(rows) => rows.len(),
            ArrayRows::Strings { rows, .. } => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows `range` of these.
    ///
    /// # Panics
    /// The range is not within `0..len()`.
    pub fn slice(&self, range: Range<usize>) -> ArrayRows<'a> {
        match self {
            ArrayRows::Values(rows) => ArrayRows::Values(rows.slice(range)),
            ArrayRows::Strings { strings, rows } => {
                assert!(
                    range.start <= range.end && range.end <= rows.len(),
                    "rows {range:?} of {}",
                    rows.len()
                );
                ArrayRows::Strings { strings, rows: rows.start + range.start..rows.start + range.end }
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            ArrayRows::Values(rows) => format!("rows of {} {} values", rows.dim(), rows.dtype()),
            ArrayRows::Strings { .. } => "strings".into(),
        }
    }
}

/// A file being written: to a path ([`Writer::create`]), to memory ([`Writer::in_memory`]) or to any sink
/// ([`Writer::to_sink`]).
///
/// Nothing of the final name is touched before [`Writer::finish`]; dropped, a writer leaves nothing behind.
pub struct Writer<T = ToFile> {
    options: WriteOptions,
    target: T,
    body: Body,
    sections: Vec<Section>,
    /// Whether rows that came in were lost.
    failed: bool,
}

enum Body {
    Cvcf(cvcf::Body),
    Native(native::Body),
}

/// Where a [`Writer`] puts a file under a path.
pub struct ToFile {
    file: AtomicFile,
    /// Payload frames of a CVCF file in file order, to be copied behind the header.
    spool: Option<BufWriter<File>>,
}

/// Where a [`Writer`] puts a file in memory.
pub struct ToMemory {
    bytes: Vec<u8>,
}

/// Where a [`Writer`] sends a native file piece by piece.
pub struct ToSink<W> {
    sink: W,
}

/// Somewhere to put chunks: those of a native file where they belong, those of a CVCF file aside.
trait Target {
    fn sink(&mut self) -> &mut dyn Write;
}

impl Target for ToFile {
    fn sink(&mut self) -> &mut dyn Write {
        match &mut self.spool {
            Some(spool) => spool,
            None => &mut self.file,
        }
    }
}

impl Target for ToMemory {
    fn sink(&mut self) -> &mut dyn Write {
        &mut self.bytes
    }
}

impl<W: Write> Target for ToSink<W> {
    fn sink(&mut self) -> &mut dyn Write {
        &mut self.sink
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A chunk, or a part of one, that is encoded already.
pub(crate) enum EncodedParts<'a> {
    /// One part for each array.
    Cvcf(&'a [EncodedChunk]),
    /// A chunk of one array.
    Native {
        /// Which array.
        array: usize,
        /// The chunk.
        chunk: &'a EncodedChunk,
        /// Rows to a block.
        block_rows: u32,
        /// What encoding lost.
        loss: Loss,
    },
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
        let body = Body::new(&options)?;
        let file = AtomicFile::create(path.as_ref(), options.overwrite).map_err(Error::Output)?;
        let spool = match body {
            Body::Cvcf(_) => {
                let spool = tempfile::tempfile_in(file.parent()).map_err(Error::Spool)?;
                Some(BufWriter::with_capacity(1 << 20, spool))
            }
            Body::Native(_) => None,
        };
        Ok(Writer::new(options, body, ToFile { file, spool }))
    }

    /// Writes what is missing, syncs the file and gives it its name.
    ///
    /// # Errors
    /// Sections or metadata that do not fit the rows, or a disk that is full. The final name is untouched.
    pub fn finish(mut self) -> Result<Written, Error> {
        let ending = self.end()?;
        let written = self.written();
        let ToFile { mut file, spool } = self.target;
        let file_len = match (ending, spool) {
            (Ending::Prefix(prefix), Some(mut spool)) => {
                // Seeking writes the buffer out first.
                let spooled =
                    spool.stream_position().and_then(|len| spool.seek(SeekFrom::Start(0)).map(|_| len));
                let file_len = prefix.len() as u64 + spooled.map_err(Error::Spool)?;
                let copied = file.write_all(&prefix).and_then(|()| file.append(spool.get_mut()));
                copied.map_err(Error::Output)?;
                file_len
            }
            (Ending::Written(file_len), _) => file_len,
            (Ending::Prefix(_), None) => unreachable!("a CVCF file has a spool"),
        };
        file.commit().map_err(Error::Output)?;
        Ok(Written { file_len, ..written })
    }
}

impl Writer<ToMemory> {
    /// Begins a file in memory.
    ///
    /// # Errors
    /// The layout cannot hold such arrays.
    pub fn in_memory(options: WriteOptions) -> Result<Self, Error> {
        let body = Body::new(&options)?;
        Ok(Writer::new(options, body, ToMemory { bytes: Vec::new() }))
    }

    /// The whole file.
    ///
    /// # Errors
    /// Sections or metadata that do not fit the rows.
    pub fn finish_bytes(mut self) -> Result<Vec<u8>, Error> {
        match self.end()? {
            Ending::Prefix(mut bytes) => {
                bytes.append(&mut self.target.bytes);
                Ok(bytes)
            }
            Ending::Written(_) => Ok(self.target.bytes),
        }
    }
}

impl<W: Write> Writer<ToSink<W>> {
    /// Begins a native file that is sent to `sink` front to back, nothing twice: a socket, a hash, an upload.
    ///
    /// # Errors
    /// Another layout, whose header needs to be known first; arrays that cannot be held.
    pub fn to_sink(sink: W, options: WriteOptions) -> Result<Self, Error> {
        if options.layout != Layout::Native {
            let problem = "only native files are written in one pass; write to a path or to memory";
            return Err(Error::argument("layout", options.layout, problem));
        }
        let body = Body::new(&options)?;
        Ok(Writer::new(options, body, ToSink { sink }))
    }

    /// Sends what is missing and gives the sink back, not flushed.
    ///
    /// # Errors
    /// Sections or metadata that do not fit the rows, or the sink fails.
    pub fn finish_sink(mut self) -> Result<(W, Written), Error> {
        let Ending::Written(file_len) = self.end()? else { unreachable!("only native files are sent") };
        let written = self.written();
        Ok((self.target.sink, Written { file_len, ..written }))
    }
}

impl Body {
    fn new(options: &WriteOptions) -> Result<Body, Error> {
        Ok(match options.layout {
            Layout::Native => Body::Native(native::Body::new(options)?),
            _ => Body::Cvcf(cvcf::Body::new(options)?),
        })
    }

    fn chunk_count(&self) -> usize {
        match self {
            Body::Cvcf(body) => body.chunk_count(),
            Body::Native(body) => body.chunk_count(),
        }
    }
}

/// What is left to do when all rows are encoded.
enum Ending {
    /// A CVCF file: these bytes go in front of what was put aside.
    Prefix(Vec<u8>),
    /// A native file: nothing, it has so many bytes.
    Written(u64),
}

#[expect(private_bounds, reason = "the targets are those above, and nobody else can make one")]
impl<T: Target> Writer<T> {
    fn new(options: WriteOptions, body: Body, target: T) -> Self {
        Writer { options, target, body, sections: Vec::new(), failed: false }
    }

    /// Says that `rows` more rows will come, so that a file that could not hold them is refused before any work.
    ///
    /// # Errors
    /// They would make more chunks than a file can list.
    pub fn reserve(&self, rows: u64) -> Result<(), Error> {
        match &self.body {
            Body::Cvcf(body) => body.reserve(&self.options, rows),
            Body::Native(body) => body.reserve(rows),
        }
    }

    /// Rows in every chunk but the last (of the array whose chunks have the fewest).
    pub fn chunk_rows(&self) -> usize {
        match &self.body {
            Body::Cvcf(body) => body.chunk_rows(),
            Body::Native(body) => body.chunk_rows(),
        }
    }

    /// How many rows to hand over at a time so that every core has a chunk to encode, or many if chunks are small.
    pub fn batch_rows(&self) -> usize {
        match &self.body {
            Body::Cvcf(body) => body.batch_rows(),
            Body::Native(body) => body.batch_rows(),
        }
    }

    /// How many rows have come in so far.
    pub fn rows(&self) -> u64 {
        match &self.body {
            Body::Cvcf(body) => body.rows(),
            Body::Native(body) => body.rows(),
        }
    }

    /// Appends rows: one item for each array, in the order of the options, all with as many rows.
    ///
    /// How rows are split over calls makes no difference to the file.
    ///
    /// # Errors
    /// Rows unlike the arrays, which are as if they had never been given; rows that the codec cannot take, or a
    /// disk that is full, after which the file can no longer be finished.
    pub fn write<'a, R: Into<ArrayRows<'a>> + Clone>(&mut self, rows: &[R]) -> Result<(), Error> {
        self.write_rows(rows, false)
    }

    /// As [`Writer::write`], of rows after which none will come: they need not be kept to be put together with others. The file
    /// is the same.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_last<'a, R: Into<ArrayRows<'a>> + Clone>(&mut self, rows: &[R]) -> Result<(), Error> {
        self.write_rows(rows, true)
    }

    fn write_rows<'a, R: Into<ArrayRows<'a>> + Clone>(
        &mut self,
        rows: &[R],
        last: bool,
    ) -> Result<(), Error> {
        if self.failed {
            return Err(self.rows_lost());
        }
        let rows: Vec<ArrayRows<'a>> = rows.iter().cloned().map(Into::into).collect();
        self.check_rows(&rows)?;
        self.reserve(rows.first().map_or(0, ArrayRows::len) as u64)?;
        let sink = self.target.sink();
        // Until it is known to be otherwise, also if the sink panics.
        self.failed = true;
        let appended = match &mut self.body {
            Body::Native(body) if last => body.append_last(&rows, sink),
            Body::Native(body) => body.append(&rows, sink),
            Body::Cvcf(body) => {
                let values = rows.iter().map(|rows| match rows {
                    ArrayRows::Values(values) => *values,
                    ArrayRows::Strings { .. } => unreachable!("checked above"),
                });
                body.append(&self.options, &values.collect::<Vec<_>>(), sink)
            }
        };
        self.failed = appended.is_err();
        appended
    }

    /// Appends rows of the file's only array.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_vectors(&mut self, rows: RowSlice<'_>) -> Result<(), Error> {
        self.write(&[rows])
    }

    /// Adds a whole array beside the others, with as many rows as it has: centroids, a vocabulary. It is encoded now,
    /// kept in memory, and goes behind them in the file; the options of the file decide the rows of its chunks. Only native files hold such arrays.
    ///
    /// # Errors
    /// Another layout, a name that is taken, rows unlike the array, rows that the codec cannot take.
    pub fn attach<'a>(&mut self, array: ArrayOptions, rows: impl Into<ArrayRows<'a>>) -> Result<(), Error> {
        // The codec must be one of the layout's.
        let array = WriteOptions::new(self.options.layout).with_array(array)?.arrays.remove(0);
        match &mut self.body {
            Body::Native(body) => body.attach(array, self.options.chunk_rows, &rows.into()),
            Body::Cvcf(_) => {
                let problem = "all arrays of a CVCF file have as many rows; write layout native";
                Err(Error::argument("array", &array.name, problem))
            }
        }
    }

    /// Appends one chunk of `rows` rows, encoded already: to a CVCF file with one part for each array, to a native one for
    /// one array at a time. Rows of a file come in this way or the other, never both.
    pub(crate) fn write_encoded(&mut self, rows: u32, parts: EncodedParts<'_>) -> Result<(), Error> {
        let sink = self.target.sink();
        let failed_before = std::mem::replace(&mut self.failed, true);
        let put = match (&mut self.body, parts) {
            (Body::Native(body), EncodedParts::Native { array, chunk, block_rows, loss }) => {
                body.put_encoded(array, rows, chunk, block_rows, loss, sink)
            }
            (Body::Cvcf(body), EncodedParts::Cvcf(parts)) => {
                body.put(&self.options, rows as usize, parts, sink)
            }
            _ => unreachable!("the caller chose the layout"),
        };
        self.failed = failed_before || put.is_err();
        put
    }

    /// Appends rows of native files to array `array` as they are encoded there: not a bit of what they decode to changes.
    /// Rows of a file come in this way or the other, never both.
    ///
    /// # Errors
    /// They are not rows of such an array with the same codec, do not exist or are damaged, or the disk is full, after which the
    /// file can no longer be finished.
    pub fn copy_rows(&mut self, array: usize, from: &[(Array<'_>, Rows)]) -> Result<(), Error> {
        let Some(of) = self.options.arrays.get(array).cloned() else {
            let problem = format!("the file has {} arrays", self.options.arrays.len());
            return Err(Error::argument("array", array, problem));
        };
        let most = self.chunk_rows() as u64;
        let failed_before = std::mem::replace(&mut self.failed, true);
        copy::copy_in_chunks(
            &of.codec,
            of.dtype,
            of.dim(),
            from,
            most,
            &mut |rows, chunk, block_rows, loss| {
                self.write_encoded(rows, EncodedParts::Native { array, chunk, block_rows, loss })
            },
        )?;
        self.failed = failed_before;
        Ok(())
    }

    /// Says something of rows `rows`, which may come later; of a native file with several arrays, rows of the first and
    /// of those with as many.
    ///
    /// # Errors
    /// The section is empty, shares rows with another, or its metadata is nested too deeply for a header.
    pub fn add_section(&mut self, rows: Range<u64>, metadata: Json) -> Result<(), Error> {
        if rows.start >= rows.end {
            let named = format!("{}..{}", rows.start, rows.end);
            return Err(Error::argument("section", named, "a section has at least one row"));
        }
        self.put_section(rows, metadata)
    }

    /// As [`Writer::add_section`], but it may be empty, as those of files written by others can be.
    pub(crate) fn put_section(&mut self, rows: Range<u64>, metadata: Json) -> Result<(), Error> {
        let named = format!("{}..{}", rows.start, rows.end);
        match self.options.layout {
            Layout::Native => cvc_format::native::Contents::check_metadata(&metadata)?,
            layout => Contents::check_metadata(layout, &metadata)?,
        }
        let at = self
            .sections
            .partition_point(|section| (section.rows.start, section.rows.end) <= (rows.start, rows.end));
        let clash = |other: &Section| other.rows.start < rows.end && rows.start < other.rows.end;
        let neighbours = &self.sections[at.saturating_sub(1)..self.sections.len().min(at + 1)];
        if let Some(other) = neighbours.iter().find(|other| clash(other)) {
            let problem = format!("it shares rows with section {}..{}", other.rows.start, other.rows.end);
            return Err(Error::argument("section", named, problem));
        }
        self.sections.insert(at, Section::new(rows, metadata));
        Ok(())
    }

    /// Encodes what is left, and makes everything that the chunks need around them.
    fn end(&mut self) -> Result<Ending, Error> {
        if self.failed {
            return Err(self.rows_lost());
        }
        let sink = self.target.sink();
        if let Body::Cvcf(body) = &mut self.body {
            body.flush(&self.options, sink)?;
        }
        let rows = self.rows();
        if let Some(section) = self.sections.last().filter(|section| section.rows.end > rows) {
            let named = format!("{}..{}", section.rows.start, section.rows.end);
            return Err(Error::argument("section", named, format!("{rows} rows were written")));
        }
        match &mut self.body {
            Body::Cvcf(body) => Ok(Ending::Prefix(body.prefix(&mut self.options, &self.sections)?)),
            Body::Native(body) => {
                let sink = self.target.sink();
                Ok(Ending::Written(body.finish(&self.options, &self.sections, sink)?))
            }
        }
    }

    fn written(&self) -> Written {
        Written { rows: self.rows(), chunks: self.body.chunk_count(), file_len: 0 }
    }

    fn rows_lost(&self) -> Error {
        Error::argument(
            "rows",
            self.rows(),
            "an earlier write failed, so rows are missing; begin the file again",
        )
    }

    fn check_rows(&self, rows: &[ArrayRows<'_>]) -> Result<(), Error> {
        let arrays = &self.options.arrays;
        if rows.len() != arrays.len() {
            let problem = format!("the file has {} arrays; rows for each of them are needed", arrays.len());
            return Err(Error::argument("rows", format!("{} arrays", rows.len()), problem));
        }
        match &self.body {
            Body::Native(body) => body.check_rows(rows)?,
            Body::Cvcf(body) => {
                for (position, rows) in rows.iter().enumerate() {
                    let (name, dtype, dim) = body.array(position);
                    let fits =
                        matches!(rows, ArrayRows::Values(rows) if rows.dim() == dim && rows.dtype() == dtype);
                    if !fits {
                        let problem = format!("array \"{name}\" has rows of {dim} {dtype} values");
                        return Err(Error::argument("rows", rows.describe(), problem));
                    }
                }
            }
        }
        for (rows_of, array) in rows.iter().zip(arrays) {
            if rows_of.len() != rows[0].len() {
                let value = format!("{} rows for array \"{}\"", rows_of.len(), array.name);
                let problem = format!("array \"{}\" got {}", arrays[0].name, rows[0].len());
                return Err(Error::argument("rows", value, problem));
            }
        }
        Ok(())
    }
}

/// Names the array, and counts rows from its start: `first_row` is that of the rows that were encoded.
fn encode_error(array: &str, first_row: u64) -> impl FnOnce(CodecError) -> Error {
    let array = array.to_owned();
    move |mut error| {
        if let CodecError::Value { row, .. } | CodecError::Row { row, .. } = &mut error {
            *row = row.saturating_add(usize::try_from(first_row).unwrap_or(usize::MAX));
        }
        Error::Encode { array, error }
    }
}
