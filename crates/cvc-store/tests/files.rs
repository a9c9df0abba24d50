//! The files of a store: damage is found and named, a store becomes one file and back, NumPack's are read.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use cvc::format::native::TRAILER_LEN;
use cvc::{Condition, DType, Json, Overwrite, Reader, RowSlice, Strings};
use cvc_store::{ArraySpec, Durability, Error, Selection, Store, StoreOptions, package_info};
use support::Random;
use support::memory::{Fault, Memory};

fn small() -> StoreOptions {
    let mut options = StoreOptions::default().durability(Durability::Buffered);
    (options.inline_len, options.journal_len) = (256, 1 << 20);
    options
}

fn counted(range: std::ops::Range<u16>) -> Vec<f32> {
    range.flat_map(|n| [f32::from(n), -f32::from(n)]).collect()
}

fn matrix(values: &[f32]) -> RowSlice<'_> {
    RowSlice::new(values, 2).unwrap()
}

fn f32s(codec: &str) -> ArraySpec {
    ArraySpec::values(DType::F32, &[2], codec)
}

/// A store with something of everything, synced and not.
fn sample(memory: &Memory) {
    let store = Store::create_on(memory.layer(), small()).unwrap();
    store.save("big", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    store.save("text", &ArraySpec::strings("raw"), &["a", "b"].into_iter().collect::<Strings>()).unwrap();
    store.checkpoint().unwrap();
    store.append("big", matrix(&counted(0..3))).unwrap();
    store.delete_rows("big", &[5]).unwrap();
    store.sync().unwrap();
    store.replace("big", &[0], matrix(&counted(7..8))).unwrap();
    store.sync().unwrap();
    store.save("int8", &f32s("int8"), matrix(&counted(0..60))).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named() {
    let memory = Memory::new(1);
    sample(&memory);
    let files = memory.files();
    assert!(Store::verify_layer(&Memory::of(&files).layer()).unwrap().is_ok());
    let (mut random, mut flips) = (Random(3), 0);
    for (name, bytes) in &files {
        let mut at = 0;
        while at < bytes.len() {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[at] ^= 1 << random.below(8);
            let report = Store::verify_layer(&Memory::of(&damaged).layer()).unwrap();
            let named = report.damage.iter().any(|damage| damage.file == *name);
            assert!(named, "{name} byte {at} of {}: {:?}", bytes.len(), report.damage);
            if name.starts_with("seg") {
                let arrays: Vec<&String> = report.damage.iter().flat_map(|damage| &damage.arrays).collect();
                assert!(arrays == ["big"] || arrays == ["int8"], "{name} byte {at}: {:?}", report.damage);
            }
            flips += 1;
            // Everything that holds something, and some of the zeros that make a journal longer.
            let empty = bytes[at..].iter().take_while(|byte| **byte == 0).count();
            at += if empty > 4096 { 1500 } else { 1 + random.index(14) };
        }
    }
    assert!(flips > 700, "{flips}");
}

#[test]
fn damage_to_what_was_synced_is_no_crash() {
    let memory = Memory::new(1);
    sample(&memory);
    let files = memory.files();
    let (name, bytes) = files.iter().rfind(|(name, _)| name.starts_with("journal")).unwrap();
    // The second record, which was synced: the one before the last says so.
    let records: Vec<usize> =
        (64..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"CVCR")).collect();
    let mut damaged = files.clone();
    damaged.get_mut(name).unwrap()[records[1] + 70] ^= 1;
    for open in [
        Store::open_on(Memory::of(&damaged).layer(), small()).map(drop),
        Store::open_read_only_on(Memory::of(&damaged).layer()).map(drop),
    ] {
        let message = open.unwrap_err().to_string();
        assert!(message.contains("was synced") && message.contains(&records[1].to_string()), "{message}");
    }
    // The last one was not: as after a crash, it is gone, and nothing else.
    let mut damaged = files.clone();
    let last = records[records.len() - 1];
    damaged.get_mut(name).unwrap()[last + 70] ^= 1;
    let store = Store::open_on(Memory::of(&damaged).layer(), small()).unwrap();
    assert!(!store.has("int8") && store.has("text"));
    // A store that has lost a segment, or has another in its place, says so when it is read.
    let segment = files.keys().find(|name| name.starts_with("seg")).unwrap();
    let mut missing = files.clone();
    missing.remove(segment);
    let report = Store::verify_layer(&Memory::of(&missing).layer()).unwrap();
    assert_eq!(report.damage[0].file, *segment);
    let mut other = files.clone();
    let len = other[segment].len();
    other.get_mut(segment).unwrap()[len - usize::try_from(TRAILER_LEN).unwrap()] ^= 1;
    let store = Store::open_on(Memory::of(&other).layer(), small()).unwrap();
    let error = store.array("big").unwrap().read::<f32>(Selection::All).unwrap_err().to_string();
    assert!(error.contains(segment.as_str()) && error.contains("restore"), "{error}");
}

#[test]
fn a_journal_of_a_newer_version_is_refused() {
    let memory = Memory::new(1);
    sample(&memory);
    let mut files: BTreeMap<String, Vec<u8>> = memory.files();
    let (_, journal) = files.iter_mut().find(|(name, _)| name.starts_with("journal")).unwrap();
    journal[8] = 2;
    let crc = cvc::format::checksum::crc32c(&journal[..60]);
    journal[60..64].copy_from_slice(&crc.to_le_bytes());
    let error = Store::open_on(Memory::of(&files).layer(), small()).unwrap_err().to_string();
    assert!(error.contains("2.0") && error.contains("newer"), "{error}");
}

#[test]
fn a_view_is_one_commit_of_what_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create_with(folder.path().join("s"), small()).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..1000))).unwrap();
    store.delete_rows("a", &[3]).unwrap();
    let commit = store.snapshot().commit();
    let mut view = store.writable("a").unwrap();
    let values = view.values_mut::<f32>().unwrap();
    assert_eq!(values.len(), 999 * 2);
    values[6..8].copy_from_slice(&[0.5, 0.25]);
    *values.last_mut().unwrap() = 1.5;
    assert_eq!(view.commit().unwrap(), commit + 1);
    let read = |rows: &[i64]| store.array("a").unwrap().read::<f32>(rows).unwrap();
    assert_eq!(read(&[2, 3, 998]), [2., -2., 0.5, 0.25, 999., 1.5]);
    assert_eq!(store.writable("a").unwrap().commit().unwrap(), commit + 1, "nothing was changed");
    let mut late = store.writable("a").unwrap();
    late.values_mut::<f32>().unwrap()[0] = 9.;
    store.append("a", matrix(&[1., 1.])).unwrap();
    assert!(late.commit().is_err());
    assert!(store.writable("a").unwrap().values_mut::<f64>().is_err());
    store.save("b", &f32s("fp16"), matrix(&[1., 1.])).unwrap();
    assert!(store.writable("b").is_err());
}

#[test]
fn a_store_is_packed_to_one_file_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, package, back) =
        (folder.path().join("s"), folder.path().join("s.zip"), folder.path().join("t"));
    let store = Store::create_with(&path, small()).unwrap();
    let mut batch = store.batch().unwrap();
    for codec in ["raw", "int8", "zstd"] {
        batch.save(codec, &f32s(codec), matrix(&counted(0..3000))).unwrap();
        batch.append(codec, matrix(&counted(0..3))).unwrap();
        batch.delete_rows(codec, &[4, -1]).unwrap();
    }
    batch
        .save(
            "ids",
            &ArraySpec::values(DType::I64, &[], "raw").unique(),
            RowSlice::new(&[5i64, 7], 1).unwrap(),
        )
        .unwrap();
    batch.save("../text", &ArraySpec::strings("raw"), &["a", "né"].into_iter().collect::<Strings>()).unwrap();
    batch.save("empty", &f32s("raw"), matrix(&[])).unwrap();
    batch.add_section("raw", 10, 20, &Json::object([("k", Json::from(1u64))])).unwrap();
    batch.set_metadata(&Json::object([("m", Json::from("x"))])).unwrap();
    batch.set_array_metadata("ids", &Json::object([("of", Json::from("raw"))])).unwrap();
    batch.commit().unwrap();
    let len = store.snapshot().pack(&package, Overwrite::Refuse).unwrap();
    assert!(store.snapshot().pack(&package, Overwrite::Refuse).is_err());
    let info = package_info(&package).unwrap();
    assert_eq!(info.file_len, len);
    let shapes: Vec<_> = info.arrays.iter().map(|array| (array.name.as_str(), array.shape.clone())).collect();
    assert_eq!(shapes[0..2], [("../text", vec![2]), ("empty", vec![0, 2])]);
    assert_eq!(shapes[2..4], [("ids", vec![2]), ("int8", vec![3001, 2])]);

    Store::unpack(&package, &back).unwrap();
    assert!(Store::unpack(&package, &back).is_err());
    let other = Store::open_with(&back, small()).unwrap();
    assert_eq!(other.names(), store.names());
    for codec in ["raw", "int8", "zstd"] {
        let read = |store: &Store| store.array(codec).unwrap().read::<f32>(..).unwrap();
        assert_eq!(read(&other), read(&store), "{codec}");
        assert_eq!(other.array(codec).unwrap().spec().codec(), codec);
    }
    assert_eq!(other.array("../text").unwrap().read_strings(..).unwrap().get(1), "né");
    assert_eq!(other.array("raw").unwrap().find(&[Condition::new("k", 1u64)]), [10..20]);
    assert_eq!(other.array("ids").unwrap().metadata(), store.array("ids").unwrap().metadata());
    assert!(other.array("ids").unwrap().spec().is_unique());
    assert_eq!(*other.snapshot().metadata(), *store.snapshot().metadata());

    // Damage is found, and nothing is left of the attempt.
    let mut bytes = std::fs::read(&package).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&package, bytes).unwrap();
    assert!(Store::unpack(&package, folder.path().join("u")).is_err());
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["s", "s.zip", "t"]);
    assert!(Reader::open(&package).is_err());
}

/// A directory as NumPack writes it, from its description.
fn numpack(directory: &Path) {
    let mut metadata = b"NPKB".to_vec();
    let put = |out: &mut Vec<u8>, text: &str| {
        out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        out.extend(text.as_bytes());
    };
    metadata.extend(1u32.to_le_bytes());
    metadata.extend(0u64.to_le_bytes());
    metadata.extend(2u32.to_le_bytes());
    for (name, shape, file, dtype) in
        [("v", &[70u64, 2][..], "data_v.npkd", 10u8), ("n", &[5], "data_n.npkseg", 8)]
    {
        put(&mut metadata, name);
        metadata.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        shape.iter().for_each(|len| metadata.extend(len.to_le_bytes()));
        put(&mut metadata, file);
        metadata.extend([0; 16]);
        metadata.push(dtype);
        metadata.extend([0; 1 + 4 + 8 + 8 + 1]);
    }
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    std::fs::write(directory.join("metadata.npkm"), metadata).unwrap();
    std::fs::write(directory.join("data_v.npkd"), bytes(&counted(0..70))).unwrap();
    // Row 1 and row 65 are deleted.
    let words = [70u64, 2, !2, 0b11_1101];
    let bitmap: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(directory.join("deleted_v.npkb"), bitmap).unwrap();
    std::fs::create_dir(directory.join("data_n_segments")).unwrap();
    let numbers = |range: std::ops::Range<i64>| range.flat_map(i64::to_le_bytes).collect::<Vec<u8>>();
    std::fs::write(directory.join("data_n_segments/seg_000000.npkd"), numbers(0..3)).unwrap();
    std::fs::write(directory.join("data_n_segments/seg_000001.npkd"), numbers(3..5)).unwrap();
    let list = r#"{"version":1,"segments":[{"file":"data_n_segments/seg_000000.npkd","rows":3,"bytes":24},
        {"file":"data_n_segments/seg_000001.npkd","rows":2,"bytes":16}]}"#;
    std::fs::write(directory.join("data_n.npkseg"), list).unwrap();
}

/// The package of a directory, its files stored.
fn npkg(directory: &Path) -> Vec<u8> {
    let names = [
        "metadata.npkm",
        "data_v.npkd",
        "deleted_v.npkb",
        "data_n.npkseg",
        "data_n_segments/seg_000000.npkd",
        "data_n_segments/seg_000001.npkd",
    ];
    let mut out = b"NPKG".to_vec();
    out.extend(2u32.to_le_bytes());
    out.push(0);
    out.extend(6u32.to_le_bytes());
    for name in names {
        let bytes = std::fs::read(directory.join(name)).unwrap();
        out.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
        out.extend(name.as_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(bytes);
    }
    out.extend([0; 4]);
    out
}

#[test]
fn directories_and_packages_of_numpack_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, package) = (folder.path().join("npk"), folder.path().join("p.npkg"));
    std::fs::create_dir(&directory).unwrap();
    numpack(&directory);
    std::fs::write(&package, npkg(&directory)).unwrap();
    for (number, path) in [&directory, &package].into_iter().enumerate() {
        let store = Store::create_with(folder.path().join(format!("s{number}")), small()).unwrap();
        assert_eq!(store.import_numpack(path, "raw").unwrap(), ["v", "n"]);
        let expected: Vec<f32> = counted(0..70)
            .chunks(2)
            .enumerate()
            .filter(|(row, _)| ![1, 65].contains(row))
            .flat_map(|(_, row)| row.to_vec())
            .collect();
        assert_eq!(store.array("v").unwrap().read::<f32>(..).unwrap(), expected);
        let numbers = store.array("n").unwrap();
        assert_eq!((numbers.read::<i64>(..).unwrap(), numbers.shape()), (vec![0, 1, 2, 3, 4], vec![5]));
        store.import_numpack(path, "fp16").unwrap();
        assert_eq!(store.array("v").unwrap().spec().codec(), "fp16");
    }
    // What does not fit is refused, and the store is as it was.
    let store = Store::create_with(folder.path().join("t"), small()).unwrap();
    let refuse = |message: &str| {
        let error = store.import_numpack(&directory, "raw").unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(store.names(), [""; 0]);
    };
    let damage = |file: &str, at: usize, message: &str| {
        let path = directory.join(file);
        let bytes = std::fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        refuse(message);
        std::fs::write(&path, bytes).unwrap();
    };
    damage("metadata.npkm", 0, "NPKB");
    damage("metadata.npkm", 4, "version");
    damage("deleted_v.npkb", 0, "71 rows");
    damage("deleted_v.npkb", 16, "deleted");
    let path = directory.join("data_v.npkd");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    refuse("are needed");
    std::fs::write(&path, bytes).unwrap();
    let list = directory.join("data_n.npkseg");
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, text.replace("data_n_segments/seg_000000", "../npk/data_n_segments/seg_000000"))
        .unwrap();
    refuse("leads out");
}

#[test]
fn without_its_journal_a_store_is_not_begun_anew() {
    let memory = Memory::new(1);
    sample(&memory);
    let mut files = memory.files();
    files.retain(|name, _| !name.starts_with("journal"));
    let memory = Memory::of(&files);
    for open in [
        Store::create_on(memory.layer(), small()).map(drop),
        Store::open_on(memory.layer(), small()).map(drop),
        Store::open_read_only_on(memory.layer()).map(drop),
    ] {
        let error = open.unwrap_err();
        assert!(matches!(error, Error::NoJournal { .. }), "{error}");
        assert!(error.to_string().contains("seg-0000000000000001.cvc"), "{error}");
    }
    assert_eq!(memory.files(), files);
}

#[test]
fn a_segment_never_takes_the_place_of_a_file() {
    let memory = Memory::new(1);
    let store = Store::create_on(memory.layer(), small()).unwrap();
    let name = "seg-0000000000000001.cvc";
    memory.layer().create(name).unwrap().write_at(0, b"what was here before").unwrap();
    store.save("big", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    assert_eq!(memory.files()[name], b"what was here before");
    assert_eq!(store.array("big").unwrap().read::<f32>(..).unwrap(), counted(0..100));
}

#[test]
fn a_journal_that_may_be_in_place_is_not_forgotten() {
    for call in 1.. {
        let memory = Memory::new(call);
        let store = Store::create_on(memory.layer(), small()).unwrap();
        store.save("a", &f32s("raw"), matrix(&counted(0..3))).unwrap();
        // Something fails, and so does looking for what became of it.
        memory.set_fault(Some(Fault::Fail(memory.calls() + call, std::io::ErrorKind::PermissionDenied)));
        memory.set_no_handles(true);
        let done = store.checkpoint().is_ok();
        memory.set_fault(None);
        memory.set_no_handles(false);
        let rows = match store.append("a", matrix(&[1., 2.])) {
            Ok(_) => 4,
            Err(error) => {
                assert!(matches!(error, Error::Unknown), "call {call}: {error}");
                3
            }
        };
        drop(store);
        let store = Store::open_on(memory.layer(), small()).unwrap();
        assert_eq!(store.array("a").unwrap().rows(), rows, "call {call}");
        if done {
            assert!(call > 4);
            break;
        }
    }
}

#[test]
fn a_refresh_that_fails_leaves_nothing_half_taken() {
    for replaced in [false, true] {
        let memory = Memory::new(3);
        let store = Store::create_on(memory.layer(), small()).unwrap();
        store.save("a", &f32s("raw"), matrix(&counted(0..100))).unwrap();
        let reader = Store::open_read_only_on(memory.layer()).unwrap();
        let commit = reader.snapshot().commit();
        store.append("a", matrix(&counted(0..2))).unwrap();
        store.save("b", &f32s("raw"), matrix(&counted(0..80))).unwrap();
        store.append("a", matrix(&counted(2..3))).unwrap();
        if replaced {
            store.checkpoint().unwrap();
        }
        memory.set_unopened("seg-", u64::MAX);
        for _ in 0..3 {
            assert!(matches!(reader.refresh(), Err(Error::Io { .. })), "replaced {replaced}");
            assert_eq!(reader.snapshot().commit(), commit);
            assert_eq!(reader.names(), ["a"]);
            assert_eq!(reader.array("a").unwrap().read::<f32>(..).unwrap(), counted(0..100));
        }
        memory.set_unopened("", 0);
        assert!(reader.refresh().unwrap());
        assert_eq!(reader.snapshot().commit(), store.snapshot().commit());
        let expected = [counted(0..100), counted(0..3)].concat();
        assert_eq!(reader.array("a").unwrap().read::<f32>(..).unwrap(), expected);
        assert_eq!(reader.array("b").unwrap().read::<f32>(..).unwrap(), counted(0..80));
        assert!(!reader.refresh().unwrap());
    }
}

#[test]
fn an_older_journal_that_cannot_be_read_once_keeps_what_it_needs() {
    let memory = Memory::new(4);
    let store = Store::create_on(memory.layer(), small()).unwrap();
    store.keep_commits(1000).unwrap();
    let early = store.save("a", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(5..90))).unwrap();
    store.checkpoint().unwrap();
    store.append("a", matrix(&counted(0..1))).unwrap();
    drop(store);
    let before: Vec<String> = memory.files().into_keys().collect();
    let oldest = before.iter().find(|name| name.starts_with("journal-")).unwrap().clone();
    memory.set_unopened(&oldest, 1);
    let store = Store::open_on(memory.layer(), small()).unwrap();
    store.append("a", matrix(&counted(1..2))).unwrap();
    // Nobody knows what the first journal needs, so even who wants to forget it all removes nothing.
    store.prune(0).unwrap();
    let now: Vec<String> = memory.files().into_keys().collect();
    assert!(before.iter().all(|name| now.contains(name)), "{before:?}, {now:?}");
    assert_eq!(
        store.snapshot_at(early).unwrap().array("a").unwrap().read::<f32>(..).unwrap(),
        counted(0..100)
    );
    drop(store);
    let store = Store::open_on(memory.layer(), small()).unwrap();
    store.prune(0).unwrap();
    assert_eq!(count(&memory, "journal-"), 1);
    assert!(store.snapshot_at(early).is_err());
    let expected = [counted(5..90), counted(0..2)].concat();
    assert_eq!(store.array("a").unwrap().read::<f32>(..).unwrap(), expected);
}

fn count(memory: &Memory, prefix: &str) -> usize {
    memory.files().keys().filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn a_journal_that_cannot_be_replaced_is_left_for_a_while() {
    let memory = Memory::new(1);
    let mut options = small();
    options.journal_len = 8192;
    let store = Store::create_on(memory.layer(), options).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..3))).unwrap();
    memory.set_fault(Some(Fault::Rename));
    let (before, commits) = (memory.calls(), 350);
    for _ in 0..commits {
        store.append("a", matrix(&counted(0..3))).unwrap();
    }
    // One call for each commit, and some for each attempt.
    assert!(memory.calls() - before < 3 * commits, "{}", memory.calls() - before);
    assert_eq!(count(&memory, "seg-"), 0);
    assert!(store.checkpoint().is_err());
    memory.set_fault(None);
    store.checkpoint().unwrap();
    assert_eq!((count(&memory, "seg-"), count(&memory, "journal-")), (1, 1));
    assert_eq!(store.array("a").unwrap().rows(), 3 * (commits + 1));
}

#[test]
fn a_store_of_many_segments_does_not_replace_its_journal_at_every_commit() {
    let memory = Memory::new(1);
    let mut options = small();
    options.segment_len = 100;
    let store = Store::create_on(memory.layer(), options).unwrap();
    for number in 0..270 {
        store.save(&number.to_string(), &f32s("raw"), matrix(&counted(0..40))).unwrap();
    }
    store.checkpoint().unwrap();
    assert!(count(&memory, "seg-") >= 270);
    let journal = || memory.files().into_keys().rfind(|name| name.starts_with("journal-")).unwrap();
    let before = journal();
    for _ in 0..20 {
        store.append("1", matrix(&[1., 2.])).unwrap();
    }
    assert_eq!(journal(), before);
    drop(store);
    let store = Store::open_on(memory.layer(), options).unwrap();
    for _ in 0..20 {
        store.append("1", matrix(&[1., 2.])).unwrap();
    }
    assert_eq!(journal(), before);
}

fn journal_of(files: &BTreeMap<String, Vec<u8>>) -> String {
    files.keys().rfind(|name| name.starts_with("journal-") && name.len() == 24).unwrap().clone()
}

fn records(bytes: &[u8]) -> Vec<usize> {
    (64..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"CVCR")).collect()
}

#[test]
fn damage_within_commits_that_were_not_synced_is_no_crash_while_the_machine_runs() {
    let memory = Memory::new(1);
    let store = Store::create_on(memory.layer(), small()).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..1))).unwrap();
    for _ in 0..5 {
        store.append("a", matrix(&counted(0..1))).unwrap();
    }
    let mut files = memory.files();
    let name = journal_of(&files);
    let records = records(&files[&name]);
    files.get_mut(&name).unwrap()[records[3] + 70] ^= 1;
    let damaged = Memory::of(&files);
    for open in [
        Store::open_on(damaged.layer(), small()).map(drop),
        Store::open_read_only_on(damaged.layer()).map(drop),
    ] {
        let message = open.unwrap_err().to_string();
        assert!(message.contains("commit 3") && message.contains(&records[3].to_string()), "{message}");
    }
    assert_eq!(damaged.files()[&name], files[&name]);
    // After a loss of power it may be that the record never reached the disk. What stands behind it is kept.
    let damaged = Memory::of(&files);
    damaged.restart_machine(&mut Random(1));
    let store = Store::open_on(damaged.layer(), small()).unwrap();
    assert_eq!(store.array("a").unwrap().rows(), 2);
    let cut = format!("{name}.cut");
    assert_eq!(damaged.files()[&cut], files[&name]);
    store.prune(0).unwrap();
    assert!(damaged.files().contains_key(&cut));
    drop(store);
    Store::open_on(damaged.layer(), small()).unwrap().prune(0).unwrap();
    assert!(!damaged.files().contains_key(&cut));
}

#[test]
fn what_a_failed_sync_left_is_written_again_by_the_next_process() {
    for kill in 1.. {
        let memory = Memory::new(kill);
        let store = Store::create_on(memory.layer(), small()).unwrap();
        let store = store.with_durability(Durability::Synced);
        store.save("a", &f32s("raw"), matrix(&counted(0..3))).unwrap();
        memory.set_fault(Some(Fault::Fail(memory.calls() + kill, std::io::ErrorKind::Other)));
        let done = store.append("a", matrix(&counted(0..3))).is_ok();
        drop(store);
        memory.restart_process();
        // The system has said that the sync failed, and never says so again.
        let store = Store::open_on(memory.layer(), small()).unwrap();
        let rows = store.array("a").unwrap().rows();
        store.with_durability(Durability::Synced).append("a", matrix(&counted(0..1))).unwrap();
        drop(store);
        memory.restart_machine(&mut Random(kill));
        let store = Store::open_on(memory.layer(), small()).unwrap();
        assert_eq!(store.array("a").unwrap().rows(), rows + 1, "call {kill}");
        if done {
            assert!(kill > 2);
            break;
        }
    }
}

#[test]
fn segments_that_only_kept_commits_need_are_verified() {
    let memory = Memory::new(1);
    let store = Store::create_on(memory.layer(), small()).unwrap();
    store.keep_commits(100).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..3))).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let files = memory.files();
    let segment = "seg-0000000000000001.cvc";
    let report = |files: &_| Store::verify_layer(&Memory::of(files).layer()).unwrap();
    assert!(report(&files).is_ok());
    let mut damaged = files.clone();
    let len = damaged[segment].len();
    damaged.get_mut(segment).unwrap()[len - 20] ^= 1;
    assert_eq!(report(&damaged).damage[0].file, segment);
    damaged.remove(segment);
    assert_eq!(report(&damaged).damage[0].file, segment);
    // Once they are not kept, nobody misses them.
    let memory = Memory::of(&files);
    Store::open_on(memory.layer(), small()).unwrap().keep_commits(0).unwrap();
    let mut files = memory.files();
    files.remove(segment);
    assert!(report(&files).is_ok());
}

/// A journal whose checkpoint is this body.
fn forged(body: &[u8], commit: u64) -> Vec<u8> {
    let crc = cvc::format::checksum::crc32c;
    let mut bytes = b"CVCJ\xff\r\n\x1a\x01\0\0\0\0\0\0\0".to_vec();
    bytes.extend(1u64.to_le_bytes());
    bytes.resize(60, 0);
    let header = crc(&bytes);
    bytes.extend(header.to_le_bytes());
    let mut head = b"CVCR\x01\x01\0\0".to_vec();
    for number in [body.len() as u64, commit, commit, 1, 1, 0] {
        head.extend(number.to_le_bytes());
    }
    head.extend(header.to_le_bytes());
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(8), 0);
    let sum = crc(&[head.clone(), body.clone()].concat());
    head.extend(sum.to_le_bytes());
    bytes.extend(head);
    bytes.extend(body);
    bytes
}

fn forged_error(body: &[u8], commit: u64) -> String {
    let files = BTreeMap::from([("journal-0000000000000001".to_owned(), forged(body, commit))]);
    let open = Store::open_on(Memory::of(&files).layer(), small());
    let error = open.map(|store| store.save("a", &f32s("raw"), matrix(&[1., 2.])).map(drop)).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    error.to_string()
}

/// An array of f32 x 4 with these positions.
fn forged_array(base: u64, next: u64) -> Vec<u8> {
    let text = |text: &str| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat();
    let numbers: Vec<u8> = [base, next, 1, 1].into_iter().flat_map(u64::to_le_bytes).collect();
    [vec![2], text("a"), vec![10, 1, 4, 0, 0, 0], text("raw"), text("{}"), numbers].concat()
}

#[test]
fn numbers_that_cannot_be_are_damage() {
    assert!(forged_error(&forged_array(0, 1 << 44), 0).contains("nowhere"));
    assert!(forged_error(&forged_array(1 << 63, 1 << 63), 0).contains("byte 64"));
    assert!(forged_error(&[], u64::MAX).contains("byte 64"));
    let segment: Vec<u8> =
        [&[1][..], &u64::MAX.to_le_bytes(), &100u64.to_le_bytes(), &1u64.to_le_bytes(), &[0; 4]].concat();
    assert!(forged_error(&segment, 0).contains("no segment"));
    // Nothing is wrong with the rest of it.
    let files = BTreeMap::from([("journal-0000000000000001".to_owned(), forged(&forged_array(5, 5), 7))]);
    let files = files.into_iter().chain([("journal-ffffffffffffffff".to_owned(), vec![1])]).collect();
    let store = Store::open_on(Memory::of(&files).layer(), small()).unwrap();
    assert_eq!((store.snapshot().commit(), store.array("a").unwrap().shape()), (7, vec![0, 4]));
    store.checkpoint().unwrap();
}

#[test]
fn what_looks_like_many_records_is_not_summed_up_for_each() {
    let mut journal = forged(&[], 0);
    journal.resize(4096, 0);
    let len = 1usize << 20;
    for at in (0..len).step_by(64) {
        let mut head = b"CVCR\x02\0\0\0".to_vec();
        head.extend(((len - at - 64) as u64).to_le_bytes());
        head.resize(64, 1);
        journal.extend(head);
    }
    let files = BTreeMap::from([("journal-0000000000000001".to_owned(), journal)]);
    let error = Store::open_on(Memory::of(&files).layer(), small()).unwrap_err().to_string();
    assert!(error.contains("much behind it"), "{error}");
}

#[test]
fn a_segment_of_another_kind_is_damage() {
    let memory = Memory::new(1);
    let store = Store::create_on(memory.layer(), small()).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    drop(store);
    let mut files = memory.files();
    let name = journal_of(&files);
    let bytes = files.get_mut(&name).unwrap();
    let at = records(bytes)[1];
    let spec = (at..).find(|at| bytes[*at..].starts_with(&[10, 1, 2, 0, 0, 0])).unwrap();
    bytes[spec + 2] = 3;
    let len = usize::try_from(u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap())).unwrap();
    let sum = [&bytes[at..at + 60], &bytes[at + 64..at + 64 + len.next_multiple_of(8)]].concat();
    bytes[at + 60..at + 64].copy_from_slice(&cvc::format::checksum::crc32c(&sum).to_le_bytes());
    let store = Store::open_on(Memory::of(&files).layer(), small()).unwrap();
    for error in [
        store.array("a").unwrap().read::<f32>(..).unwrap_err(),
        store.array("a").unwrap().read::<f32>(&[1, 2, 5]).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
    assert!(!store.verify().unwrap().is_ok());
}

#[test]
fn the_number_of_a_segment_is_never_used_again() {
    let memory = Memory::new(1);
    let store = Store::create_on(memory.layer(), small()).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    store.delete("a").unwrap();
    store.checkpoint().unwrap();
    assert_eq!(count(&memory, "seg-"), 0);
    drop(store);
    let store = Store::open_on(memory.layer(), small()).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    assert!(memory.files().contains_key("seg-0000000000000002.cvc"));
}

#[test]
fn the_checkpoint_of_scattered_rows_is_short() {
    let memory = Memory::new(1);
    let mut options = small();
    options.journal_len = 64 << 10;
    let store = Store::create_on(memory.layer(), options).unwrap();
    let rows = 40_000;
    let mut expected: Vec<f32> = (0..rows).flat_map(|_| [1., -1.]).collect();
    store.save("a", &f32s("raw"), matrix(&expected)).unwrap();
    let mut random = Random(1);
    for round in 0..600u16 {
        let chosen: std::collections::BTreeSet<usize> = (0..30).map(|_| random.index(rows)).collect();
        let values: Vec<f32> = chosen.iter().flat_map(|_| [f32::from(round), 0.]).collect();
        let which: Vec<i64> = chosen.iter().map(|row| i64::try_from(*row).unwrap()).collect();
        store.replace("a", &which, matrix(&values)).unwrap();
        chosen.iter().for_each(|row| expected[2 * row..2 * row + 2].copy_from_slice(&[f32::from(round), 0.]));
    }
    store.checkpoint().unwrap();
    let files = memory.files();
    // A run is less than 64 bytes there, and there is one for 64 rows at most.
    let len = files[&journal_of(&files)].len();
    assert!(len < rows + 8192, "{len}");
    assert_eq!(store.array("a").unwrap().read::<f32>(..).unwrap(), expected);
}

#[test]
fn compaction_leaves_alone_what_is_shared_or_well_compressed() {
    let memory = Memory::new(1);
    let mut options = small();
    options.segment_len = 4096;
    let store = Store::create_on(memory.layer(), options).unwrap();
    store.save("zeros", &f32s("zstd"), matrix(&[0.; 4000])).unwrap();
    store.append("zeros", matrix(&[0.; 4000])).unwrap();
    store.save("a", &f32s("raw"), matrix(&counted(0..100))).unwrap();
    store.append("a", matrix(&counted(0..100))).unwrap();
    for name in ["b", "c", "d"] {
        store.clone_array("a", name).unwrap();
    }
    let report = store.compact().unwrap();
    assert_eq!((report.rows, count(&memory, "seg-")), (0, 4), "{report:?}");
}
