//! One name, everywhere it lives: an op is a reference, a CPU file, a kernel, a shader and a heading; a codec is a page.

use super::docs::headings;
use crate::repo::Tree;

const REFERENCES: &str = "crates/cvc-codec/src/ops";
const CPU: &str = "crates/cvc-cpu/src/ops";
const KERNELS: &str = "kernels";
const SHADERS: &str = "shaders";
const CODECS: &str = "crates/cvc-codec/src/codecs";
const NUMERICS: &str = "docs/NUMERICS.md";

/// What the page of a codec answers.
const CODEC_PAGE: &[&str] = &["Use when", "Parameters", "Bytes", "Exactness", "Edge cases"];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = check_ops(tree);
    problems.extend(check_codecs(tree));
    problems
}

fn check_ops(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let numerics = headings(tree.text(NUMERICS).unwrap_or_default());
    let file = |path| str::strip_prefix(path, REFERENCES)?.strip_prefix('/')?.strip_suffix(".rs");
    let ops: Vec<&str> =
        tree.paths_under(REFERENCES).filter_map(file).filter(|op| !op.contains('/')).collect();
    if ops.is_empty() {
        problems.push(format!("{REFERENCES}: no ops; if they moved, tell xtask/src/tidy/ops.rs where"));
    }
    for op in ops {
        if !tree.exists(&format!("{CPU}/{op}.rs")) && !tree.exists(&format!("{CPU}/{op}")) {
            problems
                .push(format!("{CPU}/{op}.rs: missing; the op {op} has a reference, so the CPU owes it too"));
        }
        // What only follows others is no kernel of its own, but a part of them.
        let has_kernel = ["cu", "cuh"].iter().any(|ending| tree.exists(&format!("{KERNELS}/{op}.{ending}")));
        if !has_kernel {
            problems.push(format!(
                "{KERNELS}/{op}.cu: missing; the op {op} has a reference, so CUDA owes it too"
            ));
        }
        if !tree.exists(&format!("{SHADERS}/{op}.wgsl")) {
            problems.push(format!(
                "{SHADERS}/{op}.wgsl: missing; the op {op} has a reference, so GPUs owe it too"
            ));
        }
        let named = |heading: &String| {
            heading.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == op)
        };
        if !numerics.iter().any(named) {
            problems.push(format!("{NUMERICS}: no heading `{op}`; state the arithmetic of the op there"));
        }
    }
    problems
}

fn check_codecs(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let is_codec = |path: &str| path.starts_with(CODECS) && path.ends_with(".rs");
    let mut names: Vec<String> = Vec::new();
    for (_, text) in tree.texts().filter(|(path, _)| is_codec(path)) {
        names.extend(codec_names(text));
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        problems.push(format!("{CODECS}: no codec names; if they moved, tell xtask/src/tidy/ops.rs where"));
    }
    for name in names {
        let path = format!("docs/codecs/{name}.md");
        let Some(page) = tree.text(&path) else {
            problems.push(format!("{path}: missing; the codec {name} needs a page"));
            continue;
        };
        let headings = headings(page);
        for needed in CODEC_PAGE {
            if !headings.iter().any(|heading| heading == needed) {
                problems.push(format!("{path}: no heading `{needed}`; every codec page has it"));
            }
        }
    }
    problems
}

/// The strings that `fn name` of the codecs in this file can return.
fn codec_names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, signature) in source.match_indices("fn name(&self) -> &'static str {") {
        let body = &source[at + signature.len()..];
        let mut depth = 1;
        let end = body.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        let strings = body[..end.unwrap_or(body.len())].split('"').skip(1).step_by(2);
        names.extend(strings.map(str::to_owned));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_names_are_read_from_the_source() {
        let plain = "fn name(&self) -> &'static str {\n    \"raw\"\n}\nfn other() -> &'static str { \"no\" }";
        assert_eq!(codec_names(plain), ["raw"]);
        let chosen = "fn name(&self) -> &'static str {\n match self { A => { \"a\" } B => \"b\" } }\nconst C: &str = \"c\";";
        assert_eq!(codec_names(chosen), ["a", "b"]);
    }

    #[test]
    fn an_op_is_a_reference_a_cpu_file_a_kernel_a_shader_and_a_heading() {
        let whole = [
            ("crates/cvc-codec/src/ops/copy.rs", ""),
            ("crates/cvc-codec/src/ops/widen_f16.rs", ""),
            ("crates/cvc-cpu/src/ops/copy.rs", ""),
            ("crates/cvc-cpu/src/ops/widen_f16/avx2.rs", ""),
            ("kernels/copy.cu", ""),
            ("kernels/widen_f16.cuh", ""),
            ("shaders/copy.wgsl", ""),
            ("shaders/widen_f16.wgsl", ""),
            ("docs/NUMERICS.md", "# Numerics\n## `copy`\n## `widen_f16`: exact\n"),
        ];
        assert!(check_ops(&Tree::of(&whole)).is_empty());
        assert_eq!(check_ops(&Tree::of(&whole[..2])).len(), 8);
        assert_eq!(check_ops(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn a_codec_has_a_page_with_every_heading() {
        let codec = ("crates/cvc-codec/src/codecs/raw.rs", "fn name(&self) -> &'static str { \"raw\" }");
        let page = "# raw\n## Use when\n## Parameters\n## Bytes\n## Exactness\n## Edge cases\n";
        assert!(check_codecs(&Tree::of(&[codec, ("docs/codecs/raw.md", page)])).is_empty());
        assert_eq!(check_codecs(&Tree::of(&[codec, ("docs/codecs/raw.md", "# raw\n## Bytes\n")])).len(), 4);
        assert_eq!(check_codecs(&Tree::of(&[codec])).len(), 1);
    }
}
