//! What is promised of the CPU pipeline beyond the bits.

use cvc_codec::ops::dict_planes;
use cvc_codec::{Backend, Batch, ChunkId, ChunkShape, DType, DecodePlan, HostBuffer, Job, Load};
use cvc_conformance::MemoryPayloads;
use cvc_cpu::{CpuBackend, Level};

/// 30 jobs of single rows and 1 of many on one chunk: hundreds of runs, one read.
#[test]
fn a_whole_payload_is_taken_once_for_all_jobs_on_its_chunk() {
    for rows in [3, 20_000] {
        let shape = ChunkShape { rows, dim: 100 };
        let values = (0..shape.values()).map(|index| index as f32).collect::<Vec<_>>();
        let mut payload = Vec::new();
        dict_planes::encode(values.iter().copied(), &mut payload);
        let len = payload.len() as u64;
        let plan = DecodePlan::new(shape, Load::DictPlanes, DType::F32, len).unwrap();
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
            let src = MemoryPayloads::new(&[payload.clone()]).borrowing(borrowing);
            let mut dst = vec![0f32; 100 * (30 + rows as usize)];
            CpuBackend::new().decode(&batch, &src, &mut HostBuffer::new(&mut dst)).unwrap();
            assert_eq!(dst[3000..], values);
            assert_eq!(src.served_len(), len);
        }
    }
}

/// No byte of a payload that can be addressed by row is read twice, or without need.
#[test]
fn only_the_bytes_of_wanted_rows_are_read() {
    let shape = ChunkShape { rows: 10_000, dim: 64 };
    let payload = vec![0; 640_000];
    let plan = DecodePlan::new(shape, Load::AffineU8 { scale: 1.0, min: 0.0 }, DType::F32, 640_000).unwrap();
    let job = Job { plan: &plan, chunk: ChunkId(0), rows: 100..9000, dst_row: 0 };
    let batch = Batch::new(vec![job], 8900, 64, DType::F32).unwrap();
    let src = MemoryPayloads::new(&[payload]);
    let mut dst = vec![1f32; 8900 * 64];
    CpuBackend::new().decode(&batch, &src, &mut HostBuffer::new(&mut dst)).unwrap();
    assert_eq!(src.served_len(), 8900 * 64);
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
