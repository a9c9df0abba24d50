//! `cvc store`: what is saved, changed, compacted, packed and imported comes back.

use crate::harness::{Folder, example};

/// A store with the sample in it.
fn sample(codec: &str) -> (Folder, String) {
    let folder = Folder::new();
    let input = example("minilm2k.f32.npy").to_str().unwrap().to_owned();
    folder.cvc(&["store", "create", "s"]).ok();
    folder.cvc(&["store", "save", "s", "emb", &input, "--codec", codec]).ok();
    (folder, input)
}

#[test]
fn arrays_are_changed_in_place() {
    let (folder, input) = sample("raw");
    folder.cvc(&["store", "load", "s", "emb", "-o", "all.npy"]).ok();
    folder.cvc(&["store", "load", "s", "emb", "-o", "two.npy", "--rows", "-1,5"]).ok();
    let all = folder.f32s("all.npy");
    let dim = all.len() / 2000;
    assert_eq!(all, crate::harness::f32s(&cvc_conformance::npy::Npy::read(input.as_ref())));
    assert_eq!(folder.f32s("two.npy"), [&all[1999 * dim..], &all[5 * dim..6 * dim]].concat());

    folder.cvc(&["store", "append", "s", "emb", "two.npy", "--buffered"]).ok();
    folder.cvc(&["store", "replace", "s", "emb", "two.npy", "--rows", "0..2"]).ok();
    folder.cvc(&["store", "delete", "s", "emb", "--rows", "2..10"]).ok();
    folder.cvc(&["store", "clone", "s", "emb", "copy"]).ok();
    folder.cvc(&["store", "rename", "s", "emb", "v"]).ok();
    let info = folder.cvc(&["store", "info", "s", "--json"]).ok().json();
    assert_eq!((&info["arrays"][1]["name"], &info["arrays"][1]["shape"][0]), (&"v".into(), &1994.into()));
    assert_eq!(info["arrays"][1]["deleted"], 8);
    assert_eq!(info["commit"], 6);
    folder.cvc(&["store", "load", "s", "v", "-o", "end.npy", "--rows", "1992.."]).ok();
    assert_eq!(folder.f32s("end.npy"), folder.f32s("two.npy"));
    // As it was before.
    folder.cvc(&["store", "load", "s", "emb", "-o", "before.npy", "--at", "1"]).ok();
    assert_eq!(folder.f32s("before.npy"), all);

    folder.cvc(&["store", "load", "s", "v", "-o", "v.npy"]).ok();
    folder.cvc(&["store", "compact", "s"]).ok();
    folder.cvc(&["store", "prune", "s"]).ok();
    folder.cvc(&["store", "load", "s", "v", "-o", "again.npy"]).ok();
    assert_eq!(folder.read("v.npy"), folder.read("again.npy"));
    folder.cvc(&["store", "load", "s", "emb", "-o", "x.npy", "--at", "1"]).refused(2, &["cannot be read"]);
    assert!(folder.cvc(&["store", "verify", "s", "--json"]).ok().json()["ok"] == true);
    folder.cvc(&["store", "delete", "s", "v"]).ok();
    assert_eq!(folder.cvc(&["store", "list", "s"]).ok().stdout().trim(), "copy");
}

#[test]
fn a_store_is_packed_and_unpacked() {
    let (folder, _) = sample("int8");
    folder.write("ids.txt", "a\nb\n");
    folder.cvc(&["store", "save", "s", "ids", "ids.txt", "--unique"]).ok();
    folder.cvc(&["store", "pack", "s", "-o", "p.zip"]).ok();
    let info = folder.cvc(&["store", "info", "p.zip", "--json"]).ok().json();
    assert_eq!((&info["arrays"][0]["codec"], &info["arrays"][1]["name"]), (&"int8".into(), &"ids".into()));
    folder.cvc(&["store", "unpack", "p.zip", "-o", "t"]).ok();
    for store in ["s", "t"] {
        folder.cvc(&["store", "load", store, "emb", "-o", &format!("{store}.npy")]).ok();
        folder.cvc(&["store", "load", store, "ids", "-o", &format!("{store}.txt")]).ok();
    }
    assert_eq!(folder.read("s.npy"), folder.read("t.npy"));
    assert_eq!(folder.read("t.txt"), b"a\nb\n");
    folder.cvc(&["store", "append", "t", "ids", "ids.txt"]).refused(2, &["unique"]);
}

#[test]
fn damage_is_named_and_wrong_calls_are_refused() {
    let (folder, input) = sample("raw");
    folder.cvc(&["store", "append", "s", "none", &input]).refused(2, &["the store has emb"]);
    folder.cvc(&["store", "info", "nowhere"]).refused(2, &["create one"]);
    folder.cvc(&["store", "create", "s"]).refused(2, &["already"]);
    folder.cvc(&["store", "import", "s", "nowhere"]).refused(2, &["nowhere"]);
    let segment = folder.path("s").join("seg-0000000000000001.cvc");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let report = folder.cvc(&["store", "verify", "s", "--json"]).status(1).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["damaged"][0]["file"], "seg-0000000000000001.cvc");
    assert_eq!(report["damaged"][0]["arrays"][0], "emb");
}
