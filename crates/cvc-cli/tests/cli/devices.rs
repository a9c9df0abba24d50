//! Devices on the command line: what is there, what is missing, and the same bits from all of them.

use cvc_conformance::require;

use crate::harness::{Folder, example};

/// A folder with the sample packed in several ways, as `<codec>.cvc`.
fn packed(codecs: &[&str]) -> Folder {
    let folder = Folder::new();
    let input = example("minilm2k.f32.npy");
    for codec in codecs {
        let (layout, name) = codec.split_once('.').unwrap_or(("native", codec));
        let output = format!("{codec}.cvc");
        let input = input.to_str().unwrap();
        folder.cvc(&["pack", input, "-o", &output, "--codec", name, "--layout", layout]).ok();
    }
    folder
}

/// Whether a GPU, or a program that plays one, is there: said aloud if it is not.
fn has_wgpu(folder: &Folder) -> bool {
    let json = folder.cvc(&["devices", "--json"]).ok().json();
    let devices = json["devices"].as_array().unwrap().clone();
    let of_wgpu = devices.iter().filter(|device| device["backend"] == "wgpu");
    let available = of_wgpu.clone().any(|device| device["available"] == true);
    let reasons: Vec<&str> = of_wgpu.filter_map(|device| device["reason"].as_str()).collect();
    require::device("wgpu", if available { Ok(()) } else { Err(reasons.join("; ")) }).is_some()
}

#[test]
fn a_gpu_gives_the_bytes_of_the_cpu() {
    let codecs = ["raw", "fp16", "bf16", "int8", "zstd", "lossless", "v0.int8", "v1.lossless", "v1.fp16"];
    let folder = packed(&codecs);
    if !has_wgpu(&folder) {
        return;
    }
    for codec in codecs {
        for dtype in ["f32", "f16", "bf16"] {
            let file = format!("{codec}.cvc");
            for device in ["cpu", "wgpu:0"] {
                let output = format!("{}.npy", &device[..4.min(device.len())]);
                folder
                    .cvc(&[
                        "unpack", &file, "-o", &output, "--rows", "3..1999", "--dtype", dtype, "--device",
                        device,
                    ])
                    .ok();
            }
            assert!(folder.read("cpu.npy") == folder.read("wgpu.npy"), "{codec} as {dtype}");
        }
    }
    let json = folder.cvc(&["unpack", "int8.cvc", "-o", "a.npy", "--device", "wgpu", "--json"]).ok().json();
    assert_eq!((&json["device"], json["passed_over"].as_array().unwrap().len()), (&"wgpu".into(), 0));
    let name = folder.cvc(&["devices", "--json"]).ok().json()["devices"].as_array().unwrap().iter().find_map(
        |device| (device["backend"] == "wgpu").then(|| device["name"].as_str().unwrap().to_uppercase()),
    );
    let device = format!("wgpu:{}", name.unwrap());
    folder.cvc(&["unpack", "int8.cvc", "-o", "a.npy", "--device", &device]).ok();
    folder
        .cvc(&["unpack", "int8.cvc", "-o", "a.npy", "--device", "wgpu:no such card"])
        .refused(2, &["wgpu:no such card", "those found are wgpu:0 ("]);
}

#[test]
fn explain_says_what_runs_on_the_host() {
    let folder = packed(&["int8", "zstd", "v1.lossless"]);
    if !has_wgpu(&folder) {
        return;
    }
    for (file, step) in [
        ("int8.cvc", "; affine_u8 on "),
        ("zstd.cvc", "; inflate zstd on the host, copy on "),
        ("v1.lossless.cvc", "; take the payload apart on the host, dict_planes on "),
    ] {
        let run = folder.cvc(&["info", file, "--explain", "--device", "wgpu"]).ok();
        assert!(run.stdout().contains(step), "{}", run.stdout());
    }
}

/// Without a driver, and without the library that looks for drivers: an error where a GPU was asked for, the CPU where
/// none was.
#[cfg(target_os = "linux")]
#[test]
fn without_a_driver_it_is_said_what_is_missing() {
    let folder = packed(&["int8"]);
    std::fs::create_dir(folder.path("lib")).unwrap();
    for name in ["libvulkan.so", "libvulkan.so.1"] {
        folder.write(&format!("lib/{name}"), "no library");
    }
    let library = folder.path("lib");
    let none = "/nothing/here.json";
    let no_driver = [("VK_DRIVER_FILES", none), ("VK_ICD_FILENAMES", none)];
    let no_library = [("LD_LIBRARY_PATH", library.to_str().unwrap())];
    for variables in [&no_driver[..], &no_library] {
        let json = folder.cvc_with(&["devices", "--json"], variables).ok().json();
        let devices = json["devices"].as_array().unwrap();
        let wgpu: Vec<_> = devices.iter().filter(|device| device["backend"] == "wgpu").collect();
        assert_eq!((wgpu.len(), &wgpu[0]["available"], &wgpu[0]["name"]), (1, &false.into(), &().into()));
        let reason = wgpu[0]["reason"].as_str().unwrap();
        assert!(reason.contains("no graphics adapter was found (vulkan "), "{reason}");
        assert!(reason.contains("libvulkan1") && reason.contains("use the cpu"), "{reason}");

        let run = folder.cvc_with(&["unpack", "int8.cvc", "-o", "a.npy", "--device", "wgpu"], variables);
        run.refused(2, &["device wgpu is not available: no graphics adapter was found", "install"]);
        assert!(!folder.path("a.npy").exists());
        let run = folder.cvc_with(&["unpack", "int8.cvc", "-o", "a.npy", "--json"], variables).ok();
        let passed_over = run.json()["passed_over"].to_string();
        assert!(passed_over.contains("wgpu: "), "{passed_over}");
        std::fs::remove_file(folder.path("a.npy")).unwrap();
    }
}
