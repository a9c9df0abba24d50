//! CUDA as a user meets it: drivers that are missing, old, or of the wrong kind, cards that are not there, cards that fail;
//! and what is decoded on one. A stand-in plays the driver, found by its name as the driver is.
//!
//! The mutants at the end are drivers that do less than they were told: if the program's results were right with one of them,
//! the stand-in would not be able to find a mistake of that kind in the program.

use std::path::PathBuf;

use cvc_cuda_standin::Standin;

use crate::harness::{Folder, Run, example};

/// A folder with a packed file, and in `driver` a driver.
struct Machine {
    folder: Folder,
    driver: PathBuf,
}

impl Machine {
    fn new() -> Machine {
        Machine::with(Standin::folder)
    }

    fn with(driver: impl FnOnce(&std::path::Path) -> std::io::Result<PathBuf>) -> Machine {
        let folder = Folder::new();
        let driver = driver(&folder.path("driver")).unwrap();
        Machine { folder, driver }
    }

    /// Packs the sample: some 1.5 million values.
    fn pack(&self, options: &[&str]) {
        let vectors = example("minilm2k.f32.npy");
        let call = [&["pack", vectors.to_str().unwrap(), "-o", "in.cvc"], options].concat();
        self.folder.cvc(&call).ok();
    }

    fn cvc(&self, args: &[&str], standin: &str) -> Run {
        let driver = self.driver.to_str().unwrap();
        self.folder.cvc_with(args, &[("LD_LIBRARY_PATH", driver), ("CVC_STANDIN", standin)])
    }

    fn refused(&self, standin: &str, words: &[&str]) {
        self.pack(&[]);
        self.cvc(&["unpack", "in.cvc", "-o", "out.npy", "--device", "cuda"], standin).refused(2, words);
        assert!(!self.folder.path("out.npy").exists());
        // The same is said where devices are listed, and automatic choice goes on.
        let devices = self.cvc(&["devices"], standin).ok();
        let line =
            devices.stdout().lines().skip_while(|line| !line.contains("cuda")).nth(1).unwrap().to_owned();
        assert!(line.contains("not available: ") && words.iter().all(|word| line.contains(word)), "{line}");
        self.cvc(&["unpack", "in.cvc", "-o", "auto.npy"], standin).status(0);
    }
}

#[test]
fn no_library_is_not_a_panic() {
    let machine = Machine::with(|within| std::fs::create_dir_all(within).map(|()| within.to_owned()));
    // On a machine with a real driver that one is found.
    if machine.cvc(&["devices"], "").ok().stdout().contains("libcuda.so.1") {
        machine.refused(
            "",
            &["cuda", "libcuda.so.1, nvcuda.dll) is not installed", "install a driver of release 525"],
        );
    }
}

#[test]
fn a_library_that_lacks_a_call_is_too_old() {
    let machine = Machine::with(|within| Standin::folder_without("cuMemAllocAsync", within));
    machine.refused("", &["lacks cuMemAllocAsync", "too old", "install a driver of release 525"]);
}

#[test]
fn an_old_driver_is_told_from_its_version() {
    Machine::new().refused("version=11040", &["supports CUDA 11.4", "install a driver of release 525"]);
}

#[test]
fn no_card_is_told_from_no_driver() {
    Machine::new().refused("init=100", &["sees no card", "nvidia-smi", "CUDA_VISIBLE_DEVICES"]);
    Machine::new().refused("devices=0", &["sees no card"]);
}

#[test]
fn a_stub_library_is_named() {
    Machine::new().refused("init=34", &["stub library", "for linking only", "library path"]);
}

#[test]
fn a_driver_that_does_not_read_our_ptx_is_told_so_before_anything_is_decoded() {
    let machine = Machine::new();
    machine.pack(&[]);
    let words = [
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        "supports CUDA 12.0",
        "PTX 8.0",
        "install a driver of release 525",
    ];
    machine.cvc(&["unpack", "in.cvc", "-o", "out.npy", "--device", "cuda"], "ptx=78").refused(2, &words);
    // It shows only when the card is opened, so automatic choice finds it out and goes on.
    let devices = machine.cvc(&["devices"], "ptx=78").ok();
    let line =
        devices.stdout().lines().skip_while(|line| !line.contains("stand-in 0")).nth(1).unwrap().to_owned();
    assert!(line.contains("not available: ") && words.iter().all(|word| line.contains(word)), "{line}");
    assert!(!devices.stdout().lines().any(|line| line.starts_with("* cuda")), "{}", devices.stdout());
    let auto = machine.cvc(&["unpack", "in.cvc", "-o", "auto.npy"], "ptx=78").status(0);
    assert!(auto.stderr().starts_with("warning: passed over cuda stand-in 0: "), "{}", auto.stderr());
}

#[test]
fn a_card_that_is_not_there_is_refused_with_those_that_are() {
    let machine = Machine::new();
    machine.pack(&[]);
    let call = ["unpack", "in.cvc", "-o", "out.npy", "--device", "cuda:3"];
    machine.cvc(&call, "devices=2").refused(2, &["cuda:0 (stand-in 0), cuda:1 (stand-in 1)"]);
}

#[test]
fn devices_lists_cards_with_their_memory_and_driver() {
    let machine = Machine::new();
    let devices = machine.cvc(&["devices", "--json"], "devices=2,mib=512").ok().json();
    let cards: Vec<_> =
        devices["devices"].as_array().unwrap().iter().filter(|d| d["backend"] == "cuda").collect();
    assert_eq!(cards.len(), 2);
    for (number, card) in cards.iter().enumerate() {
        assert_eq!((&card["number"], &card["available"]), (&number.into(), &true.into()), "{card}");
        assert_eq!(card["limits"]["memory_bytes"], 512 << 20);
        assert!(card["reason"].as_str().unwrap().contains("driver that supports CUDA 12.0"), "{card}");
    }
    assert_eq!(devices["auto"], "cuda");
}

#[test]
fn every_codec_unpacks_to_the_same_bytes_as_on_the_cpu() {
    let machine = Machine::new();
    for options in [
        vec!["--codec", "fp16"],
        vec!["--codec", "bf16"],
        vec!["--codec", "int8"],
        vec!["--codec", "int8", "--scope", "dim"],
        vec!["--codec", "int8", "--scope", "chunk"],
        vec!["--codec", "lossless"],
        vec!["--codec", "zstd"],
        vec!["--codec", "raw"],
        vec!["--layout", "v1", "--codec", "lossless"],
    ] {
        machine.pack(&options);
        for dtype in ["f32", "f16"] {
            let unpack = |device, out, standin| {
                let call = [
                    "unpack", "in.cvc", "-o", out, "--dtype", dtype, "--rows", "3..1999", "--device", device,
                ];
                machine.cvc(&call, standin).ok();
            };
            unpack("cpu", "cpu.npy", "");
            for standin in ["", "early"] {
                unpack("cuda", "cuda.npy", standin);
                assert!(
                    machine.folder.read("cpu.npy") == machine.folder.read("cuda.npy"),
                    "{options:?} as {dtype} {standin}"
                );
            }
        }
    }
}

#[test]
fn a_card_that_fails_is_an_error_with_the_chunk_and_no_file() {
    let machine = Machine::new();
    machine.pack(&["--chunk-rows", "100"]);
    let call = ["unpack", "in.cvc", "-o", "out.npy", "--device", "cuda"];
    let words = ["CUDA_ERROR_ILLEGAL_ADDRESS", "chunk", "until the program starts again", "--device cpu"];
    let run = machine.cvc(&call, "fault_at=1").status(1);
    for word in words {
        assert!(run.stderr().contains(word), "expected {word:?} in: {}", run.stderr());
    }
    assert!(!machine.folder.path("out.npy").exists());
}

/// The file decodes right with a driver that does as it is told, as late or as early as it may, and not with this one.
fn caught(mutant: &str) {
    let machine = Machine::new();
    machine.pack(&["--codec", "int8", "--chunk-rows", "300"]);
    let right = |device, standin: &str| {
        let run = machine.cvc(&["unpack", "in.cvc", "-o", "out.npy", "--device", device], standin);
        run.stderr().is_empty().then(|| machine.folder.read("out.npy"))
    };
    let expected = right("cpu", "");
    assert!(expected.is_some());
    assert!(right("cuda", "") == expected && right("cuda", "early") == expected);
    let unnoticed = |when: &str| right("cuda", &format!("{mutant},{when}")) == expected;
    assert!(!unnoticed("") || !unnoticed("early"), "{mutant} was not noticed");
}

#[test]
fn a_launch_on_the_wrong_stream_is_caught() {
    caught("wrong_stream");
}

#[test]
fn a_stream_that_does_not_wait_is_caught() {
    caught("no_waits");
}

#[test]
fn a_host_that_does_not_wait_is_caught() {
    caught("no_event_sync");
}

#[test]
fn a_card_that_cannot_search_is_passed_over_by_automatic_choice_alone() {
    let machine = Machine::new();
    machine.pack(&[]);
    let queries = example("minilm2k.queries.npy");
    let call = ["search", "in.cvc", queries.to_str().unwrap(), "-k", "3", "--json"];
    let search = |device: &str| machine.cvc(&[call.as_slice(), &["--device", device]].concat(), "");
    let (auto, on_cpu) = (search("auto").ok().json(), search("cpu").ok().json());
    assert_eq!((&auto["indices"], &auto["scores"]), (&on_cpu["indices"], &on_cpu["scores"]));
    let on_card = search("cuda");
    if on_card.stderr().is_empty() {
        assert_eq!((&on_card.json()["device"], &auto["device"]), (&"cuda".into(), &"cuda".into()));
        return;
    }
    on_card.refused(1, &["cuda cannot run search", "choose another device"]);
    assert_eq!(auto["device"], "cpu");
    let passed_over = auto["passed_over"][0].as_str().unwrap();
    assert!(passed_over.starts_with("cuda ") && passed_over.contains("cannot do search"), "{passed_over}");
    // People are told, too.
    let run = machine.cvc(&call[..5], "").status(0);
    assert!(run.stderr().starts_with("warning: passed over cuda "), "{}", run.stderr());
}
