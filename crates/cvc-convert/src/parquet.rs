//! Parquet files. Row groups and pages are read as batches need them, never a whole file.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use arrow_schema::SchemaRef;
use cvc::io::atomic_file::AtomicFile;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::Options;
use crate::arrow::{Table, record_batch, schema};
use crate::error::Error;
use crate::from_cvc::Plan;
use crate::guarded::{Guarded, guarded};
use crate::table::{BATCH_LEN, Batch, Column, Holds, Output, committed};

/// Bytes of rows in a group, which a writer holds until it is full.
const GROUP_LEN: u64 = 128 << 20;

/// Where Arrow's schema stands among the key-value metadata.
const ARROW_SCHEMA: &str = "ARROW:schema";

pub(crate) fn open(source: &Path, options: &Options) -> Result<Table, Error> {
    let damaged = |error: &dyn std::fmt::Display| {
        Error::damaged(
            source,
            format!("is no sound Parquet file: {error}; it was cut or changed: write it again"),
        )
    };
    let file = File::open(source).map_err(Error::io(source, "cannot be read"))?;
    let builder =
        guarded(|| ParquetRecordBatchReaderBuilder::try_new(file)).map_err(|error| damaged(&error))?;
    let metadata = builder.metadata().clone();
    let rows = u64::try_from(metadata.file_metadata().num_rows())
        .map_err(|_| damaged(&"it has a negative number of rows"))?;
    // What the file says its columns unpack to, which a writer may have counted before it packed equal values together.
    let len: u64 =
        metadata.row_groups().iter().map(|group| u64::try_from(group.total_byte_size()).unwrap_or(0)).sum();
    let batch_rows = (BATCH_LEN / (len / rows.max(1)).max(64)).clamp(1, 1 << 16);
    let mut schema = builder.schema().as_ref().clone();
    for pair in metadata.file_metadata().key_value_metadata().into_iter().flatten() {
        if let (Some(text), true) = (&pair.value, pair.key != ARROW_SCHEMA) {
            schema.metadata.insert(pair.key.clone(), text.clone());
        }
    }
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    crate::table::unique_names(source, names.iter().map(String::as_str))?;
    // Columns that nobody wants are not read. What is wrong with a name is said where all formats say it.
    let wanted: Vec<usize> = match &options.columns {
        Some(only) if only.iter().all(|name| names.contains(name)) => {
            (0..names.len()).filter(|at| only.contains(&names[*at])).collect()
        }
        _ => (0..names.len()).collect(),
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
    let schema = schema.project(&wanted).map_err(|error| damaged(&error))?;
    let builder = builder.with_projection(mask).with_batch_size(usize::try_from(batch_rows).unwrap_or(1));
    let batches = guarded(|| builder.build()).map_err(|error| damaged(&error))?;
    Table::new(source, &schema, Guarded::new(batches), Some(rows), options)
}

pub(crate) struct Writer {
    writer: ArrowWriter<AtomicFile>,
    schema: SchemaRef,
    columns: Vec<Column>,
}

pub(crate) fn create(
    plan: &Plan,
    target: &Path,
    options: &Options,
    not_kept: &mut Vec<String>,
) -> Result<Writer, Error> {
    for column in &plan.columns {
        if matches!(&column.holds, Holds::Values(_, inner) if !inner.is_empty() && column.dim() == 0) {
            let problem = "its rows have no values, which Parquet cannot say; leave it out with columns";
            return Err(Error::target(target, &column.name, problem));
        }
    }
    let schema = schema(plan, target, not_kept)?;
    let group_rows = usize::try_from((GROUP_LEN / plan.row_len().max(1)).clamp(1, 1 << 20)).unwrap_or(1);
    let pairs = schema.metadata().iter().map(|(key, text)| KeyValue::new(key.clone(), text.clone()));
    let mut pairs: Vec<KeyValue> = pairs.collect();
    // The same file for the same rows.
    pairs.sort_by(|a, b| a.key.cmp(&b.key));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(group_rows))
        .set_created_by(format!("cvc-convert {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(pairs));
    for column in plan
        .columns
        .iter()
        .filter(|column| matches!(&column.holds, Holds::Values(_, inner) if !inner.is_empty()))
    {
        // Numbers of vectors hardly ever come twice: a dictionary of them costs time and is thrown away.
        let leaf = vec![column.name.clone(), "list".to_owned(), "element".to_owned()];
        properties = properties.set_column_dictionary_enabled(leaf.into(), false);
    }
    let file = AtomicFile::create(target, options.overwrite).map_err(Error::output)?;
    // Without metadata: it stands among the pairs already, and would make the bytes of the file depend on the order of a map.
    let bare = SchemaRef::new(schema.as_ref().clone().with_metadata(HashMap::<String, String>::new()));
    let writer = ArrowWriter::try_new(file, bare.clone(), Some(properties.build())).map_err(refused)?;
    Ok(Writer { writer, schema: bare, columns: plan.columns.clone() })
}

fn refused(error: parquet::errors::ParquetError) -> Error {
    Error::output(std::io::Error::other(error))
}

impl Output for Writer {
    fn write(&mut self, batch: Batch) -> Result<(), Error> {
        let batch = record_batch(&self.schema, &self.columns, batch)?;
        self.writer.write(&batch).map_err(refused)
    }

    fn finish(self: Box<Self>) -> Result<u64, Error> {
        let file = self.writer.into_inner().map_err(refused)?;
        committed(file)
    }
}
