//! Reading what NumPack wrote: a directory, or a package of one (`.npkg`).
//!
//! A directory has `metadata.npkm`, and for every array a file of its rows as they lie in memory, or a list of such files
//! (`.npkseg`, since 0.7.0), and perhaps a bitmap of the rows that are left. Nothing has a checksum, so lengths and names are
//! all that can be looked at: what does not fit is refused, nothing is guessed, and no name leads out of the directory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use cvc::{AlignedBytes, DType, Json, RowSlice};

use crate::edit::RowSink;
use crate::error::Error;
use crate::spec::ArraySpec;
use crate::store::Store;
use crate::wire::{Problem, Wire};

const METADATA: &str = "metadata.npkm";

/// Bytes that are read at a time.
const BATCH_LEN: u64 = 16 << 20;

/// In the order of their numbers.
const DTYPES: [DType; 14] = [
    DType::Bool,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::C64,
    DType::C128,
];

/// One array as the metadata has it.
struct Entry {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    file: String,
}

/// A file with so many rows.
struct Part {
    path: PathBuf,
    rows: u64,
}

impl Store {
    /// Saves all arrays of a NumPack directory, or of a package that NumPack made of one, in one commit, with `codec`. Returns
    /// their names.
    ///
    /// # Errors
    /// It is not one, something in it does not fit, the codec cannot take an array, or the disk refuses. Nothing has changed then.
    pub fn import_numpack(&self, path: impl AsRef<Path>, codec: &str) -> Result<Vec<String>, Error> {
        let path = path.as_ref();
        if path.is_dir() {
            return self.import_directory(path, codec);
        }
        let unpacked = tempfile::tempdir().map_err(Error::io(std::env::temp_dir(), "cannot be written"))?;
        unpack(path, unpacked.path())?;
        self.import_directory(unpacked.path(), codec)
    }

    fn import_directory(&self, directory: &Path, codec: &str) -> Result<Vec<String>, Error> {
        let path = directory.join(METADATA);
        let bytes = fs::read(&path).map_err(Error::io(path.clone(), "cannot be read"))?;
        let entries = entries(&bytes).map_err(|problem| Error::Import { path: path.clone(), problem })?;
        let mut batch = self.batch()?;
        let mut names = Vec::new();
        for entry in entries {
            let fail = |path: PathBuf, problem: Problem| Error::Import { path, problem };
            let Some((rows, inner)) = entry.shape.split_first() else {
                return Err(fail(path, format!("array {:?} has no rows", entry.name)));
            };
            let inner = inner.iter().map(|len| u32::try_from(*len)).collect::<Result<Vec<u32>, _>>();
            let inner = inner.map_err(|_| {
                fail(path.clone(), format!("the rows of array {:?} are too large", entry.name))
            })?;
            let codec = if cvc::codec::find(codec).is_ok_and(|codec| !codec.is_lossless())
                && !entry.dtype.is_float()
            {
                "raw"
            } else {
                codec
            };
            let spec = ArraySpec::values(entry.dtype, &inner, codec);
            let live = live_rows(directory, &entry.name, *rows)?;
            let parts = parts(directory, &entry, *rows)?;
            batch.save_with(&entry.name, &spec, |sink| copy_rows(sink, &spec, &parts, &live))?;
            names.push(entry.name);
        }
        batch.commit()?;
        Ok(names)
    }
}

/// The arrays of a directory.
fn entries(bytes: &[u8]) -> Result<Vec<Entry>, Problem> {
    let mut wire = Wire(bytes);
    if wire.take(4)? != b"NPKB" {
        return Err("it does not begin with NPKB, so it is not the metadata of NumPack".into());
    }
    let version = wire.u32()?;
    if version != 1 {
        return Err(format!("it has version {version}; 1 is known"));
    }
    wire.u64()?;
    let mut entries = Vec::new();
    for _ in 0..wire.u32()? {
        let name = wire.str()?.to_owned();
        let rank = wire.u32()?;
        let shape = (0..rank).map(|_| wire.u64()).collect::<Result<Vec<u64>, _>>()?;
        let file = wire.str()?.to_owned();
        let (_modified, _bytes) = (wire.u64()?, wire.u64()?);
        let code = wire.u8()?;
        let dtype = *DTYPES.get(usize::from(code)).ok_or_else(|| format!("dtype {code} is not known"))?;
        let algorithm = wire.u8()?;
        let (_level, _original, _compressed) = (wire.u32()?, wire.u64()?, wire.u64()?);
        if algorithm != 0 || wire.u8()? != 0 {
            return Err(format!("array {name:?} is compressed, which no NumPack does"));
        }
        entries.push(Entry { name, dtype, shape, file });
    }
    if wire.is_empty() { Ok(entries) } else { Err("there is something behind the last array".into()) }
}

/// The files of an array, and the rows in each.
fn parts(directory: &Path, entry: &Entry, rows: u64) -> Result<Vec<Part>, Error> {
    let path = within(directory, &entry.file)?;
    if !entry.file.ends_with(".npkseg") {
        return Ok(vec![Part { path, rows }]);
    }
    let fail = |problem: String| Error::Import { path: path.clone(), problem };
    let bytes = fs::read(&path).map_err(Error::io(path.clone(), "cannot be read"))?;
    let list = Json::parse(&bytes, 8).map_err(|error| fail(error.to_string()))?;
    if list.get("version").and_then(Json::as_u64) != Some(1) {
        return Err(fail("it has another version than 1".into()));
    }
    let segments =
        list.get("segments").and_then(Json::as_array).ok_or_else(|| fail("it lists no segments".into()))?;
    let mut parts = Vec::new();
    for segment in segments {
        let file = segment.get("file").and_then(Json::as_str);
        let rows = segment.get("rows").and_then(Json::as_u64);
        let (Some(file), Some(rows)) = (file, rows) else {
            return Err(fail("a segment has no file or no rows".into()));
        };
        parts.push(Part { path: within(directory, file)?, rows });
    }
    let sum = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.rows));
    if sum != Some(rows) {
        return Err(fail(format!("the segments do not have {rows} rows together")));
    }
    Ok(parts)
}

/// The ranges of rows that were not deleted.
fn live_rows(directory: &Path, name: &str, rows: u64) -> Result<Vec<Range<u64>>, Error> {
    let path = within(directory, &format!("deleted_{name}.npkb"))?;
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![0..rows]),
        Err(error) => return Err(Error::io(path, "cannot be read")(error)),
    };
    let fail = |problem: String| Error::Import { path: path.clone(), problem };
    let mut wire = Wire(&bytes);
    let (total, deleted) = (wire.u64().map_err(fail)?, wire.u64().map_err(fail)?);
    if total > rows || wire.0.len() as u64 != total.div_ceil(64) * 8 {
        return Err(fail(format!("it is for {total} rows, the array has {rows}")));
    }
    let mut live: Vec<Range<u64>> = Vec::new();
    let mut push = |row: u64| match live.last_mut() {
        Some(last) if last.end == row => last.end += 1,
        _ => live.push(row..row + 1),
    };
    for row in 0..rows {
        // Rows that came after the bitmap was written are there.
        let byte = usize::try_from(row / 8).expect("in memory");
        if row >= total || wire.0[byte] >> (row % 8) & 1 == 1 {
            push(row);
        }
    }
    let left: u64 = live.iter().map(|range| range.end - range.start).sum();
    if rows - left != deleted {
        return Err(fail(format!("it says that {deleted} rows are deleted, and marks {}", rows - left)));
    }
    Ok(live)
}

fn copy_rows(
    sink: &mut RowSink<'_>,
    spec: &ArraySpec,
    parts: &[Part],
    live: &[Range<u64>],
) -> Result<(), Error> {
    let row_len = spec.row_len() as u64;
    let dtype = spec.dtype().expect("NumPack has no strings");
    let step = (BATCH_LEN / row_len.max(1)).max(1);
    let mut scratch = AlignedBytes::new();
    let mut first = 0;
    for Part { path, rows } in parts {
        let mut file = File::open(path).map_err(Error::io(path.clone(), "cannot be opened"))?;
        let len = file.metadata().map_err(Error::io(path.clone(), "cannot be looked at"))?.len();
        let needed = rows.checked_mul(row_len);
        if needed.is_none_or(|needed| needed > len) {
            let problem = format!("it has {len} bytes, {rows} rows of {row_len} bytes are needed");
            return Err(Error::Import { path: path.clone(), problem });
        }
        let mut row = first;
        let end = first + rows;
        while row < end {
            let stop = end.min(row + step);
            let bytes = scratch.resize(usize::try_from((stop - row) * row_len).expect("in memory"));
            file.read_exact(bytes).map_err(Error::io(path.clone(), "cannot be read"))?;
            let from = live.partition_point(|range| range.end <= row);
            for range in live[from..].iter().take_while(|range| range.start < stop) {
                let (start, end) = (range.start.max(row), range.end.min(stop));
                let at = |row_of: u64| usize::try_from((row_of - row) * row_len).expect("in memory");
                let count = usize::try_from(end - start).expect("in memory");
                // Rows may begin where no value of their dtype can.
                let mut native = AlignedBytes::new();
                let out = native.resize(at(end) - at(start));
                cvc::codec::ops::copy::copy(
                    &scratch.bytes()[at(start)..at(end)],
                    dtype.component_size(),
                    out,
                );
                let rows = RowSlice::from_bytes(dtype, count, spec.dim() as usize, native.bytes());
                sink.write(
                    rows.map_err(|error| Error::Import { path: path.clone(), problem: error.to_string() })?,
                )?;
            }
            row = stop;
        }
        first = end;
    }
    Ok(())
}

/// A file below `directory`, and nowhere else.
fn within(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let relative = Path::new(name);
    let plain =
        relative.components().all(|part| matches!(part, Component::Normal(_))) && !name.contains('\\');
    if !plain || name.is_empty() {
        let problem = format!("the name {name:?} leads out of the directory");
        return Err(Error::Import { path: directory.to_owned(), problem });
    }
    Ok(directory.join(relative))
}

/// Unpacks a package into an empty directory. Its one checksum is over checksums that it does not hold, so lengths are what is
/// compared.
fn unpack(path: &Path, into: &Path) -> Result<(), Error> {
    let fail = |problem: String| Error::Import { path: path.to_owned(), problem };
    let io = |action| Error::io(path.to_owned(), action);
    let mut file = File::open(path).map_err(io("cannot be opened"))?;
    let mut left = file.metadata().map_err(io("cannot be looked at"))?.len();
    let mut take = |file: &mut File, len: u64| -> Result<Vec<u8>, Error> {
        left = left.checked_sub(len).ok_or_else(|| fail("it is cut short".into()))?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| fail("it is too large".into()))?];
        file.read_exact(&mut bytes).map_err(io("cannot be read"))?;
        Ok(bytes)
    };
    let u32_of = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four"));
    let u64_of = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight"));
    let head = take(&mut file, 13)?;
    if head[..4] != *b"NPKG" || u32_of(&head[4..8]) != 2 {
        return Err(fail("it is not a package of NumPack of version 2".into()));
    }
    for _ in 0..u32_of(&head[9..13]) {
        let len = u32_of(&take(&mut file, 4)?);
        let name = String::from_utf8(take(&mut file, len.into())?)
            .map_err(|_| fail("a name is not UTF-8".into()))?;
        let target = within(into, &name.replace('\\', "/"))?;
        let sizes = take(&mut file, 16)?;
        let (original, packed) = (u64_of(&sizes[..8]), u64_of(&sizes[8..]));
        let bytes = take(&mut file, if packed == 0 { original } else { packed })?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(Error::io(parent.to_owned(), "cannot be made"))?;
        }
        let mut out = File::create(&target).map_err(Error::io(target.clone(), "cannot be made"))?;
        let unpacked = if packed == 0 {
            out.write_all(&bytes).map(|()| original)
        } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            // What the header says of the method is not to be trusted: zlib calls itself zstd there.
            zstd::stream::read::Decoder::new(&bytes[..])
                .and_then(|decoder| std::io::copy(&mut decoder.take(original.saturating_add(1)), &mut out))
        } else {
            let decoder = flate2::read::ZlibDecoder::new(&bytes[..]);
            std::io::copy(&mut decoder.take(original.saturating_add(1)), &mut out)
        };
        let unpacked = unpacked.map_err(|error| fail(format!("{name}: {error}")))?;
        if unpacked != original {
            return Err(fail(format!("{name} has {unpacked} bytes, the package says {original}")));
        }
    }
    Ok(())
}
