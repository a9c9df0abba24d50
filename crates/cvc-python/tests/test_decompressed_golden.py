"""Files that the real `decompressed` wrote: they load to what it loads, or to what is right, and are packed to the same
bytes."""

import ast
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import cvc

GOLDEN = Path(__file__).parents[2] / "cvc-conformance" / "data" / "golden" / "decompressed"
# The one file of all whose bytes depend on the version of NumPy; its range overflows float32.
DEPENDS_ON_NUMPY = "f32max_int8.cvc"


class Golden(NamedTuple):
    version: str
    entry: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.file(self.entry["file"])

    def file(self, name: str) -> Path:
        return GOLDEN / self.version / name

    def npy(self, name: str) -> np.ndarray:
        return np.load(self.file(name.split(" ")[0]))

    @property
    def layout(self) -> str:
        return "v0" if self.version == "0.1.0" else "v1"

    def __str__(self) -> str:
        return f"{self.version} {self.entry['file']}"


ALL = [
    Golden(folder.name, entry)
    for folder in sorted(GOLDEN.iterdir())
    for entry in json.loads((folder / "manifest.json").read_text())
]
WRITTEN = [golden for golden in ALL if "pack_error" not in golden.entry]
SINGLE = [golden for golden in WRITTEN if "columns" not in golden.entry]
COLUMNAR = [golden for golden in WRITTEN if "columns" in golden.entry]
FILTERED = [(golden, each) for golden in SINGLE for each in golden.entry.get("filters", ())]

pytestmark = pytest.mark.filterwarnings("ignore:the file is in the legacy layout:DeprecationWarning")


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    # NaNs are compared as NaNs: what F16C makes of signalling ones is quiet.
    view = {2: "u2", 4: "u4"}[found.dtype.itemsize]
    alike = (found.view(view) == expected.view(view)) | (np.isnan(found) & np.isnan(expected))
    assert alike.all()


def arguments(call: str) -> dict[str, Any]:
    """The keywords of a call in the manifest."""
    tree = ast.parse(call.split(" with ")[0], mode="eval").body
    assert isinstance(tree, ast.Call)
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in tree.keywords}


def test_all_of_them_are_here():
    assert len(SINGLE) > 150
    assert len(COLUMNAR) == 5
    assert len(FILTERED) > 40


@pytest.mark.parametrize("golden", SINGLE, ids=str)
def test_loads_to_what_upstream_loads(golden):
    same_bits(cvc.load_cvc(golden.path), golden.npy(golden.entry["expected"]))


@pytest.mark.parametrize("golden", SINGLE, ids=str)
def test_chunks_are_what_the_whole_file_is_made_of(golden):
    parts = [rows for _, rows in cvc.load_cvc_chunked(golden.path)]
    whole = golden.npy(golden.entry["expected"])
    same_bits(np.concatenate(parts) if parts else whole[:0], whole)


@pytest.mark.parametrize(("golden", "each"), FILTERED, ids=lambda it: it["call"] if isinstance(it, dict) else str(it))
def test_filters_give_what_upstream_gives_or_what_is_right(golden, each):
    asked = arguments(each["call"])
    whole = golden.npy(golden.entry["expected"])
    if "chunk_indices" in asked:
        # In the order wanted and as often; upstream gives each once, in file order.
        size = arguments(golden.entry["call"])["chunk_size"]
        right = np.concatenate([whole[index * size : (index + 1) * size] for index in asked["chunk_indices"]])
    elif "section_key" in asked:
        starts = np.cumsum([0] + [section["rows"] for section in golden.entry["sections"]])
        parts = [
            whole[start : start + section["rows"]]
            for start, section in zip(starts, golden.entry["sections"])
            if asked["section_key"] in section["metadata"]
            and section["metadata"][asked["section_key"]] == asked["section_value"]
        ]
        right = np.concatenate(parts) if parts else None
    else:
        right = None if "error" in each else golden.npy(each["expected"])
    if right is None:
        with pytest.raises(ValueError, match=f"found with {next(iter(asked.values()))}="):
            cvc.load_cvc_range(golden.path, **asked)
        return
    found = cvc.load_cvc_range(golden.path, **asked)
    same_bits(found, right)
    # Two sections of high quality meet in a chunk, of which upstream gives the first.
    bugs = ("sections_twomatch", "quality", "section_value=None", "[3, 1, 1]")
    if not any(bug in golden.entry["file"] + each["call"] for bug in bugs):
        same_bits(found, golden.npy(each["expected"]))


@pytest.mark.parametrize("golden", COLUMNAR, ids=str)
def test_columns_are_what_was_packed(golden):
    loaded = cvc.load_cvc_columns(golden.path)
    # The header lists the columns in the order in which they were packed, the manifest by name.
    assert sorted(loaded) == sorted(golden.entry["columns"])
    said = {column["name"]: column for column in cvc.list_columns(golden.path)}
    for name, column in golden.entry["columns"].items():
        packed = golden.npy(column["input"])
        if said[name]["compression"] == "none":
            # Upstream makes int32 of all of them.
            assert loaded[name].dtype == packed.dtype
            assert np.array_equal(loaded[name], packed)
        else:
            same_bits(loaded[name], golden.npy(column["expected"]))


@pytest.mark.parametrize("golden", [golden for golden in SINGLE if "mmap" in golden.entry["file"]], ids=str)
def test_mapped_files_of_upstream_are_read(golden):
    with cvc.MMapCVCLoader(golden.path) as loader:
        assert loader.is_mmap_optimized
        same_bits(loader.load(), golden.npy(golden.entry["expected"]))


REPACKED = [
    golden
    for golden in WRITTEN
    if not golden.entry["file"].startswith("hdrlen")
    and golden.entry["file"] != DEPENDS_ON_NUMPY
    and "mmap" not in golden.entry["file"]
]


@pytest.mark.parametrize("golden", REPACKED, ids=str)
def test_packs_to_the_same_bytes(golden, tmp_path):
    path = tmp_path / "packed.cvc"
    keywords = arguments(golden.entry["call"])
    if "columns" in golden.entry:
        order = [column["name"] for column in cvc.list_columns(golden.path)]
        data = {name: golden.npy(golden.entry["columns"][name]["input"]) for name in order}
        cvc.pack_cvc_columns(data, path, **keywords, nonfinite="upstream")
    elif "sections" in golden.entry:
        rows = golden.npy(golden.entry["input"])
        starts = np.cumsum([0] + [section["rows"] for section in golden.entry["sections"]])
        sections = [
            (rows[start : start + section["rows"]], section["metadata"])
            for start, section in zip(starts, golden.entry["sections"])
        ]
        cvc.pack_cvc_sections(sections, path, **keywords, layout=golden.layout, nonfinite="upstream")
    else:
        said = golden.entry.get("chunk_metadata")
        rows = golden.npy(golden.entry["input"])
        cvc.pack_cvc(rows, path, **keywords, chunk_metadata=said, layout=golden.layout, nonfinite="upstream")
    if golden.version == "0.1.0" and said_in_another_order(golden):
        # The manifest lists keys by name, 0.1.0 wrote them as they came.
        with cvc.open(path) as ours, cvc.open(golden.path) as theirs:
            assert ours.header == theirs.header
        return
    assert path.read_bytes() == golden.path.read_bytes()


def said_in_another_order(golden: Golden) -> bool:
    return "chunk_metadata" in golden.entry or "sections" in golden.entry


@pytest.mark.parametrize("golden", [golden for golden in WRITTEN if golden.version == "0.1.0"], ids=str)
def test_upgrading_keeps_every_bit(golden, tmp_path):
    path = tmp_path / "upgraded.cvc"
    report = cvc.upgrade_cvc(golden.path, path)
    assert (report["input_version"], report["output_version"]) == ("v0.1", "v1.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same_bits(cvc.load_cvc(path), golden.npy(golden.entry["expected"]))
    assert cvc.validate_cvc_integrity(path)["valid"]
    with cvc.open(path) as ours, cvc.open(golden.path) as theirs:
        assert json.dumps(ours.header, sort_keys=True) == json.dumps(theirs.header, sort_keys=True)
