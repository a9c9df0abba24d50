//! From the first bytes of a CVCF file to a checked index.
//!
//! [`Walk`] asks for one range of bytes at a time: the header, then the few bytes in front of each payload.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::header::Header;
use super::{MAGIC, frame_header_len, header_offset};
use crate::error::FormatError;
use crate::index::{ChunkId, FileIndex, Frame, Layout};
use crate::limits::Limits;

/// What a [`Walk`] wants next.
#[derive(Debug)]
pub(crate) enum Next {
    /// These bytes of the file, all of them. The range lies inside the file.
    Read(Range<u64>),
    /// Nothing: this is the index.
    Done(FileIndex),
}

/// A CVCF file being opened.
#[derive(Debug)]
pub(crate) struct Walk {
    file_len: u64,
    limits: Limits,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Reading the header as the first of `candidates` explains it.
    Header {
        candidates: Vec<Candidate>,
        parsed: Option<Header>,
        /// Why an earlier candidate was no header, to be reported if none is.
        failed: Option<FormatError>,
    },
    /// Reading the bytes in front of payload `frames.len()`.
    Frames {
        header: Header,
        frames: Vec<Frame>,
        position: u64,
    },
    Finished,
}

/// One way to explain the first bytes: an unversioned (v0) or a versioned header.
#[derive(Clone, Debug)]
struct Candidate {
    version: Option<(u16, u16)>,
    header: Range<u64>,
}

impl Walk {
    /// Begins with the first sixteen bytes, or all there are, and says which bytes to feed first.
    pub(crate) fn new(
        file_len: u64,
        limits: Limits,
        first: &[u8],
    ) -> Result<(Walk, Range<u64>), FormatError> {
        let mut walk = Walk { file_len, limits, state: State::Finished };
        let candidates = walk.candidates(first)?;
        let header = candidates[0].header.clone();
        walk.state = State::Header { candidates, parsed: None, failed: None };
        Ok((walk, header))
    }

    /// Takes the bytes that were asked for.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Next, FormatError> {
        match core::mem::replace(&mut self.state, State::Finished) {
            State::Header { mut candidates, parsed, failed } => {
                let candidate = candidates.remove(0);
                let (parsed, failed) = match (self.parse(&candidate, bytes), parsed, failed) {
                    (Ok(_), Some(_), _) => return Err(FormatError::Ambiguous),
                    (Ok(header), None, failed) => (Some(header), failed),
                    (Err(_), Some(header), failed) => (Some(header), failed),
                    // Candidates come unversioned first; a version that exists says more about what was meant.
                    (Err(FormatError::UnknownVersion { .. }), None, Some(failed)) => (None, Some(failed)),
                    (Err(error), None, _) => (None, Some(error)),
                };
                if let Some(next) = candidates.first().map(|candidate| candidate.header.clone()) {
                    self.state = State::Header { candidates, parsed, failed };
                    return Ok(Next::Read(next));
                }
                match (parsed, failed) {
                    (Some(header), _) => {
                        let position = header.end;
                        self.walk(header, Vec::new(), position)
                    }
                    (None, Some(error)) => Err(error),
                    (None, None) => unreachable!("every candidate either parses or fails"),
                }
            }
            State::Frames { header, mut frames, position } => {
                let payload_len = u64::from(u32_at(bytes, 0));
                let crc32 = header.layout.has_checksums().then(|| u32_at(bytes, 4));
                let start = position + bytes.len() as u64;
                let chunk = chunk_id(frames.len());
                // No overflow: start lies inside the file, and a length has 32 bits.
                let end = start + payload_len;
                if end > self.file_len {
                    return Err(self.truncated(format!("the payload of {chunk}"), start..end));
                }
                frames.push(Frame { bytes: start..end, crc32 });
                self.walk(header, frames, end)
            }
            State::Finished => unreachable!("fed after it was over"),
        }
    }

    /// The ways to explain the first bytes. At least one; each header range lies inside the file.
    fn candidates(&self, first: &[u8]) -> Result<Vec<Candidate>, FormatError> {
        if first.len() < 4 || first[..4] != MAGIC {
            return Err(FormatError::NotCvc { found: hex(&first[..first.len().min(4)]) });
        }
        // No byte 8, or one that only a versioned header can explain, which needs byte 12.
        if first.len() < 9 || (first.len() < 13 && first[8] != b'{') {
            return Err(self.truncated("the first bytes".into(), 0..16));
        }
        let mut candidates = Vec::new();
        if first[8] == b'{' {
            candidates.push(Candidate { version: None, header: 8..8 + u64::from(u32_at(first, 4)) });
        }
        if first.get(12) == Some(&b'{') {
            let version = (u16_at(first, 4), u16_at(first, 6));
            candidates
                .push(Candidate { version: Some(version), header: 12..12 + u64::from(u32_at(first, 8)) });
        }
        // Only a header that lies inside the file and within the limit explains anything.
        let mut problem = FormatError::NoHeader;
        candidates.retain(|candidate| {
            let len = candidate.header.end - candidate.header.start;
            if candidate.header.end > self.file_len {
                problem = self.truncated("the header".into(), candidate.header.clone());
                false
            } else if len > self.limits.header_len {
                let limit = self.limits.header_len;
                problem =
                    FormatError::Limit { what: "header length", value: len, limit, field: "header_len" };
                false
            } else {
                true
            }
        });
        if candidates.is_empty() { Err(problem) } else { Ok(candidates) }
    }

    fn parse(&self, candidate: &Candidate, bytes: &[u8]) -> Result<Header, FormatError> {
        let layout = match candidate.version {
            None => Layout::V0,
            Some((1, 0)) => Layout::V1,
            Some((2, 0)) => Layout::V2,
            Some((major, minor)) => return Err(FormatError::UnknownVersion { major, minor }),
        };
        debug_assert_eq!(candidate.header.start, header_offset(layout));
        Header::parse(layout, bytes, candidate.header.end, &self.limits)
    }

    /// Goes to the next frame, which for the mapped layout is where the header says, or finishes.
    fn walk(&mut self, header: Header, frames: Vec<Frame>, position: u64) -> Result<Next, FormatError> {
        let chunk = chunk_id(frames.len());
        let Some(fields) = header.chunks.get(frames.len()) else {
            let trailing_len = self.file_len - position;
            return header.finish(frames, trailing_len).map(Next::Done);
        };
        let start = match fields.file_offset {
            None => position,
            Some(offset) if offset >= position => offset,
            Some(offset) => {
                let problem = format!(
                    "its frame would begin inside what comes before it, which ends at byte {position}. The package \
                     decompressed 2.x damages mapped files this way when it writes many chunks; pack the vectors again"
                );
                return Err(FormatError::Frame { chunk, offset, problem });
            }
        };
        let end = start.checked_add(frame_header_len(header.layout)).filter(|end| *end <= self.file_len);
        let Some(end) = end else {
            let end = start.saturating_add(frame_header_len(header.layout));
            return Err(self.truncated(format!("the frame of {chunk}"), start..end));
        };
        self.state = State::Frames { header, frames, position: start };
        Ok(Next::Read(start..end))
    }

    fn truncated(&self, what: String, needed: Range<u64>) -> FormatError {
        FormatError::Truncated { what, start: needed.start, end: needed.end, file_len: self.file_len }
    }
}

fn chunk_id(index: usize) -> ChunkId {
    ChunkId(u32::try_from(index).unwrap_or(u32::MAX))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".into();
    }
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}
