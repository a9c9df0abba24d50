//! How ops write their results: through the caches, or past them.
//!
//! A processor that stores to memory it does not have in its caches reads the line first, and writes it back when it
//! runs out of place: the line travels twice. A *streaming* store sends a whole line to memory and leaves the caches
//! alone. That is worth it for results larger than the caches in pages that were touched before, and a loss for small
//! results and fresh pages ([`CpuBackend`](crate::CpuBackend) decides; the figures are in `backend.rs`).
//!
//! The rules that all ops share:
//!
//! 1. Only whole lines of 64 bytes are streamed. The values before the first and after the last one of a destination are
//!    stored as usual.
//! 2. With AVX-512, the first line of every 4 KiB is stored as usual. On a processor of the Zen 5 class streaming stores that
//!    never pause come out slower: one ordinary line in 64 raised one thread from 28 GB/s to 33 for `affine_u8`, from 23 to 27
//!    for `widen_f16` (a scratch program, the machine of [`super`]; one in 16 did the same, one in 8 was worse, a fence each
//!    4 KiB halved the rate). On one of the Zen 3 class, which has no AVX-512, it is the other way round: 16.5 GB/s to 20 for
//!    `widen_f16` and 18 to 21 for `affine_u8` without such lines (`rates_against_copying`, one thread). There an ordinary
//!    store that misses the caches holds up all stores after it.
//! 3. For the same reason rows that follow each other are streamed as one long row, so that no line is written in two parts;
//!    and nothing is stored on the way for a load to find, which would wait for the streaming stores before it.
//! 4. Streaming stores are not ordered with anything. So an op that streams borrows its destination until a fence, as a
//!    scoped thread borrows until it is joined: [`fenced`].
//!
//! Alternatives: decoding to a tile in the L1 cache and streaming that is simpler, as ops need not know of it, and lost 10
//! to 20 percent to stores from registers.

use core::marker::PhantomData;

use crate::level::Level;

/// How results are written, as a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// Through the caches.
    Ordinary,
    /// Past the caches, where the processor and the [`Level`] can do that (x86 with AVX2).
    Streaming,
}

/// How an op writes results that are borrowed for `'d`: [`Ordinary`], or [`Streaming`] inside of [`fenced`]. Types, so
/// that each has loops of its own, and nothing is asked for every store.
pub trait Storing<'d>: Copy + sealed::Sealed {
    /// Which choice this is.
    const STORES: Stores;

    /// Bytes at the start of every 4 KiB that are stored through the caches: rule 2.
    fn pause_len(self) -> usize;
}

/// Through the caches.
#[derive(Clone, Copy, Debug)]
pub struct Ordinary;

/// Past the caches.
///
/// Invariant: it is lent by [`fenced`] for `'s`, which the caller cannot name, so it cannot be kept. `'d`, for which
/// destinations are borrowed, is longer, and cannot be made shorter. And it stays on the thread that fences.
#[derive(Clone, Copy, Debug)]
pub struct Streaming<'s, 'd> {
    pause_len: usize,
    lent: PhantomData<&'s ()>,
    destination: PhantomData<fn(&'d ()) -> &'d ()>,
    of_this_thread: PhantomData<*const ()>,
}

impl<'d> Storing<'d> for Ordinary {
    const STORES: Stores = Stores::Ordinary;

    fn pause_len(self) -> usize {
        PAUSE_LEN
    }
}

impl<'d> Storing<'d> for Streaming<'_, 'd> {
    const STORES: Stores = Stores::Streaming;

    fn pause_len(self) -> usize {
        self.pause_len
    }
}

/// What travels between caches and memory, on every x86.
const LINE_LEN: usize = 64;
/// How often one of them is stored as usual.
const PAUSE_LEN: usize = 4096;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Ordinary {}
    impl Sealed for super::Streaming<'_, '_> {}
}

/// Lends the right to stream to `work`, which uses instructions of `level`, and fences afterwards. Then everything that was streamed is in memory, and the
/// destinations can be used again; not earlier:
///
/// ```compile_fail
/// # use cvc_cpu::{Level, ops::{stores::fenced, widen_f16::widen_f16}};
/// let mut values = [0.0; 4];
/// fenced(Level::best(), |streaming| {
///     widen_f16(Level::best(), streaming, &[0; 8], &mut values);
///     assert_eq!(values[0], 0.0);
/// });
/// ```
///
/// ```
/// # use cvc_cpu::{Level, ops::{stores::fenced, widen_f16::widen_f16}};
/// let mut values = [1.0; 4];
/// fenced(Level::best(), |streaming| widen_f16(Level::best(), streaming, &[0; 8], &mut values));
/// assert_eq!(values[0], 0.0);
/// ```
pub fn fenced<'d, R>(level: Level, work: impl for<'s> FnOnce(Streaming<'s, 'd>) -> R) -> R {
    struct Fence;
    impl Drop for Fence {
        fn drop(&mut self) {
            #[cfg(target_arch = "x86_64")]
            super::x86::fence();
        }
    }
    // Dropped at the end, and if `work` panics.
    let _fence = Fence;
    let pause_len = if level.has_avx512() { LINE_LEN } else { 0 };
    work(Streaming { pause_len, lent: PhantomData, destination: PhantomData, of_this_thread: PhantomData })
}

#[cfg(target_arch = "x86_64")]
pub(super) use lines::{by_lines, head_len, stream_to};

#[cfg(target_arch = "x86_64")]
mod lines {
    use core::ops::Range;

    use super::{LINE_LEN, PAUSE_LEN, Stores, Storing};

    /// Whether a store to this address, which is aligned for it, streams: rule 2.
    #[inline(always)]
    pub(in super::super) fn stream_to<'d, S: Storing<'d>, T>(stores: S, values: *const T) -> bool {
        S::STORES == Stores::Streaming && values.addr() % PAUSE_LEN >= stores.pause_len()
    }

    /// How many values there are before the first whole line, if it matters.
    #[inline(always)]
    pub(in super::super) fn head_len<'d, S: Storing<'d>, T>(_: S, dst: &[T]) -> usize {
        match S::STORES {
            Stores::Ordinary => 0,
            Stores::Streaming => dst.as_ptr().align_offset(LINE_LEN).min(dst.len()),
        }
    }

    /// Decodes all of `dst` at once or, where it is to be streamed, one line of `N` values after another. `decode_line` is
    /// to store what `decode` would; it is a closure of its own because the compiler inlines what is called once, and then
    /// knows the length and keeps the line in registers.
    #[inline(always)]
    pub(in super::super) fn by_lines<'d, S: Storing<'d>, T, const N: usize>(
        stores: S,
        dst: &'d mut [T],
        decode: impl Fn(Range<usize>, &mut [T]),
        mut decode_line: impl FnMut(Range<usize>, &'d mut [T; N]),
    ) {
        const { assert!(N * size_of::<T>() == LINE_LEN) };
        if S::STORES == Stores::Ordinary {
            return decode(0..dst.len(), dst);
        }
        let (head, rest) = dst.split_at_mut(head_len(stores, dst));
        let (lines, tail) = rest.as_chunks_mut();
        let mut start = head.len();
        decode(0..start, head);
        for line in lines {
            decode_line(start..start + N, line);
            start += N;
        }
        decode(start..start + tail.len(), tail);
    }
}
