//! Opening bytes in memory, step by step, as whoever brings the I/O does; and native files, taken apart.
#![allow(dead_code, reason = "each test is a crate of its own and uses some of this")]

use cvc_format::{FileIndex, FormatError, Limits, Opening, Step};

/// What opening came to, and the number of steps that it took.
pub(crate) fn open_counted(bytes: &[u8], limits: Limits) -> (Result<FileIndex, FormatError>, usize) {
    let mut opening = Opening::new(bytes.len() as u64, limits);
    let mut step = opening.start();
    let mut steps = 0;
    loop {
        match step {
            Step::Done(index) => return (Ok(index), steps),
            Step::Read(ranges) => {
                let mut fed = Vec::new();
                for range in ranges {
                    // Nothing is ever asked for that lies outside of the file.
                    fed.extend_from_slice(&bytes[to_usize(range.start)..to_usize(range.end)]);
                }
                steps += 1;
                match opening.feed(&fed) {
                    Ok(next) => step = next,
                    Err(error) => return (Err(error), steps),
                }
            }
        }
    }
}

pub(crate) fn open_within(bytes: &[u8], limits: Limits) -> Result<FileIndex, FormatError> {
    open_counted(bytes, limits).0
}

pub(crate) fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset in memory")
}

/// The parts of a native file between its ends, to be damaged one by one. Whatever they are, [`Parts::file`] puts
/// the right checksums around them.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) chunks: Vec<u8>,
    pub(crate) index: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
}

impl Parts {
    /// Takes a file apart.
    pub(crate) fn of(file: &[u8]) -> Parts {
        let trailer = &file[file.len() - 40..];
        let word = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().unwrap()) as usize;
        let metadata_start = file.len() - 40 - word(16);
        let index_start = metadata_start - 48 * word(8);
        Parts {
            chunks: file[64..index_start].to_vec(),
            index: file[index_start..metadata_start].to_vec(),
            metadata: file[metadata_start..file.len() - 40].to_vec(),
        }
    }

    /// Puts a file together.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = cvc_format::native::Contents::prelude().to_vec();
        file.extend(&self.chunks);
        file.extend(&self.index);
        file.extend(&self.metadata);
        let start = file.len();
        file.extend((start as u64 + 40).to_le_bytes());
        for word in [
            u32::try_from(self.index.len() / 48).unwrap(),
            crc32c(&self.index),
            u32::try_from(self.metadata.len()).unwrap(),
            crc32c(&self.metadata),
        ] {
            file.extend(word.to_le_bytes());
        }
        file.extend([1, 0, 0, 0]);
        let crc = crc32c(&file[start..]);
        file.extend(crc.to_le_bytes());
        file.extend([0x1a, 0x0a, 0x0d, 0xff, b'F', b'C', b'V', b'C']);
        file
    }
}

/// CRC-32C, bit by bit, as the page defines it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}
