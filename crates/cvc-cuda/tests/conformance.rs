//! The suite on a real card, where there is one: `CVC_REQUIRE=cuda` makes it a failure that there is none.

use cvc_conformance::{Device, require};
use cvc_cuda::CudaBackend;

fn subject() -> Option<Device<CudaBackend>> {
    require::device("cuda", CudaBackend::new(0)).map(Device)
}

cvc_conformance::conformance!(subject());

mod search {
    use super::{CudaBackend, require};

    fn backend() -> Option<CudaBackend> {
        require::device("cuda", CudaBackend::new(0))
    }

    cvc_conformance::scan_conformance!(backend());

    #[test]
    fn rows_are_searched_stage_after_stage() {
        if let Some(backend) = backend() {
            cvc_conformance::scan::more_rows_than_a_stage(&backend, 200_000);
        }
    }
}
