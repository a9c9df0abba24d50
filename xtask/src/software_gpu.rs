//! A GPU for machines without one: lavapipe, the driver of Mesa that runs on the processor.
//!
//! The tests of the wgpu backend need an adapter, and say so loudly where there is none. Here one is installed where that takes
//! no more than a package manager that may be called: by root, or without a password on a machine of CI. Nobody else's machine
//! is changed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::repo;

/// Debian's names, and Ubuntu's.
const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];

/// Drivers of Mesa complain on a machine without a display where this variable is not set.
pub(crate) fn hush(command: &mut Command) {
    if env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", env::temp_dir());
    }
}

/// Whether lavapipe is here, installed if need be; or why not, with what would help.
pub(crate) fn prepare() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err(
            "no software adapter can be installed on this system; its own are used if it has any".into()
        );
    }
    if is_installed() {
        return Ok(());
    }
    let by_hand = format!("install {} by hand to run the tests of the wgpu backend", PACKAGES.join(" and "));
    let Some(apt) = apt() else {
        return Err(format!("apt-get cannot be called from here; {by_hand}"));
    };
    for args in [&["update"][..], &["install", "--yes", "--no-install-recommends", PACKAGES[0], PACKAGES[1]]]
    {
        let mut command = Command::new(apt[0]);
        command.args(&apt[1..]).args(args);
        repo::run(&mut command).map_err(|error| format!("{error:#}; {by_hand}"))?;
    }
    if is_installed() { Ok(()) } else { Err(format!("the packages have no lavapipe here; {by_hand}")) }
}

/// Whether a driver has told the Vulkan loader about itself that is lavapipe's.
fn is_installed() -> bool {
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"].into_iter().any(|folder| {
        let Ok(entries) = fs::read_dir(folder) else { return false };
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("lvp_icd"))
    })
}

/// The words that begin a call of apt-get, if there may be one.
fn apt() -> Option<Vec<&'static str>> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return None;
    }
    let succeeds = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if succeeds("sh", &["-c", "test \"$(id -u)\" = 0"]) {
        Some(vec!["apt-get"])
    } else if env::var_os("CI").is_some() && succeeds("sudo", &["-n", "true"]) {
        Some(vec!["sudo", "-n", "apt-get"])
    } else {
        None
    }
}
