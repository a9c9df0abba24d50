"""Bodies and sidecars of S4."""

import io
import json
from pathlib import Path

import pytest

import cvc
from cvc import s4

GOLDEN = Path(__file__).parents[3] / "crates/cvc-conformance/data/golden/s4"
BODY = (GOLDEN / "multi9m.s4f2").read_bytes()
SIDECAR = (GOLDEN / "multi9m.s4index").read_bytes()


@pytest.fixture(scope="module")
def data():
    return s4.open(BODY).read_range()


@pytest.mark.parametrize("name", ["empty", "f32rand", "hello", "text", "u32sorted"])
def test_bodies_of_s4_are_read(name):
    path, plain = GOLDEN / f"{name}.s4f2", (GOLDEN / f"{name}.bin").read_bytes()
    sources = (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), path.open("rb"))
    for source in sources:
        body = s4.open(source)
        assert body.read_range() == plain
        assert body.decoded_len == len(plain)
        assert body.totals() == (len(plain), path.stat().st_size, cvc.codecs.crc32c(plain))
        assert body.verify() == []
    sources[-1].close()


def test_frames_ranges_and_padding(data):
    body = s4.open(BODY)
    first = body.frames[0]
    assert first.stored.start == 0 and first.decoded.start == 0 and first.codec == "cpu-zstd"
    assert body.read_frame(0) == data[: first.decoded.stop]
    assert first.crc32c == cvc.codecs.crc32c(body.read_frame(0))
    edge = first.decoded.stop
    assert body.read_range(edge - 3, edge + 4) == data[edge - 3 : edge + 4]
    assert body.read_range(5, 5) == b""
    assert "frames" in repr(body)
    padded = s4.open(GOLDEN / "multi9m.padded.s4f2")
    assert padded.read_range() == data
    body.check(len(data), len(BODY), cvc.codecs.crc32c(data))
    with pytest.raises(cvc.FormatError, match="metadata"):
        body.check(len(data), len(BODY), 0)


def test_a_sidecar_spares_the_walk(data):
    index = s4.Index.parse(SIDECAR)
    assert index.entries == [(frame.stored, frame.decoded) for frame in s4.open(BODY).frames]
    assert index.bound_len == len(BODY) and index.stored_len == len(BODY) and not index.encrypted
    for given in (SIDECAR, index):
        body = s4.open(io.BytesIO(BODY), index=given, etag=index.etag)
        assert body.frames[0].codec is None
        assert body.read_range(9_000_000, 9_000_100) == data[9_000_000:9_000_100]
    with pytest.raises(cvc.FormatError, match="etag"):
        s4.open(BODY, index=SIDECAR, etag="another")
    unbound = (GOLDEN / "multi9m.s4index.unbound").read_bytes()
    with pytest.raises(cvc.ArgumentError, match="unbound=True"):
        s4.open(BODY, index=unbound)
    assert s4.open(BODY, index=unbound, unbound=True).read_range(7, 9) == data[7:9]
    again = s4.open(BODY).index()
    assert again == s4.Index.parse(unbound) and "not bound" in repr(again)
    bound = again.bind(len(BODY), index.etag)
    assert bound == index and bound.to_bytes() == SIDECAR
    with pytest.raises(cvc.FormatError, match="length"):
        again.bind(5)


def test_what_is_packed_is_read(data):
    for codec, level in (("zstd", 1), ("gzip", None), ("passthrough", None)):
        packed = s4.pack(data[:300_000], codec, level=level, frame_len=100_000)
        body = s4.open(packed.body)
        assert len(body.frames) == 3 and body.read_range(1) == data[1:300_000]
        assert body.totals() == packed.totals
        assert packed.metadata["s4-original-size"] == "300000"
        assert body.index() == packed.sidecar
    for wrong in ({"codec": "lz4"}, {"level": 23}, {"codec": "gzip", "level": -1}, {"frame_len": 0}):
        with pytest.raises(cvc.ArgumentError):
            s4.pack(b"some", **wrong)


def test_dictionaries_are_taken():
    folder = GOLDEN / "dict"
    (entry,) = json.loads((folder / "manifest.json").read_text())["entries"]
    payload = (folder / entry["compressed"]).read_bytes()
    header = b"S4F2" + (8).to_bytes(4, "little") + entry["original_size"].to_bytes(8, "little")
    body = header + len(payload).to_bytes(8, "little") + entry["crc32c"].to_bytes(4, "little") + payload
    with pytest.raises(cvc.ArgumentError, match="`dictionary`"):
        s4.open(body).read_range()
    dictionary = (folder / entry["dictionary"]).read_bytes()
    assert s4.open(body, dictionary=dictionary).read_range() == (folder / entry["payload"]).read_bytes()


def test_each_culprit_has_one_class():
    hello = (GOLDEN / "hello.s4f2").read_bytes()
    unknown = hello[:4] + b"\x63" + hello[5:]
    for body, error in (
        (b"no body", cvc.FormatError),
        (hello[:-1], cvc.FormatError),
        (hello[:20], cvc.FormatError),
        (unknown, cvc.UnsupportedError),
        (b"S4E6" + bytes(40), cvc.FormatError),
    ):
        with pytest.raises(error):
            s4.open(body)
    damaged = hello[:-3] + bytes([hello[-3] ^ 8]) + hello[-2:]
    with pytest.raises(cvc.codecs.PayloadError):
        s4.open(damaged).read_range()
    (found,) = s4.open(damaged).verify()
    assert isinstance(found, cvc.codecs.PayloadError)
    for start, stop in ((0, 10**9), (5, 4)):
        with pytest.raises(cvc.ArgumentError, match="range"):
            s4.open(hello).read_range(start, stop)
    with pytest.raises(cvc.ArgumentError, match="frame"):
        s4.open(hello).read_frame(1)
    with pytest.raises(cvc.LimitError, match="max_frame_bytes"):
        s4.open(hello, max_frame_bytes=5).read_range()
    for sidecar in (b"", SIDECAR[:-1], b"S4IX" + bytes(60), hello):
        with pytest.raises(cvc.FormatError, match="sidecar"):
            s4.Index.parse(sidecar)
    with pytest.raises(FileNotFoundError):
        s4.open("/no/such/body")

    class Broken(io.BytesIO):
        def readinto(self, into):
            raise OSError("the network is down")

    with pytest.raises(cvc.SystemFailure, match="network"):
        s4.open(Broken(hello))
    with pytest.raises(TypeError):
        s4.open(None)
