"""The functions of `decompressed` where upstream and its documents disagree, or are wrong: one test for each row of the
list of its bugs, named after the row.

The list is that of the format notes: 6.1 for what 0.1.0 and 2.1.1 share, 6.2 for 2.x, 6.3 for errors.
"""

import contextlib
import importlib
import inspect
import json
import os
import pkgutil
import sys
import tomllib
import types
import typing
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvc
import cvc._decompressed
from cvc._decompressed import backends, frames, load, pack

PACKAGE = Path(__file__).parents[1]
GOLDEN = PACKAGE.parent / "cvc-conformance" / "data" / "golden" / "decompressed"

ROWS_6_1 = range(1, 17)
ROWS_6_2 = (
    "mmap corruption",
    "mmap gaps",
    "none columns",
    "column edits: dtypes",
    "column edits: no drift",
    "column edits: sections and chunks",
    "column edits: other disks",
    "on_corruption typo",
    "unknown names in compressions",
    "validate: columnar files",
    "validate: cut after the header",
    "range and chunked on v0",
    "upgrade of columnar files",
    "MMapCVCLoader: v0, lossless, views",
    "version-sniff window",
    "__version__",
    "backward compatible",
    "num_chunks in the header",
    "modify without repacking",
)
ROWS_6_3 = (
    "empty",
    "3 bytes",
    "bad magic",
    "4-7 bytes",
    "cut in header",
    "cut right after header",
    "cut in chunk 0's length",
    "cut in payload",
    "payload bit flip",
    "header min/scale altered",
    "trailing bytes",
    "header_len huge",
    "header a list",
    "missing key",
    "unknown compression in file",
    "major 3..10",
    "unknown compression arg",
    "unknown backend",
    "backend=cpp",
    "backend=cuda/triton on cpu",
    "device=cuda without torch",
    "device=cuda, framework=numpy",
    "chunk index out of range",
    "section filter, file without sections",
    "no match",
    "chunk_size=0",
)
tested: set[str] = set()


@pytest.fixture
def _row(request):
    return request.param


def row(name: str) -> Callable[..., Any]:
    """Says which row a test is about; its id begins with that."""
    tested.add(name)
    mark = pytest.mark.parametrize("_row", [name], ids=[name], indirect=True)
    return lambda test: mark(pytest.mark.usefixtures("_row")(test))


def test_every_row_has_a_test():
    wanted = {f"6.1-{number}" for number in ROWS_6_1}
    found = {name.split(" ")[0] for name in tested if name.startswith("6.1-")}
    assert found == wanted
    assert {name for name in tested if name[:4] in ("6.2 ", "6.3 ")} == {
        *(f"6.2 {name}" for name in ROWS_6_2),
        *(f"6.3 {name}" for name in ROWS_6_3),
    }


pytestmark = pytest.mark.filterwarnings("ignore:the file is in the legacy layout:DeprecationWarning")


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.cvc"


def cvcf(header: Any, *payloads: bytes, version: tuple[int, int] | None = (1, 0)) -> bytes:
    """A CVCF file by hand, with checksums that are right."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    head = b"CVCF" + b"".join(number.to_bytes(2, "little") for number in version or ())
    parts = [head, len(text).to_bytes(4, "little"), text]
    for payload in payloads:
        crc32 = zlib.crc32(payload).to_bytes(4, "little") if version else b""
        parts += [len(payload).to_bytes(4, "little"), crc32, payload]
    return b"".join(parts)


def split(file: bytes) -> tuple[dict[str, Any], bytes, list[bytes]]:
    """The header of a versioned file, all bytes up to the first chunk, and the payloads."""
    end = 12 + int.from_bytes(file[8:12], "little")
    position, payloads = end, []
    while position < len(file):
        length = int.from_bytes(file[position : position + 4], "little")
        payloads.append(file[position + 8 : position + 8 + length])
        position += 8 + length
    return json.loads(file[12:end]), file[:end], payloads


# 6.1


@row("6.1-1 the backend cpp")
def test_cpp_is_always_there(path):
    rows = normal(10, 4)
    cvc.pack_cvc(rows, path, compression="lossless")
    assert cvc.get_available_backends()["cpp"] and cvc.get_backend_errors()["cpp"] is None
    assert np.array_equal(cvc.load_cvc(path, backend="cpp"), rows)
    assert np.array_equal(cvc.load_cvc(path, backend="python"), rows)


@row("6.1-2 two matching sections in one chunk")
@pytest.mark.parametrize("layout", ["v0", "v1", "native"])
def test_all_sections_that_match(path, layout):
    rows = normal(35, 4).astype("f2").astype("f4")
    high, low = {"q": "high"}, {"q": "low"}
    # An empty one that matches comes first.
    sections = [(rows[:0], high), (rows[:10], high), (rows[10:30], low), (rows[30:], high)]
    cvc.pack_cvc_sections(sections, path, layout=layout)
    found = cvc.load_cvc_range(path, section_key="q", section_value="high")
    assert np.array_equal(found, np.concatenate([rows[:10], rows[30:]]))
    assert [section["num_vectors"] for section in cvc.get_cvc_info(path)["sections"]] == [0, 10, 20, 5]


@row("6.1-2 two matching sections in columns")
@pytest.mark.parametrize("layout", ["v2", "native"])
def test_all_sections_of_columns_that_match(path, layout):
    ids = np.arange(35, dtype="i4")
    sections = [({"id": ids[:10]}, {"q": 1}), ({"id": ids[10:30]}, {"q": 2}), ({"id": ids[30:]}, {"q": 1})]
    cvc.pack_cvc_sections_columnar(sections, path, chunk_size=16, layout=layout)
    found = cvc.load_cvc_columns(path, section_key="q", section_value=1)
    assert found["id"].tolist() == [*range(10), *range(30, 35)]


@row("6.1-2 a section that is empty")
def test_a_section_without_rows_has_no_rows(path):
    cvc.pack_cvc_sections([(normal(3, 2), {"q": 1}), (normal(0, 2), {"q": 2})], path)
    assert cvc.load_cvc_range(path, section_key="q", section_value=2).shape == (0, 2)


@row("6.1-3 chunks of several compressions")
@pytest.mark.parametrize("version", [None, (1, 0)], ids=["v0", "v1"])
def test_the_compression_of_a_chunk_counts(path, version):
    rows = normal(16, 8)
    chunks = [
        {"rows": 8, "compression": "fp16"},
        {"rows": 8, "compression": "int8", "min": -1.0, "scale": 0.5},
    ]
    header = {"num_vectors": 16, "dimension": 8, "compression": "fp16", "chunks": chunks}
    codes = np.arange(64, dtype="u1")
    path.write_bytes(cvcf(header, rows[:8].astype("<f2").tobytes(), codes.tobytes(), version=version))
    loaded = cvc.load_cvc(path)
    assert np.array_equal(loaded[:8], rows[:8].astype("f2").astype("f4"))
    assert np.array_equal(loaded[8:], (codes * np.float32(0.5) + np.float32(-1)).reshape(8, 8))
    said = [chunk["compression"] for chunk in cvc.get_cvc_info(path)["chunks"]]
    assert said == ["fp16", "int8"]


@row("6.1-4 None is a value")
def test_none_is_a_value(path):
    rows = np.arange(12, dtype="f4").reshape(6, 2)
    sections = [(rows[:2], {"source": None}), (rows[2:4], {"source": "a"}), (rows[4:], {"other": 1})]
    cvc.pack_cvc_sections(sections, path)
    assert np.array_equal(cvc.load_cvc_range(path, section_key="source", section_value=None), rows[:2])
    cvc.pack_cvc(rows, path, chunk_size=2, chunk_metadata=[{"source": "a"}, {"source": None}, None])
    assert np.array_equal(cvc.load_cvc_range(path, metadata_key="source"), rows[2:4])
    with pytest.raises(ValueError, match="No chunks found with absent=None"):
        cvc.load_cvc_range(path, metadata_key="absent")
    for value in ("metadata_value", "section_value"):
        with pytest.raises(cvc.ArgumentError, match="needs a"):
            cvc.load_cvc_range(path, **{value: "a"})


@row("6.1-5 order and duplicates of chunk_indices")
@pytest.mark.parametrize("layout", ["v0", "v1", "native"])
def test_chunks_come_as_asked_for(path, layout):
    rows = np.arange(20, dtype="f4").reshape(10, 2)
    cvc.pack_cvc(rows, path, chunk_size=3, layout=layout)
    parts = [rows[0:3], rows[3:6], rows[6:9], rows[9:]]
    wanted = [3, 1, 1, 0]
    assert np.array_equal(
        cvc.load_cvc_range(path, chunk_indices=iter(wanted)), np.concatenate([parts[i] for i in wanted])
    )
    found = list(cvc.load_cvc_chunked(path, chunk_indices=iter(wanted)))
    assert [index for index, _ in found] == wanted
    assert all(np.array_equal(part, parts[index]) for index, part in found)
    assert cvc.load_cvc_range(path, chunk_indices=[]).shape == (0, 2)
    assert list(cvc.load_cvc_chunked(path, chunk_indices=[])) == []


@row("6.1-6 rows that are not there")
def test_no_memory_is_shown_that_was_not_written(path):
    header = {"num_vectors": 5, "dimension": 2, "compression": "fp16", "chunks": [{"rows": 4, "compression": "fp16"}]}
    for promised in (3, 5, 10**15):
        path.write_bytes(cvcf({**header, "num_vectors": promised}, bytes(16)))
        for policy in ("raise", "skip"):
            with pytest.raises(cvc.FormatError, match=f"num_vectors is {promised}, but its chunks hold 4 rows"):
                cvc.load_cvc(path, on_corruption=policy)


@row("6.1-6 a negative chunk_size")
def test_a_negative_chunk_size_is_refused(path):
    with pytest.raises(cvc.ArgumentError, match="chunk_size = -5"):
        cvc.pack_cvc(normal(10, 4), path, chunk_size=-5)
    assert not path.exists()


@row("6.1-7 NaN and infinities in int8")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["v0", "v1", "native"])
def test_int8_refuses_what_it_cannot_say(path, value, layout):
    rows = normal(40, 8)
    rows[33, 5] = value
    with pytest.raises(cvc.EncodeError, match="row 33, column 5"):
        cvc.pack_cvc(rows, path, "int8", chunk_size=16, layout=layout)
    assert os.listdir(path.parent) == []
    if layout == "native":
        cvc.pack_cvc(rows, path, "int8", chunk_size=16, layout=layout, nonfinite="saturate")
        assert np.isfinite(cvc.load_cvc(path)).all()
    else:
        cvc.pack_cvc(rows, path, "int8", chunk_size=16, layout=layout, nonfinite="upstream")
        assert np.isnan(cvc.load_cvc(path)[32:]).all()


@row("6.1-7 a range beyond float32")
def test_a_range_is_looked_for_in_chunks(path):
    rows = normal(40, 2)
    rows[18, 1], rows[20, 0] = 3e38, -3.1e38
    with pytest.raises(cvc.EncodeError, match="row 20, column 0"):
        cvc.pack_cvc(rows, path, "int8", chunk_size=16)
    with pytest.raises(cvc.EncodeError, match="row 20, column 0"):
        cvc.pack_cvc_sections([(rows[:19], 0), (rows[19:], 1)], path, "int8", chunk_size=16)
    # Each in a chunk of its own is fine.
    cvc.pack_cvc(rows, path, "int8", chunk_size=4)
    assert np.isfinite(cvc.load_cvc(path)).all()


@row("6.1-7 finite values beyond fp16")
@pytest.mark.parametrize("layout", ["v0", "v1", "native"])
def test_fp16_refuses_to_make_infinities(path, layout):
    rows = normal(40, 8)
    rows[0, 0], rows[1, 1], rows[2, 2] = np.nan, np.inf, 65519
    cvc.pack_cvc(rows, path, layout=layout)
    loaded = cvc.load_cvc(path)
    assert np.isnan(loaded[0, 0]) and loaded[1, 1] == np.inf and loaded[2, 2] == 65504
    rows[33, 5] = -65520
    with pytest.raises(cvc.EncodeError, match="row 33, column 5"):
        cvc.pack_cvc(rows, path, layout=layout)
    assert np.array_equal(cvc.load_cvc(path), loaded, equal_nan=True), "the file that was there is untouched"


@row("6.1-7 columns")
def test_columns_refuse_too(path):
    scores = np.array([1, 2, np.nan, 4], "f4")
    with pytest.raises(cvc.EncodeError, match=r"'score'.*\(row 2\)"):
        cvc.pack_cvc_columns({"id": np.arange(4), "score": scores}, path, {"score": "int8"}, chunk_size=2)
    cvc.pack_cvc_columns({"id": np.arange(4), "score": scores}, path, {"score": "none"})
    with pytest.raises(cvc.EncodeError, match=r"'score'.*\(row 2\)"):
        cvc.update_column(path, "score", scores, compression="int8")
    with pytest.raises(cvc.ArgumentError, match="nonfinite = 'maybe'"):
        cvc.pack_cvc(normal(2, 2), path, nonfinite="maybe")


@row("6.1-8 chunks of more than 4 GiB")
def test_chunks_that_are_too_large_are_refused_first(path):
    wide = np.broadcast_to(np.float32(0), (100_000, 21_475))
    with pytest.raises(cvc.ArgumentError, match="use a chunk_size of at most 99999"):
        cvc.pack_cvc(wide, path)
    with pytest.raises(cvc.ArgumentError, match="use a chunk_size of at most"):
        cvc.pack_cvc_columns({"a": wide[:, :20_000], "b": wide[:, :1475], "c": wide[:, 0].astype("i8")}, path)
    assert os.listdir(path.parent) == []


@row("6.1-8 headers and chunks that others made too large")
def test_lengths_have_32_bits(monkeypatch):
    monkeypatch.setattr(frames, "_LEN_LIMIT", 100)
    assert frames.frame_head("v1", 99, 7) == b"c\0\0\0\7\0\0\0"
    with pytest.raises(cvc.ArgumentError, match="100 bytes.*smaller chunks"):
        frames.frame_head("v1", 100, 7)
    with pytest.raises(cvc.ArgumentError, match="larger chunks"):
        frames.prefix("v0", {"key": "x" * 100})


@row("6.1-9 annotations of all Python versions")
def test_every_annotation_can_be_evaluated():
    declared = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = tuple(int(part) for part in declared.removeprefix(">=").split("."))
    assert sys.version_info >= oldest
    for module in pkgutil.iter_modules(cvc._decompressed.__path__):
        found = importlib.import_module(f"cvc._decompressed.{module.name}")
        for _, function in inspect.getmembers(found, inspect.isfunction):
            typing.get_type_hints(function)


@row("6.1-10 console scripts")
def test_every_console_script_exists():
    scripts = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"].get("scripts", {})
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


class FakeArray:
    """What a `cvc.Array` does on a machine with a card."""

    stored_dtype = "float32"

    def read(self, rows=None, *, device, dtype=None):
        return "memory", device, rows


@pytest.fixture
def card(monkeypatch):
    """A card, and packages that take its memory as it is."""
    report = {"backend": "cuda", "available": True, "reason": "always there"}
    monkeypatch.setattr(backends, "devices", lambda: [report])
    for name in ("torch", "cupy"):
        module = types.ModuleType(name)
        module.from_dlpack = lambda memory, name=name: (name, memory)
        # Each in its own way; neither may be used for what was decoded on the card.
        module.from_numpy = lambda values: types.SimpleNamespace(to=lambda device: ("torch", device, values))
        module.cuda = types.SimpleNamespace(Device=lambda number: contextlib.nullcontext(number))
        module.asarray = lambda values: ("cupy", values)
        monkeypatch.setitem(sys.modules, name, module)


@row("6.1-11 CuPy arrays are the memory that was decoded to")
@pytest.mark.parametrize("framework", ["torch", "cupy"])
@pytest.mark.parametrize("backend", ["auto", "cuda", "triton"])
def test_device_arrays_are_adopted_not_copied(card, framework, backend):
    to = backends.target("cuda:1", framework, backend)
    assert to.read(FakeArray(), slice(2, 5)) == (framework, ("memory", "cuda:1", slice(2, 5)))
    # Rows that do not lie side by side are read in one piece as well.
    found, (memory, device, rows) = load._read_ranges(FakeArray(), [range(3), range(8, 10), range(10, 11)], to, None)
    assert (found, memory, device, rows.tolist()) == (framework, "memory", "cuda:1", [0, 1, 2, 8, 9, 10])
    assert load._read_ranges(FakeArray(), [range(3, 3)], to, None)[1][2].tolist() == []
    assert to.moved(7) == (("torch", "cuda:1", 7) if framework == "torch" else ("cupy", 7))


@row("6.1-11 CuPy arrays are the memory that was decoded to")
@pytest.mark.parametrize("framework", ["torch", "cupy"])
def test_device_arrays_have_the_rows_of_the_file(path, framework):
    package = pytest.importorskip(framework)
    if not cvc.get_available_backends()["cuda"]:
        pytest.skip("there is no card")
    rows = normal(50, 8)
    cvc.pack_cvc_sections([(rows[:20], {"s": 1}), (rows[20:], {"s": 2})], path, "int8", chunk_size=16)
    right = cvc.load_cvc(path)

    def host(values):
        return package.asnumpy(values) if framework == "cupy" else values.cpu().numpy()

    for backend in ("auto", "cuda", "triton"):
        asked = {"device": "cuda", "framework": framework, "backend": backend}
        assert np.array_equal(host(cvc.load_cvc(path, **asked)), right)
        assert np.array_equal(host(cvc.load_cvc_range(path, section_key="s", section_value=2, **asked)), right[20:])
        assert np.array_equal(host(dict(cvc.load_cvc_chunked(path, **asked))[1]), right[16:32])


@row("6.1-12 what is called available")
def test_available_is_what_answered(monkeypatch):
    def seen(available):
        card = {"backend": "cuda", "available": available, "reason": "no driver"}
        monkeypatch.setattr(backends, "devices", lambda: [card])
        return cvc.get_available_backends(), cvc.get_backend_errors()

    there, errors = seen(True)
    assert there == {"python": True, "cpp": True, "cuda": True, "triton": True}
    assert errors == {"python": None, "cpp": None, "cuda": None, "triton": None}
    there, errors = seen(False)
    assert there == {"python": True, "cpp": True, "cuda": False, "triton": False}
    assert errors["cuda"] == errors["triton"] == "no driver"


@row("6.1-13 damage is noticed or said to be unknowable")
def test_damage_is_noticed_where_there_are_checksums(path):
    rows = normal(16, 4)
    cvc.pack_cvc(rows, path, layout="v0")
    assert "no checksums" in cvc.validate_cvc_integrity(path)["error"]
    assert "no checksums" in cvc.validate_cvc(path)["warnings"][0]
    with pytest.warns(DeprecationWarning, match="no checksums") as caught:
        cvc.load_cvc(path)
    assert caught[0].filename == __file__
    file = bytearray(path.read_bytes())
    cut = file[:-3]
    file[-1] ^= 1
    path.write_bytes(file)
    assert (cvc.load_cvc(path) != rows.astype("f2")).sum() == 1, "nobody can tell"
    path.write_bytes(cut)
    with pytest.raises(cvc.CorruptedChunkError, match="chunk 0"):
        cvc.load_cvc(path)


UPSTREAM = {
    "pack_cvc": "(vectors, output_path, compression='fp16', chunk_size=100000, chunk_metadata=None, mmap_optimized=False)",
    "pack_cvc_sections": "(sections, output_path, compression='fp16', chunk_size=100000)",
    "pack_cvc_columns": "(data, output_path, compressions=None, chunk_size=100000)",
    "pack_cvc_sections_columnar": "(sections, output_path, compressions=None, chunk_size=100000)",
    "load_cvc": "(path, device='cpu', framework='torch', backend='auto', on_corruption='raise', fill_value=0.0)",
    "load_cvc_chunked": "(path, chunk_indices=None, device='cpu', framework='torch', backend='auto')",
    "load_cvc_range": "(path, chunk_indices=None, device='cpu', framework='torch', backend='auto', metadata_key=None, "
    "metadata_value=None, section_key=None, section_value=None)",
    "load_cvc_columns": "(path, columns=None, device='cpu', framework='torch', backend='auto', section_key=None, section_value=None)",
    "get_cvc_info": "(path)",
    "get_available_backends": "()",
    "get_backend_errors": "()",
    "validate_cvc": "(path)",
    "validate_cvc_integrity": "(path, verbose=False)",
    "validate_cvc_version": "(path)",
    "upgrade_cvc": "(input_path, output_path, verbose=False)",
    "detect_version": "(path)",
    "add_column": "(path, column_name, data, compression=None, output_path=None)",
    "update_column": "(path, column_name, data, compression=None, output_path=None)",
    "delete_column": "(path, column_name, output_path=None)",
    "rename_column": "(path, old_name, new_name, output_path=None)",
    "list_columns": "(path)",
    "MMapCVCLoader": "(path)",
}


@row("6.1-14 signatures")
@pytest.mark.parametrize("name", UPSTREAM)
def test_arguments_are_those_of_upstream(name):
    assert name in cvc.__all__
    signature = inspect.signature(getattr(cvc, name))
    # What is ours alone can only be given by name.
    shared = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    shared = [parameter for parameter in shared if parameter.kind is not parameter.KEYWORD_ONLY]
    assert str(inspect.Signature(shared)) == UPSTREAM[name]
    assert inspect.getdoc(getattr(cvc, name))


@row("6.1-15 the frames that the documents leave out")
def test_files_have_the_frames_of_their_layout(path):
    row = np.array([[-1.5]], "f4")
    cvc.pack_cvc(row, path, "int8", layout="v0")
    header = b'{"num_vectors": 1, "dimension": 1, "compression": "int8", "chunks": [{"rows": 1, "compression": "int8", "min": -1.5, "scale": 1.0}]}'
    assert path.read_bytes() == b"CVCF\x84\0\0\0" + header + b"\1\0\0\0\0"
    cvc.pack_cvc(row, path, "int8")
    header = {
        "chunks": [{"compression": "int8", "min": -1.5, "rows": 1, "scale": 1.0}],
        "compression": "int8",
        "dimension": 1,
        "num_vectors": 1,
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    crc32 = zlib.crc32(b"\0").to_bytes(4, "little")
    assert path.read_bytes() == b"CVCF\1\0\0\0" + len(text).to_bytes(4, "little") + text + b"\1\0\0\0" + crc32 + b"\0"


@row("6.1-16 what auto takes")
def test_auto_never_falls_back(path, monkeypatch):
    assert backends.target("cpu", "torch", "auto").backend == "cpu"
    cvc.pack_cvc(normal(4, 4), path)
    monkeypatch.setattr(backends, "devices", lambda: [{"backend": "cuda", "available": False, "reason": "no driver"}])
    calls = (
        lambda: cvc.load_cvc(path, device="cuda"),
        lambda: cvc.load_cvc_chunked(path, device="cuda"),
        lambda: cvc.load_cvc_range(path, device="cuda:0", framework="cupy"),
    )
    for call in calls:
        with pytest.raises(cvc.DeviceError, match="no driver") as caught:
            call()
        assert isinstance(caught.value, RuntimeError)


# 6.2


@row("6.2 mmap corruption")
@pytest.mark.parametrize("chunks", [1, 10, 50, 100, 180, 220])
@pytest.mark.parametrize("compression", ["fp16", "lossless"])
def test_mapped_files_of_any_number_of_chunks(path, chunks, compression):
    rows = normal(chunks * 3 - 1, 4)
    cvc.pack_cvc(
        rows, path, compression, chunk_size=3, mmap_optimized=True, chunk_metadata=[{"n": n} for n in range(chunks)]
    )
    right = rows if compression == "lossless" else rows.astype("f2").astype("f4")
    assert np.array_equal(cvc.load_cvc(path), right)
    assert np.array_equal(cvc.load_cvc_range(path, chunk_indices=[chunks - 1]), right[chunks * 3 - 3 :])
    assert np.array_equal(cvc.load_cvc_range(path, metadata_key="n", metadata_value=0), right[:3])
    assert np.array_equal(np.concatenate([part for _, part in cvc.load_cvc_chunked(path)]), right)
    with cvc.MMapCVCLoader(path) as loader:
        assert loader.is_mmap_optimized
        assert np.array_equal(loader.load(), right)
    assert cvc.validate_cvc(path)["valid"] and cvc.validate_cvc_integrity(path)["valid"]
    # What reads frames one after the other finds them, and what looks them up finds the same.
    header, head, payloads = split(path.read_bytes())
    position = len(head)
    for chunk, payload in zip(header["chunks"], payloads, strict=True):
        assert chunk["file_offset"] == position
        position += 8 + len(payload)
    upgraded = path.with_suffix(".upgraded")
    cvc.upgrade_cvc(path, upgraded)
    plain = path.with_suffix(".plain")
    cvc.pack_cvc(rows, plain, compression, chunk_size=3, chunk_metadata=[{"n": n} for n in range(chunks)])
    assert upgraded.read_bytes() == plain.read_bytes()
    assert sorted(os.listdir(path.parent)) == ["file.cvc", "file.plain", "file.upgraded"]


@row("6.2 mmap gaps")
def test_mapped_files_of_upstream_are_read_by_all_functions():
    path = GOLDEN / "2.1.1" / "mmap_fp16.cvc"
    right = np.load(path.with_suffix(".expected.npy"))
    assert np.array_equal(cvc.load_cvc(path), right)
    assert np.array_equal(cvc.load_cvc_range(path, chunk_indices=[2, 0]), np.concatenate([right[64:], right[:32]]))
    assert [index for index, _ in cvc.load_cvc_chunked(path)] == [0, 1, 2]
    assert cvc.detect_version(path) == (1, 0)
    assert cvc.validate_cvc_integrity(path, verbose=True)["valid"]


@row("6.2 none columns")
@pytest.mark.parametrize("layout", ["v2", "native"])
def test_columns_keep_their_dtype(path, layout):
    data = {
        name: (np.arange(40) * 3).astype(name) for name in ("int64", "int32", "int8", "uint8", "float32", "float16")
    }
    data["int32"][:] = 2**24 + 1 + np.arange(40)
    data["matrix"] = normal(40, 3)
    cvc.pack_cvc_columns(data, path, dict.fromkeys(data, "none"), chunk_size=7, layout=layout)
    loaded = cvc.load_cvc_columns(path)
    assert list(loaded) == list(data)
    for name, rows in data.items():
        assert loaded[name].dtype == rows.dtype
        assert np.array_equal(loaded[name], rows)
    assert list(cvc.load_cvc_columns(path, columns=["uint8", "int64"])) == ["uint8", "int64"]
    assert cvc.load_cvc_columns(path, columns=[]) == {}


def columns_file(path: Path) -> dict[str, np.ndarray]:
    """A file with sections and short chunks whose columns would suffer from being encoded again."""
    data = {
        "text": normal(50, 6),
        "image": normal(50, 4, seed=1),
        "id": np.arange(50, dtype="i8") + 2**40,
        "score": normal(50, seed=2),
    }
    sections = [({name: rows[:20] for name, rows in data.items()}, {"source": "wiki"})]
    sections += [({name: rows[20:] for name, rows in data.items()}, {"source": "arxiv"})]
    cvc.pack_cvc_sections_columnar(sections, path, {"image": "int8"}, chunk_size=16)
    return data


def edits(path: Path) -> list[tuple[str, Callable[[], None]]]:
    """Every kind of edit, and the name of a column that it leaves alone."""
    return [
        ("image", lambda: cvc.add_column(path, "flag", np.arange(50, dtype="u1"))),
        ("image", lambda: cvc.update_column(path, "text", normal(50, 3, seed=3))),
        ("image", lambda: cvc.rename_column(path, "score", "rank")),
        ("image", lambda: cvc.delete_column(path, "rank")),
    ]


@row("6.2 column edits: dtypes")
def test_edits_keep_dtypes(path):
    data = columns_file(path)
    for _, edit in edits(path):
        edit()
        ids = cvc.load_cvc_columns(path, ["id"])["id"]
        assert ids.dtype == np.int64
        assert np.array_equal(ids, data["id"])
    loaded = cvc.load_cvc_columns(path)
    assert list(loaded) == ["text", "image", "id", "flag"], "columns keep their places"
    assert loaded["flag"].dtype == np.uint8
    assert loaded["text"].shape == (50, 3)
    assert [column["dimension"] for column in cvc.list_columns(path)] == [3, 4, 1, 1]


@row("6.2 column edits: no drift")
def test_edits_copy_what_they_do_not_change(path):
    columns_file(path)
    before = cvc.load_cvc_columns(path, ["image"])["image"]
    for _ in range(3):
        cvc.add_column(path, "more", normal(50), compression="int8")
        cvc.delete_column(path, "more")
    assert np.array_equal(cvc.load_cvc_columns(path, ["image"])["image"], before)


@row("6.2 column edits: sections and chunks")
def test_edits_keep_sections_and_chunks(path):
    columns_file(path)
    before = cvc.get_cvc_info(path)
    for _, edit in edits(path):
        edit()
        after = cvc.get_cvc_info(path)
        assert after["sections"] == before["sections"]
        assert [chunk["rows"] for chunk in after["chunks"]] == [16, 16, 16, 2]
        assert cvc.load_cvc_columns(path, ["image"], section_key="source", section_value="arxiv")["image"].shape == (
            30,
            4,
        )
        assert cvc.validate_cvc(path)["valid"] and cvc.validate_cvc_integrity(path)["valid"]


@row("6.2 column edits: other disks")
def test_edits_use_no_folder_but_that_of_the_file(path, monkeypatch):
    columns_file(path)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    os.chmod(path, 0o640)
    link = path.with_name("link.cvc")
    link.symlink_to(path.name)
    for _, edit in edits(link):
        edit()
    assert link.is_symlink() and not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(path.parent)) == ["file.cvc", "link.cvc"]


@row("6.2 column edits: other disks")
def test_an_edit_that_fails_leaves_everything_as_it_was(path):
    columns_file(path)
    file = bytearray(path.read_bytes())
    file[-1] ^= 1
    path.write_bytes(file)
    for call in (
        lambda: cvc.delete_column(path, "text"),
        lambda: cvc.add_column(path, "more", normal(50)),
        lambda: cvc.rename_column(path, "text", "words", output_path=path.with_name("other.cvc")),
    ):
        with pytest.raises(cvc.CorruptedChunkError, match="chunk 3"):
            call()
    assert path.read_bytes() == file
    assert os.listdir(path.parent) == ["file.cvc"]


@row("6.2 on_corruption typo")
def test_a_policy_that_does_not_exist_is_refused(path):
    cvc.pack_cvc(normal(4, 4), path)
    with pytest.raises(cvc.ArgumentError, match="on_corruption = 'ignore': one of raise, skip, warn"):
        cvc.load_cvc(path, on_corruption="ignore")


@row("6.2 unknown names in compressions")
def test_a_column_that_does_not_exist_has_no_compression(path):
    with pytest.raises(cvc.ArgumentError, match="txet"):
        cvc.pack_cvc_columns({"text": normal(4, 4)}, path, {"txet": "int8"})


@row("6.2 validate: columnar files")
def test_columnar_files_are_valid(path, capsys):
    columns_file(path)
    report = cvc.validate_cvc(path)
    assert report["valid"] and report["version"] == "v2.0"
    assert report["num_vectors"] == 50 and [column["name"] for column in report["columns"]] == [
        "text",
        "image",
        "id",
        "score",
    ]
    assert cvc.validate_cvc_integrity(path)["valid"]
    assert cvc.validate_cvc_version(path)["version"] == "v2.0"
    assert capsys.readouterr().out == "", "nothing is printed that nobody asked for"


@row("6.2 validate: cut after the header")
def test_a_header_alone_is_not_valid(path):
    cvc.pack_cvc(normal(16, 4), path, chunk_size=8)
    path.write_bytes(split(path.read_bytes())[1])
    assert not cvc.validate_cvc(path)["valid"]
    report = cvc.validate_cvc_integrity(path)
    assert not report["valid"] and "frame of chunk 0" in report["error"]
    assert not cvc.validate_cvc_version(path)["valid"]
    path.unlink()
    for function in (cvc.validate_cvc, cvc.validate_cvc_integrity, cvc.validate_cvc_version):
        with pytest.raises(FileNotFoundError):
            function(path)


@row("6.2 range and chunked on v0")
def test_all_loaders_read_v0(path):
    rows = normal(20, 3).astype("f2").astype("f4")
    cvc.pack_cvc_sections([(rows[:5], {"s": 1}), (rows[5:], {"s": 2})], path, chunk_size=8, layout="v0")
    assert np.array_equal(cvc.load_cvc_range(path, section_key="s", section_value=2), rows[5:])
    assert np.array_equal(cvc.load_cvc_range(path, chunk_indices=[1]), rows[8:16])
    assert np.array_equal(np.concatenate([part for _, part in cvc.load_cvc_chunked(path)]), rows)


@row("6.2 upgrade of columnar files")
def test_upgrading_columns_gives_columns(path):
    columns_file(path)
    upgraded = path.with_suffix(".upgraded")
    report = cvc.upgrade_cvc(path, upgraded)
    assert (report["input_version"], report["output_version"], report["dimension"]) == ("v2.0", "v2.0", None)
    assert upgraded.read_bytes() == path.read_bytes()
    with pytest.raises(FileExistsError):
        cvc.upgrade_cvc(path, upgraded)
    native = path.with_suffix(".native")
    assert cvc.upgrade_cvc(path, native, layout="native")["output_version"] == "native"
    before, after = cvc.load_cvc_columns(path), cvc.load_cvc_columns(native)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@row("6.2 MMapCVCLoader: v0, lossless, views")
@pytest.mark.parametrize(("layout", "compression"), [("v0", "int8"), ("v1", "lossless"), ("v1", "fp16")])
def test_all_files_can_be_mapped(path, layout, compression):
    rows = normal(20, 3)
    cvc.pack_cvc(rows, path, compression, chunk_size=8, layout=layout)
    whole = cvc.load_cvc(path)
    loader = cvc.MMapCVCLoader(path)
    with pytest.raises(RuntimeError, match="not opened"):
        loader.load()
    with loader:
        loader.open()  # It is already.
        assert not loader.is_mmap_optimized
        assert np.array_equal(loader.load(), whole)
        assert np.array_equal(loader.load_chunk(1), whole[8:16])
        view = loader.get_chunk_view(2)
        assert view.obj is loader.mmap, "nothing is copied"
        if compression == "fp16":
            assert np.array_equal(np.frombuffer(view, "<f2").reshape(4, 3), whole[16:])
        with pytest.raises(ValueError, match="Invalid chunk index 3"):
            loader.load_chunk(3)
        with pytest.raises(ValueError, match="Invalid chunk index -1"):
            loader.get_chunk_view(-1)
        assert loader.get_info()["num_chunks"] == 3
    assert loader.mmap is None
    assert len(bytes(view)) > 0, "a view outlives its loader"


@row("6.2 MMapCVCLoader: v0, lossless, views")
def test_mapped_bytes_are_compared_with_their_checksums(path):
    cvc.pack_cvc(normal(20, 3), path, chunk_size=8, mmap_optimized=True)
    file = bytearray(path.read_bytes())
    file[-1] ^= 1
    path.write_bytes(file)
    with cvc.MMapCVCLoader(path) as loader:
        loader.load_chunk(0)
        with pytest.raises(cvc.CorruptedChunkError):
            loader.load_chunk(2)


@row("6.2 version-sniff window")
@pytest.mark.parametrize("header_len", [65537, 65540, 65546, 65547, 131073])
def test_the_length_of_a_header_is_no_version(path, header_len):
    header = {"num_vectors": 1, "dimension": 2, "compression": "fp16", "chunks": [{"rows": 1, "compression": "fp16"}]}
    text = json.dumps(header).encode()
    path.write_bytes(cvcf(text + b" " * (header_len - len(text)), bytes(4), version=None))
    assert cvc.detect_version(path) == (0, 1)
    assert cvc.load_cvc(path).shape == (1, 2)
    assert cvc.validate_cvc_version(path)["needs_upgrade"]
    cvc.upgrade_cvc(path, path.with_suffix(".upgraded"))
    assert cvc.detect_version(path.with_suffix(".upgraded")) == (1, 0)


@row("6.2 __version__")
def test_the_version_is_that_of_the_package():
    workspace = tomllib.loads((PACKAGE.parents[1] / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert cvc.__version__ == workspace


@row("6.2 backward compatible")
def test_old_files_work_with_all_new_functions(path):
    old = GOLDEN / "0.1.0" / "chunkmeta_int8.cvc"
    assert cvc.load_cvc_range(old, metadata_key="source", metadata_value="wiki").shape == (20, 6)
    assert cvc.get_cvc_info(old)["num_chunks"] == 5
    assert cvc.validate_cvc(old)["valid"]
    with cvc.MMapCVCLoader(old) as loader:
        assert loader.load().shape == (45, 6)
    # And new ones can be written for old readers.
    rows = np.load(old.with_suffix(".npy"))
    cvc.pack_cvc(rows, path, "int8", 10, layout="v0")
    assert path.read_bytes()[8:9] == b"{"


@row("6.2 num_chunks in the header")
def test_the_header_of_the_loader_has_num_chunks(path):
    cvc.pack_cvc(normal(20, 3), path, chunk_size=8, mmap_optimized=True)
    with cvc.MMapCVCLoader(path) as loader:
        assert loader.header["num_chunks"] == 3
        assert loader.header["num_vectors"] == 20


@row("6.2 modify without repacking")
def test_edits_copy_encoded_bytes(path):
    columns_file(path)

    def encoded(name):
        header, _, payloads = split(path.read_bytes())
        parts = [chunk["columns"][name] for chunk in header["chunks"]]
        return [payload[part["offset"] : part["offset"] + part["size"]] for payload, part in zip(payloads, parts)]

    before = encoded("image")
    for untouched, edit in edits(path):
        edit()
        assert encoded(untouched) == before


@row("6.2 modify without repacking")
def test_edits_of_native_files_copy_too(path):
    rng = np.random.default_rng(0)
    data = {
        "text": normal(50, 6),
        "image": normal(50, 4, seed=1),
        "id": np.arange(50),
        "half": normal(50, 2).astype("f2"),
    }
    words = [str(number) for number in rng.integers(0, 1000, 50)]
    sections = [(0, 20, {"source": "wiki"}), (20, 50, {"source": "arxiv"})]
    codecs = {"text": "fp16", "image": "int8", "id": "zstd", "half": "bf16"}
    cvc.pack({**data, "words": words}, path, codecs, sections=sections, metadata={"model": "m"}, chunk_rows=16)

    def seen(*names):
        with cvc.open(path) as file:
            arrays = {name: file[name] for name in names}
            said = {name: (each.codec, each.loss, each.chunks, each.stored_len) for name, each in arrays.items()}
            values = {
                name: each.read(dtype="float32" if name == "half" else None).tolist() for name, each in arrays.items()
            }
            return said, values, file.sections, file.metadata

    before = seen("image", "id", "half", "words")
    cvc.add_column(path, "flag", np.arange(50) % 2 == 0)
    cvc.update_column(path, "text", normal(50, 3, seed=3))
    cvc.rename_column(path, "flag", "even")
    assert seen("image", "id", "half", "words") == before
    assert [column["name"] for column in cvc.list_columns(path)] == ["image", "id", "half", "words", "even", "text"]
    cvc.delete_column(path, "words")
    assert cvc.load_cvc_columns(path, ["text"], section_key="source", section_value="wiki")["text"].shape == (20, 3)
    with pytest.raises(cvc.ArgumentError, match="nonfinite = 'upstream'"):
        cvc.add_column(path, "more", normal(50), nonfinite="upstream")
    with pytest.raises(cvc.EncodeError, match="row 7"):
        cvc.add_column(path, "more", np.where(np.arange(50) == 7, np.nan, 1), compression="int8")
    for name in ("image", "id", "half", "even"):
        cvc.delete_column(path, name)
    cvc.update_column(path, "text", normal(50, 2), compression="lossless")
    assert seen("text")[2:] == before[2:]
    assert np.array_equal(cvc.load_cvc(path), normal(50, 2))
    assert os.listdir(path.parent) == ["file.cvc"]


# 6.3


@pytest.fixture
def whole(path: Path) -> bytes:
    """A file of 4 int8 chunks of 16 rows of 8, and one of 3."""
    cvc.pack_cvc(normal(67, 8), path, "int8", chunk_size=16, chunk_metadata=[{"n": n} for n in range(5)])
    return path.read_bytes()


def refused(path: Path, file: bytes, kind: type[Exception], match: str) -> None:
    """Asserts that no function takes the file for a good one, and that all say the same."""
    path.write_bytes(file)
    functions: list[Callable[[Any], Any]] = [
        cvc.load_cvc,
        lambda path: cvc.load_cvc(path, on_corruption="skip"),
        cvc.load_cvc_chunked,
        lambda path: cvc.load_cvc_range(path, chunk_indices=[0]),
        cvc.get_cvc_info,
        cvc.load_cvc_columns,
        lambda path: cvc.upgrade_cvc(path, path.with_suffix(".upgraded")),
        lambda path: cvc.MMapCVCLoader(path).open(),
        cvc.detect_version,
    ]
    for function in functions:
        with pytest.raises(kind, match=match) as caught:
            function(path)
        assert isinstance(caught.value, ValueError)
    assert not cvc.validate_cvc(path)["valid"]
    assert not cvc.validate_cvc_integrity(path)["valid"]
    assert not path.with_suffix(".upgraded").exists()


@row("6.3 empty")
def test_an_empty_file(path):
    refused(path, b"", cvc.FormatError, "not a cvc file.*begins with nothing")


@row("6.3 3 bytes")
def test_three_bytes(path):
    refused(path, b"CVC", cvc.FormatError, "not a cvc file")


@row("6.3 bad magic")
def test_another_magic(path, whole):
    refused(path, b"RIFF" + whole[4:], cvc.FormatError, "not a cvc file.*52 49 46 46")


@row("6.3 4-7 bytes")
@pytest.mark.parametrize("length", range(4, 12))
def test_a_few_bytes(path, whole, length):
    refused(path, whole[:length], cvc.FormatError, f"ends at byte {length}.*cut short")


@row("6.3 cut in header")
def test_cut_in_the_header(path, whole):
    refused(path, whole[:100], cvc.FormatError, "ends at byte 100, inside the header.*cut short")


def cut_is_salvaged(path: Path, file: bytes, whole: bytes, chunks: int) -> None:
    """Asserts that a file that is cut in a chunk is refused as such, and that what is before it can be had."""
    path.write_bytes(whole)
    right = cvc.load_cvc(path)
    path.write_bytes(file)
    rows = 16 * chunks
    for function in (cvc.load_cvc, cvc.load_cvc_chunked, cvc.get_cvc_info):
        with pytest.raises(cvc.CorruptedChunkError, match=f"chunk {chunks} is corrupted.*Rows {rows} to 67 are lost"):
            function(path)
    with pytest.warns(RuntimeWarning, match=f"rows {rows} to 67 are corrupted and filled with -1.0") as caught:
        loaded = cvc.load_cvc(path, on_corruption="warn", fill_value=-1.0)
    assert caught[-1].filename == __file__
    assert np.array_equal(loaded[:rows], right[:rows])
    assert (loaded[rows:] == -1).all()


@row("6.3 cut right after header")
def test_cut_after_the_header(path, whole):
    cut_is_salvaged(path, split(whole)[1], whole, 0)


@row("6.3 cut in chunk 0's length")
def test_cut_in_a_length(path, whole):
    cut_is_salvaged(path, whole[: len(split(whole)[1]) + 2], whole, 0)


@row("6.3 cut in payload")
@pytest.mark.parametrize("chunks", range(4))
def test_cut_in_a_payload(path, whole, chunks):
    cut_is_salvaged(path, whole[: len(split(whole)[1]) + 136 * chunks + 50], whole, chunks)


@row("6.3 cut in payload")
@pytest.mark.parametrize("name", ["v0", "mmap"])
def test_cut_in_a_payload_of_other_layouts(path, name):
    if name == "v0":
        cvc.pack_cvc(normal(20, 4), path, chunk_size=8, layout="v0")
        file = path.read_bytes()
    else:
        file = (GOLDEN / "2.1.1" / "mmap_fp16.cvc").read_bytes()
        path.write_bytes(file)
    right = cvc.load_cvc(path)
    path.write_bytes(file[:-3])
    loaded = cvc.load_cvc(path, on_corruption="skip")
    first = {"v0": 16, "mmap": 64}[name]
    assert np.array_equal(loaded[:first], right[:first])
    assert (loaded[first:] == 0).all()


@row("6.3 payload bit flip")
@pytest.mark.parametrize("layout", ["v1", "native"])
def test_a_flipped_bit(path, layout):
    rows = normal(67, 8)
    cvc.pack_cvc(rows, path, "lossless", chunk_size=16, layout=layout)
    file = bytearray(path.read_bytes())
    # In the middle of a file are rows.
    file[len(file) // 2] ^= 4
    path.write_bytes(file)
    (damage,) = cvc.open(path).verify()
    start, stop = damage.rows
    for call in (
        lambda: cvc.load_cvc(path),
        lambda: list(cvc.load_cvc_chunked(path)),
        lambda: cvc.load_cvc_range(path, rows=slice(None)),
    ):
        with pytest.raises(cvc.CorruptedChunkError, match="corrupted.*CRC32"):
            call()
    with pytest.raises(cvc.CorruptedChunkError, match=f"rows {start} to {stop} are corrupted"):
        cvc.load_cvc(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = cvc.load_cvc(path, on_corruption="skip", fill_value=9)
    expected = rows.copy()
    expected[start:stop] = 9
    assert np.array_equal(loaded, expected)
    with pytest.warns(RuntimeWarning, match=f"rows {start} to {stop} are corrupted and filled with 9") as caught:
        cvc.load_cvc(path, on_corruption="warn", fill_value=9)
    assert caught[-1].filename == __file__
    # What is not damaged can be had without a word.
    assert np.array_equal(cvc.load_cvc_range(path, rows=slice(stop, None)), rows[stop:])
    report = cvc.validate_cvc_integrity(path)
    assert report["corrupted_ranges"] == [(start, stop)] and not report["valid"]


@row("6.3 header min/scale altered")
def test_altered_parameters_are_not_noticed_in_cvcf_but_in_native_files(path, whole):
    header, _, payloads = split(whole)
    header["chunks"][0]["scale"] *= 2
    path.write_bytes(cvcf(header, *payloads))
    # Nothing in the layout can tell; `layout="native"` has checksums for all that is in the file.
    assert cvc.validate_cvc_integrity(path)["valid"]
    cvc.pack_cvc(normal(67, 8), path, "int8", layout="native")
    file = path.read_bytes()
    with cvc.open(path) as native:
        right = native.vectors[:]
    for position in range(0, len(file), 7):
        damaged = bytearray(file)
        damaged[position] ^= 0x10
        try:
            with cvc.open(bytes(damaged)) as native:
                assert native.verify() or np.array_equal(native.vectors[:], right)
        except cvc.CvcError:
            pass


@row("6.3 trailing bytes")
def test_bytes_after_the_end_are_ignored(path, whole):
    right = cvc.load_cvc(path)
    path.write_bytes(whole + b"more")
    assert np.array_equal(cvc.load_cvc(path), right)
    assert cvc.validate_cvc(path)["valid"]


@row("6.3 header_len huge")
def test_a_huge_header(path, whole):
    refused(path, whole[:8] + b"\xff\xff\xff\x7f" + whole[12:], cvc.FormatError, "inside the header")


@row("6.3 header a list")
@pytest.mark.parametrize("version", [None, (1, 0)], ids=["v0", "v1"])
def test_a_header_that_is_a_list(path, version):
    refused(path, cvcf([1, 2, 3], version=version), cvc.FormatError, "JSON object")


@row("6.3 missing key")
@pytest.mark.parametrize("key", ["num_vectors", "dimension", "compression", "chunks", "rows", "min", "scale"])
def test_a_missing_key(path, whole, key):
    header, _, payloads = split(whole)
    (header if key in header else header["chunks"][0]).pop(key)
    refused(path, cvcf(header, *payloads), cvc.FormatError, f"{key} is missing")


@row("6.3 unknown compression in file")
def test_an_unknown_compression(path, whole):
    header, _, payloads = split(whole)
    refused(
        path,
        cvcf({**header, "compression": "zstd"}, *payloads),
        cvc.FormatError,
        'compression is "zstd", expected one of',
    )


@row("6.3 major 3..10")
@pytest.mark.parametrize("major", [3, 10])
def test_a_newer_version(path, whole, major):
    refused(
        path,
        whole[:4] + bytes([major]) + whole[5:],
        cvc.FormatError,
        f"unknown layout version {major}.0.*newer version",
    )


@row("6.3 unknown compression arg")
@pytest.mark.parametrize(("layout", "known"), [("v0", "fp16, int8"), ("v1", "fp16, int8, lossless")])
def test_packing_with_an_unknown_compression(path, layout, known):
    with pytest.raises(cvc.ArgumentError, match=f"zstd.*has the codecs {known}$"):
        cvc.pack_cvc(normal(4, 4), path, "zstd", layout=layout)
    with pytest.raises(cvc.ArgumentError, match="one of v0, v1, v2, native"):
        cvc.pack_cvc(normal(4, 4), path, layout="v9")
    assert os.listdir(path.parent) == []


@row("6.3 unknown backend")
@pytest.mark.parametrize("arguments", [{"backend": "rust"}, {"device": "tpu"}, {"device": "cuda", "backend": "cpp"}])
def test_unknown_backends_and_devices(path, whole, arguments):
    for function in (cvc.load_cvc, cvc.load_cvc_chunked, cvc.load_cvc_range, cvc.load_cvc_columns):
        with pytest.raises(cvc.ArgumentError, match=f"{list(arguments)[-1]} = "):
            function(path, **arguments)


@row("6.3 backend=cpp")
@pytest.mark.parametrize("backend", ["auto", "python", "cpp", "cpu"])
def test_the_processor_by_all_its_names(path, whole, backend):
    assert cvc.load_cvc(path, backend=backend).shape == (67, 8)
    assert cvc.load_cvc_range(path, rows=[66, 0, 0], backend=backend).shape == (3, 8)


@row("6.3 backend=cuda/triton on cpu")
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_a_card_that_decodes_to_the_processor(path, whole, backend):
    right = cvc.load_cvc(path)
    if cvc.get_available_backends()["cuda"]:
        assert np.array_equal(cvc.load_cvc(path, backend=backend), right)
    else:
        with pytest.raises(cvc.DeviceError, match="not available") as caught:
            cvc.load_cvc(path, backend=backend)
        assert isinstance(caught.value, RuntimeError)


@row("6.3 device=cuda without torch")
def test_a_missing_package_is_named(path, whole, card, monkeypatch):
    for name in ("torch", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ModuleNotFoundError, match=f"arrays of {name}, which is not installed") as caught:
            cvc.load_cvc(path, device="cuda", framework=name)
        assert isinstance(caught.value, cvc.DeviceError)


@row("6.3 device=cuda, framework=numpy")
def test_a_framework_without_devices(path, whole):
    with pytest.raises(cvc.ArgumentError, match="Unsupported framework: 'numpy'"):
        cvc.load_cvc(path, device="cuda", framework="numpy")
    assert isinstance(cvc.load_cvc(path, framework="anything"), np.ndarray), "it says nothing on the processor"


@row("6.3 chunk index out of range")
@pytest.mark.parametrize("index", [5, 9, -1])
def test_chunks_that_are_not_there(path, whole, index):
    for function in (cvc.load_cvc_chunked, cvc.load_cvc_range):
        # At once, not when the first chunk is asked for.
        with pytest.raises(
            cvc.ArgumentError, match=rf"Invalid chunk index {index}\. File has 5 chunks \(indices 0-4\)"
        ):
            function(path, chunk_indices=[0, index])


@row("6.3 section filter, file without sections")
def test_sections_of_a_file_without(path, whole):
    with pytest.raises(cvc.ArgumentError, match="does not have section metadata.*found by metadata_key"):
        cvc.load_cvc_range(path, section_key="n", section_value=1)
    cvc.pack_cvc_columns({"a": normal(4)}, path)
    with pytest.raises(cvc.ArgumentError, match="does not have section metadata"):
        cvc.load_cvc_columns(path, section_key="n", section_value=1)


@row("6.3 no match")
def test_nothing_that_matches(path, whole):
    with pytest.raises(cvc.ArgumentError, match="No chunks found with n=77"):
        cvc.load_cvc_range(path, metadata_key="n", metadata_value=77)
    cvc.pack_cvc_sections([(normal(4, 2), {"s": 1})], path)
    with pytest.raises(cvc.ArgumentError, match="No sections found with s=2"):
        cvc.load_cvc_range(path, section_key="s", section_value=2)
    with pytest.raises(cvc.ArgumentError, match="exclude each other"):
        cvc.load_cvc_range(path, section_key="s", section_value=1, rows=[1])


@row("6.3 chunk_size=0")
def test_a_chunk_without_rows(path):
    rows = normal(4, 4)
    calls = (
        lambda: cvc.pack_cvc(rows, path, chunk_size=0),
        lambda: cvc.pack_cvc_sections([(rows, {})], path, chunk_size=0),
        lambda: cvc.pack_cvc_columns({"a": rows}, path, chunk_size=0),
        lambda: cvc.pack_cvc(rows, path, chunk_size=0, layout="native"),
    )
    for call in calls:
        with pytest.raises(cvc.ArgumentError, match="chunk_size = 0: a chunk has at least one row"):
            call()
    assert os.listdir(path.parent) == []


@row("6.3 cut in payload")
def test_columns_of_a_file_that_is_cut(path):
    columns_file(path)
    path.write_bytes(path.read_bytes()[:-1])
    for function in (cvc.load_cvc_columns, cvc.list_columns, lambda path: cvc.delete_column(path, "text")):
        with pytest.raises(cvc.CorruptedChunkError, match="chunk 3 is corrupted.*Rows 48 to 50"):
            function(path)


# What no row is about.


@pytest.mark.parametrize("layout", ["v2", "native"])
def test_edits_refuse_what_makes_no_sense(path, layout):
    cvc.pack_cvc_columns({"a": normal(4, 2), "b": np.arange(4)}, path, layout=layout)
    before = path.read_bytes()
    wrong: list[tuple[str, Callable[[], None]]] = [
        ("'a' already exists: use update_column", lambda: cvc.add_column(path, "a", normal(4))),
        ("New column must have 4 vectors, got 3", lambda: cvc.add_column(path, "c", normal(3))),
        ("Updated column must have 4 vectors, got 5", lambda: cvc.update_column(path, "b", normal(5))),
        ("'c' not found", lambda: cvc.update_column(path, "c", normal(4))),
        ("'c' not found", lambda: cvc.delete_column(path, "c")),
        ("'c' not found", lambda: cvc.rename_column(path, "c", "d")),
        ("'b' already exists", lambda: cvc.rename_column(path, "a", "b")),
        ("'c' not found", lambda: cvc.load_cvc_columns(path, ["a", "c"])),
        ("a list of names is needed", lambda: cvc.load_cvc_columns(path, "a")),
        ("needs a section_key", lambda: cvc.load_cvc_columns(path, section_value=1)),
        ("a single value has no rows", lambda: cvc.add_column(path, "c", 1.5)),
    ]
    for match, call in wrong:
        with pytest.raises(cvc.ArgumentError, match=match):
            call()
    assert path.read_bytes() == before
    cvc.delete_column(path, "a")
    with pytest.raises(cvc.ArgumentError, match="last column"):
        cvc.delete_column(path, "b")


def test_edits_can_go_to_another_file(path):
    for layout in ("v2", "native"):
        cvc.pack_cvc_columns({"a": normal(4, 2), "b": np.arange(4)}, path, layout=layout)
        before = path.read_bytes()
        other = path.with_name("other.cvc")
        cvc.rename_column(path, "b", "c", output_path=other)
        assert path.read_bytes() == before
        assert list(cvc.load_cvc_columns(other)) == ["a", "c"]


def test_reports_are_printed_if_asked_for(path, capsys):
    cvc.pack_cvc(normal(20, 4), path, chunk_size=8)
    file = bytearray(path.read_bytes())
    file[-1] ^= 1
    path.write_bytes(file)
    report = cvc.validate_cvc_integrity(path, verbose=True)
    assert [detail["valid"] for detail in report["checksum_details"]] == [True, True, False]
    assert report["checksum_details"][2]["expected_crc32"] != report["checksum_details"][2]["actual_crc32"]
    assert "Chunk 2: CORRUPTED (rows 16 to 20)" in capsys.readouterr().out
    with pytest.raises(cvc.CorruptedChunkError, match="chunk 2"):
        cvc.upgrade_cvc(path, path.with_name("other.cvc"))
    assert os.listdir(path.parent) == ["file.cvc"]
    cvc.pack_cvc(normal(4, 4), path, layout="v0")
    cvc.upgrade_cvc(path, path.with_name("other.cvc"), verbose=True)
    assert "(v0.1)" in capsys.readouterr().out
    with pytest.raises(cvc.ArgumentError, match="v1 or native"):
        cvc.upgrade_cvc(path, path.with_name("third.cvc"), layout="v2")
    native = path.with_name("native.cvc")
    cvc.pack_cvc(normal(4, 4), native, layout="native")
    with pytest.raises(cvc.ArgumentError, match="layout native"):
        cvc.upgrade_cvc(native, path.with_name("third.cvc"))
    assert not path.with_name("third.cvc").exists()


def test_all_rows_if_none_are_chosen(path):
    rows = normal(20, 4)
    cvc.pack_cvc({"vectors": rows, "ids": np.arange(20)}["vectors"], path, "lossless")
    assert np.array_equal(cvc.load_cvc_range(path), rows)
    assert np.array_equal(cvc.load_cvc_range(path, rows=np.arange(20) % 2 == 1), rows[1::2])
    cvc.pack({"ids": np.arange(20), "vectors": rows}, path)
    assert cvc.load_cvc(path).shape == (20, 4), "the array of that name, if there are several"


def test_bytes_and_files_are_loaded_too(path):
    rows = normal(20, 4)
    cvc.pack_cvc(rows, path, "lossless", chunk_size=8)
    file = path.read_bytes()
    assert np.array_equal(cvc.load_cvc(file), rows)
    with open(path, "rb") as opened:
        assert np.array_equal(cvc.load_cvc_range(opened, chunk_indices=[2]), rows[16:])
    damaged = bytearray(file)
    damaged[-1] ^= 1
    assert np.array_equal(cvc.load_cvc(bytes(damaged), on_corruption="skip")[:16], rows[:16])
    with pytest.raises(cvc.FormatError):
        cvc.load_cvc(file[:-1], on_corruption="skip")


def test_sections_in_chunks_that_are_damaged(path):
    rows = normal(20, 4)
    cvc.pack_cvc_sections(
        [(rows[:4], 1), (rows[4:8], {"s": 1}), (rows[8:12], 2), (rows[12:], {"s": 1})], path, chunk_size=4
    )
    file = bytearray(path.read_bytes())
    file[-1] ^= 1
    path.write_bytes(file)
    with pytest.raises(cvc.CorruptedChunkError, match="rows 16 to 20 are corrupted"):
        cvc.load_cvc_range(path, section_key="s", section_value=1)


def test_packing_takes_arrays_of_others(path):
    class Tensor:
        def __init__(self, rows):
            self.__dlpack__ = rows.__dlpack__
            self.__dlpack_device__ = rows.__dlpack_device__

    rows = normal(4, 4)
    cvc.pack_cvc(Tensor(rows), path, "lossless")
    assert np.array_equal(cvc.load_cvc(path), rows)
    cvc.pack_cvc(rows.tolist(), path)
    assert cvc.load_cvc(path).shape == (4, 4)
    ml_dtypes = pytest.importorskip("ml_dtypes")
    brain = rows.astype(ml_dtypes.bfloat16)
    brain[2, 1] = 1e30
    with pytest.raises(cvc.EncodeError, match="row 2, column 1"):
        cvc.pack_cvc(brain, path)


def test_packing_refuses_what_makes_no_sense(path):
    rows = normal(4, 4)
    wrong: dict[str, Callable[[], None]] = {
        "sections cannot be empty": lambda: cvc.pack_cvc_sections([], path),
        "data cannot be empty": lambda: cvc.pack_cvc_columns({}, path),
        "different dimensions": lambda: cvc.pack_cvc_sections([(rows, 0), (rows[:, :2], 1)], path),
        "same number of vectors": lambda: cvc.pack_cvc_columns({"a": rows, "b": rows[:2]}, path),
        "has the columns": lambda: cvc.pack_cvc_sections_columnar([({"a": rows}, 0), ({"b": rows}, 0)], path),
        "rows and dims are needed": lambda: cvc.pack_cvc(rows[0], path),
        "section 1 has shape": lambda: cvc.pack_cvc_sections([(rows, 0), (rows[0], 1)], path),
        "use pack_cvc_sections_columnar": lambda: cvc.pack_cvc_sections([(rows, 0)], path, layout="v2"),
        "must have 2 items": lambda: cvc.pack_cvc(rows, path, chunk_size=2, chunk_metadata=[{}]),
        "pack_cvc_columns": lambda: cvc.pack_cvc(rows, path, layout="v2"),
        "is a matter of layout v1": lambda: cvc.pack_cvc(rows, path, layout="native", mmap_optimized=True),
    }
    for match, call in wrong.items():
        with pytest.raises(cvc.ArgumentError, match=match):
            call()
    assert os.listdir(path.parent) == []


def test_sections_of_several_dtypes_are_stacked_as_numpy_would(path):
    low, high = np.arange(6, dtype="i2").reshape(3, 2), normal(2, 2)
    cvc.pack_cvc_sections([(low, 0), (high, 1)], path, "lossless")
    assert np.array_equal(cvc.load_cvc(path), np.vstack([low, high]).astype("f4"))


def test_native_files_answer_as_cvcf_files_do(path):
    rows = normal(20, 3)
    said = [{"n": 0}, {"n": 1}, {"n": 0}]
    cvc.pack_cvc(rows, path, "lossless", chunk_size=8, chunk_metadata=said, layout="native")
    info = cvc.get_cvc_info(path)
    assert (info["format_type"], info["layout"], info["num_vectors"], info["dimension"]) == ("single", "native", 20, 3)
    found = cvc.load_cvc_range(path, metadata_key="n", metadata_value=0)
    assert np.array_equal(found, np.concatenate([rows[:8], rows[16:]]))
    assert cvc.validate_cvc(path)["version"] == "native"
    assert not cvc.validate_cvc_version(path)["needs_upgrade"]
    with pytest.raises(cvc.ArgumentError, match="layout native"):
        cvc.detect_version(path)
    assert cvc.validate_cvc_integrity(path, verbose=True)["checksum_details"][2]["vector_range"] == (16, 20)


def test_a_file_of_one_kind_says_what_reads_it(path):
    cvc.pack_cvc(normal(4, 4), path)
    for function in (cvc.load_cvc_columns, cvc.list_columns, lambda path: cvc.delete_column(path, "vectors")):
        with pytest.raises(cvc.ArgumentError, match="not columnar"):
            function(path)
    cvc.pack_cvc_columns({"a": normal(4, 4), "b": normal(4)}, path)
    with pytest.raises(cvc.ArgumentError, match=r"columns \['a', 'b'\]: use load_cvc_columns"):
        cvc.load_cvc(path)


def test_half_floats_become_float32(path):
    rows = normal(4, 4).astype("f2")
    cvc.pack_cvc(rows, path, "raw", layout="native")
    assert cvc.load_cvc(path).dtype == np.float32
    assert np.array_equal(cvc.load_cvc_range(path, chunk_indices=[0, 0]), np.concatenate([rows, rows]))
    assert np.array_equal(cvc.load_cvc(path), rows)


def test_a_filled_file_of_no_whole_chunk_has_a_limit(path):
    header = {
        "num_vectors": 2**50,
        "dimension": 8,
        "compression": "fp16",
        "chunks": [{"rows": 2**50, "compression": "fp16"}],
    }
    path.write_bytes(cvcf(header))
    with pytest.raises((cvc.LimitError, cvc.FormatError)):
        cvc.load_cvc(path, on_corruption="skip")


def test_whatever_is_in_a_file_errors_are_those_of_the_package(path):
    rows = normal(40, 4)
    files = []
    for layout in ("v0", "v1", "native"):
        cvc.pack_cvc(rows, path, "int8", 16, [{"n": n} for n in range(3)], layout=layout)
        files.append(path.read_bytes())
    cvc.pack_cvc(rows, path, chunk_size=16, mmap_optimized=True)
    files.append(path.read_bytes())
    cvc.pack_cvc_sections_columnar([({"a": rows, "b": np.arange(40)}, {"s": 1})], path, {"a": "int8"}, 16)
    files.append(path.read_bytes())
    other = path.with_name("other.cvc")

    def mapped(path):
        with cvc.MMapCVCLoader(path) as loader:
            return [loader.get_chunk_view(chunk) for chunk in range(loader.header["num_chunks"])], loader.load()

    calls: list[Callable[[Path], Any]] = [
        lambda path: cvc.load_cvc(path, on_corruption="skip"),
        lambda path: list(cvc.load_cvc_chunked(path)),
        lambda path: cvc.load_cvc_range(path, metadata_key="n", metadata_value=1),
        lambda path: cvc.load_cvc_range(path, section_key="s", section_value=1),
        cvc.load_cvc_columns,
        cvc.get_cvc_info,
        lambda path: cvc.validate_cvc(path)["errors"],
        lambda path: cvc.validate_cvc_integrity(path)["valid"],
        lambda path: cvc.upgrade_cvc(path, other),
        lambda path: cvc.delete_column(path, "a", output_path=other),
        lambda path: cvc.add_column(path, "c", np.arange(40), output_path=other),
        mapped,
    ]
    random = np.random.default_rng(0)
    pieces = [b"", b"0", b"-1", b"null", b"1e9", b"[]", b"{}", b'"x"', b"99999999999"]
    for _ in range(400):
        file = bytearray(files[random.integers(len(files))])
        start = int(random.integers(min(len(file), 600)))
        match random.integers(3):
            case 0:
                del file[random.integers(len(file)) :]
            case 1:
                file[start] = random.integers(256)
            case 2:
                file[start : start + random.integers(20)] = pieces[random.integers(len(pieces))]
        path.write_bytes(file)
        for call in calls:
            other.unlink(missing_ok=True)
            with contextlib.suppress(cvc.CvcError):
                call(path)
    # An offset before the frame that it is of, in a file that is cut.
    header, _, payloads = split(files[3])
    header["chunks"][0]["file_offset"] = -1
    path.write_bytes(cvcf(header, *payloads)[:-1])
    with pytest.raises(cvc.FormatError):
        cvc.load_cvc(path)


def test_guards_see_every_row():
    guard = pack._Guard("a", "int8", 4)
    for start in range(0, 10, 3):
        guard.look(np.full((3, 1), start, "f4"))
    with pytest.raises(cvc.EncodeError, match="row 13"):
        guard.look(np.array([[1], [np.nan]], "f4"))
