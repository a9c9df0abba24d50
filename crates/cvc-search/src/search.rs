//! One search, as it is asked for.

use cvc::codec::scan::{Found, Hit, Metric, Queries};
use cvc::{AnyBackend, Array, CpuBackend, DType, RowSlice, Rows};

use crate::error::Error;

/// Bytes of decoded rows that rescoring holds at a time.
const RESCORED_LEN: usize = 16 << 20;

/// A search that can be run for any queries.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    array: Array<'a>,
    metric: Metric,
    k: usize,
    rows: Rows,
    rescore: Option<(Array<'a>, usize)>,
    backend: Option<&'a AnyBackend>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The metric of the scores.
    pub metric: Metric,
    /// For each query its best rows, the best first: `k` of them, or as many as there are rows with a score.
    pub hits: Vec<Vec<Hit>>,
    /// For each query, how many rows have no score, because they hold NaN.
    pub nan_rows: Vec<u64>,
    /// Pairs of a query and a row that were looked at closely; the others were ruled out by a bound.
    pub scored: u64,
}

impl<'a> Search<'a> {
    /// The ten best of all rows of an array, on the processor.
    pub fn new(array: Array<'a>, metric: Metric) -> Self {
        Search { array, metric, k: 10, rows: Rows::ALL, rescore: None, backend: None }
    }

    /// So many rows for each query.
    #[must_use]
    pub fn k(self, k: usize) -> Self {
        Search { k, ..self }
    }

    /// Only among these rows: ranges, single rows, or those of sections ([`cvc::Reader::find`]). Their order does not matter.
    #[must_use]
    pub fn rows(self, rows: impl Into<Rows>) -> Self {
        Search { rows: rows.into(), ..self }
    }

    /// In two stages: the best `candidates` rows of this search's array are scored again by `array`, which holds the same vectors in
    /// another codec, and the best of those are the answer. It is approximate: a row that is not among the candidates is not found.
    #[must_use]
    pub fn rescore(self, array: Array<'a>, candidates: usize) -> Self {
        Search { rescore: Some((array, candidates)), ..self }
    }

    /// On this device.
    #[must_use]
    pub fn on(self, backend: &'a AnyBackend) -> Self {
        Search { backend: Some(backend), ..self }
    }

    /// The best rows for each query: rows of the dim of the array, of any real dtype, or of bytes for a metric of bits.
    ///
    /// # Errors
    /// Queries that make no sense for the metric or the array, rows that do not exist, damage, a device that cannot do it.
    pub fn run(&self, queries: RowSlice<'_>) -> Result<Answer, Error> {
        let queries = Queries::new(self.metric, queries)?;
        let Some((array, candidates)) = &self.rescore else {
            return Ok(self.answer(self.scan(&queries, self.k)?));
        };
        let (of, by) = (self.array.index(), array.index());
        if (self.array.rows(), self.array.dim()) != (array.rows(), array.dim()) {
            return Err(Error::Rescore {
                array: of.name.clone(),
                rows: self.array.rows(),
                dim: self.array.dim(),
                rescore: by.name.clone(),
                rescore_rows: array.rows(),
                rescore_dim: array.dim(),
            });
        }
        let coarse = self.scan(&queries, (*candidates).max(self.k))?;
        let fine = rescored(array, &queries, self.k, coarse)?;
        Ok(self.answer(fine))
    }

    fn scan(&self, queries: &Queries<'_>, k: usize) -> Result<Found, Error> {
        let rows = self.rows.clone();
        Ok(match self.backend {
            Some(backend) => backend.scan(&self.array, rows, queries, k)?,
            None => self.array.scan(&CpuBackend::new(), rows, queries, k)?,
        })
    }

    fn answer(&self, found: Found) -> Answer {
        let hits = found.tops.into_iter().map(|top| top.into_hits(self.metric)).collect();
        Answer { metric: self.metric, hits, nan_rows: found.nan_rows, scored: found.scored }
    }
}

/// The candidates with their scores by `array`, each row read once.
fn rescored(array: &Array<'_>, queries: &Queries<'_>, k: usize, coarse: Found) -> Result<Found, Error> {
    let metric = queries.metric();
    let mut fine = Found { nan_rows: coarse.nan_rows, ..Found::new(queries.len(), k) };
    let mut pairs: Vec<(u64, usize)> = Vec::new();
    for (query, top) in coarse.tops.into_iter().enumerate() {
        pairs.extend(top.into_hits(metric).into_iter().map(|hit| (hit.row, query)));
    }
    pairs.sort_unstable();
    let dtype = Queries::row_dtype(metric, array.dtype()?)?;
    let dim = array.dim() as usize;
    let row_len = dim * dtype.size();
    let at_a_time = (RESCORED_LEN / row_len.max(1)).max(1);
    let mut rows: Vec<u64> = pairs.iter().map(|(row, _)| *row).collect();
    rows.dedup();
    let mut pairs = pairs.into_iter().peekable();
    for rows in rows.chunks(at_a_time) {
        let values = read(array, rows, dtype)?;
        for (at, row) in rows.iter().enumerate() {
            let values = &values.bytes()[at * row_len..(at + 1) * row_len];
            let values = RowSlice::from_bytes(dtype, 1, dim, values).map_err(cvc::Error::from)?;
            while let Some((_, query)) = pairs.next_if(|(of, _)| of == row) {
                fine.offer(metric, query, *row, queries.score(query, values));
            }
        }
    }
    fine.scored += coarse.scored;
    Ok(fine)
}

/// Rows of an array, whatever their dtype.
fn read(array: &Array<'_>, rows: &[u64], dtype: DType) -> Result<cvc::AlignedBytes, Error> {
    let mut values = cvc::AlignedBytes::new();
    values.resize(array.decoded_len(rows, dtype)?);
    let mut buffer = cvc::HostBuffer::from_bytes(dtype, values.bytes_mut()).map_err(cvc::Error::from)?;
    array.decode(&CpuBackend::new(), rows, dtype, &mut buffer)?;
    Ok(values)
}
