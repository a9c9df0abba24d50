//! What a reader sees: one commit, for as long as it holds it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cvc::{Condition, DType, Element, Json, Section, Strings};

use crate::error::Error;
use crate::read::{index, read_positions, read_single_rows, read_strings};
use crate::select::Selection;
use crate::spec::ArraySpec;
use crate::state::{ArrayState, State};

/// A store at one commit. Cheap to copy, and to hold: it keeps the files it needs, also when they are removed.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) state: Arc<State>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("commit", &self.state.commit).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The number of the commit.
    pub fn commit(&self) -> u64 {
        self.state.commit
    }

    /// When it was made, in microseconds since 1970.
    pub fn time(&self) -> u64 {
        self.state.time
    }

    /// The names of all arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        self.state.arrays.keys().cloned().collect()
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.state.arrays.contains_key(name)
    }

    /// The metadata of the store, an object.
    pub fn metadata(&self) -> &Json {
        &self.state.metadata
    }

    /// The array of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn array(&self, name: &str) -> Result<StoredArray, Error> {
        match self.state.arrays.get(name) {
            Some(array) => Ok(StoredArray { name: name.into(), array: Arc::clone(array) }),
            None => Err(Error::NoArray { name: name.into(), known: self.names() }),
        }
    }
}

/// One array at one commit. Nothing is read before it is asked for.
#[derive(Clone)]
pub struct StoredArray {
    name: String,
    pub(crate) array: Arc<ArrayState>,
}

impl fmt::Debug for StoredArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredArray")
            .field("name", &self.name)
            .field("shape", &self.shape())
            .finish_non_exhaustive()
    }
}

impl StoredArray {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn spec(&self) -> &ArraySpec {
        &self.array.spec
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.array.rows()
    }

    /// Values of a row.
    pub fn dim(&self) -> u32 {
        self.array.spec.dim()
    }

    /// The shape as NumPy would give it.
    pub fn shape(&self) -> Vec<u64> {
        std::iter::once(self.rows()).chain(self.array.spec.inner.iter().map(|len| u64::from(*len))).collect()
    }

    /// The dtype of the values that reading gives.
    ///
    /// # Errors
    /// It holds strings.
    pub fn dtype(&self) -> Result<DType, Error> {
        self.array.spec.read_dtype().ok_or_else(|| {
            Error::argument("array", &self.name, "it holds strings; read them with `read_strings`")
        })
    }

    /// When it was made, in microseconds since 1970.
    pub fn made(&self) -> u64 {
        self.array.made
    }

    /// When it was last changed, in microseconds since 1970.
    pub fn changed(&self) -> u64 {
        self.array.changed
    }

    /// Its metadata, an object.
    pub fn metadata(&self) -> &Json {
        &self.array.metadata
    }

    /// Bytes that the rows take in memory; of strings those of the journal alone.
    pub fn byte_len(&self) -> u64 {
        self.rows().saturating_mul(self.array.spec.row_len() as u64)
    }

    /// Rows that were deleted and whose ids will not be used again.
    pub fn deleted(&self) -> u64 {
        self.array.dead_count()
    }

    /// Where the rows lie: how many runs of rows there are, and how many segments they are in.
    pub fn pieces(&self) -> (usize, usize) {
        let segments: std::collections::BTreeSet<u64> = self
            .array
            .runs
            .iter()
            .filter_map(|(_, run)| match &run.source {
                crate::runs::Source::Segment(segment) => Some(segment.number),
                _ => None,
            })
            .collect();
        (self.array.runs.len(), segments.len())
    }

    /// The sections, in the order of the rows, with the rows that are left of them.
    pub fn sections(&self) -> Vec<Section> {
        let row = |position| self.array.row_of(position);
        let sections = self.array.sections.iter();
        sections
            .map(|section| {
                let rows = row(section.positions.start)..row(section.positions.end);
                Section::new(rows, section.metadata.clone())
            })
            .collect()
    }

    /// The rows of every section that meets all of `conditions`, in their order.
    pub fn find(&self, conditions: &[Condition]) -> Vec<Range<u64>> {
        cvc::select::matching_rows(&self.sections(), conditions)
    }

    /// The ids of these rows: numbers that stay theirs whatever happens to other rows.
    ///
    /// # Errors
    /// Rows that do not exist.
    pub fn row_ids<'a>(&self, rows: impl Into<Selection<'a>>) -> Result<Vec<u64>, Error> {
        let mut ids = Vec::new();
        rows.into().each(self.rows(), |start, len| {
            self.array.each_range(start..start + len, |first, count| ids.extend(first..first + count));
        })?;
        Ok(ids)
    }

    /// The row that has this id, if it is still there.
    pub fn row_of_id(&self, id: u64) -> Option<u64> {
        let known = (self.array.base..self.array.next).contains(&id) && !self.array.dead.contains(id);
        known.then(|| self.array.row_of(id))
    }

    /// The chosen rows, row after row.
    ///
    /// # Errors
    /// Rows that do not exist, another dtype, damage.
    pub fn read<'a, T: Element>(&self, rows: impl Into<Selection<'a>>) -> Result<Vec<T>, Error> {
        let rows = rows.into();
        let dtype = self.dtype()?;
        if T::DTYPE != dtype {
            let problem = format!("array {:?} has {dtype} values", self.name);
            return Err(Error::argument("dtype", T::DTYPE, problem));
        }
        if let Some(values) = self.read_whole(rows)? {
            return Ok(values);
        }
        let count = index(rows.count(self.rows())?) * self.dim() as usize;
        let mut values = vec![T::zeroed(); count];
        cvc::huge_pages::advise(bytemuck::cast_slice_mut(&mut values));
        self.read_bytes(rows, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// All rows of an array that is one run in one segment: the segment can make the memory itself, as it likes best.
    fn read_whole<T: Element>(&self, rows: Selection<'_>) -> Result<Option<Vec<T>>, Error> {
        let mut runs = self.array.runs.iter();
        let (Selection::All, 0, Some((start, run)), None) =
            (rows, self.array.dead_count(), runs.next(), runs.next())
        else {
            return Ok(None);
        };
        let crate::runs::Source::Segment(segment) = &run.source else { return Ok(None) };
        if start != self.array.base || run.len != self.rows() || run.holes.is_some() {
            return Ok(None);
        }
        let array = segment.array()?;
        array.read(run.row..run.row + run.len).map(Some).map_err(Error::rows(&self.name))
    }

    /// The chosen rows in the caller's memory: exactly as many bytes as they need, aligned for the dtype, native order.
    ///
    /// # Errors
    /// As [`StoredArray::read`], and if `out` is of another length.
    pub fn read_bytes<'a>(&self, rows: impl Into<Selection<'a>>, out: &mut [u8]) -> Result<(), Error> {
        let (rows, dtype) = (rows.into(), self.dtype()?);
        let row_len = self.dim() as usize * dtype.size();
        let expected = rows.count(self.rows())?.checked_mul(row_len as u64);
        if expected != Some(out.len() as u64) {
            let problem = format!("the rows need {} bytes", expected.unwrap_or(u64::MAX));
            return Err(Error::argument("buffer", format!("{} bytes", out.len()), problem));
        }
        if let Selection::Rows(list) = rows
            && read_single_rows(&self.array, dtype, list, out)?
        {
            return Ok(());
        }
        read_positions(&self.name, &self.array, dtype, out, |each| self.each_position(rows, each))
    }

    /// The chosen strings.
    ///
    /// # Errors
    /// It holds values, rows that do not exist, damage.
    pub fn read_strings<'a>(&self, rows: impl Into<Selection<'a>>) -> Result<Strings, Error> {
        if self.array.spec.dtype().is_some() {
            let problem = format!("it holds {} values, not strings", self.array.spec.dtype_name());
            return Err(Error::argument("array", &self.name, problem));
        }
        let rows = rows.into();
        read_strings(&self.name, &self.array, |each| self.each_position(rows, each))
    }

    fn each_position(&self, rows: Selection<'_>, each: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        if self.array.dead_count() == 0 {
            let base = self.array.base;
            return rows.each(self.rows(), |start, len| each(base + start, len));
        }
        rows.each(self.rows(), |start, len| self.array.each_range(start..start + len, &mut *each))
    }

    /// The rows in batches of `rows` each, but for the last: ranges to be read one after another.
    pub fn batches(&self, rows: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let (all, step) = (self.rows(), rows.max(1));
        (0..all.div_ceil(step)).map(move |batch| batch * step..all.min((batch + 1) * step))
    }
}
