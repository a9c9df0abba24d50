"""What the tests share: real vectors, and files of them."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest

import cvc

DATA = Path(__file__).parents[3] / "examples" / "data"


def needs(*modules: str, kind: str) -> None:
    """Skips a test whose packages are not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            absent(f"{module}: {error}", kind)


def absent(reason: str, kind: str) -> None:
    """Skips a test, unless `CVC_REQUIRE` lists what it lacks."""
    if kind in os.environ.get("CVC_REQUIRE", "").split(","):
        pytest.fail(f"CVC_REQUIRE asks for {kind}, but: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def minilm() -> np.ndarray:
    """2,000 real sentence embeddings, of 384 dims."""
    return np.load(DATA / "minilm2k.f32.npy")


@pytest.fixture(scope="session")
def names() -> list[str]:
    return (DATA / "minilm2k.names.txt").read_text().splitlines()


@pytest.fixture(scope="session")
def packed(minilm: np.ndarray, names: list[str]) -> bytes:
    """A native file in memory: vectors in int8, names, labels, three sections."""
    data = {"vectors": minilm, "names": names, "labels": np.arange(len(minilm), dtype="i4")}
    sections = [(0, 700, {"source": "wiki"}), (700, 1500, {"source": "arxiv", "year": 2024}), (1500, 2000, {"source": "wiki"})]
    return cvc.pack(data, codec={"vectors": "int8"}, sections=sections, metadata={"made": "for tests"}, chunk_rows=512)


@pytest.fixture
def file(packed: bytes) -> cvc.File:
    return cvc.open(packed)
