//! The suite, for every level of this backend that this build has.
//!
//! A level that this processor lacks is reported as skipped, and is a failure where `CVC_REQUIRE` lists it.

use cvc_conformance::{Host, require};
use cvc_cpu::{CpuBackend, Level, Stores};

fn level(name: &str) -> Option<Level> {
    let level = Level::available().into_iter().find(|level| level.name() == name);
    require::device(name, level.ok_or("this processor does not have it"))
}

fn subject(name: &str) -> Option<Host<CpuBackend>> {
    Some(Host(CpuBackend::with_level(level(name)?)))
}

/// Whatever the size of the destination, which is otherwise far too small to be streamed.
fn streaming(name: &str) -> Option<Host<CpuBackend>> {
    Some(Host(CpuBackend::with_stores(level(name)?, Stores::Streaming)))
}

mod portable {
    cvc_conformance::conformance!(super::subject("portable"));
}

mod portable_streaming {
    cvc_conformance::conformance!(super::streaming("portable"));
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    cvc_conformance::conformance!(super::subject("avx2"));
}

#[cfg(target_arch = "x86_64")]
mod avx2_streaming {
    cvc_conformance::conformance!(super::streaming("avx2"));
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    cvc_conformance::conformance!(super::subject("avx512"));
}

#[cfg(target_arch = "x86_64")]
mod avx512_streaming {
    cvc_conformance::conformance!(super::streaming("avx512"));
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon {
    cvc_conformance::conformance!(super::subject("neon"));
}

#[test]
fn levels_that_are_not_run_here_are_reported() {
    for name in Level::NAMES {
        level(name);
    }
}
