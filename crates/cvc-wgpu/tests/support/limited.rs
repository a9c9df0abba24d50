//! A device with low limits, where there is an adapter.

use std::sync::OnceLock;

use cvc_conformance::{Device, require};
use cvc_wgpu::{WgpuBackend, wgpu};

use crate::support::adapter;

/// A backend on a device of ours, of which a dispatch and a binding may be little more than one row of the suite.
pub(crate) fn backend() -> Option<&'static Device<WgpuBackend>> {
    static BACKEND: OnceLock<Option<Device<WgpuBackend>>> = OnceLock::new();
    let open = || {
        let adapter = adapter()?;
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
