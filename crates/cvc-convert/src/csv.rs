//! Text files of comma- or tab-separated values, with the names of the columns in the first record.
//!
//! A file is read twice: once to learn what its columns hold, once for the rows, because nothing but the cells says it. What a
//! column holds is decided by its first cell, and every other has to follow: a column of numbers with a word in it is an error
//! that names the line, not a column of words.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use ::csv::{ByteRecord, Reader, ReaderBuilder, Writer, WriterBuilder};
use cvc::format::json::Style;
use cvc::io::atomic_file::AtomicFile;
use cvc::{AlignedBytes, DType, Json, Strings};
use half::{bf16, f16};

use crate::Options;
use crate::arrays::VECTORS;
use crate::error::Error;
use crate::from_cvc::{Plan, left_out};
use crate::table::{
    Batch, Column, Form, Holds, Input, LabelType, Output, Piece, Said, batch_rows, committed, row_len,
    unique_names,
};

/// How a file separates its cells.
fn delimiter(path: &Path) -> u8 {
    let tabs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    if tabs { b'\t' } else { b',' }
}

/// The longest record: one quote that nothing closes makes a record of all that follows, which would be held whole.
const MOST_RECORD_LEN: u64 = 256 << 20;

/// A file of which some bytes may be read before [`Limited::left`] has to be set again.
struct Limited {
    file: File,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let len = self.file.read(buffer)?;
        self.left = self.left.saturating_sub(len as u64);
        Ok(len)
    }
}

/// The records of a file, none of which is much longer than `most_len`.
struct Records {
    path: PathBuf,
    reader: Reader<Limited>,
    most_len: u64,
    record: ByteRecord,
    /// Where the last record begins.
    last: ::csv::Position,
}

impl Records {
    fn open(path: &Path, most_len: u64) -> Result<Records, Error> {
        let file = File::open(path).map_err(Error::io(path, "cannot be read"))?;
        let builder = &mut ReaderBuilder::new();
        let builder = builder.delimiter(delimiter(path)).buffer_capacity(1 << 18);
        let reader = builder.from_reader(Limited { file, left: most_len });
        let (record, last) = (ByteRecord::new(), ::csv::Position::new());
        Ok(Records { path: path.to_owned(), reader, most_len, record, last })
    }

    /// The first record.
    fn header(&mut self) -> Result<ByteRecord, Error> {
        let header = self.reader.byte_headers();
        header.cloned().map_err(|error| failed(&self.path, error, 1))
    }

    /// The next record, and the line that it begins on.
    fn next(&mut self) -> Result<Option<(u64, &ByteRecord)>, Error> {
        self.reader.get_mut().left = self.most_len;
        let read = self.reader.read_byte_record(&mut self.record);
        if let (Some(position), Ok(true) | Err(_)) = (self.record.position(), &read) {
            self.last = position.clone();
        }
        let line = self.last.line();
        match read {
            Ok(true) => return Ok(Some((line, &self.record))),
            Ok(false) => {}
            Err(error) if matches!(error.kind(), ::csv::ErrorKind::UnequalLengths { .. }) => {
                self.check_last()?;
                return Err(failed(&self.path, error, line));
            }
            Err(error) => return Err(failed(&self.path, error, line)),
        }
        self.check_last()?;
        Ok(None)
    }

    /// Refuses a quote of the last record that nothing closes, which the reader takes for the end: all lines behind it would be in one cell.
    fn check_last(&self) -> Result<(), Error> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(io::SeekFrom::Start(self.last.byte()))?;
            let mut rest = Vec::new();
            file.take(self.most_len).read_to_end(&mut rest)?;
            Ok(rest)
        };
        let mut rest: Vec<u8> = read().map_err(Error::io(&self.path, "cannot be read"))?;
        if rest.is_empty() {
            return Ok(());
        }
        // One more record, which is one of its own unless a quote is open.
        rest.extend(b"\nx\n");
        let builder = &mut ReaderBuilder::new();
        let builder = builder.delimiter(delimiter(&self.path)).has_headers(false).flexible(true);
        let mut records = builder.from_reader(&*rest).into_byte_records();
        let (first, second) = (records.next(), records.next());
        if first.is_some() && second.is_none() {
            let problem =
                format!("line {}: a quote that is opened there is not closed; close it", self.last.line());
            return Err(Error::damaged(&self.path, problem));
        }
        Ok(())
    }
}

/// What an error of the reader says of the record that begins on this line.
fn failed(path: &Path, error: ::csv::Error, line: u64) -> Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(cause) if cause.kind() == io::ErrorKind::FileTooLarge => {
            let problem = format!(
                "line {line}: the record that begins there does not end within {MOST_RECORD_LEN} bytes; close the quote that is \
                 open"
            );
            Error::damaged(path, problem)
        }
        ::csv::ErrorKind::Io(cause) => Error::io(path, "cannot be read")(cause),
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let problem = format!(
                "line {line}: it has {len} cells, and the first line names {expected_len} columns; mend the line"
            );
            Error::damaged(path, problem)
        }
        other => Error::damaged(path, format!("line {line}: {other:?}; mend the line")),
    }
}

/// A column of the `.cvc` file, and the cells that make one row of it.
struct Source {
    column: Column,
    cells: Cells,
}

enum Cells {
    One(usize),
    /// A list in brackets.
    List(usize),
    Many(Vec<usize>),
}

pub(crate) struct Table {
    path: PathBuf,
    records: Records,
    names: Vec<String>,
    sources: Vec<Source>,
    columns: Vec<Column>,
    rows: u64,
    said: Said,
}

/// What the cells of a column seem to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Strings,
    Bools,
    /// Values of i64.
    Integers,
    /// Some beyond i64, and all of u64.
    Unsigned,
    Floats,
    List(usize),
}

pub(crate) fn open(source: &Path, options: &Options) -> Result<Table, Error> {
    let mut first = Records::open(source, MOST_RECORD_LEN)?;
    let header = first.header()?;
    let names =
        header.iter().map(|name| std::str::from_utf8(name).map(str::to_owned)).collect::<Result<Vec<_>, _>>();
    let mut names = names.map_err(|_| Error::damaged(source, "line 1: a name is not UTF-8; mend it"))?;
    // What some programs put before everything else.
    if let Some(name) = names.first_mut()
        && let Some(rest) = name.strip_prefix('\u{feff}')
    {
        *name = rest.to_owned();
    }
    if names.iter().all(String::is_empty) {
        return Err(Error::damaged(source, "it has no line with the names of the columns; write one"));
    }
    let all = unique_names(source, names.iter().map(String::as_str))?;
    let known = |argument: &'static str, name: &String| {
        let problem = format!("{} has no such column; it has {}", source.display(), all.join(", "));
        if all.contains(&name.as_str()) { Ok(()) } else { Err(Error::argument(argument, name, problem)) }
    };
    options.columns.iter().flatten().try_for_each(|name| known("columns", name))?;
    options.strings.iter().try_for_each(|name| known("strings", name))?;
    options.sections_from.iter().try_for_each(|name| known("sections from", name))?;
    let wanted = |name: &str| options.columns.as_ref().is_none_or(|only| only.iter().any(|one| one == name));
    let is_label = |name: &str| options.sections_from.iter().any(|label| label == name);
    let gathered: Vec<usize> = match &options.vectors {
        None => Vec::new(),
        Some(pattern) => {
            (0..names.len()).filter(|at| wanted(&names[*at]) && matches(pattern, &names[*at])).collect()
        }
    };
    if let (Some(pattern), true) = (&options.vectors, gathered.is_empty()) {
        return Err(Error::argument(
            "vectors",
            pattern,
            format!("no column has such a name; there are {}", all.join(", ")),
        ));
    }
    let dtype = options.text_dtype.unwrap_or(DType::F32);
    let is_gathered: HashSet<usize> = gathered.iter().copied().collect();
    let (seen, rows) = look(&mut first, &names, &is_gathered, options)?;
    let mut sources = Vec::new();
    for (at, name) in names.iter().enumerate().filter(|(_, name)| wanted(name)) {
        if gathered.first() == Some(&at) {
            let dim = u32::try_from(gathered.len())
                .map_err(|_| Error::damaged(source, "it has too many columns"))?;
            let mut column = Column::values(VECTORS, dtype, vec![dim]);
            column.form.parts = gathered.iter().map(|at| names[*at].clone()).collect();
            if let Some(other) = all
                .iter()
                .find(|name| **name == VECTORS && !matches(options.vectors.as_deref().unwrap_or(""), name))
            {
                return Err(Error::column(
                    source,
                    other,
                    "the columns that are gathered make an array of that name; rename it",
                ));
            }
            sources.push(Source { column, cells: Cells::Many(gathered.clone()) });
        }
        if is_gathered.contains(&at) {
            continue;
        }
        let (holds, cells) = match (seen[at], is_label(name)) {
            (Seen::List(_), true) => {
                return Err(Error::column(
                    source,
                    name,
                    "a label is text, a number or a bool, and it holds lists",
                ));
            }
            (Seen::List(dim), false) => {
                let dim =
                    u32::try_from(dim).map_err(|_| Error::column(source, name, "its lists are too long"))?;
                (Holds::Values(dtype, vec![dim]), Cells::List(at))
            }
            (Seen::Strings, true) => (Holds::Label(LabelType::String), Cells::One(at)),
            (Seen::Strings, false) => (Holds::Strings, Cells::One(at)),
            (number, label) => {
                let dtype = match number {
                    Seen::Bools => DType::Bool,
                    Seen::Integers => DType::I64,
                    Seen::Unsigned => DType::U64,
                    _ => DType::F64,
                };
                let holds = if label {
                    Holds::Label(LabelType::Values(dtype))
                } else {
                    Holds::Values(dtype, Vec::new())
                };
                (holds, Cells::One(at))
            }
        };
        sources.push(Source { column: Column { name: name.clone(), holds, form: Form::default() }, cells });
    }
    let columns = sources.iter().map(|source| source.column.clone()).collect();
    let said = Said::default();
    let records = Records::open(source, MOST_RECORD_LEN)?;
    Ok(Table { path: source.to_owned(), records, names, sources, columns, rows, said })
}

/// Whether a name is the pattern, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    loop {
        if matches(rest, name) {
            return true;
        }
        let mut chars = name.chars();
        if chars.next().is_none() {
            return false;
        }
        name = chars.as_str();
    }
}

/// Reads everything to learn what each column holds, and how many rows there are.
fn look(
    records: &mut Records,
    names: &[String],
    gathered: &HashSet<usize>,
    options: &Options,
) -> Result<(Vec<Seen>, u64), Error> {
    let path = records.path.clone();
    let mut seen: Vec<Option<Seen>> =
        names.iter().map(|name| options.strings.contains(name).then_some(Seen::Strings)).collect();
    let wanted: Vec<bool> = (0..names.len())
        .map(|at| {
            !gathered.contains(&at) && options.columns.as_ref().is_none_or(|only| only.contains(&names[at]))
        })
        .collect();
    let labels: Vec<bool> = names.iter().map(|name| options.sections_from.contains(name)).collect();
    // Of each column the first whole number that no float is.
    let mut inexact: Vec<Option<(u64, String)>> = names.iter().map(|_| None).collect();
    let mut rows = 0;
    while let Some((line, record)) = records.next()? {
        for (at, cell) in record.iter().enumerate().filter(|(at, _)| wanted[*at]) {
            let bad = |problem: String| cell_error(&path, line, &names[at], problem);
            let text = std::str::from_utf8(cell).map_err(|_| bad("it is not UTF-8; mend it".into()))?;
            // No label at all.
            if labels[at] && text.is_empty() {
                continue;
            }
            seen[at] = Some(match seen[at] {
                None => classify(text),
                Some(before) => also(before, text).map_err(bad)?,
            });
            if inexact[at].is_none() && is_inexact(text) {
                inexact[at] = Some((line, text.to_owned()));
            }
        }
        rows += 1;
    }
    for (at, name) in names.iter().enumerate().filter(|(at, _)| seen[*at] == Some(Seen::Floats)) {
        if let Some((line, text)) = &inexact[at] {
            let problem = format!(
                "{text} has more digits than the floats that the column holds elsewhere; say that the column holds strings"
            );
            return Err(cell_error(&path, *line, name, problem));
        }
    }
    Ok((seen.into_iter().map(|seen| seen.unwrap_or(Seen::Strings)).collect(), rows))
}

fn cell_error(path: &Path, line: u64, column: &str, problem: String) -> Error {
    Error::Cell { path: path.to_owned(), line, column: column.to_owned(), problem }
}

/// What a cell looks like. `007` is no number: it would not come back.
fn classify(text: &str) -> Seen {
    if text.starts_with('[') && text.ends_with(']') {
        return Seen::List(items(text).count());
    }
    if matches!(text, "true" | "false") {
        return Seen::Bools;
    }
    if text.parse::<i64>().is_ok_and(|value| value.to_string() == text) {
        return Seen::Integers;
    }
    if text.parse::<u64>().is_ok_and(|value| value.to_string() == text) {
        return Seen::Unsigned;
    }
    if is_inexact(text) {
        return Seen::Strings;
    }
    let digits = text.trim_start_matches(['-', '+']);
    let padded =
        digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") && !digits.starts_with("0e");
    if !padded
        && digits.starts_with(|char: char| char.is_ascii_digit() || char == '.')
        && text.parse::<f64>().is_ok()
    {
        return Seen::Floats;
    }
    if matches!(text, "NaN" | "nan" | "inf" | "-inf") { Seen::Floats } else { Seen::Strings }
}

/// Whether a cell is a whole number that no f64 is. Beyond 64 bits it is one if it would be written so again, as whole floats are.
fn is_inexact(text: &str) -> bool {
    const MANTISSA: u32 = f64::MANTISSA_DIGITS;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // So many digits are below the first that is not.
    if digits.len() < 16 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return false;
    }
    match digits.parse::<u64>() {
        Ok(0) => false,
        Ok(whole) => whole >> whole.trailing_zeros() >> MANTISSA != 0,
        Err(_) => digits.parse::<f64>().is_ok_and(|float| float.to_string() != digits),
    }
}

/// What a column holds that held `before` and holds this cell too.
fn also(before: Seen, text: &str) -> Result<Seen, String> {
    let now = match (before, classify(text)) {
        (Seen::Strings, _) => return Ok(Seen::Strings),
        (_, now) => now,
    };
    use Seen::{Floats, Integers, Unsigned};
    match (before, now) {
        (before, now) if before == now => Ok(now),
        // Those below 0 that came before are found when they are read.
        (Integers, Unsigned) | (Unsigned, Integers) if !text.starts_with('-') => Ok(Unsigned),
        (Integers | Unsigned | Floats, Integers | Unsigned | Floats) => Ok(Floats),
        (Seen::List(expected), Seen::List(found)) => Err(format!(
            "it has {found} values, and the first list of the column {expected}: rows must be equally long"
        )),
        (before, _) => {
            let was = match before {
                Seen::Integers | Seen::Unsigned | Seen::Floats if is_inexact(text) => {
                    return Err(format!(
                        "{text} is no number that 64 bits hold, as those before it are; say that the column holds strings"
                    ));
                }
                Seen::Bools => "true or false",
                Seen::List(_) => "a list like [1, 2]",
                _ => "a number",
            };
            Err(format!(
                "{text:?} is not {was}, which the first cell of the column is; mend it, or say that the column holds strings"
            ))
        }
    }
}

/// The items of a list in brackets, with commas, spaces or both between them.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inside.split([',', ' ', '\n', '\t']).filter(|item| !item.is_empty())
}

/// Reads numbers of text into bytes.
fn number(dtype: DType, text: &str, into: &mut [u8]) -> Result<(), String> {
    let bad = || {
        let what = if text.is_empty() { "it is empty".to_owned() } else { format!("{text:?} is no {dtype}") };
        format!("{what}; mend it, or fill it")
    };
    macro_rules! parsed {
        ($of:ty) => {
            into.copy_from_slice(&text.parse::<$of>().map_err(|_| bad())?.to_ne_bytes())
        };
    }
    // What is finite as text must be so as a number.
    let finite =
        |is: bool| if is || !text.contains(|char: char| char.is_ascii_digit()) { Ok(()) } else { Err(bad()) };
    match dtype {
        DType::I8 => parsed!(i8),
        DType::I16 => parsed!(i16),
        DType::I32 => parsed!(i32),
        DType::I64 => parsed!(i64),
        DType::U8 => parsed!(u8),
        DType::U16 => parsed!(u16),
        DType::U32 => parsed!(u32),
        DType::U64 => parsed!(u64),
        DType::F64 => {
            let value: f64 = text.parse().map_err(|_| bad())?;
            finite(value.is_finite())?;
            into.copy_from_slice(&value.to_ne_bytes());
        }
        DType::F32 => {
            let value: f32 = text.parse().map_err(|_| bad())?;
            finite(value.is_finite())?;
            into.copy_from_slice(&value.to_ne_bytes());
        }
        DType::F16 => {
            let value = f16::from_f64(text.parse().map_err(|_| bad())?);
            finite(value.is_finite())?;
            into.copy_from_slice(&value.to_ne_bytes());
        }
        DType::Bf16 => {
            let value = bf16::from_f64(text.parse().map_err(|_| bad())?);
            finite(value.is_finite())?;
            into.copy_from_slice(&value.to_ne_bytes());
        }
        DType::Bool => {
            into[0] = match text {
                "true" => 1,
                "false" => 0,
                _ => return Err(bad()),
            };
        }
        _ => return Err(format!("text is not read as {dtype}")),
    }
    Ok(())
}

fn label(of: LabelType, text: &str) -> Result<Json, String> {
    if text.is_empty() {
        return Ok(Json::Null);
    }
    match of {
        LabelType::String => Ok(Json::from(text)),
        LabelType::Values(DType::F64) => {
            let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number; mend it"))?;
            if value.is_finite() {
                Ok(Json::from(value))
            } else {
                Err(format!("{text:?} cannot be a label; mend it"))
            }
        }
        // Integers and bools as they stand.
        LabelType::Values(_) => Json::parse(text.as_bytes(), 1).map_err(|error| error.to_string()),
    }
}

impl Input for Table {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn said(&self) -> &Said {
        &self.said
    }

    fn next(&mut self) -> Result<Option<Batch>, Error> {
        let most = usize::try_from(batch_rows(row_len(&self.columns))).unwrap_or(1);
        let mut values: Vec<Vec<u8>> = self.sources.iter().map(|_| Vec::new()).collect();
        let mut strings: Vec<Strings> = self.sources.iter().map(|_| Strings::default()).collect();
        let mut labels: Vec<Vec<Json>> = self.sources.iter().map(|_| Vec::new()).collect();
        let (mut rows, mut text_len) = (0, 0);
        while rows < most && text_len < crate::table::BATCH_LEN {
            let Some((line, record)) = self.records.next()? else { break };
            for (at, source) in self.sources.iter().enumerate() {
                let (path, names) = (&self.path, &self.names);
                let cell = |cell: usize| {
                    let text = std::str::from_utf8(record.get(cell).unwrap_or_default());
                    text.map_err(|_| cell_error(path, line, &names[cell], "it is not UTF-8; mend it".into()))
                };
                let bad = |at: usize| move |problem| cell_error(path, line, &names[at], problem);
                match (&source.column.holds, &source.cells) {
                    (Holds::Values(dtype, _), Cells::One(place)) => {
                        put(*dtype, cell(*place)?, &mut values[at]).map_err(bad(*place))?;
                    }
                    (Holds::Values(dtype, _), Cells::Many(places)) => {
                        for place in places {
                            put(*dtype, cell(*place)?.trim(), &mut values[at]).map_err(bad(*place))?;
                        }
                    }
                    (Holds::Values(dtype, inner), Cells::List(place)) => {
                        let before = values[at].len();
                        for item in items(cell(*place)?) {
                            put(*dtype, item, &mut values[at]).map_err(bad(*place))?;
                        }
                        // It was so when the file was looked at.
                        if (values[at].len() - before) as u64 != u64::from(inner[0]) * dtype.size() as u64 {
                            return Err(Error::damaged(
                                path,
                                format!("line {line}: changed while it was read"),
                            ));
                        }
                    }
                    (Holds::Strings, Cells::One(place)) => {
                        let text = cell(*place)?;
                        text_len += text.len() as u64;
                        strings[at].push(text);
                    }
                    (Holds::Label(of), Cells::One(place)) => {
                        let text = cell(*place)?;
                        text_len += text.len() as u64;
                        labels[at].push(label(*of, text).map_err(bad(*place))?);
                    }
                    _ => unreachable!("only values have several cells"),
                }
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let pieces = self.sources.iter().zip(values).zip(strings).zip(labels);
        let pieces = pieces.map(|(((source, values), strings), labels)| match source.column.holds {
            Holds::Values(..) => {
                let mut bytes = AlignedBytes::new();
                bytes.resize(values.len()).copy_from_slice(&values);
                Piece::Values(bytes)
            }
            Holds::Strings => Piece::Strings(strings),
            Holds::Label(_) => Piece::of_labels(labels.into_iter()),
        });
        Ok(Some(Batch { rows, pieces: pieces.collect() }))
    }
}

fn put(dtype: DType, text: &str, values: &mut Vec<u8>) -> Result<(), String> {
    let at = values.len();
    values.resize(at + dtype.size(), 0);
    number(dtype, text, &mut values[at..])
}

pub(crate) struct Text {
    writer: Writer<AtomicFile>,
    columns: Vec<Column>,
}

pub(crate) fn create(
    plan: &Plan,
    target: &Path,
    options: &Options,
    not_kept: &mut Vec<String>,
) -> Result<Text, Error> {
    let mut header: Vec<&str> = Vec::new();
    for column in &plan.columns {
        if let Holds::Values(DType::C64 | DType::C128, _) = column.holds {
            let problem = "complex numbers have no text here; leave it out with columns, or write an .npz";
            return Err(Error::target(target, &column.name, problem));
        }
        let parts = parts(column);
        if parts.is_empty() {
            header.push(&column.name)
        } else {
            header.extend(parts.iter().map(String::as_str))
        }
    }
    for column in &plan.columns {
        if matches!(&column.holds, Holds::Values(_, inner) if inner.len() > 1) {
            not_kept.push(format!("the shape of the rows of {:?}: its values are in one list", column.name));
        }
    }
    not_kept.extend(left_out(&plan.said, target));
    let file = AtomicFile::create(target, options.overwrite).map_err(Error::output)?;
    let mut writer = WriterBuilder::new().delimiter(delimiter(target)).from_writer(file);
    writer.write_record(&header).map_err(refused)?;
    Ok(Text { writer, columns: plan.columns.clone() })
}

/// The columns that the rows of an array were gathered from, if there are still as many.
fn parts(column: &Column) -> &[String] {
    let parts = &column.form.parts;
    if parts.len() as u64 == column.dim() { parts } else { &[] }
}

fn refused(error: ::csv::Error) -> Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(cause) => Error::output(cause),
        other => Error::output(std::io::Error::other(format!("{other:?}"))),
    }
}

/// The shortest text that is read as the same value, and as one of floats if it is one: `1.0`.
fn write_value(dtype: DType, bytes: &[u8], out: &mut String) {
    use std::fmt::Write as _;
    macro_rules! shown {
        ($of:ty) => {
            bytes.try_into().map(<$of>::from_ne_bytes).map(|value| write!(out, "{value:?}"))
        };
    }
    let written = match dtype {
        DType::I8 => shown!(i8),
        DType::I16 => shown!(i16),
        DType::I32 => shown!(i32),
        DType::I64 => shown!(i64),
        DType::U8 => shown!(u8),
        DType::U16 => shown!(u16),
        DType::U32 => shown!(u32),
        DType::U64 => shown!(u64),
        DType::F16 => shown!(f16),
        DType::Bf16 => shown!(bf16),
        DType::F32 => shown!(f32),
        DType::F64 => shown!(f64),
        _ => Ok(write!(out, "{}", bytes.first() == Some(&1))),
    };
    written.expect("a value has the bytes of its dtype").expect("a string takes everything");
}

impl Output for Text {
    fn write(&mut self, batch: Batch) -> Result<(), Error> {
        // Where each column of labels is: its run, and the rows of it that are left.
        let mut at: Vec<(usize, u64)> =
            batch.pieces.iter().map(|piece| (0, piece.labels().map_or(0, |runs| runs[0].0))).collect();
        let mut cell = String::new();
        for row in 0..batch.rows {
            for ((column, piece), (run, left)) in self.columns.iter().zip(&batch.pieces).zip(&mut at) {
                match (&column.holds, piece) {
                    (Holds::Values(dtype, inner), Piece::Values(bytes)) => {
                        let (size, bytes) = (dtype.size(), bytes.bytes());
                        let row_len = bytes.len() / batch.rows;
                        let values = bytes[row * row_len..][..row_len].chunks_exact(size);
                        let (many, list) = (!parts(column).is_empty(), !inner.is_empty());
                        cell.clear();
                        if list && !many {
                            cell.push('[');
                        }
                        for (at, value) in values.enumerate() {
                            if many && at > 0 {
                                self.writer.write_field(&cell).map_err(refused)?;
                                cell.clear();
                            } else if at > 0 {
                                cell.push(',');
                            }
                            write_value(*dtype, value, &mut cell);
                        }
                        if list && !many {
                            cell.push(']');
                        }
                        self.writer.write_field(&cell).map_err(refused)?;
                    }
                    (_, Piece::Strings(strings)) => {
                        self.writer.write_field(strings.get(row)).map_err(refused)?
                    }
                    (_, Piece::Labels(runs)) => {
                        if *left == 0 {
                            *run += 1;
                            *left = runs[*run].0;
                        }
                        *left -= 1;
                        let written = match &runs[*run].1 {
                            Json::Null => self.writer.write_field(""),
                            Json::String(text) => self.writer.write_field(text.as_str().unwrap_or_default()),
                            other => self.writer.write_field(other.to_string_styled(Style::Compact)),
                        };
                        written.map_err(refused)?;
                    }
                    (_, Piece::Values(_)) => unreachable!("values are of arrays"),
                }
            }
            self.writer.write_record(None::<&[u8]>).map_err(refused)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64, Error> {
        let inner = self.writer.into_inner();
        let mut file =
            inner.map_err(|error| Error::output(std::io::Error::other(error.error().to_string())))?;
        file.flush().map_err(Error::output)?;
        committed(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("dim_*", "dim_0", true),
            ("dim_*", "dim_", true),
            ("dim_*", "dam_0", false),
            ("*", "x", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("x", "x", true),
            ("x", "xy", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_cell_is_a_number_only_if_it_would_come_back() {
        for (text, seen) in [
            ("7", Seen::Integers),
            ("-7", Seen::Integers),
            ("007", Seen::Strings),
            ("+7", Seen::Floats),
            ("18446744073709551615", Seen::Unsigned),
            ("18446744073709551616", Seen::Strings),
            ("-9223372036854775809", Seen::Strings),
            ("+9007199254740993", Seen::Strings),
            ("+9007199254740992", Seen::Floats),
            // As floats are written here.
            ("100000000000000000000", Seen::Floats),
            ("123456789012345678901234567890", Seen::Strings),
            ("1.5e3", Seen::Floats),
            ("0.5", Seen::Floats),
            ("NaN", Seen::Floats),
            ("true", Seen::Bools),
            ("True", Seen::Strings),
            ("", Seen::Strings),
            ("[1, 2.5]", Seen::List(2)),
            ("[1 2.5\n 3]", Seen::List(3)),
            ("[]", Seen::List(0)),
            ("infinity", Seen::Strings),
        ] {
            assert_eq!(classify(text), seen, "{text}");
        }
    }

    #[test]
    fn a_record_without_an_end_is_not_read_to_the_end_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let line = "1,\"two\nlines\"\n";
        let text = format!("a,b\n{}2,\"{}\n", line.repeat(200_000), "x,y\n".repeat(1 << 19));
        std::fs::write(&path, text).unwrap();
        let mut records = Records::open(&path, 1 << 20).unwrap();
        let error = loop {
            match records.next() {
                Ok(read) => assert!(read.is_some()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("a.csv: line 400002: the record"), "{error}");
    }

    #[test]
    fn values_beyond_a_dtype_are_refused_and_infinity_is_not() {
        let mut bytes = [0; 4];
        assert!(number(DType::F32, "1e39", &mut bytes).is_err());
        assert!(number(DType::F32, "inf", &mut bytes).is_ok());
        assert!(number(DType::F16, "70000", &mut bytes[..2]).is_err());
        assert!(number(DType::U8, "256", &mut bytes[..1]).is_err());
        assert!(number(DType::F32, "", &mut bytes).unwrap_err().contains("it is empty"));
    }
}
