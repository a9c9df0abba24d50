//! What Python's `json` module does, and that `cvc_format::json` does the same. Every expectation about
//! Python was printed by CPython 3.11.7.

use cvc_format::json::{Json, JsonErrorKind, Number, Style, Text};

const DEPTH: usize = 64;

fn parse(text: &str) -> Json {
    Json::parse(text.as_bytes(), DEPTH).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// `json.dumps(json.loads(text))`
fn python(text: &str) -> String {
    parse(text).to_string_styled(Style::Python)
}

/// `json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))`
fn python_sorted(text: &str) -> String {
    parse(text).to_string_styled(Style::PythonSorted)
}

fn compact(text: &str) -> String {
    parse(text).to_string_styled(Style::Compact)
}

#[test]
fn floats_print_as_python_prints_them() {
    for (text, expected) in [
        ("-0.0", "-0.0"),
        ("0.0", "0.0"),
        ("1.0", "1.0"),
        ("1e0", "1.0"),
        ("1E2", "100.0"),
        ("1.50", "1.5"),
        ("0.1", "0.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("0.1000000014901161193847656250", "0.10000000149011612"),
        ("1e-4", "0.0001"),
        ("0.00012345", "0.00012345"),
        ("0.00001", "1e-05"),
        ("-1.5e-7", "-1.5e-07"),
        ("1e15", "1000000000000000.0"),
        ("9999999999999998.0", "9999999999999998.0"),
        ("1e16", "1e+16"),
        ("12345678901234567.0", "1.2345678901234568e+16"),
        ("9007199254740993.0", "9007199254740992.0"),
        ("1e22", "1e+22"),
        ("1e23", "1e+23"),
        ("1E+100", "1e+100"),
        ("-2.6688811501061087e+36", "-2.6688811501061087e+36"),
        ("3.4028234663852886e38", "3.4028234663852886e+38"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("2.2250738585072014e-308", "2.2250738585072014e-308"),
        ("4.9406564584124654e-324", "5e-324"),
        ("1e-400", "0.0"),
        ("1e400", "Infinity"),
        ("-1e400", "-Infinity"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("1e99999999999999999999", "Infinity"),
        ("0e99999999999999999999", "0.0"),
    ] {
        assert_eq!(python(text), expected, "{text}");
    }
}

#[test]
fn floats_halfway_between_two_texts_print_the_even_one() {
    assert_eq!(python("1535457228777117.25"), "1535457228777117.2");
    assert_eq!(python("1535457228777117.75"), "1535457228777117.8");
    assert_eq!(python("-2201645350372901.25"), "-2201645350372901.2");
    assert_eq!(python("93258963564352.125"), "93258963564352.12");
}

#[test]
fn powers_of_two_print_the_shortest_text_that_reads_back() {
    // The nearest decimals of as many digits, ..044e-307 and ..397e-304, are other floats.
    assert_eq!(python("7.120236347223045e-307"), "7.120236347223045e-307");
    assert_eq!(python("7.291122019556398e-304"), "7.291122019556398e-304");
}

#[test]
fn integers_keep_their_digits() {
    assert_eq!(python("0"), "0");
    assert_eq!(python("-0"), "0");
    assert_eq!(python("18446744073709551616"), "18446744073709551616");
    let long = "-123456789012345678901234567890123456789012345";
    assert_eq!(python(long), long);
}

#[test]
fn strings_print_as_python_prints_them() {
    for (text, expected) in [
        ("\"é中😀\"", r#""\u00e9\u4e2d\ud83d\ude00""#),
        (r#""\u00E9\u4e2d\uD83D\uDE00""#, r#""\u00e9\u4e2d\ud83d\ude00""#),
        (r#""\/\b\f\n\r\t\"\\""#, r#""/\b\f\n\r\t\"\\""#),
        (r#""\u0000\u001f\u007f\u0080\u2028""#, r#""\u0000\u001f\u007f\u0080\u2028""#),
        ("\" !~\u{7f}\"", r#"" !~\u007f""#),
        (r#""\ud83d""#, r#""\ud83d""#),
        (r#""\ude00\ud83d""#, r#""\ude00\ud83d""#),
        (r#""\ud83dx\ude00""#, r#""\ud83dx\ude00""#),
        (r#""\ud83d\n""#, r#""\ud83d\n""#),
        (r#""\ud800\u0041""#, r#""\ud800A""#),
        (r#""\uD800\ud83d\uDE00\udfff""#, r#""\ud800\ud83d\ude00\udfff""#),
    ] {
        assert_eq!(python(text), expected, "{text}");
    }
}

#[test]
fn containers_print_as_python_prints_them() {
    assert_eq!(python(" {\n} "), "{}");
    assert_eq!(python("[ ]"), "[]");
    assert_eq!(python("[1,2.5 ,\t\r\n[null]]"), "[1, 2.5, [null]]");
    let nested = r#"{"b":[1,{"z":null,"a":true}],"a":false}"#;
    assert_eq!(python(nested), r#"{"b": [1, {"z": null, "a": true}], "a": false}"#);
    assert_eq!(python_sorted(nested), r#"{"a":false,"b":[1,{"a":true,"z":null}]}"#);
}

#[test]
fn keys_sort_by_code_point() {
    // In UTF-16 U+E000 would come after U+1F600.
    assert_eq!(
        python_sorted(r#"{"\ue000":1,"\ud83d\ude00":2,"\ud83d":3,"B":4,"a":5,"":6}"#),
        r#"{"":6,"B":4,"a":5,"\ud83d":3,"\ue000":1,"\ud83d\ude00":2}"#
    );
}

#[test]
fn duplicate_keys_are_kept_and_the_last_is_found() {
    let json = parse(r#"{"1": "a", "x": 0, "1": "b"}"#);
    assert_eq!(json.get("1").and_then(Json::as_str), Some("b"));
    assert_eq!(json.to_string_styled(Style::Python), r#"{"1": "a", "x": 0, "1": "b"}"#);
    assert_eq!(json.to_string_styled(Style::PythonSorted), r#"{"1":"a","1":"b","x":0}"#);
}

#[test]
fn compact_keeps_characters_and_the_text_of_numbers() {
    assert_eq!(
        compact(
            r#"{ "\u00e9\ud83d\ude00\u007f\u009b\u202e": [1E2, -0, 1.50, NaN], "\ud83d\t\u0001": "\/" }"#
        ),
        "{\"é😀\\u007f\\u009b\\u202e\":[1E2,-0,1.50,NaN],\"\\ud83d\\t\\u0001\":\"/\"}"
    );
}

#[test]
fn strictness_is_what_other_readers_can_take() {
    assert!(parse(r#"{"a": [1e999, "\ud83d\ude00", null, true]}"#).is_strict());
    for text in ["NaN", "[Infinity]", r#"{"a": -Infinity}"#, r#""\ud83d""#, r#"{"\ude00": 1}"#] {
        assert!(!parse(text).is_strict(), "{text}");
    }
}

#[test]
fn numbers_are_equal_by_value() {
    for (a, b) in [
        ("1", "1.0"),
        ("1e0", "1"),
        ("1e0", "1.0"),
        ("0", "-0"),
        ("0", "-0.0"),
        ("0.0", "-0"),
        ("-1", "-1e0"),
        ("9007199254740992", "9007199254740992.0"),
        ("9007199254740992.0", "9007199254740993.0"),
        ("10000000000000000905969664", "1e25"),
        ("1e999", "Infinity"),
        ("-1e999", "-Infinity"),
    ] {
        assert!(parse(a) == parse(b) && parse(b) == parse(a), "{a} {b}");
    }
    let huge = format!("1{}", "0".repeat(400));
    for (a, b) in [
        ("9007199254740993", "9007199254740992.0"),
        ("9007199254740992", "9007199254740993"),
        ("10000000000000000000000000", "1e25"),
        ("18446744073709551616", "18446744073709551617"),
        (&huge, "Infinity"),
        ("0", "5e-324"),
        ("1", "-1"),
        ("NaN", "NaN"),
        ("1", "true"),
        ("0", "false"),
        ("0", "null"),
        ("1", "\"1\""),
    ] {
        assert!(parse(a) != parse(b) && parse(b) != parse(a), "{a} {b}");
    }
}

#[test]
fn objects_are_equal_as_maps() {
    for (a, b) in [
        (r#"{"a":1,"b":[2]}"#, r#"{"b":[2.0],"a":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":NaN,"a":2}"#, r#"{"a":2,"a":2}"#),
        (r#"{"\ud83d\ude00":"\u00e9"}"#, "{\"😀\":\"é\"}"),
    ] {
        assert!(parse(a) == parse(b) && parse(b) == parse(a), "{a} {b}");
    }
    for (a, b) in [
        (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
        (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
        (r#"{"a":NaN}"#, r#"{"a":NaN}"#),
        ("{}", "[]"),
        ("[1,2]", "[2,1]"),
        ("[1]", "[1,1]"),
        (r#""\ud83d""#, "\"\u{fffd}\""),
    ] {
        assert!(parse(a) != parse(b) && parse(b) != parse(a), "{a} {b}");
    }
}

#[test]
fn large_objects_are_compared_in_reasonable_time() {
    let key = |i: u64| (format!("{i}"), Json::from(i));
    let (up, down) = (Json::object((0..100_000).map(key)), Json::object((0..100_000).rev().map(key)));
    assert!(up == down);
}

#[test]
fn numbers_convert_exactly_or_to_the_nearest() {
    assert_eq!(parse("18446744073709551615").as_u64(), Some(u64::MAX));
    assert_eq!(parse("-0").as_u64(), Some(0));
    for text in ["18446744073709551616", "-1", "1.0", "1e0", "NaN", "\"1\"", "true"] {
        assert_eq!(parse(text).as_u64(), None, "{text}");
    }
    assert_eq!(parse("9007199254740993").as_f64(), Some(9007199254740992.0));
    assert_eq!(parse("-0").as_f64().map(f64::to_bits), Some((-0.0_f64).to_bits()));
    assert_eq!(parse(&"9".repeat(400)).as_f64(), Some(f64::INFINITY));
    assert_eq!(parse("-Infinity").as_f64(), Some(f64::NEG_INFINITY));
    assert!(parse("NaN").as_f64().is_some_and(f64::is_nan));
    assert_eq!(parse("null").as_f64(), None);
    assert!(Number::from_i64(-3).is_integer());
    assert!(!Number::from_f64(3.0).is_integer());
    assert!(!Number::from_f64(f64::INFINITY).is_integer());
}

#[test]
fn built_values_are_written_like_read_ones() {
    let json = Json::object([
        ("rows", Json::from(u64::MAX)),
        ("delta", Json::Number(Number::from_i64(i64::MIN))),
        ("min", Json::from(-1e-5)),
        ("scale", Json::from(f64::NAN)),
        ("names", Json::from(vec![Json::from("a"), Json::from(String::from("é"))])),
        ("on", Json::from(true)),
        ("none", Json::Null),
    ]);
    let text = concat!(
        r#"{"rows": 18446744073709551615, "delta": -9223372036854775808, "min": -1e-05, "scale": NaN, "#,
        r#""names": ["a", "\u00e9"], "on": true, "none": null}"#
    );
    assert_eq!(json.to_string_styled(Style::Python), text);
    assert_eq!(python(text), text);
}

#[test]
fn accessors_answer_only_for_their_kind() {
    let json = parse(r#"{"a": [1, "s", false, null], "lone": "\ud83d"}"#);
    let items = json.get("a").and_then(Json::as_array).unwrap();
    assert_eq!(items.iter().map(Json::kind).collect::<Vec<_>>(), ["number", "string", "bool", "null"]);
    assert_eq!((json.kind(), json.get("a").unwrap().kind()), ("object", "array"));
    assert_eq!((items[1].as_str(), items[2].as_bool()), (Some("s"), Some(false)));
    assert_eq!((items[0].as_str(), items[0].as_bool()), (None, None));
    assert_eq!(json.get("lone").unwrap().as_str(), None);
    assert!(json.get("b").is_none() && items[0].get("a").is_none() && json.as_array().is_none());
    assert_eq!(json.as_object().map(<[_]>::len), Some(2));
}

#[test]
fn texts_with_lone_surrogates_can_be_shown() {
    let Json::String(text) = parse(r#""a\ud83d\n""#) else { panic!("a string") };
    assert_eq!(text.to_string(), "a\u{fffd}\n");
    assert_eq!(format!("{text:?}"), r#""a\ud83d\n""#);
    assert_eq!(text.as_str(), None);
    let plain = Text::from("a");
    assert!(plain == "a" && text != "a" && plain < text);
}

#[test]
fn every_error_says_where_and_what() {
    for (bytes, offset, message) in [
        (&b""[..], 0, "expected a value, found the end"),
        (b" ", 1, "expected a value, found the end"),
        (b"+1", 0, "expected a value, found '+'"),
        (b"\xef\xbb\xbf{}", 0, "expected a value, found '\\xef'"),
        (b"[1,]", 3, "expected a value, found ']'"),
        (b"[1 2]", 3, "expected `,` or `]`, found '2'"),
        (b"[1}", 2, "expected `,` or `]`, found '}'"),
        (b"{\"a\":1]", 6, "expected `,` or `}`, found ']'"),
        (b"{a:1}", 1, "expected `\"` and a key, found 'a'"),
        (b"{\"a\":1,}", 7, "expected `\"` and a key, found '}'"),
        (b"{\"a\" 1}", 5, "expected `:` and a value, found '1'"),
        (b"nul1", 3, "expected null, found '1'"),
        (b"-Inf", 4, "expected -Infinity, found the end"),
        (b"1.", 2, "expected a digit, found the end"),
        (b"01", 1, "bad number: expected no digit after a leading 0, found '1'"),
        (b"-x", 1, "bad number: expected a digit, found 'x'"),
        (b"[1.]", 3, "bad number: expected a digit, found ']'"),
        (b"1e+-1", 3, "bad number: expected a digit, found '-'"),
        (b"\"abc", 4, "expected the end of a string, found the end"),
        (b"\"\\", 2, "expected the rest of an escape, found the end"),
        (b"\"\\x\"", 2, "bad escape: expected one of \" \\ / b f n r t u, found 'x'"),
        (b"\"\\u12g4\"", 5, "bad escape: expected four hexadecimal digits after \\u, found 'g'"),
        (b"\"\\ud83d\\u+123\"", 9, "bad escape: expected four hexadecimal digits after \\u, found '+'"),
        (b"\"\\u12", 5, "expected four hexadecimal digits after \\u, found the end"),
        (b"\"a\nb\"", 2, "expected an escape for the control character '\\n'"),
        (b"\"a\xff\"", 2, "expected UTF-8"),
        (b"\"\xed\xa0\x80\"", 1, "expected UTF-8"),
        (b"{} {}", 3, "expected nothing after the value"),
        (b"1 // one", 2, "expected nothing after the value"),
    ] {
        let error = Json::parse(bytes, DEPTH).unwrap_err();
        assert_eq!(
            (error.offset, error.kind.to_string().as_str()),
            (offset, message),
            "{}",
            bytes.escape_ascii()
        );
        assert_eq!(error.to_string(), format!("byte {offset} of the JSON text: {message}"));
    }
}

#[test]
fn nesting_is_bounded() {
    assert!(Json::parse(b"1", 0).is_ok());
    assert!(Json::parse(b"[{}, [], {\"a\": []}]", 3).is_ok());
    for bytes in [&b"[{}, [], {\"a\": []}]"[..], b"[[ {} ]]"] {
        let error = Json::parse(bytes, 2).unwrap_err();
        assert_eq!(error.kind, JsonErrorKind::TooDeep { limit: 2 });
    }
    let error = Json::parse(&b"[".repeat(1 << 20), DEPTH).unwrap_err();
    assert_eq!((error.offset, error.kind), (DEPTH, JsonErrorKind::TooDeep { limit: DEPTH }));
}

/// A little of everything.
const SAMPLE: &str = r#"{"num_vectors": 3, "min": -1.5e-07, "nan": [NaN, Infinity, -Infinity], "n\ud83d\ude00é": {
    "lone": "\ud83d\u0041", "": [], "big": 123456789012345678901234567890}, "t": true, "f": false, "z": null}"#;

#[test]
fn truncation_is_an_error_and_never_a_panic() {
    parse(SAMPLE);
    for len in 0..SAMPLE.len() {
        let error = Json::parse(&SAMPLE.as_bytes()[..len], DEPTH).unwrap_err();
        assert!(error.offset <= len, "{len}");
    }
}

#[test]
fn damage_is_never_a_panic_and_what_is_read_can_be_written() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let alphabet = br#"0123456789+-.eE\"/bfnrtuUdD8cC{}[],: NIaly"#;
    for _ in 0..20_000 {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = alphabet[random(alphabet.len())],
                2 => bytes.insert(at, alphabet[random(alphabet.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        let Ok(json) = Json::parse(&bytes, DEPTH) else { continue };
        for style in [Style::Python, Style::PythonSorted, Style::Compact, Style::Canonical] {
            let text = json.to_string_styled(style);
            assert_eq!(parse(&text).to_string_styled(style), text, "{}", bytes.escape_ascii());
        }
    }
}

/// `json.dumps(x, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)`, but for numbers, which
/// stay as they are.
#[test]
fn canonical_text_has_no_needless_escapes() {
    let canonical = |text: &str| parse(text).to_string_styled(Style::Canonical);
    let controls: String = (0..0x20u8).map(char::from).collect();
    let source = parse(&format!(r#"[{}]"#, Json::from(controls.as_str()).to_string_styled(Style::Python)));
    assert_eq!(
        source.to_string_styled(Style::Canonical),
        concat!(
            r#"["\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f\u0010\u0011\u0012\u0013\u0014"#,
            r#"\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f"]"#
        )
    );
    assert_eq!(
        canonical(
            r#" {"b": [1, -7], "\ud83d\ude00": 0, "\uffff": 1, "a": " \"\\\/\u007f\u0080\u2028\u202e\u00e9"} "#
        ),
        "{\"a\":\" \\\"\\\\/\u{7f}\u{80}\u{2028}\u{202e}é\",\"b\":[1,-7],\"\u{ffff}\":1,\"😀\":0}"
    );
    assert_eq!(
        canonical("[1.50, -0, 1e999, 123456789012345678901234567890]"),
        "[1.50,-0,1e999,123456789012345678901234567890]"
    );
}
