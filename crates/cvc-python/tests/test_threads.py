"""Many threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import cvc


def test_one_file_is_read_from_many_threads(packed: bytes) -> None:
    expected = cvc.open(packed).vectors[:]
    file = cvc.open(packed)

    def read(seed: int) -> bool:
        rows = np.random.default_rng(seed).integers(0, 2000, 300)
        return np.array_equal(file.vectors[rows], expected[rows])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(64)))


def test_a_file_object_is_read_from_many_threads(packed: bytes, tmp_path: Path) -> None:
    """Threads of ours ask an object of Python, which needs the interpreter that the caller let go of."""
    (tmp_path / "a.cvc").write_bytes(packed)
    expected = cvc.open(packed).vectors[:]
    with open(tmp_path / "a.cvc", "rb") as source:
        file = cvc.open(source)
        with ThreadPoolExecutor(8) as pool:
            parts = pool.map(lambda start: file.vectors[start : start + 250], range(0, 2000, 250))
            assert np.array_equal(np.concatenate(list(parts)), expected)


def test_the_interpreter_runs_while_rows_are_decoded() -> None:
    values = np.zeros((1 << 18, 128), "f4")
    packed = cvc.pack(values, codec="zstd")
    array = cvc.open(packed).vectors
    started, done, seen = threading.Event(), threading.Event(), []

    def watch() -> None:
        started.set()
        while not done.is_set():
            seen.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started.wait()
    before = len(seen)
    array[:]
    counted = len(seen) - before
    done.set()
    watcher.join()
    assert counted > 0


def test_writers_of_their_own_in_threads(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3000, 16)).astype("f4")

    def pack(number: int) -> bytes:
        cvc.pack(values + number, tmp_path / f"{number}.cvc", "int8", chunk_rows=200)
        return (tmp_path / f"{number}.cvc").read_bytes()

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(pack, range(8)))
    assert made == [cvc.pack(values + number, codec="int8", chunk_rows=200) for number in range(8)]
