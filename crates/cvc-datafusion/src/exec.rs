//! The part of a plan that reads files.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::vec;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use cvc_arrow::Table;
use datafusion_common::stats::Precision;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{ColumnStatistics, DataFusionError, Result, Statistics, assert_or_internal_err};
use datafusion_common_runtime::SpawnedTask;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion_physical_plan::statistics::StatisticsArgs;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures_util::stream;

use crate::bridge;
use crate::error::Error;

/// Rows of a file that are read at a time, and end where blocks do.
#[derive(Clone)]
pub(crate) struct Piece {
    /// What to call the file.
    pub(crate) uri: Arc<str>,
    pub(crate) table: Table,
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) rows: u64,
}

impl Piece {
    fn read(&self, schema: SchemaRef) -> Result<RecordBatch> {
        let batch = self.table.read(&self.ranges).map_err(|error| of_file(&self.uri, error))?;
        let passed = bridge::batch(&batch, schema);
        Ok(passed.map_err(|cause| Error::Arrow { uri: self.uri.to_string(), cause })?)
    }
}

/// Reads rows of files: each partition some pieces of them, one after another, on threads for work that blocks.
pub struct CvcExec {
    schema: SchemaRef,
    /// All rows, of whatever limit.
    pieces: Arc<[Piece]>,
    /// Those up to the limit, by partition.
    partitions: Vec<Vec<Piece>>,
    /// How many partitions were wanted.
    target: usize,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for CvcExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CvcExec")
            .field("schema", &self.schema)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl CvcExec {
    /// `schema` is that of the tables of the pieces.
    pub(crate) fn new(
        schema: SchemaRef,
        pieces: Arc<[Piece]>,
        target: usize,
        limit: Option<usize>,
    ) -> CvcExec {
        let wanted = first(&pieces, limit.map_or(u64::MAX, |limit| limit as u64));
        let partitions = shared(wanted, target.max(1));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        CvcExec {
            schema,
            pieces,
            partitions,
            target,
            limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    fn rows(&self, partition: Option<usize>) -> u64 {
        let of = |pieces: &Vec<Piece>| pieces.iter().map(|piece| piece.rows).sum::<u64>();
        match partition {
            Some(partition) => of(&self.partitions[partition]),
            None => self.partitions.iter().map(of).sum(),
        }
    }
}

/// A partition while it is read. Nobody waits on a thread for its batches to be taken: a query may read one side of a join to its end before
/// it takes anything of the other, and the threads for such work are few.
struct Reading {
    pieces: vec::IntoIter<Piece>,
    /// The next piece, which is read while the one before it is taken.
    ahead: Option<SpawnedTask<Result<RecordBatch>>>,
    /// What is left of the piece that was read last.
    rest: RecordBatch,
    /// Rows of a batch.
    most: usize,
    metrics: BaselineMetrics,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(RecordBatch, Reading)>> {
        while self.rest.num_rows() == 0 {
            let Some(task) = self.ahead.take().or_else(|| self.begin()) else { return Ok(None) };
            self.ahead = self.begin();
            let read = task.join_unwind().await;
            self.rest = read.map_err(|error| DataFusionError::External(Box::new(error)))??;
        }
        let rows = self.rest.num_rows();
        let count = rows.min(self.most);
        let batch = self.rest.slice(0, count);
        self.rest = self.rest.slice(count, rows - count);
        self.metrics.record_output(count);
        Ok(Some((batch, self)))
    }

    /// Begins to read the next piece.
    fn begin(&mut self) -> Option<SpawnedTask<Result<RecordBatch>>> {
        let piece = self.pieces.next()?;
        let (schema, time) = (self.rest.schema(), self.metrics.elapsed_compute().clone());
        Some(SpawnedTask::spawn_blocking(move || {
            let _timer = time.timer();
            piece.read(schema)
        }))
    }
}

/// What went wrong with a file while its rows were read.
fn of_file(uri: &str, error: arrow_schema::ArrowError) -> DataFusionError {
    match error {
        arrow_schema::ArrowError::ExternalError(cause) => match cause.downcast::<cvc::Error>() {
            Ok(cause) => Error::File { uri: uri.to_owned(), cause }.into(),
            Err(other) => DataFusionError::External(other),
        },
        other => Error::Arrow { uri: uri.to_owned(), cause: bridge::failed(other) }.into(),
    }
}

/// The first rows of the pieces.
fn first(pieces: &[Piece], mut limit: u64) -> Vec<Piece> {
    let mut kept = Vec::new();
    for piece in pieces {
        if limit == 0 {
            break;
        }
        let mut piece = piece.clone();
        if piece.rows > limit {
            piece.rows = limit;
            piece.ranges = cut(piece.ranges, limit);
        }
        limit -= piece.rows;
        kept.push(piece);
    }
    kept
}

/// The first `limit` rows of the ranges.
fn cut(mut ranges: Vec<Range<u64>>, mut limit: u64) -> Vec<Range<u64>> {
    for range in &mut ranges {
        range.end = range.end.min(range.start.saturating_add(limit));
        limit -= range.end - range.start;
    }
    ranges.retain(|range| !range.is_empty());
    ranges
}

/// The pieces in at most `target` runs of about as many rows each; one at least, if an empty one.
fn shared(pieces: Vec<Piece>, target: usize) -> Vec<Vec<Piece>> {
    let all: u64 = pieces.iter().map(|piece| piece.rows).sum();
    let count = target.min(pieces.len()).max(1);
    let mut shared: Vec<Vec<Piece>> = vec![Vec::new(); count];
    let mut before = 0;
    for piece in pieces {
        // By the row in its middle, so that runs are nearly equal.
        let middle = before + piece.rows / 2;
        let at = u128::from(middle) * count as u128 / u128::from(all.max(1));
        before += piece.rows;
        shared[usize::try_from(at).unwrap_or(count).min(count - 1)].push(piece);
    }
    shared.retain(|pieces| !pieces.is_empty());
    if shared.is_empty() { vec![Vec::new()] } else { shared }
}

impl DisplayAs for CvcExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| &**field.name()).collect();
        write!(
            f,
            "CvcExec: columns=[{}], partitions={}, rows={}",
            columns.join(", "),
            self.partitions.len(),
            self.rows(None)
        )?;
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for CvcExec {
    fn name(&self) -> &str {
        "CvcExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        assert_or_internal_err!(children.is_empty(), "CvcExec has no children");
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let pieces = self.partitions.get(partition);
        let Some(pieces) = pieces.cloned() else {
            let problem =
                format!("CvcExec has {} partitions, and no partition {partition}", self.partitions.len());
            return Err(DataFusionError::Internal(problem));
        };
        let reading = Reading {
            pieces: pieces.into_iter(),
            ahead: None,
            rest: RecordBatch::new_empty(self.schema.clone()),
            most: context.session_config().batch_size().max(1),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches = stream::try_unfold(reading, Reading::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let count = self.partitions.len();
        if let Some(partition) = args.partition() {
            assert_or_internal_err!(
                partition < count,
                "CvcExec has {count} partitions, and no partition {partition}"
            );
        }
        let rows = usize::try_from(self.rows(args.partition())).map_or(Precision::Absent, Precision::Exact);
        let mut statistics = Statistics::default().with_num_rows(rows);
        for _ in self.schema.fields() {
            let column = ColumnStatistics::new_unknown().with_null_count(Precision::Exact(0));
            statistics = statistics.add_column_statistics(column);
        }
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(CvcExec::new(self.schema.clone(), self.pieces.clone(), self.target, limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_cut_from_the_front_whatever_the_number_of_rows() {
        assert_eq!(cut(vec![5..1 << 60], 1), [5..6]);
        assert_eq!(cut(vec![5..8, 10..12, 20..30], 4), [5..8, 10..11]);
        assert_eq!(cut(vec![5..8], 3), [5..8]);
    }
}
