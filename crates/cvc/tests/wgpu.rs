//! Files on a GPU: the golden ones, and one whose rows are more than a binding holds. The CPU is the judge, bit for bit.
#![cfg(feature = "wgpu")]

use cvc::codec::{DeviceBuffer, Metric, Queries};
use cvc::{
    AlignedBytes, AnyBackend, ArrayDType, DType, DeviceChoice, DeviceKind, DeviceMemory, HostBuffer, Layout,
    Reader, RowSlice, Rows, WriteOptions, Writer, choose, devices,
};
use cvc_conformance::golden::{DECOMPRESSED, Manifest, native_files};
use cvc_conformance::require;

fn backend() -> Option<AnyBackend> {
    let chosen = choose(&DeviceChoice::Only(DeviceKind::Wgpu));
    require::device("wgpu", chosen).map(|chosen| chosen.backend)
}

/// Reads rows of every array of a file on the device and on the CPU; how many arrays that were.
fn compare(name: &str, reader: &Reader, backend: &AnyBackend) -> usize {
    let mut compared = 0;
    for array in reader.arrays().filter(|array| matches!(array.index().dtype, ArrayDType::Values(_))) {
        let Ok(own) = array.dtype() else { continue };
        let halves = [DType::F32, DType::F16, DType::Bf16];
        let dtypes = if halves.contains(&own) { &halves[..] } else { &[own] };
        let rows = array.rows();
        // All, and some in an order of their own.
        let some = Rows::from(vec![rows / 2..rows, 0..rows / 3]);
        for (dtype, rows) in dtypes.iter().flat_map(|dtype| [(*dtype, Rows::ALL), (*dtype, some.clone())]) {
            let len = match array.decoded_len(rows.clone(), dtype) {
                Ok(len) => len,
                Err(error) if dtype == own => panic!("{name}: {error}"),
                // Not every codec of halves makes other floats.
                Err(_) => continue,
            };
            let (mut found, mut expected) = (AlignedBytes::new(), AlignedBytes::new());
            let (found, expected) = (found.resize(len), expected.resize(len));
            found.fill(0xa5);
            let mut dst = HostBuffer::from_bytes(dtype, found).unwrap();
            let on_device = backend.read_into(&array, rows.clone(), dtype, &mut dst);
            let mut dst = HostBuffer::from_bytes(dtype, expected).unwrap();
            let on_cpu = array.decode(&cvc::CpuBackend::new(), rows, dtype, &mut dst);
            match (on_device, on_cpu) {
                (Ok(()), Ok(())) => assert!(found == expected, "{name}: {} as {dtype}", array.index().name),
                (Err(device), Err(cpu)) => assert_eq!(device.to_string(), cpu.to_string(), "{name}"),
                (device, cpu) => panic!("{name}: {device:?}, on the cpu {cpu:?}"),
            }
        }
        compared += 1;
    }
    compared
}

#[test]
fn golden_files_load_to_the_same_bits() {
    let Some(backend) = backend() else { return };
    let (mut files, mut arrays) = (0, 0);
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_none()) {
            let Ok(reader) = Reader::open(manifest.path(&entry.file)) else { continue };
            arrays += compare(&entry.file, &reader, &backend);
            files += 1;
        }
    }
    for file in native_files() {
        arrays += compare(&file.name, &Reader::open(&file.path).unwrap(), &backend);
        files += 1;
    }
    assert!(files > 180 && arrays >= files, "{files} files, {arrays} arrays");
}

#[test]
fn golden_files_are_searched_with_the_same_result() {
    let Some(backend) = backend() else { return };
    let (mut on_device, mut on_host) = (0, 0);
    for file in native_files() {
        let reader = Reader::open(&file.path).unwrap();
        for array in reader.arrays().filter(|array| matches!(array.index().dtype, ArrayDType::Values(_))) {
            let dim = array.dim() as usize;
            if dim == 0 {
                continue;
            }
            let values: Vec<f32> = (0..2 * dim).map(|i| ((i * 7 + 3) % 11) as f32).collect();
            for metric in [Metric::Cosine, Metric::L2, Metric::Js] {
                let queries = Queries::new(metric, RowSlice::new(&values, dim).unwrap()).unwrap();
                let rows = Rows::from(vec![array.rows() / 3..array.rows(), 0..array.rows() / 4]);
                let found = backend.scan(&array, rows.clone(), &queries, 5);
                let expected = array.scan(&cvc::CpuBackend::new(), rows, &queries, 5);
                let (found, expected) = match (found, expected) {
                    (Ok(found), Ok(expected)) => (found, expected),
                    (Err(device), Err(cpu)) => {
                        assert_eq!(device.to_string(), cpu.to_string(), "{}", file.name);
                        continue;
                    }
                    (device, cpu) => panic!("{}: {device:?}, on the cpu {cpu:?}", file.name),
                };
                let told = backend.explain_scan(&array, metric).unwrap();
                let of_host = told.starts_with("searched on the host, not on ");
                assert!(of_host || told.ends_with("exact scores on the host"), "{told}");
                assert!(of_host || metric != Metric::Js, "{told}");
                *(if of_host { &mut on_host } else { &mut on_device }) += 1;
                assert_eq!(found.nan_rows, expected.nan_rows, "{}", file.name);
                for (found, expected) in found.tops.into_iter().zip(expected.tops) {
                    assert_eq!(found.into_hits(metric), expected.into_hits(metric), "{}", file.name);
                }
            }
        }
    }
    assert!(on_device > 20 && on_host > 20, "{on_device} on the device, {on_host} on the host");
}

#[test]
fn rows_beyond_a_binding_and_rows_that_stay_on_the_device() {
    let Some(AnyBackend::Wgpu(backend)) = backend() else { return };
    // 153.6 MB of f32; a binding of a software adapter has 128 MiB.
    let (rows, dim) = (50_000, 768);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.cvc");
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, dim, "int8").unwrap();
    let mut writer = Writer::create(&path, options).unwrap();
    let mut state = 7u32;
    let some: Vec<f32> = (0..5000 * dim)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        })
        .collect();
    for _ in 0..rows / 5000 {
        writer.write_vectors(RowSlice::new(&some, dim as usize).unwrap()).unwrap();
    }
    writer.finish().unwrap();

    let reader = Reader::open(&path).unwrap();
    let vectors = reader.vectors().unwrap();
    let expected: Vec<f32> = vectors.read(..).unwrap();
    let on_device = vectors.read_on(&*backend, .., DType::F32).unwrap();
    assert_eq!(on_device.byte_len(), u64::from(dim) * rows * 4);
    let mut found = vec![0f32; expected.len()];
    backend.download(&on_device, &mut HostBuffer::new(&mut found)).unwrap();
    let same = |found: &[f32]| found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same(&found));
    // In parts, on their way to the host.
    found.fill(f32::NAN);
    vectors.decode_to_host(&*backend, .., DType::F32, &mut HostBuffer::new(&mut found)).unwrap();
    assert!(same(&found));
    // A destination of another size is refused before anything is read.
    let error =
        vectors.decode_to_host(&*backend, ..9, DType::F32, &mut HostBuffer::new(&mut found)).unwrap_err();
    assert!(error.is_usage(), "{error}");
}

#[test]
fn what_is_taken_by_itself_is_no_software() {
    let software: Vec<bool> = devices()
        .iter()
        .filter(|report| report.kind == DeviceKind::Wgpu && report.available)
        .map(|report| {
            assert!(report.limits.iter().any(|(name, limit)| *name == "binding_bytes" && *limit > 0));
            !report.automatic
        })
        .collect();
    let chosen = choose(&DeviceChoice::Auto).unwrap();
    assert!(chosen.report.automatic);
    if software.iter().all(|software| *software) {
        assert_ne!(chosen.report.kind, DeviceKind::Wgpu);
    }
}
