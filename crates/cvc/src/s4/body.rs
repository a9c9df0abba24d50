//! Reading a body: where its frames are, and the bytes they decode to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::decode::{Decoder, Place, ReadOptions};
use super::error::Error;
use super::index::{Entry, Index, Matched};
use super::wire::{
    Codec, FRAME_HEADER_LEN, FRAME_MAGIC, FrameHeader, MAX_FRAME_LEN, PADDING_HEADER_LEN, PADDING_MAGIC,
    array_at, u64_at,
};
use crate::io::ReadAt;

/// The object of frames that S4 stores for one object of its users.
///
/// There is no end mark in a body: one that was cut between two frames is a shorter body. Compare
/// [`totals`](Body::totals) with the object's metadata, or open with its sidecar, to know that all of it is there.
#[derive(Clone, Debug)]
pub struct Body<'s> {
    source: Source<'s>,
    frames: Vec<Frame>,
    options: ReadOptions,
}

/// One frame: where it lies, and which bytes of the whole it decodes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Its bytes in the body, the header included.
    pub stored: Range<u64>,
    /// Its bytes among all that the body decodes to.
    pub decoded: Range<u64>,
    /// What it says of itself. `None` if a sidecar named the frame: nobody has looked at it yet.
    pub header: Option<FrameHeader>,
}

impl Frame {
    /// How its payload is compressed, if somebody has looked.
    pub fn codec(&self) -> Option<Codec> {
        self.header.map(|header| header.codec)
    }
}

/// The figures of a whole object, as its metadata has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Bytes that the body decodes to: `s4-original-size`.
    pub decoded_len: u64,
    /// Bytes of the body: `s4-compressed-size`.
    pub stored_len: u64,
    /// crc32c of all decoded bytes: `s4-crc32c`.
    pub crc32c: u32,
}

impl Totals {
    /// Compares them with those of the object's metadata.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with the first that differs.
    pub fn check(&self, metadata: &Totals) -> Result<(), Error> {
        let crc32c = |totals: &Totals| format!("{:08x}", totals.crc32c);
        let differs = |what, expected: String, found: String| {
            Err(Error::Mismatch { what, described_by: "metadata", expected, found })
        };
        if self.stored_len != metadata.stored_len {
            differs("body's length", metadata.stored_len.to_string(), self.stored_len.to_string())
        } else if self.decoded_len != metadata.decoded_len {
            differs("decoded length", metadata.decoded_len.to_string(), self.decoded_len.to_string())
        } else if self.crc32c != metadata.crc32c {
            differs("crc32c of the whole", crc32c(metadata), crc32c(self))
        } else {
            Ok(())
        }
    }
}

impl<'s> Body<'s> {
    /// Finds the frames by walking from header to header: one small read for each frame or padding.
    ///
    /// # Errors
    /// The source fails, bytes are neither frame nor padding, the body ends inside one, a codec is unknown, or there
    /// are more frames than the limits allow.
    pub fn open(source: impl Into<Source<'s>>, options: ReadOptions) -> Result<Body<'s>, Error> {
        let source = source.into();
        let (frames, _) = walk(&source, &options)?;
        Ok(Body { source, frames, options })
    }

    /// Takes the frames from a sidecar and reads nothing yet. Each frame's own header is compared with the sidecar
    /// when the frame is read.
    ///
    /// # Errors
    /// The source does not have the length that the sidecar was matched with, or there are more frames than the
    /// limits allow.
    pub fn open_indexed(
        source: impl Into<Source<'s>>,
        index: Matched<'_>,
        options: ReadOptions,
    ) -> Result<Body<'s>, Error> {
        let source = source.into();
        let index = index.index();
        index.check_len(source.len())?;
        check_frames(index.entries().len(), &options)?;
        let frame = |entry: &Entry| Frame {
            stored: entry.stored.clone(),
            decoded: entry.decoded.clone(),
            header: None,
        };
        Ok(Body { source, frames: index.entries().iter().map(frame).collect(), options })
    }

    /// The frames in order; padding is not among them.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Bytes that the whole body decodes to.
    pub fn decoded_len(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.decoded.end)
    }

    /// Overwrites `out` with what frame `number` decodes to. A buffer that is used again and again is not cleared
    /// in between, which saves time. After an error it is empty.
    ///
    /// # Errors
    /// There is no such frame, the source fails, the codec cannot be decoded here, the payload does not decode to
    /// what the header says, or the crc32c differs.
    pub fn read_frame(&self, number: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut scratch = Vec::new();
        let result = self.stored_frame(number, &mut scratch).and_then(|(place, header, payload)| {
            Decoder::new(&self.options).replace(place, header, payload, out)
        });
        if result.is_err() {
            out.clear();
        }
        result
    }

    /// The decoded bytes of `range`. Only the frames that hold some of them are read and decoded. The result is as
    /// long as the range: a body of a few kilobytes may rightly decode to gigabytes.
    ///
    /// # Errors
    /// The range is not within [`decoded_len`](Body::decoded_len), or as [`read_frame`](Body::read_frame).
    pub fn read_range(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        if range.start > range.end || range.end > self.decoded_len() {
            return Err(Error::Argument {
                argument: "range",
                value: format!("{range:?}"),
                problem: "it must lie within 0..decoded_len() of the body",
            });
        }
        let decoder = Decoder::new(&self.options);
        let (mut out, mut stored, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        let first = self.frames.partition_point(|frame| frame.decoded.end <= range.start);
        for (number, frame) in self.frames.iter().enumerate().skip(first) {
            let wanted = frame.decoded.start.max(range.start)..frame.decoded.end.min(range.end);
            if frame.decoded.start >= range.end {
                break;
            }
            if wanted.is_empty() {
                continue;
            }
            let (place, header, payload) = self.stored_frame(number, &mut stored)?;
            if wanted == frame.decoded {
                decoder.append(place, header, payload, &mut out)?;
            } else {
                decoder.replace(place, header, payload, &mut whole)?;
                let within = |at: u64| usize::try_from(at - frame.decoded.start).unwrap_or(whole.len());
                out.extend_from_slice(&whole[within(wanted.start)..within(wanted.end)]);
            }
        }
        Ok(out)
    }

    /// The figures to compare with the object's metadata, from the frames' headers; nothing is decoded.
    ///
    /// # Errors
    /// A header that nobody has looked at yet cannot be read, or is not what the sidecar says.
    pub fn totals(&self) -> Result<Totals, Error> {
        let mut crc32c = 0;
        for (number, frame) in self.frames.iter().enumerate() {
            let header = match frame.header {
                Some(header) => header,
                None => {
                    let mut bytes = [0; FRAME_HEADER_LEN];
                    self.source.read(frame.stored.start, &mut bytes)?;
                    self.header(number, &bytes)?
                }
            };
            // Within 5 GiB, which a 32-bit machine cannot say; nor could it decode such a frame.
            let len = usize::try_from(header.decoded_len)
                .map_err(|_| Error::Memory { bytes: header.decoded_len })?;
            crc32c = super::crc32c_combine(crc32c, header.crc32c, len);
        }
        Ok(Totals { decoded_len: self.decoded_len(), stored_len: self.source.len(), crc32c })
    }

    /// The sidecar of this body, not yet bound to an object.
    pub fn index(&self) -> Index {
        let entry = |frame: &Frame| Entry { decoded: frame.decoded.clone(), stored: frame.stored.clone() };
        Index::new(self.frames.iter().map(entry).collect(), self.source.len())
    }

    /// Looks at every byte: decodes each frame, and sees that padding is padding and zero. Returns all that is
    /// wrong, in the order of the body where it can be told.
    pub fn verify(&self) -> Vec<Error> {
        let (frames, padding) = match walk(&self.source, &self.options) {
            Ok(found) => found,
            Err(error) => return vec![error],
        };
        let differs = (0..frames.len().max(self.frames.len())).find(|number| {
            match (frames.get(*number), self.frames.get(*number)) {
                (Some(found), Some(known)) => {
                    (&found.stored, &found.decoded) != (&known.stored, &known.decoded)
                        || known.header.is_some() && known.header != found.header
                }
                _ => true,
            }
        });
        if let Some(frame) = differs {
            let offset = self.frames.get(frame).or(frames.get(frame)).map_or(0, |frame| frame.stored.start);
            return vec![self.other_header(frame, offset)];
        }
        let mut errors = Vec::new();
        let mut out = Vec::new();
        for number in 0..frames.len() {
            errors.extend(self.read_frame(number, &mut out).err());
        }
        for range in padding {
            errors.extend(self.padding(range).err());
        }
        errors
    }

    /// A frame's place, its header and its payload.
    fn stored_frame<'b>(
        &'b self,
        number: usize,
        scratch: &'b mut Vec<u8>,
    ) -> Result<(Place, FrameHeader, &'b [u8]), Error> {
        let Some(frame) = self.frames.get(number) else {
            return Err(Error::Argument {
                argument: "frame",
                value: number.to_string(),
                problem: "it must be below the number of frames()",
            });
        };
        let stored = self.source.bytes(frame.stored.clone(), scratch)?;
        // A frame is never shorter than its header: `walk` and `Index::parse` saw to that.
        let (header, payload) = stored.split_at(FRAME_HEADER_LEN);
        let header = self.header(number, &array_at(header, 0))?;
        let payload_at = frame.stored.start + FRAME_HEADER_LEN as u64;
        Ok((Place { frame: number, stored: frame.stored.clone(), payload_at }, header, payload))
    }

    /// Reads a frame's header again, which must be the one that is known, or the one that the sidecar implies.
    fn header(&self, number: usize, bytes: &[u8; FRAME_HEADER_LEN]) -> Result<FrameHeader, Error> {
        let frame = &self.frames[number];
        let offset = frame.stored.start;
        if !bytes.starts_with(&FRAME_MAGIC) {
            return Err(self.other_header(number, offset));
        }
        let header =
            FrameHeader::parse(bytes).map_err(|id| Error::UnknownCodec { frame: number, offset, id })?;
        let stored_len = header.payload_len.checked_add(FRAME_HEADER_LEN as u64);
        let fits = stored_len == Some(frame.stored.end - offset)
            && header.decoded_len == frame.decoded.end - frame.decoded.start;
        match frame.header {
            Some(known) if known != header => Err(self.other_header(number, offset)),
            None if !fits => Err(self.other_header(number, offset)),
            _ => Ok(header),
        }
    }

    fn other_header(&self, frame: usize, offset: u64) -> Error {
        // All frames of a body come from the same place.
        let walked = self.frames.first().is_some_and(|frame| frame.header.is_some());
        Error::Header {
            frame,
            offset,
            known_from: if walked { "the first look at it" } else { "the sidecar" },
        }
    }

    /// Sees that padding is zero.
    fn padding(&self, range: Range<u64>) -> Result<(), Error> {
        let mut piece = [0; 8192];
        let mut at = range.start;
        while at < range.end {
            let len = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(piece.len());
            self.source.read(at, &mut piece[..len])?;
            if let Some(found) = piece[..len].iter().position(|byte| *byte != 0) {
                return Err(Error::Padding { offset: at + found as u64 });
            }
            at += len as u64;
        }
        Ok(())
    }
}

/// Finds the frames, and the bytes of each padding.
fn walk(source: &Source<'_>, options: &ReadOptions) -> Result<(Vec<Frame>, Vec<Range<u64>>), Error> {
    let body_len = source.len();
    let (mut frames, mut padding) = (Vec::new(), Vec::new());
    let (mut offset, mut decoded) = (0, 0u64);
    while offset < body_len {
        let truncated = |what, end| Error::Truncated { what, start: offset, end, body_len };
        let mut head = [0; FRAME_HEADER_LEN];
        let there = FRAME_HEADER_LEN.min(usize::try_from(body_len - offset).unwrap_or(FRAME_HEADER_LEN));
        source.read(offset, &mut head[..there])?;
        let magic: [u8; 4] = array_at(&head, 0);
        if there < 4 && (FRAME_MAGIC.starts_with(&head[..there]) || PADDING_MAGIC.starts_with(&head[..there]))
        {
            return Err(truncated("a frame's magic", offset + 4));
        }
        let end = if magic == PADDING_MAGIC {
            let header_end = offset + PADDING_HEADER_LEN as u64;
            if there < PADDING_HEADER_LEN {
                return Err(truncated("a padding's header", header_end));
            }
            let end = header_end.saturating_add(u64_at(&head, 4));
            if end > body_len {
                return Err(truncated("padding", end));
            }
            padding.push(header_end..end);
            end
        } else if magic == FRAME_MAGIC {
            let header_end = offset + FRAME_HEADER_LEN as u64;
            if there < FRAME_HEADER_LEN {
                return Err(truncated("a frame's header", header_end));
            }
            let frame = frames.len();
            let header = FrameHeader::parse(&head).map_err(|id| Error::UnknownCodec { frame, offset, id })?;
            let end = header_end.saturating_add(header.payload_len);
            if end > body_len {
                return Err(truncated("a frame's payload", end));
            }
            if header.decoded_len > MAX_FRAME_LEN {
                return Err(Error::FrameLen { frame, offset, decoded_len: header.decoded_len });
            }
            check_frames(frame + 1, options)?;
            // Cannot overflow while there are fewer than 2^31 frames, for which the body would have 60 GB of headers.
            let decoded_end = decoded.saturating_add(header.decoded_len);
            frames.push(Frame { stored: offset..end, decoded: decoded..decoded_end, header: Some(header) });
            decoded = decoded_end;
            end
        } else {
            return Err(Error::Magic { offset, found: magic });
        };
        offset = end;
    }
    Ok((frames, padding))
}

fn check_frames(frames: usize, options: &ReadOptions) -> Result<(), Error> {
    let limit = options.limits.frames;
    if frames > limit {
        return Err(Error::Limit {
            what: "the number of frames",
            value: frames as u64,
            limit: limit as u64,
            field: "frames",
        });
    }
    Ok(())
}

/// Where the bytes of a body are: in memory, or behind any [`ReadAt`].
#[derive(Clone)]
pub struct Source<'s>(Bytes<'s>);

#[derive(Clone)]
enum Bytes<'s> {
    Memory(&'s [u8]),
    Elsewhere(&'s dyn ReadAt),
    Shared(Arc<dyn ReadAt>),
}

impl<'s> From<&'s [u8]> for Source<'s> {
    fn from(bytes: &'s [u8]) -> Self {
        Source(Bytes::Memory(bytes))
    }
}

impl<'s> From<&'s dyn ReadAt> for Source<'s> {
    fn from(source: &'s dyn ReadAt) -> Self {
        Source(Bytes::Elsewhere(source))
    }
}

impl From<Arc<dyn ReadAt>> for Source<'static> {
    /// For a body that outlives the place where it was opened.
    fn from(source: Arc<dyn ReadAt>) -> Self {
        Source(Bytes::Shared(source))
    }
}

impl<'s, S: ReadAt> From<&'s S> for Source<'s> {
    fn from(source: &'s S) -> Self {
        Source(Bytes::Elsewhere(source))
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Source<'_> {
    fn len(&self) -> u64 {
        match &self.0 {
            Bytes::Memory(bytes) => bytes.len() as u64,
            Bytes::Elsewhere(source) => source.len(),
            Bytes::Shared(source) => source.len(),
        }
    }

    /// Fills `into` from `offset` on; the bytes lie within the source.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        match &self.0 {
            Bytes::Memory(bytes) => into.copy_from_slice(slice(bytes, offset..offset + into.len() as u64)),
            Bytes::Elsewhere(source) => source.read_at(offset, into)?,
            Bytes::Shared(source) => source.read_at(offset, into)?,
        }
        Ok(())
    }

    /// The bytes of `range`, which lies within the source: as they are if they lie in memory, or read to `scratch`.
    fn bytes<'b>(&'b self, range: Range<u64>, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], Error> {
        let source: &dyn ReadAt = match &self.0 {
            Bytes::Memory(bytes) => return Ok(slice(bytes, range)),
            Bytes::Elsewhere(source) => *source,
            Bytes::Shared(source) => &**source,
        };
        if let Some(bytes) = source.borrow(range.clone()) {
            return Ok(bytes);
        }
        let bytes = range.end - range.start;
        let no_memory = |_| Error::Memory { bytes };
        let len = usize::try_from(bytes).map_err(|_| Error::Memory { bytes })?;
        scratch.truncate(len);
        scratch.try_reserve_exact(len - scratch.len()).map_err(no_memory)?;
        scratch.resize(len, 0);
        source.read_at(range.start, scratch)?;
        Ok(scratch)
    }
}

/// A range that lies within `bytes`.
fn slice(bytes: &[u8], range: Range<u64>) -> &[u8] {
    // Nothing is lost: neither end is beyond the length of a slice.
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    &bytes[at(range.start)..at(range.end)]
}
