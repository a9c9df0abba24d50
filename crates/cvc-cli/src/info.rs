//! `cvc info`

use cvc::format::{ArrayIndex, Stored, json::Style};
use cvc::{Array, ArrayDType, Json, Layout, Loss, ReadOptions, Reader, choose};
use serde_json::{Value, json};

use crate::args::InfoArgs;
use crate::json::strict;
use crate::report::{Failure, compared, plural, ratio, size, to_stdout};

/// Sections that are listed in full; a file may have a million.
const SHOWN: usize = 12;

/// Characters of metadata on one line.
const LINE_LEN: usize = 100;

pub(crate) fn run(args: &InfoArgs) -> Result<(), Failure> {
    let reader = Reader::new(args.remote.source(&args.file)?, ReadOptions::default())?;
    let plans = if args.explain { Some(explain(&reader, args)?) } else { None };
    if args.json {
        let mut object = describe(&reader);
        if let Some(plans) = plans {
            object["explain"] = plans.iter().map(|plan| json!(plan)).collect();
        }
        return crate::json::print(&object);
    }
    let mut lines = summary(&reader);
    if let Some(plans) = plans {
        lines.push(String::new());
        lines.extend(plans);
    }
    to_stdout(&lines.join("\n"))
}

/// The object of `--json`.
pub(crate) fn describe(reader: &Reader) -> Value {
    let index = reader.index();
    let arrays = reader.arrays().map(|array| {
        let index = array.index();
        json!({
            "name": index.name,
            "dtype": index.dtype.name(),
            "shape": index.shape(),
            "codec": &*index.codec,
            "params": params(index),
            "chunks": index.chunks.len(),
            "block_rows": block_rows(index),
            "stored_len": index.stored_len(),
            "ratio": decoded_len(array).and_then(|len| ratio(index.stored_len(), len)),
            "bytes_per_value": bytes_per_value(array),
            "loss": array.loss().map(loss_json),
            "provenance": index.provenance.as_ref().map(strict),
        })
    });
    let sections = index.sections.iter().map(|section| {
        json!({ "start": section.rows.start, "end": section.rows.end, "metadata": strict(&section.metadata) })
    });
    let chunk_metadata =
        index.chunk_metadata.iter().map(|metadata| metadata.as_ref().map_or(Value::Null, strict));
    json!({
        "layout": index.layout.name(),
        "arrays": arrays.collect::<Vec<_>>(),
        "sections": sections.collect::<Vec<_>>(),
        "chunk_metadata": chunk_metadata.collect::<Vec<_>>(),
        "metadata": strict(&index.metadata),
        "file_len": reader.source().len(),
        "trailing_bytes": index.trailing_len,
    })
}

/// Bytes of the array's values, unpacked; `None` for strings, whose lengths nobody has counted, and for what this
/// version does not know.
fn decoded_len(array: Array<'_>) -> Option<u64> {
    let size = array.dtype().ok()?.size() as u64;
    Some(array.rows().saturating_mul(u64::from(array.dim())).saturating_mul(size))
}

/// What a value takes in the file, parameters, heads and padding included, to three digits after the point; `None` for strings, and
/// where there are no values.
fn bytes_per_value(array: Array<'_>) -> Option<f64> {
    array.dtype().ok()?;
    let values = array.rows().saturating_mul(u64::from(array.dim()));
    (values > 0).then(|| (array.index().stored_len() as f64 / values as f64 * 1e3).round() / 1e3)
}

fn params(array: &ArrayIndex) -> Value {
    match array.codec_options.as_object() {
        Some([_, ..]) => strict(&array.codec_options),
        // CVCF files do not say so, but have no other.
        _ if array.codec.starts_with("cvcf") && array.codec.ends_with("int8") => json!({ "scope": "chunk" }),
        _ => json!({}),
    }
}

/// Rows in the blocks of the first chunk; all chunks that one writer made have as many.
fn block_rows(array: &ArrayIndex) -> Option<u32> {
    match array.chunks.first()?.stored {
        Stored::Blocked(blocked) => Some(blocked.block_rows),
        Stored::Framed { .. } => None,
    }
}

fn loss_json(loss: Loss) -> Value {
    json!({
        "max_abs_error": number(loss.max_abs_error),
        "mse": number(loss.mse),
        "min_cosine": number(loss.min_cosine),
    })
}

/// With the digits of an f32; infinity, for which JSON has no number, as metadata has it.
fn number(value: f32) -> Value {
    if value.is_finite() { json!(value) } else { json!("Infinity") }
}

/// What a person wants to know, in lines.
fn summary(reader: &Reader) -> Vec<String> {
    let index = reader.index();
    let (arrays, sections) = (index.arrays.len(), index.sections.len());
    let mut lines = vec![format!(
        "layout {}, {}, {arrays} array{}, {sections} section{}",
        index.layout,
        size(reader.source().len()),
        plural(arrays),
        plural(sections),
    )];
    let width = index.arrays.iter().map(|array| array.name.chars().count()).max().unwrap_or(0).min(24);
    for array in reader.arrays() {
        let mut name = array.index().name.as_str();
        lines.push(String::new());
        for line in describe_array(reader, array) {
            lines.push(format!("{name:width$}  {line}"));
            name = "";
        }
    }
    let has_metadata = index.metadata.as_object().is_some_and(|pairs| !pairs.is_empty());
    let sections = index
        .sections
        .iter()
        .map(|section| (format!("section {}..{}", section.rows.start, section.rows.end), &section.metadata));
    let chunks = index.chunk_metadata.iter().enumerate();
    let chunks =
        chunks.filter_map(|(number, metadata)| Some((format!("chunk {number}"), metadata.as_ref()?)));
    let metadata = has_metadata.then(|| ("metadata".to_owned(), &index.metadata));
    let described: Vec<(String, &Json)> = metadata.into_iter().chain(sections).chain(chunks).collect();
    let width = described.iter().take(SHOWN).map(|(what, _)| what.len()).max().unwrap_or(0);
    if !described.is_empty() {
        lines.push(String::new());
    }
    for (what, metadata) in described.iter().take(SHOWN) {
        lines.push(format!("{what:width$}  {}", cut(metadata)));
    }
    if described.len() > SHOWN {
        lines.push(format!("and {} more; --json lists them all", described.len() - SHOWN));
    }
    if index.trailing_len > 0 {
        lines.push(format!("{} bytes follow the last chunk; no reader looks at them", index.trailing_len));
    }
    lines
}

/// One array, in lines.
fn describe_array(reader: &Reader, array: Array<'_>) -> Vec<String> {
    let index = array.index();
    let shape: Vec<String> = index.shape().iter().map(u64::to_string).collect();
    let shape = shape.join(" x ");
    let what = match index.dtype {
        ArrayDType::Utf8 => format!("{shape} strings"),
        ArrayDType::Values(dtype) if index.inner.is_empty() => format!("{shape} {dtype} scalars"),
        dtype => format!("{shape} {dtype}"),
    };
    let mut codec = format!("codec {}", index.codec);
    if let Value::Object(params) = params(index) {
        for (key, value) in params {
            codec += &format!(", {key} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    let mut stored =
        format!("{} in {} chunk{}", size(index.stored_len()), index.chunks.len(), plural(index.chunks.len()));
    if let Some(rows) = block_rows(index) {
        stored += &format!(", blocks of {rows} row{}", plural(rows as usize));
    }
    if let Some(len) = decoded_len(array).filter(|len| *len > 0) {
        stored += &format!(", {}", compared(index.stored_len(), len));
        if let Some(bytes) = bytes_per_value(array) {
            stored += &format!(", {bytes} bytes a value");
        }
    }
    let mut lines = vec![format!("{what}, {codec}"), stored];
    match array.loss() {
        Some(Loss::NONE) => lines.push("exact: every bit comes back".into()),
        Some(Loss { max_abs_error, mse, min_cosine }) => lines.push(format!(
            "largest error {max_abs_error:.2e}, mean square {mse:.2e}, least cosine {min_cosine}"
        )),
        None if reader.layout() == Layout::Native => lines.push("what encoding lost is not known".into()),
        None => {}
    }
    if !index.requires.is_empty() {
        lines.push(format!("needs a newer version of cvc, with {}", index.requires.join(", ")));
    }
    if let Some(provenance) = &index.provenance {
        lines.push(format!("provenance {}", cut(provenance)));
    }
    lines
}

/// As much of some metadata as fits on a line.
fn cut(metadata: &Json) -> String {
    let mut text = metadata.to_string_styled(Style::Compact);
    if let Some((end, _)) = text.char_indices().nth(LINE_LEN) {
        text.truncate(end);
        text += " ...";
    }
    text
}

/// One line for each way in which chunks of an array are decoded.
fn explain(reader: &Reader, args: &InfoArgs) -> Result<Vec<String>, Failure> {
    let chosen = choose(&args.device)?;
    let mut lines: Vec<String> =
        chosen.passed_over.iter().map(|report| format!("passed over {report}")).collect();
    let read = match reader.layout() {
        Layout::Native => "read, check crc32c of each block on the host",
        layout if layout.has_checksums() => "read, check crc32 on the host",
        _ => "read",
    };
    for array in reader.arrays() {
        let name = &array.index().name;
        if array.index().dtype == ArrayDType::Utf8 {
            lines.push(format!(
                "array {name:?} to strings: {read}; {}, split on the host",
                array.index().codec
            ));
            continue;
        }
        let out = array.dtype()?;
        let mut steps: Vec<String> = Vec::new();
        for chunk in array.chunks() {
            let plan = array.plan(chunk.id, out)?;
            let step = match chosen.backend.supports(&plan) {
                Ok(()) => chosen.backend.explain(&plan),
                Err(unsupported) => unsupported.to_string(),
            };
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        for step in steps {
            lines.push(format!("array {name:?} to {out}: {read}; {step}"));
        }
    }
    Ok(lines)
}
