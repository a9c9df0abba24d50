//! From the text of a PTX module to kernels that [`crate::machine`] runs.
//!
//! Only what the kernels of this project are made of is known; anything else is refused, and so is every operation on
//! floats that a compiler may contract (`mul.f32` without `.rn`) or that flushes subnormals (`.ftz`): a kernel that is
//! right here must not be wrong elsewhere for having said too little. (`fma.rn.f32` says all; which kernels may say it is looked at by
//! `cargo xtask kernels`.)

use std::collections::HashMap;

/// A kernel, ready to run.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    /// Bytes of each parameter.
    pub(crate) params: Vec<usize>,
    /// The most threads of a block, if the kernel says so.
    pub(crate) max_threads: Option<u32>,
    pub(crate) code: Vec<Instruction>,
    /// How many registers there are of 32 and of 64 bits. Predicates and 16-bit registers are among those of 32 bits.
    pub(crate) words: usize,
    pub(crate) doubles: usize,
    /// Registers that hold constants.
    pub(crate) word_constants: Vec<(usize, u32)>,
    pub(crate) double_constants: Vec<(usize, u64)>,
    pub(crate) specials: Vec<(usize, Special)>,
    /// Bytes of memory of a block.
    pub(crate) shared_len: usize,
    pub(crate) has_barriers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    ThreadX,
    BlockX,
    BlockDimX,
    GridDimX,
}

#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    /// Runs only for threads whose predicate register is this.
    pub(crate) guard: Option<(usize, bool)>,
    pub(crate) op: Op,
    pub(crate) line: usize,
}

/// Registers are numbers; `W` those of 32 bits, `D` those of 64.
type W = usize;
type D = usize;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Word2(Word2, W, W, W),
    Word3(Word3, W, W, W, W),
    Double2(Double2, D, D, D),
    /// A shift of 64 bits by a register of 32.
    DoubleShift(bool, D, D, W),
    Clz(W, W),
    /// Of a predicate, and of all bits.
    Not(W, W),
    Invert(W, W),
    SquareRoot(W, W),
    Neg(W, W),
    Float(W, W),
    FloatSigned(W, W),
    MulWide(D, W, W),
    Widen(D, W),
    Cut(W, D),
    Move(W, W),
    MoveDouble(D, D),
    /// Destination, the two, the predicate.
    Select(W, W, W, W),
    SelectDouble(D, D, D, W),
    Compare(Compare, W, W, W),
    CompareDouble(Compare, W, D, D),
    /// bfi.b64: source, base, position, length.
    Insert(D, D, D, W, W),
    /// bfi.b32
    InsertWord(W, W, W, W, W),
    /// A parameter, by number.
    ParamWord(W, usize),
    ParamDouble(D, usize),
    Load {
        into: Vec<W>,
        address: D,
        offset: u64,
        size: usize,
        constant: bool,
    },
    LoadDouble {
        into: D,
        address: D,
        offset: u64,
        constant: bool,
    },
    Store {
        from: Vec<W>,
        address: D,
        offset: u64,
        size: usize,
    },
    StoreDouble {
        from: D,
        address: D,
        offset: u64,
    },
    /// Memory of the block, whose addresses begin at 0.
    LoadShared {
        into: Vec<W>,
        address: D,
        offset: u64,
    },
    StoreShared {
        from: W,
        address: D,
        offset: u64,
    },
    /// Adds to a word of the block and gives what was there.
    AddShared {
        into: W,
        address: D,
        offset: u64,
        value: W,
    },
    /// All threads of the block wait for each other.
    Barrier,
    Branch(usize),
    Return,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Word2 {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Min,
    Max,
    /// mul.rn.f32, add.rn.f32, div.rn.f32
    FloatMul,
    FloatAdd,
    FloatDiv,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Word3 {
    /// mad.lo
    MulAdd,
    /// fma.rn.f32
    FloatMulAdd,
    /// shf.r.wrap
    Funnel,
    Permute,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Double2 {
    Add,
    Sub,
    Mul,
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Of words only.
    SignedGreater,
}

/// A module: the version of its language, times ten, and its kernels.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) version: u32,
    pub(crate) kernels: Vec<Kernel>,
}

/// Reads a module.
///
/// # Errors
/// What is not known, with its line.
pub(crate) fn parse(text: &str) -> Result<Module, String> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix(".version "))
        .and_then(|version| version.trim().replace('.', "").parse().ok())
        .ok_or("no .version")?;
    let mut kernels = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some(entry) = line.strip_prefix(".visible .entry ") else { continue };
        let mut builder = Builder::new(entry.trim_end_matches('('));
        for (number, line) in lines.by_ref() {
            if line == "}" {
                break;
            }
            let line = line.split("//").next().unwrap_or_default().trim();
            builder.line(number + 1, line).map_err(|problem| format!("line {}: {problem}", number + 1))?;
        }
        kernels.push(builder.finish()?);
    }
    Ok(Module { version, kernels })
}

struct Builder {
    kernel: Kernel,
    /// Where each named register is, and whether it has 64 bits.
    registers: HashMap<String, (usize, bool)>,
    /// Where each variable is in the memory of a block.
    shared: HashMap<String, usize>,
    labels: HashMap<String, usize>,
    /// Branches by instruction, whose labels may come later.
    branches: Vec<(usize, String)>,
}

impl Builder {
    fn new(name: &str) -> Self {
        let kernel = Kernel {
            name: name.to_owned(),
            params: Vec::new(),
            max_threads: None,
            code: Vec::new(),
            words: 0,
            doubles: 0,
            word_constants: Vec::new(),
            double_constants: Vec::new(),
            specials: Vec::new(),
            shared_len: 0,
            has_barriers: false,
        };
        let (registers, shared, labels) = (HashMap::new(), HashMap::new(), HashMap::new());
        Builder { kernel, registers, shared, labels, branches: Vec::new() }
    }

    fn finish(mut self) -> Result<Kernel, String> {
        for (at, label) in self.branches {
            let target = *self.labels.get(&label).ok_or(format!("no label {label}"))?;
            self.kernel.code[at].op = Op::Branch(target);
        }
        if !matches!(self.kernel.code.last(), Some(Instruction { op: Op::Return, guard: None, .. })) {
            return Err(format!("{} does not end with ret", self.kernel.name));
        }
        Ok(self.kernel)
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        // A pragma is advice to a compiler.
        if line.is_empty() || matches!(line, "{" | ")" | "(") || line.starts_with(".pragma ") {
            return Ok(());
        }
        if let Some(param) = line.strip_prefix(".param ") {
            let size = match param.split_whitespace().next() {
                Some(".u64") => 8,
                Some(".u32") => 4,
                _ => return Err(format!("parameter {param}")),
            };
            self.kernel.params.push(size);
            return Ok(());
        }
        if let Some(threads) = line.strip_prefix(".maxntid ") {
            let mut threads = threads.split(',').map(|n| n.trim().parse::<u32>().unwrap_or(0));
            self.kernel.max_threads = Some(threads.by_ref().product());
            return Ok(());
        }
        if let Some(declared) = line.strip_prefix(".reg ") {
            return self.declare(declared.trim_end_matches(';'));
        }
        if let Some(declared) = line.strip_prefix(".shared ") {
            return self.declare_shared(declared.trim_end_matches(';'));
        }
        if let Some(label) = line.strip_suffix(':') {
            self.labels.insert(label.to_owned(), self.kernel.code.len());
            return Ok(());
        }
        let statement = line.strip_suffix(';').ok_or(format!("`{line}`"))?;
        self.statement(number, statement.trim())
    }

    /// `.b32 %r<287>`
    fn declare(&mut self, text: &str) -> Result<(), String> {
        let (class, name) = text.trim().split_once(char::is_whitespace).ok_or("a register without a name")?;
        let (prefix, count) = name.trim().split_once('<').ok_or("registers without a count")?;
        let count: usize = count.trim_end_matches('>').parse().map_err(|_| "registers without a count")?;
        let double = match class {
            ".pred" | ".b16" | ".b32" | ".f32" => false,
            ".b64" => true,
            _ => return Err(format!("registers of {class}")),
        };
        for i in 0..count {
            let bank = if double { &mut self.kernel.doubles } else { &mut self.kernel.words };
            self.registers.insert(format!("{prefix}{i}"), (*bank, double));
            *bank += 1;
        }
        Ok(())
    }

    /// `.align 4 .b8 name[1024]` or `.align 4 .u32 name`
    fn declare_shared(&mut self, text: &str) -> Result<(), String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [".align", align, of, name] = words.as_slice() else { return Err(format!("shared {text}")) };
        let align: usize = align.parse().map_err(|_| format!("alignment {align}"))?;
        let (name, count) = match name.split_once('[') {
            Some((name, count)) => {
                (name, count.trim_end_matches(']').parse().map_err(|_| format!("shared {text}"))?)
            }
            None => (*name, 1),
        };
        let size = match *of {
            ".b8" => 1,
            ".u32" | ".b32" | ".f32" => 4,
            _ => return Err(format!("shared {of}")),
        };
        let start = self.kernel.shared_len.next_multiple_of(align);
        self.shared.insert(name.to_owned(), start);
        self.kernel.shared_len = start + size * count;
        Ok(())
    }

    fn statement(&mut self, line: usize, text: &str) -> Result<(), String> {
        let (guard, text) = match text.strip_prefix('@') {
            Some(rest) => {
                let (predicate, rest) = rest.split_once(char::is_whitespace).ok_or("a guard alone")?;
                let (wanted, name) = match predicate.strip_prefix('!') {
                    Some(name) => (false, name),
                    None => (true, predicate),
                };
                (Some((self.word(name)?, wanted)), rest.trim())
            }
            None => (None, text),
        };
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let operands = operands(rest);
        let op = self.op(name, &operands)?;
        self.kernel.code.push(Instruction { guard, op, line });
        Ok(())
    }

    fn op(&mut self, name: &str, o: &[&str]) -> Result<Op, String> {
        let count = |count: usize| match o.len() == count {
            true => Ok(()),
            false => Err(format!("{name} with {} operands", o.len())),
        };
        if let Some((_, kind)) = WORD2.iter().find(|(known, _)| *known == name) {
            count(3)?;
            return Ok(Op::Word2(*kind, self.word(o[0])?, self.word(o[1])?, self.word(o[2])?));
        }
        if let Some(compare) = name.strip_prefix("setp.") {
            count(3)?;
            let (compare, of) = compare.split_once('.').ok_or("setp of nothing")?;
            // Signed and unsigned differ only in order.
            let compare = match (compare, of) {
                ("eq", "s16" | "s32" | "b32" | "s64") => Compare::Equal,
                ("ne", "s16" | "s32" | "b32" | "s64") => Compare::NotEqual,
                ("lt", "u32" | "u64") => Compare::Less,
                ("le", "u32" | "u64") => Compare::LessOrEqual,
                ("gt", "u32" | "u64") => Compare::Greater,
                ("ge", "u32" | "u64") => Compare::GreaterOrEqual,
                ("gt", "s32") => Compare::SignedGreater,
                _ => return Err(format!("unknown: {name}")),
            };
            return Ok(match of.ends_with("64") {
                true => Op::CompareDouble(compare, self.word(o[0])?, self.double(o[1])?, self.double(o[2])?),
                false => Op::Compare(compare, self.word(o[0])?, self.word(o[1])?, self.word(o[2])?),
            });
        }
        if let Some(access) = name.strip_prefix("ld.param.") {
            count(2)?;
            let number = o[1].trim_end_matches(']').rsplit('_').next().and_then(|n| n.parse().ok());
            let number = number.ok_or("a parameter without a number")?;
            return Ok(match access {
                "u64" => Op::ParamDouble(self.double(o[0])?, number),
                "u32" => Op::ParamWord(self.word(o[0])?, number),
                _ => return Err(format!("unknown: {name}")),
            });
        }
        if let Some(access) = name.strip_prefix("ld.shared.") {
            count(2)?;
            let (address, offset) = self.address(o[1])?;
            let (vector, of) = access.rsplit_once('.').unwrap_or(("", access));
            return match size_of(of, name)? {
                4 => Ok(Op::LoadShared { into: self.vector(vector, o[0])?, address, offset }),
                _ => Err(format!("unknown: {name}")),
            };
        }
        if name == "st.shared.u32" {
            count(2)?;
            let (address, offset) = self.address(o[0])?;
            return Ok(Op::StoreShared { from: self.word(o[1])?, address, offset });
        }
        if name == "atom.shared.add.u32" {
            count(3)?;
            let (address, offset) = self.address(o[1])?;
            return Ok(Op::AddShared { into: self.word(o[0])?, address, offset, value: self.word(o[2])? });
        }
        if let Some(access) = name.strip_prefix("ld.") {
            count(2)?;
            let (address, offset) = self.address(o[1])?;
            let constant = access.starts_with("global.nc.");
            let access = access.trim_start_matches("global.").trim_start_matches("nc.");
            let (vector, of) = access.rsplit_once('.').unwrap_or(("", access));
            if (vector, of) == ("", "u64") {
                return Ok(Op::LoadDouble { into: self.double(o[0])?, address, offset, constant });
            }
            let into = self.vector(vector, o[0])?;
            return Ok(Op::Load { into, address, offset, size: size_of(of, name)?, constant });
        }
        if let Some(access) = name.strip_prefix("st.") {
            count(2)?;
            let (address, offset) = self.address(o[0])?;
            let access = access.trim_start_matches("global.");
            let (vector, of) = access.rsplit_once('.').unwrap_or(("", access));
            if (vector, of) == ("", "u64") {
                return Ok(Op::StoreDouble { from: self.double(o[1])?, address, offset });
            }
            let from = self.vector(vector, o[1])?;
            return Ok(Op::Store { from, address, offset, size: size_of(of, name)? });
        }
        Ok(match name {
            "mad.lo.s32" | "fma.rn.f32" | "shf.r.wrap.b32" | "prmt.b32" => {
                count(4)?;
                let kind = match name {
                    "mad.lo.s32" => Word3::MulAdd,
                    "fma.rn.f32" => Word3::FloatMulAdd,
                    "prmt.b32" => Word3::Permute,
                    _ => Word3::Funnel,
                };
                let [d, a, b, c] = [self.word(o[0])?, self.word(o[1])?, self.word(o[2])?, self.word(o[3])?];
                Op::Word3(kind, d, a, b, c)
            }
            "add.s64" | "sub.s64" | "mul.lo.s64" | "and.b64" | "or.b64" => {
                count(3)?;
                let kind = match name {
                    "add.s64" => Double2::Add,
                    "sub.s64" => Double2::Sub,
                    "mul.lo.s64" => Double2::Mul,
                    "and.b64" => Double2::And,
                    _ => Double2::Or,
                };
                Op::Double2(kind, self.double(o[0])?, self.double(o[1])?, self.double(o[2])?)
            }
            "shl.b64" | "shr.u64" => {
                count(3)?;
                let left = name.starts_with("shl");
                Op::DoubleShift(left, self.double(o[0])?, self.double(o[1])?, self.word(o[2])?)
            }
            "bfi.b64" => {
                count(5)?;
                let [d, a, b] = [self.double(o[0])?, self.double(o[1])?, self.double(o[2])?];
                Op::Insert(d, a, b, self.word(o[3])?, self.word(o[4])?)
            }
            "bfi.b32" => {
                count(5)?;
                let [d, a, b] = [self.word(o[0])?, self.word(o[1])?, self.word(o[2])?];
                Op::InsertWord(d, a, b, self.word(o[3])?, self.word(o[4])?)
            }
            "clz.b32" => Op::Clz(self.word(o[0])?, self.word(o[1])?),
            "not.pred" => Op::Not(self.word(o[0])?, self.word(o[1])?),
            "not.b32" => Op::Invert(self.word(o[0])?, self.word(o[1])?),
            "sqrt.rn.f32" => Op::SquareRoot(self.word(o[0])?, self.word(o[1])?),
            "neg.s32" => Op::Neg(self.word(o[0])?, self.word(o[1])?),
            "cvt.rn.f32.u32" => Op::Float(self.word(o[0])?, self.word(o[1])?),
            "cvt.rn.f32.s32" => Op::FloatSigned(self.word(o[0])?, self.word(o[1])?),
            "mul.wide.u32" => {
                count(3)?;
                Op::MulWide(self.double(o[0])?, self.word(o[1])?, self.word(o[2])?)
            }
            "cvt.u64.u32" => Op::Widen(self.double(o[0])?, self.word(o[1])?),
            "cvt.u32.u64" => Op::Cut(self.word(o[0])?, self.double(o[1])?),
            "mov.u32" | "mov.pred" | "mov.u16" | "mov.b32" | "mov.f32" => {
                Op::Move(self.word(o[0])?, self.word(o[1])?)
            }
            "mov.u64" | "mov.b64" | "cvta.to.global.u64" => {
                Op::MoveDouble(self.double(o[0])?, self.double(o[1])?)
            }
            "selp.b32" | "selp.u32" | "selp.f32" | "selp.u16" | "selp.b16" => {
                count(4)?;
                Op::Select(self.word(o[0])?, self.word(o[1])?, self.word(o[2])?, self.word(o[3])?)
            }
            "selp.b64" => {
                count(4)?;
                Op::SelectDouble(self.double(o[0])?, self.double(o[1])?, self.double(o[2])?, self.word(o[3])?)
            }
            "bra" | "bra.uni" => {
                count(1)?;
                self.branches.push((self.kernel.code.len(), o[0].to_owned()));
                Op::Branch(usize::MAX)
            }
            "bar.sync" => {
                self.kernel.has_barriers = true;
                Op::Barrier
            }
            "ret" => Op::Return,
            _ => return Err(format!("unknown, or free to be contracted: {name}")),
        })
    }

    /// The number of a 32-bit register, special register or constant.
    fn word(&mut self, text: &str) -> Result<usize, String> {
        let special = match text {
            "%tid.x" => Some(Special::ThreadX),
            "%ctaid.x" => Some(Special::BlockX),
            "%ntid.x" => Some(Special::BlockDimX),
            "%nctaid.x" => Some(Special::GridDimX),
            _ => None,
        };
        if let Some(special) = special {
            self.kernel.specials.push((self.kernel.words, special));
            self.kernel.words += 1;
            return Ok(self.kernel.words - 1);
        }
        if let Some(value) = constant(text) {
            // Negative ones are written as such and kept in two's complement.
            let low = u32::try_from(value & 0xffff_ffff).map_err(|_| format!("constant {text}"))?;
            self.kernel.word_constants.push((self.kernel.words, low));
            self.kernel.words += 1;
            return Ok(self.kernel.words - 1);
        }
        match self.registers.get(text) {
            Some((number, false)) => Ok(*number),
            _ => Err(format!("no 32-bit register {text}")),
        }
    }

    fn double(&mut self, text: &str) -> Result<usize, String> {
        let place = self.shared.get(text).map(|place| *place as u64);
        if let Some(value) = place.or_else(|| constant(text)) {
            self.kernel.double_constants.push((self.kernel.doubles, value));
            self.kernel.doubles += 1;
            return Ok(self.kernel.doubles - 1);
        }
        match self.registers.get(text) {
            Some((number, true)) => Ok(*number),
            _ => Err(format!("no 64-bit register {text}")),
        }
    }

    /// `[%rd18+44]`
    fn address(&mut self, text: &str) -> Result<(usize, u64), String> {
        let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let inside = inside.ok_or(format!("address {text}"))?;
        let (register, offset) = inside.split_once('+').unwrap_or((inside, "0"));
        let offset = constant(offset).ok_or(format!("offset {offset}"))?;
        Ok((self.double(register)?, offset))
    }

    /// `{%r1, %r2}` of `v2`, or one register.
    fn vector(&mut self, vector: &str, text: &str) -> Result<Vec<usize>, String> {
        let count = match vector {
            "" => return Ok(vec![self.word(text)?]),
            "v2" => 2,
            "v4" => 4,
            _ => return Err(format!("a vector of {vector}")),
        };
        let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or("no vector")?;
        let registers: Vec<usize> =
            inside.split(',').map(|register| self.word(register.trim())).collect::<Result<_, _>>()?;
        if registers.len() == count { Ok(registers) } else { Err(format!("{vector} of {text}")) }
    }
}

const WORD2: &[(&str, Word2)] = &[
    ("add.s32", Word2::Add),
    ("sub.s32", Word2::Sub),
    ("mul.lo.s32", Word2::Mul),
    ("div.u32", Word2::Div),
    ("rem.u32", Word2::Rem),
    ("and.b32", Word2::And),
    ("and.b16", Word2::And),
    ("and.pred", Word2::And),
    ("or.b32", Word2::Or),
    ("or.pred", Word2::Or),
    ("xor.pred", Word2::Xor),
    ("xor.b32", Word2::Xor),
    ("shl.b32", Word2::Shl),
    ("shr.u32", Word2::Shr),
    ("min.u32", Word2::Min),
    ("max.u32", Word2::Max),
    ("mul.rn.f32", Word2::FloatMul),
    ("add.rn.f32", Word2::FloatAdd),
    ("div.rn.f32", Word2::FloatDiv),
];

fn size_of(of: &str, name: &str) -> Result<usize, String> {
    match of {
        "u8" => Ok(1),
        "u16" => Ok(2),
        "u32" | "f32" => Ok(4),
        _ => Err(format!("unknown: {name}")),
    }
}

/// A decimal, hexadecimal or truth constant, in two's complement.
fn constant(text: &str) -> Option<u64> {
    match text {
        "true" => return Some(1),
        "false" => return Some(0),
        _ => {}
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0f")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    text.parse::<i64>().ok().map(i64::cast_unsigned).or_else(|| text.parse::<u64>().ok())
}

/// Splits at commas that are not inside braces.
fn operands(text: &str) -> Vec<&str> {
    let mut operands = Vec::new();
    let (mut start, mut depth) = (0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                operands.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        operands.push(text[start..].trim());
    }
    operands
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn kernel(body: &str) -> String {
        format!(
            ".version 8.0\n.target sm_70\n.visible .entry k(\n.param .u64 k_param_0\n)\n{{\n\
             .reg .pred %p<3>;\n.reg .b32 %r<9>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<9>;\n{body}\nret;\n}}\n"
        )
    }

    #[test]
    fn floats_that_may_be_contracted_or_flushed_are_refused() {
        assert!(parse(&kernel("mul.rn.f32 %f1, %f2, %f3;")).is_ok());
        for op in ["mul.f32", "add.f32", "sub.f32", "mul.ftz.f32", "mul.rn.ftz.f32", "add.rz.f32"] {
            assert!(parse(&kernel(&format!("{op} %f1, %f2, %f3;"))).unwrap_err().contains(op));
        }
        assert!(parse(&kernel("fma.rn.f32 %f1, %f2, %f3, %f4;")).is_ok());
        for op in ["fma.f32", "fma.rn.ftz.f32", "mad.f32", "mad.rn.f32"] {
            assert!(parse(&kernel(&format!("{op} %f1, %f2, %f3, %f4;"))).unwrap_err().contains(op));
        }
    }

    #[test]
    fn every_kernel_that_ships_is_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../cvc-cuda/src/ptx");
        let mut kernels = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let module = parse(&std::fs::read_to_string(&path).unwrap());
            let module = module.unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
            assert_eq!(module.version, 80, "{}", path.display());
            kernels += module.kernels.len();
        }
        assert!(kernels > 20, "{kernels} kernels");
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        assert_eq!(parse("nothing").unwrap_err(), "no .version");
        assert!(parse(&kernel("bar.red.popc.u32 %r1, 0, %p1;")).unwrap_err().starts_with("line 11: "));
        assert!(parse(&kernel("add.s32 %r1, %rd1, %r2;")).unwrap_err().contains("no 32-bit register %rd1"));
        assert!(parse(&kernel("bra nowhere;")).unwrap_err().contains("no label nowhere"));
    }
}
