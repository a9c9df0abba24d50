//! The `cvc` program: parses a call, has the library do it, and prints what came of it.
//!
//! Exit status: 0 done, 1 the file is damaged or the work failed, 2 the call is wrong.
#![forbid(unsafe_code)]

mod args;
mod devices;
mod info;
mod json;
mod pack;
mod progress;
mod report;
mod unpack;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::report::Failure;

fn main() -> ExitCode {
    // clap prints its own messages and exits with 2 for a wrong call.
    let result = match Args::parse().command {
        Command::Pack(args) => pack::run(&args),
        Command::Unpack(args) => unpack::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Devices(args) => devices::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Failure::Error(error) = &failure {
                report::to_stderr(&format!("error: {error}"));
            }
            failure.exit_code()
        }
    }
}
