//! `cvc unpack`

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use cvc::io::atomic_file::AtomicFile;
use cvc::output::npy::npy_header;
use cvc::{
    AlignedBytes, Array, ArrayDType, Checksums, Chosen, DType, Error, HostBuffer, OnDamage, Overwrite,
    ReadOptions, Reader, Rows, choose,
};
use serde_json::{Value, json};

use crate::args::UnpackArgs;
use crate::convert;
use crate::interrupt::Interrupt;
use crate::lines::has_extension;
use crate::progress;
use crate::remote::shown;
use crate::report::{Failure, check_not_input, check_output, plural, size, to_stderr, to_stdout, wrong};
use crate::rows::{chosen, common, count, list};

/// Decoded bytes held at a time, unless one chunk is larger.
const WINDOW_LEN: u64 = 64 << 20;

/// What a string takes in memory, in the place of a better guess: so many times its share of the file.
const EXPANSION: u64 = 8;

pub(crate) fn run(args: &UnpackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    check_output(&args.output)?;
    check_not_input(&args.output, &args.file)?;
    if convert::is_other(&args.output) {
        let problem =
            "`cvc convert` writes such a file; here go values into an .npy, strings into a .txt or .json";
        return Err(wrong("--output", args.output.display(), problem));
    }
    if let Some(path) = &args.rows_from {
        check_not_input(&args.output, path)?;
    }
    let mut options = ReadOptions::default();
    if args.no_checksums {
        options.checksums = Checksums::Never;
    }
    let reader = Reader::new(args.remote.source(&args.file)?, options)?;
    let array = chosen_array(args, &reader)?;
    let ranges = chosen(args, &reader, &array)?;
    let on_damage = args.damaged.on_damage();
    let lost = match on_damage {
        None => Vec::new(),
        // A damaged block is known by all of its rows.
        Some(_) => array.lost_rows(&ranges)?,
    };
    let runs = runs(&ranges, &lost, on_damage);
    check_filled(args, &array, &runs)?;
    let chosen = choose(&args.device)?;
    let done = match array.index().dtype {
        ArrayDType::Utf8 => unpack_strings(args, &array, &runs)?,
        _ => unpack_values(args, array, &runs, &chosen)?,
    };

    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        let passed_over: Vec<String> = chosen.passed_over.iter().map(ToString::to_string).collect();
        let pairs = lost.iter().map(|rows| json!([rows.start, rows.end]));
        return crate::json::print(&json!({
            "output": args.output.display().to_string(),
            "array": array.index().name,
            "dtype": done.dtype,
            "shape": done.shape,
            "device": chosen.backend.device().kind.name(),
            "passed_over": passed_over,
            "lost": pairs.collect::<Vec<Value>>(),
            "seconds": seconds,
        }));
    }
    if let (Some(on_damage), Some(_)) = (on_damage, lost.first()) {
        let count = count(&lost);
        let (s, were) = if count == 1 { ("", "was") } else { ("s", "were") };
        let fate = match on_damage {
            OnDamage::Skip => "left out",
            OnDamage::Fill => done.filled_with,
        };
        to_stderr(&format!(
            "warning: {count} row{s} of the file cannot be read and {were} {fate}: {}",
            list(&lost)
        ));
    }
    // A device that is there and cannot be used is worth knowing about; one that is not there is not.
    for report in chosen.passed_over.iter().filter(|report| report.number.is_some() && !report.available) {
        to_stderr(&format!("warning: passed over {report}"));
    }
    // Strings are the host's.
    let on = match array.index().dtype {
        ArrayDType::Utf8 => String::new(),
        _ => format!(" on {}", chosen.backend.device().name),
    };
    let (output, len) = (args.output.display(), size(done.len));
    to_stdout(&format!("unpacked {} to {output} ({len}){on} in {seconds:.2} s", done.what))
}

/// What was written.
struct Done {
    dtype: &'static str,
    shape: Vec<u64>,
    /// `2000 rows of 384 f32`
    what: String,
    len: u64,
    /// What damaged rows became, as a clause.
    filled_with: &'static str,
}

/// The array of a file that is named, or the one that goes without saying.
pub(crate) fn array_of<'r>(
    reader: &'r Reader,
    name: Option<&str>,
    file: &Path,
) -> Result<Array<'r>, Failure> {
    match name {
        Some(name) => Ok(reader.array(name)?),
        None => reader.vectors().map_err(|_| {
            let names: Vec<String> = reader.array_names().map(|name| format!("{name:?}")).collect();
            let problem =
                format!("it has {} arrays; choose one with --array: {}", names.len(), names.join(", "));
            wrong("FILE", shown(file), problem)
        }),
    }
}

/// The array to unpack, if it can go into the output.
fn chosen_array<'r>(args: &UnpackArgs, reader: &'r Reader) -> Result<Array<'r>, Failure> {
    let array = array_of(reader, args.array.as_deref(), &args.file)?;
    let name = &array.index().name;
    let strings = array.index().dtype == ArrayDType::Utf8;
    let (txt, json) = (has_extension(&args.output, "txt"), has_extension(&args.output, "json"));
    if strings && !txt && !json {
        let problem = format!("array {name:?} holds strings, which go into a .txt or a .json file");
        return Err(wrong("--output", args.output.display(), problem));
    }
    if !strings && (txt || json) {
        let problem =
            format!("array {name:?} holds values of {}, which go into an .npy file", array.index().dtype);
        return Err(wrong("--output", args.output.display(), problem));
    }
    if let Some(dims) = args.dims {
        if array.index().inner.is_empty() {
            return Err(wrong("--dims", dims, format!("array {name:?} has one item in each row")));
        }
        return Ok(array.prefix(dims)?);
    }
    Ok(array)
}

fn unpack_values(
    args: &UnpackArgs,
    array: Array<'_>,
    runs: &[Run],
    chosen: &Chosen,
) -> Result<Done, Failure> {
    let own = array.dtype()?;
    let dtype = args.dtype.map_or(own, DType::from);
    if args.dtype.is_some() && !own.is_float() {
        let problem = format!("array {:?} holds {own}, which is written as it is", array.index().name);
        return Err(wrong("--dtype", dtype, problem));
    }
    let row_len = u64::from(array.dim()) * dtype.size() as u64;
    let windows = windows(&array, runs, row_len);
    // Before anything is allocated or written for them: a header can claim any number of rows.
    let lens = windows.iter().map(|window| match window.lost {
        false => array.decoded_len(window.ranges.clone(), dtype).map_err(failed(args)),
        true => Ok(0),
    });
    let lens = lens.collect::<Result<Vec<usize>, _>>()?;

    let row_count = runs.iter().map(|run| run.rows.end - run.rows.start).sum();
    let mut shape = array.index().shape();
    shape[0] = row_count;
    if args.dims.is_some() {
        shape.truncate(1);
        shape.push(u64::from(array.dim()));
    }
    let interrupt = Interrupt::catch();
    let mut out = AtomicFile::create(&args.output, Overwrite::Allow).map_err(Error::Output)?;
    out.write_all(&npy_header(dtype, &shape)).map_err(Error::Output)?;
    let bar = progress::rows(row_count, args.json);
    let mut buffer = AlignedBytes::new();
    for (window, len) in windows.into_iter().zip(lens) {
        interrupt.check()?;
        let rows = count(&window.ranges);
        if window.lost {
            fill(&mut out, filling(dtype), rows.saturating_mul(row_len), &interrupt)?;
        } else {
            let bytes = buffer.resize(len);
            let mut dst = HostBuffer::from_bytes(dtype, bytes)?;
            let decoded = chosen.backend.read_into(&array, Rows::from(window.ranges), dtype, &mut dst);
            decoded.map_err(failed(args))?;
            to_little_endian(bytes, dtype);
            out.write_all(bytes).map_err(Error::Output)?;
        }
        bar.inc(rows);
    }
    interrupt.check()?;
    out.commit().map_err(Error::Output)?;
    bar.finish_and_clear();
    let dim = if array.index().inner.is_empty() { String::new() } else { format!("{} ", array.dim()) };
    Ok(Done {
        dtype: dtype.name(),
        shape,
        what: format!("{row_count} row{} of {dim}{dtype}", ending(row_count)),
        len: row_count.saturating_mul(row_len),
        filled_with: if filling(dtype) == 0 { "filled with zeros" } else { "filled with NaN" },
    })
}

fn unpack_strings(args: &UnpackArgs, array: &Array<'_>, runs: &[Run]) -> Result<Done, Failure> {
    if let Some(dtype) = args.dtype {
        let problem = format!("array {:?} holds strings", array.index().name);
        return Err(wrong("--dtype", DType::from(dtype), problem));
    }
    let mean_len = array.index().stored_len() / array.rows().max(1);
    let windows = windows(array, runs, mean_len.saturating_mul(EXPANSION).max(16));
    let row_count = runs.iter().map(|run| run.rows.end - run.rows.start).sum();
    let interrupt = Interrupt::catch();
    let out = AtomicFile::create(&args.output, Overwrite::Allow).map_err(Error::Output)?;
    let mut out = Text { out, json: has_extension(&args.output, "json"), rows: 0, len: 0 };
    let bar = progress::rows(row_count, args.json);
    for window in windows {
        interrupt.check()?;
        let rows = count(&window.ranges);
        if window.lost {
            (0..rows).try_for_each(|_| out.put("", 0, &args.output))?;
        } else {
            let strings = array.read_strings(window.ranges.clone()).map_err(failed(args))?;
            let numbers = window.ranges.into_iter().flatten();
            for (string, row) in strings.iter().zip(numbers) {
                out.put(string, row, &args.output)?;
            }
        }
        bar.inc(rows);
    }
    interrupt.check()?;
    let len = out.finish()?;
    bar.finish_and_clear();
    Ok(Done {
        dtype: array.index().dtype.name(),
        shape: vec![row_count],
        what: format!("{row_count} string{}", ending(row_count)),
        len,
        filled_with: "replaced by empty strings",
    })
}

/// Strings on their way into a file: each on a line, or all in a JSON list.
struct Text {
    out: AtomicFile,
    json: bool,
    rows: u64,
    len: u64,
}

impl Text {
    fn put(&mut self, string: &str, row: u64, path: &Path) -> Result<(), Failure> {
        if self.json {
            let before = if self.rows == 0 { "[\n" } else { ",\n" };
            self.write(before)?;
            self.write(&Value::from(string).to_string())?;
        } else if string.contains(['\n', '\r']) {
            let problem =
                format!("the string of row {row} has a line break in it; write a .json file instead");
            return Err(wrong("--output", path.display(), problem));
        } else {
            self.write(string)?;
            self.write("\n")?;
        }
        self.rows += 1;
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.len += text.len() as u64;
        Ok(self.out.write_all(text.as_bytes()).map_err(Error::Output)?)
    }

    fn finish(mut self) -> Result<u64, Failure> {
        if self.json {
            self.write(if self.rows == 0 { "[]\n" } else { "\n]\n" })?;
        }
        self.out.commit().map_err(Error::Output)?;
        Ok(self.len)
    }
}

/// Rows that follow each other, all of them readable or all of them lost.
struct Run {
    rows: Range<u64>,
    lost: bool,
}

/// Splits the rows asked for at the borders of those that are lost, and leaves these out if that is what becomes of them.
fn runs(ranges: &[Range<u64>], lost: &[Range<u64>], on_damage: Option<OnDamage>) -> Vec<Run> {
    let mut runs = Vec::new();
    for range in ranges {
        let mut row = range.start;
        for lost in common(std::slice::from_ref(range), lost) {
            runs.push(Run { rows: row..lost.start, lost: false });
            row = lost.end;
            if on_damage == Some(OnDamage::Fill) {
                runs.push(Run { rows: lost, lost: true });
            }
        }
        runs.push(Run { rows: row..range.end, lost: false });
    }
    runs
}

/// Refuses to fill more rows than the bytes of the array can hold: where the head of a chunk is damaged, nothing else says
/// that its rows are there.
fn check_filled(args: &UnpackArgs, array: &Array<'_>, runs: &[Run]) -> Result<(), Failure> {
    // What streams unpack to at most, and twice that, for halves become f32.
    const MOST: u64 = 1 << 16;
    let rows = runs.iter().filter(|run| run.lost).map(|run| run.rows.end - run.rows.start).sum::<u64>();
    if rows.saturating_mul(u64::from(array.dim().max(1))) <= array.index().stored_len().saturating_mul(MOST) {
        return Ok(());
    }
    let problem = format!(
        "{rows} rows are damaged, more than the file can ever have held; leave them out with --damaged skip"
    );
    Err(wrong("--damaged", args.damaged.name(), problem))
}

/// Rows that are read and written together.
struct Window {
    ranges: Vec<Range<u64>>,
    lost: bool,
}

/// Gathers rows in windows of a bounded size that end at chunk borders where possible: a chunk that can only be read
/// whole should not be read twice.
fn windows(array: &Array<'_>, runs: &[Run], row_len: u64) -> Vec<Window> {
    let chunks = &array.index().chunks;
    let mut windows: Vec<Window> = Vec::new();
    let mut window_len = 0u64;
    for run in runs {
        let mut row = run.rows.start;
        while row < run.rows.end {
            // Rows of no values have no chunks, and what is lost is not read.
            let whole = run.lost || chunks.is_empty();
            let border = if whole { u64::MAX } else { chunks[array.index().chunk_of(row).index()].rows.end };
            let piece = row..run.rows.end.min(border);
            let len = (piece.end - row).saturating_mul(row_len);
            row = piece.end;
            match windows.last_mut() {
                Some(last) if last.lost == run.lost && len.saturating_add(window_len) <= WINDOW_LEN => {
                    last.ranges.push(piece);
                    window_len += len;
                }
                _ => {
                    windows.push(Window { ranges: vec![piece], lost: run.lost });
                    window_len = len;
                }
            }
        }
    }
    windows
}

/// Says that some of the rows may be had, where damage is why there are none.
fn failed(args: &UnpackArgs) -> impl Fn(Error) -> Failure + '_ {
    use cvc::codec::{DecodeError, SourceError};
    move |error| match error {
        Error::Head { .. }
        | Error::Decode {
            error: DecodeError::Source { error: SourceError::Block { .. } | SourceError::Checksum { .. }, .. },
            ..
        } if args.damaged.on_damage().is_none() => Failure::Lost(error),
        error => Failure::Error(error),
    }
}

/// The byte that rows of this dtype are filled with: values of ones are NaN where there is one.
fn filling(dtype: DType) -> u8 {
    if dtype.is_float() || matches!(dtype, DType::C64 | DType::C128) { 0xff } else { 0 }
}

/// Writes `len` times the byte.
fn fill(out: &mut AtomicFile, byte: u8, len: u64, interrupt: &Interrupt) -> Result<(), Failure> {
    let piece = [byte; 1 << 16];
    let mut rest = len;
    while rest > 0 {
        interrupt.check()?;
        let len = usize::try_from(rest).unwrap_or(usize::MAX).min(piece.len());
        out.write_all(&piece[..len]).map_err(Error::Output)?;
        rest -= len as u64;
    }
    Ok(())
}

/// `.npy` files are written little-endian.
fn to_little_endian(bytes: &mut [u8], dtype: DType) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(dtype.component_size()).for_each(<[u8]>::reverse);
    }
}

fn ending(count: u64) -> &'static str {
    plural(usize::try_from(count).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_cut_out_of_what_was_asked_for() {
        let lost = [2..5, 7..9];
        let of = |ranges: &[Range<u64>], on_damage| {
            let runs = runs(ranges, &lost, on_damage).into_iter().filter(|run| !run.rows.is_empty());
            runs.map(|run| (run.rows, run.lost)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[0..10], Some(OnDamage::Skip)), [(0..2, false), (5..7, false), (9..10, false)]);
        let filled = [(4..5, true), (5..6, false), (2..4, true)];
        assert_eq!(of(&[4..6, 2..4], Some(OnDamage::Fill)), filled);
    }
}
