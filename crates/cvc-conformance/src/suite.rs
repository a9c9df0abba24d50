//! The cases. Each is a promise that every backend keeps; the judge is [`ReferenceBackend`], bit for bit.
//!
//! Every batch is decoded twice by the backend under test, once from payloads that can be borrowed and once
//! from payloads that must be read, into memory poisoned with different bytes. So equal results mean that
//! every byte was written.

use std::ops::Range;
use std::sync::Arc;

use cvc_codec::ops::dict_planes;
use cvc_codec::{
    Backend, Batch, ChunkId, ChunkShape, DType, DecodeError, DecodePlan, HostBuffer, Job, Load, Payloads,
    ReferenceBackend,
};

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
            every_code_is_two_roundings
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
            ten_thousand_tiny_chunks
            nothing_is_decoded_from_nothing
            a_damaged_payload_is_an_error_that_names_its_chunk
            the_first_bad_value_is_the_one_reported
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
    halves(subject, DType::F32);
}

/// The same patterns read as f16, which is a copy, and as bf16.
pub fn every_half_narrows_to_its_bits(subject: &dyn Subject) {
    halves(subject, DType::F16);
    halves(subject, DType::Bf16);
}

fn halves(subject: &dyn Subject, out: DType) {
    let mut patterns: Vec<u16> = (0..=u16::MAX).collect();
    let nans = patterns.clone().into_iter().filter(|bits| bits & 0x7fff > 0x7c00);
    // 33 is odd and larger than a vector: the NaNs pass through every lane.
    patterns.extend(nans.flat_map(|nan| [nan].into_iter().chain((0x3c00..).take(32))));
    patterns.extend((0..=u16::MAX).map(|bits| bits.reverse_bits()));
    let payload: Vec<u8> = patterns.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    for dim in [1, 7, 256] {
        let rows = u32::try_from(patterns.len()).unwrap() / dim;
        let payload = payload[..2 * rows as usize * dim as usize].to_vec();
        let plan = plan(rows, dim, Load::WidenF16, out, &payload);
        check(subject, &[plan], &[payload], &[(0, 0..rows), (0, 3..rows - 1)]);
    }
}

/// All codes, by parameters where a fused multiply-add, a flushed subnormal or a lost sign would show.
pub fn every_code_is_two_roundings(subject: &dyn Subject) {
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
    codes(subject, &parameters, "affine_u8");
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
            let plan = plan(rows, dim, Load::AffineU8 { scale, min }, out, &payload);
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
            let payload = planes(&values);
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
    let payload = planes(&values);
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
    let mut payload = planes(&values);
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
        for (load, out) in kinds() {
            let chunks: Vec<_> = (1..=40).map(|rows| random.chunk(rows, dim, &load, out)).collect();
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
        for (load, out) in kinds() {
            let (plan, payload) = random.chunk(rows, dim, &load, out);
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
    for (load, out) in kinds() {
        let (plan, payload) = random.chunk(3, 300_001, &load, out);
        check(subject, &[plan], &[payload], &[(0, 0..3), (0, 1..2)]);
    }
}

/// Windows of any start and length, several on one chunk.
pub fn windows_start_anywhere(subject: &dyn Subject) {
    let mut random = Random::new();
    for dim in [1, 3, 7, 16, 33] {
        for (load, out) in kinds() {
            let (plan, payload) = random.chunk(300, dim, &load, out);
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
            let kinds = kinds().into_iter().filter(|(_, kind_out)| *kind_out == out);
            let loads: Vec<Load> = kinds.map(|(load, _)| load).filter(|load| runs(subject, load)).collect();
            let chunks: Vec<_> = (0..60)
                .map(|index| {
                    let rows = random.below(50);
                    random.chunk(rows, dim, &loads[index % loads.len()], out)
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

/// A batch of very many chunks of very few rows.
pub fn ten_thousand_tiny_chunks(subject: &dyn Subject) {
    let mut random = Random::new();
    for (load, out) in kinds() {
        let chunks: Vec<_> = (0..10_000).map(|index| random.chunk(index % 4, 3, &load, out)).collect();
        let (plans, payloads): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        let windows: Vec<_> = (0..10_000).map(|index| (index, 0..plans[index].shape().rows)).collect();
        check(subject, &plans, &payloads, &windows);
    }
}

/// No jobs, jobs without rows, chunks without rows, rows without values: nothing is read and nothing fails.
pub fn nothing_is_decoded_from_nothing(subject: &dyn Subject) {
    let mut random = Random::new();
    for (load, out) in kinds() {
        let chunks = [(0, 4), (6, 0), (6, 4)].map(|(rows, dim)| random.chunk(rows, dim, &load, out));
        let [empty, flat, full] = chunks;
        let all = [ChunkId(0)];
        for ((plan, payload), windows) in [
            (&full, vec![]),
            (&full, vec![(0, 0..0), (0, 6..6), (0, 3..3)]),
            (&empty, vec![(0, 0..0)]),
            (&flat, vec![(0, 0..6), (0, 2..3)]),
        ] {
            if !runs(subject, plan.load()) {
                continue;
            }
            let batch = batch_of(core::slice::from_ref(plan), &windows, plan.shape().dim, out);
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
    if !runs(subject, &Load::DictPlanes) {
        return;
    }
    let (rows, dim) = (20, 10);
    let values: Vec<f32> = (0..rows * dim).map(|_| f32::from_bits(random.below(5) * 0x0101_0101)).collect();
    let good = planes(&values);
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
    let planned = |len: &usize| DecodePlan::new(shape, Load::DictPlanes, DType::F32, *len as u64).is_ok();
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
    if !runs(subject, &Load::DictPlanes) {
        return;
    }
    let (rows, dim) = (5000, 64);
    let value_count = rows * dim;
    // Three entries in two bits in each plane: code 3 is bad. Whole bytes of codes hold four values.
    let values: Vec<f32> = (0..value_count).map(|_| f32::from_bits(random.below(3) * 0x0101_0101)).collect();
    let good = planes(&values);
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

/// One chunk or several whose bytes cannot be had.
pub fn a_source_that_fails_is_an_error_that_names_its_chunk(subject: &dyn Subject) {
    let mut random = Random::new();
    for (load, out) in kinds() {
        if !runs(subject, &load) {
            continue;
        }
        let chunks = [700, 9, 1, 5000, 20].map(|rows| random.chunk(rows, 48, &load, out));
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
    let (plan, payload) = random.chunk(6, 5, &Load::WidenF16, DType::F32);
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
    for (load, out) in kinds() {
        if !runs(subject, &load) {
            continue;
        }
        let (plan, payload) = random.chunk(900, 64, &load, out);
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
                for (load, out) in kinds() {
                    let rows = 100 + random.below(3000);
                    let (plan, payload) = random.chunk(rows, 24, &load, out);
                    check(subject, &[plan], &[payload], &[(0, 0..rows)]);
                }
            });
        }
    });
}

/// The plan of a chunk with this payload.
fn plan(rows: u32, dim: u32, load: Load, out: DType, payload: &[u8]) -> DecodePlan {
    DecodePlan::new(ChunkShape { rows, dim }, load, out, payload.len() as u64)
        .expect("a plan that makes sense")
}

/// The `dict_planes` payload of these values.
fn planes(values: &[f32]) -> Vec<u8> {
    let mut payload = Vec::new();
    dict_planes::encode(values.iter().copied(), &mut payload);
    payload
}

/// Every op, with every dtype it can be read as.
fn kinds() -> Vec<(Load, DType)> {
    let table: [f32; 256] = core::array::from_fn(|code| (code as f32).sqrt() - 8.0);
    let loads = [
        Load::Copy(DType::F32),
        Load::WidenF16,
        Load::AffineU8 { scale: 0.013_671_9, min: -1.734_2 },
        Load::LutU8(Arc::new(table)),
        Load::DictPlanes,
    ];
    let mut kinds: Vec<(Load, DType)> = loads
        .into_iter()
        .flat_map(|load| [DType::F32, DType::F16, DType::Bf16].map(|out| (load.clone(), out)))
        .collect();
    kinds.extend([DType::U8, DType::F16, DType::I64].map(|dtype| (Load::Copy(dtype), dtype)));
    kinds
}

/// Whether the subject says that it runs this op.
fn runs(subject: &dyn Subject, load: &Load) -> bool {
    !subject.omitted_ops().contains(&load.name())
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
    let (dim, out) = (plans[0].shape().dim, plans[0].out());
    let batch = batch_of(plans, windows, dim, out);
    let omitted = plans.iter().find(|plan| !runs(subject, plan.load()));
    for plan in plans {
        assert_eq!(subject.supports(plan).is_ok(), runs(subject, plan.load()), "supports({plan})");
    }
    let expected = judge(&batch, &MemoryPayloads::new(payloads));
    for (borrowing, poison) in [(true, 0xa5), (false, 0x5a)] {
        let src = MemoryPayloads::new(payloads).borrowing(borrowing);
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

/// Numbers that are the same in every run: xorshift, by Marsaglia.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    fn u32(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).expect("32 bits")
    }

    fn u8(&mut self) -> u8 {
        self.u32().to_le_bytes()[3]
    }

    /// A number below `end`, which is at least 1.
    fn below(&mut self, end: u32) -> u32 {
        self.u32() % end
    }

    /// A byte below `end`, which is 1 to 256.
    fn byte_below(&mut self, end: u32) -> u8 {
        u8::try_from(self.below(end)).expect("below 256")
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.u8()).collect()
    }

    /// Nearly normally distributed: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.u32() >> 8) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }

    /// A chunk for this op: numbers as they occur, and a few of any bits.
    fn chunk(&mut self, rows: u32, dim: u32, load: &Load, out: DType) -> (DecodePlan, Vec<u8>) {
        let count = rows as usize * dim as usize;
        let payload: Vec<u8> = match load {
            Load::Copy(DType::F32) => (0..count).flat_map(|_| self.value().to_le_bytes()).collect(),
            Load::Copy(dtype) => self.bytes(count * dtype.size()),
            Load::WidenF16 => (0..count)
                .flat_map(|_| {
                    let any = self.u32().to_le_bytes();
                    let number = half::f16::from_f32(self.normal()).to_bits().to_le_bytes();
                    if any[3] == 0 { [any[0], any[1]] } else { number }
                })
                .collect(),
            Load::AffineU8 { .. } | Load::LutU8(_) => self.bytes(count),
            Load::DictPlanes => planes(&(0..count).map(|_| self.value()).collect::<Vec<_>>()),
        };
        (plan(rows, dim, load.clone(), out, &payload), payload)
    }

    /// A number, or once in a while any bits.
    fn value(&mut self) -> f32 {
        let any = self.u32();
        if any & 0xff == 0 { f32::from_bits(any.rotate_left(13)) } else { self.normal() }
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
