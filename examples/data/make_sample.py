"""Cuts the sample in this folder from the set of 12,000 MiniLM vectors it is part of.

    python make_sample.py FOLDER_OF_THE_LARGER_SET

Writes beside itself. Needs NumPy. The same input gives the same bytes: nothing is drawn at random.
See README.md for what the files are.
"""

import json
import sys
from pathlib import Path

import numpy as np

ROWS = 2000
QUERIES = 50
NEIGHBOURS = 10


def shares(counts, total):
    """How many rows each section keeps: in proportion to its size, at least one, `total` in all.

    Whole numbers only (largest remainder), so that no rounding mode has a say.
    """
    whole = sum(counts)
    kept = [max(1, total * count // whole) for count in counts]
    left = total - sum(kept)
    # A section that was lifted to one row has had its share already.
    owed = [i for i, count in enumerate(counts) if total * count // whole >= 1]
    owed.sort(key=lambda i: (-(total * counts[i] % whole), i))
    if not 0 <= left <= len(owed):
        raise ValueError(f"cannot share {total} rows among {len(counts)} sections")
    for i in owed[:left]:
        kept[i] += 1
    return kept


def write_list(path, items):
    """A JSON list with one item a line, so that a difference can be read."""
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    path.write_bytes(f"[\n{lines}\n]\n".encode())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    source = Path(sys.argv[1])
    here = Path(__file__).resolve().parent

    vectors = np.load(source / "minilm12k.f32.npy")
    sections = json.loads((source / "minilm12k.sections.json").read_text(encoding="utf-8"))
    labels = json.loads((source / "minilm12k.labels.json").read_text(encoding="utf-8"))
    names = (source / "minilm12k.names.txt").read_text(encoding="utf-8").splitlines()
    queries = np.load(source / "minilm12k.queries.npy")[:QUERIES]

    # Rows are spread evenly over their section and keep their order, so a section stays one run.
    rows, runs = [], []
    for section, kept in zip(sections, shares([s["count"] for s in sections], ROWS)):
        runs.append({"start": len(rows), "count": kept, "metadata": {"section": section["section"]}})
        rows.extend(section["start"] + i * section["count"] // kept for i in range(kept))
    assert len(rows) == len(set(rows)) == ROWS

    sample = np.ascontiguousarray(vectors[rows])
    np.save(here / "minilm2k.f32.npy", sample)
    np.save(here / "minilm2k.queries.npy", queries)
    write_list(here / "minilm2k.sections.json", runs)
    write_list(here / "minilm2k.labels.json", [labels[row] for row in rows])
    (here / "minilm2k.names.txt").write_bytes("".join(names[row] + "\n" for row in rows).encode())

    # Exact neighbours: cosine in float64; a stable sort of the negated values gives ties to the lower row.
    base, asked = sample.astype(np.float64), queries.astype(np.float64)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    nearest = np.argsort(-(asked @ base.T), axis=1, kind="stable")[:, :NEIGHBOURS]
    np.save(here / "minilm2k.gt.cosine.npy", nearest.astype(np.int32))


if __name__ == "__main__":
    main()
