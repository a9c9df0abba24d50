//! The numbers of S4's formats that never change, and the two headers of a body.

use core::fmt;

/// Begins a frame.
pub(super) const FRAME_MAGIC: [u8; 4] = *b"S4F2";
/// Begins padding.
pub(super) const PADDING_MAGIC: [u8; 4] = *b"S4P1";
/// Begins a sidecar.
pub(super) const INDEX_MAGIC: [u8; 4] = *b"S4IX";
/// Begins the payload of a GPU codec.
pub(super) const FCG1_MAGIC: [u8; 4] = *b"FCG1";

/// Magic, codec, decoded length, payload length, crc32c.
pub(super) const FRAME_HEADER_LEN: usize = 28;
/// Magic and length.
pub(super) const PADDING_HEADER_LEN: usize = 12;
/// Magic, algorithm, reserved, decoded length, chunk length, chunk count.
pub(super) const FCG1_HEADER_LEN: usize = 24;
/// What every version of a sidecar begins with.
pub(super) const INDEX_HEADER_LEN: usize = 32;
/// The length of the body and of the etag, from version 2 on. The etag follows.
pub(super) const BINDING_LEN: usize = 12;
/// How the body was encrypted, from version 3 on.
pub(super) const ENCRYPTION_LEN: usize = 30;
/// One frame in a sidecar.
pub(super) const ENTRY_LEN: usize = 32;
/// The longest etag that S4 reads.
pub(super) const MAX_ETAG_LEN: usize = 4096;
/// The longest chunk of a GPU codec.
pub(super) const MAX_CHUNK_LEN: u32 = 16 << 20;

/// The most bytes that S4 decodes a frame to: 5 GiB.
pub const MAX_FRAME_LEN: u64 = 5 << 30;
/// The most frames that S4 reads from a sidecar: 2^24.
pub const MAX_FRAMES: usize = 1 << 24;

/// What S4 calls a codec: how the payload of one frame is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// The bytes themselves.
    Passthrough,
    /// Zstandard frames.
    CpuZstd,
    /// Zstandard in independent chunks, made on a GPU.
    NvcompZstd,
    /// Bitcomp, made on a GPU.
    NvcompBitcomp,
    /// An id that no release of S4 writes.
    NvcompGans,
    /// An id that no release of S4 writes.
    DietgpuAns,
    /// GDeflate, made on a GPU.
    NvcompGdeflate,
    /// One gzip member.
    CpuGzip,
    /// Zstandard frames that need a dictionary.
    CpuZstdDict,
}

impl Codec {
    /// All of them; the position in the list is the id.
    pub const ALL: [Codec; 9] = [
        Codec::Passthrough,
        Codec::CpuZstd,
        Codec::NvcompZstd,
        Codec::NvcompBitcomp,
        Codec::NvcompGans,
        Codec::DietgpuAns,
        Codec::NvcompGdeflate,
        Codec::CpuGzip,
        Codec::CpuZstdDict,
    ];

    /// The codec of this id, if there is one.
    pub fn from_id(id: u32) -> Option<Codec> {
        Codec::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The id in a frame's header.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The name in S4's object metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Passthrough => "passthrough",
            Codec::CpuZstd => "cpu-zstd",
            Codec::NvcompZstd => "nvcomp-zstd",
            Codec::NvcompBitcomp => "nvcomp-bitcomp",
            Codec::NvcompGans => "nvcomp-gans",
            Codec::DietgpuAns => "dietgpu-ans",
            Codec::NvcompGdeflate => "nvcomp-gdeflate",
            Codec::CpuGzip => "cpu-gzip",
            Codec::CpuZstdDict => "cpu-zstd-dict",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// How its payload is compressed.
    pub codec: Codec,
    /// Bytes that the payload decodes to.
    pub decoded_len: u64,
    /// Bytes of the payload.
    pub payload_len: u64,
    /// crc32c of the decoded bytes.
    pub crc32c: u32,
}

impl FrameHeader {
    /// Reads the fields behind the magic; `Err` is an unknown codec's id.
    pub(super) fn parse(bytes: &[u8; FRAME_HEADER_LEN]) -> Result<FrameHeader, u32> {
        let id = u32_at(bytes, 4);
        Ok(FrameHeader {
            codec: Codec::from_id(id).ok_or(id)?,
            decoded_len: u64_at(bytes, 8),
            payload_len: u64_at(bytes, 16),
            crc32c: u32_at(bytes, 24),
        })
    }

    pub(super) fn to_bytes(self) -> [u8; FRAME_HEADER_LEN] {
        let mut bytes = [0; FRAME_HEADER_LEN];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4..8].copy_from_slice(&self.codec.id().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.decoded_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[24..].copy_from_slice(&self.crc32c.to_le_bytes());
        bytes
    }
}

/// The header of `len` bytes of padding.
pub(super) fn padding_header(len: u64) -> [u8; PADDING_HEADER_LEN] {
    let mut bytes = [0; PADDING_HEADER_LEN];
    bytes[..4].copy_from_slice(&PADDING_MAGIC);
    bytes[4..].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// The little-endian number at `at`, which lies within `bytes`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

/// The little-endian number at `at`, which lies within `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// The little-endian number at `at`, which lies within `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_numbers_never_change() {
        assert_eq!(
            [FRAME_MAGIC, PADDING_MAGIC, INDEX_MAGIC, FCG1_MAGIC],
            [*b"S4F2", *b"S4P1", *b"S4IX", *b"FCG1"]
        );
        assert_eq!([FRAME_HEADER_LEN, PADDING_HEADER_LEN, FCG1_HEADER_LEN], [28, 12, 24]);
        assert_eq!(
            [INDEX_HEADER_LEN, BINDING_LEN, ENCRYPTION_LEN, ENTRY_LEN, MAX_ETAG_LEN],
            [32, 12, 30, 32, 4096]
        );
        assert_eq!((MAX_CHUNK_LEN, MAX_FRAME_LEN, MAX_FRAMES), (16_777_216, 5_368_709_120, 16_777_216));
        let names: Vec<String> = Codec::ALL.iter().map(|codec| format!("{} {codec}", codec.id())).collect();
        assert_eq!(
            names,
            [
                "0 passthrough",
                "1 cpu-zstd",
                "2 nvcomp-zstd",
                "3 nvcomp-bitcomp",
                "4 nvcomp-gans",
                "5 dietgpu-ans",
                "6 nvcomp-gdeflate",
                "7 cpu-gzip",
                "8 cpu-zstd-dict"
            ]
        );
        assert!(Codec::ALL.iter().all(|codec| Codec::from_id(codec.id()) == Some(*codec)));
        assert_eq!((Codec::from_id(9), Codec::from_id(u32::MAX)), (None, None));
    }

    #[test]
    fn a_header_is_what_it_was() {
        let header =
            FrameHeader { codec: Codec::CpuGzip, decoded_len: 1 << 40, payload_len: 3, crc32c: 0xe306_9283 };
        assert_eq!(FrameHeader::parse(&header.to_bytes()), Ok(header));
    }
}
