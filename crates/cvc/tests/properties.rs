//! What holds for any rows, of any shape, cut into any chunks.
//!
//! Most properties are of every layout with every codec that takes f32 rows; those of tables, further down, are of native
//! files with columns of every dtype and of strings.
//!
//! Small by default. `PROPTEST_CASES=100000 cargo test -p cvc --all-features --test properties` runs as many
//! cases of each property; a failure prints the smallest input that fails.

#[path = "support/reading.rs"]
mod reading;

use std::fmt::Write as _;
use std::io::Cursor;
use std::ops::Range;

use cvc::codec::ops::narrow::{bf16_from_f32, f16_from_f32};
use cvc::codec::ops::widen_f16::widen;
use cvc::codec::{HostBuffer, ReferenceBackend};
use cvc::format::{Params, Stored};
use cvc::{
    AlignedBytes, Array, ArrayDType, ArrayOptions, ArrayRows, Condition, DType, Element, Json, Layout, Loss,
    NonFinite, ReadOptions, Reader, RowSlice, Rows, Scope, Strings, WriteOptions, Writer,
};
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use reading::{ByteRows, Copied, read_rows};

/// How a file keeps its rows: its layout, the codec, and which values of it share their parameters.
type Kind = (Layout, &'static str, Scope);

const fn kind(layout: Layout, codec: &'static str) -> Kind {
    (layout, codec, Scope::Row)
}

/// All layouts and codecs that take f32 rows.
const ALL: [Kind; 19] = [
    kind(Layout::V0, "fp16"),
    kind(Layout::V0, "int8"),
    kind(Layout::V1, "fp16"),
    kind(Layout::V1, "int8"),
    kind(Layout::V1, "lossless"),
    kind(Layout::V2, "fp16"),
    kind(Layout::V2, "int8"),
    kind(Layout::V2, "none"),
    kind(Layout::Native, "raw"),
    kind(Layout::Native, "zstd"),
    kind(Layout::Native, "gzip"),
    kind(Layout::Native, "lossless"),
    kind(Layout::Native, "fp16"),
    kind(Layout::Native, "bf16"),
    kind(Layout::Native, "int8"),
    (Layout::Native, "int8", Scope::Dim),
    (Layout::Native, "int8", Scope::Chunk),
    kind(Layout::Native, "int4"),
    kind(Layout::Native, "bit1"),
];

/// Those that return every bit.
const EXACT: [Kind; 6] = [ALL[4], ALL[7], ALL[8], ALL[9], ALL[10], ALL[11]];

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    config
}

/// A matrix of f32 values, and the rows that a chunk and a block of its file have.
#[derive(Clone, Debug)]
struct Matrix {
    values: Vec<f32>,
    dim: usize,
    chunk_rows: u32,
    block_rows: u32,
}

impl Matrix {
    fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    fn slice(&self) -> RowSlice<'_> {
        RowSlice::new(&self.values, self.dim).unwrap()
    }

    fn options(&self, (layout, codec, scope): Kind) -> WriteOptions {
        let dim = u32::try_from(self.dim).unwrap();
        // The native codecs refuse what is not finite unless they are told not to.
        let array = ArrayOptions::values("vectors", DType::F32, &[dim], codec)
            .block_rows(self.block_rows)
            .scope(scope)
            .nonfinite(NonFinite::Saturate);
        WriteOptions::new(layout).with_array(array).unwrap().chunk_rows(self.chunk_rows).unwrap()
    }

    fn file(&self, kind: Kind) -> Vec<u8> {
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
    (1usize..9, 1usize..40, 1u32..16, 1u32..20).prop_flat_map(move |(dim, rows, chunk_rows, block_rows)| {
        vec(value.clone(), dim * rows).prop_map(move |values| Matrix { values, dim, chunk_rows, block_rows })
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
    fn what_is_lossless_returns_every_bit(matrix in matrix(any_value().boxed())) {
        for kind in EXACT {
            prop_assert_eq!(bits(&read(matrix.file(kind))), bits(&matrix.values), "{:?}", kind);
        }
    }

    #[test]
    fn fp16_returns_each_value_narrowed_and_widened(matrix in matrix(any_value().boxed())) {
        let expected: Vec<u32> =
            matrix.values.iter().map(|value| widen(f16_from_f32(*value).to_bits()).to_bits()).collect();
        for layout in [Layout::V0, Layout::V1, Layout::V2] {
            prop_assert_eq!(&bits(&read(matrix.file(kind(layout, "fp16")))), &expected, "{:?}", layout);
        }
    }

    #[test]
    fn int8_is_within_half_a_step(matrix in matrix(tame_value().boxed())) {
        for layout in [Layout::V0, Layout::V1, Layout::V2] {
            let reader = Reader::from_bytes(matrix.file(kind(layout, "int8"))).unwrap();
            let array = reader.vectors().unwrap();
            for chunk in &array.index().chunks {
                let in_chunk = |row: u64| usize::try_from(row).unwrap() * matrix.dim;
                let values = &matrix.values[in_chunk(chunk.rows.start)..in_chunk(chunk.rows.end)];
                let least = values.iter().copied().fold(f32::INFINITY, f32::min);
                let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let Stored::Framed { params: Params::Affine(params), .. } = chunk.stored else { panic!("no parameters") };
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
        let copied = Copied(std::fs::read(&path).unwrap());
        prop_assert_eq!(&from(Reader::new(Box::new(copied), ReadOptions::default()).unwrap()), &expected);
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
    fn a_prefix_of_the_dims_is_that_of_the_whole(
        (matrix, ranges) in matrix_and_ranges(),
        kind in select(ALL.to_vec()),
        part in 0.0f64..1.0,
    ) {
        let reader = Reader::from_bytes(matrix.file(kind)).unwrap();
        let whole = reader.vectors().unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the dim")]
        let dim = ((f64::from(whole.dim()) + 1.0) * part) as u32;
        let prefix = whole.prefix(dim).unwrap();
        prop_assert_eq!((prefix.dim(), prefix.rows()), (dim, whole.rows()));
        let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if kind.1 == "lossless" && kind.0 == Layout::V1 && dim != whole.dim() && wanted > 0 {
            // Its values are found by counting from the first on, and not row by row.
            let error = prefix.read::<f32>(ranges).unwrap_err().to_string();
            prop_assert!(error.contains("ask for all of them"), "{}", error);
            return Ok(());
        }
        prop_assert_eq!(prefix_of::<f32>(whole, prefix, &ranges), Ok(()));
        prop_assert_eq!(prefix_of::<f16>(whole, prefix, &ranges), Ok(()));
        prop_assert_eq!(prefix_of::<bf16>(whole, prefix, &ranges), Ok(()));
        let error = whole.prefix(whole.dim() + 1).unwrap_err();
        prop_assert!(error.is_usage() && error.to_string().contains("rows of array \"vectors\" have"), "{}", error);
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

/// Compares values of `T` read from a prefix of an array with those read from all of it.
fn prefix_of<T: Element>(whole: Array<'_>, prefix: Array<'_>, ranges: &[Range<u64>]) -> Result<(), String> {
    let read = |array: Array<'_>| array.read::<T>(ranges.to_vec()).map_err(|error| error.to_string());
    let (all, some) = (read(whole)?, read(prefix)?);
    let expected = all.chunks_exact(whole.dim() as usize).flat_map(|row| &row[..prefix.dim() as usize]);
    let expected: Vec<T> = expected.copied().collect();
    let same = bytemuck::cast_slice::<T, u8>(&some) == bytemuck::cast_slice::<T, u8>(&expected);
    if same { Ok(()) } else { Err(format!("{} of {} {} values", prefix.dim(), whole.dim(), T::DTYPE)) }
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

proptest! {
    #![proptest_config(config())]

    #[test]
    fn int8_of_native_files_is_within_half_a_step_in_every_scope(matrix in matrix(tame_value().boxed())) {
        for scope in SCOPES {
            let reader = Reader::from_bytes(matrix.file((Layout::Native, "int8", scope))).unwrap();
            let array = reader.vectors().unwrap();
            let decoded: Vec<f32> = array.read(..).unwrap();
            for values in scopes(&matrix, scope) {
                let range = Spread::of(values.iter().map(|at| matrix.values[*at]));
                for at in values {
                    let (value, decoded) = (matrix.values[at], decoded[at]);
                    let error = (f64::from(value) - f64::from(decoded)).abs();
                    prop_assert!(error <= range.bound(), "{value:e} became {decoded:e}, {range:?}, {scope:?}");
                    prop_assert!(value != range.min || decoded == value, "the least, {value:e}, became {decoded:e}");
                }
            }
        }
    }

    #[test]
    fn bf16_returns_each_value_narrowed_and_widened(matrix in matrix(any_value().boxed())) {
        // What is finite stays finite, because it is told to saturate.
        let narrowed = |value: f32| {
            let half = bf16_from_f32(value);
            if half.is_infinite() && value.is_finite() { bf16::MAX.copysign(half) } else { half }
        };
        let expected = matrix.values.iter().map(|value| u32::from(narrowed(*value).to_bits()) << 16);
        let file = matrix.file(kind(Layout::Native, "bf16"));
        prop_assert_eq!(bits(&read(file)), expected.collect::<Vec<_>>());
    }

    #[test]
    fn native_fp16_returns_each_value_narrowed_and_widened(matrix in matrix(any_value().boxed())) {
        let narrowed = |value: f32| {
            let half = f16_from_f32(value);
            if half.is_infinite() && value.is_finite() { f16::MAX.copysign(half) } else { half }
        };
        let expected = matrix.values.iter().map(|value| widen(narrowed(*value).to_bits()).to_bits());
        let file = matrix.file(kind(Layout::Native, "fp16"));
        prop_assert_eq!(bits(&read(file)), expected.collect::<Vec<_>>());
    }

    #[test]
    fn the_loss_of_a_chunk_is_what_the_formulas_say_and_a_bound(
        matrix in prop_oneof![matrix(any_value().boxed()), matrix(tame_value().boxed())],
    ) {
        for kind in ALL.into_iter().filter(|kind| kind.0 == Layout::Native) {
            prop_assert_eq!(loss_is_right(&matrix, kind, |value| value), Ok(()), "{:?} f32", kind);
            prop_assert_eq!(loss_is_right(&matrix, kind, f16_from_f32), Ok(()), "{:?} f16", kind);
            prop_assert_eq!(loss_is_right(&matrix, kind, bf16_from_f32), Ok(()), "{:?} bf16", kind);
            prop_assert_eq!(loss_is_right(&matrix, kind, |value| f64::from(value) / 3.0), Ok(()), "{:?} f64", kind);
        }
    }
}

const SCOPES: [Scope; 3] = [Scope::Row, Scope::Dim, Scope::Chunk];

/// The values of a matrix that share their parameters, as indexes into them, together.
fn scopes(matrix: &Matrix, scope: Scope) -> Vec<Vec<usize>> {
    let chunk_len = matrix.chunk_rows as usize * matrix.dim;
    let chunks = (0..matrix.values.len()).step_by(chunk_len);
    let chunks = chunks.map(|start| start..matrix.values.len().min(start + chunk_len));
    chunks
        .flat_map(|chunk| match scope {
            Scope::Row => chunk.step_by(matrix.dim).map(|row| (row..row + matrix.dim).collect()).collect(),
            Scope::Dim => {
                (0..matrix.dim).map(|dim| chunk.clone().skip(dim).step_by(matrix.dim).collect()).collect()
            }
            Scope::Chunk => vec![chunk.collect::<Vec<usize>>()],
        })
        .collect()
}

/// The smallest and the largest value that share a scale.
#[derive(Debug)]
struct Spread {
    min: f32,
    max: f32,
}

impl Spread {
    fn of(values: impl Iterator<Item = f32> + Clone) -> Spread {
        Spread {
            min: values.clone().fold(f32::INFINITY, f32::min),
            max: values.fold(f32::NEG_INFINITY, f32::max),
        }
    }

    /// How far a value can be off: docs/NUMERICS.md, "How far int8 is off".
    fn bound(&self) -> f64 {
        let step = (f64::from(self.max) - f64::from(self.min)) / 255.0;
        #[expect(clippy::cast_possible_truncation, reason = "rounded, upwards in the next line")]
        let scale = step as f32;
        let scale = f64::from(if f64::from(scale) < step { scale.next_up() } else { scale });
        let (unit, magnitude) = (2f64.powi(-24), f64::from(self.min.abs().max(self.max.abs())));
        scale * (0.5 + 768.0 * unit) + unit * (magnitude + scale)
    }
}

/// Writes the matrix as values of `T` and compares what the index says of each chunk with what is computed from what comes
/// back, in the obvious way.
fn loss_is_right<T: Element>(
    matrix: &Matrix,
    (layout, codec, scope): Kind,
    of: fn(f32) -> T,
) -> Result<(), String> {
    let values: Vec<T> = matrix.values.iter().map(|value| of(*value)).collect();
    let dim = u32::try_from(matrix.dim).unwrap();
    let array =
        ArrayOptions::values("v", T::DTYPE, &[dim], codec).scope(scope).nonfinite(NonFinite::Saturate);
    let options = WriteOptions::new(layout).with_array(array.block_rows(matrix.block_rows)).unwrap();
    let mut writer = Writer::in_memory(options.chunk_rows(matrix.chunk_rows).unwrap()).unwrap();
    writer.write_vectors(RowSlice::new(&values, matrix.dim).unwrap()).unwrap();
    let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    let array = reader.vectors().unwrap();
    for chunk in &array.index().chunks {
        let Stored::Blocked(blocked) = chunk.stored else { return Err("not a native chunk".into()) };
        let exact = ["raw", "zstd", "gzip", "lossless"].contains(&codec);
        let expected = if exact {
            Figures { max_abs_error: 0.0, mse: 0.0, min_cosine: 1.0 }
        } else {
            let at = |row: u64| usize::try_from(row).unwrap() * matrix.dim;
            let decoded: Vec<f32> = array.read(chunk.rows.clone()).map_err(|error| error.to_string())?;
            Figures::of(&values[at(chunk.rows.start)..at(chunk.rows.end)], &decoded, matrix.dim)
        };
        expected.explain(blocked.loss).map_err(|problem| format!("rows {:?}: {problem}", chunk.rows))?;
    }
    Ok(())
}

/// What a chunk lost, in f64 and summed from left to right.
#[derive(Debug)]
struct Figures {
    max_abs_error: f64,
    mse: f64,
    min_cosine: f64,
}

impl Figures {
    fn of<T: Element>(values: &[T], decoded: &[f32], dim: usize) -> Figures {
        let (mut total, mut squares, mut count) =
            (Figures { max_abs_error: 0.0, mse: 0.0, min_cosine: 1.0 }, 0.0, 0.0);
        for (values, decoded) in values.chunks_exact(dim).zip(decoded.chunks_exact(dim)) {
            let (mut most, mut xx, mut yy, mut xy) = (0f64, 0.0, 0.0, 0.0);
            for (x, y) in values.iter().map(|x| x.as_f64()).zip(decoded.iter().map(|y| f64::from(*y))) {
                let came_back = x == y || (x.is_nan() && y.is_nan());
                let error = if x.is_finite() && y.is_finite() { (x - y).abs() } else { f64::INFINITY };
                let error = if came_back { 0.0 } else { error };
                most = most.max(error);
                if x.is_finite() {
                    let y = if y.is_finite() { y } else { 0.0 };
                    (xx, yy, xy) = (xx + x * x, yy + y * y, xy + x * y);
                    squares += error * error;
                    count += 1.0;
                }
            }
            let cosine = match (most == 0.0, xx == 0.0 || yy == 0.0) {
                (true, _) => 1.0,
                (false, true) => 0.0,
                (false, false) => xy / (xx.sqrt() * yy.sqrt()),
            };
            total.max_abs_error = total.max_abs_error.max(most);
            total.min_cosine = total.min_cosine.min(cosine);
        }
        total.mse = if count == 0.0 { 0.0 } else { squares / count };
        total
    }

    /// Whether these are the figures of the index: the largest error rounded up, the others within a millionth, outwards.
    fn explain(&self, found: Loss) -> Result<(), String> {
        let (max, mse, cosine) = (found.max_abs_error, f64::from(found.mse), f64::from(found.min_cosine));
        let rounded_up = f64::from(max) >= self.max_abs_error
            && (self.max_abs_error == 0.0 || f64::from(max.next_down()) < self.max_abs_error);
        // The order of the sums makes a difference in the last digits.
        let tiny = 1e-12;
        let largest = f64::from(f32::MAX);
        let mse_fits = mse >= self.mse * (1.0 - tiny)
            && (mse <= self.mse * (1.0 + 1e-6) + 1e-44 || (mse.is_infinite() && self.mse > largest));
        let cosine_fits = cosine <= self.min_cosine + tiny && cosine >= self.min_cosine - 1e-6;
        if rounded_up && mse_fits && cosine_fits {
            Ok(())
        } else {
            Err(format!("{found:?}, expected {self:?}"))
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn tables_of_any_dtype_and_shape_return_every_bit(table in table(&["raw", "zstd", "gzip", "lossless"])) {
        let bytes = table.file();
        let readers = [
            Reader::from_bytes(bytes.clone()).unwrap(),
            Reader::new(Box::new(Copied(bytes)), ReadOptions::default()).unwrap(),
        ];
        for reader in readers {
            prop_assert!(reader.verify().unwrap().is_ok());
            prop_assert_eq!(reader.array_names().len(), table.columns.len());
            for (array, column) in reader.arrays().zip(&table.columns) {
                let index = array.index();
                prop_assert_eq!((index.dtype, &index.inner, index.rows), (column.dtype, &column.inner, table.rows as u64));
                prop_assert_eq!(&*index.codec, column.codec);
                prop_assert_eq!(array.dim() as usize, column.dim());
                prop_assert!(read_rows(array, .., 0x55).unwrap() == column.rows(), "{:?}", column);
            }
        }
    }

    #[test]
    fn any_rows_of_a_table_are_those_of_the_whole(
        (table, rows) in table(&CODECS).prop_flat_map(|table| {
            let most = table.rows.max(1) as u64;
            let rows = vec(0..most, if table.rows == 0 { 0..1 } else { 0..30 });
            (Just(table), rows)
        }),
    ) {
        let bytes = table.file();
        let readers = [
            Reader::from_bytes(bytes.clone()).unwrap(),
            Reader::new(Box::new(Copied(bytes)), ReadOptions::default()).unwrap(),
        ];
        // Single rows in any order, again and again; and ranges between neighbours of the list.
        let ranges: Vec<Range<u64>> = rows.windows(2).map(|pair| pair[0].min(pair[1])..pair[0].max(pair[1])).collect();
        for array in readers.iter().flat_map(Reader::arrays) {
            let whole = read_rows(array, .., 0).unwrap();
            let of = |rows: &mut dyn Iterator<Item = u64>| -> ByteRows {
                // Rows of no values have no bytes to compare.
                let kept = rows.filter(|_| !whole.is_empty());
                kept.map(|row| whole[usize::try_from(row).unwrap()].clone()).collect()
            };
            prop_assert_eq!(read_rows(array, &rows[..], 0x55).unwrap(), of(&mut rows.iter().copied()));
            let expected = of(&mut ranges.iter().cloned().flatten());
            prop_assert_eq!(read_rows(array, Rows::from(ranges.clone()), 0x55).unwrap(), expected);
        }
    }

    #[test]
    fn how_a_table_is_written_makes_no_difference_to_its_bytes(
        (table, cuts) in (table(&CODECS), vec(0usize..12, 0..12)),
    ) {
        let expected = table.file();
        let cut = |writer: &mut dyn FnMut(&[ArrayRows<'_>])| {
            let mut next = 0;
            for cut in cuts.iter().copied().chain([table.rows]) {
                let end = table.rows.min(next + cut);
                let rows = table.columns.iter().map(|column| column.as_rows().slice(next..end));
                writer(&rows.collect::<Vec<_>>());
                next = end;
            }
        };
        let mut writer = Writer::in_memory(table.options()).unwrap();
        cut(&mut |rows| writer.write(rows).unwrap());
        prop_assert!(writer.finish_bytes().unwrap() == expected, "split over calls");

        let mut writer = Writer::to_sink(Cursor::new(Vec::new()), table.options()).unwrap();
        cut(&mut |rows| writer.write(rows).unwrap());
        let (sink, written) = writer.finish_sink().unwrap();
        prop_assert_eq!((written.rows, written.file_len), (table.rows as u64, expected.len() as u64));
        prop_assert!(sink.into_inner() == expected, "to a sink");

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cvc");
        let mut writer = Writer::create(&path, table.options()).unwrap();
        cut(&mut |rows| writer.write(rows).unwrap());
        writer.finish().unwrap();
        prop_assert!(std::fs::read(&path).unwrap() == expected, "to a file");
        let (reader, memory) = (Reader::open(&path).unwrap(), Reader::from_bytes(expected.clone()).unwrap());
        for (array, expected) in reader.arrays().zip(memory.arrays()) {
            prop_assert_eq!(read_rows(array, .., 1).unwrap(), read_rows(expected, .., 2).unwrap());
        }

        #[cfg(feature = "rayon")]
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            prop_assert!(pool.install(|| table.file()) == expected, "{} threads", threads);
            pool.install(|| {
                let reader = Reader::from_bytes(expected.clone()).unwrap();
                for (array, expected) in reader.arrays().zip(memory.arrays()) {
                    assert_eq!(read_rows(array, .., 1).unwrap(), read_rows(expected, .., 2).unwrap());
                }
            });
        }
    }
}

/// The codecs of native files.
const CODECS: [&str; 9] = ["raw", "zstd", "gzip", "lossless", "fp16", "bf16", "int8", "int4", "bit1"];

/// A native file: columns with as many rows each.
#[derive(Clone, Debug)]
struct Table {
    columns: Vec<Column>,
    rows: usize,
    chunk_rows: Option<u32>,
}

#[derive(Clone)]
struct Column {
    dtype: ArrayDType,
    inner: Vec<u32>,
    codec: &'static str,
    scope: Scope,
    block_rows: Option<u32>,
    content: Content,
    row_count: usize,
}

#[derive(Clone)]
enum Content {
    Values(AlignedBytes),
    Strings(Strings),
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Column { dtype, inner, codec, scope, block_rows, row_count, .. } = self;
        write!(f, "{dtype} {inner:?} x {row_count}, {codec} {scope:?}, blocks of {block_rows:?}")
    }
}

impl Table {
    fn options(&self) -> WriteOptions {
        let mut options = WriteOptions::new(Layout::Native);
        if let Some(rows) = self.chunk_rows {
            options = options.chunk_rows(rows).unwrap();
        }
        for (number, column) in self.columns.iter().enumerate() {
            let name = format!("column {number}");
            let array = match column.dtype {
                ArrayDType::Values(dtype) => ArrayOptions::values(name, dtype, &column.inner, column.codec),
                _ => ArrayOptions::strings(name, column.codec),
            };
            let array = array.scope(column.scope).nonfinite(NonFinite::Saturate);
            options = options
                .with_array(column.block_rows.into_iter().fold(array, ArrayOptions::block_rows))
                .unwrap();
        }
        options
    }

    fn file(&self) -> Vec<u8> {
        let mut writer = Writer::in_memory(self.options()).unwrap();
        writer.write(&self.columns.iter().map(Column::as_rows).collect::<Vec<_>>()).unwrap();
        writer.finish_bytes().unwrap()
    }
}

impl Column {
    fn dim(&self) -> usize {
        self.inner.iter().product::<u32>() as usize
    }

    fn as_rows(&self) -> ArrayRows<'_> {
        match (&self.content, self.dtype) {
            (Content::Values(bytes), ArrayDType::Values(dtype)) => {
                RowSlice::from_bytes(dtype, self.row_count, self.dim(), bytes.bytes()).unwrap().into()
            }
            (Content::Strings(strings), _) => strings.into(),
            _ => unreachable!("made for each other"),
        }
    }

    fn rows(&self) -> ByteRows {
        match &self.content {
            Content::Values(bytes) => {
                let row_len = self.dim() * self.dtype.values().unwrap().size();
                bytes.bytes().chunks_exact(row_len.max(1)).map(<[u8]>::to_vec).collect()
            }
            Content::Strings(strings) => strings.iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }
}

fn table(codecs: &'static [&'static str]) -> impl Strategy<Value = Table> {
    let rows = prop_oneof![1 => Just(0usize), 1 => Just(1), 8 => 2usize..40];
    (rows, proptest::option::weighted(0.8, 1u32..50)).prop_flat_map(move |(rows, chunk_rows)| {
        vec(column(codecs, rows), 1..4).prop_map(move |columns| Table { columns, rows, chunk_rows })
    })
}

/// A column of `rows` rows of any dtype and shape, kept by one of those of `codecs` that take it.
fn column(codecs: &'static [&'static str], rows: usize) -> impl Strategy<Value = Column> {
    let values = select(DType::ALL.to_vec()).prop_map(ArrayDType::from);
    let dtype = prop_oneof![8 => values, 2 => Just(ArrayDType::Utf8)];
    let len = prop_oneof![1 => Just(0u32), 12 => 1u32..6];
    let how = (any::<prop::sample::Index>(), select(SCOPES.to_vec()), proptest::option::of(1u32..60));
    (dtype, vec(len, 0..4), how, any::<u64>()).prop_map(
        move |(dtype, inner, (codec, scope, block_rows), seed)| {
            let takes = |codec: &&&'static str| match (dtype.values(), **codec) {
                (_, "raw" | "zstd" | "gzip") => true,
                (dtype, _) => dtype.is_some_and(DType::is_float),
            };
            let codecs: Vec<&'static str> = codecs.iter().filter(takes).copied().collect();
            let mut random = Random(seed);
            let (inner, content) = match dtype {
                ArrayDType::Values(dtype) => {
                    let count = rows * inner.iter().product::<u32>() as usize;
                    (inner, Content::Values(random.values(dtype, count)))
                }
                _ => (Vec::new(), Content::Strings((0..rows).map(|_| random.text()).collect())),
            };
            Column {
                dtype,
                inner,
                codec: codecs[codec.index(codecs.len())],
                scope,
                block_rows,
                content,
                row_count: rows,
            }
        },
    )
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Values of any bits: noise, one value again and again, or those that are special in some dtype of that size.
    fn values(&mut self, dtype: DType, count: usize) -> AlignedBytes {
        let size = dtype.component_size();
        let (kind, first) = (self.next() % 3, self.next());
        let mut bytes = AlignedBytes::new();
        for component in bytes.resize(count * dtype.size()).chunks_exact_mut(size) {
            let word = match kind {
                0 => self.next(),
                1 => first,
                _ => self.special(size),
            };
            let word = if dtype == DType::Bool { word & 1 } else { word };
            component.copy_from_slice(&word.to_le_bytes()[..size]);
            if cfg!(target_endian = "big") {
                component.reverse();
            }
        }
        bytes
    }

    fn special(&mut self, size: usize) -> u64 {
        // Of each format: infinity, a signalling NaN, another with a sign, the least subnormal, the least normal number.
        let words: &[u64] = match size {
            2 => &[0x7c00, 0x7c01, 0xfd55, 0x0001, 0x0400, 0x7f80, 0x7f81, 0xffd5, 0x0080],
            4 => &[0x7f80_0000, 0x7f80_0001, 0xffaa_aaaa, 1, 0x0080_0000],
            8 => &[0x7ff0 << 48, 0x7ff0 << 48 | 1, 0xfff5_5555_5555_5555, 1, 0x0010 << 48],
            _ => &[0x7f],
        };
        // And zero with a sign, which is the least integer, the greatest one, and -1.
        let least = 1u64 << (size * 8 - 1);
        match self.below(words.len() + 4) {
            0 => 0,
            1 => least,
            2 => least - 1,
            3 => u64::MAX,
            at => words[at - 4],
        }
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(9) {
            match self.below(4) {
                0 => text.push_str("the "),
                1 => text.push(['\0', 'é', '日', '💡'][self.below(4)]),
                _ => write!(text, "{}", self.next() % 100).unwrap(),
            }
        }
        text
    }
}
