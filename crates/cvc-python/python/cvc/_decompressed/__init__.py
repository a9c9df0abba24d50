"""The functions of the package `decompressed`, 0.1.0 and 2.x: same names, same arguments, right answers.

Everything here is said with `cvc.open` and `cvc.Writer`. Where upstream has a bug, the page `from-decompressed.md` of
the documentation says what happens instead.
"""

from .backends import get_available_backends, get_backend_errors
from .columns import add_column, delete_column, list_columns, rename_column, update_column
from .info import (
    detect_version,
    get_cvc_info,
    upgrade_cvc,
    validate_cvc,
    validate_cvc_integrity,
    validate_cvc_version,
)
from .load import load_cvc, load_cvc_chunked, load_cvc_columns, load_cvc_range
from .mapped import MMapCVCLoader
from .pack import pack_cvc, pack_cvc_columns, pack_cvc_sections, pack_cvc_sections_columnar

__all__ = [
    "MMapCVCLoader",
    "add_column",
    "delete_column",
    "detect_version",
    "get_available_backends",
    "get_backend_errors",
    "get_cvc_info",
    "list_columns",
    "load_cvc",
    "load_cvc_chunked",
    "load_cvc_columns",
    "load_cvc_range",
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
