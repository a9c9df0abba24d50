//! `cvc verify`

use std::ops::Range;

use cvc::format::{FormatError, Stored};
use cvc::{Coverage, Damage, Error, ReadOptions, Reader, VerifyReport};
use serde_json::{Value, json};

use crate::args::VerifyArgs;
use crate::report::{Failure, plural, to_stderr, to_stdout};

/// Damaged regions that are printed; a file may have a million.
const SHOWN: usize = 20;

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let reader = match Reader::new(args.remote.source(&args.file)?, ReadOptions::default()) {
        Ok(reader) => reader,
        // A file whose header or index makes no sense is damaged as a whole; one that this version cannot read is not.
        Err(error) if args.json && is_damage(&error) => {
            let (coverage, bytes) = unopened(&error);
            let what = json!({
                "array": null,
                "rows": null,
                "bytes": bytes.as_ref().map(pair),
                "ranges": bytes.iter().map(pair).collect::<Vec<Value>>(),
                "what": error.to_string(),
            });
            crate::json::print(&json!({ "ok": false, "checksums": coverage.name(), "damaged": [what] }))?;
            return Err(Failure::Damaged);
        }
        Err(error) => return Err(error.into()),
    };
    let report = reader.verify()?;
    if args.json {
        crate::json::print(&json!({
            "ok": report.is_ok(),
            "checksums": report.coverage.name(),
            "damaged": report.damage.iter().map(describe).collect::<Vec<Value>>(),
            "trailing_bytes": report.trailing_len,
        }))?;
    } else {
        for damage in report.damage.iter().take(SHOWN) {
            to_stdout(&format!(
                "damaged: array {:?}, {}, rows {}..{}: {}",
                damage.array, damage.chunk, damage.rows.start, damage.rows.end, damage.what
            ))?;
        }
        if report.damage.len() > SHOWN {
            to_stdout(&format!("and {} more; --json lists them all", report.damage.len() - SHOWN))?;
        }
        if report.trailing_len > 0 {
            to_stderr(&format!(
                "note: {} bytes follow the last chunk; no reader looks at them",
                report.trailing_len
            ));
        }
        to_stdout(&conclusion(&reader, &report))?;
    }
    if report.is_ok() { Ok(()) } else { Err(Failure::Damaged) }
}

/// One damaged region: the first and the last byte among which it lies, and its ranges.
fn describe(damage: &Damage) -> Value {
    let first = damage.bytes.iter().map(|range| range.start).min();
    let last = damage.bytes.iter().map(|range| range.end).max();
    json!({
        "array": damage.array,
        "chunk": damage.chunk.0,
        "rows": pair(&damage.rows),
        "bytes": [first, last],
        "ranges": damage.bytes.iter().map(pair).collect::<Vec<Value>>(),
        "what": damage.what,
    })
}

fn pair(range: &Range<u64>) -> Value {
    json!([range.start, range.end])
}

/// The last line.
fn conclusion(reader: &Reader, report: &VerifyReport) -> String {
    let layout = reader.layout();
    let frames = reader.index().frames.len();
    let s = plural(frames);
    match (report.is_ok(), report.coverage) {
        (true, Coverage::Blocks) => {
            let (chunks, blocks) = blocks(reader);
            format!(
                "ok: {chunks} chunk{}, {blocks} block{}; every byte of the file is as its checksums say",
                plural(chunks),
                plural(usize::try_from(blocks).unwrap_or(usize::MAX))
            )
        }
        (true, Coverage::Chunks) => {
            format!(
                "ok: {frames} chunk{s}, each as its checksum says (layout {layout} has none over its header)"
            )
        }
        (true, _) => format!(
            "ok: {frames} chunk{s} of the right length (layout {layout} has no checksums, so changed values cannot \
             be seen)"
        ),
        (false, coverage) => {
            let (damaged, all, what) = match coverage {
                Coverage::Blocks => (damaged_blocks(reader, report), blocks(reader).1, "block"),
                _ => (damaged_chunks(report), frames as u64, "chunk"),
            };
            let s = plural(usize::try_from(all).unwrap_or(usize::MAX));
            format!(
                "{damaged} of {all} {what}{s} damaged; `cvc repair` writes the rows of the others to a new file"
            )
        }
    }
}

/// Chunks and blocks of a native file.
fn blocks(reader: &Reader) -> (usize, u64) {
    let chunks = || reader.index().arrays.iter().flat_map(|array| &array.chunks);
    let of_chunk = |chunk: &cvc::format::ChunkEntry| match chunk.stored {
        Stored::Blocked(blocked) => u64::from(blocked.block_count(chunk.row_count())),
        Stored::Framed { .. } => 1,
    };
    (chunks().count(), chunks().map(of_chunk).sum())
}

/// Blocks of which rows are lost: all of a chunk whose head is damaged.
fn damaged_blocks(reader: &Reader, report: &VerifyReport) -> u64 {
    let blocks = |damage: &Damage| {
        let chunk = &reader.index().array(&damage.array)?.chunks.get(damage.chunk.index())?;
        let Stored::Blocked(blocked) = chunk.stored else { return None };
        Some((damage.rows.end - damage.rows.start).div_ceil(u64::from(blocked.block_rows)))
    };
    report.damage.iter().filter_map(blocks).sum()
}

fn damaged_chunks(report: &VerifyReport) -> u64 {
    let mut chunks: Vec<_> = report.damage.iter().map(|damage| damage.chunk).collect();
    chunks.dedup();
    chunks.len() as u64
}

/// Whether a file that cannot be opened is broken, rather than absent, too new or too large.
pub(crate) fn is_damage(error: &Error) -> bool {
    use FormatError::{CannotWrite, Limit, Requires, UnknownNativeVersion, UnknownVersion};
    match error {
        Error::Format(error) => !matches!(
            error,
            UnknownVersion { .. }
                | UnknownNativeVersion { .. }
                | Requires { .. }
                | Limit { .. }
                | CannotWrite { .. }
        ),
        _ => false,
    }
}

/// What the checksums of a file cover that cannot be opened, as far as the error tells, and which of its bytes are
/// damaged.
fn unopened(error: &Error) -> (Coverage, Option<Range<u64>>) {
    use FormatError::{Checksum, Metadata, MetadataJson, NoEnd, Region};
    match error {
        Error::Format(Checksum { start, end, .. }) => (Coverage::Blocks, Some(*start..*end)),
        Error::Format(NoEnd { .. } | Region { .. } | Metadata { .. } | MetadataJson { .. }) => {
            (Coverage::Blocks, None)
        }
        _ => (Coverage::None, None),
    }
}
