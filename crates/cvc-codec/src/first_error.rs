//! Which of several failures a backend reports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::backend::DecodeError;

/// The failure of the lowest destination row, whatever the order in which threads meet failures.
#[derive(Debug)]
pub struct FirstError {
    /// That row; `u64::MAX` while there is no failure.
    row: AtomicU64,
    error: Mutex<Option<(u64, DecodeError)>>,
}

impl Default for FirstError {
    fn default() -> Self {
        FirstError { row: AtomicU64::new(u64::MAX), error: Mutex::new(None) }
    }
}

impl FirstError {
    /// Whether a failure before `row` is known, so that nothing need be done for the rows from there on.
    pub fn is_before(&self, row: u64) -> bool {
        // A stale value only means work for nothing; the lock in `note` decides.
        self.row.load(Ordering::Relaxed) <= row
    }

    /// Work for destination rows from `row` on has failed.
    pub fn note(&self, row: u64, error: DecodeError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(first_row, _)| row < *first_row) {
            *first = Some((row, error));
            self.row.store(row, Ordering::Relaxed);
        }
    }

    /// That failure, if there was any.
    ///
    /// # Errors
    /// It.
    pub fn into_result(self) -> Result<(), DecodeError> {
        match self.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}
