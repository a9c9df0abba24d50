"""Stores: directories of arrays that can be changed. The methods have the names that users of NumPack know."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._cvc import Changes, Snapshot, StoredArray, StoreFolder, package_info, unpack_store
from ._metadata import Section, StoreDamage

Durability: TypeAlias = Literal["synced", "buffered"]
Rows: TypeAlias = Any


class LazyArray(NDArrayOperatorsMixin):
    """An array of a store as it was when this was made: read where it is looked at, by indexing or arithmetic.

    It stays as it is, whatever becomes of the store meanwhile.
    """

    def __init__(self, array: StoredArray) -> None:
        self._array = array

    @property
    def name(self) -> str:
        return self._array.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def T(self) -> NDArray[Any]:
        return self._array.read().T

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        step = max(1, (1 << 22) // max(1, self.nbytes // max(1, len(self))))
        for start in range(0, len(self), step):
            yield from self._array.read(slice(start, start + step))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple):
            if key is None or isinstance(key, np.ndarray) and key.ndim > 1:
                return self._array.read()[key]
            return self._array.read(key)
        # The rows are read, all else is for NumPy: as for arrays of NumPy, two lists are pairs.
        if not key or key[0] is None or key[0] is Ellipsis or any(isinstance(part, (list, np.ndarray)) for part in key):
            return self._array.read()[key]
        first, *rest = key
        if isinstance(first, (int, np.integer)):
            return self._array.read(first)[tuple(rest)]
        return self._array.read(first)[(slice(None), *rest)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the array is on the disk: it cannot be had without reading it to new memory")
        values = self._array.read()
        return values if dtype is None else values.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(out, LazyArray) for out in options.get("out", ())):
            return NotImplemented
        read = [part[:] if isinstance(part, LazyArray) else part for part in inputs]
        return getattr(ufunc, method)(*read, **options)

    def reshape(self, *shape: Any) -> NDArray[Any]:
        return self._array.read().reshape(*shape)

    def copy(self) -> NDArray[Any]:
        """All rows, in memory of their own."""
        return self._array.read()

    def read(self, rows: Rows = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The rows, into `out` if that is given."""
        return self._array.read(rows, out)

    def __repr__(self) -> str:
        shape = " x ".join(str(length) for length in self.shape)
        return f"<cvc.LazyArray {self.name!r}: {shape} {self.dtype}>"


class _Editing:
    """The changes that stores and batches have in common."""

    _changes: Changes

    def _look(self) -> Snapshot:
        raise NotImplementedError

    def _together(self) -> Any:
        """A context whose value takes changes that become one commit."""
        raise NotImplementedError

    # Reading

    def load(self, name: str, lazy: bool = False) -> Any:
        """All rows of an array; or, if `lazy`, an array that is read where it is looked at."""
        array = LazyArray(self._look()[name])
        return array if lazy else array[:]

    def __getitem__(self, name: str) -> Any:
        return self.load(name)

    def getitem(self, name: str, indexes: Rows) -> Any:
        """Rows by an integer, a slice, a list of integers or a mask; negative numbers count from the end."""
        return self._changes.read(name, indexes)

    def has_array(self, name: str) -> bool:
        return name in self._look()

    def __contains__(self, name: str) -> bool:
        return self.has_array(name)

    def get_member_list(self) -> list[str]:
        """The names of the arrays, sorted."""
        return self._look().names

    def __iter__(self) -> Iterator[str]:
        return iter(self.get_member_list())

    def __len__(self) -> int:
        return len(self.get_member_list())

    def get_shape(self, name: str | None = None) -> Any:
        """The shape of an array, or a dict of all shapes."""
        look = self._look()
        return {each: look[each].shape for each in look.names} if name is None else look[name].shape

    def get_modify_time(self, name: str) -> int | None:
        """When the array was changed last, in microseconds since 1970; `None` if there is none."""
        look = self._look()
        return look[name].changed if name in look else None

    def get_metadata(self) -> dict[str, Any]:
        """What is known of the store: its arrays, and what was said of it."""
        look = self._look()
        arrays = {}
        for name in look.names:
            array = look[name]
            arrays[name] = {
                "shape": array.shape,
                "dtype": str(array.dtype),
                "codec": array.codec,
                "modify_time": array.changed,
                "metadata": array.metadata,
                "nbytes": array.nbytes,
            }
        return {"commit": look.commit, "total_arrays": len(arrays), "metadata": look.metadata, "arrays": arrays}

    def stream_load(self, name: str, buffer_size: int | None = None) -> Iterator[NDArray[Any]]:
        """The rows in batches of `buffer_size`; row by row, each with an axis of one row, if none is given.

        All are of one commit: the one at the first.
        """
        if buffer_size is not None and buffer_size <= 0:
            raise ValueError(f"buffer_size = {buffer_size}: a batch has at least one row")
        array = self._look()[name]
        return _stream(array, 1 if buffer_size is None else buffer_size)

    def sections(self, name: str) -> list[Section]:
        """What is known of ranges of rows of an array."""
        return self._look()[name].sections

    # Changing

    def save(self, arrays: Mapping[str, ArrayLike], codec: str | Mapping[str, str] | None = None) -> None:
        """Saves whole arrays, those of the same names are replaced. One commit.

        `codec` is for arrays that are made: `raw` by default, which keeps every bit; `fp16`, `int8`, `int4`, `lossless`, ...
        No other thread may change the rows meanwhile: what is written would not be what was hashed, and could not be read.
        """
        of = codec.get if isinstance(codec, Mapping) else lambda _: codec
        self._for_each(arrays, lambda changes, name, rows: changes.save(name, rows, of(name)))

    def append(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Appends rows. One commit, of all arrays or of none."""
        if type(arrays) is dict and len(arrays) == 1:
            # The way of small changes, of which each microsecond is felt.
            [(name, rows)] = arrays.items()
            self._changes.append(name, rows)
        else:
            self._for_each(arrays, Changes.append)

    def replace(self, arrays: Mapping[str, ArrayLike], indexes: Rows = None) -> None:
        """Replaces rows: those of `indexes`, which are as many as are given; all, if there are none. One commit."""
        which = ... if indexes is None else indexes
        if type(arrays) is dict and len(arrays) == 1:
            # As in `append`.
            [(name, rows)] = arrays.items()
            self._changes.replace(name, rows, which)
        else:
            self._for_each(arrays, lambda changes, name, rows: changes.replace(name, rows, which))

    def drop(self, names: str | Iterable[str], indexes: Rows = None) -> None:
        """Deletes whole arrays, or the rows `indexes` of each. One commit."""
        arrays = dict.fromkeys([names] if isinstance(names, str) else names)
        if indexes is None:
            self._for_each(arrays, lambda changes, name, _: changes.delete(name))
        else:
            self._for_each(arrays, lambda changes, name, _: changes.delete_rows(name, indexes))

    def clone(self, source_name: str, target_name: str) -> None:
        """Makes a copy of an array under another name, without copying its rows."""
        self._changes.clone_array(source_name, target_name)

    def rename(self, name: str, new_name: str) -> None:
        self._changes.rename(name, new_name)

    def reset(self) -> None:
        """Deletes all arrays."""
        self._changes.reset()

    def set_metadata(self, metadata: Any, name: str | None = None) -> None:
        """Says something of the store, or of an array."""
        if name is None:
            self._changes.set_metadata(metadata)
        else:
            self._changes.set_array_metadata(name, metadata)

    def upsert(self, ids: str, keys: ArrayLike, arrays: Mapping[str, ArrayLike]) -> None:
        """Brings rows under ids: rows whose id the array `ids` has are replaced, the others are appended. One commit."""
        self._changes.upsert(ids, keys, dict(arrays))

    def _for_each(self, arrays: Mapping[str, Any], change: Callable[[Changes, str, Any], None]) -> None:
        """Makes the same change to each array, all of them in one commit."""
        if not isinstance(arrays, Mapping):
            raise TypeError("arrays must be a dictionary of names and arrays")
        if len(arrays) == 1:
            for name, rows in arrays.items():
                change(self._changes, name, rows)
        elif arrays:
            with self._together() as changes:
                for name, rows in arrays.items():
                    change(changes, name, rows)


def _stream(array: StoredArray, step: int) -> Iterator[NDArray[Any]]:
    for start in range(0, array.shape[0], step):
        yield array.read(slice(start, start + step))


class Batch(_Editing):
    """Changes that become one commit when the block of `batch_mode` is left; none, if it is left by an exception."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def _look(self) -> Snapshot:
        return self._changes.snapshot()

    @contextmanager
    def _together(self) -> Iterator[Changes]:
        yield self._changes


class WritableBatch:
    """Arrays in memory whose changed rows become one commit when the block of `writable_batch_mode` is left."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._arrays: dict[str, NDArray[Any]] = {}

    def load(self, name: str) -> NDArray[Any]:
        """An array that may be written to. The same one for the same name."""
        if name not in self._arrays:
            self._arrays[name] = self._changes.snapshot()[name].read()
        return self._arrays[name]

    def save(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Nothing has to be called: what was written to is found. An array that is not the loaded one is taken over."""
        for name, values in arrays.items():
            loaded = self.load(name)
            if values is not loaded:
                loaded[...] = values

    def _commit(self) -> None:
        for name, values in self._arrays.items():
            self._changes.replace_changed(name, values)
        self._changes.commit()


class Store(_Editing):
    """A directory of arrays that can be changed. Each change is a commit: whole or absent, whatever happens.

    A commit is `synced` (it survives the machine) when the call returns, unless `durability="buffered"` (it survives the
    process). There is one writer at a time, and any number of readers: `mode="r"`. The store is made if it is not there; `mode`
    `r+` says that it must be, `x` that it must not.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        drop_if_exists: bool = False,
        *,
        mode: Literal["r", "r+", "a", "x"] = "a",
        durability: Durability = "synced",
        strict_context_mode: bool = False,
        warn_no_context: bool = False,
        force_gc_on_close: bool = False,
    ) -> None:
        # The last three are NumPack's, for what its files need on Windows; there is nothing here that they could change.
        del strict_context_mode, warn_no_context, force_gc_on_close
        self._path = Path(path)
        self._mode: Literal["r", "r+", "a", "x"] = mode
        self._durability: Durability = durability
        # Whatever else is in a folder must be a store, and is emptied by a commit: other files in it stay.
        drop = drop_if_exists and self._path.is_dir() and any(self._path.iterdir())
        self._folder = StoreFolder(self._path, "r+" if drop else mode, durability)
        self._changes = self._folder.changes()
        if drop:
            with self._together() as changes:
                changes.reset()
                changes.set_metadata({})
            self._folder.prune(0)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def closed(self) -> bool:
        return self._folder.is_closed()

    def open(self) -> None:
        """Opens the store again, if it was closed."""
        if self.closed:
            mode = "a" if self._mode == "x" else self._mode
            self._folder = StoreFolder(self._path, mode, self._durability)
            self._changes = self._folder.changes()

    def close(self) -> None:
        """Lets go of the store. Lazy arrays that are there still can be read."""
        self._folder.close()
        del self._changes

    def __enter__(self) -> Store:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.closed:
            self.close()

    def __getattr__(self, name: str) -> Any:
        if name == "_changes":
            raise ValueError("the store is closed")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _look(self) -> Snapshot:
        return self._folder.snapshot()

    @contextmanager
    def _together(self) -> Iterator[Changes]:
        batch = self._folder.batch()
        try:
            yield batch
        except BaseException:
            batch.abort()
            raise
        batch.commit()

    @contextmanager
    def batch_mode(self, memory_limit: int | None = None) -> Iterator[Batch]:
        """A batch: any changes to any arrays, which become one commit at the end, or none if there is an exception.

        The batch sees its own changes, nobody else does. `memory_limit` is NumPack's: large arrays are on the disk here.
        """
        del memory_limit
        with self._together() as changes:
            yield Batch(changes)

    @contextmanager
    def writable_batch_mode(self) -> Iterator[WritableBatch]:
        """Arrays to be changed in memory; rows that were become one commit at the end, or none if there is an exception."""
        batch = self._folder.batch()
        writable = WritableBatch(batch)
        try:
            yield writable
        except BaseException:
            batch.abort()
            raise
        writable._commit()

    def update(self, name: str | None = None) -> dict[str, int]:
        """Gives back the space of rows that were replaced or deleted, of all arrays. Says what it did."""
        if name is not None:
            self._look()[name]  # There must be such an array.
        return self._folder.compact()

    compact = update

    @property
    def commit(self) -> int:
        """The number of the last commit."""
        return self._look().commit

    @property
    def commits(self) -> range:
        """The commits that can be looked at."""
        first, last = self._folder.commits()
        return range(first, last + 1)

    def snapshot(self, commit: int | None = None) -> Snapshot:
        """The store as it is, or as it was after a commit that is kept. It stays as it is."""
        return self._folder.snapshot() if commit is None else self._folder.snapshot_at(commit)

    def keep_commits(self, commits: int) -> None:
        """From now on, so many commits before the last are kept."""
        self._folder.keep_commits(commits)

    def prune(self, keep: int = 0) -> None:
        """Forgets all commits but the last `keep` before this one."""
        self._folder.prune(keep)

    def refresh(self) -> bool:
        """Takes what a writer in another process has committed since; says whether there was anything."""
        return self._folder.refresh()

    def sync(self) -> None:
        """Makes buffered commits survive the machine."""
        self._folder.sync()

    def rows_of_ids(self, ids: str, keys: ArrayLike) -> list[int | None]:
        """The rows that have these ids; `None` for one that is not there."""
        return self._folder.rows_of_ids(ids, keys)

    def verify(self) -> list[StoreDamage]:
        """Looks at every byte. Returns what is damaged: an empty list if nothing is."""
        return self._folder.verify()

    def get_io_stats(self) -> dict[str, int]:
        """Bytes on the disk."""
        return {"disk_len": self._folder.disk_len()}

    def pack(self, path: str | os.PathLike[str], overwrite: bool = False) -> int:
        """Writes the store to one file, smaller and without loss. Returns the bytes of the file."""
        return self._folder.snapshot().pack(path, overwrite)

    @staticmethod
    def unpack(package: str | os.PathLike[str], path: str | os.PathLike[str]) -> Store:
        """Makes a store at `path` of a package, and opens it."""
        unpack_store(package, path)
        return Store(path)

    @staticmethod
    def get_package_info(package: str | os.PathLike[str]) -> dict[str, Any]:
        """What a package holds, without unpacking it."""
        return package_info(package)

    def import_numpack(self, path: str | os.PathLike[str], codec: str = "raw") -> list[str]:
        """Takes all arrays of a directory or a package of NumPack. One commit. Returns their names."""
        return self._folder.import_numpack(path, codec)

    def __repr__(self) -> str:
        if self.closed:
            return f"<cvc.Store {str(self._path)!r}, closed>"
        look = self._look()
        lines = [f"<cvc.Store {str(self._path)!r}: commit {look.commit}, {len(look.names)} arrays>"]
        for name in look.names:
            array = look[name]
            shape = " x ".join(str(length) for length in array.shape)
            lines.append(f"  {name}: {shape} {array.dtype}, {array.codec}")
        return "\n".join(lines)
