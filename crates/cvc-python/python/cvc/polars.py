"""Polars: files as a `LazyFrame`, of which only the columns and rows are decoded that a query needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ._metadata import missing
from ._plan import MAX_BYTES, Uris, planned, read

try:
    import polars as pl
    from polars.io.plugins import register_io_source
except ImportError as error:
    raise missing("polars", "cvc.polars") from error

__all__ = ["scan"]


def scan(
    uris: Uris,
    arrays: str | Sequence[str] | None = None,
    filter: dict[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    *,
    dtype: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> pl.LazyFrame:
    """Files as a `polars.LazyFrame`; the arguments are those of `cvc.plan`. A partition is in memory at a time.

    Arrays that a query does not use are not read, and nothing after its first rows (`head`). A condition on values is
    computed of the decoded rows: narrow what is read by `filter`.
    """
    partitions, none = planned(uris, arrays, filter, max_bytes, dtype=dtype, storage_options=storage_options)

    def frames(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for partition in partitions:
            if left == 0:
                return
            frame = pl.DataFrame(read(partition, with_columns, limit=left, storage_options=storage_options))
            if left is not None:
                left -= frame.height
            yield frame if predicate is None else frame.filter(predicate)

    return register_io_source(frames, schema=pl.DataFrame(none).schema, validate_schema=False, is_pure=True)
