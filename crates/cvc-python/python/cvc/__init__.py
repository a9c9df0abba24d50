"""A compressed vector container.

>>> import cvc, numpy as np
>>> vectors = np.random.default_rng(0).normal(size=(1000, 64)).astype("f4")
>>> packed = cvc.pack([(vectors[:600], {"source": "wiki"}), (vectors[600:], {"source": "arxiv"})], codec="int8")
>>> with cvc.open(packed) as f:
...     arxiv = f.vectors[f.where(source="arxiv")]
>>> arxiv.shape, arxiv.dtype
((400, 64), dtype('float32'))
"""

from ._cvc import Array, DeviceArray, File, Selection, Writer, __version__, devices, open
from ._decompressed import (
    MMapCVCLoader,
    add_column,
    delete_column,
    detect_version,
    get_available_backends,
    get_backend_errors,
    get_cvc_info,
    list_columns,
    load_cvc,
    load_cvc_chunked,
    load_cvc_columns,
    load_cvc_range,
    pack_cvc,
    pack_cvc_columns,
    pack_cvc_sections,
    pack_cvc_sections_columnar,
    rename_column,
    update_column,
    upgrade_cvc,
    validate_cvc,
    validate_cvc_integrity,
    validate_cvc_version,
)
from ._errors import (
    ArgumentError,
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
from . import codecs, s4
from ._metadata import Damage, Section
from ._pack import pack
from ._store import LazyArray, Store

__all__ = [
    "ArgumentError",
    "Array",
    "ConflictError",
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
    "MMapCVCLoader",
    "NoSuchArrayError",
    "PayloadError",
    "RowError",
    "SourceError",
    "Section",
    "Selection",
    "Store",
    "SystemFailure",
    "UnsupportedError",
    "Writer",
    "__version__",
    "add_column",
    "delete_column",
    "detect_version",
    "devices",
    "get_available_backends",
    "get_backend_errors",
    "get_cvc_info",
    "list_columns",
    "load_cvc",
    "load_cvc_chunked",
    "load_cvc_columns",
    "load_cvc_range",
    "open",
    "pack",
    "pack_cvc",
    "pack_cvc_columns",
    "pack_cvc_sections",
    "pack_cvc_sections_columnar",
    "rename_column",
    "update_column",
    "upgrade_cvc",
    "validate_cvc",
    "validate_cvc_integrity",
    "validate_cvc_version",
]
