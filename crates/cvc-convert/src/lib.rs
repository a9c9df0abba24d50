//! Files of vectors in other formats to `.cvc` files, and back: a batch at a time, with the names, the order and the dtypes
//! of columns, and what is said beside them.
//!
//! ```
//! use cvc_convert::{Options, convert};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (source, target) = (folder.path().join("a.fvecs"), folder.path().join("a.cvc"));
//! # std::fs::write(&source, [2i32.to_le_bytes(), 1f32.to_le_bytes(), 2f32.to_le_bytes()].as_flattened())?;
//! let done = convert(&source, &target, &Options::default(), &mut |_, _| Ok(()))?;
//! assert_eq!((done.rows, done.arrays), (1, vec!["vectors".to_owned()]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//!  .parquet .arrow ─▶ record batches ─┐                  ┌─▶ Runs ─▶ sections
//!  .csv .tsv ─▶ records ──────────────┼─▶ Input ─▶ Batch ┴─▶ arrays ─▶ Writer ─▶ .cvc
//!  .npy .npz .fvecs .safetensors ─────┘
//!  .cvc ─▶ Reader ─▶ Plan ─▶ Batch, labels repeated ─▶ Output ─▶ temporary sibling ─▶ rename
//! ```
//!
//! # Features
//!
//! Matrices are always there. `parquet`, `ipc`, `csv`, `safetensors` and `numpack` each add a format; `arrow` alone adds none, but
//! takes and gives record batches, for those who have files read by others. `rayon` uses all cores.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(
        feature = "csv",
        feature = "ipc",
        feature = "numpack",
        feature = "parquet",
        feature = "safetensors"
    )),
    allow(dead_code, unused_variables, reason = "some parts are for formats that this build leaves out")
)]

mod arrays;
#[cfg(feature = "arrow")]
pub mod arrow;
#[cfg(feature = "csv")]
mod csv;
mod error;
mod from_cvc;
#[cfg(any(feature = "ipc", feature = "parquet"))]
mod guarded;
mod into_cvc;
#[cfg(feature = "ipc")]
mod ipc;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "safetensors")]
mod safetensors;
mod said;
mod table;

use std::path::Path;
use std::sync::Arc;

use cvc::io::FileSource;
use cvc::{DType, Json, NonFinite, Overwrite, ReadOptions, Reader, Scope};

use crate::from_cvc::{Plan, Shape};
use crate::table::{Input, Output};

pub use error::Error;

/// What to do, beside what the two names say.
#[derive(Clone, Debug)]
pub struct Options {
    /// The codec of an array of this name, or of all matrices of floats that have none of their own. By default nothing is lost:
    /// values are stored raw, strings as zstd.
    pub codecs: Vec<(Option<String>, String)>,
    /// The codec of matrices of floats for which none is given.
    pub float_codec: Option<String>,
    /// The columns of a table of which runs of equal values become sections. If empty, those that the table itself says are
    /// labels, which it does if it was written here.
    pub sections_from: Vec<String>,
    /// Which columns to take, by their names. If left out, all.
    pub columns: Option<Vec<String>>,
    /// The columns of a text file that together make the array `vectors`: names with `*` for any characters.
    pub vectors: Option<String>,
    /// What numbers of matrices in a text file become. If left out, f32.
    pub text_dtype: Option<DType>,
    /// The columns of a text file that hold strings, whatever they look like.
    pub strings: Vec<String>,
    /// Rows in a chunk of the `.cvc` file.
    pub chunk_rows: Option<u32>,
    /// Which values share a range in codec int8.
    pub scope: Option<Scope>,
    /// What becomes of values that the codec cannot represent.
    pub nonfinite: Option<NonFinite>,
    /// Something more to say of the `.cvc` file.
    pub metadata: Vec<(String, Json)>,
    /// Whether a file of the output's name may be replaced; by default it may.
    pub overwrite: Overwrite,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            codecs: Vec::new(),
            float_codec: None,
            sections_from: Vec::new(),
            columns: None,
            vectors: None,
            text_dtype: None,
            strings: Vec::new(),
            chunk_rows: None,
            scope: None,
            nonfinite: None,
            metadata: Vec::new(),
            overwrite: Overwrite::Allow,
        }
    }
}

/// What is told how many rows are done, and how many there are if that is known. An error from it stops the work.
pub type Progress<'p> = dyn FnMut(u64, Option<u64>) -> Result<(), Error> + 'p;

/// What was converted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Rows of the table, or of the first array.
    pub rows: u64,
    /// The arrays.
    pub arrays: Vec<String>,
    /// Sections: made of labels, or written as labels or beside the arrays.
    pub sections: usize,
    /// Bytes of the new file.
    pub file_len: u64,
    /// What the new file has no place for, each with the reason.
    pub not_kept: Vec<String>,
}

/// A kind of file, known by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `.cvc`
    Cvc,
    /// `.npy`, `.npz`, `.fvecs`, `.bvecs`, `.ivecs`
    Matrix,
    /// `.safetensors`
    Safetensors,
    /// `.parquet`, `.pq`
    Parquet,
    /// `.arrow`, `.feather`, `.ipc`
    Ipc,
    /// `.csv`, `.tsv`
    Text,
    /// A directory of NumPack, or `.npkg`.
    NumPack,
    /// `.h5`, `.hdf5`, `.zarr`, `.pt`, `.pth`: formats that only the Python package reads and writes.
    Python,
}

impl Format {
    /// What the file is by its extension, if that is known. A directory without a known extension may be one of NumPack.
    pub fn of(path: &Path) -> Option<Format> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        Some(match extension.as_deref() {
            Some("cvc") => Format::Cvc,
            Some("npy" | "npz" | "fvecs" | "bvecs" | "ivecs") => Format::Matrix,
            Some("safetensors") => Format::Safetensors,
            Some("parquet" | "pq") => Format::Parquet,
            Some("arrow" | "feather" | "ipc") => Format::Ipc,
            Some("csv" | "tsv") => Format::Text,
            Some("h5" | "hdf5" | "zarr" | "pt" | "pth") => Format::Python,
            Some("npkg") => Format::NumPack,
            _ if path.join("metadata.npkm").is_file() => Format::NumPack,
            _ => return None,
        })
    }
}

const KNOWN: &str = ".cvc, .npy, .npz, .fvecs, .bvecs, .ivecs, .safetensors, .parquet, .arrow, .feather, .csv, .tsv, or a \
                     directory of NumPack";

/// Converts a file to a `.cvc` file, or a `.cvc` file to another, as the extensions say. The output appears whole or not at all.
///
/// # Errors
/// Neither or both are `.cvc` files, the other format is not known or not among the features, the input is damaged, one of the two
/// cannot hold what the other has, or the system refuses.
pub fn convert(
    source: &Path,
    target: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    let unknown =
        |path: &Path| Error::kind(path, format!("its name says nothing of what it holds; known are {KNOWN}"));
    let from = Format::of(source).ok_or_else(|| unknown(source))?;
    let to = Format::of(target).ok_or_else(|| unknown(target))?;
    match (from, to) {
        (Format::Cvc, Format::Cvc) => {
            let problem =
                "both files are .cvc files; `cvc upgrade` changes the layout of one, `cvc pack` its codec";
            Err(Error::kind(target, problem))
        }
        (Format::Python, _) => Err(python(source)),
        (_, Format::Python) => Err(python(target)),
        (from, Format::Cvc) => {
            let mut input = open(from, source, target, options)?;
            into_cvc::write(&mut *input, target, options, progress)
        }
        (Format::Cvc, to) => {
            let reader = Reader::new(Box::new(FileSource::open(source)?), ReadOptions::default())
                .map_err(|error| of_file(source, error))?;
            from_cvc(Arc::new(reader), to, target, options, progress).map_err(|error| match error {
                Error::Cvc(error) => of_file(source, error),
                other => other,
            })
        }
        _ => Err(Error::kind(
            target,
            "neither of the two is a .cvc file; convert to one first, and from there",
        )),
    }
}

/// An error of the library under the name of the file that it speaks of.
fn of_file(path: &Path, error: cvc::Error) -> Error {
    match error {
        error @ (cvc::Error::Argument { .. } | cvc::Error::Output(_) | cvc::Error::Io { .. }) => {
            Error::Cvc(error)
        }
        error => Error::damaged(path, error.to_string()),
    }
}

fn python(path: &Path) -> Error {
    let problem = "this format is read and written in Python only: pip install cvc-vectors, then cvc.convert(source, target)";
    Error::kind(path, problem)
}

/// What a build without a feature says.
#[allow(dead_code, reason = "every feature may be on")]
fn not_built(path: &Path, feature: &str) -> Error {
    Error::kind(
        path,
        format!("this program was built without the feature {feature:?} of cvc-convert; build it with that"),
    )
}

/// Refuses what was given of options that say nothing here.
fn refuse<const N: usize>(given: [(&'static str, Option<String>); N], problem: &str) -> Result<(), Error> {
    match given.into_iter().find_map(|(name, value)| Some((name, value?))) {
        Some((name, value)) => Err(Error::argument(name, value, problem)),
        None => Ok(()),
    }
}

/// What was given of the options about text files that are read.
fn of_text(options: &Options) -> [(&'static str, Option<String>); 3] {
    [
        ("vectors", options.vectors.clone()),
        ("strings", options.strings.first().cloned()),
        ("text dtype", options.text_dtype.map(|dtype| dtype.to_string())),
    ]
}

fn open(from: Format, source: &Path, target: &Path, options: &Options) -> Result<Box<dyn Input>, Error> {
    if from != Format::Text {
        refuse(of_text(options), "it is about reading .csv and .tsv files; leave it out")?;
    }
    let is_table = matches!(from, Format::Parquet | Format::Ipc | Format::Text);
    if let (false, Some(label)) = (is_table, options.sections_from.first()) {
        let problem = "only tables have such columns: .parquet, .arrow, .feather, .csv, .tsv";
        return Err(Error::argument("sections from", label, problem));
    }
    Ok(match from {
        Format::Matrix => Box::new(arrays::open_matrices(source, target, options)?),
        #[cfg(feature = "safetensors")]
        Format::Safetensors => Box::new(safetensors::open(source, options)?),
        #[cfg(not(feature = "safetensors"))]
        Format::Safetensors => return Err(not_built(source, "safetensors")),
        #[cfg(feature = "parquet")]
        Format::Parquet => Box::new(parquet::open(source, options)?),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => return Err(not_built(source, "parquet")),
        #[cfg(feature = "ipc")]
        Format::Ipc => Box::new(ipc::open(source, options)?),
        #[cfg(not(feature = "ipc"))]
        Format::Ipc => return Err(not_built(source, "ipc")),
        #[cfg(feature = "csv")]
        Format::Text => Box::new(csv::open(source, options)?),
        #[cfg(not(feature = "csv"))]
        Format::Text => return Err(not_built(source, "csv")),
        #[cfg(feature = "numpack")]
        Format::NumPack => Box::new(arrays::open_numpack(source, target, options)?),
        #[cfg(not(feature = "numpack"))]
        Format::NumPack => return Err(not_built(source, "numpack")),
        Format::Cvc | Format::Python => unreachable!("the caller has sorted these out"),
    })
}

fn from_cvc(
    reader: Arc<Reader>,
    to: Format,
    target: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    let only = options.columns.as_deref();
    let into_only = [
        ("codec", options.codecs.first().map(|(_, codec)| codec.clone()).or(options.float_codec.clone())),
        ("sections from", options.sections_from.first().cloned()),
        ("chunk rows", options.chunk_rows.map(|rows| rows.to_string())),
        ("scope", options.scope.map(|scope| format!("{scope:?}").to_lowercase())),
        ("nonfinite", options.nonfinite.map(|nonfinite| format!("{nonfinite:?}").to_lowercase())),
        ("metadata", options.metadata.first().map(|(key, _)| key.clone())),
    ];
    refuse(into_only, "it is about making a .cvc file; leave it out")?;
    refuse(of_text(options), "it is about reading .csv and .tsv files; leave it out")?;
    match to {
        Format::Matrix | Format::Safetensors => {
            let plan = Plan::new(reader, only, Shape::Arrays)?;
            match to {
                #[cfg(feature = "safetensors")]
                Format::Safetensors => safetensors::write(&plan, target, options, progress),
                #[cfg(not(feature = "safetensors"))]
                Format::Safetensors => Err(not_built(target, "safetensors")),
                _ => arrays::write_matrices(&plan, target, options, progress),
            }
        }
        Format::Parquet | Format::Ipc | Format::Text => {
            let plan = Plan::new(reader, only, Shape::Table)?;
            let mut not_kept = plan.not_kept.clone();
            let output = create(to, &plan, target, options, &mut not_kept)?;
            write_table(&plan, output, not_kept, progress)
        }
        Format::NumPack => Err(Error::kind(target, "NumPack is only read; write an .npz, or make a store")),
        Format::Cvc | Format::Python => unreachable!("the caller has sorted these out"),
    }
}

/// Begins a table of this format. What it has no place for is added to `not_kept`.
fn create(
    to: Format,
    plan: &Plan,
    target: &Path,
    options: &Options,
    not_kept: &mut Vec<String>,
) -> Result<Box<dyn Output>, Error> {
    match to {
        #[cfg(feature = "parquet")]
        Format::Parquet => Ok(Box::new(parquet::create(plan, target, options, not_kept)?)),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => Err(not_built(target, "parquet")),
        #[cfg(feature = "ipc")]
        Format::Ipc => Ok(Box::new(ipc::create(plan, target, options, not_kept)?)),
        #[cfg(not(feature = "ipc"))]
        Format::Ipc => Err(not_built(target, "ipc")),
        #[cfg(feature = "csv")]
        Format::Text => Ok(Box::new(csv::create(plan, target, options, not_kept)?)),
        #[cfg(not(feature = "csv"))]
        Format::Text => Err(not_built(target, "csv")),
        _ => unreachable!("the caller has sorted these out"),
    }
}

fn write_table(
    plan: &Plan,
    mut output: Box<dyn Output>,
    not_kept: Vec<String>,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    progress(0, Some(plan.rows))?;
    for rows in plan.windows() {
        let end = rows.end;
        output.write(plan.read(rows)?)?;
        progress(end, Some(plan.rows))?;
    }
    let arrays =
        plan.columns.iter().filter(|column| !column.is_label()).map(|column| column.name.clone()).collect();
    let file_len = output.finish()?;
    Ok(Converted { rows: plan.rows, arrays, sections: plan.label_sections(), file_len, not_kept })
}
