//! The writer's side of a journal: records go in, and a new journal takes the place of one that is full.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::change::Change;
use crate::error::Error;
use crate::journal::{Head, Journal, Kind, SECTOR, Until, begin_record, end_record, header};
use crate::layer::{Layer, LayerFile};
use crate::names;
use crate::segment::Segment;
use crate::state::State;

/// Whether a commit survives the machine or only the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It survives the process, and a loss of power only by luck; it is then whole or gone.
    Buffered,
    /// It survives a loss of power, as do all commits before it.
    #[default]
    Synced,
}

/// Zeros that a journal is made longer by.
const STEP: u64 = 256 << 10;
/// Zeros that are written at a time.
const ZEROS_LEN: u64 = 64 << 10;

/// A journal that was replaced and is kept for its commits.
#[derive(Debug)]
struct Old {
    number: u64,
    first: u64,
    segments: BTreeSet<u64>,
    /// Whether something stands behind its last record.
    cut: bool,
}

/// The one that may write.
pub(crate) struct Writer {
    layer: Arc<dyn Layer>,
    file: Box<dyn LayerFile>,
    number: u64,
    first: u64,
    end: u64,
    checkpoint_end: u64,
    allocated: u64,
    crc: u32,
    durable: u64,
    /// The `durable` of the last record.
    said: u64,
    session: u64,
    boot: u64,
    /// Segments that commits named and that were not synced yet.
    unsynced: Vec<Arc<Segment>>,
    /// All that this journal named.
    introduced: BTreeSet<u64>,
    /// How many of them since the checkpoint.
    new_segments: usize,
    /// Bytes of records from which on the journal is replaced, if that failed before.
    postponed: u64,
    old: Vec<Old>,
    /// Whether older journals could not be read just now: nobody knows then what they need.
    unread: bool,
    /// Whether something stands behind the last record of this one.
    cut: bool,
    /// A cut journal that was kept since this opening.
    kept: Option<u64>,
    /// All segments that were ever named have numbers below.
    above: u64,
    /// Whether something else than zeros may stand behind the last record.
    pub(crate) unclean: bool,
    /// Whether a sync failed.
    unknown: bool,
    record: Vec<u8>,
    zeros: Vec<u8>,
    _lock: Box<dyn Any + Send + Sync>,
}

impl Writer {
    /// Makes journal 1 of a new store.
    pub(crate) fn create(
        layer: &Arc<dyn Layer>,
        lock: Box<dyn Any + Send + Sync>,
        state: &State,
    ) -> Result<Writer, Error> {
        let fresh = Fresh::write(layer, 1, 1, state, 0).map_err(|(_, error)| error)?;
        Ok(Writer {
            layer: Arc::clone(layer),
            number: 1,
            first: state.commit,
            end: fresh.end.next_multiple_of(SECTOR),
            checkpoint_end: fresh.end,
            allocated: fresh.end.next_multiple_of(SECTOR),
            crc: fresh.crc,
            file: fresh.file,
            durable: state.commit,
            said: state.commit,
            session: layer.random(),
            boot: layer.boot(),
            unsynced: Vec::new(),
            introduced: BTreeSet::new(),
            new_segments: 0,
            postponed: 0,
            old: Vec::new(),
            unread: false,
            cut: false,
            kept: None,
            above: 1,
            unclean: false,
            unknown: false,
            record: Vec::new(),
            zeros: Vec::new(),
            _lock: lock,
        })
    }

    /// Goes on with a journal that was read to its end.
    pub(crate) fn resume(
        layer: &Arc<dyn Layer>,
        lock: Box<dyn Any + Send + Sync>,
        journal: &Journal,
    ) -> Result<Writer, Error> {
        let name = names::journal(journal.number);
        let file =
            layer.open(&name, true).map_err(Error::io(layer.path(&name), "cannot be opened for writing"))?;
        let unsynced =
            journal.unsynced.iter().filter_map(|number| journal.state.segment(*number).ok()).collect();
        let (mut old, mut unread, mut above) = (Vec::new(), false, journal.above);
        let mut see = |introduced: &[u64]| {
            above = introduced.iter().fold(above, |above, number| above.max(number + 1));
        };
        see(&journal.introduced);
        for number in crate::journal::journals(&**layer)? {
            if number < journal.number {
                match Journal::read(layer, number, Until::End) {
                    Ok(before) => {
                        see(&before.introduced);
                        let segments = before.introduced.iter().copied().collect();
                        old.push(Old { number, first: before.first, segments, cut: before.cut.is_some() });
                    }
                    // It is of no use to anybody.
                    Err(Error::Damaged { .. }) => {}
                    Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {}
                    Err(_) => unread = true,
                }
            }
        }
        Ok(Writer {
            layer: Arc::clone(layer),
            file,
            number: journal.number,
            first: journal.first,
            end: journal.end,
            checkpoint_end: journal.checkpoint_end,
            allocated: journal.file_len,
            crc: journal.crc,
            durable: journal.durable,
            said: journal.durable,
            session: layer.random(),
            boot: layer.boot(),
            unsynced,
            introduced: journal.introduced.iter().copied().collect(),
            new_segments: journal.introduced.len() - journal.checkpoint_segments,
            postponed: 0,
            old,
            unread,
            cut: journal.cut.is_some(),
            kept: None,
            above: above.max(1),
            // A sync that nobody heard of may have failed: what is seen of the file is not what is on the disk then.
            unclean: journal.cut.is_some() || journal.checked || journal.flagged > journal.durable,
            unknown: false,
            record: Vec::new(),
            zeros: Vec::new(),
            _lock: lock,
        })
    }

    /// Bytes of records since the checkpoint.
    pub(crate) fn records_len(&self) -> u64 {
        self.end - self.checkpoint_end.min(self.end)
    }

    /// How many segments this journal named since its checkpoint.
    pub(crate) fn new_segments(&self) -> usize {
        self.new_segments
    }

    /// Whether it is time to replace the journal: not again at once, if that failed.
    pub(crate) fn may_be_replaced(&self, journal_len: u64) -> bool {
        let len = self.records_len();
        len >= self.postponed || len >= journal_len.saturating_mul(8)
    }

    /// If the journal is not replaced now, it is when there are so many more bytes of records.
    pub(crate) fn postpone(&mut self, bytes: u64) {
        self.postponed = self.records_len().saturating_add(bytes);
    }

    /// A number that is above those of all segments that were ever named.
    pub(crate) fn above(&self) -> u64 {
        self.above
    }

    fn see(&mut self, named: &[Arc<Segment>]) {
        self.above = named.iter().fold(self.above, |above, segment| above.max(segment.number + 1));
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.unknown { Err(Error::Unknown) } else { Ok(()) }
    }

    /// Writes one commit, number `commit`. When it returns, the commit is there; when it fails, it is not.
    pub(crate) fn commit(
        &mut self,
        changes: &[Change],
        commit: u64,
        time: u64,
        durability: Durability,
    ) -> Result<(), Error> {
        self.check()?;
        let new: Vec<Arc<Segment>> = changes
            .iter()
            .filter_map(
                |change| if let Change::Segment(segment) = change { Some(Arc::clone(segment)) } else { None },
            )
            .collect();
        let synced = durability == Durability::Synced;
        if synced {
            self.sync_segments(&new)?;
        }
        let mut record = std::mem::take(&mut self.record);
        begin_record(&mut record);
        // Segments are introduced before anything else.
        let (first, rest): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| matches!(change, Change::Segment(_)));
        first.into_iter().chain(rest).for_each(|change| change.encode(&mut record));
        let written = self.write_record(&mut record, Kind::Commit, synced, commit, time);
        if record.capacity() <= 1 << 20 {
            self.record = record;
        }
        written?;
        self.introduced.extend(new.iter().map(|segment| segment.number));
        self.new_segments += new.len();
        self.see(&new);
        if synced {
            self.synced(commit);
        } else {
            self.unsynced.extend(new);
        }
        Ok(())
    }

    /// Makes all commits durable.
    pub(crate) fn sync(&mut self, commit: u64, time: u64) -> Result<(), Error> {
        self.check()?;
        if self.durable >= commit {
            return Ok(());
        }
        self.sync_segments(&[])?;
        let mut record = Vec::new();
        begin_record(&mut record);
        self.write_record(&mut record, Kind::Mark, true, commit, time)?;
        self.synced(commit);
        Ok(())
    }

    /// Says in the journal what is known to be durable, so that damage to it can be told from a record cut short.
    pub(crate) fn mark(&mut self, commit: u64, time: u64) {
        if self.said < self.durable && !self.unclean && !self.unknown {
            let mut record = Vec::new();
            begin_record(&mut record);
            // It is a help and no more.
            let _ = self.write_record(&mut record, Kind::Mark, false, commit, time);
        }
    }

    fn synced(&mut self, commit: u64) {
        self.durable = commit;
        self.unsynced.clear();
    }

    fn write_record(
        &mut self,
        record: &mut Vec<u8>,
        kind: Kind,
        synced: bool,
        commit: u64,
        time: u64,
    ) -> Result<(), Error> {
        let head = Head {
            kind,
            synced,
            commit,
            durable: self.durable,
            time,
            session: self.session,
            boot: self.boot,
            previous: self.crc,
        };
        let crc = end_record(&head, record);
        let path = || self.layer.path(&names::journal(self.number));
        let end = self.end + record.len() as u64;
        if end > self.allocated {
            // Behind a short file there may be nothing; the zeros begin where the file ends.
            let to = end.next_multiple_of(STEP);
            // Memory for many pages of the file at once costs the system much less than page after page, and zeros that
            // are on the disk make a sync cheap later.
            self.zeros.resize(usize::try_from(ZEROS_LEN).expect("64 KiB"), 0);
            while self.allocated < to {
                let len = ZEROS_LEN - self.allocated % ZEROS_LEN;
                let zeros = &self.zeros[..usize::try_from(len).expect("it is in memory")];
                self.file
                    .write_at(self.allocated, zeros)
                    .map_err(Error::io(path(), "cannot be made longer"))?;
                self.allocated += len;
            }
        }
        if let Err(error) = self.file.write_at(self.end, record) {
            self.unclean = true;
            return Err(Error::io(path(), "cannot be written")(error));
        }
        if synced && let Err(error) = self.file.sync() {
            self.unknown = true;
            return Err(Error::io(path(), "cannot be synced")(error));
        }
        self.end = if synced { end.next_multiple_of(SECTOR) } else { end };
        self.crc = crc;
        self.said = self.durable;
        Ok(())
    }

    /// Syncs all segments that are not known to be, these too, and their names.
    fn sync_segments(&mut self, new: &[Arc<Segment>]) -> Result<(), Error> {
        let mut any = false;
        for segment in self.unsynced.iter().chain(new) {
            any = true;
            if let Err(error) = segment.sync() {
                self.unknown = true;
                return Err(Error::io(self.layer.path(&segment.name()), "cannot be synced")(error));
            }
        }
        if any && let Err(error) = self.layer.sync_names() {
            self.unknown = true;
            return Err(Error::io(self.layer.path(""), "cannot be synced")(error));
        }
        Ok(())
    }

    /// Puts a new journal in the place of this one, with `state` as its checkpoint: that of the last commit, with its rows in
    /// places that may be others. `new` are segments that it needs and that no commit named.
    pub(crate) fn replace(&mut self, state: &State, new: &[Arc<Segment>]) -> Result<(), Error> {
        self.check()?;
        self.sync_segments(new)?;
        self.see(new);
        let fresh = match Fresh::write(&self.layer, self.number + 1, self.above, state, self.session) {
            Ok(fresh) => fresh,
            Err((named, error)) => {
                // Once it was to take its place it may be there, synced or not; what cannot be seen is not known.
                let gone = || match self.layer.open(&names::journal(self.number + 1), false) {
                    Ok(_) => false,
                    Err(cause) => cause.kind() == std::io::ErrorKind::NotFound,
                };
                self.unknown = named && !gone();
                return Err(error);
            }
        };
        let segments = std::mem::take(&mut self.introduced);
        let cut = std::mem::take(&mut self.cut);
        self.old.push(Old { number: self.number, first: self.first, segments, cut });
        self.number += 1;
        self.first = state.commit;
        self.checkpoint_end = fresh.end;
        self.end = fresh.end.next_multiple_of(SECTOR);
        self.allocated = self.end;
        self.crc = fresh.crc;
        self.file = fresh.file;
        self.durable = state.commit;
        self.said = state.commit;
        self.unclean = false;
        self.unsynced.clear();
        self.introduced = state.needed().into_keys().collect();
        (self.new_segments, self.postponed) = (0, 0);
        Ok(())
    }

    /// Removes journals that are kept for no commit from `oldest` on, and segments that nothing needs. Nothing depends on it.
    pub(crate) fn clean(&mut self, state: &State, oldest: u64, pending: &BTreeSet<u64>) {
        if self.unread {
            return;
        }
        while let Some(old) = self.old.first() {
            let next = self.old.get(1).map_or(self.first, |next| next.first);
            // Commits from its first up to that of the next, which has it too.
            if next > oldest {
                break;
            }
            let name = names::journal(old.number);
            let gone = if old.cut {
                // Whoever wants to know what became of its end finds it.
                self.kept = Some(old.number);
                self.layer.rename(&name, &names::cut(old.number))
            } else {
                self.layer.remove(&name)
            };
            if gone.is_err() {
                break;
            }
            self.old.remove(0);
        }
        let Ok(names) = self.layer.list() else { return };
        let kept_journals: BTreeSet<u64> =
            self.old.iter().map(|old| old.number).chain([self.number]).collect();
        let needed = state.needed();
        let last_cut = names.iter().filter_map(|name| names::cut_number(name)).max();
        for name in names {
            let stale = match (names::segment_number(&name), names::journal_number(&name)) {
                (Some(segment), _) => {
                    !needed.contains_key(&segment)
                        && !self.introduced.contains(&segment)
                        && !pending.contains(&segment)
                        && !self.old.iter().any(|old| old.segments.contains(&segment))
                }
                (_, Some(journal)) => !kept_journals.contains(&journal) && journal < self.number,
                _ => {
                    names::is_temporary(&name)
                        || names::cut_number(&name).is_some_and(|cut| Some(cut) != last_cut)
                }
            };
            if stale {
                // Left over until the next time.
                let _ = self.layer.remove(&name);
            }
        }
    }
}

impl Writer {
    /// Removes a cut journal that was kept, unless it was in this opening.
    pub(crate) fn forget_cut(&self) {
        for name in self.layer.list().unwrap_or_default() {
            if names::cut_number(&name).is_some_and(|cut| Some(cut) != self.kept) {
                let _ = self.layer.remove(&name);
            }
        }
    }
}

/// A new journal in its place.
struct Fresh {
    file: Box<dyn LayerFile>,
    end: u64,
    crc: u32,
}

impl Fresh {
    /// An error says whether the journal may have its name by then.
    fn write(
        layer: &Arc<dyn Layer>,
        number: u64,
        above: u64,
        state: &State,
        session: u64,
    ) -> Result<Fresh, (bool, Error)> {
        let name = names::journal(number);
        let temporary = format!("{name}{}", names::TEMPORARY);
        let path = || layer.path(&name);
        let mut bytes = header(number, above);
        let previous = u32::from_le_bytes(bytes[60..64].try_into().expect("four"));
        let mut record = Vec::new();
        begin_record(&mut record);
        state.checkpoint().iter().for_each(|change| change.encode(&mut record));
        let head = Head {
            kind: Kind::Checkpoint,
            synced: true,
            commit: state.commit,
            durable: state.commit,
            time: state.time,
            session,
            boot: layer.boot(),
            previous,
        };
        let crc = end_record(&head, &mut record);
        bytes.append(&mut record);
        let end = bytes.len() as u64;
        // What is written later begins in a sector of its own, the zeros that make the file longer, too.
        bytes.resize(bytes.len().next_multiple_of(usize::try_from(SECTOR).expect("4096")), 0);
        let fail = |action| move |cause| (false, Error::io(path(), action)(cause));
        let file = layer.create(&temporary).map_err(fail("cannot be made"))?;
        file.write_at(0, &bytes).map_err(fail("cannot be written"))?;
        file.sync().map_err(fail("cannot be synced"))?;
        let fail = |path, action| move |cause| (true, Error::io(path, action)(cause));
        layer.rename(&temporary, &name).map_err(fail(path(), "cannot take its name"))?;
        layer.sync_names().map_err(fail(layer.path(""), "cannot be synced"))?;
        Ok(Fresh { file, end, crc })
    }
}
