//! A store: opening one, committing to it, looking at it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cvc::{ArrayRows, Json};

use crate::batch::Batch;
use crate::change::Change;
use crate::edit::Editor;
use crate::error::Error;
use crate::journal::{Journal, Until, journals};
use crate::kept::Kept;
use crate::layer::disk::Disk;
use crate::layer::{Layer, LayerFile, LockError};
use crate::names;
use crate::segment::Segment;
use crate::select::Selection;
use crate::snapshot::{Snapshot, StoredArray};
use crate::spec::ArraySpec;
use crate::state::State;
use crate::writer::{Durability, Writer};

/// How a store is used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Of changes that do not say otherwise. Default [`Durability::Synced`].
    pub durability: Durability,
    /// Bytes of rows that a change keeps in the journal at most; more are a segment. Default 64 KiB.
    pub inline_len: u64,
    /// Bytes of records after which the journal is replaced. Default 8 MiB.
    pub journal_len: u64,
    /// Bytes below which a segment is folded with others when the journal is replaced. Default 32 MiB.
    pub segment_len: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            durability: Durability::default(),
            inline_len: 64 << 10,
            journal_len: 8 << 20,
            segment_len: 32 << 20,
        }
    }
}

impl StoreOptions {
    /// With this durability for changes that do not say otherwise.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        StoreOptions { durability, ..self }
    }
}

/// A directory of arrays that can be changed. Cheap to copy; every method takes `&self`, from any thread.
///
/// What changes a store is one commit, whole or absent, and durable as the options say when the method returns.
/// [`Store::batch`] makes one commit of several changes.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) durability: Durability,
}

pub(crate) struct Inner {
    pub(crate) layer: Arc<dyn Layer>,
    pub(crate) options: StoreOptions,
    head: Mutex<Arc<State>>,
    side: Side,
    next_segment: AtomicU64,
    /// Segments that were written for changes not committed yet.
    pub(crate) pending: Mutex<BTreeSet<u64>>,
    pub(crate) indexes: Mutex<crate::ids::Indexes>,
    /// Memory for rows that the journal keeps.
    pub(crate) kept: Mutex<Kept>,
    /// The process that opened it.
    process: u32,
}

enum Side {
    Writer(Mutex<Writer>),
    Reader(Mutex<Follower>),
}

/// What a reader of another process's store keeps.
struct Follower {
    journal: Journal,
    file: Box<dyn LayerFile>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("layer", &self.inner.layer).finish_non_exhaustive()
    }
}

/// A lock that a panic does not spoil: what it guards is changed last, in one piece.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Makes a store in the directory `path`, which is made too if it is not there.
    ///
    /// # Errors
    /// There is a store already, or the directory cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Store, Error> {
        Store::create_with(path, StoreOptions::default())
    }

    /// As [`Store::create`], with options.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Store, Error> {
        let path = path.as_ref();
        let disk = Disk::create(path).map_err(Error::io(path.to_owned(), "cannot be made"))?;
        Store::create_on(Arc::new(disk), options)
    }

    /// Opens the store in the directory `path` for reading and writing.
    ///
    /// # Errors
    /// There is none, somebody else has it open for writing, or it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Store, Error> {
        Store::open_with(path, StoreOptions::default())
    }

    /// As [`Store::open`], with options.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Store, Error> {
        Store::open_on(disk(path.as_ref())?, options)
    }

    /// Opens the store in the directory `path` for reading, whoever writes to it. [`Store::refresh`] shows what was written since.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store, Error> {
        Store::open_read_only_on(disk(path.as_ref())?)
    }

    /// As [`Store::create`], on any file layer.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_on(layer: Arc<dyn Layer>, options: StoreOptions) -> Result<Store, Error> {
        let lock = take_lock(&*layer)?;
        if has_journal(&*layer)? {
            return Err(Error::Exists { path: layer.path("") });
        }
        let state = State { time: layer.now(), ..State::default() };
        let writer = Writer::create(&layer, lock, &state)?;
        Ok(Store::new(layer, options, state, Side::Writer(Mutex::new(writer)), 1))
    }

    /// As [`Store::open`], on any file layer.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(layer: Arc<dyn Layer>, options: StoreOptions) -> Result<Store, Error> {
        // Without this, whoever mistypes a path would leave a lock behind.
        if !has_journal(&*layer)? {
            let problem = "there is no store; create one, or check the path".into();
            return Err(Error::NotAStore { path: layer.path(""), problem });
        }
        let lock = take_lock(&*layer)?;
        let journal = Journal::newest(&layer)?;
        let writer = Writer::resume(&layer, lock, &journal)?;
        let names = layer.list().map_err(Error::io(layer.path(""), "cannot be listed"))?;
        let on_disk = names.iter().filter_map(|name| names::segment_number(name)).max().unwrap_or(0);
        let next = writer.above().max(on_disk + 1);
        let unclean = writer.unclean;
        let store = Store::new(layer, options, journal.state, Side::Writer(Mutex::new(writer)), next);
        if unclean {
            // If there is no room for it now, the first commit tries again, and nothing is written before.
            let _ = store.checkpoint();
        }
        Ok(store)
    }

    /// As [`Store::open_read_only`], on any file layer.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_read_only_on(layer: Arc<dyn Layer>) -> Result<Store, Error> {
        has_journal(&*layer)?;
        let follower = Follower::newest(&layer)?;
        let state = follower.journal.state.clone();
        Ok(Store::new(layer, StoreOptions::default(), state, Side::Reader(Mutex::new(follower)), 0))
    }

    fn new(
        layer: Arc<dyn Layer>,
        options: StoreOptions,
        state: State,
        side: Side,
        next_segment: u64,
    ) -> Store {
        Store {
            durability: options.durability,
            inner: Arc::new(Inner {
                layer,
                options,
                head: Mutex::new(Arc::new(state)),
                side,
                next_segment: AtomicU64::new(next_segment),
                pending: Mutex::default(),
                indexes: Mutex::default(),
                kept: Mutex::default(),
                process: std::process::id(),
            }),
        }
    }

    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.inner.layer.path("")
    }

    /// How it is used.
    pub fn options(&self) -> StoreOptions {
        self.inner.options
    }

    /// The same store, with this durability for changes that do not say otherwise.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Store {
        Store { inner: Arc::clone(&self.inner), durability }
    }

    /// Whether it can be changed through this handle.
    pub fn is_writable(&self) -> bool {
        matches!(self.inner.side, Side::Writer(_))
    }

    /// The store as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { state: Arc::clone(&*locked(&self.inner.head)) }
    }

    /// The store as it was after commit `commit`, if it is kept.
    ///
    /// # Errors
    /// It is kept no more, or was not made yet.
    pub fn snapshot_at(&self, commit: u64) -> Result<Snapshot, Error> {
        let now = self.snapshot();
        if commit == now.commit() {
            return Ok(now);
        }
        let layer = &self.inner.layer;
        let mut oldest = now.commit();
        for number in journals(&**layer)?.into_iter().rev() {
            let Ok(journal) = Journal::read(layer, number, Until::Commit(commit)) else { break };
            if journal.first <= commit && commit <= now.commit() {
                if journal.state.commit != commit {
                    break;
                }
                let state = Arc::new(journal.state);
                open_all(&state)?;
                return Ok(Snapshot { state });
            }
            oldest = journal.first;
        }
        Err(Error::NoCommit { commit, oldest, newest: now.commit() })
    }

    /// The commits that [`Store::snapshot_at`] can show: the first and the last.
    ///
    /// # Errors
    /// The journals cannot be read.
    pub fn commits(&self) -> Result<(u64, u64), Error> {
        let newest = self.snapshot().commit();
        let mut oldest = newest;
        for number in journals(&*self.inner.layer)?.into_iter().rev() {
            let Ok(journal) = Journal::read(&self.inner.layer, number, Until::Commit(0)) else { break };
            oldest = oldest.min(journal.first);
        }
        Ok((oldest, newest))
    }

    /// The array of this name, as it is now.
    ///
    /// # Errors
    /// There is none.
    pub fn array(&self, name: &str) -> Result<StoredArray, Error> {
        self.snapshot().array(name)
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        locked(&self.inner.head).arrays.contains_key(name)
    }

    /// The names of all arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        self.snapshot().names()
    }

    /// Begins a batch: changes that become one commit together.
    ///
    /// # Errors
    /// The store was opened for reading.
    pub fn batch(&self) -> Result<Batch, Error> {
        drop(self.writer()?);
        Ok(Batch::new(self.clone(), self.head()))
    }

    /// Saves an array, in place of any of that name.
    ///
    /// # Errors
    /// Rows that are not of such an array, or the disk refuses.
    pub fn save<'a>(
        &self,
        name: &str,
        spec: &ArraySpec,
        rows: impl Into<ArrayRows<'a>>,
    ) -> Result<u64, Error> {
        let rows = rows.into();
        self.edit(|editor| editor.save(name, spec, &rows))
    }

    /// Appends rows to an array.
    ///
    /// # Errors
    /// There is no such array, rows that are not of such an array, or the disk refuses.
    pub fn append<'a>(&self, name: &str, rows: impl Into<ArrayRows<'a>>) -> Result<u64, Error> {
        let rows = rows.into();
        self.edit(|editor| editor.append(name, &rows))
    }

    /// Replaces rows: the first of `which` by the first of `rows`, and so on.
    ///
    /// # Errors
    /// As [`Store::append`], rows that do not exist, or another number of rows.
    pub fn replace<'a, 'b>(
        &self,
        name: &str,
        which: impl Into<Selection<'b>>,
        rows: impl Into<ArrayRows<'a>>,
    ) -> Result<u64, Error> {
        let (which, rows) = (which.into(), rows.into());
        self.edit(|editor| editor.replace(name, which, &rows))
    }

    /// Deletes rows.
    ///
    /// # Errors
    /// There is no such array, rows that do not exist, or the disk refuses.
    pub fn delete_rows<'b>(&self, name: &str, which: impl Into<Selection<'b>>) -> Result<u64, Error> {
        let which = which.into();
        self.edit(|editor| editor.delete_rows(name, which))
    }

    /// Deletes an array.
    ///
    /// # Errors
    /// There is none, or the disk refuses.
    pub fn delete(&self, name: &str) -> Result<u64, Error> {
        self.edit(|editor| editor.delete(name))
    }

    /// Gives an array another name, which no array has.
    ///
    /// # Errors
    /// There is none, one has that name, or the disk refuses.
    pub fn rename(&self, from: &str, to: &str) -> Result<u64, Error> {
        self.edit(|editor| editor.rename(from, to))
    }

    /// Makes an array that is as another one is now. No row is copied.
    ///
    /// # Errors
    /// There is none, one has that name, or the disk refuses.
    pub fn clone_array(&self, from: &str, to: &str) -> Result<u64, Error> {
        self.edit(|editor| editor.clone_array(from, to))
    }

    /// Deletes all arrays and the metadata.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn reset(&self) -> Result<u64, Error> {
        self.edit(|editor| editor.reset())
    }

    /// Says something of the store: an object.
    ///
    /// # Errors
    /// It is not an object, or the disk refuses.
    pub fn set_metadata(&self, metadata: &Json) -> Result<u64, Error> {
        self.edit(|editor| editor.set_metadata(metadata))
    }

    /// Says something of an array: an object.
    ///
    /// # Errors
    /// It is not an object, there is no such array, or the disk refuses.
    pub fn set_array_metadata(&self, name: &str, metadata: &Json) -> Result<u64, Error> {
        self.edit(|editor| editor.set_array_metadata(name, metadata))
    }

    /// Says how many commits before the last can still be read; their rows take space.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep_commits(&self, commits: u64) -> Result<u64, Error> {
        self.edit(|editor| {
            editor.push(Change::Keep { commits });
            Ok(())
        })
    }

    /// Makes one commit of what `make` does to an editor of the last state.
    pub(crate) fn edit(&self, make: impl FnOnce(&mut Editor<'_>) -> Result<(), Error>) -> Result<u64, Error> {
        let mut writer = self.writer()?;
        self.before_commit(&mut writer)?;
        let (changes, commit, pending) = {
            // Nobody else changes it as long as the writer is ours. It must be ours alone again when changes are applied.
            let head = self.head();
            let mut editor = Editor::new(&self.inner, &head);
            make(&mut editor)?;
            let (changes, pending) = editor.finish();
            (changes, head.commit + 1, pending)
        };
        self.commit(&mut writer, changes, commit, self.durability, &pending)
    }

    /// Commits changes that were made for the last state, which was checked.
    pub(crate) fn commit(
        &self,
        writer: &mut Writer,
        changes: Vec<Change>,
        commit: u64,
        durability: Durability,
        pending: &[u64],
    ) -> Result<u64, Error> {
        if changes.is_empty() {
            return Ok(commit - 1);
        }
        let time = self.inner.layer.now();
        let written = writer.commit(&changes, commit, time, durability);
        let mut set = locked(&self.inner.pending);
        pending.iter().for_each(|number| {
            set.remove(number);
        });
        drop(set);
        written?;
        let mut head = locked(&self.inner.head);
        let state = Arc::make_mut(&mut *head);
        for change in &changes {
            state.apply(change, Some(time)).expect("the editor checked it on the same state");
        }
        (state.commit, state.time) = (commit, time);
        Ok(commit)
    }

    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, Writer>, Error> {
        match &self.inner.side {
            Side::Writer(writer) => {
                self.inner.check_process()?;
                Ok(locked(writer))
            }
            Side::Reader(_) => Err(Error::ReadOnly),
        }
    }

    pub(crate) fn head(&self) -> Arc<State> {
        Arc::clone(&*locked(&self.inner.head))
    }

    /// Replaces the journal if it is full, or must not be written to.
    pub(crate) fn before_commit(&self, writer: &mut Writer) -> Result<(), Error> {
        writer.check()?;
        let full =
            writer.records_len() >= self.inner.options.journal_len || writer.new_segments() >= MANY_SEGMENTS;
        let full = full && writer.may_be_replaced(self.inner.options.journal_len);
        if !full && !writer.unclean {
            return Ok(());
        }
        let replaced = self.replace_journal(writer);
        if writer.unclean {
            return replaced;
        }
        // A full journal can wait for a while.
        match replaced {
            Err(error) if writer.records_len() >= 8 * self.inner.options.journal_len => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves inline rows to segments and puts a new journal in the place of the old one.
    fn replace_journal(&self, writer: &mut Writer) -> Result<(), Error> {
        writer.check()?;
        let head = self.head();
        writer.postpone(self.inner.options.journal_len / 8);
        let (state, new) = crate::compact::fold(&self.inner, &head)?;
        let numbers: Vec<u64> = new.iter().map(|segment| segment.number).collect();
        if let Err(error) = writer.replace(&state, &new) {
            // If nobody knows whether the new journal is there, they must be.
            if writer.check().is_ok() {
                self.inner.give_up(&numbers);
            }
            return Err(error);
        }
        let mut pending = locked(&self.inner.pending);
        numbers.iter().for_each(|number| {
            pending.remove(number);
        });
        drop(pending);
        // Snapshots of this process may need a segment that they have not opened yet, and that is removed now.
        let needed = state.needed();
        for segment in head.segments.values().filter(|segment| !needed.contains_key(&segment.number)) {
            let _ = segment.reader();
        }
        drop(head);
        *locked(&self.inner.head) = Arc::new(state);
        self.clean(writer);
        Ok(())
    }

    fn clean(&self, writer: &mut Writer) {
        let head = self.head();
        let pending = locked(&self.inner.pending).clone();
        writer.clean(&head, head.commit.saturating_sub(head.keep), &pending);
    }

    /// Makes all commits so far durable.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<(), Error> {
        let mut writer = self.writer()?;
        let head = self.head();
        writer.sync(head.commit, self.inner.layer.now())
    }

    /// Replaces the journal now, which makes all commits durable, moves inline rows to segments and removes what nothing needs.
    ///
    /// # Errors
    /// The disk refuses; the store is as it was.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let mut writer = self.writer()?;
        self.replace_journal(&mut writer)
    }

    /// Forgets all commits but the last `keep` before this one, and removes what only they needed.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn prune(&self, keep: u64) -> Result<(), Error> {
        let mut writer = self.writer()?;
        self.replace_journal(&mut writer)?;
        let head = self.head();
        let pending = locked(&self.inner.pending).clone();
        writer.clean(&head, head.commit.saturating_sub(keep), &pending);
        writer.forget_cut();
        Ok(())
    }

    /// Takes what a writer in another process has committed since; says whether there was anything.
    ///
    /// # Errors
    /// The store is damaged. A writer has nothing to take.
    pub fn refresh(&self) -> Result<bool, Error> {
        let Side::Reader(follower) = &self.inner.side else { return Ok(false) };
        let mut follower = locked(follower);
        let before = follower.journal.state.commit;
        if !follower.refresh(&self.inner.layer)? {
            return Ok(false);
        }
        let state = follower.journal.state.clone();
        let changed = state.commit != before;
        *locked(&self.inner.head) = Arc::new(state);
        Ok(changed)
    }
}

/// Segments that one journal names before it is replaced.
const MANY_SEGMENTS: usize = 256;

impl Drop for Inner {
    fn drop(&mut self) {
        if let Side::Writer(writer) = &self.side
            && self.check_process().is_ok()
        {
            let head = Arc::clone(&*locked(&self.head));
            locked(writer).mark(head.commit, head.time);
        }
    }
}

impl Follower {
    fn newest(layer: &Arc<dyn Layer>) -> Result<Follower, Error> {
        let mut looks = 0;
        loop {
            let journal = Journal::newest(layer)?;
            let name = names::journal(journal.number);
            let opened = layer.open(&name, false).map_err(Error::io(layer.path(&name), "cannot be opened"));
            let file = match (opened, open_all(&journal.state)) {
                (Ok(file), Ok(())) => file,
                // Compaction removed what an older journal names: a newer one is there.
                (Err(Error::Io { cause, .. }), _) | (_, Err(Error::Io { cause, .. }))
                    if cause.kind() == std::io::ErrorKind::NotFound && looks < 100 =>
                {
                    looks += 1;
                    continue;
                }
                (Err(error), _) | (_, Err(error)) => return Err(error),
            };
            return Ok(Follower { journal, file });
        }
    }

    fn refresh(&mut self, layer: &Arc<dyn Layer>) -> Result<bool, Error> {
        if journals(&**layer)?.last() == Some(&self.journal.number) {
            let Some(journal) = self.journal.refreshed(layer, &*self.file)? else { return Ok(false) };
            match open_all(&journal.state) {
                Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.journal = journal;
                    return Ok(true);
                }
            }
        }
        *self = Follower::newest(layer)?;
        Ok(true)
    }
}

/// Opens all segments of a state, so that it can be read whatever is removed.
fn open_all(state: &State) -> Result<(), Error> {
    state.needed().values().try_for_each(|segment: &Arc<Segment>| segment.reader().map(drop))
}

pub(crate) fn disk(path: &Path) -> Result<Arc<dyn Layer>, Error> {
    match Disk::open(path) {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(cause)
            if matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            let problem = format!("there is no store: {cause}; create one, or check the path");
            Err(Error::NotAStore { path: path.to_owned(), problem })
        }
        Err(cause) => Err(Error::io(path.to_owned(), "cannot be opened")(cause)),
    }
}

fn take_lock(layer: &dyn Layer) -> Result<Box<dyn std::any::Any + Send + Sync>, Error> {
    layer.lock().map_err(|error| match error {
        LockError::Held(pid) => Error::Locked { path: layer.path(""), pid },
        LockError::Io(cause) => Error::io(layer.path(names::LOCK), "cannot be locked")(cause),
    })
}

/// Whether there is a journal. Without one, there must be nothing else of a store.
fn has_journal(layer: &dyn Layer) -> Result<bool, Error> {
    if !journals(layer)?.is_empty() {
        return Ok(true);
    }
    let names = layer.list().map_err(Error::io(layer.path(""), "cannot be listed"))?;
    let ours = |name: &&String| names::segment_number(name).is_some() || names::cut_number(name).is_some();
    // It may have been made since.
    match names.iter().find(ours) {
        Some(found) if journals(layer)?.is_empty() => {
            Err(Error::NoJournal { path: layer.path(""), found: found.clone() })
        }
        found => Ok(found.is_some()),
    }
}

impl Inner {
    /// Refuses a process that was forked from the one that opened the store: both would write to the same places.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        let (opened, now) = (self.process, std::process::id());
        if opened == now {
            return Ok(());
        }
        Err(Error::Forked { path: self.layer.path(""), opened, now })
    }

    /// A number for a new segment, which is safe from cleaning until its changes are committed or given up.
    pub(crate) fn new_segment(&self) -> u64 {
        let number = self.next_segment.fetch_add(1, Ordering::Relaxed);
        locked(&self.pending).insert(number);
        number
    }

    /// Gives up segments whose changes were never committed.
    pub(crate) fn give_up(&self, numbers: &[u64]) {
        if numbers.is_empty() || self.check_process().is_err() {
            return;
        }
        for number in numbers {
            locked(&self.pending).remove(number);
            // Left over until the journal is replaced.
            let _ = self.layer.remove(&names::segment(*number));
        }
    }
}
