//! `cvc search`

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use cvc::io::atomic_file::AtomicFile;
use cvc::output::npy::npy_header;
use cvc::output::npz::write_npz;
use cvc::{AlignedBytes, Array, ArrayDType, CpuBackend, DType, Error, HostBuffer, Overwrite, Reader};
use cvc_search::{Answer, Table};
use serde_json::{Value, json};

use crate::args::SearchArgs;
use crate::interrupt::Interrupt;
use crate::lines::has_extension;
use crate::queries::{Queries, candidates, failed, open, passed_over, search_of, warn};
use crate::report::{Failure, check_not_input, check_output, to_stdout, wrong};
use crate::rows::{count, matching, number, within};

/// Queries whose answers are printed for people.
const SHOWN: usize = 10;

pub(crate) fn run(args: &SearchArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let asked = &args.searched;
    if let Some(output) = &args.output {
        check_output(output)?;
        check_not_input(output, &args.file)?;
        check_not_input(output, &args.queries)?;
        if !has_extension(output, "npz") && !has_extension(output, "npy") {
            let problem = "an answer goes into an .npz file (indices and scores) or an .npy file (indices)";
            return Err(wrong("--output", output.display(), problem));
        }
    }
    let interrupt = Interrupt::catch();
    let (reader, bar) = open(&args.file, &interrupt, asked)?;
    let (mut search, array) = search_of(asked, &args.file, &reader)?;
    if !args.conditions.is_empty() {
        search = search.rows(matching(&args.conditions, &reader)?);
    }
    if !args.rows.is_empty() {
        let ranges = args.rows.iter().map(|range| within(*range, array.rows()));
        search = search.rows(ranges.collect::<Result<Vec<_>, _>>()?);
    }
    let ids = args.ids.as_ref().map(|name| id_array(name, &reader, &array)).transpose()?;
    let queries = Queries::load(&args.queries, asked, &array)?;
    let searched = count(&search.searched().map_err(Failure::of_search)?);
    let (answer, chosen) = search.run_on(&asked.device, queries.rows()?).map_err(failed(&interrupt))?;
    let table = answer.table(asked.k as usize).map_err(Failure::of_search)?;
    let ids = ids.map(|array| ids_of(&array, &answer)).transpose()?;
    interrupt.check()?;
    bar.finish_and_clear();
    if let Some(output) = &args.output {
        write(output, &table, answer.hits.len() as u64).map_err(Error::Output)?;
    }

    let seconds = started.elapsed().as_secs_f64();
    if asked.json {
        let mut object = json!({
            "indices": matrix(&table, |at| json!(table.indices[at])),
            "scores": matrix(&table, |at| score(table.indices[at], table.scores[at])),
            "metric": answer.metric.name(),
            "k": table.k,
            "array": array.index().name,
            "rows": searched,
            "nan_rows": answer.nan_rows,
            "scored": answer.scored,
            "device": chosen.backend.device().kind.name(),
            "passed_over": passed_over(&chosen),
            "seconds": seconds,
        });
        if let Some(name) = &asked.rescore {
            object["rescore"] = json!(name);
            object["candidates"] = json!(candidates(asked));
        }
        if let Some(ids) = &ids {
            object["ids"] = json!(matrix(&table, |at| id(ids, table.indices[at])));
        }
        if let Some(output) = &args.output {
            object["output"] = json!(output.display().to_string());
        }
        return crate::json::print(&object);
    }
    warn(&chosen, &answer.nan_rows);
    let queries = answer.hits.len();
    let what = format!(
        "{queries} quer{} by {} among {searched} row{} on {} in {seconds:.2} s",
        if queries == 1 { "y" } else { "ies" },
        answer.metric,
        if searched == 1 { "" } else { "s" },
        chosen.backend.device().name,
    );
    match &args.output {
        Some(output) => {
            to_stdout(&format!("wrote the {} nearest of {what} to {}", table.k, output.display()))
        }
        None => to_stdout(&(text(&answer, args.ids.as_deref().zip(ids.as_ref())) + &what)),
    }
}

/// Rows of values, one for each query.
fn matrix(table: &Table, value: impl Fn(usize) -> Value) -> Vec<Value> {
    let rows = (0..table.indices.len()).step_by(table.k.max(1));
    rows.map(|start| (start..start + table.k).map(&value).collect()).collect()
}

/// A score in strict JSON: nothing where there is no row.
fn score(index: i64, score: f32) -> Value {
    match index {
        -1 => Value::Null,
        _ if score.is_finite() => Value::from(score),
        _ if score > 0.0 => "Infinity".into(),
        _ => "-Infinity".into(),
    }
}

/// The answers for people: a line for each row that was found.
fn text(answer: &Answer, ids: Option<(&str, &HashMap<u64, Value>)>) -> String {
    let metric = answer.metric.name();
    let mut text = format!("{:>5} {:>4} {:>9} {metric:>12}", "query", "rank", "row");
    if let Some((name, _)) = ids {
        text += &format!("  {name}");
    }
    text.push('\n');
    for (query, hits) in answer.hits.iter().take(SHOWN).enumerate() {
        for (rank, hit) in (1..).zip(hits) {
            text += &format!("{query:>5} {rank:>4} {:>9} {:>12}", hit.row, hit.score);
            match ids.and_then(|(_, ids)| ids.get(&hit.row)) {
                Some(Value::String(id)) => text += &format!("  {}", id.escape_debug()),
                Some(id) => text += &format!("  {id}"),
                None => {}
            }
            text.push('\n');
        }
    }
    if let Some(more) = answer.hits.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let ending = if more == 1 { "y" } else { "ies" };
        text += &format!("and {more} more quer{ending}; --json prints all, -o writes them\n");
    }
    text
}

/// The array that says what rows are called.
fn id_array<'r>(name: &str, reader: &'r Reader, of: &Array<'_>) -> Result<Array<'r>, Failure> {
    let refuse = |problem: String| Err(wrong("--ids", name, problem));
    let array = match reader.array(name) {
        Ok(array) => array,
        Err(Error::Argument { problem, .. }) => return refuse(problem),
        Err(other) => return Err(other.into()),
    };
    let index = array.index();
    if array.rows() != of.rows() {
        return refuse(format!(
            "it has {} rows, array {:?} has {}",
            array.rows(),
            of.index().name,
            of.rows()
        ));
    }
    match index.dtype {
        ArrayDType::Utf8 => Ok(array),
        ArrayDType::Values(dtype) if index.inner.is_empty() && is_whole(dtype) => Ok(array),
        other => refuse(format!(
            "it holds {} {other} in each row; choose an array of strings or of whole numbers",
            index.dim
        )),
    }
}

fn is_whole(dtype: DType) -> bool {
    !dtype.is_float() && !matches!(dtype, DType::Bool | DType::C64 | DType::C128)
}

/// What rows that were found are called.
fn ids_of(array: &Array<'_>, answer: &Answer) -> Result<HashMap<u64, Value>, Failure> {
    let mut rows: Vec<u64> = answer.hits.iter().flatten().map(|hit| hit.row).collect();
    rows.sort_unstable();
    rows.dedup();
    if array.index().dtype == ArrayDType::Utf8 {
        let strings = array.read_strings(rows.as_slice())?;
        return Ok(rows.into_iter().zip(strings.iter().map(Value::from)).collect());
    }
    let dtype = array.dtype()?;
    let mut bytes = AlignedBytes::new();
    bytes.resize(array.decoded_len(rows.as_slice(), dtype)?);
    let mut buffer = HostBuffer::from_bytes(dtype, bytes.bytes_mut())?;
    array.decode(&CpuBackend::new(), rows.as_slice(), dtype, &mut buffer)?;
    let numbers = bytes.bytes().chunks_exact(dtype.size()).map(|bytes| match number(dtype, bytes) {
        Some(number) => Value::from(number),
        None => Value::from(negative(bytes)),
    });
    Ok(rows.into_iter().zip(numbers).collect())
}

/// A negative number in native byte order.
fn negative(bytes: &[u8]) -> i64 {
    let mut wide = [0xff; 8];
    if cfg!(target_endian = "little") {
        wide[..bytes.len()].copy_from_slice(bytes);
    } else {
        wide[8 - bytes.len()..].copy_from_slice(bytes);
    }
    i64::from_ne_bytes(wide)
}

fn id(ids: &HashMap<u64, Value>, index: i64) -> Value {
    u64::try_from(index).ok().and_then(|row| ids.get(&row)).cloned().unwrap_or(Value::Null)
}

/// Writes an answer as numpy would.
fn write(output: &Path, table: &Table, queries: u64) -> std::io::Result<()> {
    let shape = [queries, table.k as u64];
    let indices: Vec<u8> = table.indices.iter().flat_map(|index| index.to_le_bytes()).collect();
    let mut file = AtomicFile::create(output, Overwrite::Allow)?;
    if has_extension(output, "npy") {
        file.write_all(&npy_header(DType::I64, &shape))?;
        file.write_all(&indices)?;
    } else {
        let scores: Vec<u8> = table.scores.iter().flat_map(|score| score.to_le_bytes()).collect();
        let arrays =
            [("indices", DType::I64, &shape[..], &indices[..]), ("scores", DType::F32, &shape, &scores)];
        write_npz(&mut file, &arrays)?;
    }
    file.commit()
}
