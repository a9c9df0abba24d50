//! Files made by the program's forerunners.

use cvc_conformance::golden::{DECOMPRESSED, Manifest};

use crate::harness::{Folder, f32s, le, npy};

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

/// The squares of distances to every row that has one, in f64 and rounded once, the least first.
fn distances(query: &[f32], rows: &[f32]) -> Vec<f32> {
    let square = |(q, x): (&f32, &f32)| (f64::from(*q) - f64::from(*x)).powi(2);
    let all = rows.chunks(query.len()).map(|row| query.iter().zip(row).map(square).sum::<f64>());
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
    let mut all: Vec<f32> =
        all.filter(|distance| !distance.is_nan()).map(|distance| distance as f32).collect();
    all.sort_by(f32::total_cmp);
    all
}

#[test]
fn every_golden_file_of_floats_is_searched_as_it_is_read() {
    let folder = Folder::new();
    let mut searched = 0;
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_none()) {
            let Some(expected) = &entry.expected else { continue };
            let (path, rows) = (manifest.path(&entry.file), manifest.npy(expected));
            let &[_, dim] = rows.shape.as_slice() else { continue };
            if rows.dtype.name() != "f32" || dim == 0 {
                continue;
            }
            let rows = f32s(&rows);
            // A query is finite.
            let Some(query) = rows.chunks(dim).find(|row| row.iter().all(|value| value.is_finite())) else {
                continue;
            };
            folder.write("q.npy", npy("<f4", &[dim], &le(query)));
            let call = ["search", path.to_str().unwrap(), "q.npy", "--metric", "l2sq", "-k", "5", "--json"];
            let json = folder.cvc(&call).ok().json();
            let scores = json["scores"][0].as_array().unwrap().iter();
            // What is no number is infinite.
            let scores = scores.filter(|score| !score.is_null());
            let scores = scores.map(|score| score.as_f64().unwrap_or(f64::INFINITY));
            let expected = distances(query, &rows);
            let scores: Vec<f64> = scores.collect();
            assert_eq!(scores.len(), expected.len().min(5), "{}", path.display());
            for (score, expected) in scores.iter().zip(expected) {
                let expected = f64::from(expected);
                let near = (score - expected).abs() <= expected * 1e-6;
                assert!(near || *score == expected, "{}: {score} for {expected}", path.display());
            }
            searched += 1;
        }
    }
    assert!(searched > 20, "{searched}");
}
