"""Makes the vectors that every bench measures on, from the real sample in examples/data.

    python data.py FOLDER

Writes FOLDER/minilm200k.f32.npy: 200,000 rows of 768 float32 values, 614 MB. Needs NumPy. The same bytes every
time, and `CRC32` says which: the jitter is integers from a seeded generator, scaled by a power of two, so that no
step depends on the machine.

Row i is rows i and i + 1 + i // 2000 of the sample (both modulo 2000) side by side, plus jitter. So the values have
the spread of real embeddings, no two rows are equal, and a compressor gains nothing from the repetition.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

ROWS, DIM = 200_000, 768
SEED = 768
# Jitter is uniform over 256 steps of 2^-17, about 0.001 to either side; the values have a deviation of 0.051.
JITTER_STEP = np.float32(2.0**-17)
NAME = "minilm200k.f32.npy"
CRC32 = "12d2f234"
SAMPLE = Path(__file__).resolve().parent.parent / "examples/data/minilm2k.f32.npy"


def make(folder):
    """The path of the file, written if it is not there."""
    path = Path(folder) / NAME
    if path.exists():
        return path
    sample = np.load(SAMPLE)
    count = len(sample)
    rng = np.random.Generator(np.random.PCG64(SEED))
    crc32 = 0
    partial = path.with_suffix(".partial")
    shape = (ROWS, DIM)
    with open(partial, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, ROWS, count):
            rows = np.arange(start, min(start + count, ROWS))
            pair = np.hstack([sample[rows % count], sample[(rows + 1 + rows // count) % count]])
            steps = rng.integers(-128, 128, size=pair.shape, dtype=np.int16)
            block = pair + steps.astype(np.float32) * JITTER_STEP
            crc32 = zlib.crc32(block, crc32)
            block.tofile(file)
    if f"{crc32:08x}" != CRC32:
        raise SystemExit(f"{NAME}: the values have crc32 {crc32:08x}, not {CRC32}; the generator has changed")
    partial.rename(path)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(make(sys.argv[1]))
