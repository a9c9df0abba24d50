//! `cvc repair`

use std::time::Instant;

use cvc::{Overwrite, ReadOptions, Reader};
use serde_json::{Value, json};

use crate::args::RepairArgs;
use crate::interrupt::Interrupt;
use crate::progress;
use crate::report::{Failure, check_not_input, check_output, plural, size, to_stderr, to_stdout, wrong};
use crate::rows::{count, list};
use crate::verify::is_damage;
use crate::watched::Watched;

pub(crate) fn run(args: &RepairArgs) -> Result<(), Failure> {
    let started = Instant::now();
    check_output(&args.output)?;
    check_not_input(&args.output, &args.file)?;
    if args.output.exists() && !args.force {
        let problem = "it exists; choose another name, or replace it with --force";
        return Err(wrong("--output", args.output.display(), problem));
    }
    let interrupt = Interrupt::catch();
    let bar = progress::bytes(args.json);
    let source = Watched::open(&args.file, &args.remote, &interrupt, &bar)?;
    let reader = match Reader::new(Box::new(source), ReadOptions::default()) {
        Err(error) if is_damage(&error) => return Err(Failure::NothingToSave(error)),
        result => result?,
    };
    let overwrite = if args.force { Overwrite::Allow } else { Overwrite::Refuse };
    let report = reader.repair(&args.output, overwrite).map_err(|error| interrupt.or(error))?;
    bar.finish_and_clear();

    let seconds = started.elapsed().as_secs_f64();
    let pairs = |ranges: &[std::ops::Range<u64>]| {
        ranges.iter().map(|rows| json!([rows.start, rows.end])).collect::<Vec<Value>>()
    };
    let rows = reader.arrays().next().map_or(0, |array| array.rows());
    if args.json {
        let lost = report.lost.iter().map(|lost| json!({ "array": lost.array, "rows": pairs(&lost.rows) }));
        return crate::json::print(&json!({
            "output": args.output.display().to_string(),
            "layout": reader.layout().name(),
            "lost": lost.collect::<Vec<Value>>(),
            "dropped": pairs(&report.dropped),
            "rows": report.written.rows,
            "rows_before": rows,
            "chunks": report.written.chunks,
            "file_len": report.written.file_len,
            "seconds": seconds,
        }));
    }
    for lost in &report.lost {
        let (count, rows) = (count(&lost.rows), list(&lost.rows));
        to_stderr(&format!(
            "lost: array {:?}, {count} row{}: {rows}",
            lost.array,
            plural(usize::try_from(count).unwrap_or(usize::MAX))
        ));
    }
    let (output, len) = (args.output.display(), size(report.written.file_len));
    to_stdout(&match report.lost.is_empty() {
        true => format!("nothing is damaged; copied all {rows} rows to {output} ({len}) in {seconds:.2} s"),
        false => {
            format!("saved {} of {rows} rows to {output} ({len}) in {seconds:.2} s", report.written.rows)
        }
    })
}
