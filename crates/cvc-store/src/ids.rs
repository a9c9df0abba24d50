//! Rows found by what an array of ids says of them.
//!
//! An index is a map from id to position, in memory only, made when it is first needed. Rows that were appended since are
//! added to it, rows that were deleted are seen to be dead; only a replaced id has it made anew. The one that all share knows
//! what is committed and nothing else; what a batch has not committed yet is in an index of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use cvc::{AlignedBytes, ArrayRows, DType, RowSlice};

use crate::edit::{Editor, Picked};
use crate::error::Error;
use crate::read::{index, read_positions, read_strings};
use crate::state::ArrayState;
use crate::store::{Store, locked};

/// Indexes by the name of their array.
pub(crate) type Indexes = HashMap<String, Index>;

/// Where each id is.
pub(crate) struct Index {
    generation: u64,
    /// Positions from here on are not in it yet.
    next: u64,
    ids: Ids,
}

enum Ids {
    Numbers(HashMap<u64, u64>),
    Strings(HashMap<Box<str>, u64>),
}

/// An id, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Id<'a> {
    Number(u64),
    String(&'a str),
}

impl std::fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Signed ids are shown as they were given, if they are not very large unsigned ones.
            Id::Number(number) => write!(f, "{}", number.cast_signed()),
            Id::String(string) => write!(f, "{string:?}"),
        }
    }
}

/// The ids of rows, one by one.
fn ids_of<'a>(rows: &'a ArrayRows<'a>) -> Box<dyn Iterator<Item = Id<'a>> + 'a> {
    match rows {
        ArrayRows::Strings { strings, rows } => {
            Box::new(rows.clone().map(|row| Id::String(strings.get(row))))
        }
        ArrayRows::Values(rows) => {
            let (bytes, dtype) = (rows.bytes(), rows.dtype());
            Box::new(bytes.chunks_exact(dtype.size()).map(move |bytes| Id::Number(number(dtype, bytes))))
        }
    }
}

/// An integer of any type, made wider.
fn number(dtype: DType, bytes: &[u8]) -> u64 {
    macro_rules! wide {
        ($type:ty, $wider:ty) => {
            <$wider>::from(<$type>::from_ne_bytes(bytes.try_into().expect("a value"))) as u64
        };
    }
    match dtype {
        DType::I8 => wide!(i8, i64),
        DType::I16 => wide!(i16, i64),
        DType::I32 => wide!(i32, i64),
        DType::I64 => wide!(i64, i64),
        DType::U8 => wide!(u8, u64),
        DType::U16 => wide!(u16, u64),
        DType::U32 => wide!(u32, u64),
        _ => wide!(u64, u64),
    }
}

impl Index {
    /// An index that has nothing yet, of positions from `next` on.
    fn new(array: &ArrayState, next: u64) -> Index {
        let ids = if array.spec.dtype().is_some() {
            Ids::Numbers(HashMap::new())
        } else {
            Ids::Strings(HashMap::new())
        };
        Index { generation: array.generation, next, ids }
    }

    fn get(&self, array: &ArrayState, id: Id<'_>) -> Option<u64> {
        let found = match (&self.ids, id) {
            (Ids::Numbers(map), Id::Number(number)) => map.get(&number),
            (Ids::Strings(map), Id::String(string)) => map.get(string),
            _ => None,
        };
        found.copied().filter(|position| *position < array.next && !array.dead.contains(*position))
    }

    /// Adds what `array` has and the index has not.
    fn catch_up(&mut self, name: &str, array: &ArrayState) -> Result<(), Error> {
        const STEP: u64 = 1 << 16;
        while self.next < array.next {
            let end = array.next.min(self.next + STEP);
            let rows = array.row_of(self.next)..array.row_of(end);
            let ranges = array.ranges(rows.clone());
            let mut positions = ranges.iter().flat_map(|(start, len)| *start..start + len);
            let each = |each: &mut dyn FnMut(u64, u64)| {
                ranges.iter().for_each(|(start, len)| each(*start, *len));
                Ok(())
            };
            match &mut self.ids {
                Ids::Numbers(map) => {
                    let dtype = array.spec.dtype().expect("numbers have a dtype");
                    let mut bytes = AlignedBytes::new();
                    let out = bytes.resize(index(rows.end - rows.start) * dtype.size());
                    read_positions(name, array, dtype, out, each)?;
                    for value in bytes.bytes().chunks_exact(dtype.size()) {
                        map.insert(number(dtype, value), positions.next().expect("one for each"));
                    }
                }
                Ids::Strings(map) => {
                    let strings = read_strings(name, array, each)?;
                    for string in strings.iter() {
                        map.insert(string.into(), positions.next().expect("one for each"));
                    }
                }
            }
            self.next = end;
        }
        Ok(())
    }
}

/// What an editor knows of ids besides what is committed: of positions from that on.
#[derive(Default)]
pub(crate) struct OwnIndexes(HashMap<String, (u64, Index)>);

/// Looks ids up, in what is committed and in what is not.
struct Lookup<'a> {
    array: &'a ArrayState,
    committed: Option<&'a Index>,
    own: Option<&'a Index>,
}

impl Lookup<'_> {
    fn get(&self, id: Id<'_>) -> Option<u64> {
        let own = self.own.and_then(|index| index.get(self.array, id));
        own.or_else(|| self.committed.and_then(|index| index.get(self.array, id)))
    }
}

/// The shared index of an array that is committed, up to its last row.
fn committed<'a>(indexes: &'a mut Indexes, name: &str, array: &ArrayState) -> Result<&'a Index, Error> {
    let fresh = || Index::new(array, array.base);
    let index = match indexes.entry(name.to_owned()) {
        Entry::Occupied(known) => {
            let known = known.into_mut();
            if known.generation != array.generation || known.next > array.next {
                *known = fresh();
            }
            known
        }
        Entry::Vacant(none) => none.insert(fresh()),
    };
    index.catch_up(name, array)?;
    Ok(index)
}

/// Does something with the ids of an array as the editor has it. What is not committed never comes into the shared index: others
/// use the same positions for other rows.
fn with_index<T>(
    editor: &mut Editor<'_>,
    name: &str,
    array: &ArrayState,
    with: impl FnOnce(&Lookup<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let (inner, state) = (editor.inner(), editor.committed());
    let before = state.arrays.get(name).filter(|before| before.generation == array.generation);
    let mut indexes = locked(&inner.indexes);
    // If others have committed rows since, the shared index has them, and the editor must not see them.
    let before = before.filter(|before| {
        let known = indexes.get(name).filter(|known| known.generation == before.generation);
        known.is_none_or(|known| known.next <= before.next)
    });
    let shared = match before {
        Some(before) => Some(committed(&mut indexes, name, before)?),
        None => None,
    };
    let from = before.map_or(array.base, |before| before.next);
    if from == array.next && shared.is_some() {
        return with(&Lookup { array, committed: shared, own: None });
    }
    let fresh = || (from, Index::new(array, from));
    let (began, own) = editor.own_indexes().0.entry(name.to_owned()).or_insert_with(fresh);
    if *began != from || own.generation != array.generation || own.next > array.next {
        (*began, *own) = fresh();
    }
    own.catch_up(name, array)?;
    with(&Lookup { array, committed: shared, own: Some(own) })
}

fn twice(name: &str, id: Id<'_>) -> Error {
    let problem = format!("array {name:?} is unique, and would have it twice");
    Error::argument("id", id, problem)
}

/// Refuses rows that are not all different.
pub(crate) fn check_distinct(name: &str, rows: &ArrayRows<'_>) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    match ids_of(rows).find(|id| !seen.insert(*id)) {
        Some(id) => Err(twice(name, id)),
        None => Ok(()),
    }
}

/// Refuses an array that has an id twice.
pub(crate) fn check_all(name: &str, array: &ArrayState) -> Result<(), Error> {
    let each = |each: &mut dyn FnMut(u64, u64)| {
        array.each_range(0..array.rows(), each);
        Ok(())
    };
    match array.spec.dtype() {
        Some(dtype) => {
            let mut bytes = AlignedBytes::new();
            let out = bytes.resize(index(array.rows()) * dtype.size());
            read_positions(name, array, dtype, out, each)?;
            let rows = RowSlice::from_bytes(dtype, index(array.rows()), 1, bytes.bytes());
            check_distinct(name, &rows.map_err(|error| Error::rows(name)(error.into()))?.into())
        }
        None => check_distinct(name, &(&read_strings(name, array, each)?).into()),
    }
}

/// Refuses rows that are there already, or twice.
pub(crate) fn check_new(
    editor: &mut Editor<'_>,
    name: &str,
    array: &ArrayState,
    rows: &ArrayRows<'_>,
) -> Result<(), Error> {
    check_distinct(name, rows)?;
    with_index(editor, name, array, |index| match ids_of(rows).find(|id| index.get(*id).is_some()) {
        Some(id) => Err(twice(name, id)),
        None => Ok(()),
    })
}

/// Refuses rows in place of those of `ranges` that another row has.
pub(crate) fn check_replaced(
    editor: &mut Editor<'_>,
    name: &str,
    array: &ArrayState,
    ranges: &[(u64, u64)],
    rows: &ArrayRows<'_>,
) -> Result<(), Error> {
    check_distinct(name, rows)?;
    let replaced =
        |position: u64| ranges.iter().any(|(start, len)| (*start..start + len).contains(&position));
    with_index(editor, name, array, |index| {
        match ids_of(rows).find(|id| index.get(*id).is_some_and(|position| !replaced(position))) {
            Some(id) => Err(twice(name, id)),
            None => Ok(()),
        }
    })
}

/// Refuses an array whose rows are not ids.
fn check_ids(name: &str, array: &ArrayState) -> Result<(), Error> {
    if array.spec.unique {
        return Ok(());
    }
    Err(Error::argument("array", format!("{name:?}"), "it is not unique; make it with `ArraySpec::unique`"))
}

/// Replaces the rows of ids that are there, and appends those of ids that are not.
pub(crate) fn upsert(
    editor: &mut Editor<'_>,
    ids: &str,
    keys: &ArrayRows<'_>,
    columns: &[(&str, ArrayRows<'_>)],
) -> Result<(), Error> {
    let array = editor.array(ids)?;
    check_ids(ids, &array)?;
    array.spec.check_rows(ids, keys)?;
    check_distinct(ids, keys)?;
    for (name, rows) in columns {
        let column = editor.array(name)?;
        column.spec.check_rows(name, rows)?;
        if rows.len() != keys.len() || column.rows() != array.rows() || *name == ids {
            let problem = format!(
                "{} rows for {} ids; it has {} rows, and array {ids:?} has {}: all must be as many",
                rows.len(),
                keys.len(),
                column.rows(),
                array.rows()
            );
            return Err(Error::argument("array", format!("{name:?}"), problem));
        }
    }
    // Rows of the call whose ids are there, with their rows in the store; and the others.
    let (mut known, mut at, mut new): (Vec<u64>, Vec<i64>, Vec<u64>) = Default::default();
    with_index(editor, ids, &array, |index| {
        for (row, id) in (0..).zip(ids_of(keys)) {
            match index.get(id) {
                Some(position) => {
                    known.push(row);
                    at.push(i64::try_from(array.row_of(position)).expect("rows are below 2^48"));
                }
                None => new.push(row),
            }
        }
        Ok(())
    })?;
    for (name, rows) in columns {
        if !known.is_empty() {
            editor.replace(name, (&at).into(), &Picked::new(rows, &known).rows())?;
        }
        if !new.is_empty() {
            editor.append(name, &Picked::new(rows, &new).rows())?;
        }
    }
    if !new.is_empty() {
        editor.append(ids, &Picked::new(keys, &new).rows())?;
    }
    Ok(())
}

impl Store {
    /// Brings rows under ids: of an id that the array `ids` has, the rows of `columns` are replaced; the others are appended, to
    /// `ids` as well. All of these arrays have as many rows.
    ///
    /// # Errors
    /// `ids` is not unique, an id is given twice, arrays have other numbers of rows, or the disk refuses.
    pub fn upsert<'a>(
        &self,
        ids: &str,
        keys: impl Into<ArrayRows<'a>>,
        columns: &[(&str, ArrayRows<'_>)],
    ) -> Result<u64, Error> {
        let keys = keys.into();
        self.edit(|editor| upsert(editor, ids, &keys, columns))
    }

    /// The rows that have these ids, now; `None` for an id that is not there.
    ///
    /// # Errors
    /// `ids` is not unique, or the ids are of another dtype.
    pub fn rows_of_ids<'a>(
        &self,
        ids: &str,
        keys: impl Into<ArrayRows<'a>>,
    ) -> Result<Vec<Option<u64>>, Error> {
        let keys = keys.into();
        let array: Arc<ArrayState> = self.array(ids)?.array;
        check_ids(ids, &array)?;
        array.spec.check_rows(ids, &keys)?;
        let mut indexes = locked(&self.inner.indexes);
        let index = committed(&mut indexes, ids, &array)?;
        Ok(ids_of(&keys).map(|id| index.get(&array, id).map(|position| array.row_of(position))).collect())
    }

    /// Deletes the rows of these ids, of `ids` and of all `columns`. An id that is not there is no error. Returns how many
    /// rows were deleted.
    ///
    /// # Errors
    /// As [`Store::upsert`].
    pub fn delete_ids<'a>(
        &self,
        ids: &str,
        keys: impl Into<ArrayRows<'a>>,
        columns: &[&str],
    ) -> Result<usize, Error> {
        let keys = keys.into();
        let mut count = 0;
        self.edit(|editor| {
            let array = editor.array(ids)?;
            check_ids(ids, &array)?;
            array.spec.check_rows(ids, &keys)?;
            for name in columns {
                let rows = editor.array(name)?.rows();
                if rows != array.rows() {
                    let problem = format!("it has {rows} rows, array {ids:?} has {}", array.rows());
                    return Err(Error::argument("array", format!("{name:?}"), problem));
                }
            }
            let mut rows: Vec<i64> = with_index(editor, ids, &array, |index| {
                let found = ids_of(&keys).filter_map(|id| index.get(id));
                Ok(found.map(|position| i64::try_from(array.row_of(position)).expect("below 2^48")).collect())
            })?;
            rows.sort_unstable();
            rows.dedup();
            count = rows.len();
            columns.iter().chain([&ids]).try_for_each(|name| editor.delete_rows(name, (&rows).into()))
        })?;
        Ok(count)
    }
}
