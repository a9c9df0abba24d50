//! Looking at every byte of a file.

use std::ops::Range;

use cvc_codec::ops::DictPlanes;
use cvc_codec::{DecodeError, Load, SourceError};
use cvc_format::ChunkId;

use crate::checks::{self, BadFrame};
use crate::error::Error;
use crate::io::ReadAt;
use crate::reader::{Array, Reader};

/// What a whole file was found to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// What the layout's checksums cover.
    pub coverage: Coverage,
    /// Everything that is wrong, in file order. Empty for a file that is good as far as its layout can tell.
    pub damage: Vec<Damage>,
    /// Bytes after the last frame, which no reader looks at.
    pub trailing_len: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.damage.is_empty()
    }
}

/// What a layout's checksums cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// Nothing: only the structure can be checked.
    None,
    /// The payload of each chunk, but not the header.
    Chunks,
}

impl Coverage {
    /// The name in `cvc verify --json`: `none`, `chunks`.
    pub const fn name(self) -> &'static str {
        match self {
            Coverage::None => "none",
            Coverage::Chunks => "chunks",
        }
    }
}

/// One damaged region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The array whose rows are lost.
    pub array: String,
    /// The chunk.
    pub chunk: ChunkId,
    /// The rows that are lost.
    pub rows: Range<u64>,
    /// The bytes of the file that are wrong.
    pub bytes: Range<u64>,
    /// What is wrong with them.
    pub what: String,
}

impl Reader {
    /// Checks every chunk of every array: its checksum, and that its payload is what its codec needs.
    ///
    /// # Errors
    /// The source fails. What is wrong with the file is in the report.
    pub fn verify(&self) -> Result<VerifyReport, Error> {
        let index = self.index();
        let mut damage = Vec::new();
        for (number, frame) in index.frames.iter().enumerate() {
            let checksum = match checks::check(&index.frames, &[number], self.source()) {
                Ok(()) => None,
                Err(BadFrame {
                    error: error @ (SourceError::Checksum { .. } | SourceError::Shrunk { .. }),
                    ..
                }) => Some(error.to_string()),
                Err(bad) => return Err(bad.error.into()),
            };
            for array in self.arrays() {
                let chunk = ChunkId(u32::try_from(number).expect("a file has fewer than 2^32 chunks"));
                let entry = &array.index().chunks[number];
                let what = match &checksum {
                    // The damage may be in the bytes of any array of the frame.
                    Some(error) => Some((error.clone(), frame.bytes.clone())),
                    None => structure(self.source(), array, chunk)?.map(|what| (what, entry.bytes.clone())),
                };
                if let Some((what, bytes)) = what {
                    let array = array.index().name.clone();
                    damage.push(Damage { array, chunk, rows: entry.rows.clone(), bytes, what });
                }
            }
        }
        let coverage = if index.layout.has_checksums() { Coverage::Chunks } else { Coverage::None };
        Ok(VerifyReport { coverage, damage, trailing_len: index.trailing_len })
    }
}

/// What is wrong with the structure of a payload whose checksum is right.
fn structure(source: &dyn ReadAt, array: Array<'_>, chunk: ChunkId) -> Result<Option<String>, Error> {
    let plan = match array.dtype().and_then(|out| array.plan(chunk, out)) {
        Ok(plan) => plan,
        Err(error) => return Ok(Some(error.to_string())),
    };
    if !matches!(plan.load(), Load::DictPlanes) {
        // Every bit pattern of the right length is a value.
        return Ok(None);
    }
    let entry = &array.index().chunks[chunk.index()];
    if plan.shape().values() == 0 {
        // Reading no values would look at nothing.
        let len = usize::try_from(plan.payload_len()).expect("it lies in the file");
        let mut payload = vec![0; len];
        source.read_at(entry.bytes.start, &mut payload)?;
        return Ok(DictPlanes::parse(&payload, 0).err().map(|error| error.to_string()));
    }
    // Decoding is the check: codes beyond their dictionary only show there. The plan has checked that the payload is
    // long enough for so many values, so the memory is earned, whatever the caller's limit is for results.
    let values = usize::try_from(plan.shape().values()).expect("at most eight times the payload");
    match array.read_into(entry.rows.clone(), &mut vec![0f32; values]) {
        Ok(()) => Ok(None),
        Err(error @ Error::Decode { error: DecodeError::Payload { .. }, .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}
