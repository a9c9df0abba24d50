//! Files of other formats that were changed a little: each is read, or is an error that leaves nothing behind, and never a panic.
#![cfg(all(feature = "csv", feature = "ipc", feature = "parquet", feature = "safetensors"))]

mod support;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use cvc::codec::strings::Strings;
use cvc::{ArrayOptions, ArrayRows, DType, Json, Layout, Reader, RowSlice, WriteOptions, Writer};
use cvc_convert::Options;
use support::{convert, only_in};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n.max(1) as u64).unwrap()
    }
}

/// A small file with an array of each kind, and sections.
fn sound(path: &Path) {
    let options = WriteOptions::new(Layout::Native)
        .vectors(DType::F32, 6, "raw")
        .and_then(|options| options.with_array(ArrayOptions::values("id", DType::I64, &[], "raw")))
        .and_then(|options| options.with_array(ArrayOptions::values("flag", DType::Bool, &[], "raw")))
        .and_then(|options| options.with_array(ArrayOptions::values("image", DType::U16, &[2, 2], "raw")));
    let mut writer = Writer::create(path, options.unwrap()).unwrap();
    let vectors: Vec<f32> = (0..40 * 6u8).map(|at| f32::from(at) / 7.0).collect();
    let ids: Vec<i64> = (0..40).collect();
    let flags: Vec<u8> = (0..40).map(|row| row % 2).collect();
    let images: Vec<u16> = (0..160).collect();
    let rows = [
        RowSlice::new(&vectors, 6).unwrap(),
        RowSlice::new(&ids, 1).unwrap(),
        RowSlice::from_bytes(DType::Bool, 40, 1, &flags).unwrap(),
        RowSlice::new(&images, 4).unwrap(),
    ];
    writer.write_last(&rows).unwrap();
    writer.add_section(0..25, Json::object([("source", Json::from("wiki"))])).unwrap();
    writer.add_section(25..40, Json::object([("source", Json::from("arxiv, \"new\""))])).unwrap();
    writer.finish().unwrap();
}

/// The same with a column of strings, where a format has them.
fn with_strings(from: &Path, path: &Path) {
    let reader = Reader::open(from).unwrap();
    let vectors: Vec<f32> = reader.vectors().unwrap().read(..).unwrap();
    let options = WriteOptions::new(Layout::Native)
        .vectors(DType::F32, 6, "raw")
        .and_then(|options| options.with_array(ArrayOptions::strings("title", "raw")));
    let mut writer = Writer::create(path, options.unwrap()).unwrap();
    let mut titles = Strings::default();
    (0..40).for_each(|row| titles.push(&format!("row {row}, \"quoted\"\n")));
    let rows: [ArrayRows<'_>; 2] = [RowSlice::new(&vectors, 6).unwrap().into(), (&titles).into()];
    writer.write_last(&rows).unwrap();
    writer.finish().unwrap();
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b','][random.below(7)],
            2 => {
                // Lengths and positions are numbers of some bytes, as they are or by sevens.
                let number = [0, 1, u64::MAX, 1 << 62, 1 << 31, 1 << 16][random.below(6)].to_le_bytes();
                let len = (1 << random.below(4)).min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&number[..len]);
            }
            3 => {
                let from = random.below(bytes.len());
                let len = random.below(64).min(bytes.len() - at.max(from));
                bytes.copy_within(from..from + len, at);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
}

fn change_files(seed: u64, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    sound(&path("numbers.cvc"));
    with_strings(&path("numbers.cvc"), &path("strings.cvc"));
    let mut random = Random(seed);
    let mut failed = Vec::new();
    for (from, extension) in [
        ("numbers", "parquet"),
        ("strings", "parquet"),
        ("numbers", "arrow"),
        ("strings", "arrow"),
        ("strings", "csv"),
        ("numbers", "safetensors"),
        ("numbers", "npz"),
    ] {
        let whole = path(&format!("{from}.{extension}"));
        let columns = (extension == "csv").then(|| vec!["vectors".to_owned(), "title".to_owned()]);
        let options = Options { columns, ..Options::default() };
        convert(&path(&format!("{from}.cvc")), &whole, &options).unwrap();
        convert(&whole, &path("back.cvc"), &Options::default()).unwrap();
        let whole = fs::read(&whole).unwrap();
        let mut refused = 0;
        for number in 0..count {
            let mut bytes = whole.clone();
            change(&mut bytes, &mut random);
            let inner = folder.path().join("inner");
            fs::create_dir_all(&inner).unwrap();
            let (source, target) = (inner.join(format!("a.{extension}")), inner.join("a.cvc"));
            fs::write(&source, &bytes).unwrap();
            let outcome = catch_unwind(|| match convert(&source, &target, &Options::default()) {
                Ok(_) => {
                    let report = Reader::open(&target).unwrap().verify().unwrap();
                    assert!(report.damage.is_empty(), "what was written is sound");
                    true
                }
                Err(error) => {
                    only_in(&inner, &[&source]);
                    assert!(!error.to_string().is_empty());
                    false
                }
            });
            match outcome {
                Ok(true) => {}
                Ok(false) => refused += 1,
                // The panic itself has been printed.
                Err(_) => failed.push(kept(&bytes, from, extension, number)),
            }
            fs::remove_dir_all(&inner).unwrap();
        }
        assert!(refused > 0, "{from}.{extension}");
    }
    assert!(failed.is_empty(), "these files fail: {failed:#?}");
}

/// Keeps what was found.
fn kept(bytes: &[u8], from: &str, extension: &str, number: usize) -> PathBuf {
    let path = std::env::temp_dir().join(format!("cvc-convert-{from}-{number}.{extension}"));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn files_that_were_changed_a_little_are_read_or_refused() {
    change_files(1, 200);
}

#[test]
#[ignore = "it takes minutes"]
fn files_that_were_changed_a_little_are_read_or_refused_for_long() {
    change_files(2, 5_000);
}
