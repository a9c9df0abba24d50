"""Small types, and what is easier said in Python than in Rust."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple


class Section(NamedTuple):
    """Rows `start` to `stop` (exclusive), and what is known of them."""

    start: int
    stop: int
    metadata: Any


class Damage(NamedTuple):
    """A damaged part of a file."""

    array: str
    chunk: int
    rows: tuple[int, int]
    """The rows that are lost: start and stop."""
    bytes: list[tuple[int, int]]
    """Where in the file some bytes are wrong: starts and stops."""
    what: str


class StoreDamage(NamedTuple):
    """A damaged part of a store."""

    file: str
    """Its name in the folder of the store."""
    bytes: tuple[int, int]
    """Where in it some bytes are wrong: start and stop."""
    arrays: list[str]
    """The arrays that need them."""
    what: str


def plain(value: Any) -> Any:
    """A scalar or an array of NumPy as plain numbers, for `json`; what `json` cannot take otherwise is refused."""
    # A scalar of NumPy gives a number, an array of it nested lists of numbers.
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"metadata holds a {type(value).__name__}, which JSON has no form for: "
        "use None, bool, int, float, str, lists and dicts of these"
    )


def missing(package: str, what: str) -> ImportError:
    """For a module that needs a package which is not installed."""
    return ImportError(f"{what} needs a package that is not installed: pip install {package}")


def open_url(url: str, **options: Any) -> Any:
    """A file object for a URL: of a file here, or of whatever fsspec knows."""
    if url.startswith("file://"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return open(url2pathname(urlsplit(url).path), "rb")  # closed when it is let go of
    try:
        import fsspec
    except ImportError:
        from ._cvc import shown

        raise ImportError(
            f"{shown(url)}: URLs of this kind are opened by fsspec, which is not installed: pip install fsspec"
        ) from None
    return fsspec.open(url, "rb", **options).open()


def iterate(array: Any) -> Iterator[Any]:
    """The rows of an array one by one, decoded a chunk at a time."""
    for chunk in array.chunks:
        yield from array[chunk.start : chunk.stop]
