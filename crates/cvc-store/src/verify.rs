//! Looking at every byte of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cvc::{ReadOptions, Reader};

use crate::error::Error;
use crate::journal::{Journal, Until, journals};
use crate::layer::Layer;
use crate::names;
use crate::runs::Source;
use crate::segment::Segment;
use crate::store::{Store, disk};

/// What was found of a whole store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StoreReport {
    /// Everything that is wrong. Empty if the store is as it was written.
    pub damage: Vec<StoreDamage>,
    /// Files that were looked at.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
}

impl StoreReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.damage.is_empty()
    }
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreDamage {
    /// The file, by its name in the directory.
    pub file: String,
    /// The bytes among which some are wrong.
    pub bytes: Range<u64>,
    /// The arrays that need them now.
    pub arrays: Vec<String>,
    /// What is wrong.
    pub what: String,
}

impl Store {
    /// Looks at every byte of every file: journals, and all segments.
    ///
    /// # Errors
    /// The directory cannot be read. What is wrong with the files is in the report.
    pub fn verify(&self) -> Result<StoreReport, Error> {
        verify_on(&self.inner.layer)
    }

    /// As [`Store::verify`], of a store that may be too damaged to be opened.
    ///
    /// # Errors
    /// There is no store, or the directory cannot be read.
    pub fn verify_at(path: impl AsRef<Path>) -> Result<StoreReport, Error> {
        verify_on(&disk(path.as_ref())?)
    }

    /// As [`Store::verify_at`], on any file layer.
    ///
    /// # Errors
    /// As [`Store::verify_at`].
    pub fn verify_layer(layer: &Arc<dyn Layer>) -> Result<StoreReport, Error> {
        verify_on(layer)
    }
}

fn verify_on(layer: &Arc<dyn Layer>) -> Result<StoreReport, Error> {
    let mut report = StoreReport::default();
    let numbers = journals(&**layer)?;
    if numbers.is_empty() {
        let problem = "there is no store; check the path".into();
        return Err(Error::NotAStore { path: layer.path(""), problem });
    }
    // Segments that a journal knows, and the arrays that need them now.
    let mut known: BTreeMap<u64, (Arc<Segment>, BTreeSet<String>)> = BTreeMap::new();
    let mut read: Vec<Journal> = Vec::new();
    for number in numbers.iter().copied() {
        let name = names::journal(number);
        let whole = |len| 0..len;
        let damage = |bytes, what| StoreDamage { file: name.clone(), bytes, arrays: Vec::new(), what };
        report.files += 1;
        match Journal::read(layer, number, Until::End) {
            Ok(journal) => {
                report.bytes += journal.file_len;
                if let Some((at, what)) = &journal.cut {
                    let what = format!("{what}; the next writer cuts it off");
                    report.damage.push(damage(*at..journal.file_len, what));
                }
                let current = Some(&number) == numbers.last();
                for segment in journal.state.segments.values() {
                    known.entry(segment.number).or_insert_with(|| (Arc::clone(segment), BTreeSet::new()));
                }
                for (name, array) in journal.state.arrays.iter().filter(|_| current) {
                    for (_, run) in array.runs.iter() {
                        if let Source::Segment(segment) = &run.source
                            && let Some((_, arrays)) = known.get_mut(&segment.number)
                        {
                            arrays.insert(name.clone());
                        }
                    }
                }
                read.push(journal);
            }
            // It was replaced while we looked.
            Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(Error::Damaged { offset, problem, .. }) => {
                report.damage.push(damage(offset..offset + 1, problem));
            }
            Err(error @ (Error::Newer { .. } | Error::Io { .. })) => return Err(error),
            Err(error) => report.damage.push(damage(whole(0), error.to_string())),
        }
    }
    let listed = layer.list().map_err(Error::io(layer.path(""), "cannot be listed"))?;
    let on_disk: BTreeSet<u64> = listed.iter().filter_map(|name| names::segment_number(name)).collect();
    // Journals that hold no commit that is kept are on their way out, and their segments with them.
    let oldest = read.last().map_or(0, |last| last.state.commit.saturating_sub(last.state.keep));
    let left = journals(&**layer)?;
    let kept = read.iter().enumerate().filter(|(at, journal)| {
        left.contains(&journal.number) && read.get(at + 1).is_none_or(|next| next.first > oldest)
    });
    let named: BTreeSet<u64> = kept.flat_map(|(_, journal)| journal.introduced.iter().copied()).collect();
    for number in on_disk.union(&named).copied() {
        let (segment, arrays) = match known.get(&number) {
            Some((segment, arrays)) => (Some(segment), arrays.iter().cloned().collect()),
            None => (None, Vec::new()),
        };
        verify_segment(layer, number, segment, &arrays, &mut report)?;
    }
    Ok(report)
}

fn verify_segment(
    layer: &Arc<dyn Layer>,
    number: u64,
    segment: Option<&Arc<Segment>>,
    arrays: &[String],
    report: &mut StoreReport,
) -> Result<(), Error> {
    let file = names::segment(number);
    let damage = |bytes, what| StoreDamage { file: file.clone(), bytes, arrays: arrays.to_vec(), what };
    let own;
    let reader = match segment {
        Some(segment) => match segment.reader() {
            Ok(reader) => reader,
            Err(Error::Damaged { offset, problem, .. }) => {
                report.files += 1;
                report.damage.push(damage(offset..segment.len.max(offset + 1), problem));
                return Ok(());
            }
            Err(error) => {
                report.files += 1;
                report.damage.push(damage(0..segment.len, error.to_string()));
                return Ok(());
            }
        },
        // Nobody needs it; it is on its way in or out. What can be told of it is told.
        None => {
            let Ok(source) = layer.segment(&file) else { return Ok(()) };
            match Reader::new(source, ReadOptions::default()) {
                Ok(reader) => {
                    own = reader;
                    &own
                }
                Err(_) => return Ok(()),
            }
        }
    };
    report.files += 1;
    report.bytes += reader.source().len();
    let fail = |error| Error::Segment { path: layer.path(&file), error: Box::new(error) };
    for found in reader.verify().map_err(fail)?.damage {
        let what = format!("rows {}..{} of the segment: {}", found.rows.start, found.rows.end, found.what);
        let (start, end) =
            (found.bytes.first().map_or(0, |r| r.start), found.bytes.last().map_or(0, |r| r.end));
        report.damage.push(damage(start..end, what));
    }
    Ok(())
}
