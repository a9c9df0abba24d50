//! The journal: a checkpoint, and the commits since. `docs/STORE.md` has the bytes and the rules.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::change::Change;
use crate::error::Error;
use crate::layer::{Layer, LayerFile};
use crate::names;
use crate::segment::Segment;
use crate::state::State;
use crate::wire::{Problem, Wire, crc32c, put_u32, put_u64};

pub(crate) const HEAD_LEN: u64 = 64;
/// What the disk writes as one: what was synced shares none with what is written later.
pub(crate) const SECTOR: u64 = 4096;
const MAGIC: [u8; 8] = [b'C', b'V', b'C', b'J', 0xff, 0x0d, 0x0a, 0x1a];
const VERSION: (u16, u16) = (1, 0);
const RECORD: [u8; 4] = *b"CVCR";
/// How often a journal that looks damaged is read again: a writer may be writing to it.
const LOOKS: usize = 10;

const ZERO_PAGE: [u8; 4096] = [0; 4096];

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Checkpoint = 1,
    Commit = 2,
    Mark = 3,
}

/// The fields of a record that its writer chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) synced: bool,
    pub(crate) commit: u64,
    pub(crate) durable: u64,
    pub(crate) time: u64,
    pub(crate) session: u64,
    pub(crate) boot: u64,
    pub(crate) previous: u32,
}

/// The header of journal `number`; all segments that were ever named have numbers below `above`.
pub(crate) fn header(number: u64, above: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.0.to_le_bytes());
    bytes.extend_from_slice(&VERSION.1.to_le_bytes());
    put_u32(&mut bytes, 0);
    put_u64(&mut bytes, number);
    put_u64(&mut bytes, above);
    bytes.resize(60, 0);
    let crc = crc32c(&[&bytes]);
    put_u32(&mut bytes, crc);
    bytes
}

/// Room for the head of a record, before its body.
pub(crate) fn begin_record(out: &mut Vec<u8>) {
    out.clear();
    out.resize(usize::try_from(HEAD_LEN).expect("64"), 0);
}

/// Fills in the head of a record that was begun and got its body. Returns its checksum.
pub(crate) fn end_record(head: &Head, out: &mut Vec<u8>) -> u32 {
    let body_len = out.len() as u64 - HEAD_LEN;
    out.resize(out.len().next_multiple_of(8), 0);
    out[0..4].copy_from_slice(&RECORD);
    out[4] = head.kind as u8;
    out[5] = u8::from(head.synced);
    for (at, number) in [
        (8, body_len),
        (16, head.commit),
        (24, head.durable),
        (32, head.time),
        (40, head.session),
        (48, head.boot),
    ] {
        out[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    out[56..60].copy_from_slice(&head.previous.to_le_bytes());
    let crc = crc32c(&[&out[..60], &out[64..]]);
    out[60..64].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// A record that was found whole.
#[derive(Clone, Copy, Debug)]
struct Found<'a> {
    head: Head,
    body: &'a [u8],
    /// Bytes from its first to the last of its padding.
    len: u64,
    crc: u32,
}

/// The record at `at`, whatever comes before it, if it is whole.
fn record_at(bytes: &[u8], at: u64) -> Option<Found<'_>> {
    let mut wire = Wire(bytes.get(usize::try_from(at).ok()?..)?);
    let head = wire.take(64).ok()?;
    if head[0..4] != RECORD || head[5] > 1 || head[6..8] != [0, 0] {
        return None;
    }
    let kind = match head[4] {
        1 => Kind::Checkpoint,
        2 => Kind::Commit,
        3 => Kind::Mark,
        _ => return None,
    };
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight"));
    let crc = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four"));
    if number(16) >= names::NUMBERS || number(24) >= names::NUMBERS {
        return None;
    }
    let body_len = usize::try_from(number(8)).ok()?;
    let padded = wire.take(body_len.checked_next_multiple_of(8)?).ok()?;
    if crc32c(&[&head[..60], padded]) != crc(60) || padded[body_len..].iter().any(|byte| *byte != 0) {
        return None;
    }
    let head = Head {
        kind,
        synced: head[5] == 1,
        commit: number(16),
        durable: number(24),
        time: number(32),
        session: number(40),
        boot: number(48),
        previous: crc(56),
    };
    Some(Found { head, body: &padded[..body_len], len: HEAD_LEN + padded.len() as u64, crc: crc(60) })
}

/// Where a reader of a journal is: behind the last record it took.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    pub(crate) number: u64,
    /// The commit of its checkpoint.
    pub(crate) first: u64,
    /// Where the next record begins.
    pub(crate) end: u64,
    /// Where its checkpoint ends.
    pub(crate) checkpoint_end: u64,
    /// The checksum of the last record.
    pub(crate) crc: u32,
    pub(crate) state: State,
    /// The last commit that is known to be synced.
    pub(crate) durable: u64,
    /// The last commit of a record that says it was to be synced.
    pub(crate) flagged: u64,
    /// All segments that were named before the checkpoint have numbers below; 0 if that is not known.
    pub(crate) above: u64,
    /// What was found behind the last record, if anything: where, and why it is none.
    pub(crate) cut: Option<(u64, Problem)>,
    /// Whether segments of commits that were not synced had to be looked at.
    pub(crate) checked: bool,
    /// Numbers of segments that commits above `durable` introduced.
    pub(crate) unsynced: Vec<u64>,
    /// All that were introduced.
    pub(crate) introduced: Vec<u64>,
    /// How many of them the checkpoint introduced.
    pub(crate) checkpoint_segments: usize,
    /// Bytes of the file.
    pub(crate) file_len: u64,
}

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    End,
    Commit(u64),
}

impl Journal {
    /// The newest journal of a store, read to its end.
    pub(crate) fn newest(layer: &Arc<dyn Layer>) -> Result<Journal, Error> {
        let mut last = None;
        for _ in 0..100 {
            let numbers = journals(&**layer)?;
            let Some(number) = numbers.last().copied() else {
                let problem = "there is no store; create one, or check the path".into();
                return Err(Error::NotAStore { path: layer.path(""), problem });
            };
            match Journal::read(layer, number, Until::End) {
                // A newer one took its place.
                Err(Error::Io { cause, .. })
                    if cause.kind() == std::io::ErrorKind::NotFound && last != Some(number) =>
                {
                    last = Some(number);
                }
                result => return result,
            }
        }
        let problem = "its journal is replaced again and again; try again".into();
        Err(Error::NotAStore { path: layer.path(""), problem })
    }

    /// Journal `number`, as far as wanted.
    pub(crate) fn read(layer: &Arc<dyn Layer>, number: u64, until: Until) -> Result<Journal, Error> {
        let path = layer.path(&names::journal(number));
        let file = layer
            .open(&names::journal(number), false)
            .map_err(Error::io(path.clone(), "cannot be opened"))?;
        let mut look = 1;
        loop {
            let bytes = read_all(&*file).map_err(Error::io(path.clone(), "cannot be read"))?.into();
            match Journal::of_bytes(layer, number, &bytes, until) {
                Err(Error::Damaged { .. }) if look < LOOKS => {
                    look += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => return result,
            }
        }
    }

    fn of_bytes(layer: &Arc<dyn Layer>, number: u64, bytes: &Bytes, until: Until) -> Result<Journal, Error> {
        let path = layer.path(&names::journal(number));
        let damaged =
            |offset, problem: &str| Error::Damaged { path: path.clone(), offset, problem: problem.into() };
        let found = bytes.get(..index(HEAD_LEN)).ok_or_else(|| damaged(0, "the journal is too short"))?;
        if crc32c(&[&found[..60]]) != u32::from_le_bytes(found[60..64].try_into().expect("four"))
            || found[..8] != MAGIC
        {
            return Err(damaged(0, "this is not the header of a journal"));
        }
        let word = |at: usize| u16::from_le_bytes([found[at], found[at + 1]]);
        if word(8) != VERSION.0 {
            return Err(Error::Newer { path, major: word(8), minor: word(10) });
        }
        if found[16..24] != number.to_le_bytes() {
            return Err(damaged(16, "the journal has another number than its name says"));
        }
        let above = u64::from_le_bytes(found[24..32].try_into().expect("eight"));
        if above > names::NUMBERS {
            return Err(damaged(24, "no segment can have such a number"));
        }
        let header_crc = u32::from_le_bytes(found[60..64].try_into().expect("four"));
        let first = record_at(bytes, HEAD_LEN)
            .filter(|first| {
                first.head.kind == Kind::Checkpoint && first.head.synced && first.head.previous == header_crc
            })
            .ok_or_else(|| damaged(HEAD_LEN, "the checkpoint is damaged"))?;
        let mut state = State::default();
        apply_all(&mut state, first.body, Some(bytes), None, layer)
            .and_then(|()| state.check_places())
            .map_err(|problem| damaged(HEAD_LEN, &problem))?;
        (state.commit, state.time) = (first.head.commit, first.head.time);
        let checkpoint_end = HEAD_LEN + first.len;
        let mut journal = Journal {
            number,
            first: state.commit,
            end: checkpoint_end.next_multiple_of(SECTOR),
            checkpoint_end,
            crc: first.crc,
            durable: state.commit,
            flagged: state.commit,
            above,
            introduced: state.segments.keys().copied().collect(),
            checkpoint_segments: state.segments.len(),
            state,
            cut: None,
            checked: false,
            unsynced: Vec::new(),
            file_len: bytes.len() as u64,
        };
        check_zero(bytes, checkpoint_end, journal.end).map_err(|at| damaged(at, "this should be zero"))?;
        journal.follow(layer, bytes, Some(bytes), 0, until)?;
        Ok(journal)
    }

    /// Takes the records that follow in `bytes`, which are those of the file from `base` on. If they are `whole`, rows stay where they
    /// lie; what is looked at again and again, with few new rows each time, is not kept.
    fn follow(
        &mut self,
        layer: &Arc<dyn Layer>,
        bytes: &[u8],
        whole: Option<&Bytes>,
        base: u64,
        until: Until,
    ) -> Result<(), Error> {
        let path = layer.path(&names::journal(self.number));
        // Records up to the first that is none, and what they know to be synced.
        let mut records: Vec<(u64, Found<'_>)> = Vec::new();
        let (mut at, mut crc, mut commit) = (self.end, self.crc, self.state.commit);
        let mut durable = self.durable;
        while let Some(found) = record_at(bytes, at - base) {
            let next = commit + u64::from(found.head.kind == Kind::Commit);
            if found.head.kind == Kind::Checkpoint || found.head.previous != crc || found.head.commit != next
            {
                break;
            }
            let end = after(at, &found);
            if check_zero(bytes, at + found.len - base, end - base).is_err() {
                break;
            }
            records.push((at, found));
            durable = durable.max(found.head.durable);
            (at, crc, commit) = (end, found.crc, found.head.commit);
        }
        // Something may stand behind that shows that what ended it had been synced.
        let lost = commit + 1;
        let mut look = at;
        let mut nonzero = None;
        let mut budget = (1 << 26) + 16 * bytes.len() as u64;
        let boot = layer.boot();
        let mut goes_on = false;
        while look < base + bytes.len() as u64 {
            let rest = &bytes[index(look - base)..];
            // Most of it is zero, and that is seen a page at a time.
            if rest.starts_with(&ZERO_PAGE) {
                look += 4096;
                continue;
            }
            let part = &rest[..rest.len().min(8)];
            if part.iter().any(|byte| *byte != 0) {
                nonzero.get_or_insert(look);
                if part.starts_with(&RECORD) && begins_record(rest) {
                    let damaged = |problem| Error::Damaged { path: path.clone(), offset: at, problem };
                    // What is no record of ours could look like many that overlap.
                    let len = u64::from_le_bytes(rest[8..16].try_into().expect("eight"));
                    let Some(left) = budget.checked_sub(HEAD_LEN.saturating_add(len)) else {
                        return Err(damaged(format!(
                            "the record of commit {lost} is damaged, and much behind it"
                        )));
                    };
                    budget = left;
                    let behind = record_at(bytes, look - base).map(|found| found.head);
                    let written = |head: &Head| head.commit >= lost + u64::from(head.kind == Kind::Commit);
                    match behind {
                        Some(head) if head.durable >= lost => {
                            return Err(damaged(format!(
                                "commit {lost} was synced, and its record is damaged"
                            )));
                        }
                        Some(head) if head.boot != 0 && head.boot == boot && written(&head) => goes_on = true,
                        _ => {}
                    }
                }
            }
            look += 8;
        }
        if goes_on {
            // A process that is killed leaves what it has written, in order.
            let problem = format!(
                "the record of commit {lost} is damaged: later ones are there, and the machine has not lost power since"
            );
            return Err(Error::Damaged { path, offset: at, problem });
        }
        self.cut = nonzero.map(|_| (at, "a record was cut short".into()));
        for (at, found) in records {
            let Head { kind, commit, .. } = found.head;
            if until == Until::Commit(self.state.commit) && kind == Kind::Commit {
                break;
            }
            if kind == Kind::Commit {
                let fail = |problem| Error::Damaged { path: path.clone(), offset: at, problem };
                let new = segments_of(found.body, &self.state, layer).map_err(fail)?;
                if commit > durable {
                    if !new.is_empty() && (found.head.boot == 0 || found.head.boot != boot) {
                        self.checked = true;
                        if let Some(bad) = new.iter().find(|segment| !segment.is_whole()) {
                            let problem = format!(
                                "commit {commit} was not synced, and segment {} is not whole",
                                bad.number
                            );
                            self.cut = Some((at, problem));
                            return Ok(());
                        }
                    }
                    self.unsynced.extend(new.iter().map(|segment| segment.number));
                }
                self.introduced.extend(new.iter().map(|segment| segment.number));
                apply_all(&mut self.state, found.body, whole, Some(found.head.time), layer).map_err(fail)?;
                (self.state.commit, self.state.time) = (commit, found.head.time);
            }
            self.end = after(at, &found);
            self.crc = found.crc;
            self.durable = self.durable.max(found.head.durable);
            if found.head.synced {
                self.flagged = commit;
            }
        }
        Ok(())
    }

    /// The same journal with what was written since, if anything was.
    pub(crate) fn refreshed(
        &self,
        layer: &Arc<dyn Layer>,
        file: &dyn LayerFile,
    ) -> Result<Option<Journal>, Error> {
        let path = layer.path(&names::journal(self.number));
        let mut look = 1;
        loop {
            let bytes = read_from(file, self.end).map_err(Error::io(path.clone(), "cannot be read"))?;
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            // What cannot be taken whole is not taken.
            let mut next = self.clone();
            match next.follow(layer, &bytes, None, self.end, Until::End) {
                Err(Error::Damaged { .. }) if look < LOOKS => {
                    look += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok((next.end != self.end).then_some(next)),
            }
        }
    }
}

/// Whether the head of a record may stand here, before anything is looked at that takes long.
fn begins_record(bytes: &[u8]) -> bool {
    let len = bytes.get(8..16).map(|len| u64::from_le_bytes(len.try_into().expect("eight")));
    let rest = (bytes.len() as u64).checked_sub(HEAD_LEN);
    rest.zip(len).is_some_and(|(rest, len)| len <= rest) && (1..=3).contains(&bytes[4])
}

/// Where the record after `found` begins.
fn after(at: u64, found: &Found<'_>) -> u64 {
    let end = at + found.len;
    if found.head.synced { end.next_multiple_of(SECTOR) } else { end }
}

fn apply_all(
    state: &mut State,
    body: &[u8],
    whole: Option<&Bytes>,
    time: Option<u64>,
    layer: &Arc<dyn Layer>,
) -> Result<(), Problem> {
    let mut wire = Wire(body);
    while !wire.is_empty() {
        let change = Change::decode(&mut wire, whole, state, layer)?;
        state.apply(&change, time)?;
    }
    Ok(())
}

/// The segments that a commit introduces, which it does before anything else.
fn segments_of(body: &[u8], state: &State, layer: &Arc<dyn Layer>) -> Result<Vec<Arc<Segment>>, Problem> {
    let (mut wire, mut segments) = (Wire(body), Vec::new());
    while wire.0.first() == Some(&1) {
        if let Change::Segment(segment) = Change::decode(&mut wire, None, state, layer)? {
            segments.push(segment);
        }
    }
    Ok(segments)
}

/// The numbers of the journals of a store, ascending.
pub(crate) fn journals(layer: &dyn Layer) -> Result<Vec<u64>, Error> {
    let names = layer.list().map_err(Error::io(layer.path(""), "cannot be listed"))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| names::journal_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Finds the first byte of a range that is not zero. Bytes beyond the end of the file are not there, and are no fault.
fn check_zero(bytes: &[u8], start: u64, end: u64) -> Result<(), u64> {
    let end = index(end).min(bytes.len());
    match bytes.get(index(start)..end).unwrap_or_default().iter().position(|byte| *byte != 0) {
        Some(at) => Err(start + at as u64),
        None => Ok(()),
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("it is in memory")
}

pub(crate) fn read_all(file: &dyn LayerFile) -> std::io::Result<Vec<u8>> {
    read_from(file, 0)
}

fn read_from(file: &dyn LayerFile, start: u64) -> std::io::Result<Vec<u8>> {
    let len = file.len()?.saturating_sub(start);
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| std::io::ErrorKind::FileTooLarge)?];
    cvc::huge_pages::advise(&mut bytes);
    let read = file.read_at(start, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
