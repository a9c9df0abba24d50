//! Sidecars: where each frame of a body is, so that a range can be read without walking.

use std::ops::Range;

use super::error::{Error, IndexError};
use super::wire::{
    BINDING_LEN, ENCRYPTION_LEN, ENTRY_LEN, FRAME_HEADER_LEN, INDEX_HEADER_LEN, INDEX_MAGIC, MAX_ETAG_LEN,
    MAX_FRAME_LEN, MAX_FRAMES, PADDING_HEADER_LEN, array_at, u16_at, u32_at, u64_at,
};

/// A sidecar, `<key>.s4index`, whose entries make sense: without a gap they cover what the body decodes to, and they
/// lie one after the other in it, with nothing between but what can be padding.
///
/// Whether it describes the body at hand is another question, which [`matching`](Index::matching) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
    stored_len: u64,
    bound_len: Option<u64>,
    etag: Option<String>,
    encryption: Option<Encryption>,
}

/// One frame of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its bytes among all that the body decodes to.
    pub decoded: Range<u64>,
    /// Its bytes in the body, the header included.
    pub stored: Range<u64>,
}

/// How S4 encrypted the body that a sidecar of version 3 describes. What the entries call the body is then what the
/// encryption was given. For those who have the key; nothing is decrypted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Bytes of the body in each encrypted chunk but the last.
    pub chunk_len: u32,
    /// Encrypted chunks.
    pub chunks: u32,
    /// Which key.
    pub key_id: u16,
    /// The salt of this object.
    pub salt: [u8; 8],
    /// Bytes of the body before it was encrypted.
    pub plaintext_len: u64,
    /// Bytes before the first encrypted chunk.
    pub header_len: u32,
}

/// A sidecar that was compared with the object at hand. Only [`Index::matching`] and [`Index::unbound`] make one.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'i>(&'i Index);

impl<'i> Matched<'i> {
    /// The sidecar.
    pub fn index(self) -> &'i Index {
        self.0
    }
}

impl Index {
    /// Reads a sidecar of version 1, 2 or 3.
    ///
    /// # Errors
    /// Each way in which bytes can be no sidecar is an [`IndexError`].
    pub fn parse(bytes: &[u8]) -> Result<Index, IndexError> {
        let found = bytes.len() as u64;
        let too_short = |expected: usize| IndexError::Length { expected: expected as u64, found };
        if !bytes.starts_with(&INDEX_MAGIC) {
            return Err(IndexError::Magic { found: bytes[..bytes.len().min(4)].to_vec() });
        }
        if bytes.len() < INDEX_HEADER_LEN {
            return Err(too_short(INDEX_HEADER_LEN));
        }
        let version = u32_at(bytes, 4);
        if !(1..=3).contains(&version) {
            return Err(IndexError::Version { version });
        }
        let frames = u64_at(bytes, 8);
        let count = usize::try_from(frames).ok().filter(|count| *count <= MAX_FRAMES);
        let count = count.ok_or(IndexError::Frames { frames })?;
        let mut at = INDEX_HEADER_LEN;
        let (mut bound_len, mut etag, mut encryption) = (None, None, None);
        if version >= 2 {
            if bytes.len() < at + BINDING_LEN {
                return Err(too_short(at + BINDING_LEN));
            }
            let len = u32_at(bytes, at + 8);
            let etag_len = usize::try_from(len).ok().filter(|len| *len <= MAX_ETAG_LEN);
            let etag_len = etag_len.ok_or(IndexError::EtagLen { len })?;
            // Zero is how S4 writes that there is none.
            bound_len = Some(u64_at(bytes, at)).filter(|len| *len != 0);
            at += BINDING_LEN;
            let text = bytes.get(at..at + etag_len).ok_or(too_short(at + etag_len))?;
            let text = std::str::from_utf8(text).map_err(|_| IndexError::EtagText)?;
            etag = Some(text.to_owned()).filter(|text| !text.is_empty());
            at += etag_len;
        }
        if version >= 3 {
            if bytes.len() < at + ENCRYPTION_LEN {
                return Err(too_short(at + ENCRYPTION_LEN));
            }
            encryption = Encryption::parse(&array_at(bytes, at), at as u64)?;
            at += ENCRYPTION_LEN;
        }
        // Cannot overflow: 2^24 entries of 32 bytes.
        let expected = at + count * ENTRY_LEN;
        if bytes.len() != expected {
            return Err(too_short(expected));
        }
        let entries = entries(&bytes[at..], at)?;
        let (decoded_len, stored_end) =
            entries.last().map_or((0, 0), |entry| (entry.decoded.end, entry.stored.end));
        let total = |what, offset, found| {
            let says = u64_at(bytes, offset);
            Err(IndexError::Total { what, offset: offset as u64, says, found })
        };
        if u64_at(bytes, 16) != decoded_len {
            return total("decoded length", 16, decoded_len);
        }
        let stored_len = u64_at(bytes, 24);
        if stored_len < stored_end || !can_be_padding(stored_len - stored_end) {
            return total("length of the body", 24, stored_end);
        }
        if let Some(encryption) = &encryption
            && encryption.plaintext_len != stored_len
        {
            return total("length of the body", 24, encryption.plaintext_len);
        }
        Ok(Index { entries, stored_len, bound_len, etag, encryption })
    }

    /// The sidecar of a body whose frames follow one another.
    pub(super) fn new(entries: Vec<Entry>, stored_len: u64) -> Index {
        Index { entries, stored_len, bound_len: None, etag: None, encryption: None }
    }

    /// The frames in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of the body it describes, padding included.
    pub fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Length and etag of the object it is bound to; neither of a sidecar that is not bound.
    pub fn binding(&self) -> (Option<u64>, Option<&str>) {
        (self.bound_len, self.etag.as_deref())
    }

    /// How the body was encrypted, if it was.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_ref()
    }

    /// Says which object it describes: the length and the etag that the store answered when the body was put there,
    /// without an etag where the store has none. S4 trusts no sidecar that was not bound.
    ///
    /// # Errors
    /// The length is not that of the body it was made for, or the etag is longer than S4 reads.
    pub fn bind(mut self, body_len: u64, etag: Option<&str>) -> Result<Index, Error> {
        self.check_len(body_len)?;
        let etag = etag.map(unquoted).unwrap_or_default();
        if etag.len() > MAX_ETAG_LEN {
            return Err(Error::Argument {
                argument: "etag",
                value: format!("{} bytes", etag.len()),
                problem: "S4 reads etags of 4,096 bytes at most",
            });
        }
        self.bound_len = Some(body_len).filter(|len| *len != 0);
        self.etag = Some(etag.to_owned()).filter(|etag| !etag.is_empty());
        Ok(self)
    }

    /// Proves that it describes the object at hand, which has this length and, if the store says so, this etag.
    /// Quotes around an etag do not matter.
    ///
    /// # Errors
    /// It describes another object, is not bound to one, or only to a length while an etag is at hand; or the body
    /// is encrypted.
    pub fn matching(&self, body_len: u64, etag: Option<&str>) -> Result<Matched<'_>, Error> {
        let mismatch = |what, expected: &str, found: &str| Error::Mismatch {
            what,
            described_by: "sidecar",
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let matched = self.unbound(body_len)?;
        match (self.bound_len, &self.etag, etag.map(unquoted)) {
            (None, None, _) if body_len != 0 => Err(Error::Unbound),
            (_, None, Some(_)) => Err(Error::Unbound),
            (_, Some(bound), Some(etag)) if unquoted(bound) != etag => {
                Err(mismatch("object's etag", bound, etag))
            }
            _ => Ok(matched),
        }
    }

    /// Accepts it for a body of this length, bound or not. The caller then knows by other means that the sidecar is
    /// not older than the body: a stale one of the same length would only be noticed in the frames that are read.
    ///
    /// # Errors
    /// It describes a body of another length, or an encrypted one.
    pub fn unbound(&self, body_len: u64) -> Result<Matched<'_>, Error> {
        if let Some(Encryption { key_id, .. }) = self.encryption {
            return Err(Error::Encrypted { key_id });
        }
        self.check_len(body_len)?;
        Ok(Matched(self))
    }

    pub(super) fn check_len(&self, body_len: u64) -> Result<(), Error> {
        let expected = self.bound_len.filter(|len| *len != body_len).unwrap_or(self.stored_len);
        if expected != body_len {
            return Err(Error::Mismatch {
                what: "body's length",
                described_by: "sidecar",
                expected: expected.to_string(),
                found: body_len.to_string(),
            });
        }
        Ok(())
    }

    /// The bytes of the sidecar: version 2, or 3 if it describes an encrypted body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let etag = self.etag.as_deref().unwrap_or_default().as_bytes();
        let decoded_len = self.entries.last().map_or(0, |entry| entry.decoded.end);
        let mut bytes = INDEX_MAGIC.to_vec();
        bytes.extend(if self.encryption.is_some() { 3u32 } else { 2 }.to_le_bytes());
        for number in [self.entries.len() as u64, decoded_len, self.stored_len, self.bound_len.unwrap_or(0)] {
            bytes.extend(number.to_le_bytes());
        }
        // `bind` and `parse` let no longer one in.
        bytes.extend(u32::try_from(etag.len()).unwrap_or(0).to_le_bytes());
        bytes.extend(etag);
        if let Some(encryption) = &self.encryption {
            bytes.extend(encryption.to_bytes());
        }
        for Entry { decoded, stored } in &self.entries {
            for number in
                [decoded.start, decoded.end - decoded.start, stored.start, stored.end - stored.start]
            {
                bytes.extend(number.to_le_bytes());
            }
        }
        bytes
    }
}

impl Encryption {
    /// `None` for a block that says there is no encryption.
    fn parse(bytes: &[u8; ENCRYPTION_LEN], offset: u64) -> Result<Option<Encryption>, IndexError> {
        let encryption = Encryption {
            chunk_len: u32_at(bytes, 0),
            chunks: u32_at(bytes, 4),
            key_id: u16_at(bytes, 8),
            salt: array_at(bytes, 10),
            plaintext_len: u64_at(bytes, 18),
            header_len: u32_at(bytes, 26),
        };
        if encryption.chunk_len == 0 {
            return match bytes.iter().all(|byte| *byte == 0) {
                true => Ok(None),
                false => {
                    Err(IndexError::Encryption { offset, problem: "has no chunk length, but other fields" })
                }
            };
        }
        let chunks = encryption.plaintext_len.div_ceil(u64::from(encryption.chunk_len)).max(1);
        if u64::from(encryption.chunks) != chunks {
            let problem = "has another number of chunks than its lengths give";
            return Err(IndexError::Encryption { offset, problem });
        }
        Ok(Some(encryption))
    }

    fn to_bytes(self) -> [u8; ENCRYPTION_LEN] {
        let mut bytes = [0; ENCRYPTION_LEN];
        bytes[..4].copy_from_slice(&self.chunk_len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.chunks.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.key_id.to_le_bytes());
        bytes[10..18].copy_from_slice(&self.salt);
        bytes[18..26].copy_from_slice(&self.plaintext_len.to_le_bytes());
        bytes[26..].copy_from_slice(&self.header_len.to_le_bytes());
        bytes
    }
}

/// Reads the entries, which begin at byte `at` of the sidecar.
fn entries(bytes: &[u8], at: usize) -> Result<Vec<Entry>, IndexError> {
    let mut entries: Vec<Entry> = Vec::with_capacity(bytes.len() / ENTRY_LEN);
    let (mut decoded_end, mut stored_end) = (0, 0);
    for (entry, fields) in bytes.chunks_exact(ENTRY_LEN).enumerate() {
        let wrong = |problem| {
            let offset = (at + entry * ENTRY_LEN) as u64;
            Err(IndexError::Entry { entry, offset, problem })
        };
        let (decoded, decoded_len) = (u64_at(fields, 0), u64_at(fields, 8));
        let (stored, stored_len) = (u64_at(fields, 16), u64_at(fields, 24));
        if decoded != decoded_end {
            return wrong("does not begin where the decoded bytes of the one before it end");
        }
        if decoded_len > MAX_FRAME_LEN {
            return wrong("claims to decode to more than the 5 GiB that S4 allows");
        }
        if stored_len < FRAME_HEADER_LEN as u64 {
            return wrong("is shorter than a frame's header");
        }
        if stored < stored_end || !can_be_padding(stored - stored_end) {
            return wrong("begins inside the one before it, or too near to it for padding between");
        }
        let Some(end) = stored.checked_add(stored_len) else {
            return wrong("ends beyond 2^64");
        };
        // Cannot overflow: 2^24 entries of 5 GiB.
        (decoded_end, stored_end) = (decoded + decoded_len, end);
        entries.push(Entry { decoded: decoded..decoded_end, stored: stored..stored_end });
    }
    Ok(entries)
}

/// Padding has a header, so there is none of 1 to 11 bytes.
fn can_be_padding(len: u64) -> bool {
    len == 0 || len >= PADDING_HEADER_LEN as u64
}

/// Stores answer with quotes around an etag; S4 writes it without.
fn unquoted(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}
