//! Which rows of which chunks go where.

use core::ops::Range;

use cvc_format::{ChunkId, DType};
use thiserror::Error;

use crate::plan::DecodePlan;

/// Some consecutive rows of one chunk, and the row of the destination that the first of them becomes.
#[derive(Clone, Debug)]
pub struct Job<'p> {
    /// How to decode the chunk.
    pub plan: &'p DecodePlan,
    /// Which chunk; the name by which [`crate::Payloads`] knows it.
    pub chunk: ChunkId,
    /// Rows wanted, counted from the start of the chunk.
    pub rows: Range<u32>,
    /// The first row of the destination to be written.
    pub dst_row: u64,
}

/// Jobs that together write every row of a destination exactly once.
///
/// A backend may trust it: rows lie inside their chunks, destinations tile `0..rows` without gap or overlap
/// (so memory that was not written is never returned), and all plans agree on dim and output dtype.
#[derive(Clone, Debug)]
pub struct Batch<'p> {
    jobs: Vec<Job<'p>>,
    rows: u64,
    dim: u32,
    out: DType,
}

impl<'p> Batch<'p> {
    /// Checks `jobs` against each other and against a destination of `rows` rows of `dim` values of `out`.
    /// They are kept sorted by destination.
    ///
    /// # Errors
    /// A job's rows are not in its chunk, the destination is not tiled, or a plan has another dim or dtype.
    pub fn new(mut jobs: Vec<Job<'p>>, rows: u64, dim: u32, out: DType) -> Result<Self, BatchError> {
        jobs.sort_by_key(|job| job.dst_row);
        let mut next_row = 0;
        for job in &jobs {
            let shape = job.plan.shape();
            if job.rows.start > job.rows.end || job.rows.end > shape.rows {
                return Err(BatchError::RowsOutside {
                    chunk: job.chunk,
                    rows: job.rows.clone(),
                    chunk_rows: shape.rows,
                });
            }
            if job.plan.dim() != dim || job.plan.out() != out {
                return Err(BatchError::Mixed { chunk: job.chunk, dim: job.plan.dim(), out: job.plan.out() });
            }
            if job.dst_row != next_row {
                return Err(BatchError::NotTiled { row: next_row, rows });
            }
            next_row += u64::from(job.rows.end - job.rows.start);
        }
        if next_row != rows {
            return Err(BatchError::NotTiled { row: next_row, rows });
        }
        Ok(Batch { jobs, rows, dim, out })
    }

    /// The jobs, by ascending destination.
    pub fn jobs(&self) -> &[Job<'p>] {
        &self.jobs
    }

    /// Rows of the destination.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Values per row.
    pub fn dim(&self) -> u32 {
        self.dim
    }

    /// The dtype of the destination.
    pub fn out(&self) -> DType {
        self.out
    }

    /// Bytes of the destination, if they can be counted in a u64.
    pub fn out_len(&self) -> Option<u64> {
        let size = u64::try_from(self.out.size()).ok()?;
        self.rows.checked_mul(u64::from(self.dim))?.checked_mul(size)
    }
}

/// Jobs that do not fit together. The facade never makes such a list; a caller of a backend might.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// Rows beyond the chunk.
    #[error("{chunk}: rows {rows:?} are not within its {chunk_rows} rows")]
    RowsOutside {
        /// The chunk.
        chunk: ChunkId,
        /// Rows wanted.
        rows: Range<u32>,
        /// Rows it has.
        chunk_rows: u32,
    },
    /// A plan that makes something else than the destination holds.
    #[error("{chunk} decodes to rows of {dim} {out} values, unlike the destination")]
    Mixed {
        /// The chunk.
        chunk: ChunkId,
        /// Values per row.
        dim: u32,
        /// Their dtype.
        out: DType,
    },
    /// A row of the destination that no job writes, or two do.
    #[error("the jobs do not write row {row} of the {rows} destination rows exactly once")]
    NotTiled {
        /// The first such row.
        row: u64,
        /// Rows of the destination.
        rows: u64,
    },
    /// A row to be searched that does not come after those before it.
    #[error("{chunk}: row {row} does not come after the rows before it")]
    Disorder {
        /// The chunk.
        chunk: ChunkId,
        /// Its number in the array.
        row: u64,
    },
}
