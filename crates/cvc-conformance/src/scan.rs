//! The suite for backends that search: they find what the reference finds, with the same scores.

use cvc_codec::ops::rotated::RotatedCodes;
use cvc_codec::{
    ChunkId, ChunkShape, DType, DecodeError, DecodePlan, DeviceKind, Found, Load, Metric, Queries,
    ReferenceBackend, RowSlice, Scan, ScanBatch, ScanJob, TermsCache,
};

use crate::chunks::{Content, Kind, Random, kinds};
use crate::payloads::MemoryPayloads;
use crate::subject::Device;

/// Makes a `#[test]` of each case, for a backend (`Some`) or for none where its device is absent.
#[macro_export]
macro_rules! scan_conformance {
    ($backend:expr) => {
        $crate::scan_conformance!(@tests $backend;
            every_kind_of_rows_and_every_metric
            few_and_many_queries
            tiles_of_any_length
            rows_here_and_there
            equal_rows_and_rows_that_nearly_are
            rows_without_a_score
            numbers_at_the_ends_of_the_range
            queries_that_do_not_round_well
            prefixes_of_rows
            bits_of_bytes_and_of_bools
            integers_and_doubles
            more_than_there_is
            a_damaged_block_is_an_error
        );
    };
    (@tests $backend:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            if let Some(backend) = $backend {
                $crate::scan::$case($crate::scan::Lent::lent(&backend));
            }
        }
    )*};
}

/// A backend, or a device that tests share.
pub trait Lent {
    /// The backend.
    type Backend: Scan;

    /// Lends it.
    fn lent(&self) -> &Self::Backend;
}

impl<S: Scan> Lent for S {
    type Backend = S;

    fn lent(&self) -> &S {
        self
    }
}

impl<S: Scan> Lent for &Device<S> {
    type Backend = S;

    fn lent(&self) -> &S {
        &self.0
    }
}

const OF_FLOATS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2sq];

const INT4: Kind = Kind::Rotated(RotatedCodes::Int4);
const BIT1: Kind = Kind::Rotated(RotatedCodes::Bit1);

type Chunk = (DecodePlan, Vec<u8>);

/// Jobs on some chunks whose rows follow each other in an array.
fn jobs<'p>(chunks: &'p [Chunk], rows: &[(usize, core::ops::Range<u32>)]) -> Vec<ScanJob<'p>> {
    let first =
        |chunk: usize| -> u64 { chunks[..chunk].iter().map(|(plan, _)| u64::from(plan.shape().rows)).sum() };
    let job = |(chunk, rows): &(usize, core::ops::Range<u32>)| ScanJob {
        plan: &chunks[*chunk].0,
        chunk: ChunkId(u32::try_from(*chunk).unwrap()),
        rows: rows.clone(),
        first_row: first(*chunk) + u64::from(rows.start),
    };
    rows.iter().map(job).collect()
}

fn all(chunks: &[Chunk]) -> Vec<(usize, core::ops::Range<u32>)> {
    chunks.iter().enumerate().map(|(chunk, (plan, _))| (chunk, 0..plan.shape().rows)).collect()
}

/// Searches with the backend, borrowing and reading, knowing nothing of the rows and knowing all, and with the reference, and compares
/// all of it. A backend that does not
/// decode such rows must refuse to search them; which those are is the business of the suite for decoding.
fn check(
    backend: &impl Scan,
    chunks: &[Chunk],
    rows: &[(usize, core::ops::Range<u32>)],
    metrics: &[Metric],
    queries: RowSlice<'_>,
    k: usize,
) {
    let out = chunks[0].0.out();
    let payloads: Vec<Vec<u8>> = chunks.iter().map(|(_, payload)| payload.clone()).collect();
    let dim = u32::try_from(queries.dim()).unwrap();
    let terms = TermsCache::new(1 << 20);
    for metric in metrics {
        let queries = Queries::new(*metric, queries).expect("queries that make sense");
        let batch = ScanBatch::new(jobs(chunks, rows), dim, out).expect("jobs that fit");
        let src = MemoryPayloads::new(&payloads);
        if chunks.iter().any(|(plan, _)| backend.supports(plan).is_err()) {
            let refused = backend.scan(&batch, &src, &queries, k);
            let asked = rows.iter().any(|(_, rows)| !rows.is_empty()) && !queries.is_empty();
            assert!(matches!(refused, Err(DecodeError::Unsupported(_))) || !asked, "{refused:?}");
            continue;
        }
        let expected = ReferenceBackend::default().scan(&batch, &src, &queries, k).expect("sound payloads");
        // Devices always read.
        let can_borrow = backend.device().kind == DeviceKind::Cpu;
        for borrowing in [false, true].into_iter().take(1 + usize::from(can_borrow)) {
            let src = MemoryPayloads::new(&payloads).borrowing(borrowing);
            let found = backend.scan(&batch, &src, &queries, k).expect("sound payloads");
            let ops: Vec<&str> = chunks.iter().map(|(plan, _)| plan.load().name()).collect();
            let case = format!("{metric}, k {k}, dim {dim}, {} queries, {out}, {ops:?}", queries.len());
            compare(found, expected.clone(), *metric, &case);
            if can_borrow {
                // What a scan of all rows left makes no difference, for this metric and those before.
                let all = ScanBatch::new(jobs(chunks, &all(chunks)), dim, out).expect("jobs that fit");
                backend.scan(&all.with_terms(&terms), &src, &queries, k).expect("sound payloads");
                let batch = batch.clone().with_terms(&terms);
                let found = backend.scan(&batch, &src, &queries, k).expect("sound payloads");
                compare(found, expected.clone(), *metric, &format!("{case}, again"));
            }
        }
    }
}

fn compare(found: Found, expected: Found, metric: Metric, case: &str) {
    assert_eq!(found.nan_rows, expected.nan_rows, "{case}");
    assert_eq!(found.tops.len(), expected.tops.len(), "{case}");
    for (query, (found, expected)) in found.tops.into_iter().zip(expected.tops).enumerate() {
        let (found, expected) = (found.into_hits(metric), expected.into_hits(metric));
        let bits = |hits: &[cvc_codec::Hit]| -> Vec<(u64, u32)> {
            hits.iter().map(|hit| (hit.row, hit.score.to_bits())).collect()
        };
        assert_eq!(
            bits(&found),
            bits(&expected),
            "query {query} of {case}: {found:?}, expected {expected:?}"
        );
    }
}

fn width(dim: usize) -> u32 {
    u32::try_from(dim).expect("a few values")
}

fn floats(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.normal()).collect()
}

fn rows_of(values: &[f32], dim: usize) -> RowSlice<'_> {
    RowSlice::new(values, dim).expect("whole rows")
}

/// Rows of floats as they are.
fn raw(values: &[f32], dim: u32) -> Chunk {
    let rows = u32::try_from(values.len()).unwrap() / dim;
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Content::field(ChunkShape { rows, dim }, Load::Copy(DType::F32), bytes).framed(DType::F32)
}

/// Every op and dtype that becomes floats, with values of any bits among them, by every metric.
pub fn every_kind_of_rows_and_every_metric(backend: &impl Scan) {
    let mut random = Random::new();
    for (kind, out) in kinds().into_iter().filter(|(_, out)| *out == DType::F32) {
        for dim in [1, 7, 32, 100, 384] {
            let chunks = [random.chunk(40, dim, kind, out), random.chunk(200, dim, kind, out)];
            let queries = floats(&mut random, 3 * dim as usize);
            let queries = rows_of(&queries, dim as usize);
            check(backend, &chunks, &all(&chunks), &OF_FLOATS, queries, 10);
            let positive: Vec<f32> =
                floats(&mut random, dim as usize).iter().map(|value| value.abs()).collect();
            check(
                backend,
                &chunks,
                &all(&chunks),
                &[Metric::Kl, Metric::Js],
                rows_of(&positive, dim as usize),
                5,
            );
        }
    }
}

/// One query, as many as are taken one by one, and as many as fill panels and do not.
pub fn few_and_many_queries(backend: &impl Scan) {
    let mut random = Random::new();
    for kind in [Kind::Copy(DType::F32), Kind::AffineRow, Kind::AffineChunk, INT4, BIT1] {
        for dim in [31, 64, 300] {
            let chunks = [random.chunk(333, dim, kind, DType::F32)];
            for count in [1, 2, 3, 4, 5, 16, 17, 40] {
                let queries = floats(&mut random, count * dim as usize);
                check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries, dim as usize), 7);
            }
        }
    }
}

/// Row counts on both sides of those that are taken together, and more than a run.
pub fn tiles_of_any_length(backend: &impl Scan) {
    let mut random = Random::new();
    for kind in [Kind::Copy(DType::F32), Kind::WidenF16, Kind::AffineRow, INT4, BIT1] {
        for rows in [1, 2, 3, 5, 31, 63, 64, 65, 129, 3000] {
            let chunks = [random.chunk(rows, 96, kind, DType::F32)];
            for count in [1, 9] {
                let queries = floats(&mut random, count * 96);
                check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries, 96), 4);
            }
        }
    }
}

/// Ranges of rows, single ones among them, of some chunks.
pub fn rows_here_and_there(backend: &impl Scan) {
    let mut random = Random::new();
    for kind in [Kind::Copy(DType::F32), Kind::AffineRow, Kind::WidenF16, Kind::DictPlanes, INT4, BIT1] {
        let chunks: Vec<Chunk> = (0..5).map(|_| random.chunk(400, 33, kind, DType::F32)).collect();
        let mut rows = Vec::new();
        for chunk in [0, 2, 3] {
            let mut start = random.below(20);
            while start < 400 {
                let end = (start + 1 + random.below(30)).min(400);
                rows.push((chunk, start..end));
                start = end + random.below(40);
            }
        }
        let queries = floats(&mut random, 6 * 33);
        check(backend, &chunks, &rows, &OF_FLOATS, rows_of(&queries, 33), 12);
    }
}

/// Of equal scores the lower rows are found, however many there are; and rows that differ in their last bits are told apart.
pub fn equal_rows_and_rows_that_nearly_are(backend: &impl Scan) {
    let mut random = Random::new();
    let dim = 48;
    let row = floats(&mut random, dim);
    let mut values: Vec<f32> = (0..500).flat_map(|_| row.clone()).collect();
    let queries = floats(&mut random, 5 * dim);
    let queries = rows_of(&queries, dim);
    let chunks = [raw(&values, width(dim)), raw(&values, width(dim))];
    check(backend, &chunks, &all(&chunks), &OF_FLOATS, queries, 9);
    for value in &mut values {
        *value = f32::from_bits(value.to_bits() ^ random.below(4));
    }
    let chunks = [raw(&values, width(dim))];
    check(backend, &chunks, &all(&chunks), &OF_FLOATS, queries, 9);
    // The same as codes.
    let codes: Vec<u8> = random.bytes(dim);
    let codes = (0..700).flat_map(|_| codes.clone()).collect();
    let params: Vec<(f32, f32)> = (0..700).map(|row| (0.01, -1.0 - (row % 3) as f32 * 1e-7)).collect();
    let shape = ChunkShape { rows: 700, dim: width(dim) };
    let chunks = [Content::row_affine(shape, codes, &params).blocked(16, DType::F32)];
    check(backend, &chunks, &all(&chunks), &OF_FLOATS, queries, 9);
}

/// NaN never wins and is counted; infinities have scores where there are any.
pub fn rows_without_a_score(backend: &impl Scan) {
    let mut random = Random::new();
    let dim = 20;
    let mut values = floats(&mut random, 300 * dim);
    for row in 0..300 {
        let at = row * dim + random.below(width(dim)) as usize;
        match row % 7 {
            0 => values[at] = f32::NAN,
            1 => values[at] = f32::INFINITY,
            2 => values[at] = f32::NEG_INFINITY,
            3 => values[row * dim..(row + 1) * dim].fill(0.0),
            _ => {}
        }
    }
    let chunks = [raw(&values, width(dim))];
    let mut queries = floats(&mut random, 6 * dim);
    queries[..dim].fill(0.0);
    check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries, dim), 250);
    check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries, dim), 5);
}

/// Values of which squares overflow f32 or vanish, as floats and as codes.
pub fn numbers_at_the_ends_of_the_range(backend: &impl Scan) {
    let mut random = Random::new();
    let dim = 40;
    for by in [1e-44, 1e-38, 1e-25, 1e-12, 1e12, 1e25, 1e37] {
        for query_by in [1e-38, 1e-20, 1.0, 1e20, 1e37] {
            let scaled = |values: Vec<f32>, by: f32| -> Vec<f32> {
                values.into_iter().map(|value| value * by).collect()
            };
            let queries = scaled(floats(&mut random, 5 * dim), query_by);
            let values = scaled(floats(&mut random, 200 * dim), by);
            let params: Vec<(f32, f32)> =
                (0..200).map(|_| (by * random.normal() / 256.0, by * random.normal())).collect();
            let shape = ChunkShape { rows: 200, dim: width(dim) };
            let codes = Content::row_affine(shape, random.bytes(200 * dim), &params).blocked(16, DType::F32);
            let chunks = [raw(&values, width(dim)), codes];
            check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries, dim), 6);
        }
    }
}

/// Queries whose values are of very different size, rows that cancel them, and rows of one large constant.
pub fn queries_that_do_not_round_well(backend: &impl Scan) {
    let mut random = Random::new();
    let dim = 64;
    let mut queries = floats(&mut random, 8 * dim);
    for (query, values) in queries.chunks_exact_mut(dim).enumerate() {
        values[query] = [1e3, 1e6, 1e9, 0.0, -1e4, 1e2, 1e5, 1e8][query];
    }
    for (scale, min) in
        [(1e-3, 0.0), (1e-3, 100.0), (1e-6, -1e4), (2.0, -255.0), (0.0, 1.0), (0.0, 0.0), (1.0, -127.5)]
    {
        let params: Vec<(f32, f32)> = (0..400).map(|row| (scale, min + row as f32 * 1e-6)).collect();
        let shape = ChunkShape { rows: 400, dim: width(dim) };
        let chunks = [Content::row_affine(shape, random.bytes(400 * dim), &params).blocked(64, DType::F32)];
        for count in [1, 8] {
            check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries[..count * dim], dim), 6);
        }
    }
}

/// Queries of the first dims.
pub fn prefixes_of_rows(backend: &impl Scan) {
    let mut random = Random::new();
    for (kind, out) in kinds().into_iter().filter(|(_, out)| *out == DType::F32) {
        if kind == Kind::DictPlanes {
            continue;
        }
        for prefix in [1, 31, 64] {
            let (plan, payload) = random.chunk(150, 96, kind, out);
            let chunks = [(plan.with_prefix(prefix).expect("not all dims"), payload)];
            let queries = floats(&mut random, 2 * prefix as usize);
            check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries, prefix as usize), 8);
        }
    }
}

/// Distances of bits.
pub fn bits_of_bytes_and_of_bools(backend: &impl Scan) {
    let mut random = Random::new();
    for dim in [1, 8, 13, 96] {
        let bytes = random.bytes(300 * dim);
        let shape = ChunkShape { rows: 300, dim: width(dim) };
        let chunks = [Content::field(shape, Load::Copy(DType::U8), bytes).framed(DType::U8)];
        let queries = random.bytes(4 * dim);
        let queries = RowSlice::new(&queries, dim).unwrap();
        check(backend, &chunks, &all(&chunks), &[Metric::Hamming, Metric::Jaccard], queries, 9);
        let bools: Vec<u8> = (0..300 * dim).map(|_| random.byte_below(2)).collect();
        let chunks = [Content::field(shape, Load::Copy(DType::Bool), bools).framed(DType::Bool)];
        let queries: Vec<u8> = (0..4 * dim).map(|_| random.byte_below(2)).collect();
        let queries = RowSlice::from_bytes(DType::Bool, 4, dim, &queries).unwrap();
        check(backend, &chunks, &all(&chunks), &[Metric::Hamming, Metric::Jaccard], queries, 9);
    }
}

/// Dtypes that are not read as f32.
pub fn integers_and_doubles(backend: &impl Scan) {
    let mut random = Random::new();
    for dtype in [DType::I8, DType::U8, DType::I16, DType::U32, DType::I64, DType::F64] {
        let chunks = [random.chunk(120, 24, Kind::Copy(dtype), dtype)];
        let queries = floats(&mut random, 3 * 24);
        check(backend, &chunks, &all(&chunks), &OF_FLOATS, rows_of(&queries, 24), 10);
    }
}

/// No rows, no queries, none wanted, and more wanted than there are.
pub fn more_than_there_is(backend: &impl Scan) {
    let mut random = Random::new();
    let chunks = [random.chunk(5, 16, Kind::AffineRow, DType::F32)];
    let queries = floats(&mut random, 2 * 16);
    let queries = rows_of(&queries, 16);
    check(backend, &chunks, &all(&chunks), &OF_FLOATS, queries, 0);
    check(backend, &chunks, &all(&chunks), &OF_FLOATS, queries, 100);
    check(backend, &chunks, &[], &OF_FLOATS, queries, 3);
    check(backend, &chunks, &[(0, 2..2)], &OF_FLOATS, queries, 3);
    check(
        backend,
        &chunks,
        &all(&chunks),
        &OF_FLOATS,
        RowSlice::from_bytes(DType::F32, 0, 16, &[]).unwrap(),
        3,
    );
}

/// The chunk and the block are named, and the backend is of use afterwards.
pub fn a_damaged_block_is_an_error(backend: &impl Scan) {
    let mut random = Random::new();
    let chunks: Vec<Chunk> =
        (0..3).map(|_| random.content(300, 32, Kind::AffineRow).blocked(8, DType::F32)).collect();
    let payloads: Vec<Vec<u8>> = chunks.iter().map(|(_, payload)| payload.clone()).collect();
    let values = floats(&mut random, 32);
    let queries = Queries::new(Metric::Dot, rows_of(&values, 32)).unwrap();
    let batch = ScanBatch::new(jobs(&chunks, &all(&chunks)), 32, DType::F32).unwrap();
    let src = MemoryPayloads::new(&payloads).damaged_at(&[(ChunkId(2), 0), (ChunkId(1), 30)]);
    match backend.scan(&batch, &src, &queries, 3) {
        Err(DecodeError::Source { chunk: ChunkId(1), error }) => {
            assert!(error.to_string().contains("block 30"))
        }
        other => panic!("not the damage: {other:?}"),
    }
    check(backend, &chunks, &all(&chunks), &[Metric::Dot], rows_of(&values, 32), 3);
}

/// More rows than a device keeps at a time, of which hardly any is looked at closely. Not in the list of [`scan_conformance!`]: how many
/// these are is for each to say.
pub fn more_rows_than_a_stage(backend: &impl Scan, rows: u32) {
    let mut random = Random::new();
    let dim = 8;
    let params: Vec<(f32, f32)> = (0..rows).map(|_| (0.01, -1.28)).collect();
    let chunk = |random: &mut Random, rows: u32| {
        let codes = random.bytes(rows as usize * dim);
        let shape = ChunkShape { rows, dim: width(dim) };
        Content::row_affine(shape, codes, &params[..rows as usize]).blocked(64, DType::F32)
    };
    let chunks = [chunk(&mut random, rows / 3), chunk(&mut random, rows - rows / 3)];
    let queries = floats(&mut random, 3 * dim);
    let queries = rows_of(&queries, dim);
    check(backend, &chunks, &all(&chunks), &[Metric::Cosine, Metric::L2], queries, 20);
    let payloads: Vec<Vec<u8>> = chunks.iter().map(|(_, payload)| payload.clone()).collect();
    let queries = Queries::new(Metric::Dot, queries).unwrap();
    let batch = ScanBatch::new(jobs(&chunks, &all(&chunks)), width(dim), DType::F32).unwrap();
    let found = backend.scan(&batch, &MemoryPayloads::new(&payloads), &queries, 20).unwrap();
    assert!(found.scored < u64::from(rows) / 100, "{} pairs were looked at", found.scored);
}
