"""A compressed vector container.

>>> import cvc, numpy as np
>>> vectors = np.random.default_rng(0).normal(size=(1000, 64)).astype("f4")
>>> packed = cvc.pack([(vectors[:600], {"source": "wiki"}), (vectors[600:], {"source": "arxiv"})], codec="int8")
>>> with cvc.open(packed) as f:
...     arxiv = f.vectors[f.where(source="arxiv")]
>>> arxiv.shape, arxiv.dtype
((400, 64), dtype('float32'))
"""

from ._cvc import Array, DeviceArray, File, Selection, Writer, __version__, devices, open, recall
from ._decompressed import *
from ._errors import (
    ArgumentError,
    ChangedError,
    ConflictError,
    CorruptedChunkError,
    CvcError,
    DeviceError,
    EncodeError,
    FormatError,
    InternalError,
    LimitError,
    LockedError,
    MismatchError,
    NoSuchArrayError,
    PayloadError,
    RowError,
    SourceError,
    SystemFailure,
    UnsupportedError,
)
from . import _decompressed, codecs, s4
from ._convert import Converted, convert
from ._metadata import Damage, Section
from ._pack import pack
from ._plan import Partition, plan, read, write_manifest
from ._search import SearchResult
from ._store import LazyArray, Store

__all__ = [
    "ArgumentError",
    "Array",
    "ChangedError",
    "ConflictError",
    "Converted",
    "CorruptedChunkError",
    "CvcError",
    "Damage",
    "DeviceArray",
    "DeviceError",
    "EncodeError",
    "File",
    "FormatError",
    "InternalError",
    "LazyArray",
    "LimitError",
    "LockedError",
    "MismatchError",
    "NoSuchArrayError",
    "Partition",
    "PayloadError",
    "RowError",
    "SourceError",
    "SearchResult",
    "Section",
    "Selection",
    "Store",
    "SystemFailure",
    "UnsupportedError",
    "Writer",
    "__version__",
    "convert",
    "devices",
    "open",
    "pack",
    "plan",
    "read",
    "recall",
    "write_manifest",
]
# Every name of the package `decompressed`.
__all__ += _decompressed.__all__
