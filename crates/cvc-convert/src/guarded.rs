//! Readers of other crates, some of which trust what a damaged file says of itself and panic where it lies. Here that is an error like
//! others: of the file, by its name.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;

/// Does what makes a reader.
pub(crate) fn guarded<T, E: From<ArrowError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // Whatever it was doing is let go of with it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
        Err(ArrowError::ParseError(format!("what it says of itself cannot be ({said})")).into())
    })
}

/// The batches of a reader, up to the first that it cannot give.
pub(crate) struct Guarded<R>(Option<R>);

impl<R> Guarded<R> {
    pub(crate) fn new(reader: R) -> Self {
        Guarded(Some(reader))
    }
}

impl<R: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for Guarded<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.0.take()?;
        let next = guarded(|| Ok::<_, ArrowError>((reader.next(), reader)));
        match next {
            Ok((Some(Ok(batch)), reader)) => {
                self.0 = Some(reader);
                Some(Ok(batch))
            }
            Ok((other, _)) => other,
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_last_word() {
        let empty = || Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
        let mut left = 3;
        let mut batches = Guarded::new(std::iter::from_fn(move || {
            left -= 1;
            assert!(left > 0, "{left} are left");
            Some(empty())
        }));
        assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("cannot be (0 are left)"), "{error}");
        assert!(batches.next().is_none());
    }
}
