"""What a search returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


# Of these the largest score is the best, of all others the smallest.
_SIMILARITIES = ("cosine", "dot")


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

    @classmethod
    def merged(cls, parts: Sequence[tuple[int, SearchResult]]) -> SearchResult:
        """One result of those of parts of the rows, each with the number that its row 0 has among all, as `Partition.first_row` says: what
        a search of all rows gives, in whatever order the parts come. All are for the same queries, `k` and metric, and there is one at least.
        """
        first = parts[0][1]
        k = first.indices.shape[-1]
        indices = np.concatenate([np.where(of.indices < 0, -1, of.indices + row) for row, of in parts], axis=-1)
        scores = np.concatenate([of.scores for _, of in parts], axis=-1)
        worse = -scores if first.metric in _SIMILARITIES else scores
        # Of equal scores the lower row comes first, and what stands for no row comes last.
        best = np.lexsort((indices, worse, indices < 0), axis=-1)[..., :k]
        nan_rows: Any = sum(of.nan_rows for _, of in parts)
        return cls(
            np.take_along_axis(indices, best, axis=-1),
            np.take_along_axis(scores, best, axis=-1),
            metric=first.metric,
            nan_rows=nan_rows,
            scored=sum(of.scored for _, of in parts),
            device=", ".join(sorted({of.device for _, of in parts})),
        )

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.indices.shape))
        return f"<cvc.SearchResult: {shape} rows by {self.metric}>"
