//! Which adapters there are, and whether they will do.

use std::fmt;
use std::sync::OnceLock;

use thiserror::Error;
use wgpu::{AdapterInfo, DeviceType, DownlevelFlags, Limits};

use crate::shaders::frame::WORKGROUP;

/// An adapter: a GPU as one of the system's interfaces shows it, or a program that plays one.
#[derive(Clone, Debug)]
pub struct Adapter {
    adapter: wgpu::Adapter,
    info: AdapterInfo,
}

/// The adapters of this machine, the most powerful first: discrete GPUs, integrated ones, virtual ones, others, and last those
/// that are software.
///
/// # Errors
/// There is none.
pub fn adapters() -> Result<Vec<Adapter>, NoAdapter> {
    // Loading drivers takes long, and they are loaded as often as there are instances.
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = INSTANCE.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        // A debug build of the caller is no reason to look for validation layers.
        descriptor.flags = wgpu::InstanceFlags::empty();
        wgpu::Instance::new(descriptor)
    });
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    let mut adapters: Vec<Adapter> =
        found.into_iter().map(|adapter| Adapter { info: adapter.get_info(), adapter }).collect();
    adapters.sort_by_key(|adapter| power(adapter.info.device_type));
    if adapters.is_empty() {
        let request = instance.request_adapter(&wgpu::RequestAdapterOptions::default());
        let found = pollster::block_on(request).err().map_or_else(String::new, |error| error.to_string());
        return Err(NoAdapter { found: looked_for(&found) });
    }
    Ok(adapters)
}

/// Whether the system has a device that may be a GPU. Found out without loading a driver, which takes a tenth of a second and may
/// print to the terminal: for whoever would take a GPU if there is one, but no software.
pub fn may_have_gpu() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    ["/dev", "/dev/dri"].into_iter().any(|folder| {
        let Ok(entries) = std::fs::read_dir(folder) else { return false };
        entries.flatten().any(|entry| is_of_gpu(&entry.file_name().to_string_lossy()))
    })
}

/// Whether a device file of this name may be a GPU's: of the kernel's own drivers, of NVIDIA's, of a virtual machine on
/// Windows, or of those for phones and boards.
fn is_of_gpu(name: &str) -> bool {
    ["renderD", "nvidia", "dxg", "kgsl", "mali", "pvr"].iter().any(|start| name.starts_with(start))
}

/// The place of a type in the order of adapters.
fn power(device_type: DeviceType) -> u8 {
    match device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// What became of the interfaces that were asked, from the message of wgpu, which lists all there are.
fn looked_for(message: &str) -> String {
    let list = message.split_once("; ").map_or(message, |(_, list)| list);
    let asked =
        list.split(", ").filter(|part| !part.contains("not requested") && !part.contains("not compiled in"));
    asked.collect::<Vec<_>>().join(", ")
}

impl Adapter {
    /// What it calls itself, and the interface that shows it.
    pub fn name(&self) -> String {
        name_of(&self.info)
    }

    /// Whether it is a program that runs on the processor.
    pub fn is_software(&self) -> bool {
        self.info.device_type == DeviceType::Cpu
    }

    /// The adapter, to make a device of one's own with.
    pub fn wgpu_adapter(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// What wgpu knows of it.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The largest of what its devices can be asked for.
    pub fn limits(&self) -> Limits {
        self.adapter.limits()
    }

    /// Whether a backend can be opened on it.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self) -> Result<(), OpenError> {
        let flags = self.adapter.get_downlevel_capabilities().flags;
        if !flags.contains(DownlevelFlags::COMPUTE_SHADERS) {
            return Err(OpenError::Lacks { adapter: self.name(), what: "compute shaders".into() });
        }
        check_limits(&self.info, &self.limits())
    }

    /// Asks for a device with all that the adapter has to offer.
    pub(crate) fn request(&self) -> Result<(wgpu::Device, wgpu::Queue), OpenError> {
        let request = self.adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("cvc"),
            required_limits: self.limits(),
            ..Default::default()
        });
        pollster::block_on(request)
            .map_err(|error| OpenError::Refused { adapter: self.name(), problem: error.to_string() })
    }
}

pub(crate) fn name_of(info: &AdapterInfo) -> String {
    let interface = match info.backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "DX12",
        other => other.to_str(),
    };
    format!("{}, {interface}", info.name)
}

/// Bytes that a binding must be able to have, at least.
const LEAST_BINDING_LEN: u64 = 1 << 20;

/// Bytes of memory that a workgroup needs, in round numbers: `scan_bounds` has the most.
const WORKGROUP_LEN: u64 = 8 << 10;

/// Whether these limits allow what the shaders need.
pub(crate) fn check_limits(info: &AdapterInfo, limits: &Limits) -> Result<(), OpenError> {
    let needs = [
        (
            "invocations in a workgroup",
            u64::from(limits.max_compute_invocations_per_workgroup),
            WORKGROUP as u64,
        ),
        ("invocations along a workgroup", u64::from(limits.max_compute_workgroup_size_x), WORKGROUP as u64),
        (
            "bytes of memory of a workgroup",
            u64::from(limits.max_compute_workgroup_storage_size),
            WORKGROUP_LEN,
        ),
        ("storage buffers", u64::from(limits.max_storage_buffers_per_shader_stage), 3),
        ("workgroups along a dispatch", u64::from(limits.max_compute_workgroups_per_dimension), 16),
        ("bytes of a binding", limits.max_storage_buffer_binding_size, LEAST_BINDING_LEN),
        ("bytes of a buffer", limits.max_buffer_size, LEAST_BINDING_LEN),
    ];
    match needs.into_iter().find(|(_, has, needs)| has < needs) {
        None => Ok(()),
        Some((what, has, needs)) => {
            Err(OpenError::Lacks { adapter: name_of(info), what: format!("{needs} {what} (it has {has})") })
        }
    }
}

/// There is no adapter at all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoAdapter {
    /// What became of the interfaces that were asked.
    pub found: String,
}

impl fmt::Display for NoAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no graphics adapter was found")?;
        if !self.found.is_empty() {
            write!(f, " ({})", self.found)?;
        }
        write!(f, ": install the driver of the GPU")?;
        if cfg!(target_os = "linux") {
            write!(
                f,
                " and the Vulkan loader (on Debian and Ubuntu libvulkan1, and mesa-vulkan-drivers, which has drivers for many \
                 GPUs and one that needs none)"
            )?;
        }
        write!(f, ", or use the cpu")
    }
}

/// Why no backend could be opened on an adapter or a device.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot do what the shaders need.
    #[error("{adapter} cannot do what is needed: {what}; use the cpu")]
    Lacks {
        /// Which one.
        adapter: String,
        /// What it lacks.
        what: String,
    },
    /// The driver gave no device.
    #[error("{adapter} gave no device: {problem}; update its driver, or use the cpu")]
    Refused {
        /// Which one.
        adapter: String,
        /// What it said.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_files_of_gpus_are_known_by_their_names() {
        assert!(
            ["renderD128", "nvidia0", "nvidiactl", "dxg", "kgsl-3d0", "mali0"].into_iter().all(is_of_gpu)
        );
        assert!(!["null", "dri", "card0", "sda", "kmsg"].into_iter().any(is_of_gpu));
    }

    #[test]
    fn the_message_says_what_is_missing_and_what_to_do() {
        let found = looked_for(
            "No suitable graphics adapter found; noop not requested, vulkan drivers/libraries could not be loaded, metal \
             support not compiled in",
        );
        let message = NoAdapter { found }.to_string();
        assert!(message.contains("(vulkan drivers/libraries could not be loaded): install"), "{message}");
        assert!(message.ends_with("or use the cpu"), "{message}");
    }
}
