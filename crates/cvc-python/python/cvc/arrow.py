"""pyarrow: files as a `pyarrow.dataset.Dataset`, which DuckDB and DataFusion scan with the columns that a query needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ._metadata import missing
from ._plan import MAX_BYTES, Partition, Uris, planned, read

try:
    import pyarrow as pa
    import pyarrow.dataset as ds
except ImportError as error:
    raise missing("pyarrow", "cvc.arrow") from error

__all__ = ["Dataset", "dataset"]


class _Fragment:
    """A list of partitions that can be scanned, and their schema."""

    def __init__(self, partitions: list[Partition], schema: pa.Schema, storage_options: dict[str, Any] | None) -> None:
        self._partitions, self._schema, self._storage_options = partitions, schema, storage_options

    def scanner(
        self, schema: pa.Schema | None = None, columns: Any = None, filter: ds.Expression | None = None, **_: Any
    ) -> ds.Scanner:
        """Batches of these columns (names, or expressions by the names they get), of the rows that meet `filter`.

        Other arrays are not read. `schema` is that of the data set; what else pyarrow's scanners can be told is how they are to
        read files of theirs.
        """
        names = self._needed(columns, filter)
        read_as = pa.schema([self._schema.field(name) for name in names])
        wanted = self._schema.names if columns is None else columns
        return ds.Scanner.from_batches(self._batches(names), schema=read_as, columns=wanted, filter=filter)

    def _needed(self, columns: Any, filter: ds.Expression | None) -> list[str]:
        if columns is None or not self._schema.names:
            return list(self._schema.names)
        named = set(columns if not isinstance(columns, dict) else ())
        # An expression does not say what it is of, but its text has the name of every column that it uses. A name that may be
        # written otherwise there counts as used.
        text = " ".join(map(str, [*(columns.values() if isinstance(columns, dict) else ()), *([] if filter is None else [filter])]))
        named.update(name for name in self._schema.names if text and (name in text or not name.isidentifier()))
        # Rows cannot be counted without any.
        return [name for name in self._schema.names if name in named] or [min(self._schema, key=_width).name]

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        for partition in self._partitions:
            rows = read(partition, names, storage_options=self._storage_options)
            yield from pa.RecordBatchReader.from_stream(rows)


class Dataset(ds.Dataset):
    """A `pyarrow.dataset.Dataset` over a plan: it can be read often, and from many threads. A fragment is a partition."""

    # That of pyarrow cannot be called, as there is nothing of C++ behind this.
    def __init__(
        self, partitions: list[Partition], schema: pa.Schema, storage_options: dict[str, Any] | None = None
    ) -> None:
        self._partitions, self._schema, self._storage_options = partitions, schema, storage_options

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (self._partitions, self._schema, self._storage_options)

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def scanner(self, columns: Any = None, filter: ds.Expression | None = None, **options: Any) -> ds.Scanner:
        """Batches of these columns, of the rows that meet `filter`."""
        return _Fragment(self._partitions, self._schema, self._storage_options).scanner(None, columns, filter, **options)

    def get_fragments(self, filter: ds.Expression | None = None) -> Iterator[_Fragment]:
        """The partitions. `filter` rules none out, as nothing is known of their values."""
        return (_Fragment([partition], self._schema, self._storage_options) for partition in self._partitions)

    def count_rows(self, filter: ds.Expression | None = None, **_: Any) -> int:
        """Without a filter nothing is read."""
        if filter is None:
            return sum(partition.rows for partition in self._partitions)
        return int(self.scanner(filter=filter).count_rows())


def _width(field: pa.Field) -> float:
    """Bits of a row, to find the column that costs least."""
    of = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    if pa.types.is_fixed_size_list(of):
        return float(of.list_size * of.value_type.bit_width)
    return math.inf if pa.types.is_large_string(of) else float(of.bit_width)


def dataset(
    uris: Uris,
    arrays: str | Sequence[str] | None = None,
    filter: dict[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    *,
    dtype: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Dataset:
    """Files as a `pyarrow.dataset.Dataset`; the arguments are those of `cvc.plan`. A partition is decoded at a time."""
    partitions, none = planned(uris, arrays, filter, max_bytes, dtype=dtype, storage_options=storage_options)
    return Dataset(partitions, pa.schema(none), storage_options)
