//! Files of other formats: the program as a way there and back. What each format keeps is tested beside the code.

use crate::harness::{Folder, example, npy_f32, small};

const TABLE: &str = "id,source,d0,d1\n1,wiki,0.5,1.0\n2,wiki,0.25,2.0\n3,arxiv,-1.0,3.0\n";

#[test]
fn real_vectors_with_58_sections_go_to_parquet_and_come_back() {
    let folder = Folder::new();
    let (vectors, sections) = (example("minilm2k.f32.npy"), example("minilm2k.sections.json"));
    let pack = [
        "pack",
        vectors.to_str().unwrap(),
        "-o",
        "a.cvc",
        "--codec",
        "raw",
        "--sections",
        sections.to_str().unwrap(),
    ];
    folder.cvc(&pack).ok();
    let done = folder.cvc(&["convert", "a.cvc", "-o", "a.parquet", "--json"]).ok().json();
    assert_eq!(
        (&done["rows"], &done["section_count"], &done["not_kept"]),
        (&2000.into(), &58.into(), &serde_json::json!([]))
    );
    // The file itself says that its column makes sections; here it is said again.
    let done = folder
        .cvc(&["convert", "a.parquet", "-o", "b.cvc", "--sections-from", "section", "--json"])
        .ok()
        .json();
    assert_eq!(done["section_count"], 58);
    let (before, after) = (
        folder.cvc(&["info", "a.cvc", "--json"]).ok().json(),
        folder.cvc(&["info", "b.cvc", "--json"]).ok().json(),
    );
    assert_eq!(before["sections"], after["sections"]);
    for (file, output) in [("a.cvc", "a.npy"), ("b.cvc", "b.npy")] {
        folder.cvc(&["unpack", file, "-o", output]).ok();
    }
    assert_eq!(folder.read("a.npy"), folder.read("b.npy"));
    assert_eq!(folder.read("a.npy"), std::fs::read(vectors).unwrap());
}

#[test]
fn tables_are_packed_as_matrices_are() {
    let folder = Folder::new();
    folder.write("t.csv", TABLE);
    let packed = [
        "pack",
        "t.csv",
        "-o",
        "t.cvc",
        "--sections-from",
        "source",
        "--codec",
        "id=zstd",
        "--meta",
        "year=2024",
    ];
    folder.cvc(&packed).ok();
    let info = folder.cvc(&["info", "t.cvc", "--json"]).ok().json();
    assert_eq!(info["sections"][1]["metadata"]["source"], "arxiv");
    assert_eq!(info["metadata"]["year"], 2024);
    folder
        .cvc(&[
            "convert",
            "t.csv",
            "-o",
            "v.cvc",
            "--vectors",
            "d*",
            "--text-dtype",
            "f64",
            "--sections-from",
            "source",
        ])
        .ok();
    let info = folder.cvc(&["info", "v.cvc", "--json"]).ok().json();
    let array = &info["arrays"][1];
    assert_eq!(
        (&array["name"], &array["dtype"], &array["codec"]),
        (&"vectors".into(), &"f64".into(), &"raw".into())
    );
    // Packing makes halves of floats where nothing is said, as it does of any matrix.
    folder.cvc(&["convert", "v.cvc", "-o", "v.arrow"]).ok();
    let packed = folder.cvc(&["pack", "v.arrow", "-o", "w.cvc", "--json"]).ok().json();
    assert_eq!(packed["arrays"][1]["codec"], "fp16");
    folder.cvc(&["convert", "v.cvc", "-o", "back.csv"]).ok();
    assert_eq!(String::from_utf8(folder.read("back.csv")).unwrap(), TABLE);
}

#[test]
fn what_is_not_kept_is_said_once() {
    let folder = Folder::new();
    folder.write("t.csv", TABLE);
    folder
        .cvc(&[
            "convert",
            "t.csv",
            "-o",
            "t.cvc",
            "--vectors",
            "d*",
            "--sections-from",
            "source",
            "--meta",
            "a=b",
        ])
        .ok();
    let run = folder.cvc(&["convert", "t.cvc", "-o", "t.npy", "--column", "vectors"]);
    let said = run.stderr();
    assert!(said.contains("warning: not kept: sections (2): .npy has no place for them"), "{said}");
    assert!(said.contains("warning: not kept: metadata (a)"), "{said}");
    let done = folder.cvc(&["convert", "t.cvc", "-o", "t.npy", "--column", "vectors", "--json"]).ok().json();
    assert_eq!(done["not_kept"].as_array().unwrap().len(), 2);
}

#[test]
fn bad_input_is_status_1_with_its_place_and_leaves_nothing() {
    let folder = Folder::new();
    folder.write("t.csv", TABLE.replace("0.25", "O.25"));
    folder
        .cvc(&["convert", "t.csv", "-o", "t.cvc", "--vectors", "d*"])
        .refused(1, &["t.csv, line 3, column \"d0\"", "\"O.25\" is no f32"]);
    folder.write("t.parquet", "PAR1 and nothing else PAR1");
    folder.cvc(&["convert", "t.parquet", "-o", "t.cvc"]).refused(1, &["t.parquet", "no sound Parquet file"]);
    folder.write("t.safetensors", [0xff; 8]);
    folder
        .cvc(&["pack", "t.safetensors", "-o", "t.cvc"])
        .refused(1, &["t.safetensors", "no sound safetensors file"]);
    folder.write("t.arrow", "ARROW1");
    folder.cvc(&["convert", "t.arrow", "-o", "t.cvc"]).refused(1, &["t.arrow", "no sound Arrow IPC file"]);
    assert_eq!(folder.names(), ["t.arrow", "t.csv", "t.parquet", "t.safetensors"]);
}

#[test]
fn wrong_calls_are_status_2_and_say_what_would_be_right() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(3, 2, small));
    folder.write("t.csv", TABLE);
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc"]).ok();
    let cases: [(&[&str], &[&str]); 18] = [
        (&["convert", "t.csv", "-o", "b.npy"], &["neither of the two is a .cvc file"]),
        (&["convert", "a.cvc", "-o", "b.cvc"], &["both files are .cvc files", "cvc upgrade"]),
        (&["convert", "a.cvc", "-o", "b.h5"], &["b.h5", "in Python only", "cvc.convert"]),
        (&["convert", "a.zarr", "-o", "b.cvc"], &["a.zarr", "in Python only"]),
        (&["convert", "a.cvc", "-o", "a.cvc"], &["--output", "also an input"]),
        (
            &["convert", "t.csv", "-o", "b.cvc", "--sections-from", "nothing"],
            &["--sections-from", "no such column", "id, source"],
        ),
        (&["convert", "a.npy", "-o", "b.cvc", "--sections-from", "x"], &["--sections-from", "only tables"]),
        (&["convert", "a.cvc", "-o", "b.csv", "--codec", "int8"], &["--codec", "making a .cvc file"]),
        (&["convert", "a.cvc", "-o", "b.csv", "--meta", "a=1"], &["--meta", "making a .cvc file"]),
        (&["convert", "a.cvc", "-o", "b.csv", "--chunk-rows", "7"], &["--chunk-rows", "making a .cvc file"]),
        (
            &["convert", "a.cvc", "-o", "b.csv", "--nonfinite", "saturate"],
            &["--nonfinite", "making a .cvc file"],
        ),
        (&["convert", "a.cvc", "-o", "b.csv", "--vectors", "d*"], &["--vectors", "reading .csv"]),
        (&["convert", "a.cvc", "-o", "b.csv", "--strings", "a"], &["--strings", "reading .csv"]),
        (&["convert", "a.npy", "-o", "b.cvc", "--text-dtype", "f32"], &["--text-dtype", "reading .csv"]),
        (&["pack", "t.csv", "a.npy", "-o", "b.cvc"], &["t.csv", "pack it alone"]),
        (&["pack", "t.csv", "-o", "b.cvc", "--layout", "v1"], &["--layout", "leave it out"]),
        (
            &["pack", "a.npy", "-o", "b.cvc", "--sections-from", "x"],
            &["--sections-from", "matrices have no such columns"],
        ),
        (&["unpack", "a.cvc", "-o", "b.parquet"], &["--output", "`cvc convert` writes such a file"]),
    ];
    for (call, said) in cases {
        folder.cvc(call).refused(2, said);
    }
    assert_eq!(folder.names(), ["a.cvc", "a.npy", "t.csv"]);
}
