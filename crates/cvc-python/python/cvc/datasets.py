"""Hugging Face `datasets`: files as an `IterableDataset`, read as it is iterated, or as a `Dataset` in its cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ._metadata import missing
from ._plan import MAX_BYTES, Partition, Uris, planned, read

try:
    import datasets as hf
    import pyarrow as pa
except ImportError as error:
    raise missing("datasets", "cvc.datasets") from error

__all__ = ["Cvc", "iterable"]


def iterable(
    uris: Uris,
    arrays: str | Sequence[str] | None = None,
    filter: dict[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    *,
    dtype: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> hf.IterableDataset:
    """Files as an `IterableDataset`; the arguments are those of `cvc.plan`. A shard of it is a partition, so the workers of a loader
    and the processes of `split_dataset_by_node` read different ones. float16 stays float16.
    """
    partitions, none = planned(uris, arrays, filter, max_bytes, dtype=dtype, storage_options=storage_options)
    builder = Cvc(partitions=partitions, schema=pa.schema(none), reached_by=storage_options)
    return builder.as_streaming_dataset(split="train")


class Cvc(hf.ArrowBasedBuilder):
    """The builder. With `download_and_prepare` and `as_dataset` it makes a `Dataset`, for which all rows are decoded to Arrow files in the
    cache of `datasets`.
    """

    # The base has `storage_options` of its own: for where it writes.
    def __init__(
        self,
        *,
        partitions: list[Partition],
        schema: pa.Schema,
        reached_by: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._partitions, self._schema, self._reached_by = partitions, schema, reached_by
        # What the cache goes by.
        said = hf.fingerprint.Hasher.hash([partition.to_json() for partition in partitions])
        super().__init__(dataset_name="cvc", hash=said, **options)

    def _info(self) -> hf.DatasetInfo:
        return hf.DatasetInfo(features=hf.Features.from_arrow_schema(self._schema))

    def _split_generators(self, _manager: Any) -> list[hf.SplitGenerator]:
        texts = [partition.to_json() for partition in self._partitions]
        return [hf.SplitGenerator(name="train", gen_kwargs={"partitions": texts})]

    def _generate_tables(self, partitions: list[str]) -> Iterator[tuple[Any, pa.Table]]:
        for text in partitions:
            partition = Partition.from_json(text)
            rows = read(partition, storage_options=self._reached_by)
            for number, batch in enumerate(pa.RecordBatchReader.from_stream(rows)):
                yield (json.loads(text)["first_row"], partition.ranges[0][0], number), pa.Table.from_batches([batch])
