//! `cvc pack`

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cvc::format::cvcf::VECTORS;
use cvc::input::{InputError, Matrix, Options};
use cvc::writer::ToSink;
use cvc::{
    AlignedBytes, ArrayOptions, ArrayRows, DType, Json, Layout, ReadOptions, Reader, RowSlice, Scope,
    Strings, WriteOptions, Writer, Written,
};
use cvc_search::Metric;
use cvc_search::ladder::{self, Ladder};
use serde_json::{Value, json};

use crate::args::{KeyValue, PackArgs, json_or_string, object};
use crate::convert;
use crate::info::describe;
use crate::interrupt::Interrupt;
use crate::lines::{Lines, has_extension, is_text};
use crate::progress;
use crate::queries::Queries;
use crate::remote::{Upload, finish, is_url, shown};
use crate::report::{
    Failure, check_here, check_not_input, check_output, compared, io_failed, plural, ratio, size, to_stdout,
    wrong,
};

/// Bytes of text that are held at a time, unless one line is longer.
const TEXT_LEN: u64 = 64 << 20;

/// One array of the file.
struct Source {
    name: String,
    codec: String,
    data: Data,
    rows: u64,
}

/// Where the rows of an array come from.
enum Data {
    /// Matrices whose rows follow each other.
    Matrices { matrices: Vec<Matrix>, scratch: AlignedBytes },
    /// The lines of a text.
    Lines { lines: Lines, len: u64, scratch: Strings },
}

/// A section of the file.
struct Section {
    rows: Range<u64>,
    metadata: Json,
}

pub(crate) fn run(args: &PackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    for input in &args.inputs {
        check_here("INPUT", Path::new(input))?;
    }
    if let Some(input) = args.inputs.iter().find(|input| convert::is_other(Path::new(input))) {
        return convert::pack(args, Path::new(input));
    }
    if !is_url(&args.output) {
        check_output(&args.output)?;
    }
    let layout = Layout::from(args.layout);
    check_layout(args, layout)?;
    if let Some(column) = args.sections_from.first() {
        let problem = "matrices have no such columns; give sections by @key=value or with --sections";
        return Err(wrong("--sections-from", column, problem));
    }
    let mut sections = Vec::new();
    let mut sources = open_sources(args, layout, &mut sections)?;
    let rows = sources[0].rows;
    if let Some(path) = &args.sections {
        if !sections.is_empty() {
            let problem = "sections are given by @key=value as well; use one of the two";
            return Err(wrong("--sections", path.display(), problem));
        }
        check_not_input(&args.output, path)?;
        sections = read_sections(path, rows)?;
    }

    let ladder = match args.target_recall {
        Some(target) => Some(climb(args, target, layout, &mut sources[0])?),
        None => None,
    };
    let options = write_options(args, layout, &sources)?;
    let interrupt = Interrupt::catch();
    let mut writer = Out::begin(args, options)?;
    on!(&writer, writer => writer.reserve(rows))?;
    for section in sections {
        on!(&mut writer, writer => writer.add_section(section.rows, section.metadata))?;
    }
    let bar = progress::rows(rows, args.json);
    let batch_rows = sources.iter().filter_map(Source::most_rows).min().unwrap_or(u64::MAX);
    let batch_rows = batch_rows.min(on!(&writer, writer => writer.batch_rows()) as u64);
    let mut row = 0;
    while row < rows {
        interrupt.check()?;
        // No further than the end of any array's current matrix.
        let end = sources.iter().map(|source| source.border_after(row)).min().unwrap_or(rows);
        let end = end.min(row.saturating_add(batch_rows));
        let batch = sources.iter_mut().map(|source| source.read(row..end));
        let batch = batch.collect::<Result<Vec<_>, Failure>>()?;
        on!(&mut writer, writer => writer.write(&batch))?;
        bar.inc(end - row);
        row = end;
    }
    // The rest cannot be interrupted: encoding the last chunk, syncing, renaming.
    interrupt.check()?;
    let written = writer.finish()?;
    bar.finish_and_clear();

    let seconds = started.elapsed().as_secs_f64();
    let input_len: u64 = sources.iter().map(Source::input_len).sum();
    if args.json {
        // What `cvc info` says of the file, and what only packing knows.
        let source = args.remote.source(&args.output)?;
        let mut object = describe(&Reader::new(source, ReadOptions::default())?);
        object["output"] = json!(shown(&args.output));
        object["rows"] = json!(written.rows);
        object["chunks"] = json!(written.chunks);
        object["input_len"] = json!(input_len);
        object["ratio"] = json!(ratio(written.file_len, input_len));
        object["seconds"] = json!(seconds);
        if let Some(ladder) = &ladder {
            object["target_recall"] = measured(ladder);
        }
        crate::json::print(&object)
    } else {
        let what = match sources.as_slice() {
            [only] => format!("{} rows of {}", written.rows, only.describe()),
            several => {
                let arrays = several.iter().map(|source| format!("{}: {}", source.name, source.describe()));
                format!("{} rows ({})", written.rows, arrays.collect::<Vec<_>>().join(", "))
            }
        };
        let table = ladder.as_ref().map(table).unwrap_or_default();
        to_stdout(&format!(
            "{table}packed {what} into {}: {}, {} than {}, {} chunk{}, layout {layout}, in {seconds:.2} s",
            shown(&args.output),
            size(written.file_len),
            compared(written.file_len, input_len),
            size(input_len),
            written.chunks,
            plural(written.chunks),
        ))
    }
}

/// The file that is written, here or somewhere else.
enum Out {
    Here(Writer),
    There(Writer<ToSink<Upload>>),
}

/// The same call on either kind of writer.
macro_rules! on {
    ($out:expr, $writer:ident => $body:expr) => {
        match $out {
            Out::Here($writer) => $body,
            Out::There($writer) => $body,
        }
    };
}
use on;

impl Out {
    fn begin(args: &PackArgs, options: WriteOptions) -> Result<Out, Failure> {
        Ok(match args.output.to_str().filter(|_| is_url(&args.output)) {
            Some(url) => Out::There(Writer::to_sink(args.remote.upload(url)?, options)?),
            None => Out::Here(Writer::create(&args.output, options)?),
        })
    }

    fn finish(self) -> Result<Written, Failure> {
        match self {
            Out::Here(writer) => Ok(writer.finish()?),
            Out::There(writer) => {
                let (upload, written) = writer.finish_sink()?;
                finish(upload)?;
                Ok(written)
            }
        }
    }
}

/// Chooses the codec of the inputs by measuring recall on a sample of them.
fn climb(args: &PackArgs, target: f64, layout: Layout, source: &mut Source) -> Result<Ladder, Failure> {
    let refuse = |problem: String| Err(wrong("--target-recall", target, problem));
    if layout != Layout::Native {
        return refuse(format!("layout {layout} has other codecs; use --layout native"));
    }
    let own = |codec: &&String| codec.rsplit_once('=').is_none_or(|(array, _)| array == source.name);
    if let Some(codec) = args.codec.iter().find(own) {
        return refuse(format!("the codec is chosen already by --codec {codec}; leave out one of the two"));
    }
    let Data::Matrices { matrices, .. } = &source.data else { unreachable!("inputs are matrices") };
    let (dtype, dim, scalar) = (matrices[0].dtype(), matrices[0].dim() as usize, matrices[0].scalar());
    let queries =
        args.queries.as_deref().map(|path| Queries::of(path, None, !scalar, &args.remote)).transpose()?;
    let queries = queries.as_ref().map(Queries::rows).transpose()?;
    if let (Some(queries), Some(path)) = (queries, &args.queries)
        && queries.dim() != dim
    {
        let problem = format!("it has rows of {} values, the inputs rows of {dim}", queries.dim());
        return Err(wrong("--queries", shown(path), problem));
    }
    let rows = ladder::sample(source.rows, ladder::SAMPLE_ROWS);
    let mut bytes = AlignedBytes::new();
    let row_len = dim * dtype.size();
    bytes.resize(rows.len() * row_len);
    for (at, row) in rows.iter().enumerate() {
        let ArrayRows::Values(row) = source.read(*row..*row + 1)? else { unreachable!("values") };
        bytes.bytes_mut()[at * row_len..(at + 1) * row_len].copy_from_slice(row.bytes());
    }
    let sample = RowSlice::from_bytes(dtype, rows.len(), dim, bytes.bytes())?;
    let (metric, nonfinite) = (args.metric.unwrap_or(Metric::Cosine), args.nonfinite.map(Into::into));
    let ladder = ladder::measure(sample, queries, metric, target, nonfinite.unwrap_or_default())
        .map_err(Failure::of_search)?;
    let Some(chosen) = ladder.chosen else {
        return refuse(format!("no codec can hold these rows and reaches that:\n{}", table(&ladder)));
    };
    ladder.rungs[chosen].codec.clone_into(&mut source.codec);
    Ok(ladder)
}

/// What was measured of every codec, for people.
fn table(ladder: &Ladder) -> String {
    let mut text = format!(
        "measured on {} rows for {} queries by {}:\n{:>10} {:>12} {:>10}\n",
        ladder.rows,
        ladder.queries,
        ladder.metric,
        "codec",
        "bytes/value",
        format!("recall@{}", ladder::K)
    );
    for (at, rung) in ladder.rungs.iter().enumerate() {
        let taken = if ladder.chosen == Some(at) { "  taken" } else { "" };
        text += &match &rung.measured {
            Ok(rate) => {
                let recall = rate.recall.share().unwrap_or(f64::NAN);
                format!("{:>10} {:>12.3} {recall:>10.4}{taken}\n", rung.codec, rate.bytes_per_value)
            }
            Err(why) => format!("{:>10} {why}\n", rung.codec),
        };
    }
    text
}

/// The same for programs.
fn measured(ladder: &Ladder) -> Value {
    let rungs = ladder.rungs.iter().map(|rung| match &rung.measured {
        Ok(rate) => json!({
            "codec": rung.codec,
            "recall": rate.recall.share(),
            "bytes_per_value": rate.bytes_per_value,
            "refused": null,
        }),
        Err(why) => json!({ "codec": rung.codec, "recall": null, "bytes_per_value": null, "refused": why }),
    });
    json!({
        "target": ladder.target,
        "codec": ladder.chosen.map(|at| ladder.rungs[at].codec),
        "metric": ladder.metric.name(),
        "k": ladder::K,
        "rows": ladder.rows,
        "queries": ladder.queries,
        "rungs": rungs.collect::<Vec<Value>>(),
    })
}

/// Refuses what the layout has no place for.
fn check_layout(args: &PackArgs, layout: Layout) -> Result<(), Failure> {
    if layout == Layout::Native {
        return Ok(());
    }
    let refuse = |option, value: &dyn std::fmt::Display, lacks: &str| {
        Err(wrong(option, value, format!("layout {layout} {lacks}; use --layout native")))
    };
    if layout != Layout::V2 {
        let lacks = "has one array, named vectors";
        if let Some(pair) = args.add.first() {
            return refuse("--add", pair, lacks);
        }
        if args.array != VECTORS {
            return refuse("--array", &args.array, lacks);
        }
    }
    if let Some(pair) = args.add.iter().find(|pair| is_text(Path::new(&pair.value))) {
        return refuse("--add", pair, "holds no strings");
    }
    if let Some(scope) = args.scope {
        return refuse("--scope", &Scope::from(scope).name(), "has one range for each chunk");
    }
    if let Some(nonfinite) = args.nonfinite {
        return refuse("--nonfinite", &nonfinite.name(), "takes every value as decompressed does");
    }
    if let Some(rows) = args.block_rows {
        return refuse("--block-rows", &rows, "has no blocks");
    }
    if let Some(pair) = args.meta.first() {
        return refuse("--meta", pair, "has no place for it");
    }
    if let Some(pair) = args.provenance.first() {
        return refuse("--provenance", pair, "has no place for it");
    }
    Ok(())
}

/// What the library is to write.
fn write_options(args: &PackArgs, layout: Layout, sources: &[Source]) -> Result<WriteOptions, Failure> {
    let is_lossy =
        |source: &Source| ["int8", "int4", "bit1", "fp16", "bf16"].contains(&source.codec.as_str());
    if let Some(scope) = args.scope
        && sources.iter().all(|source| source.codec != "int8")
    {
        let problem = "only codec int8 has ranges; add --codec int8 or leave it out";
        return Err(wrong("--scope", Scope::from(scope).name(), problem));
    }
    if let Some(nonfinite) = args.nonfinite
        && !sources.iter().any(is_lossy)
    {
        let problem =
            "only codecs int8, int4, bit1, fp16 and bf16 cannot represent every value; leave it out";
        return Err(wrong("--nonfinite", nonfinite.name(), problem));
    }
    let mut options = WriteOptions::new(layout).metadata(object("--meta", &args.meta)?)?;
    for (position, source) in sources.iter().enumerate() {
        let mut array = match &source.data {
            Data::Matrices { matrices, .. } => {
                ArrayOptions::values(&source.name, matrices[0].dtype(), matrices[0].inner(), &source.codec)
            }
            Data::Lines { .. } => ArrayOptions::strings(&source.name, &source.codec),
        };
        if let Some(scope) = args.scope {
            array = array.scope(scope.into());
        }
        if let Some(nonfinite) = args.nonfinite {
            array = array.nonfinite(nonfinite.into());
        }
        // These are said of the inputs.
        if position == 0 {
            if let Some(rows) = args.block_rows {
                array = array.block_rows(rows);
            }
            if !args.provenance.is_empty() {
                array = array.provenance(object("--provenance", &args.provenance)?);
            }
        }
        options = options.with_array(array)?;
    }
    match args.chunk_rows {
        Some(rows) => Ok(options.chunk_rows(rows)?),
        None => Ok(options),
    }
}

impl Source {
    fn of_matrices(name: &str, matrices: Vec<Matrix>) -> Source {
        let rows = matrices.iter().map(Matrix::rows).sum();
        let data = Data::Matrices { matrices, scratch: AlignedBytes::new() };
        Source { name: name.to_owned(), codec: String::new(), data, rows }
    }

    fn of_lines(name: &str, path: &Path) -> Result<Source, Failure> {
        let (lines, rows) = Lines::open(path)?;
        let len = fs::metadata(path).map_err(|cause| io_failed(path, "cannot be looked at", cause))?.len();
        let data = Data::Lines { lines, len, scratch: Strings::default() };
        Ok(Source { name: name.to_owned(), codec: String::new(), data, rows })
    }

    /// The dtype, if these are no strings.
    fn dtype(&self) -> Option<DType> {
        match &self.data {
            Data::Matrices { matrices, .. } => Some(matrices[0].dtype()),
            Data::Lines { .. } => None,
        }
    }

    /// `384 f32 as fp16`
    fn describe(&self) -> String {
        match &self.data {
            Data::Matrices { matrices, .. } => {
                let dtype = matrices[0].dtype();
                // Who packs ids by mistake should see it here rather than later.
                let rounded = !dtype.is_float() && ["fp16", "int8"].contains(&self.codec.as_str());
                let note = if rounded { " (whole numbers are rounded)" } else { "" };
                let shape =
                    if matrices[0].scalar() { String::new() } else { format!("{} ", shape(&matrices[0])) };
                format!("{shape}{dtype} as {}{note}", self.codec)
            }
            Data::Lines { .. } => format!("strings as {}", self.codec),
        }
    }

    /// Bytes of all values.
    fn input_len(&self) -> u64 {
        match &self.data {
            Data::Matrices { matrices, .. } => {
                let row_len = u64::from(matrices[0].dim()).saturating_mul(matrices[0].dtype().size() as u64);
                self.rows.saturating_mul(row_len)
            }
            Data::Lines { len, .. } => *len,
        }
    }

    /// How many rows to take at a time, where that is not for the codec to say.
    fn most_rows(&self) -> Option<u64> {
        match self.data {
            Data::Matrices { .. } => None,
            Data::Lines { len, .. } => Some((TEXT_LEN / (len / self.rows.max(1)).max(1)).max(1)),
        }
    }

    /// The end of the matrix that has `row`.
    fn border_after(&self, row: u64) -> u64 {
        let Data::Matrices { matrices, .. } = &self.data else { return self.rows };
        let mut end = 0;
        for matrix in matrices {
            end += matrix.rows();
            if end > row {
                break;
            }
        }
        end
    }

    /// The next rows, of one matrix, numbered over all of them.
    fn read(&mut self, rows: Range<u64>) -> Result<ArrayRows<'_>, Failure> {
        let count = usize::try_from(rows.end - rows.start).expect("a batch fits in memory");
        match &mut self.data {
            Data::Lines { lines, scratch, .. } => {
                lines.read(count, scratch)?;
                Ok(ArrayRows::from(&*scratch))
            }
            Data::Matrices { matrices, scratch } => {
                let mut first = 0;
                for matrix in &*matrices {
                    if rows.start < first + matrix.rows() {
                        let bytes = matrix.read(rows.start - first..rows.end - first, scratch)?;
                        let dim = matrix.dim() as usize;
                        return Ok(RowSlice::from_bytes(matrix.dtype(), count, dim, bytes)?.into());
                    }
                    first += matrix.rows();
                }
                unreachable!("asked for rows {rows:?} of {first}")
            }
        }
    }
}

/// Opens every input and checks that they fit together.
fn open_sources(
    args: &PackArgs,
    layout: Layout,
    sections: &mut Vec<Section>,
) -> Result<Vec<Source>, Failure> {
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
        let differs = |first: &&Matrix| (first.inner(), first.dtype()) != (matrix.inner(), matrix.dtype());
        if let Some(first) = matrices.first().filter(differs) {
            return refuse(format!(
                "it has rows of {} {} values, the first input rows of {} {}; inputs that make one array must agree",
                shape(&matrix),
                matrix.dtype(),
                shape(first),
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
    if matrices[0].scalar() && matches!(layout, Layout::V0 | Layout::V1) {
        let problem =
            format!("it is a list of scalars, but layout {layout} holds a matrix; use --layout native");
        return Err(wrong("INPUT", args.inputs[0].display(), problem));
    }
    if let Some(member) = &args.member
        && matrices.iter().all(|matrix| matrix.origin().member.is_none())
    {
        return Err(wrong("--member", member, "no input is an .npz archive; leave it out"));
    }
    let mut sources = vec![Source::of_matrices(&args.array, matrices)];
    for pair in &args.add {
        let refuse = |problem: String| Err(wrong("--add", pair, problem));
        if sources.iter().any(|source| source.name == pair.key) {
            return refuse(format!("there is an array {:?} already; choose another name", pair.key));
        }
        if pair.value.is_empty() {
            return refuse("it names no file".into());
        }
        let source = open_added(pair, args)?;
        if source.rows != first_row {
            return refuse(format!("it has {} rows, the inputs have {first_row}", source.rows));
        }
        sources.push(source);
    }
    choose_codecs(args, layout, &mut sources)?;
    Ok(sources)
}

/// The shape of a row, as messages have it: `384`, `2x3`.
fn shape(matrix: &Matrix) -> String {
    matrix.inner().iter().map(u32::to_string).collect::<Vec<_>>().join("x")
}

fn open_added(pair: &KeyValue, args: &PackArgs) -> Result<Source, Failure> {
    let path = Path::new(&pair.value);
    if is_text(path) {
        check_input(path, args)?;
        return Source::of_lines(&pair.key, path);
    }
    let matrix = match open(path, None, args) {
        // Of several, the one that has the array's name.
        Err(Failure::Error(cvc::Error::Input(InputError::ChooseMember { .. }))) => {
            open(path, Some(&pair.key), args)?
        }
        result => result?,
    };
    Ok(Source::of_matrices(&pair.key, vec![matrix]))
}

/// Refuses an input that is the output, or a directory.
fn check_input(path: &Path, args: &PackArgs) -> Result<(), Failure> {
    check_here("INPUT", path)?;
    check_not_input(&args.output, path)?;
    if path.is_dir() {
        let cause = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(io_failed(path, "cannot be read", cause));
    }
    Ok(())
}

fn open(path: &Path, member: Option<&str>, args: &PackArgs) -> Result<Matrix, Failure> {
    check_input(path, args)?;
    let parent = args.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let options = Options {
        // Only archives have members; other inputs may stand beside one.
        member: member.filter(|_| has_extension(path, "npz")).map(str::to_owned),
        temp_dir: Some(parent.unwrap_or(Path::new(".")).to_owned()),
    };
    Ok(Matrix::open(path, &options)?)
}

/// The codec of each array: the one named for it; of the inputs the one named for no array; or the default.
fn choose_codecs(args: &PackArgs, layout: Layout, sources: &mut [Source]) -> Result<(), Failure> {
    let mut given: Vec<(&str, &str)> = Vec::new();
    for codec in &args.codec {
        let refuse = |problem: String| Err(wrong("--codec", codec, problem));
        // No codec has a '=' in its name; an array may.
        let (array, name) = codec.rsplit_once('=').unwrap_or((&args.array, codec));
        if given.iter().any(|(other, _)| *other == array) {
            return refuse(format!("there is one for array {array:?} already; use ARRAY=CODEC for others"));
        }
        if sources.iter().all(|source| source.name != array) {
            let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            return refuse(format!("there is no array {array:?}; choose one of {}", names.join(", ")));
        }
        given.push((array, name));
    }
    let exact = if layout == Layout::V2 { "none" } else { "raw" };
    for (position, source) in sources.iter_mut().enumerate() {
        let default = match source.dtype() {
            None => "zstd",
            Some(_) if position > 0 => exact,
            Some(dtype) if dtype.is_float() || matches!(layout, Layout::V0 | Layout::V1) => "fp16",
            Some(_) => exact,
        };
        let named = given.iter().find(|(array, _)| *array == source.name).map(|(_, codec)| *codec);
        source.codec = named.unwrap_or(default).to_owned();
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
