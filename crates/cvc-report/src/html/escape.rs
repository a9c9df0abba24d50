//! Text from a file, made harmless. Names and metadata may hold anything.

use std::fmt::Write;

/// Text for between tags and for attributes in quotes. What would change how a page is read, or how its text looks beyond the
/// text itself, is shown by its number: control characters, and those that turn the direction of writing.
pub(super) fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            char if char.is_control() || is_invisible(char) => {
                write!(safe, "\\u{{{:x}}}", u32::from(char)).expect("a string takes everything");
            }
            char => safe.push(char),
        }
    }
    safe
}

/// As [`text`], but no more than so many characters.
pub(super) fn cut(whole: &str, most: usize) -> String {
    match whole.char_indices().nth(most) {
        Some((end, _)) => text(&whole[..end]) + " ...",
        None => text(whole),
    }
}

/// Characters without a look of their own that change that of others, or are taken for nothing.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(
            text("<script>'a' & \"b\"</script>"),
            "&lt;script&gt;&#39;a&#39; &amp; &quot;b&quot;&lt;/script&gt;"
        );
        assert_eq!(text("a\u{0}b\u{202e}c\nd"), "a\\u{0}b\\u{202e}c d");
        assert_eq!(text("\u{e9}\u{4e2d}\u{1f600}"), "\u{e9}\u{4e2d}\u{1f600}");
    }

    #[test]
    fn texts_are_cut_between_characters_and_before_they_are_escaped() {
        assert_eq!(cut("<\u{e9}>", 2), "&lt;\u{e9} ...");
        assert_eq!(cut("<\u{e9}>", 3), "&lt;\u{e9}&gt;");
    }
}
