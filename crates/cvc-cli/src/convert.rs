//! `cvc convert`, and `cvc pack` of what is no matrix.

use std::path::Path;
use std::time::Instant;

use cvc::Reader;
use cvc::format::cvcf::VECTORS;
use cvc_convert::{Converted, Error, Format, Options};
use serde_json::json;

use crate::args::{ConvertArgs, LayoutArg, PackArgs, object};
use crate::info::describe;
use crate::interrupt::Interrupt;
use crate::progress;
use crate::report::{
    Failure, check_here, check_not_input, check_output, plural, size, to_stderr, to_stdout, wrong,
};

/// What floats are packed as, where nothing is said.
const FLOATS: &str = "fp16";

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    check_here("SOURCE", &args.source)?;
    check_output(&args.output)?;
    check_not_input(&args.output, &args.source)?;
    let options = Options {
        codecs: codecs(&args.codec),
        sections_from: args.sections_from.clone(),
        columns: (!args.column.is_empty()).then(|| args.column.clone()),
        vectors: args.vectors.clone(),
        text_dtype: args.text_dtype,
        strings: args.strings.clone(),
        chunk_rows: args.chunk_rows,
        nonfinite: args.nonfinite.map(Into::into),
        metadata: pairs(&object("--meta", &args.meta)?),
        ..Options::default()
    };
    converted("converted", &args.source, &args.output, &options, args.json)
}

/// Whether a file is for `cvc convert` to read or write: what is neither a matrix nor a `.cvc` file.
pub(crate) fn is_other(path: &Path) -> bool {
    !matches!(Format::of(path), None | Some(Format::Matrix | Format::Cvc))
}

/// Packs a table, or whatever else is read here, which makes a whole file by itself.
pub(crate) fn pack(args: &PackArgs, input: &Path) -> Result<(), Failure> {
    check_output(&args.output)?;
    check_not_input(&args.output, input)?;
    if args.inputs.len() > 1 {
        let problem = "it makes a file of its own: pack it alone";
        return Err(wrong("INPUT", input.display(), problem));
    }
    let given = [
        ("--target-recall", args.target_recall.map(|share| share.to_string())),
        ("--block-rows", args.block_rows.map(|rows| rows.to_string())),
        ("--sections", args.sections.as_ref().map(|path| path.display().to_string())),
        ("--add", args.add.first().map(ToString::to_string)),
        ("--array", (args.array != VECTORS).then(|| args.array.clone())),
        ("--member", args.member.clone()),
        ("--provenance", args.provenance.first().map(ToString::to_string)),
        ("--layout", (args.layout != LayoutArg::Native).then(|| "other than native".to_owned())),
    ];
    if let Some((option, Some(value))) = given.into_iter().find(|(_, value)| value.is_some()) {
        let problem =
            format!("it is for matrices, and {} makes a file of its own; leave it out", input.display());
        return Err(wrong(option, value, problem));
    }
    let options = Options {
        codecs: codecs(&args.codec),
        float_codec: Some(FLOATS.to_owned()),
        sections_from: args.sections_from.clone(),
        chunk_rows: args.chunk_rows,
        scope: args.scope.map(Into::into),
        nonfinite: args.nonfinite.map(Into::into),
        metadata: pairs(&object("--meta", &args.meta)?),
        ..Options::default()
    };
    converted("packed", input, &args.output, &options, args.json)
}

/// No codec has a '=' in its name; an array may.
fn codecs(given: &[String]) -> Vec<(Option<String>, String)> {
    let each = given.iter().map(|codec| match codec.rsplit_once('=') {
        Some((array, name)) => (Some(array.to_owned()), name.to_owned()),
        None => (None, codec.clone()),
    });
    each.collect()
}

fn pairs(object: &cvc::Json) -> Vec<(String, cvc::Json)> {
    let pairs = object.as_object().unwrap_or_default().iter();
    pairs.filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.clone()))).collect()
}

fn converted(verb: &str, source: &Path, output: &Path, options: &Options, json: bool) -> Result<(), Failure> {
    let started = Instant::now();
    let interrupt = Interrupt::catch();
    let mut bar = None;
    let done = cvc_convert::convert(source, output, options, &mut |done, all| {
        bar.get_or_insert_with(|| progress::rows(all, json)).set_position(done);
        interrupt.check().map_err(|_| Error::Stopped)
    });
    drop(bar);
    let done = done.map_err(Failure::of_convert)?;
    let seconds = started.elapsed().as_secs_f64();
    let Converted { rows, arrays, sections, file_len, not_kept, .. } = &done;
    if json {
        let mut object = match Format::of(output) {
            Some(Format::Cvc) => describe(&Reader::open(output)?),
            _ => json!({ "arrays": arrays, "file_len": file_len }),
        };
        object["output"] = json!(output.display().to_string());
        object["rows"] = json!(rows);
        object["section_count"] = json!(sections);
        object["not_kept"] = json!(not_kept);
        object["seconds"] = json!(seconds);
        return crate::json::print(&object);
    }
    for what in not_kept {
        to_stderr(&format!("warning: not kept: {what}"));
    }
    let sections = match sections {
        0 => String::new(),
        count => format!(" in {count} section{}", plural(*count)),
    };
    to_stdout(&format!(
        "{verb} {rows} rows{sections} of {} from {} into {} ({}) in {seconds:.2} s",
        arrays.join(", "),
        source.display(),
        output.display(),
        size(*file_len),
    ))
}
