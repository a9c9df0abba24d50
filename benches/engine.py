"""The rivals of rivals.py and searchers.py as engines of the benches: reads requests from standard input, one JSON object a line, and answers
each on standard output. README.md has the protocol.
"""

import json
import os
import sys
import time
import zlib

import numpy as np

from rivals import RIVALS
from searchers import SEARCHERS, Opened


class Engine:
    def __init__(self):
        self.values = None
        self.input = (None, None)
        self.array = None
        self.lists = []
        self.opened = None

    def hello(self, request):
        rivals = SEARCHERS if request.get("kind") == "search" else RIVALS
        return {"engine": rivals[request["rival"]].version(request), "detail": ""}

    def open_search(self, request):
        """Keeps the rows in the way that the rival wants them."""
        self.opened = Opened(request)
        return {"opened": True, "scanned_bytes": self.opened.scanned_bytes}

    def search(self, request):
        """Answers `count` queries from the one numbered `first` on."""
        opened, first = self.opened, request.get("first", 0)
        queries = opened.queries[first : first + request["count"]]
        started = time.perf_counter()
        rows = opened.searcher.search(queries, opened.k)
        wall = time.perf_counter() - started
        answer = {"wall_s": wall, "queries": len(queries)}
        if request.get("answer"):
            answer["indices"] = np.asarray(rows).tolist()
        return answer

    def load(self, request):
        self.values = None
        path, rival = request["path"], RIVALS[request["rival"]]
        if request.get("opened"):
            array = self.array = rival.open(path, request) if self.array is None else self.array
            started = time.perf_counter()
            values = array[:]
        else:
            started = time.perf_counter()
            values = rival.load(path, request)
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
            self.array = RIVALS[request["rival"]].open(request["path"], request)
        return {"opened": True}

    def rows(self, request):
        """Reads list after list, each as if it were the only one."""
        rival, crc32, dim = RIVALS[request["rival"]], 0, 0
        started = time.perf_counter()
        for rows in self.lists:
            array = rival.open(request["path"], request) if self.array is None else self.array
            values = rival.take(array, rows, request)
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
        rows, path, rival = self.input[1], request["path"], RIVALS[request["rival"]]
        started = time.perf_counter()
        rival.write(rows, path, request)
        wall = time.perf_counter() - started
        answer = {"wall_s": wall, "rows": rows.shape[0], "dim": rows.shape[1], "file_len": os.path.getsize(path)}
        if request.get("crc32") and request["rival"] != "decompressed":
            # Of the values: files of Blosc2's threads have their blocks in the order in which they came.
            answer["crc32"] = f"{zlib.crc32(plain(rival.load(path, request))):08x}"
        return answer

    def release(self, request):
        # The map of a file that is opened beforehand stays, with what the system knows of it.
        self.values = None
        return {"released": True}


def plain(values):
    if values.dtype != np.float32 or not values.flags.c_contiguous:
        raise ValueError(f"the answer is {values.dtype}, not contiguous float32")
    return values


def main():
    engine = Engine()
    # A rival that prints must not break the protocol.
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            request = json.loads(line)
            do = request["do"]
            if do not in ("hello", "load", "open", "rows", "pack", "open_search", "search", "release"):
                raise ValueError(f"cannot do `{do}`")
            answer = getattr(engine, do)(request)
        except Exception as error:  # Whatever a rival throws is its answer.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
