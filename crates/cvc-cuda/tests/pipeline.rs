//! What the pipeline promises beside right values, on the stand-in for the driver: how many launches there are, that memory
//! is given back, other people's memory, several devices. One after another, as the stand-in's counts are the process's.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "memory of a caller is given by its address")]

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cvc_codec::{
    Backend, Batch, ChunkId, ChunkShape, DType, DecodePlan, DeviceBuffer, DeviceMemory, HostBuffer, Job,
    Load, Metric, Parts, Queries, ReferenceBackend, RowSlice, Scan, ScanBatch, ScanJob, Stream,
};
use cvc_conformance::MemoryPayloads;
use cvc_cuda::{CudaBackend, CudaBuffer, Unavailable, cards};
use cvc_cuda_standin::Standin;

static STANDIN: LazyLock<Mutex<Standin>> = LazyLock::new(|| {
    let standin = Standin::load().expect("cargo builds it with this test");
    standin.set("devices=2");
    Mutex::new(standin)
});

/// Runs a test with the stand-in to itself.
fn alone(test: impl FnOnce(&Standin)) {
    test(&STANDIN.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A chunk of halves: the numbers from `first` on.
fn halves(first: u16, rows: u32, dim: u32) -> (DecodePlan, Vec<u8>) {
    let values = (0..rows * dim).map(|i| half::f16::from_f32(f32::from(first) + (i % 1000) as f32));
    let payload: Vec<u8> = values.flat_map(|half| half.to_bits().to_le_bytes()).collect();
    let parts = Arc::new(Parts::packed(rows, 2 * dim));
    let shape = ChunkShape { rows, dim };
    (DecodePlan::new(shape, Load::WidenF16, Stream::Stored, DType::F32, &parts).unwrap(), payload)
}

fn value(first: u16, index: u32) -> f32 {
    f32::from(first) + (index % 1000) as f32
}

fn download(backend: &CudaBackend, buffer: &CudaBuffer<'_>) -> Vec<f32> {
    let mut values = vec![0f32; usize::try_from(buffer.values()).unwrap()];
    backend.download(buffer, &mut HostBuffer::new(&mut values)).unwrap();
    values
}

#[test]
fn a_thousand_single_rows_are_one_launch() {
    alone(|standin| {
        let backend = CudaBackend::new(0).unwrap();
        let (plan, payload) = halves(3, 5000, 24);
        // In no order: 3,001 and 5,000 have no common divisor.
        let rows = || (0..1000u32).map(|i| i * 3001 % 5000);
        let jobs = rows().enumerate().map(|(dst_row, row)| Job {
            plan: &plan,
            chunk: ChunkId(0),
            rows: row..row + 1,
            dst_row: dst_row as u64,
        });
        let batch = Batch::new(jobs.collect(), 1000, 24, DType::F32).unwrap();
        let mut buffer = backend.allocate(DType::F32, 24_000).unwrap();
        let before = standin.counts().launches;
        backend.decode(&batch, &MemoryPayloads::new(&[payload]), &mut buffer).unwrap();
        assert_eq!(standin.counts().launches - before, 1);
        let expected: Vec<f32> =
            rows().flat_map(|row| (0..24).map(move |i| value(3, row * 24 + i))).collect();
        assert_eq!(download(&backend, &buffer), expected);
    });
}

#[test]
fn small_chunks_share_launches_and_large_ones_are_cut() {
    alone(|standin| {
        let backend = CudaBackend::new(0).unwrap();
        let chunks: Vec<_> = (0..300).map(|i| halves(i, 10, 64)).collect();
        let large = halves(7, 60_000, 128);
        let (plans, payloads): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        let launches = |plans: &[DecodePlan], payloads: &[Vec<u8>], dim: u32| {
            let mut dst_row = 0;
            let jobs = (0..).zip(plans).map(|(chunk, plan)| {
                let rows = plan.shape().rows;
                dst_row += u64::from(rows);
                Job { plan, chunk: ChunkId(chunk), rows: 0..rows, dst_row: dst_row - u64::from(rows) }
            });
            let batch = Batch::new(
                jobs.collect(),
                plans.iter().map(|plan| u64::from(plan.shape().rows)).sum(),
                dim,
                DType::F32,
            );
            let batch = batch.unwrap();
            let mut buffer = backend.allocate(DType::F32, batch.rows() * u64::from(dim)).unwrap();
            let before = standin.counts().launches;
            backend.decode(&batch, &MemoryPayloads::new(payloads), &mut buffer).unwrap();
            standin.counts().launches - before
        };
        assert_eq!(launches(&plans, &payloads, 64), 1);
        // 15 MB of halves in units of at most 4 MiB.
        let of_large = launches(&[large.0], &[large.1], 128);
        assert!((4..=6).contains(&of_large), "{of_large}");
    });
}

#[test]
fn memory_is_given_back() {
    alone(|standin| {
        let before = standin.counts();
        for _ in 0..3 {
            let backend = CudaBackend::new(0).unwrap();
            let (plan, payload) = halves(1, 100, 16);
            let job = Job { plan: &plan, chunk: ChunkId(0), rows: 0..100, dst_row: 0 };
            let batch = Batch::new(vec![job], 100, 16, DType::F32).unwrap();
            let mut buffer = backend.allocate(DType::F32, 1600).unwrap();
            backend.decode(&batch, &MemoryPayloads::new(&[payload]), &mut buffer).unwrap();
            assert!(standin.counts().allocations > before.allocations);
        }
        let after = standin.counts();
        assert_eq!((after.allocations, after.pinned), (before.allocations, before.pinned));
    });
}

#[test]
fn a_stage_of_a_search_is_four_launches_and_gives_back_its_memory() {
    alone(|standin| {
        let before = standin.counts();
        {
            let backend = CudaBackend::new(0).unwrap();
            let (plan, payload) = halves(0x3c00, 500, 24);
            let job = ScanJob { plan: &plan, chunk: ChunkId(0), rows: 0..500, first_row: 7 };
            let batch = ScanBatch::new(vec![job], 24, DType::F32).unwrap();
            let queries: Vec<f32> = (0..96u16).map(|i| f32::from(i % 7) - 3.0).collect();
            let queries = Queries::new(Metric::L2, RowSlice::new(&queries, 24).unwrap()).unwrap();
            let src = MemoryPayloads::new(&[payload]);
            let launches = standin.counts().launches;
            let found = backend.scan(&batch, &src, &queries, 3).unwrap();
            // Decoding, bounds, the best of them, and the values of those.
            assert_eq!(standin.counts().launches - launches, 4);
            let expected = ReferenceBackend::default().scan(&batch, &src, &queries, 3).unwrap();
            assert!(found.scored < expected.scored / 4, "{} of {}", found.scored, expected.scored);
            for (found, expected) in found.tops.into_iter().zip(expected.tops) {
                assert_eq!(found.into_hits(Metric::L2), expected.into_hits(Metric::L2));
            }
            // A metric that the card has no bounds for launches nothing.
            let bits = standin.counts().launches;
            let positive = [1f32; 24];
            let queries = Queries::new(Metric::Js, RowSlice::new(&positive, 24).unwrap()).unwrap();
            backend.scan(&batch, &src, &queries, 3).unwrap();
            assert_eq!(standin.counts().launches, bits);
        }
        let after = standin.counts();
        assert_eq!((after.allocations, after.pinned), (before.allocations, before.pinned));
    });
}

#[test]
fn the_callers_memory_is_filled_and_nothing_around_it() {
    alone(|_| {
        let backend = CudaBackend::new(0).unwrap();
        let mut array = backend.allocate(DType::F32, 1000).unwrap();
        backend.upload(&[0xff; 4000], &mut array).unwrap();
        let (plan, payload) = halves(9, 30, 7);
        let job = Job { plan: &plan, chunk: ChunkId(0), rows: 2..30, dst_row: 0 };
        let batch = Batch::new(vec![job], 28, 7, DType::F32).unwrap();
        // From value 101 on: on no line of any width.
        // SAFETY: inside `array`, which nothing else uses meanwhile.
        let mut part =
            unsafe { CudaBuffer::from_raw(&backend, DType::F32, array.device_ptr() + 404, 28 * 7 * 4) };
        assert_eq!((part.dtype(), part.values()), (DType::F32, 196));
        backend.decode(&batch, &MemoryPayloads::new(&[payload]), &mut part).unwrap();
        let values = download(&backend, &array);
        let expected: Vec<f32> = (14..210).map(|i| value(9, i)).collect();
        assert_eq!(values[101..297], expected);
        assert!(values[..101].iter().chain(&values[297..]).all(|value| value.to_bits() == u32::MAX));
        let refused = std::panic::catch_unwind(|| {
            // SAFETY: it is refused.
            unsafe { CudaBuffer::from_raw(&backend, DType::F32, 0x1002, 8) };
        });
        assert!(refused.is_err());
    });
}

#[test]
fn devices_have_numbers_and_memory_of_their_own() {
    alone(|_| {
        let cards = cards().unwrap();
        assert_eq!(cards.iter().map(|card| card.index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cards[1].to_string(), "stand-in 1 (compute 7.0, 4096 MiB)");
        assert_eq!(CudaBackend::new(2).unwrap_err(), Unavailable::NoSuchDevice { index: 2, last: 1 });
        for index in [1, 0, 1] {
            let backend = CudaBackend::new(index).unwrap();
            assert_eq!((backend.index(), backend.card().index), (index, index));
            let (plan, payload) = halves(5, 9, 9);
            let job = Job { plan: &plan, chunk: ChunkId(0), rows: 0..9, dst_row: 0 };
            let batch = Batch::new(vec![job], 9, 9, DType::F32).unwrap();
            let mut buffer = backend.allocate(DType::F32, 81).unwrap();
            backend.decode(&batch, &MemoryPayloads::new(&[payload]), &mut buffer).unwrap();
            assert_eq!(download(&backend, &buffer), (0..81).map(|i| value(5, i)).collect::<Vec<_>>());
            assert!(!buffer.stream_ptr().is_null() && buffer.stream_ptr() == backend.stream_ptr());
        }
    });
}

#[test]
fn no_room_is_an_error_that_says_so() {
    alone(|standin| {
        let backend = CudaBackend::new(0).unwrap();
        standin.set("devices=2,mib=1");
        let error = backend.allocate(DType::F32, 10 << 20).unwrap_err().to_string();
        standin.set("devices=2");
        assert!(error.starts_with("cuda failed: CUDA_ERROR_OUT_OF_MEMORY: "), "{error}");
        assert!(error.ends_with("free some, or decode fewer rows at a time"), "{error}");
        assert!(backend.free_memory().unwrap() > 1 << 30);
        backend.allocate(DType::F32, 10 << 20).unwrap();
    });
}
