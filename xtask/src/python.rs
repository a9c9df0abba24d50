//! The Python package: `cargo xtask wheel`, and what `cargo xtask test` does with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::{repo, venv};

const PACKAGE: &str = "crates/cvc-python";

/// What upstream's own tests are taken from.
const UPSTREAM: &str = "decompressed==2.1.1";

/// What `--full` installs; on Linux the build for cards, which runs on processors too.
const TORCH: &str = "torch==2.15.0";

/// How a wheel is made.
#[derive(Clone, Copy)]
enum Kind {
    /// For tests here: with the profile of all other tests, for the system that this is.
    Test,
    /// For measurements here: optimised, for the system that this is.
    Bench,
    /// For others: optimised, for every Linux with glibc 2.28 or newer, if this is one.
    Release,
}

/// Wheels for others, in `target/wheels`.
pub(crate) fn wheels() -> Result<()> {
    let out = repo::root().join("target/wheels");
    let mut interpreters = vec![None];
    // The stable ABI is not that of free-threaded interpreters: each gets a wheel of its own, if it is here.
    interpreters.extend(["python3.14t", "python3.13t"].into_iter().filter(|name| starts(name)).map(Some));
    for interpreter in interpreters {
        println!("{}", wheel(Kind::Release, &out, interpreter)?.display());
    }
    Ok(())
}

fn starts(program: &str) -> bool {
    let mut probe = Command::new(program);
    probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Makes one wheel of the package in the folder `out`.
fn wheel(kind: Kind, out: &Path, interpreter: Option<&str>) -> Result<PathBuf> {
    built(Path::new(PACKAGE), kind, out, &repo::root().join("target"), interpreter)
}

/// Makes a wheel for tests of the package in a folder of the repository.
pub(crate) fn test_wheel(package: &Path, out: &Path, target: &Path) -> Result<PathBuf> {
    built(package, Kind::Test, out, target, None)
}

fn built(
    package: &Path,
    kind: Kind,
    out: &Path,
    target: &Path,
    interpreter: Option<&str>,
) -> Result<PathBuf> {
    let tools = repo::root().join("target/python/tools");
    let python = venv::with_requirements(&tools, &repo::root().join(PACKAGE).join("build.txt"), &[])?;
    let mut maturin = Command::new(&python);
    maturin.args(["-m", "maturin", "build", "--quiet", "--locked", "--out"]).arg(out);
    maturin.arg("--target-dir").arg(target).current_dir(repo::root().join(package));
    match kind {
        Kind::Test => maturin.args(["--profile", "dev", "--compatibility", "linux"]),
        Kind::Bench => maturin.args(["--release", "--compatibility", "linux"]),
        Kind::Release if cfg!(target_os = "linux") => {
            maturin.args(["--release", "--zig", "--compatibility", "manylinux_2_28"])
        }
        Kind::Release => maturin.arg("--release"),
    };
    if let Some(interpreter) = interpreter {
        maturin.args(["--interpreter", interpreter]);
    }
    // maturin looks for zig on the path of its own environment.
    let bin = python.parent().context("an interpreter lies in a folder")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [bin.to_owned()].into_iter().chain(env::split_paths(&path));
    maturin.env("PATH", env::join_paths(paths)?).env("VIRTUAL_ENV", &tools);
    repo::run(&mut maturin)?;
    let mut wheels = listed(out);
    wheels.sort_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
    wheels.pop().with_context(|| format!("no wheel came into {}", out.display()))
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "whl")).collect()
}

/// The package as a user has it: built, installed into an environment of its own.
pub(crate) struct Installed {
    python: PathBuf,
}

/// Builds a wheel and installs it beside what the tests need; with torch, if all is wanted.
pub(crate) fn install(full: bool) -> Result<Installed> {
    let wheel = wheel(Kind::Test, &repo::root().join("target/python/wheels"), None)?;
    let python = venv::create(&repo::root().join("target/python/venv"))?;
    let mut pip = venv::pip_install(&python);
    pip.arg("--requirement").arg(repo::root().join(PACKAGE).join("tests/requirements.txt"));
    if full {
        pip.arg(TORCH);
    }
    repo::run(pip.arg(wheel)).context("is the index of Python's packages within reach?")?;
    Ok(Installed { python })
}

/// Builds the package with optimisation and installs it into the environment of `python`.
pub(crate) fn install_for_benches(python: &Path) -> Result<()> {
    let wheel = wheel(Kind::Bench, &repo::root().join("target/python/bench"), None)?;
    put_in(python, &wheel)
}

/// Installs a wheel into an environment that has what it needs.
fn put_in(python: &Path, wheel: &Path) -> Result<()> {
    let mut pip = venv::pip_install(python);
    repo::run(pip.args(["--force-reinstall", "--no-deps"]).arg(wheel))
}

impl Installed {
    /// Its own tests.
    pub(crate) fn tests(&self) -> Command {
        self.pytest(&repo::root().join(PACKAGE), "tests")
    }

    /// Tests in a folder of some package.
    pub(crate) fn pytest(&self, package: &Path, folder: &str) -> Command {
        let mut pytest = Command::new(&self.python);
        pytest.args(["-m", "pytest", "--quiet", folder]).current_dir(package);
        pytest
    }

    /// Installs another wheel beside the package; what it needs is there.
    pub(crate) fn add(&self, wheel: &Path) -> Result<()> {
        put_in(&self.python, wheel)
    }

    /// Whether the types say what the package has.
    pub(crate) fn types(&self) -> Result<()> {
        let package = repo::root().join(PACKAGE);
        let mut mypy = Command::new(&self.python);
        mypy.args(["-m", "mypy", "--package", "cvc"]).current_dir(&package);
        repo::run(&mut mypy)?;
        let mut stubtest = Command::new(&self.python);
        stubtest.args(["-m", "mypy.stubtest", "cvc._cvc", "--mypy-config-file", "pyproject.toml"]);
        repo::run(stubtest.current_dir(&package))
    }

    /// Upstream's tests, against this package under upstream's name.
    pub(crate) fn upstream_tests(&self) -> Result<Command> {
        let folder = repo::root().join("target/python/upstream");
        let archive = folder.join(format!("{}.tar.gz", UPSTREAM.replace("==", "-")));
        if !archive.is_file() {
            let mut download = Command::new(&self.python);
            download.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
            // Its name alone: what it is built with comes as it is, and nothing is compiled.
            download.args(["--no-binary", "decompressed", "--dest"]).arg(&folder).arg(UPSTREAM);
            repo::run(&mut download)?;
        }
        let mut run = Command::new(&self.python);
        run.arg("tests/upstream/run.py").arg(archive).current_dir(repo::root().join(PACKAGE));
        Ok(run)
    }
}

/// Passed and failed, from the last line of pytest: `2 failed, 110 passed, 1 skipped in 2.47s`.
pub(crate) fn pytest_result(line: &str) -> Option<(u64, u64)> {
    let line = line.trim().trim_matches('=').trim();
    let (counts, _) = line.rsplit_once(" in ")?;
    let mut result = (0, 0);
    let mut known = false;
    for part in counts.split(", ") {
        let (count, what) = part.split_once(' ')?;
        let count: u64 = count.parse().ok()?;
        match what {
            "passed" | "xfailed" => result.0 += count,
            "failed" | "error" | "errors" | "xpassed" => result.1 += count,
            _ => {}
        }
        known = true;
    }
    known.then_some(result)
}

/// Why there is no Python to test with, if there is none.
pub(crate) fn missing() -> Option<String> {
    venv::base_python().err().map(|error| error.to_string())
}

/// Fails if `CVC_REQUIRE` lists Python and there is none.
pub(crate) fn required(reason: &str) -> Result<()> {
    let required = env::var("CVC_REQUIRE").unwrap_or_default();
    if required.split(',').any(|kind| kind.trim() == "python") {
        bail!("CVC_REQUIRE={required} asks for python, but: {reason}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::pytest_result;

    #[test]
    fn the_last_line_of_pytest_is_read() {
        assert_eq!(pytest_result("113 passed, 1 skipped in 2.47s"), Some((113, 0)));
        assert_eq!(
            pytest_result("2 failed, 110 passed, 3 xfailed, 1 error in 61.00s (0:01:01)"),
            Some((113, 3))
        );
        assert_eq!(pytest_result("===== 1 passed in 0.01s ====="), Some((1, 0)));
        for other in ["", "tests/test_a.py ..... [100%]", "a in b", "1 passed"] {
            assert_eq!(pytest_result(other), None, "{other}");
        }
    }
}
