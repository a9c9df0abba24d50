//! Asking for huge pages where a large result is about to be written for the first time.
//!
//! A fresh result of 600 MB is 150,000 pages of 4 KiB, and taking that many faults costs more than decoding does; of
//! 2 MiB pages it is 300. Linux gives them to memory that asks (NumPy asks, too). With the setting `never` it does
//! not, and elsewhere there is nothing to ask: then this does nothing.
//!
//! With it, loading 200,000 x 768 took half of the time of `numpy.load` to as long, before it twice as long (int8 0.4 to 0.8,
//! before it as long): `cargo xtask bench load`, `docs/benchmarks.md`.
#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "madvise takes a pointer; here one to memory we own")
)]

/// What a huge page is on every platform where this does anything.
const PAGE_LEN: usize = 2 << 20;

/// Asks for huge pages under the whole ones inside `memory`. Only advice: contents stay, nothing can fail.
#[cfg(target_os = "linux")]
pub fn advise(memory: &mut [u8]) {
    use rustix::mm::{Advice, madvise};

    let start = memory.as_ptr().align_offset(PAGE_LEN);
    let Some(inside) = memory.get_mut(start..) else { return };
    let len = inside.len() / PAGE_LEN * PAGE_LEN;
    if len == 0 {
        return;
    }
    let pointer = inside.as_mut_ptr().cast();
    // SAFETY: `pointer` and `len` name whole pages inside a slice that this call holds exclusively, so they are mapped,
    // and nobody else's. MADV_HUGEPAGE changes how they are backed, never what they hold.
    let advised = unsafe { madvise(pointer, len, Advice::LinuxHugepage) };
    // A kernel without huge pages says so; 4 KiB pages do as well.
    let _ = advised;
}

/// Elsewhere there is nothing to ask.
#[cfg(not(target_os = "linux"))]
pub fn advise(_memory: &mut [u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_changes_nothing_that_can_be_seen() {
        for len in [0, 1, PAGE_LEN - 1, PAGE_LEN, 3 * PAGE_LEN + 17] {
            let mut memory: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            let before = memory.clone();
            advise(&mut memory);
            assert_eq!(memory, before);
        }
    }
}
