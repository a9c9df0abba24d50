//! What a `.cvc` file holds and what encoding did to it: measured, and drawn on one HTML page that needs nothing else.
//!
//! Most users want the program: `cvc report FILE -o report.html`. This crate is for those who want the figures in Rust, or the page
//! without the program.
//!
//! ```
//! use cvc::{DType, Layout, Reader, RowSlice, WriteOptions, Writer};
//! use cvc_report::{Report, ReportOptions};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("vectors.cvc");
//! let values: Vec<f32> = (0..64_000u16).map(|n| f32::from(n % 997) / 997.0 - 0.5).collect();
//! let mut writer = Writer::create(&path, WriteOptions::new(Layout::Native).vectors(DType::F32, 64, "int8")?)?;
//! writer.write_vectors(RowSlice::new(&values, 64)?)?;
//! writer.finish()?;
//!
//! let report = Report::measure(&Reader::open(&path)?, &ReportOptions::default())?;
//! let array = &report.arrays[0];
//! assert_eq!((array.rows, array.stored_loss.unwrap().max_abs_error < 0.01), (1000, true));
//! let page: String = report.to_html();
//! assert!(page.starts_with("<!DOCTYPE html>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//! Reader ─▶ what the index says ────────────────────────────────────┐
//!    └────▶ windows of rows as f64 ─▶ first pass: counts, extremes  ├─▶ Report ─▶ to_html, to_json
//! originals ────▶ the same rows ──┘ ─▶ second pass: bins, variances │
//!    └──────────────────────────────▶ recall on a sample ───────────┘
//! ```
//!
//! Every figure is over all rows, and exact but for rounding to f64; only recall is measured on a sample, whose rows the seed
//! decides. Rows are read a window at a time, twice, so memory does not grow with their number. The same file and options give
//! the same report and the same page, byte for byte: there is no clock in it and no place on a machine.
//!
//! # Features
//!
//! - `rayon`: decodes on all cores.
#![forbid(unsafe_code)]

mod dims;
mod facts;
mod histogram;
mod html;
mod json;
mod loss;
mod measure;
mod recall;
mod rows;
mod sample;
mod sections;
mod strings;

use cvc::input::Matrix;
use cvc::{Error, Json, Reader};

pub use dims::Dim;
pub use facts::{ArrayReport, ChunkReport, Content, FileFacts};
pub use histogram::Histogram;
pub use loss::{ErrorReport, MeasuredLoss};
pub use measure::{Side, ValuesReport};
pub use recall::{NEIGHBOURS, Recall, RecallOf};
pub use sections::{SectionMap, SectionReport};
pub use strings::StringsReport;

/// What to measure, and against what.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReportOptions {
    /// What the page is about: a file's name. It is shown and has no other meaning.
    pub title: String,
    /// The only array to look into. By default all are, and the originals are those of the array named `vectors`.
    pub array: Option<String>,
    /// What was packed: matrices whose rows, one matrix after the other, are those of the array.
    pub originals: Vec<Original>,
    /// Rows that are queries when recall is measured; 0 to measure none.
    pub sample: u64,
    /// What decides which rows these are.
    pub seed: u64,
    /// The metadata key that colours the map of the sections. By default the one that most sections have.
    pub by: Option<String>,
}

impl Default for ReportOptions {
    fn default() -> Self {
        ReportOptions {
            title: "cvc file".into(),
            array: None,
            originals: Vec::new(),
            sample: 100,
            seed: 0,
            by: None,
        }
    }
}

/// A matrix that was packed.
#[derive(Debug)]
pub struct Original {
    /// What it is called on the page.
    pub name: String,
    /// Its rows.
    pub matrix: Matrix,
}

/// What was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What the page is about.
    pub title: String,
    /// What is known of the file as a whole.
    pub file: FileFacts,
    /// The arrays, in file order.
    pub arrays: Vec<ArrayReport>,
    /// Which rows the sections are about, if there are any.
    pub sections: Option<SectionMap>,
    /// How the report was made.
    pub made: Made,
}

/// What a report was made with and from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Made {
    /// The version of cvc.
    pub version: &'static str,
    /// The only array that was looked into, if one was named.
    pub array: Option<String>,
    /// What the originals are called.
    pub originals: Vec<String>,
    /// Queries that were asked for.
    pub sample: u64,
    /// What decided which rows they are.
    pub seed: u64,
    /// The metadata key that was asked for.
    pub by: Option<String>,
}

impl Report {
    /// Looks at every row of the file, and measures.
    ///
    /// An array that this version cannot read is described and left out, unless it was asked for by name.
    ///
    /// # Errors
    /// The file is damaged or cannot be read, there is no such array or metadata key, or the originals are not what was packed:
    /// another shape, complex instead of real numbers, strings. An argument is named as the field of [`ReportOptions`], but
    /// `against` for the originals.
    pub fn measure(reader: &Reader, options: &ReportOptions) -> Result<Report, Error> {
        let sections = sections::measure(reader, options.by.as_deref())?;
        let arrays = measure::arrays(reader, options)?;
        Ok(Report {
            title: options.title.clone(),
            file: facts::file(reader),
            arrays,
            sections,
            made: Made {
                version: env!("CARGO_PKG_VERSION"),
                array: options.array.clone(),
                originals: options.originals.iter().map(|original| original.name.clone()).collect(),
                sample: options.sample,
                seed: options.seed,
                by: options.by.clone(),
            },
        })
    }

    /// The page: HTML with everything in it, that loads nothing, runs nothing, and is light or dark as the reader's system is.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// The figures, for other programs. Numbers that JSON does not have are written as Python does (`Infinity`).
    pub fn to_json(&self) -> Json {
        json::report(self)
    }
}

/// A wrong argument.
fn wrong(argument: &'static str, value: impl ToString, problem: impl Into<String>) -> Error {
    Error::Argument { argument, value: value.to_string(), problem: problem.into() }
}
