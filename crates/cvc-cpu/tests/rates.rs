//! The rates that `src/ops` quotes: `cargo test -p cvc-cpu --release --test rates -- --ignored --nocapture`.
//!
//! Not a benchmark of record: one thread, best of seven, no rivals. It decides between versions of an op.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::hint::black_box;
use std::time::Instant;

use cvc_codec::ops::{self as reference, DictPlanes};
use cvc_cpu::{Level, ops};
use half::{bf16, f16};

/// Gigabytes per second of `value_count` f32.
fn rate(value_count: usize, mut work: impl FnMut()) -> f64 {
    let rounds = (20_000_000 / value_count).max(1);
    work();
    let best = (0..7)
        .map(|_| {
            let start = Instant::now();
            (0..rounds).for_each(|_| work());
            start.elapsed().as_secs_f64() / rounds as f64
        })
        .fold(f64::INFINITY, f64::min);
    value_count as f64 * 4.0 / best / 1e9
}

/// Something that fills one of these.
type Work<'w> = &'w mut dyn FnMut(&mut [f32], &mut [f16], &mut [bf16]);

#[test]
#[ignore = "it measures"]
fn rates_of_every_op_at_every_level() {
    for value_count in [65_536, 25_000_000] {
        println!("{value_count} values, GB/s of f32");
        // Twelve uniform numbers of a multiplicative generator make a normal one.
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 16_777_216.0
        };
        let values: Vec<f32> =
            (0..value_count).map(|_| ((0..12).map(|_| uniform()).sum::<f32>() - 6.0) / 27.7).collect();
        let halves: Vec<u8> =
            values.iter().flat_map(|value| f16::from_f32(*value).to_bits().to_le_bytes()).collect();
        let codes: Vec<u8> = halves.iter().step_by(2).copied().collect();
        let mut payload = Vec::new();
        reference::dict_planes::encode(values.iter().copied(), &mut payload);
        let planes = DictPlanes::parse(&payload, value_count as u64).unwrap();
        let table: [f32; 256] = core::array::from_fn(|code| code as f32);

        let mut out = vec![1f32; value_count];
        let mut out_f16 = vec![f16::ONE; value_count];
        let mut out_bf16 = vec![bf16::ONE; value_count];
        let mut show = |name: &str, level: &str, work: Work<'_>| {
            let rate = rate(value_count, || {
                work(&mut out, &mut out_f16, &mut out_bf16);
                black_box((&mut out, &mut out_f16, &mut out_bf16));
            });
            println!("  {name:12} {level:10} {rate:6.1}");
        };
        show("copy", "", &mut |out, _, _| out.copy_from_slice(&values));
        show("lut_u8", "", &mut |out, _, _| ops::lut_u8::lut_u8(&codes, &table, out));
        show("dict_planes", "reference", &mut |out, _, _| planes.decode(0, out).unwrap());
        show("dict_planes", "", &mut |out, _, _| ops::dict_planes::dict_planes(&planes, 0, out).unwrap());
        show("widen_f16", "reference", &mut |out, _, _| reference::widen_f16::widen_f16(&halves, out));
        show("narrow_f16", "reference", &mut |_, out, _| reference::narrow::narrow_f16(&values, out));
        show("narrow_bf16", "reference", &mut |_, _, out| reference::narrow::narrow_bf16(&values, out));
        for level in Level::available() {
            let name = level.name();
            show("widen_f16", name, &mut |out, _, _| ops::widen_f16::widen_f16(level, &halves, out));
            show("affine_u8", name, &mut |out, _, _| {
                ops::affine_u8::affine_u8(level, &codes, 0.01, -1.0, out)
            });
            show("narrow_f16", name, &mut |_, out, _| ops::narrow::narrow_f16(level, &values, out));
            show("narrow_bf16", name, &mut |_, _, out| ops::narrow::narrow_bf16(level, &values, out));
        }
    }
}
