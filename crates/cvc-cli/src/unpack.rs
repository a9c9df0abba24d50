//! `cvc unpack`

use std::io::Write;
use std::ops::Range;
use std::time::Instant;

use cvc::io::FileSource;
use cvc::io::atomic_file::AtomicFile;
use cvc::output::npy::npy_header;
use cvc::{
    AlignedBytes, Array, Checksums, Condition, DType, HostBuffer, Overwrite, ReadOptions, Reader, Rows,
    choose,
};
use serde_json::json;

use crate::args::{KeyValue, UnpackArgs};
use crate::interrupt::Interrupt;
use crate::progress;
use crate::report::{Failure, check_not_input, check_output, size, to_stdout, wrong};

/// Decoded bytes held at a time, unless one chunk is larger.
const WINDOW_LEN: u64 = 64 << 20;

pub(crate) fn run(args: &UnpackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    check_output(&args.output)?;
    check_not_input(&args.output, &args.file)?;
    let mut options = ReadOptions::default();
    if args.no_checksums {
        options.checksums = Checksums::Never;
    }
    let reader = Reader::new(Box::new(FileSource::open(&args.file)?), options)?;
    let array = chosen_array(args, &reader)?;
    let own = array.dtype()?;
    let dtype = args.dtype.map_or(own, DType::from);
    if args.dtype.is_some() && !own.is_float() {
        let problem = format!("array {:?} holds {own}, which is written as it is", array.index().name);
        return Err(wrong("--dtype", dtype, problem));
    }
    let ranges = chosen_rows(args, &reader, &array)?;
    let row_count: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let chosen = choose(args.device)?;

    let row_len = u64::from(array.dim()) * dtype.size() as u64;
    let windows = windows(&array, &ranges, row_len);
    // Before anything is allocated or written for them: a header can claim any number of rows.
    let lens = windows.iter().map(|window| array.decoded_len(window.clone(), dtype));
    let lens = lens.collect::<Result<Vec<usize>, _>>()?;

    let mut shape = array.index().shape();
    shape[0] = row_count;
    let cannot = cvc::Error::Output;
    let interrupt = Interrupt::catch();
    let mut out = AtomicFile::create(&args.output, Overwrite::Allow).map_err(cannot)?;
    out.write_all(&npy_header(dtype, &shape)).map_err(cannot)?;
    let bar = progress::rows(row_count, args.json);
    let mut buffer = AlignedBytes::new();
    for (window, len) in windows.into_iter().zip(lens) {
        interrupt.check()?;
        let rows: u64 = window.iter().map(|range| range.end - range.start).sum();
        let bytes = buffer.resize(len);
        let mut dst = HostBuffer::from_bytes(dtype, bytes)?;
        chosen.backend.read_into(&array, Rows::from(window), dtype, &mut dst)?;
        to_little_endian(bytes, dtype);
        out.write_all(bytes).map_err(cannot)?;
        bar.inc(rows);
    }
    interrupt.check()?;
    out.commit().map_err(cannot)?;
    bar.finish_and_clear();

    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        let passed_over: Vec<String> = chosen.passed_over.iter().map(ToString::to_string).collect();
        crate::json::print(&json!({
            "output": args.output.display().to_string(),
            "array": array.index().name,
            "dtype": dtype.name(),
            "shape": shape,
            "device": chosen.backend.device().kind.name(),
            "passed_over": passed_over,
            "seconds": seconds,
        }))
    } else {
        to_stdout(&format!(
            "unpacked {row_count} rows of {} {dtype} to {} ({}) on {} in {seconds:.2} s",
            array.dim(),
            args.output.display(),
            size(row_count.saturating_mul(row_len)),
            chosen.backend.device().name,
        ))
    }
}

/// The array named, or the one that goes without saying.
fn chosen_array<'r>(args: &UnpackArgs, reader: &'r Reader) -> Result<Array<'r>, Failure> {
    match &args.array {
        Some(name) => Ok(reader.array(name)?),
        None => reader.vectors().map_err(|_| {
            let names: Vec<String> = reader.array_names().map(|name| format!("{name:?}")).collect();
            let problem =
                format!("it has {} arrays; choose one with --array: {}", names.len(), names.join(", "));
            wrong("FILE", args.file.display(), problem)
        }),
    }
}

/// Rows that the conditions and the range have in common, in file order.
fn chosen_rows(args: &UnpackArgs, reader: &Reader, array: &Array<'_>) -> Result<Vec<Range<u64>>, Failure> {
    let rows = array.rows();
    let within = match args.rows {
        None => 0..rows,
        Some(range) => {
            let within = range.start..range.end.unwrap_or(rows);
            if within.start > within.end || within.end > rows {
                return Err(wrong("--rows", range, format!("the array has rows 0..{rows}")));
            }
            within
        }
    };
    if args.conditions.is_empty() {
        return Ok(vec![within]);
    }
    let conditions: Vec<Condition> = args.conditions.iter().map(Condition::from).collect();
    let matching = reader.find(&conditions)?.resolve(rows)?;
    let asked = args.conditions.iter().map(KeyValue::to_string).collect::<Vec<_>>().join(" --where ");
    if matching.is_empty() {
        return Err(wrong("--where", asked, "no section matches; `cvc info` lists the metadata there is"));
    }
    let clip = |range: Range<u64>| range.start.max(within.start)..range.end.min(within.end);
    let chosen: Vec<Range<u64>> =
        matching.into_iter().map(clip).filter(|range| range.start < range.end).collect();
    match args.rows {
        Some(range) if chosen.is_empty() => {
            Err(wrong("--rows", range, format!("no section with {asked} has a row of it")))
        }
        _ => Ok(chosen),
    }
}

/// Splits rows into windows of a bounded size, at chunk borders where possible: a chunk that can only be read
/// whole should not be read twice.
fn windows(array: &Array<'_>, ranges: &[Range<u64>], row_len: u64) -> Vec<Vec<Range<u64>>> {
    let mut windows = Vec::new();
    let (mut window, mut window_len) = (Vec::new(), 0);
    for range in ranges {
        let mut row = range.start;
        while row < range.end {
            let chunk = &array.index().chunks[array.index().chunk_of(row).index()];
            let end = range.end.min(chunk.rows.end);
            let len = (end - row).saturating_mul(row_len);
            if window_len > 0 && len.saturating_add(window_len) > WINDOW_LEN {
                windows.push(std::mem::take(&mut window));
                window_len = 0;
            }
            window.push(row..end);
            window_len = len.saturating_add(window_len);
            row = end;
        }
    }
    windows.push(window);
    windows
}

/// `.npy` files are written little-endian.
fn to_little_endian(bytes: &mut [u8], dtype: DType) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
    }
}
