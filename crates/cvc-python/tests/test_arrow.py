"""Arrow's PyCapsule interface: pyarrow, Polars and DuckDB read files as they are, and their tables are packed as they are."""

import threading

import numpy as np
import pytest

import cvc

pa = pytest.importorskip("pyarrow")

ROWS = 500
VECTORS = np.random.default_rng(0).normal(size=(ROWS, 6)).astype("f4")
ARRAYS = {
    "vectors": VECTORS,
    "half": VECTORS.astype("f2"),
    "small": (50 * VECTORS).astype("i1"),
    "id": np.arange(ROWS),
    "image": np.arange(ROWS * 6, dtype="u2").reshape(ROWS, 2, 3),
    "seen": np.arange(ROWS) % 3 == 0,
    "title": [f"title {row}, mit Umlaut: ä" for row in range(ROWS)],
}


@pytest.fixture(scope="module")
def file():
    sections = [(0, 200, {"source": "wiki"}), (200, 500, {"source": "arxiv"})]
    packed = cvc.pack(ARRAYS, codec={name: "raw" for name in ARRAYS}, chunk_rows=150, sections=sections)
    with cvc.open(packed) as f:
        yield f


def as_numpy(column):
    """Rows of a column of pyarrow."""
    column = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


def test_pyarrow_reads_a_file(file):
    table = pa.table(file)
    assert table.column_names == list(ARRAYS)
    assert table.num_rows == ROWS
    assert table.schema.field("vectors").type == pa.list_(pa.field("item", pa.float32(), nullable=False), 6)
    assert table.schema.field("half").type.value_type == pa.float16()
    assert table.schema.field("seen").type == pa.bool_()
    assert table.schema.field("title").type == pa.large_string()
    assert not table.schema.field("id").nullable
    for name in ("vectors", "half", "small", "id", "seen"):
        np.testing.assert_array_equal(as_numpy(table[name]), ARRAYS[name])
    assert table["title"].to_pylist() == ARRAYS["title"]
    image = table["image"].combine_chunks()
    assert image.type == pa.fixed_shape_tensor(pa.uint16(), (2, 3))
    np.testing.assert_array_equal(image.to_numpy_ndarray(), ARRAYS["image"])
    assert pa.schema(file) == table.schema


def test_a_chunk_is_a_batch_and_is_decoded_when_asked_for(file):
    stream = pa.RecordBatchReader.from_stream(file)
    assert [batch.num_rows for batch in stream] == [150, 150, 150, 50]


def test_damage_shows_in_the_stream():
    packed = bytearray(cvc.pack(VECTORS, codec="raw"))
    packed[len(packed) // 2] ^= 1
    with cvc.open(bytes(packed)) as f, pytest.raises((OSError, ValueError), match="checksum|damaged"):
        pa.table(f)


def test_arrays_and_selections_are_tables(file):
    table = pa.table(file["half"])
    assert table.column_names == ["half"]
    np.testing.assert_array_equal(as_numpy(table["half"]), ARRAYS["half"])
    arxiv = pa.table(file.where(source="arxiv"))
    np.testing.assert_array_equal(arxiv["id"].to_numpy(), np.arange(200, 500))
    np.testing.assert_array_equal(as_numpy(arxiv["vectors"]), VECTORS[200:])
    assert pa.table(file.where(source="nobody")).num_rows == 0
    assert pa.schema(file.where(source="nobody")) == pa.schema(file)


def test_lossy_codecs_give_what_reading_gives():
    for codec in ("fp16", "int8", "bf16"):
        with cvc.open(cvc.pack(VECTORS, codec=codec)) as f:
            values = f.vectors.read(dtype="float32")
            np.testing.assert_array_equal(as_numpy(pa.table(f)["vectors"]).astype("f4"), values)


def test_arrays_of_another_length_stay_out():
    with cvc.Writer(codec="raw") as writer:
        writer.write(VECTORS)
        writer.attach("centroids", VECTORS[:7])
        packed = writer.finish()
    with cvc.open(packed) as f:
        assert pa.table(f).column_names == ["vectors"]
        assert pa.table(f["centroids"]).num_rows == 7


def test_no_rows_are_a_table():
    with cvc.open(cvc.pack(VECTORS[:0])) as f:
        assert pa.table(f).num_rows == 0


def test_what_arrow_has_no_type_for_says_so():
    with cvc.open(cvc.pack({"z": np.ones((3, 2), "c8")}, codec="raw")) as f, pytest.raises(TypeError, match="'z'|\"z\""):
        pa.table(f)


def test_a_file_object_and_threads(tmp_path):
    path = tmp_path / "a.cvc"
    cvc.pack(ARRAYS, path, codec="raw", chunk_rows=20)
    with open(path, "rb") as stream, cvc.open(stream) as f:
        found = []
        threads = [threading.Thread(target=lambda: found.append(pa.table(f)["id"].to_numpy())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4 and all((ids == np.arange(ROWS)).all() for ids in found)


def test_polars_reads_a_file(file):
    polars = pytest.importorskip("polars")
    with cvc.open(cvc.pack({name: ARRAYS[name] for name in ("vectors", "id", "title")}, codec="raw")) as f:
        frame = polars.DataFrame(f)
        assert frame.schema["vectors"] == polars.Array(polars.Float32, 6)
        np.testing.assert_array_equal(frame["vectors"].to_numpy(), VECTORS)
        assert frame.filter(polars.col("id") == 7)["title"].to_list() == [ARRAYS["title"][7]]
        back = cvc.open(cvc.pack(frame, codec="raw"))
    np.testing.assert_array_equal(back["vectors"][:], VECTORS)
    assert list(back["title"][:]) == ARRAYS["title"]
    series = cvc.open(cvc.pack(frame["vectors"], codec="raw"))
    np.testing.assert_array_equal(series.vectors[:], VECTORS)
    assert polars.DataFrame(file["id"]).height == ROWS


def test_duckdb_reads_a_file():
    duckdb = pytest.importorskip("duckdb")
    with cvc.open(cvc.pack({name: ARRAYS[name] for name in ("vectors", "id", "title")}, codec="raw")) as f:
        con = duckdb.connect()
        con.register("f", f)
        assert con.sql("select count(*), sum(id) from f").fetchall()[0] == (ROWS, ROWS * (ROWS - 1) // 2)
        found = con.sql("select title, vectors from f where id = 7").fetchall()[0]
        assert found[0] == ARRAYS["title"][7]
        np.testing.assert_array_equal(np.array(found[1], "f4"), VECTORS[7])
        query = con.sql("select id, vectors, title from f where id % 2 = 0 order by id")
        back = cvc.open(cvc.pack(query, codec="raw"))
    np.testing.assert_array_equal(back["vectors"][:], VECTORS[::2])
    np.testing.assert_array_equal(back["id"][:], np.arange(0, ROWS, 2))


def test_duckdb_finds_a_file_by_its_name():
    duckdb = pytest.importorskip("duckdb")
    with cvc.open(cvc.pack({"id": np.arange(9)}, codec="raw")) as vectors_file:
        assert len(vectors_file) == 1
        assert duckdb.sql("select sum(id) from vectors_file").fetchall()[0] == (36,)


def fixed(values, type_, size):
    return pa.FixedSizeListArray.from_arrays(pa.array(values, type_), size)


@pytest.mark.parametrize(
    "column",
    [
        fixed(VECTORS.ravel(), pa.float32(), 6),
        pa.array(list(VECTORS), pa.list_(pa.float32())),
        pa.array(list(VECTORS), pa.large_list(pa.float32())),
        pa.chunked_array([fixed(VECTORS[:90].ravel(), pa.float32(), 6), fixed(VECTORS[90:].ravel(), pa.float32(), 6)]),
        pa.chunked_array([list(VECTORS[:3]), [], list(VECTORS[3:])], pa.list_(pa.float32())),
    ],
    ids=lambda column: f"{type(column).__name__}-{column.type}",
)
def test_lists_are_rows(column):
    np.testing.assert_array_equal(cvc.open(cvc.pack(column, codec="raw")).vectors[:], VECTORS)
    part = cvc.open(cvc.pack(column.slice(80, 30), codec="raw")).vectors
    np.testing.assert_array_equal(part[:], VECTORS[80:110])
    whole = cvc.open(cvc.pack({"v": column, "n": np.arange(ROWS)}, codec="raw"))
    np.testing.assert_array_equal(whole["v"][:], VECTORS)


def test_tables_come_back(file):
    table = pa.table(file)
    for source in (table, table.to_reader(max_chunksize=70), table.combine_chunks().to_batches()[0]):
        back = cvc.open(cvc.pack(source, codec={name: "raw" for name in ARRAYS}))
        assert list(back) == list(ARRAYS)
        for name, values in ARRAYS.items():
            np.testing.assert_array_equal(back[name][:], np.asarray(values))
            assert back[name].stored_dtype == file[name].stored_dtype
    with cvc.Writer(codec="raw") as writer:
        for batch in table.to_batches():
            writer.write(batch)
        assert writer.rows == ROWS
        packed = writer.finish()
    np.testing.assert_array_equal(cvc.open(packed)["vectors"][:], VECTORS)


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_strings_are_strings(type_):
    texts = ["", "a", "ein Text, der länger ist als zwölf Bytes", "b"]
    assert list(cvc.open(cvc.pack({"t": pa.array(texts, type_)}))["t"][:]) == texts
    assert list(cvc.open(cvc.pack({"t": pa.array(texts, type_).slice(1, 2)}))["t"][:]) == texts[1:3]


@pytest.mark.parametrize("type_", ["int8", "uint64", "float16", "float64", "bool"])
def test_primitives_are_scalars(type_):
    values = np.arange(20).astype(type_)
    for column in (pa.array(values), pa.array(values).slice(3, 9)):
        back = cvc.open(cvc.pack(column, codec="raw")).vectors
        np.testing.assert_array_equal(back[:], column.to_numpy(zero_copy_only=False))
        assert back.dtype == values.dtype


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, 2.0, None]), "row 2 of .* is null"),
        (pa.array(["a", None]), "row 1 of .* is null"),
        (pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), "row 1 of .* null"),
        (pa.array([[1.0, 2.0], [3.0, None]], pa.list_(pa.float32(), 2)), "row 1 of .* has a null"),
        (pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32())), "row 1 of .* another length"),
        (pa.chunked_array([[[1.0, 2.0]], [[1.0, 3.0], [3.0]]]), "row 2 of .* another length"),
        (pa.chunked_array([[[1.0, 2.0]], [[3.0]]]), "row 1 of .* another length"),
        (pa.array([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0]]]), "row 1 of .* another length"),
        (pa.nulls(3), "row 0 of .* null"),
    ],
)
def test_nulls_and_uneven_rows_are_refused_by_row(column, message):
    with pytest.raises(ValueError, match=message):
        cvc.pack({"v": column})


@pytest.mark.parametrize("column", [pa.array(["a"]).dictionary_encode(), pa.array([0], pa.timestamp("s"))])
def test_types_without_a_place_are_refused(column):
    with pytest.raises(TypeError, match="cast"):
        cvc.pack({"v": column})


def test_a_table_is_not_one_array():
    with pytest.raises(ValueError, match="2 columns"):
        cvc.pack({"v": pa.table({"a": [1], "b": [2]})})
    with pytest.raises(ValueError, match="no columns"):
        cvc.pack(pa.table({}))


def test_files_and_selections_are_packed_again(file):
    back = cvc.open(cvc.pack(file, codec={"vectors": "int8"}))
    assert back["vectors"].codec == "int8" and list(back) == list(ARRAYS)
    assert list(back["title"][:]) == ARRAYS["title"]
    some = cvc.open(cvc.pack(file.where(source="arxiv"), codec="raw"))
    np.testing.assert_array_equal(some["id"][:], np.arange(200, 500))
    np.testing.assert_array_equal(some["image"][:], ARRAYS["image"][200:])


def test_a_stream_may_be_longer_than_memory(tmp_path):
    """It is written as it comes: none of 40 batches of 10 MB is kept."""
    import resource

    rows = np.random.default_rng(0).normal(size=(10_000, 256)).astype("f4")
    schema = pa.schema({"v": pa.list_(pa.float32(), 256)})

    def batches():
        for _ in range(40):
            yield pa.record_batch([fixed(rows.ravel(), pa.float32(), 256)], schema=schema)

    told = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    with cvc.Writer(tmp_path / "long.cvc", codec="int8") as writer:
        writer.write(reader, section={"part": 1}, progress=lambda done, of: told.append((done, of)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    assert told[-1] == (400_000, 400_000) and len(told) > 3
    with cvc.open(tmp_path / "long.cvc") as f:
        assert f["v"].shape == (400_000, 256)
        assert f.sections == [(0, 400_000, {"part": 1})]
        np.testing.assert_array_equal(f["v"][-10_000:], f["v"][:10_000])


def test_a_stream_that_fails_says_why():
    def batches():
        yield pa.record_batch({"a": [1]})
        raise RuntimeError("the source is gone")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches())
    with pytest.raises(cvc.SystemFailure, match="the source is gone"):
        cvc.pack(reader)
