//! From a payload to the bytes it was made of.
//!
//! In two steps. [`Payload::check`] looks at the payload and gives a value only if what the header claims can come
//! out of it; nothing has been allocated by then. Only such a value can be decoded, into exactly as many bytes as
//! were claimed: less or more is an error, and so is another crc32c.

use std::cell::RefCell;
use std::fmt;
use std::io::{ErrorKind, Read as _};
use std::ops::Range;
use std::sync::Arc;

use flate2::bufread::GzDecoder;
use zstd::zstd_safe::{self, DCtx, DDict};

use super::error::{Error, PayloadError};
use super::fcg1::Fcg1;
use super::wire::{Codec, FrameHeader, MAX_FRAMES, u32_at};
use super::zstd_frames::ZstdFrames;

/// How to read a body.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// What reading may cost.
    pub limits: ReadLimits,
    /// The dictionary for frames of [`Codec::CpuZstdDict`].
    pub dictionary: Option<Dictionary>,
}

/// Bounds that an object must respect before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes that one frame decodes to. Default 256 MiB: sixteen times the longest frame that S4 cuts a plain upload
    /// into. A part of a multipart upload is one frame however long it is: raise this for such objects.
    pub frame_decoded_len: u64,
    /// Frames in a body. Default 2^24, which is also what S4 allows.
    pub frames: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits { frame_decoded_len: 256 << 20, frames: MAX_FRAMES }
    }
}

/// A zstd dictionary, as `zstd --train` makes it. Cheap to clone.
///
/// S4 keeps it apart from the objects and names it in their metadata, as `s4-dict-id`.
#[derive(Clone)]
pub struct Dictionary {
    id: u32,
    prepared: Arc<DDict<'static>>,
}

impl Dictionary {
    /// Prepares the bytes of a dictionary. Bytes that do not begin with the magic of one are taken as content alone,
    /// as zstd does.
    ///
    /// # Errors
    /// There are none, or they begin like a dictionary and are damaged.
    pub fn new(bytes: &[u8]) -> Result<Dictionary, Error> {
        /// Begins a dictionary with entropy tables; its id follows.
        const MAGIC: u32 = 0xec30_a437;
        let problem = |problem| Error::Argument {
            argument: "dictionary",
            value: format!("{} bytes", bytes.len()),
            problem,
        };
        if bytes.is_empty() {
            return Err(problem("an empty dictionary is none: leave it out"));
        }
        let Some(prepared) = DDict::try_create(bytes) else {
            return Err(problem("it is a damaged zstd dictionary: fetch it again"));
        };
        let id = if bytes.len() >= 8 && u32_at(bytes, 0) == MAGIC { u32_at(bytes, 4) } else { 0 };
        Ok(Dictionary { id, prepared: Arc::new(prepared) })
    }

    /// The id that frames made with it name; 0 for a dictionary that is content alone.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Decodes a payload that has no frame around it, as objects without `s4-framed` in their metadata are stored; the
/// metadata has the fields of `header`. `out` is overwritten, and is empty after an error.
///
/// # Errors
/// What [`Body::read_frame`](super::Body::read_frame) refuses, with the payload as frame 0 at byte 0.
pub fn decode_payload(
    header: FrameHeader,
    payload: &[u8],
    options: &ReadOptions,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.clear();
    let checked = CheckedPayload::new(header, payload, options)?;
    grow(out, header.decoded_len)?;
    let result = checked.decode_into(out);
    if result.is_err() {
        out.clear();
    }
    result
}

/// A payload without a frame around it that can give as many bytes as its header claims: memory for them may be taken.
/// [`decode_payload`] for those who bring that memory.
#[derive(Debug)]
pub struct CheckedPayload<'p> {
    header: FrameHeader,
    payload: Payload<'p>,
}

impl<'p> CheckedPayload<'p> {
    /// Looks at the payload. Nothing is decoded and nothing allocated.
    ///
    /// # Errors
    /// Those of [`decode_payload`] that show without decoding.
    pub fn new(
        header: FrameHeader,
        payload: &'p [u8],
        options: &'p ReadOptions,
    ) -> Result<CheckedPayload<'p>, Error> {
        let stored_len = payload.len() as u64;
        if header.payload_len != stored_len {
            return Err(Error::Mismatch {
                what: "payload's length",
                described_by: "header",
                expected: header.payload_len.to_string(),
                found: stored_len.to_string(),
            });
        }
        let payload = Payload::check(&Place::alone(header), header, payload, options)?;
        Ok(CheckedPayload { header, payload })
    }

    /// Bytes that it decodes to.
    pub fn decoded_len(&self) -> u64 {
        self.header.decoded_len
    }

    /// Decodes straight to `out`, whose bytes are undefined after an error.
    ///
    /// # Errors
    /// Those of [`decode_payload`], and if `out` has another length than [`decoded_len`](CheckedPayload::decoded_len).
    pub fn decode_into(self, out: &mut [u8]) -> Result<(), Error> {
        if out.len() as u64 != self.header.decoded_len {
            return Err(Error::Argument {
                argument: "out",
                value: format!("{} bytes", out.len()),
                problem: "it must be as long as the payload decodes to",
            });
        }
        // A large result is mostly one that was allocated for this.
        crate::huge_pages::advise(out);
        fill(&Place::alone(self.header), self.header, self.payload, out)
    }
}

/// Where a frame lies, for errors.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) frame: usize,
    /// The whole frame.
    pub(super) stored: Range<u64>,
    /// Where its payload begins.
    pub(super) payload_at: u64,
}

impl Place {
    /// A payload without a frame around it.
    fn alone(header: FrameHeader) -> Place {
        Place { frame: 0, stored: 0..header.payload_len, payload_at: 0 }
    }

    fn error(&self, error: PayloadError) -> Error {
        Error::Payload { frame: self.frame, offset: self.stored.start, error }
    }
}

thread_local! {
    /// Tables of zstd's decoder, 160 KB: making them takes longer than a small payload does.
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decodes frame after frame.
pub(super) struct Decoder<'o> {
    options: &'o ReadOptions,
}

impl<'o> Decoder<'o> {
    pub(super) fn new(options: &'o ReadOptions) -> Self {
        Decoder { options }
    }

    /// Appends what a frame decodes to; after an error `out` is as it was.
    pub(super) fn append(
        &self,
        place: Place,
        header: FrameHeader,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let checked = Payload::check(&place, header, payload, self.options)?;
        let start = out.len();
        grow(out, header.decoded_len)?;
        let result = fill(&place, header, checked, &mut out[start..]);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Overwrites `out` with what a frame decodes to; after an error it is empty.
    pub(super) fn replace(
        &self,
        place: Place,
        header: FrameHeader,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let result = Payload::check(&place, header, payload, self.options).and_then(|checked| {
            // What a former frame left is overwritten, so there is no need to clear it.
            let len = usize::try_from(header.decoded_len).unwrap_or(usize::MAX);
            out.truncate(len);
            grow(out, header.decoded_len - out.len() as u64)?;
            fill(&place, header, checked, out)
        });
        if result.is_err() {
            out.clear();
        }
        result
    }
}

/// Decodes into a slice of the length that the header claims.
fn fill(place: &Place, header: FrameHeader, payload: Payload<'_>, out: &mut [u8]) -> Result<(), Error> {
    match payload {
        Payload::Bytes(bytes) => out.copy_from_slice(bytes),
        Payload::Gzip(bytes) => gunzip(bytes, place.payload_at, out).map_err(|error| place.error(error))?,
        Payload::Zstd(bytes) => {
            unzstd(bytes, None, place.payload_at, out).map_err(|error| place.error(error))?;
        }
        Payload::ZstdDict(bytes, dictionary) => {
            let dictionary = Some(&*dictionary.prepared);
            unzstd(bytes, dictionary, place.payload_at, out).map_err(|error| place.error(error))?;
        }
        Payload::Chunks(chunks) => {
            let mut rest = &mut *out;
            for chunk in chunks.chunks() {
                // The chunks' decoded lengths add up to the frame's.
                let len = usize::try_from(chunk.decoded_len).unwrap_or(rest.len()).min(rest.len());
                let (part, after) = rest.split_at_mut(len);
                rest = after;
                unzstd(chunk.bytes, None, chunk.at, part).map_err(|error| place.error(error))?;
            }
        }
    }
    let found = cvc_format::checksum::crc32c(out);
    if found != header.crc32c {
        return Err(Error::Checksum {
            frame: place.frame,
            bytes: place.stored.clone(),
            expected: header.crc32c,
            found,
        });
    }
    Ok(())
}

/// One call for the whole payload: zstd then writes straight to `out` and needs no window of its own, whose
/// length would be another number from the input.
fn unzstd(
    payload: &[u8],
    dictionary: Option<&DDict<'static>>,
    at: u64,
    out: &mut [u8],
) -> Result<(), PayloadError> {
    let result = ZSTD.with_borrow_mut(|context| match dictionary {
        Some(dictionary) => context.decompress_using_ddict(out, payload, dictionary),
        None => context.decompress(out, payload),
    });
    let expected = out.len() as u64;
    match result {
        Ok(found) if found as u64 == expected => Ok(()),
        Ok(found) => Err(PayloadError::Short { at, expected, found: found as u64 }),
        Err(DESTINATION_TOO_SMALL) => Err(PayloadError::Long { at, expected }),
        Err(code) => {
            Err(PayloadError::Codec { at, problem: format!("zstd: {}", zstd_safe::get_error_name(code)) })
        }
    }
}

/// `ZSTD_error_dstSize_tooSmall`, which zstd promises not to renumber, as its functions return it.
const DESTINATION_TOO_SMALL: usize = 0usize.wrapping_sub(70);

/// A payload that can give as many bytes as its header claims. Only [`Payload::check`] makes one.
#[derive(Debug)]
enum Payload<'p> {
    Bytes(&'p [u8]),
    Gzip(&'p [u8]),
    Zstd(&'p [u8]),
    ZstdDict(&'p [u8], &'p Dictionary),
    Chunks(Fcg1<'p>),
}

impl<'p> Payload<'p> {
    fn check(
        place: &Place,
        header: FrameHeader,
        payload: &'p [u8],
        options: &'p ReadOptions,
    ) -> Result<Payload<'p>, Error> {
        /// DEFLATE's shortest code for its longest match: two bits for 258 bytes.
        const GZIP_MAX_RATIO: u64 = 1032;

        let limit = options.limits.frame_decoded_len;
        if header.decoded_len > limit {
            return Err(Error::Limit {
                what: "a frame's decoded length",
                value: header.decoded_len,
                limit,
                field: "frame_decoded_len",
            });
        }
        let (frame, offset) = (place.frame, place.stored.start);
        let (claimed, stored) = (header.decoded_len, payload.len() as u64);
        let within = |claimed: u64, bound: u64| {
            if claimed > bound { Err(place.error(PayloadError::Claim { claimed, bound })) } else { Ok(()) }
        };
        // Zstd frames at byte `at`, which are to give `claimed` bytes with the dictionary of id `given`.
        let zstd = |bytes: &[u8], at: u64, claimed: u64, given: u32| {
            let frames = ZstdFrames::walk(bytes, at).map_err(|error| place.error(error))?;
            if let Some(wanted) = frames.dictionary.filter(|wanted| *wanted != given) {
                return Err(Error::Dictionary { frame, offset, wanted, given });
            }
            if let Some(says) = frames.content_len.filter(|says| *says != claimed) {
                return Err(place.error(PayloadError::Says { at, claimed, says }));
            }
            within(claimed, frames.bound)
        };
        match header.codec {
            Codec::Passthrough => {
                within(claimed, stored)?;
                if claimed < stored {
                    let at = place.payload_at + claimed;
                    return Err(place.error(PayloadError::Trailing { at, len: stored - claimed }));
                }
                Ok(Payload::Bytes(payload))
            }
            Codec::CpuZstd => {
                zstd(payload, place.payload_at, claimed, 0)?;
                Ok(Payload::Zstd(payload))
            }
            Codec::CpuZstdDict => {
                let dictionary = options.dictionary.as_ref().ok_or(Error::NoDictionary { frame, offset })?;
                zstd(payload, place.payload_at, claimed, dictionary.id)?;
                Ok(Payload::ZstdDict(payload, dictionary))
            }
            Codec::CpuGzip => {
                within(claimed, stored.saturating_mul(GZIP_MAX_RATIO))?;
                Ok(Payload::Gzip(payload))
            }
            Codec::NvcompZstd => {
                let chunks =
                    Fcg1::parse(payload, place.payload_at, claimed).map_err(|error| place.error(error))?;
                for chunk in chunks.chunks() {
                    zstd(chunk.bytes, chunk.at, chunk.decoded_len, 0)?;
                }
                Ok(Payload::Chunks(chunks))
            }
            codec
            @ (Codec::NvcompBitcomp | Codec::NvcompGans | Codec::DietgpuAns | Codec::NvcompGdeflate) => {
                Err(Error::Unsupported { frame, offset, codec })
            }
        }
    }
}

/// Lengthens `out` by zeros.
fn grow(out: &mut Vec<u8>, by: u64) -> Result<(), Error> {
    let no_memory = || Error::Memory { bytes: out.len() as u64 + by };
    let more = usize::try_from(by).map_err(|_| no_memory())?;
    let len = out.len().checked_add(more).ok_or_else(no_memory)?;
    out.try_reserve(more).map_err(|_| Error::Memory { bytes: len as u64 })?;
    out.resize(len, 0);
    Ok(())
}

/// Decompresses the one member that `payload` must be.
fn gunzip(payload: &[u8], at: u64, out: &mut [u8]) -> Result<(), PayloadError> {
    let expected = out.len() as u64;
    let mut decoder = GzDecoder::new(payload);
    let mut read = |into: &mut [u8]| loop {
        match decoder.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(PayloadError::Codec { at, problem: format!("gzip: {error}") }),
            Ok(len) => return Ok(len),
        }
    };
    let mut done = 0;
    while done < out.len() {
        match read(&mut out[done..])? {
            0 => return Err(PayloadError::Short { at, expected, found: done as u64 }),
            len => done += len,
        }
    }
    // Only at the end does the decoder look at the crc32 and the length of the member.
    if read(&mut [0])? != 0 {
        return Err(PayloadError::Long { at, expected });
    }
    let rest = decoder.into_inner().len() as u64;
    if rest > 0 {
        return Err(PayloadError::Trailing { at: at + payload.len() as u64 - rest, len: rest });
    }
    Ok(())
}
