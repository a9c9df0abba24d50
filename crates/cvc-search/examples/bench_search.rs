//! Search as an engine of the benches: does what it is asked on standard input, one JSON object a line, and answers each on
//! standard output. Run by `cargo xtask bench`; benches/README.md has the protocol. By hand:
//!
//! ```text
//! {"do": "open_search", "path": "vectors.cvc", "queries": "queries.npy", "k": 10, "metric": "cosine"}
//! {"do": "search", "count": 100, "answer": true}
//! ```

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use cvc::format::json::Style;
use cvc::input::{Matrix, Options};
use cvc::{AlignedBytes, Checksums, CpuBackend, Json, ReadOptions, Reader, RowSlice};
use cvc_search::{Answer, Metric, Search};

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
    open: Option<Open>,
}

/// A file that is searched, and what for.
struct Open {
    reader: Reader,
    /// The array to search; by default that of the vectors.
    array: Option<String>,
    /// The array that scores candidates again, and how many of them.
    rescore: Option<(String, usize)>,
    metric: Metric,
    k: usize,
    queries: Vec<f32>,
    dim: usize,
}

impl Engine {
    fn answer(&mut self, request: &Json) -> Result<Json> {
        match text(request, "do")? {
            "hello" => Ok(Json::object([
                ("engine", Json::from(concat!("cvc ", env!("CARGO_PKG_VERSION")))),
                ("detail", Json::from(cvc::Backend::device(&CpuBackend::new()).name.as_str())),
            ])),
            "open_search" => {
                self.open = None;
                let open = Open::new(request)?;
                let bytes = open.scanned()?;
                self.open = Some(open);
                Ok(Json::object([("opened", Json::from(true)), ("scanned_bytes", Json::from(bytes))]))
            }
            "search" => self.open.as_ref().ok_or("nothing is open")?.search(request),
            "release" => {
                self.open = None;
                Ok(Json::object([("released", Json::from(true))]))
            }
            other => Err(format!("cannot do `{other}`").into()),
        }
    }
}

impl Open {
    fn new(request: &Json) -> Result<Open> {
        let path = Path::new(text(request, "path")?);
        let mut options = ReadOptions::default();
        if !flag(request, "checksums", true) {
            options.checksums = Checksums::Never;
        }
        // Without a map blocks are read one after another, into memory that is used again.
        let reader = match flag(request, "map", true) {
            true => Reader::new(Box::new(cvc::io::mmap::Map::open(path)?), options)?,
            false => Reader::new(Box::new(cvc::io::FileSource::open(path)?), options)?,
        };
        let queries = Matrix::open(text(request, "queries")?.as_ref(), &Options::default())?;
        let mut scratch = AlignedBytes::new();
        let values = bytemuck::cast_slice(queries.read(0..queries.rows(), &mut scratch)?).to_vec();
        let name = |key| request.get(key).and_then(Json::as_str).map(str::to_owned);
        let open = Open {
            reader,
            array: name("array"),
            rescore: name("rescore").zip(number(request, "candidates")?),
            metric: text(request, "metric")?.parse()?,
            k: number(request, "k")?.ok_or("the request has no number `k`")?,
            queries: values,
            dim: queries.dim() as usize,
        };
        open.searcher()?;
        Ok(open)
    }

    fn searcher(&self) -> Result<Search<'_>> {
        let search = Search::new(self.searched()?, self.metric).k(self.k);
        Ok(match &self.rescore {
            Some((array, candidates)) => search.rescore(self.reader.array(array)?, *candidates),
            None => search,
        })
    }

    fn searched(&self) -> Result<cvc::Array<'_>> {
        Ok(match &self.array {
            Some(name) => self.reader.array(name)?,
            None => self.reader.vectors()?,
        })
    }

    /// The bytes of the array that a search goes through.
    fn scanned(&self) -> Result<u64> {
        let array = self.searched()?;
        let chunks = &array.index().chunks;
        Ok(chunks.iter().map(|chunk| chunk.bytes.end - chunk.bytes.start).sum())
    }

    /// Answers `count` queries from the one numbered `first` on.
    fn search(&self, request: &Json) -> Result<Json> {
        let count = number(request, "count")?.ok_or("the request has no number `count`")?;
        let first = number(request, "first")?.unwrap_or(0);
        let queries =
            self.queries.get(first * self.dim..(first + count) * self.dim).ok_or("not so many queries")?;
        let search = self.searcher()?;

        let started = Instant::now();
        let answer = search.run(RowSlice::new(queries, self.dim)?)?;
        let wall = started.elapsed();

        let mut fields = vec![
            ("wall_s", Json::from(wall.as_secs_f64())),
            ("queries", Json::from(count as u64)),
            ("scored", Json::from(answer.scored)),
        ];
        if flag(request, "answer", false) {
            fields.extend(found(&answer));
        }
        Ok(Json::object(fields))
    }
}

/// For each query its best rows, the best first, and their scores.
fn found(answer: &Answer) -> [(&'static str, Json); 2] {
    let lists = |number: &dyn Fn(&cvc_search::Hit) -> Json| {
        let list = |hits: &Vec<cvc_search::Hit>| Json::from(hits.iter().map(number).collect::<Vec<_>>());
        Json::from(answer.hits.iter().map(list).collect::<Vec<_>>())
    };
    [
        ("indices", lists(&|hit| Json::from(hit.row))),
        ("scores", lists(&|hit| Json::from(f64::from(hit.score)))),
    ]
}

fn number(request: &Json, key: &str) -> Result<Option<usize>> {
    Ok(request.get(key).and_then(Json::as_u64).map(usize::try_from).transpose()?)
}

fn text<'a>(request: &'a Json, key: &str) -> Result<&'a str> {
    request.get(key).and_then(Json::as_str).ok_or_else(|| format!("the request has no text `{key}`").into())
}

fn flag(request: &Json, key: &str, default: bool) -> bool {
    request.get(key).and_then(Json::as_bool).unwrap_or(default)
}
