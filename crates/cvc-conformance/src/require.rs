//! A device that is absent is reported, and is a failure where it was said to be there.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

/// What `result` holds, or `None` after printing why the tests of `kind` are skipped.
///
/// The environment variable `CVC_REQUIRE` lists the kinds that this machine must have, with commas between
/// (`cuda,wgpu`, or a level of the CPU backend such as `avx512`). (Tests may read the environment; the
/// libraries never do.)
///
/// # Panics
/// `CVC_REQUIRE` names this kind and it is not there.
pub fn device<T>(kind: &str, result: Result<T, impl Display>) -> Option<T> {
    let required = std::env::var("CVC_REQUIRE").unwrap_or_default();
    decide(kind, result, &required)
}

fn decide<T>(kind: &str, result: Result<T, impl Display>, required: &str) -> Option<T> {
    match result {
        Ok(device) => Some(device),
        Err(reason) if required.split(',').any(|required| required.trim() == kind) => {
            panic!("CVC_REQUIRE={required} asks for {kind}, but: {reason}")
        }
        Err(reason) => {
            report(kind, &reason);
            None
        }
    }
}

/// Says once for each kind that its tests are skipped.
fn report(kind: &str, reason: &dyn Display) {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if reported.insert(kind.to_owned()) {
        // Not by `eprintln!`, which the test runner would swallow: a skip must be seen. If it cannot be
        // written, there is nobody to see it.
        let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: no {kind} here: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::decide;

    #[test]
    fn absence_is_a_skip_unless_required() {
        assert_eq!(decide("cuda", Ok::<_, &str>(1), ""), Some(1));
        assert_eq!(decide("cuda", Err::<u8, _>("no driver"), "wgpu"), None);
    }

    #[test]
    #[should_panic(expected = "asks for cuda, but: no driver")]
    fn absence_is_a_failure_where_required() {
        decide("cuda", Err::<u8, _>("no driver"), "wgpu, cuda");
    }
}
