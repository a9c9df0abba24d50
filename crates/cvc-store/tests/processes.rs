//! Several processes and one store, and processes that are killed for good.
//!
//! The other process is this test program, told by an environment variable what to do.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cvc::{DType, RowSlice};
use cvc_store::{ArraySpec, Durability, Error, Store, StoreOptions};

const ROLE: &str = "CVC_STORE_TEST_ROLE";
const PLACE: &str = "CVC_STORE_TEST_PLACE";

fn options() -> StoreOptions {
    let mut options = StoreOptions::default().durability(Durability::Buffered);
    // Journals are replaced often.
    (options.inline_len, options.journal_len, options.segment_len) = (1024, 16 << 10, 16 << 10);
    options
}

fn child(role: &str, place: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(PLACE, place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The number in the next line of the child that has one.
fn said(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<u64> {
    lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("said ")?.parse().ok())
}

fn say(number: u64) {
    // Not through the harness, which may keep it.
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nsaid {number}").unwrap();
    out.flush().unwrap();
}

fn row(number: u64) -> [f32; 4] {
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let value = number as f32;
    [value, value + 0.25, value + 0.5, value + 0.75]
}

#[test]
#[ignore = "it is run by the tests of this file"]
fn the_other_process() {
    let (Ok(role), Ok(place)) = (std::env::var(ROLE), std::env::var(PLACE)) else { return };
    match role.as_str() {
        // Appends one row after another, and says so when a commit was acknowledged.
        "append" => {
            let store = Store::open_with(&place, options()).unwrap();
            let mut next = store.array("a").unwrap().rows();
            loop {
                store.append("a", RowSlice::new(&row(next), 4).unwrap()).unwrap();
                next += 1;
                say(next);
            }
        }
        // Opens it for writing, and says whether that went well.
        "write" => match Store::open(&place) {
            Ok(_) => say(1),
            Err(Error::Locked { pid, .. }) => say(u64::from(pid.unwrap())),
            Err(_) => say(0),
        },
        // Reads it again and again until it is told to stop, and says how many looks there were.
        "read" => {
            let mut looks = 0;
            let mut last = 0;
            say(0);
            let stop = std::thread::spawn(|| std::io::stdin().read_line(&mut String::new()));
            let store = Store::open_read_only(&place).unwrap();
            while !stop.is_finished() {
                store.refresh().unwrap();
                let array = store.array("a").unwrap();
                check(&array.read::<f32>(..).unwrap(), array.rows());
                assert!(array.rows() >= last);
                last = array.rows();
                looks += 1;
                if looks % 7 == 0 {
                    check(
                        &Store::open_read_only(&place).unwrap().array("a").unwrap().read(0..last).unwrap(),
                        last,
                    );
                }
            }
            say(looks);
        }
        _ => unreachable!(),
    }
}

fn check(values: &[f32], rows: u64) {
    assert_eq!(values.len() as u64, rows * 4);
    for (number, values) in (0..).zip(values.chunks(4)) {
        // Every row is whole, whichever version of it this is.
        let base = values[0];
        assert_eq!(values, [base, base + 0.25, base + 0.5, base + 0.75], "row {number}");
    }
}

fn new_store(place: &Path) -> Store {
    let store = Store::create_with(place, options()).unwrap();
    store.save("a", &ArraySpec::values(DType::F32, &[4], "raw"), RowSlice::new(&row(0), 4).unwrap()).unwrap();
    store
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    drop(new_store(&place));
    let mut acknowledged = 1;
    for round in 0..12 {
        let mut child = child("append", &place);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..1 + round * 17 % 90 {
            acknowledged = said(&mut lines).unwrap();
        }
        child.kill().unwrap();
        // What it said before it died counts.
        while let Some(more) = said(&mut lines) {
            acknowledged = more;
        }
        child.wait().unwrap();
        let store = Store::open_with(&place, options()).unwrap();
        let array = store.array("a").unwrap();
        assert!((acknowledged..=acknowledged + 1).contains(&array.rows()), "{acknowledged} {}", array.rows());
        let expected: Vec<f32> = (0..array.rows()).flat_map(row).collect();
        assert_eq!(array.read::<f32>(..).unwrap(), expected);
        assert!(store.verify().unwrap().is_ok());
        acknowledged = array.rows();
    }
}

#[test]
fn a_second_writer_is_refused_and_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    let store = new_store(&place);
    let ask = || {
        let mut child = child("write", &place);
        let answer = said(&mut BufReader::new(child.stdout.take().unwrap()).lines());
        child.wait().unwrap();
        answer.unwrap()
    };
    assert_eq!(ask(), u64::from(std::process::id()));
    drop(store);
    assert_eq!(ask(), 1);
}

#[test]
fn readers_never_fail_while_the_store_is_changed_and_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    let store = new_store(&place);
    let mut readers: Vec<_> = (0..2)
        .map(|_| {
            let mut child = child("read", &place);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            said(&mut lines).unwrap();
            (child, lines)
        })
        .collect();
    for round in 0..150u64 {
        let rows = store.array("a").unwrap().rows();
        let values: Vec<f32> = (rows..rows + 20).flat_map(row).collect();
        store.append("a", RowSlice::new(&values, 4).unwrap()).unwrap();
        let changed: Vec<f32> = (0..3).flat_map(|n| row(1000 * round + n)).collect();
        store.replace("a", &[0, 7, -1], RowSlice::new(&changed, 4).unwrap()).unwrap();
        if round % 10 == 9 {
            store.compact().unwrap();
        }
    }
    for (child, lines) in &mut readers {
        drop(child.stdin.take());
        assert!(said(lines).unwrap() > 0, "a reader failed, or never read");
        assert!(child.wait().unwrap().success());
    }
}
