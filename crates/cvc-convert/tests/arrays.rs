//! Files of arrays: what comes back from a `.cvc` file are the arrays that went in, whatever their shapes.
#![cfg(all(feature = "safetensors", feature = "numpack", feature = "csv"))]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use cvc::input::{Matrix, Options as Opening};
use cvc::output::npz::write_npz;
use cvc::{AlignedBytes, ArrayOptions, DType, Json, Layout, Reader, RowSlice, WriteOptions, Writer};
use cvc_convert::{Error, Format, Options};
use support::{convert, minilm, only_in, sections};

/// A file of tensors: its header as it is given, and so many bytes.
fn tensors(path: &Path, header: &str, bytes: &[u8]) {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(bytes);
    fs::write(path, file).unwrap();
}

fn with_sections(path: &Path) -> Vec<f32> {
    let (values, dim) = minilm();
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 384, "raw").unwrap();
    let mut writer =
        Writer::create(path, options.metadata(Json::object([("year", Json::from(2024u64))])).unwrap())
            .unwrap();
    writer.write_vectors(RowSlice::new(&values, dim).unwrap()).unwrap();
    for (rows, metadata) in sections() {
        writer.add_section(rows, metadata).unwrap();
    }
    writer.finish().unwrap();
    values
}

#[test]
fn tensors_come_back_with_sections_metadata_and_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let values = with_sections(&path("a.cvc"));
    let done = convert(&path("a.cvc"), &path("a.safetensors"), &Options::default()).unwrap();
    assert_eq!((done.sections, done.not_kept), (58, vec![]));
    let done = convert(&path("a.safetensors"), &path("b.cvc"), &Options::default()).unwrap();
    assert_eq!((done.rows, done.sections), (2000, 58));
    let reader = Reader::open(path("b.cvc")).unwrap();
    let found: Vec<_> =
        reader.sections().iter().map(|section| (section.rows.clone(), section.metadata.clone())).collect();
    assert_eq!(found, sections());
    assert_eq!(reader.index().metadata.get("year"), Some(&Json::from(2024u64)), "a number stays one");
    assert_eq!(reader.vectors().unwrap().read::<f32>(..).unwrap(), values);

    // Of every dtype, of several shapes, in an order that is not that of their sizes.
    let header = r#"{"__metadata__":{"format":"pt"},"bias":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
        "half":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]},"deep":{"dtype":"F16","shape":[2,1,3],"data_offsets":[12,24]},
        "none":{"dtype":"F32","shape":[0,3],"data_offsets":[24,24]},"wide":{"dtype":"I64","shape":[2,1],"data_offsets":[24,40]}}"#;
    let bytes: Vec<u8> = (0..40).collect();
    tensors(&path("c.safetensors"), header, &bytes);
    let done = convert(&path("c.safetensors"), &path("c.cvc"), &Options::default()).unwrap();
    // That with the most bytes has the rows of the file; the others follow those with as many.
    assert_eq!(
        (done.rows, done.arrays.as_slice()),
        (2, ["half", "deep", "wide", "bias", "none"].map(String::from).as_slice())
    );
    let reader = Reader::open(path("c.cvc")).unwrap();
    assert_eq!(reader.array("deep").unwrap().index().shape(), [2, 1, 3]);
    assert_eq!(reader.array("half").unwrap().index().dtype.name(), "bf16");
    convert(&path("c.cvc"), &path("d.safetensors"), &Options::default()).unwrap();
    let back = fs::read(path("d.safetensors")).unwrap();
    let header_len = usize::try_from(u64::from_le_bytes(back[..8].try_into().unwrap())).unwrap();
    let header = Json::parse(&back[8..8 + header_len], 8).unwrap();
    assert_eq!(header.get("__metadata__").unwrap().get("format"), Some(&Json::from("pt")));
    let of = |name: &str| {
        let offsets = header.get(name).unwrap().get("data_offsets").unwrap().as_array().unwrap();
        let at = |end: usize| 8 + header_len + usize::try_from(offsets[end].as_u64().unwrap()).unwrap();
        &back[at(0)..at(1)]
    };
    assert_eq!(
        (of("bias"), of("half"), of("deep"), of("wide")),
        (&bytes[..4], &bytes[4..12], &bytes[12..24], &bytes[24..])
    );
    convert(&path("d.safetensors"), &path("e.cvc"), &Options::default()).unwrap();
    assert_eq!(
        fs::read(path("e.cvc")).unwrap(),
        fs::read(path("c.cvc")).unwrap(),
        "the order of arrays comes back too"
    );
}

#[test]
fn headers_of_tensors_that_lie_are_errors_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let refuse = |message: &str| {
        let error = convert(&path, &folder.path().join("a.cvc"), &Options::default()).unwrap_err();
        assert!(
            error.to_string().contains(message) && error.to_string().contains("a.safetensors"),
            "{error}"
        );
        only_in(folder.path(), &[&path]);
        error
    };
    for header in [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[4,20]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#,
        r#"{"a":{"dtype":"F31","shape":[4],"data_offsets":[0,16]}}"#,
        r#"{"a":"#,
    ] {
        tensors(&path, header, &[0; 16]);
        assert!(matches!(refuse("is no sound safetensors file"), Error::Damaged { .. }));
    }
    tensors(&path, r#"{"a":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]}}"#, &[0; 16]);
    refuse("array for; leave it out");
    tensors(&path, r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#, &[0; 4]);
    refuse("single value");
    tensors(&path, r#"{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#, &[1, 2]);
    refuse("neither 0 nor 1");
    tensors(&path, "{}", &[]);
    refuse("holds no arrays");
    for (ours, message) in [
        (r#"{\"rows\":3,\"sections\":[[0,2,{}]]}"#, "sections of 3 rows, and no array has as many"),
        (r#"{\"rows\":2,\"sections\":[[1,2,{}]]}"#, "a section that is not"),
        ("no", "is no JSON"),
    ] {
        let header = format!(
            r#"{{"__metadata__":{{"cvc":"{ours}"}},"a":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#
        );
        tensors(&path, &header, &[0; 2]);
        assert!(matches!(refuse(message), Error::Damaged { .. }));
    }
    let good = r#"{"a":{"dtype":"U8","shape":[40,2],"data_offsets":[0,80]}}"#;
    tensors(&path, good, &[0; 80]);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        refuse("it was cut or changed");
    }
}

#[test]
fn arrays_of_other_lengths_leave_the_first_its_sections() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let only = |name: &str| Options { columns: Some(vec![name.into()]), ..Options::default() };
    for with_sections in [true, false] {
        // The first has fewer bytes than the other, which has the name that is looked for elsewhere.
        let array = |name, dim| ArrayOptions::values(name, DType::F32, &[dim], "raw");
        let options = WriteOptions::new(Layout::Native).with_array(array("small", 2)).unwrap();
        let mut writer = Writer::create(path("a.cvc"), options).unwrap();
        writer.write(&[RowSlice::new(&[1f32; 200], 2).unwrap()]).unwrap();
        if with_sections {
            writer.add_section(0..40, Json::object([("source", Json::from("a"))])).unwrap();
        }
        writer.attach(array("vectors", 8), RowSlice::new(&[2f32; 8000], 8).unwrap()).unwrap();
        writer.finish().unwrap();
        convert(&path("a.cvc"), &path("a.safetensors"), &Options::default()).unwrap();
        let done = convert(&path("a.safetensors"), &path("b.cvc"), &Options::default()).unwrap();
        assert_eq!((done.rows, done.sections), (100, usize::from(with_sections)));
        assert_eq!(fs::read(path("a.cvc")).unwrap(), fs::read(path("b.cvc")).unwrap());
        // Either alone, from either file.
        for source in ["a.safetensors", "a.cvc"] {
            let target = |name| path(if source == "a.cvc" { "c.safetensors" } else { name });
            let done = convert(&path(source), &target("c.cvc"), &only("vectors")).unwrap();
            assert_eq!(
                (done.rows, done.sections, done.not_kept.len()),
                (1000, 0, usize::from(with_sections))
            );
            if with_sections {
                assert!(done.not_kept[0].contains("they speak of the first array"), "{:?}", done.not_kept);
            }
            let done = convert(&path(source), &target("c.cvc"), &only("small")).unwrap();
            assert_eq!((done.rows, done.sections), (100, usize::from(with_sections)));
            assert_eq!(done.not_kept, [""; 0]);
        }
        // A table has as many rows in each column.
        let error = convert(
            &path("a.cvc"),
            &path("a.csv"),
            &Options { columns: Some(vec!["small".into(), "vectors".into()]), ..Options::default() },
        );
        let error = error.unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains("it has 1000 rows, the others 100"),
            "{error}"
        );
    }
}

#[test]
fn rows_without_values_are_not_counted_to_the_end_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let header = |rows: u64| format!(r#"{{"a":{{"dtype":"F32","shape":[{rows},0],"data_offsets":[0,0]}}}}"#);
    tensors(&path("a.safetensors"), &header(1 << 60), &[]);
    let error = convert(&path("a.safetensors"), &path("a.cvc"), &Options::default()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("its rows have no values"), "{error}");
    only_in(folder.path(), &[&path("a.safetensors")]);
    tensors(&path("a.safetensors"), &header(3_000_000), &[]);
    convert(&path("a.safetensors"), &path("a.cvc"), &Options::default()).unwrap();
    let done = convert(&path("a.cvc"), &path("a.csv"), &Options::default()).unwrap();
    assert_eq!((done.rows, fs::read(path("a.csv")).unwrap().len()), (3_000_000, 2 + 3_000_000 * 3));
}

#[test]
fn a_tensor_cannot_have_the_name_of_what_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let options = WriteOptions::new(Layout::Native)
        .with_array(ArrayOptions::values("__metadata__", DType::U8, &[], "raw"))
        .unwrap();
    let mut writer = Writer::create(path("a.cvc"), options).unwrap();
    writer.write(&[RowSlice::from_bytes(DType::U8, 3, 1, &[1, 2, 3]).unwrap()]).unwrap();
    writer.finish().unwrap();
    let error = convert(&path("a.cvc"), &path("a.safetensors"), &Options::default()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("metadata under this name"), "{error}");
    only_in(folder.path(), &[&path("a.cvc")]);
}

#[test]
fn options_that_say_nothing_of_a_conversion_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    with_sections(&path("a.cvc"));
    let with = |set: fn(&mut Options)| {
        let mut options = Options::default();
        set(&mut options);
        options
    };
    let of_text = [
        with(|options| options.vectors = Some("d*".into())),
        with(|options| options.strings = vec!["a".into()]),
        with(|options| options.text_dtype = Some(DType::F64)),
    ];
    let of_packing = [
        with(|options| options.codecs = vec![(None, "int8".into())]),
        with(|options| options.float_codec = Some("int8".into())),
        with(|options| options.sections_from = vec!["a".into()]),
        with(|options| options.chunk_rows = Some(7)),
        with(|options| options.scope = Some(cvc::Scope::Row)),
        with(|options| options.nonfinite = Some(cvc::NonFinite::Saturate)),
        with(|options| options.metadata = vec![("year".into(), Json::from(2024u64))]),
    ];
    for target in ["b.csv", "b.npy", "b.safetensors"] {
        for options in &of_packing {
            let error = convert(&path("a.cvc"), &path(target), options).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("about making a .cvc file"), "{error}");
        }
        for options in &of_text {
            let error = convert(&path("a.cvc"), &path(target), options).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("about reading .csv"), "{error}");
        }
    }
    convert(&path("a.cvc"), &path("a.npy"), &Options::default()).unwrap();
    for options in &of_text {
        let error = convert(&path("a.npy"), &path("b.cvc"), options).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("about reading .csv"), "{error}");
    }
    only_in(folder.path(), &[&path("a.cvc"), &path("a.npy")]);
}

fn values_of(path: &Path, member: Option<&str>) -> (DType, u64, u32, Vec<u8>) {
    let options = Opening { member: member.map(str::to_owned), temp_dir: None };
    let matrix = Matrix::open(path, &options).unwrap();
    let mut scratch = AlignedBytes::new();
    let bytes = matrix.read(0..matrix.rows(), &mut scratch).unwrap().to_vec();
    (matrix.dtype(), matrix.rows(), matrix.dim(), bytes)
}

#[test]
fn archives_come_back_with_arrays_of_other_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (ids, vectors, centroids) =
        ([1i64, 2, 3].map(i64::to_le_bytes), [[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], [[9f32, 8.0]]);
    let le =
        |rows: &[[f32; 2]]| rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let arrays: [(&str, DType, &[u64], Vec<u8>); 3] = [
        ("centroids", DType::F32, &[1, 2], le(&centroids)),
        ("id", DType::I64, &[3], ids.as_flattened().to_vec()),
        ("embedding", DType::F32, &[3, 2], le(&vectors)),
    ];
    let lent: Vec<(&str, DType, &[u64], &[u8])> =
        arrays.iter().map(|(n, d, s, b)| (*n, *d, *s, b.as_slice())).collect();
    write_npz(fs::File::create(path("a.npz")).unwrap(), &lent).unwrap();
    let done = convert(&path("a.npz"), &path("a.cvc"), &Options::default()).unwrap();
    assert_eq!(
        (done.rows, done.arrays.as_slice()),
        (3, ["id", "embedding", "centroids"].map(String::from).as_slice())
    );
    convert(&path("a.cvc"), &path("b.npz"), &Options::default()).unwrap();
    for (name, dtype, shape, bytes) in &arrays {
        let (found, rows, dim, values) = values_of(&path("b.npz"), Some(name));
        assert_eq!((found, rows, u64::from(dim)), (*dtype, shape[0], shape.get(1).copied().unwrap_or(1)));
        if cfg!(target_endian = "little") {
            assert_eq!(&values, bytes);
        }
    }
    // A table has no place for another length, and says so.
    let done = convert(&path("a.cvc"), &path("a.csv"), &Options::default()).unwrap();
    assert_eq!(done.not_kept.len(), 1);
    assert!(done.not_kept[0].contains("\"centroids\": it has 1 rows, the others 3"), "{:?}", done.not_kept);
    let error = convert(&path("a.cvc"), &path("a.npy"), &Options::default()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("holds one array; choose one"), "{error}");
    let only = Options { columns: Some(vec!["centroids".into()]), ..Options::default() };
    convert(&path("a.cvc"), &path("a.npy"), &only).unwrap();
    assert_eq!(values_of(&path("a.npy"), None).1, 1);
}

#[test]
fn the_kin_of_fvecs_come_back_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let row = |values: [[u8; 4]; 2]| [2i32.to_le_bytes(), values[0], values[1]].as_flattened().to_vec();
    let floats =
        [row([1f32.to_le_bytes(), 2f32.to_le_bytes()]), row([3f32.to_le_bytes(), (-0f32).to_le_bytes()])]
            .concat();
    let ints =
        [row([1i32.to_le_bytes(), (-2i32).to_le_bytes()]), row([i32::MIN.to_le_bytes(), 7i32.to_le_bytes()])]
            .concat();
    let bytes = [&2i32.to_le_bytes()[..], &[7, 255], &2i32.to_le_bytes()[..], &[0, 1]].concat();
    for (extension, bytes) in [("fvecs", floats), ("ivecs", ints), ("bvecs", bytes)] {
        let (before, after) = (path(&format!("a.{extension}")), path(&format!("b.{extension}")));
        fs::write(&before, &bytes).unwrap();
        convert(&before, &path("a.cvc"), &Options::default()).unwrap();
        convert(&path("a.cvc"), &after, &Options::default()).unwrap();
        assert_eq!(fs::read(&after).unwrap(), bytes, "{extension}");
    }
    let error = convert(&path("a.cvc"), &path("c.fvecs"), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("it holds u8, and a .fvecs file f32"), "{error}");
}

#[test]
fn columns_in_fortran_order_are_rows_like_any() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut header = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let text = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
    header.extend(format!("{text:<117}\n").bytes());
    // Column by column.
    header.extend([1f32, 4.0, 2.0, 5.0, 3.0, 6.0].iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path("a.npy"), header).unwrap();
    convert(&path("a.npy"), &path("a.cvc"), &Options::default()).unwrap();
    let rows = Reader::open(path("a.cvc")).unwrap().vectors().unwrap().read::<f32>(..).unwrap();
    assert_eq!(rows, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// A directory as NumPack writes it, with the rows of one array.
fn numpack(directory: &Path, rows: &[[f32; 2]]) {
    fs::create_dir(directory).unwrap();
    let mut metadata = b"NPKB".to_vec();
    metadata.extend(1u32.to_le_bytes());
    metadata.extend([0; 8]);
    metadata.extend(1u32.to_le_bytes());
    let text = |text: &str| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat();
    metadata.extend(text("v"));
    metadata.extend(2u32.to_le_bytes());
    metadata.extend((rows.len() as u64).to_le_bytes());
    metadata.extend(2u64.to_le_bytes());
    metadata.extend(text("data_v.npkd"));
    metadata.extend(0u64.to_le_bytes());
    metadata.extend(((rows.len() * 8) as u64).to_le_bytes());
    // The number of f32.
    metadata.push(10);
    metadata.extend([0; 1 + 4 + 8 + 8 + 1]);
    fs::write(directory.join("metadata.npkm"), metadata).unwrap();
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(directory.join("data_v.npkd"), bytes).unwrap();
}

#[test]
fn a_directory_of_numpack_is_read_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, file) = (folder.path().join("pack"), folder.path().join("a.cvc"));
    numpack(&directory, &[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    assert_eq!(Format::of(&directory), Some(Format::NumPack));
    let done = convert(&directory, &file, &Options::default()).unwrap();
    assert_eq!((done.rows, done.arrays), (3, vec!["v".to_owned()]));
    let rows = Reader::open(&file).unwrap().array("v").unwrap().read::<f32>(..).unwrap();
    assert_eq!(rows, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    only_in(folder.path(), &[&directory, &file]);
}

#[test]
fn codecs_are_for_matrices_of_floats_unless_an_array_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "id,v,w,score,text\n1,[1 2],[3 4],0.5,a\n2,[1 3],[3 5],0.25,b\n").unwrap();
    let codecs = vec![
        (None, "int8".to_owned()),
        (Some("w".to_owned()), "fp16".to_owned()),
        (Some("id".to_owned()), "zstd".to_owned()),
    ];
    convert(&path, &folder.path().join("a.cvc"), &Options { codecs, ..Options::default() }).unwrap();
    let reader = Reader::open(folder.path().join("a.cvc")).unwrap();
    let found: Vec<(String, String)> =
        reader.arrays().map(|array| (array.index().name.clone(), array.index().codec.to_string())).collect();
    let expected = [("id", "zstd"), ("v", "int8"), ("w", "fp16"), ("score", "raw"), ("text", "zstd")];
    assert_eq!(found, expected.map(|(name, codec)| (name.to_owned(), codec.to_owned())));
}

#[test]
fn calls_that_make_no_conversion_say_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let of = |source: &str, target: &str| {
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        let error = convert(&path(source), &path(target), &Options::default()).unwrap_err();
        assert!(error.is_usage(), "{error}");
        error.to_string()
    };
    assert!(of("a.cvc", "b.cvc").contains("both files are .cvc files"));
    assert!(of("a.csv", "b.npy").contains("neither of the two is a .cvc file"));
    assert!(of("a.xyz", "b.cvc").contains("a.xyz: its name says nothing"));
    assert!(of("a.cvc", "b").contains("known are .cvc, .npy"));
    for name in ["b.h5", "b.hdf5", "b.zarr", "b.pt", "b.pth"] {
        assert!(of(name, "a.cvc").contains("cvc.convert(source, target)"));
        assert!(of("a.cvc", name).contains("in Python only"));
    }
    for name in ["b.csv", "b.parquet", "b.arrow", "b.safetensors", "b.npy"] {
        assert!(of(name, "a.cvc").contains("cannot be read"), "{name}");
    }
    assert!(of("a.cvc", "b.csv").contains("a.cvc"));
    only_in(folder.path(), &[]);
}

#[test]
fn work_that_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    with_sections(&path("a.cvc"));
    for target in ["b.csv", "b.npy", "b.safetensors"] {
        let mut stop = |done: u64, all: Option<u64>| {
            assert_eq!(all, Some(2000));
            if done > 0 { Err(Error::Stopped) } else { Ok(()) }
        };
        let error =
            cvc_convert::convert(&path("a.cvc"), &path(target), &Options::default(), &mut stop).unwrap_err();
        assert!(matches!(error, Error::Stopped));
        only_in(folder.path(), &[&path("a.cvc")]);
    }
}
