//! Writing a body that S4's readers accept.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use super::body::Totals;
use super::error::Error;
use super::index::{Entry, Index};
use super::wire::{Codec, FRAME_HEADER_LEN, FrameHeader, MAX_FRAMES, PADDING_HEADER_LEN, padding_header};

/// The longest frame that is written: what a reader with the default limits decodes.
const MAX_WRITTEN_FRAME_LEN: usize = 256 << 20;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// How every frame is compressed.
    pub codec: WriteCodec,
    /// Bytes of each frame before it is compressed, 256 MiB at most; the last frame is shorter. Whoever reads one
    /// byte decodes a whole frame.
    pub frame_len: usize,
}

impl Default for WriteOptions {
    /// zstd at S4's level 3, in frames of 4 MiB.
    fn default() -> Self {
        WriteOptions { codec: WriteCodec::Zstd { level: 3 }, frame_len: 4 << 20 }
    }
}

/// The codecs that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteCodec {
    /// The bytes themselves.
    Passthrough,
    /// Zstandard.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
    /// gzip.
    Gzip {
        /// 0 to 9.
        level: u32,
    },
}

impl WriteCodec {
    /// What the frames will name.
    pub fn codec(self) -> Codec {
        match self {
            WriteCodec::Passthrough => Codec::Passthrough,
            WriteCodec::Zstd { .. } => Codec::CpuZstd,
            WriteCodec::Gzip { .. } => Codec::CpuGzip,
        }
    }

    /// Refuses a level that the codec does not have.
    pub(super) fn check(self) -> Result<(), Error> {
        let wrong =
            |level: String, problem| Err(Error::Argument { argument: "level", value: level, problem });
        match self {
            WriteCodec::Zstd { level } if !(1..=22).contains(&level) => {
                wrong(level.to_string(), "zstd has levels 1 to 22")
            }
            WriteCodec::Gzip { level } if level > 9 => wrong(level.to_string(), "gzip has levels 0 to 9"),
            _ => Ok(()),
        }
    }
}

/// The frame length that S4 itself takes for an object of `len` bytes: 1 MiB for up to 1 MiB, 4 MiB for up to
/// 100 MiB, else 16 MiB.
pub fn frame_len_for(len: u64) -> usize {
    match len {
        0..=0x10_0000 => 1 << 20,
        0x10_0001..=0x640_0000 => 4 << 20,
        _ => 16 << 20,
    }
}

/// Writes a body from first to last to any sink. Holds one frame, and that frame compressed.
///
/// What was written is not whole before [`finish`](Writer::finish).
#[must_use = "the last frame is written by `finish`"]
pub struct Writer<W> {
    sink: W,
    options: WriteOptions,
    /// The bytes of the next frame, fewer than its length.
    frame: Vec<u8>,
    payload: Vec<u8>,
    zstd: Option<Compressor<'static>>,
    entries: Vec<Entry>,
    totals: Totals,
    failed: bool,
}

/// What was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Written {
    /// What the frames name.
    pub codec: Codec,
    /// The figures for the object's metadata.
    pub totals: Totals,
    /// The sidecar, not yet bound to an object: [`Index::bind`] it to what the store answers, and put it beside the
    /// body as `<key>.s4index`. S4 writes one only for a body of more than one frame.
    pub index: Index,
}

impl Written {
    /// The metadata that S4's gateway needs to know the object by.
    pub fn metadata(&self) -> [(&'static str, String); 5] {
        [
            ("s4-codec", self.codec.name().to_owned()),
            ("s4-original-size", self.totals.decoded_len.to_string()),
            ("s4-compressed-size", self.totals.stored_len.to_string()),
            ("s4-crc32c", self.totals.crc32c.to_string()),
            ("s4-framed", "true".to_owned()),
        ]
    }
}

impl<W: Write> Writer<W> {
    /// Begins an empty body.
    ///
    /// # Errors
    /// The level or the frame length is out of range.
    pub fn new(sink: W, options: WriteOptions) -> Result<Writer<W>, Error> {
        let wrong = |argument, value: String, problem| Err(Error::Argument { argument, value, problem });
        if !(1..=MAX_WRITTEN_FRAME_LEN).contains(&options.frame_len) {
            return wrong("frame_len", options.frame_len.to_string(), "it must be 1 byte to 256 MiB");
        }
        options.codec.check()?;
        let zstd = match options.codec {
            WriteCodec::Zstd { level } => {
                Some(Compressor::new(level).map_err(|cause| Error::Encode { frame: 0, cause })?)
            }
            _ => None,
        };
        Ok(Writer {
            sink,
            options,
            frame: Vec::new(),
            payload: Vec::new(),
            zstd,
            entries: Vec::new(),
            totals: Totals { decoded_len: 0, stored_len: 0, crc32c: 0 },
            failed: false,
        })
    }

    /// Appends bytes; each time a frame is full it is compressed and written.
    ///
    /// # Errors
    /// The sink or the codec fails, or there are more frames than S4 allows. The body is then lost.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while self.frame.len() + bytes.len() >= self.options.frame_len {
            let (now, later) = bytes.split_at(self.options.frame_len - self.frame.len());
            bytes = later;
            if self.frame.is_empty() {
                self.write_frame(now)?;
            } else {
                self.frame.extend_from_slice(now);
                self.end_frame()?;
            }
        }
        self.frame.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the frame that was begun and pads the body to at least `min_len` bytes, as the parts of a multipart
    /// upload need (5 MiB each but the last). Padding takes 12 bytes or more, so the body may become up to 11 bytes
    /// longer than asked for.
    ///
    /// # Errors
    /// As [`write`](Writer::write).
    pub fn pad_to(&mut self, min_len: u64) -> Result<(), Error> {
        self.end_frame()?;
        let missing = min_len.saturating_sub(self.totals.stored_len);
        if missing == 0 { Ok(()) } else { self.pad(missing.saturating_sub(PADDING_HEADER_LEN as u64)) }
    }

    /// Ends the frame that was begun and pads the body so that the next one begins at a multiple of `multiple` bytes.
    ///
    /// # Errors
    /// The multiple is 0, or as [`write`](Writer::write).
    pub fn align_to(&mut self, multiple: u64) -> Result<(), Error> {
        self.end_frame()?;
        let header = PADDING_HEADER_LEN as u64;
        let problem = "it must be at least 1, and the body's end must stay below 2^63";
        let argument = || Error::Argument { argument: "multiple", value: multiple.to_string(), problem };
        if multiple == 0 || multiple > 1 << 62 {
            return Err(argument());
        }
        match self.totals.stored_len % multiple {
            0 => Ok(()),
            _ => {
                let end = (self.totals.stored_len + header).next_multiple_of(multiple);
                self.pad(end - self.totals.stored_len - header)
            }
        }
    }

    /// Writes the last frame. An object of no bytes is a body of no bytes.
    ///
    /// # Errors
    /// As [`write`](Writer::write).
    pub fn finish(mut self) -> Result<(W, Written), Error> {
        self.end_frame()?;
        if self.failed {
            return Err(failed_before());
        }
        self.sink.flush().map_err(Error::Output)?;
        let index = Index::new(self.entries, self.totals.stored_len);
        let written = Written { codec: self.options.codec.codec(), totals: self.totals, index };
        Ok((self.sink, written))
    }

    /// Writes the frame that was begun, if any.
    fn end_frame(&mut self) -> Result<(), Error> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut frame = std::mem::take(&mut self.frame);
        let result = self.write_frame(&frame);
        frame.clear();
        self.frame = frame;
        result
    }

    fn write_frame(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let frame = self.entries.len();
        if frame == MAX_FRAMES {
            return Err(Error::Argument {
                argument: "frame_len",
                value: self.options.frame_len.to_string(),
                problem: "S4 allows 2^24 frames, and there is more data: take longer ones",
            });
        }
        let encode = |cause| Error::Encode { frame, cause };
        self.payload.clear();
        let payload = match (self.options.codec, &mut self.zstd) {
            (WriteCodec::Gzip { level }, _) => {
                let payload = std::mem::take(&mut self.payload);
                let mut encoder = GzEncoder::new(payload, Compression::new(level));
                self.payload = encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(encode)?;
                &self.payload[..]
            }
            (WriteCodec::Zstd { .. }, Some(zstd)) => {
                self.payload.reserve(compress_bound(bytes.len()));
                zstd.compress_to_buffer(bytes, &mut self.payload).map_err(encode)?;
                &self.payload[..]
            }
            _ => bytes,
        };
        let crc32c = cvc_format::checksum::crc32c(bytes);
        let (decoded_len, payload_len) = (bytes.len() as u64, payload.len() as u64);
        let header = FrameHeader { codec: self.options.codec.codec(), decoded_len, payload_len, crc32c };
        give(&mut self.sink, &mut self.failed, &header.to_bytes())?;
        give(&mut self.sink, &mut self.failed, payload)?;
        let totals = &mut self.totals;
        let (decoded, stored) = (totals.decoded_len, totals.stored_len);
        totals.decoded_len += decoded_len;
        totals.stored_len += FRAME_HEADER_LEN as u64 + payload_len;
        totals.crc32c = super::crc32c_combine(totals.crc32c, crc32c, bytes.len());
        self.entries.push(Entry { decoded: decoded..totals.decoded_len, stored: stored..totals.stored_len });
        Ok(())
    }

    /// Writes padding of `len` zeros behind its header.
    fn pad(&mut self, len: u64) -> Result<(), Error> {
        const ZEROS: [u8; 8192] = [0; 8192];
        give(&mut self.sink, &mut self.failed, &padding_header(len))?;
        let mut left = len;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            give(&mut self.sink, &mut self.failed, &ZEROS[..piece])?;
            left -= piece as u64;
        }
        self.totals.stored_len += PADDING_HEADER_LEN as u64 + len;
        Ok(())
    }
}

/// Writes to the sink, and never again after it failed: what followed would be garbage.
fn give(sink: &mut impl Write, failed: &mut bool, bytes: &[u8]) -> Result<(), Error> {
    if *failed {
        return Err(failed_before());
    }
    sink.write_all(bytes).map_err(|cause| {
        *failed = true;
        Error::Output(cause)
    })
}

fn failed_before() -> Error {
    Error::Output(io::Error::other("an earlier write failed"))
}
