"""What a file is, whether it is whole, and making a v1 file of a v0 one."""

from __future__ import annotations

import os
import zlib
from typing import Any

from .._cvc import open as open_file
from .._errors import ArgumentError, CvcError
from . import frames
from .frames import Path, opened, opened_frames
from .load import has_sections

# `decompressed` calls files without a version 0.1.
_VERSIONS = {"v0": (0, 1), "v1": (1, 0), "v1-mmap": (1, 0), "v2": (2, 0)}
_NO_CHECKSUMS = (
    "there are no checksums in a file of layout v0, so nobody can tell whether it is whole: upgrade_cvc() adds them"
)


def _version(layout: str) -> str:
    if layout == "native":
        return layout
    major, minor = _VERSIONS[layout]
    return f"v{major}.{minor}"


def get_cvc_info(path: Any) -> dict[str, Any]:
    """What a file says of itself; no rows are read.

    Always: `format_type` (`single` or `columnar`), `layout`, `num_vectors`, `num_chunks`, `file_size`, and `chunks`, a
    list of dicts with `index` and `rows`. Of a file with one array: `dimension`, `compression`, and for each chunk its
    `metadata`, `compression` and, of int8 chunks of CVCF files, `min` and `scale`. Of a columnar file: `columns`, dicts
    of `name`, `dtype`, `dimension` and `compression`, and for each chunk the names of its `columns`. With sections:
    `sections`, dicts of `start_index`, `end_index` (exclusive), `num_vectors` and `metadata`.

    Raises what `load_cvc` raises.
    """
    with opened(path) as file:
        return info_of(file, file.file_len)


def info_of(file: Any, file_size: int) -> dict[str, Any]:
    """What `get_cvc_info` says of an open file."""
    arrays = file.arrays
    first = next(iter(arrays.values()))
    single = file.layout != "v2" and list(arrays) == ["vectors"]
    chunks = first.chunks
    header = file.header
    info: dict[str, Any] = {
        "format_type": "single" if single else "columnar",
        "layout": file.layout,
        "num_vectors": len(first),
        "num_chunks": len(chunks),
        "file_size": file_size,
    }
    cvcf = file.layout != "native"
    if single:
        info["dimension"] = header["dimension"] if cvcf else _dimension(first)
        info["compression"] = header["compression"] if cvcf else first.codec
        said = file.chunk_metadata or [None] * len(chunks)
        of_chunks = header["chunks"] if cvcf else [{}] * len(chunks)
        info["chunks"] = [
            {
                "index": index,
                "rows": len(rows),
                "metadata": metadata,
                "compression": of_chunk.get("compression", info["compression"]),
                **{key: of_chunk[key] for key in ("min", "scale") if key in of_chunk},
            }
            for index, (rows, metadata, of_chunk) in enumerate(zip(chunks, said, of_chunks))
        ]
    else:
        info["columns"] = columns_of(file)
        info["chunks"] = [
            {"index": index, "rows": len(rows), "columns": list(arrays)} for index, rows in enumerate(chunks)
        ]
    if has_sections(file):
        info["sections"] = [
            {
                "start_index": section.start,
                "end_index": section.stop,
                "num_vectors": section.stop - section.start,
                "metadata": section.metadata,
            }
            for section in file.sections
        ]
    return info


def columns_of(file: Any) -> list[dict[str, Any]]:
    """What is known of each column of a columnar or native file."""
    if file.layout == "v2":
        return list(file.header["columns"])
    return [_column(array) for array in file.arrays.values()]


def _dimension(array: Any) -> int:
    dimension = 1
    for length in array.shape[1:]:
        dimension *= length
    return dimension


def _column(array: Any) -> dict[str, Any]:
    return {
        "name": array.name,
        "dtype": array.stored_dtype,
        "dimension": _dimension(array),
        "compression": "none" if array.codec == "raw" else array.codec,
    }


def detect_version(path: Any) -> tuple[int, int]:
    """The version of a CVCF file: `(0, 1)` for layout v0, `(1, 0)`, or `(2, 0)` for columns.

    The header decides, not its length. Raises `FormatError` (a `ValueError`) for what is no such file, `ArgumentError`
    (a `ValueError`) for a file in layout native, which has no such version.
    """
    with opened(path) as file:
        layout = file.layout
    if layout == "native":
        raise ArgumentError(
            "the file is in layout native, which has no CVCF version; cvc.open(path).layout tells all layouts"
        )
    return _VERSIONS[layout]


def validate_cvc_version(path: Path) -> dict[str, Any]:
    """The version of a file and whether `upgrade_cvc` has something to do: `valid`, `version`, `version_tuple`,
    `needs_upgrade`, `current_latest`, `path`; of a file that cannot be opened `valid` (false), `error` and `path`.

    Raises `FileNotFoundError`.
    """
    try:
        with opened(path) as file:
            layout = file.layout
    except FileNotFoundError:
        raise
    except (CvcError, OSError) as error:
        return {"valid": False, "error": str(error), "path": str(path)}
    return {
        "valid": True,
        "version": _version(layout),
        "version_tuple": _VERSIONS.get(layout),
        "needs_upgrade": layout == "v0",
        "current_latest": "v1.0",
        "path": str(path),
    }


def validate_cvc(path: Path) -> dict[str, Any]:
    """Whether a file has the form that its layout demands: its header, its frames and their lengths; no rows are read.

    A dict of `valid`, `version` (`v0.1`, `v1.0`, `v2.0`, `native`), `num_vectors`, `num_chunks`, `size_bytes`,
    `size_mb`, `errors` and `warnings` (lists of strings); `dimension` and `compression` of a file with one array,
    `columns` of others. Of a file that cannot be opened only `valid`, `version` (`unknown`), the sizes and the lists.

    Raises `FileNotFoundError`.
    """
    # Only paths have a size before they are open.
    size = os.stat(path).st_size
    sizes = {"size_bytes": size, "size_mb": round(size / (1024 * 1024), 2)}
    try:
        with opened(path) as file:
            info = info_of(file, size)
    except (CvcError, OSError) as error:
        return {"valid": False, "version": "unknown", **sizes, "errors": [str(error)], "warnings": []}
    warnings = [_NO_CHECKSUMS] if info["layout"] == "v0" else []
    keys = ("num_vectors", "dimension", "compression", "columns", "num_chunks")
    said: dict[str, Any] = {key: info[key] for key in keys if key in info}
    return {"valid": True, "version": _version(info["layout"]), **said, **sizes, "errors": [], "warnings": warnings}


def validate_cvc_integrity(path: Path, verbose: bool = False) -> dict[str, Any]:
    """Compares every byte of the chunks with its checksum.

    A dict of `valid`, `total_chunks`, `corrupted_chunks` (indices), `corrupted_ranges` (pairs of a first row and the
    one after the last) and `checksum_details`: with `verbose`, which also prints a line for each chunk, a list of dicts
    of `chunk_index`, `valid`, `vector_range`, `expected_crc32` and `actual_crc32` (8 hex digits; `None` in native
    files, which have many for a chunk). A file that cannot be opened, or has no checksums (layout v0), is not valid;
    `error` says why.

    Raises `FileNotFoundError`.
    """
    os.stat(path)
    report: dict[str, Any] = {"valid": False, "total_chunks": 0, "corrupted_chunks": [], "corrupted_ranges": []}
    try:
        with opened(path) as file:
            first = next(iter(file.arrays.values()))
            chunks = first.chunks
            report["total_chunks"] = len(chunks)
            if file.layout == "v0":
                return {**report, "error": _NO_CHECKSUMS}
            damage = file.verify()
            details = _details(path, file.layout, chunks, {found.chunk for found in damage}) if verbose else None
    except (CvcError, OSError) as error:
        return {**report, "error": str(error)}
    # Arrays of native files have chunks of their own, so rows say more than numbers do.
    corrupted = sorted({found.chunk for found in damage})
    ranges = sorted({tuple(found.rows) for found in damage})
    if details is not None:
        _print(details)
    report = {**report, "valid": not damage, "corrupted_chunks": corrupted, "corrupted_ranges": ranges}
    if damage:
        report["error"] = "; ".join(found.what for found in damage)
    return {**report, "checksum_details": details}


def _details(path: Path, layout: str, chunks: list[range], damaged: set[int]) -> list[dict[str, Any]]:
    """What there is to say of each chunk."""
    sums: list[tuple[str | None, str | None]] = [(None, None)] * len(chunks)
    if layout != "native":
        with opened_frames(path) as cvcf, open(path, "rb") as file:
            for index, frame in enumerate(cvcf.frames):
                file.seek(frame.start)
                sums[index] = f"{frame.crc32 or 0:08x}", f"{zlib.crc32(file.read(frame.length)):08x}"
    return [
        {
            "chunk_index": index,
            "valid": index not in damaged,
            "expected_crc32": expected,
            "actual_crc32": actual,
            "vector_range": (rows.start, rows.stop),
        }
        for index, (rows, (expected, actual)) in enumerate(zip(chunks, sums))
    ]


def _print(details: list[dict[str, Any]]) -> None:
    print(f"Validating {len(details)} chunks...")
    for detail in details:
        start, stop = detail["vector_range"]
        if detail["valid"]:
            print(f"  ✓ Chunk {detail['chunk_index']}: OK")
        else:
            print(f"  ✗ Chunk {detail['chunk_index']}: CORRUPTED (rows {start} to {stop})")


def upgrade_cvc(input_path: Path, output_path: Path, verbose: bool = False, *, layout: str = "v1") -> dict[str, Any]:
    """Writes a v0 file again as a v1 one, which has checksums: the header says the same, the chunks are copied.

    A v1 file is copied (without the gaps of a mapped one); a columnar file keeps its layout, v2, which has all that v1
    has. With `layout="native"` the output is in the layout of this package, and every row decodes to the same bits.

    Returns a dict of `input_version`, `output_version`, `num_chunks`, `num_vectors`, `dimension` (`None` for columns),
    `input_size_mb` and `output_size_mb`. Raises `FileExistsError` if there is a file at `output_path`,
    `CorruptedChunkError` if a chunk of the input is damaged, and what `load_cvc` raises; nothing is written then.
    """
    if layout not in ("v1", "native"):
        raise ArgumentError(f"layout = {layout!r}: v1 or native is needed")
    with opened(input_path) as file:
        info = info_of(file, file.file_len)
        if os.path.lexists(output_path):
            raise FileExistsError(
                f"there is a file at {os.fspath(output_path)} already: remove it or choose another path"
            )
        if layout == "native" and info["layout"] != "native":
            file.convert(output_path, overwrite=False)
        else:
            _copy(input_path, output_path)
    with open_file(output_path) as file:
        written = _version(file.layout)
    report = {
        "input_version": _version(info["layout"]),
        "output_version": written,
        "num_chunks": info["num_chunks"],
        "num_vectors": info["num_vectors"],
        "dimension": info.get("dimension"),
        "input_size_mb": round(os.stat(input_path).st_size / (1024 * 1024), 2),
        "output_size_mb": round(os.stat(output_path).st_size / (1024 * 1024), 2),
    }
    if verbose:
        print(f"{os.fspath(input_path)} ({report['input_version']}) -> {os.fspath(output_path)} ({written})")
    return report


def _copy(input_path: Path, output_path: Path) -> None:
    with frames.replaced(output_path, overwrite=False) as out, opened_frames(input_path) as cvcf:
        layout = "v2" if cvcf.layout == "v2" else "v1"
        header = {key: value for key, value in cvcf.header.items() if key != "mmap_optimized"}
        header["chunks"] = [
            {key: value for key, value in chunk.items() if key != "file_offset"} for chunk in header["chunks"]
        ]
        payloads = (cvcf.payload(chunk) for chunk in range(len(cvcf.frames)))
        frames.write(out, layout, header, payloads)
