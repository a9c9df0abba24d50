//! The golden files: written by other programs, or by us once; read forever, never edited.
//!
//! `data/golden/decompressed/<version>/` holds what the package `decompressed` of that version wrote: for each
//! entry of its `manifest.json` the array that was packed, the file that came out, and what the package itself
//! loads from it. Where the package is wrong, the entry's note says so; `docs/FORMAT.md` has the right answer.
//!
//! `data/golden/native/` holds files of our own layout, with what they decode to beside them ([`native_files`]).

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::npy::Npy;

/// The versions of `decompressed` with golden files.
pub const DECOMPRESSED: [&str; 2] = ["0.1.0", "2.1.1"];

/// A golden file of the native layout.
///
/// Beside `NAME.cvc` there is a file for each of its arrays with what comes out of it: `NAME.ARRAY.bin` has the values,
/// little-endian, row after row, in the dtype that reading gives unless another is asked for; `NAME.ARRAY.txt` has the
/// strings, each ended by a line feed.
#[derive(Clone, Debug)]
pub struct NativeFile {
    /// Its name, without the suffix.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

impl NativeFile {
    /// The file of this name, which need not exist yet.
    pub fn named(name: &str) -> NativeFile {
        NativeFile { name: name.to_owned(), path: native_folder().join(format!("{name}.cvc")) }
    }

    /// Where the values of an array are, or its strings.
    pub fn expected(&self, array: &str, strings: bool) -> PathBuf {
        let suffix = if strings { "txt" } else { "bin" };
        native_folder().join(format!("{}.{array}.{suffix}", self.name))
    }
}

fn native_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden/native")
}

/// The golden files of the native layout, sorted by name.
///
/// # Panics
/// Their folder cannot be read, with the reason.
pub fn native_files() -> Vec<NativeFile> {
    let folder = native_folder();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names =
        entries.map(|entry| entry.expect("a name").file_name().into_string().expect("an ordinary name"));
    let mut names: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".cvc")?.to_owned())).collect();
    names.sort_unstable();
    names.iter().map(|name| NativeFile::named(name)).collect()
}

/// The golden files of one version of one package.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The package's version.
    pub version: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// One for each file, in the order of the manifest.
    pub entries: Vec<Entry>,
}

/// One file, how it was made, and what comes out of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The Python call that made it.
    pub call: String,
    /// The file; it does not exist if packing failed.
    pub file: String,
    /// The `.npy` that was packed; none for files with columns.
    pub input: Option<String>,
    /// The `.npy` that the package loads from the whole file.
    pub expected: Option<String>,
    /// The Python call that loaded it.
    pub expected_call: Option<String>,
    /// The shape of the input.
    pub shape: Vec<usize>,
    /// Parts that the package loads, by its arguments.
    pub filters: Vec<Filter>,
    /// The columns, if the file has any.
    pub columns: Vec<Column>,
    /// The sections that were packed, first to last.
    pub sections: Vec<Section>,
    /// The metadata of each chunk, where it was short enough for the manifest.
    pub chunk_metadata: Vec<Value>,
    /// `v0`, `v1.0` or `v2.0`.
    pub layout: Option<String>,
    /// What is special.
    pub note: Option<String>,
    /// Why the package refused to pack.
    pub pack_error: Option<String>,
    /// The length of the file.
    pub size: Option<u64>,
    /// Where its header begins.
    pub header_offset: Option<u64>,
    /// The length of its header.
    pub header_len: Option<u64>,
}

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The Python call.
    pub call: String,
    /// The `.npy` that it gave.
    pub expected: Option<String>,
    /// Or the error.
    pub error: Option<String>,
}

/// A column of a file.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The `.npy` that was packed.
    pub input: String,
    /// The `.npy` that the package loads, always f32.
    pub expected: Option<String>,
    /// Or why it does not.
    pub load_error: Option<String>,
}

/// A section that was packed.
#[derive(Clone, Debug)]
pub struct Section {
    /// How many rows.
    pub rows: usize,
    /// Its metadata.
    pub metadata: Value,
}

impl Manifest {
    /// The golden files of this version of `decompressed`.
    ///
    /// # Panics
    /// They are not there or the manifest is not what it should be, with the reason.
    pub fn decompressed(version: &str) -> Manifest {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden/decompressed").join(version);
        let path = folder.join("manifest.json");
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let entries: Vec<Value> =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let entries = entries.iter().map(|entry| Entry::new(Fields::of(entry))).collect();
        Manifest { version: version.to_owned(), folder, entries }
    }

    /// The path of a file of this manifest.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// One of its `.npy` files.
    ///
    /// # Panics
    /// It cannot be read, with the reason.
    pub fn npy(&self, file: &str) -> Npy {
        Npy::read(&self.path(file))
    }

    /// The entry of this file.
    ///
    /// # Panics
    /// There is none.
    pub fn entry(&self, file: &str) -> &Entry {
        let entry = self.entries.iter().find(|entry| entry.file == file);
        entry.unwrap_or_else(|| panic!("{} has no {file}", self.folder.display()))
    }
}

impl Entry {
    fn new(fields: Fields<'_>) -> Entry {
        Entry {
            call: fields.text("call"),
            file: fields.text("file"),
            // "sections.npy (all sections stacked)"
            input: fields
                .get_text("input")
                .map(|input| input.split(' ').next().unwrap_or_default().to_owned()),
            expected: fields.get_text("expected"),
            expected_call: fields.get_text("expected_call"),
            shape: fields
                .list("shape")
                .iter()
                .map(|extent| usize::try_from(extent.as_u64().expect("an extent")).expect("in memory"))
                .collect(),
            filters: fields
                .list("filters")
                .iter()
                .map(Fields::of)
                .map(|filter| Filter {
                    call: filter.text("call"),
                    expected: filter.get_text("expected"),
                    error: filter.get_text("error"),
                })
                .collect(),
            columns: fields
                .0
                .get("columns")
                .map(Fields::of)
                .into_iter()
                .flat_map(|columns| columns.0)
                .map(|(name, column)| (name, Fields::of(column)))
                .map(|(name, column)| Column {
                    name: name.clone(),
                    input: column.text("input"),
                    expected: column.get_text("expected"),
                    load_error: column.get_text("load_error"),
                })
                .collect(),
            sections: fields
                .list("sections")
                .iter()
                .map(Fields::of)
                .map(|section| Section {
                    rows: usize::try_from(section.get_number("rows").expect("rows")).expect("in memory"),
                    metadata: section.0["metadata"].clone(),
                })
                .collect(),
            chunk_metadata: fields.list("chunk_metadata").to_vec(),
            layout: fields.get_text("layout"),
            note: fields.get_text("note"),
            pack_error: fields.get_text("pack_error"),
            size: fields.get_number("size"),
            header_offset: fields.get_number("header_offset"),
            header_len: fields.get_number("header_len"),
        }
    }
}

/// The fields of a JSON object.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of(value: &'a Value) -> Self {
        Fields(value.as_object().expect("an object"))
    }

    fn get_text(self, key: &str) -> Option<String> {
        self.0.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    fn text(self, key: &str) -> String {
        self.get_text(key).unwrap_or_else(|| panic!("an entry without {key}: {:?}", self.0))
    }

    fn get_number(self, key: &str) -> Option<u64> {
        self.0.get(key).and_then(Value::as_u64)
    }

    /// The list of this name; empty if there is none, or only a remark in its place.
    fn list(self, key: &str) -> &'a [Value] {
        self.0.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_every_manifest_is_there() {
        let count = |version: &str| {
            let manifest = Manifest::decompressed(version);
            for entry in &manifest.entries {
                if let Some(size) = entry.size {
                    assert_eq!(std::fs::metadata(manifest.path(&entry.file)).unwrap().len(), size);
                }
                assert_eq!(entry.size.is_none(), entry.pack_error.is_some(), "{}", entry.file);
                if let Some(input) = &entry.input {
                    assert_eq!(manifest.npy(input).shape, entry.shape, "{}", entry.file);
                }
                let filters = entry.filters.iter().filter_map(|filter| filter.expected.as_ref());
                let columns = entry.columns.iter().filter_map(|column| column.expected.as_ref());
                for expected in entry.expected.iter().chain(filters).chain(columns) {
                    manifest.npy(expected);
                }
                entry.columns.iter().for_each(|column| drop(manifest.npy(&column.input)));
            }
            manifest.entries.len()
        };
        assert_eq!(DECOMPRESSED.map(count), [73, 107]);
    }

    #[test]
    fn entries_say_what_the_manifest_says() {
        let manifest = Manifest::decompressed("2.1.1");
        let entry = manifest.entry("sections_twomatch_fp16.cvc");
        assert_eq!(entry.input.as_deref(), Some("sections_twomatch_fp16.npy"));
        assert_eq!(entry.sections.iter().map(|section| section.rows).collect::<Vec<_>>(), [10, 20, 5]);
        assert_eq!(entry.sections[1].metadata["q"], "low");
        assert_eq!(entry.filters[0].expected.as_deref(), Some("sections_twomatch_fp16.q_high.expected.npy"));
        let columns = &manifest.entry("columns_basic.cvc").columns;
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["doc_id", "image", "score", "text"]);
    }
}
