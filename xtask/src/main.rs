//! Whatever CI does, by hand with one command: `cargo xtask COMMAND`.
//!
//! A binary and not a shell script, so that it runs where a Rust toolchain is and nothing else. One small
//! file per command; `repo` is what they share.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the person who called it is what this program does"
)]

mod bench;
mod datafusion;
mod demo;
mod golden;
mod kernels;
mod python;
mod repo;
mod shaders;
mod software_gpu;
mod test;
mod tidy;
mod venv;

use std::env;
use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--long] [--full]
                  format, clippy, every test and doctest, the Python package, docs, shaders, tidy; the last line counts the
                  tests. Installs lavapipe, a GPU in software, where it can: by apt-get as root, or on a machine of CI.
                  --long: the tests marked long and two minutes of fuzzing per target as well; --full: those of the Python
                  package that need torch, which is installed (a gigabyte), and those of the table of DataFusion
  datafusion      the part of --full that is about crates/cvc-datafusion, alone
  wheel           the wheels of the Python package, in target/wheels; needs Python 3.11 or newer and its package index
  demo            build the `cvc` program and run the demo on the vectors in examples/data
  bench [NAME]    rivals and ourselves on the same work (load, memory, pack; all if none is named); needs Python
                  3.11 or newer and its package index, makes 2 GB in benches/.data, writes benches/record
  kernels [--check]
                  the PTX in crates/cvc-cuda from the sources in kernels, assembled for every processor; needs Python and its
                  package index, on Linux. --check: only says whether the committed files are what the sources give
  tidy            the rules a machine can check: layers, unsafe, docs, golden files, links
  shaders         validate shaders/*.wgsl and write the copies that ship inside cvc-wgpu; with --check nothing is written,
                  and a copy that is not up to date is a failure
  golden          list new golden files in their HASHES; refuses to change a line
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["test", ref options @ ..] if options.iter().all(|option| ["--long", "--full"].contains(option)) => {
            test::run(options.contains(&"--long"), options.contains(&"--full"))
        }
        ["datafusion"] => test::datafusion_alone(),
        ["wheel"] => done(python::wheels()),
        ["demo"] => done(demo::run()),
        ["bench"] => done(bench::run(None)),
        ["bench", name] => done(bench::run(Some(name))),
        ["kernels"] => done(kernels::run(false)),
        ["kernels", "--check"] => done(kernels::run(true)),
        ["tidy"] => done(tidy::run()),
        ["shaders"] => done(shaders::run(false)),
        ["shaders", "--check"] => done(shaders::run(true)),
        ["golden"] => done(golden::run()),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("not a command: `cargo xtask {}`\n\n{USAGE}", args.join(" "));
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        // Not `{error:?}`: where in this program it was noticed helps nobody.
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn done(outcome: Result<()>) -> Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}
