//! Every kind of input becomes the same file.

use crate::harness::{Folder, le, npy, npy_f32, npy_in_order, small, values, vecs, zip};

const ROWS: usize = 30;
const DIM: usize = 7;

/// The file that the input makes, with the same options as all others.
fn packed(folder: &Folder, input: &str) -> Vec<u8> {
    folder.cvc(&["pack", input, "-o", "out.cvc", "--chunk-rows", "8"]).ok();
    folder.read("out.cvc")
}

#[test]
fn every_kind_of_input_makes_the_same_file() {
    let folder = Folder::new();
    let data = le(&values(ROWS, DIM, small));
    let array = npy("<f4", &[ROWS, DIM], &data);
    folder.write("a.npy", &array);
    let expected = packed(&folder, "a.npy");

    let big_endian: Vec<u8> = data.chunks(4).flat_map(|value| value.iter().rev().copied()).collect();
    folder.write("big.npy", npy(">f4", &[ROWS, DIM], &big_endian));
    let columns = (0..ROWS * DIM).map(|at| small(at % ROWS * DIM + at / ROWS)).collect::<Vec<f32>>();
    folder.write("fortran.npy", npy_in_order("<f4", &[ROWS, DIM], &le(&columns), true));
    folder.write("rows.fvecs", vecs(DIM, 4, &data));
    folder.write("one.npz", zip(&[("arr_0.npy", &array)]));
    for input in ["big.npy", "fortran.npy", "rows.fvecs", "one.npz"] {
        assert_eq!(packed(&folder, input), expected, "{input}");
    }

    folder.write("two.npz", zip(&[("other.npy", &npy_f32(1, 1, small)), ("it.npy", &array)]));
    folder.cvc(&["pack", "two.npz", "--member", "it", "-o", "out.cvc", "--chunk-rows", "8"]).ok();
    assert_eq!(folder.read("out.cvc"), expected);
}

#[test]
fn arrays_of_several_dimensions_keep_their_shape() {
    let folder = Folder::new();
    folder.write("a.npy", npy("<f4", &[ROWS, DIM, 2], &le(&values(ROWS, DIM * 2, small))));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--codec", "raw"]).ok();
    let info = folder.cvc(&["info", "a.cvc"]).ok();
    assert!(info.stdout().contains("30 x 7 x 2"), "{}", info.stdout());
    folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
    assert!(folder.npy("back.npy") == folder.npy("a.npy"));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--layout", "v1"]).refused(2, &["layout native"]);
    folder.cvc(&["search", "a.cvc", "a.npy"]).refused(2, &["QUERIES", "3 dimensions"]);
    folder.write("b.npy", npy("<f4", &[ROWS, 2, DIM], &le(&values(ROWS, DIM * 2, small))));
    let both = folder.cvc(&["pack", "a.npy", "b.npy", "-o", "b.cvc"]);
    both.refused(2, &["rows of 2x7 f32 values, the first input rows of 7x2"]);
}

#[test]
fn every_dtype_of_numbers_packs() {
    let folder = Folder::new();
    // Small enough for each of them, and the same in half precision.
    let numbers: Vec<u8> = (0..100).collect();
    let expected: Vec<f32> = numbers.iter().map(|n| f32::from(*n)).collect();
    let ints = |size: usize| {
        numbers.iter().flat_map(|n| [[*n].as_slice(), &[0; 7][..size - 1]].concat()).collect::<Vec<u8>>()
    };
    let f64s: Vec<u8> = numbers.iter().flat_map(|n| f64::from(*n).to_le_bytes()).collect();
    let inputs = [
        ("|i1", ints(1)),
        ("<i2", ints(2)),
        ("<i4", ints(4)),
        ("<i8", ints(8)),
        ("|u1", ints(1)),
        ("<u2", ints(2)),
        ("<u4", ints(4)),
        ("<u8", ints(8)),
        ("<f8", f64s),
    ];
    for (descr, data) in inputs {
        folder.write("a.npy", npy(descr, &[20, 5], &data));
        folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--layout", "v1"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
        assert_eq!(folder.f32s("back.npy"), expected, "{descr}");

        // Native files keep what they are given, and round only floats unless somebody asks for more.
        folder.cvc(&["pack", "a.npy", "-o", "a.cvc"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
        if descr == "<f8" {
            assert_eq!(folder.f32s("back.npy"), expected, "{descr}");
        } else {
            assert!(folder.npy("back.npy") == folder.npy("a.npy"), "{descr}");
        }
        folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--codec", "raw"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
        assert!(folder.npy("back.npy") == folder.npy("a.npy"), "{descr}");
    }

    folder.write("a.bvecs", vecs(5, 1, &numbers));
    folder.write("a.ivecs", vecs(5, 4, &ints(4)));
    for input in ["a.bvecs", "a.ivecs"] {
        folder.cvc(&["pack", input, "-o", "a.cvc", "--layout", "v0"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
        assert_eq!(folder.f32s("back.npy"), expected, "{input}");
    }
}

#[test]
fn rows_of_inputs_follow_each_other_and_chunks_do_not_show() {
    let folder = Folder::new();
    folder.write("all.npy", npy_f32(ROWS, DIM, small));
    folder.write("a.npy", npy_f32(11, DIM, small));
    folder.write("b.npy", npy_f32(0, DIM, small));
    folder.write("c.npy", npy_f32(19, DIM, |i| small(i + 11 * DIM)));
    for chunk_rows in ["1", "4", "11", "1000"] {
        let options = ["-o", "parts.cvc", "--chunk-rows", chunk_rows];
        folder.cvc(&[["pack", "a.npy", "b.npy", "c.npy"].as_slice(), &options].concat()).ok();
        folder.cvc(&["pack", "all.npy", "-o", "all.cvc", "--chunk-rows", chunk_rows]).ok();
        assert_eq!(folder.read("parts.cvc"), folder.read("all.cvc"));
        folder.cvc(&["unpack", "all.cvc", "-o", "back.npy"]).ok();
        assert_eq!(folder.f32s("back.npy"), values(ROWS, DIM, small));
    }
}

#[test]
fn every_layout_and_codec_gives_the_rows_back() {
    let folder = Folder::new();
    // 0 to 250 with both ends in every chunk: int8 steps of 250/255, so within half a step.
    folder.write("a.npy", npy_f32(251, DIM, small));
    for (layout, codec, exact) in [
        ("v0", "fp16", true),
        ("v0", "int8", false),
        ("v1", "fp16", true),
        ("v1", "int8", false),
        ("v1", "lossless", true),
        ("v2", "fp16", true),
        ("v2", "int8", false),
        ("v2", "none", true),
        ("native", "raw", true),
        ("native", "fp16", true),
        ("native", "bf16", true),
        ("native", "int8", false),
        ("native", "zstd", true),
        ("native", "gzip", true),
        ("native", "lossless", true),
    ] {
        folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--layout", layout, "--codec", codec]).ok();
        folder.cvc(&["verify", "a.cvc"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
        let half_step = if exact { 0.0 } else { 250.0 / 255.0 / 2.0 * 1.000_1 };
        for (i, value) in folder.f32s("back.npy").into_iter().enumerate() {
            assert!((value - small(i)).abs() <= half_step, "{layout} {codec} {i}: {value}");
        }
    }
}

#[test]
fn no_rows_and_rows_of_no_values_are_files_too() {
    let folder = Folder::new();
    for (rows, dim) in [(0, DIM), (5, 0), (0, 0)] {
        folder.write("a.npy", npy_f32(rows, dim, small));
        for layout in ["native", "v1"] {
            folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--layout", layout]).ok();
            folder.cvc(&["verify", "a.cvc"]).ok();
            folder.cvc(&["info", "a.cvc", "--explain"]).ok();
            folder.cvc(&["unpack", "a.cvc", "-o", "back.npy", "--damaged", "fill"]).ok();
            assert_eq!(folder.npy("back.npy").shape, [rows, dim], "{layout}");
            folder.cvc(&["repair", "a.cvc", "-o", "b.cvc", "--force"]).ok();
            assert_eq!(folder.read("a.cvc"), folder.read("b.cvc"), "{layout}");
        }
    }
}

#[test]
fn any_name_will_do() {
    let folder = Folder::new();
    let array = npy_f32(3, 2, small);
    for name in ["a@b.npy", "k=v@x=y.npy", "two words, and a comma.npy", "vectör ☃.npy", "-dash.npy", "A.NPY"]
    {
        folder.write(name, &array);
        let named = format!("./{name}");
        folder.cvc(&["pack", &named, "-o", "@=, ü.cvc"]).ok();
        folder.cvc(&["unpack", "@=, ü.cvc", "-o", "back.npy"]).ok();
        assert_eq!(folder.f32s("back.npy"), values(3, 2, small), "{name}");
        folder.cvc(&["pack", &format!("{named}@key=value@home"), "-o", "s.cvc"]).ok();
        let json = folder.cvc(&["info", "s.cvc", "--json"]).ok().json();
        assert_eq!(json["sections"][0]["metadata"]["key"], "value@home", "{name}");
    }
}
