//! Wrong calls: exit status 2, a message that names the argument and the value, and nothing left behind.

use crate::harness::{Folder, npy, npy_f32, npy_in_order, small, vecs, zip};

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.write("wide.npy", npy_f32(6, 5, small));
    folder.write("double.npy", npy("<f8", &[6, 4], &[0; 6 * 4 * 8]));
    folder.write("none.npy", npy_f32(0, 4, small));
    folder.write("cube.npy", npy_in_order("<f4", &[1, 2, 3], &[0; 24], true));
    folder.write("times.npy", npy("<M8[s]", &[2, 2], &[0; 32]));
    folder.write("ids.npy", npy("<i8", &[6], &[0; 48]));
    folder.write("few.npy", npy("<i8", &[5], &[0; 40]));
    folder.write("seven.txt", "5\n6\n");
    folder.write("big.npy", npy("<u2", &[2, 1], &[1, 0, 7, 0]));
    folder.write("minus.npy", npy("|i1", &[2], &[255, 0]));
    folder.write("six.txt", "a\nb\n\nd\ne\nf\n");
    folder.write("five.txt", "a\nb\nc\nd\ne");
    folder.write("two.npz", zip(&[("x.npy", &npy_f32(6, 4, small)), ("y.npy", &npy_f32(6, 4, small))]));
    folder.write("no-rows.json", r#"[{"start": 2, "count": 0, "metadata": {}}]"#);
    folder.write("beyond.json", r#"[{"start": 2, "count": 5, "metadata": {}}]"#);
    let twice = r#"{"start": 0, "count": 2, "metadata": {}}, {"start": 1, "count": 2, "metadata": {}}"#;
    folder.write("overlap.json", format!("[{twice}]"));
    folder.write("unknown.json", r#"[{"start": 0, "count": 1, "section": "x"}]"#);
    folder.write("bare.json", r#"[{"start": 0, "count": 1}]"#);
    folder.write("broken.json", "[{");
    folder.write("object.json", "{}");
    std::fs::create_dir(folder.path("dir.npy")).unwrap();
    folder.cvc(&["pack", "a.npy@k=v", "-o", "a.cvc"]).ok();
    folder
}

/// Runs each call, words split at spaces, and looks for the words in its message.
#[track_caller]
fn refused(calls: &[(&str, &[&str])]) {
    let folder = folder();
    let names = folder.names();
    for (call, words) in calls {
        let args: Vec<&str> = call.split(' ').collect();
        folder.cvc(&args).refused(2, words);
        assert_eq!(folder.names(), names, "{call} left something behind");
    }
}

#[test]
fn an_input_of_the_wrong_shape_or_kind() {
    refused(&[
        ("pack cube.npy -o x.cvc", &["cube.npy", "3 dimensions in Fortran order", "ascontiguousarray"]),
        ("pack times.npy -o x.cvc", &["times.npy", "times", "astype"]),
        ("pack ids.npy -o x.cvc --layout v1", &["INPUT", "ids.npy", "--layout native"]),
        ("pack overlap.json -o x.cvc", &["overlap.json", ".npy", ".fvecs"]),
        ("pack two.npz -o x.cvc", &["INPUT", "two.npz", "--member", "x, y"]),
        ("pack two.npz --member z -o x.cvc", &["two.npz", "\"z\"", "\"x\", \"y\""]),
        ("pack a.npy --member z -o x.cvc", &["--member", "'z'"]),
    ]);
}

#[test]
fn inputs_that_do_not_fit_together() {
    refused(&[
        ("pack a.npy wide.npy -o x.cvc", &["INPUT", "wide.npy", "5 f32", "4 f32"]),
        ("pack a.npy@k=1 wide.npy@k=2 -o x.cvc", &["INPUT", "wide.npy@k=2"]),
        ("pack a.npy double.npy -o x.cvc", &["INPUT", "double.npy", "4 f64", "4 f32"]),
        ("pack a.npy -o x.cvc --add ids=few.npy", &["--add", "ids=few.npy", "5 rows", "6"]),
        ("pack a.npy -o x.cvc --layout v2 --add ids=few.npy", &["--add", "ids=few.npy", "5 rows", "6"]),
        ("pack a.npy -o x.cvc --add ids=five.txt", &["--add", "ids=five.txt", "5 rows", "6"]),
    ]);
}

#[test]
fn an_unknown_codec() {
    refused(&[
        ("pack a.npy -o x.cvc --codec zip", &["--codec", "'zip'", "layout native", "raw, fp16, bf16, int8"]),
        ("pack a.npy -o x.cvc --codec none", &["--codec", "'none'", "layout native"]),
        ("pack a.npy -o x.cvc --codec zstd --layout v1", &["--codec", "'zstd'", "fp16, int8, lossless"]),
        ("pack a.npy -o x.cvc --codec none --layout v1", &["--codec", "'none'", "layout v1"]),
        ("pack a.npy -o x.cvc --add ids=six.txt --codec ids=int8", &["--codec", "'int8'", "strings", "zstd"]),
        ("pack ids.npy -o x.cvc --codec int8", &["int8", "i64", "raw"]),
        ("pack a.npy -o x.cvc --codec b=int8", &["--codec", "b=int8", "vectors"]),
        ("pack a.npy -o x.cvc --codec fp16 --codec int8", &["--codec", "'int8'", "already"]),
        ("pack a.npy -o x.cvc --codec=", &["--codec"]),
    ]);
}

#[test]
fn chunks_of_no_rows() {
    refused(&[
        ("pack a.npy -o x.cvc --chunk-rows 0", &["--chunk-rows", "'0'", "1.."]),
        ("pack a.npy -o x.cvc --chunk-rows -1", &["--chunk-rows", "'-1'", "1.."]),
        ("pack a.npy -o x.cvc --chunk-rows many", &["--chunk-rows", "'many'"]),
    ]);
}

#[test]
fn a_section_that_is_none() {
    refused(&[
        (
            "pack a.npy -o x.cvc --sections no-rows.json",
            &["--sections", "no-rows.json", "item 0", "\"count\" 0"],
        ),
        ("pack none.npy@k=v -o x.cvc", &["INPUT", "none.npy@k=v", "no rows"]),
        (
            "pack a.npy -o x.cvc --sections beyond.json",
            &["--sections", "beyond.json", "\"count\" 5", "6 rows"],
        ),
        ("pack a.npy -o x.cvc --sections overlap.json", &["--sections", "'1..3'", "0..2"]),
        (
            "pack a.npy -o x.cvc --sections unknown.json",
            &["--sections", "unknown.json", "\"section\"", "\"metadata\""],
        ),
        ("pack a.npy -o x.cvc --sections bare.json", &["--sections", "bare.json", "item 0", "\"metadata\""]),
        ("pack a.npy -o x.cvc --sections broken.json", &["--sections", "broken.json", "byte 2"]),
        ("pack a.npy -o x.cvc --sections object.json", &["--sections", "object.json", "list"]),
        ("pack a.npy -o x.cvc --sections absent.json", &["absent.json", "cannot be read"]),
        ("pack a.npy@k=v -o x.cvc --sections bare.json", &["--sections", "bare.json", "@key=value"]),
        ("pack a.npy@k -o x.cvc", &["INPUT", "a.npy@k", "KEY=VALUE"]),
        ("pack a.npy@k=1,k=2 -o x.cvc", &["INPUT", "a.npy@k=1,k=2", "twice"]),
    ]);
}

#[test]
fn arrays_that_the_layout_does_not_have() {
    refused(&[
        ("pack a.npy -o x.cvc --layout v1 --add ids=ids.npy", &["--add", "ids=ids.npy", "--layout native"]),
        ("pack a.npy -o x.cvc --layout v0 --array text", &["--array", "'text'", "--layout native"]),
        (
            "pack a.npy -o x.cvc --layout v2 --add ids=six.txt",
            &["--add", "ids=six.txt", "strings", "--layout native"],
        ),
        ("pack a.npy -o x.cvc --add vectors=ids.npy", &["--add", "vectors=ids.npy", "already"]),
        ("pack a.npy -o x.cvc --layout v2 --add vectors=ids.npy", &["--add", "vectors=ids.npy", "already"]),
        ("pack a.npy -o x.cvc --layout v2 --add ids", &["--add", "'ids'"]),
        ("pack a.npy -o x.cvc --layout v2 --add ids=", &["--add", "'ids='", "no file"]),
        ("pack double.npy -o x.cvc --layout v2", &["v2", "f64"]),
        ("pack a.npy -o x.cvc --layout v9", &["--layout", "'v9'", "native, v0, v1, v2"]),
    ]);
}

#[test]
fn options_that_the_layout_has_no_place_for() {
    for layout in ["v0", "v1", "v2"] {
        for (option, value) in [
            ("--scope", "row"),
            ("--nonfinite", "saturate"),
            ("--block-rows", "4"),
            ("--meta", "k=v"),
            ("--provenance", "model=m"),
        ] {
            let call = format!("pack a.npy -o x.cvc --codec int8 --layout {layout} {option} {value}");
            refused(&[(&call, &[option, value, &format!("layout {layout}"), "--layout native"])]);
        }
    }
}

#[test]
fn options_that_the_codec_has_no_use_for() {
    refused(&[
        ("pack a.npy -o x.cvc --scope dim", &["--scope", "'dim'", "--codec int8"]),
        (
            "pack a.npy -o x.cvc --codec raw --nonfinite saturate",
            &["--nonfinite", "'saturate'", "leave it out"],
        ),
        ("pack a.npy -o x.cvc --scope all", &["--scope", "row, dim, chunk"]),
        ("pack a.npy -o x.cvc --block-rows 0", &["--block-rows", "'0'", "1.."]),
        ("pack a.npy -o x.cvc --meta k", &["--meta", "'k'"]),
        ("pack a.npy -o x.cvc --meta k=1 --meta k=2", &["--meta", "'k=2'", "twice"]),
        ("pack a.npy -o x.cvc --provenance k=1 --provenance k=2", &["--provenance", "'k=2'", "twice"]),
    ]);
}

#[test]
fn paths_that_lead_nowhere() {
    refused(&[
        ("pack absent.npy -o x.cvc", &["absent.npy"]),
        ("pack absent.npy@k=v -o x.cvc", &["INPUT", "absent.npy@k=v", "no file absent.npy"]),
        ("pack absent@home.npy -o x.cvc", &["absent@home.npy: cannot be read"]),
        ("pack dir.npy -o x.cvc", &["dir.npy", "directory"]),
        ("pack a.npy -o no/such/x.cvc", &["--output", "no/such/x.cvc", "no directory no/such"]),
        ("pack a.npy -o dir.npy", &["--output", "dir.npy", "directory"]),
        ("pack a.npy -o a.npy", &["--output", "a.npy", "input"]),
        ("pack a.npy -o ./a.npy", &["--output", "./a.npy", "input"]),
        ("pack a.npy -o x.cvc --add ids=absent.txt", &["absent.txt"]),
        ("unpack a.cvc -o a.cvc", &["--output", "a.cvc", "input"]),
        ("unpack a.cvc -o six.txt --rows-from six.txt", &["--output", "six.txt", "input"]),
        ("unpack a.cvc -o x.npy --rows-from absent.txt", &["absent.txt"]),
        ("repair a.cvc -o a.cvc", &["--output", "a.cvc", "input"]),
        ("repair a.cvc -o a.npy", &["--output", "a.npy", "--force"]),
        ("repair absent.cvc -o x.cvc", &["absent.cvc"]),
        ("upgrade a.cvc -o ./a.cvc --layout v1", &["--output", "./a.cvc", "input"]),
        ("upgrade absent.cvc -o x.cvc", &["absent.cvc"]),
        ("unpack a.cvc -o no/x.npy", &["--output", "no/x.npy"]),
        ("unpack absent.cvc -o x.npy", &["absent.cvc"]),
        ("info absent.cvc --json", &["absent.cvc"]),
        ("verify absent.cvc --json", &["absent.cvc"]),
        ("verify dir.npy", &["dir.npy"]),
    ]);
}

#[test]
fn rows_that_are_not_there() {
    refused(&[
        ("unpack a.cvc -o x.npy --rows 2..7", &["--rows", "'2..7'", "0..6"]),
        ("unpack a.cvc -o x.npy --rows 7..", &["--rows", "'7..'", "0..6"]),
        ("unpack a.cvc -o x.npy --rows 3..2", &["--rows", "'3..2'"]),
        ("unpack a.cvc -o x.npy --rows 3", &["--rows", "'3'", "A..B"]),
        ("unpack a.cvc -o x.npy --rows -3..5", &["--rows", "'-3..5'"]),
        ("unpack a.cvc -o x.npy --where k=other", &["--where", "'k=other'", "cvc info"]),
        ("unpack a.cvc -o x.npy --where k", &["--where", "'k'"]),
        ("unpack a.cvc -o x.npy --array other", &["--array", "'other'", "vectors"]),
        ("unpack a.cvc -o x.npy --dims 5", &["--dims", "'5'", "4 values"]),
        ("unpack a.cvc -o x.npy --dims 0", &["--dims", "'0'"]),
        ("unpack a.cvc -o x.npy --rows-from six.txt", &["--rows-from", "six.txt", "line 1", "\"a\""]),
        (
            "unpack a.cvc -o x.npy --rows-from seven.txt",
            &["--rows-from", "seven.txt", "line 2", "row 6", "0..6"],
        ),
        ("unpack a.cvc -o x.npy --rows-from a.npy", &["--rows-from", "a.npy", "4 f32", "integers"]),
        ("unpack a.cvc -o x.npy --rows-from big.npy", &["--rows-from", "big.npy", "item 1", "row 7"]),
        ("unpack a.cvc -o x.npy --rows-from minus.npy", &["--rows-from", "minus.npy", "item 0", "negative"]),
        ("unpack a.cvc -o x.npy --rows-from six.txt --rows 1..2", &["--rows-from", "--rows"]),
        ("unpack a.cvc -o x.npy --rows-from six.txt --where k=v", &["--rows-from", "--where"]),
        ("unpack a.cvc -o x.txt", &["--output", "x.txt", ".npy"]),
        ("unpack a.cvc -o x.npy --damaged drop", &["--damaged", "fail, skip, fill"]),
        ("unpack a.cvc -o x.npy --damaged skip --no-checksums", &["--damaged", "--no-checksums"]),
    ]);
}

#[test]
fn devices_and_dtypes_that_are_not_there() {
    refused(&[
        ("unpack a.cvc -o x.npy --dtype f64", &["--dtype", "'f64'", "f32, f16, bf16"]),
        ("unpack a.cvc -o x.npy --device gpu", &["--device", "'gpu'", "auto, cpu, cuda, wgpu"]),
        ("unpack a.cvc -o x.npy --device wgpu:", &["--device", "'wgpu:'", "wgpu:NAME"]),
        ("unpack a.cvc -o x.npy --device cpu:7", &["device cpu:7 is not available", "cpu:0"]),
        ("info a.cvc --device cpu", &["--explain"]),
    ]);
}

#[test]
fn no_command_and_unknown_options() {
    let folder = Folder::new();
    let run = folder.cvc(&[]).status(2);
    assert!(run.stderr().contains("Usage: cvc") && run.stdout().is_empty());
    refused(&[
        ("pack a.npy", &["--output"]),
        ("pack a.npy -o x.cvc --level 9", &["--level"]),
        ("zip a.npy", &["zip"]),
    ]);
}

#[test]
fn help_goes_to_standard_output_and_says_what_the_statuses_mean() {
    let folder = Folder::new();
    let help = folder.cvc(&["--help"]).ok();
    assert!(
        help.stdout()
            .contains("Exit status: 0 done, 1 the file is damaged or the work failed, 2 the call is wrong")
    );
    for command in ["pack", "unpack", "info", "verify", "report", "repair", "upgrade", "devices"] {
        assert!(help.stdout().contains(command));
        assert!(folder.cvc(&[command, "--help"]).ok().stdout().contains("--json"), "{command}");
    }
}

/// A bad row in the middle shows only while packing: the file is wrong then, not the call.
#[test]
fn an_input_that_is_damaged_is_not_a_wrong_call() {
    let folder = folder();
    let mut bytes = vecs(2, 4, &[0; 80]);
    bytes[5 * 12] = 3;
    folder.write("bad.fvecs", &bytes);
    folder.write("latin.txt", b"1\n2\n3\n4\n5\nbl\xe5\n");
    folder.write("cut.npy", &npy_f32(6, 4, small)[..150]);
    folder.write("x.cvc", "old");
    let names = folder.names();
    folder.cvc(&["pack", "bad.fvecs", "-o", "x.cvc"]).refused(1, &["bad.fvecs", "row 5", "3 values"]);
    folder.cvc(&["pack", "cut.npy", "-o", "x.cvc"]).refused(1, &["cut.npy", "150 bytes"]);
    let call = ["pack", "a.npy", "-o", "x.cvc", "--add", "ids=latin.txt"];
    folder.cvc(&call).refused(1, &["latin.txt", "byte 12", "UTF-8"]);
    assert_eq!(folder.names(), names);
    assert_eq!(folder.read("x.cvc"), b"old");
}

#[test]
fn rows_without_end_are_refused_before_any_work() {
    let folder = Folder::new();
    let npy = |rows: u64| {
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 0), }}");
        header.push_str(&" ".repeat(117 - header.len()));
        header.push('\n');
        [b"\x93NUMPY\x01\x00\x76\x00".as_slice(), header.as_bytes()].concat()
    };
    folder.write("a.npy", npy(1 << 60));
    let call = ["pack", "a.npy", "-o", "a.cvc", "--layout"];
    folder
        .cvc(&[call.as_slice(), &["native"]].concat())
        .refused(2, &["native", "1152921504606846976 rows", "at most"]);
    folder.cvc(&[call.as_slice(), &["v1"]].concat()).refused(2, &["chunks", "more rows in a chunk"]);
    folder.write("b.npy", npy(1 << 63));
    folder.cvc(&["pack", "b.npy", "b.npy", "-o", "a.cvc"]).refused(2, &["b.npy", "2^64 rows"]);
    assert_eq!(folder.names(), ["a.npy", "b.npy"]);
}
