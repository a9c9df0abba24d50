//! Damage is found, named, and never unpacked: in the CVCF layouts, by chunks. `salvage.rs` has what native files add.

use crate::harness::{Folder, npy_f32, small};

/// The bytes of a file of two chunks of two rows, and where their payloads are.
fn packed(folder: &Folder, codec: &str) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
    folder.write("a.npy", npy_f32(4, 3, |i| small(i + 1)));
    let call = ["pack", "a.npy", "-o", "a.cvc", "--layout", "v1", "--codec", codec, "--chunk-rows", "2"];
    folder.cvc(&call).ok();
    let bytes = folder.read("a.cvc");
    let payload_len = if codec == "fp16" { 12 } else { 6 };
    // The layout ends with its two frames: length and checksum, then the payload.
    let second = bytes.len() - payload_len..bytes.len();
    let first = second.start - 8 - payload_len..second.start - 8;
    (bytes, vec![first, second])
}

#[test]
fn verify_finds_every_flipped_bit_of_a_payload() {
    for codec in ["fp16", "int8"] {
        let folder = Folder::new();
        let (bytes, payloads) = packed(&folder, codec);
        for (chunk, payload) in payloads.into_iter().enumerate() {
            for bit in payload.start * 8..payload.end * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                folder.write("b.cvc", &flipped);
                let json = folder.cvc(&["verify", "b.cvc", "--json"]).status(1).json();
                assert_eq!(json["ok"], false, "bit {bit}");
                let damaged = json["damaged"].as_array().unwrap();
                assert_eq!(damaged.len(), 1, "bit {bit}: {json}");
                assert_eq!(damaged[0]["rows"], serde_json::json!([2 * chunk, 2 * chunk + 2]));
                assert_eq!(damaged[0]["bytes"], serde_json::json!([payload.start, payload.end]));
            }
        }
    }
}

#[test]
fn verify_says_which_rows_are_lost() {
    let folder = Folder::new();
    let (mut bytes, payloads) = packed(&folder, "fp16");
    bytes[payloads[1].start] ^= 1;
    folder.write("a.cvc", &bytes);
    let run = folder.cvc(&["verify", "a.cvc"]).status(1);
    assert_eq!(run.stderr(), "");
    assert!(run.stdout().starts_with("damaged: array \"vectors\", chunk 1, rows 2..4: "), "{}", run.stdout());
    assert!(run.stdout().contains("\n1 of 2 chunks damaged; `cvc repair` "), "{}", run.stdout());
}

#[test]
fn a_file_cut_anywhere_is_damaged_and_named() {
    let folder = Folder::new();
    let (bytes, _) = packed(&folder, "fp16");
    for len in 0..bytes.len() {
        folder.write("cut.cvc", &bytes[..len]);
        folder.cvc(&["verify", "cut.cvc"]).refused(1, &["cut.cvc: "]);
        let json = folder.cvc(&["verify", "cut.cvc", "--json"]).status(1).json();
        assert_eq!(json["ok"], false, "{len}");
    }
}

#[test]
fn what_is_no_cvc_file_is_named_by_every_command() {
    let folder = Folder::new();
    folder.write("a.npy", npy_f32(1, 1, small));
    for call in [["info", "a.npy"].as_slice(), &["verify", "a.npy"], &["unpack", "a.npy", "-o", "x.npy"]] {
        folder.cvc(call).refused(1, &["a.npy: not a cvc file", "CVCF"]);
    }
}

#[test]
fn a_failed_unpack_leaves_the_old_output_as_it_was() {
    let folder = Folder::new();
    let (mut bytes, payloads) = packed(&folder, "fp16");
    bytes[payloads[1].start] ^= 1;
    folder.write("a.cvc", &bytes);
    folder.write("out.npy", "old");
    let names = folder.names();
    folder.cvc(&["unpack", "a.cvc", "-o", "out.npy"]).refused(1, &["a.cvc: ", "damaged", "crc32"]);
    assert_eq!(folder.read("out.npy"), b"old");
    assert_eq!(folder.names(), names);

    // The rows that are good can be had, and the others if one insists.
    folder.cvc(&["unpack", "a.cvc", "-o", "out.npy", "--rows", "..2"]).ok();
    assert_eq!(folder.f32s("out.npy"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    folder.cvc(&["unpack", "a.cvc", "-o", "out.npy", "--no-checksums"]).ok();
    assert_eq!(folder.npy("out.npy").shape, [4, 3]);
}

#[test]
fn bytes_after_the_last_chunk_are_mentioned() {
    let folder = Folder::new();
    let (mut bytes, _) = packed(&folder, "fp16");
    bytes.extend(*b"hello");
    folder.write("a.cvc", &bytes);
    let run = folder.cvc(&["verify", "a.cvc"]).status(0);
    assert!(run.stderr().contains("5 bytes follow"), "{}", run.stderr());
    assert_eq!(folder.cvc(&["verify", "a.cvc", "--json"]).status(0).json()["trailing_bytes"], 5);
    assert!(folder.cvc(&["info", "a.cvc"]).ok().stdout().contains("5 bytes follow"));
}

#[test]
fn a_header_that_claims_more_than_the_file_holds_is_refused_before_any_work() {
    let folder = Folder::new();
    folder.write("x.npy", "old");
    for claim in [1u64 << 20, (1 << 32) - 1] {
        let header = format!(
            "{{\"num_vectors\": {claim}, \"dimension\": {claim}, \"compression\": \"int8\", \"chunks\": [{{\"rows\": {claim}, \
             \"min\": 0.0, \"scale\": 1.0}}]}}"
        );
        let len = u32::try_from(header.len()).unwrap();
        folder.write("a.cvc", [b"CVCF", &len.to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat());
        let message = format!("{claim} rows of {claim} values need");
        folder
            .cvc(&["unpack", "a.cvc", "-o", "x.npy"])
            .refused(1, &["a.cvc: ", "the payload has 0 bytes", &message]);
        assert_eq!(folder.names(), ["a.cvc", "x.npy"]);
        assert_eq!(folder.read("x.npy"), b"old");
    }
}

#[test]
fn a_file_of_a_newer_version_is_not_called_damaged() {
    let folder = Folder::new();
    folder.write("a.cvc", b"CVCF\x09\x00\x00\x00\x00\x00\x00\x00{}      ");
    folder.cvc(&["verify", "a.cvc", "--json"]).refused(1, &["a.cvc: ", "newer version"]);
    folder.write("a.npy", npy_f32(1, 1, small));
    folder.cvc(&["pack", "a.npy", "-o", "a.cvc"]).ok();
    let mut bytes = folder.read("a.cvc");
    bytes[8] = 2;
    let sum = cvc::format::checksum::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    folder.write("a.cvc", bytes);
    folder
        .cvc(&["verify", "a.cvc", "--json"])
        .refused(1, &["a.cvc: ", "native version 2.0", "newer version"]);
}
