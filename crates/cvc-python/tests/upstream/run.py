"""Runs the tests of `decompressed` itself, of its source distribution, with `cvc` in its place; then tests that the real
package reads what `cvc` writes (`interop.py`).

    python -m pip download --no-deps --no-binary decompressed decompressed==2.1.1
    python crates/cvc-python/tests/upstream/run.py decompressed-2.1.1.tar.gz

The folder that the archive unpacks to will do as well. `cvc`, NumPy and pytest must be importable. Exits with 0 if
every test passes, is skipped for want of a GPU, or fails as `EXPECTED` says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from common import Counting, unpacked

HERE = Path(__file__).resolve().parent
OPTIONS = ["-q", "--tb=short", "-p", "no:cacheprovider", "-c", os.devnull]
# Of the archive, as it is code that runs here.
SHA256 = "975641352765d46ed1b0a626ba68a092965b047188f68dce826e5566c0c82bfc"
# The test, and the row of formats/cvcf.md section 6 that says why it cannot pass.
EXPECTED: dict[str, str] = {}
# Fewer tests than this mean that they were not found.
LEAST = 87


class Plugin(Counting):
    """Marks what is expected to fail, and counts."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        left = dict(EXPECTED)
        for item in items:
            row = left.pop(item.nodeid.split("/")[-1], None)
            if row is not None:
                # Strict: a row that no longer holds must go.
                item.add_marker(pytest.mark.xfail(reason=row, strict=True))
        if left:
            raise pytest.UsageError(f"EXPECTED speaks of tests that are not there: {', '.join(left)}")


def own_tests(folder: Path, temporary: Path) -> int:
    """The tests of `decompressed`, on `cvc`."""
    # Away from the package, which they would put in front of the shim.
    tests = temporary / "tests"
    shutil.copytree(folder / "tests", tests)
    sys.path.insert(0, str(HERE / "shim"))
    os.chdir(temporary)
    plugin = Plugin()
    code = pytest.main([*OPTIONS, "--rootdir", str(temporary), str(tests)], plugins=[plugin])
    import decompressed

    counts = plugin.counts
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"decompressed's own tests on cvc ({decompressed.__file__}): {said}", flush=True)
    if sum(counts.values()) < LEAST:
        print(f"fewer than {LEAST} tests were found", file=sys.stderr)
        return 2
    return int(code)


def interop(folder: Path) -> int:
    """Our tests of the real package, in a process of their own, as both packages have the same name there."""
    paths = [str(folder / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *OPTIONS, "--rootdir", str(HERE), str(HERE / "interop.py")]
    print("the real decompressed on files of cvc:", flush=True)
    return subprocess.run(command, env=environment, check=False).returncode


def main(source: Path) -> int:
    sys.dont_write_bytecode = True
    # Relative ones would be lost with the working directory.
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))
    with tempfile.TemporaryDirectory() as archive, tempfile.TemporaryDirectory() as temporary:
        folder = unpacked(source, Path(archive), "decompressed 2.1.1", SHA256)
        codes = interop(folder), own_tests(folder, Path(temporary))
        os.chdir(HERE)
    return max(codes)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).resolve()))
