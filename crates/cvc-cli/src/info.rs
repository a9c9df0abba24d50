//! `cvc info`

use cvc::format::{ArrayIndex, json::Style};
use cvc::{Reader, choose};
use serde_json::{Value, json};

use crate::args::InfoArgs;
use crate::json::strict;
use crate::report::{Failure, compared, plural, ratio, size, to_stdout};

/// Sections that are listed in full; a file may have a million.
const SHOWN: usize = 12;

/// Characters of metadata on one line.
const LINE_LEN: usize = 100;

pub(crate) fn run(args: &InfoArgs) -> Result<(), Failure> {
    let reader = Reader::open(&args.file)?;
    let plans = if args.explain { Some(explain(&reader, args)?) } else { None };
    if args.json {
        let mut object = describe(&reader)?;
        if let Some(plans) = plans {
            object["explain"] = plans.iter().map(|plan| json!(plan)).collect();
        }
        return crate::json::print(&object);
    }
    let mut lines = summary(&reader)?;
    lines.extend(plans.into_iter().flatten());
    to_stdout(&lines.join("\n"))
}

/// The object of `--json`.
pub(crate) fn describe(reader: &Reader) -> Result<Value, Failure> {
    let index = reader.index();
    let mut arrays = Vec::new();
    for array in &index.arrays {
        arrays.push(json!({
            "name": array.name,
            "dtype": array.dtype.name(),
            "shape": array.shape(),
            "codec": &*array.codec,
            "params": params(array),
            "chunks": array.chunks.len(),
            "block_rows": null,
            "stored_len": array.stored_len(),
            "ratio": ratio(array.stored_len(), decoded_len(reader, array)?),
        }));
    }
    let sections = index.sections.iter().map(|section| {
        json!({ "start": section.rows.start, "end": section.rows.end, "metadata": strict(&section.metadata) })
    });
    let chunk_metadata =
        index.chunk_metadata.iter().map(|metadata| metadata.as_ref().map_or(Value::Null, strict));
    Ok(json!({
        "layout": index.layout.name(),
        "arrays": arrays,
        "sections": sections.collect::<Vec<_>>(),
        "chunk_metadata": chunk_metadata.collect::<Vec<_>>(),
        "metadata": {},
        "file_len": reader.source().len(),
        "trailing_bytes": index.trailing_len,
    }))
}

/// Bytes of the array's values, unpacked.
fn decoded_len(reader: &Reader, array: &ArrayIndex) -> Result<u64, Failure> {
    let size = reader.array(&array.name)?.dtype()?.size() as u64;
    Ok(array.rows.saturating_mul(u64::from(array.dim)).saturating_mul(size))
}

fn params(array: &ArrayIndex) -> Value {
    if array.codec.ends_with("int8") { json!({ "scope": "chunk" }) } else { json!({}) }
}

/// What a person wants to know, in lines.
fn summary(reader: &Reader) -> Result<Vec<String>, Failure> {
    let index = reader.index();
    let mut lines = vec![format!(
        "layout {}, {}, {} array{}, {} section{}",
        index.layout,
        size(reader.source().len()),
        index.arrays.len(),
        plural(index.arrays.len()),
        index.sections.len(),
        plural(index.sections.len()),
    )];
    for array in &index.arrays {
        let rows = match array.shape()[..] {
            [rows] => format!("{rows} scalars of {}", array.dtype),
            _ => format!("{} rows of {} {}", array.rows, array.dim, array.dtype),
        };
        lines.push(format!(
            "array {:?}: {rows}, codec {}, {} chunk{}, {} stored, {}",
            array.name,
            array.codec,
            array.chunks.len(),
            plural(array.chunks.len()),
            size(array.stored_len()),
            compared(array.stored_len(), decoded_len(reader, array)?),
        ));
    }
    let sections = index
        .sections
        .iter()
        .map(|section| (format!("section {}..{}", section.rows.start, section.rows.end), &section.metadata));
    let chunks = index.chunk_metadata.iter().enumerate();
    let chunks =
        chunks.filter_map(|(number, metadata)| Some((format!("chunk {number}"), metadata.as_ref()?)));
    let described: Vec<(String, &cvc::Json)> = sections.chain(chunks).collect();
    for (what, metadata) in described.iter().take(SHOWN) {
        lines.push(format!("{what}: {}", cut(metadata.to_string_styled(Style::Compact))));
    }
    if described.len() > SHOWN {
        lines.push(format!("and {} more; --json lists them all", described.len() - SHOWN));
    }
    if index.trailing_len > 0 {
        lines.push(format!("{} bytes follow the last chunk; no reader looks at them", index.trailing_len));
    }
    Ok(lines)
}

/// As much of a text as fits on a line.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LINE_LEN) {
        text.truncate(end);
        text += " ...";
    }
    text
}

/// One line for each way in which chunks of an array are decoded.
fn explain(reader: &Reader, args: &InfoArgs) -> Result<Vec<String>, Failure> {
    let chosen = choose(args.device)?;
    let mut lines: Vec<String> =
        chosen.passed_over.iter().map(|report| format!("passed over {report}")).collect();
    let device = chosen.backend.device();
    for array in &reader.index().arrays {
        let array = reader.array(&array.name)?;
        let out = array.dtype()?;
        let mut steps: Vec<String> = Vec::new();
        for chunk in array.chunks() {
            let plan = array.plan(chunk.id, out)?;
            let step = match chosen.backend.supports(&plan) {
                Ok(()) => format!("{plan} on {}", device.name),
                Err(unsupported) => unsupported.to_string(),
            };
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        let read = if reader.layout().has_checksums() { "read, check crc32 on the host" } else { "read" };
        for step in steps {
            lines.push(format!("array {:?} to {out}: {read}; {step}", array.index().name));
        }
    }
    Ok(lines)
}
