//! Small native files: every codec and scope over several dtypes, strings, several arrays, none at all.
//!
//! Each has several chunks, several blocks to a chunk, and a last block that is short. Shared by the tests of damaged
//! files and by fuzzing, whose corpus begins with them.

#![allow(dead_code, reason = "not everyone who includes this needs all of it")]

use std::borrow::Cow;

use cvc::codec::rows::Element;
use cvc::{ArrayOptions, ArrayRows, DType, Json, Layout, RowSlice, Scope, Strings, WriteOptions, Writer};
use half::{bf16, f16};

/// A sound file.
pub(crate) struct NativeSample {
    pub(crate) name: Cow<'static, str>,
    pub(crate) bytes: Vec<u8>,
}

/// Rows of every array but those that have none: chunks of 3 and 2, in blocks of 2, 1 and 2.
const ROWS: usize = 5;
const CHUNK_ROWS: u32 = 3;
const BLOCK_ROWS: u32 = 2;

/// Every file, in an order that does not change.
pub(crate) fn native_samples() -> Vec<NativeSample> {
    let mut samples = vec![with_everything()];
    samples.extend(fixed_widths());
    samples.extend(streams());
    samples.extend(strings());
    samples.extend(shapes());
    samples.extend(many_arrays());
    samples
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), 64).unwrap()
}

/// Floats of one binade, so that their high bytes are alike and their low ones are not.
fn floats(dim: usize) -> Vec<f32> {
    let bits = |index: usize| 0x3f80_0000 | u32::try_from(index * 0x0001_9e37 % 0x0080_0000).unwrap();
    (0..ROWS * dim).map(|index| f32::from_bits(bits(index))).collect()
}

fn one_array(name: impl Into<Cow<'static, str>>, array: ArrayOptions, rows: ArrayRows<'_>) -> NativeSample {
    let options = WriteOptions::new(Layout::Native).chunk_rows(CHUNK_ROWS).unwrap();
    let options = options.with_array(array.block_rows(BLOCK_ROWS)).unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&[rows]).unwrap();
    NativeSample { name: name.into(), bytes: writer.finish_bytes().unwrap() }
}

fn matrix<T: Element>(codec: &str, scope: Scope, dim: usize, values: &[T]) -> NativeSample {
    let inner = [u32::try_from(dim).unwrap()];
    let array = ArrayOptions::values("v", T::DTYPE, &inner, codec).scope(scope);
    let scope = if codec == "int8" { format!(" for each {}", scope.name()) } else { String::new() };
    let name = format!("{codec} {}{scope}", T::DTYPE);
    one_array(name, array, RowSlice::new(values, dim).unwrap().into())
}

/// Sections, metadata that strict JSON cannot say, provenance.
fn with_everything() -> NativeSample {
    let array = ArrayOptions::values("vectors", DType::F32, &[3], "raw")
        .block_rows(BLOCK_ROWS)
        .provenance(json("{\"model\":\"m\",\"normalized\":true}"));
    let options =
        WriteOptions::new(Layout::Native).chunk_rows(CHUNK_ROWS).unwrap().with_array(array).unwrap();
    let options = options.metadata(json("{\"é\":[1.50,NaN]}")).unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write_vectors(RowSlice::new(&floats(3), 3).unwrap()).unwrap();
    writer.add_section(0..3, json("{\"k\":1,\"s\":\"\\ud800\"}")).unwrap();
    writer.add_section(4..5, json("{\"k\":1.0}")).unwrap();
    NativeSample { name: "raw f32 with everything".into(), bytes: writer.finish_bytes().unwrap() }
}

fn fixed_widths() -> Vec<NativeSample> {
    let values = floats(3);
    let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
    let brains: Vec<bf16> = values.iter().map(|value| bf16::from_f32(*value)).collect();
    let doubles: Vec<f64> = values.iter().map(|value| f64::from(*value) * 1e3).collect();
    let row = Scope::Row;
    vec![
        matrix("fp16", row, 3, &values),
        matrix("fp16", row, 3, &halves),
        matrix("bf16", row, 3, &doubles),
        matrix("bf16", row, 3, &brains),
        matrix("int8", Scope::Row, 3, &values),
        matrix("int8", Scope::Dim, 3, &values),
        matrix("int8", Scope::Chunk, 3, &values),
        matrix("int8", Scope::Row, 3, &halves),
    ]
}

fn streams() -> Vec<NativeSample> {
    let ids: Vec<i64> = (0..10).map(|id| (1 << 40) + id * 3).collect();
    let bytes: Vec<u8> = (0..20).map(|byte| byte % 3).collect();
    let values = floats(8);
    let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
    let doubles: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    let brains: Vec<bf16> = values.iter().map(|value| bf16::from_f32(*value)).collect();
    let noise: Vec<f32> =
        (0u32..40).map(|index| f32::from_bits(index.wrapping_mul(0x9e37_79b9) >> 1)).collect();
    let mut samples = vec![
        matrix("zstd", Scope::Row, 2, &ids),
        matrix("zstd", Scope::Row, 4, &bytes),
        matrix("gzip", Scope::Row, 2, &ids),
        matrix("gzip", Scope::Row, 8, &values),
        matrix("lossless", Scope::Row, 8, &values),
        matrix("lossless", Scope::Row, 8, &halves),
        matrix("lossless", Scope::Row, 8, &doubles),
        matrix("lossless", Scope::Row, 8, &brains),
    ];
    for (name, values) in [("all planes packed", vec![1.0f32; 80]), ("no plane packed", noise)] {
        let sample = matrix("lossless", Scope::Row, values.len() / ROWS, &values);
        samples.push(NativeSample { name: format!("lossless f32, {name}").into(), ..sample });
    }
    samples
}

/// An empty one, and characters of one to four bytes.
fn texts() -> Strings {
    ["a", "", "äöü", "💡 €", "the quick brown fox, the quick brown fox"].into_iter().collect()
}

fn strings() -> Vec<NativeSample> {
    let strings = texts();
    let of = |codec: &'static str| {
        one_array(format!("utf8 {codec}"), ArrayOptions::strings("titles", codec), (&strings).into())
    };
    ["raw", "zstd", "gzip"].map(of).into()
}

fn bytes_of(dtype: DType, values: usize) -> Vec<u8> {
    let most = if dtype == DType::Bool { 2 } else { 251 };
    (0..values * dtype.size()).map(|index| u8::try_from(index * 37 % most).unwrap()).collect()
}

/// Rows of any dtype, which have the bytes that they happen to have.
fn shaped(name: &'static str, dtype: DType, inner: &[u32], codec: &str, rows: usize) -> NativeSample {
    let dim = inner.iter().product::<u32>() as usize;
    let mut buffer = cvc::AlignedBytes::new();
    let bytes = buffer.resize(rows * dim * dtype.size());
    bytes.copy_from_slice(&bytes_of(dtype, rows * dim));
    let rows = RowSlice::from_bytes(dtype, rows, dim, bytes).unwrap();
    one_array(name, ArrayOptions::values("v", dtype, inner, codec), rows.into())
}

fn shapes() -> Vec<NativeSample> {
    let no_arrays = Writer::in_memory(WriteOptions::new(Layout::Native)).unwrap();
    vec![
        shaped("raw u8 scalars", DType::U8, &[], "raw", ROWS),
        shaped("raw c64 of three dimensions", DType::C64, &[2, 1], "raw", ROWS),
        shaped("zstd bool", DType::Bool, &[7], "zstd", ROWS),
        shaped("raw bool", DType::Bool, &[7], "raw", ROWS),
        shaped("one row", DType::U32, &[4], "gzip", 1),
        shaped("no rows", DType::F32, &[4], "int8", 0),
        shaped("rows of no values", DType::F32, &[3, 0], "raw", 3),
        one_array("no strings", ArrayOptions::strings("t", "zstd"), (&Strings::default()).into()),
        NativeSample { name: "no arrays".into(), bytes: no_arrays.finish_bytes().unwrap() },
    ]
}

fn many_arrays() -> Vec<NativeSample> {
    // Chunks of different arrays in turn, and one array that has other rows than the rest.
    let options = WriteOptions::new(Layout::Native).chunk_rows(CHUNK_ROWS).unwrap();
    let with_blocks = |array: ArrayOptions| array.block_rows(BLOCK_ROWS);
    let options = options
        .with_array(with_blocks(ArrayOptions::values("ids", DType::U64, &[], "zstd")))
        .and_then(|options| {
            options.with_array(with_blocks(ArrayOptions::values("text", DType::F32, &[4], "int8")))
        })
        .and_then(|options| options.with_array(with_blocks(ArrayOptions::strings("titles", "zstd"))))
        .unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let (ids, values, titles) = ([7u64, 8, 9, 1 << 60, 0], floats(4), texts());
    let rows: [ArrayRows<'_>; 3] =
        [RowSlice::new(&ids, 1).unwrap().into(), RowSlice::new(&values, 4).unwrap().into(), (&titles).into()];
    writer.write(&rows).unwrap();
    writer.add_section(1..4, json("{\"k\":1}")).unwrap();
    let centroids = ArrayOptions::values("centroids", DType::F16, &[2], "raw").block_rows(1);
    let halves = [1.0, -2.0, 0.5, 0.25].map(f16::from_f32);
    writer.attach(centroids, RowSlice::new(&halves, 2).unwrap()).unwrap();
    let several = NativeSample { name: "several arrays".into(), bytes: writer.finish_bytes().unwrap() };

    // What the other samples do not have, a chunk of one row each.
    let dtypes = [DType::I8, DType::I16, DType::I32, DType::U16, DType::F64, DType::C128];
    let mut options = WriteOptions::new(Layout::Native);
    for dtype in dtypes {
        options = options.with_array(ArrayOptions::values(dtype.name(), dtype, &[2], "raw")).unwrap();
    }
    let mut writer = Writer::in_memory(options).unwrap();
    let mut buffers = dtypes.map(|dtype| {
        let mut buffer = cvc::AlignedBytes::new();
        buffer.resize(2 * dtype.size()).copy_from_slice(&bytes_of(dtype, 2));
        buffer
    });
    let rows = dtypes.iter().zip(&mut buffers);
    let rows: Vec<RowSlice<'_>> =
        rows.map(|(dtype, buffer)| RowSlice::from_bytes(*dtype, 1, 2, buffer.bytes_mut()).unwrap()).collect();
    writer.write(&rows).unwrap();
    vec![several, NativeSample { name: "raw of many dtypes".into(), bytes: writer.finish_bytes().unwrap() }]
}
