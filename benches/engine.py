"""NumPy and `decompressed` as engines of the benches: reads requests from standard input, one JSON object a line, and
answers each on standard output. README.md has the protocol.
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

    def hello(self, request):
        if request.get("rival") != "decompressed":
            return {"engine": f"numpy {np.__version__}", "detail": ""}
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
        elif rival == "decompressed":
            from decompressed import load_cvc

            started = time.perf_counter()
            values = load_cvc(path, backend=request["backend"])
        else:
            raise ValueError(f"no rival {rival!r}")
        wall = time.perf_counter() - started
        self.values = values
        answer = {"wall_s": wall, "rows": values.shape[0], "dim": values.shape[1]}
        if request.get("crc32"):
            if values.dtype != np.float32 or not values.flags.c_contiguous:
                raise ValueError(f"the answer is {values.dtype}, not contiguous float32")
            answer["crc32"] = f"{zlib.crc32(values):08x}"
        return answer

    def pack(self, request):
        """Packs rows that are in memory already, so that reading them is no part of it."""
        from decompressed import pack_cvc

        if self.input[0] != request["input"]:
            self.input = (request["input"], np.load(request["input"]))
        rows, path = self.input[1], request["path"]
        started = time.perf_counter()
        pack_cvc(rows, path, compression=request["codec"])
        if request.get("sync"):
            sync(path)
        wall = time.perf_counter() - started
        return {"wall_s": wall, "rows": rows.shape[0], "dim": rows.shape[1], "file_len": os.path.getsize(path)}

    def release(self, request):
        self.__init__()
        return {"released": True}


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
            if do not in ("hello", "load", "pack", "release"):
                raise ValueError(f"cannot do `{do}`")
            answer = getattr(engine, do)(request)
        except Exception as error:  # Whatever a rival throws is its answer.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
