"""What a store costs, beside numpy and the system calls that do the same: one table, from one interleaved run.

    cargo build --release -p cvc-store --features rayon --example bench_store
    cargo build --release -p cvc-python && cp target/release/lib_cvc.so crates/cvc-python/python/cvc/_cvc.abi3.so
    PYTHONPATH=crates/cvc-python/python python3 benches/store.py target/release/examples/bench_store FOLDER [ROUNDS] [CSV]

FOLDER should be on the disk to be measured. Each round runs numpy, the store from Python, and the store from Rust; the table has the best
and the median of all. The record begins with what the figures depend on.
"""

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

import cvc
from harness import machine

ROWS, DIM, FEW, REPEATS = 1_000_000, 10, 100, 1000


def timed(work, repeat=1):
    start = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - start) / repeat


def replaced():
    """The first of each hundred rows that are replaced: the same as in the program in Rust, never the same twice."""
    return iter(range(0, REPEATS * 400, 400))


def numpy_round(folder):
    path = os.path.join(folder, "numpy.npy")
    values = np.random.default_rng(1).standard_normal((ROWS, DIM), dtype=np.float32)
    if os.path.exists(path):
        os.remove(path)
    yield "numpy.save", timed(lambda: np.save(path, values))
    loaded = []
    yield "numpy.load", timed(lambda: loaded.append(np.load(path)))
    assert (loaded.pop() == values).all()
    yield "numpy.open_row", timed(lambda: np.load(path, mmap_mode="r")[777_777].copy())
    mapped = np.load(path, mmap_mode="r")
    for count in (100, 1000, 10_000):
        rows = (np.arange(count) * 7919 * 131) % ROWS
        mapped[rows]
        yield f"numpy.rows.{count}", timed(lambda: mapped[rows], max(100_000 // count, 1))
    few = values[:FEW]

    def updates():
        view = np.load(path, mmap_mode="r+")
        for n in range(100):
            view[n * 1000:n * 1000 + 10] = n
        view.flush()

    yield "numpy.updates.100", timed(updates)
    writable = np.load(path, mmap_mode="r+")
    places = replaced()

    def replace():
        start = next(places)
        writable[start:start + FEW] = few

    yield "numpy.replace.100", timed(replace, REPEATS)
    # The system calls that write as many bytes, from Python as well: what `python.replace.100` and `python.append.100` stand beside.
    few = few.tobytes()
    existing = os.open(path, os.O_RDWR)
    places = replaced()
    yield "raw.replace.100", timed(lambda: os.pwrite(existing, few, next(places) * DIM * 4), REPEATS)
    os.close(existing)
    os.remove(path)
    growing = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield "raw.append.100", timed(lambda: os.write(growing, few), REPEATS)
    assert os.fstat(growing).st_size == REPEATS * len(few)
    os.close(growing)
    os.remove(path)


def python_round(folder):
    """`cvc.Store`, with the calls that NumPack has too."""
    path = os.path.join(folder, "python.store")
    values = np.random.default_rng(1).standard_normal((ROWS, DIM), dtype=np.float32)
    few = values[:FEW].copy()
    shutil.rmtree(path, ignore_errors=True)
    with cvc.Store(path, durability="buffered") as store:
        yield "python.save", timed(lambda: store.save({"a": values}))
        loaded = []
        yield "python.load", timed(lambda: loaded.append(store.load("a")))
        assert (loaded.pop() == values).all()

        def open_row():
            with cvc.Store(path, mode="r") as other:
                return other.load("a", lazy=True)[777_777]

        assert (open_row() == values[777_777]).all()
        yield "python.open_row", timed(open_row)
        lazy = store.load("a", lazy=True)
        for count in (100, 1000, 10_000):
            rows = (np.arange(count) * 7919 * 131) % ROWS
            assert (lazy[rows] == values[rows]).all()
            yield f"python.rows.{count}", timed(lambda: store.getitem("a", rows), max(100_000 // count, 1))
        # In an array of its own, so that the others are what they were before.
        store.clone("a", "replaced")
        places = replaced()

        def replace():
            start = next(places)
            store.replace({"replaced": few}, slice(start, start + FEW))

        yield "python.replace.100", timed(replace, REPEATS)
        assert all((store.getitem("replaced", slice(start, start + FEW)) == few).all() for start in replaced())
        store.drop("replaced")
        yield "python.append.100", timed(lambda: store.append({"a": few}), REPEATS)
        assert len(store.load("a", lazy=True)) == ROWS + REPEATS * FEW and (store.getitem("a", slice(-FEW, None)) == few).all()

        # Replacing the journal takes its turn, once in some 2,000 small changes; not in so short a measurement.
        store.prune()

        def updates():
            for n in range(100):
                rows = store.getitem("a", slice(n * 1000, n * 1000 + 10))
                rows[:] = n
                store.replace({"a": rows}, slice(n * 1000, n * 1000 + 10))

        yield "python.updates.100", timed(updates)
        assert (store.getitem("a", slice(99_000, 99_010)) == 99).all()

        def writable():
            with store.writable_batch_mode() as batch:
                array = batch.load("a")
                for n in range(100):
                    array[n * 1000:n * 1000 + 10] = n + 1

        yield "python.writable.100", timed(writable)
        assert (store.getitem("a", slice(99_000, 99_010)) == 100).all()
    shutil.rmtree(path)


def main():
    program, folder = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    os.makedirs(folder, exist_ok=True)
    about = machine()
    figures, others = {}, []
    for _ in range(rounds):
        for name, seconds in [*numpy_round(folder), *python_round(folder)]:
            figures.setdefault(name, []).append(seconds)
        out = subprocess.run([program, folder, "1"], check=True, capture_output=True, text=True).stdout
        for line in out.splitlines():
            record = json.loads(line)
            if "seconds" in record:
                figures.setdefault(record["name"], []).append(record["seconds"])
            else:
                others.append(record)
    rows = [(name, min(of), statistics.median(of), len(of)) for name, of in figures.items()]
    for name, best, median, _ in rows:
        print(f"{name:28} best {best * 1e6:12.1f} us   median {median * 1e6:12.1f} us")
    print(others[-1])
    if len(sys.argv) > 4:
        with open(sys.argv[4], "w", newline="") as file:
            file.writelines(f"# {key}: {value}\n" for key, value in about.items())
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["name", "best_us", "median_us", "rounds"])
            writer.writerows((name, f"{best * 1e6:.2f}", f"{median * 1e6:.2f}", count) for name, best, median, count in rows)
            for key in ("ratio_before", "ratio_after", "most_files", "files"):
                writer.writerow([f"space.{key}", others[-1][key], others[-1][key], 1])


if __name__ == "__main__":
    main()
