"""Opening files, and what they say of themselves."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import cvc


def test_a_file_lists_its_arrays_in_order(file: cvc.File) -> None:
    assert list(file) == file.keys() == list(file.arrays) == ["vectors", "names", "labels"]
    assert len(file) == 3 and "names" in file and "other" not in file
    assert file.layout == "native" and file.metadata == {"made": "for tests"}
    with pytest.raises(KeyError, match="vectors.*names.*labels"):
        file["other"]


def test_an_array_says_what_it_is(file: cvc.File, packed: bytes) -> None:
    vectors, names, labels = file.arrays.values()
    assert (vectors.shape, vectors.ndim, vectors.size, len(vectors)) == ((2000, 384), 2, 768_000, 2000)
    assert (vectors.dtype, vectors.stored_dtype, vectors.codec) == (np.dtype("f4"), "float32", "int8")
    assert vectors.codec_options == {"scope": "row"}
    assert vectors.nbytes == 2000 * 384 * 4 and vectors.stored_len < vectors.nbytes / 3.8
    assert 0 < vectors.loss["max_abs_error"] < 0.01 and vectors.loss["min_cosine"] > 0.999
    assert [chunk.stop for chunk in vectors.chunks] == [512, 1024, 1536, 2000]
    assert (names.shape, names.dtype, names.stored_dtype) == ((2000,), np.dtype("O"), "str")
    assert (labels.shape, labels.dtype, labels.codec, labels.loss["mse"]) == ((2000,), np.dtype("i4"), "raw", 0)
    assert file.file_len == len(packed)


@pytest.mark.parametrize("kind", ["path", "str", "file", "bytesio", "url", "bytearray", "memoryview", "reads only", "mmap"])
def test_all_kinds_of_sources_give_the_same_rows(kind: str, packed: bytes, tmp_path: Path, file: cvc.File) -> None:
    path = tmp_path / "all ü.cvc"
    path.write_bytes(packed)

    class ReadsOnly:
        def __init__(self) -> None:
            self.file = open(path, "rb")

        def seek(self, to: int, whence: int = 0) -> int:
            return self.file.seek(to, whence)

        def read(self, count: int) -> bytes:
            return self.file.read(min(count, 1000))

    sources = {
        "path": lambda: path,
        "str": lambda: str(path),
        "mmap": lambda: path,
        "file": lambda: open(path, "rb"),
        "bytesio": lambda: io.BytesIO(packed),
        "url": lambda: path.as_uri(),
        "bytearray": lambda: bytearray(packed),
        "memoryview": lambda: memoryview(packed),
        "reads only": ReadsOnly,
    }
    with cvc.open(sources[kind](), mmap=kind == "mmap") as opened:
        assert np.array_equal(opened.vectors[:], file.vectors[:])
        assert np.array_equal(opened["names"][::-7], file["names"][::-7])
        assert opened.verify() == []


def test_what_is_not_a_source_is_refused() -> None:
    with pytest.raises(TypeError):
        cvc.open(3)
    with pytest.raises(cvc.FormatError):
        cvc.open(b"")
    with pytest.raises(cvc.FormatError):
        cvc.open(io.BytesIO(b"nothing of ours" * 10))


def test_a_source_that_fails_says_what_it_said(packed: bytes) -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: object) -> int:
            raise ConnectionResetError("the line is dead")

    with pytest.raises(OSError, match="the line is dead"):
        cvc.open(Broken(packed))


def test_errors_of_the_system_are_those_of_python(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cvc.open(tmp_path / "missing.cvc")
    assert isinstance(caught.value, cvc.CvcError) and caught.value.filename == str(tmp_path / "missing.cvc")
    with pytest.raises(IsADirectoryError):
        cvc.open(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"[^:]$"):
        cvc.pack(np.zeros((1, 1), "f4"), tmp_path / "no" / "such" / "folder.cvc")


def test_a_closed_file_and_its_arrays_cannot_be_read(packed: bytes) -> None:
    with cvc.open(packed) as file:
        array, where = file.vectors, file.where(source="wiki")
        values = array[:3]
    assert file.closed and "closed" in repr(file) and "closed" in file._repr_html_()
    for attempt in (lambda: array[0], lambda: file.arrays, lambda: where["vectors"], lambda: array.shape):
        with pytest.raises(ValueError, match="closed"):
            attempt()
    assert values.shape == (3, 384)
    file.close()


def test_sections_are_found_by_what_they_say(file: cvc.File) -> None:
    assert file.sections[1] == cvc.Section(700, 1500, {"source": "arxiv", "year": 2024})
    wiki = file.where(source="wiki")
    assert wiki.ranges == [range(0, 700), range(1500, 2000)] and len(wiki) == 1200
    rows = np.r_[0:700, 1500:2000]
    assert np.array_equal(wiki["labels"], rows)
    assert np.array_equal(file["names"][wiki], file["names"][rows])
    assert np.array_equal(wiki.read(dtype="f2"), file.vectors.read(rows, dtype="f2"))
    assert len(file.where({"source": "arxiv"}, year=2024.0)) == 800
    assert len(file.where(year=True)) == 0 and file.where(year=True)["vectors"].shape == (0, 384)
    assert len(file.where()) == 2000
    with pytest.raises(ValueError, match="no sections"):
        cvc.open(cvc.pack(np.zeros((2, 2), "f4"))).where(source="wiki")


def test_metadata_comes_back_as_json_has_it() -> None:
    metadata = {"a": [1, 2.5, None, True, "ü", {"big": 2**80}], "np": np.float32(0.5), "tuple": (1, 2), "nested": {"x": {}}}
    file = cvc.open(cvc.pack(np.zeros((4, 2), "f4"), metadata=metadata, sections=[(1, 3, {"n": np.int64(3)})]))
    assert file.metadata == {"a": [1, 2.5, None, True, "ü", {"big": 2**80}], "np": 0.5, "tuple": [1, 2], "nested": {"x": {}}}
    assert file.sections[0].metadata == {"n": 3}
    with pytest.raises(TypeError, match="JSON"):
        cvc.pack(np.zeros((1, 1), "f4"), metadata={"a": object()})


def test_damage_is_found_and_named(packed: bytes, minilm: np.ndarray, tmp_path: Path) -> None:
    damaged = bytearray(packed)
    where = len(packed) // 3
    damaged[where] ^= 1
    file = cvc.open(bytes(damaged))
    [damage] = file.verify()
    assert damage.array == "vectors" and any(start <= where < stop for start, stop in damage.bytes)
    lost = range(*damage.rows)
    with pytest.raises(cvc.CorruptedChunkError, match="damaged") as caught:
        file.vectors[:]
    assert isinstance(caught.value, ValueError)
    assert file.vectors.damaged_rows() == [damage.rows]
    whole = cvc.open(packed).vectors[:]
    kept = np.delete(np.arange(2000), lost)
    assert np.array_equal(file.vectors.read(on_damage="skip"), whole[kept])
    filled = file.vectors.read(on_damage="fill")
    assert np.isnan(filled[lost]).all() and np.array_equal(filled[kept], whole[kept])
    with pytest.raises(ValueError, match="on_damage"):
        file.vectors.read(on_damage="ignore")
    unchecked = cvc.open(bytes(damaged), checksums=False).vectors[:]
    assert np.array_equal(unchecked[kept], whole[kept])
    lost_rows = file.repair(tmp_path / "rest.cvc")
    assert lost_rows == {"vectors": [damage.rows]}
    assert len(cvc.open(tmp_path / "rest.cvc").vectors) == 2000 - len(lost)


def test_damaged_scalars_and_strings_are_filled(names: list[str]) -> None:
    for values in (np.arange(100_000), [*names, "a" * 100_000]):
        packed = bytearray(cvc.pack({"vectors": values}, codec="raw"))
        packed[3000] ^= 1
        with pytest.raises(cvc.CorruptedChunkError):
            cvc.load_cvc(bytes(packed))
        filled = cvc.open(bytes(packed)).vectors.read(on_damage="fill")
        assert len(filled) == len(values) and filled[0] in (0, "")
    packed = bytearray(cvc.pack({"vectors": np.arange(100_000)}, codec="raw"))
    packed[3000] ^= 1
    assert cvc.load_cvc(bytes(packed), on_corruption="skip", fill_value=7)[0] == 7


def test_layouts_are_converted_bit_for_bit(minilm: np.ndarray, tmp_path: Path) -> None:
    cvc.pack(minilm, tmp_path / "v1.cvc", "int8", layout="v1", chunk_rows=300)
    with cvc.open(tmp_path / "v1.cvc") as old:
        old.convert(tmp_path / "native.cvc")
        with cvc.open(tmp_path / "native.cvc") as new:
            assert (old.layout, new.layout) == ("v1", "native")
            assert np.array_equal(old.vectors[:], new.vectors[:])
        with pytest.raises(FileExistsError):
            old.convert(tmp_path / "native.cvc", overwrite=False)


def test_files_show_themselves(file: cvc.File) -> None:
    text = repr(file)
    assert "vectors" in text and "2000 x 384 float32, int8" in text and "3 sections" in text
    html = file._repr_html_()
    assert html.count("position:absolute") == 3 and "2,000 × 384" in html
    assert "int8" in repr(file.vectors) and "int8" in file.vectors._repr_html_()
    evil = cvc.open(cvc.pack({"<script>": np.zeros((1, 1), "f4")}, sections=[(0, 1, {"a": "<b>'\""})]))
    assert "<script>" not in evil._repr_html_() and "<b>'" not in evil._repr_html_().replace("<b>bytes</b>", "")


def test_memory_is_bounded_by_what_the_caller_allows(packed: bytes) -> None:
    file = cvc.open(packed, max_bytes=1000)
    assert file.vectors[0].shape == (384,) if 384 * 4 <= 1000 else True
    with pytest.raises(cvc.LimitError):
        file.vectors[:]


def test_devices_say_why() -> None:
    devices = cvc.devices()
    assert devices[-1]["backend"] == "cpu" and devices[-1]["available"]
    assert all(device["reason"] for device in devices)
    file = cvc.open(cvc.pack(np.zeros((2, 2), "f4")))
    with pytest.raises(cvc.DeviceError, match="wgpu:99"):
        file.vectors.read(backend="wgpu:99")
    with pytest.raises(ValueError):
        file.vectors.read(backend="abacus")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_a_permission_error(tmp_path: Path) -> None:
    path = tmp_path / "secret.cvc"
    path.write_bytes(b"")
    path.chmod(0)
    with pytest.raises(PermissionError):
        cvc.open(path)


def test_open_files_are_not_pickled(file: cvc.File) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(file)
