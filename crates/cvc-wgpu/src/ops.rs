//! What each op needs of the host: its shader, and the record of a piece that its shader reads.
//!
//! Every `match` on [`Load`] here is exhaustive, so an op that is added to the vocabulary breaks this file until it has an
//! answer. The records are described where they are read, in `shaders/<op>.wgsl`.

use std::collections::HashMap;

use cvc_codec::ops::affine_u8::row_parameter;
use cvc_codec::ops::{DictPlanes, PayloadError};
use cvc_codec::{Affine, DType, DecodePlan, Load, Sources};
use wgpu::BufferViewMut;

use crate::pipelines::{Form, Shader};
use crate::shaders::{self, frame};
use crate::stages::Piece;

/// The shader of an op.
pub(crate) fn shader(load: &Load) -> &'static Shader {
    match load {
        Load::Copy(_) => &shaders::COPY,
        Load::WidenF16 => &shaders::WIDEN_F16,
        Load::WidenBf16 => &shaders::WIDEN_BF16,
        Load::AffineU8(Affine::Chunk { .. } | Affine::Dim { .. } | Affine::Row) => &shaders::AFFINE_U8,
        Load::LutU8(_) => &shaders::LUT_U8,
        Load::Rotated { .. } => &shaders::ROTATED,
        Load::JoinPlanes { .. } => &shaders::JOIN_PLANES,
        Load::DictPlanes => &shaders::DICT_PLANES,
    }
}

/// What the pipeline of a plan is specialised for.
pub(crate) fn form(plan: &DecodePlan) -> Form {
    let narrow_to = match plan.out() {
        DType::F16 if plan.narrows() => 1,
        DType::Bf16 if plan.narrows() => 2,
        _ => 0,
    };
    let planes = match plan.load() {
        Load::JoinPlanes { dtype, .. } => u8::try_from(dtype.size()).expect("at most 8"),
        Load::Copy(_)
        | Load::WidenF16
        | Load::WidenBf16
        | Load::AffineU8(_)
        | Load::LutU8(_)
        | Load::Rotated { .. }
        | Load::DictPlanes => 0,
    };
    let unit_bits = u8::try_from(unit_len(plan) * 8).expect("at most 32");
    Form { op: shader(plan.load()).name, unit_bits, narrow_to, planes, round: None }
}

/// Bytes of a unit of the destination: of a value, or of a part of a longer one.
pub(crate) fn unit_len(plan: &DecodePlan) -> u64 {
    plan.out().size().min(4) as u64
}

/// The most bytes that a piece takes in a stage, beside those for each of its rows; and those.
pub(crate) fn need(plan: &DecodePlan) -> (u64, u64) {
    let (dim, stored_dim) = (u64::from(plan.dim()), u64::from(plan.shape().dim));
    let table = match plan.load() {
        Load::AffineU8(Affine::Chunk { .. }) => 8,
        Load::AffineU8(Affine::Dim { .. }) => 8 * dim,
        Load::LutU8(_) => 4 * 256,
        // The centre, signs of two rounds, and what values are padded by.
        Load::Rotated { .. } => 4 * stored_dim + 8 * stored_dim.div_ceil(32) + 4 * u64::from(TURN),
        // Dictionaries, and codes that begin within a byte.
        Load::DictPlanes => 4 * (256 + 4),
        Load::AffineU8(Affine::Row)
        | Load::Copy(_)
        | Load::WidenF16
        | Load::WidenBf16
        | Load::JoinPlanes { .. } => 0,
    };
    let row = match plan.load() {
        // Codes have 8 bits at most.
        Load::DictPlanes => 4 * stored_dim,
        // Integers of all values are in buffers of their own, which are as long as the slot.
        Load::Rotated { .. } => {
            plan.widths().iter().map(|width| u64::from(*width)).sum::<u64>() + 4 * stored_dim
        }
        _ => plan.widths().iter().map(|width| u64::from(*width)).sum(),
    };
    let padding = 4 * plan.widths().len() as u64;
    (4 * frame::PIECE_WORDS as u64 + table + padding, row)
}

/// Puts the pieces of one stage into the mapped memory of a slot: the header, the records, and then whatever they point to.
pub(crate) struct Packer {
    view: BufferViewMut,
    /// Where the next bytes go; a multiple of 4.
    at: usize,
    records: Vec<[u32; frame::PIECE_WORDS]>,
    /// Where the integers of each piece begin, if it has rotated rows: in the order of the pieces, each at a multiple of [`TURN`].
    turned: Vec<u32>,
    /// Where the tables of a plan were put, by its address.
    tables: HashMap<*const DecodePlan, (u32, u32)>,
}

impl Packer {
    /// A packer of these pieces.
    pub(crate) fn new(view: BufferViewMut, pieces: &[Piece<'_>]) -> Self {
        let at = 4 * (frame::HEADER_WORDS + pieces.len() * frame::PIECE_WORDS);
        let mut next = 0;
        let starts =
            pieces.iter().filter(|piece| matches!(piece.plan.load(), Load::Rotated { .. })).map(|piece| {
                let start = next;
                let values = u64::from(piece.plan.shape().dim) * piece.rows.len() as u64;
                // All of them fit a buffer as long as the slot: `need`.
                next += u32::try_from(values.next_multiple_of(u64::from(TURN))).expect("within a slot");
                start
            });
        let turned = starts.collect();
        Packer {
            view,
            at,
            records: vec![[0; frame::PIECE_WORDS]; pieces.len()],
            turned,
            tables: HashMap::new(),
        }
    }

    /// Writes header and records, and says how many bytes of the slot are used: a multiple of 4.
    pub(crate) fn finish(mut self, header: [u32; frame::HEADER_WORDS]) -> u64 {
        let used = self.at;
        self.at = 0;
        self.put(&words(&header));
        let records: Vec<u32> = self.records.iter().flatten().copied().collect();
        self.put(&words(&records));
        used as u64
    }

    /// Writes bytes and says where they begin.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.at;
        self.view.slice(at..at + bytes.len()).copy_from_slice(bytes);
        self.at = (at + bytes.len()).next_multiple_of(4);
        // What can be bound is at most 256 MiB.
        u32::try_from(at).expect("within a slot")
    }

    /// The words where the tables of a plan begin, which `make` gives where they are not there yet.
    fn tables(&mut self, plan: &DecodePlan, make: impl FnOnce() -> [Vec<u8>; 2]) -> (u32, u32) {
        let key = std::ptr::from_ref(plan);
        if let Some(tables) = self.tables.get(&key) {
            return *tables;
        }
        let [first, second] = make();
        let tables = (self.put(&first) / 4, self.put(&second) / 4);
        self.tables.insert(key, tables);
        tables
    }

    fn record(&mut self, index: usize, units_before: u32, words: &[u32]) {
        let record = &mut self.records[index];
        record[0] = units_before;
        record[1..=words.len()].copy_from_slice(words);
    }

    /// Puts a piece whose rows are in these sources.
    pub(crate) fn piece(
        &mut self,
        index: usize,
        units_before: u32,
        piece: &Piece<'_>,
        sources: &Sources<'_>,
    ) -> Result<(), PayloadError> {
        let plan = piece.plan;
        let rows_of = |source: usize| sources.rows_of(source, piece.rows.clone());
        let width = |source: usize| plan.widths()[source];
        match plan.load() {
            Load::Copy(_) | Load::WidenF16 | Load::WidenBf16 => {
                let rows = self.put(rows_of(0));
                self.record(index, units_before, &[rows, width(0)]);
            }
            Load::LutU8(table) => {
                let rows = self.put(rows_of(0));
                let (table, _) = self.tables(plan, || [floats(&table[..]), Vec::new()]);
                self.record(index, units_before, &[rows, width(0), table]);
            }
            Load::AffineU8(affine) => {
                let rows = self.put(rows_of(0));
                let dim = plan.dim() as usize;
                let ((scale, min), of_row, of_dim) = match affine {
                    Affine::Chunk { scale, min } => {
                        (self.tables(plan, || [floats(&[*scale]), floats(&[*min])]), 0, 0)
                    }
                    Affine::Dim { scale, min } => {
                        (self.tables(plan, || [floats(&scale[..dim]), floats(&min[..dim])]), 0, 1)
                    }
                    Affine::Row => {
                        let (mins, scales) = (rows_of(1), rows_of(2));
                        let parameters = mins.chunks_exact(4).zip(scales.chunks_exact(4));
                        for (row, (min, scale)) in piece.rows.clone().zip(parameters) {
                            row_parameter(min, row, "minimum")?;
                            row_parameter(scale, row, "scale")?;
                        }
                        ((self.put(scales) / 4, self.put(mins) / 4), 1, 0)
                    }
                };
                self.record(index, units_before, &[rows, width(0), scale, min, of_row, of_dim]);
            }
            Load::JoinPlanes { dtype, coded } => {
                let dim = plan.shape().dim;
                // The lanes are the last sources; the stored planes take turns in the first.
                let first_lane = plan.widths().len() - coded.count_ones() as usize;
                let stored = if first_lane > 0 { self.put(rows_of(0)) } else { 0 };
                let (mut lane, mut stored_planes) = (first_lane, 0);
                let mut words = Vec::with_capacity(2 * dtype.size());
                for p in 0..dtype.size() {
                    if coded >> p & 1 == 1 {
                        words.extend([self.put(rows_of(lane)), dim]);
                        lane += 1;
                    } else {
                        words.extend([stored + stored_planes * dim, width(0)]);
                        stored_planes += 1;
                    }
                }
                self.record(index, units_before, &words);
            }
            Load::Rotated { codes, rotation, centre } => {
                for (row, scale) in piece.rows.clone().zip(rows_of(1).chunks_exact(4)) {
                    row_parameter(scale, row, "scale")?;
                }
                let (rows, scales) = (self.put(rows_of(0)), self.put(rows_of(1)) / 4);
                let (centre, signs) = self.tables(plan, || {
                    let signs = [0, 1].into_iter().flat_map(|round| sign_words(rotation.signs(round)));
                    [floats(centre), words(&signs.collect::<Vec<_>>())]
                });
                let block = u32::try_from(rotation.block()).expect("at most 256");
                let count = u32::try_from(piece.rows.len()).expect("rows of a chunk");
                // All pieces of a stage are of one op.
                let (dim, start) = (plan.shape().dim, self.turned[index]);
                let words = [rows, width(0), scales, centre, signs, dim, block, codes.bits(), start, count];
                self.record(index, units_before, &words);
            }
            Load::DictPlanes => unreachable!("it has no sources"),
        }
        Ok(())
    }

    /// Puts a piece of a payload without rows: of each plane, the codes of its values.
    pub(crate) fn dict_piece(
        &mut self,
        index: usize,
        units_before: u32,
        piece: &Piece<'_>,
        planes: &DictPlanes<'_>,
    ) {
        let dim = u64::from(piece.plan.dim());
        let values = u64::from(piece.rows.start) * dim..u64::from(piece.rows.end) * dim;
        let mut words = Vec::with_capacity(16);
        for (bits, dictionary, entries, codes) in planes.planes() {
            let first_bit = values.start * u64::from(bits);
            let end_bit = values.end * u64::from(bits);
            // The payload is in memory, so these are.
            let byte = |at: u64| usize::try_from(at).expect("in memory");
            let codes = self.put(&codes[byte(first_bit / 8)..byte(end_bit.div_ceil(8))]);
            let within = u32::try_from(first_bit % 8).expect("below 8");
            let dictionary = self.put(dictionary);
            words.extend([codes, within, u32::from(bits) | u32::from(entries) << 8, dictionary]);
        }
        self.record(index, units_before, &words);
    }
}

/// Integers that a workgroup of `unrotate` takes at a time.
pub(crate) const TURN: u32 = 256;

/// Signs as bits, 1 for plus.
fn sign_words(signs: &[i16]) -> impl Iterator<Item = u32> {
    signs
        .chunks(32)
        .map(|signs| (0..).zip(signs).fold(0, |word, (bit, sign)| word | u32::from(*sign > 0) << bit))
}

/// Words as the device reads them.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
