//! Where the rows of a chunk lie in its bytes.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::checksum::AppendEach;

/// The inside of a chunk: fields of rows that all have the same number of bytes, and lanes of streams.
///
/// A chunk's rows are cut into *blocks* of `block_rows` rows, the last of which may be shorter. A *field* is one plain
/// matrix, `rows x width` bytes, so a row of it is found by arithmetic. A *lane* holds one stream of bytes for each
/// block, found through a table. Offsets count from the start of the chunk's bytes.
///
/// One exists only if all of its ranges lie in the chunk, in order and without overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    rows: u32,
    block_rows: u32,
    fields: Vec<Field>,
    lanes: Vec<Lane>,
    /// CRC-32C of each block; empty where the layout has no checksums of blocks.
    crcs: Vec<u32>,
}

/// One matrix of bytes in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes of a row.
    pub width: u32,
    /// Where row 0 begins.
    pub offset: u64,
    /// Where the zeros after the last row end: what the checksum of the last block covers.
    pub end: u64,
}

/// One stream for each block of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Where the stream of each block begins, and after the last of them where its padding ends.
    pub starts: Vec<u64>,
    /// Bytes of each stream, without the zeros after it.
    pub lens: Vec<u32>,
}

impl Parts {
    /// A payload of `rows` rows of `width` bytes, each of which can be had alone.
    pub fn packed(rows: u32, width: u32) -> Parts {
        let end = u64::from(rows) * u64::from(width);
        Parts {
            rows,
            block_rows: 1,
            fields: vec![Field { width, offset: 0, end }],
            lanes: Vec::new(),
            crcs: Vec::new(),
        }
    }

    /// A payload of `len` bytes whose inside only its codec knows: one stream that holds all `rows` rows.
    pub fn opaque(rows: u32, len: u32) -> Parts {
        let lane = Lane { starts: vec![0, u64::from(len)], lens: vec![len] };
        Parts { rows, block_rows: rows.max(1), fields: Vec::new(), lanes: vec![lane], crcs: Vec::new() }
    }

    /// How long the payload is, if these parts are [opaque](Parts::opaque).
    pub fn opaque_len(&self) -> Option<u64> {
        match self.lanes.as_slice() {
            [lane] if self.fields.is_empty() && self.crcs.is_empty() => lane.starts.last().copied(),
            _ => None,
        }
    }

    /// Parts as the head of a native chunk says, already checked against the chunk.
    pub(crate) fn blocked(
        rows: u32,
        block_rows: u32,
        fields: Vec<Field>,
        lanes: Vec<Lane>,
        crcs: Vec<u32>,
    ) -> Parts {
        Parts { rows, block_rows, fields, lanes, crcs }
    }

    /// Rows in the chunk.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Rows in every block but the last; at least 1.
    pub fn block_rows(&self) -> u32 {
        self.block_rows
    }

    /// How many blocks there are.
    pub fn block_count(&self) -> u32 {
        // An opaque payload is one block even if it has no rows.
        let least = u32::from(!self.lanes.is_empty());
        self.rows.div_ceil(self.block_rows).max(least)
    }

    /// The rows of these blocks.
    pub fn rows_of(&self, blocks: Range<u32>) -> Range<u32> {
        let row = |block: u32| {
            let row = u64::from(block) * u64::from(self.block_rows);
            u32::try_from(row).unwrap_or(u32::MAX).min(self.rows)
        };
        row(blocks.start)..row(blocks.end)
    }

    /// The blocks that hold these rows.
    pub fn blocks_of(&self, rows: Range<u32>) -> Range<u32> {
        rows.start / self.block_rows..rows.end.div_ceil(self.block_rows)
    }

    /// The fields, in file order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The lanes, in file order, after the fields.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// CRC-32C of each block, over its bytes in the order of [`Parts::ranges`]; empty where the layout has none.
    pub fn crcs(&self) -> &[u32] {
        &self.crcs
    }

    /// The bytes of these blocks: one range for each field, then one for each lane, none of them empty unless the
    /// blocks are. They include the padding that belongs to the last block.
    ///
    /// # Panics
    /// There are no such blocks.
    pub fn ranges(&self, blocks: Range<u32>) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
        let count = self.block_count();
        assert!(blocks.start <= blocks.end && blocks.end <= count, "blocks {blocks:?} of {count}");
        let rows = self.rows_of(blocks.clone());
        let last = blocks.end == count;
        let empty = blocks.is_empty();
        let fields = self.fields.iter().map(move |field| {
            let at = |row: u32| field.offset + u64::from(row) * u64::from(field.width);
            at(rows.start)..if last && !empty { field.end } else { at(rows.end) }
        });
        let lanes = self
            .lanes
            .iter()
            .map(move |lane| lane.starts[blocks.start as usize]..lane.starts[blocks.end as usize]);
        fields.chain(lanes)
    }

    /// Computes the checksums of these blocks. `bytes` are those of [`Parts::ranges`] of them, one after another.
    ///
    /// All blocks but the last have as many rows, and so their bytes in a field are as many: they are hashed side by side. Streams
    /// are not alike, and come one by one.
    ///
    /// # Panics
    /// These are not the bytes of those blocks, or there are not as many `crcs`.
    pub fn checksums<'b>(
        &self,
        blocks: Range<u32>,
        mut bytes: impl Iterator<Item = &'b [u8]>,
        append_each: AppendEach,
        crcs: &mut [u32],
    ) {
        assert_eq!(blocks.len(), crcs.len(), "checksums of blocks {blocks:?}");
        let mut next = |expected: u64| {
            let bytes = bytes.next().expect("bytes of each field and lane");
            assert_eq!(bytes.len() as u64, expected, "bytes of blocks {blocks:?}");
            bytes
        };
        crcs.fill(0);
        let mut ranges = self.ranges(blocks.clone());
        for (field, range) in self.fields.iter().zip(&mut ranges) {
            let bytes = next(range.end - range.start);
            let len = u64::from(self.block_rows) * u64::from(field.width);
            // The last block is short, or longer by the padding.
            let alike =
                if bytes.len() as u64 == len * crcs.len() as u64 { crcs.len() } else { crcs.len() - 1 };
            let alike_len = usize::try_from(len * alike as u64).expect("no more than there are bytes");
            append_each(&mut crcs[..alike], &bytes[..alike_len]);
            append_each(&mut crcs[alike..], &bytes[alike_len..]);
        }
        for (lane, range) in self.lanes.iter().zip(ranges) {
            let mut rest = next(range.end - range.start);
            let starts = &lane.starts[blocks.start as usize..=blocks.end as usize];
            for (crc, bounds) in crcs.iter_mut().zip(starts.windows(2)) {
                let len = usize::try_from(bounds[1] - bounds[0]).expect("no more than there are bytes");
                let (stream, after) = rest.split_at(len);
                append_each(core::slice::from_mut(crc), stream);
                rest = after;
            }
        }
    }

    /// How many bytes [`Parts::ranges`] are together.
    pub fn len_of(&self, blocks: Range<u32>) -> u64 {
        self.ranges(blocks).map(|range| range.end - range.start).sum()
    }

    /// The bytes between the parts, which must be zero; none of the ranges is empty. Only native chunks have any.
    pub fn padding(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let of_fields = self
            .fields
            .iter()
            .map(|field| field.offset + u64::from(self.rows) * u64::from(field.width)..field.end);
        let of_lanes = self.lanes.iter().flat_map(|lane| {
            let bounds = lane.starts.iter().zip(&lane.starts[1..]);
            bounds.zip(&lane.lens).map(|((start, end), len)| start + u64::from(*len)..*end)
        });
        of_fields.chain(of_lanes).filter(|range| !range.is_empty())
    }
}
