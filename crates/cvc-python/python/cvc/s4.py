"""Bodies and sidecars of S4, as its gateway keeps them in object storage.

>>> from cvc import s4
>>> packed = s4.pack(bytes(10_000), frame_len=4096)
>>> body = s4.open(packed.body)
>>> len(body.frames), body.decoded_len, body.read_range(5000, 5004)
(3, 10000, b'\\x00\\x00\\x00\\x00')
>>> sidecar = packed.sidecar.bind(len(packed.body), etag="0123").to_bytes()
>>> s4.open(packed.body, index=sidecar, etag="0123").read_range(9_999)
b'\\x00'

A body or sidecar that is not one, is cut, or does not belong to the other is a `FormatError`; a frame whose payload is
damaged a `PayloadError`; what this version cannot decode an `UnsupportedError`; and what the caller can change (a missing
dictionary, a range that is not there, a sidecar that is not bound) an `ArgumentError`.
"""

from ._cvc import Body, Index
from ._cvc import open_s4 as open
from ._cvc import pack_s4 as pack
from ._s4 import Entry, Frame, Packed, Totals

__all__ = ["Body", "Entry", "Frame", "Index", "Packed", "Totals", "open", "pack"]
