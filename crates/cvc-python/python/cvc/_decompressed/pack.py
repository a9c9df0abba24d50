"""Packing rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._cvc import Writer
from .._errors import ArgumentError, EncodeError
from . import frames
from .frames import Path, opened_frames

_LAYOUTS = ("v0", "v1", "v2", "native")
# The length of a chunk has 32 bits, as has its number of rows.
_LIMIT = 2**32
# Bytes of a value, where the codec decides: what cannot be known before (lossless) is left to the writer.
_VALUE_LEN = {"fp16": 2, "int8": 1}


def pack_cvc(
    vectors: Any,
    output_path: Path,
    compression: str = "fp16",
    chunk_size: int = 100000,
    chunk_metadata: Sequence[Any] | None = None,
    mmap_optimized: bool = False,
    *,
    layout: str = "v1",
    nonfinite: str = "refuse",
) -> None:
    """Packs a matrix into a file.

    `vectors`: numbers of shape `(rows, dim)` in anything that NumPy or DLPack understands. `compression`: `fp16`,
    `int8` or `lossless`. `chunk_size`: rows to a chunk. `chunk_metadata`: something JSON can say of each chunk, or
    nothing.

    `layout` is `v1`, which `decompressed` 2.x reads, `v0` for 0.1.0 (without `lossless`), or `native`, with all codecs
    of `cvc.pack`. `mmap_optimized=True` writes a v1 file whose header says where each chunk lies; unlike upstream's it
    has no gaps, and everything reads it.

    `nonfinite` says what happens to values that would come back as something else entirely: NaN, infinities and ranges
    beyond float32 in `int8`, finite values beyond 65504 in `fp16`. `refuse` raises; `upstream` does as `decompressed`
    does, which loses the whole chunk or makes infinities (not in layout `native`, where `saturate` takes the nearest
    value).

    The file gets its name when it is complete. Raises `EncodeError` naming row and column of such a value,
    `ArgumentError` for wrong arguments (both are `ValueError`), `OSError` from the disk.
    """
    rows = as_array(vectors)
    if rows.ndim != 2:
        raise ArgumentError(f"vectors has shape {rows.shape}: rows and dims are needed; use cvc.pack for other shapes")
    if layout == "v2":
        raise ArgumentError("layout = 'v2' has columns: use pack_cvc_columns")
    if mmap_optimized and layout != "v1":
        raise ArgumentError(
            f"mmap_optimized is a matter of layout v1, and layout = {layout!r}; every native file can be mapped"
        )
    said = list(chunk_metadata or ())
    job = _Job(output_path, {"vectors": rows}, len(rows), {"vectors": compression}, chunk_size, layout, nonfinite)
    if said and len(said) != job.chunk_count:
        raise ArgumentError(
            f"chunk_metadata must have {job.chunk_count} items, one for each chunk, and has {len(said)}"
        )
    options: dict[str, Any] = {}
    sections: list[tuple[int, int, Any]] = []
    if layout == "native":
        starts = range(0, len(rows), job.chunk_size)
        sections = [(start, min(start + job.chunk_size, len(rows)), of_chunk) for start, of_chunk in zip(starts, said)]
    elif said:
        options["chunk_metadata"] = said
    job.write([{"vectors": rows}], sections, mapped=mmap_optimized, **options)


def pack_cvc_sections(
    sections: Iterable[tuple[Any, Any]],
    output_path: Path,
    compression: str = "fp16",
    chunk_size: int = 100000,
    *,
    layout: str = "v1",
    nonfinite: str = "refuse",
) -> None:
    """Packs matrices one below the other, each with metadata that its rows can be found by.

    `sections`: pairs of rows, of shape `(rows, dim)` and the same `dim`, and something JSON can say of them. Chunks end
    every `chunk_size` rows, wherever sections do. Other arguments and errors are those of `pack_cvc`.
    """
    if layout == "v2":
        raise ArgumentError("layout = 'v2' has columns: use pack_cvc_sections_columnar")
    parts = [({"vectors": as_array(rows)}, metadata) for rows, metadata in sections]
    for index, (arrays, _) in enumerate(parts):
        if arrays["vectors"].ndim != 2:
            raise ArgumentError(f"section {index} has shape {arrays['vectors'].shape}: rows and dims are needed")
    _pack_sections(parts, output_path, {"vectors": compression}, chunk_size, layout, nonfinite)


def pack_cvc_columns(
    data: Mapping[str, Any],
    output_path: Path,
    compressions: Mapping[str, str] | None = None,
    chunk_size: int = 100_000,
    *,
    layout: str = "v2",
    nonfinite: str = "refuse",
) -> None:
    """Packs named arrays with as many rows each.

    `data`: arrays of shape `(rows, dim)` or `(rows,)`. `compressions`: `fp16`, `int8` or `none` by name; by default
    `fp16` for floats and `none`, which keeps every bit, for all else. Layout `v2` holds float32, float16, int32, int64,
    int8 and uint8 and at least one row; `native` holds all dtypes, shapes and codecs of `cvc.pack`.

    Nothing is printed. Other arguments and errors are those of `pack_cvc`.
    """
    if not data:
        raise ArgumentError("data cannot be empty")
    arrays = {name: as_array(rows) for name, rows in data.items()}
    count = _count(arrays)
    job = _Job(output_path, arrays, count, compressions or {}, chunk_size, layout, nonfinite)
    job.write([arrays], [])


def pack_cvc_sections_columnar(
    sections: Iterable[tuple[Mapping[str, Any], Any]],
    output_path: Path,
    compressions: Mapping[str, str] | None = None,
    chunk_size: int = 100_000,
    *,
    layout: str = "v2",
    nonfinite: str = "refuse",
) -> None:
    """Packs dicts of named arrays one below the other, each with metadata that its rows can be found by.

    `sections`: pairs of a dict as in `pack_cvc_columns`, all with the same names, and something JSON can say of its
    rows. Other arguments and errors are those of `pack_cvc_columns`.
    """
    parts = [({name: as_array(rows) for name, rows in data.items()}, metadata) for data, metadata in sections]
    _pack_sections(parts, output_path, compressions or {}, chunk_size, layout, nonfinite)


def encoded(
    name: str, rows: np.ndarray[Any, Any], compressions: Mapping[str, str], nonfinite: str, first_row: int
) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Rows as one chunk of a column of a columnar file: what the header says of the column and of the chunk, and its
    bytes."""
    job = _Job(None, {name: rows}, len(rows), compressions, max(1, len(rows)), "v2", nonfinite)
    file = job.in_memory({name: rows}, first_row)
    header_len = int.from_bytes(file[8:12], "little")
    header = json.loads(file[12 : 12 + header_len])
    return header["columns"][0], header["chunks"][0]["columns"][name], file[12 + header_len + 8 :]


def _pack_sections(
    parts: list[tuple[dict[str, np.ndarray[Any, Any]], Any]],
    output_path: Path,
    compressions: Mapping[str, str],
    chunk_size: int,
    layout: str,
    nonfinite: str,
) -> None:
    if not parts:
        raise ArgumentError("sections cannot be empty")
    first = parts[0][0]
    starts = [0]
    for index, (arrays, _) in enumerate(parts):
        if arrays.keys() != first.keys():
            raise ArgumentError(f"Section {index} has the columns {list(arrays)}, section 0 has {list(first)}")
        for name, rows in arrays.items():
            if rows.shape[1:] != first[name].shape[1:]:
                shapes = f"rows of shape {rows.shape[1:]} in section {index}, of {first[name].shape[1:]} in section 0"
                raise ArgumentError(f"Column {name!r} has different dimensions across sections: {shapes}")
        starts.append(starts[-1] + _count(arrays))
    # What stacking the arrays would give, without a copy of all of them.
    dtypes = {name: np.result_type(*(arrays[name].dtype for arrays, _ in parts)) for name in first}
    batches = ({name: arrays[name].astype(dtype, copy=False) for name, dtype in dtypes.items()} for arrays, _ in parts)
    said = [(start, stop, metadata) for start, stop, (_, metadata) in zip(starts, starts[1:], parts)]
    like = {name: np.empty((0, *first[name].shape[1:]), dtype) for name, dtype in dtypes.items()}
    job = _Job(output_path, like, starts[-1], compressions, chunk_size, layout, nonfinite)
    job.write(batches, said)


def _count(arrays: Mapping[str, np.ndarray[Any, Any]]) -> int:
    counts = {name: len(rows) for name, rows in arrays.items()}
    if len(set(counts.values())) > 1:
        raise ArgumentError(f"All columns must have the same number of vectors, and these have {counts}")
    return next(iter(counts.values()), 0)


def as_array(rows: Any) -> np.ndarray[Any, Any]:
    """The rows as a NumPy array with at least one axis, which shares their memory where it can."""
    if hasattr(rows, "__dlpack__") and not hasattr(rows, "__array__"):
        rows = np.from_dlpack(rows)
    array = np.asarray(rows)
    if array.ndim == 0:
        raise ArgumentError("a single value has no rows: an array with at least one axis is needed")
    return array


class _Job:
    """A file to be written, whose arguments make sense."""

    def __init__(
        self,
        path: Path | None,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        count: int,
        compressions: Mapping[str, str],
        chunk_size: int,
        layout: str,
        nonfinite: str,
    ) -> None:
        if layout not in _LAYOUTS:
            raise ArgumentError(f"layout = {layout!r}: one of {', '.join(_LAYOUTS)} is needed")
        allowed = ("refuse", "saturate" if layout == "native" else "upstream")
        if nonfinite not in allowed:
            raise ArgumentError(f"nonfinite = {nonfinite!r}: one of {', '.join(allowed)} is needed in layout {layout}")
        if chunk_size < 1:
            raise ArgumentError(f"chunk_size = {chunk_size}: a chunk has at least one row")
        unknown = [name for name in compressions if name not in arrays]
        if unknown:
            raise ArgumentError(f"compressions speaks of {unknown}, and the columns are {list(arrays)}")
        self.path = path
        self.layout = layout
        self.nonfinite = nonfinite
        self.chunk_size = min(int(chunk_size), _LIMIT - 1)
        self.chunk_count = -(-count // self.chunk_size)
        self.codecs = dict(compressions)
        if layout != "native":
            # Of native files the writer knows better.
            self.codecs = {name: compressions.get(name) or _default(rows) for name, rows in arrays.items()}
        self._names = list(arrays)
        if layout != "native":
            self._check_chunk_len(arrays, min(count, self.chunk_size))

    def _check_chunk_len(self, arrays: Mapping[str, np.ndarray[Any, Any]], rows: int) -> None:
        """Refuses chunks that the layout cannot hold before anything is written."""
        row_len = 0
        for name, of_array in arrays.items():
            codec = self.codecs[name]
            value_len = of_array.dtype.itemsize if codec == "none" else _VALUE_LEN.get(codec, 0)
            row_len += value_len * int(np.prod(of_array.shape[1:], dtype=object))
        if rows * row_len >= _LIMIT:
            raise ArgumentError(
                f"chunk_size = {self.chunk_size}: chunks would have {rows * row_len:,} bytes, and layout {self.layout} has room for "
                f"{_LIMIT - 1:,}; use a chunk_size of at most {(_LIMIT - 1) // row_len}"
            )

    def write(
        self,
        batches: Iterable[Mapping[str, np.ndarray[Any, Any]]],
        sections: Iterable[tuple[int, int, Any]],
        *,
        mapped: bool = False,
        **options: Any,
    ) -> None:
        native = self.layout == "native"
        codecs = dict(self.codecs)
        if native:
            codecs = {name: "raw" if codec == "none" else codec for name, codec in codecs.items()}
            options["nonfinite"] = self.nonfinite
        guards = self._guards()
        if not mapped:
            self._write(self.path, codecs, guards, batches, sections, options)
            return
        assert self.path is not None
        # Where chunks lie is only known afterwards, and nobody is to see a file that does not say it.
        plain = frames.beside(self.path)
        try:
            self._write(plain, codecs, guards, batches, sections, options)
            _say_where_chunks_lie(plain, self.path)
        finally:
            if os.path.exists(plain):
                os.unlink(plain)

    def in_memory(self, batch: Mapping[str, np.ndarray[Any, Any]], first_row: int) -> bytes:
        """The bytes of a file of these rows, which errors number from `first_row`."""
        file = self._write(None, self.codecs, self._guards(first_row), [batch], [], {})
        assert file is not None
        return file

    def _guards(self, first_row: int = 0) -> dict[str, _Guard]:
        if self.nonfinite != "refuse" or self.layout == "native":
            return {}
        return {name: _Guard(name, codec, self.chunk_size, first_row) for name, codec in self.codecs.items()}

    def _write(
        self,
        path: Path | None,
        codecs: Mapping[str, str],
        guards: Mapping[str, _Guard],
        batches: Iterable[Mapping[str, np.ndarray[Any, Any]]],
        sections: Iterable[tuple[int, int, Any]],
        options: Mapping[str, Any],
    ) -> bytes | None:
        with Writer(path, codec=dict(codecs), layout=self.layout, chunk_rows=self.chunk_size, **options) as writer:
            for start, stop, metadata in sections:
                writer.add_section(start, stop, metadata, may_be_empty=True)
            for batch in batches:
                for name, guard in guards.items():
                    guard.look(batch[name])
                # In the order of the columns of the file, whatever the order in this dict.
                writer.write({name: batch[name] for name in self._names})
            file: bytes | None = writer.finish()
            return file


def _default(rows: np.ndarray[Any, Any]) -> str:
    return "fp16" if rows.dtype.kind == "f" or rows.dtype.name == "bfloat16" else "none"


class _Guard:
    """Looks at rows on their way into a CVCF file, whose codecs take whatever comes."""

    def __init__(self, array: str, codec: str, chunk_size: int, first_row: int = 0) -> None:
        self._array = array
        self._codec = codec
        self._chunk_size = chunk_size
        self._first_row = first_row
        self._rows = 0
        # Of the chunk that is not full yet.
        self._low, self._high = np.float32(np.inf), np.float32(-np.inf)

    def look(self, rows: np.ndarray[Any, Any]) -> None:
        if rows.dtype.name == "bfloat16":
            rows = rows.astype(np.float32)
        if self._codec not in ("fp16", "int8") or rows.dtype.kind not in "fiub" or not rows.size:
            return
        # In parts that stay in the cache for the second look at them.
        step = max(1, _PART_LEN // max(1, rows[:1].nbytes))
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + step, start + self._chunk_size - self._rows % self._chunk_size)
            part = rows[start:stop]
            with np.errstate(over="ignore", invalid="ignore"):
                low, high = np.float32(part.min()), np.float32(part.max())
            if self._codec == "fp16":
                # A NaN compares as false, and is kept; what is beside it needs a closer look.
                if not (low > -_HALF_LIMIT and high < _HALF_LIMIT):
                    self._refuse_overflow(part)
            else:
                self._widen(part, low, high)
            self._rows += stop - start
            start = stop
            if self._rows % self._chunk_size == 0:
                # The next chunk has a range of its own.
                self._low, self._high = np.float32(np.inf), np.float32(-np.inf)

    def _refuse_overflow(self, part: np.ndarray[Any, Any]) -> None:
        size = np.abs(part.astype(np.float64))
        found = np.argwhere((size >= _HALF_LIMIT) & np.isfinite(part))
        if len(found):
            value = part[tuple(found[0])]
            raise self._error(
                found[0], f"fp16 cannot represent {value}, and would make it infinite", "int8 or lossless"
            )

    def _widen(self, part: np.ndarray[Any, Any], low: np.float32, high: np.float32) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
            finite = np.isfinite(self._high - self._low)
            if finite:
                return
            found = np.argwhere(~np.isfinite(part.astype(np.float32)))
        if len(found):
            value = part[tuple(found[0])]
            raise self._error(found[0], f"int8 cannot represent {value}, and the whole chunk would be lost", "lossless")
        largest = np.unravel_index(np.argmax(np.abs(part.astype(np.float64))), part.shape)
        raise self._error(
            largest,
            f"with {part[largest]} the values of a chunk are further apart than float32 can say, and all would be lost",
            "lossless",
        )

    def _error(self, at: Any, problem: str, other: str) -> EncodeError:
        row = self._first_row + self._rows + int(at[0])
        column = f", column {int(at[1])}" if len(at) > 1 else ""
        return EncodeError(
            f"array {self._array!r}: {problem} (row {row}{column}): clean the values, choose a codec that can ({other}), "
            "or pack with nonfinite='upstream'"
        )


_PART_LEN = 1 << 19
# What is at least this rounds to an infinity of binary16.
_HALF_LIMIT = 65520.0


def _say_where_chunks_lie(plain: Path, path: Path) -> None:
    """Writes a v1 file again with the offset of each frame in its header."""
    with frames.replaced(path) as out, opened_frames(plain) as cvcf:
        header = {**cvcf.header, "mmap_optimized": True}
        lengths = [8 + frame.length for frame in cvcf.frames]
        # The header is longer for the digits of the offsets, which grow with the header: this ends as digits only get
        # more.
        size, found = 0, -1
        while size != found:
            size, position = found, found
            chunks = []
            for chunk, length in zip(cvcf.header["chunks"], lengths):
                chunks.append({**chunk, "file_offset": max(position, 0)})
                position += length
            header["chunks"] = chunks
            found = len(frames.prefix("v1", header))
        payloads = (cvcf.payload(chunk) for chunk in range(len(cvcf.frames)))
        frames.write(out, "v1", header, payloads)
