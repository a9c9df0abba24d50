"""S4's codecs: its own payloads, any buffer, and one class of exception for each culprit."""

import json
import pickle
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

import cvc
from cvc.codecs import ArgumentError, Gzip, MismatchError, PayloadError, Zstd, ZstdDict, crc32c

GOLDEN = Path(__file__).parents[3] / "crates/cvc-conformance/data/golden/s4"
CODECS = {"cpu-zstd": Zstd(), "cpu-gzip": Gzip()}
TEXT = b"all work and no play makes a dull vector; " * 300


def golden():
    for entry in json.loads((GOLDEN / "manifest.json").read_text())["entries"]:
        if entry.get("compressed") and entry["codec"] in CODECS:
            yield pytest.param(entry, id=entry["compressed"])


@pytest.mark.parametrize("entry", list(golden()))
def test_payloads_of_s4_are_read(entry):
    payload, data = (GOLDEN / entry["compressed"]).read_bytes(), (GOLDEN / entry["payload"]).read_bytes()
    codec = CODECS[entry["codec"]]
    assert codec.decompress(payload, entry["original_size"], entry["crc32c"]) == data
    assert crc32c(data) == entry["crc32c"]


def test_payloads_with_a_dictionary_are_read():
    folder = GOLDEN / "dict"
    (entry,) = json.loads((folder / "manifest.json").read_text())["entries"]
    dictionary = (folder / entry["dictionary"]).read_bytes()
    payload = (folder / entry["compressed"]).read_bytes()
    codec = ZstdDict(dictionary, level=7)
    assert codec.dict_id == entry["dictionary_id"]
    data = codec.decompress(payload, entry["original_size"], entry["crc32c"])
    assert data == (folder / entry["payload"]).read_bytes()
    again = codec.compress(data)
    assert codec.decompress(*again) == data
    with pytest.raises(ArgumentError, match="dictionary 20260"):
        Zstd().decompress(*again)
    with pytest.raises(ArgumentError, match="empty"):
        ZstdDict(b"")


@pytest.mark.parametrize("codec", [Zstd(), Zstd(19), Gzip(), Gzip(1), ZstdDict(TEXT[:2000])], ids=repr)
def test_any_buffer_goes_in_and_comes_out(codec):
    array = np.arange(9000, dtype="f4").reshape(90, 100)
    for data in (b"", b"x", TEXT, bytearray(TEXT), memoryview(TEXT)[5:99], array, array[3:7]):
        payload, size, crc = codec.compress(data)
        plain = bytes(memoryview(data).cast("B"))
        assert (size, crc) == (len(plain), crc32c(plain))
        for given in (payload, bytearray(payload), memoryview(payload), np.frombuffer(payload, "u1")):
            assert codec.decompress(given, size, crc) == plain
        out = bytearray(size)
        assert codec.decompress(payload, size, crc, out=out) is out
        assert out == plain
    into = np.empty_like(array)
    codec.decompress(*codec.compress(array), out=into)
    assert (into == array).all()
    with pytest.raises(BufferError, match="contiguous"):
        codec.compress(array[:, ::2])
    with pytest.raises(TypeError):
        codec.compress("text")


def test_out_must_fit():
    payload, size, crc = Zstd().compress(TEXT)
    for out in (bytearray(size - 1), bytearray(size + 1)):
        with pytest.raises(ArgumentError, match="out has"):
            Zstd().decompress(payload, size, crc, out=out)
    with pytest.raises(ValueError, match="read-only"):
        Zstd().decompress(payload, size, crc, out=bytes(size))


def test_codecs_say_what_they_are():
    assert repr(Zstd()) == "Zstd(level=3)"
    assert repr(Zstd(9)) == "Zstd(level=9)"
    assert repr(Gzip(level=1)) == "Gzip(level=1)"
    assert repr(ZstdDict(b"some content", 5)) == "ZstdDict(<12 bytes, id 0>, level=5)"
    assert Zstd(9).level == 9
    assert Zstd(9) == Zstd(np.int64(9)) != Zstd(8)
    for codec in (Zstd(9), Gzip(2), ZstdDict(b"some content", 5)):
        copy = pickle.loads(pickle.dumps(codec))
        assert repr(copy) == repr(codec)
        assert copy.decompress(*codec.compress(TEXT)) == TEXT


@pytest.mark.parametrize("codec", [Zstd, Gzip, lambda level: ZstdDict(b"content", level)])
def test_levels_out_of_range_are_refused(codec):
    for level in (-5, 23, 10**30):
        with pytest.raises(ArgumentError, match="level") as caught:
            codec(level)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(TypeError):
        codec("3")


@pytest.mark.parametrize("codec", [Zstd(), Gzip()], ids=repr)
def test_each_culprit_has_one_class(codec):
    payload, size, crc = codec.compress(TEXT)
    other = (Gzip() if isinstance(codec, Zstd) else Zstd()).compress(TEXT)[0]
    # The payload.
    for damaged in (b"", payload[:1], payload[:-1], payload + b"x", payload + b"\0" * 40, b"?" * 50, other):
        with pytest.raises(PayloadError) as caught:
            codec.decompress(damaged, size, crc)
        assert isinstance(caught.value, (cvc.CvcError, ValueError))
    # Numbers that are another's.
    for wrong in ((0, crc), (size - 1, crc), (size + 1, crc), (5 << 30, crc), (size, crc ^ 1)):
        with pytest.raises(MismatchError):
            codec.decompress(payload, *wrong)
    # Numbers that are nobody's.
    for wrong in (
        (-1, crc),
        ((5 << 30) + 1, crc),
        (1 << 63, crc),
        (1 << 64, crc),
        (size, -1),
        (size, 1 << 32),
    ):
        with pytest.raises(ArgumentError, match="is needed") as caught:
            codec.decompress(payload, *wrong)
        assert not isinstance(caught.value, PayloadError)
    for wrong in ((str(size), crc), (size, None)):
        with pytest.raises(TypeError):
            codec.decompress(payload, *wrong)
    with pytest.raises(ArgumentError, match="is needed"):
        codec.decompress(payload, np.int64(-1), crc)
    assert codec.decompress(payload, np.int64(size), np.uint32(crc)) == TEXT


@pytest.mark.parametrize("codec", [Zstd(), Gzip()], ids=repr)
def test_every_flipped_bit_is_found_or_changes_nothing(codec):
    payload, size, crc = codec.compress(TEXT)
    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert codec.decompress(flipped, size, crc) == TEXT
        except PayloadError:
            pass
        except ArgumentError as error:  # the bits that say that there is a dictionary
            assert "dictionary" in str(error)


def test_a_bomb_takes_no_memory():
    payload, size, crc = Zstd().compress(bytes(1 << 20))
    # What it can give is known before memory is asked for.
    with pytest.raises(MismatchError, match="says 1048576|at most"):
        Zstd().decompress(payload, 4 << 30, crc)


def test_crc32c_goes_on():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(b"", 7) == 7
    assert crc32c(np.arange(100_000)) == crc32c(np.arange(100_000).tobytes())


def test_the_interpreter_is_let_go_of():
    data = np.random.default_rng(0).normal(size=1 << 21).astype("f4")
    count = 0
    done = threading.Event()

    def compress():
        Gzip(6).compress(data)
        done.set()

    thread = threading.Thread(target=compress)
    thread.start()
    while not done.is_set():
        count += 1
    thread.join()
    assert count > 1000


def test_threads_share_a_codec():
    codec, failed = Zstd(), []

    def work(seed):
        data = bytes([seed]) * (1000 + seed)
        for _ in range(300):
            if codec.decompress(*codec.compress(data)) != data:
                failed.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_gzip_is_what_others_read():
    payload, _, _ = Gzip(6).compress(TEXT)
    assert zlib.decompress(payload, 31) == TEXT


def test_a_payload_is_not_decoded_over_itself() -> None:
    data = bytes(1000)
    payload, size, crc = cvc.codecs.Zstd().compress(data)
    memory = bytearray(size)
    memory[: len(payload)] = payload
    whole = memoryview(memory)
    with pytest.raises(cvc.ArgumentError, match="same memory"):
        cvc.codecs.Zstd().decompress(whole[: len(payload)], size, crc, out=whole)
    assert memory[: len(payload)] == payload
