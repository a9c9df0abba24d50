"""Rows as tensors of torch, and data sets for its `DataLoader`. Only this module needs torch.

>>> from cvc.torch import ChunkDataset, RowDataset, collate           # doctest: +SKIP
>>> from torch.utils.data import DataLoader                           # doctest: +SKIP
>>> rows = RowDataset("all.cvc", ["vectors", "label"])                # doctest: +SKIP
>>> DataLoader(rows, batch_size=256, shuffle=True, num_workers=4, collate_fn=collate)    # doctest: +SKIP
>>> chunks = ChunkDataset("all.cvc", batch_rows=256, shuffle=True)    # doctest: +SKIP
>>> DataLoader(chunks, batch_size=None, num_workers=4)                # doctest: +SKIP

`RowDataset` reads any rows, a batch with one read. `ChunkDataset` reads every chunk once and whole, for orders that
need not be quite random: it shuffles chunks, and rows inside a chunk.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

try:
    import torch  # type: ignore[import-not-found, unused-ignore]
    from torch.utils.data import (  # type: ignore[import-not-found, unused-ignore]
        Dataset,
        IterableDataset,
        get_worker_info,
    )
except ImportError as error:
    raise ImportError(f"cvc.torch needs torch ({error}): pip install torch") from error

import numpy as np

from ._cvc import Array, File
from ._cvc import open as open_file

__all__ = ["Batch", "ChunkDataset", "RowDataset", "collate", "read"]


def read(
    array: Array,
    rows: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    **options: Any,
) -> Any:
    """Rows of an array as a tensor; of an array of strings, as a list. Options are those of `Array.read`.

    With `device="cuda"` the rows are decoded on the card and stay there. With `pin_memory` they are decoded straight to
    pinned memory of the host.
    """
    if device is not None and str(device) != "cpu":
        return torch.from_dlpack(array.read(rows, dtype=dtype, device=device, **options))
    if array.stored_dtype == "str":
        return array.read(rows, **options).tolist()
    if not pin_memory:
        return _tensor(array.read(rows, dtype=dtype, **options))
    # What shape and dtype it will have, without a row of it.
    like = _tensor(array.read(slice(0), dtype=dtype, **options))
    count = len(array) if rows is None else _count(rows, len(array))
    pinned = torch.empty((count, *like.shape[1:]), dtype=like.dtype, pin_memory=True)
    if like.dtype == torch.bfloat16:
        # A bfloat16 of torch has no NumPy to be written through.
        return pinned.copy_(_tensor(array.read(rows, dtype=dtype, **options)))
    array.read(rows, dtype=dtype, out=pinned.numpy(), **options)
    return pinned


def _count(rows: Any, of: int) -> int:
    if isinstance(rows, slice):
        return len(range(*rows.indices(of)))
    mask = np.asarray(rows) if not hasattr(rows, "ranges") else None
    return int(mask.sum()) if mask is not None and mask.dtype == bool else len(rows)


def _tensor(values: Any) -> Any:
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)


class Batch(list[Any]):
    """Rows one by one, as `default_collate` wants them, which had been read together: `whole`."""

    whole: Any


def collate(batch: Any) -> Any:
    """For `collate_fn`: takes a batch as it was read, where `default_collate` would copy its rows together again."""
    if isinstance(batch, Batch):
        return batch.whole
    return torch.utils.data.default_collate(batch)


class _Source:
    """A file that each process opens for itself, and which arrays of it are wanted."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        arrays: str | Sequence[str] | None,
        dtype: Any,
        pin_memory: bool,
        options: dict[str, Any],
    ) -> None:
        if isinstance(source, File):
            raise TypeError(
                f"{source.name} is an open file, which other processes cannot share: give its path, and each worker opens it"
            )
        self._source = source if isinstance(source, bytes) else os.fspath(source)
        self._dtype = dtype
        self._pin_memory = pin_memory
        self._options = options
        self._opened: tuple[int, File] | None = None
        file = self._file()
        if arrays is None:
            self._names: str | list[str] = file.vectors.name
        else:
            self._names = arrays if isinstance(arrays, str) else list(arrays)
        self._first = self._names if isinstance(self._names, str) else self._names[0]
        self._rows = len(file[self._first])
        for name in [self._names] if isinstance(self._names, str) else self._names:
            if len(file[name]) != self._rows:
                raise ValueError(f"array {name!r} has {len(file[name])} rows, and {self._first!r} has {self._rows}")

    def _file(self) -> File:
        # A process that was forked shares the position of files of its parent, and threads that are not there.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_file(self._source, **self._options))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _array(self, name: str, rows: Any) -> Any:
        array = self._file()[name]
        # Another dtype can be asked for where values are floats.
        wanted = self._dtype if array.stored_dtype.startswith(("float", "bfloat")) else None
        return read(array, rows, dtype=wanted, pin_memory=self._pin_memory)

    def _read(self, rows: Any) -> Any:
        """Rows of the one array, or of each array in a dict."""
        if isinstance(self._names, str):
            return self._array(self._names, rows)
        return {name: self._array(name, rows) for name in self._names}

    def _split(self, whole: Any) -> Iterator[Any]:
        """Rows one by one of what `_read` gave."""
        if not isinstance(whole, dict):
            return iter(whole)
        return (dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True))


class RowDataset(_Source, Dataset):  # type: ignore[misc, unused-ignore]
    """Any row of a file by its number: the map-style data set of torch.

    `arrays` is the name of one array (by default that of the vectors), and an item its row as a tensor; or a list of names,
    and an item a dict. Strings stay strings. A `DataLoader` asks for all rows of a batch at once, which are read together.
    Worker processes open the file for themselves. `dtype` is for arrays of floats; `options` are those of `cvc.open`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        arrays: str | Sequence[str] | None = None,
        *,
        dtype: Any = None,
        pin_memory: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(source, arrays, dtype, pin_memory, options)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> Any:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        whole = self._read(rows)
        batch = Batch(self._split(whole))
        batch.whole = whole
        return batch


class ChunkDataset(_Source, IterableDataset):  # type: ignore[misc, unused-ignore]
    """All rows of a file, chunk by chunk: the iterable data set of torch.

    Each row comes once among all workers of a `DataLoader` and all processes: of `rank` and `world_size`, which are those of
    `torch.distributed` unless given. Chunks are shared out; where there are fewer than takers they are cut. With `shuffle`
    chunks come in an order that `seed` and `set_epoch` decide, and so do the rows of each chunk.

    With `batch_rows` an item is a batch of so many rows of one chunk or fewer (use `DataLoader(..., batch_size=None)`);
    without, a row. `arrays`, `dtype`, `pin_memory` and `options` are those of `RowDataset`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        arrays: str | Sequence[str] | None = None,
        *,
        batch_rows: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        dtype: Any = None,
        pin_memory: bool = False,
        **options: Any,
    ) -> None:
        if (rank is None) != (world_size is None):
            raise ValueError("rank and world_size belong together: give both or none")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is none of {world_size} processes")
        if batch_rows is not None and batch_rows < 1:
            raise ValueError(f"batch_rows = {batch_rows}: at least 1 is needed")
        super().__init__(source, arrays, dtype, pin_memory, options)
        self._batch_rows = batch_rows
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0
        self._place = None if rank is None or world_size is None else (rank, world_size)

    def set_epoch(self, epoch: int) -> None:
        """Decides the order of the next pass, with the seed. Call it before each, in every process."""
        self._epoch = epoch

    def _share(self) -> tuple[int, int]:
        """Which of how many takers this one is."""
        if self._place is not None:
            rank, world = self._place
        elif torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        else:
            rank, world = 0, 1
        worker = get_worker_info()
        if worker is None:
            return rank, world
        return rank * worker.num_workers + worker.id, world * worker.num_workers

    def _pieces(self, takers: int) -> list[range]:
        """Ranges of rows that are read at a time, the same for all takers."""
        chunks = [chunk for chunk in self._file()[self._first].chunks if len(chunk)]
        if len(chunks) < takers and self._rows:
            most = max(1, -(-self._rows // takers))
            chunks = [chunk[start : start + most] for chunk in chunks for start in range(0, len(chunk), most)]
        if self._shuffle:
            random.Random(f"{self._seed} {self._epoch}").shuffle(chunks)
        return chunks

    def __iter__(self) -> Iterator[Any]:
        taker, takers = self._share()
        for piece in self._pieces(takers)[taker::takers]:
            whole = self._read(slice(piece.start, piece.stop))
            if self._shuffle:
                rows = list(range(len(piece)))
                random.Random(f"{self._seed} {self._epoch} {piece.start}").shuffle(rows)
                whole = self._picked(whole, rows)
            if self._batch_rows is None:
                yield from self._split(whole)
                continue
            for start in range(0, len(piece), self._batch_rows):
                part = slice(start, start + self._batch_rows)
                yield {name: rows[part] for name, rows in whole.items()} if isinstance(whole, dict) else whole[part]

    def _picked(self, whole: Any, rows: list[int]) -> Any:
        if isinstance(whole, dict):
            return {name: self._picked(of, rows) for name, of in whole.items()}
        if isinstance(whole, list):
            return [whole[row] for row in rows]
        picked = whole[torch.tensor(rows, dtype=torch.int64)]
        return picked.pin_memory() if self._pin_memory else picked
