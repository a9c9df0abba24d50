//! `cvc report`: a page that stands alone, the same figures as JSON, and calls that are wrong.

use crate::harness::{Folder, npy, npy_f32};

fn wave(index: usize) -> f32 {
    (index as f32 * 0.37).sin()
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(60, 4, wave));
    folder.write("b.npy", npy_f32(40, 4, |index| wave(index + 240)));
    folder.write("ids.txt", "x\n".repeat(100));
    let call = [
        "pack",
        "a.npy@source=wiki",
        "b.npy@source=<b>",
        "-o",
        "a.cvc",
        "--codec",
        "int8",
        "--chunk-rows",
        "32",
    ];
    folder.cvc(&[call.as_slice(), &["--add", "ids=ids.txt", "--provenance", "model=m"]].concat()).ok();
    folder
}

fn text(folder: &Folder, name: &str) -> String {
    String::from_utf8(folder.read(name)).unwrap()
}

#[test]
fn a_page_is_written_whole_and_says_what_was_done() {
    let folder = folder();
    folder.write("r.html", "old");
    let run = folder.cvc(&["report", "a.cvc", "-o", "r.html", "--against", "a.npy,b.npy"]).ok();
    assert!(run.stdout().starts_with("wrote r.html ("), "{}", run.stdout());
    let page = text(&folder, "r.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for words in [
        "a.cvc",
        "100 \u{d7} 4 f32",
        "int8, scope row",
        "Recall@10",
        "against the originals",
        "a.npy, b.npy",
        "wiki",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>wiki") && !page.contains("source=<b>"));
    assert_eq!(folder.names(), ["a.cvc", "a.npy", "b.npy", "ids.txt", "r.html"]);

    // Again, and by another way to the same file.
    std::fs::create_dir(folder.path("d")).unwrap();
    std::fs::copy(folder.path("a.cvc"), folder.path("d/a.cvc")).unwrap();
    folder.cvc(&["report", "d/a.cvc", "-o", "d/r.html", "--against", "a.npy", "--against", "b.npy"]).ok();
    assert!(text(&folder, "d/r.html") == page);
}

#[test]
fn figures_come_as_json_with_or_without_a_page() {
    let folder = folder();
    let json =
        folder.cvc(&["report", "a.cvc", "--against", "a.npy,b.npy", "--sample", "7", "--json"]).ok().json();
    assert!(!folder.path("r.html").exists());
    let array = &json["arrays"][0];
    assert_eq!((&array["name"], &array["shape"]), (&"vectors".into(), &serde_json::json!([100, 4])));
    let info = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    for key in ["codec", "params", "block_rows", "stored_len", "provenance"] {
        assert_eq!(array[key], info["arrays"][0][key], "{key}");
    }
    let loss = |array: &serde_json::Value| array["loss"]["mse"].as_f64().unwrap();
    assert_eq!(loss(array), loss(&info["arrays"][0]));
    assert_eq!(array["values"]["decoded"]["finite"].as_u64(), Some(400));
    assert_eq!(array["chunks"].as_array().unwrap().len(), 4);
    assert!(array["values"]["error"]["total"]["max_abs_error"].as_f64().unwrap() < 0.01);
    assert_eq!(array["recall"]["queries"].as_array().unwrap().len(), 7);
    assert_eq!(json["arrays"][1]["strings"]["count"].as_u64(), Some(100));
    assert_eq!(json["sections"]["key"], "source");
    assert_eq!(json["made"]["against"], serde_json::json!(["a.npy", "b.npy"]));

    let only = folder.cvc(&["report", "a.cvc", "-o", "r.html", "--array", "ids", "--json"]).ok().json();
    assert_eq!(only["arrays"][0]["left_out"], "not asked for");
    assert!(text(&folder, "r.html").contains("Lengths"));
}

#[test]
fn wrong_calls_say_what_is_wrong_and_leave_nothing() {
    let folder = folder();
    folder.write("wide.npy", npy_f32(100, 5, wave));
    folder.write("complex.npy", npy("<c8", &[100, 4], &[0; 3200]));
    folder.write("none.cvc", "");
    let names = folder.names();
    for (call, words) in [
        ("report a.cvc", ["--output", "required"].as_slice()),
        ("report a.cvc -o a.cvc", &["--output", "also an input"]),
        ("report a.cvc -o a.npy --against a.npy,b.npy", &["--output", "also an input"]),
        ("report a.cvc -o no/r.html", &["--output", "no directory"]),
        ("report a.cvc -o r.html --array x", &["--array", "'x'", "\"vectors\", \"ids\""]),
        ("report a.cvc -o r.html --by year", &["--by", "'year'", "\"source\""]),
        ("report a.cvc -o r.html --against a.npy", &["--against", "'a.npy'", "60 rows", "100"]),
        ("report a.cvc -o r.html --against wide.npy", &["--against", "wide.npy", "5 values"]),
        ("report a.cvc -o r.html --against complex.npy", &["--against", "complex.npy", "c64", "f32"]),
        ("report a.cvc -o r.html --against a.npy,b.npy --array ids", &["--against", "strings"]),
        ("report a.cvc -o r.html --against gone.npy", &["gone.npy", "cannot be read"]),
        ("report gone.cvc -o r.html", &["gone.cvc"]),
        ("report a.cvc -o r.html --sample -1", &["--sample"]),
    ] {
        folder.cvc(&call.split(' ').collect::<Vec<_>>()).refused(2, words);
        assert_eq!(folder.names(), names, "{call} left something behind");
    }
    folder.cvc(&["report", "none.cvc", "-o", "r.html"]).refused(1, &["none.cvc"]);
    assert_eq!(folder.names(), names);
}

#[test]
fn a_damaged_file_has_no_page() {
    let folder = folder();
    let mut bytes = folder.read("a.cvc");
    bytes[300] ^= 1;
    folder.write("bad.cvc", &bytes);
    folder.cvc(&["report", "bad.cvc", "-o", "r.html"]).refused(1, &["bad.cvc", "damaged"]);
    assert!(!folder.path("r.html").exists());
}
