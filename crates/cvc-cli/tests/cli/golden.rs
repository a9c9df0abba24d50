//! Files made by the program's forerunners.

use cvc_conformance::golden::{DECOMPRESSED, Manifest};

use crate::harness::Folder;

#[test]
fn every_golden_file_verifies_and_unpacks_to_the_expected_bits() {
    let folder = Folder::new();
    let unpacked = |path: &str, options: &[&str]| {
        folder.cvc(&[["unpack", path, "-o", "back.npy"].as_slice(), options].concat()).ok();
        folder.npy("back.npy")
    };
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_none()) {
            let path = manifest.path(&entry.file);
            let path = path.to_str().unwrap();
            folder.cvc(&["verify", path]).ok();
            let info = folder.cvc(&["info", path, "--json"]).ok().json();
            if let Some(expected) = &entry.expected {
                assert!(unpacked(path, &[]) == manifest.npy(expected), "{path}");
            }
            for column in &entry.columns {
                let arrays = info["arrays"].as_array().unwrap();
                let array = arrays.iter().find(|array| array["name"] == column.name).unwrap();
                let back = unpacked(path, &["--array", &column.name]);
                if array["codec"] == "raw" {
                    // The forerunner loads these as f32, often wrong; they are what was packed.
                    assert!(back == manifest.npy(&column.input), "{path} {}", column.name);
                } else {
                    let expected = column.expected.as_ref().unwrap();
                    assert!(back == manifest.npy(expected), "{path} {}", column.name);
                }
            }
        }
    }
}
