//! Searching: bounds and the best of them on the device, exact scores on the host ([`cvc_codec::filter`]).
//!
//! ```text
//! for stage in rows { decode it into memory of the device; scan_bounds; scan_best; read back a few rows }
//! ```
//!
//! 1. Rows travel encoded and are decoded on the device, by the pipeline that decodes for everybody ([`crate::backend`]), into memory that is used for one stage
//!    after another. Only there do they exist as floats, some tens of megabytes at a time.
//! 2. There are two such memories: while the device works on the bounds of one stage, the host reads the next one, which is decoded into the
//!    other. The queue keeps the order.
//! 3. What comes back is a record for each query; then the values of those rows that are to be scored, copied out of the memory of their stage.
//! 4. Metrics that do not follow from products, and dtypes other than f32, are searched on the host, by the reference.

use std::num::NonZero;
use std::ops::Range;

use cvc_codec::filter::{self, Filter, FilterDevice, Most, Room};
use cvc_codec::{
    Backend as _, Batch, DType, DecodeError, DeviceMemory as _, Found, Payloads, Queries, ReferenceBackend,
    Scan, ScanBatch,
};
use wgpu::BufferUsages;

use crate::backend::{WgpuBackend, from_little_endian};
use crate::buffer::WgpuBuffer;
use crate::gpu::Mapping;
use crate::pipelines::{Form, Shader};
use crate::ring::READBACK_LEN;
use crate::shaders::{self, scan};
use crate::stages::{word, workgroups};

/// Bytes of a memory for decoded rows, unless a row is longer or a binding may not be so long. There are two.
const DECODED_LEN: u64 = 32 << 20;

/// Bytes of the keys of a stage.
const KEYS_LEN: u64 = 32 << 20;

/// Bytes of the queries that are asked together.
const QUERIES_LEN: u64 = 16 << 20;

impl Scan for WgpuBackend {
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
        // What goes with a query must be bound with it; a row and what goes with that is shorter by a little.
        let query_len = 4 * (scan::ASKED_WORDS as u64 + 2 + u64::from(batch.dim()));
        let filter = Filter::new(queries, batch.dtype()).ok().filter(|_| query_len <= self.binding_len());
        let Some(filter) = filter else {
            return ReferenceBackend::default().scan(batch, src, queries, k);
        };
        if batch.jobs().iter().all(|job| job.rows.is_empty()) {
            return Ok(Found::new(queries.len(), k));
        }
        let within = |len: u64| len.min(self.binding_len());
        let most = Most {
            decoded_len: within(DECODED_LEN),
            keys_len: within(KEYS_LEN),
            best_len: within(READBACK_LEN),
            queries_len: within(QUERIES_LEN.max(query_len)) - 4 * scan::ASKED_WORDS as u64,
        };
        let room = Room::new(&filter, k, most);
        let mut search = Search::new(self, src, &filter, room, batch)?;
        filter::scan(&filter, room, batch, k, &mut search)
    }
}

/// One search, and its memory on the device.
struct Search<'s> {
    backend: &'s WgpuBackend,
    src: &'s dyn Payloads,
    filter: &'s Filter<'s>,
    room: Room,
    dim: u32,
    decoded: [WgpuBuffer; 2],
    asked: wgpu::Buffer,
    keys: wgpu::Buffer,
    best: wgpu::Buffer,
    /// The queries that are on the device.
    there: Range<usize>,
    /// Rows of the stage that was asked for last.
    rows: u32,
    /// The answer on its way.
    on_its_way: Option<(wgpu::Buffer, Mapping)>,
}

impl<'s> Search<'s> {
    fn new(
        backend: &'s WgpuBackend,
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
        let queries = room.queries as u64;
        let buffer = |label, words: u64, usage| {
            backend.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: 4 * words,
                usage: BufferUsages::STORAGE | usage,
                mapped_at_creation: false,
            })
        };
        let asked_words = scan::ASKED_WORDS as u64 + queries * (2 + u64::from(dim));
        let best_words = queries * Room::record_words(room.kept.into());
        let [asked, keys, best] = backend.on_device(|| {
            Ok([
                buffer("cvc asked", asked_words, BufferUsages::COPY_DST),
                buffer("cvc keys", queries * rows, BufferUsages::COPY_SRC),
                buffer("cvc best", best_words, BufferUsages::COPY_SRC),
            ])
        })?;
        let (there, rows, on_its_way) = (0..0, 0, None);
        Ok(Search { backend, src, filter, room, dim, decoded, asked, keys, best, there, rows, on_its_way })
    }

    /// Writes what changes from stage to stage, and the queries if they are not those that are there.
    fn write(&mut self, queries: &Range<usize>, thresholds: &[u32]) {
        let mut header = [0; scan::ASKED_WORDS];
        header[scan::ROWS] = self.rows;
        header[scan::DIM] = self.dim;
        header[scan::QUERIES] = word(queries.len() as u64);
        header[scan::RULE] = self.filter.rule() as u32;
        header[scan::KEEP] = self.filter.keep().to_bits();
        header[scan::KEPT] = self.room.kept;
        let mut words = header.to_vec();
        words.extend(thresholds);
        if self.there != *queries {
            self.there = queries.clone();
            words.extend(queries.clone().map(|query| self.filter.slack(query).to_bits()));
            for query in queries.clone() {
                match self.filter.values(query) {
                    Some(values) => words.extend(values.iter().map(|value| value.to_bits())),
                    None => words.resize(words.len() + self.dim as usize, 0),
                }
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.backend.gpu.queue.write_buffer(&self.asked, 0, &bytes);
    }

    /// Has a shader run with these buffers, in the order of its bindings.
    fn dispatch(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        shader: &Shader,
        buffers: [(&wgpu::Buffer, u64); 3],
        groups: u32,
    ) {
        let device = &self.backend.gpu.device;
        let pipeline = self.backend.pipelines.get(device, shader, Form::alone(shader));
        let entries: Vec<_> = shader
            .bindings
            .iter()
            .zip(buffers)
            .map(|(binding, (buffer, len))| {
                let resource = wgpu::BufferBinding { buffer, offset: 0, size: NonZero::new(len) };
                wgpu::BindGroupEntry {
                    binding: binding.number,
                    resource: wgpu::BindingResource::Buffer(resource),
                }
            })
            .collect();
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        let most = self.backend.limits.max_compute_workgroups_per_dimension;
        // Those that are too many are done by the others in turn.
        let (x, y) = workgroups(groups, most);
        pass.dispatch_workgroups(x, y.min(most), 1);
    }

    /// Copies parts of a buffer to the host, one after another.
    fn fetch(
        &self,
        from: &wgpu::Buffer,
        parts: impl IntoIterator<Item = Range<u64>>,
        into: &mut [u8],
    ) -> Result<(), DecodeError> {
        let backend = self.backend;
        let mut parts = parts.into_iter().peekable();
        let mut at = 0;
        backend.on_device(|| {
            while parts.peek().is_some() {
                let buffer = backend.idle.readback(&backend.gpu);
                let mut encoder = backend.gpu.device.create_command_encoder(&Default::default());
                let mut len = 0;
                while let Some(part) = parts.peek_mut() {
                    let here = part.start..part.end.min(part.start + READBACK_LEN - len);
                    encoder.copy_buffer_to_buffer(from, here.start, &buffer, len, here.end - here.start);
                    len += here.end - here.start;
                    part.start = here.end;
                    if !part.is_empty() {
                        break;
                    }
                    parts.next();
                }
                let submission = backend.gpu.queue.submit([encoder.finish()]);
                let mapping = backend.gpu.map(&buffer, wgpu::MapMode::Read, submission);
                let end = at + usize::try_from(len).expect("megabytes");
                backend.copy_out((buffer, mapping, &mut into[at..end]))?;
                at = end;
            }
            Ok(())
        })
    }
}

impl FilterDevice for Search<'_> {
    fn decode(&mut self, turn: usize, batch: &Batch<'_>) -> Result<(), DecodeError> {
        // The last stage has fewer rows than there is room for.
        let whole = &mut self.decoded[turn];
        let mut part = whole.first(batch.rows() * u64::from(batch.dim()));
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
        let count = word(queries.len() as u64);
        let backend = self.backend;
        let on_its_way = backend.on_device(|| {
            self.write(&queries, thresholds);
            let (rows_len, dim) = (4 * u64::from(rows), u64::from(self.dim));
            let asked = (&self.asked, 4 * (scan::ASKED_WORDS as u64 + u64::from(count) * (2 + dim)));
            let decoded = (self.decoded[turn].buffer(), rows_len * dim);
            let keys = (&self.keys, rows_len * u64::from(count));
            let best_len = 4 * u64::from(count) * Room::record_words(self.room.kept.into());
            let best = (&self.best, best_len);
            let mut encoder = backend.gpu.device.create_command_encoder(&Default::default());
            let tiles =
                rows.div_ceil(word(scan::TILE_ROWS as u64)) * count.div_ceil(word(scan::TILE_QUERIES as u64));
            self.dispatch(&mut encoder, &shaders::SCAN_BOUNDS, [asked, decoded, keys], tiles);
            self.dispatch(&mut encoder, &shaders::SCAN_BEST, [asked, keys, best], count);
            let buffer = backend.idle.readback(&backend.gpu);
            encoder.copy_buffer_to_buffer(&self.best, 0, &buffer, 0, best_len);
            let submission = backend.gpu.queue.submit([encoder.finish()]);
            let mapping = backend.gpu.map(&buffer, wgpu::MapMode::Read, submission);
            Ok((buffer, mapping))
        })?;
        self.on_its_way = Some(on_its_way);
        Ok(())
    }

    fn best(&mut self) -> Result<Vec<u32>, DecodeError> {
        let (buffer, mapping) = self.on_its_way.take().expect("it was asked for");
        let words =
            self.there.len() * usize::try_from(Room::record_words(self.room.kept.into())).expect("megabytes");
        let mut bytes = vec![0; 4 * words];
        self.backend.on_device(|| self.backend.copy_out((buffer, mapping, &mut bytes)))?;
        Ok(words_of(&bytes))
    }

    fn keys(&mut self, query: usize) -> Result<Vec<u32>, DecodeError> {
        let len = 4 * u64::from(self.rows);
        let start = query as u64 * len;
        let mut bytes = vec![0; 4 * self.rows as usize];
        self.fetch(&self.keys, [start..start + len], &mut bytes)?;
        Ok(words_of(&bytes))
    }

    fn values(&mut self, turn: usize, rows: &[u32], into: &mut [f32]) -> Result<(), DecodeError> {
        let row_len = 4 * u64::from(self.dim);
        // Neighbours are copied together.
        let runs = rows.chunk_by(|row, next| row + 1 == *next).map(|run| {
            let start = u64::from(run[0]) * row_len;
            start..start + run.len() as u64 * row_len
        });
        let bytes = bytemuck::cast_slice_mut(into);
        self.fetch(self.decoded[turn].buffer(), runs, bytes)?;
        from_little_endian(bytes, DType::F32);
        Ok(())
    }
}

fn words_of(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
