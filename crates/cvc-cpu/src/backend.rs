//! The pipeline: from a batch to values in the caller's memory, on every core.
//!
//! ```text
//! for job in batch { read its payload; decode it }
//! ```
//!
//! 1. Jobs are cut into runs of rows. A run is small enough to be decoded while it is in the cache, and big
//!    enough that taking it costs nothing. It owns its part of the destination (`split_at_mut`), so runs can
//!    be decoded in any order on any core, and all of this is safe code.
//! 2. A run borrows its encoded bytes where they are in memory. Otherwise it reads them into a scratch that
//!    its thread keeps, so there is never more than a run's worth of copied bytes per thread.
//! 3. An op that needs its whole payload (`dict_planes`) gets it once for all of the batch's jobs on that
//!    chunk. Large payloads are taken one after another, and their runs are spread over the cores.
//! 4. Of several failures the one of the lowest destination row is reported, whatever the timing.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytemuck::cast_slice_mut;
use cvc_codec::ops::{DictPlanes, PayloadError};
use cvc_codec::{
    Backend, Batch, ChunkId, DType, DecodeError, DecodePlan, DeviceInfo, DeviceKind, HostBuffer, Load,
    Payloads, Unsupported,
};

use crate::level::Level;
use crate::ops;

/// Encoded bytes of a run, about. With what they decode to (half a megabyte at most) they stay in the L2 cache
/// of one core between reading and decoding, and taking the next run costs little beside them.
///
/// Measured on an AMD EPYC (Zen 5 class, 1 MiB of L2 per core), 2 cores, November 2026, 25.6 million values
/// into touched memory, payloads read, two threads, GB/s of f32 (best of 12, the machine not idle):
/// 4 KiB: 20 for `widen_f16` and 25 for `affine_u8`; 32 KiB: 30, 32; 128 KiB: 39, 50; 256 KiB: 42, 47;
/// 1 MiB: 29, 32; 8 MiB: 23, 25.
const RUN_LEN: usize = 128 << 10;

/// Values that are narrowed at a time: 16 KiB of f32, which stay in the L1 cache.
const TILE: usize = 4096;

/// Decodes on the processor, into the caller's own memory.
#[derive(Clone, Debug)]
pub struct CpuBackend {
    level: Level,
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
        CpuBackend { level, device: DeviceInfo::new(DeviceKind::Cpu, name) }
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
            Load::Copy(_) | Load::WidenF16 | Load::AffineU8 { .. } | Load::LutU8(_) | Load::DictPlanes => {
                Ok(())
            }
        }
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: &mut HostBuffer<'_>,
    ) -> Result<(), DecodeError> {
        DecodeError::check_buffer(batch, dst)?;
        let first_error = FirstError::default();
        let decode_whole = |whole: Whole<'_>| {
            first_error.note(whole.dst_row(), || {
                with_payload(src, whole.chunk, 0..whole.payload_len, |payload| {
                    self.decode_whole(&whole.planes_of(payload)?, whole, &first_error);
                    Ok(())
                })
            });
        };
        let (tasks, large) = cut(batch, dst.bytes_mut());
        for_each(tasks, |task| match task {
            Task::Fixed(op, run) => first_error.note(run.dst_row, || self.decode_fixed(op, run, src)),
            Task::Whole(whole) => decode_whole(whole),
        });
        large.into_iter().for_each(decode_whole);
        first_error.into_result()
    }
}

impl CpuBackend {
    /// Decodes a run whose bytes can be found without the rest of the payload.
    fn decode_fixed(&self, op: FixedOp<'_>, run: Run<'_>, src: &dyn Payloads) -> Result<(), DecodeError> {
        let (chunk, size) = (run.chunk, op.encoded_size());
        let start = run.first_value * size as u64;
        let end = start + (run.value_count * size) as u64;
        with_payload(src, chunk, start..end, |encoded| {
            self.emit(run, |values, out| {
                op.decode(self.level, &encoded[values.start * size..values.end * size], out);
                Ok(())
            })
            .map_err(|error| DecodeError::Payload { chunk, error })
        })
    }

    /// Decodes all runs of one chunk whose payload is at hand as a whole.
    fn decode_whole(&self, planes: &DictPlanes<'_>, whole: Whole<'_>, first_error: &FirstError) {
        let chunk = whole.chunk;
        for_each(whole.runs, |run| {
            first_error.note(run.dst_row, || {
                let first = run.first_value;
                self.emit(run, |values, out| {
                    ops::dict_planes::dict_planes(planes, first + values.start as u64, cast_slice_mut(out))
                })
                .map_err(|error| DecodeError::Payload { chunk, error })
            });
        });
    }

    /// Fills the destination of `run` with what `load` makes of these of its values, narrowed if need be.
    fn emit(
        &self,
        run: Run<'_>,
        load: impl Fn(Range<usize>, &mut [u8]) -> Result<(), PayloadError>,
    ) -> Result<(), PayloadError> {
        let Some(narrow) = run.narrow else { return load(0..run.value_count, run.out) };
        let mut tile = [0f32; TILE];
        for (index, out) in run.out.chunks_mut(TILE * 2).enumerate() {
            let wide = &mut tile[..out.len() / 2];
            let first = index * TILE;
            load(first..first + wide.len(), cast_slice_mut(wide))?;
            match narrow {
                Narrow::F16 => ops::narrow::narrow_f16(self.level, wide, cast_slice_mut(out)),
                Narrow::Bf16 => ops::narrow::narrow_bf16(self.level, wide, cast_slice_mut(out)),
            }
        }
        Ok(())
    }
}

/// Some consecutive rows of one job, with the part of the destination that is theirs.
struct Run<'d> {
    chunk: ChunkId,
    /// Counted from the start of the chunk.
    first_value: u64,
    value_count: usize,
    dst_row: u64,
    narrow: Option<Narrow>,
    /// Invariant: `value_count` values of the batch's dtype, aligned for it.
    out: &'d mut [u8],
}

/// What happens to f32 values on their way out.
#[derive(Clone, Copy)]
enum Narrow {
    F16,
    Bf16,
}

/// Work that one thread does.
enum Task<'p, 'd> {
    /// A run that needs only its own bytes.
    Fixed(FixedOp<'p>, Run<'d>),
    /// All runs of a chunk whose payload is small.
    Whole(Whole<'d>),
}

/// Ops whose values have one number of bytes each.
#[derive(Clone, Copy)]
enum FixedOp<'p> {
    Copy { size: usize },
    WidenF16,
    AffineU8 { scale: f32, min: f32 },
    LutU8 { table: &'p [f32; 256] },
}

impl FixedOp<'_> {
    fn encoded_size(self) -> usize {
        match self {
            FixedOp::Copy { size } => size,
            FixedOp::WidenF16 => 2,
            FixedOp::AffineU8 { .. } | FixedOp::LutU8 { .. } => 1,
        }
    }

    fn decode(self, level: Level, encoded: &[u8], out: &mut [u8]) {
        match self {
            FixedOp::Copy { size } => ops::copy::copy(encoded, size, out),
            FixedOp::WidenF16 => ops::widen_f16::widen_f16(level, encoded, cast_slice_mut(out)),
            FixedOp::AffineU8 { scale, min } => {
                ops::affine_u8::affine_u8(level, encoded, scale, min, cast_slice_mut(out));
            }
            FixedOp::LutU8 { table } => ops::lut_u8::lut_u8(encoded, table, cast_slice_mut(out)),
        }
    }
}

/// All runs of a batch on one chunk whose payload must be read as a whole.
struct Whole<'d> {
    chunk: ChunkId,
    payload_len: u64,
    /// Values in the chunk, wanted or not.
    values: u64,
    /// By ascending destination, never empty.
    runs: Vec<Run<'d>>,
}

impl Whole<'_> {
    fn dst_row(&self) -> u64 {
        self.runs[0].dst_row
    }

    fn planes_of<'e>(&self, payload: &'e [u8]) -> Result<DictPlanes<'e>, DecodeError> {
        DictPlanes::parse(payload, self.values)
            .map_err(|error| DecodeError::Payload { chunk: self.chunk, error })
    }
}

/// Cuts a batch into tasks, and into chunks with large payloads that are taken one after another.
fn cut<'p, 'd>(batch: &Batch<'p>, dst: &'d mut [u8]) -> (Vec<Task<'p, 'd>>, Vec<Whole<'d>>) {
    let dim = batch.dim() as usize;
    // On 32 bits a row of no rows may be longer than memory.
    let row_len = dim.saturating_mul(batch.out().size());
    let mut tasks = Vec::new();
    let mut whole_runs = Vec::new();
    let mut rest = dst;
    for job in batch.jobs() {
        let (out, after) = rest.split_at_mut(job.rows.len() * row_len);
        rest = after;
        if out.is_empty() {
            continue;
        }
        let plan = job.plan;
        let op = match plan.load() {
            Load::Copy(dtype) => Some(FixedOp::Copy { size: dtype.size() }),
            Load::WidenF16 => Some(FixedOp::WidenF16),
            Load::AffineU8 { scale, min } => Some(FixedOp::AffineU8 { scale: *scale, min: *min }),
            Load::LutU8(table) => Some(FixedOp::LutU8 { table }),
            Load::DictPlanes => None,
        };
        let narrow = match plan.out() {
            DType::F16 if plan.narrows() => Some(Narrow::F16),
            DType::Bf16 if plan.narrows() => Some(Narrow::Bf16),
            _ => None,
        };
        // Four byte planes are about as long as the values they make.
        let encoded_size = op.map_or(4, FixedOp::encoded_size);
        let run_rows = (RUN_LEN / dim.saturating_mul(encoded_size)).max(1);
        for (index, out) in out.chunks_mut(run_rows.saturating_mul(row_len)).enumerate() {
            let row = (index * run_rows) as u64;
            let run = Run {
                chunk: job.chunk,
                first_value: (u64::from(job.rows.start) + row) * dim as u64,
                value_count: out.len() / batch.out().size(),
                dst_row: job.dst_row + row,
                narrow,
                out,
            };
            match op {
                Some(op) => tasks.push(Task::Fixed(op, run)),
                None => whole_runs.push((plan, run)),
            }
        }
    }

    // The sort is stable: the runs of a chunk stay in the order of their destinations.
    whole_runs.sort_by_key(|(_, run)| run.chunk);
    let mut wholes: Vec<Whole<'d>> = Vec::new();
    for (plan, run) in whole_runs {
        let (chunk, payload_len, values) = (run.chunk, plan.payload_len(), plan.shape().values());
        match wholes.last_mut() {
            Some(last) if (last.chunk, last.payload_len, last.values) == (chunk, payload_len, values) => {
                last.runs.push(run);
            }
            _ => wholes.push(Whole { chunk, payload_len, values, runs: vec![run] }),
        }
    }
    let (small, large): (Vec<_>, Vec<_>) =
        wholes.into_iter().partition(|whole| whole.payload_len <= RUN_LEN as u64);
    tasks.extend(small.into_iter().map(Task::Whole));
    (tasks, large)
}

/// Calls `work` with these bytes of a payload: borrowed, or read into the scratch of this thread.
fn with_payload(
    src: &dyn Payloads,
    chunk: ChunkId,
    range: Range<u64>,
    work: impl FnOnce(&[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    /// What a thread keeps at most: runs of one wide row and whole payloads can be far larger than a run.
    const KEPT_LEN: usize = 4 * RUN_LEN;

    let blame = |error| DecodeError::Source { chunk, error };
    if let Some(bytes) = src.borrow(chunk, range.clone()).map_err(blame)? {
        return work(bytes);
    }
    let len = usize::try_from(range.end - range.start).expect("the file was opened on this machine");
    // Taken, not borrowed: while `src` or `work` waits for other threads, rayon may run another task here.
    let mut scratch = SCRATCH.take();
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    src.read(chunk, range.start, &mut scratch[..len]).map_err(blame)?;
    let result = work(&scratch[..len]);
    if scratch.capacity() <= KEPT_LEN {
        SCRATCH.set(scratch);
    }
    result
}

/// The failure of the lowest destination row.
struct FirstError {
    /// That row; `u64::MAX` while there is no failure.
    row: AtomicU64,
    error: Mutex<Option<(u64, DecodeError)>>,
}

impl Default for FirstError {
    fn default() -> Self {
        FirstError { row: AtomicU64::new(u64::MAX), error: Mutex::new(None) }
    }
}

impl FirstError {
    /// Does work for destination rows from `row` on, unless a failure before them is known already.
    fn note(&self, row: u64, work: impl FnOnce() -> Result<(), DecodeError>) {
        // A stale value only means work for nothing; the lock below decides.
        if row >= self.row.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = work() {
            let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|(first_row, _)| row < *first_row) {
                *first = Some((row, error));
                self.row.store(row, Ordering::Relaxed);
            }
        }
    }

    fn into_result(self) -> Result<(), DecodeError> {
        match self.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

/// Does `work` for every item, in any order, on all threads of the pool.
#[cfg(feature = "rayon")]
fn for_each<T: Send>(mut items: Vec<T>, work: impl Fn(T) + Send + Sync) {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};

    match items.len() {
        // Not worth waking anybody.
        0 | 1 => items.drain(..).for_each(work),
        _ => items.into_par_iter().for_each(work),
    }
}

/// Does `work` for every item, one after another.
#[cfg(not(feature = "rayon"))]
fn for_each<T: Send>(items: Vec<T>, work: impl Fn(T) + Send + Sync) {
    items.into_iter().for_each(work);
}

/// How many threads `for_each` uses.
fn thread_count() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}
