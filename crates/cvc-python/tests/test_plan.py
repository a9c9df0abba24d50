"""Plans of files for many machines: every row once, no block twice, no other file than the one that was planned."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cvc

FILES = 4
BLOCK_ROWS = {"vectors": 8, "label": 32, "text": 16}


@pytest.fixture(scope="module")
def parts(minilm, tmp_path_factory) -> list[str]:
    """The real vectors in four files, with labels and texts, and two sections each."""
    folder = tmp_path_factory.mktemp("parts")
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(len(minilm)), FILES)):
        path = folder / f"part-{number}.cvc"
        data = {"vectors": minilm[rows], "label": rows.astype("i4"), "text": [f"row {row}" for row in rows]}
        sections = [(0, 130, {"source": "wiki"}), (130, len(rows), {"source": "arxiv", "year": 2020 + number})]
        cvc.pack(data, path, codec={"vectors": "fp16"}, sections=sections, chunk_rows=128, block_rows=BLOCK_ROWS)
        paths.append(str(path))
    return paths


def rows_of(partitions: list[cvc.Partition]) -> np.ndarray:
    """The numbers of all rows, among those of all files."""
    ranges = [np.arange(*rows) + of.first_row for of in partitions for rows in of.ranges]
    return np.concatenate(ranges) if ranges else np.arange(0)


@pytest.mark.parametrize("max_bytes", [1, 20_000, 150_000, 400_000, 1 << 30])
def test_every_row_is_in_one_partition(parts, minilm, max_bytes):
    partitions = cvc.plan(parts, max_bytes=max_bytes)
    np.testing.assert_array_equal(rows_of(partitions), np.arange(len(minilm)))
    assert sum(of.rows for of in partitions) == len(minilm)
    read = np.concatenate([cvc.read(of)["label"] for of in partitions])
    np.testing.assert_array_equal(read, np.arange(len(minilm)))
    with cvc.open(parts[0]) as f:
        stored = sum(array.stored_len for array in f.arrays.values())
    mine = [of for of in partitions if of.uri == parts[0]]
    assert abs(sum(of.stored_len for of in mine) - stored) <= len(mine)
    if max_bytes == 1 << 30:
        assert len(partitions) == FILES


def test_a_partition_is_no_larger_than_asked_for_and_ends_where_a_chunk_or_a_block_does(parts):
    for max_bytes, end in ((150_000, 32), (400_000, 128)):
        partitions = cvc.plan(parts, ["vectors", "label", "text"], max_bytes=max_bytes)
        assert len(partitions) > FILES
        for of in partitions:
            assert of.decoded_len <= max_bytes
            [(start, stop)] = of.ranges
            assert start % end == 0 and (stop % end == 0 or stop == 500)


def blocks_of(partition: cvc.Partition) -> set[tuple[str, int, int]]:
    """What of the file reading it takes, without the heads of chunks, which several may need."""
    with cvc.open(partition.uri) as f:
        found = set()
        for name in partition.arrays:
            block_rows = BLOCK_ROWS[name]
            for chunk in f[name].chunks:
                start = chunk.start
                for first, last in partition.ranges:
                    low, high = max(first, start), min(last, chunk.stop)
                    blocks = range((low - start) // block_rows, -(-(high - start) // block_rows)) if low < high else ()
                    found.update((name, start, block) for block in blocks)
        return found


@pytest.mark.parametrize("filter", [None, {"source": "wiki"}, {"source": "arxiv"}])
def test_no_block_is_read_for_two_partitions(parts, filter):
    for max_bytes in (1, 30_000, 100_000):
        seen: set[tuple[str, int, int]] = set()
        for of in cvc.plan(parts[0], filter=filter, max_bytes=max_bytes):
            blocks = blocks_of(of)
            assert not blocks & seen
            seen |= blocks


def test_many_small_sections_of_a_block_stay_together(tmp_path):
    rows = np.arange(4096, dtype="f4").reshape(1024, 4)
    sections = [(start, start + 3, {"kind": start // 3 % 2}) for start in range(0, 1023, 3)]
    path = tmp_path / "sections.cvc"
    cvc.pack(rows, path, codec="raw", sections=sections, chunk_rows=256, block_rows=32)
    partitions = cvc.plan(path, filter={"kind": 1}, max_bytes=16 * 20)
    wanted = np.array([row for start, stop, said in sections for row in range(start, stop) if said["kind"] == 1])
    np.testing.assert_array_equal(rows_of(partitions), wanted)
    for one, two in zip(partitions, partitions[1:]):
        assert one.ranges[-1][1] <= two.ranges[0][0] // 32 * 32
    np.testing.assert_array_equal(np.concatenate([cvc.read(of)["vectors"] for of in partitions]), rows[wanted])


def test_arrays_whose_blocks_never_end_together_are_divided_by_the_widest(tmp_path):
    data = {"vectors": np.ones((3000, 16), "f4"), "odd": np.arange(3000)}
    path = tmp_path / "odd.cvc"
    cvc.pack(data, path, codec="raw", chunk_rows=3000, block_rows={"vectors": 16, "odd": 999})
    partitions = cvc.plan(path, max_bytes=100 * 72)
    assert len(partitions) > 20 and all(of.decoded_len <= 100 * 72 for of in partitions)
    assert all(start % 16 == 0 for of in partitions for start, _ in of.ranges)
    np.testing.assert_array_equal(np.concatenate([cvc.read(of)["odd"] for of in partitions]), data["odd"])


def test_arrays_that_arrow_has_no_type_for_are_planned_and_read_as_numpy_has_them(tmp_path):
    data = {"waves": np.arange(400, dtype="c8").reshape(100, 4), "id": np.arange(100)}
    path = tmp_path / "waves.cvc"
    cvc.pack(data, path, codec="raw", block_rows=10)
    partitions = cvc.plan(path, max_bytes=1000.5)
    assert len(partitions) == 5 and all(of.rows == 20 for of in partitions)
    np.testing.assert_array_equal(np.concatenate([cvc.read(of)["waves"] for of in partitions]), data["waves"])
    assert len(cvc.plan(path, max_bytes=10**30)) == len(cvc.plan(path, max_bytes=float("inf"))) == 1
    with pytest.raises(TypeError, match="waves"):
        cvc.read(partitions[0]).__arrow_c_schema__()


def test_a_filter_takes_what_where_takes(parts, minilm):
    partitions = cvc.plan(parts, filter={"source": "arxiv", "year": 2022})
    assert {of.uri for of in partitions} == {parts[2]}
    np.testing.assert_array_equal(rows_of(partitions), np.arange(1130, 1500))
    assert cvc.plan(parts, filter={"source": "nobody"}) == []


def test_a_filter_and_a_choice_of_arrays_read_less(parts):
    pa = pytest.importorskip("pyarrow")

    class Counted:
        """A file that knows how much of it was read."""

        def __init__(self, path: str) -> None:
            self.file, self.read_len = open(path, "rb"), 0

        def seek(self, *to: int) -> int:
            return self.file.seek(*to)

        def read(self, length: int) -> bytes:
            self.read_len += length
            return self.file.read(length)

    def read_len(partition: cvc.Partition, names: list[str] | None = None) -> int:
        counted = Counted(partition.uri)
        with counted.file, cvc.open(counted) as f:
            opening = counted.read_len
            pa.table(f._part(list(partition.ranges), names or list(partition.arrays)))
            return counted.read_len - opening

    def needed_len(array: str, rows: slice) -> int:
        with cvc.open(parts[0]) as f:
            return sum(stop - start for start, stop in f[array].byte_ranges(rows))

    [whole] = cvc.plan(parts[0])
    [labels] = cvc.plan(parts[0], "label")
    [wiki] = cvc.plan(parts[0], filter={"source": "wiki"})
    assert read_len(labels) == needed_len("label", slice(None)) < read_len(whole) / 50
    assert read_len(wiki) == sum(needed_len(name, slice(0, 130)) for name in wiki.arrays) < read_len(whole) / 3
    assert read_len(whole, ["label"]) == read_len(labels)


def test_a_part_of_a_partition_can_be_read(parts):
    pa = pytest.importorskip("pyarrow")
    partition = cvc.plan(parts[1], filter={"source": "arxiv"})[0]
    table = pa.table(cvc.read(partition, ["text", "label"], limit=7))
    assert table.column_names == ["text", "label"]
    assert table["label"].to_pylist() == list(range(630, 637))
    assert table["text"].to_pylist()[0] == "row 630"
    assert pa.table(cvc.read(partition, limit=0)).num_rows == 0
    with pytest.raises(cvc.NoSuchArrayError, match="labels"):
        cvc.read(partition, ["labels"])


def test_halves_stay_halves_if_that_is_said(parts, minilm):
    pa = pytest.importorskip("pyarrow")
    single, half = (cvc.plan(parts[0], "vectors", dtype=dtype)[0] for dtype in (None, "float16"))
    assert pa.schema(cvc.read(single)).field("vectors").type.value_type == pa.float32()
    table = pa.table(cvc.read(half))
    assert table.schema.field("vectors").type.value_type == pa.float16()
    assert half.decoded_len * 2 == single.decoded_len == 500 * 384 * 4
    values = table["vectors"].combine_chunks().flatten().to_numpy().reshape(-1, 384)
    np.testing.assert_array_equal(values, minilm[:500].astype("f2"))
    with pytest.raises(cvc.ArgumentError, match="int8"):
        cvc.plan(parts, dtype="int8")


def test_a_partition_survives_pickle_and_json_and_is_read_in_another_process(parts, minilm):
    partitions = cvc.plan(parts, max_bytes=200_000)
    assert [cvc.Partition.from_json(of.to_json()) for of in partitions] == partitions
    assert len(set(partitions)) == len(partitions)
    script = (
        "import cvc, pickle, sys\n"
        "for of in pickle.load(sys.stdin.buffer):\n"
        "    print(of.first_row + of.ranges[0][0], float(cvc.read(of)['vectors'].astype('f8').sum()))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(partitions[::3]), capture_output=True, check=True, cwd="/"
    )
    for line, of in zip(ran.stdout.decode().splitlines(), partitions[::3], strict=True):
        first, total = line.split()
        rows = minilm[int(first) : int(first) + of.rows].astype("f2").astype("f8")
        assert float(total) == pytest.approx(rows.sum(), abs=1e-6)
    for broken in ("{}", "[]", "x", '{"ranges": 1, "arrays": [], "codecs": []}'):
        with pytest.raises(cvc.FormatError, match="no partition"):
            cvc.Partition.from_json(broken)


@pytest.mark.parametrize("layout", ["native", "v1"])
def test_a_changed_file_is_refused(tmp_path, minilm, layout):
    path = tmp_path / "changing.cvc"
    cvc.pack(minilm[:300], path, codec="fp16", layout=layout)
    [partition] = cvc.plan(path)
    cvc.pack(minilm[:300], path, codec="fp16", layout=layout)
    assert cvc.read(partition)["vectors"].shape == (300, 384)  # the same bytes
    other = minilm[:300].copy()
    other[150, 3] += 1
    cvc.pack(other, path, codec="fp16", layout=layout)
    with pytest.raises(cvc.ChangedError, match="changing.cvc is not the file that was planned.*Plan again"):
        cvc.read(partition)
    os.unlink(path)
    with pytest.raises(FileNotFoundError):
        cvc.read(partition)


def test_files_that_are_no_table_are_refused(tmp_path, minilm, parts):
    path = tmp_path / "short.cvc"
    cvc.pack({"vectors": minilm[:10, :8], "label": np.arange(10, dtype="i4"), "text": ["a"] * 10}, path)
    with pytest.raises(cvc.ArgumentError, match="'vectors' of .*short.cvc has other values than that of .*part-0.cvc"):
        cvc.plan([*parts, path])
    with cvc.Writer(tmp_path / "attached.cvc") as writer:
        writer.write({"vectors": minilm[:10]})
        writer.attach("centroids", minilm[:3])
    assert cvc.plan(tmp_path / "attached.cvc")[0].arrays == ("vectors",)
    assert cvc.plan(tmp_path / "attached.cvc", "centroids")[0].rows == 3
    with pytest.raises(cvc.ArgumentError, match="different lengths"):
        cvc.plan(tmp_path / "attached.cvc", ["vectors", "centroids"])
    with pytest.raises(cvc.ArgumentError, match="sections speak of the first array"):
        cvc.plan(tmp_path / "attached.cvc", "centroids", {"a": 1})
    with pytest.raises(cvc.NoSuchArrayError, match="nothing"):
        cvc.plan(parts, "nothing")
    with pytest.raises(cvc.ArgumentError, match="arrays is empty"):
        cvc.read(cvc.plan(parts)[0], [])
    for wrong in ({"uris": []}, {"uris": parts, "arrays": []}, {"uris": parts, "arrays": ["label", "label"]}, {"uris": parts, "max_bytes": 0}):
        with pytest.raises(cvc.ArgumentError):
            cvc.plan(**wrong)


def test_files_without_rows_have_no_partitions(tmp_path, minilm):
    empty, some = tmp_path / "empty.cvc", tmp_path / "some.cvc"
    cvc.pack(minilm[:0], empty)
    cvc.pack(minilm[:10], some)
    assert cvc.plan(empty) == []
    [partition] = cvc.plan([empty, some, empty])
    assert (partition.uri, partition.first_row) == (str(some), 0)


def test_a_manifest_names_files_and_refuses_others(tmp_path, minilm):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        cvc.pack(minilm[number * 100 : number * 100 + 100], folder / f"{number}.cvc")
    manifest = folder / "corpus.json"
    cvc.write_manifest(manifest, [folder / f"{number}.cvc" for number in range(3)])
    assert sorted(os.listdir(folder)) == ["0.cvc", "1.cvc", "2.cvc", "corpus.json"]
    said = json.loads(manifest.read_text())
    assert [(of["uri"], of["rows"]) for of in said["files"]] == [("0.cvc", 100), ("1.cvc", 100), ("2.cvc", 100)]
    assert cvc.plan(manifest) == cvc.plan([folder / f"{number}.cvc" for number in range(3)])
    assert [of.first_row for of in cvc.plan(f"file://{manifest}")] == [0, 100, 200]
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert [of.first_row for of in cvc.plan(moved / "corpus.json")] == [0, 100, 200]
    cvc.pack(minilm[:100] + 1, moved / "1.cvc")
    with pytest.raises(cvc.ChangedError, match="1.cvc is not the file of its manifest"):
        cvc.plan(moved / "corpus.json")
    for text, error in (("{}", cvc.FormatError), ('{"format": "cvc-manifest", "version": 2, "files": []}', cvc.UnsupportedError)):
        (moved / "other.json").write_text(text)
        with pytest.raises(error, match="other.json"):
            cvc.plan(moved / "other.json")


def test_errors_of_a_plan_name_the_file(parts, tmp_path):
    cut, other, folder = tmp_path / "cut.cvc", tmp_path / "other.cvc", tmp_path / "m.json"
    cut.write_bytes(Path(parts[0]).read_bytes()[:-100])
    cvc.pack({"x": np.zeros((3, 2), "f4")}, other)
    for files, error in (([*parts, cut], cvc.FormatError), ([*parts, other], cvc.NoSuchArrayError), ([tmp_path / "no.cvc"], FileNotFoundError)):
        with pytest.raises(error) as raised:
            cvc.plan(files)
        assert str(files[-1]) in str(raised.value)
    with pytest.raises(cvc.ArgumentError, match="ends in .json"):
        cvc.write_manifest(tmp_path / "manifest", parts)
    with pytest.raises(cvc.ArgumentError, match="no files"):
        cvc.write_manifest(folder, [])
    assert sorted(os.listdir(tmp_path)) == ["cut.cvc", "other.cvc"]
    with pytest.raises(TypeError, match="is a path"):
        cvc.pack(str(parts[0]), tmp_path / "x.cvc")


def test_results_of_parts_are_merged_to_that_of_the_whole(minilm, parts):
    merged = cvc.SearchResult.merged
    whole = np.concatenate([minilm[:900], minilm[:100], minilm[1000:]])  # equal rows in two places
    queries = minilm[::20]
    files = [cvc.open(cvc.pack(rows, codec="int8")) for rows in np.array_split(whole, 7)]
    starts = np.cumsum([0, *(len(f.vectors) for f in files)])
    for metric in ("cosine", "dot", "l2", "l2sq"):
        expected = cvc.open(cvc.pack(whole, codec="int8")).search(queries, 20, metric=metric)
        found = [(int(start), f.search(queries, 20, metric=metric)) for start, f in zip(starts, files)]
        for order in (found, found[::-1]):
            result = merged(order)
            np.testing.assert_array_equal(result.indices, expected.indices)
            np.testing.assert_array_equal(result.scores, expected.scores)
            np.testing.assert_array_equal(result.nan_rows, expected.nan_rows)
    few = merged([(0, files[0].search(queries[0], 5, rows=slice(0, 2))), (50, files[1].search(queries[0], 5, rows=slice(0, 1)))])
    assert few.indices.tolist()[3:] == [-1, -1] and np.isnan(few.scores[3:]).all()
    assert sorted(few.indices.tolist()[:3]) == [0, 1, 50]


def test_the_simulation_of_many_machines_checks_every_row(tmp_path):
    script = Path(__file__).parents[3] / "examples/scale.py"
    asked = ["--rows", "5000", "--files", "3", "--dim", "32", "--processes", "2", "--chunk-rows", "256", "--max-bytes", "50000"]
    ran = subprocess.run([sys.executable, str(script), str(tmp_path), *asked], capture_output=True, check=True, text=True)
    said = json.loads(ran.stdout)
    assert said["rows"] == 5000 and said["plan: partitions"] >= 5000 * 136 / 50000


def test_urls_are_planned_and_read_as_they_are(minilm, parts):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for number, path in enumerate(parts):
        memory.pipe(f"/planned/{number}.cvc", Path(path).read_bytes())
    files = [{"uri": f"{number}.cvc", "identity": cvc.open(path).identity, "rows": 500} for number, path in enumerate(parts)]
    memory.pipe("/planned/all.json", json.dumps({"format": "cvc-manifest", "version": 1, "files": files}).encode())
    partitions = cvc.plan("memory://planned/all.json", "label", {"source": "wiki"})
    assert [of.uri for of in partitions] == [f"memory://planned/{number}.cvc" for number in range(FILES)]
    found = np.concatenate([cvc.read(of)["label"] for of in partitions])
    np.testing.assert_array_equal(found, np.concatenate([np.arange(130) + 500 * number for number in range(FILES)]))
