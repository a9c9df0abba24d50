//! What the fuzz target `journal` asserts of an input, as a plain function: the journal of a store, whatever it says.
//!
//! `crates/cvc-store/tests/fuzz_corpus.rs` includes this file, so it depends on nothing but what `cvc-store` has.
//!
//! An input is a `u32`, a journal of so many bytes, and a file: all segments that the journal names are that file.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cvc::ReadAt;
use cvc::format::checksum::Crc32c;
use cvc_store::layer::{Layer, LayerFile, LockError};
use cvc_store::{Error, Snapshot, Store, StoreOptions};

/// The file of the journal.
const NAME: &str = "journal-0000000000000001";

/// Bytes of rows, and rows, that are looked at together.
const MOST: u64 = 1 << 20;

/// Opens a store of this journal as it is, and with its checksums mended. Returns whether the mended one was understood.
pub fn journal(bytes: &[u8]) -> bool {
    let (len, rest) = bytes.split_at(bytes.len().min(4));
    let len = len.try_into().map_or(0, u32::from_le_bytes) as usize;
    let (journal, segment) = rest.split_at(len.min(rest.len()));
    look_at(journal, segment);
    look_at(&mend(journal), segment)
}

/// An input of these parts.
pub fn input(journal: &[u8], segment: &[u8]) -> Vec<u8> {
    let len = u32::try_from(journal.len()).expect("journals of seeds are small");
    [&len.to_le_bytes()[..], journal, segment].concat()
}

fn look_at(journal: &[u8], segment: &[u8]) -> bool {
    let folder = Folder::of(journal, segment);
    let reader = match Store::open_read_only_on(folder.layer()) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let seen = read(&reader.snapshot());
    let verified = reader.verify().map(|report| report.is_ok());
    assert!(!reader.refresh().is_ok_and(|changed| changed), "nobody has written anything");
    if let Ok((first, last)) = reader.commits() {
        assert_eq!(last, reader.snapshot().commit());
        let _ = reader.snapshot_at(first).map(|snapshot| read(&snapshot));
    }
    let small = reader.names().iter().all(|name| {
        reader
            .array(name)
            .is_ok_and(|array| array.rows() + array.deleted() <= MOST && array.byte_len() <= MOST)
    });
    if !small {
        return true;
    }
    // What a reader can open, a writer can; it may have to make a new journal, for which all rows must be there.
    match Store::open_on(folder.layer(), StoreOptions::default()) {
        Ok(writer) => {
            assert_eq!(read(&writer.snapshot()), seen, "a writer sees what a reader sees");
            if verified.is_ok_and(|is_ok| is_ok) && writer.checkpoint().is_ok() {
                assert_eq!(read(&writer.snapshot()), seen, "a checkpoint changes nothing");
                drop(writer);
                let again = Store::open_read_only_on(folder.layer()).expect("it was just written");
                assert_eq!(read(&again.snapshot()), seen, "the new journal says the same");
            }
        }
        Err(error) => assert!(!matches!(error, Error::Locked { .. }), "{error}"),
    }
    true
}

/// Everything of a snapshot that is not too long, as text.
fn read(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = vec![format!("{} {:?}", snapshot.commit(), snapshot.metadata())];
    for name in snapshot.names() {
        let array = snapshot.array(&name).expect("it is listed");
        seen.push(format!("{name} {:?} {:?} {:?}", array.spec(), array.shape(), array.metadata()));
        seen.extend(
            array.sections().iter().map(|section| format!("{:?} {:?}", section.rows, section.metadata)),
        );
        let row_len = array.byte_len().checked_div(array.rows()).unwrap_or(0);
        let whole = array.rows() <= MOST && array.byte_len() <= MOST;
        let some = [0, array.rows() / 2, array.rows().saturating_sub(1)];
        let ranges = if whole { vec![0..array.rows()] } else { some.map(|row| row..row + 1).to_vec() };
        for rows in ranges {
            let ids = array.row_ids(rows.clone());
            if let Ok(ids) = &ids {
                for (row, id) in rows.clone().zip(ids) {
                    assert_eq!(array.row_of_id(*id), Some(row), "the id of a row finds it");
                }
            }
            let values = if array.spec().dtype().is_none() {
                array.read_strings(rows).map(|strings| format!("{:?}", strings.iter().collect::<Vec<_>>()))
            } else if row_len <= MOST {
                let len = usize::try_from(row_len * (rows.end - rows.start)).expect("it is small");
                let mut memory = cvc::AlignedBytes::new();
                let read = array.read_bytes(rows, memory.resize(len));
                read.map(|()| format!("{:?}", memory.bytes()))
            } else {
                Ok(String::new())
            };
            // That rows are damaged is seen by all in the same way; how it is said may differ.
            seen.push(values.unwrap_or_else(|_| "damaged".into()));
            seen.push(ids.map_or_else(|_| "no ids".into(), |ids| format!("{ids:?}")));
        }
    }
    seen
}

/// The journal with checksums that are right, and with what follows from them: records that are linked and numbered.
pub fn mend(journal: &[u8]) -> Vec<u8> {
    let mut bytes = journal.to_vec();
    if bytes.len() < 128 {
        return bytes;
    }
    bytes[..12].copy_from_slice(&[0x43, 0x56, 0x43, 0x4a, 0xff, 0x0d, 0x0a, 0x1a, 1, 0, 0, 0]);
    bytes[16..24].copy_from_slice(&1u64.to_le_bytes());
    let mut previous = sum(&[&bytes[..60]]);
    bytes[60..64].copy_from_slice(&previous.to_le_bytes());
    let (mut at, mut commit) = (64, 0u64);
    while bytes.len() - at >= 64 && bytes[at..].iter().any(|byte| *byte != 0) {
        let first = at == 64;
        let (head, rest) = bytes[at..].split_at_mut(64);
        head[..4].copy_from_slice(b"CVCR");
        head[4] = if first { 1 } else { 2 + head[4] % 2 };
        head[5] = u8::from(first) | head[5] & 1;
        head[6..8].fill(0);
        let len = usize::try_from(number(&head[8..16])).unwrap_or(usize::MAX).min(rest.len());
        let (len, padded) = if len.next_multiple_of(8) <= rest.len() {
            (len, len.next_multiple_of(8))
        } else {
            (len & !7, len & !7)
        };
        rest[len..padded].fill(0);
        head[8..16].copy_from_slice(&(len as u64).to_le_bytes());
        commit = if first { number(&head[16..24]) >> 2 } else { commit + u64::from(head[4] == 2) };
        head[16..24].copy_from_slice(&commit.to_le_bytes());
        // What is known to be synced is one of the commits so far.
        let durable = number(&head[24..32]).min(commit);
        head[24..32].copy_from_slice(&durable.to_le_bytes());
        head[56..60].copy_from_slice(&previous.to_le_bytes());
        previous = sum(&[&head[..60], &rest[..padded]]);
        head[60..64].copy_from_slice(&previous.to_le_bytes());
        let synced = head[5] == 1;
        let end = at + 64 + padded;
        at = if synced { end.next_multiple_of(4096).min(bytes.len()) } else { end };
        bytes[end..at].fill(0);
    }
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight"))
}

fn sum(parts: &[&[u8]]) -> u32 {
    let mut sum = Crc32c::default();
    parts.iter().for_each(|part| sum.update(part));
    sum.finish()
}

/// A file in memory.
type Bytes = Arc<Mutex<Vec<u8>>>;

/// A directory in memory in which all segments that are not written to it are one file.
#[derive(Clone, Debug)]
struct Folder {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    segment: Arc<[u8]>,
}

impl Folder {
    fn of(journal: &[u8], segment: &[u8]) -> Folder {
        let files = BTreeMap::from([(NAME.to_owned(), Arc::new(Mutex::new(journal.to_vec())))]);
        Folder { files: Arc::new(Mutex::new(files)), segment: segment.into() }
    }

    fn layer(&self) -> Arc<dyn Layer> {
        Arc::new(self.clone())
    }

    fn file(&self, name: &str) -> io::Result<Bytes> {
        let files = self.files.lock().expect("no panic holds it");
        match files.get(name) {
            Some(file) => Ok(Arc::clone(file)),
            None if name.starts_with("seg-") => Ok(Arc::new(Mutex::new(self.segment.to_vec()))),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Layer for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().expect("no panic holds it").keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LayerFile>> {
        let file = Bytes::default();
        self.files.lock().expect("no panic holds it").insert(name.into(), Arc::clone(&file));
        Ok(Box::new(Open(file)))
    }

    fn create_new(&self, name: &str) -> io::Result<Box<dyn LayerFile>> {
        if self.files.lock().expect("no panic holds it").contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(name)
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Box<dyn LayerFile>> {
        Ok(Box::new(Open(self.file(name)?)))
    }

    fn segment(&self, name: &str) -> io::Result<Box<dyn ReadAt>> {
        let file = self.file(name)?;
        let bytes = file.lock().expect("no panic holds it").clone();
        Ok(Box::new(bytes))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().expect("no panic holds it");
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().expect("no panic holds it").remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        Ok(Box::new(()))
    }

    fn boot(&self) -> u64 {
        0
    }

    fn now(&self) -> u64 {
        1
    }

    fn random(&self) -> u64 {
        1
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/fuzz").join(name)
    }
}

struct Open(Bytes);

impl LayerFile for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no panic holds it").len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.lock().expect("no panic holds it");
        let from = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock().expect("no panic holds it");
        let at = usize::try_from(offset).expect("it is in memory");
        let len = bytes.len().max(at + from.len());
        bytes.resize(len, 0);
        bytes[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
