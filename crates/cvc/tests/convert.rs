//! What becomes of a file in another layout: every row decodes to the bits it had, what is known of the rows is kept, and
//! what the other layout cannot hold is refused by name rather than dropped.

#[path = "support/reading.rs"]
mod reading;

use std::fs;
use std::path::Path;

use cvc::format::json::Style;
use cvc::format::{ChunkEntry, Loss, Params, Stored};
use cvc::{
    Array, ArrayOptions, ArrayRows, DType, Error, Json, Layout, Overwrite, ReadOptions, Reader, RowSlice,
    Scope, Section, Strings, WriteOptions, Writer,
};
use cvc_conformance::golden::{DECOMPRESSED, Manifest};

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

fn python(json: &Json) -> String {
    json.to_string_styled(Style::PythonSorted)
}

/// The same rows in another layout, as the bytes of a file.
fn converted(reader: &Reader, layout: Layout) -> Result<Vec<u8>, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    let result = reader.convert(&path, layout, Overwrite::Refuse);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        usize::from(result.is_ok()),
        "all of it or nothing"
    );
    let written = result?;
    let bytes = fs::read(&path).unwrap();
    assert_eq!((written.file_len, written.rows), (bytes.len() as u64, reader.index().arrays[0].rows));
    Ok(bytes)
}

fn open(bytes: Vec<u8>) -> Reader {
    let reader = Reader::from_bytes(bytes).unwrap();
    assert!(reader.verify().unwrap().is_ok());
    reader
}

/// Asserts that two files have the same arrays, of the same dtypes and bits.
#[track_caller]
fn assert_alike(found: &Reader, expected: &Reader, context: &str) {
    let names = |reader: &Reader| reader.array_names().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{context}");
    for (found, expected) in found.arrays().zip(expected.arrays()) {
        assert_eq!(found.index().shape(), expected.index().shape(), "{context}");
        assert_eq!(found.dtype().unwrap(), expected.dtype().unwrap(), "{context}");
        assert!(read_rows(found, .., 1).unwrap() == read_rows(expected, .., 2).unwrap(), "{context}");
    }
}

fn ranges_and_texts(sections: &[Section]) -> Vec<(std::ops::Range<u64>, String)> {
    sections.iter().map(|section| (section.rows.clone(), python(&section.metadata))).collect()
}

/// Whether the parameters of a chunk, which are doubles in the header, say no more than f32 can.
fn are_f32(chunk: &ChunkEntry) -> bool {
    let Stored::Framed { params, .. } = &chunk.stored else { panic!("not of a CVCF file") };
    let Params::Affine(params) = params else { return true };
    #[expect(clippy::cast_possible_truncation, reason = "that is the question")]
    let is_f32 = |value: f64| f64::from(value as f32).to_bits() == value.to_bits();
    is_f32(params.min) && is_f32(params.scale)
}

#[test]
fn every_golden_file_becomes_native_and_comes_back() {
    let (mut files, mut same) = (0, 0);
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_none()) {
            let context = format!("{version} {}", entry.file);
            let bytes = fs::read(manifest.path(&entry.file)).unwrap();
            let original = open(bytes.clone());
            let upgraded =
                converted(&original, Layout::Native).unwrap_or_else(|error| panic!("{context}: {error}"));
            // From a source that lends nothing, too.
            let copied = Reader::new(Box::new(Copied(bytes.clone())), ReadOptions::default()).unwrap();
            assert!(converted(&copied, Layout::Native).unwrap() == upgraded, "{context}");
            let native = open(upgraded);
            assert_alike(&native, &original, &context);
            said_of_rows_is_kept(&native, &original, &context);
            loss_is_known_where_there_is_none(&native, &original, &context);

            // Mapped files are only read.
            let layout = if original.layout() == Layout::V1Mmap { Layout::V1 } else { original.layout() };
            let back = converted(&native, layout).unwrap_or_else(|error| panic!("{context}: {error}"));
            let again = open(back.clone());
            assert_alike(&again, &original, &context);
            assert_eq!(
                ranges_and_texts(again.sections()),
                ranges_and_texts(original.sections()),
                "{context}"
            );
            let chunk_sections = [&again, &original].map(|reader| ranges_and_texts(&reader.chunk_sections()));
            assert_eq!(chunk_sections[0], chunk_sections[1], "{context}");

            // Byte for byte, but for three things that native files do not keep.
            let keys_of_v0_are_not_sorted = version == "0.1.0"
                && ["chunkmeta_fp16.cvc", "sections_fp16.cvc", "chunkmeta_int8.cvc", "sections_int8.cvc"]
                    .contains(&entry.file.as_str());
            let params_are_doubles =
                original.index().arrays.iter().any(|array| !array.chunks.iter().all(are_f32));
            assert!(!params_are_doubles || version == "0.1.0", "{context}: cvcf.int8 computes in f32");
            let is_mapped = original.layout() == Layout::V1Mmap;
            let differs = keys_of_v0_are_not_sorted || params_are_doubles || is_mapped;
            assert_eq!(back != bytes, differs, "{context}");
            same += usize::from(!differs);
            files += 1;
        }
    }
    assert_eq!((files, same), (178, 153));
}

/// Sections stay, metadata of chunks becomes sections.
fn said_of_rows_is_kept(native: &Reader, original: &Reader, context: &str) {
    let index = native.index();
    let has_chunk_metadata = !original.index().chunk_metadata.is_empty();
    assert_eq!(index.sections_from_chunks, has_chunk_metadata, "{context}");
    let expected = if has_chunk_metadata { &original.chunk_sections() } else { original.sections() };
    assert_eq!(ranges_and_texts(native.sections()), ranges_and_texts(expected), "{context}");
    assert!(index.metadata.as_object().unwrap().is_empty() && index.chunk_metadata.is_empty(), "{context}");
}

fn loss_is_known_where_there_is_none(native: &Reader, original: &Reader, context: &str) {
    for (array, from) in native.index().arrays.iter().zip(&original.index().arrays) {
        let exact = matches!(&*from.codec, "raw" | "cvcf.lossless");
        for chunk in &array.chunks {
            let Stored::Blocked(blocked) = chunk.stored else { panic!("{context}") };
            let nobody_knows = blocked.loss.max_abs_error.is_nan();
            assert!(
                if exact { blocked.loss == Loss::NONE } else { nobody_knows },
                "{context}: {:?}",
                blocked.loss
            );
        }
    }
}

/// Six rows of two values.
const VALUES: [f32; 12] = [1.0, -2.5, 0.0, 3.0, 4.0, -0.0, 7.0, 8.0, 0.5, 0.25, 10.0, 11.0];

fn rows() -> RowSlice<'static> {
    RowSlice::new(&VALUES, 2).unwrap()
}

fn native(options: WriteOptions) -> Reader {
    let mut writer = Writer::in_memory(options.chunk_rows(4).unwrap()).unwrap();
    writer.write_vectors(rows()).unwrap();
    Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap()
}

fn vectors(codec: &str) -> ArrayOptions {
    ArrayOptions::values("vectors", DType::F32, &[2], codec).block_rows(3)
}

#[test]
fn what_a_native_writer_wrote_goes_where_it_can_be_said() {
    let of = |array: ArrayOptions| native(WriteOptions::new(Layout::Native).with_array(array).unwrap());
    for (array, layouts) in [
        (vectors("fp16"), &[Layout::V0, Layout::V1, Layout::V2][..]),
        (vectors("int8").scope(Scope::Chunk), &[Layout::V0, Layout::V1, Layout::V2]),
        (vectors("lossless"), &[Layout::V1]),
        (vectors("raw"), &[Layout::V2]),
    ] {
        let reader = of(array);
        for layout in [Layout::V0, Layout::V1, Layout::V2] {
            let result = converted(&reader, layout);
            if layouts.contains(&layout) {
                let other = open(result.unwrap());
                assert_alike(&other, &reader, layout.name());
                assert_eq!(other.layout(), layout);
                // And from there on it stays as it is.
                let again = converted(&open(converted(&other, Layout::Native).unwrap()), layout).unwrap();
                assert_alike(&open(again), &reader, layout.name());
            } else {
                usage(result, &["codec", layout.name()]);
            }
        }
    }
}

#[test]
fn what_a_layout_cannot_hold_is_refused_by_name() {
    let options = || WriteOptions::new(Layout::Native);
    let of = |array: ArrayOptions| native(options().with_array(array).unwrap());
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        let named = format!("layout = {layout}");
        for scope in [Scope::Row, Scope::Dim] {
            let reader = of(vectors("int8").scope(scope));
            usage(
                converted(&reader, layout),
                &["layout = v", "\"vectors\"", "have one for a chunk", "pack the vectors again"],
            );
        }
        for codec in ["bf16", "zstd", "gzip"] {
            usage(converted(&of(vectors(codec)), layout), &[&named, "\"vectors\", which is", codec]);
        }
        let provenance = of(vectors("fp16").provenance(json("{\"model\":\"m\"}")));
        usage(converted(&provenance, layout), &[&named, "the provenance of array \"vectors\""]);
        let metadata =
            native(options().with_array(vectors("fp16")).unwrap().metadata(json("{\"a\":1}")).unwrap());
        usage(converted(&metadata, layout), &[&named, "metadata of the file"]);

        let mut writer = Writer::in_memory(options().chunk_rows(4).unwrap()).unwrap();
        writer.attach(ArrayOptions::values("vectors", DType::F32, &[2, 1], "fp16"), rows()).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        usage(converted(&reader, layout), &["array = vectors", "not a list of values"]);

        let strings: Strings = ["a", "b"].iter().collect();
        let mut writer =
            Writer::in_memory(options().with_array(ArrayOptions::strings("titles", "raw")).unwrap()).unwrap();
        writer.write(&[&strings]).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        usage(converted(&reader, layout), &["titles", "strings"]);

        let mut writer = Writer::in_memory(options().with_array(vectors("fp16")).unwrap()).unwrap();
        writer.write_vectors(rows()).unwrap();
        writer.attach(ArrayOptions::values("more", DType::F32, &[2], "fp16"), rows().slice(0..5)).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        usage(
            converted(&reader, layout),
            &[&named, "array \"more\", whose chunks end elsewhere than those of \"vectors\""],
        );

        let reader =
            Reader::from_bytes(Writer::in_memory(options()).unwrap().finish_bytes().unwrap()).unwrap();
        usage(
            reader.convert(Path::new("nowhere"), layout, Overwrite::Refuse),
            &[&named, "a file without arrays"],
        );
    }
    // A name, a number of arrays, a dtype, a codec.
    let named = of(ArrayOptions::values("text", DType::F32, &[2], "fp16"));
    usage(converted(&named, Layout::V1), &["layout v1", "\"vectors\", not [text]", "layout v2"]);
    converted(&named, Layout::V2).unwrap();
    let two = options().with_array(vectors("fp16")).unwrap().array("b", DType::F32, 2, "raw").unwrap();
    let mut writer = Writer::in_memory(two).unwrap();
    writer.write(&[rows(), rows()]).unwrap();
    let two = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    usage(converted(&two, Layout::V0), &["layout v0"]);
    assert_alike(&open(converted(&two, Layout::V2).unwrap()), &two, "two arrays");
    let doubles = [1.0f64; 4];
    for (codec, layout, part) in
        [("raw", Layout::V2, "dtype f64"), ("lossless", Layout::V1, "lossless"), ("raw", Layout::V1, "none")]
    {
        let mut writer = Writer::in_memory(options().vectors(DType::F64, 2, codec).unwrap()).unwrap();
        writer.write_vectors(RowSlice::new(&doubles, 2).unwrap()).unwrap();
        let reader = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
        usage(converted(&reader, layout), &[part]);
    }
}

#[test]
fn only_to_native_and_back() {
    let reader = native(WriteOptions::new(Layout::Native).with_array(vectors("fp16")).unwrap());
    usage(converted(&reader, Layout::Native), &["layout = native", "in this layout already"]);
    usage(converted(&reader, Layout::V1Mmap), &["layout v1-mmap", "only read"]);
    let old = open(converted(&reader, Layout::V1).unwrap());
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        usage(converted(&old, layout), &["can only become a native one"]);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.cvc");
    fs::write(&path, b"theirs").unwrap();
    assert!(old.convert(&path, Layout::Native, Overwrite::Refuse).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"theirs");
    old.convert(&path, Layout::Native, Overwrite::Allow).unwrap();
    assert_alike(&Reader::open(&path).unwrap(), &reader, "replaced");
}

/// A v1 file of fp16 rows of 2 values, with chunks of these rows, whatever else its header says of them and of the file.
fn v1_file(chunks: &[(usize, &str)], more: &str) -> Vec<u8> {
    let halves: Vec<u8> =
        VALUES.iter().flat_map(|value| half::f16::from_f32(*value).to_bits().to_le_bytes()).collect();
    let listed: Vec<String> =
        chunks.iter().map(|(rows, more)| format!("{{{more}\"rows\":{rows}}}")).collect();
    let total: usize = chunks.iter().map(|(rows, _)| rows).sum();
    let header = format!(
        "{{\"chunks\":[{}],\"compression\":\"fp16\",\"dimension\":2,\"num_vectors\":{total}{more}}}",
        listed.join(",")
    );
    let mut bytes = b"CVCF\x01\0\0\0".to_vec();
    bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    let mut next = 0;
    for (rows, _) in chunks {
        let payload = &halves[next * 4..(next + rows) * 4];
        bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend(crc_fast::crc32_iso_hdlc(payload).to_le_bytes());
        bytes.extend(payload);
        next += rows;
    }
    bytes
}

#[test]
fn metadata_of_every_chunk_becomes_sections_and_goes_back() {
    let chunks = [
        (2, "\"metadata\":{\"k\":1.50,\"n\":NaN},"),
        (1, "\"metadata\":null,"),
        (3, "\"metadata\":[\"\\ud800\"],"),
    ];
    let original = open(v1_file(&chunks, ""));
    let native = open(converted(&original, Layout::Native).unwrap());
    assert!(native.index().sections_from_chunks);
    let expected = [(0..2, "{\"k\":1.5,\"n\":NaN}"), (2..3, "null"), (3..6, "[\"\\ud800\"]")];
    assert_eq!(ranges_and_texts(native.sections()), expected.map(|(rows, text)| (rows, text.to_owned())));
    let again = open(converted(&native, Layout::V1).unwrap());
    assert!(again.sections().is_empty());
    assert_eq!(ranges_and_texts(&again.chunk_sections()), ranges_and_texts(native.sections()));
    // The layout without chunk metadata takes them as what they have become.
    let columnar = open(converted(&native, Layout::V2).unwrap());
    assert_eq!(ranges_and_texts(columnar.sections()), ranges_and_texts(native.sections()));
}

#[test]
fn metadata_of_some_chunks_becomes_sections_and_stays_them() {
    // One chunk has none; one has no rows. Neither can be told from native chunks, so nothing says that they can go back.
    for chunks in [
        [(2, "\"metadata\":1,"), (1, ""), (3, "\"metadata\":3,")],
        [(3, "\"metadata\":1,"), (0, "\"metadata\":2,"), (3, "\"metadata\":3,")],
    ] {
        let original = open(v1_file(&chunks, ""));
        let native = open(converted(&original, Layout::Native).unwrap());
        assert!(!native.index().sections_from_chunks);
        assert_alike(&native, &original, "some chunks");
        assert_eq!(ranges_and_texts(native.sections()), ranges_and_texts(&original.chunk_sections()));
        let again = open(converted(&native, Layout::V1).unwrap());
        assert_alike(&again, &original, "some chunks");
        assert_eq!(ranges_and_texts(again.sections()), ranges_and_texts(&original.chunk_sections()));
    }
}

#[test]
fn metadata_of_chunks_beside_sections_is_kept_and_goes_nowhere_else() {
    let chunks = [(2, "\"metadata\":{\"a\":NaN},"), (4, "")];
    let section =
        ",\"sections\":[{\"end_index\":5,\"metadata\":{\"k\":1},\"num_vectors\":4,\"start_index\":1}]";
    let original = open(v1_file(&chunks, section));
    let native = open(converted(&original, Layout::Native).unwrap());
    assert_alike(&native, &original, "both");
    assert_eq!(ranges_and_texts(native.sections()), [(1..5, "{\"k\":1}".to_owned())]);
    assert!(!native.index().sections_from_chunks);
    assert_eq!(python(&native.index().metadata), "{\"cvcf.chunk_metadata\":[{\"a\":NaN},null]}");
    usage(converted(&native, Layout::V1), &["layout = v1", "metadata of the file"]);
}

#[test]
fn chunks_of_several_codecs_become_lossless() {
    let mut bytes = v1_file(&[(3, ""), (3, "\"compression\":\"int8\",\"min\":-1.5,\"scale\":0.25,")], "");
    // The second frame holds six codes, not six halves.
    let at = bytes.len() - 20;
    bytes.truncate(at);
    let codes = [0u8, 1, 2, 3, 250, 255];
    bytes.extend(6u32.to_le_bytes());
    bytes.extend(crc_fast::crc32_iso_hdlc(&codes).to_le_bytes());
    bytes.extend(codes);
    let original = open(bytes);
    let native = open(converted(&original, Layout::Native).unwrap());
    assert_eq!(&*native.index().arrays[0].codec, "lossless");
    assert_alike(&native, &original, "several codecs");
}

#[test]
fn rows_of_no_values_keep_their_number() {
    for (layout, codec) in [(Layout::V0, "fp16"), (Layout::V1, "fp16"), (Layout::V1, "lossless")] {
        let options = WriteOptions::new(layout).vectors(DType::F32, 0, codec).unwrap().chunk_rows(2).unwrap();
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write_vectors(RowSlice::from_bytes(DType::F32, 5, 0, &[]).unwrap()).unwrap();
        let original = open(writer.finish_bytes().unwrap());
        let native = open(converted(&original, Layout::Native).unwrap());
        assert_eq!(native.index().arrays[0].shape(), [5, 0]);
        let again = open(converted(&native, layout).unwrap());
        assert_eq!(again.index().arrays[0].shape(), [5, 0]);
    }
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 0, "int8").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write_vectors(RowSlice::from_bytes(DType::F32, 5, 0, &[]).unwrap()).unwrap();
    let native = Reader::from_bytes(writer.finish_bytes().unwrap()).unwrap();
    usage(converted(&native, Layout::V1), &["array \"vectors\"", "int8", "5 rows of 0 values"]);
}

#[test]
fn a_damaged_file_is_not_converted() {
    let original = v1_file(&[(3, ""), (3, "")], "");
    let mut bytes = original.clone();
    *bytes.last_mut().unwrap() ^= 1;
    let error = converted(&Reader::from_bytes(bytes).unwrap(), Layout::Native).unwrap_err();
    assert!(!error.is_usage() && error.to_string().contains("are damaged"), "{error}");
    let mut bytes = converted(&open(original), Layout::Native).unwrap();
    let native = Reader::from_bytes(bytes.clone()).unwrap();
    let chunk: &Array<'_> = &native.vectors().unwrap();
    let at = usize::try_from(chunk.index().chunks[1].bytes.end - 1).unwrap();
    bytes[at] ^= 1;
    let error = converted(&Reader::from_bytes(bytes).unwrap(), Layout::V1).unwrap_err();
    assert!(!error.is_usage() && error.to_string().contains("chunk 1"), "{error}");
}

#[test]
fn columns_and_their_dtypes_go_round() {
    let ids: Vec<i64> = (0..6).map(|id| id << 40).collect();
    let bytes: Vec<u8> = (0..18).collect();
    let options = WriteOptions::new(Layout::V2)
        .chunk_rows(4)
        .and_then(|options| options.array("text", DType::F32, 2, "int8"))
        .and_then(|options| options.array("ids", DType::I64, 1, "none"))
        .and_then(|options| options.array("codes", DType::U8, 3, "none"))
        .unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let all: [ArrayRows<'_>; 3] =
        [rows().into(), RowSlice::new(&ids, 1).unwrap().into(), RowSlice::new(&bytes, 3).unwrap().into()];
    writer.write(&all).unwrap();
    writer.add_section(1..6, json("{\"k\":1}")).unwrap();
    let original = writer.finish_bytes().unwrap();
    let native = open(converted(&open(original.clone()), Layout::Native).unwrap());
    assert_eq!(
        native.index().arrays.iter().map(|array| array.shape()).collect::<Vec<_>>(),
        [vec![6, 2], vec![6], vec![6, 3]]
    );
    assert!(converted(&native, Layout::V2).unwrap() == original);
}

#[test]
fn integers_that_became_halves_or_codes_are_floats_from_then_on() {
    let values: Vec<i64> = (0..12).map(|n| n * 3 - 7).collect();
    for codec in ["fp16", "int8", "none"] {
        let options = WriteOptions::new(Layout::V2).array("ids", DType::I64, 3, codec).unwrap();
        let mut writer = Writer::in_memory(options).unwrap();
        writer.write(&[RowSlice::new(&values, 3).unwrap()]).unwrap();
        let original = open(writer.finish_bytes().unwrap());
        let native = open(converted(&original, Layout::Native).unwrap());
        assert!(native.verify().unwrap().is_ok(), "{codec}");
        assert_alike(&native, &original, codec);
    }
}

#[test]
fn a_file_opened_without_checksums_is_not_converted() {
    let mut options = cvc::ReadOptions::default();
    options.checksums = cvc::Checksums::Never;
    let bytes = v1_file(&[(2, "")], "");
    let reader = Reader::new(Box::new(bytes), options).unwrap();
    usage(converted(&reader, Layout::Native), &["checksums", "over damaged rows"]);
}
