//! What can be asked for.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use cvc::{Condition, DType, DeviceChoice, Json, Layout, NonFinite, OnDamage, Scope};
use cvc_search::Metric;

use crate::remote::RemoteArgs;
use crate::report::{Failure, wrong};
use crate::store::StoreArgs;

/// Packs embeddings into a compact file and gives back exactly the rows asked for.
#[derive(Debug, Parser)]
#[command(
    name = "cvc",
    version,
    max_term_width = 100,
    after_help = "\
Exit status: 0 done, 1 the file is damaged or the work failed, 2 the call is wrong.

Example:
  cvc pack vectors.npy -o vectors.cvc
  cvc info vectors.cvc
  cvc verify vectors.cvc
  cvc search vectors.cvc queries.npy -k 10
  cvc unpack vectors.cvc -o back.npy --rows 0..1000"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Pack(PackArgs),
    Convert(ConvertArgs),
    Unpack(UnpackArgs),
    Info(InfoArgs),
    Verify(VerifyArgs),
    Report(ReportArgs),
    Repair(RepairArgs),
    Upgrade(UpgradeArgs),
    Search(SearchArgs),
    Recall(RecallArgs),
    Devices(DevicesArgs),
    Store(StoreArgs),
}

/// Pack .npy, .npz, .fvecs, .bvecs or .ivecs files, or a table or other file as `cvc convert` reads it, into one .cvc file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cvc pack vectors.npy -o vectors.cvc --codec int8
  cvc pack wiki.npy@source=wiki arxiv.npy@source=arxiv,year=2024 -o all.cvc
  cvc pack vectors.npy -o vectors.cvc --sections sections.json
  cvc pack vectors.npy -o vectors.cvc --target-recall 0.99
  cvc pack vectors.npy -o all.cvc --add ids=ids.txt --add labels=labels.npy --codec labels=zstd
  cvc pack vectors.npy -o vectors.cvc --provenance model=all-MiniLM-L6-v2
  cvc pack table.parquet -o all.cvc --sections-from source

A sections file: [{\"start\": 0, \"count\": 100, \"metadata\": {\"source\": \"wiki\"}}, ...]")]
pub(crate) struct PackArgs {
    /// A matrix; its rows follow those of the input before it. With @key=value,... they become a section with that
    /// metadata; a value is JSON if it parses, else a string.
    #[arg(required = true, value_name = "INPUT[@KEY=VALUE,...]")]
    pub(crate) inputs: Vec<OsString>,
    /// The file to write, or of matrices its URL in a store (s3, gs, az). It appears whole or not at all, and replaces one of that name.
    #[arg(short, long, value_name = "OUT.cvc")]
    pub(crate) output: PathBuf,
    /// How to encode the inputs: raw, fp16, bf16, int8, int4, bit1, zstd, gzip, lossless (layout native); fp16, int8 (v0, v1, v2),
    /// lossless (v1), none (v2). By default fp16 for floats, and raw for anything else (v2: none; v0, v1: fp16).
    /// ARRAY=CODEC is for an array of --add, which is stored exactly unless that says otherwise.
    #[arg(long, value_name = "[ARRAY=]CODEC", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) codec: Vec<String>,
    /// The layout to write: native, or one that the Python package decompressed reads: v0 (0.1.0), v1 (2.x), v2 (2.x
    /// columns).
    #[arg(long, value_enum, default_value_t = LayoutArg::Native)]
    pub(crate) layout: LayoutArg,
    /// Choose the cheapest codec of the inputs (int4, int8, fp16, lossless, raw) by which a search finds this share of the ten nearest
    /// rows, from 0 to 1, measured on a sample of the inputs. What was measured is printed.
    #[arg(long, value_name = "SHARE", value_parser = recall_share, conflicts_with = "scope")]
    pub(crate) target_recall: Option<f64>,
    /// Queries to measure with, as `cvc search` takes them. By default some rows of the sample are held out.
    #[arg(long, value_name = "FILE", requires = "target_recall")]
    pub(crate) queries: Option<PathBuf>,
    /// What near means when recall is measured: cosine (the default), dot, l2, ..., as `cvc search` has them.
    #[arg(long, value_name = "METRIC", requires = "target_recall")]
    pub(crate) metric: Option<Metric>,
    /// Which values share a range in codec int8: those of a row (the default), of a dim or of a chunk.
    #[arg(long, value_enum)]
    pub(crate) scope: Option<ScopeArg>,
    /// What becomes of values that the codec cannot represent (NaN and infinities for int8, int4 and bit1, overflow for fp16): by
    /// default they are refused.
    #[arg(long, value_enum)]
    pub(crate) nonfinite: Option<NonFiniteArg>,
    /// Rows in a chunk. By default as many as decode to 16 MiB.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunk_rows: Option<u32>,
    /// Rows in a block of the inputs' array, the least that is read and checked at a time. By default as many as make
    /// 4 KiB, or 16 KiB for zstd and gzip.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) block_rows: Option<u32>,
    /// Sections for the rows of all inputs together: a JSON list of {"start", "count", "metadata"}.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) sections: Option<PathBuf>,
    /// Make sections of runs of equal values in this column of the input, which is a .parquet, .arrow, .feather, .csv or .tsv file.
    #[arg(long, value_name = "COLUMN", conflicts_with = "sections")]
    pub(crate) sections_from: Vec<String>,
    /// Another array with as many rows (layouts native, v2): a matrix, a list of scalars, or of a .txt file each line
    /// as a string (native). Of an .npz that holds several arrays, the one of that NAME.
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) add: Vec<KeyValue>,
    /// The name of the array that the inputs make (layouts native, v2).
    #[arg(long, value_name = "NAME", default_value = "vectors", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) array: String,
    /// The array to take from .npz inputs that hold several.
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// Something to say of the whole file. A value is JSON if it parses, else a string.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) meta: Vec<KeyValue>,
    /// Where the inputs come from: model, revision, normalized, prefix, dimension, or a key of your own.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) provenance: Vec<KeyValue>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Convert a file of another format to a .cvc file, or a .cvc file to another format, as the extensions say.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One of the two is a .cvc file, the other .parquet, .arrow or .feather (Arrow IPC), .csv, .tsv, .safetensors, .npy, .npz,
.fvecs, .bvecs or .ivecs; a directory of NumPack is read. HDF5, Zarr and PyTorch are for cvc.convert in Python. Nothing is
lost unless a codec says so; what the output has no place for is said.

Examples:
  cvc convert table.parquet -o all.cvc --sections-from source
  cvc convert all.cvc -o table.parquet
  cvc convert table.csv -o all.cvc --vectors 'dim_*' --strings zip
  cvc convert model.safetensors -o model.cvc --codec int8 --codec bias=raw
  cvc convert all.cvc -o vectors.fvecs --column vectors")]
pub(crate) struct ConvertArgs {
    /// The file to read, which stays as it is.
    pub(crate) source: PathBuf,
    /// The file to write. It appears whole or not at all, and replaces one of that name.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// How to encode matrices of floats, or with ARRAY= that array, as `cvc pack` has it. By default nothing is lost: values are
    /// stored raw, strings as zstd.
    #[arg(long, value_name = "[ARRAY=]CODEC", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) codec: Vec<String>,
    /// Make sections of runs of equal values in this column; several columns make sections of runs where all are equal. By
    /// default those columns that `cvc convert` wrote for sections.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) sections_from: Vec<String>,
    /// Only this column or array, and others that are named so.
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Vec<String>,
    /// The columns of a .csv or .tsv file that make the array vectors; * stands for any characters.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) vectors: Option<String>,
    /// The dtype of matrices that are read from a .csv or .tsv file. By default f32.
    #[arg(long, value_name = "DTYPE", value_parser = text_dtype)]
    pub(crate) text_dtype: Option<DType>,
    /// A column of a .csv or .tsv file that holds strings, although its first cell looks like a number.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) strings: Vec<String>,
    /// Rows in a chunk. By default as many as decode to 16 MiB.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunk_rows: Option<u32>,
    /// What becomes of values that the codec cannot represent: by default they are refused.
    #[arg(long, value_enum)]
    pub(crate) nonfinite: Option<NonFiniteArg>,
    /// Something to say of the whole .cvc file. A value is JSON if it parses, else a string.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) meta: Vec<KeyValue>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write rows of a .cvc file to an .npy file, strings to a .txt or .json file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cvc unpack vectors.cvc -o vectors.npy
  cvc unpack vectors.cvc -o some.npy --rows 1000..2000 --dtype f16
  cvc unpack vectors.cvc -o found.npy --rows-from found.txt --dims 128
  cvc unpack all.cvc -o wiki.npy --where source=wiki --where year=2024
  cvc unpack all.cvc -o text.npy --where 'year=\"2024\"'       the string, not the number
  cvc unpack all.cvc -o ids.txt --array ids
  cvc unpack damaged.cvc -o rest.npy --damaged skip
  cvc unpack https://example.org/vectors.cvc -o some.npy --rows 5..9 --stats
  cvc unpack s3://bucket/vectors.cvc -o all.npy --remote region=eu-central-1")]
pub(crate) struct UnpackArgs {
    /// The file to read, or its URL.
    pub(crate) file: PathBuf,
    /// The file to write: .npy for values; .txt (a string on each line) or .json (a list) for strings. It appears whole
    /// or not at all, and replaces one of that name.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Only these rows; either end may be left out.
    #[arg(long, value_name = "A..B", allow_hyphen_values = true)]
    pub(crate) rows: Option<RowRange>,
    /// Only the rows whose numbers FILE has: one on each line, or an .npy of integers. They come in this order, and
    /// again where a number is there again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rows", "conditions"])]
    pub(crate) rows_from: Option<PathBuf>,
    /// Only rows of sections (or chunks) whose metadata has this value; all conditions must hold. A value is JSON if
    /// it parses, else a string.
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub(crate) conditions: Vec<KeyValue>,
    /// Only the first N values of each row.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) dims: Option<u32>,
    /// The array, in a file that has several. By default the one named vectors.
    #[arg(long, value_name = "NAME")]
    pub(crate) array: Option<String>,
    /// The dtype to write floats as. By default the array's own. numpy loads bf16 as raw pairs of bytes: view them as
    /// ml_dtypes.bfloat16.
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DTypeArg>,
    /// The device to decode on: auto, cpu, cuda or wgpu; or one of a kind by its number or a part of its name, as `cvc
    /// devices` lists them, like wgpu:0.
    #[arg(long, default_value = "auto", value_name = "KIND[:DEVICE]", value_parser = device)]
    pub(crate) device: DeviceChoice,
    /// What to do with damaged rows: fail, leave them out, or fill them with NaN (with zeros where there is none, with
    /// empty strings).
    #[arg(long, value_enum, default_value_t = DamagedArg::Fail, value_name = "WHAT")]
    pub(crate) damaged: DamagedArg,
    /// Do not compare blocks or chunks with their checksums.
    #[arg(long, conflicts_with = "damaged")]
    pub(crate) no_checksums: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what a .cvc file holds.
#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// The file to look at, or its URL.
    pub(crate) file: PathBuf,
    /// List the steps that decode each array, and where they run.
    #[arg(long)]
    pub(crate) explain: bool,
    /// The device to explain for, as `cvc unpack` takes it.
    #[arg(long, default_value = "auto", value_name = "KIND[:DEVICE]", value_parser = device, requires = "explain")]
    pub(crate) device: DeviceChoice,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check every byte of a .cvc file against its checksums, as far as its layout has them.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The file to check, or its URL.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measure what a .cvc file holds and draw it on one HTML page, which needs nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every row is read twice, a window at a time. With what was packed, the page also compares: values
before and after, errors, and how many of the ten nearest rows are still found. The same file and
options give the same page.

Examples:
  cvc report vectors.cvc -o report.html
  cvc report all.cvc -o report.html --against wiki.npy,arxiv.npy --by source
  cvc report all.cvc --array labels --json")]
pub(crate) struct ReportArgs {
    /// The file to look into, or its URL.
    pub(crate) file: PathBuf,
    /// The page to write. It appears whole or not at all, and replaces one of that name.
    #[arg(short, long, value_name = "OUT.html", required_unless_present = "json")]
    pub(crate) output: Option<PathBuf>,
    /// What was packed, in its order: .npy, .npz, .fvecs, .bvecs or .ivecs. It is compared with the array of --array, or the
    /// one named vectors.
    #[arg(long, value_name = "INPUT,...", value_delimiter = ',')]
    pub(crate) against: Vec<PathBuf>,
    /// The only array to look into. By default all.
    #[arg(long, value_name = "NAME")]
    pub(crate) array: Option<String>,
    /// How many rows of the originals are queries when recall is measured, by comparing each with every row; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true)]
    pub(crate) sample: u64,
    /// What decides which rows these are.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// The metadata key that colours the map of sections. By default the one that most have.
    #[arg(long, value_name = "KEY")]
    pub(crate) by: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the figures as one JSON object and nothing else; the page is written if it is asked for.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write the rows of a damaged .cvc file that are whole to a new one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows are copied as they are, in the layout of the file. A row that is lost in one of the arrays with as many rows as the
first is left out of all of these. What was lost is printed.")]
pub(crate) struct RepairArgs {
    /// The damaged file or its URL, which stays as it is.
    pub(crate) file: PathBuf,
    /// The file to write. It appears whole or not at all.
    #[arg(short, long, value_name = "OUT.cvc")]
    pub(crate) output: PathBuf,
    /// Replace a file of that name.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Convert a .cvc file to the native layout, or back to one that the package decompressed reads.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every row decodes to the same bits as before.

Examples:
  cvc upgrade old.cvc -o new.cvc
  cvc upgrade new.cvc -o old.cvc --layout v1")]
pub(crate) struct UpgradeArgs {
    /// The file to read or its URL, which stays as it is.
    pub(crate) file: PathBuf,
    /// The file to write. It appears whole or not at all, and replaces one of that name.
    #[arg(short, long, value_name = "OUT.cvc")]
    pub(crate) output: PathBuf,
    /// The layout to write.
    #[arg(long, value_enum, default_value_t = LayoutArg::Native)]
    pub(crate) layout: LayoutArg,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a search is asked for, whether its answer is wanted or how good it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Searched {
    /// How many rows to find for each query.
    #[arg(short, value_name = "K", default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) k: u32,
    /// What near means: cosine, dot (the largest is best), l2, l2sq, kl, js (the smallest is best); hamming, jaccard, of rows of bits.
    #[arg(long, default_value = "cosine", value_name = "METRIC")]
    pub(crate) metric: Metric,
    /// The array, in a file that has several. By default the one named vectors.
    #[arg(long, value_name = "NAME")]
    pub(crate) array: Option<String>,
    /// Search in two stages: the best candidates of the array are scored again by this one, which holds the same rows in a better
    /// codec.
    #[arg(long, value_name = "ARRAY")]
    pub(crate) rescore: Option<String>,
    /// How many candidates to score again for each query: by default ten for each row wanted, and a hundred at least.
    #[arg(long, value_name = "N", requires = "rescore", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) candidates: Option<u32>,
    /// Only the first N values of rows and queries.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) dims: Option<u32>,
    /// The array to take from QUERIES, where that is an .npz or a .cvc file that holds several.
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// The device to search on, as `cvc unpack` takes it. What auto passes over is said.
    #[arg(long, default_value = "auto", value_name = "KIND[:DEVICE]", value_parser = device)]
    pub(crate) device: DeviceChoice,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Find the rows of a .cvc file that are nearest to some queries.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Scores are exact: those of the rows as they are read back. Of equal ones the lower row comes first; rows with
NaN are never found. With --rescore, what is no candidate is not found.

Examples:
  cvc search vectors.cvc queries.npy -k 10
  cvc search all.cvc queries.fvecs --metric l2 --where source=wiki --json
  cvc search all.cvc queries.npy --ids names                      names beside the numbers of rows
  cvc search all.cvc queries.npy --array coarse --rescore vectors
  cvc search all.cvc queries.npy -k 100 -o found.npz              numpy.load has indices and scores")]
pub(crate) struct SearchArgs {
    /// The file to search, or its URL.
    pub(crate) file: PathBuf,
    /// The queries, one in each row: .npy, .npz, .fvecs, .bvecs, .ivecs, or another .cvc file. A list of numbers is one query.
    pub(crate) queries: PathBuf,
    #[command(flatten)]
    pub(crate) searched: Searched,
    /// Only among rows of sections (or chunks) whose metadata has this value; all conditions must hold. A value is JSON if
    /// it parses, else a string.
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub(crate) conditions: Vec<KeyValue>,
    /// Only among these rows, or those of any such range; either end may be left out.
    #[arg(long, value_name = "A..B", allow_hyphen_values = true)]
    pub(crate) rows: Vec<RowRange>,
    /// An array of strings or whole numbers, to show what it has for the rows that were found.
    #[arg(long, value_name = "NAME")]
    pub(crate) ids: Option<String>,
    /// Write the answer to a file: an .npz of indices (int64) and scores (float32), K for each query, with -1 and NaN where there
    /// was no other row; or an .npy of the indices alone. It appears whole or not at all, and replaces one of that name.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
}

/// Measure how many of the rows that are truly nearest a search finds.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --against, a row that was found counts if its number is among the first K of the truth. With it, a row
counts if it is as near, by the originals, as the farthest of these: of rows that are equally near any will do.

Examples:
  cvc recall vectors.cvc truth.npy queries.npy
  cvc recall vectors.cvc truth.ivecs queries.fvecs --metric l2 --against base.fvecs
  cvc recall all.cvc truth.npy queries.npy --array coarse --rescore vectors --candidates 200")]
pub(crate) struct RecallArgs {
    /// The file to search, or its URL.
    pub(crate) file: PathBuf,
    /// For each query the numbers of its true rows, the nearest first: .npy, .npz or .ivecs of integers, K or more for each query;
    /// -1 where there was no other row.
    pub(crate) truth: PathBuf,
    /// The queries, as `cvc search` takes them.
    pub(crate) queries: PathBuf,
    #[command(flatten)]
    pub(crate) searched: Searched,
    /// The original rows, to compare distances rather than numbers of rows.
    #[arg(long, value_name = "ORIGINAL")]
    pub(crate) against: Option<PathBuf>,
}

/// List the devices that can decode, and which one is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The layouts that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArg {
    Native,
    V0,
    V1,
    V2,
}

impl From<LayoutArg> for Layout {
    fn from(arg: LayoutArg) -> Self {
        match arg {
            LayoutArg::Native => Layout::Native,
            LayoutArg::V0 => Layout::V0,
            LayoutArg::V1 => Layout::V1,
            LayoutArg::V2 => Layout::V2,
        }
    }
}

/// Which values share a range.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScopeArg {
    Row,
    Dim,
    Chunk,
}

impl From<ScopeArg> for Scope {
    fn from(arg: ScopeArg) -> Self {
        match arg {
            ScopeArg::Row => Scope::Row,
            ScopeArg::Dim => Scope::Dim,
            ScopeArg::Chunk => Scope::Chunk,
        }
    }
}

/// What becomes of values that a codec cannot represent.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum NonFiniteArg {
    Refuse,
    Saturate,
}

impl NonFiniteArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            NonFiniteArg::Refuse => "refuse",
            NonFiniteArg::Saturate => "saturate",
        }
    }
}

impl From<NonFiniteArg> for NonFinite {
    fn from(arg: NonFiniteArg) -> Self {
        match arg {
            NonFiniteArg::Refuse => NonFinite::Refuse,
            NonFiniteArg::Saturate => NonFinite::Saturate,
        }
    }
}

/// What becomes of rows that are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DamagedArg {
    Fail,
    Skip,
    Fill,
}

impl DamagedArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            DamagedArg::Fail => "fail",
            DamagedArg::Skip => "skip",
            DamagedArg::Fill => "fill",
        }
    }

    /// `None` to fail.
    pub(crate) fn on_damage(self) -> Option<OnDamage> {
        match self {
            DamagedArg::Fail => None,
            DamagedArg::Skip => Some(OnDamage::Skip),
            DamagedArg::Fill => Some(OnDamage::Fill),
        }
    }
}

/// The dtypes that floats can be read as.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DTypeArg {
    F32,
    F16,
    Bf16,
}

impl From<DTypeArg> for DType {
    fn from(arg: DTypeArg) -> Self {
        match arg {
            DTypeArg::F32 => DType::F32,
            DTypeArg::F16 => DType::F16,
            DTypeArg::Bf16 => DType::Bf16,
        }
    }
}

/// A dtype that text can be read as.
fn text_dtype(text: &str) -> Result<DType, String> {
    let known =
        DType::from_name(text).filter(|dtype| !matches!(dtype, DType::C64 | DType::C128 | DType::Bool));
    known.ok_or_else(|| "use f32, f64, f16, bf16, or an integer like i32".into())
}

/// A share of something.
fn recall_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "a number above 0 and not above 1 is needed, like 0.99".into())
}

/// A device as it is asked for. Clap says which option and which value; the problem is left.
fn device(text: &str) -> Result<DeviceChoice, String> {
    text.parse().map_err(|error| match error {
        cvc::Error::Argument { problem, .. } => problem,
        other => other.to_string(),
    })
}

/// `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(KeyValue { key: key.into(), value: value.into() }),
            _ => Err("it is not a name, '=' and a value".into()),
        }
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl From<&KeyValue> for Condition {
    fn from(pair: &KeyValue) -> Self {
        Condition::new(pair.key.clone(), json_or_string(&pair.value))
    }
}

/// An object of `key=value` pairs, given by this option.
pub(crate) fn object(option: &'static str, pairs: &[KeyValue]) -> Result<Json, Failure> {
    for (at, pair) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|other| other.key == pair.key) {
            return Err(wrong(option, pair, format!("the key {:?} is given twice", pair.key)));
        }
    }
    Ok(Json::object(pairs.iter().map(|pair| (pair.key.clone(), json_or_string(&pair.value)))))
}

/// The JSON that `text` is, or else the string.
pub(crate) fn json_or_string(text: &str) -> Json {
    Json::parse(text.as_bytes(), cvc::Limits::default().json_depth).unwrap_or_else(|_| Json::from(text))
}

/// `A..B`, with either end left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRange {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
}

impl FromStr for RowRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let needed =
            || "it is not A..B with row numbers A and B, either of which may be left out".to_string();
        let (start, end) = text.split_once("..").ok_or_else(needed)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| needed());
        Ok(RowRange {
            start: if start.is_empty() { 0 } else { number(start)? },
            end: if end.is_empty() { None } else { Some(number(end)?) },
        })
    }
}

impl fmt::Display for RowRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end.map_or_else(String::new, |end| end.to_string());
        write!(f, "{}..{end}", self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn row_ranges_may_be_open() {
        let of = |text: &str| text.parse::<RowRange>().map(|range| (range.start, range.end));
        assert_eq!(of("3..7"), Ok((3, Some(7))));
        assert_eq!(of("..7"), Ok((0, Some(7))));
        assert_eq!(of("3.."), Ok((3, None)));
        assert_eq!(of(".."), Ok((0, None)));
        assert!(of("3").is_err() && of("a..b").is_err() && of("-1..2").is_err());
    }

    #[test]
    fn values_are_json_or_strings() {
        assert_eq!(json_or_string("2024"), Json::from(2024u64));
        assert_eq!(json_or_string("true"), Json::from(true));
        assert_eq!(json_or_string("arxiv"), Json::from("arxiv"));
        assert_eq!(json_or_string("\"2024\""), Json::from("2024"));
    }
}
