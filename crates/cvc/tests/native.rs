//! What a writer of native files promises: errors that name the argument, before anything is encoded where that is
//! possible; arrays beside each other and arrays of other lengths; and metadata that comes back as it was said.

#[path = "support/reading.rs"]
mod reading;

use std::fs;
use std::io::{self, Write};

use cvc::format::index::BlockedChunk;
use cvc::format::json::Style;
use cvc::format::{ChunkEntry, Stored};
use cvc::{
    ArrayDType, ArrayOptions, ArrayRows, Condition, DType, Error, Json, Layout, Loss, NonFinite, ReadOptions,
    Reader, RowSlice, Scope, Strings, WriteOptions, Writer,
};
use half::bf16;

use reading::{Copied, read_rows};

/// Asserts that the caller is blamed, and that the message has all of this in it.
#[track_caller]
fn usage<T>(result: Result<T, Error>, parts: &[&str]) {
    let Err(error) = result else { panic!("it was accepted; expected an error about {parts:?}") };
    let message = error.to_string();
    assert!(error.is_usage(), "not blamed on the caller: {message}");
    for part in parts {
        assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
    }
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), 64).unwrap()
}

fn native() -> WriteOptions {
    WriteOptions::new(Layout::Native)
}

fn rows(values: &[f32], dim: usize) -> RowSlice<'_> {
    RowSlice::new(values, dim).unwrap()
}

/// Values that no two rows have in common, a hundredth apart.
fn ramp(len: usize) -> Vec<f32> {
    (0u16..).map(|at| f32::from(at) * 0.01 - 1.0).take(len).collect()
}

/// A file of these arrays with rows of 2 values, all the same ones.
fn file(options: WriteOptions, rows: &[ArrayRows<'_>]) -> Vec<u8> {
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(rows).unwrap();
    writer.finish_bytes().unwrap()
}

fn blocked(chunk: &ChunkEntry) -> BlockedChunk {
    let Stored::Blocked(blocked) = chunk.stored else { panic!("not of a native file") };
    blocked
}

#[test]
fn unknown_codecs_are_refused_with_the_known_ones() {
    let codec = |name| native().vectors(DType::F32, 2, name);
    let known = "layout native has the codecs raw, fp16, bf16, int8, int4, bit1, lossless, zstd, gzip";
    // The names of upstream's codecs are not those of native files, nor the other way round.
    for name in ["none", "cvcf.int8", "int9", "", "RAW"] {
        usage(codec(name), &[&format!("codec = {name}"), known]);
    }
    for (layout, name) in [(Layout::V1, "raw"), (Layout::V0, "bf16"), (Layout::V2, "gzip")] {
        usage(WriteOptions::new(layout).vectors(DType::F32, 2, name), &[&format!("codec = {name}")]);
    }
    let strings = native().with_array(ArrayOptions::strings("titles", "int8"));
    usage(strings, &["codec = int8", "raw, zstd, gzip for strings"]);
}

#[test]
fn codecs_for_floats_refuse_other_values_and_say_what_takes_them() {
    for codec in ["fp16", "bf16", "int8", "int4", "bit1", "lossless"] {
        for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_float()) {
            let mut writer = Writer::in_memory(native().array("a", dtype, 1, codec).unwrap()).unwrap();
            let bytes = [0u64; 2];
            let rows =
                RowSlice::from_bytes(dtype, 1, 1, &bytemuck::cast_slice(&bytes)[..dtype.size()]).unwrap();
            let result = writer.write_vectors(rows).and_then(|()| writer.finish_bytes());
            usage(result, &["array \"a\"", codec, &format!("these are {dtype} values"), "use raw or zstd"]);
        }
    }
}

#[test]
fn block_and_chunk_rows_must_be_some_and_are_as_asked_for() {
    let array = || ArrayOptions::values("a", DType::F32, &[2], "raw");
    usage(native().with_array(array().block_rows(0)), &["block rows = 0", "at least 1 row"]);
    usage(native().chunk_rows(0), &["chunk rows = 0", "at least 1 row"]);
    let values = ramp(20);
    for (chunk_rows, block_rows, chunks, blocks) in [
        (1, 1, vec![1; 10], vec![1; 10]),
        (4, 3, vec![4, 4, 2], vec![2, 2, 1]),
        (3, 8, vec![3, 3, 3, 1], vec![1; 4]),
        (10, 1, vec![10], vec![10]),
        (u32::MAX, u32::MAX, vec![10], vec![1]),
    ] {
        let options =
            native().chunk_rows(chunk_rows).unwrap().with_array(array().block_rows(block_rows)).unwrap();
        let reader = Reader::from_bytes(file(options, &[rows(&values, 2).into()])).unwrap();
        let entries = &reader.vectors().unwrap().index().chunks;
        assert_eq!(entries.iter().map(ChunkEntry::row_count).collect::<Vec<_>>(), chunks);
        let counts: Vec<u32> =
            entries.iter().map(|entry| blocked(entry).block_count(entry.row_count())).collect();
        assert_eq!(counts, blocks);
        assert_eq!(reader.vectors().unwrap().read::<f32>(..).unwrap(), values);
    }
}

#[test]
fn by_default_chunks_are_sixteen_mib_and_blocks_what_their_codecs_say() {
    // Rows of 96 f32: 43,690 of them are 16 MiB, and the power of two below is taken.
    let of = |codec| Writer::in_memory(native().vectors(DType::F32, 96, codec).unwrap()).unwrap();
    assert_eq!(of("raw").chunk_rows(), 32_768);
    // A chunk holds a block at least.
    let wide = native().vectors(DType::F32, 5 << 20, "int8").unwrap();
    assert_eq!(Writer::in_memory(wide).unwrap().chunk_rows(), 1);
    let values = ramp(96 * 300);
    let block_rows = |codec: &str| {
        let options = native().vectors(DType::F32, 96, codec).unwrap();
        let reader = Reader::from_bytes(file(options, &[rows(&values, 96).into()])).unwrap();
        blocked(&reader.vectors().unwrap().index().chunks[0]).block_rows
    };
    // 4 KiB or more of 384, 192, 96, 48 or 12 encoded bytes; 16 KiB or more of 384 decoded ones.
    assert_eq!(["raw", "fp16", "bf16", "int8", "int4", "bit1"].map(block_rows), [16, 32, 32, 64, 128, 512]);
    assert_eq!(["lossless", "zstd", "gzip"].map(block_rows), [64; 3]);
    let titles: Strings = (0..3000).map(|number| format!("title {number:04}")).collect();
    let options = native().with_array(ArrayOptions::strings("titles", "zstd")).unwrap();
    let reader = Reader::from_bytes(file(options, &[(&titles).into()])).unwrap();
    // Ten bytes and where they end.
    assert_eq!(blocked(&reader.vectors().unwrap().index().chunks[0]).block_rows, 2048);
}

#[test]
fn names_must_be_names_and_differ() {
    let twice = native().array("a", DType::F32, 2, "raw").unwrap().array("a", DType::I8, 1, "zstd").unwrap();
    usage(Writer::in_memory(twice), &["layout native", "two arrays named \"a\"", "rename"]);
    for name in ["", "a\nb", &"x".repeat(256)] {
        let named = native().array(name, DType::F32, 2, "raw").unwrap();
        usage(Writer::in_memory(named), &["a name of 1 to 255 bytes without control characters"]);
    }
    // Anything else is one.
    let names = ["日本語", "a/../b", " ", "\"quoted\"", &"x".repeat(255)];
    let mut options = native();
    for name in names {
        options = options.array(name, DType::F32, 2, "raw").unwrap();
    }
    let values = ramp(4);
    let bytes = file(
        options,
        &[
            rows(&values, 2).into(),
            rows(&values, 2).into(),
            rows(&values, 2).into(),
            rows(&values, 2).into(),
            rows(&values, 2).into(),
        ],
    );
    let reader = Reader::from_bytes(bytes).unwrap();
    assert_eq!(reader.array_names().collect::<Vec<_>>(), names);
    usage(reader.array("b"), &["array = b", "\"日本語\""]);
}

#[test]
fn shapes_beyond_the_layout_are_refused_before_anything_is_written() {
    let of = |inner: &[u32]| {
        let options = native().with_array(ArrayOptions::values("a", DType::C128, inner, "raw")).unwrap();
        Writer::in_memory(options).map(drop)
    };
    usage(of(&[1; 8]), &["array \"a\" of 9 dimensions; 8 are possible"]);
    usage(of(&[1 << 16, 1 << 11]), &["array \"a\"", "rows of more than 2147483647 bytes"]);
    usage(of(&[u32::MAX; 7]), &["rows of more than 2147483647 bytes"]);
    of(&[1; 7]).unwrap();
    of(&[(1 << 27) - 1]).unwrap();
    // A length of 0 makes any shape possible.
    of(&[u32::MAX, u32::MAX, 0]).unwrap();
}

#[test]
fn values_that_cannot_be_had_are_refused_by_row_and_column_of_the_file() {
    // Row 7, column 1: in the second call and the third chunk.
    let refused = |codec: &str, scope: Scope, value: f32, parts: &[&str]| {
        let array = ArrayOptions::values("a", DType::F32, &[3], codec).scope(scope);
        let mut writer =
            Writer::in_memory(native().chunk_rows(3).unwrap().with_array(array).unwrap()).unwrap();
        let mut values = ramp(30);
        values[7 * 3 + 1] = value;
        writer.write_vectors(rows(&values[..15], 3)).unwrap();
        let result = writer.write_vectors(rows(&values[15..], 3)).and_then(|()| writer.finish_bytes());
        let mut parts = parts.to_vec();
        parts.extend(["array \"a\"", codec]);
        usage(result, &parts);
    };
    for scope in [Scope::Row, Scope::Dim, Scope::Chunk] {
        for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            refused(
                "int8",
                scope,
                value,
                &[&format!("cannot represent {name} (row 7, column 1)"), "saturate"],
            );
        }
    }
    refused("fp16", Scope::Row, -65520.0, &["cannot represent -65520 (row 7, column 1)"]);
    refused("bf16", Scope::Row, f32::MAX, &["(row 7, column 1)", "340282346638528860000000000000000000000"]);
}

#[test]
fn attached_arrays_count_their_own_rows_in_errors() {
    let mut writer = Writer::in_memory(native().chunk_rows(2).unwrap()).unwrap();
    let values = [0.0, 1.0, f32::NAN, 3.0, 4.0, f32::INFINITY];
    let array = |name: &str| ArrayOptions::values(name, DType::F32, &[], "int8");
    usage(
        writer.attach(array("a"), rows(&values, 1)),
        &["array \"a\"", "cannot represent NaN (row 2, column 0)"],
    );
    usage(
        writer.attach(array("b"), rows(&values[3..], 1)),
        &["array \"b\"", "cannot represent inf (row 2, column 0)"],
    );
    // What was refused is as if it had never been given.
    writer.attach(array("a"), rows(&values[..2], 1)).unwrap();
    let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    assert_eq!(reader.vectors().unwrap().read::<f32>(..).unwrap(), values[..2]);
}

#[test]
fn what_saturates_shows_in_the_loss() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let write = |codec: &str, values: &[f32]| {
        let array = ArrayOptions::values("a", DType::F32, &[4], codec).nonfinite(NonFinite::Saturate);
        let reader =
            Reader::from_bytes(file(native().with_array(array).unwrap(), &[rows(values, 4).into()])).unwrap();
        let array = reader.vectors().unwrap();
        (array.read::<f32>(..).unwrap(), blocked(&array.index().chunks[0]).loss)
    };
    let (values, loss) = write("int8", &[0.0, 255.0, nan, inf]);
    assert_eq!(values, [0.0, 255.0, 0.0, 255.0]);
    assert_eq!((loss.max_abs_error, loss.mse, loss.min_cosine), (inf, 0.0, 1.0));
    let (values, loss) = write("fp16", &[1.0, 70_000.0, -1e30, inf]);
    assert_eq!(values, [1.0, 65504.0, -65504.0, inf]);
    assert!(loss.max_abs_error >= 9.9e29 && loss.max_abs_error < inf && loss.min_cosine < 0.999, "{loss:?}");
    let (values, loss) = write("bf16", &[f32::MAX, f32::MIN, nan, -inf]);
    let largest = bf16::MAX.to_f32();
    assert_eq!(values[..2], [largest, -largest]);
    assert!(values[2].is_nan() && values[3] == -inf && loss.max_abs_error == f32::MAX - largest, "{loss:?}");
    // What can be had exactly costs nothing.
    assert_eq!(write("fp16", &[1.0, -0.5, nan, inf]).1, Loss::NONE);
}

#[test]
fn metadata_is_an_object_that_readers_can_open() {
    for text in ["[1]", "\"x\"", "null", "7"] {
        usage(native().metadata(json(text)), &["metadata", "an object is needed"]);
    }
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        let metadata = WriteOptions::new(layout).metadata(json("{\"a\":1}"));
        usage(metadata, &["metadata", &format!("layout {layout} has no place"), "use sections"]);
        // Nothing can be said of anything.
        WriteOptions::new(layout).metadata(json("{}")).unwrap();
    }
    let deep = |depth: usize| json(&format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)));
    // What stands around metadata of any kind takes three levels.
    let of_file = |depth| {
        Writer::in_memory(native().metadata(deep(depth)).unwrap()).map(|writer| writer.finish_bytes())
    };
    usage(of_file(62), &["layout native", "nested 62 deep; 61 are possible"]);
    Reader::from_bytes(of_file(61).unwrap().unwrap()).unwrap();
    let mut writer = Writer::in_memory(native().vectors(DType::F32, 1, "raw").unwrap()).unwrap();
    usage(writer.add_section(0..1, deep(62)), &["nested 62 deep"]);
    writer.add_section(0..1, deep(61)).unwrap();
    writer.write_vectors(rows(&[1.0], 1)).unwrap();
    Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    let provenance = |value: Json| {
        let array = ArrayOptions::values("a", DType::F32, &[1], "raw").provenance(value);
        Writer::in_memory(native().with_array(array).unwrap()).map(drop)
    };
    usage(provenance(deep(62)), &["nested 62 deep"]);
    usage(provenance(json("[]")), &["array \"a\" with a provenance that is not an object"]);
    provenance(deep(61)).unwrap();
}

#[test]
fn a_section_ends_within_the_rows_of_the_first_array() {
    let options = || native().vectors(DType::F32, 1, "raw").unwrap();
    let mut writer = Writer::in_memory(options()).unwrap();
    writer.write_vectors(rows(&ramp(5), 1)).unwrap();
    // That another array has more rows does not help.
    writer.attach(ArrayOptions::values("more", DType::F32, &[], "raw"), rows(&ramp(9), 1)).unwrap();
    writer.add_section(3..6, Json::Null).unwrap();
    usage(writer.finish_bytes(), &["section = 3..6", "5 rows were written"]);
    // With no columns there are no rows to speak of.
    let mut writer = Writer::in_memory(native()).unwrap();
    writer.add_section(0..1, Json::Null).unwrap();
    usage(writer.finish_bytes(), &["section = 0..1", "0 rows were written"]);
}

#[test]
fn what_other_layouts_lack_is_refused_there() {
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        let options = WriteOptions::new(layout).with_array(ArrayOptions::strings("titles", "fp16")).unwrap();
        usage(Writer::in_memory(options), &["array = titles", &format!("layout {layout} holds no strings")]);
        let options = WriteOptions::new(layout)
            .with_array(ArrayOptions::values("v", DType::F32, &[2, 2], "fp16"))
            .unwrap();
        usage(Writer::in_memory(options), &["array = v", "write layout native"]);
        let options = || WriteOptions::new(layout).vectors(DType::F32, 2, "fp16").unwrap();
        let mut writer = Writer::in_memory(options()).unwrap();
        let strings: Strings = ["a"].iter().collect();
        usage(writer.write(&[&strings]), &["rows = strings", "rows of 2 f32 values"]);
        let attached = writer.attach(ArrayOptions::values("x", DType::F32, &[1], "fp16"), rows(&[1.0], 1));
        usage(attached, &["array = x", "write layout native"]);
        let sink = Writer::to_sink(Vec::new(), options()).map(drop);
        usage(sink, &[&format!("layout = {layout}"), "only native files are written in one pass"]);
    }
    let metadata = native().vectors(DType::F32, 2, "raw").unwrap().chunk_metadata(vec![Json::Null]);
    usage(Writer::in_memory(metadata), &["chunk metadata = 1", "native files have none; say it in sections"]);
}

#[test]
fn rows_unlike_the_columns_are_refused_and_forgotten() {
    let options = native()
        .array("v", DType::F32, 2, "raw")
        .and_then(|options| options.with_array(ArrayOptions::strings("titles", "raw")))
        .unwrap();
    let (values, titles): (Vec<f32>, Strings) = (ramp(4), ["a", "b"].iter().collect());
    let good: [ArrayRows<'_>; 2] = [rows(&values, 2).into(), (&titles).into()];
    let mut writer = Writer::in_memory(options.clone()).unwrap();
    let [vectors, strings] = good.clone();
    usage(
        writer.write(&[strings.clone(), vectors.clone()]),
        &["rows = strings", "array \"v\" has rows of 2 f32 values"],
    );
    usage(writer.write(&[vectors.clone(), vectors.clone()]), &["array \"titles\" has strings"]);
    usage(
        writer.write(&[vectors.clone(), strings.slice(0..1)]),
        &["1 rows for array \"titles\"", "\"v\" got 2"],
    );
    usage(writer.write(std::slice::from_ref(&vectors)), &["rows = 1 arrays", "the file has 2 arrays"]);
    let doubles = RowSlice::new(&[1.0f64; 4], 2).unwrap();
    usage(writer.write(&[doubles.into(), strings]), &["rows = rows of 2 f64 values"]);
    usage(writer.write_vectors(rows(&values, 2)), &["the file has 2 arrays"]);
    // A list of numbers has rows of one value, whatever rank it says it has.
    usage(
        writer.write(&[rows(&values, 4).slice(0..1).into(), ArrayRows::from(&titles).slice(0..1)]),
        &["rows of 4"],
    );
    writer.write(&good).unwrap();
    assert_eq!(writer.finish_bytes().unwrap(), file(options, &good));
}

#[test]
fn bytes_that_are_no_bools_are_refused() {
    let mut writer = Writer::in_memory(native().array("flags", DType::Bool, 2, "raw").unwrap()).unwrap();
    writer.write_vectors(RowSlice::from_bytes(DType::Bool, 2, 2, &[0, 1, 2, 0]).unwrap()).unwrap();
    usage(writer.finish_bytes(), &["array \"flags\"", "row 1: a bool is 0 or 1, that of column 0 is 2"]);
}

#[test]
fn attached_arrays_have_rows_of_their_own() {
    let values = ramp(40);
    let bytes = {
        let mut writer =
            Writer::in_memory(native().chunk_rows(3).unwrap().vectors(DType::F32, 4, "raw").unwrap())
                .unwrap();
        // Before, between and after the rows of the columns.
        let words: Strings = ["un", "deux"].iter().collect();
        writer.attach(ArrayOptions::strings("words", "gzip"), &words).unwrap();
        writer.write_vectors(rows(&values[..20], 4)).unwrap();
        let centroids =
            ArrayOptions::values("centroids", DType::F32, &[2, 2], "int8").scope(Scope::Dim).block_rows(1);
        writer.attach(centroids, rows(&values[..28], 4)).unwrap();
        writer.write_vectors(rows(&values[20..], 4)).unwrap();
        writer
            .attach(
                ArrayOptions::values("none", DType::U16, &[7], "zstd"),
                RowSlice::from_bytes(DType::U16, 0, 7, &[]).unwrap(),
            )
            .unwrap();
        writer
            .attach(
                ArrayOptions::values("flat", DType::U16, &[0], "raw"),
                RowSlice::from_bytes(DType::U16, 5, 0, &[]).unwrap(),
            )
            .unwrap();
        usage(
            writer.attach(ArrayOptions::values("vectors", DType::F32, &[4], "raw"), rows(&values, 4)),
            &["two arrays named \"vectors\""],
        );
        usage(
            writer.attach(ArrayOptions::values("words", DType::F32, &[4], "raw"), rows(&values, 4)),
            &["two arrays named \"words\""],
        );
        usage(
            writer.attach(ArrayOptions::values("x", DType::F32, &[4], "none"), rows(&values, 4)),
            &["codec = none"],
        );
        usage(
            writer.attach(ArrayOptions::values("x", DType::F32, &[3], "raw"), rows(&values, 4)),
            &["array \"x\" has rows of 3 f32 values"],
        );
        usage(writer.attach(ArrayOptions::values("x", DType::F32, &[3], "raw"), &words), &["rows = strings"]);
        assert_eq!(writer.rows(), 10);
        writer.finish_bytes().unwrap()
    };
    let reader = Reader::from_bytes(bytes).unwrap();
    let shapes: Vec<(String, Vec<u64>)> =
        reader.arrays().map(|array| (array.index().name.clone(), array.index().shape())).collect();
    let expected = [
        ("vectors", vec![10, 4]),
        ("words", vec![2]),
        ("centroids", vec![7, 2, 2]),
        ("none", vec![0, 7]),
        ("flat", vec![5, 0]),
    ];
    assert_eq!(shapes, expected.map(|(name, shape)| (name.to_owned(), shape)));
    assert_eq!(reader.vectors().unwrap().read::<f32>(..).unwrap(), values);
    assert_eq!(
        reader.array("words").unwrap().read_strings(..).unwrap().iter().collect::<Vec<_>>(),
        ["un", "deux"]
    );
    let centroids: Vec<f32> = reader.array("centroids").unwrap().read(..).unwrap();
    assert!(centroids.iter().zip(&values).all(|(found, value)| (found - value).abs() < 1e-3));
    assert!(reader.verify().unwrap().is_ok());
    // The columns stand first, whenever the others came, so the chunks of the file are in the order of their arrays.
    let starts: Vec<u64> = reader
        .arrays()
        .flat_map(|array| array.index().chunks.iter().map(|chunk| chunk.bytes.start))
        .collect();
    assert!(starts.is_sorted() && starts.len() == 4 + 1 + 3, "{starts:?}");
}

#[test]
fn chunks_lie_in_the_file_in_the_order_in_which_their_last_rows_come() {
    // 64 KiB a row, so 256 rows to a chunk; 1 KiB, so 16,384; and strings, of which 65,536 make one.
    let options = native()
        .array("wide", DType::U8, 1 << 16, "zstd")
        .and_then(|options| options.array("narrow", DType::U8, 1 << 10, "zstd"))
        .and_then(|options| options.with_array(ArrayOptions::strings("titles", "raw")))
        .unwrap();
    let count = 600;
    let (wide, narrow) = (vec![7u8; count << 16], vec![9u8; count << 10]);
    let titles: Strings = (0..count).map(|row| row.to_string()).collect();
    let all: [ArrayRows<'_>; 3] = [
        RowSlice::new(&wide, 1 << 16).unwrap().into(),
        RowSlice::new(&narrow, 1 << 10).unwrap().into(),
        (&titles).into(),
    ];
    let whole = file(options.clone(), &all);
    let reader = Reader::from_bytes(whole.clone()).unwrap();
    let mut order: Vec<(u64, &str, u64)> = Vec::new();
    for array in &reader.index().arrays {
        order.extend(
            array.chunks.iter().map(|chunk| (chunk.bytes.start, array.name.as_str(), chunk.rows.end)),
        );
    }
    order.sort_unstable();
    let order: Vec<(&str, u64)> = order.into_iter().map(|(_, name, end)| (name, end)).collect();
    assert_eq!(order, [("wide", 256), ("wide", 512), ("wide", 600), ("narrow", 600), ("titles", 600)]);

    let mut writer = Writer::in_memory(options).unwrap();
    for start in (0..count).step_by(77) {
        writer.write(&all.clone().map(|rows| rows.slice(start..count.min(start + 77)))).unwrap();
    }
    assert!(writer.finish_bytes().unwrap() == whole);
}

#[cfg(feature = "rayon")]
#[test]
fn the_number_of_threads_makes_no_difference_where_chunks_of_columns_differ() {
    // As many rows to a call as are worth it for one thread, and for three, are other ones.
    let options = native()
        .array("wide", DType::F32, 4096, "int8")
        .and_then(|options| options.array("ids", DType::I64, 1, "zstd"))
        .and_then(|options| options.array("middle", DType::F32, 1000, "fp16"))
        .unwrap();
    let count = 3000;
    let wide: Vec<f32> = (0..count * 4096).map(|at| f32::from(u16::try_from(at % 61_231).unwrap())).collect();
    let ids: Vec<i64> = (0..3000).collect();
    let rows: [RowSlice<'_>; 3] = [
        RowSlice::new(&wide, 4096).unwrap(),
        RowSlice::new(&ids, 1).unwrap(),
        RowSlice::new(&wide[..count * 1000], 1000).unwrap(),
    ];
    let with = |threads: usize, step: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut writer = Writer::in_memory(options.clone()).unwrap();
            for start in (0..count).step_by(step) {
                writer.write(&rows.map(|rows| rows.slice(start..count.min(start + step)))).unwrap();
            }
            writer.finish_bytes().unwrap()
        })
    };
    let one = with(1, count);
    assert!(one == with(3, count) && one == with(2, 1100));
}

#[test]
fn what_was_said_of_arrays_stands_in_the_index() {
    let provenance = json("{\"revision\":\"abc\",\"model\":\"m\",\"dimension\":2.50,\"odd\":NaN}");
    let options = native()
        .with_array(
            ArrayOptions::values("a", DType::F32, &[2], "int8")
                .scope(Scope::Dim)
                .provenance(provenance.clone()),
        )
        .and_then(|options| options.with_array(ArrayOptions::values("b", DType::F32, &[2], "int8")))
        .and_then(|options| {
            options.with_array(ArrayOptions::values("c", DType::F32, &[2], "raw").provenance(json("{}")))
        })
        .unwrap();
    let values = ramp(6);
    let all: [ArrayRows<'_>; 3] = [rows(&values, 2).into(), rows(&values, 2).into(), rows(&values, 2).into()];
    let reader = Reader::from_bytes(file(options, &all)).unwrap();
    let arrays = &reader.index().arrays;
    let text = |json: &Json| json.to_string_styled(Style::Canonical);
    assert_eq!(arrays[0].provenance.as_ref().map(text).unwrap(), text(&provenance));
    assert_eq!(text(&arrays[0].codec_options), "{\"scope\":\"dim\"}");
    assert_eq!(text(&arrays[1].codec_options), "{\"scope\":\"row\"}");
    assert_eq!(text(&arrays[2].codec_options), "{}");
    assert!(arrays[1].provenance.is_none() && arrays[2].provenance.as_ref().map(text).unwrap() == "{}");
    assert_eq!(arrays[0].dtype, ArrayDType::Values(DType::F32));
}

#[test]
fn metadata_of_any_kind_comes_back_as_it_was_said() {
    let texts = [
        r#"{"score":NaN,"worst":-Infinity,"list":[Infinity,{"x":NaN}]}"#,
        r#"{"half":"\ud800","\udfff":1,"pair":"💡"}"#,
        r#"{"k":1,"k":NaN,"deep":{"a":1,"a":{"b":2,"b":3}}}"#,
        r#"{"$json":"NaN"}"#,
        r#"{"$json":{"$json":"1"}}"#,
        r#"{"n":1.50,"big":123456789012345678901234567890,"e":1E5,"z":-0,"zero":-0.0,"huge":1e999}"#,
        r#"{"text":"\u0000\u001f\u007f é \u2028 / \\ \" \b\f\n\r\t","":"empty key"}"#,
        r#"{}"#,
    ];
    for text in texts {
        let said = json(text);
        let array = ArrayOptions::values("a", DType::F32, &[1], "raw").provenance(said.clone());
        let options = native().with_array(array).unwrap().metadata(said.clone()).unwrap();
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write_vectors(rows(&[1.0, 2.0], 1)).unwrap();
        writer.add_section(0..1, said.clone()).unwrap();
        writer.add_section(1..2, Json::Array(vec![said.clone(), Json::Null])).unwrap();
        let bytes = writer.finish_bytes().unwrap();
        let reader = Reader::from_bytes(bytes.clone()).unwrap();
        // NaN equals nothing, so texts are compared; keys come back sorted, but those that occur twice where they were.
        let canonical = |json: &Json| json.to_string_styled(Style::Canonical);
        let expected = canonical(&said);
        assert_eq!(canonical(&reader.index().metadata), expected);
        assert_eq!(canonical(reader.index().arrays[0].provenance.as_ref().unwrap()), expected);
        assert_eq!(canonical(&reader.sections()[0].metadata), expected);
        assert_eq!(canonical(&reader.sections()[1].metadata), format!("[{expected},null]"));
        assert!(reader.index().header.is_strict(), "any tool can read it");
        assert!(reader.find(&[Condition::new("absent", Json::Null)]).unwrap().resolve(2).unwrap().is_empty());
    }
}

#[test]
fn files_without_arrays_rows_or_values_go_round() {
    let bytes = Writer::in_memory(native()).unwrap().finish_bytes().unwrap();
    assert_eq!(bytes.len(), 117, "the least file there is");
    let reader = Reader::from_bytes(bytes).unwrap();
    assert!(reader.arrays().len() == 0 && reader.verify().unwrap().is_ok());
    usage(reader.vectors(), &["array = vectors"]);

    for codec in ["raw", "fp16", "bf16", "int8", "int4", "bit1", "lossless", "zstd", "gzip"] {
        for (count, inner) in [(0, vec![2]), (3, vec![0]), (0, vec![0]), (3, vec![2, 0, 5])] {
            let options = native().with_array(ArrayOptions::values("a", DType::F32, &inner, codec)).unwrap();
            let dim = inner.iter().product::<u32>() as usize;
            let rows = RowSlice::from_bytes(DType::F32, count, dim, &[]).unwrap();
            let reader = Reader::from_bytes(file(options, &[rows.into()])).unwrap();
            let array = reader.vectors().unwrap();
            assert_eq!(
                (array.rows(), array.dim() as usize, array.index().chunks.len()),
                (count as u64, dim, 0)
            );
            assert_eq!(array.read::<f32>(..).unwrap(), [0.0; 0]);
            assert_eq!(array.read::<f32>(vec![0..count as u64, 0..0]).unwrap(), [0.0; 0]);
            usage(array.read::<f32>(0..count as u64 + 1), &["rows = "]);
            assert!(array.byte_ranges(.., 0).unwrap().is_empty() && reader.verify().unwrap().is_ok());
        }
    }
    for codec in ["raw", "zstd", "gzip"] {
        let options = native().with_array(ArrayOptions::strings("a", codec)).unwrap();
        let reader = Reader::from_bytes(file(options, &[(&Strings::default()).into()])).unwrap();
        assert!(reader.vectors().unwrap().read_strings(..).unwrap().is_empty());
    }
}

#[test]
fn strings_of_any_length_go_round_and_those_too_long_are_refused() {
    // One that fills a block by itself makes the blocks of its chunk smaller.
    let mut titles: Strings = (0..500).map(|row| format!("{row}")).collect();
    titles.push(&"x".repeat((16 << 20) - 4));
    titles.push("");
    for codec in ["raw", "zstd"] {
        let options = native().with_array(ArrayOptions::strings("titles", codec)).unwrap();
        let reader = Reader::from_bytes(file(options, &[(&titles).into()])).unwrap();
        assert!(reader.vectors().unwrap().read_strings(..).unwrap() == titles);
    }
    titles.push(&"x".repeat((16 << 20) - 3));
    let mut writer =
        Writer::in_memory(native().with_array(ArrayOptions::strings("titles", "raw")).unwrap()).unwrap();
    let result = writer.write(&[&titles]).and_then(|()| writer.finish_bytes());
    usage(result, &["array \"titles\"", "cut the string"]);
}

#[test]
fn strings_and_values_are_not_taken_for_each_other() {
    let titles: Strings = ["a"].iter().collect();
    let options = native()
        .with_array(ArrayOptions::strings("titles", "raw"))
        .unwrap()
        .array("v", DType::F32, 1, "raw")
        .unwrap();
    let reader = Reader::from_bytes(file(options, &[(&titles).into(), rows(&[1.0], 1).into()])).unwrap();
    let (titles, values) = (reader.array("titles").unwrap(), reader.array("v").unwrap());
    usage(titles.read::<u8>(..), &["array = titles", "it holds strings; read them with `read_strings`"]);
    usage(titles.decoded_len(.., DType::U8), &["array = titles"]);
    usage(values.read_strings(..), &["array = v", "f32 values, not strings"]);
    usage(values.read::<i64>(..), &["array \"v\"", "f32"]);
    usage(titles.read_strings(0..2), &["rows = 0..2", "0..1"]);
}

#[test]
fn strings_count_towards_the_limit_of_what_a_call_may_decode() {
    // A megabyte in each of 100 strings, and a few hundred bytes in the file.
    let titles: Strings = (0..100).map(|_| "x".repeat(1 << 20)).collect();
    let options = native().with_array(ArrayOptions::strings("titles", "zstd")).unwrap();
    let bytes = file(options, &[(&titles).into()]);
    let mut limited = ReadOptions::default();
    limited.limits.decoded_bytes = 20 << 20;
    let reader = Reader::new(Box::new(bytes), limited).unwrap();
    let array = reader.vectors().unwrap();
    usage(array.read_strings(..), &["100 rows", "above the limit of 20971520"]);
    assert_eq!(array.read_strings(17..18).unwrap().get(0).len(), 1 << 20);
}

#[test]
fn many_threads_read_one_file() {
    let values = ramp(400);
    let options = native().chunk_rows(16).unwrap().vectors(DType::F32, 4, "lossless").unwrap();
    let bytes = file(options, &[rows(&values, 4).into()]);
    let reader = Reader::new(Box::new(Copied(bytes)), ReadOptions::default()).unwrap();
    let array = reader.vectors().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let values = &values;
            scope.spawn(move || {
                let rows: Vec<u64> = (0..200).map(|at| (at * 37 + thread * 13) % 100).collect();
                let expected = rows.iter().flat_map(|row| &values[usize::try_from(*row).unwrap() * 4..][..4]);
                assert_eq!(array.read::<f32>(&rows[..]).unwrap(), expected.copied().collect::<Vec<_>>());
            });
        }
    });
}

/// A sink that takes so many bytes.
#[derive(Debug)]
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_fails_at_any_byte_is_an_error_and_stays_one() {
    let options = native().chunk_rows(2).unwrap().vectors(DType::F32, 2, "raw").unwrap();
    let values = ramp(10);
    let whole = file(options.clone(), &[rows(&values, 2).into()]);
    for room in 0..=whole.len() {
        let mut writer = Writer::to_sink(Full(room), options.clone()).unwrap();
        let first = writer.write_vectors(rows(&values, 2));
        if let Err(error) = first {
            assert!(
                matches!(error, Error::Output(_)) && error.to_string().contains("the disk is full"),
                "{error}"
            );
            usage(writer.write_vectors(rows(&values, 2)), &["an earlier write failed"]);
            usage(
                writer
                    .attach(ArrayOptions::values("b", DType::F32, &[2], "raw"), rows(&values, 2))
                    .and_then(|()| writer.finish_sink()),
                &["an earlier write failed"],
            );
            continue;
        }
        match writer.finish_sink() {
            Ok((_, written)) => assert!(room == whole.len() && written.file_len == whole.len() as u64),
            Err(error) => assert!(room < whole.len() && matches!(error, Error::Output(_)), "{room}: {error}"),
        }
    }
}

#[test]
fn after_a_failed_write_there_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    fs::write(&path, b"the old file").unwrap();
    let options = native().chunk_rows(2).unwrap().vectors(DType::F32, 1, "int8").unwrap();
    for bad in 0..5 {
        let mut values = ramp(5);
        values[bad] = f32::NAN;
        let mut writer = Writer::create(&path, options.clone()).unwrap();
        let refused = match writer.write_vectors(rows(&values, 1)) {
            Err(error) => {
                usage(writer.write_vectors(rows(&values[..1], 1)), &["an earlier write failed"]);
                usage(writer.finish(), &["rows", "an earlier write failed"]);
                error
            }
            // The last row waits for others until the end.
            Ok(()) => writer.finish().unwrap_err(),
        };
        assert!(refused.to_string().contains(&format!("(row {bad}, column 0)")), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"the old file");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

/// Whatever the threads do first: chunks are large enough for each to be handed over alone.
#[test]
fn what_stands_before_rows_that_cannot_be_encoded_is_written_and_nothing_after_them() {
    let options = native().chunk_rows(1 << 10).unwrap().vectors(DType::F32, 256, "int8").unwrap();
    let (count, dim) = (9 << 10, 256);
    let mut values = ramp(1 << 15).repeat(count * dim / (1 << 15));
    let whole = file(options.clone(), &[rows(&values, dim).into()]);
    let reader = Reader::from_bytes(whole.clone()).unwrap();
    let chunks = reader.index().arrays[0].chunks.clone();
    for bad in [8, 3, 0] {
        // Several are bad from the second round on; the first in order is the one that is named.
        values[((bad << 10) + 700) * dim + 7] = f32::INFINITY;
        let mut sent = Vec::new();
        let mut writer = Writer::to_sink(&mut sent, options.clone()).unwrap();
        let error = writer.write_vectors(rows(&values, dim)).unwrap_err().to_string();
        assert!(error.contains(&format!("(row {}, column 7)", (bad << 10) + 700)), "{error}");
        drop(writer);
        let end = usize::try_from(chunks[bad].bytes.start).unwrap();
        // The prelude goes out with the first chunk.
        assert!(sent == whole[..if bad == 0 { 0 } else { end }], "{} bytes were sent", sent.len());
    }
}

#[test]
fn more_chunks_than_a_file_lists_are_refused_before_any_work() {
    let options = native()
        .chunk_rows(1)
        .unwrap()
        .vectors(DType::F32, 1, "raw")
        .unwrap()
        .array("b", DType::I8, 1, "raw")
        .unwrap();
    let writer = Writer::in_memory(options).unwrap();
    usage(
        writer.reserve(1 << 24),
        &["chunk rows = 1", "33554432 chunks would be needed, 16777216 are possible"],
    );
    writer.reserve(1 << 23).unwrap();
    usage(writer.reserve(u64::MAX), &["chunks would be needed"]);
    // Rows of no values need none.
    let options = native().chunk_rows(1).unwrap().vectors(DType::F32, 0, "raw").unwrap();
    Writer::in_memory(options).unwrap().reserve(1 << 30).unwrap();
}

#[test]
fn the_same_rows_and_words_give_the_same_bytes() {
    let make = || {
        let options = native()
            .chunk_rows(7)
            .and_then(|options| options.metadata(json("{\"b\":1,\"a\":{\"d\":1,\"c\":2}}")))
            .and_then(|options| options.vectors(DType::F32, 8, "lossless"))
            .and_then(|options| options.with_array(ArrayOptions::strings("titles", "zstd")))
            .unwrap();
        let (values, titles) = (ramp(160), (0..20).map(|row| format!("t{row}")).collect::<Strings>());
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write(&[rows(&values, 8).into(), ArrayRows::from(&titles)]).unwrap();
        writer.add_section(9..20, json("{\"z\":1,\"y\":2}")).unwrap();
        writer.add_section(0..9, json("{\"z\":2}")).unwrap();
        writer.finish_bytes().unwrap()
    };
    let bytes = make();
    assert_eq!(bytes, make());
    // Two writers in turn, which share nothing.
    let reader = Reader::from_bytes(bytes).unwrap();
    let whole = read_rows(reader.vectors().unwrap(), .., 1).unwrap();
    assert_eq!(whole.len(), 20);
    let ranges: Vec<_> = reader.sections().iter().map(|section| section.rows.clone()).collect();
    assert_eq!(ranges, [0..9, 9..20], "sorted, in whatever order they were told");
}

#[test]
fn long_strings_fill_a_chunk_before_there_are_many_however_they_come() {
    let text = |row: usize| format!("{row} ").repeat(200_000 + row % 7 * 50_000);
    let strings: Strings = (0..60).map(text).collect();
    let options = || native().with_array(ArrayOptions::strings("texts", "zstd")).unwrap();
    let whole = file(options(), &[ArrayRows::from(&strings)]);
    let reader = Reader::from_bytes(whole.clone()).unwrap();
    let texts = reader.array("texts").unwrap();
    assert!(texts.chunks().count() > 1);
    for chunk in texts.chunks() {
        let lens: Vec<usize> =
            chunk.rows.map(|row| strings.get(usize::try_from(row).unwrap()).len()).collect();
        let all_but_the_last: usize = lens[..lens.len() - 1].iter().sum();
        assert!(all_but_the_last < 16 << 20, "a chunk of {} bytes", lens.iter().sum::<usize>());
    }
    assert_eq!(texts.read_strings(..).unwrap(), strings);
    let mut writer = Writer::in_memory(options()).unwrap();
    for rows in [0..1, 1..20, 20..21, 21..60] {
        writer.write(&[ArrayRows::Strings { strings: &strings, rows }]).unwrap();
    }
    assert_eq!(writer.finish_bytes().unwrap(), whole);
}

#[test]
fn sections_speak_of_the_first_array_and_of_those_with_as_many_rows() {
    let options = native().array("vectors", DType::F32, 2, "raw").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write_vectors(rows(&[0.0; 20], 2)).unwrap();
    writer.add_section(3..6, json(r#"{"k":1}"#)).unwrap();
    let vocabulary: Strings = (0..50).map(|n| n.to_string()).collect();
    writer.attach(ArrayOptions::strings("vocabulary", "raw"), &vocabulary).unwrap();
    let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    let found = reader.find(&[Condition::new("k", 1u64)]).unwrap();
    assert_eq!(reader.array("vectors").unwrap().read::<f32>(found.clone()).unwrap().len(), 6);
    usage(
        reader.array("vocabulary").unwrap().read_strings(found),
        &["speak of the first array", "10 rows", "50"],
    );
}

#[test]
fn rows_that_are_written_as_they_lie_make_the_same_file() {
    use cvc::{DType, Layout, RowSlice, WriteOptions, Writer};
    let values: Vec<f32> = (0..7001u16 * 3).map(f32::from).collect();
    let rows = RowSlice::new(&values, 3).unwrap();
    let write = |splits: &[usize], last: bool| {
        let options = WriteOptions::new(Layout::Native).array("v", DType::F32, 3, "raw").unwrap();
        let mut writer = Writer::in_memory(options.chunk_rows(1000).unwrap()).unwrap();
        let mut start = 0;
        for end in splits {
            writer.write(&[rows.slice(start..*end)]).unwrap();
            start = *end;
        }
        let rest = [rows.slice(start..7001)];
        if last {
            writer.write_last(&rest).unwrap()
        } else {
            writer.write(&rest).unwrap()
        }
        writer.finish_bytes().unwrap()
    };
    // One row at a time first: nothing is written from where it lies.
    let expected = write(&[1, 2, 999, 1001, 2500, 6500], false);
    for splits in [&[][..], &[1000], &[1000, 3000], &[3, 1003], &[6999]] {
        for last in [false, true] {
            assert_eq!(write(splits, last), expected, "{splits:?}, last {last}");
        }
    }
}

#[test]
fn a_file_is_told_from_what_it_was_by_any_change_of_its_rows_sections_or_names() {
    let identity = |name: &str, values: &[f32], said: &str| {
        let mut writer = Writer::in_memory(native().array(name, DType::F32, 4, "raw").unwrap()).unwrap();
        writer.write_vectors(rows(values, 4)).unwrap();
        writer.add_section(0..3, json(said)).unwrap();
        Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap().identity()
    };
    let values = ramp(400);
    let first = identity("a", &values, "{\"k\": 1}");
    assert!(first.starts_with("native-"));
    assert_eq!(first, identity("a", &values, "{\"k\": 1}"));
    for at in [0, 201, 399] {
        let mut other = values.clone();
        other[at] = f32::from_bits(other[at].to_bits() ^ 1);
        assert_ne!(first, identity("a", &other, "{\"k\": 1}"));
    }
    assert_ne!(first, identity("b", &values, "{\"k\": 1}"));
    assert_ne!(first, identity("a", &values, "{\"k\": 2}"));
}
