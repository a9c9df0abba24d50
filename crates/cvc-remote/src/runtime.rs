//! Where requests are at work: one thread, started when it is first needed, for all files of a process.
//!
//! Callers wait for it, whatever they are: it blocks no more than their own thread, and works inside another runtime, too. A
//! process that was forked has its parent's memory and none of its threads, so there a new one is started, and
//! nothing that belongs to the former is touched.

use std::future::Future;
use std::io;
use std::process;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};

use crate::error::RemoteError;

/// The runtime of a process, and which process. It is never shut down: connections may outlive whoever asked.
static RUNTIME: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// The runtime of this process.
///
/// # Errors
/// The system has no thread for it.
pub(crate) fn runtime() -> Result<&'static Runtime, RemoteError> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let here = process::id();
    if let Some((of, runtime)) = *runtime
        && of == here
    {
        return Ok(runtime);
    }
    let new = Builder::new_multi_thread().worker_threads(1).thread_name("cvc-remote").enable_all().build();
    let new: &'static Runtime = Box::leak(Box::new(new.map_err(system)?));
    *runtime = Some((here, new));
    Ok(new)
}

/// Does `work` there, and waits for what it gives.
///
/// # Errors
/// There is no runtime, or the work panicked.
pub(crate) fn wait<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, RemoteError> {
    let (send, receive) = channel();
    runtime()?.spawn(async move {
        // Whoever waited is gone, then.
        let _ = send.send(work.await);
    });
    receive.recv().map_err(|_| lost())
}

pub(crate) fn system(cause: io::Error) -> RemoteError {
    RemoteError::System(Arc::new(cause))
}

/// Work that panicked.
pub(crate) fn lost() -> RemoteError {
    system(io::Error::other("a request ended without an answer: this is a bug of cvc, please report it"))
}
