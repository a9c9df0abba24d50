//! Who may depend on whom.

use serde_json::Value;

/// Every crate of the workspace, and the crates of the workspace that it may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("cvc-format", &[]),
    ("cvc-codec", &["cvc-format"]),
    ("cvc-cpu", &["cvc-codec"]),
    ("cvc-cuda", &["cvc-codec"]),
    ("cvc-wgpu", &["cvc-codec"]),
    ("cvc", &["cvc-format", "cvc-codec", "cvc-cpu", "cvc-cuda", "cvc-wgpu"]),
    ("cvc-search", &["cvc"]),
    ("cvc-remote", &["cvc"]),
    ("cvc-report", &["cvc", "cvc-search"]),
    ("cvc-store", &["cvc"]),
    ("cvc-arrow", &["cvc"]),
    ("cvc-convert", &["cvc", "cvc-arrow", "cvc-store"]),
    ("cvc-cli", &["cvc", "cvc-convert", "cvc-remote", "cvc-report", "cvc-search", "cvc-store"]),
    ("cvc-python", &["cvc", "cvc-arrow", "cvc-convert", "cvc-remote", "cvc-search", "cvc-store"]),
    ("cvc-zarrs", &["cvc"]),
    // Unpublished; it tests what it likes.
    ("cvc-conformance", &["cvc-format", "cvc-codec", "cvc-cpu", "cvc"]),
    ("cvc-cuda-standin", &[]),
    ("xtask", &[]),
];

/// What any crate may use in its tests.
const FOR_TESTS: &[&str] = &["cvc-conformance", "cvc-cuda-standin"];

/// `metadata` is the output of `cargo metadata --no-deps`.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut packages = list(metadata, "packages");
    packages.sort_by_key(|package| text(package, "name"));
    for package in packages {
        let name = text(package, "name");
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
            problems
                .push(format!("{name}: a crate without a layer; give it a line in xtask/src/tidy/layers.rs"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let on = text(dependency, "name");
            let ours = LAYERS.iter().any(|(layer, _)| *layer == on);
            // "dev" or "build"; nothing for an ordinary dependency.
            let for_tests = text(dependency, "kind") == "dev";
            if ours && !allowed.contains(&on) && !(for_tests && FOR_TESTS.contains(&on)) {
                problems.push(format!(
                    "{name} depends on {on}, which is not below it; move what it needs down a layer \
                     (layers: docs/ARCHITECTURE.md)"
                ));
            }
        }
    }
    problems
}

fn list<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    value.get(key).and_then(Value::as_array).map(|items| items.iter().collect()).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The problems of one package with one dependency.
    fn edge(package: &str, on: &str, kind: Value) -> Vec<String> {
        check(&json!({ "packages": [{ "name": package, "dependencies": [{ "name": on, "kind": kind }] }] }))
    }

    #[test]
    fn edges_down_are_allowed_and_edges_up_are_not() {
        assert!(edge("cvc", "cvc-cpu", Value::Null).is_empty());
        assert!(edge("cvc-codec", "thiserror", Value::Null).is_empty());
        assert_eq!(edge("cvc-format", "cvc-codec", Value::Null).len(), 1);
        assert_eq!(edge("cvc-cli", "cvc-format", Value::Null).len(), 1);
        assert_eq!(edge("cvc-cpu", "cvc", json!("build")).len(), 1);
    }

    #[test]
    fn the_suite_is_for_tests_only() {
        assert!(edge("cvc-cpu", "cvc-conformance", json!("dev")).is_empty());
        assert_eq!(edge("cvc-cpu", "cvc-conformance", Value::Null).len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_is_reported() {
        assert_eq!(edge("cvc-new", "cvc", Value::Null).len(), 1);
    }

    #[test]
    fn the_layers_have_no_cycle() {
        // Written bottom up: a crate may only depend on crates above its own line.
        for (i, (_, allowed)) in LAYERS.iter().enumerate() {
            for on in *allowed {
                assert!(LAYERS[..i].iter().any(|(layer, _)| layer == on), "{on}");
            }
        }
    }
}
