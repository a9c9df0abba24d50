"""`cvc.convert`, against the readers and writers that the other formats have of their own."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA

import cvc

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
safetensors = pytest.importorskip("safetensors.numpy")
zarr = pytest.importorskip("zarr")

try:
    import torch
except ImportError:
    torch = None

with_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")


@pytest.fixture(scope="session")
def labels() -> list[str]:
    return json.loads((DATA / "minilm2k.labels.json").read_text())


@pytest.fixture(scope="session")
def sections() -> list[cvc.Section]:
    listed = json.loads((DATA / "minilm2k.sections.json").read_text())
    return [cvc.Section(of["start"], of["start"] + of["count"], of["metadata"]) for of in listed]


@pytest.fixture
def file(tmp_path, minilm, names, sections) -> Path:
    """Real vectors with 58 sections, names, numbers, metadata, and where they come from."""
    path = tmp_path / "file.cvc"
    arrays = {"vectors": minilm, "name": names, "id": np.arange(len(minilm), dtype="u4")}
    said = {"vectors": {"model": "all-MiniLM-L6-v2"}}
    cvc.pack(arrays, path, {"vectors": "raw"}, sections=sections, metadata={"year": 2024, "made": "for tests"}, provenance=said)
    return path


def table(minilm, names, labels, *, lists: bool):
    flat = pa.array(minilm.ravel())
    embedding = (
        pa.ListArray.from_arrays(np.arange(0, minilm.size + 1, 384, dtype="i4"), flat)
        if lists
        else pa.FixedSizeListArray.from_arrays(flat, 384)
    )
    count = len(minilm)
    columns = {
        "id": pa.array(np.arange(count)),
        "section": pa.array(labels),
        "name": pa.array(names, pa.large_string()),
        "embedding": embedding,
        "half": pa.array(np.arange(count).astype("f2")),
        "even": pa.array(np.arange(count) % 2 == 0),
    }
    return pa.table(columns).replace_schema_metadata({"model": "all-MiniLM-L6-v2"})


def write(of, path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(of, path, row_group_size=700)
    else:
        with pa.ipc.new_file(path, of.schema) as writer:
            writer.write_table(of, max_chunksize=700)


def read(path: Path):
    return pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path).read_all()


def left(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("lists", [False, True], ids=["fixed", "lists"])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
def test_tables_with_58_sections_by_a_label_come_back_equal(tmp_path, minilm, names, labels, sections, suffix, lists):
    before, packed, after = tmp_path / f"a{suffix}", tmp_path / "a.cvc", tmp_path / f"b{suffix}"
    given = table(minilm, names, labels, lists=lists)
    write(given, before)
    done = cvc.convert(before, packed, sections_from="section")
    assert done == (2000, ["id", "name", "embedding", "half", "even"], 58, [])
    with cvc.open(packed) as f:
        assert f.sections == sections
        assert f["embedding"].codec == "raw" and f["half"].dtype == np.float16
        np.testing.assert_array_equal(f["embedding"][:], minilm)
        assert f.metadata["model"] == "all-MiniLM-L6-v2"
    assert cvc.convert(packed, after) == done
    back = read(after)
    assert back.schema.equals(given.schema)
    assert back.equals(given)
    assert back.schema.metadata[b"model"] == b"all-MiniLM-L6-v2"
    # Sorted by somebody else since, it is still read right: the column says what a row belongs to, not its number.
    write(back.take(pa.array(np.arange(2000)[::-1])), after)
    cvc.convert(after, packed)
    with cvc.open(packed) as f:
        assert [section.metadata for section in f.sections] == [section.metadata for section in sections[::-1]]
    assert left(tmp_path) == sorted({"a.cvc", before.name, after.name})


def test_categories_nulls_and_columns_left_out(tmp_path, minilm):
    path, packed = tmp_path / "a.parquet", tmp_path / "a.cvc"
    kind = pa.array(["x", "x", None, "y"]).dictionary_encode()
    given = pa.table({"kind": kind, "v": pa.FixedSizeListArray.from_arrays(pa.array(minilm[:4].ravel()), 384), "day": pa.array([1, 2, 3, 4], pa.date32())})
    write(given, path)
    with pytest.raises(cvc.FormatError, match=r"column \"day\": it is of Arrow's type Date32.*leave it out with columns"):
        cvc.convert(path, packed)
    assert left(tmp_path) == ["a.parquet"]
    cvc.convert(path, packed, sections_from=["kind"], columns=["kind", "v"])
    with cvc.open(packed) as f:
        assert [tuple(section) for section in f.sections] == [(0, 2, {"kind": "x"}), (3, 4, {"kind": "y"})]
    cvc.convert(packed, tmp_path / "b.arrow")
    back = read(tmp_path / "b.arrow")
    assert back.column("kind").to_pylist() == ["x", "x", None, "y"]


def test_codecs_metadata_and_progress(tmp_path, minilm, names, labels):
    path, packed = tmp_path / "a.parquet", tmp_path / "a.cvc"
    write(table(minilm, names, labels, lists=False), path)
    seen = []
    cvc.convert(path, packed, {"embedding": "int8", "id": "zstd"}, metadata={"a": 1}, progress=lambda *of: seen.append(of), chunk_rows=512)
    assert seen[0] == (0, 2000) and seen[-1] == (2000, 2000)
    with cvc.open(packed) as f:
        assert [f[name].codec for name in ("id", "embedding", "half", "name")] == ["zstd", "int8", "raw", "zstd"]
        assert f.metadata["a"] == 1 and len(f["id"].chunks) == 4

    class Enough(Exception):
        pass

    def stop(*_):
        raise Enough

    with pytest.raises(Enough):
        cvc.convert(path, tmp_path / "b.cvc", progress=stop)
    cvc.convert(path, tmp_path / "c.cvc", "fp16", progress=True)
    assert left(tmp_path) == ["a.cvc", "a.parquet", "c.cvc"]


def test_text_is_gathered_and_bad_text_is_named(tmp_path):
    path, packed = tmp_path / "a.csv", tmp_path / "a.cvc"
    text = "id,source,d0,d1\n1,wiki,0.5,1\n2,arxiv,0.25,2\n"
    path.write_text(text)
    assert cvc.convert(path, packed, vectors="d*", text_dtype="float64", sections_from="source").sections == 2
    with cvc.open(packed) as f:
        np.testing.assert_array_equal(f.vectors[:], np.array([[0.5, 1], [0.25, 2]]))
    cvc.convert(packed, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == text
    path.write_text(text.replace("0.25", "O.25"))
    with pytest.raises(cvc.FormatError, match=r"a\.csv, line 3, column \"d0\": \"O\.25\" is no f32"):
        cvc.convert(path, tmp_path / "c.cvc", vectors="d*")
    assert left(tmp_path) == ["a.csv", "a.cvc", "b.csv"]


def test_safetensors_are_those_of_its_own_package(tmp_path, file, minilm, sections):
    tensors, back = tmp_path / "a.safetensors", tmp_path / "b.cvc"
    assert cvc.convert(file, tensors, columns=["vectors", "id"]).sections == 58
    loaded = safetensors.load_file(tensors)
    np.testing.assert_array_equal(loaded["vectors"], minilm)
    np.testing.assert_array_equal(loaded["id"], np.arange(2000, dtype="u4"))
    cvc.convert(tensors, back)
    with cvc.open(back) as f, cvc.open(file) as before:
        assert f.sections == sections and f.metadata == before.metadata and f.keys() == ["vectors", "id"]
        assert f.vectors.provenance == before.vectors.provenance
    fortran = np.asfortranarray(minilm[:10])
    safetensors.save_file({"a": np.ascontiguousarray(fortran), "b": np.ones((3, 2, 2), "f2")}, tensors, {"format": "np"})
    assert cvc.convert(tensors, back).arrays == ["a", "b"]
    with cvc.open(back) as f:
        np.testing.assert_array_equal(f["a"][:], fortran)
        assert f["b"].shape == (3, 2, 2) and f.metadata["format"] == "np"


@pytest.mark.parametrize("order", ["C", "F"])
def test_matrices_of_numpy_in_either_order(tmp_path, minilm, order):
    np.save(tmp_path / "a.npy", np.asarray(minilm[:50], order=order))
    cvc.convert(tmp_path / "a.npy", tmp_path / "a.cvc")
    cvc.convert(tmp_path / "a.cvc", tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), minilm[:50])
    np.savez_compressed(tmp_path / "a.npz", a=np.asarray(minilm[:50], order=order), b=np.arange(7))
    assert cvc.convert(tmp_path / "a.npz", tmp_path / "c.cvc").arrays == ["a", "b"]
    cvc.convert(tmp_path / "c.cvc", tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as loaded:
        np.testing.assert_array_equal(loaded["a"], minilm[:50])
        np.testing.assert_array_equal(loaded["b"], np.arange(7))


def same(before: Path, after: Path, *, names: list[str]) -> None:
    """Whether arrays, sections, metadata and provenance are equal."""
    with cvc.open(before) as a, cvc.open(after) as b:
        assert b.keys() == names
        for name in names:
            assert a[name].stored_dtype == b[name].stored_dtype and a[name].provenance == b[name].provenance
            np.testing.assert_array_equal(np.asarray(a[name][:]), np.asarray(b[name][:]))
        assert (a.sections, a.metadata) == (b.sections, b.metadata)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_hdf5_of_its_own_package(tmp_path, file, minilm, names, suffix):
    path = tmp_path / f"a{suffix}"
    assert cvc.convert(file, path) == (2000, ["vectors", "name", "id"], 58, [])
    with h5py.File(path) as f:
        np.testing.assert_array_equal(f["vectors"][:], minilm)
        assert list(f["name"].asstr()[:3]) == names[:3] and f["id"].dtype == np.uint32
    cvc.convert(path, tmp_path / "b.cvc")
    same(file, tmp_path / "b.cvc", names=["vectors", "name", "id"])


def test_hdf5_of_others(tmp_path, minilm):
    path, packed = tmp_path / "a.h5", tmp_path / "a.cvc"
    with h5py.File(path, "w") as f:
        f["deep/train"] = minilm[:20]
        f["deep/test"] = minilm[20:23].astype(">f8")
        f.create_dataset("ids", data=np.arange(20), chunks=(7,), compression="gzip")
        f.attrs["distance"] = "angular"
        f.attrs["dims"] = np.int32(384)
    assert cvc.convert(path, packed, {"deep/train": "fp16"}).arrays == ["deep/train", "ids", "deep/test"]
    with cvc.open(packed) as f:
        assert f["deep/train"].codec == "fp16" and f["deep/test"].dtype == np.float64
        np.testing.assert_array_equal(f["deep/test"][:], minilm[20:23].astype("f8"))
        assert f.metadata == {"distance": "angular", "dims": 384}
    with h5py.File(path, "a") as f:
        f["single"] = 1.0
    with pytest.raises(cvc.FormatError, match="single value, without rows; leave it out"):
        cvc.convert(path, tmp_path / "b.cvc")
    for name in ("c.h5", "c.zarr", "c.pt"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    for name in ("c.h5", "c.zarr") + (("c.pt",) if torch else ()):
        with pytest.raises(cvc.FormatError, match=name):
            cvc.convert(tmp_path / name, tmp_path / "b.cvc")
    assert "b.cvc" not in left(tmp_path)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_its_own_package(tmp_path, file, minilm, names, version):
    path = tmp_path / "a.zarr"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="zarr")
        assert cvc.convert(file, path, zarr_format=version) == (2000, ["vectors", "name", "id"], 58, [])
        root = zarr.open_group(path, mode="r")
        assert root.metadata.zarr_format == version
        np.testing.assert_array_equal(root["vectors"][:], minilm)
        assert [str(name) for name in root["name"][:3]] == names[:3]
        cvc.convert(path, tmp_path / "b.cvc")
        same(file, tmp_path / "b.cvc", names=["vectors", "name", "id"])
        # A folder is replaced as a file is.
        cvc.convert(file, path, columns=["id"], zarr_format=version)
        assert list(zarr.open_group(path, mode="r").array_keys()) == ["id"]
        with pytest.raises(FileExistsError):
            cvc.convert(file, path, overwrite=False)
    assert left(tmp_path) == ["a.zarr", "b.cvc", "file.cvc"]


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_others_in_fortran_order(tmp_path, minilm, version):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(50, 384), chunks=(20, 100), dtype="<f4", order="F" if version == 2 else None, zarr_format=version)
    array[:] = minilm[:50]
    array.attrs["model"] = "m"
    assert cvc.convert(path, tmp_path / "a.cvc").arrays == ["vectors"]
    with cvc.open(tmp_path / "a.cvc") as f:
        np.testing.assert_array_equal(f.vectors[:], minilm[:50])
        assert f.metadata == {"model": "m"}


@with_torch
def test_tensors_of_torch(tmp_path, file, minilm, names):
    path = tmp_path / "a.pt"
    assert cvc.convert(file, path) == (2000, ["vectors", "name", "id"], 58, [])
    loaded = torch.load(path, weights_only=True)
    assert torch.equal(loaded["vectors"], torch.from_numpy(minilm)) and loaded["name"] == names
    cvc.convert(path, tmp_path / "b.cvc")
    same(file, tmp_path / "b.cvc", names=["vectors", "name", "id"])
    # Columns side by side in memory, halves of another kind, a dict of a model.
    weights = torch.from_numpy(minilm[:6]).T
    torch.save({"w": weights, "code": os.getcwd}, path)
    with pytest.raises(cvc.FormatError, match="no file of tensors alone"):
        cvc.convert(path, tmp_path / "c.cvc")
    torch.save({"w": weights, "b": torch.ones(384, dtype=torch.bfloat16), "n": torch.arange(3), "lr": 0.1, "odd": [1]}, path)
    with pytest.warns(UserWarning, match="not kept in .*'odd'"):
        assert cvc.convert(path, tmp_path / "c.cvc").arrays == ["w", "b", "n"]
    with cvc.open(tmp_path / "c.cvc") as f:
        np.testing.assert_array_equal(f["w"][:], minilm[:6].T)
        assert f["b"].stored_dtype == "bfloat16" and f.metadata == {"lr": 0.1}
    cvc.convert(tmp_path / "c.cvc", path)
    back = torch.load(path, weights_only=True)
    assert torch.equal(back["w"], weights) and back["b"].dtype == torch.bfloat16
    torch.save(weights, path)
    assert cvc.convert(path, tmp_path / "d.cvc").arrays == ["vectors"]


def test_bfloat16_is_widened_where_there_is_none(tmp_path, minilm):
    import ml_dtypes

    packed = tmp_path / "a.cvc"
    halves = minilm[:9].astype(ml_dtypes.bfloat16)
    cvc.pack(halves, packed, "raw")
    for suffix in (".parquet", ".h5", ".zarr"):
        with pytest.warns(UserWarning, match="bf16"):
            cvc.convert(packed, tmp_path / f"b{suffix}")
        cvc.convert(tmp_path / f"b{suffix}", tmp_path / "b.cvc")
        with cvc.open(tmp_path / "b.cvc") as f:
            np.testing.assert_array_equal(f.vectors[:], halves.astype("f4"))
    cvc.convert(packed, tmp_path / "b.safetensors")
    cvc.convert(tmp_path / "b.safetensors", tmp_path / "b.cvc")
    with cvc.open(tmp_path / "b.cvc") as f:
        assert f.vectors.stored_dtype == "bfloat16"


def test_what_has_no_place_is_said(tmp_path, file):
    with pytest.warns(UserWarning) as said:
        done = cvc.convert(file, tmp_path / "a.fvecs", columns=["vectors"])
    assert [str(one.message).split(": ", 1)[1] for one in said] == done.not_kept
    assert done.not_kept[0].startswith("sections (58)")
    with pytest.raises(cvc.ArgumentError, match="holds strings"):
        cvc.convert(file, tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".safetensors", ".h5"])
def test_files_that_are_cut_leave_nothing(tmp_path, file, suffix):
    path = tmp_path / f"a{suffix}"
    cvc.convert(file, path, columns=["vectors", "id"])
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(cvc.FormatError, match=f"a\\{suffix}"):
            cvc.convert(path, tmp_path / "b.cvc")
    assert left(tmp_path) == [path.name, "file.cvc"]


def test_ragged_lists_and_nulls_name_their_row(tmp_path):
    path = tmp_path / "a.parquet"
    for rows, message in [
        ([[1.0, 2.0], [3.0]], "row 1 is of another length"),
        ([[1.0, 2.0], None], "row 1 is null"),
        ([[1.0, None]], "row 0 has a null in it"),
    ]:
        pq.write_table(pa.table({"v": pa.array(rows, pa.list_(pa.float32()))}), path)
        with pytest.raises(cvc.FormatError, match=f"a.parquet: column \"v\": {message}"):
            cvc.convert(path, tmp_path / "b.cvc")
    assert left(tmp_path) == ["a.parquet"]


def test_calls_that_make_no_conversion(tmp_path, file, monkeypatch):
    for source, target, options, message in [
        (file, tmp_path / "b.cvc", {}, "both files are .cvc files"),
        (tmp_path / "a.parquet", tmp_path / "b.h5", {}, "neither of the two"),
        (tmp_path / "a.csv", tmp_path / "b.npy", {}, "neither of the two"),
        (file, tmp_path / "b.xyz", {}, "its name says nothing"),
        (file, tmp_path / "b.h5", {"codec": "int8"}, "codec"),
        (file, tmp_path / "b.parquet", {"sections_from": "a"}, "making a .cvc file"),
        (file, tmp_path / "b.h5", {"columns": ["nothing"]}, "no such column"),
        (tmp_path / "a.h5", tmp_path / "b.cvc", {"sections_from": "a"}, "only tables"),
    ]:
        with pytest.raises(cvc.ArgumentError, match=message):
            cvc.convert(source, target, **options)
    for name in ("a.parquet", "a.h5", "a.csv", "a.safetensors", "a.zarr"):
        with pytest.raises(FileNotFoundError):
            cvc.convert(tmp_path / name, tmp_path / "b.cvc")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install h5py"):
        cvc.convert(file, tmp_path / "b.h5")
    assert left(tmp_path) == ["file.cvc"]
