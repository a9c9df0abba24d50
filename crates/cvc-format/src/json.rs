//! JSON as Python's `json` module writes and reads it.
//!
//! The headers of `CVCF` files come from `json.dumps`, and what is in them must survive a rewrite byte for
//! byte. An ordinary JSON library loses too much on the way: it refuses the bare `NaN`, `Infinity` and
//! `-Infinity` that Python writes, rounds integers beyond 64 bits, drops or refuses the second of two equal
//! keys, refuses `"\ud800"`, and prints `1e-05` as `0.00001` or `1e-5`. Hence three choices:
//!
//! 1. a [`Number`] is its text, and becomes a value only when asked;
//! 2. an object is a list of pairs, in the order and number in which they stand;
//! 3. a [`Text`] may hold half of a surrogate pair.
//!
//! All else is RFC 8259: no comments, no trailing commas, no leading zeros, no byte order mark.
//!
//! ```
//! use cvc_format::json::{Json, Style};
//!
//! let header = Json::parse(br#"{"rows": 2, "min": -1e-5, "scale": NaN}"#, 64)?;
//! assert_eq!(header.get("rows").and_then(Json::as_u64), Some(2));
//! assert_eq!(header.to_string_styled(Style::Python), r#"{"rows": 2, "min": -1e-05, "scale": NaN}"#);
//! # Ok::<(), cvc_format::json::JsonError>(())
//! ```

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt::{self, Write};
use core::mem;

/// One JSON value.
///
/// `==` is equality of the *values*: numbers count by what they are worth (`1`, `1.0` and `1e0` are equal;
/// an integer of any size is compared exactly, also with a float; NaN equals nothing, itself included), a
/// bool is never equal to a number, objects are equal whatever the order of their keys, and of pairs with
/// the same key only the last counts. Compare written texts to learn whether two values look the same.
///
/// Comparing, cloning, writing and dropping recurse once per level of nesting, which [`Json::parse`] bounds.
#[derive(Clone, Debug)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, or one of `NaN`, `Infinity` and `-Infinity`.
    Number(Number),
    /// A string.
    String(Text),
    /// An array.
    Array(Vec<Json>),
    /// An object: its pairs in the order in which they stand, duplicate keys included.
    Object(Vec<(Text, Json)>),
}

impl Json {
    /// Reads one value that spans all of `bytes`, with at most `depth` arrays and objects inside each other.
    ///
    /// The parser recurses once per level, so `depth` bounds its stack. The memory of the value is
    /// proportional to the length of `bytes`.
    ///
    /// # Errors
    ///
    /// If the bytes are not UTF-8 (found before anything else), not one JSON value, or nested too deeply.
    pub fn parse(bytes: &[u8], depth: usize) -> Result<Json, JsonError> {
        let text = core::str::from_utf8(bytes)
            .map_err(|error| JsonError { offset: error.valid_up_to(), kind: JsonErrorKind::InvalidUtf8 })?;
        let mut parser = Parser { text, at: 0, depth };
        let value = parser.value(depth)?;
        if parser.at < text.len() {
            return Err(parser.error(JsonErrorKind::TrailingBytes));
        }
        Ok(value)
    }

    /// An object with these pairs, in this order.
    pub fn object<K: Into<Text>>(pairs: impl IntoIterator<Item = (K, Json)>) -> Json {
        Json::Object(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The value under `key` if this is an object that has one; the last, if it has several.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value of an integer within `u64`, as [`Number::as_u64`].
    pub fn as_u64(&self) -> Option<u64> {
        if let Json::Number(number) = self { number.as_u64() } else { None }
    }

    /// The value of a number, as [`Number::as_f64`].
    pub fn as_f64(&self) -> Option<f64> {
        if let Json::Number(number) = self { Some(number.as_f64()) } else { None }
    }

    /// The characters of a string; `None` also for a string with a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        if let Json::String(text) = self { text.as_str() } else { None }
    }

    /// `true` or `false`.
    pub fn as_bool(&self) -> Option<bool> {
        if let Json::Bool(value) = self { Some(*value) } else { None }
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        if let Json::Array(items) = self { Some(items) } else { None }
    }

    /// The pairs of an object.
    pub fn as_object(&self) -> Option<&[(Text, Json)]> {
        if let Json::Object(pairs) = self { Some(pairs) } else { None }
    }

    /// What sort of value this is, for messages: `null`, `bool`, `number`, `string`, `array` or `object`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "bool",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }

    /// How deep objects and arrays are nested: 0 for a scalar.
    pub fn depth(&self) -> usize {
        let deepest = |items: &mut dyn Iterator<Item = &Json>| 1 + items.map(Json::depth).max().unwrap_or(0);
        match self {
            Json::Array(items) => deepest(&mut items.iter()),
            Json::Object(pairs) => deepest(&mut pairs.iter().map(|(_, value)| value)),
            _ => 0,
        }
    }

    /// Whether any JSON reader will take what [`Json::write`] makes of this: there is no bare `NaN`,
    /// `Infinity` or `-Infinity` in its [`Style::Compact`] form, and no lone surrogate.
    ///
    /// The Python styles write a float out of range, such as `1e999`, as `Infinity` all the same.
    pub fn is_strict(&self) -> bool {
        match self {
            Json::Null | Json::Bool(_) => true,
            Json::Number(number) => !matches!(number.text(), "NaN" | "Infinity" | "-Infinity"),
            Json::String(text) => text.as_str().is_some(),
            Json::Array(items) => items.iter().all(Json::is_strict),
            Json::Object(pairs) => {
                pairs.iter().all(|(key, value)| key.as_str().is_some() && value.is_strict())
            }
        }
    }

    /// Appends this value to `out`.
    pub fn write(&self, style: Style, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Number(number) => number.write(style, out),
            Json::String(text) => text.write(style, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { style.comma() });
                    item.write(style, out);
                }
                out.push(']');
            }
            Json::Object(pairs) => {
                let mut pairs: Vec<_> = pairs.iter().collect();
                if matches!(style, Style::PythonSorted | Style::Canonical) {
                    pairs.sort_by_key(|(key, _)| key);
                }
                out.push('{');
                for (i, (key, value)) in pairs.into_iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { style.comma() });
                    key.write(style, out);
                    out.push_str(style.colon());
                    value.write(style, out);
                }
                out.push('}');
            }
        }
    }

    /// What [`Json::write`] appends, as a string of its own.
    pub fn to_string_styled(&self, style: Style) -> String {
        let mut out = String::new();
        self.write(style, &mut out);
        out
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        /// Of equal keys the last stays, as in a Python dict.
        fn as_map(pairs: &[(Text, Json)]) -> BTreeMap<&Text, &Json> {
            pairs.iter().map(|(key, value)| (key, value)).collect()
        }
        match (self, other) {
            (Json::Null, Json::Null) => true,
            (Json::Bool(a), Json::Bool(b)) => a == b,
            (Json::Number(a), Json::Number(b)) => a == b,
            (Json::String(a), Json::String(b)) => a == b,
            (Json::Array(a), Json::Array(b)) => a == b,
            (Json::Object(a), Json::Object(b)) => as_map(a) == as_map(b),
            _ => false,
        }
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Json {
        Json::Number(Number::from_u64(value))
    }
}

impl From<f64> for Json {
    fn from(value: f64) -> Json {
        Json::Number(Number::from_f64(value))
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::String(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::String(text.into())
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Json {
        Json::Array(items)
    }
}

/// How [`Json::write`] writes.
///
/// No style drops a pair whose key occurs again: a Python dict with the keys `1` and `"1"` is written with
/// two pairs named `"1"`, and so are they here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Style {
    /// What `json.dumps(x)` gives for the `x` that `json.loads` made of the text: `", "` and `": "` between
    /// things, ASCII only, floats as `repr` has them.
    Python,
    /// What `json.dumps(x, sort_keys=True, separators=(",", ":"))` gives: as `Python`, but without spaces,
    /// and with the keys of every object in the order of their code points.
    PythonSorted,
    /// For people and other tools: no spaces, numbers as they stood in the source, and characters as
    /// themselves unless JSON demands an escape or a terminal would act on them. NaN and the infinities are
    /// written bare, and lone surrogates as escapes; a caller who needs strict JSON asks [`Json::is_strict`] first.
    Compact,
    /// The one text that a value has in a native file: no spaces, the keys of every object in the order of their code
    /// points, numbers as they stood in the source, and characters as themselves but for `"`, `\\` and those below
    /// U+0020. What is said at `Compact` of NaN and of lone surrogates holds here too.
    Canonical,
}

impl Style {
    const fn comma(self) -> &'static str {
        if matches!(self, Style::Python) { ", " } else { "," }
    }

    const fn colon(self) -> &'static str {
        if matches!(self, Style::Python) { ": " } else { ":" }
    }
}

/// A number, kept as the text it was written with.
///
/// `==` compares values, as described at [`Json`].
#[derive(Clone, Debug)]
pub struct Number {
    /// Always in the grammar of JSON numbers, or one of `NaN`, `Infinity` and `-Infinity`.
    text: Box<str>,
}

impl Number {
    /// An integer.
    pub fn from_u64(value: u64) -> Number {
        Number { text: value.to_string().into() }
    }

    /// An integer.
    pub fn from_i64(value: i64) -> Number {
        Number { text: value.to_string().into() }
    }

    /// A float, with the text that Python's `json.dumps` gives it. Any value will do, NaN too.
    pub fn from_f64(value: f64) -> Number {
        Number { text: python_float(value).into() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether Python reads an `int` from the text: it has neither a point nor an exponent.
    pub fn is_integer(&self) -> bool {
        self.text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
    }

    /// The value of an integer within `u64`; `None` for `1.0`, which is not an integer to Python either.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_integer_text()?.parse().ok()
    }

    /// The nearest `f64`, which is an infinity if the number is out of range.
    pub fn as_f64(&self) -> f64 {
        self.text.parse().expect("Rust reads every JSON number, NaN and Infinity")
    }

    /// The text of an integer in the one form that Python prints, so that equal texts are equal values.
    fn as_integer_text(&self) -> Option<&str> {
        match self.text() {
            "-0" => Some("0"),
            text => self.is_integer().then_some(text),
        }
    }

    fn write(&self, style: Style, out: &mut String) {
        match (style, self.as_integer_text()) {
            (Style::Compact | Style::Canonical, _) => out.push_str(&self.text),
            (_, Some(text)) => out.push_str(text),
            (_, None) => out.push_str(&python_float(self.as_f64())),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        // The integer may be beyond 2^53, where many of them round to the same float: nearness of the two is
        // not enough. A float that an integer rounds to is whole, and `{:.0}` prints all of its digits.
        let same =
            |integer: &str, float: f64| float == 0.0 && integer == "0" || format!("{float:.0}") == integer;
        match (self.as_integer_text(), other.as_integer_text()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.as_f64() == other.as_f64(),
            (Some(integer), None) => self.as_f64() == other.as_f64() && same(integer, other.as_f64()),
            (None, Some(integer)) => self.as_f64() == other.as_f64() && same(integer, self.as_f64()),
        }
    }
}

/// A string whose code points may include lone surrogates, which Python's strings hold and Rust's do not.
///
/// Ordered by code point, as Python orders its strings.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Repr);

/// Every text has one representation: `Wtf8` is for those that are not UTF-8.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Utf8(String),
    /// UTF-8 but for one or more surrogates, written in three bytes as if they were characters. A high one
    /// never stands directly before a low one: those make a character.
    Wtf8(Vec<u8>),
}

impl Text {
    /// The text, unless it has a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::Utf8(text) => Some(text),
            Repr::Wtf8(_) => None,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Utf8(text) => text.as_bytes(),
            Repr::Wtf8(bytes) => bytes,
        }
    }

    fn push_str(&mut self, text: &str) {
        match &mut self.0 {
            Repr::Utf8(all) => all.push_str(text),
            Repr::Wtf8(bytes) => bytes.extend_from_slice(text.as_bytes()),
        }
    }

    fn push(&mut self, char: char) {
        self.push_str(char.encode_utf8(&mut [0; 4]));
    }

    /// Appends a surrogate. The caller keeps a high one and a low one apart, as `Repr::Wtf8` demands.
    fn push_surrogate(&mut self, unit: u16) {
        let mut bytes = match mem::take(self).0 {
            Repr::Utf8(text) => text.into_bytes(),
            Repr::Wtf8(bytes) => bytes,
        };
        let [high, low] = unit.to_be_bytes();
        bytes.extend([0xe0 | high >> 4, 0x80 | (high & 0x0f) << 2 | low >> 6, 0x80 | low & 0x3f]);
        self.0 = Repr::Wtf8(bytes);
    }

    /// The text in order, cut before and after every lone surrogate.
    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut rest = self.as_bytes();
        core::iter::from_fn(move || {
            let valid_len = match core::str::from_utf8(rest) {
                Ok(_) => rest.len(),
                Err(error) => error.valid_up_to(),
            };
            let (valid, after) = rest.split_at(valid_len);
            if let ([], [first, second, third, after @ ..]) = (valid, after) {
                rest = after;
                let bits = |byte: u8, mask: u8| u16::from(byte & mask);
                return Some(Piece::Surrogate(
                    bits(*first, 0x0f) << 12 | bits(*second, 0x3f) << 6 | bits(*third, 0x3f),
                ));
            }
            rest = after;
            let valid = core::str::from_utf8(valid).expect("checked above");
            (!valid.is_empty()).then_some(Piece::Str(valid))
        })
    }

    fn write(&self, style: Style, out: &mut String) {
        out.push('"');
        for piece in self.pieces() {
            match piece {
                Piece::Str(text) => text.chars().for_each(|char| write_char(char, style, out)),
                Piece::Surrogate(unit) => write_code_unit(unit, out),
            }
        }
        out.push('"');
    }
}

impl Default for Repr {
    fn default() -> Repr {
        Repr::Utf8(String::new())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        text.to_owned().into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Repr::Utf8(text))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

/// The characters, with U+FFFD for each lone surrogate.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces().try_for_each(|piece| match piece {
            Piece::Str(text) => f.write_str(text),
            Piece::Surrogate(_) => f.write_char(char::REPLACEMENT_CHARACTER),
        })
    }
}

/// The text as JSON, in which a lone surrogate can be seen.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = String::new();
        self.write(Style::Compact, &mut json);
        f.write_str(&json)
    }
}

/// Why bytes are not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the JSON text: {kind}")]
pub struct JsonError {
    /// The byte at which reading stopped; the length of the text if it ended too soon.
    pub offset: usize,
    /// What is wrong there.
    pub kind: JsonErrorKind,
}

/// What can be wrong with JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The text is not UTF-8.
    #[error("expected UTF-8")]
    InvalidUtf8,
    /// A byte that cannot stand here.
    #[error("expected {expected}, found '{}'", .found.escape_ascii())]
    UnexpectedByte {
        /// What could stand here.
        expected: &'static str,
        /// What does.
        found: u8,
    },
    /// The text ends within a value.
    #[error("expected {expected}, found the end")]
    UnexpectedEnd {
        /// What was still to come.
        expected: &'static str,
    },
    /// An array or object begins at a depth that the caller did not allow.
    #[error("expected at most {limit} arrays and objects inside each other; raise the limit to read more")]
    TooDeep {
        /// The depth that the caller allowed.
        limit: usize,
    },
    /// A number that JSON has no room for, such as `01`, `-x` or `1.`.
    #[error("bad number: expected {expected}, found '{}'", .found.escape_ascii())]
    BadNumber {
        /// What could stand here.
        expected: &'static str,
        /// What does.
        found: u8,
    },
    /// A backslash before a character that it does not go with.
    #[error(r#"bad escape: expected one of " \ / b f n r t u, found '{}'"#, .found.escape_ascii())]
    BadEscape {
        /// What stands after the backslash.
        found: u8,
    },
    /// `\u` without four digits.
    #[error("bad escape: expected four hexadecimal digits after \\u, found '{}'", .found.escape_ascii())]
    BadUnicodeEscape {
        /// What stands in the place of a digit.
        found: u8,
    },
    /// A string holds a character below U+0020 as itself.
    #[error("expected an escape for the control character '{}'", .found.escape_ascii())]
    ControlCharacter {
        /// The character.
        found: u8,
    },
    /// The value is complete and yet there is more.
    #[error("expected nothing after the value")]
    TrailingBytes,
}

/// Recursive descent. `at` stands on a character boundary of `text`.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// The limit that the caller set, for the message.
    depth: usize,
}

impl<'a> Parser<'a> {
    /// A value and the white space around it, with room for `depth` more levels.
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.skip_space();
        let rest = self.rest();
        let value = match rest.as_bytes() {
            [b'{' | b'[', ..] if depth == 0 => {
                return Err(self.error(JsonErrorKind::TooDeep { limit: self.depth }));
            }
            [b'{', ..] => Json::Object(self.list(b'}', "`,` or `}`", |parser| parser.pair(depth - 1))?),
            [b'[', ..] => Json::Array(self.list(b']', "`,` or `]`", |parser| parser.value(depth - 1))?),
            [b'"', ..] => Json::String(self.string()?),
            [b'n', ..] => self.word("null", Json::Null)?,
            [b't', ..] => self.word("true", Json::Bool(true))?,
            [b'f', ..] => self.word("false", Json::Bool(false))?,
            [b'N', ..] => self.word("NaN", f64::NAN.into())?,
            [b'I', ..] => self.word("Infinity", f64::INFINITY.into())?,
            [b'-', b'I', ..] => self.word("-Infinity", f64::NEG_INFINITY.into())?,
            [b'-' | b'0'..=b'9', ..] => Json::Number(self.number()?),
            _ => return Err(self.unexpected("a value")),
        };
        self.skip_space();
        Ok(value)
    }

    /// Items between the bracket that is next and `close`. Each reads the white space around it.
    fn list<T>(
        &mut self,
        close: u8,
        after_item: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(close) {
                // A vector of one has room for four, which a file of small lists would make us keep.
                items.shrink_to_fit();
                return Ok(items);
            }
            self.expect(b',', after_item)?;
        }
    }

    fn pair(&mut self, depth: usize) -> Result<(Text, Json), JsonError> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("`\"` and a key"));
        }
        let key = self.string()?;
        self.skip_space();
        self.expect(b':', "`:` and a value")?;
        Ok((key, self.value(depth)?))
    }

    /// `word`, of which the first byte was seen.
    fn word(&mut self, word: &'static str, value: Json) -> Result<Json, JsonError> {
        word.bytes().try_for_each(|byte| self.expect(byte, word))?;
        Ok(value)
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        } else if let Some(found @ b'0'..=b'9') = self.peek() {
            return Err(
                self.error(JsonErrorKind::BadNumber { expected: "no digit after a leading 0", found })
            );
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(Number { text: self.text[start..self.at].into() })
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let expected = "a digit";
        match self.peek() {
            Some(b'0'..=b'9') => {}
            Some(found) => return Err(self.error(JsonErrorKind::BadNumber { expected, found })),
            None => return Err(self.unexpected(expected)),
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    /// A string, of which the opening quote was seen.
    fn string(&mut self) -> Result<Text, JsonError> {
        let mut text = Text::default();
        self.at += 1;
        loop {
            let rest = self.rest();
            let special = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let plain = &rest[..special.unwrap_or(rest.len())];
            text.push_str(plain);
            self.at += plain.len();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape(&mut text)?,
                Some(found) => return Err(self.error(JsonErrorKind::ControlCharacter { found })),
                None => return Err(self.unexpected("the end of a string")),
            }
        }
    }

    /// An escape, of which the backslash was seen.
    fn escape(&mut self, text: &mut Text) -> Result<(), JsonError> {
        self.at += 1;
        let char = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(text),
            Some(found) => return Err(self.error(JsonErrorKind::BadEscape { found })),
            None => return Err(self.unexpected("the rest of an escape")),
        };
        self.at += 1;
        text.push(char);
        Ok(())
    }

    /// `uXXXX`, and the `\uXXXX` after it if the two are the halves of a surrogate pair.
    fn unicode_escape(&mut self, text: &mut Text) -> Result<(), JsonError> {
        let decode = |units: &[u16]| char::decode_utf16(units.iter().copied()).next()?.ok();
        let first = self.code_unit()?;
        if let Some(char) = decode(&[first]) {
            text.push(char);
            return Ok(());
        }
        let after_first = self.at;
        if self.rest().starts_with("\\u") {
            self.at += 1;
            let second = self.code_unit()?;
            if let Some(char) = decode(&[first, second]) {
                text.push(char);
                return Ok(());
            }
        }
        self.at = after_first;
        text.push_surrogate(first);
        Ok(())
    }

    /// `uXXXX`, of which the `u` was seen.
    fn code_unit(&mut self) -> Result<u16, JsonError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = match self.peek() {
                Some(byte @ b'0'..=b'9') => byte - b'0',
                Some(byte @ b'a'..=b'f') => byte - b'a' + 10,
                Some(byte @ b'A'..=b'F') => byte - b'A' + 10,
                Some(found) => return Err(self.error(JsonErrorKind::BadUnicodeEscape { found })),
                None => return Err(self.unexpected("four hexadecimal digits after \\u")),
            };
            unit = unit << 4 | u16::from(digit);
            self.at += 1;
        }
        Ok(unit)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Passes over an ASCII byte if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn unexpected(&self, expected: &'static str) -> JsonError {
        self.error(match self.peek() {
            Some(found) => JsonErrorKind::UnexpectedByte { expected, found },
            None => JsonErrorKind::UnexpectedEnd { expected },
        })
    }

    fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError { offset: self.at, kind }
    }
}

/// A part of a [`Text`].
enum Piece<'a> {
    Str(&'a str),
    Surrogate(u16),
}

/// `float.__repr__`, except that JSON has its own names for what is not finite.
///
/// Python and Rust both print the fewest digits that read back as the same value, and of those the nearest.
/// The easy version is therefore `{value:?}`, and it is wrong in two ways:
///
/// 1. Python writes an exponent below 1e-4 and from 1e16 on, with a sign and two digits or more.
/// 2. Halfway between two candidates Python takes the even one, and Rust the greater: 1535457228777117.25 is
///    `1535457228777117.2` to Python and `1535457228777117.3` to `{value:?}`. But asked for a number of
///    digits, Rust too rounds to even; so we let it find out how many, and ask again.
fn python_float(value: f64) -> String {
    fn split(scientific: &str) -> (&str, isize) {
        let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` prints an exponent");
        (mantissa, exponent.parse().expect("an exponent is an integer"))
    }
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let shortest = format!("{value:e}");
    let (mantissa, exponent) = split(&shortest);
    let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if (-4..16).contains(&exponent) {
        let decimals = decimals.saturating_add_signed(-exponent).max(1);
        return format!("{value:.decimals$}");
    }
    // Floats stand closer below a power of two than above it, so that at some powers the nearest decimal
    // reads back as another float, and the shortest is the next one up. Powers in the range above are short.
    let rounded = format!("{value:.decimals$e}");
    let (mantissa, exponent) = split(if rounded.parse() == Ok(value) { &rounded } else { &shortest });
    format!("{mantissa}e{exponent:+03}")
}

fn write_char(char: char, style: Style, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        ' '..='~' => out.push(char),
        '\u{7f}'.. if style == Style::Canonical => out.push(char),
        // Not what a terminal would act on: control characters, and marks that turn the direction of text round.
        '\u{a0}'..
            if style == Style::Compact
                && !matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
        {
            out.push(char);
        }
        _ => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write_code_unit(*unit, out)),
    }
}

fn write_code_unit(unit: u16, out: &mut String) {
    write!(out, "\\u{unit:04x}").expect("a String takes all that is written to it");
}
