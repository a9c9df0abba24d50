//! Files written by the real packages are read to the bits those packages load, and written again byte for byte.
//!
//! Where upstream is wrong (`docs/FORMAT.md` lists the cases) the right answer is asserted instead, and named here.

use cvc::format::cvcf::stored_name;
use cvc::format::{ChunkId, Json};
use cvc::{Array, Condition, DType, Layout, Reader, RowSlice, Rows, WriteOptions, Writer};
use cvc_conformance::golden::{DECOMPRESSED, Entry, Manifest};
use cvc_conformance::npy::Npy;

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
