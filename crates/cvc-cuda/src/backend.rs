//! The pipeline: workers that read, copy and launch.
//!
//! Every worker is a thread with a stream and two [slots](Slot). It takes units in turn: it waits until a slot is free,
//! reads into it, puts its copy and its launches on the stream, and goes on with the other slot. So reading overlaps with
//! copying and decoding, and as workers have streams of their own, so do the copies of one and the kernels of another.
//! A decode returns when all streams have done what they were given.
//!
//! Of several failures the one of the lowest destination row is reported ([`crate::retrace`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cudarc::driver::result::DriverError;
use cudarc::driver::{CudaContext, CudaStream};
use cvc_codec::ops::DictPlanes;
use cvc_codec::{
    Affine, Backend, Batch, BlockRun, DType, DecodeError, DecodePlan, DeviceBuffer as _, DeviceInfo,
    DeviceKind, FirstError, HostBuffer, Load, Payloads, Stream, Unsupported,
};

use crate::buffer::CudaBuffer;
use crate::driver::{DeviceMemory, Region, clear};
use crate::error::{self, Unavailable, failed};
use crate::kernels;
use crate::launch::{Launcher, MAX_VALUES, Piece};
use crate::probe::{self, Card};
use crate::retrace::retrace;
use crate::slot::Slot;
use crate::stage::{Layout, Scratch, between, room, room_of_window};
use crate::unit::{Run, Span, Unit, units};

/// The most workers. Reading and checking runs at some gigabytes a second on each; a link has some tens. Not measured on
/// hardware.
const MAX_WORKERS: usize = 8;

/// Bytes of pinned memory that values pass through on their way from and to the host.
const TRANSFER_LEN: usize = 4 << 20;

/// Values of dictionaries that one slot holds: at most four bytes each.
const WINDOW: u64 = 1 << 20;

/// Decodes on one CUDA device.
#[derive(Debug)]
pub struct CudaBackend {
    card: Card,
    device: DeviceInfo,
    context: Arc<CudaContext>,
    /// What buffers are allocated on.
    stream: Arc<CudaStream>,
    launcher: Launcher,
    max_workers: usize,
    /// Workers that nobody uses at the moment.
    idle: Mutex<Vec<Worker>>,
}

impl CudaBackend {
    /// The device with this number.
    ///
    /// # Errors
    /// Why it cannot be had, and what to do.
    pub fn new(index: usize) -> Result<Self, Unavailable> {
        let cards = probe::cards()?;
        let last = cards.len() - 1;
        let card = cards.into_iter().nth(index).ok_or(Unavailable::NoSuchDevice { index, last })?;
        if let Err(problem) = card.usable() {
            return Err(Unavailable::Driver { what: "run kernels on this card", problem });
        }
        let what = |what| move |error| Unavailable::driver(what, error);
        let context = CudaContext::new(index).map_err(what("make a context"))?;
        let stream = context.new_stream().map_err(what("make a stream"))?;
        let launcher = Launcher::new(&context).map_err(what("describe the card"))?;
        // One of them now: a driver that cannot compile any should say so before somebody chose this device.
        let copy = kernels::Kernel { op: "copy", entry: "cvc_copy", source_size: 1, size: 1 };
        launcher.function(copy).map_err(what("compile the kernels"))?;
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let device = DeviceInfo::new(DeviceKind::Cuda, card.to_string());
        let max_workers = threads.clamp(2, MAX_WORKERS);
        Ok(CudaBackend { card, device, context, stream, launcher, max_workers, idle: Mutex::default() })
    }

    /// The card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The number of the device.
    pub fn index(&self) -> usize {
        self.card.index
    }

    /// Free bytes of its memory.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn free_memory(&self) -> Result<u64, DecodeError> {
        self.context.mem_get_info().map(|(free, _)| free as u64).map_err(failed)
    }

    /// The driver's handle of the stream that buffers are allocated on: work that other libraries put there comes before
    /// what [`decode`](Backend::decode) does afterwards.
    pub fn stream_ptr(&self) -> *mut core::ffi::c_void {
        self.stream.cu_stream().cast()
    }

    /// Waits for all work on the device, that of other libraries in its primary context too. What fails here is reported by the
    /// next call that can fail.
    pub fn wait_for_all(&self) {
        self.context.record_err(self.context.synchronize());
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub(crate) fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// Lends a worker whose stream waits for what was put on that of `buffer` so far.
    fn worker_after(&self, buffer: &CudaBuffer<'_>) -> Result<Worker, DriverError> {
        let worker = self.worker()?;
        worker.stream.wait(&buffer.stream().record_event(None)?)?;
        Ok(worker)
    }

    pub(crate) fn worker(&self) -> Result<Worker, DriverError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(worker) => Ok(worker),
            None => Worker::new(&self.context),
        }
    }

    /// Keeps a worker for the next time, unless there are enough.
    pub(crate) fn keep(&self, worker: Worker) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.max_workers {
            idle.push(worker);
        }
    }

    /// Takes units until there are none, and waits for the last of them.
    fn work(
        &self,
        worker: &mut Worker,
        units: &[Unit<'_>],
        next: &AtomicUsize,
        src: &dyn Payloads,
        dst: Region,
        first_error: &FirstError,
    ) {
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            let first_row = unit.first_row();
            if first_error.is_before(first_row) {
                continue;
            }
            // The slot's last unit is asked for its failure before another takes its place.
            worker.free_next(first_error);
            let outcome = match unit {
                Unit::Runs(runs) => worker.runs(&self.launcher, runs, src, dst).map(|()| true),
                Unit::Whole(spans) => worker.whole(&self.launcher, spans, src, dst),
            };
            let chunks = unit.chunks();
            match outcome {
                Ok(true) => worker.pending[worker.turn] = Some((first_row, chunks)),
                Ok(false) => {
                    let found = retrace(unit, src).unwrap_or_else(|| {
                        let problem =
                            "the card found a code that its dictionary does not have, the host did not";
                        (first_row, naming(error::device(problem), &chunks))
                    });
                    first_error.note(found.0, found.1);
                }
                Err(error @ DecodeError::Device { .. }) => {
                    first_error.note(first_row, naming(error, &chunks))
                }
                Err(error) => {
                    let (row, error) = retrace(unit, src).unwrap_or((first_row, error));
                    first_error.note(row, error);
                }
            }
        }
        // Even after a failure: nothing may write to the destination when `decode` has returned.
        for _ in 0..worker.slots.len() {
            worker.turn = worker.after_turn();
            worker.free(worker.turn, first_error);
        }
    }
}

/// A failure of the device, with the chunks that were decoded.
fn naming(error: DecodeError, chunks: &str) -> DecodeError {
    match error {
        DecodeError::Device { device, problem } => {
            DecodeError::Device { device, problem: format!("while it decoded {chunks}: {problem}") }
        }
        other => other,
    }
}

impl Backend for CudaBackend {
    type Buffer<'a> = CudaBuffer<'a>;

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
            | Load::DictPlanes => {}
        }
        let row_len = u64::from(plan.shape().dim) * plan.out().size() as u64;
        if row_len > u64::from(MAX_VALUES) {
            let reason = format!("a row has {row_len} bytes, and kernels count at most {MAX_VALUES}");
            return Err(Unsupported::new(DeviceKind::Cuda, plan.load().name(), reason));
        }
        Ok(())
    }

    fn explain(&self, plan: &DecodePlan) -> String {
        let card = &self.card.name;
        let narrow = if plan.narrows() { format!(" and narrow to {}", plan.out()) } else { String::new() };
        let load = plan.load().name();
        match (plan.stream(), plan.load()) {
            (_, Load::DictPlanes) => {
                format!(
                    "{load} is read and its structure checked on the host, codes looked up{narrow} on {card}"
                )
            }
            (Stream::Stored, _) => format!("{load}{narrow} on {card}"),
            (stream, _) => format!("{} on the host, {load}{narrow} on {card}", stream.name()),
        }
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: &mut CudaBuffer<'_>,
    ) -> Result<(), DecodeError> {
        DecodeError::check_buffer(batch, dst)?;
        for job in batch.jobs() {
            self.supports(job.plan)?;
        }
        let units = units(batch);
        if units.is_empty() {
            return Ok(());
        }
        let count = units.len().min(self.max_workers);
        let workers: Result<Vec<Worker>, DriverError> = (0..count).map(|_| self.worker_after(dst)).collect();
        let mut workers = workers.map_err(failed)?;
        let (next, first_error) = (AtomicUsize::new(0), FirstError::default());
        let region = dst.region();
        let work = |worker: &mut Worker| self.work(worker, &units, &next, src, region, &first_error);
        match workers.as_mut_slice() {
            [only] => work(only),
            several => thread::scope(|scope| {
                for worker in several {
                    scope.spawn(|| work(worker));
                }
            }),
        }
        workers.into_iter().for_each(|worker| self.keep(worker));
        first_error.into_result()
    }
}

impl cvc_codec::DeviceMemory for CudaBackend {
    fn allocate(&self, dtype: DType, values: u64) -> Result<CudaBuffer<'static>, DecodeError> {
        let len = values.checked_mul(dtype.size() as u64).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(|| {
            error::device(format!(
                "{values} values of {dtype} are more than an address can count: decode fewer rows"
            ))
        })?;
        let memory = DeviceMemory::new(&self.stream, len).map_err(failed)?;
        Ok(CudaBuffer::of(dtype, memory, &self.stream))
    }

    fn download(&self, from: &CudaBuffer<'_>, into: &mut HostBuffer<'_>) -> Result<(), DecodeError> {
        let region = from.region();
        DecodeError::check_destination(into, from.dtype(), region.len())?;
        let mut worker = self.worker_after(from).map_err(failed)?;
        worker.download(region, into.bytes_mut()).map_err(failed)?;
        self.keep(worker);
        Ok(())
    }

    fn upload(&self, from: &[u8], into: &mut CudaBuffer<'_>) -> Result<(), DecodeError> {
        let region = into.region();
        DecodeError::check_destination(into, into.dtype(), from.len() as u64)?;
        let mut worker = self.worker_after(into).map_err(failed)?;
        worker.upload(from, region).map_err(failed)?;
        self.keep(worker);
        Ok(())
    }
}

/// A stream, and what its thread needs.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) stream: Arc<CudaStream>,
    pub(crate) slots: [Slot; 2],
    /// The slot that was used last.
    turn: usize,
    /// What each slot's work is for: the lowest destination row, and the chunks.
    pending: [Option<(u64, String)>; 2],
    /// A word that kernels set when a code is wrong.
    flag: DeviceMemory,
    scratch: Scratch,
}

impl Worker {
    fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        let stream = context.new_stream()?;
        let slots = [Slot::new(&stream)?, Slot::new(&stream)?];
        let flag = DeviceMemory::new(&stream, 4)?;
        Ok(Worker { stream, slots, turn: 0, pending: [None, None], flag, scratch: Scratch::default() })
    }

    /// The slot after the one that was used last.
    fn after_turn(&self) -> usize {
        (self.turn + 1) % self.slots.len()
    }

    /// Goes on to the next slot.
    fn next(&mut self) -> usize {
        self.turn = self.after_turn();
        self.turn
    }

    /// Waits until the slot that is next is free.
    fn free_next(&mut self, first_error: &FirstError) {
        self.free(self.after_turn(), first_error);
    }

    /// Waits until a slot is free, and notes whether what it was used for has failed.
    fn free(&mut self, turn: usize, first_error: &FirstError) {
        let waited = self.slots[turn].wait();
        let pending = self.pending[turn].take();
        if let Err(error) = waited {
            let (row, chunks) = pending.unwrap_or_else(|| (0, "a chunk".into()));
            first_error.note(row, naming(failed(error), &chunks));
        }
    }

    fn runs(
        &mut self,
        launcher: &Launcher,
        runs: &[Run<'_>],
        src: &dyn Payloads,
        dst: Region,
    ) -> Result<(), DecodeError> {
        let turn = self.next();
        let slot = &mut self.slots[turn];
        let left = slot.between(between(runs)).map_err(failed)?;
        let (host, device) = slot.host(room(runs)).map_err(failed)?;
        let mut layout = Layout::new(host, device, dst, left);
        for run in runs {
            layout.run(run, src, &mut self.scratch)?;
        }
        let staged = layout.finish();
        slot.run(launcher, &staged).map_err(failed)
    }

    /// Decodes all spans of a chunk whose payload is needed as a whole; whether all codes are in their dictionaries.
    fn whole(
        &mut self,
        launcher: &Launcher,
        spans: &[Span<'_>],
        src: &dyn Payloads,
        dst: Region,
    ) -> Result<bool, DecodeError> {
        let Span { chunk, plan, .. } = spans[0];
        let blocks = BlockRun { chunk, parts: plan.parts(), blocks: 0..1 };
        let mut payload = core::mem::take(&mut self.scratch.encoded);
        payload.resize(blocks.byte_len(), 0);
        src.read(&blocks, &mut payload).map_err(|error| DecodeError::Source { chunk, error })?;
        let planes = DictPlanes::parse(&payload, plan.shape().values());
        let planes = planes.map_err(|error| DecodeError::Payload { chunk, error })?;

        clear(&self.stream, &self.flag).map_err(failed)?;
        let dim = u64::from(plan.dim());
        // Windows of values: from where, how many, to where.
        let mut windows = spans.iter().flat_map(|span| {
            let values = u64::from(span.rows.start) * dim..u64::from(span.rows.end) * dim;
            let starts = values.clone().step_by(usize::try_from(WINDOW).expect("a million"));
            starts.map(move |start| {
                let dst_value = span.dst_row * dim + (start - values.start);
                (start..(start + WINDOW).min(values.end), dst_value)
            })
        });
        let mut window = windows.next();
        while window.is_some() {
            let turn = self.next();
            // As many as there is room for.
            let (mut here, mut len) = (Vec::new(), 0);
            while let Some((values, dst_value)) = window.take() {
                let room = room_of_window(values.end - values.start);
                if len + room > room_of_window(WINDOW) && !here.is_empty() {
                    window = Some((values, dst_value));
                    break;
                }
                len += room;
                here.push((values, dst_value));
                window = windows.next();
            }
            let len = usize::try_from(len).expect("some megabytes") + here.len() * Piece::LEN + 128;
            let (host, device) = self.slots[turn].host(len).map_err(failed)?;
            let mut layout = Layout::new(host, device, dst, device.part(0, 0));
            for (values, dst_value) in here {
                layout.dictionaries(plan, &planes, values, dst_value, self.flag.region().start());
            }
            let staged = layout.finish();
            self.slots[turn].run(launcher, &staged).map_err(failed)?;
        }
        self.scratch.encoded = payload;
        self.flag_is_clear().map_err(failed)
    }

    /// Whether no kernel that was launched since `clear` has set the flag.
    fn flag_is_clear(&mut self) -> Result<bool, DriverError> {
        let turn = self.next();
        let slot = &mut self.slots[turn];
        slot.host(4)?;
        slot.fetch(self.flag.region())?;
        let (host, _) = slot.host(4)?;
        Ok(host[..4] == [0; 4])
    }

    /// Copies device memory to the host.
    fn download(&mut self, from: Region, into: &mut [u8]) -> Result<(), DriverError> {
        let mut pending: Option<(usize, &mut [u8])> = None;
        let mut at = 0;
        for part in into.chunks_mut(TRANSFER_LEN) {
            let turn = self.next();
            let slot = &mut self.slots[turn];
            slot.host(part.len())?;
            slot.fetch(from.part(at, part.len() as u64))?;
            at += part.len() as u64;
            // The part before this one is taken while this one is copied.
            if let Some((turn, part)) = pending.replace((turn, part)) {
                self.take(turn, part)?;
            }
        }
        pending.map_or(Ok(()), |(turn, part)| self.take(turn, part))
    }

    fn take(&mut self, turn: usize, into: &mut [u8]) -> Result<(), DriverError> {
        let (host, _) = self.slots[turn].host(into.len())?;
        into.copy_from_slice(&host[..into.len()]);
        Ok(())
    }

    /// Copies bytes of the host to device memory.
    fn upload(&mut self, from: &[u8], to: Region) -> Result<(), DriverError> {
        let mut at = 0;
        for part in from.chunks(TRANSFER_LEN) {
            let turn = self.next();
            let slot = &mut self.slots[turn];
            let (host, _) = slot.host(part.len())?;
            host[..part.len()].copy_from_slice(part);
            slot.send(to.part(at, part.len() as u64))?;
            at += part.len() as u64;
        }
        self.slots.iter_mut().try_for_each(Slot::wait)
    }
}
