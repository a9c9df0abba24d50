"""Runs tests of zarr-python, of its source distribution, with `cvc` in place of what Zarr takes by itself: `CvcCodec` as the serializer of
every Zarr v3 array that asks for none, without a compressor, and `cvc.numcodecs.Cvc` as the compressor of v2.

    python -m pip download --no-deps --no-binary zarr zarr==3.1.6
    python crates/cvc-python/tests/upstream/zarr_run.py zarr-3.1.6.tar.gz

The folder that the archive unpacks to will do as well. `cvc` must be installed, as some tests start processes that find it by its entry
points, and so must that version of zarr pytest-asyncio and hypothesis. Exits with 0 if
every test passes, is skipped, or fails as `EXPECTED` says.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from common import Counting, unpacked

# Of the archive, as it is code that runs here.
SHA256 = "d95e72cbea4b90e9a70679468b8266400331756232576ae2b43400ac5108d0eb"
TESTS = ["test_codecs", "test_codec_entrypoints.py", "test_indexing.py", "test_properties.py", "test_array.py", "test_v2.py"]
OPTIONS = ["-q", "--tb=short", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings="]

_OTHER_DEFAULT = "it compares metadata or text with the names of the codecs that Zarr takes by itself"
# Tests, by the end of their names without parameters, and why they cannot pass.
EXPECTED = {
    "test_sharding.py::test_delete_empty_shards": "it wants a chunk to have as many bytes as its values",
    "test_array.py::test_roundtrip_numcodecs": _OTHER_DEFAULT,
    "test_array.py::TestInfo::test_info_v2": _OTHER_DEFAULT,
    "test_array.py::TestInfo::test_info_v3": _OTHER_DEFAULT,
    "test_array.py::TestInfo::test_info_complete": _OTHER_DEFAULT,
    "test_array.py::TestInfo::test_info_v2_async": _OTHER_DEFAULT,
    "test_array.py::TestInfo::test_info_v3_async": _OTHER_DEFAULT,
    "test_array.py::TestInfo::test_info_complete_async": _OTHER_DEFAULT,
}
# Fewer tests than this mean that they were not found, and fewer arrays of `cvc` that it was not tried.
LEAST, LEAST_ARRAYS = 2000, 2000


class Plugin(Counting):
    """Puts `cvc` in, marks what is expected to fail, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.arrays = {3: 0, 2: 0}

    def pytest_configure(self) -> None:
        import zarr.core.array as core

        from cvc.numcodecs import Cvc
        from cvc.zarr import CvcCodec, _stored_name

        usual = core.default_serializer_v3, core.default_compressors_v3, core.default_compressor_v2

        def holds(dtype: Any) -> bool:
            try:
                return _stored_name(dtype.to_native_dtype()) is not None
            except TypeError:  # Some tests have dtypes that NumPy does not know.
                return False

        def serializer(dtype: Any) -> Any:
            self.arrays[3] += holds(dtype)
            return CvcCodec() if holds(dtype) else usual[0](dtype)

        def compressors(dtype: Any) -> Any:
            return () if holds(dtype) else usual[1](dtype)

        def compressor(dtype: Any) -> Any:
            self.arrays[2] += holds(dtype)
            return Cvc() if holds(dtype) else usual[2](dtype)

        core.default_serializer_v3, core.default_compressors_v3, core.default_compressor_v2 = serializer, compressors, compressor

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = set()
        for item in items:
            name = item.nodeid.split("[")[0].removeprefix("tests/").removeprefix("test_codecs/")
            if name in EXPECTED:
                found.add(name)
                # Strict: a row that no longer holds must go.
                item.add_marker(pytest.mark.xfail(reason=EXPECTED[name], strict=True))
        if missing := set(EXPECTED) - found:
            raise pytest.UsageError(f"EXPECTED speaks of tests that are not there: {', '.join(sorted(missing))}")


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not entry_points(group="zarr.codecs", name="cvc"):
        sys.exit("cvc is not installed: the processes that some tests start would not find it, and would be waited for")
    with tempfile.TemporaryDirectory() as temporary:
        folder = unpacked(Path(sys.argv[1]).resolve(), Path(temporary), "zarr", SHA256)
        os.chdir(folder)
        plugin = Plugin()
        status = pytest.main([*OPTIONS, *(f"tests/{name}" for name in TESTS)], plugins=[plugin])
        os.chdir("/")
    print(f"zarr's own tests, on cvc: {plugin.counts}, arrays of v3 and v2: {plugin.arrays}")
    if sum(plugin.counts.values()) < LEAST or sum(plugin.arrays.values()) < LEAST_ARRAYS:
        sys.exit("too few tests were found, or cvc was not used")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
