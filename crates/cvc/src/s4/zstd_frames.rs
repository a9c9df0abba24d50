//! Looks through a zstd payload without decompressing it.
//!
//! Why not simply decompress? Because the output needs memory first, and the only length at hand is a number in a
//! frame header that 30 bytes of input can set to anything. The headers of the blocks bound what the payload can
//! give: a block gives 128 KiB at most and costs 4 bytes at least. So the walk visits each block header, adds up,
//! and the caller takes memory for no more than that. It also finds what the decompressor would pass over: bytes
//! after the last frame, and a content size or a dictionary that are not the expected ones.
//!
//! The names are those of RFC 8878.

use super::error::PayloadError;

/// What a payload of zstd frames says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ZstdFrames {
    /// It cannot decompress to more than this.
    pub(super) bound: u64,
    /// The sum of the content sizes, if every frame has one.
    pub(super) content_len: Option<u64>,
    /// The dictionary of the last frame that names one.
    pub(super) dictionary: Option<u32>,
}

const MAGIC: u32 = 0xfd2f_b528;
/// The last four bits of a skippable frame's magic are free.
const SKIPPABLE: u32 = 0x184d_2a50;
/// The most that one block gives.
const BLOCK_MAX: u64 = 128 << 10;

impl ZstdFrames {
    /// Walks `payload`, which begins at byte `base` of the body.
    pub(super) fn walk(payload: &[u8], base: u64) -> Result<ZstdFrames, PayloadError> {
        let mut walk = Walk { payload, at: 0, base };
        let mut all = ZstdFrames { bound: 0, content_len: Some(0), dictionary: None };
        let mut frames = 0u64;
        while walk.at < payload.len() {
            let start = walk.at;
            let trailing =
                PayloadError::Trailing { at: base + start as u64, len: (payload.len() - start) as u64 };
            let magic = match walk.number(4, "the magic of a zstd frame is cut") {
                Err(_) if frames > 0 => return Err(trailing),
                magic => magic?,
            };
            if magic & !0xf == u64::from(SKIPPABLE) {
                let len = walk.number(4, "a skippable frame is cut")?;
                walk.skip(len, "a skippable frame is longer than the payload")?;
            } else if magic == u64::from(MAGIC) {
                walk.frame(&mut all)?;
                frames += 1;
            } else if frames == 0 {
                return Err(walk.wrong(start, "a zstd frame must begin and does not"));
            } else {
                return Err(trailing);
            }
        }
        if frames == 0 {
            return Err(walk.wrong(walk.at, "a zstd frame must begin and does not"));
        }
        Ok(all)
    }
}

/// A place in a payload.
struct Walk<'p> {
    payload: &'p [u8],
    at: usize,
    base: u64,
}

impl Walk<'_> {
    /// The rest of a frame, whose magic was read.
    fn frame(&mut self, all: &mut ZstdFrames) -> Result<(), PayloadError> {
        const CUT: &str = "the header of a zstd frame is cut";
        let start = self.at;
        let descriptor = self.number(1, CUT)?;
        if descriptor & 0b1000 != 0 {
            return Err(self.wrong(start, "a reserved bit of a zstd frame's header is set"));
        }
        let single_segment = descriptor & 0b10_0000 != 0;
        let window = if single_segment {
            None
        } else {
            let byte = self.number(1, CUT)?;
            let base = 1u64 << (10 + (byte >> 3));
            Some(base + base / 8 * (byte & 7))
        };
        let dictionary = self.number([0, 1, 2, 4][(descriptor & 3) as usize], CUT)?;
        let size_len = match descriptor >> 6 {
            0 => usize::from(single_segment),
            flag => 1 << flag,
        };
        // Two bytes count from 256 on: what is below fits in one.
        let size = self.number(size_len, CUT)?.checked_add(if size_len == 2 { 256 } else { 0 });
        let content_len = if size_len == 0 { None } else { size };

        let block_max = window.or(content_len).unwrap_or(BLOCK_MAX).min(BLOCK_MAX);
        loop {
            let start = self.at;
            let header = self.number(3, "the header of a zstd block is cut")?;
            let (kind, size) = (header >> 1 & 3, header >> 3);
            let (stored, gives) = match kind {
                0 => (size, size),
                1 => (1, size),
                2 => (size, block_max),
                _ => return Err(self.wrong(start, "a zstd block has the reserved type")),
            };
            if size > block_max {
                return Err(self.wrong(start, "a zstd block is longer than its frame allows"));
            }
            self.skip(stored, "a zstd block is longer than the payload")?;
            all.bound += gives;
            if header & 1 != 0 {
                break;
            }
        }
        if descriptor & 0b100 != 0 {
            self.skip(4, "the checksum of a zstd frame is cut")?;
        }
        all.content_len = all.content_len.zip(content_len).and_then(|(sum, len)| sum.checked_add(len));
        if dictionary != 0 {
            // At most four bytes were read.
            all.dictionary = u32::try_from(dictionary).ok();
        }
        Ok(())
    }

    /// The little-endian number in the next `len` bytes, eight at most.
    fn number(&mut self, len: usize, cut: &'static str) -> Result<u64, PayloadError> {
        let start = self.at;
        self.skip(len as u64, cut)?;
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.payload[start..self.at]);
        Ok(u64::from_le_bytes(bytes))
    }

    fn skip(&mut self, len: u64, cut: &'static str) -> Result<(), PayloadError> {
        match usize::try_from(len) {
            Ok(len) if len <= self.payload.len() - self.at => {
                self.at += len;
                Ok(())
            }
            _ => Err(self.wrong(self.at, cut)),
        }
    }

    fn wrong(&self, at: usize, problem: &'static str) -> PayloadError {
        PayloadError::Structure { at: self.base + at as u64, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame header with a window of 1 KiB, then blocks.
    fn frame(blocks: &[&[u8]]) -> Vec<u8> {
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00][..], &blocks.concat()].concat()
    }

    fn block(last: bool, kind: u32, size: u32) -> [u8; 3] {
        let bytes = (u32::from(last) | kind << 1 | size << 3).to_le_bytes();
        [bytes[0], bytes[1], bytes[2]]
    }

    fn problem(payload: &[u8]) -> (u64, &'static str) {
        match ZstdFrames::walk(payload, 100) {
            Err(PayloadError::Structure { at, problem }) => (at - 100, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn blocks_are_added_up() {
        let payload =
            frame(&[&block(false, 0, 2), b"ab", &block(false, 1, 1000), b"c", &block(true, 2, 1), b"x"]);
        let found = ZstdFrames::walk(&payload, 0).unwrap();
        assert_eq!(found, ZstdFrames { bound: 2 + 1000 + 1024, content_len: None, dictionary: None });
        // Twice, with a skippable frame between and one of its bytes a magic.
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0x28][..]].concat();
        let twice = ZstdFrames::walk(&[payload.clone(), skippable, payload].concat(), 0).unwrap();
        assert_eq!(twice.bound, 2 * found.bound);
    }

    #[test]
    fn content_sizes_and_dictionaries_are_read_at_every_width() {
        let end = block(true, 0, 0);
        type Case<'c> = (u8, &'c [u8], Option<u64>, Option<u32>);
        let cases: [Case<'_>; 7] = [
            (0b0010_0000, &[200], Some(200), None),
            (0b0100_0000, &[0, 1, 0], Some(257), None),
            (0b1000_0000, &[0, 1, 0, 0, 1], Some(0x0100_0001), None),
            (0b1100_0000, &[0, 1, 0, 0, 0, 0, 0, 0, 1], Some((1 << 56) + 1), None),
            (0b0000_0001, &[0, 7], None, Some(7)),
            (0b0000_0010, &[0, 1, 1], None, Some(257)),
            (0b0010_0011, &[1, 0, 0, 1, 9], Some(9), Some(0x0100_0001)),
        ];
        for (descriptor, fields, content_len, dictionary) in cases {
            let payload = [&[0x28, 0xb5, 0x2f, 0xfd, descriptor], fields, &end].concat();
            let found = ZstdFrames::walk(&payload, 0).unwrap();
            assert_eq!((found.content_len, found.dictionary), (content_len, dictionary), "{descriptor:08b}");
        }
    }

    #[test]
    fn a_wrong_payload_is_refused_where_it_is_wrong() {
        assert_eq!(problem(b""), (0, "a zstd frame must begin and does not"));
        assert_eq!(problem(b"what"), (0, "a zstd frame must begin and does not"));
        assert_eq!(problem(&[0x28, 0xb5]), (0, "the magic of a zstd frame is cut"));
        assert_eq!(problem(&[0x50, 0x2a, 0x4d, 0x18, 1, 0]), (4, "a skippable frame is cut"));
        assert_eq!(
            problem(&[0x50, 0x2a, 0x4d, 0x18, 255, 255, 255, 255]),
            (8, "a skippable frame is longer than the payload")
        );
        assert_eq!(problem(&frame(&[])[..5]), (5, "the header of a zstd frame is cut"));
        assert_eq!(
            problem(&[0x28, 0xb5, 0x2f, 0xfd, 8]),
            (4, "a reserved bit of a zstd frame's header is set")
        );
        assert_eq!(problem(&frame(&[])), (6, "the header of a zstd block is cut"));
        assert_eq!(problem(&frame(&[&block(true, 3, 0)])), (6, "a zstd block has the reserved type"));
        assert_eq!(
            problem(&frame(&[&block(true, 1, 1025)])),
            (6, "a zstd block is longer than its frame allows")
        );
        assert_eq!(
            problem(&frame(&[&block(true, 0, 2), b"a"])),
            (9, "a zstd block is longer than the payload")
        );
        let checked = [0x28, 0xb5, 0x2f, 0xfd, 0b100, 0, 1, 0, 0, 9];
        assert_eq!(problem(&checked), (9, "the checksum of a zstd frame is cut"));
        for len in [1, 3, 4, 5] {
            let trailing = [&frame(&[&block(true, 0, 0)])[..], &b"after"[..len]].concat();
            let expected = PayloadError::Trailing { at: 109, len: len as u64 };
            assert_eq!(ZstdFrames::walk(&trailing, 100), Err(expected));
        }
    }
}
