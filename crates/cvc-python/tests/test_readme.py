"""The examples of the page on PyPI and of the docstrings."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import cvc

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["crates/cvc-python/README.md", "README.md", "docs/search.md"])
def test_the_examples_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, example {number}", "exec"), names)


def test_the_example_of_the_package_runs() -> None:
    outcome = doctest.testmod(cvc)
    assert outcome.attempted > 0 and outcome.failed == 0
