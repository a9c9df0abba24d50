//! The examples of `docs/codecs/*.md` are true: the rows encode to the bytes shown, and those decode to the bits
//! shown. So are the figures that `docs/NUMERICS.md` quotes.
//!
//! An example is a fenced block of lines:
//!
//! ```text
//! input: DTYPE ROWSxDIM VALUES       as decimal numbers, or as bits: 0x7fc00000
//! options: KEY=VALUE ...             block_rows, scope, nonfinite; those not given are as by default
//! params: none | min=M scale=S | HEX
//! payload: HEX                       spaces do not matter; several lines are one payload
//! field: HEX                         instead, in native files: once for each field
//! lane: HEX | HEX | ...              and once for each lane, with the streams of its blocks
//! decoded: DTYPE VALUES              once for each dtype to be asked for
//! error: TEXT                        instead of all but the input and its options: encoding fails, saying this
//! ```
//!
//! Strings are `input: utf8 ROWSx1 "a" "b"`, without spaces in them, and nothing but options and a lane.

mod support;

use cvc_codec::strings::{decode_block, encode_strings, stream_of};
use cvc_codec::{
    Affine, AffineParams, CODECS, ChunkShape, Codec, DType, EncodeOptions, EncodedChunk, Inflater, Load,
    NonFinite, Params, Plain, RowSlice, Scope, Strings, find,
};
use cvc_format::ArrayDType;
use half::{bf16, f16};
use support::{Aligned, Chunk};

/// The only chunk of a CVCF file.
fn cvcf(shape: ChunkShape, dtype: DType, params: Params, bytes: Vec<u8>) -> Chunk {
    let parts =
        std::sync::Arc::new(cvc_codec::Parts::opaque(shape.rows, u32::try_from(bytes.len()).unwrap()));
    Chunk { shape, dtype, params, parts, bytes }
}

/// The bytes of values of some dtype.
fn parse_values<'a>(dtype: DType, words: impl Iterator<Item = &'a str>) -> Aligned {
    fn number<T: std::str::FromStr>(word: &str) -> T {
        word.parse().unwrap_or_else(|_| panic!("`{word}` is not a value of its dtype"))
    }
    fn bits<T: TryFrom<u64>>(word: &str) -> Option<T> {
        let bits = u64::from_str_radix(word.strip_prefix("0x")?, 16).expect("hexadecimal");
        Some(T::try_from(bits).unwrap_or_else(|_| panic!("`{word}` is too wide")))
    }
    let half = |word: &str| bits(word).map_or_else(|| f16::from_f64(number(word)), f16::from_bits);
    let brain = |word: &str| bits(word).map_or_else(|| bf16::from_f64(number(word)), bf16::from_bits);
    let single = |word: &str| bits(word).map_or_else(|| number(word), f32::from_bits);
    let double = |word: &str| bits(word).map_or_else(|| number(word), f64::from_bits);
    let mut bytes = Vec::new();
    for word in words {
        match dtype {
            DType::U8 | DType::Bool => bytes.push(number(word)),
            DType::I32 => bytes.extend(number::<i32>(word).to_ne_bytes()),
            DType::I64 => bytes.extend(number::<i64>(word).to_ne_bytes()),
            DType::F16 => bytes.extend(half(word).to_ne_bytes()),
            DType::Bf16 => bytes.extend(brain(word).to_ne_bytes()),
            // Two words are one complex value.
            DType::F32 | DType::C64 => bytes.extend(single(word).to_ne_bytes()),
            DType::F64 | DType::C128 => bytes.extend(double(word).to_ne_bytes()),
            other => panic!("no example has {other} yet"),
        }
    }
    Aligned::new(&bytes)
}

struct Example {
    /// The page and its line, for messages.
    place: String,
    dtype: ArrayDType,
    shape: ChunkShape,
    values: Aligned,
    strings: Strings,
    options: Vec<(String, String)>,
    outcome: Outcome,
}

enum Outcome {
    Encoded { params: Params, bytes: Encoded, decoded: Vec<(DType, Aligned)> },
    Error(String),
}

#[derive(Debug, Default, PartialEq)]
struct Encoded {
    payload: Option<Vec<u8>>,
    fields: Vec<Vec<u8>>,
    lanes: Vec<Vec<Vec<u8>>>,
}

impl Example {
    fn parse(place: String, block: &str) -> Example {
        let (mut input, mut params, mut error) = (None, None, None);
        let (mut bytes, mut decoded, mut options) = (Encoded::default(), Vec::new(), Vec::new());
        for line in block.lines() {
            let (key, text) = line.split_once(':').unwrap_or_else(|| panic!("{place}: no key in `{line}`"));
            let mut words = text.split_whitespace();
            match key {
                "input" => {
                    let dtype = words.next().and_then(ArrayDType::from_name).expect("a dtype");
                    let (rows, dim) = words.next().and_then(|shape| shape.split_once('x')).expect("a shape");
                    let shape = ChunkShape { rows: rows.parse().unwrap(), dim: dim.parse().unwrap() };
                    input = Some(match dtype {
                        ArrayDType::Values(values) => {
                            (dtype, shape, parse_values(values, words), Strings::default())
                        }
                        ArrayDType::Utf8 => {
                            let strings = words.map(|word| word.trim_matches('"')).collect();
                            (dtype, shape, Aligned::new(&[]), strings)
                        }
                        ArrayDType::Unknown => unreachable!("it has no name"),
                    });
                }
                "options" => options.extend(words.map(|word| {
                    let (key, value) = word.split_once('=').expect("key and value");
                    (key.to_owned(), value.to_owned())
                })),
                "params" => params = Some(parse_params(text.trim())),
                "payload" => bytes.payload.get_or_insert_default().extend(hex(text)),
                "field" => bytes.fields.push(hex(text)),
                "lane" => bytes.lanes.push(text.split('|').map(hex).collect()),
                "decoded" => {
                    let dtype = words.next().and_then(DType::from_name).expect("a dtype");
                    decoded.push((dtype, parse_values(dtype, words)));
                }
                "error" => error = Some(text.trim().to_owned()),
                other => panic!("{place}: unknown key `{other}`"),
            }
        }
        let (dtype, shape, values, strings) = input.unwrap_or_else(|| panic!("{place}: no input"));
        let outcome = match (params, error) {
            (Some(params), None) if dtype == ArrayDType::Utf8 || !decoded.is_empty() => {
                Outcome::Encoded { params, bytes, decoded }
            }
            (None, Some(error)) => Outcome::Error(error),
            _ => panic!("{place}: needs params and decoded, or error"),
        };
        Example { place, dtype, shape, values, strings, options, outcome }
    }

    fn options(&self, codec: &dyn Codec) -> EncodeOptions {
        let dtype = self.dtype.values().unwrap_or(DType::U8);
        let mut options = EncodeOptions::new(codec.default_block_rows(dtype, self.shape.dim));
        for (key, value) in &self.options {
            match (key.as_str(), value.as_str()) {
                ("block_rows", rows) => options.block_rows = rows.parse().unwrap(),
                ("scope", "row") => options.scope = Scope::Row,
                ("scope", "dim") => options.scope = Scope::Dim,
                ("scope", "chunk") => options.scope = Scope::Chunk,
                ("nonfinite", "saturate") => options.nonfinite = NonFinite::Saturate,
                (key, value) => panic!("{}: no option {key} can be {value}", self.place),
            }
        }
        options
    }

    /// A chunk that holds something else.
    fn used_chunk() -> EncodedChunk {
        let mut chunk = EncodedChunk::default();
        chunk.reset(1, 2);
        chunk.params = Params::Affine(AffineParams { min: 7.0, scale: 7.0 });
        chunk.fields[0].bytes.extend([0xaa; 99]);
        chunk.lanes[1].lens.push(99);
        chunk
    }

    fn check(&self, codec: &dyn Codec) {
        let Some(dtype) = self.dtype.values() else { return self.check_strings(codec) };
        let Example { place, shape, .. } = self;
        let (rows, dim) = (shape.rows as usize, shape.dim as usize);
        let input = RowSlice::from_bytes(dtype, rows, dim, self.values.bytes()).unwrap();
        let options = self.options(codec);
        let mut chunk = Self::used_chunk();
        let encoded = codec.encode(input, &options, &Plain, &mut chunk);
        let (params, bytes, decoded) = match &self.outcome {
            Outcome::Encoded { params, bytes, decoded } => (params, bytes, decoded),
            Outcome::Error(expected) => {
                let message = encoded.expect_err(place).to_string();
                assert!(message.contains(expected) && message.contains(codec.name()), "{place}: {message}");
                return;
            }
        };
        encoded.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(param_bits(&chunk.params), param_bits(params), "{place}: {:?}", chunk.params);
        let stored = if let Some(payload) = &bytes.payload {
            assert_eq!(chunk.payload().collect::<Vec<_>>().concat(), *payload, "{place}: the payload");
            assert_eq!(chunk.payload_len(), payload.len() as u64, "{place}");
            cvcf(*shape, dtype, params.clone(), payload.clone())
        } else {
            assert_eq!(hexes(&encoded_bytes(&chunk)), hexes(bytes), "{place}: fields and lanes");
            Chunk::native(codec, input, &options, &chunk)
        };
        for (out, expected) in decoded {
            let plan = stored.plan(codec, *out).unwrap_or_else(|error| panic!("{place}: {error}"));
            // Parts of a chunk have the bits that they have in the whole.
            for rows in [0..shape.rows, 0..shape.rows / 2, shape.rows / 2..shape.rows] {
                let row_len = dim * out.size();
                let expected = &expected.bytes()[rows.start as usize * row_len..rows.end as usize * row_len];
                let values = stored.decode(&plan, rows.clone()).unwrap();
                assert_eq!(values.bytes(), expected, "{place}: rows {rows:?} as {out}");
            }
            // A payload of dict_planes has its length inside.
            if bytes.payload.is_some() && *plan.load() != Load::DictPlanes {
                for wrong in [stored.bytes.len() + 1, stored.bytes.len().wrapping_sub(1)] {
                    if let Ok(len) = u32::try_from(wrong) {
                        let parts = std::sync::Arc::new(cvc_codec::Parts::opaque(shape.rows, len));
                        let wrong = Chunk { parts, bytes: Vec::new(), params: params.clone(), ..stored };
                        let message = wrong.plan(codec, *out).expect_err(place).to_string();
                        assert!(message.contains(&format!("{len} bytes")), "{place}: {message}");
                    }
                }
            }
        }
    }

    fn check_strings(&self, codec: &dyn Codec) {
        let Example { place, shape, strings, .. } = self;
        let Outcome::Encoded { bytes, .. } = &self.outcome else { panic!("{place}: strings are encoded") };
        assert_eq!((strings.len(), shape.dim), (shape.rows as usize, 1), "{place}: the shape");
        let block_rows = self.options(codec).block_rows;
        let mut chunk = Self::used_chunk();
        encode_strings(strings, codec.name(), block_rows, &mut chunk).unwrap();
        assert_eq!(hexes(&encoded_bytes(&chunk)), hexes(bytes), "{place}: the lane");
        let (file, entry) =
            support::file(ArrayDType::Utf8, shape.rows, Vec::new(), codec.name(), block_rows, &chunk);
        let (parts, _) = support::inside(&file, &entry);
        let stream = stream_of(codec.name(), &parts).unwrap();
        let (mut inflater, mut decoded) = (Inflater::default(), Strings::default());
        for block in 0..parts.block_count() {
            let lane = &parts.lanes()[0];
            let start = usize::try_from(lane.starts[block as usize]).unwrap();
            let bytes = &file[start..start + lane.lens[block as usize] as usize];
            let rows = parts.rows_of(block..block + 1).len();
            decode_block(&mut inflater, stream, block, bytes, rows, &mut decoded).unwrap();
        }
        assert_eq!(decoded, *strings, "{place}");
    }
}

/// What a chunk was encoded to.
fn encoded_bytes(chunk: &EncodedChunk) -> Encoded {
    let lane = |lane: &cvc_codec::EncodedLane| {
        let mut rest = &lane.bytes[..];
        let streams = lane.lens.iter().map(|len| {
            let (stream, after) = rest.split_at(*len as usize);
            rest = after;
            stream.to_vec()
        });
        let streams = streams.collect();
        assert!(rest.is_empty());
        streams
    };
    Encoded {
        payload: None,
        fields: chunk.fields.iter().map(|field| field.bytes.clone()).collect(),
        lanes: chunk.lanes.iter().map(lane).collect(),
    }
}

/// The lines of an example, to compare.
fn hexes(bytes: &Encoded) -> Vec<String> {
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let fields = bytes.fields.iter().map(|field| format!("field: {}", hex(field)));
    let lanes = bytes.lanes.iter().map(|lane| {
        let streams: Vec<String> = lane.iter().map(hex).collect();
        format!("lane: {}", streams.join(" | "))
    });
    fields.chain(lanes).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {digits}");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn parse_params(text: &str) -> Params {
    if text == "none" {
        return Params::None;
    }
    if !text.starts_with("min=") {
        return Params::Bytes(hex(text).into());
    }
    let (min, scale) = text.split_once(' ').expect("min and scale");
    Params::Affine(AffineParams {
        min: min.strip_prefix("min=").expect("min").parse().unwrap(),
        scale: scale.strip_prefix("scale=").expect("scale").parse().unwrap(),
    })
}

/// To compare: a header has only one NaN.
fn param_bits(params: &Params) -> Vec<u64> {
    let bits = |value: f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
    match params {
        Params::Affine(AffineParams { min, scale }) => vec![bits(*min), bits(*scale)],
        Params::Bytes(bytes) => bytes.iter().map(|byte| u64::from(*byte)).collect(),
        _ => Vec::new(),
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
        assert!(!full.is_empty(), "{}: an example is needed", codec.name());
        // Native arrays of no values have no chunks.
        assert!(codec.is_native() || !empty.is_empty(), "{}: one without values, too", codec.name());
        examples.iter().for_each(|example| example.check(*codec));
    }
}

#[test]
fn int8_without_parameters_is_refused() {
    for name in ["cvcf.int8", "cvcf0.int8"] {
        let shape = ChunkShape { rows: 1, dim: 1 };
        let chunk = cvcf(shape, DType::F32, Params::None, vec![0]);
        let error = chunk.plan(find(name).unwrap(), DType::F32).unwrap_err();
        let expected = format!("codec {name} needs min and scale for each chunk: the file is damaged");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn other_conversions_are_refused() {
    let message = |dtype: DType, out| {
        let chunk = cvcf(ChunkShape { rows: 1, dim: 1 }, dtype, Params::None, vec![0; dtype.size()]);
        chunk.plan(find("raw").unwrap(), out).unwrap_err().to_string()
    };
    let problem = "stored i32 values cannot be read as f32: ask for i32";
    assert_eq!(message(DType::I32, DType::F32), problem);
    let problem = "stored f16 values cannot be read as f64: ask for f16, f32 or bf16";
    assert_eq!(message(DType::F16, DType::F64), problem);
}

#[test]
fn a_lossless_payload_too_short_for_its_shape_is_refused() {
    let shape = ChunkShape { rows: u32::MAX, dim: 1 };
    let chunk = cvcf(shape, DType::F32, Params::None, vec![0; 1000]);
    let error = chunk.plan(find("cvcf.lossless").unwrap(), DType::F32).unwrap_err();
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
    for name in ["int8", "cvcf.int8", "cvcf0.int8"] {
        let codec = find(name).unwrap();
        let mut options = EncodeOptions::new(16);
        options.scope = Scope::Chunk;
        let mut noise = Noise(1);
        let mut largest = 0f64;
        let mut chunk = EncodedChunk::default();
        for number in 0..2_000u32 {
            // Spreads from 2^-100 to 2^99; every other chunk lies far from zero.
            let spread = f32::from_bits((27 + number / 2 % 200) << 23);
            let offset = if number % 2 == 0 { 0.0 } else { spread * noise.next() * 100_000.0 };
            let rows: Vec<f32> = (0..512).map(|_| noise.next() * spread + offset).collect();
            let input = RowSlice::new(&rows, 8).unwrap();
            codec.encode(input, &options, &Plain, &mut chunk).unwrap();
            let stored = if codec.is_native() {
                Chunk::native(codec, input, &options, &chunk)
            } else {
                let payload = chunk.payload().collect::<Vec<_>>().concat();
                cvcf(support::shape_of(input), DType::F32, chunk.params.clone(), payload)
            };
            let plan = stored.plan(codec, DType::F32).unwrap();
            let decoded = stored.decode(&plan, 0..64).unwrap();

            let Load::AffineU8(Affine::Chunk { scale, .. }) = plan.load() else {
                panic!("all of it is finite")
            };
            let scale = f64::from(*scale);
            let magnitude = rows.iter().fold(0f64, |most, value| most.max(f64::from(value.abs())));
            let bound = scale * (0.5 + 768.0 * unit) + unit * (magnitude + scale);
            for (value, decoded) in rows.iter().zip(decoded.f32s()) {
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
