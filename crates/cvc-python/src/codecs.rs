//! `cvc.codecs`: the calls of S4's package on payloads without frames.
//!
//! A payload is looked at first; only what it can give is allocated, exactly, and decoded to where Python will see it.
//! Small payloads keep the interpreter: letting go of it and taking it back costs as much as decoding them does.

use cvc::s4::{
    CheckedPayload, Codec, Dictionary, EncodeDictionary, Error, FrameHeader, MAX_FRAME_LEN, PayloadError,
    ReadLimits, ReadOptions, WriteCodec, encode_payload, encode_payload_with,
};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{of_class, raised_s4};
use crate::memory::{Memory, bytes_of};

/// Bytes in and out below which the interpreter is kept.
const SMALL: u64 = 32 << 10;

/// The bytes of any contiguous buffer.
enum Data<'d, 'py> {
    Bytes(&'d Bound<'py, PyBytes>),
    Other(Memory),
}

impl<'d, 'py> Data<'d, 'py> {
    fn of(object: &'d Bound<'py, PyAny>) -> PyResult<Data<'d, 'py>> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Data::Bytes(bytes)),
            Err(_) => Memory::of(object).map(Data::Other),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Data::Bytes(bytes) => bytes.as_bytes(),
            Data::Other(memory) => memory.bytes(),
        }
    }
}

/// What `compress` returns: payload, length of the data, crc32c of the data.
type Compressed<'py> = (Bound<'py, PyBytes>, u64, u32);

fn compressed<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    encode: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<FrameHeader, Error> + Send,
) -> PyResult<Compressed<'py>> {
    let data = Data::of(data)?;
    let bytes = data.bytes();
    let mut payload = Vec::new();
    let header = if bytes.len() as u64 <= SMALL {
        encode(bytes, &mut payload)
    } else {
        py.detach(|| encode(bytes, &mut payload))
    };
    let header = header.map_err(|error| raised_s4(py, &error))?;
    Ok((PyBytes::new(py, &payload), header.decoded_len, header.crc32c))
}

fn decompressed<'py>(
    py: Python<'py>,
    codec: Codec,
    options: &ReadOptions,
    data: &Bound<'py, PyAny>,
    (original_size, crc32c): (&Bound<'py, PyAny>, &Bound<'py, PyAny>),
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let decoded_len = number(original_size, "original_size", MAX_FRAME_LEN, "S4 decodes to 5 GiB at most")?;
    let crc32c = number(crc32c, "crc32c", u64::from(u32::MAX), "a crc32c has 32 bits")?;
    let data = Data::of(data)?;
    let payload = data.bytes();
    let payload_len = payload.len() as u64;
    let header = FrameHeader { codec, decoded_len, payload_len, crc32c: u32::try_from(crc32c)? };
    let small = payload_len + decoded_len <= SMALL;
    let checked = if small {
        CheckedPayload::new(header, payload, options)
    } else {
        py.detach(|| CheckedPayload::new(header, payload, options))
    };
    let checked = checked.map_err(|error| of_payload(py, &error))?;
    let decode = |into: &mut [u8]| {
        let decoded = if small { checked.decode_into(into) } else { py.detach(|| checked.decode_into(into)) };
        decoded.map_err(|error| of_payload(py, &error))
    };
    match out {
        None => Ok(bytes_of(py, usize::try_from(decoded_len)?, decode)?.into_any()),
        Some(out) => {
            let mut memory = Memory::writable(out)?;
            let len = memory.bytes().len();
            if len as u64 != decoded_len {
                let problem = format!("out has {len} bytes, and the payload decodes to {decoded_len}");
                return Err(of_class(py, "ArgumentError", problem));
            }
            let (from, into) = (payload.as_ptr_range(), memory.bytes().as_ptr_range());
            if from.start < into.end && into.start < from.end {
                return Err(of_class(
                    py,
                    "ArgumentError",
                    "out and the payload lie in the same memory".into(),
                ));
            }
            decode(memory.bytes_mut())?;
            Ok(out.clone())
        }
    }
}

/// A number of the caller's that must lie in `0..=most`.
fn number(object: &Bound<'_, PyAny>, name: &str, most: u64, reason: &str) -> PyResult<u64> {
    match object.extract::<u64>() {
        Ok(number) if number <= most => Ok(number),
        Err(error) if !error.is_instance_of::<PyOverflowError>(object.py()) => Err(error),
        _ => {
            let problem = format!("{name} = {object}: 0 to {most} is needed, as {reason}");
            Err(of_class(object.py(), "ArgumentError", problem))
        }
    }
}

/// The exception for a payload that came without a frame, in the words of the call.
fn of_payload(py: Python<'_>, error: &Error) -> PyErr {
    const ADVICE: &str = "the payload is damaged, or the numbers are those of another: fetch both again";
    let mismatch = |what: String| of_class(py, "MismatchError", format!("{what}: {ADVICE}"));
    match error {
        Error::Payload { error, .. } => match error {
            PayloadError::Claim { claimed, bound } => mismatch(format!(
                "original_size is {claimed}, and the payload can give {bound} bytes at most"
            )),
            PayloadError::Says { claimed, says, .. } => {
                mismatch(format!("original_size is {claimed}, and the payload says {says}"))
            }
            PayloadError::Short { expected, found, .. } => {
                mismatch(format!("original_size is {expected}, and the payload decodes to {found} bytes"))
            }
            PayloadError::Long { expected, .. } => {
                mismatch(format!("original_size is {expected}, and the payload decodes to more"))
            }
            other => {
                let problem = format!("the payload is damaged, or of another codec: {other}; fetch it again");
                of_class(py, "PayloadError", problem)
            }
        },
        Error::Checksum { expected, found, .. } => {
            mismatch(format!("crc32c is {expected:#010x}, and that of the decoded bytes {found:#010x}"))
        }
        Error::Dictionary { wanted, given, .. } => {
            let problem = format!(
                "the payload was made with zstd dictionary {wanted}, and dictionary {given} was given (0 is none): \
                 use ZstdDict with the one that `s4-dict-id` of the object's metadata names"
            );
            of_class(py, "ArgumentError", problem)
        }
        other => raised_s4(py, other),
    }
}

/// The caller says how long the data is, and the payload is asked whether it can be.
const LIMITS: ReadLimits = ReadLimits { frame_decoded_len: MAX_FRAME_LEN, frames: 1 };

/// How payloads without a dictionary are read.
static PLAIN: ReadOptions = ReadOptions { limits: LIMITS, dictionary: None };

/// Zstandard at a level of 1 to 22, as S4's codec `cpu-zstd`. Safe to use from many threads.
#[pyclass(frozen, eq, hash, module = "cvc.codecs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Zstd {
    /// The level of compression.
    #[pyo3(get)]
    level: i32,
}

#[pymethods]
impl Zstd {
    #[new]
    #[pyo3(signature = (level=None), text_signature = "(level=3)")]
    fn new(py: Python<'_>, level: Option<&Bound<'_, PyAny>>) -> PyResult<Zstd> {
        let level = self::level(py, level, 3, 1..=22)?;
        Ok(Zstd { level })
    }

    /// Compresses the bytes of any contiguous buffer. Returns the payload, the length of the data, and the crc32c of the
    /// data: what `decompress` takes.
    fn compress<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Compressed<'py>> {
        let codec = WriteCodec::Zstd { level: self.level };
        compressed(py, data, |bytes, payload| encode_payload(codec, bytes, payload))
    }

    /// The data of a payload, of exactly `original_size` bytes and with this crc32c: as new `bytes`, or in `out`, a writable
    /// buffer of that length, which is returned.
    #[pyo3(signature = (data, original_size, crc32c, *, out=None))]
    fn decompress<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        original_size: &Bound<'py, PyAny>,
        crc32c: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        decompressed(py, Codec::CpuZstd, &PLAIN, data, (original_size, crc32c), out)
    }

    fn __repr__(&self) -> String {
        format!("Zstd(level={})", self.level)
    }

    fn __getnewargs__(&self) -> (i32,) {
        (self.level,)
    }
}

/// gzip at a level of 0 to 9, as S4's codec `cpu-gzip`. Safe to use from many threads.
#[pyclass(frozen, eq, hash, module = "cvc.codecs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Gzip {
    /// The level of compression.
    #[pyo3(get)]
    level: i32,
}

#[pymethods]
impl Gzip {
    #[new]
    #[pyo3(signature = (level=None), text_signature = "(level=6)")]
    fn new(py: Python<'_>, level: Option<&Bound<'_, PyAny>>) -> PyResult<Gzip> {
        let level = self::level(py, level, 6, 0..=9)?;
        Ok(Gzip { level })
    }

    /// Compresses the bytes of any contiguous buffer. Returns the payload, the length of the data, and the crc32c of the
    /// data: what `decompress` takes.
    fn compress<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Compressed<'py>> {
        let codec = WriteCodec::Gzip { level: self.level.cast_unsigned() };
        compressed(py, data, |bytes, payload| encode_payload(codec, bytes, payload))
    }

    /// The data of a payload, of exactly `original_size` bytes and with this crc32c: as new `bytes`, or in `out`, a writable
    /// buffer of that length, which is returned.
    #[pyo3(signature = (data, original_size, crc32c, *, out=None))]
    fn decompress<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        original_size: &Bound<'py, PyAny>,
        crc32c: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        decompressed(py, Codec::CpuGzip, &PLAIN, data, (original_size, crc32c), out)
    }

    fn __repr__(&self) -> String {
        format!("Gzip(level={})", self.level)
    }

    fn __getnewargs__(&self) -> (i32,) {
        (self.level,)
    }
}

/// Zstandard with a dictionary, as S4's codec `cpu-zstd-dict`. `dict_bytes` is what `zstd --train` writes, or content
/// alone. Safe to use from many threads.
#[pyclass(frozen, module = "cvc.codecs")]
pub(crate) struct ZstdDict {
    bytes: Py<PyBytes>,
    /// The level of compression.
    #[pyo3(get)]
    level: i32,
    encode: EncodeDictionary,
    options: ReadOptions,
}

#[pymethods]
impl ZstdDict {
    #[new]
    #[pyo3(signature = (dict_bytes, level=None), text_signature = "(dict_bytes, level=3)")]
    fn new(
        py: Python<'_>,
        dict_bytes: &Bound<'_, PyAny>,
        level: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<ZstdDict> {
        let level = self::level(py, level, 3, 1..=22)?;
        let data = Data::of(dict_bytes)?;
        let bytes = data.bytes();
        let prepared = py.detach(|| Ok((EncodeDictionary::new(bytes, level)?, Dictionary::new(bytes)?)));
        let (encode, dictionary) = prepared.map_err(|error| raised_s4(py, &error))?;
        let bytes = PyBytes::new(py, bytes).unbind();
        Ok(ZstdDict {
            bytes,
            level,
            encode,
            options: ReadOptions { limits: LIMITS, dictionary: Some(dictionary) },
        })
    }

    /// The id that the dictionary names; 0 if it is content alone.
    #[getter]
    fn dict_id(&self) -> u32 {
        self.options.dictionary.as_ref().map_or(0, Dictionary::id)
    }

    /// Compresses the bytes of any contiguous buffer. Returns the payload, the length of the data, and the crc32c of the
    /// data: what `decompress` takes.
    fn compress<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Compressed<'py>> {
        compressed(py, data, |bytes, payload| encode_payload_with(&self.encode, bytes, payload))
    }

    /// The data of a payload, of exactly `original_size` bytes and with this crc32c: as new `bytes`, or in `out`, a writable
    /// buffer of that length, which is returned.
    #[pyo3(signature = (data, original_size, crc32c, *, out=None))]
    fn decompress<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        original_size: &Bound<'py, PyAny>,
        crc32c: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        decompressed(py, Codec::CpuZstdDict, &self.options, data, (original_size, crc32c), out)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let len = self.bytes.bind(py).as_bytes().len();
        format!("ZstdDict(<{len} bytes, id {}>, level={})", self.dict_id(), self.level)
    }

    fn __getnewargs__(&self, py: Python<'_>) -> (Py<PyBytes>, i32) {
        (self.bytes.clone_ref(py), self.level)
    }
}

fn level(
    py: Python<'_>,
    given: Option<&Bound<'_, PyAny>>,
    default: i32,
    known: std::ops::RangeInclusive<i32>,
) -> PyResult<i32> {
    let Some(given) = given else { return Ok(default) };
    match given.extract::<i32>() {
        Ok(level) if known.contains(&level) => Ok(level),
        Err(error) if !error.is_instance_of::<PyOverflowError>(py) => Err(error),
        _ => {
            let problem = format!("level = {given}: {} to {} are known", known.start(), known.end());
            Err(of_class(py, "ArgumentError", problem))
        }
    }
}

/// The crc32c (Castagnoli) of the bytes of any contiguous buffer, which follow others whose crc32c is `value`.
#[pyfunction]
#[pyo3(signature = (data, value=0))]
pub(crate) fn crc32c(py: Python<'_>, data: &Bound<'_, PyAny>, value: u32) -> PyResult<u32> {
    let data = Data::of(data)?;
    let bytes = data.bytes();
    Ok(if bytes.len() as u64 <= SMALL {
        cvc::s4::crc32c(bytes, value)
    } else {
        py.detach(|| cvc::s4::crc32c(bytes, value))
    })
}
