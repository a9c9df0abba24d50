"""The libraries that the benches compare with: how each writes a matrix of float32, reads it whole, and reads rows of it.

Each is used as its documentation shows, with what it chooses by itself unless the request says otherwise. Whatever is
stored, the answer is a contiguous float32 array. A library is imported when it is asked for, so that one that is missing
is missed by nobody else.
"""

import numpy as np

DIM_KEY = "vectors"


class Numpy:
    """`.npy`, of float32 or (`dtype = "f16"`) of halves."""

    def version(self, request):
        return f"numpy {np.__version__}"

    def write(self, values, path, request):
        with open(path, "wb") as file:
            np.save(file, values.astype(dtype_of(request)))

    def load(self, path, request):
        return as_f32(np.load(path))

    def open(self, path, request):
        return np.load(path, mmap_mode="r")

    def take(self, array, rows, request):
        return as_f32(array[rows])


class Cvc:
    """Our own package, to be compared with the same work in Rust."""

    def version(self, request):
        import cvc

        return f"cvc {cvc.__version__} from Python"

    def load(self, path, request):
        import cvc

        return cvc.load_cvc(path)

    def open(self, path, request):
        import cvc

        return cvc.open(path).vectors

    def take(self, array, rows, request):
        return array[rows]


class Safetensors:
    def version(self, request):
        import safetensors

        return f"safetensors {safetensors.__version__}"

    def write(self, values, path, request):
        from safetensors.numpy import save_file

        save_file({DIM_KEY: values.astype(dtype_of(request))}, path)

    def load(self, path, request):
        from safetensors.numpy import load_file

        return as_f32(load_file(path)[DIM_KEY])


class Decompressed:
    """The package whose files `cvc` reads and writes; 0.1.0, or 2.x in an environment of its own."""

    def version(self, request):
        from importlib.metadata import version

        backend = request.get("backend", "python")
        if backend == "cpp":
            # The package hides why its extension cannot be loaded.
            import decompressed._cvc_native  # noqa: F401
        # 2.1.1 says of itself that it is 0.1.0.
        return f"decompressed {version('decompressed')} {backend} backend"

    def write(self, values, path, request):
        from decompressed import pack_cvc

        pack_cvc(values, path, compression=request["codec"])

    def load(self, path, request):
        from decompressed import load_cvc

        return load_cvc(path, backend=request["backend"])


class Blosc2:
    """A `b2nd` array: zstd of level 1 behind the byte shuffle, its own choice of chunks."""

    def version(self, request):
        import blosc2

        threads = self.use_threads(request)
        library = blosc2.blosclib_version.split(" ")[0]
        return f"blosc2 {blosc2.__version__} with C-Blosc2 {library}, {threads} thread{'s' if threads > 1 else ''}"

    def write(self, values, path, request):
        import blosc2

        # One thread makes the same file every time.
        threads = self.use_threads(request) if "threads" in request else 1
        cparams = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.SHUFFLE], nthreads=threads)
        blocks = (request["block_rows"], values.shape[1])
        blosc2.asarray(values, blocks=blocks, cparams=cparams, urlpath=str(path), mode="w")

    def load(self, path, request):
        return self.open(path, request)[:]

    def open(self, path, request):
        import blosc2

        threads = self.use_threads(request)
        return blosc2.open(str(path), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=threads))

    def take(self, array, rows, request):
        return WAYS[request["way"]](array, rows)

    def use_threads(self, request):
        """How many threads it uses: as many as it wants, unless the request says."""
        import blosc2

        threads = request.get("threads", blosc2.nthreads)
        blosc2.set_nthreads(threads)
        return threads


def one_by_one(array, rows):
    values = np.empty((len(rows), array.shape[1]), array.dtype)
    for at, row in enumerate(rows):
        values[at] = array[int(row)]
    return values


# What Blosc2 offers to fetch a list of rows, in the order of the caller.
WAYS = {
    "index": lambda array, rows: array[rows],
    "orthogonal": lambda array, rows: array.get_oselection_numpy([rows, np.arange(array.shape[1])]),
    "one by one": one_by_one,
}


class Zarr:
    """A Zarr v3 array in a folder: chunks of 2,048 rows, compressed as Zarr does by itself."""

    def version(self, request):
        import zarr

        return f"zarr {zarr.__version__}"

    def write(self, values, path, request):
        import zarr

        zarr.create_array(str(path), data=values, chunks=(2048, values.shape[1]))

    def load(self, path, request):
        return self.open(path, request)[:]

    def open(self, path, request):
        import zarr

        return zarr.open_array(str(path), mode="r")

    def take(self, array, rows, request):
        return array.oindex[rows]


class Parquet:
    """A column of fixed-size lists: byte stream split and zstd, no dictionary."""

    def version(self, request):
        import pyarrow

        return f"pyarrow {pyarrow.__version__}"

    def write(self, values, path, request):
        from pyarrow import parquet

        encoding = {f"{DIM_KEY}.list.element": "BYTE_STREAM_SPLIT"}
        parquet.write_table(
            table_of(values), path, compression="zstd", use_dictionary=False, column_encoding=encoding
        )

    def load(self, path, request):
        from pyarrow import parquet

        return matrix_of(parquet.read_table(path, columns=[DIM_KEY])[DIM_KEY])


class Lance:
    """A Lance data set; it stores vectors as they are."""

    def version(self, request):
        import lance

        return f"pylance {lance.__version__}"

    def write(self, values, path, request):
        import lance

        lance.write_dataset(table_of(values), str(path))

    def load(self, path, request):
        return matrix_of(self.open(path, request).to_table(columns=[DIM_KEY])[DIM_KEY])

    def open(self, path, request):
        import lance

        return lance.dataset(str(path))

    def take(self, array, rows, request):
        return matrix_of(array.take(rows, columns=[DIM_KEY])[DIM_KEY])


class Vortex:
    """A Vortex file, encoded as Vortex chooses."""

    def version(self, request):
        from importlib.metadata import version

        return f"vortex-data {version('vortex-data')}"

    def write(self, values, path, request):
        import vortex

        vortex.io.write(vortex.array(table_of(values)), str(path))

    def load(self, path, request):
        import vortex

        return matrix_of(vortex.open(str(path)).to_arrow([DIM_KEY]).read_all()[DIM_KEY])


class Pcodec:
    """All values as one standalone file."""

    def version(self, request):
        from importlib.metadata import version

        return f"pcodec {version('pcodec')}"

    def write(self, values, path, request):
        from pcodec import ChunkConfig, standalone

        with open(path, "wb") as file:
            file.write(standalone.simple_compress(values.ravel(), ChunkConfig()))

    def load(self, path, request):
        from pcodec import standalone

        with open(path, "rb") as file:
            return standalone.simple_decompress(file.read()).reshape(-1, request["dim"])


RIVALS = {
    "cvc": Cvc(),
    "numpy": Numpy(),
    "safetensors": Safetensors(),
    "decompressed": Decompressed(),
    "blosc2": Blosc2(),
    "zarr": Zarr(),
    "parquet": Parquet(),
    "lance": Lance(),
    "vortex": Vortex(),
    "pcodec": Pcodec(),
}


def dtype_of(request):
    return {"f32": np.float32, "f16": np.float16}[request.get("dtype", "f32")]


def as_f32(values):
    return values.astype(np.float32, copy=False)


def table_of(values):
    import pyarrow

    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])
    return pyarrow.table({DIM_KEY: column})


def matrix_of(column):
    dim = column.type.list_size
    chunk = column.combine_chunks()
    return chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
