//! Files as one table.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use cvc::io::FileSource;
use cvc::{Condition, DType, ReadAt, ReadOptions, Reader};
use cvc_arrow::Table;
use cvc_remote::manifest::{Listed, is_manifest, read_manifest};
use cvc_remote::{Remote, RemoteOptions, is_url, shown};
use datafusion_common::Result as DataFusionResult;
use datafusion_expr::{Expr, TableType};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_session::{Session, TableProvider};

use crate::bridge;
use crate::error::Error;
use crate::exec::{CvcExec, Piece};

/// Files that are opened at a time: over a network each takes two round trips.
const OPENED: usize = 32;

/// What of the files becomes a table.
#[derive(Clone, Debug)]
pub struct Options {
    /// The arrays that become columns, in this order. Left out, all that have as many rows as the first.
    pub arrays: Option<Vec<String>>,
    /// The rows of sections whose metadata has these values; without any, all rows.
    pub conditions: Vec<Condition>,
    /// What floats of at most 32 bits become: f16 or f32. Left out, what the file says, but bfloat16 f32, as Arrow has none.
    pub floats: Option<DType>,
    /// Decoded bytes that are read together: what partitions are made of. A larger block stays whole.
    pub max_len: u64,
    /// How files at URLs are reached.
    pub remote: RemoteOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            arrays: None,
            conditions: Vec::new(),
            floats: None,
            max_len: 128 << 20,
            remote: RemoteOptions::default(),
        }
    }
}

/// Files as a table of DataFusion. They stay open: a table is of the files as they were when it was made, also if others take their names.
pub struct CvcTable {
    schema: SchemaRef,
    files: Vec<String>,
    pieces: Vec<Piece>,
}

impl fmt::Debug for CvcTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CvcTable")
            .field("files", &self.files)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl CvcTable {
    /// The files at paths or URLs, in the order of their rows; a name that ends in `.json` is a manifest, which lists others. Only their
    /// indices are read. It blocks, also on the network: in an asynchronous function call it by `spawn_blocking`.
    ///
    /// # Errors
    /// A file cannot be opened, has no such array or other columns than the first, or is not that of its manifest.
    pub fn open<U: AsRef<str>>(uris: &[U], options: &Options) -> Result<CvcTable, Error> {
        let mut listed = Vec::new();
        for uri in uris.iter().map(AsRef::as_ref) {
            if is_manifest(uri) {
                listed.extend(
                    read_manifest(uri, &options.remote)?
                        .into_iter()
                        .map(|Listed { uri, identity }| (uri, Some(identity))),
                );
            } else {
                listed.push((uri.to_owned(), None));
            }
        }
        let mut files = Vec::with_capacity(listed.len());
        for some in listed.chunks(OPENED) {
            let opened: Vec<Result<Reader, Error>> = thread::scope(|scope| {
                let threads: Vec<_> =
                    some.iter().map(|(uri, _)| scope.spawn(|| open(uri, &options.remote))).collect();
                let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join();
                threads
                    .into_iter()
                    .map(join)
                    .map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            });
            for ((uri, expected), reader) in some.iter().zip(opened) {
                let reader = reader?;
                if let Some(expected) = expected.as_ref().filter(|expected| **expected != reader.identity()) {
                    let (uri, found) = (shown(uri), reader.identity());
                    return Err(Error::Changed { uri, found, expected: expected.clone() });
                }
                files.push((shown(uri), Arc::new(reader)));
            }
        }
        CvcTable::of(files, options)
    }

    /// Files that are open already, each with what to call it, in the order of their rows.
    ///
    /// # Errors
    /// There is none, or one has no such array or other columns than the first.
    pub fn of(files: Vec<(String, Arc<Reader>)>, options: &Options) -> Result<CvcTable, Error> {
        let mut pieces = Vec::new();
        let mut first: Option<(String, arrow_schema::SchemaRef)> = None;
        let mut names = Vec::with_capacity(files.len());
        for (uri, reader) in files {
            let (table, rows) = selected(&uri, reader, options)?;
            match &first {
                None => first = Some((uri.clone(), table.schema().clone())),
                Some((first, schema)) if schema != table.schema() => {
                    let (there, here) = (columns(table.schema()), columns(schema));
                    return Err(Error::Differs { uri, there, first: first.clone(), here });
                }
                Some(_) => {}
            }
            let shared: Arc<str> = uri.as_str().into();
            pieces.extend(table.divide(&rows, options.max_len).into_iter().map(|part| Piece {
                uri: shared.clone(),
                table: table.clone(),
                ranges: part.ranges,
                rows: part.rows,
            }));
            names.push(uri);
        }
        let (_, schema) = first.ok_or(Error::NoFiles)?;
        Ok(CvcTable { schema: bridge::schema(&schema)?, files: names, pieces })
    }
}

#[async_trait]
impl TableProvider for CvcTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        // None is taken: nothing is known of values before they are decoded.
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let mut pieces = self.pieces.clone();
        let mut schema = self.schema.clone();
        if let Some(columns) = projection {
            schema = Arc::new(schema.project(columns)?);
            for piece in &mut pieces {
                piece.table = piece.table.project(columns);
            }
        }
        let target = state.config().target_partitions();
        Ok(Arc::new(CvcExec::new(schema, pieces, target, limit)))
    }
}

fn open(uri: &str, remote: &RemoteOptions) -> Result<Reader, Error> {
    let source: Box<dyn ReadAt> = if is_url(uri) {
        Box::new(Remote::open(uri, remote)?)
    } else {
        let failed = |cause| Error::File { uri: uri.to_owned(), cause: Box::new(cause) };
        Box::new(FileSource::open(uri.as_ref()).map_err(failed)?)
    };
    Reader::new(source, ReadOptions::default())
        .map_err(|cause| Error::File { uri: shown(uri), cause: Box::new(cause) })
}

/// The columns and rows of a file that are wanted.
fn selected(uri: &str, reader: Arc<Reader>, options: &Options) -> Result<(Table, Vec<Range<u64>>), Error> {
    let of_file = |cause| Error::File { uri: uri.to_owned(), cause: Box::new(cause) };
    let positions = match &options.arrays {
        None => None,
        Some(names) => {
            let position = |name: &String| {
                reader.array(name).map_err(of_file)?;
                Ok(reader.array_names().position(|other| other == name))
            };
            let positions: Vec<Option<usize>> = names.iter().map(position).collect::<Result<_, Error>>()?;
            Some(positions.into_iter().flatten().collect::<Vec<_>>())
        }
    };
    let table = Table::new(reader.clone(), positions.as_deref(), options.floats)
        .map_err(|cause| Error::Table { uri: uri.to_owned(), cause: Box::new(cause) })?;
    let rows = if options.conditions.is_empty() {
        vec![0..table.rows()]
    } else {
        let of_first = reader.arrays().next().map_or(0, |array| array.rows());
        if table.rows() != of_first {
            return Err(Error::NotOfSections { uri: uri.to_owned() });
        }
        reader.find(&options.conditions).and_then(|rows| rows.resolve(of_first)).map_err(of_file)?
    };
    Ok((table, rows))
}

/// The columns, as a message says them.
fn columns(schema: &arrow_schema::Schema) -> String {
    let columns: Vec<String> =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    columns.join(", ")
}
