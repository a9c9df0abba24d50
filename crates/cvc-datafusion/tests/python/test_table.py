"""The table as DataFusion's own package takes it: rows, limits, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import cvc
import cvc_datafusion
import datafusion
import numpy as np
import pytest

ROWS = 3000


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(ROWS, 24)).astype("f4")


@pytest.fixture(scope="module")
def files(vectors, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("table")
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(ROWS), 3)):
        path = folder / f"{number}.cvc"
        data = {"vectors": vectors[rows], "id": rows, "title": [f"row {row}" for row in rows]}
        sections = [(0, 400, {"source": "wiki"}), (400, len(rows), {"source": "arxiv"})]
        cvc.pack(data, path, codec={"vectors": "fp16"}, sections=sections, chunk_rows=256)
        paths.append(path)
    return paths


@pytest.fixture
def context(files) -> datafusion.SessionContext:
    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(3))
    context.register_table("rows", cvc_datafusion.Table(files, max_bytes=50_000))
    return context


def test_rows_are_those_that_cvc_reads(context, files):
    table = context.sql("SELECT * FROM rows ORDER BY id").to_arrow_table()
    assert table.column_names == ["vectors", "id", "title"] and table["id"].to_pylist() == list(range(ROWS))
    assert table["title"].to_pylist()[1234] == "row 1234"
    found = np.stack(table["vectors"].to_numpy(zero_copy_only=False))
    np.testing.assert_array_equal(found, np.concatenate([cvc.open(path)["vectors"][:] for path in files]))


def test_columns_limits_and_conditions(context):
    query = "SELECT title FROM rows WHERE id = 1234 OR id = 2999 ORDER BY id"
    assert context.sql(query).to_pylist() == [{"title": "row 1234"}, {"title": "row 2999"}]
    assert context.sql("SELECT count(*) AS n FROM rows").to_pylist() == [{"n": ROWS}]
    assert sorted(row["id"] for row in context.sql("SELECT id FROM rows LIMIT 1100").to_pylist()) == list(range(1100))
    plan = str(context.sql("SELECT id FROM rows LIMIT 5").execution_plan())
    assert "FFI_ExecutionPlan: CvcExec" in plan
    nearest = "SELECT id FROM rows ORDER BY array_distance(vectors, (SELECT vectors FROM rows WHERE id = 77)) LIMIT 1"
    assert context.sql(nearest).to_pylist() == [{"id": 77}]


def test_arrays_sections_and_dtypes_are_chosen(files):
    context = datafusion.SessionContext()
    table = cvc_datafusion.Table([str(path) for path in files], ["id", "vectors"], {"source": "wiki"}, dtype="float16")
    assert repr(table) == "<cvc_datafusion.Table: id, vectors>"
    context.register_table("rows", table)
    found = context.sql("SELECT * FROM rows ORDER BY id").to_arrow_table()
    assert found["id"].to_pylist() == [row for row in range(ROWS) if row % 1000 < 400]
    assert str(found.schema.field("vectors").type.value_type) in ("halffloat", "float16")
    one = cvc_datafusion.Table(files[0], "id")
    context.register_table("one", one)
    assert context.sql("SELECT max(id) AS last FROM one").to_pylist() == [{"last": 999}]


def test_a_manifest_and_urls_stand_for_files(files, tmp_path):
    manifest = tmp_path / "all.json"
    cvc.write_manifest(manifest, files)
    context = datafusion.SessionContext()
    context.register_table("rows", cvc_datafusion.Table(manifest))
    context.register_table("urls", cvc_datafusion.Table([f"file://{path}" for path in files]))
    for name in ("rows", "urls"):
        assert context.sql(f"SELECT sum(id) AS sum FROM {name}").to_pylist() == [{"sum": ROWS * (ROWS - 1) // 2}]


def test_what_goes_wrong_is_said(files, tmp_path):
    for missing in (tmp_path / "none.cvc", tmp_path / "none.json", f"file://{tmp_path}/none.cvc"):
        with pytest.raises(FileNotFoundError, match=r"none\."):
            cvc_datafusion.Table(missing)
    for place in ("http://127.0.0.1:9/a.cvc", "http://127.0.0.1:9/all.json"):
        with pytest.raises(OSError, match="127.0.0.1"):
            cvc_datafusion.Table(place, storage_options={"retries": 0, "timeout": 2})
    with pytest.raises(ValueError, match="UTF-8"):
        cvc_datafusion.Table("a\udcff.cvc")
    for arrays in ([], ["id", "id"]):
        with pytest.raises(ValueError, match="arrays"):
            cvc_datafusion.Table(files, arrays)
    with pytest.raises(ValueError, match="nothing"):
        cvc_datafusion.Table(files, ["nothing"])
    with pytest.raises(ValueError, match="no files"):
        cvc_datafusion.Table([])
    with pytest.raises(ValueError, match="float16 or float32"):
        cvc_datafusion.Table(files, dtype="int8")
    with pytest.raises(TypeError, match="files is 7"):
        cvc_datafusion.Table(7)
    with pytest.raises(ValueError, match="max_bytes: one byte"):
        cvc_datafusion.Table(files, max_bytes=0)
    with pytest.raises(TypeError, match="session of DataFusion"):
        cvc_datafusion.Table(files).__datafusion_table_provider__("no session")
    damaged = tmp_path / "damaged.cvc"
    content = bytearray(files[1].read_bytes())
    content[len(content) // 3] ^= 1
    damaged.write_bytes(content)
    context = datafusion.SessionContext()
    context.register_table("rows", cvc_datafusion.Table(damaged))
    with pytest.raises(Exception, match=r"damaged.cvc: array .*crc32c"):
        context.sql("SELECT * FROM rows").collect()
