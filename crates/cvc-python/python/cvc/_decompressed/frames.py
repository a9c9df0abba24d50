"""CVCF files as what they are made of: a JSON header, then a frame of bytes for each chunk.

Reading rows is `cvc.open`'s work. This is for what leaves encoded chunks as they are: a new header around them, or what
is left of a file that was cut.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from .._cvc import open as open_file
from .._errors import ArgumentError, CorruptedChunkError, FormatError

Path = str | os.PathLike[str]

_MAGIC = b"CVCF"
_VERSIONS = {"v1": (1, 0), "v1-mmap": (1, 0), "v2": (2, 0)}
_LEN_LIMIT = 2**32
# As `cvc.open` has it.
_HEADER_LIMIT = 100_000_000


class Frame(NamedTuple):
    """Where a payload lies, and its checksum if the layout has any."""

    start: int
    length: int
    crc32: int | None


class Frames:
    """An open CVCF file: its header as a dict, and its frames."""

    def __init__(self, file: BinaryIO, layout: str, header: dict[str, Any], frames: list[Frame]) -> None:
        self.layout = layout
        self.header = header
        self.frames = frames
        self._file = file

    def payload(self, chunk: int) -> bytes:
        """The encoded bytes of a chunk.

        Raises `CorruptedChunkError` if they are not those of its checksum: bytes that go to another file get a new
        checksum, which would make them look whole.
        """
        frame = self.frames[chunk]
        self._file.seek(frame.start)
        payload = self._file.read(frame.length)
        if len(payload) != frame.length or frame.crc32 not in (None, zlib.crc32(payload)):
            raise CorruptedChunkError(
                f"chunk {chunk} is corrupted: its CRC32 is {zlib.crc32(payload):08x}, the file says {frame.crc32 or 0:08x}; "
                "restore the file from a copy"
            )
        return payload


@contextmanager
def opened_frames(path: Path) -> Iterator[Frames]:
    """The frames of a whole CVCF file; `cvc.open` has checked all of it but the checksums."""
    with open_file(path) as checked:
        layout = checked.layout
    if layout == "native":
        raise ArgumentError(f"{os.fspath(path)}: the file is in layout native, which has no CVCF header")
    with open(path, "rb") as file:
        header, position = _header(file, versioned=layout != "v0")
        frames = list(_walk(file, header, position, layout))
        yield Frames(file, layout, header, frames)


def _header(file: BinaryIO, versioned: bool) -> tuple[dict[str, Any], int]:
    """The header, and the byte after it."""
    file.seek(8 if versioned else 4)
    length = int.from_bytes(file.read(4), "little")
    # What is no header is not to be read whole to find that out.
    if length > _HEADER_LIMIT or file.read(1) != b"{":
        raise ValueError("there is no header")
    return json.loads(b"{" + file.read(length - 1)), file.tell()


def _walk(file: BinaryIO, header: dict[str, Any], position: int, layout: str) -> Iterator[Frame]:
    """The frames that lie in the file as a whole, up to the first that does not."""
    file_len = os.fstat(file.fileno()).st_size
    head_len = 4 if layout == "v0" else 8
    for chunk in header["chunks"]:
        if layout == "v1-mmap":
            if chunk["file_offset"] < position:
                raise ValueError("a frame begins inside another")
            position = chunk["file_offset"]
        file.seek(position)
        head = file.read(head_len)
        length = int.from_bytes(head[:4], "little")
        start = file.tell()
        if len(head) < head_len or start + length > file_len:
            return
        position = start + length
        yield Frame(start, length, None if layout == "v0" else int.from_bytes(head[4:], "little"))


class Cut(NamedTuple):
    """A file that ends inside its chunks."""

    path: Path
    layout: str
    header: dict[str, Any]
    frames: list[Frame]
    """Those that are there as a whole."""
    rows: int
    """Their rows."""
    total: int
    """The rows that the header promises."""

    def whole(self) -> bytes:
        """A file of the chunks that are there, with the checksums that they had, right or wrong."""
        header = {key: value for key, value in self.header.items() if key not in ("sections", "mmap_optimized")}
        header["chunks"] = [
            {key: value for key, value in chunk.items() if key not in ("sections", "file_offset")}
            for chunk in header["chunks"][: len(self.frames)]
        ]
        header["num_vectors"] = self.rows
        layout = "v1" if self.layout == "v1-mmap" else self.layout
        parts = [prefix(layout, header)]
        with open(self.path, "rb") as file:
            for frame in self.frames:
                file.seek(frame.start)
                parts += [frame_head(layout, frame.length, frame.crc32), file.read(frame.length)]
        return b"".join(parts)


def cut(path: Path) -> Cut | None:
    """What is left of a file that `cvc.open` refused, if it is a CVCF file that was cut inside its chunks."""
    with open(path, "rb") as file:
        if file.read(4) != _MAGIC:
            return None
        for versioned in (True, False):
            try:
                header, position = _header(file, versioned)
                layout = _layout(file, header) if versioned else "v0"
                frames = list(_walk(file, header, position, layout))
                rows = [int(chunk["rows"]) for chunk in header["chunks"]]
                total = int(header["num_vectors"])
            except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
                continue
            # Checked here as nobody else will: rows that are not there are going to be filled.
            if len(frames) < len(rows) and sum(rows) == total and min(rows) >= 0:
                return Cut(path, layout, header, frames, sum(rows[: len(frames)]), total)
    return None


def _layout(file: BinaryIO, header: dict[str, Any]) -> str:
    file.seek(4)
    version = int.from_bytes(file.read(2), "little"), int.from_bytes(file.read(2), "little")
    if version == (2, 0):
        return "v2"
    if version != (1, 0):
        raise ValueError("the version is unknown")
    return "v1-mmap" if header.get("mmap_optimized") else "v1"


def prefix(layout: str, header: dict[str, Any]) -> bytes:
    """All that stands before the first frame, as `decompressed` writes it."""
    if layout == "v0":
        text = json.dumps(header).encode()
        version = b""
    else:
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        version = b"".join(number.to_bytes(2, "little") for number in _VERSIONS[layout])
    if len(text) >= _LEN_LIMIT:
        raise ArgumentError(f"the header would have {len(text):,} bytes, and its length has 32 bits: use larger chunks")
    return _MAGIC + version + len(text).to_bytes(4, "little") + text


def frame_head(layout: str, length: int, crc32: int | None) -> bytes:
    """The bytes in front of a payload."""
    if length >= _LEN_LIMIT:
        raise ArgumentError(f"a chunk would have {length:,} bytes, and its length has 32 bits: use smaller chunks")
    head = length.to_bytes(4, "little")
    return head if layout == "v0" else head + (crc32 or 0).to_bytes(4, "little")


def write(out: BinaryIO, layout: str, header: dict[str, Any], payloads: Iterable[bytes]) -> None:
    """Writes a CVCF file of these chunks."""
    out.write(prefix(layout, header))
    for payload in payloads:
        out.write(frame_head(layout, len(payload), zlib.crc32(payload)))
        out.write(payload)


def beside(path: Path) -> str:
    """A name for a file on the disk of `path` that nobody else uses."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.{secrets.token_hex(8)}.part")


@contextmanager
def replaced(path: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A new file, which takes the place of `path` when the block ends without an exception."""
    # A link keeps pointing at what it points at.
    final = os.path.realpath(path)
    temporary = beside(final)
    try:
        with open(temporary, "xb") as file:
            if os.path.exists(final):
                shutil.copymode(final, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, final)
        else:
            # Unlike a rename, this fails if somebody was faster.
            os.link(temporary, final)
            os.unlink(temporary)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def opened(path: Any) -> Any:
    """`cvc.open`, but a file that was cut inside its chunks is `CorruptedChunkError`, as its damage is in a chunk."""
    try:
        return open_file(path)
    except CorruptedChunkError:
        raise
    except FormatError as error:
        missing = cut(path) if is_path(path) else None
        if missing is None:
            raise
        raise CorruptedChunkError(
            f"chunk {len(missing.frames)} is corrupted, so that its CRC32 cannot be right: {error}. "
            f"Rows {missing.rows} to {missing.total} are lost; on_corruption='skip' loads those before them"
        ) from None


def is_path(source: Any) -> bool:
    return isinstance(source, os.PathLike) or (isinstance(source, str) and "://" not in source)
