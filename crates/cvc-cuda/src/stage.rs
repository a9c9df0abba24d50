//! Lays out a slot: encoded bytes as they are read, lanes inflated, parameters, and the pieces that kernels are given.
//!
//! ```text
//! slot: [bytes of run 0][tables of run 0][bytes of run 1] ... [pieces]
//! ```
//!
//! Bytes of a run begin where the first piece's source and destination are aligned alike, so that kernels load it with
//! their widest accesses. Everything has an address on the device before it is there: the slot's, plus where it lies. What kernels leave
//! to others is in memory of its own, which is not copied.

use std::collections::HashMap;
use std::ops::Range;

use cvc_codec::ops::DictPlanes;
use cvc_codec::ops::affine_u8::row_parameter;
use cvc_codec::rotation::Rotation;
use cvc_codec::{Affine, BlockRun, DecodeError, DecodePlan, Inflater, Load, Payloads, RunBytes, Sources};

use crate::driver::Region;
use crate::kernels::{self, ROTATED_LEVELS};
use crate::launch::{BEYOND, Dictionary, MAX_VALUES, Piece, Pieces, Plane};
use crate::unit::{Run, Span, row_len, turned_row_len};

/// What everything in a slot is aligned for.
const ALIGNMENT: usize = 16;

/// What a worker inflates with and into.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) encoded: Vec<u8>,
    inflated: Vec<u8>,
    inflater: Inflater,
}

/// A slot that was laid out.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) pieces: Pieces,
    /// Bytes to be copied.
    pub(crate) len: usize,
    /// Where the lists of pieces will be on the device.
    pub(crate) lists: u64,
}

/// A slot as it is being laid out.
pub(crate) struct Layout<'a> {
    host: &'a mut [u8],
    device: u64,
    at: usize,
    dst: Region,
    /// Where kernels leave what others take up, and how many bytes of it are taken.
    between: Region,
    between_at: u64,
    pieces: Pieces,
    /// Where the parameters of a plan are, if it has any.
    of_plans: HashMap<*const DecodePlan, [u64; 2]>,
}

impl<'a> Layout<'a> {
    /// An empty slot: its pinned memory, where that will be on the device, the destination, and [`between`] bytes.
    pub(crate) fn new(host: &'a mut [u8], device: Region, dst: Region, between: Region) -> Self {
        let (pieces, of_plans) = (Pieces::new(device, dst, between), HashMap::new());
        let device = device.start();
        Layout { host, device, at: 0, dst, between, between_at: 0, pieces, of_plans }
    }

    /// Writes the lists of pieces after everything else.
    pub(crate) fn finish(mut self) -> Staged {
        let lists = self.reserve(self.pieces.byte_len(), 0);
        self.pieces.write(&mut self.host[lists.clone()]);
        Staged { pieces: self.pieces, len: lists.end, lists: self.device + lists.start as u64 }
    }

    /// The next `len` bytes, from a place on that is `offset` after a multiple of [`ALIGNMENT`], and room beyond them.
    fn reserve(&mut self, len: usize, offset: usize) -> Range<usize> {
        let start = self.at.next_multiple_of(ALIGNMENT) + offset;
        self.at = start + len + BEYOND;
        assert!(self.at <= self.host.len(), "a slot of {} bytes is too short", self.host.len());
        start..start + len
    }

    /// The address of the next `len` bytes that kernels leave to others.
    fn reserve_between(&mut self, len: u64) -> u64 {
        let start = self.between_at;
        self.between_at = (start + len).next_multiple_of(ALIGNMENT as u64);
        self.between.start() + start
    }

    /// Puts bytes into the slot and gives their address on the device.
    fn put(&mut self, bytes: impl ExactSizeIterator<Item = u8>) -> u64 {
        let place = self.reserve(bytes.len(), 0);
        let start = place.start;
        self.host[place].iter_mut().zip(bytes).for_each(|(into, byte)| *into = byte);
        self.device + start as u64
    }

    /// Reads a run and adds its pieces.
    ///
    /// # Errors
    /// The source fails, or the bytes are damaged.
    pub(crate) fn run(
        &mut self,
        run: &Run<'_>,
        src: &dyn Payloads,
        scratch: &mut Scratch,
    ) -> Result<(), DecodeError> {
        let Span { chunk, plan, .. } = run.spans[0];
        let blocks = BlockRun { chunk, parts: plan.parts(), blocks: run.blocks.clone() };
        let first = &run.spans[0];
        let skipped = (first.rows.start - blocks.rows().start) as usize * plan.widths()[0] as usize;
        let offset = (self.lead(plan, first.dst_row) + ALIGNMENT - skipped % ALIGNMENT) % ALIGNMENT;
        let matrices = if plan.parts().lanes().is_empty() {
            self.fields(&blocks, offset, src)?
        } else {
            self.inflated(plan, &blocks, offset, src, scratch)?
        };
        for span in &run.spans {
            self.span(span, blocks.rows().start, &matrices)?;
        }
        Ok(())
    }

    /// Bytes of a source between the start of the line of the destination that a row begins in, and the row.
    fn lead(&self, plan: &DecodePlan, dst_row: u64) -> usize {
        let kernel = kernels::of(plan);
        let at = self.dst.start() + dst_row * u64::from(plan.dim()) * plan.out().size() as u64;
        let values = at % ALIGNMENT as u64 / u64::from(kernel.size);
        usize::try_from(values).expect("below 16") * kernel.source_size as usize
    }

    /// Reads fields to where they are to be: each a matrix of rows.
    fn fields(
        &mut self,
        blocks: &BlockRun<'_>,
        offset: usize,
        src: &dyn Payloads,
    ) -> Result<Vec<usize>, DecodeError> {
        let place = self.reserve(blocks.byte_len(), offset);
        let chunk = blocks.chunk;
        src.read(blocks, &mut self.host[place.clone()])
            .map_err(|error| DecodeError::Source { chunk, error })?;
        let mut start = place.start;
        Ok(blocks
            .ranges()
            .map(|range| {
                let this = start;
                start += usize::try_from(range.end - range.start).expect("as long as what was read");
                this
            })
            .collect())
    }

    /// Reads a run whose lanes are streams, and inflates them.
    fn inflated(
        &mut self,
        plan: &DecodePlan,
        blocks: &BlockRun<'_>,
        offset: usize,
        src: &dyn Payloads,
        scratch: &mut Scratch,
    ) -> Result<Vec<usize>, DecodeError> {
        let chunk = blocks.chunk;
        scratch.encoded.resize(blocks.byte_len(), 0);
        src.read(blocks, &mut scratch.encoded).map_err(|error| DecodeError::Source { chunk, error })?;
        let bytes = RunBytes::Ranges(&scratch.encoded);
        let sources = Sources::new(plan, blocks, bytes, &mut scratch.inflater, &mut scratch.inflated)
            .map_err(|error| DecodeError::Payload { chunk, error })?;
        let matrices = (0..plan.widths().len()).map(|source| {
            let rows = sources.rows_of(source, blocks.rows());
            let place = self.reserve(rows.len(), offset);
            self.host[place.clone()].copy_from_slice(rows);
            place.start
        });
        Ok(matrices.collect())
    }

    /// Adds the pieces of a span, whose sources begin at `matrices` with row `first_row`.
    fn span(&mut self, span: &Span<'_>, first_row: u32, matrices: &[usize]) -> Result<(), DecodeError> {
        let plan = span.plan;
        let kernel = kernels::of(plan);
        let widths = plan.widths();
        let skipped = (span.rows.start - first_row) as usize;
        // Where the first row that is wanted begins in a source.
        let source = |source: usize| matrices[source] + skipped * widths[source] as usize;
        let device = self.device;
        let address = |at: usize| device + at as u64;
        let rows = u32::try_from(span.rows.len()).expect("rows of a chunk");
        // What the kernel calls a value; where bytes are copied, a byte.
        let dim = plan.dim() * (u32::try_from(plan.out().size()).expect("at most 16") / kernel.size);
        let mut piece = Piece {
            src: address(source(0)),
            dst: self.dst.start() + span.dst_row * u64::from(dim) * u64::from(kernel.size),
            rows,
            dim,
            stride: widths[0],
            ..Piece::default()
        };
        match plan.load() {
            Load::Copy(_) | Load::WidenF16 | Load::WidenBf16 => {}
            Load::AffineU8(Affine::Chunk { scale, min }) => {
                (piece.scale, piece.min) = (scale.to_bits(), min.to_bits());
            }
            Load::AffineU8(Affine::Dim { scale, min }) => {
                let found = self.of_plans.get(&core::ptr::from_ref(plan)).copied();
                let [scale, min] = found.unwrap_or_else(|| [self.put_f32s(scale), self.put_f32s(min)]);
                self.of_plans.insert(core::ptr::from_ref(plan), [scale, min]);
                let len = 4 * u64::from(plan.shape().dim);
                self.pieces.check_aux(scale, len);
                self.pieces.check_aux(min, len);
                (piece.aux, piece.aux2) = (scale, min);
            }
            Load::AffineU8(Affine::Row) => {
                let (min, scale) = (source(1), source(2));
                self.check_rows(span, &[(min, "minimum"), (scale, "scale")])?;
                (piece.aux, piece.aux2) = (address(scale), address(min));
                self.pieces.check_aux(piece.aux, 4 * u64::from(rows));
                self.pieces.check_aux(piece.aux2, 4 * u64::from(rows));
            }
            Load::LutU8(table) => {
                let found = self.of_plans.get(&core::ptr::from_ref(plan)).copied();
                let [table, _] = found.unwrap_or_else(|| [self.put_f32s(table.as_slice()), 0]);
                self.of_plans.insert(core::ptr::from_ref(plan), [table, 0]);
                self.pieces.check_aux(table, 4 * 256);
                piece.aux = table;
            }
            Load::JoinPlanes { dtype, coded } => {
                let width = plan.shape().dim as usize;
                // The lanes are the last sources.
                let (mut stored, mut lane) = (0, widths.len() - coded.count_ones() as usize);
                let planes: Vec<Plane> = (0..dtype.size())
                    .map(|p| {
                        let (at, of) = if coded >> p & 1 == 1 {
                            lane += 1;
                            (source(lane - 1), lane - 1)
                        } else {
                            stored += 1;
                            (source(0) + (stored - 1) * width, 0)
                        };
                        let stride = u64::from(widths[of]);
                        let len = u64::from(rows - 1) * stride + u64::from(dim);
                        self.pieces.check_aux(address(at), len);
                        Plane { src: address(at), stride }
                    })
                    .collect();
                let bytes: Vec<u8> = planes.iter().flat_map(Plane::bytes).collect();
                piece.aux = self.put(bytes.into_iter());
            }
            Load::Rotated { codes, rotation, centre } => {
                let scale = source(1);
                self.check_rows(span, &[(scale, "scale")])?;
                let found = self.of_plans.get(&core::ptr::from_ref(plan)).copied();
                let [table, _] = found.unwrap_or_else(|| [self.put_rotation(rotation, centre), 0]);
                self.of_plans.insert(core::ptr::from_ref(plan), [table, 0]);
                self.pieces.check_aux(table, rotation_len(plan) as u64);
                let turned = self.reserve_between(span.rows.len() as u64 * turned_row_len(plan));
                let bits = codes.bits();
                let levels = Piece { dst: turned, aux2: table, dim: plan.shape().dim, scale: bits, ..piece };
                self.pieces.push(ROTATED_LEVELS, levels, u64::from(rows) * u64::from(widths[0]));
                (piece.src, piece.stride) = (turned, 2 * plan.shape().dim);
                (piece.aux, piece.aux2) = (address(scale), table);
                self.pieces.check_aux(piece.aux, 4 * u64::from(rows));
            }
            Load::DictPlanes => unreachable!("a unit of its own"),
        }
        if plan.rows_are_alike() && u64::from(rows) * u64::from(dim) <= u64::from(MAX_VALUES) {
            (piece.rows, piece.dim) = (1, rows * dim);
        }
        let row_len = match plan.load() {
            Load::JoinPlanes { .. } => piece.dim,
            // Every value of a row depends on all of it.
            Load::Rotated { .. } => piece.stride,
            _ => piece.dim * kernel.source_size,
        };
        let source_len = u64::from(piece.rows - 1) * u64::from(piece.stride) + u64::from(row_len);
        self.pieces.push(kernel, piece, source_len);
        Ok(())
    }

    fn put_f32s(&mut self, values: &[f32]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        self.put(bytes.into_iter())
    }

    /// Puts what kernels of rotated rows need of a plan: the centre, then the signs of both rounds, in words.
    fn put_rotation(&mut self, rotation: &Rotation, centre: &[f32]) -> u64 {
        let word = |signs: &[i16]| {
            signs.iter().zip(0..).fold(0u32, |word, (sign, bit)| word | u32::from(*sign > 0) << bit)
        };
        let signs = [0, 1].into_iter().flat_map(|round| rotation.signs(round).chunks(32).map(word));
        let centre = centre.iter().flat_map(|value| value.to_ne_bytes());
        let bytes: Vec<u8> = centre.chain(signs.flat_map(u32::to_ne_bytes)).collect();
        self.put(bytes.into_iter())
    }

    /// Refuses rows with a parameter that is not finite, of those that begin at the places and have the names.
    fn check_rows(&self, span: &Span<'_>, parameters: &[(usize, &'static str)]) -> Result<(), DecodeError> {
        let chunk = span.chunk;
        for (row, at) in span.rows.clone().zip((0..).step_by(4)) {
            for (start, what) in parameters {
                row_parameter(&self.host[start + at..][..4], row, what)
                    .map_err(|error| DecodeError::Payload { chunk, error })?;
            }
        }
        Ok(())
    }

    /// Adds values of a payload of dictionaries, which go to destination value `dst_value` on.
    pub(crate) fn dictionaries(
        &mut self,
        plan: &DecodePlan,
        planes: &DictPlanes<'_>,
        values: Range<u64>,
        dst_value: u64,
        flag: u64,
    ) {
        let kernel = kernels::of(plan);
        let count = u32::try_from(values.end - values.start).expect("a window of values");
        let mut src = 0;
        let tables: Vec<u8> = planes
            .planes()
            .into_iter()
            .flat_map(|(bits, entries, entry_count, codes)| {
                let first_bit = values.start * u64::from(bits);
                let end = (values.end * u64::from(bits)).div_ceil(8);
                let index = |byte: u64| usize::try_from(byte).expect("codes are in memory");
                let codes = &codes[index(first_bit / 8)..index(end)];
                src = self.put(codes.iter().copied());
                self.pieces.check_aux(src, codes.len() as u64);
                let entries = self.put(entries.iter().copied());
                let shift = u32::try_from(first_bit % 8).expect("below 8");
                Dictionary { codes: src, entries, count: entry_count.into(), bits: bits.into(), shift }
                    .bytes()
            })
            .collect();
        let aux = self.put(tables.into_iter());
        let dst = self.dst.start() + dst_value * u64::from(kernel.size);
        let piece = Piece { src, dst, aux, aux2: flag, rows: 1, dim: count, ..Piece::default() };
        // The first source is a list of codes, which were checked above.
        self.pieces.push(kernel, piece, 0);
    }
}

/// Bytes of what [`Layout::put_rotation`] puts.
fn rotation_len(plan: &DecodePlan) -> usize {
    let dim = plan.shape().dim as usize;
    4 * (dim + 2 * dim.div_ceil(32))
}

/// Bytes that the kernels of runs leave to each other.
pub(crate) fn between(runs: &[Run<'_>]) -> usize {
    let len = |span: &Span<'_>| {
        (span.rows.len() as u64 * turned_row_len(span.plan)).next_multiple_of(ALIGNMENT as u64)
    };
    let len = runs.iter().flat_map(|run| &run.spans).map(len).sum::<u64>();
    usize::try_from(len).expect("less than what they decode to, which has addresses")
}

/// Bytes that runs need in a slot, at most.
pub(crate) fn room(runs: &[Run<'_>]) -> usize {
    let of_run = |run: &Run<'_>| {
        let plan = run.spans[0].plan;
        let sources = plan.widths().len();
        let rows = plan.parts().rows_of(run.blocks.clone()).len();
        let decoded = rows * usize::try_from(row_len(plan)).expect("a row is in memory");
        let encoded = if plan.parts().lanes().is_empty() {
            usize::try_from(plan.parts().len_of(run.blocks.clone()))
                .expect("the file was opened on this machine")
        } else {
            0
        };
        let (of_plan, of_span) = match plan.load() {
            Load::AffineU8(Affine::Dim { .. }) => (8 * plan.shape().dim as usize, 0),
            Load::LutU8(_) => (4 * 256, 0),
            Load::JoinPlanes { dtype, .. } => (0, dtype.size() * Plane::LEN),
            Load::Rotated { .. } => (rotation_len(plan), Piece::LEN),
            _ => (0, 0),
        };
        let places = 2 * ALIGNMENT + BEYOND;
        decoded.max(encoded)
            + of_plan
            + (sources + 2) * places
            + run.spans.len() * (of_span + places + Piece::LEN)
    };
    runs.iter().map(of_run).sum::<usize>() + 2 * ALIGNMENT + 2 * BEYOND
}

/// Bytes that a window of `values` values of dictionaries needs in a slot, at most.
pub(crate) fn room_of_window(values: u64) -> u64 {
    4 * (values + 256 + 2 * (2 * ALIGNMENT as u64 + BEYOND as u64)) + 4 * Dictionary::LEN as u64 + 128
}
