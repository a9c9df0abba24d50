//! What holds for any rows, of any shape, cut into any chunks.
//!
//! Small by default. `PROPTEST_CASES=100000 cargo test -p cvc --all-features --test properties` runs as many
//! cases of each property; a failure prints the smallest input that fails.

use std::ops::Range;

use cvc::codec::ops::narrow::{bf16_from_f32, f16_from_f32};
use cvc::codec::ops::widen_f16::widen;
use cvc::codec::{HostBuffer, ReferenceBackend};
use cvc::format::Params;
use cvc::{AlignedBytes, Condition, DType, Element, Json, Layout, Reader, RowSlice, WriteOptions, Writer};
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Layouts with one array, and their codecs.
const SINGLE: [(Layout, &str); 5] = [
    (Layout::V0, "fp16"),
    (Layout::V0, "int8"),
    (Layout::V1, "fp16"),
    (Layout::V1, "int8"),
    (Layout::V1, "lossless"),
];

/// All layouts and codecs that take f32 rows.
const ALL: [(Layout, &str); 8] = [
    SINGLE[0],
    SINGLE[1],
    SINGLE[2],
    SINGLE[3],
    SINGLE[4],
    (Layout::V2, "fp16"),
    (Layout::V2, "int8"),
    (Layout::V2, "none"),
];

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    config
}

/// A matrix of f32 values, and the rows that a chunk of its file has.
#[derive(Clone, Debug)]
struct Matrix {
    values: Vec<f32>,
    dim: usize,
    chunk_rows: u32,
}

impl Matrix {
    fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    fn slice(&self) -> RowSlice<'_> {
        RowSlice::new(&self.values, self.dim).unwrap()
    }

    fn options(&self, (layout, codec): (Layout, &str)) -> WriteOptions {
        let dim = u32::try_from(self.dim).unwrap();
        let options = WriteOptions::new(layout).vectors(DType::F32, dim, codec).unwrap();
        options.chunk_rows(self.chunk_rows).unwrap()
    }

    fn file(&self, kind: (Layout, &str)) -> Vec<u8> {
        let mut writer = Writer::in_memory(self.options(kind)).unwrap();
        writer.write_vectors(self.slice()).unwrap();
        writer.finish_bytes().unwrap()
    }
}

/// Any of the 2^32 patterns, with the ones that are special as likely as all the others.
fn any_value() -> impl Strategy<Value = f32> {
    let special = [
        0x0000_0000u32, // zero
        0x8000_0000,    // and with a sign
        0x0000_0001,    // least subnormal
        0x3300_0000,    // half of the least subnormal half
        0x3880_0000,    // least normal half
        0x477f_efff,    // last to round to the greatest half
        0x477f_f000,    // first to round to infinity
        0x7f7f_ffff,    // greatest
        0x7f80_0000,    // infinity
        0xff80_0000,    // and with a sign
        0x7f80_0001,    // signalling NaN, payload lost in a half
        0x7fa0_2000,    // signalling NaN, payload kept
        0xffff_ffff,    // quiet NaN
    ];
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        select(special.to_vec()).prop_map(f32::from_bits),
        -4.0f32..4.0,
    ]
}

/// Values that int8 is made for: finite, and so is their spread.
fn tame_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        -1.0f32..1.0,
        1000.0f32..1000.5,
        -1e37f32..1e37,
        any::<u32>().prop_map(|bits| f32::from_bits(bits & 0x80ff_ffff)),
    ]
}

fn matrix(value: impl Strategy<Value = f32> + Clone) -> impl Strategy<Value = Matrix> {
    (1usize..9, 1usize..40, 1u32..16).prop_flat_map(move |(dim, rows, chunk_rows)| {
        vec(value.clone(), dim * rows).prop_map(move |values| Matrix { values, dim, chunk_rows })
    })
}

/// A matrix, and ranges of its rows: any number, empty ones too, in any order, again and again.
fn matrix_and_ranges() -> impl Strategy<Value = (Matrix, Vec<Range<u64>>)> {
    matrix(any_value().boxed()).prop_flat_map(|matrix| {
        let rows = matrix.rows() as u64;
        let range = (0..=rows, 0..=rows).prop_map(|(a, b)| a.min(b)..a.max(b));
        (Just(matrix), vec(range, 0..6))
    })
}

/// Where to cut `rows` rows into parts: each number is the length of the next.
fn matrix_and_cuts() -> impl Strategy<Value = (Matrix, Vec<usize>)> {
    (matrix(any_value().boxed()), vec(0usize..12, 0..12))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn read(bytes: Vec<u8>) -> Vec<f32> {
    Reader::from_bytes(bytes).unwrap().vectors().unwrap().read(..).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn lossless_and_none_return_every_bit(matrix in matrix(any_value().boxed())) {
        for kind in [(Layout::V1, "lossless"), (Layout::V2, "none")] {
            prop_assert_eq!(bits(&read(matrix.file(kind))), bits(&matrix.values), "{:?}", kind);
        }
    }

    #[test]
    fn fp16_returns_each_value_narrowed_and_widened(matrix in matrix(any_value().boxed())) {
        let expected: Vec<u32> =
            matrix.values.iter().map(|value| widen(f16_from_f32(*value).to_bits()).to_bits()).collect();
        for layout in [Layout::V0, Layout::V1, Layout::V2] {
            prop_assert_eq!(&bits(&read(matrix.file((layout, "fp16")))), &expected, "{:?}", layout);
        }
    }

    #[test]
    fn int8_is_within_half_a_step(matrix in matrix(tame_value().boxed())) {
        for layout in [Layout::V0, Layout::V1, Layout::V2] {
            let reader = Reader::from_bytes(matrix.file((layout, "int8"))).unwrap();
            let array = reader.vectors().unwrap();
            for chunk in &array.index().chunks {
                let in_chunk = |row: u64| usize::try_from(row).unwrap() * matrix.dim;
                let values = &matrix.values[in_chunk(chunk.rows.start)..in_chunk(chunk.rows.end)];
                let least = values.iter().copied().fold(f32::INFINITY, f32::min);
                let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let Params::Affine(params) = chunk.params else { panic!("no parameters") };
                prop_assert_eq!(params.min, f64::from(least));
                #[expect(clippy::cast_possible_truncation, reason = "rounded, as decoding does")]
                let step = params.scale as f32;
                // Below, a step has lost its precision: docs/NUMERICS.md, "How far int8 is off".
                if step < f32::MIN_POSITIVE {
                    continue;
                }
                let (step, unit) = (f64::from(step), 2f64.powi(-24));
                let spread = f64::from(greatest) - f64::from(least);
                prop_assert!(spread == 0.0 || (step - spread / 255.0).abs() <= spread / 255.0 * 4.0 * unit);
                let magnitude = f64::from(least.abs().max(greatest.abs()));
                let bound = step * (0.5 + 768.0 * unit) + unit * (magnitude + step);
                let decoded: Vec<f32> = array.read(chunk.rows.clone()).unwrap();
                for (value, decoded) in values.iter().zip(&decoded) {
                    let error = (f64::from(*value) - f64::from(*decoded)).abs();
                    prop_assert!(error <= bound, "{value:e} became {decoded:e}, {error:e} off; {bound:e} allowed");
                }
            }
        }
    }

    #[test]
    fn columns_of_every_dtype_return_their_bits(
        words in vec(any::<u64>(), 1..40),
        dim in 1u32..6,
        chunk_rows in 1u32..8,
    ) {
        prop_assert_eq!(exact_column::<f32>(&words, dim, chunk_rows), Ok(()));
        prop_assert_eq!(exact_column::<f16>(&words, dim, chunk_rows), Ok(()));
        prop_assert_eq!(exact_column::<i64>(&words, dim, chunk_rows), Ok(()));
        prop_assert_eq!(exact_column::<i32>(&words, dim, chunk_rows), Ok(()));
        prop_assert_eq!(exact_column::<i8>(&words, dim, chunk_rows), Ok(()));
        prop_assert_eq!(exact_column::<u8>(&words, dim, chunk_rows), Ok(()));
    }

    #[test]
    fn how_rows_are_split_over_calls_does_not_change_the_file((matrix, cuts) in matrix_and_cuts()) {
        for kind in ALL {
            let mut writer = Writer::in_memory(matrix.options(kind)).unwrap();
            let mut next = 0;
            for cut in cuts.iter().copied().chain([matrix.rows()]) {
                let end = matrix.rows().min(next + cut);
                writer.write_vectors(matrix.slice().slice(next..end)).unwrap();
                next = end;
                prop_assert_eq!(writer.rows(), next as u64);
            }
            prop_assert_eq!(writer.finish_bytes().unwrap(), matrix.file(kind), "{:?}", kind);
        }
    }

    #[test]
    fn any_ranges_of_rows_are_those_of_the_whole((matrix, ranges) in matrix_and_ranges(), kind in select(ALL.to_vec())) {
        let bytes = matrix.file(kind);
        let whole = read(bytes.clone());
        let expected: Vec<f32> = ranges
            .iter()
            .flat_map(|range| {
                let of = |row: u64| usize::try_from(row).unwrap() * matrix.dim;
                whole[of(range.start)..of(range.end)].to_vec()
            })
            .collect();
        let reader = Reader::from_bytes(bytes).unwrap();
        let array = reader.vectors().unwrap();
        let read: Vec<f32> = array.read(ranges.clone()).unwrap();
        prop_assert_eq!(bits(&read), bits(&expected));
        let mut given = vec![f32::NAN; expected.len()];
        array.read_into(ranges.clone(), &mut given).unwrap();
        prop_assert_eq!(bits(&given), bits(&expected));
        prop_assert_eq!(array.decoded_len(ranges.clone(), DType::F32).unwrap(), expected.len() * 4);
        // A buffer that is one value too long.
        given.push(0.0);
        let error = array.read_into(ranges, &mut given).unwrap_err();
        prop_assert!(error.is_usage() && error.to_string().contains("the destination holds"), "{}", error);
    }

    #[test]
    fn the_source_makes_no_difference(matrix in matrix(any_value().boxed()), kind in select(ALL.to_vec())) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cvc");
        let mut writer = Writer::create(&path, matrix.options(kind)).unwrap();
        writer.write_vectors(matrix.slice()).unwrap();
        let written = writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        prop_assert_eq!(written.file_len, bytes.len() as u64);
        prop_assert_eq!(written.rows, matrix.rows() as u64);
        prop_assert_eq!(&bytes, &matrix.file(kind));

        let expected = bits(&read(bytes));
        let from = |reader: Reader| -> Vec<u32> { bits(&reader.vectors().unwrap().read(..).unwrap()) };
        prop_assert_eq!(&from(Reader::open(&path).unwrap()), &expected);
        #[cfg(feature = "mmap")]
        prop_assert_eq!(&from(Reader::open_mapped(&path).unwrap()), &expected);
    }

    #[test]
    fn sections_come_back_and_every_match_is_found(
        matrix in matrix((-1.0f32..1.0).boxed()),
        lens in vec((0usize..4, 1usize..6, 0u64..3), 0..8),
        kind in select(ALL.to_vec()),
    ) {
        // Gaps and sections in turn, as far as the rows go.
        let mut sections: Vec<(Range<u64>, u64)> = Vec::new();
        let mut next = 0;
        for (gap, len, value) in lens {
            let (start, end) = (next + gap, next + gap + len);
            if end > matrix.rows() {
                break;
            }
            sections.push((start as u64..end as u64, value));
            next = end;
        }
        let mut writer = Writer::in_memory(matrix.options(kind)).unwrap();
        // They may be told before their rows come, and in any order.
        for (rows, value) in sections.iter().rev() {
            let metadata = Json::object([("k", Json::from(*value)), ("from", Json::from(rows.start))]);
            writer.add_section(rows.clone(), metadata).unwrap();
        }
        writer.write_vectors(matrix.slice()).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        let read: Vec<(Range<u64>, u64)> = reader
            .sections()
            .iter()
            .map(|section| (section.rows.clone(), section.metadata.get("k").unwrap().as_u64().unwrap()))
            .collect();
        prop_assert_eq!(&read, &sections);
        for wanted in 0..3 {
            let found = reader.find(&[Condition::new("k", wanted)]);
            if sections.is_empty() {
                prop_assert!(found.is_err());
                continue;
            }
            let expected: Vec<Range<u64>> =
                sections.iter().filter(|(_, value)| *value == wanted).map(|(rows, _)| rows.clone()).collect();
            let ranges = found.unwrap().resolve(matrix.rows() as u64).unwrap();
            prop_assert_eq!(&ranges, &expected);
            // All conditions must hold.
            for (rows, value) in &sections {
                let both = [Condition::new("k", wanted), Condition::new("from", rows.start)];
                let ranges = reader.find(&both).unwrap().resolve(matrix.rows() as u64).unwrap();
                prop_assert_eq!(ranges.contains(rows), *value == wanted);
                prop_assert!(ranges.len() <= 1);
            }
        }
    }

    #[test]
    fn halves_are_the_f32_values_narrowed(matrix in matrix(any_value().boxed()), kind in select(ALL.to_vec())) {
        let reader = Reader::from_bytes(matrix.file(kind)).unwrap();
        let array = reader.vectors().unwrap();
        let wide: Vec<f32> = array.read(..).unwrap();
        let f16s: Vec<u16> = array.read::<f16>(..).unwrap().iter().map(|value| value.to_bits()).collect();
        let bf16s: Vec<u16> = array.read::<bf16>(..).unwrap().iter().map(|value| value.to_bits()).collect();
        prop_assert_eq!(f16s, wide.iter().map(|value| f16_from_f32(*value).to_bits()).collect::<Vec<_>>());
        prop_assert_eq!(bf16s, wide.iter().map(|value| bf16_from_f32(*value).to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn the_processor_gives_the_bits_of_the_reference((matrix, ranges) in matrix_and_ranges(), kind in select(ALL.to_vec())) {
        let reader = Reader::from_bytes(matrix.file(kind)).unwrap();
        let array = reader.vectors().unwrap();
        let values: Vec<f32> = array.read(ranges.clone()).unwrap();
        let mut judged = vec![f32::NAN; values.len()];
        let reference = ReferenceBackend::default();
        array.decode(&reference, ranges, DType::F32, &mut HostBuffer::new(&mut judged)).unwrap();
        prop_assert_eq!(bits(&values), bits(&judged));
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn the_number_of_threads_changes_nothing(matrix in matrix(any_value().boxed()), kind in select(ALL.to_vec())) {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let bytes = matrix.file(kind);
                (bits(&read(bytes.clone())), bytes)
            })
        };
        prop_assert!(with(1) == with(3));
    }
}

/// Writes and reads a column of these bits as values of `T`, uncompressed.
fn exact_column<T: Element>(words: &[u64], dim: u32, chunk_rows: u32) -> Result<(), String> {
    let row_len = dim as usize * T::DTYPE.size();
    let rows = size_of_val(words) / row_len;
    if rows == 0 {
        return Ok(());
    }
    let mut bytes = AlignedBytes::new();
    bytes.resize(rows * row_len).copy_from_slice(&bytemuck::cast_slice(words)[..rows * row_len]);
    let options = WriteOptions::new(Layout::V2).array("c", T::DTYPE, dim, "none").unwrap();
    let mut writer = Writer::in_memory(options.chunk_rows(chunk_rows).unwrap()).unwrap();
    writer.write_vectors(RowSlice::from_bytes(T::DTYPE, rows, dim as usize, bytes.bytes()).unwrap()).unwrap();
    let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    let array = reader.array("c").unwrap();
    let mut read = vec![T::zeroed(); rows * dim as usize];
    array.read_into(.., &mut read).unwrap();
    let same = array.dtype().unwrap() == T::DTYPE && bytemuck::cast_slice::<T, u8>(&read) == bytes.bytes();
    if same { Ok(()) } else { Err(format!("{} values came back different", T::DTYPE)) }
}
