"""The codecs of S4 on single payloads: the calls of its package `s4_codec`, on any buffer.

>>> from cvc.codecs import Zstd
>>> payload, size, crc = Zstd(level=9).compress(b"some bytes " * 100)
>>> Zstd().decompress(payload, size, crc) == b"some bytes " * 100
True

What can go wrong, and what S4 raises for it. All are `cvc.CvcError`s.

===========================================  ===================  ==========================================
`decompress` is given                        raises               S4 raises
===========================================  ===================  ==========================================
a payload that is cut, damaged, empty, of    `PayloadError`       `S4IoError` (an `OSError`), or
another codec, or followed by something      (a `ValueError`)     `S4CrcMismatchError`, or nothing
a size or crc32c that is not the payload's   `MismatchError`      `S4SizeMismatchError`, `S4IoError`,
                                             (a `PayloadError`)   `S4CrcMismatchError`
a number that no payload can have: negative, `ArgumentError`      `OverflowError`,
beyond 5 GiB, beyond 32 bits; a level that   (a `ValueError`)     `S4ManifestSizeExceedsLimitError`; levels
does not exist; the wrong dictionary                              are silently changed
===========================================  ===================  ==========================================

A flipped bit of a zstd payload may decode, to other bytes: `MismatchError` then, too, as a wrong crc32c cannot be told from
a right one of wrong bytes. To fetch again what was damaged under way, catch `PayloadError`.
"""

from ._cvc import Gzip, Zstd, ZstdDict, crc32c
from ._errors import ArgumentError, MismatchError, PayloadError

__all__ = ["ArgumentError", "Gzip", "MismatchError", "PayloadError", "Zstd", "ZstdDict", "crc32c"]
