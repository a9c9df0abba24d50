//! The `cvc` program: parses a call, has the library do it, and prints what came of it.
//!
//! Exit status: 0 done, 1 the file is damaged or the work failed, 2 the call is wrong.
#![forbid(unsafe_code)]

mod args;
mod convert;
mod devices;
mod info;
mod interrupt;
mod json;
mod lines;
mod pack;
mod page;
mod progress;
mod queries;
mod recall;
mod remote;
mod repair;
mod report;
mod rows;
mod search;
mod store;
mod unpack;
mod upgrade;
mod verify;
mod watched;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::report::Failure;

fn main() -> ExitCode {
    // clap prints its own messages and exits with 2 for a wrong call.
    let command = Args::parse().command;
    let (result, file, remote) = match &command {
        Command::Pack(args) => (pack::run(args), None, Some(&args.remote)),
        Command::Convert(args) => (convert::run(args), Some(args.source.as_path()), None),
        Command::Unpack(args) => (unpack::run(args), Some(args.file.as_path()), Some(&args.remote)),
        Command::Info(args) => (info::run(args), Some(args.file.as_path()), Some(&args.remote)),
        Command::Verify(args) => (verify::run(args), Some(args.file.as_path()), Some(&args.remote)),
        Command::Report(args) => (page::run(args), Some(args.file.as_path()), Some(&args.remote)),
        Command::Repair(args) => (repair::run(args), Some(args.file.as_path()), Some(&args.remote)),
        Command::Upgrade(args) => (upgrade::run(args), Some(args.file.as_path()), Some(&args.remote)),
        Command::Search(args) => (search::run(args), Some(args.file.as_path()), Some(&args.searched.remote)),
        Command::Recall(args) => (recall::run(args), Some(args.file.as_path()), Some(&args.searched.remote)),
        Command::Devices(args) => (devices::run(args), None, None),
        Command::Store(args) => (store::run(args), None, None),
    };
    if let Some(remote) = remote {
        remote.report();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Damaged) {
                report::to_stderr(&format!("error: {}", failure.message(file)));
            }
            failure.exit_code()
        }
    }
}
