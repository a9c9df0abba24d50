//! From a batch to stages: rows that are consecutive in the destination and of one op, as many as fit.
//!
//! ```text
//! for job in batch { one stage }
//! ```
//!
//! 1. Stages follow the destination, so the part that a stage writes is one range, which is bound at its own offset: no binding
//!    and no dispatch is longer than the device allows, however long the destination is.
//! 2. Jobs are cut between rows where a stage is full; many small jobs share one. So a batch of ten thousand chunks of a few rows
//!    is a few dispatches.
//! 3. Within a stage, rows are read in the order of the file: a block is read once for all of its rows in the stage.

use std::ops::Range;

use cvc_codec::{Batch, ChunkId, DecodePlan};

use crate::ops;
use crate::pipelines::Form;
use crate::shaders::frame;

/// How much fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes of a slot, which a single row may exceed.
    pub(crate) slot_len: u64,
    /// Bytes of the destination that a stage writes, which a single row may exceed.
    pub(crate) out_len: u64,
}

/// Consecutive rows of one chunk, at least one, which are consecutive in the destination, too.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'p> {
    pub(crate) chunk: ChunkId,
    pub(crate) plan: &'p DecodePlan,
    /// Counted from the start of the chunk.
    pub(crate) rows: Range<u32>,
}

/// What one dispatch decodes.
#[derive(Debug)]
pub(crate) struct Stage<'p> {
    pub(crate) form: Form,
    /// In the order of the destination; at least one.
    pub(crate) pieces: Vec<Piece<'p>>,
    /// The first row of the destination.
    pub(crate) dst_row: u64,
    pub(crate) rows: u64,
    /// The most bytes that it needs in a slot.
    pub(crate) len: u64,
}

/// Bytes of a stage without pieces.
pub(crate) const HEADER_LEN: u64 = 4 * frame::HEADER_WORDS as u64;

/// Cuts a batch.
pub(crate) fn cut<'p>(batch: &Batch<'p>, room: Room) -> Vec<Stage<'p>> {
    let row_len = u64::from(batch.dim()) * batch.out().size() as u64;
    let mut stages: Vec<Stage<'p>> = Vec::new();
    if row_len == 0 {
        return stages;
    }
    let most_rows = (room.out_len / row_len).max(1);
    for job in batch.jobs() {
        let form = ops::form(job.plan);
        let (fixed, per_row) = ops::need(job.plan);
        let mut rows = job.rows.clone();
        while !rows.is_empty() {
            let dst_row = job.dst_row + u64::from(rows.start - job.rows.start);
            let fitting = |stage: &Stage<'p>| {
                let left = room.slot_len.saturating_sub(stage.len + fixed);
                (left / per_row.max(1)).min(most_rows.saturating_sub(stage.rows))
            };
            let is_open = stages.last().is_some_and(|stage| stage.form == form && fitting(stage) > 0);
            if !is_open {
                stages.push(Stage { form, pieces: Vec::new(), dst_row, rows: 0, len: HEADER_LEN });
            }
            let stage = stages.last_mut().expect("one was pushed if there was none");
            // An empty stage takes one row, however long it is.
            let count = u32::try_from(fitting(stage).max(1)).unwrap_or(u32::MAX);
            let count = count.min(rows.end - rows.start);
            let piece_rows = rows.start..rows.start + count;
            stage.pieces.push(Piece { chunk: job.chunk, plan: job.plan, rows: piece_rows });
            stage.rows += u64::from(count);
            stage.len += fixed + u64::from(count) * per_row;
            rows.start += count;
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cvc_codec::{ChunkShape, DType, Job, Load, Parts, Stream};

    use super::*;

    fn plan(load: Load, rows: u32, dim: u32) -> DecodePlan {
        let width = u32::try_from(load.source_widths(dim).unwrap()[0]).unwrap();
        let parts = Arc::new(Parts::packed(rows, width));
        DecodePlan::new(ChunkShape { rows, dim }, load, Stream::Stored, DType::F32, &parts).unwrap()
    }

    /// The rows of each piece of each stage.
    fn of(plans: &[&DecodePlan], room: Room) -> Vec<Vec<Range<u32>>> {
        let mut dst_row = 0;
        let mut jobs = Vec::new();
        for (chunk, plan) in (0..).zip(plans) {
            let rows = 0..plan.shape().rows;
            jobs.push(Job { plan, chunk: ChunkId(chunk), rows: rows.clone(), dst_row });
            dst_row += u64::from(rows.end);
        }
        let batch = Batch::new(jobs, dst_row, plans[0].dim(), DType::F32).unwrap();
        let stages = cut(&batch, room);
        let mut next = 0;
        for stage in &stages {
            assert_eq!(stage.dst_row, next);
            assert!(stage.rows == 1 || stage.len <= room.slot_len && stage.rows * 64 <= room.out_len);
            next += stage.rows;
        }
        assert_eq!(next, dst_row);
        stages.into_iter().map(|stage| stage.pieces.into_iter().map(|piece| piece.rows).collect()).collect()
    }

    #[test]
    fn stages_end_where_a_slot_or_a_binding_does_and_where_the_op_changes() {
        let (wide, halves) = (plan(Load::Copy(DType::F32), 10, 16), plan(Load::WidenF16, 3, 16));
        let large = Room { slot_len: 1 << 20, out_len: 1 << 20 };
        assert_eq!(of(&[&wide, &wide], large), [[0..10, 0..10]]);
        assert_eq!(
            of(&[&wide, &halves, &halves, &wide], large),
            [vec![0..10], vec![0..3, 0..3], vec![0..10]]
        );
        let slot_of_three = HEADER_LEN + ops::need(&wide).0 + 3 * 64;
        let small = Room { slot_len: slot_of_three, ..large };
        assert_eq!(of(&[&wide], small), [[0..3], [3..6], [6..9], [9..10]]);
        let binding_of_four = Room { out_len: 4 * 64, ..large };
        assert_eq!(
            of(&[&wide, &wide], binding_of_four),
            [vec![0..4], vec![4..8], vec![8..10, 0..2], vec![2..6], vec![6..10]]
        );
        // A row that fits nowhere has a stage of its own.
        let none = Room { slot_len: 1, out_len: 1 };
        assert_eq!(of(&[&halves], none), [[0..1], [1..2], [2..3]]);
    }
}
