"""A data set of many files, written and read by many processes: what docs/scale.md says of many machines, on one.

    python examples/scale.py FOLDER --rows 1000000 --files 16 --processes 2

needs the package `cvc` and NumPy. Each worker writes files of its own, the manifest comes last; one process plans, and the workers read the
partitions in an order of their own. Every row must be read once with the bits that were written: whole numbers that do not depend on the
order are summed while writing and while reading, and compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

import cvc

# Rows that a worker has in memory at a time.
BATCH = 16_384
QUERIES, K = 100, 10


def sums(ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Numbers that are the same for the same rows, in whatever order and however they are divided: modulo 2^64."""
    bits = vectors.view("u2").sum(axis=1, dtype="u8")
    return np.array([len(ids), ids.sum(dtype="u8"), (bits * (ids.astype("u8") + 1)).sum(dtype="u8")], "u8")


def generated(first_row: int, rows: int, dim: int):
    """Rows that look like embeddings, a batch at a time: the same whoever makes them."""
    for start in range(first_row, first_row + rows, BATCH):
        count = min(BATCH, first_row + rows - start)
        vectors = np.random.default_rng(start).standard_normal((count, dim), dtype="f4")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield np.arange(start, start + count), vectors


def write(job: tuple[str, int, int], dim: int, codec: str, chunk_rows: int | None) -> tuple[np.ndarray, float]:
    """Writes one file; what a worker on its own machine does. Returns its sums, and the seconds that making rows did not take."""
    path, first_row, rows = job
    total, took = np.zeros(3, "u8"), 0.0
    writer = cvc.Writer(path, codec={"vectors": codec}, chunk_rows=chunk_rows)
    with writer:
        for ids, vectors in generated(first_row, rows, dim):
            began = time.perf_counter()
            writer.write({"vectors": vectors, "id": ids})
            took += time.perf_counter() - began
            if codec == "fp16":
                total += sums(ids, vectors.astype("f2"))
        began = time.perf_counter()
    return total, took + time.perf_counter() - began


def read(partition: cvc.Partition) -> np.ndarray:
    """Reads one partition, wherever it is sent."""
    part = cvc.read(partition)
    return sums(part["id"], part.read("vectors", dtype="float16"))


def search(partition: cvc.Partition, queries: np.ndarray) -> tuple[int, cvc.SearchResult]:
    return partition.first_row, cvc.read(partition).search(queries, K)


class Counted:
    """A file that knows how much of it was read, and in how many reads."""

    def __init__(self, path: str) -> None:
        self.file, self.reads, self.read_len = open(path, "rb"), 0, 0

    def seek(self, *to: int) -> int:
        return self.file.seek(*to)

    def read(self, length: int) -> bytes:
        self.reads, self.read_len = self.reads + 1, self.read_len + length
        return self.file.read(length)


def timed(work):
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--codec", default="fp16", choices=["fp16", "int8", "int4"])
    parser.add_argument("--chunk-rows", type=int, help="few, to see the index of a larger file")
    parser.add_argument("--max-bytes", type=int, default=128 << 20, help="decoded bytes of a partition")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    said: dict[str, object] = {name: getattr(asked, name) for name in ("rows", "dim", "files", "processes", "codec", "chunk_rows")}

    borders = np.linspace(0, asked.rows, asked.files + 1, dtype=int)
    jobs = [
        (str(asked.folder / f"part-{number:05}.cvc"), int(first), int(stop - first))
        for number, (first, stop) in enumerate(zip(borders, borders[1:]))
    ]
    with ProcessPoolExecutor(asked.processes) as pool:
        worked = partial(write, dim=asked.dim, codec=asked.codec, chunk_rows=asked.chunk_rows)
        written, said["write: seconds, with making the rows"] = timed(lambda: list(pool.map(worked, jobs)))
        said["write: seconds of all workers, without"] = sum(took for _, took in written)
        total = sum((of for of, _ in written), np.zeros(3, "u8"))
        file_len = sum(os.path.getsize(path) for path, _, _ in jobs)
        said["bytes"], said["bytes for each row"] = file_len, file_len / asked.rows

        manifest = asked.folder / "corpus.json"
        _, said["manifest: seconds"] = timed(lambda: cvc.write_manifest(manifest, [path for path, _, _ in jobs]))
        said["manifest: bytes for each file"] = manifest.stat().st_size / asked.files

        partitions, took = timed(lambda: cvc.plan(manifest, max_bytes=asked.max_bytes))
        said["plan: seconds for each file"], said["plan: partitions"] = took / asked.files, len(partitions)
        said["plan: bytes of a partition as JSON"] = sum(len(of.to_json()) for of in partitions) / len(partitions)
        said["plan: most bytes of a partition, in the file"] = max(of.stored_len for of in partitions)
        counted = Counted(jobs[0][0])
        with counted.file, cvc.open(counted) as f:
            said["index: bytes for each file"], said["index: reads"] = counted.read_len, counted.reads
            [rows] = partitions[0].ranges
            ranges = [of for name in partitions[0].arrays for of in f[name].byte_ranges(slice(*rows), gap=64 << 10)]
            said["partition: ranges of bytes"], said["partition: bytes"] = len(ranges), sum(end - start for start, end in ranges)

        shuffled = random.Random(0).sample(partitions, len(partitions))
        found, said["read: seconds"] = timed(lambda: sum(pool.map(read, shuffled), np.zeros(3, "u8")))
        if int(found[0]) != asked.rows or int(found[1]) != asked.rows * (asked.rows - 1) // 2:
            raise SystemExit(f"{found[0]} rows were read, with ids that sum to {found[1]}: not every row once")
        if asked.codec == "fp16" and (found != total).any():
            raise SystemExit(f"other bits were read than were written: {found} and {total}")
        said["read: GB of float32 a second"] = asked.rows * asked.dim * 4 / said["read: seconds"] / 1e9

        _, queries = next(generated(0, QUERIES, asked.dim))
        best, took = timed(lambda: cvc.SearchResult.merged(list(pool.map(partial(search, queries=queries), shuffled))))
        if (best.indices[:, 0] != np.arange(QUERIES)).any():
            raise SystemExit("the first rows are not the nearest to themselves")
        said[f"search: seconds for {QUERIES} queries"] = took
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
