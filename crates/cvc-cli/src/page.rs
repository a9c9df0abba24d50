//! `cvc report`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cvc::input::{Matrix, Options};
use cvc::io::atomic_file::AtomicFile;
use cvc::{Error, Overwrite, ReadOptions, Reader};
use cvc_report::{Original, Report, ReportOptions};

use crate::args::ReportArgs;
use crate::interrupt::Interrupt;
use crate::json::strict;
use crate::progress;
use crate::remote::shown;
use crate::report::{Failure, check_here, check_not_input, check_output, size, to_stdout};
use crate::watched::Watched;

pub(crate) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let started = Instant::now();
    if let Some(output) = &args.output {
        check_output(output)?;
        check_not_input(output, &args.file)?;
        args.against.iter().try_for_each(|path| check_not_input(output, path))?;
    }
    let mut options = ReportOptions::default();
    options.title = name(&args.file);
    options.array.clone_from(&args.array);
    options.by.clone_from(&args.by);
    (options.sample, options.seed) = (args.sample, args.seed);
    for path in &args.against {
        check_here("--against", path)?;
        let matrix = Matrix::open(path, &Options::default())?;
        options.originals.push(Original { name: name(path), matrix });
    }
    let interrupt = Interrupt::catch();
    let bar = progress::bytes(args.json);
    let source = Watched::open(&args.file, &args.remote, &interrupt, &bar)?;
    let report = Reader::new(Box::new(source), ReadOptions::default())
        .and_then(|reader| Report::measure(&reader, &options))
        .map_err(|error| interrupt.or(error))?;
    bar.finish_and_clear();

    let page = report.to_html();
    if let Some(output) = &args.output {
        let mut out = AtomicFile::create(output, Overwrite::Allow).map_err(Error::Output)?;
        out.write_all(page.as_bytes()).map_err(Error::Output)?;
        interrupt.check()?;
        out.commit().map_err(Error::Output)?;
    }
    if args.json {
        return crate::json::print(&strict(&report.to_json()));
    }
    let seconds = started.elapsed().as_secs_f64();
    let output = args.output.as_deref().unwrap_or(Path::new("")).display();
    to_stdout(&format!("wrote {output} ({}) in {seconds:.2} s", size(page.len() as u64)))
}

/// A file's own name: where it lies is no part of a report, and what a URL has behind its path may be a secret.
fn name(path: &Path) -> String {
    let path = PathBuf::from(shown(path));
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
