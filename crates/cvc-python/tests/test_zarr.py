"""The codec for Zarr v3 and that for numcodecs: what goes in comes out, of a chunk only what is wanted is read, and damage is found."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvc

zarr = pytest.importorskip("zarr", reason="zarr is not installed")

import numcodecs  # noqa: E402
from zarr.abc.codec import SupportsSyncCodec  # noqa: E402
from zarr.abc.store import RangeByteRequest, SuffixByteRequest  # noqa: E402
from zarr.core.buffer import default_buffer_prototype  # noqa: E402
from zarr.core.sync import sync  # noqa: E402
from zarr.codecs import ShardingCodec, TransposeCodec, ZstdCodec  # noqa: E402
from zarr.registry import get_codec_class, register_codec  # noqa: E402
from zarr.storage import LocalStore, MemoryStore, StorePath, WrapperStore, ZipStore  # noqa: E402

from cvc.numcodecs import Cvc  # noqa: E402
from cvc.zarr import _GAP, CvcCodec, _file_shape, _Part  # noqa: E402

# An installed package says so itself; a source tree has no entry points.
INSTALLED = [point.value for point in entry_points(group="zarr.codecs", name="cvc")]
if not INSTALLED:
    register_codec("cvc", CvcCodec)
    numcodecs.register_codec(Cvc)

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16", "M8[ms]", "m8[s]"]
# Shapes of arrays and of their chunks: some do not fit, some chunks begin with an axis of one, some have few rows.
SHAPES = [
    ((101,), (7,)),
    ((1,), (1,)),
    ((101, 33), (25, 33)),
    ((101, 33), (25, 10)),
    ((9, 20, 30), (1, 6, 30)),
    ((9, 20, 3), (9, 1, 3)),
    ((4, 5, 6, 7), (2, 3, 6, 2)),
]


class Counting(WrapperStore[Any]):
    """A store that fetches only what it is asked for, and notes it."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.reads: list[tuple[str, Any, int]] = []

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        await asyncio.sleep(0)  # As a network would, it lets others go on.
        value = await super().get(key, prototype, byte_range)
        if value is not None and not key.endswith("zarr.json"):
            self.reads.append((key, byte_range, len(value)))
        return value


def stores(folder: Path) -> list[Any]:
    return [MemoryStore(), LocalStore(folder / "local"), Counting(MemoryStore())]


def values_of(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(len(shape)).normal(size=shape) * 100
    if np.dtype(dtype).kind in "mMuib":
        values = values.astype("i8")
    return np.abs(values).astype(dtype) if np.dtype(dtype).kind == "u" else values.astype(dtype)


def make(store: Any, values: np.ndarray[Any, Any], chunks: tuple[int, ...], codec: CvcCodec | None = None, **more: Any) -> Any:
    """An array written and opened again, so that the codec comes from metadata."""
    more = {"serializer": codec or CvcCodec(), "compressors": None, "name": "values", "overwrite": True} | more
    zarr.create_array(store, data=values, chunks=chunks, **more)
    return zarr.open_array(store, path=more["name"], mode="r+")


def inner(store: Any) -> Any:
    return store._store if isinstance(store, Counting) else store


def stored(store: Any, key: str = "values/c/0/0") -> bytes:
    """The value of a chunk, which nobody counts."""
    return sync(inner(store).get(key, default_buffer_prototype())).to_bytes()


def put(store: Any, value: bytes | bytearray, key: str = "values/c/0/0") -> None:
    sync(inner(store).set(key, default_buffer_prototype().buffer.from_bytes(bytes(value))))


def check(array: Any, values: np.ndarray[Any, Any]) -> None:
    """Compares what every way of indexing gives with what NumPy gives."""
    rng = np.random.default_rng(0)
    assert array.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(array[...], values)
    rows = rng.integers(0, len(values), 20)
    np.testing.assert_array_equal(array[int(rows[0])], values[rows[0]])
    np.testing.assert_array_equal(array[1:-1], values[1:-1])
    np.testing.assert_array_equal(array[::3], values[::3])
    np.testing.assert_array_equal(array[..., 0], values[..., 0])
    np.testing.assert_array_equal(array.oindex[rows], values[rows])
    np.testing.assert_array_equal(array.oindex[np.sort(rows)], values[np.sort(rows)])
    mask = rng.random(values.shape) < 0.3
    np.testing.assert_array_equal(array.vindex[mask], values[mask])
    if values.ndim > 1:
        columns = rng.integers(0, values.shape[1], 7)
        np.testing.assert_array_equal(array.oindex[rows, columns], values[rows][:, columns])
        np.testing.assert_array_equal(array.oindex[rows, 0], values[rows, 0])
        np.testing.assert_array_equal(array.oindex[2:5, columns], values[2:5][:, columns])
        np.testing.assert_array_equal(array[1:3, 1:2], values[1:3, 1:2])
        points = tuple(rng.integers(0, length, 15) for length in values.shape)
        np.testing.assert_array_equal(array.vindex[points], values[points])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back(dtype: str, tmp_path: Path) -> None:
    for shape, chunks in SHAPES[2:5:2]:
        values = values_of(dtype, shape)
        for store in stores(tmp_path):
            check(make(store, values, chunks), values)


@pytest.mark.parametrize(("shape", "chunks"), SHAPES)
@pytest.mark.parametrize("sharded", [False, True])
def test_every_shape_comes_back(shape: tuple[int, ...], chunks: tuple[int, ...], sharded: bool, tmp_path: Path) -> None:
    shards = tuple(2 * length for length in chunks) if sharded else None
    values = values_of("f4", shape)
    for store in [*stores(tmp_path), ZipStore(tmp_path / "values.zip", mode="w")]:
        check(make(store, values, chunks, shards=shards, overwrite=False), values)


def test_axes_that_count_rows() -> None:
    shapes = {
        (): (1,),
        (7,): (7,),
        (1, 768): (1, 768),
        (5, 768): (5, 768),
        (1, 64, 100): (64, 100),
        (3, 1, 100): (3, 1, 100),
        # A row of 8 MiB is cut, one of 2 MiB whose axis is the last is not.
        (4, 2048, 1024): (8192, 1024),
        (4, 1 << 19): (4, 1 << 19),
        (2, 1, 2, 1, 2, 1, 2, 1, 2, 3): (2, 1, 2, 1, 2, 1, 2, 6),
        (0, 3): (0, 3),
    }
    assert {shape: _file_shape(shape, 4) for shape in shapes} == shapes


def test_values_of_every_byte_order_and_memory_order_come_back() -> None:
    values = values_of("f4", (101, 33))
    for given in (values.astype(">f4"), np.asfortranarray(values), values[::-1], values.T.copy().T):
        check(make(MemoryStore(), given, (25, 10)), np.asarray(given).astype("f4"))
    with zarr.config.set({"array.order": "F"}):
        check(make(MemoryStore(), values, (25, 10)), values)


def test_single_values_and_arrays_without_any_come_back() -> None:
    array = zarr.create_array(MemoryStore(), shape=(), dtype="f8", serializer=CvcCodec(), compressors=None)
    array[...] = 2.5
    assert array[()] == 2.5
    for shape, chunks in (((0, 5), (10, 5)), ((0,), (0,)), ((3, 0), (3, 0))):
        array = zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, dtype="f4", serializer=CvcCodec(), compressors=None)
        array[...] = 7
        assert array[...].shape == shape
    array = zarr.create_array(MemoryStore(), shape=(0, 5), chunks=(10, 5), dtype="f4", serializer=CvcCodec(), compressors=None)
    array.append(np.ones((13, 5), "f4"))
    assert array.shape == (13, 5) and (array[...] == 1).all()


@pytest.mark.parametrize("fill_value", [0, 7.5, np.nan, -np.inf])
@pytest.mark.parametrize("shards", [None, (50, 32)])
def test_what_was_not_written_has_the_fill_value(fill_value: float, shards: tuple[int, ...] | None) -> None:
    for store in (MemoryStore(), Counting(MemoryStore())):
        array = zarr.create_array(
            store, shape=(200, 40), chunks=(25, 16), shards=shards, dtype="f4", fill_value=fill_value, serializer=CvcCodec(), compressors=None
        )
        wanted = np.full((200, 40), fill_value, "f4")
        array[30:33, 5:21] = wanted[30:33, 5:21] = 3
        array[60] = wanted[60] = 4
        np.testing.assert_array_equal(array[...], wanted)
        np.testing.assert_array_equal(array[29:34, 4:6], wanted[29:34, 4:6])
        np.testing.assert_array_equal(array.oindex[[199, 31, 60], [0, 20]], wanted[[199, 31, 60]][:, [0, 20]])
        assert sum("/" in key for key in inner(store)._store_dict) == (3 if shards else 5)


def test_special_floats_keep_their_bits() -> None:
    values = np.array([[0.0, -0.0, np.nan, np.inf], [-np.inf, 1e-45, -np.nan, 3.4e38]], "f4")
    values.view("u4")[1, 2] = 0x7FA00001  # A signalling NaN.
    array = make(MemoryStore(), values, (2, 4))
    assert (array[...].view("u4") == values.view("u4")).all()


@pytest.mark.parametrize("codec", ["fp16", "bf16", "int8", "int4", "bit1"])
def test_codecs_that_lose_some_lose_what_their_files_say(codec: str, minilm: np.ndarray[Any, Any]) -> None:
    for dtype in ("f4", "f8", "f2"):
        values = minilm.astype(dtype)
        store = MemoryStore()
        array = make(store, values, (1000, 384), CvcCodec(codec))
        for number in range(2):
            rows = slice(1000 * number, 1000 * number + 1000)
            packed = stored(store, f"values/c/{number}/0")
            loss = cvc.open(packed)["values"].loss
            found = np.abs(array[rows].astype("f8") - values[rows].astype("f8")).max()
            # What is rounded once more, to halves, may be half a step of those farther away.
            assert found <= loss["max_abs_error"] + (2.0**-12 if dtype == "f2" else 0), (codec, dtype)
            assert array.dtype == dtype
        part = array.oindex[[3, 1999, 700]]
        assert np.array_equal(part, array[...][[3, 1999, 700]])


def test_options_reach_the_file(minilm: np.ndarray[Any, Any]) -> None:
    store = MemoryStore()
    codec = CvcCodec("int8", block_rows=10, chunk_rows=500, scope="dim")
    array = make(store, minilm[:1000], (1000, 384), codec)
    packed = cvc.open(stored(store))["values"]
    assert (packed.codec, packed.codec_options["scope"], len(packed.chunks)) == ("int8", "dim", 2)
    assert array.metadata.codecs == (codec,)
    unbounded = minilm[:10].copy()
    for name, value in (("int8", np.inf), ("fp16", 1e6)):
        unbounded[3, 5] = value
        with pytest.raises(cvc.EncodeError, match="row 3"):
            make(MemoryStore(), unbounded, (10, 384), CvcCodec(name))
        saturated = make(MemoryStore(), unbounded, (10, 384), CvcCodec(name, nonfinite="saturate"))[...]
        assert np.isfinite(saturated).all() and saturated[3, 5] == saturated.max()


def test_metadata_says_what_was_asked_for_and_reopens(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    group = zarr.create_group(store)
    values = values_of("f4", (101, 33))
    codecs = {"plain": CvcCodec(), "int8": CvcCodec("int8", block_rows=16), "bare": {"name": "cvc"}, "dict": {"name": "cvc", "configuration": {"codec": "fp16"}}}
    for name, serializer in codecs.items():
        shards = (50, 33) if name == "int8" else None
        group.create_array(name, data=values, chunks=(25, 33), shards=shards, serializer=serializer, compressors=None)
    said = {name: json.loads((tmp_path / name / "zarr.json").read_text())["codecs"] for name in codecs}
    assert said["plain"] == [{"name": "cvc", "configuration": {}}] == said["bare"]
    assert said["int8"][0]["configuration"]["codecs"] == [{"name": "cvc", "configuration": {"codec": "int8", "block_rows": 16}}]
    assert said["dict"] == [{"name": "cvc", "configuration": {"codec": "fp16"}}]
    zarr.consolidate_metadata(store)
    for opened in (zarr.open_group(store, mode="r"), zarr.open_consolidated(store)):
        assert np.array_equal(opened["plain"][...], values) and np.array_equal(opened["bare"][...], values)
        assert opened["plain"].metadata.codecs == (CvcCodec(),)
        assert np.allclose(opened["int8"][...], values, atol=1.5) and np.allclose(opened["dict"][...], values, atol=0.2)


def test_the_codec_is_a_value() -> None:
    codec = CvcCodec("int8", scope="dim")
    assert CvcCodec.from_dict(codec.to_dict()) == codec == pickle.loads(pickle.dumps(codec)) and hash(codec) == hash(CvcCodec("int8", scope="dim"))
    assert get_codec_class("cvc") is CvcCodec and isinstance(codec, SupportsSyncCodec)
    with pytest.raises(NotImplementedError):
        codec.compute_encoded_size(100, None)


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [
        ({"codec": "int9"}, "int9"),
        ({"block_rows": 0}, "block_rows"),
        ({"block_rows": "many"}, "block_rows"),
        ({"chunk_rows": True}, "chunk_rows"),
        ({"scope": "column"}, "row, dim, chunk"),
        ({"nonfinite": "ignore"}, "saturate"),
        ({"level": 3}, "level"),
        ([1], "object"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(configuration: Any, problem: str) -> None:
    with pytest.raises(cvc.ArgumentError, match=problem):
        CvcCodec.from_dict({"name": "cvc", "configuration": configuration})
    with pytest.raises(cvc.ArgumentError, match="zstd"):
        CvcCodec.from_dict({"name": "zstd"})


@pytest.mark.parametrize("sharded", [False, True])
def test_what_no_file_can_hold_is_refused(sharded: bool) -> None:
    def create(dtype: str, codec: CvcCodec, chunks: tuple[int, ...] = (10, 8)) -> None:
        store = MemoryStore()
        shape = tuple(2 * length for length in chunks)
        shards = shape if sharded else None
        try:
            array = zarr.create_array(store, shape=shape, chunks=chunks, shards=shards, dtype=dtype, serializer=codec, compressors=None)
            array[0, 0] = 1
        finally:
            # A shard does not ask its inner codec about the shape of chunks before there is one.
            assert len(store._store_dict) <= sharded

    with pytest.raises(cvc.ArgumentError, match="S5"):
        create("S5", CvcCodec())
    with pytest.raises(cvc.ArgumentError, match="floats, not for int32"):
        create("i4", CvcCodec("lossless"))
    with pytest.raises(cvc.ArgumentError, match="rows of 40000000 bytes"):
        create("f4", CvcCodec(), (1, 10_000_000))


def test_importing_cvc_imports_neither_zarr_nor_numcodecs() -> None:
    program = "import cvc, sys; sys.exit(sum(name.split('.')[0] in ('zarr', 'numcodecs') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_installed_package_registers_both_codecs() -> None:
    if not INSTALLED:
        pytest.skip("cvc is not installed: a source tree has no entry points")
    assert INSTALLED == ["cvc.zarr:CvcCodec"]
    [point] = entry_points(group="numcodecs.codecs", name="cvc")
    assert point.load() is Cvc


# Parts of chunks.


@pytest.fixture
def counted(minilm: np.ndarray[Any, Any]) -> tuple[Any, Counting, np.ndarray[Any, Any]]:
    """One chunk of 4,096 rows in a store that counts."""
    values = np.concatenate([minilm, minilm + 1, minilm[:96]])
    store = Counting(MemoryStore())
    array = make(store, values, (4096, 384))
    store.reads.clear()
    return array, store, values


def ranges_of(store: Counting, file_len: int) -> list[tuple[int, int]]:
    """What was fetched, as ranges in the order asked for."""
    ranges = []
    for _, asked, length in store.reads:
        start = asked.start if isinstance(asked, RangeByteRequest) else file_len - length if isinstance(asked, SuffixByteRequest) else 0
        ranges.append((start, start + length))
    return ranges


def test_ten_rows_cost_their_blocks_and_what_it_takes_to_find_them(counted: tuple[Any, Counting, np.ndarray[Any, Any]]) -> None:
    array, store, values = counted
    assert np.array_equal(array[1000:1010], values[1000:1010])
    packed = stored(store)
    file = cvc.open(packed)["values"]
    needed = file.byte_ranges(slice(1000, 1010))
    fetched = ranges_of(store, len(packed))
    # The beginning and the end of the file, then the head of the chunk within, then one range of each of its two parts.
    assert fetched[:2] == [(0, 64), (len(packed) - (64 << 10), len(packed))]
    assert len(fetched) == 2 + 1 + 2
    assert sorted(needed) == sorted([(fetched[2][0], fetched[2][1]), *fetched[3:]]) or _same_bytes(needed, fetched[2:])
    read = sum(stop - start for start, stop in fetched)
    blocks = sum(stop - start for start, stop in fetched[3:])
    # Of 4,096 rows these are 16 at most, as blocks here have some 11.
    assert blocks < 2.5 * 16 * 384 * 4 and read < len(packed) / 25, (blocks, read, len(packed))


def _same_bytes(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> bool:
    def flat(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(ranges):
            if joined and start == joined[-1][1]:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((start, stop))
        return joined

    return flat(one) == flat(other)


def test_only_blocks_that_are_wanted_are_decoded(counted: tuple[Any, Counting, np.ndarray[Any, Any]]) -> None:
    """Everything but what ten rows need is destroyed, and they come all the same."""
    array, store, values = counted
    packed = bytearray(stored(store))
    file = cvc.open(bytes(packed))["values"]
    needed = [*file.byte_ranges(slice(1000, 1010)), (0, 64), (len(packed) - 1000, len(packed))]
    keep = np.zeros(len(packed), bool)
    for start, stop in needed:
        keep[start:stop] = True
    ruined = np.frombuffer(packed, "u1").copy()
    ruined[~keep] ^= 0xFF
    put(store, ruined.tobytes())
    assert np.array_equal(array[1000:1010], values[1000:1010])
    assert np.array_equal(zarr.open_array(store._store, path="values")[1000:1010], values[1000:1010])
    with pytest.raises(cvc.CorruptedChunkError):
        array[980:990]
    with pytest.raises(cvc.CvcError):
        array[...]


def test_a_local_file_is_read_by_position(minilm: np.ndarray[Any, Any], tmp_path: Path) -> None:
    array = make(LocalStore(tmp_path), minilm, (2000, 384))
    path = tmp_path / "values/c/0/0"
    packed = path.read_bytes()
    keep = [*cvc.open(packed)["values"].byte_ranges(slice(500, 510)), (0, 64), (len(packed) - 1000, len(packed))]
    ruined = bytearray(b"\xff" * len(packed))
    for start, stop in keep:
        ruined[start:stop] = packed[start:stop]
    path.write_bytes(ruined)
    assert np.array_equal(array[500:510], minilm[500:510])
    with pytest.raises(cvc.CorruptedChunkError):
        array[520:530]
    path.unlink()
    assert (array[520:530] == 0).all()


def test_many_rows_take_few_requests(counted: tuple[Any, Counting, np.ndarray[Any, Any]]) -> None:
    array, store, values = counted
    rows = np.random.default_rng(1).integers(0, 4096, 50)
    assert np.array_equal(array.oindex[rows], values[rows])
    packed = stored(store)
    fetched = ranges_of(store, len(packed))
    # Those with small gaps are one, and no byte comes twice.
    blocks = sorted(fetched[3:])
    assert all(after[0] - before[1] > _GAP for before, after in zip(blocks, blocks[1:]))
    assert len(fetched) < 3 + 2 * 50 and sum(stop - start for start, stop in fetched) <= len(packed)


def test_a_chunk_that_is_wanted_whole_is_one_request(counted: tuple[Any, Counting, np.ndarray[Any, Any]]) -> None:
    array, store, values = counted
    assert np.array_equal(array[...], values)
    assert [asked for _, asked, _ in store.reads] == [None]
    store.reads.clear()
    small = make(store, values[:10], (10, 384), name="small")
    store.reads.clear()
    assert np.array_equal(small[3:5], values[3:5]) and len(store.reads) == 1


def test_a_long_index_takes_one_request_more() -> None:
    values = np.random.default_rng(0).normal(size=(40_000, 16)).astype("f4")
    store = Counting(MemoryStore())
    # 4,000 chunks within have 192,000 bytes in the index.
    array = make(store, values, values.shape, CvcCodec("raw", chunk_rows=10))
    store.reads.clear()
    assert np.array_equal(array[7:9], values[7:9])
    assert len(store.reads) == 2 + 1 + 1 + 1
    assert np.array_equal(array.oindex[[39_999, 0, 20_000]], values[[39_999, 0, 20_000]])


def test_filters_and_compressors_turn_partial_reads_off(minilm: np.ndarray[Any, Any]) -> None:
    for more in ({"compressors": ZstdCodec()}, {"filters": [TransposeCodec(order=(1, 0))]}):
        store = Counting(MemoryStore())
        array = make(store, minilm, (2000, 384), **more)
        store.reads.clear()
        assert np.array_equal(array[5:9], minilm[5:9])
        assert [asked for _, asked, _ in store.reads] == [None]


def test_inner_chunks_of_shards_are_decoded_in_part(minilm: np.ndarray[Any, Any]) -> None:
    """A shard fetches inner chunks whole; blocks of them that nobody wants are not decoded."""
    for at in ("start", "end"):
        store = Counting(MemoryStore())
        shards = {"shape": (2000, 384), "index_location": at}
        array = make(store, minilm, (1000, 384), shards=shards)
        store.reads.clear()
        assert np.array_equal(array[1300:1310], minilm[1300:1310])
        assert len(store.reads) == 2  # The index of the shard, and one inner chunk.
        chunk = store.reads[1][1]
        shard = bytearray(stored(store))
        inner = bytes(shard[chunk.start : chunk.end])
        ruined = bytearray(b"\xff" * len(inner))
        for start, stop in [*cvc.open(inner)["values"].byte_ranges(slice(300, 310)), (0, 64), (len(inner) - 1000, len(inner))]:
            ruined[start:stop] = inner[start:stop]
        shard[chunk.start : chunk.end] = ruined
        put(store, shard)
        assert np.array_equal(array[1300:1310], minilm[1300:1310])
        with pytest.raises(cvc.CorruptedChunkError):
            array[1500:1510]


def test_nested_shards() -> None:
    values = values_of("f4", (64, 64))
    inner = ShardingCodec(chunk_shape=(16, 16), codecs=[CvcCodec()])
    array = make(MemoryStore(), values, (64, 64), ShardingCodec(chunk_shape=(32, 32), codecs=[inner]))
    check(array, values)


def test_many_reads_at_once_neither_wait_for_each_other_nor_mix(minilm: np.ndarray[Any, Any]) -> None:
    store = Counting(MemoryStore())
    array = make(store, minilm, (500, 384))

    def read(seed: int) -> bool:
        rows = np.random.default_rng(seed).integers(0, 2000, 30)
        return np.array_equal(array.oindex[rows], minilm[rows])

    with zarr.config.set({"async.concurrency": 1}):
        assert read(0)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(40)))

    async def together() -> list[Any]:
        opened = await zarr.api.asynchronous.open_array(store=store, path="values")
        return await asyncio.gather(*(opened.getitem(slice(first, first + 3)) for first in range(0, 2000, 40)))

    for number, part in enumerate(asyncio.run(together())):
        assert np.array_equal(part, minilm[40 * number : 40 * number + 3])


# Damage.


@pytest.mark.parametrize("codec", [None, "int8", "fp16", "zstd"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_flipped_bit_anywhere_is_an_error(codec: str | None, sharded: bool, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 32)).astype("f4")
    shards = (300, 32) if sharded else None
    for store in (MemoryStore(), LocalStore(tmp_path), Counting(MemoryStore())):
        array = make(store, values, (300, 32), CvcCodec(codec, block_rows=16), shards=shards)
        whole = array[...]
        kept = stored(store)
        # Every block, some more than once. Behind an inner chunk is the index of the shard, which has a checksum of its own.
        for at in range(0, len(kept), 211):
            damaged = bytearray(kept)
            damaged[at] ^= 1 << at % 8
            put(store, damaged)
            with pytest.raises((cvc.CvcError, ValueError)) as caught:
                array[...]
            assert isinstance(caught.value, cvc.CvcError) or (sharded and at > len(kept) - 30)
        put(store, kept)
        assert np.array_equal(array[...], whole)


def test_every_block_is_checked_when_it_is_read_alone(counted: tuple[Any, Counting, np.ndarray[Any, Any]]) -> None:
    array, store, values = counted
    packed = stored(store)
    file = cvc.open(packed)["values"]
    heads = {file.byte_ranges(slice(chunk.start, chunk.start + 1))[0][0] for chunk in file.chunks}
    assert len(heads) == len(file.chunks)
    for row in range(0, 4096, 100):
        start, stop = file.byte_ranges(slice(row, row + 1))[-1]
        damaged = bytearray(packed)
        damaged[stop - 1 if stop - start < 64 else (start + stop) // 2] ^= 4
        put(store, damaged)
        with pytest.raises(cvc.CorruptedChunkError):
            array[row]


@pytest.mark.parametrize("cut", [0, 1, 39, 40, 100, 70_000, -1, -100])
def test_a_chunk_that_was_cut_is_an_error(cut: int, minilm: np.ndarray[Any, Any], tmp_path: Path) -> None:
    for store in (MemoryStore(), Counting(MemoryStore())):
        array = make(store, minilm, (2000, 384))
        put(store, stored(store)[:cut])
        for wanted in (slice(None), slice(3, 5)):
            with pytest.raises(cvc.FormatError):
                array[wanted]


def test_a_chunk_of_something_else_is_an_error(minilm: np.ndarray[Any, Any]) -> None:
    others = {
        "no array": cvc.pack({"vectors": minilm}),
        "float32 values of shape (1999, 384)": cvc.pack({"values": minilm[:1999]}, codec="raw"),
        "float64": cvc.pack({"values": minilm.astype("f8")}, codec="raw"),
        "not": b"no file" * 100_000,
    }
    for problem, packed in others.items():
        for store in (MemoryStore(), Counting(MemoryStore())):
            array = make(store, minilm, (2000, 384))
            put(store, packed)
            for wanted in (slice(None), slice(3, 5)):
                with pytest.raises(cvc.FormatError) as caught:
                    array[wanted]
                assert problem in str(caught.value) or problem == "not"


def test_a_store_that_fails_or_changes_meanwhile_is_an_error(minilm: np.ndarray[Any, Any]) -> None:
    class Failing(Counting):
        after = 2

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            value = await super().get(key, prototype, byte_range)
            if not key.endswith("zarr.json") and len(self.reads) > self.after:
                return self.answer(value)
            return value

        def answer(self, value: Any) -> Any:
            raise ConnectionResetError("the line is dead")

    class Forgetting(Failing):
        def answer(self, value: Any) -> Any:
            return None

    class Short(Failing):
        def answer(self, value: Any) -> Any:
            return value[: len(value) // 2]

    kinds: list[tuple[type[Failing], type[Exception]]] = [(Failing, ConnectionResetError), (Forgetting, cvc.SourceError), (Short, cvc.SourceError)]
    for kind, error in kinds:
        store = kind(MemoryStore())
        array = make(store, minilm, (2000, 384))
        store.reads.clear()
        with pytest.raises(error):
            array[3:5]


def test_parts_that_zarr_does_not_ask_for_are_right_too() -> None:
    """A slice beside an array, an ellipsis, missing axes: whatever NumPy takes."""
    from zarr.core.array_spec import ArrayConfig, ArraySpec
    from zarr.core.dtype import get_data_type_from_native_dtype

    values = values_of("f4", (20, 6, 5))
    dtype = get_data_type_from_native_dtype(values.dtype)
    spec = ArraySpec(values.shape, dtype, dtype.cast_scalar(0), ArrayConfig("C", True), default_buffer_prototype())
    file = cvc.open(cvc.pack({"values": values}, codec="lossless"))["values"]
    rows = np.array([3, 3, 19])
    for selection in ((rows, slice(1, 3)), (..., 2), (rows,), 4, (slice(None), rows % 6, slice(None)), (), rows):
        part = _Part(selection, values.shape)
        assert np.array_equal(part.read(file, spec).as_numpy_array(), values[selection])


# numcodecs, and Zarr v2.


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [*DTYPES, ">f4", ">i2", ">c8", ">M8[ns]", "S5", "U3", "V6"])
def test_numcodecs_keeps_chunks_of_zarr_v2(dtype: str, order: str, tmp_path: Path) -> None:
    for shape, chunks in (((101,), (7,)), ((31, 13), (10, 5)), ((4, 5, 6, 7), (2, 3, 6, 2))):
        values = np.random.default_rng(0).bytes(6 * math.prod(shape)) if dtype == "V6" else values_of(dtype, shape)
        values = np.frombuffer(values, "V6").reshape(shape) if dtype == "V6" else values
        store = LocalStore(tmp_path / str(len(shape)))
        zarr.create_array(store, data=values, chunks=chunks, order=order, zarr_format=2, compressors=Cvc(), filters=None)
        array = zarr.open_array(store, zarr_format=2)
        assert array.metadata.compressor == Cvc() and array.dtype == values.dtype
        assert np.array_equal(array[...], values) and np.array_equal(array[1:3], values[1:3])
        chunk = cvc.open(next(path for path in (tmp_path / str(len(shape))).iterdir() if not path.name.startswith(".")))
        assert chunk.verify() == []


def test_numcodecs_takes_any_buffer_and_gives_it_back() -> None:
    codec = numcodecs.get_codec({"id": "cvc"})
    for buffer in (b"some bytes", bytearray(b"others"), memoryview(b"abc"), np.arange(5), np.float32(3)):
        decoded = codec.decode(codec.encode(buffer))
        assert np.asarray(decoded).tobytes() == np.asarray(buffer).tobytes() or bytes(decoded) == bytes(buffer)
    values = np.random.default_rng(0).normal(size=(50, 8)).astype("f4")
    encoded = codec.encode(values)
    out = np.empty_like(values)
    codec.decode(np.frombuffer(encoded, "u1"), out=out)
    assert np.array_equal(out, values)
    with pytest.raises(cvc.ArgumentError, match="objects"):
        codec.encode(np.array(["a", None], dtype=object))


def test_numcodecs_options_and_damage() -> None:
    codec = numcodecs.get_codec({"id": "cvc", "codec": "int8", "scope": "dim"})
    assert codec == Cvc("int8", scope="dim") and numcodecs.get_codec(codec.get_config()) == codec == pickle.loads(pickle.dumps(codec))
    for dtype in ("f4", "f8", ">f4"):
        values = np.random.default_rng(0).normal(size=(50, 8)).astype(dtype)
        encoded = codec.encode(values)
        decoded = codec.decode(encoded)
        assert decoded.dtype == values.dtype
        assert np.abs(decoded - values).max() <= cvc.open(encoded)["values"].loss["max_abs_error"]
    for at in range(0, len(encoded), 31):
        damaged = bytearray(encoded)
        damaged[at] ^= 8
        with pytest.raises(cvc.CvcError):
            codec.decode(bytes(damaged))
    with pytest.raises(cvc.FormatError, match="numcodecs"):
        codec.decode(cvc.pack(values))
