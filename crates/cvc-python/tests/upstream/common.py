"""What the runners of other projects' tests have in common."""

import hashlib
import sys
import tarfile
from pathlib import Path

import pytest


class Counting:
    """A plugin of pytest that counts how tests ended."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "skipped": 0, "xfailed": 0, "failed": 0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            expected = report.skipped and hasattr(report, "wasxfail")
            self.counts["xfailed" if expected else report.outcome] += 1


def unpacked(source: Path, into: Path, name: str, sha256: str) -> Path:
    """The folder of a source distribution. It is code that runs here, so its archive must be the one that is known."""
    if source.is_dir():
        return source
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != sha256:
        sys.exit(f"{source} is not the archive of {name} that is known: its sha256 is {found}")
    with tarfile.open(source) as archive:
        archive.extractall(into, filter="data")
    (folder,) = into.iterdir()
    return folder
