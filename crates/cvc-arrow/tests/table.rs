//! Columns of a file, and parts that end where blocks do.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float16Type, Float32Type, Int64Type, UInt16Type};
use arrow_schema::DataType;
use cvc::codec::strings::Strings;
use cvc::{ArrayOptions, ArrayRows, DType, Layout, ReadOptions, Reader, RowSlice, WriteOptions, Writer};
use cvc_arrow::values::tensor_shape;
use cvc_arrow::{Error, Part, Table, divide, windows};

const ROWS: u32 = 500;

/// A file of four columns with chunks of 128 rows, and of one array with rows of its own.
fn file() -> Arc<Reader> {
    let array = |name: &str, dtype, inner: &[u32], codec: &str, rows| {
        ArrayOptions::values(name, dtype, inner, codec).block_rows(rows)
    };
    let options = WriteOptions::new(Layout::Native)
        .with_array(array("vectors", DType::F32, &[8], "fp16", 8))
        .and_then(|options| options.with_array(array("id", DType::I64, &[], "raw", 32)))
        .and_then(|options| options.with_array(array("image", DType::U16, &[2, 3], "raw", 16)))
        .and_then(|options| options.with_array(ArrayOptions::strings("title", "raw").block_rows(16)))
        .and_then(|options| options.chunk_rows(128));
    let mut writer = Writer::in_memory(options.unwrap()).unwrap();
    let vectors: Vec<f32> = (0..ROWS * 8).map(|n| n as f32 / 8.0).collect();
    let ids: Vec<i64> = (0..i64::from(ROWS)).collect();
    let images: Vec<u16> = (0..ROWS * 6).map(|n| u16::try_from(n).unwrap()).collect();
    let mut titles = Strings::default();
    (0..ROWS).for_each(|row| titles.push(&format!("row {row}")));
    let rows: [ArrayRows<'_>; 4] = [
        RowSlice::new(&vectors, 8).unwrap().into(),
        RowSlice::new(&ids, 1).unwrap().into(),
        RowSlice::new(&images, 6).unwrap().into(),
        (&titles).into(),
    ];
    writer.write_last(&rows).unwrap();
    writer
        .attach(ArrayOptions::values("few", DType::F32, &[], "raw"), RowSlice::new(&[1f32, 2.0], 1).unwrap())
        .unwrap();
    let bytes = writer.finish_bytes().unwrap();
    Arc::new(Reader::new(Box::new(bytes), ReadOptions::default()).unwrap())
}

#[test]
fn columns_hold_the_rows_in_the_order_they_are_asked_for() {
    let table = Table::new(file(), None, None).unwrap();
    let names: Vec<_> = table.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["vectors", "id", "image", "title"], "`few` has other rows");
    assert_eq!(tensor_shape(table.schema().field(2), &[6]), Some(vec![2, 3]));
    let batch = table.read(&[130..132, 7..8]).unwrap();
    assert_eq!(batch.schema(), *table.schema());
    assert_eq!(batch["id"].as_primitive::<Int64Type>().values().to_vec(), [130, 131, 7]);
    let vectors = batch["vectors"].as_fixed_size_list().values().as_primitive::<Float32Type>();
    assert_eq!(vectors.values()[16..18], [7.0, 7.125]);
    let images = batch["image"].as_fixed_size_list().values().as_primitive::<UInt16Type>();
    assert_eq!(images.values()[12..], [42, 43, 44, 45, 46, 47]);
    let titles: Vec<_> = batch["title"].as_string::<i64>().iter().flatten().collect();
    assert_eq!(titles, ["row 130", "row 131", "row 7"]);
    assert!(table.read(&[ROWS.into()..u64::from(ROWS) + 1]).is_err());
}

#[test]
fn a_projection_has_its_columns_alone_and_even_none_has_rows() {
    let table = Table::new(file(), None, Some(DType::F16)).unwrap();
    let some = table.project(&[3, 0]);
    let batch = some.read(&[1..3]).unwrap();
    assert_eq!(batch.schema().field(0).name(), "title");
    let halves = batch["vectors"].as_fixed_size_list();
    assert_eq!(halves.values().as_primitive::<Float16Type>().values()[0].to_f32(), 1.0);
    let none = table.project(&[]);
    assert_eq!((none.read(&[1..3, 4..5]).unwrap().num_rows(), none.row_len()), (3, 0));
    assert_eq!(none.divide(&[0..ROWS.into()], 1).unwrap().len(), 1);
}

#[test]
fn arrays_that_are_no_table_are_refused() {
    let reader = file();
    let error = Table::new(reader.clone(), Some(&[1, 4]), None).err().unwrap();
    assert!(matches!(&error, Error::Lengths { lengths } if lengths == "id 500, few 2"), "{error}");
    assert_eq!(Table::new(reader.clone(), Some(&[4]), None).unwrap().rows(), 2);
    assert!(matches!(Table::new(reader, Some(&[]), None), Err(Error::NoArrays)));
    let options = WriteOptions::new(Layout::Native).vectors(DType::Bf16, 4, "raw").unwrap();
    let bytes = Writer::in_memory(options).unwrap().finish_bytes().unwrap();
    let reader = Arc::new(Reader::new(Box::new(bytes), ReadOptions::default()).unwrap());
    let table = Table::new(reader, None, None).unwrap();
    let DataType::FixedSizeList(item, 4) = table.schema().field(0).data_type() else { panic!() };
    assert_eq!(item.data_type(), &DataType::Float32, "Arrow has no bfloat16");
    assert_eq!((table.rows(), table.divide(&[], 1).unwrap(), table.chunks()), (0, vec![], vec![]));
}

/// The parts, which have every row of `ranges` once and in order.
fn divided(table: &Table, ranges: &[Range<u64>], max_len: u64) -> Vec<Part> {
    let parts = table.divide(ranges, max_len).unwrap();
    let all: Vec<u64> = parts.iter().flat_map(|part| part.ranges.iter().cloned().flatten()).collect();
    assert_eq!(all, ranges.iter().cloned().flatten().collect::<Vec<u64>>());
    assert!(
        parts
            .iter()
            .all(|part| part.rows == part.ranges.iter().map(|rows| rows.end - rows.start).sum::<u64>())
    );
    parts
}

#[test]
fn parts_end_with_blocks_or_chunks_and_are_no_larger_than_asked_for() {
    let table = Table::new(file(), None, None).unwrap();
    let ends = |parts: &[Part]| parts.iter().map(|part| part.ranges.last().unwrap().end).collect::<Vec<_>>();
    // 32 + 8 + 12 bytes of numbers a row, and of text some 15.
    let whole = divided(&table, &[0..500], 1 << 20);
    assert_eq!(ends(&whole), [500]);
    let chunks = table
        .reader()
        .index()
        .arrays
        .iter()
        .filter(|array| array.rows == 500)
        .flat_map(|array| &array.chunks);
    let stored: u64 = chunks.map(|chunk| chunk.bytes.end - chunk.bytes.start).sum();
    assert_eq!(whole[0].stored_len, stored);
    assert!((500 * 60..500 * 80).contains(&whole[0].decoded_len), "{whole:?}");
    assert_eq!(ends(&divided(&table, &[0..500], 300 * 70)), [256, 500], "chunks, where some have room");
    assert_eq!(ends(&divided(&table, &[0..500], 70 * 70))[..3], [64, 128, 192], "blocks, where none has");
    let least = divided(&table, &[0..500], 1);
    assert_eq!(ends(&least)[..5], [32, 64, 96, 128, 160], "one block, where less is wanted");
    assert!(table.divide(&[499..501], 1).is_err() && table.divide(&[u64::MAX - 1..u64::MAX], 1).is_err());
    // Two ranges that need one block stay together.
    let parts = divided(&table, &[0..3, 5..7, 40..41, 200..300], 1);
    let expected: [&[Range<u64>]; 5] = [&[0..3, 5..7], &[40..41], &[200..224], &[224..256], &[256..288]];
    assert!(
        parts.iter().map(|part| &part.ranges[..]).zip(expected).all(|(part, expected)| part == expected),
        "{parts:?}"
    );
}

#[test]
fn arrays_whose_blocks_never_end_together_are_divided_by_the_widest() {
    let array = |name: &str, inner: &[u32], rows| {
        ArrayOptions::values(name, DType::F32, inner, "raw").block_rows(rows)
    };
    let options = WriteOptions::new(Layout::Native)
        .with_array(array("wide", &[16], 16))
        .and_then(|options| options.with_array(array("odd", &[], 999)))
        .and_then(|options| options.chunk_rows(3000));
    let mut writer = Writer::in_memory(options.unwrap()).unwrap();
    let (wide, odd) = (vec![1f32; 3000 * 16], vec![2f32; 3000]);
    writer.write_last(&[RowSlice::new(&wide, 16).unwrap(), RowSlice::new(&odd, 1).unwrap()]).unwrap();
    let reader = Reader::new(Box::new(writer.finish_bytes().unwrap()), ReadOptions::default()).unwrap();
    let parts = divided(&Table::new(Arc::new(reader), None, None).unwrap(), &[0..3000], 100 * 68);
    assert!(parts.len() > 20 && parts.iter().all(|part| part.decoded_len <= 100 * 68));
    assert!(parts.iter().all(|part| part.ranges[0].start % 16 == 0));
}

#[test]
fn windows_are_of_at_most_so_many_rows_and_never_empty() {
    assert_eq!(
        windows(&[0..3, 3..3, 10..14], 2),
        [vec![0..2], vec![2..3, 10..11], vec![11..13], vec![13..14]]
    );
    assert_eq!(windows(&[5..6], 0), [[5..6]]);
    assert!(windows(&[], 7).is_empty() && windows(&[4..4], 7).is_empty());
    assert_eq!(windows(&[1..u64::MAX], u64::MAX), [[1..u64::MAX]]);
}

#[test]
fn arrays_that_arrow_has_no_type_for_are_divided_as_well() {
    let array = |name: &str, dtype, inner: &[u32], rows| {
        ArrayOptions::values(name, dtype, inner, "raw").block_rows(rows)
    };
    let options = WriteOptions::new(Layout::Native)
        .with_array(array("waves", DType::C64, &[4], 16))
        .and_then(|options| options.with_array(array("id", DType::I64, &[], 32)));
    let mut writer = Writer::in_memory(options.unwrap()).unwrap();
    let (waves, ids) = (vec![[0u8; 8]; 400], vec![0i64; 100]);
    let waves = RowSlice::from_bytes(DType::C64, 100, 4, waves.as_flattened()).unwrap();
    writer.write_last(&[waves, RowSlice::new(&ids, 1).unwrap()]).unwrap();
    let reader =
        Arc::new(Reader::new(Box::new(writer.finish_bytes().unwrap()), ReadOptions::default()).unwrap());
    assert!(matches!(Table::new(reader.clone(), None, None), Err(Error::NoType { dtype: DType::C64, .. })));
    let parts = divide(&reader, &[0, 1], None, &[0..100], 40 * 40).unwrap();
    assert_eq!(parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [32, 32, 36]);
    assert_eq!(parts.iter().map(|part| part.decoded_len).sum::<u64>(), 100 * 40);
}
