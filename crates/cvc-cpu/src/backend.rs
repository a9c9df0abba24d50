//! The pipeline: from a batch to values in the caller's memory, on every core.
//!
//! ```text
//! for job in batch { for block of its rows { read it; inflate its lanes; decode the rows wanted } }
//! ```
//!
//! 1. Every chunk is divided into runs of whole blocks: small enough to be decoded while they are in the cache, and big
//!    enough that taking one costs nothing. Jobs are cut where runs end. Each piece owns its part of the destination
//!    (`split_at_mut`), so runs can be decoded in any order on any core, and all of this is safe code.
//! 2. The pieces are sorted by place in the file. Those of one run that touch the same blocks, or blocks side by side,
//!    are decoded together. So a block is read, checked and inflated once, however many rows of it are wanted, in
//!    whatever order; and blocks of which nothing is wanted are left alone.
//! 3. A run borrows its encoded bytes where they are in memory. Otherwise it reads them into a scratch that its thread
//!    keeps, as it keeps what lanes are inflated into: there is never more than a run's worth of either per thread.
//! 4. An op that treats the values of all rows alike is called once for all rows of a piece, the others row by row.
//! 5. An op that needs its whole payload (`dict_planes`) gets it once for all of the batch's jobs on that chunk. Large
//!    payloads are taken one after another, and their pieces are spread over the cores.
//! 6. Of several failures the one of the lowest destination row is reported, whatever the timing. A run that fails is
//!    done again in the order of the loop above, which finds that row.
//! 7. Results larger than the caches are written past them ([`ops::stores`]), if their memory was touched before. A run
//!    that does so fences before it is done.

use std::cell::Cell;
use std::ops::Range;

use bytemuck::cast_slice_mut;
use cvc_codec::ops::{DictPlanes, PayloadError};
use cvc_codec::{
    Affine, Backend, Batch, BlockRun, ChunkId, DType, DecodeError, DecodePlan, DeviceBuffer, DeviceInfo,
    DeviceKind, FirstError, HostBuffer, Inflater, Load, Payloads, RunBytes, SourceError, Sources,
    Unsupported,
};

use crate::level::Level;
use crate::ops;
use crate::ops::affine_u8::row_parameters;
use crate::ops::affine_u8_halves::{self, Halves, Parameters, affine_u8_halves};
use crate::ops::stores::{Ordinary, Stores, Storing, fenced};

/// Bytes that the ops of a run read, about: encoded ones, and what lanes are inflated to. With what they decode to (half
/// a megabyte at most) they stay in the L2 cache of one core between reading and decoding, and taking the next run
/// costs little beside them.
///
/// Measured on an AMD EPYC (Zen 5 class, 1 MiB of L2 per core), 2 cores, November 2026, 25.6 million values
/// into touched memory, payloads read, two threads, GB/s of f32 (best of 12, the machine not idle):
/// 4 KiB: 20 for `widen_f16` and 25 for `affine_u8`; 32 KiB: 30, 32; 128 KiB: 39, 50; 256 KiB: 42, 47;
/// 1 MiB: 29, 32; 8 MiB: 23, 25.
const RUN_LEN: usize = 128 << 10;

/// Values that are narrowed at a time: 16 KiB of f32, which stay in the L1 cache.
const TILE: usize = 4096;

/// The same for rows that are rotated: of rows of 768 values a few times as many as are decoded at a time.
const ROTATED_TILE: usize = 1 << 15;

/// Bytes of a batch from which on it is streamed into [resident](HostBuffer::is_resident) memory: about one and a half
/// times the L3 cache. Below it ordinary stores come to rest there, and whoever reads the result next finds it.
///
/// Measured as [`RUN_LEN`], 32 MiB of L3, two threads, windows of a large array one after another into the same buffer, GB/s
/// of f32 with ordinary stores and with streaming ones (`rates_by_size` in `tests/rates.rs`):
/// `widen_f16` 8 MiB 60, 31; 16 MiB 50, 33; 24 MiB 33, 32; 32 MiB 30, 32; 48 MiB 26, 31; 128 MiB 26, 33;
/// `affine_u8` 8 MiB 101, 36; 16 MiB 84, 36; 24 MiB 49, 35; 32 MiB 39, 35; 48 MiB 31, 35; 128 MiB 29, 36.
///
/// Into fresh pages streaming was 10 to 15 percent slower, into fresh huge pages as fast (one thread, a scratch program).
const STREAMED_LEN: u64 = 48 << 20;

/// Bytes that every call of an op must write for its run to be streamed: what is not a whole line at both ends of a call
/// goes through the caches. `affine_u8` of rows, one thread, ordinary and streaming: 400 bytes 25 and 17, 768 bytes 28 and
/// 30, 1,024 bytes 28 and 36 (scratch programs, as [`crate::ops`]).
const STREAMED_CALL_LEN: usize = 1 << 10;

/// Bytes that a run must write to be streamed: waiting for the stores at its end takes as long as streaming some 4 KiB.
const STREAMED_RUN_LEN: usize = 64 << 10;

/// Decodes on the processor, into the caller's own memory.
#[derive(Clone, Debug)]
pub struct CpuBackend {
    level: Level,
    /// How to write whatever the destination is, if not as it is best.
    stores: Option<Stores>,
    device: DeviceInfo,
}

impl CpuBackend {
    /// A backend that uses the best instructions of this processor.
    pub fn new() -> Self {
        CpuBackend::with_level(Level::best())
    }

    /// A backend that uses these instructions, for tests and measurements.
    pub fn with_level(level: Level) -> Self {
        let name = match thread_count() {
            1 => format!("cpu ({level}, 1 thread)"),
            threads => format!("cpu ({level}, {threads} threads)"),
        };
        CpuBackend { level, stores: None, device: DeviceInfo::new(DeviceKind::Cpu, name) }
    }

    /// The same, and writes like this whatever the destination is.
    pub fn with_stores(level: Level, stores: Stores) -> Self {
        CpuBackend { stores: Some(stores), ..CpuBackend::with_level(level) }
    }

    /// The instructions that are used.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Default for CpuBackend {
    fn default() -> Self {
        CpuBackend::new()
    }
}

impl Backend for CpuBackend {
    type Buffer<'a> = HostBuffer<'a>;

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        match plan.load() {
            Load::Copy(_)
            | Load::WidenF16
            | Load::WidenBf16
            | Load::AffineU8(Affine::Chunk { .. } | Affine::Dim { .. } | Affine::Row)
            | Load::LutU8(_)
            | Load::Rotated { .. }
            | Load::JoinPlanes { .. }
            | Load::DictPlanes => Ok(()),
        }
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: &mut HostBuffer<'_>,
    ) -> Result<(), DecodeError> {
        DecodeError::check_buffer(batch, dst)?;
        let streaming = dst.is_resident() && dst.byte_len() >= STREAMED_LEN;
        let stores = self.stores.unwrap_or(if streaming { Stores::Streaming } else { Stores::Ordinary });
        let mut pieces = cut(batch, dst.bytes_mut());
        sort(&mut pieces);
        let (tasks, large) = group(&mut pieces);
        let first_error = FirstError::default();
        for_each(tasks, |task| match task {
            Task::Run(run) => self.decode_run(run, stores, src, &first_error),
            Task::Whole(pieces) => self.decode_whole(pieces, src, &first_error),
        });
        large.into_iter().for_each(|pieces| self.decode_whole(pieces, src, &first_error));
        first_error.into_result()
    }
}

impl CpuBackend {
    /// Decodes a run whose bytes can be found without the rest of the chunk.
    fn decode_run(
        &self,
        mut run: Run<'_, '_, '_>,
        stores: Stores,
        src: &dyn Payloads,
        first_error: &FirstError,
    ) {
        if first_error.is_before(lowest(run.pieces)) {
            return;
        }
        Kept::lend(|kept| {
            if self.try_run(&mut run, stores, src, kept).is_err()
                && let Err((row, error)) = self.retrace(run.pieces, src, kept)
            {
                first_error.note(row, error);
            }
        });
    }

    /// Decodes a run, or fails because of any of its blocks and rows.
    fn try_run(
        &self,
        run: &mut Run<'_, '_, '_>,
        stores: Stores,
        src: &dyn Payloads,
        kept: &mut Kept,
    ) -> Result<(), DecodeError> {
        let Piece { chunk, plan, .. } = run.pieces[0];
        let of_source = |error| DecodeError::Source { chunk, error };
        let of_payload = |error| DecodeError::Payload { chunk, error };
        let blocks = BlockRun { chunk, parts: plan.parts(), blocks: run.blocks.clone() };
        let bytes = run_bytes(&blocks, src, &mut kept.encoded).map_err(of_source)?;
        let sources = Sources::new(plan, &blocks, bytes, &mut kept.inflater, &mut kept.inflated);
        let sources = sources.map_err(of_payload)?;
        let (pieces, tiles) = (&mut *run.pieces, &mut kept.tiles);
        let stores = if self.stores.is_some() || streaming_pays(self.level, plan, pieces) {
            stores
        } else {
            Stores::Ordinary
        };
        match stores {
            Stores::Ordinary => self.decode_pieces(plan, &sources, pieces, Ordinary, tiles),
            Stores::Streaming => {
                fenced(self.level, |streaming| self.decode_pieces(plan, &sources, pieces, streaming, tiles))
            }
        }
        .map_err(of_payload)
    }

    /// Decodes the pieces of one run by ascending destination, block by block: slower, but the first failure is that of
    /// the lowest destination row, which is returned with it.
    fn retrace(
        &self,
        pieces: &mut [Piece<'_, '_>],
        src: &dyn Payloads,
        kept: &mut Kept,
    ) -> Result<(), (u64, DecodeError)> {
        pieces.sort_unstable_by_key(|piece| piece.dst_row);
        for piece in pieces {
            let parts = piece.plan.parts();
            let row_len = piece.out.len() / piece.rows.len();
            let mut rest = &mut *piece.out;
            let mut dst_row = piece.dst_row;
            for block in parts.blocks_of(piece.rows.clone()) {
                let of_block = parts.rows_of(block..block + 1);
                let rows = piece.rows.start.max(of_block.start)..piece.rows.end.min(of_block.end);
                let (out, after) = rest.split_at_mut(rows.len() * row_len);
                rest = after;
                let next_dst_row = dst_row + rows.len() as u64;
                let mut part = [Piece { rows, dst_row, out, ..*piece }];
                let mut run = Run { blocks: block..block + 1, pieces: &mut part };
                self.try_run(&mut run, Stores::Ordinary, src, kept).map_err(|error| (dst_row, error))?;
                dst_row = next_dst_row;
            }
        }
        Ok(())
    }

    /// Decodes all pieces of one chunk whose payload is needed as a whole.
    fn decode_whole(&self, pieces: &mut [Piece<'_, '_>], src: &dyn Payloads, first_error: &FirstError) {
        let first_row = lowest(pieces);
        if first_error.is_before(first_row) {
            return;
        }
        let Piece { chunk, plan, .. } = pieces[0];
        let of_payload = |error| DecodeError::Payload { chunk, error };
        let decode = |kept: &mut Kept| {
            let blocks = BlockRun { chunk, parts: plan.parts(), blocks: 0..1 };
            let bytes = run_bytes(&blocks, src, &mut kept.encoded);
            let (RunBytes::Chunk(bytes) | RunBytes::Ranges(bytes)) =
                bytes.map_err(|error| DecodeError::Source { chunk, error })?;
            let planes = DictPlanes::parse(bytes, plan.shape().values()).map_err(of_payload)?;
            for_each(pieces.iter_mut().collect(), |piece: &mut Piece<'_, '_>| {
                if first_error.is_before(piece.dst_row) {
                    return;
                }
                let first = u64::from(piece.rows.start) * u64::from(plan.dim());
                let len = piece.out.len() / plan.out().size();
                // Far from the limit of memory, so it has no streaming form.
                let load = |_: Range<u32>, values: Range<usize>, out: &mut [u8]| {
                    ops::dict_planes::dict_planes(&planes, first + values.start as u64, cast_slice_mut(out))
                };
                let decoded = Kept::lend(|kept| match plan.narrows() {
                    true => self.narrow(plan, len, piece.out, Ordinary, &mut kept.tiles.wide, load),
                    false => load(0..1, 0..len, piece.out),
                });
                if let Err(error) = decoded {
                    first_error.note(piece.dst_row, of_payload(error));
                }
            });
            Ok(())
        };
        if let Err(error) = Kept::lend(decode) {
            first_error.note(first_row, error);
        }
    }

    /// Decodes pieces of the run that these sources are of.
    fn decode_pieces<'d>(
        &self,
        plan: &DecodePlan,
        sources: &Sources<'_>,
        pieces: &'d mut [Piece<'_, '_>],
        stores: impl Storing<'d>,
        tiles: &mut Tiles,
    ) -> Result<(), PayloadError> {
        let Tiles { wide, rotated } = tiles;
        let dims = 0..plan.dim() as usize;
        for Piece { rows, out, .. } in pieces {
            if let Some(halves) = fused_halves(self.level, plan) {
                self.load_halves(plan, sources, rows.clone(), halves, stores, cast_slice_mut(out))?;
            } else if plan.narrows() {
                let load = |of_piece: Range<u32>, dims, tile: &mut [u8]| {
                    let rows = rows.start + of_piece.start..rows.start + of_piece.end;
                    self.load(plan, sources, rows, dims, Ordinary, rotated, tile)
                };
                self.narrow(plan, dims.len(), out, stores, wide, load)?;
            } else {
                self.load(plan, sources, rows.clone(), dims.clone(), stores, rotated, out)?;
            }
        }
        Ok(())
    }

    /// Loads some rows of codes as halves, without a tile.
    fn load_halves<'d>(
        &self,
        plan: &DecodePlan,
        sources: &Sources<'_>,
        rows: Range<u32>,
        halves: Halves,
        stores: impl Storing<'d>,
        out: &'d mut [u16],
    ) -> Result<(), PayloadError> {
        let source = |source: usize| sources.rows_of(source, rows.clone());
        let dim = plan.dim() as usize;
        let (of_chunk, of_rows);
        let (dim, parameters) = match plan.load() {
            // As one long row.
            Load::AffineU8(Affine::Chunk { scale, min }) => {
                of_chunk = [(*scale, *min)];
                (dim * rows.len(), Parameters::Rows(&of_chunk))
            }
            Load::AffineU8(Affine::Row) => {
                of_rows = row_parameters(rows.start, source(2), source(1)).collect::<Result<Vec<_>, _>>()?;
                (dim, Parameters::Rows(&of_rows))
            }
            Load::AffineU8(Affine::Dim { scale, min }) => (dim, Parameters::Dims(scale, min)),
            load => unreachable!("{load:?} is not fused"),
        };
        affine_u8_halves(self.level, stores, (source(0), dim), parameters, halves, out);
        Ok(())
    }

    /// Fills `out`, rows of `row_len` values, with what `load` makes of some values of some rows, narrowed from `tile`.
    fn narrow<'d>(
        &self,
        plan: &DecodePlan,
        row_len: usize,
        out: &'d mut [u8],
        stores: impl Storing<'d>,
        tile: &mut Vec<f32>,
        mut load: impl FnMut(Range<u32>, Range<usize>, &mut [u8]) -> Result<(), PayloadError>,
    ) -> Result<(), PayloadError> {
        let size = plan.out().size();
        let tile_len = match plan.load() {
            // Whole rows, and several at a time.
            Load::Rotated { .. } => row_len * (ROTATED_TILE / row_len).max(1),
            _ => TILE,
        };
        tile.resize(tile_len, 0.0);
        // As many rows at a time as fit, or one in parts.
        let tile_rows = (tile_len / row_len).max(1);
        let mut row = 0;
        for out in out.chunks_mut(tile_rows * row_len * size) {
            let rows = row..row + u32::try_from(out.len() / (row_len * size)).expect("rows of a chunk");
            row = rows.end;
            let mut start = 0;
            for out in out.chunks_mut(tile_len * size) {
                let wide = &mut tile[..out.len() / size];
                let dims = start..start + wide.len() / rows.len();
                start = dims.end;
                load(rows.clone(), dims, cast_slice_mut(wide))?;
                match plan.out() {
                    DType::F16 => ops::narrow::narrow_f16(self.level, stores, wide, cast_slice_mut(out)),
                    DType::Bf16 => ops::narrow::narrow_bf16(self.level, stores, wide, cast_slice_mut(out)),
                    other => unreachable!("nothing is narrowed to {other}"),
                }
            }
        }
        Ok(())
    }

    /// Loads the values of some rows at these dims into `out`. Streams only where all of it can be written as one long row.
    #[expect(clippy::too_many_arguments, reason = "what, where from, how, and where to")]
    pub(crate) fn load<'d>(
        &self,
        plan: &DecodePlan,
        sources: &Sources<'_>,
        rows: Range<u32>,
        dims: Range<usize>,
        stores: impl Storing<'d>,
        rotated: &mut ops::rotated::Scratch,
        out: &'d mut [u8],
    ) -> Result<(), PayloadError> {
        let source = |source: usize| sources.rows_of(source, rows.clone());
        let stride = plan.shape().dim as usize;
        match plan.load() {
            Load::AffineU8(Affine::Row) => {
                let (codes, parameters) = ((source(0), stride), (source(2), source(1)));
                let out = cast_slice_mut(out);
                ops::affine_u8::affine_u8_rows(self.level, stores, rows.start, codes, dims, parameters, out)?;
            }
            Load::AffineU8(Affine::Dim { scale, min }) => {
                let (codes, out) = ((source(0), stride), cast_slice_mut(out));
                ops::affine_u8::affine_u8_dims(self.level, stores, codes, dims, (scale, min), out);
            }
            Load::Rotated { codes, rotation, centre } => {
                let work = ops::rotated::Work { codes: *codes, rotation, centre };
                let (codes, out) = ((source(0), source(1)), cast_slice_mut(out));
                ops::rotated::rotated(self.level, work, rows.start, codes, dims, rotated, out)?;
            }
            _ if plan.rows_are_alike() && dims.len() == stride => {
                let values = 0..rows.len() * stride;
                self.load_values(plan, sources, rows, values, stores, out);
            }
            _ => {
                let row_len = out.len() / rows.len();
                for (row, out) in rows.zip(out.chunks_exact_mut(row_len)) {
                    self.load_values(plan, sources, row..row + 1, dims.clone(), Ordinary, out);
                }
            }
        }
        Ok(())
    }

    /// Loads values of one row, or of several where [`DecodePlan::rows_are_alike`], counted from the first on, into `out`.
    fn load_values<'d>(
        &self,
        plan: &DecodePlan,
        sources: &Sources<'_>,
        rows: Range<u32>,
        values: Range<usize>,
        stores: impl Storing<'d>,
        out: &'d mut [u8],
    ) {
        let level = self.level;
        let source = |source: usize| sources.rows_of(source, rows.clone());
        let encoded = |size: usize| &source(0)[values.start * size..values.end * size];
        match plan.load() {
            Load::Copy(dtype) => {
                ops::copy::copy(level, stores, encoded(dtype.size()), dtype.component_size(), out);
            }
            Load::WidenF16 => ops::widen_f16::widen_f16(level, stores, encoded(2), cast_slice_mut(out)),
            Load::WidenBf16 => ops::widen_bf16::widen_bf16(level, stores, encoded(2), cast_slice_mut(out)),
            Load::AffineU8(Affine::Chunk { scale, min }) => {
                ops::affine_u8::affine_u8(level, stores, encoded(1), *scale, *min, cast_slice_mut(out));
            }
            Load::AffineU8(Affine::Dim { .. } | Affine::Row) | Load::Rotated { .. } => {
                unreachable!("`load` does all of its rows")
            }
            Load::LutU8(table) => ops::lut_u8::lut_u8(encoded(1), table, cast_slice_mut(out)),
            Load::JoinPlanes { dtype, coded } => {
                let dim = plan.shape().dim as usize;
                // The lanes are the last sources.
                let (mut stored, mut lane) = (0, plan.widths().len() - coded.count_ones() as usize);
                let mut planes = [[].as_slice(); 8];
                let planes = &mut planes[..dtype.size()];
                for (p, plane) in planes.iter_mut().enumerate() {
                    let bytes = if coded >> p & 1 == 1 {
                        lane += 1;
                        source(lane - 1)
                    } else {
                        stored += 1;
                        &source(0)[(stored - 1) * dim..]
                    };
                    *plane = &bytes[values.clone()];
                }
                ops::join_planes::join_planes(level, stores, planes, out);
            }
            Load::DictPlanes => unreachable!("it has no rows"),
        }
    }
}

/// To which halves the codes of this plan go directly, if they do.
fn fused_halves(level: Level, plan: &DecodePlan) -> Option<Halves> {
    let dim = plan.dim();
    let is_fused = matches!(plan.load(), Load::AffineU8(_))
        && dim == plan.shape().dim
        && affine_u8_halves::is_fused(level, dim as usize);
    match plan.out() {
        DType::F16 if is_fused => Some(Halves::F16),
        DType::Bf16 if is_fused => Some(Halves::Bf16),
        _ => None,
    }
}

/// Whether streaming to these pieces of one run is worth it.
fn streaming_pays(level: Level, plan: &DecodePlan, pieces: &[Piece<'_, '_>]) -> bool {
    let len: usize = pieces.iter().map(|piece| piece.out.len()).sum();
    // Through a tile (rule 3 of `ops::stores`) two threads on a processor without AVX-512 made 9 GB/s of f16 with streaming stores and 12
    // with ordinary ones; without a tile 18 to 19, and 20 to 23. With AVX-512 streaming was 1.1 to 1.2 times as fast through a tile
    // (`rates_against_copying`).
    if plan.narrows() && !level.has_avx512() {
        return false;
    }
    // Rows meet in a tile, or are one long row.
    let call_len = if plan.narrows() { TILE * plan.out().size() } else { len / pieces.len() };
    call_len >= STREAMED_CALL_LEN && len >= STREAMED_RUN_LEN
}

/// Some consecutive rows of one job that are in one run, with the part of the destination that is theirs.
struct Piece<'p, 'd> {
    chunk: ChunkId,
    plan: &'p DecodePlan,
    /// Which run of the chunk.
    run: u32,
    /// Counted from the start of the chunk; at least one.
    rows: Range<u32>,
    dst_row: u64,
    /// Invariant: `rows.len()` rows of the batch's dim and dtype, aligned for it, not empty.
    out: &'d mut [u8],
}

/// Blocks side by side, each of which holds rows of some of the pieces.
struct Run<'r, 'p, 'd> {
    blocks: Range<u32>,
    /// Of one plan; at least one.
    pieces: &'r mut [Piece<'p, 'd>],
}

/// Work that one thread takes.
enum Task<'r, 'p, 'd> {
    /// A run that needs only its own bytes.
    Run(Run<'r, 'p, 'd>),
    /// All pieces of a chunk whose payload is small and needed as a whole.
    Whole(&'r mut [Piece<'p, 'd>]),
}

/// The lowest destination row of some pieces.
fn lowest(pieces: &[Piece<'_, '_>]) -> u64 {
    pieces.iter().map(|piece| piece.dst_row).min().expect("at least one")
}

/// Cuts the jobs of a batch where runs end.
fn cut<'p, 'd>(batch: &Batch<'p>, dst: &'d mut [u8]) -> Vec<Piece<'p, 'd>> {
    // On 32 bits a row of no rows may be longer than memory.
    let row_len = (batch.dim() as usize).saturating_mul(batch.out().size());
    let mut pieces = Vec::with_capacity(batch.jobs().len());
    let mut rest = dst;
    for job in batch.jobs() {
        let (mut out_of_job, after) = rest.split_at_mut(job.rows.len() * row_len);
        rest = after;
        if out_of_job.is_empty() {
            continue;
        }
        let run_rows = rows_of_run(job.plan);
        let mut start = job.rows.start;
        while start < job.rows.end {
            let run = start / run_rows;
            let end = (run * run_rows).saturating_add(run_rows).min(job.rows.end);
            let (out, after) = out_of_job.split_at_mut((end - start) as usize * row_len);
            out_of_job = after;
            let dst_row = job.dst_row + u64::from(start - job.rows.start);
            pieces.push(Piece { chunk: job.chunk, plan: job.plan, run, rows: start..end, dst_row, out });
            start = end;
        }
    }
    pieces
}

/// Rows of every run of a chunk but the last: whole blocks.
pub(crate) fn rows_of_run(plan: &DecodePlan) -> u32 {
    let (row_len, block_rows) = match plan.load() {
        // Four byte planes are about as long as the values they make, and can be entered at any of those.
        Load::DictPlanes => (u64::from(plan.dim()) * 4, 1),
        _ => (plan.widths().iter().map(|width| u64::from(*width)).sum(), plan.parts().block_rows()),
    };
    let rows = u32::try_from(RUN_LEN as u64 / row_len.max(1)).expect("no more than RUN_LEN");
    (rows / block_rows).max(1) * block_rows
}

/// Sorts pieces by their places in the file.
fn sort(pieces: &mut [Piece<'_, '_>]) {
    // A chunk that has two plans is read for each of them, so those of one must be side by side.
    let place = |piece: &Piece<'_, '_>| {
        (piece.chunk, core::ptr::from_ref(piece.plan), piece.rows.start, piece.dst_row)
    };
    #[cfg(feature = "rayon")]
    rayon::slice::ParallelSliceMut::par_sort_unstable_by_key(pieces, place);
    #[cfg(not(feature = "rayon"))]
    pieces.sort_unstable_by_key(place);
}

/// Groups sorted pieces to tasks, and to chunks with large payloads that are taken one after another.
fn group<'r, 'p, 'd>(
    mut pieces: &'r mut [Piece<'p, 'd>],
) -> (Vec<Task<'r, 'p, 'd>>, Vec<&'r mut [Piece<'p, 'd>]>) {
    let mut tasks = Vec::with_capacity(pieces.len());
    let mut large = Vec::new();
    while let Some(first) = pieces.first() {
        let Piece { chunk, plan, run, .. } = *first;
        let parts = plan.parts();
        let whole = matches!(plan.load(), Load::DictPlanes);
        let mut blocks = parts.blocks_of(first.rows.clone());
        let joins = |next: &Piece<'_, '_>| {
            let of_next = parts.blocks_of(next.rows.clone());
            let joins = next.chunk == chunk
                && core::ptr::eq(next.plan, plan)
                && (whole || next.run == run && of_next.start <= blocks.end);
            blocks.end = blocks.end.max(if joins { of_next.end } else { 0 });
            joins
        };
        let count = 1 + pieces[1..].iter().map(joins).take_while(|joins| *joins).count();
        let (together, after) = core::mem::take(&mut pieces).split_at_mut(count);
        pieces = after;
        if !whole {
            tasks.push(Task::Run(Run { blocks, pieces: together }));
        } else if parts.len_of(0..1) <= RUN_LEN as u64 {
            tasks.push(Task::Whole(together));
        } else {
            large.push(together);
        }
    }
    (tasks, large)
}

/// The bytes of a run: borrowed, or read into `scratch`, which is made long enough.
pub(crate) fn run_bytes<'a>(
    run: &BlockRun<'_>,
    src: &'a dyn Payloads,
    scratch: &'a mut Vec<u8>,
) -> Result<RunBytes<'a>, SourceError> {
    if let Some(bytes) = src.borrow(run)? {
        return Ok(RunBytes::Chunk(bytes));
    }
    let len = run.byte_len();
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    src.read(run, &mut scratch[..len])?;
    Ok(RunBytes::Ranges(&scratch[..len]))
}

/// What a thread keeps from run to run.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) encoded: Vec<u8>,
    pub(crate) inflated: Vec<u8>,
    tiles: Tiles,
    pub(crate) inflater: Inflater,
}

/// What values pass through on their way.
#[derive(Default)]
struct Tiles {
    /// Those that are narrowed.
    wide: Vec<f32>,
    rotated: ops::rotated::Scratch,
}

impl Kept {
    /// The most bytes that are kept of each kind: runs of one wide row or one long block, and whole payloads, can be far
    /// larger than a run.
    const MAX_LEN: usize = 4 * RUN_LEN;

    /// Lends what this thread keeps.
    pub(crate) fn lend<T>(work: impl FnOnce(&mut Kept) -> T) -> T {
        thread_local! {
            static KEPT: Cell<Kept> = Cell::default();
        }
        // Taken, not borrowed: while `work` waits for other threads, rayon may run another task here.
        let mut kept = KEPT.take();
        let result = work(&mut kept);
        for scratch in [&mut kept.encoded, &mut kept.inflated] {
            if scratch.capacity() > Kept::MAX_LEN {
                *scratch = Vec::new();
            }
        }
        if kept.tiles.wide.capacity() > TILE.max(ROTATED_TILE) {
            kept.tiles.wide = Vec::new();
        }
        kept.tiles.rotated.trim(Kept::MAX_LEN);
        KEPT.set(kept);
        result
    }
}

/// Does `work` for every item, in any order, on all threads of the pool.
#[cfg(feature = "rayon")]
pub(crate) fn for_each<T: Send>(mut items: Vec<T>, work: impl Fn(T) + Send + Sync) {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};

    match items.len() {
        // Not worth waking anybody.
        0 | 1 => items.drain(..).for_each(work),
        _ => items.into_par_iter().for_each(work),
    }
}

/// Does `work` for every item, one after another.
#[cfg(not(feature = "rayon"))]
pub(crate) fn for_each<T: Send>(items: Vec<T>, work: impl Fn(T) + Send + Sync) {
    items.into_iter().for_each(work);
}

/// How many threads `for_each` uses.
fn thread_count() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}
