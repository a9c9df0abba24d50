//! `cargo xtask demo`: the `cvc` program and the library on real vectors, start to end.

use anyhow::Result;

use crate::{repo, software_gpu};

pub(crate) fn run() -> Result<()> {
    let program = repo::build_program(&["--package", "cvc-cli"], "cvc")?;
    let mut demo = repo::cargo(&["run", "--quiet", "--release", "--package", "cvc"]);
    demo.args(["--features", "mmap,rayon,input,cuda,wgpu", "--example", "demo", "--", &program]);
    software_gpu::hush(&mut demo);
    repo::run(&mut demo)
}
