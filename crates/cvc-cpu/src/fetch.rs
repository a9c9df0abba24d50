//! The one hint to the processor that is given here: to bring memory closer before it is wanted.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a hint to fetch is an intrinsic"))]

/// Bytes of a line of every cache of an x86-64.
const LINE: usize = 64;

/// Brings the lines of what lies `ahead` bytes behind these values into the L2 cache, whatever is there and if anything is.
#[inline(always)]
pub(crate) fn fetch<T>(values: &[T], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of_val(values)).step_by(LINE) {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let line = values.as_ptr().cast::<i8>().wrapping_add(ahead + line);
        // SAFETY: a hint, which reads nothing and faults at no address; it is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line) };
    }
    // Stable Rust has no such hint for other processors.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, ahead, LINE);
}
