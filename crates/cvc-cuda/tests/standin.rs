//! The suite on the stand-in for the driver: the PTX that ships, interpreted, with every piece of work put off until
//! somebody waits for it. It proves arithmetic, indexing and order, not the hardware.
#![cfg(target_os = "linux")]

use std::sync::LazyLock;

use cvc_codec::{Batch, DecodeError, DecodePlan, Payloads, Unsupported};
use cvc_conformance::{Destination, Device, Subject};
use cvc_cuda::CudaBackend;
use cvc_cuda_standin::Standin;

static STANDIN: LazyLock<Standin> =
    LazyLock::new(|| Standin::load().expect("cargo builds it with this test"));

/// One backend for all tests: its pool of workers is part of what is tested.
static BACKEND: LazyLock<Device<CudaBackend>> = LazyLock::new(|| {
    LazyLock::force(&STANDIN);
    let backend = CudaBackend::new(0).expect("the stand-in is there");
    assert!(backend.card().name.starts_with("stand-in"), "a real driver was found before the stand-in");
    Device(backend)
});

struct Shared;

impl Subject for Shared {
    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        BACKEND.supports(plan)
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: Destination,
    ) -> Result<Vec<u8>, DecodeError> {
        BACKEND.decode(batch, src, dst)
    }
}

cvc_conformance::conformance!(Some(Shared));

mod search {
    use super::*;

    fn device() -> Option<&'static Device<CudaBackend>> {
        Some(LazyLock::force(&BACKEND))
    }

    cvc_conformance::scan_conformance!(device());

    #[test]
    fn rows_are_searched_stage_after_stage() {
        cvc_conformance::scan::more_rows_than_a_stage(&BACKEND.0, 70_000);
    }
}
