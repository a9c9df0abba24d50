//! A file whose reading can be stopped, for work that the library does in one call.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cvc::ReadAt;
use cvc::codec::SourceError;
use indicatif::ProgressBar;

use crate::interrupt::Interrupt;
use crate::remote::RemoteArgs;
use crate::report::Failure;

/// Fails once the caller has asked to stop, and counts what is read.
pub(crate) struct Watched {
    file: Box<dyn ReadAt>,
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl Watched {
    pub(crate) fn open(
        path: &Path,
        remote: &RemoteArgs,
        interrupt: &Interrupt,
        bar: &ProgressBar,
    ) -> Result<Self, Failure> {
        Ok(Watched { file: remote.source(path)?, interrupt: interrupt.clone(), bar: bar.clone() })
    }
}

impl ReadAt for Watched {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.read_ranges(&mut [(offset, into)])
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
        let len = ranges.iter().map(|(_, into)| into.len() as u64).sum();
        let offset = ranges.first().map_or(0, |(offset, _)| *offset);
        if self.interrupt.check().is_err() {
            let cause = std::io::Error::from(std::io::ErrorKind::Interrupted);
            return Err(SourceError::Read { offset, len, cause: Arc::new(cause) });
        }
        self.file.read_ranges(ranges)?;
        self.bar.inc(len);
        Ok(())
    }

    fn will_need(&self, range: Range<u64>) {
        self.file.will_need(range);
    }

    fn ahead_len(&self) -> u64 {
        self.file.ahead_len()
    }

    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        self.file.borrow(range)
    }
}
