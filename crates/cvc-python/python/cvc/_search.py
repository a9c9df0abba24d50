"""What a search returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class _Pair(NamedTuple):
    indices: NDArray[np.int64]
    scores: NDArray[np.float32]


class SearchResult(_Pair):
    """The nearest rows for each query: `indices, scores = f.search(queries)`.

    Both have the shape (queries, k), or (k,) for a single query that had no axis of queries. Where there were fewer rows, the
    index is -1 and the score NaN.
    """

    metric: str
    """The metric of the scores."""
    nan_rows: NDArray[np.uint64] | int
    """How many rows have no score, for each query: those with NaN, or with values that the metric is not for."""
    scored: int
    """Pairs of a query and a row that were looked at closely; the others were ruled out by a bound."""
    device: str
    """Where it was done: `cpu`, ..."""

    def __new__(
        cls,
        indices: NDArray[np.int64],
        scores: NDArray[np.float32],
        *,
        metric: str = "cosine",
        nan_rows: NDArray[np.uint64] | int = 0,
        scored: int = 0,
        device: str = "cpu",
    ) -> SearchResult:
        made: Any = super().__new__(cls, indices, scores)
        made.metric = metric
        made.nan_rows = nan_rows
        made.scored = scored
        made.device = device
        result: SearchResult = made
        return result

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.indices.shape))
        return f"<cvc.SearchResult: {shape} rows by {self.metric}>"
