"""`cvc.convert`, against the readers and writers that the other formats have of their own.

A package that is not installed skips what needs it, aloud; `CVC_REQUIRE=formats` makes that a failure, and `CVC_REQUIRE=torch` that there is no
torch.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, needs

import cvc

needs = functools.partial(needs, kind="formats")
OF = {".parquet": "pyarrow.parquet", ".arrow": "pyarrow", ".feather": "pyarrow", ".h5": "h5py", ".hdf5": "h5py", ".zarr": "zarr"}


def package(name: str):
    """The package, or nothing: each test says which it needs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


h5py, pa, pq, safetensors, torch, zarr = map(package, ("h5py", "pyarrow", "pyarrow.parquet", "safetensors.numpy", "torch", "zarr"))


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
    needs("pyarrow.parquet")
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
    needs("pyarrow.parquet")
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
    needs("pyarrow.parquet")
    path, packed = tmp_path / "a.parquet", tmp_path / "a.cvc"
    write(table(minilm, names, labels, lists=False), path)
    seen = []
    cvc.convert(path, packed, {"embedding": "int8", "id": "zstd"}, metadata={"a": 1}, progress=lambda *of: seen.append(of), chunk_rows=512)
    assert seen[0] == (0, 2000) and seen[-1] == (2000, 2000)
    with cvc.open(packed) as f:
        assert [f[name].codec for name in ("id", "embedding", "half", "name")] == ["zstd", "int8", "raw", "zstd"]
        assert f.metadata["a"] == 1 and len(f["id"].chunks) == 4

    for suffix in (".parquet", ".arrow"):
        seen.clear()
        cvc.convert(packed, tmp_path / f"b{suffix}", progress=lambda *of: seen.append(of))
        assert seen[-1] == (2000, 2000)
        (tmp_path / f"b{suffix}").unlink()

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
    text = "id,source,d0,d1\n1,wiki,0.5,1.0\n2,arxiv,0.25,2.0\n"
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
    needs("safetensors.numpy")
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
    needs("h5py")
    path = tmp_path / f"a{suffix}"
    assert cvc.convert(file, path) == (2000, ["vectors", "name", "id"], 58, [])
    with h5py.File(path) as f:
        np.testing.assert_array_equal(f["vectors"][:], minilm)
        assert list(f["name"].asstr()[:3]) == names[:3] and f["id"].dtype == np.uint32
    cvc.convert(path, tmp_path / "b.cvc")
    same(file, tmp_path / "b.cvc", names=["vectors", "name", "id"])


def test_hdf5_of_others(tmp_path, minilm):
    needs("h5py", "zarr")
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
    needs("zarr")
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
    needs("zarr")
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(50, 384), chunks=(20, 100), dtype="<f4", order="F" if version == 2 else None, zarr_format=version)
    array[:] = minilm[:50]
    array.attrs["model"] = "m"
    assert cvc.convert(path, tmp_path / "a.cvc").arrays == ["vectors"]
    with cvc.open(tmp_path / "a.cvc") as f:
        np.testing.assert_array_equal(f.vectors[:], minilm[:50])
        assert f.metadata == {"model": "m"}


def test_tensors_of_torch(tmp_path, file, minilm, names):
    needs("torch", kind="torch")
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
    needs("ml_dtypes", "pyarrow.parquet", "h5py", "zarr")
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
    if suffix in OF:
        needs(OF[suffix])
    path = tmp_path / f"a{suffix}"
    cvc.convert(file, path, columns=["vectors", "id"])
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(cvc.FormatError, match=f"a\\{suffix}"):
            cvc.convert(path, tmp_path / "b.cvc")
    assert left(tmp_path) == [path.name, "file.cvc"]


def test_ragged_lists_and_nulls_name_their_row(tmp_path):
    needs("pyarrow.parquet")
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
    needs("pyarrow.parquet", "h5py", "zarr")
    for source, target, options, message in [
        (file, tmp_path / "b.cvc", {}, "both files are .cvc files"),
        (tmp_path / "a.parquet", tmp_path / "b.h5", {}, "neither of the two"),
        (tmp_path / "a.csv", tmp_path / "b.npy", {}, "neither of the two"),
        (file, tmp_path / "b.xyz", {}, "its name says nothing"),
        (file, tmp_path / "b.h5", {"codec": "int8"}, "codec"),
        (file, tmp_path / "b.parquet", {"sections_from": "a"}, "making a .cvc file"),
        (file, tmp_path / "b.h5", {"columns": ["nothing"]}, "no such column"),
        (file, tmp_path / "b.h5", {"columns": []}, "none of them is an array"),
        (file, tmp_path / "b.h5", {"text_dtype": "float64"}, "about reading .csv"),
        (file, tmp_path / "b.parquet", {"chunk_rows": 7}, "making a .cvc file"),
        (file, tmp_path / "b.csv", {"metadata": {"a": 1}}, "making a .cvc file"),
        (file, tmp_path / "b.npy", {"chunk_rows": 7}, "making a .cvc file"),
        (file, tmp_path / "b.csv", {"text_dtype": "float32"}, "about reading .csv"),
        (tmp_path / "a.parquet", tmp_path / "b.cvc", {"strings": "a"}, "about reading .csv"),
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


@pytest.mark.parametrize("suffix", [".safetensors", ".h5", ".zarr", ".pt"])
@pytest.mark.parametrize("with_sections", [True, False])
def test_arrays_of_other_lengths_leave_the_first_its_sections(tmp_path, suffix, with_sections):
    if suffix == ".pt":
        needs("torch", kind="torch")
    elif suffix in OF:
        needs(OF[suffix])
    before, other, after = tmp_path / "a.cvc", tmp_path / f"a{suffix}", tmp_path / "b.cvc"
    with cvc.Writer(before, codec={"small": "raw"}) as writer:
        writer.write({"small": np.ones((100, 2), "f4")})
        if with_sections:
            writer.add_section(0, 40, {"source": "a"})
        # It has more bytes, and the name that is looked for elsewhere.
        writer.attach("vectors", np.ones((1000, 8), "f4"), codec="raw")
        writer.finish()
    count = 1 if with_sections else 0
    assert cvc.convert(before, other) == (100, ["small", "vectors"], count, [])
    assert cvc.convert(other, after) == (100, ["small", "vectors"], count, [])
    same(before, after, names=["small", "vectors"])
    # One alone, from either file: the sections are not its.
    lost = pytest.warns(UserWarning, match="they speak of the first array") if with_sections else contextlib.nullcontext()
    with lost:
        done = cvc.convert(other, after, columns=["vectors"])
    assert done[:3] == (1000, ["vectors"], 0)
    with lost:
        done = cvc.convert(before, other, columns=["vectors"])
    assert done[:3] == (1000, ["vectors"], 0)
    assert cvc.convert(other, after) == (1000, ["vectors"], 0, [])


def test_what_is_noted_wrong_is_an_error(tmp_path, minilm):
    needs("h5py")
    path = tmp_path / "a.h5"
    for key, noted, message in [
        ("cvc.order", "vectors", "'cvc.order' is no list of names"),
        ("cvc.order", "7", "'cvc.order' is no list of names"),
        ("cvc.order", "[[1]]", "'cvc.order' is no list of names"),
        ("cvc.order", 7, "'cvc.order' is no list of names"),
        ("cvc", '{"rows": 19, "sections": [[0, 2, {}]]}', "sections of 19 rows, and no array has as many"),
        ("cvc", '{"rows": 20, "sections": [[19, 2, {}]]}', "a section that is not"),
        ("cvc", '{"rows": 20, "sections": 7}', "sections that are no list"),
    ]:
        with h5py.File(path, "w") as f:
            f["vectors"] = minilm[:20]
            f.attrs[key] = noted
        with pytest.raises(cvc.FormatError, match=message):
            cvc.convert(path, tmp_path / "b.cvc")
    assert left(tmp_path) == ["a.h5"]


def test_rows_without_values_are_not_counted_to_the_end_of_time(tmp_path):
    needs("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("a", shape=(1 << 50, 0), dtype="f4")
    with pytest.raises(cvc.ArgumentError, match="rows without values"):
        cvc.convert(tmp_path / "a.h5", tmp_path / "b.cvc")


def test_an_array_of_torch_does_not_take_the_place_of_what_is_said(tmp_path):
    needs("torch", kind="torch")
    cvc.pack({"cvc": np.ones((3, 2), "f4")}, tmp_path / "a.cvc", metadata={"a": 1})
    with pytest.raises(cvc.ArgumentError, match="array 'cvc'.*leave it out"):
        cvc.convert(tmp_path / "a.cvc", tmp_path / "a.pt")
    assert left(tmp_path) == ["a.cvc"]


def test_whole_numbers_of_text_are_not_rounded(tmp_path):
    (tmp_path / "a.csv").write_text("n\n9007199254740993\n1.5\n")
    with pytest.raises(cvc.FormatError, match='line 2, column "n": 9007199254740993 has more digits'):
        cvc.convert(tmp_path / "a.csv", tmp_path / "a.cvc")


def test_a_long_label_is_no_memory_of_its_own(tmp_path):
    needs("pyarrow")
    ids = np.arange(1 << 16)
    cvc.pack({"id": ids}, tmp_path / "a.cvc", {"id": "raw"}, sections=[(0, len(ids), {"source": "x" * 4096})])
    cvc.convert(tmp_path / "a.cvc", tmp_path / "a.arrow")
    batches = pa.ipc.open_file(pa.memory_map(str(tmp_path / "a.arrow")))
    lens = [batches.get_batch(number).nbytes for number in range(batches.num_record_batches)]
    assert len(lens) > 3 and max(lens) <= 65 << 20


def test_a_new_file_is_on_the_disk_before_it_has_its_name(tmp_path, file, monkeypatch):
    needs("h5py", "zarr")
    steps = []

    def noted(function):
        def call(*given):
            steps.append(function.__name__)
            return function(*given)

        return call

    for name in ("fsync", "replace", "link", "rename"):
        monkeypatch.setattr(os, name, noted(getattr(os, name)))
    folders = ["fsync"] if os.name == "posix" else []
    cvc.convert(file, tmp_path / "a.h5")
    assert steps == ["fsync", "replace", *folders]
    steps.clear()
    cvc.convert(file, tmp_path / "b.h5", overwrite=False)
    assert steps == ["fsync", "link", *folders]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="zarr")
        cvc.convert(file, tmp_path / "a.zarr", columns=["id"])
        steps.clear()
        cvc.convert(file, tmp_path / "a.zarr", columns=["id"])
    assert steps.index("fsync") < steps.index("rename") and steps[-2 - len(folders) :] == ["rename", "rename", *folders]
    assert left(tmp_path) == ["a.h5", "a.zarr", "b.h5", "file.cvc"]


def test_what_came_up_meanwhile_is_left_alone(tmp_path, file):
    needs("h5py")

    def meanwhile(done, _):
        if done:
            (tmp_path / "a.h5").write_text("somebody else's")

    with pytest.raises(FileExistsError, match="there is a file of that name"):
        cvc.convert(file, tmp_path / "a.h5", overwrite=False, progress=meanwhile)
    assert (tmp_path / "a.h5").read_text() == "somebody else's"
    assert left(tmp_path) == ["a.h5", "file.cvc"]


def test_a_folder_that_is_replaced_is_there_whatever_happens(tmp_path, file, monkeypatch):
    needs("zarr")
    path = tmp_path / "a.zarr"
    rename = os.rename
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="zarr")
        cvc.convert(file, path, columns=["id"])
        # Ctrl-C, before and behind each of the two steps.
        for step, expected in [(1, ["id"]), (2, ["id"]), (3, ["id"]), (4, ["vectors"])]:
            count = 0

            def interrupted(before, after, step=step):
                nonlocal count
                if count < step:
                    count += 1
                    if count == step:
                        raise KeyboardInterrupt
                    rename(before, after)
                    count += 1
                    if count == step:
                        raise KeyboardInterrupt
                else:
                    rename(before, after)

            monkeypatch.setattr(os, "rename", interrupted)
            with pytest.raises(KeyboardInterrupt):
                cvc.convert(file, path, columns=["vectors"])
            monkeypatch.setattr(os, "rename", rename)
            assert list(zarr.open_group(path, mode="r").array_keys()) == expected
            assert left(tmp_path) == ["a.zarr", "file.cvc"]
        # What cannot be removed is said, and no failure.
        monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.warns(UserWarning, match="what it was cannot be removed"):
            cvc.convert(file, path, columns=["id"])
    assert list(zarr.open_group(path, mode="r").array_keys()) == ["id"]
