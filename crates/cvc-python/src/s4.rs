//! `cvc.s4`: bodies of frames that S4 keeps in object storage, and the sidecars that index them.

use std::sync::Arc;

use cvc::ReadAt;
use cvc::io::FileSource;
use cvc::s4::{self, Dictionary, Error, ReadOptions, WriteCodec, WriteOptions};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyType};

use crate::errors::{detached, of_class, raised_s4};
use crate::file::{Source, locate};
use crate::memory::Memory;

fn work<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| raised_s4(py, &error))
}

/// A small tuple type of `cvc._s4`.
fn named<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("cvc._s4")?.getattr(name)
}

fn range<'py>(py: Python<'py>, of: &std::ops::Range<u64>) -> PyResult<Bound<'py, PyAny>> {
    py.get_type::<pyo3::types::PyRange>().call1((of.start, of.end))
}

fn totals<'py>(py: Python<'py>, totals: &s4::Totals) -> PyResult<Bound<'py, PyAny>> {
    named(py, "Totals")?.call1((totals.decoded_len, totals.stored_len, totals.crc32c))
}

/// An open body. Only frame headers have been read, or nothing if a sidecar came with it.
#[pyclass(frozen, module = "cvc.s4")]
pub(crate) struct Body {
    body: s4::Body<'static>,
    stored_len: u64,
}

/// Opens a body: a path, a URL that fsspec knows, `bytes`, or a binary file object.
///
/// `index` is its sidecar, an `Index` or the bytes of one: the frames are then known without a walk. It must be bound to an
/// object of this length, and to `etag` if one is given, unless `unbound=True` says that it is known to be the body's.
/// `dictionary` is for frames of the codec `cpu-zstd-dict`; `max_frame_bytes` is what one frame may decode to.
#[pyfunction]
#[pyo3(name = "open_s4", signature = (
    source, *, index=None, etag=None, unbound=false, dictionary=None, max_frame_bytes=None
))]
pub(crate) fn open_s4(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    index: Option<&Bound<'_, PyAny>>,
    etag: Option<&str>,
    unbound: bool,
    dictionary: Option<&Bound<'_, PyAny>>,
    max_frame_bytes: Option<u64>,
) -> PyResult<Body> {
    let mut options = ReadOptions::default();
    if let Some(most) = max_frame_bytes {
        options.limits.frame_decoded_len = most;
    }
    if let Some(dictionary) = dictionary {
        let memory = Memory::of(dictionary)?;
        options.dictionary = Some(work(py, || Dictionary::new(memory.bytes()))?);
    }
    let index = match index {
        None => None,
        Some(index) => match index.cast::<Index>() {
            Ok(index) => Some(index.get().0.clone()),
            Err(_) => Some(Index::parse_any(index)?.0),
        },
    };
    let located = locate(source, None)?.source;
    let source: Arc<dyn ReadAt> = detached(py, || match located {
        Source::Path(path) => Ok(Arc::new(FileSource::open(&path)?) as Arc<dyn ReadAt>),
        Source::Other(source) => Ok(Arc::from(source)),
    })?;
    let stored_len = source.len();
    let body = work(py, || match &index {
        None => s4::Body::open(source, options),
        Some(index) => {
            let matched = if unbound { index.unbound(stored_len) } else { index.matching(stored_len, etag) };
            s4::Body::open_indexed(source, matched?, options)
        }
    })?;
    Ok(Body { body, stored_len })
}

#[pymethods]
impl Body {
    /// The frames in order, padding left out: where each lies, which decoded bytes it has, its codec and crc32c (`None`
    /// for one that only a sidecar has named so far).
    #[getter]
    fn frames<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let frame = named(py, "Frame")?;
        let frames = self.body.frames().iter().map(|of| {
            let codec = of.codec().map(s4::Codec::name);
            let crc32c = of.header.map(|header| header.crc32c);
            frame.call1((range(py, &of.stored)?, range(py, &of.decoded)?, codec, crc32c))
        });
        PyList::new(py, frames.collect::<PyResult<Vec<_>>>()?)
    }

    /// Bytes that the whole body decodes to.
    #[getter]
    fn decoded_len(&self) -> u64 {
        self.body.decoded_len()
    }

    /// Bytes of the body.
    #[getter]
    fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Decoded bytes `start` to `stop` (exclusive), to the end without it. Only the frames that hold some are read.
    #[pyo3(signature = (start=0, stop=None))]
    fn read_range<'py>(
        &self,
        py: Python<'py>,
        start: u64,
        stop: Option<u64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let stop = stop.unwrap_or_else(|| self.body.decoded_len());
        let bytes = work(py, || self.body.read_range(start..stop))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// What one frame decodes to.
    fn read_frame<'py>(&self, py: Python<'py>, number: usize) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = work(py, || {
            let mut bytes = Vec::new();
            self.body.read_frame(number, &mut bytes).map(|()| bytes)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The figures of the whole object, from the headers of its frames.
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        totals(py, &work(py, || self.body.totals())?)
    }

    /// Compares the figures with those of the object's metadata (`s4-original-size`, `s4-compressed-size`, `s4-crc32c`):
    /// a body that was cut between two frames shows in nothing else.
    fn check(&self, py: Python<'_>, original_size: u64, compressed_size: u64, crc32c: u32) -> PyResult<()> {
        let metadata = s4::Totals { decoded_len: original_size, stored_len: compressed_size, crc32c };
        work(py, || self.body.totals()?.check(&metadata))
    }

    /// Looks at every byte. Returns what is wrong, as exceptions: an empty list if nothing is.
    fn verify(&self, py: Python<'_>) -> Vec<PyErr> {
        let errors = py.detach(|| self.body.verify());
        errors.iter().map(|error| raised_s4(py, error)).collect()
    }

    /// The sidecar of this body, not yet bound to an object.
    fn index(&self) -> Index {
        Index(self.body.index())
    }

    fn __repr__(&self) -> String {
        let (frames, decoded) = (self.body.frames().len(), self.body.decoded_len());
        format!("<cvc.s4.Body: {frames} frames, {} bytes that decode to {decoded}>", self.stored_len)
    }
}

/// A sidecar, `<key>.s4index`.
#[pyclass(frozen, eq, module = "cvc.s4")]
#[derive(PartialEq)]
pub(crate) struct Index(s4::Index);

impl Index {
    fn parse_any(data: &Bound<'_, PyAny>) -> PyResult<Index> {
        let (py, memory) = (data.py(), Memory::of(data)?);
        work(py, || s4::Index::parse(memory.bytes()).map_err(Error::from)).map(Index)
    }
}

#[pymethods]
impl Index {
    /// Reads a sidecar of version 1, 2 or 3.
    #[classmethod]
    fn parse(_class: &Bound<'_, PyType>, data: &Bound<'_, PyAny>) -> PyResult<Index> {
        Index::parse_any(data)
    }

    /// Where each frame lies and which decoded bytes it has.
    #[getter]
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let entry = named(py, "Entry")?;
        let entries = self.0.entries().iter();
        let entries = entries.map(|of| entry.call1((range(py, &of.stored)?, range(py, &of.decoded)?)));
        PyList::new(py, entries.collect::<PyResult<Vec<_>>>()?)
    }

    /// Bytes of the body that it describes.
    #[getter]
    fn stored_len(&self) -> u64 {
        self.0.stored_len()
    }

    /// The length of the object that it is bound to.
    #[getter]
    fn bound_len(&self) -> Option<u64> {
        self.0.binding().0
    }

    /// The etag of the object that it is bound to.
    #[getter]
    fn etag(&self) -> Option<&str> {
        self.0.binding().1
    }

    /// Whether the body is encrypted, and so cannot be read without S4.
    #[getter]
    fn encrypted(&self) -> bool {
        self.0.encryption().is_some()
    }

    /// The same, bound to the length and the etag that the store answered when the body was put there.
    #[pyo3(signature = (body_len, etag=None))]
    fn bind(&self, py: Python<'_>, body_len: u64, etag: Option<&str>) -> PyResult<Index> {
        self.0.clone().bind(body_len, etag).map(Index).map_err(|error| raised_s4(py, &error))
    }

    /// The bytes of the sidecar.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }

    fn __repr__(&self) -> String {
        let bound = match self.0.binding() {
            (None, None) => "not bound".to_owned(),
            (len, etag) => format!(
                "bound to {} bytes, etag {}",
                len.map_or("?".into(), |len| len.to_string()),
                etag.unwrap_or("none")
            ),
        };
        format!("<cvc.s4.Index: {} frames in {} bytes, {bound}>", self.0.entries().len(), self.0.stored_len())
    }
}

/// Makes a body of the bytes of any buffer. Returns it, its figures, its sidecar, and the metadata for the object.
///
/// `codec` is `zstd`, `gzip` or `passthrough`; `level` is 3 for zstd and 6 for gzip unless given; `frame_len` is S4's own
/// choice for this length unless given.
#[pyfunction]
#[pyo3(name = "pack_s4", signature = (data, codec="zstd", *, level=None, frame_len=None))]
pub(crate) fn pack_s4<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    codec: &str,
    level: Option<i32>,
    frame_len: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let codec = match codec {
        "zstd" => WriteCodec::Zstd { level: level.unwrap_or(3) },
        // What is no level of gzip is refused by its number, which must be one.
        "gzip" => WriteCodec::Gzip { level: u32::try_from(level.unwrap_or(6)).unwrap_or(u32::MAX) },
        "passthrough" => WriteCodec::Passthrough,
        other => {
            let problem = format!("codec = {other:?}: one of zstd, gzip, passthrough is needed");
            return Err(of_class(py, "ArgumentError", problem));
        }
    };
    let memory = Memory::of(data)?;
    let (body, written) = work(py, || {
        let bytes = memory.bytes();
        let frame_len = frame_len.unwrap_or_else(|| s4::frame_len_for(bytes.len() as u64));
        let mut writer = s4::Writer::new(Vec::new(), WriteOptions { codec, frame_len })?;
        writer.write(bytes)?;
        writer.finish()
    })?;
    let metadata = pyo3::types::PyDict::new(py);
    for (key, value) in written.metadata() {
        metadata.set_item(key, value)?;
    }
    let totals = totals(py, &written.totals)?;
    named(py, "Packed")?.call1((PyBytes::new(py, &body), totals, Index(written.index), metadata))
}
