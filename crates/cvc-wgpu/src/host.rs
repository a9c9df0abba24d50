//! The host's part of a stage: it reads blocks, inflates lanes, and packs what the shader needs of them.

use cvc_codec::ops::DictPlanes;
use cvc_codec::{
    Backend as _, Batch, BlockRun, DecodeError, DecodePlan, HostBuffer, Inflater, Job, Load, Payloads,
    ReferenceBackend, RunBytes, Sources,
};

use crate::ops::Packer;
use crate::shaders::frame;
use crate::stages::{Piece, Place, RUN_LEN, Stage, word};

/// Bytes of runs that are prepared side by side, unless one run is longer, and how many these are at most. A stage of single
/// rows can need as many blocks, or whole payloads, as it has rows.
const GATHERED_LEN: usize = 16 << 20;
const GATHERED_RUNS: usize = 64;

/// What the host keeps from stage to stage.
#[derive(Default)]
pub(crate) struct Host {
    scratches: Vec<Scratch>,
}

impl Host {
    /// Reads what the pieces of a stage need and puts it into the mapped memory of a slot; says how much of that is used.
    pub(crate) fn pack(
        &mut self,
        stage: &Stage<'_>,
        place: &Place,
        view: wgpu::BufferViewMut,
        src: &dyn Payloads,
    ) -> Result<u64, DecodeError> {
        let mut packer = Packer::new(view, &stage.pieces);
        let mut order: Vec<(usize, u32)> = Vec::with_capacity(stage.pieces.len());
        let mut units_before = 0;
        for (index, piece) in stage.pieces.iter().enumerate() {
            order.push((index, units_before));
            units_before += place.row_units * (piece.rows.end - piece.rows.start);
        }
        // As they lie in the file. A chunk that has two plans is read for each of them.
        let by_place = |(index, _): &(usize, u32)| {
            let piece = &stage.pieces[*index];
            (piece.chunk, std::ptr::from_ref(piece.plan), piece.rows.start)
        };
        order.sort_unstable_by_key(by_place);
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            // As many runs as the host prepares side by side.
            let mut runs = Vec::new();
            let mut len = 0;
            while !rest.is_empty() && (runs.is_empty() || len < GATHERED_LEN && runs.len() < GATHERED_RUNS) {
                let (run, after) = first_run(stage, rest);
                len += run.blocks.byte_len();
                runs.push(run);
                rest = after;
            }
            if self.scratches.len() < runs.len() {
                self.scratches.resize_with(runs.len(), Scratch::default);
            }
            let loaded = load_all(&runs, &mut self.scratches, src);
            for (run, loaded) in runs.iter().zip(loaded) {
                let loaded = loaded?;
                for (index, units_before) in run.pieces {
                    let piece = &stage.pieces[*index];
                    match &loaded {
                        Loaded::Rows(sources) => packer
                            .piece(*index, *units_before, piece, sources)
                            .map_err(|error| DecodeError::Payload { chunk: piece.chunk, error })?,
                        Loaded::Planes(planes) => packer.dict_piece(*index, *units_before, piece, planes),
                    }
                }
            }
        }
        let mut header = [0; frame::HEADER_WORDS];
        header[frame::ZERO] = 0;
        header[frame::FIRST_QUAD] = place.first_quad;
        header[frame::QUADS] = place.quads;
        header[frame::SKIPPED] = place.skipped;
        header[frame::UNITS] = place.units;
        header[frame::ROW_UNITS] = place.row_units;
        header[frame::PIECES] = word(stage.pieces.len() as u64);
        header[frame::PIECE_LIST] = word(frame::HEADER_WORDS as u64);
        Ok(packer.finish(header))
    }
}

/// Pieces of a stage that are read together.
struct PieceRun<'r, 'p> {
    plan: &'p DecodePlan,
    blocks: BlockRun<'p>,
    /// Of each, its place in the stage and the units before it.
    pieces: &'r [(usize, u32)],
}

/// Takes the first pieces in the order of the file whose blocks overlap or are side by side, as long as they are not too
/// many; and what is left.
fn first_run<'r, 'p>(stage: &Stage<'p>, order: &'r [(usize, u32)]) -> (PieceRun<'r, 'p>, &'r [(usize, u32)]) {
    let piece = |place: &(usize, u32)| &stage.pieces[place.0];
    let first = piece(&order[0]);
    let plan = first.plan;
    let whole = matches!(plan.load(), Load::DictPlanes);
    let parts = plan.parts();
    let mut blocks = if whole { 0..1 } else { parts.blocks_of(first.rows.clone()) };
    let joins = |next: &&(usize, u32)| {
        let next = piece(next);
        if next.chunk != first.chunk || !std::ptr::eq(next.plan, plan) {
            return false;
        }
        if whole {
            return true;
        }
        let of_next = parts.blocks_of(next.rows.clone());
        let end = blocks.end.max(of_next.end);
        let joins = of_next.start < blocks.end
            || of_next.start == blocks.end && parts.len_of(blocks.start..end) <= RUN_LEN;
        if joins {
            blocks.end = end;
        }
        joins
    };
    let count = 1 + order[1..].iter().take_while(joins).count();
    let (pieces, after) = order.split_at(count);
    (PieceRun { plan, blocks: BlockRun { chunk: first.chunk, parts, blocks }, pieces }, after)
}

/// What shaders are to be told of a run.
enum Loaded<'s> {
    /// Rows of bytes.
    Rows(Sources<'s>),
    /// A payload that has been taken apart.
    Planes(Box<DictPlanes<'s>>),
}

/// What the host reads and inflates a run into.
#[derive(Default)]
struct Scratch {
    encoded: Vec<u8>,
    inflated: Vec<u8>,
    inflater: Inflater,
}

impl Scratch {
    fn load(&mut self, src: &dyn Payloads, run: &PieceRun<'_, '_>) -> Result<Loaded<'_>, DecodeError> {
        let PieceRun { plan, blocks, .. } = run;
        let blame = |error| DecodeError::Payload { chunk: blocks.chunk, error };
        let len = blocks.byte_len();
        if self.encoded.len() < len {
            self.encoded.resize(len, 0);
        }
        let encoded = &mut self.encoded[..len];
        src.read(blocks, encoded).map_err(|error| DecodeError::Source { chunk: blocks.chunk, error })?;
        if matches!(plan.load(), Load::DictPlanes) {
            let planes = DictPlanes::parse(encoded, plan.shape().values()).map_err(blame)?;
            return Ok(Loaded::Planes(Box::new(planes)));
        }
        let bytes = RunBytes::Ranges(encoded);
        let sources = Sources::new(plan, blocks, bytes, &mut self.inflater, &mut self.inflated);
        Ok(Loaded::Rows(sources.map_err(blame)?))
    }
}

/// Loads each run into a scratch of its own, on all cores.
#[cfg(feature = "rayon")]
fn load_all<'s>(
    runs: &[PieceRun<'_, '_>],
    scratches: &'s mut [Scratch],
    src: &dyn Payloads,
) -> Vec<Result<Loaded<'s>, DecodeError>> {
    use rayon::iter::{
        IndexedParallelIterator, IntoParallelRefIterator, IntoParallelRefMutIterator, ParallelIterator,
    };

    match runs.len() {
        // Not worth waking anybody.
        1 => vec![scratches[0].load(src, &runs[0])],
        _ => runs
            .par_iter()
            .zip(scratches.par_iter_mut())
            .map(|(run, scratch)| scratch.load(src, run))
            .collect(),
    }
}

/// Loads each run into a scratch of its own.
#[cfg(not(feature = "rayon"))]
fn load_all<'s>(
    runs: &[PieceRun<'_, '_>],
    scratches: &'s mut [Scratch],
    src: &dyn Payloads,
) -> Vec<Result<Loaded<'s>, DecodeError>> {
    runs.iter().zip(scratches).map(|(run, scratch)| scratch.load(src, run)).collect()
}

/// The failure of the lowest destination row among pieces in that order, found by the reference.
pub(crate) fn first_error<'s, 'p: 's>(
    pieces: impl IntoIterator<Item = &'s Piece<'p>>,
    src: &dyn Payloads,
) -> Option<DecodeError> {
    /// Bytes that are decoded at a time. Payloads without rows are taken apart anew each time.
    const LEN: u64 = 1 << 20;
    const WHOLE_LEN: u64 = 64 << 20;
    let judge = ReferenceBackend::default();
    let mut memory: Vec<u128> = Vec::new();
    for Piece { chunk, plan, rows } in pieces {
        let row_len = u64::from(plan.dim()) * plan.out().size() as u64;
        let most = if matches!(plan.load(), Load::DictPlanes) { WHOLE_LEN } else { LEN };
        let step = u32::try_from((most / row_len).max(1)).unwrap_or(u32::MAX);
        let mut start = rows.start;
        while start < rows.end {
            let part = start..rows.end.min(start.saturating_add(step));
            start = part.end;
            let count = u64::from(part.end - part.start);
            // A few megabytes, or one row, which a binding can hold.
            let len = usize::try_from(count * row_len).expect("in memory");
            memory.resize(len.div_ceil(size_of::<u128>()), 0);
            let job = Job { plan, chunk: *chunk, rows: part, dst_row: 0 };
            let batch = Batch::new(vec![job], count, plan.dim(), plan.out()).expect("rows of a batch");
            let bytes = &mut bytemuck::cast_slice_mut(&mut memory)[..len];
            let mut dst = HostBuffer::from_bytes(plan.out(), bytes).expect("aligned for anything");
            if let Err(error) = judge.decode(&batch, src, &mut dst) {
                return Some(error);
            }
        }
    }
    None
}
