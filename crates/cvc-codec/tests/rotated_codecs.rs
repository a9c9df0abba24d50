//! `int4` and `bit1`: codes and scales are those of the plain loop, a row at a time; and what comes back is as near as the pages say.
#![expect(
    clippy::cast_possible_truncation,
    reason = "rounding is what the plain loop is about, and rows are short"
)]

mod support;

use cvc_codec::ops::rotated::{INT4_LEVELS, INT4_UNIT, RotatedCodes, rotated};
use cvc_codec::{
    CodecError, DType, EncodeOptions, EncodedChunk, NonFinite, Params, Plain, Rotation, RowSlice, find,
};
use half::{bf16, f16};
use proptest::prelude::*;
use support::{Aligned, Chunk};

const BOTH: [RotatedCodes; 2] = [RotatedCodes::Int4, RotatedCodes::Bit1];
const DIMS: [usize; 11] = [1, 2, 3, 5, 7, 8, 100, 255, 384, 768, 1536];

fn encode(codes: RotatedCodes, rows: RowSlice<'_>, nonfinite: NonFinite) -> Result<EncodedChunk, CodecError> {
    let mut options = EncodeOptions::new(3);
    options.nonfinite = nonfinite;
    let mut chunk = EncodedChunk::default();
    // What was there before is replaced.
    chunk.reset(3, 1);
    chunk.fields[0].bytes.extend([0xff; 99]);
    find(codes.name()).unwrap().encode(rows, &options, &Plain, &mut chunk)?;
    Ok(chunk)
}

fn decode(codes: RotatedCodes, rows: RowSlice<'_>, encoded: &EncodedChunk, out: DType) -> Vec<u8> {
    let codec = find(codes.name()).unwrap();
    let chunk = Chunk::native(codec, rows, &EncodeOptions::new(3), encoded);
    let plan = chunk.plan(codec, out).unwrap();
    let whole = chunk.decode(&plan, 0..chunk.shape.rows).unwrap().bytes().to_vec();
    let prefix = chunk.shape.dim.div_ceil(3);
    let cut = chunk.decode(&plan.with_prefix(prefix).unwrap(), 0..chunk.shape.rows).unwrap();
    let row_len = rows.dim() * out.size();
    for (cut, row) in cut.bytes().chunks_exact(prefix as usize * out.size()).zip(whole.chunks_exact(row_len))
    {
        assert_eq!(cut, &row[..cut.len()]);
    }
    whole
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    Aligned::new(bytes).f32s().to_vec()
}

fn centre(chunk: &EncodedChunk) -> Vec<f32> {
    match &chunk.params {
        Params::Bytes(bytes) => {
            bytes.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The sum in four lanes.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut lanes = [0.0; 4];
    values.zip((0..4).cycle()).for_each(|(value, lane)| lanes[lane] += value);
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// `docs/NUMERICS.md`, step by step: the codes of a row and its scale.
fn plain(codes: RotatedCodes, row: &[f32], centre: &[f32]) -> (Vec<u8>, f32) {
    let rotation = Rotation::new(row.len());
    let block = rotation.block() as f64;
    let differences: Vec<f32> = row.iter().zip(centre).map(|(x, c)| x - c).collect();
    let most = differences.iter().fold(0f32, |most, v| most.max(v.abs()));
    let exponent = if most == 0.0 { -126 } else { (f64::from(most).log2().floor() as i32).clamp(-126, 126) };
    let mut y: Vec<f32> = differences.iter().map(|v| (f64::from(*v) * 2f64.powi(-exponent)) as f32).collect();
    rotation.rotate(&mut y);
    y.iter_mut().for_each(|y| *y *= block as f32);

    let dim = row.len() as f64;
    let scale_of =
        |product: f64, square: f64| (product / square * 2f64.powi(exponent) / (block * block)) as f32;
    let mut bytes = vec![0; codes.row_len(row.len() as u64) as usize];
    if codes == RotatedCodes::Bit1 {
        for (at, y) in y.iter().enumerate() {
            bytes[at / 8] |= u8::from(*y >= 0.0) << (at % 8);
        }
        return (bytes, scale_of(sum(y.iter().map(|y| f64::from(y.abs()))), dim));
    }
    let code = |y: f32, unit: f32| -> usize {
        let magnitudes = INT4_LEVELS[8..].iter().map(|level| f32::from(*level));
        let between = magnitudes.clone().zip(magnitudes.skip(1)).map(|(a, b)| (a + b) / 2.0);
        let above = between.filter(|between| y.abs() >= between * unit).count();
        if y >= 0.0 { 8 + above } else { 7 - above }
    };
    let squares = sum(y.iter().map(|y| f64::from(*y) * f64::from(*y)));
    let mut unit = if squares == 0.0 { 1.0 } else { ((squares / dim).sqrt() / INT4_UNIT) as f32 };
    let mut scale = 0.0;
    for _ in 0..3 {
        let levels = y.iter().map(|y| f64::from(INT4_LEVELS[code(*y, unit)]));
        let product = sum(y.iter().zip(levels.clone()).map(|(y, l)| f64::from(y.abs()) * l.abs()));
        let square = sum(levels.map(|l| l * l));
        bytes.fill(0);
        for (at, y) in y.iter().enumerate() {
            bytes[at / 2] |= (code(*y, unit) as u8) << (at % 2 * 4);
        }
        scale = scale_of(product, square);
        unit = if product == 0.0 { 1.0 } else { (product / square) as f32 };
    }
    (bytes, scale)
}

/// The same numbers on every machine, about normal.
fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    (0..len).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

fn check_plain(codes: RotatedCodes, values: &[f32], dim: usize) {
    let rows = RowSlice::new(values, dim).unwrap();
    let chunk = encode(codes, rows, NonFinite::Refuse).unwrap();
    let centre = centre(&chunk);
    for (column, centre) in centre.iter().enumerate() {
        let sum = values.iter().skip(column).step_by(dim).fold(0.0, |sum, value| sum + f64::from(*value));
        assert_eq!((centre + 0.0).to_bits(), ((sum / rows.len() as f64) as f32 + 0.0).to_bits());
    }
    let width = chunk.fields[0].width as usize;
    assert_eq!((width as u64, chunk.fields[1].width), (codes.row_len(dim as u64), 4));
    for (at, row) in values.chunks_exact(dim).enumerate() {
        let (bytes, scale) = plain(codes, row, &centre);
        assert_eq!(chunk.fields[0].bytes[at * width..(at + 1) * width], bytes, "{codes:?} {dim}: row {at}");
        assert_eq!(
            chunk.fields[1].bytes[at * 4..(at + 1) * 4],
            scale.to_le_bytes(),
            "{codes:?} {dim}: row {at}"
        );
    }
}

/// The error of every row is at most its distance from the centre, but for roundings.
fn check_bound(codes: RotatedCodes, values: &[f32], dim: usize) {
    let rows = RowSlice::new(values, dim).unwrap();
    let chunk = encode(codes, rows, NonFinite::Refuse).unwrap();
    let decoded = floats(&decode(codes, rows, &chunk, DType::F32));
    let centre = centre(&chunk);
    for (row, decoded) in values.chunks_exact(dim).zip(decoded.chunks_exact(dim)) {
        let length = |pairs: &mut dyn Iterator<Item = (&f32, &f32)>| {
            pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        };
        let distance = length(&mut row.iter().zip(&centre));
        let error = length(&mut row.iter().zip(decoded));
        let most = row.iter().chain(&centre).fold(0f64, |most, value| most.max(f64::from(value.abs())));
        let roundings = (dim as f64).sqrt() * (2f64.powi(-22) * most + 2f64.powi(-126));
        assert!(
            error <= distance * (1.0 + 2f64.powi(-14)) + roundings,
            "{codes:?} {dim}: {error:e}, {distance:e}"
        );
    }
}

#[test]
fn codes_and_scales_are_those_of_the_plain_loop() {
    for codes in BOTH {
        for dim in DIMS {
            for rows in [1, 2, 7, 8, 9, 21] {
                let mut values = normal(rows * dim, (dim * rows) as u64);
                check_plain(codes, &values, dim);
                // Of any size, and some of them alike.
                for (at, row) in values.chunks_exact_mut(dim).enumerate() {
                    row.iter_mut().for_each(|value| *value *= [1e-44, 1e-38, 1e-30, 1e30, 1e37, 0.0][at % 6]);
                }
                check_plain(codes, &values, dim);
            }
        }
    }
}

#[test]
fn normal_values_lose_what_theory_says() {
    // Distortion of the quantizers of Lloyd and Max: 0.009501 with 16 levels, 0.3634 with two, each for one deviation.
    for (codes, expected) in [(RotatedCodes::Int4, 0.0095), (RotatedCodes::Bit1, 0.3634)] {
        let (rows, dim) = (300, 768);
        let values = normal(rows * dim, 5);
        let input = RowSlice::new(&values, dim).unwrap();
        let chunk = encode(codes, input, NonFinite::Refuse).unwrap();
        let decoded = floats(&decode(codes, input, &chunk, DType::F32));
        let error: f64 = values.iter().zip(&decoded).map(|(x, y)| f64::from(x - y).powi(2)).sum();
        let error = error / values.len() as f64;
        assert!((error / expected - 1.0).abs() < 0.03, "{codes:?}: {error}");
    }
}

#[test]
fn rows_like_the_centre_come_back_exactly() {
    for codes in BOTH {
        for dim in DIMS {
            for value in [0.1f32, -1e-33, 1e38, f32::MAX, f32::MIN, f32::from_bits(1), 0.0, -0.0] {
                let values: Vec<f32> = (0..5 * dim)
                    .map(|at| if at % dim == 0 { value } else { at as f32 % dim as f32 })
                    .collect();
                let rows = RowSlice::new(&values, dim).unwrap();
                let chunk = encode(codes, rows, NonFinite::Refuse).unwrap();
                assert!(chunk.fields[1].bytes.iter().all(|byte| *byte == 0), "scales of 0");
                assert_eq!(floats(&decode(codes, rows, &chunk, DType::F32)), values);
            }
        }
    }
}

#[test]
fn bits_that_are_not_used_are_zero_and_do_not_matter() {
    for codes in BOTH {
        for dim in [1, 3, 7, 9, 100] {
            let values = normal(4 * dim, 9);
            let rows = RowSlice::new(&values, dim).unwrap();
            let mut chunk = encode(codes, rows, NonFinite::Refuse).unwrap();
            let decoded = decode(codes, rows, &chunk, DType::F32);
            let used = dim * codes.bits() as usize;
            let width = chunk.fields[0].width as usize;
            if !used.is_multiple_of(8) {
                for row in chunk.fields[0].bytes.chunks_exact_mut(width) {
                    assert_eq!(row[width - 1] >> (used % 8), 0, "{codes:?} {dim}");
                    row[width - 1] |= 0xff << (used % 8);
                }
            }
            assert_eq!(decode(codes, rows, &chunk, DType::F32), decoded);
        }
    }
}

#[test]
fn dead_dims_and_constant_offsets_do_no_harm() {
    for codes in BOTH {
        let dim = 384;
        let mut values = normal(40 * dim, 3);
        for row in values.chunks_exact_mut(dim) {
            row.iter_mut().for_each(|value| *value *= 0.05);
            row[7] = 1e-33;
            row[100] = 3.0;
        }
        check_plain(codes, &values, dim);
        check_bound(codes, &values, dim);
        let tiny: Vec<f32> = values.iter().map(|value| value * 1e-33).collect();
        check_plain(codes, &tiny, dim);
        check_bound(codes, &tiny, dim);
    }
}

#[test]
fn halves_and_doubles_are_rounded_first() {
    let singles = normal(12 * 20, 4);
    let (doubles, halves, brains): (Vec<f64>, Vec<f16>, Vec<bf16>) = (
        singles.iter().map(|value| f64::from(*value) * (1.0 + 1e-12)).collect(),
        singles.iter().map(|value| f16::from_f32(*value)).collect(),
        singles.iter().map(|value| bf16::from_f32(*value)).collect(),
    );
    for codes in BOTH {
        let of = |rows: RowSlice<'_>| encode(codes, rows, NonFinite::Refuse).unwrap();
        assert_eq!(of(RowSlice::new(&doubles, 20).unwrap()), of(RowSlice::new(&singles, 20).unwrap()));
        let widened: Vec<f32> = halves.iter().map(|value| value.to_f32()).collect();
        assert_eq!(of(RowSlice::new(&halves, 20).unwrap()), of(RowSlice::new(&widened, 20).unwrap()));
        let widened: Vec<f32> = brains.iter().map(|value| value.to_f32()).collect();
        assert_eq!(of(RowSlice::new(&brains, 20).unwrap()), of(RowSlice::new(&widened, 20).unwrap()));
    }
}

#[test]
fn what_is_not_finite_is_refused_or_saturates() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for codes in BOTH {
        for (value, name) in [(nan, "NaN"), (inf, "inf"), (-inf, "-inf")] {
            let mut values = normal(20 * 3, 1);
            values[17 * 3 + 2] = value;
            values[18 * 3] = value;
            let message =
                encode(codes, RowSlice::new(&values, 3).unwrap(), NonFinite::Refuse).unwrap_err().to_string();
            assert!(message.contains(&format!("represent {name} (row 17, column 2)")), "{message}");
        }
        let message =
            encode(codes, RowSlice::new(&[0.0f64, 1e300], 1).unwrap(), NonFinite::Refuse).unwrap_err();
        assert!(
            message.to_string().contains("(row 1, column 0)")
                && message.to_string().contains("represent 1000")
        );

        let wild = [1.0, nan, 3.0, inf, 5.0, inf, -inf, 6.0, -inf];
        let tame = [1.0, 0.0, 3.0, 1.0, 5.0, 3.0, 1.0, 6.0, 3.0];
        let wild = encode(codes, RowSlice::new(&wild, 3).unwrap(), NonFinite::Saturate).unwrap();
        assert_eq!(wild, encode(codes, RowSlice::new(&tame, 3).unwrap(), NonFinite::Refuse).unwrap());
        let nothing =
            encode(codes, RowSlice::new(&[inf, -inf, nan, inf], 1).unwrap(), NonFinite::Saturate).unwrap();
        assert_eq!(centre(&nothing), [0.0]);
    }
}

#[test]
fn rows_too_far_from_their_centre_are_refused_or_saturate() {
    let far = [f32::MAX, f32::MIN, f32::MIN, f32::MIN];
    for codes in BOTH {
        let rows = RowSlice::new(&far, 1).unwrap();
        let message = encode(codes, rows, NonFinite::Refuse).unwrap_err().to_string();
        assert!(message.contains("row 0: it is so far from the mean of its chunk"), "{message}");
        let chunk = encode(codes, rows, NonFinite::Saturate).unwrap();
        assert!(floats(&decode(codes, rows, &chunk, DType::F32)).iter().all(|value| value.is_finite()));
        // Large values that are possible.
        for dim in DIMS {
            let values: Vec<f32> = normal(9 * dim, 8).iter().map(|value| value * 1e37).collect();
            check_plain(codes, &values, dim);
            check_bound(codes, &values, dim);
        }
    }
}

#[test]
fn damaged_parameters_are_refused() {
    for codes in BOTH {
        let codec = find(codes.name()).unwrap();
        let values = normal(3 * 4, 2);
        let rows = RowSlice::new(&values, 4).unwrap();
        let good = encode(codes, rows, NonFinite::Refuse).unwrap();
        let message = |params: Vec<u8>| {
            let chunk = EncodedChunk { params: Params::Bytes(params.into()), ..good.clone() };
            Chunk::native(codec, rows, &EncodeOptions::new(3), &chunk)
                .plan(codec, DType::F32)
                .unwrap_err()
                .to_string()
        };
        for len in [0, 4, 15, 17, 20] {
            let message = message(vec![0; len]);
            assert!(
                message.contains("a centre of four bytes a dim for each chunk: the file is damaged"),
                "{message}"
            );
        }
        for value in [f32::NAN, f32::INFINITY] {
            let centre = [0.0, value, 0.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
            assert!(message(centre).contains("a finite centre for each chunk: the file is damaged"));
        }
        let mut fields = good.clone();
        fields.fields.pop();
        let chunk = Chunk::native(codec, rows, &EncodeOptions::new(3), &fields);
        assert!(chunk.plan(codec, DType::F32).unwrap_err().to_string().contains("rotated"));
        let mut fields = good.clone();
        fields.fields[1].bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        let chunk = Chunk::native(codec, rows, &EncodeOptions::new(3), &fields);
        let plan = chunk.plan(codec, DType::F32).unwrap();
        let message = chunk.decode(&plan, 0..3).unwrap_err().to_string();
        assert!(message.contains("row 1") && message.contains("scale"), "{message}");
        assert!(chunk.decode(&plan, 2..3).is_ok());
        // A centre of -0.0, which nobody writes, counts as 0.0.
        let centre = [-0.0f32; 4].iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut zeros = EncodedChunk { params: Params::Bytes(centre), ..good.clone() };
        zeros.fields[1].bytes.fill(0);
        let decoded = floats(&decode(codes, rows, &zeros, DType::F32));
        assert!(decoded.iter().all(|value| value.to_bits() == 0));
    }
}

/// A fused multiply-add would give other bits.
#[test]
fn two_roundings_are_not_one() {
    let dim = 64;
    let rotation = Rotation::new(dim);
    let centre = normal(dim, 77);
    let codes: Vec<u8> = (0..32).map(|at| (at * 37 % 256) as u8).collect();
    let mut levels = vec![0; dim];
    RotatedCodes::Int4.levels(&codes, &mut levels);
    rotation.unrotate_levels(&mut levels, &mut vec![0; dim]);
    let scale = 1.234_567_9e-4;
    let mut values = vec![0.0; dim];
    rotated(RotatedCodes::Int4, &rotation, &codes, scale, &centre, &mut vec![0; 2 * dim], &mut values);
    let fused = levels.iter().zip(&centre).map(|(t, c)| (*t as f32).mul_add(scale, *c));
    let differ = values.iter().zip(fused).filter(|(value, fused)| **value != *fused).count();
    assert!(differ > 0, "or no test sees the difference");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_are_within_the_bound(rows in 1usize..20, dim in 1usize..300, seed in any::<u64>(), spread in -30i32..30) {
        let offsets = normal(dim, seed ^ 0x55);
        let mut values = normal(rows * dim, seed);
        for row in values.chunks_exact_mut(dim) {
            for (value, offset) in row.iter_mut().zip(&offsets) {
                *value = (*value + 10.0 * offset) * 2f32.powi(spread);
            }
        }
        for codes in BOTH {
            check_plain(codes, &values, dim);
            check_bound(codes, &values, dim);
        }
    }

    #[test]
    fn saturating_rows_decode_to_finite_values(dim in 1usize..40, seed in any::<u64>()) {
        let values: Vec<f32> =
            normal(17 * dim, seed).iter().map(|value| f32::from_bits(value.to_bits().rotate_left(9) ^ 0x3000_0000)).collect();
        let rows = RowSlice::new(&values, dim).unwrap();
        for codes in BOTH {
            let chunk = encode(codes, rows, NonFinite::Saturate).unwrap();
            for out in [DType::F32, DType::Bf16] {
                let decoded = decode(codes, rows, &chunk, out);
                if out == DType::F32 {
                    prop_assert!(floats(&decoded).iter().all(|value| value.is_finite()));
                }
            }
        }
    }
}
