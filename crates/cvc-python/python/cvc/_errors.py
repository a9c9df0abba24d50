"""What can go wrong: one class for each culprit."""

from __future__ import annotations

import errno
import os


class CvcError(Exception):
    """The base of all errors of this package that have to do with files, rows or devices."""


class SystemFailure(CvcError, OSError):
    """The operating system refused: no space, no permission, a broken disk."""


class MissingFileError(SystemFailure, FileNotFoundError):
    """There is no such file or folder."""


class ForbiddenError(SystemFailure, PermissionError):
    """The file may not be read or written."""


class FileInTheWayError(SystemFailure, FileExistsError):
    """There is a file of that name, and it was not to be replaced."""


class NotAFileError(SystemFailure, IsADirectoryError):
    """The path is that of a folder."""


class NotAFolderError(SystemFailure, NotADirectoryError):
    """A part of the path is not a folder."""


class SourceError(SystemFailure):
    """Bytes could not be had from the object that was opened; its own exception is in the message."""


class FormatError(CvcError, ValueError):
    """The file is not what its layout demands: not a `.cvc` file, cut, or damaged outside its chunks."""


class CorruptedChunkError(FormatError):
    """Bytes of a chunk are not those that were written. The message says which rows and bytes."""


class PayloadError(FormatError):
    """A compressed payload of S4 is not what was written: cut, damaged, of another codec, or followed by something."""


class MismatchError(PayloadError):
    """A payload of S4 decodes to other bytes than its size and crc32c promise: one of the three is damaged or another's."""


class UnsupportedError(CvcError, NotImplementedError):
    """A newer version of cvc made this file in a way that this one does not know."""


class ArgumentError(CvcError, ValueError):
    """The call makes no sense, or another one is needed; the message says which."""


class EncodeError(ArgumentError):
    """Values that the codec cannot represent; the message says which row and column, and what to do."""


class LimitError(ArgumentError, MemoryError):
    """More memory would be needed than `max_bytes` allows."""


class NoSuchArrayError(ArgumentError, KeyError):
    """There is no array of that name; the message lists those there are."""

    __str__ = Exception.__str__  # That of KeyError shows the message in quotes.


class RowError(ArgumentError, IndexError):
    """Rows that do not exist."""


class LockedError(SystemFailure, BlockingIOError):
    """Another process has the store open for writing; the message has its number."""


class ConflictError(CvcError, RuntimeError):
    """Somebody else made a commit between the beginning of a batch and its end: begin it again."""


class ChangedError(CvcError, RuntimeError):
    """A file is not the one that a partition or a manifest was made of: plan again."""


class DeviceError(CvcError, RuntimeError):
    """The device cannot be had, cannot run what the file needs, or failed."""


class InternalError(CvcError, RuntimeError):
    """A bug of cvc. Nothing was written under the final name."""


# What the system said, in the words of Rust: the number that Python goes by, and the class.
_OF_SYSTEM: dict[str, tuple[int, type[SystemFailure]]] = {
    "NotFound": (errno.ENOENT, MissingFileError),
    "PermissionDenied": (errno.EACCES, ForbiddenError),
    "AlreadyExists": (errno.EEXIST, FileInTheWayError),
    "IsADirectory": (errno.EISDIR, NotAFileError),
    "NotADirectory": (errno.ENOTDIR, NotAFolderError),
    "StorageFull": (errno.ENOSPC, SystemFailure),
    "InvalidInput": (errno.EINVAL, SystemFailure),
}


def of_system(kind: str, number: int | None, message: str, path: str | None) -> SystemFailure:
    """The exception for what the system said."""
    if kind == "InvalidInput" and path is not None and os.path.isdir(path):
        kind = "IsADirectory"
    usual, ours = _OF_SYSTEM.get(kind, (errno.EIO, SystemFailure))
    error = ours(usual if number is None else number, message)
    if path is not None:
        error.filename = path
    return error
