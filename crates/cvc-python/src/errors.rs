//! What went wrong, as exceptions of `cvc._errors`: one class for each culprit.

use std::io;

use cvc::codec::SourceError;
use cvc::codec::{CodecError, DecodeError, PlanError};
use cvc::{Error, s4};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::fork::at_home;

/// The exception for `error`.
pub(crate) fn raised(py: Python<'_>, error: Error) -> PyErr {
    match exception(py, &error) {
        Ok(exception) => PyErr::from_value(exception),
        // Only if the package is broken; the message must not be lost.
        Err(problem) => {
            PyOSError::new_err(format!("{error} (and its exception could not be made: {problem})"))
        }
    }
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let message = error.to_string();
    let errors = py.import("cvc._errors")?;
    if let Some((cause, path)) = io_cause(error) {
        let kind = format!("{:?}", cause.kind());
        return errors.call_method1("of_system", (kind, cause.raw_os_error(), message, path));
    }
    errors.getattr(class(error))?.call1((message,))
}

fn io_cause(error: &Error) -> Option<(&io::Error, Option<String>)> {
    match error {
        Error::Io { path, cause, .. } => Some((cause, Some(path.display().to_string()))),
        Error::Output(cause) | Error::Spool(cause) => Some((cause, None)),
        _ => None,
    }
}

/// The name of the class in `cvc._errors`.
fn class(error: &Error) -> &'static str {
    match error {
        Error::Source(SourceError::Read { .. }) => "SourceError",
        Error::Decode { error: DecodeError::Source { error: SourceError::Read { .. }, .. }, .. } => {
            "SourceError"
        }
        Error::Source(_) | Error::Head { .. } => "CorruptedChunkError",
        Error::Chunk {
            error: CodecError::Plan(PlanError::Output { .. } | PlanError::Prefix { .. }), ..
        } => "ArgumentError",
        Error::Chunk { error: CodecError::Unknown { .. }, .. } => "UnsupportedError",
        Error::Decode { error: DecodeError::Device { .. } | DecodeError::Unsupported(_), .. } => {
            "DeviceError"
        }
        Error::Decode { error: DecodeError::Buffer { .. }, .. } => "ArgumentError",
        Error::Chunk { .. } | Error::Decode { .. } => "CorruptedChunkError",
        Error::Encode { .. } => "EncodeError",
        Error::Format(_) if error.is_usage() => "ArgumentError",
        Error::Format(_) => "FormatError",
        Error::Newer { .. } => "UnsupportedError",
        Error::Limit { .. } => "LimitError",
        Error::Device { .. } | Error::Unsupported(_) => "DeviceError",
        Error::Argument { .. } => "ArgumentError",
        Error::Unreadable { .. } => "InternalError",
        _ if error.is_usage() => "ArgumentError",
        _ => "CvcError",
    }
}

/// Runs `work` without the interpreter.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    py.detach(|| at_home(work)).map_err(|error| raised(py, error))
}

/// Whether it is of this class of `cvc._errors`.
pub(crate) fn is_of_class(py: Python<'_>, error: &PyErr, class: &str) -> bool {
    let class = py.import("cvc._errors").and_then(|errors| errors.getattr(class));
    class.is_ok_and(|class| error.is_instance(py, &class))
}

/// The exception of this class of `cvc._errors`.
pub(crate) fn of_class(py: Python<'_>, class: &str, message: String) -> PyErr {
    let exception = || py.import("cvc._errors")?.getattr(class)?.call1((message,));
    exception().map_or_else(|error| error, PyErr::from_value)
}

/// The exception for what went wrong with an S4 body, sidecar or payload.
pub(crate) fn raised_s4(py: Python<'_>, error: &s4::Error) -> PyErr {
    use s4::Error as E;

    let class = match error {
        E::Source(SourceError::Read { .. }) => "SourceError",
        E::Output(_) => "SystemFailure",
        E::UnknownCodec { .. } | E::Unsupported { .. } | E::Encrypted { .. } => "UnsupportedError",
        E::NoDictionary { .. } | E::Dictionary { .. } | E::Unbound | E::Argument { .. } => "ArgumentError",
        E::Limit { .. } | E::Memory { .. } => "LimitError",
        E::Payload { .. } | E::Checksum { .. } => "PayloadError",
        E::Encode { .. } => "InternalError",
        // A body or a sidecar that is not one, was cut, or is not that of the other.
        _ => "FormatError",
    };
    of_class(py, class, in_python(error))
}

/// The message, with what the caller can do as it is called here.
fn in_python(error: &s4::Error) -> String {
    let said = error.to_string();
    [
        ("`ReadOptions::dictionary`", "`dictionary`"),
        ("`ReadLimits::frame_decoded_len`", "`max_frame_bytes`"),
        ("`Index::unbound`", "`unbound=True`"),
        ("`Index::parse`", "`cvc.s4.Index.parse`"),
        ("`decode_payload`", "`cvc.codecs`"),
    ]
    .into_iter()
    .fold(said, |said, (rust, python)| said.replace(rust, python))
}

/// The exception for what a store says.
pub(crate) fn raised_by_store(py: Python<'_>, error: cvc_store::Error) -> PyErr {
    let made = py.import("cvc._errors").and_then(|errors| store_exception(&errors, &error));
    made.map_or_else(|_| PyOSError::new_err(error.to_string()), PyErr::from_value)
}

fn store_exception<'py>(
    errors: &Bound<'py, PyModule>,
    error: &cvc_store::Error,
) -> PyResult<Bound<'py, PyAny>> {
    use cvc_store::Error as Of;
    let class = match error {
        Of::Io { path, cause, .. } => {
            let of = (
                format!("{:?}", cause.kind()),
                cause.raw_os_error(),
                error.to_string(),
                Some(path.display().to_string()),
            );
            return errors.call_method1("of_system", of);
        }
        Of::NotAStore { path, .. } | Of::NoJournal { path, .. } => {
            let of = ("NotFound", None::<i32>, error.to_string(), Some(path.display().to_string()));
            return errors.call_method1("of_system", of);
        }
        Of::Exists { path } => {
            let of = ("AlreadyExists", None::<i32>, error.to_string(), Some(path.display().to_string()));
            return errors.call_method1("of_system", of);
        }
        Of::Locked { .. } | Of::Forked { .. } => "LockedError",
        Of::Damaged { .. } | Of::Import { .. } => "FormatError",
        Of::Newer { .. } => "UnsupportedError",
        Of::Segment { error, .. } | Of::Rows { error, .. } => class(error),
        Of::NoArray { .. } => "NoSuchArrayError",
        Of::Conflict { .. } => "ConflictError",
        Of::Argument { argument: "row" | "rows" | "mask", .. } => "RowError",
        Of::Unknown => "SystemFailure",
        _ => "ArgumentError",
    };
    errors.getattr(class)?.call1((error.to_string(),))
}

/// The exception for what a search says.
pub(crate) fn raised_by_search(py: Python<'_>, error: cvc_search::Error) -> PyErr {
    match error {
        cvc_search::Error::Read(error) => raised(py, error),
        error if error.is_usage() => of_class(py, "ArgumentError", error.to_string()),
        error => of_class(py, "CvcError", error.to_string()),
    }
}

/// Runs `work` on a store without the interpreter.
pub(crate) fn detached_store<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, cvc_store::Error> + Send,
) -> PyResult<T> {
    py.detach(|| at_home(work)).map_err(|error| raised_by_store(py, error))
}
