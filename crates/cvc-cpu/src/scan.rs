//! Searching on the processor: the best rows of encoded chunks, on every core.
//!
//! ```text
//! for row in rows { decode it; for query in queries { offer the row with its exact score } }
//! ```
//!
//! 1. Rows are taken in runs of blocks that stay in the cache, as decoding does; each thread keeps the best rows of the runs it took,
//!    and those are merged at the end. What is best does not depend on who found it, so neither does the result.
//! 2. Most rows are far from being among the best, and a bound shows it ([`bounds`]): products in f32, or of integers where the rows are codes of a byte,
//!    decide which rows are looked at closely. Only those get an exact score ([`cvc_codec::scan`]).
//! 3. Rows of codes are not decoded for the products. Rows of floats that lie in memory are multiplied where they are; others are
//!    decoded into a tile that stays in the L1 cache.
//! 4. Threads tell each other how good a row must be by now.
//! 5. What a bound needs of a row whatever the query is kept for later scans of the array ([`cvc_codec::TermsCache`]).
//! 6. Metrics that are not products, and values that f32 cannot hold, get exact scores for every row.

mod bounds;
mod candidates;
mod filters;
mod levels;
mod products;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use cvc_codec::ops::PayloadError;
use cvc_codec::ops::affine_u8::row_parameter;
use cvc_codec::ops::rotated::RotatedCodes;
use cvc_codec::{
    Affine, Backend, Batch, BlockRun, ChunkId, DType, DecodeError, DecodePlan, FirstError, Found, HostBuffer,
    Job, Load, Metric, Payloads, Queries, Rotation, RowSlice, Scan, ScanBatch, Sources, TERMS, TermsCache,
    TermsKey,
};

use crate::backend::{CpuBackend, Kept, for_each, rows_of_run, run_bytes};
use crate::ops;
use crate::ops::stores::Ordinary;
use bounds::{QueryTerms, RowTerms, RunTerms, float_error};
use candidates::Tile;
use filters::{Filters, OfChunk};
use products::{CodeColumns, CodeSums};

/// Runs that are listed at a time: some megabytes of list for half a gigabyte of codes.
const WINDOW: usize = 4096;

/// Runs that are announced to the source at a time, about a megabyte, as many before they are read.
const AHEAD: usize = 8;

/// Bytes of a tile of decoded floats: what stays in the L1 cache beside a part of a panel.
const TILE_LEN: usize = 24 << 10;

/// Rows that are decoded together for exact scores: as many as those of levels can be.
const DECODED_TOGETHER: usize = 16;

/// The most rows of a tile.
const TILE_ROWS: usize = 64;

impl Scan for CpuBackend {
    fn scan(
        &self,
        batch: &ScanBatch<'_>,
        src: &dyn Payloads,
        queries: &Queries<'_>,
        k: usize,
    ) -> Result<Found, DecodeError> {
        assert_eq!(batch.dim(), queries.dim(), "queries of the batch's dim");
        if queries.is_empty() || batch.dim() == 0 {
            return self.scan_nothing(batch, queries, k);
        }
        let filters = Filters::new(self.level(), queries);
        let shared = Shared::new(queries.len());
        let idle: Mutex<Vec<Worker>> = Mutex::default();
        let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner);
        let first_error = FirstError::default();
        let mut runs = runs(batch).peekable();
        while runs.peek().is_some() {
            let window: Vec<Run<'_>> = runs.by_ref().take(WINDOW).collect();
            for_each((0..window.len()).collect(), |at: usize| {
                let run = &window[at];
                if first_error.is_before(run.first_row()) {
                    return;
                }
                // Threads begin far from each other, where the system does not see that each goes straight on.
                if at.is_multiple_of(AHEAD) {
                    window[at..].iter().skip(AHEAD).take(AHEAD).for_each(|run| src.will_read(&run.blocks()));
                }
                let worker = idle().pop();
                let mut worker = worker.unwrap_or_else(|| Worker::new(queries.len(), k));
                let cache = batch.terms();
                let scanned =
                    Scanned { backend: self, queries, filters: &filters, shared: &shared, run, cache };
                if let Err(error) = scanned.scan(src, &mut worker) {
                    first_error.note(run.first_row(), error);
                }
                idle().push(worker);
            });
        }
        first_error.into_result()?;
        let mut found = Found::new(queries.len(), k);
        idle().iter().for_each(|worker| found.merge(&worker.found));
        Ok(found)
    }
}

impl CpuBackend {
    /// Rows without values, or no queries: there is nothing to read.
    fn scan_nothing(
        &self,
        batch: &ScanBatch<'_>,
        queries: &Queries<'_>,
        k: usize,
    ) -> Result<Found, DecodeError> {
        let mut found = Found::new(queries.len(), k);
        let row = RowSlice::from_bytes(batch.dtype(), 1, 0, &[]).expect("no bytes for no values");
        for query in 0..queries.len() {
            let score = queries.score(query, row);
            let rows = batch.jobs().iter().flat_map(|job| (job.first_row..).take(job.rows.len()));
            // They are all alike, so the first are the best.
            rows.take(k).for_each(|row| found.offer(queries.metric(), query, row, score));
        }
        Ok(found)
    }
}

/// Blocks side by side of one chunk, and the rows of them that are wanted.
struct Run<'p> {
    plan: &'p DecodePlan,
    chunk: ChunkId,
    blocks: Range<u32>,
    /// The rows wanted, counted from the start of the chunk, ascending; at least one range.
    rows: Vec<Range<u32>>,
    /// All rows of the run, wanted or not: every scan of the chunk has the same runs.
    span: Range<u32>,
    /// The number in the array of the chunk's first row.
    base: u64,
}

impl<'p> Run<'p> {
    fn blocks(&self) -> BlockRun<'p> {
        BlockRun { chunk: self.chunk, parts: self.plan.parts(), blocks: self.blocks.clone() }
    }

    fn first_row(&self) -> u64 {
        self.base + u64::from(self.rows[0].start)
    }
}

/// The jobs of a batch cut where runs end, those of one run together.
fn runs<'b, 'p>(batch: &'b ScanBatch<'p>) -> impl Iterator<Item = Run<'p>> + use<'b, 'p> {
    let pieces = batch.jobs().iter().filter(|job| !job.rows.is_empty()).flat_map(|job| {
        let of_run = match job.plan.load() {
            // It is needed as a whole.
            Load::DictPlanes => u32::MAX,
            _ => rows_of_run(job.plan),
        };
        let last = (job.rows.end - 1) / of_run;
        (job.rows.start / of_run..=last).map(move |run| {
            let start = job.rows.start.max(run * of_run);
            let end = job.rows.end.min((run * of_run).saturating_add(of_run));
            let base = job.first_row - u64::from(job.rows.start);
            let all = job.plan.shape().rows;
            let span = run * of_run..all.min((run * of_run).saturating_add(of_run));
            (job.plan, job.chunk, span, start..end, base)
        })
    });
    let mut pieces = pieces.peekable();
    std::iter::from_fn(move || {
        let (plan, chunk, span, rows, base) = pieces.next()?;
        let parts = plan.parts();
        let mut blocks = parts.blocks_of(rows.clone());
        let mut rows = vec![rows];
        // A run is read as a whole even if little of it is wanted, but not what is not a block's neighbour.
        while let Some((_, _, _, more, _)) = pieces.next_if(|(next_plan, next, next_span, more, _)| {
            *next == chunk
                && *next_span == span
                && core::ptr::eq(*next_plan, plan)
                && parts.blocks_of(more.clone()).start <= blocks.end
        }) {
            blocks.end = blocks.end.max(parts.blocks_of(more.clone()).end);
            match rows.last_mut() {
                Some(last) if last.end == more.start => last.end = more.end,
                _ => rows.push(more),
            }
        }
        Some(Run { plan, chunk, blocks, rows, span, base })
    })
}

/// How good a row must be for each query, as far as all threads know.
struct Shared {
    /// The goodness of a row, as integers in the same order.
    thresholds: Vec<AtomicU32>,
}

impl Shared {
    fn new(queries: usize) -> Self {
        let lowest = ordered(f32::NEG_INFINITY);
        Shared { thresholds: std::iter::repeat_with(|| AtomicU32::new(lowest)).take(queries).collect() }
    }

    fn raise(&self, query: usize, goodness: f32) {
        self.thresholds[query].fetch_max(ordered(goodness), Ordering::Relaxed);
    }

    /// It may be out of date, which only makes for more work.
    fn threshold(&self, query: usize) -> f32 {
        let bits = self.thresholds[query].load(Ordering::Relaxed);
        f32::from_bits(if bits >> 31 == 1 { bits & (u32::MAX >> 1) } else { !bits })
    }
}

/// An integer for a float that is not NaN: larger for larger ones.
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// What a thread keeps from run to run of one scan.
struct Worker {
    found: Found,
    /// Bounds below which rows are not good enough, for each sum of a row.
    thresholds: Vec<f32>,
    sums: Vec<f32>,
    /// What the terms of a run's rows are computed to.
    terms: Vec<f32>,
    squares: Vec<f32>,
    code_sums: Vec<CodeSums>,
    /// Rows of floats.
    tile: Vec<f32>,
    /// Rows of codes, where those at hand are not where they are needed.
    codes: Vec<u8>,
    /// Rows for exact scores, and their values.
    picked: Vec<u32>,
    values: Vec<f32>,
    /// Rows of any dtype. Words, for their alignment.
    words: Vec<u64>,
    /// Rows of a tile and queries that they may do for.
    candidates: Vec<(usize, usize)>,
    /// Those of them that still may after a closer look.
    looked_at: Vec<(usize, usize)>,
    /// What rotating rows back needs.
    rotated: ops::rotated::Scratch,
    /// The chunk of rotated rows at hand, and the products of rows with its centre.
    of_chunk: Option<OfChunk>,
    along_centre: Vec<f32>,
}

impl Worker {
    fn new(queries: usize, k: usize) -> Self {
        Worker {
            found: Found::new(queries, k),
            thresholds: Vec::new(),
            sums: Vec::new(),
            terms: Vec::new(),
            squares: Vec::new(),
            code_sums: Vec::new(),
            tile: Vec::new(),
            codes: Vec::new(),
            picked: Vec::new(),
            values: Vec::new(),
            words: Vec::new(),
            candidates: Vec::new(),
            looked_at: Vec::new(),
            rotated: ops::rotated::Scratch::default(),
            of_chunk: None,
            along_centre: Vec::new(),
        }
    }

    /// Learns how good rows must be by now.
    fn set_thresholds(&mut self, terms: &QueryTerms, shared: &Shared, width: usize) {
        self.thresholds.clear();
        self.thresholds.extend((0..width).map(|query| match self.found.tops.get(query) {
            Some(top) => terms.threshold(query, top.threshold().max(shared.threshold(query))),
            // What fills up a panel.
            None => f32::INFINITY,
        }));
    }
}

/// One run that is being scanned.
struct Scanned<'a> {
    backend: &'a CpuBackend,
    queries: &'a Queries<'a>,
    filters: &'a Filters<'a>,
    shared: &'a Shared,
    run: &'a Run<'a>,
    cache: Option<&'a TermsCache>,
}

impl Scanned<'_> {
    fn scan(&self, src: &dyn Payloads, worker: &mut Worker) -> Result<(), DecodeError> {
        let Run { plan, chunk, .. } = self.run;
        if matches!(plan.load(), Load::DictPlanes) {
            return self.decoded(src, worker);
        }
        let run = self.run.blocks();
        Kept::lend(|kept| {
            let bytes = run_bytes(&run, src, &mut kept.encoded);
            let bytes = bytes.map_err(|error| DecodeError::Source { chunk: *chunk, error })?;
            let sources = Sources::new(plan, &run, bytes, &mut kept.inflater, &mut kept.inflated);
            let scanned = sources.and_then(|sources| self.rows(&sources, worker));
            scanned.map_err(|error| DecodeError::Payload { chunk: *chunk, error })
        })
    }

    /// Scans the rows of a run.
    fn rows(&self, sources: &Sources<'_>, worker: &mut Worker) -> Result<(), PayloadError> {
        let plan = self.run.plan;
        if !self.queries.metric().is_of_products() || plan.out() != DType::F32 {
            return self.every(sources, worker);
        }
        let sums_fit = plan.dim() as usize <= CodeColumns::MAX_DIM;
        match plan.load() {
            Load::AffineU8(Affine::Row | Affine::Chunk { .. }) if sums_fit => self.codes(sources, worker),
            Load::Rotated { codes, rotation, centre } if sums_fit && plan.dim() == plan.shape().dim => {
                self.levels(sources, *codes, rotation, centre, worker)
            }
            _ => self.floats(sources, worker),
        }
    }

    /// Under which name the terms of the run are kept.
    fn terms_key(&self) -> TermsKey {
        // Those of both distances are the same.
        let metric = match self.queries.metric() {
            Metric::L2 => Metric::L2sq,
            metric => metric,
        };
        let Run { plan, chunk, span, .. } = self.run;
        TermsKey { chunk: *chunk, first_row: span.start, dim: plan.dim(), metric }
    }

    /// The terms of the run's rows, as far as they are known.
    fn start_terms(&self, worker: &mut Worker) -> RunTerms {
        let known = self.cache.and_then(|cache| cache.get(&self.terms_key()));
        RunTerms::new(self.run.span.clone(), known, std::mem::take(&mut worker.terms))
    }

    /// Keeps the terms of the run's rows for later scans, if all were computed.
    fn end_terms(&self, terms: RunTerms, worker: &mut Worker) {
        let all_computed = !terms.are_known() && self.run.rows == [self.run.span.clone()];
        worker.terms = terms.into_memory();
        if let Some(cache) = self.cache.filter(|_| all_computed) {
            cache.keep(self.terms_key(), &worker.terms[..TERMS * self.run.span.len()]);
        }
    }

    /// Rows of codes of a byte.
    fn codes(&self, sources: &Sources<'_>, worker: &mut Worker) -> Result<(), PayloadError> {
        let filter = self.filters.codes();
        let columns = &filter.columns;
        let (level, plan, metric) = (self.filters.level, self.run.plan, self.queries.metric());
        let (dim, stored) = (plan.dim() as usize, plan.shape().dim as usize);
        let stride = columns.stride();
        let mut terms = self.start_terms(worker);
        let mut rotated = std::mem::take(&mut worker.rotated);
        let mut padded = std::mem::take(&mut worker.codes);
        for rows in self.run.rows.iter().flat_map(|rows| tiles(rows.clone(), TILE_ROWS)) {
            let codes = sources.rows_of(0, rows.clone());
            let codes = if stored == stride && dim == stride {
                codes
            } else {
                // The padding is 0 and stays so.
                padded.resize(TILE_ROWS * stride, 0);
                for (padded, codes) in padded.chunks_exact_mut(stride).zip(codes.chunks_exact(stored)) {
                    padded[..dim].copy_from_slice(&codes[..dim]);
                }
                &padded[..rows.len() * stride]
            };
            worker.code_sums.resize(rows.len(), CodeSums::default());
            worker.sums.resize(rows.len() * columns.width(), 0.0);
            let code_sums = (!terms.are_known()).then_some(worker.code_sums.as_mut_slice());
            columns.products(level, codes, &mut worker.sums, code_sums);
            let of_row = |scale, min, sums: &CodeSums| RowTerms::of_codes(metric, dim, scale, min, *sums);
            match plan.load() {
                _ if terms.are_known() => {}
                Load::AffineU8(Affine::Chunk { scale, min }) => {
                    let sums = rows.clone().zip(&worker.code_sums);
                    sums.for_each(|(row, sums)| terms.set(row, of_row(*scale, *min, sums)));
                }
                _ => {
                    let of_rows = |source| sources.rows_of(source, rows.clone()).as_chunks::<4>().0;
                    let parameters = of_rows(2).iter().zip(of_rows(1)).zip(&worker.code_sums);
                    for (row, ((scale, min), sums)) in rows.clone().zip(parameters) {
                        let min = row_parameter(min, row, "minimum")?;
                        terms.set(row, of_row(row_parameter(scale, row, "scale")?, min, sums));
                    }
                }
            }
            let closer = |tile: &Tile<'_>, pair: (usize, usize), thresholds: &[f32]| {
                filter.may_do(level, codes, tile, pair, thresholds)
            };
            let queries = (&filter.terms, filter.terms.offset.as_slice());
            self.closely(rows, &terms, queries, closer, worker, |picked, values| {
                picked.iter().zip(values.chunks_exact_mut(dim)).try_for_each(|(row, values)| {
                    let (row, out) = (*row..row + 1, bytemuck::cast_slice_mut(values));
                    self.backend.load(plan, sources, row, 0..dim, Ordinary, &mut rotated, out)
                })
            })?;
        }
        worker.rotated = rotated;
        worker.codes = padded;
        self.end_terms(terms, worker);
        Ok(())
    }

    /// Rows of levels, which are multiplied where they were rotated to.
    fn levels(
        &self,
        sources: &Sources<'_>,
        codes: RotatedCodes,
        rotation: &Rotation,
        centre: &[f32],
        worker: &mut Worker,
    ) -> Result<(), PayloadError> {
        let (level, plan, metric) = (self.filters.level, self.run.plan, self.queries.metric());
        let (dim, line) = (plan.dim() as usize, levels::line(codes));
        let filter = self.filters.levels(codes, rotation);
        let columns = &filter.columns;
        let (stride, width) = (columns.stride(), columns.width());
        let of_chunk = worker.of_chunk.take().filter(|of_chunk| of_chunk.chunk == self.run.chunk);
        let mut of_chunk =
            of_chunk.unwrap_or_else(|| OfChunk::new(self.queries, self.run.chunk, centre, width));
        let mut bytes = std::mem::take(&mut worker.codes);
        let mut terms = self.start_terms(worker);
        let mut rotated = std::mem::take(&mut worker.rotated);
        let tile_rows = (TILE_LEN / stride).clamp(4, TILE_ROWS);
        for rows in self.run.rows.iter().flat_map(|rows| tiles(rows.clone(), tile_rows)) {
            bytes.resize(rows.len() * stride, 0);
            levels::unpack(level, codes, sources.rows_of(0, rows.clone()), dim, stride, &mut bytes);
            worker.code_sums.resize(rows.len(), CodeSums::default());
            worker.sums.resize(rows.len() * width, 0.0);
            let code_sums = (!terms.are_known()).then_some(worker.code_sums.as_mut_slice());
            columns.products(level, &bytes, &mut worker.sums, code_sums);
            if !terms.are_known() {
                let (centre, of_centre) = of_chunk.centre(level, codes, rotation, centre);
                worker.along_centre.clear();
                worker.along_centre.resize(rows.len() * 2, 0.0);
                if metric != Metric::Dot {
                    of_centre.products(level, &bytes, &mut worker.along_centre, None);
                }
                let of_rows = worker.code_sums.iter().zip(worker.along_centre.as_chunks().0);
                let scales = sources.rows_of(1, rows.clone()).as_chunks::<4>().0;
                for ((row, scale), (sums, along)) in rows.clone().zip(scales).zip(of_rows) {
                    let scale = row_parameter(scale, row, "scale")?;
                    let scale = f64::from(scale) * rotation.block() as f64;
                    terms.set(row, RowTerms::of_levels(metric, dim, line, scale, *sums, centre, *along));
                }
            }
            let closer = |tile: &Tile<'_>, pair: (usize, usize), thresholds: &[f32]| {
                filter.may_do(level, &bytes, tile, pair, thresholds)
            };
            let queries = (&filter.terms, of_chunk.offsets.as_slice());
            self.closely(rows, &terms, queries, closer, worker, |picked, values| {
                // Many at once take little longer than one, so they are put side by side.
                let packed = [0, 1].map(|source| {
                    let of_rows = picked.iter().map(|row| sources.rows_of(source, *row..row + 1));
                    of_rows.collect::<Vec<_>>().concat()
                });
                // Here, since there the rows would be counted as if they were neighbours.
                for (row, scale) in picked.iter().zip(packed[1].as_chunks::<4>().0) {
                    row_parameter(scale, *row, "scale")?;
                }
                let work = ops::rotated::Work { codes, rotation, centre };
                let (first, packed) = (picked.first().copied().unwrap_or(0), (&*packed[0], &*packed[1]));
                ops::rotated::rotated(level, work, first, packed, 0..dim, &mut rotated, values)
            })?;
        }
        worker.rotated = rotated;
        worker.codes = bytes;
        worker.of_chunk = Some(of_chunk);
        self.end_terms(terms, worker);
        Ok(())
    }

    /// Rows that are decoded to floats.
    fn floats(&self, sources: &Sources<'_>, worker: &mut Worker) -> Result<(), PayloadError> {
        let (columns, queries) = self.filters.floats();
        let (level, plan, metric) = (self.filters.level, self.run.plan, self.queries.metric());
        let dim = plan.dim() as usize;
        let error = float_error(dim);
        let in_place = |rows: Range<u32>| -> Option<&[f32]> {
            let as_they_are = cfg!(target_endian = "little")
                && matches!(plan.load(), Load::Copy(DType::F32))
                && plan.dim() == plan.shape().dim;
            if as_they_are { bytemuck::try_cast_slice(sources.rows_of(0, rows)).ok() } else { None }
        };
        let halves = |rows: Range<u32>| -> Option<&[[u8; 2]]> {
            let as_they_are = matches!(plan.load(), Load::WidenF16) && plan.dim() == plan.shape().dim;
            as_they_are.then(|| sources.rows_of(0, rows).as_chunks().0)
        };
        // Rows that come from memory once and are not decoded need not fit the cache.
        let none = self.run.rows[0].start..self.run.rows[0].start;
        let one_pass = columns.are_few() && in_place(none.clone()).is_some()
            || halves(none).is_some_and(|none| columns.products_of_halves(level, none, &mut [], None));
        let tile_rows = if one_pass { TILE_ROWS } else { (TILE_LEN / (dim * 4)).clamp(4, TILE_ROWS) };
        let mut terms = self.start_terms(worker);
        let mut tile = std::mem::take(&mut worker.tile);
        let mut rotated = std::mem::take(&mut worker.rotated);
        for rows in self.run.rows.iter().flat_map(|rows| tiles(rows.clone(), tile_rows)) {
            worker.squares.resize(rows.len(), 0.0);
            worker.sums.resize(rows.len() * columns.width(), 0.0);
            let sums = &mut worker.sums;
            let mut squares = (!terms.are_known()).then_some(worker.squares.as_mut_slice());
            let of_halves = halves(rows.clone()).is_some_and(|halves| {
                columns.products_of_halves(level, halves, sums, squares.as_deref_mut())
            });
            let values = match in_place(rows.clone()) {
                _ if of_halves => &[],
                Some(values) => values,
                None => {
                    tile.resize(rows.len() * dim, 0.0);
                    let out = bytemuck::cast_slice_mut(&mut tile);
                    self.backend.load(plan, sources, rows.clone(), 0..dim, Ordinary, &mut rotated, out)?;
                    tile.as_slice()
                }
            };
            if !of_halves {
                columns.products(level, values, sums, squares);
            }
            if !terms.are_known() {
                let squares = rows.clone().zip(&worker.squares);
                squares
                    .for_each(|(row, squares)| terms.set(row, RowTerms::of_floats(metric, *squares, error)));
            }
            let start = rows.start;
            let queries = (queries, queries.offset.as_slice());
            self.closely(
                rows,
                &terms,
                queries,
                |_, _, _| true,
                worker,
                |picked, out| {
                    picked.iter().zip(out.chunks_exact_mut(dim)).try_for_each(|(row, out)| {
                        let at = (row - start) as usize * dim;
                        match values.get(at..at + dim) {
                            Some(values) => out.copy_from_slice(values),
                            None => {
                                let (row, out) = (*row..row + 1, bytemuck::cast_slice_mut(out));
                                self.backend.load(plan, sources, row, 0..dim, Ordinary, &mut rotated, out)?;
                            }
                        }
                        Ok(())
                    })
                },
            )?;
        }
        worker.tile = tile;
        worker.rotated = rotated;
        self.end_terms(terms, worker);
        Ok(())
    }

    /// Gives exact scores to those rows of a tile that may be good enough, whose sums are those of the worker.
    fn closely(
        &self,
        rows: Range<u32>,
        of_run: &RunTerms,
        (queries, offsets): (&QueryTerms, &[f32]),
        closer: impl Fn(&Tile<'_>, (usize, usize), &[f32]) -> bool,
        worker: &mut Worker,
        mut decode: impl FnMut(&[u32], &mut [f32]) -> Result<(), PayloadError>,
    ) -> Result<(), PayloadError> {
        let dim = self.run.plan.dim() as usize;
        worker.set_thresholds(queries, self.shared, offsets.len());
        let Worker { found, thresholds, sums, picked, values, candidates, looked_at, .. } = &mut *worker;
        let tile = Tile { terms: of_run.of_rows(rows.clone()), products: sums, queries, offsets };
        tile.candidates(self.filters.level, thresholds, candidates);
        let row = |at: usize| rows.start + u32::try_from(at).expect("a row of a tile");
        let mut rest = candidates.as_slice();
        while !rest.is_empty() {
            let of_rows = rest.chunk_by(|(row, _), (next, _)| row == next).take(DECODED_TOGETHER);
            let (pairs, after) = rest.split_at(of_rows.map(<[_]>::len).sum());
            rest = after;
            looked_at.clear();
            looked_at.extend(pairs.iter().copied().filter(|(at, query)| {
                // What fills up a panel is no query, and the rows before may have raised what is wanted.
                *query < self.queries.len()
                    && tile.may_do(*at, *query, thresholds)
                    && closer(&tile, (*at, *query), thresholds)
            }));
            picked.clear();
            picked.extend(looked_at.iter().map(|(at, _)| row(*at)));
            picked.dedup();
            values.resize(picked.len() * dim, 0.0);
            decode(picked, values)?;
            for (at, query) in looked_at.iter().copied() {
                if tile.may_do(at, query, thresholds) {
                    let place = picked.binary_search(&row(at)).expect("all rows that were looked at");
                    let values = RowSlice::new(&values[place * dim..][..dim], dim).expect("one row");
                    self.offer(found, query, row(at), values);
                    let worst = found.tops[query].threshold();
                    thresholds[query] = queries.threshold(query, worst).max(thresholds[query]);
                }
            }
        }
        Ok(())
    }

    fn offer(&self, found: &mut Found, query: usize, row: u32, values: RowSlice<'_>) {
        let before = found.tops[query].threshold();
        let score = self.queries.score(query, values);
        found.offer(self.queries.metric(), query, self.run.base + u64::from(row), score);
        let worst = found.tops[query].threshold();
        if worst > before {
            self.shared.raise(query, worst);
        }
    }

    /// Rows that all get exact scores.
    fn every(&self, sources: &Sources<'_>, worker: &mut Worker) -> Result<(), PayloadError> {
        let plan = self.run.plan;
        let dim = plan.dim() as usize;
        let row_len = dim * plan.out().size();
        let mut words = std::mem::take(&mut worker.words);
        words.resize(row_len.div_ceil(8), 0);
        let out = &mut bytemuck::cast_slice_mut(&mut words)[..row_len];
        for row in self.run.rows.iter().flat_map(Clone::clone) {
            self.backend.load(plan, sources, row..row + 1, 0..dim, Ordinary, &mut worker.rotated, out)?;
            let values = RowSlice::from_bytes(plan.out(), 1, dim, out).expect("one row of the plan");
            for query in 0..self.queries.len() {
                self.offer(&mut worker.found, query, row, values);
            }
        }
        worker.words = words;
        Ok(())
    }

    /// Rows that cannot be had without their whole chunk: they are decoded, and get exact scores.
    fn decoded(&self, src: &dyn Payloads, worker: &mut Worker) -> Result<(), DecodeError> {
        let Run { plan, chunk, rows, .. } = self.run;
        let dim = plan.dim() as usize;
        for rows in rows {
            let job = Job { plan, chunk: *chunk, rows: rows.clone(), dst_row: 0 };
            let batch = Batch::new(vec![job], rows.len() as u64, plan.dim(), DType::F32).expect("one job");
            let mut tile = vec![0f32; rows.len() * dim];
            self.backend.decode(&batch, src, &mut HostBuffer::fresh(&mut tile))?;
            for (row, values) in rows.clone().zip(tile.chunks_exact(dim)) {
                let values = RowSlice::new(values, dim).expect("one row");
                for query in 0..self.queries.len() {
                    self.offer(&mut worker.found, query, row, values);
                }
            }
        }
        Ok(())
    }
}

/// Rows in parts of at most so many.
fn tiles(rows: Range<u32>, most: usize) -> impl Iterator<Item = Range<u32>> {
    let tail = u32::try_from(most).expect("a few rows");
    let Range { start, end } = rows;
    (start..end).step_by(most).map(move |start| start..end.min(start.saturating_add(tail)))
}
