//! The one place that knows whether work is spread over cores.

/// Does `work` for each item and keeps the results in order; on all cores with the feature `rayon`.
///
/// Each thread has a scratch of its own, made by `scratch` and used again from item to item.
///
/// # Errors
/// The error of the first item, in order, whose work failed: the same one however many threads there are.
pub(crate) fn try_map<T: Sync, S: Send, R: Send, E: Send>(
    items: &[T],
    scratch: impl Fn() -> S + Sync + Send,
    work: impl Fn(&mut S, &T) -> Result<R, E> + Sync + Send,
) -> Result<Vec<R>, E> {
    #[cfg(feature = "rayon")]
    {
        use rayon::prelude::*;
        // Collected before looking for errors, so that which one is reported does not depend on timing.
        let results: Vec<Result<R, E>> = items.par_iter().map_init(scratch, work).collect();
        results.into_iter().collect()
    }
    #[cfg(not(feature = "rayon"))]
    {
        let mut scratch = scratch();
        items.iter().map(|item| work(&mut scratch, item)).collect()
    }
}

/// Does `there` on other threads while this one does `here`; one after the other without the feature `rayon`.
pub(crate) fn beside<A: Send, B>(there: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (A, B) {
    #[cfg(feature = "rayon")]
    {
        let mut of_there = None;
        let of_here = rayon::in_place_scope(|scope| {
            scope.spawn(|_| of_there = Some(there()));
            here()
        });
        (of_there.expect("the scope waits for it"), of_here)
    }
    #[cfg(not(feature = "rayon"))]
    {
        let of_here = here();
        (there(), of_here)
    }
}

/// How many items [`try_map`] works on at the same time.
pub(crate) fn workers() -> usize {
    #[cfg(feature = "rayon")]
    {
        rayon::current_num_threads()
    }
    #[cfg(not(feature = "rayon"))]
    1
}
