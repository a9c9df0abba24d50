//! Files that are somewhere else give the same rows as here, for few requests, whatever happens on the way.

mod support;

use std::io::Write as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cvc::codec::{DecodeError, SourceError};
use cvc::{
    ArrayOptions, ArrayRows, DType, Error, Layout, ReadAt, ReadOptions, Reader, RowSlice, Rows, Strings,
    WriteOptions, Writer,
};
use cvc_remote::{Remote, RemoteError, RemoteOptions, Stats, Upload};
use half::f16;
use support::{Fault, Ranges, Server};

const DIM: usize = 48;
const ROWS: usize = 5000;

/// The array kept with this codec, and titles beside it, in chunks of 1,000 rows.
fn native(codec: &str) -> Vec<u8> {
    let values: Vec<f32> =
        (0..ROWS * DIM).map(|at| f32::from(u16::try_from(at * 37 % 4093).unwrap()) / 64.0).collect();
    let titles: Strings = (0..ROWS).map(|row| format!("title {row}")).collect();
    let options = WriteOptions::new(Layout::Native).chunk_rows(1000).unwrap();
    let options = options
        .with_array(ArrayOptions::values("vectors", DType::F32, &[u32::try_from(DIM).unwrap()], codec))
        .unwrap();
    let options = options.with_array(ArrayOptions::strings("titles", "zstd")).unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&[ArrayRows::from(RowSlice::new(&values, DIM).unwrap()), (&titles).into()]).unwrap();
    writer.finish_bytes().unwrap()
}

fn fp16() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| native("fp16")).clone()
}

fn some_rows(count: u64, of: u64) -> Vec<u64> {
    (0..count).map(|at| (at * at * 7919 + at * 104_729) % of).collect()
}

/// Options for tests: no proxy stands between, and nothing is waited for long.
fn options() -> RemoteOptions {
    let mut options = RemoteOptions::default();
    options.retries = 2;
    options.timeout = Duration::from_secs(20);
    options
}

/// How a store on `server` is reached.
fn s3(server: &Server) -> RemoteOptions {
    let mut options = options();
    for (key, value) in [
        ("endpoint", server.url("").as_str()),
        ("allow_http", "true"),
        ("skip_signature", "true"),
        ("region", "here"),
    ] {
        options.set(key, value).unwrap();
    }
    options
}

fn open(url: &str, options: &RemoteOptions) -> (Reader, impl Fn() -> Stats + use<>) {
    let remote = Remote::open(url, options).unwrap();
    let counters = remote.counters();
    (Reader::new(Box::new(remote), ReadOptions::default()).unwrap(), move || counters.stats())
}

/// What a remote file failed with while it was read.
fn cause(error: &Error) -> RemoteError {
    let (Error::Source(SourceError::Read { cause, .. })
    | Error::Decode { error: DecodeError::Source { error: SourceError::Read { cause, .. }, .. }, .. }) =
        error
    else {
        panic!("{error}")
    };
    cause.downcast_ref::<RemoteError>().unwrap().clone()
}

/// All that can be read of the two files is the same.
fn same(far: &Reader, near: &Reader) {
    let (a, b) = (far.vectors().unwrap(), near.vectors().unwrap());
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    let some = some_rows(200, a.rows());
    for rows in [Rows::from(&some[..]), Rows::from(17..2500), Rows::from(..)] {
        assert_eq!(bits(a.read(rows.clone()).unwrap()), bits(b.read(rows).unwrap()));
    }
    if let (Ok(a), Ok(b)) = (far.array("titles"), near.array("titles")) {
        assert!(a.read_strings(&some[..]).unwrap().iter().eq(b.read_strings(&some[..]).unwrap().iter()));
        assert!(a.read_strings(..).unwrap().iter().eq(b.read_strings(..).unwrap().iter()));
    }
    assert_eq!(a.lost_rows(&[0..a.rows()]).unwrap(), []);
    assert!(far.verify().unwrap().is_ok());
}

#[test]
fn every_codec_gives_the_bits_of_the_local_file_over_http_and_from_a_store() {
    for codec in ["raw", "fp16", "int8", "int4", "lossless", "zstd"] {
        let bytes = native(codec);
        let near = Reader::from_bytes(bytes.clone()).unwrap();
        for ranges in [Ranges::Many, Ranges::One, Ranges::First] {
            let (server, url) = Server::with(bytes.clone());
            server.state().ranges = Some(ranges);
            let (far, stats) = open(&url, &options());
            same(&far, &near);
            assert_eq!(stats().fallbacks, u64::from(ranges != Ranges::Many), "{codec} {ranges:?}");
            assert_eq!(stats().requests, server.asked().len() as u64);
        }
        let server = Server::new();
        server.state().files.insert("/b/v.cvc".into(), Arc::new(bytes));
        same(&open("s3://b/v.cvc", &s3(&server)).0, &near);
    }
}

#[test]
fn cvcf_files_are_read_too() {
    let values: Vec<f32> = (0..3000u16 * 16).map(|at| f32::from(at % 4093)).collect();
    for layout in [Layout::V0, Layout::V1, Layout::V2] {
        let options = WriteOptions::new(layout).chunk_rows(700).unwrap();
        let mut writer = Writer::in_memory(options.vectors(DType::F32, 16, "fp16").unwrap()).unwrap();
        writer.write_vectors(RowSlice::new(&values, 16).unwrap()).unwrap();
        let bytes = writer.finish_bytes().unwrap();
        let (_server, url) = Server::with(bytes.clone());
        let (far, stats) = open(&url, &self::options());
        // The header comes with the first request; chunks are found by the lengths before them.
        assert!(stats().requests <= 1 + 5, "{layout}");
        same(&far, &Reader::from_bytes(bytes).unwrap());
    }
}

#[test]
fn opening_takes_one_request_or_two_and_a_set_of_rows_one_for_heads_and_one_for_blocks() {
    let (server, url) = Server::with(fp16());
    let (far, stats) = open(&url, &options());
    assert_eq!(stats().requests, 2);
    let asked = server.asked();
    assert!(!asked[0].headers.contains_key("if-match"));
    assert_eq!(asked[1].headers["if-match"], "\"one\"");
    let vectors = far.vectors().unwrap();
    vectors.read::<f32>(&some_rows(50, ROWS as u64)[..]).unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(stats().requests, 4);
    // Heads are known by now.
    vectors.read::<f32>(&some_rows(60, ROWS as u64)[..]).unwrap();
    assert_eq!(server.asked().len(), 1);

    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 1, "raw").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write_vectors(RowSlice::new(&[1.0f32, 2.0], 1).unwrap()).unwrap();
    let (_server, url) = Server::with(writer.finish_bytes().unwrap());
    let (far, stats) = open(&url, &self::options());
    assert_eq!(far.vectors().unwrap().read::<f32>(..).unwrap(), [1.0, 2.0]);
    assert_eq!(stats().requests, 1, "a small file comes whole");
}

#[test]
fn long_ranges_come_in_pieces_several_at_a_time() {
    let (server, url) = Server::with(fp16());
    let mut options = options();
    options.piece = 20_000;
    let (far, _) = open(&url, &options);
    server.asked();
    let near = Reader::from_bytes(fp16()).unwrap();
    let all: Vec<f32> = far.vectors().unwrap().read(..).unwrap();
    assert_eq!(all, near.vectors().unwrap().read::<f32>(..).unwrap());
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.sent < 21_000), "{asked:?}");
    assert!(asked.len() >= ROWS * DIM * 2 / 20_000);
}

#[test]
fn a_connection_that_is_cut_in_the_middle_of_a_range_is_taken_up_where_it_ended() {
    let near = Reader::from_bytes(fp16()).unwrap();
    let (server, url) = Server::with(fp16());
    let (far, _) = open(&url, &options());
    let read = |far: &Reader, rows: Range<u64>| far.vectors().unwrap().read::<f32>(rows);
    read(&far, 0..1).unwrap();
    server.asked();
    // One range: what came is kept. The head of the chunk comes first.
    server.fail(&[Fault::None, Fault::Cut(30_000)]);
    assert_eq!(read(&far, 2000..2900).unwrap(), read(&near, 2000..2900).unwrap());
    let starts: Vec<u64> = server
        .asked()
        .iter()
        .map(|asked| {
            let range = asked.headers["range"].strip_prefix("bytes=").unwrap();
            range.split_once('-').unwrap().0.parse().unwrap()
        })
        .collect();
    assert!(starts.len() == 3 && starts[2] == starts[1] + 30_000, "{starts:?}");
    // Several ranges, and a store.
    server.fail(&[Fault::None, Fault::Cut(700), Fault::Cut(9)]);
    let rows = some_rows(50, ROWS as u64);
    let (a, b) = (far.vectors().unwrap(), near.vectors().unwrap());
    assert_eq!(a.read::<f32>(&rows[..]).unwrap(), b.read::<f32>(&rows[..]).unwrap());
    server.state().files.insert("/b/v.cvc".into(), Arc::new(fp16()));
    let (far, _) = open("s3://b/v.cvc", &s3(&server));
    server.fail(&[Fault::None, Fault::Cut(1000), Fault::Cut(0)]);
    assert_eq!(read(&far, 2000..2900).unwrap(), read(&near, 2000..2900).unwrap());
    assert!(server.state().faults.is_empty());
}

#[test]
fn a_truncated_answer_is_asked_for_again_and_then_an_error() {
    let (server, url) = Server::with(fp16());
    let (far, _) = open(&url, &options());
    let vectors = far.vectors().unwrap();
    let rows = some_rows(50, ROWS as u64);
    vectors.read::<f32>(&rows[..]).unwrap();
    server.fail(&[Fault::Short(5)]);
    vectors.read::<f32>(&rows[..]).unwrap();
    server.fail(&[Fault::Short(5), Fault::Short(100)]);
    vectors.read::<f32>(100..900).unwrap();
    for fault in [Fault::Short(5), Fault::Cut(0), Fault::Unavailable] {
        server.fail(&[fault; 3]);
        let error = vectors.read::<f32>(&rows[..]).unwrap_err();
        assert!(matches!(cause(&error), RemoteError::Failed { tries: 3, .. }), "{fault:?}: {error}");
        assert!(server.state().faults.is_empty(), "no more was tried");
        server.fail(&[fault; 2]);
        vectors.read::<f32>(&rows[..]).unwrap();
    }
    server.fail(&[Fault::PartMissing]);
    let error = vectors.read::<f32>(&rows[..]).unwrap_err();
    assert!(matches!(cause(&error), RemoteError::Answer { .. }), "{error}");

    // A store's answers are looked at in the same way.
    server.state().files.insert("/b/v.cvc".into(), Arc::new(fp16()));
    let (far, _) = open("s3://b/v.cvc", &s3(&server));
    far.vectors().unwrap().read::<f32>(0..1).unwrap();
    server.fail(&[Fault::Short(5); 3]);
    let error = far.vectors().unwrap().read::<f32>(4000..4001).unwrap_err();
    assert!(matches!(cause(&error), RemoteError::Answer { .. } | RemoteError::Store { .. }), "{error}");
}

#[test]
fn a_file_that_changes_while_it_is_open_is_an_error() {
    let rows = some_rows(50, ROWS as u64);
    let changed = |server: &Server, url: &str, options: &RemoteOptions, change: &dyn Fn(&Server)| {
        let (far, _) = open(url, options);
        far.vectors().unwrap().read::<f32>(&rows[..]).unwrap();
        change(server);
        for rows in [&rows[..], &rows[5..6]] {
            let error = far.vectors().unwrap().read::<f32>(rows).unwrap_err();
            assert!(matches!(cause(&error), RemoteError::Changed { .. }), "{error}");
            assert!(error.to_string().contains("open it again"), "{error}");
        }
    };
    let (server, url) = Server::with(fp16());
    changed(&server, &url, &options(), &|server| server.state().e_tag = Some("\"two\"".into()));
    // A weak one is not compared by the server.
    server.state().e_tag = Some("W/\"1\"".into());
    changed(&server, &url, &options(), &|server| server.state().e_tag = Some("W/\"2\"".into()));
    // Without an ETag the date is compared, and without a date the length.
    server.state().e_tag = None;
    changed(&server, &url, &options(), &|server| {
        server.state().modified = Some("Sun, 02 Nov 2025 10:00:00 GMT".into());
    });
    let (server, url) = Server::with(fp16());
    server.state().files.insert("/b/v.cvc".into(), Arc::new(fp16()));
    let options = s3(&server);
    changed(&server, "s3://b/v.cvc", &options, &|server| server.state().e_tag = Some("\"two\"".into()));
    server.state().e_tag = None;
    let (far, _) = open(&url, &self::options());
    let mut longer = fp16();
    longer.push(0);
    for other in [longer, vec![0; 10]] {
        server.state().files.insert("/v.cvc".into(), Arc::new(other));
        let error = far.vectors().unwrap().read::<f32>(3000..3001).unwrap_err();
        assert!(matches!(cause(&error), RemoteError::Changed { .. }), "{error}");
    }
}

/// Where an answer has no ETag any more, its date is looked at.
#[test]
fn a_file_that_lost_its_etag_is_known_by_its_date() {
    let (server, url) = Server::with(fp16());
    server.state().e_tag = Some("W/\"1\"".into());
    let (far, _) = open(&url, &options());
    server.state().e_tag = None;
    far.vectors().unwrap().read::<f32>(3000..3001).unwrap();
    server.state().modified = Some("Sun, 02 Nov 2025 10:00:00 GMT".into());
    let error = far.vectors().unwrap().read::<f32>(4000..4001).unwrap_err();
    assert!(matches!(cause(&error), RemoteError::Changed { .. }), "{error}");
    // Machines of one server may have dates of their own.
    server.state().e_tag = Some("W/\"1\"".into());
    far.vectors().unwrap().read::<f32>(4000..4001).unwrap();
}

#[test]
fn an_answer_that_is_too_long_is_not_held() {
    let (server, url) = Server::with(fp16());
    server.state().files.insert("/b/v.cvc".into(), Arc::new(fp16()));
    for (url, options) in [(&*url, options()), ("s3://b/v.cvc", s3(&server))] {
        let (far, stats) = open(url, &options);
        far.vectors().unwrap().read::<f32>(0..1).unwrap();
        server.fail(&[Fault::Long(64 << 20)]);
        let error = far.vectors().unwrap().read::<f32>(4000..4001).unwrap_err();
        assert!(matches!(cause(&error), RemoteError::Answer { .. }), "{error}");
        assert!(stats().bytes_in < 8 << 20, "{:?}", stats());
        server.fail(&[Fault::Long(64 << 20)]);
        let error = Remote::open(url, &options).unwrap_err();
        assert!(matches!(error, RemoteError::Answer { .. }), "{error}");
    }
}

#[test]
fn pieces_of_nothing_are_refused() {
    let (_server, url) = Server::with(fp16());
    let mut options = options();
    options.piece = 0;
    for error in
        [Remote::open(&url, &options).unwrap_err(), Upload::create("s3://b/k", &options).unwrap_err()]
    {
        assert!(error.is_usage() && error.to_string().contains("piece"), "{error}");
    }
}

#[test]
fn what_cannot_be_opened_says_who_is_to_blame() {
    let (server, url) = Server::with(fp16());
    let error = |url: &str| Remote::open(url, &options()).unwrap_err();
    assert!(matches!(error(&server.url("/none.cvc")), RemoteError::Missing { .. }));
    server.state().status = Some("403 Forbidden");
    assert!(matches!(error(&url), RemoteError::Refused { .. }));
    server.state().status = Some("418 I'm a teapot");
    assert!(matches!(error(&url), RemoteError::Answer { .. }));
    server.state().status = None;
    server.state().ranges = Some(Ranges::Never);
    assert!(matches!(error(&url), RemoteError::NoRanges { .. }));
    server.state().files.insert("/small".into(), Arc::new(vec![7; 100]));
    server.state().files.insert("/empty".into(), Arc::default());
    let small = Remote::open(&server.url("/small"), &options()).unwrap();
    let mut bytes = [0; 3];
    small.read_at(97, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 3]);
    assert!(matches!(small.read_at(98, &mut bytes), Err(SourceError::Shrunk { file_len: 100, .. })));
    for ranges in [Ranges::Many, Ranges::Never] {
        server.state().ranges = Some(ranges);
        let empty = Remote::open(&server.url("/empty"), &options()).unwrap();
        assert!(empty.is_empty());
        assert!(Reader::new(Box::new(empty), ReadOptions::default()).is_err());
    }
    server.state().files.insert("/b/empty".into(), Arc::default());
    assert!(Remote::open("s3://b/empty", &s3(&server)).unwrap().is_empty());
    assert!(matches!(Remote::open("s3://b/none", &s3(&server)).unwrap_err(), RemoteError::Missing { .. }));
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut hasty = options();
    hasty.retries = 1;
    let error = Remote::open(&format!("http://{gone}/x"), &hasty).unwrap_err();
    assert!(matches!(error, RemoteError::Failed { tries: 2, .. }), "{error}");
}

#[test]
fn a_silent_server_is_given_up() {
    let (server, url) = Server::with(fp16());
    let mut options = options();
    (options.timeout, options.retries) = (Duration::from_millis(200), 1);
    server.fail(&[Fault::Silent, Fault::Silent]);
    let error = Remote::open(&url, &options).unwrap_err();
    assert!(matches!(error, RemoteError::Failed { tries: 2, .. }), "{error}");
    server.fail(&[Fault::Silent]);
    Remote::open(&url, &options).unwrap();
}

#[test]
fn headers_and_a_query_are_sent_and_not_told() {
    let (server, url) = Server::with(fp16());
    let mut options = options();
    options.set("header.Authorization", "Bearer hush").unwrap();
    let remote = Remote::open(&format!("{url}?signature=hush"), &options).unwrap();
    let debug = format!("{remote:?} {options:?}");
    assert!(debug.contains(&url) && !debug.contains("hush"), "{debug}");
    drop(Reader::new(Box::new(remote), ReadOptions::default()).unwrap());
    assert!(server.asked().iter().all(|asked| asked.headers["authorization"] == "Bearer hush"));
    server.state().status = Some("403 Forbidden");
    let error = Remote::open(&format!("{url}?signature=hush"), &options).unwrap_err();
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[test]
fn it_works_inside_another_runtime_and_from_many_threads() {
    let (_server, url) = Server::with(fp16());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let far = runtime.block_on(async { open(&url, &options()).0 });
    let near = Reader::from_bytes(fp16()).unwrap();
    let wanted: Vec<f32> = near.vectors().unwrap().read(..).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(far.vectors().unwrap().read::<f32>(..).unwrap(), wanted));
        }
    });
    runtime.block_on(async { drop(far) });
}

#[test]
fn a_file_of_this_machine_is_read_by_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.cvc");
    std::fs::write(&path, fp16()).unwrap();
    let url = url::Url::from_file_path(&path).unwrap();
    let (far, stats) = open(url.as_str(), &options());
    same(&far, &Reader::from_bytes(fp16()).unwrap());
    assert_eq!(stats().requests, 0);
}

/// A file that several own.
struct Shared(Arc<Vec<u8>>);

impl ReadAt for Shared {
    fn len(&self) -> u64 {
        ReadAt::len(&*self.0)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.0.read_at(offset, into)
    }

    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        self.0.borrow(range)
    }
}

/// The figures of `docs/remote.md`, in its order: what 1,000 random rows of 200,000 x 768 halves cost.
#[test]
fn a_thousand_rows_of_two_hundred_thousand_cost_few_requests_and_little_more_than_their_blocks() {
    const DIM: usize = 768;
    let options = WriteOptions::new(Layout::Native);
    let options = options.vectors(DType::F16, u32::try_from(DIM).unwrap(), "fp16").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    let mut state = 1u32;
    let mut batch = vec![f16::ZERO; 4000 * DIM];
    for _ in 0..50 {
        for value in &mut batch {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Finite, of either sign: 15 bits below the exponent of infinity.
            *value = f16::from_bits((state >> 16) as u16 & 0xbfff);
        }
        writer.write_vectors(RowSlice::new(&batch, DIM).unwrap()).unwrap();
    }
    let bytes = Arc::new(writer.finish_bytes().unwrap());
    let near = Reader::new(Box::new(Shared(bytes.clone())), ReadOptions::default()).unwrap();
    // By splitmix64, whose numbers are as good as random.
    let random = |at: u64| {
        let state = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (state ^ state >> 31) % 200_000
    };
    let rows: Vec<u64> = (0..1000).map(random).collect();
    let wanted: Vec<f16> = near.vectors().unwrap().read(&rows[..]).unwrap();

    let server = Server::new();
    server.state().files.insert("/v.cvc".into(), bytes.clone());
    server.state().files.insert("/b/v.cvc".into(), bytes);
    let cost = |url: &str, options: &RemoteOptions| {
        let (far, stats) = open(url, options);
        let read: Vec<f16> = far.vectors().unwrap().read(&rows[..]).unwrap();
        assert!(read.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits()));
        (stats().requests, stats().bytes_in)
    };
    let http = cost(&server.url("/v.cvc"), &self::options());
    assert!(http.0 <= 200 && http.1 <= 8_000_000, "{http:?}");
    let mut tight = s3(&server);
    tight.gap = 0;
    let mut wide = s3(&server);
    wide.gap = 256 << 10;
    let found =
        [http, cost("s3://b/v.cvc", &tight), cost("s3://b/v.cvc", &s3(&server)), cost("s3://b/v.cvc", &wide)];
    assert_eq!(found, [(13, 6_529_124), (995, 6_425_408), (820, 12_286_784), (447, 68_539_520)]);
}

#[test]
fn an_upload_appears_when_it_is_whole_and_leaves_nothing_when_it_is_not() {
    let server = Server::new();
    let mut options = s3(&server);
    options.retries = 0;
    options.piece = 5 << 20;
    let values: Vec<f32> = (0..4_000_000u32).map(|at| (at % 40_009) as f32).collect();
    let begin = |key: &str| {
        let upload = Upload::create(&format!("s3://b/{key}"), &options).unwrap();
        let native = WriteOptions::new(Layout::Native).chunk_rows(4096).unwrap();
        let native = native.vectors(DType::F32, 64, "raw").unwrap();
        Writer::to_sink(upload, native).unwrap()
    };
    let rows = RowSlice::new(&values, 64).unwrap();
    let mut writer = begin("large.cvc");
    writer.write_vectors(rows).unwrap();
    assert!(server.state().files.is_empty(), "nothing is there before it is whole");
    let (upload, written) = writer.finish_sink().unwrap();
    let counters = upload.counters();
    upload.finish().unwrap();
    // Begun, four parts of which the last is short, completed.
    assert_eq!((counters.stats().requests, server.state().begun), (6, 1));
    assert!(counters.stats().bytes_out >= written.file_len);
    let (far, _) = open("s3://b/large.cvc", &options);
    assert_eq!(far.vectors().unwrap().read::<f32>(..).unwrap(), values);

    // A small one is an object at once.
    let mut writer = begin("small.cvc");
    writer.write_vectors(rows.slice(0..10)).unwrap();
    writer.finish_sink().unwrap().0.finish().unwrap();
    assert_eq!(server.state().begun, 1);
    let (far, _) = open("s3://b/small.cvc", &options);
    assert_eq!(far.vectors().unwrap().read::<f32>(..).unwrap(), values[..640]);

    // Given up.
    let mut writer = begin("half.cvc");
    writer.write_vectors(rows).unwrap();
    assert_eq!(server.state().uploads.len(), 1);
    drop(writer);
    assert!(server.state().uploads.is_empty());
    // Given back whole, and never finished.
    let mut writer = begin("half.cvc");
    writer.write_vectors(rows).unwrap();
    drop(writer.finish_sink().unwrap());
    assert!(server.state().uploads.is_empty());
    // A part that the store does not take.
    let mut writer = begin("half.cvc");
    server.fail(&[Fault::None, Fault::None, Fault::Unavailable]);
    let failed = writer.write_vectors(rows).and_then(|()| {
        let upload = writer.finish_sink()?.0;
        upload.finish().map_err(|error| Error::Output(error.into()))
    });
    let error = failed.unwrap_err();
    assert!(matches!(&error, Error::Output(_)) && error.to_string().contains("s3://b/half.cvc"), "{error}");
    server.state().faults.clear();
    assert!(server.state().uploads.is_empty() && server.state().files.len() == 2);
}

#[test]
fn an_object_has_the_name_that_its_url_says() {
    let server = Server::new();
    let pack = |url: &str| {
        let mut upload = Upload::create(url, &s3(&server))?;
        upload.write_all(b"some").unwrap();
        upload.finish()
    };
    pack("s3://b/part%231.cvc").unwrap();
    for wrong in ["s3://b/part#1.cvc", "s3://b/part?1.cvc"] {
        let error = pack(wrong).unwrap_err();
        assert!(error.is_usage(), "{error}");
        assert!(Remote::open(wrong, &s3(&server)).unwrap_err().is_usage());
    }
    let paths: Vec<String> = server.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/b/part%231.cvc"]);
}

#[test]
fn an_upload_is_given_up_at_once_though_the_server_is_silent() {
    let server = Server::new();
    let mut options = s3(&server);
    (options.piece, options.retries) = (5 << 20, 1000);
    let begin = |options: &RemoteOptions| {
        let mut upload = Upload::create("s3://b/half.cvc", options).unwrap();
        server.fail(&[Fault::None, Fault::Silent]);
        upload.write_all(&vec![0; 5 << 20]).unwrap();
        // The part is under way.
        while server.asked().iter().all(|asked| asked.method != "PUT") {
            std::thread::sleep(Duration::from_millis(1));
        }
        upload
    };
    let give_up = |upload: Upload| {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(upload);
            send.send(())
        });
        // Long before anything else would end it.
        receive.recv_timeout(Duration::from_secs(60)).expect("it waits for what nobody wants")
    };
    options.timeout = Duration::from_secs(500);
    let upload = begin(&options);
    assert!(format!("{upload:?}").contains("s3://b/half.cvc"));
    give_up(upload);
    assert!(server.state().uploads.is_empty());
    // The server does not say anything to the end of it, either.
    options.timeout = Duration::from_millis(300);
    let mut upload = Upload::create("s3://b/half.cvc", &options).unwrap();
    upload.write_all(&vec![0; 5 << 20]).unwrap();
    server.state().status = Some("503 Service Unavailable");
    give_up(upload);
}

#[test]
fn what_cannot_be_written_is_refused_and_a_file_of_this_machine_appears_when_it_is_whole() {
    let (server, url) = Server::with(Vec::new());
    let error = Upload::create(&url, &options()).unwrap_err();
    assert!(matches!(error, RemoteError::Url { .. }) && server.asked().is_empty(), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.cvc");
    let url = url::Url::from_file_path(&path).unwrap();
    let mut upload = Upload::create(url.as_str(), &options()).unwrap();
    upload.write_all(b"some").unwrap();
    drop(upload);
    assert!(!path.exists());
    let mut upload = Upload::create(url.as_str(), &options()).unwrap();
    upload.write_all(b"some").unwrap();
    upload.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"some");
}
