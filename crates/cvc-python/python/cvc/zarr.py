"""A codec for Zarr v3: each chunk of an array is a native `.cvc` file, of which only the blocks wanted are read and decoded.

>>> import numpy as np, zarr
>>> from cvc.zarr import CvcCodec
>>> vectors = np.random.default_rng(0).normal(size=(1000, 64)).astype("f4")
>>> store = zarr.storage.MemoryStore()
>>> array = zarr.create_array(store, data=vectors, chunks=(500, 64), serializer=CvcCodec(), compressors=None)
>>> bool((array[[7, 999]] == vectors[[7, 999]]).all())
True

Leave `compressors` and `filters` out (`None`): beside any other codec Zarr asks for whole chunks only. The checksums of every block
and the compression are inside.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

import numpy as np
import zarr
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.storage import LocalStore, MemoryStore, StorePath

from ._cvc import Array, File, Pieces, Span, open as open_file
from ._chunk import FLOATS, VALUES, packed, without_units
from ._errors import ArgumentError, FormatError, NoSuchArrayError, SourceError

if TYPE_CHECKING:
    from zarr.abc.store import ByteGetter, ByteRequest
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

__all__ = ["CvcCodec"]

_T = TypeVar("_T")

# The name of the codec in metadata.
_NAME = "cvc"

_DTYPES = (
    *FLOATS,
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("complex64", "complex128", "bool"),
)
_OF_FLOATS = ("lossless", "fp16", "bf16", "int8", "int4", "bit1")
_OF_ALL = ("raw", "zstd", "gzip")
_WORDS = {"scope": ("row", "dim", "chunk"), "nonfinite": ("refuse", "saturate")}

# The least of a file that its reader asks for, and the last bytes of the trailer: its own length comes first.
_FRONT_LEN = 64
_TAIL_LEN = 64 << 10
_TRAILER_LEN = 40
# Ranges with less between them are fetched as one: over a network a request costs more than such a gap.
_GAP = 64 << 10
# Longer rows are cut at their first axis, so that a block, which holds whole rows, stays small.
_ROW_LEN = 1 << 20
# The format has blocks of whole rows, which packed are at most so long.
_MOST_OF_ROW = 16 << 20
# More decoded bytes than this are decoded in a thread, so that the event loop can go on.
_INLINE_LEN = 256 << 10


@dataclass(frozen=True)
class CvcCodec(ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin):
    """Keeps each chunk as a native file of rows. Parameters are those of `cvc.pack`.

    `codec` is how values are kept: `lossless` (the default for floats) or `zstd` (for all else), which keep every bit, `raw` and `gzip`,
    which do so too, or one of `fp16`, `bf16`, `int8`, `int4` and `bit1`, which are for floats and lose some. `block_rows` says how many rows have a
    checksum together, and are the least that is read; `chunk_rows` how many are encoded together. `scope` and `nonfinite` are those of
    `int8` and of codecs that cannot hold every value.
    """

    is_fixed_size = False

    codec: str | None = None
    block_rows: int | None = None
    chunk_rows: int | None = None
    scope: Literal["row", "dim", "chunk"] | str | None = None
    nonfinite: Literal["refuse", "saturate"] | str | None = None

    def __post_init__(self) -> None:
        known = _OF_FLOATS + _OF_ALL
        if self.codec is not None and self.codec not in known:
            raise ArgumentError(f"codec = {self.codec!r}: one of {', '.join(known)} is needed")
        for name in ("block_rows", "chunk_rows"):
            rows = getattr(self, name)
            if rows is not None and (not isinstance(rows, int) or isinstance(rows, bool) or rows < 1):
                raise ArgumentError(f"{name} = {rows!r}: a number of rows, 1 or more, is needed")
        for name, words in _WORDS.items():
            word = getattr(self, name)
            if word is not None and word not in words:
                raise ArgumentError(f"{name} = {word!r}: one of {', '.join(words)} is needed")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The codec of array metadata. What is unknown there is refused, as it may say how to decode."""
        name, configuration = data.get("name"), data.get("configuration") or {}
        if name != _NAME:
            raise ArgumentError(f"codec {name!r}: this is {_NAME!r}")
        if not isinstance(configuration, Mapping):
            raise ArgumentError(f"configuration of codec {_NAME!r}: an object is needed, not {configuration!r}")
        known = [field.name for field in fields(cls)]
        unknown = [key for key in configuration if key not in known]
        if unknown:
            raise ArgumentError(f"configuration of codec {_NAME!r} has {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**configuration)

    def to_dict(self) -> dict[str, Any]:
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"name": _NAME, "configuration": {name: value for name, value in said.items() if value is not None}}

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        # The inner codec of a shard is asked nothing else before its first chunk. The shape here may be that of the array.
        self._check_dtype(array_spec.dtype.to_native_dtype())
        return self

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        self._check_dtype(dtype.to_native_dtype())
        _file_shape(getattr(chunk_grid, "chunk_shape", ()), dtype.to_native_dtype().itemsize)

    def _check_dtype(self, dtype: np.dtype[Any]) -> None:
        name = _stored_name(dtype)
        if name is None:
            raise ArgumentError(f"values of dtype {dtype} cannot be stored: {', '.join(_DTYPES)}, dates and durations can")
        if self.codec in _OF_FLOATS and name not in FLOATS:
            raise ArgumentError(f"codec {self.codec!r} is for floats, not for {dtype}: leave it out, or use one of {', '.join(_OF_ALL)}")

    def compute_encoded_size(self, _input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("how long a chunk becomes depends on its values")

    # Whole chunks.

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        values = chunk_array.as_numpy_array()
        declared = chunk_spec.dtype.to_native_dtype().newbyteorder("=")
        if values.dtype.newbyteorder("=") != declared:
            # A filter that says it leaves values as they are gives their bits under another name.
            values = values.view(declared.newbyteorder(values.dtype.byteorder))
        values = values.reshape(_file_shape(values.shape, values.dtype.itemsize))
        options = {name: getattr(self, name) for name in ("block_rows", "chunk_rows", "scope", "nonfinite")}
        # By the dtype of the chunk, which a filter may have changed.
        return chunk_spec.prototype.buffer.from_bytes(packed(without_units(values), self.codec, options))

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        array = _array_of(open_file(_immutable(chunk_bytes)), chunk_spec)
        return _as_buffer(_read(array, None, chunk_spec).reshape(chunk_spec.shape), chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await _run(_decoded_len(chunk_spec), self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await _run(_decoded_len(chunk_spec), self._decode_sync, chunk_data, chunk_spec)

    # Parts of chunks.

    async def _decode_partial_single(
        self, byte_getter: ByteGetter, selection: Any, chunk_spec: ArraySpec
    ) -> NDBuffer | None:
        part = _Part(selection, chunk_spec.shape)
        store = byte_getter.store if isinstance(byte_getter, StorePath) else None
        if type(store) is LocalStore:
            # A file that can be read by position needs nobody to fetch its bytes.
            path = store.root / cast(StorePath, byte_getter).path
            return await asyncio.to_thread(_read_path, path, part, chunk_spec)
        small = _decoded_len(chunk_spec) <= _TAIL_LEN
        if store is None or type(store) is MemoryStore or part.is_whole or small:
            # A shard has fetched the chunk already; and what is small, or wanted whole, is had by one request.
            whole = await byte_getter.get(prototype=chunk_spec.prototype)
            if whole is None:
                return None
            return await _run(part.most(chunk_spec), _read_bytes, whole, part, chunk_spec)
        return await _Fetching(byte_getter, chunk_spec).read(part)


def _stored_name(dtype: np.dtype[Any]) -> str | None:
    """The dtype under which values are kept, if there is one."""
    if dtype.kind in "mM":
        return "int64"
    return dtype.name if dtype.name in _DTYPES else None


def _file_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks as rows and the rest: axes of one and the first that is longer count rows, and so do those after it while rows are long. The
    last axis is never cut."""
    axes, most = 1, max(1, len(shape) - 1)
    while axes < most and (math.prod(shape[:axes]) == 1 or math.prod(shape[axes:]) * itemsize > _ROW_LEN):
        axes += 1
    rows, rest = math.prod(shape[:axes]), shape[axes:]
    row_len = math.prod(rest) * itemsize
    if row_len > _MOST_OF_ROW:
        raise ArgumentError(f"chunks of shape {shape} have rows of {row_len} bytes, and {_MOST_OF_ROW} are possible")
    # A file has eight axes at most.
    return (rows, *rest) if len(rest) < 8 else (rows, *rest[:6], math.prod(rest[6:]))


def _decoded_len(chunk_spec: ArraySpec) -> int:
    return math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize


async def _run(decoded_len: int, work: Callable[..., _T], *arguments: Any) -> _T:
    """Does what takes no time here, and all else in a thread."""
    if decoded_len <= _INLINE_LEN:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def _immutable(buffer: Buffer) -> Any:
    """What `cvc.open` can read without a copy, if the buffer is part of `bytes`, which nobody changes."""
    array = buffer.as_numpy_array()
    root: Any = array
    while isinstance(root, np.ndarray):
        root = root.base
    if type(root) is not bytes or not array.flags.c_contiguous:
        return array.tobytes()
    start = array.__array_interface__["data"][0] - np.frombuffer(root, "u1").__array_interface__["data"][0] if array.size else 0
    return Span(root, start, start + array.nbytes)


def _array_of(file: File, chunk_spec: ArraySpec) -> Array:
    """The values of a chunk's file, if they are those of such a chunk."""
    try:
        array = file[VALUES]
    except NoSuchArrayError as error:
        raise FormatError(f"the chunk is no chunk of Zarr: {error}") from None
    shape, dtype = chunk_spec.shape, chunk_spec.dtype.to_native_dtype()
    if array.stored_dtype != _stored_name(dtype) or math.prod(array.shape) != math.prod(shape) or _row_axes(array, shape) is None:
        raise FormatError(f"the chunk holds {array.stored_dtype} values of shape {array.shape}, not {dtype} of shape {shape}")
    return array


def _row_axes(array: Array, shape: tuple[int, ...]) -> int | None:
    """How many of the first axes of a chunk count the rows of its file."""
    counts = (axes for axes in range(len(shape) + 1) if math.prod(shape[:axes]) == array.shape[0])
    return next(counts, None)


def _read(array: Array, rows: Any, chunk_spec: ArraySpec) -> np.ndarray[Any, Any]:
    """Rows in the dtype of the chunk."""
    dtype = chunk_spec.dtype.to_native_dtype()
    # Rounded once, where the codec gives f32.
    halves = dtype.name == "float16" and array.dtype.name == "float32"
    values: np.ndarray[Any, Any] = array.read(rows, dtype="float16" if halves else None)
    if dtype.kind in "mM":
        return values.view(dtype.newbyteorder("="))
    return values.astype(dtype.newbyteorder("="), copy=False)


def _as_buffer(values: np.ndarray[Any, Any], chunk_spec: ArraySpec) -> NDBuffer:
    return chunk_spec.prototype.nd_buffer.from_numpy_array(values)


def _read_path(path: Any, part: _Part, chunk_spec: ArraySpec) -> NDBuffer | None:
    try:
        file = open_file(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    with file:
        return part.read(_array_of(file, chunk_spec), chunk_spec)


def _read_bytes(buffer: Buffer, part: _Part, chunk_spec: ArraySpec) -> NDBuffer:
    return part.read(_array_of(open_file(_immutable(buffer)), chunk_spec), chunk_spec)


class _Part:
    """What is wanted of a chunk: an index of NumPy for the array that the chunk is."""

    def __init__(self, selection: Any, shape: tuple[int, ...]) -> None:
        selection = selection if isinstance(selection, tuple) else (selection,)
        if any(item is Ellipsis for item in selection):
            at = next(axis for axis, item in enumerate(selection) if item is Ellipsis)
            missing = len(shape) - len(selection) + 1
            selection = (*selection[:at], *(slice(None),) * missing, *selection[at + 1 :])
        self.selection: tuple[Any, ...] = selection + (slice(None),) * (len(shape) - len(selection))
        self.shape = shape
        self.is_whole = all(_is_all(item, length) for item, length in zip(self.selection, shape))

    def most(self, chunk_spec: ArraySpec) -> int:
        """Bytes of the result, or somewhat more."""
        counts = [item.size if isinstance(item, np.ndarray) else len(range(length)[item]) if isinstance(item, slice) else 1
                  for item, length in zip(self.selection, self.shape)]
        return math.prod(counts) * chunk_spec.dtype.to_native_dtype().itemsize

    def rows(self, array: Array) -> tuple[Any, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]]:
        """Which rows of the file are needed, and what makes the result of them."""
        axes = _row_axes(array, self.shape)
        head, tail = self.selection[:axes], self.selection[axes:]
        lengths, rest = self.shape[:axes], self.shape[axes:]
        rows = np.arange(array.shape[0]).reshape(lengths)[head]
        if not any(isinstance(item, np.ndarray) for item in self.selection):
            # Slices and numbers: the rows as they come, and what is left of each.
            wanted = (slice(None),) * rows.ndim + tail
            return _contiguous(rows), lambda values: values.reshape(rows.shape + rest)[wanted]
        if not all(isinstance(item, np.ndarray) for item in self.selection):
            # Not what Zarr asks for; NumPy knows what it means.
            return None, lambda values: values.reshape(self.shape)[self.selection]
        if all(_is_open_mesh_of_all(item, length, axis, len(self.shape)) for axis, (item, length) in enumerate(zip(self.selection, self.shape)) if axis >= len(head)):
            # Whole rows, chosen along each of their axes.
            return _contiguous(rows), lambda values: values.reshape(rows.shape[: len(head)] + rest)
        # Values here and there: each row once, as its values may be many.
        each, places = np.unique(rows, return_inverse=True)
        index = (places.reshape(rows.shape), *tail)
        return _contiguous(each), lambda values: values.reshape(each.shape + rest)[index]

    def read(self, array: Array, chunk_spec: ArraySpec) -> NDBuffer:
        if self.is_whole:
            return _as_buffer(_read(array, None, chunk_spec).reshape(self.shape), chunk_spec)
        rows, finish = self.rows(array)
        return _as_buffer(finish(_read(array, rows, chunk_spec)), chunk_spec)


def _is_all(item: Any, length: int) -> bool:
    return isinstance(item, slice) and item.indices(length) == (0, length, 1)


def _is_open_mesh_of_all(item: np.ndarray[Any, Any], length: int, axis: int, axes: int) -> bool:
    """Whether it is all numbers of this axis, as `numpy.ix_` makes them."""
    if item.shape != tuple(length if other == axis else 1 for other in range(axes)):
        return False
    return bool((item.ravel() == np.arange(length)).all())


def _contiguous(rows: np.ndarray[Any, Any]) -> Any:
    """The rows as a slice, if they are one."""
    rows = rows.ravel()
    if rows.size and rows[-1] - rows[0] == rows.size - 1 and bool((np.diff(rows) == 1).all()):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


class _Fetching:
    """A chunk in a store that is asked for ranges of bytes, as few times as it takes: its ends, the heads of what is wanted, the blocks.

    The reader is never asked to wait for the store. It fails where bytes are missing, says which, and is asked again when they are there; so no
    thread waits for the event loop, nor the loop for a thread.
    """

    def __init__(self, byte_getter: ByteGetter, chunk_spec: ArraySpec) -> None:
        self.byte_getter = byte_getter
        self.chunk_spec = chunk_spec
        self.known: list[tuple[int, int]] = []
        self.pieces = Pieces(0)
        self.limit = asyncio.Semaphore(max(1, zarr.config.get("async.concurrency") or 1))

    async def read(self, part: _Part) -> NDBuffer | None:
        spec = self.chunk_spec
        front, tail = await asyncio.gather(self.get(RangeByteRequest(0, _FRONT_LEN)), self.get(SuffixByteRequest(_TAIL_LEN)))
        if front is None or tail is None:
            return None
        end = tail.as_numpy_array()
        file_len = int.from_bytes(end[-_TRAILER_LEN:][:8].tobytes(), "little")
        if end.size < _TAIL_LEN or file_len < end.size:
            # All of it is here; or it is no file, which the reader can say better.
            whole = tail if end.size < _TAIL_LEN else await self.byte_getter.get(prototype=spec.prototype)
            return None if whole is None else await _run(part.most(spec), _read_bytes, whole, part, spec)
        self.pieces = Pieces(file_len)
        self.put(0, front)
        self.put(file_len - end.size, tail)
        file = await self.attempt(0, open_file, self.pieces)
        array = _array_of(file, spec)
        rows, finish = part.rows(array)
        await self.fetch(await self.attempt(0, array.byte_ranges, rows))
        values = await self.attempt(part.most(spec), _read, array, rows, spec)
        return _as_buffer(finish(values), spec)

    async def attempt(self, decoded_len: int, work: Callable[..., _T], *arguments: Any) -> _T:
        """Does something with the file, again whenever bytes that it lacked have come."""
        while True:
            try:
                return await _run(decoded_len, work, *arguments)
            except SourceError:
                missing = self.pieces.missing()
                if not _without(missing, self.known):
                    raise
            await self.fetch(missing)

    async def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        wanted = _joined(_without(ranges, self.known), _GAP)
        buffers = await asyncio.gather(*(self.get(RangeByteRequest(start, stop)) for start, stop in wanted))
        for (start, stop), buffer in zip(wanted, buffers):
            if buffer is None or len(buffer) != stop - start:
                found = "nothing" if buffer is None else f"{len(buffer)} bytes"
                raise SourceError(f"bytes {start}..{stop} of a chunk were asked for and {found} came: it was replaced meanwhile")
            self.put(start, buffer)

    async def get(self, byte_range: ByteRequest) -> Buffer | None:
        async with self.limit:
            return await self.byte_getter.get(prototype=self.chunk_spec.prototype, byte_range=byte_range)

    def put(self, start: int, buffer: Buffer) -> None:
        bytes_ = np.ascontiguousarray(buffer.as_numpy_array())
        self.pieces.put(start, bytes_)
        self.known.append((start, start + bytes_.size))


def _joined(ranges: Iterable[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """The ranges in order, those with less than `gap` between them made one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1] + gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def _without(ranges: Iterable[tuple[int, int]], known: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of the ranges is in none of those that are known."""
    rest = list(ranges)
    for first, last in _joined(known, 0):
        cut = [((start, min(stop, first)), (max(start, last), stop)) for start, stop in rest]
        rest = [piece for pieces in cut for piece in pieces if piece[0] < piece[1]]
    return rest
