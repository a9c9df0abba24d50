"""Spark: files as a data frame of PySpark 4, or of Sail, which speaks Spark's protocol and needs no Java."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ._metadata import missing
from ._plan import MAX_BYTES, Partition, Uris, paths, planned, read as read_partition

try:
    import pyarrow as pa
    from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
    from pyspark.sql.pandas.types import from_arrow_schema
except ImportError as error:
    raise missing("pyspark", "cvc.spark") from error

__all__ = ["CvcDataSource", "read"]

# Spark shows no option whose name says that it is a secret.
_SECRETS = "cvc.secret"

# Spark has no unsigned numbers.
_WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}


def read(
    spark: Any,
    uris: Uris,
    arrays: str | Sequence[str] | None = None,
    filter: dict[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    *,
    storage_options: dict[str, Any] | None = None,
) -> Any:
    """Files as a data frame of the session `spark`; the arguments are those of `cvc.plan`. Rows of arrays are of type `array`.

    Spark has no float16 and no unsigned numbers: they come as the next wider type. Of uint64 there is none, so arrays of it are refused.
    """
    spark.dataSource.register(CvcDataSource)
    options = {"uris": paths(uris), "arrays": arrays, "filter": filter, "max_bytes": max_bytes}
    reader = spark.read.format("cvc").option("cvc", json.dumps(options))
    if storage_options is not None:
        reader = reader.option(_SECRETS, json.dumps(storage_options))
    return reader.load()


class CvcDataSource(DataSource):
    """The format `cvc` of `spark.read`: `spark.read.format("cvc").load("a.cvc")`. Whatever else `cvc.plan` is told stands in the option
    `cvc`, a JSON object of its arguments; `storage_options` stand in the option `cvc.secret`, which Spark does not show.
    """

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(options)
        arguments = json.loads(options.get("cvc", "{}"))
        arguments.setdefault("uris", options.get("path", []))
        self._storage_options = json.loads(options[_SECRETS]) if _SECRETS in options else None
        partitions, none = planned(**arguments, dtype="float32", storage_options=self._storage_options)
        self._partitions, self._arrow = partitions, _for_spark(pa.schema(none))

    @classmethod
    def name(cls) -> str:
        return "cvc"

    def schema(self) -> Any:
        return from_arrow_schema(self._arrow)

    def reader(self, schema: Any) -> DataSourceReader:
        return _Reader(self._partitions, self._arrow, self._storage_options)


class _Part(InputPartition):
    def __init__(self, partition: Partition) -> None:
        super().__init__(asdict(partition))
        self.partition = partition


class _Reader(DataSourceReader):
    def __init__(self, partitions: list[Partition], schema: pa.Schema, storage_options: dict[str, Any] | None) -> None:
        self._partitions, self._schema, self._storage_options = partitions, schema, storage_options

    def partitions(self) -> Sequence[InputPartition]:
        # Without any, Spark would read one that is nothing.
        return [_Part(partition) for partition in self._partitions] or [InputPartition(None)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        if not isinstance(partition, _Part):
            return
        rows = read_partition(partition.partition, storage_options=self._storage_options)
        for batch in pa.RecordBatchReader.from_stream(rows):
            columns = [_plain(column).cast(field.type) for column, field in zip(batch.columns, self._schema)]
            yield pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _plain(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _for_spark(schema: pa.Schema) -> pa.Schema:
    fields = []
    for field in schema:
        of = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
        listed = pa.types.is_fixed_size_list(of)
        value = of.value_type if listed else of
        if value == pa.uint64():
            raise TypeError(f"array {field.name!r} is of uint64, which Spark has no type for: leave it out of arrays")
        value = pa.string() if pa.types.is_large_string(value) else _WIDER.get(value, value)
        # The name that Spark gives what is in a list, which Sail goes by.
        of = pa.list_(pa.field("element", value, nullable=False)) if listed else value
        fields.append(pa.field(field.name, of, nullable=False))
    return pa.schema(fields)
