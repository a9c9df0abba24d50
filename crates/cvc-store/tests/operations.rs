//! What a store does, one promise at a time.

use cvc::format::ArrayDType;
use cvc::{ArrayRows, Condition, DType, Json, RowSlice, Strings};
use cvc_store::{ArraySpec, Durability, Selection, Store, StoreOptions};

fn options() -> StoreOptions {
    StoreOptions::default().durability(Durability::Buffered)
}

fn small() -> StoreOptions {
    let mut options = options();
    (options.inline_len, options.journal_len, options.segment_len) = (256, 4096, 8192);
    options
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

fn matrix(values: &[f32]) -> RowSlice<'_> {
    RowSlice::new(values, 2).unwrap()
}

fn f32s() -> ArraySpec {
    ArraySpec::values(DType::F32, &[2], "raw")
}

fn counted(range: std::ops::Range<u16>) -> Vec<f32> {
    range.flat_map(|n| [f32::from(n), -f32::from(n)]).collect()
}

fn all(store: &Store, name: &str) -> Vec<f32> {
    store.array(name).unwrap().read(..).unwrap()
}

#[test]
fn a_store_is_as_it_was_left() {
    let (_folder, path) = folder();
    for options in [options(), small()] {
        let _ = std::fs::remove_dir_all(&path);
        let store = Store::create_with(&path, options).unwrap();
        store.save("a", &f32s(), matrix(&counted(0..100))).unwrap();
        store.append("a", matrix(&counted(100..103))).unwrap();
        store.replace("a", &[0, -1, 50], matrix(&counted(900..903))).unwrap();
        store.delete_rows("a", &[1, 2, -2]).unwrap();
        let mut expected = counted(0..103);
        for (row, n) in [(0, 900u16), (102, 901), (50, 902)] {
            expected[2 * row..2 * row + 2].copy_from_slice(&[f32::from(n), -f32::from(n)]);
        }
        let keep = |row: usize| ![1, 2, 101].contains(&row);
        let expected: Vec<f32> = expected
            .chunks(2)
            .enumerate()
            .filter(|(row, _)| keep(*row))
            .flat_map(|(_, row)| row.to_vec())
            .collect();
        assert_eq!(all(&store, "a"), expected);
        assert_eq!(store.array("a").unwrap().shape(), [100, 2]);
        drop(store);
        for _ in 0..2 {
            let store = Store::open_with(&path, options).unwrap();
            assert_eq!(all(&store, "a"), expected);
            let reader = Store::open_read_only(&path).unwrap();
            assert_eq!(all(&reader, "a"), expected);
            let report = store.compact().unwrap();
            assert!(report.finished, "{report:?}");
            assert_eq!(all(&store, "a"), expected);
            // The reader has what it began with, whatever was removed.
            assert_eq!(all(&reader, "a"), expected);
            reader.refresh().unwrap();
            assert_eq!(all(&reader, "a"), expected);
        }
    }
}

#[test]
fn every_dtype_and_codec_comes_back_the_same_after_compaction() {
    let (_folder, path) = folder();
    let store = Store::create_with(&path, small()).unwrap();
    let bytes: Vec<u64> =
        (0..640).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3 & 0x3f7f_3c01_3f01_3c01).collect();
    let bytes: &[u8] = bytemuck_bytes(&bytes);
    let mut expected = Vec::new();
    for dtype in DType::ALL {
        for codec in ["raw", "zstd", "gzip", "lossless", "fp16", "bf16", "int8", "int4", "bit1"] {
            let spec = ArraySpec::values(dtype, &[3], codec);
            let row = 3 * dtype.size();
            let ones = vec![1u8; 40 * row];
            let source = if dtype == DType::Bool { &ones } else { bytes };
            let rows = |from: usize, count: usize| {
                RowSlice::from_bytes(dtype, count, 3, &source[from * row..(from + count) * row]).unwrap()
            };
            let name = format!("{dtype}-{codec}");
            if store.save(&name, &spec, rows(0, 20)).is_err() {
                assert!(!["raw", "zstd", "gzip"].contains(&codec), "{name}");
                continue;
            }
            store.append(&name, rows(20, 4)).unwrap();
            store.replace(&name, &[3, 1], rows(24, 2)).unwrap();
            store.delete_rows(&name, &[7, 22]).unwrap();
            let array = store.array(&name).unwrap();
            let read = |array: &cvc_store::StoredArray| {
                let len = usize::try_from(array.rows()).unwrap() * 3 * array.dtype().unwrap().size();
                let mut words = vec![0u64; len.div_ceil(8)];
                array.read_bytes(.., &mut bytemuck_bytes_mut(&mut words)[..len]).unwrap();
                bytemuck_bytes(&words)[..len].to_vec()
            };
            let before = read(&array);
            if ["raw", "zstd", "gzip", "lossless"].contains(&codec) {
                let order = (0..24).map(|row| match row {
                    3 => 24,
                    1 => 25,
                    row => row,
                });
                let kept = order.enumerate().filter(|(row, _)| ![7, 22].contains(row));
                let plain: Vec<u8> =
                    kept.flat_map(|(_, from)| source[from * row..(from + 1) * row].to_vec()).collect();
                assert_eq!(before, plain, "{name}");
            }
            expected.push((name, before));
        }
    }
    assert!(expected.len() > 60, "{}", expected.len());
    let read_all = |store: &Store| {
        for (name, before) in &expected {
            let array = store.array(name).unwrap();
            let mut words = vec![0u64; before.len().div_ceil(8)];
            let out = &mut bytemuck_bytes_mut(&mut words)[..before.len()];
            array.read_bytes(.., out).unwrap();
            assert_eq!(out, before, "{name}");
            let mut words = vec![0u64; before.len().div_ceil(8)];
            let row = before.len() / 22;
            let out = &mut bytemuck_bytes_mut(&mut words)[..2 * row];
            array.read_bytes(&[-1, 3], out).unwrap();
            assert_eq!(out, [&before[21 * row..], &before[3 * row..4 * row]].concat(), "{name}");
        }
    };
    read_all(&store);
    store.compact().unwrap();
    read_all(&store);
    drop(store);
    let store = Store::open_with(&path, small()).unwrap();
    read_all(&store);
}

fn bytemuck_bytes(words: &[u64]) -> &[u8] {
    // The tests need no crate for that.
    RowSlice::new(words, 1).map(|rows| rows.bytes()).unwrap()
}

fn bytemuck_bytes_mut(words: &mut [u64]) -> &mut [u8] {
    bytemuck::cast_slice_mut(words)
}

#[test]
fn strings_are_rows_too() {
    let (_folder, path) = folder();
    for codec in ["raw", "zstd"] {
        let _ = std::fs::remove_dir_all(&path);
        let store = Store::create_with(&path, small()).unwrap();
        let list = |range: std::ops::Range<usize>| -> Strings { range.map(|n| format!("row {n}")).collect() };
        store.save("s", &ArraySpec::strings(codec), &list(0..100)).unwrap();
        store.append("s", &list(100..105)).unwrap();
        store.replace("s", &[0, 104], &list(500..502)).unwrap();
        store.delete_rows("s", 1..3).unwrap();
        let mut expected: Vec<String> = (0..105).map(|n| format!("row {n}")).collect();
        (expected[0], expected[104]) = ("row 500".into(), "row 501".into());
        expected.drain(1..3);
        for round in 0..3 {
            let read = store.array("s").unwrap().read_strings(..).unwrap();
            assert_eq!(read.iter().collect::<Vec<_>>(), expected, "{round}");
            store.compact().unwrap();
        }
        let two = store.array("s").unwrap().read_strings(&[-1, 0]).unwrap();
        assert_eq!(two.iter().collect::<Vec<_>>(), ["row 501", "row 500"]);
        assert!(store.array("s").unwrap().read::<f32>(..).is_err());
    }
}

#[test]
fn snapshots_stay_and_commits_can_be_looked_back_at() {
    let (_folder, path) = folder();
    let store = Store::create_with(&path, small()).unwrap();
    store.keep_commits(1000).unwrap();
    let mut snapshots = vec![store.snapshot()];
    store.save("a", &f32s(), matrix(&counted(0..200))).unwrap();
    snapshots.push(store.snapshot());
    for n in 0..60u16 {
        match n % 4 {
            0 => store.append("a", matrix(&counted(n..n + 20))).unwrap(),
            1 => store.replace("a", 3..8, matrix(&counted(n..n + 5))).unwrap(),
            2 => store.delete_rows("a", &[i64::from(n), -1]).unwrap(),
            _ => store
                .replace(
                    "a",
                    Selection::Slice { start: None, stop: None, step: 1 },
                    matrix(&{
                        let rows = u16::try_from(store.array("a").unwrap().rows()).unwrap();
                        counted(n..n + rows)
                    }),
                )
                .unwrap(),
        };
        snapshots.push(store.snapshot());
    }
    let values = |snapshot: &cvc_store::Snapshot| {
        snapshot.array("a").ok().map(|array| (array.read::<f32>(..).unwrap(), array.row_ids(..).unwrap()))
    };
    let expected: Vec<_> = snapshots.iter().map(values).collect();
    store.compact().unwrap();
    for (snapshot, expected) in snapshots.iter().zip(&expected) {
        assert_eq!(&values(snapshot), expected);
        assert_eq!(&values(&store.snapshot_at(snapshot.commit()).unwrap()), expected);
    }
    drop(store);
    let store = Store::open_with(&path, small()).unwrap();
    for (snapshot, expected) in snapshots.iter().zip(&expected) {
        assert_eq!(&values(&store.snapshot_at(snapshot.commit()).unwrap()), expected);
    }
    let last = store.snapshot().commit();
    store.prune(0).unwrap();
    assert!(store.snapshot_at(last - 1).unwrap_err().is_usage());
    assert_eq!(store.commits().unwrap(), (last, last));
    for (snapshot, expected) in snapshots.iter().zip(&expected) {
        assert_eq!(&values(snapshot), expected, "a snapshot keeps the files it needs");
    }
}

#[test]
fn a_batch_is_one_commit_or_none() {
    let (_folder, path) = folder();
    let store = Store::create_with(&path, small()).unwrap();
    store.save("a", &f32s(), matrix(&counted(0..10))).unwrap();
    let before = store.snapshot().commit();
    let mut batch = store.batch().unwrap();
    batch.append("a", matrix(&counted(10..90))).unwrap();
    batch.replace("a", 0..1, matrix(&counted(7..8))).unwrap();
    batch.delete_rows("a", &[1]).unwrap();
    batch.clone_array("a", "b").unwrap();
    batch.delete_rows("b", 0..80).unwrap();
    batch.rename("a", "c").unwrap();
    assert!(batch.rename("b", "c").is_err() && batch.append("a", matrix(&[0., 0.])).is_err());
    assert_eq!(batch.snapshot().names(), ["b", "c"]);
    assert_eq!(store.names(), ["a"]);
    assert_eq!(batch.commit().unwrap(), before + 1);
    assert_eq!(store.names(), ["b", "c"]);
    assert_eq!(all(&store, "b"), counted(81..90));
    assert_eq!(all(&store, "c")[..4], [7., -7., 2., -2.]);

    let mut lost = store.batch().unwrap();
    lost.reset().unwrap();
    drop(lost);
    let mut late = store.batch().unwrap();
    late.save("d", &f32s(), matrix(&counted(0..500))).unwrap();
    store.append("b", matrix(&counted(0..1))).unwrap();
    assert!(late.commit().unwrap_err().to_string().contains("begin it again"));
    assert_eq!(store.names(), ["b", "c"]);
    // Nothing is left of what was given up.
    store.compact().unwrap();
    let names =
        std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let segments: Vec<String> = names.filter(|name| name.ends_with(".cvc")).collect();
    let pieces = ["b", "c"].map(|name| store.array(name).unwrap().pieces());
    assert_eq!(pieces, [(2, 2), (2, 2)]);
    assert!(segments.len() == 3 && !segments.contains(&"seg-0000000000000002.cvc".into()), "{segments:?}");
}

#[test]
fn sections_and_ids_of_rows_survive() {
    let (_folder, path) = folder();
    let store = Store::create_with(&path, small()).unwrap();
    store.save("a", &f32s(), matrix(&counted(0..100))).unwrap();
    let mut batch = store.batch().unwrap();
    let source = |name: &str| Json::object([("source", Json::from(name))]);
    batch.add_section("a", 0, 40, &source("wiki")).unwrap();
    batch.add_section("a", 60, 100, &source("web")).unwrap();
    assert!(batch.add_section("a", 30, 50, &source("x")).is_err());
    assert!(batch.add_section("a", 50, 101, &source("x")).is_err());
    batch.commit().unwrap();
    store.delete_rows("a", &[0, 1, 39, 50, 99]).unwrap();
    store.append("a", matrix(&counted(100..110))).unwrap();
    store.rename("a", "b").unwrap();
    for _ in 0..2 {
        let array = store.array("b").unwrap();
        let found = |name: &str| array.find(&[Condition::new("source", name)]);
        assert_eq!(found("wiki"), [0..37]);
        assert_eq!(found("web"), [56..95]);
        assert_eq!(array.row_ids(&[0, 37, -1]).unwrap(), [2, 40, 109]);
        assert_eq!((array.row_of_id(40), array.row_of_id(39), array.row_of_id(110)), (Some(37), None, None));
        store.compact().unwrap();
    }
    // Saved anew, its rows are others.
    store.save("b", &f32s(), matrix(&counted(0..3))).unwrap();
    assert_eq!(store.array("b").unwrap().row_ids(..).unwrap(), [110, 111, 112]);
    assert!(store.array("b").unwrap().sections().is_empty());
}

#[test]
fn upsert_replaces_what_is_there_and_appends_what_is_not() {
    let (_folder, path) = folder();
    let store = Store::create_with(&path, small()).unwrap();
    store
        .save(
            "ids",
            &ArraySpec::values(DType::I64, &[], "raw").unique(),
            RowSlice::new(&[7i64, -3, 9], 1).unwrap(),
        )
        .unwrap();
    store.save("v", &f32s(), matrix(&counted(0..3))).unwrap();
    let text: Strings = ["a", "b", "c"].into_iter().collect();
    store.save("t", &ArraySpec::strings("raw"), &text).unwrap();
    let (v, t): (Vec<f32>, Strings) = (counted(10..13), ["x", "y", "z"].into_iter().collect());
    let columns = [("v", ArrayRows::from(matrix(&v))), ("t", ArrayRows::from(&t))];
    let before = store.snapshot().commit();
    store.upsert("ids", RowSlice::new(&[9i64, 100, 7], 1).unwrap(), &columns).unwrap();
    assert_eq!(store.snapshot().commit(), before + 1);
    let check = |store: &Store| {
        assert_eq!(store.array("ids").unwrap().read::<i64>(..).unwrap(), [7, -3, 9, 100]);
        assert_eq!(all(store, "v"), [12., -12., 1., -1., 10., -10., 11., -11.]);
        let texts = store.array("t").unwrap().read_strings(..).unwrap();
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["z", "b", "x", "y"]);
    };
    check(&store);
    // No id twice, in whatever way.
    assert!(store.append("ids", RowSlice::new(&[5i64, 5], 1).unwrap()).is_err());
    assert!(store.append("ids", RowSlice::new(&[-3i64], 1).unwrap()).is_err());
    assert!(store.replace("ids", &[0], RowSlice::new(&[-3i64], 1).unwrap()).is_err());
    assert!(store.upsert("ids", RowSlice::new(&[1i64, 1, 2], 1).unwrap(), &columns).is_err());
    check(&store);
    assert_eq!(store.delete_ids("ids", RowSlice::new(&[-3i64, 55], 1).unwrap(), &["v", "t"]).unwrap(), 1);
    let keys = RowSlice::new(&[100i64, -3, 7], 1).unwrap();
    assert_eq!(store.rows_of_ids("ids", keys).unwrap(), [Some(2), None, Some(0)]);
    // Its id may come again.
    store
        .upsert(
            "ids",
            RowSlice::new(&[-3i64], 1).unwrap(),
            &[("v", matrix(&v[..2]).into()), ("t", ArrayRows::from(&t).slice(0..1))],
        )
        .unwrap();
    assert_eq!(store.rows_of_ids("ids", keys).unwrap(), [Some(2), Some(3), Some(0)]);
    store.replace("ids", &[0], RowSlice::new(&[8i64], 1).unwrap()).unwrap();
    assert_eq!(store.rows_of_ids("ids", RowSlice::new(&[8i64, 7], 1).unwrap()).unwrap(), [Some(0), None]);
    // A call of which one part fails changes nothing.
    let mut batch = store.batch().unwrap();
    let wrong = [("v", ArrayRows::from(matrix(&v[..2]))), ("ids", matrix(&v[..2]).into())];
    assert!(batch.upsert("ids", RowSlice::new(&[77i64], 1).unwrap(), &wrong).is_err());
    assert_eq!(batch.snapshot().array("v").unwrap().rows(), 4);
}

#[test]
fn wrong_calls_change_nothing_and_say_what_is_right() {
    let (_folder, path) = folder();
    let store = Store::create_with(&path, small()).unwrap();
    store.save("a", &f32s(), matrix(&counted(0..10))).unwrap();
    let commit = store.snapshot().commit();
    let calls: Vec<(Result<u64, cvc_store::Error>, &str)> = vec![
        (store.append("b", matrix(&[0., 0.])), "the store has a"),
        (store.append("a", RowSlice::new(&[0i32, 0], 2).unwrap()), "rows of 2 f32 values"),
        (store.append("a", RowSlice::new(&[0f32, 0., 0.], 3).unwrap()), "rows of 2 f32 values"),
        (store.replace("a", 0..2, matrix(&[0., 0.])), "2 rows are to be replaced"),
        (store.replace("a", &[10], matrix(&[0., 0.])), "10 rows"),
        (store.delete_rows("a", &[-11]), "10 rows"),
        (store.save("", &f32s(), matrix(&[0., 0.])), "1 to 255 bytes"),
        (store.save("x\n", &f32s(), matrix(&[0., 0.])), "control"),
        (store.save("x", &ArraySpec::values(DType::F32, &[2], "int9"), matrix(&[0., 0.])), "int8"),
        (store.save("x", &ArraySpec::values(DType::F32, &[2], "int8"), matrix(&[0., f32::NAN])), "NaN"),
        (store.save("x", &ArraySpec::values(DType::F32, &[2], "int8"), matrix(&[f32::NAN; 4000])), "NaN"),
        (store.delete("x"), "the store has a"),
        (store.rename("a", "a"), "there is one"),
        (store.set_metadata(&Json::from(1u64)), "object"),
        (store.upsert("a", matrix(&[0., 0.]), &[]), "unique"),
    ];
    for (result, message) in calls {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(message) && error.is_usage(), "{error}");
    }
    assert_eq!(store.snapshot().commit(), commit);
    // Names are never paths.
    store.save("../../x", &f32s(), matrix(&counted(0..500))).unwrap();
    assert_eq!(all(&store, "../../x"), counted(0..500));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(store.array("a").unwrap().spec().dtype().map(ArrayDType::from), Some(DType::F32.into()));
}

#[test]
fn one_writer_and_the_other_is_told_which() {
    let (_folder, path) = folder();
    assert!(Store::open(&path).unwrap_err().to_string().contains("create one"));
    let store = Store::create_with(&path, options()).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(matches!(Store::create(&path), Err(cvc_store::Error::Locked { .. })));
    let reader = Store::open_read_only(&path).unwrap();
    assert!(matches!(reader.reset(), Err(cvc_store::Error::ReadOnly)));
    assert!(!reader.refresh().unwrap());
    store.save("a", &f32s(), matrix(&counted(0..10))).unwrap();
    assert!(!reader.has("a") && reader.refresh().unwrap() && reader.has("a"));
    drop(store);
    assert!(matches!(Store::create(&path), Err(cvc_store::Error::Exists { .. })));
    Store::open(&path).unwrap();
}

#[test]
fn many_small_commits_stay_few_files_and_little_memory() {
    let (_folder, path) = folder();
    let mut options = small();
    options.journal_len = 64 << 10;
    options.segment_len = 64 << 10;
    let store = Store::create_with(&path, options).unwrap();
    store.save("a", &f32s(), matrix(&[])).unwrap();
    let mut expected = Vec::new();
    let mut most = 0;
    for n in 0..3000u16 {
        let rows = counted(n..n + 5);
        store.append("a", matrix(&rows)).unwrap();
        expected.extend(rows);
        if n % 100 == 0 {
            most = most.max(std::fs::read_dir(&path).unwrap().count());
        }
    }
    assert!(most <= 12, "{most} files");
    assert_eq!(all(&store, "a"), expected);
    let report = store.compact().unwrap();
    assert!(report.bytes_after < expected.len() as u64 * 4 * 12 / 10, "{report:?}");
    assert_eq!(all(&store, "a"), expected);
    let (runs, segments) = store.array("a").unwrap().pieces();
    assert!(runs <= 3 && segments <= 3, "{runs} runs in {segments} segments");
}

#[test]
fn ids_of_a_batch_are_its_own_until_it_is_committed() {
    let (_folder, path) = folder();
    let store = Store::create_with(&path, small()).unwrap();
    let ids = |ids: &'static [i64]| RowSlice::new(ids, 1).unwrap();
    store.save("id", &ArraySpec::values(DType::I64, &[], "raw").unique(), ids(&[1, 2])).unwrap();
    let mut batch = store.batch().unwrap();
    batch.append("id", ids(&[7])).unwrap();
    batch.delete_rows("id", &[0]).unwrap();
    store.append("id", ids(&[100])).unwrap();
    batch.append("id", ids(&[9, 1])).unwrap();
    assert!(batch.append("id", ids(&[7])).is_err() && batch.append("id", ids(&[2])).is_err());
    batch.append("id", ids(&[100])).unwrap();
    assert_eq!(store.rows_of_ids("id", ids(&[100, 7, 1])).unwrap(), [Some(2), None, Some(0)]);
    drop(batch);
    assert!(store.append("id", ids(&[100])).is_err() && store.append("id", ids(&[1])).is_err());
    store.append("id", ids(&[7])).unwrap();
    // What a batch did that is committed is known.
    let mut batch = store.batch().unwrap();
    batch.append("id", ids(&[8])).unwrap();
    batch.delete_rows("id", &[0]).unwrap();
    assert!(batch.append("id", ids(&[8])).is_err());
    batch.append("id", ids(&[1, 9])).unwrap();
    batch.commit().unwrap();
    let rows = store.rows_of_ids("id", ids(&[8, 1, 9, 2, 7])).unwrap();
    assert_eq!(rows, [Some(3), Some(4), Some(5), Some(0), Some(2)]);
}
