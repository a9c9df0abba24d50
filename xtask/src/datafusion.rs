//! What `cargo xtask datafusion` and `cargo xtask test --full` do with `crates/cvc-datafusion`, which is a workspace of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::python::{self, Installed};
use crate::repo;

const PACKAGE: &str = "crates/cvc-datafusion";

/// Its formatting, and what clippy says of it.
pub(crate) fn lints() -> Result<()> {
    repo::run(&mut cargo(&["fmt", "--check"]))?;
    let mut clippy = cargo(&["clippy", "--locked", "--all-targets", "--all-features"]);
    repo::run(clippy.args(["--", "-D", "warnings"]))
}

/// Its tests in Rust; doctests are among them.
pub(crate) fn tests() -> Command {
    cargo(&["test", "--locked", "--no-fail-fast"])
}

/// Its wheel, beside the Python package and DataFusion's own.
pub(crate) fn install(beside: &Installed) -> Result<()> {
    let wheel = python::test_wheel(Path::new(PACKAGE), &target().join("wheels"), &target())?;
    beside.add(&wheel)
}

/// The tests of that.
pub(crate) fn python_tests(beside: &Installed) -> Command {
    beside.pytest(&repo::root().join(PACKAGE), "tests/python")
}

/// Its builds have a folder of their own: nothing in it is built as that of the other workspace is.
fn target() -> PathBuf {
    repo::root().join("target/datafusion")
}

fn cargo(args: &[&str]) -> Command {
    let mut command = repo::cargo(args);
    command.current_dir(repo::root().join(PACKAGE)).env("CARGO_TARGET_DIR", target());
    command
}
