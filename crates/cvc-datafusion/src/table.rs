//! Files as one table.

use std::fmt;
use std::ops::Range;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use cvc::io::FileSource;
use cvc::{Condition, DType, ReadAt, ReadOptions, Reader};
use cvc_arrow::{Table, values};
use cvc_remote::manifest::{Listed, is_manifest, read_manifest};
use cvc_remote::{Remote, RemoteOptions, shown};
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
    /// The arrays that become columns, in this order. Left out, all of the first file that have as many rows as its first.
    pub arrays: Option<Vec<String>>,
    /// The rows of sections whose metadata has these values; without any, all rows.
    pub conditions: Vec<Condition>,
    /// What floats of at most 32 bits become: f16 or f32. Left out, what the file says, but bfloat16 f32, as Arrow has none.
    pub floats: Option<DType>,
    /// Decoded bytes that are read at a time, for each partition of a query, while as many wait to be taken. A larger block stays whole.
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
            max_len: 16 << 20,
            remote: RemoteOptions::default(),
        }
    }
}

/// Files as a table of DataFusion. They stay open: a table is of the files as they were when it was made, also if others take their
/// names; and the system must let a process have so many open.
pub struct CvcTable {
    schema: SchemaRef,
    files: Vec<Selected>,
    max_len: u64,
}

/// The columns and rows of a file.
struct Selected {
    /// Its path, or its URL without what may be a secret.
    uri: Arc<str>,
    table: Table,
    ranges: Vec<Range<u64>>,
}

impl fmt::Debug for CvcTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&str> = self.files.iter().map(|file| &*file.uri).collect();
        f.debug_struct("CvcTable")
            .field("files", &files)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl CvcTable {
    /// The files at paths or URLs, in the order of their rows; a name that ends in `.json` is a manifest, which lists others. Only their
    /// indices are read. It blocks meanwhile: where that is over a network, an asynchronous function calls it by `spawn_blocking`.
    ///
    /// # Errors
    /// An option makes no sense, or a file cannot be opened, has no such array or other columns than the first, or is not that of its
    /// manifest.
    pub fn open<U: AsRef<str>>(uris: &[U], options: &Options) -> Result<CvcTable, Error> {
        let mut listed = Vec::new();
        for uri in uris.iter().map(AsRef::as_ref) {
            if is_manifest(uri) {
                let files = read_manifest(uri, &options.remote)?;
                listed.extend(files.into_iter().map(|Listed { uri, identity }| (uri, Some(identity))));
            } else {
                listed.push((uri.to_owned(), None));
            }
        }
        let mut files = Vec::with_capacity(listed.len());
        for some in listed.chunks(OPENED) {
            let opened: Vec<Result<Reader, Error>> = thread::scope(|scope| {
                let start = |uri| scope.spawn(move || open(uri, &options.remote));
                let threads: Vec<_> = some.iter().map(|(uri, _)| start(uri)).collect();
                let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
                joined.map(|done| done.unwrap_or_else(|cause| panic::resume_unwind(cause))).collect()
            });
            for ((uri, expected), reader) in some.iter().zip(opened) {
                let (uri, reader) = (shown(uri), reader?);
                match expected {
                    Some(expected) if *expected != reader.identity() => {
                        let (found, expected) = (reader.identity(), expected.clone());
                        return Err(Error::Changed { uri, found, expected });
                    }
                    _ => files.push((uri, Arc::new(reader))),
                }
            }
        }
        CvcTable::of(files, options)
    }

    /// Files that are open already, each with what to call it, in the order of their rows.
    ///
    /// # Errors
    /// An option makes no sense, there is no file, or one has no such array or other columns than the first.
    pub fn of(files: Vec<(String, Arc<Reader>)>, options: &Options) -> Result<CvcTable, Error> {
        check(options)?;
        let mut names = options.arrays.clone();
        let mut selected: Vec<Selected> = Vec::with_capacity(files.len());
        for (uri, reader) in files {
            let file = select(uri, &reader, names.as_deref(), options)?;
            match selected.first() {
                None => {
                    let fields = file.table.schema().fields().iter();
                    names = Some(fields.map(|field| field.name().clone()).collect());
                }
                Some(first) if first.table.schema() != file.table.schema() => {
                    return Err(Error::Differs {
                        uri: file.uri.to_string(),
                        there: columns(file.table.schema()),
                        first: first.uri.to_string(),
                        here: columns(first.table.schema()),
                    });
                }
                Some(_) => {}
            }
            selected.push(file);
        }
        let first = selected.first().ok_or(Error::NoFiles)?;
        let schema = bridge::schema(first.table.schema())
            .map_err(|cause| Error::Arrow { uri: first.uri.to_string(), cause })?;
        Ok(CvcTable { schema, files: selected, max_len: options.max_len })
    }

    /// What a query reads of these columns, in pieces of which each partition has some.
    fn pieces(&self, columns: Option<&[usize]>, target: usize) -> Result<Vec<Piece>, Error> {
        let tables = self.files.iter().map(|file| match columns {
            Some(columns) => (file, file.table.project(columns)),
            None => (file, file.table.clone()),
        });
        let tables: Vec<(&Selected, Table)> = tables.collect();
        let lens = tables.iter().map(|(file, table)| file.rows().saturating_mul(table.row_len()));
        let decoded_len = lens.fold(0, u64::saturating_add);
        // Small tables are for all partitions, too.
        let max_len = self.max_len.min(decoded_len / target.max(1) as u64).max(1);
        let mut pieces = Vec::new();
        for (file, table) in tables {
            let parts = table
                .divide(&file.ranges, max_len)
                .map_err(|cause| Error::File { uri: file.uri.to_string(), cause: Box::new(cause) })?;
            pieces.extend(parts.into_iter().map(|part| Piece {
                uri: file.uri.clone(),
                table: table.clone(),
                ranges: part.ranges,
                rows: part.rows,
            }));
        }
        Ok(pieces)
    }
}

impl Selected {
    fn rows(&self) -> u64 {
        self.ranges.iter().map(|rows| rows.end - rows.start).sum()
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
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let target = state.config().target_partitions();
        let pieces = self.pieces(projection.map(Vec::as_slice), target)?;
        Ok(Arc::new(CvcExec::new(schema, pieces.into(), target, limit)))
    }
}

/// Refuses what would come to nothing, or to something else than was meant.
fn check(options: &Options) -> Result<(), Error> {
    let refuse = |option, problem: &str| Err(Error::Option { option, problem: problem.to_owned() });
    if let Some(names) = &options.arrays {
        if names.is_empty() {
            return refuse("arrays", "none is named: leave it out for all of them");
        }
        if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return refuse(
                "arrays",
                &format!("{name:?} is named twice, and columns have names of their own"),
            );
        }
    }
    if !matches!(options.floats, None | Some(DType::F16 | DType::F32)) {
        return refuse("floats", "f16 or f32 is needed");
    }
    if options.max_len == 0 {
        return refuse("max_len", "one byte at least is read");
    }
    Ok(())
}

fn open(uri: &str, remote: &RemoteOptions) -> Result<Reader, Error> {
    let source: Box<dyn ReadAt> = if uri.contains("://") {
        Box::new(Remote::open(uri, remote)?)
    } else {
        Box::new(FileSource::open(Path::new(uri)).map_err(|cause| Error::Local(Box::new(cause)))?)
    };
    Reader::new(source, ReadOptions::default())
        .map_err(|cause| Error::File { uri: shown(uri), cause: Box::new(cause) })
}

/// The columns and rows of a file that are wanted.
fn select(
    uri: String,
    reader: &Arc<Reader>,
    names: Option<&[String]>,
    options: &Options,
) -> Result<Selected, Error> {
    let of_file = |cause| Error::File { uri: uri.clone(), cause: Box::new(cause) };
    let mut positions = None;
    if let Some(names) = names {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            reader.array(name).map_err(of_file)?;
            found.extend(reader.array_names().position(|other| other == name));
        }
        positions = Some(found);
    }
    let table = Table::new(reader.clone(), positions.as_deref(), options.floats)
        .map_err(|cause| Error::Table { uri: uri.clone(), cause: Box::new(cause) })?;
    let ranges = if options.conditions.is_empty() {
        vec![0..table.rows()]
    } else {
        let of_first = reader.arrays().next().map_or(0, |array| array.rows());
        if table.rows() != of_first {
            return Err(Error::NotOfSections { uri });
        }
        reader.find(&options.conditions).and_then(|rows| rows.resolve(of_first)).map_err(of_file)?
    };
    Ok(Selected { uri: uri.into(), table, ranges })
}

/// The columns, as a message says them.
fn columns(schema: &arrow_schema::Schema) -> String {
    let column = |field: &Arc<arrow_schema::Field>| {
        let of = match field.data_type() {
            arrow_schema::DataType::FixedSizeList(item, len) => {
                let len = u32::try_from(*len).unwrap_or(0);
                let shape = values::tensor_shape(field, &[len]).unwrap_or(vec![len]);
                format!("rows of {shape:?} {}", item.data_type())
            }
            of => of.to_string(),
        };
        format!("{} {of}", field.name())
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}
