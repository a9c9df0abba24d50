"""Processes that were forked from one whose threads are at work."""

import multiprocessing
import os

import numpy as np
import pytest

import cvc
from cvc.codecs import Zstd

VECTORS = np.random.default_rng(0).normal(size=(20_000, 32)).astype("f4")


def work(path):
    """Reads and packs with all threads, in a child and in a child of the child."""
    with cvc.open(path) as f:
        values = f.vectors[:]
        packed = cvc.pack(values, codec="lossless")
        assert (cvc.open(packed).vectors[:] == values).all()
        assert f.verify() == []
    payload, size, crc = Zstd().compress(values)
    assert Zstd().decompress(payload, size, crc) == values.tobytes()
    return float(values.sum())


def nested(path):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, (path,)), work(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.parametrize("child", [work, nested])
def test_forked_processes_have_threads_of_their_own(tmp_path, child):
    path = tmp_path / "a.cvc"
    cvc.pack(VECTORS, path, codec="int8", chunk_rows=1000)
    here = work(path)
    process = multiprocessing.get_context("fork")
    parent, end = process.Pipe()

    def run():
        end.send(child(path))

    started = process.Process(target=run)
    started.start()
    try:
        assert parent.poll(60), "the child waits for threads that are not there"
        found = parent.recv()
        assert found == (here if child is work else (here, here))
        started.join(60)
    finally:
        if started.is_alive():
            started.kill()
            started.join()
    assert started.exitcode == 0
    assert work(path) == here
