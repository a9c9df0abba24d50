"""Files at URLs: the same rows as of the file here, for few requests; and files that are written there."""

from __future__ import annotations

import dataclasses
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvc

ROWS = 20_000


class Handler(BaseHTTPRequestHandler):
    """The files of a dict, by ranges, any number of them in a request."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes] = {}
    e_tag = '"1"'

    def do_GET(self) -> None:
        data = self.files.get(self.path.partition("?")[0])
        if data is None:
            self.answer(404, b"")
            return
        ranges = [(int(a), min(int(b), len(data) - 1)) for a, b in re.findall(r"(\d+)-(\d+)", self.headers["Range"])]
        named = [f"bytes {a}-{b}/{len(data)}" for a, b in ranges]
        if len(ranges) == 1:
            (a, b), = ranges
            self.answer(206, data[a : b + 1], {"Content-Range": named[0]})
            return
        parts = [b"--xyz\r\nContent-Range: %s\r\n\r\n%s\r\n" % (n.encode(), data[a : b + 1]) for n, (a, b) in zip(named, ranges)]
        self.answer(206, b"".join(parts) + b"--xyz--\r\n", {"Content-Type": "multipart/byteranges; boundary=xyz"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "ETag": self.e_tag, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(ROWS, 96)).astype("f4")


@pytest.fixture(scope="module")
def packed(rows: np.ndarray) -> bytes:
    data = cvc.pack({"vectors": rows, "names": [f"name {i}" for i in range(ROWS)]})
    assert data is not None
    return data


@pytest.fixture
def served(packed: bytes) -> Iterator[str]:
    Handler.files, Handler.e_tag = {"/v.cvc": packed}, '"1"'
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v.cvc"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """A bucket of moto's server, and how to reach it."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed: no server that speaks as S3 does")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT"))
    yield {
        "endpoint": f"http://{host}:{port}",
        "allow_http": True,
        "access_key_id": "any",
        "secret_access_key": "any",
        "region": "us-east-1",
    }
    server.stop()


def test_a_url_gives_the_rows_of_the_file_for_few_requests(served: str, packed: bytes) -> None:
    here = cvc.open(packed)
    some = np.random.default_rng(1).integers(0, ROWS, 300)
    with cvc.open(served) as f:
        assert f.name == served
        assert f.remote_stats is not None and f.remote_stats["requests"] == 2
        assert np.array_equal(f.vectors[some], here.vectors[some])
        assert list(f["names"][5:7]) == list(here["names"][5:7])
        stats = f.remote_stats
        assert stats["requests"] < 20 and stats["bytes_in"] < len(packed) // 2 and stats["fallbacks"] == 0
        assert np.array_equal(f.vectors[:], here.vectors[:])
        assert f.verify() == []
    assert here.remote_stats is None


def test_options_are_told_from_each_other(served: str, packed: bytes, tmp_path: Path) -> None:
    with cvc.open(served, storage_options={"concurrency": 2, "piece": 65536, "retries": 0, "timeout": 5.5}) as f:
        assert len(f.vectors[:]) == ROWS
    with pytest.raises(cvc.ArgumentError, match="concurrency"):
        cvc.open(served, storage_options={"concurrency": 0})
    with pytest.raises(cvc.ArgumentError, match="regoin"):
        cvc.open("s3://bucket/k", storage_options={"regoin": "x"})
    with pytest.raises(cvc.ArgumentError, match="for URLs"):
        cvc.open(packed, storage_options={})
    with pytest.raises(cvc.ArgumentError, match="for URLs"):
        cvc.Writer(tmp_path / "x.cvc", storage_options={})


def test_what_is_wrong_has_the_exception_for_it(served: str) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        cvc.open(served.replace("v.cvc", "none.cvc"))
    with pytest.raises(cvc.ArgumentError, match="HTTP"):
        cvc.pack(np.zeros((2, 2), "f4"), served)
    f = cvc.open(served)
    Handler.e_tag = '"2"'
    with pytest.raises(cvc.SourceError, match="changed since it was opened"):
        f.vectors[19_000]


def test_what_of_a_url_may_be_a_secret_is_not_told(served: str) -> None:
    signed = f"{served}?sig=hush"
    with cvc.open(signed) as f:
        assert f.name == served
        assert not any("hush" in text for text in (repr(f), f._repr_html_()))
    assert "hush" not in repr(f)
    (partition,) = cvc.plan(signed)
    assert partition.uri == signed
    changed = dataclasses.replace(partition, identity="another")
    Handler.files["/other.cvc"] = cvc.pack(np.zeros((2, 3), "f4")) or b""
    for wrong in (
        lambda: cvc.read(changed),
        lambda: cvc.open("https://u:hush@h:99999/x?sig=hush"),
        lambda: cvc.open("nowhere://u:hush@h/x"),
        lambda: cvc.plan([signed, f"{served.replace('v.cvc', 'other.cvc')}?sig=hush"], ["vectors"]),
    ):
        with pytest.raises((cvc.CvcError, ValueError, ImportError)) as error:
            wrong()
        assert "hush" not in str(error.value), error.value
    with pytest.raises(cvc.ArgumentError, match="%23"):
        cvc.pack(np.zeros((2, 3), "f4"), "s3://bucket/part#1.cvc")
    assert "hush" not in repr(cvc.Writer("s3://u:hush@bucket/k?sig=hush"))


def test_a_file_of_this_machine(tmp_path: Path, rows: np.ndarray) -> None:
    url = (tmp_path / "here.cvc").as_uri()
    cvc.pack(rows, url, codec="raw")
    assert np.array_equal(cvc.open(url).vectors[:], rows)
    with pytest.raises(FileNotFoundError):
        cvc.open((tmp_path / "none.cvc").as_uri())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_reads_by_connections_of_its_own(served: str, rows: np.ndarray) -> None:
    f = cvc.open(served)
    before = f.vectors[3000:3010]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if np.array_equal(f.vectors[3000:3010], before) and len(f.vectors[:]) == ROWS else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(f.vectors[3000:3010], before)


def test_s3_is_written_in_parts_and_read_by_ranges(s3: dict[str, Any]) -> None:
    # 12 MB of raw rows: two parts of the least length, and a rest.
    large = np.random.default_rng(5).normal(size=(31_250, 96)).astype("f4")
    options = {**s3, "piece": 5 << 20}
    cvc.pack(large, "s3://bucket/folder/large file.cvc", codec="raw", storage_options=options)
    some = np.random.default_rng(1).integers(0, len(large), 200)
    with cvc.open("s3://bucket/folder/large file.cvc", storage_options=options) as f:
        assert np.array_equal(f.vectors[some], large[some])
        assert f.remote_stats is not None and f.remote_stats["bytes_in"] < 6_000_000
        assert np.array_equal(f.vectors[:], large)
    small = large[:10]
    cvc.pack(small, "s3://bucket/small.cvc", codec="raw", storage_options=s3)
    assert np.array_equal(cvc.open("s3://bucket/small.cvc", storage_options=s3).vectors[:], small)
    with pytest.raises(FileNotFoundError):
        cvc.open("s3://bucket/none.cvc", storage_options=s3)
    with pytest.raises(cvc.ArgumentError, match="overwrite"):
        cvc.pack(small, "s3://bucket/small.cvc", overwrite=False, storage_options=s3)


def test_an_upload_that_is_given_up_leaves_nothing(s3: dict[str, Any]) -> None:
    import urllib.request

    def uploads() -> str:
        return urllib.request.urlopen(f"{s3['endpoint']}/bucket?uploads").read().decode()

    with pytest.raises(KeyboardInterrupt):
        with cvc.Writer("s3://bucket/half.cvc", codec="raw", storage_options={**s3, "piece": 5 << 20}) as writer:
            for _ in range(3):
                writer.write(np.random.default_rng(7).normal(size=(31_250, 96)).astype("f4"))
            assert "half.cvc" in uploads()
            raise KeyboardInterrupt
    assert "half.cvc" not in uploads()
    with pytest.raises(FileNotFoundError):
        cvc.open("s3://bucket/half.cvc", storage_options=s3)


def test_a_plan_is_made_and_read_with_the_options_that_reach_its_files(
    s3: dict[str, Any], rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    files = [f"s3://bucket/part-{number}.cvc" for number in range(3)]
    for url, part in zip(files, np.array_split(rows, 3)):
        cvc.pack({"vectors": part, "id": np.arange(len(part))}, url, codec="raw", storage_options=s3)
    partitions = cvc.plan(files, max_bytes=2_000_000, storage_options=s3)
    assert len(partitions) >= 3 and not any("any" in of.to_json() for of in partitions), "no secret is in a plan"
    read = np.concatenate([cvc.read(of, ["vectors"], storage_options=s3)["vectors"] for of in partitions])
    np.testing.assert_array_equal(read, rows)
    with pytest.raises(cvc.SourceError):
        cvc.plan(files, storage_options={**s3, "retries": 0, "endpoint": "http://127.0.0.1:9"})
    expected = [row for url in files for row in range(len(cvc.open(url, storage_options=s3).vectors))]
    polars = pytest.importorskip("polars")
    import cvc.polars as scanned

    frame = scanned.scan(files, "id", storage_options=s3).select(polars.col("id")).collect()
    assert frame["id"].to_list() == expected
    pytest.importorskip("pyarrow")
    import cvc.arrow as datasets

    assert datasets.dataset(files, storage_options=s3).to_table(columns=["id"])["id"].to_pylist() == expected


def test_a_manifest_at_a_url_names_files_beside_it(served: str, packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.cvc").write_bytes(packed)
    cvc.write_manifest(tmp_path / "all.json", tmp_path / "v.cvc")
    Handler.files["/all.json"] = (tmp_path / "all.json").read_bytes()
    place = served.replace("v.cvc", "all.json")
    partitions = cvc.plan(place, "vectors", max_bytes=1 << 20, storage_options={"retries": 0})
    assert {of.uri for of in partitions} == {served} and sum(of.rows for of in partitions) == ROWS
    Handler.files["/v.cvc"] = cvc.pack(np.ones((3, 2), "f4")) or b""
    with pytest.raises(cvc.ChangedError, match="v.cvc"):
        cvc.plan(place)
    with pytest.raises(FileNotFoundError, match="none.json"):
        cvc.plan(place.replace("all", "none"))
