//! A search during which the card fails. After that nothing can be done on the stand-in, as on a card, so this is a program of its own.
#![cfg(target_os = "linux")]

use std::sync::Arc;

use cvc_codec::{
    ChunkId, ChunkShape, DType, DecodeError, DecodePlan, Load, Metric, Parts, Queries, RowSlice, Scan,
    ScanBatch, ScanJob, Stream,
};
use cvc_conformance::MemoryPayloads;
use cvc_cuda::CudaBackend;
use cvc_cuda_standin::Standin;

#[test]
fn a_search_that_fails_on_the_card_is_an_error() {
    let standin = Standin::load().expect("cargo builds it with this test");
    let backend = CudaBackend::new(0).unwrap();
    let values: Vec<f32> = (0..2400u16).map(f32::from).collect();
    let payload: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let parts = Arc::new(Parts::packed(100, 96));
    let shape = ChunkShape { rows: 100, dim: 24 };
    let plan = DecodePlan::new(shape, Load::Copy(DType::F32), Stream::Stored, DType::F32, &parts).unwrap();
    let job = ScanJob { plan: &plan, chunk: ChunkId(0), rows: 0..100, first_row: 0 };
    let batch = ScanBatch::new(vec![job], 24, DType::F32).unwrap();
    let queries = Queries::new(Metric::Dot, RowSlice::new(&values[..48], 24).unwrap()).unwrap();
    let src = MemoryPayloads::new(&[payload]);
    assert!(backend.scan(&batch, &src, &queries, 3).is_ok());
    // Decoding, bounds, and then what finds the best of them.
    standin.set("fault_at=3");
    for _ in 0..2 {
        let error = backend.scan(&batch, &src, &queries, 3).unwrap_err();
        assert!(matches!(error, DecodeError::Device { .. }), "{error}");
        assert!(error.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    }
}
