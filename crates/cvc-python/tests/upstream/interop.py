"""What `cvc` writes is what the real `decompressed` reads. Run by `run.py`, with the package on the path."""

import decompressed
import numpy as np
import pytest

import cvc

ROWS = np.random.default_rng(0).normal(size=(1000, 8)).astype("f4")
SECTIONS = [(ROWS[:0], {"a": 1}), (ROWS[:10], {"a": 2}), (ROWS[10:10], {"a": 3}), (ROWS[10:], {"a": 4})]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.cvc"


@pytest.mark.parametrize("compression", ["fp16", "int8", "lossless"])
@pytest.mark.parametrize("chunk_size", [3, 10, 33, 100, 250])
def test_mapped_files_are_read_by_everything(path, compression, chunk_size):
    cvc.pack_cvc(ROWS, path, compression, chunk_size, mmap_optimized=True)
    ours = cvc.load_cvc(path)
    assert np.array_equal(decompressed.load_cvc(path), ours)
    part = decompressed.load_cvc_range(path, chunk_indices=[1, 2])
    assert np.array_equal(part, ours[chunk_size : 3 * chunk_size])
    assert decompressed.validate_cvc(path)["valid"]
    assert decompressed.validate_cvc_integrity(path)["valid"]
    with decompressed.MMapCVCLoader(path) as loader:
        assert loader.is_mmap_optimized
        if compression != "lossless":
            assert np.array_equal(loader.load(), ours)


def test_sections_without_rows_are_written_alike(path):
    cvc.pack_cvc_sections(SECTIONS, path, chunk_size=64)
    ours = path.read_bytes()
    decompressed.pack_cvc_sections(SECTIONS, path, chunk_size=64)
    assert path.read_bytes() == ours


def test_edited_columns_are_read(path):
    sections = [({"t": rows, "s": rows[:, 0]}, said) for rows, said in ((ROWS[:300], {"a": 1}), (ROWS[300:], {"a": 2}))]
    cvc.pack_cvc_sections_columnar(sections, path, {"t": "int8"}, chunk_size=64)
    cvc.add_column(path, "u", ROWS[:, :3])
    cvc.rename_column(path, "s", "score")
    cvc.update_column(path, "t", ROWS[:, :5])
    ours, theirs = cvc.load_cvc_columns(path), decompressed.load_cvc_columns(path)
    assert list(ours) == list(theirs) == ["t", "score", "u"]
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    found = decompressed.load_cvc_columns(path, columns=["u"], section_key="a", section_value=1)
    assert np.array_equal(found["u"], ours["u"][:300])


def test_upgraded_files_are_read(path):
    cvc.pack_cvc(ROWS, path, "int8", 100, layout="v0")
    upgraded = path.with_name("upgraded.cvc")
    cvc.upgrade_cvc(path, upgraded)
    with pytest.warns(DeprecationWarning):
        ours = cvc.load_cvc(path)
    assert np.array_equal(decompressed.load_cvc(upgraded), ours)


@pytest.mark.parametrize(
    "function", ["get_cvc_info", "validate_cvc", "validate_cvc_version", "validate_cvc_integrity", "get_backend_errors"]
)
def test_reports_have_the_same_keys_and_more(path, function):
    cvc.pack_cvc(ROWS, path, chunk_size=100, chunk_metadata=[{"n": n} for n in range(10)])
    arguments = () if function == "get_backend_errors" else (path,)
    theirs, ours = getattr(decompressed, function)(*arguments), getattr(cvc, function)(*arguments)
    assert theirs.keys() <= ours.keys()
    assert theirs.get("chunks", [{}])[0].keys() <= ours.get("chunks", [{}])[0].keys()


def test_every_name_is_there():
    assert set(decompressed.__all__) <= set(cvc.__all__)
