//! Every input that fuzzing found worth keeping still does what its target asserts.
//!
//! The logic of the targets is `fuzz/src/lib.rs`, included here, so that this needs neither a fuzzer nor its flags.
#![cfg(feature = "input")]

#[path = "../../../fuzz/src/lib.rs"]
pub mod fuzz;
#[path = "support/native_samples.rs"]
mod native_samples;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Verdict};

/// Targets of crates above this one, which have a test of this kind themselves.
const ELSEWHERE: &[&str] = &["journal"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}

/// The files of a folder by name; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_of_the_corpus_and_of_past_findings_passes() {
    let mut failed = Vec::new();
    for (target, check) in TARGETS {
        let corpus = files(&folder("corpus").join(target));
        let mut kept = 0;
        for file in corpus.iter().chain(&files(&folder("regressions").join(target))) {
            let bytes = fs::read(file).unwrap();
            match catch_unwind(|| check(&bytes)) {
                Ok(verdict) => kept += usize::from(verdict == Verdict::Keep),
                // The panic itself has been printed.
                Err(_) => failed.push(file.display().to_string()),
            }
        }
        assert!(
            kept > 0 && kept < corpus.len(),
            "{target}: a corpus has inputs that are understood, and some that are not"
        );
    }
    assert!(failed.is_empty(), "these inputs fail: {failed:#?}");
}

#[test]
fn every_target_has_its_program_and_every_folder_its_target() {
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    let here = TARGETS.iter().map(|(target, _)| target);
    for target in here.chain(ELSEWHERE) {
        assert!(
            manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"")),
            "{target}"
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len() + ELSEWHERE.len());
    for file in ["corpus", "regressions"].into_iter().flat_map(|name| files(&folder(name))) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            TARGETS.iter().any(|(target, _)| *target == name)
                || ELSEWHERE.contains(&name)
                || name == "README.md",
            "{}",
            file.display()
        );
    }
}

/// So that the fuzzer starts from files that are understood.
#[test]
fn sound_native_files_are_seeds_and_mending_them_changes_nothing() {
    for sample in native_samples::native_samples() {
        assert!(fuzz::mend(&sample.bytes) == sample.bytes, "{}", sample.name);
        assert_eq!(fuzz::native(&sample.bytes), Verdict::Keep, "{}", sample.name);
        let seed = folder("corpus/native").join(seed_name(&sample.name));
        assert!(
            seed.exists(),
            "{} is missing: write it with `write_the_seeds_of_native_files`",
            seed.display()
        );
    }
}

/// Seeds need not be the same bytes for ever; they are written again when a sample is added.
#[test]
#[ignore = "writes to fuzz/corpus/native"]
fn write_the_seeds_of_native_files() {
    for sample in native_samples::native_samples() {
        fs::write(folder("corpus/native").join(seed_name(&sample.name)), &sample.bytes).unwrap();
    }
}

fn seed_name(sample: &str) -> String {
    format!("{}.cvc", sample.replace(", ", "_").replace(' ', "_"))
}
