"""What single calls of the Python package cost, against the package `zstandard` and the calls of the system in the same run.

    cargo build --release -p cvc-python
    cp target/release/lib_cvc.so crates/cvc-python/python/cvc/_cvc.abi3.so
    PYTHONPATH=crates/cvc-python/python python benches/python_calls.py [--rounds N] [--record FILE.csv]

Answers are compared before anything is timed. The arms take turns, round by round, each round beginning with another one.
"""

import argparse
import csv
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import zstandard

import cvc
from cvc.codecs import Zstd, crc32c

ROOT = Path(__file__).resolve().parents[1]
# Files that are measured are in memory where that is a folder: what is asked is what calls cost, not what disks do.
SHM = Path("/dev/shm")
TEMPORARY = tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None)
FOLDER = Path(TEMPORARY.name)
SMALL = b"sixty-four bytes, as a record of a cache or of a message has it."
LARGE_LEN = 64 << 20


def large(name):
    """64 MiB of one kind."""
    if name == "floats":
        return np.random.default_rng(20260101).normal(size=LARGE_LEN // 4).astype("<f4").tobytes()
    pages = b"".join(path.read_bytes() for path in sorted((ROOT / "docs").rglob("*.md")))
    return (pages * (LARGE_LEN // len(pages) + 1))[:LARGE_LEN]


def arms():
    """For each bench: calls in one measurement, the arms, and the goal: ours over the sum of others, so many times each."""
    ours, theirs = Zstd(), zstandard.ZstdDecompressor()
    compressor = zstandard.ZstdCompressor(level=3)
    payload, size, crc = ours.compress(SMALL)
    check(theirs.decompress(payload) == SMALL == ours.decompress(payload, size, crc))
    yield (
        "64 bytes",
        20_000,
        {"cvc": lambda: ours.decompress(payload, size, crc), "zstandard": lambda: theirs.decompress(payload)},
        {"zstandard": 1},
        4.0,
    )
    for name in ("floats", "text"):
        data = large(name)
        packed = compressor.compress(data)
        sum_ = crc32c(data)
        check(theirs.decompress(packed) == data == ours.decompress(packed, len(data), sum_))
        yield (
            f"64 MiB of {name}",
            1,
            {
                "cvc": lambda packed=packed, data=data, sum_=sum_: ours.decompress(packed, len(data), sum_),
                "zstandard": lambda packed=packed: theirs.decompress(packed),
                "crc32c": lambda data=data: crc32c(data),
            },
            {"zstandard": 1, "crc32c": 1},
            1.05,
        )
    yield from small_files()


def small_files():
    """One row of a file of 1,000 x 64 in fp16: opened, read, closed."""
    values = np.random.default_rng(1).normal(size=(1000, 64)).astype("f4")
    path = FOLDER / "small.cvc"
    cvc.pack(values, path, "fp16")
    packed = path.read_bytes()
    row = values[500].astype("f2").astype("f4")

    def one_row(source):
        with cvc.open(source) as file:
            return file.vectors[500]

    def system():
        descriptor = os.open(path, os.O_RDONLY)
        piece = os.pread(descriptor, 128, 64_000)
        os.close(descriptor)
        return piece

    check((one_row(path) == row).all() and (one_row(packed) == row).all() and len(system()) == 128)
    # The same file in memory: all that is not a call of the system.
    calls = {"cvc": lambda: one_row(path), "os": system, "parse": lambda: one_row(packed)}
    yield "open, one row, close", 2_000, calls, {"os": 3, "parse": 1}, 1.0
    opened = cvc.open(path).vectors
    array = np.load(save(FOLDER / "small.npy", values.astype("f2")), mmap_mode="r")
    check((opened[500] == array[500]).all())
    calls = {"cvc": lambda: opened[500], "numpy.memmap of f16": lambda: array[500].astype("f4")}
    yield "one row of an open file", 5_000, calls, {"numpy.memmap of f16": 1}, None


def save(path, values):
    np.save(path, values)
    return path


def threads():
    """How many cores 8 threads keep busy that load 8 files, and the time against loading them in turn."""
    values = np.random.default_rng(2).normal(size=(50_000, 256)).astype("f4")
    paths = [FOLDER / f"{number}.cvc" for number in range(8)]
    for path in paths:
        cvc.pack(values, path, "int8")
    expected = cvc.load_cvc(paths[0])
    with ThreadPoolExecutor(8) as pool:
        check(all((loaded == expected).all() for loaded in pool.map(cvc.load_cvc, paths)))
        busy, ratios = [], []
        for _ in range(7):
            start, cpu = time.perf_counter(), time.process_time()
            list(pool.map(lambda path: cvc.load_cvc(path).shape, paths))
            together = time.perf_counter() - start
            busy.append((time.process_time() - cpu) / together)
            start = time.perf_counter()
            for path in paths:
                cvc.load_cvc(path)
            ratios.append(together / (time.perf_counter() - start))
    print(
        f"8 threads loading 8 files: {statistics.median(busy):.2f} of {os.cpu_count()} cores busy, "
        f"{statistics.median(ratios):.2f} of the time in turn, where each call already uses all cores"
    )


def check(right):
    if not right:
        sys.exit("an answer is wrong: nothing was timed")


def measure(calls, call):
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def main():
    parser = argparse.ArgumentParser(description="Times single calls.")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    rows, met = [], True
    for bench, calls, calls_of, against, goal in arms():
        found = {name: [] for name in calls_of}
        names = list(calls_of)
        for call in calls_of.values():
            call()
        for turn in range(options.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                found[name].append(measure(calls, calls_of[name]))
                rows.append((bench, name, turn, f"{found[name][-1]:.9f}"))
        median = {name: statistics.median(of) for name, of in found.items()}
        ratio = median["cvc"] / sum(times * median[name] for name, times in against.items())
        by_round = statistics.median(
            found["cvc"][turn] / sum(times * found[name][turn] for name, times in against.items())
            for turn in range(options.rounds)
        )
        met = met and (goal is None or ratio <= goal)
        times = ", ".join(f"{name} {1e6 * of:.3f} us" for name, of in median.items())
        others = " + ".join(name if times == 1 else f"{times} x {name}" for name, times in against.items())
        verdict = "" if goal is None else f", goal {goal}: {'met' if ratio <= goal else 'missed'}"
        print(f"{bench}: {times}; cvc / ({others}) = {ratio:.2f} ({by_round:.2f}){verdict}")
    threads()
    if options.record:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
        head = {
            "date": datetime.date.today(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "commit": commit.strip(),
            "python": platform.python_version(),
            "cvc": cvc.__version__,
            "zstandard": f"{zstandard.__version__} (zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))})",
            "rounds": options.rounds,
        }
        with options.record.open("w", newline="") as file:
            file.writelines(f"# {key}: {value}\n" for key, value in head.items())
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("bench", "arm", "round", "wall_s"))
            writer.writerows(rows)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
