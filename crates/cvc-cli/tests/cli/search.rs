//! `cvc search`: the rows that plain arithmetic in f64 finds, among the rows asked for, in every shape of answer.

use cvc_conformance::npy::Npy;
use serde_json::Value;

use crate::harness::{Folder, example, f32s, le, npy, npy_f32, vecs};

const DIM: usize = 384;

/// The sample, packed, with its names, sections, and an array of int8 beside the vectors.
fn sample() -> Folder {
    let folder = Folder::new();
    let path = |name: &str| example(name).to_str().unwrap().to_owned();
    let (vectors, names) = (path("minilm2k.f32.npy"), path("minilm2k.names.txt"));
    let (sections, queries) = (path("minilm2k.sections.json"), path("minilm2k.queries.npy"));
    let (names, small) = (format!("names={names}"), format!("small={vectors}"));
    let call = ["pack", &vectors, "-o", "a.cvc", "--sections", &sections, "--add", &names, "--add", &small];
    let codecs = ["--codec", "raw", "--codec", "small=int8", "--chunk-rows", "300"];
    folder.cvc(&[call.as_slice(), &codecs].concat()).ok();
    std::fs::copy(queries, folder.path("q.npy")).unwrap();
    folder
}

fn rows() -> Vec<f32> {
    f32s(&Npy::read(&example("minilm2k.f32.npy")))
}

fn queries() -> Vec<f32> {
    f32s(&Npy::read(&example("minilm2k.queries.npy")))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Scores in f64 of which the least is best.
fn badness(metric: &str, query: &[f32], row: &[f32]) -> f64 {
    match metric {
        "cosine" => -dot(query, row) / (dot(query, query).sqrt() * dot(row, row).sqrt()),
        "dot" => -dot(query, row),
        _ => query.iter().zip(row).map(|(q, x)| (f64::from(*q) - f64::from(*x)).powi(2)).sum::<f64>(),
    }
}

/// The best `k` of these rows by plain arithmetic: numbers and badness.
fn brute(
    metric: &str,
    query: &[f32],
    rows: &[f32],
    among: impl Iterator<Item = usize>,
    k: usize,
) -> Vec<(usize, f64)> {
    let dim = query.len();
    let mut all: Vec<(usize, f64)> =
        among.map(|row| (row, badness(metric, query, &rows[row * dim..][..dim]))).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

fn indices(json: &Value) -> Vec<Vec<i64>> {
    let list = |value: &Value| value.as_array().unwrap().iter().map(|item| item.as_i64().unwrap()).collect();
    json["indices"].as_array().unwrap().iter().map(list).collect()
}

/// Checks one answer against brute force: the same scores place by place, and rows that have them.
#[track_caller]
fn check(
    metric: &str,
    json: &Value,
    rows: &[f32],
    queries: &[f32],
    dim: usize,
    among: &[std::ops::Range<usize>],
) {
    let (found, scores) = (indices(json), json["scores"].as_array().unwrap());
    assert_eq!(found.len(), queries.len() / dim);
    for (query, (found, scores)) in queries.chunks(dim).zip(found.iter().zip(scores)) {
        let expected = brute(metric, query, rows, among.iter().cloned().flatten(), found.len());
        for ((row, score), (_, worst)) in found.iter().zip(scores.as_array().unwrap()).zip(&expected) {
            let row = usize::try_from(*row).unwrap();
            let own = badness(metric, query, &rows[row * dim..][..dim]);
            assert!((own - worst).abs() < 1e-6, "{metric}: row {row} of {own}, {worst} is to be had");
            assert!(among.iter().any(|range| range.contains(&row)));
            let own = match metric {
                "cosine" | "dot" => -own,
                "l2" => own.sqrt(),
                _ => own,
            };
            assert!((score.as_f64().unwrap() - own).abs() < 1e-6, "{metric}: {score} for {own}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn the_nearest_rows_are_those_of_brute_force() {
    let folder = sample();
    let (rows, queries) = (rows(), queries());
    for metric in ["cosine", "dot", "l2", "l2sq"] {
        let json = folder.cvc(&["search", "a.cvc", "q.npy", "--metric", metric, "--json"]).ok().json();
        check(metric, &json, &rows, &queries, DIM, &[0..2000]);
        assert_eq!((&json["metric"], &json["k"], &json["rows"]), (&metric.into(), &10.into(), &2000.into()));
        assert_eq!(json["nan_rows"].as_array().unwrap().len(), 50);
    }
    let truth = Npy::read(&example("minilm2k.gt.cosine.npy"));
    let truth: Vec<i64> =
        truth.bytes.as_chunks().0.iter().map(|bytes| i32::from_ne_bytes(*bytes).into()).collect();
    let json = folder.cvc(&["search", "a.cvc", "q.npy", "--device", "cpu", "--json"]).ok().json();
    assert_eq!(indices(&json).concat(), truth);
    assert_eq!(json["device"], "cpu");
}

#[test]
fn codes_are_searched_as_they_are_read_back() {
    let folder = sample();
    folder.cvc(&["unpack", "a.cvc", "-o", "small.npy", "--array", "small"]).ok();
    let json = folder.cvc(&["search", "a.cvc", "q.npy", "--array", "small", "-k", "5", "--json"]).ok().json();
    check("cosine", &json, &folder.f32s("small.npy"), &queries(), DIM, &[0..2000]);

    // Candidates of the codes with the scores of the rows: those of a search of the rows, here.
    let call = ["search", "a.cvc", "q.npy", "--array", "small", "--rescore", "vectors", "-k", "5", "--json"];
    let json = folder.cvc(&call).ok().json();
    check("cosine", &json, &rows(), &queries(), DIM, &[0..2000]);
    assert_eq!((&json["rescore"], &json["candidates"]), (&"vectors".into(), &100.into()));
}

#[test]
fn only_rows_of_sections_and_of_ranges_are_found() {
    let folder = sample();
    let (rows, queries) = (rows(), queries());
    let sections = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    let section = &sections["sections"][17];
    let name = format!("section={}", section["metadata"]["section"].as_str().unwrap());
    let number = |key: &str| usize::try_from(section[key].as_u64().unwrap()).unwrap();
    let range = number("start")..number("end");
    let search = |options: &[&str]| {
        let call = ["search", "a.cvc", "q.npy", "-k", "3", "--json"];
        folder.cvc(&[call.as_slice(), options].concat()).ok().json()
    };
    let found = search(&["--where", &name]);
    check("cosine", &found, &rows, &queries, DIM, std::slice::from_ref(&range));
    assert_eq!(found["rows"], range.len());
    check(
        "cosine",
        &search(&["--rows", "100..200", "--rows", "1990.."]),
        &rows,
        &queries,
        DIM,
        &[100..200, 1990..2000],
    );
    let both = format!("{}..{}", range.start + 1, range.end + 50);
    let found = search(&["--where", &name, "--rows", &both]);
    check("cosine", &found, &rows, &queries, DIM, &[range.start + 1..range.end]);
    // Nothing in common: no row is found, and that is no error.
    let found = search(&["--where", &name, "--rows", &format!("{}..", range.end)]);
    assert_eq!(found["rows"], 0);
    assert!(indices(&found).iter().all(|rows| rows == &[-1, -1, -1]));

    folder
        .cvc(&["search", "a.cvc", "q.npy", "--where", "section=none"])
        .refused(2, &["--where", "section=none", "cvc info"]);
    folder
        .cvc(&["search", "a.cvc", "q.npy", "--rows", "3..2001"])
        .refused(2, &["--rows", "3..2001", "0..2000"]);
}

#[test]
fn the_first_dims_alone() {
    let folder = sample();
    let first = |values: &[f32]| values.chunks(DIM).flat_map(|row| &row[..32]).copied().collect::<Vec<f32>>();
    let (rows, queries) = (first(&rows()), first(&queries()));
    folder.write("short.npy", npy("<f4", &[50, 32], &le(&queries)));
    for of in ["q.npy", "short.npy"] {
        let json =
            folder.cvc(&["search", "a.cvc", of, "--dims", "32", "--metric", "l2", "--json"]).ok().json();
        check("l2", &json, &rows, &queries, 32, &[0..2000]);
    }
    folder.cvc(&["search", "a.cvc", "q.npy", "--dims", "385"]).refused(2, &["--dims", "385", "384"]);
    folder.cvc(&["search", "a.cvc", "short.npy"]).refused(2, &["QUERIES", "32 values", "384"]);
}

#[test]
fn queries_come_in_every_kind_of_file() {
    let folder = sample();
    let bytes = folder.read("q.npy");
    let values = &bytes[bytes.len() - 50 * DIM * 4..];
    folder.write("q.fvecs", vecs(DIM, 4, values));
    folder.cvc(&["pack", "q.npy", "-o", "q.cvc", "--codec", "raw", "--add", "again=q.npy"]).ok();
    let search = |of: &str, options: &[&str]| {
        folder.cvc(&[["search", "a.cvc", of, "--json"].as_slice(), options].concat()).ok().json()["indices"]
            .clone()
    };
    let expected = search("q.npy", &[]);
    assert_eq!(search("q.fvecs", &[]), expected);
    assert_eq!(search("q.cvc", &[]), expected);
    assert_eq!(search("q.cvc", &["--member", "again"]), expected);
    // A list of numbers is one query.
    folder.write("one.npy", npy("<f4", &[DIM], &values[..DIM * 4]));
    assert_eq!(search("one.npy", &[])[0], expected[0]);
    let doubles: Vec<u8> = queries().iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
    folder.write("double.npy", npy("<f8", &[50, DIM], &doubles));
    assert_eq!(search("double.npy", &[]), expected);
}

#[test]
fn answers_are_padded_where_there_are_no_more_rows() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(3, 2, |at| at as f32));
    folder.write("none.npy", npy_f32(0, 2, |at| at as f32));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--codec", "raw"]).ok();
    folder.cvc(&["pack", "none.npy", "-o", "none.cvc", "--codec", "raw"]).ok();
    let json = folder.cvc(&["search", "a.cvc", "a.npy", "-k", "5", "--metric", "l2sq", "--json"]).ok().json();
    assert_eq!(indices(&json)[0], [0, 1, 2, -1, -1]);
    assert_eq!(json["scores"][0], serde_json::json!([0.0, 8.0, 32.0, null, null]));
    let json = folder.cvc(&["search", "none.cvc", "a.npy", "-k", "2", "--json"]).ok().json();
    assert_eq!(json["indices"], serde_json::json!([[-1, -1], [-1, -1], [-1, -1]]));
    assert_eq!(json["scores"], serde_json::json!([[null, null], [null, null], [null, null]]));
    let json = folder.cvc(&["search", "a.cvc", "none.npy", "--json"]).ok().json();
    assert_eq!(json["indices"], serde_json::json!([]));
}

#[test]
fn rows_with_nan_are_counted_and_never_found() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 2, |at| if at == 5 { f32::NAN } else { at as f32 }));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--codec", "raw"]).ok();
    folder.write("q.npy", npy_f32(1, 2, |_| 4.0));
    let call = ["search", "a.cvc", "q.npy", "--metric", "l2", "-k", "6"];
    let json = folder.cvc(&[call.as_slice(), &["--json"]].concat()).ok().json();
    assert_eq!(indices(&json), [[1, 3, 0, 4, 5, -1]]);
    assert_eq!(json["nan_rows"], serde_json::json!([1]));
    let run = folder.cvc(&call).status(0);
    assert!(run.stderr().contains("1 row cannot be compared"), "{}", run.stderr());
    // A query of its kind is a wrong call.
    folder.cvc(&["search", "a.cvc", "a.npy"]).refused(2, &["query 2", "column 1", "NaN"]);
}

#[test]
fn bits_and_distributions_have_metrics_of_their_own() {
    let folder = Folder::new();
    folder.write("bits.npy", npy("|u1", &[3, 1], &[0b1111, 0b0011, 0b1000_0000]));
    folder.cvc(&["pack", "bits.npy", "-o", "bits.cvc"]).ok();
    folder.write("bit.npy", npy("|u1", &[1, 1], &[0b0111]));
    let search = |metric: &str| {
        let json = folder
            .cvc(&["search", "bits.cvc", "bit.npy", "-k", "3", "--metric", metric, "--json"])
            .ok()
            .json();
        (indices(&json).concat(), json["scores"][0].clone())
    };
    assert_eq!(search("hamming"), (vec![0, 1, 2], serde_json::json!([1.0, 1.0, 4.0])));
    assert_eq!(search("jaccard").0, [0, 1, 2]);

    folder.write("p.npy", npy_f32(2, 2, |at| [0.5, 0.5, 1.0, 0.0][at]));
    folder.write("q.npy", npy_f32(1, 2, |_| 0.5));
    folder.cvc(&["pack", "p.npy", "-o", "p.cvc", "--codec", "raw"]).ok();
    let json = folder.cvc(&["search", "p.cvc", "q.npy", "--metric", "kl", "-k", "3", "--json"]).ok().json();
    assert_eq!(json["scores"], serde_json::json!([[0.0, "Infinity", null]]));

    folder
        .cvc(&["search", "p.cvc", "q.npy", "--metric", "hamming"])
        .refused(2, &["hamming", "f32", "u8 or bool"]);
    folder.cvc(&["search", "bits.cvc", "q.npy", "--metric", "hamming"]).refused(2, &["hamming", "f32"]);
    folder
        .cvc(&["search", "p.cvc", "q.npy", "--metric", "euclid"])
        .refused(2, &["--metric", "euclid", "cosine, dot"]);
    folder.write("minus.npy", npy_f32(1, 2, |_| -0.5));
    folder.cvc(&["search", "p.cvc", "minus.npy", "--metric", "js"]).refused(2, &["js", "-0.5"]);
}

#[test]
fn people_get_a_table_with_names() {
    let folder = sample();
    let run = folder.cvc(&["search", "a.cvc", "q.npy", "-k", "2", "--ids", "names"]).ok();
    let lines: Vec<&str> = run.stdout().lines().collect();
    assert_eq!(lines.len(), 1 + 20 + 1 + 1, "{}", run.stdout());
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["query", "rank", "row", "cosine", "names"]);
    let names = std::fs::read_to_string(example("minilm2k.names.txt")).unwrap();
    let names: Vec<&str> = names.lines().collect();
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[..2], ["0", "1"]);
    assert_eq!(words[4], names[words[2].parse::<usize>().unwrap()]);
    assert!(lines[21].contains("40 more queries"), "{}", lines[21]);
    assert!(lines[22].starts_with("50 queries by cosine among 2000 rows on "), "{}", lines[22]);

    let json = folder.cvc(&["search", "a.cvc", "q.npy", "-k", "2", "--ids", "names", "--json"]).ok().json();
    for (rows, of_rows) in indices(&json).iter().zip(json["ids"].as_array().unwrap()) {
        let expected: Vec<&str> = rows.iter().map(|row| names[usize::try_from(*row).unwrap()]).collect();
        assert_eq!(of_rows, &serde_json::json!(expected));
    }
    folder.cvc(&["search", "a.cvc", "q.npy", "--ids", "none"]).refused(2, &["--ids", "'none'", "\"names\""]);
    folder.cvc(&["search", "a.cvc", "q.npy", "--ids", "small"]).refused(2, &["--ids", "384 f32", "strings"]);
}

#[test]
fn ids_may_be_whole_numbers() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(3, 2, |at| at as f32));
    folder.write("ids.npy", npy("<i2", &[3], &[7i16, -3, 300].map(i16::to_le_bytes).concat()));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--codec", "raw", "--add", "ids=ids.npy"]).ok();
    let call = ["search", "a.cvc", "a.npy", "--metric", "l2", "-k", "4", "--ids", "ids", "--json"];
    assert_eq!(folder.cvc(&call).ok().json()["ids"][1], serde_json::json!([-3, 7, 300, null]));
}

#[test]
fn answers_go_into_files_that_numpy_reads() {
    let folder = sample();
    let json = folder.cvc(&["search", "a.cvc", "q.npy", "-k", "4", "-o", "found.npz", "--json"]).ok().json();
    assert_eq!(json["output"], "found.npz");
    folder.cvc(&["search", "a.cvc", "q.npy", "-k", "4", "-o", "found.npy"]).ok();
    let expected: Vec<u8> = indices(&json).concat().iter().flat_map(|row| row.to_le_bytes()).collect();
    assert_eq!(folder.read("found.npy"), npy("<i8", &[50, 4], &expected));
    // What is in the archive can be packed again.
    for (name, dtype) in [("indices", "i64"), ("scores", "f32")] {
        folder.cvc(&["pack", "found.npz", "-o", "b.cvc", "--member", name, "--codec", "raw"]).ok();
        let info = folder.cvc(&["info", "b.cvc", "--json"]).ok().json();
        assert_eq!(info["arrays"][0]["dtype"], dtype);
        assert_eq!(info["arrays"][0]["shape"], serde_json::json!([50, 4]));
        folder.cvc(&["unpack", "b.cvc", "-o", "back.npy"]).ok();
        if name == "indices" {
            assert_eq!(folder.read("back.npy"), folder.read("found.npy"));
        }
    }
    let names = folder.names();
    folder
        .cvc(&["search", "a.cvc", "q.npy", "-o", "found.csv"])
        .refused(2, &["--output", "found.csv", ".npz"]);
    folder.cvc(&["search", "a.cvc", "q.npy", "-o", "none/x.npz"]).refused(2, &["--output", "no directory"]);
    assert_eq!(folder.names(), names);
}

#[test]
fn wrong_calls_say_what_is_wrong() {
    let folder = sample();
    for (call, words) in [
        ("search a.cvc none.npy", ["none.npy", "cannot be read"].as_slice()),
        ("search a.cvc q.npy -k 0", &["'0'", "1.."]),
        ("search a.cvc q.npy --array names", &["--array", "names", "strings"]),
        ("search a.cvc q.npy --array none", &["--array", "none", "\"vectors\""]),
        ("search a.cvc q.npy --rescore none", &["--rescore", "none", "\"vectors\""]),
        ("search a.cvc q.npy --rescore names", &["--rescore", "names", "strings"]),
        ("search a.cvc q.npy --candidates 5", &["--rescore"]),
        ("search a.cvc a.cvc --member names", &["QUERIES", "strings"]),
        ("search a.cvc a.cvc --member none", &["--member", "none"]),
        ("search a.cvc q.npy --device tpu", &["--device", "tpu"]),
        ("search a.cvc q.npy -k 4294967295", &["50 queries", "fewer"]),
    ] {
        folder.cvc(&call.split(' ').collect::<Vec<_>>()).refused(2, words);
    }
}

#[test]
fn damage_is_reported_and_named() {
    let folder = sample();
    let mut bytes = folder.read("a.cvc");
    bytes[4096] ^= 1;
    folder.write("bad.cvc", &bytes);
    folder.cvc(&["search", "bad.cvc", "q.npy"]).refused(1, &["bad.cvc: ", "\"vectors\""]);
    folder.cvc(&["search", "bad.cvc", "q.npy", "--json", "-o", "x.npz"]).refused(1, &["bad.cvc: "]);
    assert!(!folder.names().contains(&"x.npz".to_owned()));
    // Elsewhere nothing is wrong.
    folder.cvc(&["search", "bad.cvc", "q.npy", "--rows", "1000.."]).ok();
    // Queries that are damaged are named, and not the file.
    folder.cvc(&["search", "a.cvc", "bad.cvc"]).refused(1, &["bad.cvc: "]);
    folder.write("no.cvc", "this is none");
    folder.cvc(&["search", "no.cvc", "q.npy"]).refused(1, &["no.cvc: ", "not a cvc file"]);
}

#[test]
fn old_layouts_are_searched_like_any_other() {
    let folder = sample();
    let vectors = example("minilm2k.f32.npy");
    for (layout, codec) in [("v0", "fp16"), ("v1", "int8"), ("v1", "lossless"), ("v2", "none")] {
        let call = ["pack", vectors.to_str().unwrap(), "-o", "old.cvc", "--layout", layout, "--codec", codec];
        folder.cvc(&call).ok();
        folder.cvc(&["unpack", "old.cvc", "-o", "old.npy"]).ok();
        let json = folder.cvc(&["search", "old.cvc", "q.npy", "-k", "3", "--json"]).ok().json();
        check("cosine", &json, &folder.f32s("old.npy"), &queries(), DIM, &[0..2000]);
    }
}
