//! Tables: what comes back from a `.cvc` file is the table that went in, and what cannot go in is refused by its name.
#![cfg(all(feature = "parquet", feature = "ipc", feature = "csv"))]

mod support;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array,
    Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema};
use cvc::{DType, Json, Reader};
use cvc_convert::{Error, Options};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use support::{convert, labels, minilm, names, only_in, sections};

fn field(name: &str, array: &ArrayRef) -> Field {
    Field::new(name, array.data_type().clone(), true)
}

fn batch(columns: &[(&str, ArrayRef)], metadata: &[(&str, &str)]) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| field(name, array)).collect();
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let schema = Arc::new(Schema::new(fields).with_metadata(metadata));
    RecordBatch::try_new(schema, columns.iter().map(|(_, array)| array.clone()).collect()).unwrap()
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float32, true))
}

fn fixed(values: Vec<f32>, dim: i32) -> ArrayRef {
    Arc::new(FixedSizeListArray::try_new(item(), dim, Arc::new(Float32Array::from(values)), None).unwrap())
}

fn list(values: Vec<f32>, lens: &[usize]) -> ArrayRef {
    let ends = OffsetBuffer::from_lengths(lens.iter().copied());
    Arc::new(ListArray::try_new(item(), ends, Arc::new(Float32Array::from(values)), None).unwrap())
}

fn write(path: &Path, batch: &RecordBatch) {
    let file = File::create(path).unwrap();
    if path.extension().unwrap() == "parquet" {
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    } else {
        let mut writer = FileWriter::try_new(file, &batch.schema()).unwrap();
        // Several batches, the first of them empty.
        writer.write(&batch.slice(0, 0)).unwrap();
        let half = batch.num_rows() / 2;
        writer.write(&batch.slice(0, half)).unwrap();
        writer.write(&batch.slice(half, batch.num_rows() - half)).unwrap();
        writer.finish().unwrap();
    }
}

/// The whole table in one batch.
fn read(path: &Path) -> RecordBatch {
    let file = File::open(path).unwrap();
    let mut batches: Vec<RecordBatch> = if path.extension().unwrap() == "parquet" {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        builder.with_batch_size(1 << 20).build().unwrap().collect::<Result<_, _>>().unwrap()
    } else {
        FileReader::try_new(file, None).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(batches.len(), 1, "small tables are written in one batch");
    batches.pop().unwrap()
}

/// The real vectors as a table in which every row has the label of its section.
fn table(vectors: ArrayRef) -> RecordBatch {
    let rows = i32::try_from(vectors.len()).unwrap();
    let columns: [(&str, ArrayRef); 6] = [
        ("id", Arc::new(Int64Array::from_iter_values((0..rows).map(i64::from)))),
        ("section", Arc::new(StringArray::from(labels()))),
        ("name", Arc::new(LargeStringArray::from(names()))),
        ("embedding", vectors),
        ("score", Arc::new(Float64Array::from_iter_values((0..rows).map(|row| f64::from(row) / 7.0)))),
        ("even", Arc::new((0..rows).map(|row| Some(row % 2 == 0)).collect::<BooleanArray>())),
    ];
    batch(&columns, &[("model", "all-MiniLM-L6-v2")])
}

fn sections_from(columns: &[&str]) -> Options {
    Options { sections_from: columns.iter().map(|name| (*name).to_owned()).collect(), ..Options::default() }
}

#[test]
fn tables_with_58_sections_by_a_label_come_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let (values, dim) = minilm();
    let rows = values.len() / dim;
    for extension in ["parquet", "arrow"] {
        for vectors in [fixed(values.clone(), 384), list(values.clone(), &vec![dim; rows])] {
            let path = |name: &str| folder.path().join(format!("{name}.{extension}"));
            let before = table(vectors);
            write(&path("before"), &before);
            let file = folder.path().join("file.cvc");
            let done = convert(&path("before"), &file, &sections_from(&["section"])).unwrap();
            assert_eq!((done.rows, done.sections), (2000, 58));
            assert_eq!(done.arrays, ["id", "name", "embedding", "score", "even"]);

            let reader = Reader::open(&file).unwrap();
            let found: Vec<_> = reader
                .sections()
                .iter()
                .map(|section| (section.rows.clone(), section.metadata.clone()))
                .collect();
            assert_eq!(found, sections());
            let embedding = reader.array("embedding").unwrap();
            assert_eq!((embedding.dtype().unwrap(), &*embedding.index().codec), (DType::F32, "raw"));
            assert_eq!(embedding.read::<f32>(0..2000).unwrap(), values);
            assert_eq!(reader.index().metadata.get("model"), Some(&Json::from("all-MiniLM-L6-v2")));

            let done = convert(&file, &path("after"), &Options::default()).unwrap();
            assert_eq!((done.sections, done.not_kept), (58, vec![]));
            let after = read(&path("after"));
            assert_eq!(after.schema().fields(), before.schema().fields(), "names, types and order");
            assert_eq!(after.columns(), before.columns());
            if extension == "arrow" {
                assert_eq!(after.schema().metadata()["model"], "all-MiniLM-L6-v2");
            }
            // It says itself which column is of sections.
            let again = folder.path().join("again.cvc");
            assert_eq!(convert(&path("after"), &again, &Options::default()).unwrap().sections, 58);
            assert_eq!(fs::read(&again).unwrap(), fs::read(&file).unwrap(), "and nothing else has changed");
        }
    }
}

#[test]
fn labels_of_any_type_and_rows_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let (table, file, back) =
        (folder.path().join("t.parquet"), folder.path().join("t.cvc"), folder.path().join("b.parquet"));
    let columns: [(&str, ArrayRef); 5] = [
        ("year", Arc::new(Int32Array::from(vec![Some(2024), Some(2024), None, None, Some(-1), Some(-1)]))),
        ("vectors", fixed((0u8..12).map(f32::from).collect(), 2)),
        ("part", Arc::new(StringArray::from(vec![Some("b"), Some("a"), Some("a"), None, None, Some("a")]))),
        ("weight", Arc::new(Float32Array::from(vec![0.1, 0.1, 0.1, 0.1, 0.1, 0.5]))),
        ("new", Arc::new(BooleanArray::from(vec![true, true, true, true, false, false]))),
    ];
    let before = batch(&columns, &[]);
    write(&table, &before);
    convert(&table, &file, &sections_from(&["year", "part", "weight", "new"])).unwrap();
    let reader = Reader::open(&file).unwrap();
    let rows: Vec<_> = reader.sections().iter().map(|section| section.rows.clone()).collect();
    assert_eq!(rows, [0..1, 1..2, 2..3, 3..4, 4..5, 5..6], "rows stay where they are");
    assert_eq!(reader.sections()[0].metadata.get("year"), Some(&Json::from(2024u64)));
    assert!(reader.sections()[3].metadata.get("part").is_none(), "null is no label");
    convert(&file, &back, &Options::default()).unwrap();
    let after = read(&back);
    assert_eq!(after.schema().fields(), before.schema().fields());
    assert_eq!(after.columns(), before.columns());
}

#[test]
fn sections_of_a_file_that_was_no_table_become_columns() {
    use cvc::{Layout, RowSlice, WriteOptions, Writer};
    let folder = tempfile::tempdir().unwrap();
    let (file, table) = (folder.path().join("f.cvc"), folder.path().join("f.parquet"));
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 2, "raw").unwrap();
    let mut writer = Writer::create(&file, options).unwrap();
    writer.write_vectors(RowSlice::new(&[0f32; 12], 2).unwrap()).unwrap();
    let said =
        |source: &str, more: (&'static str, Json)| Json::object([("source", Json::from(source)), more]);
    writer.add_section(0..2, said("a", ("tags", Json::Array(vec![Json::from(1u64)])))).unwrap();
    writer.add_section(3..5, said("b", ("year", Json::from(2024u64)))).unwrap();
    writer.finish().unwrap();
    let done = convert(&file, &table, &Options::default()).unwrap();
    assert_eq!(done.not_kept.len(), 1, "{:?}", done.not_kept);
    assert!(done.not_kept[0].contains("label \"tags\""));
    let after = read(&table);
    let names: Vec<&str> = after.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["vectors", "source", "year"]);
    let source = after.column(1).as_any().downcast_ref::<StringArray>().unwrap();
    let expected = [Some("a"), Some("a"), None, Some("b"), Some("b"), None];
    assert_eq!(source.iter().collect::<Vec<_>>(), expected);
}

/// Converts a table that cannot be one, and gives the message.
fn refused(extension: &str, columns: &[(&str, ArrayRef)], options: &Options) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("t.{extension}"));
    write(&path, &batch(columns, &[]));
    let error = convert(&path, &folder.path().join("t.cvc"), options).unwrap_err();
    only_in(folder.path(), &[&path]);
    error
}

#[test]
fn what_no_array_can_hold_is_named_with_its_row() {
    for extension in ["parquet", "arrow"] {
        let nulls = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some(vec![Some(1.0), Some(2.0)]), None, Some(vec![Some(1.0), Some(2.0)])],
            2,
        );
        let null = ListArray::from_iter_primitive::<Float32Type, _, _>([
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(1.0), None]),
        ]);
        let cases: [(ArrayRef, &str); 5] = [
            (Arc::new(nulls), "column \"v\": row 1 is null"),
            (Arc::new(null), "column \"v\": row 1 has a null in it"),
            (list(vec![1.0; 7], &[2, 2, 3]), "column \"v\": row 2 is of another length"),
            (Arc::new(StringArray::from(vec![Some("a"), None])), "column \"v\": row 1 is null"),
            (
                Arc::new(arrow_array::Date32Array::from(vec![1, 2])),
                "column \"v\": it is of Arrow's type Date32, which a .cvc file has no array for",
            ),
        ];
        for (array, message) in cases {
            let error = refused(extension, &[("v", array)], &Options::default());
            assert!(matches!(error, Error::Column { .. }) && !error.is_usage(), "{error:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
        let number: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let error = refused(extension, &[("v", number.clone()), ("v", number.clone())], &Options::default());
        assert!(error.to_string().contains("two columns of this name"), "{error}");
        for (options, message) in [
            (sections_from(&["w"]), "has no such column; it has v"),
            (sections_from(&["v"]), "a file needs an array"),
            (sections_from(&["v", "v"]), "given twice"),
            (Options { columns: Some(vec!["w".into()]), ..Options::default() }, "has no such column"),
            (Options { codecs: vec![(Some("v".into()), "int9".into())], ..Options::default() }, "codec"),
            (
                Options { codecs: vec![(Some("w".into()), "raw".into())], ..Options::default() },
                "no column becomes",
            ),
        ] {
            let error = refused(extension, &[("v", number.clone())], &options);
            assert!(error.is_usage() && error.to_string().contains(message), "{error}");
        }
    }
}

#[test]
fn a_column_that_names_every_row_makes_no_sections() {
    let rows = 70_000;
    let columns: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(Int32Array::from_iter_values(0..rows))),
        ("v", Arc::new(Int32Array::from_iter_values(0..rows))),
    ];
    let error = refused("parquet", &columns, &sections_from(&["id"]));
    assert!(error.is_usage() && error.to_string().contains("more than 65536 sections"), "{error}");
}

#[test]
fn files_that_are_cut_or_changed_are_errors_and_leave_nothing() {
    let (values, _) = minilm();
    for extension in ["parquet", "arrow"] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, path, target) = (
            folder.path().join(format!("whole.{extension}")),
            folder.path().join(format!("cut.{extension}")),
            folder.path().join("t.cvc"),
        );
        let columns: [(&str, ArrayRef); 2] = [
            ("v", fixed(values[..384 * 20].to_vec(), 384)),
            ("n", Arc::new(StringArray::from(names()[..20].to_vec()))),
        ];
        write(&whole, &batch(&columns, &[]));
        let bytes = fs::read(&whole).unwrap();
        for len in (0..bytes.len()).step_by(211) {
            fs::write(&path, &bytes[..len]).unwrap();
            let error = convert(&path, &target, &Options::default()).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{len}: {error:?}");
            assert!(
                error.to_string().contains("cut.") && error.to_string().contains("write it again"),
                "{error}"
            );
            only_in(folder.path(), &[&whole, &path]);
        }
    }
}

#[test]
fn columns_can_be_chosen_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (values, _) = minilm();
    write(&path("a.parquet"), &table(fixed(values, 384)));
    let only = |names: &[&str]| Options {
        columns: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Options::default()
    };
    let options = Options { sections_from: vec!["section".into()], ..only(&["section", "embedding", "id"]) };
    let done = convert(&path("a.parquet"), &path("a.cvc"), &options).unwrap();
    assert_eq!((done.arrays, done.sections), (vec!["id".to_owned(), "embedding".to_owned()], 58));
    let done = convert(&path("a.cvc"), &path("b.arrow"), &only(&["section", "id"])).unwrap();
    assert_eq!((done.arrays, done.sections), (vec!["id".to_owned()], 58));
    let back = read(&path("b.arrow"));
    let names: Vec<&str> = back.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "section"]);
    let error = convert(&path("a.cvc"), &path("c.arrow"), &only(&["nothing"])).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("no such column"), "{error}");
}

#[test]
fn long_labels_are_read_in_batches_as_strings_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    // More than is held at a time.
    let rows = 70;
    let label = "x".repeat(1 << 20);
    let lines = (0..rows).map(|row| format!("{row},{label}\n"));
    fs::write(&path, ["id,source\n".to_owned()].into_iter().chain(lines).collect::<String>()).unwrap();
    let mut steps = Vec::new();
    let options = sections_from(&["source"]);
    let done = cvc_convert::convert(&path, &folder.path().join("a.cvc"), &options, &mut |done, _| {
        steps.push(done);
        Ok(())
    });
    assert_eq!(done.unwrap().sections, 1);
    assert_eq!(steps, [0, 64, rows]);
}

#[test]
fn a_table_without_rows_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let columns: [(&str, ArrayRef); 3] = [
        ("v", fixed(Vec::new(), 3)),
        ("text", Arc::new(StringArray::from(Vec::<String>::new()))),
        ("label", Arc::new(Int32Array::from(Vec::<i32>::new()))),
    ];
    write(&path("a.parquet"), &batch(&columns, &[]));
    let done = convert(&path("a.parquet"), &path("a.cvc"), &sections_from(&["label"])).unwrap();
    assert_eq!((done.rows, done.sections), (0, 0));
    assert_eq!(Reader::open(path("a.cvc")).unwrap().array("v").unwrap().index().shape(), [0, 3]);
    for name in ["b.parquet", "b.arrow", "b.csv"] {
        let done = convert(&path("a.cvc"), &path(name), &Options::default()).unwrap();
        assert_eq!((done.rows, done.arrays.len()), (0, 2), "{name}");
    }
    assert_eq!(fs::read_to_string(path("b.csv")).unwrap(), "v,text\n");
}

fn text(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn columns_of_text_are_gathered_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = "id,zip,dim_0,dim_1,part,score,new,list\n\
                  1,\"0,07\",0.5,1,a,0.1,true,\"[1.5,2]\"\n\
                  2,\"two\nlines\",-0.25,NaN,a,2,false,\"[3,4]\"\n\
                  3,\"say \"\"x\"\"\",1e-9,inf,b,3.5,true,\"[5,6]\"\n";
    let path = text(folder.path(), "a.csv", source);
    let file = folder.path().join("a.cvc");
    let options = Options { vectors: Some("dim_*".into()), ..sections_from(&["part"]) };
    let done = convert(&path, &file, &options).unwrap();
    assert_eq!((done.rows, done.sections), (3, 2));
    assert_eq!(done.arrays, ["id", "zip", "vectors", "score", "new", "list"]);
    let reader = Reader::open(&file).unwrap();
    let of = |name: &str| reader.array(name).unwrap().index().dtype.name();
    let dtypes = ["id", "zip", "vectors", "score", "new", "list"].map(of);
    assert_eq!(dtypes, ["i64", "utf8", "f32", "f64", "bool", "f32"]);
    let vectors = reader.array("vectors").unwrap().read::<f32>(..).unwrap();
    assert_eq!(vectors[..3], [0.5, 1.0, -0.25]);
    assert!(vectors[3].is_nan() && vectors[5].is_infinite());

    let back = folder.path().join("b.csv");
    convert(&file, &back, &Options::default()).unwrap();
    // Floats are written as such.
    let mut expected = source.to_owned();
    for (whole, float) in [
        ("0.5,1,", "0.5,1.0,"),
        (",2,false", ",2.0,false"),
        ("5,2]", "5,2.0]"),
        ("[3,4]", "[3.0,4.0]"),
        ("[5,6]", "[5.0,6.0]"),
    ] {
        expected = expected.replace(whole, float);
    }
    assert_eq!(fs::read_to_string(&back).unwrap(), expected);

    let tabs = folder.path().join("b.tsv");
    convert(&file, &tabs, &Options::default()).unwrap();
    assert!(fs::read_to_string(&tabs).unwrap().starts_with("id\tzip\tdim_0\tdim_1\tpart\t"));
    let again = folder.path().join("again.cvc");
    convert(&tabs, &again, &options).unwrap();
    let again = Reader::open(&again).unwrap();
    let strings = again.array("zip").unwrap().read_strings(..).unwrap();
    assert_eq!(strings.iter().collect::<Vec<_>>(), ["0,07", "two\nlines", "say \"x\""]);
}

#[test]
fn real_vectors_go_through_text_without_a_changed_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (values, _) = minilm();
    let values = values[..384 * 100].to_vec();
    write(&path("a.arrow"), &batch(&[("vectors", fixed(values.clone(), 384))], &[]));
    convert(&path("a.arrow"), &path("a.cvc"), &Options::default()).unwrap();
    convert(&path("a.cvc"), &path("a.csv"), &Options::default()).unwrap();
    convert(&path("a.csv"), &path("b.cvc"), &Options::default()).unwrap();
    let back = Reader::open(path("b.cvc")).unwrap().vectors().unwrap().read::<f32>(..).unwrap();
    assert_eq!(back, values);
}

#[test]
fn bad_text_is_named_by_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let gather = Options { vectors: Some("d*".into()), ..Options::default() };
    let plain = Options::default();
    for (source, options, message) in [
        ("d0,d1\n1,2\n3,x\n", &gather, "line 3, column \"d1\": \"x\" is no f32"),
        ("d0,d1\n1,2\n3,\n", &gather, "line 3, column \"d1\": it is empty"),
        ("d0,d1\n1,1e39\n", &gather, "line 2, column \"d1\": \"1e39\" is no f32"),
        ("a,n\n\"x\ny\",1\nz,one\n", &plain, "line 4, column \"n\": \"one\" is not a number"),
        (
            "v\n\"[1,2]\"\n\"[1,2,3]\"\n",
            &plain,
            "line 3, column \"v\": it has 3 values, and the first list of the column 2",
        ),
        ("v\n\"[1,2]\"\n\"[1,b]\"\n", &plain, "line 3, column \"v\": \"b\" is no f32"),
        ("v\ntrue\nTrue\n", &plain, "line 3, column \"v\": \"True\" is not true or false"),
        ("a,b\n1,2\n3\n", &plain, "line 3: it has 1 cells, and the first line names 2 columns"),
        ("a,a\n1,2\n", &plain, "two columns of this name"),
        ("", &plain, "no line with the names of the columns"),
        // Whole numbers stay what they are, or are refused.
        ("n\n9007199254740993\n1.5\n", &plain, "line 2, column \"n\": 9007199254740993 has more digits"),
        ("n\n0.5\n1\n-9007199254740993\n", &plain, "line 4, column \"n\": -9007199254740993 has more digits"),
        (
            "n\n18446744073709551615\n-1\n",
            &plain,
            "line 2, column \"n\": 18446744073709551615 has more digits",
        ),
        (
            "n\n1\n18446744073709551617\n",
            &plain,
            "line 3, column \"n\": 18446744073709551617 is no number that 64",
        ),
        (
            "n\n0.5\n18446744073709551617\n",
            &plain,
            "line 3, column \"n\": 18446744073709551617 is no number that 64",
        ),
        ("a,b\n1,2\n", &gather, "no column has such a name"),
        ("a,b\n1,\"x\n2,3\n4,5\n", &plain, "line 2: a quote that is opened there is not closed"),
        ("a,b\n1,2\n\"x,1\n2,3\n", &plain, "line 3: a quote that is opened there is not closed"),
        ("a,\"b\n1,2\n", &plain, "line 1: a quote that is opened there is not closed"),
    ] {
        let path = text(folder.path(), "a.csv", source);
        let error = convert(&path, &folder.path().join("a.cvc"), options).unwrap_err().to_string();
        assert!(error.contains(message), "{source:?}: {error}");
        assert!(error.contains("a.csv") || error.starts_with("vectors"), "{error}");
        only_in(folder.path(), &[&path]);
    }
    // Those that no number here holds are text; floats that are whole are floats.
    let source = "a,b,c\n18446744073709551617,100000000000000000000,9007199254740992\n7,0.5,1.5\n";
    let path = text(folder.path(), "a.csv", source);
    convert(&path, &folder.path().join("a.cvc"), &plain).unwrap();
    let reader = Reader::open(folder.path().join("a.cvc")).unwrap();
    let dtypes = ["a", "b", "c"].map(|name| reader.array(name).unwrap().index().dtype.name());
    assert_eq!(dtypes, ["utf8", "f64", "f64"]);
    convert(&folder.path().join("a.cvc"), &path, &plain).unwrap();
    let expected = source.replace("100000000000000000000,9007199254740992", "1e20,9007199254740992.0");
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    convert(&path, &folder.path().join("b.cvc"), &plain).unwrap();
    let again = Reader::open(folder.path().join("b.cvc")).unwrap();
    let values = |reader: &Reader| reader.array("b").unwrap().read::<f64>(..).unwrap();
    assert_eq!(values(&again), values(&reader));
    // What looks like numbers can be said to be none.
    let path = text(folder.path(), "a.csv", "a,n\n1,1\n2,one\n");
    let options = Options { strings: vec!["n".into()], ..Options::default() };
    let file = folder.path().join("a.cvc");
    convert(&path, &file, &options).unwrap();
    let reader = Reader::open(&file).unwrap();
    assert_eq!(reader.array("n").unwrap().read_strings(..).unwrap().iter().collect::<Vec<_>>(), ["1", "one"]);
}
