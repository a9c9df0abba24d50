//! From bytes to a payload: what `compress` of S4's package returns, and what a frame holds.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::bulk::Compressor;
use zstd::dict::EncoderDictionary;
use zstd::zstd_safe::compress_bound;

use super::error::Error;
use super::wire::{Codec, FrameHeader};
use super::writer::WriteCodec;

/// What zstd keeps between payloads for inputs up to this length; its tables grow with the input and the level, to
/// hundreds of megabytes.
const KEPT_UP_TO: usize = 256 << 10;

thread_local! {
    /// Making one takes longer than compressing a small payload does.
    static KEPT: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// A zstd dictionary prepared for one level of compression. Cheap to clone.
#[derive(Clone)]
pub struct EncodeDictionary(Arc<EncoderDictionary<'static>>);

impl EncodeDictionary {
    /// Prepares the bytes of a dictionary, which [`Dictionary::new`](super::Dictionary::new) has accepted.
    ///
    /// # Errors
    /// The level is out of range, or there are no bytes.
    pub fn new(bytes: &[u8], level: i32) -> Result<EncodeDictionary, Error> {
        WriteCodec::Zstd { level }.check()?;
        // Refuses what zstd would only refuse at the first payload.
        super::Dictionary::new(bytes)?;
        Ok(EncodeDictionary(Arc::new(EncoderDictionary::copy(bytes, level))))
    }
}

impl fmt::Debug for EncodeDictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodeDictionary").finish_non_exhaustive()
    }
}

/// Compresses `bytes` to a payload without a frame around it; `out` is overwritten. The header has the numbers that
/// [`decode_payload`](super::decode_payload) needs.
///
/// # Errors
/// The level is out of range, or the codec fails.
pub fn encode_payload(codec: WriteCodec, bytes: &[u8], out: &mut Vec<u8>) -> Result<FrameHeader, Error> {
    codec.check()?;
    out.clear();
    compress(codec, bytes, out).map_err(|cause| Error::Encode { frame: 0, cause })?;
    Ok(header(codec.codec(), bytes, out))
}

/// [`encode_payload`] by zstd with a dictionary.
///
/// # Errors
/// The codec fails.
pub fn encode_payload_with(
    dictionary: &EncodeDictionary,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<FrameHeader, Error> {
    out.clear();
    out.reserve(compress_bound(bytes.len()));
    let encode = |cause| Error::Encode { frame: 0, cause };
    let mut compressor = Compressor::with_prepared_dictionary(&dictionary.0).map_err(encode)?;
    compressor.compress_to_buffer(bytes, out).map_err(encode)?;
    Ok(header(Codec::CpuZstdDict, bytes, out))
}

fn header(codec: Codec, bytes: &[u8], payload: &[u8]) -> FrameHeader {
    FrameHeader {
        codec,
        decoded_len: bytes.len() as u64,
        payload_len: payload.len() as u64,
        crc32c: cvc_format::checksum::crc32c(bytes),
    }
}

/// Appends to `out`, which is empty.
fn compress(codec: WriteCodec, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match codec {
        WriteCodec::Passthrough => out.extend_from_slice(bytes),
        WriteCodec::Gzip { level } => {
            let mut encoder = GzEncoder::new(std::mem::take(out), Compression::new(level));
            encoder.write_all(bytes)?;
            *out = encoder.finish()?;
        }
        WriteCodec::Zstd { level } if bytes.len() > KEPT_UP_TO => {
            out.reserve(compress_bound(bytes.len()));
            Compressor::new(level)?.compress_to_buffer(bytes, out)?;
        }
        WriteCodec::Zstd { level } => KEPT.with_borrow_mut(|kept| {
            out.reserve(compress_bound(bytes.len()));
            let compressor = match kept {
                Some(compressor) => {
                    compressor.set_compression_level(level)?;
                    compressor
                }
                None => kept.insert(Compressor::new(level)?),
            };
            compressor.compress_to_buffer(bytes, out).map(drop)
        })?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Dictionary, ReadOptions, decode_payload};
    use super::*;

    #[test]
    fn payloads_come_back_at_every_level() {
        let text: Vec<u8> = b"all work and no play ".iter().copied().cycle().take(5000).collect();
        let zstd = (1..=22).map(|level| WriteCodec::Zstd { level });
        let gzip = (0..=9).map(|level| WriteCodec::Gzip { level });
        let (mut payload, mut decoded) = (Vec::new(), Vec::new());
        for codec in zstd.chain(gzip).chain([WriteCodec::Passthrough]) {
            for bytes in [&text[..], &text[..1], &[]] {
                let header = encode_payload(codec, bytes, &mut payload).unwrap();
                decode_payload(header, &payload, &ReadOptions::default(), &mut decoded).unwrap();
                assert_eq!(decoded, bytes, "{codec:?}");
            }
        }
        let with = EncodeDictionary::new(&text[..500], 19).unwrap();
        let header = encode_payload_with(&with, &text, &mut payload).unwrap();
        let dictionary = Some(Dictionary::new(&text[..500]).unwrap());
        let options = ReadOptions { dictionary, ..ReadOptions::default() };
        decode_payload(header, &payload, &options, &mut decoded).unwrap();
        assert_eq!(decoded, text);
    }

    #[test]
    fn levels_out_of_range_are_refused() {
        for codec in [0, 23, -1]
            .map(|level| WriteCodec::Zstd { level })
            .into_iter()
            .chain([WriteCodec::Gzip { level: 10 }])
        {
            let error = encode_payload(codec, b"", &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("has levels"), "{error}");
        }
        assert!(EncodeDictionary::new(b"some", 0).is_err());
        assert!(EncodeDictionary::new(b"", 3).is_err());
    }
}
