//! `cvc recall`

use std::path::Path;
use std::time::Instant;

use cvc::input::Matrix;
use cvc::{AlignedBytes, Array, RowSlice};
use cvc_search::recall::{Counted, Recall, TruthError, measure, truth_of};
use cvc_search::{Queries as Scorer, first_values};
use serde_json::{Map, Value, json};

use crate::args::RecallArgs;
use crate::interrupt::Interrupt;
use crate::lines::has_extension;
use crate::queries::{Queries, candidates, failed, open, open_matrix, passed_over, search_of, warn};
use crate::report::{Failure, to_stdout, wrong};
use crate::rows::number;

/// Lengths of lists that recall is told for, beside the one asked for.
const USUAL: [usize; 3] = [1, 10, 100];

pub(crate) fn run(args: &RecallArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let asked = &args.searched;
    let interrupt = Interrupt::catch();
    let (reader, bar) = open(&args.file, &interrupt, asked)?;
    let (search, array) = search_of(asked, &args.file, &reader)?;
    let (truth, width) = load_truth(&args.truth, array.rows())?;
    let k = asked.k as usize;
    if k > width {
        return Err(Failure::Search(TruthError::Short { width, k }.into()));
    }
    let mut ks: Vec<usize> = USUAL.into_iter().filter(|usual| *usual <= width).collect();
    ks.push(k);
    ks.sort_unstable();
    ks.dedup();
    let queries = Queries::load(&args.queries, asked, &array)?;
    let rows = queries.rows()?;
    let measured = match &args.against {
        None => measure(&search, &asked.device, rows, &truth, &ks, None),
        Some(path) => {
            let originals = Originals::open(path, &array)?;
            let scorer = Scorer::new(asked.metric, rows).map_err(|error| Failure::Search(error.into()))?;
            let mut true_score = |query, row| originals.score(&scorer, query, row);
            measure(&search, &asked.device, rows, &truth, &ks, Some(&mut true_score))
        }
    };
    let measured = measured.map_err(failed(&interrupt))?;
    bar.finish_and_clear();

    let (answer, seconds) = (&measured.answer, started.elapsed().as_secs_f64());
    let at_k = measured.at.iter().find(|recall| recall.k == k).expect("it was asked for");
    if asked.json {
        let at = measured.at.iter().map(|recall| {
            let Recall { k, wanted, found, ties, .. } = recall;
            json!({ "k": k, "recall": recall.share(), "found": found, "wanted": wanted, "ties": ties })
        });
        let mut object = json!({
            "recall": at_k.share(),
            "k": k,
            "counted": measured.counted.name(),
            "at": at.collect::<Vec<Value>>(),
            "queries": answer.hits.len(),
            "metric": answer.metric.name(),
            "array": array.index().name,
            "nan_rows": answer.nan_rows,
            "scored": answer.scored,
            "device": measured.chosen.backend.device().kind.name(),
            "passed_over": passed_over(&measured.chosen),
            "seconds": seconds,
        });
        if let (Some(name), Some(object)) = (&asked.rescore, object.as_object_mut()) {
            let rescore =
                [("rescore".to_owned(), json!(name)), ("candidates".into(), json!(candidates(asked)))];
            object.extend(rescore.into_iter().collect::<Map<_, _>>());
        }
        return crate::json::print(&object);
    }
    warn(&measured.chosen, &answer.nan_rows);
    let counted = match measured.counted {
        Counted::Rows => "counted by numbers of rows",
        Counted::Scores => "counted by distance to the originals",
    };
    let mut text = format!("{:>5} {:>8} {:>9} {:>9}\n", "k", "recall", "found", "wanted");
    for recall in &measured.at {
        text += &format!(
            "{:>5} {:>8} {:>9} {:>9}\n",
            recall.k,
            share(recall.share()),
            recall.found,
            recall.wanted
        );
    }
    text += &format!(
        "recall@{k} {} of {} queries by {}, {counted}, in {seconds:.2} s",
        share(at_k.share()),
        answer.hits.len(),
        answer.metric
    );
    if at_k.ties > 0 {
        let (s, have) = if at_k.ties == 1 { ("", "has") } else { ("s", "have") };
        text += &format!(
            "\n{} more row{s} of the truth {have} the score, in the file, of the last row found: {} if such ties counted (--against \
             ORIGINAL tells)",
            at_k.ties,
            share(at_k.share_with_ties())
        );
    }
    to_stdout(&text)
}

/// `0.9962`
fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{share:.4}"))
}

/// The true rows of each query, and how many stand in the file for each.
fn load_truth(path: &Path, rows: u64) -> Result<(Vec<Vec<u64>>, usize), Failure> {
    let member = has_extension(path, "npz").then_some("indices");
    let matrix = open_matrix(path, "TRUTH", member)?;
    if matrix.dtype().is_float() || matrix.scalar() || matrix.dim() == 0 {
        let (dim, dtype) = (matrix.dim(), matrix.dtype());
        let problem =
            format!("it holds rows of {dim} {dtype}; for each query a list of row numbers is needed");
        return Err(wrong("TRUTH", path.display(), problem));
    }
    let dtype = matrix.dtype();
    let mut scratch = AlignedBytes::new();
    let bytes = matrix.read(0..matrix.rows(), &mut scratch)?;
    // Beyond all rows there are, whatever it is.
    let numbers = bytes.chunks_exact(dtype.size()).map(|bytes| match number(dtype, bytes) {
        Some(number) => i64::try_from(number).unwrap_or(i64::MAX),
        None if bytes.iter().all(|byte| *byte == 0xff) => -1,
        None => i64::MIN,
    });
    let truth = truth_of(numbers, matrix.dim() as usize, rows);
    Ok((truth.map_err(|error| Failure::Search(error.into()))?, matrix.dim() as usize))
}

/// The rows that an array was made of.
struct Originals {
    matrix: Matrix,
    /// Values of each row that are looked at.
    dim: usize,
}

impl Originals {
    fn open(path: &Path, array: &Array<'_>) -> Result<Originals, Failure> {
        let matrix = open_matrix(path, "--against", None)?;
        let (rows, dim) = (matrix.rows(), matrix.dim());
        if rows != array.rows() || dim != array.index().dim {
            let of_array = (array.rows(), array.index().dim);
            let error = TruthError::Originals { rows, dim, array_rows: of_array.0, array_dim: of_array.1 };
            return Err(Failure::Search(error.into()));
        }
        Ok(Originals { matrix, dim: array.dim() as usize })
    }

    fn score(&self, scorer: &Scorer<'_>, query: usize, row: u64) -> Result<f32, cvc_search::Error> {
        let (dtype, dim) = (self.matrix.dtype(), self.matrix.dim() as usize);
        Scorer::row_dtype(scorer.metric(), dtype)?;
        let mut scratch = AlignedBytes::new();
        let bytes = self.matrix.read(row..row + 1, &mut scratch).map_err(cvc::Error::from)?;
        let values = RowSlice::from_bytes(dtype, 1, dim, bytes).map_err(cvc::Error::from)?;
        if self.dim == dim {
            return Ok(scorer.score(query, values));
        }
        let first = first_values(values, self.dim);
        let first = RowSlice::from_bytes(dtype, 1, self.dim, first.bytes()).map_err(cvc::Error::from)?;
        Ok(scorer.score(query, first))
    }
}
