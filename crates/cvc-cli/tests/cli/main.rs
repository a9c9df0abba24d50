//! The promises of the `cvc` program, kept or broken by the program itself: each test runs it as a user would and
//! looks at nothing but its exit status, what it prints, and the files it leaves.

mod bad_calls;
mod columns;
mod convert;
#[cfg(target_os = "linux")]
mod cuda;
mod damage;
mod devices;
mod golden;
mod harness;
mod inputs;
mod json;
mod larger;
mod native;
mod page;
mod recall;
#[cfg(feature = "remote")]
mod remote;
mod salvage;
mod sample;
mod search;
mod sections;
mod store;
mod target_recall;
mod upgrade;
mod whole_or_nothing;
