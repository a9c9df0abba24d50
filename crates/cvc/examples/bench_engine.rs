//! This library as an engine of the benches: does what it is asked on standard input, one JSON object a line, and
//! answers each on standard output. Run by `cargo xtask bench`; benches/README.md has the protocol.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cvc::codec::SourceError;
use cvc::format::Stored;
use cvc::format::json::Style;
use cvc::input::{Matrix, Options};
use cvc::io::FileSource;
use cvc::io::mmap::Map;
use cvc::{
    AlignedBytes, ArrayOptions, Checksums, CpuBackend, DType, Json, Layout, ReadAt, ReadOptions, Reader,
    RowSlice, Rows, Scope, WriteOptions, Writer,
};

use cvc_cpu::Level;
use cvc_cpu::ops::{self, stores::fenced};
use rayon::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut engine = Engine::default();
    for line in io::stdin().lock().lines() {
        let answer = match Json::parse(line?.as_bytes(), 8)
            .map_err(Into::into)
            .and_then(|request| engine.answer(&request))
        {
            Ok(answer) => answer,
            Err(error) => Json::object([("error", Json::from(error.to_string()))]),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{}", answer.to_string_styled(Style::Compact))?;
        out.flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Engine {
    /// What the last load gave; with `reuse`, what the next one fills.
    values: Vec<f32>,
    /// What is packed or copied, read once.
    input: Option<Input>,
    /// A file that is loaded from memory, read once.
    memory: Option<(PathBuf, Arc<Vec<u8>>)>,
    /// What rows are read from.
    open: Option<Open>,
}

/// A file whose rows are wanted: one list of them after another.
struct Open {
    path: PathBuf,
    source: Shared,
    lists: Vec<Vec<u64>>,
    options: ReadOptions,
    /// For each list, unless files are opened with the clock running.
    readers: Vec<Arc<Reader>>,
}

/// How much of the work is done before the rows of a list are wanted.
enum State {
    /// None: the file is opened for every list.
    Closed,
    /// The file is open and it is known where blocks lie, but no block was read before, so every one is checked.
    Open,
    /// The same rows were read before, so no checksum is computed again.
    Read,
}

/// A source for several readers, so that each begins with nothing checked and all see the same map.
#[derive(Clone)]
enum Shared {
    File(Arc<FileSource>),
    Map(Arc<Map>),
    Memory(Arc<Vec<u8>>),
}

impl Shared {
    fn open(path: &Path, map: bool) -> Result<Shared> {
        Ok(if map {
            Shared::Map(Arc::new(Map::open(path)?))
        } else {
            Shared::File(Arc::new(FileSource::open(path)?))
        })
    }

    fn inner(&self) -> &dyn ReadAt {
        match self {
            Shared::File(file) => &**file,
            Shared::Map(map) => &**map,
            Shared::Memory(bytes) => &**bytes,
        }
    }
}

impl ReadAt for Shared {
    fn len(&self) -> u64 {
        self.inner().len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::result::Result<(), SourceError> {
        self.inner().read_at(offset, into)
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> std::result::Result<(), SourceError> {
        self.inner().read_ranges(ranges)
    }

    fn borrow(&self, range: Range<u64>) -> Option<&[u8]> {
        self.inner().borrow(range)
    }
}

/// A file that counts the bytes read of it.
struct Counting {
    file: FileSource,
    read: Arc<AtomicU64>,
}

impl ReadAt for Counting {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::result::Result<(), SourceError> {
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        self.file.read_at(offset, into)
    }
}

struct Input {
    path: PathBuf,
    rows: usize,
    dim: u32,
    bytes: AlignedBytes,
}

impl Engine {
    fn answer(&mut self, request: &Json) -> Result<Json> {
        match text(request, "do")? {
            "hello" => Ok(Json::object([
                ("engine", Json::from(concat!("cvc ", env!("CARGO_PKG_VERSION")))),
                ("detail", Json::from(cvc::Backend::device(&CpuBackend::new()).name.as_str())),
            ])),
            "load" if request.get("limit").is_some() => self.limit(request),
            "load" => self.load(request),
            "open" => self.open(request),
            "rows" => self.rows(request),
            "reads" => reads(request),
            "pack" => self.pack(request),
            "release" => {
                *self = Engine::default();
                Ok(Json::object([("released", Json::from(true))]))
            }
            other => Err(format!("cannot do `{other}`").into()),
        }
    }

    fn load(&mut self, request: &Json) -> Result<Json> {
        let path = Path::new(text(request, "path")?);
        let options = read_options(request);
        let (map, reuse) = (flag(request, "map", false), flag(request, "reuse", false));
        if !reuse {
            self.values = Vec::new();
        }
        let memory = match flag(request, "memory", false) {
            true => Some(Shared::Memory(self.memory(path)?)),
            false => None,
        };

        let started = Instant::now();
        let source = memory.map_or_else(|| Shared::open(path, map), Ok)?;
        let reader = Reader::new(Box::new(source), options)?;
        let array = reader.vectors()?;
        let (rows, dim) = (array.rows(), array.dim());
        if reuse && !self.values.is_empty() {
            array.read_into(.., &mut self.values)?;
        } else {
            self.values = array.read::<f32>(..)?;
        }
        let wall = started.elapsed();

        let mut answer = vec![
            ("wall_s", Json::from(wall.as_secs_f64())),
            ("rows", Json::from(rows)),
            ("dim", Json::from(u64::from(dim))),
        ];
        if flag(request, "crc32", false) {
            let crc32 = crc_fast::crc32_iso_hdlc(bytemuck::cast_slice(&self.values));
            answer.push(("crc32", Json::from(format!("{crc32:08x}"))));
        }
        Ok(Json::object(answer))
    }

    /// What decoding is compared with: the values of a `.npy`, which are in memory, copied by all threads in the way that
    /// `limit` names to memory that was filled before; or as many values written there that are all the same.
    fn limit(&mut self, request: &Json) -> Result<Json> {
        let path = Path::new(text(request, "path")?);
        if self.input.as_ref().is_none_or(|held| held.path != path) {
            self.input = Some(Input::read(path)?);
        }
        let input = self.input.as_ref().ok_or("no input")?;
        let values: &[f32] = bytemuck::cast_slice(input.bytes.bytes());
        self.values.resize(values.len(), 1.0);

        let started = Instant::now();
        copy(text(request, "limit")?, values, &mut self.values)?;
        let wall = started.elapsed();

        let mut answer = vec![
            ("wall_s", Json::from(wall.as_secs_f64())),
            ("rows", Json::from(input.rows as u64)),
            ("dim", Json::from(u64::from(input.dim))),
        ];
        if flag(request, "crc32", false) {
            let crc32 = crc_fast::crc32_iso_hdlc(bytemuck::cast_slice(&self.values));
            answer.push(("crc32", Json::from(format!("{crc32:08x}"))));
        }
        Ok(Json::object(answer))
    }

    /// All bytes of a file.
    fn memory(&mut self, path: &Path) -> Result<Arc<Vec<u8>>> {
        match &self.memory {
            Some((held, bytes)) if held == path => Ok(bytes.clone()),
            _ => {
                let bytes = Arc::new(std::fs::read(path)?);
                self.memory = Some((path.to_owned(), bytes.clone()));
                Ok(bytes)
            }
        }
    }

    /// Makes ready to read lists of rows. What is open already stays open, and its map warm.
    fn open(&mut self, request: &Json) -> Result<Json> {
        let path = Path::new(text(request, "path")?);
        let state = match text(request, "state")? {
            "closed" => State::Closed,
            "open" => State::Open,
            "read" => State::Read,
            other => return Err(format!("no state `{other}`").into()),
        };
        if self.open.is_none() {
            let source = Shared::open(path, flag(request, "map", false))?;
            let (lists, options) = (lists(request)?, read_options(request));
            self.open = Some(Open { path: path.to_owned(), source, lists, options, readers: Vec::new() });
        }
        let open = self.open.as_mut().ok_or("nothing is open")?;
        match state {
            State::Closed => {}
            State::Open => open.readers = open.lists.iter().map(|_| open.reader()).collect::<Result<_>>()?,
            State::Read if open.readers.is_empty() => {
                let reader = open.reader()?;
                for list in &open.lists {
                    reader.vectors()?.read::<f32>(list.as_slice())?;
                }
                open.readers = vec![reader; open.lists.len()];
            }
            State::Read => {}
        }
        Ok(Json::object([("opened", Json::from(true))]))
    }

    /// Reads list after list, each as if it were the only one.
    fn rows(&mut self, request: &Json) -> Result<Json> {
        let open = self.open.as_ref().ok_or("nothing is open")?;
        let map = matches!(open.source, Shared::Map(_));
        let check = flag(request, "crc32", false);
        let mut crc32 = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
        let (mut rows, mut dim) = (0, 0);

        let started = Instant::now();
        for (at, list) in open.lists.iter().enumerate() {
            let mut opened = None;
            let reader = match open.readers.get(at) {
                Some(reader) => reader,
                None => opened
                    .insert(Arc::new(Reader::new(Box::new(Shared::open(&open.path, map)?), open.options)?)),
            };
            let array = reader.vectors()?;
            let values = array.read::<f32>(list.as_slice())?;
            (rows, dim) = (rows + list.len() as u64, array.dim());
            if check {
                crc32.update(bytemuck::cast_slice(&values));
            }
        }
        let wall = started.elapsed();

        let mut answer = vec![
            ("wall_s", Json::from(wall.as_secs_f64())),
            ("rows", Json::from(rows)),
            ("dim", Json::from(u64::from(dim))),
        ];
        if check {
            answer.push(("crc32", Json::from(format!("{:08x}", crc32.finalize()))));
        }
        Ok(Json::object(answer))
    }

    /// Packs rows that are in memory already, so that reading them is no part of it.
    fn pack(&mut self, request: &Json) -> Result<Json> {
        let (input, output) = (Path::new(text(request, "input")?), text(request, "path")?);
        if self.input.as_ref().is_none_or(|held| held.path != input) {
            self.input = Some(Input::read(input)?);
        }
        let input = self.input.as_ref().ok_or("no input")?;
        let layout = match text(request, "layout")? {
            "v0" => Layout::V0,
            "v1" => Layout::V1,
            "native" => Layout::Native,
            other => return Err(format!("layout `{other}` is not measured").into()),
        };
        let rows = RowSlice::from_bytes(DType::F32, input.rows, input.dim as usize, input.bytes.bytes())?;

        let started = Instant::now();
        let mut array = ArrayOptions::values("vectors", rows.dtype(), &[input.dim], text(request, "codec")?);
        if let Some(rows) = number(request, "block_rows") {
            array = array.block_rows(rows.try_into()?);
        }
        if let Some(scope) = request.get("scope") {
            array = array.scope(scope_of(scope)?);
        }
        let mut options = WriteOptions::new(layout).with_array(array)?;
        if let Some(rows) = number(request, "chunk_rows") {
            options = options.chunk_rows(rows.try_into()?)?;
        }
        let mut writer = Writer::create(output, options)?;
        writer.write_vectors(rows)?;
        let written = writer.finish()?;
        let wall = started.elapsed();

        Ok(Json::object([
            ("wall_s", Json::from(wall.as_secs_f64())),
            ("rows", Json::from(written.rows)),
            ("dim", Json::from(u64::from(input.dim))),
            ("file_len", Json::from(written.file_len)),
        ]))
    }
}

impl Input {
    fn read(path: &Path) -> Result<Input> {
        let matrix = Matrix::open(path, &Options::default())?;
        let mut scratch = AlignedBytes::new();
        let mapped = matrix.read(0..matrix.rows(), &mut scratch)?;
        let mut bytes = AlignedBytes::new();
        bytes.resize(mapped.len()).copy_from_slice(mapped);
        Ok(Input { path: path.to_owned(), rows: usize::try_from(matrix.rows())?, dim: matrix.dim(), bytes })
    }
}

impl Open {
    /// A reader that has checked nothing and knows where the blocks of every chunk lie.
    fn reader(&self) -> Result<Arc<Reader>> {
        let reader = Reader::new(Box::new(self.source.clone()), self.options)?;
        reader.vectors()?.byte_ranges(Rows::ALL, u64::MAX)?;
        Ok(Arc::new(reader))
    }
}

/// Copies values in pieces of the size that ops are called with, or the whole share of a thread at once for `memcpy`, which
/// looks at the length.
fn copy(way: &str, values: &[f32], out: &mut [f32]) -> Result<()> {
    const PIECE: usize = 1 << 15;
    let level = Level::best();
    let piece = match way {
        "memcpy" => values.len().div_ceil(rayon::current_num_threads()).max(1),
        "streaming" | "constant" => PIECE,
        other => return Err(format!("no way to copy that is called `{other}`").into()),
    };
    out.par_chunks_mut(piece).zip(values.par_chunks(piece)).for_each(|(out, values)| match way {
        "memcpy" => out.copy_from_slice(values),
        "streaming" => fenced(level, |stores| {
            ops::copy::copy(level, stores, bytemuck::cast_slice(values), 4, bytemuck::cast_slice_mut(out));
        }),
        // A row of zero codes.
        _ => {
            let zeros = [0; PIECE];
            fenced(level, |stores| {
                ops::affine_u8::affine_u8(level, stores, &zeros[..out.len()], 0.0, 1.0, out)
            });
        }
    });
    Ok(())
}

/// How many bytes the first list of rows costs in a file that was not open, and what they are.
fn reads(request: &Json) -> Result<Json> {
    let path = Path::new(text(request, "path")?);
    let rows = lists(request)?.swap_remove(0);
    let read = Arc::new(AtomicU64::new(0));
    let source = Counting { file: FileSource::open(path)?, read: read.clone() };
    let file_len = source.len();
    let reader = Reader::new(Box::new(source), read_options(request))?;
    let array = reader.vectors()?;
    array.read::<f32>(rows.as_slice())?;
    let read_bytes = read.load(Ordering::Relaxed);

    // What the file says of the blocks that hold these rows.
    let chunks = &array.index().chunks;
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Err("no rows".into()) };
    let chunk_bytes = last.bytes.end - first.bytes.start;
    let (mut touched, mut blocks) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let chunk = array.index().chunk_of(row);
        let within = u32::try_from(row - chunks[chunk.index()].rows.start)?;
        touched.insert(chunk);
        let (_, parts) = array.stored(chunk)?;
        blocks.extend(parts.blocks_of(within..within + 1).map(|block| (chunk, block)));
    }
    let mut table_bytes = 0;
    for chunk in &touched {
        let Stored::Blocked(blocked) = &chunks[chunk.index()].stored else {
            return Err("no native file".into());
        };
        table_bytes += u64::from(blocked.head_len);
    }
    let mut block_bytes = 0;
    for (chunk, block) in &blocks {
        block_bytes += array.stored(*chunk)?.1.len_of(*block..block + 1);
    }
    Ok(Json::object([
        ("read_bytes", Json::from(read_bytes)),
        ("index_bytes", Json::from(file_len - chunk_bytes)),
        ("table_bytes", Json::from(table_bytes)),
        ("block_bytes", Json::from(block_bytes)),
        ("blocks", Json::from(blocks.len() as u64)),
    ]))
}

fn read_options(request: &Json) -> ReadOptions {
    let mut options = ReadOptions::default();
    if !flag(request, "checksums", true) {
        options.checksums = Checksums::Never;
    }
    options
}

/// Lists of rows, in the order in which they are wanted.
fn lists(request: &Json) -> Result<Vec<Vec<u64>>> {
    let lists = request.get("lists").and_then(Json::as_array).ok_or("the request has no `lists`")?;
    let numbers = |list: &Json| list.as_array()?.iter().map(Json::as_u64).collect::<Option<Vec<u64>>>();
    let lists: Option<Vec<Vec<u64>>> = lists.iter().map(numbers).collect();
    lists.filter(|lists| !lists.is_empty()).ok_or_else(|| "`lists` are not lists of rows".into())
}

fn scope_of(name: &Json) -> Result<Scope> {
    let scopes = [Scope::Row, Scope::Dim, Scope::Chunk];
    let scope = scopes.into_iter().find(|scope| name.as_str() == Some(scope.name()));
    scope.ok_or_else(|| format!("no scope {}", name.to_string_styled(Style::Compact)).into())
}

fn number(request: &Json, key: &str) -> Option<u64> {
    request.get(key).and_then(Json::as_u64)
}

fn text<'a>(request: &'a Json, key: &str) -> Result<&'a str> {
    request.get(key).and_then(Json::as_str).ok_or_else(|| format!("the request has no text `{key}`").into())
}

fn flag(request: &Json, key: &str, default: bool) -> bool {
    request.get(key).and_then(Json::as_bool).unwrap_or(default)
}
