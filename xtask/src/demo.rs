//! `cargo xtask demo`: the `cvc` program and the library on real vectors, start to end.

use anyhow::Result;

use crate::repo;

pub(crate) fn run() -> Result<()> {
    let program = repo::build_program(&["--package", "cvc-cli"], "cvc")?;
    let mut demo = repo::cargo(&["run", "--quiet", "--release", "--package", "cvc"]);
    demo.args(["--features", "mmap,rayon,input,wgpu", "--example", "demo", "--", &program]);
    repo::run(&mut demo)
}
