//! A store as one file, and back.
//!
//! A package is a zip archive of native files, one for each array, and `store.json`, which says what they are: any zip program
//! lists it, and any reader of `.cvc` reads an array that was taken out of it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use cvc::io::atomic_file::{AtomicFile, Overwrite};
use cvc::{AlignedBytes, ArrayOptions, Json, Layout, Limits, Reader, RowSlice, Rows, WriteOptions, Writer};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::compact::write_rows;
use crate::edit::RowSink;
use crate::error::Error;
use crate::read::index;
use crate::snapshot::{Snapshot, StoredArray};
use crate::spec::{ArraySpec, json_of, json_text};
use crate::store::{Store, StoreOptions};
use crate::wire::Wire;

const LIST: &str = "store.json";

/// Bytes of rows that are unpacked at a time.
const BATCH_LEN: u64 = 16 << 20;

/// What a package says of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackageInfo {
    /// The commit that was packed.
    pub commit: u64,
    /// Metadata of the store.
    pub metadata: Json,
    /// The arrays.
    pub arrays: Vec<PackedArray>,
    /// Bytes of the package.
    pub file_len: u64,
}

/// An array of a package.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackedArray {
    /// Its name in the store.
    pub name: String,
    /// What it is.
    pub spec: ArraySpec,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its metadata.
    pub metadata: Json,
    /// The member of the package that has it.
    pub member: String,
}

impl Snapshot {
    /// Writes a package of all arrays. Values that are stored as they are are packed so that they come back the same.
    ///
    /// # Errors
    /// There is a file of that name and `overwrite` refuses that, or the disk refuses. Nothing has changed then.
    pub fn pack(&self, path: impl AsRef<Path>, overwrite: Overwrite) -> Result<u64, Error> {
        let path = path.as_ref();
        let fail = || Error::io(path.to_owned(), "cannot be written");
        let mut file = AtomicFile::create(path, overwrite).map_err(fail())?;
        let mut archive = ZipWriter::new(&mut file);
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        let zip = |error: zip::result::ZipError| fail()(error.into());
        let arrays: Vec<StoredArray> =
            self.names().iter().map(|name| self.array(name)).collect::<Result<_, _>>()?;
        archive.start_file(LIST, options).map_err(zip)?;
        archive.write_all(self.list(&arrays).as_bytes()).map_err(fail())?;
        for (number, array) in arrays.iter().enumerate() {
            archive.start_file(member(number), options).map_err(zip)?;
            pack_array(array, &mut archive)?;
        }
        archive.finish().map_err(zip)?;
        file.commit().map_err(fail())?;
        std::fs::metadata(path).map(|metadata| metadata.len()).map_err(fail())
    }

    fn list(&self, arrays: &[StoredArray]) -> String {
        let arrays = arrays.iter().enumerate().map(|(number, array)| {
            let mut spec = Vec::new();
            array.spec().encode(&mut spec);
            let hex: String = spec.iter().map(|byte| format!("{byte:02x}")).collect();
            Json::object([
                ("codec", Json::from(array.spec().codec())),
                ("dtype", Json::from(array.spec().dtype_name())),
                ("file", Json::from(member(number).as_str())),
                ("metadata", array.metadata().clone()),
                ("name", Json::from(array.name())),
                ("shape", Json::Array(array.shape().into_iter().map(Json::from).collect())),
                ("spec", Json::from(hex.as_str())),
            ])
        });
        json_text(&Json::object([
            ("arrays", Json::Array(arrays.collect())),
            ("commit", Json::from(self.commit())),
            ("metadata", self.metadata().clone()),
            ("version", Json::from(1u64)),
        ]))
    }
}

fn member(number: usize) -> String {
    format!("{number}.cvc")
}

/// The codec that an array has in a package.
fn packed_codec(spec: &ArraySpec) -> &str {
    match (spec.codec(), spec.dtype()) {
        ("raw", Some(dtype)) if dtype.is_float() => "lossless",
        ("raw", _) => "zstd",
        (codec, _) => codec,
    }
}

fn pack_array(array: &StoredArray, out: &mut impl Write) -> Result<(), Error> {
    let fail = || Error::rows(array.name());
    let spec = ArraySpec { codec: packed_codec(array.spec()).into(), ..array.spec().clone() };
    let options: ArrayOptions = spec.options(array.name());
    let options = WriteOptions::new(Layout::Native).with_array(options).map_err(fail())?;
    let options = options.metadata(array.metadata().clone()).map_err(fail())?;
    let mut writer = Writer::to_sink(out, options).map_err(fail())?;
    let state = &array.array;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    state.each_range(0..array.rows(), |start, len| ranges.push(start..start + len));
    write_rows(array.name(), state, &ranges, &mut writer)?;
    for section in array.sections().into_iter().filter(|section| section.rows.start < section.rows.end) {
        writer.add_section(section.rows, section.metadata).map_err(fail())?;
    }
    writer.finish_sink().map(drop).map_err(fail())
}

/// What a package holds, without unpacking it.
///
/// # Errors
/// It is not a package, or cannot be read.
pub fn package_info(path: impl AsRef<Path>) -> Result<PackageInfo, Error> {
    Ok(open(path.as_ref())?.1)
}

type Archive = ZipArchive<BufReader<File>>;

fn open(path: &Path) -> Result<(Archive, PackageInfo), Error> {
    let wrong = |problem: String| Error::Import { path: path.to_owned(), problem };
    let file = File::open(path).map_err(Error::io(path.to_owned(), "cannot be opened"))?;
    let file_len = file.metadata().map_err(Error::io(path.to_owned(), "cannot be looked at"))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| wrong(error.to_string()))?;
    let mut text = String::new();
    {
        let list = archive
            .by_name(LIST)
            .map_err(|_| wrong(format!("it has no {LIST}, so it is not a package of a store")))?;
        list.take(Limits::default().header_len)
            .read_to_string(&mut text)
            .map_err(|error| wrong(format!("{LIST}: {error}")))?;
    }
    let list = json_of(&text).map_err(wrong)?;
    let info = info_of(&list, file_len).ok_or_else(|| wrong(format!("{LIST} is not as it should be")))?;
    Ok((archive, info))
}

fn info_of(list: &Json, file_len: u64) -> Option<PackageInfo> {
    if list.get("version")?.as_u64()? != 1 {
        return None;
    }
    let arrays = list.get("arrays")?.as_array()?.iter().map(|array| {
        let hex = array.get("spec")?.as_str()?;
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok());
        let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
        Some(PackedArray {
            name: array.get("name")?.as_str()?.to_owned(),
            spec: ArraySpec::decode(&mut Wire(&bytes)).ok()?,
            shape: array.get("shape")?.as_array()?.iter().map(Json::as_u64).collect::<Option<_>>()?,
            metadata: array.get("metadata")?.clone(),
            member: array.get("file")?.as_str()?.to_owned(),
        })
    });
    Some(PackageInfo {
        commit: list.get("commit")?.as_u64()?,
        metadata: list.get("metadata")?.clone(),
        arrays: arrays.collect::<Option<_>>()?,
        file_len,
    })
}

impl Store {
    /// Makes a store at `to` of a package. It appears whole or not at all.
    ///
    /// # Errors
    /// There is something at `to`, the package is damaged, or the disk refuses.
    pub fn unpack(package: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
        let (package, to) = (package.as_ref(), to.as_ref());
        if to.exists() {
            return Err(Error::Exists { path: to.to_owned() });
        }
        let (mut archive, info) = open(package)?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = tempfile::Builder::new().prefix(".store.").suffix(".tmp").tempdir_in(parent);
        let made = made.map_err(Error::io(parent.to_owned(), "cannot be written"))?;
        {
            let store = Store::create_with(made.path(), StoreOptions::default())?;
            let mut batch = store.batch()?;
            batch.set_metadata(&info.metadata)?;
            for array in &info.arrays {
                let taken = take(package, &mut archive, &array.member, made.path())?;
                let reader = Reader::open(&taken).map_err(Error::rows(&array.name))?;
                batch.save_with(&array.name, &array.spec, |sink| unpack_array(&reader, array, sink))?;
                batch.set_array_metadata(&array.name, &array.metadata)?;
                for section in reader.sections() {
                    batch.add_section(
                        &array.name,
                        section.rows.start,
                        section.rows.end,
                        &section.metadata,
                    )?;
                }
                drop(reader);
                std::fs::remove_file(&taken).map_err(Error::io(taken, "cannot be removed"))?;
            }
            batch.commit()?;
        }
        let made = made.keep();
        std::fs::rename(&made, to).map_err(|error| {
            let _ = std::fs::remove_dir_all(&made);
            Error::io(to.to_owned(), "cannot take its name")(error)
        })
    }
}

/// Takes a member out of a package; its checksum is compared on the way.
fn take(package: &Path, archive: &mut Archive, name: &str, into: &Path) -> Result<PathBuf, Error> {
    let wrong = |problem: String| Error::Import { path: package.to_owned(), problem };
    let mut member = archive.by_name(name).map_err(|error| wrong(format!("{name}: {error}")))?;
    let target = into.join("member.tmp");
    let mut out = File::create(&target).map_err(Error::io(target.clone(), "cannot be made"))?;
    io::copy(&mut member, &mut out).map_err(|error| wrong(format!("{name}: {error}")))?;
    Ok(target)
}

fn unpack_array(reader: &Reader, packed: &PackedArray, sink: &mut RowSink<'_>) -> Result<(), Error> {
    let fail = || Error::rows(&packed.name);
    let array = reader.array(&packed.name).map_err(fail())?;
    let rows = array.rows();
    if packed.shape.first() != Some(&rows) {
        return Err(Error::argument(
            "package",
            &packed.name,
            "its file has other rows than the package says",
        ));
    }
    if !packed.spec.is_lossless() {
        return sink.writer.copy_rows(0, &[(array, Rows::ALL)]).map_err(fail());
    }
    let step = match packed.spec.row_len() {
        0 => 1 << 16,
        len => (BATCH_LEN / len as u64).max(1),
    };
    let mut bytes = AlignedBytes::new();
    let mut start = 0;
    while start < rows {
        let end = rows.min(start + step);
        match packed.spec.dtype() {
            Some(dtype) => {
                let dim = packed.spec.dim() as usize;
                let out = bytes.resize(index(end - start) * dim * dtype.size());
                let mut buffer =
                    cvc::HostBuffer::from_bytes(dtype, out).map_err(|error| fail()(error.into()))?;
                array.decode(&cvc::CpuBackend::new(), start..end, dtype, &mut buffer).map_err(fail())?;
                let slice = RowSlice::from_bytes(dtype, index(end - start), dim, bytes.bytes());
                sink.write(slice.map_err(|error| fail()(error.into()))?)?;
            }
            None => sink.write(&array.read_strings(start..end).map_err(fail())?)?,
        }
        start = end;
    }
    Ok(())
}
