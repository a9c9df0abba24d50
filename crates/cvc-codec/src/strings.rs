//! Strings: arrays of dtype `utf8`.
//!
//! A chunk of them has one lane. What the stream of a block holds is, unpacked,
//!
//! ```text
//! u32 end[rows]     little-endian: where each string ends in the bytes that follow
//! u8  text[]        the strings one after another, in UTF-8, up to the last end
//! ```

use cvc_format::Parts;
use cvc_format::native::MAX_BLOCK_LEN;

use crate::codec::{CodecError, EncodedChunk, find};
use crate::codecs;
use crate::ops::PayloadError;
use crate::plan::Stream;
use crate::stream::{Deflater, Inflater, Packing};

/// A list of strings in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// Where each string ends. Invariant: ascending, each at the border of a character, the last the length of `text`.
    ends: Vec<usize>,
}

impl Strings {
    /// How many strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `index`.
    ///
    /// # Panics
    /// There are not so many.
    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Appends a string.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// Removes all strings, and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// All strings one after another.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<S: AsRef<str>> Extend<S> for Strings {
    fn extend<I: IntoIterator<Item = S>>(&mut self, strings: I) {
        strings.into_iter().for_each(|string| self.push(string.as_ref()));
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut list = Strings::default();
        list.extend(strings);
        list
    }
}

/// Bytes of the end of a string in a block.
const END_LEN: u64 = 4;

/// Rows to a block of these strings unless the caller chooses: 16 KiB or more on the average, and never more than a block
/// may hold, unless a single string is longer.
pub fn default_block_rows(strings: &Strings) -> u32 {
    let row_len = (strings.text.len() as u64).div_ceil(strings.len().max(1) as u64) + END_LEN;
    fitting_block_rows(strings, codecs::stream_block_rows(row_len))
}

/// So many rows to a block of these strings, or half as many, a quarter, ..., where a block would be too large; at least 1.
pub fn fitting_block_rows(strings: &Strings, most: u32) -> u32 {
    let fits = |rows: u32| {
        let mut start = 0;
        strings.ends.chunks(rows as usize).all(|ends| {
            let end = ends[ends.len() - 1];
            let len = (end - start) as u64 + ends.len() as u64 * END_LEN;
            start = end;
            len <= MAX_BLOCK_LEN
        })
    };
    let mut rows = most.max(1);
    while rows > 1 && !fits(rows) {
        rows /= 2;
    }
    rows
}

/// Encodes strings as one chunk with one lane, packed by `codec`: `raw`, `zstd` or `gzip`. What `out` held before is
/// replaced.
///
/// # Errors
/// Another codec, or a block of more than 16 MiB.
pub fn encode_strings(
    strings: &Strings,
    codec: &str,
    block_rows: u32,
    out: &mut EncodedChunk,
) -> Result<(), CodecError> {
    let codec = find(codec)?.name();
    let refuse = |problem| Err(CodecError::Input { codec, problem });
    let Some(packing) = packing_of(codec) else {
        return refuse("it is for numbers: store strings with raw, zstd or gzip".into());
    };
    out.reset(0, 1);
    let lane = &mut out.lanes[0];
    let (mut deflater, mut block) = (Deflater::default(), Vec::new());
    let block_rows = (block_rows as usize).clamp(1, strings.len().max(1));
    let mut start = 0;
    for ends in strings.ends.chunks(block_rows) {
        let text = &strings.text[start..ends[ends.len() - 1]];
        let len = ends.len() as u64 * 4 + text.len() as u64;
        if len > MAX_BLOCK_LEN {
            let advice = if ends.len() > 1 { "use fewer rows to a block" } else { "cut the string" };
            let problem = format!(
                "{} strings are a block of {len} bytes, at most {MAX_BLOCK_LEN} are possible: {advice}",
                ends.len()
            );
            return refuse(problem);
        }
        block.clear();
        for end in ends {
            block.extend(u32::try_from(end - start).expect("at most 16 MiB").to_le_bytes());
        }
        block.extend_from_slice(text.as_bytes());
        lane.lens.push(deflater.deflate(packing, &block, &mut lane.bytes));
        start += text.len();
    }
    Ok(())
}

fn packing_of(codec: &str) -> Option<Packing> {
    match codec {
        "raw" => Some(Packing::Stored),
        "zstd" => Some(Packing::Zstd),
        "gzip" => Some(Packing::Gzip),
        _ => None,
    }
}

/// How the streams of a chunk of strings are packed.
///
/// # Errors
/// The codec is not one for strings, or the chunk has anything but one lane.
pub fn stream_of(codec: &str, parts: &Parts) -> Result<Stream, PayloadError> {
    let damaged = |problem: String| Err(PayloadError::Strings { problem });
    match packing_of(codec) {
        None => damaged(format!("codec {codec} does not store strings (raw, zstd and gzip do)")),
        Some(packing) => match (parts.fields(), parts.lanes()) {
            ([], [_]) => Ok(packing.stream()),
            (fields, lanes) => {
                damaged(format!("{} fields and {} lanes, one lane is needed", fields.len(), lanes.len()))
            }
        },
    }
}

/// Appends the `rows` strings of one block to `out`, given its stream.
///
/// # Errors
/// The stream is damaged, or does not hold so many strings of UTF-8. `out` is then as it was.
pub fn decode_block(
    inflater: &mut Inflater,
    stream: Stream,
    block: u32,
    bytes: &[u8],
    rows: usize,
    out: &mut Strings,
) -> Result<(), PayloadError> {
    let mut decoded = Vec::new();
    inflater.inflate_all(stream, block, bytes, &mut decoded)?;
    append(&decoded, rows, out).map_err(|problem| PayloadError::Stream { block, problem })
}

fn append(decoded: &[u8], rows: usize, out: &mut Strings) -> Result<(), String> {
    let split = rows.checked_mul(4).and_then(|len| decoded.split_at_checked(len));
    let Some((ends, text)) = split else {
        return Err(format!("decodes to {} bytes, too few for the ends of {rows} strings", decoded.len()));
    };
    let text = str::from_utf8(text).map_err(|error| format!("holds strings that are not UTF-8 ({error})"))?;
    let mut last = 0;
    let ends = ends.as_chunks().0.iter().map(|end| u32::from_le_bytes(*end) as usize);
    for (row, end) in ends.clone().enumerate() {
        if end < last || !text.is_char_boundary(end) {
            let len = text.len();
            return Err(format!("has string {row} end at byte {end} of {len}, which is no place for it"));
        }
        last = end;
    }
    if last != text.len() {
        return Err(format!("has {} bytes after its last string", text.len() - last));
    }
    let start = out.text.len();
    out.text.push_str(text);
    out.ends.extend(ends.map(|end| start + end));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Strings {
        ["", "libfoo1", "Grüße", "", "日本語", "x"].iter().collect()
    }

    /// The strings of all blocks.
    fn decoded(codec: &str, chunk: &EncodedChunk, block_rows: usize, rows: usize) -> Strings {
        let stream = packing_of(codec).unwrap().stream();
        let (mut inflater, mut out) = (Inflater::default(), Strings::default());
        let mut rest = &chunk.lanes[0].bytes[..];
        for (block, len) in (0..).zip(&chunk.lanes[0].lens) {
            let (bytes, after) = rest.split_at(*len as usize);
            rest = after;
            let left = rows - out.len();
            decode_block(&mut inflater, stream, block, bytes, left.min(block_rows), &mut out).unwrap();
        }
        assert!(rest.is_empty());
        out
    }

    #[test]
    fn strings_go_round() {
        let many: Strings = (0..5000).map(|n| "ab".repeat(n % 7)).collect();
        for strings in [some(), many, [""].iter().collect()] {
            for codec in ["raw", "zstd", "gzip"] {
                for block_rows in [1, 2, 1000, u32::MAX] {
                    let mut chunk = EncodedChunk::default();
                    encode_strings(&strings, codec, block_rows, &mut chunk).unwrap();
                    assert_eq!((chunk.fields.len(), chunk.lanes.len()), (0, 1));
                    assert_eq!(decoded(codec, &chunk, block_rows as usize, strings.len()), strings);
                }
            }
        }
    }

    #[test]
    fn a_list_is_what_was_pushed() {
        let list = some();
        assert_eq!((list.len(), list.get(2), list.get(0), list.get(5)), (6, "Grüße", "", "x"));
        assert_eq!(list.iter().collect::<Vec<_>>().concat(), list.text());
        let mut cleared = list.clone();
        cleared.clear();
        assert!(cleared.is_empty() && !list.is_empty());
    }

    #[test]
    fn other_codecs_are_refused() {
        let error =
            |codec| encode_strings(&some(), codec, 1, &mut EncodedChunk::default()).unwrap_err().to_string();
        assert!(error("int8").contains("store strings with raw, zstd or gzip"));
        assert!(error("int9").contains("is unknown"));
        let parts = Parts::opaque(1, 5);
        assert_eq!(stream_of("gzip", &parts), Ok(Stream::Gzip));
        assert!(
            stream_of("fp16", &parts).unwrap_err().to_string().contains("codec fp16 does not store strings")
        );
        let error = stream_of("raw", &Parts::packed(1, 5)).unwrap_err().to_string();
        assert!(error.contains("1 fields and 0 lanes, one lane is needed"), "{error}");
    }

    #[test]
    fn a_block_too_large_is_refused() {
        let strings: Strings =
            ["x".repeat(9 << 20), "y".repeat(9 << 20), "z".repeat(17 << 20)].iter().collect();
        let error = |list: &Strings, rows| {
            encode_strings(list, "zstd", rows, &mut EncodedChunk::default()).unwrap_err().to_string()
        };
        assert!(error(&strings, 2).contains("use fewer rows to a block"));
        assert!(error(&strings, 1).contains("cut the string"));
    }

    #[test]
    fn each_damage_has_its_message() {
        let block = |ends: &[u32], text: &[u8]| {
            let ends: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
            [&ends, text].concat()
        };
        let message = |bytes: &[u8], rows| {
            let mut out = some();
            let result = decode_block(&mut Inflater::default(), Stream::Stored, 3, bytes, rows, &mut out);
            assert_eq!(out, some(), "as it was");
            result.unwrap_err().to_string()
        };
        for (bytes, rows, problem) in [
            (block(&[1], b"a"), 2, "too few for the ends of 2 strings"),
            (block(&[1], b"a"), usize::MAX, "too few for the ends"),
            (block(&[2, 1], b"ab"), 2, "string 1 end at byte 1 of 2"),
            (block(&[1, 3], b"ab"), 2, "string 1 end at byte 3 of 2"),
            (block(&[1, 2], "ß".as_bytes()), 2, "string 0 end at byte 1 of 2"),
            (block(&[1], b"ab"), 1, "1 bytes after its last string"),
            (block(&[], b"ab"), 0, "2 bytes after its last string"),
            (block(&[2], &[0xc3, 0x28]), 1, "not UTF-8"),
        ] {
            let message = message(&bytes, rows);
            assert!(message.contains("block 3") && message.contains(problem), "{message}");
        }
    }

    #[test]
    fn default_blocks_hold_sixteen_kib() {
        let of = |len: usize, rows: usize| (0..rows).map(|_| "x".repeat(len)).collect::<Strings>();
        assert_eq!(default_block_rows(&of(12, 12_000)), 1024);
        assert_eq!(default_block_rows(&of(0, 0)), 4096);
        assert_eq!(default_block_rows(&of(1 << 20, 2)), 1);
        // Short on the average, but for two that do not fit a block together.
        let long = "x".repeat(9 << 20);
        let mixed: Strings = (0..10_000).map(|row| if row < 2 { long.as_str() } else { "" }).collect();
        assert_eq!((default_block_rows(&mixed), fitting_block_rows(&mixed, 8)), (1, 1));
    }
}
