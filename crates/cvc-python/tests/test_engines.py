"""Engines read what is planned: the scripts of `docs/engines.md`, and what each engine is spared.

An engine that is not installed is skipped, aloud; `CVC_REQUIRE=engines` makes that a failure, and `CVC_REQUIRE=java` that PySpark with Java is.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import absent, needs

import cvc

ROOT = Path(__file__).parents[3]
engine = functools.partial(needs, kind="engines")
# Each with the packages that its section needs, the setting up and the contract before it.
SECTIONS = {
    "The contract": ["pyarrow"],
    "Ray": ["ray.data"],
    "Polars": ["polars"],
    "pyarrow": ["pyarrow"],
    "DuckDB": ["duckdb", "pyarrow"],
    "DataFusion": ["datafusion", "pyarrow"],
    "Spark": ["pysail", "pyspark.sql.connect.session"],
    "Hugging Face": ["datasets"],
    "Others": [],
}


def sections_of_the_page() -> dict[str, list[str]]:
    """The Python blocks of each section; those before the first are of the section ``."""
    heading, found = "", {}
    for part in re.split(r"^(## .*\n)", (ROOT / "docs/engines.md").read_text(), flags=re.MULTILINE):
        if part.startswith("## "):
            heading = part[3:].strip()
        else:
            found[heading] = re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in, where nothing is sent anywhere and nothing kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "datasets" in sys.modules:
        monkeypatch.setattr(sys.modules["datasets"].config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    shutil.copy(ROOT / "examples/data/minilm2k.f32.npy", tmp_path)
    return tmp_path


def run(blocks: list[str], names: dict[str, object]) -> dict[str, object]:
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/engines.md, example {number}", "exec"), names)
    return names


@pytest.mark.parametrize("section", SECTIONS)
def test_the_script_of_a_section_runs(section, place):
    engine(*SECTIONS[section])
    page = sections_of_the_page()
    try:
        names = run(page[""] + page[section], {})
    finally:
        if section == "Ray":
            sys.modules["ray"].shutdown()
    if section == "Ray":
        # The script has found the rows and scores of the local search; of the whole, as it should be.
        np.testing.assert_array_equal(names["found"].indices[:, 0], np.arange(0, 2000, 20))
        assert names["found"].indices.shape == (100, 10)


def test_every_section_of_the_page_is_run():
    assert set(sections_of_the_page()) == {"", *SECTIONS}


@pytest.fixture(scope="module")
def files(minilm, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("engines")
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(len(minilm)), 3)):
        data = {
            "vectors": minilm[rows],
            "half": minilm[rows, :8].astype("f2"),
            "id": rows,
            "small": (rows % 200).astype("u1"),
            "image": np.repeat(rows, 6).astype("u2").reshape(-1, 2, 3),
            "title": [f"row {row}" for row in rows],
        }
        path = folder / f"{number}.cvc"
        sections = [(0, 300, {"source": "wiki"}), (300, len(rows), {"source": "arxiv"})]
        cvc.pack(data, path, codec={"vectors": "int8"}, sections=sections, chunk_rows=128)
        paths.append(str(path))
    return paths


@pytest.fixture
def reads(monkeypatch):
    """What a module reads meanwhile: names of arrays and limits."""
    seen = []

    def watch(module):
        read = module.read

        def watched(partition, arrays=None, *, limit=None, storage_options=None):
            seen.append((partition.arrays if arrays is None else tuple(arrays), limit))
            return read(partition, arrays, limit=limit, storage_options=storage_options)

        monkeypatch.setattr(module, "read", watched)
        return seen

    return watch


def test_polars_reads_the_columns_and_rows_of_a_query(files, minilm, reads):
    engine("polars")
    import polars as pl
    import cvc.polars

    rows = cvc.polars.scan(files, max_bytes=300_000)
    assert rows.collect_schema()["half"] == pl.Array(pl.Float16, 8)
    seen = reads(cvc.polars)
    frame = rows.collect()
    assert frame["id"].to_list() == list(range(2000)) and frame["image"][7].to_list() == [7] * 6
    np.testing.assert_array_equal(frame["half"].to_numpy(), minilm[:, :8].astype("f2"))
    assert len(seen) == len(cvc.plan(files, max_bytes=300_000)) > 10
    seen.clear()
    assert rows.select("id").head(3).collect()["id"].to_list() == [0, 1, 2]
    assert seen == [(("id",), 3)]
    seen.clear()
    assert rows.filter(pl.col("id") >= 1998).select("title").collect()["title"].to_list() == ["row 1998", "row 1999"]
    assert {frozenset(names) for names, _ in seen} == {frozenset({"id", "title"})}
    # Only what is read before the condition may be limited.
    assert rows.filter(pl.col("id") >= 1500).head(2).select("id").collect()["id"].to_list() == [1500, 1501]
    assert rows.head(2).filter(pl.col("id") == 1).select(pl.len()).collect().item() == 1
    assert rows.select(pl.len()).collect().item() == 2000
    assert rows.select(pl.col("id").sum()).collect(engine="streaming").item() == 1999000
    wiki = cvc.polars.scan(files, "id", {"source": "wiki"}).collect()
    assert wiki.columns == ["id"] and wiki.height == 900
    assert cvc.polars.scan(files, filter={"source": "nobody"}).collect().shape == (0, 6)


def test_a_data_set_of_pyarrow_reads_what_is_needed(files, reads):
    engine("pyarrow")
    import pyarrow as pa
    import pyarrow.dataset as ds
    import cvc.arrow

    data = cvc.arrow.dataset(files, max_bytes=300_000)
    seen = reads(cvc.arrow)
    assert isinstance(data, ds.Dataset) and data.count_rows() == 2000 and seen == []
    assert data.schema.field("half").type.value_type == pa.float16()
    assert data.schema == data.to_table().schema
    seen.clear()
    table = data.to_table(columns=["title"], filter=ds.field("id") > 1997)
    assert table["title"].to_pylist() == ["row 1998", "row 1999"] and table.column_names == ["title"]
    assert {names for names, _ in seen} == {("id", "title")}
    seen.clear()
    table = data.to_table(columns={"twice": ds.field("id") * 2})
    assert table["twice"].to_pylist() == list(range(0, 4000, 2)) and {names for names, _ in seen} == {("id",)}
    seen.clear()
    assert data.count_rows(filter=ds.field("id") < 10) == 10
    fragments = list(data.get_fragments())
    assert [of.scanner(columns=[]).count_rows() for of in fragments] == [of.rows for of in cvc.plan(files, max_bytes=300_000)]
    assert seen[-1] == (("small",), None)
    assert pickle.loads(pickle.dumps(data)).to_table(columns=["id"]).num_rows == 2000
    empty = cvc.arrow.dataset(files, filter={"source": "nobody"})
    assert empty.to_table().num_rows == 0 and empty.schema == data.schema
    assert data.head(5, columns=["id"])["id"].to_pylist() == list(range(5))


def test_duckdb_and_datafusion_read_the_columns_of_a_query(files, minilm, reads):
    engine("pyarrow", "duckdb", "datafusion")
    import datafusion
    import duckdb
    import cvc.arrow

    rows = cvc.arrow.dataset(files, max_bytes=300_000, dtype="float32")
    halves = cvc.arrow.dataset(files, max_bytes=300_000)
    context = datafusion.SessionContext()
    context.register_table("rows", rows)
    context.register_table("halves", halves)
    connection = duckdb.connect()
    connection.register("rows", rows)
    seen = reads(cvc.arrow)
    query = "SELECT title FROM rows WHERE id = 1234 OR small = 199 ORDER BY id"
    expected = [f"row {row}" for row in range(2000) if row == 1234 or row % 200 == 199]
    assert [title for title, in connection.sql(query).fetchall()] == expected
    assert [row["title"] for row in context.sql(query).to_pylist()] == expected
    assert all("vectors" not in names and "image" not in names for names, _ in seen)
    # Partitions are scanned side by side: which of them comes first is not said.
    three = [row["id"] for row in context.sql("SELECT id FROM halves LIMIT 3").to_pylist()]
    assert len(set(three)) == 3 and set(three) <= set(range(2000))
    assert context.sql("SELECT arrow_typeof(half[1]) AS type FROM halves LIMIT 1").to_pylist() == [{"type": "Float16"}]
    query = "SELECT id FROM rows ORDER BY array_inner_product(vectors, (SELECT vectors FROM rows WHERE id = 70)) DESC LIMIT 10"
    found = [row for row, in connection.sql(query).fetchall()]
    assert found[0] == 70 and len(set(found)) == 10
    with pytest.raises(duckdb.Error, match="(?i)arrow type"):
        duckdb.sql("SELECT half FROM halves", connection=duckdb.connect())


def test_ray_searches_as_one_file_is_searched(files, minilm, place):
    engine("ray.data")
    import ray
    import cvc.ray

    whole = cvc.open(cvc.pack(minilm, codec="int8"))
    queries = minilm[3::20]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        for options in ({"metric": "l2"}, {"metric": "dot", "k": 700}):
            found = cvc.ray.search(files, queries, array="vectors", max_bytes=500_000, **options)
            local = whole.search(queries, **options)
            np.testing.assert_array_equal(found.indices, local.indices)
            np.testing.assert_array_equal(found.scores, local.scores)
            assert found.metric == local.metric
        partitions = cvc.plan(files, "vectors", {"source": "wiki"})
        rows = np.concatenate([np.arange(*rows) + of.first_row for of in partitions for rows in of.ranges])
        found, local = cvc.ray.search(partitions, queries[0], num_cpus=0.5), whole.search(queries[0], rows=rows)
        assert found.indices.tolist() == local.indices.tolist() and found.scores.tolist() == local.scores.tolist()
        with pytest.raises(cvc.ArgumentError, match="no rows"):
            cvc.ray.search([], queries)

        data = cvc.ray.read(files, max_bytes=500_000)
        batch = data.take_batch(3)
        assert {name: (batch[name].dtype.str, batch[name].shape[1:]) for name in ("vectors", "half", "image", "id")} == {
            "vectors": ("<f4", (384,)),
            "half": ("<f2", (8,)),
            "image": ("<u2", (2, 3)),
            "id": ("<i8", ()),
        }
        assert sorted(row["id"] for row in cvc.ray.read(files, "id", {"source": "arxiv"}).take_all()) == sorted(set(range(2000)) - set(rows))
        # Blocks come as they are ready, so which rows these are is not said.
        five = [row["id"] for row in cvc.ray.read(files, "id").limit(5).take_all()]
        assert len(set(five)) == 5 and set(five) <= set(range(2000))
    finally:
        ray.shutdown()


def test_spark_gets_types_that_it_has(files, minilm):
    engine("pyspark.sql.datasource", "pyarrow")
    import pyarrow as pa
    import cvc.spark

    source = cvc.spark.CvcDataSource({"path": files[0]})
    assert source.schema().simpleString() == (
        "struct<vectors:array<float>,half:array<float>,id:bigint,small:smallint,image:array<int>,title:string>"
    )
    reader = source.reader(source.schema())
    table = pa.Table.from_batches(batch for part in reader.partitions() for batch in reader.read(pickle.loads(pickle.dumps(part))))
    assert table["id"].to_pylist() == list(range(667)) and table["image"][5].as_py() == [5] * 6
    assert table.schema.field("half").type == pa.list_(pa.field("element", pa.float32(), nullable=False))
    np.testing.assert_array_equal(np.array(table["half"].to_pylist(), "f2"), minilm[:667, :8].astype("f2"))
    reached = {"path": f"file://{files[0]}", "cvc.secret": '{"retries": 1}'}
    assert cvc.spark.CvcDataSource(reached).schema() == source.schema()
    with pytest.raises(cvc.ArgumentError, match="retries"):
        cvc.spark.CvcDataSource({**reached, "cvc.secret": '{"retries": -1}'})
    none = cvc.spark.CvcDataSource({"path": files[0], "cvc": '{"filter": {"source": "nobody"}}'}).reader(None)
    assert [list(none.read(part)) for part in none.partitions()] == [[]]


def test_spark_refuses_what_it_has_no_type_for(tmp_path):
    engine("pyspark.sql.datasource", "pyarrow")
    import cvc.spark

    cvc.pack({"ids": np.arange(3, dtype="u8"), "a": np.arange(3)}, tmp_path / "u8.cvc")
    with pytest.raises(TypeError, match="'ids' is of uint64"):
        cvc.spark.CvcDataSource({"path": str(tmp_path / "u8.cvc")})
    assert cvc.spark.CvcDataSource({"path": str(tmp_path / "u8.cvc"), "cvc": '{"arrays": "a"}'}).schema().names == ["a"]


def test_pyspark_with_java(files, place, monkeypatch):
    engine("pyspark", kind="java")
    import pyspark

    if not (Path(pyspark.__file__).parent / "jars").is_dir():
        absent("pyspark is installed as its client alone", "java")
    if shutil.which("java") is None:
        absent("there is no java", "java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession
    import cvc.spark

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = cvc.spark.read(spark, files, ["id", "title", "half"], max_bytes=20_000)
        assert frame.count() == 2000
        row = frame.where("id = 1234").collect()[0]
        assert row["title"] == "row 1234" and len(row["half"]) == 8
        assert spark.read.format("cvc").load(files[0]).count() == 667
        assert cvc.spark.read(spark, files, "id", {"source": "nobody"}).count() == 0
    finally:
        spark.stop()


def test_hugging_face_reads_shards(files, minilm, place):
    engine("datasets", "pyarrow")
    import cvc.datasets

    data = cvc.datasets.iterable(files, ["id", "half", "title"], max_bytes=8_000)
    assert data.num_shards == len(cvc.plan(files, ["id", "half", "title"], max_bytes=8_000)) > 3
    assert data.features["half"].feature.dtype == "float16"
    assert [row["id"] for row in data] == list(range(2000))
    assert sum(1 for of in range(2) for _ in data.shard(2, of)) == 2000
    tables = data.with_format("arrow").iter(100)
    assert str(next(iter(tables)).schema.field("half").type.value_type) == "halffloat"
    wiki = cvc.datasets.iterable(files, "id", {"source": "wiki"})
    assert sum(1 for _ in wiki) == 900


@pytest.mark.parametrize("module", ["ray", "polars", "arrow", "spark", "datasets"])
def test_a_missing_engine_says_what_to_install(module, monkeypatch):
    needed = {"arrow": "pyarrow", "spark": "pyspark"}.get(module, module)
    # Whatever of it was imported is not to be found either.
    for name in [name for name in sys.modules if name.split(".")[0] == needed]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, needed, None)
    monkeypatch.delitem(sys.modules, f"cvc.{module}", raising=False)
    with pytest.raises(ImportError, match=f"cvc.{module} needs a package that is not installed: pip install .*{needed}"):
        importlib.import_module(f"cvc.{module}")
