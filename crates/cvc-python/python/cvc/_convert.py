"""`cvc.convert`: files of other formats to `.cvc` files, and back.

Each format has one reader and one writer. What is read without Python is `_cvc.convert_file`: text, matrices, safetensors, NumPack.
Parquet and Arrow IPC are pyarrow's, whose batches stream to and from the same code. HDF5, Zarr and PyTorch have libraries in
Python alone; they are here, as named arrays that are read and written by pieces.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import _cvc
from ._cvc import Writer, open as open_file
from ._errors import ArgumentError, FormatError, MissingFileError
from ._progress import shown
from ._whole import whole

Progress = bool | Callable[[int, int], object]
_Tell = Callable[[int, int], object] | None

# Bytes of rows that are held at a time.
_PIECE_LEN = 64 << 20
# A few bytes can say that there are any number of rows that have none.
_MOST_EMPTY_ROWS = 1 << 32
# A guess of what a string takes.
_TEXT_LEN = 1024
# What we say beside arrays stands under this key, as the docs have it.
_KEY = "cvc"
_VECTORS = "vectors"

_BY_PYARROW = {".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc"}
_BY_PYTHON = {".h5": "h5py", ".hdf5": "h5py", ".zarr": "zarr", ".pt": "torch", ".pth": "torch"}


class Converted(NamedTuple):
    """What `convert` did."""

    rows: int
    """Rows of the table, or of the first array."""
    arrays: list[str]
    """The arrays."""
    sections: int
    """How many sections there are, on either side."""
    not_kept: list[str]
    """What the new file has no place for, each with the reason."""


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    codec: str | Mapping[str, str] | None = None,
    *,
    sections_from: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    vectors: str | None = None,
    text_dtype: Any = None,
    strings: Sequence[str] = (),
    chunk_rows: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    zarr_format: int = 3,
    overwrite: bool = True,
    progress: Progress = False,
) -> Converted:
    """Converts a file to a `.cvc` file, or a `.cvc` file to another, as the extensions say.

    Known are `.parquet`, `.arrow`, `.feather`, `.csv`, `.tsv`, `.npy`, `.npz`, `.fvecs`, `.bvecs`, `.ivecs`, `.safetensors`, `.h5`,
    `.hdf5`, `.zarr`, `.pt`, `.pth`, and directories of NumPack, which are only read. `docs/convert.md` has what each keeps.

    `codec` is for matrices of floats, or a dict by array; without one nothing is lost. `sections_from` names the columns of a table of
    which runs of equal values become sections. `columns` are the only ones to take. `vectors` is a pattern like `"dim_*"` for the
    columns of a text file that make the array `vectors`, of `text_dtype`, by default float32; `strings` are those that hold text
    whatever it looks like.

    What the new file has no place for is a warning, and in what is returned. The new file appears whole or not at all.
    """
    paths = (Path(source), Path(target))
    kinds = [path.suffix.lower() for path in paths]
    if kinds.count(".cvc") == 2:
        raise ArgumentError(f"{paths[1]}: both files are .cvc files; `File.convert` changes the layout of one")
    only = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
    labels = [sections_from] if isinstance(sections_from, str) else list(sections_from or ())
    codecs: list[tuple[str | None, str]] = []
    if codec is not None:
        codecs = [(None, codec)] if isinstance(codec, str) else [(name, one) for name, one in codec.items()]
    given: dict[str, Any] = {
        "codecs": codecs,
        "sections_from": labels,
        "columns": only,
        "vectors": vectors,
        "text_dtype": None if text_dtype is None else _name_of(text_dtype),
        "strings": [strings] if isinstance(strings, str) else list(strings),
        "chunk_rows": chunk_rows,
        "metadata": metadata and dict(metadata),
        "overwrite": overwrite,
    }
    other = kinds[1] if kinds[0] == ".cvc" else kinds[0]
    if (other in _BY_PYARROW or other in _BY_PYTHON) and ".cvc" not in kinds:
        raise ArgumentError(f"{paths[1]}: neither of the two is a .cvc file; convert to one first, and from there")
    with shown(progress, _rows_of(paths[0]) if progress is True else 0, "converting") as report:
        tell = report.after(0) if not callable(progress) else progress
        if other in _BY_PYARROW:
            done = _by_pyarrow(*paths, _BY_PYARROW[other], given, tell)
        elif other in _BY_PYTHON:
            _refuse_tables(given)
            done = _by_python(*paths, other, given, zarr_format, tell)
        else:
            done = Converted(*_cvc.convert_file(paths[0], paths[1], given, tell))
    for what in done.not_kept:
        warnings.warn(f"not kept in {paths[1]}: {what}", stacklevel=2)
    return done


def _name_of(dtype: Any) -> str:
    """The name that our files have for a dtype."""
    name = str(dtype) if str(dtype) == "bfloat16" else np.dtype(dtype).name
    for long, short in (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i")):
        if name.startswith(long):
            return short + name[len(long) :]
    return name


def _rows_of(source: Path) -> int:
    """For a bar: how many rows a `.cvc` file has. Others say so when they are open."""
    if source.suffix.lower() != ".cvc":
        return 0
    with open_file(source) as file:
        return len(next(iter(file.arrays.values()), ()))


def _module(name: str, pip: str | None = None) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = pip or name
        raise ImportError(f"this format is read and written by {package}, which is not installed: pip install {package}") from error


# ---- Parquet and Arrow IPC: pyarrow reads and writes them.


def _by_pyarrow(source: Path, target: Path, kind: str, given: dict[str, Any], tell: _Tell) -> Converted:
    pa = _module("pyarrow")
    if source.suffix.lower() == ".cvc":
        return _to_pyarrow(pa, source, target, kind, given, tell)
    _refuse_text(given)
    schema: Any
    batches: Iterator[Any]
    try:
        if kind == "parquet":
            file = _module("pyarrow.parquet", "pyarrow").ParquetFile(source)
            schema, rows = file.schema_arrow, file.metadata.num_rows
            size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
            most = max(1, min(1 << 16, _PIECE_LEN // max(64, size // max(1, rows))))
            # Columns that nobody wants are not read. Which of them are not there is said by the other side.
            wanted = given["columns"]
            known = wanted is not None and set(wanted) <= set(schema.names)
            if known:
                schema = pa.schema([field for field in schema if field.name in wanted], metadata=schema.metadata)
            names = list(schema.names) if known else None
            # A group at a time: of all together pyarrow reads ahead, and holds much of the file.
            batches = (
                batch
                for group in range(file.num_row_groups)
                for batch in file.iter_batches(batch_size=most, row_groups=[group], columns=names)
            )
        else:
            file = pa.ipc.open_file(pa.memory_map(os.fspath(source)))
            schema, rows = file.schema, None
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
    except FileNotFoundError as error:
        raise MissingFileError(error.errno or 2, f"{source}: cannot be read: there is no such file") from error
    except (pa.ArrowException, OSError) as error:
        what = "Parquet" if kind == "parquet" else "Arrow IPC"
        raise FormatError(f"{source}: is no sound {what} file: {error}; it was cut or changed: write it again") from error
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    return Converted(*_cvc.convert_stream(reader, rows, source, target, given, tell))


def _to_pyarrow(pa: Any, source: Path, target: Path, kind: str, given: dict[str, Any], tell: _Tell) -> Converted:
    _refuse_packing(given)
    table = _cvc.Table(source, target, given)
    reader = pa.RecordBatchReader.from_stream(table)
    converted = Converted(*table.converted)
    done = 0
    with whole(target, given["overwrite"]) as part:
        if kind == "parquet":
            parquet = _module("pyarrow.parquet", "pyarrow")
            flat = [field.name for field in reader.schema if not pa.types.is_fixed_size_list(field.type)]
            # Numbers of vectors hardly ever come twice: a dictionary of them costs time and is thrown away.
            writer = parquet.ParquetWriter(part, reader.schema, use_dictionary=flat)
        else:
            writer = pa.ipc.new_file(part, reader.schema)
        with writer:
            for batch in reader:
                writer.write_batch(batch)
                done += batch.num_rows
                if tell is not None:
                    tell(done, converted.rows)
    return converted


# ---- HDF5, Zarr and PyTorch: named arrays, read and written by pieces.


@dataclass
class _Lent:
    """An array of another file."""

    shape: tuple[int, ...]
    dtype: str
    """`utf8` for strings."""
    size: int
    """Bytes of a value."""
    read: Callable[[int, int], Any]

    @property
    def row_len(self) -> int:
        return max(1, int(np.prod(self.shape[1:], dtype=np.int64)) * self.size)


def _by_python(source: Path, target: Path, kind: str, given: dict[str, Any], zarr_format: int, tell: _Tell) -> Converted:
    library = _module(_BY_PYTHON[kind])
    opened: Callable[..., Any] = {"h5py": _open_h5, "zarr": _open_zarr, "torch": _open_torch}[_BY_PYTHON[kind]]
    if source.suffix.lower() != ".cvc":
        if not source.exists():
            raise MissingFileError(2, f"{source}: cannot be read: there is no such file")
        with opened(library, source) as (arrays, said):
            return _pack(source, target, arrays, said, given, tell)
    _refuse_packing(given)
    with open_file(source) as file, whole(target, given["overwrite"]) as part:
        plan = _plan(file, target, given["columns"])
        if _BY_PYTHON[kind] == "h5py":
            _write_h5(library, part, plan, tell)
        elif _BY_PYTHON[kind] == "zarr":
            _write_zarr(library, part, plan, zarr_format, tell)
        else:
            _write_torch(library, part, plan, tell)
        return Converted(plan.rows, list(plan.arrays), len(plan.said.get("sections", ())), plan.not_kept)


def _pack(
    source: Path, target: Path, arrays: dict[str, _Lent], said: dict[str, Any], given: dict[str, Any], tell: _Tell
) -> Converted:
    only = given["columns"]
    noted, not_kept = said.get("rows"), list(said.get("not_kept", ()))
    if said.get("sections") and not any(lent.shape[:1] == (noted,) for lent in arrays.values()):
        problem = f"has sections of {noted} rows, and no array has as many; remove or mend it"
        raise FormatError(f"{source}: its metadata under {_KEY!r} {problem}")
    if only is not None:
        for name in only:
            if name not in arrays:
                raise ArgumentError(f"columns = {name}: there is no such array in {source}; it has {', '.join(arrays)}")
        arrays = {name: lent for name, lent in arrays.items() if name in only}
    if not arrays:
        raise FormatError(f"{source}: it holds no arrays, and a .cvc file needs one; write it again")
    for name, lent in arrays.items():
        if not lent.shape:
            raise FormatError(f"{source}: column {name!r}: it is a single value, without rows; leave it out with columns")
        if lent.dtype not in _DTYPES:
            problem = f"it is of {lent.dtype}, which a .cvc file has no array for; leave it out with columns"
            raise FormatError(f"{source}: column {name!r}: {problem}")
    # The rows of the main array are those of the file. It is one with as many rows as the file says, or the one named vectors, or
    # that with the most bytes.
    alike = next((lent for lent in arrays.values() if lent.shape[0] == noted), None)
    main = alike or arrays.get(_VECTORS) or max(arrays.values(), key=lambda lent: lent.shape[0] * lent.row_len)
    rows = main.shape[0]
    if said.get("sections") and alike is None:
        said = {**said, "sections": []}
        not_kept.append(_OF_THE_FIRST)
    for name, lent in arrays.items():
        if lent.shape[0] > _MOST_EMPTY_ROWS and 0 in lent.shape:
            problem = f"it has {lent.shape[0]} rows without values, and more than {_MOST_EMPTY_ROWS} of these are not converted"
            raise ArgumentError(f"array {name!r}: {problem}; leave it out with columns")
    together = {name: lent for name, lent in arrays.items() if lent.shape[0] == rows}
    apart = {name: lent for name, lent in arrays.items() if lent.shape[0] != rows}
    chosen = dict(given["codecs"])
    for one in chosen:
        if one is not None and one not in arrays:
            raise ArgumentError(f"codec = {one}={chosen[one]}: no column becomes an array of that name")

    def codec(name: str) -> str:
        lent = arrays[name]
        if lent.dtype == "utf8":
            return str(chosen.get(name, "zstd"))
        of_all = chosen.get(None) if len(lent.shape) > 1 and "float" in lent.dtype else None
        return str(chosen.get(name) or of_all or "raw")

    metadata, sections = _said(source, said)
    metadata.update(given["metadata"] or {})
    provenance = said.get("provenance") or {}
    step = max(1, _PIECE_LEN // sum(lent.row_len for lent in together.values()))
    with Writer(
        os.fspath(target),
        codec={name: codec(name) for name in together},
        chunk_rows=given["chunk_rows"],
        metadata=metadata,
        provenance={name: provenance[name] for name in together if name in provenance} or None,
        overwrite=given["overwrite"],
    ) as writer:
        if rows == 0:
            writer.write({name: lent.read(0, 0) for name, lent in together.items()})
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            writer.write({name: lent.read(start, stop) for name, lent in together.items()})
            if tell is not None:
                tell(stop, rows)
        for start, count, of in sections:
            writer.add_section(start, start + count, of, may_be_empty=True)
        for name, lent in apart.items():
            writer.attach(name, lent.read(0, lent.shape[0]), codec=codec(name))
        writer.finish()
    return Converted(rows, [*together, *apart], len(sections), not_kept)


_OF_THE_FIRST = "sections: they speak of the first array, which is not among these"
_DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16 complex64 complex128 utf8".split()
)


def _said(source: Path, said: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[int, int, Any]]]:
    """Metadata and sections, of what another file says beside its arrays."""
    sections: Any = said.get("sections") or []
    rows: Any = said.get("rows")
    if not isinstance(sections, list):
        raise FormatError(f"{source}: its metadata under {_KEY!r} has sections that are no list; remove or mend it")
    checked = []
    for section in sections:
        match section:
            case [int(start), int(count), of] if 0 <= start and 0 <= count and start + count <= rows:
                checked.append((start, count, of))
            case _:
                problem = "has a section that is not [first row, number of rows, metadata] of as many rows as it says"
                raise FormatError(f"{source}: its metadata under {_KEY!r} {problem}")
    return dict(said.get("metadata") or {}), checked


def _ours(source: Path, text: Any) -> dict[str, Any]:
    try:
        ours = json.loads(text)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source}: its metadata under {_KEY!r} is no JSON: {error}; remove or mend it") from error
    if not isinstance(ours, dict):
        raise FormatError(f"{source}: its metadata under {_KEY!r} is no object; remove or mend it")
    return ours


@dataclass
class _Plan:
    """What of a `.cvc` file goes into another."""

    arrays: dict[str, _Lent]
    rows: int
    said: dict[str, Any]
    not_kept: list[str]

    def pieces(self, name: str, tell: _Tell) -> Iterator[tuple[int, int, Any]]:
        lent = self.arrays[name]
        before = 0
        for other, one in self.arrays.items():
            if other == name:
                break
            before += one.shape[0]
        total = sum(one.shape[0] for one in self.arrays.values())
        step = max(1, _PIECE_LEN // lent.row_len)
        for start in range(0, lent.shape[0], step):
            stop = min(lent.shape[0], start + step)
            yield start, stop, lent.read(start, stop)
            if tell is not None:
                tell(before + stop, total)


def _plan(file: _cvc.File, target: Path, only: list[str] | None) -> _Plan:
    for name in only or ():
        if name not in file:
            raise ArgumentError(f"columns = {name}: there is no such column; the file has the arrays {', '.join(file.keys())}")
    not_kept: list[str] = []
    arrays: dict[str, _Lent] = {}
    # PyTorch has bfloat16, and takes its bits; the others do not.
    widen = target.suffix.lower() not in (".pt", ".pth")
    for name, array in file.arrays.items():
        if only is not None and name not in only:
            continue
        if array.stored_dtype == "str":
            size = max(_TEXT_LEN, 8 * array.stored_len // max(1, len(array)))
            arrays[name] = _Lent(array.shape, "utf8", size, lambda start, stop, array=array: array[start:stop])  # type: ignore[misc]
        elif array.stored_dtype == "bfloat16" and widen:
            not_kept.append(f"dtype bf16 of array {name!r}: the format has none; its values are written as float32")
            arrays[name] = _Lent(array.shape, "float32", 4, _reading(array, "float32"))
        else:
            dtype = "bfloat16" if array.stored_dtype == "bfloat16" else array.dtype.name
            arrays[name] = _Lent(array.shape, dtype, array.dtype.itemsize, _reading(array, None))
    if not arrays:
        raise ArgumentError("columns: none of them is an array; add one")
    rows = next(iter(arrays.values())).shape[0]
    said: dict[str, Any] = {}
    sections = file.sections
    if sections and rows != len(next(iter(file.arrays.values()))):
        not_kept.append(_OF_THE_FIRST)
        sections = []
    if sections or any(lent.shape[0] != rows for lent in arrays.values()):
        said["rows"] = rows
    if sections:
        said["sections"] = [[start, stop - start, of] for start, stop, of in sections]
    metadata = {key: value for key, value in file.metadata.items() if key != "cvc.table"}
    if metadata:
        said["metadata"] = metadata
    provenance = {name: file[name].provenance for name in arrays if file[name].provenance is not None}
    if provenance:
        said["provenance"] = provenance
    return _Plan(arrays, rows, said, not_kept)


def _reading(array: _cvc.Array, dtype: str | None) -> Callable[[int, int], Any]:
    return lambda start, stop: array.read(slice(start, stop), dtype=dtype)


def _native(rows: Any) -> Any:
    """In this machine's byte order, as rows are packed."""
    return np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("="))


@contextmanager
def _open_h5(h5py: Any, source: Path) -> Iterator[tuple[dict[str, _Lent], dict[str, Any]]]:
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise FormatError(f"{source}: is no sound HDF5 file: {error}; it was cut or changed: write it again") from error
    with file:
        arrays: dict[str, _Lent] = {}

        def visit(name: str, item: Any) -> None:
            if not isinstance(item, h5py.Dataset):
                return
            if h5py.check_string_dtype(item.dtype) is not None:
                arrays[name] = _Lent(item.shape, "utf8", _TEXT_LEN, lambda start, stop: [str(text) for text in item.asstr()[start:stop]])
                if len(item.shape) > 1:
                    arrays[name].dtype = "strings in more than one dimension"
            else:
                shape = () if item.shape is None else item.shape
                arrays[name] = _Lent(shape, item.dtype.name, item.dtype.itemsize, lambda start, stop: _native(item[start:stop]))

        file.visititems(visit)
        # Names come in the order of the alphabet otherwise.
        order = file.attrs.get("cvc.order")
        if order is not None:
            arrays = _ordered(source, arrays, order)
        yield arrays, _said_by_attributes(source, file.attrs)


def _ordered(source: Path, arrays: dict[str, _Lent], order: Any) -> dict[str, _Lent]:
    """The arrays in the order that was noted, those that it does not name behind the others."""
    try:
        names = json.loads(order) if isinstance(order, str | bytes) else order
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f"{source}: its attribute 'cvc.order' is no list of names; remove or mend it")
    places = {name: place for place, name in enumerate(names)}
    return dict(sorted(arrays.items(), key=lambda pair: places.get(pair[0], len(places))))


def _said_by_attributes(source: Path, attributes: Mapping[str, Any]) -> dict[str, Any]:
    said = _ours(source, attributes[_KEY]) if _KEY in attributes else {}
    for key, value in attributes.items():
        if key in (_KEY, "cvc.order"):
            continue
        if isinstance(value, np.generic | np.ndarray):
            value = value.tolist()
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            said.setdefault("not_kept", []).append(f"attribute {key!r}: it is no JSON")
        else:
            said.setdefault("metadata", {})[key] = value
    return said


def _write_h5(h5py: Any, part: Path, plan: _Plan, tell: _Tell) -> None:
    with h5py.File(part, "w") as file:
        for name, lent in plan.arrays.items():
            dtype = h5py.string_dtype() if lent.dtype == "utf8" else lent.dtype
            dataset = file.create_dataset(name, shape=lent.shape, dtype=dtype)
            for start, stop, rows in plan.pieces(name, tell):
                dataset[start:stop] = rows
        if plan.said:
            file.attrs[_KEY] = json.dumps(plan.said)
        file.attrs["cvc.order"] = json.dumps(list(plan.arrays))


@contextmanager
def _open_zarr(zarr: Any, source: Path) -> Iterator[tuple[dict[str, _Lent], dict[str, Any]]]:
    try:
        root = zarr.open(os.fspath(source), mode="r")
    except Exception as error:  # Whatever it makes of a folder that is none of its own.
        raise FormatError(f"{source}: is no sound Zarr array or group: {error}; write it again") from error
    found: list[tuple[str, Any]] = []
    if isinstance(root, zarr.Array):
        found.append((_VECTORS, root))
    else:
        found = [(name, item) for name, item in root.members(max_depth=None) if isinstance(item, zarr.Array)]
    found.sort(key=lambda pair: pair[0])
    arrays = {name: _lent_by_zarr(array) for name, array in found}
    order = root.attrs.get("cvc.order")
    if order is not None:
        arrays = _ordered(source, arrays, order)
    yield arrays, _said_by_attributes(source, dict(root.attrs))


def _lent_by_zarr(array: Any) -> _Lent:
    if array.dtype.kind in "TOU":
        dtype = "utf8" if len(array.shape) == 1 else "strings in more than one dimension"
        return _Lent(array.shape, dtype, _TEXT_LEN, lambda start, stop: [str(text) for text in array[start:stop]])
    return _Lent(array.shape, array.dtype.name, array.dtype.itemsize, lambda start, stop: _native(array[start:stop]))


def _write_zarr(zarr: Any, part: Path, plan: _Plan, zarr_format: int, tell: _Tell) -> None:
    root = zarr.open_group(os.fspath(part), mode="w", zarr_format=zarr_format)
    for name, lent in plan.arrays.items():
        step = max(1, min(max(1, lent.shape[0]), (16 << 20) // lent.row_len))
        chunks = (step, *(max(1, length) for length in lent.shape[1:]))
        dtype: Any = str if lent.dtype == "utf8" else lent.dtype
        array = root.create_array(name, shape=lent.shape, chunks=chunks, dtype=dtype)
        for start, stop, rows in plan.pieces(name, tell):
            array[start:stop] = np.array(rows, dtype=object) if lent.dtype == "utf8" and zarr_format == 2 else rows
    if plan.said:
        root.attrs[_KEY] = json.dumps(plan.said)
    root.attrs["cvc.order"] = list(plan.arrays)


@contextmanager
def _open_torch(torch: Any, source: Path) -> Iterator[tuple[dict[str, _Lent], dict[str, Any]]]:
    try:
        # Nothing but tensors and plain values: what else a pickle can do is not done.
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise FormatError(f"{source}: is no file of tensors alone: {error}; save a tensor, or a dict of tensors, with torch.save") from error
    if isinstance(loaded, torch.Tensor):
        loaded = {_VECTORS: loaded}
    if not isinstance(loaded, Mapping):
        raise FormatError(f"{source}: holds a {type(loaded).__name__}; save a tensor, or a dict of tensors, with torch.save")
    arrays: dict[str, _Lent] = {}
    said: dict[str, Any] = _ours(source, loaded[_KEY]) if isinstance(loaded.get(_KEY), str) else {}
    for name, value in loaded.items():
        if isinstance(value, torch.Tensor):
            arrays[str(name)] = _lent_by_torch(value)
        elif isinstance(value, list) and value and all(isinstance(text, str) for text in value):
            arrays[str(name)] = _Lent((len(value),), "utf8", _TEXT_LEN, lambda start, stop, value=value: value[start:stop])  # type: ignore[misc]
        elif isinstance(value, str | int | float | bool) and name != _KEY:
            said.setdefault("metadata", {})[str(name)] = value
        elif name != _KEY:
            said.setdefault("not_kept", []).append(f"{name!r}: it is a {type(value).__name__}, neither tensor nor plain value")
    yield arrays, said


def _lent_by_torch(tensor: Any) -> _Lent:
    return _Lent(
        tuple(tensor.shape),
        str(tensor.dtype).removeprefix("torch."),
        tensor.element_size(),
        lambda start, stop: tensor[start:stop].detach().contiguous(),
    )


def _write_torch(torch: Any, part: Path, plan: _Plan, tell: _Tell) -> None:
    if _KEY in plan.arrays:
        problem = "a file of PyTorch has what is said beside arrays under this name; leave it out with columns"
        raise ArgumentError(f"array {_KEY!r}: {problem}")
    values: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for name, lent in plan.arrays.items():
            if lent.dtype == "utf8":
                values[name] = [text for _, _, texts in plan.pieces(name, tell) for text in texts]
                continue
            # The rows lie in a file beside the output until they are saved: memory holds a piece.
            bits = {"bfloat16": "int16"}.get(lent.dtype, lent.dtype)
            if 0 in lent.shape:
                values[name] = torch.empty(lent.shape, dtype=getattr(torch, lent.dtype))
                continue
            rows = Path(f"{part}.{len(values)}")
            stack.callback(rows.unlink, missing_ok=True)
            mapped = np.memmap(rows, dtype=bits, mode="w+", shape=lent.shape)
            for start, stop, piece in plan.pieces(name, tell):
                mapped[start:stop] = piece.view(bits)
            tensor = torch.from_numpy(mapped)
            values[name] = tensor.view(torch.bfloat16) if lent.dtype == "bfloat16" else tensor
        if plan.said:
            values[_KEY] = json.dumps(plan.said)
        torch.save(values, part)


def _refuse(given: dict[str, Any], keys: Iterable[str], problem: str) -> None:
    for key in keys:
        if given[key]:
            raise ArgumentError(f"{'codec' if key == 'codecs' else key}: {problem}; leave it out")


def _refuse_packing(given: dict[str, Any]) -> None:
    _refuse(given, ("codecs", "sections_from", "chunk_rows", "metadata"), "it is about making a .cvc file")
    _refuse_text(given)


def _refuse_text(given: dict[str, Any]) -> None:
    _refuse(given, ("vectors", "strings", "text_dtype"), "it is about reading .csv and .tsv files")


def _refuse_tables(given: dict[str, Any]) -> None:
    _refuse(given, ("sections_from",), "only tables have such columns: .parquet, .arrow, .feather, .csv, .tsv")
    _refuse_text(given)
