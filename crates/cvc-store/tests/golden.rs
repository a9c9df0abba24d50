//! Golden stores: directories as they were written when the format was fixed, which are read for ever and never edited.
//!
//! They lie with the other golden files, in `crates/cvc-conformance/data/golden/store`: `cargo xtask tidy` has their hashes. Each
//! is made by a function here, on a file layer whose clock and random numbers are always the same, so that the bytes that
//! are written today can be compared with those of then. What was added later gets a store of its own.
#![cfg(target_endian = "little")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cvc::format::json::Style;
use cvc::{ArrayRows, Condition, DType, Json, Overwrite, RowSlice, Strings};
use cvc_store::{ArraySpec, Durability, Snapshot, Store, StoreOptions, package_info};
use support::memory::Memory;

/// How much is inline, and the changes.
type Make = (&'static str, u64, fn(&Store));

const STORES: [Make; 7] = [
    ("inline", 64 << 10, inline),
    ("segments", 0, segments),
    ("tombstones", 32, tombstones),
    ("ids", 64 << 10, ids),
    ("sections", 64 << 10, sections),
    ("names", 64 << 10, names),
    ("dtypes", 64, dtypes),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cvc-conformance/data/golden/store").join(name)
}

fn options(inline_len: u64) -> StoreOptions {
    let mut options = StoreOptions::default().durability(Durability::Buffered);
    options.inline_len = inline_len;
    options
}

/// Rows of three values that say which row it is, never zero.
fn rows(numbers: std::ops::Range<u32>) -> Vec<f32> {
    let row = |number: u32| {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let value = number as f32 + 0.5;
        [value, -value, 1000.0 + value]
    };
    numbers.flat_map(row).collect()
}

fn of(values: &[f32]) -> RowSlice<'_> {
    RowSlice::new(values, 3).unwrap()
}

fn f32s(codec: &str) -> ArraySpec {
    ArraySpec::values(DType::F32, &[3], codec)
}

/// Changes that stand in the journal: values, encoded values, strings.
fn inline(store: &Store) {
    store.save("raw", &f32s("raw"), of(&rows(0..6))).unwrap();
    store.save("int8", &f32s("int8"), of(&rows(0..5))).unwrap();
    store.save("fp16", &f32s("fp16"), of(&rows(1..3))).unwrap();
    let strings: Strings = ["first", "", "né", "last"].into_iter().collect();
    store.save("text", &ArraySpec::strings("raw"), &strings).unwrap();
    store.append("raw", of(&rows(10..12))).unwrap();
    store.replace("raw", &[1i64, 3, 7], of(&rows(20..23))).unwrap();
    store.replace("int8", 2u64..4, of(&rows(30..32))).unwrap();
    let strings: Strings = ["other"].into_iter().collect();
    store.replace("text", &[1i64], &strings).unwrap();
    // The last record that is known to be synced, and one behind it.
    store.with_durability(Durability::Synced).append("raw", of(&rows(40..41))).unwrap();
    store.append("raw", of(&rows(41..42))).unwrap();
}

/// Rows in files of their own, replaced in part, and a checkpoint that names them.
fn segments(store: &Store) {
    store.save("a", &f32s("raw"), of(&rows(0..40))).unwrap();
    store.append("a", of(&rows(40..60))).unwrap();
    store.replace("a", &[5i64, 6, 50], of(&rows(100..103))).unwrap();
    store.save("b", &f32s("fp16"), of(&rows(0..20))).unwrap();
    store.checkpoint().unwrap();
    store.replace("b", 3u64..5, of(&rows(60..62))).unwrap();
}

/// Deleted rows, before a checkpoint and after it, and rows that moved to files without them.
fn tombstones(store: &Store) {
    store.save("a", &f32s("raw"), of(&rows(0..50))).unwrap();
    store.delete_rows("a", &[0i64, 3, 4, 49]).unwrap();
    store.append("a", of(&rows(50..53))).unwrap();
    store.checkpoint().unwrap();
    store.delete_rows("a", 10u64..20).unwrap();
    store.replace("a", &[11i64], of(&rows(90..91))).unwrap();
    store.compact().unwrap();
    store.delete_rows("a", &[-1i64]).unwrap();
    store.save("gone", &f32s("raw"), of(&rows(0..4))).unwrap();
    store.delete_rows("gone", ..).unwrap();
}

/// Rows found by an id.
fn ids(store: &Store) {
    let mut batch = store.batch().unwrap();
    let keys = |from: u64, to: u64| (from..to).map(|id| id * 7 + 1).collect::<Vec<u64>>();
    let first = keys(0, 8);
    let spec = ArraySpec::values(DType::U64, &[], "raw").unique();
    batch.save("id", &spec, RowSlice::new(&first, 1).unwrap()).unwrap();
    batch.save("vector", &f32s("raw"), of(&rows(0..8))).unwrap();
    batch.commit().unwrap();
    // Two that are there and two that are new.
    let (more, values) = (keys(6, 10), rows(60..64));
    let columns = [("vector", ArrayRows::from(of(&values)))];
    store.upsert("id", RowSlice::new(&more, 1).unwrap(), &columns).unwrap();
    let mut batch = store.batch().unwrap();
    batch.delete_rows("id", &[2i64]).unwrap();
    batch.delete_rows("vector", &[2i64]).unwrap();
    batch.commit().unwrap();
}

/// What is said of rows, of arrays and of the store.
fn sections(store: &Store) {
    let said = |text: &str| Json::object([("said", Json::from(text)), ("n", Json::from(7u64))]);
    store.save("a", &f32s("raw").provenance(said("a model")), of(&rows(0..30))).unwrap();
    let mut batch = store.batch().unwrap();
    batch.add_section("a", 0, 10, &said("first")).unwrap();
    batch.add_section("a", 12, 20, &said("second")).unwrap();
    batch.set_array_metadata("a", &said("of the array")).unwrap();
    batch.set_metadata(&said("of the store, né")).unwrap();
    batch.commit().unwrap();
    store.delete_rows("a", 8u64..13).unwrap();
    store.keep_commits(2).unwrap();
    store.checkpoint().unwrap();
    store.append("a", of(&rows(30..31))).unwrap();
}

/// Arrays that got other names, were copied, deleted and saved anew.
fn names(store: &Store) {
    store.save("a", &f32s("raw"), of(&rows(0..4))).unwrap();
    store.clone_array("a", "copy of ä/..").unwrap();
    store.rename("a", "b").unwrap();
    store.replace("b", &[0i64], of(&rows(9..10))).unwrap();
    store.save("c", &f32s("raw"), of(&rows(4..6))).unwrap();
    store.delete("c").unwrap();
    // Ids go on where those of the former one ended.
    store.save("b", &f32s("raw"), of(&rows(6..9))).unwrap();
    store.save("empty", &f32s("raw"), of(&[])).unwrap();
    store
        .save(
            "matrices",
            &ArraySpec::values(DType::F32, &[3, 2], "raw"),
            RowSlice::new(&rows(0..4), 6).unwrap(),
        )
        .unwrap();
}

/// Every dtype, inline and in segments.
fn dtypes(store: &Store) {
    for dtype in DType::ALL {
        for (name, count) in [("few", 3), ("many", 70)] {
            let bytes: Vec<u8> = (0..count * 2 * dtype.size())
                .map(|n| {
                    if dtype == DType::Bool {
                        u8::from(n % 3 == 0)
                    } else {
                        u8::try_from(n % 50 + 1).unwrap()
                    }
                })
                .collect();
            let mut aligned = cvc::AlignedBytes::new();
            aligned.resize(bytes.len()).copy_from_slice(&bytes);
            let values = RowSlice::from_bytes(dtype, count, 2, aligned.bytes()).unwrap();
            store
                .save(&format!("{}.{name}", dtype.name()), &ArraySpec::values(dtype, &[2], "raw"), values)
                .unwrap();
        }
    }
}

/// Everything that can be seen of a store, as text.
fn seen(snapshot: &Snapshot, with_times: bool) -> String {
    let mut text = String::new();
    let json = |json: &Json| json.to_string_styled(Style::Compact);
    writeln!(text, "commit {} metadata {}", snapshot.commit(), json(snapshot.metadata())).unwrap();
    for name in snapshot.names() {
        let array = snapshot.array(&name).unwrap();
        let spec = array.spec();
        let (dtype, codec) = (spec.dtype_name(), spec.codec());
        writeln!(text, "array {name:?} {dtype} {codec} {:?} unique {}", array.shape(), spec.is_unique())
            .unwrap();
        if with_times {
            writeln!(text, "  made {} changed {}", array.made(), array.changed()).unwrap();
        }
        writeln!(text, "  metadata {}", json(array.metadata())).unwrap();
        for section in array.sections() {
            writeln!(text, "  section {:?} {}", section.rows, json(&section.metadata)).unwrap();
        }
        if with_times {
            writeln!(text, "  ids {:?} deleted {}", array.row_ids(..).unwrap(), array.deleted()).unwrap();
        }
        let lines: Vec<String> = if spec.dtype().is_none() {
            array.read_strings(..).unwrap().iter().map(|string| format!("{string:?}")).collect()
        } else {
            let mut bytes = cvc::AlignedBytes::new();
            let out = bytes.resize(usize::try_from(array.byte_len()).unwrap());
            array.read_bytes(.., out).unwrap();
            let row_len = array.dim() as usize * array.dtype().unwrap().size();
            let hex = |row: &[u8]| row.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.bytes().chunks_exact(row_len).map(hex).collect()
        };
        lines.iter().for_each(|line| writeln!(text, "  {line}").unwrap());
    }
    text
}

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a store that is made now. Zeros behind a journal say nothing and are left out.
fn made((_, inline_len, make): &Make) -> (Files, String) {
    let memory = Memory::new(1);
    let store = Store::create_on(memory.layer(), options(*inline_len)).unwrap();
    make(&store);
    let seen = seen(&store.snapshot(), true);
    drop(store);
    let mut files = memory.files();
    for (name, bytes) in &mut files {
        if name.starts_with("journal-") {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end.next_multiple_of(4096).min(bytes.len()));
        }
    }
    (files, seen)
}

fn golden(name: &str) -> (Files, String) {
    let mut files = Files::new();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        files.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap());
    }
    let seen = String::from_utf8(files.remove("seen.txt").unwrap()).unwrap();
    (files, seen)
}

#[test]
fn every_golden_store_is_read_as_it_was_then() {
    for store in &STORES {
        let (files, expected) = golden(store.0);
        let memory = Memory::of(&files);
        let reader = Store::open_read_only_on(memory.layer()).unwrap();
        assert_eq!(seen(&reader.snapshot(), true), expected, "{}", store.0);
        assert!(reader.verify().unwrap().is_ok(), "{}", store.0);
        drop(reader);
        assert!(memory.files() == files, "{}: reading changed it", store.0);
        // A writer goes on with it.
        let writer = Store::open_on(memory.layer(), options(store.1)).unwrap();
        assert_eq!(seen(&writer.snapshot(), true), expected, "{}", store.0);
        writer.compact().unwrap();
        let compacted = seen(&writer.snapshot(), false);
        let reader = Store::open_read_only_on(memory.layer()).unwrap();
        assert_eq!(seen(&reader.snapshot(), false), compacted, "{}", store.0);
        let rows_of = |text: &str| {
            text.lines()
                .skip(1)
                .filter(|line| !line.contains(" ids ") && !line.contains(" made "))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(rows_of(&compacted), rows_of(&expected), "{}", store.0);
    }
}

#[test]
fn the_same_changes_write_the_same_bytes_as_then() {
    for store in &STORES {
        let ((files, expected), (now, seen)) = (golden(store.0), made(store));
        assert_eq!(seen, expected, "{}", store.0);
        assert_eq!(now.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>(), "{}", store.0);
        for (name, bytes) in &files {
            assert!(now[name] == *bytes, "{}: {name} has other bytes now", store.0);
        }
    }
}

/// What is expected was written by the code that is tested; so some of it is said here in other words.
#[test]
fn what_was_then_is_what_the_changes_say() {
    let read = |name: &str| Store::open_read_only_on(Memory::of(&golden(name).0).layer()).unwrap();
    let inline = read("inline");
    let expected: Vec<f32> =
        [0..1, 20..21, 2..3, 21..22, 4..6, 10..11, 22..23, 40..42].into_iter().flat_map(rows).collect();
    assert_eq!(inline.array("raw").unwrap().read::<f32>(..).unwrap(), expected);
    let strings = inline.array("text").unwrap().read_strings(..).unwrap();
    assert_eq!(strings.iter().collect::<Vec<_>>(), ["first", "other", "né", "last"]);
    assert_eq!(inline.snapshot().commit(), 10);

    let tombstones = read("tombstones");
    let mut left: Vec<u32> = (0..53).filter(|row| ![0, 3, 4, 49].contains(row)).collect();
    left.drain(10..20);
    left[11] = 90;
    left.pop();
    let expected: Vec<f32> = left.iter().flat_map(|row| rows(*row..row + 1)).collect();
    assert_eq!(tombstones.array("a").unwrap().read::<f32>(..).unwrap(), expected);
    assert_eq!(tombstones.array("gone").unwrap().rows(), 0);

    let ids = read("ids");
    assert_eq!(ids.array("id").unwrap().read::<u64>(..).unwrap(), [1, 8, 22, 29, 36, 43, 50, 57, 64]);
    let expected: Vec<f32> = [0..2, 3..6, 60..64].into_iter().flat_map(rows).collect();
    assert_eq!(ids.array("vector").unwrap().read::<f32>(..).unwrap(), expected);

    let sections = read("sections").array("a").unwrap();
    let found: Vec<_> = sections.sections().into_iter().map(|section| section.rows).collect();
    assert_eq!(found, [0..8, 8..15]);
    assert_eq!(sections.find(&[Condition::new("said", "second")]), [8..15]);

    let names = read("names");
    assert_eq!(names.names(), ["b", "copy of ä/..", "empty", "matrices"]);
    assert_eq!(names.array("b").unwrap().row_ids(..).unwrap(), [4, 5, 6]);
    assert_eq!(names.array("matrices").unwrap().shape(), [2, 3, 2]);
    assert_eq!(read("dtypes").names().len(), 2 * DType::ALL.len());
}

#[test]
fn a_golden_package_is_unpacked_as_it_was_packed() {
    let (files, expected) = golden("package");
    let scratch = tempfile::tempdir().unwrap();
    let (package, to) = (scratch.path().join("package"), scratch.path().join("store"));
    fs::write(&package, &files["store.cvcpkg"]).unwrap();
    let info = package_info(&package).unwrap();
    let names: Vec<&str> = info.arrays.iter().map(|array| &*array.name).collect();
    assert_eq!(names, ["fp16", "int8", "raw", "text"]);
    Store::unpack(&package, &to).unwrap();
    let store = Store::open_read_only(&to).unwrap();
    // Times and the number of the commit are those of the new store.
    let rows_of = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(rows_of(&seen(&store.snapshot(), false)), rows_of(&expected));
}

/// For a store that is new here: `cargo test -p cvc-store --test golden -- --ignored`, then `cargo xtask golden`.
#[test]
#[ignore = "writes golden stores that are not there yet"]
fn write_golden_stores_that_are_new() {
    for store in STORES.iter().filter(|store| !folder(store.0).exists()) {
        let (files, seen) = made(store);
        fs::create_dir_all(folder(store.0)).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(folder(store.0).join(name), bytes).unwrap());
        fs::write(folder(store.0).join("seen.txt"), seen).unwrap();
    }
    if !folder("package").exists() {
        let store = Store::create_on(Memory::new(1).layer(), options(64 << 10)).unwrap();
        inline(&store);
        fs::create_dir_all(folder("package")).unwrap();
        store.snapshot().pack(folder("package").join("store.cvcpkg"), Overwrite::Refuse).unwrap();
        fs::write(folder("package").join("seen.txt"), seen(&store.snapshot(), false)).unwrap();
    }
}
