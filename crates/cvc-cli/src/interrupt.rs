//! Ctrl-C: the work stops between two batches, so that temporary files are removed on the way out.
//!
//! A second Ctrl-C ends the program at once, whatever it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cvc::Error;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

use crate::report::Failure;

/// Whether the caller wants the work to stop.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the signals that end a program only ask it to stop.
    pub(crate) fn catch() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS {
            // Only the second signal finds the flag set. Where a signal cannot be caught it ends the program, as before.
            let _ = flag::register_conditional_shutdown(*signal, 1, Arc::clone(&asked));
            let _ = flag::register(*signal, Arc::clone(&asked));
        }
        Interrupt(asked)
    }

    /// Fails once the caller has asked.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// What to say of work that failed: that it was stopped, if it was.
    pub(crate) fn or(&self, error: Error) -> Failure {
        self.check().err().unwrap_or(Failure::Error(error))
    }
}
