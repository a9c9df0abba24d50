//! What a store holds at one commit, and how a change makes the next of it.
//!
//! A state is shared by whoever reads it. The writer changes it in place as long as nobody does, and what is shared is copied
//! first: arrays that are not changed never are, and the rows themselves never.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cvc::Json;
use cvc::format::native::MAX_ARRAY_ROWS;
use roaring::RoaringTreemap;

use crate::bits::{Bits, ranges_of};
use crate::change::Change;
use crate::runs::{Run, Runs, Source};
use crate::segment::Segment;
use crate::spec::{ArraySpec, check_name};
use crate::wire::Problem;

/// A range of positions with metadata.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) positions: Range<u64>,
    pub(crate) metadata: Json,
}

/// Everything a store holds at one commit.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) commit: u64,
    pub(crate) time: u64,
    pub(crate) keep: u64,
    pub(crate) metadata: Json,
    pub(crate) arrays: BTreeMap<String, Arc<ArrayState>>,
    /// All that the journal named so far.
    pub(crate) segments: BTreeMap<u64, Arc<Segment>>,
}

impl Default for State {
    fn default() -> State {
        State {
            commit: 0,
            time: 0,
            keep: 0,
            metadata: Json::Object(Vec::new()),
            arrays: BTreeMap::new(),
            segments: BTreeMap::new(),
        }
    }
}

/// One array at one commit.
#[derive(Clone, Debug)]
pub(crate) struct ArrayState {
    pub(crate) spec: ArraySpec,
    pub(crate) base: u64,
    pub(crate) next: u64,
    pub(crate) made: u64,
    pub(crate) changed: u64,
    pub(crate) metadata: Json,
    pub(crate) sections: Vec<Placed>,
    pub(crate) runs: Runs,
    /// Deleted positions.
    pub(crate) dead: RoaringTreemap,
    dead_count: u64,
    /// Bytes that inline rows brought since they were last folded.
    pub(crate) inline_bytes: u64,
    /// Another number after every change of rows that were there; the same as long as rows are only appended and deleted.
    pub(crate) generation: u64,
    live: OnceLock<Arc<Bits>>,
}

impl ArrayState {
    /// How many rows there are.
    pub(crate) fn rows(&self) -> u64 {
        self.next - self.base - self.dead_count
    }

    pub(crate) fn dead_count(&self) -> u64 {
        self.dead_count
    }

    /// Which positions are rows; `None` if all are.
    pub(crate) fn live(&self) -> Option<&Bits> {
        if self.dead_count == 0 {
            return None;
        }
        Some(self.live.get_or_init(|| Arc::new(Bits::new(self.base..self.next, &self.dead, false))))
    }

    /// The position of row `row`, which exists.
    pub(crate) fn position(&self, row: u64) -> u64 {
        match self.live() {
            None => self.base + row,
            Some(live) => live.select(row).expect("the row exists"),
        }
    }

    /// How many rows are before `position`.
    pub(crate) fn row_of(&self, position: u64) -> u64 {
        match self.live() {
            None => position.clamp(self.base, self.next) - self.base,
            Some(live) => live.rank(position),
        }
    }

    /// The ranges of positions of rows `rows`, which exist: (first, count).
    pub(crate) fn ranges(&self, rows: Range<u64>) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        self.each_range(rows, |start, len| ranges.push((start, len)));
        ranges
    }

    pub(crate) fn each_range(&self, rows: Range<u64>, mut each: impl FnMut(u64, u64)) {
        if rows.is_empty() {
            return;
        }
        let Some(live) = self.live() else { return each(self.base + rows.start, rows.end - rows.start) };
        let mut left = rows.end - rows.start;
        let mut at = live.select(rows.start).expect("the rows exist");
        while left > 0 {
            let end = live.run_end(at, at + left);
            each(at, end - at);
            left -= end - at;
            if left > 0 {
                at = live.select(live.rank(end)).expect("the rows exist");
            }
        }
    }

    fn put(&mut self, ranges: &[(u64, u64)], source: &Source, mut row: u64) -> Result<(), Problem> {
        if let Source::Segment(segment) = source {
            segment.is_of(&self.spec)?;
            let count = ranges.iter().try_fold(0u64, |sum, (_, len)| sum.checked_add(*len));
            if count.and_then(|count| row.checked_add(count)).is_none_or(|end| end > segment.rows) {
                return Err(format!("segment {} has {} rows, more are wanted", segment.number, segment.rows));
            }
        }
        for (start, len) in ranges {
            let end = start.checked_add(*len).filter(|end| *end <= self.base.saturating_add(MAX_ARRAY_ROWS));
            let Some(end) = end.filter(|_| *start >= self.base && *start <= self.next) else {
                return Err(format!("positions {start} and {len} more are not those of rows"));
            };
            if self.dead_count > 0 && *start < self.next && self.dead_within(*start..end.min(self.next)) {
                return Err("rows that were deleted are replaced".into());
            }
            if *start < self.next {
                self.generation = generation();
            }
            self.runs.insert(*start, Run { len: *len, source: source.clone(), row, holes: None });
            row += len;
            if end > self.next {
                self.next = end;
                self.live = OnceLock::new();
            }
        }
        Ok(())
    }

    fn dead_within(&self, range: Range<u64>) -> bool {
        let before = |position: u64| if position == 0 { 0 } else { self.dead.rank(position - 1) };
        before(range.end) > before(range.start)
    }

    fn fold(
        &mut self,
        positions: &RoaringTreemap,
        segment: &Arc<Segment>,
        first: u64,
    ) -> Result<(), Problem> {
        let out_of_range = positions.min().is_some_and(|min| min < self.base)
            || positions.max().is_some_and(|max| max >= self.next);
        if out_of_range || first.checked_add(positions.len()).is_none_or(|end| end > segment.rows) {
            return Err("rows are moved that are not there".into());
        }
        segment.is_of(&self.spec)?;
        // Ranges of positions, with those joined that have only dead positions between them.
        let mut joined: Vec<(Range<u64>, bool)> = Vec::new();
        for range in ranges_of(positions) {
            match joined.last_mut() {
                Some((last, holes)) if self.all_dead(last.end..range.start) => {
                    last.end = range.end;
                    *holes = true;
                }
                _ => joined.push((range, false)),
            }
        }
        let mut row = first;
        for (range, has_holes) in joined {
            let holes = has_holes.then(|| Arc::new(Bits::new(range.clone(), positions, false)));
            let len = range.end - range.start;
            let count = len - holes.as_ref().map_or(0, |holes| holes.count());
            self.runs
                .insert(range.start, Run { len, source: Source::Segment(Arc::clone(segment)), row, holes });
            row += count;
        }
        self.drop_dead_runs();
        Ok(())
    }

    /// Forgets the places of dead positions that keep a source for nothing.
    pub(crate) fn drop_dead_runs(&mut self) {
        if self.dead_count > 0 {
            let runs = self.runs.iter().filter(|(start, run)| self.all_dead(*start..start + run.len));
            let dead: Vec<u64> = runs.map(|(start, _)| start).collect();
            dead.into_iter().for_each(|start| self.runs.remove(start));
        }
    }

    fn all_dead(&self, range: Range<u64>) -> bool {
        let before = |position: u64| if position == 0 { 0 } else { self.dead.rank(position - 1) };
        self.dead_count > 0 && before(range.end) - before(range.start) == range.end - range.start
    }

    fn delete(&mut self, positions: &RoaringTreemap) -> Result<(), Problem> {
        let outside = positions.min().is_some_and(|min| min < self.base)
            || positions.max().is_some_and(|max| max >= self.next);
        if outside || !self.dead.is_disjoint(positions) {
            return Err("rows are deleted that are not there".into());
        }
        self.dead |= positions;
        self.dead_count += positions.len();
        self.live = OnceLock::new();
        Ok(())
    }
}

impl State {
    pub(crate) fn array(&self, name: &str) -> Result<&Arc<ArrayState>, Problem> {
        self.arrays.get(name).ok_or_else(|| format!("there is no array {name:?}"))
    }

    pub(crate) fn segment(&self, number: u64) -> Result<Arc<Segment>, Problem> {
        self.segments.get(&number).cloned().ok_or_else(|| format!("segment {number} was not introduced"))
    }

    fn array_mut(&mut self, name: &str) -> Result<&mut ArrayState, Problem> {
        let array = self.arrays.get_mut(name).ok_or_else(|| format!("there is no array {name:?}"))?;
        Ok(Arc::make_mut(array))
    }

    /// Applies a change that was made at `time`; in a checkpoint (`time` is `None`) no array counts as changed.
    pub(crate) fn apply(&mut self, change: &Change, time: Option<u64>) -> Result<(), Problem> {
        match change {
            Change::Segment(segment) => {
                self.segments.insert(segment.number, Arc::clone(segment));
            }
            Change::Create { name, spec, base, next, made, changed } => {
                check_name(name).map_err(|error| error.to_string())?;
                if base > next || next - base > MAX_ARRAY_ROWS || *next >= crate::names::NUMBERS {
                    return Err("an array has more rows than are possible".into());
                }
                if time.is_some() && base != next {
                    return Err("a new array has rows from nowhere".into());
                }
                let array = ArrayState {
                    spec: spec.clone(),
                    base: *base,
                    next: *next,
                    made: *made,
                    changed: *changed,
                    metadata: Json::Object(Vec::new()),
                    sections: Vec::new(),
                    runs: Runs::default(),
                    dead: RoaringTreemap::new(),
                    dead_count: 0,
                    inline_bytes: 0,
                    generation: generation(),
                    live: OnceLock::new(),
                };
                self.arrays.insert(name.clone(), Arc::new(array));
            }
            Change::Rows { name, ranges, source, row } => {
                let array = self.array_mut(name)?;
                array.put(ranges, source, *row)?;
                array.inline_bytes += match source {
                    Source::Segment(_) => 0,
                    Source::Values(bytes) => bytes.len() as u64,
                    Source::Strings(strings) => strings.text().len() as u64 + 4 * strings.len() as u64,
                    Source::File(reader) => reader.source().len(),
                };
                touch(array, time);
            }
            Change::Fold { name, positions, segment, row } => {
                self.array_mut(name)?.fold(positions, segment, *row)?;
            }
            Change::Delete { name, positions } => {
                let array = self.array_mut(name)?;
                array.delete(positions)?;
                touch(array, time);
            }
            Change::Drop { name } => {
                self.arrays.remove(name).ok_or_else(|| format!("there is no array {name:?}"))?;
            }
            Change::Rename { from, to } => {
                self.check_new(to)?;
                let array = self.arrays.remove(from).ok_or_else(|| format!("there is no array {from:?}"))?;
                self.arrays.insert(to.clone(), array);
            }
            Change::Clone { from, to, made } => {
                self.check_new(to)?;
                let mut array = ArrayState::clone(self.array(from)?);
                (array.made, array.changed, array.generation) = (*made, *made, generation());
                self.arrays.insert(to.clone(), Arc::new(array));
            }
            Change::ArrayMetadata { name, metadata } => {
                let array = self.array_mut(name)?;
                array.metadata = metadata.clone();
                touch(array, time);
            }
            Change::Metadata { metadata } => self.metadata = metadata.clone(),
            Change::Sections { name, sections } => {
                let array = self.array_mut(name)?;
                let sorted = sections.windows(2).all(|pair| pair[0].positions.end <= pair[1].positions.start);
                let inside = sections.iter().all(|section| {
                    let Range { start, end } = section.positions;
                    array.base <= start && start <= end && end <= array.next
                });
                if !(sorted && inside) {
                    return Err("sections overlap, or reach beyond the rows".into());
                }
                array.sections = sections.clone();
                touch(array, time);
            }
            Change::Keep { commits } => self.keep = *commits,
        }
        Ok(())
    }

    fn check_new(&self, name: &str) -> Result<(), Problem> {
        check_name(name).map_err(|error| error.to_string())?;
        if self.arrays.contains_key(name) {
            Err(format!("there is an array {name:?} already"))
        } else {
            Ok(())
        }
    }

    /// Refuses a state in which a row has no place.
    pub(crate) fn check_places(&self) -> Result<(), Problem> {
        for (name, array) in &self.arrays {
            // Dead positions have a place or none.
            let mut end = array.base;
            let ends = array.runs.iter().map(|(start, run)| (start, start + run.len));
            for (start, next) in ends.chain([(array.next, array.next)]) {
                if start > end && !array.all_dead(end..start) {
                    return Err(format!("array {name:?} has rows at {end}..{start} that are nowhere"));
                }
                end = next;
            }
        }
        Ok(())
    }

    /// The segments that any array needs, by number.
    pub(crate) fn needed(&self) -> BTreeMap<u64, Arc<Segment>> {
        let mut needed = BTreeMap::new();
        for array in self.arrays.values() {
            for (_, run) in array.runs.iter() {
                if let Source::Segment(segment) = &run.source {
                    needed.entry(segment.number).or_insert_with(|| Arc::clone(segment));
                }
            }
        }
        needed
    }

    /// The changes that make this state from nothing. Forgets segments that nothing needs.
    pub(crate) fn checkpoint(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = self.needed().into_values().map(Change::Segment).collect();
        if self.metadata.as_object() != Some(&[]) {
            changes.push(Change::Metadata { metadata: self.metadata.clone() });
        }
        if self.keep != 0 {
            changes.push(Change::Keep { commits: self.keep });
        }
        for (name, array) in &self.arrays {
            let name = || name.clone();
            changes.push(Change::Create {
                name: name(),
                spec: array.spec.clone(),
                base: array.base,
                next: array.next,
                made: array.made,
                changed: array.changed,
            });
            for (start, run) in array.runs.iter().filter(|(_, run)| run.holes.is_none()) {
                changes.push(run_change(&array.spec, name(), start, run));
            }
            if !array.dead.is_empty() {
                changes.push(Change::Delete { name: name(), positions: array.dead.clone() });
            }
            // What has holes comes after the dead positions, which they are.
            for (start, run) in array.runs.iter() {
                if let (Some(holes), Source::Segment(segment)) = (&run.holes, &run.source) {
                    let (positions, segment) = (without(start..start + run.len, holes), Arc::clone(segment));
                    changes.push(Change::Fold { name: name(), positions, segment, row: run.row });
                }
            }
            if array.metadata.as_object() != Some(&[]) {
                changes.push(Change::ArrayMetadata { name: name(), metadata: array.metadata.clone() });
            }
            if !array.sections.is_empty() {
                changes.push(Change::Sections { name: name(), sections: array.sections.clone() });
            }
        }
        changes
    }
}

/// The positions of a range that are no holes.
fn without(range: Range<u64>, holes: &Bits) -> RoaringTreemap {
    let mut positions = RoaringTreemap::new();
    let mut at = range.start;
    while at < range.end {
        let hole = holes.select(holes.rank(at)).unwrap_or(u64::MAX).min(range.end);
        positions.insert_range(at..hole);
        at = if hole < range.end { holes.run_end(hole, range.end) } else { hole };
    }
    positions
}

/// The change that puts a run without holes where it is.
fn run_change(spec: &ArraySpec, name: String, start: u64, run: &Run) -> Change {
    let Run { len, source, row, .. } = run;
    let ranges = vec![(start, *len)];
    let index = |row: u64| usize::try_from(row).expect("it is in memory");
    match source {
        Source::Values(bytes) => {
            let part = bytes.slice(index(*row) * spec.row_len()..index(row + len) * spec.row_len());
            Change::Rows { name, ranges, source: Source::Values(part), row: 0 }
        }
        Source::Strings(strings) => {
            let part = (index(*row)..index(row + len)).map(|row| strings.get(row)).collect();
            Change::Rows { name, ranges, source: Source::Strings(Arc::new(part)), row: 0 }
        }
        source => Change::Rows { name, ranges, source: source.clone(), row: *row },
    }
}

/// A number that no array had before in this process.
fn generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn touch(array: &mut ArrayState, time: Option<u64>) {
    if let Some(time) = time {
        array.changed = time;
    }
}
