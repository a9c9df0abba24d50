"""Ray: files as a data set of Ray Data, and exact search of more rows than one machine has memory or time for.

The modules of the package must be importable by the workers, as every package that a task uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ._errors import ArgumentError
from ._metadata import missing
from ._plan import MAX_BYTES, Partition, Uris, plan, planned, read as read_partition
from ._search import SearchResult

try:
    import pyarrow as pa
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata
except ImportError as error:
    raise missing("'ray[data]'", "cvc.ray") from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["CvcDatasource", "read", "search"]


class CvcDatasource(Datasource):
    """A source for `ray.data.read_datasource`: a task for each partition of `cvc.plan`, whose arguments these are."""

    def __init__(
        self,
        uris: Uris,
        arrays: str | Sequence[str] | None = None,
        filter: dict[str, Any] | None = None,
        max_bytes: int = MAX_BYTES,
        *,
        dtype: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        partitions, none = planned(uris, arrays, filter, max_bytes, dtype=dtype, storage_options=storage_options)
        self._storage_options = storage_options
        self._partitions, self._schema = partitions, _with_tensors(pa.schema(none))

    def get_name(self) -> str:
        return "Cvc"

    def estimate_inmemory_data_size(self) -> int | None:
        return sum(partition.decoded_len for partition in self._partitions)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        # How many there are, `max_bytes` decides: a partition does not share blocks of its file with another.
        return [self._task(partition, per_task_row_limit) for partition in self._partitions]

    def _task(self, partition: Partition, limit: int | None) -> ReadTask:
        metadata = BlockMetadata(
            num_rows=partition.rows, size_bytes=partition.decoded_len, input_files=[partition.uri], exec_stats=None
        )
        return ReadTask(
            _tables(partition, limit, self._storage_options), metadata, schema=self._schema, per_task_row_limit=limit
        )


def _tables(
    partition: Partition, limit: int | None, storage_options: dict[str, Any] | None
) -> Callable[[], Iterable[pa.Table]]:
    def tables() -> Iterator[pa.Table]:
        rows = read_partition(partition, limit=limit, storage_options=storage_options)
        for batch in pa.RecordBatchReader.from_stream(rows):
            schema = _with_tensors(batch.schema)
            columns = [_as(column, field.type) for column, field in zip(batch.columns, schema)]
            yield pa.Table.from_arrays(columns, schema=schema)

    return tables


def _with_tensors(schema: pa.Schema) -> pa.Schema:
    """Lists of numbers as tensors, which Ray gives to functions as arrays with an axis of rows; lists become an object each."""

    def tensor(field: pa.Field) -> pa.Field:
        if not pa.types.is_fixed_size_list(field.type):
            return field
        return field.with_type(pa.fixed_shape_tensor(field.type.value_type, (field.type.list_size,)))

    return pa.schema([tensor(field) for field in schema])


def _as(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    return column if column.type == wanted else pa.ExtensionArray.from_storage(wanted, column.cast(wanted.storage_type))


def read(
    uris: Uris,
    arrays: str | Sequence[str] | None = None,
    filter: dict[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    *,
    dtype: str | None = None,
    storage_options: dict[str, Any] | None = None,
    **options: Any,
) -> ray.data.Dataset:
    """Files as a `ray.data.Dataset`, read where its blocks are wanted. Rows of numbers are tensors, float16 too: a batch has them as an
    array with an axis of rows.

    The arguments are those of `cvc.plan`; `options` those of `ray.data.read_datasource`, such as `concurrency` or
    `ray_remote_args={"num_gpus": 1}`.
    """
    source = CvcDatasource(uris, arrays, filter, max_bytes, dtype=dtype, storage_options=storage_options)
    return ray.data.read_datasource(source, **options)


def search(
    uris: Uris | Sequence[Partition],
    queries: ArrayLike,
    k: int = 10,
    *,
    array: str | None = None,
    metric: str = "cosine",
    filter: dict[str, Any] | None = None,
    device: str = "cpu",
    max_bytes: int = MAX_BYTES,
    storage_options: dict[str, Any] | None = None,
    **options: Any,
) -> SearchResult:
    """The `k` nearest rows of all files for each query, exactly: what `File.search` would find if the files were one, whatever the
    number of tasks. Rows are numbered through the files in their order; of equal scores the lower row comes first.

    A task searches the encoded rows of a partition and sends back `k` rows for each query, which are merged here. `uris` may be a plan of
    `cvc.plan`, of one array; else `filter` and `max_bytes` are for one. `array` is that of each file that is searched: the only one or
    `vectors`, unless it is said. `device` is `cpu`, `cuda`, ... as `File.search` has it; `options` are those of a task of Ray, such as
    `num_gpus=1`.
    """
    given: Any = uris
    is_plan = isinstance(given, Sequence) and all(isinstance(of, Partition) for of in given)
    partitions: list[Partition] = (
        list(given) if is_plan else plan(given, array, filter, max_bytes, storage_options=storage_options)
    )
    if not partitions:
        raise ArgumentError("there are no rows to search: the plan is empty")
    asked = ray.put({"queries": queries, "k": k, "array": array, "metric": metric, "device": device})
    task = ray.remote(_search).options(**options) if options else ray.remote(_search)
    running = [task.remote(partition, storage_options, asked) for partition in partitions]
    best: list[tuple[int, SearchResult]] = []
    while running:
        done, running = ray.wait(running, num_returns=min(len(running), 64), timeout=None)
        best = [(0, SearchResult.merged([*best, *ray.get(done)]))]
    return best[0][1]


def _search(
    partition: Partition, storage_options: dict[str, Any] | None, asked: dict[str, Any]
) -> tuple[int, SearchResult]:
    return partition.first_row, read_partition(partition, storage_options=storage_options).search(**asked)
