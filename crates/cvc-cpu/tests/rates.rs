//! The rates that `src/ops` quotes: `cargo test -p cvc-cpu --release --test rates -- --ignored --nocapture`.
//!
//! Not a benchmark of record: one thread, best of seven, no rivals. It decides between versions of an op.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use cvc_codec::ops::{self as reference, DictPlanes};
use cvc_codec::stream::{Deflater, Packing};
use cvc_codec::{
    Affine, Backend, Batch, ChunkId, ChunkShape, DType, DecodePlan, HostBuffer, Inflater, Job, Load, Stream,
};
use cvc_conformance::native::Matrix;
use cvc_conformance::{MemoryPayloads, native_chunk};
use cvc_cpu::{CpuBackend, Level, ops};
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
        let brains: Vec<u8> =
            values.iter().flat_map(|value| bf16::from_f32(*value).to_bits().to_le_bytes()).collect();
        // One scale and minimum for each of 768 dims, over and over.
        let scales = &values[..768];
        let bytes: &[u8] = bytemuck::cast_slice(&values);
        let planes_of = |size: usize| -> Vec<&[u8]> { bytes.chunks_exact(bytes.len() / size).collect() };
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
            println!("  {name:13} {level:10} {rate:6.1}");
        };
        show("copy", "", &mut |out, _, _| out.copy_from_slice(&values));
        show("lut_u8", "", &mut |out, _, _| ops::lut_u8::lut_u8(&codes, &table, out));
        show("dict_planes", "reference", &mut |out, _, _| planes.decode(0, out).unwrap());
        show("dict_planes", "", &mut |out, _, _| ops::dict_planes::dict_planes(&planes, 0, out).unwrap());
        for size in [2, 4, 8] {
            show(&format!("join_planes {size}"), "reference", &mut |out, _, _| {
                reference::join_planes::join_planes(&planes_of(size), bytemuck::cast_slice_mut(out));
            });
        }
        show("widen_bf16", "reference", &mut |out, _, _| reference::widen_bf16::widen_bf16(&brains, out));
        show("widen_f16", "reference", &mut |out, _, _| reference::widen_f16::widen_f16(&halves, out));
        show("narrow_f16", "reference", &mut |_, out, _| reference::narrow::narrow_f16(&values, out));
        show("narrow_bf16", "reference", &mut |_, _, out| reference::narrow::narrow_bf16(&values, out));
        for level in Level::available() {
            let name = level.name();
            show("widen_f16", name, &mut |out, _, _| ops::widen_f16::widen_f16(level, &halves, out));
            show("widen_bf16", name, &mut |out, _, _| ops::widen_bf16::widen_bf16(level, &brains, out));
            show("affine_u8", name, &mut |out, _, _| {
                ops::affine_u8::affine_u8(level, &codes, 0.01, -1.0, out)
            });
            for dim in [384, 768] {
                show(&format!("  row {dim}"), name, &mut |out, _, _| {
                    for (codes, out) in codes.chunks(dim).zip(out.chunks_mut(dim)) {
                        ops::affine_u8::affine_u8(level, codes, 0.01, -1.0, out);
                    }
                });
                show(&format!("  dims {dim}"), name, &mut |out, _, _| {
                    for (codes, out) in codes.chunks(dim).zip(out.chunks_mut(dim)) {
                        let scales = &scales[..codes.len()];
                        ops::affine_u8::affine_u8_dims(level, codes, scales, scales, out);
                    }
                });
            }
            for size in [2, 4, 8] {
                show(&format!("join_planes {size}"), name, &mut |out, _, _| {
                    ops::join_planes::join_planes(level, &planes_of(size), bytemuck::cast_slice_mut(out));
                });
            }
            show("narrow_f16", name, &mut |_, out, _| ops::narrow::narrow_f16(level, &values, out));
            show("narrow_bf16", name, &mut |_, _, out| ops::narrow::narrow_bf16(level, &values, out));
        }
    }
}

/// Seconds that `work` takes at best.
fn best(mut work: impl FnMut()) -> f64 {
    work();
    let seconds = (0..15).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// Whole batches from payloads in memory that need no check, into memory that was touched before.
#[test]
#[ignore = "it measures"]
fn rates_of_whole_batches() {
    let backend = CpuBackend::new();
    println!("{}", backend.device().name);
    let (rows, block_rows) = (32_768u32, 8);
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    let normals: Vec<f32> = (0..1 << 20).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
    for dim in [384, 768u32] {
        let values: Vec<f32> = normals.iter().copied().cycle().take(rows as usize * dim as usize).collect();
        let shape = ChunkShape { rows, dim };
        let codes = (dim, values.iter().map(|value| value.to_bits().to_le_bytes()[1]).collect::<Vec<u8>>());
        let halves = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        let per_row = (4, values[..rows as usize].iter().flat_map(|value| value.to_le_bytes()).collect());
        let per_dim: Arc<[f32]> = values[..dim as usize].into();
        let plane =
            |p: usize| -> Vec<u8> { values.iter().map(|value| value.to_bits().to_le_bytes()[p]).collect() };
        let planes = [plane(0), plane(1), plane(2)];
        let mut noise = Vec::new();
        for row in 0..rows as usize {
            let span = row * dim as usize..(row + 1) * dim as usize;
            planes.iter().for_each(|plane| noise.extend(&plane[span.clone()]));
        }
        let kinds: [(&str, Load, Vec<Matrix>, Vec<Matrix>); 5] = [
            ("widen_f16", Load::WidenF16, vec![(2 * dim, halves)], vec![]),
            (
                "affine_u8 chunk",
                Load::AffineU8(Affine::Chunk { scale: 0.1, min: -1.0 }),
                vec![codes.clone()],
                vec![],
            ),
            (
                "affine_u8 dim",
                Load::AffineU8(Affine::Dim { scale: per_dim.clone(), min: per_dim }),
                vec![codes.clone()],
                vec![],
            ),
            ("affine_u8 row", Load::AffineU8(Affine::Row), vec![codes, per_row.clone(), per_row], vec![]),
            (
                "join_planes",
                Load::JoinPlanes { dtype: DType::F32, coded: 0b1000 },
                vec![(3 * dim, noise)],
                vec![(dim, plane(3))],
            ),
        ];
        for (name, load, fields, lanes) in kinds {
            let stream = if lanes.is_empty() { Stream::Stored } else { Stream::Zstd };
            let (parts, bytes) = native_chunk(rows, block_rows, &fields, &lanes, Packing::ZstdLiterals);
            let plan = DecodePlan::new(shape, load, stream, DType::F32, &parts).unwrap();
            let src = MemoryPayloads::new(&[bytes]).borrowing(true);
            let mut dst = vec![1f32; values.len()];
            let all = vec![Job { plan: &plan, chunk: ChunkId(0), rows: 0..rows, dst_row: 0 }];
            let batch = Batch::new(all, rows.into(), dim, DType::F32).unwrap();
            let seconds = best(|| backend.decode(&batch, &src, &mut HostBuffer::new(&mut dst)).unwrap());
            let (rate, block) = (values.len() as f64 * 4e-9 / seconds, seconds * 1e6 * 8.0 / f64::from(rows));
            // By a step that shares no factor with their number.
            let single = |row: u32| row * 12_345 % rows;
            let jobs = (0..1000).map(|dst_row| {
                let row = single(dst_row);
                Job { plan: &plan, chunk: ChunkId(0), rows: row..row + 1, dst_row: dst_row.into() }
            });
            let batch = Batch::new(jobs.collect(), 1000, dim, DType::F32).unwrap();
            let dst = &mut dst[..1000 * dim as usize];
            let scattered = best(|| backend.decode(&batch, &src, &mut HostBuffer::new(dst)).unwrap());
            println!(
                "  {dim} {name:16} {rate:6.1} GB/s of f32, {block:5.2} us a block of {block_rows}; a single row \
                 {:6.0} ns",
                scattered * 1e6
            );
            for (width, bytes) in &lanes {
                let block_len = (width * block_rows) as usize;
                let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
                let streams: Vec<Vec<u8>> = bytes
                    .chunks(block_len)
                    .map(|block| {
                        let mut stream = Vec::new();
                        deflater.deflate(Packing::ZstdLiterals, block, &mut stream);
                        stream
                    })
                    .collect();
                let mut out = vec![0; block_len];
                let seconds = best(|| {
                    for stream in &streams {
                        inflater.inflate(Stream::Zstd, 0, stream, &mut out).unwrap();
                    }
                });
                println!("    of which inflating: {:5.2} us a block", seconds * 1e6 / streams.len() as f64);
            }
        }
    }
}
