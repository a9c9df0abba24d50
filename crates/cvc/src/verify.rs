//! Looking at every byte of a file.

use std::ops::Range;

use cvc_codec::ops::DictPlanes;
use cvc_codec::{BlockRun, CodecError, DecodeError, HostBuffer, Load, RunBytes, SourceError};
use cvc_cpu::CpuBackend;
use cvc_format::native::MAX_BLOCK_LEN;
use cvc_format::{ArrayDType, ChunkId, DType, Stored};

use crate::aligned::AlignedBytes;
use crate::checks::{self, BadFrame};
use crate::error::Error;
use crate::inside::check_blocks;
use crate::io::ReadAt;
use crate::par;
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
    /// Every byte of the file, block by block.
    Blocks,
}

impl Coverage {
    /// The name in `cvc verify --json`: `none`, `chunks`, `blocks`.
    pub const fn name(self) -> &'static str {
        match self {
            Coverage::None => "none",
            Coverage::Chunks => "chunks",
            Coverage::Blocks => "blocks",
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
    /// The bytes of the file among which some are wrong: several ranges for a block whose rows lie in several fields.
    pub bytes: Vec<Range<u64>>,
    /// What is wrong with them.
    pub what: String,
}

impl Reader {
    /// Looks at every chunk of every array: its checksums, and that its bytes are what its codec needs.
    ///
    /// # Errors
    /// The source fails. What is wrong with the file is in the report.
    pub fn verify(&self) -> Result<VerifyReport, Error> {
        let index = self.index();
        let mut damage = Vec::new();
        if index.layout == cvc_format::Layout::Native {
            for array in self.arrays() {
                let chunks: Vec<ChunkId> = array.chunks().map(|chunk| chunk.id).collect();
                let found =
                    par::try_map(&chunks, Vec::new, |scratch, chunk| verify_native(array, *chunk, scratch))?;
                damage.extend(found.into_iter().flatten());
            }
            damage.sort_by_key(|damage| damage.bytes[0].start);
            return Ok(VerifyReport { coverage: Coverage::Blocks, damage, trailing_len: 0 });
        }
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
                let entry = array.entry(chunk);
                let what = match &checksum {
                    // The damage may be in the bytes of any array of the frame.
                    Some(error) => Some((error.clone(), frame.bytes.clone())),
                    None => structure(self.source(), array, chunk)?.map(|what| (what, entry.bytes.clone())),
                };
                if let Some((what, bytes)) = what {
                    damage.push(damaged(array, chunk, entry.rows.clone(), vec![bytes], what));
                }
            }
        }
        let coverage = if index.layout.has_checksums() { Coverage::Chunks } else { Coverage::None };
        Ok(VerifyReport { coverage, damage, trailing_len: index.trailing_len })
    }
}

fn damaged(
    array: Array<'_>,
    chunk: ChunkId,
    rows: Range<u64>,
    bytes: Vec<Range<u64>>,
    what: String,
) -> Damage {
    Damage { array: array.index().name.clone(), chunk, rows, bytes, what }
}

/// What is wrong with a native chunk: its head, each of its blocks, the zeros between them, its structure.
fn verify_native(array: Array<'_>, chunk: ChunkId, scratch: &mut Vec<u8>) -> Result<Vec<Damage>, Error> {
    let entry = array.entry(chunk);
    let Stored::Blocked(blocked) = entry.stored else { unreachable!("of a native file") };
    let start = entry.bytes.start;
    let whole = |bytes: Range<u64>, what: String| {
        Ok(vec![damaged(array, chunk, entry.rows.clone(), vec![bytes], what)])
    };
    let parts = match array.stored(chunk) {
        Ok((_, parts)) => parts,
        Err(Error::Head { error, .. }) => {
            return whole(start..start + u64::from(blocked.head_len), error.to_string());
        }
        Err(error) => return Err(error),
    };
    let len = usize::try_from(entry.bytes.end - start).expect("a chunk fits in memory");
    let source = array.reader().source();
    let bytes = match source.borrow(entry.bytes.clone()) {
        Some(bytes) => bytes,
        None => {
            scratch.resize(len, 0);
            match source.read_at(start, scratch) {
                Ok(()) => &*scratch,
                Err(error @ SourceError::Shrunk { .. }) => {
                    return whole(entry.bytes.clone(), error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    let mut damage = Vec::new();
    let run = BlockRun { chunk, parts, blocks: 0..parts.block_count() };
    check_blocks(&run, run.blocks.clone(), RunBytes::Chunk(bytes), start, |_, result| {
        match result {
            Ok(()) => {}
            Err(error @ SourceError::Block { .. }) => {
                let what = error.to_string();
                let SourceError::Block { rows, ranges, .. } = error else { unreachable!("matched above") };
                let rows = entry.rows.start + u64::from(rows.start)..entry.rows.start + u64::from(rows.end);
                damage.push(damaged(array, chunk, rows, ranges, what));
            }
            Err(error) => return Err(Error::from(error)),
        }
        Ok(())
    })?;
    if !damage.is_empty() {
        return Ok(damage);
    }
    for padding in parts.padding() {
        let range = usize::try_from(padding.start).expect("in memory")
            ..usize::try_from(padding.end).expect("in memory");
        if bytes[range].iter().any(|byte| *byte != 0) {
            let what = "the padding is not zero: a faulty writer made this file".into();
            return whole(start + padding.start..start + padding.end, what);
        }
    }
    if array.check_readable().is_err() || !array.has_known_codec() {
        // Its checksums are right, and nobody here knows what is in it.
        return Ok(damage);
    }
    let content = match array.index().dtype {
        ArrayDType::Utf8 => array.check_strings(chunk),
        _ => structure_of_blocks(array, chunk),
    };
    match content {
        Ok(()) => Ok(damage),
        // The report names array and chunk already.
        Err(Error::Chunk { error, .. }) => whole(entry.bytes.clone(), error.to_string()),
        Err(Error::Decode { error: DecodeError::Payload { error, .. }, .. }) => {
            whole(entry.bytes.clone(), error.to_string())
        }
        Err(error) => Err(error),
    }
}

/// Decodes a native chunk whose content can be wrong although its checksums are right: streams, parameters of rows.
fn structure_of_blocks(array: Array<'_>, chunk: ChunkId) -> Result<(), Error> {
    let out = array.dtype()?;
    let plan = array.plan(chunk, out)?;
    let rows = array.entry(chunk).rows.clone();
    let parts = plan.parts();
    let bools = matches!(plan.load(), Load::Copy(DType::Bool));
    let only_bits = parts.lanes().is_empty() && parts.fields().len() == 1;
    if only_bits && !bools {
        // Every bit pattern of the right length is a value.
        return Ok(());
    }
    let row_len = u64::from(plan.dim()) * out.size() as u64;
    // Streams may unpack to thousands of times what they are, so no more of them at a time than one block may hold.
    let piece_rows = if parts.lanes().is_empty() {
        rows.end - rows.start
    } else {
        let block_rows = u64::from(parts.block_rows());
        (MAX_BLOCK_LEN / row_len.max(1) / block_rows).max(1) * block_rows
    };
    let mut values = AlignedBytes::new();
    let mut row = rows.start;
    while row < rows.end {
        let piece = row..rows.end.min(row.saturating_add(piece_rows));
        row = piece.end;
        let len = usize::try_from((piece.end - piece.start) * row_len).expect("the plan was earned");
        let mut buffer = HostBuffer::from_bytes(out, values.resize(len))?;
        array.decode(&CpuBackend::new(), piece, out, &mut buffer)?;
        if bools && values.bytes().iter().any(|value| *value > 1) {
            let error = CodecError::Params { codec: "of bools", needs: "bytes of 0 and 1" };
            let offset = array.entry(chunk).bytes.start;
            return Err(Error::Chunk { array: array.index().name.clone(), chunk, offset, error });
        }
    }
    Ok(())
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
    let entry = array.entry(chunk);
    if plan.shape().values() == 0 {
        // Reading no values would look at nothing.
        let len = usize::try_from(entry.bytes.end - entry.bytes.start).expect("it lies in the file");
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
