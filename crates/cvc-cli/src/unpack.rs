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

use crate::args::UnpackArgs;
use crate::progress;
use crate::report::{Failure, size, to_stdout, wrong};

/// Decoded bytes held at a time, unless one chunk is larger.
const WINDOW_LEN: u64 = 64 << 20;

pub(crate) fn run(args: &UnpackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let mut options = ReadOptions::default();
    if args.no_checksums {
        options.checksums = Checksums::Never;
    }
    let reader = Reader::new(Box::new(FileSource::open(&args.file)?), options)?;
    let array = match &args.array {
        Some(name) => reader.array(name)?,
        None => reader.vectors()?,
    };
    let dtype = match args.dtype {
        Some(dtype) => dtype.into(),
        None => array.dtype()?,
    };
    let ranges = chosen_rows(args, &reader, &array)?;
    let row_count: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let chosen = choose(args.device)?;

    let mut shape = array.index().shape();
    shape[0] = row_count;
    let cannot = cvc::Error::Output;
    let mut out = AtomicFile::create(&args.output, Overwrite::Allow).map_err(cannot)?;
    out.write_all(&npy_header(dtype, &shape)).map_err(cannot)?;
    let bar = progress::rows(row_count, args.json);
    let row_len = u64::from(array.dim()) * dtype.size() as u64;
    let mut buffer = AlignedBytes::new();
    for window in windows(&array, &ranges, row_len) {
        let rows: u64 = window.iter().map(|range| range.end - range.start).sum();
        let len = usize::try_from(rows * row_len).expect("a window fits in memory");
        let bytes = buffer.resize(len);
        let mut dst = HostBuffer::from_bytes(dtype, bytes)?;
        chosen.backend.read_into(&array, Rows::from(window), dtype, &mut dst)?;
        to_little_endian(bytes, dtype);
        out.write_all(bytes).map_err(cannot)?;
        bar.inc(rows);
    }
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
        }));
    } else {
        to_stdout(&format!(
            "unpacked {row_count} rows of {} {dtype} to {} ({}) on {} in {seconds:.2} s",
            array.dim(),
            args.output.display(),
            size(row_count * row_len),
            chosen.backend.device().name,
        ));
    }
    Ok(())
}

/// Rows that the conditions and the range have in common, in file order.
fn chosen_rows(args: &UnpackArgs, reader: &Reader, array: &Array<'_>) -> Result<Vec<Range<u64>>, Failure> {
    let rows = array.rows();
    let within = match args.rows {
        None => 0..rows,
        Some(range) => {
            let within = range.start..range.end.unwrap_or(rows);
            Rows::from(within.clone()).resolve(rows)?;
            within
        }
    };
    if args.conditions.is_empty() {
        return Ok(vec![within]);
    }
    let conditions: Vec<Condition> = args.conditions.iter().map(Condition::from).collect();
    let matching = reader.find(&conditions)?.resolve(rows)?;
    if matching.is_empty() {
        let asked: Vec<String> =
            args.conditions.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        return Err(wrong(
            "--where",
            asked.join(" "),
            "no section matches; `cvc info` lists the metadata there is",
        ));
    }
    let clip = |range: Range<u64>| range.start.max(within.start)..range.end.min(within.end);
    Ok(matching.into_iter().map(clip).filter(|range| range.start < range.end).collect())
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
            if window_len > 0 && window_len + len > WINDOW_LEN {
                windows.push(std::mem::take(&mut window));
                window_len = 0;
            }
            window.push(row..end);
            window_len += len;
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
