//! What is promised of the CPU pipeline beyond the bits.

use std::sync::Arc;

use cvc_codec::ops::dict_planes;
use cvc_codec::stream::Packing;
use cvc_codec::{
    Affine, Backend, Batch, ChunkId, ChunkShape, DType, DecodePlan, HostBuffer, Job, Load, Parts, Stream,
};
use cvc_conformance::{MemoryPayloads, native_chunk};
use cvc_cpu::{CpuBackend, Level};

fn framed(shape: ChunkShape, load: Load, payload_len: usize) -> DecodePlan {
    let parts = Arc::new(Parts::opaque(shape.rows, u32::try_from(payload_len).unwrap()));
    DecodePlan::new(shape, load, Stream::Stored, DType::F32, &parts).unwrap()
}

/// 30 jobs of single rows and 1 of many on one chunk: hundreds of runs, one read.
#[test]
fn a_whole_payload_is_taken_once_for_all_jobs_on_its_chunk() {
    for rows in [3, 20_000] {
        let shape = ChunkShape { rows, dim: 100 };
        let values = (0..shape.values()).map(|index| index as f32).collect::<Vec<_>>();
        let mut payload = Vec::new();
        dict_planes::encode(values.iter().copied(), &mut payload);
        let plan = framed(shape, Load::DictPlanes, payload.len());
        let mut jobs: Vec<Job<'_>> = (0..30)
            .map(|row| Job {
                plan: &plan,
                chunk: ChunkId(0),
                rows: row % rows..row % rows + 1,
                dst_row: row.into(),
            })
            .collect();
        jobs.push(Job { plan: &plan, chunk: ChunkId(0), rows: 0..rows, dst_row: 30 });
        let batch = Batch::new(jobs, 30 + u64::from(rows), 100, DType::F32).unwrap();
        for borrowing in [false, true] {
            let src = MemoryPayloads::new(std::slice::from_ref(&payload)).borrowing(borrowing);
            let mut dst = vec![0f32; 100 * (30 + rows as usize)];
            CpuBackend::new().decode(&batch, &src, &mut HostBuffer::new(&mut dst)).unwrap();
            assert_eq!(dst[3000..], values);
            assert_eq!(src.served_len(), payload.len() as u64);
        }
    }
}

/// No byte of a payload that can be addressed by row is read twice, or without need.
#[test]
fn only_the_bytes_of_wanted_rows_are_read() {
    let shape = ChunkShape { rows: 10_000, dim: 64 };
    let payload = vec![0; 640_000];
    let plan = framed(shape, Load::AffineU8(Affine::Chunk { scale: 1.0, min: 0.0 }), payload.len());
    let job = Job { plan: &plan, chunk: ChunkId(0), rows: 100..9000, dst_row: 0 };
    let batch = Batch::new(vec![job], 8900, 64, DType::F32).unwrap();
    let src = MemoryPayloads::new(&[payload]);
    let mut dst = vec![1f32; 8900 * 64];
    CpuBackend::new().decode(&batch, &src, &mut HostBuffer::new(&mut dst)).unwrap();
    assert_eq!(src.served_len(), 8900 * 64);
}

/// A thousand single rows in no order, some of them twice, then all rows: every block is taken once.
#[test]
fn a_block_is_taken_once_however_many_of_its_rows_are_wanted() {
    let shape = ChunkShape { rows: 5000, dim: 96 };
    let matrix =
        |width: u32| (width, (0..5000 * width).map(|byte| byte.to_le_bytes()[1]).collect::<Vec<u8>>());
    for block_rows in [1, 8, 100, 3000] {
        let (parts, bytes) =
            native_chunk(shape.rows, block_rows, &[matrix(3 * 96)], &[matrix(96)], Packing::Zstd);
        let load = Load::JoinPlanes { dtype: DType::F32, coded: 0b100 };
        let plan = DecodePlan::new(shape, load, Stream::Zstd, DType::F32, &parts).unwrap();
        // 2,503 rows at most, by steps that share no factor with 5,003.
        let mut rows: Vec<u32> = (0..1000).map(|step| step * 1999 % 5003).filter(|row| *row < 2503).collect();
        rows.extend_from_within(..100);
        let mut jobs: Vec<Job<'_>> = (0..)
            .zip(&rows)
            .map(|(dst_row, row)| Job { plan: &plan, chunk: ChunkId(0), rows: *row..row + 1, dst_row })
            .collect();
        let touched: std::collections::BTreeSet<u32> = rows.iter().map(|row| row / block_rows).collect();
        let touched_len: u64 = touched.into_iter().map(|block| parts.len_of(block..block + 1)).sum();
        let check = |jobs: Vec<Job<'_>>, expected_len: u64| {
            let count = jobs.iter().map(|job| job.rows.len()).sum::<usize>();
            let batch = Batch::new(jobs, count as u64, 96, DType::F32).unwrap();
            for borrowing in [false, true] {
                let src = MemoryPayloads::new(std::slice::from_ref(&bytes)).borrowing(borrowing);
                let mut dst = vec![0f32; 96 * count];
                CpuBackend::new().decode(&batch, &src, &mut HostBuffer::new(&mut dst)).unwrap();
                assert_eq!(src.served_len(), expected_len, "blocks of {block_rows} rows");
            }
        };
        check(jobs.clone(), touched_len);
        jobs.push(Job { plan: &plan, chunk: ChunkId(0), rows: 0..5000, dst_row: rows.len() as u64 });
        check(jobs, parts.len_of(0..parts.block_count()));
    }
}

/// Large enough to be written past the caches if the memory was touched before.
#[test]
fn large_results_are_the_same_in_memory_of_any_kind() {
    let shape = ChunkShape { rows: 33_000, dim: 403 };
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(33_000 * 403).collect();
    let expected: Vec<f32> = payload.iter().map(|code| f32::from(*code) * 0.5 - 1.0).collect();
    let plan = framed(shape, Load::AffineU8(Affine::Chunk { scale: 0.5, min: -1.0 }), payload.len());
    let job = Job { plan: &plan, chunk: ChunkId(0), rows: 0..33_000, dst_row: 0 };
    let batch = Batch::new(vec![job], 33_000, 403, DType::F32).unwrap();
    let src = MemoryPayloads::new(&[payload]);
    for fresh in [false, true] {
        let mut dst = vec![0f32; expected.len()];
        let mut buffer = if fresh { HostBuffer::fresh(&mut dst) } else { HostBuffer::new(&mut dst) };
        CpuBackend::new().decode(&batch, &src, &mut buffer).unwrap();
        assert!(dst == expected);
    }
}

#[test]
fn the_device_says_which_instructions_are_used() {
    for level in Level::available() {
        let backend = CpuBackend::with_level(level);
        let name = &backend.device().name;
        assert!(name.starts_with(&format!("cpu ({level}, ")) && name.contains(" thread"), "{name}");
        assert_eq!(backend.level(), level);
    }
}
