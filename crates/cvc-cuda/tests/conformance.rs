//! The suite on a real card, where there is one: `CVC_REQUIRE=cuda` makes it a failure that there is none.

use cvc_conformance::{Device, require};
use cvc_cuda::CudaBackend;

fn subject() -> Option<Device<CudaBackend>> {
    require::device("cuda", CudaBackend::new(0)).map(Device)
}

cvc_conformance::conformance!(subject());
