//! The ops alone, at every level: `cargo bench -p cvc-cpu --bench kernels [FILTER]`.
//!
//! 65,536 values over and over, which stay in the L2 cache, and 25 million, which do not and are written past the caches too.
//! Whole files against rivals are `cargo xtask bench`; what decides between versions of an op is `tests/rates.rs`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cvc_codec::Loops as _;
use cvc_cpu::ops::stores::{Ordinary, fenced};
use cvc_cpu::{CpuLoops, Level, ops};
use half::{bf16, f16};

/// Values of a row, where rows matter.
const DIM: usize = 768;

/// Small enough for the L2 cache, and far beyond all caches.
const SIZES: [usize; 2] = [64 * 1024 / DIM * DIM, 25_000_000 / DIM * DIM];

fn decoding(criterion: &mut Criterion) {
    for len in SIZES {
        let values: Vec<f32> = (0..len).map(|index| (index % 2003) as f32 * 1e-3 - 1.0).collect();
        let halves: Vec<u8> =
            values.iter().flat_map(|value| f16::from_f32(*value).to_bits().to_le_bytes()).collect();
        let brains: Vec<u8> =
            values.iter().flat_map(|value| bf16::from_f32(*value).to_bits().to_le_bytes()).collect();
        let codes: Vec<u8> = halves.iter().step_by(2).copied().collect();
        let parameters: &[u8] = bytemuck::cast_slice(&values[..len / DIM]);
        let (scales, mins) = (&values[..DIM], &values[DIM..2 * DIM]);
        let planes: Vec<&[u8]> = halves.chunks_exact(halves.len() / 2).chain([&codes[..], &codes]).collect();
        let mut out = vec![1f32; len];

        let mut group = criterion.benchmark_group(format!("decode {len} values"));
        group.throughput(Throughput::Bytes(len as u64 * 4)).sample_size(20);
        group.bench_function("copy f32/memcpy", |bencher| {
            bencher.iter(|| out.copy_from_slice(black_box(&values)));
        });
        // One name for each op, level and way to store.
        macro_rules! op {
            ($name:literal, |$level:ident, $stores:ident, $out:ident| $work:expr) => {
                for $level in Level::available() {
                    group.bench_function(BenchmarkId::new($name, $level), |bencher| {
                        let ($stores, $out) = (Ordinary, &mut out[..]);
                        bencher.iter(|| $work);
                    });
                    if len > SIZES[0] && $level != Level::Portable {
                        let name = format!("{} past the caches", $name);
                        group.bench_function(BenchmarkId::new(name, $level), |bencher| {
                            bencher.iter(|| {
                                let $out = &mut out[..];
                                fenced($level, |$stores| $work)
                            });
                        });
                    }
                }
            };
        }
        op!("widen_f16", |level, stores, out| ops::widen_f16::widen_f16(level, stores, &halves, &mut *out));
        op!("widen_bf16", |level, stores, out| ops::widen_bf16::widen_bf16(
            level, stores, &brains, &mut *out
        ));
        op!("affine_u8 chunk", |level, stores, out| {
            ops::affine_u8::affine_u8(level, stores, &codes, 0.01, -1.0, &mut *out)
        });
        op!("affine_u8 row", |level, stores, out| {
            let parameters = (parameters, parameters);
            ops::affine_u8::affine_u8_rows(level, stores, 0, (&codes, DIM), 0..DIM, parameters, &mut *out)
                .expect("finite parameters")
        });
        op!("affine_u8 dim", |level, stores, out| {
            ops::affine_u8::affine_u8_dims(level, stores, (&codes, DIM), 0..DIM, (scales, mins), &mut *out)
        });
        op!("join_planes", |level, stores, out| {
            ops::join_planes::join_planes(level, stores, &planes, bytemuck::cast_slice_mut(&mut *out))
        });
    }
}

fn encoding(criterion: &mut Criterion) {
    let len = SIZES[0];
    let values: Vec<f32> = (0..len).map(|index| (index % 2003) as f32 * 1e-3 - 1.0).collect();
    let decoded: Vec<f32> = values.iter().map(|value| value + 1e-4).collect();
    let (mut halves, mut brains, mut codes) = (vec![f16::ZERO; len], vec![bf16::ZERO; len], vec![0; len]);
    let mut group = criterion.benchmark_group(format!("encode {len} values"));
    group.throughput(Throughput::Bytes(len as u64 * 4));
    for level in Level::available() {
        let loops = CpuLoops::with_level(level);
        let mut bench = |name: &str, work: &mut dyn FnMut()| {
            group.bench_function(BenchmarkId::new(name, level), |bencher| bencher.iter(&mut *work));
        };
        bench("narrow_f16", &mut || loops.narrow_f16(black_box(&values), &mut halves));
        bench("narrow_bf16", &mut || loops.narrow_bf16(black_box(&values), &mut brains));
        bench("finite_range", &mut || {
            black_box(loops.finite_range(black_box(&values)));
        });
        bench("codes", &mut || loops.codes(black_box(&values), -1.0, 0.01, &mut codes));
        bench("loss", &mut || {
            let (values, decoded) = (black_box(&values).split_at(len / 2), decoded.split_at(len / 2));
            let (values, decoded) = ([values.0, values.1], [decoded.0, decoded.1]);
            black_box(loops.loss(values.map(|row| row.as_chunks().0), decoded.map(|row| row.as_chunks().0)));
        });
    }
}

criterion_group!(kernels, decoding, encoding);
criterion_main!(kernels);
