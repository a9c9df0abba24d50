//! The examples of `docs/codecs/*.md` are true: the rows encode to the bytes shown, and those decode to the bits
//! shown. So are the figures that `docs/NUMERICS.md` quotes.
//!
//! An example is a fenced block of lines:
//!
//! ```text
//! input: DTYPE ROWSxDIM VALUES       as decimal numbers, or as bits: 0x7fc00000
//! params: none | min=M scale=S
//! payload: HEX                       spaces do not matter; several lines are one payload
//! decoded: DTYPE VALUES              once for each dtype to be asked for
//! error: TEXT                        instead of all but the input: encoding fails, saying this
//! ```

use std::ops::Range;

use cvc_codec::{
    AffineParams, Backend, Batch, CODECS, ChunkId, ChunkShape, Codec, DType, DecodePlan, EncodedChunk,
    HostBuffer, Job, Load, Params, Payloads, ReferenceBackend, RowSlice, SourceError, find,
};
use half::{bf16, f16};

/// One payload in memory.
struct Payload<'a>(&'a [u8]);

impl Payloads for Payload<'_> {
    fn read(&self, _: ChunkId, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let start = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.0[start..start + into.len()]);
        Ok(())
    }

    fn borrow(&self, _: ChunkId, _: Range<u64>) -> Result<Option<&[u8]>, SourceError> {
        Ok(None)
    }
}

fn decode(plan: &DecodePlan, payload: &[u8], rows: Range<u32>, mut dst: HostBuffer<'_>) {
    let row_count = u64::from(rows.end - rows.start);
    let job = Job { plan, chunk: ChunkId(0), rows, dst_row: 0 };
    let batch = Batch::new(vec![job], row_count, plan.shape().dim, plan.out()).unwrap();
    ReferenceBackend::default().decode(&batch, &Payload(payload), &mut dst).unwrap();
}

/// Values of some dtype, aligned.
enum List {
    U8(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// The same expression for the values of any dtype.
macro_rules! each {
    ($list:expr, $values:ident => $body:expr) => {
        match $list {
            List::U8($values) => $body,
            List::I32($values) => $body,
            List::I64($values) => $body,
            List::F16($values) => $body,
            List::Bf16($values) => $body,
            List::F32($values) => $body,
            List::F64($values) => $body,
        }
    };
}

impl List {
    fn parse<'a>(dtype: DType, words: impl Iterator<Item = &'a str>) -> List {
        fn number<T: std::str::FromStr>(word: &str) -> T {
            word.parse().unwrap_or_else(|_| panic!("`{word}` is not a value of its dtype"))
        }
        fn bits<T: TryFrom<u64>>(word: &str) -> Option<T> {
            let bits = u64::from_str_radix(word.strip_prefix("0x")?, 16).expect("hexadecimal");
            Some(T::try_from(bits).unwrap_or_else(|_| panic!("`{word}` is too wide")))
        }
        let half = |word: &str| match bits(word) {
            Some(bits) => f16::from_bits(bits),
            None => f16::from_f64(number(word)),
        };
        let brain = |word: &str| match bits(word) {
            Some(bits) => bf16::from_bits(bits),
            None => bf16::from_f64(number(word)),
        };
        let single = |word: &str| match bits(word) {
            Some(bits) => f32::from_bits(bits),
            None => number(word),
        };
        match dtype {
            DType::U8 => List::U8(words.map(number).collect()),
            DType::I32 => List::I32(words.map(number).collect()),
            DType::I64 => List::I64(words.map(number).collect()),
            DType::F16 => List::F16(words.map(half).collect()),
            DType::Bf16 => List::Bf16(words.map(brain).collect()),
            DType::F32 => List::F32(words.map(single).collect()),
            DType::F64 => List::F64(words.map(number).collect()),
            other => panic!("no example has {other} yet"),
        }
    }

    /// The bytes in native order.
    fn bytes(&self) -> &[u8] {
        each!(self, values => bytemuck::cast_slice(values))
    }

    fn buffer(&mut self) -> HostBuffer<'_> {
        each!(self, values => HostBuffer::new(values))
    }
}

struct Example {
    /// The page and its line, for messages.
    place: String,
    dtype: DType,
    shape: ChunkShape,
    input: List,
    outcome: Outcome,
}

enum Outcome {
    Encoded { params: Params, payload: Vec<u8>, decoded: Vec<(DType, List)> },
    Error(String),
}

impl Example {
    fn parse(place: String, block: &str) -> Example {
        let dtype_of = |name: Option<&str>| name.and_then(DType::from_name).expect("a dtype");
        let (mut input, mut params, mut error) = (None, None, None);
        let (mut payload, mut decoded) = (Vec::new(), Vec::new());
        for line in block.lines() {
            let (key, text) = line.split_once(':').unwrap_or_else(|| panic!("{place}: no key in `{line}`"));
            let mut words = text.split_whitespace();
            match key {
                "input" => {
                    let dtype = dtype_of(words.next());
                    let (rows, dim) = words.next().and_then(|shape| shape.split_once('x')).expect("a shape");
                    let shape = ChunkShape { rows: rows.parse().unwrap(), dim: dim.parse().unwrap() };
                    input = Some((dtype, shape, List::parse(dtype, words)));
                }
                "params" => params = Some(parse_params(text.trim())),
                "payload" => payload.extend(hex(&words.collect::<String>())),
                "decoded" => {
                    let dtype = dtype_of(words.next());
                    decoded.push((dtype, List::parse(dtype, words)));
                }
                "error" => error = Some(text.trim().to_owned()),
                other => panic!("{place}: unknown key `{other}`"),
            }
        }
        let (dtype, shape, input) = input.unwrap_or_else(|| panic!("{place}: no input"));
        let outcome = match (params, error) {
            (Some(params), None) if !decoded.is_empty() => Outcome::Encoded { params, payload, decoded },
            (None, Some(error)) => Outcome::Error(error),
            _ => panic!("{place}: needs params and decoded, or error"),
        };
        Example { place, dtype, shape, input, outcome }
    }

    fn check(&self, codec: &dyn Codec) {
        let Example { place, shape, .. } = self;
        let (rows, dim) = (shape.rows as usize, shape.dim as usize);
        let input = RowSlice::from_bytes(self.dtype, rows, dim, self.input.bytes()).unwrap();
        // What was there before is replaced.
        let params = Params::Affine(AffineParams { min: 7.0, scale: 7.0 });
        let mut chunk = EncodedChunk { payload: vec![0xaa; 99], params };
        let encoded = codec.encode(input, &mut chunk);
        let (params, payload, decoded) = match &self.outcome {
            Outcome::Encoded { params, payload, decoded } => (params, payload, decoded),
            Outcome::Error(expected) => {
                let message = encoded.expect_err(place).to_string();
                assert!(message.contains(expected) && message.contains(codec.name()), "{place}: {message}");
                return;
            }
        };
        encoded.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(chunk.payload, *payload, "{place}: the payload");
        assert_eq!(param_bits(chunk.params), param_bits(*params), "{place}: {:?}", chunk.params);
        let len = payload.len() as u64;
        assert!(len <= codec.max_encoded_len(*shape, self.dtype), "{place}");

        for (out, expected) in decoded {
            let plan = |len| codec.plan(*shape, self.dtype, params, len, *out);
            let right = plan(len).unwrap_or_else(|error| panic!("{place}: {error}"));
            // Parts of a chunk have the bits that they have in the whole.
            for rows in [0..shape.rows, 0..shape.rows / 2, shape.rows / 2..shape.rows] {
                let row_len = dim * out.size();
                let expected = &expected.bytes()[rows.start as usize * row_len..rows.end as usize * row_len];
                // Any values but those expected.
                let blank = std::iter::repeat_n("77", expected.len() / out.size());
                let mut values = List::parse(*out, blank);
                decode(&right, payload, rows.clone(), values.buffer());
                assert_eq!(values.bytes(), expected, "{place}: rows {rows:?} as {out}");
            }
            // A payload of dict_planes has its length inside.
            if *right.load() != Load::DictPlanes {
                for wrong in [len + 1, len.wrapping_sub(1)] {
                    let message = plan(wrong).expect_err(place).to_string();
                    assert!(message.contains(&format!("{wrong} bytes")), "{place}: {message}");
                }
            }
        }
    }
}

fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "half a byte in {digits}");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn parse_params(text: &str) -> Params {
    if text == "none" {
        return Params::None;
    }
    let (min, scale) = text.split_once(' ').expect("min and scale");
    Params::Affine(AffineParams {
        min: min.strip_prefix("min=").expect("min").parse().unwrap(),
        scale: scale.strip_prefix("scale=").expect("scale").parse().unwrap(),
    })
}

/// To compare: a header has only one NaN.
fn param_bits(params: Params) -> Option<[u64; 2]> {
    let bits = |value: f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
    match params {
        Params::Affine(AffineParams { min, scale }) => Some([bits(min), bits(scale)]),
        _ => None,
    }
}

/// The examples on the page of a codec.
fn examples(codec: &str) -> Vec<Example> {
    let path = format!("{}/../../docs/codecs/{codec}.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut examples = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(page.lines().map(str::trim)) {
        match open.take() {
            None => open = (line == "```example").then(|| (number, String::new())),
            Some((start, block)) if line == "```" => {
                examples.push(Example::parse(format!("docs/codecs/{codec}.md:{start}"), &block));
            }
            Some((start, block)) => open = Some((start, block + line + "\n")),
        }
    }
    assert!(open.is_none(), "{path}: an example is not closed");
    examples
}

#[test]
fn every_example_of_every_page_is_true() {
    for codec in CODECS {
        let examples = examples(codec.name());
        let (empty, full): (Vec<_>, Vec<_>) =
            examples.iter().partition(|example| example.shape.values() == 0);
        assert!(!empty.is_empty() && !full.is_empty(), "{}: an example of each is needed", codec.name());
        examples.iter().for_each(|example| example.check(*codec));
    }
}

#[test]
fn int8_without_parameters_is_refused() {
    for name in ["cvcf.int8", "cvcf0.int8"] {
        let shape = ChunkShape { rows: 1, dim: 1 };
        let error = find(name).unwrap().plan(shape, DType::F32, &Params::None, 1, DType::F32).unwrap_err();
        let expected = format!("codec {name} needs min and scale for each chunk: the file is damaged");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn other_conversions_are_refused() {
    let shape = ChunkShape { rows: 1, dim: 1 };
    let raw = find("raw").unwrap();
    let error = raw.plan(shape, DType::I32, &Params::None, 4, DType::F32).unwrap_err();
    assert_eq!(error.to_string(), "stored i32 values cannot be read as f32: ask for i32");
    let error = raw.plan(shape, DType::F16, &Params::None, 2, DType::F64).unwrap_err();
    assert_eq!(error.to_string(), "stored f16 values cannot be read as f64: ask for f16, f32 or bf16");
}

#[test]
fn a_lossless_payload_too_short_for_its_shape_is_refused() {
    let shape = ChunkShape { rows: u32::MAX, dim: 1 };
    let lossless = find("cvcf.lossless").unwrap();
    let error = lossless.plan(shape, DType::F32, &Params::None, 1000, DType::F32).unwrap_err();
    assert!(error.to_string().contains("need 2147483664"), "{error}");
}

#[test]
fn fused_arithmetic_would_differ() {
    let differ = |code: &f32| code.mul_add(0.1, 0.2) != code * 0.1 + 0.2;
    let count = (0..=u8::MAX).map(f32::from).filter(differ).count();
    assert_eq!(count, 79, "docs/NUMERICS.md quotes the number");
}

/// Numbers from -1 to 1, the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper 24 bits, which are exact in f32.
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// The bound of `docs/NUMERICS.md`, in f64, for every value.
#[test]
#[expect(clippy::print_stdout, reason = "the largest error is quoted by docs/NUMERICS.md, and read off here")]
fn int8_errors_are_half_a_step_and_four_roundings() {
    let unit = 2f64.powi(-24);
    for name in ["cvcf.int8", "cvcf0.int8"] {
        let codec = find(name).unwrap();
        let mut noise = Noise(1);
        let mut largest = 0f64;
        let mut chunk = EncodedChunk::default();
        for number in 0..2_000u32 {
            // Spreads from 2^-100 to 2^99; every other chunk lies far from zero.
            let spread = f32::from_bits((27 + number / 2 % 200) << 23);
            let offset = if number % 2 == 0 { 0.0 } else { spread * noise.next() * 100_000.0 };
            let rows: Vec<f32> = (0..512).map(|_| noise.next() * spread + offset).collect();
            codec.encode(RowSlice::new(&rows, 8).unwrap(), &mut chunk).unwrap();
            let shape = ChunkShape { rows: 64, dim: 8 };
            let plan = codec.plan(shape, DType::F32, &chunk.params, 512, DType::F32).unwrap();
            let mut decoded = vec![0f32; 512];
            decode(&plan, &chunk.payload, 0..64, HostBuffer::new(&mut decoded));

            let Load::AffineU8 { scale, .. } = plan.load() else { panic!("all of it is finite") };
            let scale = f64::from(*scale);
            let magnitude = rows.iter().fold(0f64, |most, value| most.max(f64::from(value.abs())));
            let bound = scale * (0.5 + 768.0 * unit) + unit * (magnitude + scale);
            for (value, decoded) in rows.iter().zip(&decoded) {
                let error = (f64::from(*decoded) - f64::from(*value)).abs();
                assert!(error <= bound, "{name}, chunk {number}: {value:e} became {decoded:e}");
                if number % 2 == 0 {
                    largest = largest.max(error / scale);
                }
            }
        }
        println!("{name}: at most {largest:.7} steps around zero");
    }
}
