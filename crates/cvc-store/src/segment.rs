//! Segments: native files that hold rows of one array and never change.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use cvc::format::ArrayDType;
use cvc::{Array, ReadOptions, Reader};

use crate::error::Error;
use crate::layer::{Layer, LayerFile};
use crate::names;
use crate::spec::ArraySpec;
use crate::wire::{Problem, crc32c};

/// The name of the only array of a segment.
pub(crate) const ROWS: &str = "rows";

/// Bytes at the end of a native file that say which file it is.
pub(crate) const SEAL_LEN: usize = 40;

/// A segment of the store, opened when it is first needed.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) len: u64,
    pub(crate) rows: u64,
    /// CRC-32C of its last bytes, which have the checksums of the rest.
    pub(crate) seal: u32,
    layer: Arc<dyn Layer>,
    opened: OnceLock<Reader>,
    /// Dtype, values of a row and codec of the array that has its rows.
    kind: OnceLock<(ArrayDType, u32, String)>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("number", &self.number)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl Segment {
    pub(crate) fn new(layer: Arc<dyn Layer>, number: u64, len: u64, rows: u64, seal: u32) -> Arc<Segment> {
        Arc::new(Segment { number, len, rows, seal, layer, opened: OnceLock::new(), kind: OnceLock::new() })
    }

    pub(crate) fn name(&self) -> String {
        names::segment(self.number)
    }

    /// Says what array it has rows of, which it must be once it is opened.
    pub(crate) fn is_of(&self, spec: &ArraySpec) -> Result<(), Problem> {
        let (dtype, dim, codec) = self.kind.get_or_init(|| (spec.dtype, spec.dim(), spec.codec.clone()));
        if (*dtype, *dim, codec) != (spec.dtype, spec.dim(), &spec.codec) {
            return Err(format!("segment {} has rows of an array of another kind", self.number));
        }
        if let Some(reader) = self.opened.get() {
            self.check_kind(&reader.array(ROWS).expect("looked at when it was opened"))?;
        }
        Ok(())
    }

    fn check_kind(&self, array: &Array<'_>) -> Result<(), Problem> {
        let found = array.index();
        match self.kind.get() {
            Some((dtype, dim, codec))
                if (found.dtype, array.dim(), &*found.codec) != (*dtype, *dim, codec.as_str()) =>
            {
                Err(format!(
                    "it has rows of {} {} values of codec {}, and the array has {dim} {dtype} values of codec {codec}",
                    array.dim(),
                    found.dtype,
                    found.codec
                ))
            }
            _ => Ok(()),
        }
    }

    /// The file, opened and found to be the one that the journal names.
    pub(crate) fn reader(&self) -> Result<&Reader, Error> {
        if let Some(reader) = self.opened.get() {
            return Ok(reader);
        }
        let name = self.name();
        let path = self.layer.path(&name);
        let damaged =
            |offset, problem: &str| Error::Damaged { path: path.clone(), offset, problem: problem.into() };
        let source = self.layer.segment(&name).map_err(Error::io(path.clone(), "cannot be opened"))?;
        if source.len() != self.len {
            let problem = format!("it has {} bytes, the journal says {}", source.len(), self.len);
            return Err(damaged(source.len().min(self.len), &problem));
        }
        let mut seal = [0; SEAL_LEN];
        let at = self
            .len
            .checked_sub(SEAL_LEN as u64)
            .ok_or_else(|| damaged(0, "it is too short for a segment"))?;
        let fail = |error: cvc::Error| Error::Segment { path: path.clone(), error: Box::new(error) };
        source.read_at(at, &mut seal).map_err(|error| fail(error.into()))?;
        if crc32c(&[&seal]) != self.seal {
            return Err(damaged(at, "its last bytes are not those that the journal knows"));
        }
        let reader = Reader::new(source, ReadOptions::default()).map_err(fail)?;
        let array = reader.array(ROWS).map_err(fail)?;
        if array.rows() != self.rows {
            return Err(damaged(at, "it has another number of rows than the journal says"));
        }
        self.check_kind(&array).map_err(|problem| damaged(0, &problem))?;
        Ok(self.opened.get_or_init(|| reader))
    }

    /// The array of the rows.
    pub(crate) fn array(&self) -> Result<Array<'_>, Error> {
        let reader = self.reader()?;
        Ok(reader.array(ROWS).expect("looked at when it was opened"))
    }

    /// Looks at every byte.
    pub(crate) fn is_whole(&self) -> bool {
        let report = self.reader().map(Reader::verify);
        matches!(report, Ok(Ok(report)) if report.is_ok())
    }

    /// Waits until the file is there even if the power goes.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.layer.open(&self.name(), true)?.sync()
    }
}

/// A segment being written. Remembers its last bytes.
pub(crate) struct Sink {
    file: Box<dyn LayerFile>,
    at: u64,
    buffer: Vec<u8>,
    tail: Vec<u8>,
}

/// Smaller pieces are put together before they are written.
const BUFFER_LEN: usize = 1 << 20;

impl Sink {
    pub(crate) fn new(file: Box<dyn LayerFile>) -> Sink {
        Sink { file, at: 0, buffer: Vec::new(), tail: Vec::new() }
    }

    /// The file, its length, and the seal.
    pub(crate) fn finish(mut self) -> io::Result<(Box<dyn LayerFile>, u64, u32)> {
        self.flush()?;
        Ok((self.file, self.at, crc32c(&[&self.tail])))
    }

    fn remember(&mut self, bytes: &[u8]) {
        if bytes.len() >= SEAL_LEN {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - SEAL_LEN..]);
        } else {
            self.tail.extend_from_slice(bytes);
            let excess = self.tail.len().saturating_sub(SEAL_LEN);
            self.tail.drain(..excess);
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.remember(bytes);
        if self.buffer.len() + bytes.len() <= BUFFER_LEN {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.flush()?;
            if bytes.len() >= BUFFER_LEN {
                self.file.write_at(self.at, bytes)?;
                self.at += bytes.len() as u64;
            } else {
                self.buffer.extend_from_slice(bytes);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.at, &self.buffer)?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
