//! Exact search over encoded rows: the best rows of a file for some queries, without a server and without decoding the file.
//!
//! ```
//! use cvc::{DType, Layout, Reader, RowSlice, WriteOptions, Writer};
//! use cvc_search::{Metric, Search};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("vectors.cvc");
//! let values: Vec<f32> = (0..64_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5).collect();
//! let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 64, "int8")?;
//! let mut writer = Writer::create(&path, options)?;
//! writer.write_vectors(RowSlice::new(&values, 64)?)?;
//! writer.finish()?;
//!
//! let reader = Reader::open(&path)?;
//! let queries = RowSlice::new(&values[640..768], 64)?; // rows 10 and 11
//! let answer = Search::new(reader.vectors()?, Metric::Cosine).k(3).run(queries)?;
//! assert_eq!((answer.hits[0][0].row, answer.hits[1][0].row), (10, 11));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//! queries ─▶ Search ─▶ Array::scan ─▶ backend: a bound for every row from its codes ─▶ exact scores of the few that may do ─▶ top k
//!              └ rescore: the candidates that one array names get exact scores from another of the same file
//! ```
//!
//! # What exact means
//!
//! The score of a row is defined by [`Metric::score`] on its decoded values, in f64 and a fixed order, rounded once to f32; of equal scores the lower
//! row comes first; rows with NaN never win and are counted. So an answer does not depend on the device, its instructions or the number of threads.
//! What a codec lost is lost: the scores are those of the rows as they are read back. [`Search::rescore`] is the one thing here that is approximate,
//! and it is asked for by name.
//!
//! # Features
//!
//! - `rayon`: searches on all cores.
//! - `wgpu`, `cuda`: as those of `cvc`.
#![forbid(unsafe_code)]

mod error;
pub mod ladder;
pub mod recall;
mod search;

pub use cvc::codec::scan::{Hit, Metric, Queries, QueryError, UnknownMetric};
pub use error::Error;
pub use search::{Answer, Search, Table, first_values, scores_of};
