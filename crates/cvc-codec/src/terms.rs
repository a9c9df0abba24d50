//! What scans of an array found out about its rows alone, kept for the scans that follow.
//!
//! A bound on how good a row can be needs numbers that do not depend on the query, above all the row's length. Computing them takes
//! a good part of a search for one query, so they are kept: [`TERMS`] numbers for each row, in no more memory than was allowed.
//! They are a cache and nothing else: what a scan finds does not depend on them.

use core::fmt;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use cvc_format::ChunkId;

use crate::scan::Metric;

/// Numbers that are kept for a row.
pub const TERMS: usize = 5;

/// The terms of an array's rows, of those runs of rows that fit into the memory allowed.
pub struct TermsCache {
    limit: usize,
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    runs: HashMap<TermsKey, Arc<[f32]>>,
    bytes: usize,
}

/// Which rows, and what of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TermsKey {
    /// The chunk of the array.
    pub chunk: ChunkId,
    /// The first row of a run of rows that are always scanned together, counted from the start of the chunk.
    pub first_row: u32,
    /// How many values of each row are looked at.
    pub dim: u32,
    /// For which metric.
    pub metric: Metric,
}

impl TermsCache {
    /// An empty one that takes at most about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        TermsCache { limit, kept: RwLock::default() }
    }

    /// The terms of a run, term after term, each for all rows of the run; if they were kept.
    pub fn get(&self, key: &TermsKey) -> Option<Arc<[f32]>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.runs.get(key).cloned()
    }

    /// Keeps the terms of a run if there is room. Those that came first stay.
    pub fn keep(&self, key: TermsKey, terms: &[f32]) {
        let len = size_of_val(terms) + size_of::<(TermsKey, Arc<[f32]>)>();
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let Kept { runs, bytes } = &mut *kept;
        if *bytes + len <= self.limit
            && let Entry::Vacant(free) = runs.entry(key)
        {
            free.insert(terms.into());
            *bytes += len;
        }
    }

    /// The memory that is in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

impl fmt::Debug for TermsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TermsCache").field("limit", &self.limit).field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_fits() {
        let key = |first_row| TermsKey { chunk: ChunkId(0), first_row, dim: 4, metric: Metric::Dot };
        let entry = size_of::<(TermsKey, Arc<[f32]>)>();
        let cache = TermsCache::new(2 * (40 + entry));
        for first_row in 0..4 {
            cache.keep(key(first_row), &[first_row as f32; 10]);
        }
        cache.keep(key(0), &[9.0; 10]);
        assert_eq!(cache.bytes(), 2 * (40 + entry));
        assert_eq!(cache.get(&key(0)).as_deref(), Some([0.0; 10].as_slice()));
        assert!(cache.get(&key(1)).is_some() && cache.get(&key(2)).is_none());
        assert!(cache.get(&TermsKey { metric: Metric::Cosine, ..key(0) }).is_none());
    }
}
