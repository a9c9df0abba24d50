"""Runs the tests of `decompressed` itself, of its unpacked source distribution, with `cvc` in its place.

    python -m pip download --no-deps --no-binary decompressed decompressed==2.1.1 && tar xf decompressed-2.1.1.tar.gz
    python crates/cvc-python/tests/upstream/run.py decompressed-2.1.1

`cvc`, NumPy and pytest must be importable. Exits with 0 if every test passes, is skipped for want of a GPU, or fails as
`EXPECTED` says.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

# The test, and the row of formats/cvcf.md section 6 that says why it cannot pass.
EXPECTED: dict[str, str] = {}
# Fewer tests than this mean that they were not found.
LEAST = 87


class Plugin:
    """Marks what is expected to fail, and counts."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "skipped": 0, "xfailed": 0, "failed": 0}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        left = dict(EXPECTED)
        for item in items:
            row = left.pop(item.nodeid.split("/")[-1], None)
            if row is not None:
                # Strict: a row that no longer holds must go.
                item.add_marker(pytest.mark.xfail(reason=row, strict=True))
        if left:
            raise pytest.UsageError(f"EXPECTED speaks of tests that are not there: {', '.join(left)}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            expected = report.skipped and hasattr(report, "wasxfail")
            self.counts["xfailed" if expected else report.outcome] += 1


def main(folder: Path) -> int:
    if not (folder / "tests").is_dir():
        print(f"{folder} has no folder `tests`: the unpacked source distribution of decompressed is needed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        # Away from the package, which the tests would put in front of the shim.
        tests = Path(temporary) / "tests"
        shutil.copytree(folder / "tests", tests)
        sys.path.insert(0, str(Path(__file__).parent / "shim"))
        sys.dont_write_bytecode = True
        os.chdir(temporary)
        plugin = Plugin()
        options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", temporary]
        code = pytest.main([*options, str(tests)], plugins=[plugin])
        import decompressed

        shim = decompressed.__file__
    counts = plugin.counts
    print(f"decompressed's own tests on cvc ({shim}): " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    if sum(counts.values()) < LEAST:
        print(f"fewer than {LEAST} tests were found", file=sys.stderr)
        return 2
    return int(code)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).resolve()))
