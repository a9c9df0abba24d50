//! `cvc pack`

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cvc::input::{Matrix, Options};
use cvc::{AlignedBytes, DType, Json, Layout, RowSlice, WriteOptions, Writer};
use serde_json::json;

use crate::args::{PackArgs, json_or_string};
use crate::progress;
use crate::report::{Failure, io_failed, size, to_stdout, wrong};

/// One array of the file: matrices whose rows follow each other.
struct Source {
    name: String,
    codec: String,
    matrices: Vec<Matrix>,
}

/// A section of the file.
struct Section {
    rows: Range<u64>,
    metadata: Json,
}

pub(crate) fn run(args: &PackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let layout = Layout::from(args.layout);
    let mut sections = Vec::new();
    let sources = open_sources(args, layout, &mut sections)?;
    let rows = sources[0].rows();
    if let Some(path) = &args.sections {
        if !sections.is_empty() {
            let problem = "sections are given by @key=value as well; use one of the two";
            return Err(wrong("--sections", path.display(), problem));
        }
        sections = read_sections(path)?;
    }

    let mut options = WriteOptions::new(layout);
    for source in &sources {
        options = options.array(&source.name, source.dtype(), source.dim(), &source.codec)?;
    }
    if let Some(rows) = args.chunk_rows {
        options = options.chunk_rows(rows)?;
    }
    let mut writer = Writer::create(&args.output, options)?;
    for section in sections {
        if section.rows.end > rows {
            let named = format!("{}..{}", section.rows.start, section.rows.end);
            return Err(wrong("section", named, format!("the inputs have {rows} rows")));
        }
        writer.add_section(section.rows, section.metadata)?;
    }

    let bar = progress::rows(rows, args.json);
    let mut scratch: Vec<AlignedBytes> = sources.iter().map(|_| AlignedBytes::new()).collect();
    let mut row = 0;
    while row < rows {
        // No further than the end of any array's current matrix.
        let end = sources.iter().map(|source| source.border_after(row)).min().unwrap_or(rows);
        let end = end.min(row + writer.batch_rows() as u64);
        let batch = sources.iter().zip(&mut scratch).map(|(source, scratch)| source.read(row..end, scratch));
        writer.write(&batch.collect::<Result<Vec<_>, Failure>>()?)?;
        bar.inc(end - row);
        row = end;
    }
    let written = writer.finish()?;
    bar.finish_and_clear();

    let seconds = started.elapsed().as_secs_f64();
    let input_len: u64 = sources.iter().map(Source::value_len).sum();
    let ratio = input_len as f64 / written.file_len as f64;
    if args.json {
        let arrays = sources.iter().map(|source| {
            json!({ "name": source.name, "dtype": source.dtype().name(), "dim": source.dim(), "codec": source.codec })
        });
        crate::json::print(&json!({
            "output": args.output.display().to_string(),
            "layout": layout.name(),
            "rows": written.rows,
            "chunks": written.chunks,
            "arrays": arrays.collect::<Vec<_>>(),
            "input_len": input_len,
            "file_len": written.file_len,
            "ratio": ratio,
            "seconds": seconds,
        }));
    } else {
        let arrays: Vec<String> = sources
            .iter()
            .map(|source| format!("{} {} as {}", source.dim(), source.dtype(), source.codec))
            .collect();
        to_stdout(&format!(
            "packed {} rows of {} into {}: {}, {ratio:.2} x smaller than {}, {} chunk{}, layout {layout}, in {seconds:.2} s",
            written.rows,
            arrays.join(" + "),
            args.output.display(),
            size(written.file_len),
            size(input_len),
            written.chunks,
            if written.chunks == 1 { "" } else { "s" },
        ));
    }
    Ok(())
}

impl Source {
    fn dtype(&self) -> DType {
        self.matrices[0].dtype()
    }

    fn dim(&self) -> u32 {
        self.matrices[0].dim()
    }

    fn rows(&self) -> u64 {
        self.matrices.iter().map(Matrix::rows).sum()
    }

    /// Bytes of all values.
    fn value_len(&self) -> u64 {
        self.rows() * u64::from(self.dim()) * self.dtype().size() as u64
    }

    /// The end of the matrix that has `row`.
    fn border_after(&self, row: u64) -> u64 {
        let mut end = 0;
        for matrix in &self.matrices {
            end += matrix.rows();
            if end > row {
                break;
            }
        }
        end
    }

    /// Rows of one matrix, numbered over all of them.
    fn read<'a>(&'a self, rows: Range<u64>, scratch: &'a mut AlignedBytes) -> Result<RowSlice<'a>, Failure> {
        let mut first = 0;
        for matrix in &self.matrices {
            if rows.start < first + matrix.rows() {
                let bytes = matrix.read(rows.start - first..rows.end - first, scratch)?;
                let count = usize::try_from(rows.end - rows.start).expect("a batch fits in memory");
                return Ok(RowSlice::from_bytes(matrix.dtype(), count, matrix.dim() as usize, bytes)?);
            }
            first += matrix.rows();
        }
        unreachable!("asked for rows {rows:?} of {first}")
    }
}

/// Opens every input and checks that they fit together.
fn open_sources(
    args: &PackArgs,
    layout: Layout,
    sections: &mut Vec<Section>,
) -> Result<Vec<Source>, Failure> {
    let parent = args.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let options =
        Options { member: args.member.clone(), temp_dir: Some(parent.unwrap_or(Path::new(".")).to_owned()) };
    let mut matrices: Vec<Matrix> = Vec::new();
    let mut first_row = 0;
    for input in &args.inputs {
        let (path, metadata) = split_input(input)?;
        let matrix = open(&path, &options, args)?;
        if let Some(first) = matrices.first() {
            if (matrix.dim(), matrix.dtype(), matrix.scalar()) != (first.dim(), first.dtype(), first.scalar())
            {
                let problem = format!(
                    "it has rows of {} {} values, the first input rows of {} {}; inputs that make one array must agree",
                    matrix.dim(),
                    matrix.dtype(),
                    first.dim(),
                    first.dtype()
                );
                return Err(wrong("INPUT", input, problem));
            }
        }
        let rows = first_row..first_row + matrix.rows();
        first_row = rows.end;
        if let Some(metadata) = metadata {
            if rows.is_empty() {
                return Err(wrong("INPUT", input, "it has no rows, so it cannot be a section"));
            }
            sections.push(Section { rows, metadata });
        }
        matrices.push(matrix);
    }
    if matrices[0].scalar() && layout != Layout::V2 {
        let problem = format!("it is a list of scalars, but layout {layout} holds a matrix; use --layout v2");
        return Err(wrong("INPUT", &args.inputs[0], problem));
    }
    let mut sources = vec![Source { name: args.array.clone(), codec: String::new(), matrices }];
    for pair in &args.add {
        let matrix = open(Path::new(&pair.value), &Options { member: None, ..options.clone() }, args)?;
        if matrix.rows() != first_row {
            let problem = format!("it has {} rows, the inputs have {first_row}", matrix.rows());
            return Err(wrong("--add", format!("{}={}", pair.key, pair.value), problem));
        }
        sources.push(Source { name: pair.key.clone(), codec: String::new(), matrices: vec![matrix] });
    }
    choose_codecs(args, layout, &mut sources)?;
    Ok(sources)
}

fn open(path: &Path, options: &Options, args: &PackArgs) -> Result<Matrix, Failure> {
    let same = |other: &Path| matches!((other.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(&args.output) {
        return Err(wrong("--output", args.output.display(), "it is also an input; choose another name"));
    }
    // Only archives have members; other inputs may stand beside one.
    let archive = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz"));
    let options = if archive { options.clone() } else { Options { member: None, ..options.clone() } };
    Ok(Matrix::open(path, &options)?)
}

/// The codec of each array: the one named for it, the one named for all, or the default of its dtype.
fn choose_codecs(args: &PackArgs, layout: Layout, sources: &mut [Source]) -> Result<(), Failure> {
    let mut for_all = None;
    let mut for_one = Vec::new();
    for codec in &args.codec {
        match codec.split_once('=') {
            Some((array, codec)) => for_one.push((array, codec)),
            None if for_all.replace(codec.as_str()).is_some() => {
                return Err(wrong(
                    "--codec",
                    codec,
                    "a codec for all arrays was given before; use ARRAY=CODEC",
                ));
            }
            None => {}
        }
    }
    if let Some((array, _)) =
        for_one.iter().find(|(array, _)| sources.iter().all(|source| source.name != *array))
    {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        return Err(wrong(
            "--codec",
            array,
            format!("no array has that name; there are {}", names.join(", ")),
        ));
    }
    for source in sources {
        let named = for_one.iter().rfind(|(array, _)| *array == source.name).map(|(_, codec)| *codec);
        let default = if source.dtype().is_float() || layout != Layout::V2 { "fp16" } else { "none" };
        source.codec = named.or(for_all).unwrap_or(default).to_owned();
    }
    Ok(())
}

/// `PATH` or `PATH@key=value,...`. An `@` may also be part of a name.
fn split_input(input: &str) -> Result<(PathBuf, Option<Json>), Failure> {
    if !input.contains('@') || Path::new(input).exists() {
        return Ok((input.into(), None));
    }
    for (at, _) in input.match_indices('@').rev() {
        let (path, pairs) = (&input[..at], &input[at + 1..]);
        if Path::new(path).exists() {
            return match parse_pairs(pairs) {
                Some(pairs) => Ok((path.into(), Some(Json::object(pairs)))),
                None => Err(wrong("INPUT", input, format!("\"{pairs}\" is not a list of key=value"))),
            };
        }
    }
    let path = input.split('@').next().unwrap_or(input);
    Err(wrong("INPUT", input, format!("there is no file {path}")))
}

/// `key=value,key=value`. A value may hold commas if it is JSON with them.
fn parse_pairs(text: &str) -> Option<Vec<(String, Json)>> {
    let mut pairs = Vec::new();
    let mut parts = text.split(',');
    while let Some(part) = parts.next() {
        let (key, value) = part.split_once('=')?;
        if key.is_empty() {
            return None;
        }
        let mut value = value.to_owned();
        // `tags=["a","b"]` was split in two: take parts until it is JSON.
        if value.starts_with(['[', '{', '"']) {
            let mut ahead = parts.clone();
            let mut longer = value.clone();
            loop {
                if !matches!(json_or_string(&longer), Json::String(text) if text == longer.as_str()) {
                    (value, parts) = (longer, ahead);
                    break;
                }
                match ahead.next() {
                    Some(more) => longer = format!("{longer},{more}"),
                    None => break,
                }
            }
        }
        pairs.push((key.to_owned(), json_or_string(&value)));
    }
    Some(pairs)
}

/// A JSON list of `{"start", "count", "metadata"}`.
fn read_sections(path: &Path) -> Result<Vec<Section>, Failure> {
    let text = fs::read(path).map_err(|cause| io_failed(path, "cannot be read", cause))?;
    let bad = |problem: String| wrong("--sections", path.display(), problem);
    let json =
        Json::parse(&text, cvc::Limits::default().json_depth).map_err(|error| bad(error.to_string()))?;
    let items = json
        .as_array()
        .ok_or_else(|| bad("a list of {\"start\", \"count\", \"metadata\"} is needed".into()))?;
    let section = |(index, item): (usize, &Json)| {
        let number = |key| {
            let value = item.get(key).and_then(Json::as_u64);
            value.ok_or_else(|| bad(format!("item {index} has no \"{key}\" that is a whole number")))
        };
        let (start, count) = (number("start")?, number("count")?);
        if count == 0 {
            return Err(bad(format!("item {index} has \"count\" 0; a section has at least one row")));
        }
        let end = start.checked_add(count).ok_or_else(|| bad(format!("item {index} ends beyond 2^64")))?;
        let metadata = item.get("metadata").cloned();
        let metadata = metadata.ok_or_else(|| bad(format!("item {index} has no \"metadata\"")))?;
        Ok(Section { rows: start..end, metadata })
    };
    items.iter().enumerate().map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_commas_stay_whole_if_they_are_json() {
        let pairs = parse_pairs(r#"source=wiki,tags=["a","b=c"],year=2024,name=x"#).unwrap();
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["source", "tags", "year", "name"]);
        assert_eq!(pairs[1].1.as_array().unwrap().len(), 2);
        assert_eq!(pairs[2].1, Json::from(2024u64));
        assert_eq!(parse_pairs("a=[1,b=2").unwrap()[0].1, Json::from("[1"));
        assert!(parse_pairs("wiki").is_none() && parse_pairs("=x").is_none() && parse_pairs("").is_none());
    }
}
