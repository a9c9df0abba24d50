//! Columns in their true dtypes, and floats in the dtype asked for.

use crate::harness::{Folder, npy, npy_f32, small, values, zip};

/// A file of four columns of six rows.
fn folder() -> (Folder, Vec<u8>) {
    let folder = Folder::new();
    let ids: Vec<u8> = (0..6_i64).flat_map(|id| (id << 40).to_le_bytes()).collect();
    folder.write("text.npy", npy_f32(6, 4, small));
    folder.write(
        "extra.npz",
        zip(&[("ids.npy", &npy("<i8", &[6], &ids)), ("image.npy", &npy_f32(6, 2, small))]),
    );
    folder.write("bytes.npy", npy("|u1", &[6, 3], &(0..18).collect::<Vec<u8>>()));
    folder
        .cvc(&[
            "pack",
            "text.npy",
            "-o",
            "a.cvc",
            "--layout",
            "v2",
            "--array",
            "text",
            "--chunk-rows",
            "4",
            "--add",
            "ids=extra.npz",
            "--add",
            "image=extra.npz",
            "--add",
            "bytes=bytes.npy",
            "--codec",
            "image=none",
        ])
        .ok();
    (folder, ids)
}

#[test]
fn columns_come_back_in_their_true_dtypes() {
    let (folder, ids) = folder();
    let unpack = |array: &str| {
        folder.cvc(&["unpack", "a.cvc", "-o", "back.npy", "--array", array]).ok();
        let back = folder.npy("back.npy");
        (back.dtype.name(), back.shape, back.bytes)
    };
    let native = |values: &[f32]| values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
    assert_eq!(unpack("text"), ("f32", vec![6, 4], native(&values(6, 4, small))));
    assert_eq!(unpack("image"), ("f32", vec![6, 2], native(&values(6, 2, small))));
    assert_eq!(unpack("bytes"), ("u8", vec![6, 3], (0..18).collect()));
    let (dtype, shape, bytes) = unpack("ids");
    assert_eq!((dtype, shape), ("i64", vec![6]), "a list of scalars stays one");
    let little: Vec<u8> = if cfg!(target_endian = "little") {
        bytes
    } else {
        bytes.chunks(8).flat_map(|id| id.iter().rev().copied()).collect()
    };
    assert_eq!(little, ids);
}

#[test]
fn of_several_columns_one_must_be_named() {
    let (folder, _) = folder();
    folder
        .cvc(&["unpack", "a.cvc", "-o", "x.npy"])
        .refused(2, &["a.cvc", "--array", "\"text\", \"ids\", \"image\", \"bytes\""]);
    folder
        .cvc(&["unpack", "a.cvc", "-o", "x.npy", "--array", "txt"])
        .refused(2, &["--array", "'txt'", "text"]);
}

#[test]
fn integers_are_not_read_as_floats() {
    let (folder, _) = folder();
    folder
        .cvc(&["unpack", "a.cvc", "-o", "x.npy", "--array", "ids", "--dtype", "f16"])
        .refused(2, &["--dtype", "'f16'", "ids", "i64"]);
}

#[test]
fn floats_come_in_the_dtype_asked_for() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(5, 4, small));
    for codec in ["fp16", "int8", "lossless"] {
        folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--codec", codec]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "32.npy", "--dtype", "f32"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "16.npy", "--dtype", "f16"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "b16.npy", "--dtype", "bf16"]).ok();
        let wide = folder.f32s("32.npy");
        let half = folder.npy("16.npy");
        assert_eq!((half.dtype.name(), half.shape), ("f16", vec![5, 4]));

        // numpy has no bfloat16: it is saved as pairs of bytes.
        let file = folder.read("b16.npy");
        assert!(String::from_utf8_lossy(&file[..128]).contains("V2"), "{:?}", &file[..128]);
        let brain = &file[file.len() - 40..];
        for (i, value) in wide.iter().enumerate() {
            let half = u16::from_ne_bytes([half.bytes[2 * i], half.bytes[2 * i + 1]]);
            let brain = u16::from_le_bytes([brain[2 * i], brain[2 * i + 1]]);
            let (half, brain) = (from_half(half), f32::from_bits(u32::from(brain) << 16));
            assert!((half - value).abs() <= value / 2048.0, "{codec}: {value} as f16 is {half}");
            assert!((brain - value).abs() <= value / 256.0, "{codec}: {value} as bf16 is {brain}");
        }
    }
}

/// A half that is positive and neither subnormal nor infinite, or zero.
fn from_half(bits: u16) -> f32 {
    if bits == 0 { 0.0 } else { f32::from_bits((u32::from(bits) << 13) + (112 << 23)) }
}
