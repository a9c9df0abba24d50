"""Packing: at once and batch by batch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cvc


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(5000, 32)).astype("f4")


def test_batches_make_the_same_file_as_one_call(values: np.ndarray, tmp_path: Path) -> None:
    whole = cvc.pack(values, codec="int8", chunk_rows=700)
    with cvc.Writer(tmp_path / "a.cvc", codec="int8", chunk_rows=700) as writer:
        for start in range(0, 5000, 999):
            writer.write(values[start : start + 999])
        assert writer.rows == 5000 and not (tmp_path / "a.cvc").exists()
    assert (tmp_path / "a.cvc").read_bytes() == whole
    assert "closed: 5000 rows" in repr(writer)
    for attempt in (lambda: writer.write(values), writer.finish, lambda: writer.add_section(0, 1, {})):
        with pytest.raises(ValueError, match="closed"):
            attempt()


def test_an_exception_leaves_nothing_behind(values: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), cvc.Writer(tmp_path / "a.cvc") as writer:
        writer.write(values)
        1 / 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.cvc").write_bytes(b"old")
    with pytest.raises(cvc.EncodeError, match="row 2, column 1"):
        cvc.pack(np.array([[0, 0], [1, 1], [1, np.nan]], "f4"), tmp_path / "b.cvc", "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["b.cvc"]
    assert (tmp_path / "b.cvc").read_bytes() == b"old"
    with pytest.raises(FileExistsError):
        cvc.pack(values, tmp_path / "b.cvc", overwrite=False)


def test_sections_come_with_the_rows_or_beside_them(values: np.ndarray) -> None:
    a, b = values[:2000], values[2000:]
    by_pairs = cvc.pack([(a, {"source": "a"}), (b, {"source": "b"})])
    by_list = cvc.pack(values, sections=[(0, 2000, {"source": "a"}), (2000, 5000, {"source": "b"})])
    assert by_pairs == by_list
    with pytest.raises(ValueError, match="shares rows"):
        cvc.pack(values, sections=[(0, 10, {}), (5, 20, {})])
    with pytest.raises(ValueError, match="5000 rows were written"):
        cvc.pack(values, sections=[(0, 5001, {})])
    with pytest.raises(ValueError, match="empty"):
        cvc.pack([])


def test_options_for_each_array(values: np.ndarray) -> None:
    packed = cvc.pack(
        {"a": values, "b": values, "ids": np.arange(5000)},
        codec={"a": "int8", "b": "lossless"},
        scope={"a": "dim"},
        block_rows={"ids": 1000},
        provenance={"a": {"model": "minilm"}},
        chunk_rows=2048,
    )
    file = cvc.open(packed)
    assert [array.codec for array in file.arrays.values()] == ["int8", "lossless", "raw"]
    assert file["a"].codec_options == {"scope": "dim"} and file["a"].provenance == {"model": "minilm"}
    assert np.array_equal(file["b"][:], values)
    with pytest.raises(KeyError, match='no array "c"'):
        cvc.pack({"a": values}, codec={"c": "int8"})
    with pytest.raises(ValueError, match="scope"):
        cvc.pack(values, codec="int8", scope="column")
    with pytest.raises(cvc.ArgumentError, match="fp16"):
        cvc.pack(values, codec="fp8")
    saturated = cvc.open(cvc.pack(np.array([[np.inf, 1.0]], "f4"), codec="fp16", nonfinite="saturate"))
    assert saturated.vectors[0][1] == 1.0


@pytest.mark.parametrize("order", ["F", "strided", "reversed", ">f4", "list", "float64"])
def test_memory_of_every_kind_is_taken(values: np.ndarray, order: str) -> None:
    given = {
        "F": lambda: np.asfortranarray(values),
        "strided": lambda: np.repeat(values, 2, axis=1)[:, ::2],
        "reversed": lambda: values[::-1].copy()[::-1],
        ">f4": lambda: values.astype(">f4"),
        "list": lambda: values[:50].tolist(),
        "float64": lambda: values.astype("f8"),
    }[order]()
    expected = np.asarray(given).astype(np.asarray(given).dtype.newbyteorder("="))
    assert np.array_equal(cvc.open(cvc.pack(given, codec="raw")).vectors[:], expected)


def test_batches_unlike_the_first_are_refused(values: np.ndarray) -> None:
    writer = cvc.Writer()
    writer.write({"a": values[:10], "b": np.arange(10)})
    for bad in (
        {"a": values[:10]},
        {"a": values[:10], "b": np.arange(10), "c": np.arange(10)},
        {"a": values[:10, :5], "b": np.arange(10)},
        {"a": values[:10], "b": np.arange(10.0)},
        {"a": values[:10], "b": np.arange(9)},
        values[:10],
    ):
        with pytest.raises(ValueError):
            writer.write(bad)
    writer.write({"b": np.arange(10), "a": values[:10]})
    assert writer.rows == 20
    file = cvc.open(writer.finish())
    assert np.array_equal(file["b"][:], np.r_[0:10, 0:10])
    with pytest.raises(ValueError, match="no rows"):
        cvc.Writer().finish()


def test_sections_that_are_refused_are_all_there_for_the_next_try(values: np.ndarray) -> None:
    writer = cvc.Writer()
    writer.add_section(0, 5, {"a": 1})
    writer.add_section(3, 8, {"b": 2})
    for _ in range(2):
        with pytest.raises(ValueError, match="shares rows"):
            writer.write(values)
    with pytest.raises(ValueError, match="no rows"):
        writer.finish()


def test_pairs_of_numbers_are_rows() -> None:
    assert np.array_equal(cvc.open(cvc.pack([(1.0, 2.0), (3.0, 4.0)], codec="raw")).vectors[:], [[1, 2], [3, 4]])
    nested = [([1.0, 2.0], [3.0, 4.0]), ([5.0, 6.0], [7.0, 8.0])]
    assert np.array_equal(cvc.open(cvc.pack(nested, codec="raw")).vectors[:], nested)


def test_arrays_with_rows_of_their_own(values: np.ndarray) -> None:
    writer = cvc.Writer()
    with pytest.raises(ValueError, match="first rows"):
        writer.attach("centroids", values[:3])
    writer.write(values)
    writer.attach("centroids", values[:3], codec="raw")
    writer.attach("words", ["a", "b"])
    file = cvc.open(writer.finish())
    assert file["centroids"].shape == (3, 32) and file["words"][:].tolist() == ["a", "b"]


def test_a_writer_at_work_is_busy(values: np.ndarray) -> None:
    writer = cvc.Writer()
    caught = []

    def tell(done: int, total: int) -> None:
        with pytest.raises(RuntimeError, match="busy"):
            writer.write(values)
        caught.append(done)

    writer.write(values, progress=tell)
    assert caught and writer.rows == 5000


def test_progress_is_told(values: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    cvc.pack([(values, {"a": 1}), (values, {"a": 2})], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10_000, 10_000) and (5000, 10_000) in seen
    pytest.importorskip("tqdm", reason="tqdm shows the bars")
    cvc.pack(values, progress=True)


INTERRUPTED = """
import sys, numpy as np, cvc
values = np.zeros((1 << 20, 64), "f4")
with cvc.Writer(sys.argv[1], codec="int8") as writer:
    print("packing", flush=True)
    while True:
        writer.write(values)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_stops_a_long_pack_and_leaves_nothing(tmp_path: Path) -> None:
    import signal

    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "a.cvc")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"packing\n"
    while not list(tmp_path.iterdir()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors and process.returncode != 0
    assert list(tmp_path.iterdir()) == []
