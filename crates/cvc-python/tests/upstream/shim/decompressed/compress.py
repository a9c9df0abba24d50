"""Functions inside of `decompressed` that its tests call: the bytes of one chunk, taken out of a file of one chunk."""

import json

import cvc
import numpy as np


def _chunk(vectors, compression):
    file = cvc.pack(vectors, codec=compression, layout="v1", chunk_rows=len(vectors))
    header_len = int.from_bytes(file[8:12], "little")
    (chunk,) = json.loads(file[12 : 12 + header_len])["chunks"]
    return file[12 + header_len + 8 :], chunk


def compress_fp16(vectors):
    return _chunk(vectors, "fp16")[0]


def compress_int8(vectors):
    payload, chunk = _chunk(vectors, "int8")
    return payload, chunk["min"], chunk["scale"]


def compress_lossless(vectors):
    return _chunk(vectors, "lossless")[0]


def _byte_shuffle(vectors):
    # Nothing of cvc: its codec has no such step that could be called.
    return np.asarray(vectors, "<f4").reshape(-1, 1).view("u1").T.tobytes()
