//! From the layouts of the program's forerunners to the native one, and back.

use cvc_conformance::golden::{DECOMPRESSED, Manifest};
use serde_json::json;

use crate::harness::{Folder, npy_f32, small};

/// Files of v0 have a scale of 64 bits, of which decoding uses 32; their header has its keys in another order.
/// `mmap_optimized` is written by nobody here.
#[test]
fn every_golden_file_becomes_native_and_v1_comes_back_byte_for_byte() {
    let folder = Folder::new();
    let (mut files, mut same) = (0, 0);
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_none()) {
            let path = manifest.path(&entry.file);
            let path = path.to_str().unwrap();
            let layout = folder.cvc(&["info", path, "--json"]).ok().json()["layout"].clone();
            let layout = layout.as_str().unwrap();
            folder.cvc(&["upgrade", path, "-o", "native.cvc"]).ok();
            folder.cvc(&["verify", "native.cvc"]).ok();
            let back_to = if layout == "v1-mmap" { "v1" } else { layout };
            folder.cvc(&["upgrade", "native.cvc", "-o", "back.cvc", "--layout", back_to]).ok();
            folder.cvc(&["verify", "back.cvc"]).ok();
            for array in folder.cvc(&["info", path, "--json"]).ok().json()["arrays"].as_array().unwrap() {
                let name = array["name"].as_str().unwrap();
                let unpacked = |file: &str| {
                    folder.cvc(&["unpack", file, "-o", "x.npy", "--array", name]).ok();
                    folder.read("x.npy")
                };
                let expected = unpacked(path);
                assert!(unpacked("native.cvc") == expected, "{path} {name} as native");
                assert!(unpacked("back.cvc") == expected, "{path} {name} and back");
            }
            files += 1;
            let is_same = std::fs::read(path).unwrap() == folder.read("back.cvc");
            same += usize::from(is_same);
            // Lossless chunks are encoded again, and one way to do that is as good as another.
            let copied = layout == "v1" && !entry.file.contains("lossless");
            assert!(is_same || !copied, "{path} did not come back as it was");
        }
    }
    assert!(files > 150 && same > 100, "{same} of {files}");
}

#[test]
fn upgrade_says_what_was_written() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.cvc(&["pack", "a.npy@k=v", "-o", "old.cvc", "--layout", "v1", "--codec", "int8"]).ok();
    let json = folder.cvc(&["upgrade", "old.cvc", "-o", "new.cvc", "--json"]).ok().json();
    assert_eq!(
        (&json["from"], &json["layout"], &json["output"]),
        (&"v1".into(), &"native".into(), &"new.cvc".into())
    );
    assert_eq!((&json["rows"], &json["chunks"]), (&json!(6), &json!(1)));
    assert_eq!(json["arrays"][0]["codec"], "int8");
    assert_eq!(json["arrays"][0]["params"], json!({ "scope": "chunk" }));
    assert!(json["arrays"][0]["loss"].is_null(), "the values that were packed are gone");
    assert_eq!(json["sections"][0]["metadata"], json!({ "k": "v" }));
    assert_eq!(json["file_len"].as_u64(), Some(folder.read("new.cvc").len() as u64));

    let run = folder.cvc(&["upgrade", "new.cvc", "-o", "back.cvc", "--layout", "v1"]).ok();
    assert!(run.stdout().starts_with("wrote the 6 rows of new.cvc (layout native"), "{}", run.stdout());
    assert_eq!(folder.read("back.cvc"), folder.read("old.cvc"));
}

#[test]
fn what_a_layout_cannot_hold_is_refused() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.write("ids.txt", "a\nb\nc\nd\ne\nf\n");
    let pack = |options: &[&str]| {
        folder.cvc(&[["pack", "a.npy", "-o", "a.cvc"].as_slice(), options].concat()).ok();
    };
    let refused = |layout: &str, words: &[&str]| {
        folder.cvc(&["upgrade", "a.cvc", "-o", "x.cvc", "--layout", layout]).refused(2, words);
        assert_eq!(folder.names(), ["a.cvc", "a.npy", "ids.txt"]);
    };
    pack(&[]);
    refused("native", &["--layout", "'native'", "already"]);
    pack(&["--add", "ids=ids.txt"]);
    refused("v2", &["--layout", "'v2'", "\"ids\""]);
    pack(&["--codec", "int8"]);
    refused("v1", &["--layout", "'v1'", "have one for a chunk"]);
    pack(&["--codec", "bf16"]);
    refused("v1", &["--layout", "bf16"]);
    pack(&["--meta", "k=v"]);
    refused("v1", &["--layout", "metadata"]);
    pack(&["--provenance", "model=m"]);
    refused("v0", &["--layout", "provenance"]);
    pack(&["--layout", "v1"]);
    refused("v2", &["--layout", "'v2'", "native"]);
}

#[test]
fn a_damaged_file_is_not_upgraded() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--layout", "v1"]).ok();
    let mut bytes = folder.read("a.cvc");
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("a.cvc", bytes);
    folder.write("x.cvc", "old");
    folder.cvc(&["upgrade", "a.cvc", "-o", "x.cvc"]).refused(1, &["a.cvc: ", "crc32"]);
    assert_eq!(folder.names(), ["a.cvc", "a.npy", "x.cvc"]);
    assert_eq!(folder.read("x.cvc"), b"old");
}
