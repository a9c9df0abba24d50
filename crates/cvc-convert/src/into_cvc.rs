//! Batches of another format into a `.cvc` file.

use std::path::Path;

use cvc::{ArrayOptions, ArrayRows, Json, Layout, NonFinite, Scope, WriteOptions, Writer};

use crate::error::Error;
use crate::said;
use crate::table::{Column, Holds, Input, Runs, rows_of};
use crate::{Converted, Options, Progress};

/// Writes everything that `input` has. The file appears whole or not at all.
pub(crate) fn write(
    input: &mut dyn Input,
    target: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    let columns = input.columns().to_vec();
    let codecs = Codecs::new(options, &columns)?;
    let mut metadata: Vec<(String, Json)> = input.said().metadata.clone();
    for (key, value) in options.metadata.iter().cloned() {
        metadata.retain(|(other, _)| *other != key);
        metadata.push((key, value));
    }
    metadata.extend(said::table(&columns).map(|table| (said::TABLE.to_owned(), table)));
    let mut write = WriteOptions::new(Layout::Native)
        .metadata(Json::object(metadata.iter().map(|(key, value)| (key.as_str(), value.clone()))))?
        .overwrite(options.overwrite);
    for column in &columns {
        if let Some(array) = column.array(codecs.of(column)) {
            write = write.with_array(codecs.tuned(array, input, &column.name))?;
        }
    }
    if columns.iter().all(Column::is_label) {
        let problem = "there is no other column, and a file needs an array; leave one of these out";
        return Err(Error::argument("sections from", options.sections_from.join(", "), problem));
    }
    if let Some(rows) = options.chunk_rows {
        write = write.chunk_rows(rows)?;
    }
    let mut writer = Writer::create(target, write)?;
    if let Some(rows) = input.rows() {
        writer.reserve(rows)?;
    }
    let mut runs = Runs::new(&columns);
    let mut rows = 0;
    progress(0, input.rows())?;
    while let Some(batch) = input.next()? {
        let pieces = columns.iter().zip(&batch.pieces);
        let arrays = pieces.filter_map(|(column, piece)| rows_of(column, batch.rows, piece).transpose());
        writer.write(&arrays.collect::<Result<Vec<ArrayRows<'_>>, Error>>()?)?;
        runs.push(rows, &batch)?;
        rows += batch.rows as u64;
        progress(rows, input.rows())?;
    }
    let mut sections = runs.finish(rows)?;
    // Columns of labels say it better: a table may have been sorted since.
    if sections.is_empty() {
        sections.clone_from(&input.said().sections);
    }
    let section_count = sections.len();
    for section in sections {
        writer.put_section(section.rows, section.metadata)?;
    }
    let mut names: Vec<String> =
        columns.iter().filter(|column| !column.is_label()).map(|c| c.name.clone()).collect();
    while let Some((column, count, piece)) = input.next_apart()? {
        let array = column.array(codecs.of(&column));
        if let (Some(array), Some(rows)) = (array, rows_of(&column, count, &piece)?) {
            writer.attach(codecs.tuned(array, input, &column.name), rows)?;
            names.push(column.name);
        }
    }
    let written = writer.finish()?;
    Ok(Converted {
        rows: written.rows,
        arrays: names,
        sections: section_count,
        file_len: written.file_len,
        not_kept: Vec::new(),
    })
}

/// Which array gets which codec.
struct Codecs<'o> {
    options: &'o Options,
}

impl<'o> Codecs<'o> {
    fn new(options: &'o Options, columns: &[Column]) -> Result<Self, Error> {
        for (at, (array, codec)) in options.codecs.iter().enumerate() {
            if options.codecs[..at].iter().any(|(other, _)| other == array) {
                let problem = "there is a codec for the same arrays already; use ARRAY=CODEC for others";
                return Err(Error::argument("codec", codec, problem));
            }
            // Arrays of other lengths come later, and their names with them.
            if let Some(name) = array
                && columns.iter().any(|column| column.is_label() && column.name == *name)
            {
                return Err(Error::argument(
                    "codec",
                    format!("{name}={codec}"),
                    "that column makes sections",
                ));
            }
        }
        Ok(Codecs { options })
    }

    fn of(&self, column: &Column) -> &'o str {
        let given = |wanted: Option<&str>| {
            let found = self.options.codecs.iter().find(|(array, _)| array.as_deref() == wanted);
            found.map(|(_, codec)| codec.as_str())
        };
        if let Some(codec) = given(Some(&column.name)) {
            return codec;
        }
        match &column.holds {
            Holds::Strings => "zstd",
            // Labels, ids and scores are not what a codec for vectors is given for.
            Holds::Values(dtype, inner) if dtype.is_float() && !inner.is_empty() => {
                given(None).or(self.options.float_codec.as_deref()).unwrap_or("raw")
            }
            _ => "raw",
        }
    }

    /// With what is said of all arrays, and where this one comes from.
    fn tuned(&self, mut array: ArrayOptions, input: &dyn Input, name: &str) -> ArrayOptions {
        if let Some(provenance) = input.said().provenance_of(name) {
            array = array.provenance(provenance.clone());
        }
        array
            .scope(self.options.scope.unwrap_or(Scope::default()))
            .nonfinite(self.options.nonfinite.unwrap_or(NonFinite::default()))
    }
}
