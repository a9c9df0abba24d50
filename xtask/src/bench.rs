//! `cargo xtask bench [NAME]`: makes what the benches need and hands over to `benches/bench.py`.
//!
//! The rivals are Python packages, so the program that runs the benches is Python too. What it needs is pinned in
//! `benches/requirements*.txt` and lies in `benches/.venv*`, which are made anew when those lists change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::repo;

pub(crate) fn run(name: Option<&str>) -> Result<()> {
    let program = repo::build_program(&["--package", "cvc-cli"], "cvc")?;
    // The features that the `cvc` program has.
    let features = ["--package", "cvc", "--features", "input,mmap,rayon", "--example", "bench_engine"];
    let engine = repo::build_program(&features, "bench_engine")?;
    let mut bench = Command::new(python("")?);
    bench.arg("benches/bench.py").current_dir(repo::root());
    bench.args(["--cvc", &program, "--engine", &engine]);
    bench.arg("--python-2x").arg(python("-2x")?).args(name);
    let status = bench.status().context("cannot start the Python of benches/.venv")?;
    if !status.success() {
        bail!("benches/bench.py ended with {status}");
    }
    Ok(())
}

/// The interpreter of `benches/.venv`, with the packages of `benches/requirements.txt`, or of the pair of that name.
fn python(pair: &str) -> Result<PathBuf> {
    let benches = repo::root().join("benches");
    let venv = benches.join(format!(".venv{pair}"));
    let requirements = benches.join(format!("requirements{pair}.txt"));
    let interpreter = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = fs::read_to_string(&requirements).context("the requirements of benches")?;
    // Written last, so that a set-up that was interrupted begins again.
    let installed = venv.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(interpreter);
    }
    println!("making benches/.venv{pair}");
    repo::run(Command::new(base_python()?).args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.arg("--requirement").arg(requirements);
    repo::run(&mut pip).context("the rivals are Python packages; is their index within reach?")?;
    fs::write(&installed, wanted)?;
    Ok(interpreter)
}

/// A Python that is new enough for the pinned NumPy.
fn base_python() -> Result<&'static Path> {
    const TEST: &str = "import sys; sys.exit(sys.version_info < (3, 11))";
    let names = ["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11"];
    let is_it = |name: &&str| {
        let mut probe = Command::new(name);
        probe.args(["-c", TEST]).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let name = names.into_iter().find(is_it);
    name.map(Path::new).context("the benches need Python 3.11 or newer, with venv; install it and try again")
}
