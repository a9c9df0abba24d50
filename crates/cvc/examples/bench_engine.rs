//! This library as an engine of the benches: does what it is asked on standard input, one JSON object a line, and
//! answers each on standard output. Run by `cargo xtask bench`; benches/README.md has the protocol.

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use cvc::format::json::Style;
use cvc::input::{Matrix, Options};
use cvc::io::FileSource;
use cvc::io::mmap::Map;
use cvc::{
    AlignedBytes, Checksums, CpuBackend, Json, Layout, ReadAt, ReadOptions, Reader, RowSlice, WriteOptions,
    Writer,
};

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
    /// What is packed, read once.
    input: Option<Input>,
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
            "load" => self.load(request),
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
        let mut options = ReadOptions::default();
        if !flag(request, "checksums", true) {
            options.checksums = Checksums::Never;
        }
        let (map, reuse) = (flag(request, "map", false), flag(request, "reuse", false));
        if !reuse {
            self.values = Vec::new();
        }

        let started = Instant::now();
        let source: Box<dyn ReadAt> =
            if map { Box::new(Map::open(path)?) } else { Box::new(FileSource::open(path)?) };
        let reader = Reader::new(source, options)?;
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
            let crc32 = crc32fast::hash(bytemuck::cast_slice(&self.values));
            answer.push(("crc32", Json::from(format!("{crc32:08x}"))));
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
            other => return Err(format!("layout `{other}` is not measured").into()),
        };
        let rows =
            RowSlice::from_bytes(cvc::DType::F32, input.rows, input.dim as usize, input.bytes.bytes())?;

        let started = Instant::now();
        let mut options =
            WriteOptions::new(layout).vectors(rows.dtype(), input.dim, text(request, "codec")?)?;
        if let Some(rows) = request.get("chunk_rows").and_then(Json::as_u64) {
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

fn text<'a>(request: &'a Json, key: &str) -> Result<&'a str> {
    request.get(key).and_then(Json::as_str).ok_or_else(|| format!("the request has no text `{key}`").into())
}

fn flag(request: &Json, key: &str, default: bool) -> bool {
    request.get(key).and_then(Json::as_bool).unwrap_or(default)
}
