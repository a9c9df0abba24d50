"""Functions inside of `decompressed` that its tests call: a file of one chunk is put around the bytes."""

import json
import zlib

import cvc
import numpy as np


def decompress_lossless_cpu(data, rows, dim):
    header = {
        "chunks": [{"compression": "lossless", "rows": rows}],
        "compression": "lossless",
        "dimension": dim,
        "num_vectors": rows,
    }
    text = json.dumps(header).encode()
    head = b"CVCF\1\0\0\0" + len(text).to_bytes(4, "little") + text
    frame = len(data).to_bytes(4, "little") + zlib.crc32(data).to_bytes(4, "little") + data
    with cvc.open(head + frame) as file:
        return file.vectors[:]


def _byte_unshuffle(data, count):
    # Nothing of cvc, as `_byte_shuffle`.
    return np.frombuffer(data, "u1").reshape(4, count).T.tobytes()
