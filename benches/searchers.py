"""The libraries that search is compared with: how each keeps the rows and finds the nearest by cosine.

Whatever can be done once is done before the clock starts: rows and queries are scaled to unit length, so that an inner product is
the cosine, rows are converted, packed or trained. Each uses the threads that the request says. A library is imported when it
is asked for.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Rows that are converted at a time: they stay in the cache until they are multiplied.
BATCH = 4096


class Numpy:
    """A product of matrices, and a partition of each row of it. Halves become floats batch by batch."""

    def version(self, request):
        return f"numpy {np.__version__}"

    def prepare(self, rows, request):
        self.rows = stored(rows, request)
        return self.rows.nbytes

    def search(self, queries, k):
        if self.rows.dtype == np.float32:
            return best(queries @ self.rows.T, k)
        scores = np.empty((len(queries), len(self.rows)), np.float32)
        for start in range(0, len(self.rows), BATCH):
            batch = self.rows[start : start + BATCH].astype(np.float32)
            np.matmul(queries, batch.T, out=scores[:, start : start + len(batch)])
        return best(scores, k)


class Faiss:
    """A flat index, or one of scalar codes."""

    def version(self, request):
        import faiss

        return f"faiss-cpu {faiss.__version__} {faiss.get_compile_options().strip()}"

    def prepare(self, rows, request):
        import faiss

        faiss.omp_set_num_threads(request["threads"])
        dim = rows.shape[1]
        if request["codes"] == "flat":
            self.index = faiss.IndexFlatIP(dim)
        else:
            quantizer = getattr(faiss.ScalarQuantizer, request["codes"])
            self.index = faiss.IndexScalarQuantizer(dim, quantizer, faiss.METRIC_INNER_PRODUCT)
            self.index.train(rows)
        self.index.add(rows)
        return self.index.sa_code_size() * self.index.ntotal

    def search(self, queries, k):
        return self.index.search(queries, k)[1]


class Usearch:
    """Its exact search, which needs no index."""

    def version(self, request):
        import usearch

        return f"usearch {usearch.__version__}"

    def prepare(self, rows, request):
        self.dtype, self.threads = request["dtype"], request["threads"]
        self.rows, self.scale = converted(rows, self.dtype)
        # Its inner product of 8-bit integers takes them for fractions.
        self.metric = "cos" if self.dtype == "i8" else "ip"
        return self.rows.nbytes

    def search(self, queries, k):
        from usearch.index import search

        queries = convert(queries, self.dtype, self.scale)
        found = search(self.rows, queries, k, self.metric, exact=True, threads=self.threads)
        return found.keys.reshape(len(queries), -1)


class NumKong:
    """Products with packed rows, a share of the rows for each thread, as it leaves threads to the caller; then a partition."""

    def version(self, request):
        import numkong

        used = [name for name, has in numkong.get_capabilities().items() if has and name != "serial"]
        return f"numkong {numkong.__version__} {' '.join(used)}".strip()

    def prepare(self, rows, request):
        import numkong

        self.dtype = request["dtype"]
        rows, self.scale = converted(rows, self.dtype)
        shares = np.array_split(rows, request["threads"])
        self.shares = [numkong.dots_pack(share) for share in shares]
        self.pool = ThreadPoolExecutor(request["threads"])
        return rows.nbytes

    def search(self, queries, k):
        import numkong

        queries = convert(queries, self.dtype, self.scale)

        def share(packed):
            return best_of(np.asarray(numkong.dots_packed(queries, packed)), k)

        return merged(list(self.pool.map(share, self.shares)), [share.width for share in self.shares], k)


class SimSimd:
    """All distances of `cdist`, which has threads, then a partition."""

    def version(self, request):
        import simsimd

        used = [name for name, has in simsimd.get_capabilities().items() if has and name != "serial"]
        return f"simsimd {simsimd.__version__} {' '.join(used)}".strip()

    def prepare(self, rows, request):
        self.dtype, self.threads = request["dtype"], request["threads"]
        self.rows, self.scale = converted(rows, self.dtype)
        return self.rows.nbytes

    def search(self, queries, k):
        import simsimd

        queries = convert(queries, self.dtype, self.scale)
        distances = simsimd.cdist(queries, self.rows, "cosine", threads=self.threads)
        # One query gives one dimension.
        return best(-np.asarray(distances).reshape(len(queries), -1), k)


class Turbovec:
    """An index of 4-bit codes."""

    def version(self, request):
        from importlib.metadata import version

        return f"turbovec {version('turbovec')}"

    def prepare(self, rows, request):
        from turbovec import TurboQuantIndex

        self.index = TurboQuantIndex(dim=rows.shape[1], bit_width=request["bits"])
        self.index.add(rows)
        self.index.prepare()
        return rows.size * request["bits"] // 8

    def search(self, queries, k):
        return self.index.search(queries, k)[1]


SEARCHERS = {
    "numpy": Numpy(),
    "faiss": Faiss(),
    "usearch": Usearch(),
    "numkong": NumKong(),
    "simsimd": SimSimd(),
    "turbovec": Turbovec(),
}


def unit(rows):
    """In float64, then rounded."""
    out = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH].astype(np.float64)
        out[start : start + BATCH] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return out


def stored(rows, request):
    return rows.astype({"f32": np.float32, "f16": np.float16}[request["dtype"]])


def converted(rows, dtype):
    """Rows in a dtype, and the scale of integers: one for all, so that the largest value is 127."""
    scale = 127 / float(np.abs(rows).max())
    return convert(rows, dtype, scale), scale


def convert(rows, dtype, scale):
    if dtype == "i8":
        return np.clip(np.rint(rows * np.float32(scale)), -127, 127).astype(np.int8)
    return stored(rows, {"dtype": dtype})


def best_of(scores, k):
    """For each query the rows of the `k` highest scores, the best first, and the scores."""
    rows = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    scores = np.take_along_axis(scores, rows, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def best(scores, k):
    return best_of(scores, k)[0]


def merged(parts, widths, k):
    """The best of what was found in each share of the rows."""
    starts = np.cumsum([0, *widths[:-1]])
    rows = np.hstack([rows + start for (rows, _), start in zip(parts, starts)])
    at, _ = best_of(np.hstack([scores for _, scores in parts]), k)
    return np.take_along_axis(rows, at, axis=1)


class Opened:
    """What an engine keeps between requests."""

    def __init__(self, request):
        self.searcher, self.k = SEARCHERS[request["rival"]], request["k"]
        self.queries = unit(np.load(request["queries"]))
        self.scanned_bytes = self.searcher.prepare(unit(np.load(request["path"])), request)
