//! What every format comes down to: named columns, and batches of their rows.

use std::collections::HashSet;
use std::io::Seek as _;
use std::ops::Range;
use std::path::Path;

use cvc::io::atomic_file::AtomicFile;
use cvc::{AlignedBytes, ArrayDType, ArrayOptions, ArrayRows, DType, Json, RowSlice, Section, Strings};

use crate::error::Error;

/// Bytes of rows that are held at a time, unless one row has more.
pub(crate) const BATCH_LEN: u64 = 64 << 20;

/// A column: an array of the `.cvc` file, or a label that its sections have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) holds: Holds,
    /// What else the format needs to know to write the column as it was.
    pub(crate) form: Form,
}

/// What is in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Rows of values; the shape of one row.
    Values(DType, Vec<u32>),
    /// A string in each row.
    Strings,
    /// A label: the metadata of sections under the name of the column.
    Label(LabelType),
}

/// The type of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelType {
    String,
    Values(DType),
}

/// How a column was written where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// Arrow's layout of strings and lists, if it is not the one that is taken by default.
    pub(crate) kind: Option<String>,
    /// Whether it was said that there may be nulls.
    pub(crate) nullable: bool,
    /// The columns of a text file that the rows were gathered from.
    pub(crate) parts: Vec<String>,
}

impl Column {
    pub(crate) fn values(name: &str, dtype: DType, inner: Vec<u32>) -> Column {
        Column { name: name.to_owned(), holds: Holds::Values(dtype, inner), form: Form::default() }
    }

    /// The values of a row.
    pub(crate) fn dim(&self) -> u64 {
        match &self.holds {
            Holds::Values(_, inner) => inner.iter().map(|len| u64::from(*len)).product(),
            _ => 1,
        }
    }

    /// Bytes of a row; of strings a guess.
    pub(crate) fn row_len(&self) -> u64 {
        match &self.holds {
            Holds::Values(dtype, _) => self.dim().saturating_mul(dtype.size() as u64),
            Holds::Strings => 64,
            Holds::Label(_) => 0,
        }
    }

    pub(crate) fn is_label(&self) -> bool {
        matches!(self.holds, Holds::Label(_))
    }

    /// The array to write; nothing for a label.
    pub(crate) fn array(&self, codec: &str) -> Option<ArrayOptions> {
        match &self.holds {
            Holds::Values(dtype, inner) => Some(ArrayOptions::values(&self.name, *dtype, inner, codec)),
            Holds::Strings => Some(ArrayOptions::strings(&self.name, codec)),
            Holds::Label(_) => None,
        }
    }

    /// What the array has in a `.cvc` file.
    pub(crate) fn of_array(array: &cvc::Array<'_>) -> Result<Column, Error> {
        let index = array.index();
        let holds = match index.dtype {
            ArrayDType::Utf8 => Holds::Strings,
            _ => Holds::Values(array.dtype()?, index.inner.clone()),
        };
        Ok(Column { name: index.name.clone(), holds, form: Form::default() })
    }
}

/// How many rows of so many bytes make a batch.
pub(crate) fn batch_rows(row_len: u64) -> u64 {
    (BATCH_LEN / row_len.max(1)).clamp(1, 1 << 20)
}

/// More rows than this that have no bytes are refused: a few bytes can say that there are any number of them.
const MOST_EMPTY_ROWS: u64 = 1 << 32;

/// Refuses rows that nobody could write in their lifetime, as none of the columns has a byte of them.
pub(crate) fn check_rows(rows: u64, columns: &[Column]) -> Result<(), Error> {
    if rows <= MOST_EMPTY_ROWS || columns.iter().any(|column| column.row_len() > 0) {
        return Ok(());
    }
    let problem =
        format!("its rows have no values, and more than {MOST_EMPTY_ROWS} of these are not converted");
    Err(Error::argument("rows", rows, problem))
}

/// The names, none of which may be there twice.
pub(crate) fn unique_names<'a>(
    path: &Path,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<&'a str>, Error> {
    let names: Vec<&str> = names.collect();
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(**name)) {
        Some(name) => {
            Err(Error::column(path, name, "there are two columns of this name; rename one of them"))
        }
        None => Ok(names),
    }
}

/// Bytes of a row of all columns.
pub(crate) fn row_len(columns: &[Column]) -> u64 {
    columns.iter().map(Column::row_len).fold(0, u64::saturating_add)
}

/// Some rows of one column.
#[derive(Debug)]
pub(crate) enum Piece {
    /// In native byte order.
    Values(AlignedBytes),
    Strings(Strings),
    /// How many rows have which label, in their order; null where there is none.
    Labels(Vec<(u64, Json)>),
}

/// Some rows of every column.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) rows: usize,
    pub(crate) pieces: Vec<Piece>,
}

/// A file of another format, opened.
pub(crate) trait Input {
    /// In the order of the file. They do not change.
    fn columns(&self) -> &[Column];

    /// How many rows there will be, if that is known.
    fn rows(&self) -> Option<u64>;

    /// What else the file says.
    fn said(&self) -> &Said;

    /// The next rows; none at the end.
    fn next(&mut self) -> Result<Option<Batch>, Error>;

    /// Whether there is an array of this name, of whatever number of rows.
    fn has_array(&self, name: &str) -> bool {
        self.columns().iter().any(|column| !column.is_label() && column.name == name)
    }

    /// Arrays with another number of rows, one after the other.
    fn next_apart(&mut self) -> Result<Option<(Column, usize, Piece)>, Error> {
        Ok(None)
    }
}

/// A file of another format, in the making.
pub(crate) trait Output {
    /// Takes the next rows, of the columns that it was made for.
    fn write(&mut self, batch: Batch) -> Result<(), Error>;

    /// Gives the file its name; its length.
    fn finish(self: Box<Self>) -> Result<u64, Error>;
}

/// Gives a file that is written its name; its length.
pub(crate) fn committed(mut file: AtomicFile) -> Result<u64, Error> {
    let len = file.stream_position().map_err(Error::output)?;
    file.commit().map_err(Error::output)?;
    Ok(len)
}

/// What a file says beside its columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Of the whole file.
    pub(crate) metadata: Vec<(String, Json)>,
    /// Of rows, where the format has no columns of labels.
    pub(crate) sections: Vec<Section>,
    /// Where arrays come from.
    pub(crate) provenance: Vec<(String, Json)>,
    /// How many rows the sections speak of, and the first array has; only where not all arrays need have as many.
    pub(crate) rows: Option<u64>,
    /// What has no place in a `.cvc` file, or not with the arrays that were chosen.
    pub(crate) not_kept: Vec<String>,
}

impl Said {
    pub(crate) fn provenance_of(&self, array: &str) -> Option<&Json> {
        self.provenance.iter().find(|(name, _)| name == array).map(|(_, said)| said)
    }
}

/// The rows of a piece, to be written to a `.cvc` file; nothing for labels.
pub(crate) fn rows_of<'a>(
    column: &Column,
    rows: usize,
    piece: &'a Piece,
) -> Result<Option<ArrayRows<'a>>, Error> {
    Ok(match (&column.holds, piece) {
        (Holds::Values(dtype, _), Piece::Values(bytes)) => {
            let dim = usize::try_from(column.dim()).map_err(|_| too_large(column))?;
            let slice = RowSlice::from_bytes(*dtype, rows, dim, bytes.bytes());
            Some(slice.map_err(cvc::Error::from)?.into())
        }
        (Holds::Strings, Piece::Strings(strings)) => Some(strings.into()),
        _ => None,
    })
}

pub(crate) fn too_large(column: &Column) -> Error {
    Error::argument("array", &column.name, "one of its rows does not fit in memory")
}

/// Bytes of values, little-endian, from native ones or the other way round.
pub(crate) fn little_endian(dtype: DType, bytes: &mut [u8]) {
    if cfg!(target_endian = "big") && dtype.component_size() > 1 {
        bytes.chunks_exact_mut(dtype.component_size()).for_each(<[u8]>::reverse);
    }
}

/// Runs of labels become sections while they come in.
///
/// Sections of labels that are all null are none: their rows have no label.
pub(crate) struct Runs {
    columns: Vec<String>,
    /// Where the current run began, and its labels.
    current: Option<(u64, Vec<Json>)>,
    sections: Vec<Section>,
}

/// More sections than this are the work of a column that names rows rather than groups of them. A file could hold sixteen
/// times as many.
pub(crate) const MOST_SECTIONS: usize = 1 << 16;

impl Runs {
    pub(crate) fn new(columns: &[Column]) -> Runs {
        let labels = columns.iter().filter(|column| column.is_label());
        let columns = labels.map(|column| column.name.clone()).collect();
        Runs { columns, current: None, sections: Vec::new() }
    }

    /// Takes the labels of the rows from `first` on.
    pub(crate) fn push(&mut self, first: u64, batch: &Batch) -> Result<(), Error> {
        let labels: Vec<&Vec<(u64, Json)>> = batch.pieces.iter().filter_map(Piece::labels).collect();
        if labels.is_empty() {
            return Ok(());
        }
        let end = first + batch.rows as u64;
        // Where each label's current run ends, and its place in the list.
        let mut at: Vec<(u64, usize)> = labels.iter().map(|runs| (first + runs[0].0, 0)).collect();
        let mut row = first;
        while row < end {
            let now: Vec<&Json> = labels.iter().zip(&at).map(|(runs, (_, place))| &runs[*place].1).collect();
            let same = matches!(&self.current, Some((_, before)) if before.iter().zip(&now).all(|(a, b)| same(a, b)));
            if !same {
                self.close(row)?;
                self.current = Some((row, now.into_iter().cloned().collect()));
            }
            let next = at.iter().map(|(end, _)| *end).min().unwrap_or(end);
            for ((run_end, place), runs) in at.iter_mut().zip(&labels) {
                if *run_end == next && *place + 1 < runs.len() {
                    *place += 1;
                    *run_end += runs[*place].0;
                }
            }
            row = next;
        }
        Ok(())
    }

    fn close(&mut self, end: u64) -> Result<(), Error> {
        let Some((start, labels)) = self.current.take() else { return Ok(()) };
        let pairs = self.columns.iter().zip(labels).filter(|(_, label)| !matches!(label, Json::Null));
        let pairs: Vec<(&str, Json)> = pairs.map(|(name, label)| (name.as_str(), label)).collect();
        if pairs.is_empty() {
            return Ok(());
        }
        if self.sections.len() == MOST_SECTIONS {
            let problem = format!(
                "its first {end} rows would make more than {MOST_SECTIONS} sections: it changes from row to row; sort by it, \
                 or let it become an array"
            );
            return Err(Error::argument("sections from", self.columns.join(", "), problem));
        }
        self.sections.push(Section::new(start..end, Json::object(pairs)));
        Ok(())
    }

    pub(crate) fn finish(mut self, rows: u64) -> Result<Vec<Section>, Error> {
        self.close(rows)?;
        Ok(self.sections)
    }
}

/// Whether labels are written the same. Values that are equal may differ: 1 and 1.0.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.text() == b.text(),
        (a, b) => a == b,
    }
}

impl Piece {
    pub(crate) fn labels(&self) -> Option<&Vec<(u64, Json)>> {
        if let Piece::Labels(runs) = self { Some(runs) } else { None }
    }

    /// Labels of consecutive rows.
    pub(crate) fn of_labels(labels: impl Iterator<Item = Json>) -> Piece {
        let mut runs: Vec<(u64, Json)> = Vec::new();
        for label in labels {
            match runs.last_mut() {
                Some((count, last)) if same(last, &label) => *count += 1,
                _ => runs.push((1, label)),
            }
        }
        Piece::Labels(runs)
    }
}

/// The labels of some rows: what sections, in the order of their rows, have under `key`.
pub(crate) fn labels_of(sections: &[Section], key: &str, rows: Range<u64>) -> Piece {
    let mut runs: Vec<(u64, Json)> = Vec::new();
    let mut row = rows.start;
    let first = sections.partition_point(|section| section.rows.end <= rows.start);
    for section in &sections[first..] {
        if section.rows.start >= rows.end {
            break;
        }
        if section.rows.start > row {
            runs.push((section.rows.start - row, Json::Null));
        }
        let (start, end) = (section.rows.start.max(row), section.rows.end.min(rows.end));
        if start < end {
            runs.push((end - start, section.metadata.get(key).cloned().unwrap_or(Json::Null)));
            row = end;
        }
    }
    if row < rows.end {
        runs.push((rows.end - row, Json::Null));
    }
    Piece::Labels(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str) -> Column {
        Column { name: name.into(), holds: Holds::Label(LabelType::String), form: Form::default() }
    }

    fn batch(labels: &[&[&str]]) -> Batch {
        let json = |text: &&str| if text.is_empty() { Json::Null } else { Json::from(*text) };
        let pieces = labels.iter().map(|texts| Piece::of_labels(texts.iter().map(json))).collect();
        Batch { rows: labels[0].len(), pieces }
    }

    #[test]
    fn runs_go_on_over_batches_and_any_label_ends_them() {
        let mut runs = Runs::new(&[label("a"), label("b")]);
        runs.push(0, &batch(&[&["x", "x", "y"], &["1", "1", "1"]])).unwrap();
        runs.push(3, &batch(&[&["y", "y", ""], &["1", "2", ""]])).unwrap();
        runs.push(6, &batch(&[&["", "x"], &["", ""]])).unwrap();
        let sections = runs.finish(8).unwrap();
        let found: Vec<_> = sections.iter().map(|section| section.rows.clone()).collect();
        assert_eq!(found, [0..2, 2..4, 4..5, 7..8]);
        assert_eq!(sections[2].metadata, Json::object([("a", Json::from("y")), ("b", Json::from("2"))]));
        assert_eq!(sections[3].metadata, Json::object([("a", Json::from("x"))]), "no label, no key");
    }

    #[test]
    fn labels_come_back_from_sections_for_any_rows() {
        let of = |rows: Range<u64>, name: &str| Section::new(rows, Json::object([("a", Json::from(name))]));
        let sections = [of(1..3, "x"), of(3..4, "y"), of(6..9, "z")];
        for start in 0..10u64 {
            for end in start..11 {
                let Piece::Labels(runs) = labels_of(&sections, "a", start..end) else { panic!("labels") };
                let flat: Vec<Json> = runs
                    .into_iter()
                    .flat_map(|(count, label)| (0..count).map(move |_| label.clone()))
                    .collect();
                let expected: Vec<Json> = (start..end)
                    .map(|row| {
                        let section = sections.iter().find(|section| section.rows.contains(&row));
                        section.map_or(Json::Null, |section| section.metadata.get("a").unwrap().clone())
                    })
                    .collect();
                assert_eq!(flat, expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_label_that_names_every_row_is_refused() {
        let mut runs = Runs::new(&[label("id")]);
        let names: Vec<String> = (0..MOST_SECTIONS + 1).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        runs.push(0, &batch(&[&names])).unwrap();
        let error = runs.finish(names.len() as u64).unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains("more than 65536 sections"), "{error}");
    }
}
