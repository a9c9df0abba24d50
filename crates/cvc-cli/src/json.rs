//! Our own `--json`: strict JSON, whatever a file's metadata holds.

use cvc::Json;
use serde_json::{Map, Number, Value};

use crate::report::{Failure, to_stdout};

/// Prints one object.
pub(crate) fn print(value: &Value) -> Result<(), Failure> {
    to_stdout(&value.to_string())
}

/// Metadata as strict JSON: `NaN` and infinities become strings, lone surrogates U+FFFD; of duplicate keys the last
/// one counts. Numbers keep all their digits.
pub(crate) fn strict(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.text().parse::<Number>() {
            Ok(number) => Value::Number(number),
            Err(_) => Value::String(number.text().into()),
        },
        Json::String(text) => Value::String(text.to_string()),
        Json::Array(items) => Value::Array(items.iter().map(strict).collect()),
        Json::Object(pairs) => Value::Object(
            pairs.iter().map(|(key, value)| (key.to_string(), strict(value))).collect::<Map<_, _>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstream_writes_becomes_strict() {
        let json = Json::parse(
            br#"{"a": NaN, "b": [-Infinity, 123456789012345678901234567890], "c": "\ud800", "a": 1}"#,
            9,
        );
        let text = strict(&json.unwrap()).to_string();
        assert_eq!(text, "{\"a\":1,\"b\":[\"-Infinity\",123456789012345678901234567890],\"c\":\"\u{fffd}\"}");
    }
}
