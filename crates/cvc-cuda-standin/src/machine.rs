//! Runs kernels: the threads of a block side by side, each with its own place in the code.
//!
//! ```text
//! for block in grid { for thread in block { while not returned { run the instruction at its place } } }
//! ```
//!
//! Threads are taken [`LANES`] at a time, and an instruction is run for all of them whose place it is, so that finding out
//! what it does is paid once. Of threads that have parted the ones furthest behind go first, and so they meet again.
//! (Kernels with barriers would need more; there are none.)

use crate::memory::{Fault, Memory};
use crate::ptx::{Compare, Double2, Instruction, Kernel, Op, Special, Word2, Word3};

/// Threads that run side by side.
const LANES: usize = 64;
type Words = [u32; LANES];
type Doubles = [u64; LANES];

/// Where a thread is that has returned.
const RETURNED: usize = usize::MAX;

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
        for first in (0..launch.block).step_by(LANES) {
            machine.run(block, first)?;
        }
    }
    Ok(())
}

struct Machine<'a> {
    words: Vec<Words>,
    doubles: Vec<Doubles>,
    kernel: &'a Kernel,
    launch: Launch<'a>,
    memory: &'a mut Memory,
}

impl Machine<'_> {
    /// Runs the threads of a block from `first` on.
    fn run(&mut self, block: u32, first: u32) -> Result<(), Fault> {
        let threads = LANES.min((self.launch.block - first) as usize);
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
        let mut places = [RETURNED; LANES];
        places[..threads].fill(0);
        loop {
            let place = places.iter().copied().min().expect("there are lanes");
            if place == RETURNED {
                return Ok(());
            }
            let others = places.iter().copied().filter(|other| *other > place).min().unwrap_or(RETURNED);
            let here: Words = core::array::from_fn(|lane| if places[lane] == place { u32::MAX } else { 0 });
            self.run_until(place, others, &here, &mut places)?;
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
            if let Op::Branch(_) | Op::Return = op {
                let target = if let Op::Branch(target) = op { *target } else { RETURNED };
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
                }
            }
            Op::Word3(kind, d, a, b, c) => {
                let (a, b, c) = (self.words[*a], self.words[*b], self.words[*c]);
                match kind {
                    Word3::MulAdd => words!(*d, |i| a[i].wrapping_mul(b[i]).wrapping_add(c[i])),
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
            Op::Neg(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| a[i].wrapping_neg());
            }
            Op::Float(d, a) => {
                let a = self.words[*a];
                words!(*d, |i| (a[i] as f32).to_bits());
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
                }));
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
            Op::Branch(_) | Op::Return => unreachable!("not a step"),
        }
        Ok(())
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
        assert_eq!(insert(0x1ff, 0, 4, 8), 0xff0);
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
