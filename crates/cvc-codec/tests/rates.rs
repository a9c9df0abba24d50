//! The rates and ratios that `src` quotes: `cargo test -p cvc-codec --release --test rates -- --ignored --nocapture`.
//! With `VECTORS=FILE.npy` (f32, version 1.0), of those rows as well.
#![expect(clippy::print_stdout, reason = "it is there to print")]

use std::hint::black_box;
use std::time::Instant;

use cvc_codec::strings::encode_strings;
use cvc_codec::{
    CODECS, Deflater, EncodeOptions, EncodedChunk, Inflater, Packing, Plain, RowSlice, Scope, Stream,
    Strings, find, loss,
};

/// The shortest time of several runs.
fn seconds(mut work: impl FnMut()) -> f64 {
    (0..15)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// Prints the gigabytes that `work` takes a second, given `len` bytes.
fn rate(name: &str, len: usize, work: impl FnMut()) {
    println!("{name:24} {:6.2} GB/s", len as f64 / seconds(work) / 1e9);
}

/// Normally distributed numbers, the same on every machine but for rounding.
fn normal(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut next = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
    let rounded = |value: f64| value as f32;
    (0..len).map(|_| rounded(next())).collect()
}

/// Rows of several kinds: name, values, dim.
fn sets() -> Vec<(String, Vec<f32>, usize)> {
    let mut sets = vec![("normal".to_owned(), normal(768 * 2048), 768)];
    if let Ok(path) = std::env::var("VECTORS") {
        let bytes = std::fs::read(&path).unwrap();
        let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8_lossy(&bytes[10..10 + header_len]).into_owned();
        assert!(header.contains("<f4"), "{header}");
        let dim = header.split("'shape': (").nth(1).and_then(|shape| shape.split([',', ')']).nth(1)).unwrap();
        let values = bytes[10 + header_len..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        sets.push((path, values.collect(), dim.trim().parse().unwrap()));
    }
    sets
}

#[test]
#[ignore = "it measures"]
fn rates_of_checksums() {
    let bytes: Vec<u8> = normal(1 << 20).into_iter().flat_map(f32::to_le_bytes).collect();
    // A row of int8, a block, several, a run; over and over from the cache.
    for len in [776, 4096, 20_480, 131_072] {
        let blocks = &bytes[..(256 << 10) / len * len];
        let name = format!("crc32c of {len} bytes");
        rate(&name, blocks.len(), || {
            blocks.chunks_exact(len).for_each(|block| {
                black_box(cvc_format::checksum::crc32c(black_box(block)));
            });
        });
    }
}

#[test]
#[ignore = "it measures"]
fn rates_of_every_encoder() {
    for (name, values, dim) in sets() {
        println!("-- {name}, {} rows of {dim}", values.len() / dim);
        let rows = RowSlice::new(&values, dim).unwrap();
        let len = values.len() * 4;
        let mut chunk = EncodedChunk::default();
        for codec in CODECS {
            let mut options = EncodeOptions::new(
                codec.default_block_rows(rows.dtype(), u32::try_from(rows.dim()).unwrap()),
            );
            for scope in [Scope::Row, Scope::Dim, Scope::Chunk] {
                options.scope = scope;
                if codec.options(&options).is_empty() && scope != Scope::Row {
                    continue;
                }
                rate(&format!("{} {}", codec.name(), scope.name()), len, || {
                    codec.encode(black_box(rows), &options, &Plain, &mut chunk).unwrap();
                });
            }
        }
        let mut decoded = values.clone();
        decoded.iter_mut().for_each(|value| *value += 1e-4);
        rate("measure the loss", len, || {
            let mut measure = loss::Measure::new(&Plain);
            measure.add(black_box(rows), &decoded);
            black_box(measure.finish());
        });
        rate("its sums, simple loop", len, || {
            let mut total = 0.0;
            for (row, decoded) in black_box(&values).chunks_exact(dim).zip(decoded.chunks_exact(dim)) {
                let (mut xx, mut yy, mut xy, mut squares, mut most) = (0f64, 0f64, 0f64, 0f64, 0f64);
                for (x, y) in row.iter().zip(decoded) {
                    let (x, y) = (f64::from(*x), f64::from(*y));
                    xx += x * x;
                    yy += y * y;
                    xy += x * y;
                    squares += (y - x) * (y - x);
                    most = if (y - x).abs() > most { (y - x).abs() } else { most };
                }
                total += xx + yy + xy + squares + most;
            }
            black_box(total);
        });
    }
}

#[test]
#[ignore = "it measures"]
fn rates_of_the_simple_loop_of_int8() {
    let values = normal(1_000_000);
    let len = values.len() * 4;
    // What the range alone costs, to be taken off the int8 codecs, and the codes as the simple loop makes them.
    rate("range alone", len, || {
        let range = black_box(&values).iter().fold((f32::MAX, f32::MIN), |(min, max), value| {
            (if *value < min { *value } else { min }, if *value > max { *value } else { max })
        });
        black_box(range);
    });
    let (min, scale) = black_box((-5.0f32, 10.0f32 / 255.0));
    let mut codes: Vec<u8> = Vec::with_capacity(values.len());
    rate("codes, simple loop", len, || {
        codes.clear();
        codes.extend(black_box(&values).iter().map(|value| {
            let rounded = f64::from(((value - min) / scale).round_ties_even());
            #[expect(clippy::cast_possible_truncation, reason = "as the codec's simple loop has it")]
            let integer = if rounded.abs() < 2_147_483_648.0 { rounded as i32 } else { 0 };
            integer.to_le_bytes()[0]
        }));
        black_box(&codes);
    });
}

/// Bytes of a lane in a file: every stream on a multiple of 16, and eight bytes for each block in the tables.
fn lane_len(lens: &[u32]) -> u64 {
    lens.iter().map(|len| u64::from(*len).next_multiple_of(16) + 8).sum()
}

#[test]
#[ignore = "it measures"]
fn ratios_and_times_of_lossless() {
    for (name, values, dim) in sets() {
        let rows = RowSlice::new(&values, dim).unwrap();
        let codec = find("lossless").unwrap();
        let mut chunk = EncodedChunk::default();
        for block_rows in [4, 8, 16, 64] {
            codec.encode(rows, &EncodeOptions::new(block_rows), &Plain, &mut chunk).unwrap();
            let fields: u64 = chunk.fields.iter().map(|field| field.bytes.len() as u64).sum();
            let lanes: u64 = chunk.lanes.iter().map(|lane| lane_len(&lane.lens)).sum();
            let mut inflater = Inflater::default();
            let mut out = vec![0u8; block_rows as usize * dim];
            let blocks = rows.len().div_ceil(block_rows as usize);
            let time = seconds(|| {
                for lane in &chunk.lanes {
                    let mut rest = &lane.bytes[..];
                    for (block, len) in lane.lens.iter().enumerate() {
                        let (stream, after) = rest.split_at(*len as usize);
                        rest = after;
                        let rows = (rows.len() - block * block_rows as usize).min(block_rows as usize);
                        inflater.inflate(Stream::Zstd, 0, stream, &mut out[..rows * dim]).unwrap();
                    }
                }
            });
            println!(
                "{name}: {block_rows} rows x {dim} a block, ratio {:.4}, {} lanes, {:.2} us a block to unpack",
                (values.len() * 4) as f64 / (fields + lanes) as f64,
                chunk.lanes.len(),
                time * 1e6 / blocks as f64
            );
        }
    }
}

#[test]
#[ignore = "it measures"]
fn frames_of_literals_beside_plain_ones() {
    for (name, values, dim) in sets() {
        let plane: Vec<u8> = values.iter().map(|value| value.to_bits().to_le_bytes()[3]).collect();
        let blocks = plane.len().div_ceil(8 * dim) as f64;
        for packing in [Packing::ZstdLiterals, Packing::Zstd] {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
            let (mut packed, mut lens) = (Vec::new(), Vec::new());
            let time = seconds(|| {
                packed.clear();
                lens = plane
                    .chunks(8 * dim)
                    .map(|block| deflater.deflate(packing, block, &mut packed))
                    .collect();
            });
            let mut out = vec![0; 8 * dim];
            let unpack = seconds(|| {
                let mut rest = &packed[..];
                for (len, block) in lens.iter().zip(plane.chunks(8 * dim)) {
                    let (stream, after) = rest.split_at(*len as usize);
                    rest = after;
                    inflater.inflate(Stream::Zstd, 0, stream, &mut out[..block.len()]).unwrap();
                }
            });
            println!(
                "{packing:?}, plane 3 of 8 rows x {dim} of {name}: {:.0} bytes, {:.1} us to pack, {:.1} to unpack",
                packed.len() as f64 / blocks,
                time * 1e6 / blocks,
                unpack * 1e6 / blocks
            );
        }
    }
}

#[test]
#[ignore = "it measures"]
fn ratios_and_times_of_streams() {
    let numbers: Vec<i64> = (0..200_000i64)
        .scan(0, |id, n| {
            *id += 1 + n * 7919 % 41;
            Some(*id)
        })
        .collect();
    let names: Strings = numbers.iter().map(|id| format!("lib{}-{:x}-dev", id % 977, id)).collect();
    let mut chunk = EncodedChunk::default();
    encode_strings(&names, "raw", 1 << 10, &mut chunk).unwrap();
    let names = &chunk.lanes[0].bytes;
    let mut sets: Vec<(String, Vec<u8>)> =
        vec![("sorted ids".into(), bytemuck::cast_slice(&numbers).to_vec()), ("names".into(), names.clone())];
    sets.extend(
        self::sets().into_iter().map(|(name, values, _)| (name, bytemuck::cast_slice(&values).to_vec())),
    );
    for (name, bytes) in sets {
        for packing in [Packing::Zstd, Packing::Gzip] {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
            let (mut packed, mut lens) = (Vec::new(), Vec::new());
            let time = seconds(|| {
                packed.clear();
                lens = bytes
                    .chunks(16 << 10)
                    .map(|block| deflater.deflate(packing, block, &mut packed))
                    .collect();
            });
            let mut out = vec![0; 16 << 10];
            let unpack = seconds(|| {
                let mut rest = &packed[..];
                for (len, block) in lens.iter().zip(bytes.chunks(16 << 10)) {
                    let (stream, after) = rest.split_at(*len as usize);
                    rest = after;
                    inflater.inflate(packing.stream(), 0, stream, &mut out[..block.len()]).unwrap();
                }
            });
            // One way to the level that the codec has.
            if packing == Packing::Zstd {
                for level in [1, 3, 9] {
                    zstd_level(&name, &bytes, level);
                }
            }
            println!(
                "{packing:?} {name}: to {:.3}, {:.0} MB/s, back {:.0} MB/s",
                packed.len() as f64 / bytes.len() as f64,
                bytes.len() as f64 / time / 1e6,
                bytes.len() as f64 / unpack / 1e6
            );
        }
    }
}

fn zstd_level(name: &str, bytes: &[u8], level: i32) {
    let mut packer = zstd::bulk::Compressor::new(level).unwrap();
    let mut packed = 0;
    let time = seconds(|| {
        packed = bytes.chunks(16 << 10).map(|block| packer.compress(block).unwrap().len()).sum();
    });
    let (ratio, rate) = (packed as f64 / bytes.len() as f64, bytes.len() as f64 / time / 1e6);
    println!("zstd -{level} {name}: to {ratio:.3}, {rate:.0} MB/s");
}
