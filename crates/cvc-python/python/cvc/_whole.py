"""Files and folders that appear under their name whole, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._errors import FileInTheWayError


@contextmanager
def whole(target: Path, overwrite: bool = True) -> Iterator[Path]:
    """A path beside `target` to write a file or a folder to, which takes its name when all went well and all of it is on the disk.

    Without `overwrite` whatever has the name stays, also if it came up meanwhile.
    """
    if not overwrite and os.path.lexists(target):
        raise _in_the_way(target)
    # Formats that look at extensions see the same.
    part = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        yield part
        _sync(part)
        _named(part, target, overwrite)
        _sync_folder(target.parent)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _named(part: Path, target: Path, overwrite: bool) -> None:
    try:
        if overwrite and part.is_dir() and target.is_dir():
            _exchanged(part, target)
        elif overwrite:
            os.replace(part, target)
        elif part.is_dir():
            # It replaces nothing but an empty folder.
            os.rename(part, target)
        else:
            # Unlike a rename it fails if the name is taken. The other name goes in the end.
            os.link(part, target)
    except OSError as error:
        if not overwrite and os.path.lexists(target):
            raise _in_the_way(target) from error
        raise


def _exchanged(part: Path, target: Path) -> None:
    """A folder cannot be replaced in one step: the old one steps aside, and comes back if the new one cannot take its place."""
    aside = target.with_name(f"{part.name}.old")
    try:
        os.rename(target, aside)
        os.rename(part, target)
    finally:
        # Also when Ctrl-C came between the two, or behind them.
        if os.path.lexists(target):
            shutil.rmtree(aside, ignore_errors=True)
        elif os.path.lexists(aside):
            os.rename(aside, target)
    if aside.exists():
        warnings.warn(f"{target} was replaced, and what it was cannot be removed: {aside}", stacklevel=2)


def _in_the_way(target: Path) -> FileInTheWayError:
    return FileInTheWayError(17, f"{target}: there is a file of that name; choose another, or overwrite=True")


def _sync(part: Path) -> None:
    if not part.is_dir():
        # Systems differ in whether what was opened to be read can be synced.
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        return
    for folder, _, names in os.walk(part):
        for name in names:
            _sync(Path(folder, name))
        _sync_folder(Path(folder))


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
