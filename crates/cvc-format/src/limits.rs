//! What a reader is willing to spend on a file it has not seen before.

/// Bounds that a file must respect before anything is allocated for it.
///
/// The defaults open every file that the known writers make; tighten them for input from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the JSON header, or of the metadata of a native file. Default 100,000,000, which is also what the
    /// `decompressed` package allows. JSON in memory takes up to 80 times its bytes, so lower this for files from
    /// strangers.
    pub header_len: u64,
    /// Nesting of the JSON header or metadata. Default 64.
    pub json_depth: usize,
    /// Chunks in a file. Default 2^24. A native file has 48 bytes for each, which are read when it is opened.
    pub chunks: usize,
    /// Sections in a file. Default 2^20.
    pub sections: usize,
    /// Arrays (columns) in a file. Default 1,024.
    pub arrays: usize,
    /// Bytes of decoded values that one call may allocate. Default 2^46: what a caller asks for is bounded
    /// by the file it opened; set this to the memory you have when files come from strangers.
    pub decoded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_len: 100_000_000,
            json_depth: 64,
            chunks: 1 << 24,
            sections: 1 << 20,
            arrays: 1024,
            decoded_bytes: 1 << 46,
        }
    }
}
