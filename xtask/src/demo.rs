//! `cargo xtask demo`: the `cvc` program and the library on real vectors, start to end.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::repo;

pub(crate) fn run() -> Result<()> {
    let program = build_program()?;
    let mut demo = repo::cargo(&["run", "--quiet", "--release", "--package", "cvc"]);
    demo.args(["--features", "mmap,rayon,input", "--example", "demo", "--", &program]);
    repo::run(&mut demo)
}

/// Builds the `cvc` program and returns where cargo says that it put it.
fn build_program() -> Result<String> {
    // Asking cargo is the only way that holds under every target folder and every target.
    let mut build = repo::cargo(&["build", "--release", "--package", "cvc-cli"]);
    build.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    println!("$ cargo build --release --package cvc-cli");
    let messages = String::from_utf8(repo::output(&mut build)?)?;
    executable(&messages).context("`cargo build --package cvc-cli` made no program; has the crate a [[bin]]?")
}

/// The path of the last program that cargo's messages name.
fn executable(messages: &str) -> Option<String> {
    let path = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(message.get("executable")?.as_str()?.to_owned())
    };
    messages.lines().rev().find_map(path)
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn the_program_is_found_among_cargo_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"cvc"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"cvc"},"executable":"target/release/cvc"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages).as_deref(), Some("target/release/cvc"));
        assert_eq!(executable("{}"), None);
    }
}
