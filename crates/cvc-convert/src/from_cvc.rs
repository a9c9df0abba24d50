//! The rows of a `.cvc` file as batches for another format.

use std::path::Path;
use std::sync::Arc;

use cvc::{AlignedBytes, Array, CpuBackend, DType, HostBuffer, Json, Reader, Section};

use crate::error::Error;
use crate::said;
use crate::table::{
    Batch, Column, Form, Holds, LabelType, Piece, Said, batch_rows, check_rows, labels_of, too_large,
};

/// A file as another format takes it.
pub(crate) struct Plan {
    reader: Arc<Reader>,
    pub(crate) columns: Vec<Column>,
    /// Rows of all columns, where the format is a table.
    pub(crate) rows: u64,
    pub(crate) said: Said,
    /// The sections in the order of their rows.
    sections: Vec<Section>,
    /// What has no place in the other format.
    pub(crate) not_kept: Vec<String>,
}

/// What the other format is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Columns with as many rows each; labels of sections are columns.
    Table,
    /// Arrays of any number of rows, and sections beside them.
    Arrays,
}

impl Plan {
    /// Chooses the columns, all or those of these names.
    pub(crate) fn new(reader: Arc<Reader>, only: Option<&[String]>, shape: Shape) -> Result<Plan, Error> {
        let wanted = |name: &str| only.is_none_or(|only| only.iter().any(|one| one == name));
        let record = said::recorded(&reader.index().metadata);
        let all_rows = reader.arrays().next().map_or(0, |array| array.rows());
        let mut plan = Plan {
            said: of_file(&reader),
            reader: reader.clone(),
            columns: Vec::new(),
            rows: all_rows,
            sections: Vec::new(),
            not_kept: Vec::new(),
        };
        let mut first = true;
        for array in reader.arrays().filter(|array| wanted(&array.index().name)) {
            if std::mem::take(&mut first) {
                plan.rows = array.rows();
            }
            let name = &array.index().name;
            if shape == Shape::Table && array.rows() != plan.rows {
                let differs = format!("it has {} rows, the others {}", array.rows(), plan.rows);
                if only.is_some() {
                    let problem = format!("{differs}, and a table as many in each column; write it alone");
                    return Err(Error::argument("columns", name, problem));
                }
                plan.not_kept.push(format!("array {name:?}: {differs}"));
                continue;
            }
            let mut column = Column::of_array(&array)?;
            if let Some((.., form)) = record.iter().find(|(known, label, _)| known == name && label.is_none())
            {
                column.form = form.clone();
            }
            plan.columns.push(column);
        }
        match shape {
            Shape::Table => check_rows(plan.rows, &plan.columns)?,
            Shape::Arrays => {
                let mut each = plan.columns.iter();
                each.try_for_each(|column| check_rows(plan.rows_of(column), std::slice::from_ref(column)))?;
            }
        }
        plan.take_sections(all_rows, shape, &record, &wanted);
        if let Some(only) = only {
            let known = |name: &&String| plan.columns.iter().any(|column| column.name == **name);
            if let Some(name) = only.iter().find(|name| !known(name)) {
                let names: Vec<String> = reader.array_names().map(|name| format!("{name:?}")).collect();
                let problem =
                    format!("there is no such column; the file has the arrays {}", names.join(", "));
                return Err(Error::argument("columns", name, problem));
            }
        }
        if !plan.columns.iter().any(|column| !column.is_label()) {
            return Err(Error::argument("columns", "those given", "none of them is an array; add one"));
        }
        let differ = || plan.columns.iter().any(|column| plan.rows_of(column) != plan.rows);
        if shape == Shape::Arrays && (!plan.said.sections.is_empty() || differ()) {
            plan.said.rows = Some(plan.rows);
        }
        // As they stood in the table that they came from, whatever came later behind them.
        let place = |column: &Column| record.iter().position(|(name, ..)| *name == column.name);
        plan.columns.sort_by_key(|column| place(column).unwrap_or(usize::MAX));
        Ok(plan)
    }

    /// Makes columns of the labels of sections, or passes sections on as they are.
    fn take_sections(
        &mut self,
        all_rows: u64,
        shape: Shape,
        record: &[(String, Option<LabelType>, Form)],
        wanted: &impl Fn(&str) -> bool,
    ) {
        let mut sections = self.reader.sections().to_vec();
        if sections.is_empty() {
            sections = self.reader.chunk_sections();
        }
        if sections.is_empty() {
            return;
        }
        if self.rows != all_rows {
            self.not_kept.push("sections: they speak of the first array, which is not among these".into());
            return;
        }
        sections.sort_by_key(|section| (section.rows.start, section.rows.end));
        if shape == Shape::Arrays {
            self.said.sections = sections;
            return;
        }
        if sections.windows(2).any(|pair| pair[0].rows.end > pair[1].rows.start) {
            self.not_kept
                .push("sections: some of them share rows, and a row of a table has one label".into());
            return;
        }
        let mut keys: Vec<String> = Vec::new();
        for section in &sections {
            match section.metadata.as_object() {
                Some(pairs) => {
                    for name in pairs.iter().filter_map(|(key, _)| key.as_str()) {
                        if !keys.iter().any(|key| key == name) {
                            keys.push(name.to_owned());
                        }
                    }
                }
                None => self.not_kept.push(format!(
                    "the section of rows {}..{}: its metadata is no object",
                    section.rows.start, section.rows.end
                )),
            }
        }
        for key in keys.into_iter().filter(|key| wanted(key)) {
            if self.columns.iter().any(|column| column.name == key) {
                self.not_kept.push(format!("label {key:?} of sections: there is an array of that name"));
                continue;
            }
            let known = record.iter().find(|(name, label, _)| *name == key && label.is_some());
            let labels = || sections.iter().filter_map(|section| section.metadata.get(&key));
            let known_type =
                known.and_then(|(_, label, _)| *label).filter(|of| labels().all(|label| fits(label, *of)));
            let Some(label) = known_type.or_else(|| label_type(labels())) else {
                let problem = "its values are not all text, all numbers, or all true or false";
                self.not_kept.push(format!("label {key:?} of sections: {problem}"));
                continue;
            };
            let mut form = known.map(|(.., form)| form.clone()).unwrap_or_default();
            form.nullable |= !all_have(&sections, &key, all_rows);
            self.columns.push(Column { name: key, holds: Holds::Label(label), form });
        }
        self.sections = sections;
    }

    /// How many sections the labels of the columns say.
    pub(crate) fn label_sections(&self) -> usize {
        if self.columns.iter().any(Column::is_label) { self.sections.len() } else { 0 }
    }

    /// Some rows of every column.
    pub(crate) fn read(&self, rows: std::ops::Range<u64>) -> Result<Batch, Error> {
        let count = usize::try_from(rows.end - rows.start).expect("a batch fits in memory");
        let pieces = self.columns.iter().map(|column| match &column.holds {
            Holds::Label(_) => Ok(labels_of(&self.sections, &column.name, rows.clone())),
            _ => self.read_array(column, rows.clone()),
        });
        Ok(Batch { rows: count, pieces: pieces.collect::<Result<_, _>>()? })
    }

    /// Some rows of one array.
    pub(crate) fn read_array(&self, column: &Column, rows: std::ops::Range<u64>) -> Result<Piece, Error> {
        let array = self.reader.array(&column.name)?;
        match &column.holds {
            Holds::Values(dtype, _) => values(&array, *dtype, rows, column),
            Holds::Strings => Ok(Piece::Strings(array.read_strings(rows)?)),
            Holds::Label(_) => unreachable!("a label is no array"),
        }
    }

    /// How many rows an array has.
    pub(crate) fn rows_of(&self, column: &Column) -> u64 {
        self.reader.array(&column.name).map_or(0, |array| array.rows())
    }

    /// Bytes of a row of all columns in memory.
    pub(crate) fn row_len(&self) -> u64 {
        self.columns.iter().map(|column| self.column_len(column)).fold(0, u64::saturating_add)
    }

    /// Bytes of a row of one column: of strings what they take in the file, and some more; of labels, which are repeated in every row,
    /// the longest.
    fn column_len(&self, column: &Column) -> u64 {
        const EXPANSION: u64 = 8;
        match (&column.holds, self.reader.array(&column.name)) {
            (Holds::Strings, Ok(array)) => {
                let mean_len = array.index().stored_len() / array.rows().max(1);
                mean_len.saturating_mul(EXPANSION).max(column.row_len())
            }
            (Holds::Label(LabelType::String), _) => {
                let labels = self.sections.iter().filter_map(|section| section.metadata.get(&column.name));
                labels.filter_map(Json::as_str).map(|label| label.len() as u64).max().unwrap_or(0)
            }
            _ => column.row_len(),
        }
    }

    /// The ranges of rows to be read one after the other: whole chunks of the first array, as far as they are not too large, because
    /// some can only be read whole.
    pub(crate) fn windows(&self) -> Windows {
        let first = self.columns.iter().find(|column| !column.is_label());
        let first = first.and_then(|column| self.reader.array(&column.name).ok());
        let mut ends: Vec<u64> =
            first.map_or(Vec::new(), |array| array.chunks().map(|chunk| chunk.rows.end).collect());
        ends.push(self.rows);
        Windows { ends: ends.into_iter().peekable(), row: 0, most: batch_rows(self.row_len()) }
    }
}

/// Ranges of rows, one after the other.
pub(crate) struct Windows {
    /// Where chunks end that are not yet behind us.
    ends: std::iter::Peekable<std::vec::IntoIter<u64>>,
    row: u64,
    most: u64,
}

impl Iterator for Windows {
    type Item = std::ops::Range<u64>;

    fn next(&mut self) -> Option<std::ops::Range<u64>> {
        let (start, most) = (self.row, self.most);
        while let Some(end) = self.ends.next_if(|end| end - start <= most) {
            self.row = end;
        }
        if self.row == start {
            // Not even one chunk: a part of it, if there is one.
            self.ends.peek()?;
            self.row = start + most;
        }
        Some(start..self.row)
    }
}

fn values(
    array: &Array<'_>,
    dtype: DType,
    rows: std::ops::Range<u64>,
    column: &Column,
) -> Result<Piece, Error> {
    // Earned: the file has the bytes that so many rows need, before any memory is asked for.
    let len = array.decoded_len(rows.clone(), dtype)?;
    let mut bytes = AlignedBytes::new();
    if u64::try_from(len).map_err(|_| too_large(column))? > 0 {
        let mut out = HostBuffer::from_bytes(dtype, bytes.resize(len)).map_err(cvc::Error::from)?;
        array.decode(&CpuBackend::new(), rows, dtype, &mut out)?;
    }
    Ok(Piece::Values(bytes))
}

/// Whether every row has a label under `key`.
fn all_have(sections: &[Section], key: &str, rows: u64) -> bool {
    let has =
        |section: &&Section| section.metadata.get(key).is_some_and(|label| !matches!(label, Json::Null));
    let mut row = 0;
    for section in sections.iter().filter(has) {
        if section.rows.start > row {
            return false;
        }
        row = section.rows.end;
    }
    row == rows
}

/// What the file says beside its arrays.
fn of_file(reader: &Reader) -> Said {
    let index = reader.index();
    let metadata = index.metadata.as_object().unwrap_or_default().iter();
    let metadata = metadata.filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.clone())));
    let provenance = index.arrays.iter();
    let provenance = provenance.filter_map(|array| Some((array.name.clone(), array.provenance.clone()?)));
    Said {
        metadata: metadata.filter(|(key, _)| key != said::TABLE).collect(),
        provenance: provenance.collect(),
        ..Said::default()
    }
}

/// The type that all labels have.
fn label_type<'a>(labels: impl Iterator<Item = &'a Json> + Clone) -> Option<LabelType> {
    let types = [
        LabelType::String,
        LabelType::Values(DType::Bool),
        LabelType::Values(DType::I64),
        LabelType::Values(DType::U64),
        LabelType::Values(DType::F64),
    ];
    let mut some = labels.clone().filter(|label| !matches!(label, Json::Null)).peekable();
    some.peek()?;
    types.into_iter().find(|of| labels.clone().all(|label| fits(label, *of)))
}

/// Whether a label is a value of the type.
fn fits(label: &Json, of: LabelType) -> bool {
    match (label, of) {
        (Json::Null, _) => true,
        (Json::String(text), LabelType::String) => text.as_str().is_some(),
        (Json::Bool(_), LabelType::Values(DType::Bool)) => true,
        (Json::Number(number), LabelType::Values(dtype)) => match dtype {
            DType::F64 => true,
            DType::F32 => {
                #[expect(clippy::cast_possible_truncation, reason = "what is looked for")]
                let rounded = number.as_f64() as f32;
                f64::from(rounded) == number.as_f64()
            }
            DType::I8 => number.text().parse::<i8>().is_ok(),
            DType::I16 => number.text().parse::<i16>().is_ok(),
            DType::I32 => number.text().parse::<i32>().is_ok(),
            DType::I64 => number.text().parse::<i64>().is_ok(),
            DType::U8 => number.text().parse::<u8>().is_ok(),
            DType::U16 => number.text().parse::<u16>().is_ok(),
            DType::U32 => number.text().parse::<u32>().is_ok(),
            DType::U64 => number.text().parse::<u64>().is_ok(),
            _ => false,
        },
        _ => false,
    }
}

/// What has no place in the output, for messages: sections, and what is said of the file.
pub(crate) fn left_out(said: &Said, output: &Path) -> Vec<String> {
    let name = output.extension().map_or(String::new(), |extension| format!(".{}", extension.display()));
    let mut left = Vec::new();
    if !said.sections.is_empty() {
        left.push(format!("sections ({}): {name} has no place for them", said.sections.len()));
    }
    if !said.metadata.is_empty() {
        let keys: Vec<&str> = said.metadata.iter().map(|(key, _)| key.as_str()).collect();
        left.push(format!("metadata ({}): {name} has no place for it", keys.join(", ")));
    }
    if !said.provenance.is_empty() {
        left.push(format!("provenance of arrays: {name} has no place for it"));
    }
    left
}

#[cfg(test)]
mod tests {
    use cvc::{ArrayOptions, Layout, RowSlice, WriteOptions, Writer};

    use super::*;
    use crate::table::BATCH_LEN;

    fn windows<const N: usize>(ends: [u64; N], most: u64) -> Vec<std::ops::Range<u64>> {
        Windows { ends: Vec::from(ends).into_iter().peekable(), row: 0, most }.collect()
    }

    #[test]
    fn windows_end_with_chunks_unless_one_is_too_large() {
        assert_eq!(windows([4, 8, 12, 12], 9), [0..8, 8..12]);
        assert_eq!(windows([4, 8, 20, 21, 21], 5), [0..4, 4..8, 8..13, 13..18, 18..21]);
        assert_eq!(windows([0], 5), []);
        assert_eq!(windows([3], 1), [0..1, 1..2, 2..3]);
        // One by one, however many there are.
        let mut many = Windows { ends: vec![u64::MAX].into_iter().peekable(), row: 0, most: 1 };
        assert_eq!((many.next(), many.next()), (Some(0..1), Some(1..2)));
    }

    #[test]
    fn a_long_label_makes_batches_of_fewer_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cvc");
        let (rows, label) = (1 << 18, "x".repeat(2200));
        let options = WriteOptions::new(Layout::Native);
        let options = options.with_array(ArrayOptions::values("id", DType::I64, &[], "raw")).unwrap();
        let mut writer = Writer::create(&path, options).unwrap();
        let ids = vec![0u8; rows * 8];
        writer.write(&[RowSlice::from_bytes(DType::I64, rows, 1, &ids).unwrap()]).unwrap();
        let said = Json::object([("source", Json::from(label.as_str()))]);
        writer.add_section(0..rows as u64, said).unwrap();
        writer.finish().unwrap();
        let plan = Plan::new(Arc::new(Reader::open(&path).unwrap()), None, Shape::Table).unwrap();
        let windows: Vec<_> = plan.windows().collect();
        assert_eq!(windows.last().unwrap().end, rows as u64);
        for window in windows {
            assert!((window.end - window.start) * (label.len() as u64 + 8) <= BATCH_LEN, "{window:?}");
        }
    }
}
