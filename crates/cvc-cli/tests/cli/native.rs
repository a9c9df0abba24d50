//! What only native files have: strings, arrays beside the vectors, codecs with options, metadata, provenance, loss.

use serde_json::json;

use crate::harness::{Folder, npy, npy_f32, small, values};

/// A file of vectors, ids, names and flags of six rows, and the bytes of the ids.
fn folder() -> (Folder, Vec<u8>) {
    let folder = Folder::new();
    let ids: Vec<u8> = (0..6_i64).flat_map(|id| (id << 40).to_le_bytes()).collect();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.write("ids.npy", npy("<i8", &[6], &ids));
    folder.write("flags.npy", npy("|b1", &[6, 2], &[1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0]));
    folder.write("names.txt", "zero\neins\n\nдва\nthree ☃\nfive");
    folder
        .cvc(&[
            "pack",
            "a.npy",
            "-o",
            "a.cvc",
            "--add",
            "ids=ids.npy",
            "--add",
            "names=names.txt",
            "--add",
            "flags=flags.npy",
            "--chunk-rows",
            "4",
        ])
        .ok();
    (folder, ids)
}

#[test]
fn native_is_the_default_and_arrays_beside_the_vectors_are_exact() {
    let (folder, _) = folder();
    let info = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    assert_eq!(info["layout"], "native");
    let arrays: Vec<_> = info["arrays"]
        .as_array()
        .unwrap()
        .iter()
        .map(|array| [&array["name"], &array["dtype"], &array["codec"]].map(|text| text.as_str().unwrap()))
        .collect();
    let expected = [
        ["vectors", "f32", "fp16"],
        ["ids", "i64", "raw"],
        ["names", "utf8", "zstd"],
        ["flags", "bool", "raw"],
    ];
    assert_eq!(arrays, expected);
    for (name, input) in [("vectors", "a.npy"), ("ids", "ids.npy"), ("flags", "flags.npy")] {
        folder.cvc(&["unpack", "a.cvc", "-o", "back.npy", "--array", name]).ok();
        assert_eq!(folder.read("back.npy"), folder.read(input), "{name}");
    }
}

#[test]
fn lines_become_strings_and_lines_again() {
    let (folder, _) = folder();
    let unpack = |out: &str, options: &[&str]| {
        folder.cvc(&[["unpack", "a.cvc", "--array", "names", "-o", out].as_slice(), options].concat()).ok();
        String::from_utf8(folder.read(out)).unwrap()
    };
    assert_eq!(unpack("out.txt", &[]), "zero\neins\n\nдва\nthree ☃\nfive\n");
    assert_eq!(unpack("out.TXT", &["--rows", "1..4"]), "eins\n\nдва\n");
    let list: Vec<String> = serde_json::from_str(&unpack("out.json", &[])).unwrap();
    assert_eq!(list, ["zero", "eins", "", "два", "three ☃", "five"]);
    assert_eq!(unpack("out.json", &["--rows", "2..2"]), "[]\n");

    let json = folder.cvc(&["unpack", "a.cvc", "--array", "names", "-o", "out.txt", "--json"]).ok().json();
    assert_eq!((&json["dtype"], &json["shape"]), (&"utf8".into(), &json!([6])));

    // However lines end, and whatever an editor puts before them.
    folder.write("dos.txt", "\u{feff}zero\r\neins\r\n\r\nдва\r\nthree ☃\r\nfive\r\n");
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--add", "names=dos.txt"]).ok();
    assert_eq!(unpack("out.txt", &[]), "zero\neins\n\nдва\nthree ☃\nfive\n");
}

#[test]
fn strings_go_into_files_that_can_hold_them() {
    let (folder, _) = folder();
    let names = folder.names();
    let refused = |options: &[&str], words: &[&str]| {
        folder.cvc(&[["unpack", "a.cvc", "--array", "names"].as_slice(), options].concat()).refused(2, words);
        assert_eq!(folder.names(), names);
    };
    refused(&["-o", "x.npy"], &["--output", "'x.npy'", "\"names\"", ".txt", ".json"]);
    refused(&["-o", "x.txt", "--dims", "1"], &["--dims", "\"names\""]);
    refused(&["-o", "x.txt", "--dtype", "f16"], &["--dtype", "\"names\"", "strings"]);

    // A carriage return within a line is kept, and would break the line for most readers.
    folder.write("names.txt", "a\nb\rc\nd\ne\nf\ng\n");
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--add", "names=names.txt"]).ok();
    refused(&["-o", "x.txt"], &["--output", "row 1", "line break", ".json"]);
    folder.cvc(&["unpack", "a.cvc", "--array", "names", "-o", "x.json", "--rows", "1..2"]).ok();
    assert_eq!(folder.read("x.json"), b"[\n\"b\\rc\"\n]\n");
}

#[test]
fn the_first_dims_of_each_row() {
    let (folder, _) = folder();
    let wide = values(6, 4, small);
    folder.cvc(&["unpack", "a.cvc", "-o", "b.npy", "--dims", "3", "--rows", "1..6"]).ok();
    let back = folder.npy("b.npy");
    assert_eq!(back.shape, [5, 3]);
    let expected: Vec<f32> = wide.chunks(4).skip(1).flat_map(|row| &row[..3]).copied().collect();
    assert_eq!(folder.f32s("b.npy"), expected);
    folder.cvc(&["unpack", "a.cvc", "-o", "b.npy", "--dims", "4"]).ok();
    assert_eq!(folder.f32s("b.npy"), wide);
    folder.cvc(&["unpack", "a.cvc", "-o", "b.npy", "--dims", "1", "--array", "flags"]).ok();
    assert_eq!(folder.read("b.npy"), npy("|b1", &[6, 1], &[1, 0, 1, 0, 0, 1]));
    // What decompressed calls lossless is one stream.
    folder.cvc(&["pack", "a.npy", "-o", "v1.cvc", "--layout", "v1", "--codec", "lossless"]).ok();
    let call = ["unpack", "v1.cvc", "-o", "b.npy", "--dims", "3"];
    assert!(folder.cvc(&call).status(2).stderr().contains("first 3 values"));
}

#[test]
fn rows_come_in_the_order_of_the_list_and_as_often() {
    let (folder, _) = folder();
    let wide = values(6, 4, small);
    let row = |row: usize| &wide[row * 4..row * 4 + 4];
    folder.write("rows.txt", "5\n0\n 0 \n\n4\n");
    folder.write("rows.npy", npy("<i8", &[4], &[5u64, 0, 0, 4].map(u64::to_le_bytes).concat()));
    for list in ["rows.txt", "rows.npy"] {
        folder.cvc(&["unpack", "a.cvc", "-o", "b.npy", "--rows-from", list]).ok();
        assert_eq!(folder.f32s("b.npy"), [row(5), row(0), row(0), row(4)].concat(), "{list}");
        folder.cvc(&["unpack", "a.cvc", "-o", "b.txt", "--array", "names", "--rows-from", list]).ok();
        assert_eq!(String::from_utf8(folder.read("b.txt")).unwrap(), "five\nzero\nzero\nthree ☃\n");
    }
    folder.write("rows.txt", "");
    folder.cvc(&["unpack", "a.cvc", "-o", "b.npy", "--rows-from", "rows.txt"]).ok();
    assert_eq!(folder.npy("b.npy").shape, [0, 4]);
}

#[test]
fn metadata_and_provenance_are_kept() {
    let (folder, _) = folder();
    folder
        .cvc(&[
            "pack",
            "a.npy@source=wiki",
            "-o",
            "a.cvc",
            "--meta",
            "project=demo",
            "--meta",
            "version=2",
            "--provenance",
            "model=mini",
            "--provenance",
            "normalized=true",
        ])
        .ok();
    let info = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    assert_eq!(info["metadata"], json!({ "project": "demo", "version": 2 }));
    assert_eq!(info["arrays"][0]["provenance"], json!({ "model": "mini", "normalized": true }));
    let shown = folder.cvc(&["info", "a.cvc"]).ok();
    for words in ["provenance {\"model\":\"mini\"", "metadata ", "{\"project\":\"demo\"", "section 0..6"] {
        assert!(shown.stdout().contains(words), "{words}\n{}", shown.stdout());
    }
}

#[test]
fn blocks_and_scopes_are_as_asked_for() {
    let (folder, _) = folder();
    for scope in ["row", "dim", "chunk"] {
        let options = ["--codec", "int8", "--scope", scope, "--block-rows", "2", "--chunk-rows", "4"];
        folder.cvc(&[["pack", "a.npy", "-o", "a.cvc"].as_slice(), &options].concat()).ok();
        let array = &folder.cvc(&["info", "a.cvc", "--json"]).ok().json()["arrays"][0];
        assert_eq!((&array["params"], &array["block_rows"]), (&json!({ "scope": scope }), &json!(2)));
        assert_eq!(array["chunks"], 2);
        let verified = folder.cvc(&["verify", "a.cvc"]).ok();
        assert!(verified.stdout().starts_with("ok: 2 chunks, 3 blocks; "), "{}", verified.stdout());
        let shown = folder.cvc(&["info", "a.cvc"]).ok();
        assert!(shown.stdout().contains(&format!("codec int8, scope {scope}\n")), "{}", shown.stdout());
        assert!(shown.stdout().contains("in 2 chunks, blocks of 2 rows"), "{}", shown.stdout());
    }
    // The blocks of other arrays are their own.
    let options = ["--add", "ids=ids.npy", "--block-rows", "2", "--codec", "ids=zstd"];
    folder.cvc(&[["pack", "a.npy", "-o", "a.cvc"].as_slice(), &options].concat()).ok();
    let ids = &folder.cvc(&["info", "a.cvc", "--json"]).ok().json()["arrays"][1];
    assert_eq!((&ids["codec"], &ids["block_rows"]), (&"zstd".into(), &json!(2048)));
}

#[test]
fn loss_is_that_of_all_chunks() {
    let folder = Folder::new();
    // Chunks of four rows and of one, of which only the latter loses anything.
    folder.write("a.npy", npy_f32(5, 2, |i| if i < 8 { 1.0 } else { [0.0, 2049.0][i - 8] }));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--chunk-rows", "4"]).ok();
    let loss = folder.cvc(&["info", "a.cvc", "--json"]).ok().json()["arrays"][0]["loss"].clone();
    assert_eq!((loss["max_abs_error"].as_f64(), loss["mse"].as_f64()), (Some(1.0), Some(0.1)), "{loss}");
    let cosine = loss["min_cosine"].as_f64().unwrap();
    assert!((0.999..=1.0).contains(&cosine));
    let shown = folder.cvc(&["info", "a.cvc"]).ok();
    assert!(shown.stdout().contains("largest error 1.00e0, mean square 1.00e-1"), "{}", shown.stdout());

    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--codec", "lossless"]).ok();
    let json = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    assert_eq!(json["arrays"][0]["loss"], json!({ "max_abs_error": 0.0, "mse": 0.0, "min_cosine": 1.0 }));
    assert!(folder.cvc(&["info", "a.cvc"]).ok().stdout().contains("exact: every bit comes back"));
}

#[test]
fn values_that_a_codec_cannot_represent_are_named_unless_they_may_change() {
    let folder = Folder::new();
    folder.write("nan.npy", npy_f32(3, 2, |i| if i == 3 { f32::NAN } else { small(i) }));
    folder.write("big.npy", npy_f32(3, 2, |i| if i == 4 { 1e6 } else { small(i) }));
    for (input, codec, place) in
        [("nan.npy", "int8", "(row 1, column 1)"), ("big.npy", "fp16", "(row 2, column 0)")]
    {
        let call = ["pack", input, "-o", "a.cvc", "--codec", codec];
        let words = ["\"vectors\"", codec, place, "--nonfinite saturate", "raw"];
        folder.cvc(&call).refused(2, &words);
        folder.cvc(&[call.as_slice(), &["--nonfinite", "refuse"]].concat()).refused(2, &words);
        assert_eq!(folder.names(), ["big.npy", "nan.npy"]);
        folder.cvc(&[call.as_slice(), &["--nonfinite", "saturate"]].concat()).ok();
        let loss = &folder.cvc(&["info", "a.cvc", "--json"]).ok().json()["arrays"][0]["loss"];
        if codec == "int8" {
            assert_eq!(loss["max_abs_error"], "Infinity", "what became of a NaN is nowhere near it");
        } else {
            assert_eq!(loss["max_abs_error"].as_f64(), Some(934_496.0));
        }
        std::fs::remove_file(folder.path("a.cvc")).unwrap();
    }
}

#[test]
fn explain_lists_a_line_for_each_way_to_decode() {
    let (folder, _) = folder();
    let run = folder.cvc(&["info", "a.cvc", "--explain", "--device", "cpu"]).ok();
    for words in [
        "array \"vectors\" to f32: read, check crc32c of each block on the host; widen_f16 on ",
        "array \"ids\" to i64: ",
        "array \"names\" to strings: ",
        "zstd",
    ] {
        assert!(run.stdout().contains(words), "{words}\n{}", run.stdout());
    }
    assert_eq!(run.stdout().matches("array \"vectors\" to").count(), 1, "both chunks are decoded alike");
}

/// However rows are split over inputs, the file is the same.
#[test]
fn texts_larger_than_a_batch_stream() {
    let folder = Folder::new();
    let rows = 70_000;
    folder.write("a.npy", npy_f32(rows, 1, small));
    let lines: Vec<String> = (0..rows).map(|row| format!("row {row}")).collect();
    folder.write("a.txt", lines.join("\n"));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--add", "ids=a.txt", "--chunk-rows", "999"]).ok();
    folder.cvc(&["verify", "a.cvc"]).ok();
    folder.cvc(&["unpack", "a.cvc", "-o", "b.txt", "--array", "ids"]).ok();
    assert_eq!(folder.read("b.txt"), (lines.join("\n") + "\n").as_bytes());
    folder.cvc(&["unpack", "a.cvc", "-o", "b.txt", "--array", "ids", "--rows", "65535..65537"]).ok();
    assert_eq!(folder.read("b.txt"), b"row 65535\nrow 65536\n");
}
