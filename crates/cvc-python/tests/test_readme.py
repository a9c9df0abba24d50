"""The examples of the page on PyPI and of the docstrings."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import cvc

ROOT = Path(__file__).parents[3]


def registered_in_zarr() -> None:
    """What an installed package does by its entry points; a source tree has none."""
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    numcodecs = pytest.importorskip("numcodecs", reason="numcodecs is not installed")
    from cvc.numcodecs import Cvc
    from cvc.zarr import CvcCodec

    zarr.registry.register_codec("cvc", CvcCodec)
    numcodecs.register_codec(Cvc)


@pytest.mark.parametrize("page", ["crates/cvc-python/README.md", "README.md", "docs/convert.md", "docs/search.md", "docs/zarr.md"])
def test_the_examples_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        if "zarr" in block:
            registered_in_zarr()
        exec(compile(block, f"{page}, example {number}", "exec"), names)


def test_the_example_of_the_package_runs() -> None:
    outcome = doctest.testmod(cvc)
    assert outcome.attempted > 0 and outcome.failed == 0


def test_the_examples_of_the_codecs_for_zarr_run() -> None:
    registered_in_zarr()
    import cvc.numcodecs
    import cvc.zarr

    for module in (cvc.zarr, cvc.numcodecs):
        outcome = doctest.testmod(module)
        assert outcome.attempted > 0 and outcome.failed == 0
