//! Where the bytes of a file come from: a path, `bytes`, or anything that can be read and sought.

use std::sync::{Arc, Mutex, PoisonError};

use cvc::ReadAt;
use cvc::codec::SourceError;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// A whole file in an object `bytes`, which nobody can change. Nothing is copied.
pub(crate) struct Bytes(pub(crate) PyBackedBytes);

impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        <[u8]>::len(&self.0) as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let end = offset.saturating_add(into.len() as u64);
        let bytes = self.borrow(offset..end);
        let bytes = bytes.ok_or(SourceError::Shrunk { offset, end, file_len: ReadAt::len(self) })?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn borrow(&self, range: std::ops::Range<u64>) -> Option<&[u8]> {
        self.0.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }
}

/// An object with `seek` and `readinto` or `read`, as `open(path, "rb")`, `io.BytesIO` and fsspec give them.
pub(crate) struct FileLike {
    /// One reader at a time, as there is one position. Taken without the interpreter and held while it is asked for, never
    /// the other way round, so that nobody waits for a thread that waits for him.
    object: Mutex<Py<PyAny>>,
    len: u64,
    has_readinto: bool,
}

impl FileLike {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<FileLike> {
        let has = |name| object.hasattr(name);
        let has_readinto = has("readinto")?;
        if !has("seek")? || !(has_readinto || has("read")?) {
            let problem = "a path, a URL, bytes or a binary file object is needed";
            return Err(PyTypeError::new_err(problem));
        }
        let len = object.call_method1("seek", (0, 2))?;
        let len = if len.is_none() { object.call_method0("tell")? } else { len };
        Ok(FileLike { object: Mutex::new(object.clone().unbind()), len: len.extract()?, has_readinto })
    }

    fn fill(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        offset: u64,
        into: &mut [u8],
    ) -> PyResult<usize> {
        object.call_method1("seek", (offset,))?;
        let mut done = 0;
        while done < into.len() {
            let rest = into.len() - done;
            let count = if self.has_readinto {
                // Its own memory, as an object of Python may keep what it is given.
                let buffer = pyo3::types::PyByteArray::new_with(py, rest, |_| Ok(()))?;
                let count = object.call_method1("readinto", (&buffer,))?.extract::<Option<usize>>()?;
                let count = count.unwrap_or(0).min(rest);
                into[done..done + count].copy_from_slice(&buffer.to_vec()[..count]);
                count
            } else {
                let bytes = object.call_method1("read", (rest,))?.extract::<PyBackedBytes>()?;
                let count = bytes[..].len().min(rest);
                into[done..done + count].copy_from_slice(&bytes[..count]);
                count
            };
            if count == 0 {
                break;
            }
            done += count;
        }
        Ok(done)
    }
}

impl ReadAt for FileLike {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let len = into.len() as u64;
        let done = Python::attach(|py| self.fill(py, object.bind(py), offset, into));
        match done {
            Ok(done) if done as u64 == len => Ok(()),
            Ok(done) => {
                Err(SourceError::Shrunk { offset, end: offset + len, file_len: offset + done as u64 })
            }
            Err(error) => Err(SourceError::Read { offset, len, cause: Arc::new(error) }),
        }
    }
}
