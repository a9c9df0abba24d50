"""Stores: what NumPack's users call, and what must not go wrong as it does there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cvc

ROWS = np.arange(400, dtype="f4").reshape(100, 4)


@pytest.fixture
def store(tmp_path: Path) -> cvc.Store:
    store = cvc.Store(tmp_path / "s", durability="buffered")
    store.save({"x": ROWS, "y": np.arange(100)})
    return store


def test_it_is_a_context_and_is_made_if_it_is_not_there(tmp_path: Path) -> None:
    with cvc.Store(tmp_path / "s") as store:
        store.save({"x": ROWS})
    assert store.closed and "closed" in repr(store)
    with pytest.raises(ValueError, match="closed"):
        store.load("x")
    with pytest.raises(ValueError, match="closed"):
        store.append({"x": ROWS})
    with store:
        assert np.array_equal(store["x"], ROWS)
    with pytest.raises(FileNotFoundError):
        cvc.Store(tmp_path / "other", mode="r+")
    with pytest.raises(FileExistsError):
        cvc.Store(tmp_path / "s", mode="x")
    (tmp_path / "s" / "notes.txt").write_text("mine")
    with cvc.Store(tmp_path / "s", drop_if_exists=True) as store:
        assert store.get_member_list() == []
        store.save({"y": ROWS})
    assert (tmp_path / "s" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    with cvc.Store(tmp_path / "empty", drop_if_exists=True) as store:
        assert store.get_member_list() == []
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(OSError):
        cvc.Store(tmp_path / "photos", drop_if_exists=True)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_what_is_known_of_it(store: cvc.Store) -> None:
    assert store.get_member_list() == list(store) == ["x", "y"] and len(store) == 2
    assert store.has_array("x") and "z" not in store
    assert store.get_shape("x") == (100, 4) and store.get_shape() == {"x": (100, 4), "y": (100,)}
    assert store.get_modify_time("x") > 1_700_000_000_000_000 and store.get_modify_time("z") is None
    metadata = store.get_metadata()
    assert metadata["total_arrays"] == 2 and metadata["arrays"]["x"]["dtype"] == "float32"
    assert store.get_io_stats()["disk_len"] > ROWS.nbytes
    with pytest.raises(KeyError, match="x, y"):
        store.load("z")
    store.set_metadata({"model": "m"})
    store.set_metadata({"unit": 1}, "x")
    assert store.get_metadata()["metadata"] == {"model": "m"} and store.snapshot()["x"].metadata == {"unit": 1}
    assert "x: 100 x 4 float32" in repr(store)


@pytest.mark.parametrize(
    "key",
    [0, -1, slice(None), slice(5, 9), slice(5, 5), slice(7, 3), slice(None, None, -1), slice(90, 300), [3, -1, 3], [], np.array([5, 6])]
    + [np.arange(100) % 2 == 0, [True] * 100],
    ids=lambda key: repr(key)[:30],
)
def test_rows_are_those_of_numpy(store: cvc.Store, key: object) -> None:
    store.drop("x", [50])
    expected = np.delete(ROWS, 50, axis=0)
    if isinstance(key, (list, np.ndarray)) and len(key) == 100:
        key = key[:99]
    for got in (store.getitem("x", key), store.load("x", lazy=True)[key]):
        assert np.array_equal(got, expected[key]) and got.dtype == expected.dtype
    for bad in (99, [0, 99], [-100]):
        with pytest.raises(IndexError, match="99 rows"):
            store.getitem("x", bad)
    with pytest.raises(TypeError):
        store.getitem("x", "name")


def test_replacing_scattered_rows_changes_these_and_no_others(store: cvc.Store) -> None:
    """NumPack writes what lies in memory behind the first of them."""
    expected = ROWS.copy()
    for indexes in ([0, 4, 8], [99, 3, -2], slice(5, None, 20), np.arange(100) % 7 == 0):
        count = len(expected[indexes])
        rows = np.random.default_rng(count).normal(size=(count, 4)).astype("f4")
        expected[indexes] = rows
        store.replace({"x": rows}, indexes)
        assert np.array_equal(store["x"], expected)
    with pytest.raises(ValueError):
        store.replace({"x": ROWS[:2]}, [0, 4, 8])
    assert np.array_equal(store["x"], expected)


@pytest.mark.parametrize("of", ["F", "transposed", "reversed", ">f4"])
def test_memory_of_any_order_is_stored_by_its_values(store: cvc.Store, of: str) -> None:
    given = {
        "F": np.asfortranarray(ROWS),
        "transposed": ROWS.T.copy().T,
        "reversed": ROWS[::-1],
        ">f4": ROWS.astype(">f4"),
    }[of]
    store.save({"a": given})
    store.append({"a": given})
    assert np.array_equal(store["a"], np.vstack([given, given]))


def test_rows_that_were_dropped_stay_so(store: cvc.Store) -> None:
    store.drop("x", list(range(64, 100, 3)))
    expected = np.delete(ROWS, range(64, 100, 3), axis=0)
    store.append({"x": ROWS[:5]})
    expected = np.vstack([expected, ROWS[:5]])
    store.drop("x", [-1])
    store.drop("x", slice(-3, None))
    expected = expected[:-4]
    assert store.get_shape("x") == expected.shape
    for got in (store["x"], np.asarray(store.load("x", lazy=True)), np.vstack(list(store.stream_load("x", 7)))):
        assert np.array_equal(got, expected)
    store.update("x")
    assert np.array_equal(store["x"], expected)
    with pytest.raises(IndexError):
        store.drop("x", [1000])
    store.drop("x")
    assert not store.has_array("x")


def test_lazy_arrays_are_arrays(store: cvc.Store) -> None:
    lazy = store.load("x", lazy=True)
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size, lazy.nbytes, len(lazy)) == ((100, 4), ROWS.dtype, 2, 400, 1600, 100)
    for got, expected in [
        (lazy + 1, ROWS + 1),
        (2 * lazy, 2 * ROWS),
        (lazy / (lazy + 1), ROWS / (ROWS + 1)),
        (lazy**2 % 7 // 2, ROWS**2 % 7 // 2),
        (-lazy, -ROWS),
        (lazy >= 7, ROWS >= 7),
        (np.sqrt(lazy), np.sqrt(ROWS)),
        (np.mean(lazy, axis=0), ROWS.mean(axis=0)),
        (lazy.T, ROWS.T),
        (lazy.reshape(-1), ROWS.reshape(-1)),
        (lazy[3, 1], ROWS[3, 1]),
        (lazy[[0, 1], [1, 2]], ROWS[[0, 1], [1, 2]]),
        (lazy[2:5, ::2], ROWS[2:5, ::2]),
        (lazy[..., 0], ROWS[..., 0]),
        (lazy[None].shape, (1, 100, 4)),
        (lazy[ROWS > 200], ROWS[ROWS > 200]),
        (np.stack(list(lazy)), ROWS),
    ]:
        assert np.array_equal(got, expected)
    assert np.array_equal(store.load("y", lazy=True) & 3, np.arange(100) & 3)
    store.replace({"x": ROWS + 1})
    store.close()
    assert np.array_equal(lazy[:], ROWS), "it stays as it was, and outlives the store"


def test_batches_are_one_commit_or_none(store: cvc.Store) -> None:
    before = store.commit
    with store.batch_mode() as batch:
        batch.save({"new": ROWS})
        batch.append({"new": ROWS[:3]})
        batch.replace({"new": ROWS[:1] + 9}, [0])
        assert batch["new"][0, 0] == 9 and batch.get_shape("new") == (103, 4)
        assert not store.has_array("new")
    assert store.commit == before + 1 and np.array_equal(store["new"][1:], np.vstack([ROWS, ROWS[:3]])[1:])
    with pytest.raises(ZeroDivisionError), store.batch_mode() as batch:
        batch.drop("new")
        1 / 0
    assert store.has_array("new") and store.commit == before + 1
    with pytest.raises(ValueError):
        store.append({"x": ROWS[:2], "y": np.zeros((3, 3))})
    assert store.get_shape("x") == (100, 4), "all arrays or none"


def test_writable_arrays_are_one_commit(store: cvc.Store) -> None:
    store.drop("x", [0])
    with store.writable_batch_mode() as batch:
        x = batch.load("x")
        x[5:7] *= 2
        batch.load("y")[-1] = 7
        batch.save({"x": x})
        assert store["x"][5, 0] == ROWS[6, 0]
    assert store["x"][5, 0] == 2 * ROWS[6, 0] and store["y"][-1] == 7
    x[:] = 0
    assert store["x"].any(), "the array is the caller's after the block"
    with pytest.raises(ZeroDivisionError), store.writable_batch_mode() as batch:
        batch.load("x")[:] = 0
        1 / 0
    assert store["x"].any()
    with pytest.raises(cvc.ConflictError), store.writable_batch_mode() as batch:
        batch.load("x")[:] = 0
        store.append({"y": np.arange(1)})


def test_streams_are_of_one_commit(store: cvc.Store) -> None:
    stream = store.stream_load("x", 30)
    first = next(stream)
    store.save({"x": np.zeros((2, 2))})
    assert np.array_equal(np.vstack([first, *stream]), ROWS)
    assert [rows.shape for rows in store.stream_load("x")] == [(1, 2), (1, 2)]
    with pytest.raises(ValueError, match="buffer_size"):
        store.stream_load("x", 0)


def test_commits_can_be_gone_back_to(store: cvc.Store) -> None:
    store.keep_commits(5)
    first = store.commit
    store.replace({"x": ROWS[:1] + 1}, [0])
    store.rename("x", "z")
    assert np.array_equal(store.snapshot(first)["x"].read(), ROWS)
    assert first in store.commits and store.snapshot().names == ["y", "z"]
    store.prune()
    with pytest.raises(ValueError, match="cannot be read"):
        store.snapshot(first)


def test_rows_come_under_ids(store: cvc.Store) -> None:
    store.reset()
    store._changes.save("id", ["a", "b"], None, True)
    store.save({"v": ROWS[:2]})
    store.upsert("id", ["b", "c"], {"v": ROWS[10:12]})
    assert store["id"].tolist() == ["a", "b", "c"]
    assert np.array_equal(store["v"], ROWS[[0, 10, 11]])
    assert store.rows_of_ids("id", ["c", "x", "a"]) == [2, None, 0]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64", "complex64"])
def test_dtypes_and_shapes(store: cvc.Store, dtype: str) -> None:
    for shape in [(5,), (0, 3), (4, 2, 3)]:
        values = (np.arange(np.prod(shape)) % 2).astype(dtype).reshape(shape)
        store.save({"a": values})
        assert store["a"].dtype == values.dtype and np.array_equal(store["a"], values)
    with pytest.raises(ValueError):
        store.save({"a": np.float32(1)})


def test_lossy_codecs(store: cvc.Store, minilm: np.ndarray) -> None:
    before = store.get_io_stats()["disk_len"]
    store.save({"v": minilm}, codec="int8")
    assert np.abs(store["v"] - minilm).max() < 0.01
    assert store.get_io_stats()["disk_len"] - before < minilm.nbytes / 3
    store.append({"v": minilm[:10]})
    store.replace({"v": minilm[5:6]}, [0])
    assert np.abs(store["v"][0] - minilm[5]).max() < 0.01
    with pytest.raises(ValueError, match="loses something"), store.writable_batch_mode() as batch:
        batch.load("v")[0] = 0
    with pytest.raises(ValueError, match="NaN"):
        store.append({"v": np.full((1, 384), np.nan, "f4")})


@pytest.mark.parametrize("name", ["", "x/../../escaped", "/etc/passwd", "ü b", "."])
def test_names_lead_nowhere(store: cvc.Store, tmp_path: Path, name: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    try:
        store.save({name: ROWS})
    except ValueError:
        assert not store.has_array(name)
    else:
        assert np.array_equal(store[name], ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_one_writes_and_many_read(store: cvc.Store) -> None:
    with pytest.raises(BlockingIOError, match=f"process {os.getpid()}"):
        cvc.Store(store.path)
    reader = cvc.Store(store.path, mode="r")
    store.append({"x": ROWS[:1]})
    assert reader.get_shape("x") == (100, 4)
    assert reader.refresh() and reader.get_shape("x") == (101, 4) and not reader.refresh()
    with pytest.raises(ValueError, match="opened for reading"):
        reader.append({"x": ROWS})
    reader.close()
    assert store.get_shape("x") == (101, 4), "a reader that closes changes nothing"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork of POSIX")
def test_a_forked_process_cannot_spoil_it(store: cvc.Store) -> None:
    batch = store._folder.batch()
    batch.save("pending", np.zeros((5000, 8)))
    child = os.fork()
    if child == 0:
        problem = 1
        try:
            np.testing.assert_array_equal(store["x"], ROWS)
            try:
                store.append({"x": ROWS})
            except BlockingIOError as error:
                problem = 0 if "forked" in str(error) else 2
            batch.abort()
            store.close()
        finally:
            os._exit(problem)
    store.append({"x": ROWS[:1]})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.append({"x": ROWS[:1]})
    batch.abort()
    store.close()
    with cvc.Store(store.path, mode="r+") as again:
        assert again.get_shape("x") == (102, 4) and again.verify() == []


KILLED = """
import sys, numpy as np, cvc
store = cvc.Store(sys.argv[1], durability="buffered")
store.save({"x": np.zeros((0, 4), "f4")})
for number in range(100000):
    store.append({"x": np.full((3, 4), number, "f4")})
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(50):
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
    process.wait()
    with cvc.Store(tmp_path / "s", mode="r+") as store:
        rows = store["x"]
        assert len(rows) // 3 - 1 in (acknowledged, acknowledged + 1) and len(rows) % 3 == 0
        assert np.array_equal(rows[:, 0], np.repeat(np.arange(len(rows) // 3), 3))
        store.append({"x": np.full((1, 4), 777, "f4")})
        assert store["x"][-1, 0] == 777 and store.verify() == []


def test_damage_is_found_and_named(store: cvc.Store, tmp_path: Path) -> None:
    store.save({"large": np.random.default_rng(0).normal(size=(5000, 16))})
    store.close()
    files = sorted(path for path in store.path.iterdir() if path.stat().st_size > 100_000 and path.suffix == ".cvc")
    assert files
    damaged = bytearray(files[0].read_bytes())
    damaged[50_000] ^= 1
    files[0].write_bytes(damaged)
    with cvc.Store(store.path) as again:
        [(file, (start, stop), arrays, what)] = again.verify()
        assert file == files[0].name and start <= 50_000 < stop and arrays == ["large"] and what
        with pytest.raises(ValueError, match="damaged"):
            again.load("large")
        assert np.array_equal(again["x"], ROWS)
    for path in store.path.iterdir():
        if "journal" in path.name:
            path.write_bytes(b"")
    with pytest.raises((ValueError, OSError)):
        cvc.Store(store.path), "never an empty store in its place"


def test_packages(store: cvc.Store, tmp_path: Path) -> None:
    store.save({"names": [f"row {number}" for number in range(100)]})
    store.drop("x", [3, 4])
    size = store.pack(tmp_path / "s.pkg")
    assert size == (tmp_path / "s.pkg").stat().st_size
    info = cvc.Store.get_package_info(tmp_path / "s.pkg")
    assert info["arrays"]["x"]["shape"] == (98, 4) and info["arrays"]["names"]["dtype"] == "str"
    with cvc.Store.unpack(tmp_path / "s.pkg", tmp_path / "t") as other:
        for name in store:
            assert np.array_equal(other[name], store[name]) and other[name].dtype == store[name].dtype
    with pytest.raises(FileExistsError):
        store.pack(tmp_path / "s.pkg")
    (tmp_path / "bad.pkg").write_bytes((tmp_path / "s.pkg").read_bytes()[:-10])
    with pytest.raises((ValueError, OSError)):
        cvc.Store.unpack(tmp_path / "bad.pkg", tmp_path / "u")
    assert not (tmp_path / "u").exists()
