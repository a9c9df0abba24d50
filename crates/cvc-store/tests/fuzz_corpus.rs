//! Every journal that fuzzing found worth keeping still does what its target asserts.
//!
//! The logic is `fuzz/src/journal.rs`, included here, so that this needs neither a fuzzer nor its flags.

#[path = "../../../fuzz/src/journal.rs"]
pub mod journal;
mod support;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use cvc::{DType, RowSlice};
use cvc_store::{ArraySpec, Durability, Store, StoreOptions};
use support::Random;
use support::memory::Memory;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name).join("journal")
}

/// The inputs of a folder by name; none if there is no such folder.
fn inputs(name: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder(name)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpus_and_of_past_findings_passes() {
    let corpus = inputs("corpus");
    let (mut kept, mut failed) = (0, Vec::new());
    for (name, bytes) in corpus.iter().cloned().chain(inputs("regressions")) {
        match catch_unwind(|| journal::journal(&bytes)) {
            Ok(understood) => kept += usize::from(understood),
            // The panic itself has been printed.
            Err(_) => failed.push(name),
        }
    }
    assert!(failed.is_empty(), "these inputs fail: {failed:#?}");
    assert!(
        kept > 0 && kept < corpus.len(),
        "a corpus has inputs that are understood, and some that are not"
    );
}

/// A few changes to each input: what a fuzzer would begin with.
fn change_inputs(seed: u64, count: usize) {
    let corpus = inputs("corpus");
    let mut random = Random(seed);
    for _ in 0..count {
        let (name, mut bytes) = corpus[random.index(corpus.len())].clone();
        for _ in 0..=random.index(4) {
            let at = random.index(bytes.len());
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.index(5)],
                2 => {
                    // Lengths and positions are numbers of eight bytes.
                    let number = [0, 1, u64::MAX, 1 << 62, 1 << 40, 1 << 16][random.index(6)].to_le_bytes();
                    let len = number.len().min(bytes.len() - at);
                    bytes[at..at + len].copy_from_slice(&number[..len]);
                }
                _ => {
                    let from = random.index(bytes.len());
                    let len = random.index(64).min(bytes.len() - at.max(from));
                    bytes.copy_within(from..from + len, at);
                }
            }
        }
        let passed = catch_unwind(|| journal::journal(&bytes)).is_ok();
        if !passed {
            let kept = std::env::temp_dir().join("cvc-journal-finding");
            fs::write(&kept, &bytes).unwrap();
            panic!("a change of {name} fails: it is in {}", kept.display());
        }
    }
}

#[test]
fn inputs_that_were_changed_a_little_pass() {
    change_inputs(1, 150);
}

#[test]
#[ignore = "it takes minutes"]
fn inputs_that_were_changed_a_little_pass_for_long() {
    change_inputs(2, 5_000);
}

/// So that the fuzzer starts from journals that are understood.
#[test]
fn sound_journals_are_seeds_and_mending_them_keeps_what_they_say() {
    for (name, journal, segment) in seeds() {
        let input = journal::input(&journal, &segment);
        assert!(journal::journal(&input), "{name}");
        assert!(
            folder("corpus").join(&name).exists(),
            "{name} is missing: write it with `write_the_seeds_of_journals`"
        );
    }
}

/// Seeds need not be the same bytes for ever.
#[test]
#[ignore = "writes to fuzz/corpus/journal"]
fn write_the_seeds_of_journals() {
    fs::create_dir_all(folder("corpus")).unwrap();
    for (name, journal, segment) in seeds() {
        let input = journal::input(&journal, &segment);
        fs::write(folder("corpus").join(&name), &input).unwrap();
    }
    let (_, journal, _) = seeds().remove(0);
    fs::write(folder("corpus").join("cut_short"), journal::input(&journal[..100], &[])).unwrap();
    fs::write(folder("corpus").join("no_journal"), [7; 40]).unwrap();
}

/// Journals by name, with the segment that they name if they do.
fn seeds() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let golden = |store: &str, number: u64| {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../cvc-conformance/data/golden/store").join(store);
        (
            format!("golden_{store}"),
            fs::read(folder.join(format!("journal-{number:016x}"))).unwrap(),
            Vec::new(),
        )
    };
    let mut seeds = vec![golden("inline", 1), golden("ids", 1), golden("sections", 1), golden("names", 1)];
    let mut made = |name: &str, inline_len: u64, make: &dyn Fn(&Store)| {
        let memory = Memory::new(1);
        let mut options = StoreOptions::default().durability(Durability::Buffered);
        options.inline_len = inline_len;
        let store = Store::create_on(memory.layer(), options).unwrap();
        make(&store);
        drop(store);
        let files = memory.files();
        let (_, journal) = files.iter().rfind(|(name, _)| name.starts_with("journal-")).unwrap();
        let end = journal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        // The last record may end with zeros.
        let journal = journal[..journal.len().min(end.next_multiple_of(8) + 64)].to_vec();
        let segments: Vec<_> = files.iter().filter(|(name, _)| name.starts_with("seg-")).collect();
        assert!(segments.len() <= 1, "all segments are one file");
        seeds.push((
            name.to_owned(),
            journal,
            segments.first().map_or(Vec::new(), |(_, bytes)| (*bytes).clone()),
        ));
    };
    let values: Vec<f32> = (0u8..120).map(f32::from).collect();
    let spec = ArraySpec::values(DType::F32, &[3], "raw");
    made("a_segment", 100, &|store| {
        store.save("a", &spec, RowSlice::new(&values, 3).unwrap()).unwrap();
        store.replace("a", &[3i64, 5], RowSlice::new(&values[..6], 3).unwrap()).unwrap();
        store.delete_rows("a", 7u64..9).unwrap();
    });
    made("a_segment_with_holes", 64 << 10, &|store| {
        store.save("a", &spec, RowSlice::new(&values, 3).unwrap()).unwrap();
        store.delete_rows("a", &[0i64, 4, 5, 9, 39]).unwrap();
        store.compact().unwrap();
        store.delete_rows("a", &[1i64]).unwrap();
        store.set_array_metadata("a", &cvc::Json::object([("k", cvc::Json::from(1u64))])).unwrap();
    });
    // Rows of no values cost nothing, however many there are; a bit for each of them would.
    made("long", 64 << 10, &|store| {
        let spec = ArraySpec::values(DType::F32, &[0], "raw");
        store.save("a", &spec, RowSlice::from_bytes(DType::F32, 1 << 44, 0, &[]).unwrap()).unwrap();
        store.delete_rows("a", &[3i64, 1 << 40]).unwrap();
    });
    seeds
}
