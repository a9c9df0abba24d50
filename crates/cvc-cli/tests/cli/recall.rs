//! `cvc recall`: what counts as found, and what does not.

use serde_json::{Value, json};

use crate::harness::{Folder, example, npy, npy_f32, vecs};

/// The sample by codec int8, its queries and its truth.
fn sample(codec: &str) -> Folder {
    let folder = Folder::new();
    let path = |name: &str| example(name).to_str().unwrap().to_owned();
    folder.cvc(&["pack", &path("minilm2k.f32.npy"), "-o", "a.cvc", "--codec", codec]).ok();
    for (from, to) in [("queries", "q.npy"), ("gt.cosine", "t.npy"), ("f32", "x.npy")] {
        std::fs::copy(example(&format!("minilm2k.{from}.npy")), folder.path(to)).unwrap();
    }
    folder
}

fn at(json: &Value, k: u64) -> &Value {
    json["at"].as_array().unwrap().iter().find(|at| at["k"] == k).unwrap()
}

#[test]
fn what_loses_nothing_finds_everything() {
    let folder = sample("raw");
    for options in [[].as_slice(), &["--against", "x.npy"]] {
        let call = ["recall", "a.cvc", "t.npy", "q.npy", "--json"];
        let json = folder.cvc(&[call.as_slice(), options].concat()).ok().json();
        assert_eq!((&json["recall"], &json["k"], &json["queries"]), (&json!(1.0), &json!(10), &json!(50)));
        let ks: Vec<&Value> = json["at"].as_array().unwrap().iter().map(|at| &at["k"]).collect();
        assert_eq!(ks, [1, 10]);
        assert_eq!(at(&json, 10)["found"], 500);
        assert_eq!(json["counted"], if options.is_empty() { "rows" } else { "scores" });
    }
}

#[test]
fn a_codec_that_loses_is_measured_and_counting_distances_is_never_less() {
    let folder = sample("int8");
    folder.cvc(&["pack", "x.npy", "-o", "a.cvc", "--codec", "int8", "--scope", "chunk"]).ok();
    let by = |options: &[&str]| {
        let call = ["recall", "a.cvc", "t.npy", "q.npy", "-k", "9", "--json"];
        folder.cvc(&[call.as_slice(), options].concat()).ok().json()
    };
    let (rows, scores) = (by(&[]), by(&["--against", "x.npy"]));
    let (rows, scores) = (rows["recall"].as_f64().unwrap(), scores["recall"].as_f64().unwrap());
    assert!((0.95..1.0).contains(&rows) && rows <= scores, "{rows} {scores}");

    // The same numbers, from what was found: the first nine of the truth are to be found.
    let found = folder.cvc(&["search", "a.cvc", "q.npy", "-k", "9", "--json"]).ok().json();
    let truth = folder.npy("t.npy");
    let truth: Vec<i64> =
        truth.bytes.as_chunks().0.iter().map(|bytes| i32::from_ne_bytes(*bytes).into()).collect();
    let hits: usize = found["indices"]
        .as_array()
        .unwrap()
        .iter()
        .zip(truth.chunks(10))
        .map(|(found, truth)| {
            let found = found.as_array().unwrap();
            found.iter().filter(|row| truth[..9].contains(&row.as_i64().unwrap())).count()
        })
        .sum();
    assert_eq!(rows, hits as f64 / 450.0);
}

#[test]
fn rescoring_brings_back_what_codes_have_lost() {
    let folder = sample("raw");
    let call =
        ["pack", "x.npy", "-o", "b.cvc", "--codec", "raw", "--add", "small=x.npy", "--codec", "small=int8"];
    folder.cvc(&call).ok();
    let call = ["recall", "b.cvc", "t.npy", "q.npy", "--array", "small", "--rescore", "vectors", "--json"];
    let json = folder.cvc(&call).ok().json();
    assert_eq!(
        (&json["recall"], &json["rescore"], &json["candidates"]),
        (&json!(1.0), &"vectors".into(), &json!(100))
    );
}

#[test]
fn people_get_a_table() {
    let folder = sample("raw");
    let run = folder.cvc(&["recall", "a.cvc", "t.npy", "q.npy", "-k", "3"]).ok();
    let lines: Vec<Vec<&str>> = run.stdout().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["k", "recall", "found", "wanted"]);
    assert_eq!(lines[1], ["1", "1.0000", "50", "50"]);
    assert_eq!(lines[2], ["3", "1.0000", "150", "150"]);
    assert_eq!(lines[3], ["10", "1.0000", "500", "500"]);
    assert!(run.stdout().contains("recall@3 1.0000 of 50 queries by cosine, counted by numbers of rows"));
}

/// Rows 1 to 4 are alike; the truth names 3 and 4 for the second and third place, the search finds 1 and 2.
fn alike() -> Folder {
    let folder = Folder::new();
    folder.write("x.npy", npy_f32(6, 1, |at| [0.0, 1.0, 1.0, 1.0, 1.0, 9.0][at]));
    folder.write("q.npy", npy_f32(1, 1, |_| 0.0));
    folder.write("t.npy", npy("<i8", &[1, 3], &[0i64, 3, 4].map(i64::to_le_bytes).concat()));
    folder.cvc(&["pack", "x.npy", "-o", "a.cvc", "--codec", "raw"]).ok();
    folder
}

#[test]
fn ties_are_said_and_count_by_distance() {
    let folder = alike();
    let call = ["recall", "a.cvc", "t.npy", "q.npy", "-k", "3", "--metric", "l2"];
    let json = folder.cvc(&[call.as_slice(), &["--json"]].concat()).ok().json();
    assert_eq!(*at(&json, 3), json!({ "k": 3, "recall": 1.0 / 3.0, "found": 1, "wanted": 3, "ties": 2 }));
    let run = folder.cvc(&call).ok();
    assert!(run.stdout().contains("2 more rows of the truth have the score"), "{}", run.stdout());
    assert!(run.stdout().contains("1.0000 if such ties counted"), "{}", run.stdout());
    let json = folder.cvc(&[call.as_slice(), &["--json", "--against", "x.npy"]].concat()).ok().json();
    assert_eq!(*at(&json, 3), json!({ "k": 3, "recall": 1.0, "found": 3, "wanted": 3, "ties": 0 }));
}

#[test]
fn truths_come_as_ivecs_too_and_may_be_shorter() {
    let folder = alike();
    folder.write("t.ivecs", vecs(3, 4, &[0i32, 1, -1].map(i32::to_le_bytes).concat()));
    let call = ["recall", "a.cvc", "t.ivecs", "q.npy", "-k", "3", "--metric", "l2", "--json"];
    let json = folder.cvc(&call).ok().json();
    assert_eq!((&at(&json, 3)["found"], &at(&json, 3)["wanted"]), (&json!(2), &json!(2)));
    // What `cvc search` writes is a truth.
    folder.cvc(&["search", "a.cvc", "q.npy", "--metric", "l2", "-k", "8", "-o", "t.npz"]).ok();
    let json =
        folder.cvc(&["recall", "a.cvc", "t.npz", "q.npy", "-k", "8", "--metric", "l2", "--json"]).ok().json();
    assert_eq!((&json["recall"], &at(&json, 8)["wanted"]), (&json!(1.0), &json!(6)));
}

#[test]
fn a_truth_of_something_else_is_a_wrong_call() {
    let folder = alike();
    folder.write("beyond.npy", npy("<i8", &[1, 1], &6i64.to_le_bytes()));
    folder.write("minus.npy", npy("<i8", &[1, 1], &(-2i64).to_le_bytes()));
    folder.write("two.npy", npy("<i8", &[2, 1], &[0; 16]));
    folder.write("list.npy", npy("<i8", &[3], &[0; 24]));
    folder.write("wide.npy", npy_f32(6, 2, |_| 0.0));
    for (call, words) in [
        ("recall a.cvc t.npy q.npy", ["names 3 rows", "first 10"].as_slice()),
        ("recall a.cvc beyond.npy q.npy -k 1", &["query 0 names row 6", "0..6"]),
        ("recall a.cvc minus.npy q.npy -k 1", &["query 0", "-1 where"]),
        ("recall a.cvc two.npy q.npy -k 1", &["2 queries", "1 queries"]),
        ("recall a.cvc list.npy q.npy -k 1", &["TRUTH", "list.npy", "row numbers"]),
        ("recall a.cvc x.npy q.npy -k 1", &["TRUTH", "x.npy", "row numbers"]),
        ("recall a.cvc t.npy q.npy -k 3 --against wide.npy", &["originals", "6 rows of 2", "6 rows of 1"]),
        ("recall a.cvc t.npy none.npy -k 3", &["none.npy"]),
    ] {
        folder.cvc(&call.split(' ').collect::<Vec<_>>()).refused(2, words);
    }
    let mut bytes = folder.read("a.cvc");
    bytes[128] ^= 1;
    folder.write("bad.cvc", &bytes);
    folder.cvc(&["recall", "bad.cvc", "t.npy", "q.npy", "-k", "3"]).refused(1, &["bad.cvc: "]);
}
