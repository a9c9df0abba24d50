//! `cargo xtask golden`: golden files are read forever and never edited.
//!
//! `HASHES`, beside the files, has one line per file: its git blob id and its path. Git's own hash needs no
//! dependency and no second list to trust. This command adds lines for new files; `tidy` checks every line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::repo;

/// Where the golden files lie.
const FOLDER: &str = "crates/cvc-conformance/data/golden";

pub(crate) fn run() -> Result<()> {
    let (listed, found) = read()?;
    let problems = changed(&listed, &found);
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    if found.is_empty() {
        bail!("{FOLDER} has no files");
    }
    let mut text = String::new();
    for (path, id) in &found {
        writeln!(text, "{id}  {path}")?;
    }
    fs::write(repo::root().join(FOLDER).join("HASHES"), text)?;
    println!("{} golden files, {} of them new", found.len(), found.len() - listed.len());
    Ok(())
}

/// What is wrong with the golden files of the working tree.
pub(crate) fn check() -> Result<Vec<String>> {
    let (listed, found) = read()?;
    let mut problems = changed(&listed, &found);
    problems.extend(unlisted(&listed, &found));
    if found.is_empty() {
        problems
            .push(format!("{FOLDER}: no golden files; without them nothing says that old files still read"));
    }
    Ok(problems)
}

/// Path below `FOLDER` -> blob id.
type Ids = BTreeMap<String, String>;

/// The ids that `HASHES` lists, and those of the files that are there.
fn read() -> Result<(Ids, Ids)> {
    let list = repo::root().join(FOLDER).join("HASHES");
    let listed = if list.exists() { parse(&fs::read_to_string(list)?)? } else { Ids::new() };
    let files = repo::files()?;
    let prefix = format!("{FOLDER}/");
    let is_golden = |path: &&str| {
        // Notes about the files may be improved; the files may not.
        path.strip_prefix(&prefix).is_some_and(|name| name != "HASHES" && !name.ends_with(".md"))
    };
    let paths: Vec<&str> = files.iter().map(String::as_str).filter(is_golden).collect();
    let ids = repo::blob_ids(&paths)?;
    let found = ids.into_iter().map(|(path, id)| (path[prefix.len()..].to_owned(), id)).collect();
    Ok((listed, found))
}

fn parse(hashes: &str) -> Result<Ids> {
    let line = |text: &str| {
        let (id, path) =
            text.split_once("  ").with_context(|| format!("HASHES: cannot read the line `{text}`"))?;
        Ok((path.to_owned(), id.to_owned()))
    };
    hashes.lines().map(line).collect()
}

/// Listed files that are gone or have other bytes.
fn changed(listed: &Ids, found: &Ids) -> Vec<String> {
    let problem = |(path, id): (&String, &String)| match found.get(path) {
        Some(now) if now == id => None,
        Some(_) => Some(format!(
            "{FOLDER}/{path}: a golden file was edited; restore it, and add the new bytes under a new name"
        )),
        None => Some(format!("{FOLDER}/{path}: a golden file is missing; restore it from git")),
    };
    listed.iter().filter_map(problem).collect()
}

/// Files without a line: one problem for all of them, since one command mends it.
fn unlisted(listed: &Ids, found: &Ids) -> Option<String> {
    let mut new = found.keys().filter(|path| !listed.contains_key(*path));
    let first = new.next()?;
    let more = match new.count() {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    Some(format!("{FOLDER}/{first}{more}: not in HASHES; run `cargo xtask golden` and commit the lines"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(lines: &str) -> Ids {
        parse(lines).unwrap()
    }

    #[test]
    fn an_edited_or_missing_golden_file_is_reported() {
        let listed = ids("aa  v0/a.cvc\nbb  v0/b.cvc\ncc  v0/c.cvc\n");
        let found = ids("aa  v0/a.cvc\nxx  v0/b.cvc\n");
        let problems = changed(&listed, &found);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("v0/b.cvc: a golden file was edited"));
        assert!(problems[1].contains("v0/c.cvc: a golden file is missing"));
    }

    #[test]
    fn a_new_golden_file_needs_a_line() {
        let listed = ids("aa  a.cvc\n");
        let found = ids("aa  a.cvc\nbb  with two  spaces.cvc\n");
        assert!(changed(&listed, &found).is_empty());
        assert!(unlisted(&listed, &found).unwrap().contains("with two  spaces.cvc:"));
        assert!(unlisted(&Ids::new(), &found).unwrap().contains("a.cvc (and 1 more):"));
        assert_eq!(unlisted(&found, &found), None);
    }

    #[test]
    fn rejects_a_line_without_a_path() {
        assert!(parse("aa a.cvc\n").is_err());
    }
}
