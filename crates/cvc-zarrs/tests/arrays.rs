//! Arrays of zarrs with this codec: whole, in parts, within shards, damaged; what is read of a chunk is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cvc_zarrs::CvcCodec;
use half::f16;
use zarrs::array::{Array, ArrayBuilder, ArraySubset, DataType, Element, ElementOwned, data_type};
use zarrs::metadata::v3::MetadataV3;
use zarrs::storage::byte_range::ByteRangeIterator;
use zarrs::storage::store::MemoryStore;
use zarrs::storage::{
    Bytes, ListableStorageTraits as _, MaybeBytesIterator, ReadableStorageTraits, StorageError, StoreKey,
    WritableStorageTraits as _,
};
use zarrs_codec::{Codec, CodecTraits as _};
use zarrs_plugin::{ExtensionName as _, ZarrVersion};

type Problem = Box<dyn std::error::Error>;

/// A store that counts requests and bytes.
#[derive(Debug, Default)]
struct Counting {
    inner: MemoryStore,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Counting {
    /// Requests and bytes since this was last asked.
    fn take(&self) -> (u64, u64) {
        (self.requests.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl ReadableStorageTraits for Counting {
    fn get(&self, key: &StoreKey) -> Result<Option<Bytes>, StorageError> {
        let found = self.inner.get(key)?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(found.as_ref().map_or(0, |bytes| bytes.len() as u64), Ordering::Relaxed);
        Ok(found)
    }

    fn get_partial_many<'a>(
        &'a self,
        key: &StoreKey,
        byte_ranges: ByteRangeIterator<'a>,
    ) -> Result<MaybeBytesIterator<'a>, StorageError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(found) = self.inner.get_partial_many(key, byte_ranges)? else { return Ok(None) };
        Ok(Some(Box::new(found.inspect(|bytes| {
            self.bytes.fetch_add(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64), Ordering::Relaxed);
        }))))
    }

    fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
        self.inner.size_key(key)
    }

    fn supports_get_partial(&self) -> bool {
        true
    }
}

fn codec(options: &str) -> Result<Arc<CvcCodec>, Problem> {
    let metadata: MetadataV3 =
        serde_json::from_str(&format!(r#"{{"name": "cvc", "configuration": {options}}}"#))?;
    let Codec::ArrayToBytes(codec) = Codec::from_metadata(&metadata)? else {
        panic!("an array to bytes codec")
    };
    let codec = codec.as_any().downcast_ref::<CvcCodec>().expect("found by its name");
    Ok(Arc::new(codec.clone()))
}

fn made<T: Element + Copy>(
    store: Arc<MemoryStore>,
    shape: &[u64],
    chunk: &[u64],
    (data_type, fill): (DataType, impl Into<zarrs::array::FillValue>),
    options: &str,
    values: &[T],
) -> Result<Array<MemoryStore>, Problem> {
    let array = ArrayBuilder::new(shape.to_vec(), chunk.to_vec(), data_type, fill.into())
        .array_to_bytes_codec(codec(options)?)
        .build(store, "/values")?;
    array.store_metadata()?;
    array.store_array_subset(&array.subset_all(), values)?;
    Ok(array)
}

/// A plain way to say what a part of an array is.
fn part_of<T: Copy>(values: &[T], shape: [u64; 3], part: [std::ops::Range<u64>; 3]) -> Vec<T> {
    let at = |i: u64, j: u64, k: u64| usize::try_from((i * shape[1] + j) * shape[2] + k).unwrap();
    let [first, second, third] = part;
    let mut found = Vec::new();
    for i in first {
        for j in second.clone() {
            found.extend(third.clone().map(|k| values[at(i, j, k)]));
        }
    }
    found
}

fn same<T: Element + ElementOwned + Copy + PartialEq + std::fmt::Debug>(
    data_type: DataType,
    fill: impl Into<zarrs::array::FillValue>,
    options: &str,
    value: impl Fn(u32) -> T,
) -> Result<(), Problem> {
    const SHAPE: [u64; 3] = [50, 6, 7];
    let values: Vec<T> = (0..50 * 6 * 7).map(value).collect();
    let store = Arc::new(MemoryStore::new());
    // The last chunks go beyond the array.
    let array = made(store, &SHAPE, &[16, 6, 4], (data_type, fill), options, &values)?;
    let all: Vec<T> = array.retrieve_array_subset(&array.subset_all())?;
    assert_eq!(all, values);
    for part in [
        [3..4, 0..6, 0..7],
        [0..50, 2..3, 1..6],
        [15..17, 1..5, 3..5],
        [49..50, 5..6, 6..7],
        [8..8, 0..6, 0..7],
    ] {
        let subset = ArraySubset::new_with_ranges(&part);
        let found: Vec<T> = array.retrieve_array_subset(&subset)?;
        assert_eq!(found, part_of(&values, SHAPE, part.clone()), "{part:?}");
    }
    Ok(())
}

#[test]
fn values_of_every_type_come_back() -> Result<(), Problem> {
    same(data_type::float32(), 0.0f32, "{}", |n| (n as f32).sin())?;
    same(data_type::float32(), 0.0f32, r#"{"codec": "raw", "block_rows": 3}"#, |n| n as f32)?;
    same(data_type::float64(), 0.0f64, r#"{"codec": "gzip"}"#, |n| f64::from(n).cos())?;
    same(data_type::float16(), f16::ZERO, "{}", |n| f16::from_f32(n as f32 * 0.125))?;
    same(data_type::int16(), 0i16, "{}", |n| i16::try_from(n).unwrap() - 999)?;
    same(data_type::uint64(), 0u64, r#"{"codec": "zstd", "chunk_rows": 5}"#, |n| u64::from(n) << 40)?;
    same(data_type::bool(), false, "{}", |n| n % 3 == 1)
}

#[test]
fn codecs_that_lose_something_are_as_near_as_they_say() -> Result<(), Problem> {
    let values: Vec<f32> = (0..64 * 96).map(|n| (n as f32 * 0.37).sin()).collect();
    for (options, tolerance) in [
        (r#"{"codec": "fp16"}"#, 5e-4),
        (r#"{"codec": "bf16"}"#, 4e-3),
        (r#"{"codec": "int8", "scope": "dim"}"#, 5e-3),
        (r#"{"codec": "int4"}"#, 0.5),
    ] {
        let store = Arc::new(MemoryStore::new());
        let array = made(store, &[64, 96], &[64, 96], (data_type::float32(), 0.0f32), options, &values)?;
        let all: Vec<f32> = array.retrieve_array_subset(&array.subset_all())?;
        let error = all.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error > 0.0 && error < tolerance, "{options}: {error}");
        // Rows by themselves decode to the same bits.
        let some: Vec<f32> = array.retrieve_array_subset(&ArraySubset::new_with_ranges(&[40..43, 0..96]))?;
        assert_eq!(some, all[40 * 96..43 * 96], "{options}");
    }
    Ok(())
}

#[test]
fn a_chunk_that_was_never_written_has_the_fill_value() -> Result<(), Problem> {
    let store = Arc::new(MemoryStore::new());
    let array = ArrayBuilder::new(vec![32, 8], vec![16, 8], data_type::float32(), 2.5f32)
        .array_to_bytes_codec(codec("{}")?)
        .build(store, "/values")?;
    array.store_metadata()?;
    let some: Vec<f32> = array.retrieve_array_subset(&ArraySubset::new_with_ranges(&[3..20, 0..5]))?;
    assert_eq!(some, vec![2.5; 17 * 5]);
    Ok(())
}

const ROWS: u64 = 4096;
const DIM: u64 = 128;

fn vectors() -> Vec<f32> {
    (0..u32::try_from(ROWS * DIM).unwrap()).map(|n| (n as f32 * 0.7).sin()).collect()
}

/// An array of two chunks, or of a shard of two.
fn of_two<S: ?Sized>(store: Arc<S>, shards: bool) -> Result<Array<S>, Problem> {
    let (shape, chunk) = (vec![ROWS * 2, DIM], vec![ROWS, DIM]);
    let outer = if shards { shape.clone() } else { chunk.clone() };
    let mut builder = ArrayBuilder::new(shape, outer, data_type::float32(), 0.0f32);
    if shards {
        builder.subchunk_shape(chunk);
    }
    builder.array_to_bytes_codec(codec(r#"{"codec": "fp16", "block_rows": 16}"#)?);
    Ok(builder.build(store, "/values")?)
}

/// Ten rows of a chunk of half a million values: the bytes of their blocks, and the index.
#[test]
fn ten_rows_of_a_chunk_are_few_requests_for_few_bytes() -> Result<(), Problem> {
    for shards in [false, true] {
        let store = Arc::new(Counting::default());
        let values: Vec<f32> = [vectors(), vectors()].concat();
        let writing = of_two(Arc::new(MemoryStore::new()), shards)?;
        writing.store_array_subset(&writing.subset_all(), &values)?;
        let memory = writing.storage();
        for key in memory.list()? {
            store.inner.set(&key, memory.get(&key)?.expect("it was listed"))?;
        }
        let array = of_two(Arc::clone(&store), shards)?;
        store.take();
        let rows = ArraySubset::new_with_ranges(&[5000..5010, 0..DIM]);
        let found: Vec<f32> = array.retrieve_array_subset(&rows)?;
        let (requests, bytes) = store.take();
        let at = usize::try_from(5000 * DIM)?;
        assert!(found.iter().zip(&values[at..]).all(|(a, b)| (a - b).abs() < 1e-3), "shards: {shards}");
        // The ends of a file, the last 64 KiB (its index), a head, two blocks of 16 rows of 256 bytes; a shard has an index, too.
        assert_eq!(requests, if shards { 5 } else { 4 });
        assert!(bytes < 80_000, "{bytes} bytes of a chunk of a megabyte");
    }
    Ok(())
}

/// What `cvc.zarr.CvcCodec` wrote with zarr-python 3.1.6: `tests/data`, float32 of `n % 97 / 97` and int16 of `n`, by chunks, within
/// shards, and with three axes.
#[test]
fn arrays_of_python_are_read() -> Result<(), Problem> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let store = Arc::new(MemoryStore::new());
    for key in [
        "int8/zarr.json",
        "int8/c/0/0",
        "shards/zarr.json",
        "shards/c/0/0",
        "shards/c/1/0",
        "cubes/zarr.json",
        "cubes/c/0/0/0",
        "cubes/c/1/0/0",
    ] {
        store.set(&StoreKey::new(key)?, std::fs::read(folder.join(key))?.into())?;
    }
    let values: Vec<f32> = (0..320u16).map(|n| f32::from(n % 97) / 97.0).collect();
    let int8: Vec<f32> = read_all(&store, "/int8")?;
    assert_eq!(int8.len(), values.len());
    assert!(int8.iter().zip(&values).all(|(a, b)| (a - b).abs() <= 0.5 / 255.0));
    assert_eq!(read_all::<f32>(&store, "/shards")?, values);
    assert_eq!(read_all::<i16>(&store, "/cubes")?, (0..64).collect::<Vec<i16>>());
    let shards = Array::open(Arc::clone(&store), "/shards")?;
    let rows: Vec<f32> = shards.retrieve_array_subset(&ArraySubset::new_with_ranges(&[17..22, 2..4]))?;
    assert_eq!(rows, part_of(&values, [1, 40, 8], [0..1, 17..22, 2..4]));
    Ok(())
}

fn read_all<T: ElementOwned>(store: &Arc<MemoryStore>, path: &str) -> Result<Vec<T>, Problem> {
    let array = Array::open(Arc::clone(store), path)?;
    Ok(array.retrieve_array_subset(&array.subset_all())?)
}

#[test]
fn a_flipped_bit_is_an_error_wherever_it_is() -> Result<(), Problem> {
    let store = Arc::new(MemoryStore::new());
    let values: Vec<f32> = (0..64 * 32).map(|n| n as f32).collect();
    let array = made(
        Arc::clone(&store),
        &[64, 32],
        &[64, 32],
        (data_type::float32(), 0.0f32),
        r#"{"codec": "raw"}"#,
        &values,
    )?;
    let key = array.chunk_key(&[0, 0]);
    let whole = store.get(&key)?.expect("it was written");
    let (mut in_part, step) = (0, 97);
    for at in (0..whole.len()).step_by(step) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 4;
        store.set(&key, bytes.into())?;
        let all = array.retrieve_array_subset::<Vec<f32>>(&array.subset_all());
        // Bytes of padding between parts mean nothing.
        match &all {
            Ok(all) => assert_eq!(*all, values, "byte {at} of {}", whole.len()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        // Of a part only what is read of it can be found damaged.
        match array.retrieve_array_subset::<Vec<f32>>(&ArraySubset::new_with_ranges(&[0..2, 0..32])) {
            Ok(part) => assert_eq!(part, values[..64], "byte {at}"),
            Err(_) => in_part += 1,
        }
        if (200..whole.len() - 400).contains(&at) {
            assert!(all.is_err(), "byte {at} of {}", whole.len());
        }
    }
    assert!(in_part > 0, "no byte mattered to two rows");
    for len in [0, 1, 39, 63, 103, whole.len() - 1] {
        store.set(&key, whole.slice(..len))?;
        let all = array.retrieve_array_subset::<Vec<f32>>(&array.subset_all());
        assert!(all.is_err(), "{len} bytes");
        let part = array.retrieve_array_subset::<Vec<f32>>(&ArraySubset::new_with_ranges(&[0..2, 0..32]));
        assert!(part.is_err(), "{len} bytes");
    }
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_when_it_is_said() {
    for (options, says) in [
        (r#"{"codec": "pq"}"#, "one of lossless"),
        (r#"{"block_rows": 0}"#, "1 or more"),
        (r#"{"scope": "all"}"#, "row, dim, chunk"),
        (r#"{"nonfinite": "drop"}"#, "refuse, saturate"),
        (r#"{"level": 3}"#, "level"),
        (r#"{"block_rows": "many"}"#, "many"),
    ] {
        let error = codec(options).unwrap_err().to_string();
        assert!(error.contains(says), "{options}: {error}");
    }
    let store = Arc::new(MemoryStore::new());
    let values = [1i32; 8];
    let error =
        made(store, &[8], &[8], (data_type::int32(), 0i32), r#"{"codec": "int8"}"#, &values).unwrap_err();
    assert!(error.to_string().contains("for floats"), "{error}");
}

#[test]
fn metadata_goes_round() -> Result<(), Problem> {
    let options = r#"{"codec":"int8","block_rows":8,"chunk_rows":64,"scope":"dim","nonfinite":"saturate"}"#;
    for options in [options, "{}"] {
        let codec = codec(options)?;
        let said = codec.configuration(ZarrVersion::V3, &Default::default()).expect("it has one");
        assert_eq!(
            serde_json::to_string(&said)?,
            serde_json::to_string(&serde_json::from_str::<serde_json::Value>(options)?)?
        );
        assert_eq!(codec.name_v3().as_deref(), Some("cvc"));
    }
    Ok(())
}
