//! Checksums of frames, each computed once, the first time one of its bytes is wanted.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crc_fast::{CrcAlgorithm, Digest};
use cvc_codec::SourceError;
use cvc_format::index::Frame;

use crate::ahead::Ahead;
use crate::io::ReadAt;
use crate::par;

/// Whether payloads are compared with their checksums, in the layouts that have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// A frame is checked the first time any of its bytes is wanted. One column of a columnar file, or a few
    /// rows of a chunk, then cost reading all of the chunk once.
    #[default]
    FirstTouch,
    /// Never: only the bytes wanted are read, and damage is returned as if it were data.
    Never,
}

/// CRC-32 (IEEE), the checksum of the CVCF layouts.
pub(crate) fn crc32() -> Digest {
    Digest::new(CrcAlgorithm::Crc32IsoHdlc)
}

/// Bytes hashed at a time: large enough that a read is worth its system call, small enough to be hashed while they
/// are still in the cache of the core that read them.
const PIECE_LEN: u64 = 256 << 10;

/// Which frames of a file are known to be good.
#[derive(Debug)]
pub(crate) struct FrameChecks {
    policy: Checksums,
    /// One for each frame. Only ever set after its checksum was seen to be right, and the bytes of a file do
    /// not change while it is open, so two threads that check a frame twice do no harm.
    good: Vec<AtomicBool>,
}

impl FrameChecks {
    pub(crate) fn new(policy: Checksums, frames: usize) -> Self {
        FrameChecks { policy, good: std::iter::repeat_with(AtomicBool::default).take(frames).collect() }
    }

    /// Checks those of `frames` (indexes into `all`) that have not been checked before.
    pub(crate) fn ensure(
        &self,
        all: &[Frame],
        frames: impl Iterator<Item = usize>,
        source: &dyn ReadAt,
    ) -> Result<(), BadFrame> {
        if self.policy == Checksums::Never {
            return Ok(());
        }
        let unchecked: Vec<usize> =
            frames.filter(|frame| !self.good[*frame].load(Ordering::Relaxed)).collect();
        check(all, &unchecked, source)?;
        for frame in unchecked {
            self.good[frame].store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A frame that could not be read or is damaged.
#[derive(Debug)]
pub(crate) struct BadFrame {
    /// Its index.
    pub(crate) frame: usize,
    /// Why.
    pub(crate) error: SourceError,
}

/// Compares the bytes of each of `frames` (indexes into `all`) with its checksum, if it has one. All cores hash pieces
/// of them, whose checksums are then combined; a frame can be much larger than a cache.
///
/// # Errors
/// The first frame that is damaged, or for which the source failed.
pub(crate) fn check(all: &[Frame], frames: &[usize], source: &dyn ReadAt) -> Result<(), BadFrame> {
    let piece_count = |frame: &Frame| (frame.bytes.end - frame.bytes.start).div_ceil(PIECE_LEN);
    let mut pieces: Vec<(usize, Range<u64>)> = Vec::new();
    for frame in frames.iter().filter(|frame| all[**frame].crc32.is_some()) {
        let Range { start, end } = all[*frame].bytes;
        for piece in 0..piece_count(&all[*frame]) {
            let start = start + piece * PIECE_LEN;
            pieces.push((*frame, start..(start + PIECE_LEN).min(end)));
        }
    }
    let ahead = Ahead::new(source, pieces.iter().map(|(_, piece)| piece.clone()));
    let source = ahead.as_ref().map_or(source, |ahead| ahead as &dyn ReadAt);
    let hashers = par::try_map(&pieces, Vec::new, |scratch: &mut Vec<u8>, (frame, piece)| {
        let mut hasher = crc32();
        match source.borrow(piece.clone()) {
            Some(bytes) => hasher.update(bytes),
            None => {
                scratch.resize(usize::try_from(piece.end - piece.start).expect("at most PIECE_LEN"), 0);
                source.read_at(piece.start, scratch).map_err(|error| BadFrame { frame: *frame, error })?;
                hasher.update(scratch);
            }
        }
        Ok(hasher)
    })?;
    let mut hashers = hashers.iter();
    for frame in frames {
        let Some(expected) = all[*frame].crc32 else { continue };
        let mut whole = crc32();
        for _ in 0..piece_count(&all[*frame]) {
            whole.combine(hashers.next().expect("one for each piece"));
        }
        let found = u32::try_from(whole.finalize()).expect("a checksum of 32 bits");
        if found != expected {
            let Range { start, end } = all[*frame].bytes;
            let error = SourceError::Checksum { start, end, expected, found };
            return Err(BadFrame { frame: *frame, error });
        }
    }
    Ok(())
}
