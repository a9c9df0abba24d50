//! `cargo xtask tidy`: the rules of `docs/ARCHITECTURE.md` and `CONTRIBUTING.md` that a machine can check.
//!
//! Each check is a function from the text of the working tree to a list of problems, each of which says
//! where, what, and what to do. They look at text, not at syntax trees: simple enough to trust, and where
//! the text is written as everywhere else here, exact.

mod docs;
mod layers;
mod ops;
mod source;
mod unsafe_code;
mod words;

use anyhow::{Result, bail};

use crate::golden;
use crate::repo::{self, Tree};

pub(crate) fn run() -> Result<()> {
    let tree = Tree::read()?;
    let metadata = repo::output(&mut repo::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;

    let mut problems = layers::check(&serde_json::from_slice(&metadata)?);
    problems.extend(unsafe_code::check(&tree));
    problems.extend(ops::check(&tree));
    problems.extend(docs::check(&tree));
    problems.extend(words::check(&tree));
    problems.extend(golden::check()?);

    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} things are not tidy", problems.len());
    }
    println!("tidy: {} files", tree.len());
    Ok(())
}
