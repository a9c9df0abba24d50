//! Work in processes that were forked, as `multiprocessing` and the workers of torch's `DataLoader` are on Linux.
//!
//! A forked process has one thread, and a memory in which the threads of its parent are still at work. Rayon's would be waited
//! for without end. So there a pool of its own is started, and the one of the parent left alone.

use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The process that loaded this module.
static HOME: OnceLock<u32> = OnceLock::new();

/// The pool of a process that was forked, and which process.
static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// Remembers where the threads of Rayon are.
pub(crate) fn remember_home() {
    HOME.get_or_init(process::id);
}

/// Does `work`, whose threads are those of this process.
pub(crate) fn at_home<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let here = process::id();
    if HOME.get().is_none_or(|home| *home == here) {
        return work();
    }
    match pool(here) {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

fn pool(here: u32) -> Option<Arc<ThreadPool>> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    match &*pool {
        Some((of, pool)) if *of == here => Some(pool.clone()),
        _ => {
            let new = Arc::new(ThreadPoolBuilder::new().build().ok()?);
            // The former one is that of a parent: to drop it would be to wait for its threads.
            std::mem::forget(pool.replace((here, new.clone())));
            Some(new)
        }
    }
}
