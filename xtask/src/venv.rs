//! Python and its virtual environments, for what the workspace does with Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::repo;

/// The interpreter of the virtual environment `folder`, with the packages that the file `requirements` lists. It is made
/// when it is first wanted, and anew when the list changes; `options` are for pip.
pub(crate) fn with_requirements(folder: &Path, requirements: &Path, options: &[&str]) -> Result<PathBuf> {
    let interpreter = interpreter(folder);
    let wanted = fs::read_to_string(requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    // Written last, so that a set-up that was interrupted begins again.
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(interpreter);
    }
    create(folder)?;
    let mut pip = pip_install(&interpreter);
    repo::run(pip.args(options).arg("--requirement").arg(requirements))
        .context("packages of Python are needed; is their index within reach?")?;
    fs::write(&installed, wanted)?;
    Ok(interpreter)
}

/// Makes an empty virtual environment, whatever was there before, and returns its interpreter.
pub(crate) fn create(folder: &Path) -> Result<PathBuf> {
    repo::run(Command::new(base_python()?).args(["-m", "venv", "--clear"]).arg(folder))?;
    Ok(interpreter(folder))
}

/// `pip install`, without what it would say of itself.
pub(crate) fn pip_install(interpreter: &Path) -> Command {
    let mut pip = Command::new(interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip
}

fn interpreter(folder: &Path) -> PathBuf {
    folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

/// A Python of version 3.11 or newer.
pub(crate) fn base_python() -> Result<&'static Path> {
    const TEST: &str = "import sys, venv; sys.exit(sys.version_info < (3, 11))";
    let names = ["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11"];
    let is_it = |name: &&str| {
        let mut probe = Command::new(name);
        probe.args(["-c", TEST]).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let name = names.into_iter().find(is_it);
    name.map(Path::new).context("Python 3.11 or newer is needed, with venv; install it and try again")
}
