//! Rows by number and by what is said of them.

use crate::harness::{Folder, npy_f32, small, values};

const DIM: usize = 2;

/// Five sections of two rows each; the first value of row `n` is `2 n`.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(10, DIM, small));
    let sections = r#"[
        {"start": 0, "count": 2, "metadata": {"source": "wiki", "year": 1}},
        {"start": 2, "count": 2, "metadata": {"source": "wiki", "year": true}},
        {"start": 4, "count": 2, "metadata": {"source": "arxiv", "year": 1.0}},
        {"start": 6, "count": 2, "metadata": {"source": "arxiv", "year": "1"}},
        {"start": 8, "count": 2, "metadata": {"source": "wiki", "tags": ["a", "b"], "none": null}}
    ]"#;
    folder.write("sections.json", sections);
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--sections", "sections.json", "--chunk-rows", "3"]).ok();
    folder
}

/// The rows that are unpacked with these options.
#[track_caller]
fn rows(folder: &Folder, options: &[&str]) -> Vec<usize> {
    folder.cvc(&[["unpack", "a.cvc", "-o", "rows.npy"].as_slice(), options].concat()).ok();
    let all = values(10, DIM, small);
    let found = folder.f32s("rows.npy");
    let row = |row: &[f32]| all.chunks(DIM).position(|other| other == row).unwrap();
    found.chunks(DIM).map(row).collect()
}

#[test]
fn where_takes_every_match_in_file_order() {
    let folder = folder();
    assert_eq!(rows(&folder, &["--where", "source=wiki"]), [0, 1, 2, 3, 8, 9]);
    assert_eq!(rows(&folder, &["--where", "source=arxiv"]), [4, 5, 6, 7]);
}

#[test]
fn where_compares_as_json_so_1_is_not_true_nor_a_string() {
    let folder = folder();
    assert_eq!(rows(&folder, &["--where", "year=1"]), [0, 1, 4, 5]);
    assert_eq!(rows(&folder, &["--where", "year=true"]), [2, 3]);
    assert_eq!(rows(&folder, &["--where", "year=\"1\""]), [6, 7]);
    assert_eq!(rows(&folder, &["--where", "tags=[\"a\",\"b\"]"]), [8, 9]);
    assert_eq!(rows(&folder, &["--where", "none=null"]), [8, 9]);
}

#[test]
fn all_conditions_must_hold() {
    let folder = folder();
    assert_eq!(rows(&folder, &["--where", "source=arxiv", "--where", "year=1"]), [4, 5]);
    folder
        .cvc(&["unpack", "a.cvc", "-o", "x.npy", "--where", "source=arxiv", "--where", "year=true"])
        .refused(2, &["--where", "source=arxiv", "year=true", "no section matches"]);
}

#[test]
fn rows_are_a_range_with_either_end_left_out() {
    let folder = folder();
    assert_eq!(rows(&folder, &["--rows", "2..5"]), [2, 3, 4]);
    assert_eq!(rows(&folder, &["--rows", "8.."]), [8, 9]);
    assert_eq!(rows(&folder, &["--rows", "..1"]), [0]);
    assert_eq!(rows(&folder, &["--rows", "4..4"]), [0; 0]);
    assert_eq!(rows(&folder, &["--rows", ".."]).len(), 10);
}

#[test]
fn rows_and_where_give_what_they_have_in_common() {
    let folder = folder();
    assert_eq!(rows(&folder, &["--rows", "1..9", "--where", "source=wiki"]), [1, 2, 3, 8]);
    folder
        .cvc(&["unpack", "a.cvc", "-o", "x.npy", "--rows", "4..8", "--where", "source=wiki"])
        .refused(2, &["--rows", "4..8", "source=wiki"]);
}

#[test]
fn an_input_with_metadata_is_a_section() {
    let folder = Folder::new();
    folder.write("wiki.npy", npy_f32(3, DIM, small));
    folder.write("plain.npy", npy_f32(1, DIM, small));
    folder.write("arxiv.npy", npy_f32(2, DIM, small));
    folder
        .cvc(&[
            "pack",
            "wiki.npy@source=wiki",
            "plain.npy",
            r#"arxiv.npy@source=arxiv,year=2024,tags=["a","b,c"],id="2024",empty="#,
            "-o",
            "a.cvc",
        ])
        .ok();
    let json = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    let expected = serde_json::json!([
        { "start": 0, "end": 3, "metadata": { "source": "wiki" } },
        { "start": 4, "end": 6, "metadata":
            { "source": "arxiv", "year": 2024, "tags": ["a", "b,c"], "id": "2024", "empty": "" } },
    ]);
    assert_eq!(json["sections"], expected);
}

#[test]
fn sections_may_leave_rows_out_and_come_in_any_order() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(10, DIM, small));
    let sections =
        r#"[{"start": 7, "count": 1, "metadata": {"n": 2}}, {"metadata": {"n": 1}, "count": 3, "start": 1}]"#;
    folder.write("s.json", sections);
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--sections", "s.json"]).ok();
    let json = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    let ranges: Vec<_> =
        json["sections"].as_array().unwrap().iter().map(|s| (&s["start"], &s["end"])).collect();
    assert_eq!(format!("{ranges:?}"), "[(Number(1), Number(4)), (Number(7), Number(8))]");
    assert_eq!(rows(&folder, &["--where", "n=2"]), [7]);
}
