//! Queries of DataFusion over files: what comes back, and what is read of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use cvc::codec::SourceError;
use cvc::codec::strings::Strings;
use cvc::{
    ArrayOptions, ArrayRows, Condition, DType, Json, Layout, ReadAt, ReadOptions, Reader, RowSlice,
    WriteOptions, Writer,
};
use cvc_datafusion::{CvcTable, Error, Options};
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};

const ROWS: usize = 1000;

/// A file of the rows from `first` on: vectors, ids and titles, in two sections.
fn write(path: &Path, first: usize) {
    let options = WriteOptions::new(Layout::Native)
        .with_array(ArrayOptions::values("vectors", DType::F32, &[16], "fp16").block_rows(8))
        .and_then(|options| {
            options.with_array(ArrayOptions::values("id", DType::I64, &[], "raw").block_rows(32))
        })
        .and_then(|options| options.with_array(ArrayOptions::strings("title", "zstd").block_rows(16)))
        .and_then(|options| options.chunk_rows(128));
    let mut writer = Writer::create(path, options.unwrap()).unwrap();
    let vectors: Vec<f32> =
        (first..first + ROWS).flat_map(|row| (0..16).map(move |at| (row + at) as f32)).collect();
    let ids: Vec<i64> = (first as i64..(first + ROWS) as i64).collect();
    let mut titles = Strings::default();
    (first..first + ROWS).for_each(|row| titles.push(&format!("row {row}")));
    let rows: [ArrayRows<'_>; 3] = [
        RowSlice::new(&vectors, 16).unwrap().into(),
        RowSlice::new(&ids, 1).unwrap().into(),
        (&titles).into(),
    ];
    writer.write_last(&rows).unwrap();
    for (rows, source) in [(0..300, "wiki"), (300..ROWS as u64, "arxiv")] {
        writer.add_section(rows, Json::object([("source", Json::from(source))])).unwrap();
    }
    writer.finish().unwrap();
}

/// Three files, by their paths.
fn files(folder: &Path) -> Vec<String> {
    let paths = (0..3).map(|number| {
        let path = folder.join(format!("{number}.cvc"));
        write(&path, number * ROWS);
        path.to_str().unwrap().to_owned()
    });
    paths.collect()
}

fn context(table: CvcTable) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4));
    context.register_table("rows", Arc::new(table)).unwrap();
    context
}

async fn query(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    context.sql(sql).await.unwrap().collect().await.unwrap()
}

/// The first column, as text.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let column = |batch: &RecordBatch| {
        let column = batch.column(0).clone();
        (0..batch.num_rows()).map(move |row| array_value_to_string(&column, row).unwrap()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(column).collect()
}

#[tokio::test]
async fn every_row_of_every_file_comes_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    for max_len in [1, 20_000, 1 << 30] {
        let context = context(CvcTable::open(&files, &Options { max_len, ..Options::default() }).unwrap());
        let batches = query(&context, "SELECT * FROM rows ORDER BY id").await;
        let mut row = 0;
        for batch in &batches {
            let ids = batch["id"].as_primitive::<Int64Type>();
            let vectors = batch["vectors"].as_fixed_size_list();
            for at in 0..batch.num_rows() {
                assert_eq!(ids.value(at), row);
                assert_eq!(batch["title"].as_string::<i64>().value(at), format!("row {row}"));
                let vector = vectors.value(at);
                let vector: Vec<f32> = vector.as_primitive::<Float32Type>().values().to_vec();
                assert_eq!(vector, (0..16).map(|at| half(row as f32 + at as f32)).collect::<Vec<_>>());
                row += 1;
            }
        }
        assert_eq!(row, 3 * ROWS as i64);
    }
}

/// A number as fp16 has it; those here are whole and small.
fn half(number: f32) -> f32 {
    let step = if number < 2048.0 { 1.0 } else { 2.0 };
    (number / step).round_ties_even() * step
}

#[tokio::test]
async fn conditions_joins_and_aggregates_are_those_of_all_rows() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(CvcTable::open(&files(folder.path()), &Options::default()).unwrap());
    assert_eq!(
        texts(&query(&context, "SELECT title FROM rows WHERE id = 1234 OR id = 2999 ORDER BY id").await),
        ["row 1234", "row 2999"]
    );
    assert_eq!(texts(&query(&context, "SELECT count(*) FROM rows").await), ["3000"]);
    assert_eq!(texts(&query(&context, "SELECT count(title) FROM rows WHERE id % 7 = 0").await), ["429"]);
    assert_eq!(texts(&query(&context, "SELECT sum(vectors[1]) FROM rows WHERE id < 100").await), ["4950.0"]);
    let joined = "SELECT a.id FROM rows a JOIN rows b ON a.id = b.id + 2990 ORDER BY a.id";
    assert_eq!(texts(&query(&context, joined).await).len(), 10);
    // The filter runs after the scan, so the scan must not stop at the limit.
    assert_eq!(
        texts(&query(&context, "SELECT id FROM rows WHERE id >= 2500 ORDER BY id LIMIT 2").await),
        ["2500", "2501"]
    );
    let nearest = "SELECT id FROM rows ORDER BY array_distance(vectors, (SELECT vectors FROM rows WHERE id = 77)) LIMIT 1";
    assert_eq!(texts(&query(&context, nearest).await), ["77"]);
}

/// Bytes that count how many of them were read.
#[derive(Clone)]
struct Counted(Arc<Vec<u8>>, Arc<AtomicU64>);

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.1.fetch_add(into.len() as u64, Ordering::Relaxed);
        (*self.0).read_at(offset, into)
    }
}

#[tokio::test]
async fn what_a_query_does_not_name_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let open = |path: &String| {
        let bytes = Counted(Arc::new(std::fs::read(path).unwrap()), read.clone());
        (path.clone(), Arc::new(Reader::new(Box::new(bytes), ReadOptions::default()).unwrap()))
    };
    let files: Vec<_> = files(folder.path()).iter().map(open).collect();
    let context = context(CvcTable::of(files, &Options { max_len: 20_000, ..Options::default() }).unwrap());
    let cost = async |sql: &str| {
        read.store(0, Ordering::Relaxed);
        let rows: usize = query(&context, sql).await.iter().map(RecordBatch::num_rows).sum();
        (rows, read.load(Ordering::Relaxed))
    };
    let (rows, all) = cost("SELECT * FROM rows").await;
    assert!(rows == 3000 && all > 3000 * 40, "{all}");
    let (rows, ids) = cost("SELECT id FROM rows").await;
    assert!(rows == 3000 && (3000 * 8..3000 * 16).contains(&ids), "{ids} of {all}");
    // As many partitions are read as have the rows, and of those only their first blocks.
    let (rows, three) = cost("SELECT * FROM rows LIMIT 3").await;
    assert!(rows == 3 && three < 4000, "{three} of {all}");
    assert_eq!(cost("SELECT count(*) FROM rows").await, (1, 0), "the number of rows is known");
    assert_eq!(cost("SELECT count(title) FROM rows").await, (1, 0), "and that none is null");
}

#[tokio::test]
async fn limits_are_the_first_rows_and_plans_say_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(
        CvcTable::open(&files(folder.path()), &Options { max_len: 20_000, ..Options::default() }).unwrap(),
    );
    let mut ids = texts(&query(&context, "SELECT id FROM rows LIMIT 1500").await);
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(ids, (0..1500).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(texts(&query(&context, "SELECT id FROM rows LIMIT 0").await), [""; 0]);
    assert_eq!(
        texts(&query(&context, "SELECT id FROM rows ORDER BY id OFFSET 2998").await),
        ["2998", "2999"]
    );
    let plan =
        context.sql("SELECT title FROM rows LIMIT 5").await.unwrap().create_physical_plan().await.unwrap();
    let shown = displayable(plan.as_ref()).indent(true).to_string();
    assert!(shown.contains("CvcExec: columns=[title], partitions=1, rows=5, limit=5"), "{shown}");
    let plan = context.sql("SELECT id FROM rows").await.unwrap().create_physical_plan().await.unwrap();
    let shown = displayable(plan.as_ref()).indent(true).to_string();
    assert!(shown.contains("CvcExec: columns=[id], partitions=4, rows=3000"), "{shown}");
    datafusion::physical_plan::collect(plan.clone(), context.task_ctx()).await.unwrap();
    let mut scan = &plan;
    while scan.name() != "CvcExec" {
        scan = scan.children()[0];
    }
    assert_eq!(scan.metrics().unwrap().output_rows(), Some(3000));
}

#[tokio::test]
async fn sections_arrays_and_dtypes_are_chosen_when_a_table_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let options = Options {
        arrays: Some(vec!["id".to_owned(), "vectors".to_owned()]),
        conditions: vec![Condition::new("source", "wiki")],
        floats: Some(DType::F16),
        ..Options::default()
    };
    let context = context(CvcTable::open(&files, &options).unwrap());
    let batches = query(&context, "SELECT * FROM rows ORDER BY id").await;
    let expected: Vec<String> = (0..3000).filter(|row| row % 1000 < 300).map(|row| row.to_string()).collect();
    assert_eq!(texts(&batches), expected);
    assert_eq!(batches[0].schema().fields().len(), 2);
    let vectors = batches[0]["vectors"].as_fixed_size_list();
    assert_eq!(vectors.value(5).as_primitive::<Float16Type>().value(1).to_f32(), 6.0);
    let none = Options { conditions: vec![Condition::new("source", "nobody")], ..Options::default() };
    let context = self::context(CvcTable::open(&files, &none).unwrap());
    assert_eq!(
        query(&context, "SELECT * FROM rows").await.iter().map(RecordBatch::num_rows).sum::<usize>(),
        0
    );
    assert_eq!(texts(&query(&context, "SELECT count(*) FROM rows").await), ["0"]);
}

#[test]
fn a_query_that_reads_one_table_before_it_takes_of_another_needs_no_thread_for_either() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let config = SessionConfig::new().with_target_partitions(8).with_batch_size(1);
        let config = config.set_bool("datafusion.optimizer.repartition_joins", false);
        let context = SessionContext::new_with_config(config);
        let table =
            CvcTable::open(&files(folder.path()), &Options { max_len: 1000, ..Options::default() }).unwrap();
        context.register_table("rows", Arc::new(table)).unwrap();
        let joined = "SELECT count(*) FROM rows a, rows b WHERE a.id + b.id = 5 AND b.id < 3";
        assert_eq!(texts(&query(&context, joined).await), ["3"]);
        let joined = "SELECT count(a.title) FROM rows a JOIN rows b ON a.id = b.id WHERE length(b.title) > 4";
        assert_eq!(texts(&query(&context, joined).await), ["3000"]);
    });
}

#[tokio::test]
async fn a_block_is_read_once_whatever_the_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.cvc");
    let options = WriteOptions::new(Layout::Native)
        .with_array(ArrayOptions::values("vectors", DType::F32, &[16], "raw").block_rows(4096))
        .and_then(|options| options.chunk_rows(8192));
    let mut writer = Writer::create(&path, options.unwrap()).unwrap();
    let values: Vec<f32> = (0..20_000 * 16u32).map(|at| at as f32).collect();
    writer.write_vectors(RowSlice::new(&values, 16).unwrap()).unwrap();
    writer.finish().unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let bytes = Counted(Arc::new(std::fs::read(&path).unwrap()), read.clone());
    let reader = Arc::new(Reader::new(Box::new(bytes), ReadOptions::default()).unwrap());
    let table = CvcTable::of(vec![("large".to_owned(), reader)], &Options::default()).unwrap();
    let context =
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2).with_batch_size(100));
    context.register_table("rows", Arc::new(table)).unwrap();
    read.store(0, Ordering::Relaxed);
    let batches = query(&context, "SELECT vectors FROM rows").await;
    assert!(batches.iter().all(|batch| batch.num_rows() <= 100) && batches.len() >= 200);
    let once = (values.len() * 4) as u64;
    assert!((once..once + 20_000).contains(&read.load(Ordering::Relaxed)), "{read:?} of {once}");
    // A table of one file is for all partitions.
    let plan = context.sql("SELECT vectors FROM rows").await.unwrap().create_physical_plan().await.unwrap();
    assert!(displayable(plan.as_ref()).indent(true).to_string().contains("partitions=2"));
}

#[tokio::test]
async fn a_manifest_stands_for_its_files_and_refuses_others() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let entry = |number: usize| {
        let identity = Reader::open(&files[number]).unwrap().identity();
        format!(r#"{{"uri": "{number}.cvc", "identity": "{identity}", "rows": 1000}}"#)
    };
    let text =
        format!(r#"{{"format": "cvc-manifest", "version": 1, "files": [{}, {}]}}"#, entry(2), entry(0));
    let manifest = folder.path().join("all.json");
    std::fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_str().unwrap();
    let context = context(CvcTable::open(&[manifest], &Options::default()).unwrap());
    assert_eq!(texts(&query(&context, "SELECT min(id) FROM rows WHERE id > 999").await), ["2000"]);
    assert_eq!(texts(&query(&context, "SELECT id FROM rows LIMIT 1").await), ["2000"]);
    write(Path::new(&files[0]), 7);
    let error = CvcTable::open(&[manifest], &Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Changed { uri, .. } if uri.ends_with("0.cvc")), "{error}");
    // A table that is there already is of the file as it was.
    assert_eq!(texts(&query(&context, "SELECT count(*) FROM rows WHERE id = 0").await), ["1"]);
}

#[tokio::test]
async fn what_is_no_table_is_refused_and_damage_is_an_error_of_the_query() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let open = |uris: &[&str], options: &Options| CvcTable::open(uris, options).unwrap_err().to_string();
    assert!(open(&[], &Options::default()).contains("no files"));
    let missing = folder.path().join("none.cvc");
    let error = open(&[missing.to_str().unwrap()], &Options::default());
    assert_eq!(error.matches("none.cvc").count(), 1, "{error}");
    for place in ["ftp://me:hush@host/a.cvc?key=hush", "ftp://me:hush@host/all.json"] {
        let error = open(&[place], &Options::default());
        assert!(error.contains("ftp://host/a") && !error.contains("hush"), "{error}");
    }
    let named = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    for (options, problem) in [
        (Options { arrays: named(&[]), ..Options::default() }, "arrays: none is named"),
        (Options { arrays: named(&["id", "id"]), ..Options::default() }, "arrays: \"id\" is named twice"),
        (Options { floats: Some(DType::I8), ..Options::default() }, "floats: f16 or f32"),
        (Options { max_len: 0, ..Options::default() }, "max_len: one byte"),
    ] {
        let error = open(&[&files[0]], &options);
        assert!(error.starts_with(problem), "{error}");
    }
    let other = Options { arrays: Some(vec!["nothing".to_owned()]), ..Options::default() };
    let error = open(&[&files[0]], &other);
    assert!(error.contains("0.cvc") && error.contains("nothing") && error.contains("title"), "{error}");
    let narrow = folder.path().join("narrow.cvc");
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 4, "raw").unwrap();
    let mut writer = Writer::create(&narrow, options).unwrap();
    writer.write_vectors(RowSlice::new(&[1f32, 2.0, 3.0, 4.0], 4).unwrap()).unwrap();
    writer.finish().unwrap();
    let error = open(&[&files[0], narrow.to_str().unwrap()], &Options::default());
    assert!(error.contains("narrow.cvc") && error.contains("id"), "{error}");
    let vectors = Options { arrays: named(&["vectors"]), ..Options::default() };
    let error = open(&[&files[0], narrow.to_str().unwrap()], &vectors);
    assert!(error.contains("narrow.cvc has other columns than"), "{error}");
    assert!(
        error.contains("vectors rows of [16] Float32") && error.contains("vectors rows of [4] Float32"),
        "{error}"
    );

    let mut bytes = std::fs::read(&files[1]).unwrap();
    let reader = Reader::open(&files[1]).unwrap();
    let chunk = reader.index().arrays[0].chunks[3].bytes.clone();
    let at = usize::try_from((chunk.start + chunk.end) / 2).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    let context = context(CvcTable::open(&files, &Options::default()).unwrap());
    let error =
        context.sql("SELECT vectors FROM rows").await.unwrap().collect().await.unwrap_err().to_string();
    assert!(error.starts_with("External error: ") && error.matches("rror:").count() == 1, "{error}");
    assert!(error.contains("1.cvc: array \"vectors\", chunk 3") && error.contains("crc32c"), "{error}");
    assert_eq!(texts(&query(&context, "SELECT count(*) FROM rows WHERE id > 2990").await), ["9"]);
}

#[tokio::test]
async fn columns_have_the_types_of_their_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let table = CvcTable::open(&files(folder.path()), &Options::default()).unwrap();
    let schema = datafusion::catalog::TableProvider::schema(&table);
    let DataType::FixedSizeList(item, 16) = schema.field(0).data_type() else { panic!("{schema:?}") };
    assert_eq!((item.data_type(), schema.field(1).data_type()), (&DataType::Float32, &DataType::Int64));
    assert!(
        schema.field(2).data_type() == &DataType::LargeUtf8
            && schema.fields().iter().all(|field| !field.is_nullable())
    );
    assert!(format!("{table:?}").contains("2.cvc"));
}
