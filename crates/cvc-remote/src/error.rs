//! What can go wrong, by who is at fault.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use thiserror::Error;

/// Why a place could not be read or written. While a file is read it comes as the cause of
/// [`SourceError::Read`](cvc::codec::SourceError::Read).
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The caller's URL names no file that can be had.
    #[error("{url}: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The caller gave an option that makes no sense here.
    #[error("option {key} = {value}: {problem}")]
    Option {
        /// Its name.
        key: String,
        /// Its value, unless that is a secret.
        value: String,
        /// What would be right.
        problem: String,
    },
    /// There is no such file.
    #[error("{url}: there is no such file ({said})")]
    Missing {
        /// The URL.
        url: String,
        /// What the server said.
        said: String,
    },
    /// The server does not let the caller in.
    #[error("{url}: access is refused ({said}); give credentials, or others")]
    Refused {
        /// The URL.
        url: String,
        /// What the server said.
        said: String,
    },
    /// The server gives files only as a whole.
    #[error(
        "{url}: the server does not answer requests for ranges of bytes, so nothing can be read without all of it; \
         download the file, or serve it with another program"
    )]
    NoRanges {
        /// The URL.
        url: String,
    },
    /// The file is not the one that was opened.
    #[error("{url}: the file changed since it was opened ({what}); open it again")]
    Changed {
        /// The URL.
        url: String,
        /// What shows it.
        what: String,
    },
    /// The server's answer is not one to what was asked.
    #[error("{url}: the server's answer makes no sense: {problem}")]
    Answer {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Every try failed.
    #[error("{url}: {tries} tr{} failed, the last one because {cause}", if *tries == 1 { "y" } else { "ies" })]
    Failed {
        /// The URL.
        url: String,
        /// How many there were.
        tries: u32,
        /// What went wrong the last time.
        cause: String,
    },
    /// The store could not do it; the message says how often it was tried.
    #[error("{url}: {}", chain(&**cause))]
    Store {
        /// The URL.
        url: String,
        /// What the store or the way to it said.
        #[source]
        cause: Arc<dyn StdError + Send + Sync>,
    },
    /// This machine could not do it.
    #[error("requests could not be made: {0}")]
    System(#[source] Arc<io::Error>),
    /// A file of this machine, as `file://` names one.
    #[error(transparent)]
    Local(Arc<cvc::Error>),
}

impl RemoteError {
    /// Whether another call would have worked: a URL or an option that makes no sense, a file that is not there.
    pub fn is_usage(&self) -> bool {
        match self {
            RemoteError::Url { .. } | RemoteError::Option { .. } | RemoteError::Missing { .. } => true,
            RemoteError::Local(error) => error.is_usage(),
            _ => false,
        }
    }

    pub(crate) fn option(key: &str, value: &str, problem: impl Into<String>) -> RemoteError {
        RemoteError::Option { key: key.to_owned(), value: value.to_owned(), problem: problem.into() }
    }

    pub(crate) fn url(url: &str, problem: impl Into<String>) -> RemoteError {
        RemoteError::Url { url: url.to_owned(), problem: problem.into() }
    }

    pub(crate) fn answer(url: &str, problem: impl Into<String>) -> RemoteError {
        RemoteError::Answer { url: url.to_owned(), problem: problem.into() }
    }

    pub(crate) fn changed(url: &str, what: impl Into<String>) -> RemoteError {
        RemoteError::Changed { url: url.to_owned(), what: what.into() }
    }

    /// What a store says of the file at `url`.
    pub(crate) fn of_store(url: &str, error: object_store::Error) -> RemoteError {
        use object_store::Error as Of;
        let url = url.to_owned();
        match error {
            Of::NotFound { .. } => RemoteError::Missing { url, said: "the store knows none".into() },
            Of::Precondition { .. } => RemoteError::Changed { url, what: "its ETag is another one".into() },
            Of::PermissionDenied { .. } => RemoteError::Refused { url, said: "permission denied".into() },
            Of::Unauthenticated { .. } => RemoteError::Refused { url, said: "not authenticated".into() },
            Of::InvalidPath { source } => RemoteError::Url { url, problem: source.to_string() },
            cause => RemoteError::Store { url, cause: Arc::new(cause) },
        }
    }
}

impl From<RemoteError> for io::Error {
    fn from(error: RemoteError) -> Self {
        let kind = match &error {
            RemoteError::Missing { .. } => io::ErrorKind::NotFound,
            RemoteError::Url { .. } | RemoteError::Option { .. } => io::ErrorKind::InvalidInput,
            RemoteError::Refused { .. } => io::ErrorKind::PermissionDenied,
            RemoteError::Local(error) => match &**error {
                cvc::Error::Io { cause, .. } => cause.kind(),
                _ => io::ErrorKind::Other,
            },
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// An error with all of its causes, which says more than the last of them.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !said.ends_with(&more) {
            said += ": ";
            said += &more;
        }
        cause = error.source();
    }
    said
}
