"""Files that are mapped into memory."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any

from .._cvc import open as open_file
from .._errors import ArgumentError
from .backends import target
from .frames import Frames, Path, opened_frames
from .info import info_of
from .load import float_dtype, only_array


class MMapCVCLoader:
    """A file of one array that is mapped rather than read; `open` and `close` it, or use it in a `with` statement.

    Files of all CVCF layouts can be mapped, packed with `mmap_optimized=True` or not. Nobody may change the file while
    it is open. `header` is the header of the file with one key more, `num_chunks`; `mmap` is the map, or `None` while
    closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mmap: mmap.mmap | None = None
        self.header: dict[str, Any] | None = None
        self.is_mmap_optimized = False
        self._frames: Frames | None = None
        self._file: Any = None

    def open(self) -> None:
        """Maps the file. Raises what `load_cvc` raises."""
        if self.mmap is not None:
            return
        with opened_frames(self.path) as frames:
            self._frames = frames
        self._file = open_file(self.path, mmap=True)
        with open(self.path, "rb") as file:
            self.mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.header = {**frames.header, "num_chunks": len(frames.frames)}
        self.is_mmap_optimized = bool(frames.header.get("mmap_optimized", False))

    def close(self) -> None:
        """Lets go of the map. Views of chunks stay valid: the last of them takes the map with it."""
        if self._file is not None:
            self._file.close()
        if self.mmap is not None:
            # Not while somebody still looks at a chunk.
            with contextlib.suppress(BufferError):
                self.mmap.close()
        self.mmap = self._file = self._frames = None

    def __enter__(self) -> MMapCVCLoader:
        self.open()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _opened(self) -> tuple[Any, Frames, mmap.mmap]:
        if self._file is None or self._frames is None or self.mmap is None:
            raise RuntimeError("File not opened. Call open() first.")
        return self._file, self._frames, self.mmap

    def get_chunk_view(self, chunk_idx: int) -> memoryview:
        """The encoded bytes of a chunk, where they lie in the map: nothing is copied, no checksum is compared.

        Raises `ArgumentError` (a `ValueError`) for an index that is no chunk.
        """
        _, frames, mapped = self._opened()
        frame = frames.frames[self._checked(chunk_idx, len(frames.frames))]
        return memoryview(mapped)[frame.start : frame.start + frame.length]

    def load_chunk(self, chunk_idx: int, device: str = "cpu", framework: str = "torch") -> Any:
        """The rows of a chunk, float32 of shape `(rows, dim)`; arguments and errors as those of `load_cvc`."""
        file, _, _ = self._opened()
        array = only_array(file)
        chunks = array.chunks
        rows = chunks[self._checked(chunk_idx, len(chunks))]
        return target(device, framework, "auto").read(array, slice(rows.start, rows.stop), dtype=float_dtype(array))

    def load(self, device: str = "cpu", framework: str = "torch") -> Any:
        """All rows, float32 of shape `(rows, dim)`; arguments and errors as those of `load_cvc`."""
        file, _, _ = self._opened()
        array = only_array(file)
        return target(device, framework, "auto").read(array, dtype=float_dtype(array))

    def get_info(self) -> dict[str, Any]:
        """What `get_cvc_info` says of the file, and `mmap_optimized`."""
        file, _, _ = self._opened()
        info = info_of(file, os.stat(self.path).st_size)
        return {**info, "mmap_optimized": self.is_mmap_optimized}

    @staticmethod
    def _checked(index: int, count: int) -> int:
        if not 0 <= index < count:
            raise ArgumentError(f"Invalid chunk index {index}. File has {count} chunks (indices 0-{count - 1})")
        return index
