//! Words that must not be committed: unfinished work, and places on somebody's machine.

use crate::repo::Tree;

/// What marks unfinished or left-over work. In two pieces, so that this file has none of them.
const UNFINISHED: &[&str] =
    &[concat!("todo", "!("), concat!("dbg", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];

/// How absolute paths of a machine begin.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm/"), concat!("/ho", "me/")];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        for (i, line) in text.lines().enumerate() {
            for word in UNFINISHED.iter().filter(|word| starts_a_word(line, word)) {
                problems.push(format!("{path}:{}: `{word}`; finish it or take it out", i + 1));
            }
            for place in MACHINE_PATHS.iter().filter(|place| starts_a_path(line, place)) {
                problems
                    .push(format!("{path}:{}: `{place}` is a path of one machine; make it relative", i + 1));
            }
        }
    }
    problems
}

fn starts_a_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether `place` occurs where a path begins, and not inside a longer one.
fn starts_a_path(line: &str, place: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-.~*)]}".contains(c);
    line.match_indices(place).any(|(at, _)| !line[..at].ends_with(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(line: &str) -> usize {
        check(&Tree::of(&[("a.rs", line)])).len()
    }

    #[test]
    fn unfinished_work_is_reported() {
        for word in UNFINISHED {
            assert_eq!(problems(&format!("let x = {word});")), 1);
            assert_eq!(problems(&format!("my_{word})")), 0);
        }
        assert_eq!(problems("let todo = 1; // a list to do"), 0);
    }

    #[test]
    fn paths_of_a_machine_are_reported() {
        for place in MACHINE_PATHS {
            assert_eq!(problems(&format!("`{place}x`")), 1);
            assert_eq!(problems(&format!("file://{place}x")), 1);
            assert_eq!(problems(&format!("docs{place}x and ..{place}x and $(pwd){place}x")), 0);
        }
    }
}
