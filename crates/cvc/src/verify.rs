//! Looking at every byte of a file.

use std::ops::Range;

use cvc_codec::Load;
use cvc_format::{ChunkId, DType};

use crate::checks;
use crate::reader::Reader;

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
    /// Never fails: what goes wrong is in the report.
    pub fn verify(&self) -> VerifyReport {
        let index = self.index();
        let mut damage = Vec::new();
        for (number, frame) in index.frames.iter().enumerate() {
            let checksum = checks::check(std::iter::once(frame), self.source()).err();
            for array in &index.arrays {
                let chunk = ChunkId(u32::try_from(number).expect("a file has fewer than 2^32 chunks"));
                let entry = &array.chunks[number];
                let what = match &checksum {
                    // The damage may be in the bytes of any array of the frame.
                    Some(error) => Some((error.to_string(), frame.bytes.clone())),
                    None => self.structure(&array.name, chunk).map(|what| (what, entry.bytes.clone())),
                };
                if let Some((what, bytes)) = what {
                    damage.push(Damage {
                        array: array.name.clone(),
                        chunk,
                        rows: entry.rows.clone(),
                        bytes,
                        what,
                    });
                }
            }
        }
        let coverage = if index.layout.has_checksums() { Coverage::Chunks } else { Coverage::None };
        VerifyReport { coverage, damage, trailing_len: index.trailing_len }
    }

    /// What is wrong with the structure of a payload whose checksum is right.
    fn structure(&self, array: &str, chunk: ChunkId) -> Option<String> {
        let array = self.array(array).expect("the name comes from the index");
        let out = match array.dtype() {
            Ok(dtype) => dtype,
            Err(error) => return Some(error.to_string()),
        };
        let plan = match array.plan(chunk, out) {
            Ok(plan) => plan,
            Err(error) => return Some(error.to_string()),
        };
        if !matches!(plan.load(), Load::DictPlanes) {
            // Every bit pattern of the right length is a value.
            return None;
        }
        let rows = array.index().chunks[chunk.index()].rows.clone();
        debug_assert_eq!(out, DType::F32);
        // Decoding is the check: codes beyond their dictionary only show there.
        array.read::<f32>(rows).err().map(|error| error.to_string())
    }
}
