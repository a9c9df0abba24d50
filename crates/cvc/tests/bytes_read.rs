//! How much of a file is read for what is asked: the bytes wanted, and where the layout has checksums the chunk they
//! lie in, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cvc::codec::SourceError;
use cvc::{Checksums, DType, Layout, ReadAt, ReadOptions, Reader, RowSlice, WriteOptions, Writer};

/// A file in memory that lends nothing and counts what is read.
struct Counting {
    bytes: Vec<u8>,
    read: Arc<AtomicU64>,
}

impl ReadAt for Counting {
    fn len(&self) -> u64 {
        self.bytes.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, into)
    }
}

/// Opens `bytes`; the function that comes with it says how many have been read since it was last asked.
fn open(bytes: Vec<u8>, checksums: Checksums) -> (Reader, impl Fn() -> u64) {
    let read = Arc::new(AtomicU64::new(0));
    let mut options = ReadOptions::default();
    options.checksums = checksums;
    let source = Counting { bytes, read: read.clone() };
    let reader = Reader::new(Box::new(source), options).unwrap();
    let since = move || read.swap(0, Ordering::Relaxed);
    since();
    (reader, since)
}

/// Two chunks of 100 rows: 8 halves and one whole number a row.
fn columns() -> Vec<u8> {
    let values = vec![0.5f32; 1600];
    let ids: Vec<i64> = (0..200).collect();
    let options = WriteOptions::new(Layout::V2).chunk_rows(100).unwrap();
    let options = options.array("text", DType::F32, 8, "fp16").unwrap();
    let options = options.array("ids", DType::I64, 1, "none").unwrap();
    let mut writer = Writer::in_memory(options).unwrap();
    writer.write(&[RowSlice::new(&values, 8).unwrap(), RowSlice::new(&ids, 1).unwrap()]).unwrap();
    writer.finish_bytes().unwrap()
}

#[test]
fn without_checksums_a_column_costs_its_own_bytes_and_a_row_its_own() {
    let (reader, since) = open(columns(), Checksums::Never);
    let ids: Vec<i64> = reader.array("ids").unwrap().read(..).unwrap();
    assert_eq!((ids.len(), since()), (200, 200 * 8));
    let _: Vec<f32> = reader.array("text").unwrap().read(99..101).unwrap();
    assert_eq!(since(), 2 * 16);
}

#[test]
fn with_checksums_each_chunk_touched_is_read_once_more_and_only_once() {
    let (reader, since) = open(columns(), Checksums::FirstTouch);
    let frame = 100 * (16 + 8);
    let ids = reader.array("ids").unwrap();
    let _: Vec<i64> = ids.read(5..6).unwrap();
    assert_eq!(since(), frame + 8);
    let _: Vec<i64> = ids.read(6..7).unwrap();
    assert_eq!(since(), 8);
    // The other column of the same chunk is under the same checksum; the second chunk is not.
    let _: Vec<f32> = reader.array("text").unwrap().read(99..101).unwrap();
    assert_eq!(since(), frame + 2 * 16);
}
