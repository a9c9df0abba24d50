//! `dict_planes`: upstream's lossless payload. Four byte planes of f32 values, each with a dictionary of the
//! bytes that occur and, for every value, the index of its byte there, packed as tightly as the size of the
//! dictionary allows.
//!
//! ```text
//! u32 n                     values, little-endian
//! u8  bits[4]               width of an index in each plane; plane 0 is the least significant byte
//! four times:
//!   u16 k                   entries in the dictionary, little-endian
//!   u8  dictionary[k]
//!   u8  codes[ceil(n * bits / 8)]   most significant bit first, zeros at the end
//! ```

use thiserror::Error;

/// The length of a payload without any value: `n`, four widths, four empty planes.
pub const MIN_LEN: u64 = 4 + 4 + 4 * 2;

/// A payload whose structure has been checked: every plane has codes for every value.
#[derive(Clone, Debug)]
pub struct DictPlanes<'a> {
    planes: [Plane<'a>; 4],
    values: u64,
}

/// One byte plane. Invariant: `codes` holds `ceil(values * bits / 8)` bytes and `bits` is 1 to 8.
#[derive(Clone, Debug)]
struct Plane<'a> {
    bits: u8,
    /// The dictionary, padded: entries from `entries` on are never returned as values.
    dictionary: [u8; 256],
    entries: u16,
    codes: &'a [u8],
}

impl<'a> DictPlanes<'a> {
    /// Checks the structure of a payload that should hold `values` values.
    ///
    /// # Errors
    /// What is wrong and at which byte of the payload.
    pub fn parse(payload: &'a [u8], values: u64) -> Result<Self, PayloadError> {
        let mut rest = Cursor { bytes: payload, offset: 0 };
        let stated = u32::from_le_bytes(*rest.array::<4>("the number of values")?);
        if u64::from(stated) != values {
            return Err(PayloadError::Count { stated, values });
        }
        let widths = *rest.array::<4>("the widths")?;
        let mut plane = |bits: u8| -> Result<Plane<'a>, PayloadError> {
            let offset = rest.offset;
            if !(1..=8).contains(&bits) {
                return Err(PayloadError::Width { bits });
            }
            let entries = u16::from_le_bytes(*rest.array::<2>("the size of a dictionary")?);
            if entries > 1 << bits || (entries == 0 && values > 0) {
                return Err(PayloadError::Dictionary { offset, entries, bits });
            }
            let mut dictionary = [0; 256];
            let stored = rest.take(u64::from(entries), "a dictionary")?;
            dictionary[..stored.len()].copy_from_slice(stored);
            // values < 2^32, so this cannot overflow.
            let codes = rest.take((values * u64::from(bits)).div_ceil(8), "the codes of a plane")?;
            Ok(Plane { bits, dictionary, entries, codes })
        };
        let planes = [plane(widths[0])?, plane(widths[1])?, plane(widths[2])?, plane(widths[3])?];
        if !rest.bytes.is_empty() {
            return Err(PayloadError::Trailing { offset: rest.offset, bytes: rest.bytes.len() });
        }
        Ok(DictPlanes { planes, values })
    }

    /// Decodes `dst.len()` values from value `first` on.
    ///
    /// # Errors
    /// A code beyond its dictionary.
    ///
    /// # Panics
    /// The values are not all within the payload's.
    pub fn decode(&self, first: u64, dst: &mut [f32]) -> Result<(), PayloadError> {
        assert!(first + dst.len() as u64 <= self.values);
        for (index, value) in dst.iter_mut().enumerate() {
            let index = first + index as u64;
            let mut bytes = [0; 4];
            for (byte, plane) in bytes.iter_mut().zip(&self.planes) {
                let code = plane.code(index);
                if u16::from(code) >= plane.entries {
                    return Err(PayloadError::Code { value: index, code, entries: plane.entries });
                }
                *byte = plane.dictionary[usize::from(code)];
            }
            *value = f32::from_bits(u32::from_le_bytes(bytes));
        }
        Ok(())
    }

    /// The planes as (bits per code, dictionary padded to 256, entries in it, codes), low byte first, for
    /// backends that unpack them in their own way.
    pub fn planes(&self) -> [(u8, &[u8; 256], u16, &'a [u8]); 4] {
        self.planes.each_ref().map(|plane| (plane.bits, &plane.dictionary, plane.entries, plane.codes))
    }

    /// Values in the payload.
    pub fn values(&self) -> u64 {
        self.values
    }
}

impl Plane<'_> {
    /// The code of value `index`: `bits` bits from bit `index * bits` on, most significant first.
    fn code(&self, index: u64) -> u8 {
        let bit = index * u64::from(self.bits);
        let byte = usize::try_from(bit / 8).expect("codes are in memory");
        let shift = u32::try_from(bit % 8).expect("below 8");
        // A code spans at most two bytes; beyond the last one there is nothing but the end of this code.
        let pair = u16::from_be_bytes([self.codes[byte], self.codes.get(byte + 1).copied().unwrap_or(0)]);
        let aligned = pair << shift >> (16 - u32::from(self.bits));
        aligned.to_le_bytes()[0]
    }
}

/// Appends the payload of `values` to `out`.
///
/// # Panics
/// There are 2^32 values or more; [`crate::Codec::encode`] refuses those first.
pub fn encode(values: impl ExactSizeIterator<Item = f32> + Clone, out: &mut Vec<u8>) {
    let count = u32::try_from(values.len()).expect("checked by the codec");
    let mut used = [[false; 256]; 4];
    for value in values.clone() {
        for (used, byte) in used.iter_mut().zip(value.to_bits().to_le_bytes()) {
            used[usize::from(byte)] = true;
        }
    }
    let dictionaries =
        used.map(|used| (0..=u8::MAX).filter(|byte| used[usize::from(*byte)]).collect::<Vec<u8>>());
    let widths = dictionaries.each_ref().map(|dictionary| index_bits(dictionary.len()));
    out.extend(count.to_le_bytes());
    out.extend(widths);
    for (plane, (dictionary, bits)) in dictionaries.iter().zip(widths).enumerate() {
        out.extend(u16::try_from(dictionary.len()).expect("at most 256").to_le_bytes());
        out.extend(dictionary);
        let mut index_of = [0u8; 256];
        for (index, byte) in (0..=u8::MAX).zip(dictionary) {
            index_of[usize::from(*byte)] = index;
        }
        // Codes enter `pending` at the low end; whole bytes leave it at the high end.
        let (mut pending, mut held) = (0u32, 0u32);
        for value in values.clone() {
            let byte = value.to_bits().to_le_bytes()[plane];
            pending = pending << bits | u32::from(index_of[usize::from(byte)]);
            held += u32::from(bits);
            if held >= 8 {
                held -= 8;
                out.push((pending >> held).to_le_bytes()[0]);
                pending &= (1 << held) - 1;
            }
        }
        if held > 0 {
            out.push((pending << (8 - held)).to_le_bytes()[0]);
        }
    }
}

/// Bits that an index into a dictionary of this many entries needs; at least one.
fn index_bits(entries: usize) -> u8 {
    match entries {
        0..=2 => 1,
        _ => u8::try_from((entries - 1).ilog2() + 1).expect("at most 8"),
    }
}

/// Takes fields off the front of a payload.
struct Cursor<'a> {
    bytes: &'a [u8],
    offset: u64,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], PayloadError> {
        let split = usize::try_from(len).ok().and_then(|len| self.bytes.split_at_checked(len));
        let Some((taken, rest)) = split else {
            return Err(PayloadError::Truncated { what, offset: self.offset, len, left: self.bytes.len() });
        };
        self.bytes = rest;
        self.offset += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N], PayloadError> {
        Ok(self.take(N as u64, what)?.try_into().expect("took N bytes"))
    }
}

/// A payload whose inner structure is wrong. Offsets count from the start of the payload.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// It ends too early.
    #[error("the payload is damaged: {what} at byte {offset} needs {len} bytes, only {left} are left")]
    Truncated {
        /// What was to be read.
        what: &'static str,
        /// Where.
        offset: u64,
        /// How many bytes it needs.
        len: u64,
        /// How many there are.
        left: usize,
    },
    /// Another number of values than the chunk has.
    #[error("the payload is damaged: it says it holds {stated} values, the chunk has {values}")]
    Count {
        /// What the payload says.
        stated: u32,
        /// What the index says.
        values: u64,
    },
    /// Codes of no or too many bits.
    #[error("the payload is damaged: codes of {bits} bits; 1 to 8 are possible")]
    Width {
        /// What it says.
        bits: u8,
    },
    /// A dictionary that codes of this width cannot address, or that is empty though there are values.
    #[error(
        "the payload is damaged: a dictionary of {entries} entries for {bits}-bit codes at byte {offset}"
    )]
    Dictionary {
        /// Where.
        offset: u64,
        /// Its size.
        entries: u16,
        /// Bits of a code.
        bits: u8,
    },
    /// A code that its dictionary does not have.
    #[error("the payload is damaged: value {value} has code {code} in a dictionary of {entries}")]
    Code {
        /// Which value of the chunk.
        value: u64,
        /// The code.
        code: u8,
        /// The size of the dictionary.
        entries: u16,
    },
    /// A scale or a minimum of a row that is not finite.
    #[error(
        "the payload is damaged: the {what} of row {row} is {value}, and only finite ones can be written"
    )]
    Parameter {
        /// Which row of the chunk.
        row: u32,
        /// `scale` or `minimum`.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// A stream that does not unpack to its block.
    #[error("the payload is damaged: the stream of block {block} {problem}")]
    Stream {
        /// Which block.
        block: u32,
        /// What is wrong with it, as a clause.
        problem: String,
    },
    /// A chunk of strings whose inside is not that of strings.
    #[error("the strings are damaged: {problem}")]
    Strings {
        /// What is wrong, as a clause.
        problem: String,
    },
    /// Bytes after the last plane.
    #[error("the payload is damaged: {bytes} bytes follow the last plane at byte {offset}")]
    Trailing {
        /// Where they begin.
        offset: u64,
        /// How many.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(bits: &[u32]) -> Vec<u8> {
        let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
        let mut payload = Vec::new();
        encode(values.iter().copied(), &mut payload);
        let planes = DictPlanes::parse(&payload, values.len() as u64).unwrap();
        for first in 0..=values.len() {
            let mut decoded = vec![0.0; values.len() - first];
            planes.decode(first as u64, &mut decoded).unwrap();
            let decoded: Vec<u32> = decoded.iter().map(|value| value.to_bits()).collect();
            assert_eq!(decoded, bits[first..]);
        }
        payload
    }

    #[test]
    fn every_width_goes_round() {
        for entries in 1..=256u32 {
            round_trip(&(0..entries.max(9)).map(|value| (value % entries) * 0x0101_0001).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_values_are_sixteen_bytes() {
        assert_eq!(round_trip(&[]), [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(MIN_LEN, 16);
    }

    #[test]
    fn bits_are_packed_from_the_top() {
        // Plane 0 holds 1, 2, 3, 1: codes 0, 1, 2, 0 in two bits each.
        let payload = round_trip(&[1, 2, 3, 1]);
        assert_eq!(payload[..14], [4, 0, 0, 0, 2, 1, 1, 1, 3, 0, 1, 2, 3, 0b0001_1000]);
    }

    #[test]
    fn each_damage_has_its_error() {
        let payload = round_trip(&[1, 2, 3, 1]);
        let parse = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut payload = payload.clone();
            edit(&mut payload);
            let planes = DictPlanes::parse(&payload, 4).map(|planes| planes.decode(0, &mut [0.0; 4]));
            planes.and_then(|decoded| decoded).unwrap_err()
        };
        assert!(matches!(parse(&|p| p[0] = 5), PayloadError::Count { stated: 5, values: 4 }));
        assert!(matches!(parse(&|p| p[4] = 9), PayloadError::Width { bits: 9 }));
        assert!(matches!(parse(&|p| p[4] = 0), PayloadError::Width { bits: 0 }));
        assert!(matches!(parse(&|p| p[8] = 5), PayloadError::Dictionary { offset: 8, entries: 5, bits: 2 }));
        assert!(matches!(parse(&|p| p[8] = 0), PayloadError::Dictionary { entries: 0, .. }));
        assert!(matches!(parse(&|p| p[13] = 0xff), PayloadError::Code { value: 0, code: 3, entries: 3 }));
        assert!(matches!(parse(&|p| p.push(0)), PayloadError::Trailing { bytes: 1, .. }));
        for len in 0..payload.len() {
            assert!(matches!(parse(&|p| p.truncate(len)), PayloadError::Truncated { .. }));
        }
    }
}
