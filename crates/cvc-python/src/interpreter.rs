//! The interpreter, in calls that other libraries make by pointers of C.
//!
//! PyO3 remembers for each thread whether it has the interpreter, and nobody tells it when a library of C lets go. A call of
//! ours that calls such a library, which lets go and calls us back on the same thread (DuckDB does when it scans a file for a
//! table that is being packed), would take itself for one that has it.
#![allow(unsafe_code, reason = "calls of the interpreter; the proofs are at each use")]

use pyo3::ffi;
use pyo3::prelude::*;

/// Does `work` while this thread has the interpreter, whether it had it before or not. Without one, as when the process ends,
/// `work` is done all the same.
pub(crate) fn with<T>(work: impl FnOnce() -> T) -> T {
    /// Gives back what was taken, after a panic too.
    struct Held(ffi::PyGILState_STATE);

    impl Drop for Held {
        fn drop(&mut self) {
            // SAFETY: this thread took it in `with`, and gives it back once.
            unsafe { ffi::PyGILState_Release(self.0) };
        }
    }

    // SAFETY: it may be asked at any time.
    if unsafe { ffi::Py_IsInitialized() } == 0 {
        return work();
    }
    // SAFETY: there is an interpreter, and any thread may take it, one that has it too.
    let _held = Held(unsafe { ffi::PyGILState_Ensure() });
    work()
}

/// Does `work` while this thread does not have the interpreter, whether it had it before or not.
pub(crate) fn without<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // SAFETY: it may be asked at any time.
    if unsafe { ffi::Py_IsInitialized() } == 0 {
        return work();
    }
    with(|| Python::attach(|py| py.detach(work)))
}
