"""Loading rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np

from .._cvc import open as open_file
from .._errors import ArgumentError, CorruptedChunkError, LimitError
from .backends import Target, target
from .frames import cut, is_path, opened

# Rows of these become float32, which holds all their values: `decompressed` knows no other dtype.
_HALVES = ("float16", "bfloat16")
# Columns of other codecs were floats and come back as such.
_AS_STORED = ("raw", "zstd", "gzip", "lossless")
# Bytes that are filled without having been in the file; as many as `cvc.open` decodes by default.
_FILL_LIMIT = 1 << 46


def load_cvc(
    path: Any,
    device: str = "cpu",
    framework: str = "torch",
    backend: str = "auto",
    on_corruption: str = "raise",
    fill_value: float = 0.0,
) -> Any:
    """All rows of a file with one array: float32 of shape `(rows, dim)`, or the dtype of the array if it is not of
    floats.

    `path` is whatever `cvc.open` takes, in any layout. On `device="cpu"` the result is a NumPy array, on `cuda` or
    `cuda:N` one of `framework` (`torch` or `cupy`). `backend` is `auto`, or chooses what decodes: `python` and `cpp`
    are names for the processor, `cuda` and `triton` for a card.

    Rows whose checksum is wrong, or that a cut file lacks, raise `CorruptedChunkError`; with `on_corruption="skip"`
    they are `fill_value`, with `"warn"` a `RuntimeWarning` says which. Layout v0 has no checksums.

    Raises `FileNotFoundError`, `FormatError` (a `ValueError`) for what is no such file, `ArgumentError` (a
    `ValueError`) for a file of several arrays or a wrong argument, `DeviceError` (a `RuntimeError`) if the device
    cannot be had.
    """
    to = target(device, framework, backend)
    if on_corruption not in ("raise", "skip", "warn"):
        raise ArgumentError(f"on_corruption = {on_corruption!r}: one of raise, skip, warn is needed")
    warn = on_corruption == "warn"
    try:
        with opened(path) as file:
            _warn_of_v0(file)
            array = only_array(file)
            try:
                return to.read(array, dtype=float_dtype(array))
            except CorruptedChunkError as error:
                if on_corruption == "raise":
                    raise _with_rows(array, error, None) from None
                return _filled(array, len(array), to, warn, fill_value)
    except CorruptedChunkError:
        missing = cut(path) if on_corruption != "raise" and is_path(path) else None
        if missing is None:
            raise
    with open_file(missing.whole()) as file:
        return _filled(only_array(file), missing.total, to, warn, fill_value)


def _with_rows(array: Any, error: CorruptedChunkError, rows: Any) -> CorruptedChunkError:
    """The error with all of the rows asked for that are lost, not only those that were found first."""
    lost = ", ".join(f"{start} to {stop}" for start, stop in array.damaged_rows(rows))
    return CorruptedChunkError(
        f"rows {lost} are corrupted, as their CRC32 or encoding shows: {error}; on_corruption='skip' loads the others"
    )


def _filled(array: Any, total: int, to: Target, warn: bool, fill_value: float) -> Any:
    """The rows of the array, and `fill_value` for those that are damaged or missing."""
    lost = [tuple(rows) for rows in array.damaged_rows()]
    if total > len(array):
        lost.append((len(array), total))
    if total * max(1, math.prod(array.shape[1:])) * 4 > _FILL_LIMIT:
        raise LimitError(
            f"the header promises {total:,} rows, of which the file has {len(array):,}: they do not fit in memory"
        )
    dtype = float_dtype(array) or array.dtype
    values = np.empty((total, *array.shape[1:]), dtype)
    start = 0
    for lost_start, lost_stop in [*lost, (total, total)]:
        if lost_start > start:
            array.read(slice(start, lost_start), out=values[start:lost_start], dtype=dtype, backend=_host(to))
        values[lost_start:lost_stop] = fill_value
        start = lost_stop
    for lost_start, lost_stop in lost if warn else ():
        warnings.warn(
            f"rows {lost_start} to {lost_stop} are corrupted and filled with {fill_value}", RuntimeWarning, stacklevel=3
        )
    return to.moved(values)


def _host(to: Target) -> str:
    return to.backend if to.on_cpu else "cpu"


def load_cvc_chunked(
    path: Any,
    chunk_indices: Iterable[int] | None = None,
    device: str = "cpu",
    framework: str = "torch",
    backend: str = "auto",
) -> Iterator[tuple[int, Any]]:
    """Pairs of a chunk's index and its rows, one after the other: those of `chunk_indices`, in that order and as often.

    Arguments, arrays and errors are those of `load_cvc`. Wrong arguments raise here, not when the first chunk is asked
    for: `ArgumentError` for an index that is no chunk. What is damaged raises when its turn comes.
    """
    to = target(device, framework, backend)
    file = opened(path)
    try:
        _warn_of_v0(file)
        array = only_array(file)
        chunks = array.chunks
        wanted = range(len(chunks)) if chunk_indices is None else _checked(chunk_indices, len(chunks))
    except BaseException:
        file.close()
        raise

    def loaded() -> Iterator[tuple[int, Any]]:
        with file:
            for index in wanted:
                rows = chunks[index]
                try:
                    yield index, to.read(array, slice(rows.start, rows.stop), dtype=float_dtype(array))
                except CorruptedChunkError as error:
                    raise CorruptedChunkError(
                        f"chunk {index}, rows {rows.start} to {rows.stop}, is corrupted, as its CRC32 or encoding shows: {error}"
                    ) from None

    return loaded()


def _checked(chunk_indices: Iterable[int], count: int) -> list[int]:
    indices = [int(index) for index in chunk_indices]
    for index in indices:
        if not 0 <= index < count:
            raise ArgumentError(f"Invalid chunk index {index}. File has {count} chunks (indices 0-{count - 1})")
    return indices


def load_cvc_range(
    path: Any,
    chunk_indices: Iterable[int] | None = None,
    device: str = "cpu",
    framework: str = "torch",
    backend: str = "auto",
    metadata_key: str | None = None,
    metadata_value: Any = None,
    section_key: str | None = None,
    section_value: Any = None,
    *,
    rows: Any = None,
) -> Any:
    """Some rows of a file in one array, chosen in one of four ways; all rows if in none.

    `chunk_indices`: these chunks, in this order and as often. `metadata_key`, `metadata_value`: the chunks whose
    metadata has that value. `section_key`, `section_value`: the rows of all sections whose metadata has that value,
    each row once and in file order. `rows`: whatever stands in the brackets of a `cvc.Array`, such as a slice or a list
    of rows.

    Values are compared as Python does (`1 == 1.0 == True`); `None` is a value like others, and a key that is not there
    has none. Other arguments, arrays and errors are those of `load_cvc`. `ArgumentError` (a `ValueError`) is raised if
    nothing has the value.
    """
    ways = (chunk_indices, metadata_key, section_key, rows)
    if sum(way is not None for way in ways) > 1:
        raise ArgumentError("chunk_indices, metadata_key, section_key and rows exclude each other: use one of them")
    for what, key, value in (("metadata", metadata_key, metadata_value), ("section", section_key, section_value)):
        if key is None and value is not None:
            raise ArgumentError(f"{what}_value = {value!r} needs a {what}_key to compare with")
    to = target(device, framework, backend)
    with opened(path) as file:
        _warn_of_v0(file)
        array = only_array(file)
        if rows is not None:
            return _read(array, rows, to, float_dtype(array))
        if metadata_key is not None:
            ranges = _chunks_with(file, array, metadata_key, metadata_value)
        elif section_key is not None:
            ranges = _sections_with(file, section_key, section_value)
        elif chunk_indices is not None:
            chunks = array.chunks
            ranges = [chunks[index] for index in _checked(chunk_indices, len(chunks))]
        else:
            ranges = [range(len(array))]
        return _read_ranges(array, ranges, to, float_dtype(array))


def _read(array: Any, rows: Any, to: Target, dtype: str | None) -> Any:
    try:
        return to.read(array, rows, dtype=dtype)
    except CorruptedChunkError as error:
        raise _with_rows(array, error, rows) from None


def _read_ranges(array: Any, ranges: list[range], to: Target, dtype: str | None) -> Any:
    """The rows of all ranges, in their order."""
    ranges = _joined(ranges)
    if len(ranges) == 1:
        return _read(array, slice(ranges[0].start, ranges[0].stop), to, dtype)
    if not to.on_cpu or array.stored_dtype == "str":
        rows = np.concatenate([np.arange(part.start, part.stop) for part in ranges] or [np.empty(0, np.int64)])
        return _read(array, rows, to, dtype)
    values = np.empty((sum(map(len, ranges)), *array.shape[1:]), dtype or array.dtype)
    start = 0
    try:
        for part in ranges:
            stop = start + len(part)
            array.read(slice(part.start, part.stop), out=values[start:stop], dtype=dtype, backend=to.backend)
            start = stop
    except CorruptedChunkError as error:
        raise _with_rows(array, error, np.concatenate([np.arange(part.start, part.stop) for part in ranges])) from None
    return values


def _joined(ranges: Iterable[range]) -> list[range]:
    """The same rows in the same order, in as few ranges as that takes."""
    joined: list[range] = []
    for part in ranges:
        if not part:
            continue
        if joined and joined[-1].stop == part.start:
            joined[-1] = range(joined[-1].start, part.stop)
        else:
            joined.append(part)
    return joined


def _has(metadata: Any, key: str, value: Any) -> bool:
    return isinstance(metadata, dict) and key in metadata and bool(metadata[key] == value)


def _chunks_with(file: Any, array: Any, key: str, value: Any) -> list[range]:
    said = file.chunk_metadata
    if not said and file.layout == "native":
        # A native file says it of sections, whatever it was converted from.
        return _sections_with(file, key, value)
    found = [rows for rows, metadata in zip(array.chunks, said) if _has(metadata, key, value)]
    if not found:
        hint = "" if said else "; its chunks have no metadata" + ("; use section_key" if file.sections else "")
        raise ArgumentError(f"No chunks found with {key}={value!r}{hint}")
    return found


def _sections_with(file: Any, key: str, value: Any) -> list[range]:
    if not has_sections(file):
        hint = "; that of its chunks is found by metadata_key" if file.chunk_metadata else ""
        raise ArgumentError(f"File does not have section metadata; pack_cvc_sections() writes files that do{hint}")
    found = [range(section.start, section.stop) for section in file.sections if _has(section.metadata, key, value)]
    if not found:
        raise ArgumentError(f"No sections found with {key}={value!r}")
    # In file order, each row once, whatever other writers made of the sections.
    disjoint: list[range] = []
    for part in sorted(found, key=lambda part: part.start):
        start = max(part.start, disjoint[-1].stop) if disjoint else part.start
        if start < part.stop:
            disjoint.append(range(start, part.stop))
    return disjoint


def has_sections(file: Any) -> bool:
    """Whether the file has sections of its own; `File.sections` also tells of chunks."""
    return bool(file.sections) if file.layout == "native" else "sections" in file.header


def load_cvc_columns(
    path: Any,
    columns: Iterable[str] | None = None,
    device: str = "cpu",
    framework: str = "torch",
    backend: str = "auto",
    section_key: str | None = None,
    section_value: Any = None,
) -> dict[str, Any]:
    """Columns of a columnar or native file by name: those of `columns` in that order, or all.

    Columns that were packed as `fp16` or `int8` are float32, all others have the dtype that was packed. The shape is
    `(rows, dim)`, or `(rows,)` for a column of dimension 1. Only the bytes of these columns are decoded. Sections
    choose rows as in `load_cvc_range`; other arguments and errors are those of `load_cvc`. `ArgumentError` (a
    `ValueError`) is raised for a column that is not there and for a file of another layout.
    """
    if section_key is None and section_value is not None:
        raise ArgumentError(f"section_value = {section_value!r} needs a section_key to compare with")
    if isinstance(columns, str):
        raise ArgumentError(f"columns = {columns!r}: a list of names is needed")
    to = target(device, framework, backend)
    with opened(path) as file:
        arrays = columnar_arrays(file)
        names = list(arrays) if columns is None else list(columns)
        for name in names:
            if name not in arrays:
                raise ArgumentError(f"Column {name!r} not found. Available: {list(arrays)}")
        found = None if section_key is None else _sections_with(file, section_key, section_value)
        loaded = {}
        for name in names:
            array = arrays[name]
            ranges = [range(len(array))] if found is None else found
            loaded[name] = _read_ranges(array, ranges, to, _column_dtype(array))
        return loaded


def columnar_arrays(file: Any) -> dict[str, Any]:
    """The arrays of a file that has columns."""
    if file.layout in ("v2", "native"):
        return cast("dict[str, Any]", file.arrays)
    raise ArgumentError(f"File is not columnar, its layout is {file.layout}: use load_cvc() and get_cvc_info()")


def only_array(file: Any) -> Any:
    """The array of a file that has one, or the one named `vectors`."""
    arrays = file.arrays
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if "vectors" in arrays:
        return arrays["vectors"]
    raise ArgumentError(f"The file has the columns {list(arrays)}: use load_cvc_columns()")


def float_dtype(array: Any) -> str | None:
    return "float32" if array.stored_dtype in _HALVES else None


def _column_dtype(array: Any) -> str | None:
    return None if array.codec in _AS_STORED else float_dtype(array)


def _warn_of_v0(file: Any) -> None:
    if file.layout == "v0":
        warnings.warn(
            "the file is in the legacy layout v0, which has no checksums; upgrade_cvc() writes one that has",
            DeprecationWarning,
            stacklevel=3,
        )
