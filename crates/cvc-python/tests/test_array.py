"""Rows of arrays, by everything that NumPy takes between brackets."""

from __future__ import annotations

import numpy as np
import pytest

import cvc


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(1000, 24)).astype("f4")


@pytest.fixture(scope="module")
def array(values: np.ndarray) -> cvc.Array:
    return cvc.open(cvc.pack(values, codec="raw", chunk_rows=128)).vectors


KEYS = [
    0,
    -1,
    999,
    np.int64(5),
    np.uint8(200),
    slice(None),
    slice(10, 20),
    slice(-5, None),
    slice(500, 100),
    slice(990, 2000),
    slice(None, None, -1),
    slice(3, 900, 7),
    slice(900, 3, -131),
    slice(-(2**70), 2**70),
    slice(np.int64(3), np.uint8(9)),
    [],
    [5],
    [3, 1, 2, 2, -1],
    np.array([0, 999, 500]),
    np.array([], dtype=int),
    np.arange(1000) % 3 == 0,
    [True] * 1000,
    ...,
    (slice(5, 9), slice(None, 8)),
    (3, slice(None, 8)),
    ([4, 2], 7),
    (slice(2, 4), slice(4, None, 3)),
    (slice(2, 5), [1, 2, 3]),
    (6, 6),
    (slice(None), slice(None, -1)),
    (slice(0, 2), slice(0, 0)),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:40])
def test_keys_pick_what_they_pick_of_numpy(array: cvc.Array, values: np.ndarray, key: object) -> None:
    expected = values[key]
    got = array[key]
    assert got.dtype == expected.dtype and np.array_equal(got, expected)


def test_two_lists_are_rows_and_then_dims(array: cvc.Array, values: np.ndarray) -> None:
    """Not pairs of a row and a dim, as NumPy would have it: rows are picked first."""
    assert np.array_equal(array[[1, 2], [3, 4]], values[[1, 2]][:, [3, 4]])


@pytest.mark.parametrize("key", [1000, -1001, 2**70, [0, 1000], [-1001]], ids=repr)
def test_rows_out_of_range_are_an_index_error(array: cvc.Array, key: object) -> None:
    with pytest.raises(IndexError, match="1000 rows|out of range"):
        array[key]


def test_a_mask_of_another_length_is_an_index_error(array: cvc.Array) -> None:
    with pytest.raises(IndexError, match="3 values.*1000 rows"):
        array[[True, False, True]]


@pytest.mark.parametrize("key", [None, "vectors", 1.5, True, [1.5], [[1, 2]], {}], ids=repr)
def test_other_keys_are_a_type_error(array: cvc.Array, key: object) -> None:
    with pytest.raises(TypeError, match="rows are chosen by"):
        array[key]


@pytest.mark.parametrize("key", [(..., 2), (..., 1, 2), (..., slice(1)), (slice(4), ..., 0), (3, ..., 1), (...,)], ids=repr)
def test_ellipses_stand_for_any_number_of_axes(key: tuple[object, ...]) -> None:
    values = np.arange(10 * 3 * 3, dtype="f4").reshape(10, 3, 3)
    assert np.array_equal(cvc.open(cvc.pack(values, codec="raw")).vectors[key], values[key])


def test_options_that_cannot_be_honoured_are_refused(array: cvc.Array) -> None:
    for options in (
        {"on_damage": "fill", "backend": "no such"},
        {"on_damage": "fill", "dims": 3},
        {"on_damage": "ignore"},
        {"backend": "no such"},
    ):
        with pytest.raises(cvc.ArgumentError):
            array.read(**options)
    for options in ({}, {"on_damage": "fill"}, {"on_damage": "skip"}, {"rows": []}):
        seen: list[tuple[int, int]] = []
        array.read(progress=lambda *said: seen.append(said), **options)
        assert len(seen) == 1 and seen[0][0] == seen[0][1]


def test_reading_into_memory_of_the_caller(array: cvc.Array, values: np.ndarray) -> None:
    out = np.full((20, 24), 7, "f4")
    assert array.read(slice(10, 30), out=out) is out
    assert np.array_equal(out, values[10:30])
    half = np.empty((1000, 24), "f2")
    array.read(out=half)
    assert np.array_equal(half, values.astype("f2"))
    large = np.zeros((40, 24), "f4")
    array.read(slice(0, 20), out=large[20:])
    assert np.array_equal(large[20:], values[:20]) and not large[:20].any()
    read_only = np.zeros((20, 24), "f4")
    read_only.flags.writeable = False
    for bad, problem in [
        (np.empty((19, 24), "f4"), "shape"),
        (np.empty((20, 24), ">f4"), "dtype"),
        (np.empty((24, 20), "f4").T, "contiguous"),
        (read_only, "read-only"),
    ]:
        with pytest.raises((ValueError, BufferError), match=problem):
            array.read(slice(0, 20), out=bad)
    with pytest.raises(ValueError):
        array.read(slice(0, 20), out=np.empty((20, 24), "i8"))
    with pytest.raises(TypeError, match="ndarray"):
        array.read(slice(0, 20), out=bytearray(20 * 24 * 4))


def test_the_first_dims_alone(array: cvc.Array, values: np.ndarray) -> None:
    assert np.array_equal(array.read([5, 6], dims=10), values[[5, 6], :10])
    with pytest.raises(ValueError, match="24 values"):
        array.read(dims=25)


def test_numpy_reads_it_by_its_protocol(array: cvc.Array, values: np.ndarray) -> None:
    assert np.array_equal(np.asarray(array), values)
    assert np.asarray(array, dtype="f2").dtype == np.float16
    assert np.array_equal(np.asarray(array, dtype="f8"), values.astype("f8"))
    assert np.array_equal(np.array(array, copy=True), values)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        with pytest.raises(ValueError, match="encoded"):
            np.array(array, copy=False)
    assert np.array_equal(np.stack(list(array)), values)
    assert np.allclose(np.linalg.norm(array, axis=1), np.linalg.norm(values, axis=1))


ALL = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", [*ALL, "complex64", "complex128", "bool"])
def test_every_dtype_comes_back(dtype: str) -> None:
    values = (np.random.default_rng(1).integers(0, 100, (50, 3)) % 97).astype(dtype)
    for codec in ("raw", "zstd", *(["lossless"] if values.dtype.kind == "f" else [])):
        array = cvc.open(cvc.pack(values, codec=codec)).vectors
        assert array.dtype == dtype and array.stored_dtype == dtype
        assert np.array_equal(array[:], values) and np.array_equal(array[7], values[7])


def test_bfloat16_is_that_of_ml_dtypes(values: np.ndarray) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes has NumPy's bfloat16")
    array = cvc.open(cvc.pack(values, codec="bf16")).vectors
    assert array.dtype == np.float32
    assert np.array_equal(array[:], values.astype(ml_dtypes.bfloat16).astype("f4"))
    half = array.read(slice(0, 9), dtype="bfloat16")
    assert half.dtype == ml_dtypes.bfloat16 and np.array_equal(half, values[:9].astype(ml_dtypes.bfloat16))
    raw = cvc.open(cvc.pack(values.astype(ml_dtypes.bfloat16), codec="raw")).vectors
    assert raw.dtype == ml_dtypes.bfloat16 and np.array_equal(raw[:], values.astype(ml_dtypes.bfloat16))


def test_dtypes_that_cannot_be_had_are_refused(array: cvc.Array) -> None:
    with pytest.raises(ValueError, match="i64|int64"):
        array.read(dtype="int64")
    with pytest.raises(TypeError):
        array.read(dtype="no such dtype")
    with pytest.raises(TypeError, match="datetime64"):
        cvc.pack(np.zeros(3, "M8[s]"))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (7,), (3, 2, 4), (1, 1, 1, 1)], ids=repr)
def test_every_shape_comes_back(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    array = cvc.open(cvc.pack(values, codec="raw")).vectors
    assert array.shape == shape and np.array_equal(array[:], values)
    if shape[0]:
        assert np.array_equal(array[-1], values[-1])


def test_strings(names: list[str]) -> None:
    texts = ["", "a", "ü" * 1000, "line\nbreak", "\0", *names]
    for given in (texts, np.array(texts, dtype=object), np.array(["x", "yz"])):
        array = cvc.open(cvc.pack({"t": given})).arrays["t"]
        assert array[:].tolist() == list(given)
        assert array[1] == given[1] and isinstance(array[1], str)
    with pytest.raises(TypeError, match="strings"):
        array.read(dtype="f4")
    with pytest.raises(TypeError, match="row 1 is a int"):
        cvc.pack(["a", 1])


def test_progress_is_told(array: cvc.Array) -> None:
    seen: list[tuple[int, int]] = []
    array.read(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1000, 1000)


def test_other_backends_give_the_same_bits(packed: bytes) -> None:
    if not any(device["backend"] == "wgpu" and device["available"] for device in cvc.devices()):
        pytest.skip("there is no adapter for wgpu, in hardware or in software")
    array = cvc.open(packed).vectors
    assert np.array_equal(array.read(backend="wgpu"), array.read(backend="cpu"))
