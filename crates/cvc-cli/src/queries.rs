//! What is searched, and for what: the same for `cvc search` and `cvc recall`.

use std::path::Path;

use cvc::input::{InputError, Matrix, Options};
use cvc::{
    AlignedBytes, Array, ArrayDType, Chosen, CpuBackend, DType, Error, HostBuffer, ReadOptions, Reader,
    RowSlice,
};
use cvc_search::{Search, first_values};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::args::Searched;
use crate::interrupt::Interrupt;
use crate::lines::has_extension;
use crate::progress;
use crate::remote::{RemoteArgs, is_url, shown};
use crate::report::{Failure, check_here, to_stderr, wrong};
use crate::unpack::array_of;
use crate::watched::Watched;

/// Opens the file, so that Ctrl-C is heeded whenever it is read; and the bar that shows how much was.
pub(crate) fn open(
    path: &Path,
    interrupt: &Interrupt,
    args: &Searched,
) -> Result<(Reader, ProgressBar), Failure> {
    let bar = progress::bytes(args.json);
    let source = Watched::open(path, &args.remote, interrupt, &bar)?;
    Ok((Reader::new(Box::new(source), ReadOptions::default())?, bar))
}

/// What a search failed with: that it was stopped, if it was.
pub(crate) fn failed(interrupt: &Interrupt) -> impl Fn(cvc_search::Error) -> Failure + '_ {
    |error| interrupt.check().err().unwrap_or_else(|| Failure::of_search(error))
}

/// The search that is asked for, and the array that it is of.
pub(crate) fn search_of<'r>(
    args: &Searched,
    file: &Path,
    reader: &'r Reader,
) -> Result<(Search<'r>, Array<'r>), Failure> {
    let array = prefix(array_of(reader, args.array.as_deref(), file)?, args, "--array")?;
    let mut search = Search::new(array, args.metric).k(args.k as usize);
    if let Some(name) = &args.rescore {
        let better = reader.array(name).map_err(|error| match error {
            Error::Argument { value, problem, .. } => wrong("--rescore", value, problem),
            other => other.into(),
        })?;
        let candidates = candidates(args);
        search = search.rescore(prefix(better, args, "--rescore")?, candidates);
    }
    Ok((search, array))
}

/// How many candidates are scored again.
pub(crate) fn candidates(args: &Searched) -> usize {
    args.candidates.map_or_else(|| Search::candidates_for(args.k as usize), |candidates| candidates as usize)
}

/// The values of each row that are looked at.
fn prefix<'r>(array: Array<'r>, args: &Searched, option: &'static str) -> Result<Array<'r>, Failure> {
    let name = &array.index().name;
    if array.index().dtype == ArrayDType::Utf8 {
        return Err(wrong(
            option,
            name,
            "it holds strings, which no metric is for; choose an array of numbers",
        ));
    }
    match args.dims {
        Some(dims) if array.index().inner.is_empty() => {
            Err(wrong("--dims", dims, format!("array {name:?} has one item in each row")))
        }
        Some(dims) => Ok(array.prefix(dims)?),
        None => Ok(array),
    }
}

/// Queries in memory.
pub(crate) struct Queries {
    dtype: DType,
    rows: usize,
    dim: usize,
    bytes: AlignedBytes,
}

impl Queries {
    /// Those of a file, for an array: as many values as its rows have, or as many as are looked at.
    pub(crate) fn load(path: &Path, args: &Searched, array: &Array<'_>) -> Result<Queries, Failure> {
        let list_is_one = !array.index().inner.is_empty();
        let mut queries = Queries::of(path, args.member.as_deref(), list_is_one, &args.remote)?;
        let (dim, whole) = (array.dim() as usize, array.index().dim as usize);
        if args.dims.is_some() && queries.dim == whole {
            queries.bytes = first_values(queries.rows()?, dim);
            queries.dim = dim;
        }
        Ok(queries)
    }

    /// Those of a file, as they are. A list of numbers may be one query.
    pub(crate) fn of(
        path: &Path,
        member: Option<&str>,
        list_is_one: bool,
        remote: &RemoteArgs,
    ) -> Result<Queries, Failure> {
        if !is_url(path) && !has_extension(path, "cvc") {
            return of_matrix(path, member, list_is_one);
        }
        of_file(path, member, remote).map_err(|failure| match failure {
            Failure::Error(error) if !error.is_usage() && !matches!(error, Error::Io { .. }) => {
                Failure::Elsewhere(path.to_owned(), Box::new(error))
            }
            other => other,
        })
    }

    pub(crate) fn rows(&self) -> Result<RowSlice<'_>, Failure> {
        Ok(RowSlice::from_bytes(self.dtype, self.rows, self.dim, self.bytes.bytes())?)
    }
}

/// Of another `.cvc` file: an array, decoded.
fn of_file(path: &Path, member: Option<&str>, remote: &RemoteArgs) -> Result<Queries, Failure> {
    let reader = Reader::new(remote.source(path)?, ReadOptions::default())?;
    let array = match member {
        Some(name) => reader.array(name).map_err(|error| match error {
            Error::Argument { value, problem, .. } => wrong("--member", value, problem),
            other => other.into(),
        })?,
        None => reader.vectors().map_err(|_| {
            let names: Vec<String> = reader.array_names().map(|name| format!("{name:?}")).collect();
            let problem =
                format!("it has {} arrays; choose one with --member: {}", names.len(), names.join(", "));
            wrong("QUERIES", shown(path), problem)
        })?,
    };
    if array.index().dtype == ArrayDType::Utf8 {
        return Err(wrong("QUERIES", shown(path), "it holds strings, which cannot be queries"));
    }
    let dtype = array.dtype()?;
    let mut bytes = AlignedBytes::new();
    bytes.resize(array.decoded_len(.., dtype)?);
    array.decode(&CpuBackend::new(), .., dtype, &mut HostBuffer::from_bytes(dtype, bytes.bytes_mut())?)?;
    let rows = usize::try_from(array.rows()).expect("they were read");
    Ok(Queries { dtype, rows, dim: array.dim() as usize, bytes })
}

/// Of a matrix; a list of numbers is one query, unless rows have one value.
fn of_matrix(path: &Path, member: Option<&str>, list_is_one: bool) -> Result<Queries, Failure> {
    let matrix = open_matrix(path, "QUERIES", member)?;
    let mut bytes = AlignedBytes::new();
    let (dtype, count) = (matrix.dtype(), matrix.rows());
    let held = matrix.read(0..count, &mut bytes)?.to_vec();
    bytes.resize(held.len()).copy_from_slice(&held);
    let count = usize::try_from(count).map_err(|_| wrong("QUERIES", shown(path), "it has no values"))?;
    let (rows, dim) =
        if matrix.scalar() && list_is_one { (1, count) } else { (count, matrix.dim() as usize) };
    Ok(Queries { dtype, rows, dim, bytes })
}

/// Opens a matrix; of an archive of several, the member named.
pub(crate) fn open_matrix(
    path: &Path,
    argument: &'static str,
    member: Option<&str>,
) -> Result<Matrix, Failure> {
    check_here(argument, path)?;
    let options = Options { member: member.map(str::to_owned), temp_dir: None };
    let matrix = Matrix::open(path, &options).map_err(|error| match error {
        InputError::ChooseMember { names, .. } if !names.is_empty() => {
            let problem =
                format!("it has {} arrays; choose one with --member: {}", names.len(), names.join(", "));
            wrong(argument, shown(path), problem)
        }
        other => other.into(),
    })?;
    if matrix.inner().len() > 1 {
        let problem = format!("it has {} dimensions; a matrix has two", matrix.inner().len() + 1);
        return Err(wrong(argument, shown(path), problem));
    }
    Ok(matrix)
}

/// Why devices were passed over, for `--json`.
pub(crate) fn passed_over(chosen: &Chosen) -> Value {
    json!(chosen.passed_over.iter().map(ToString::to_string).collect::<Vec<String>>())
}

/// Says what is worth knowing of a search: devices that were expected to do it and did not, rows that have no score. A device that is never
/// taken unless asked for is no news.
pub(crate) fn warn(chosen: &Chosen, nan_rows: &[u64]) {
    for report in chosen
        .passed_over
        .iter()
        .filter(|report| report.number.is_some() && (report.automatic || !report.available))
    {
        to_stderr(&format!("warning: passed over {report}"));
    }
    if let Some(most) = nan_rows.iter().max().filter(|most| **most > 0) {
        let s = if *most == 1 { "" } else { "s" };
        to_stderr(&format!(
            "warning: {most} row{s} cannot be compared (NaN, or a value that the metric is not for) and \
             {} not found",
            if *most == 1 { "is" } else { "are" }
        ));
    }
}
