//! The suite, for every level of this backend that this build has.
//!
//! A level that this processor lacks is reported as skipped, and is a failure where `CVC_REQUIRE` lists it.

use cvc_conformance::{Host, require};
use cvc_cpu::{CpuBackend, Level};

fn subject(name: &str) -> Option<Host<CpuBackend>> {
    let level = Level::available().into_iter().find(|level| level.name() == name);
    let level = require::device(name, level.ok_or("this processor does not have it"))?;
    Some(Host(CpuBackend::with_level(level)))
}

mod portable {
    cvc_conformance::conformance!(super::subject("portable"));
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    cvc_conformance::conformance!(super::subject("avx2"));
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    cvc_conformance::conformance!(super::subject("avx512"));
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon {
    cvc_conformance::conformance!(super::subject("neon"));
}

#[test]
fn levels_that_are_not_run_here_are_reported() {
    for name in Level::NAMES {
        subject(name);
    }
}
