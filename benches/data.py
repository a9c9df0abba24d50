"""Makes the vectors that the benches measure on.

    python data.py FOLDER

Writes two files of 200,000 rows of 768 float32 values, 614 MB each, one of the first 100,000 rows of the first, and one
of 100 queries. Needs NumPy. The same bytes every time, and the crc32 of their values, below, says which.

`minilm200k.f32.npy` is made from the real sample in examples/data. Row i is rows i and i + 1 + i // 2000 of the sample
(both modulo 2000) side by side, plus jitter: integers from a seeded generator, scaled by a power of two, so that no step
depends on the machine. So the values have the spread of real embeddings, no two rows are equal, and a compressor gains
nothing from the repetition.

`normal200k.f32.npy` is normal floats (mean 0, deviation 1) from a seeded generator of the NumPy in requirements.txt. Three
of the four bytes of a value are noise, which is the hardest case for what keeps every bit.

`minilm100k.f32.npy` is the first 100,000 rows of the first file, and `queries100.f32.npy` holds queries for them: rows made in
the same way of pairs of rows of the sample that none of the 200,000 is made of.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

ROWS, DIM = 200_000, 768
# Rows made at a time: part of what the values are.
BATCH = 2_000
# Jitter is uniform over 256 steps of 2^-17, about 0.001 to either side; the values have a deviation of 0.051.
JITTER_STEP = np.float32(2.0**-17)
SAMPLE = Path(__file__).resolve().parent.parent / "examples/data/minilm2k.f32.npy"


def minilm(count):
    sample = np.load(SAMPLE)
    rng = np.random.Generator(np.random.PCG64(768))
    for start in range(0, count, BATCH):
        rows = np.arange(start, start + BATCH)
        yield jittered(sample, rows, rows + 1 + rows // len(sample), rng)


def queries(count):
    sample = np.load(SAMPLE)
    rng = np.random.Generator(np.random.PCG64(100))
    # The second of a pair comes 1 to 100 rows after the first in the rows above, and 500 to 1,499 rows here.
    rows = rng.choice(len(sample), count, replace=False)
    yield jittered(sample, rows, rows + rng.integers(500, 1500, size=count), rng)


def jittered(sample, first, second, rng):
    pair = np.hstack([sample[first % len(sample)], sample[second % len(sample)]])
    steps = rng.integers(-128, 128, size=pair.shape, dtype=np.int16)
    return pair + steps.astype(np.float32) * JITTER_STEP


def normal(count):
    rng = np.random.Generator(np.random.PCG64(200_000))
    for _ in range(0, count, BATCH):
        yield rng.standard_normal((BATCH, DIM), dtype=np.float32)


# The name of each file, its rows, what makes their values batch by batch, and their crc32.
DATA = {
    "minilm200k.f32.npy": (ROWS, minilm, "12d2f234"),
    "normal200k.f32.npy": (ROWS, normal, "bbb243c1"),
    "minilm100k.f32.npy": (100_000, minilm, "ca0a334c"),
    "queries100.f32.npy": (100, queries, "83f636b0"),
}


def make(folder, name):
    """The path of the file `name`, written if it is not there."""
    path = Path(folder) / name
    if path.exists():
        return path
    rows, batches, wanted = DATA[name]
    crc32 = 0
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, DIM)}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches(rows):
            crc32 = zlib.crc32(batch, crc32)
            batch.tofile(file)
    if f"{crc32:08x}" != wanted:
        raise SystemExit(f"{name}: the values have crc32 {crc32:08x}, not {wanted}; the generator has changed")
    partial.rename(path)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name in DATA:
        print(make(sys.argv[1], name))
