//! The suite of searching, on the first adapter: once as it is, and once with limits so low that everything is split.
//!
//! Without an adapter the skip is reported, and is a failure where `CVC_REQUIRE` lists `wgpu`.

#[path = "support/limited.rs"]
mod limited;
mod support;

mod all_there_is {
    cvc_conformance::scan_conformance!(super::support::backend());
}

mod low_limits {
    cvc_conformance::scan_conformance!(super::limited::backend());
}

#[test]
fn rows_are_searched_stage_after_stage() {
    for backend in [support::backend(), limited::backend()].into_iter().flatten() {
        cvc_conformance::scan::more_rows_than_a_stage(&backend.0, 200_000);
    }
}
