//! From the bytes of some blocks to the matrices of bytes that ops read.

use core::ops::Range;

use crate::backend::BlockRun;
use crate::ops::PayloadError;
use crate::plan::DecodePlan;
use crate::stream::Inflater;

/// The bytes of a run of blocks, wherever they are.
#[derive(Clone, Copy, Debug)]
pub enum RunBytes<'a> {
    /// All bytes of the chunk.
    Chunk(&'a [u8]),
    /// The ranges of the run, one after another.
    Ranges(&'a [u8]),
}

/// The most sources that an op reads: the byte planes of f64 values.
const MAX_SOURCES: usize = 8;

/// The sources of an op for the rows of one run: matrices of bytes, the fields first, then the inflated lanes.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// The rows they hold, counted from the start of the chunk.
    pub rows: Range<u32>,
    /// Each source: bytes of a row, and the rows one after another, perhaps followed by padding. Not a `Vec`: a run may
    /// be a single row, of which a batch has thousands.
    matrices: [(usize, &'a [u8]); MAX_SOURCES],
}

impl<'a> Sources<'a> {
    /// The sources of `run`, of a chunk with plan `plan`. Lanes are inflated into `scratch`, which is made long enough.
    ///
    /// # Errors
    /// A stream is damaged.
    ///
    /// # Panics
    /// These are not the bytes of the run, or the plan has no sources ([`Load::DictPlanes`](crate::Load::DictPlanes)).
    pub fn new(
        plan: &DecodePlan,
        run: &BlockRun<'_>,
        bytes: RunBytes<'a>,
        inflater: &mut Inflater,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Self, PayloadError> {
        let parts = run.parts;
        let (rows, row_count) = (run.rows(), run.rows().len());
        let (fields, lanes) = (parts.fields().len(), parts.lanes().len());
        let widths = plan.widths();
        assert!(
            widths.len() == fields + lanes && widths.len() <= MAX_SOURCES,
            "each field and lane is a source"
        );

        let mut matrices = [(0, [].as_slice()); MAX_SOURCES];
        let mut ranges = run.ranges();
        let mut at = 0;
        for (matrix, width) in matrices.iter_mut().zip(&widths[..fields]) {
            *matrix = (*width as usize, bytes.next_range(&mut ranges, &mut at));
        }
        let inflated_len: usize = widths[fields..].iter().map(|width| *width as usize * row_count).sum();
        if scratch.len() < inflated_len {
            scratch.resize(inflated_len, 0);
        }
        let mut rest = &mut scratch[..inflated_len];
        let of_lanes = matrices[fields..].iter_mut().zip(&widths[fields..]).zip(parts.lanes());
        for ((matrix, width), lane) in of_lanes {
            let width = *width as usize;
            let streams = bytes.next_range(&mut ranges, &mut at);
            let (inflated, after) = rest.split_at_mut(width * row_count);
            rest = after;
            let first_start = lane.starts[run.blocks.start as usize];
            let mut unfilled = &mut *inflated;
            for block in run.blocks.clone() {
                let start = index(lane.starts[block as usize] - first_start);
                let stream = &streams[start..start + lane.lens[block as usize] as usize];
                let block_len = parts.rows_of(block..block + 1).len() * width;
                let (out, after) = unfilled.split_at_mut(block_len);
                unfilled = after;
                inflater.inflate(plan.stream(), block, stream, out)?;
            }
            *matrix = (width, inflated);
        }
        Ok(Sources { rows, matrices })
    }

    /// Rows `rows` of source `source`, without gaps. Rows are counted from the start of the chunk.
    ///
    /// # Panics
    /// There is no such source, or the rows are not in the run.
    #[inline]
    pub fn rows_of(&self, source: usize, rows: Range<u32>) -> &'a [u8] {
        assert!(
            self.rows.start <= rows.start && rows.end <= self.rows.end,
            "rows {rows:?} of {:?}",
            self.rows
        );
        let (width, bytes) = self.matrices[source];
        let start = (rows.start - self.rows.start) as usize * width;
        &bytes[start..start + rows.len() * width]
    }
}

impl<'a> RunBytes<'a> {
    /// The bytes of the next range of a run; `at` is where it begins among the bytes of [`RunBytes::Ranges`].
    fn next_range(self, ranges: &mut impl Iterator<Item = Range<u64>>, at: &mut usize) -> &'a [u8] {
        let range = ranges.next().expect("one for each field and lane");
        match self {
            RunBytes::Chunk(bytes) => &bytes[index(range.start)..index(range.end)],
            RunBytes::Ranges(bytes) => {
                let start = *at;
                *at += index(range.end - range.start);
                &bytes[start..*at]
            }
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("the file was opened on this machine")
}
