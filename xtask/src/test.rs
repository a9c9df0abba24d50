//! `cargo xtask test`: everything that must hold before a change is merged, with one feature set and one
//! profile, so that nothing is built twice for another set of switches.
//!
//! Every step runs even when an earlier one failed: one run shows all there is to mend. The last line is
//! `N passed, N failed`, summed over the test programs; a step that fails without a failed test (a compile
//! error, a warning, an untidy file) counts as one failure, so that the line never reads as success.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use anyhow::{Context as _, Result, bail};

use crate::python::Installed;
use crate::{datafusion, python, repo, shaders, software_gpu, tidy};

/// The version of cargo-fuzz that `--long` installs where there is none.
const CARGO_FUZZ: &str = "0.13.2";
const FUZZ_SECONDS: u32 = 120;

pub(crate) fn run(long: bool, full: bool) -> Result<ExitCode> {
    require_components()?;
    let mut report = Report::default();
    report.step("fmt", |_| repo::run(&mut repo::cargo(&["fmt", "--all", "--check"])));
    report.step("clippy", |_| {
        let mut clippy = repo::cargo(&["clippy", "--workspace", "--all-targets", "--all-features"]);
        repo::run(clippy.args(["--", "-D", "warnings"]))
    });
    println!("\n== software GPU");
    let has_software_gpu = match software_gpu::prepare() {
        Ok(()) => true,
        Err(reason) => {
            report.skip("tests of the wgpu backend where there is no adapter", reason);
            false
        }
    };
    report.step("test", |counts| count_tests(&mut tests(has_software_gpu), counts));
    let installed = python_package(&mut report, full);
    if full {
        datafusion(&mut report, installed.as_ref());
    }
    report.step("doc", |_| {
        let mut doc = repo::cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
        repo::run(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
    });
    report.step("shaders", |_| shaders::run(true));
    report.step("tidy", |_| tidy::run());
    if long {
        report.step("long tests", |counts| {
            // `--tests` leaves doctests out: there, `ignore` marks text that is not meant to run.
            count_tests(tests(has_software_gpu).args(["--tests", "--", "--ignored"]), counts)
        });
        fuzz(&mut report);
    }
    Ok(report.finish())
}

/// The table of DataFusion, without all else.
pub(crate) fn datafusion_alone() -> Result<ExitCode> {
    require_components()?;
    let mut report = Report::default();
    let mut installed = None;
    report.step("python: wheel", |_| match python::missing() {
        Some(reason) => python::required(&reason),
        None => {
            installed = Some(python::install(false)?);
            Ok(())
        }
    });
    datafusion(&mut report, installed.as_ref());
    Ok(report.finish())
}

/// The Python package, installed from a wheel into an environment of its own.
fn python_package(report: &mut Report, full: bool) -> Option<Installed> {
    if let Some(reason) = python::missing() {
        let outcome = python::required(&reason);
        report.skip("tests of the Python package", reason);
        report.step("python", |_| outcome);
        return None;
    }
    let mut installed = None;
    report.step("python: wheel", |_| {
        installed = Some(python::install(full)?);
        Ok(())
    });
    let installed = installed?;
    report.step("python: tests", |counts| count_tests(&mut hushed(installed.tests()), counts));
    report.step("python: upstream's tests", |counts| {
        count_tests(&mut hushed(installed.upstream_tests()?), counts)
    });
    report.step("python: types", |_| installed.types());
    Some(installed)
}

/// The table of DataFusion: three hundred crates that nothing else here needs.
fn datafusion(report: &mut Report, installed: Option<&Installed>) {
    report.step("datafusion: lints", |_| datafusion::lints());
    report.step("datafusion: tests", |counts| count_tests(&mut datafusion::tests(), counts));
    let Some(installed) = installed else {
        return report.skip(
            "tests of the table of DataFusion in Python",
            python::missing().unwrap_or("see above".to_owned()),
        );
    };
    report.step("datafusion: python", |counts| {
        datafusion::install(installed)?;
        count_tests(&mut datafusion::python_tests(installed), counts)
    });
}

fn hushed(mut command: Command) -> Command {
    software_gpu::hush(&mut command);
    command
}

/// All tests; doctests are among them. With a software GPU, a test that finds no adapter is a failure.
fn tests(has_software_gpu: bool) -> Command {
    let mut command = repo::cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"]);
    if has_software_gpu {
        let required = env::var("CVC_REQUIRE").unwrap_or_default();
        command.env("CVC_REQUIRE", format!("{required},wgpu").trim_start_matches(','));
        software_gpu::hush(&mut command);
    }
    command
}

/// Fails, with the command that helps, when cargo lacks a part that the steps need.
fn require_components() -> Result<()> {
    for component in ["rustfmt", "clippy"] {
        let subcommand = if component == "rustfmt" { "fmt" } else { component };
        let mut probe = repo::cargo(&[subcommand, "--version"]);
        let found = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            bail!("this toolchain has no {component}; get it with `rustup component add {component}`");
        }
    }
    Ok(())
}

/// What the steps did.
#[derive(Default)]
struct Report {
    counts: Counts,
    steps: Vec<(String, Duration, bool)>,
    /// What may not have run, and why.
    skipped: Vec<String>,
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Report {
    fn step(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> Result<()>) {
        println!("\n== {name}");
        let failed_before = self.counts.failed;
        let start = Instant::now();
        let outcome = work(&mut self.counts);
        if let Err(error) = &outcome {
            println!("{name}: {error:#}");
            if self.counts.failed == failed_before {
                self.counts.failed += 1;
            }
        }
        self.steps.push((name.to_owned(), start.elapsed(), outcome.is_ok()));
    }

    fn skip(&mut self, what: &str, reason: String) {
        let line = format!("SKIPPED, not passed: {what}: {reason}");
        println!("{line}");
        self.skipped.push(line);
    }

    /// Prints the summary; nothing may follow its last line.
    fn finish(self) -> ExitCode {
        println!();
        for (name, time, ok) in &self.steps {
            println!("{name:<24} {:>8.1} s  {}", time.as_secs_f64(), if *ok { "ok" } else { "FAILED" });
        }
        for line in &self.skipped {
            println!("{line}");
        }
        println!("{} passed, {} failed", self.counts.passed, self.counts.failed);
        // Every step that failed has left a failure in the counts.
        if self.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs a `cargo test` or pytest, passes its output through and adds up what its test programs report.
fn count_tests(command: &mut Command, counts: &mut Counts) -> Result<()> {
    println!("$ {}", repo::shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", repo::shown(command)))?;
    let mut lines = BufReader::new(child.stdout.take().context("it has no standard output")?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? != 0 {
        io::stdout().write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        if let Some((passed, failed)) = test_result(&text).or_else(|| python::pytest_result(&text)) {
            counts.passed += passed;
            counts.failed += failed;
        }
        line.clear();
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` ended with {status}", repo::shown(command));
    }
    Ok(())
}

/// Passed and failed, from a line like `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
fn test_result(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ")?;
    let before = |word: &str| {
        let (head, _) = counts.split_once(word)?;
        head.rsplit(' ').next()?.parse().ok()
    };
    Some((before(" passed;")?, before(" failed;")?))
}

/// Two minutes of every fuzz target, starting from its committed corpus.
fn fuzz(report: &mut Report) {
    let mut targets = Vec::new();
    report.step("fuzz setup", |_| {
        let manifest = repo::root().join("fuzz/Cargo.toml");
        let text = fs::read_to_string(manifest).context("cannot read fuzz/Cargo.toml")?;
        targets = bin_names(&text);
        if targets.is_empty() {
            bail!("fuzz/Cargo.toml has no [[bin]]: there is nothing to fuzz");
        }
        install_cargo_fuzz()
    });
    for target in targets {
        report.step(&format!("fuzz {target}"), |_| fuzz_target(&target));
    }
}

fn install_cargo_fuzz() -> Result<()> {
    let mut probe = repo::cargo(&["fuzz", "--version"]);
    let found = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    repo::run(&mut repo::cargo(&["install", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ]))
}

fn fuzz_target(target: &str) -> Result<()> {
    let seeds = repo::root().join("fuzz/corpus").join(target);
    if !seeds.is_dir() {
        bail!("fuzz/corpus/{target} is missing; commit the seeds of this target there");
    }
    // libFuzzer writes what it finds to the first folder: the committed corpus stays as it is.
    let finds = repo::root().join("fuzz/target/corpus").join(target);
    fs::create_dir_all(&finds)?;
    let mut command = repo::cargo(&["fuzz", "run", target]);
    command.arg(finds).arg(seeds).args(["--", &format!("-max_total_time={FUZZ_SECONDS}")]);
    // The sanitizer behind `cargo fuzz` is a flag that only nightly takes. This variable makes the stable
    // compiler take it too, so that one toolchain is enough; nothing that we ship is built with it.
    repo::run(command.env("RUSTC_BOOTSTRAP", "1"))
}

/// The names in the `[[bin]]` tables of a manifest.
fn bin_names(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_bin = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_bin = line == "[[bin]]";
        } else if in_bin
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "name"
        {
            names.extend(value.split('"').nth(1).map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_results_are_read() {
        let ok = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(test_result(ok), Some((12, 0)));
        let bad = "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(test_result(bad), Some((7, 2)));
        let coloured = "test result: \u{1b}[32mok\u{1b}[m. 1 passed; 0 failed; 0 ignored";
        assert_eq!(test_result(coloured), Some((1, 0)));
        assert_eq!(test_result("test reads_a_file ... ok"), None);
        assert_eq!(test_result("test result: unknown"), None);
    }

    #[test]
    fn a_step_that_fails_without_a_failed_test_is_one_failure() {
        let mut report = Report::default();
        report.step("good", |counts| {
            counts.passed += 2;
            Ok(())
        });
        report.step("does not compile", |_| bail!("no"));
        report.step("one test failed", |counts| {
            counts.failed += 1;
            bail!("no")
        });
        assert_eq!((report.counts.passed, report.counts.failed), (2, 2));
    }

    #[test]
    fn only_bin_tables_name_fuzz_targets() {
        let manifest = "[package]\nname = \"cvc-fuzz\"\n[[bin]]\nname = \"header\"\npath = \"x.rs\"\n\n\
                        [[bin]]\npath = \"y.rs\"\nname=\"json\"\n[dependencies]\nname = \"1\"\n";
        assert_eq!(bin_names(manifest), ["header", "json"]);
    }
}
