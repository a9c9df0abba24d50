//! Every source file says why it exists, and every link inside the repository leads somewhere.

use crate::repo::Tree;

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        if is_source(path) && !text.starts_with("//!") {
            problems.push(format!("{path}:1: begin the file with a `//!` line that says what it is for"));
        }
        if path.ends_with(".md") {
            problems.extend(dead_links(tree, path, text));
        }
    }
    problems
}

fn is_source(path: &str) -> bool {
    path.ends_with(".rs") && path.split('/').nth(2) == Some("src") && path.starts_with("crates/")
}

/// The headings of a page, without `#` and backticks.
pub(super) fn headings(markdown: &str) -> Vec<String> {
    let heading = |(_, line): (usize, &str)| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len() && text.starts_with(' ')).then(|| text.trim().replace('`', ""))
    };
    prose(markdown).filter_map(heading).collect()
}

/// Line number and text of the lines outside fenced code.
fn prose(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    markdown.lines().enumerate().filter_map(move |(i, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((i + 1, line))
    })
}

fn dead_links(tree: &Tree, page: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in prose(text) {
        for target in targets(line) {
            let dead = match resolve(page, &target) {
                Resolved::Elsewhere => false,
                Resolved::Path(path) => !tree.exists(&path),
                Resolved::Outside => true,
            };
            if dead {
                problems.push(format!(
                    "{page}:{number}: the link `{target}` leads to nothing; mend or remove it"
                ));
            }
        }
    }
    problems
}

/// The targets of the links in one line: `[text](target)` and `[label]: target`.
fn targets(line: &str) -> Vec<String> {
    // Odd pieces between backticks are code.
    let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("_");
    let first_word = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    let mut targets: Vec<String> =
        line.split("](").skip(1).filter_map(|rest| Some(first_word(rest.split_once(')')?.0))).collect();
    if let Some((label, target)) = line.split_once("]: ")
        && label.starts_with('[')
        && !label.starts_with("[^")
    {
        targets.push(first_word(target));
    }
    targets
}

enum Resolved {
    /// Another site, or this very page.
    Elsewhere,
    /// A path from the root of the repository.
    Path(String),
    /// Above the root.
    Outside,
}

fn resolve(page: &str, target: &str) -> Resolved {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || path.contains(':') {
        return Resolved::Elsewhere;
    }
    let mut folders: Vec<&str> = page.split('/').collect();
    folders.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if folders.pop().is_none() => return Resolved::Outside,
            ".." => {}
            _ => folders.push(part),
        }
    }
    Resolved::Path(folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_file_says_why_it_exists() {
        let tree = Tree::of(&[
            ("crates/cvc/src/lib.rs", "//! Why.\n"),
            ("crates/cvc/src/io/file.rs", "use std::fs;\n"),
            ("crates/cvc/tests/all.rs", "fn main() {}\n"),
        ]);
        let problems = check(&tree);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("crates/cvc/src/io/file.rs:1: "));
    }

    #[test]
    fn links_lead_somewhere() {
        let page = "[a](FORMAT.md#magic) [b](../README.md) [c](https://example.com/x) [d](#here)\n\
                    [e](codecs) `[f](gone.md)` [g](gone.md \"title\")\n\
                    ```\n[h](gone.md)\n```\n\
                    [i]: codecs/raw.md\n[j]: gone.md\n[k](../../outside.md)\n";
        let tree = Tree::of(&[
            ("README.md", ""),
            ("docs/FORMAT.md", ""),
            ("docs/codecs/raw.md", ""),
            ("docs/page.md", page),
        ]);
        let lines: Vec<String> =
            check(&tree).iter().map(|p| p.split(':').nth(1).unwrap().to_owned()).collect();
        assert_eq!(lines, ["2", "7", "8"]);
    }

    #[test]
    fn headings_are_outside_code() {
        let page = "# The `copy` op\n```\n# not one\n```\n#not one\ntext\n## Edge cases\n";
        assert_eq!(headings(page), ["The copy op", "Edge cases"]);
    }
}
