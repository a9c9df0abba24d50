"""The nearest rows, against plain arithmetic of NumPy in float64."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import cvc

DATA = Path(__file__).parents[3] / "examples" / "data"


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return np.load(DATA / "minilm2k.queries.npy")


@pytest.fixture(scope="module")
def two(minilm: np.ndarray) -> cvc.File:
    """Vectors as they are, and beside them in int8; three sections."""
    data = {"vectors": minilm, "small": minilm, "ids": np.arange(2000)}
    sections = [(0, 700, {"source": "wiki"}), (700, 1500, {"source": "arxiv"}), (1500, 2000, {"source": "wiki"})]
    return cvc.open(cvc.pack(data, codec={"vectors": "raw", "small": "int8"}, sections=sections, chunk_rows=300))


def scores(metric: str, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """One line for each query, in float64."""
    x, q = rows.astype("f8"), np.atleast_2d(queries).astype("f8")
    dot = q @ x.T
    if metric == "dot":
        return dot
    if metric == "cosine":
        return dot / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(x, axis=1)
    squares = np.stack([((x - query) ** 2).sum(1) for query in q])
    return np.sqrt(squares) if metric == "l2" else squares


def check(found: cvc.SearchResult, rows: np.ndarray, queries: np.ndarray, among: np.ndarray | None = None) -> None:
    """The scores are the best there are, and those of the rows."""
    metric = found.metric
    expected = scores(metric, rows, queries)
    best = expected.copy()
    if among is not None:
        best[:, ~among] = -np.inf if metric in ("cosine", "dot") else np.inf
        assert among[found.indices].all()
    best = np.sort(best, axis=1)
    best = best[:, ::-1] if metric in ("cosine", "dot") else best
    indices = np.atleast_2d(found.indices)
    assert np.allclose(np.take_along_axis(expected, indices, 1), found.scores, atol=1e-6)
    assert np.allclose(best[:, : indices.shape[1]], found.scores, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l2sq"])
def test_the_nearest_rows_are_those_of_brute_force(
    two: cvc.File, minilm: np.ndarray, queries: np.ndarray, metric: str
) -> None:
    found = two.search(queries, k=7, metric=metric)
    assert found.indices.dtype == np.int64 and found.scores.dtype == np.float32
    assert found.indices.shape == found.scores.shape == (50, 7)
    assert found.metric == metric and found.device == "cpu"
    assert found.nan_rows.tolist() == [0] * 50
    check(found, minilm, queries)
    small = two["small"].search(queries, metric=metric)
    check(small, two["small"][:], queries)


def test_the_truth_of_the_sample_is_found(two: cvc.File, queries: np.ndarray) -> None:
    truth = np.load(DATA / "minilm2k.gt.cosine.npy")
    found = two.search(queries)
    assert np.array_equal(found.indices, truth)
    assert cvc.recall(found, truth) == 1.0
    small = two["small"].search(queries)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(small.indices.tolist(), truth.tolist())]
    assert cvc.recall(small, truth) == pytest.approx(np.mean(shares))
    assert cvc.recall(small.indices, truth, k=1) == np.mean(small.indices[:, 0] == truth[:, 0])


def test_the_result_is_a_pair(two: cvc.File, queries: np.ndarray) -> None:
    found = two.search(queries, k=3)
    indices, distances = found
    assert indices is found.indices and distances is found.scores
    assert repr(found) == "<cvc.SearchResult: 50 x 3 rows by cosine>"
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.indices, indices) and again.metric == "cosine" and again.scored == found.scored


def test_one_query_has_no_axis_of_queries(two: cvc.File, queries: np.ndarray) -> None:
    many = two.search(queries)
    one = two.search(queries[3])
    assert one.indices.shape == (10,) and np.array_equal(one.indices, many.indices[3])
    assert np.array_equal(one.scores, many.scores[3]) and one.nan_rows == 0
    assert np.array_equal(two.search(queries[3].tolist()).indices, one.indices)
    assert two.search(queries[:0]).indices.shape == (0, 10)
    # Rows of one value: a list of numbers is a list of queries.
    found = two["ids"].search([17, 3], k=2, metric="l2")
    assert found.indices[:, 0].tolist() == [17, 3]


class OnlyDLPack:
    """A tensor that is nothing else."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **options: object) -> object:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


def test_queries_may_be_anything_that_is_an_array(two: cvc.File, queries: np.ndarray) -> None:
    expected = two.search(queries).indices
    assert np.array_equal(two.search(queries.astype("f8")).indices, expected)
    assert np.array_equal(two.search(queries.astype(">f4")).indices, expected)
    assert np.array_equal(two.search(np.asfortranarray(queries)).indices, expected)
    assert np.array_equal(two.search(OnlyDLPack(queries)).indices, expected)
    packed = cvc.open(cvc.pack(queries, codec="raw"))
    assert np.array_equal(two.search(packed.vectors).indices, expected)
    halves = queries.astype("f2")
    assert np.array_equal(two.search(halves).indices, two.search(halves.astype("f4")).indices)
    whole = np.sign(queries).astype("i1")
    assert np.array_equal(two.search(whole).indices, two.search(whole.astype("f4")).indices)


def test_only_the_rows_that_are_meant(two: cvc.File, minilm: np.ndarray, queries: np.ndarray) -> None:
    number = np.arange(2000)
    wiki = (number < 700) | (number >= 1500)
    found = two.search(queries, where={"source": "wiki"})
    check(found, minilm, queries, wiki)
    for same in (
        two.where(source="wiki").search(queries),
        two["vectors"].search(queries, rows=two.where(source="wiki")),
        two.search(queries, rows=wiki),
        two.search(queries, rows=np.flatnonzero(wiki)[::-1]),
    ):
        assert np.array_equal(same.indices, found.indices) and np.array_equal(same.scores, found.scores)
    check(two.search(queries, rows=slice(100, 200)), minilm, queries, (number >= 100) & (number < 200))
    both = two.search(queries, where={"source": "wiki"}, rows=number % 3 == 0)
    check(both, minilm, queries, wiki & (number % 3 == 0))
    small = two.where(source="arxiv").search(queries, array="small")
    check(small, two["small"][:], queries, ~wiki)
    # None at all is no error.
    none = two.search(queries, k=2, where={"source": "none"})
    assert (none.indices == -1).all() and np.isnan(none.scores).all()
    assert (two.search(queries, rows=[]).indices == -1).all()
    with pytest.raises(IndexError):
        two.search(queries, rows=[2000])


def test_two_stages_and_first_dims(two: cvc.File, minilm: np.ndarray, queries: np.ndarray) -> None:
    check(two["small"].search(queries, rescore="vectors"), minilm, queries)
    few = two["small"].search(queries, k=5, rescore="vectors", candidates=5)
    assert np.array_equal(np.sort(few.indices), np.sort(two["small"].search(queries, k=5).indices))
    for cut in (queries, queries[:, :32]):
        check(two.search(cut, dims=32, metric="l2"), minilm[:, :32], queries[:, :32])
    with pytest.raises(cvc.NoSuchArrayError, match="none"):
        two.search(queries, rescore="none")
    with pytest.raises(cvc.ArgumentError, match="candidates = 5"):
        two.search(queries, candidates=5)
    with pytest.raises(cvc.ArgumentError, match="384"):
        two.search(queries, dims=385)


def test_fewer_rows_than_wanted_are_padded(queries: np.ndarray) -> None:
    values = np.arange(6, dtype="f4").reshape(3, 2)
    indices, distances = cvc.open(cvc.pack(values, codec="raw")).search(values, k=5, metric="l2sq")
    assert indices[0].tolist() == [0, 1, 2, -1, -1]
    assert np.array_equal(distances[0], np.array([0, 8, 32, np.nan, np.nan], "f4"), equal_nan=True)
    empty = cvc.open(cvc.pack(np.empty((0, 2), "f4"), codec="raw"))
    assert (empty.search(values, k=4).indices == np.full((3, 4), -1)).all()
    assert empty.search(values, k=0).indices.shape == (3, 0)


def test_rows_with_nan_are_counted_and_queries_with_nan_are_refused() -> None:
    values = np.arange(12, dtype="f4").reshape(6, 2)
    values[2, 1] = np.nan
    file = cvc.open(cvc.pack(values, codec="raw"))
    found = file.search([4.0, 4.0], k=6, metric="l2")
    assert found.indices.tolist() == [1, 3, 0, 4, 5, -1] and found.nan_rows == 1
    with pytest.raises(cvc.ArgumentError, match="query 2.*column 1"):
        file.search(values)


def test_bits_and_distributions() -> None:
    bits = np.random.default_rng(1).integers(0, 2, (200, 64)).astype("u1")
    packed = np.packbits(bits, axis=1)
    found = cvc.open(cvc.pack(packed, codec="raw")).search(packed[:5], k=3, metric="hamming")
    distances = (bits[:5, None] != bits[None]).sum(2)
    assert np.array_equal(found.scores, np.sort(distances, 1)[:, :3])
    p = np.array([[0.5, 0.5], [1.0, 0.0]], "f4")
    found = cvc.open(cvc.pack(p, codec="raw")).search(p[0], k=2, metric="kl")
    assert found.scores.tolist() == [0.0, np.inf]


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ({"metric": "euclid"}, "euclid.*cosine, dot"),
        ({"metric": "hamming"}, "hamming.*f32"),
        ({"device": "tpu"}, "tpu"),
        ({"k": 2**62}, "50 queries"),
    ],
    ids=str,
)
def test_wrong_calls_say_what_is_wrong(two: cvc.File, queries: np.ndarray, problem: dict, message: str) -> None:
    with pytest.raises(cvc.ArgumentError, match=message):
        two.search(queries, **problem)


def test_queries_of_another_shape_or_kind_are_refused(two: cvc.File, file: cvc.File, queries: np.ndarray) -> None:
    with pytest.raises(cvc.ArgumentError, match="32 values.*384"):
        two.search(queries[:, :32])
    with pytest.raises(cvc.ArgumentError, match="c64|complex"):
        two.search(queries.astype("c8"))
    with pytest.raises(TypeError, match="strings"):
        two.search(["a", "b"])
    with pytest.raises(ValueError, match="axis"):
        two.search(np.float32(3))
    with pytest.raises(TypeError, match="strings"):
        file["names"].search(queries)
    with pytest.raises(TypeError, match="where"):
        two.search(queries, where="source")
    with pytest.raises(ValueError, match="closed"):
        with cvc.open(cvc.pack(queries)) as closed:
            pass
        closed.search(queries)


def test_damage_is_an_error(minilm: np.ndarray, queries: np.ndarray) -> None:
    packed = bytearray(cvc.pack(minilm, codec="raw", chunk_rows=300))
    packed[4096] ^= 1
    file = cvc.open(bytes(packed))
    with pytest.raises(cvc.CorruptedChunkError):
        file.search(queries)
    check(file.search(queries, rows=slice(1000, 2000)), minilm, queries, np.arange(2000) >= 1000)


def test_auto_takes_the_first_device_that_can(two: cvc.File, queries: np.ndarray) -> None:
    assert np.array_equal(two.search(queries, device="auto").indices, two.search(queries).indices)


def test_many_threads_search_one_file(two: cvc.File, queries: np.ndarray) -> None:
    expected = two.search(queries).indices
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda query: two.search(query).indices, queries)
        assert np.array_equal(np.stack(list(found)), expected)


def test_the_interpreter_runs_meanwhile(two: cvc.File, queries: np.ndarray) -> None:
    started, done, seen = threading.Event(), threading.Event(), []

    def watch() -> None:
        started.set()
        while not done.is_set():
            seen.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started.wait()
    before = len(seen)
    for _ in range(20):
        two.search(queries, metric="l2")
    counted = len(seen) - before
    done.set()
    watcher.join()
    assert counted > 0


def test_recall_counts_numbers_of_rows() -> None:
    assert cvc.recall([[1, 2], [3, 9]], [[2, 1], [3, 4]]) == 0.75
    assert cvc.recall([[1, 2], [3, 9]], [[2, 1], [3, 4]], k=1) == 0.5
    assert cvc.recall([1, 2, 2], np.array([2, 1, -1], "i2")) == 1.0
    assert cvc.recall(np.array([[1, 2, 3]]), np.array([[3]])) == 0.0
    assert np.isnan(cvc.recall(np.empty((0, 10), int), np.empty((0, 10), int)))
    with pytest.raises(cvc.ArgumentError, match="2 queries.*1"):
        cvc.recall([[1], [2]], [[1]])
    with pytest.raises(cvc.ArgumentError, match="k = 3"):
        cvc.recall([[1]], [[1]], k=3)
    with pytest.raises(cvc.ArgumentError, match="truth.*-2"):
        cvc.recall([[1]], [[-2]])
    with pytest.raises(TypeError, match="integers"):
        cvc.recall([[1.0]], [[1]])
