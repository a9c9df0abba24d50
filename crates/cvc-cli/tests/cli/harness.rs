//! A folder to run the program in, and inputs made byte by byte.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cvc_conformance::npy::Npy;
use serde_json::Value;
use tempfile::TempDir;

/// The program, to be run in the current folder.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvc"));
    // Without it, drivers of Mesa complain on standard error that they find no display.
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

/// A file of the repository's sample data.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(name)
}

/// An empty folder, in which the program runs.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn npy(&self, name: &str) -> Npy {
        Npy::read(&self.path(name))
    }

    /// The values of an `.npy` of f32.
    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        f32s(&self.npy(name))
    }

    /// The names of everything here, hidden files too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs the program here.
    pub(crate) fn cvc(&self, args: &[&str]) -> Run {
        self.cvc_with(args, &[])
    }

    /// Runs the program here, with these variables.
    pub(crate) fn cvc_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = program();
        command.envs(variables.iter().copied());
        let output = command.args(args).current_dir(self.0.path()).output().unwrap();
        Run { call: format!("cvc {}", args.join(" ")), output }
    }
}

/// What came of a call.
pub(crate) struct Run {
    call: String,
    output: Output,
}

impl Run {
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.output.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> &str {
        std::str::from_utf8(&self.output.stderr).unwrap()
    }

    #[track_caller]
    pub(crate) fn status(self, expected: i32) -> Run {
        assert_eq!(self.output.status.code(), Some(expected), "{}\n{}", self.call, self.stderr());
        self
    }

    /// It went well, so there is nothing to complain about and no progress bar without a terminal.
    #[track_caller]
    pub(crate) fn ok(self) -> Run {
        let run = self.status(0);
        assert_eq!(run.stderr(), "", "{}", run.call);
        run
    }

    /// It failed with this status; the message has all of `words`, and nothing else was printed.
    #[track_caller]
    pub(crate) fn refused(self, status: i32, words: &[&str]) {
        let run = self.status(status);
        assert_eq!(run.stdout(), "", "{}", run.call);
        let message = run.stderr();
        assert!(message.starts_with("error: ") && message.ends_with('\n'), "{}\n{message}", run.call);
        for word in words {
            assert!(message.contains(word), "{}\nexpected {word:?} in: {message}", run.call);
        }
    }

    /// The one JSON object on standard output, and nothing else anywhere.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stderr(), "", "{}", self.call);
        let text = self.stdout().strip_suffix('\n').unwrap();
        assert!(!text.contains('\n'), "{}\n{text}", self.call);
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(value.is_object(), "{}\n{text}", self.call);
        value
    }
}

pub(crate) fn f32s(npy: &Npy) -> Vec<f32> {
    assert_eq!(npy.dtype.name(), "f32");
    npy.bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
}

/// An `.npy` as numpy writes it.
pub(crate) fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    npy_in_order(descr, shape, data, false)
}

pub(crate) fn npy_in_order(descr: &str, shape: &[usize], data: &[u8], by_column: bool) -> Vec<u8> {
    let order = if by_column { "True" } else { "False" };
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    let shape = shape.join(", ") + if shape.len() == 1 { "," } else { "" };
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}").into_bytes();
    let mut padded = header;
    padded.resize((10 + padded.len() + 1).next_multiple_of(64) - 10 - 1, b' ');
    padded.push(b'\n');
    let len = u16::try_from(padded.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &len, &padded, data].concat()
}

/// Rows of f32 as an `.npy`.
pub(crate) fn npy_f32(rows: usize, dim: usize, value: impl Fn(usize) -> f32) -> Vec<u8> {
    npy("<f4", &[rows, dim], &le(&values(rows, dim, value)))
}

pub(crate) fn values(rows: usize, dim: usize, value: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..rows * dim).map(value).collect()
}

pub(crate) fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Small whole numbers, exact in every codec's input and in half precision.
pub(crate) fn small(index: usize) -> f32 {
    (index % 251) as f32
}

/// An `.fvecs`, `.bvecs` or `.ivecs`: rows of bytes, each after the number of its values.
pub(crate) fn vecs(dim: usize, value_len: usize, data: &[u8]) -> Vec<u8> {
    let dim_bytes = i32::try_from(dim).unwrap().to_le_bytes();
    data.chunks(dim * value_len).flat_map(|row| [dim_bytes.as_slice(), row].concat()).collect()
}

/// A zip archive of members that are stored, as `numpy.savez` writes it.
pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let u16 = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
    let u32 = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        // Version 2.0, no flags, stored, no date; then what both headers say.
        let mut common = [20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0].to_vec();
        common.extend(crc32(bytes).to_le_bytes());
        common.extend([u32(bytes.len()), u32(bytes.len())].concat());
        common.extend([u16(name.len()), u16(0)].concat());
        // The directory adds to it: made by version 2.0; no comment, disk 0, no attributes, the offset.
        directory.extend([b"PK\x01\x02\x14\x00".as_slice(), &common, &[0; 10], &u32(file.len())].concat());
        directory.extend(name.bytes());
        file.extend([b"PK\x03\x04".as_slice(), &common, name.as_bytes(), bytes].concat());
    }
    let count = u16(members.len());
    let end = [&[0; 4], count.as_slice(), &count, &u32(directory.len()), &u32(file.len()), &[0; 2]].concat();
    [file, directory, b"PK\x05\x06".to_vec(), end].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}
