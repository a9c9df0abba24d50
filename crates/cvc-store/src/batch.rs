//! Several changes that become one commit.

use std::fmt;
use std::sync::Arc;

use cvc::{ArrayRows, Json};

use crate::change::Change;
use crate::edit::{Editor, RowSink};
use crate::error::Error;
use crate::ids::OwnIndexes;
use crate::select::Selection;
use crate::snapshot::Snapshot;
use crate::spec::ArraySpec;
use crate::state::State;
use crate::store::Store;
use crate::writer::Durability;

/// Changes to a store that become one commit, or none. Each sees those before it, and nobody else sees any before
/// [`Batch::commit`]. Dropped, it leaves the store as it was.
pub struct Batch {
    store: Store,
    /// What was committed when it began.
    began: Arc<State>,
    state: State,
    changes: Vec<Change>,
    pending: Vec<u64>,
    indexes: OwnIndexes,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

impl Batch {
    pub(crate) fn new(store: Store, began: Arc<State>) -> Batch {
        let (state, indexes) = (State::clone(&began), OwnIndexes::default());
        Batch { store, began, state, changes: Vec::new(), pending: Vec::new(), indexes }
    }

    pub(crate) fn edit(
        &mut self,
        make: impl FnOnce(&mut Editor<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.store.inner.check_process()?;
        let state = std::mem::take(&mut self.state);
        let (changes, pending) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.pending));
        let (change_count, pending_count) = (changes.len(), pending.len());
        let inner = self.store.inner.clone();
        let (began, indexes) = (Arc::clone(&self.began), std::mem::take(&mut self.indexes));
        let mut editor = Editor::resume(&inner, &began, state, changes, pending, indexes);
        let made = make(&mut editor);
        (self.state, self.changes, self.pending, self.indexes) = editor.pause();
        if made.is_err() {
            // What it did before it failed is no part of the batch.
            inner.give_up(&self.pending.split_off(pending_count));
            if self.changes.len() > change_count {
                self.changes.truncate(change_count);
                (self.state, self.indexes) = (State::clone(&began), OwnIndexes::default());
                let time = inner.layer.now();
                for change in &self.changes {
                    let _ = self.state.apply(change, Some(time));
                }
            }
        }
        made
    }

    /// What the store will be.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.state.clone().into() }
    }

    /// As [`Store::save`].
    ///
    /// # Errors
    /// As [`Store::save`]; the batch is as it was before.
    pub fn save<'a>(
        &mut self,
        name: &str,
        spec: &ArraySpec,
        rows: impl Into<ArrayRows<'a>>,
    ) -> Result<(), Error> {
        let rows = rows.into();
        self.edit(|editor| editor.save(name, spec, &rows))
    }

    /// As [`Batch::save`], of rows that come piece by piece: `write` brings them. Memory holds a chunk of them for each core.
    ///
    /// # Errors
    /// As [`Batch::save`], and those of `write`.
    pub fn save_with(
        &mut self,
        name: &str,
        spec: &ArraySpec,
        write: impl FnOnce(&mut RowSink<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.edit(|editor| editor.save_with(name, spec, write))
    }

    /// As [`Store::append`].
    ///
    /// # Errors
    /// As [`Store::append`]; the batch is as it was before.
    pub fn append<'a>(&mut self, name: &str, rows: impl Into<ArrayRows<'a>>) -> Result<(), Error> {
        let rows = rows.into();
        self.edit(|editor| editor.append(name, &rows))
    }

    /// As [`Store::replace`].
    ///
    /// # Errors
    /// As [`Store::replace`]; the batch is as it was before.
    pub fn replace<'a, 'b>(
        &mut self,
        name: &str,
        which: impl Into<Selection<'b>>,
        rows: impl Into<ArrayRows<'a>>,
    ) -> Result<(), Error> {
        let (which, rows) = (which.into(), rows.into());
        self.edit(|editor| editor.replace(name, which, &rows))
    }

    /// As [`Store::delete_rows`].
    ///
    /// # Errors
    /// As [`Store::delete_rows`]; the batch is as it was before.
    pub fn delete_rows<'b>(&mut self, name: &str, which: impl Into<Selection<'b>>) -> Result<(), Error> {
        let which = which.into();
        self.edit(|editor| editor.delete_rows(name, which))
    }

    /// As [`Store::delete`].
    ///
    /// # Errors
    /// There is no such array.
    pub fn delete(&mut self, name: &str) -> Result<(), Error> {
        self.edit(|editor| editor.delete(name))
    }

    /// As [`Store::rename`].
    ///
    /// # Errors
    /// There is no such array, or one of the new name.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.edit(|editor| editor.rename(from, to))
    }

    /// As [`Store::clone_array`].
    ///
    /// # Errors
    /// There is no such array, or one of the new name.
    pub fn clone_array(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.edit(|editor| editor.clone_array(from, to))
    }

    /// As [`Store::reset`].
    ///
    /// # Errors
    /// None that are known.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.edit(|editor| editor.reset())
    }

    /// As [`Store::set_metadata`].
    ///
    /// # Errors
    /// It is not an object.
    pub fn set_metadata(&mut self, metadata: &Json) -> Result<(), Error> {
        self.edit(|editor| editor.set_metadata(metadata))
    }

    /// As [`Store::set_array_metadata`].
    ///
    /// # Errors
    /// It is not an object, or there is no such array.
    pub fn set_array_metadata(&mut self, name: &str, metadata: &Json) -> Result<(), Error> {
        self.edit(|editor| editor.set_array_metadata(name, metadata))
    }

    /// Says something of rows `start..end` of an array.
    ///
    /// # Errors
    /// There is no such array, rows that do not exist, or that another section has.
    pub fn add_section(&mut self, name: &str, start: u64, end: u64, metadata: &Json) -> Result<(), Error> {
        self.edit(|editor| editor.add_section(name, start, end, metadata))
    }

    /// Forgets all sections of an array.
    ///
    /// # Errors
    /// There is no such array.
    pub fn clear_sections(&mut self, name: &str) -> Result<(), Error> {
        self.edit(|editor| editor.clear_sections(name))
    }

    /// As [`Store::upsert`].
    ///
    /// # Errors
    /// As [`Store::upsert`]; the batch is as it was before.
    pub fn upsert<'a>(
        &mut self,
        ids: &str,
        keys: impl Into<ArrayRows<'a>>,
        columns: &[(&str, ArrayRows<'_>)],
    ) -> Result<(), Error> {
        let keys = keys.into();
        self.edit(|editor| crate::ids::upsert(editor, ids, &keys, columns))
    }

    /// Makes one commit of all changes, with the durability of the store. Returns its number.
    ///
    /// # Errors
    /// Somebody else made a commit meanwhile, or the disk refuses; nothing has changed then.
    pub fn commit(self) -> Result<u64, Error> {
        let durability = self.store.durability;
        self.commit_as(durability)
    }

    /// As [`Batch::commit`], with this durability.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    pub fn commit_as(mut self, durability: Durability) -> Result<u64, Error> {
        let store = self.store.clone();
        let mut writer = store.writer()?;
        store.before_commit(&mut writer)?;
        let now = store.head().commit;
        if now != self.began.commit {
            return Err(Error::Conflict { began: self.began.commit, now });
        }
        // What is shared would be copied before it is changed.
        (self.state, self.began) = (State::default(), Arc::default());
        let (changes, pending) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.pending));
        store.commit(&mut writer, changes, now + 1, durability, &pending)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.store.inner.give_up(&self.pending);
    }
}
