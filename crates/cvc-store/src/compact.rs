//! Compaction: rows move to new segments, and nothing that a reader can see changes.
//!
//! The journal is replaced with few rows left in it ([`fold`]); [`Store::compact`] goes over everything, a window at a time,
//! and each window is a commit of its own. So it can stop anywhere, and what it did stays done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cvc::{AlignedBytes, Array, RowSlice, Rows};
use roaring::RoaringTreemap;

use crate::bits::ranges_of;
use crate::change::Change;
use crate::edit::write_segment;
use crate::error::Error;
use crate::read::{first_array, index, no_place, read_positions, read_strings};
use crate::runs::{Run, Source};
use crate::segment::Segment;
use crate::state::{ArrayState, State};
use crate::store::{Inner, Store};
use crate::writer::Durability;

/// Small segments of one array that are worth folding together.
const MANY_SMALL: usize = 4;

/// Bytes of rows that one window of a compaction moves.
const WINDOW_LEN: u64 = 64 << 20;

/// Bytes of rows that are decoded at a time.
const BATCH_LEN: u64 = 16 << 20;

/// The share of its rows, in percent, that a segment may have for nothing.
const GARBAGE: u64 = 10;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// Rows that moved.
    pub rows: u64,
    /// Segments that were written.
    pub segments: usize,
    /// Bytes of all files before.
    pub bytes_before: u64,
    /// Bytes of all files after.
    pub bytes_after: u64,
    /// Whether it went over everything.
    pub finished: bool,
}

/// The state with its inline rows in segments, where they are many, and these segments.
pub(crate) fn fold(inner: &Inner, head: &State) -> Result<(State, Vec<Arc<Segment>>), Error> {
    let (mut state, mut new) = (head.clone(), Vec::new());
    let made = fold_arrays(inner, head, &mut state, &mut new);
    if let Err(error) = made {
        inner.give_up(&new.iter().map(|segment| segment.number).collect::<Vec<_>>());
        return Err(error);
    }
    state.segments = state.needed();
    Ok((state, new))
}

fn fold_arrays(
    inner: &Inner,
    head: &State,
    state: &mut State,
    new: &mut Vec<Arc<Segment>>,
) -> Result<(), Error> {
    let shared = shared_segments(head);
    for (name, array) in &head.arrays {
        let small = small_segments(inner, array, &shared);
        let many = array.inline_bytes > inner.options.inline_len
            || array.runs.iter().any(|(_, run)| matches!(run.source, Source::File(_)));
        let scattered = scattered(array);
        if !many && small.len() < MANY_SMALL && scattered.is_empty() {
            continue;
        }
        let small = if small.len() < MANY_SMALL { BTreeSet::new() } else { small };
        let positions = positions_of(array, |run| match &run.source {
            Source::Segment(segment) => small.contains(&segment.number),
            _ => true,
        }) | scattered;
        if !positions.is_empty() {
            let segment = write_positions(inner, name, array, &positions)?;
            new.push(Arc::clone(&segment));
            state.apply(&Change::Segment(Arc::clone(&segment)), None).expect("nothing can be wrong with it");
            let fold = Change::Fold { name: name.clone(), positions, segment, row: 0 };
            state.apply(&fold, None).expect("the rows are there");
        }
        let array = state.arrays.get_mut(name).expect("it was there before");
        let array = Arc::make_mut(array);
        array.drop_dead_runs();
        array.inline_bytes = 0;
    }
    Ok(())
}

/// The segments that several arrays need.
fn shared_segments(state: &State) -> BTreeSet<u64> {
    let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for array in state.arrays.values() {
        let of_array: BTreeSet<u64> = array.runs.iter().filter_map(|(_, run)| segment_of(run)).collect();
        shared.extend(of_array.into_iter().filter(|number| !seen.insert(*number)));
    }
    shared
}

fn segment_of(run: &Run) -> Option<u64> {
    if let Source::Segment(segment) = &run.source { Some(segment.number) } else { None }
}

/// The small segments of an array. By the bytes of their rows: however well these are compressed, a segment of many is never
/// written anew for that. What another array needs as well would only be there twice.
fn small_segments(inner: &Inner, array: &ArrayState, shared: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut small = BTreeSet::new();
    for (_, run) in array.runs.iter() {
        if let Source::Segment(segment) = &run.source {
            let len = match array.spec.row_len() {
                0 => segment.len,
                len => segment.rows.saturating_mul(len as u64),
            };
            if len < inner.options.segment_len && !shared.contains(&segment.number) {
                small.insert(segment.number);
            }
        }
    }
    small
}

/// Rows of a part of an array that is looked at for how its rows are scattered.
const PART_ROWS: u64 = 1 << 14;

/// Rows to a run, below which a part is written anew.
const RUN_ROWS: u64 = 64;

/// Bytes of rows that are written anew for that when a journal is replaced.
const SCATTERED_LEN: u64 = 256 << 20;

/// The rows of parts of an array that lie in so many places that the checkpoint would be long.
fn scattered(array: &ArrayState) -> RoaringTreemap {
    let mut parts: BTreeMap<u64, u64> = BTreeMap::new();
    array.runs.iter().for_each(|(start, _)| *parts.entry(start / PART_ROWS).or_default() += 1);
    let mut parts: Vec<(u64, u64)> =
        parts.into_iter().filter(|(_, runs)| runs * RUN_ROWS > PART_ROWS).collect();
    // Those first from which most is gained.
    parts.sort_unstable_by_key(|(part, runs)| (std::cmp::Reverse(*runs), *part));
    let part_len = PART_ROWS * array.spec.row_len().max(64) as u64;
    parts.truncate(index((SCATTERED_LEN / part_len).max(1)));
    let mut positions = RoaringTreemap::new();
    for (part, _) in parts {
        let start = (part * PART_ROWS).max(array.base);
        let end = ((part + 1) * PART_ROWS).min(array.next);
        array.each_range(array.row_of(start)..array.row_of(end), |first, len| {
            positions.insert_range(first..first + len);
        });
    }
    positions
}

/// The positions that are rows, in runs of which `wanted` is true.
fn positions_of(array: &ArrayState, wanted: impl Fn(&Run) -> bool) -> RoaringTreemap {
    let mut positions = RoaringTreemap::new();
    for (start, run) in array.runs.iter().filter(|(_, run)| wanted(run)) {
        let rows = array.row_of(start)..array.row_of(start + run.len);
        array.each_range(rows, |first, len| {
            positions.insert_range(first..first + len);
        });
    }
    positions
}

/// Writes the rows of these positions, which are not dead, to a segment.
pub(crate) fn write_positions(
    inner: &Inner,
    name: &str,
    array: &ArrayState,
    positions: &RoaringTreemap,
) -> Result<Arc<Segment>, Error> {
    let mut failed = None;
    let written = write_segment(inner, name, &array.spec, Some(positions.len()), |writer| {
        write_rows(name, array, &ranges_of(positions), writer).map_err(|error| {
            let message = error.to_string();
            failed = Some(error);
            cvc::Error::Output(std::io::Error::other(message))
        })
    });
    match failed {
        Some(error) => Err(error),
        None => written,
    }
}

pub(crate) fn write_rows<W: std::io::Write>(
    name: &str,
    array: &ArrayState,
    ranges: &[std::ops::Range<u64>],
    writer: &mut cvc::Writer<cvc::writer::ToSink<W>>,
) -> Result<(), Error> {
    let output = |error: cvc::Error| match error {
        cvc::Error::Output(cause) => {
            Error::io(name.into(), "a segment of this array cannot be written")(cause)
        }
        error => Error::rows(name)(error),
    };
    if !array.spec.is_lossless() {
        // Codes are copied: what rows decode to must not change.
        let mut from: Vec<(Array<'_>, Vec<std::ops::Range<u64>>)> = Vec::new();
        let mut last: Option<&Source> = None;
        for range in ranges {
            let mut position = range.start;
            while position < range.end {
                let (start, run) = array.runs.of(position).ok_or_else(|| no_place(position))?;
                let stop = range.end.min(start + run.len);
                let row = run.row_of(start, position);
                let rows = row..row + (stop - position);
                match (from.last_mut(), last) {
                    (Some((_, list)), Some(last)) if last.is(&run.source) => list.push(rows),
                    _ => {
                        let of = match &run.source {
                            Source::Segment(segment) => segment.array()?,
                            Source::File(reader) => first_array(reader),
                            Source::Values(_) | Source::Strings(_) => {
                                unreachable!("rows of a lossy codec are encoded")
                            }
                        };
                        from.push((of, vec![rows]));
                    }
                }
                last = Some(&run.source);
                position = stop;
            }
        }
        let from: Vec<(Array<'_>, Rows)> =
            from.into_iter().map(|(of, rows)| (of, Rows::from(rows))).collect();
        return writer.copy_rows(0, &from).map_err(output);
    }
    let row_len = array.spec.row_len().max(1) as u64;
    let most = (BATCH_LEN / row_len).clamp(1, 1 << 16);
    let mut bytes = AlignedBytes::new();
    for batch in batches(ranges, most) {
        let count: u64 = batch.iter().map(|(_, len)| len).sum();
        let each = |each: &mut dyn FnMut(u64, u64)| {
            batch.iter().for_each(|(start, len)| each(*start, *len));
            Ok(())
        };
        match array.spec.dtype() {
            Some(dtype) => {
                let dim = array.spec.dim() as usize;
                let out = bytes.resize(index(count) * dim * dtype.size());
                read_positions(name, array, dtype, out, each)?;
                let rows = RowSlice::from_bytes(dtype, index(count), dim, bytes.bytes());
                writer.write_vectors(rows.map_err(|error| output(error.into()))?).map_err(output)?;
            }
            None => {
                let strings = read_strings(name, array, each)?;
                writer.write(&[&strings]).map_err(output)?;
            }
        }
    }
    Ok(())
}

/// Ranges in groups of at most `most` rows: (first, count).
fn batches(ranges: &[std::ops::Range<u64>], most: u64) -> Vec<Vec<(u64, u64)>> {
    let mut batches: Vec<Vec<(u64, u64)>> = Vec::new();
    let mut room = 0;
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            if room == 0 {
                batches.push(Vec::new());
                room = most;
            }
            let len = room.min(range.end - start);
            batches.last_mut().expect("just pushed").push((start, len));
            room -= len;
            start += len;
        }
    }
    batches
}

impl Store {
    /// Moves rows so that no space is taken by what is gone: rows that were replaced or deleted, small changes. It can run
    /// beside readers and beside changes.
    ///
    /// # Errors
    /// The disk refuses; what was done until then stays done, and nothing is lost.
    pub fn compact(&self) -> Result<CompactReport, Error> {
        self.compact_while(|_| true)
    }

    /// As [`Store::compact`], as long as `go_on` says so, which is asked after every window with the rows that moved so far.
    ///
    /// # Errors
    /// As [`Store::compact`].
    pub fn compact_while(&self, mut go_on: impl FnMut(u64) -> bool) -> Result<CompactReport, Error> {
        let mut report =
            CompactReport { bytes_before: self.disk_len()?, finished: true, ..CompactReport::default() };
        let names = self.names();
        'arrays: for name in names {
            // What moves is decided once; what is changed meanwhile is left for the next time.
            let state = self.head();
            let Some(array) = state.arrays.get(&name) else { continue };
            let sources = garbage(&self.inner, &state, array);
            let all = positions_of(array, |run| match &run.source {
                Source::Segment(segment) => sources.contains(&segment.number),
                _ => true,
            });
            let array = Arc::clone(array);
            drop(state);
            let row_len = match array.spec.row_len() {
                0 => 64,
                len => len as u64,
            };
            for window in windows(&all, (WINDOW_LEN / row_len).max(1)) {
                if self.move_window(&name, &array, window.clone())? {
                    report.rows += window.len();
                    report.segments += 1;
                }
                if !go_on(report.rows) {
                    report.finished = false;
                    break 'arrays;
                }
            }
        }
        self.checkpoint()?;
        report.bytes_after = self.disk_len()?;
        Ok(report)
    }

    /// Moves the rows of these positions to a new segment, unless one of them was changed meanwhile.
    fn move_window(&self, name: &str, array: &ArrayState, positions: RoaringTreemap) -> Result<bool, Error> {
        let segment = write_positions(&self.inner, name, array, &positions)?;
        let pending = [segment.number];
        let mut writer = self.writer()?;
        self.before_commit(&mut writer)?;
        let head = self.head();
        let same = head.arrays.get(name).is_some_and(|now| is_unchanged(array, now, &positions));
        let commit = head.commit + 1;
        drop(head);
        if !same {
            self.inner.give_up(&pending);
            return Ok(false);
        }
        let changes = vec![
            Change::Segment(Arc::clone(&segment)),
            Change::Fold { name: name.to_owned(), positions, segment, row: 0 },
        ];
        self.commit(&mut writer, changes, commit, Durability::Buffered, &pending)?;
        Ok(true)
    }

    /// Bytes of all files of the store.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn disk_len(&self) -> Result<u64, Error> {
        let layer = &self.inner.layer;
        let names = layer.list().map_err(Error::io(layer.path(""), "cannot be listed"))?;
        let mut sum = 0;
        for name in names {
            let ours = crate::names::segment_number(&name).is_some()
                || crate::names::journal_number(&name).is_some();
            // One that was just removed has no bytes.
            if ours && let Ok(file) = layer.open(&name, false) {
                sum += file.len().map_err(Error::io(layer.path(&name), "cannot be looked at"))?;
            }
        }
        Ok(sum)
    }
}

/// Whether the rows of these positions lie where they lay.
fn is_unchanged(before: &ArrayState, now: &ArrayState, positions: &RoaringTreemap) -> bool {
    let places = |array: &ArrayState, position: u64| {
        array
            .runs
            .of(position)
            .map(|(start, run)| (run.source.clone(), run.row_of(start, position), start + run.len))
    };
    ranges_of(positions).into_iter().all(|range| {
        let mut position = range.start;
        while position < range.end {
            match (places(before, position), places(now, position)) {
                (Some((a, a_row, a_end)), Some((b, b_row, b_end))) if a.is(&b) && a_row == b_row => {
                    position = a_end.min(b_end);
                }
                _ => return false,
            }
        }
        true
    })
}

/// The segments of an array that are worth rewriting: those with rows that nobody needs, and small ones if there are several.
fn garbage(inner: &Inner, state: &State, array: &ArrayState) -> BTreeSet<u64> {
    let mut used: BTreeMap<u64, u64> = BTreeMap::new();
    for array in state.arrays.values() {
        for (start, run) in array.runs.iter() {
            if let Source::Segment(segment) = &run.source {
                *used.entry(segment.number).or_default() +=
                    array.row_of(start + run.len) - array.row_of(start);
            }
        }
    }
    let small = small_segments(inner, array, &shared_segments(state));
    let small = if small.len() > 1 { small } else { BTreeSet::new() };
    let of_array = array.runs.iter().filter_map(|(_, run)| match &run.source {
        Source::Segment(segment) => Some(segment),
        _ => None,
    });
    of_array
        .filter(|segment| {
            let used = used.get(&segment.number).copied().unwrap_or(0);
            let wasted = segment.rows.saturating_sub(used);
            wasted > 0 && wasted * 100 >= segment.rows * GARBAGE || small.contains(&segment.number)
        })
        .map(|segment| segment.number)
        .collect()
}

/// Positions in groups of at most `most`.
fn windows(positions: &RoaringTreemap, most: u64) -> Vec<RoaringTreemap> {
    let batches = batches(&ranges_of(positions), most);
    let window = |ranges: Vec<(u64, u64)>| {
        let mut window = RoaringTreemap::new();
        for (start, len) in ranges {
            window.insert_range(start..start + len);
        }
        window
    };
    batches.into_iter().map(window).collect()
}
