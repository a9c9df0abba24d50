//! Searching: bounds and the best of them on the card, exact scores on the host ([`cvc_codec::filter`]).
//!
//! ```text
//! for stage in rows { decode it into device memory; cvc_scan_bounds; cvc_scan_best; fetch a few rows }
//! ```
//!
//! Rows travel encoded and are decoded on the card by whatever decodes for everybody ([`crate::backend`]), into one of two memories of some tens of megabytes that take
//! turns: while the card works on the bounds of one stage, the workers read the next one and decode it into the other. The search has a worker's stream and
//! slot of its own. Metrics that do not follow from products, and dtypes other than f32, are searched on the host, by the reference.

use std::ops::Range;

use cudarc::driver::result::DriverError;
use cvc_codec::filter::{self, Filter, FilterDevice, Most, Room};
use cvc_codec::{
    Backend as _, Batch, DType, DecodeError, DeviceMemory as _, Found, Payloads, Queries, ReferenceBackend,
    Scan, ScanBatch,
};

use crate::backend::{CudaBackend, Worker};
use crate::buffer::CudaBuffer;
use crate::driver::{DeviceMemory, Region};
use crate::error::failed;
use crate::launch::{Asked, Decoded, Question, Told};
use crate::slot::Slot;

/// Bytes of a memory for decoded rows, unless a row is longer. There are two.
const DECODED_LEN: u64 = 64 << 20;

/// Bytes of the keys of a stage.
const KEYS_LEN: u64 = 64 << 20;

/// Bytes of the records that come back.
const BEST_LEN: u64 = 16 << 20;

/// Bytes of the queries that are asked together, unless one is longer.
const QUERIES_LEN: u64 = 16 << 20;

impl Scan for CudaBackend {
    fn scan(
        &self,
        batch: &ScanBatch<'_>,
        src: &dyn Payloads,
        queries: &Queries<'_>,
        k: usize,
    ) -> Result<Found, DecodeError> {
        assert_eq!(batch.dim(), queries.dim(), "queries of the batch's dim");
        for job in batch.jobs() {
            self.supports(job.plan)?;
        }
        let Ok(filter) = Filter::new(queries, batch.dtype()) else {
            return ReferenceBackend::default().scan(batch, src, queries, k);
        };
        if batch.jobs().iter().all(|job| job.rows.is_empty()) {
            return Ok(Found::new(queries.len(), k));
        }
        let most = Most {
            decoded_len: DECODED_LEN,
            keys_len: KEYS_LEN,
            best_len: BEST_LEN,
            queries_len: QUERIES_LEN,
        };
        let room = Room::new(&filter, k, most);
        let mut search = Search::new(self, src, &filter, room, batch)?;
        filter::scan(&filter, room, batch, k, &mut search)
    }
}

/// One search, and its memory on the card.
struct Search<'s> {
    backend: &'s CudaBackend,
    src: &'s dyn Payloads,
    filter: &'s Filter<'s>,
    room: Room,
    dim: u32,
    /// Given back when the search ends.
    worker: Option<Worker>,
    decoded: [CudaBuffer<'static>; 2],
    keys: DeviceMemory,
    best: DeviceMemory,
    /// Made when rows are wanted.
    packed: Option<DeviceMemory>,
    /// Of what was asked last: rows, and the bytes of the answer.
    rows: u32,
    best_len: usize,
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        // Before the memory goes that kernels may still be at work on.
        if let Some(mut worker) = self.worker.take()
            && worker.slots[0].wait().is_ok()
        {
            self.backend.keep(worker);
        }
    }
}

impl<'s> Search<'s> {
    fn new(
        backend: &'s CudaBackend,
        src: &'s dyn Payloads,
        filter: &'s Filter<'s>,
        room: Room,
        batch: &ScanBatch<'_>,
    ) -> Result<Self, DecodeError> {
        let dim = batch.dim();
        let wanted: u64 = batch.jobs().iter().map(|job| job.rows.len() as u64).sum();
        let rows = wanted.min(room.rows.into());
        let decoded = || backend.allocate(DType::F32, rows * u64::from(dim));
        let decoded = [decoded()?, decoded()?];
        let worker = backend.worker().map_err(failed)?;
        let memory = |words: u64| {
            let len = usize::try_from(4 * words).expect("some megabytes");
            DeviceMemory::new(&worker.stream, len).map_err(failed)
        };
        let queries = room.queries as u64;
        let keys = memory(queries * rows)?;
        let best = memory(queries * Room::record_words(room.kept.into()))?;
        let (worker, packed) = (Some(worker), None);
        Ok(Search {
            backend,
            src,
            filter,
            room,
            dim,
            worker,
            decoded,
            keys,
            best,
            packed,
            rows: 0,
            best_len: 0,
        })
    }

    fn slot(&mut self) -> &mut Slot {
        &mut self.worker.as_mut().expect("until the search ends").slots[0]
    }

    fn stage(&self, turn: usize) -> Decoded {
        Decoded { region: self.decoded[turn].region(), rows: self.rows, dim: self.dim }
    }

    /// Tells the card, in a slot that has room for what comes back.
    fn tell(&mut self, len: usize, told: impl FnOnce(Region) -> Told) -> Result<(), DriverError> {
        let launcher = self.backend.launcher();
        let slot = self.slot();
        let (host, device) = slot.host(len)?;
        let told = told(device);
        told.write(&mut host[..told.byte_len()]);
        slot.search(launcher, &told)
    }

    /// The words that were fetched.
    fn words(&mut self, len: usize) -> Result<Vec<u32>, DriverError> {
        let (host, _) = self.slot().host(len)?;
        let (words, _) = host[..len].as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_ne_bytes(*word)).collect())
    }
}

impl FilterDevice for Search<'_> {
    fn decode(&mut self, turn: usize, batch: &Batch<'_>) -> Result<(), DecodeError> {
        // The last stage has fewer rows than there is room for.
        let mut part = self.decoded[turn].first(batch.rows() * u64::from(batch.dim()));
        self.backend.decode(batch, self.src, &mut part)
    }

    fn ask(
        &mut self,
        turn: usize,
        rows: u32,
        queries: Range<usize>,
        thresholds: &[u32],
    ) -> Result<(), DecodeError> {
        self.rows = rows;
        let (filter, kept) = (self.filter, self.room.kept);
        let mut words = thresholds.to_vec();
        words.extend(queries.clone().map(|query| filter.slack(query).to_bits()));
        for query in queries.clone() {
            match filter.values(query) {
                Some(values) => words.extend(values.iter().map(|value| value.to_bits())),
                None => words.resize(words.len() + self.dim as usize, 0),
            }
        }
        let query_count = u32::try_from(queries.len()).expect("queries of some megabytes");
        let record_words = usize::try_from(Room::record_words(kept.into())).expect("of some rows");
        self.best_len = 4 * queries.len() * record_words;
        let len = (Asked::LEN + 4 * words.len()).max(self.best_len);
        let (stage, keys, best) = (self.stage(turn), self.keys.region(), self.best.region());
        let (rule, minus_keep) = (filter.rule() as u32, -filter.keep());
        let question = Question { rule, minus_keep, kept, query_count, words };
        self.tell(len, |slot| Told::best(stage, question, slot, [keys, best])).map_err(failed)?;
        let answer = best.part(0, self.best_len as u64);
        self.slot().fetch(answer).map_err(failed)
    }

    fn best(&mut self) -> Result<Vec<u32>, DecodeError> {
        self.words(self.best_len).map_err(failed)
    }

    fn keys(&mut self, query: usize) -> Result<Vec<u32>, DecodeError> {
        let len = 4 * self.rows as usize;
        let column = self.keys.region().part((query * len) as u64, len as u64);
        let fetched = self.slot().host(len).map(|_| ()).and_then(|()| self.slot().fetch(column));
        fetched.and_then(|()| self.words(len)).map_err(failed)
    }

    fn values(&mut self, turn: usize, rows: &[u32], into: &mut [f32]) -> Result<(), DecodeError> {
        let len = 4 * into.len();
        let stream = self.worker.as_ref().expect("until the search ends").stream.clone();
        // What is replaced is freed in the order of the stream.
        if self.packed.as_ref().is_none_or(|packed| packed.region().len() < len as u64) {
            self.packed = Some(DeviceMemory::new(&stream, len).map_err(failed)?);
        }
        let packed = self.packed.as_ref().expect("made above").region();
        let stage = self.stage(turn);
        let told =
            self.tell(len.max(Asked::LEN + 4 * rows.len()), |slot| Told::rows(stage, rows, slot, packed));
        told.and_then(|()| self.slot().fetch(packed.part(0, len as u64))).map_err(failed)?;
        let words = self.words(len).map_err(failed)?;
        into.iter_mut().zip(words).for_each(|(into, word)| *into = f32::from_bits(word));
        Ok(())
    }
}
