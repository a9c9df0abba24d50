//! What can go wrong.

use cvc::codec::Unsupported;
use cvc::codec::scan::QueryError;
use thiserror::Error;

use crate::recall::TruthError;

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, the rows, or the device.
    #[error(transparent)]
    Read(#[from] cvc::Error),
    /// The queries make no sense.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Two arrays that do not speak of the same rows.
    #[error(
        "array {rescore:?} has {rescore_rows} rows of {rescore_dim} values, array {array:?} {rows} rows of {dim}: candidates of one can be \
         rescored by another only if both hold the same vectors"
    )]
    Rescore {
        /// The array that names candidates.
        array: String,
        /// Its rows.
        rows: u64,
        /// Its values of a row.
        dim: u32,
        /// The array that rescores.
        rescore: String,
        /// Its rows.
        rescore_rows: u64,
        /// Its values of a row.
        rescore_dim: u32,
    },
    /// The caller said not to go on.
    #[error("the search was stopped before its end")]
    Stopped,
    /// More answers than can be held.
    #[error("{k} rows for each of {queries} queries are more than fit in memory: ask for fewer of either")]
    Answers {
        /// How many queries.
        queries: usize,
        /// Rows wanted for each.
        k: usize,
    },
    /// Too little to measure on.
    #[error("recall cannot be measured on {rows} rows and {queries} queries: choose a codec by name")]
    Sample {
        /// Rows that would be searched.
        rows: usize,
        /// Queries.
        queries: usize,
    },
    /// What is said to be true makes no sense.
    #[error(transparent)]
    Truth(#[from] TruthError),
}

impl Error {
    /// Whether the call was wrong, rather than the file or the system.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Read(error) => error.is_usage(),
            Error::Query(_)
            | Error::Rescore { .. }
            | Error::Answers { .. }
            | Error::Sample { .. }
            | Error::Truth(_) => true,
            Error::Stopped => false,
        }
    }

    /// What the device cannot do, if that is what is wrong: another one may.
    pub fn unsupported(&self) -> Option<&Unsupported> {
        match self {
            Error::Read(error) => error.unsupported(),
            _ => None,
        }
    }
}
