"""NumPy, `decompressed` and Blosc2 as engines of the benches: reads requests from standard input, one JSON object a line,
and answers each on standard output. README.md has the protocol.
"""

import json
import os
import sys
import time
import zlib

import numpy as np


class Engine:
    def __init__(self):
        self.values = None
        self.input = (None, None)
        self.array = None
        self.lists = []

    def hello(self, request):
        rival = request["rival"]
        if rival == "numpy":
            return {"engine": f"numpy {np.__version__}", "detail": ""}
        if rival == "blosc2":
            import blosc2

            threads = use_threads(request)
            library = blosc2.blosclib_version.split(" ")[0]
            detail = f"with C-Blosc2 {library}, {threads} thread{'s' if threads > 1 else ''}"
            return {"engine": f"blosc2 {blosc2.__version__}", "detail": detail}
        import decompressed

        backend = request.get("backend", "python")
        if backend == "cpp":
            # The package hides why its extension cannot be loaded.
            import decompressed._cvc_native  # noqa: F401
        return {"engine": f"decompressed {decompressed.__version__}", "detail": f"{backend} backend"}

    def load(self, request):
        self.values = None
        path, rival = request["path"], request["rival"]
        if rival == "numpy":
            started = time.perf_counter()
            values = np.load(path)
        elif rival == "blosc2" and request.get("opened"):
            array = self.array = open_array(request) if self.array is None else self.array
            started = time.perf_counter()
            values = array[:]
        elif rival == "blosc2":
            started = time.perf_counter()
            values = open_array(request)[:]
        else:
            from decompressed import load_cvc

            started = time.perf_counter()
            values = load_cvc(path, backend=request["backend"])
        wall = time.perf_counter() - started
        self.values = values
        answer = {"wall_s": wall, "rows": values.shape[0], "dim": values.shape[1]}
        if request.get("crc32"):
            answer["crc32"] = f"{zlib.crc32(plain(values)):08x}"
        return answer

    def open(self, request):
        """Makes ready to read lists of rows. What is open already stays open."""
        self.lists = [np.array(rows) for rows in request["lists"]]
        if request["state"] != "closed" and self.array is None:
            self.array = open_array(request)
        return {"opened": True}

    def rows(self, request):
        """Reads list after list, each as if it were the only one."""
        take, crc32, dim = WAYS[request["way"]], 0, 0
        started = time.perf_counter()
        for rows in self.lists:
            array = open_array(request) if self.array is None else self.array
            values = take(array, rows)
            dim = values.shape[1]
            if request.get("crc32"):
                crc32 = zlib.crc32(plain(values), crc32)
        wall = time.perf_counter() - started
        answer = {"wall_s": wall, "rows": sum(map(len, self.lists)), "dim": dim}
        if request.get("crc32"):
            answer["crc32"] = f"{crc32:08x}"
        return answer

    def pack(self, request):
        """Packs rows that are in memory already, so that reading them is no part of it."""
        if self.input[0] != request["input"]:
            self.input = (request["input"], np.load(request["input"]))
        rows, path = self.input[1], request["path"]
        if request["rival"] == "blosc2":
            threads = use_threads(request)
            started = time.perf_counter()
            pack_blosc2(rows, path, request["block_rows"], threads)
        else:
            from decompressed import pack_cvc

            started = time.perf_counter()
            pack_cvc(rows, path, compression=request["codec"])
        if request.get("sync"):
            sync(path)
        wall = time.perf_counter() - started
        answer = {"wall_s": wall, "rows": rows.shape[0], "dim": rows.shape[1], "file_len": os.path.getsize(path)}
        if request.get("crc32") and request["rival"] == "blosc2":
            # Its threads put blocks in a file in the order in which they come, so only values are the same every time.
            answer["crc32"] = f"{zlib.crc32(plain(open_array(request)[:])):08x}"
        return answer

    def release(self, request):
        # The map of a file that is opened beforehand stays, with what the system knows of it.
        self.values = None
        return {"released": True}


def one_by_one(array, rows):
    values = np.empty((len(rows), array.shape[1]), array.dtype)
    for at, row in enumerate(rows):
        values[at] = array[int(row)]
    return values


# What a rival offers to fetch a list of rows, in the order of the caller.
WAYS = {
    "index": lambda array, rows: array[rows],
    "orthogonal": lambda array, rows: array.get_oselection_numpy([rows, np.arange(array.shape[1])]),
    "one by one": one_by_one,
}


def open_array(request):
    if request["rival"] == "numpy":
        return np.load(request["path"], mmap_mode="r")
    import blosc2

    threads = use_threads(request)
    return blosc2.open(request["path"], mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=threads))


def use_threads(request):
    """How many threads Blosc2 uses: as many as it wants, unless the request says."""
    import blosc2

    threads = request.get("threads", blosc2.nthreads)
    blosc2.set_nthreads(threads)
    return threads


def pack_blosc2(rows, path, block_rows, threads=1):
    """Blosc2 as it is when asked for zstd of level 1 behind its shuffle; its own choice of chunks. One thread makes the
    same file every time."""
    import blosc2

    cparams = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.SHUFFLE], nthreads=threads)
    blocks = (block_rows, rows.shape[1])
    blosc2.asarray(rows, blocks=blocks, cparams=cparams, urlpath=str(path), mode="w")


def plain(values):
    if values.dtype != np.float32 or not values.flags.c_contiguous:
        raise ValueError(f"the answer is {values.dtype}, not contiguous float32")
    return values


def sync(path):
    """As a writer does that promises the file to outlast a power cut: the file, then its directory."""
    for name in (path, os.path.dirname(path)):
        handle = os.open(name, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def main():
    engine = Engine()
    # A rival that prints must not break the protocol.
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            request = json.loads(line)
            do = request["do"]
            if do not in ("hello", "load", "open", "rows", "pack", "release"):
                raise ValueError(f"cannot do `{do}`")
            answer = getattr(engine, do)(request)
        except Exception as error:  # Whatever a rival throws is its answer.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
