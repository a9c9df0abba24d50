//! What the driver says, with what to do about it.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::cudaError_enum as Code;
use cvc_codec::{DecodeError, DeviceKind};
use thiserror::Error;

/// The driver release that the kernels need, and the version of CUDA that it has.
pub(crate) const NEEDED: &str = "a driver of release 525 or newer (CUDA 12.0)";
/// The same as `cuDriverGetVersion` counts.
pub(crate) const NEEDED_VERSION: i32 = 12000;

/// Why there is no CUDA device, and what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// There is no driver.
    #[error("the library of NVIDIA's driver (libcuda.so.1, nvcuda.dll) is not installed; install {NEEDED}")]
    NoLibrary,
    /// The library lacks calls that are needed.
    #[error(
        "the library of NVIDIA's driver lacks {call}: it is too old, or not the driver's; install {NEEDED}"
    )]
    MissingCall {
        /// The first that is missing.
        call: &'static str,
    },
    /// The driver is too old.
    #[error("NVIDIA's driver supports CUDA {}; install {NEEDED}", version(*.found))]
    OldDriver {
        /// Its version of CUDA: 1000 times the major and 10 times the minor one.
        found: i32,
    },
    /// The library is that of a toolkit, for linking only.
    #[error(
        "the libcuda that was found is the stub library of a CUDA toolkit, for linking only; take its folder out of the \
         library path, and install {NEEDED}"
    )]
    Stub,
    /// The driver sees no card.
    #[error(
        "NVIDIA's driver sees no card; look at `nvidia-smi`, at CUDA_VISIBLE_DEVICES, and at whether a container was given one"
    )]
    NoDevice,
    /// There is no card of this number.
    #[error("there is no card {index}; those found are 0 to {last}")]
    NoSuchDevice {
        /// What was asked for.
        index: usize,
        /// The number of the last one.
        last: usize,
    },
    /// The driver failed.
    #[error("NVIDIA's driver failed to {what}: {problem}")]
    Driver {
        /// To do what.
        what: &'static str,
        /// What it said, and what to do.
        problem: String,
    },
}

impl Unavailable {
    /// The driver failed to do `what`.
    pub(crate) fn driver(what: &'static str, error: DriverError) -> Unavailable {
        match error.0 {
            Code::CUDA_ERROR_STUB_LIBRARY => Unavailable::Stub,
            Code::CUDA_ERROR_NO_DEVICE => Unavailable::NoDevice,
            _ => Unavailable::Driver { what, problem: explained(error) },
        }
    }
}

/// `12.4`
pub(crate) fn version(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// What the driver said, and what to do, in one line.
pub(crate) fn explained(error: DriverError) -> String {
    let name = error
        .error_name()
        .map_or_else(|_| format!("{:?}", error.0), |name| name.to_string_lossy().into_owned());
    let driver =
        crate::probe::driver_version().map_or_else(String::new, |found| format!("CUDA {}", version(found)));
    let remedy = match error.0 {
        Code::CUDA_ERROR_OUT_OF_MEMORY => {
            "the card has not so much free memory (`cvc devices` shows it); free some, or decode fewer rows at a time"
                .into()
        }
        Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => format!(
            "the driver, which supports {driver}, does not read PTX 8.0; install {NEEDED}, or the compatibility package \
             of your system"
        ),
        Code::CUDA_ERROR_INVALID_PTX | Code::CUDA_ERROR_NO_BINARY_FOR_GPU => format!(
            "the driver, which supports {driver}, cannot compile the kernels for this card; cards of compute capability \
             7.0 or newer are needed, and {NEEDED}"
        ),
        Code::CUDA_ERROR_JIT_COMPILER_NOT_FOUND => {
            "the driver's compiler for PTX (libnvidia-ptxjitcompiler) is not installed; install all of the driver".into()
        }
        Code::CUDA_ERROR_JIT_COMPILATION_DISABLED => {
            "compilation of PTX is switched off; unset CUDA_DISABLE_PTX_JIT".into()
        }
        Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the kernel module and the library of the driver are of different releases; restart the machine after an \
             update of the driver"
                .into()
        }
        Code::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another process has the card for itself; wait for it, or change the compute mode of the card".into()
        }
        Code::CUDA_ERROR_ILLEGAL_ADDRESS
        | Code::CUDA_ERROR_MISALIGNED_ADDRESS
        | Code::CUDA_ERROR_LAUNCH_FAILED
        | Code::CUDA_ERROR_ILLEGAL_INSTRUCTION => {
            "a kernel of this program touched memory that it must not, and no more can be done on this card until the \
             program starts again; if `--device cpu` decodes the file, please report it"
                .into()
        }
        Code::CUDA_ERROR_ECC_UNCORRECTABLE | Code::CUDA_ERROR_HARDWARE_STACK_ERROR => {
            "the card is faulty; look at `nvidia-smi -q`".into()
        }
        _ => error.error_string().map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned()),
    };
    if remedy.is_empty() { name } else { format!("{name}: {remedy}") }
}

/// A driver call that failed while something was decoded.
pub(crate) fn failed(error: DriverError) -> DecodeError {
    device(explained(error))
}

pub(crate) fn device(problem: impl Into<String>) -> DecodeError {
    DecodeError::Device { device: DeviceKind::Cuda, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_says_what_to_do() {
        let reasons = [
            Unavailable::NoLibrary,
            Unavailable::MissingCall { call: "cuMemAllocAsync" },
            Unavailable::OldDriver { found: 11040 },
            Unavailable::Stub,
        ];
        for reason in reasons {
            assert!(reason.to_string().contains("install a driver of release 525"), "{reason}");
        }
        assert!(Unavailable::OldDriver { found: 11040 }.to_string().contains("CUDA 11.4"));
    }
}
