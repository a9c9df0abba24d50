"""The codec for Zarr beside Zarr's own: all rows, and 1,000 random ones, of 200,000 x 768 real float32, from one interleaved run.

    cargo build --release -p cvc-python && cp target/release/lib_cvc.so crates/cvc-python/python/cvc/_cvc.abi3.so
    PYTHONPATH=crates/cvc-python/python python3 benches/zarr_codec.py DATA FOLDER [ROUNDS] [CSV]

DATA is minilm200k.f32.npy of data.py, FOLDER takes some 5 GB. Needs zarr of requirements.txt. Arrays are written once and then read as they
lie in the cache of the system. Every answer is compared with DATA before anything is timed. A turn that others disturbed shows in the
processor's time less than on the clock, so both are noted. (The file is not called zarr.py, which would hide the package.)
"""

import csv
import os
import statistics
import sys
import time

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.registry import register_codec

from cvc.zarr import CvcCodec
from harness import Others, machine

RANDOM_ROWS = 1000
SHARD = 16_384

register_codec("cvc", CvcCodec)


def ours(codec, chunk, shard=None):
    return {"chunks": (chunk, 768), "shards": shard and (shard, 768), "serializer": CvcCodec(codec), "compressors": None}


def zstd(chunk):
    """As Zarr shards by itself: its zstd at level 0 has no checksum."""
    return {"chunks": (chunk, 768), "shards": (SHARD, 768), "compressors": ZstdCodec(level=0)}


# What is written, and how far a value may be from the true one.
ARRAYS = {
    "cvc lossless": (ours("lossless", 4096), 0),
    "cvc fp16": (ours("fp16", 4096), 0.0005),
    "cvc int8": (ours("int8", 4096), 0.003),
    "cvc lossless, sharded, inner 1024": (ours("lossless", 1024, SHARD), 0),
    "cvc lossless, sharded, inner 64": (ours("lossless", 64, SHARD), 0),
    "zarr zstd, sharded, inner 1024": (zstd(1024), 0),
    "zarr zstd, sharded, inner 64": (zstd(64), 0),
    "zarr zstd, sharded, inner 8": (zstd(8), 0),
}


SLOW = "zarr zstd, sharded, inner 8"


def folder_len(path):
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    data, folder = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    values = np.load(data, mmap_mode="r")
    rows = np.random.default_rng(5).integers(0, len(values), RANDOM_ROWS)
    about = machine() | {"zarr": zarr.__version__, "data": os.path.basename(data)}
    arrays, lens = {}, {}
    for number, (name, (how, allowed)) in enumerate(ARRAYS.items()):
        path = os.path.join(folder, str(number))
        if not os.path.exists(path):
            zarr.create_array(path, data=np.asarray(values), **how)
        arrays[name], lens[name] = zarr.open_array(path, mode="r"), folder_len(path)
        for wanted, found in ((values, arrays[name][...]), (values[rows], arrays[name].oindex[rows])):
            wrong = max(np.abs(found[at : at + 20_000] - wanted[at : at + 20_000]).max() for at in range(0, len(wanted), 20_000))
            if not wrong <= allowed:
                sys.exit(f"{name}: a value is wrong by {wrong}, of {allowed} allowed")
    asked = {"all rows": lambda array: array[...], "random rows": lambda array: array.oindex[rows]}
    # All rows of inner chunks of eight take so long that nobody would have them.
    taking_part = {what: [name for name in arrays if what != "all rows" or name != SLOW] for what in asked}
    measured, loads = [], []
    for number in range(rounds):
        others = Others([])
        # Each begins in turn, and before each the memory that the result takes is written once: what the system must do for the first large
        # array after others is nobody's part.
        order = list(arrays.items())
        order = order[number % len(order) :] + order[: number % len(order)]
        for what, read in asked.items():
            for name, array in order:
                if name not in taking_part[what]:
                    continue
                np.empty_like(values, subok=False).fill(1)
                wall, cpu = time.perf_counter(), time.process_time()
                found = read(array)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                del found
                measured.append((number, what, name, lens[name], wall, cpu))
        loads.append(others.cores())
    about |= {"cores busy with other work, by round": " ".join(loads)}
    for what in asked:
        print(f"{what}: median (least..most) ms on the clock, of the processor, MB")
        names = taking_part[what]
        rivals = [name for name in names if name.startswith("zarr")]
        walls = {name: [wall for _, of, by, _, wall, _ in measured if (of, by) == (what, name)] for name in names}
        cpus = {name: [cpu for _, of, by, _, _, cpu in measured if (of, by) == (what, name)] for name in names}
        for name in names:
            shown = [f"{statistics.median(of) * 1e3:.1f} ({min(of) * 1e3:.1f}..{max(of) * 1e3:.1f})" for of in (walls[name], cpus[name])]
            ratios = [
                f"{statistics.median(other[rival][turn] / own[name][turn] for turn in range(rounds)):.1f}"
                for rival in rivals for other, own in ((walls, walls), (cpus, cpus))
            ]
            times = " ".join(f"{ratios[2 * at]}/{ratios[2 * at + 1]}" for at in range(len(rivals)))
            print(f"| {name} | {shown[0]} | {shown[1]} | {lens[name] / 1e6:.1f} | {times} |")
        print(f"(the last column: how many times faster than {', '.join(rivals)}, on the clock / of the processor, medians by round)")
    for key, value in about.items():
        print(f"# {key}: {value}")
    if len(sys.argv) > 4:
        with open(sys.argv[4], "w", newline="") as file:
            for key, value in about.items():
                file.write(f"# {key}: {value}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["round", "what", "array", "stored_bytes", "wall_s", "cpu_s"])
            writer.writerows((*head, f"{wall:.6f}", f"{cpu:.6f}") for *head, wall, cpu in measured)


if __name__ == "__main__":
    main()
