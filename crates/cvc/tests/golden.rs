//! Files written by the real packages are read to the bits those packages load, and written again byte for byte; and so
//! are native files that earlier versions of this crate wrote.
//!
//! Where upstream is wrong (`docs/FORMAT.md` lists the cases) the right answer is asserted instead, and named here.
//!
//! To add native files: an arm in [`native_file`], its name in [`NATIVE`], and
//! `cargo test -p cvc --test golden -- --ignored` writes what is missing, and never what is there; then `cargo xtask golden`.

#[path = "support/reading.rs"]
mod reading;

use cvc::format::cvcf::stored_name;
use cvc::format::{ChunkId, Json};
use cvc::{
    AlignedBytes, Array, ArrayDType, ArrayOptions, ArrayRows, Condition, DType, Layout, NonFinite, Overwrite,
    ReadOptions, Reader, RowSlice, Rows, Scope, Strings, WriteOptions, Writer,
};
use cvc_conformance::golden::{DECOMPRESSED, Entry, Manifest, NativeFile, native_files};
use cvc_conformance::npy::Npy;

use reading::{Copied, read_rows};

/// Runs `test` for every entry that has a file.
fn for_each_file(mut test: impl FnMut(&Manifest, &Entry, Vec<u8>)) {
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_none()) {
            let bytes = std::fs::read(manifest.path(&entry.file)).unwrap();
            test(&manifest, entry, bytes);
        }
    }
}

/// Decodes rows of an array to native bytes of `dtype`.
fn decode(array: Array<'_>, rows: impl Into<Rows>, dtype: DType) -> Vec<u8> {
    let rows = rows.into();
    match dtype {
        DType::F32 => bytemuck::cast_slice(&array.read::<f32>(rows).unwrap()).to_vec(),
        DType::F16 => bytemuck::cast_slice(&array.read::<half::f16>(rows).unwrap()).to_vec(),
        DType::I32 => bytemuck::cast_slice(&array.read::<i32>(rows).unwrap()).to_vec(),
        DType::I64 => bytemuck::cast_slice(&array.read::<i64>(rows).unwrap()).to_vec(),
        DType::I8 => bytemuck::cast_slice(&array.read::<i8>(rows).unwrap()).to_vec(),
        DType::U8 => array.read::<u8>(rows).unwrap(),
        other => panic!("no golden file holds {other}"),
    }
}

fn assert_bits(file: &str, found: &[u8], expected: &Npy) {
    let at = found.iter().zip(&expected.bytes).position(|(a, b)| a != b);
    assert!(
        found == expected.bytes,
        "{file}: {} bytes, expected {}, first difference in value {:?}",
        found.len(),
        expected.bytes.len(),
        at.map(|at| at / expected.dtype.size())
    );
}

fn shape(array: &Npy) -> Vec<u64> {
    array.shape.iter().map(|extent| *extent as u64).collect()
}

#[test]
fn every_file_of_one_array_loads_to_the_expected_bits() {
    let mut files = 0;
    for_each_file(|manifest, entry, bytes| {
        let Some(expected) = &entry.expected else { return };
        let reader = Reader::from_bytes(bytes).unwrap_or_else(|error| panic!("{}: {error}", entry.file));
        let array = reader.vectors().unwrap();
        let expected = manifest.npy(expected);
        assert_eq!(array.index().shape(), shape(&expected));
        assert_bits(&entry.file, &decode(array, .., DType::F32), &expected);
        assert!(reader.verify().unwrap().is_ok(), "{}", entry.file);
        files += 1;
    });
    // 73 + 107 entries, less one in each that cannot be packed, less five with columns.
    assert_eq!(files, 173);
}

#[test]
fn every_column_loads_to_its_true_dtype() {
    let mut columns = 0;
    for_each_file(|manifest, entry, bytes| {
        let reader = Reader::from_bytes(bytes).unwrap();
        for column in &entry.columns {
            let array = reader.array(&column.name).unwrap();
            let input = manifest.npy(&column.input);
            assert_eq!(array.index().shape(), shape(&input));
            let dtype = array.dtype().unwrap();
            if &*array.index().codec == "raw" {
                // Upstream reads every such column as int32 and returns float32; the input is the right answer.
                assert_eq!(dtype, input.dtype);
                assert_bits(&entry.file, &decode(array, .., dtype), &input);
            } else {
                let expected = manifest.npy(column.expected.as_ref().unwrap());
                assert_bits(&entry.file, &decode(array, .., DType::F32), &expected);
            }
            columns += 1;
        }
    });
    assert_eq!(columns, 11);
}

#[test]
fn every_filter_finds_what_it_should() {
    let mut filters = 0;
    for_each_file(|manifest, entry, bytes| {
        let reader = Reader::from_bytes(bytes).unwrap();
        for filter in &entry.filters {
            let array = reader.vectors().unwrap();
            let rows = match argument(&filter.call, "chunk_indices") {
                Some(list) => Rows::from(chunk_rows(&array, list)),
                None => {
                    let kind = if filter.call.contains("section_key") { "section" } else { "metadata" };
                    let key = argument(&filter.call, &format!("{kind}_key")).unwrap();
                    let value = argument(&filter.call, &format!("{kind}_value")).unwrap();
                    reader.find(&[Condition::new(unquote(key), python_value(value))]).unwrap()
                }
            };
            let found = decode(array, rows, DType::F32);
            let context = format!("{}: {}", entry.file, filter.call);
            match &filter.expected {
                None => assert!(found.is_empty(), "{context}: upstream finds nothing, an error there"),
                // Upstream keeps only the first match in each chunk: 10 rows of 15, 125 of 138.
                Some(file) if file.contains("q_high") || file.contains("quality_high") => {
                    let whole = decode(array, .., DType::F32);
                    let row_len = array.dim() as usize * 4;
                    let rows: &[std::ops::Range<usize>] =
                        if file.contains("q_high") { &[0..10, 30..35] } else { &[0..138] };
                    let parts: Vec<&[u8]> =
                        rows.iter().map(|rows| &whole[rows.start * row_len..rows.end * row_len]).collect();
                    assert!(found == parts.concat(), "{context}");
                }
                // In JSON, 1 is not true; and null is a value, which no section here has.
                Some(file) if file.contains("bool_vs_int") || file.contains("none_value") => {
                    assert!(found.is_empty(), "{context}");
                }
                Some(file) => assert_bits(&context, &found, &manifest.npy(file)),
            }
            filters += 1;
        }
    });
    assert!(filters > 60, "{filters}");
}

#[test]
fn packing_the_same_input_gives_the_same_bytes() {
    let mut files = 0;
    for_each_file(|manifest, entry, bytes| {
        let original = Reader::from_bytes(bytes.clone()).unwrap();
        if original.layout() == Layout::V1Mmap {
            // Read only: upstream's own writer of it is broken.
            return;
        }
        let packed = pack(manifest, entry, &original);
        if packed != bytes {
            let at = packed.iter().zip(&bytes).position(|(a, b)| a != b);
            let around = |bytes: &[u8]| {
                let at = at.unwrap_or(0);
                String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]).into_owned()
            };
            panic!(
                "{}: {} bytes, expected {}, first difference at {at:?}\nfound    {}\nexpected {}",
                entry.file,
                packed.len(),
                bytes.len(),
                around(&packed),
                around(&bytes)
            );
        }
        files += 1;
    });
    // All that can be packed, less the one mapped file.
    assert_eq!(files, 177);
}

#[test]
fn what_upstream_refuses_to_pack_is_an_error_that_says_why() {
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_some()) {
            let layout = if version == "0.1.0" { Layout::V0 } else { Layout::V1 };
            let input = manifest.npy(entry.input.as_ref().unwrap());
            let options = WriteOptions::new(layout).vectors(input.dtype, 0, "int8").unwrap();
            let mut writer = Writer::in_memory(options).unwrap();
            let rows = RowSlice::from_bytes(input.dtype, input.shape[0], 0, &[]).unwrap();
            let error =
                writer.write_vectors(rows).and_then(|()| writer.finish_bytes().map(drop)).unwrap_err();
            assert!(error.to_string().contains("no smallest value"), "{error}");
        }
    }
}

/// Packs the inputs of an entry with the arguments of its call.
fn pack(manifest: &Manifest, entry: &Entry, original: &Reader) -> Vec<u8> {
    let layout = original.layout();
    let chunk_rows = argument(&entry.call, "chunk_size").map_or(100_000, |text| text.parse().unwrap());
    let mut options = WriteOptions::new(layout).chunk_rows(chunk_rows).unwrap();
    let mut inputs: Vec<Npy> = Vec::new();
    for array in &original.index().arrays {
        let file = match &entry.input {
            Some(file) => file,
            None => &entry.columns.iter().find(|column| column.name == array.name).unwrap().input,
        };
        let input = manifest.npy(file);
        let codec = match argument(&entry.call, "compression") {
            Some(codec) => unquote(codec),
            // What the call says, or upstream's default for the dtype.
            None => match argument(&entry.call, &format!("'{}'", array.name)) {
                Some(codec) => unquote(codec),
                None if input.dtype.is_float() => "fp16",
                None => "none",
            },
        };
        assert_eq!(stored_name(layout, &array.codec), Some(codec), "{}: {}", entry.file, array.name);
        options =
            options.array(&array.name, input.dtype, u32::try_from(dim(&input)).unwrap(), codec).unwrap();
        inputs.push(input);
    }
    if !original.index().chunk_metadata.is_empty() {
        // Keys in the order they were given, which the manifest has sorted; the values are the manifest's.
        let metadata: Vec<Json> = original.index().chunk_metadata.iter().flatten().cloned().collect();
        for (found, expected) in metadata.iter().zip(&entry.chunk_metadata) {
            assert_eq!(*found, json(expected), "{}", entry.file);
        }
        options = options.chunk_metadata(metadata);
    }
    let mut writer = Writer::in_memory(options).unwrap();
    let mut first_row = 0;
    for (section, expected) in original.sections().iter().zip(&entry.sections) {
        let rows = first_row..first_row + expected.rows as u64;
        first_row = rows.end;
        assert_eq!(section.metadata, json(&expected.metadata), "{}", entry.file);
        writer.add_section(rows, section.metadata.clone()).unwrap();
    }
    let rows = inputs
        .iter()
        .map(|input| RowSlice::from_bytes(input.dtype, input.shape[0], dim(input), &input.bytes).unwrap());
    writer.write(&rows.collect::<Vec<_>>()).unwrap();
    writer.finish_bytes().unwrap()
}

fn dim(input: &Npy) -> usize {
    *input.shape.get(1).unwrap_or(&1)
}

fn json(value: &impl ToString) -> Json {
    Json::parse(value.to_string().as_bytes(), 64).unwrap()
}

/// The value of an argument of a Python call: what stands between `name=` or `name: ` and the comma or bracket.
fn argument<'a>(call: &'a str, name: &str) -> Option<&'a str> {
    let after = [format!("{name}="), format!("{name}: ")].iter().find_map(|text| {
        let at = call.find(text.as_str())?;
        Some(&call[at + text.len()..])
    })?;
    let end = if after.starts_with('[') { after.find(']')? + 1 } else { after.find([',', ')', '}'])? };
    Some(&after[..end])
}

fn unquote(text: &str) -> &str {
    text.trim_matches('\'')
}

fn python_value(text: &str) -> Json {
    match text {
        "None" => Json::Null,
        _ if text.starts_with('\'') => Json::from(unquote(text)),
        number => Json::parse(number.as_bytes(), 1).unwrap(),
    }
}

/// The rows of the chunks of a Python list, which upstream returns in file order, each once.
fn chunk_rows(array: &Array<'_>, list: &str) -> Vec<std::ops::Range<u64>> {
    let list = list.trim_matches(['[', ']']).split(',');
    let mut chunks: Vec<u32> = list.map(|index| index.trim().parse().unwrap()).collect();
    chunks.sort_unstable();
    chunks.dedup();
    chunks.iter().map(|chunk| array.index().chunks[ChunkId(*chunk).index()].rows.clone()).collect()
}

#[test]
fn single_rows_come_back_in_the_order_asked_for() {
    for (version, file) in [("0.1.0", "multichunk_fp16.cvc"), ("2.1.1", "multichunk_lossless.cvc")] {
        let reader =
            Reader::from_bytes(std::fs::read(Manifest::decompressed(version).path(file)).unwrap()).unwrap();
        let array = reader.vectors().unwrap();
        let dim = array.dim() as usize;
        let whole: Vec<f32> = array.read(..).unwrap();
        // Across chunks of 128 rows, backwards, repeated, and two neighbours.
        let rows = [499u64, 0, 127, 128, 300, 300, 5];
        let found: Vec<f32> = array.read(&rows[..]).unwrap();
        let expected: Vec<f32> = rows
            .iter()
            .flat_map(|row| whole[usize::try_from(*row).unwrap() * dim..][..dim].to_vec())
            .collect();
        assert_eq!(found, expected);
    }
}

/// The native files of format 1.0. Once released, one is only ever added.
const NATIVE: [&str; 18] = [
    "bf16",
    "bit1",
    "dtypes",
    "empty",
    "fp16",
    "from_v1",
    "gzip",
    "int4",
    "int8_chunk",
    "int8_dim",
    "int8_row",
    "lossless",
    "raw",
    "saturate",
    "saturate_rotated",
    "strings",
    "table",
    "zstd",
];

/// Makes a native file, from nothing but what stands here (and, of `from_v1`, a golden file of upstream's).
fn native_file(name: &str) -> Vec<u8> {
    let floats = [DType::F16, DType::Bf16, DType::F32, DType::F64];
    match name {
        "empty" => Writer::in_memory(native()).unwrap().finish_bytes().unwrap(),
        "raw" | "lossless" | "zstd" | "gzip" => values_file(name, &floats, Scope::Row, true),
        "fp16" | "bf16" | "int4" | "bit1" => values_file(name, &floats, Scope::Row, false),
        "int8_row" => values_file("int8", &floats, Scope::Row, false),
        "int8_dim" => values_file("int8", &floats, Scope::Dim, false),
        "int8_chunk" => values_file("int8", &floats, Scope::Chunk, false),
        "dtypes" => values_file("raw", &DType::ALL, Scope::Row, true),
        "saturate" => saturate_file(&["fp16", "bf16", "int8"]),
        "saturate_rotated" => saturate_file(&["int4", "bit1"]),
        "strings" => strings_file(),
        "table" => table_file(),
        "from_v1" => {
            let original = Manifest::decompressed("2.1.1").path("chunkmeta_int8.cvc");
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("x.cvc");
            Reader::open(original).unwrap().convert(&path, Layout::Native, Overwrite::Refuse).unwrap();
            std::fs::read(path).unwrap()
        }
        other => panic!("nobody says what {other} is"),
    }
}

/// Chunks of 32 rows, so that 70 rows are three.
fn native() -> WriteOptions {
    WriteOptions::new(Layout::Native).chunk_rows(32).unwrap()
}

const NATIVE_ROWS: usize = 70;

/// Tame floats of one magnitude: thousandths from -4 to 4, in no order.
fn tame(at: usize) -> f32 {
    f32::from(u16::try_from(at * 5437 % 8009).unwrap()) / 1000.0 - 4.0
}

/// `count` values: tame floats, or numbers counted up; where `odd`, every eleventh has bits of its own.
fn values_of(dtype: DType, count: usize, odd: bool) -> AlignedBytes {
    let mut buffer = AlignedBytes::new();
    let size = dtype.component_size();
    for (at, component) in buffer.resize(count * dtype.size()).chunks_exact_mut(size).enumerate() {
        let word: u64 = match dtype {
            _ if odd && at % 11 == 10 => (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            DType::F16 => u64::from(half::f16::from_f32(tame(at)).to_bits()),
            DType::Bf16 => u64::from(half::bf16::from_f32(tame(at)).to_bits()),
            DType::F32 | DType::C64 => u64::from(tame(at).to_bits()),
            DType::F64 | DType::C128 => (f64::from(tame(at)) / 3.0).to_bits(),
            _ => at as u64,
        };
        let word = if dtype == DType::Bool { word & 1 } else { word };
        component.copy_from_slice(&word.to_le_bytes()[..size]);
        from_little_endian(component, size);
    }
    buffer
}

/// Native values become little-endian ones, or the other way round.
fn from_little_endian(bytes: &mut [u8], size: usize) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

/// One array for each dtype: rows of 24 values, in blocks of 5 rows.
fn values_file(codec: &str, dtypes: &[DType], scope: Scope, odd: bool) -> Vec<u8> {
    let mut options = native();
    for dtype in dtypes {
        let array = ArrayOptions::values(dtype.name(), *dtype, &[24], codec).scope(scope).block_rows(5);
        options = options.with_array(array).unwrap();
    }
    let buffers: Vec<AlignedBytes> =
        dtypes.iter().map(|dtype| values_of(*dtype, NATIVE_ROWS * 24, odd)).collect();
    let rows = dtypes.iter().zip(&buffers);
    let rows: Vec<RowSlice<'_>> = rows
        .map(|(dtype, buffer)| RowSlice::from_bytes(*dtype, NATIVE_ROWS, 24, buffer.bytes()).unwrap())
        .collect();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&rows).unwrap();
    writer.finish_bytes().unwrap()
}

/// What codecs make of values that they cannot represent.
fn saturate_file(codecs: &[&str]) -> Vec<u8> {
    let values = [
        1.0,
        f32::NAN,
        f32::INFINITY,
        -2.0,
        3.0,
        f32::NEG_INFINITY,
        1e30,
        f32::MAX,
        0.0,
        -0.0,
        65520.0,
        1e-45,
    ];
    let mut options = native();
    for codec in codecs {
        let array = ArrayOptions::values(*codec, DType::F32, &[3], *codec).nonfinite(NonFinite::Saturate);
        options = options.with_array(array).unwrap();
    }
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&vec![RowSlice::new(&values, 3).unwrap(); codecs.len()]).unwrap();
    writer.finish_bytes().unwrap()
}

fn titles() -> Strings {
    let text = |row: usize| {
        ["", "Grüße", "日本語", "💡", "the quick brown fox"][row % 5].repeat(row % 3) + &row.to_string()
    };
    (0..NATIVE_ROWS).map(|row| if row % 7 == 3 { String::new() } else { text(row) }).collect()
}

fn strings_file() -> Vec<u8> {
    let mut options = native();
    for codec in ["raw", "zstd", "gzip"] {
        options = options.with_array(ArrayOptions::strings(codec, codec).block_rows(9)).unwrap();
    }
    let titles = titles();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&[&titles, &titles, &titles]).unwrap();
    writer.finish_bytes().unwrap()
}

/// Several arrays, one of them with rows of its own; shapes; sections, metadata that strict JSON cannot say, provenance.
fn table_file() -> Vec<u8> {
    let parse = |text: &str| Json::parse(text.as_bytes(), 64).unwrap();
    let vectors = values_of(DType::F32, NATIVE_ROWS * 6, false);
    let ids = values_of(DType::I64, NATIVE_ROWS, true);
    let titles = titles();
    let provenance = parse(r#"{"model":"m","revision":"r1","normalized":false,"dimension":6}"#);
    let options = native()
        .metadata(parse(r#"{"é":[1.50,NaN,"\ud800"],"k":{"a":1,"a":2}}"#))
        .and_then(|options| {
            options.with_array(
                ArrayOptions::values("vectors", DType::F32, &[2, 3], "int8").provenance(provenance),
            )
        })
        .and_then(|options| options.with_array(ArrayOptions::values("ids", DType::I64, &[], "zstd")))
        .and_then(|options| options.with_array(ArrayOptions::strings("titles", "zstd")))
        .and_then(|options| options.with_array(ArrayOptions::values("nothing", DType::U8, &[0], "raw")))
        .unwrap();
    let rows: [ArrayRows<'_>; 4] = [
        RowSlice::from_bytes(DType::F32, NATIVE_ROWS, 6, vectors.bytes()).unwrap().into(),
        RowSlice::from_bytes(DType::I64, NATIVE_ROWS, 1, ids.bytes()).unwrap().into(),
        (&titles).into(),
        RowSlice::from_bytes(DType::U8, NATIVE_ROWS, 0, &[]).unwrap().into(),
    ];
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&rows).unwrap();
    for (rows, text) in
        [(0..10, r#"{"source":"a","year":1}"#), (20..33, r#"{"source":"b"}"#), (33..70, r#"{"source":"a"}"#)]
    {
        writer.add_section(rows, parse(text)).unwrap();
    }
    let centroids = ArrayOptions::values("centroids", DType::F16, &[6], "lossless");
    let halves = values_of(DType::F16, 6 * 6, false);
    writer.attach(centroids, RowSlice::from_bytes(DType::F16, 6, 6, halves.bytes()).unwrap()).unwrap();
    writer.finish_bytes().unwrap()
}

/// What comes out of an array, as the files beside a native file have it.
fn native_content(array: Array<'_>) -> Vec<u8> {
    if array.index().dtype == ArrayDType::Utf8 {
        let strings = array.read_strings(..).unwrap();
        return strings.iter().flat_map(|text| [text, "\n"]).collect::<String>().into_bytes();
    }
    let mut bytes = read_rows(array, .., 0x55).unwrap().concat();
    from_little_endian(&mut bytes, array.dtype().unwrap().component_size());
    bytes
}

#[test]
fn every_native_file_loads_to_the_expected_bits() {
    let files = native_files();
    let mut arrays = 0;
    for file in &files {
        let bytes = std::fs::read(&file.path).unwrap();
        let lending = Reader::from_bytes(bytes.clone()).unwrap();
        let copying = Reader::new(Box::new(Copied(bytes)), ReadOptions::default()).unwrap();
        for reader in [lending, copying] {
            assert!(reader.layout() == Layout::Native && reader.verify().unwrap().is_ok(), "{}", file.name);
            for array in reader.arrays() {
                let name = &array.index().name;
                let path = file.expected(name, array.index().dtype == ArrayDType::Utf8);
                let expected =
                    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert!(native_content(array) == expected, "{}: {name}", file.name);
                arrays += 1;
            }
        }
    }
    assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), NATIVE);
    // Eleven files of four floats, one of every dtype, four of several arrays, one converted; each read twice.
    assert_eq!(arrays, 2 * (11 * 4 + 15 + 3 + 2 + 3 + 5 + 1));
}

#[test]
fn native_files_of_codecs_without_a_loss_hold_what_went_in() {
    for (name, dtypes) in [("raw", 4), ("lossless", 4), ("zstd", 4), ("gzip", 4), ("dtypes", 15)] {
        let reader = Reader::open(NativeFile::named(name).path).unwrap();
        assert_eq!(reader.arrays().len(), dtypes);
        for array in reader.arrays() {
            let input = values_of(array.dtype().unwrap(), NATIVE_ROWS * 24, true);
            assert!(
                read_rows(array, .., 0x55).unwrap().concat() == input.bytes(),
                "{name} {}",
                array.index().name
            );
        }
    }
    let reader = Reader::open(NativeFile::named("strings").path).unwrap();
    for array in reader.arrays() {
        assert_eq!(array.read_strings(..).unwrap(), titles());
    }
}

#[test]
fn native_files_say_what_was_said() {
    let reader = Reader::open(NativeFile::named("table").path).unwrap();
    let text = |json: &Json| json.to_string_styled(cvc::format::json::Style::Python);
    assert_eq!(text(&reader.index().metadata), r#"{"k": {"a": 1, "a": 2}, "\u00e9": [1.5, NaN, "\ud800"]}"#);
    let rows =
        |key: &str, value: Json| reader.find(&[Condition::new(key, value)]).unwrap().resolve(70).unwrap();
    assert_eq!((rows("source", "a".into()), rows("year", 1u64.into())), (vec![0..10, 33..70], vec![0..10]));
    assert_eq!(
        reader.index().arrays[0].provenance.as_ref().unwrap().get("model").and_then(Json::as_str),
        Some("m")
    );
    let shapes: Vec<Vec<u64>> = reader.index().arrays.iter().map(cvc::format::ArrayIndex::shape).collect();
    assert_eq!(shapes, [vec![70, 2, 3], vec![70], vec![70], vec![70, 0], vec![6, 6]]);
    let reader = Reader::open(NativeFile::named("from_v1").path).unwrap();
    assert!(reader.index().sections_from_chunks && !reader.sections().is_empty());
}

/// For the versions of zstd and zlib-rs that are pinned.
#[test]
fn writing_a_native_file_again_gives_the_same_bytes() {
    for name in NATIVE {
        let found = native_file(name);
        let expected = std::fs::read(NativeFile::named(name).path).unwrap();
        let at = found.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(found == expected, "{name}: {} bytes, expected {}, {at:?}", found.len(), expected.len());
    }
}

#[test]
#[ignore = "writes golden files that are missing"]
fn new_native_files_are_written() {
    for name in NATIVE {
        let file = NativeFile::named(name);
        let write = |path: &std::path::Path, bytes: &[u8]| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create_new(path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
                .unwrap();
        };
        if !file.path.exists() {
            let bytes = native_file(name);
            for array in Reader::from_bytes(bytes.clone()).unwrap().arrays() {
                let strings = array.index().dtype == ArrayDType::Utf8;
                write(&file.expected(&array.index().name, strings), &native_content(array));
            }
            write(&file.path, &bytes);
        }
    }
}
