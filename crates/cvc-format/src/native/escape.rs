//! JSON that no strict reader would take, said in JSON that any reader takes.
//!
//! Users' metadata may come from Python, whose `json` module writes bare NaN, lone surrogates and keys that occur
//! twice. Metadata of native files is strict JSON, so what strict JSON cannot say is said as a text within it:
//!
//! ```text
//! {"score": NaN}                in memory
//! {"score":{"$json":"NaN"}}     in the file
//! ```
//!
//! The innermost value is escaped that has to be: the number, the string, the object whose keys are at fault. An
//! object whose only key is `$json` would be taken for an escape, so it is escaped too.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json::{Json, Style, Text};

/// The only key of an escape.
const KEY: &str = "$json";

/// `json` without anything that strict JSON cannot say.
pub(super) fn escape(json: &Json) -> Json {
    match json {
        Json::Number(_) | Json::String(_) if !json.is_strict() => wrap(json),
        Json::Object(pairs) if !are_plain_keys(pairs) => wrap(json),
        Json::Object(pairs) => {
            Json::Object(pairs.iter().map(|(key, value)| (key.clone(), escape(value))).collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(escape).collect()),
        other => other.clone(),
    }
}

/// What [`escape`] was given, with at most `depth` arrays and objects inside each other.
///
/// # Errors
/// An escape that holds no JSON text, as a clause that tells what is wrong.
pub(super) fn unescape(json: &Json, depth: usize) -> Result<Json, String> {
    match json {
        Json::Object(pairs) => {
            if let [(key, value)] = pairs.as_slice()
                && key == KEY
            {
                return unwrap(value, depth);
            }
            let pair =
                |(key, value): &(Text, Json)| Ok((key.clone(), unescape(value, depth.saturating_sub(1))?));
            Ok(Json::Object(pairs.iter().map(pair).collect::<Result<_, String>>()?))
        }
        Json::Array(items) => {
            let items = items.iter().map(|item| unescape(item, depth.saturating_sub(1)));
            Ok(Json::Array(items.collect::<Result<_, String>>()?))
        }
        other => Ok(other.clone()),
    }
}

/// Whether an object can stand as itself: valid Unicode, every key once, and not what an escape looks like.
pub(super) fn are_plain_keys(pairs: &[(Text, Json)]) -> bool {
    if let [(key, _)] = pairs
        && key == KEY
    {
        return false;
    }
    let mut keys: Vec<&Text> = pairs.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.iter().all(|key| key.as_str().is_some()) && keys.windows(2).all(|pair| pair[0] != pair[1])
}

fn wrap(json: &Json) -> Json {
    Json::object([(KEY, Json::from(json.to_string_styled(Style::Python)))])
}

fn unwrap(text: &Json, depth: usize) -> Result<Json, String> {
    let Some(text) = text.as_str() else {
        return Err(format!("has an escape \"{KEY}\" of type {}, expected a string", text.kind()));
    };
    Json::parse(text.as_bytes(), depth)
        .map_err(|error| format!("has an escape \"{KEY}\" that is not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes(), 64).unwrap()
    }

    fn text(json: &Json) -> String {
        json.to_string_styled(Style::Canonical)
    }

    /// What a value is in memory, and what it is in a file.
    const ESCAPES: [(&str, &str); 14] = [
        ("null", "null"),
        (r#"{"a":[1e-5,"\u0007é\u007f"]}"#, "{\"a\":[1e-5,\"\\u0007é\u{7f}\"]}"),
        ("NaN", r#"{"$json":"NaN"}"#),
        ("[1,-Infinity]", r#"[1,{"$json":"-Infinity"}]"#),
        (r#"{"score":Infinity}"#, r#"{"score":{"$json":"Infinity"}}"#),
        (r#""x\ud800y""#, r#"{"$json":"\"x\\ud800y\""}"#),
        (r#"{"a":{"\udfff":1}}"#, r#"{"a":{"$json":"{\"\\udfff\": 1}"}}"#),
        (r#"{"k":1,"k":NaN}"#, r#"{"$json":"{\"k\": 1, \"k\": NaN}"}"#),
        (r#"{"$json":"1"}"#, r#"{"$json":"{\"$json\": \"1\"}"}"#),
        (r#"{"$json":NaN}"#, r#"{"$json":"{\"$json\": NaN}"}"#),
        (r#"{"$json":1,"$json":2}"#, r#"{"$json":"{\"$json\": 1, \"$json\": 2}"}"#),
        // Two keys are no escape.
        (r#"{"$json":1,"b":2}"#, r#"{"$json":1,"b":2}"#),
        (r#"{"$json":NaN,"b":2}"#, r#"{"$json":{"$json":"NaN"},"b":2}"#),
        ("1e999", "1e999"),
    ];

    #[test]
    fn escapes_are_the_smallest_and_go_round() {
        for (memory, file) in ESCAPES {
            let escaped = escape(&json(memory));
            assert_eq!(text(&escaped), file);
            assert!(escaped.is_strict());
            let back = unescape(&json(file), 64).unwrap();
            // NaN equals nothing, so texts are compared.
            assert_eq!(back.to_string_styled(Style::Python), json(memory).to_string_styled(Style::Python));
        }
    }

    /// Also when an escape is what the user had, at any number of levels.
    #[test]
    fn escapes_of_escapes_go_round() {
        let mut value = json("NaN");
        for _ in 0..5 {
            let escaped = escape(&value);
            let back = unescape(&json(&text(&escaped)), 64).unwrap();
            assert_eq!(text(&back), text(&value));
            value = escaped;
        }
    }

    #[test]
    fn rejects_malformed_escapes() {
        for (file, problem) in [
            (r#"{"$json":1}"#, "has an escape \"$json\" of type number, expected a string"),
            (r#"{"$json":{}}"#, "of type object, expected a string"),
            (r#"[{"a":{"$json":""}}]"#, "is not valid JSON: byte 0 of the JSON text"),
            (r#"{"$json":"NaN NaN"}"#, "is not valid JSON: byte 4"),
        ] {
            let found = unescape(&json(file), 64).unwrap_err();
            assert!(found.contains(problem), "{found}");
        }
    }

    /// What an escape holds counts as if it stood there itself.
    #[test]
    fn escapes_cannot_hide_depth() {
        let file = json(r#"{"a":[{"$json":"[[NaN]]"}]}"#);
        assert!(unescape(&file, 4).is_ok());
        let problem = unescape(&file, 3).unwrap_err();
        assert!(problem.contains("at most 1 arrays and objects"), "{problem}");
    }
}
