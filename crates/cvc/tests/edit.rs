//! Files with the arrays of others: what stays is copied as it is.

#[path = "support/reading.rs"]
mod reading;

use cvc::format::Stored;
use cvc::{
    Array, ArrayOptions, ArrayRows, DType, Error, Json, Layout, Overwrite, Reader, RowSlice, Strings,
    WriteOptions, Writer,
};

use reading::read_rows;

const ROWS: u16 = 100;

/// Vectors, ids, labels, nothing, and an array with fewer rows, in chunks of 17.
fn table() -> Vec<u8> {
    let vectors: Vec<f32> = (0..ROWS * 6).map(|at| f32::from(at * 61 % 997) * 0.37).collect();
    let ids: Vec<i64> = (0..ROWS).map(i64::from).collect();
    let labels: Strings = (0..ROWS).map(|row| format!("label {row}")).collect();
    let of = |name, dtype, inner: &[u32], codec| ArrayOptions::values(name, dtype, inner, codec);
    let mut options = WriteOptions::new(Layout::Native)
        .chunk_rows(17)
        .unwrap()
        .metadata(Json::object([("made", Json::from("by hand"))]))
        .unwrap();
    for array in [
        of("vectors", DType::F32, &[6], "int8").provenance(Json::object([("model", Json::from("m"))])),
        of("ids", DType::I64, &[], "raw").block_rows(5),
        ArrayOptions::strings("labels", "zstd").block_rows(3),
        of("nothing", DType::F32, &[0], "raw"),
    ] {
        options = options.with_array(array).unwrap();
    }
    let mut writer = Writer::in_memory(options).unwrap();
    writer.put_section(0..0, Json::from("of no rows")).unwrap();
    writer.add_section(10..30, Json::from("of some")).unwrap();
    let rows: [ArrayRows<'_>; 4] = [
        RowSlice::new(&vectors, 6).unwrap().into(),
        RowSlice::new(&ids, 1).unwrap().into(),
        (&labels).into(),
        RowSlice::from_bytes(DType::F32, ids.len(), 0, &[]).unwrap().into(),
    ];
    writer.write(&rows).unwrap();
    writer
        .attach(of("centroids", DType::F32, &[5], "fp16"), RowSlice::new(&vectors[..100], 5).unwrap())
        .unwrap();
    writer.finish_bytes().unwrap()
}

/// All that a file says of an array but its name and where its chunks lie.
fn said(array: Array<'_>) -> String {
    let index = array.index();
    let chunks: Vec<String> = index
        .chunks
        .iter()
        .map(|chunk| {
            let Stored::Blocked(blocked) = &chunk.stored else { panic!("not of a native file") };
            format!("{:?} {} {:?}", chunk.rows, chunk.bytes.end - chunk.bytes.start, blocked)
        })
        .collect();
    format!(
        "{:?} {:?} {} {:?} {:?} {chunks:?}",
        index.dtype, index.inner, index.codec, index.codec_options, index.provenance
    )
}

#[test]
fn arrays_that_stay_are_copied_as_they_are() {
    let before = Reader::from_bytes(table()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    let arrays =
        [("labels", "words"), ("vectors", "vectors"), ("nothing", "void"), ("centroids", "centroids")];
    let mut writer = before.copy_arrays(&path, &arrays, Overwrite::Refuse).unwrap();
    let flags: Vec<u8> = vec![1; usize::from(ROWS)];
    writer
        .attach(ArrayOptions::values("flags", DType::U8, &[], "raw"), RowSlice::new(&flags, 1).unwrap())
        .unwrap();
    assert!(!path.exists(), "a file that is not finished has no name");
    writer.finish().unwrap();

    let after = Reader::open(&path).unwrap();
    assert_eq!(after.array_names().collect::<Vec<_>>(), ["words", "vectors", "void", "centroids", "flags"]);
    for (from, to) in arrays {
        let (from, to) = (before.array(from).unwrap(), after.array(to).unwrap());
        assert_eq!(said(from), said(to));
        assert_eq!(read_rows(from, .., 7).unwrap(), read_rows(to, .., 9).unwrap());
    }
    assert_eq!(after.array("flags").unwrap().read::<u8>(..).unwrap(), flags);
    assert_eq!(before.index().metadata, after.index().metadata);
    let sections = |reader: &Reader| format!("{:?}", reader.sections());
    assert_eq!(sections(&before), sections(&after));
    assert!(after.verify().unwrap().is_ok());
}

#[test]
fn what_cannot_be_copied_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    let mut damaged = table();
    let chunk =
        Reader::from_bytes(damaged.clone()).unwrap().array("ids").unwrap().index().chunks[2].bytes.clone();
    damaged[usize::try_from(chunk.end).unwrap() - 1] ^= 1;
    let reader = Reader::from_bytes(damaged).unwrap();
    let cvcf = {
        let options = WriteOptions::new(Layout::V1).vectors(DType::F32, 1, "fp16").unwrap();
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write_vectors(RowSlice::new(&[1.0_f32], 1).unwrap()).unwrap();
        Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap()
    };
    let error = |reader: &Reader, arrays: &[(&str, &str)]| -> Error {
        reader.copy_arrays(&path, arrays, Overwrite::Allow).map(drop).unwrap_err()
    };
    assert!(error(&reader, &[("ids", "ids")]).to_string().contains("damaged"));
    assert!(error(&reader, &[("absent", "ids")]).is_usage());
    assert!(error(&reader, &[("labels", "a"), ("vectors", "a")]).is_usage());
    assert!(error(&cvcf, &[("vectors", "vectors")]).to_string().contains("native"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    // What is whole can be had without the rest.
    reader.copy_arrays(&path, &[("labels", "labels")], Overwrite::Refuse).unwrap().finish().unwrap();
}
