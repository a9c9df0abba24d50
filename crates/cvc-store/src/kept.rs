//! Memory for rows that the journal keeps, given out in pieces.
//!
//! A row that is changed is on the heap until the journal is replaced. Memory that is touched for the first time comes from the
//! system a page at a time, and for 4 KB of rows that takes most of the time of writing them to a file. Huge pages come
//! in one go: so there is one large piece of memory, of which each change gets some.

use bytes::{Bytes, BytesMut};

/// What is asked for first: a store that is hardly changed does not need much.
const FIRST_LEN: usize = 64 << 10;
/// What is asked for from then on. What is not touched takes no memory.
const NEXT_LEN: usize = 8 << 20;
/// What a huge page is.
const PAGE_LEN: usize = 2 << 20;

/// Gives memory out.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    rest: BytesMut,
    asked: bool,
}

impl Kept {
    /// A copy of these bytes, to be kept.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if self.rest.len() < bytes.len() {
            self.rest = if self.asked {
                huge(NEXT_LEN.max(bytes.len()))
            } else {
                BytesMut::zeroed(FIRST_LEN.max(bytes.len()))
            };
            self.asked = true;
        }
        let mut piece = self.rest.split_to(bytes.len());
        piece.copy_from_slice(bytes);
        piece.freeze()
    }
}

/// So much memory, in huge pages where the system has them.
fn huge(len: usize) -> BytesMut {
    let mut memory = vec![0; len + PAGE_LEN];
    cvc::huge_pages::advise(&mut memory);
    let before = memory.as_ptr().align_offset(PAGE_LEN).min(PAGE_LEN);
    let mut memory = BytesMut::from(Bytes::from(memory));
    // In front of the first huge page there are small ones.
    drop(memory.split_to(before));
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_what_was_put_there_also_when_memory_runs_out() {
        let mut kept = Kept::default();
        let value = |n: usize| vec![u8::try_from(n % 251).unwrap(); n * 37 % 9000];
        let pieces: Vec<Bytes> = (0..2000).map(|n| kept.keep(&value(n))).collect();
        for (n, piece) in pieces.iter().enumerate() {
            assert_eq!(*piece, value(n));
        }
        assert_eq!(kept.keep(&vec![7; 2 * NEXT_LEN]), vec![7; 2 * NEXT_LEN]);
    }
}
