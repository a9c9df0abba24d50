//! Arrow IPC files, which is what Feather (version 2) is.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::SchemaRef;
use cvc::io::atomic_file::AtomicFile;

use crate::Options;
use crate::arrow::{Table, record_batch, schema};
use crate::error::Error;
use crate::from_cvc::Plan;
use crate::guarded::{Guarded, guarded};
use crate::table::{Batch, Column, Output, committed};

pub(crate) fn open(source: &Path, options: &Options) -> Result<Table, Error> {
    let file = File::open(source).map_err(Error::io(source, "cannot be read"))?;
    let reader = guarded(|| FileReader::try_new(BufReader::new(file), None)).map_err(|error| {
        Error::damaged(
            source,
            format!("is no sound Arrow IPC file: {error}; it was cut or changed: write it again"),
        )
    })?;
    let schema = reader.schema();
    Table::new(source, &schema, Guarded::new(reader), None, options)
}

pub(crate) struct Writer {
    writer: FileWriter<AtomicFile>,
    schema: SchemaRef,
    columns: Vec<Column>,
}

pub(crate) fn create(
    plan: &Plan,
    target: &Path,
    options: &Options,
    not_kept: &mut Vec<String>,
) -> Result<Writer, Error> {
    let schema = schema(plan, target, not_kept)?;
    let file = AtomicFile::create(target, options.overwrite).map_err(Error::output)?;
    let writer = FileWriter::try_new(file, &schema).map_err(refused)?;
    Ok(Writer { writer, schema, columns: plan.columns.clone() })
}

fn refused(error: arrow_schema::ArrowError) -> Error {
    Error::output(std::io::Error::other(error))
}

impl Output for Writer {
    fn write(&mut self, batch: Batch) -> Result<(), Error> {
        let batch = record_batch(&self.schema, &self.columns, batch)?;
        self.writer.write(&batch).map_err(refused)
    }

    fn finish(self: Box<Self>) -> Result<u64, Error> {
        let mut writer = self.writer;
        writer.finish().map_err(refused)?;
        let file = writer.into_inner().map_err(refused)?;
        committed(file)
    }
}
