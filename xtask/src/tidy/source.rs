//! Rust source with what is not code taken out.

/// The source with comments, strings and character literals turned into blanks; lines stay where they are.
///
/// A scanner and not a parser: it knows the shapes that can hold a word which is not code, nothing else.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at + 1),
            'r' => raw_string_end(&chars, at).unwrap_or(at),
            '\'' => char_literal_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Whether the line has `word` with nothing of a name on either side.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let name = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].ends_with(name) && !line[at + word.len()..].starts_with(name)
    })
}

fn line_end(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| from + n)
}

/// Block comments nest.
fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// `from` is behind the opening quote.
fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"..."` or `r#"..."#`; nothing when this `r` is a letter like any other.
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let is_name = |at: usize| chars[at].is_alphanumeric() || chars[at] == '_';
    // `br` and `cr` are prefixes too; any other letter before the `r` makes it part of a name.
    let start = if from > 0 && matches!(chars[from - 1], 'b' | 'c') { from - 1 } else { from };
    if start > 0 && is_name(start - 1) {
        return None;
    }
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let open = from + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    Some((open + 1..chars.len()).find(|at| closes(*at)).map_or(chars.len(), |at| at + 1 + hashes))
}

/// The end of `'x'` or `'\n'`; nothing for a lifetime.
fn char_literal_end(chars: &[char], from: usize) -> Option<usize> {
    match chars.get(from + 1)? {
        // The character behind the backslash may itself be a quote.
        '\\' => chars.get(from + 3..)?.iter().position(|c| *c == '\'').map(|n| from + 3 + n + 1),
        _ if chars.get(from + 2) == Some(&'\'') => Some(from + 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that are left, to compare without counting blanks.
    fn words(source: &str) -> String {
        code_only(source).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(words(r#"a "b \" c" d"#), "a d");
        assert_eq!(words(r##"a r#"b " c"# d br"e\" f cr#"g"# h"##), "a d b f c h");
        assert_eq!(words("a \"never closed"), "a");
        assert_eq!(words("a '\\"), "a '\\");
    }

    #[test]
    fn lifetimes_stay_and_characters_go() {
        assert_eq!(words("&'a str, '\"', '\\'', b'x', '\\u{41}' end"), "&'a str, , , b , end");
    }

    #[test]
    fn names_that_end_in_r_are_names() {
        assert_eq!(words(r#"for(x) r#type bar r"s" end"#), "for(x) r#type bar end");
    }

    #[test]
    fn lines_stay_where_they_are() {
        assert_eq!(code_only("a\n/* b\n\n*/ c\n\"d\ne\"\nf").lines().count(), 7);
    }

    #[test]
    fn a_word_ends_where_the_name_ends() {
        assert!(has_word("unsafe{", "unsafe"));
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
        assert!(has_word("unsafe_op unsafe fn", "unsafe"));
    }
}
