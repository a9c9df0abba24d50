//! Searching finds what the reference finds, at every level that this build has.

use cvc_conformance::require;
use cvc_cpu::{CpuBackend, Level};

fn backend(name: &str) -> Option<CpuBackend> {
    let level = Level::available().into_iter().find(|level| level.name() == name);
    require::device(name, level.ok_or("this processor does not have it")).map(CpuBackend::with_level)
}

mod portable {
    cvc_conformance::scan_conformance!(super::backend("portable"));
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    cvc_conformance::scan_conformance!(super::backend("avx2"));
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    cvc_conformance::scan_conformance!(super::backend("avx512"));
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon {
    cvc_conformance::scan_conformance!(super::backend("neon"));
}
