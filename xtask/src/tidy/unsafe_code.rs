//! Where `unsafe` may be, and what must stand beside it.

use super::source::{code_only, has_word};
use crate::repo::Tree;

/// The files and folders with `unsafe` in them; nowhere else.
const ALLOWED: &[&str] = &[
    // Intrinsics, each behind a token that only detection can make.
    "crates/cvc-cpu/src/ops/",
    // Calls of code for more than the target, behind the same tokens.
    "crates/cvc-cpu/src/loops.rs",
    // A hint that reads nothing.
    "crates/cvc-cpu/src/fetch.rs",
    "crates/cvc-cpu/src/scan/candidates.rs",
    "crates/cvc-cpu/src/scan/levels.rs",
    "crates/cvc-cpu/src/scan/products.rs",
    // Memory that NVIDIA's driver gives, copies of it, and what lends it while copies are under way.
    "crates/cvc-cuda/src/driver.rs",
    "crates/cvc-cuda/src/slot.rs",
    // The one place that launches kernels.
    "crates/cvc-cuda/src/launch.rs",
    // Looking into the driver's library before it is used.
    "crates/cvc-cuda/src/probe.rs",
    // Device memory that a caller gives by its address, and a test that does.
    "crates/cvc-cuda/src/buffer.rs",
    "crates/cvc-cuda/tests/pipeline.rs",
    // A shared library with a C interface, and loading it.
    "crates/cvc-cuda-standin/src/exports.rs",
    "crates/cvc-cuda-standin/src/handle.rs",
    // Memory of objects of Python, by the buffer protocol.
    "crates/cvc-python/src/memory.rs",
    // Structs of C behind capsules, and calls that C makes into the package.
    "crates/cvc-python/src/arrow.rs",
    "crates/cvc-python/src/dlpack.rs",
    "crates/cvc-python/src/interpreter.rs",
    // The same between two versions of Arrow's crates, and for DataFusion's package.
    "crates/cvc-datafusion/src/bridge.rs",
    "crates/cvc-datafusion/src/python.rs",
    // A memory map, which another program can change under us.
    "crates/cvc/src/io/mmap.rs",
    // Advice on memory that was just allocated.
    "crates/cvc/src/huge_pages.rs",
    // A global allocator that counts, in a test of its own.
    "crates/cvc/tests/allocations.rs",
];

/// Crate roots that rule it out for good.
const FORBIDDING: &[&str] = &[
    "crates/cvc-format/src/lib.rs",
    "crates/cvc-codec/src/lib.rs",
    "crates/cvc-wgpu/src/lib.rs",
    "crates/cvc-cli/src/main.rs",
    "crates/cvc-conformance/src/lib.rs",
    "xtask/src/main.rs",
];

/// How many lines above a block its reason is looked for.
const REACH: usize = 5;

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for root in FORBIDDING {
        let forbids = |text: &str| text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
        if !tree.text(root).is_some_and(forbids) {
            problems.push(format!("{root}: must say #![forbid(unsafe_code)]"));
        }
    }
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        let allowed =
            ALLOWED.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place));
        let shipped = path.starts_with("crates/") && path.contains("/src/");
        let lines: Vec<&str> = text.lines().collect();
        for (i, code) in code_only(text).lines().enumerate() {
            if !has_word(code, "unsafe") {
                continue;
            }
            if !allowed {
                problems.push(format!(
                    "{path}:{}: `unsafe` outside its rooms; do it safely, or argue for a line in \
                     xtask/src/tidy/unsafe_code.rs",
                    i + 1
                ));
            }
            let reason = || lines[i.saturating_sub(REACH)..=i].iter().any(|line| line.contains("// SAFETY:"));
            if shipped && opens_block(code) && !reason() {
                problems.push(format!(
                    "{path}:{}: an `unsafe` block without its reason; write `// SAFETY:` above it, with the \
                     invariant and the line that upholds it",
                    i + 1
                ));
            }
        }
    }
    problems
}

fn opens_block(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| code[at + word.len()..].trim_start().starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems beyond those of the crate roots, which these trees do not have.
    fn problems(path: &str, text: &str) -> Vec<String> {
        let all = check(&Tree::of(&[(path, text)]));
        all.into_iter().filter(|problem| !problem.contains("must say")).collect()
    }

    #[test]
    fn unsafe_outside_its_rooms_is_reported_with_its_line() {
        let found = problems("crates/cvc/src/reader.rs", "//! Why.\nunsafe fn f() {}\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/cvc/src/reader.rs:2: "));
        assert_eq!(problems("crates/cvc-cpu/src/ops.rs", "unsafe fn f() {}\n").len(), 1);
        assert!(problems("crates/cvc-cpu/src/ops/copy.rs", "unsafe fn f() {}\n").is_empty());
    }

    #[test]
    fn words_about_unsafe_are_not_unsafe() {
        let text = "#![deny(unsafe_code)]\n// unsafe { }\nlet s = \"unsafe\";\n";
        assert!(problems("crates/cvc/src/lib.rs", text).is_empty());
    }

    #[test]
    fn a_block_needs_its_reason_nearby() {
        let path = "crates/cvc-cpu/src/ops/x86.rs";
        assert_eq!(problems(path, "fn f() { unsafe { g() } }").len(), 1);
        assert!(problems(path, "// SAFETY: `g` is always right.\nunsafe { g() }").is_empty());
        let far = "// SAFETY: too far away.\n\n\n\n\n\nunsafe { g() }";
        assert_eq!(problems(path, far).len(), 1);
    }

    #[test]
    fn a_root_that_does_not_forbid_is_reported() {
        let roots: Vec<_> = FORBIDDING.iter().map(|root| (*root, "#![forbid(unsafe_code)]\n")).collect();
        assert!(check(&Tree::of(&roots)).is_empty());
        assert_eq!(check(&Tree::of(&roots[1..])).len(), 1);
    }
}
