//! `cvc verify`

use cvc::format::FormatError;
use cvc::{Error, Reader};
use serde_json::{Value, json};

use crate::args::VerifyArgs;
use crate::report::{Failure, plural, to_stderr, to_stdout};

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let reader = match Reader::open(&args.file) {
        Ok(reader) => reader,
        // A file whose header makes no sense is damaged as a whole; one that this version cannot read is not.
        Err(error) if args.json && is_damage(&error) => {
            let what = json!({ "array": null, "rows": null, "bytes": null, "what": error.to_string() });
            crate::json::print(&json!({ "ok": false, "checksums": "none", "damaged": [what] }))?;
            return Err(Failure::Damaged);
        }
        Err(error) => return Err(error.into()),
    };
    let report = reader.verify()?;
    if args.json {
        let damaged = report.damage.iter().map(|damage| {
            json!({
                "array": damage.array,
                "chunk": damage.chunk.0,
                "rows": [damage.rows.start, damage.rows.end],
                "bytes": [damage.bytes.start, damage.bytes.end],
                "what": damage.what,
            })
        });
        crate::json::print(&json!({
            "ok": report.is_ok(),
            "checksums": report.coverage.name(),
            "damaged": damaged.collect::<Vec<Value>>(),
            "trailing_bytes": report.trailing_len,
        }))?;
    } else {
        for damage in &report.damage {
            to_stdout(&format!(
                "damaged: array {:?}, {}, rows {}..{}: {}",
                damage.array, damage.chunk, damage.rows.start, damage.rows.end, damage.what
            ))?;
        }
        if report.trailing_len > 0 {
            to_stderr(&format!(
                "note: {} bytes follow the last chunk; no reader looks at them",
                report.trailing_len
            ));
        }
        let chunks = reader.index().frames.len();
        let (layout, s) = (reader.layout(), plural(chunks));
        to_stdout(&match (report.is_ok(), layout.has_checksums()) {
            (true, true) => {
                format!(
                    "ok: {chunks} chunk{s}, each as its checksum says (layout {layout} has none over its header)"
                )
            }
            (true, false) => format!(
                "ok: {chunks} chunk{s} of the right length (layout {layout} has no checksums, so changed values cannot \
                 be seen)"
            ),
            (false, _) => format!("{} of {chunks} chunk{s} damaged", count(&report)),
        })?;
    }
    if report.is_ok() { Ok(()) } else { Err(Failure::Damaged) }
}

fn count(report: &cvc::VerifyReport) -> usize {
    let mut chunks: Vec<_> = report.damage.iter().map(|damage| damage.chunk).collect();
    chunks.dedup();
    chunks.len()
}

/// Whether a file that cannot be opened is broken, rather than absent, too new or too large.
fn is_damage(error: &Error) -> bool {
    use FormatError::{CannotWrite, Limit, Native, UnknownVersion};
    match error {
        Error::Format(error) => {
            !matches!(error, Native | UnknownVersion { .. } | Limit { .. } | CannotWrite { .. })
        }
        _ => false,
    }
}
