//! The rates that `src/ops` quotes: `cargo test -p cvc-cpu --release --test rates -- --ignored --nocapture`.
//!
//! Not a benchmark of record: no rivals. It decides between versions of an op, and of how results are written. Times are
//! those that the threads had on a core (on Linux), so that what else runs takes less part in them.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use cvc_codec::ops::{self as reference, DictPlanes};
use cvc_codec::stream::{Deflater, Packing};
use cvc_codec::{
    Affine, Backend, Batch, ChunkId, ChunkShape, DType, DecodePlan, HostBuffer, Inflater, Job, Load, Stream,
    checksum,
};
use cvc_conformance::native::Matrix;
use cvc_conformance::{MemoryPayloads, native_chunk};
use cvc_cpu::ops::stores::{Ordinary, fenced};
use cvc_cpu::{CpuBackend, Level, Stores, ops};
use half::{bf16, f16};
#[cfg(feature = "rayon")]
use rayon::prelude::*;

/// Does some work that needs a way to store, given which.
macro_rules! storing {
    ($level:ident, $stores:ident, $work:expr) => {
        match $stores {
            Stores::Ordinary => {
                let $stores = Ordinary;
                $work
            }
            Stores::Streaming => fenced($level, |$stores| $work),
        }
    };
}

/// Seconds that this thread has run.
fn thread_seconds() -> f64 {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::sync::LazyLock;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_secs_f64()
    }
}

/// Gigabytes per second of `value_count` f32.
fn rate(value_count: usize, mut work: impl FnMut()) -> f64 {
    let rounds = (20_000_000 / value_count).max(1);
    work();
    let best = (0..7)
        .map(|_| {
            let start = thread_seconds();
            (0..rounds).for_each(|_| work());
            (thread_seconds() - start) / rounds as f64
        })
        .fold(f64::INFINITY, f64::min);
    value_count as f64 * 4.0 / best / 1e9
}

#[test]
#[ignore = "it measures"]
fn rates_of_checksums() {
    // A run of the pipeline, from the L2 cache. What the bytes are makes no difference.
    let run = vec![0x5a; 128 << 10];
    println!("GB/s of bytes: one block after another as `crc-fast` does it; the same here; side by side");
    for len in [776, 4096, 4608, 6144, 20_480] {
        let count = run.len() / len;
        let blocks = &run[..count * len];
        let mut crcs = vec![0; count];
        let plain = rate(blocks.len() / 4, || {
            crcs.fill(0);
            checksum::append_each(&mut crcs, black_box(blocks));
        });
        let alone = rate(blocks.len() / 4, || {
            for (crc, block) in crcs.iter_mut().zip(black_box(blocks).chunks_exact(len)) {
                *crc = 0;
                ops::crc32c::append_each(std::slice::from_mut(crc), block);
            }
        });
        let each = rate(blocks.len() / 4, || {
            crcs.fill(0);
            ops::crc32c::append_each(&mut crcs, black_box(blocks));
        });
        println!("{count:4} blocks of {len:6} bytes {plain:6.1} {alone:6.1} {each:6.1}");
    }
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
        show("memcpy", "", &mut |out, _, _| out.copy_from_slice(&values));
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
        for (level, stores) in
            Level::available().into_iter().flat_map(|level| STORES.map(|stores| (level, stores)))
        {
            let name = match stores {
                Stores::Ordinary => level.name(),
                // It is for results larger than the caches, and the portable level has none.
                Stores::Streaming if value_count < 1 << 20 || level == Level::Portable => continue,
                Stores::Streaming => &format!("{level} nt"),
            };
            show("copy", name, &mut |out, _, _| copy(level, stores, bytes, out));
            show("widen_f16", name, &mut |out, _, _| {
                storing!(level, stores, ops::widen_f16::widen_f16(level, stores, &halves, out));
            });
            show("widen_bf16", name, &mut |out, _, _| {
                storing!(level, stores, ops::widen_bf16::widen_bf16(level, stores, &brains, out));
            });
            show("affine_u8", name, &mut |out, _, _| {
                storing!(level, stores, ops::affine_u8::affine_u8(level, stores, &codes, 0.01, -1.0, out));
            });
            for dim in [384, 768] {
                // Whole rows only.
                let len = value_count / dim * dim;
                let codes = &codes[..len];
                let of_rows = bytemuck::cast_slice(&values[..len / dim]);
                show(&format!("  row {dim}"), name, &mut |out, _, _| {
                    let (codes, of_rows, out) = ((codes, dim), (of_rows, of_rows), &mut out[..len]);
                    let done = storing!(
                        level,
                        stores,
                        ops::affine_u8::affine_u8_rows(level, stores, 0, codes, 0..dim, of_rows, out)
                    );
                    done.unwrap();
                });
                show(&format!("  dims {dim}"), name, &mut |out, _, _| {
                    let (codes, of_dims, out) = ((codes, dim), &scales[..dim], &mut out[..len]);
                    let of_dims = (of_dims, of_dims);
                    storing!(
                        level,
                        stores,
                        ops::affine_u8::affine_u8_dims(level, stores, codes, 0..dim, of_dims, out)
                    );
                });
            }
            for size in [2, 4, 8] {
                show(&format!("join_planes {size}"), name, &mut |out, _, _| {
                    let out = bytemuck::cast_slice_mut(out);
                    storing!(
                        level,
                        stores,
                        ops::join_planes::join_planes(level, stores, &planes_of(size), out)
                    );
                });
            }
            show("narrow_f16", name, &mut |_, out, _| {
                storing!(level, stores, ops::narrow::narrow_f16(level, stores, &values, out));
            });
            show("narrow_bf16", name, &mut |_, _, out| {
                storing!(level, stores, ops::narrow::narrow_bf16(level, stores, &values, out));
            });
        }
    }
}

const STORES: [Stores; 2] = [Stores::Ordinary, Stores::Streaming];

/// The op `copy`, of f32.
fn copy(level: Level, stores: Stores, src: &[u8], dst: &mut [f32]) {
    let dst = bytemuck::cast_slice_mut(dst);
    storing!(level, stores, ops::copy::copy(level, stores, src, 4, dst));
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

/// The limit that memory sets: whole batches of 200,000 x 384 into memory that was touched before, against the fastest
/// copy of as many f32 by the same number of threads.
#[cfg(feature = "rayon")]
#[test]
#[ignore = "it measures"]
fn rates_against_copying() {
    const DIM: u32 = 384;
    const ROWS: u32 = 200_000;
    let chunks = large_chunks(ROWS, DIM);
    let value_count = ROWS as usize * DIM as usize;
    let values: Vec<f32> = (0..value_count).map(|index| index as f32).collect();
    let mut out = vec![1f32; value_count];
    let level = Level::best();
    for pool in pools() {
        let threads = pool.current_num_threads();
        let share = value_count.div_ceil(threads);
        let copy_all = |stores: Option<Stores>, out: &mut [f32]| {
            // The whole share at once, so that `memcpy` can see how much it is; blocks as the ops are called with.
            let len = if stores.is_some() { 1 << 15 } else { share };
            out.par_chunks_mut(len).zip(values.par_chunks(len)).for_each(|(out, values)| match stores {
                Some(stores) => copy(level, stores, bytemuck::cast_slice(values), out),
                None => out.copy_from_slice(values),
            });
        };
        let decode = |chunk: &LargeChunk, stores: Stores, out: &mut [f32]| {
            let job = Job { plan: &chunk.plan, chunk: ChunkId(0), rows: 0..ROWS, dst_row: 0 };
            let dtype = chunk.plan.out();
            let batch = Batch::new(vec![job], ROWS.into(), DIM, dtype).unwrap();
            let out = &mut bytemuck::cast_slice_mut(out)[..value_count * dtype.size()];
            let mut out = HostBuffer::from_bytes(dtype, out).unwrap();
            CpuBackend::with_stores(level, stores).decode(&batch, &chunk.src, &mut out).unwrap();
        };
        let mut works: Vec<(String, usize, Box<Fill<'_>>)> = vec![
            ("memcpy".into(), 4, Box::new(|out| copy_all(None, out))),
            ("streaming copy".into(), 4, Box::new(|out| copy_all(Some(Stores::Streaming), out))),
        ];
        for chunk in &chunks {
            for stores in STORES {
                let name = format!("{} {stores:?}", chunk.name);
                works.push((name, chunk.plan.out().size(), Box::new(move |out| decode(chunk, stores, out))));
            }
        }
        println!("{level}, {threads} threads, 200,000 x 384");
        let of_all: Vec<_> = works.iter().map(|(_, _, work)| &**work).collect();
        let seconds = interleaved(&pool, 20, &of_all, &mut out);
        let rates = |quantile: fn(&[f64]) -> f64| -> Vec<f64> {
            let of_work = |(work, seconds): (&(_, usize, _), &Vec<f64>)| {
                (value_count * work.1) as f64 * 1e-9 / quantile(seconds)
            };
            works.iter().zip(&seconds).map(of_work).collect()
        };
        let (best, median) = (rates(|seconds| seconds[0]), rates(|seconds| seconds[seconds.len() / 2]));
        let (best_copy, median_copy) = (best[0].max(best[1]), median[0].max(median[1]));
        for ((name, ..), (best, median)) in works.iter().zip(best.iter().zip(&median)) {
            println!(
                "  {name:28} best {best:6.1} GB/s, {:4.2} of a copy; median {median:6.1}, {:4.2}",
                best / best_copy,
                median / median_copy
            );
        }
    }
}

/// From which size on streaming wins: windows of a large array, one after another, into the same buffer.
#[cfg(feature = "rayon")]
#[test]
#[ignore = "it measures"]
fn rates_by_size() {
    const DIM: u32 = 384;
    const ROWS: u32 = 200_000;
    let chunks = large_chunks(ROWS, DIM);
    let level = Level::best();
    for pool in pools() {
        for chunk in chunks.iter().filter(|chunk| ["widen_f16", "affine_u8 chunk"].contains(&chunk.name)) {
            println!(
                "{}, {level}, {} threads: MiB, GB/s ordinary, streaming",
                chunk.name,
                pool.current_num_threads()
            );
            for mebibytes in [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256] {
                let rows = (mebibytes << 20) / (DIM * 4);
                let mut out = vec![1f32; (rows * DIM) as usize];
                let backends = STORES.map(|stores| CpuBackend::with_stores(level, stores));
                let decode = |backend: &CpuBackend, out: &mut [f32]| {
                    for first in (0..=ROWS - rows).step_by(rows as usize) {
                        let job = Job {
                            plan: &chunk.plan,
                            chunk: ChunkId(0),
                            rows: first..first + rows,
                            dst_row: 0,
                        };
                        let batch = Batch::new(vec![job], rows.into(), DIM, DType::F32).unwrap();
                        backend.decode(&batch, &chunk.src, &mut HostBuffer::new(out)).unwrap();
                    }
                };
                let works: [&Fill<'_>; 2] =
                    [&|out| decode(&backends[0], out), &|out| decode(&backends[1], out)];
                let seconds = interleaved(&pool, 9, &works, &mut out);
                let len = f64::from(ROWS / rows * rows) * f64::from(DIM) * 4e-9;
                println!("  {mebibytes:4} {:6.1} {:6.1}", len / seconds[0][4], len / seconds[1][4]);
            }
        }
    }
}

/// Work that fills memory.
#[cfg(feature = "rayon")]
type Fill<'w> = dyn Fn(&mut [f32]) + Sync + 'w;

/// All threads, and one.
#[cfg(feature = "rayon")]
fn pools() -> Vec<rayon::ThreadPool> {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    vec![pool(0), pool(1)]
}

/// Seconds that each of these takes, sorted, of rounds in which they take turns.
#[cfg(feature = "rayon")]
fn interleaved(
    pool: &rayon::ThreadPool,
    rounds: usize,
    works: &[&Fill<'_>],
    out: &mut [f32],
) -> Vec<Vec<f64>> {
    let mut seconds = vec![Vec::new(); works.len()];
    // The first round only warms up.
    for round in 0..=rounds {
        for (work, seconds) in works.iter().zip(&mut seconds) {
            let before = pool.broadcast(|_| thread_seconds());
            pool.install(|| work(out));
            let after = pool.broadcast(|_| thread_seconds());
            let sum: f64 = after.iter().zip(before).map(|(after, before)| after - before).sum();
            if round > 0 {
                seconds.push(sum / pool.current_num_threads() as f64);
            }
        }
    }
    seconds.iter_mut().for_each(|seconds| seconds.sort_by(f64::total_cmp));
    seconds
}

#[cfg(feature = "rayon")]
struct LargeChunk {
    name: &'static str,
    plan: DecodePlan,
    src: MemoryPayloads,
}

/// A chunk for every op that streams, in blocks of eight rows.
#[cfg(feature = "rayon")]
fn large_chunks(rows: u32, dim: u32) -> Vec<LargeChunk> {
    let len = rows as usize * dim as usize;
    let bytes = |per_value: usize| -> Vec<u8> { (0..0x7b).cycle().take(len * per_value).collect() };
    let floats = |count: u32| -> Vec<f32> { (0..count).map(|index| index as f32).collect() };
    let per_row = (4, bytemuck::cast_slice(&floats(rows)).to_vec());
    let per_dim: Arc<[f32]> = floats(dim).into();
    let affine = Load::AffineU8(Affine::Chunk { scale: 0.1, min: -1.0 });
    let kinds: [(&str, Load, Vec<Matrix>, DType); 8] = [
        ("copy", Load::Copy(DType::F32), vec![(4 * dim, bytes(4))], DType::F32),
        ("widen_f16", Load::WidenF16, vec![(2 * dim, bytes(2))], DType::F32),
        ("widen_bf16", Load::WidenBf16, vec![(2 * dim, bytes(2))], DType::F32),
        ("affine_u8 chunk", affine.clone(), vec![(dim, bytes(1))], DType::F32),
        ("affine_u8 to f16", affine, vec![(dim, bytes(1))], DType::F16),
        (
            "affine_u8 dim",
            Load::AffineU8(Affine::Dim { scale: per_dim.clone(), min: per_dim }),
            vec![(dim, bytes(1))],
            DType::F32,
        ),
        (
            "affine_u8 row",
            Load::AffineU8(Affine::Row),
            vec![(dim, bytes(1)), per_row.clone(), per_row],
            DType::F32,
        ),
        (
            "join_planes",
            Load::JoinPlanes { dtype: DType::F32, coded: 0 },
            vec![(4 * dim, bytes(4))],
            DType::F32,
        ),
    ];
    let chunk = |(name, load, fields, out): (_, _, Vec<Matrix>, _)| {
        let (parts, bytes) = native_chunk(rows, 8, &fields, &[], Packing::Zstd);
        let plan = DecodePlan::new(ChunkShape { rows, dim }, load, Stream::Stored, out, &parts).unwrap();
        LargeChunk { name, plan, src: MemoryPayloads::new(&[bytes]).borrowing(true) }
    };
    kinds.map(chunk).into()
}

/// What `ops/rotated.rs` quotes: decoding and encoding of `int4` and `bit1`.
#[test]
#[ignore = "it measures"]
fn rates_of_rotated_rows() {
    use cvc_codec::ops::rotated::RotatedCodes;
    use cvc_codec::quantise::{self, Quantiser};
    use cvc_codec::{Loops, Rotation};
    use cvc_cpu::CpuLoops;

    for codes in [RotatedCodes::Int4, RotatedCodes::Bit1] {
        for dim in [100, 300, 384, 768, 1536] {
            let rotation = Rotation::new(dim);
            let width = usize::try_from(codes.row_len(dim as u64)).unwrap();
            let centre: Vec<f32> = (0..dim).map(|at| (at as f32 * 0.37).sin()).collect();
            let mut state = 1u64;
            let mut byte = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_le_bytes()[5]
            };
            for value_count in if dim == 768 { vec![65_536, 25_000_000] } else { vec![65_536] } {
                let rows = value_count / dim / 16 * 16;
                let src: Vec<u8> = (0..rows * width).map(|_| byte()).collect();
                let scales: Vec<u8> = (0..rows).flat_map(|_| 1e-3f32.to_le_bytes()).collect();
                let work = ops::rotated::Work { codes, rotation: &rotation, centre: &centre };
                let (mut scratch, mut out) = (ops::rotated::Scratch::default(), vec![1f32; rows * dim]);
                for level in Level::available() {
                    let rate = rate(rows * dim, || {
                        let parts = (&src[..], &scales[..]);
                        ops::rotated::rotated(level, work, 0, parts, 0..dim, &mut scratch, &mut out).unwrap();
                    });
                    println!("{codes:?} {dim} {value_count} {level}: {rate:.2} GB/s of f32");
                }
            }
            let values: Vec<f32> = (0..8 * dim).map(|_| f32::from(byte()) - 128.0).collect();
            let (mut bytes, mut scales) = (vec![0; 8 * width], [0f32; 8]);
            for level in Level::available() {
                let loops = CpuLoops::with_level(level);
                let mut scratch = quantise::Scratch::default();
                let quantiser = Quantiser { codes, rotation: &rotation, centre: &centre };
                let rate = rate(8 * dim, || {
                    loops.quantise(quantiser, black_box(&values), &mut scratch, &mut bytes, &mut scales);
                });
                println!("{codes:?} {dim} encode {level}: {rate:.2} GB/s of f32");
            }
        }
    }
}
