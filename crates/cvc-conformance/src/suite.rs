//! The cases. Each is a promise that every backend keeps; the judge is [`ReferenceBackend`], bit for bit.
//!
//! Every batch is decoded twice by the backend under test, once from payloads that can be borrowed and once
//! from payloads that must be read, into memory poisoned with different bytes. So equal results mean that
//! every byte was written.

use std::ops::Range;
use std::sync::Arc;

use cvc_codec::ops::PayloadError;
use cvc_codec::ops::rotated::RotatedCodes;
use cvc_codec::stream::{Deflater, Packing};
use cvc_codec::{
    Affine, Backend, Batch, ChunkId, ChunkShape, DType, DecodeError, DecodePlan, HostBuffer, Job, Load,
    Parts, Payloads, ReferenceBackend, Rotation, SourceError, Stream,
};

use crate::chunks::{Chunk, Content, Kind, Random, dictionaries, kinds, plan};
use crate::native::native_chunk_of;
use crate::payloads::MemoryPayloads;
use crate::subject::{Destination, Subject};

/// Makes a `#[test]` of every case for one backend, given as an `Option` of a [`Subject`].
///
/// With `None` the tests do nothing: make it with [`require::device`](crate::require::device), which reports
/// the skip, or fails where the device should be there.
#[macro_export]
macro_rules! conformance {
    ($subject:expr) => {
        $crate::conformance!(@tests $subject;
            every_half_widens_to_its_bits
            every_half_narrows_to_its_bits
            every_bfloat_widens_to_its_bits
            every_bfloat_narrows_to_its_bits
            every_code_is_two_roundings
            every_code_of_a_dim_is_two_roundings
            every_code_of_a_row_is_two_roundings
            rotated_rows_of_every_shape
            rotated_rows_are_two_roundings
            every_code_of_parameters_that_are_not_finite
            every_dtype_is_copied
            every_f32_exponent_narrows_to_nearest_even
            dictionaries_of_every_width
            dictionaries_of_real_data
            dictionaries_in_any_order
            odd_dims_and_row_counts
            thousands_of_rows
            rows_wider_than_any_run
            windows_start_anywhere
            scattered_jobs_land_where_they_belong
            blocks_of_any_size
            prefixes_of_rows
            planes_of_every_mask
            rows_in_any_order_from_few_blocks
            ten_thousand_tiny_chunks
            nothing_is_decoded_from_nothing
            a_damaged_payload_is_an_error_that_names_its_chunk
            the_first_bad_value_is_the_one_reported
            a_row_parameter_that_is_not_finite_is_an_error
            a_scale_of_a_rotated_row_that_is_not_finite_is_an_error
            a_damaged_stream_is_an_error_that_names_chunk_and_block
            the_first_damaged_block_is_the_one_reported
            a_source_that_fails_is_an_error_that_names_its_chunk
            a_wrong_destination_is_refused
            a_failure_leaves_the_backend_usable
            threads_may_share_a_backend
        );
    };
    (@tests $subject:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            if let Some(subject) = $subject {
                $crate::suite::$case(&subject);
            }
        }
    )*};
}

/// All 65,536 patterns: numbers, subnormals, zeros, infinities, NaNs with their payloads; and each NaN alone
/// among numbers, wherever in a vector it falls.
pub fn every_half_widens_to_its_bits(subject: &dyn Subject) {
    halves(subject, Load::WidenF16, DType::F32);
}

/// The same patterns read as f16, which is a copy, and as bf16.
pub fn every_half_narrows_to_its_bits(subject: &dyn Subject) {
    halves(subject, Load::WidenF16, DType::F16);
    halves(subject, Load::WidenF16, DType::Bf16);
}

/// All patterns of bfloat16, as those of binary16.
pub fn every_bfloat_widens_to_its_bits(subject: &dyn Subject) {
    halves(subject, Load::WidenBf16, DType::F32);
}

/// The same patterns read as bf16, which is a copy, and as f16.
pub fn every_bfloat_narrows_to_its_bits(subject: &dyn Subject) {
    halves(subject, Load::WidenBf16, DType::Bf16);
    halves(subject, Load::WidenBf16, DType::F16);
}

fn halves(subject: &dyn Subject, load: Load, out: DType) {
    let mut patterns: Vec<u16> = (0..=u16::MAX).collect();
    let infinity = if load == Load::WidenF16 { 0x7c00 } else { 0x7f80 };
    let nans = patterns.clone().into_iter().filter(|bits| bits & 0x7fff > infinity);
    // 33 is odd and larger than a vector: the NaNs pass through every lane.
    patterns.extend(nans.flat_map(|nan| [nan].into_iter().chain((0x3c00..).take(32))));
    patterns.extend((0..=u16::MAX).map(|bits| bits.reverse_bits()));
    let payload: Vec<u8> = patterns.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    for dim in [1, 7, 256] {
        let rows = u32::try_from(patterns.len()).unwrap() / dim;
        let payload = payload[..2 * rows as usize * dim as usize].to_vec();
        let plan = plan(rows, dim, load.clone(), out, &payload);
        check(subject, &[plan], &[payload], &[(0, 0..rows), (0, 3..rows - 1)]);
    }
}

/// All codes, by parameters where a fused multiply-add, a flushed subnormal or a lost sign would show.
pub fn every_code_is_two_roundings(subject: &dyn Subject) {
    codes(subject, &parameters(), "affine_u8");
}

/// The same with parameters for each dim, and results that overflow.
pub fn every_code_of_a_dim_is_two_roundings(subject: &dyn Subject) {
    let parameters = [parameters(), overflowing()].concat();
    let dim = u32::try_from(parameters.len()).unwrap();
    let codes = (0..=255).flat_map(|code| vec![code; parameters.len()]).collect();
    let affine = Affine::Dim {
        scale: parameters.iter().map(|(scale, _)| *scale).collect(),
        min: parameters.iter().map(|(_, min)| *min).collect(),
    };
    let content = Content::field(ChunkShape { rows: 256, dim }, Load::AffineU8(affine), codes);
    for out in [DType::F32, DType::F16, DType::Bf16] {
        for (plan, payload) in [content.framed(out), content.blocked(1, out), content.blocked(100, out)] {
            let windows = [(0, 0..256), (0, 1..255), (0, 99..101)];
            let prefix = plan.clone().with_prefix(dim - 3).unwrap();
            check(subject, &[plan], core::slice::from_ref(&payload), &windows);
            check(subject, &[prefix], &[payload], &windows);
        }
    }
}

/// The same with parameters for each row.
pub fn every_code_of_a_row_is_two_roundings(subject: &dyn Subject) {
    let parameters = [parameters(), overflowing()].concat();
    let rows = u32::try_from(parameters.len()).unwrap();
    // 256 values are whole vectors, 301 are not.
    for dim in [256, 301] {
        let codes = (0..rows).flat_map(|_| (0..=255).cycle().take(dim as usize)).collect();
        let content = Content::row_affine(ChunkShape { rows, dim }, codes, &parameters);
        for out in [DType::F32, DType::F16, DType::Bf16] {
            for block_rows in [1, 10, 1000] {
                let (plan, payload) = content.blocked(block_rows, out);
                check(subject, &[plan], &[payload], &[(0, 0..rows), (0, 1..rows - 1), (0, 9..11)]);
            }
        }
    }
}

/// Parameters for which no result is a NaN, but some are infinite. (Not for a whole chunk, where these are a table.)
fn overflowing() -> Vec<(f32, f32)> {
    vec![(f32::MAX, 0.0), (f32::MAX / 128.0, f32::MAX), (-f32::MAX, f32::MAX), (f32::MAX, -f32::MAX)]
}

/// Pairs of scale and minimum.
fn parameters() -> Vec<(f32, f32)> {
    let mut random = Random::new();
    let mut parameters = vec![
        (1.0, 0.0),
        (1.0, -0.0),
        (0.0, -0.0),
        (-0.0, 0.0),
        (-0.0, -0.0),
        (0.1, -12.7),
        // 24 significant bits: every product is rounded.
        (1.000_000_1, -0.123_456_79),
        (0.999_999_94, 16_777_215.0),
        (f32::from_bits(0x3dff_ffff), -31.999_998),
        (-0.333_333_34, 85.0),
        // Subnormal scales, minima, products and sums.
        (f32::from_bits(1), 0.0),
        (f32::from_bits(0x0000_4321), f32::from_bits(0x8000_0007)),
        (f32::MIN_POSITIVE, -f32::MIN_POSITIVE),
        (f32::MIN_POSITIVE / 128.0, -f32::MIN_POSITIVE),
        (f32::MAX / 256.0, -f32::MAX / 2.0),
        (1e-30, 1e30),
    ];
    // Sums near zero, where the rounding of the product is most of the result.
    parameters.extend((0..40).map(|_| {
        let scale = f32::from_bits(0x3c00_0000 | random.u32() >> 9);
        (scale, -scale * f32::from(random.u8()) * (1.0 + f32::EPSILON))
    }));
    parameters
}

/// Rows of all dims with which the transform has another form, in groups of rows that are and are not decoded together; the
/// largest integers that there can be; bits that are not used.
pub fn rotated_rows_of_every_shape(subject: &dyn Subject) {
    let mut random = Random::new();
    let dims =
        [1, 2, 3, 4, 6, 8, 12, 16, 24, 31, 32, 40, 64, 96, 100, 128, 192, 250, 256, 300, 384, 512, 640];
    for codes in [RotatedCodes::Int4, RotatedCodes::Bit1] {
        for dim in dims.into_iter().chain([768, 1000, 1024, 1280, 1536, 2560, 4096, 20_480]) {
            let rows = if dim > 2000 { 9 } else { 40 };
            let content = random.content(rows, dim, Kind::Rotated(codes));
            let (plan, payload) = content.blocked(4, DType::F32);
            let windows = [(0, 0..rows), (0, 0..1), (0, 1..3), (0, rows - 8..rows), (0, 2..rows - 1)];
            check(subject, core::slice::from_ref(&plan), core::slice::from_ref(&payload), &windows);
            for prefix in [1, dim / 3, dim / 2, dim - 1] {
                let Ok(plan) = plan.clone().with_prefix(prefix) else { continue };
                check(subject, &[plan], core::slice::from_ref(&payload), &windows);
            }
        }
        // All of one level: what is added up is 127 * 2^16.
        let centre = vec![0.0; 768];
        let width = usize::try_from(codes.row_len(768)).unwrap();
        for byte in [0, 0xff] {
            let content = Content::rotated(codes, &centre, vec![byte; 20 * width], &[1.0; 20]);
            let (plan, payload) = content.blocked(20, DType::F32);
            check(subject, &[plan], &[payload], &[(0, 0..20), (0, 19..20)]);
        }
        // Rows whose integers are the largest: levels with the signs of what is transformed.
        let mut ends = vec![0u8; 256 / 8];
        let rotation = Rotation::new(256);
        for target in 0..8 {
            let mut row = vec![0; 256];
            row[target * 31] = 1;
            let mut levels: Vec<f32> = row.iter().map(|value| *value as f32).collect();
            rotation.rotate(&mut levels);
            for (at, level) in levels.iter().enumerate() {
                ends[at / 8] = ends[at / 8] & !(1 << (at % 8)) | u8::from(*level > 0.0) << (at % 8);
            }
            let bytes: Vec<u8> = match codes {
                RotatedCodes::Bit1 => ends.clone(),
                RotatedCodes::Int4 => levels
                    .chunks(2)
                    .map(|pair| if pair[0] > 0.0 { 15 } else { 0 } | if pair[1] > 0.0 { 0xf0 } else { 0 })
                    .collect(),
            };
            let content = Content::rotated(codes, &[0.0; 256], bytes.repeat(5), &[1.0; 5]);
            let (plan, payload) = content.blocked(5, DType::F32);
            check(subject, &[plan], &[payload], &[(0, 0..5), (0, 1..2)]);
        }
    }
}

/// Scales and centres where a fused multiply-add, a flushed subnormal or a lost sign would show, and results that overflow.
pub fn rotated_rows_are_two_roundings(subject: &dyn Subject) {
    let mut random = Random::new();
    let pairs = [parameters(), overflowing()].concat();
    for codes in [RotatedCodes::Int4, RotatedCodes::Bit1] {
        for dim in [64, 100] {
            let width = usize::try_from(codes.row_len(dim)).unwrap();
            // Every scale with every minimum as a centre.
            let centres = pairs.chunks(usize::try_from(dim).unwrap());
            for centre in centres.chain([&pairs[..16]]) {
                let centre: Vec<f32> =
                    centre.iter().cycle().take(usize::try_from(dim).unwrap()).map(|(_, min)| *min).collect();
                let scales: Vec<f32> =
                    pairs.iter().flat_map(|(scale, _)| [*scale, scale / 4096.0, scale / 1e6]).collect();
                let bytes = random.bytes(scales.len() * width);
                let content = Content::rotated(codes, &centre, bytes, &scales);
                for out in [DType::F32, DType::F16, DType::Bf16] {
                    let (plan, payload) = content.blocked(10, out);
                    let rows = content.shape.rows;
                    check(subject, &[plan], &[payload], &[(0, 0..rows), (0, 1..rows - 1), (0, 9..11)]);
                }
            }
        }
    }
}

/// NaN and infinite parameters, and finite ones whose results overflow: the NaNs have one defined pattern.
pub fn every_code_of_parameters_that_are_not_finite(subject: &dyn Subject) {
    let odd = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let mut parameters: Vec<(f32, f32)> =
        odd.into_iter().flat_map(|a| odd.into_iter().chain([0.0, 1.0, -1.0]).map(move |b| (a, b))).collect();
    parameters.extend(parameters.clone().into_iter().map(|(a, b)| (b, a)));
    parameters.extend([(f32::MAX, 0.0), (f32::MAX / 128.0, f32::MAX), (-f32::MAX, f32::MAX)]);
    codes(subject, &parameters, "lut_u8");
}

fn codes(subject: &dyn Subject, parameters: &[(f32, f32)], op: &str) {
    let (rows, dim) = (9, 57);
    let payload: Vec<u8> = (0..=255).cycle().take(rows as usize * dim as usize).collect();
    for (scale, min) in parameters.iter().copied() {
        for out in [DType::F32, DType::F16, DType::Bf16] {
            let load = Load::AffineU8(Affine::Chunk { scale, min });
            let plan = plan(rows, dim, load, out, &payload);
            assert_eq!(plan.load().name(), op, "{scale:e} {min:e}");
            check(subject, &[plan], core::slice::from_ref(&payload), &[(0, 0..rows), (0, 1..rows)]);
        }
    }
}

/// Any bits of any dtype come out as they went in.
pub fn every_dtype_is_copied(subject: &dyn Subject) {
    let mut random = Random::new();
    for dtype in DType::ALL {
        for (rows, dim) in [(1, 1), (7, 3), (33, 31), (5, 384), (300, 127)] {
            let payload = random.bytes(rows as usize * dim as usize * dtype.size());
            let plan = plan(rows, dim, Load::Copy(dtype), dtype, &payload);
            check(subject, &[plan], &[payload], &[(0, 0..rows), (0, rows / 2..rows), (0, 0..1)]);
        }
    }
}

/// Every exponent of f32 with fractions at, below and above every kind of tie, and NaNs whose payload lies
/// in the bits that are dropped.
pub fn every_f32_exponent_narrows_to_nearest_even(subject: &dyn Subject) {
    let mut random = Random::new();
    let mut fractions = vec![0];
    // A tie, or next to one, at every place where a fraction can be cut.
    for place in 0..23 {
        for upper in [0, 1, 2, 3, 0x7f_ffff, 0x2a_aaaa, random.u32()] {
            let bit = 1 << place;
            let kept = upper << (place + 1);
            fractions.extend([bit, bit - 1, bit + 1].map(|lower| (kept | lower) & 0x7f_ffff));
        }
    }
    let patterns = (0..512u32).flat_map(|upper| fractions.iter().map(move |fraction| upper << 23 | fraction));
    let mut patterns: Vec<u32> = patterns.collect();
    patterns.extend((0..100_000).map(|_| random.u32()));
    // A NaN of every kind alone among numbers.
    patterns.extend(
        [0x7f80_0001u32, 0xff80_0001, 0x7fc0_0000, 0xffff_ffff, 0x7fbf_ffff, 0x7f80_2000, 0xff81_0000]
            .into_iter()
            .flat_map(|nan| [nan].into_iter().chain((0x3f80_0000..).step_by(4099).take(40))),
    );
    let payload: Vec<u8> = patterns.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    for out in [DType::F16, DType::Bf16] {
        for dim in [1, 33] {
            let rows = u32::try_from(patterns.len()).unwrap() / dim;
            let payload = payload[..4 * rows as usize * dim as usize].to_vec();
            let plan = plan(rows, dim, Load::Copy(DType::F32), out, &payload);
            check(subject, &[plan], &[payload], &[(0, 0..rows), (0, 5..rows)]);
        }
    }
}

/// Codes of every width in every plane, dictionaries that are full and that are not.
pub fn dictionaries_of_every_width(subject: &dyn Subject) {
    let mut random = Random::new();
    for turn in 0..24usize {
        let entries = [0, 1, 2, 3].map(|plane| {
            let full = 1u32 << (1 + (turn + 3 * plane) % 8);
            // The second round fills one more than half of each dictionary, the third only one entry.
            [full, full / 2 + 1, if full > 2 { full } else { 1 }][turn / 8]
        });
        for (rows, dim) in [(1, 1), (1, 7), (1, 8), (13, 3), (40, 33), (9, 1000)] {
            let values: Vec<f32> = (0..rows * dim)
                .map(|_| {
                    f32::from_bits(u32::from_le_bytes(entries.map(|entries| random.byte_below(entries))))
                })
                .collect();
            let payload = dictionaries(&values);
            for out in [DType::F32, DType::Bf16] {
                let plan = plan(rows, dim, Load::DictPlanes, out, &payload);
                let windows = [(0, 0..rows), (0, rows / 3..rows), (0, rows - 1..rows), (0, 0..1)];
                check(subject, &[plan], core::slice::from_ref(&payload), &windows);
            }
        }
    }
}

/// Values as models make them: all fractions occur, few exponents do.
pub fn dictionaries_of_real_data(subject: &dyn Subject) {
    let mut random = Random::new();
    let (rows, dim) = (2000, 96);
    let values: Vec<f32> = (0..rows * dim).map(|_| random.normal() / 9.8).collect();
    let payload = dictionaries(&values);
    for out in [DType::F32, DType::F16, DType::Bf16] {
        let plan = plan(rows, dim, Load::DictPlanes, out, &payload);
        let windows = [(0, 0..rows), (0, 17..1801), (0, 1999..2000)];
        check(subject, &[plan], core::slice::from_ref(&payload), &windows);
    }
}

/// Dictionaries as no encoder of ours writes them: unsorted, full ones too.
pub fn dictionaries_in_any_order(subject: &dyn Subject) {
    let mut random = Random::new();
    let (rows, dim) = (90, 100);
    let values: Vec<f32> = (0..rows * dim).map(|_| random.normal() / 9.8).collect();
    let mut payload = dictionaries(&values);
    let mut offset = 8;
    for plane in 0..4 {
        let entries = usize::from(u16::from_le_bytes([payload[offset], payload[offset + 1]]));
        payload[offset + 2..][..entries].rotate_left(entries / 3);
        offset += 2 + entries + (values.len() * usize::from(payload[4 + plane])).div_ceil(8);
    }
    assert_eq!(offset, payload.len());
    assert_eq!(payload[4], 8, "the fractions of real data fill a dictionary");
    let plan = plan(rows, dim, Load::DictPlanes, DType::F32, &payload);
    check(subject, &[plan], &[payload], &[(0, 0..rows), (0, 7..rows)]);
}

/// Dims and row counts on both sides of every vector width, in one batch for each op and dim.
pub fn odd_dims_and_row_counts(subject: &dyn Subject) {
    let mut random = Random::new();
    for dim in [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 384, 768, 1000] {
        for (kind, out) in kinds() {
            let chunks: Vec<_> = (1..=40).map(|rows| random.chunk(rows, dim, kind, out)).collect();
            let (plans, payloads): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
            let windows: Vec<_> = (1..=40).map(|rows| (rows as usize - 1, 0..rows)).collect();
            check(subject, &plans, &payloads, &windows);
        }
    }
}

/// Chunks of many times the size of any cache-sized run.
pub fn thousands_of_rows(subject: &dyn Subject) {
    let mut random = Random::new();
    for (rows, dim) in [(300_000, 1), (40_000, 9), (3000, 384)] {
        for (kind, out) in kinds() {
            let (plan, payload) = random.chunk(rows, dim, kind, out);
            check(
                subject,
                &[plan],
                &[payload],
                &[(0, 0..rows), (0, 1..rows - 1), (0, rows / 2..rows / 2 + 1)],
            );
        }
    }
}

/// One row of hundreds of thousands of values.
pub fn rows_wider_than_any_run(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        let (plan, payload) = random.chunk(3, 300_001, kind, out);
        check(subject, &[plan], &[payload], &[(0, 0..3), (0, 1..2)]);
    }
}

/// Windows of any start and length, several on one chunk.
pub fn windows_start_anywhere(subject: &dyn Subject) {
    let mut random = Random::new();
    for dim in [1, 3, 7, 16, 33] {
        for (kind, out) in kinds() {
            let (plan, payload) = random.chunk(300, dim, kind, out);
            let mut window = || {
                let (a, b) = (random.below(301), random.below(301));
                (0, a.min(b)..a.max(b))
            };
            let windows: Vec<_> = (0..20).map(|_| window()).collect();
            check(subject, &[plan], &[payload], &windows);
        }
    }
}

/// Many jobs, in no order, of all ops at once, single rows among them.
pub fn scattered_jobs_land_where_they_belong(subject: &dyn Subject) {
    let mut random = Random::new();
    for dim in [1, 5, 32] {
        for out in [DType::F32, DType::F16, DType::Bf16] {
            let kinds = kinds().into_iter().filter(|(kind, of)| *of == out && runs(subject, kind.op()));
            let kinds: Vec<Kind> = kinds.map(|(kind, _)| kind).collect();
            let chunks: Vec<_> = (0..60)
                .map(|index| {
                    let rows = random.below(50);
                    random.chunk(rows, dim, kinds[index % kinds.len()], out)
                })
                .collect();
            let (plans, payloads): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
            let windows: Vec<_> = (0..3000)
                .map(|_| {
                    let chunk = random.below(60);
                    let rows = plans[chunk as usize].shape().rows;
                    let start = random.below(rows + 1);
                    (chunk as usize, start..(start + random.below(3)).min(rows))
                })
                .collect();
            check(subject, &plans, &payloads, &windows);
        }
    }
}

/// Every op in blocks of one row, of a few that do not divide the chunk, of all, and of more than there are.
pub fn blocks_of_any_size(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        if kind == Kind::DictPlanes {
            continue;
        }
        let content = random.content(50, 37, kind);
        for block_rows in [1, 2, 3, 7, 16, 49, 50, 51, 1000, u32::MAX] {
            let (plan, payload) = content.blocked(block_rows, out);
            let windows = [(0, 0..50), (0, 49..50), (0, 6..8), (0, 13..15), (0, 1..49), (0, 20..20)];
            check(subject, &[plan], &[payload], &windows);
        }
    }
}

/// The first values of every row: none, one, an odd number, all.
pub fn prefixes_of_rows(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        if kind == Kind::DictPlanes {
            continue;
        }
        for (rows, dim) in [(40, 70), (9, 5000), (30, 1)] {
            let (plan, payload) = random.chunk(rows, dim, kind, out);
            for prefix in [0, 1, 2, 33, 64, 69, 4097, dim] {
                let Ok(plan) = plan.clone().with_prefix(prefix) else { continue };
                let windows = [(0, 0..rows), (0, rows - 1..rows), (0, 3..8)];
                check(subject, &[plan], core::slice::from_ref(&payload), &windows);
            }
        }
    }
}

/// Byte planes of every floating point dtype, with every choice of those that are lanes, however they are packed.
pub fn planes_of_every_mask(subject: &dyn Subject) {
    let mut random = Random::new();
    let packings = [Packing::Zstd, Packing::ZstdLiterals, Packing::Gzip];
    for dtype in [DType::F16, DType::Bf16, DType::F32, DType::F64] {
        let outs = if dtype == DType::F32 { vec![dtype, DType::F16, DType::Bf16] } else { vec![dtype] };
        for coded in (0..=u8::MAX).take(1 << dtype.size()) {
            // All packings where there are few masks.
            let packings =
                if dtype == DType::F64 { vec![packings[usize::from(coded % 3)]] } else { packings.to_vec() };
            for packing in packings {
                let kind = Kind::JoinPlanes { dtype, coded, packing };
                // 130 is two vectors of any kind, and two values.
                let dim = [1, 31, 64, 130][random.below(4) as usize];
                let content = random.content(21, dim, kind);
                let block_rows = [1, 4, 21][random.below(3) as usize];
                for out in outs.iter().copied() {
                    let (plan, payload) = content.blocked(block_rows, out);
                    let prefix = plan.clone().with_prefix(dim - dim / 3).unwrap();
                    let windows = [(0, 0..21), (0, 3..20), (0, 20..21), (0, 4..5)];
                    check(subject, &[plan], core::slice::from_ref(&payload), &windows);
                    check(subject, &[prefix], &[payload], &windows);
                }
            }
        }
    }
}

/// Single rows and short windows over a few blocks, backwards and shuffled, some of them several times.
pub fn rows_in_any_order_from_few_blocks(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        for dim in [5, 300] {
            let content = random.content(100, dim, kind);
            let (plan, payload) =
                if kind == Kind::DictPlanes { content.framed(out) } else { content.blocked(16, out) };
            let (plan, payload) = (&[plan], &[payload]);
            check(subject, plan, payload, &(0..100).rev().map(|row| (0, row..row + 1)).collect::<Vec<_>>());
            let mut windows: Vec<Window> = (0..100).map(|row| (0, row..row + 1)).collect();
            windows.extend((0..40).map(|_| random.below(100)).map(|row| (0, row..(row + 20).min(100))));
            windows.extend([(0, 50..51), (0, 50..51), (0, 50..51), (0, 0..100), (0, 0..100)]);
            random.shuffle(&mut windows);
            check(subject, plan, payload, &windows);
            // Far apart: most blocks are not wanted.
            check(subject, plan, payload, &[(0, 99..100), (0, 0..1), (0, 40..41), (0, 47..49), (0, 0..2)]);
        }
    }
}

/// A batch of very many chunks of very few rows.
pub fn ten_thousand_tiny_chunks(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        let chunks: Vec<_> = (0..10_000).map(|index| random.chunk(index % 4, 3, kind, out)).collect();
        let (plans, payloads): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        let windows: Vec<_> = (0..10_000).map(|index| (index, 0..plans[index].shape().rows)).collect();
        check(subject, &plans, &payloads, &windows);
    }
}

/// No jobs, jobs without rows, chunks without rows, rows without values: nothing is read and nothing fails.
pub fn nothing_is_decoded_from_nothing(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        if !runs(subject, kind.op()) {
            continue;
        }
        let full = random.chunk(6, 4, kind, out);
        let mut cases = vec![(full.clone(), vec![]), (full.clone(), vec![(0, 0..0), (0, 6..6), (0, 3..3)])];
        if kind != Kind::DictPlanes {
            let no_values = full.0.with_prefix(0).unwrap();
            cases.push(((no_values, full.1), vec![(0, 0..6), (0, 2..3)]));
        }
        if !kind.is_native() {
            cases.push((random.chunk(0, 4, kind, out), vec![(0, 0..0)]));
            cases.push((random.chunk(6, 0, kind, out), vec![(0, 0..6), (0, 2..3)]));
        }
        let all = [ChunkId(0)];
        for ((plan, payload), windows) in &cases {
            let batch = batch_of(core::slice::from_ref(plan), windows, plan.dim(), out);
            for borrowing in [false, true] {
                let src =
                    MemoryPayloads::new(core::slice::from_ref(payload)).borrowing(borrowing).failing_at(&all);
                assert!(decode(subject, &batch, &src, 0xa5).unwrap().is_empty(), "{plan}");
            }
        }
    }
}

/// Every way in which a payload's inner structure can be wrong, in a batch with good chunks around it.
pub fn a_damaged_payload_is_an_error_that_names_its_chunk(subject: &dyn Subject) {
    let mut random = Random::new();
    if !runs(subject, "dict_planes") {
        return;
    }
    let (rows, dim) = (20, 10);
    let values: Vec<f32> = (0..rows * dim).map(|_| f32::from_bits(random.below(5) * 0x0101_0101)).collect();
    let good = dictionaries(&values);
    // Planes of five entries in three bits: 2 + 5 + 75 bytes each, from byte 8 on.
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.clone();
        edit(&mut bad);
        bad
    };
    let mut damaged = vec![
        with(&|bytes| bytes[0] ^= 1),
        with(&|bytes| bytes[4] = 0),
        with(&|bytes| bytes[7] = 9),
        with(&|bytes| bytes[8] = 9),
        with(&|bytes| bytes[8] = 0),
        with(&|bytes| bytes.push(0)),
        with(&|bytes| bytes[8 + 2 + 5 + 30] = 0xff),
        with(&|bytes| *bytes.last_mut().unwrap() = 0xff),
    ];
    // Cut anywhere, as far as a plan lets it through.
    let shape = ChunkShape { rows, dim };
    let planned = |len: &usize| {
        let parts = Arc::new(Parts::opaque(rows, u32::try_from(*len).unwrap()));
        DecodePlan::new(shape, Load::DictPlanes, Stream::Stored, DType::F32, &parts).is_ok()
    };
    damaged.extend((0..good.len()).filter(planned).map(|len| with(&|bytes| bytes.truncate(len))));
    for bad in damaged {
        let payloads = [good.clone(), good.clone(), bad, good.clone()];
        let plans = payloads.each_ref().map(|payload| plan(rows, dim, Load::DictPlanes, DType::F32, payload));
        let error = check_error(subject, &plans, &payloads, &[(0, 0..20), (1, 5..6), (2, 0..20), (3, 0..20)]);
        assert!(matches!(error, DecodeError::Payload { chunk: ChunkId(2), .. }), "{error}");
        assert!(error.to_string().starts_with("chunk 2: "), "{error}");
    }
}

/// Of several bad codes, in several planes, jobs and chunks, the first in destination order is reported,
/// and none where the rows wanted do not contain one.
pub fn the_first_bad_value_is_the_one_reported(subject: &dyn Subject) {
    let mut random = Random::new();
    if !runs(subject, "dict_planes") {
        return;
    }
    let (rows, dim) = (5000, 64);
    let value_count = rows * dim;
    // Three entries in two bits in each plane: code 3 is bad. Whole bytes of codes hold four values.
    let values: Vec<f32> = (0..value_count).map(|_| f32::from_bits(random.below(3) * 0x0101_0101)).collect();
    let good = dictionaries(&values);
    let plane_len = 2 + 3 + value_count as usize / 4;
    for _ in 0..12 {
        let mut bad = good.clone();
        for _ in 0..random.below(4) {
            let plane = random.below(4) as usize;
            let value = random.below(value_count) as usize;
            bad[8 + plane * plane_len + 2 + 3 + value / 4] |= 0b11 << (6 - 2 * (value % 4));
        }
        let payloads = [bad.clone(), good.clone(), bad];
        let plans = payloads.each_ref().map(|payload| plan(rows, dim, Load::DictPlanes, DType::F32, payload));
        let start = random.below(rows);
        check_any(subject, &plans, &payloads, &[(1, 0..rows), (2, 0..rows), (0, 0..rows)]);
        check_any(subject, &plans, &payloads, &[(0, start..rows), (2, 0..start), (1, 0..9)]);
        check_any(subject, &plans, &payloads, &[(0, start..start + 1), (2, start..start + 1)]);
    }
}

/// A scale or a minimum of a row that is not finite: an error if the row is wanted, of the first such row.
pub fn a_row_parameter_that_is_not_finite_is_an_error(subject: &dyn Subject) {
    if !runs(subject, "affine_u8") {
        return;
    }
    let mut random = Random::new();
    let shape = ChunkShape { rows: 90, dim: 20 };
    let codes = random.bytes(90 * 20);
    let good = vec![(0.5, -1.0); 90];
    for (number, bad) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate() {
        let mut parameters = good.clone();
        parameters[number * 7 + 9].0 = bad;
        parameters[40].1 = bad;
        parameters[71] = (bad, bad);
        for block_rows in [1, 8, 90] {
            for out in [DType::F32, DType::Bf16] {
                let of = |parameters: &[(f32, f32)]| {
                    Content::row_affine(shape, codes.clone(), parameters).blocked(block_rows, out)
                };
                let (plans, payloads): (Vec<_>, Vec<_>) = [of(&good), of(&parameters)].into_iter().unzip();
                let row_of = |windows: &[Window]| match check_any(subject, &plans, &payloads, windows) {
                    Some(DecodeError::Payload { chunk, error: PayloadError::Parameter { row, .. } }) => {
                        assert_eq!(chunk, ChunkId(1));
                        Some(row)
                    }
                    None => None,
                    Some(other) => panic!("{other}"),
                };
                let first = u32::try_from(number * 7 + 9).unwrap();
                assert_eq!(row_of(&[(0, 0..90), (1, 0..90)]), Some(first));
                assert_eq!(row_of(&[(1, 0..first), (1, first + 1..40), (1, 41..71), (1, 72..90)]), None);
                assert_eq!(row_of(&[(1, 72..90), (1, 60..90), (1, 0..90)]), Some(71));
                assert_eq!(row_of(&[(1, 90..90), (1, 40..41), (1, first..first + 1)]), Some(40));
                let mut singles: Vec<Window> = (0..90).map(|row| (1, row..row + 1)).collect();
                random.shuffle(&mut singles);
                assert!(row_of(&singles).is_some());
            }
        }
    }
}

/// Scales of rotated rows that are not finite: the first row in destination order is reported, and none where no such row is
/// wanted.
pub fn a_scale_of_a_rotated_row_that_is_not_finite_is_an_error(subject: &dyn Subject) {
    if !runs(subject, "rotated") {
        return;
    }
    let mut random = Random::new();
    for codes in [RotatedCodes::Int4, RotatedCodes::Bit1] {
        let bytes = random.bytes(90 * usize::try_from(codes.row_len(20)).unwrap());
        let good = vec![0.5; 90];
        let mut bad = good.clone();
        (bad[9], bad[40], bad[71]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        for block_rows in [1, 8, 90] {
            let of = |scales: &[f32]| {
                Content::rotated(codes, &[1.0; 20], bytes.clone(), scales).blocked(block_rows, DType::F32)
            };
            let (plans, payloads): (Vec<_>, Vec<_>) = [of(&good), of(&bad)].into_iter().unzip();
            let row_of = |windows: &[Window]| match check_any(subject, &plans, &payloads, windows) {
                Some(DecodeError::Payload { chunk, error: PayloadError::Parameter { row, .. } }) => {
                    assert_eq!(chunk, ChunkId(1));
                    Some(row)
                }
                None => None,
                Some(other) => panic!("{other}"),
            };
            assert_eq!(row_of(&[(0, 0..90), (1, 0..90)]), Some(9));
            assert_eq!(row_of(&[(1, 0..9), (1, 10..40), (1, 41..71), (1, 72..90)]), None);
            assert_eq!(row_of(&[(1, 72..90), (1, 60..90), (1, 0..90)]), Some(71));
            let mut singles: Vec<Window> = (0..90).map(|row| (1, row..row + 1)).collect();
            random.shuffle(&mut singles);
            assert!(row_of(&singles).is_some());
        }
    }
}

/// Streams that are cut, that are something else, or in which bits are wrong, in a batch with good chunks around them.
pub fn a_damaged_stream_is_an_error_that_names_chunk_and_block(subject: &dyn Subject) {
    if !runs(subject, "join_planes") {
        return;
    }
    let mut random = Random::new();
    let (rows, dim, block_rows) = (20, 64, 4);
    for packing in [Packing::Zstd, Packing::Gzip] {
        let kind = Kind::JoinPlanes { dtype: DType::F32, coded: 0b1100, packing };
        let content = random.content(rows, dim, kind);
        let good = content.blocked(block_rows, DType::F32);
        let with = |edit: &mut dyn FnMut(usize, u32, &mut Vec<u8>)| -> Chunk {
            let lanes = content.lanes.iter().enumerate().map(|(lane, (width, bytes))| {
                let (mut streams, mut lens) = (Vec::new(), Vec::new());
                for (block, bytes) in (0..).zip(bytes.chunks((width * block_rows) as usize)) {
                    let mut stream = Vec::new();
                    Deflater::default().deflate(packing, bytes, &mut stream);
                    edit(lane, block, &mut stream);
                    lens.push(u32::try_from(stream.len()).unwrap());
                    streams.extend(stream);
                }
                (streams, lens)
            });
            let (parts, bytes) =
                native_chunk_of(rows, block_rows, &content.fields, &lanes.collect::<Vec<_>>());
            let plan =
                DecodePlan::new(content.shape, content.load.clone(), packing.stream(), DType::F32, &parts);
            (plan.unwrap(), bytes)
        };
        // What is said of a stream, for blocks 3 and 1 of different lanes: which of them comes first is up to the jobs.
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 4] = [
            ("shorter", |stream| stream.truncate(stream.len() - 1)),
            ("longer", |stream| stream.push(0)),
            ("hardly begun", |stream| stream.truncate(1)),
            ("something else", |stream| stream.splice(.., *b"this is not it").for_each(drop)),
        ];
        for (name, damage) in damages {
            let bad = with(&mut |lane, block, stream| {
                if (lane, block) == (0, 3) || (lane, block) == (1, 1) {
                    damage(stream);
                }
            });
            let (plans, payloads): (Vec<_>, Vec<_>) = [good.clone(), bad, good.clone()].into_iter().unzip();
            let block_of = |windows: &[Window]| match check_error(subject, &plans, &payloads, windows) {
                error @ DecodeError::Payload {
                    chunk: ChunkId(1),
                    error: PayloadError::Stream { block, .. },
                } => {
                    let text = error.to_string();
                    assert!(
                        text.starts_with("chunk 1: ") && text.contains(&format!("block {block}")),
                        "{text}"
                    );
                    block
                }
                other => panic!("{packing:?} {name}: {other}"),
            };
            assert_eq!(block_of(&[(0, 0..20), (1, 0..20), (2, 0..20)]), 1, "{packing:?} {name}");
            assert_eq!(block_of(&[(0, 0..20), (1, 8..20), (1, 0..8)]), 3, "{packing:?} {name}");
            let backwards: Vec<Window> = (0..20).rev().map(|row| (1, row..row + 1)).collect();
            assert_eq!(block_of(&backwards), 3, "{packing:?} {name}");
            let around = [(1, 0..4), (1, 8..12), (1, 16..20), (1, 9..10)];
            check(subject, &plans, &payloads, &around);
        }
        // Any bit: an error, or other values, but the same as the judge's.
        for _ in 0..100 {
            let (mut lane_at, mut block_at) = (random.below(2), random.below(5));
            let bad = with(&mut |lane, block, stream| {
                if (lane, block) == (lane_at as usize, block_at) {
                    let bit = random.below(u32::try_from(stream.len() * 8).unwrap());
                    stream[bit as usize / 8] ^= 1 << (bit % 8);
                    (lane_at, block_at) = (2, 5);
                }
            });
            check_any(subject, &[bad.0], &[bad.1], &[(0, 10..20), (0, 0..11)]);
        }
    }
}

/// Of several blocks that do not match their checksums, the first in destination order is reported, and none where no
/// row of them is wanted.
pub fn the_first_damaged_block_is_the_one_reported(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        if !runs(subject, kind.op()) || kind == Kind::DictPlanes {
            continue;
        }
        let chunks = [(); 2].map(|()| random.content(60, 24, kind).blocked(7, out));
        let (plans, payloads): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        let damaged = [(ChunkId(0), 5), (ChunkId(0), 2), (ChunkId(1), 0)];
        let check = |windows: &[Window]| match check_damaged(subject, &plans, &payloads, windows, &damaged) {
            Some(DecodeError::Source { chunk, error: SourceError::Block { block, .. } }) => {
                Some((chunk.0, block))
            }
            None => None,
            Some(other) => panic!("{other}"),
        };
        assert_eq!(check(&[(0, 0..60), (1, 0..60)]), Some((0, 2)));
        assert_eq!(check(&[(0, 21..60), (0, 0..21)]), Some((0, 5)));
        assert_eq!(check(&[(0, 0..14), (1, 6..8), (0, 14..60)]), Some((1, 0)));
        assert_eq!(check(&[(0, 42..60), (0, 21..35), (1, 7..60), (0, 0..14)]), None);
        let backwards: Vec<Window> = (0..60).rev().map(|row| (0, row..row + 1)).collect();
        assert_eq!(check(&backwards), Some((0, 5)));
        let mut shuffled = backwards;
        random.shuffle(&mut shuffled);
        assert!(check(&shuffled).is_some());
    }
}

/// One chunk or several whose bytes cannot be had.
pub fn a_source_that_fails_is_an_error_that_names_its_chunk(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        if !runs(subject, kind.op()) {
            continue;
        }
        let chunks = [700, 9, 1, 5000, 20].map(|rows| random.chunk(rows, 48, kind, out));
        let (plans, payloads): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        let windows = [(1, 0..9), (3, 0..5000), (0, 0..700), (2, 0..1), (4, 3..20)];
        let batch = batch_of(&plans, &windows, 48, out);
        for borrowing in [false, true] {
            for (failing, first) in [(vec![0], 0), (vec![1], 1), (vec![4, 2], 2), (vec![0, 2, 3], 3)] {
                let failing: Vec<ChunkId> = failing.into_iter().map(ChunkId).collect();
                let src = MemoryPayloads::new(&payloads).borrowing(borrowing).failing_at(&failing);
                let error = decode(subject, &batch, &src, 0x5a).unwrap_err();
                let DecodeError::Source { chunk, .. } = &error else { panic!("{error}") };
                assert_eq!(*chunk, ChunkId(first), "{error}");
                assert!(error.to_string().contains("told to fail"), "{error}");
            }
        }
    }
}

/// A destination of another size or dtype than the batch's.
pub fn a_wrong_destination_is_refused(subject: &dyn Subject) {
    let mut random = Random::new();
    let (plan, payload) = random.chunk(6, 5, Kind::WidenF16, DType::F32);
    let batch = batch_of(core::slice::from_ref(&plan), &[(0, 0..6)], 5, DType::F32);
    let src = MemoryPayloads::new(&[payload]);
    for (dtype, values) in [
        (DType::F32, 29),
        (DType::F32, 31),
        (DType::F32, 0),
        (DType::F16, 60),
        (DType::I32, 30),
        (DType::U32, 30),
    ] {
        let error = subject.decode(&batch, &src, Destination { dtype, values, poison: 0xa5 }).unwrap_err();
        let DecodeError::Buffer { expected_bytes, expected_dtype, .. } = error else { panic!("{error}") };
        assert_eq!((expected_bytes, expected_dtype), (120, DType::F32));
    }
    assert_eq!(src.served_len(), 0, "a wrong destination is found before anything is read");
}

/// The batch after a failed one decodes as if nothing had happened.
pub fn a_failure_leaves_the_backend_usable(subject: &dyn Subject) {
    let mut random = Random::new();
    for (kind, out) in kinds() {
        if !runs(subject, kind.op()) {
            continue;
        }
        let (plan, payload) = random.chunk(900, 64, kind, out);
        let (plans, payloads, windows) = ([plan], [payload], [(0, 0..900)]);
        let batch = batch_of(&plans, &windows, 64, out);
        let failing = MemoryPayloads::new(&payloads).failing_at(&[ChunkId(0)]);
        decode(subject, &batch, &failing, 0xa5).unwrap_err();
        check(subject, &plans, &payloads, &windows);
    }
}

/// Several threads decode with one backend at once.
pub fn threads_may_share_a_backend(subject: &dyn Subject) {
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || {
                let mut random = Random(seed);
                for (kind, out) in kinds() {
                    let rows = 100 + random.below(3000);
                    let (plan, payload) = random.chunk(rows, 24, kind, out);
                    check(subject, &[plan], &[payload], &[(0, 0..rows)]);
                }
            });
        }
    });
}

/// Whether the subject says that it runs this op.
fn runs(subject: &dyn Subject, op: &str) -> bool {
    !subject.omitted_ops().contains(&op)
}

/// Rows of chunks, by the chunk's position.
type Window = (usize, Range<u32>);

/// A batch of these windows, one after another in the destination, the jobs in no order.
fn batch_of<'p>(plans: &'p [DecodePlan], windows: &[Window], dim: u32, out: DType) -> Batch<'p> {
    let mut dst_row = 0;
    let mut jobs: Vec<Job<'p>> = Vec::new();
    for (chunk, rows) in windows {
        let id = ChunkId(u32::try_from(*chunk).unwrap());
        jobs.push(Job { plan: &plans[*chunk], chunk: id, rows: rows.clone(), dst_row });
        dst_row += u64::from(rows.end - rows.start);
    }
    // Jobs without rows must keep their place, so the order is only turned around where there are none.
    if windows.iter().all(|(_, rows)| !rows.is_empty()) {
        jobs.reverse();
    }
    Batch::new(jobs, dst_row, dim, out).expect("windows tile the destination")
}

/// Runs `batch` on the subject, into memory poisoned with `poison`.
fn decode(
    subject: &dyn Subject,
    batch: &Batch<'_>,
    src: &dyn Payloads,
    poison: u8,
) -> Result<Vec<u8>, DecodeError> {
    let values = usize::try_from(batch.rows()).unwrap() * batch.dim() as usize;
    subject.decode(batch, src, Destination { dtype: batch.out(), values, poison })
}

/// Runs `batch` on the judge.
fn judge(batch: &Batch<'_>, src: &dyn Payloads) -> Result<Vec<u8>, DecodeError> {
    let mut memory = vec![0u64; usize::try_from(batch.out_len().unwrap()).unwrap().div_ceil(8)];
    let len = usize::try_from(batch.out_len().unwrap()).unwrap();
    let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut memory)[..len];
    let mut dst = HostBuffer::from_bytes(batch.out(), bytes).expect("whole values, on a multiple of 8");
    ReferenceBackend::default().decode(batch, src, &mut dst)?;
    Ok(bytes.to_vec())
}

/// The subject and the judge agree about a batch of these windows, be it values or the error, which is
/// returned.
fn check_any(
    subject: &dyn Subject,
    plans: &[DecodePlan],
    payloads: &[Vec<u8>],
    windows: &[Window],
) -> Option<DecodeError> {
    check_damaged(subject, plans, payloads, windows, &[])
}

/// The same where these blocks do not match their checksums.
fn check_damaged(
    subject: &dyn Subject,
    plans: &[DecodePlan],
    payloads: &[Vec<u8>],
    windows: &[Window],
    damaged: &[(ChunkId, u32)],
) -> Option<DecodeError> {
    let (dim, out) = (plans[0].dim(), plans[0].out());
    let batch = batch_of(plans, windows, dim, out);
    let omitted = plans.iter().find(|plan| !runs(subject, plan.load().name()));
    for plan in plans {
        assert_eq!(subject.supports(plan).is_ok(), runs(subject, plan.load().name()), "supports({plan})");
    }
    let expected = judge(&batch, &MemoryPayloads::new(payloads).damaged_at(damaged));
    for (borrowing, poison) in [(true, 0xa5), (false, 0x5a)] {
        let src = MemoryPayloads::new(payloads).borrowing(borrowing).damaged_at(damaged);
        let what = || format!("{} as {out}, dim {dim}, windows {windows:?}", plans[0]);
        match (decode(subject, &batch, &src, poison), &expected) {
            (Err(DecodeError::Unsupported(_)), _) if omitted.is_some() => {}
            (_, _) if omitted.is_some() => panic!("{} should be refused: {}", omitted.unwrap(), what()),
            (Ok(found), Ok(expected)) => compare(&found, expected, out.size(), what),
            (Err(found), Err(expected)) => assert_eq!(found.to_string(), expected.to_string(), "{}", what()),
            (Ok(_), Err(expected)) => panic!("no error, expected \"{expected}\": {}", what()),
            (Err(found), Ok(_)) => panic!("{found}: {}", what()),
        }
    }
    expected.err().filter(|_| omitted.is_none())
}

/// The subject gives the values that the judge gives.
fn check(subject: &dyn Subject, plans: &[DecodePlan], payloads: &[Vec<u8>], windows: &[Window]) {
    if let Some(error) = check_any(subject, plans, payloads, windows) {
        panic!("a batch that can be decoded: {error}");
    }
}

/// The subject gives the error that the judge gives.
fn check_error(
    subject: &dyn Subject,
    plans: &[DecodePlan],
    payloads: &[Vec<u8>],
    windows: &[Window],
) -> DecodeError {
    check_any(subject, plans, payloads, windows).expect("a batch that cannot be decoded")
}

/// Fails with the first value that differs.
fn compare(found: &[u8], expected: &[u8], size: usize, what: impl Fn() -> String) {
    assert_eq!(found.len(), expected.len(), "bytes of {}", what());
    if found != expected {
        let pairs = found.chunks(size).zip(expected.chunks(size));
        let differing = || pairs.clone().enumerate().filter(|(_, (found, expected))| found != expected);
        let (index, (found, expected)) = differing().next().expect("they differ");
        panic!(
            "{} values differ, first value {index}: {found:02x?}, expected {expected:02x?}: {}",
            differing().count(),
            what()
        );
    }
}

#[cfg(test)]
mod tests {
    use cvc_codec::ReferenceBackend;

    use crate::Host;

    // The suite agrees with its own judge.
    crate::conformance!(Some(Host(ReferenceBackend::default())));

    #[test]
    fn every_case_is_in_the_macro() {
        let cases =
            |line: &'static str| line.strip_prefix("pub fn ")?.split_once("(subject").map(|(name, _)| name);
        let source = include_str!("suite.rs");
        let listed = source.split_once("@tests $subject;").unwrap().1.split_once(')').unwrap().0;
        let listed: Vec<&str> = listed.split_whitespace().collect();
        assert_eq!(source.lines().filter_map(cases).collect::<Vec<_>>(), listed);
    }
}
