//! The suite, on the first adapter: once as it is, and once with limits so low that everything is split.
//!
//! Without an adapter the skip is reported, and is a failure where `CVC_REQUIRE` lists `wgpu`.

mod support;

use std::sync::OnceLock;

use cvc_conformance::{Device, require};
use cvc_wgpu::{WgpuBackend, wgpu};

mod all_there_is {
    cvc_conformance::conformance!(super::support::backend());
}

mod low_limits {
    cvc_conformance::conformance!(super::limited());
}

/// A backend on a device of ours, of which a dispatch and a binding may be little more than one row of the suite.
fn limited() -> Option<&'static Device<WgpuBackend>> {
    static BACKEND: OnceLock<Option<Device<WgpuBackend>>> = OnceLock::new();
    let open = || {
        let adapter = support::adapter()?;
        let required_limits = wgpu::Limits {
            max_storage_buffer_binding_size: 5 << 20,
            max_compute_workgroups_per_dimension: 36,
            ..adapter.limits()
        };
        let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
        let device = pollster::block_on(adapter.wgpu_adapter().request_device(&descriptor));
        let (device, queue) = require::device("wgpu", device)?;
        require::device("wgpu", WgpuBackend::from_device(device, queue)).map(Device)
    };
    BACKEND.get_or_init(open).as_ref()
}
