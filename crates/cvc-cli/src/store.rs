//! `cvc store`: arrays that are changed in place.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Subcommand;
use cvc::input::{Matrix, Options};
use cvc::io::atomic_file::AtomicFile;
use cvc::output::npy::npy_header;
use cvc::{AlignedBytes, ArrayRows, Overwrite, RowSlice, Scope, Strings};
use cvc_store::{ArraySpec, Durability, Selection, Snapshot, Store, StoreOptions, StoredArray, package_info};
use serde_json::{Value, json};

use crate::args::{RowRange, ScopeArg};
use crate::json::strict;
use crate::lines::has_extension;
use crate::report::{Failure, check_output, io_failed, plural, size, to_stdout, wrong};

/// Keep arrays in a directory where they can be changed: nothing is ever half done, or lost when the power goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cvc store create vectors.store
  cvc store save vectors.store emb vectors.npy --codec raw
  cvc store append vectors.store emb more.npy
  cvc store replace vectors.store emb fixed.npy --rows 0,17,-1
  cvc store delete vectors.store emb --rows 100..200
  cvc store load vectors.store emb -o some.npy --rows 0..1000
  cvc store compact vectors.store
  cvc store pack vectors.store -o vectors.zip")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
    /// Print one JSON object and nothing else.
    #[arg(long, global = true)]
    json: bool,
    /// Do not wait until changes are on the disk: they survive the program, and a loss of power only by luck.
    #[arg(long, global = true)]
    buffered: bool,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Make an empty store.
    Create { store: PathBuf },
    /// List the arrays.
    List { store: PathBuf },
    /// Say what is in a store, or in a package of one.
    Info {
        store: PathBuf,
        /// As it was after this commit, if that is kept.
        #[arg(long, value_name = "COMMIT")]
        at: Option<u64>,
    },
    /// Save a matrix, or lines of a .txt, as an array, in place of any of that name.
    Save {
        store: PathBuf,
        array: String,
        input: PathBuf,
        /// raw, lossless, fp16, bf16, int8, int4, bit1, zstd or gzip.
        #[arg(long, default_value = "raw")]
        codec: String,
        /// Which values share their scale (codec int8).
        #[arg(long, value_enum)]
        scope: Option<ScopeArg>,
        /// No two rows may be the same: ids.
        #[arg(long)]
        unique: bool,
    },
    /// Append rows to an array.
    Append { store: PathBuf, array: String, input: PathBuf },
    /// Replace rows of an array.
    Replace {
        store: PathBuf,
        array: String,
        input: PathBuf,
        /// Which: A..B, or numbers; negative ones count from the end.
        #[arg(long, value_name = "A..B|N,N,...", allow_hyphen_values = true)]
        rows: RowsArg,
    },
    /// Delete rows of an array, or the array.
    Delete {
        store: PathBuf,
        array: String,
        /// Which: A..B, or numbers; negative ones count from the end. Without it the array is deleted.
        #[arg(long, value_name = "A..B|N,N,...", allow_hyphen_values = true)]
        rows: Option<RowsArg>,
    },
    /// Give an array another name.
    Rename { store: PathBuf, array: String, to: String },
    /// Make an array that is as another is now.
    Clone { store: PathBuf, array: String, to: String },
    /// Write rows of an array to an .npy file, strings to a .txt or .json file.
    Load {
        store: PathBuf,
        array: String,
        /// The file to write. It appears whole or not at all, and replaces one of that name.
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
        /// Which: A..B, or numbers; negative ones count from the end.
        #[arg(long, value_name = "A..B|N,N,...", allow_hyphen_values = true)]
        rows: Option<RowsArg>,
        /// As they were after this commit, if that is kept.
        #[arg(long, value_name = "COMMIT")]
        at: Option<u64>,
    },
    /// Say how many commits before the last can still be read.
    Keep { store: PathBuf, commits: u64 },
    /// Forget all commits but the last ones, and give back the space.
    Prune {
        store: PathBuf,
        /// How many before the last one stay.
        #[arg(long, default_value_t = 0)]
        keep: u64,
    },
    /// Give back the space of rows that are gone.
    Compact { store: PathBuf },
    /// Look at every byte.
    Verify { store: PathBuf },
    /// Write a package: one file with all arrays.
    Pack {
        store: PathBuf,
        /// The file to write; it replaces one of that name.
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
    },
    /// Make a store of a package.
    Unpack {
        package: PathBuf,
        /// The directory, which is not there yet.
        #[arg(short, long, value_name = "STORE")]
        output: PathBuf,
    },
    /// Save all arrays of a NumPack directory, or of its .npkg.
    Import {
        store: PathBuf,
        input: PathBuf,
        /// The codec of arrays of floats.
        #[arg(long, default_value = "raw")]
        codec: String,
    },
}

/// Rows on the command line.
#[derive(Clone, Debug)]
pub(crate) enum RowsArg {
    Range(RowRange),
    List(Vec<i64>),
}

impl FromStr for RowsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("..") {
            return text
                .parse()
                .map(RowsArg::Range)
                .map_err(|error: <RowRange as FromStr>::Err| error.to_string());
        }
        let numbers = text.split(',').map(|number| number.trim().parse::<i64>());
        numbers
            .collect::<Result<_, _>>()
            .map(RowsArg::List)
            .map_err(|_| "it is neither A..B nor numbers".into())
    }
}

impl RowsArg {
    fn selection(&self, rows: u64) -> Selection<'_> {
        match self {
            RowsArg::Range(range) => Selection::Range(range.start, range.end.unwrap_or(rows)),
            RowsArg::List(list) => Selection::Rows(list),
        }
    }
}

pub(crate) fn run(args: &StoreArgs) -> Result<(), Failure> {
    use StoreCommand::{
        Append, Clone, Compact, Create, Delete, Import, Info, Keep, List, Load, Pack, Prune, Rename, Replace,
        Save, Unpack, Verify,
    };
    let durability = if args.buffered { Durability::Buffered } else { Durability::Synced };
    let options = StoreOptions::default().durability(durability);
    let open = |path: &Path| Store::open_with(path, options).map_err(Failure::Store);
    let done = |store: &Store, what: &str, commit: u64| {
        let print = json!({ "store": store.path().display().to_string(), "commit": commit });
        if args.json { crate::json::print(&print) } else { to_stdout(&format!("{what} (commit {commit})")) }
    };
    let fail = Failure::Store;
    match &args.command {
        Create { store } => {
            let made = Store::create_with(store, options).map_err(fail)?;
            done(&made, &format!("{}: an empty store", store.display()), 0)
        }
        List { store } => {
            let store = Store::open_read_only(store).map_err(fail)?;
            if args.json {
                return crate::json::print(&json!({ "arrays": store.names() }));
            }
            store.names().iter().try_for_each(|name| to_stdout(name))
        }
        Info { store, at } => info(args, store, *at),
        Save { store, array, input, codec, scope, unique } => {
            let store = open(store)?;
            let input = Input::open(input)?;
            let mut scratch = AlignedBytes::new();
            let rows = input.rows(&mut scratch)?;
            let mut spec = input.spec(codec).scope(scope.map_or(Scope::default(), Scope::from));
            if *unique {
                spec = spec.unique();
            }
            let commit = store.save(array, &spec, rows.clone()).map_err(fail)?;
            done(&store, &format!("saved {} row{}", rows.len(), plural(rows.len())), commit)
        }
        Append { store, array, input } => {
            let store = open(store)?;
            let input = Input::open(input)?;
            let mut scratch = AlignedBytes::new();
            let rows = input.rows(&mut scratch)?;
            let commit = store.append(array, rows.clone()).map_err(fail)?;
            done(&store, &format!("appended {} row{}", rows.len(), plural(rows.len())), commit)
        }
        Replace { store, array, input, rows } => {
            let store = open(store)?;
            let input = Input::open(input)?;
            let mut scratch = AlignedBytes::new();
            let new = input.rows(&mut scratch)?;
            let count = store.array(array).map_err(fail)?.rows();
            let commit = store.replace(array, rows.selection(count), new.clone()).map_err(fail)?;
            done(&store, &format!("replaced {} row{}", new.len(), plural(new.len())), commit)
        }
        Delete { store, array, rows } => {
            let store = open(store)?;
            let Some(rows) = rows else {
                let commit = store.delete(array).map_err(fail)?;
                return done(&store, &format!("deleted array {array:?}"), commit);
            };
            let before = store.array(array).map_err(fail)?.rows();
            let commit = store.delete_rows(array, rows.selection(before)).map_err(fail)?;
            let gone = before - store.array(array).map_err(fail)?.rows();
            done(&store, &format!("deleted {gone} rows"), commit)
        }
        Rename { store, array, to } => {
            let store = open(store)?;
            let commit = store.rename(array, to).map_err(fail)?;
            done(&store, &format!("renamed {array:?} to {to:?}"), commit)
        }
        Clone { store, array, to } => {
            let store = open(store)?;
            let commit = store.clone_array(array, to).map_err(fail)?;
            done(&store, &format!("cloned {array:?} as {to:?}"), commit)
        }
        Load { store, array, output, rows, at } => load(args, store, array, output, rows.as_ref(), *at),
        Keep { store, commits } => {
            let store = open(store)?;
            let commit = store.keep_commits(*commits).map_err(fail)?;
            done(&store, &format!("{commits} commits before the last are kept"), commit)
        }
        Prune { store, keep } => {
            let store = open(store)?;
            store.prune(*keep).map_err(fail)?;
            done(&store, "pruned", store.snapshot().commit())
        }
        Compact { store } => {
            let report = open(store)?.compact().map_err(fail)?;
            if args.json {
                return crate::json::print(&json!({
                    "rows": report.rows,
                    "segments": report.segments,
                    "bytes_before": report.bytes_before,
                    "bytes_after": report.bytes_after,
                }));
            }
            to_stdout(&format!("{} before, {} now", size(report.bytes_before), size(report.bytes_after)))
        }
        Verify { store } => verify(args, store),
        Pack { store, output } => {
            check_output(output)?;
            let store = Store::open_read_only(store).map_err(fail)?;
            let len = store.snapshot().pack(output, Overwrite::Allow).map_err(fail)?;
            let print = json!({ "output": output.display().to_string(), "file_len": len });
            if args.json {
                crate::json::print(&print)
            } else {
                to_stdout(&format!("{}: {}", output.display(), size(len)))
            }
        }
        Unpack { package, output } => {
            Store::unpack(package, output).map_err(fail)?;
            let print = json!({ "output": output.display().to_string() });
            if args.json {
                crate::json::print(&print)
            } else {
                to_stdout(&format!("{}: unpacked", output.display()))
            }
        }
        Import { store, input, codec } => {
            let store = open(store)?;
            let names = store.import_numpack(input, codec).map_err(fail)?;
            if args.json {
                return crate::json::print(&json!({ "arrays": names, "commit": store.snapshot().commit() }));
            }
            to_stdout(&format!("imported {} array{}: {}", names.len(), plural(names.len()), names.join(", ")))
        }
    }
}

fn info(args: &StoreArgs, path: &Path, at: Option<u64>) -> Result<(), Failure> {
    if path.is_file() {
        let info = package_info(path).map_err(Failure::Store)?;
        let arrays = info.arrays.iter().map(|array| {
            json!({
                "name": array.name, "dtype": array.spec.dtype_name(), "shape": array.shape, "codec": array.spec.codec(),
                "metadata": strict(&array.metadata),
            })
        });
        let arrays: Vec<Value> = arrays.collect();
        let print = json!({
            "package": true, "commit": info.commit, "file_len": info.file_len, "metadata": strict(&info.metadata),
            "arrays": arrays,
        });
        if args.json {
            return crate::json::print(&print);
        }
        to_stdout(&format!("a package of commit {}, {}", info.commit, size(info.file_len)))?;
        return arrays.iter().try_for_each(line);
    }
    let store = Store::open_read_only(path).map_err(Failure::Store)?;
    let snapshot = match at {
        None => store.snapshot(),
        Some(commit) => store.snapshot_at(commit).map_err(Failure::Store)?,
    };
    let arrays: Vec<Value> = arrays(&snapshot)?.iter().map(describe).collect();
    let (oldest, newest) = store.commits().map_err(Failure::Store)?;
    let disk_len = store.disk_len().map_err(Failure::Store)?;
    if args.json {
        return crate::json::print(&json!({
            "commit": snapshot.commit(), "time": snapshot.time(), "commits": [oldest, newest], "disk_len": disk_len,
            "metadata": strict(snapshot.metadata()), "arrays": arrays,
        }));
    }
    to_stdout(&format!(
        "commit {} (those from {oldest} to {newest} can be read), {}",
        snapshot.commit(),
        size(disk_len)
    ))?;
    arrays.iter().try_for_each(line)
}

fn arrays(snapshot: &Snapshot) -> Result<Vec<StoredArray>, Failure> {
    snapshot.names().iter().map(|name| snapshot.array(name).map_err(Failure::Store)).collect()
}

fn describe(array: &StoredArray) -> Value {
    let (runs, segments) = array.pieces();
    let sections = array.sections().into_iter().map(|section| {
        json!({ "start": section.rows.start, "end": section.rows.end, "metadata": strict(&section.metadata) })
    });
    json!({
        "name": array.name(), "dtype": array.spec().dtype_name(), "shape": array.shape(), "codec": array.spec().codec(),
        "changed": array.changed(), "deleted": array.deleted(), "runs": runs, "segments": segments,
        "metadata": strict(array.metadata()), "sections": sections.collect::<Vec<_>>(),
    })
}

fn line(array: &Value) -> Result<(), Failure> {
    let text = |key: &str| array[key].as_str().unwrap_or_default().to_owned();
    to_stdout(&format!("  {}  {} {}  {}", text("name"), text("dtype"), array["shape"], text("codec")))
}

fn verify(args: &StoreArgs, path: &Path) -> Result<(), Failure> {
    let report = Store::verify_at(path).map_err(Failure::Store)?;
    if args.json {
        let damaged = report.damage.iter().map(|damage| {
            json!({
                "file": damage.file, "bytes": [damage.bytes.start, damage.bytes.end], "arrays": damage.arrays,
                "what": damage.what,
            })
        });
        let damaged: Vec<Value> = damaged.collect();
        crate::json::print(&json!({ "ok": report.is_ok(), "files": report.files, "damaged": damaged }))?;
    } else {
        for damage in &report.damage {
            let needed = if damage.arrays.is_empty() {
                String::new()
            } else {
                format!(" (array {})", damage.arrays.join(", "))
            };
            to_stdout(&format!(
                "damaged: {} from byte {}{needed}: {}",
                damage.file, damage.bytes.start, damage.what
            ))?;
        }
        let sound = if report.is_ok() { "every byte is good" } else { "the store is damaged" };
        to_stdout(&format!(
            "{sound}: {} file{}, {}",
            report.files,
            plural(report.files),
            size(report.bytes)
        ))?;
    }
    if report.is_ok() { Ok(()) } else { Err(Failure::Damaged) }
}

/// Bytes of rows that are loaded at a time.
const WINDOW_LEN: u64 = 64 << 20;

fn load(
    args: &StoreArgs,
    path: &Path,
    name: &str,
    output: &Path,
    rows: Option<&RowsArg>,
    at: Option<u64>,
) -> Result<(), Failure> {
    check_output(output)?;
    let store = Store::open_read_only(path).map_err(Failure::Store)?;
    let snapshot = match at {
        None => store.snapshot(),
        Some(commit) => store.snapshot_at(commit).map_err(Failure::Store)?,
    };
    let array = snapshot.array(name).map_err(Failure::Store)?;
    let selection = rows.map_or(Selection::All, |rows| rows.selection(array.rows()));
    let count = selection.count(array.rows()).map_err(Failure::Store)?;
    let failed = |cause| io_failed(output, "cannot be written", cause);
    let mut shape = array.shape();
    shape[0] = count;
    if array.spec().dtype().is_none() {
        let strings = array.read_strings(selection).map_err(Failure::Store)?;
        let text = if has_extension(output, "json") {
            let list: Vec<&str> = strings.iter().collect();
            format!("{}\n", json!(list))
        } else if has_extension(output, "txt") {
            if let Some(bad) = strings.iter().find(|string| string.contains(['\n', '\r'])) {
                return Err(wrong(
                    "--output",
                    output.display(),
                    format!("{bad:?} has line ends; write .json"),
                ));
            }
            strings.iter().flat_map(|string| [string, "\n"]).collect()
        } else {
            return Err(wrong("--output", output.display(), "strings go to a .txt or .json file"));
        };
        let mut file = AtomicFile::create(output, Overwrite::Allow).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.commit()).map_err(failed)?;
    } else {
        let dtype = array.dtype().map_err(Failure::Store)?;
        let row_len = u64::from(array.dim()) * dtype.size() as u64;
        let mut file = AtomicFile::create(output, Overwrite::Allow).map_err(failed)?;
        file.write_all(&npy_header(dtype, &shape)).map_err(failed)?;
        let mut bytes = AlignedBytes::new();
        let mut part = |selection: Selection<'_>, count: u64| -> Result<(), Failure> {
            let len = usize::try_from(count * row_len)
                .map_err(|_| wrong("--rows", count, "they do not fit in memory"))?;
            array.read_bytes(selection, bytes.resize(len)).map_err(Failure::Store)?;
            file.write_all(bytes.bytes()).map_err(failed)
        };
        let step = (WINDOW_LEN / row_len.max(1)).max(1);
        match selection {
            Selection::Rows(list) => {
                let step = usize::try_from(step).unwrap_or(usize::MAX);
                list.chunks(step).try_for_each(|list| part(Selection::Rows(list), list.len() as u64))?;
            }
            _ => {
                let start = if let Selection::Range(start, _) = selection { start } else { 0 };
                let mut at = start;
                while at < start + count {
                    let end = (start + count).min(at + step);
                    part(Selection::Range(at, end), end - at)?;
                    at = end;
                }
            }
        }
        file.commit().map_err(failed)?;
    }
    let print = json!({
        "output": output.display().to_string(), "array": name, "dtype": array.spec().dtype_name(), "shape": shape,
        "commit": snapshot.commit(),
    });
    if args.json {
        return crate::json::print(&print);
    }
    let rows = usize::try_from(count).unwrap_or(usize::MAX);
    to_stdout(&format!("{}: {count} row{}", output.display(), plural(rows)))
}

/// Rows that come from a file.
enum Input {
    Matrix(Matrix),
    Strings(Strings),
}

impl Input {
    fn open(path: &Path) -> Result<Input, Failure> {
        if !has_extension(path, "txt") {
            return Ok(Input::Matrix(Matrix::open(path, &Options::default()).map_err(cvc::Error::from)?));
        }
        let text = std::fs::read_to_string(path).map_err(|cause| io_failed(path, "cannot be read", cause))?;
        Ok(Input::Strings(text.lines().collect()))
    }

    fn spec(&self, codec: &str) -> ArraySpec {
        match self {
            Input::Matrix(matrix) => ArraySpec::values(matrix.dtype(), matrix.inner(), codec),
            Input::Strings(_) => ArraySpec::strings(codec),
        }
    }

    fn rows<'a>(&'a self, scratch: &'a mut AlignedBytes) -> Result<ArrayRows<'a>, Failure> {
        match self {
            Input::Strings(strings) => Ok(strings.into()),
            Input::Matrix(matrix) => {
                let rows = usize::try_from(matrix.rows())
                    .map_err(|_| wrong("INPUT", matrix.rows(), "too many rows"))?;
                let bytes = matrix.read(0..matrix.rows(), scratch).map_err(cvc::Error::from)?;
                Ok(RowSlice::from_bytes(matrix.dtype(), rows, matrix.dim() as usize, bytes)
                    .map_err(cvc::Error::from)?
                    .into())
            }
        }
    }
}
