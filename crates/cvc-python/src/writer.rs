//! `cvc.Writer`: batches come in, a whole file comes out, or nothing does.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use cvc::format::cvcf::VECTORS;
use cvc::{ArrayOptions, DType, Layout, NonFinite, Overwrite, Scope, WriteOptions};
use cvc_remote::{RemoteOptions, Upload};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyTuple};

use crate::errors::{detached, of_class, raised};
use crate::input::{Held, Input};
use crate::{json, remote};

/// Writes a file batch by batch; arrays and their shapes are those of the first batch.
///
/// `with cvc.Writer("all.cvc", codec="int8") as w: w.write(batch)`. Leaving the block gives the file its name; leaving it
/// by an exception leaves nothing behind. The path may be a URL in a store (`s3`, `gs`, `az`), which `storage_options` says how to reach. `codec`, `block_rows`, `scope`, `nonfinite` and `provenance` are for all arrays, or
/// dicts by the name of the array; one codec for several arrays is for those of floats. Without a path the file is made in memory, and `finish` returns its bytes.
#[pyclass(frozen, module = "cvc")]
pub(crate) struct Writer {
    state: Mutex<State>,
}

struct State {
    plan: Plan,
    stage: Stage,
    /// Rows that came in.
    rows: u64,
}

enum Stage {
    /// No batch has come in yet; sections may have.
    Waiting(Vec<Said>),
    Open {
        writer: Box<Target>,
        names: Vec<String>,
    },
    Closed,
}

/// A section.
#[derive(Clone)]
struct Said {
    rows: std::ops::Range<u64>,
    metadata: cvc::Json,
    may_be_empty: bool,
}

enum Target {
    File(cvc::Writer),
    Memory(cvc::Writer<cvc::writer::ToMemory>),
    Remote(cvc::Writer<cvc::writer::ToSink<Upload>>),
}

/// The same call on any kind of writer.
macro_rules! on {
    ($target:expr, $writer:ident => $body:expr) => {
        match $target {
            Target::File($writer) => $body,
            Target::Memory($writer) => $body,
            Target::Remote($writer) => $body,
        }
    };
}

impl Target {
    fn say(&mut self, Said { rows, metadata, may_be_empty }: Said) -> Result<(), cvc::Error> {
        if may_be_empty {
            on!(self, writer => writer.put_section(rows, metadata))
        } else {
            on!(self, writer => writer.add_section(rows, metadata))
        }
    }
}

/// What the caller wants of the file.
struct Plan {
    path: Option<PathBuf>,
    /// How to reach the path, if it is a URL.
    remote: RemoteOptions,
    layout: Layout,
    codec: Option<Py<PyAny>>,
    block_rows: Option<Py<PyAny>>,
    scope: Option<Py<PyAny>>,
    nonfinite: Option<Py<PyAny>>,
    provenance: Option<Py<PyDict>>,
    chunk_rows: Option<u32>,
    metadata: Option<cvc::Json>,
    chunk_metadata: Vec<cvc::Json>,
    overwrite: Overwrite,
}

pub(crate) fn layout_named(py: Python<'_>, name: &str) -> PyResult<Layout> {
    let known = [Layout::Native, Layout::V0, Layout::V1, Layout::V2];
    known.into_iter().find(|layout| layout.name() == name).ok_or_else(|| {
        let problem = "one of native, v0, v1, v2 is needed".to_owned();
        raised(py, cvc::Error::Argument { argument: "layout", value: format!("{name:?}"), problem })
    })
}

pub(crate) fn overwriting(allowed: bool) -> Overwrite {
    if allowed { Overwrite::Allow } else { Overwrite::Refuse }
}

/// What an option says of one array: the same of all, or what a dict has under its name.
fn option<'py>(
    py: Python<'py>,
    option: Option<&Py<PyAny>>,
    array: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(option) = option else { return Ok(None) };
    let option = option.bind(py);
    match option.cast::<PyDict>() {
        Ok(of_arrays) => of_arrays.get_item(array),
        Err(_) => Ok(Some(option.clone())),
    }
}

fn named<T: Copy>(option: &Bound<'_, PyAny>, what: &str, known: &[(&str, T)]) -> PyResult<T> {
    let py = option.py();
    let name: String = option.extract()?;
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        of_class(py, "ArgumentError", format!("{what} = {name:?}: one of {} is needed", names.join(", ")))
    })
}

impl Plan {
    /// An array as these rows need it, alone in the file or with others.
    fn array(&self, py: Python<'_>, name: &str, input: &Input<'_>, alone: bool) -> PyResult<ArrayOptions> {
        let codec =
            option(py, self.codec.as_ref(), name)?.map(|codec| codec.extract::<String>()).transpose()?;
        let by_name = self.codec.as_ref().is_some_and(|codec| codec.bind(py).is_instance_of::<PyDict>());
        // One codec for all of several arrays is meant for vectors: labels and names take it only if it is for them, too.
        let for_all = ["raw", "none", "zstd", "gzip"];
        let fits = |codec: &String| alone || by_name || for_all.contains(&codec.as_str());
        let mut array = match input.values() {
            Some((dtype, inner)) => {
                let codec = codec.filter(|codec| dtype.is_float() || fits(codec));
                ArrayOptions::values(
                    name,
                    dtype,
                    inner,
                    codec.unwrap_or_else(|| default_codec(self.layout, dtype).into()),
                )
            }
            None => ArrayOptions::strings(name, codec.filter(fits).as_deref().unwrap_or("zstd")),
        };
        if let Some(rows) = option(py, self.block_rows.as_ref(), name)? {
            array = array.block_rows(rows.extract()?);
        }
        if let Some(scope) = option(py, self.scope.as_ref(), name)? {
            let known = [Scope::Row, Scope::Dim, Scope::Chunk].map(|scope| (scope.name(), scope));
            array = array.scope(named(&scope, "scope", &known)?);
        }
        if let Some(nonfinite) = option(py, self.nonfinite.as_ref(), name)? {
            let known = [("refuse", NonFinite::Refuse), ("saturate", NonFinite::Saturate)];
            array = array.nonfinite(named(&nonfinite, "nonfinite", &known)?);
        }
        if let Some(provenance) = &self.provenance
            && let Some(of_array) = provenance.bind(py).get_item(name)?
        {
            array = array.provenance(json::from_python(&of_array)?);
        }
        Ok(array)
    }

    /// Begins the file, whose first rows these are.
    fn begin(&self, py: Python<'_>, batch: &[(String, Input<'_>)]) -> PyResult<Target> {
        let fail = |error| raised(py, error);
        for of_arrays in [&self.codec, &self.block_rows, &self.scope, &self.nonfinite].into_iter().flatten() {
            check_names(of_arrays.bind(py), batch)?;
        }
        if let Some(provenance) = &self.provenance {
            check_names(provenance.bind(py).as_any(), batch)?;
        }
        let mut options = WriteOptions::new(self.layout).overwrite(self.overwrite);
        for (name, input) in batch {
            options = options.with_array(self.array(py, name, input, batch.len() == 1)?).map_err(fail)?;
        }
        if let Some(rows) = self.chunk_rows {
            options = options.chunk_rows(rows).map_err(fail)?;
        }
        if let Some(metadata) = &self.metadata {
            options = options.metadata(metadata.clone()).map_err(fail)?;
        }
        options = options.chunk_metadata(self.chunk_metadata.clone());
        if let Some(url) = self.url() {
            if self.overwrite == Overwrite::Refuse {
                let problem = "a file at a URL is replaced if it is there; leave out overwrite=False".into();
                return Err(of_class(py, "ArgumentError", problem));
            }
            let upload = remote::create(py, url, &self.remote)?;
            return detached(py, || cvc::Writer::to_sink(upload, options).map(Target::Remote));
        }
        detached(py, || match &self.path {
            Some(path) => cvc::Writer::create(path, options).map(Target::File),
            None => cvc::Writer::in_memory(options).map(Target::Memory),
        })
    }
}

impl Plan {
    /// The URL that the path is, if it is one.
    fn url(&self) -> Option<&str> {
        self.path.as_ref()?.to_str().filter(|path| cvc_remote::is_url(path))
    }
}

/// Refuses an option for an array that the file does not have.
fn check_names(option: &Bound<'_, PyAny>, batch: &[(String, Input<'_>)]) -> PyResult<()> {
    let Ok(of_arrays) = option.cast::<PyDict>() else { return Ok(()) };
    for name in of_arrays.keys() {
        let name: String = name.extract()?;
        if !batch.iter().any(|(known, _)| *known == name) {
            let names: Vec<&str> = batch.iter().map(|(name, _)| name.as_str()).collect();
            let problem = format!("no array {name:?} among {}", names.join(", "));
            return Err(of_class(option.py(), "NoSuchArrayError", problem));
        }
    }
    Ok(())
}

fn default_codec(layout: Layout, dtype: DType) -> &'static str {
    match layout {
        _ if dtype.is_float() && dtype != DType::F64 => "fp16",
        Layout::V0 | Layout::V1 => "fp16",
        Layout::V2 => "none",
        _ => "raw",
    }
}

/// An upload that nobody ended is ended now, which takes a request: other threads of Python go on meanwhile.
impl Drop for Writer {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let stage = std::mem::replace(&mut state.stage, Stage::Closed);
        if let Stage::Open { writer, .. } = stage
            && matches!(*writer, Target::Remote(_))
        {
            let mut writer = Some(writer);
            // An interpreter that ends has nothing that could go on; then it is dropped below.
            Python::try_attach(|py| py.detach(|| drop(writer.take())));
        }
    }
}

impl Writer {
    /// A writer of a native file that has arrays already.
    pub(crate) fn of(writer: cvc::Writer, path: PathBuf, names: Vec<String>) -> Writer {
        let plan = Plan {
            path: Some(path),
            remote: RemoteOptions::default(),
            layout: Layout::Native,
            codec: None,
            block_rows: None,
            scope: None,
            nonfinite: None,
            provenance: None,
            chunk_rows: None,
            metadata: None,
            chunk_metadata: Vec::new(),
            overwrite: Overwrite::Allow,
        };
        let rows = writer.rows();
        let stage = Stage::Open { writer: Box::new(Target::File(writer)), names };
        Writer { state: Mutex::new(State { plan, stage, rows }) }
    }

    /// # Errors
    /// Another call is at work: of another thread, or the one that called `progress`.
    fn state(&self) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("the writer is busy with another call; give each thread its own"))
            }
        }
    }
}

impl State {
    /// Writes a batch, and says of its section before its rows come.
    fn write(
        &mut self,
        py: Python<'_>,
        batch: &[(String, Input<'_>)],
        told: Option<(Option<cvc::Json>, Option<&Bound<'_, PyAny>>)>,
    ) -> PyResult<()> {
        let (section, progress) = told.unwrap_or_default();
        let count = batch.first().map_or(0, |(_, input)| input.rows());
        if let Some((name, input)) = batch.iter().find(|(_, input)| input.rows() != count) {
            let problem =
                format!("array {name:?} got {} rows, array {:?} got {count}", input.rows(), batch[0].0);
            return Err(PyValueError::new_err(problem));
        }
        let State { plan, stage, rows } = self;
        if let Stage::Waiting(sections) = stage {
            let mut writer = Box::new(plan.begin(py, batch)?);
            // If one of them is refused, all are there for the next try.
            let said = sections.clone();
            detached(py, || said.into_iter().try_for_each(|section| writer.say(section)))?;
            let names = batch.iter().map(|(name, _)| name.clone()).collect();
            *stage = Stage::Open { writer, names };
        }
        let Stage::Open { writer, names } = stage else { return Err(closed()) };
        let inputs = in_order(names, batch)?;
        if let Some(section) = section.filter(|_| count > 0) {
            let of = *rows..*rows + count as u64;
            detached(py, || on!(&mut **writer, writer => writer.add_section(of, section)))?;
        }
        // No more at a time than keeps the cores busy: in between Python can be told and can interrupt.
        let step = on!(&mut **writer, writer => writer.batch_rows()).max(1) * STEPS;
        let mut start = 0;
        loop {
            let stop = count.min(start + step);
            let held = inputs
                .iter()
                .map(|input| input.hold(py, start..stop))
                .collect::<PyResult<Vec<Held<'_>>>>()?;
            detached(py, || {
                let rows = held.iter().map(Held::rows).collect::<Result<Vec<_>, _>>()?;
                on!(&mut **writer, writer => writer.write(&rows))
            })?;
            *rows += (stop - start) as u64;
            start = stop;
            py.check_signals()?;
            if let Some(progress) = progress {
                progress.call1((start, count))?;
            }
            if start == count {
                return Ok(());
            }
        }
    }

    /// Says something of rows, now or when the file begins.
    fn say(&mut self, py: Python<'_>, section: Said) -> PyResult<()> {
        match &mut self.stage {
            Stage::Waiting(sections) => {
                sections.push(section);
                Ok(())
            }
            Stage::Open { writer, .. } => detached(py, || writer.say(section)),
            Stage::Closed => Err(closed()),
        }
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the writer is closed")
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(signature = (
        path=None, *, storage_options=None, codec=None, layout="native", chunk_rows=None, block_rows=None, scope=None, nonfinite=None,
        metadata=None, provenance=None, chunk_metadata=None, overwrite=true
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        storage_options: Option<&Bound<'_, PyDict>>,
        codec: Option<Py<PyAny>>,
        layout: &str,
        chunk_rows: Option<u32>,
        block_rows: Option<Py<PyAny>>,
        scope: Option<Py<PyAny>>,
        nonfinite: Option<Py<PyAny>>,
        metadata: Option<&Bound<'_, PyAny>>,
        provenance: Option<Py<PyDict>>,
        chunk_metadata: Option<Vec<Bound<'_, PyAny>>>,
        overwrite: bool,
    ) -> PyResult<Writer> {
        let metadata = metadata.map(json::from_python).transpose()?;
        let chunk_metadata = chunk_metadata.iter().flatten().map(json::from_python);
        let plan = Plan {
            path,
            remote: remote::options(py, storage_options)?,
            layout: layout_named(py, layout)?,
            codec,
            block_rows,
            scope,
            nonfinite,
            provenance,
            chunk_rows,
            metadata,
            chunk_metadata: chunk_metadata.collect::<PyResult<_>>()?,
            overwrite: overwriting(overwrite),
        };
        if storage_options.is_some() && plan.url().is_none() {
            return Err(of_class(
                py,
                "ArgumentError",
                "storage_options are for URLs, and this is none".into(),
            ));
        }
        let state = State { plan, stage: Stage::Waiting(Vec::new()), rows: 0 };
        Ok(Writer { state: Mutex::new(state) })
    }

    /// Appends rows: an array, a tensor or a list of strings for the array `vectors`; or a dict with as many rows for each
    /// array. `section` says something of these rows. Nothing is kept of what is given; `progress` is called with the
    /// rows done and the rows of this call.
    #[pyo3(signature = (rows, *, section=None, progress=None))]
    fn write(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        section: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let section = section.map(json::from_python).transpose()?;
        if rows.cast::<PyMapping>().is_err()
            && let Some(mut stream) = Input::stream(rows)?
        {
            let mut state = self.state()?;
            let before = state.rows;
            while let Some(columns) = stream.next(py)? {
                state.write(py, &named_batch(columns)?, None)?;
                if let Some(progress) = progress {
                    // Nobody knows how many there will be.
                    let done = state.rows - before;
                    progress.call1((done, done))?;
                }
            }
            let of = before..state.rows;
            return match section.filter(|_| !of.is_empty()) {
                Some(metadata) => state.say(py, Said { rows: of, metadata, may_be_empty: false }),
                None => Ok(()),
            };
        }
        let batch = batch(rows)?;
        let mut state = self.state()?;
        state.write(py, &batch, Some((section, progress)))
    }

    /// Says something of rows `start` to `stop`, which may come later. `may_be_empty` keeps what is said of no rows.
    #[pyo3(signature = (start, stop, metadata, *, may_be_empty=false))]
    fn add_section(
        &self,
        py: Python<'_>,
        start: u64,
        stop: u64,
        metadata: &Bound<'_, PyAny>,
        may_be_empty: bool,
    ) -> PyResult<()> {
        let section = Said { rows: start..stop, metadata: json::from_python(metadata)?, may_be_empty };
        self.state()?.say(py, section)
    }

    /// Adds a whole array with a number of rows of its own: centroids, a vocabulary. Some rows of the others come first.
    #[pyo3(signature = (name, rows, *, codec=None))]
    fn attach(
        &self,
        py: Python<'_>,
        name: &str,
        rows: &Bound<'_, PyAny>,
        codec: Option<&str>,
    ) -> PyResult<()> {
        let input = Input::new(rows)?;
        let mut state = self.state()?;
        let layout = state.plan.layout;
        let Stage::Open { writer, .. } = &mut state.stage else {
            return Err(PyValueError::new_err(
                "arrays are attached after the first rows, and before the writer is closed",
            ));
        };
        let array = match input.values() {
            Some((dtype, inner)) => ArrayOptions::values(
                name,
                dtype,
                inner,
                codec.unwrap_or_else(|| default_codec(layout, dtype)),
            ),
            None => ArrayOptions::strings(name, codec.unwrap_or("zstd")),
        };
        let held = input.hold(py, 0..input.rows())?;
        detached(py, || on!(&mut **writer, writer => writer.attach(array, held.rows()?)))
    }

    /// Rows that came in.
    #[getter]
    fn rows(&self) -> PyResult<u64> {
        Ok(self.state()?.rows)
    }

    /// Writes what is missing and gives the file its name. Returns its bytes, of a file in memory.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut state = self.state()?;
        match std::mem::replace(&mut state.stage, Stage::Closed) {
            Stage::Open { writer, .. } => match *writer {
                Target::File(writer) => {
                    detached(py, || writer.finish())?;
                    Ok(None)
                }
                Target::Remote(writer) => {
                    let (upload, _) = detached(py, || writer.finish_sink())?;
                    let finished = py.detach(|| upload.finish());
                    finished.map_err(|error| remote::raised_by_remote(py, &error))?;
                    Ok(None)
                }
                Target::Memory(writer) => {
                    let bytes = detached(py, || writer.finish_bytes())?;
                    Ok(Some(PyBytes::new(py, &bytes)))
                }
            },
            Stage::Waiting(_) => Err(PyValueError::new_err(
                "no rows were written: write at least an array of 0 rows, which has a shape",
            )),
            Stage::Closed => Err(closed()),
        }
    }

    /// Gives the file up. Nothing is left of it.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let stage = std::mem::replace(&mut self.state()?.stage, Stage::Closed);
        py.detach(|| drop(stage));
        Ok(())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*error))]
    fn __exit__(&self, py: Python<'_>, error: &Bound<'_, PyTuple>) -> PyResult<()> {
        if matches!(self.state()?.stage, Stage::Closed) {
            return Ok(());
        }
        if error.get_item(0)?.is_none() { self.finish(py).map(drop) } else { self.abort(py) }
    }

    fn __repr__(&self) -> String {
        let Ok(state) = self.state() else { return "<cvc.Writer, busy>".into() };
        let target = state
            .plan
            .path
            .as_ref()
            .map_or("memory".into(), |path| cvc_remote::shown(&path.display().to_string()));
        let stage = if matches!(state.stage, Stage::Closed) { "closed" } else { "open" };
        format!("<cvc.Writer {target}, {stage}: {} rows, layout {}>", state.rows, state.plan.layout)
    }
}

/// So many rounds of chunks for all cores go in at a time: rounds overlap, and a signal waits for them.
const STEPS: usize = 4;

/// The arrays of a batch by name.
fn batch<'py>(rows: &Bound<'py, PyAny>) -> PyResult<Vec<(String, Input<'py>)>> {
    let Ok(arrays) = rows.cast::<PyMapping>() else {
        return match Input::table(rows)? {
            Some(batch) => with_columns(batch),
            None => Ok(vec![(VECTORS.into(), Input::new(rows)?)]),
        };
    };
    let mut batch = Vec::new();
    for item in arrays.items()?.iter() {
        let (name, values): (String, Bound<'py, PyAny>) = item.extract()?;
        let input = Input::new(&values).map_err(|error| {
            let noted = error.value(rows.py()).call_method1("add_note", (format!("in array {name:?}"),));
            noted.err().unwrap_or(error)
        })?;
        batch.push((name, input));
    }
    if batch.is_empty() { Err(PyValueError::new_err("no arrays were given")) } else { Ok(batch) }
}

fn named_batch<'py>(columns: crate::arrow::Columns) -> PyResult<Vec<(String, Input<'py>)>> {
    with_columns(Input::named(columns))
}

fn with_columns<'py>(batch: Vec<(String, Input<'py>)>) -> PyResult<Vec<(String, Input<'py>)>> {
    if batch.is_empty() { Err(PyValueError::new_err("the table has no columns")) } else { Ok(batch) }
}

/// The batch in the order of the arrays of the file.
fn in_order<'b, 'py>(names: &[String], batch: &'b [(String, Input<'py>)]) -> PyResult<Vec<&'b Input<'py>>> {
    let of = |name: &String| batch.iter().find(|(given, _)| given == name).map(|(_, input)| input);
    let inputs: Option<Vec<&Input<'py>>> = names.iter().map(of).collect();
    inputs.filter(|inputs| inputs.len() == batch.len()).ok_or_else(|| {
        let given: Vec<&str> = batch.iter().map(|(name, _)| name.as_str()).collect();
        PyValueError::new_err(format!(
            "rows were given for {}; the file has {}",
            given.join(", "),
            names.join(", ")
        ))
    })
}
