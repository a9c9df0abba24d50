"""Adding, replacing, dropping and renaming columns: all others stay as they are, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._errors import ArgumentError
from . import frames
from .frames import Frames, Path, opened, opened_frames
from .info import info_of
from .load import columnar_arrays
from .pack import as_array, encoded


def list_columns(path: Path) -> list[dict[str, Any]]:
    """The columns of a columnar or native file: dicts of `name`, `dtype`, `dimension` and `compression`.

    Raises `ArgumentError` (a `ValueError`) for a file of another layout, and what `load_cvc` raises.
    """
    with opened(path) as file:
        columnar_arrays(file)
        info = info_of(file, file.file_len)
        if "columns" in info:
            return list(info["columns"])
        # A native file that one array was packed into.
        array = next(iter(file.arrays.values()))
        dimension = info["dimension"]
        return [{"name": array.name, "dtype": array.stored_dtype, "dimension": dimension, "compression": info["compression"]}]


def add_column(
    path: Path,
    column_name: str,
    data: Any,
    compression: str | None = None,
    output_path: Path | None = None,
    *,
    nonfinite: str = "refuse",
) -> None:
    """Adds a column to a columnar file, after all others.

    `data`: an array of shape `(rows, dim)` or `(rows,)`, with as many rows as the file. `compression` and `nonfinite` are those
    of `pack_cvc_columns`. The encoded bytes of other columns are copied, with their checksums compared; chunks and sections stay.
    The file is replaced when the new one is complete, or that is written at `output_path` and this one stays.

    Raises `ArgumentError` (a `ValueError`) if there is a column of that name or the rows are not as many, `CorruptedChunkError` if
    a chunk is damaged, and what `pack_cvc` raises.
    """
    with _editable(path) as cvcf:
        if column_name in _names(cvcf):
            raise ArgumentError(f"Column {column_name!r} already exists: use update_column()")
        rows = _rows(cvcf, data, "New column")
        _write(cvcf, path, output_path, [*_names(cvcf), column_name], {}, {column_name: (rows, compression, nonfinite)})


def update_column(
    path: Path,
    column_name: str,
    data: Any,
    compression: str | None = None,
    output_path: Path | None = None,
    *,
    nonfinite: str = "refuse",
) -> None:
    """Replaces the rows of a column, which keeps its place and, unless `compression` says otherwise, its compression.

    Its dtype and dimension become those of `data`. All else is as for `add_column`; `ArgumentError` (a `ValueError`) is raised if
    there is no such column.
    """
    with _editable(path) as cvcf:
        _check(cvcf, column_name)
        rows = _rows(cvcf, data, "Updated column")
        if compression is None:
            compression = next(col["compression"] for col in cvcf.header["columns"] if col["name"] == column_name)
        _write(cvcf, path, output_path, _names(cvcf), {}, {column_name: (rows, compression, nonfinite)})


def delete_column(path: Path, column_name: str, output_path: Path | None = None) -> None:
    """Drops a column. All else is as for `add_column`.

    Raises `ArgumentError` (a `ValueError`) if there is no such column, or no other.
    """
    with _editable(path) as cvcf:
        _check(cvcf, column_name)
        names = [name for name in _names(cvcf) if name != column_name]
        if not names:
            raise ArgumentError("Cannot delete the last column: a file has at least one")
        _write(cvcf, path, output_path, names, {}, {})


def rename_column(path: Path, old_name: str, new_name: str, output_path: Path | None = None) -> None:
    """Gives a column another name; it keeps its place. All else is as for `add_column`.

    Raises `ArgumentError` (a `ValueError`) if there is no column `old_name`, or one `new_name`.
    """
    with _editable(path) as cvcf:
        _check(cvcf, old_name)
        if new_name in _names(cvcf):
            raise ArgumentError(f"Column {new_name!r} already exists")
        names = [new_name if name == old_name else name for name in _names(cvcf)]
        _write(cvcf, path, output_path, names, {new_name: old_name}, {})


def _editable(path: Path) -> Any:
    with opened(path) as file:
        columnar_arrays(file)
        if file.layout == "native":
            raise ArgumentError(
                f"{os.fspath(path)}: columns are edited in files of layout v2, this one is native; cvc.open(path).convert() "
                "makes one of the other where v2 can hold what is in it"
            )
    return opened_frames(path)


def _names(cvcf: Frames) -> list[str]:
    return [column["name"] for column in cvcf.header["columns"]]


def _check(cvcf: Frames, name: str) -> None:
    if name not in _names(cvcf):
        raise ArgumentError(f"Column {name!r} not found. Available: {_names(cvcf)}")


def _rows(cvcf: Frames, data: Any, what: str) -> np.ndarray[Any, Any]:
    rows = as_array(data)
    if len(rows) != cvcf.header["num_vectors"]:
        raise ArgumentError(f"{what} must have {cvcf.header['num_vectors']} vectors, got {len(rows)}")
    return rows


def _write(
    cvcf: Frames,
    path: Path,
    output_path: Path | None,
    names: list[str],
    renamed: dict[str, str],
    fresh: dict[str, tuple[np.ndarray[Any, Any], str | None, str]],
) -> None:
    """Writes a file of the columns `names`: those of `fresh` are encoded, all others copied."""
    # The header stands before the chunks, so fresh columns are encoded twice rather than kept in memory.
    said = {column["name"]: column for column in cvcf.header["columns"]}
    columns, chunks = [], []
    for name in names:
        if name not in fresh:
            columns.append({**said[renamed.get(name, name)], "name": name})
    parts_of = {name: _Fresh(name, *of_column) for name, of_column in fresh.items()}
    start = 0
    for index, chunk in enumerate(cvcf.header["chunks"]):
        stop, offset, parts = start + chunk["rows"], 0, {}
        for name in names:
            if name in parts_of:
                column, part, _ = parts_of[name].chunk(start, stop)
                if index == 0:
                    columns.insert(names.index(name), column)
            else:
                part = chunk["columns"][renamed.get(name, name)]
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
            for name in names:
                if name in parts_of:
                    pieces.append(parts_of[name].chunk(start, stop)[2])
                else:
                    part = chunk["columns"][renamed.get(name, name)]
                    pieces.append(payload[part["offset"] : part["offset"] + part["size"]])
            yield b"".join(pieces)
            start = stop

    header = {**cvcf.header, "columns": columns, "chunks": chunks}
    frames.write(path if output_path is None else output_path, "v2", header, payloads())


class _Fresh:
    """A column that is encoded for this file."""

    def __init__(self, name: str, rows: np.ndarray[Any, Any], compression: str | None, nonfinite: str) -> None:
        self._name = name
        self._rows = rows
        self._compressions = {} if compression is None else {name: compression}
        self._nonfinite = nonfinite

    def chunk(self, start: int, stop: int) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        """What the header says of the column, what it says of the chunk of these rows, and the bytes of that."""
        rows = self._rows[start:stop]
        return encoded(self._name, rows, self._compressions, self._nonfinite, start)
