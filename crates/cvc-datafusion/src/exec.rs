//! The part of a plan that reads files.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use cvc_arrow::{Table, windows};
use datafusion_common::stats::Precision;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{ColumnStatistics, DataFusionError, Result, Statistics, assert_or_internal_err};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion_physical_plan::statistics::StatisticsArgs;
use datafusion_physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion_physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

use crate::bridge;
use crate::error::Error;

/// Decoded bytes of a batch at most, if the session allows for more rows than that.
const BATCH_LEN: u64 = 64 << 20;

/// Batches of a partition that wait to be taken while the next is decoded.
const AHEAD: usize = 1;

/// Rows of a file that end where blocks do.
#[derive(Clone)]
pub(crate) struct Piece {
    /// What to call the file.
    pub(crate) uri: Arc<str>,
    pub(crate) table: Table,
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) rows: u64,
}

/// Reads rows of files: each partition some pieces of them, one after another, on a thread for work that blocks.
pub struct CvcExec {
    schema: SchemaRef,
    /// All rows, of whatever limit.
    pieces: Vec<Piece>,
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
    pub(crate) fn new(schema: SchemaRef, pieces: Vec<Piece>, target: usize, limit: Option<usize>) -> CvcExec {
        let wanted = match limit {
            Some(limit) => first(&pieces, limit as u64),
            None => pieces.clone(),
        };
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

/// What went wrong with a file while its rows were read.
fn of_file(uri: &str, error: arrow_schema::ArrowError) -> DataFusionError {
    match error {
        arrow_schema::ArrowError::ExternalError(cause) => match cause.downcast::<cvc::Error>() {
            Ok(cause) => Error::File { uri: uri.to_owned(), cause }.into(),
            Err(other) => DataFusionError::External(other),
        },
        other => bridge::failed(other).into(),
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
            piece.ranges = windows(&piece.ranges, limit).swap_remove(0);
        }
        limit -= piece.rows;
        kept.push(piece);
    }
    kept
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
        let most = context.session_config().batch_size().max(1) as u64;
        let (schema, metrics) = (self.schema.clone(), BaselineMetrics::new(&self.metrics, partition));
        let mut builder = RecordBatchReceiverStreamBuilder::new(schema.clone(), AHEAD);
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            for Piece { uri, table, ranges, .. } in pieces {
                let rows = most.min((BATCH_LEN / table.row_len().max(1)).max(1));
                for window in windows(&ranges, rows) {
                    let timer = metrics.elapsed_compute().timer();
                    let batch = table.read(&window).map_err(|error| of_file(&uri, error))?;
                    let batch = bridge::batch(&batch, schema.clone())?;
                    timer.done();
                    metrics.record_output(batch.num_rows());
                    if sender.blocking_send(Ok(batch)).is_err() {
                        // Nobody wants more.
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        Ok(builder.build())
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
