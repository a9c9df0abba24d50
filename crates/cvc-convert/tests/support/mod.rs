//! Real vectors with their labels, and a look at what is left in a folder.
#![allow(dead_code, reason = "each test uses its part")]

use std::ops::Range;
use std::path::{Path, PathBuf};

use cvc::input::{Matrix, Options as Opening};
use cvc::{AlignedBytes, Json, Limits};
use cvc_convert::{Converted, Error, Options};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(name)
}

fn json(name: &str) -> Json {
    let text = std::fs::read(data(name)).unwrap();
    Json::parse(&text, Limits::default().json_depth).unwrap()
}

/// 2,000 sentence embeddings, and how many values each has.
pub(crate) fn minilm() -> (Vec<f32>, usize) {
    let matrix = Matrix::open(&data("minilm2k.f32.npy"), &Opening::default()).unwrap();
    let mut scratch = AlignedBytes::new();
    let bytes = matrix.read(0..matrix.rows(), &mut scratch).unwrap();
    let values = bytes.chunks_exact(4).map(|value| f32::from_ne_bytes(value.try_into().unwrap()));
    (values.collect(), matrix.dim() as usize)
}

/// The label of each row.
pub(crate) fn labels() -> Vec<String> {
    let json = json("minilm2k.labels.json");
    json.as_array().unwrap().iter().map(|label| label.as_str().unwrap().to_owned()).collect()
}

/// The 58 sections, as their labels say them.
pub(crate) fn sections() -> Vec<(Range<u64>, Json)> {
    let json = json("minilm2k.sections.json");
    let sections = json.as_array().unwrap().iter().map(|section| {
        let number = |key| section.get(key).and_then(Json::as_u64).unwrap();
        (number("start")..number("start") + number("count"), section.get("metadata").unwrap().clone())
    });
    sections.collect()
}

/// The name of each row.
pub(crate) fn names() -> Vec<String> {
    std::fs::read_to_string(data("minilm2k.names.txt")).unwrap().lines().map(str::to_owned).collect()
}

pub(crate) fn convert(source: &Path, target: &Path, options: &Options) -> Result<Converted, Error> {
    cvc_convert::convert(source, target, options, &mut |_, _| Ok(()))
}

/// Nothing else is in the folder: no output, no temporary file.
pub(crate) fn only_in(folder: &Path, expected: &[&PathBuf]) {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut expected: Vec<PathBuf> = expected.iter().map(|path| (*path).clone()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}
