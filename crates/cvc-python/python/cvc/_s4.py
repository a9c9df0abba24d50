"""Small types of `cvc.s4`."""

from __future__ import annotations

from typing import NamedTuple

from ._cvc import Index


class Frame(NamedTuple):
    """One frame of a body."""

    stored: range
    """Its bytes in the body, the header included."""
    decoded: range
    """Its bytes among all that the body decodes to."""
    codec: str | None
    crc32c: int | None
    """Of its decoded bytes."""


class Entry(NamedTuple):
    """One frame of a sidecar."""

    stored: range
    decoded: range


class Totals(NamedTuple):
    """The figures of a whole object, as its metadata has them."""

    decoded_len: int
    """`s4-original-size`"""
    stored_len: int
    """`s4-compressed-size`"""
    crc32c: int
    """`s4-crc32c`"""


class Packed(NamedTuple):
    """A body, and what belongs to it."""

    body: bytes
    totals: Totals
    sidecar: Index
    """Not yet bound to an object."""
    metadata: dict[str, str]
