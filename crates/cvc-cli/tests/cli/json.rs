//! The objects of `--json`: what others may rely on.

use serde_json::Value;

use crate::harness::{Folder, npy_f32, small};

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    let options = ["--codec", "int8", "--chunk-rows", "4"];
    folder.cvc(&[["pack", "a.npy@source=wiki", "-o", "a.cvc"].as_slice(), &options].concat()).ok();
    folder.cvc(&[["pack", "a.npy@k=v", "-o", "v1.cvc", "--layout", "v1"].as_slice(), &options].concat()).ok();
    folder
}

/// Checks keys and the kinds of their values: `text`, `count`, `number`, `flag`, `list`, `object`, `null`, or
/// several with `|` between.
#[track_caller]
fn check(value: &Value, expected: &[(&str, &str)]) {
    for (key, kinds) in expected {
        let found = value.get(*key).unwrap_or_else(|| panic!("no {key} in {value}"));
        let is = |kind: &str| match kind {
            "text" => found.is_string(),
            "count" => found.is_u64(),
            "number" => found.is_number(),
            "flag" => found.is_boolean(),
            "list" => found.is_array(),
            "object" => found.is_object(),
            "null" => found.is_null(),
            other => panic!("{other} is no kind"),
        };
        assert!(kinds.split('|').any(is), "{key} is no {kinds}: {found}");
    }
}

const INFO: [(&str, &str); 5] = [
    ("layout", "text"),
    ("arrays", "list"),
    ("sections", "list"),
    ("metadata", "object"),
    ("file_len", "count"),
];

const ARRAY: [(&str, &str); 11] = [
    ("name", "text"),
    ("dtype", "text"),
    ("shape", "list"),
    ("codec", "text"),
    ("params", "object"),
    ("chunks", "count"),
    ("block_rows", "count|null"),
    ("stored_len", "count"),
    ("ratio", "number|null"),
    ("loss", "object|null"),
    ("provenance", "object|null"),
];

#[test]
fn info_has_the_keys_that_others_rely_on() {
    let folder = folder();
    for (file, layout) in [("a.cvc", "native"), ("v1.cvc", "v1")] {
        let json = folder.cvc(&["info", file, "--json"]).ok().json();
        check(&json, &INFO);
        check(&json["arrays"][0], &ARRAY);
        check(&json["sections"][0], &[("start", "count"), ("end", "count"), ("metadata", "object")]);
        assert_eq!(json["layout"], layout);
        assert_eq!(json["file_len"].as_u64(), Some(folder.read(file).len() as u64));
        let array = &json["arrays"][0];
        assert_eq!((&array["name"], &array["dtype"]), (&"vectors".into(), &"f32".into()));
        assert_eq!(array["shape"], serde_json::json!([6, 4]));
        assert_eq!(array["chunks"].as_u64(), Some(2));
        if layout == "native" {
            assert_eq!((&array["codec"], &array["params"]["scope"]), (&"int8".into(), &"row".into()));
            assert_eq!(array["block_rows"].as_u64(), Some(1024));
            let loss = &array["loss"];
            check(loss, &[("max_abs_error", "number"), ("mse", "number"), ("min_cosine", "number")]);
        } else {
            assert_eq!((&array["codec"], &array["params"]["scope"]), (&"cvcf.int8".into(), &"chunk".into()));
            assert_eq!((array["stored_len"].as_u64(), array["ratio"].as_f64()), (Some(24), Some(4.0)));
            assert!(array["block_rows"].is_null() && array["loss"].is_null());
        }
    }

    let explained = folder.cvc(&["info", "a.cvc", "--json", "--explain"]).ok().json();
    check(&explained, &INFO);
    check(&explained, &[("explain", "list")]);
}

#[test]
fn pack_prints_what_info_would_and_what_only_packing_knows() {
    let folder = folder();
    let json = folder.cvc(&["pack", "a.npy", "-o", "b.cvc", "--json"]).ok().json();
    check(&json, &INFO);
    check(&json["arrays"][0], &ARRAY);
    check(
        &json,
        &[
            ("output", "text"),
            ("rows", "count"),
            ("chunks", "count"),
            ("input_len", "count"),
            ("ratio", "number"),
            ("seconds", "number"),
        ],
    );
    assert_eq!(json["output"], "b.cvc");
    assert_eq!((json["rows"].as_u64(), json["input_len"].as_u64()), (Some(6), Some(96)));
    let info = folder.cvc(&["info", "b.cvc", "--json"]).ok().json();
    assert_eq!(json["arrays"], info["arrays"]);
}

#[test]
fn unpack_says_what_was_written_and_where_it_was_decoded() {
    let folder = folder();
    let call = ["unpack", "a.cvc", "-o", "b.npy", "--rows", "1..4", "--dtype", "f16", "--json"];
    let json = folder.cvc(&call).ok().json();
    check(
        &json,
        &[
            ("output", "text"),
            ("array", "text"),
            ("dtype", "text"),
            ("shape", "list"),
            ("device", "text"),
            ("passed_over", "list"),
            ("seconds", "number"),
        ],
    );
    check(&json, &[("lost", "list")]);
    assert_eq!((&json["output"], &json["dtype"]), (&"b.npy".into(), &"f16".into()));
    assert_eq!(json["shape"], serde_json::json!([3, 4]));
}

#[test]
fn verify_lists_damage_by_rows_and_bytes() {
    let folder = folder();
    const DAMAGED: [(&str, &str); 6] = [
        ("array", "text"),
        ("chunk", "count"),
        ("rows", "list"),
        ("bytes", "list"),
        ("ranges", "list"),
        ("what", "text"),
    ];
    const VERIFY: [(&str, &str); 3] = [("ok", "flag"), ("checksums", "text"), ("damaged", "list")];
    let json = folder.cvc(&["verify", "a.cvc", "--json"]).ok().json();
    check(&json, &VERIFY);
    assert_eq!((&json["ok"], &json["checksums"]), (&true.into(), &"blocks".into()));
    let json = folder.cvc(&["verify", "v1.cvc", "--json"]).ok().json();
    check(&json, &VERIFY);
    assert_eq!((&json["ok"], &json["checksums"]), (&true.into(), &"chunks".into()));

    let mut bytes = folder.read("v1.cvc");
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("bad.cvc", &bytes);
    let json = folder.cvc(&["verify", "bad.cvc", "--json"]).status(1).json();
    check(&json, &VERIFY);
    let damaged = &json["damaged"][0];
    check(damaged, &DAMAGED);
    assert_eq!(damaged["bytes"], serde_json::json!([bytes.len() - 8, bytes.len()]));
    assert_eq!(damaged["ranges"], serde_json::json!([damaged["bytes"]]));

    // The first block of a native file: a row has four codes, and a minimum and a scale elsewhere.
    let mut bytes = folder.read("a.cvc");
    bytes[128] ^= 1;
    folder.write("bad.cvc", &bytes);
    let json = folder.cvc(&["verify", "bad.cvc", "--json"]).status(1).json();
    check(&json, &VERIFY);
    let damaged = &json["damaged"][0];
    check(damaged, &DAMAGED);
    assert_eq!(damaged["rows"], serde_json::json!([0, 4]));
    let ranges = damaged["ranges"].as_array().unwrap();
    assert_eq!(ranges.len(), 3, "{json}");
    assert_eq!((&damaged["bytes"][0], &damaged["bytes"][1]), (&ranges[0][0], &ranges[2][1]));

    folder.write("short.cvc", &bytes[..9]);
    let json = folder.cvc(&["verify", "short.cvc", "--json"]).status(1).json();
    check(&json, &VERIFY);
    check(&json["damaged"][0], &[("array", "null"), ("rows", "null"), ("bytes", "null"), ("what", "text")]);

    folder.cvc(&["pack", "a.npy", "-o", "v0.cvc", "--layout", "v0"]).ok();
    assert_eq!(folder.cvc(&["verify", "v0.cvc", "--json"]).ok().json()["checksums"], "none");
}

#[test]
fn devices_names_each_backend_and_the_one_that_auto_takes() {
    let json = Folder::new().cvc(&["devices", "--json"]).ok().json();
    check(&json, &[("devices", "list"), ("auto", "text")]);
    let devices = json["devices"].as_array().unwrap();
    for device in devices {
        check(
            device,
            &[
                ("backend", "text"),
                ("number", "number|null"),
                ("name", "text|null"),
                ("available", "flag"),
                ("auto", "flag"),
                ("reason", "text"),
                ("limits", "object"),
            ],
        );
    }
    let backends: Vec<&str> = devices.iter().map(|device| device["backend"].as_str().unwrap()).collect();
    assert!(["cpu", "cuda", "wgpu"].iter().all(|backend| backends.contains(backend)), "{backends:?}");
    let taken: Vec<_> = devices.iter().filter(|device| device["auto"] == true).collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (&taken[0]["backend"], &taken[0]["available"]),
        (&json["auto"], &serde_json::Value::Bool(true))
    );
}

#[test]
fn metadata_is_strict_json_with_all_its_digits() {
    let folder = folder();
    let sections = r#"[{"start": 0, "count": 1, "metadata":
        {"nan": NaN, "big": 123456789012345678901234567890, "text": "\u00e9\n"}}]"#;
    folder.write("s.json", sections);
    folder.cvc(&["pack", "a.npy", "-o", "b.cvc", "--sections", "s.json"]).ok();
    let run = folder.cvc(&["info", "b.cvc", "--json"]).ok();
    let metadata = &run.json()["sections"][0]["metadata"];
    assert_eq!(metadata["nan"], "NaN");
    assert_eq!(metadata["big"].to_string(), "123456789012345678901234567890");
    assert_eq!(metadata["text"], "é\n");
}
