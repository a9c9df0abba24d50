//! CRC-32C (Castagnoli), the checksum of the native layout: of `123456789` it is `E3069283`.

use core::fmt;

/// The checksum of these bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    imp::checksum(bytes)
}

/// Goes on with the checksums of blocks side by side: `bytes` are as many pieces of one length as there are checksums, and each
/// checksum becomes that of what it was of and the next piece. That of nothing is 0.
///
/// Neighbours do not wait for each other, so a processor can do several at once: [`append_each`] is what this means, `cvc-cpu`
/// has what is fast.
pub type AppendEach = fn(crcs: &mut [u32], bytes: &[u8]);

/// [`AppendEach`], one block after another.
///
/// # Panics
/// `bytes` are not so many pieces of one length.
pub fn append_each(crcs: &mut [u32], bytes: &[u8]) {
    let pieces = pieces(crcs.len(), bytes);
    for (crc, piece) in crcs.iter_mut().zip(pieces) {
        *crc = imp::append(*crc, piece);
    }
}

/// The `count` pieces of one length that these bytes are; none if they are empty.
///
/// # Panics
/// They are not.
pub fn pieces(count: usize, bytes: &[u8]) -> core::slice::ChunksExact<'_, u8> {
    let len = bytes.len().checked_div(count).unwrap_or(0);
    assert_eq!(len * count, bytes.len(), "bytes of {count} pieces of one length");
    bytes.chunks_exact(len.max(1))
}

/// The checksum of bytes that come in pieces.
///
/// With the feature `simd` 46 GB/s of blocks of 4 KiB and 60 of larger ones (`rates_of_checksums` in `cvc-codec`'s
/// `tests/rates.rs`, one core of an AMD EPYC of the Zen 5 class, November 2026).
#[derive(Clone)]
pub struct Crc32c(imp::Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Crc32c(imp::new())
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc32c({:08x})", self.finish())
    }
}

impl Crc32c {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces one after another.
    pub fn finish(&self) -> u32 {
        imp::finish(&self.0)
    }
}

#[cfg(feature = "simd")]
mod imp {
    pub(super) use crc_fast::Digest;
    // Of its ways to the same checksum the one that looks nothing up, which blocks of some hundred bytes notice.
    pub(super) use crc_fast::crc32_iscsi as checksum;

    pub(super) fn new() -> Digest {
        Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi)
    }

    pub(super) fn finish(digest: &Digest) -> u32 {
        u32::try_from(digest.finalize()).expect("a checksum of 32 bits")
    }

    pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
        if crc == 0 {
            return checksum(bytes);
        }
        let mut digest = Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
        digest.update(bytes);
        finish(&digest)
    }
}

#[cfg(not(feature = "simd"))]
mod imp {
    use crc::{CRC_32_ISCSI, Crc, Table};

    pub(super) type Digest = crc::Digest<'static, u32, Table<16>>;

    static TABLES: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

    pub(super) fn checksum(bytes: &[u8]) -> u32 {
        TABLES.checksum(bytes)
    }

    pub(super) fn new() -> Digest {
        TABLES.digest()
    }

    pub(super) fn finish(digest: &Digest) -> u32 {
        digest.clone().finalize()
    }

    pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
        // The order of bits of an initial state is the other one here.
        let mut digest = TABLES.digest_with_initial((!crc).reverse_bits());
        digest.update(bytes);
        digest.finalize()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// The definition, bit by bit.
    fn naive(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            }
        }
        !crc
    }

    /// Of the catalogue of parametrised CRCs, and of RFC 3720, section B.4.
    #[test]
    fn known_values() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
        ] {
            assert_eq!(crc32c(bytes), expected);
            assert_eq!(naive(bytes), expected);
        }
    }

    /// Instructions and tables take many bytes at once, in ways that depend on how many there are.
    #[test]
    fn every_length_is_the_definition() {
        let bytes: Vec<u8> = (0..10_007u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
        let all = (0..600).chain([1023, 1024, 4095, 4096, 4097, 6144, 8192, 10_007]);
        for len in all {
            assert_eq!(crc32c(&bytes[..len]), naive(&bytes[..len]), "{len} bytes");
        }
        // Not where the buffer begins, either.
        for start in 0..70 {
            assert_eq!(
                crc32c(&bytes[start..start + 5000]),
                naive(&bytes[start..start + 5000]),
                "from {start}"
            );
        }
    }

    #[test]
    fn pieces_are_the_whole() {
        let bytes: Vec<u8> = (0..=250u8).cycle().take(9_000).collect();
        for cuts in [[0, 0], [0, 9_000], [1, 2], [63, 4_160], [4_096, 8_192], [8_999, 9_000]] {
            let mut pieces = Crc32c::default();
            pieces.update(&bytes[..cuts[0]]);
            pieces.update(&bytes[cuts[0]..cuts[1]]);
            assert_eq!(pieces.finish(), crc32c(&bytes[..cuts[1]]), "{cuts:?}, finished early");
            pieces.update(&bytes[cuts[1]..]);
            assert_eq!(pieces.finish(), naive(&bytes), "{cuts:?}");
        }
    }

    #[test]
    fn blocks_side_by_side_are_each_by_itself() {
        let bytes: Vec<u8> = (0..=250u8).cycle().take(9_000).collect();
        for (count, lens) in
            [(0, [0, 0]), (1, [0, 900]), (1, [900, 1]), (3, [600, 32]), (7, [5, 64]), (9, [0, 0])]
        {
            let mut crcs = alloc::vec![0; count];
            let (first, rest) = bytes.split_at(count * lens[0]);
            append_each(&mut crcs, first);
            append_each(&mut crcs, &rest[..count * lens[1]]);
            for (i, crc) in crcs.iter().enumerate() {
                let piece = |bytes: &[u8], len: usize| bytes[i * len..(i + 1) * len].to_vec();
                let block = [piece(first, lens[0]), piece(rest, lens[1])].concat();
                assert_eq!(*crc, naive(&block), "block {i} of {count}, {lens:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "bytes of 3 pieces of one length")]
    fn pieces_that_differ_in_length_are_refused() {
        append_each(&mut [0; 3], &[0; 10]);
    }
}
