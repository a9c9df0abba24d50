//! Streams: what a lane holds for each block, packed and unpacked on the host.
//!
//! A stream says nothing that is believed: its length stands in the head of the chunk and what it unpacks to follows
//! from the shape, so anything else in it is damage. Any tool can read one: it is exactly one frame of RFC 8878 that
//! states its content size and needs no dictionary and no window above [`MAX_WINDOW`], or exactly one member of
//! RFC 1952.

use core::fmt;
use std::borrow::Cow;

use cvc_format::native::MAX_BLOCK_LEN;
use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, Strategy};

use crate::ops::PayloadError;
use crate::plan::{MAX_EXPANSION, Stream};

/// The largest window of a zstd frame: what RFC 8878 asks every decoder to support.
pub const MAX_WINDOW: u64 = 8 << 20;

/// The level of plain zstd frames.
///
/// In blocks of 16 KiB, where windows and tables of higher levels have little to work with. Levels 1, 3 and 9 pack sorted
/// 64-bit ids to 0.151 of their size, all of them, and made-up names of packages to 0.391, 0.409 and 0.359, at 300, 260
/// and 35 MB/s; normally distributed f32 values to 0.926, all of them (`tests/rates.rs`).
const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: u32 = 6;

/// Unpacks streams, with memory that is used again from one to the next. One for each thread.
#[derive(Default)]
pub struct Inflater {
    zstd: Option<DCtx<'static>>,
    /// Of bare deflate: headers and checksums of gzip are read here.
    deflate: Option<Decompress>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// What is wrong with a stream, as a clause: `the stream of block 3 ...`.
type Problem = Cow<'static, str>;

impl Inflater {
    /// Fills `out` with what the stream of block `block` holds, all of it and nothing else.
    ///
    /// # Errors
    /// The stream is damaged, or does not decode to exactly `out.len()` bytes.
    pub fn inflate(
        &mut self,
        stream: Stream,
        block: u32,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), PayloadError> {
        self.fill(stream, bytes, out).map_err(|problem| blame(block, problem))
    }

    /// Replaces `out` by what the stream of block `block` holds, which is at most [`MAX_BLOCK_LEN`] bytes: for blocks
    /// whose length does not follow from their shape.
    ///
    /// # Errors
    /// The stream is damaged or holds more.
    pub fn inflate_all(
        &mut self,
        stream: Stream,
        block: u32,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), PayloadError> {
        self.replace(stream, bytes, out).map_err(|problem| blame(block, problem))
    }

    fn replace(&mut self, stream: Stream, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
        let len = match stream {
            Stream::Stored => bytes.len() as u64,
            Stream::Zstd => frame_content_len(bytes)?,
            // The last four bytes; if they are not its length, filling `out` finds out.
            Stream::Gzip => match bytes.last_chunk() {
                Some(len) => u64::from(u32::from_le_bytes(*len)),
                None => return Err("is too short for gzip".into()),
            },
        };
        let most = u64::try_from(MAX_EXPANSION).unwrap_or(u64::MAX).saturating_mul(bytes.len() as u64);
        if len > MAX_BLOCK_LEN.min(most) {
            let problem = format!("is said to decode to {len} bytes from {}, which is too many", bytes.len());
            return Err(problem.into());
        }
        out.clear();
        out.resize(usize::try_from(len).expect("at most 16 MiB"), 0);
        self.fill(stream, bytes, out)
    }

    fn fill(&mut self, stream: Stream, bytes: &[u8], out: &mut [u8]) -> Result<(), Problem> {
        match stream {
            Stream::Stored if bytes.len() == out.len() => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            Stream::Stored => Err(not_as_long(bytes.len() as u64, out)),
            Stream::Zstd => self.fill_zstd(bytes, out),
            Stream::Gzip => self.fill_gzip(bytes, out),
        }
    }

    fn fill_zstd(&mut self, bytes: &[u8], out: &mut [u8]) -> Result<(), Problem> {
        let content_len = frame_content_len(bytes)?;
        if content_len != out.len() as u64 {
            return Err(not_as_long(content_len, out));
        }
        let damaged = |code| format!("is a damaged zstd frame ({})", zstd_safe::get_error_name(code));
        // The decoder itself would go on to a second frame.
        let frame_len = zstd_safe::find_frame_compressed_size(bytes).map_err(damaged)?;
        if frame_len != bytes.len() {
            return Err(format!("has {} bytes after its zstd frame", bytes.len() - frame_len).into());
        }
        let context = self.zstd.get_or_insert_with(DCtx::create);
        let len = context.decompress(out, bytes).map_err(damaged)?;
        if len != out.len() {
            return Err(not_as_long(len as u64, out));
        }
        Ok(())
    }

    fn fill_gzip(&mut self, bytes: &[u8], out: &mut [u8]) -> Result<(), Problem> {
        let body = &bytes[gzip_header_len(bytes)?..];
        let Some((body, trailer)) = body.split_last_chunk::<8>() else {
            return Err("ends within its gzip member".into());
        };
        let context = self.deflate.get_or_insert_with(|| Decompress::new(false));
        context.reset(false);
        let status = context.decompress(body, out, FlushDecompress::Finish);
        let status = status.map_err(|error| format!("is a damaged gzip member ({error})"))?;
        if status != Status::StreamEnd {
            // Either there is more to come, or the end is missing.
            return Err(format!("does not end after {} bytes, as its gzip member should", out.len()).into());
        }
        if context.total_out() != out.len() as u64 {
            return Err(not_as_long(context.total_out(), out));
        }
        if context.total_in() != body.len() as u64 {
            let left = body.len() as u64 - context.total_in();
            return Err(format!("has {left} bytes after its gzip member").into());
        }
        if *trailer != gzip_trailer(out) {
            return Err("does not match the checksum and the length at the end of its gzip member".into());
        }
        Ok(())
    }
}

fn blame(block: u32, problem: Problem) -> PayloadError {
    PayloadError::Stream { block, problem: problem.into_owned() }
}

fn not_as_long(len: u64, out: &[u8]) -> Problem {
    format!("decodes to {len} bytes, its rows need {}", out.len()).into()
}

/// The content size that the header of a frame states, if the frame is one that a block may have.
fn frame_content_len(bytes: &[u8]) -> Result<u64, Problem> {
    let mut rest = match bytes.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Some(rest) => rest,
        None => return Err("is not a zstd frame".into()),
    };
    // A little-endian number of so many bytes.
    let mut take = |len: usize| {
        let (field, after) = rest.split_at_checked(len).ok_or("ends within the header of its zstd frame")?;
        rest = after;
        Ok::<u64, Problem>(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let descriptor = take(1)?;
    if descriptor & 8 != 0 {
        return Err("is a zstd frame with its reserved bit set".into());
    }
    let single_segment = descriptor >> 5 & 1 == 1;
    let window = if single_segment {
        None
    } else {
        let byte = take(1)?;
        let base = 1u64 << (10 + (byte >> 3));
        Some(base + base / 8 * (byte & 7))
    };
    let dictionary = match descriptor & 3 {
        0 => 0,
        flag => take(1 << (flag - 1))?,
    };
    if dictionary != 0 {
        return Err(format!("needs the zstd dictionary {dictionary}").into());
    }
    let content_len = match (descriptor >> 6, single_segment) {
        (0, false) => return Err("is a zstd frame that does not state its content size".into()),
        (0, true) => take(1)?,
        (1, _) => take(2)? + 256,
        (2, _) => take(4)?,
        (_, _) => take(8)?,
    };
    let window = window.unwrap_or(content_len);
    if window > MAX_WINDOW {
        return Err(format!("is a zstd frame with a window of {window} bytes, more than {MAX_WINDOW}").into());
    }
    Ok(content_len)
}

const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// The fixed part of a member's header: no flags, no time, no word of how it was packed or on what system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Bytes of the header of a gzip member.
fn gzip_header_len(bytes: &[u8]) -> Result<usize, Problem> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Err("is not a gzip member".into());
    }
    let cut = || Problem::from("ends within the header of its gzip member");
    let flags = *bytes.get(3).ok_or_else(cut)?;
    if flags & 0xe0 != 0 {
        return Err("is a gzip member with reserved flags".into());
    }
    let mut len = GZIP_HEADER.len();
    if flags & 4 != 0 {
        let extra = bytes.get(len..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
        len += 2 + usize::from(u16::from_le_bytes(*extra));
    }
    // The name of a file, then a comment; each ends with a zero.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let rest = bytes.get(len..).ok_or_else(cut)?;
            len += rest.iter().position(|byte| *byte == 0).ok_or_else(cut)? + 1;
        }
    }
    if flags & 2 != 0 {
        let header = bytes.get(..len).ok_or_else(cut)?;
        let stated = bytes.get(len..).and_then(|rest| rest.first_chunk::<2>()).ok_or_else(cut)?;
        if *stated != crc32(header).to_le_bytes()[..2] {
            return Err("does not match the checksum of its gzip header".into());
        }
        len += 2;
    }
    if len > bytes.len() { Err(cut()) } else { Ok(len) }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn gzip_trailer(content: &[u8]) -> [u8; 8] {
    let len = u32::try_from(content.len()).expect("a block has at most 16 MiB");
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc32(content).to_le_bytes());
    trailer[4..].copy_from_slice(&len.to_le_bytes());
    trailer
}

/// How bytes become a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Stored,
    /// A zstd frame, as `zstd -1` would make it.
    Zstd,
    /// A zstd frame of Huffman codes and, as good as always, no matches: for planes of exponents. No match that could be
    /// found there is worth its place among the codes, and a frame without any is both smaller and faster to unpack.
    ///
    /// Of 8 rows of 768 normally distributed f32 values, the plane of exponents takes 2,113 bytes, 9.6 us to pack and
    /// 3.2 us to unpack; at level 1 it takes 2,430 bytes, 25 us and 6.4 us (`tests/rates.rs`, one core of an AMD EPYC of
    /// the Zen 5 class, November 2026). So a second frame at level 1 is not even tried: it would seldom be the smaller one,
    /// and packing would take more than three times as long.
    ZstdLiterals,
    /// A gzip member, as `gzip -6` would make it, without a name or a time.
    Gzip,
}

impl Packing {
    /// How the bytes are unpacked.
    pub fn stream(self) -> Stream {
        match self {
            Packing::Stored => Stream::Stored,
            Packing::Zstd | Packing::ZstdLiterals => Stream::Zstd,
            Packing::Gzip => Stream::Gzip,
        }
    }
}

/// Packs streams, with memory that is used again from one to the next. One for each thread.
#[derive(Default)]
pub struct Deflater {
    zstd: Option<CCtx<'static>>,
    literals: Option<CCtx<'static>>,
    deflate: Option<Compress>,
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// Appends the stream of one block to `out`, and says how long it is. The same bytes give the same stream, whatever
    /// was packed before.
    ///
    /// # Panics
    /// There are more than [`MAX_BLOCK_LEN`] bytes, or no memory is left.
    pub fn deflate(&mut self, packing: Packing, bytes: &[u8], out: &mut Vec<u8>) -> u32 {
        assert!(bytes.len() as u64 <= MAX_BLOCK_LEN, "a block of {} bytes", bytes.len());
        let start = out.len();
        match packing {
            Packing::Stored => out.extend_from_slice(bytes),
            Packing::Zstd => {
                let context =
                    self.zstd.get_or_insert_with(|| context(&[CParameter::CompressionLevel(ZSTD_LEVEL)]));
                deflate_zstd(context, bytes, out);
            }
            Packing::ZstdLiterals => {
                let context = self.literals.get_or_insert_with(|| {
                    // The fastest search there is, for matches of seven bytes and more, in a table of 64 entries.
                    // (Skipping ahead with TargetLength would turn Huffman codes off as well.)
                    context(&[
                        CParameter::CompressionLevel(1),
                        CParameter::Strategy(Strategy::ZSTD_fast),
                        CParameter::MinMatch(7),
                        CParameter::HashLog(6),
                    ])
                });
                deflate_zstd(context, bytes, out);
            }
            Packing::Gzip => self.deflate_gzip(bytes, out),
        }
        u32::try_from(out.len() - start).expect("hardly longer than the block")
    }

    fn deflate_gzip(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let context = self.deflate.get_or_insert_with(|| Compress::new(Compression::new(GZIP_LEVEL), false));
        context.reset();
        out.extend_from_slice(&GZIP_HEADER);
        loop {
            let done = usize::try_from(context.total_in()).expect("at most 16 MiB");
            // Nearly always enough: what cannot be packed grows by five bytes for every 16 KiB or so.
            out.reserve((bytes.len() - done) / 2 + bytes.len() / 1024 + 64);
            let status = context.compress_vec(&bytes[done..], out, FlushCompress::Finish);
            if status.expect("all of the input is there") == Status::StreamEnd {
                break;
            }
        }
        out.extend_from_slice(&gzip_trailer(bytes));
    }
}

/// A context that makes frames without a checksum, which the block already has, and without the id of a dictionary.
fn context(parameters: &[CParameter]) -> CCtx<'static> {
    let mut context = CCtx::create();
    let always =
        [CParameter::ContentSizeFlag(true), CParameter::ChecksumFlag(false), CParameter::DictIdFlag(false)];
    for parameter in parameters.iter().chain(&always) {
        context.set_parameter(*parameter).expect("within the range of the parameter");
    }
    context
}

fn deflate_zstd(context: &mut CCtx<'static>, bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + zstd_safe::compress_bound(bytes.len()), 0);
    let len = context.compress2(&mut out[start..], bytes);
    let len = len.map_err(zstd_safe::get_error_name).expect("the output is long enough");
    out.truncate(start + len);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(packing: Packing, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![7; 3];
        let len = Deflater::default().deflate(packing, bytes, &mut out);
        assert_eq!(out[..3], [7; 3]);
        let stream = out.split_off(3);
        assert_eq!(stream.len(), len as usize);
        stream
    }

    fn unpack(stream: Stream, bytes: &[u8], len: usize) -> Result<Vec<u8>, String> {
        let mut out = vec![0x77; len];
        let mut inflater = Inflater::default();
        let result = inflater.inflate(stream, 5, bytes, &mut out);
        result.map_err(|error| {
            let message = error.to_string();
            message.strip_prefix("the payload is damaged: the stream of block 5 ").unwrap().to_owned()
        })?;
        // The same, if the length is not known.
        let mut all = vec![1; 7];
        inflater.inflate_all(stream, 5, bytes, &mut all).unwrap();
        assert_eq!(all, out);
        Ok(out)
    }

    const PACKINGS: [Packing; 4] = [Packing::Stored, Packing::Zstd, Packing::ZstdLiterals, Packing::Gzip];

    fn samples() -> Vec<Vec<u8>> {
        let noise =
            |len: u32| (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        let text = b"cold and colder and coldest ".repeat(1000);
        vec![vec![], vec![0], noise(1), noise(1000), noise(300_000), vec![9; 70_000], text]
    }

    #[test]
    fn streams_go_round_and_hold_nothing_else() {
        for sample in samples() {
            for packing in PACKINGS {
                let stream = pack(packing, &sample);
                assert_eq!(unpack(packing.stream(), &stream, sample.len()).unwrap(), sample, "{packing:?}");
                let wrong = |stream: &[u8], len| unpack(packing.stream(), stream, len).unwrap_err();
                wrong(&stream, sample.len() + 1);
                if let Some(less) = sample.len().checked_sub(1) {
                    wrong(&stream, less);
                }
                // Something after it: anything, an empty frame, the same again.
                for after in [&[0][..], &pack(packing, &[]), &stream] {
                    if !after.is_empty() {
                        wrong(&[&stream, after].concat(), sample.len());
                    }
                }
                // Every cut, or many of them.
                for len in (0..stream.len()).step_by(stream.len().div_ceil(97).max(1)) {
                    wrong(&stream[..len], sample.len());
                }
            }
        }
    }

    #[test]
    fn memory_that_was_used_leaves_no_trace() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        for sample in samples().iter().chain(&samples()) {
            for packing in PACKINGS {
                let mut stream = Vec::new();
                deflater.deflate(packing, sample, &mut stream);
                assert_eq!(stream, pack(packing, sample), "{packing:?}");
                // Neither does a stream that was damaged.
                inflater.inflate(packing.stream(), 0, &stream[..stream.len() / 2], &mut [0; 7]).unwrap_err();
                let mut out = vec![0; sample.len()];
                inflater.inflate(packing.stream(), 0, &stream, &mut out).unwrap();
                assert_eq!(out, *sample);
            }
        }
    }

    #[test]
    fn no_damage_is_a_panic() {
        for sample in [&b"0123456789".repeat(9)[..], &[3; 100], &[]] {
            for packing in PACKINGS {
                let stream = pack(packing, sample);
                for bit in 0..stream.len() * 8 {
                    let mut damaged = stream.clone();
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    let mut out = vec![0; sample.len()];
                    let mut inflater = Inflater::default();
                    let result = inflater.inflate(packing.stream(), 0, &damaged, &mut out);
                    // A gzip member has a checksum, but bits that mean nothing: the time, those after the last code.
                    assert!(packing != Packing::Gzip || result.is_err() || out == sample, "bit {bit}");
                    let _ = inflater.inflate_all(packing.stream(), 0, &damaged, &mut out);
                }
            }
        }
    }

    /// Frames by hand: a header, and one raw block of five bytes.
    #[test]
    fn frames_are_what_the_format_allows() {
        let frame = |header: &[u8]| {
            let block = [0x29, 0, 0, b'h', b'e', b'l', b'l', b'o'];
            let frame = [&[0x28, 0xb5, 0x2f, 0xfd], header, &block].concat();
            unpack(Stream::Zstd, &frame, 5).map(|out| assert_eq!(out, b"hello"))
        };
        // One segment; a window of 1 KiB; of 8 MiB; sizes of four and eight bytes; a dictionary of number 0; the bit that
        // means nothing.
        for header in [
            &[0x20, 5][..],
            &[0x80, 0, 5, 0, 0, 0],
            &[0x80, 13 << 3, 5, 0, 0, 0],
            &[0xa0, 5, 0, 0, 0],
            &[0xe0, 5, 0, 0, 0, 0, 0, 0, 0],
            &[0x21, 0, 5],
            &[0x30, 5],
        ] {
            frame(header).unwrap();
        }
        for (header, problem) in [
            (&[0x00, 0][..], "does not state its content size"),
            (&[0x80, 13 << 3 | 1, 5, 0, 0, 0], "a window of 9437184 bytes"),
            (&[0x80, 0xff, 5, 0, 0, 0], "a window of 4123168604160 bytes"),
            (&[0xa0, 1, 0, 0x80, 0], "a window of 8388609 bytes"),
            (&[0x22, 1, 2, 5], "needs the zstd dictionary 513"),
            (&[0x28, 5], "reserved bit"),
            (&[0x20, 6], "decodes to 6 bytes, its rows need 5"),
            (&[0x40, 0, 5, 0], "decodes to 261 bytes"),
        ] {
            let message = frame(header).unwrap_err();
            assert!(message.contains(problem), "{header:?}: {message}");
        }
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        assert_eq!(unpack(Stream::Zstd, &skippable, 0).unwrap_err(), "is not a zstd frame");
        // A checksum at the end is read.
        let sum = [&[0x28, 0xb5, 0x2f, 0xfd, 0x24, 5, 0x29, 0, 0][..], b"hello", &[1, 2, 3, 4]].concat();
        assert!(unpack(Stream::Zstd, &sum, 5).unwrap_err().contains("checksum"));
    }

    #[test]
    fn members_are_what_the_format_allows() {
        let stored = [1, 5, 0, 0xfa, 0xff, b'h', b'e', b'l', b'l', b'o'];
        let member = |flags: u8, extra: &[u8]| {
            let header = [&GZIP_MAGIC[..], &[flags, 1, 2, 3, 4, 2, 3], extra].concat();
            let mut member = header.clone();
            if flags & 2 != 0 {
                member.extend(&crc32(&header).to_le_bytes()[..2]);
            }
            [&member, &stored[..], &gzip_trailer(b"hello")].concat()
        };
        let all = member(31, &[2, 0, 9, 9, b'n', 0, b'c', b'c', 0]);
        for good in [member(0, &[]), member(1, &[]), member(8, b"name\0"), member(2, &[]), all.clone()] {
            assert_eq!(unpack(Stream::Gzip, &good, 5).unwrap(), b"hello");
        }
        let mut wrong_header = all.clone();
        wrong_header[4] ^= 1;
        let (mut wrong_crc, mut wrong_len) = (member(0, &[]), member(0, &[]));
        wrong_crc[20] ^= 1;
        wrong_len[24] ^= 1;
        for (bad, problem) in [
            (member(0x20, &[]), "reserved flags"),
            (member(8, b"nam")[..13].to_vec(), "ends within the header"),
            (wrong_header, "checksum of its gzip header"),
            (wrong_crc, "checksum and the length"),
            (wrong_len.clone(), "checksum and the length"),
            ([member(0, &[]), member(0, &[])].concat(), "bytes after its gzip member"),
            (b"\x1f\x8b\x07".to_vec(), "is not a gzip member"),
        ] {
            let mut inflater = Inflater::default();
            let message = inflater.inflate(Stream::Gzip, 5, &bad, &mut [0; 5]).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
        let message = Inflater::default().inflate_all(Stream::Gzip, 0, &wrong_len, &mut Vec::new());
        assert!(message.is_err());
    }

    #[test]
    fn nothing_is_reserved_for_a_size_without_bytes() {
        // 16 MiB from twenty bytes, and 2^60 of them.
        let claims = [&[0xa0, 0, 0, 0, 1][..], &[0xe0, 0, 0, 0, 0, 0, 0, 0, 16]];
        for header in claims {
            let frame = [&[0x28, 0xb5, 0x2f, 0xfd], header, &[1, 0, 0]].concat();
            let mut out = Vec::new();
            let error = Inflater::default().inflate_all(Stream::Zstd, 0, &frame, &mut out).unwrap_err();
            assert!(
                error.to_string().contains("too many") || error.to_string().contains("window"),
                "{error}"
            );
            assert_eq!(out.capacity(), 0);
        }
    }
}
