"""What single calls of the Python package cost, against the package `zstandard` in the same run.

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
import time
from pathlib import Path

import numpy as np
import zstandard

import cvc
from cvc.codecs import Zstd, crc32c

ROOT = Path(__file__).resolve().parents[1]
SMALL = b"sixty-four bytes, as a record of a cache or of a message has it."
LARGE_LEN = 64 << 20


def large(name):
    """64 MiB of one kind."""
    if name == "floats":
        return np.random.default_rng(20260101).normal(size=LARGE_LEN // 4).astype("<f4").tobytes()
    pages = b"".join(path.read_bytes() for path in sorted((ROOT / "docs").rglob("*.md")))
    return (pages * (LARGE_LEN // len(pages) + 1))[:LARGE_LEN]


def arms():
    """For each bench: calls in one measurement, the arms, and the goal: ours over the sum of others."""
    ours, theirs = Zstd(), zstandard.ZstdDecompressor()
    compressor = zstandard.ZstdCompressor(level=3)
    payload, size, crc = ours.compress(SMALL)
    check(theirs.decompress(payload) == SMALL == ours.decompress(payload, size, crc))
    yield (
        "64 bytes",
        20_000,
        {"cvc": lambda: ours.decompress(payload, size, crc), "zstandard": lambda: theirs.decompress(payload)},
        ("zstandard",),
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
            ("zstandard", "crc32c"),
            1.05,
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
        ratio = median["cvc"] / sum(median[name] for name in against)
        by_round = statistics.median(
            ours / sum(others) for ours, *others in zip(found["cvc"], *(found[name] for name in against), strict=True)
        )
        met = met and ratio <= goal
        times = ", ".join(f"{name} {1e6 * of:.3f} us" for name, of in median.items())
        verdict = "met" if ratio <= goal else "missed"
        print(f"{bench}: {times}; cvc / ({' + '.join(against)}) = {ratio:.2f} ({by_round:.2f}), goal {goal}: {verdict}")
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
