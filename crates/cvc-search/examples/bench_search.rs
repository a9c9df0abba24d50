//! Times searches of one file; benches/search.py runs it beside others.
//!
//!     bench_search FILE QUERIES.npy K METRIC [ARRAY]
//!
//! Opens the file through a map, answers the queries once, and prints the answer (rows, then scores, one line for each query). Then, for every
//! line `COUNT` on standard input, answers the first COUNT queries and prints the seconds it took.

use std::io::{BufRead, Write};
use std::time::Instant;

use cvc::{Reader, RowSlice};
use cvc_search::Search;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, queries, k, metric, array @ ..] = arguments.as_slice() else {
        return Err("see the source for usage".into());
    };
    let reader = Reader::open_mapped(file)?;
    let array = match array {
        [name] => reader.array(name)?,
        _ => reader.vectors()?,
    };
    let queries = cvc::input::Matrix::open(queries.as_ref(), &cvc::input::Options::default())?;
    let dim = queries.dim() as usize;
    let mut scratch = cvc::AlignedBytes::new();
    let values: Vec<f32> = bytemuck::cast_slice(queries.read(0..queries.rows(), &mut scratch)?).to_vec();
    let search = Search::new(array, metric.parse()?).k(k.parse()?);
    let run = |count: usize| {
        search.run(RowSlice::new(&values[..count * dim], dim)?).map_err(Box::<dyn std::error::Error>::from)
    };
    let mut out = std::io::stdout().lock();
    let answer = run(values.len() / dim)?;
    for hits in &answer.hits {
        let rows: Vec<String> = hits.iter().map(|hit| hit.row.to_string()).collect();
        let scores: Vec<String> = hits.iter().map(|hit| hit.score.to_string()).collect();
        writeln!(out, "{} {}", rows.join(","), scores.join(","))?;
    }
    writeln!(out, "scored {}", answer.scored)?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let count = line?.trim().parse()?;
        let start = Instant::now();
        run(count)?;
        writeln!(out, "{}", start.elapsed().as_secs_f64())?;
        out.flush()?;
    }
    Ok(())
}
