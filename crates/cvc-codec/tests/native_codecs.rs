//! Every native codec, through a whole native file and the scalar reference: rows of all shapes come back as the page
//! of the codec promises, and rows that cannot are refused.

mod support;

use cvc_codec::{
    Affine, CODECS, Codec, CodecError, DType, DecodeError, EncodeOptions, EncodedChunk, Load, NonFinite,
    Params, Plain, RowSlice, Scope, find, loss,
};
use half::{bf16, f16};
use proptest::prelude::*;
use support::{Aligned, Chunk};

fn natives() -> impl Iterator<Item = &'static dyn Codec> {
    CODECS.iter().copied().filter(|codec| codec.is_native())
}

fn encode(
    codec: &dyn Codec,
    rows: RowSlice<'_>,
    options: &EncodeOptions,
) -> Result<EncodedChunk, CodecError> {
    // What was there before is replaced.
    let mut chunk = EncodedChunk { params: Params::Bytes([7; 3].into()), ..EncodedChunk::default() };
    chunk.reset(2, 3);
    chunk.fields[1].bytes.extend([1; 99]);
    chunk.lanes[2].lens.push(7);
    codec.encode(rows, options, &Plain, &mut chunk)?;
    Ok(chunk)
}

/// The bytes of all rows as they are decoded, having checked that parts of the chunk and of its rows decode alike.
fn round_trip(codec: &dyn Codec, rows: RowSlice<'_>, options: &EncodeOptions, out: DType) -> Aligned {
    let chunk = Chunk::native(codec, rows, options, &encode(codec, rows, options).unwrap());
    let plan = chunk.plan(codec, out).unwrap();
    let count = chunk.shape.rows;
    let whole = chunk.decode(&plan, 0..count).unwrap();
    let row_len = chunk.shape.dim as usize * out.size();
    for range in [0..count / 2, count / 3..count, count - 1..count] {
        let part = chunk.decode(&plan, range.clone()).unwrap();
        assert_eq!(
            part.bytes(),
            &whole.bytes()[range.start as usize * row_len..range.end as usize * row_len]
        );
    }
    let prefix = chunk.shape.dim.div_ceil(2);
    let cut = chunk.decode(&plan.with_prefix(prefix).unwrap(), 0..count).unwrap();
    let prefix_len = prefix as usize * out.size();
    for (cut, row) in cut.bytes().chunks_exact(prefix_len).zip(whole.bytes().chunks_exact(row_len)) {
        assert_eq!(cut, &row[..prefix_len]);
    }
    whole
}

fn scopes(codec: &dyn Codec) -> &'static [Scope] {
    if codec.name() == "int8" { &[Scope::Row, Scope::Dim, Scope::Chunk] } else { &[Scope::Row] }
}

/// Any shape, any blocks, and random bytes enough for values of any dtype.
fn any_rows() -> impl Strategy<Value = (usize, usize, u32, u8, u64)> {
    (1usize..40, 1usize..40, 1u32..50, 0u8..4, any::<u64>())
}

/// Random values, the less random the higher `order` is.
fn noise(len: usize, order: u8, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mask = [0xff, 0x8f, 0x03, 0x00][usize::from(order)];
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[5] & mask
        })
        .collect()
}

/// What [`Codec::is_by_row`] promises, on which the writer of native files relies.
#[test]
fn rows_that_are_encoded_apart_are_encoded_alike() {
    let bytes = Aligned::new(&noise(60 * 8, 0, 1).iter().map(|byte| byte & 0x3f).collect::<Vec<_>>());
    let mut by_row = Vec::new();
    for codec in natives() {
        for scope in scopes(codec) {
            let mut options = EncodeOptions::new(4);
            options.scope = *scope;
            if !codec.is_by_row(&options) {
                continue;
            }
            by_row.push((codec.name(), scope.name()));
            for dtype in [DType::F64, DType::F32, DType::F16, DType::Bf16] {
                let input = RowSlice::from_bytes(dtype, 12, 5, &bytes.bytes()[..60 * dtype.size()]).unwrap();
                let whole = encode(codec, input, &options).unwrap();
                let mut joined = encode(codec, input.slice(0..4), &options).unwrap();
                let rest = encode(codec, input.slice(4..12), &options).unwrap();
                for (joined, rest) in joined.fields.iter_mut().zip(&rest.fields) {
                    joined.bytes.extend(&rest.bytes);
                }
                assert_eq!(joined, whole, "{} of {dtype}", codec.name());
                // And straight to where they belong, wherever that is in memory.
                for start in 0..3 {
                    let mut places: Vec<Vec<u8>> =
                        whole.fields.iter().map(|field| vec![0xee; start + field.bytes.len()]).collect();
                    let mut fields: Vec<&mut [u8]> =
                        places.iter_mut().map(|place| &mut place[start..]).collect();
                    codec.encode_into(input, &options, &Plain, &mut fields).unwrap();
                    for (place, field) in fields.iter().zip(&whole.fields) {
                        assert_eq!(*place, field.bytes, "{} of {dtype}", codec.name());
                    }
                }
                assert!(whole.lanes.is_empty() && whole.params == Params::None);
            }
        }
    }
    assert_eq!(by_row, [("raw", "row"), ("fp16", "row"), ("bf16", "row"), ("int8", "row")]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lossless_codecs_give_back_every_bit_of_every_dtype((rows, dim, block_rows, order, seed) in any_rows()) {
        for dtype in DType::ALL {
            let mut bytes = noise(rows * dim * dtype.size(), order, seed);
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            let values = Aligned::new(&bytes);
            let input = RowSlice::from_bytes(dtype, rows, dim, values.bytes()).unwrap();
            for codec in natives().filter(|codec| codec.is_lossless()) {
                let options = EncodeOptions::new(block_rows);
                if codec.name() == "lossless" && !dtype.is_float() {
                    let error = encode(codec, input, &options).unwrap_err().to_string();
                    prop_assert!(error.contains(dtype.name()) && error.contains("use raw or zstd"), "{}", error);
                    continue;
                }
                prop_assert_eq!(codec.decoded_dtype(dtype), dtype);
                let decoded = round_trip(codec, input, &options, dtype);
                prop_assert_eq!(decoded.bytes(), &bytes[..], "{} of {}", codec.name(), dtype);
            }
        }
    }

    #[test]
    fn lossy_codecs_give_back_finite_values_as_their_pages_say((rows, dim, block_rows, order, seed) in any_rows()) {
        let spread = [1.0, 1e-3, 30_000.0, 1e-41][usize::from(order)];
        let value = |pair: &[u8]| (f64::from(u16::from_le_bytes([pair[0], pair[1]])) / 32_768.0 - 1.0) * spread;
        let doubles: Vec<f64> = noise(rows * dim * 2, 0, seed).chunks_exact(2).map(value).collect();
        let singles: Vec<f32> = doubles.iter().map(|value| value.to_string().parse().unwrap()).collect();
        let halves: Vec<f16> = doubles.iter().map(|value| f16::from_f64(*value)).collect();
        let brains: Vec<bf16> = doubles.iter().map(|value| bf16::from_f64(*value)).collect();
        let inputs = [
            RowSlice::new(&doubles, dim).unwrap(),
            RowSlice::new(&singles, dim).unwrap(),
            RowSlice::new(&halves, dim).unwrap(),
            RowSlice::new(&brains, dim).unwrap(),
        ];
        for input in inputs {
            // Those with a rotation have bounds for rows: rotated_codecs.rs.
            let is_rotated = |codec: &dyn Codec| ["int4", "bit1"].contains(&codec.name());
            for codec in natives().filter(|codec| !codec.is_lossless() && !is_rotated(*codec)) {
                for scope in scopes(codec) {
                    let mut options = EncodeOptions::new(block_rows);
                    options.scope = *scope;
                    let decoded = round_trip(codec, input, &options, DType::F32);
                    let decoded = decoded.f32s();
                    let of = |at: usize| match input.dtype() {
                        DType::F64 => doubles[at],
                        DType::F32 => f64::from(singles[at]),
                        DType::F16 => halves[at].to_f64(),
                        _ => brains[at].to_f64(),
                    };
                    let mut measure = loss::Measure::new(&Plain);
                    measure.add(input, decoded);
                    let measured = measure.finish();
                    for (at, decoded) in decoded.iter().enumerate() {
                        let error = (f64::from(*decoded) - of(at)).abs();
                        prop_assert!(error <= f64::from(measured.max_abs_error));
                        let bound = match codec.name() {
                            "fp16" => (of(at).abs() * 2f64.powi(-11)).max(2f64.powi(-25)),
                            "bf16" => (of(at).abs() * 2f64.powi(-8)).max(2f64.powi(-134)),
                            // Half a step of the widest scope possible, and a step more than its roundings.
                            _ => spread * 2.0 / 255.0 * 0.51 + 2f64.powi(-149),
                        };
                        prop_assert!(error <= bound, "{} {}: {} became {}", codec.name(), input.dtype(), of(at), decoded);
                    }
                    // What was a half or a bfloat16 comes back as one, bit by bit.
                    let kept = codec.decoded_dtype(input.dtype());
                    if kept == input.dtype() && kept != DType::F32 {
                        let decoded = round_trip(codec, input, &options, kept);
                        prop_assert_eq!(decoded.bytes(), input.bytes());
                    }
                }
            }
        }
    }

    #[test]
    fn saturating_int8_is_finite_whatever_comes((rows, dim, block_rows, _, seed) in any_rows(), wild in 1u32..30) {
        let bytes = noise(rows * dim * 4, 0, seed);
        let values: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|bits| u32::from_le_bytes(bits.try_into().unwrap()))
            // Any bits at all, or numbers from 0 to 1 with now and then a value of any kind.
            .map(|bits| if wild < 5 || bits % wild == 0 { f32::from_bits(bits) } else { bits as f32 / 4.3e9 })
            .collect();
        let input = RowSlice::new(&values, dim).unwrap();
        let codec = find("int8").unwrap();
        for scope in scopes(codec) {
            let mut options = EncodeOptions::new(block_rows);
            (options.scope, options.nonfinite) = (*scope, NonFinite::Saturate);
            let decoded = round_trip(codec, input, &options, DType::F32);
            prop_assert!(decoded.f32s().iter().all(|value| value.is_finite()));
        }
    }
}

fn int8(rows: &[f32], dim: usize, scope: Scope, nonfinite: NonFinite) -> (EncodedChunk, Vec<f32>) {
    let codec = find("int8").unwrap();
    let input = RowSlice::new(rows, dim).unwrap();
    let mut options = EncodeOptions::new(2);
    (options.scope, options.nonfinite) = (scope, nonfinite);
    let decoded = round_trip(codec, input, &options, DType::F32).f32s().to_vec();
    (encode(codec, input, &options).unwrap(), decoded)
}

#[test]
fn int8_is_exact_where_it_can_be() {
    let tiny = f32::from_bits(1);
    for scope in [Scope::Row, Scope::Dim, Scope::Chunk] {
        for constant in [0.1f32, -7.5e-33, 1e38, f32::MAX, f32::MIN, tiny, 0.0, -0.0] {
            let (_, decoded) = int8(&[constant; 12], 3, scope, NonFinite::Refuse);
            assert_eq!(decoded, [constant; 12], "{scope:?}");
        }
        // Where the step cannot be less than the least of all numbers, all steps are exact.
        let subnormal: Vec<f32> = (0..8u32).map(|n| f32::from_bits(n % 4 * 50)).collect();
        assert_eq!(int8(&subnormal, 4, scope, NonFinite::Refuse).1, subnormal, "{scope:?}");
    }
}

#[test]
fn int8_keeps_its_bound_at_the_ends_of_f32() {
    let unit = 2f64.powi(-24);
    let subnormal = |n: u32| f32::from_bits(n);
    let rows: [[f32; 4]; 10] = [
        [0.0, f32::MAX, 1.0, 1e38],
        [f32::MIN, 0.0, -1.0, -1e38],
        [-1.7e38, 1.7e38, 1e30, -3.0],
        [f32::MAX / 3.0, f32::MAX, 2e38, 3e38],
        [f32::MAX.next_down(), f32::MAX, f32::MAX, f32::MAX.next_down()],
        [subnormal(0), subnormal(127), subnormal(128), subnormal(382)],
        [subnormal(1), subnormal(255), subnormal(256), subnormal(3)],
        [-subnormal(1000), subnormal(999), subnormal(1), subnormal(0)],
        [1e-33, 2e-33, 1.5e-33, 1.1e-33],
        [1000.0, 1000.5, 1000.25, 1000.1],
    ];
    for row in rows {
        let (chunk, decoded) = int8(&row, 4, Scope::Row, NonFinite::Refuse);
        let scale = f64::from(f32::from_le_bytes(chunk.fields[2].bytes[..4].try_into().unwrap()));
        let magnitude = row.iter().fold(0f64, |most, value| most.max(f64::from(value.abs())));
        let bound = scale * (0.5 + 768.0 * unit) + unit * (magnitude + scale);
        for (value, decoded) in row.iter().zip(decoded) {
            let error = (f64::from(*value) - f64::from(decoded)).abs();
            assert!(error <= bound, "{value:e} of {row:?} became {decoded:e}, step {scale:e}");
        }
    }
}

#[test]
fn int8_refuses_what_it_cannot_represent() {
    let codec = find("int8").unwrap();
    let message = |rows: RowSlice<'_>, scope| {
        let mut options = EncodeOptions::new(1);
        options.scope = scope;
        encode(codec, rows, &options).unwrap_err().to_string()
    };
    for scope in [Scope::Row, Scope::Dim, Scope::Chunk] {
        for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let rows = [0.0, 1.0, 2.0, 3.0, 4.0, value];
            let message = message(RowSlice::new(&rows, 2).unwrap(), scope);
            assert!(message.contains(&format!("represent {name} (row 2, column 1)")), "{message}");
        }
        let message = message(RowSlice::new(&[0.0f64, 1.0, 1e300, 2.0], 2).unwrap(), scope);
        assert!(message.contains("(row 1, column 0)") && message.contains("represent 1000"), "{message}");
    }
    let wide = [1.0, 1.0, -3e38, 3e38];
    let wide = |dim| RowSlice::new(&wide, dim).unwrap();
    for (dim, scope, name) in
        [(2, Scope::Row, "row 1: it"), (1, Scope::Dim, "dim 0"), (4, Scope::Chunk, "the chunk")]
    {
        let message = message(wide(dim), scope);
        assert!(message.contains(&format!("{name} runs from -3e38 to 3e38")), "{message}");
    }
}

#[test]
fn saturating_int8_takes_the_nearest_it_has() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let saturated = |rows: &[f32], dim, scope| int8(rows, dim, scope, NonFinite::Saturate).1;
    assert_eq!(saturated(&[nan, 255.0, inf, -inf, 1.0], 5, Scope::Row), [0.0, 255.0, 255.0, 0.0, 1.0]);
    assert_eq!(saturated(&[nan, 255.0, inf, -inf, 1.0], 5, Scope::Chunk), [0.0, 255.0, 255.0, 0.0, 1.0]);
    // By dim, the second row decides what the first one may be.
    assert_eq!(saturated(&[nan, inf, -inf, inf, 3.0, 4.0, 5.0, -inf], 4, Scope::Dim)[1..4], [4.0, 5.0, 0.0]);
    for scope in [Scope::Row, Scope::Dim, Scope::Chunk] {
        assert_eq!(saturated(&[inf, -inf, nan, inf], 2, scope), [0.0; 4], "{scope:?}");
    }
    // The step is as wide as can be: the least value is kept, the greatest is as near as codes reach.
    let wide = saturated(&[-3e38, 3e38, 0.0], 3, Scope::Row);
    assert!(wide[0] == -3e38 && wide[1] > 0.4e38 && wide[2].abs() < 1e36, "{wide:?}");
}

#[test]
fn halves_refuse_overflow_or_saturate() {
    for (name, largest, beyond) in [("fp16", 65_504.0, 65_520.0), ("bf16", 3.3895313892515355e38, 3.4e38)] {
        let codec = find(name).unwrap();
        let rows = [1.0f64, f64::INFINITY, f64::NAN, beyond, -1e300, f64::NEG_INFINITY];
        let input = RowSlice::new(&rows, 2).unwrap();
        let mut options = EncodeOptions::new(1);
        let message = encode(codec, input, &options).unwrap_err().to_string();
        assert!(message.contains(&format!("represent {beyond} (row 1, column 1)")), "{message}");
        options.nonfinite = NonFinite::Saturate;
        let decoded = round_trip(codec, input, &options, DType::F32);
        let decoded: Vec<f64> = decoded.f32s().iter().map(|value| f64::from(*value)).collect();
        assert_eq!(decoded[..2], [1.0, f64::INFINITY]);
        assert!(decoded[2].is_nan());
        assert_eq!(decoded[3..], [largest, -largest, f64::NEG_INFINITY]);
        // Beyond the first block of the loop, too.
        let mut many = vec![0f32; 3000];
        many[2999] = f32::MAX;
        let message = encode(codec, RowSlice::new(&many, 1000).unwrap(), &EncodeOptions::new(1)).unwrap_err();
        assert!(message.to_string().contains("(row 2, column 999)"), "{message}");
    }
}

#[test]
fn lossy_codecs_take_floats_only() {
    for name in ["fp16", "bf16", "int8", "int4", "bit1"] {
        let error = encode(find(name).unwrap(), RowSlice::new(&[1i32], 1).unwrap(), &EncodeOptions::new(1));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("these are i32 values: use raw or zstd"), "{error}");
    }
}

#[test]
fn a_bool_is_0_or_1() {
    for codec in natives().filter(|codec| codec.is_lossless()) {
        let rows = RowSlice::from_bytes(DType::Bool, 2, 2, &[0, 1, 1, 2]).unwrap();
        let error = encode(codec, rows, &EncodeOptions::new(1)).unwrap_err().to_string();
        assert!(
            error.contains("row 1: a bool is 0 or 1, that of column 1 is 2") || codec.name() == "lossless",
            "{error}"
        );
    }
    for codec in CODECS.iter().filter(|codec| !codec.is_native()) {
        for dtype in [DType::Bool, DType::C64] {
            let values = Aligned::new(&[0; 8]);
            let rows = RowSlice::from_bytes(dtype, 1, 8 / dtype.size(), values.bytes()).unwrap();
            let error = encode(*codec, rows, &EncodeOptions::new(1)).unwrap_err().to_string();
            assert!(error.contains("use raw"), "{error}");
        }
    }
}

#[test]
fn blocks_of_streams_have_a_limit() {
    let values = vec![0u8; (16 << 20) + 1];
    let rows = RowSlice::new(&values, 1).unwrap();
    for name in ["zstd", "gzip"] {
        let codec = find(name).unwrap();
        let error = encode(codec, rows, &EncodeOptions::new(u32::MAX)).unwrap_err().to_string();
        assert!(error.contains("use at most 16777216 rows to a block"), "{error}");
        let error = encode(codec, RowSlice::new(&values, values.len()).unwrap(), &EncodeOptions::new(1));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("use a codec without streams"), "{error}");
    }
    // More rows to a block than there are is no problem, and the largest block is possible.
    for name in ["zstd", "gzip", "raw"] {
        let rows = RowSlice::new(&values[..16 << 20], 1024).unwrap();
        let decoded = round_trip(find(name).unwrap(), rows, &EncodeOptions::new(1 << 30), DType::U8);
        assert_eq!(decoded.bytes(), rows.bytes());
    }
}

#[test]
fn default_blocks_are_powers_of_two() {
    let of = |name: &str, dtype, dim| find(name).unwrap().default_block_rows(dtype, dim);
    assert_eq!(
        [of("raw", DType::F32, 768), of("raw", DType::C128, 1), of("raw", DType::I64, 5000)],
        [2, 256, 1]
    );
    assert_eq!(
        [of("fp16", DType::F64, 768), of("bf16", DType::F32, 1), of("int8", DType::F32, 384)],
        [4, 2048, 16]
    );
    assert_eq!(
        [of("int4", DType::F32, 384), of("bit1", DType::F32, 384), of("bit1", DType::F32, 1)],
        [32, 128, 4096]
    );
    assert_eq!(
        [of("zstd", DType::I64, 1), of("gzip", DType::U8, 17_000), of("lossless", DType::F32, 768)],
        [2048, 1, 8]
    );
    for codec in natives() {
        for (dim, dtype) in [(0, DType::F32), (1, DType::U8), (u32::MAX, DType::C128)] {
            assert!(codec.default_block_rows(dtype, dim).is_power_of_two());
        }
    }
}

#[test]
fn lossless_packs_planes_that_pay_and_no_others() {
    let codec = find("lossless").unwrap();
    let encoded = |rows: RowSlice<'_>| encode(codec, rows, &EncodeOptions::new(8)).unwrap();
    let mask = |chunk: &EncodedChunk| match &chunk.params {
        Params::Bytes(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    };
    // Noise of nearly one exponent; whole numbers; nothing but zeros; nothing but noise.
    let noise = noise(512 * 64 * 4, 0, 3);
    let noise: Vec<u32> =
        noise.chunks_exact(4).map(|bits| u32::from_le_bytes(bits.try_into().unwrap())).collect();
    let unit: Vec<f32> = noise.iter().map(|bits| f32::from_bits(bits >> 9 | 0x3f80_0000)).collect();
    let whole: Vec<f32> = noise.iter().map(|bits| (bits % 100) as f32).collect();
    let wild: Vec<f32> = noise.iter().map(|bits| f32::from_bits(*bits)).collect();
    for (values, expected, fields) in
        [(&unit, 0b1000, 1), (&whole, 0b1111, 0), (&vec![0.0; 512 * 64], 0b1111, 0), (&wild, 0, 1)]
    {
        let chunk = encoded(RowSlice::new(values, 64).unwrap());
        assert_eq!((mask(&chunk), chunk.fields.len()), (vec![expected], fields));
        assert_eq!(chunk.lanes.len(), expected.count_ones() as usize);
        assert!(chunk.payload_len() <= values.len() as u64 * 4);
    }
    // A plane of f64 beyond the first four.
    let doubles: Vec<f64> = unit.iter().map(|value| f64::from(*value)).collect();
    let chunk = encoded(RowSlice::new(&doubles, 64).unwrap());
    assert_eq!(mask(&chunk), [0b1100_1111], "the lower planes are zero where an f32 was widened");
}

#[test]
fn damaged_parameters_are_refused() {
    let rows: Vec<f32> = (0..12u8).map(f32::from).collect();
    let rows = RowSlice::new(&rows, 3).unwrap();
    let refused = |name: &str, scope, edit: &dyn Fn(&mut Chunk)| {
        let codec = find(name).unwrap();
        let mut options = EncodeOptions::new(2);
        options.scope = scope;
        let mut chunk = Chunk::native(codec, rows, &options, &encode(codec, rows, &options).unwrap());
        edit(&mut chunk);
        let error = chunk.plan(codec, DType::F32).unwrap_err().to_string();
        assert!(error.contains("the file is damaged"), "{error}");
    };
    let params = |bytes: &[u8]| Params::Bytes(bytes.into());
    for name in ["raw", "fp16", "bf16", "zstd", "gzip"] {
        refused(name, Scope::Row, &|chunk| chunk.params = params(&[1]));
    }
    for name in ["fp16", "bf16", "int8", "lossless"] {
        refused(name, Scope::Row, &|chunk| chunk.dtype = DType::I32);
    }
    for bytes in [&[][..], &[0, 0], &[0x10], &[0x80]] {
        refused("lossless", Scope::Row, &|chunk| chunk.params = params(bytes));
    }
    // Another mask than the parts have lanes for.
    refused("lossless", Scope::Row, &|chunk| chunk.params = params(&[0b0111]));
    refused("int8", Scope::Row, &|chunk| chunk.params = params(&[0; 8]));
    for bytes in [&[0; 4][..], &[0; 7], &[0; 12], &[0; 28], &[]] {
        refused("int8", Scope::Dim, &|chunk| chunk.params = params(bytes));
    }
    refused("int8", Scope::Dim, &|chunk| {
        let mut bytes = vec![0; 24];
        bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        chunk.params = params(&bytes);
    });
    // A row more or less; values of another width.
    for name in ["raw", "fp16", "bf16", "int8", "zstd", "gzip", "lossless"] {
        refused(name, Scope::Row, &|chunk| chunk.shape.rows += 1);
        refused(name, Scope::Row, &|chunk| chunk.shape.rows -= 1);
    }
    for name in ["raw", "fp16", "bf16", "int8"] {
        refused(name, Scope::Row, &|chunk| chunk.shape.dim += 1);
    }
    for name in ["raw", "int8"] {
        refused(name, Scope::Row, &|chunk| chunk.parts = find_parts(rows));
    }
}

/// The parts of a chunk of another codec.
fn find_parts(rows: RowSlice<'_>) -> std::sync::Arc<cvc_codec::Parts> {
    let (codec, options) = (find("zstd").unwrap(), EncodeOptions::new(2));
    Chunk::native(codec, rows, &options, &encode(codec, rows, &options).unwrap()).parts
}

#[test]
fn int8_of_a_chunk_may_have_any_parameters() {
    // `cvc upgrade` keeps the codes of a CVCF chunk and its parameters, which can be anything.
    let (codec, rows) = (find("int8").unwrap(), [0f32, 1.0, 2.0, 3.0]);
    let mut options = EncodeOptions::new(1);
    options.scope = Scope::Chunk;
    let input = RowSlice::new(&rows, 2).unwrap();
    let mut chunk = Chunk::native(codec, input, &options, &encode(codec, input, &options).unwrap());
    chunk.params = Params::Bytes([f32::NAN.to_le_bytes(), 1f32.to_le_bytes()].concat().into());
    let plan = chunk.plan(codec, DType::F32).unwrap();
    assert!(matches!(plan.load(), Load::LutU8(_)));
    assert!(chunk.decode(&plan, 0..2).unwrap().f32s().iter().all(|value| value.is_nan()));
}

#[test]
fn a_row_of_int8_has_finite_parameters() {
    let (codec, rows) = (find("int8").unwrap(), [0f32, 1.0, 2.0, 3.0]);
    let options = EncodeOptions::new(1);
    let input = RowSlice::new(&rows, 2).unwrap();
    for (field, what) in [(1, "minimum"), (2, "scale")] {
        let mut chunk = Chunk::native(codec, input, &options, &encode(codec, input, &options).unwrap());
        let at = usize::try_from(chunk.parts.fields()[field].offset).unwrap() + 4;
        chunk.bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        let plan = chunk.plan(codec, DType::F32).unwrap();
        assert!(matches!(plan.load(), Load::AffineU8(Affine::Row)));
        assert!(chunk.decode(&plan, 0..1).is_ok(), "the first row is as it was");
        let error = chunk.decode(&plan, 0..2).unwrap_err();
        assert!(matches!(error, DecodeError::Payload { .. }));
        assert!(error.to_string().contains(&format!("the {what} of row 1 is inf")), "{error}");
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let values: Vec<f32> =
        noise(64 * 100 * 2, 1, 5).chunks_exact(2).map(|b| f32::from(b[0]) - f32::from(b[1])).collect();
    let rows = RowSlice::new(&values, 100).unwrap();
    for codec in CODECS {
        let options = EncodeOptions::new(codec.default_block_rows(DType::F32, 100));
        let first = encode(*codec, rows, &options).unwrap();
        // Into memory that was used for something else.
        let mut again = encode(*codec, rows.slice(0..7), &options).unwrap();
        codec.encode(rows, &options, &Plain, &mut again).unwrap();
        assert_eq!(first, again, "{}", codec.name());
    }
}
