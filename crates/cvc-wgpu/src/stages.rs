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
//! 3. Pieces end where runs of blocks do, so that threads can share the host's part of a stage.
//! 4. Within a stage, rows are read in the order of the file: a block is read once for all of its rows in the stage.

use std::ops::Range;

use cvc_codec::{Batch, ChunkId, DecodePlan, Load};

use crate::buffer::QUAD;
use crate::ops;
use crate::pipelines::Form;
use crate::shaders::frame;

/// Bytes of blocks that are read together, unless one block is longer: enough to be worth a thread's time.
pub(crate) const RUN_LEN: u64 = 1 << 20;

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

impl Stage<'_> {
    /// Where it goes in the destination, of which a binding must begin at a multiple of `alignment`.
    pub(crate) fn place(&self, alignment: u64) -> Place {
        let plan = self.pieces[0].plan;
        let row_len = u64::from(plan.dim()) * plan.out().size() as u64;
        let bytes = self.dst_row * row_len..(self.dst_row + self.rows) * row_len;
        let offset = bytes.start - bytes.start % alignment;
        let first_quad = bytes.start / QUAD * QUAD;
        let end = bytes.end.next_multiple_of(QUAD);
        Place {
            offset,
            len: end - offset,
            first_quad: word((first_quad - offset) / QUAD),
            quads: word((end - first_quad) / QUAD),
            skipped: word((bytes.start - first_quad) / ops::unit_len(plan)),
            units: word((bytes.end - bytes.start) / ops::unit_len(plan)),
            row_units: word(row_len / ops::unit_len(plan)),
        }
    }
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
            let count = count.min(rows.end - rows.start).min(rows_left_of_run(job.plan, rows.start));
            let piece_rows = rows.start..rows.start + count;
            stage.pieces.push(Piece { chunk: job.chunk, plan: job.plan, rows: piece_rows });
            stage.rows += u64::from(count);
            stage.len += fixed + u64::from(count) * per_row;
            rows.start += count;
        }
    }
    stages
}

/// From this row on, the rows of the run of whole blocks that it is in. A payload without rows is one run.
fn rows_left_of_run(plan: &DecodePlan, row: u32) -> u32 {
    if matches!(plan.load(), Load::DictPlanes) {
        return u32::MAX;
    }
    let row_len: u64 = plan.widths().iter().map(|width| u64::from(*width)).sum();
    let block_rows = u64::from(plan.parts().block_rows());
    let run_rows = (RUN_LEN / row_len.max(1) / block_rows).max(1) * block_rows;
    let left = run_rows - u64::from(row) % run_rows;
    u32::try_from(left).unwrap_or(u32::MAX)
}

/// Where a stage goes in the destination, in the words of the frame.
pub(crate) struct Place {
    /// Where the binding begins, and how long it is.
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) first_quad: u32,
    pub(crate) quads: u32,
    pub(crate) skipped: u32,
    pub(crate) units: u32,
    pub(crate) row_units: u32,
}

impl Place {
    /// A grid of workgroups that has an invocation for every quad.
    pub(crate) fn workgroups(&self, invocations: u32, most: u32) -> (u32, u32) {
        workgroups(self.quads.div_ceil(invocations), most)
    }
}

/// So many workgroups, in two dimensions, as one has a limit.
pub(crate) fn workgroups(groups: u32, most: u32) -> (u32, u32) {
    let x = groups.min(most);
    (x, groups.div_ceil(x))
}

/// A count of what is in one binding.
pub(crate) fn word(count: u64) -> u32 {
    u32::try_from(count).expect("a binding is at most 256 MiB")
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
        // Long pieces are cut where a thread has enough to do.
        let long = plan(Load::Copy(DType::F32), 40_000, 16);
        assert_eq!(
            of(&[&long], Room { slot_len: 8 << 20, out_len: 8 << 20 }),
            [[0..16_384, 16_384..32_768, 32_768..40_000]]
        );
        // A row that fits nowhere has a stage of its own.
        let none = Room { slot_len: 1, out_len: 1 };
        assert_eq!(of(&[&halves], none), [[0..1], [1..2], [2..3]]);
    }
}
