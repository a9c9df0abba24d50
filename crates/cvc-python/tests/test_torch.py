"""Data sets for torch, and its tensors. Run where torch is installed."""

import pickle

import numpy as np
import pytest

import cvc

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.utils.data import DataLoader  # noqa: E402

from cvc.torch import Batch, ChunkDataset, RowDataset, collate, read  # noqa: E402

ROWS = 400
VECTORS = np.random.default_rng(0).normal(size=(ROWS, 6)).astype("f4")
TITLES = [f"title {row}" for row in range(ROWS)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "rows.cvc"
    arrays = {"vectors": VECTORS, "id": np.arange(ROWS), "title": TITLES}
    cvc.pack(arrays, path, codec={name: "raw" for name in arrays}, chunk_rows=70)
    return path


def test_rows_come_in_any_order_with_one_read(path):
    rows = RowDataset(path)
    assert len(rows) == ROWS
    assert torch.equal(rows[7], torch.from_numpy(VECTORS[7]))
    assert torch.equal(rows[-1], torch.from_numpy(VECTORS[-1]))
    wanted = [399, 3, 3, 70, 69]
    batch = rows.__getitems__(wanted)
    assert isinstance(batch, Batch) and len(batch) == 5
    assert torch.equal(collate(batch), torch.from_numpy(VECTORS[wanted]))
    assert torch.equal(torch.utils.data.default_collate(batch), collate(batch))
    # The memory is that of the batch.
    assert batch[0].untyped_storage().data_ptr() == batch[1].untyped_storage().data_ptr()
    with pytest.raises(IndexError):
        rows[ROWS]


def test_several_arrays_come_as_dicts(path):
    rows = RowDataset(path, ["id", "vectors", "title"], dtype="float16")
    item = rows[5]
    assert item["id"] == 5 and item["title"] == "title 5" and item["vectors"].dtype == torch.float16
    loaded = next(iter(DataLoader(rows, batch_size=4)))
    assert loaded["title"] == TITLES[:4] and torch.equal(loaded["id"], torch.arange(4))
    with pytest.raises(KeyError):
        RowDataset(path, "nothing")


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_read_every_row(path, workers):
    rows = RowDataset(path, ["id", "vectors"])
    loader = DataLoader(rows, batch_size=32, shuffle=True, num_workers=workers, collate_fn=collate)
    ids, vectors = [], []
    for batch in loader:
        ids.append(batch["id"])
        vectors.append(batch["vectors"])
    ids = torch.cat(ids)
    assert sorted(ids.tolist()) == list(range(ROWS))
    assert torch.equal(torch.cat(vectors), torch.from_numpy(VECTORS)[ids])


def test_data_sets_are_pickled(path):
    rows = pickle.loads(pickle.dumps(RowDataset(str(path), "id")))
    assert rows[9] == 9
    chunks = pickle.loads(pickle.dumps(ChunkDataset(path, "id", batch_rows=50)))
    assert torch.equal(torch.cat(list(chunks)), torch.arange(ROWS))
    whole = RowDataset(path.read_bytes(), "id")
    assert pickle.loads(pickle.dumps(whole))[3] == 3
    with pytest.raises(TypeError, match="path"):
        RowDataset(cvc.open(path))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("workers", "world"), [(0, 1), (2, 1), (0, 3), (2, 2), (0, 20)])
def test_chunks_are_shared_out(path, shuffle, workers, world):
    ids = []
    for rank in range(world):
        chunks = ChunkDataset(path, "id", batch_rows=16, shuffle=shuffle, rank=rank, world_size=world)
        share = [row for batch in DataLoader(chunks, batch_size=None, num_workers=workers) for row in batch.tolist()]
        assert len(share) > 0
        ids.extend(share)
    assert sorted(ids) == list(range(ROWS))
    if not shuffle and workers == 0 and world == 1:
        assert ids == list(range(ROWS))
    if shuffle:
        assert ids != list(range(ROWS))


def test_seeds_and_epochs_decide_the_order(path):
    def order(seed, epoch):
        chunks = ChunkDataset(path, "id", shuffle=True, seed=seed)
        chunks.set_epoch(epoch)
        return [int(row) for row in chunks]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0) != order(1, 1) != order(1, 0)
    assert sorted(order(3, 5)) == list(range(ROWS))


def test_arrays_stay_together_when_shuffled(path):
    for item in ChunkDataset(path, ["vectors", "id", "title"], shuffle=True):
        row = int(item["id"])
        assert item["title"] == TITLES[row] and torch.equal(item["vectors"], torch.from_numpy(VECTORS[row]))


def test_wrong_shares_are_refused(path):
    for wrong in ({"rank": 1}, {"rank": 3, "world_size": 3}, {"batch_rows": 0}):
        with pytest.raises(ValueError):
            ChunkDataset(path, **wrong)
    with cvc.Writer(codec="raw") as writer:
        writer.write(VECTORS)
        writer.attach("few", VECTORS[:3])
        packed = writer.finish()
    with pytest.raises(ValueError, match="few"):
        RowDataset(packed, ["vectors", "few"])


def test_tensors_are_read_and_packed(path):
    with cvc.open(path) as f:
        assert torch.equal(read(f.vectors, [5, 2]), torch.from_numpy(VECTORS[[5, 2]]))
        assert read(f["title"], slice(2)) == TITLES[:2]
        assert torch.equal(torch.from_dlpack(f.vectors), torch.from_numpy(VECTORS))
    tensor = torch.from_numpy(VECTORS)
    for given in (tensor, tensor.T.contiguous().T, tensor[::2, 1:], tensor.to(torch.float16), tensor.to(torch.int8)):
        back = cvc.open(cvc.pack(given, codec="raw")).vectors
        assert torch.equal(read(back), given)
    with pytest.raises(BufferError, match="grad"):
        cvc.pack(tensor.clone().requires_grad_())
    with pytest.raises((ValueError, BufferError, RuntimeError)):
        cvc.pack(torch.empty((2, 2), device="meta"))


def test_bfloat16_of_torch(path):
    tensor = torch.from_numpy(VECTORS).to(torch.bfloat16)
    array = cvc.open(cvc.pack(tensor, codec="raw")).vectors
    assert array.stored_dtype == "bfloat16"
    assert torch.equal(torch.from_dlpack(array), tensor)
    assert torch.equal(read(array, slice(3, 9)), tensor[3:9])
    with cvc.open(path) as f:
        assert read(f.vectors, dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no CUDA device here")
def test_rows_on_a_card(path):
    with cvc.open(path) as f:
        on_card = read(f.vectors, [7, 1], device="cuda")
        assert on_card.is_cuda and torch.equal(on_card.cpu(), torch.from_numpy(VECTORS[[7, 1]]))
        pinned = read(f.vectors, pin_memory=True)
        assert pinned.is_pinned() and torch.equal(pinned, torch.from_numpy(VECTORS))
        with pytest.raises(cvc.ArgumentError, match="cpu()"):
            cvc.pack(on_card)
