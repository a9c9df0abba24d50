"""Chunks of other formats as native files: what the codecs for Zarr and for numcodecs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._pack import pack

# The name of the array in each chunk's file.
VALUES = "values"
FLOATS = ("float16", "float32", "float64")


def without_units(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Dates and durations as the integers that they are, in their byte order."""
    return values.view(values.dtype.str[0] + "i8") if values.dtype.kind in "mM" else values


def packed(values: np.ndarray[Any, Any], codec: str | None, options: Mapping[str, Any], metadata: Any = None) -> bytes:
    """A file of these values. Without a codec they keep every bit; options that are `None` are left to `cvc.pack`."""
    codec = codec or ("lossless" if values.dtype.name in FLOATS else "zstd")
    said = {name: value for name, value in options.items() if value is not None}
    file = pack({VALUES: values}, codec=codec, metadata=metadata, **said)
    assert file is not None  # No path was given.
    return file
