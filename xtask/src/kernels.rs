//! `cargo xtask kernels`: the PTX that ships, made from the sources of the kernels and looked at with the assembler.
//!
//! The compiler and the assemblers come as pinned wheels into virtual environments below `target/kernels`; no toolkit is
//! needed, and nothing of them is shipped. The compiler gives the same bytes everywhere, so `--check` compares bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{repo, venv};

const SOURCES: &str = "kernels";
const SHIPPED: &str = "crates/cvc-cuda/src/ptx";

/// Which assembler is asked about which processors: every one from the oldest that is supported to the newest that is known.
const ASSEMBLERS: &[(&str, &[&str])] = &[
    ("ptxas-12.0", &["sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90"]),
    ("ptxas-12.9", &["sm_100", "sm_120"]),
];

/// What a compiler may turn into something that rounds once, or not at all.
const FREE: &[&str] =
    &["mul.f32", "add.f32", "sub.f32", "mad.f32", "fma.", "mad.rn.f32", ".ftz", "div.approx", ".f64"];

/// Kernels that only have to bound what they compute, and may say `fma.rn`: docs/NUMERICS.md, "Bounds of searches".
const BOUNDS: &[&str] = &["scan"];

pub(crate) fn run(check: bool) -> Result<()> {
    let names = kernels(&repo::root().join(SOURCES))?;
    let made = repo::root().join("target/kernels/ptx");
    fs::create_dir_all(&made)?;
    let python = environment("nvrtc-12.0")?;
    let mut compile = Command::new(&python);
    compile.arg(repo::root().join(SOURCES).join("compile.py")).arg(&made);
    compile.args(names.iter().map(|name| format!("{name}.cu")));
    repo::run(&mut compile)?;

    let mut stale = Vec::new();
    for name in &names {
        let file = format!("{name}.ptx");
        let text = fs::read_to_string(made.join(&file))?;
        if let Some(line) = free_arithmetic(&text, BOUNDS.contains(&name.as_str())) {
            bail!("{file}: `{line}` may be contracted or flushed; say `.rn` (docs/NUMERICS.md)");
        }
        let shipped = repo::root().join(SHIPPED).join(&file);
        if fs::read_to_string(&shipped).ok().as_deref() != Some(&text) {
            stale.push(file);
            if !check {
                fs::write(&shipped, &text)?;
            }
        }
    }
    assemble(&made, &names)?;
    match (stale.as_slice(), check) {
        ([], _) => println!("kernels: {} modules as committed", names.len()),
        (stale, false) => println!("kernels: wrote {}", stale.join(", ")),
        (stale, true) => {
            bail!("{} in {SHIPPED}: not what {SOURCES} gives; run `cargo xtask kernels`", stale.join(", "))
        }
    }
    Ok(())
}

/// The names of all kernels, sorted.
fn kernels(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            let name = path.file_stem().and_then(|name| name.to_str());
            names.push(name.context("the name of a kernel is not text")?.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The first line with arithmetic that is free to be contracted or flushed, or that is fused where it may not be.
fn free_arithmetic(ptx: &str, may_fuse: bool) -> Option<&str> {
    let code = ptx.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('.'));
    let fused = |line: &str| may_fuse && line.starts_with("fma.rn.f32");
    let mut code = code.filter(|line| FREE.iter().any(|free| line.contains(free)) && !fused(line));
    code.next()
}

/// The Python of a virtual environment that has what `kernels/NAME.txt` lists.
fn environment(name: &str) -> Result<PathBuf> {
    let list = repo::root().join(SOURCES).join(format!("{name}.txt"));
    let pinned = ["--no-deps", "--require-hashes", "--only-binary", ":all:"];
    venv::with_requirements(&repo::root().join("target/kernels").join(name), &list, &pinned)
}

/// Has every module assembled for every processor. Reports spills, which no kernel should have.
fn assemble(made: &Path, names: &[String]) -> Result<()> {
    for (assembler, processors) in ASSEMBLERS {
        let python = environment(assembler)?;
        let mut find = Command::new(&python);
        let program = "import importlib.util as u; print(u.find_spec('nvidia.cuda_nvcc').submodule_search_locations[0])";
        let folder = String::from_utf8(repo::output(find.args(["-c", program]))?)?;
        let ptxas = Path::new(folder.trim()).join("bin/ptxas");
        for processor in *processors {
            for name in names {
                let mut command = Command::new(&ptxas);
                command
                    .args(["-v", "-arch", processor, "-o", "/dev/null"])
                    .arg(made.join(format!("{name}.ptx")));
                let output = command.stdout(Stdio::null()).output().context("cannot start ptxas")?;
                // It has been seen to say what is wrong and then to end by a signal.
                let said = String::from_utf8_lossy(&output.stderr);
                if !output.status.success() || said.contains("error") {
                    bail!("ptxas does not assemble {name}.ptx for {processor}: {said}");
                }
                if let Some(line) = said.lines().find(|line| spills(line)) {
                    bail!("{name}.ptx for {processor} keeps registers in memory: {}", line.trim());
                }
            }
        }
        println!("{assembler}: {} modules for {}", names.len(), processors.join(", "));
    }
    Ok(())
}

fn spills(line: &str) -> bool {
    line.contains("spill stores") && !line.contains(" 0 bytes spill stores, 0 bytes spill loads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_that_may_be_contracted_is_found() {
        let around = |line: &str| format!(".version 8.0\n// mul.f32\n\tadd.s32 \t%r1, %r2, %r3;\n\t{line}\n");
        let free = |line: &str| free_arithmetic(&around(line), false).map(str::to_owned);
        assert_eq!(free("mul.rn.f32 \t%f1, %f2, %f3;"), None);
        for line in
            ["mul.f32 %f1, %f2, %f3;", "@%p1 add.f32 %f1, %f2, %f3;", "fma.rn.f32 %f1, %f2, %f3, %f4;"]
        {
            assert_eq!(free(line).as_deref(), Some(line));
        }
        assert!(free("mul.rn.ftz.f32 %f1, %f2, %f3;").is_some());
        assert_eq!(free_arithmetic(&around("fma.rn.f32 %f1, %f2, %f3, %f4;"), true), None);
        assert!(free_arithmetic(&around("fma.rn.ftz.f32 %f1, %f2, %f3, %f4;"), true).is_some());
        assert!(free_arithmetic(&around("mul.f32 %f1, %f2, %f3;"), true).is_some());
    }

    #[test]
    fn spills_are_read() {
        assert!(!spills("    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"));
        assert!(spills("    8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads"));
        assert!(!spills("ptxas info    : Used 32 registers"));
    }
}
