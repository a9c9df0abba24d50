"""`cvc.pack`: a whole file in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ._cvc import Writer
from ._progress import shown

Progress = bool | Callable[[int, int], object]


def pack(
    data: Any,
    path: str | os.PathLike[str] | None = None,
    codec: str | Mapping[str, str] | None = None,
    *,
    sections: Iterable[tuple[int, int, Any]] | None = None,
    progress: Progress = False,
    **options: Any,
) -> bytes | None:
    """Packs arrays into a `.cvc` file.

    `data` is an array of rows, a dict of named arrays with as many rows each, or a list of pairs `(rows, metadata)`,
    which become sections. Rows may be anything that NumPy or DLPack understands, or a list of strings.

    `codec` is `"fp16"` (the default for floats), `"int8"`, `"int4"`, `"bit1"`, `"bf16"`, `"lossless"`, `"zstd"`, `"gzip"` or `"raw"` (the
    default for all else), or a dict of these by array. `sections` lists `(start, stop, metadata)`. All other options
    are those of `Writer`. Without a path the file is returned as bytes.
    """
    if isinstance(data, (str, os.PathLike)):
        raise TypeError("data is a path, and arrays are packed: cvc.convert(source, target) reads files, as numpy.load reads .npy")
    if isinstance(codec, Mapping):
        codec = dict(codec)
    path = None if path is None else os.fspath(path)
    with Writer(path, codec=codec, **options) as writer:
        if _is_pairs(data):
            if sections is not None:
                raise ValueError("sections come with the rows here, or in `sections`: use one of the two")
            parts = list(data)
            if not parts:
                raise ValueError("there are no rows to pack: the list is empty")
            total = sum(_len(rows) for rows, _ in parts)
            with shown(progress, total, "packing") as report:
                for rows, metadata in parts:
                    writer.write(rows, section=metadata, progress=report.after(writer.rows))
        else:
            for start, stop, metadata in sections or ():
                writer.add_section(start, stop, metadata)
            with shown(progress, _len(data), "packing") as report:
                writer.write(data, progress=report.after(0))
        return writer.finish()


def _is_pairs(data: Any) -> bool:
    # Metadata is a dict or nothing: a list of pairs of numbers is rows.
    return isinstance(data, list) and all(
        isinstance(part, tuple) and len(part) == 2 and (part[1] is None or isinstance(part[1], Mapping)) for part in data
    )


def _len(rows: Any) -> int:
    if isinstance(rows, Mapping):
        rows = next(iter(rows.values()), ())
    try:
        return len(rows)
    except TypeError:  # a stream, which nobody knows the length of
        return 0
