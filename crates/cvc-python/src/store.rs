//! Stores: a thin layer over `cvc_store`; the class that users see is `python/cvc/_store.py`.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use cvc::{DType, Overwrite};
use cvc_store::{ArraySpec, Batch, Durability, Store, StoreOptions};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::array::{new_array, viewable};
use crate::errors::{detached_store, raised_by_store};
use crate::input::{Held, Input};
use crate::key::Key;
use crate::memory::Memory;
use crate::numpy::Numpy;
use crate::{dtype, json};

/// The rows that a caller wants: all, unless there is a key.
fn key_of(key: Option<&Bound<'_, PyAny>>) -> PyResult<Key> {
    key.map_or(Ok(Key::All), Key::of)
}

fn durability(name: &str) -> PyResult<Durability> {
    match name {
        "synced" => Ok(Durability::Synced),
        "buffered" => Ok(Durability::Buffered),
        _ => Err(PyValueError::new_err(format!("durability = {name:?}: one of synced, buffered is needed"))),
    }
}

/// A store that is open. `cvc.Store` is made of it.
#[pyclass(frozen, module = "cvc._cvc")]
pub(crate) struct StoreFolder(RwLock<Option<Store>>);

impl StoreFolder {
    fn store(&self) -> PyResult<Store> {
        let store = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        store.ok_or_else(|| PyValueError::new_err("the store is closed"))
    }
}

#[pymethods]
impl StoreFolder {
    /// `mode` is `r` (only read), `r+` (there must be one), `a` (made if there is none) or `x` (there must be none).
    #[new]
    fn new(py: Python<'_>, path: PathBuf, mode: &str, durability: &str) -> PyResult<StoreFolder> {
        let options = StoreOptions::default().durability(self::durability(durability)?);
        let open: fn(PathBuf, StoreOptions) -> Result<Store, cvc_store::Error> = match mode {
            "r" => |path, _| Store::open_read_only(path),
            "r+" => |path, options| Store::open_with(path, options),
            "x" => |path, options| Store::create_with(path, options),
            "a" => |path, options| match Store::create_with(&path, options) {
                Err(cvc_store::Error::Exists { .. }) => Store::open_with(&path, options),
                other => other,
            },
            _ => return Err(PyValueError::new_err(format!("mode = {mode:?}: one of r, r+, a, x is needed"))),
        };
        let store = detached_store(py, || open(path, options))?;
        Ok(StoreFolder(RwLock::new(Some(store))))
    }

    fn changes(&self) -> PyResult<Changes> {
        Ok(Changes(Target::Store(self.store()?)))
    }

    fn batch(&self, py: Python<'_>) -> PyResult<Changes> {
        let batch = self.store()?.batch().map_err(|error| raised_by_store(py, error))?;
        Ok(Changes(Target::Batch(Mutex::new(Some(Box::new(batch))))))
    }

    fn snapshot(&self) -> PyResult<Snapshot> {
        Ok(Snapshot(self.store()?.snapshot()))
    }

    fn snapshot_at(&self, py: Python<'_>, commit: u64) -> PyResult<Snapshot> {
        let store = self.store()?;
        detached_store(py, || store.snapshot_at(commit)).map(Snapshot)
    }

    /// The first and the last commit that can be looked at.
    fn commits(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let store = self.store()?;
        detached_store(py, || store.commits())
    }

    fn keep_commits(&self, py: Python<'_>, commits: u64) -> PyResult<u64> {
        let store = self.store()?;
        detached_store(py, || store.keep_commits(commits))
    }

    fn prune(&self, py: Python<'_>, keep: u64) -> PyResult<()> {
        let store = self.store()?;
        detached_store(py, || store.prune(keep))
    }

    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        let store = self.store()?;
        detached_store(py, || store.refresh())
    }

    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let store = self.store()?;
        detached_store(py, || store.sync())
    }

    fn compact<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let store = self.store()?;
        let report = detached_store(py, || store.compact())?;
        let dict = PyDict::new(py);
        dict.set_item("rows", report.rows)?;
        dict.set_item("segments", report.segments)?;
        dict.set_item("bytes_before", report.bytes_before)?;
        dict.set_item("bytes_after", report.bytes_after)?;
        Ok(dict)
    }

    fn disk_len(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.store()?;
        detached_store(py, || store.disk_len())
    }

    /// What is damaged, as `StoreDamage`s.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let store = self.store()?;
        let report = detached_store(py, || store.verify())?;
        let damage = py.import("cvc._metadata")?.getattr("StoreDamage")?;
        let found = report
            .damage
            .into_iter()
            .map(|of| damage.call1((of.file, (of.bytes.start, of.bytes.end), of.arrays, of.what)));
        PyList::new(py, found.collect::<PyResult<Vec<_>>>()?)
    }

    fn rows_of_ids(&self, py: Python<'_>, ids: &str, keys: &Bound<'_, PyAny>) -> PyResult<Vec<Option<u64>>> {
        let store = self.store()?;
        let input = Input::new(keys)?;
        let held = input.hold(py, 0..input.rows())?;
        detached_store(py, || store.rows_of_ids(ids, held.rows().map_err(of_rows(ids))?))
    }

    fn import_numpack(&self, py: Python<'_>, path: PathBuf, codec: &str) -> PyResult<Vec<String>> {
        let store = self.store()?;
        detached_store(py, || store.import_numpack(path, codec))
    }

    fn is_writable(&self) -> PyResult<bool> {
        Ok(self.store()?.is_writable())
    }

    fn is_closed(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn close(&self, py: Python<'_>) {
        let store = self.0.write().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(store));
    }
}

/// Makes a store of a package.
#[pyfunction]
pub(crate) fn unpack_store(py: Python<'_>, package: PathBuf, to: PathBuf) -> PyResult<()> {
    detached_store(py, || Store::unpack(package, to))
}

/// What a package holds.
#[pyfunction]
pub(crate) fn package_info<'py>(py: Python<'py>, package: PathBuf) -> PyResult<Bound<'py, PyDict>> {
    let info = detached_store(py, || cvc_store::package_info(package))?;
    let arrays = PyDict::new(py);
    for array in &info.arrays {
        let of = PyDict::new(py);
        of.set_item("shape", PyTuple::new(py, &array.shape)?)?;
        of.set_item("dtype", array.spec.dtype().map_or("str", dtype::numpy_name))?;
        of.set_item("codec", array.spec.codec())?;
        of.set_item("metadata", json::to_python(py, &array.metadata)?)?;
        arrays.set_item(&array.name, of)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("commit", info.commit)?;
    dict.set_item("metadata", json::to_python(py, &info.metadata)?)?;
    dict.set_item("arrays", arrays)?;
    dict.set_item("file_len", info.file_len)?;
    Ok(dict)
}

/// What changes a store: one commit for each call, or a batch that is one commit at its end.
#[pyclass(frozen, module = "cvc._cvc")]
pub(crate) struct Changes(Target);

enum Target {
    Store(Store),
    Batch(Mutex<Option<Box<Batch>>>),
}

/// The same call on a store or on a batch, without the interpreter.
macro_rules! change {
    ($py:expr, $changes:expr, $target:ident => $call:expr) => {
        match &$changes.0 {
            Target::Store($target) => detached_store($py, || $call.map(drop)),
            Target::Batch(batch) => {
                let mut guard = Changes::lock(batch)?;
                let $target = guard.as_mut().ok_or_else(ended)?;
                detached_store($py, || $call.map(drop))
            }
        }
    };
}

fn ended() -> PyErr {
    PyValueError::new_err("the batch has ended")
}

/// An error of rows, as one of an array.
fn of_rows(array: &str) -> impl FnOnce(cvc::Error) -> cvc_store::Error {
    let array = array.to_owned();
    move |error| cvc_store::Error::Rows { array, error: Box::new(error) }
}

impl Changes {
    fn look(&self) -> PyResult<cvc_store::Snapshot> {
        match &self.0 {
            Target::Store(store) => Ok(store.snapshot()),
            Target::Batch(batch) => Ok(Changes::lock(batch)?.as_ref().ok_or_else(ended)?.snapshot()),
        }
    }

    fn lock(batch: &Mutex<Option<Box<Batch>>>) -> PyResult<MutexGuard<'_, Option<Box<Batch>>>> {
        match batch.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(guard)) => Ok(guard.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("the batch is busy with another call; give each thread its own"))
            }
        }
    }
}

#[pymethods]
impl Changes {
    #[pyo3(signature = (name, rows, codec=None, unique=false))]
    fn save(
        &self,
        py: Python<'_>,
        name: &str,
        rows: &Bound<'_, PyAny>,
        codec: Option<&str>,
        unique: bool,
    ) -> PyResult<()> {
        let input = Input::new(rows)?;
        let mut spec = match input.values() {
            Some((dtype, inner)) => ArraySpec::values(dtype, inner, codec.unwrap_or("raw")),
            None => ArraySpec::strings(codec.unwrap_or("raw")),
        };
        if unique {
            spec = spec.unique();
        }
        let held = input.hold(py, 0..input.rows())?;
        change!(py, self, target => target.save(name, &spec, held.rows().map_err(of_rows(name))?))
    }

    fn append(&self, py: Python<'_>, name: &str, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let input = Input::new(rows)?;
        let held = input.hold(py, 0..input.rows())?;
        change!(py, self, target => target.append(name, held.rows().map_err(of_rows(name))?))
    }

    fn replace(
        &self,
        py: Python<'_>,
        name: &str,
        rows: &Bound<'_, PyAny>,
        which: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let key = Key::of(which)?;
        let input = Input::new(rows)?;
        let held = input.hold(py, 0..input.rows())?;
        change!(py, self, target => target.replace(name, key.selection(), held.rows().map_err(of_rows(name))?))
    }

    fn replace_changed(&self, py: Python<'_>, name: &str, rows: &Bound<'_, PyAny>) -> PyResult<usize> {
        let of = dtype::of_numpy(&rows.getattr("dtype")?)?;
        let memory = Memory::of(&viewable(rows, of)?)?;
        let Target::Batch(batch) = &self.0 else { return Err(ended()) };
        let mut guard = Changes::lock(batch)?;
        let batch = guard.as_mut().ok_or_else(ended)?;
        detached_store(py, || batch.replace_changed(name, memory.bytes()))
    }

    fn delete_rows(&self, py: Python<'_>, name: &str, which: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = Key::of(which)?;
        change!(py, self, target => target.delete_rows(name, key.selection()))
    }

    fn delete(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        change!(py, self, target => target.delete(name))
    }

    fn rename(&self, py: Python<'_>, from_: &str, to: &str) -> PyResult<()> {
        change!(py, self, target => target.rename(from_, to))
    }

    fn clone_array(&self, py: Python<'_>, from_: &str, to: &str) -> PyResult<()> {
        change!(py, self, target => target.clone_array(from_, to))
    }

    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        change!(py, self, target => target.reset())
    }

    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyAny>) -> PyResult<()> {
        let metadata = json::from_python(metadata)?;
        change!(py, self, target => target.set_metadata(&metadata))
    }

    fn set_array_metadata(&self, py: Python<'_>, name: &str, metadata: &Bound<'_, PyAny>) -> PyResult<()> {
        let metadata = json::from_python(metadata)?;
        change!(py, self, target => target.set_array_metadata(name, &metadata))
    }

    /// Brings rows under ids: `columns` has rows for each array beside `ids`.
    fn upsert(
        &self,
        py: Python<'_>,
        ids: &str,
        keys: &Bound<'_, PyAny>,
        columns: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let keys = Input::new(keys)?;
        let mut inputs = Vec::new();
        for (name, rows) in columns {
            inputs.push((name.extract::<String>()?, Input::new(&rows)?));
        }
        let held_keys = keys.hold(py, 0..keys.rows())?;
        let held = inputs.iter().map(|(name, input)| Ok((name.as_str(), input.hold(py, 0..input.rows())?)));
        let held: Vec<(&str, Held<'_>)> = held.collect::<PyResult<_>>()?;
        change!(py, self, target => {
            let mut columns = Vec::with_capacity(held.len());
            for (name, rows) in &held {
                columns.push((*name, rows.rows().map_err(of_rows(name))?));
            }
            target.upsert(ids, held_keys.rows().map_err(of_rows(ids))?, &columns)
        })
    }

    /// What a batch sees.
    fn snapshot(&self) -> PyResult<Snapshot> {
        self.look().map(Snapshot)
    }

    /// Rows of an array as it is now: `snapshot()[name].read(rows)` in one call.
    #[pyo3(signature = (name, rows))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        rows: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = self.look()?.array(name).map_err(|error| raised_by_store(py, error))?;
        read(py, &array, &key_of(rows)?, None)
    }

    /// Makes one commit of a batch. Returns its number.
    #[pyo3(signature = (durability=None))]
    fn commit(&self, py: Python<'_>, durability: Option<&str>) -> PyResult<u64> {
        let durability = durability.map(self::durability).transpose()?;
        let Target::Batch(batch) = &self.0 else { return Err(ended()) };
        let batch = Changes::lock(batch)?.take().ok_or_else(ended)?;
        detached_store(py, || match durability {
            Some(durability) => batch.commit_as(durability),
            None => batch.commit(),
        })
    }

    /// Gives a batch up.
    fn abort(&self) -> PyResult<()> {
        if let Target::Batch(batch) = &self.0 {
            drop(Changes::lock(batch)?.take());
        }
        Ok(())
    }
}

/// A store as it was after one commit.
#[pyclass(frozen, module = "cvc._cvc")]
pub(crate) struct Snapshot(cvc_store::Snapshot);

#[pymethods]
impl Snapshot {
    /// The number of the commit.
    #[getter]
    fn commit(&self) -> u64 {
        self.0.commit()
    }

    /// When it was made, in microseconds since 1970.
    #[getter]
    fn time(&self) -> u64 {
        self.0.time()
    }

    /// The names of the arrays, sorted.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    /// What was said of the whole store.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, self.0.metadata())
    }

    fn __contains__(&self, name: &str) -> bool {
        self.0.has(name)
    }

    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<StoredArray> {
        self.0.array(name).map(StoredArray).map_err(|error| raised_by_store(py, error))
    }

    /// Writes all of it to one file, without loss and smaller. Returns the bytes of the file.
    #[pyo3(signature = (path, overwrite=false))]
    fn pack(&self, py: Python<'_>, path: PathBuf, overwrite: bool) -> PyResult<u64> {
        let overwrite = if overwrite { Overwrite::Allow } else { Overwrite::Refuse };
        detached_store(py, || self.0.pack(path, overwrite))
    }
}

/// An array of a snapshot.
#[pyclass(frozen, module = "cvc._cvc")]
pub(crate) struct StoredArray(cvc_store::StoredArray);

impl StoredArray {
    fn of(&self) -> Option<DType> {
        self.0.spec().dtype().and(self.0.dtype().ok())
    }
}

#[pymethods]
impl StoredArray {
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.shape())
    }

    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.of() {
            Some(of) => dtype::to_numpy(py, of),
            None => Numpy::get(py)?.dtype.bind(py).call1(("O",)),
        }
    }

    #[getter]
    fn codec(&self) -> &str {
        self.0.spec().codec()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, self.0.metadata())
    }

    /// When it was changed last, in microseconds since 1970.
    #[getter]
    fn changed(&self) -> u64 {
        self.0.changed()
    }

    /// Bytes of all rows, decoded.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.0.byte_len()
    }

    /// Rows that were deleted and take space still.
    #[getter]
    fn deleted(&self) -> u64 {
        self.0.deleted()
    }

    /// Sections as tuples of a start, a stop and metadata.
    #[getter]
    fn sections<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let section = py.import("cvc._metadata")?.getattr("Section")?;
        let sections = self.0.sections();
        let sections = sections
            .iter()
            .map(|of| section.call1((of.rows.start, of.rows.end, json::to_python(py, &of.metadata)?)));
        PyList::new(py, sections.collect::<PyResult<Vec<_>>>()?)
    }

    /// Numbers that rows keep whatever is done to others.
    #[pyo3(signature = (rows=None))]
    fn row_ids(&self, py: Python<'_>, rows: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<u64>> {
        let key = key_of(rows)?;
        detached_store(py, || self.0.row_ids(key.selection()))
    }

    /// Rows as an array of NumPy, into `out` if that is given.
    #[pyo3(signature = (rows=None, out=None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        rows: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        read(py, &self.0, &key_of(rows)?, out)
    }
}

/// Rows of an array as an array of NumPy, into `out` if that is given.
fn read<'py>(
    py: Python<'py>,
    array: &cvc_store::StoredArray,
    key: &Key,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let selection = key.selection();
    let values = if array.spec().dtype().is_none() {
        let strings = detached_store(py, || array.read_strings(selection))?;
        Numpy::objects(py, PyList::new(py, strings.iter())?.into_any())?
    } else {
        let of = array.dtype().map_err(|error| raised_by_store(py, error))?;
        let mut shape = array.shape();
        shape[0] = selection.count(shape[0]).map_err(|error| raised_by_store(py, error))?;
        let values = match out {
            Some(out) => {
                crate::array::check_out(out, of, &shape)?;
                out.clone()
            }
            None => new_array(py, &shape, of)?,
        };
        let mut memory = Memory::writable(&viewable(&values, of)?)?;
        let bytes = memory.bytes_mut();
        detached_store(py, || array.read_bytes(selection, bytes))?;
        values
    };
    if matches!(key, Key::One(_)) { values.get_item(0) } else { Ok(values) }
}
