//! `cvc pack --target-recall`: the cheapest codec that finds enough, and what was measured.

use serde_json::{Value, json};

use crate::harness::{Folder, example, npy, npy_f32, vecs};

fn pack(folder: &Folder, options: &[&str]) -> Value {
    let vectors = example("minilm2k.f32.npy");
    let call = ["pack", vectors.to_str().unwrap(), "-o", "a.cvc", "--json"];
    folder.cvc(&[call.as_slice(), options].concat()).ok().json()
}

/// The codec taken is the one of the file, reaches the target, and none that does is cheaper.
#[track_caller]
fn check(packed: &Value, target: f64) -> String {
    let said = &packed["target_recall"];
    let codec = said["codec"].as_str().unwrap();
    assert_eq!(packed["arrays"][0]["codec"], codec);
    assert_eq!((&said["k"], said["target"].as_f64()), (&json!(10), Some(target)));
    let rungs = said["rungs"].as_array().unwrap();
    let taken = rungs.iter().find(|rung| rung["codec"] == codec).unwrap();
    assert!(taken["recall"].as_f64().unwrap() >= target, "{said}");
    let cheapest = rungs
        .iter()
        .filter(|rung| rung["recall"].as_f64().is_some_and(|recall| recall >= target))
        .map(|rung| rung["bytes_per_value"].as_f64().unwrap())
        .fold(f64::INFINITY, f64::min);
    assert_eq!(taken["bytes_per_value"].as_f64(), Some(cheapest), "{said}");
    codec.to_owned()
}

#[test]
fn the_cheapest_codec_that_finds_enough_is_taken() {
    let folder = Folder::new();
    let packed = pack(&folder, &["--target-recall", "0.99"]);
    assert_eq!(check(&packed, 0.99), "int8");
    let said = &packed["target_recall"];
    assert_eq!(
        (&said["rows"], &said["queries"], &said["metric"]),
        (&json!(1800), &json!(200), &json!("cosine"))
    );
    // Every codec of the ladder that this program has is measured, in its order.
    let names: Vec<&str> =
        said["rungs"].as_array().unwrap().iter().map(|rung| rung["codec"].as_str().unwrap()).collect();
    let vectors = example("minilm2k.f32.npy");
    let known = |codec: &&str| {
        let call = ["pack", vectors.to_str().unwrap(), "-o", "x.cvc", "--codec", codec, "--json"];
        folder.cvc(&call).stdout().starts_with('{')
    };
    assert_eq!(
        names,
        ["int4", "int8", "fp16", "lossless", "raw"].into_iter().filter(known).collect::<Vec<_>>()
    );
    for name in names.iter().rev().take(2) {
        let rung = said["rungs"].as_array().unwrap().iter().find(|rung| rung["codec"] == **name).unwrap();
        assert_eq!((&rung["recall"], &rung["refused"]), (&json!(1.0), &Value::Null), "{name}");
    }

    check(&pack(&folder, &["--target-recall", "1"]), 1.0);
    let queries = example("minilm2k.queries.npy");
    let packed = pack(
        &folder,
        &["--target-recall", "0.995", "--queries", queries.to_str().unwrap(), "--metric", "l2"],
    );
    check(&packed, 0.995);
    let said = &packed["target_recall"];
    assert_eq!((&said["rows"], &said["queries"], &said["metric"]), (&json!(2000), &json!(50), &json!("l2")));
}

#[test]
fn people_see_what_was_measured() {
    let folder = Folder::new();
    let vectors = example("minilm2k.f32.npy");
    let call =
        ["pack", vectors.to_str().unwrap(), "-o", "a.cvc", "--target-recall", "0.99", "--add", "ids=ids.txt"];
    folder.write("ids.txt", "x\n".repeat(2000));
    let run = folder.cvc(&call).ok();
    let lines: Vec<&str> = run.stdout().lines().collect();
    assert_eq!(lines[0], "measured on 1800 rows for 200 queries by cosine:");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["codec", "bytes/value", "recall@10"]);
    assert_eq!(lines.iter().filter(|line| line.ends_with("  taken")).count(), 1);
    assert!(lines.last().unwrap().starts_with("packed 2000 rows"), "{}", run.stdout());
    folder.cvc(&["unpack", "a.cvc", "-o", "ids.back.txt", "--array", "ids"]).ok();
}

#[test]
fn rows_that_a_codec_refuses_go_into_another() {
    let folder = Folder::new();
    // Beyond what halves hold; the row does not divide by the others.
    folder.write(
        "a.npy",
        npy_f32(300, 4, |at| if at == 9 { f32::NAN } else { (at * at % 9973) as f32 * 40.0 }),
    );
    let json = folder
        .cvc(&["pack", "a.npy", "-o", "a.cvc", "--target-recall", "0.9", "--metric", "l2", "--json"])
        .ok()
        .json();
    check(&json, 0.9);
    let rungs = json["target_recall"]["rungs"].as_array().unwrap();
    let int8 = rungs.iter().find(|rung| rung["codec"] == "int8").unwrap();
    assert!(int8["refused"].as_str().unwrap().contains("NaN") && int8["recall"].is_null(), "{int8}");
    // Small numbers of one byte: what keeps them is cheaper than what would round them.
    let bytes: Vec<u8> = (0..128 * 400usize).map(|at| u8::try_from(at * at % 7919 % 90).unwrap()).collect();
    folder.write("b.bvecs", vecs(128, 1, &bytes));
    let json = folder
        .cvc(&["pack", "b.bvecs", "-o", "b.cvc", "--target-recall", "0.99", "--metric", "l2", "--json"])
        .ok()
        .json();
    check(&json, 0.99);
    assert_eq!(json["arrays"][0]["dtype"], "u8");
}

#[test]
fn wrong_calls_say_what_is_wrong() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(300, 4, |at| (at % 97) as f32));
    folder.write("few.npy", npy_f32(11, 4, |at| at as f32));
    folder.write("wide.npy", npy_f32(3, 5, |at| at as f32));
    folder.write("bits.npy", npy("|u1", &[300, 4], &[7; 1200]));
    let names = folder.names();
    for (call, words) in [
        ("pack a.npy -o x.cvc --target-recall 1.5", ["--target-recall", "1.5", "0.99"].as_slice()),
        ("pack a.npy -o x.cvc --target-recall 0", &["--target-recall", "'0'"]),
        ("pack a.npy -o x.cvc --target-recall 0.9 --codec int8", &["--target-recall", "--codec int8"]),
        ("pack a.npy -o x.cvc --target-recall 0.9 --scope dim", &["--scope"]),
        ("pack a.npy -o x.cvc --target-recall 0.9 --layout v1", &["--target-recall", "--layout native"]),
        (
            "pack a.npy -o x.cvc --target-recall 0.9 --queries wide.npy",
            &["--queries", "wide.npy", "5 values", "of 4"],
        ),
        ("pack a.npy -o x.cvc --target-recall 0.9 --queries none.npy", &["none.npy"]),
        ("pack a.npy -o x.cvc --target-recall 0.9 --metric hamming", &["hamming", "f32"]),
        ("pack a.npy -o x.cvc --queries wide.npy", &["--target-recall"]),
        ("pack a.npy -o x.cvc --metric l2", &["--target-recall"]),
        ("pack few.npy -o x.cvc --target-recall 0.9", &["10 rows and 1 queries", "codec by name"]),
    ] {
        folder.cvc(&call.split(' ').collect::<Vec<_>>()).refused(2, words);
    }
    assert_eq!(folder.names(), names);
    folder
        .cvc(&["pack", "bits.npy", "-o", "x.cvc", "--target-recall", "0.9", "--metric", "hamming", "--json"])
        .ok();
}
