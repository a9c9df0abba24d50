//! What a card does: every kernel as a share of a copy within the device, and the way from a file to device memory.
//!
//! One program that needs a card and a driver and nothing else: build it anywhere with
//! `cargo build --release -p cvc --features _bench,cuda,rayon --example bench_card`, copy it, run it.
//! `bench_card [MIB]` decodes chunks of so many MiB (1024 if not said: several times the cache of any card).
//!
//! Every answer is compared with the reference before anything is timed. It has not been run on hardware; on the stand-in
//! for the driver (with a small number of MiB) it shows that it works, and its times mean nothing.
#![expect(clippy::print_stdout, reason = "it is a program that prints a table")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use cvc::cuda::bench::{OUTPUTS, copies_to_device, copies_within, kernel};
use cvc::{CudaBackend, Layout, Reader, RowSlice, WriteOptions, Writer};
use cvc_codec::{
    Affine, Backend as _, Batch, ChunkId, ChunkShape, DType, DecodePlan, HostBuffer, Job, Load, Packing,
    Parts, ReferenceBackend, Stream,
};
use cvc_conformance::{MemoryPayloads, native_chunk};

const TURNS: usize = 15;
const DIM: u32 = 768;

fn main() -> Result<(), Box<dyn Error>> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(1024), |text| text.parse())?;
    let backend = CudaBackend::new(0)?;
    println!("{}, CUDA {}", backend.card(), backend.card().cuda);
    let copied = mib << 20;
    let copy = 2.0 * copied as f64 / median(copies_within(&backend, copied, TURNS)?);
    println!("copy within the device: {:.1} GB/s read and written\n", copy / 1e9);

    println!("{:28} {:>10} {:>8} {:>10}", "kernel", "GB/s moved", "of copy", "GB/s out");
    for (name, width, load) in kernels() {
        for out in OUTPUTS {
            // So many rows that the larger of the two sides has the MiB asked for.
            let value_len = out.size().max(width / DIM as usize);
            let rows = u32::try_from(copied / (value_len * DIM as usize))?;
            time_kernel(&backend, copy, (name, width, &load), rows, out)?;
        }
    }
    files(&backend, mib)
}

/// Name, bytes of a row, op.
fn kernels() -> Vec<(&'static str, usize, Load)> {
    let dim = DIM as usize;
    let scale: Arc<[f32]> = (0..dim).map(|i| 0.01 + i as f32 * 1e-5).collect();
    let min: Arc<[f32]> = (0..dim).map(|i| -1.0 - i as f32 * 1e-4).collect();
    vec![
        ("fp16", 2 * dim, Load::WidenF16),
        ("bf16", 2 * dim, Load::WidenBf16),
        ("int8, chunk", dim, Load::AffineU8(Affine::Chunk { scale: 0.1, min: -12.0 })),
        ("int8, dim", dim, Load::AffineU8(Affine::Dim { scale, min })),
        ("int8, row", dim + 8, Load::AffineU8(Affine::Row)),
        ("raw f32", 4 * dim, Load::Copy(DType::F32)),
    ]
}

fn time_kernel(
    backend: &CudaBackend,
    copy: f64,
    (name, width, load): (&str, usize, &Load),
    rows: u32,
    out: DType,
) -> Result<(), Box<dyn Error>> {
    let (parts, payload) = match load {
        Load::AffineU8(Affine::Row) => {
            let parameters = |first: f32| -> Vec<u8> {
                (0..rows).flat_map(|row| (first + (row % 1021) as f32 * 1e-4).to_le_bytes()).collect()
            };
            let codes = bytes(rows as usize * DIM as usize);
            let fields = [(DIM, codes), (4, parameters(-1.0)), (4, parameters(0.01))];
            native_chunk(rows, 8, &fields, &[], Packing::Zstd)
        }
        _ => (Arc::new(Parts::packed(rows, u32::try_from(width)?)), bytes(rows as usize * width)),
    };
    let plan = DecodePlan::new(ChunkShape { rows, dim: DIM }, load.clone(), Stream::Stored, out, &parts)?;
    let read = payload.len();
    let src = MemoryPayloads::new(&[payload]);
    let times = kernel(backend, &plan, &src, TURNS)?;
    // The first and the last rows, as the reference has them.
    let row_len = DIM as usize * out.size();
    for rows in [0..rows.min(100), rows.saturating_sub(100)..rows] {
        let expected = reference(&plan, &src, rows.clone())?;
        let found = &times.values[rows.start as usize * row_len..rows.end as usize * row_len];
        assert!(found == expected, "{name} as {out}: the card is wrong");
    }
    let seconds = median(times.seconds);
    let moved = (read + times.values.len()) as f64 / seconds;
    let written = times.values.len() as f64 / seconds;
    let name = format!("{name} to {out}");
    println!("{name:28} {:10.1} {:7.1}% {:10.1}", moved / 1e9, 100.0 * moved / copy, written / 1e9);
    Ok(())
}

/// Rows as the reference decodes them.
fn reference(
    plan: &DecodePlan,
    src: &MemoryPayloads,
    rows: std::ops::Range<u32>,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let count = u64::from(rows.end - rows.start);
    let job = Job { plan, chunk: ChunkId(0), rows, dst_row: 0 };
    let batch = Batch::new(vec![job], count, DIM, plan.out())?;
    let len = usize::try_from(count)? * DIM as usize * plan.out().size();
    let mut words = vec![0u64; len.div_ceil(8)];
    let values = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..len];
    ReferenceBackend::default().decode(&batch, src, &mut HostBuffer::from_bytes(plan.out(), values)?)?;
    Ok(values.to_vec())
}

/// From a file in the page cache to device memory, whole arrays.
fn files(backend: &CudaBackend, mib: usize) -> Result<(), Box<dyn Error>> {
    let link = copies_to_device(backend, 64 << 20, TURNS)?;
    let link = f64::from(64 << 20) / median(link);
    println!("\npinned memory to the device: {:.1} GB/s", link / 1e9);
    let rows = (mib << 20) / (4 * DIM as usize);
    let values: Vec<f32> = bytes(rows * DIM as usize * 2)
        .chunks(2)
        .map(|pair| f32::from(u16::from_le_bytes([pair[0], pair[1]])) / 65536.0 - 0.5)
        .collect();
    let folder = tempfile::tempdir()?;
    println!("{:10} {:>12} {:>14} {:>8}", "file", "encoded GB/s", "decoded GB/s", "of link");
    for codec in ["raw", "fp16", "bf16", "int8"] {
        let path = folder.path().join(codec);
        let mut writer =
            Writer::create(&path, WriteOptions::new(Layout::Native).vectors(DType::F32, DIM, codec)?)?;
        writer.write_vectors(RowSlice::new(&values, DIM as usize)?)?;
        writer.finish()?;
        let reader = Reader::open(&path)?;
        let array = reader.vectors()?;
        let expected: Vec<f32> = array.read(0..100.min(rows as u64))?;
        let stored = std::fs::metadata(&path)?.len() as f64;
        let mut seconds = Vec::new();
        for _ in 0..TURNS {
            let start = Instant::now();
            let buffer = array.read_on(backend, .., DType::F32)?;
            seconds.push(start.elapsed().as_secs_f64());
            drop(buffer);
        }
        let mut found = vec![0f32; expected.len()];
        array.decode_to_host(
            backend,
            0..100.min(rows as u64),
            DType::F32,
            &mut HostBuffer::new(&mut found),
        )?;
        assert!(
            bytemuck::cast_slice::<f32, u8>(&found) == bytemuck::cast_slice::<f32, u8>(&expected),
            "{codec}: the card is wrong"
        );
        let seconds = median(seconds);
        let decoded = (values.len() * 4) as f64;
        let (encoded, decoded) = (stored / seconds, decoded / seconds);
        println!("{codec:10} {:12.1} {:14.1} {:7.1}%", encoded / 1e9, decoded / 1e9, 100.0 * encoded / link);
    }
    Ok(())
}

/// Bytes of no pattern, the same every time.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
