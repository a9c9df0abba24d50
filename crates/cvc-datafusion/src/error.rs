//! What can go wrong, by who is at fault.

use arrow::error::ArrowError;
use cvc_remote::RemoteError;
use cvc_remote::manifest::ManifestError;
use datafusion_common::DataFusionError;

/// Why files are no table, or cannot be read as one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file to take the columns of.
    #[error("no files: a table is made of one at least")]
    NoFiles,
    /// The caller's options make no sense.
    #[error("{option}: {problem}")]
    Option {
        /// What was given.
        option: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A file of this machine cannot be opened; the cause names it.
    #[error(transparent)]
    Local(Box<cvc::Error>),
    /// A file cannot be had from where it is.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A list of files cannot be had.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What a file says cannot be used, or its rows cannot be read.
    #[error("{uri}: {cause}")]
    File {
        /// Its path, or its URL without what may be a secret.
        uri: String,
        /// What is wrong with it.
        #[source]
        cause: Box<cvc::Error>,
    },
    /// The file is not the one that a manifest speaks of.
    #[error("{uri} is not the file of its manifest: it is {found}, and was {expected}")]
    Changed {
        /// Its path or URL.
        uri: String,
        /// What identifies it.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// Its arrays are no columns of one table.
    #[error("{uri}: {cause}")]
    Table {
        /// The path or URL of the file.
        uri: String,
        /// Why.
        #[source]
        cause: Box<cvc_arrow::Error>,
    },
    /// Sections say nothing of an array that is not as long as the first.
    #[error(
        "{uri}: sections speak of the first array and those of its length: leave `conditions` out for others"
    )]
    NotOfSections {
        /// The path or URL of the file.
        uri: String,
    },
    /// Files of a table have the same columns.
    #[error(
        "{uri} has other columns than {first}: make tables of their own, or name the arrays that they have in common\n  \
         {uri}: {there}\n  {first}: {here}"
    )]
    Differs {
        /// The path or URL of a file.
        uri: String,
        /// Its columns.
        there: String,
        /// That of the first.
        first: String,
        /// The columns of that.
        here: String,
    },
    /// Rows of a file cannot be passed to DataFusion.
    #[error("{uri}: {cause}")]
    Arrow {
        /// The path or URL of the file.
        uri: String,
        /// Why.
        #[source]
        cause: ArrowError,
    },
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
