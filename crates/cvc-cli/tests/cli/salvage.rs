//! One byte of a native file is wrong: what is found, what can be read all the same, and what a repair saves.

use serde_json::json;

use crate::harness::{Folder, npy_f32, small};

const ROWS: usize = 40;
const DIM: usize = 3;

/// Rows of the blocks that are hit, of blocks of four rows in chunks of sixteen.
const LOST: std::ops::Range<usize> = 20..24;

/// A file of vectors (two fields of int8 parameters beside the codes) and names, and the same with a block damaged.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(ROWS, DIM, small));
    let names: String = (0..ROWS).map(|row| format!("row {row}\n")).collect();
    folder.write("names.txt", names);
    let sections = r#"[{"start": 0, "count": 20, "metadata": {"n": 1}}, {"start": 20, "count": 4, "metadata": {"n": 2}},
        {"start": 24, "count": 16, "metadata": {"n": 3}}]"#;
    folder.write("s.json", sections);
    folder
        .cvc(&[
            "pack",
            "a.npy",
            "-o",
            "a.cvc",
            "--codec",
            "int8",
            "--block-rows",
            "4",
            "--chunk-rows",
            "16",
            "--add",
            "names=names.txt",
            "--sections",
            "s.json",
            "--meta",
            "k=v",
        ])
        .ok();
    damage(&folder, "vectors", "bad.cvc");
    folder
}

/// Flips the last byte of the block of `array` that has the first of these rows: of names, that is all of a chunk.
fn damage(folder: &Folder, array: &str, to: &str) {
    let reader = cvc::Reader::open(folder.path("a.cvc")).unwrap();
    let rows = LOST.start as u64..LOST.start as u64 + 1;
    let ranges = reader.array(array).unwrap().byte_ranges(rows, 0).unwrap();
    // The head comes first, the blocks behind it.
    let last = ranges.last().unwrap().end - 1;
    let mut bytes = folder.read("a.cvc");
    bytes[usize::try_from(last).unwrap()] ^= 0x40;
    folder.write(to, bytes);
}

/// The rows of `a.npy` without those that were lost, as `a.cvc` has them.
fn kept(folder: &Folder) -> Vec<f32> {
    folder.cvc(&["unpack", "a.cvc", "-o", "whole.npy"]).ok();
    let whole = folder.f32s("whole.npy");
    [&whole[..LOST.start * DIM], &whole[LOST.end * DIM..]].concat()
}

#[test]
fn verify_names_array_rows_and_ranges_and_unpack_the_block() {
    let folder = folder();
    let json = folder.cvc(&["verify", "bad.cvc", "--json"]).status(1).json();
    assert_eq!((&json["ok"], &json["checksums"]), (&false.into(), &"blocks".into()));
    let damaged = json["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 1, "{json}");
    assert_eq!((&damaged[0]["array"], &damaged[0]["chunk"]), (&"vectors".into(), &1.into()));
    assert_eq!(damaged[0]["rows"], json!([LOST.start, LOST.end]));
    let ranges = damaged[0]["ranges"].as_array().unwrap();
    let lens: Vec<u64> =
        ranges.iter().map(|range| range[1].as_u64().unwrap() - range[0].as_u64().unwrap()).collect();
    assert_eq!(lens, [12, 16, 16], "codes, minima, scales of four rows");

    let run = folder.cvc(&["verify", "bad.cvc"]).status(1);
    assert!(
        run.stdout().starts_with("damaged: array \"vectors\", chunk 1, rows 20..24: "),
        "{}",
        run.stdout()
    );
    assert!(run.stdout().contains("\n1 of 13 blocks damaged; `cvc repair`"), "{}", run.stdout());
    assert_eq!(run.stderr(), "");

    folder.write("out.npy", "old");
    let words =
        ["bad.cvc: ", "\"vectors\"", "chunk 1", "block 1", "rows 4..8 of the chunk", "--damaged skip"];
    folder.cvc(&["unpack", "bad.cvc", "-o", "out.npy"]).refused(1, &words);
    assert_eq!(folder.read("out.npy"), b"old");
    // Whoever does not ask for these rows does not hear of them.
    folder.cvc(&["unpack", "bad.cvc", "-o", "out.npy", "--rows", "..20"]).ok();
    folder.cvc(&["unpack", "bad.cvc", "-o", "out.txt", "--array", "names"]).ok();
}

#[test]
fn damaged_rows_are_left_out_or_filled_and_listed() {
    let folder = folder();
    let run = folder.cvc(&["unpack", "bad.cvc", "-o", "out.npy", "--damaged", "skip"]).status(0);
    assert_eq!(run.stderr(), "warning: 4 rows of the file cannot be read and were left out: 20..24\n");
    assert!(run.stdout().starts_with("unpacked 36 rows of 3 f32"), "{}", run.stdout());
    assert_eq!(folder.f32s("out.npy"), kept(&folder));

    let run = folder.cvc(&["unpack", "bad.cvc", "-o", "out.npy", "--damaged", "fill"]).status(0);
    assert!(
        run.stderr().contains("4 rows") && run.stderr().contains("filled with NaN: 20..24"),
        "{}",
        run.stderr()
    );
    let filled = folder.f32s("out.npy");
    assert_eq!(filled.len(), ROWS * DIM);
    assert!(filled[LOST.start * DIM..LOST.end * DIM].iter().all(|value| value.is_nan()));
    assert_eq!([&filled[..LOST.start * DIM], &filled[LOST.end * DIM..]].concat(), kept(&folder));

    // Only those that were asked for, in the order of the list, as often as it has them.
    folder.write("rows.txt", "23\n0\n22\n23\n");
    let call = ["unpack", "bad.cvc", "-o", "out.npy", "--rows-from", "rows.txt", "--json", "--damaged"];
    let json = folder.cvc(&[call.as_slice(), &["fill"]].concat()).ok().json();
    assert_eq!((&json["lost"], &json["shape"]), (&json!([[22, 24]]), &json!([4, 3])));
    let nan: Vec<bool> = folder.f32s("out.npy").chunks(DIM).map(|row| row[0].is_nan()).collect();
    assert_eq!(nan, [true, false, true, true]);
    let json = folder.cvc(&[call.as_slice(), &["skip"]].concat()).ok().json();
    assert_eq!((&json["lost"], &json["shape"]), (&json!([[22, 24]]), &json!([1, 3])));

    // Nothing is said of a file that is whole.
    folder.cvc(&["unpack", "a.cvc", "-o", "out.npy", "--damaged", "fill"]).ok();
}

#[test]
fn damaged_strings_are_left_out_or_empty() {
    let folder = folder();
    damage(&folder, "names", "bad.cvc");
    let call = ["unpack", "bad.cvc", "-o", "out.txt", "--array", "names"];
    folder.cvc(&call).refused(1, &["bad.cvc: ", "\"names\"", "block 0"]);
    let run = folder.cvc(&[call.as_slice(), &["--damaged", "fill", "--rows", "15..33"]].concat()).status(0);
    assert!(
        run.stderr().contains("16 rows") && run.stderr().contains("empty strings: 16..32"),
        "{}",
        run.stderr()
    );
    let expected = format!("row 15\n{}row 32\n", "\n".repeat(16));
    assert_eq!(String::from_utf8(folder.read("out.txt")).unwrap(), expected);
    folder.cvc(&[call.as_slice(), &["--damaged", "skip", "--rows", "15..33"]].concat()).status(0);
    assert_eq!(folder.read("out.txt"), b"row 15\nrow 32\n");
}

#[test]
fn repair_saves_all_other_rows_of_every_array() {
    let folder = folder();
    let run = folder.cvc(&["repair", "bad.cvc", "-o", "new.cvc"]).status(0);
    assert_eq!(run.stderr(), "lost: array \"vectors\", 4 rows: 20..24\n");
    assert!(run.stdout().starts_with("saved 36 of 40 rows to new.cvc"), "{}", run.stdout());
    folder.cvc(&["verify", "new.cvc"]).ok();
    folder.cvc(&["unpack", "new.cvc", "-o", "out.npy"]).ok();
    assert_eq!(folder.f32s("out.npy"), kept(&folder));
    folder.cvc(&["unpack", "new.cvc", "-o", "out.txt", "--array", "names"]).ok();
    let names: String = (0..20).chain(24..40).map(|row| format!("row {row}\n")).collect();
    assert_eq!(String::from_utf8(folder.read("out.txt")).unwrap(), names);

    let info = folder.cvc(&["info", "new.cvc", "--json"]).ok().json();
    let expected = json!([
        { "start": 0, "end": 20, "metadata": { "n": 1 } },
        { "start": 20, "end": 36, "metadata": { "n": 3 } },
    ]);
    assert_eq!((&info["sections"], &info["metadata"]), (&expected, &json!({ "k": "v" })));

    // A file that is there stays, unless one insists.
    folder.cvc(&["repair", "bad.cvc", "-o", "new.cvc"]).refused(2, &["--output", "'new.cvc'", "--force"]);
    let json = folder.cvc(&["repair", "bad.cvc", "-o", "new.cvc", "--force", "--json"]).ok().json();
    assert_eq!(json["lost"], json!([{ "array": "vectors", "rows": [[20, 24]] }]));
    assert_eq!(json["dropped"], json!([[20, 24]]));
    assert_eq!((&json["rows"], &json["rows_before"]), (&json!(36), &json!(40)));
    assert_eq!((&json["output"], &json["layout"]), (&"new.cvc".into(), &"native".into()));
    assert_eq!(json["file_len"].as_u64(), Some(folder.read("new.cvc").len() as u64));
}

#[test]
fn repair_of_a_whole_file_is_a_copy() {
    let folder = folder();
    let run = folder.cvc(&["repair", "a.cvc", "-o", "copy.cvc"]).ok();
    assert!(run.stdout().starts_with("nothing is damaged; copied all 40 rows"), "{}", run.stdout());
    for array in ["vectors", "names"] {
        let out = if array == "names" { "x.txt" } else { "x.npy" };
        folder.cvc(&["unpack", "a.cvc", "-o", out, "--array", array]).ok();
        let expected = folder.read(out);
        folder.cvc(&["unpack", "copy.cvc", "-o", out, "--array", array]).ok();
        assert_eq!(folder.read(out), expected);
    }
}

#[test]
fn repair_keeps_the_layout_and_drops_whole_chunks_of_it() {
    let folder = folder();
    for (layout, codec) in [("v1", "fp16"), ("v2", "int8")] {
        let call =
            ["pack", "a.npy", "-o", "old.cvc", "--layout", layout, "--codec", codec, "--chunk-rows", "16"];
        folder.cvc(&call).ok();
        let mut bytes = folder.read("old.cvc");
        // The last byte of the last chunk, of eight rows.
        *bytes.last_mut().unwrap() ^= 1;
        folder.write("old.cvc", bytes);
        let json = folder.cvc(&["repair", "old.cvc", "-o", "new.cvc", "--force", "--json"]).ok().json();
        assert_eq!(json["lost"], json!([{ "array": "vectors", "rows": [[32, 40]] }]), "{layout}");
        assert_eq!(json["layout"], layout);
        folder.cvc(&["verify", "new.cvc"]).ok();
        folder.cvc(&["unpack", "new.cvc", "-o", "out.npy"]).ok();
        assert_eq!(folder.npy("out.npy").shape, [32, DIM]);
    }
}

#[test]
fn a_native_file_that_cannot_be_opened_is_damaged_and_its_region_named() {
    let folder = folder();
    let whole = folder.read("a.cvc");
    let entry = |bytes: &[u8], what: &str| {
        folder.write("bad.cvc", bytes);
        folder.cvc(&["verify", "bad.cvc"]).refused(1, &["bad.cvc: ", what]);
        let words = ["bad.cvc: ", what, "without its index nothing of it can be saved"];
        folder.cvc(&["repair", "bad.cvc", "-o", "new.cvc"]).refused(1, &words);
        let json = folder.cvc(&["verify", "bad.cvc", "--json"]).status(1).json();
        assert_eq!((&json["ok"], &json["checksums"]), (&false.into(), &"blocks".into()), "{what}");
        let damaged = json["damaged"][0].clone();
        assert!(damaged["array"].is_null() && damaged["rows"].is_null(), "{damaged}");
        assert!(damaged["what"].as_str().unwrap().contains(what), "{damaged}");
        damaged
    };
    let len = whole.len();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    assert_eq!(entry(&flipped(20), "the prelude")["bytes"], json!([0, 60]));
    assert_eq!(entry(&flipped(len - 20), "the trailer")["bytes"], json!([len - 40, len - 12]));
    let metadata = entry(&flipped(len - 50), "the metadata");
    assert_eq!(metadata["ranges"], json!([metadata["bytes"]]));
    let index = metadata["bytes"][0].as_u64().unwrap();
    let index = entry(&flipped(usize::try_from(index).unwrap() - 1), "the index");
    assert_eq!(index["bytes"][1], metadata["bytes"][0]);
    for cut in [len - 1, len / 2, 104] {
        assert!(entry(&whole[..cut], "end mark")["bytes"].is_null());
    }
    assert!(!folder.names().contains(&"new.cvc".into()));
}

#[test]
fn every_byte_of_a_native_file_is_checked() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.write("ids.txt", "a\nb\nc\nd\ne\nf\n");
    let call =
        ["pack", "a.npy@k=v", "-o", "a.cvc", "--codec", "int8", "--chunk-rows", "4", "--add", "i=ids.txt"];
    folder.cvc(&call).ok();
    let whole = folder.read("a.cvc");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        folder.write("bad.cvc", bytes);
        folder.cvc(&["verify", "bad.cvc"]).status(1);
    }
}
