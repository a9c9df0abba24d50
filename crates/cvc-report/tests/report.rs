//! Figures against the plain formulas, pages of odd files, and what a hostile file can do to a page: nothing.

#[path = "../../cvc/tests/support/seal.rs"]
mod seal;

use std::path::Path;

use cvc::input::{Matrix, Options};
use cvc::{
    ArrayOptions, ArrayRows, DType, Error, Json, Layout, Reader, RowSlice, Strings, WriteOptions, Writer,
};
use cvc_conformance::golden::{DECOMPRESSED, Manifest, native_files};
use cvc_report::{Content, Original, Report, ReportOptions, ValuesReport};
use tempfile::TempDir;

/// Values that are spread like nothing in particular, the same every time.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| next() + next() * next()).collect()
}

/// An `.npy` of f32 rows, as an original.
fn original(folder: &Path, name: &str, rows: &[f32], dim: usize) -> Original {
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dim}), }}", rows.len() / dim);
    let mut padded = header.into_bytes();
    padded.resize((10 + padded.len() + 1).next_multiple_of(64) - 11, b' ');
    padded.push(b'\n');
    let len = u16::try_from(padded.len()).unwrap().to_le_bytes();
    let data: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
    let path = folder.join(name);
    std::fs::write(&path, [b"\x93NUMPY\x01\x00".as_slice(), &len, &padded, &data].concat()).unwrap();
    Original { name: name.into(), matrix: Matrix::open(&path, &Options::default()).unwrap() }
}

fn packed(rows: &[f32], dim: usize, codec: &str, chunk_rows: u32) -> Vec<u8> {
    let options = WriteOptions::new(Layout::Native)
        .vectors(DType::F32, u32::try_from(dim).unwrap(), codec)
        .unwrap()
        .chunk_rows(chunk_rows)
        .unwrap();
    written(options, |writer| writer.write_vectors(RowSlice::new(rows, dim)?))
}

fn written(options: WriteOptions, fill: impl FnOnce(&mut Writer) -> Result<(), Error>) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.cvc");
    let mut writer = Writer::create(&path, options).unwrap();
    fill(&mut writer).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn found(report: &Report, array: usize) -> &ValuesReport {
    match &report.arrays[array].content {
        Content::Values(values) => values,
        other => panic!("{other:?}"),
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

#[test]
fn figures_are_those_of_the_formulas() {
    let folder = TempDir::new().unwrap();
    let (rows, dim) = (300, 7);
    let before = values(rows * dim);
    let reader = Reader::from_bytes(packed(&before, dim, "int8", 128)).unwrap();
    let after: Vec<f32> = reader.vectors().unwrap().read(..).unwrap();
    let mut options = ReportOptions::default();
    // In two parts, as they may have been packed.
    options.originals = vec![
        original(folder.path(), "a.npy", &before[..100 * dim], dim),
        original(folder.path(), "b.npy", &before[100 * dim..], dim),
    ];
    let report = Report::measure(&reader, &options).unwrap();
    let values = found(&report, 0);
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let (before, after) = (wide(&before), wide(&after));

    for (side, values) in [(&values.decoded, &after), (values.original.as_ref().unwrap(), &before)] {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        assert!((side.mean - mean).abs() < 1e-14 && close(side.std, variance.sqrt()));
        assert_eq!(side.min, values.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(side.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        assert_eq!((side.rows, side.finite, side.nan + side.infinite + side.zero_rows), (300, 2100, 0));
        let norms: Vec<f64> =
            values.chunks(dim).map(|row| row.iter().map(|value| value * value).sum::<f64>().sqrt()).collect();
        assert!(close(side.mean_norm, norms.iter().sum::<f64>() / 300.0));
        assert_eq!(side.max_norm, norms.iter().copied().fold(0.0, f64::max));
        for (histogram, values) in [(&side.histogram, values), (&side.norms, &norms)] {
            assert_eq!(histogram.total(), values.len() as u64);
            for (bin, count) in histogram.counts.iter().enumerate() {
                let (low, high) = (histogram.edge(bin), histogram.edge(bin + 1));
                let slack = (high - low) * 1e-9;
                let surely =
                    values.iter().filter(|value| **value > low + slack && **value < high - slack).count();
                let maybe =
                    values.iter().filter(|value| **value > low - slack && **value < high + slack).count();
                assert!((surely..=maybe).contains(&usize::try_from(*count).unwrap()), "bin {bin}");
            }
        }
        for (number, of) in side.dims.iter().enumerate() {
            let column: Vec<f64> = values.iter().copied().skip(number).step_by(dim).collect();
            let mean = column.iter().sum::<f64>() / 300.0;
            let variance = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 300.0;
            assert!((of.mean - mean).abs() < 1e-14 && close(of.std, variance.sqrt()));
            assert_eq!((of.count, of.min), (300, column.iter().copied().fold(f64::INFINITY, f64::min)));
        }
    }

    let error = values.error.as_ref().unwrap();
    let errors: Vec<f64> = after.iter().zip(&before).map(|(y, x)| y - x).collect();
    let most = |errors: &[f64]| errors.iter().fold(0.0f64, |most, error| most.max(error.abs()));
    let mse = |errors: &[f64]| errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
    assert_eq!(error.total.max_abs_error, most(&errors));
    assert!(close(error.total.mse, mse(&errors)));
    assert_eq!((error.total.compared, error.total.not_back, error.chunks.len()), (2100, 0, 3));
    for (chunk, errors) in error.chunks.iter().zip(errors.chunks(128 * dim)) {
        assert!(chunk.max_abs_error == most(errors) && close(chunk.mse, mse(errors)));
    }
    // What was measured when the file was written, to the digits that it keeps.
    for (chunk, stored) in error.chunks.iter().zip(&report.arrays[0].chunks) {
        let loss = stored.stored_loss.unwrap();
        let near = |a: f64, b: f32| (a - f64::from(b)).abs() <= f64::from(b).abs() * 2e-7;
        assert!(near(chunk.max_abs_error, loss.max_abs_error) && near(chunk.mse, loss.mse));
        assert!(near(chunk.min_cosine, loss.min_cosine));
    }
}

#[test]
fn recall_is_that_of_a_plain_search() {
    let folder = TempDir::new().unwrap();
    let (rows, dim, k) = (200, 5, 10);
    let before = values(rows * dim);
    let reader = Reader::from_bytes(packed(&before, dim, "int8", 64)).unwrap();
    let after: Vec<f32> = reader.vectors().unwrap().read(..).unwrap();
    let mut options = ReportOptions::default();
    options.originals = vec![original(folder.path(), "a.npy", &before, dim)];
    options.sample = 40;
    let report = Report::measure(&reader, &options).unwrap();
    let recall = report.arrays[0].recall.as_ref().unwrap();
    assert_eq!((recall.k, recall.queries.len(), recall.l2.queries), (10, 40, 40));

    // Sorted by distance, as anybody would write it.
    let nearest = |among: &[f32], query: usize| {
        let q = &before[query * dim..][..dim];
        let distance = |row: usize| {
            let x = &among[row * dim..][..dim];
            q.iter().zip(x).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
        };
        let mut order: Vec<usize> = (0..rows).filter(|row| *row != query).collect();
        order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        order.truncate(k);
        order
    };
    let mut found = 0;
    for query in recall.queries.iter().map(|query| usize::try_from(*query).unwrap()) {
        let truth = nearest(&before, query);
        found += nearest(&after, query).iter().filter(|row| truth.contains(row)).count();
    }
    assert_eq!(recall.l2.mean, found as f64 / 400.0);
    assert_eq!(recall.l2.by_found.iter().sum::<u64>(), 40);
    assert!(recall.cosine.mean > 0.9 && recall.cosine.mean <= 1.0);

    // What loses nothing finds everything.
    let reader = Reader::from_bytes(packed(&before, dim, "lossless", 64)).unwrap();
    let report = Report::measure(&reader, &options).unwrap();
    let recall = report.arrays[0].recall.as_ref().unwrap();
    assert_eq!((recall.l2.mean, recall.cosine.mean), (1.0, 1.0));
    options.sample = 0;
    assert!(Report::measure(&reader, &options).unwrap().arrays[0].recall.is_none());
}

#[test]
fn what_is_not_finite_is_counted_and_drawn_around() {
    let folder = TempDir::new().unwrap();
    let mut rows = values(40 * 3);
    (rows[0], rows[3], rows[4]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    rows[30..33].fill(0.0);
    (0..40).for_each(|row| rows[row * 3 + 2] = 0.25);
    let reader = Reader::from_bytes(packed(&rows, 3, "fp16", 16)).unwrap();
    let mut options = ReportOptions::default();
    options.originals = vec![original(folder.path(), "a.npy", &rows, 3)];
    let report = Report::measure(&reader, &options).unwrap();
    let values = found(&report, 0);
    for side in [&values.decoded, values.original.as_ref().unwrap()] {
        assert_eq!((side.nan, side.infinite, side.finite, side.nonfinite_rows), (1, 2, 117, 2));
        assert_eq!((side.zero_rows, side.norms.total()), (0, 38));
        assert_eq!(side.dead, [2]);
    }
    assert_eq!(values.error.as_ref().unwrap().total.not_back, 0);
    let recall = report.arrays[0].recall.as_ref().unwrap();
    assert_eq!((recall.queries.len(), recall.l2.queries), (40, 38));
    assert!(report.to_html().contains("dead"));
}

/// A file all of whose texts want to be markup.
fn hostile(text: &str) -> Vec<u8> {
    let options = WriteOptions::new(Layout::Native)
        .array(text, DType::F32, 2, "int8")
        .unwrap()
        .with_array(ArrayOptions::strings(format!("{text}2"), "zstd"))
        .unwrap()
        .metadata(Json::object([(text, Json::from(text))]))
        .unwrap();
    written(options, |writer| {
        let strings: Strings = [text, ""].into_iter().collect();
        writer.write(&[
            ArrayRows::Values(RowSlice::new(&[1.0f32, 2.0, 3.0, 4.5], 2)?),
            ArrayRows::Strings { strings: &strings, rows: 0..2 },
        ])?;
        writer.add_section(0..1, Json::object([(text, Json::from(text))]))
    })
}

#[test]
fn nothing_in_a_file_is_markup() {
    let attack = "</title><script>alert('x')</script><img src=x onerror=\"y\">&lt;\u{202e}";
    let mut options = ReportOptions::default();
    options.title = attack.into();
    let report = Report::measure(&Reader::from_bytes(hostile(attack)).unwrap(), &options).unwrap();
    let page = report.to_html();
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    // The page's own tags, and no others.
    let tags = page.split('<').skip(1).map(|rest| rest.trim_start_matches('/'));
    let names = tags.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '!').next().unwrap());
    let known = "!DOCTYPE html head meta title style body h1 h2 h3 p b a dl dt dd div table thead tbody tr th td figure figcaption \
                 svg path rect span i details summary";
    for name in names {
        assert!(known.split_whitespace().any(|known| known == name), "<{name}");
    }
}

#[test]
fn a_page_stands_alone_and_is_the_same_every_time() {
    let folder = TempDir::new().unwrap();
    let rows = values(500 * 8);
    let reader = Reader::from_bytes(packed(&rows, 8, "int8", 100)).unwrap();
    let report = |seed| {
        let mut options = ReportOptions::default();
        options.originals = vec![original(folder.path(), "a.npy", &rows, 8)];
        options.seed = seed;
        options.sample = 20;
        Report::measure(&reader, &options).unwrap()
    };
    let page = report(1).to_html();
    assert_eq!(page, report(1).to_html());
    assert_ne!(report(1).arrays[0].recall, report(2).arrays[0].recall);
    for word in ["http:", "https:", "src=", "@import", "url(", "<script", "<link"] {
        assert!(!page.contains(word), "{word}");
    }
    let folder = folder.path().to_string_lossy().into_owned();
    assert!(!page.contains(&folder), "no place on a machine");
    assert!(balanced(&page));
}

/// Whether every element that is opened is closed, in order.
fn balanced(page: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') && !["meta", "!DOCTYPE"].contains(&name) {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    open.is_empty()
}

#[test]
fn every_golden_file_has_a_page() {
    let mut pages = 0;
    let mut check = |path: &Path| {
        let reader = Reader::open(path).unwrap();
        let report = Report::measure(&reader, &ReportOptions::default()).unwrap();
        let page = report.to_html();
        assert!(balanced(&page), "{}", path.display());
        assert!(!page.contains("NaN%") && !page.contains("inf%"), "{}", path.display());
        let shapes = page.split(" d=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        for shape in shapes {
            assert!(!shape.contains("NaN") && !shape.contains("inf"), "{}: {shape}", path.display());
        }
        assert_eq!(report.arrays.len(), reader.arrays().len());
        report.to_json();
        pages += 1;
    };
    native_files().iter().for_each(|file| check(&file.path));
    for version in DECOMPRESSED {
        let manifest = Manifest::decompressed(version);
        for entry in manifest.entries.iter().filter(|entry| entry.pack_error.is_none()) {
            check(&manifest.path(&entry.file));
        }
    }
    assert!(pages > 100);
}

#[test]
fn files_of_nothing_have_a_page() {
    // No rows; and rows of no values.
    let empty = packed(&[], 3, "int8", 10);
    let report = Report::measure(&Reader::from_bytes(empty).unwrap(), &ReportOptions::default()).unwrap();
    assert_eq!((report.arrays[0].rows, found(&report, 0).decoded.rows), (0, 0));
    assert!(balanced(&report.to_html()));
    let one = packed(&[7.0], 1, "raw", 10);
    let report = Report::measure(&Reader::from_bytes(one).unwrap(), &ReportOptions::default()).unwrap();
    assert_eq!(found(&report, 0).decoded.dims[0].std, 0.0);
    assert!(balanced(&report.to_html()));
}

#[test]
fn sections_are_mapped_by_a_key() {
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 1, "raw").unwrap();
    let bytes = written(options, |writer| {
        writer.write_vectors(RowSlice::new(&values(100), 1)?)?;
        let said = |source: &str, year: u64| {
            Json::object([("source", Json::from(source)), ("year", Json::from(year))])
        };
        writer.add_section(0..10, Json::object([("source", Json::from("b"))]))?;
        writer.add_section(10..50, said("a", 2024))?;
        writer.add_section(60..70, said("b", 2024))
    });
    let reader = Reader::from_bytes(bytes).unwrap();
    let mut options = ReportOptions::default();
    let map = Report::measure(&reader, &options).unwrap().sections.unwrap();
    assert_eq!(map.key.as_deref(), Some("source"));
    assert_eq!(map.values, [("a".to_owned(), 40), ("b".to_owned(), 20)]);
    let numbers: Vec<_> = map.sections.iter().map(|section| section.value).collect();
    assert_eq!(numbers, [Some(1), Some(0), Some(1)]);
    options.by = Some("year".into());
    let report = Report::measure(&reader, &options).unwrap();
    let page = report.to_html();
    assert!(page.contains("without the key") && page.contains("in no section"));
    assert_eq!(report.sections.unwrap().values, [("2024".to_owned(), 50)]);
    options.by = Some("month".into());
    let error = Report::measure(&reader, &options).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("\"source\", \"year\""), "{error}");
}

#[test]
fn more_sections_than_can_be_drawn_are_sampled() {
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 1, "raw").unwrap();
    let bytes = written(options, |writer| {
        writer.write_vectors(RowSlice::new(&values(6000), 1)?)?;
        (0..3000).try_for_each(|number: u64| {
            let said = Json::object([("half", Json::from(number / 1500))]);
            writer.add_section(number * 2..number * 2 + 2, said)
        })
    });
    let report = Report::measure(&Reader::from_bytes(bytes).unwrap(), &ReportOptions::default()).unwrap();
    assert_eq!(report.sections.as_ref().unwrap().values, [("0".to_owned(), 3000), ("1".to_owned(), 3000)]);
    let page = report.to_html();
    assert!(balanced(&page) && page.contains("1,000 stretches") && page.contains("and 2,800 more"));
    // Neighbours of one value are one shape.
    assert_eq!(page.matches("<rect class=\"thin").count(), 2);
}

#[test]
fn originals_of_another_shape_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let rows = values(12);
    let reader = Reader::from_bytes(packed(&rows, 3, "fp16", 10)).unwrap();
    for (name, given, dim, words) in [
        ("wide.npy", &rows[..], 4, "have 4 values, those of array \"vectors\" have 3"),
        ("short.npy", &rows[..9], 3, "3 rows together, array \"vectors\" has 4"),
    ] {
        let mut options = ReportOptions::default();
        options.originals = vec![original(folder.path(), name, given, dim)];
        let error = Report::measure(&reader, &options).unwrap_err();
        let message = error.to_string();
        assert!(error.is_usage() && message.contains(name) && message.contains(words), "{message}");
    }
    let mut options = ReportOptions::default();
    options.array = Some("vector".into());
    assert!(Report::measure(&reader, &options).unwrap_err().is_usage());
}

#[test]
fn a_damaged_file_has_no_page() {
    let mut bytes = packed(&values(3000), 3, "raw", 1000);
    bytes[5000] ^= 1;
    let reader = Reader::from_bytes(bytes).unwrap();
    let error = Report::measure(&reader, &ReportOptions::default()).unwrap_err();
    assert!(!error.is_usage() && error.to_string().contains("crc32c"), "{error}");
}

#[test]
fn an_array_of_a_newer_version_is_described_and_left_out() {
    let rows = values(12);
    let options = WriteOptions::new(Layout::Native)
        .array("old", DType::F32, 3, "fp16")
        .unwrap()
        .array("new", DType::F32, 3, "int8")
        .unwrap();
    let mut bytes = written(options, |writer| {
        let rows = RowSlice::new(&rows, 3)?;
        writer.write(&[rows, rows])
    });
    // The codec's name, and not its length, is another.
    let at = bytes.windows(6).rposition(|word| word == b"\"int8\"").unwrap();
    bytes[at + 4] = b'9';
    seal::seal(&mut bytes);
    let reader = Reader::from_bytes(bytes).unwrap();
    let mut options = ReportOptions::default();
    let report = Report::measure(&reader, &options).unwrap();
    assert!(matches!(report.arrays[0].content, Content::Values(_)));
    assert!(matches!(&report.arrays[1].content, Content::Unreadable(why) if why.contains("int9")));
    assert!(report.to_html().contains("cannot read its rows"));
    options.array = Some("new".into());
    assert!(Report::measure(&reader, &options).unwrap_err().to_string().contains("int9"));
    options.array = Some("old".into());
    let report = Report::measure(&reader, &options).unwrap();
    assert!(matches!(report.arrays[1].content, Content::NotAsked));
}
