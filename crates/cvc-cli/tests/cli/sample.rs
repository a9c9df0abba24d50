//! The sample of real embeddings: how much smaller, and how far off.

use std::fs;

use cvc_conformance::npy::Npy;

use crate::harness::{Folder, example, f32s};

/// Packs and unpacks the sample: how many times smaller the file is, the values, and what came back.
fn there_and_back(layout: &str, codec: &str) -> (f64, Vec<f32>, Vec<f32>) {
    let folder = Folder::new();
    let input = example("minilm2k.f32.npy");
    let input_path = input.to_str().unwrap();
    folder.cvc(&["pack", input_path, "-o", "a.cvc", "--codec", codec, "--layout", layout]).ok();
    folder.cvc(&["verify", "a.cvc"]).ok();
    folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
    let len = |path| fs::metadata(path).unwrap().len() as f64;
    let back = folder.npy("back.npy");
    assert_eq!(back.shape, [2000, 384]);
    (len(input.clone()) / len(folder.path("a.cvc")), f32s(&Npy::read(&input)), f32s(&back))
}

#[test]
fn fp16_is_two_times_smaller_and_within_half_a_step() {
    for layout in ["native", "v1"] {
        let (ratio, values, back) = there_and_back(layout, "fp16");
        assert!((1.99..2.005).contains(&ratio), "{ratio}");
        for (value, back) in values.into_iter().zip(back) {
            // Eleven binary digits from the first one, but none beyond 2^-24.
            let step = (value.abs().log2().floor() - 10.0).max(-24.0).exp2();
            assert!((value - back).abs() <= step / 2.0, "{value} came back as {back}");
        }
    }
}

#[test]
fn int8_is_four_times_smaller_and_within_half_a_step() {
    // Of one chunk, with one scale, in layout v1; of a row with a scale of its own in the native one.
    for (layout, ratios, row_len) in [("v1", 3.99..4.01, 2000 * 384), ("native", 3.9..4.0, 384)] {
        let (ratio, values, back) = there_and_back(layout, "int8");
        assert!(ratios.contains(&ratio), "{ratio}");
        for (values, back) in values.chunks(row_len).zip(back.chunks(row_len)) {
            let (min, max) =
                values.iter().fold((f32::MAX, f32::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
            // The rest is what f32 arithmetic rounds.
            let half_step = (max - min) / 255.0 / 2.0 + max.abs().max(min.abs()) * f32::EPSILON * 2.0;
            for (value, back) in values.iter().zip(back) {
                assert!((value - back).abs() <= half_step, "{value} came back as {back}");
            }
        }
    }
}

#[test]
fn lossless_gives_every_bit_back() {
    for (layout, codec) in [
        ("v1", "lossless"),
        ("native", "lossless"),
        ("native", "raw"),
        ("native", "zstd"),
        ("native", "gzip"),
    ] {
        let (_, values, back) = there_and_back(layout, codec);
        assert!(values.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits()), "{layout} {codec}");
    }
}

#[test]
fn the_sample_has_58_sections_and_each_gives_its_rows() {
    let folder = Folder::new();
    let (input, sections) = (example("minilm2k.f32.npy"), example("minilm2k.sections.json"));
    let sections = sections.to_str().unwrap();
    folder.cvc(&["pack", input.to_str().unwrap(), "-o", "a.cvc", "--sections", sections]).ok();
    let json = folder.cvc(&["info", "a.cvc", "--json"]).ok().json();
    let listed = json["sections"].as_array().unwrap();
    assert_eq!(listed.len(), 58);

    folder.cvc(&["unpack", "a.cvc", "-o", "all.npy"]).ok();
    let all = folder.f32s("all.npy");
    for section in [&listed[0], &listed[17], &listed[57]] {
        let name = section["metadata"]["section"].as_str().unwrap();
        let number = |key: &str| usize::try_from(section[key].as_u64().unwrap()).unwrap();
        folder.cvc(&["unpack", "a.cvc", "-o", "one.npy", "--where", &format!("section={name}")]).ok();
        assert_eq!(folder.f32s("one.npy"), all[number("start") * 384..number("end") * 384], "{name}");
    }
}
