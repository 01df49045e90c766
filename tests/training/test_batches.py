"""Batches gathered on a device equal those gathered in the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from georecon.data.store import Store
from georecon.training.batches import Batch, Resident, ShuffledBatches, fits, load_batch
from georecon.training.world import World

ROWS = (np.array([0, 5, 3]), np.array([7]), np.array([23, 22, 0, 1, 2, 9, 9]))


def fields(batch: Batch) -> list[torch.Tensor]:
    return [*batch.graph.tensors, batch.label, batch.forces]


@pytest.mark.parametrize("rows", ROWS, ids=len)
@pytest.mark.parametrize("label", ["energy", None])
def test_gathered_on_the_device_or_in_the_files(
    label: str | None, rows: np.ndarray, toy_store: Path
) -> None:
    store = Store.open(toy_store)
    found = Resident(store, label, "cpu").gather(rows, int(store.n_atoms(rows).sum()))
    for mine, expected in zip(fields(found), fields(load_batch(store, rows, label)), strict=True):
        assert mine.dtype == expected.dtype
        assert torch.equal(mine, expected)


def test_the_gather_never_waits_for_the_device(toy_store: Path) -> None:
    """On the meta device there are no values, so anything that reads one fails."""
    store = Store.open(toy_store)
    resident = Resident(store, "energy", "meta")
    rows = ROWS[2]
    atoms = int(store.n_atoms(rows).sum())
    found = resident.gather(rows, atoms)
    for mine, expected in zip(
        fields(found), fields(load_batch(store, rows, "energy")), strict=True
    ):
        assert (mine.shape, mine.dtype, mine.device.type) == (
            expected.shape,
            expected.dtype,
            "meta",
        )


def test_fits_counts_what_is_kept(toy_store: Path) -> None:
    store = Store.open(toy_store)
    atoms, molecules = len(store.z), len(store)
    bare = atoms * (1 + 12) + molecules * 8 + (molecules + 1) * 8
    assert fits(store, None, int(bare / 0.4) + 1)
    assert not fits(store, None, int(bare / 0.4) - 3)
    assert not fits(store, "energy", int(bare / 0.4) + 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("keep", [True, False])
def test_batches_on_a_gpu(keep: bool, toy_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("georecon.training.batches.fits", lambda *_: keep)
    store = Store.open(toy_store)
    ids = np.asarray(store.ids)
    options = {"batch_size": 7, "seed": 3, "label": "energy"}
    host = ShuffledBatches(store, ids, **options)
    device = ShuffledBatches(store, ids, **options, world=World("cuda"))
    for step in range(5):
        for mine, expected in zip(fields(device.at(step)), fields(host.at(step)), strict=True):
            assert mine.device.type == "cuda"
            assert torch.equal(mine.cpu(), expected)
