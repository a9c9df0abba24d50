//! A file whose reading can be stopped, for work that the library does in one call.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cvc::ReadAt;
use cvc::codec::SourceError;
use cvc::io::FileSource;
use indicatif::ProgressBar;

use crate::interrupt::Interrupt;
use crate::report::Failure;

/// Fails once the caller has asked to stop, and counts what is read.
pub(crate) struct Watched {
    file: FileSource,
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl Watched {
    pub(crate) fn open(path: &Path, interrupt: &Interrupt, bar: &ProgressBar) -> Result<Self, Failure> {
        Ok(Watched { file: FileSource::open(path)?, interrupt: interrupt.clone(), bar: bar.clone() })
    }
}

impl ReadAt for Watched {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let len = into.len() as u64;
        if self.interrupt.check().is_err() {
            let cause = std::io::Error::from(std::io::ErrorKind::Interrupted);
            return Err(SourceError::Read { offset, len, cause: Arc::new(cause) });
        }
        self.file.read_at(offset, into)?;
        self.bar.inc(len);
        Ok(())
    }

    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        self.file.borrow(range)
    }
}
