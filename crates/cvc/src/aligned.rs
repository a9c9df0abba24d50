//! A buffer of bytes that any dtype may lie in.

/// Bytes that begin on a multiple of 8, to be used again and again.
///
/// What lies in it may be viewed as values of any dtype (`bytemuck::cast_slice`).
#[derive(Clone, Debug, Default)]
pub struct AlignedBytes {
    words: Vec<u64>,
    len: usize,
}

impl AlignedBytes {
    /// An empty buffer; nothing is allocated yet.
    pub fn new() -> AlignedBytes {
        AlignedBytes::default()
    }

    /// Makes it `len` bytes long. They hold whatever they held before, or zeros; memory is kept, never given back.
    pub fn resize(&mut self, len: usize) -> &mut [u8] {
        let words = len.div_ceil(size_of::<u64>());
        if self.words.is_empty() {
            // Zeros that the system has ready, and huge pages: to write them here, a small page after another, takes longer than
            // to fill a large buffer later.
            self.words = vec![0; words];
            crate::huge_pages::advise(bytemuck::cast_slice_mut(&mut self.words));
        } else if words > self.words.len() {
            // Exactly: doubling would cost as much again for a buffer of a whole chunk.
            self.words.reserve_exact(words - self.words.len());
            self.words.resize(words, 0);
        }
        self.len = len;
        self.bytes_mut()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_aligned_and_keeps_its_memory() {
        let mut buffer = AlignedBytes::new();
        assert!(buffer.bytes().is_empty());
        for len in [1, 7, 8, 9, 1000] {
            assert_eq!(buffer.resize(len).len(), len);
            assert_eq!(buffer.bytes().as_ptr().align_offset(8), 0);
        }
        buffer.bytes_mut().fill(7);
        let at = buffer.bytes().as_ptr();
        assert_eq!(buffer.resize(3), [7; 3]);
        assert_eq!(buffer.resize(1000), [7; 1000]);
        assert_eq!(buffer.bytes().as_ptr(), at);
    }
}
