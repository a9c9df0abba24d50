//! The suite, on the first adapter: once as it is, and once with limits so low that everything is split.
//!
//! Without an adapter the skip is reported, and is a failure where `CVC_REQUIRE` lists `wgpu`.

#[path = "support/limited.rs"]
mod limited;
mod support;

mod all_there_is {
    cvc_conformance::conformance!(super::support::backend());
}

mod low_limits {
    cvc_conformance::conformance!(super::limited::backend());
}
