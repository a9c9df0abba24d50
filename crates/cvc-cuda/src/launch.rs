//! The one place that launches kernels, and the lists that they are given.
//!
//! A kernel follows the addresses in its list, so the list is the proof: a [`Pieces`] takes a piece only if everything that
//! the kernel will touch for it lies in the slot that its worker filled, or in the destination. `kernels/shared.cuh` has the
//! other half of these structures; `tests/signatures.rs` compares the two. Kernels of searching are told what to do by a [`Told`], which likewise
//! is made only if what they touch lies in the memory that it was given.
#![expect(unsafe_code, reason = "it launches kernels")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream};
use cudarc::nvrtc::Ptx;

use crate::driver::Region;
use crate::kernels::{self, Kernel, MODULES, ROTATED_LEVELS};

/// Threads of a block, and groups of values that each of them takes of a tile.
pub(crate) const THREADS: u32 = 256;
const FLIGHT: u32 = 4;

/// Bytes of the destination that a group fills.
const GROUP_LEN: u32 = 16;

/// Blocks for each multiprocessor: all that fit at a time, four times over, so that none is idle at the end for long.
const BLOCKS: u32 = 32;

/// Rows and queries of a tile of a search.
const TILE_ROWS: u32 = 64;
const TILE_QUERIES: u32 = 16;

/// Values of rotated rows that a block takes at a time.
const ROTATED_TILE: u32 = 2048;

/// The most values of a piece: the kernels count them in 32 bits.
pub(crate) const MAX_VALUES: u32 = 1 << 30;

/// Bytes that kernels may load beyond the last that is wanted.
pub(crate) const BEYOND: usize = 8;

/// Some rows and where they go: `Piece` of `kernels/shared.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Address of the first value of the first row, in the first source.
    pub(crate) src: u64,
    /// Address of its place in the destination.
    pub(crate) dst: u64,
    /// Address of what the op needs beside the source.
    pub(crate) aux: u64,
    pub(crate) aux2: u64,
    pub(crate) rows: u32,
    /// Values of a row that are wanted.
    pub(crate) dim: u32,
    /// Bytes from one row to the next, in the first source.
    pub(crate) stride: u32,
    /// Filled in by [`Pieces::push`].
    pub(crate) first_tile: u32,
    /// Bits of an f32; of rotated rows, bits of a code.
    pub(crate) scale: u32,
    pub(crate) min: u32,
}

/// A plane of values: `Plane` of `kernels/join_planes.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane {
    /// Address of the first byte of the first row.
    pub(crate) src: u64,
    pub(crate) stride: u64,
}

/// A plane of codes: `Dictionary` of `kernels/dict_planes.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dictionary {
    /// Address of the byte in which the first code begins.
    pub(crate) codes: u64,
    /// Address of 256 bytes.
    pub(crate) entries: u64,
    pub(crate) count: u32,
    pub(crate) bits: u32,
    pub(crate) shift: u32,
}

/// What kernels of searching are told: `Asked` of `kernels/scan.cu`. Made by [`Told`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Addresses.
    pub(crate) decoded: u64,
    pub(crate) thresholds: u64,
    pub(crate) slack: u64,
    pub(crate) queries: u64,
    pub(crate) keys: u64,
    pub(crate) best: u64,
    pub(crate) wanted: u64,
    pub(crate) packed: u64,
    pub(crate) rows: u32,
    pub(crate) dim: u32,
    pub(crate) query_count: u32,
    pub(crate) rule: u32,
    /// Bits of an f32.
    pub(crate) minus_keep: u32,
    pub(crate) kept: u32,
}

impl Asked {
    pub(crate) const LEN: usize = size_of::<Asked>();

    fn bytes(&self) -> [u8; Asked::LEN] {
        let mut bytes = [0; Asked::LEN];
        let addresses = [self.decoded, self.thresholds, self.slack, self.queries];
        let addresses = addresses.into_iter().chain([self.keys, self.best, self.wanted, self.packed]);
        let words = [self.rows, self.dim, self.query_count, self.rule, self.minus_keep, self.kept];
        let words = words.into_iter().flat_map(u32::to_ne_bytes);
        bytes
            .iter_mut()
            .zip(addresses.flat_map(u64::to_ne_bytes).chain(words))
            .for_each(|(into, byte)| *into = byte);
        bytes
    }
}

/// Rows that are searched: f32 values, one row after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    pub(crate) region: Region,
    pub(crate) rows: u32,
    pub(crate) dim: u32,
}

impl Decoded {
    fn check(self) {
        let values = u64::from(self.rows) * u64::from(self.dim);
        assert!(self.region.len() >= 4 * values, "rows outside their memory");
    }
}

/// What is asked of the rows of a stage.
#[derive(Debug)]
pub(crate) struct Question {
    /// [`cvc_codec::filter::Rule`].
    pub(crate) rule: u32,
    pub(crate) minus_keep: f32,
    /// Rows that are kept for each query.
    pub(crate) kept: u32,
    pub(crate) query_count: u32,
    /// A threshold for each query, then slack for each, then the values of all of them.
    pub(crate) words: Vec<u32>,
}

/// What launches of searching do, and the words that the slot begins with.
///
/// Invariant: what the kernels touch lies in the slot, or in regions that were given.
#[derive(Debug)]
pub(crate) struct Told {
    asked: Asked,
    words: Vec<u32>,
    launches: Vec<(&'static str, u32, u32)>,
}

impl Told {
    /// To find the best rows, keys and records of which go to the regions. The words go to the slot.
    ///
    /// # Panics
    /// A region is too short.
    pub(crate) fn best(
        decoded: Decoded,
        question: Question,
        slot: Region,
        [keys, best]: [Region; 2],
    ) -> Told {
        let Question { rule, minus_keep, kept, query_count, words } = question;
        decoded.check();
        let Decoded { region, rows, dim } = decoded;
        let count = u64::from(query_count);
        assert_eq!(words.len() as u64, count * (2 + u64::from(dim)), "as many words as are read");
        assert!(slot.len() >= (Asked::LEN + 4 * words.len()) as u64, "a slot that is too short");
        assert!(keys.len() >= 4 * count * u64::from(rows), "keys outside their memory");
        assert!(best.len() >= 4 * count * (2 + 2 * u64::from(kept)), "records outside their memory");
        let thresholds = slot.start() + Asked::LEN as u64;
        let asked = Asked {
            decoded: region.start(),
            thresholds,
            slack: thresholds + 4 * count,
            queries: thresholds + 8 * count,
            keys: keys.start(),
            best: best.start(),
            rows,
            dim,
            query_count,
            rule,
            minus_keep: minus_keep.to_bits(),
            kept,
            ..Asked::default()
        };
        let row_tiles = rows.div_ceil(TILE_ROWS);
        let tiles = row_tiles * query_count.div_ceil(TILE_QUERIES);
        let launches = vec![("cvc_scan_bounds", tiles, row_tiles), ("cvc_scan_best", query_count, 0)];
        Told { asked, words, launches }
    }

    /// To put rows one after another.
    ///
    /// # Panics
    /// There is no such row, or a region is too short.
    pub(crate) fn rows(decoded: Decoded, wanted: &[u32], slot: Region, packed: Region) -> Told {
        decoded.check();
        let Decoded { region, rows, dim } = decoded;
        assert!(wanted.iter().all(|row| *row < rows), "rows of the stage");
        assert!(slot.len() >= (Asked::LEN + 4 * wanted.len()) as u64, "a slot that is too short");
        let values = wanted.len() as u64 * u64::from(dim);
        assert!(packed.len() >= 4 * values, "rows outside their memory");
        let asked = Asked {
            decoded: region.start(),
            wanted: slot.start() + Asked::LEN as u64,
            packed: packed.start(),
            rows,
            dim,
            ..Asked::default()
        };
        let count = u32::try_from(wanted.len()).expect("rows of the stage, each once");
        Told { asked, words: wanted.to_vec(), launches: vec![("cvc_scan_rows", count, 0)] }
    }

    /// Bytes that the slot begins with.
    pub(crate) fn byte_len(&self) -> usize {
        Asked::LEN + 4 * self.words.len()
    }

    /// Writes them.
    pub(crate) fn write(&self, into: &mut [u8]) {
        let words = self.words.iter().flat_map(|word| word.to_ne_bytes());
        into.iter_mut()
            .zip(self.asked.bytes().into_iter().chain(words))
            .for_each(|(into, byte)| *into = byte);
    }
}

impl Piece {
    pub(crate) const LEN: usize = size_of::<Piece>();

    fn bytes(&self) -> [u8; Piece::LEN] {
        let mut bytes = [0; Piece::LEN];
        let doubles = [self.src, self.dst, self.aux, self.aux2].into_iter().flat_map(u64::to_ne_bytes);
        let words = [self.rows, self.dim, self.stride, self.first_tile, self.scale, self.min];
        let words = words.into_iter().flat_map(u32::to_ne_bytes);
        bytes.iter_mut().zip(doubles.chain(words)).for_each(|(into, byte)| *into = byte);
        bytes
    }
}

impl Plane {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn bytes(&self) -> [u8; Plane::LEN] {
        let mut bytes = [0; Plane::LEN];
        bytes[..8].copy_from_slice(&self.src.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.stride.to_ne_bytes());
        bytes
    }
}

impl Dictionary {
    pub(crate) const LEN: usize = 32;

    pub(crate) fn bytes(&self) -> [u8; Dictionary::LEN] {
        let mut bytes = [0; Dictionary::LEN];
        let doubles = [self.codes, self.entries].into_iter().flat_map(u64::to_ne_bytes);
        let words = [self.count, self.bits, self.shift, 0].into_iter().flat_map(u32::to_ne_bytes);
        bytes.iter_mut().zip(doubles.chain(words)).for_each(|(into, byte)| *into = byte);
        bytes
    }
}

/// What the launches of one slot decode: pieces by kernel.
///
/// Invariant: what a kernel touches for a piece lies in `slot`, in `dst`, in `between` or is `flag`, as [`Pieces::push`] and its callers say.
#[derive(Debug)]
pub(crate) struct Pieces {
    slot: Region,
    dst: Region,
    between: Region,
    by_kernel: Vec<(Kernel, Vec<Piece>)>,
}

impl Pieces {
    /// For a slot, a destination, and memory in which kernels leave what others take up.
    pub(crate) fn new(slot: Region, dst: Region, between: Region) -> Self {
        Pieces { slot, dst, between, by_kernel: Vec::new() }
    }

    /// Adds a piece whose first source and destination are as it says, whose `source_len` bytes are the first source from
    /// the first byte that is wanted to the last.
    ///
    /// # Panics
    /// They do not lie in the slot and in the destination, or there are too many values: no kernel may see such a piece.
    pub(crate) fn push(&mut self, kernel: Kernel, mut piece: Piece, source_len: u64) {
        let values = u64::from(piece.rows) * u64::from(piece.dim);
        assert!(
            piece.rows > 0 && piece.dim > 0 && values <= u64::from(MAX_VALUES),
            "{values} values in a piece"
        );
        // Of rotated rows, one kernel leaves to the other what that takes for its source, and loads nothing beyond it.
        let (levels, rotated) = (kernel == ROTATED_LEVELS, kernel.op == ROTATED_LEVELS.op);
        let has_source = match rotated && !levels {
            true => self.between.holds(piece.src, source_len),
            false => self.slot.holds(piece.src, source_len + BEYOND as u64),
        };
        assert!(has_source, "a source outside its memory");
        let into = if levels { self.between } else { self.dst };
        assert!(into.holds(piece.dst, values * u64::from(kernel.size)), "a destination outside its memory");
        assert!(piece.dst.is_multiple_of(u64::from(kernel.size)), "a destination between two values");
        let list = match self.by_kernel.iter_mut().find(|(known, _)| *known == kernel) {
            Some((_, list)) => list,
            None => {
                // Launches come in this order, and what others begin with comes first.
                let at = if levels { 0 } else { self.by_kernel.len() };
                self.by_kernel.insert(at, (kernel, Vec::new()));
                &mut self.by_kernel[at].1
            }
        };
        piece.first_tile = list.last().map_or(0, |last| last.first_tile + tiles(kernel, last));
        list.push(piece);
    }

    /// Whether bytes that a piece is to find in the slot lie there.
    ///
    /// # Panics
    /// They do not.
    pub(crate) fn check_aux(&self, start: u64, len: u64) {
        assert!(self.slot.holds(start, len + BEYOND as u64), "parameters outside the slot");
    }

    /// Bytes of all lists.
    pub(crate) fn byte_len(&self) -> usize {
        self.by_kernel.iter().map(|(_, list)| list.len() * Piece::LEN).sum()
    }

    /// Writes the lists one after another.
    pub(crate) fn write(&self, into: &mut [u8]) {
        let pieces = self.by_kernel.iter().flat_map(|(_, list)| list);
        for (piece, into) in pieces.zip(into.chunks_exact_mut(Piece::LEN)) {
            into.copy_from_slice(&piece.bytes());
        }
    }
}

/// Tiles of a piece: groups count from the line of the destination that it begins in. Rotated rows are transformed as a whole.
fn tiles(kernel: Kernel, piece: &Piece) -> u32 {
    if kernel.op == ROTATED_LEVELS.op {
        let dim = if kernel == ROTATED_LEVELS { piece.dim } else { piece.stride / 2 };
        let values = u64::from(piece.rows) * u64::from(dim);
        return u32::try_from(values.div_ceil(ROTATED_TILE.into())).expect("no more than `MAX_VALUES`");
    }
    let lead = piece.dst % u64::from(GROUP_LEN);
    let len = lead + u64::from(piece.rows) * u64::from(piece.dim) * u64::from(kernel.size);
    let tile_len = u64::from(GROUP_LEN * THREADS * FLIGHT);
    u32::try_from(len.div_ceil(tile_len)).expect("a tile has more than a thousand values")
}

/// The kernels of one device, compiled by its driver when they are first wanted.
#[derive(Debug)]
pub(crate) struct Launcher {
    context: Arc<CudaContext>,
    multiprocessors: u32,
    modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    functions: Mutex<HashMap<&'static str, CudaFunction>>,
}

impl Launcher {
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = u32::try_from(context.attribute(attribute)?).unwrap_or(1);
        Ok(Launcher {
            context: context.clone(),
            multiprocessors,
            modules: Mutex::default(),
            functions: Mutex::default(),
        })
    }

    /// The function of an entry.
    pub(crate) fn function(&self, kernel: Kernel) -> Result<CudaFunction, DriverError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(kernel.entry) {
            return Ok(function.clone());
        }
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.get(kernel.op) {
            Some(module) => module.clone(),
            None => {
                let text = MODULES.iter().find(|(op, _)| *op == kernel.op);
                let (_, text) = text.expect("every op has a module: tests/signatures.rs");
                let module = self.context.load_module(Ptx::from_src(*text))?;
                modules.insert(kernel.op, module.clone());
                module
            }
        };
        let function = module.load_function(kernel.entry)?;
        functions.insert(kernel.entry, function.clone());
        Ok(function)
    }

    /// Puts the launches of `pieces` on the stream, whose lists lie at `lists` as [`Pieces::write`] wrote them.
    ///
    /// # Safety
    /// On this stream, before the launches, the slot of the pieces is filled, lists and all; until they have run, nothing
    /// else writes it or frees it, nor the memory between kernels. What the `aux` of the pieces point to lies in the slot, as its op needs it, or is a word that
    /// the launches may write.
    pub(crate) unsafe fn launch(
        &self,
        stream: &CudaStream,
        pieces: &Pieces,
        lists: u64,
    ) -> Result<(), DriverError> {
        let mut list = lists;
        for (kernel, of_kernel) in &pieces.by_kernel {
            let last = of_kernel.last().expect("a list has pieces");
            let mut tile_count = last.first_tile + tiles(*kernel, last);
            let mut piece_count = u32::try_from(of_kernel.len()).expect("a slot has no room for so many");
            let function = self.function(*kernel)?;
            let mut list_of_kernel = list;
            let mut params: [*mut c_void; 3] = [
                (&raw mut list_of_kernel).cast(),
                (&raw mut piece_count).cast(),
                (&raw mut tile_count).cast(),
            ];
            let grid = tile_count.min(self.multiprocessors * BLOCKS);
            let (function, stream) = (function.cu_function(), stream.cu_stream());
            // SAFETY: the three parameters are those of the macro `KERNEL` in kernels/shared.cuh, and of every entry
            // in the PTX (tests/signatures.rs). The kernel reads `piece_count` pieces at `list`, which the caller put there, and for
            // each touches what `push` and the caller's promise about `aux` allow: the invariant of `Pieces`. The function's
            // module lives in `self`.
            unsafe {
                result::launch_kernel(function, (grid, 1, 1), (THREADS, 1, 1), 0, stream, &mut params)
            }?;
            list += (of_kernel.len() * Piece::LEN) as u64;
        }
        Ok(())
    }

    /// Puts launches of searching on the stream, for which the slot lies at `slot`, as [`Told::write`] wrote it.
    ///
    /// # Safety
    /// On this stream, before the launches, the slot is filled; until they have run, nothing else writes it or frees it, nor what `told`
    /// was made with.
    pub(crate) unsafe fn search(
        &self,
        stream: &CudaStream,
        told: &Told,
        slot: u64,
    ) -> Result<(), DriverError> {
        for (entry, count, more) in &told.launches {
            let function = self.function(kernels::search(entry))?;
            let (mut asked, mut count, mut more) = (slot, *count, *more);
            let mut params: [*mut c_void; 3] =
                [(&raw mut asked).cast(), (&raw mut count).cast(), (&raw mut more).cast()];
            let grid = count.min(self.multiprocessors * BLOCKS);
            let (function, stream) = (function.cu_function(), stream.cu_stream());
            // SAFETY: the three parameters are those of every entry (tests/signatures.rs). The kernel reads the `Asked` at `slot` and the words behind it, which
            // the caller put there, and touches what the invariant of `Told` says.
            unsafe {
                result::launch_kernel(function, (grid, 1, 1), (THREADS, 1, 1), 0, stream, &mut params)
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Kernel = Kernel { op: "widen_f16", entry: "cvc_widen_f16_f32", source_size: 2, size: 4 };

    fn pieces() -> Pieces {
        // SAFETY: nothing follows these addresses.
        let region = |start, len| unsafe { Region::new(start, len) };
        Pieces::new(region(0x1000, 0x1000), region(0x10_0000, 0x10_0000), region(0x2000, 0x1000))
    }

    #[test]
    fn tiles_follow_each_other() {
        let mut pieces = pieces();
        // 4,096 values fill a tile; where a piece begins within a line, it needs one more.
        for (dst, dim, first_tile) in
            [(0x10_0000, 4096, 0), (0x10_4004, 4096, 1), (0x10_8004, 3, 3), (0x10_8010, 1, 4)]
        {
            let piece = Piece { src: 0x1000, dst, rows: 1, dim, stride: 2 * dim, ..Piece::default() };
            pieces.push(KERNEL, piece, 8);
            assert_eq!(pieces.by_kernel[0].1.last().unwrap().first_tile, first_tile);
        }
        assert_eq!(pieces.byte_len(), 4 * 56);
        let mut bytes = vec![0; pieces.byte_len()];
        pieces.write(&mut bytes);
        assert_eq!(bytes[56 + 8..56 + 16], 0x10_4004u64.to_ne_bytes());
    }

    #[test]
    fn levels_come_before_what_is_made_of_them() {
        let last = Kernel { op: "rotated", entry: "cvc_rotated_f32", source_size: 2, size: 4 };
        let mut pieces = pieces();
        let codes =
            Piece { src: 0x1000, dst: 0x2000, rows: 3, dim: 1000, stride: 500, scale: 4, ..Piece::default() };
        let refused = |piece: Piece| {
            let pushed = || self::pieces().push(ROTATED_LEVELS, piece, 1500);
            std::panic::catch_unwind(pushed).is_err()
        };
        assert!(refused(codes));
        assert!(refused(Piece { rows: 1, dst: 0x10_0000, ..codes }));
        let turned =
            Piece { src: 0x2000, dst: 0x10_0000, rows: 1, dim: 10, stride: 2000, ..Piece::default() };
        // Another kernel is there already, and that of the values comes before its levels.
        pieces.push(KERNEL, Piece { src: 0x1000, ..turned }, 20);
        for tile in 0..2 {
            pieces.push(last, turned, 2000);
            assert_eq!(pieces.by_kernel.last().unwrap().1.last().unwrap().first_tile, tile);
            pieces.push(ROTATED_LEVELS, Piece { rows: 1, ..codes }, 500);
        }
        let order: Vec<&str> = pieces.by_kernel.iter().map(|(kernel, _)| kernel.entry).collect();
        assert_eq!(order, ["cvc_rotated_levels", "cvc_widen_f16_f32", "cvc_rotated_f32"]);
    }

    #[test]
    fn no_kernel_sees_a_piece_that_leaves_its_memory() {
        let good = Piece { src: 0x1000, dst: 0x10_0000, rows: 2, dim: 4, stride: 8, ..Piece::default() };
        let refused = |piece: Piece, source_len| {
            std::panic::catch_unwind(|| pieces().push(KERNEL, piece, source_len)).is_err()
        };
        assert!(!refused(good, 16));
        assert!(!refused(good, 0xff8));
        assert!(refused(good, 0xff9));
        assert!(refused(Piece { src: 0xfff, ..good }, 16));
        assert!(refused(Piece { dst: 0x1f_fff0, ..good }, 16));
        assert!(refused(Piece { dst: 0xf_fff0, ..good }, 16));
        assert!(refused(Piece { dst: 0x10_0002, ..good }, 16));
        assert!(refused(Piece { rows: 0, ..good }, 16));
        assert!(refused(Piece { rows: 1 << 20, dim: 1 << 20, ..good }, 16));
    }
}
