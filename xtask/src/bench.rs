//! `cargo xtask bench [NAME]`: makes what the benches need and hands over to `benches/bench.py`.
//!
//! The rivals are Python packages, so the program that runs the benches is Python too. What it needs is pinned in
//! `benches/requirements*.txt` and lies in `benches/.venv*`, which are made anew when those lists change.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{python, repo, venv};

pub(crate) fn run(name: Option<&str>) -> Result<()> {
    let program = repo::build_program(&["--package", "cvc-cli"], "cvc")?;
    // The features that the `cvc` program has.
    let features = ["--package", "cvc", "--features", "input,mmap,rayon", "--example", "bench_engine"];
    let engine = repo::build_program(&features, "bench_engine")?;
    let features = ["--package", "cvc-search", "--features", "rayon", "--example", "bench_search"];
    let search = repo::build_program(&features, "bench_search")?;
    let interpreter = environment("")?;
    python::install_for_benches(&interpreter)?;
    let mut bench = Command::new(interpreter);
    bench.arg("benches/bench.py").current_dir(repo::root());
    bench.args(["--cvc", &program, "--engine", &engine, "--search", &search]);
    bench.arg("--python-2x").arg(environment("-2x")?).args(name);
    let status = bench.status().context("cannot start the Python of benches/.venv")?;
    if !status.success() {
        bail!("benches/bench.py ended with {status}");
    }
    Ok(())
}

/// The interpreter of `benches/.venv`, with the packages of `benches/requirements.txt`, or of the pair of that name.
fn environment(pair: &str) -> Result<PathBuf> {
    let benches = repo::root().join("benches");
    let requirements = benches.join(format!("requirements{pair}.txt"));
    venv::with_requirements(&benches.join(format!(".venv{pair}")), &requirements, &[])
}
