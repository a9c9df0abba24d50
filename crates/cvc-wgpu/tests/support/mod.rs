//! The adapter that tests use, where there is one.

use std::sync::OnceLock;

use cvc_conformance::{Device, require};
use cvc_wgpu::{Adapter, WgpuBackend, adapters};

/// The first adapter, or `None` after saying that tests are skipped.
pub(crate) fn adapter() -> Option<Adapter> {
    require::device("wgpu", adapters()).map(|mut adapters| adapters.swap_remove(0))
}

/// A backend on it, opened once.
pub(crate) fn backend() -> Option<&'static Device<WgpuBackend>> {
    static BACKEND: OnceLock<Option<Device<WgpuBackend>>> = OnceLock::new();
    let open = || {
        let adapter = adapter()?;
        require::device("wgpu", WgpuBackend::open(&adapter)).map(Device)
    };
    BACKEND.get_or_init(open).as_ref()
}
