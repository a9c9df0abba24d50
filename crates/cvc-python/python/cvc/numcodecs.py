"""A codec for numcodecs, and so for Zarr v2: each chunk is a native `.cvc` file, with a checksum for every block.

>>> import numcodecs, numpy as np
>>> codec = numcodecs.get_codec({"id": "cvc"})
>>> values = np.arange(12, dtype="f4").reshape(3, 4)
>>> bool((codec.decode(codec.encode(values)).view("f4").reshape(3, 4) == values).all())
True

Chunks are decoded whole: numcodecs has no other way. `cvc.zarr` has one for Zarr v3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ensure_ndarray, ndarray_copy

from ._cvc import open as open_file
from ._chunk import VALUES, packed, without_units
from ._errors import ArgumentError, FormatError, NoSuchArrayError

__all__ = ["Cvc"]


@dataclass(frozen=True)
class Cvc(Codec):  # type: ignore[misc]
    """Keeps each chunk as a native file of rows. Parameters are those of `cvc.pack`; by default floats are kept by `lossless` and all else by
    `zstd`."""

    codec_id: ClassVar[str] = "cvc"

    codec: str | None = None
    block_rows: int | None = None
    chunk_rows: int | None = None
    scope: str | None = None
    nonfinite: str | None = None

    def get_config(self) -> dict[str, Any]:
        return {"id": self.codec_id} | {name: value for name, value in asdict(self).items() if value is not None}

    def encode(self, buf: Any) -> bytes:
        values = ensure_ndarray(buf)
        if values.dtype.kind == "O":
            raise ArgumentError("objects of Python cannot be stored: a filter has to make bytes of them first")
        if values.flags.f_contiguous and not values.flags.c_contiguous:
            # Codecs of this interface keep memory as it lies.
            values = values.T
        swapped = None
        values = without_units(values)
        if values.dtype.kind in "SUV":
            values = np.ascontiguousarray(values)
            values = values.reshape(*values.shape, 1).view("u1")
        elif not values.dtype.isnative:
            swapped = values.dtype.str
        if values.ndim == 0:
            values = values.reshape(1)
        if values.ndim > 8:
            values = values.reshape(values.shape[0], -1)
        options = asdict(self)
        metadata = None if swapped is None else {"numcodecs": {"dtype": swapped}}
        return packed(values, options.pop("codec"), options, metadata)

    def decode(self, buf: Any, out: Any = None) -> Any:
        buf = ensure_contiguous_ndarray(buf)
        root = buf.base if type(buf.base) is bytes and len(buf.base) == buf.nbytes else buf.tobytes()
        with open_file(root) as file:
            try:
                array = file[VALUES]
            except NoSuchArrayError as error:
                raise FormatError(f"this is no chunk of numcodecs: {error}") from None
            values: np.ndarray[Any, Any] = array.read()
            if values.dtype.name != array.stored_dtype:
                # A codec that loses some gives f32; whoever calls knows only the dtype that went in.
                values = values.astype(array.stored_dtype)
            swapped = file.metadata.get("numcodecs", {}).get("dtype")
        if swapped is not None:
            if np.dtype(swapped).newbyteorder("=") != values.dtype:
                raise FormatError(f"the chunk holds {values.dtype}, and says that it was {swapped}")
            values = values.astype(swapped)
        return ndarray_copy(values, out)
