//! Runs kernels: the threads of a block side by side, each with its own place in the code.
//!
//! ```text
//! for block in grid { for thread in block { while not returned { run the instruction at its place } } }
//! ```
//!
//! Threads are taken [`LANES`] at a time, and an instruction is run for all of them whose place it is, so that finding out
//! what it does is paid once. Of threads that have parted the ones furthest behind go first, and so they meet again.
//!
//! Where a kernel has barriers, [`LANES`] threads run until all of them wait, then the next ones do, and when all threads of the block wait, at one barrier, they go on.
//! So what a thread reads that another of its block has yet to write is not there, unless there is a barrier between the two; what is overwritten too
//! early is found only if it is the later threads that read it.

use core::ops::Range;

use crate::memory::{Fault, Memory};
use crate::ptx::{Compare, Double2, Instruction, Kernel, Op, Special, Word2, Word3};

/// Threads that run side by side.
const LANES: usize = 64;
type Words = [u32; LANES];
type Doubles = [u64; LANES];

/// Where a thread is that has returned.
const RETURNED: usize = usize::MAX;

/// What is added to the place of a thread that waits at a barrier, where it will go on.
const WAITING: usize = 1 << 40;

/// What memory of a block holds before anything is written.
const POISON: u8 = 0xcd;

/// A launch: its number, which device it is on, what it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) number: u64,
    pub(crate) device: i32,
    pub(crate) grid: u32,
    pub(crate) block: u32,
    pub(crate) params: &'a [Vec<u8>],
}

/// Runs a kernel.
///
/// # Errors
/// An access that is wrong, and where.
pub(crate) fn run(kernel: &Kernel, launch: Launch<'_>, memory: &mut Memory) -> Result<(), Fault> {
    let mut machine = Machine {
        words: vec![[0; LANES]; kernel.words],
        doubles: vec![[0; LANES]; kernel.doubles],
        shared: Vec::new(),
        kernel,
        launch,
        memory,
    };
    for (register, value) in &kernel.word_constants {
        machine.words[*register] = [*value; LANES];
    }
    for (register, value) in &kernel.double_constants {
        machine.doubles[*register] = [*value; LANES];
    }
    for block in 0..launch.grid {
        machine.shared.clear();
        machine.shared.resize(kernel.shared_len, POISON);
        if kernel.has_barriers {
            machine.run_together(block)?;
            continue;
        }
        for first in (0..launch.block).step_by(LANES) {
            machine.begin(block, first);
            machine.go_on(&mut places(launch.block - first))?;
        }
    }
    Ok(())
}

/// The places of as many threads as there are lanes, of those that are left, before they begin.
fn places(left: u32) -> [usize; LANES] {
    core::array::from_fn(|lane| if lane < left as usize { 0 } else { RETURNED })
}

struct Machine<'a> {
    words: Vec<Words>,
    doubles: Vec<Doubles>,
    /// Memory of the block.
    shared: Vec<u8>,
    kernel: &'a Kernel,
    launch: Launch<'a>,
    memory: &'a mut Memory,
}

impl Machine<'_> {
    /// Runs the threads of a block that wait for each other.
    fn run_together(&mut self, block: u32) -> Result<(), Fault> {
        let mut groups: Vec<_> = (0..self.launch.block)
            .step_by(LANES)
            .map(|first| {
                self.begin(block, first);
                (self.words.clone(), self.doubles.clone(), places(self.launch.block - first))
            })
            .collect();
        loop {
            for (words, doubles, places) in &mut groups {
                core::mem::swap(&mut self.words, words);
                core::mem::swap(&mut self.doubles, doubles);
                let went = self.go_on(places);
                core::mem::swap(&mut self.words, words);
                core::mem::swap(&mut self.doubles, doubles);
                went?;
            }
            let count = self.launch.block as usize;
            let mut places = groups.iter_mut().flat_map(|(_, _, places)| places).take(count);
            let first = places.next().expect("a block has threads");
            let at = *first;
            if at == RETURNED && places.all(|place| *place == RETURNED) {
                return Ok(());
            }
            *first = at.wrapping_sub(WAITING);
            for place in places {
                if *place != at || at == RETURNED {
                    let text = format!(
                        "{}: threads wait at different barriers, or for threads that have returned",
                        self.kernel.name
                    );
                    return Err(Fault::Illegal(text));
                }
                *place -= WAITING;
            }
        }
    }

    /// Sets what differs from thread to thread, for those of a block from `first` on.
    fn begin(&mut self, block: u32, first: u32) {
        for (register, special) in &self.kernel.specials {
            self.words[*register] = match special {
                Special::ThreadX => {
                    core::array::from_fn(|lane| first + u32::try_from(lane).expect("few lanes"))
                }
                Special::BlockX => [block; LANES],
                Special::BlockDimX => [self.launch.block; LANES],
                Special::GridDimX => [self.launch.grid; LANES],
            };
        }
    }

    /// Runs threads until all of them wait or have returned.
    fn go_on(&mut self, places: &mut [usize; LANES]) -> Result<(), Fault> {
        loop {
            let place = places.iter().copied().min().expect("there are lanes");
            if place >= WAITING {
                return Ok(());
            }
            let others = places.iter().copied().filter(|other| *other > place).min().unwrap_or(RETURNED);
            let here: Words = core::array::from_fn(|lane| if places[lane] == place { u32::MAX } else { 0 });
            self.run_until(place, others, &here, places)?;
        }
    }

    /// Runs the threads of `here` from `place` on, until they part, return, or come to where others wait.
    fn run_until(
        &mut self,
        mut place: usize,
        others: usize,
        here: &Words,
        places: &mut [usize; LANES],
    ) -> Result<(), Fault> {
        let code = &self.kernel.code;
        loop {
            let Instruction { guard, op, line } = &code[place];
            let mut mask = *here;
            if let Some((predicate, wanted)) = guard {
                let predicate = &self.words[*predicate];
                for lane in 0..LANES {
                    if (predicate[lane] != 0) != *wanted {
                        mask[lane] = 0;
                    }
                }
            }
            if let Op::Branch(_) | Op::Return | Op::Barrier = op {
                let target = match op {
                    Op::Branch(target) => *target,
                    Op::Barrier => WAITING + place + 1,
                    _ => RETURNED,
                };
                for lane in 0..LANES {
                    if here[lane] != 0 {
                        places[lane] = if mask[lane] != 0 { target } else { place + 1 };
                    }
                }
                return Ok(());
            }
            self.step(op, &mask).map_err(|fault| self.located(fault, *line))?;
            place += 1;
            if place == others {
                for lane in 0..LANES {
                    if here[lane] != 0 {
                        places[lane] = place;
                    }
                }
                return Ok(());
            }
        }
    }

    fn located(&self, fault: Fault, line: usize) -> Fault {
        let located = |text: String| format!("{}, line {line}: {text}", self.kernel.name);
        match fault {
            Fault::Illegal(text) => Fault::Illegal(located(text)),
            Fault::Misaligned(text) => Fault::Misaligned(located(text)),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "registers hold what fits in them")]
    fn step(&mut self, op: &Op, mask: &Words) -> Result<(), Fault> {
        macro_rules! words {
            ($into:expr, |$lane:ident| $value:expr) => {{
                let into = &mut self.words[$into];
                for $lane in 0..LANES {
                    let value: u32 = $value;
                    into[$lane] = (value & mask[$lane]) | (into[$lane] & !mask[$lane]);
                }
            }};
        }
        macro_rules! doubles {
            ($into:expr, |$lane:ident| $value:expr) => {{
                let into = &mut self.doubles[$into];
                for $lane in 0..LANES {
                    let value: u64 = $value;
                    let mask = u64::from(mask[$lane]) | u64::from(mask[$lane]) << 32;
                    into[$lane] = (value & mask) | (into[$lane] & !mask);
                }
            }};
        }
        match op {
            Op::Word2(kind, d, a, b) => {
                let (a, b) = (self.words[*a], self.words[*b]);
                match kind {
                    Word2::Add => words!(*d, |i| a[i].wrapping_add(b[i])),
                    Word2::Sub => words!(*d, |i| a[i].wrapping_sub(b[i])),
                    Word2::Mul => words!(*d, |i| a[i].wrapping_mul(b[i])),
                    // Devices do not stop here, but no kernel should get here.
                    Word2::Div => words!(*d, |i| a[i].checked_div(b[i]).unwrap_or(u32::MAX)),
                    Word2::Rem => words!(*d, |i| a[i].checked_rem(b[i]).unwrap_or(u32::MAX)),
                    Word2::And => words!(*d, |i| a[i] & b[i]),
                    Word2::Or => words!(*d, |i| a[i] | b[i]),
                    Word2::Xor => words!(*d, |i| a[i] ^ b[i]),
                    // PTX clamps: 32 and more shift everything out.
                    Word2::Shl => words!(*d, |i| if b[i] > 31 { 0 } else { a[i] << (b[i] & 31) }),
                    Word2::Shr => words!(*d, |i| if b[i] > 31 { 0 } else { a[i] >> (b[i] & 31) }),
                    Word2::Min => words!(*d, |i| a[i].min(b[i])),
                    Word2::Max => words!(*d, |i| a[i].max(b[i])),
                    Word2::FloatMul => {
                        words!(*d, |i| (f32::from_bits(a[i]) * f32::from_bits(b[i])).to_bits())
                    }
                    Word2::FloatAdd => {
                        words!(*d, |i| (f32::from_bits(a[i]) + f32::from_bits(b[i])).to_bits())
                    }
                    Word2::FloatDiv => {
                        words!(*d, |i| (f32::from_bits(a[i]) / f32::from_bits(b[i])).to_bits())
                    }
                }
            }
            Op::Word3(kind, d, a, b, c) => {
                let (a, b, c) = (self.words[*a], self.words[*b], self.words[*c]);
                match kind {
                    Word3::MulAdd => words!(*d, |i| a[i].wrapping_mul(b[i]).wrapping_add(c[i])),
                    Word3::FloatMulAdd => {
                        let float = f32::from_bits;
                        words!(*d, |i| float(a[i]).mul_add(float(b[i]), float(c[i])).to_bits());
                    }
                    Word3::Funnel => {
                        words!(*d, |i| ((u64::from(b[i]) << 32 | u64::from(a[i])) >> (c[i] & 31)) as u32);
                    }
                    Word3::Permute => words!(*d, |i| permute(a[i], b[i], c[i])),
                }
            }
            Op::Double2(kind, d, a, b) => {
                let (a, b) = (self.doubles[*a], self.doubles[*b]);
                match kind {
                    Double2::Add => doubles!(*d, |i| a[i].wrapping_add(b[i])),
                    Double2::Sub => doubles!(*d, |i| a[i].wrapping_sub(b[i])),
                    Double2::Mul => doubles!(*d, |i| a[i].wrapping_mul(b[i])),
                    Double2::And => doubles!(*d, |i| a[i] & b[i]),
                    Double2::Or => doubles!(*d, |i| a[i] | b[i]),
                }
            }
            Op::DoubleShift(left, d, a, b) => {
                let (a, b) = (self.doubles[*a], self.words[*b]);
                match left {
                    true => doubles!(*d, |i| a[i].checked_shl(b[i]).unwrap_or(0)),
                    false => doubles!(*d, |i| a[i].checked_shr(b[i]).unwrap_or(0)),
                }
            }
            Op::Clz(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| a[i].leading_zeros());
            }
            Op::Not(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| u32::from(a[i] == 0));
            }
            Op::Invert(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| !a[i]);
            }
            Op::SquareRoot(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| f32::from_bits(a[i]).sqrt().to_bits());
            }
            Op::Neg(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| a[i].wrapping_neg());
            }
            Op::Float(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| (a[i] as f32).to_bits());
            }
            Op::FloatSigned(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| (a[i].cast_signed() as f32).to_bits());
            }
            Op::MulWide(d, a, b) => {
                let (a, b) = (self.words[*a], self.words[*b]);
                doubles!(*d, |i| u64::from(a[i]) * u64::from(b[i]));
            }
            Op::Widen(d, a) => {
                let a = self.words[*a];
                doubles!(*d, |i| u64::from(a[i]));
            }
            Op::Cut(d, a) => {
                let a = self.doubles[*a];
                words!(*d, |i| a[i] as u32);
            }
            Op::Move(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| a[i]);
            }
            Op::MoveDouble(d, a) => {
                let a = self.doubles[*a];
                doubles!(*d, |i| a[i]);
            }
            Op::Select(d, a, b, p) => {
                let (a, b, p) = (self.words[*a], self.words[*b], self.words[*p]);
                words!(*d, |i| if p[i] != 0 { a[i] } else { b[i] });
            }
            Op::SelectDouble(d, a, b, p) => {
                let (a, b, p) = (self.doubles[*a], self.doubles[*b], self.words[*p]);
                doubles!(*d, |i| if p[i] != 0 { a[i] } else { b[i] });
            }
            Op::Compare(kind, d, a, b) => {
                let (a, b) = (self.words[*a], self.words[*b]);
                match kind {
                    Compare::Equal => words!(*d, |i| u32::from(a[i] == b[i])),
                    Compare::NotEqual => words!(*d, |i| u32::from(a[i] != b[i])),
                    Compare::Less => words!(*d, |i| u32::from(a[i] < b[i])),
                    Compare::LessOrEqual => words!(*d, |i| u32::from(a[i] <= b[i])),
                    Compare::Greater => words!(*d, |i| u32::from(a[i] > b[i])),
                    Compare::GreaterOrEqual => words!(*d, |i| u32::from(a[i] >= b[i])),
                    Compare::SignedGreater => {
                        words!(*d, |i| u32::from(a[i].cast_signed() > b[i].cast_signed()))
                    }
                }
            }
            Op::CompareDouble(kind, d, a, b) => {
                let (a, b) = (self.doubles[*a], self.doubles[*b]);
                words!(*d, |i| u32::from(match kind {
                    Compare::Equal => a[i] == b[i],
                    Compare::NotEqual => a[i] != b[i],
                    Compare::Less => a[i] < b[i],
                    Compare::LessOrEqual => a[i] <= b[i],
                    Compare::Greater => a[i] > b[i],
                    Compare::GreaterOrEqual => a[i] >= b[i],
                    Compare::SignedGreater => a[i].cast_signed() > b[i].cast_signed(),
                }));
            }
            Op::InsertWord(d, a, b, position, len) => {
                let (a, b) = (self.words[*a], self.words[*b]);
                let (position, len) = (self.words[*position], self.words[*len]);
                words!(*d, |i| insert(a[i].into(), b[i].into(), position[i], len[i]) as u32);
            }
            Op::Insert(d, a, b, position, len) => {
                let (a, b) = (self.doubles[*a], self.doubles[*b]);
                let (position, len) = (self.words[*position], self.words[*len]);
                doubles!(*d, |i| insert(a[i], b[i], position[i], len[i]));
            }
            Op::ParamWord(d, number) => {
                let value =
                    u32::from_le_bytes(self.launch.params[*number][..4].try_into().expect("four bytes"));
                words!(*d, |_i| value);
            }
            Op::ParamDouble(d, number) => {
                let value =
                    u64::from_le_bytes(self.launch.params[*number][..8].try_into().expect("eight bytes"));
                doubles!(*d, |_i| value);
            }
            Op::Load { into, address, offset, size, constant } => {
                let Launch { number, device, .. } = self.launch;
                let addresses = self.doubles[*address];
                // Threads often load the same.
                let (mut last, mut words) = (None, [0; 4]);
                for lane in (0..LANES).filter(|lane| mask[*lane] != 0) {
                    let address = addresses[lane].wrapping_add(*offset);
                    if last != Some(address) {
                        let bytes =
                            self.memory.load(device, number, address, size * into.len(), *constant)?;
                        for (into, bytes) in words.iter_mut().zip(bytes.chunks_exact(*size)) {
                            let mut word = [0; 4];
                            word[..*size].copy_from_slice(bytes);
                            *into = u32::from_le_bytes(word);
                        }
                        last = Some(address);
                    }
                    for (register, word) in into.iter().zip(words) {
                        self.words[*register][lane] = word;
                    }
                }
            }
            Op::LoadDouble { into, address, offset, constant } => {
                let Launch { number, device, .. } = self.launch;
                let addresses = self.doubles[*address];
                let (mut last, mut value) = (None, 0);
                for lane in (0..LANES).filter(|lane| mask[*lane] != 0) {
                    let address = addresses[lane].wrapping_add(*offset);
                    if last != Some(address) {
                        let bytes = self.memory.load(device, number, address, 8, *constant)?;
                        value = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                        last = Some(address);
                    }
                    self.doubles[*into][lane] = value;
                }
            }
            Op::Store { from, address, offset, size } => {
                let Launch { number, device, .. } = self.launch;
                for lane in (0..LANES).filter(|lane| mask[*lane] != 0) {
                    let address = self.doubles[*address][lane].wrapping_add(*offset);
                    let bytes = self.memory.store(device, number, address, size * from.len())?;
                    for (register, bytes) in from.iter().zip(bytes.chunks_exact_mut(*size)) {
                        bytes.copy_from_slice(&self.words[*register][lane].to_le_bytes()[..*size]);
                    }
                }
            }
            Op::StoreDouble { from, address, offset } => {
                let Launch { number, device, .. } = self.launch;
                for lane in (0..LANES).filter(|lane| mask[*lane] != 0) {
                    let address = self.doubles[*address][lane].wrapping_add(*offset);
                    let bytes = self.memory.store(device, number, address, 8)?;
                    bytes.copy_from_slice(&self.doubles[*from][lane].to_le_bytes());
                }
            }
            Op::LoadShared { into, address, offset } => {
                for lane in (0..LANES).filter(|lane| mask[*lane] != 0) {
                    let at = self.shared_at(*address, *offset, lane, 4 * into.len())?;
                    for (register, bytes) in into.iter().zip(self.shared[at].chunks_exact(4)) {
                        self.words[*register][lane] =
                            u32::from_le_bytes(bytes.try_into().expect("four bytes"));
                    }
                }
            }
            Op::StoreShared { from, address, offset } => {
                for lane in (0..LANES).filter(|lane| mask[*lane] != 0) {
                    let at = self.shared_at(*address, *offset, lane, 4)?;
                    self.shared[at].copy_from_slice(&self.words[*from][lane].to_le_bytes());
                }
            }
            Op::AddShared { into, address, offset, value } => {
                for lane in (0..LANES).filter(|lane| mask[*lane] != 0) {
                    let at = self.shared_at(*address, *offset, lane, 4)?;
                    let word = &mut self.shared[at];
                    let before = u32::from_le_bytes((&*word).try_into().expect("four bytes"));
                    let value = self.words[*value][lane];
                    word.copy_from_slice(&before.wrapping_add(value).to_le_bytes());
                    self.words[*into][lane] = before;
                }
            }
            Op::Branch(_) | Op::Return | Op::Barrier => unreachable!("not a step"),
        }
        Ok(())
    }

    /// Where bytes lie in the memory of the block.
    fn shared_at(&self, address: usize, offset: u64, lane: usize, len: usize) -> Result<Range<usize>, Fault> {
        let address = self.doubles[address][lane].wrapping_add(offset);
        let at = usize::try_from(address).ok().filter(|at| at.saturating_add(len) <= self.shared.len());
        let at = at.ok_or_else(|| {
            Fault::Illegal(format!("{len} bytes at {address:#x} of the {} of a block", self.shared.len()))
        })?;
        match at.is_multiple_of(len) {
            true => Ok(at..at + len),
            false => Err(Fault::Misaligned(format!("{len} bytes at {address:#x} of a block"))),
        }
    }
}

/// prmt.b32: bytes of the two, chosen by four selectors of four bits; the fourth bit spreads the sign.
fn permute(a: u32, b: u32, selectors: u32) -> u32 {
    let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
    u32::from_le_bytes(core::array::from_fn(|i| {
        let selector = (selectors >> (4 * i)) as usize & 0xf;
        let byte = bytes[selector & 7];
        match selector & 8 {
            0 => byte,
            _ if byte & 0x80 != 0 => 0xff,
            _ => 0,
        }
    }))
}

/// bfi.b64: the low `len` bits of `a` in place of those of `b` from `position` on.
fn insert(a: u64, b: u64, position: u32, len: u32) -> u64 {
    let (position, len) = (position & 0xff, len & 0xff);
    if position > 63 || len == 0 {
        return b;
    }
    let mask = if len > 63 { u64::MAX } else { (1 << len) - 1 } << position;
    (a << position & mask) | (b & !mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptx::parse;

    /// Runs a kernel whose parameters are the address of memory for one word for each thread, and a number.
    fn words_of(body: &str, threads: u32) -> Result<Vec<u32>, Fault> {
        let text = format!(
            ".version 8.0\n.visible .entry k(\n.param .u64 k_param_0,\n.param .u32 k_param_1\n)\n{{\n.reg .pred %p<5>;\n\
             .reg .b32 %r<20>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<9>;\nld.param.u64 %rd1, [k_param_0];\n\
             ld.param.u32 %r1, [k_param_1];\nmov.u32 %r2, %tid.x;\nmul.wide.u32 %rd2, %r2, 4;\n\
             add.s64 %rd3, %rd1, %rd2;\n{body}\nst.global.u32 [%rd3], %r3;\nret;\n}}\n"
        );
        let module = parse(&text).unwrap();
        let mut memory = Memory::new();
        let address = memory.allocate(0, 4 * threads as usize, true);
        let params = [address.to_le_bytes().to_vec(), 7u32.to_le_bytes().to_vec()];
        let launch = Launch { number: 1, device: 0, grid: 1, block: threads, params: &params };
        run(&module.kernels[0], launch, &mut memory)?;
        let bytes = memory.bytes(0, address, 4 * threads as usize).unwrap();
        Ok(bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect())
    }

    #[test]
    fn threads_part_and_meet_again() {
        // r3 = sum of 0..tid, doubled where tid is even.
        let body = "mov.u32 %r3, 0;\nmov.u32 %r4, 0;\nloop:\nsetp.ge.u32 %p1, %r4, %r2;\n@%p1 bra end;\n\
                    add.s32 %r3, %r3, %r4;\nadd.s32 %r4, %r4, 1;\nbra.uni loop;\nend:\nand.b32 %r5, %r2, 1;\n\
                    setp.eq.s32 %p2, %r5, 0;\n@!%p2 bra odd;\nadd.s32 %r3, %r3, %r3;\nodd:\nadd.s32 %r3, %r3, %r1;";
        let expected = |tid: u32| tid * tid.saturating_sub(1) / 2 * (2 - tid % 2) + 7;
        assert_eq!(words_of(body, 150).unwrap(), (0..150).map(expected).collect::<Vec<_>>());
    }

    #[test]
    fn odd_instructions_do_what_the_manual_says() {
        let one = |body: &str| words_of(body, 1).unwrap()[0];
        assert_eq!(
            one("mov.u32 %r4, 0x44332211;\nmov.u32 %r5, 0x88776655;\nprmt.b32 %r3, %r4, %r5, 0x7410;"),
            0x8855_2211
        );
        assert_eq!(one("mov.u32 %r5, 0x88776655;\nprmt.b32 %r3, %r5, %r5, 0xb3b0;"), 0xff88_ff55);
        assert_eq!(
            one("mov.u32 %r4, 0x44332211;\nmov.u32 %r5, 0x88;\nshf.r.wrap.b32 %r3, %r4, %r5, 8;"),
            0x8844_3322
        );
        assert_eq!(one("mov.u32 %r4, 1;\nshl.b32 %r3, %r4, 32;"), 0);
        assert_eq!(one("mov.u32 %r4, 0;\nclz.b32 %r3, %r4;"), 32);
        assert_eq!(
            one("cvt.rn.f32.u32 %f1, %r1;\nmul.rn.f32 %f2, %f1, %f1;\nmov.b32 %r3, %f2;"),
            49f32.to_bits()
        );
        assert_eq!(one("mov.u32 %r4, -7;\ncvt.rn.f32.s32 %f1, %r4;\nmov.b32 %r3, %f1;"), (-7f32).to_bits());
        assert_eq!(insert(0x1ff, 0, 4, 8), 0xff0);
        let inserted = |position, len| {
            one(&format!(
                "mov.u32 %r4, 0xabc;\nmov.u32 %r5, 0x1111;\nbfi.b32 %r3, %r4, %r5, {position}, {len};"
            ))
        };
        assert_eq!([inserted(4, 8), inserted(28, 8), inserted(32, 8)], [0x1bc1, 0xc000_1111, 0x1111]);
    }

    #[test]
    fn floats_are_rounded_once() {
        let one = |body: &str| f32::from_bits(words_of(body, 1).unwrap()[0]);
        // 1 + 2^-12, whose square is 1 + 2^-11 + 2^-24: fused with -1 nothing is lost.
        let fused = "mov.f32 %f1, 0f3F800800;\nmov.f32 %f2, 0fBF800000;\nfma.rn.f32 %f3, %f1, %f1, %f2;\nmov.b32 %r3, %f3;";
        assert_eq!(one(fused), 2f32.powi(-11) + 2f32.powi(-24));
        assert_eq!(one("mov.f32 %f1, 0f40000000;\nsqrt.rn.f32 %f2, %f1;\nmov.b32 %r3, %f2;"), 2f32.sqrt());
        let third = "mov.f32 %f1, 0f3F800000;\nmov.f32 %f2, 0f40400000;\ndiv.rn.f32 %f3, %f1, %f2;\nmov.b32 %r3, %f3;";
        assert_eq!(one(third), 1.0 / 3.0);
        assert_eq!(words_of("not.b32 %r3, %r1;", 1).unwrap(), [!7]);
        let signed = |than| format!("mov.u32 %r3, 0;\nsetp.gt.s32 %p1, %r2, {than};\n@%p1 mov.u32 %r3, 1;");
        assert_eq!(words_of(&signed("-1"), 2).unwrap(), [1, 1]);
        assert_eq!(words_of(&signed("0"), 2).unwrap(), [0, 1]);
    }

    /// Each thread writes its number to its word of the block, and reads that of the thread that is `than` further, of 256.
    fn exchanged(barrier: &str, than: u32) -> Result<Vec<u32>, Fault> {
        let body = format!(
            ".shared .align 4 .b8 few[1024];\n.shared .align 4 .u32 sum;\nmov.u64 %rd4, few;\nadd.s64 %rd5, %rd4, %rd2;\n\
             st.shared.u32 [%rd5], %r2;\nsetp.ne.s32 %p1, %r2, 0;\n@%p1 bra next;\nmov.u32 %r6, 0;\nst.shared.u32 [sum], %r6;\n\
             next:\n{barrier}\nadd.s32 %r4, %r2, {than};\nand.b32 %r4, %r4, 255;\nmul.wide.u32 %rd6, %r4, 4;\n\
             add.s64 %rd7, %rd4, %rd6;\nld.shared.u32 %r3, [%rd7];\natom.shared.add.u32 %r5, [sum], 1;"
        );
        words_of(&body, 256)
    }

    #[test]
    fn threads_of_a_block_wait_for_each_other() {
        let expected = |than: u32| (0..256).map(|tid| (tid + than) % 256).collect::<Vec<u32>>();
        for than in [1, 100] {
            assert_eq!(exchanged("bar.sync 0;", than).unwrap(), expected(than));
            // Without it some have not written yet.
            assert_ne!(exchanged("", than).unwrap(), expected(than));
        }
        // Some return, or wait elsewhere.
        for barrier in [
            "@%p1 bra there;\nret;\nthere:\nbar.sync 0;",
            "@%p1 bra there;\nbar.sync 0;\nbra.uni after;\nthere:\nbar.sync 0;\nafter:",
        ] {
            let fault = exchanged(barrier, 1).unwrap_err();
            assert!(
                matches!(&fault, Fault::Illegal(text) if text.contains("different barriers")),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn memory_of_a_block_has_ends() {
        let of = |address: &str| {
            words_of(&format!(".shared .align 4 .b8 few[64];\nld.shared.u32 %r3, [{address}];"), 1)
        };
        assert_eq!(of("few").unwrap(), [0xcdcd_cdcd]);
        let fault =
            words_of(".shared .align 4 .b8 few[64];\nmov.u64 %rd4, few;\nld.shared.u32 %r3, [%rd4+64];", 1);
        assert!(
            matches!(&fault, Err(Fault::Illegal(text)) if text.contains("of the 64 of a block")),
            "{fault:?}"
        );
        let fault =
            words_of(".shared .align 4 .b8 few[64];\nmov.u64 %rd4, few;\nld.shared.u32 %r3, [%rd4+2];", 1);
        assert!(matches!(fault, Err(Fault::Misaligned(_))));
    }

    #[test]
    fn a_thread_too_many_is_a_fault_that_says_where() {
        let fault = words_of("add.s64 %rd3, %rd3, 4;\nmov.u32 %r3, 1;", 40).unwrap_err();
        assert!(
            matches!(&fault, Fault::Illegal(text) if text.starts_with("k, line ") && text.contains("no memory of this device"))
        );
        assert!(matches!(words_of("add.s64 %rd3, %rd3, 2;\nmov.u32 %r3, 1;", 4), Err(Fault::Misaligned(_))));
    }
}
