"""One contract for engines on many machines: `plan` says which rows are read together, `read` gives them, wherever it runs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ._cvc import Array, File, Selection, manifest, open as open_file, shown
from ._errors import ArgumentError, ChangedError, CvcError, FormatError, NoSuchArrayError
from ._whole import whole

Uri: TypeAlias = str | os.PathLike[str]
Uris: TypeAlias = Uri | Sequence[Uri]

# What a partition has at most, unless it is said: what Ray and Spark take for a good size.
MAX_BYTES = 128 << 20

_FLOATS = ("float16", "float32")
# Files that are opened at a time: over a network each takes two round trips.
_OPENED = 32
_FORMAT = "cvc-manifest"


@dataclasses.dataclass(frozen=True)
class Partition:
    """Rows of a file that are read together. It can be pickled, compared, and kept as JSON."""

    uri: str
    """The path, made absolute, or the URL."""
    identity: str
    """`File.identity` when the plan was made. Another file is refused."""
    ranges: tuple[tuple[int, int], ...]
    """Rows within the file: starts and stops, in file order."""
    arrays: tuple[str, ...]
    codecs: tuple[str, ...]
    """How each array is encoded."""
    dtype: str | None
    """What floats of at most 32 bits become: `float16` or `float32`; what the file says, if it is `None`."""
    rows: int
    first_row: int
    """Rows of the files before this one in the plan: what makes a row of the file one of all."""
    decoded_len: int
    """Bytes of all values. Of strings, which are not looked at before they are read, what they take in the file."""
    stored_len: int
    """Bytes in the file: of chunks that are read in part, their share."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Partition:
        """What `to_json` gave.

        Raises `FormatError` if it is not that.
        """
        try:
            said = json.loads(text)
            ranges = tuple((start, stop) for start, stop in said.pop("ranges"))
            return cls(ranges=ranges, arrays=tuple(said.pop("arrays")), codecs=tuple(said.pop("codecs")), **said)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(f"no partition that `Partition.to_json` wrote: {error!r}") from None


class Planned(NamedTuple):
    """A plan, and what makes a schema of it even if no row is in it."""

    partitions: list[Partition]
    none: Selection


def plan(
    uris: Uris,
    arrays: str | Sequence[str] | None = None,
    filter: dict[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    *,
    dtype: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> list[Partition]:
    """Divides rows of files into partitions of at most `max_bytes` decoded bytes each, for `read`. Only indices are read.

    `uris` is a path or a URL, or several in the order of their rows; a name that ends in `.json` is a manifest of `write_manifest`. `arrays`
    are those whose names are given; by default all with as many rows as the first. `filter` takes the rows of
    sections whose metadata has these values, as `File.where` does. `dtype` is `float16` or `float32`, for floats of at most 32 bits.
    `storage_options` says how URLs are reached, as for `open`; partitions do not have them, as they may be secrets: `read` is told again.

    Partitions end where chunks do, or blocks where a chunk is larger: no block is read for two of them. (Where several arrays
    have no such end in common, those of the largest array decide, and single blocks of the others are read twice.) One that cannot be
    divided, as blocks are larger, has more than `max_bytes`.

    Raises `ArgumentError` if files do not have the same arrays, and `ChangedError` if one is not that of its manifest.
    """
    return planned(uris, arrays, filter, max_bytes, dtype=dtype, storage_options=storage_options).partitions


def read(
    partition: Partition,
    arrays: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Selection:
    """The rows of a partition: an Arrow C stream (`__arrow_c_stream__`), which decodes them as they are asked for. It also reads
    single arrays as NumPy has them (`["vectors"]`), and searches them (`search`).

    `arrays` are some of those of the partition, and no other is read; `limit` is for the first rows alone; `storage_options` are those of
    the plan.

    Raises `ChangedError` if the file is not the one that was planned.
    """
    file = _open(partition.uri, storage_options)
    _check_identity(file, partition.uri, partition.identity)
    wanted = partition.arrays if arrays is None else tuple(arrays)
    if not wanted:
        raise ArgumentError("arrays is empty: rows are those of an array")
    unknown = [name for name in wanted if name not in partition.arrays]
    if unknown:
        raise NoSuchArrayError(f"the partition has no {', '.join(unknown)}; it has {', '.join(partition.arrays)}")
    ranges = list(partition.ranges if limit is None else _first(partition.ranges, limit))
    return file._part(ranges, list(wanted), partition.dtype)


def write_manifest(path: Uri, uris: Uris, *, storage_options: dict[str, Any] | None = None) -> None:
    """Writes a list of files, in the order of their rows, each with its identity: what a `plan` of that manifest will find, or refuse. Its name
    ends in `.json`, by which `plan` knows it.

    It appears whole or not at all, replaces the one before it, and is written last: files that it does not name are not there. Where it
    lies beside the files or above them, it names them from where it lies, so all can be moved together.
    """
    if not os.fspath(path).endswith(".json"):
        raise ArgumentError(f"path = {os.fspath(path)!r}: the name of a manifest ends in .json")
    folder = Path(os.path.abspath(path)).parent
    entries = []
    for uri, identity, file in _opened(_located(uris, storage_options), storage_options):
        with file:
            rows = _alike(file)[0].shape[0]
            entries.append({"uri": _beside(uri, folder), "identity": identity or file.identity, "rows": rows})
    if not entries:
        raise ArgumentError("no files to list: uris is empty")
    text = json.dumps({"format": _FORMAT, "version": 1, "files": entries}, indent=1)
    with whole(folder / Path(path).name) as part:
        part.write_text(text, encoding="utf-8")


def planned(
    uris: Uris,
    arrays: str | Sequence[str] | None = None,
    filter: dict[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    *,
    dtype: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Planned:
    """What `plan` gives, and the schema."""
    if max_bytes < 1:
        raise ArgumentError(f"max_bytes = {max_bytes}: a partition has one byte at least")
    if dtype is not None and dtype not in _FLOATS:
        raise ArgumentError(f"dtype = {dtype!r}: one of {', '.join(_FLOATS)} is needed")
    names: tuple[str, ...] | None = None if arrays is None else (arrays,) if isinstance(arrays, str) else tuple(arrays)
    if names is not None and (not names or len(set(names)) != len(names)):
        raise ArgumentError(f"arrays = {arrays!r}: names are needed, each once")
    partitions: list[Partition] = []
    none, kinds, first_uri, first_row = None, None, "", 0
    # More than any file has is as good as more.
    max_len = int(min(max_bytes, 1 << 62))
    for uri, identity, file in _opened(_located(uris, storage_options), storage_options):
        if identity is not None and file.identity != identity:
            raise ChangedError(
                f"{shown(uri)} is not the file of its manifest: it is {file.identity}, and was {identity}. "
                "Write the manifest again, or bring the file back"
            )
        if names is None:
            names = tuple(array.name for array in _alike(file))
        with _naming(uri):
            columns = [file[name] for name in names]
        found = [_kind(array) for array in columns]
        rows = columns[0].shape[0]
        if any(array.shape[0] != rows for array in columns):
            lengths = ", ".join(f"{array.name} {array.shape[0]}" for array in columns)
            raise ArgumentError(f"{shown(uri)}: arrays of different lengths are no table ({lengths} rows): plan them one by one")
        if none is None:
            none, kinds, first_uri = file._part([], list(names), dtype), found, uri
        elif found != kinds:
            wrong = next(name for name, here, there in zip(names, found, kinds or []) if here != there)
            raise ArgumentError(f"array {wrong!r} of {shown(uri)} has other values than that of {shown(first_uri)}: plan them apart")
        if filter is not None and rows != _alike(file)[0].shape[0]:
            raise ArgumentError(f"{shown(uri)}: sections speak of the first array and those of its length: plan {names[0]!r} without filter")
        now = file.identity
        ranges = [(0, rows)] if filter is None else [(of.start, of.stop) for of in file.where(filter).ranges]
        for part, count, decoded_len, stored_len in file._divided(ranges, list(names), max_len, dtype):
            partitions.append(
                Partition(
                    uri=uri,
                    identity=now,
                    ranges=tuple(part),
                    arrays=names,
                    codecs=tuple(array.codec for array in columns),
                    dtype=dtype,
                    rows=count,
                    first_row=first_row,
                    decoded_len=decoded_len,
                    stored_len=stored_len,
                )
            )
        first_row += rows
    if none is None:
        raise ArgumentError("no files to plan: uris is empty")
    return Planned(partitions, none)


def _first(ranges: Iterable[tuple[int, int]], limit: int) -> Iterator[tuple[int, int]]:
    for start, stop in ranges:
        stop = min(stop, start + limit)
        if start == stop:
            return
        limit -= stop - start
        yield start, stop


def _alike(file: File) -> list[Array]:
    """The arrays with as many rows as the first."""
    arrays = list(file.arrays.values())
    if not arrays:
        raise ArgumentError(f"{file.name} has no arrays")
    return [array for array in arrays if array.shape[0] == arrays[0].shape[0]]


def _kind(array: Array) -> tuple[str, float, tuple[int, ...]]:
    """What must be the same in all files: the kind of values, bytes of one, and the shape of a row."""
    stored, shape = array.stored_dtype, array.shape
    if stored in ("str", "unknown"):
        return stored, 0, ()
    if stored == "bfloat16":
        # As Arrow has it.
        return "float", 4, shape[1:]
    # Bytes of a value, as reading gives it: a codec may take float64 and give float32.
    itemsize = array.nbytes // array.size if array.size else array.dtype.itemsize
    return "float" if stored.startswith("float") else stored, itemsize, shape[1:]


def _check_identity(file: File, uri: str, identity: str) -> None:
    if file.identity != identity:
        raise ChangedError(f"{shown(uri)} is not the file that was planned: it is {file.identity}, and was {identity}. Plan again")


def _open(uri: str, storage_options: dict[str, Any] | None) -> File:
    with _naming(uri):
        # They are of no use where a file is here.
        return open_file(uri, storage_options=storage_options if "://" in uri else None)


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Says of which of many files an error is."""
    try:
        yield
    except CvcError as error:
        if shown(uri) not in str(error):
            error.args = (f"{shown(uri)}: {error}", *error.args[1:])
        raise


def _opened(
    located: Iterable[tuple[str, str | None]], storage_options: dict[str, Any] | None
) -> Iterator[tuple[str, str | None, File]]:
    """Each file, opened, with its URI and the identity that it should have; in this order, some at a time."""
    with ThreadPoolExecutor(_OPENED) as pool:
        opening: deque[tuple[str, str | None, Any]] = deque()
        for uri, identity in located:
            opening.append((uri, identity, pool.submit(_open, uri, storage_options)))
            if len(opening) == _OPENED:
                uri, identity, file = opening.popleft()
                yield uri, identity, file.result()
        for uri, identity, file in opening:
            yield uri, identity, file.result()


def paths(uris: Uris) -> list[str]:
    """The URIs one by one, of paths such as do not depend on where a process is."""
    found = []
    for uri in [uris] if isinstance(uris, (str, os.PathLike)) else uris:
        place = os.fspath(uri)
        if not isinstance(place, str):
            raise ArgumentError(f"uri = {uri!r}: a path or a URL is needed, which other machines can open")
        found.append(place if "://" in place else os.path.abspath(place))
    return found


def _located(uris: Uris, storage_options: dict[str, Any] | None) -> Iterator[tuple[str, str | None]]:
    """The URIs, instead of manifests those of their files, with the identities that they should have."""
    for place in paths(uris):
        if place.endswith(".json"):
            yield from manifest(place, storage_options=storage_options if "://" in place else None)
        else:
            yield place, None


def _beside(uri: str, folder: Path) -> str:
    if "://" not in uri and Path(uri).is_relative_to(folder):
        return Path(uri).relative_to(folder).as_posix()
    return uri
