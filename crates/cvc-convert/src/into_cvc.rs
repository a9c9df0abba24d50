//! Batches of another format into a `.cvc` file.

use std::path::Path;

use cvc::{ArrayOptions, ArrayRows, Json, Layout, WriteOptions, Writer};

use crate::error::Error;
use crate::said;
use crate::table::{Column, Holds, Input, Runs, check_rows, rows_of};
use crate::{Converted, Options, Progress};

/// Writes everything that `input` has. The file appears whole or not at all.
pub(crate) fn write(
    input: &mut dyn Input,
    target: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    let columns = input.columns().to_vec();
    check_codecs(options, input)?;
    check_rows(input.rows().unwrap_or(0), &columns)?;
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
        if let Some(array) = array_of(options, input, column) {
            write = write.with_array(array)?;
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
        check_rows(rows + batch.rows as u64, &columns)?;
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
        check_rows(count as u64, std::slice::from_ref(&column))?;
        if let (Some(array), Some(rows)) =
            (array_of(options, input, &column), rows_of(&column, count, &piece)?)
        {
            writer.attach(array, rows)?;
            names.push(column.name);
        }
    }
    let written = writer.finish()?;
    Ok(Converted {
        rows: written.rows,
        arrays: names,
        sections: section_count,
        file_len: written.file_len,
        not_kept: input.said().not_kept.clone(),
    })
}

/// Refuses codecs that are given twice, or to an array that is not there.
fn check_codecs(options: &Options, input: &dyn Input) -> Result<(), Error> {
    for (at, (array, codec)) in options.codecs.iter().enumerate() {
        if options.codecs[..at].iter().any(|(other, _)| other == array) {
            let problem = "there is a codec for the same arrays already; use ARRAY=CODEC for others";
            return Err(Error::argument("codec", codec, problem));
        }
        if let Some(name) = array.as_ref().filter(|name| !input.has_array(name)) {
            let given = format!("{name}={codec}");
            return Err(Error::argument("codec", given, "no column becomes an array of that name"));
        }
    }
    Ok(())
}

/// The codec of the array that a column becomes: the one given to it, or to all matrices of floats.
fn codec_of<'o>(options: &'o Options, column: &Column) -> &'o str {
    let given = |wanted: Option<&str>| {
        let found = options.codecs.iter().find(|(array, _)| array.as_deref() == wanted);
        found.map(|(_, codec)| codec.as_str())
    };
    if let Some(codec) = given(Some(&column.name)) {
        return codec;
    }
    match &column.holds {
        Holds::Strings => "zstd",
        // Ids and scores are not what a codec for vectors is given for.
        Holds::Values(dtype, inner) if dtype.is_float() && !inner.is_empty() => {
            given(None).or(options.float_codec.as_deref()).unwrap_or("raw")
        }
        _ => "raw",
    }
}

/// The array that a column becomes, with what is said of all arrays and where this one comes from; nothing for a label.
fn array_of(options: &Options, input: &dyn Input, column: &Column) -> Option<ArrayOptions> {
    let mut array = column.array(codec_of(options, column))?;
    if let Some(provenance) = input.said().provenance_of(&column.name) {
        array = array.provenance(provenance.clone());
    }
    let (scope, nonfinite) = (options.scope.unwrap_or_default(), options.nonfinite.unwrap_or_default());
    Some(array.scope(scope).nonfinite(nonfinite))
}
