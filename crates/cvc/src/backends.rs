//! Which device decodes, and why.

use std::fmt;
use std::str::FromStr;

use cvc_codec::{Backend, DType, DecodePlan, DeviceKind, HostBuffer, Unsupported};
use cvc_cpu::CpuBackend;

use crate::error::Error;
use crate::reader::Array;
use crate::select::Rows;

/// Which device a caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// CUDA, then wgpu on a real GPU, then the processor: the first that can be had.
    #[default]
    Auto,
    /// This kind or an error; never another.
    Only(DeviceKind),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Only(DeviceKind::Cpu)),
            "cuda" => Ok(DeviceChoice::Only(DeviceKind::Cuda)),
            "wgpu" => Ok(DeviceChoice::Only(DeviceKind::Wgpu)),
            _ => Err(Error::argument("device", text, "one of auto, cpu, cuda, wgpu is needed")),
        }
    }
}

/// What was found out about one kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceReport {
    /// The kind.
    pub kind: DeviceKind,
    /// What the device calls itself, where there is one.
    pub name: Option<String>,
    /// Whether it can be used.
    pub available: bool,
    /// Why it can or cannot.
    pub reason: String,
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.reason)
    }
}

/// A backend that was chosen at run time, for callers that cannot be generic over it.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyBackend {
    /// The processor.
    Cpu(CpuBackend),
}

/// The device that was taken, and what was found out about those before it.
#[derive(Debug)]
pub struct Chosen {
    /// The backend.
    pub backend: AnyBackend,
    /// Why the devices that come first in the order were passed over.
    pub passed_over: Vec<DeviceReport>,
}

/// What is known of every kind of device, in the order of automatic choice.
pub fn devices() -> Vec<DeviceReport> {
    [DeviceKind::Cuda, DeviceKind::Wgpu, DeviceKind::Cpu].into_iter().map(|kind| probe(kind).0).collect()
}

/// Takes a device.
///
/// # Errors
/// The device that was asked for by kind cannot be had.
pub fn choose(choice: DeviceChoice) -> Result<Chosen, Error> {
    let order: &[DeviceKind] = match &choice {
        DeviceChoice::Auto => &[DeviceKind::Cuda, DeviceKind::Wgpu, DeviceKind::Cpu],
        DeviceChoice::Only(kind) => std::slice::from_ref(kind),
    };
    let mut passed_over = Vec::new();
    for kind in order {
        match probe(*kind) {
            (_, Some(backend)) => return Ok(Chosen { backend, passed_over }),
            (report, None) => passed_over.push(report),
        }
    }
    let report = passed_over.pop().expect("something was asked for");
    Err(Error::Device { device: report.kind.to_string(), reason: report.reason })
}

fn probe(kind: DeviceKind) -> (DeviceReport, Option<AnyBackend>) {
    match kind {
        DeviceKind::Cpu => {
            let backend = CpuBackend::new();
            let report = DeviceReport {
                kind,
                name: Some(backend.device().name.clone()),
                available: true,
                reason: "always there".into(),
            };
            (report, Some(AnyBackend::Cpu(backend)))
        }
        _ => {
            let reason = format!("this version of cvc has no {kind} backend; use the cpu");
            (DeviceReport { kind, name: None, available: false, reason }, None)
        }
    }
}

impl AnyBackend {
    /// The device's kind and name.
    pub fn device(&self) -> &cvc_codec::DeviceInfo {
        match self {
            AnyBackend::Cpu(backend) => backend.device(),
        }
    }

    /// Whether the device can run `plan`.
    ///
    /// # Errors
    /// Why not, and what to do instead.
    pub fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        match self {
            AnyBackend::Cpu(backend) => backend.supports(plan),
        }
    }

    /// Decodes rows to values of `out` on the device and brings them to the caller's memory.
    ///
    /// # Errors
    /// As [`Array::decode`].
    pub fn read_into(
        &self,
        array: &Array<'_>,
        rows: impl Into<Rows>,
        out: DType,
        dst: &mut HostBuffer<'_>,
    ) -> Result<(), Error> {
        match self {
            AnyBackend::Cpu(backend) => array.decode(backend, rows, out, dst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_choice_says_why_the_others_were_passed_over() {
        let chosen = choose(DeviceChoice::Auto).unwrap();
        assert_eq!(chosen.backend.device().kind, DeviceKind::Cpu);
        let kinds: Vec<DeviceKind> = chosen.passed_over.iter().map(|report| report.kind).collect();
        assert_eq!(kinds, [DeviceKind::Cuda, DeviceKind::Wgpu]);
        assert!(chosen.passed_over.iter().all(|report| !report.reason.is_empty()));
    }

    #[test]
    fn an_explicit_choice_never_falls_back() {
        let choice: DeviceChoice = "cuda".parse().unwrap();
        let error = choose(choice).err().unwrap().to_string();
        assert!(error.contains("cuda is not available"), "{error}");
        assert!("gpu".parse::<DeviceChoice>().unwrap_err().is_usage());
    }
}
