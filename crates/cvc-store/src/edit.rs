//! From what a caller asks for to changes: whatever can be wrong with it is found here, before anything is written to the
//! journal.

use std::borrow::Cow;
use std::sync::Arc;

use cvc::{ArrayRows, DType, Json, Layout, Reader, RowSlice, Strings, WriteOptions, Writer};
use roaring::RoaringTreemap;

use crate::change::Change;
use crate::error::Error;
use crate::ids::OwnIndexes;
use crate::layer::LayerFile;
use crate::names;
use crate::read::index;
use crate::runs::Source;
use crate::segment::{ROWS, Segment, Sink};
use crate::select::Selection;
use crate::spec::{ArraySpec, check_name, little_endian};
use crate::state::{ArrayState, Placed, State};
use crate::store::{Inner, locked};

/// A writer of a segment.
pub(crate) type SegmentWriter = Writer<cvc::writer::ToSink<Sink>>;

/// Changes to a state, one after another. Each sees those before it.
pub(crate) struct Editor<'a> {
    inner: &'a Inner,
    state: Cow<'a, State>,
    changes: Vec<Change>,
    /// How many of them `state` has.
    applied: usize,
    /// Segments that were written for them.
    pending: Vec<u64>,
    /// What was committed when it began.
    committed: &'a State,
    indexes: OwnIndexes,
}

impl<'a> Editor<'a> {
    pub(crate) fn new(inner: &'a Inner, state: &'a State) -> Editor<'a> {
        Editor {
            inner,
            state: Cow::Borrowed(state),
            changes: Vec::new(),
            applied: 0,
            pending: Vec::new(),
            committed: state,
            indexes: OwnIndexes::default(),
        }
    }

    /// Goes on where another editor was.
    pub(crate) fn resume(
        inner: &'a Inner,
        committed: &'a State,
        state: State,
        changes: Vec<Change>,
        pending: Vec<u64>,
        indexes: OwnIndexes,
    ) -> Editor<'a> {
        let applied = changes.len();
        Editor { inner, state: Cow::Owned(state), changes, applied, pending, committed, indexes }
    }

    /// The changes, and the segments that were written for them.
    pub(crate) fn finish(mut self) -> (Vec<Change>, Vec<u64>) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.pending))
    }

    /// The state with all changes, they, the segments that were written for them, and what it knows of ids.
    pub(crate) fn pause(mut self) -> (State, Vec<Change>, Vec<u64>, OwnIndexes) {
        self.state();
        let state = std::mem::take(&mut self.state).into_owned();
        let indexes = std::mem::take(&mut self.indexes);
        (state, std::mem::take(&mut self.changes), std::mem::take(&mut self.pending), indexes)
    }

    /// The state with all changes so far.
    pub(crate) fn state(&mut self) -> &State {
        if self.applied < self.changes.len() {
            let time = self.inner.layer.now();
            for change in &self.changes[self.applied..] {
                self.state.to_mut().apply(change, Some(time)).expect("it was checked when it was made");
            }
            self.applied = self.changes.len();
        }
        &self.state
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub(crate) fn array(&mut self, name: &str) -> Result<Arc<ArrayState>, Error> {
        let state = self.state();
        match state.arrays.get(name) {
            Some(array) => Ok(Arc::clone(array)),
            None => Err(Error::NoArray { name: name.into(), known: state.arrays.keys().cloned().collect() }),
        }
    }

    pub(crate) fn create(&mut self, name: &str, spec: &ArraySpec) -> Result<u64, Error> {
        spec.check(name)?;
        // Ids of rows that were there before are not used again.
        let base = self.state().arrays.get(name).map_or(0, |array| array.next);
        let now = self.inner.layer.now();
        let (name, spec) = (name.to_owned(), spec.clone());
        self.push(Change::Create { name, spec, base, next: base, made: now, changed: now });
        Ok(base)
    }

    pub(crate) fn save(&mut self, name: &str, spec: &ArraySpec, rows: &ArrayRows<'_>) -> Result<(), Error> {
        spec.check_rows(name, rows)?;
        if spec.unique {
            crate::ids::check_distinct(name, rows)?;
        }
        let base = self.create(name, spec)?;
        self.put(name, spec, vec![(base, rows.len() as u64)], rows)
    }

    /// Saves an array whose rows come piece by piece.
    pub(crate) fn save_with(
        &mut self,
        name: &str,
        spec: &ArraySpec,
        write: impl FnOnce(&mut RowSink<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        spec.check(name)?;
        let mut failed = None;
        let written = write_segment(self.inner, name, spec, None, |writer| {
            write(&mut RowSink { name, spec, writer }).map_err(|error| {
                let message = error.to_string();
                failed = Some(error);
                cvc::Error::Output(std::io::Error::other(message))
            })
        });
        let segment = match failed {
            Some(error) => return Err(error),
            None => written?,
        };
        self.pending.push(segment.number);
        let base = self.create(name, spec)?;
        let (ranges, source) = (vec![(base, segment.rows)], Source::Segment(Arc::clone(&segment)));
        self.push(Change::Segment(segment));
        self.push(Change::Rows { name: name.to_owned(), ranges, source, row: 0 });
        if spec.unique {
            let array = self.array(name)?;
            crate::ids::check_all(name, &array)?;
        }
        Ok(())
    }

    pub(crate) fn append(&mut self, name: &str, rows: &ArrayRows<'_>) -> Result<(), Error> {
        let array = self.array(name)?;
        array.spec.check_rows(name, rows)?;
        if array.spec.unique {
            crate::ids::check_new(self, name, &array, rows)?;
        }
        self.put(name, &array.spec, vec![(array.next, rows.len() as u64)], rows)
    }

    pub(crate) fn replace(
        &mut self,
        name: &str,
        which: Selection<'_>,
        rows: &ArrayRows<'_>,
    ) -> Result<(), Error> {
        let array = self.array(name)?;
        array.spec.check_rows(name, rows)?;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut count = 0;
        which.each(array.rows(), |start, len| {
            count += len;
            array.each_range(start..start + len, |first, len| match ranges.last_mut() {
                Some((before, many)) if *before + *many == first => *many += len,
                _ => ranges.push((first, len)),
            });
        })?;
        if count != rows.len() as u64 {
            let problem = format!("{count} rows are to be replaced; as many are needed");
            return Err(Error::argument("rows", format!("{} rows", rows.len()), problem));
        }
        if array.spec.unique {
            crate::ids::check_replaced(self, name, &array, &ranges, rows)?;
        }
        self.put(name, &array.spec, ranges, rows)
    }

    /// Rows for these positions.
    fn put(
        &mut self,
        name: &str,
        spec: &ArraySpec,
        ranges: Vec<(u64, u64)>,
        rows: &ArrayRows<'_>,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let source = self.source(name, spec, rows)?;
        self.push(Change::Rows { name: name.to_owned(), ranges, source, row: 0 });
        Ok(())
    }

    /// Rows where they will lie: few of them inline, many in a segment.
    fn source(&mut self, name: &str, spec: &ArraySpec, rows: &ArrayRows<'_>) -> Result<Source, Error> {
        let len = match rows {
            ArrayRows::Values(rows) => rows.bytes().len(),
            ArrayRows::Strings { strings, rows } => {
                rows.clone().fold(0, |sum, row| sum + 4 + strings.get(row).len())
            }
        };
        if len as u64 > self.inner.options.inline_len {
            let segment = write_segment(self.inner, name, spec, Some(rows.len() as u64), |writer| {
                writer.reserve(rows.len() as u64)?;
                writer.write_last(std::slice::from_ref(rows))
            })?;
            self.pending.push(segment.number);
            self.push(Change::Segment(Arc::clone(&segment)));
            return Ok(Source::Segment(segment));
        }
        match rows {
            ArrayRows::Values(values) if spec.is_lossless() => {
                check_bools(name, values)?;
                if cfg!(target_endian = "little") {
                    return Ok(Source::Values(locked(&self.inner.kept).keep(values.bytes())));
                }
                Ok(Source::Values(little_endian(values).into()))
            }
            ArrayRows::Values(_) => Ok(Source::File(Arc::new(encoded(name, spec, rows)?))),
            ArrayRows::Strings { strings, rows } => {
                let chosen: Strings = rows.clone().map(|row| strings.get(row)).collect();
                Ok(Source::Strings(Arc::new(chosen)))
            }
        }
    }

    pub(crate) fn delete_rows(&mut self, name: &str, which: Selection<'_>) -> Result<(), Error> {
        let array = self.array(name)?;
        let mut positions = RoaringTreemap::new();
        which.each(array.rows(), |start, len| {
            array.each_range(start..start + len, |first, len| {
                positions.insert_range(first..first + len);
            });
        })?;
        if !positions.is_empty() {
            self.push(Change::Delete { name: name.to_owned(), positions });
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, name: &str) -> Result<(), Error> {
        self.array(name)?;
        self.push(Change::Drop { name: name.to_owned() });
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.array(from)?;
        self.check_free(to)?;
        self.push(Change::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    pub(crate) fn clone_array(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.array(from)?;
        self.check_free(to)?;
        let made = self.inner.layer.now();
        self.push(Change::Clone { from: from.to_owned(), to: to.to_owned(), made });
        Ok(())
    }

    fn check_free(&mut self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        if self.state().arrays.contains_key(name) {
            return Err(Error::argument(
                "array",
                format!("{name:?}"),
                "there is one of that name; delete it first",
            ));
        }
        Ok(())
    }

    pub(crate) fn reset(&mut self) -> Result<(), Error> {
        let names: Vec<String> = self.state().arrays.keys().cloned().collect();
        names.into_iter().for_each(|name| self.push(Change::Drop { name }));
        if self.state().metadata.as_object() != Some(&[]) {
            self.push(Change::Metadata { metadata: Json::Object(Vec::new()) });
        }
        Ok(())
    }

    pub(crate) fn set_metadata(&mut self, metadata: &Json) -> Result<(), Error> {
        check_object(metadata)?;
        self.push(Change::Metadata { metadata: metadata.clone() });
        Ok(())
    }

    pub(crate) fn set_array_metadata(&mut self, name: &str, metadata: &Json) -> Result<(), Error> {
        check_object(metadata)?;
        self.array(name)?;
        self.push(Change::ArrayMetadata { name: name.to_owned(), metadata: metadata.clone() });
        Ok(())
    }

    /// Adds a section over rows `start..end`.
    pub(crate) fn add_section(
        &mut self,
        name: &str,
        start: u64,
        end: u64,
        metadata: &Json,
    ) -> Result<(), Error> {
        let array = self.array(name)?;
        let named = format!("{start}..{end}");
        if start >= end || end > array.rows() {
            let problem =
                format!("a section has at least one row, and the array has rows 0..{}", array.rows());
            return Err(Error::argument("section", named, problem));
        }
        check_nesting(metadata)?;
        let positions = array.position(start)..array.position(end - 1) + 1;
        let mut sections = array.sections.clone();
        let at = sections.partition_point(|other| other.positions.start < positions.start);
        let before = at.checked_sub(1).map(|at| &sections[at]);
        let clash =
            |other: &Placed| other.positions.start < positions.end && positions.start < other.positions.end;
        if before.is_some_and(clash) || sections.get(at).is_some_and(clash) {
            return Err(Error::argument("section", named, "it shares rows with another one"));
        }
        sections.insert(at, Placed { positions, metadata: metadata.clone() });
        self.push(Change::Sections { name: name.to_owned(), sections });
        Ok(())
    }

    pub(crate) fn clear_sections(&mut self, name: &str) -> Result<(), Error> {
        if !self.array(name)?.sections.is_empty() {
            self.push(Change::Sections { name: name.to_owned(), sections: Vec::new() });
        }
        Ok(())
    }

    pub(crate) fn inner(&self) -> &'a Inner {
        self.inner
    }

    /// What was committed when it began.
    pub(crate) fn committed(&self) -> &'a State {
        self.committed
    }

    pub(crate) fn own_indexes(&mut self) -> &mut OwnIndexes {
        &mut self.indexes
    }
}

impl Drop for Editor<'_> {
    fn drop(&mut self) {
        // What was handed over is not here any more.
        self.inner.give_up(&self.pending);
    }
}

fn check_object(metadata: &Json) -> Result<(), Error> {
    if metadata.as_object().is_none() {
        return Err(Error::argument("metadata", metadata.kind(), "an object is needed"));
    }
    check_nesting(metadata)
}

fn check_nesting(metadata: &Json) -> Result<(), Error> {
    if metadata.depth() > 60 {
        return Err(Error::argument("metadata", "a value", "it is nested more than 60 deep"));
    }
    Ok(())
}

fn check_bools(name: &str, rows: &RowSlice<'_>) -> Result<(), Error> {
    if rows.dtype() == DType::Bool && rows.bytes().iter().any(|byte| *byte > 1) {
        return Err(Error::argument("rows", name, "a bool is 0 or 1"));
    }
    Ok(())
}

/// Where the rows of an array go that is saved piece by piece.
pub struct RowSink<'a> {
    name: &'a str,
    spec: &'a ArraySpec,
    pub(crate) writer: &'a mut SegmentWriter,
}

impl std::fmt::Debug for RowSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowSink").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RowSink<'_> {
    /// How many rows to bring at a time, so that every core has something to do.
    pub fn batch_rows(&self) -> usize {
        self.writer.batch_rows()
    }

    /// Brings more rows.
    ///
    /// # Errors
    /// Rows that are not of the array, or the disk refuses.
    pub fn write<'r>(&mut self, rows: impl Into<ArrayRows<'r>>) -> Result<(), Error> {
        let rows = rows.into();
        self.spec.check_rows(self.name, &rows)?;
        self.writer.write(std::slice::from_ref(&rows)).map_err(Error::rows(self.name))
    }
}

/// Rows as a native file in memory.
fn encoded(name: &str, spec: &ArraySpec, rows: &ArrayRows<'_>) -> Result<Reader, Error> {
    let fail = || Error::rows(name);
    let options = WriteOptions::new(Layout::Native).with_array(spec.options(ROWS)).map_err(fail())?;
    let mut writer = Writer::in_memory(options).map_err(fail())?;
    writer.write(std::slice::from_ref(rows)).map_err(fail())?;
    Reader::from_bytes(writer.finish_bytes().map_err(fail())?).map_err(fail())
}

/// Rows that are stored as they are go out while the checksums of the next chunk are made: a chunk is small, so that this
/// begins soon.
const CHUNK_LEN: u64 = 2 << 20;

/// Bytes for which it is worth a call to say that they will come.
const EXPECTED_LEN: u64 = 1 << 20;

/// Writes a segment, of so many rows if that is known; what fails leaves nothing behind that anybody would look at.
pub(crate) fn write_segment(
    inner: &Inner,
    name: &str,
    spec: &ArraySpec,
    rows: Option<u64>,
    write: impl FnOnce(&mut SegmentWriter) -> Result<(), cvc::Error>,
) -> Result<Arc<Segment>, Error> {
    inner.check_process()?;
    let (number, file) = loop {
        let number = inner.new_segment();
        match inner.layer.create_new(&names::segment(number)) {
            Ok(file) => break (number, file),
            Err(cause) => {
                // It is not ours to remove.
                locked(&inner.pending).remove(&number);
                if cause.kind() != std::io::ErrorKind::AlreadyExists {
                    return Err(Error::io(inner.layer.path(&names::segment(number)), "cannot be made")(
                        cause,
                    ));
                }
            }
        }
    };
    let written = try_write_segment(inner, number, file, name, spec, rows, write);
    if written.is_err() {
        inner.give_up(&[number]);
    }
    written
}

fn try_write_segment(
    inner: &Inner,
    number: u64,
    file: Box<dyn LayerFile>,
    name: &str,
    spec: &ArraySpec,
    rows: Option<u64>,
    write: impl FnOnce(&mut SegmentWriter) -> Result<(), cvc::Error>,
) -> Result<Arc<Segment>, Error> {
    let file_name = names::segment(number);
    let path = || inner.layer.path(&file_name);
    let fail = |error: cvc::Error| match error {
        cvc::Error::Output(cause) => Error::io(path(), "cannot be written")(cause),
        error => Error::rows(name)(error),
    };
    let mut options = WriteOptions::new(Layout::Native).with_array(spec.options(ROWS)).map_err(fail)?;
    if let Some(row_len) = spec.stored_row_len() {
        if let Some(len) = rows.and_then(|rows| rows.checked_mul(row_len)).filter(|len| *len >= EXPECTED_LEN)
        {
            file.expect(len);
        }
        let rows = 1u64 << (CHUNK_LEN / row_len).max(1).ilog2();
        let rows = rows.max(u64::from(spec.block_rows.unwrap_or(0)));
        options = options.chunk_rows(u32::try_from(rows).unwrap_or(u32::MAX)).map_err(fail)?;
    }
    let mut writer = Writer::to_sink(Sink::new(file), options).map_err(fail)?;
    write(&mut writer).map_err(fail)?;
    let (sink, written) = writer.finish_sink().map_err(fail)?;
    let (_, len, seal) = sink.finish().map_err(Error::io(path(), "cannot be written"))?;
    debug_assert_eq!(len, written.file_len);
    Ok(Segment::new(Arc::clone(&inner.layer), number, len, written.rows, seal))
}

/// Some of `rows`, one after another.
pub(crate) enum Picked {
    Values(cvc::AlignedBytes, DType, usize, usize),
    Strings(Strings),
}

impl Picked {
    pub(crate) fn new(rows: &ArrayRows<'_>, which: &[u64]) -> Picked {
        match rows {
            ArrayRows::Values(values) => {
                let row_len = values.dim() * values.dtype().size();
                let mut bytes = cvc::AlignedBytes::new();
                let out = bytes.resize(which.len() * row_len);
                for (into, row) in out.chunks_exact_mut(row_len.max(1)).zip(which) {
                    into.copy_from_slice(&values.bytes()[index(*row) * row_len..(index(*row) + 1) * row_len]);
                }
                Picked::Values(bytes, values.dtype(), which.len(), values.dim())
            }
            ArrayRows::Strings { strings, rows } => {
                Picked::Strings(which.iter().map(|row| strings.get(rows.start + index(*row))).collect())
            }
        }
    }

    pub(crate) fn rows(&self) -> ArrayRows<'_> {
        match self {
            Picked::Values(bytes, dtype, rows, dim) => {
                RowSlice::from_bytes(*dtype, *rows, *dim, bytes.bytes()).expect("so many were picked").into()
            }
            Picked::Strings(strings) => strings.into(),
        }
    }
}
