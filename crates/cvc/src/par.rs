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

/// What [`InOrder::next`] has.
pub(crate) enum Next<R> {
    /// The next result.
    Result(R),
    /// Not yet.
    Later,
    /// There is none any more.
    Done,
}

/// Lets `take` have the results of `work` for each item, in order, while other threads do the work; where there are none
/// (the feature `rayon` is off), it is done when a result is waited for.
///
/// A panic in `work` is one of this thread, at the latest when `take` has returned.
pub(crate) fn in_order<T: Sync, R: Send, X>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    take: impl FnOnce(&mut InOrder<'_, '_, T, R>) -> X,
) -> X {
    #[cfg(feature = "rayon")]
    {
        // First in, first out: also a thread that is one of the pool, and alone in it, works in the order of the items.
        rayon::in_place_scope_fifo(|scope| {
            let (sender, results) = std::sync::mpsc::channel();
            take(&mut InOrder {
                items,
                work: &work,
                begun: 0,
                slots: Default::default(),
                scope,
                sender,
                results,
            })
        })
    }
    #[cfg(not(feature = "rayon"))]
    take(&mut InOrder { items: items.iter(), work: &work })
}

/// Results of [`in_order`] that were not taken.
#[cfg(feature = "rayon")]
pub(crate) struct InOrder<'s, 'i, T, R> {
    items: &'i [T],
    work: &'i (dyn Fn(&T) -> R + Sync),
    /// Items on which work has begun.
    begun: usize,
    /// One for each of those whose result was not taken, in order; full where that is known.
    slots: std::collections::VecDeque<Option<R>>,
    scope: &'s rayon::ScopeFifo<'i>,
    sender: std::sync::mpsc::Sender<Finished<R>>,
    results: std::sync::mpsc::Receiver<Finished<R>>,
}

/// The number of an item and what became of it.
#[cfg(feature = "rayon")]
type Finished<R> = (usize, std::thread::Result<R>);

#[cfg(feature = "rayon")]
impl<'i, T: Sync, R: Send + 'i> InOrder<'_, 'i, T, R> {
    /// The next result, if it is there or `wait` is set. `most` is how many results there may be, known or still worked on,
    /// which were not taken: at least 1 where one is waited for.
    pub(crate) fn next(&mut self, most: usize, wait: bool) -> Next<R> {
        while self.slots.len() < most && self.begun < self.items.len() {
            let (number, item) = (self.begun, &self.items[self.begun]);
            let (work, sender) = (self.work, self.sender.clone());
            self.scope.spawn_fifo(move |_| {
                // A panic is carried over as well, or this thread would wait for a result that never comes. It goes on there as if
                // it had not been caught, so nobody sees what it left half done.
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
                // Nobody waits where an earlier item has failed.
                let _ = sender.send((number, result));
            });
            self.begun += 1;
            self.slots.push_back(None);
        }
        while let Ok(finished) = self.results.try_recv() {
            self.put(finished);
        }
        loop {
            match self.slots.front_mut().map(Option::take) {
                None => return if self.begun == self.items.len() { Next::Done } else { Next::Later },
                Some(Some(result)) => {
                    self.slots.pop_front();
                    return Next::Result(result);
                }
                Some(None) if wait => {
                    let finished = self.wait();
                    self.put(finished);
                }
                Some(None) => return Next::Later,
            }
        }
    }

    fn put(&mut self, (number, result): Finished<R>) {
        let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let taken = self.begun - self.slots.len();
        self.slots[number - taken] = Some(result);
    }

    /// Waits for any result. A thread of the pool works meanwhile, for it may be the only one.
    fn wait(&self) -> Finished<R> {
        const EXPECT: &str = "`self` has a sender";
        loop {
            if let Ok(finished) = self.results.try_recv() {
                return finished;
            }
            match rayon::yield_now() {
                None => return self.results.recv().expect(EXPECT),
                Some(rayon::Yield::Executed) => {}
                // Others have all of the work; look now and then whether there is some.
                Some(rayon::Yield::Idle) => {
                    if let Ok(finished) = self.results.recv_timeout(std::time::Duration::from_millis(1)) {
                        return finished;
                    }
                }
            }
        }
    }
}

/// Results of [`in_order`] that were not taken.
#[cfg(not(feature = "rayon"))]
pub(crate) struct InOrder<'w, 'i, T, R> {
    items: std::slice::Iter<'i, T>,
    work: &'w dyn Fn(&T) -> R,
}

#[cfg(not(feature = "rayon"))]
impl<T, R> InOrder<'_, '_, T, R> {
    /// The next result, if `wait` is set.
    pub(crate) fn next(&mut self, _most: usize, wait: bool) -> Next<R> {
        if self.items.len() == 0 {
            Next::Done
        } else if !wait {
            Next::Later
        } else {
            self.items.next().map_or(Next::Done, |item| Next::Result((self.work)(item)))
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const MOST: usize = 4;

    /// The results of `work` for `0..count`, looked for in all ways, with never more than [`MOST`] of them at a time.
    fn squares(count: usize, work: impl Fn(usize) + Sync) -> Vec<usize> {
        let items: Vec<usize> = (0..count).collect();
        let begun = AtomicUsize::new(0);
        let square = |item: &usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            work(*item);
            item * item
        };
        in_order(&items, square, |squares| {
            let mut taken = Vec::new();
            let mut wait = false;
            loop {
                match squares.next(MOST, wait) {
                    Next::Result(square) => taken.push(square),
                    Next::Later => assert!(!wait),
                    Next::Done => return taken,
                }
                assert!(begun.load(Ordering::Relaxed) <= taken.len() + MOST);
                wait = !wait;
            }
        })
    }

    fn everywhere(check: impl Fn() + Sync + Send) {
        check();
        #[cfg(feature = "rayon")]
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(&check);
            // On several threads of a pool at once.
            pool.broadcast(|_| check());
        }
    }

    #[test]
    fn results_come_in_order_and_few_at_a_time() {
        everywhere(|| {
            for count in [0, 1, 2, 100] {
                let expected: Vec<usize> = (0..count).map(|item| item * item).collect();
                assert_eq!(squares(count, |_| ()), expected);
                // The first of every few is the last to be done.
                let slow = |item: usize| (0..item % 3 * 10).for_each(|_| std::thread::yield_now());
                assert_eq!(squares(count, |item| slow(count - item)), expected);
            }
        });
    }

    #[test]
    fn what_is_not_taken_does_no_harm() {
        everywhere(|| {
            let items = [1, 2, 3, 4, 5];
            let first = in_order(&items, |item| Box::new(*item), |boxes| boxes.next(MOST, true));
            assert!(matches!(first, Next::Result(first) if *first == 1));
            assert!(matches!(in_order(&items, |item| *item, |items| items.next(0, false)), Next::Later));
        });
    }

    #[test]
    fn a_panic_is_one_of_who_waits() {
        everywhere(|| {
            let caught = std::panic::catch_unwind(|| squares(20, |item| assert_ne!(item, 7, "seven")));
            let panic = caught.unwrap_err();
            assert!(panic.downcast_ref::<String>().is_some_and(|message| message.contains("seven")));
            let items = [1, 2, 3];
            let caught = std::panic::catch_unwind(|| {
                in_order(
                    &items,
                    |item| *item,
                    |items| {
                        items.next(MOST, false);
                        panic!("here");
                    },
                )
            });
            assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"here"));
        });
    }
}
