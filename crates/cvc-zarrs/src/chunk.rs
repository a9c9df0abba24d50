//! A chunk that is somewhere else, as bytes that can be read at any position.

use std::io;
use std::sync::Arc;

use cvc::ReadAt;
use cvc::codec::SourceError;
use zarrs_codec::{BytesPartialDecoderTraits, CodecError, CodecOptions};
use zarrs_storage::byte_range::ByteRange;

/// The first bytes, which every reader asks for.
const FRONT_LEN: u64 = 64;

/// The trailer. Its first eight bytes are the length of the file.
const TRAILER_LEN: u64 = 40;

/// Bytes that are asked for in one call: a store may be far away, and opens a file for each call if it is near.
const AHEAD_LEN: u64 = 8 << 20;

/// What a chunk has of a file's bytes.
pub(crate) struct Chunk {
    input: Arc<dyn BytesPartialDecoderTraits>,
    len: u64,
    front: Vec<u8>,
    trailer: Vec<u8>,
}

impl Chunk {
    /// Asks for both ends, which say how long it is; nothing if there is no such chunk.
    ///
    /// # Errors
    /// The store fails, or what it has cannot be a file.
    pub(crate) fn open(
        input: &Arc<dyn BytesPartialDecoderTraits>,
        options: &CodecOptions,
    ) -> Result<Option<Chunk>, CodecError> {
        // The front first: a store refuses it where there is less, and would not know what a suffix of that is.
        let ends = [ByteRange::FromStart(0, Some(FRONT_LEN)), ByteRange::Suffix(TRAILER_LEN)];
        let Some(ends) = input.partial_decode_many(Box::new(ends.into_iter()), options)? else {
            return Ok(None);
        };
        let [front, trailer] = <[_; 2]>::try_from(ends).map_err(|ends| {
            CodecError::Other(format!("the store gave {} ranges where 2 were asked for", ends.len()))
        })?;
        let len = trailer.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
        // Of anything else the reader says what is wrong with it, once it is all there.
        if front.len() as u64 == FRONT_LEN
            && trailer.len() as u64 == TRAILER_LEN
            && len >= FRONT_LEN + TRAILER_LEN
        {
            let (front, trailer) = (front.into_owned(), trailer.into_owned());
            return Ok(Some(Chunk { input: Arc::clone(input), len, front, trailer }));
        }
        let problem =
            format!("the chunk is no cvc file: its last {TRAILER_LEN} bytes say that it is {len} bytes long");
        Err(CodecError::Other(problem))
    }
}

impl Chunk {
    /// Bytes that came with the ends.
    fn known(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let of = |start: u64, bytes| -> Option<&[u8]> {
            let at = usize::try_from(offset.checked_sub(start)?).ok()?;
            <[u8]>::get(bytes, at..at.checked_add(len)?)
        };
        of(0, &self.front).or_else(|| of(self.len - TRAILER_LEN, &self.trailer))
    }
}

impl ReadAt for Chunk {
    fn len(&self) -> u64 {
        self.len
    }

    fn ahead_len(&self) -> u64 {
        AHEAD_LEN
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.read_ranges(&mut [(offset, into)])
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
        let mut missing = Vec::new();
        for (offset, into) in ranges {
            match self.known(*offset, into.len()) {
                Some(bytes) => into.copy_from_slice(bytes),
                None => missing.push((*offset, into)),
            }
        }
        let Some((first, _)) = missing.first() else { return Ok(()) };
        let (first, len) = (*first, missing.iter().map(|(_, into)| into.len() as u64).sum());
        let failed = |cause: io::Error| SourceError::Read { offset: first, len, cause: Arc::new(cause) };
        let wanted: Vec<ByteRange> = missing
            .iter()
            .map(|(offset, into)| ByteRange::FromStart(*offset, Some(into.len() as u64)))
            .collect();
        let found = self.input.partial_decode_many(Box::new(wanted.into_iter()), &CodecOptions::default());
        let found = found.map_err(|error| failed(io::Error::other(error.to_string())))?;
        let found =
            found.ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "the chunk is gone")))?;
        let alike = found.len() == missing.len()
            && found.iter().zip(&missing).all(|(bytes, (_, into))| bytes.len() == into.len());
        if !alike {
            let problem = "the store gave other ranges than were asked for: the chunk was replaced meanwhile";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        for ((_, into), bytes) in missing.into_iter().zip(found) {
            into.copy_from_slice(&bytes);
        }
        Ok(())
    }
}
