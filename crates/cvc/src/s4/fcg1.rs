//! The container that S4's GPU codecs put their chunks in.
//!
//! A header, the stored length of each chunk, the chunks back to back. Every chunk decodes to the same length but
//! the last, which decodes to what is left. The chunks of algorithm 3 are plain zstd frames, so a processor can
//! decode what a GPU wrote; the others need the library they were made with.

use super::error::PayloadError;
use super::wire::{FCG1_HEADER_LEN, FCG1_MAGIC, MAX_CHUNK_LEN, u32_at, u64_at};

/// The number of zstd.
const ZSTD: u8 = 3;

/// The chunks of a payload, whose lengths add up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fcg1<'p> {
    /// The stored length of each chunk, four bytes each.
    lens: &'p [u8],
    /// All chunks.
    data: &'p [u8],
    /// Bytes of the payload before them.
    data_at: u64,
    chunk_len: u64,
    decoded_len: u64,
}

/// One chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'p> {
    /// Where it begins in the body.
    pub(super) at: u64,
    /// Its zstd frames.
    pub(super) bytes: &'p [u8],
    /// Bytes it decodes to.
    pub(super) decoded_len: u64,
}

impl<'p> Fcg1<'p> {
    /// Checks a payload that begins at byte `base` of the body and is said to decode to `decoded_len` bytes.
    pub(super) fn parse(payload: &'p [u8], base: u64, decoded_len: u64) -> Result<Fcg1<'p>, PayloadError> {
        let wrong = |at: u64, problem| Err(PayloadError::Structure { at: base + at, problem });
        let len = payload.len() as u64;
        if !payload.starts_with(&FCG1_MAGIC) {
            return wrong(0, "\"FCG1\" must begin and does not");
        }
        if payload.len() < FCG1_HEADER_LEN {
            return wrong(len, "the FCG1 header is cut");
        }
        match payload[4] {
            ZSTD => {}
            1 | 2 | 4 | 5 => {
                return wrong(
                    4,
                    "the FCG1 chunks are Snappy, LZ4, Bitcomp or GDeflate (1, 2, 4, 5), not zstd (3)",
                );
            }
            _ => {
                return wrong(4, "the FCG1 algorithm is unknown: 1 to 5 are known, and 3 (zstd) is expected");
            }
        }
        if payload[5..8] != [0; 3] {
            return wrong(5, "a reserved byte of the FCG1 header is not zero");
        }
        let says = u64_at(payload, 8);
        if says != decoded_len {
            return Err(PayloadError::Says { at: base + 8, claimed: decoded_len, says });
        }
        let (chunk_len, chunks) = (u32_at(payload, 16), u32_at(payload, 20));
        if chunk_len == 0 && chunks != 0 || chunk_len > MAX_CHUNK_LEN {
            return wrong(16, "the FCG1 chunk length is 0 or above 16 MiB");
        }
        let chunk_len = u64::from(chunk_len);
        let needed = if chunk_len == 0 { decoded_len.min(1) } else { decoded_len.div_ceil(chunk_len) };
        if u64::from(chunks) != needed {
            return wrong(20, "the FCG1 chunk count is not the decoded length over the chunk length");
        }
        // Cannot overflow: 2^32 times 4.
        let data_at = FCG1_HEADER_LEN as u64 + 4 * u64::from(chunks);
        if data_at > len {
            return wrong(len, "the list of FCG1 chunk lengths is cut");
        }
        // Not above `len`, so it is a `usize`.
        let (head, data) = payload.split_at(usize::try_from(data_at).unwrap_or(payload.len()));
        let lens = &head[FCG1_HEADER_LEN..];
        let stored: u64 = lens.chunks_exact(4).map(|len| u64::from(u32_at(len, 0))).sum();
        if stored > data.len() as u64 {
            return wrong(len, "the FCG1 chunks are cut");
        }
        if stored < data.len() as u64 {
            let at = base + data_at + stored;
            return Err(PayloadError::Trailing { at, len: data.len() as u64 - stored });
        }
        Ok(Fcg1 { lens, data, data_at: base + data_at, chunk_len, decoded_len })
    }

    /// The chunks in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk<'p>> + use<'p> {
        let Fcg1 { lens, mut data, data_at: mut at, chunk_len, decoded_len: mut left } = *self;
        lens.chunks_exact(4).map(move |len| {
            // `parse` saw that the lengths add up to that of the data, so each fits.
            let len = usize::try_from(u32_at(len, 0)).unwrap_or(data.len()).min(data.len());
            let (bytes, rest) = data.split_at(len);
            let chunk = Chunk { at, bytes, decoded_len: left.min(chunk_len) };
            data = rest;
            at += len as u64;
            left -= chunk.decoded_len;
            chunk
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(algorithm: u8, decoded: u64, chunk: u32, lens: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = b"FCG1".to_vec();
        bytes.extend([algorithm, 0, 0, 0]);
        bytes.extend(decoded.to_le_bytes());
        bytes.extend(chunk.to_le_bytes());
        bytes.extend(u32::try_from(lens.len()).unwrap().to_le_bytes());
        bytes.extend(lens.iter().flat_map(|len| len.to_le_bytes()));
        bytes.extend(data);
        bytes
    }

    fn problem(payload: &[u8], decoded_len: u64) -> (u64, &'static str) {
        match Fcg1::parse(payload, 1000, decoded_len) {
            Err(PayloadError::Structure { at, problem }) => (at - 1000, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn chunks_are_cut_out() {
        let payload = payload(3, 25, 10, &[2, 0, 3], b"aaccc");
        let parsed = Fcg1::parse(&payload, 100, 25).unwrap();
        let chunks: Vec<(u64, &[u8], u64)> =
            parsed.chunks().map(|chunk| (chunk.at, chunk.bytes, chunk.decoded_len)).collect();
        assert_eq!(chunks, [(136, &b"aa"[..], 10), (138, b"", 10), (138, b"ccc", 5)]);
    }

    #[test]
    fn nothing_has_no_chunks() {
        for chunk_len in [0, 65_536] {
            let payload = payload(3, 0, chunk_len, &[], b"");
            assert_eq!(Fcg1::parse(&payload, 0, 0).unwrap().chunks().count(), 0);
        }
    }

    #[test]
    fn each_rule_is_kept() {
        let good = payload(3, 25, 10, &[2, 0, 3], b"aaccc");
        assert_eq!(problem(b"FCG2", 25).0, 0);
        assert_eq!(problem(&good[..23], 25), (23, "the FCG1 header is cut"));
        assert_eq!(problem(&payload(2, 25, 10, &[2, 0, 3], b"aaccc"), 25).0, 4);
        assert_eq!(problem(&payload(9, 25, 10, &[2, 0, 3], b"aaccc"), 25).0, 4);
        let mut reserved = good.clone();
        reserved[6] = 1;
        assert_eq!(problem(&reserved, 25).0, 5);
        let says = PayloadError::Says { at: 1008, claimed: 26, says: 25 };
        assert_eq!(Fcg1::parse(&good, 1000, 26).unwrap_err(), says);
        assert_eq!(problem(&payload(3, 25, 0, &[2], b"aa"), 25).0, 16);
        assert_eq!(problem(&payload(3, 25, MAX_CHUNK_LEN + 1, &[2], b"aa"), 25).0, 16);
        assert_eq!(problem(&payload(3, 25, 10, &[2, 0], b"aa"), 25).0, 20);
        assert_eq!(problem(&payload(3, 25, 0, &[], b""), 25).0, 20);
        // 2^32 - 1 chunks of one byte each, in 24 bytes.
        let mut many = payload(3, u64::from(u32::MAX), 1, &[], b"");
        many[20..24].fill(0xff);
        assert_eq!(problem(&many, u64::from(u32::MAX)), (24, "the list of FCG1 chunk lengths is cut"));
        assert_eq!(problem(&good[..40], 25), (40, "the FCG1 chunks are cut"));
        let longer = [&good[..], b"d"].concat();
        assert_eq!(Fcg1::parse(&longer, 0, 25).unwrap_err(), PayloadError::Trailing { at: 41, len: 1 });
    }
}
