//! `cvc info`

use cvc::format::{ArrayIndex, json::Style};
use cvc::{Backend, Reader, choose};
use serde_json::{Value, json};

use crate::args::InfoArgs;
use crate::json::strict;
use crate::report::{Failure, size, to_stdout};

pub(crate) fn run(args: &InfoArgs) -> Result<(), Failure> {
    let reader = Reader::open(&args.file)?;
    let plans = if args.explain { Some(explain(&reader, args)?) } else { None };
    if args.json {
        let mut object = describe(&reader)?;
        if let Some(plans) = plans {
            object["explain"] = plans.iter().map(|plan| json!(plan)).collect();
        }
        crate::json::print(&object);
        return Ok(());
    }
    print(&reader)?;
    for plan in plans.iter().flatten() {
        to_stdout(plan);
    }
    Ok(())
}

fn describe(reader: &Reader) -> Result<Value, Failure> {
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
            "ratio": ratio(reader, array)?,
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

/// How many times smaller the array is than its values.
fn ratio(reader: &Reader, array: &ArrayIndex) -> Result<Option<f64>, Failure> {
    let decoded = decoded_len(reader, array)?;
    let stored = array.stored_len();
    Ok((stored > 0).then(|| (decoded as f64 / stored as f64 * 1e4).round() / 1e4))
}

fn decoded_len(reader: &Reader, array: &ArrayIndex) -> Result<u128, Failure> {
    let dtype = reader.array(&array.name)?.dtype()?;
    Ok(u128::from(array.rows) * u128::from(array.dim) * dtype.size() as u128)
}

fn params(array: &ArrayIndex) -> Value {
    if array.codec.ends_with("int8") { json!({ "scope": "chunk" }) } else { json!({}) }
}

fn print(reader: &Reader) -> Result<(), Failure> {
    let index = reader.index();
    to_stdout(&format!(
        "layout {}, {}, {} array{}, {} section{}",
        index.layout,
        size(reader.source().len()),
        index.arrays.len(),
        plural(index.arrays.len()),
        index.sections.len(),
        plural(index.sections.len()),
    ));
    for array in &index.arrays {
        let shape: Vec<String> = array.shape().iter().map(u64::to_string).collect();
        let ratio = ratio(reader, array)?.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2} x smaller"));
        to_stdout(&format!(
            "array \"{}\": {} rows of {} {}, shape ({}), codec {}, {} chunk{}, {} stored, {ratio}",
            array.name,
            array.rows,
            array.dim,
            array.dtype,
            shape.join(", "),
            array.codec,
            array.chunks.len(),
            plural(array.chunks.len()),
            size(array.stored_len()),
        ));
    }
    let mut shown: Vec<(String, &cvc::Json)> = Vec::new();
    for section in &index.sections {
        shown.push((format!("section {}..{}", section.rows.start, section.rows.end), &section.metadata));
    }
    for (number, metadata) in index.chunk_metadata.iter().enumerate() {
        if let Some(metadata) = metadata {
            shown.push((format!("chunk {number}"), metadata));
        }
    }
    const SHOWN: usize = 12;
    for (what, metadata) in shown.iter().take(SHOWN) {
        to_stdout(&format!("{what}: {}", metadata.to_string_styled(Style::Compact)));
    }
    if shown.len() > SHOWN {
        to_stdout(&format!("and {} more; --json lists them all", shown.len() - SHOWN));
    }
    if index.trailing_len > 0 {
        to_stdout(&format!("{} bytes follow the last chunk; no reader looks at them", index.trailing_len));
    }
    Ok(())
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
        for chunk in 0..array.index().chunks.len() {
            let chunk =
                cvc::format::ChunkId(u32::try_from(chunk).expect("a file has fewer than 2^32 chunks"));
            let plan = array.plan(chunk, out)?;
            let cvc::AnyBackend::Cpu(backend) = &chosen.backend else {
                unreachable!("this program was built with the cpu backend only")
            };
            let step = match backend.supports(&plan) {
                Ok(()) => format!("{plan} on {}", device.name),
                Err(unsupported) => unsupported.to_string(),
            };
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        let read = if reader.layout().has_checksums() { "read, check crc32 on the host" } else { "read" };
        for step in steps {
            lines.push(format!("array \"{}\" to {out}: {read}; {step}", array.index().name));
        }
    }
    Ok(lines)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
