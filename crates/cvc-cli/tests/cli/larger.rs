//! The larger sets, which live beside the repository and not in it.

use std::path::{Path, PathBuf};

use cvc_conformance::{npy::Npy, require};
use serde_json::{Value, json};

use crate::harness::{Folder, f32s};

/// A file of the larger sets, if they are here.
fn larger(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let found =
        if path.exists() { Ok(path) } else { Err("there is no ../shared/data beside the repository") };
    require::device("minilm12k", found)
}

#[test]
fn minilm12k_packs_with_its_58_sections_and_each_loads_alone() {
    let (Some(input), Some(sections)) = (larger("minilm12k.f32.npy"), larger("minilm12k.sections.json"))
    else {
        return;
    };
    let folder = Folder::new();
    let theirs: Vec<Value> = serde_json::from_slice(&std::fs::read(sections).unwrap()).unwrap();
    let ours = theirs.iter().map(
        |run| json!({ "start": run["start"], "count": run["count"], "metadata": { "section": run["section"] } }),
    );
    folder.write("sections.json", Value::from_iter(ours).to_string());

    let values = f32s(&Npy::read(&input));
    let input = input.to_str().unwrap();
    for (layout, codec, ratio) in [("native", "fp16", 2.0), ("native", "int8", 3.92), ("v1", "int8", 4.0)] {
        let call = ["pack", input, "-o", "a.cvc", "--sections", "sections.json", "--json"];
        let call = [call.as_slice(), &["--codec", codec, "--layout", layout]].concat();
        let packed = folder.cvc(&call).ok().json();
        let found = packed["ratio"].as_f64().unwrap();
        assert!((found - ratio).abs() < 0.02, "{codec}: {found}");
        folder.cvc(&["verify", "a.cvc"]).ok();
        folder.cvc(&["unpack", "a.cvc", "-o", "all.npy"]).ok();
        let all = folder.f32s("all.npy");
        // One scale for each chunk or row; none is wider than that of all rows.
        let (min, max) = values.iter().fold((f32::MAX, f32::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        let error = values.iter().zip(&all).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let bound = if codec == "fp16" { max.max(-min) / 2048.0 } else { (max - min) / 510.0 * 1.000_1 };
        assert!(error <= bound, "{codec}: {error} is above {bound}");

        assert_eq!(theirs.len(), 58);
        for run in &theirs {
            let number = |key: &str| usize::try_from(run[key].as_u64().unwrap()).unwrap();
            let rows = number("start") * 384..(number("start") + number("count")) * 384;
            let name = format!("section={}", run["section"].as_str().unwrap());
            folder.cvc(&["unpack", "a.cvc", "-o", "one.npy", "--where", &name]).ok();
            assert_eq!(folder.f32s("one.npy"), all[rows], "{codec} {name}");
        }
    }
}
