"""Adding, replacing, dropping and renaming columns: all others stay as they are, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from .._cvc import Writer
from .._errors import ArgumentError
from . import frames
from .frames import Frames, Path, opened, opened_frames
from .info import columns_of
from .load import columnar_arrays
from .pack import as_array, encoded


def list_columns(path: Path) -> list[dict[str, Any]]:
    """The columns of a columnar or native file: dicts of `name`, `dtype`, `dimension` and `compression`.

    Raises `ArgumentError` (a `ValueError`) for a file of another layout, and what `load_cvc` raises.
    """
    with opened(path) as file:
        columnar_arrays(file)
        return columns_of(file)


def add_column(
    path: Path,
    column_name: str,
    data: Any,
    compression: str | None = None,
    output_path: Path | None = None,
    *,
    nonfinite: str = "refuse",
) -> None:
    """Adds a column to a columnar or native file, after all others.

    `data`: an array of shape `(rows, dim)` or `(rows,)`, with as many rows as the file. `compression` and `nonfinite`
    are those of `pack_cvc_columns`. The encoded bytes of other columns are copied, with their checksums compared;
    chunks and sections stay. The file is replaced when the new one is complete, or that is written at `output_path` and
    this one stays.

    Raises `ArgumentError` (a `ValueError`) if there is a column of that name or the rows are not as many,
    `CorruptedChunkError` if a chunk is damaged, and what `pack_cvc` raises.
    """
    with opened(path) as file:
        arrays = columnar_arrays(file)
        if column_name in arrays:
            raise ArgumentError(f"Column {column_name!r} already exists: use update_column()")
        rows = _rows(data, "New column", next(iter(arrays.values())))
        fresh = _Fresh(column_name, rows, compression, nonfinite)
        _write(file, path, output_path, {**{name: name for name in arrays}, column_name: fresh})


def update_column(
    path: Path,
    column_name: str,
    data: Any,
    compression: str | None = None,
    output_path: Path | None = None,
    *,
    nonfinite: str = "refuse",
) -> None:
    """Replaces the rows of a column, which keeps its compression unless `compression` says otherwise.

    Its dtype and dimension become those of `data`. It keeps its place in a columnar file; in a native one it goes
    behind the others. All else is as for `add_column`; `ArgumentError` (a `ValueError`) is raised if there is no such
    column.
    """
    with opened(path) as file:
        arrays = columnar_arrays(file)
        _check(arrays, column_name)
        rows = _rows(data, "Updated column", arrays[column_name])
        if compression is None:
            compression = next(column["compression"] for column in columns_of(file) if column["name"] == column_name)
        fresh = _Fresh(column_name, rows, compression, nonfinite)
        _write(file, path, output_path, {name: fresh if name == column_name else name for name in arrays})


def delete_column(path: Path, column_name: str, output_path: Path | None = None) -> None:
    """Drops a column. All else is as for `add_column`.

    Raises `ArgumentError` (a `ValueError`) if there is no such column, or no other.
    """
    with opened(path) as file:
        arrays = columnar_arrays(file)
        _check(arrays, column_name)
        if len(arrays) == 1:
            raise ArgumentError("Cannot delete the last column: a file has at least one")
        _write(file, path, output_path, {name: name for name in arrays if name != column_name})


def rename_column(path: Path, old_name: str, new_name: str, output_path: Path | None = None) -> None:
    """Gives a column another name; it keeps its place. All else is as for `add_column`.

    Raises `ArgumentError` (a `ValueError`) if there is no column `old_name`, or one `new_name`.
    """
    with opened(path) as file:
        arrays = columnar_arrays(file)
        _check(arrays, old_name)
        if new_name in arrays:
            raise ArgumentError(f"Column {new_name!r} already exists")
        _write(file, path, output_path, {new_name if name == old_name else name: name for name in arrays})


def _check(arrays: dict[str, Any], name: str) -> None:
    if name not in arrays:
        raise ArgumentError(f"Column {name!r} not found. Available: {list(arrays)}")


def _rows(data: Any, what: str, like: Any) -> np.ndarray[Any, Any]:
    rows = as_array(data)
    if len(rows) != len(like):
        raise ArgumentError(f"{what} must have {len(like)} vectors, got {len(rows)}")
    return rows


class _Fresh:
    """A column that is to be encoded."""

    def __init__(self, name: str, rows: np.ndarray[Any, Any], compression: str | None, nonfinite: str) -> None:
        self.name = name
        self.rows = rows
        self.compression = compression
        self.nonfinite = nonfinite

    def chunk(self, start: int, stop: int) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        """What the header says of the column, what it says of the chunk of these rows, and the bytes of that."""
        compressions = {} if self.compression is None else {self.name: self.compression}
        return encoded(self.name, self.rows[start:stop], compressions, self.nonfinite, start)


# What the columns of the new file are, in their order: columns of the old one by name, or fresh ones.
_Plan = dict[str, "str | _Fresh"]


def _write(file: Any, path: Path, output_path: Path | None, plan: _Plan) -> None:
    # A link keeps pointing at what it points at.
    final = os.path.realpath(path) if output_path is None else output_path
    if file.layout == "native":
        _write_native(file, final, plan)
    else:
        # Nothing may have a file open that is replaced, on Windows.
        file.close()
        with frames.replaced(final) as out, opened_frames(path) as cvcf:
            _write_columnar(cvcf, out, plan)


def _write_native(file: Any, path: Path, plan: _Plan) -> None:
    kept = [(source, name) for name, source in plan.items() if isinstance(source, str)]
    fresh = [source for source in plan.values() if isinstance(source, _Fresh)]
    for column in fresh:
        if column.nonfinite != "refuse":
            raise ArgumentError(f"nonfinite = {column.nonfinite!r}: columns of native files are only added with refuse")
    codecs = {column.name: "raw" if column.compression == "none" else column.compression for column in fresh}
    if kept:
        with file._copy_arrays(path, kept) as writer:
            for column in fresh:
                writer.attach(column.name, column.rows, codec=codecs[column.name])
            file.close()
        return
    # The only column is replaced: nothing is left to attach it to.
    given = {name: codec for name, codec in codecs.items() if codec is not None}
    with Writer(path, codec=given, metadata=file.metadata) as writer:
        for section in file.sections:
            writer.add_section(section.start, section.stop, section.metadata, may_be_empty=True)
        writer.write({column.name: column.rows for column in fresh})
        file.close()


def _write_columnar(cvcf: Frames, out: BinaryIO, plan: _Plan) -> None:
    """Writes a file whose chunks have the same rows, and the bytes of the columns that were there."""
    # The header stands before the chunks, so fresh columns are encoded twice rather than kept in memory.
    said = {column["name"]: column for column in cvcf.header["columns"]}
    columns: list[dict[str, Any]] = []
    chunks = []
    start = 0
    for chunk in cvcf.header["chunks"]:
        stop, offset, parts = start + chunk["rows"], 0, {}
        columns.clear()
        for name, source in plan.items():
            if isinstance(source, _Fresh):
                column, part, _ = source.chunk(start, stop)
            else:
                column, part = said[source], chunk["columns"][source]
            columns.append({**column, "name": name})
            parts[name] = {**part, "offset": offset}
            offset += part["size"]
        chunks.append({**chunk, "columns": parts})
        start = stop

    def payloads() -> Iterator[bytes]:
        start = 0
        for index, chunk in enumerate(cvcf.header["chunks"]):
            stop = start + chunk["rows"]
            payload = cvcf.payload(index)
            pieces = []
            for source in plan.values():
                if isinstance(source, _Fresh):
                    pieces.append(source.chunk(start, stop)[2])
                else:
                    part = chunk["columns"][source]
                    pieces.append(payload[part["offset"] : part["offset"] + part["size"]])
            yield b"".join(pieces)
            start = stop

    frames.write(out, "v2", {**cvcf.header, "columns": columns, "chunks": chunks}, payloads())
