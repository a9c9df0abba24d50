//! From a batch to units of work: what one slot holds at a time.
//!
//! ```text
//! for job in batch { for block of its rows { read it; decode the rows wanted } }
//! ```
//!
//! 1. Every chunk is divided into runs of whole blocks, and jobs are cut where runs end.
//! 2. The spans are sorted by place in the file. Those of one run that touch the same blocks, or blocks side by side, are
//!    read together: a block is read once, however many of its rows are wanted, in whatever order.
//! 3. Runs are packed into units until a unit holds [`UNIT_LEN`] bytes.
//! 4. An op that needs its whole payload (`dict_planes`) is a unit for each chunk.

use std::ops::Range;

use cvc_codec::{Batch, ChunkId, DecodePlan, Load};

use crate::launch::{MAX_VALUES, Piece};

/// Bytes of a unit, about. A copy of so many takes some 150 microseconds over PCIe 5, many times what putting it on a stream
/// takes; and two slots of it for each worker are memory that nobody misses. Not measured on hardware.
const UNIT_LEN: u64 = 4 << 20;

/// Bytes of a run, about: what is read in one call, and what kernels leave to each other.
const RUN_LEN: u64 = 1 << 20;

/// Some consecutive rows of one job that are in one run.
#[derive(Clone, Debug)]
pub(crate) struct Span<'p> {
    pub(crate) chunk: ChunkId,
    pub(crate) plan: &'p DecodePlan,
    /// Which run of the chunk.
    run: u32,
    /// Counted from the start of the chunk; at least one.
    pub(crate) rows: Range<u32>,
    pub(crate) dst_row: u64,
}

/// Blocks side by side, each of which holds rows of some of the spans.
#[derive(Debug)]
pub(crate) struct Run<'p> {
    pub(crate) blocks: Range<u32>,
    /// Of one plan; at least one.
    pub(crate) spans: Vec<Span<'p>>,
}

/// What one worker takes at a time.
#[derive(Debug)]
pub(crate) enum Unit<'p> {
    /// Runs that fit into a slot together.
    Runs(Vec<Run<'p>>),
    /// All spans of a chunk whose payload is needed as a whole.
    Whole(Vec<Span<'p>>),
}

impl<'p> Unit<'p> {
    /// Every span of it.
    pub(crate) fn spans(&self) -> Vec<&Span<'p>> {
        match self {
            Unit::Runs(runs) => runs.iter().flat_map(|run| &run.spans).collect(),
            Unit::Whole(spans) => spans.iter().collect(),
        }
    }

    /// The lowest destination row.
    pub(crate) fn first_row(&self) -> u64 {
        self.spans().iter().map(|span| span.dst_row).min().expect("a unit has spans")
    }

    /// The chunks, for people: `chunk 3` or `chunks 3 to 7`.
    pub(crate) fn chunks(&self) -> String {
        let chunks = self.spans().into_iter().map(|span| span.chunk);
        let (first, last) = chunks.fold((ChunkId(u32::MAX), ChunkId(0)), |(first, last), chunk| {
            (first.min(chunk), last.max(chunk))
        });
        if first == last { first.to_string() } else { format!("chunks {} to {}", first.0, last.0) }
    }
}

/// A run that is all of a chunk, however long that is.
#[cfg(feature = "_bench")]
pub(crate) fn whole_chunk(plan: &DecodePlan, chunk: ChunkId) -> Run<'_> {
    let rows = 0..plan.shape().rows;
    let span = Span { chunk, plan, run: 0, rows, dst_row: 0 };
    Run { blocks: 0..plan.parts().block_count(), spans: vec![span] }
}

/// Bytes of a row in all sources.
pub(crate) fn row_len(plan: &DecodePlan) -> u64 {
    plan.widths().iter().map(|width| u64::from(*width)).sum()
}

/// Bytes of what the kernels of a plan leave to each other of a row: two for each value of rotated rows.
pub(crate) fn turned_row_len(plan: &DecodePlan) -> u64 {
    match plan.load() {
        Load::Rotated { .. } => 2 * u64::from(plan.shape().dim),
        _ => 0,
    }
}

/// The units of a batch.
pub(crate) fn units<'p>(batch: &Batch<'p>) -> Vec<Unit<'p>> {
    let mut spans = cut(batch);
    // A chunk that has two plans is read for each of them, so those of one must be side by side.
    spans.sort_unstable_by_key(|span| {
        (span.chunk, core::ptr::from_ref(span.plan), span.rows.start, span.dst_row)
    });
    let (mut units, mut runs, mut len) = (Vec::new(), Vec::new(), 0);
    for run in join(spans) {
        let plan = run.spans[0].plan;
        if matches!(plan.load(), Load::DictPlanes) {
            units.push(Unit::Whole(run.spans));
            continue;
        }
        let rows = plan.parts().rows_of(run.blocks.clone());
        let turned: u64 =
            run.spans.iter().map(|span| span.rows.len() as u64).sum::<u64>() * turned_row_len(plan);
        let run_len = rows.len() as u64 * row_len(plan) + turned + (run.spans.len() * Piece::LEN) as u64;
        if len + run_len > UNIT_LEN && !runs.is_empty() {
            units.push(Unit::Runs(core::mem::take(&mut runs)));
            len = 0;
        }
        len += run_len;
        runs.push(run);
    }
    if !runs.is_empty() {
        units.push(Unit::Runs(runs));
    }
    units
}

/// Cuts the jobs of a batch where runs end, and where a piece would have too many values for kernels.
fn cut<'p>(batch: &Batch<'p>) -> Vec<Span<'p>> {
    let mut spans = Vec::with_capacity(batch.jobs().len());
    if batch.dim() == 0 {
        return spans;
    }
    for job in batch.jobs() {
        let run_rows = rows_of_run(job.plan);
        let row_len = u64::from(job.plan.shape().dim) * job.plan.out().size() as u64;
        let most_rows = u32::try_from(u64::from(MAX_VALUES) / row_len.max(1)).expect("less than 2^31").max(1);
        let mut start = job.rows.start;
        while start < job.rows.end {
            let run = start / run_rows;
            let end = (run * run_rows).saturating_add(run_rows).min(job.rows.end);
            let end = end.min(start.saturating_add(most_rows));
            let dst_row = job.dst_row + u64::from(start - job.rows.start);
            spans.push(Span { chunk: job.chunk, plan: job.plan, run, rows: start..end, dst_row });
            start = end;
        }
    }
    spans
}

/// Rows of every run of a chunk but the last: whole blocks.
fn rows_of_run(plan: &DecodePlan) -> u32 {
    let block_rows = plan.parts().block_rows();
    if matches!(plan.load(), Load::DictPlanes) {
        return block_rows;
    }
    let row_len = row_len(plan) + turned_row_len(plan);
    let rows = u32::try_from(RUN_LEN / row_len.max(1)).expect("no more than RUN_LEN");
    (rows / block_rows).max(1) * block_rows
}

/// Joins sorted spans to runs.
fn join(spans: Vec<Span<'_>>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for span in spans {
        let blocks = span.plan.parts().blocks_of(span.rows.clone());
        if let Some(run) = runs.last_mut()
            && let Some(first) = run.spans.first()
            && first.chunk == span.chunk
            && core::ptr::eq(first.plan, span.plan)
            && first.run == span.run
            && blocks.start <= run.blocks.end
        {
            run.blocks.end = run.blocks.end.max(blocks.end);
            run.spans.push(span);
        } else {
            runs.push(Run { blocks, spans: vec![span] });
        }
    }
    runs
}
