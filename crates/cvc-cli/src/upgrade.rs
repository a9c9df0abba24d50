//! `cvc upgrade`

use std::time::Instant;

use cvc::{Error, Layout, Overwrite, ReadOptions, Reader};
use serde_json::json;

use crate::args::UpgradeArgs;
use crate::info::describe;
use crate::interrupt::Interrupt;
use crate::progress;
use crate::remote::shown;
use crate::report::{Failure, check_not_input, check_output, size, to_stdout, wrong};
use crate::watched::Watched;

pub(crate) fn run(args: &UpgradeArgs) -> Result<(), Failure> {
    let started = Instant::now();
    check_output(&args.output)?;
    check_not_input(&args.output, &args.file)?;
    let interrupt = Interrupt::catch();
    let bar = progress::bytes(args.json);
    let source = Watched::open(&args.file, &args.remote, &interrupt, &bar)?;
    let reader = Reader::new(Box::new(source), ReadOptions::default())?;
    let layout = Layout::from(args.layout);
    let written = reader.convert(&args.output, layout, Overwrite::Allow).map_err(|error| match error {
        // Whatever cannot be held, it is the layout that can be chosen here.
        Error::Argument { argument, value, problem } if argument != "layout" => {
            wrong("--layout", layout, format!("{argument} {value:?}: {problem}"))
        }
        error => interrupt.or(error),
    })?;
    bar.finish_and_clear();

    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        let mut object = describe(&Reader::open(&args.output)?);
        object["output"] = json!(args.output.display().to_string());
        object["from"] = json!(reader.layout().name());
        object["rows"] = json!(written.rows);
        object["chunks"] = json!(written.chunks);
        object["seconds"] = json!(seconds);
        return crate::json::print(&object);
    }
    to_stdout(&format!(
        "wrote the {} rows of {} (layout {}, {}) to {} (layout {layout}, {}) in {seconds:.2} s",
        written.rows,
        shown(&args.file),
        reader.layout(),
        size(reader.source().len()),
        args.output.display(),
        size(written.file_len),
    ))
}
