//! The two halves of what host and device share: the calls that are probed for, the kernels and their parameters, the sizes
//! and fields of what is passed in memory.

use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words like `cvc_lut_u8_f32` between quotes.
fn entries(text: &str) -> Vec<&str> {
    let mut entries: Vec<&str> =
        text.split('"').skip(1).step_by(2).filter(|word| word.starts_with("cvc_")).collect();
    entries.sort_unstable();
    entries.dedup();
    entries
}

#[test]
fn every_entry_that_is_launched_ships_with_the_parameters_that_it_is_given() {
    let mut shipped = Vec::new();
    let mut modules: Vec<String> = Vec::new();
    for file in fs::read_dir(repository().join("crates/cvc-cuda/src/ptx")).unwrap() {
        let path = file.unwrap().path();
        modules.push(path.file_stem().unwrap().to_str().unwrap().into());
        let text = fs::read_to_string(&path).unwrap();
        for entry in text.split(".visible .entry ").skip(1) {
            let (name, rest) = entry.split_once('(').unwrap();
            let (params, rest) = rest.split_once(')').unwrap();
            let types: Vec<&str> =
                params.split(',').map(|param| param.split_whitespace().nth(1).unwrap()).collect();
            assert_eq!(types, [".u64", ".u32", ".u32"], "{name}");
            assert!(rest.trim_start().starts_with(".maxntid 256, 1, 1"), "{name}");
            shipped.push(name.to_owned());
        }
    }
    shipped.sort();
    modules.sort();
    let table = read("crates/cvc-cuda/src/kernels.rs");
    assert_eq!(entries(&table), shipped);
    let included = table.split("include_str!(\"ptx/").skip(1).map(|rest| rest.split_once(".ptx").unwrap().0);
    assert_eq!(included.collect::<Vec<_>>(), modules);
}

/// The fields of a structure, with the bytes of each, in C and in Rust.
fn fields(text: &str, of: &str, c: bool) -> Vec<(String, u32)> {
    let body = text.split_once(&format!("struct {of} {{")).unwrap_or_else(|| panic!("no struct {of}")).1;
    let body = body.split_once('}').unwrap().0;
    let lines =
        body.lines().map(|line| line.split("//").next().unwrap().trim()).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let line = line.trim_start_matches("pub(crate) ").trim_end_matches([';', ',']);
            let (name, kind) = match c {
                true => line.split_once(' ').map(|(kind, name)| (name, kind)).unwrap(),
                false => line.split_once(": ").unwrap(),
            };
            (name.into(), kind.trim_start_matches('u').parse::<u32>().unwrap() / 8)
        })
        .collect()
}

#[test]
fn structures_are_the_same_on_both_sides() {
    let host = read("crates/cvc-cuda/src/launch.rs");
    for (name, file, len) in [
        ("Piece", "kernels/shared.cuh", 56),
        ("Plane", "kernels/join_planes.cu", 16),
        ("Dictionary", "kernels/dict_planes.cu", 32),
        ("Asked", "kernels/scan.cu", 88),
    ] {
        let mut device = fields(&read(file), name, true);
        assert_eq!(device.iter().map(|(_, len)| len).sum::<u32>(), len, "{name}");
        device.retain(|(field, _)| field != "unused");
        assert_eq!(fields(&host, name, false), device, "{name}");
    }
    for (constant, file) in [
        ("THREADS", "kernels/shared.cuh"),
        ("FLIGHT", "kernels/shared.cuh"),
        ("TILE_ROWS", "kernels/scan.cu"),
        ("ROTATED_TILE", "kernels/rotated.cu"),
        ("TILE_QUERIES", "kernels/scan.cu"),
    ] {
        let value = |text: &str, before: &str| {
            text.split_once(before).unwrap().1.split([';', '\n']).next().unwrap().trim().to_owned()
        };
        let of_host = value(&host, &format!("const {constant}: u32 = "));
        assert_eq!(of_host, value(&read(file), &format!("#define {constant} ")), "{constant}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_stand_in_has_the_calls_that_are_probed_for_and_no_others() {
    let probe = read("crates/cvc-cuda/src/probe.rs");
    let list = probe.split_once("const CALLS: &[&str] = &[").unwrap().1.split_once("];").unwrap().0;
    let mut probed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let mut there: Vec<&str> = cvc_cuda_standin::Standin::calls().collect();
    probed.sort_unstable();
    there.sort_unstable();
    assert_eq!(probed, there);
}
