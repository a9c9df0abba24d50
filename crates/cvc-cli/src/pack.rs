//! `cvc pack`

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cvc::format::cvcf::VECTORS;
use cvc::input::{InputError, Matrix, Options};
use cvc::{AlignedBytes, DType, Json, Layout, Reader, RowSlice, WriteOptions, Writer};
use serde_json::json;

use crate::args::{PackArgs, json_or_string};
use crate::info::describe;
use crate::interrupt::Interrupt;
use crate::progress;
use crate::report::{
    Failure, check_not_input, check_output, compared, io_failed, plural, ratio, size, to_stdout, wrong,
};

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
    check_output(&args.output)?;
    let layout = Layout::from(args.layout);
    let mut sections = Vec::new();
    let sources = open_sources(args, layout, &mut sections)?;
    let rows = sources[0].rows();
    if let Some(path) = &args.sections {
        if !sections.is_empty() {
            let problem = "sections are given by @key=value as well; use one of the two";
            return Err(wrong("--sections", path.display(), problem));
        }
        check_not_input(&args.output, path)?;
        sections = read_sections(path, rows)?;
    }

    let mut options = WriteOptions::new(layout);
    for source in &sources {
        options = options.array(&source.name, source.dtype(), source.dim(), &source.codec)?;
    }
    if let Some(rows) = args.chunk_rows {
        options = options.chunk_rows(rows)?;
    }
    let interrupt = Interrupt::catch();
    let mut writer = Writer::create(&args.output, options)?;
    writer.reserve(rows)?;
    for section in sections {
        writer.add_section(section.rows, section.metadata)?;
    }
    let bar = progress::rows(rows, args.json);
    let mut scratch: Vec<AlignedBytes> = sources.iter().map(|_| AlignedBytes::new()).collect();
    let mut row = 0;
    while row < rows {
        interrupt.check()?;
        // No further than the end of any array's current matrix.
        let end = sources.iter().map(|source| source.border_after(row)).min().unwrap_or(rows);
        let end = end.min(row.saturating_add(writer.batch_rows() as u64));
        let batch = sources.iter().zip(&mut scratch).map(|(source, scratch)| source.read(row..end, scratch));
        writer.write(&batch.collect::<Result<Vec<_>, Failure>>()?)?;
        bar.inc(end - row);
        row = end;
    }
    // The rest cannot be interrupted: copying the chunks behind the header, syncing, renaming.
    interrupt.check()?;
    let written = writer.finish()?;
    bar.finish_and_clear();

    let seconds = started.elapsed().as_secs_f64();
    let input_len: u64 = sources.iter().map(Source::value_len).sum();
    if args.json {
        // What `cvc info` says of the file, and what only packing knows.
        let mut object = describe(&Reader::open(&args.output)?)?;
        object["output"] = json!(args.output.display().to_string());
        object["rows"] = json!(written.rows);
        object["chunks"] = json!(written.chunks);
        object["input_len"] = json!(input_len);
        object["ratio"] = json!(ratio(written.file_len, input_len));
        object["seconds"] = json!(seconds);
        crate::json::print(&object)
    } else {
        let arrays: Vec<String> = sources
            .iter()
            .map(|source| {
                // Who packs ids by mistake should see it here rather than later.
                let rounded = !source.dtype().is_float() && source.codec != "none";
                let note = if rounded { " (whole numbers are rounded)" } else { "" };
                format!("{} {} as {}{note}", source.dim(), source.dtype(), source.codec)
            })
            .collect();
        to_stdout(&format!(
            "packed {} rows of {} into {}: {}, {} than {}, {} chunk{}, layout {layout}, in {seconds:.2} s",
            written.rows,
            arrays.join(" + "),
            args.output.display(),
            size(written.file_len),
            compared(written.file_len, input_len),
            size(input_len),
            written.chunks,
            plural(written.chunks),
        ))
    }
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
        self.rows().saturating_mul(u64::from(self.dim())).saturating_mul(self.dtype().size() as u64)
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
    if layout != Layout::V2 {
        let problem = format!("layout {layout} has one array, named vectors; use --layout v2");
        if let Some(pair) = args.add.first() {
            return Err(wrong("--add", pair, problem));
        }
        if args.array != VECTORS {
            return Err(wrong("--array", &args.array, problem));
        }
    }
    let mut matrices: Vec<Matrix> = Vec::new();
    let mut first_row = 0;
    for input in &args.inputs {
        let (path, metadata) = split_input(input)?;
        let refuse = |problem: String| Err(wrong("INPUT", input.display(), problem));
        if path.as_os_str().is_empty() {
            return refuse("it names no file".into());
        }
        let matrix = match open(&path, args.member.as_deref(), args) {
            Err(Failure::Error(cvc::Error::Input(InputError::ChooseMember { names, .. })))
                if !names.is_empty() =>
            {
                let problem = format!("it has {} arrays; choose one with --member: ", names.len());
                return refuse(problem + &names.join(", "));
            }
            result => result?,
        };
        let kind = |matrix: &Matrix| (matrix.dim(), matrix.dtype(), matrix.scalar());
        if let Some(first) = matrices.first().filter(|first| kind(first) != kind(&matrix)) {
            return refuse(format!(
                "it has rows of {} {} values, the first input rows of {} {}; inputs that make one array must agree",
                matrix.dim(),
                matrix.dtype(),
                first.dim(),
                first.dtype()
            ));
        }
        let Some(end) = u64::checked_add(first_row, matrix.rows()) else {
            return refuse("the inputs have more than 2^64 rows together".into());
        };
        let rows = first_row..end;
        first_row = rows.end;
        if let Some(metadata) = metadata {
            if rows.is_empty() {
                return refuse("it has no rows, so it cannot be a section".into());
            }
            sections.push(Section { rows, metadata });
        }
        matrices.push(matrix);
    }
    if matrices[0].scalar() && layout != Layout::V2 {
        let problem = format!("it is a list of scalars, but layout {layout} holds a matrix; use --layout v2");
        return Err(wrong("INPUT", args.inputs[0].display(), problem));
    }
    if let Some(member) = &args.member
        && matrices.iter().all(|matrix| matrix.origin().member.is_none())
    {
        return Err(wrong("--member", member, "no input is an .npz archive; leave it out"));
    }
    let mut sources = vec![Source { name: args.array.clone(), codec: String::new(), matrices }];
    for pair in &args.add {
        let refuse = |problem: String| Err(wrong("--add", pair, problem));
        if sources.iter().any(|source| source.name == pair.key) {
            return refuse(format!("there is an array {:?} already; choose another name", pair.key));
        }
        if pair.value.is_empty() {
            return refuse("it names no file".into());
        }
        let matrix = match open(Path::new(&pair.value), None, args) {
            // Of several, the one that has the array's name.
            Err(Failure::Error(cvc::Error::Input(InputError::ChooseMember { .. }))) => {
                open(Path::new(&pair.value), Some(&pair.key), args)?
            }
            result => result?,
        };
        if matrix.rows() != first_row {
            return refuse(format!("it has {} rows, the inputs have {first_row}", matrix.rows()));
        }
        sources.push(Source { name: pair.key.clone(), codec: String::new(), matrices: vec![matrix] });
    }
    choose_codecs(args, layout, &mut sources)?;
    Ok(sources)
}

fn open(path: &Path, member: Option<&str>, args: &PackArgs) -> Result<Matrix, Failure> {
    check_not_input(&args.output, path)?;
    if path.is_dir() {
        let cause = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(io_failed(path, "cannot be read", cause));
    }
    let parent = args.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let options = Options {
        // Only archives have members; other inputs may stand beside one.
        member: member.filter(|_| is_archive(path)).map(str::to_owned),
        temp_dir: Some(parent.unwrap_or(Path::new(".")).to_owned()),
    };
    Ok(Matrix::open(path, &options)?)
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz"))
}

/// The codec of each array: the one named for it, the one named for all, or the default of its dtype.
fn choose_codecs(args: &PackArgs, layout: Layout, sources: &mut [Source]) -> Result<(), Failure> {
    let mut given: Vec<(Option<&str>, &str)> = Vec::new();
    for codec in &args.codec {
        let refuse = |problem: String| Err(wrong("--codec", codec, problem));
        // No codec has a '=' in its name; an array may.
        let (array, name) = match codec.rsplit_once('=') {
            Some((array, name)) => (Some(array), name),
            None => (None, codec.as_str()),
        };
        if given.iter().any(|(other, _)| *other == array) {
            let whom = array.map_or("all arrays".into(), |array| format!("array {array:?}"));
            return refuse(format!("there is one for {whom} already; use ARRAY=CODEC for each array"));
        }
        if let Some(array) = array
            && sources.iter().all(|source| source.name != array)
        {
            let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            return refuse(format!("there is no array {array:?}; choose one of {}", names.join(", ")));
        }
        given.push((array, name));
    }
    for source in sources {
        let named = |array| given.iter().find(|(whom, _)| *whom == array).map(|(_, name)| *name);
        let default = if source.dtype().is_float() || layout != Layout::V2 { "fp16" } else { "none" };
        source.codec = named(Some(&source.name)).or(named(None)).unwrap_or(default).to_owned();
    }
    Ok(())
}

/// `PATH` or `PATH@key=value,...`. An `@` may also be part of a name.
fn split_input(input: &OsStr) -> Result<(PathBuf, Option<Json>), Failure> {
    let whole = || Ok((input.into(), None));
    let Some(text) = input.to_str().filter(|text| text.contains('@') && !Path::new(input).exists()) else {
        return whole();
    };
    let refuse = |problem: String| Err(wrong("INPUT", text, problem));
    for (at, _) in text.rmatch_indices('@') {
        let (path, pairs) = (&text[..at], &text[at + 1..]);
        if Path::new(path).exists() {
            return match parse_pairs(pairs) {
                Ok(pairs) => Ok((path.into(), Some(Json::object(pairs)))),
                Err(problem) => refuse(problem),
            };
        }
    }
    match text.match_indices('@').find(|(at, _)| parse_pairs(&text[at + 1..]).is_ok()) {
        Some((at, _)) => refuse(format!("there is no file {}", &text[..at])),
        None => whole(),
    }
}

/// `key=value,key=value`. A value may hold commas if it is JSON with them.
fn parse_pairs(text: &str) -> Result<Vec<(String, Json)>, String> {
    let mut pairs: Vec<(String, Json)> = Vec::new();
    let mut parts = text.split(',');
    while let Some(part) = parts.next() {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) if !key.is_empty() => (key, value),
            _ => return Err(format!("\"{part}\" after the @ is no KEY=VALUE")),
        };
        if pairs.iter().any(|(other, _)| other == key) {
            return Err(format!("the key \"{key}\" is given twice"));
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
    Ok(pairs)
}

/// A JSON list of `{"start", "count", "metadata"}`, each within `rows` rows.
fn read_sections(path: &Path, rows: u64) -> Result<Vec<Section>, Failure> {
    const KEYS: [&str; 3] = ["start", "count", "metadata"];
    let text = fs::read(path).map_err(|cause| io_failed(path, "cannot be read", cause))?;
    let bad = |problem: String| wrong("--sections", path.display(), problem);
    let json =
        Json::parse(&text, cvc::Limits::default().json_depth).map_err(|error| bad(error.to_string()))?;
    let items = json
        .as_array()
        .ok_or_else(|| bad("a list of {\"start\", \"count\", \"metadata\"} is needed".into()))?;
    let section = |(index, item): (usize, &Json)| {
        let bad = |problem: String| bad(format!("item {index} {problem}"));
        let Json::Object(pairs) = item else { return Err(bad("is no object".into())) };
        if let Some((key, _)) = pairs.iter().find(|(key, _)| KEYS.iter().all(|known| key != known)) {
            return Err(bad(format!("has the key \"{key}\"; say such things in its \"metadata\"")));
        }
        let number = |key| {
            let value = item.get(key).and_then(Json::as_u64);
            value.ok_or_else(|| bad(format!("has no \"{key}\" that is a whole number")))
        };
        let (start, count) = (number("start")?, number("count")?);
        if count == 0 {
            return Err(bad("has \"count\" 0; a section has at least one row".into()));
        }
        match item.get("metadata") {
            _ if start.checked_add(count).is_none_or(|end| end > rows) => Err(bad(format!(
                "has \"start\" {start} and \"count\" {count}, but the inputs have {rows} rows"
            ))),
            Some(metadata @ Json::Object(_)) => {
                Ok(Section { rows: start..start + count, metadata: metadata.clone() })
            }
            _ => Err(bad("has no \"metadata\" that is an object".into())),
        }
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
        for wrong in ["wiki", "=x", "", "a=1,", "a=1,a=2"] {
            assert!(parse_pairs(wrong).is_err(), "{wrong}");
        }
    }
}
