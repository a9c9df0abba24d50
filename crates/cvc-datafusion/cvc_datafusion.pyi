"""Compressed vector files as tables of DataFusion."""

import os
from collections.abc import Sequence
from typing import Any, final

__version__: str
__all__ = ["Table", "__version__"]

@final
class Table:
    """Files as a table: `context.register_table("embeddings", cvc_datafusion.Table(files))`."""

    def __new__(
        cls,
        files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        arrays: str | Sequence[str] | None = None,
        filter: dict[str, Any] | None = None,
        max_bytes: int = ...,
        *,
        dtype: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> Table: ...
    def __datafusion_table_provider__(self, session: Any) -> Any: ...
