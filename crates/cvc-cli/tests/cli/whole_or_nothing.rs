//! What happens to the output when something else does not go as it should.

use crate::harness::{Folder, npy_f32, program, small};

#[test]
fn an_old_file_is_replaced_and_no_temporary_stays() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.write("a.cvc", "old");
    folder.write("back.npy", "old");
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc"]).ok();
    folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
    assert_eq!(folder.names(), ["a.cvc", "a.npy", "back.npy"]);
    assert_eq!(folder.f32s("back.npy").len(), 24);
}

/// The bar is for terminals; `Run::ok` sees to it that nothing is printed elsewhere, here for work that takes long
/// enough to draw one.
#[test]
fn no_progress_is_drawn_off_a_terminal() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(20_000, 64, small));
    let packed = folder.cvc(&["pack", "a.npy", "-o", "a.cvc", "--chunk-rows", "100"]).ok();
    assert_eq!(packed.stdout().lines().count(), 1);
    let unpacked = folder.cvc(&["unpack", "a.cvc", "-o", "back.npy"]).ok();
    assert_eq!(unpacked.stdout().lines().count(), 1);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc"]).ok();
    let mut child = program()
        .args(["info", "--json"])
        .arg(folder.path("a.cvc"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// `/dev/full` takes nothing, like a disk without space.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(6, 4, small));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc"]).ok();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = program().args(["info", "--json"]).arg(folder.path("a.cvc")).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output: cannot be written"));
}

/// Ctrl-C sends another signal, which shells keep from programs in the background; both are caught alike.
#[cfg(unix)]
#[track_caller]
fn interrupted(folder: &Folder, args: &[&str]) {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    folder.write("out", "old");
    let names = folder.names();
    let child = program()
        .args(args)
        .current_dir(folder.path(""))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while folder.names().len() == names.len() {
        assert!(started.elapsed() < Duration::from_secs(60), "no temporary file came up");
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: interrupted; nothing was written\n");
    assert_eq!(folder.names(), names);
    assert_eq!(folder.read("out"), b"old");
}

#[cfg(unix)]
#[test]
fn an_interrupted_pack_leaves_nothing_behind() {
    let folder = Folder::new();
    // 8 GiB of zeros that take no space, too much to be packed before the signal.
    let (rows, dim) = (2 << 20, 1024);
    let header = crate::harness::npy("<f4", &[rows, dim], &[]);
    folder.write("a.npy", &header);
    let file = std::fs::File::options().write(true).open(folder.path("a.npy")).unwrap();
    file.set_len((header.len() + rows * dim * 4) as u64).unwrap();
    for layout in ["native", "v1"] {
        interrupted(&folder, &["pack", "a.npy", "-o", "out", "--layout", layout]);
    }
}

#[cfg(unix)]
#[test]
fn what_reads_a_file_leaves_nothing_behind_either() {
    use std::os::unix::fs::FileExt;

    let folder = Folder::new();
    // The same in layout v0, whose frames are a length and the payload.
    let (chunks, rows, dim) = (1000, 4096, 1024);
    let entries = vec![format!("{{\"rows\": {rows}}}"); chunks].join(", ");
    let header = format!(
        "{{\"num_vectors\": {}, \"dimension\": {dim}, \"compression\": \"fp16\", \"chunks\": [{entries}]}}",
        chunks * rows
    );
    let header_len = u32::try_from(header.len()).unwrap().to_le_bytes();
    folder.write("a.cvc", [b"CVCF", &header_len[..], header.as_bytes()].concat());
    let file = std::fs::File::options().write(true).open(folder.path("a.cvc")).unwrap();
    let mut at = 8 + header.len() as u64;
    let payload_len = u32::try_from(rows * dim * 2).unwrap();
    for _ in 0..chunks {
        file.write_all_at(&payload_len.to_le_bytes(), at).unwrap();
        at += 4 + u64::from(payload_len);
    }
    file.set_len(at).unwrap();

    interrupted(&folder, &["upgrade", "a.cvc", "-o", "out"]);
    interrupted(&folder, &["repair", "a.cvc", "-o", "out", "--force"]);
    interrupted(&folder, &["unpack", "a.cvc", "-o", "out"]);
}
